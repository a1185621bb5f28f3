"""Descent on admissible layers, and the ends of the spectra there."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad_and_value
from tqdm import tqdm

from analyses.lab.rows import Rows
from analyses.studies.restricted.networks import COORDINATES, SUPPORTS, Size, admit, build, coordinates, start
from stability.curvature.automatic import nominal_hessian
from stability.eigen.lanczos import lanczos, lanczos_spectrum
from stability.eigen.operator import Operator
from stability.problem.problem import Problem
from stability.problem.space import Samples
from stability.restricted import (
    Admissible,
    Parametrisation,
    compatibility,
    restrict,
    restricted_augmented,
)
from stability.spectra import sectors

# Of the step at which descent along the sharpest direction at the start turns unstable.
STEP_SHARE = 0.5
CHUNK = 100
COUPLING_STEPS = 12


def slope(problem: Problem, admissible: Admissible, data: Samples, c: Tensor) -> tuple[float, Tensor]:
    """R and Bᵀ∇R at A_0 + Bc on the given data."""
    at = admissible.embed(c)
    total, value = torch.zeros_like(at), float(problem.penalty(c))
    for part in data.chunks(CHUNK):
        gradient, loss = grad_and_value(problem.loss)(at, part)
        total += gradient
        value += float(loss)
    return value, admissible.project(total) + problem.weight_decay * c


def sharpest(problem: Problem, admissible: Admissible, data: Samples, c: Tensor, steps: int = 8) -> float:
    """‖∇²R‖ on T by power iteration with differences of gradients."""
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(len(c), generator=generator, dtype=torch.float64)
    base, norm = slope(problem, admissible, data, c)[1], 0.0
    for _ in range(steps):
        v = v / v.norm()
        v = (slope(problem, admissible, data, c + 1e-5 * v)[1] - base) / 1e-5
        norm = float(v.norm())
    return norm


def follow(
    problem: Problem, way: Parametrisation, data: Samples, c: Tensor, step: float, steps: int, name: str
) -> dict:
    """Descent c ← c − τTTᵀ∇ from a point of E; after every step ‖A_{E⊥}‖, ‖A − A⁰‖ and the risk."""
    admissible, first = way.admissible, c
    off, travelled, risks, leak = [], [], [], None
    for _ in tqdm(range(steps + 1), desc=name, disable=None, leave=False):
        risk, gradient = slope(problem, admissible, data, c)
        move = way.metric(gradient)
        if leak is None:
            leak = float((move - admissible.equivariant_part(move)).norm() / move.norm())
        off.append(float((c - admissible.equivariant_part(c)).norm()))
        travelled.append(float((c - first).norm()))
        risks.append(risk)
        c = c - step * move
    return {"off_equivariance": off, "travelled": travelled, "risk": risks, "leak": leak, "norm": float(first.norm())}


def on_e(problem: Problem, admissible: Admissible, c: Tensor, step: float, steps: int) -> Tensor:
    """Equivariant descent: the same steps with the gradient projected onto E."""
    for _ in tqdm(range(steps), desc="on E", disable=None, leave=False):
        c = c - step * admissible.equivariant_part(slope(problem, admissible, problem.samples, c)[1])
    return c


def ends(operator: Operator, dim: int, steps: int, project: Callable[[Tensor], Tensor] | None = None) -> dict:
    """λ_min and λ_max of an operator on a space of dimension ``dim``, with residuals."""
    began, generator = time.perf_counter(), torch.Generator().manual_seed(0)
    first = torch.randn(operator.dim, generator=generator, dtype=torch.float64)
    state = lanczos(operator, first, min(steps, dim), project)

    def product(v: Tensor) -> Tensor:
        return operator(v) if project is None else project(operator(v))

    spectrum = lanczos_spectrum(product, dim, state, 1, time.perf_counter() - began, 1).spectrum
    low, high = spectrum.lowest[0], spectrum.highest[0]
    return {
        "dim": dim,
        "lowest": low.value,
        "lowest_residual": low.residual,
        "highest": high.value,
        "highest_residual": high.residual,
        "products": operator.products,
    }


def spectra_by_sector(problem: Problem, admissible: Admissible, c: Tensor, steps: int) -> list[dict]:
    """A compatible support: ∇²R^aug irrep by irrep, by nominal products."""
    small = restrict(problem, admissible)
    theta = small.space.project(c)
    nominal = nominal_hessian(small, c, CHUNK)
    found = []
    for irrep, size in sectors.occurring(small.space):
        operator = sectors.sector_hessian(small, theta, irrep, nominal)
        one = ends(operator, size, steps)
        one["dim"] = size * irrep.dim // irrep.commutant_dim
        found.append({"block": "E" if irrep.is_trivial else "E_perp", "irrep": irrep.name, **one})
    return found


def spectra_by_projection(problem: Problem, admissible: Admissible, c: Tensor, steps: int) -> list[dict]:
    """Any support: ∇²R^aug on T from moved data, cut by Π_E; without a symmetry of T there are no sectors."""
    operator, n_e = restricted_augmented(problem, admissible, c), admissible.dim_equivariant

    def across(v: Tensor) -> Tensor:
        return v - admissible.equivariant_part(v)

    found = [
        {"block": "E", "irrep": None, **ends(operator, n_e, steps, admissible.equivariant_part)},
        {"block": "E_perp", "irrep": None, **ends(operator, admissible.dim - n_e, steps, across)},
    ]
    generator, coupling = torch.Generator().manual_seed(1), 0.0
    v = admissible.equivariant_part(torch.randn(admissible.dim, generator=generator, dtype=torch.float64))
    for _ in range(COUPLING_STEPS):
        w = across(operator(v / v.norm()))
        coupling = float(w.norm())
        if coupling < 1e-13:
            break
        v = admissible.equivariant_part(operator(w / coupling))
    for one in found:
        one["coupling"] = coupling
    return found


def compute(rows: Rows, size: Size) -> None:
    """Everything that is missing."""
    problem = build(size)
    data = problem.augmented()
    step = rows.pick(kind="step")
    if not step:
        admissible = admit(problem, "cross")
        top = max(sharpest(problem, admissible, data, start(problem, admissible, s)) for s in range(size.seeds))
        rows.add({"kind": "step", "sharpest": top, "step": STEP_SHARE * 2 / top})
        step = rows.pick(kind="step")
    tau = step[0]["step"]
    jobs = [(w, k, s) for s in range(size.seeds) for w in SUPPORTS for k in COORDINATES]
    for which, kind, seed in tqdm(jobs, desc="descent", disable=None):
        if rows.has(kind="run", support=which, coordinates=kind, seed=seed):
            continue
        way = coordinates(problem, which, kind, seed)
        found = compatibility(way.admissible)
        # The same first step length in A for both kinds of coordinates.
        c = start(problem, way.admissible, seed)
        gradient = slope(problem, way.admissible, data, c)[1]
        scale = float(gradient.norm() / way.metric(gradient).norm())
        run = follow(problem, way, data, c, tau * scale, size.steps, f"{which}, {kind}, start {seed}")
        rows.add(
            {
                "kind": "run",
                "support": which,
                "coordinates": kind,
                "seed": seed,
                "defect": found.defect,
                "coordinate_defect": way.defect(),
                "dims": found.dims,
                **run,
            }
        )
    for which in SUPPORTS:
        admissible = admit(problem, which)
        for where in ("start", "after descent on E"):
            if rows.has(kind="spectrum", support=which, where=where):
                continue
            c = start(problem, admissible, 0)
            if where != "start":
                c = on_e(problem, admissible, c, tau, size.steps)
            compatible = compatibility(admissible).compatible
            measure = spectra_by_sector if compatible else spectra_by_projection
            gradient = slope(problem, admissible, data, c)[1]
            leak = float((gradient - admissible.equivariant_part(gradient)).norm() / gradient.norm())
            with torch.no_grad():
                prediction = problem.model.predict(admissible.embed(c), problem.samples.x)
            accuracy = float((prediction.argmax(1) == problem.samples.y).double().mean())
            blocks = measure(problem, admissible, c, size.krylov)
            for block in blocks:
                rows.add(
                    {"kind": "spectrum", "support": which, "where": where, "leak": leak, "accuracy": accuracy, **block}
                )
