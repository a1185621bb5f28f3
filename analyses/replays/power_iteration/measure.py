"""Training, what five largest |λ| show, and the signed ends of the same spectra."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.func import grad

from analyses.lab.ground import TOLERANCE, resolve
from analyses.replays.power_iteration.networks import build
from stability.curvature.automatic import nominal_hessian
from stability.points.stationary import gradient_scale, minimise
from stability.problem.problem import Problem
from stability.problem.space import Samples

# As in the replayed experiment: values kept, samples a batch, steps and relative change at which power iteration ends.
TOP, BATCH, ITERATIONS, CHANGE = 5, 16, 100, 1e-3
# An eigenvalue is negative below minus this share of the largest.
NEGATIVE = 1e-8
WHEN = ("early", "trained", "minimum on E")


def looks(network: str) -> tuple[str, ...]:
    """When a network is looked at."""
    return WHEN if network == "group" else WHEN[:2]


@dataclass(frozen=True)
class Training:
    """Digits, epochs of Adam until each look, its step, mini-batches that are looked at, copies in hidden layers."""

    samples: int
    early: int
    epochs: int
    step: float
    batches: int
    copies: int = 2


def power_iteration(matrix: Tensor, generator: torch.Generator, count: int = TOP) -> list[float]:
    """The eigenvalues of largest modulus, (n, n) ↦ Rayleigh quotients, those found before projected out."""
    vectors, found = matrix.new_zeros(0, len(matrix)), []
    for _ in range(count):
        v = torch.randn(len(matrix), generator=generator, dtype=matrix.dtype)
        v, value = v / v.norm(), None
        for _ in range(ITERATIONS):
            v = v - (vectors @ v) @ vectors
            v = v / v.norm()
            moved = matrix @ v
            before, value = value, float(moved @ v)
            v = moved / moved.norm()
            if before is not None and abs(before - value) < CHANGE * (abs(before) + 1e-6):
                break
        vectors = torch.cat([vectors, v[None]])
        found.append(value)
    return found


def hessian_on(problem: Problem, at: Tensor, basis: Tensor) -> Tensor:
    """BHBᵀ for an orthonormal basis as rows, (k, dim L) ↦ (k, k)."""
    operator = nominal_hessian(problem, at)
    rows = [operator(part.contiguous()) for part in basis.split(operator.batch)]
    matrix = torch.cat(rows) @ basis.mT
    return (matrix + matrix.mT) / 2


def bases(problem: Problem) -> tuple[Tensor, Tensor]:
    """Orthonormal bases of E and E⊥ as rows."""
    space = problem.space
    inside = space.embed(torch.eye(space.dim_equivariant, dtype=torch.float64))
    whole = torch.linalg.qr(torch.cat([inside, torch.eye(space.dim, dtype=torch.float64)]).mT).Q
    return inside, whole.mT[len(inside) : space.dim]


def ends(problem: Problem, at: Tensor, matrix: Tensor, basis: Tensor) -> dict[str, float | int | None]:
    """Lowest and highest eigenvalue on a subspace, residual by one more product, and where the first negative stands.

    ``first_negative`` is its place when eigenvalues are sorted by modulus, from 1; None where there is none.
    """
    values, vectors = torch.linalg.eigh(matrix)
    v = vectors[:, 0] @ basis
    product = (nominal_hessian(problem, at)(v[None])[0] @ basis.mT) @ basis
    return {
        "dim": len(values),
        "lowest": float(values[0]),
        "residual": float((product - values[0] * v).norm()),
        "highest": float(values[-1]),
        **counted(values.numpy()),
    }


def counted(values: np.ndarray) -> dict[str, int | None]:
    """How many eigenvalues are negative, and the place of the first by modulus.

    >>> counted(np.array([-1.0, 0.0, 2.0, 3.0]))
    {'negative': 1, 'first_negative': 3}
    """
    below = values < -NEGATIVE * np.abs(values).max()
    order = np.argsort(-np.abs(values), kind="stable")
    places = np.flatnonzero(below[order])
    return {"negative": int(below.sum()), "first_negative": int(places[0]) + 1 if len(places) else None}


def train(problem: Problem, inside: Tensor | None, training: Training, seed: int) -> Iterator[tuple[str, Tensor]]:
    """Adam on mini-batches of digits in all orientations, from a point of E; ``inside`` keeps it in E."""
    space, slope = problem.space, grad(problem.loss)
    start = space.embed(problem.initial(0))
    free = torch.nn.Parameter(start if inside is None else inside @ start)
    optimiser = torch.optim.Adam([free], lr=training.step, weight_decay=problem.weight_decay)
    x, y, _ = problem.samples
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(1, training.epochs + 1):
        for part in torch.randperm(len(x), generator=generator).split(BATCH):
            weight = torch.full((len(part),), 1 / len(part), dtype=torch.float64)
            at = free.detach() if inside is None else free.detach() @ inside
            gradient = slope(at, Samples(x[part], y[part], weight))
            free.grad = gradient if inside is None else inside @ gradient
            optimiser.step()
        if epoch in (training.early, training.epochs):
            at = free.detach().clone()
            yield WHEN[0] if epoch == training.early else WHEN[1], at if inside is None else at @ inside


def shown(problem: Problem, at: Tensor, basis: Tensor, training: Training, seed: int) -> dict[str, list]:
    """What the replayed method plots, mini-batch by mini-batch, and the lowest eigenvalue of the same mini-batches."""
    generator = torch.Generator().manual_seed(seed)
    x, y, _ = problem.samples
    top, lowest = [], []
    for part in torch.randperm(len(x), generator=generator).split(BATCH)[: training.batches]:
        weight = torch.full((len(part),), 1 / len(part), dtype=torch.float64)
        some = replace(problem, samples=Samples(x[part], y[part], weight))
        matrix = hessian_on(some, at, basis)
        top.append(power_iteration(matrix, generator))
        lowest.append(float(torch.linalg.eigvalsh(matrix)[0]))
    return {"shown": top, "lowest_of_batches": lowest}


def looked_at(problem: Problem, network: str, at: Tensor, training: Training, seed: int) -> dict[str, object]:
    """One point: the method's values in the network's own weights, and the signed ends there, on E and on E⊥."""
    inside, across = bases(problem)
    with torch.no_grad():
        right = (problem.model.predict(at, problem.samples.x).argmax(1) == problem.samples.y).double().mean()
    found: dict[str, object] = {
        "risk": float(problem.risk(at)),
        "gradient_norm": float((grad(problem.loss)(at, problem.samples) + problem.weight_decay * at).norm()),
        "off": float(problem.space.transverse_part(at).norm() / at.norm()),
        "accuracy": float(right),
    }
    own = inside if network == "group" else torch.eye(problem.space.dim, dtype=torch.float64)
    found |= shown(problem, at, own, training, seed)
    matrix = hessian_on(problem, at, own)
    found["own"] = ends(problem, at, matrix, own)
    if network != "group":
        found["E"] = ends(problem, at, inside @ matrix @ inside.mT, inside)
        found["E_perp"] = ends(problem, at, across @ matrix @ across.mT, across)
        return found
    found["E"] = found["own"]
    ground = resolve(problem, problem.space.project(at), 0.0, None)
    values = np.concatenate([np.repeat(b.values, round(b.multiplicity)) for b in ground.blocks])
    low = ground.lowest
    product = problem.space.transverse_part(nominal_hessian(problem, at)(low.direction[None])[0])
    residual = float((product - low.value * low.direction).norm())
    found["E_perp"] = {"dim": len(values), "lowest": low.value, "residual": residual, "highest": float(values.max())}
    found["E_perp"] |= counted(values) | {"irrep": low.irrep}
    found["sectors"] = {b.irrep.name: [float(b.values[0]), float(b.values[-1])] for b in ground.blocks}
    return found


def points(network: str, seed: int, training: Training) -> Iterator[dict[str, object]]:
    """Rows of one network from one seed: early, trained, and for the group network the minimum on E it leads to."""
    problem = build(network, training.samples, seed, training.copies)
    inside = bases(problem)[0] if network == "group" else None
    at = problem.space.embed(problem.initial(0))
    for when, at in train(problem, inside, training, seed):
        row = {"kind": "point", "network": network, "seed": seed, "when": when}
        yield row | looked_at(problem, network, at, training, seed)
    if network == "group":
        tolerance = TOLERANCE * gradient_scale(problem, 0)
        theta = minimise(problem, problem.space.project(at), tolerance)
        row = {"kind": "point", "network": network, "seed": seed, "when": WHEN[2], "tolerance": tolerance}
        yield row | looked_at(problem, network, problem.space.embed(theta), training, seed)
