"""Training from E and stationary points on E, for one variant of the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
from torch import Tensor
from torch.func import grad

from analyses.lab.drift.walks import NearE, follow
from analyses.lab.ground import TOLERANCE, accuracies, resolve
from analyses.lab.rows import short
from analyses.paper.protocol import BATCH
from analyses.paper.rotation.suspects import predicted_ratio, published_sampler, split, squared_norm
from analyses.replays.published_data.data import NODES, Setting, dataset
from analyses.studies.stability_map.measure import misfit, parts_along
from stability.base.storage import Checkpoint
from stability.groups import Cyclic, Symmetric, permutation, rotations, trivial
from stability.networks.classifier import Classifier
from stability.networks.losses import logistic, two_masks
from stability.networks.network import mlp
from stability.networks.nonlinearities import Identity, Pointwise
from stability.networks.supervised import supervised
from stability.points.stationary import gradient_scale, minimise
from stability.points.training import descend, nominal, pooled, sampled_augmentation
from stability.problem.problem import Problem
from stability.spectra import sectors
from stability.tasks import TaskOptions, load
from stability.tasks.options import prepare

# Spectra: one hidden layer of so many channels, tanh, so much decay, on so many samples, as in the map of stability.
WIDTH, DECAY, FEW = 2, 1e-3, 200


@dataclass(frozen=True)
class Training:
    """How runs go: the task's size, steps, and passes of AUG."""

    size: str
    epochs: int
    passes: int
    step: float


@lru_cache(maxsize=2)
def published_network(task: str, variant: str, setting: Setting, size: str) -> Problem:
    """The paper's network and loss at a size, on a variant of the data."""
    options = TaskOptions(size=size, variant="published", samples=setting.samples, data_dir=setting.data_dir)
    base = load(task, options)
    train, test = prepare(dataset(task, variant, setting), setting.samples, options)
    return supervised(task, base.model, train, test, base.weight_decay)


def strategies(task: str) -> tuple[str, ...]:
    """NOM and AUG; for ROT also AUG with the sampler as it was executed."""
    return ("NOM", "AUG", "AUG, published sampler") if task == "rot" else ("NOM", "AUG")


def one_run(task: str, variant: str, strategy: str, run: int, setting: Setting, training: Training) -> dict:
    """One trajectory from start ``run``, with both norms where weights are dense."""
    problem = published_network(task, variant, setting, training.size)
    row: dict[str, object] = {"kind": "run", "task": task, "variant": variant, "strategy": strategy, "run": run}
    row |= {
        "dim_L": problem.space.dim,
        "dim_E": problem.space.dim_equivariant,
        "digest": dataset(task, variant, setting).digest,
    }
    if strategy == "AUG" and task == "perm":  # all passes for the price of one
        walk = NearE(problem, problem.initial(run), training.step, training.passes, BATCH[task])
        travelled, off = follow(walk, training.epochs, run, f"{task}, {variant}", Checkpoint(None, {}, resume=False))
        return row | {"travelled": short(travelled), "norm": short(off), "squared_norm": None}
    return row | dense_run(problem, task, strategy, run, training)


def dense_run(problem: Problem, task: str, strategy: str, run: int, training: Training) -> dict:
    """The same on dense weights; NOM with the split of its gradient at the start, where the group is C_4."""
    space, squared = problem.space, [0.0]

    def record(epoch: int, at: Tensor) -> None:
        squared.append(squared_norm([float(w.norm()) for w in space.split(space.transverse_part(at))]))

    lower = pooled(problem)
    sampler = published_sampler if strategy.endswith("sampler") else None
    descent = (
        nominal(lower) if strategy == "NOM" else sampled_augmentation(lower, training.passes, BATCH[task], sampler)
    )
    start = space.embed(problem.initial(run))
    found = descend(problem, start, descent, training.step, training.epochs, strategy, seed=run, on_epoch=record)
    row: dict[str, object] = {"travelled": short(found.travelled), "norm": short(found.off_equivariance)}
    row["squared_norm"] = short(squared)
    if strategy == "NOM" and task == "rot":
        parts = split(problem, grad(problem.loss)(start, problem.samples))
        row |= {"gradient": parts, "predicted": predicted_ratio(parts, "published")}
    return row


@lru_cache(maxsize=2)
def smooth_network(task: str, variant: str, setting: Setting) -> Problem:
    """ρ → c·ρ → outputs with tanh and decay, on a variant of the data: small enough to resolve every eigenvalue."""
    if task == "perm":
        group = Symmetric(NODES)
        node = permutation(group, f"R^{NODES}")
        rho, output, loss, target = node * node, 1 * trivial(group), logistic, None
    else:
        rho = rotations(Cyclic(4), setting.side)
        output, loss, target = 2 * rho, two_masks, 2 * rho
    network = mlp([1 * rho, WIDTH * rho, output], [Pointwise("tanh"), Identity()])
    few = min(FEW, setting.samples)
    train, test = prepare(dataset(task, variant, setting), few, TaskOptions())
    return supervised(task, Classifier(network, loss, target), train, test, DECAY)


def one_point(task: str, variant: str, start: int, setting: Setting) -> dict:
    """The stationary point on E that a start leads to, all eigenvalues, and the lowest quotient on E⊥ taken apart."""
    problem = smooth_network(task, variant, setting)
    tolerance = TOLERANCE * gradient_scale(problem, start)
    theta = minimise(problem, problem.initial(start), tolerance)
    ground = resolve(problem, theta, tolerance, start)
    block = min(ground.blocks, key=lambda b: b.values[0])
    partners = sectors.lift(problem.space, block.irrep, block.vectors[:, 0].contiguous())
    return {
        "kind": "point",
        "task": task,
        "variant": variant,
        "start": start,
        "dim_L": problem.space.dim,
        "dim_E": problem.space.dim_equivariant,
        "risk": ground.point.risk,
        "converged": ground.point.converged,
        "gradient_norm": ground.point.gradient_norm,
        "lambda_min_E": ground.point.eigenvalues[0],
        "lambda_min_E_perp": ground.lowest.value,
        "lambda_max_E_perp": ground.highest.value,
        "irrep": ground.lowest.irrep,
        "negative": ground.negative,
        "misfit": misfit(problem, theta),
        "parts": asdict(parts_along(problem, theta, partners)),
        "norm": float(ground.at.norm()),
        "accuracy": accuracies(problem, ground.at),
    }


JOBS: dict[str, Callable[..., dict]] = {"run": one_run, "point": one_point}


def ratio(rows: list[dict], task: str, variant: str, strategy: str, key: str = "norm") -> float:
    """‖A_{E⊥}‖ of a strategy over that of NOM at the end, geometric mean over the runs that have both; else nan."""
    ends = {
        (r["strategy"], r["run"]): r[key][-1]
        for r in rows
        if r["kind"] == "run" and (r["task"], r["variant"]) == (task, variant) and r[key]
    }
    both = [run for name, run in ends if name == strategy and ("NOM", run) in ends]
    return float(np.exp(np.mean([np.log(ends[strategy, run] / ends["NOM", run]) for run in both]))) if both else np.nan
