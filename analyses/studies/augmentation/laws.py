r"""The laws: K times a mean squared distance, from nominal gradients and Hessians of mini-batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.func import grad
from tqdm import tqdm

from stability.curvature.automatic import augmented_hessian_from_group, linearise
from stability.eigen.operator import Operator
from stability.points.training import equivariant
from stability.problem.problem import Problem
from stability.problem.space import Samples

COLUMNS = 64


def batches(problem: Problem, mode: str, batch: int) -> list[Samples]:
    """The pieces of the data that are moved together."""
    return list(problem.samples.chunks(len(problem.samples) if mode == "pass" else batch))


def spread(problem: Problem, at: Tensor, mode: str, batch: int) -> Tensor:
    """Rows u_b = Π_{E⊥}∇R_b(A), (B, dim L)."""
    return problem.space.transverse_part(
        torch.stack([grad(problem.loss)(at, p) for p in batches(problem, mode, batch)])
    )


def gradient_law(problem: Problem, at: Tensor, mode: str, batch: int) -> float:
    """Σ_b ‖u_b‖² at A in E: |G| gradients are not needed."""
    return float(spread(problem, at, mode, batch).square().sum())


def hessian_law(problem: Problem, at: Tensor, mode: str, batch: int) -> float:
    """Σ_b (‖H_b‖_F² − ‖∫ρ̄H_bρ̄ᵀ‖_F²) at A in E, from nominal Hessians and ρ̄, column by column."""
    total = 0.0
    for part in batches(problem, mode, batch):
        nominal = _hessian(problem, at, part)
        averaged = augmented_hessian_from_group(problem, nominal)
        for unit in unit_vectors(at):
            total += float(nominal(unit).square().sum() - averaged(unit).square().sum())
    return total


def unit_vectors(like: Tensor) -> Iterator[Tensor]:
    """The unit vectors of L as rows, ``COLUMNS`` at a time."""
    for start in range(0, len(like), COLUMNS):
        unit = torch.zeros(min(COLUMNS, len(like) - start), len(like), dtype=like.dtype)
        unit[torch.arange(len(unit)), torch.arange(start, start + len(unit))] = 1.0
        yield unit


def _hessian(problem: Problem, at: Tensor, part: Samples) -> Operator:
    width = max(max(layer.shape) for layer in problem.space.layers)
    return linearise(problem.loss, at, part, 0.0, "∇²R of a mini-batch", 4096, width)


def drift_law(problem: Problem, start: Tensor, step: float, epochs: int, mode: str, batch: int) -> np.ndarray:
    """K·E‖A_{E⊥}‖² after 0 … ``epochs`` steps of sampled descent from A_0 in E, to first order in 1/K."""
    data, width = problem.augmented(), max(max(layer.shape) for layer in problem.space.layers)
    along = equivariant(problem)
    at, rows, values = start.clone(), start.new_zeros(0, len(start)), [0.0]
    for _ in tqdm(range(epochs), desc="law of the drift", disable=None, leave=False):
        if len(rows):
            hessian = linearise(problem.loss, at, data, problem.weight_decay, "∇²R^aug", 512, width)
            rows = rows - step * problem.space.transverse_part(hessian(rows))
        rows = torch.cat([rows, spread(problem, at, mode, batch)])
        at = at - step * along(at, np.random.default_rng(0))
        values.append(step**2 * float(rows.square().sum()))
    return np.array(values)
