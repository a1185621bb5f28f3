"""Which point is judged: stationary points on E, a start, a trained network, or a point that was given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from stability.base.cluster import pack, unpack
from stability.base.errors import BadInput
from stability.base.limits import Limits
from stability.base.progress import stage
from stability.base.storage import only
from stability.curvature.pooled import hessian_on_e
from stability.eigen.lanczos import lanczos, ritz
from stability.points.describe import PointReport, describe
from stability.points.stationary import (
    Job,
    StationaryPoint,
    describe_point,
    find_points,
    gradient_scale,
    search,
)
from stability.points.training import descend_on_e
from stability.run.given import Given, Workers
from stability.run.resolve import irreps_of
from stability.spectra import least
from stability.tasks.recipe import Source, problem_of


@dataclass(frozen=True)
class Found:
    """The points of a run.

    Attributes:
        points: lowest risk first; the first is judged.
        scale: ‖∇R^eqv‖ of the problem, which the tolerance is relative to.
    """

    points: list[StationaryPoint]
    scale: float


def found(given: Given) -> Found:
    """The points asked for by ``settings.at``, those stored before anything is searched.

    Raises:
        BadInput: a start or a training where the problem has no initial weights.
    """
    problem, settings, limits = given.problem, given.settings, given.limits
    stored = given.checkpoint.load("points", lambda tensors, texts: _stored_points(given, tensors, texts))
    scale = gradient_scale(problem, settings.seed) if problem.initial else 1.0
    tolerance = (1e-9 if given.like.dtype == torch.float64 else 1e-4) * scale
    if stored is not None:
        return Found(
            [describe_point(problem, theta, kind, tolerance, start, limits) for kind, start, theta in stored], scale
        )
    if isinstance(settings.at, Tensor):
        points = [describe_point(problem, settings.at, "file", tolerance, limits=limits)]
    elif settings.at == "point":

        def searches(jobs: list[Job], tolerance: float, seconds: float) -> Iterator[tuple[int, Tensor]]:
            return _searched(given, jobs, tolerance, seconds)

        seconds = 60 * settings.search_minutes
        points = find_points(
            problem, settings.points, settings.seed, tolerance, settings.saddles, seconds=seconds, searches=searches,
            limits=limits,
        )  # fmt: skip
    else:
        if problem.initial is None:
            raise BadInput(f"{problem.name}: --at {settings.at} needs Problem(initial=…)")
        theta = problem.initial(settings.seed)
        if settings.at == "trained":
            theta = _trained(given, theta)
        points = [describe_point(problem, theta, settings.at, tolerance, settings.seed, limits)]
    given.checkpoint.save(
        "points",
        {str(i): p.theta for i, p in enumerate(points)},
        kinds=" ".join(p.kind for p in points),
        starts=" ".join("-" if p.start is None else str(p.start) for p in points),
    )
    return Found(points, scale)


def described(given: Given, points: list[StationaryPoint]) -> PointReport:
    """Keep risks, gradients, scores and equivariance of every point; the report of the one that is judged."""
    settings = given.settings
    with stage("points"):
        reports = tuple(
            describe(given.at(p.theta), p, settings.seed, settings.distance_to_e, settings.given) for p in points
        )
    given.ledger.keep(point=reports[0], points=reports)
    return reports[0]


def _stored_points(
    given: Given, tensors: dict[str, Tensor], texts: dict[str, str]
) -> list[tuple[str, int | None, Tensor]]:
    """(kind, start, θ) of the points that were kept."""
    kinds, starts = texts["kinds"].split(), texts["starts"].split()
    if not kinds or set(tensors) != {str(i) for i in range(len(kinds))}:
        raise BadInput(f"it holds the tensors {', '.join(sorted(tensors)) or 'none'} for {len(kinds)} points")
    shape = (given.problem.space.dim_equivariant,)
    return [
        (kind, None if start == "-" else int(start), only(tensors[str(i)], shape, given.like, f"point {i}"))
        for i, (kind, start) in enumerate(zip(kinds, starts, strict=True))
    ]


# ------------------------------------------------------------------------------------------------------ searches


def _start_file(job: Job) -> str:
    return f"start-{job.start}" if job.kind == "minimum" else f"start-{job.start}-{job.kind}"


def _searched(given: Given, jobs: list[Job], tolerance: float, seconds: float) -> Iterator[tuple[int, Tensor]]:
    """(number, end) of the searches from all starts: those stored first, then in order here, or as workers end.

    A search that ended is kept. One that did not goes on from its last iterate only where E is too large for dense
    Newton steps; elsewhere it is short and begins again, so that its end is the same to the last bit.
    """

    def stored(tensors: dict[str, Tensor], texts: dict[str, str]) -> tuple[Tensor, bool]:
        theta = only(tensors["theta"], (given.problem.space.dim_equivariant,), given.like, "theta")
        return theta, texts.get("ended") == "yes"

    starts: dict[int, Tensor] = {}
    for number, job in enumerate(jobs):
        kept = given.checkpoint.load(_start_file(job), stored)
        if kept is not None and kept[1]:
            yield number, kept[0]
        else:
            starts[number] = job.theta if kept is None else kept[0]
    ends = (
        _spread(given, given.workers, jobs, starts, tolerance, seconds)
        if given.workers is not None and len(starts) > 1
        else _one_after_another(given, jobs, starts, tolerance, seconds)
    )
    for number, end in ends:
        given.checkpoint.save(_start_file(jobs[number]), {"theta": end}, ended="yes")
        yield number, end


def _one_after_another(
    given: Given, jobs: list[Job], starts: dict[int, Tensor], tolerance: float, seconds: float
) -> Iterator[tuple[int, Tensor]]:
    for number, start in tqdm(starts.items(), desc="stationary points on E", disable=None, leave=False):
        job = jobs[number]

        def keep(theta: Tensor, name: str = _start_file(job)) -> None:
            if len(theta) > given.limits.search_dense:
                given.checkpoint.save(name, {"theta": theta})

        yield number, search(given.problem, job.kind, start, tolerance, keep=keep, seconds=seconds, limits=given.limits)


def _spread(
    given: Given, workers: Workers, jobs: list[Job], starts: dict[int, Tensor], tolerance: float, seconds: float
) -> Iterator[tuple[int, Tensor]]:
    """The searches, each in a process of its own, as they end."""
    numbers = list(starts)
    sent = [
        (workers.handle, jobs[number].kind, pack({"theta": start}), tolerance, seconds, given.limits)
        for number, start in starts.items()
    ]
    for place, message in workers.pool.run(search_job, sent, "stationary points on E"):
        yield numbers[place], unpack(message)[0]["theta"].to(given.like)


def search_job(source: Source, kind: str, theta: bytes, tolerance: float, seconds: float, limits: Limits) -> bytes:
    """Inside a worker: the search from one start."""
    problem = problem_of(source)
    start = unpack(theta)[0]["theta"].to(problem.samples.x)
    return pack({"theta": search(problem, kind, start, tolerance, seconds=seconds, limits=limits)})


# ------------------------------------------------------------------------------------------------------ training


def _trained(given: Given, theta: Tensor) -> Tensor:
    """EQUI from the start; by default half the critical step on E there, so that every epoch descends."""
    problem, settings = given.problem, given.settings
    step = settings.trained_step
    if step is None:
        generator = torch.Generator().manual_seed(settings.seed)
        start = torch.randn(len(theta), generator=generator, dtype=torch.float64).to(theta)
        ends = ritz(lanczos(hessian_on_e(problem, theta), start, min(30, len(theta))))[0]
        # Of a concave risk 1/λ_max would climb; where nothing curves any step descends.
        step = 1.0 / float(ends[-1] if ends[-1] > 0 else -ends[0] if ends[0] < 0 else 1.0)
    theta = _watched(given, theta, step) if settings.pictures else descend_on_e(problem, theta, step, settings.epochs)
    given.ledger.fact("training", f"{settings.epochs} EQUI epochs, step {step:.3g}")
    return theta


def _watched(given: Given, theta: Tensor, step: float) -> Tensor:
    """The same epochs, with λ_min on E and in every sector after some of them."""
    problem, settings, limits = given.problem, given.settings, given.limits
    last = settings.epochs
    irreps = None if given.at(theta).dense is None else irreps_of(given, large=False)
    marks = [k for k in limits.watched if k < last] + [last]
    work = len(given.like) * problem.space.dim * least.products(irreps or []) * len(marks)
    if irreps is None or work > limits.watched_work:
        return descend_on_e(problem, theta, step, last)
    rows, risks, before = [], [], 0
    for mark in marks:
        theta, before = descend_on_e(problem, theta, step, mark - before), mark
        rows.append(least.lowest(problem, theta, irreps, settings.seed, settings.memory_gb))
        risks.append(float(problem.equivariant_risk(theta)))
    given.ledger.keep(training=least.History(step, tuple(marks), tuple(risks), tuple(rows)))
    return theta
