r"""Rehearsal: the derivative of the whole update, optimiser state included, pushed along drawn batches and elements.

    (A, s) ↦ F_k(A, s) = advance(A, ∇R_k(A), s),      (dA, ds) ← P DF_k(A, s)(dA, ds),
    exponent = lim (1/n) log ‖(dA, ds)_n‖

with R_k the risk on what step k draws and P the projection onto E⊥, or onto one sector. It is what multipliers are the
closed form of where R_k = R^aug and the rule is linear; for Adam and RMSprop it knows that the second moment moves too,
and under noise it is the growth of a typical run, which no mean tells: at most half the logarithm of what the mean
square grows by, above or below the logarithm of the mean's own multiplier. The point stays on E: held where it is, or
led along E by the steps themselves.

Source of the method: Benettin et al., Lyapunov characteristic exponents for smooth dynamical systems (1980).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, jvp

from stability.base import doors
from stability.base.errors import BadInput
from stability.base.record import Record
from stability.groups import Irrep
from stability.optimisers.blocks import component
from stability.optimisers.draws import Draws, draw, fitting
from stability.optimisers.steps import State, advance, rest
from stability.optimisers.updates import Update
from stability.problem.problem import Problem
from stability.problem.space import Samples

# Groups of steps whose scatter gives the standard error, and the errors within which a sign is not decided.
PIECES, DECIDED = 20, 3.0
WAYS = ("jvp", "difference")
# Of a difference of two runs, relative to ‖A‖.
APART = 1e-6

Parts = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Exponent(Record):
    """How a small deviation from E grows along a rehearsed run.

    Attributes:
        irrep: the sector; "E⊥" for all of it.
        exponent: mean of log ‖·‖ gained a step.
        error: its standard error, from the scatter of groups of steps.
        growth: e^exponent, a factor a step.
        state: "grows", "shrinks", or "undecided" within three errors of zero.
        steps: rehearsed, those before the measurement left out.
    """

    irrep: str
    exponent: float
    error: float
    growth: float
    state: str
    steps: int

    def __str__(self) -> str:
        return f"{self.irrep}: {self.state}, exponent {self.exponent:.4g} ± {self.error:.1g} a step"


def rehearse(
    problem: Problem,
    theta: Tensor,
    update: Update,
    *,
    draws: Draws | None = None,
    steps: int = 400,
    settle: int = 100,
    irrep: Irrep | None = None,
    state: State | None = None,
    lead: bool = False,
    way: str = "jvp",
    seed: int = 0,
) -> Exponent:
    """The largest Lyapunov exponent on E⊥, or on one sector where the update commutes with G.

    Args:
        problem: the risk.
        theta: a point of E, in coordinates.
        update: the rule.
        draws: what a step sees; R^aug itself by default.
        steps: measured.
        settle: taken before, so that state and direction forget how they began.
        irrep: the sector; None for all of E⊥.
        state: of the optimiser at the start; fresh by default.
        lead: whether the point follows the steps along E instead of staying where it is.
        way: "jvp", or "difference" of two runs where the loss has no forward derivative.
        seed: of draws and direction.

    Raises:
        BadInput: E⊥ = {0}, or a deviation that vanishes or overflows.
    """
    steps, settle = doors.whole("rehearse: steps", steps, PIECES), doors.whole("rehearse: settle", settle, 0)
    doors.choice("rehearse: way", way, WAYS)
    draws, space, rng = fitting(problem, draws or Draws()), problem.space, np.random.default_rng(seed)
    at = space.embed(theta)
    held = state or rest(at)
    where = irrep.name if irrep else "E⊥"

    def project(v: Tensor) -> Tensor:
        return component(space, irrep, v) if irrep else space.transverse_part(v)

    generator = torch.Generator().manual_seed(seed)
    start = project(torch.randn(space.dim, generator=generator, dtype=torch.float64).to(at))
    if not float(start.norm()) > 1e-9:
        raise BadInput(f"{problem.name}: nothing of L lies in {where}; choose another sector")
    push: Parts = (start / start.norm(), *(torch.zeros_like(at) for _ in range(4)))
    exact, gained = draw(problem, draws, rng) if draws.exact else None, []
    for _ in range(settle + steps):
        whole = _whole(problem, update, exact or draw(problem, draws, rng), held.count)
        reached, pushed = pushed_along(whole, (at, *held[1:]), push, way)
        pushed = (project(pushed[0]), project(pushed[1]), *pushed[2:])
        size = math.hypot(float(pushed[0].norm()), update.step * float(pushed[1].norm()))
        if not 0 < size < math.inf:
            raise BadInput(f"{problem.name}: a deviation in {where} became {size} within a step; use a smaller step")
        gained.append(math.log(size))
        push = tuple(part / size for part in pushed)  # type: ignore[assignment]
        held = State(held.count + 1, *reached[1:])
        at = space.equivariant_part(reached[0]) if lead else at
    return exponent_of(where, np.array(gained[settle:]))


def _whole(problem: Problem, update: Update, samples: Samples, count: int) -> Callable[..., Parts]:
    """(A, state) ↦ the same after a step on these samples."""

    def whole(a: Tensor, *s: Tensor) -> Parts:
        slope = grad(problem.loss)(a, samples) + problem.weight_decay * a
        moved, after = advance(update, a, slope, State(count, *s), problem.space)
        return (moved, *after[1:])

    return whole


def pushed_along(whole: Callable[..., Parts], at: Parts, push: Parts, way: str) -> tuple[Parts, Parts]:
    """F and DF·push at a point, by forward differentiation or from two runs apart by ±1e-6 ‖A‖."""
    if way == "jvp":
        return jvp(whole, at, push)
    apart = APART * max(float(at[0].norm()), 1.0)
    ahead, behind = (whole(*(a + s * apart * p for a, p in zip(at, push, strict=True))) for s in (1, -1))
    found = tuple((a - b) / (2 * apart) for a, b in zip(ahead, behind, strict=True))
    return whole(*at), found  # type: ignore[return-value]


def exponent_of(where: str, gained: np.ndarray) -> Exponent:
    """Mean gain a step with its standard error."""
    mean = float(gained.mean())
    pieces = np.array([part.mean() for part in np.array_split(gained, PIECES)])
    error = float(pieces.std(ddof=1) / math.sqrt(PIECES))
    state = "undecided" if abs(mean) <= DECIDED * error else "grows" if mean > 0 else "shrinks"
    return Exponent(where, mean, error, math.exp(mean), state, len(gained))
