"""Where the stationary point next to the point judged is, and what the way to it changes in the spectra."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, minres
from torch import Tensor
from torch.func import grad

from stability.base.progress import stage
from stability.curvature.at import At
from stability.curvature.automatic import augmented_hessian_from_group, equivariant_hessian, nominal_hessian
from stability.curvature.pooled import hessian_on_e
from stability.eigen.operator import ROUNDING, Operator, assemble
from stability.eigen.spectrum import Spectrum
from stability.points.describe import PointReport
from stability.points.stationary import StationaryPoint
from stability.problem.space import Samples
from stability.run.given import Given
from stability.run.spectra import Curved
from stability.verdicts import certificates, nearby

# Ulps of ‖∇R‖ on L that its projection onto E may be off by: seen are up to 0.3.
PROJECTED = 4
# A point ↦ the Hessian there.
Make = Callable[[Tensor], Operator]


def stationarity(
    given: Given, at: At, point: StationaryPoint, curvature: Curved, known_zeros: int, slope: float = 0.0
) -> certificates.Stationarity:
    """The stationary point of R^eqv next to θ, and bounds on what the way to it changes on E and on E⊥.

    Args:
        given: the run.
        at, point: the point judged.
        curvature: its spectra.
        known_zeros: null directions of E, which no Newton step needs to take.
        slope: ‖∇R‖ on L, whose rounding ∇R^eqv, its projection, cannot be freed from.
    """
    spectrum = curvature.spectra.eqv.spectrum
    if not point.converged and given.settings.at != "point":
        return certificates.stationarity(at.problem, at.theta, None, certificates.norm(spectrum))
    if at.problem.space.dim_equivariant > given.limits.inverse_e:
        near, end = _one_step(given, at, spectrum)
        times, rows = certificates.steps_to_come(near), None
    else:
        near, end, rows = _approached(given, at, spectrum, slope)
        times = 1.0
    if end is None or not point.converged:
        return near
    there = at.moved(end)
    shift_e, shift_perp = _quotients_moved(at, there, curvature)
    shift_all, doubt, embed = None, 0.0, at.problem.space.embed
    if at.dense is not None and there.dense is not None:
        given.ledger.hvps += there.dense.nominal.products
        with stage("what the way to the stationary point changes"):
            # Averaging over G contracts: no eigenvalue of ∇²R^aug moves further than the change of ∇²R.
            if curvature.spectra.across.spectrum.lower_bound is not None or rows is not None:
                shift_all = _change(given, at.dense.nominal, _nominal(at), at.dense.weights, embed(end - at.theta))
            if rows is not None:
                new = there.dense
                doubt = max(_change(given, new.nominal, _nominal(at), new.weights, embed(row)) for row in rows)
    shift_all_e, doubt_e = None, doubt
    if rows is not None:
        shift_all_e = _change(given, at.on_e, _on_e(at), at.theta, end - at.theta)
        doubt_e = max(_change(given, there.on_e, _on_e(at), end, row) for row in rows)
    proof = None
    if at.dense is not None:
        proof = certificates.kantorovich(at.problem, at.theta, spectrum, known_zeros, near)
    return replace(
        near,
        shift_E=times * shift_e + doubt_e,
        shift_E_perp=times * shift_perp + doubt,
        shift_all=None if shift_all is None else times * shift_all + doubt,
        shift_all_E=None if shift_all_e is None else shift_all_e + doubt_e,
        kantorovich=proof,
        doubt=doubt,
    )


def _one_step(given: Given, at: At, spectrum: Spectrum) -> tuple[certificates.Stationarity, Tensor | None]:
    """By one Newton step of MINRES, where E is too large for a dense Hessian."""
    operator = hessian_on_e(at.problem, at.theta)
    gradient = grad(at.problem.equivariant_risk)(at.theta)
    with stage("one more Newton step"):
        step = -torch.as_tensor(_inverted(given, operator, gradient.cpu().double().numpy())).to(given.like)
    given.ledger.hvps += operator.products
    near = certificates.stationarity(at.problem, at.theta, step, certificates.norm(spectrum))
    return near, at.theta + step


def _approached(
    given: Given, at: At, spectrum: Spectrum, slope: float
) -> tuple[certificates.Stationarity, Tensor, Tensor]:
    """By chord steps on E until noise is left, with the displacements that it leaves open."""
    problem, theta, seed = at.problem, at.theta, given.settings.seed
    matrix = assemble(equivariant_hessian(problem, theta), given.like)
    inverse = nearby.Inverse.of(matrix, spectrum.error)
    back = certificates.flipped(problem.samples)

    def gradient(x: Tensor) -> Tensor:
        return certificates.gradient_on_e(problem, x)

    rounding_error = nearby.noise(
        gradient, lambda x: certificates.gradient_on_e(problem, x, back), lambda v: matrix @ v, theta, seed
    )
    top, eps = certificates.norm(spectrum) + problem.weight_decay, torch.finfo(given.like.dtype).eps
    rounding_error += PROJECTED * eps * slope
    # The rounding of θ itself makes a gradient too, but hides none.
    noise = rounding_error + 4 * eps * top * float(theta.norm())
    way = nearby.approach(gradient, theta, inverse.step, rounding_error / nearby.MARGIN)
    unresolved = inverse.unresolved(way.gradient)
    near = certificates.Stationarity(
        gradient=way.before,
        noise=noise,
        step=way.step,
        after=way.after,
        supported=way.left <= noise and unresolved <= rounding_error,
        travelled=float((way.end - theta).norm()),
        left=way.left,
        unresolved=unresolved,
        rounding=rounding_error,
    )
    rows = [inverse.displacements(rounding_error, seed), inverse.step(way.gradient)[None]]
    return near, way.end, torch.cat([*rows, nearby.rounded(way.end, seed)])


def _quotients_moved(at: At, there: At, curvature: Curved) -> tuple[float, float]:
    """How far the lowest quotients on E and on E⊥ move from one point to the other."""
    on_e, across, found = curvature.spectra.aug_e, curvature.spectra.across, curvature.resolved
    shift_e = shift_perp = 0.0
    if len(on_e.values):
        v = on_e.lowest_vector
        shift_e = abs(float(v @ there.on_e(v)) - float(on_e.values.min()))
    if found is not None:
        if found.leading is not None:
            v = found.leading.coordinates
            shift_perp = abs(float(v @ there.block(found.leading.irrep)(v)) - found.leading.value)
    elif len(across.values) and there.dense is not None:
        v = across.lowest_vector
        operator = augmented_hessian_from_group(at.problem, there.dense.nominal)
        shift_perp = abs(float(v @ operator(v)) - float(across.values.min()))
    return shift_e, shift_perp


def _nominal(at: At) -> Make:
    return lambda weights: nominal_hessian(at.problem, weights)


def _on_e(at: At) -> Make:
    return lambda theta: hessian_on_e(at.problem, theta)


def _change(given: Given, here: Operator, make: Make, start: Tensor, delta: Tensor) -> float:
    """A bound on ‖H(A + δ) − H(A)‖, H(A) being ``here`` and ``make`` giving the others."""
    if not float(delta.norm()) > 0:
        return 0.0
    longer, times = nearby.lengthened(delta, start)
    before, there = here.products, make(start + longer)
    moved = Operator(here.dim, lambda v: there(v) - here(v), "the change of the Hessian", batch=here.batch)
    bound = certificates.norm_bound(moved, given.like, given.settings.seed) / times
    given.ledger.hvps += here.products - before + there.products
    return bound


def _inverted(given: Given, operator: Operator, right: np.ndarray) -> np.ndarray:
    """H⁻¹b by MINRES, in double precision around the products whatever theirs is."""
    product = LinearOperator(
        (operator.dim, operator.dim),
        matvec=lambda v: operator(torch.as_tensor(v).to(given.like)).cpu().double().numpy(),
        dtype=float,
    )
    return minres(product, right, rtol=1e-8, maxiter=given.limits.newton_products)[0]


@dataclass(frozen=True)
class NominalPoint:
    """The stationary point of R next to A.

    Attributes:
        doubt: why a vanishing ∇R is not believed; empty where it is.
        shift: how far the way there moves the lowest quotient of ∇²R.
        shift_all: how far it may move any eigenvalue; None where it was not taken.
    """

    doubt: str = ""
    shift: float = 0.0
    shift_all: float | None = None


def nominal_point(given: Given, at: At, report: PointReport, curvature: Curved) -> NominalPoint:
    """Where ∇R vanishes on all of L, and what the way there changes in its spectrum."""
    solution, slope = curvature.spectra.nominal, report.grad_norm["nominal"]
    if at.dense is None or slope is None or not slope <= report.tolerance or not solution.spectrum.lowest:
        return NominalPoint()
    weights = at.dense.weights
    problem, seed, spectrum = at.problem, given.settings.seed, solution.spectrum
    operator = at.dense.nominal
    taken, back = operator.products, certificates.flipped(problem.samples)

    def gradient(a: Tensor, samples: Samples = problem.samples) -> Tensor:
        return grad(lambda b: problem.loss(b, samples) + problem.penalty(b))(a)

    inverse = None
    if len(weights) <= given.limits.inverse_l:
        inverse = nearby.Inverse.of(assemble(operator, weights), spectrum.error)

    def invert(g: Tensor) -> Tensor:
        if inverse is not None:
            return inverse.step(g)
        return -torch.as_tensor(_inverted(given, operator, g.cpu().double().numpy())).to(weights)

    found = nearby.noise(gradient, lambda a: gradient(a, back), operator, weights, seed)
    noise = found + 4 * torch.finfo(weights.dtype).eps * certificates.norm(spectrum) * float(weights.norm())
    way = nearby.approach(gradient, weights, invert, found / nearby.MARGIN)
    unresolved = 0.0 if inverse is None else inverse.unresolved(way.gradient)
    near = certificates.Stationarity(
        way.before, noise, way.step, way.after, way.left <= noise and unresolved <= found, left=way.left
    )
    rows = [invert(way.gradient)[None], nearby.rounded(way.end, seed)]
    if inverse is not None:
        rows.append(inverse.displacements(found, seed))
    make = _nominal(at)
    moved = make(way.end)
    given.ledger.hvps += operator.products - taken
    with stage("what the way to the stationary point of R changes"):
        doubt = max(_change(given, moved, make, way.end, row) for row in torch.cat(rows))
        shift_all = _change(given, operator, make, weights, way.end - weights) + doubt
    v, before = solution.lowest_vector, moved.products
    shift = abs(float(v @ moved(v)) - float(solution.values.min())) + doubt
    given.ledger.hvps += moved.products - before
    return NominalPoint(no_point(near, "∇R"), shift, shift_all)


def rounding_on_l(at: At, top: float, slope: float) -> float:
    """What rounding makes of a gradient on L that vanishes: 64 ulps of ‖∇²R‖‖A‖ + ‖∇R‖; zero without dense weights.

    Args:
        at: the point.
        top: ‖∇²R‖.
        slope: ‖∇R‖ on L.
    """
    if at.dense is None:
        return 0.0
    weights = at.dense.weights
    return ROUNDING * torch.finfo(weights.dtype).eps * (top * float(weights.norm()) + slope)


def no_point(near: certificates.Stationarity, what: str = "∇R^eqv") -> str:
    """Why no stationary point is believed to be near; empty where one is."""
    if near.supported:
        return ""
    if near.left is not None and near.unresolved is not None and near.left <= near.noise:
        return (
            f"of ‖{what}‖, {near.gradient:.1e}, {near.unresolved:.1e} lies along directions whose curvature cannot be "
            f"told from zero, more than the noise of {near.rounding:.1e}: the stationary point, if any, may be far; a "
            "search from another start or a larger --weight-decay may give one"
        )
    if near.after is None:
        return f"‖{what}‖ = {near.gradient:.1e}, and no Newton step was taken to see whether it vanishes nearby"
    return (
        f"‖{what}‖ is small, {near.gradient:.1e}, but one more Newton step leaves {near.after:.1e} of it (noise "
        f"{near.noise:.1e}): a gradient that is flat, not one that vanishes; a search from another start or a larger "
        "--weight-decay may give a stationary point"
    )
