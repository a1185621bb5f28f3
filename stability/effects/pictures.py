"""What only a report's figures need: densities, slices, runs from the point, what the instability does to the network.

Everything here is measured at the point judged, with the eigenvectors that the analysis found, and stored with it: a
report draws and never computes. A picture that does not fit is left out, with the reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stability.curvature.automatic import nominal_hessian
from stability.curvature.pooled import hessian_on_e
from stability.effects import breaking, deviation, slices
from stability.effects.breaking import Breaking, Kernel
from stability.effects.deviation import Deviation
from stability.effects.fixed import fixed_risk
from stability.effects.slices import Plane, Slice
from stability.eigen.lanczos import lanczos, ritz
from stability.eigen.spectrum import Solution
from stability.groups import Irrep
from stability.networks.losses import cross_entropy, logistic
from stability.problem.problem import Problem, model_of
from stability.spectra import density, sectors
from stability.spectra.density import Shares

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

    shares: dict[str, Shares] = field(default_factory=dict)
    slices: dict[str, Slice] = field(default_factory=dict)
    plane: Plane | None = None
    flow: Deviation | None = None
    steps: tuple[Deviation, ...] = ()
    kernel: Kernel | None = None
    breaking: Breaking | None = None
    omitted: dict[str, str] = field(default_factory=dict)


def shares(
    problem: Problem, theta: Tensor, spectra: dict, irreps: Sequence[tuple[Irrep, int]] | None, large: bool, seed: int
) -> tuple[dict[str, Shares], dict[str, str]]:
    """Densities on E and on E⊥: counted where the spectrum is whole, else by quadrature where that is affordable."""
    found, omitted = {}, {}
    for where in ("E", "E_perp"):
        spectrum = spectra.get("aug", {}).get(where)
        if spectrum is None or not spectrum.lowest:
            continue
        whole = density.exact(spectrum)
        if whole is not None:
            found[where] = whole
            continue
        if large or irreps is None:
            omitted[f"density {where}"] = "quadrature takes six more Krylov runs in every sector, too many here"
            continue
        parts = _parts(problem, theta, irreps, where == "E")
        if sum(part.dim for part in parts) != spectrum.dim:
            omitted[f"density {where}"] = "not every sector was resolved"
            continue
        began = time.perf_counter()
        for part in parts:
            part.product(torch.ones(part.size).to(theta))
        if (time.perf_counter() - began) * PROBES * STEPS > DENSITY_SECONDS:
            omitted[f"density {where}"] = "quadrature takes six more Krylov runs in every sector, too many here"
            continue
        found[where] = density.estimate(parts, density.edges_of(spectrum), PROBES, STEPS, theta, seed)
    return found, omitted


def _parts(problem: Problem, theta: Tensor, irreps: Sequence[tuple[Irrep, int]], on_e: bool) -> list[density.Part]:
    parts, nominal = [], None
    if problem.layered is None:
        nominal = nominal_hessian(problem, problem.space.embed(theta))
    for irrep, size in irreps:
        if irrep.is_trivial != on_e:
            continue
        operator = hessian_on_e(problem, theta) if on_e else sectors.sector_hessian(problem, theta, irrep, nominal)
        parts.append(density.Part(operator, size, size * irrep.dim // irrep.commutant_dim))
    return parts


def top_mode(
    problem: Problem, theta: Tensor, solution: Solution, irreps: Sequence[tuple[Irrep, int]] | None, seed: int
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
    nominal = None
    if problem.layered is None:
        nominal = nominal_hessian(problem, problem.space.embed(theta))
    operator = sectors.sector_hessian(problem, theta, irrep, nominal)
    start = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(theta)
    state = lanczos(operator, start, min(TOP_STEPS, size))
    values, vectors, _ = ritz(state)
    coordinates = torch.as_tensor(vectors[:, -1].copy()).to(theta) @ state.basis[: state.steps]
    w = sectors.lift(problem.space, irrep, coordinates / coordinates.norm())[0]
    return w / w.norm(), float(values[-1]), irrep.name


def _top(solution: Solution) -> float:
    """The largest eigenvalue, zero where none is above it."""
    return max(solution.spectrum.highest[0].value, 0.0)


def landscape(
    problem: Problem,
    theta: Tensor,
    solutions: dict[str, Solution],
    irreps: Sequence[tuple[Irrep, int]] | None,
    stationary: bool,
    end: Tensor | None,
    seed: int,
    stage: Callable[[str], AbstractContextManager[object]],
) -> Pictures:
    """Slices, runs and what they do to the network, at the point with coordinates θ.

    Args:
        problem: the risk.
        theta: of the point A, in E.
        solutions: of the analysis, for their eigenvectors.
        irreps: those resolved; None where sectors are not.
        stationary: whether A is; the runs start from stationary points only, for E moves elsewhere.
        end: where L-BFGS on R^aug ended, pushed along the lowest mode; None where it was not run.
        seed: of probes.
        stage: names what is being done, a context.
    """
    space, lowest = problem.space, solutions["aug.E_perp"]
    names = ("slices", "plane", "flow", "steps", "kernel", "breaking")
    if problem.transform is None:
        return Pictures(omitted=dict.fromkeys(names, "no action on the data is known, so R^aug has no moved data"))
    if problem.group.order is None:
        why = f"{problem.group.name} is infinite: off E, R^aug is known by quadrature only"
        return Pictures(omitted=dict.fromkeys(names, why))
    if problem.group.order * len(problem.samples) * space.dim > LARGEST:
        why = f"one R^aug is {problem.group.order:,} × {len(problem.samples):,} samples through {space.dim:,} weights"
        return Pictures(omitted=dict.fromkeys(names, why))
    if not len(lowest.values) or not space.dim_equivariant:
        return Pictures(omitted=dict.fromkeys(names, "there is no eigenvector on E⊥ or none on E"))
    at, v = space.embed(theta), lowest.lowest_vector / lowest.lowest_vector.norm()
    value, irrep = float(lowest.values.min()), lowest.spectrum.lowest[0].irrep
    risk = fixed_risk(problem, v)
    with stage("slices"):
        on_e = solutions["aug.E"]
        u = space.embed(on_e.lowest_vector / on_e.lowest_vector.norm())
        found = {
            "E_perp": slices.line(problem, risk, at, v, value, "E_perp", irrep, POINTS),
            "E": slices.line(problem, risk, at, u, float(on_e.values.min()), "E", "trivial", POINTS),
        }
        plane = slices.plane(risk, at, found["E"], found["E_perp"], u, v, PLANE_POINTS)
    omitted: dict[str, str] = {}
    path: list[tuple[float, Tensor]] = []
    run, steps = None, tuple[Deviation, ...]()
    if not stationary:
        omitted |= dict.fromkeys(("flow", "steps"), "the point is not stationary: E itself moves on")
    else:
        tops = (_top(solutions["aug.E"]), _top(solutions["aug.E_perp"]))
        error = lowest.spectrum.error
        if abs(value) <= error:
            omitted["flow"] = "the lowest eigenvalue on E⊥ is zero within its error: nothing moves"
        elif deviation.folds(risk, value, max(tops)) < deviation.LEAST_FOLDS:
            omitted["flow"] = f"one factor e of flow takes too many gradients: λ_max/|λ| = {max(tops) / abs(value):.1e}"
        else:
            with stage("augmented flow from the point"):
                run, path = deviation.follow(problem, risk, at, v, value, irrep, tops)
        top = top_mode(problem, theta, lowest, irreps, seed)
        if top is None:
            omitted["steps"] = "no eigenvalue on E⊥ is above zero, so no step is too long there"
        else:
            with stage("steps below and above 2/λ_max"):
                above = fixed_risk(problem, top[0])
                steps = tuple(deviation.descend(problem, above, at, *top, share) for share in SHARES)
    kernel = shown = None
    if value < -lowest.spectrum.error and (path or end is not None):
        with stage("what the instability does"):
            # L-BFGS may come back to E; the network further away shows more.
            ends = [p for p in (path[-1][1] if path else None, end) if p is not None]
            after = max(ends, key=lambda p: float(space.transverse_part(p).norm()))
            kernel = breaking.kernel(problem, at, after)
            decides = getattr(problem.model, "loss", None)
            probability = decides is cross_entropy or (decides is logistic and model_of(problem).output.dim == 1)
            shown = breaking.breaking(problem, path or [(0.0, at)], end, probability, at)
    else:
        calm = value >= -lowest.spectrum.error
        why = "nothing is unstable, so no symmetry breaks" if calm else "the instability was not followed from here"
        omitted |= dict.fromkeys(("kernel", "breaking"), why)
    return Pictures(slices=found, plane=plane, flow=run, steps=steps, kernel=kernel, breaking=shown, omitted=omitted)
