"""What the network says of one sample and its transforms, while the symmetry breaks."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from stability.effects.breaking import Breaking
from stability.report.figures.figure import Figure, Omitted, rounding
from stability.report.rows import Rows
from stability.report.style import BLUE, LINES, RED, legend, panels
from stability.report.words import number
from stability.results import Analysis


def look(analysis: Analysis) -> Breaking | Omitted | None:
    """The losses on the way, where those of two transforms differ by more than rounding."""
    found = analysis.pictures.breaking if analysis.pictures else None
    if found is None:
        return None
    lines = np.array([*found.losses, *([] if found.end is None else [found.end])])
    apart = float(np.ptp(lines, axis=1).max())
    if apart > 2 * rounding(analysis) * max(1.0, float(np.abs(lines).max())):
        return found
    return Omitted(
        f"the losses of {len(found.elements)} transforms of a sample stay within {number(apart, 2)} of each other, "
        "which is rounding: what is predicted stays equivariant"
    )


def shown(found: Breaking, losses: object) -> np.ndarray:
    """Losses, or the probabilities of the right answer that they stand for."""
    values = np.array(losses)
    return np.exp(-values) if found.probability else values


def what(found: Breaking) -> str:
    """The name of what is drawn."""
    return "probability of the right answer" if found.probability else "loss"


def paint(analysis: Analysis, found: Breaking) -> Canvas:
    """A line for each transform, and the transforms sorted before and after."""
    with panels(2 if found.end is not None else 1, 4.2, sharey=True) as (canvas, shown_in):
        axes, times = shown_in[0], np.array(found.times)
        for i, column in enumerate(shown(found, found.losses).T):
            axes.plot(times, column, LINES[i % 4], color=BLUE, alpha=0.7, linewidth=1.3, gid="transform")
        axes.set_xlabel("flow time of augmented training (step size × steps)")
        axes.set_ylabel(what(found) if found.probability else "loss of the sample")
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        if found.probability:
            axes.set_ylim(-0.03, 1.03)
        axes.set_title(f"sample {found.sample}: a line for each of {len(found.elements)} transforms")
        if found.end is not None:
            _before_and_after(shown_in[1], found, pushed=bool(analysis.pictures and analysis.pictures.flow))
    return canvas


def _before_and_after(axes: Axes, found: Breaking, pushed: bool) -> None:
    order = np.arange(1, len(found.elements) + 1)
    end = np.sort(shown(found, found.end))
    axes.plot(order, end, "v", color=RED, markersize=6, label="where it ends", gid="end")
    start = np.sort(shown(found, found.losses[0] if found.start is None else found.start))
    label = "after the push off E" if pushed and found.start is None else "at the point on E"
    axes.plot(order, start, "o", color=BLUE, markersize=5, label=label, gid="start")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("transforms of the sample, sorted")
    axes.set_title("before and after")
    legend(axes, 1)


def say(analysis: Analysis, found: Breaking) -> str:
    """Where the transforms start and end."""
    pushed = bool(analysis.pictures and analysis.pictures.flow)
    first = shown(found, found.losses[0] if found.start is None else found.start)
    last = shown(found, found.losses[-1] if found.end is None else found.end)
    end = "" if found.end is None else " where L-BFGS on R^aug ends"
    return (
        f"The {what(found)} for training sample {found.sample} and its transforms, {len(found.elements)} in all, "
        f"while augmented training leaves E. {_start(first, found.start is not None or not pushed, pushed)}; they end "
        f"{_between(last)}{end}. Of the first 64 samples it is the one whose transforms end furthest apart."
    )


def _between(values: np.ndarray) -> str:
    """``between 0.11 and 0.98``, with the digits that tell the two apart, five at most."""
    low, high = float(values.min()), float(values.max())
    digits = next((d for d in range(3, 6) if number(low, d) != number(high, d)), None)
    if digits is not None:
        return f"between {number(low, digits)} and {number(high, digits)}"
    return f"at {number(low)}" + (f", within {number(high - low, 1)} of each other" if high > low else "")


def _start(first: np.ndarray, on_e: bool, pushed: bool) -> str:
    if not on_e:
        return f"The lines start after the push off E, {_between(first)}"
    text = f"An equivariant network cannot tell them apart: at the point on E all are at {number(float(first[0]))}"
    return text + ("; the lines start after the push" if pushed else "")


def _probability(loss: float) -> float:
    return math.exp(-loss)


def rows(_: Analysis, found: Breaking) -> Rows:
    """One line a time and transform."""

    value = _probability if found.probability else float
    table: list[tuple[object, ...]] = []
    if found.start is not None:
        table += [("on E", g, value(loss)) for g, loss in zip(found.elements, found.start, strict=True)]
    table += [
        (t, g, value(loss))
        for t, line in zip(found.times, found.losses, strict=True)
        for g, loss in zip(found.elements, line, strict=True)
    ]
    if found.end is not None:
        table += [("end", g, value(loss)) for g, loss in zip(found.elements, found.end, strict=True)]
    return ("flow_time", "transform", "probability_of_right_answer" if found.probability else "loss"), table


def tell(_: Analysis, found: Breaking) -> str:
    """Where the lines end."""
    last = shown(found, found.losses[-1] if found.end is None else found.end)
    return f"{len(found.elements)} lines, one a transform of a sample: the {what(found)} ends {_between(last)}."


FIGURE = Figure("breaking", "What happens to predictions", look, paint, say, rows, tell)
