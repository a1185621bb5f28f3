r"""The whole chain: problem → points → curvature → eigenvalues → verdict, stage by stage.

Every stage hands the analysis so far to ``on_stage``, so an interrupted run has a valid partial result.
"""

from __future__ import annotations

import contextlib
import json
import math
import platform
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy
import torch
from scipy.sparse.linalg import LinearOperator, minres
from torch import Tensor
from torch.func import grad
from tqdm import tqdm

from stability import results
from stability.base import doors
from stability.base.cluster import Pool, Serial, digest, pack, remember, unpack
from stability.base.errors import BadInput, StaleLinearisation
from stability.base.identity import text_digest
from stability.base.storage import Checkpoint, only
from stability.curvature import assembly
from stability.curvature.automatic import (
    augmented_hessian_from_data,
    augmented_hessian_from_group,
    check_product,
    compress,
    equivariant_hessian,
    group_average,
    nominal_hessian,
    transverse,
)
from stability.curvature.pooled import hessian_on_e
from stability.curvature.products import size
from stability.effects import modes, pictures
from stability.eigen import krylov
from stability.eigen.dense import dense_spectrum
from stability.eigen.lanczos import lanczos, ritz
from stability.eigen.operator import Operator, assemble
from stability.eigen.spectrum import Solution, Spectrum, rounding
from stability.groups import Irrep, cyclic_moduli, residual_symmetry, trivial_irrep
from stability.networks import kinks
from stability.points.describe import MOVED_SAMPLES, describe, is_large, scores
from stability.points.stationary import (
    DENSE_NEWTON,
    Job,
    StationaryPoint,
    describe_point,
    find_points,
    gradient_scale,
    runaway,
    search,
)
from stability.points.training import descend_on_e, minimise_augmented
from stability.problem.assumptions import check_assumptions
from stability.problem.held import held_tensors
from stability.problem.identity import identity
from stability.problem.problem import FlatFamily, Problem, single
from stability.problem.space import Samples
from stability.results import Analysis, Escape, Verdicts
from stability.spectra import least, sectors
from stability.spectra.shards import sharded_hessian
from stability.tasks.recipe import Recipe, Source, problem_of
from stability.verdicts import certificates, flat, identities, nearby
from stability.verdicts.verdict import Block, judge, proposition_3
from stability.version import __version__

if TYPE_CHECKING:
    import pandas as pd

GROUP_LIMIT = 5040
DENSE_LIMIT = 8000
DENSE_E_LIMIT = 2500
DENSE_SPECTRUM_E = 8000
LANCZOS_STEPS = 400
SECONDS_PER_SPECTRUM = 3600.0
MODE_NUMBERS = 10_000_000
SINGLE_FROM, SINGLE_ENDS = 20_000, (3, 1)
NEWTON_PRODUCTS = 300
# Displacement over which ∇²R is seen to be smooth, relative to the point.
ROUGH = 1e-6
# Weights up to which ∇²R is inverted as a matrix on the way to a stationary point of R.
DENSE_NOMINAL = 1000
# Of a large network's sectors, dense partners are made for one in so many: they cost as much as twenty products.
CHECK_EVERY = 8
RESIDUAL_PRODUCTS = 200
SECTOR_STEPS = 150
# Of unit vectors that are read again: what is beyond is no rounding, in whatever precision they were made.
ORTHONORMAL = 1e-3
# What a relative violation of the assumptions does to eigenvalues, relative to the largest: ρ̄ enters ∇²R^aug twice on
# either side, and so does σ.
SYMMETRY = 4.0
# Epochs after which λ_min is recorded along training, and samples × weights × products that this may take.
WATCHED, WATCHED_WORK = (0, 1, 2, 5, 10, 20, 35), 3e11
OTHER_POINTS = 6
# Sectors whose lowest vector is probed for kinks, those with the lowest first: twenty gradients each.
PROBED = 24


@dataclass(frozen=True)
class Settings:
    """How an analysis is run; what is analysed is the problem's business.

    Attributes:
        seed: of starts and probes.
        at: "point", "init", "trained", or a tensor θ.
        points: starts of the search.
        saddles: starts searched for saddles too.
        search_minutes: longest search from one start where E is too large for a dense Hessian.
        eigenvalues: distinct eigenvalues reported at each end.
        memory_gb: what the run may use.
        escape_iterations: L-BFGS steps of exact augmented descent from an unstable point; 0 leaves it out.
        shards: of the samples, over which products of large sectors are spread, one sector after another; 1 spreads
            whole sectors.
        sectors: "all", "none", or names of irreps; see :func:`stability.spectra.sectors.chosen`.
        pictures: also what only a report's figures need, see :mod:`stability.effects.pictures`.
    """

    seed: int = 0
    at: str | Tensor = "point"
    points: int = 2
    saddles: int = 0
    search_minutes: float = 60.0
    eigenvalues: int = 10
    memory_gb: float = 16.0
    escape_iterations: int = 300
    distance_to_e: float = 0.0
    epochs: int = 50
    trained_step: float | None = None
    shards: int = 1
    sectors: str = "all"
    pictures: bool = False

    def __post_init__(self) -> None:
        """Raise BadInput for a value that no run could use."""
        doors.seed(self.seed)
        for name in ("points", "eigenvalues", "shards"):
            doors.whole(name, getattr(self, name), 1)
        for name in ("saddles", "escape_iterations", "epochs"):
            doors.whole(name, getattr(self, name), 0)
        for name in ("search_minutes", "memory_gb"):
            doors.number(name, getattr(self, name), above=True)
        doors.number("distance_to_e", self.distance_to_e)
        if self.trained_step is not None:
            doors.number("trained_step", self.trained_step, above=True)
        doors.irreps("sectors", self.sectors)
        doors.flag("pictures", self.pictures)
        if not isinstance(self.at, Tensor):
            doors.choice("at", self.at, ("point", "init", "trained"))


@dataclass
class Outcome:
    """An analysis with the tensors that JSON does not hold.

    Attributes:
        analysis: the numbers.
        theta: coordinates of the point on E.
        directions: leading modes, and where an escape ended.
        held: what the risk depends on beside the weights (running statistics), as it was at this point.
    """

    analysis: Analysis
    theta: Tensor | None = field(default=None, repr=False)
    directions: dict[str, Tensor] = field(default_factory=dict, repr=False)
    held: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return str(self.analysis)

    def to_frame(self) -> pd.DataFrame:
        """The eigenvalues of :meth:`Analysis.to_frame`."""
        return self.analysis.to_frame()

    def to_json(self) -> str:
        """The analysis, as in spectrum.json."""
        return self.analysis.to_json()


@dataclass(frozen=True)
class SolvedSector:
    """B_λ solved, before anything is known of the other sectors.

    Attributes:
        solution: its spectrum, counted in M_λ.
        hvps: nominal products taken.
        mismatch, off: of one product against another route, see :func:`stability.spectra.sectors.compare`.
    """

    solution: Solution
    hvps: int
    mismatch: float | None
    off: float | None

    def packed(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """As tensors and texts, for a file or a message."""
        tensors = {"values": self.solution.values, "vectors": self.solution.vectors}
        texts = {"spectrum": results.to_json(self.solution.spectrum), "hvps": str(self.hvps)}
        return tensors, {**texts, "mismatch": json.dumps((self.mismatch, self.off))}

    @staticmethod
    def unpacked(tensors: dict[str, Tensor], metadata: dict[str, str]) -> SolvedSector:
        """The inverse of :meth:`packed`.

        Raises:
            BadInput: something else is stored there.
        """
        try:
            solution = Solution(results.spectrum_from_json(metadata["spectrum"]), tensors["values"], tensors["vectors"])
            return SolvedSector(solution, int(metadata["hvps"]), *json.loads(metadata["mismatch"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadInput(f"a stored sector cannot be read ({error!r})") from error

    @staticmethod
    def stored(tensors: dict[str, Tensor], metadata: dict[str, str], size: int, like: Tensor) -> SolvedSector:
        """The inverse of :meth:`packed` for a file, whose shapes, dtypes and numbers are those of a sector.

        Raises:
            BadInput: they are not.
        """
        found = SolvedSector.unpacked(tensors, metadata)
        count = len(tensors["values"])
        values = only(tensors["values"], (count,), like, "values")
        vectors = only(tensors["vectors"], (count, size), like, "vectors")
        overlap = vectors @ vectors.mT - torch.eye(count, dtype=vectors.dtype, device=vectors.device)
        if not 1 <= count <= size or float(overlap.abs().max()) > ORTHONORMAL:
            raise BadInput(f"{count} vectors of {size} numbers are not orthonormal")
        return replace(found, solution=Solution(found.solution.spectrum, values, vectors))


def _start_file(job: Job) -> str:
    return f"start-{job.start}" if job.kind == "minimum" else f"start-{job.start}-{job.kind}"


class Interrupted(KeyboardInterrupt):
    """Ctrl-C: the partial outcome is kept."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


@contextlib.contextmanager
def _stage(name: str) -> Iterator[None]:
    """A line on stderr while a stage runs, where stderr is a terminal."""
    with tqdm(total=1, desc=name, disable=None, leave=False, bar_format="{desc} … {elapsed}") as bar:
        yield
        bar.update(1)


def analyse(
    problem: Problem,
    settings: Settings | None = None,
    header: dict | None = None,
    checkpoint: Checkpoint | None = None,
    on_stage: Callable[[Outcome], None] = lambda outcome: None,
    pool: Pool | None = None,
    recipe: Recipe | None = None,
) -> Outcome:
    """Points, spectra, identities and verdicts of a problem.

    Args:
        problem: the risk with its group action.
        settings: how to run; see :class:`Settings`.
        header: keys of the analysis that only the caller knows (task, size, options, …).
        checkpoint: where intermediate tensors go.
        on_stage: called with the outcome so far after every stage.
        pool: whose processes search points and solve sectors; this one by default.
        recipe: how they build the problem; without one it is sent to them.

    Raises:
        BadInput: an assumption fails, or the problem does not fit the memory.
        Interrupted: on Ctrl-C, with the outcome so far.
    """
    settings = settings or Settings()
    run = _Run(problem, settings, header or {}, checkpoint or Checkpoint(None, {}, False), on_stage, pool, recipe)
    try:
        return run.all()
    except KeyboardInterrupt:
        raise Interrupted(run.outcome) from None


def _sector_file(name: str) -> str:
    """A file name for an irrep: its letters to be recognised by, a digest since q=(1,1) and q=(1,-1) share them."""
    letters = "".join(c if c.isascii() and c.isalnum() else "_" for c in name)
    return f"sector-{letters[:40]}-{text_digest(name.encode())[:8]}"


# What does not change what is computed, or is told to the checkpoint otherwise.
ELSEWHERE = ("at", "memory_gb", "shards", "pictures")


def _settings(settings: Settings) -> dict[str, object]:
    """The settings that what is kept depends on, a point given by its digest."""
    at = settings.at if isinstance(settings.at, str) else f"a point of digest {digest(settings.at)}"
    return {"at": at} | {k: v for k, v in vars(settings).items() if k not in ELSEWHERE}


def densest(settings: Settings, limit: int) -> int:
    """The largest dimension that is solved as a matrix: up to a limit, and six copies must fit the memory."""
    return int(min(limit, (settings.memory_gb * 1e9 / (6 * 8)) ** 0.5))


def solve_sector(
    problem: Problem,
    theta: Tensor,
    irrep: Irrep,
    size: int,
    nominal: Operator | None,
    floor: float,
    settings: Settings,
    number: int,
    checkpoint: Checkpoint,
    block: Callable[[Tensor], Operator] | None = None,
) -> SolvedSector:
    """The spectrum of one B_λ: complete where it fits, else its ends by Lanczos.

    Args:
        problem, theta: the point.
        irrep, size: λ and dim_R M_λ.
        nominal: ∇²R on L, for bare risks.
        floor: least error granted.
        settings: of the run.
        number: of the sector; of a large network every eighth is compared with another route.
        checkpoint: where a long Lanczos run is kept.
        block: θ, in either precision, ↦ B_λ; by default the work of this process.
    """
    memory = settings.memory_gb
    operator = block(theta) if block else sectors.sector_hessian(problem, theta, irrep, nominal, memory)
    if not is_large(problem):
        operator.scale = sectors.curvature_scale(problem, theta, settings.seed)
    if size <= densest(settings, DENSE_LIMIT):
        began = time.perf_counter()
        matrix = (
            assembly.sector_matrix(problem, theta, irrep, memory)
            if assembly.applies(problem, irrep)
            else assemble(operator, theta)
        )
        # A residual costs d nominal products, so irreps of large dimension report fewer.
        ends = max(1, min(settings.eigenvalues, RESIDUAL_PRODUCTS // irrep.dim))
        solution = dense_spectrum(matrix, operator, ends, floor=floor)
        seconds = time.perf_counter() - began
        solution = replace(solution, spectrum=replace(solution.spectrum, seconds=seconds))
    else:
        name = f"{_sector_file(irrep.name)}-run"
        solution = search_sector(problem, theta, irrep, operator, size, name, settings, checkpoint, block)
    compared = None
    if not is_large(problem) or number % CHECK_EVERY == 1:
        compared = sectors.compare(problem, theta, irrep, operator, settings.seed)
    mismatch, off = compared or (None, None)
    return SolvedSector(solution, operator.products * operator.cost, mismatch, off)


def search_sector(
    problem: Problem,
    theta: Tensor,
    irrep: Irrep,
    operator: Operator,
    size: int,
    name: str,
    settings: Settings,
    checkpoint: Checkpoint,
    block: Callable[[Tensor], Operator] | None = None,
) -> Solution:
    """The ends of B_λ by Lanczos until the sign is settled.

    Of a large sector the Krylov space is built in single precision, quotients and residuals of few pairs in double,
    and only the lowest vector is kept.
    """
    like, memory = problem.samples.x, settings.memory_gb
    rapid = size > SINGLE_FROM and hasattr(problem.model, "network") and like.dtype == torch.float64
    ends = SINGLE_ENDS if rapid else (settings.eigenvalues, settings.eigenvalues)
    plan = krylov.Plan(SECTOR_STEPS, *ends, True, settings.seed, memory)
    if not rapid:
        return krylov.run(operator, operator, size, name, plan, like, checkpoint)
    low = theta.float()
    searched = block(low) if block else sectors.sector_hessian(single(problem), low, irrep, None, memory)
    solution = krylov.run(searched, operator, size, name, plan, like, checkpoint, precision=torch.float32)
    operator.products += searched.products
    keep = int(solution.values.argmin())
    return replace(solution, values=solution.values[[keep]].clone(), vectors=solution.vectors[[keep]].clone())


def sector_job(
    source: Source, theta: bytes, name: str, size: int, floor: float, settings: Settings, number: int
) -> bytes:
    """Inside a worker: one sector, with what every sector at this point shares made once a process."""
    problem, point = problem_of(source), unpack(theta)[0]["theta"]
    point = point.to(problem.samples.x)

    def linearised() -> Operator | None:
        return None if hasattr(problem.model, "network") else nominal_hessian(problem, problem.space.embed(point))

    named = source if isinstance(source, Recipe) else id(source)
    nominal = remember(("nominal", named, digest(point)), linearised)
    irrep = sectors.by_name(problem.group, name)
    none = Checkpoint(None, {}, False)
    tensors, metadata = solve_sector(problem, point, irrep, size, nominal, floor, settings, number, none).packed()
    return pack(tensors, **metadata)


def search_job(source: Source, kind: str, theta: bytes, tolerance: float, seconds: float) -> bytes:
    """Inside a worker: the search from one start."""
    problem = problem_of(source)
    start = unpack(theta)[0]["theta"].to(problem.samples.x)
    return pack({"theta": search(problem, kind, start, tolerance, seconds=seconds)})


class _Run:
    """State of one analysis; each method is a stage."""

    def __init__(
        self,
        problem: Problem,
        settings: Settings,
        header: dict,
        checkpoint: Checkpoint,
        on_stage: Callable[[Outcome], None],
        pool: Pool | None = None,
        recipe: Recipe | None = None,
    ) -> None:
        self.problem, self.settings, self.checkpoint, self.on_stage = problem, settings, checkpoint, on_stage
        self.started = time.perf_counter()
        self.hvps = 0
        self.space, self.group = problem.space, problem.group
        self.like = problem.samples.x
        self.outcome = Outcome(_header(problem, settings, header), held=held_tensors(problem))
        self.large = is_large(problem)
        # Handed over only where there is someone to hand it to: the work is done here otherwise.
        self.pool = None if isinstance(pool, Serial) else pool
        self.source, self.handle = recipe or problem, None
        self.budgets: dict[str, certificates.Budget] = {}
        self.size = self.roughness = 0.0
        self.kink: kinks.Bend | None = None
        self.ends: list[tuple[Irrep, Tensor]] = []

    def all(self) -> Outcome:
        self.check_memory()
        self.check_assumptions()
        self.identify()
        points = self.find_points()
        self.theta = points[0].theta
        self.checkpoint.at(digest(self.theta))
        self.outcome.theta = self.theta
        # Dense weights of a large network are never made: its sectors and points know them by coordinates.
        self.at = self.like.new_zeros(0) if self.large else self.space.embed(self.theta)
        self.report_points(points)
        try:
            spectra = self.spectra(points[0])
        except StaleLinearisation as error:
            raise runaway(self.problem, self.theta) or error from error
        self.identities()
        self.verdicts(points[0], spectra)
        self.escape(spectra)
        self.pictures(points, spectra)
        self.keep(complete=True)
        return self.outcome

    def keep(self, **changes: object) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        cost = {"hvps": self.hvps, "seconds": time.perf_counter() - self.started, "peak_memory_mb": usage}
        self.outcome.analysis = replace(self.outcome.analysis, cost=cost, **changes)
        self.on_stage(self.outcome)

    # -- stages ------------------------------------------------------------------------------------

    def check_memory(self) -> None:
        """Refuse what cannot fit: weights, gradients and the graph of one linearised gradient."""
        widths = self.space.layers[0].shape[1] + sum(layer.shape[0] for layer in self.space.layers)
        widths = max(widths, self.problem.activations * len(self.space.layers))
        item = self.like.element_size()
        need = item * (12 * self.space.dim + 10 * widths * min(len(self.like), 4096)) / 1e9 + 0.5
        if need > self.settings.memory_gb:
            raise BadInput(
                f"{self.problem.name} with {self.space.dim:,} weights and {len(self.like):,} samples needs about "
                f"{need:.1f} GB, more than --memory-gb {self.settings.memory_gb:g}; use a smaller --size, "
                "fewer --samples or more memory"
            )

    def check_assumptions(self) -> None:
        with _stage("assumptions"):
            measured = check_assumptions(self.problem, self.settings.seed)
        if measured:
            self.keep(assumptions=measured)

    def identify(self) -> None:
        """Tie what is kept, and what workers build, to what the problem is and not to its name."""
        if self.checkpoint.folder is None and self.pool is None:
            return
        recipe = self.source if isinstance(self.source, Recipe) else None
        with _stage("what the problem is"):
            known = identity(self.problem, recipe.task if recipe else "")
        self.checkpoint.belongs_to({**known, "settings": _settings(self.settings)})
        if self.pool is not None:
            if recipe:
                self.source = replace(recipe, known=json.dumps(known, sort_keys=True))
            self.handle = self.pool.share(self.source)

    def stored_points(self, tensors: dict[str, Tensor], metadata: dict[str, str]) -> list[tuple]:
        """(kind, start, θ) of the points that were found."""
        kinds, starts = metadata["kinds"].split(), metadata["starts"].split()
        if not kinds or set(tensors) != {str(i) for i in range(len(kinds))}:
            raise BadInput(f"it holds the tensors {', '.join(sorted(tensors)) or 'none'} for {len(kinds)} points")
        shape = (self.space.dim_equivariant,)
        return [
            (kind, None if start == "-" else int(start), only(tensors[str(i)], shape, self.like, f"point {i}"))
            for i, (kind, start) in enumerate(zip(kinds, starts, strict=True))
        ]

    def find_points(self) -> list[StationaryPoint]:
        settings = self.settings
        stored = self.checkpoint.load("points", self.stored_points)
        scale = gradient_scale(self.problem, settings.seed) if self.problem.initial else 1.0
        self.scale = scale
        tolerance = (1e-9 if self.like.dtype == torch.float64 else 1e-4) * scale
        if stored is not None:
            return [describe_point(self.problem, theta, kind, tolerance, start) for kind, start, theta in stored]
        if isinstance(settings.at, Tensor):
            points = [describe_point(self.problem, settings.at, "file", tolerance)]
        elif settings.at == "point":
            points = find_points(
                self.problem,
                settings.points,
                settings.seed,
                tolerance,
                settings.saddles,
                seconds=60 * settings.search_minutes,
                searches=self.searches,
            )
        else:
            if self.problem.initial is None:
                raise BadInput(f"{self.problem.name}: --at {settings.at} needs Problem(initial=…)")
            theta = self.problem.initial(settings.seed)
            if settings.at == "trained":
                theta = self.train(theta)
            points = [describe_point(self.problem, theta, settings.at, tolerance, settings.seed)]
        self.checkpoint.save(
            "points",
            {str(i): p.theta for i, p in enumerate(points)},
            kinds=" ".join(p.kind for p in points),
            starts=" ".join("-" if p.start is None else str(p.start) for p in points),
        )
        return points

    def searches(self, jobs: list[Job], tolerance: float, seconds: float) -> Iterator[tuple[int, Tensor]]:
        """(number, end) of the searches from all starts: those stored first, then in order here, or as workers end.

        A search that ended is kept. One that did not goes on from its last iterate only where E is too large for dense
        Newton steps; elsewhere it is short and begins again, so that its end is the same to the last bit.
        """
        missing: dict[int, Tensor | None] = {}
        for number, job in enumerate(jobs):
            stored = self.checkpoint.load(_start_file(job), self.stored_start)
            if stored is not None and stored[1]:
                yield number, stored[0]
            else:
                missing[number] = stored[0] if stored is not None else None
        found = self.spread_searches if self.pool is not None and len(missing) > 1 else self.searches_here
        for number, end in found(jobs, missing, tolerance, seconds):
            self.checkpoint.save(_start_file(jobs[number]), {"theta": end}, ended="yes")
            yield number, end

    def stored_start(self, tensors: dict[str, Tensor], metadata: dict[str, str]) -> tuple[Tensor, bool]:
        """θ of a search, and whether it had ended there."""
        theta = only(tensors["theta"], (self.space.dim_equivariant,), self.like, "theta")
        return theta, metadata.get("ended") == "yes"

    def searches_here(
        self, jobs: list[Job], missing: dict[int, Tensor | None], tolerance: float, seconds: float
    ) -> Iterator[tuple[int, Tensor]]:
        """The searches, one after another."""
        for number, reached in tqdm(missing.items(), desc="stationary points on E", disable=None, leave=False):
            job = jobs[number]

            def keep(theta: Tensor, name: str = _start_file(job)) -> None:
                if len(theta) > DENSE_NEWTON:
                    self.checkpoint.save(name, {"theta": theta})

            start = job.theta if reached is None else reached
            yield number, search(self.problem, job.kind, start, tolerance, keep=keep, seconds=seconds)

    def spread_searches(
        self, jobs: list[Job], missing: dict[int, Tensor | None], tolerance: float, seconds: float
    ) -> Iterator[tuple[int, Tensor]]:
        """The searches, each in a process of its own, as they end."""
        numbers = list(missing)
        starts = [jobs[i].theta if missing[i] is None else missing[i] for i in numbers]
        sent = [
            (self.handle, jobs[i].kind, pack({"theta": start}), tolerance, seconds)
            for i, start in zip(numbers, starts, strict=True)
        ]
        for place, message in self.pool.run(search_job, sent, "stationary points on E"):
            yield numbers[place], unpack(message)[0]["theta"].to(self.like)

    def train(self, theta: Tensor) -> Tensor:
        """EQUI from the start; by default half the critical step on E there, so that every epoch descends."""
        step = self.settings.trained_step
        if step is None:
            operator = hessian_on_e(self.problem, theta)
            generator = torch.Generator().manual_seed(self.settings.seed)
            start = torch.randn(len(theta), generator=generator, dtype=torch.float64).to(theta)
            ends = ritz(lanczos(operator, start, min(30, len(theta))))[0]
            # Of a concave risk 1/λ_max would climb; where nothing curves any step descends.
            step = 1.0 / float(ends[-1] if ends[-1] > 0 else -ends[0] if ends[0] < 0 else 1.0)
        theta = self.watched(theta, step) if self.settings.pictures else self.epochs(theta, step, self.settings.epochs)
        facts = {**self.outcome.analysis.facts, "training": f"{self.settings.epochs} EQUI epochs, step {step:.3g}"}
        self.keep(facts=facts)
        return theta

    def epochs(self, theta: Tensor, step: float, count: int) -> Tensor:
        return descend_on_e(self.problem, theta, step, count)

    def watched(self, theta: Tensor, step: float) -> Tensor:
        """The same epochs, with λ_min on E and in every sector after some of them."""
        last, irreps = self.settings.epochs, None if self.large else self.irreps()
        marks = [k for k in WATCHED if k < last] + [last]
        work = len(self.like) * self.space.dim * least.products(irreps or []) * len(marks)
        if irreps is None or work > WATCHED_WORK:
            return self.epochs(theta, step, last)
        rows, risks, before = [], [], 0
        for mark in marks:
            theta, before = self.epochs(theta, step, mark - before), mark
            rows.append(least.lowest(self.problem, theta, irreps, self.settings.seed, self.settings.memory_gb))
            risks.append(float(self.problem.equivariant_risk(theta)))
        self.keep(training=least.History(step, tuple(marks), tuple(risks), tuple(rows)))
        return theta

    def report_points(self, points: list[StationaryPoint]) -> None:
        with _stage("points"):
            settings = self.settings
            reports = tuple(describe(self.problem, p, settings.seed, settings.distance_to_e) for p in points)
        self.keep(point=reports[0], points=reports)

    def spectra(self, point: StationaryPoint) -> dict[str, Solution]:
        """R^eqv on E, R^aug on E and on E⊥, R on L; dense where it fits, Lanczos otherwise."""
        problem, settings = self.problem, self.settings
        n, n_e = self.space.dim, self.space.dim_equivariant
        self.sectors = self.irreps()
        if self.large:
            return self.large_spectra()
        nominal = nominal_hessian(problem, self.at)
        self.size = certificates.size(nominal, self.like, settings.seed)
        self.roughness = self.rough_hessian(nominal)
        fits = n <= densest(settings, DENSE_LIMIT)
        dense = fits and self.sectors is None
        on_e = hessian_on_e(problem, self.theta)
        solutions: dict[str, Solution] = {}
        solutions["eqv.E"] = self.solve(on_e, on_e, n_e, "eqv-E")
        check_product(on_e, problem.equivariant_loss, self.theta, problem.samples, problem.weight_decay, settings.seed)
        solutions["eqv.E"] = self.certified(
            "E", solutions["eqv.E"], self.product_error(on_e, problem.equivariant_loss, self.theta)
        )

        data_route = problem.transform is not None
        self.families: tuple[FlatFamily, ...] = ()
        scale = max(abs(solutions["eqv.E"].spectrum.highest[0].value), problem.weight_decay, 1e-300)
        self.families, listed = flat.verify(
            problem.flat, nominal, self.space, problem.weight_decay, scale, settings.seed
        )
        enumerable = problem.moves <= GROUP_LIMIT
        average = augmented_hessian_from_group(problem, nominal) if enumerable else None
        self.exchanges = self.at.new_zeros(0, n)
        if problem.exchanges is not None and average is not None and point.converged:
            self.exchanges, more = flat.verify_exchanges(
                problem.exchanges(self.at), self.families, average, self.space, problem.weight_decay, scale
            )
            listed += more
        # An exchange is null only as far as the gradient vanishes; k of them move eigenvalues by √k of that at most.
        traded = [d.residual for d in listed if d.name.startswith("exchange")]
        floor = max(traded, default=0.0) * len(self.exchanges) ** 0.5
        self.keep(flat_directions=listed)
        if dense:
            with tqdm(total=n, desc="∇²R, dense", disable=None, leave=False) as bar:
                matrix = assemble(nominal, self.at, bar.update)
            with _stage("group average"):
                averaged = group_average(matrix, self.space, self.group)
            fresh = (
                augmented_hessian_from_data(problem, self.at)
                if data_route and enumerable
                else average
                if enumerable
                else Operator(n, lambda v: v @ averaged, "∇²R^aug, dense")
            )
            basis = self.space.embed(torch.eye(n_e, dtype=self.like.dtype, device=self.like.device))
            with _stage("spectrum of R^aug on E"):
                block = basis @ averaged @ basis.mT
                solutions["aug.E"] = dense_spectrum(
                    block, compress(fresh, self.space), settings.eigenvalues, floor=floor
                )
            with _stage("spectrum of R^aug on E⊥"):
                solutions["aug.E_perp"] = dense_spectrum(
                    averaged, transverse(fresh, self.space), settings.eigenvalues, basis, floor=floor
                )
            self.hvps += fresh.products * fresh.cost
            self.publish(solutions)
            with _stage("spectrum of R on L"):
                # Off stationarity no verdict rests on R's spectrum: its ends are enough, and far cheaper.
                decides = float(nominal.gradient.norm()) <= point.tolerance or n <= 1000
                solutions["nominal.L"] = (
                    dense_spectrum(matrix, nominal, settings.eigenvalues)
                    if decides
                    else self.krylov(Operator(n, lambda v: v @ matrix, "∇²R, dense"), nominal, n, "nominal-L", None)
                )
        elif self.sectors is not None:
            self.resolve(solutions, nominal, floor)
            self.publish(solutions)
            decides = float(nominal.gradient.norm()) <= point.tolerance or n <= 1000
            if krylov.room(settings.memory_gb, n, self.like.dtype, 2 * settings.eigenvalues) < 3 * settings.eigenvalues:
                why = f"--memory-gb {settings.memory_gb:g} holds too few vectors of {n:,} numbers"
                solutions["nominal.L"] = self.missing(n, why)
            else:
                with _stage("spectrum of R on L"):
                    solutions["nominal.L"] = (
                        dense_spectrum(assemble(nominal, self.at), nominal, settings.eigenvalues)
                        if fits and decides
                        else self.krylov(nominal, nominal, n, "nominal-L", None)
                    )
        else:
            solutions["nominal.L"] = self.krylov(nominal, nominal, n, "nominal-L", None)
            solutions["aug.E"] = self.solve(compress(nominal, self.space), compress(nominal, self.space), n_e, "aug-E")
            self.publish(solutions)
            affordable = average is not None and self.affordable(nominal)
            if affordable:
                known = self.families

                def search(v: Tensor) -> Tensor:
                    v = flat.complement(known, self.space, self.space.transverse_part(v))
                    return v - (v @ self.exchanges.mT) @ self.exchanges

                count = n - n_e - flat.count(known, self.space)[1] - self.exchange_counts()[1]
                fresh = augmented_hessian_from_data(problem, self.at) if data_route else average
                solutions["aug.E_perp"] = self.krylov(average, fresh, count, "aug-E_perp", search)
                self.hvps += average.products * average.cost
            else:
                why = (
                    f"an average over {self.group.name} takes {self.problem.moves:,} elements and as many nominal "
                    "products each step; a smaller --size or a smaller --group would give it"
                )
                solutions["aug.E_perp"] = self.missing(n - n_e, why)
        with _stage("checking the products"):
            check_product(nominal, problem.loss, self.at, problem.samples, problem.weight_decay, settings.seed + 1)
            missed = self.product_error(nominal, problem.loss, self.at)
            solutions["nominal.L"] = self.certified("L", solutions["nominal.L"], missed)
            if self.sectors is None:
                solutions["aug.E"] = self.certified("E", solutions["aug.E"], missed)
                solutions["aug.E_perp"] = self.certified("E_perp", solutions["aug.E_perp"], missed)
            self.kink = self.find_kink(solutions)
        self.hvps += nominal.products + on_e.products
        self.noted(nominal, on_e)
        self.publish(solutions)
        self.outcome.directions = self.leading_tensors(solutions)
        return solutions

    def noted(self, *operators: Operator) -> None:
        """Which slower route products took, and why, among the facts."""
        notes = [note for operator in operators for note in operator.notes]
        if notes:
            self.keep(facts={**self.outcome.analysis.facts, "products": "; ".join(notes)})

    def large_spectra(self) -> dict[str, Solution]:
        """As :meth:`spectra` through the equivariant layers alone: E and its sectors, nothing dense in L."""
        problem, n = self.problem, self.space.dim
        on_e, n_e = hessian_on_e(problem, self.theta), self.space.dim_equivariant
        if krylov.room(self.settings.memory_gb, n_e, self.like.dtype, 2 * self.settings.eigenvalues) >= SECTOR_STEPS:
            solutions = {"eqv.E": self.solve(on_e, on_e, n_e, "eqv-E")}
        else:
            solutions = {
                "eqv.E": search_sector(
                    problem,
                    self.theta,
                    trivial_irrep(self.group),
                    on_e,
                    n_e,
                    "eqv-E",
                    self.settings,
                    self.checkpoint,
                )
            }
            self.checkpoint.forget("lanczos-eqv-E")
        check_product(
            on_e, problem.equivariant_loss, self.theta, problem.samples, problem.weight_decay, self.settings.seed
        )
        self.size = certificates.norm(solutions["eqv.E"].spectrum)
        solutions["eqv.E"] = self.certified(
            "E", solutions["eqv.E"], self.product_error(on_e, problem.equivariant_loss, self.theta)
        )
        self.hvps += on_e.products
        self.families, self.exchanges = (), self.like.new_zeros(0, 0)
        self.publish(solutions)
        del on_e
        self.resolve(solutions, None, 0.0)
        solutions["nominal.L"] = self.missing(n, f"∇²R is no block of a sector, and vectors have {n:,} numbers")
        self.publish(solutions)
        self.outcome.directions = self.leading_tensors(solutions)
        return solutions

    def missing(self, n: int, why: str) -> Solution:
        """No spectrum, and why."""
        return Solution(Spectrum(n, (), (), None, None, f"not computed: {why}", 0, 0.0), self.at[:0], self.at[:0])

    def leading_tensors(self, solutions: dict[str, Solution]) -> dict[str, Tensor]:
        """The lowest modes on E⊥: all partners where they are small, else coordinates in the sector."""
        lowest = solutions["aug.E_perp"]
        if len(lowest.values) or self.sectors is None or self.leading is None:
            return {"E_perp.values": lowest.values, "E_perp.vectors": lowest.vectors}
        irrep, coordinates, _ = self.leading
        return {f"sector {irrep.name}.coordinates": coordinates}

    def irreps(self) -> list[tuple[Irrep, int]] | None:
        """The irreps in L with their sizes, those asked for; None where sectors are not resolved."""
        if self.settings.sectors == "none":
            if self.large:
                raise BadInput(
                    f"--sectors none: L has {self.space.dim:,} dimensions, too many to average over G; use all"
                )
            return None
        try:
            with _stage("irreps"):
                wanted = sectors.chosen(self.group, self.settings.sectors)
                found = [(v, size) for v, size in sectors.occurring(self.space)]
        except BadInput as error:
            # A proof that failed is no reason to go another way: what it contradicts may be E itself.
            if self.settings.sectors != "all" or self.large or isinstance(error, ArithmeticError):
                raise
            self.keep(facts={**self.outcome.analysis.facts, "sectors": f"not resolved: {error}"})
            return None
        return [(v, size) for v, size in found if wanted is None or v.name in wanted or v.is_trivial]

    def resolve(self, solutions: dict[str, Solution], nominal: Operator | None, floor: float) -> None:
        """R^aug sector by sector: E, and E⊥ as the union of the others; finished sectors survive an interruption."""
        settings, space = self.settings, self.space
        solved: dict[int, SolvedSector] = {}
        for number, one in self.solve_sectors(solutions["eqv.E"], nominal, floor):
            solved[number] = one
            self.hvps += one.hvps
            self.keep(sectors=tuple(self.described(i, solved[i], solved)[0] for i in sorted(solved)))
        found = [self.described(i, solved[i], solved) for i in range(len(self.sectors))]
        self.keep(sectors=tuple(sector for sector, _, _ in found))
        parts, lowest, budgets, at_ends = [], None, [], []
        for (irrep, _), (_, solution, budget) in zip(self.sectors, found, strict=True):
            if irrep.is_trivial:
                solutions["aug.E"] = solution
                continue
            budgets.append(budget)
            parts.append(solution.spectrum)
            at_ends.append((irrep, solution))
            value = float(solution.values.min())
            if lowest is None or value < lowest[0]:
                lowest = (value, irrep, solution.values, solution.vectors)
        self.wholes = [solutions["aug.E"].spectrum, *parts]
        self.ends = _ends(at_ends)
        total = space.dim - space.dim_equivariant
        spectrum = sectors.union(parts, total, settings.eigenvalues)
        values = vectors = self.like.new_zeros(0)
        self.leading = None
        if lowest is not None:
            _, irrep, ends, coordinates = lowest
            keep = int(ends.argmin())
            self.leading = (irrep, coordinates[keep], float(ends[keep]))
            if lowest[0] < 0:
                self.keep(facts={**self.outcome.analysis.facts, "leaves": residual_symmetry(irrep)})
            self.keep(mode=modes.picture(self.problem, self.theta, *self.leading))
            if irrep.dim * space.dim <= MODE_NUMBERS:
                vectors = sectors.lift(space, irrep, coordinates[keep])
                values = ends[keep].expand(len(vectors)).clone()
        solutions["aug.E_perp"] = Solution(spectrum, values, vectors)
        if budgets:
            self.budgets["E_perp"] = max(budgets, key=lambda b: b.total)

    def product_error(self, operator: Operator, loss: Callable[[Tensor, Samples], Tensor], at: Tensor) -> float:
        """What the products of an operator may be off by."""
        problem = self.problem
        return certificates.product_error(
            operator, loss, at, problem.samples, problem.weight_decay, self.settings.seed + 2
        )

    def certified(self, where: str, solution: Solution, products: float) -> Solution:
        """A solution with its whole error, noted in the budget of its space."""
        solution, self.budgets[where] = self.widened(solution, products)
        return solution

    def widened(self, solution: Solution, products: float) -> tuple[Solution, certificates.Budget]:
        spectrum, violated = solution.spectrum, self.outcome.analysis.assumptions or {}
        scale = max(self.size, certificates.norm(spectrum))
        products += rounding(self.size, spectrum.dim, self.like.dtype) + self.roughness
        symmetry = SYMMETRY * max(violated.values(), default=0.0) * scale
        wider = certificates.widen(spectrum, products + symmetry)
        budget = certificates.Budget(spectrum.error, products, symmetry, spectrum.error + products + symmetry)
        return replace(solution, spectrum=wider), budget

    def described(
        self, number: int, one: SolvedSector, solved: dict[int, SolvedSector]
    ) -> tuple[sectors.Sector, Solution, certificates.Budget | None]:
        """A sector as reports show it and its solution counted in L, with all that its eigenvalues may be off by."""
        irrep, size = self.sectors[number]
        solution, budget = one.solution, None
        if not irrep.is_trivial:  # E has its budget already
            worst = max((other.mismatch or 0.0 for other in solved.values()), default=0.0)
            # Where no product was compared, the worst comparison elsewhere stands in.
            off = worst * certificates.frobenius(solution.spectrum) if one.off is None else one.off
            solution, budget = self.widened(solution, certificates.PROBE * off)
        whole = sectors.in_whole_space(solution.spectrum, irrep)
        sector = sectors.describe(irrep, size, whole, one.hvps, one.mismatch)
        return sector, Solution(whole, solution.values, solution.vectors), budget

    def solve_sectors(
        self, on_e: Solution, nominal: Operator | None, floor: float
    ) -> Iterator[tuple[int, SolvedSector]]:
        """(number, sector) as they are solved: those stored first, then in order here, or as workers send them."""
        missing = []
        for number, (irrep, _) in enumerate(self.sectors):
            if irrep.is_trivial:  # B_λ of the trivial irrep is ∇²R^eqv on E, which was solved already
                yield number, SolvedSector(on_e, 0, None, None)
            elif stored := self.checkpoint.load(_sector_file(irrep.name), partial(self.stored_sector, number)):
                yield number, stored
            else:
                missing.append(number)
        if self.pool is None:
            for number in tqdm(missing, desc="sectors", disable=None, leave=False):
                yield number, self.solve_here(number, nominal, floor)
            return
        share = self.pool.memory_gb() or self.settings.memory_gb / self.pool.workers
        settings = replace(self.settings, at="point", memory_gb=share)
        if self.settings.shards > 1:
            large = [number for number in missing if self.sectors[number][1] > densest(settings, DENSE_LIMIT)]
            missing = [number for number in missing if number not in large]
            for number in tqdm(large, desc="large sectors", disable=None, leave=False):
                yield number, self.solve_here(number, nominal, floor, self.in_shards(number))
        theta = self.pool.share(pack({"theta": self.theta}))
        names = [(self.sectors[number][0].name, self.sectors[number][1]) for number in missing]
        jobs = [(self.handle, theta, *one, floor, settings, number) for one, number in zip(names, missing, strict=True)]
        # A dense block costs the square of its size in products or the cube in arithmetic, whichever is the larger.
        weights = [size**2 * self.sectors[number][0].dim for (_, size), number in zip(names, missing, strict=True)]
        for place, message in self.pool.run(sector_job, jobs, "sectors", weights):
            tensors, metadata = unpack(message)
            one = SolvedSector.unpacked({k: v.to(self.like) for k, v in tensors.items()}, metadata)
            self.keep_sector(self.sectors[missing[place]][0], one)
            yield missing[place], one

    def stored_sector(self, number: int, tensors: dict[str, Tensor], metadata: dict[str, str]) -> SolvedSector:
        """A sector that was kept."""
        irrep, size = self.sectors[number]
        if metadata["irrep"] != irrep.name:
            raise BadInput(f"it holds the sector {metadata['irrep']}, not {irrep.name}")
        return SolvedSector.stored(tensors, metadata, size, self.like)

    def in_shards(self, number: int) -> Callable[[Tensor], Operator]:
        """θ ↦ B_λ of a sector, its products summed over shards of the samples."""
        irrep = self.sectors[number][0]
        return lambda theta: sharded_hessian(self.pool, self.source, theta, self.settings.shards, irrep)

    def solve_here(
        self,
        number: int,
        nominal: Operator | None,
        floor: float,
        block: Callable[[Tensor], Operator] | None = None,
    ) -> SolvedSector:
        """A sector solved by this process, whoever makes its products."""
        irrep, size = self.sectors[number]
        one = solve_sector(
            self.problem, self.theta, irrep, size, nominal, floor, self.settings, number, self.checkpoint, block
        )
        self.keep_sector(irrep, one)
        return one

    def keep_sector(self, irrep: Irrep, one: SolvedSector) -> None:
        """A finished sector survives an interruption."""
        tensors, metadata = one.packed()
        self.checkpoint.save(_sector_file(irrep.name), tensors, irrep=irrep.name, **metadata)
        self.checkpoint.forget(f"lanczos-{_sector_file(irrep.name)}-run")  # its basis is large, and no longer wanted

    def affordable(self, nominal: Operator) -> bool:
        began = time.perf_counter()
        nominal(self.at)
        return (time.perf_counter() - began) * self.problem.moves * LANCZOS_STEPS <= SECONDS_PER_SPECTRUM

    def publish(self, solutions: dict[str, Solution]) -> None:
        spectra: dict[str, dict[str, Spectrum]] = {}
        for key, solution in solutions.items():
            risk, where = key.split(".")
            spectra.setdefault(risk, {})[where] = solution.spectrum
        self.keep(spectra=spectra)

    def solve(self, operator: Operator, fresh: Operator, n: int, name: str) -> Solution:
        """Dense up to a few thousand dimensions, Lanczos beyond."""
        if n <= densest(self.settings, DENSE_SPECTRUM_E):
            with _stage(f"spectrum {name}"):
                return dense_spectrum(assemble(operator, self.like), fresh, self.settings.eigenvalues)
        return self.krylov(operator, fresh, n, name, None)

    def krylov(
        self, operator: Operator, fresh: Operator, n: int, name: str, project: Callable[[Tensor], Tensor] | None
    ) -> Solution:
        """Both ends by Lanczos."""
        k = self.settings.eigenvalues
        plan = krylov.Plan(LANCZOS_STEPS, k, k, False, self.settings.seed, self.settings.memory_gb)
        return krylov.run(operator, fresh, n, name, plan, self.like, self.checkpoint, project)

    def identities(self) -> None:
        if self.large:
            why = f"L has {self.space.dim:,} dimensions; the identities need dense vectors of L"
            none = dict.fromkeys(identities.NAMES)
            self.keep(identities={**none, "reasons": dict.fromkeys(identities.NAMES, why)})
            return
        limit = GROUP_LIMIT if self.problem.moves * len(self.like) <= MOVED_SAMPLES else 1
        with _stage("identities"):
            measured = identities.measure(self.problem, self.theta, self.settings.seed, limit, self.scale)
        self.keep(identities={**measured.errors, "reasons": measured.reasons})

    def verdicts(self, point: StationaryPoint, solutions: dict[str, Solution]) -> None:
        problem, report = self.problem, self.outcome.analysis.point
        on_e, on_perp = flat.count(self.families, self.space)
        if problem.weight_decay > 0:  # then a flat family has eigenvalue μ, not zero; exchanges stay null
            on_e = on_perp = 0
        traded = self.exchange_counts()
        on_e, on_perp = on_e + traded[0], on_perp + traded[1]
        perp_spectrum = solutions["aug.E_perp"].spectrum
        near = self.stationarity(point, solutions, on_e)
        proven = near.kantorovich.shift if near.kantorovich else None
        moves = {"shift_all": near.shift_all, "proven_shift": proven}
        moves_e = moves if near.shift_all_E is None else {**moves, "shift_all": near.shift_all_E}
        e_aug = Block("E", solutions["aug.E"].spectrum, on_e, near.shift_E, **moves_e)
        e_eqv = Block("E", solutions["eqv.E"].spectrum, on_e, near.shift_E, **moves_e)
        across_e = Block("E⊥", perp_spectrum, on_perp, missing=perp_spectrum.method)
        perp = replace(across_e, newton_shift=near.shift_E_perp, **moves)
        no_nominal, shift, shift_all = self.nominal_point(solutions)
        whole = Block("L", solutions["nominal.L"].spectrum, on_e + on_perp, shift, shift_all=shift_all)
        kink, rough, doubt = report.kink_margin, self.rough(), self.rough() or _no_point(near)
        eqv = judge([e_eqv], report.grad_norm["eqv"], point.tolerance, kink, doubt)
        aug = judge([e_aug, perp], report.grad_norm["aug"], point.tolerance, kink, doubt)
        nominal = judge([whole], report.grad_norm["nominal"], point.tolerance, kink, rough or no_nominal)
        # The block on E⊥ alone is a statement about A itself: no Newton step enters.
        across = judge([across_e], kink_margin=kink, doubt=rough)
        certificate = certificates.Certificate(dict(self.budgets), near, self.kink.size if self.kink else None)
        lowest, highest = perp_spectrum.smallest, perp_spectrum.largest
        top = solutions["eqv.E"].spectrum.largest
        self.keep(
            certificate=certificate,
            verdict=Verdicts(
                eqv=eqv,
                aug=aug,
                nominal=nominal,
                transverse=across,
                proposition_3=proposition_3(nominal, aug, eqv),
                critical_penalty=max(0.0, -lowest.value) if lowest else None,
                growth_rate=max(0.0, -lowest.value) if lowest else None,
                critical_step={
                    "E": 2 / top.value if top and top.value > 0 else None,
                    "E_perp": 2 / highest.value if highest and highest.value > 0 else None,
                },
            ),
        )

    def exchange_counts(self) -> tuple[int, int]:
        """Null exchanges in E and in E⊥."""
        if not len(self.exchanges):
            return 0, 0
        on_e = round(float(self.space.project(self.exchanges).square().sum()))
        return on_e, len(self.exchanges) - on_e

    def rough_hessian(self, nominal: Operator) -> float:
        """A bound on what rounding inside a sample makes of ∇²R(A): ‖Δ(δ) − Δ(2δ)/4‖, Δ(δ) = ½(H(A+δ) + H(A−δ)) − H(A).

        Of a smooth risk fourth differences are left, some 10⁻²⁴; of one that computes (s + B) − B the steps in which s
        is seen, which no repetition at A itself shows.
        """
        generator = torch.Generator().manual_seed(self.settings.seed)
        step = torch.randn(len(self.at), generator=generator, dtype=torch.float64).to(self.at)
        step = step * (ROUGH * size(self.at) / float(step.norm().clamp_min(1e-300)))
        a, b, c, d = (nominal_hessian(self.problem, self.at + k * step) for k in (1, -1, 2, -2))

        def apply(v: Tensor) -> Tensor:
            return 0.5 * (a(v) + b(v)) - 0.125 * (c(v) + d(v)) - 0.75 * nominal(v)

        left = Operator(nominal.dim, apply, "what is rough of ∇²R", batch=nominal.batch)
        with _stage("rounding inside the risk"):
            return certificates.norm_bound(left, self.like, self.settings.seed)

    def find_kink(self, solutions: dict[str, Solution]) -> kinks.Bend | None:
        """A kink of R at the point, looked for where the signs are decided: at both ends of every sector.

        Of the partners of an end one Gaussian combination stands for all: what bends along any of them bends along it.
        """
        generator = torch.Generator().manual_seed(self.settings.seed)
        rows = []
        for irrep, v in self.ends:
            partners = sectors.lift(self.space, irrep, v)
            c = torch.randn(len(partners), generator=generator, dtype=torch.float64).to(partners)
            rows.append(c @ partners)
        ends = solutions.get("eqv.E")
        if ends is not None and len(ends.values):
            rows += [self.space.embed(ends.vectors[int(k)]) for k in (ends.values.argmin(), ends.values.argmax())]
        if self.sectors is None and (ends := solutions.get("aug.E_perp")) is not None and len(ends.values):
            rows += [ends.vectors[int(k)] for k in (ends.values.argmin(), ends.values.argmax())]
        rows = [row for row in rows if float(row.norm()) > 0]
        return kinks.kink(self.problem, self.at, torch.stack(rows) if rows else None, self.settings.seed)

    def rough(self) -> str:
        """Why the Hessian says nothing, where the risk has none."""
        return "" if self.kink is None else kinks.said(self.kink)

    def stationarity(
        self, point: StationaryPoint, solutions: dict[str, Solution], known_zeros: int
    ) -> certificates.Stationarity:
        """Where the stationary point next to θ is, and what the way to it changes in the spectra."""
        spectrum = solutions["eqv.E"].spectrum
        if not point.converged and self.settings.at != "point":
            return certificates.stationarity(self.problem, self.theta, None, certificates.norm(spectrum))
        if self.space.dim_equivariant > DENSE_E_LIMIT:
            near, end = self.one_step(spectrum)
            times, rows = certificates.steps_to_come(near), None
        else:
            near, end, rows = self.approached(spectrum)
            times = 1.0
        if end is None or not point.converged:
            return near
        nominal = None if self.large else nominal_hessian(self.problem, self.space.embed(end))
        shift_e, shift_perp = self.quotients_moved(end, nominal, solutions)
        shift_all, doubt, embed = None, 0.0, self.space.embed
        if nominal is not None:
            with _stage("what the way to the stationary point changes"):
                # Averaging over G contracts: no eigenvalue of ∇²R^aug moves further than the change of ∇²R.
                if solutions["aug.E_perp"].spectrum.lower_bound is not None or rows is not None:
                    shift_all = self.change(nominal_hessian, self.at, embed(end - self.theta))
                if rows is not None:
                    doubt = max(self.change(nominal_hessian, embed(end), embed(row)) for row in rows)
            self.hvps += nominal.products
        shift_all_e, doubt_e = None, doubt
        if rows is not None:
            shift_all_e = self.change(hessian_on_e, self.theta, end - self.theta)
            doubt_e = max(self.change(hessian_on_e, end, row) for row in rows)
        proof = None
        if not self.large:
            proof = certificates.kantorovich(self.problem, self.theta, spectrum, known_zeros, near)
        return replace(
            near,
            shift_E=times * shift_e + doubt_e,
            shift_E_perp=times * shift_perp + doubt,
            shift_all=None if shift_all is None else times * shift_all + doubt,
            shift_all_E=None if shift_all_e is None else shift_all_e + doubt_e,
            kantorovich=proof,
            doubt=doubt,
        )

    def one_step(self, spectrum: Spectrum) -> tuple[certificates.Stationarity, Tensor | None]:
        """By one Newton step of MINRES, where E is too large for a dense Hessian."""
        operator = hessian_on_e(self.problem, self.theta)
        gradient = grad(self.problem.equivariant_risk)(self.theta)
        with _stage("one more Newton step"):
            step = -torch.as_tensor(self.inverted(operator, gradient.cpu().double().numpy())).to(self.like)
        self.hvps += operator.products
        near = certificates.stationarity(self.problem, self.theta, step, certificates.norm(spectrum))
        return near, self.theta + step

    def approached(self, spectrum: Spectrum) -> tuple[certificates.Stationarity, Tensor, Tensor]:
        """By chord steps on E until noise is left, with the displacements that it leaves open."""
        problem, theta, seed = self.problem, self.theta, self.settings.seed
        matrix = assemble(equivariant_hessian(problem, theta), self.like)
        inverse = nearby.Inverse.of(matrix, spectrum.error)
        back = certificates.flipped(problem.samples)

        def gradient(x: Tensor) -> Tensor:
            return certificates.gradient_on_e(problem, x)

        rounding_error = nearby.noise(
            gradient, lambda x: certificates.gradient_on_e(problem, x, back), lambda v: matrix @ v, theta, seed
        )
        # The rounding of θ itself makes a gradient too, but hides none.
        top, eps = certificates.norm(spectrum) + problem.weight_decay, torch.finfo(self.like.dtype).eps
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

    def quotients_moved(
        self, end: Tensor, nominal: Operator | None, solutions: dict[str, Solution]
    ) -> tuple[float, float]:
        """How far the lowest quotients on E and on E⊥ move from θ to the end."""
        problem, on_e, across = self.problem, solutions["aug.E"], solutions["aug.E_perp"]
        shift_e = shift_perp = 0.0
        if len(on_e.values):
            v = on_e.lowest_vector
            shift_e = abs(float(v @ hessian_on_e(problem, end)(v)) - float(on_e.values.min()))
        if self.sectors is not None:
            if self.leading is not None:
                irrep, v, value = self.leading
                operator = sectors.sector_hessian(problem, end, irrep, nominal, self.settings.memory_gb)
                shift_perp = abs(float(v @ operator(v)) - value)
        elif len(across.values):
            v = across.lowest_vector
            operator = augmented_hessian_from_group(problem, nominal)
            shift_perp = abs(float(v @ operator(v)) - float(across.values.min()))
        return shift_e, shift_perp

    def change(self, make: Callable[[Problem, Tensor], Operator], start: Tensor, delta: Tensor) -> float:
        """A bound on ‖H(A + δ) − H(A)‖ for the Hessian that ``make`` gives at a point."""
        if not float(delta.norm()) > 0:
            return 0.0
        longer, times = nearby.lengthened(delta, start)
        here, there = (make(self.problem, at) for at in (start, start + longer))
        moved = Operator(here.dim, lambda v: there(v) - here(v), "the change of the Hessian", batch=here.batch)
        bound = certificates.norm_bound(moved, self.like, self.settings.seed) / times
        self.hvps += here.products + there.products
        return bound

    def inverted(self, operator: Operator, right: np.ndarray) -> np.ndarray:
        """H⁻¹b by MINRES, in double precision around the products whatever theirs is."""
        product = LinearOperator(
            (operator.dim, operator.dim),
            matvec=lambda v: operator(torch.as_tensor(v).to(self.like)).cpu().double().numpy(),
            dtype=float,
        )
        return minres(product, right, rtol=1e-8, maxiter=NEWTON_PRODUCTS)[0]

    def nominal_point(self, solutions: dict[str, Solution]) -> tuple[str, float, float | None]:
        """Why a vanishing ∇R is not believed, else ""; how far the way to the stationary point of R moves the lowest
        quotient of ∇²R, and any eigenvalue."""
        report, solution = self.outcome.analysis.point, solutions["nominal.L"]
        if self.large or not report.grad_norm["nominal"] <= report.tolerance or not solution.spectrum.lowest:
            return "", 0.0, None
        problem, at, seed, spectrum = self.problem, self.at, self.settings.seed, solution.spectrum
        operator = nominal_hessian(problem, at)
        back = certificates.flipped(problem.samples)

        def gradient(a: Tensor, samples: Samples = problem.samples) -> Tensor:
            return grad(lambda b: problem.loss(b, samples) + problem.penalty(b))(a)

        inverse = None
        if len(at) <= DENSE_NOMINAL:
            inverse = nearby.Inverse.of(assemble(operator, at), spectrum.error)

        def invert(g: Tensor) -> Tensor:
            if inverse is not None:
                return inverse.step(g)
            return -torch.as_tensor(self.inverted(operator, g.cpu().double().numpy())).to(at)

        found = nearby.noise(gradient, lambda a: gradient(a, back), operator, at, seed)
        noise = found + 4 * torch.finfo(at.dtype).eps * certificates.norm(spectrum) * float(at.norm())
        way = nearby.approach(gradient, at, invert, found / nearby.MARGIN)
        unresolved = 0.0 if inverse is None else inverse.unresolved(way.gradient)
        near = certificates.Stationarity(
            way.before, noise, way.step, way.after, way.left <= noise and unresolved <= found, left=way.left
        )
        rows = [invert(way.gradient)[None], nearby.rounded(way.end, seed)]
        if inverse is not None:
            rows.append(inverse.displacements(found, seed))
        with _stage("what the way to the stationary point of R changes"):
            doubt = max(self.change(nominal_hessian, way.end, row) for row in torch.cat(rows))
            shift_all = self.change(nominal_hessian, at, way.end - at) + doubt
        v = solution.lowest_vector
        moved = nominal_hessian(problem, way.end)
        shift = abs(float(v @ moved(v)) - float(solution.values.min())) + doubt
        self.hvps += operator.products + moved.products
        return _no_point(near, "∇R"), shift, shift_all

    def escape(self, solutions: dict[str, Solution]) -> None:
        """From an unstable point: a push along the most negative direction, then exact augmented descent."""
        verdict = self.outcome.analysis.verdict
        lowest = solutions["aug.E_perp"]
        work = self.problem.moves * len(self.like) * self.space.dim
        if (
            verdict.aug.status != "unstable"
            or not len(lowest.values)
            or self.problem.transform is None
            or self.settings.escape_iterations < 1
            or work > 1e9
        ):
            return
        with _stage("following the instability"):
            push = 1e-2 * max(float(self.at.norm()), 1.0)
            direction = lowest.lowest_vector
            end, risk, iterations = minimise_augmented(
                self.problem, self.at + push * direction, self.settings.escape_iterations
            )
        report = self.outcome.analysis.point
        self.outcome.directions["escape.end"] = end
        self.keep(
            escape=Escape(
                risk_start=report.risk["aug"],
                risk_end=risk,
                metrics_start=report.metrics,
                metrics_end=scores(self.problem, None, end),
                push=push,
                off_equivariance=float(self.space.transverse_part(end).norm()),
                travelled=float((end - self.at).norm()),
                iterations=iterations,
            )
        )

    def pictures(self, points: list[StationaryPoint], solutions: dict[str, Solution]) -> None:
        """What only figures need, at the point judged; λ_min sector by sector at the other points."""
        if not self.settings.pictures:
            return
        problem, settings, reports = self.problem, self.settings, self.outcome.analysis.points
        shares, omitted = pictures.shares(
            problem, self.theta, self.outcome.analysis.spectra, self.sectors, self.large, settings.seed
        )
        if self.large:
            found = pictures.Pictures(
                omitted={"landscape": f"R^aug of {self.space.dim:,} weights is known sector by sector only"}
            )
        else:
            end, stationary = self.outcome.directions.get("escape.end"), points[0].converged
            found = pictures.landscape(
                problem, self.theta, solutions, self.sectors, stationary, end, settings.seed, _stage
            )
        self.keep(pictures=replace(found, shares=shares, omitted={**found.omitted, **omitted}))
        work = len(self.like) * self.space.dim * least.products(self.sectors or [])
        if len(points) > 1 and self.sectors is not None and not self.large and work <= WATCHED_WORK / 5:
            with _stage("the other points"):
                lowest = [
                    least.lowest(problem, p.theta, self.sectors, settings.seed, settings.memory_gb)
                    for p in points[:OTHER_POINTS]
                ]
            reports = tuple(
                replace(report, lowest=lowest[i] if i < len(lowest) else ()) for i, report in enumerate(reports)
            )
            self.keep(point=reports[0], points=reports)


def _ends(found: list[tuple[Irrep, Solution]]) -> list[tuple[Irrep, Tensor]]:
    """Coordinates of the lowest vector of every sector and of the highest, the lowest sectors first."""
    ordered = sorted((f for f in found if len(f[1].values)), key=lambda f: float(f[1].values.min()))
    low = [(irrep, s.vectors[int(s.values.argmin())]) for irrep, s in ordered]
    high = [(irrep, s.vectors[int(s.values.argmax())]) for irrep, s in ordered]
    return [*low[:PROBED], *high[: PROBED // 3]]


def _no_point(near: certificates.Stationarity, what: str = "∇R^eqv") -> str:
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


def _header(problem: Problem, settings: Settings, header: dict) -> Analysis:
    space = problem.space
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "scipy": scipy.__version__,
        "numpy": np.__version__,
        "stability": __version__,
    }
    layers = tuple(
        {"name": layer.name, "source": layer.source.name, "target": layer.target.name, "dim": layer.dim, "dim_E": size}
        for layer, size in zip(space.layers, space.sizes, strict=True)
    )
    plain = {
        "task": problem.name,
        "size": "custom",
        "seed": settings.seed,
        "dtype": str(problem.samples.x.dtype).removeprefix("torch."),
        "activation": "custom",
        "weight_decay": problem.weight_decay,
        "samples": len(problem.samples.x),
        "versions": versions,
        "group": {"name": problem.group.name, "order": problem.group.order, "moduli": cyclic_moduli(problem.group)},
        "dims": {"L": space.dim, "E": space.dim_equivariant, "E_perp": space.dim - space.dim_equivariant},
        "facts": dict(problem.facts) | _rule(problem),
        "layers": layers,
    }
    return Analysis(**(plain | header))


def _rule(problem: Problem) -> dict[str, str]:
    """How averages over a Lie group are taken."""
    if problem.group.order is not None:
        return {}
    if math.isinf(problem.moves):
        return {"average": f"no quadrature of {problem.group.name} is known; sectors need none"}
    return {"average": f"{problem.moves:,} nodes, exact at points of E: degree {problem.degree}"}


def output_folder(task: str, size: str, seed: int) -> Path:
    """Where a run writes by default; two factories of one file have folders of their own.

    >>> output_folder("trans", "small", 0).name, output_folder("nets/mine.py:ring", "custom", 3).name
    ('trans-small-seed0', 'mine-ring-custom-seed3')
    """
    file, _, factory = task.partition(":")
    name = "-".join(part for part in (Path(file).stem, factory) if part)
    return Path("reports") / f"{name}-{size}-seed{seed}"
