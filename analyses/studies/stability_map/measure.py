"""A minimum of one cell with its spectrum, and its lowest quotient taken apart."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.func import grad, jvp

from analyses.lab.ground import TOLERANCE, Ground, accuracies, resolve
from analyses.studies.stability_map.cells import EPOCHS, STEP, TRAINING, Cell, problem_of
from stability.points.stationary import gradient_scale, minimise
from stability.points.training import descend_on_e
from stability.problem.problem import Problem
from stability.spectra import sectors


@dataclass(frozen=True)
class Parts:
    """A quotient of ∇²R^aug taken apart: q = decay + gauss_newton + residual."""

    quotient: float
    decay: float
    gauss_newton: float
    residual: float


def parts_along(problem: Problem, theta: Tensor, partners: Tensor) -> Parts:
    """The quotient along one direction S of a sector, from its partners S e_j as rows of L, mean over j."""
    at, samples = problem.space.embed(theta), problem.samples

    def predictions(a: Tensor) -> Tensor:
        return problem.model.predict(a, samples.x)

    def slope(z: Tensor) -> Tensor:
        return grad(lambda y: samples.weight @ problem.model.losses(y, samples.y))(z)

    whole, gauss_newton = 0.0, 0.0
    z = predictions(at)
    for v in partners:
        hv = jvp(grad(lambda a: problem.loss(a, samples)), (at,), (v,))[1]
        jv = jvp(predictions, (at,), (v,))[1]
        whole += float(v @ hv)
        gauss_newton += float((jv * jvp(slope, (z,), (jv,))[1]).sum())
    square, mu = float(partners.square().sum()), problem.weight_decay
    whole, gauss_newton = whole / square, gauss_newton / square
    return Parts(whole + mu, mu, gauss_newton, whole - gauss_newton)


def misfit(problem: Problem, theta: Tensor) -> float:
    """√E|ℓ'|², the length of the loss's derivative in the predictions: 0 where every sample is fitted."""
    with torch.no_grad():
        z = problem.model.predict_equivariant(theta, problem.samples.x)
    slopes = grad(lambda y: problem.model.losses(y, problem.samples.y).sum())(z)
    return float((problem.samples.weight @ slopes.square().sum(1)).sqrt())


def describe(cell: Cell, start: int, problem: Problem, ground: Ground) -> dict:
    """Everything the maps show of one point."""
    block = min(ground.blocks, key=lambda b: b.values[0])
    partners = sectors.lift(problem.space, block.irrep, block.vectors[:, 0].contiguous())
    lowest, theta = ground.lowest, ground.point.theta
    parts = parts_along(problem, theta, partners)
    return {
        "cell": asdict(cell),
        "start": start,
        "dim_L": problem.space.dim,
        "dim_E": problem.space.dim_equivariant,
        "risk": ground.point.risk,
        "norm": float(ground.at.norm()),
        "misfit": misfit(problem, theta),
        "gradient_norm": ground.point.gradient_norm,
        "converged": ground.point.converged,
        "lambda_min_E": ground.point.eigenvalues[0],
        "lambda_max_E": ground.top_on_e,
        "lambda_min_E_perp": lowest.value,
        "lambda_max_E_perp": ground.highest.value,
        "check": abs(parts.quotient - lowest.value),
        "parts": asdict(parts),
        "negative": ground.negative,
        "irrep": lowest.irrep,
        "irrep_dim": block.irrep.dim,
        "accuracy": accuracies(problem, ground.at),
    }


def measure(cell: Cell, start: int) -> dict:
    """The minimum that a start leads to."""
    problem, began = problem_of(cell), time.process_time()
    tolerance = TOLERANCE * gradient_scale(problem, start)
    theta = minimise(problem, problem.initial(start), tolerance)
    row = describe(cell, start, problem, resolve(problem, theta, tolerance, start))
    return {**row, "kind": "minimum", "cpu_seconds": round(time.process_time() - began, 2)}


def follow_training(cell: Cell, start: int) -> list[dict]:
    """λ_min on E⊥ at the random start and along equivariant training."""
    problem, theta, done, rows = problem_of(cell), problem_of(cell).initial(start), 0, []
    for epoch in EPOCHS:
        began = time.process_time()
        theta = descend_on_e(problem, theta, STEP, epoch - done)
        done = epoch
        row = describe(cell, start, problem, resolve(problem, theta, 1e-9, start))
        rows.append({**row, "kind": TRAINING, "epoch": epoch, "cpu_seconds": round(time.process_time() - began, 2)})
    return rows
