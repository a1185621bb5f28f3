r"""The paper's Figure 1: how far nominal, augmented and equivariant training leave E.

    python -m analyses.figure1 [--size small] [--task perm trans rot] [--runs 5] [--epochs 50] [--workers 2] [--out DIR]

For every task, strategy and run: ‖A_{E⊥}‖ against ‖A − A⁰‖ over the epochs, from a start in E. One step of the full
gradient an epoch, published networks, Haar sampling.

NOM    ∇R
AUG    the mean of ``--passes`` passes, each mini-batch of each pass moved by a Haar element of its own
NEAR   the same with the same draws, its gradient taken at Π_E A: all passes for the price of one (stability.drift)
EXACT  ∇R^aug, the exact Haar average; in E up to rounding, which a step multiplies by at most max|1 − τλ| over the
       spectrum of ∇²R^aug on E⊥ (Corollary 1): bounded from the spectrum at the start
EQUI   the projection of ∇R onto E

Without ``--strategy`` the paper's size takes NEAR for AUG, and leaves EXACT out.

Rows are kept in DIR/figure1.json as they come; a second call computes only what is missing, and gives the same curves.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from analyses.shared import Rows, Section, command, finish, pool_arguments, prepare_folder, table
from stability.cluster import pool
from stability.curvature import augmented_hessian_from_data
from stability.drift import Coordinates, Displaced, GradientStatistics, NearE, Walk, follow, gradient_statistics
from stability.eigen import lanczos, lanczos_spectrum
from stability.problem import Problem, single
from stability.storage import Checkpoint
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
STRATEGIES = ("NOM", "AUG", "NEAR", "EXACT", "EQUI")
PAPER = ("NOM", "NEAR", "EQUI")
BATCH = {"perm": 200, "trans": 25, "rot": 25}
PASSES, STEP = 25, 5e-5
# Products with ∇²R^aug that find both ends of its spectrum on E⊥.
LANCZOS_STEPS = 80
# Weights that may be held in float64 beside their gradients.
LARGE = 5_000_000
STYLES = {
    "NOM": {"color": "black", "linestyle": "-"},
    "AUG": {"color": "#d55e00", "linestyle": "--"},
    "NEAR": {"color": "#56b4e9", "linestyle": (0, (3, 2))},
    "EXACT": {"color": "0.55", "linestyle": "-."},
    "EQUI": {"color": "#0072b2", "linestyle": ":"},
}


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
        keep = Checkpoint(prepare_folder(options.out / "state"), key(options), resume=True)
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


def rounding_bound(row: dict, first: float, step: float, epochs: int) -> np.ndarray:
    """‖A_{E⊥}‖ by epoch of exact augmented descent that rounds by ε‖A‖ a step: fᵗ·first + ε‖A‖ Σ_{j<t} fʲ.

    f = max|1 − τλ| on E⊥, from the CURVATURE ``row``; ``first`` is ‖A_{E⊥}‖ of weights in E, as measured.
    """
    powers = amplification(row, step) ** np.arange(epochs + 1)
    rounds = np.finfo(float).eps * row["norm"] * np.concatenate([[0.0], np.cumsum(powers[:-1])])
    return powers * first + rounds


def amplification(row: dict, step: float) -> float:
    """max|1 − τλ| between the ends of a spectrum."""
    return max(abs(1 - step * row["lowest"]), abs(1 - step * row["highest"]))


def runs(count: int) -> str:
    """
    >>> runs(1), runs(30)
    ('1 run', '30 runs')
    """
    return f"{count} run" + "s" * (count != 1)


def short(values: Sequence[float]) -> list[float]:
    """Eight digits, which is more than a curve shows."""
    return [float(f"{v:.8g}") for v in values]


def key(options: argparse.Namespace) -> dict[str, object]:
    """What results depend on."""
    return {k: getattr(options, k) for k in ("size", "epochs", "passes", "step", "samples")}


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


@dataclass(frozen=True)
class Curves:
    """The runs of one strategy on one task, and what the gradient at their starts predicts for the end.

    Attributes:
        travelled, off: (runs, epochs + 1).
        predicted: ‖A_{E⊥}‖ after the last epoch, run by run; nan where nothing predicts it.
        left_out: the largest bound on what NEAR leaves out, relative.
        cpu_seconds: of one run, the mean.
    """

    task: str
    strategy: str
    travelled: np.ndarray
    off: np.ndarray
    predicted: np.ndarray
    left_out: float | None
    cpu_seconds: float | None

    @property
    def ratio(self) -> float:
        """Measured over predicted ‖A_{E⊥}‖ at the end, root mean squares over the runs."""
        return float(np.sqrt(np.mean(self.off[:, -1] ** 2) / np.mean(self.predicted**2)))

    @property
    def end(self) -> tuple[float, float]:
        """Mean ‖A − A⁰‖ and ‖A_{E⊥}‖ after the last epoch."""
        return float(self.travelled[:, -1].mean()), float(self.off[:, -1].mean())


def prediction(statistics: GradientStatistics, name: str, options: dict) -> np.ndarray:
    """‖A_{E⊥}‖ by epoch, from the gradient at the start alone."""
    step, epochs = options["step"], options["epochs"]
    if name in ("AUG", "NEAR"):
        return statistics.sampled_drift(step, epochs, options["passes"])
    return statistics.nominal_drift(step, epochs) if name == "NOM" else np.full(epochs + 1, np.nan)


def curves(rows: Sequence[dict], options: dict) -> list[Curves]:
    """The rows sorted by task and strategy."""
    starts = {(r["task"], r["run"]): GradientStatistics(**r["statistics"]) for r in rows if r["strategy"] == "START"}
    found = []
    for task in TASKS:
        for name in STRATEGIES:
            mine = [r for r in rows if r["task"] == task and r["strategy"] == name]
            if not mine:
                continue
            at = [starts.get((task, r["run"])) for r in mine]
            predicted = [float("nan") if s is None else prediction(s, name, options)[-1] for s in at]
            seconds = [r["cpu_seconds"] for r in mine if r["cpu_seconds"] is not None]
            found.append(
                Curves(
                    task,
                    name,
                    np.array([r["travelled"] for r in mine]),
                    np.array([r["off_equivariance"] for r in mine]),
                    np.array(predicted),
                    max((r["left_out"] for r in mine if "left_out" in r), default=None),
                    float(np.mean(seconds)) if seconds else None,
                )
            )
    return found


def agreement(rows: Sequence[dict], task: str) -> tuple[int, float] | None:
    """Over runs trained both ways: how many, and the largest |‖A_{E⊥}‖ of NEAR/‖A_{E⊥}‖ of AUG − 1| at any epoch."""
    by_run = {
        (r["strategy"], r["run"]): np.array(r["off_equivariance"])
        for r in rows
        if r["task"] == task and "off_equivariance" in r
    }
    both = [run for name, run in by_run if name == "NEAR" and ("AUG", run) in by_run]
    if not both:
        return None
    errors = [np.abs(by_run["NEAR", run][1:] / by_run["AUG", run][1:] - 1).max() for run in both]
    return len(both), float(max(errors))


def said_of_rounding(rows: Sequence[dict], task: str, options: dict) -> str:
    """EXACT against what amplified rounding allows, over the runs that have both.

    Most of what is measured is the rounding of measuring it, which EQUI, unable to leave E, shows as well.
    """
    step, epochs = options["step"], options["epochs"]
    mine = {(r["strategy"], r["run"]): r for r in rows if r["task"] == task}
    both = [run for name, run in mine if name == "EXACT" and ("CURVATURE", run) in mine]
    if not both:
        return ""
    spectra, bounds, kept = [mine["CURVATURE", run] for run in both], [], 0
    for run, spectrum in zip(both, spectra, strict=True):
        off = mine["EXACT", run]["off_equivariance"]
        first = max(mine["EQUI", run]["off_equivariance"]) if ("EQUI", run) in mine else off[0]
        bounds.append(rounding_bound(spectrum, first, step, epochs))
        kept += bool((np.array(off) <= bounds[-1]).all())
    factor, high = max(amplification(s, step) for s in spectra), max(s["highest"] for s in spectra)
    return (
        f". Rounding of ε‖A‖ a step, multiplied by max|1 − τλ| on E⊥ at the start, at most {factor:.6f} a step and "
        f"{factor**epochs:.3g} over all (τλ_max = {step * high:.2g} against 2), allows "
        f"{min(b[-1] for b in bounds):.1e} at the end, and {kept} of {len(both)} runs stay within their bound at "
        "every epoch"
    )


def draw(found: Sequence[Curves], starts: Sequence[dict], options: dict) -> Figure:
    """A row for each task: the scale of NOM, the scale of AUG, and both in logarithms."""
    shown = [task for task in TASKS if any(c.task == task for c in found)]
    figure = Figure(figsize=(11.5, 3.1 * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), 3, squeeze=False)
    for line, task in zip(panels, shown, strict=True):
        mine = [c for c in found if c.task == task]
        statistics = [GradientStatistics(**r["statistics"]) for r in starts if r["task"] == task]
        for axes, scale in zip(line, ("", ", the scale of AUG", ", logarithmic"), strict=True):
            for c in mine:
                logarithmic = scale.endswith("logarithmic")
                if logarithmic and not c.off[:, 1:].all():
                    continue
                first = 1 if logarithmic else 0
                for x, y in zip(c.travelled, c.off, strict=True):
                    axes.plot(x[first:], y[first:], **STYLES[c.strategy], alpha=0.25, linewidth=0.7)
                label = f"{c.strategy}, {len(c.off)} run{'s' * (len(c.off) > 1)}"
                x, y = c.travelled.mean(0)[first:], c.off.mean(0)[first:]
                axes.plot(x, y, **STYLES[c.strategy], linewidth=2, label=label)
            for name in ("NOM", "AUG"):
                chosen = [c for c in mine if c.strategy == name or (name == "AUG" and c.strategy == "NEAR")]
                if statistics and chosen:
                    y = np.mean([prediction(s, name, options) for s in statistics], axis=0)
                    x = chosen[0].travelled.mean(0)
                    every = slice(max(1, len(x) // 10), None, max(1, len(x) // 10))
                    label = "predicted from the start" if name == "NOM" else None
                    axes.plot(x[every], y[every], "x", color="0.3", markersize=5, label=label)
            if "AUG" in scale:
                top = max((c.off.max() for c in mine if c.strategy != "NOM"), default=0.0)
                axes.set_ylim(-0.05 * top, 1.15 * top or 1.0)
            axes.set_xlabel(r"$\|A - A^0\|$")
            axes.set_ylabel(r"$\|A_{E^\perp}\|$")
            if scale.endswith("logarithmic"):
                axes.set_xscale("log")
                axes.set_yscale("log")
            else:
                axes.ticklabel_format(style="sci", scilimits=(-2, 2))
                axes.axhline(0, color="black", linewidth=0.6, zorder=0)
            axes.set_title(f"{task.upper()}{scale}", fontsize="medium")
        line[0].legend(fontsize="x-small")
    return figure


def said_of_cost(by: dict[tuple[str, str], Curves], rows: Sequence[dict], task: str) -> str:
    """What a run costs and all of the paper's, where the plain way was timed."""
    plain = [r["plain_seconds"] for r in rows if r["task"] == task and r["strategy"] == "COST"]
    timed = {s: by[task, s].cpu_seconds for s in PAPER if (task, s) in by and by[task, s].cpu_seconds}
    if not plain or len(timed) < len(PAPER):
        return ""
    every, rest = 30, timed["NOM"] + timed["EQUI"]
    each = ", ".join(f"{name} {seconds / 60:.2g}" for name, seconds in timed.items())
    return (
        f" Processor minutes of a run: {each}; AUG with every pass computed {plain[0] / 60:.3g}, from two of its "
        f"passes. All {every} runs of the three strategies take {every * (rest + timed['NEAR']) / 3600:.1f} hours of "
        f"one core with NEAR and {every * (rest + plain[0]) / 3600:.1f} with AUG, half of it on two."
    )


def section(found: Sequence[Curves], rows: Sequence[dict], options: dict) -> Section:
    """The words, from the numbers."""
    by = {(c.task, c.strategy): c for c in found}
    tasks = [t for t in TASKS if any(c.task == t for c in found)]
    measured, ratios, apart = [], [], []
    for task in tasks:
        nom, exact, equi = (by.get((task, s)) for s in ("NOM", "EXACT", "EQUI"))
        aug = by.get((task, "AUG"), by.get((task, "NEAR")))
        aug = by[task, "NEAR"] if (task, "NEAR") in by and len(by[task, "NEAR"].off) > len(aug.off) else aug
        text = f"{task.upper()}: "
        if nom:
            text += (
                f"NOM ends at ‖A_{{E⊥}}‖ = {nom.end[1]:.2e} after ‖A − A⁰‖ = {nom.end[0]:.2e} ({runs(len(nom.off))})"
            )
            text += f", {nom.ratio:.3f} times what the gradient at the start predicts" if np.isfinite(nom.ratio) else ""
        if aug:
            text += f"; sampled AUG at {aug.end[1]:.2e} after {aug.end[0]:.2e} ({runs(len(aug.off))})"
            if np.isfinite(aug.ratio):
                ratios.append(aug.ratio)
                text += f", {aug.ratio:.3f} times the noise's prediction"
        if nom and aug:
            apart.append((task.upper(), nom.end[1] / aug.end[1]))
            text += f". NOM leaves E {apart[-1][1]:.0f} times as far"
        if exact:
            text += f". AUG with the exact average stays within {exact.off.max():.1e} of E"
            text += said_of_rounding(rows, task, options)
        if equi and equi.off.max() > 0:
            text += f". EQUI stays within {equi.off.max():.1e} of E"
        elif equi:
            text += ". EQUI runs in coordinates of E and has no weights that could leave it"
        if both := agreement(rows, task):
            text += f". NEAR and AUG with the same draws ({runs(both[0])}) differ by at most {both[1]:.1e}, relatively"
        near = by.get((task, "NEAR"))
        if near and near.left_out is not None:
            text += f"; what NEAR leaves out is bounded by {near.left_out:.1e}, to first order"
        measured.append(text + "." + said_of_cost(by, rows, task))
    spread = "not compared with it"
    if ratios:
        ends = sorted({f"{ratio:.2f}" for ratio in (min(ratios), max(ratios))})
        spread = f"between {ends[0]} and {ends[1]}" if len(ends) > 1 else ends[0]
    far = ", ".join(f"{ratio:.0f} in {task}" for task, ratio in apart)
    return Section(
        f"How far training leaves E, {options['size']} size",
        "Augmented gradient flow never leaves E (Corollary 1), so what AUG shows is the noise of its samples: K "
        "passes, each mini-batch b of each pass with a Haar element of its own, are a random walk of expected square "
        "τ²(t/K) Σ_b‖Π_{E⊥}∇R_b‖² after t epochs. NOM follows Π_{E⊥}∇R, tτ‖Π_{E⊥}∇R‖ to first order. EQUI, and AUG "
        "with the exact Haar average, stay in E up to rounding, which EQUI projects out and EXACT multiplies by "
        "max|1 − τλ| a step at most, λ in the spectrum of ∇²R^aug on E⊥.",
        "\n\n".join(measured),
        f"The drift of sampled augmentation off E is sampling noise, measured over predicted {spread}, from one "
        f"gradient at the start. NOM leaves E further by a factor of {far}. What separates AUG from E over these "
        "epochs is not an unstable spectrum, which would need times of order 1/|λ| against the "
        f"{options['epochs'] * options['step']:g} units of flow time covered here."
        + (
            " Nor does rounding grow with so short a step: where it does is shown in Leaving E, by a step above "
            "2/λ_max on E⊥."
            if any(c.strategy == "EXACT" for c in found)
            else ""
        ),
    )


def table_of(found: Sequence[Curves]) -> dict:
    """Every strategy on every task, after the last epoch."""
    header = [
        "task",
        "strategy",
        "runs",
        "‖A − A⁰‖",
        "‖A_{E⊥}‖",
        "predicted",
        "measured / predicted",
        "CPU seconds a run",
    ]

    def or_none(value: float | None) -> float | None:
        return value if value is not None and np.isfinite(value) else None

    lines = [
        [c.task, c.strategy, len(c.off), *c.end, or_none(float(c.predicted.mean())), or_none(c.ratio), c.cpu_seconds]
        for c in found
    ]
    return table("Where each strategy ends", header, lines)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="small", choices=("small", "medium", "paper"))
    parser.add_argument("--task", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--strategy", nargs="+", choices=STRATEGIES)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--passes", type=int, default=PASSES)
    parser.add_argument("--step", type=float, default=STEP)
    parser.add_argument("--samples", type=int)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--show", action="store_true", help="run nothing, draw what is there")
    pool_arguments(parser)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    options.strategy = options.strategy or (PAPER if options.size == "paper" else STRATEGIES)
    options.out = options.out or Path("reports") / f"figure1-{options.size}"
    return options


def beside(options: argparse.Namespace, run: int) -> list[str]:
    """What is measured of a run beside its training."""
    wanted = {"START": True, "CURVATURE": "EXACT" in options.strategy, "COST": options.size == "paper" and run == 0}
    return [name for name, is_wanted in wanted.items() if is_wanted]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, draw, print the means."""
    options = parse(arguments)
    folder = prepare_folder(options.out)
    rows = Rows(folder / "figure1.json", key(options))
    jobs = [
        (task, name, run)
        for run in range(0 if options.show else options.runs)
        for task in options.task
        for name in (*beside(options, run), *options.strategy)
        if not rows.has(task=task, strategy=name, run=run)
    ]
    if jobs:
        with pool(options.scheduler, options.workers) as spread:
            minutes = estimate(jobs, options) / 60 / min(spread.workers, len(jobs))
            print(f"{len(jobs)} runs to do, about {minutes:.1f} minutes", flush=True)
            for _, row in spread.run(one_run, [(*job, options) for job in jobs], "figure 1"):
                rows.add(row)
    if (options.out / "state").is_dir() and not any((options.out / "state").iterdir()):
        (options.out / "state").rmdir()
    shown = [r for r in rows.rows if r["task"] in options.task and r["run"] < options.runs]
    found, starts = curves(shown, rows.options), [r for r in shown if r["strategy"] == "START"]
    words = section(found, shown, rows.options)
    finish(folder, "figure1", rows, draw(found, starts, rows.options), words, [table_of(found)])
    for c in found:
        print(
            f"{c.task:6}{c.strategy:6}{len(c.off):3} runs  ‖A − A⁰‖ {c.end[0]:.3e}  ‖A_E⊥‖ {c.end[1]:.3e}"
            f"  measured/predicted {c.ratio:.3f}"
        )


if __name__ == "__main__":
    raise SystemExit(command(main))
