"""Draws of K elements: gradients, Hessians, runs of descent and spectra."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, jvp, vmap
from tqdm import tqdm

from analyses.studies.augmentation.laws import COLUMNS, _hessian, batches, unit_vectors
from stability.points.training import descend, draw_elements, draws, exact_augmentation, sampled_augmentation
from stability.problem.problem import Problem
from stability.problem.space import Samples


def moved(problem: Problem, part: Samples) -> Iterator[Samples]:
    """A mini-batch moved by one element of G after the other, weights as they were."""
    return (problem.transform(g, part) for g in problem.group.elements())


def gram(problem: Problem, at: Tensor, mode: str, batch: int) -> np.ndarray:
    """⟨D_{bg}, D_{ch}⟩_F, (B, |G|, B, |G|), where D_{bg} is ∇²R_b of data moved by g minus its mean over g.

    From moved data alone, at any A: no ρ̄ enters. Columns are made and multiplied piece by piece.
    """
    parts = batches(problem, mode, batch)
    operators = [[_hessian(problem, at, one) for one in moved(problem, part)] for part in parts]
    count, order = len(parts), problem.group.order
    total = torch.zeros(count * order, count * order, dtype=at.dtype)
    for unit in tqdm(list(unit_vectors(at)), desc="Hessians of moved data", disable=None, leave=False):
        columns = torch.stack([torch.stack([h(unit) for h in row]) for row in operators])
        columns -= columns.mean(1, keepdim=True)
        flat = columns.reshape(count * order, -1)
        total += flat @ flat.mT
    return total.reshape(count, order, count, order).numpy()


def draw_shares(order: int, pieces: int, elements: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """The share of each element among the K that each piece of the data drew, (draws, pieces, |G|)."""
    return rng.multinomial(elements, np.full(order, 1 / order), size=(draws, pieces)) / elements


def squared_distances(products: np.ndarray, elements: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """‖X_K − E X_K‖² of so many draws of K elements, from the inner products of :func:`gram`."""
    pieces, order = products.shape[:2]
    share = draw_shares(order, pieces, elements, draws, rng).reshape(draws, -1)
    return ((share @ products.reshape(pieces * order, -1)) * share).sum(1)


def gradient_distances(
    problem: Problem, at: Tensor, elements: int, mode: str, batch: int, draws: int, seed: int
) -> tuple[np.ndarray, float]:
    """‖∇R_K − ∇R^aug‖² of so many gradients of the training core, and the largest share of it in E."""
    strategy = sampled_augmentation(problem, elements, len(problem.samples) if mode == "pass" else batch)
    limit, rng = exact_augmentation(problem)(at, np.random.default_rng(0)), np.random.default_rng(seed)
    away = torch.stack([strategy(at, rng) - limit for _ in range(draws)])
    inside = problem.space.project(away).norm(dim=1) / limit.norm().clamp_min(float(away.norm(dim=1).max()))
    return away.square().sum(1).numpy(), float(inside.max())


def drifts(
    problem: Problem, start: Tensor, step: float, epochs: int, elements: int, mode: str, batch: int, runs: int
) -> np.ndarray:
    """‖A_{E⊥}‖² along so many runs of sampled descent, (runs, epochs + 1)."""
    strategy = sampled_augmentation(problem, elements, len(problem.samples) if mode == "pass" else batch)
    found = [
        descend(problem, start, strategy, step, epochs, f"K = {elements}", seed=run).off_equivariance
        for run in range(runs)
    ]
    return np.square(found)


def taylor(problem: Problem, at: Tensor, part: Samples, order: int) -> Callable[[Tensor], Tensor]:
    """∇R_b(A) + ∇²R_b(A)y + ½∇³R_b(A)[y, y] for rows y, up to ``order`` in y, without decay."""
    gradient = grad(lambda a: problem.loss(a, part))

    def along(f: Callable[[Tensor], Tensor], a: Tensor, v: Tensor) -> Tensor:
        return jvp(f, (a,), (v,))[1]

    def one(v: Tensor) -> Tensor:
        total = gradient(at)
        if order > 0:
            total = total + along(gradient, at, v)
        if order > 1:
            total = total + along(lambda a: along(gradient, a, v), at, v) / 2
        return total

    return vmap(one, chunk_size=COLUMNS)


def expanded_drifts(
    problem: Problem, at: Tensor, step: float, epochs: int, mode: str, batch: int, runs: int, order: int
) -> np.ndarray:
    """‖A_{E⊥}‖² after ``drifts`` with K = 1 and the same draws, every draw's gradient expanded around A in E, (runs).

    y ← y − τ(Σ_b ρ̄(g_b) (∇R_b + ∇²R_b ρ̄(g_b)^{-1}y + …) + μ(A + y)), all runs at once. Order 0 is a random walk.
    """
    space, group = problem.space, problem.group
    terms = [taylor(problem, at, part, order) for part in batches(problem, mode, batch)]
    away = at.new_zeros(runs, len(at))
    for epoch in tqdm(range(epochs), desc=f"draws to order {order}", disable=None, leave=False):
        drawn = [draw_elements(group.sample, draws(run, epoch), 1, len(terms))[0] for run in range(runs)]
        total = problem.weight_decay * (at + away)
        for i, term in enumerate(terms):
            chosen = [row[i] for row in drawn]
            moved = torch.stack([space.act(group.inverse(g), y) for g, y in zip(chosen, away, strict=True)])
            total += torch.stack([space.act(g, v) for g, v in zip(chosen, term(moved), strict=True)])
        away = away - step * total
    return space.transverse_part(away).square().sum(1).numpy()


def controlled(sample: np.ndarray, control: np.ndarray, mean: float) -> np.ndarray:
    """The sample with the same mean and less noise, from a control of known mean on the same draws."""
    covariance = np.cov(sample, control)
    return sample - covariance[0, 1] / covariance[1, 1] * (control - mean)


def lowest(
    hessians: Tensor, elements: int, draws: int, rng: np.random.Generator, within: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """λ_min of so many ∇²R_K on E⊥, and on a subspace of E⊥, which bounds it from above.

    Args:
        hessians: ∇²R_b of data moved by every g, compressed to E⊥, (B, |G|, n, n).
        elements: K.
        draws: how many.
        rng: of the draws.
        within: orthonormal columns (n, p), the eigenspace of λ_min of ∇²R^aug.
    """
    pieces, order = hessians.shape[:2]
    values, bounds = [], []
    for share in torch.as_tensor(draw_shares(order, pieces, elements, draws, rng)).to(hessians):
        matrix = torch.einsum("bg,bgij->ij", share, hessians)
        values.append(float(torch.linalg.eigvalsh(matrix)[0]))
        bounds.append(float(torch.linalg.eigvalsh(within.mT @ matrix @ within)[0]))
    return np.array(values), np.array(bounds)
