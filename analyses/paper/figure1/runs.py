"""One trajectory of one strategy, what its start predicts, and what it costs."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor

from analyses.lab.drift.signals import gradient_statistics
from analyses.lab.drift.walks import Coordinates, Displaced, NearE, Walk, follow
from analyses.lab.rows import short
from analyses.paper.protocol import BATCH, LARGE
from stability.base.storage import Checkpoint, prepare_folder
from stability.curvature.automatic import augmented_hessian_from_data
from stability.eigen.lanczos import lanczos, lanczos_spectrum
from stability.points.training import (
    Strategy,
    descend,
    draws,
    exact_augmentation,
    in_single,
    nominal,
    pooled,
    projected,
    sampled_augmentation,
)
from stability.problem.problem import Problem, single
from stability.tasks import TaskOptions, load

TASKS = ("perm", "trans", "rot")
STRATEGIES = ("NOM", "AUG", "NEAR", "EXACT", "EQUI")
PAPER = ("NOM", "NEAR", "EQUI")
# Products with ∇²R^aug that find both ends of its spectrum on E⊥.
LANCZOS_STEPS = 80


@lru_cache(maxsize=1)
def problem_of(task: str, size: str, samples: int | None, data_dir: Path | None) -> Problem:
    """The published variant of a task."""
    return load(task, TaskOptions(size=size, variant="published", samples=samples, data_dir=data_dir))


def strategy_of(name: str, problem: Problem, batch: int, passes: int) -> Strategy:
    """The gradient that a strategy follows, on dense weights."""
    if name == "AUG":
        return sampled_augmentation(pooled(problem), passes, batch)
    if name == "EXACT":
        return exact_augmentation(pooled(problem))
    unconstrained = nominal(pooled(problem))
    return projected(problem, unconstrained) if name == "EQUI" else unconstrained


def walk_of(task: str, name: str, run: int, passes: int, options: argparse.Namespace) -> Walk:
    """A run that keeps no dense weights in float64 where they are many; at the paper's size gradients are float32."""
    problem = problem_of(task, options.size, options.samples, options.data_dir)
    theta, lower = problem.initial(run), single(problem) if options.size == "paper" else problem
    if name == "EQUI":
        return Coordinates(lower, theta, options.step)
    if name == "NEAR":
        return NearE(lower, theta, options.step, passes, BATCH[task])
    if problem.space.dim <= LARGE:
        strategy = in_single(problem, lambda p: strategy_of(name, p, BATCH[task], passes))
        return Displaced(problem, theta, strategy, options.step)
    return Displaced(lower, theta, strategy_of(name, lower, BATCH[task], passes), options.step)


def one_run(task: str, name: str, run: int, options: argparse.Namespace) -> dict:
    """One trajectory from start ``run``; the data stay the same, and the strategies of a run share their start.

    START, CURVATURE and COST are no training: the gradient statistics at the start, which predict the others; the ends
    of the spectrum of ∇²R^aug on E⊥ there, which bound what rounding can do to EXACT; and the processor seconds of a
    run of AUG with every pass computed by itself, from one of its epochs.
    """
    problem = problem_of(task, options.size, options.samples, options.data_dir)
    began, row = time.process_time(), {"task": task, "strategy": name, "run": run}
    if name == "START":
        lower = single(problem) if problem.space.dim > LARGE else problem
        statistics = gradient_statistics(lower, problem.initial(run).to(lower.samples.x), BATCH[task])
        row["statistics"] = asdict(statistics)
    elif name == "CURVATURE":
        row |= curvature(problem, problem.space.embed(problem.initial(run)))
    elif name == "COST":
        row["plain_seconds"] = options.epochs * epoch_seconds(task, "AUG", options)[1]
    elif options.size == "paper" or name == "NEAR":
        where = {} if options.data_dir is None else {"data_dir": str(options.data_dir.resolve())}
        keep = Checkpoint(prepare_folder(options.out / "state"), key(options) | where, resume=True)
        walk = walk_of(task, name, run, options.passes, options)
        row["travelled"], row["off_equivariance"] = follow(walk, options.epochs, run, f"{task}-{name}-{run}", keep)
        row["method"] = walk.method + (", gradients in float32" if options.size == "paper" else "")
        row["cpu_seconds"] = round(time.process_time() - began, 2)
        if isinstance(walk, NearE) and (run == 0 or problem.space.dim <= LARGE):
            row["left_out"] = options.epochs * options.step * walk.feedback()
    else:
        start = problem.space.embed(problem.initial(run))
        strategy = strategy_of(name, problem, BATCH[task], options.passes)
        found = descend(problem, start, strategy, options.step, options.epochs, name, seed=run)
        row |= {"travelled": found.travelled, "off_equivariance": found.off_equivariance, "method": "dense weights"}
    row |= {k: short(row[k]) for k in ("travelled", "off_equivariance") if k in row}
    return {**row, "cpu_seconds": row.get("cpu_seconds", round(time.process_time() - began, 2))}


def curvature(problem: Problem, at: Tensor) -> dict[str, float]:
    """The ends of the spectrum of ∇²R^aug on E⊥ at A in E, each with its residual outwards, and ‖A‖."""
    operator, project = augmented_hessian_from_data(problem, at), problem.space.transverse_part
    start = torch.randn(len(at), generator=torch.Generator().manual_seed(0), dtype=at.dtype)
    began = time.perf_counter()
    state = lanczos(operator, start, LANCZOS_STEPS, project)
    found = lanczos_spectrum(lambda v: project(operator(v)), len(at), state, 1, time.perf_counter() - began).spectrum
    low, high = found.lowest[0], found.highest[0]
    return {"lowest": low.value - low.residual, "highest": high.value + high.residual, "norm": float(at.norm())}


def key(options: argparse.Namespace) -> dict[str, object]:
    """What a run depends on, its data apart."""
    return {k: getattr(options, k) for k in ("size", "epochs", "passes", "step", "samples")}


def data_of(options: argparse.Namespace) -> dict[str, object]:
    """Which data were given with ``--data-dir``, task by task, so that no folder mixes two; nothing without it."""
    if options.data_dir is None:
        return {}
    problems = {task: problem_of(task, options.size, options.samples, options.data_dir) for task in options.task}
    return {"data": [f"{task} {dict(problem.facts)['digest']}" for task, problem in problems.items()]}


def epoch_seconds(task: str, name: str, options: argparse.Namespace) -> tuple[float, float]:
    """Seconds of one epoch, on the clock and of the processor; at the paper's size AUG from two of its passes."""
    large = options.size == "paper"
    passes = min(options.passes, 2) if name == "AUG" and large else options.passes
    if large or name == "NEAR":
        once = partial(walk_of(task, name, 0, passes, options).advance, 0)
    else:
        problem = problem_of(task, options.size, options.samples, options.data_dir)
        at, strategy = problem.space.embed(problem.initial(0)), strategy_of(name, problem, BATCH[task], passes)
        once = partial(lambda at, strategy, epoch: strategy(at, draws(0, epoch)), at, strategy)
    once(0)  # the first call of a process is no measure
    clock, processor = time.perf_counter(), time.process_time()
    once(1)
    share = options.passes / passes
    return share * (time.perf_counter() - clock), share * (time.process_time() - processor)


def estimate(jobs: Sequence[tuple[str, str, int]], options: argparse.Namespace) -> float:
    """Seconds that the jobs take one after the other, from one epoch of each kind."""
    counts = Counter(job[:2] for job in jobs if job[1] in STRATEGIES)
    return sum(n * options.epochs * epoch_seconds(*kind, options)[0] for kind, n in counts.items())
