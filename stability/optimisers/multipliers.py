r"""The multipliers of the linearised update on E⊥, in closed form from the eigenvalues of ∇²R^aug.

Near a point of E a step acts on the deviation y ∈ E⊥ and the momentum b sector by sector, eigenvalue by eigenvalue:

    descent                 z = 1 − τμ − τh
    momentum, dampening d   z² − (c + β − τ(1 − d)h)z + cβ = 0,   c = 1 − τμ
    Nesterov                z² − (c + β − τ(1 + β)h)z + β(c − τh) = 0

with h an eigenvalue λ of ∇²R^aug plus the decay coupled to the gradient, μ the decoupled one. Adam with its second
moment held is momentum with d = β₁ = β on P^{1/2}(∇²R^aug + μ)P^{1/2}, P = diag 1/(√v̂ + ε); RMSprop the same with
d = 0. The growth a step is the largest |z|. It stays below one exactly for

    −μ(1 − β)/(1 − d) < h < (1 + c)(1 + β)/((1 − d)τ)          Nesterov: (1 + c)(1 + β)/((1 + 2β)τ)

so below the lower end no step is short enough; without decay the upper one is 2(1 + β)/((1 − d)τ), which for Adam is
2(1 + β₁)/((1 − β₁)τ).

Source: Polyak, Some methods of speeding up the convergence of iteration methods (1964); for Adam, Cohen et al.,
Adaptive gradient methods at the edge of stability (arXiv 2207.14484), whose threshold is 38/τ at β₁ = 0.9.

>>> from stability.optimisers.updates import adam, sgd
>>> round(stable_range(sgd(0.1, 0.9))[1], 9), round(stable_range(adam(1e-3))[1])
(38.0, 38000)
>>> import torch
>>> h = torch.tensor([-1.0, 1.0], dtype=torch.float64)
>>> [round(float(g), 6) for g in growth(sgd(0.1), h)]
[1.1, 0.9]
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.base.errors import BadInput
from stability.base.record import Record
from stability.optimisers.blocks import Block
from stability.optimisers.updates import Update
from stability.spectra.sectors import Sector

# Points of an interval of eigenvalues at which the growth is looked at.
GRID = 65


@dataclass(frozen=True)
class Multiplier(Record):
    """What a step does to the deviation in one sector.

    Attributes:
        irrep: the sector.
        value: the eigenvalue h that decides, the optimiser's coupled decay and preconditioner included.
        error: of that eigenvalue.
        growth: |z| a step.
        least, most: of |z|, by the error of the eigenvalue.
        state: "grows", "shrinks", or "undecided" where |z| = 1 is within the error, or not every eigenvalue is known.
        turns: the step size at which |z| passes one through the largest eigenvalue; None where no step is too long,
            or none short enough.
        doubling: steps in which the deviation doubles; None where it does not grow.
    """

    irrep: str
    value: float
    error: float
    growth: float
    least: float
    most: float
    state: str
    turns: float | None
    doubling: float | None

    def __str__(self) -> str:
        words = f"{self.irrep}: {self.state}, × {self.growth:.6g} a step"
        if self.doubling is not None:
            words += f", doubles in {self.doubling:.3g} steps"
        return words + ("" if self.turns is None else f"; grows above a step of {self.turns:.4g}")


def linear(update: Update) -> Update:
    """The same rule.

    Raises:
        BadInput: one whose step is no linear map of the gradients that it has seen.
    """
    if update.rule == "muon":
        raise BadInput("Muon: its step is no linear map of the gradient, so no multiplier belongs to it; rehearse it")
    return update


def companion(update: Update, h: Tensor) -> Tensor:
    """The map (y, b) ↦ (y', b') of one eigenvalue, (…) → (…, 2, 2)."""
    c, tau, beta, taken = linear(update).shrink, update.step, update.momentum, update.taken
    # The step is τb', for Nesterov τ(hy + βb'), with b' = βb + (1 − d)hy.
    now, ahead = (1.0, beta) if update.nesterov else (0.0, 1.0)
    rows = [c - tau * (now + ahead * taken) * h, torch.full_like(h, -tau * ahead * beta)]
    rows += [taken * h, torch.full_like(h, beta)]
    return torch.stack(rows, dim=-1).unflatten(-1, (2, 2))


def kick(update: Update) -> Tensor:
    """What a unit of gradient does to (y, b), (2)."""
    h = torch.tensor([0.0, 1.0], dtype=torch.float64)
    zero, one = companion(update, h)
    return (one - zero)[:, 0]


def growth(update: Update, h: Tensor) -> Tensor:
    """The largest |z|, (…)."""
    m = companion(update, h)
    trace = m[..., 0, 0] + m[..., 1, 1]
    product = m[..., 0, 0] * m[..., 1, 1] - m[..., 0, 1] * m[..., 1, 0]
    inside = trace * trace - 4 * product
    real = (trace.abs() + inside.clamp_min(0).sqrt()) / 2
    return torch.where(inside >= 0, real, product.clamp_min(0).sqrt())


def stable_range(update: Update) -> tuple[float, float]:
    """The h between which every multiplier lies inside the unit circle."""
    c, beta, taken = linear(update).shrink, update.momentum, update.taken
    steep = 1 + 2 * beta if update.nesterov else taken
    decay = update.decay if update.decoupled else 0.0
    return -decay * (1 - beta) / taken, (1 + c) * (1 + beta) / (steep * update.step)


def turning_step(update: Update, h: float) -> float | None:
    """τ at which h reaches the upper end of the range; None where no step is too long."""
    beta = linear(update).momentum
    steep = 1 + 2 * beta if update.nesterov else update.taken
    below = steep * h + (update.decay if update.decoupled else 0.0) * (1 + beta)
    return 2 * (1 + beta) / below if below > 0 else None


def of_values(
    irrep: str, update: Update, values: Sequence[float], errors: Sequence[float], complete: bool
) -> Multiplier:
    """From the two ends of a sector's spectrum, between which the growth is never larger.

    Args:
        irrep: the sector.
        update: the rule.
        values: h at the lower and the upper end.
        errors: theirs.
        complete: whether nothing of the sector lies beyond; else it can only be said to grow.
    """
    if not update.step * update.decay * update.decoupled < 2:
        raise BadInput(f"optimiser: step × decay is {update.step * update.decay:.3g}; give less than two")
    low, high = stable_range(update)
    ends = []
    for value, error in zip(values, errors, strict=True):
        around = torch.linspace(value - error, value + error, GRID, dtype=torch.float64)
        at = growth(update, torch.tensor(value, dtype=torch.float64))
        ends.append((float(at), float(growth(update, around).min()), float(growth(update, around).max())))
    worst = max(range(len(ends)), key=lambda i: ends[i][0])
    outside = any(v + e < low or v - e > high for v, e in zip(values, errors, strict=True))
    inside = complete and all(low < v - e and v + e < high for v, e in zip(values, errors, strict=True))
    state = "grows" if outside else "shrinks" if inside else "undecided"
    hopeless = values[0] - errors[0] <= low
    return Multiplier(
        irrep=irrep,
        value=values[worst],
        error=errors[worst],
        growth=ends[worst][0],
        least=max(e[1] for e in ends),
        most=max(e[2] for e in ends),
        state=state,
        turns=None if hopeless else turning_step(update, values[-1]),
        doubling=math.log(2) / math.log(ends[worst][0]) if outside and ends[worst][0] > 1 else None,
    )


def of_block(block: Block, update: Update) -> Multiplier:
    """The multiplier of a sector whose every eigenvalue is known."""
    ends = [float(block.values[0]), float(block.values[-1])]
    return of_values(block.irrep.name, update, ends, [block.error] * 2, True)


def of_sector(sector: Sector, update: Update) -> Multiplier:
    """The multiplier of what :func:`stability.sectors` found, for a rule without preconditioner.

    A Krylov run that knows the ends only up to their residuals can say that a sector grows, never that it shrinks.

    Raises:
        BadInput: an adaptive rule, whose preconditioner the eigenvalues do not know; or a sector without eigenvalues.
    """
    if update.adaptive:
        raise BadInput(
            f"{update}: its multipliers are those of P^(1/2)(∇²R^aug)P^(1/2), not of ∇²R^aug; give the second moment "
            "to stability.optimisers.blocks.resolve"
        )
    if not sector.lowest or not sector.highest:
        raise BadInput(f"sector {sector.irrep} holds no eigenvalues; compute it")
    ends = sector.lowest[0], sector.highest[0]
    values = [e.value + update.coupled for e in ends]
    return of_values(sector.irrep, update, values, [max(e.residual, sector.error) for e in ends], sector.complete)


def strongest(multipliers: Iterable[Multiplier]) -> Multiplier | None:
    """The one that grows fastest; None where E⊥ = {0}."""
    return max(multipliers, key=lambda m: m.growth, default=None)
