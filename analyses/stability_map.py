r"""Where equivariant minima are unstable: over width, weight decay, depth, samples and group, on three kinds of data.

    python -m analyses.stability_map [--maps digits graphs shapes group depth samples training] [--starts 6] [--out DIR]

Small networks, X_0 = ρ → c·ρ → … → outputs with tanh: 4 × 4 digits (classes, invariant), graphs of five nodes
(connected or not, invariant), 4 × 4 shapes (masks, equivariant). Every start is minimised on E to rounding and
resolved: all eigenvalues of ∇²R on E and, sector by sector, of ∇²R^aug on E⊥. Along the lowest direction v of E⊥ the
quotient is taken apart,

    q = μ + ⟨Jv, ℓ''Jv⟩ + Σ ℓ'·∂²Φ[v, v],        decay, Gauss-Newton part ≥ 0, residual part

from products of its own, which check the eigenvalue too. ``training`` follows λ_min on E⊥ from random starts along
equivariant training. Rows are kept as they come; a second call computes what is missing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from torch import Tensor
from torch.func import grad, jvp

from analyses.shared import (
    MARKERS,
    TOLERANCE,
    Ground,
    Rows,
    Section,
    accuracies,
    command,
    finish,
    pool_arguments,
    prepare_folder,
    resolve,
    table,
)
from stability import sectors
from stability.cluster import pool
from stability.data import digits, graphs, shapes
from stability.groups import Cyclic, Group, Symmetric, permutation, rotations, roto_translations, torus, trivial
from stability.networks import Classifier, Identity, Pointwise, cross_entropy, logistic, mlp, supervised, two_masks
from stability.problem import Problem
from stability.stationary import gradient_scale, minimise
from stability.tasks import TaskOptions
from stability.tasks.options import TEST_SAMPLES, prepare
from stability.tasks.trans import pixels
from stability.training import descend_on_e

SIDE, NODES = 4, 5
GROUPS: dict[str, Group] = {
    "rotations": Cyclic(4),
    "rows": Cyclic(SIDE),
    "torus": torus(SIDE),
    "roto-translations": roto_translations(SIDE),
}


@dataclass(frozen=True)
class Cell:
    """One place of a map.

    Attributes:
        task: digits, graphs or shapes.
        width: channels of every hidden layer.
        decay: μ.
        depth: hidden layers.
        samples: to train on.
        group: for digits.
    """

    task: str
    width: int = 2
    decay: float = 1e-3
    depth: int = 1
    samples: int = 200
    group: str = "torus"


@dataclass(frozen=True)
class Map:
    """Cells that are compared, and along what."""

    cells: tuple[Cell, ...]
    along: tuple[str, ...]


WIDTHS, DECAYS = (1, 2, 4, 8), (1e-4, 1e-3, 1e-2, 1e-1)
BASE = {"digits": Cell("digits"), "graphs": Cell("graphs"), "shapes": Cell("shapes")}
MAPS = {
    "digits": Map(tuple(replace(BASE["digits"], width=w, decay=d) for d in DECAYS for w in WIDTHS), ("width", "decay")),
    "graphs": Map(
        tuple(replace(BASE["graphs"], width=w, decay=d) for d in DECAYS[:3] for w in WIDTHS[:3]), ("width", "decay")
    ),
    "shapes": Map(
        tuple(replace(BASE["shapes"], width=w, decay=d) for d in DECAYS[:3] for w in WIDTHS[:2]), ("width", "decay")
    ),
    "group": Map(tuple(replace(BASE["digits"], group=g) for g in GROUPS), ("group",)),
    "depth": Map(tuple(replace(BASE["digits"], depth=d) for d in (1, 2)), ("depth",)),
    "samples": Map(tuple(replace(BASE["digits"], samples=n) for n in (25, 50, 100, 200, 400)), ("samples",)),
}
TRAINING = "training"
EPOCHS, STEP = (0, 3, 10, 30, 100, 300, 1000), 0.1


@lru_cache(maxsize=4)
def problem_of(cell: Cell) -> Problem:
    """The network and its data."""
    options = TaskOptions(samples=cell.samples)
    if cell.task == "graphs":
        group, data = Symmetric(NODES), graphs(NODES, cell.samples + TEST_SAMPLES, 0, 0.7, 0.2)
        node = permutation(group, f"R^{NODES}")
        rho, output, loss, target = node * node, 1 * trivial(group), logistic, None
    elif cell.task == "shapes":
        group, data = Cyclic(4), shapes(SIDE, cell.samples + TEST_SAMPLES, 0)
        rho = rotations(group, SIDE)
        output, loss, target = 2 * rho, two_masks, 2 * rho
    else:
        group, data = GROUPS[cell.group], digits(SIDE, cell.samples + TEST_SAMPLES, 0)
        rho, output, loss, target = pixels(cell.group, group, SIDE), 10 * trivial(group), cross_entropy, None
    hidden = [cell.width * rho] * cell.depth
    network = mlp([1 * rho, *hidden, output], [*[Pointwise("tanh")] * cell.depth, Identity()])
    train, test = prepare(data, cell.samples, options)
    return supervised(cell.task, Classifier(network, loss, target), train, test, cell.decay)


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


# ------------------------------------------------------------------------------------------------- what it shows


def minima(rows: Sequence[dict]) -> list[dict]:
    """Points found to the tolerance that are strict minima on E."""
    return [r for r in rows if r["kind"] == "minimum" and r["converged"] and r["lambda_min_E"] > 0]


def unstable(row: dict) -> bool:
    """A negative eigenvalue on E⊥, by more than what two ways of computing it disagree by, and rounding."""
    noise = 10 * row["check"] + 1e-10 * row["lambda_max_E_perp"]
    return row["lambda_min_E_perp"] < -noise and row["parts"]["quotient"] < -noise


def collapsed(row: dict) -> bool:
    """The decay has driven the network to A = 0 or so near it that it decides nothing."""
    return row["norm"] < 1e-3


def of_cell(rows: Sequence[dict], cell: Cell) -> list[dict]:
    """Rows of one cell."""
    return [r for r in rows if r["cell"] == asdict(cell)]


def interval(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share.

    >>> [round(v, 2) for v in interval(5, 5)]
    [0.57, 1.0]
    """
    z, share = 1.96, successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


def leverage(row: dict) -> float:
    """−residual/(Gauss-Newton + μ) along the lowest direction of E⊥: above one exactly where λ_min < 0."""
    parts = row["parts"]
    return -parts["residual"] / (parts["gauss_newton"] + parts["decay"])


CANDIDATES = {
    "misfit √E|ℓ'|²": lambda r: r["misfit"],
    "dim E": lambda r: r["dim_E"],
    "dim E/dim L": lambda r: r["dim_E"] / r["dim_L"],
    "width": lambda r: r["cell"]["width"],
    "μ": lambda r: r["cell"]["decay"],
    "samples": lambda r: r["cell"]["samples"],
    "training accuracy": lambda r: r["accuracy"].get("train", float("nan")),
}


def rank_correlations(rows: Sequence[dict]) -> dict[str, float]:
    """Spearman's rank correlation of :func:`leverage` with what might decide it; without those that do not vary."""
    value = [leverage(r) for r in rows]
    found = {}
    for name, candidate in CANDIDATES.items():
        other = [candidate(r) for r in rows]
        if len(set(other)) > 1 and len(rows) > 5:
            found[name] = float(spearmanr(other, value)[0])
    return found


def _heat(axes: object, rows: Sequence[dict], which: Map, title: str) -> None:
    """Share of unstable minima over width and decay; each cell says how many of how many."""
    widths, decays = (sorted({getattr(c, k) for c in which.cells}) for k in ("width", "decay"))
    share = np.full((len(decays), len(widths)), np.nan)
    for cell in which.cells:
        mine = minima(of_cell(rows, cell))
        if not mine:
            continue
        i, j, count = decays.index(cell.decay), widths.index(cell.width), sum(map(unstable, mine))
        share[i, j] = count / len(mine)
        lowest = np.median([r["lambda_min_E_perp"] for r in mine])
        accuracy = np.mean([r["accuracy"].get("test", np.nan) for r in mine])
        text = f"{count}/{len(mine)}\n{lowest:.0e}\n{accuracy:.2f}"
        axes.text(j, i, text, ha="center", va="center", color="white" if share[i, j] > 0.5 else "black", fontsize=7)
    axes.imshow(share, cmap="Greys", vmin=0, vmax=1.2, origin="lower", aspect="auto")
    axes.set_xticks(range(len(widths)), widths)
    axes.set_yticks(range(len(decays)), [f"{d:g}" for d in decays])
    axes.set_xlabel("width (channels)")
    axes.set_ylabel("weight decay μ")
    axes.set_title(title, fontsize="medium")


def _line(axes: object, rows: Sequence[dict], which: Map) -> None:
    """λ_min on E⊥ of every point along one option; filled where unstable."""
    (along,) = which.along
    names = [getattr(c, along) for c in which.cells]
    for i, cell in enumerate(which.cells):
        mine = minima(of_cell(rows, cell))
        for k, r in enumerate(mine):
            fill = "full" if unstable(r) else "none"
            axes.plot(i + 0.04 * (k - len(mine) / 2), r["lambda_min_E_perp"], "o", color="black", fillstyle=fill, ms=5)
        if mine:
            label = f"{sum(map(unstable, mine))}/{len(mine)}"
            axes.annotate(label, (i, 1), xycoords=("data", "axes fraction"), va="top", ha="center", fontsize=8)
    axes.axhline(0, color="black", linewidth=1)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_xticks(range(len(names)), names, rotation=20 if along == "group" else 0, fontsize="small")
    axes.set_xlabel({"samples": "samples", "depth": "hidden layers", "group": "group"}[along])
    axes.set_ylabel(r"$\lambda_{\min}$ on $E^\perp$")
    axes.set_yscale("symlog", linthresh=1e-4)
    axes.set_title(f"digits, by {along}", fontsize="medium")


def draw(rows: Sequence[dict]) -> Figure:
    """Three maps, three lines, and what decides: E against E⊥, the parts, and training."""
    figure = Figure(figsize=(13, 12), layout="constrained")
    panels = figure.subplots(3, 3)
    for axes, name in zip(panels[0], ("digits", "graphs", "shapes"), strict=True):
        _heat(axes, rows, MAPS[name], f"{name}: unstable of strict minima,\nmedian $\\lambda_{{\\min}}$, test accuracy")
    for axes, name in zip(panels[1], ("group", "depth", "samples"), strict=True):
        _line(axes, rows, MAPS[name])
    points, (left, middle, right) = minima(rows), panels[2]
    tasks = [t for t in BASE if any(r["cell"]["task"] == t for r in points)]
    for task, marker, shade in zip(tasks, MARKERS, ("black", "#d55e00", "#56b4e9"), strict=False):
        mine = [r for r in points if r["cell"]["task"] == task and not collapsed(r)]
        for r, label in zip(mine, [task, *[None] * len(mine)], strict=False):
            fill = "full" if unstable(r) else "none"
            style = {"color": shade, "marker": marker, "linestyle": "none", "fillstyle": fill, "ms": 5, "label": label}
            left.plot(r["lambda_min_E"], r["lambda_min_E_perp"], **style)
            parts = r["parts"]
            middle.plot(parts["gauss_newton"] + parts["decay"], -parts["residual"], **style)
        along = [r for r in rows if r["kind"] == TRAINING and r["cell"]["task"] == task]
        for start in sorted({r["start"] for r in along}):
            run = [r for r in along if r["start"] == start]
            x, y = [r["epoch"] * STEP for r in run], [r["lambda_min_E_perp"] for r in run]
            right.plot(x, y, color=shade, marker=marker, linewidth=0.8, ms=4, label=task if start == 0 else None)
    left.axhline(0, color="black", linewidth=1)
    left.set_xscale("log")
    left.set_yscale("symlog", linthresh=1e-4)
    left.set_xlabel(r"$\lambda_{\min}$ on $E$")
    left.set_ylabel(r"$\lambda_{\min}$ on $E^\perp$")
    left.set_title("every strict minimum; filled: unstable", fontsize="medium")
    left.legend(fontsize="small")
    if any(not collapsed(r) for r in points):
        shown = [r["parts"] for r in points if not collapsed(r)]
        ends = [f(p["gauss_newton"] + p["decay"] for p in shown) for f in (min, max)]
        middle.plot(ends, ends, color="black", linewidth=1)
        middle.set_xscale("log")
        middle.set_yscale("log")
    middle.set_xlabel("along the lowest direction: Gauss-Newton part + μ")
    middle.set_ylabel("− residual part")
    middle.set_title("above the line: unstable", fontsize="medium")
    right.axhline(0, color="black", linewidth=1)
    right.set_xscale("symlog", linthresh=STEP)
    right.set_xlim(0, 1.2 * EPOCHS[-1] * STEP)
    right.set_yscale("symlog", linthresh=1e-3)
    right.set_xlabel("flow time of equivariant training")
    right.set_ylabel(r"$\lambda_{\min}$ on $E^\perp$")
    right.set_title("transverse stability along training", fontsize="medium")
    return figure


def section(rows: Sequence[dict]) -> Section:
    """The words, from the numbers."""
    points = minima(rows)
    alive = [r for r in points if not collapsed(r)]
    found = [r for r in rows if r["kind"] == "minimum"]
    texts = [
        f"{len(found)} searches ended in {len(points)} strict minima on E; the other {len(found) - len(points)} fell "
        "short of the tolerance or were no strict minima and are left out, as are "
        f"{len(points) - len(alive)} that collapsed to A = 0"
    ]
    for task in BASE:
        mine = [r for r in alive if r["cell"]["task"] == task]
        if mine:
            count = sum(map(unstable, mine))
            low, high = interval(count, len(mine))
            texts.append(
                f"{task}: {count} of {len(mine)} are unstable (95 %: {low:.2f} to {high:.2f}), with "
                f"{min(r['negative'] for r in mine)} to {max(r['negative'] for r in mine)} negative directions"
            )
            for name, flag in (("unstable", True), ("stable", False)):
                side = [r["accuracy"] for r in mine if unstable(r) == flag]
                if side:
                    train, constant = (np.median([a[k] for a in side]) for k in ("train", "constant"))
                    texts[-1] += f"; the {name} ones have a median training accuracy of {train:.2f}"
                    texts[-1] += f" ({constant:.2f} for the constant)"
    for name in ("digits", "group", "depth", "samples"):
        lines = []
        for cell in MAPS[name].cells:
            mine = minima(of_cell(rows, cell))
            if mine and len(MAPS[name].along) == 1:
                median = np.median([r["lambda_min_E_perp"] for r in mine])
                value = getattr(cell, MAPS[name].along[0])
                lines.append(f"{value} {sum(map(unstable, mine))}/{len(mine)}, median λ_min {median:.1e}")
        if lines:
            texts.append(f"digits by {name}: " + "; ".join(lines))
    shaken = [r for r in alive if unstable(r)]
    if shaken:
        leaders = {}
        for r in shaken:
            key = (r["cell"]["task"], r["irrep"])
            leaders[key] = leaders.get(key, 0) + 1
        top = sorted(leaders.items(), key=lambda item: -item[1])[:6]
        texts.append("leading irreps: " + ", ".join(f"{task} {irrep} {count}×" for (task, irrep), count in top))
    train = [r for r in rows if r["kind"] == TRAINING]
    for task in BASE:
        first = [r for r in train if r["cell"]["task"] == task and r["epoch"] == EPOCHS[0]]
        last = [r for r in train if r["cell"]["task"] == task and r["epoch"] == EPOCHS[-1]]
        if first and last:
            values = [np.median([r["lambda_min_E_perp"] for r in side]) for side in (first, last)]
            texts.append(
                f"{task}: E is transversally unstable at {sum(r['lambda_min_E_perp'] < 0 for r in first)} of "
                f"{len(first)} random starts (median λ_min {values[0]:.1e}) and after flow time "
                f"{EPOCHS[-1] * STEP:g} of equivariant training at "
                f"{sum(r['lambda_min_E_perp'] < 0 for r in last)} of {len(last)} "
                f"({values[1]:.1e})"
            )
    worst = max((r["check"] for r in points), default=0.0)
    texts.append(f"quotients computed apart differ from the eigenvalues by at most {worst:.0e}")
    return Section(
        "Where equivariant minima are unstable, and what decides it",
        "The theory allows a strict minimum on E to be a saddle of R^aug and does not say when. Along a direction of "
        "E⊥ the quotient is the decay plus a Gauss-Newton part, never negative, plus a residual part, the loss's slope "
        "against the second derivative of the network. It can only be negative where samples are not fitted.",
        ".\n\n".join(texts) + ".",
        _meaning(alive),
    )


def _meaning(alive: Sequence[dict]) -> str:
    if len(alive) < 8:
        return "Too few points to say what decides."
    shaken, held = ([r for r in alive if unstable(r) == flag] for flag in (True, False))
    text = (
        f"{len(shaken)} of {len(alive)} equivariant minima are saddles of R^aug. The sign is that of a balance along "
        "one direction, residual part against Gauss-Newton part and decay: their ratio passes one as λ_min passes zero"
    )
    for name, side in (("unstable", shaken), ("stable", held)):
        if side:
            ratio, fit = (np.median([f(r) for r in side]) for f in (leverage, lambda r: r["misfit"]))
            text += f"; at {name} points its median is {ratio:.2g} and the median misfit {fit:.2g}"
    text += "."
    for scope, rows in [("all points", alive), *((t, [r for r in alive if r["cell"]["task"] == t]) for t in BASE)]:
        ranked = sorted(rank_correlations(rows).items(), key=lambda item: -abs(item[1]))[:3]
        if ranked:
            text += f" Over {scope} the ratio goes by rank with " if scope == "all points" else f" On {scope}, with "
            text += ", ".join(f"{name} ({value:+.2f})" for name, value in ranked) + "."
    zero = [r for r in shaken if r["parts"]["gauss_newton"] < 1e-6 * r["parts"]["decay"]]
    if zero:
        text += (
            f" At {len(zero)} unstable points the Gauss-Newton part of the lowest direction vanishes: the predictions "
            "do not see it to first order, and the decay alone holds it, against a residual part that the same decay "
            "leaves by keeping every sample from being fitted."
        )
    return text


def tables_of(rows: Sequence[dict]) -> list[dict]:
    """Every cell with its error bars."""
    header = ["task", "group", "width", "depth", "samples", "μ", "minima", "unstable", "share, 95 %"]
    header += ["median λ_min on E⊥", "its range", "median λ_min on E", "negative", "irrep", "train", "test", "constant"]
    lines = []
    for cell in dict.fromkeys(c for m in MAPS.values() for c in m.cells):
        mine = minima(of_cell(rows, cell))
        if not mine:
            continue
        count = sum(map(unstable, mine))
        low, high = interval(count, len(mine))
        perp = [r["lambda_min_E_perp"] for r in mine]
        leading = [r["irrep"] for r in mine]
        lines.append(
            [cell.task, problem_name(cell), cell.width, cell.depth, cell.samples, cell.decay, len(mine), count]
            + [f"{low:.2f} to {high:.2f}", float(np.median(perp)), f"{min(perp):.1e} to {max(perp):.1e}"]
            + [float(np.median([r["lambda_min_E"] for r in mine]))]
            + [f"{min(r['negative'] for r in mine)} to {max(r['negative'] for r in mine)}"]
            + [max(set(leading), key=leading.count)]
            + [float(np.mean([r["accuracy"].get(k, np.nan) for r in mine])) for k in ("train", "test", "constant")]
        )
    alive = [r for r in minima(rows) if not collapsed(r)]
    scopes = {"all": alive, **{t: [r for r in alive if r["cell"]["task"] == t] for t in BASE}}
    ranks = {scope: rank_correlations(mine) for scope, mine in scopes.items()}
    title = "Rank correlation of −residual/(Gauss-Newton + μ) along the lowest direction with what might decide it"
    return [
        table("Every cell of the maps", header, lines),
        table(title, ["", *scopes], [[name, *(ranks[t].get(name) for t in scopes)] for name in CANDIDATES]),
    ]


def problem_name(cell: Cell) -> str:
    """The group of a cell."""
    return {"graphs": f"S_{NODES}", "shapes": "C_4"}.get(cell.task) or GROUPS[cell.group].name


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [*MAPS, TRAINING]
    parser.add_argument("--maps", nargs="+", default=names, choices=names)
    parser.add_argument("--starts", type=int, default=6, help="random starts for every cell")
    pool_arguments(parser)
    parser.add_argument("--out", type=Path, default=Path("reports/stability_map"))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Search what is missing, start by start over all cells, draw, write."""
    options = parse(arguments)
    rows = Rows(prepare_folder(options.out) / "stability_map.json", {"side": SIDE, "nodes": NODES, "step": STEP})
    cells = list(dict.fromkeys(cell for name in options.maps if name != TRAINING for cell in MAPS[name].cells))
    jobs = [(cell, start) for start in range(options.starts) for cell in cells]
    jobs = [(c, s) for c, s in jobs if not rows.has(cell=asdict(c), start=s, kind="minimum")]
    print(f"{len(jobs)} minima to find", flush=True)
    runs = [(c, s) for s in range(options.starts) for c in BASE.values()] if TRAINING in options.maps else []
    runs = [(c, s) for c, s in runs if not rows.has(cell=asdict(c), start=s, kind=TRAINING, epoch=EPOCHS[-1])]
    with pool(options.scheduler, options.workers) as spread:
        for _, row in spread.run(measure, jobs, "minima"):
            rows.add(row)
        for _, found in spread.run(follow_training, runs, "training"):
            for row in found:
                if not rows.has(cell=row["cell"], start=row["start"], kind=TRAINING, epoch=row["epoch"]):
                    rows.add(row)
    show(options.out, rows)


def show(folder: Path, rows: Rows) -> None:
    """Picture, words and table of what is there."""
    finish(folder, "stability_map", rows, draw(rows.rows), section(rows.rows), tables_of(rows.rows))
    points = minima(rows.rows)
    print(f"{len(points)} strict minima on E, {sum(map(unstable, points))} of them unstable on E⊥")


if __name__ == "__main__":
    raise SystemExit(command(main))
