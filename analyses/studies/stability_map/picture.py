"""Three maps, three lines, and what decides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from analyses.lab.publish import MARKERS
from analyses.studies.stability_map.cells import BASE, EPOCHS, MAPS, STEP, TRAINING, Map
from analyses.studies.stability_map.reading import collapsed, minima, of_cell, unstable


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
