"""λ_min on E and on E⊥ at every point found: which of them augmented training leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas

from stability.eigen.spectrum import Eigenvalue
from stability.points.describe import PointReport
from stability.report.figures.figure import Figure, Omitted
from stability.report.rows import Rows
from stability.report.style import BLUE, LEAST, ORANGE, below_zero, panels, symlog
from stability.report.words import eigenvalue, error_of, kind, number, sign
from stability.results import Analysis


@dataclass(frozen=True)
class Choice:
    """A point with the least eigenvalues on E and on E⊥.

    Attributes:
        point: its report.
        on_e: λ_min on E.
        across: λ_min on E⊥.
    """

    point: PointReport
    on_e: Eigenvalue
    across: Eigenvalue


def side(analysis: Analysis, choice: Choice) -> str:
    """The sign of λ_min on E⊥."""
    return sign(choice.across.value, error_of(analysis, choice.across, "E_perp"))


def look(analysis: Analysis) -> list[Choice] | Omitted | None:
    """Two points or more of which both are known; E⊥ = {0} has none."""
    found = []
    for p in analysis.points:
        on_e = next((e for e in p.lowest if e.irrep == "trivial"), None)
        across = min((e for e in p.lowest if e.irrep != "trivial"), key=lambda e: e.value, default=None)
        if on_e is not None and across is not None:
            found.append(Choice(p, on_e, across))
    if len(found) < 2:
        return None
    if all(
        sign(e.value, error_of(analysis, e, where)) == "zero"
        for c in found
        for e, where in ((c.on_e, "E"), (c.across, "E_perp"))
    ):
        return Omitted("the least eigenvalues are zero within their errors at every point found")
    return found


def paint(_: Analysis, found: list[Choice]) -> Canvas:
    """A circle and a diamond a point, best first."""
    everything = np.array([e.value for c in found for e in (c.on_e, c.across)])
    with panels(1, 4.2) as (canvas, (axes,)):
        rank = np.arange(1, len(found) + 1)
        for ends, colour, marker, shift, label, gid in (
            ([c.on_e for c in found], BLUE, "o", -0.1, "on $E$", "E"),
            ([c.across for c in found], ORANGE, "D", 0.1, r"on $E^\perp$", "E_perp"),
        ):
            values = [e.value for e in ends]
            style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 9, "linestyle": "none"}
            axes.errorbar(rank + shift, values, yerr=[e.residual for e in ends], label=label, **style)
            axes.lines[-1].set_gid(gid)
        for x, c in zip(rank, found, strict=True):
            at = (x + 0.1, c.across.value)
            axes.annotate(c.across.irrep or "", at, (8, -3), textcoords="offset points", fontsize=9)
        threshold = symlog(axes, "y", everything)
        low = min(3 * everything.min(), -threshold)
        below_zero(axes, low)
        axes.set_ylim(low, max(3 * everything.max(), threshold))
        names = [
            f"{i}: {kind(c.point)}\n$R$ = {number(c.point.risk['eqv'], 4)}" for i, c in zip(rank, found, strict=True)
        ]
        axes.set_xticks(rank, names)
        axes.set_xlim(0.5, len(found) + 0.7)
        axes.set_xlabel("points found, best first")
        axes.set_ylabel(LEAST)
        axes.set_title("which of the points found does augmented training leave?")
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=9)
    return canvas


def say(analysis: Analysis, found: list[Choice]) -> str:
    """How many it leaves."""
    sides = [side(analysis, c) for c in found]
    left, zero = sides.count("negative"), sides.count("zero")
    named = f"augmented training leaves E at {left} of {len(found)}" if left else "none was found below zero"
    named += f"; zero within the error at {zero}" if zero else ""
    return (
        "The least eigenvalue of ∇²R^aug on E (circles) and on E⊥ (diamonds, with its irrep) at every point found, "
        "error bars the residuals. A diamond in the hatched region is a point that augmented training leaves: "
        f"{named}."
    )


def rows(analysis: Analysis, _: list[Choice]) -> Rows:
    """λ_min of every sector at every point."""
    table = [
        (i, p.kind, p.risk["eqv"], e.irrep, e.value, e.residual)
        for i, p in enumerate(analysis.points, 1)
        for e in p.lowest
    ]
    return ("point", "kind", "risk", "irrep", "lowest_eigenvalue", "residual"), table


def tell(_: Analysis, found: list[Choice]) -> str:
    """Both eigenvalues, point by point."""
    ends = [
        f"{i}, {kind(c.point)}: {eigenvalue(c.on_e)} on E, {eigenvalue(c.across)} on E⊥, of {c.across.irrep}"
        for i, c in enumerate(found, 1)
    ]
    return f"The least eigenvalues at {len(found)} points. {'; '.join(ends)}."


FIGURE = Figure("choices", "Which of them augmented training leaves", look, paint, say, rows, tell)
