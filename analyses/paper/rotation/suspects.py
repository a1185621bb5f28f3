"""Training under one combination of head and sampler, and what infinitely many passes would leave of the drift."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.func import grad

from analyses.lab.rows import short
from stability.networks.classifier import Classifier
from stability.networks.network import mlp
from stability.networks.nonlinearities import Identity
from stability.networks.supervised import supervised
from stability.points.training import Sampler, Strategy, descend, nominal, sampled_augmentation
from stability.problem.problem import Problem
from stability.tasks import TaskOptions, load

BATCH = 25
SAMPLERS = ("haar", "published")
HEADS = ("published", "none")
HALF_TURN = 2
PUBLISHED = {0: 0.4, HALF_TURN: 0.6}


def published_sampler(rng: np.random.Generator) -> int:
    """0° with probability .4, 180° with .6: the pixels in reverse order."""
    return HALF_TURN if rng.random() < PUBLISHED[HALF_TURN] else 0


def problem_of(task: str, head: str, size: str) -> Problem:
    """ROT as published, with its head or with plain logits; or TRANS with the same group."""
    problem = load(task, TaskOptions(size=size, variant="published", group="rotations"))
    if head == "published":
        return problem
    model, network = problem.model, problem.model.network
    spaces = [network.input, *(layer.target for layer in network.space.layers)]
    plain = mlp(spaces, [*network.nonlinearities[:-1], Identity()])
    return supervised(problem.name, Classifier(plain, model.loss, model.target), problem.samples)


def strategy_of(name: str, sampler: str, problem: Problem, passes: int) -> Strategy:
    """NOM, or AUG with one of the samplers."""
    if name == "NOM":
        return nominal(problem)
    draw: Sampler | None = published_sampler if sampler == "published" else None
    return sampled_augmentation(problem, passes, BATCH, draw)


def squared_norm(layers: Sequence[float]) -> float:
    """√Σ_k‖A_{k,⊥}‖⁴, which was plotted for ‖A_{E⊥}‖ = √Σ_k‖A_{k,⊥}‖².

    >>> squared_norm([0.1, 0.1]), float(np.hypot(0.1, 0.1))
    (0.014142135623730954, 0.14142135623730953)
    """
    return float(np.sqrt(np.sum(np.asarray(layers) ** 4)))


def split(problem: Problem, gradient: Tensor) -> dict[str, float]:
    """Norms of the parts of a gradient where 180° acts as +1 (q = 2) and as −1 (q = 1), both in E⊥, and on E."""
    space = problem.space
    even = 0.5 * (gradient + space.act(HALF_TURN, gradient))
    on_e = space.equivariant_part(gradient)
    return {"E": float(on_e.norm()), "q2": float((even - on_e).norm()), "q1": float((gradient - even).norm())}


def predicted_ratio(parts: dict[str, float], sampler: str) -> float:
    """‖Π_{E⊥}M∇R‖/‖Π_{E⊥}∇R‖, what infinitely many passes leave of the nominal drift; 0 for Haar's measure."""
    if sampler == "haar":
        return 0.0
    odd = (PUBLISHED[0] - PUBLISHED[HALF_TURN]) * parts["q1"]
    return float(np.hypot(parts["q2"], odd) / np.hypot(parts["q2"], parts["q1"]))


def measure(task: str, head: str, sampler: str, name: str, run: int, options: argparse.Namespace) -> dict:
    """One trajectory with both norms."""
    problem = problem_of(task, head, options.size)
    space, squared = problem.space, [0.0]

    def record(epoch: int, at: Tensor) -> None:
        squared.append(squared_norm([float(w.norm()) for w in space.split(space.transverse_part(at))]))

    start = space.embed(problem.initial(run))
    strategy = strategy_of(name, sampler, problem, options.passes)
    found = descend(problem, start, strategy, options.step, options.epochs, name, seed=run, on_epoch=record)
    row = {"task": task, "head": head, "sampler": sampler, "strategy": name, "run": run}
    row |= {"dim_E": space.dim_equivariant, "dim_L": space.dim, "travelled": short(found.travelled)}
    row |= {"norm": short(found.off_equivariance), "squared_norm": short(squared)}
    if name == "NOM":
        gradient = sum(
            (grad(problem.loss)(start, part) for part in problem.samples.chunks(1000)), torch.zeros_like(start)
        )
        row["gradient"] = split(problem, gradient)
    return row
