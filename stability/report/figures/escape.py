"""R^aug and the score before and after following the instability."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure as Canvas

from stability.report import words
from stability.report.figures.figure import Figure, rounding
from stability.report.rows import Rows
from stability.report.style import BLUE, ORANGE, panels
from stability.report.words import number
from stability.results import Analysis, Escape


def look(analysis: Analysis) -> Escape | None:
    """The end, where the instability was followed."""
    return analysis.escape


def scored(e: Escape) -> list[tuple[str, float, float]]:
    """(data, before, after) of the score, on the data where both are known."""
    name = e.metrics_start.get("name")
    pairs = [(w, e.metrics_start.get(w), e.metrics_end.get(w)) for w in ("train", "test")]
    return [(w, a, b) for w, a, b in pairs if name and a is not None and b is not None]


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


def judged(e: Escape) -> str:
    """Whether leaving E changed the test accuracy by more than its standard error; empty where none is known."""
    test = next(((a, b) for which, a, b in scored(e) if which == "test"), None)
    if test is None or e.metrics_start.get("name") != "accuracy":
        return ""
    before, after = test
    change, n = f"test accuracy went from {number(before)} to {number(after)}", e.metrics_start.get("test_samples")
    if not n:
        return f"{change}; its standard error is not known, so that is not judged"
    # As if the two were independent; they see the same samples, so the error of their difference is less.
    error = math.sqrt((before * (1 - before) + after * (1 - after)) / n)
    change += f", by {number(after - before)} with a standard error of {number(error, 2)} on {n:,} samples"
    if abs(after - before) <= 2 * error:
        return f"{change}: no difference beyond two standard errors"
    return f"{change}: there leaving E {'helped' if after > before else 'hurt'}"


def say(analysis: Analysis, e: Escape) -> str:
    """By how much the risk falls, and whether the test score follows."""
    lower = e.risk_start - e.risk_end > rounding(analysis) * abs(e.risk_start)
    text = "Before and after following the instability to its end. "
    change = number(e.risk_start - e.risk_end)
    text += f"The risk falls by {change} off E" if lower else "The risk did not fall, so nothing was gained"
    test = judged(e)
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
    return f"Bars, {words.escape(e)}"


FIGURE = Figure("escape", "Where the instability leads", look, paint, say, rows, tell)
