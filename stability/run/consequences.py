"""What follows from the verdict: where an instability leads, and what figures show of it."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from stability.base.progress import stage
from stability.curvature.at import At
from stability.effects import pictures
from stability.effects.hidden import hidden_layers
from stability.points.describe import PointReport, equivariance_error, scores
from stability.points.stationary import StationaryPoint
from stability.points.training import minimise_augmented
from stability.results import Escape, Verdicts
from stability.run.given import Given
from stability.run.spectra import Curved
from stability.spectra import least


def escaped(given: Given, at: At, report: PointReport, verdict: Verdicts, curvature: Curved) -> Tensor | None:
    """Where exact augmented descent ends from an unstable point, pushed along the most negative direction.

    None where the point is not unstable, or R^aug takes too long.
    """
    problem, lowest, dense = at.problem, curvature.spectra.across, at.dense
    work = problem.moves * len(given.like) * problem.space.dim
    if (
        verdict.aug.status != "unstable"
        or not len(lowest.values)
        or dense is None
        or problem.transform is None
        or given.settings.escape_iterations < 1
        or work > given.limits.escape_work
    ):
        return None
    with stage("following the instability"):
        push = 1e-2 * max(float(dense.weights.norm()), 1.0)
        start = dense.weights + push * lowest.lowest_vector
        end, risk, iterations = minimise_augmented(problem, start, given.settings.escape_iterations)
    given.ledger.outcome.directions["escape.end"] = end
    found = Escape(
        risk_start=report.risk["aug"] or 0.0,
        risk_end=risk,
        metrics_start=report.metrics,
        metrics_end=scores(problem, None, end),
        push=push,
        off_equivariance=float(problem.space.transverse_part(end).norm()),
        travelled=float((end - dense.weights).norm()),
        iterations=iterations,
        norm_end=float(end.norm()),
        equivariance_error=equivariance_error(problem, None, end, given.settings.seed),
    )
    if found.equivariant and found.share:  # weights off E and a function that is equivariant all the same: why?
        found = replace(found, hidden=hidden_layers(problem, end, found.share))
    given.ledger.keep(escape=found)
    return end


def pictured(given: Given, at: At, points: list[StationaryPoint], curvature: Curved, end: Tensor | None) -> None:
    """Keep what only figures need, at the point judged; λ_min sector by sector at the other points."""
    if not given.settings.pictures:
        return
    shares, omitted = pictures.shares(at, curvature.spectra, curvature.irreps, given.settings.seed)
    if at.dense is None:
        why = f"R^aug of {at.problem.space.dim:,} weights is known sector by sector only"
        found = pictures.Pictures(omitted={"landscape": why})
    else:
        stationary, seed = points[0].converged, given.settings.seed
        found = pictures.landscape(at, curvature.spectra, curvature.irreps, stationary, end, seed)
    given.ledger.keep(pictures=replace(found, shares=shares, omitted={**found.omitted, **omitted}))
    _other_points(given, at, points, curvature)


def _other_points(given: Given, at: At, points: list[StationaryPoint], curvature: Curved) -> None:
    problem, settings, limits = at.problem, given.settings, given.limits
    irreps, reports = curvature.irreps, given.ledger.analysis.points
    work = len(given.like) * problem.space.dim * least.products(irreps or [])
    if len(points) < 2 or irreps is None or at.dense is None or work > limits.watched_work / 5:
        return
    with stage("the other points"):
        lowest = [
            least.lowest(problem, p.theta, irreps, settings.seed, settings.memory_gb)
            for p in points[: limits.other_points]
        ]
    reports = tuple(replace(r, lowest=lowest[i] if i < len(lowest) else ()) for i, r in enumerate(reports))
    given.ledger.keep(point=reports[0], points=reports)
