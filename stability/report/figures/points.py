"""The points found: gradient norm on E against risk."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from stability.points.describe import PointReport
from stability.report.figures.figure import Figure
from stability.report.rows import Rows
from stability.report.style import BLUE, GREEN, GREY, RED, on_paper, panels
from stability.report.words import kind, number
from stability.results import Analysis

KINDS = {"minimum": ("o", BLUE), "saddle": ("D", RED), "origin": ("s", GREY)}
ASIDE: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}


def look(analysis: Analysis) -> list[tuple[PointReport, float]] | None:
    """The points with their gradient norm on E, those of which it is known; one alone is told by its table."""
    found = [(p, norm) for p in analysis.points if (norm := p.grad_norm.get("eqv")) is not None]
    return found if len(found) > 1 else None


def risk_of(p: PointReport) -> float | None:
    """R^aug; R, which agrees with it on E, where that was not computed."""
    risk = p.risk.get("aug")
    return risk if risk is not None else p.risk.get("nominal")


def paint(_: Analysis, found: list[tuple[PointReport, float]]) -> Canvas:
    """One mark a point, the first filled, with the tolerance."""
    tolerance = found[0][0].tolerance
    positive = [x for x in [*(norm for _, norm in found), tolerance] if x > 0]
    floor = 10.0 ** (math.floor(math.log10(min(positive, default=1e-16))) - 1)
    with panels(1, 5.6 if on_paper() else 4.0) as (canvas, (axes,)):
        for i, (p, norm) in enumerate(found, 1):
            marker, colour = KINDS.get(kind(p), ("^", GREEN))
            name, score = p.metrics.get("name"), p.metrics.get("train")
            label = f"{i}  {kind(p)}" + ("" if p.index_E is None else f", index {p.index_E}")
            label += "" if None in (name, score) else f", {name} {number(score)}"
            face, at = colour if i == 1 else "white", (risk_of(p) or 0.0, max(norm, floor))
            drawn = axes.scatter([at[0]], [at[1]], s=90, marker=marker, facecolor=face, label=label, zorder=3)
            drawn.set(edgecolor=colour, linewidth=2, gid="point", clip_on=False)  # a zero sits on the lower edge
            place: dict[str, Any] = {"xytext": (0, 10 if i % 2 or not norm else -18), "textcoords": "offset points"}
            axes.annotate(f"{i}" if norm else f"{i} (zero)", at, ha="center", **place)
        axes.axhline(tolerance, color="0.3", linestyle="--", linewidth=1.5, label=f"tolerance {number(tolerance)}")
        axes.set_yscale("log")
        axes.set_ylim(floor, max(positive, default=1.0) * 10)
        axes.margins(x=0.15)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set(xlabel=r"risk $R^{\mathrm{aug}}$", ylabel=r"gradient norm $\|\nabla R^{\mathrm{eqv}}\|$")
        aside: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.22)} if on_paper() else ASIDE
        axes.legend(**aside, fontsize=10, title="filled: the point judged")
    return canvas


def say(analysis: Analysis, _: list[tuple[PointReport, float]]) -> str:
    """How many are stationary."""
    below = sum(p.converged for p in analysis.points)
    return (
        "Distinct points found on E, best first; the first, filled, is the one judged. Below the dashed line the "
        f"gradient is small enough to count as stationary: {below} of {len(analysis.points)}. Index: descending "
        "directions inside E."
    )


def rows(analysis: Analysis, _: list[tuple[PointReport, float]]) -> Rows:
    """One line a point."""
    table = [(i, p.kind, risk_of(p), p.grad_norm.get("eqv"), p.index_E) for i, p in enumerate(analysis.points, 1)]
    return ("point", "kind", "risk", "gradient_norm_on_E", "index_on_E"), table


def tell(analysis: Analysis, _: list[tuple[PointReport, float]]) -> str:
    """How many there are, and how many are stationary."""
    below = sum(p.converged for p in analysis.points)
    return f"Points found: {len(analysis.points)}, of which {below} have a gradient norm below the tolerance."


FIGURE = Figure("points", "The points found", look, paint, say, rows, tell)
