"""For translations: the lowest eigenvalue of every frequency's sector, on the grid of frequencies."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from stability.report import words
from stability.report.figures.figure import Figure
from stability.report.rows import Rows
from stability.report.style import panels
from stability.results import Analysis
from stability.sectors import Sector


def look(analysis: Analysis) -> list[Sector] | None:
    """The sectors with a frequency of a plane, at least three."""
    found = [x for x in analysis.sectors if x.frequency is not None and x.lowest]
    plane = len(analysis.group.get("moduli") or ()) == 2
    return found if plane and len(found) >= 3 else None


def paint(analysis: Analysis, found: list[Sector]) -> Canvas:
    """The grid, zero frequency in the middle."""
    rows, columns = analysis.group["moduli"]
    grid = np.full((rows, columns), np.nan)
    for x in found:
        for sign in (1, -1):
            i, j = (sign * q for q in x.frequency or ())
            grid[(i + rows // 2) % rows, (j + columns // 2) % columns] = x.lowest[0].value
    with panels(1, 5.6) as (canvas, (axes,)):
        axes.grid(False)
        extent = (-(columns // 2) - 0.5, columns - columns // 2 - 0.5, rows - rows // 2 - 0.5, -(rows // 2) - 0.5)
        image = axes.imshow(grid, cmap="cividis", extent=extent)
        image.set_gid("frequencies")
        for i, j in zip(*np.nonzero(grid < -max(x.error for x in found)), strict=True):
            bright = float(np.asarray(image.norm(grid[i, j]))) > 0.5
            style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 13, "fontweight": "bold"}
            style["color"] = "black" if bright else "white"
            axes.text(j - columns // 2, i - rows // 2, "–", **style)
        canvas.colorbar(image, ax=axes, label="lowest eigenvalue of the sector (per unit of squared weight)")
        axes.set_xlabel("horizontal frequency (periods per image width)")
        axes.set_ylabel("vertical frequency (periods per image height)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title("which pattern wants to grow: – marks the unstable frequencies, E is the middle")
    return canvas


def say(analysis: Analysis, _: list[Sector]) -> str:
    """What a frequency is, and which grow."""
    return (
        "The lowest eigenvalue for every frequency, that is for perturbations that change by this wave from one "
        f"position to the next; – marks a frequency whose pattern grows under augmented training. "
        f"{words.by_irrep(analysis)}"
    )


def rows(_: Analysis, found: list[Sector]) -> Rows:
    """One line a sector."""
    table = [(*(x.frequency or ()), x.lowest[0].value, x.lowest[0].residual) for x in found]
    axes = tuple(f"frequency_{i}" for i in range(len(table[0]) - 2))
    return (*axes, "lowest_eigenvalue", "residual"), table


def tell(analysis: Analysis, _: list[Sector]) -> str:
    """Which are below zero."""
    return words.by_irrep(analysis)


FIGURE = Figure("frequencies", "Which pattern grows", look, paint, say, rows, tell)
