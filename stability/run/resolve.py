"""R^aug irrep by irrep: E, and E⊥ as the union of the other sectors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from tqdm import tqdm

from stability.base.cluster import pack, unpack
from stability.base.errors import BadInput
from stability.base.progress import stage
from stability.curvature.at import At
from stability.effects import modes
from stability.eigen.spectrum import Solution, Spectrum
from stability.groups import Irrep, residual_symmetry
from stability.run import solve
from stability.run.errors import Errors
from stability.run.given import Given, Workers
from stability.run.sector import SolvedSector, run_file, sector_file, sector_job, solve_sector
from stability.spectra import sectors
from stability.spectra.shards import sharded_hessian
from stability.verdicts import certificates

# The irreps in L with dim_R M_λ.
Irreps = list[tuple[Irrep, int]]


@dataclass(frozen=True)
class Leading:
    """The lowest mode on E⊥, by its coordinates in its sector: (irrep, coordinates, eigenvalue).

    Attributes:
        irrep: its sector.
        coordinates: unit, in the sector.
        value: its eigenvalue.
    """

    irrep: Irrep
    coordinates: Tensor
    value: float


@dataclass(frozen=True)
class Resolved:
    """All sectors at one point.

    Attributes:
        aug_e: the trivial sector.
        across: the union of the others, with the partners of the lowest mode where they are small.
        parts: their spectra, counted in L.
        lowest, highest: (irrep, coordinates) of the end of every sector but the trivial one, the lowest sectors first.
        leading: the lowest mode; None where E⊥ = {0}.
        budget: of the errors in the worst of them.
    """

    aug_e: Solution
    across: Solution
    parts: list[Spectrum]
    lowest: list[tuple[Irrep, Tensor]]
    highest: list[tuple[Irrep, Tensor]]
    leading: Leading | None
    budget: certificates.Budget | None

    @property
    def wholes(self) -> list[Spectrum]:
        """Spectra that together are that of L."""
        return [self.aug_e.spectrum, *self.parts]


def irreps_of(given: Given, large: bool) -> Irreps | None:
    """The irreps in L with their sizes, those asked for; None where sectors are not resolved, said among the facts.

    Args:
        given: the run.
        large: whether no vector of L is made, so that there is no other way.

    Raises:
        BadInput: there is no other way; an unknown irrep; a proof of completeness that failed.
    """
    settings, space = given.settings, given.problem.space
    if settings.sectors == "none":
        if large:
            raise BadInput(f"--sectors none: L has {space.dim:,} dimensions, too many to average over G; use all")
        return None
    try:
        with stage("irreps"):
            wanted = sectors.chosen(space.group, settings.sectors)
            found = list(sectors.occurring(space))
    except BadInput as error:
        # A proof that failed is no reason to go another way: what it contradicts may be E itself.
        if settings.sectors != "all" or large or isinstance(error, ArithmeticError):
            raise
        given.ledger.fact("sectors", f"not resolved: {error}")
        return None
    return [(v, size) for v, size in found if wanted is None or v.name in wanted or v.is_trivial]


def resolved(given: Given, at: At, irreps: Irreps, on_e: Solution, floor: float, errors: Errors) -> Resolved:
    """R^aug sector by sector; finished sectors survive an interruption.

    Args:
        given: the run.
        at: the point.
        irreps: those wanted, the trivial one among them.
        on_e: the spectrum of R^eqv on E, which is that of the trivial sector.
        floor: least error granted, for null directions that are null only as far as a gradient vanishes.
        errors: what the others are widened by.
    """
    settings, ledger = given.settings, given.ledger
    done: dict[int, SolvedSector] = {}
    for number, one in _solved(given, at, irreps, on_e, floor):
        done[number] = one
        ledger.hvps += one.hvps
        ledger.keep(sectors=tuple(_described(irreps[i], done[i], done, errors)[0] for i in sorted(done)))
    found = [_described(irreps[i], done[i], done, errors) for i in range(len(irreps))]
    ledger.keep(sectors=tuple(sector for sector, _, _ in found))
    others = [(v, s, budget) for (v, _), (_, s, budget) in zip(irreps, found, strict=True) if not v.is_trivial]
    trivial = next(s for (v, _), (_, s, _) in zip(irreps, found, strict=True) if v.is_trivial)
    parts = [s.spectrum for _, s, _ in others]
    total = at.problem.space.dim - at.problem.space.dim_equivariant
    leading, values, vectors = _leading(given, at, [(v, s) for v, s, _ in others])
    ordered = sorted(((v, s) for v, s, _ in others if len(s.values)), key=lambda f: float(f[1].values.min()))
    return Resolved(
        aug_e=trivial,
        across=Solution(sectors.union(parts, total, settings.eigenvalues), values, vectors),
        parts=parts,
        lowest=[(v, s.vectors[int(s.values.argmin())]) for v, s in ordered],
        highest=[(v, s.vectors[int(s.values.argmax())]) for v, s in ordered],
        leading=leading,
        budget=max((b for *_, b in others if b is not None), key=lambda b: b.total, default=None),
    )


def _leading(given: Given, at: At, others: list[tuple[Irrep, Solution]]) -> tuple[Leading | None, Tensor, Tensor]:
    """The lowest mode of all sectors of E⊥; its eigenvalues and vectors in L where its partners are small."""
    none = given.like.new_zeros(0)
    if not others:
        return None, none, none
    irrep, solution = min(others, key=lambda f: float(f[1].values.min()))
    keep = int(solution.values.argmin())
    found = Leading(irrep, solution.vectors[keep], float(solution.values[keep]))
    if found.value < 0:
        given.ledger.fact("leaves", residual_symmetry(irrep))
    given.ledger.keep(mode=modes.picture(at.problem, at.theta, irrep, found.coordinates, found.value))
    space = at.problem.space
    if irrep.dim * space.dim > given.limits.mode_numbers:
        return found, none, none
    vectors = sectors.lift(space, irrep, found.coordinates)
    return found, solution.values[keep].expand(len(vectors)).clone(), vectors


def _described(
    of: tuple[Irrep, int], one: SolvedSector, done: dict[int, SolvedSector], errors: Errors
) -> tuple[sectors.Sector, Solution, certificates.Budget | None]:
    """A sector as reports show it and its solution counted in L, with all that its eigenvalues may be off by."""
    irrep, size = of
    solution, budget = one.solution, None
    if not irrep.is_trivial:  # E has its budget already
        worst = max((other.mismatch or 0.0 for other in done.values()), default=0.0)
        # Where no product was compared, the worst comparison elsewhere stands in.
        off = worst * certificates.frobenius(solution.spectrum) if one.off is None else one.off
        solution, budget = errors.widened(solution, certificates.PROBE * off)
    whole = sectors.in_whole_space(solution.spectrum, irrep)
    sector = sectors.describe(irrep, size, whole, one.hvps, one.mismatch)
    return sector, Solution(whole, solution.values, solution.vectors), budget


def _solved(given: Given, at: At, irreps: Irreps, on_e: Solution, floor: float) -> Iterator[tuple[int, SolvedSector]]:
    """(number, sector) as they are solved: those stored first, then in order here, or as workers send them."""
    left = []
    for number, (irrep, size) in enumerate(irreps):
        if irrep.is_trivial:  # B_λ of the trivial irrep is ∇²R^eqv on E, which was solved already
            yield number, SolvedSector(on_e, 0, None, None)
        elif stored := given.checkpoint.load(sector_file(irrep.name), partial(_stored, irrep, size, given.like)):
            yield number, stored
        else:
            left.append(number)
    if given.workers is not None:
        yield from _spread(given, given.workers, at, irreps, left, floor)
        return
    for number in tqdm(left, desc="sectors", disable=None, leave=False):
        yield number, _here(given, at, irreps, number, floor)


def _stored(
    irrep: Irrep, size: int, like: Tensor, tensors: dict[str, Tensor], metadata: dict[str, str]
) -> SolvedSector:
    """A sector that was kept."""
    if metadata["irrep"] != irrep.name:
        raise BadInput(f"it holds the sector {metadata['irrep']}, not {irrep.name}")
    return SolvedSector.stored(tensors, metadata, size, like)


def _here(
    given: Given, at: At, irreps: Irreps, number: int, floor: float, block: solve.Block | None = None
) -> SolvedSector:
    """A sector solved by this process, whoever makes its products."""
    irrep, size = irreps[number]
    one = solve_sector(at, irrep, size, floor, given.settings, number, given.checkpoint, block)
    _keep(given, irrep, one)
    return one


def _keep(given: Given, irrep: Irrep, one: SolvedSector) -> None:
    """A finished sector survives an interruption."""
    tensors, metadata = one.packed()
    given.checkpoint.save(sector_file(irrep.name), tensors, irrep=irrep.name, **metadata)
    given.checkpoint.forget(f"lanczos-{run_file(irrep.name)}")  # its basis is large, and no longer wanted


def _spread(
    given: Given, workers: Workers, at: At, irreps: Irreps, left: list[int], floor: float
) -> Iterator[tuple[int, SolvedSector]]:
    """Sectors by workers: whole ones side by side, after the large ones whose samples are shared out."""
    pool = workers.pool
    share = pool.memory_gb() or given.settings.memory_gb / pool.workers
    settings = replace(given.settings, at="point", memory_gb=share)
    if settings.shards > 1:
        most = solve.densest(settings, given.limits.dense)
        large = [number for number in left if irreps[number][1] > most]
        left = [number for number in left if number not in large]
        for number in tqdm(large, desc="large sectors", disable=None, leave=False):
            yield number, _here(given, at, irreps, number, floor, _in_shards(workers, settings.shards, irreps[number]))
    theta = pool.share(pack({"theta": at.theta}))
    jobs = [
        (workers.handle, theta, irreps[number][0].name, irreps[number][1], floor, settings, number) for number in left
    ]
    # A dense block costs the square of its size in products or the cube in arithmetic, whichever is the larger.
    weights = [irreps[number][1] ** 2 * irreps[number][0].dim for number in left]
    for place, message in pool.run(sector_job, jobs, "sectors", weights):
        tensors, metadata = unpack(message)
        one = SolvedSector.unpacked({k: v.to(given.like) for k, v in tensors.items()}, metadata)
        _keep(given, irreps[left[place]][0], one)
        yield left[place], one


def _in_shards(workers: Workers, count: int, of: tuple[Irrep, int]) -> solve.Block:
    """θ ↦ B_λ of a sector, its products summed over shards of the samples."""
    return lambda theta: sharded_hessian(workers.pool, workers.source, theta, count, of[0])


def probes(at: At, found: Resolved, most: int, seed: int) -> list[Tensor]:
    """Directions of L in which a kink would decide: at both ends of every sector.

    Of the partners of an end one Gaussian combination stands for all: what bends along any of them bends along it.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for irrep, v in [*found.lowest[:most], *found.highest[: most // 3]]:
        partners = sectors.lift(at.problem.space, irrep, v)
        c = torch.randn(len(partners), generator=generator, dtype=torch.float64).to(partners)
        rows.append(c @ partners)
    return rows
