"""For translations: the lowest eigenvalue of every frequency's sector, on the grid of frequencies."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axis import Axis
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure as Canvas

from stability.report import symmetry, words
from stability.report.figures.figure import Figure, Omitted
from stability.report.rows import Rows
from stability.report.style import SIGNED, panels
from stability.report.words import number
from stability.results import Analysis
from stability.spectra.sectors import Sector

# On an axis at most.
TICKS = 16


def look(analysis: Analysis) -> list[Sector] | Omitted | None:
    """The sectors with a frequency of a plane, at least three, where they differ by more than their errors."""
    found = [x for x in analysis.sectors if x.frequency is not None and x.lowest]
    if len(analysis.group.get("moduli") or ()) != 2 or len(found) < 3:
        return None
    low, error = np.array([x.lowest[0].value for x in found]), np.array([error_of(x) for x in found])
    if (low - error).max() > (low + error).min():
        return found
    first = words.eigenvalue(float(low.min()))
    return Omitted(
        f"the lowest eigenvalues of the {len(found)} frequencies known agree at {first} to within their errors, "
        f"{number(error.max(), 2)}, so no pattern grows faster than another"
    )


def error_of(x: Sector) -> float:
    """What the lowest eigenvalue of a sector may be off by."""
    return max(x.error, x.lowest[0].residual)


def paint(analysis: Analysis, found: list[Sector]) -> Canvas:
    """The grid, zero frequency in the middle."""
    rows, columns = symmetry.moduli_of(analysis)
    grid, unstable = np.full((rows, columns), np.nan), np.zeros((rows, columns), dtype=bool)
    for x in found:
        for sign in (1, -1):
            i, j = (sign * q for q in x.frequency or ())
            at = (i + rows // 2) % rows, (j + columns // 2) % columns
            grid[at], unstable[at] = x.lowest[0].value, x.lowest[0].value < -error_of(x)
    with panels(1, 5.6) as (canvas, (axes,)):
        axes.grid(False)
        extent = (-(columns // 2) - 0.5, columns - columns // 2 - 0.5, rows - rows // 2 - 0.5, -(rows // 2) - 0.5)
        image = axes.imshow(grid, cmap=SIGNED, norm=CenteredNorm(), extent=extent)
        image.set_gid("frequencies")
        for i, j in np.argwhere(unstable):
            bright = float(np.asarray(image.norm(grid[i, j]))) > 0.25
            style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 13, "fontweight": "bold"}
            style["color"] = "black" if bright else "white"
            axes.text(j - columns // 2, i - rows // 2, "–", **style)
        bar = canvas.colorbar(image, ax=axes, label="lowest eigenvalue of the sector (per unit of squared weight)")
        bar.ax.axhline(0.0, color="black", linewidth=1.5, gid="zero")
        _number(axes.xaxis, columns)
        _number(axes.yaxis, rows)
        across, up = ("periods per image width", "periods per image height")
        if symmetry.acts(analysis) != "shifts":
            across, up = "second component", "first component"
        axes.set_xlabel(f"$q_2$, {across}, modulo {columns}")
        axes.set_ylabel(f"$q_1$, {up}, modulo {rows}")
        said = "which pattern wants to grow: – marks the unstable frequencies, E is the middle"
        axes.set_title(said if unstable.any() else "no frequency found unstable; E is the middle")
    return canvas


def _number(axis: Axis, n: int) -> None:
    """Ticks as the sectors are named, from 0 to n − 1; n − 1 stands beside 0, as −1 would."""
    step = -(-n // TICKS)
    places = [q for q in range(-(n // 2), n - n // 2) if q % step == 0]
    axis.set_ticks(places, [f"{q % n}" for q in places])


def say(analysis: Analysis, found: list[Sector]) -> str:
    """What a frequency is, and which grow."""
    wave = "change by this wave from one position to the next"
    if symmetry.acts(analysis) != "shifts":
        wave = "take this character under the group"
    return (
        f"The lowest eigenvalue for every frequency q, that is for perturbations that {wave}; – marks a frequency "
        "whose pattern grows under augmented training. q and −q are one sector, named by one of the two. "
        f"{words.by_irrep(analysis)}{_unknown(analysis, found)}"
    )


def _unknown(analysis: Analysis, found: list[Sector]) -> str:
    moduli = symmetry.moduli_of(analysis)
    seen = {tuple(s * q % n for q, n in zip(x.frequency or (), moduli, strict=True)) for x in found for s in (1, -1)}
    return "" if len(seen) == math.prod(moduli) else " Where it is white the sector was not searched."


def rows(_: Analysis, found: list[Sector]) -> Rows:
    """One line a sector."""
    table = [(*(x.frequency or ()), x.lowest[0].value, x.lowest[0].residual) for x in found]
    axes = tuple(f"frequency_{i}" for i in range(len(table[0]) - 2))
    return (*axes, "lowest_eigenvalue", "residual"), table


def tell(analysis: Analysis, _: list[Sector]) -> str:
    """Which are below zero."""
    return words.by_irrep(analysis)


FIGURE = Figure("frequencies", "Which pattern grows", look, paint, say, rows, tell)
