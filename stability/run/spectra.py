"""R^eqv on E, R^aug on E and on E⊥, R on L: dense where it fits, sector by sector or by Lanczos otherwise."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from tqdm import tqdm

from stability.base.progress import stage
from stability.curvature.at import At, Dense
from stability.curvature.automatic import (
    augmented_hessian_from_data,
    augmented_hessian_from_group,
    check_product,
    compress,
    group_average,
    transverse,
)
from stability.eigen import krylov
from stability.eigen.dense import dense_spectrum
from stability.eigen.operator import Operator, assemble
from stability.eigen.spectrum import Solution
from stability.groups import trivial_irrep
from stability.networks import kinks
from stability.points.stationary import StationaryPoint
from stability.problem.problem import FlatFamily
from stability.problem.space import ParameterSpace
from stability.run import errors, resolve, solve
from stability.run.errors import Errors
from stability.run.given import Given
from stability.run.resolve import Irreps, Resolved
from stability.spectra.record import Spectra, table
from stability.verdicts import certificates, flat


@dataclass(frozen=True)
class Flat:
    """Directions that are null by a known invariance, and have been measured to be.

    Attributes:
        families: one-layer families.
        exchanges: an orthonormal basis (k, dim L) of those that hold at stationary points only.
        floor: least error that eigenvalues get for it: k exchanges move them by √k of what they miss zero by.
    """

    families: tuple[FlatFamily, ...]
    exchanges: Tensor
    floor: float = 0.0

    def exchanged(self, space: ParameterSpace) -> tuple[int, int]:
        """Null exchanges in E and in E⊥."""
        if not len(self.exchanges):
            return 0, 0
        on_e = round(float(space.project(self.exchanges).square().sum()))
        return on_e, len(self.exchanges) - on_e


@dataclass(frozen=True)
class Curved:
    """What is known of the curvature at a point.

    Attributes:
        spectra: the four.
        irreps: those resolved; None where sectors are not.
        resolved: R^aug sector by sector.
        flat: null directions.
        budgets: of the errors, by space.
        kink: a kink of R at the point.
    """

    spectra: Spectra
    irreps: Irreps | None
    resolved: Resolved | None
    flat: Flat
    budgets: dict[str, certificates.Budget] = field(default_factory=dict)
    kink: kinks.Bend | None = None


def curved(given: Given, at: At, point: StationaryPoint) -> Curved:
    """The spectra at the point judged, each with its whole error."""
    ledger, seed = given.ledger, given.settings.seed
    irreps = resolve.irreps_of(given, large=at.dense is None)
    violated = max((ledger.analysis.assumptions or {}).values(), default=0.0)
    if at.dense is None:
        return _by_layers(given, at, irreps or [], Errors(given.like.dtype, violated))
    dense = at.dense
    wider = errors.measured(dense, violated, seed)
    eqv, budget = _on_e(given, at, wider, solve.solved(given, at.on_e, "eqv-E"))
    null = _flat(given, dense, eqv, point)
    decides = _decides(dense, point)
    if irreps is not None:
        spectra, found = _by_sectors(given, at, dense, eqv, null, irreps, wider, decides)
    elif _fits(given, dense):
        spectra, found = _averaged(given, at, dense, eqv, null, decides), None
    else:
        spectra, found = _by_lanczos(given, at, dense, eqv, null), None
    with stage("checking the products"):
        spectra, budgets = _certified(given, dense, spectra, found, wider)
        kink = kink_at(at, dense, spectra.eqv, found or spectra.across, given.limits.probed, seed)
    ledger.hvps += dense.nominal.products + at.on_e.products
    notes = [note for operator in (dense.nominal, at.on_e) for note in operator.notes]
    if notes:
        ledger.fact("products", "; ".join(notes))
    return _published(given, Curved(spectra, irreps, found, null, {"E": budget, **budgets}, kink))


def _fits(given: Given, dense: Dense) -> bool:
    """Whether ∇²R is made as a matrix."""
    return len(dense.weights) <= solve.densest(given.settings, given.limits.dense)


def _decides(dense: Dense, point: StationaryPoint) -> bool:
    """Off stationarity no verdict rests on R's spectrum: its ends are enough, and far cheaper."""
    gradient = dense.nominal.gradient
    return gradient is None or float(gradient.norm()) <= point.tolerance or len(dense.weights) <= 1000


def _on_e(given: Given, at: At, wider: Errors, found: Solution) -> tuple[Solution, certificates.Budget]:
    """The spectrum of R^eqv on E with its whole error, its products compared with others from scratch."""
    problem, seed = at.problem, given.settings.seed
    check_product(at.on_e, problem.equivariant_loss, at.theta, problem.samples, problem.weight_decay, seed)
    missed = errors.product_error(problem, at.on_e, problem.equivariant_loss, at.theta, seed)
    return wider.widened(found, missed)


def _flat(given: Given, dense: Dense, eqv: Solution, point: StationaryPoint) -> Flat:
    """The null directions that are known, as far as they are measured to be null."""
    problem, space, decay = dense.problem, dense.problem.space, dense.problem.weight_decay
    scale = max(abs(eqv.spectrum.highest[0].value), decay, 1e-300)
    families, listed = flat.verify(problem.flat, dense.nominal, space, decay, scale, given.settings.seed)
    exchanges = given.like.new_zeros(0, space.dim)
    if problem.exchanges is not None and problem.moves <= given.limits.group and point.converged:
        average, rows = augmented_hessian_from_group(problem, dense.nominal), problem.exchanges(dense.weights)
        exchanges, more = flat.verify_exchanges(rows, families, average, space, decay, scale)
        listed += more
    # An exchange is null only as far as the gradient vanishes; k of them move eigenvalues by √k of that at most.
    traded = [d.residual or 0.0 for d in listed if d.name.startswith("exchange")]
    given.ledger.keep(flat_directions=listed)
    return Flat(families, exchanges, max(traded, default=0.0) * len(exchanges) ** 0.5)


# ---------------------------------------------------------------------------------------------------- three ways


def _averaged(given: Given, at: At, dense: Dense, eqv: Solution, null: Flat, decides: bool) -> Spectra:
    """∇²R as a matrix, averaged over G; residuals with products that took another way."""
    problem, space, settings = at.problem, at.problem.space, given.settings
    nominal, n = dense.nominal, len(dense.weights)
    with tqdm(total=n, desc="∇²R, dense", disable=None, leave=False) as bar:
        matrix = assemble(nominal, dense.weights, bar.update)
    with stage("group average"):
        averaged = group_average(matrix, space, space.group)
    if problem.moves > given.limits.group:
        fresh = Operator(n, lambda v: v @ averaged, "∇²R^aug, dense")
    elif problem.transform is not None:
        fresh = augmented_hessian_from_data(problem, dense.weights)
    else:
        fresh = augmented_hessian_from_group(problem, nominal)
    basis = space.embed(torch.eye(space.dim_equivariant, dtype=given.like.dtype, device=given.like.device))
    with stage("spectrum of R^aug on E"):
        block = basis @ averaged @ basis.mT
        aug_e = dense_spectrum(block, compress(fresh, space), settings.eigenvalues, floor=null.floor)
    with stage("spectrum of R^aug on E⊥"):
        across = dense_spectrum(averaged, transverse(fresh, space), settings.eigenvalues, basis, floor=null.floor)
    given.ledger.hvps += int(fresh.products * fresh.cost)
    given.ledger.keep(spectra=table(eqv, aug_e, across))
    with stage("spectrum of R on L"):
        if decides:
            whole = dense_spectrum(matrix, nominal, settings.eigenvalues)
        else:
            whole = solve.ends(given, Operator(n, lambda v: v @ matrix, "∇²R, dense"), nominal, n, "nominal-L")
    return Spectra(eqv, aug_e, across, whole)


def _by_sectors(
    given: Given, at: At, dense: Dense, eqv: Solution, null: Flat, irreps: Irreps, wider: Errors, decides: bool
) -> tuple[Spectra, Resolved]:
    """R^aug irrep by irrep."""
    found = resolve.resolved(given, at, irreps, eqv, null.floor, wider)
    given.ledger.keep(spectra=table(eqv, found.aug_e, found.across))
    nominal, n, settings = dense.nominal, len(dense.weights), given.settings
    if not solve.room_for_ends(given, n):
        why = f"--memory-gb {settings.memory_gb:g} holds too few vectors of {n:,} numbers"
        return Spectra(eqv, found.aug_e, found.across, solve.missing(given, n, why)), found
    with stage("spectrum of R on L"):
        whole = (
            dense_spectrum(assemble(nominal, dense.weights), nominal, settings.eigenvalues)
            if _fits(given, dense) and decides
            else solve.ends(given, nominal, nominal, n, "nominal-L")
        )
    return Spectra(eqv, found.aug_e, found.across, whole), found


def _by_lanczos(given: Given, at: At, dense: Dense, eqv: Solution, null: Flat) -> Spectra:
    """Products averaged over G, where that can be afforded."""
    problem, space, nominal = at.problem, at.problem.space, dense.nominal
    n, n_e = space.dim, space.dim_equivariant
    whole = solve.ends(given, nominal, nominal, n, "nominal-L")
    aug_e = solve.solved(given, compress(nominal, space), "aug-E")
    given.ledger.keep(spectra=table(eqv, aug_e, nominal=whole))
    if problem.moves > given.limits.group or not _affordable(given, dense):
        why = (
            f"an average over {space.group.name} takes {problem.moves:,} elements and as many nominal "
            "products each step; a smaller --size or a smaller --group would give it"
        )
        return Spectra(eqv, aug_e, solve.missing(given, n - n_e, why), whole)
    average = augmented_hessian_from_group(problem, nominal)
    fresh = augmented_hessian_from_data(problem, dense.weights) if problem.transform is not None else average

    def search(v: Tensor) -> Tensor:
        v = flat.complement(null.families, space, space.transverse_part(v))
        return v - (v @ null.exchanges.mT) @ null.exchanges

    count = n - n_e - flat.count(null.families, space)[1] - null.exchanged(space)[1]
    across = solve.ends(given, average, fresh, count, "aug-E_perp", search)
    given.ledger.hvps += int(average.products * average.cost)
    return Spectra(eqv, aug_e, across, whole)


def _affordable(given: Given, dense: Dense) -> bool:
    """Whether a Krylov run of the average ends in time, by the time of one product."""
    began = time.perf_counter()
    dense.nominal(dense.weights)
    seconds = (time.perf_counter() - began) * dense.problem.moves * given.limits.lanczos_steps
    return seconds <= given.limits.spectrum_seconds


def _by_layers(given: Given, at: At, irreps: Irreps, wider: Errors) -> Curved:
    """Through the equivariant layers alone: E and its sectors, nothing dense in L."""
    settings, ledger, problem = given.settings, given.ledger, at.problem
    n_e, steps = problem.space.dim_equivariant, given.limits.sector_steps
    apart = at.moved(at.theta)  # the activations that its products hold go when E is done
    if krylov.room(settings.memory_gb, n_e, given.like.dtype, 2 * settings.eigenvalues) >= steps:
        eqv = solve.solved(given, apart.on_e, "eqv-E")
    else:
        trivial, name = trivial_irrep(problem.group), "eqv-E"
        eqv = solve.sector_ends(problem, at.theta, trivial, apart.on_e, n_e, name, settings, given.checkpoint)
        given.checkpoint.forget("lanczos-eqv-E")
    wider = replace(wider, size=certificates.norm(eqv.spectrum))
    eqv, budget = _on_e(given, apart, wider, eqv)
    ledger.hvps += apart.on_e.products
    del apart
    ledger.keep(spectra=table(eqv))
    found = resolve.resolved(given, at, irreps, eqv, 0.0, wider)
    n = problem.space.dim
    nominal = solve.missing(given, n, f"∇²R is no block of a sector, and vectors have {n:,} numbers")
    spectra = Spectra(eqv, found.aug_e, found.across, nominal)
    budgets = {"E": budget} | ({} if found.budget is None else {"E_perp": found.budget})
    return _published(given, Curved(spectra, irreps, found, Flat((), given.like.new_zeros(0, 0)), budgets))


# ------------------------------------------------------------------------------------------------------ evidence


def _certified(
    given: Given, dense: Dense, spectra: Spectra, found: Resolved | None, wider: Errors
) -> tuple[Spectra, dict[str, certificates.Budget]]:
    """Products of ∇²R compared with others from scratch; every spectrum with its whole error."""
    problem, nominal, seed = dense.problem, dense.nominal, given.settings.seed
    check_product(nominal, problem.loss, dense.weights, problem.samples, problem.weight_decay, seed + 1)
    missed = errors.product_error(problem, nominal, problem.loss, dense.weights, seed)
    whole, budget = wider.widened(spectra.nominal, missed)
    if found is not None:
        budgets = {} if found.budget is None else {"E_perp": found.budget}
        return replace(spectra, nominal=whole), {**budgets, "L": budget}
    aug_e, on_e = wider.widened(spectra.aug_e, missed)
    across, perp = wider.widened(spectra.across, missed)
    return Spectra(spectra.eqv, aug_e, across, whole), {"L": budget, "E": on_e, "E_perp": perp}


def kink_at(
    at: At, dense: Dense, eqv: Solution, across: Resolved | Solution, most: int, seed: int
) -> kinks.Bend | None:
    """A kink of R at the point, looked for where the signs are decided: at both ends of E and of every sector."""
    rows = resolve.probes(at, across, most, seed) if isinstance(across, Resolved) else []
    if len(eqv.values):
        rows += [at.problem.space.embed(v) for v in _ends(eqv)]
    if isinstance(across, Solution) and len(across.values):
        rows += _ends(across)
    rows = [row for row in rows if float(row.norm()) > 0]
    return kinks.kink(at.problem, dense.weights, torch.stack(rows) if rows else None, seed)


def _ends(solution: Solution) -> list[Tensor]:
    return [solution.vectors[int(k)] for k in (solution.values.argmin(), solution.values.argmax())]


def _published(given: Given, curvature: Curved) -> Curved:
    """Spectra among the numbers, the lowest modes on E⊥ among the tensors: all partners, or their coordinates."""
    across, found = curvature.spectra.across, curvature.resolved
    given.ledger.keep(spectra=curvature.spectra.table())
    tensors = {"E_perp.values": across.values, "E_perp.vectors": across.vectors}
    if not len(across.values) and found is not None and found.leading is not None:
        tensors = {f"sector {found.leading.irrep.name}.coordinates": found.leading.coordinates}
    given.ledger.outcome.directions = tensors
    return curvature
