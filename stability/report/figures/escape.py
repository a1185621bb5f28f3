"""R^aug and the score before and after following the instability."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure as Canvas

from stability.report.advice import compared, escape, scored
from stability.report.figures.figure import Figure, rounding
from stability.report.rows import Rows
from stability.report.style import BLUE, ORANGE, panels
from stability.report.words import number
from stability.results import Analysis, Escape


def look(analysis: Analysis) -> Escape | None:
    """The end, where the instability was followed."""
    return analysis.escape


def paint(_: Analysis, e: Escape) -> Canvas:
    """Bars side by side."""
    groups = [(r"risk $R^{\mathrm{aug}}$", [("", e.risk_start, e.risk_end)])]
    if known := scored(e):
        groups.append((e.metrics_start["name"], known))
    with panels(len(groups), 3.2) as (canvas, shown_in):
        for axes, (title, pairs) in zip(shown_in, groups, strict=True):
            at = np.arange(len(pairs))
            for shift, heights, colour, hatch, label in (
                (-0.2, [before for _, before, _ in pairs], BLUE, None, "before, on E"),
                (0.2, [after for *_, after in pairs], ORANGE, "//", "after"),
            ):
                bars = axes.bar(at + shift, heights, 0.38, color=colour, hatch=hatch, edgecolor="white", label=label)
                axes.bar_label(bars, [number(h) for h in heights], padding=2, fontsize=11)
            axes.set_xticks(at, [label for label, *_ in pairs])
            axes.set_title(title)
            axes.grid(axis="x", visible=False)
            axes.margins(y=0.2)
        canvas.legend(*shown_in[0].get_legend_handles_labels(), loc="outside right center", fontsize=10)
    return canvas


def say(analysis: Analysis, e: Escape) -> str:
    """By how much the risk falls, and whether the test score follows."""
    lower = e.risk_start - e.risk_end > rounding(analysis) * abs(e.risk_start)
    text = "Before and after following the instability to its end. "
    change = number(e.risk_start - e.risk_end)
    text += f"The risk falls by {change} off E" if lower else "The risk did not fall, so nothing was gained"
    test = compared(e)
    text += f"; {test}" if test else ""
    return text + "."


def rows(_: Analysis, e: Escape) -> Rows:
    """One line a bar."""
    name = e.metrics_start.get("name")
    table: list[tuple[object, ...]] = [("R_aug", e.risk_start, e.risk_end)]
    table += [(f"{name}_{which}", before, after) for which, before, after in scored(e)]
    return ("what", "before", "after"), table


def tell(_: Analysis, e: Escape) -> str:
    """The numbers of the bars."""
    return f"Bars, {escape(e)}"


FIGURE = Figure("escape", "Where the instability leads", look, paint, say, rows, tell)
