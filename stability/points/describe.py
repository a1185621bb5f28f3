"""What is measured at one point of E: risks, gradients, scores, equivariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import grad

from stability.base.record import Record
from stability.curvature.at import At
from stability.curvature.linearised import nominal_gradient_norm
from stability.eigen.spectrum import Eigenvalue
from stability.points.stationary import StationaryPoint
from stability.points.training import exact_augmentation
from stability.problem.problem import Problem, model_of

PROBES = 64
# Off E by no more than this share of its norm, a point counts as one of E.
ON_E = 1e-9


@dataclass(frozen=True)
class AsGiven(Record):
    """Weights off E as they were given; what is judged is their projection.

    Attributes:
        distance: ‖A − Π_E A‖.
        share: distance/‖A‖.
        equivariance_error: of Φ_A, relative; None without a model.
        metrics: its scores, with the keys of :attr:`PointReport.metrics`.
    """

    distance: float
    share: float
    equivariance_error: float | None
    metrics: dict[str, Any]


def as_given(problem: Problem, at: Tensor, seed: int) -> AsGiven | None:
    """What is known of weights A, (dim L), before they are projected; None where they lie on E."""
    distance, norm = float(problem.space.transverse_part(at).norm()), float(at.norm())
    if distance <= ON_E * norm:
        return None
    return AsGiven(distance, distance / norm, equivariance_error(problem, None, at, seed), scores(problem, None, at))


@dataclass(frozen=True)
class PointReport(Record):
    """A point of E and what is known of it; the keys of spectrum.json.

    ``lowest`` holds λ_min of ∇²R^aug in every sector, E being the trivial one, where more than one point was found.

    Attributes:
        kind: "minimum", "saddle", "origin", or how the point was given.
        risk: R, R^eqv and R^aug as "nominal", "eqv", "aug"; None where it was not evaluated.
        grad_norm: norms of their gradients, by the same names; None where that was not evaluated.
        tolerance: what the gradient norm on E had to reach.
        newton_decrement: √(gᵀ|H|⁺g) on E; None where E is too large for a dense Hessian.
        index_E: negative eigenvalues of the Hessian on E; None likewise.
        kink_margin: smallest |pre-activation| at a kink relative to its scale; None for smooth σ.
        distance_to_E: of the point before it was projected.
        metrics: scores on training and test data, and of the best constant predictor.
        equivariance_error: max |Φ(ρ_X(g)x) − ρ_Y(g)Φ(x)| relative to max |Φ|; None without a model.
        start: the seed that led here; None where the point was given.
        converged: whether the gradient norm reached the tolerance.
        lowest: λ_min of ∇²R^aug in every sector.
        given: the weights that it is the projection of; None where they were on E, or none were given.
    """

    kind: str
    risk: dict[str, float | None]
    grad_norm: dict[str, float | None]
    tolerance: float
    newton_decrement: float | None
    index_E: int | None
    kink_margin: float | None
    distance_to_E: float
    metrics: dict[str, Any]
    equivariance_error: float | None
    start: int | None = None
    converged: bool = True
    lowest: tuple[Eigenvalue, ...] = ()
    given: AsGiven | None = None


def describe(
    where: At, point: StationaryPoint, seed: int, distance_to_e: float = 0.0, given: AsGiven | None = None
) -> PointReport:
    """The report of a point of E.

    Args:
        where: the problem at that point.
        point: the same, with its gradient on E.
        seed: of the group elements that equivariance is tried with.
        distance_to_e: of the point before it was projected.
        given: what was measured there.
    """
    problem, theta = where.problem, where.theta
    at = None if where.dense is None else where.dense.weights
    space, moved = problem.space, problem.moves * len(problem.samples.x)
    augmentable = problem.transform is not None and moved <= where.limits.moved_samples
    if at is None:
        nominal, across = nominal_gradient_norm(problem, theta), point.gradient_norm
    else:
        gradient = grad(problem.risk)(at)
        # Prop. 1: ∇R^aug = Π_E∇R on E
        nominal, across = float(gradient.norm()), float(space.project(gradient).norm())
    augmented = None
    if at is not None and augmentable:
        across = float(exact_augmentation(problem)(at, np.random.default_rng(0)).norm())
        with torch.no_grad():
            augmented = float(problem.augmented_risk(at))
    return PointReport(
        kind=point.kind,
        risk={"nominal": point.risk, "eqv": point.risk, "aug": augmented},
        grad_norm={"nominal": nominal, "eqv": point.gradient_norm, "aug": across},
        tolerance=point.tolerance,
        newton_decrement=point.newton_decrement,
        index_E=point.index,
        kink_margin=problem.kink_margin(at) if problem.kink_margin and at is not None else None,
        distance_to_E=distance_to_e if point.kind == "file" else 0.0,
        metrics=scores(problem, theta, at),
        equivariance_error=equivariance_error(problem, theta, at, seed),
        start=point.start,
        converged=point.converged,
        given=given if point.kind == "file" else None,
    )


def _predict(problem: Problem, theta: Tensor | None, at: Tensor | None, x: Tensor) -> Tensor:
    """Φ_A(x) with dense weights ``at`` or, without them, through the layers at θ."""
    model = model_of(problem)
    with torch.no_grad():
        if at is not None:
            return model.predict(at, x)
        if theta is None:
            raise ValueError(f"{problem.name}: predictions at no point")
        return model.predict_equivariant(theta, x)


def scores(problem: Problem, theta: Tensor | None, at: Tensor | None) -> dict:
    """train, test, constant: the score that counts, named; the losses beside it; the size of the test set."""
    metrics: dict = {"name": None, "train": None, "test": None, "constant": None}
    if problem.metric is not None:
        for which in ("train", "test", "constant"):
            seen: list[int] = []

            def predict(x: Tensor, seen: list[int] = seen) -> Tensor:
                seen.append(len(x))
                return _predict(problem, theta, at, x)

            found = problem.metric(predict, which)
            if which == "test" and sum(seen) > 0 and "accuracy" in list(found)[:1]:
                metrics["test_samples"] = sum(seen)
            for name, value in list(found.items())[:1]:
                metrics |= {"name": name, which: value}
            metrics[f"loss_{which}"] = found.get("loss")
    return metrics


def equivariance_error(problem: Problem, theta: Tensor | None, at: Tensor | None, seed: int) -> float | None:
    """max |Φ(ρ_X(g)x) − ρ_Y(g)Φ(x)| over generators and a Haar sample, relative to max |Φ(x)|."""
    model, group = problem.model, problem.group
    if model is None:
        return None
    x = problem.samples.x[:PROBES]
    plain = _predict(problem, theta, at, x)
    scale = float(plain.abs().max()) or 1.0
    worst = 0.0
    for g in [*group.generators, group.sample(np.random.default_rng(seed))]:
        moved = _predict(problem, theta, at, model.input.act(g, x))
        worst = max(worst, float((moved - model.output.act(g, plain)).abs().max()))
    return worst / scale
