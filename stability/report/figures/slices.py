"""R^aug, R and R^eqv along the lowest modes on E⊥ and on E, with the quadratic prediction."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from stability.effects.slices import Slice
from stability.report import words
from stability.report.figures.figure import Figure, Omitted, rounding, varies
from stability.report.rows import Rows
from stability.report.style import BLUE, GREEN, ORANGE, PANELS, below_zero, legend, panels
from stability.report.words import number
from stability.results import Analysis


def look(analysis: Analysis) -> dict[str, Slice] | Omitted | None:
    """The slices by space, that on E⊥ first, where a risk changes by more than its rounding."""
    stored = analysis.pictures.slices if analysis.pictures else {}
    if "E_perp" not in stored:
        return None
    found = {where: line for where, line in stored.items() if _moves(analysis, line)}
    if "E_perp" in found:
        return found
    return Omitted("along the lowest mode off E no risk changes by more than its rounding")


def change(values: Sequence[float]) -> np.ndarray:
    """Of a risk since the point, in the middle; NaN where it is not finite."""
    found = np.asarray(values, dtype=float) - values[len(values) // 2]
    return np.where(np.isfinite(found), found, np.nan)


def _error(analysis: Analysis, values: Sequence[float]) -> float:
    finite = [abs(x) for x in values if x is not None and math.isfinite(x)]
    return rounding(analysis) * max(finite)


def _moves(analysis: Analysis, line: Slice) -> bool:
    return varies(analysis, line.aug) or varies(analysis, line.nominal)


def paint(analysis: Analysis, found: dict[str, Slice]) -> Canvas:
    """Each minus its value at the point."""
    with panels(len(found), 4.4) as (canvas, shown_in):
        for axes, (where, line) in zip(shown_in, found.items(), strict=True):
            _curves(axes, where, line, _error(analysis, line.aug))
            which = "E (trivial)" if where == "E" else f"sector {line.irrep}" if line.irrep else "lowest mode"
            axes.set_title(f"along the lowest mode on {dict(PANELS)[where]}: {which}")
        shown_in[0].set_ylabel("risk minus risk at the point (units of the loss)")
    return canvas


def _curves(axes: Axes, where: str, line: Slice, error: float) -> None:
    t, aug = np.array(line.at), change(line.aug)
    curves = (
        ("aug", line.aug, BLUE, "-", "o", r"$R^{\mathrm{aug}}$"),
        ("nominal", line.nominal, ORANGE, "--", None, "$R$"),
        ("eqv", line.eqv, GREEN, ":", None, r"$R^{\mathrm{eqv}}$"),
    )
    predicted = np.array(line.predicted()) - line.aug[len(t) // 2]
    for key, values, colour, style, marker, label in curves:
        axes.plot(
            *(t, change(values)), style, color=colour, marker=marker, markersize=3.5,
            linewidth=2.2, label=label, gid=f"{key} {where}", zorder=4 if key == "aug" else 3,
        )  # fmt: skip
    label = rf"$\frac{{1}}{{2}}\lambda t^2$, $\lambda$ = {words.eigenvalue(line.value)}"
    axes.plot(t, predicted, "-.", color="black", linewidth=1.4, label=label, gid=f"predicted {where}", zorder=5)
    if max(np.ptp(aug), np.ptp(predicted)) <= 2 * error:  # its rounding is not magnified: R gives the scale
        aug = change(line.nominal)
    low, high = min(np.nanmin(aug), predicted.min(), 0.0), max(np.nanmax(aug), predicted.max(), 0.0)
    room = 0.25 * (high - low) or 1.0
    axes.set_ylim(low - room, high + room)
    below_zero(axes, low - room)
    axes.ticklabel_format(axis="y", scilimits=(-2, 3))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("distance $t$ from the point (unit of the weights)")
    legend(axes)


def say(analysis: Analysis, found: dict[str, Slice]) -> str:
    """Whether R^aug falls on the way out."""
    across = found["E_perp"]
    on_e = "and on E, " if "E" in found else ""
    also = "On E all three agree." if on_e else "On E no risk changes by more than its rounding, so that is not drawn."
    return (
        f"R^aug, R and R^eqv minus their common value at the point, along the unit vector of the lowest mode off E "
        f"{on_e}with the quadratic prediction of R^aug from the eigenvalue. Off E, R^eqv is constant, for it sees "
        f"the projection onto E only: equivariant training cannot tell. {_falls(analysis, across)}. "
        f"{_slope(analysis, across)} {also}"
    )


def _falls(analysis: Analysis, across: Slice) -> str:
    moved, error = change(across.aug), _error(analysis, across.aug)
    best = int(np.nanargmin(moved))
    if moved[best] < -error:
        return f"R^aug falls on the way out, by {number(-float(moved[best]))} at t = {number(abs(across.at[best]))}"
    if not min(moved[0], moved[-1]) <= error:
        return "R^aug rises on both sides"
    return "R^aug does not change by more than its rounding"


def _slope(analysis: Analysis, across: Slice) -> str:
    """What R does to first order, where that can be told from the rounding of its values at the ends."""
    reach = float(np.abs(across.at).max())
    if abs(across.nominal_slope) * reach > _error(analysis, across.nominal):
        slope = number(across.nominal_slope)
        return f"R need not be even: its slope there is {slope}, which augmentation averages away."
    return "R need not be even, but here its slope is zero to within rounding."


def rows(_: Analysis, found: dict[str, Slice]) -> Rows:
    """One line a step."""
    table = []
    for where, s in found.items():
        table += [(where, *row) for row in zip(s.at, s.aug, s.nominal, s.eqv, s.predicted(), strict=True)]
    return ("direction", "t", "R_aug", "R", "R_eqv", "R_aug_quadratic"), table


def tell(analysis: Analysis, found: dict[str, Slice]) -> str:
    """Whether R^aug falls on the way out."""
    return f"Curves of the three risks over the distance from the point. Off E {_falls(analysis, found['E_perp'])}."


FIGURE = Figure("slices", "The risks along the lowest modes", look, paint, say, rows, tell)
