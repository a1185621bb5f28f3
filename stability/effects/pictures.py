"""What only a report's figures need: densities, slices, runs from the point, what the instability does to the network.

Everything here is measured at the point judged, with the eigenvectors that the analysis found, and stored with it: a
report draws and never computes. A picture that does not fit is left out, with the reason.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from stability.base.progress import stage
from stability.curvature.at import At
from stability.effects import breaking, deviation, slices
from stability.effects.breaking import Breaking, Kernel
from stability.effects.deviation import Deviation
from stability.effects.fixed import FixedRisk, fixed_risk
from stability.effects.slices import Plane, Slice
from stability.eigen.lanczos import lanczos, ritz
from stability.eigen.spectrum import Solution
from stability.groups import Irrep
from stability.networks.losses import cross_entropy, logistic
from stability.problem.problem import Problem, model_of
from stability.spectra import density, sectors
from stability.spectra.record import Spectra

POINTS, PLANE_POINTS = 41, 21
# samples × |G| × weights of one R^aug beyond which slices and runs are left out.
LARGEST = 1e9
PROBES, STEPS, DENSITY_SECONDS = 6, 60, 120.0
TOP_STEPS = 60
SHARES = (0.9, 1.1)


@dataclass(frozen=True)
class Pictures:
    """What figures draw beyond spectra.

    Attributes:
        shares: spectral density of ∇²R^aug on "E" and on "E_perp".
        slices: R, R^eqv, R^aug along the lowest mode on "E_perp" and on "E".
        plane: R^aug over both.
        flow: exact augmented flow from the point plus a push along the lowest mode on E⊥.
        steps: descent with steps below and above 2/λ_max, pushed along the top mode on E⊥.
        kernel, breaking: the network before and after the instability has acted.
        omitted: why the others are missing.
    """

    shares: dict[str, density.Shares] = field(default_factory=dict)
    slices: dict[str, Slice] = field(default_factory=dict)
    plane: Plane | None = None
    flow: Deviation | None = None
    steps: tuple[Deviation, ...] = ()
    kernel: Kernel | None = None
    breaking: Breaking | None = None
    omitted: dict[str, str] = field(default_factory=dict)


def shares(
    at: At, spectra: Spectra, irreps: Sequence[tuple[Irrep, int]] | None, seed: int
) -> tuple[dict[str, density.Shares], dict[str, str]]:
    """Densities on E and on E⊥: counted where the spectrum is whole, else by quadrature where that is affordable."""
    found, omitted = {}, {}
    for where, solution in (("E", spectra.aug_e), ("E_perp", spectra.across)):
        if solution is None or not solution.spectrum.lowest:
            continue
        spectrum = solution.spectrum
        whole = density.exact(spectrum)
        if whole is not None:
            found[where] = whole
            continue
        if at.dense is None or irreps is None:
            omitted[f"density {where}"] = "quadrature takes six more Krylov runs in every sector, too many here"
            continue
        parts = _parts(at, irreps, where == "E")
        if sum(part.dim for part in parts) != spectrum.dim:
            omitted[f"density {where}"] = "not every sector was resolved"
            continue
        began = time.perf_counter()
        for part in parts:
            part.product(torch.ones(part.size).to(at.theta))
        if (time.perf_counter() - began) * PROBES * STEPS > DENSITY_SECONDS:
            omitted[f"density {where}"] = "quadrature takes six more Krylov runs in every sector, too many here"
            continue
        found[where] = density.estimate(parts, density.edges_of(spectrum), PROBES, STEPS, at.theta, seed)
    return found, omitted


def _parts(at: At, irreps: Sequence[tuple[Irrep, int]], on_e: bool) -> list[density.Part]:
    parts = []
    for irrep, size in irreps:
        if irrep.is_trivial != on_e:
            continue
        operator = at.on_e if on_e else at.block(irrep)
        parts.append(density.Part(operator, size, size * irrep.dim // irrep.commutant_dim))
    return parts


def top_mode(
    at: At, solution: Solution, irreps: Sequence[tuple[Irrep, int]] | None, seed: int
) -> tuple[Tensor, float, str | None] | None:
    """A unit eigenvector of the largest eigenvalue on E⊥, in L; None where it is not resolved."""
    highest = solution.spectrum.largest
    if highest is None or highest.value <= 0:
        return None
    if irreps is None:
        if not len(solution.values):
            return None
        k = int(solution.values.argmax())
        return solution.vectors[k] / solution.vectors[k].norm(), float(solution.values[k]), None
    chosen = [(v, size) for v, size in irreps if v.name == highest.irrep]
    if not chosen:
        return None
    (irrep, size) = chosen[0]
    operator = at.block(irrep)
    start = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(at.theta)
    state = lanczos(operator, start, min(TOP_STEPS, size))
    values, vectors, _ = ritz(state)
    coordinates = torch.as_tensor(vectors[:, -1].copy()).to(at.theta) @ state.basis[: state.steps]
    w = sectors.lift(at.problem.space, irrep, coordinates / coordinates.norm())[0]
    return w / w.norm(), float(values[-1]), irrep.name


def _top(solution: Solution) -> float:
    """The largest eigenvalue, zero where none is above it."""
    return max(solution.spectrum.highest[0].value, 0.0)


def landscape(
    here: At,
    spectra: Spectra,
    irreps: Sequence[tuple[Irrep, int]] | None,
    stationary: bool,
    end: Tensor | None,
    seed: int,
) -> Pictures:
    """Slices, runs and what they do to the network.

    Args:
        here: the point A of E.
        spectra: of the analysis, for their eigenvectors.
        irreps: those resolved; None where sectors are not.
        stationary: whether A is; the runs start from stationary points only, for E moves elsewhere.
        end: where L-BFGS on R^aug ended, pushed along the lowest mode; None where it was not run.
        seed: of probes.
    """
    problem, lowest = here.problem, spectra.across
    why = _unfit(problem, lowest)
    if why:
        return Pictures(omitted=dict.fromkeys(("slices", "plane", "flow", "steps", "kernel", "breaking"), why))
    at, value, v = problem.space.embed(here.theta), float(lowest.values.min()), lowest.lowest_vector
    push = _Push(at, v / v.norm(), value, lowest.spectrum.lowest[0].irrep, fixed_risk(problem, v / v.norm()))
    with stage("slices"):
        found, plane = _lines(problem, push, spectra.aug_e)
    path: list[tuple[float, Tensor]] = []
    omitted: dict[str, str] = {}
    run, steps = None, tuple[Deviation, ...]()
    if stationary:
        tops = (_top(spectra.aug_e), _top(lowest))
        omitted = _unmoved(push, lowest, max(tops))
        if not omitted:
            with stage("augmented flow from the point"):
                run, path = deviation.follow(problem, push.risk, at, push.v, value, push.irrep, tops)
        top = top_mode(here, lowest, irreps, seed)
        if top is None:
            omitted["steps"] = "no eigenvalue on E⊥ is above zero, so no step is too long there"
        else:
            with stage("steps below and above 2/λ_max"):
                above = fixed_risk(problem, top[0])
                steps = tuple(deviation.descend(problem, above, at, *top, share) for share in SHARES)
    else:
        omitted |= dict.fromkeys(("flow", "steps"), "the point is not stationary: E itself moves on")
    kernel = shown = None
    if value < -lowest.spectrum.error and (path or end is not None):
        with stage("what the instability does"):
            kernel, shown = _broken(problem, at, path, end)
    else:
        calm = value >= -lowest.spectrum.error
        why = "nothing is unstable, so no symmetry breaks" if calm else "the instability was not followed from here"
        omitted |= dict.fromkeys(("kernel", "breaking"), why)
    return Pictures(slices=found, plane=plane, flow=run, steps=steps, kernel=kernel, breaking=shown, omitted=omitted)


@dataclass(frozen=True)
class _Push:
    """The lowest mode on E⊥ at the point judged.

    Attributes:
        at: the point A, in L.
        v: the unit mode.
        value: its eigenvalue.
        irrep: its sector.
        risk: R^aug on what the mode's symmetry fixes.
    """

    at: Tensor
    v: Tensor
    value: float
    irrep: str | None
    risk: FixedRisk


def _unfit(problem: Problem, lowest: Solution) -> str:
    """Why no picture fits; empty where they do."""
    size = len(problem.samples)
    if problem.transform is None:
        return "no action on the data is known, so R^aug has no moved data"
    if problem.group.order is None:
        return f"{problem.group.name} is infinite: off E, R^aug is known by quadrature only"
    if problem.group.order * size * problem.space.dim > LARGEST:
        return f"one R^aug is {problem.group.order:,} × {size:,} samples through {problem.space.dim:,} weights"
    if not len(lowest.values) or not problem.space.dim_equivariant:
        return "there is no eigenvector on E⊥ or none on E"
    return ""


def _lines(problem: Problem, push: _Push, on_e: Solution) -> tuple[dict[str, Slice], Plane]:
    """R, R^eqv and R^aug along the lowest mode on E⊥ and on E, and over both."""
    u = problem.space.embed(on_e.lowest_vector / on_e.lowest_vector.norm())
    along, value = partial(slices.line, problem, push.risk, push.at), float(on_e.values.min())
    found = {
        "E_perp": along(push.v, push.value, "E_perp", push.irrep, POINTS),
        "E": along(u, value, "E", "trivial", POINTS),
    }
    return found, slices.plane(push.risk, push.at, found["E"], found["E_perp"], u, push.v, PLANE_POINTS)


def _unmoved(push: _Push, lowest: Solution, top: float) -> dict[str, str]:
    """Why the flow from a stationary point is not followed; empty where it is."""
    if abs(push.value) <= lowest.spectrum.error:
        return {"flow": "the lowest eigenvalue on E⊥ is zero within its error: nothing moves"}
    if deviation.folds(push.risk, push.value, top) < deviation.LEAST_FOLDS:
        ratio = f"λ_max/|λ| = {top / abs(push.value):.1e}"
        return {"flow": f"one factor e of flow takes too many gradients: {ratio}"}
    return {}


def _broken(
    problem: Problem, at: Tensor, path: list[tuple[float, Tensor]], end: Tensor | None
) -> tuple[Kernel | None, Breaking | None]:
    """The network before and after the instability has acted, at the end furthest from E."""
    # L-BFGS may come back to E; the network further away shows more.
    ends = [p for p in (path[-1][1] if path else None, end) if p is not None]
    after = max(ends, key=lambda p: float(problem.space.transverse_part(p).norm()))
    kernel = breaking.kernel(problem, at, after)
    decides = problem.model.loss if problem.model else None
    probability = decides is cross_entropy or (decides is logistic and model_of(problem).output.dim == 1)
    return kernel, breaking.breaking(problem, path or [(0.0, at)], end, probability, at)
