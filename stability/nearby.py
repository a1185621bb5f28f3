r"""The stationary point next to the one given: how far it is, and what moves on the way there.

step        D = −H⁺g, one Newton step; directions whose curvature is within its error are left out of H⁺
roundings   n = ∇R(x + δ) − ∇R(x − δ) − 2Hδ, δ from a few ulps upwards: odd in δ, so that no third derivative enters
distance    ‖2D‖, the steps still to come included, plus ‖10 H⁺n‖ for the largest n
support     one step removes the gradient, what is left along flat directions is rounding, and H⁺∇R is nearly the
            identity as far out as the point can be: the theorem of Newton and Kantorovich with numbers for bounds
shift       ‖∇²R(x + w) − ∇²R(x)‖ at w = 2D and 10 H⁺n and at twice that, where a change that is not linear shows
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, minres
from torch import Tensor

from stability.certificates import RUNG, RUNGS, Stationarity, flipped, gradient_of, norm_bound
from stability.curvature import Operator, assemble, nominal_hessian
from stability.eigen import rounding
from stability.pooled import hessian_on_e
from stability.problem import Problem

# A Newton step towards a stationary point leaves far less of the gradient; where there is none, on a slope that
# flattens out like 1/x or exp(−x), it leaves 0.3 and more, and above the minimum of x² + c at least a quarter.
CONTRACTION = 0.2
# Where E is too large for a dense inverse, MINRES leaves out flat directions without a word: less may remain.
CONTRACTION_KRYLOV = 0.01
DENSE = 2500
PRODUCTS = 300
# Rounding is seen a few times at random: ten times the largest.
SAFETY = 10.0
# Ulps of a point that a change of the Hessian is measured across at least.
ACROSS = 1e4


@dataclass(frozen=True)
class Landscape:
    """A risk in the coordinates of a space.

    Attributes:
        what: its gradient's name in messages.
        gradient: x ↦ ∇R.
        backwards: the same with the samples summed in the opposite order.
        hessian: x ↦ ∇²R.
    """

    what: str
    gradient: Callable[[Tensor], Tensor]
    backwards: Callable[[Tensor], Tensor]
    hessian: Callable[[Tensor], Operator]


@dataclass(frozen=True)
class Probe:
    """A point that stands for one that is too near to be told from x: what changes there counts by its ``share``."""

    point: Tensor
    share: float


@dataclass(frozen=True)
class Nearby:
    """What is known of a stationary point, and where to look for what moves.

    Attributes:
        found: the numbers.
        doubt: why none is believed to be near; empty where one is.
        ways: for every direction the point may lie in, probes along it.
    """

    found: Stationarity
    doubt: str
    ways: tuple[tuple[Probe, ...], ...] = ()


def on_e(problem: Problem) -> Landscape:
    """R^eqv in coordinates of E."""
    return _landscape(problem, "∇R^eqv", problem.equivariant_loss, hessian_on_e)


def on_l(problem: Problem) -> Landscape:
    """R on L."""
    return _landscape(problem, "∇R", problem.loss, nominal_hessian)


def _landscape(problem: Problem, what: str, loss: Callable, hessian: Callable) -> Landscape:
    samples, decay = problem.samples, problem.weight_decay
    back = flipped(samples)
    return Landscape(
        what,
        lambda x: gradient_of(loss, x, samples, decay),
        lambda x: gradient_of(loss, x, back, decay),
        lambda x: hessian(problem, x),
    )


@dataclass(frozen=True)
class Inverse:
    """H⁺ on the directions whose curvature is known to differ from zero.

    Attributes:
        apply: b ↦ H⁺b.
        flat: orthonormal rows, the other directions; None where they are not known.
    """

    apply: Callable[[Tensor], Tensor]
    flat: Tensor | None


def inverse(operator: Operator, like: Tensor, error: float) -> Inverse:
    """H⁺: dense up to 2,500 dimensions, by MINRES beyond.

    Args:
        operator: H.
        like: dtype and device.
        error: what an eigenvalue of H may be off by.
    """
    if operator.dim > DENSE:
        return Inverse(lambda b: _minres(operator, b), None)
    values, vectors = torch.linalg.eigh(assemble(operator, like).double())
    top = float(values.abs().max()) if len(values) else 0.0
    sure = values.abs() > max(error, rounding(top, len(values), like.dtype))
    kept, inverted = vectors[:, sure], 1 / values[sure]
    return Inverse(lambda b: (kept @ (inverted * (kept.mT @ b.double()))).to(like), vectors[:, ~sure].mT)


def _minres(operator: Operator, right: Tensor) -> Tensor:
    """H⁻¹b in double precision around the products whatever theirs is."""
    product = LinearOperator(
        (operator.dim, operator.dim),
        matvec=lambda v: operator(torch.as_tensor(v).to(right)).cpu().double().numpy(),
        dtype=float,
    )
    found = minres(product, right.cpu().double().numpy(), rtol=1e-8, maxiter=PRODUCTS)[0]
    return torch.as_tensor(np.asarray(found)).to(right)


def roundings(landscape: Landscape, at: Tensor, operator: Operator, size: float, seed: int) -> Tensor:
    """Rows (k, dim), errors of ∇R near x that come of rounding, those inside a sample included.

    Args:
        landscape: the risk.
        at: x.
        operator: ∇²R(x).
        size: of a coordinate, where x itself may vanish.
        seed: of δ.
    """
    eps, generator = torch.finfo(at.dtype).eps, torch.Generator().manual_seed(seed)
    rows, before = [torch.zeros_like(at)], 0.0
    for rung in range(RUNGS):
        draw = torch.randn(len(at), generator=generator, dtype=torch.float64).to(at)
        delta = 4 * eps * RUNG**rung * (at.abs() + size) * draw
        up, down = at + delta, at - delta
        # What was moved, as the point was rounded.
        miss = landscape.gradient(up) - landscape.gradient(down) - operator((up - at) + (at - down))
        found = float(miss.norm())
        if not np.isfinite(found) or 0 < 8 * RUNG * before < found:
            break
        before = found
        rows.append(miss / 2**0.5)
    return torch.stack(rows)


def approach(
    landscape: Landscape,
    at: Tensor,
    error: float,
    top: float,
    size: float = 0.0,
    seed: int = 0,
    converged: bool = True,
) -> Nearby:
    """Whether a stationary point is near x, how far, and where it can be.

    Args:
        landscape: the risk.
        at: x.
        error: what an eigenvalue of ∇²R(x) may be off by.
        top: ‖∇²R(x)‖, for the gradient that the rounding of x itself makes.
        size: of a coordinate.
        seed: of random directions.
        converged: False takes the step and asks no more.
    """
    eps = torch.finfo(at.dtype).eps
    operator = landscape.hessian(at)
    gradient, turn = landscape.gradient(at), inverse(operator, at, error)
    step, before = -turn.apply(gradient), float(gradient.norm())
    behind = landscape.gradient(at + step)
    after = float(behind.norm())
    back = (gradient - landscape.backwards(at))[None]
    rows = torch.cat([back, roundings(landscape, at, operator, size, seed)]) if converged else back
    noise = SAFETY * float(rows.norm(dim=1).max()) + 4 * eps * top * float(at.norm())
    left = CONTRACTION if turn.flat is not None else CONTRACTION_KRYLOV
    found = Stationarity(before, noise, float(step.norm()), after, after <= max(left * before, noise))
    if not converged:
        return Nearby(found, _unsupported(found, landscape.what))
    if turn.flat is None:  # a solution costs hundreds of products: that for the largest row only
        rows = rows[[int(rows.norm(dim=1).argmax())]]
    lost = torch.stack([turn.apply(row) for row in rows])
    away = SAFETY * lost[int(lost.norm(dim=1).argmax())]
    reach = ACROSS * eps * max(float(at.norm()), size * len(at) ** 0.5)
    ways = tuple(_probes(at, w, reach) for w in (2 * step, away) if float(w.norm()) > 0)
    distance = float(2 * step.norm() + away.norm())
    flat = 0 if turn.flat is None else len(turn.flat)
    found = Stationarity(**{**vars(found), "distance": distance, "unresolved": flat})
    doubt = _unsupported(found, landscape.what)
    if not doubt and flat:
        doubt = _along_flat(landscape.what, turn.flat, gradient, behind, rows, error)
    if not doubt and turn.flat is not None:
        doubt = _bent(landscape, at, gradient, turn, ways)
    return Nearby(Stationarity(**{**vars(found), "supported": not doubt}), doubt, ways)


def _probes(at: Tensor, way: Tensor, reach: float) -> tuple[Probe, ...]:
    """At w and at 2w, or as far as ``reach``, where x + w is rounded to x."""
    length = float(way.norm())
    far = max(length, reach)
    return tuple(Probe(at + k * far / length * way, length / (k * far)) for k in (1, 2))


def _unsupported(found: Stationarity, what: str) -> str:
    """Why a step that leaves too much of the gradient leads to no stationary point."""
    if found.supported:
        return ""
    return (
        f"‖{what}‖ is small, {found.gradient:.1e}, but one more Newton step leaves {found.after:.1e} of it (noise "
        f"{found.noise:.1e}): a gradient that is flat, not one that vanishes; a search from another start or a larger "
        "--weight-decay may give a stationary point"
    )


def _along_flat(what: str, flat: Tensor, here: Tensor, behind: Tensor, rows: Tensor, error: float) -> str:
    """Why a gradient along directions of no certain curvature may lead far away: it is more than rounding."""
    eps = torch.finfo(here.dtype).eps
    left = min(float((flat @ g.double()).norm()) for g in (here, behind))
    noise = SAFETY * float((rows.double() @ flat.mT).norm(dim=1).max()) + 8 * eps * float(here.norm())
    if left <= noise:
        return ""
    return (
        f"{what} has a component of {left:.1e} (noise {noise:.1e}) along {len(flat)} directions whose curvature is "
        f"within its error, {error:.1e}: the stationary point may be {left / max(error, 1e-300):.1e} and farther away; "
        "a larger --weight-decay or a search that goes on would give one"
    )


def _bent(
    landscape: Landscape, at: Tensor, gradient: Tensor, turn: Inverse, ways: tuple[tuple[Probe, ...], ...]
) -> str:
    """Why the curvature at x does not lead to a stationary point: it is another where that point can be."""
    for probe, *_ in ways:
        moved = probe.point - at
        if turn.flat is not None and len(turn.flat):
            moved = moved - (moved.double() @ turn.flat.mT @ turn.flat).to(moved)
        miss = float((turn.apply(landscape.gradient(probe.point) - gradient) - moved).norm() / moved.norm())
        if not miss <= 0.5:
            return (
                f"‖{landscape.what}‖ is small, {float(gradient.norm()):.1e}, but within a Newton step, or within what "
                f"rounding makes of one, curvature changes by {miss:.1g} of itself: whether a stationary point is near "
                "is not known; a larger --weight-decay or a smaller gradient would tell"
            )
    return ""


def farthest(ways: tuple[tuple[Probe, ...], ...], change: Callable[[Tensor], float]) -> float:
    """How far something moves: its change along every way, the larger of its probes, added up."""
    return sum(max(probe.share * abs(change(probe.point)) for probe in probes) for probes in ways)


def change_of(there: Operator, here: Operator, like: Tensor, seed: int) -> float:
    """‖H' − H‖: what no eigenvalue of a block moves beyond (Weyl)."""
    change = Operator(here.dim, lambda v: there(v) - here(v), f"the change of {here.name}", batch=here.batch)
    return norm_bound(change, like, seed)
