"""The paper's Figure 1: how far nominal, augmented and equivariant training leave E.

    python -m analyses.figure1 [--size small] [--task perm trans rot] [--runs 5] [--epochs 50] [--out DIR]

For every task, strategy and run: ‖A_{E⊥}‖ against ‖A − A⁰‖ over the epochs, from a start in E. NOM follows ∇R; AUG the
mean of ``--passes`` passes, each mini-batch of each pass moved by a Haar element of its own; EQUI the projection of ∇R
onto E. One step of the full gradient an epoch. Rows are kept in DIR/figure1.json as they come; a second call computes
only what is missing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import seaborn
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from stability.problem import Problem
from stability.storage import prepare_folder, write
from stability.tasks import TaskOptions, load
from stability.training import Strategy, descend, equivariant, nominal, sampled_augmentation

matplotlib.use("Agg")

TASKS = ("perm", "trans", "rot")
STRATEGIES = ("NOM", "AUG", "EQUI")
BATCH = {"perm": 200, "trans": 25, "rot": 25}
PASSES, STEP = 25, 5e-5
STYLES = {"NOM": ("-", 0), "AUG": ("--", 1), "EQUI": (":", 2)}


def strategy_of(name: str, problem: Problem, task: str, passes: int) -> Strategy:
    """The gradient that a strategy follows."""
    if name == "NOM":
        return nominal(problem)
    if name == "EQUI":
        return equivariant(problem)
    return sampled_augmentation(problem, passes, BATCH[task])


def one_run(task: str, name: str, run: int, options: argparse.Namespace) -> dict:
    """One trajectory from start ``run``; the data stay the same."""
    problem = load(task, task_options(options))
    start = problem.space.embed(problem.initial(run))
    began = time.perf_counter()
    # Every run draws its own elements; the three strategies of a run share their start.
    found = descend(
        problem, start, strategy_of(name, problem, task, options.passes), options.step, options.epochs, name, seed=run
    )
    return {
        "task": task,
        "strategy": name,
        "run": run,
        "travelled": list(found.travelled),
        "off_equivariance": list(found.off_equivariance),
        "seconds": time.perf_counter() - began,
        "dim": problem.space.dim,
        "samples": len(problem.samples.x),
    }


def task_options(options: argparse.Namespace) -> TaskOptions:
    return TaskOptions(size=options.size, variant="published", samples=options.samples, data_dir=options.data_dir)


def estimate(task: str, options: argparse.Namespace) -> float:
    """Seconds that one run of all three strategies takes, from one gradient of each."""
    problem = load(task, task_options(options))
    at, rng = problem.space.embed(problem.initial(0)), np.random.default_rng(0)
    total = 0.0
    for name in STRATEGIES:
        gradient = strategy_of(name, problem, task, options.passes)
        if options.size == "small":  # the first call of a process is no measure of a short one
            gradient(at, rng)
        began = time.perf_counter()
        gradient(at, rng)
        total += time.perf_counter() - began
    return total * options.epochs


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
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    options.out = options.out or Path("reports") / f"figure1-{options.size}"
    return options


def main(arguments: Sequence[str] | None = None) -> dict:
    """Run what is missing, draw, and return the summary."""
    options = parse(arguments)
    path = prepare_folder(options.out) / "figure1.json"
    key = {k: str(v) for k, v in vars(options).items() if k not in ("out", "runs", "task", "data_dir")}
    found = json.loads(path.read_text()) if path.is_file() else {}
    rows = found.get("rows", []) if found.get("options") == key else []
    done = {(r["task"], r["strategy"], r["run"]) for r in rows}
    jobs = [(t, s, i) for t in options.task for i in range(options.runs) for s in STRATEGIES]
    jobs = [job for job in jobs if job not in done]
    if jobs:
        share = {t: sum(job[0] == t for job in jobs) / len(STRATEGIES) for t in options.task}
        seconds = sum(share[t] * estimate(t, options) for t in options.task if share[t])
        print(f"{len(jobs)} runs to do, about {seconds / 60:.1f} minutes")
    for job in tqdm(jobs, desc="figure 1", disable=None):
        rows.append(one_run(*job, options))
        write(path, json.dumps({"options": key, "rows": rows, "summary": summary(rows)}, indent=1))
    shown = [r for r in rows if r["task"] in options.task and r["run"] < options.runs]
    draw(shown).savefig(options.out / "figure1.png", dpi=120)
    result = summary(shown)
    for task, strategies in result.items():
        for name, r in strategies.items():
            print(
                f"{task:6}{name:6}{r['runs']:3} runs  ‖A − A⁰‖ {r['travelled']:.3e}  ‖A_E⊥‖ {r['off_equivariance']:.3e}"
                f"  {r['seconds']:.1f} s a run"
            )
    return result


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
