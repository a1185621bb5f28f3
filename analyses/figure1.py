r"""The paper's Figure 1: how far nominal, augmented and equivariant training leave E.

    python -m analyses.figure1 [--size small] [--task perm trans rot] [--runs 5] [--epochs 50] [--workers 2] [--out DIR]

For every task, strategy and run: ‖A_{E⊥}‖ against ‖A − A⁰‖ over the epochs, from a start in E. One step of the full
gradient an epoch, published networks, Haar sampling.

NOM    ∇R
AUG    the mean of ``--passes`` passes, each mini-batch of each pass moved by a Haar element of its own
EXACT  ∇R^aug, the exact Haar average (not at the paper's size)
EQUI   the projection of ∇R onto E

Rows are kept in DIR/figure1.json as they come; a second call computes only what is missing, and gives the same curves.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
import seaborn
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from analyses.shared import Rows, command, prepare_folder, save_figure
from stability.problem import Problem
from stability.tasks import TaskOptions, load
from stability.training import (
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

matplotlib.use("Agg")

TASKS = ("perm", "trans", "rot")
STRATEGIES = ("NOM", "AUG", "EXACT", "EQUI")
BATCH = {"perm": 200, "trans": 25, "rot": 25}
PASSES, STEP = 25, 5e-5
STYLES = {"NOM": ("-", 0), "AUG": ("--", 1), "EXACT": ("-.", 3), "EQUI": (":", 2)}


@lru_cache(maxsize=1)
def problem_of(task: str, size: str, samples: int | None, data_dir: Path | None) -> Problem:
    """The published variant of a task."""
    return load(task, TaskOptions(size=size, variant="published", samples=samples, data_dir=data_dir))


def strategy_of(name: str, problem: Problem, batch: int, passes: int, lower: bool) -> Strategy:
    """The gradient that a strategy follows; ``lower`` computes it in float32."""

    def made(make: Callable[[Problem], Strategy]) -> Strategy:
        return in_single(problem, lambda p: make(pooled(p))) if lower else make(pooled(problem))

    if name == "AUG":
        return made(lambda p: sampled_augmentation(p, passes, batch))
    if name == "EXACT":
        return made(exact_augmentation)
    unconstrained = made(nominal)
    return projected(problem, unconstrained) if name == "EQUI" else unconstrained


def one_run(task: str, name: str, run: int, options: argparse.Namespace) -> dict:
    """One trajectory from start ``run``; the data stay the same, and the strategies of a run share their start."""
    problem = problem_of(task, options.size, options.samples, options.data_dir)
    start = problem.space.embed(problem.initial(run))
    lower = options.size == "paper"
    began = time.perf_counter()
    strategy = strategy_of(name, problem, BATCH[task], options.passes, lower)
    found = descend(problem, start, strategy, options.step, options.epochs, name, seed=run)
    return {
        "task": task,
        "strategy": name,
        "run": run,
        "method": "plain, gradients in float32" if lower else "plain, float64",
        "travelled": list(found.travelled),
        "off_equivariance": list(found.off_equivariance),
        "seconds": round(time.perf_counter() - began, 2),
        "dim": problem.space.dim,
        "samples": len(problem.samples.x),
    }


def strategies(size: str) -> tuple[str, ...]:
    """Those that a size affords."""
    return tuple(name for name in STRATEGIES if size != "paper" or name != "EXACT")


def estimate(jobs: Sequence[tuple[str, str, int]], options: argparse.Namespace) -> float:
    """Seconds that the jobs take one after the other, from one gradient of each kind; AUG from a few of its passes."""
    total = 0.0
    for task in options.task:
        problem = problem_of(task, options.size, options.samples, options.data_dir)
        at = problem.space.embed(problem.initial(0))
        for name in strategies(options.size):
            count = sum(job[:2] == (task, name) for job in jobs)
            if not count:
                continue
            passes = min(options.passes, 2) if options.size == "paper" else options.passes
            gradient = strategy_of(name, problem, BATCH[task], passes, options.size == "paper")
            gradient(at, draws(0, 0))  # the first call of a process is no measure
            began = time.perf_counter()
            gradient(at, draws(0, 0))
            seconds = time.perf_counter() - began
            total += count * options.epochs * seconds * (options.passes / passes if name == "AUG" else 1)
    return total


def results(jobs: Sequence[tuple[str, str, int]], options: argparse.Namespace) -> Iterator[dict]:
    """Rows as they come, from one process for each worker, each with its share of the cores."""
    if options.workers == 1:
        for job in jobs:
            yield one_run(*job, options)
        return
    threads = max(1, (os.cpu_count() or 1) // options.workers)
    pool = ProcessPoolExecutor(
        options.workers, multiprocessing.get_context("spawn"), torch.set_num_threads, (threads,)
    )
    try:
        for done in as_completed([pool.submit(one_run, *job, options) for job in jobs]):
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def summary(rows: Sequence[dict]) -> dict[str, dict[str, dict[str, float]]]:
    """Per task and strategy: mean final ‖A − A⁰‖ and ‖A_{E⊥}‖ over the runs, and seconds a run."""
    found: dict = {}
    for task in TASKS:
        for name in STRATEGIES:
            mine = [r for r in rows if r["task"] == task and r["strategy"] == name]
            if mine:
                found.setdefault(task, {})[name] = {
                    "runs": len(mine),
                    "travelled": float(np.mean([r["travelled"][-1] for r in mine])),
                    "off_equivariance": float(np.mean([r["off_equivariance"][-1] for r in mine])),
                    "seconds": float(np.mean([r["seconds"] for r in mine])),
                }
    return found


def draw(rows: Sequence[dict]) -> Figure:
    """A row for each task: the scale of NOM, and the scale of AUG."""
    shown = [task for task in TASKS if any(r["task"] == task for r in rows)]
    colours = seaborn.color_palette("colorblind")
    figure = Figure(figsize=(9, 3.0 * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), 2, squeeze=False)
    for line, task in zip(panels, shown, strict=True):
        mine = [r for r in rows if r["task"] == task]
        for column, axes in enumerate(line):
            for name in STRATEGIES:
                runs = [r for r in mine if r["strategy"] == name]
                if not runs:
                    continue
                style, colour = STYLES[name]
                x, y = (np.array([r[key] for r in runs]) for key in ("travelled", "off_equivariance"))
                for one, other in zip(x, y, strict=True):
                    axes.plot(one, other, style, color=colours[colour], alpha=0.25, linewidth=0.8)
                axes.plot(x.mean(0), y.mean(0), style, color=colours[colour], linewidth=2, label=name)
            if column == 1:
                top = max((max(r["off_equivariance"]) for r in mine if r["strategy"] != "NOM"), default=0.0)
                axes.set_ylim(-0.05 * top, 1.1 * top or 1.0)
            axes.set_xlabel(r"$\|A - A^0\|$")
            axes.set_ylabel(r"$\|A_{E^\perp}\|$")
            axes.ticklabel_format(style="sci", scilimits=(-2, 2))
            axes.set_title(f"{task}{', the scale of AUG' if column else ''}", fontsize="medium")
        line[0].legend(fontsize="small")
    return figure


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="small", choices=("small", "medium", "paper"))
    parser.add_argument("--task", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--passes", type=int, default=PASSES)
    parser.add_argument("--step", type=float, default=STEP)
    parser.add_argument("--samples", type=int)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--workers", type=int, default=1, help="processes, each with its share of the cores")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    options.out = options.out or Path("reports") / f"figure1-{options.size}"
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, draw, print the means."""
    options = parse(arguments)
    folder = prepare_folder(options.out)
    kept = {k: getattr(options, k) for k in ("size", "epochs", "passes", "step", "samples")}
    rows = Rows(folder / "figure1.json", kept)
    jobs = [
        (task, name, run)
        for run in range(options.runs)
        for task in options.task
        for name in strategies(options.size)
        if not rows.has(task=task, strategy=name, run=run)
    ]
    if jobs:
        minutes = estimate(jobs, options) / 60 / min(options.workers, len(jobs))
        print(f"{len(jobs)} runs to do, about {minutes:.1f} minutes", flush=True)
    for row in tqdm(results(jobs, options), total=len(jobs), desc="figure 1", disable=None):
        rows.add(row)
    shown = [r for r in rows.rows if r["task"] in options.task and r["run"] < options.runs]
    rows.save(summary=summary(rows.rows))
    save_figure(folder / "figure1.png", draw(shown))
    for task, found in summary(shown).items():
        for name, r in found.items():
            print(
                f"{task:6}{name:6}{r['runs']:3} runs  ‖A − A⁰‖ {r['travelled']:.3e}  ‖A_E⊥‖ {r['off_equivariance']:.3e}"
                f"  {r['seconds']:.1f} s a run"
            )


if __name__ == "__main__":
    raise SystemExit(command(main))
