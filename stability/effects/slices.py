r"""The three risks on straight lines and planes through a point A of E, with the quadratic prediction.

along v ∈ E⊥:  R^eqv(A + tv) = R^eqv(A), since Π_E v = 0;   R^aug(A + tv) ≈ R^aug(A) + ½ t² ⟨v, ∇²R^aug v⟩;
               R(A + tv) ≈ R(A) + t ⟨∇R, v⟩ + ½ t² ⟨v, ∇²R v⟩
along u ∈ E:   all three agree
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.func import grad

from stability.curvature.products import fresh
from stability.effects.fixed import FixedRisk
from stability.problem.problem import Problem

# Where the risk has left its quadratic prediction by this part of the prediction, and how much further is shown.
LEFT, BEYOND = 0.5, 1.5
DOUBLINGS, FIRST = 24, 2e-3


@dataclass(frozen=True)
class Slice:
    """R, R^eqv, R^aug at A + tv, ‖v‖ = 1.

    Attributes:
        space: "E_perp" or "E", where v lies.
        irrep: the sector of v.
        value: ⟨v, ∇²R^aug v⟩.
        slope: ⟨∇R^aug, v⟩; zero on E⊥.
        nominal_slope, nominal_value: ⟨∇R, v⟩ and ⟨v, ∇²R v⟩.
        at: the values of t, in units of the weights.
        aug, eqv, nominal: R^aug, R^eqv (of the point projected on E) and R at those t.
    """

    space: str
    irrep: str | None
    value: float
    slope: float
    nominal_slope: float
    nominal_value: float
    at: tuple[float, ...]
    aug: tuple[float, ...]
    eqv: tuple[float, ...]
    nominal: tuple[float, ...]

    def predicted(self) -> tuple[float, ...]:
        """R^aug(A) + t·slope + ½t²·value."""
        middle = self.aug[int(np.argmin(np.abs(self.at)))]
        return tuple(middle + t * self.slope + 0.5 * t * t * self.value for t in self.at)


@dataclass(frozen=True)
class Plane:
    """R^aug at A + su + tv: ``aug[i][j]`` at t = across[i], s = along[j]; u the least stable on E, v on E⊥.

    Attributes:
        along: s, along u.
        across: t, along v.
        value_E: ⟨u, ∇²R^aug u⟩.
        value_E_perp: ⟨v, ∇²R^aug v⟩.
        aug: R^aug, one row a t.
    """

    along: tuple[float, ...]
    across: tuple[float, ...]
    value_E: float
    value_E_perp: float
    aug: tuple[tuple[float, ...], ...]


def reach(risk: FixedRisk, at: Tensor, v: Tensor, value: float, slope: float = 0.0) -> float:
    """How far along v to look: a little beyond where the quadratic prediction has failed, ‖A‖ at most."""
    start, longest = risk.value(at), max(float(at.norm()), 1.0)
    t = FIRST * longest
    for _ in range(DOUBLINGS):
        if t >= longest:
            return longest
        predicted = t * slope + 0.5 * t * t * value
        if abs(risk.value(at + t * v) - start - predicted) > LEFT * abs(predicted):
            return min(BEYOND * t, longest)
        t *= 2**0.5
    return longest


def line(
    problem: Problem, risk: FixedRisk, at: Tensor, v: Tensor, value: float, space: str, irrep: str | None, points: int
) -> Slice:
    """The slice along the unit vector v, from −reach to reach.

    Args:
        problem: the risk R.
        risk: R^aug where v's stabiliser fixes.
        at: A, in E.
        v: in E or in E⊥, norm one.
        value: ⟨v, ∇²R^aug v⟩.
        space: "E" or "E_perp".
        irrep: the sector of v.
        points: odd, so that t = 0 is among them.
    """
    gradient = grad(problem.risk)
    nominal_value = float(v @ (fresh(problem.loss, at, problem.samples, v) + problem.weight_decay * v))
    nominal_slope = float(gradient(at) @ v)
    slope = nominal_slope if space == "E" else 0.0
    far = reach(risk, at, v, value, slope)
    ts = np.linspace(-far, far, points)
    with torch.no_grad():
        nominal = tuple(float(problem.risk(at + t * v)) for t in ts)
        eqv = tuple(float(problem.risk(problem.space.equivariant_part(at + t * v))) for t in ts)
    aug = tuple(risk.value(at + t * v) for t in ts)
    return Slice(space, irrep, value, slope, nominal_slope, nominal_value, tuple(map(float, ts)), aug, eqv, nominal)


def plane(risk: FixedRisk, at: Tensor, on_e: Slice, across: Slice, u: Tensor, v: Tensor, points: int) -> Plane:
    """R^aug over the rectangle that two slices span."""
    s = np.linspace(on_e.at[0], on_e.at[-1], points)
    t = np.linspace(across.at[0], across.at[-1], points)
    rows = tuple(tuple(risk.value(at + a * u + b * v) for a in s) for b in t)
    return Plane(tuple(map(float, s)), tuple(map(float, t)), on_e.value, across.value, rows)
