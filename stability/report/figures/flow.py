"""‖A_{E⊥}‖ along exact augmented flow from the point plus a push, with ε e^{−λt}; the risk beside it."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from stability.effects.deviation import Deviation
from stability.report import words
from stability.report.figures.figure import Figure, Omitted, rounding, varies
from stability.report.rows import Rows
from stability.report.style import BLUE, GREY, OFF, absent, below_zero, legend, panels
from stability.report.words import number
from stability.results import Analysis

# Of the prediction: where the measured distance departs by more, the caption says so.
TENTH = 0.1


def look(analysis: Analysis) -> Deviation | Omitted | None:
    """The run, where its eigenvalue has a sign."""
    run = analysis.pictures.flow if analysis.pictures else None
    perp = words.part(analysis, "aug", "E_perp")
    if run is None or words.sign(run.value, perp.error if perp else 0.0) != "zero":
        return run
    return Omitted("the lowest eigenvalue on E⊥ is zero within its error: nothing moves")


def _risk(analysis: Analysis, run: Deviation) -> str:
    if not varies(analysis, run.risk):
        return "The risk changes by no more than its rounding."
    rises = np.flatnonzero(np.diff(run.risk) > rounding(analysis) * np.abs(run.risk).max())
    return (
        f"The risk beside it rises first after t = {number(run.times[rises[0]])}."
        if len(rises)
        else ("The risk beside it falls throughout.")
    )


def departed(run: Deviation) -> np.ndarray:
    """Which of the times lie off the prediction by more than a tenth, as indices."""
    return np.flatnonzero(np.abs(np.array(run.off_equivariance) / run.predicted() - 1) > TENTH)


def paint(analysis: Analysis, run: Deviation) -> Canvas:
    """The distance from E, and the change of the risk."""
    times = np.array(run.times)
    with panels(2, 4.2) as (canvas, (axes, beside)):
        axes.plot(times, run.off_equivariance, "o-", color=BLUE, markersize=4.5, label="measured", gid="measured")
        fine = np.linspace(0, times[-1], 200)
        label = rf"predicted, $\varepsilon\,e^{{-\lambda t}}$, $\lambda$ = {words.eigenvalue(run.value)}"
        axes.plot(fine, run.predicted(fine), "--", color="black", linewidth=1.6, label=label, gid="predicted")
        axes.axhline(run.norm, color=GREY, linestyle=":", linewidth=1.5, label=rf"$\|A\|$ = {number(run.norm)}")
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("flow time (step size × steps)")
        axes.set_ylabel(rf"distance from $E$, {OFF}")
        axes.set_title("grows: augmented training leaves E" if run.value < 0 else "decays: it falls back to E")
        legend(axes, 1)
        if varies(analysis, run.risk):
            _fall(beside, times, np.array(run.risk) - run.risk[0])
        else:
            absent(beside, "", "the risk changes by no more than its rounding")
            beside.set_yticks([])
        beside.set_title("the risk on the way")
    return canvas


def _fall(axes: Axes, times: np.ndarray, change: np.ndarray) -> None:
    axes.plot(times, change, "o-", color=BLUE, markersize=4.5, gid="risk")
    low, high = min(change.min(), 0.0), max(change.max(), 0.0)
    room = 0.1 * (high - low) or 1.0
    below_zero(axes, low - room)
    axes.set_ylim(low - room, high + room)
    axes.ticklabel_format(axis="y", scilimits=(-2, 3))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("flow time (step size × steps)")
    axes.set_ylabel(r"$R^{\mathrm{aug}}$ minus its start (units of the loss)")


def say(analysis: Analysis, run: Deviation) -> str:
    """Whether the distance grows, and how long the prediction holds."""
    wrong = departed(run)
    until = (
        f"within a tenth until t = {number(run.times[wrong[0]])}, where the distance is "
        f"{number(run.off_equivariance[wrong[0]])} or {number(100 * run.off_equivariance[wrong[0]] / run.norm, 2)} % "
        "of ‖A‖"
        if len(wrong)
        else "within a tenth all the way"
    )
    moved = "grows" if run.value < 0 else "shrinks"
    steps = f"{math.ceil(run.times[-1] / run.critical_step):,}" if run.critical_step else "any number"
    return (
        f"The distance from E along exact augmented flow from the point plus a push of {number(run.push)} along the "
        f"lowest mode off E, against the linear prediction (27), ‖A_{{E⊥}}‖ = ε e^(−λt) with λ = "
        f"{words.eigenvalue(run.value)}. It {moved}, and the prediction holds {until}. {_risk(analysis, run)} "
        f"Gradient descent with small steps follows this curve ({run.gradients:,} gradients of R^aug here; "
        f"descent at the critical step would take {steps})."
    )


def rows(_: Analysis, run: Deviation) -> Rows:
    """One line a time."""
    columns = (run.times, run.off_equivariance, run.predicted().tolist(), run.moved_on_E, run.risk)
    return ("flow_time", "off_E", "off_E_predicted", "moved_on_E", "R_aug"), list(zip(*columns, strict=True))


def tell(analysis: Analysis, run: Deviation) -> str:
    """Both ends of the curve."""
    first, last = (number(x) for x in (run.off_equivariance[0], run.off_equivariance[-1]))
    return (
        f"A curve of the distance from E, from {first} to {last} over a flow time of {number(run.times[-1])}, beside "
        f"its prediction. {_risk(analysis, run)}"
    )


FIGURE = Figure("flow", "Augmented training after a small push", look, paint, say, rows, tell)
