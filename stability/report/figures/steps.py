"""‖A_{E⊥}‖ with steps below and above 2/λ_max on E⊥, pushed along the top mode, with ε|1 − τλ|^k."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from stability.effects.deviation import Deviation
from stability.report import words
from stability.report.figures.figure import Figure, Omitted
from stability.report.figures.flow import departed
from stability.report.rows import Rows
from stability.report.style import BLUE, GREY, OFF, RED, legend, on_paper, panels
from stability.report.words import number
from stability.results import Analysis

Runs = list[tuple[Deviation, float, float]]


def look(analysis: Analysis) -> Runs | Omitted | None:
    """Runs with their step and the critical one, where λ_max is above its error."""
    runs = analysis.pictures.steps if analysis.pictures else ()
    found = [(run, run.step, run.critical_step) for run in runs if run.step and run.critical_step]
    perp = words.part(analysis, "aug", "E_perp")
    if found and words.sign(found[0][0].value, perp.error if perp else 0.0) != "positive":
        return Omitted("no eigenvalue on E⊥ is above zero by more than its error, so no step is too long there")
    return found or None


def paint(_: Analysis, found: Runs) -> Canvas:
    """One colour a run, the prediction dashed."""
    first, critical = found[0][0], found[0][2]
    with panels(1, 5.6 if on_paper() else 4.2) as (canvas, (axes,)):
        for (run, step, limit), colour, marker in zip(found, (BLUE, RED), "ov", strict=False):
            label = rf"$\tau$ = {number(step)}, {step / limit:.1f} of the critical step"
            k = np.array(run.times)
            axes.plot(k, run.off_equivariance, marker, color=colour, markersize=7, label=label, gid="measured")
            factor = abs(1 - step * run.value)
            label = rf"predicted, $\varepsilon|1-\tau\lambda|^k$ = {number(run.push)} × {factor:.2f}$^k$"
            axes.plot(k, run.predicted(), "--", color=colour, linewidth=1.8, label=label, gid="predicted")
        axes.axhline(first.push, color=GREY, linestyle=":", linewidth=1.5, label="the push")
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("steps of exact augmented descent")
        axes.set_ylabel(rf"distance from $E$, {OFF}")
        named = f", sector {first.irrep}" if first.irrep else ""
        axes.set_title(
            rf"critical step $2/\lambda_{{\max}}$ = {number(critical)} on $E^\perp$"
            rf" ($\lambda_{{\max}}$ = {words.eigenvalue(first.value)}{named})"
        )
        legend(axes)
    return canvas


def say(_: Analysis, found: Runs) -> str:
    """What each step does to the deviation, and how long the prediction holds."""
    texts = []
    for run, step, _limit in found:
        count, factor = int(run.times[-1]), abs(1 - step * run.value)
        predicted, measured, wrong = float(run.predicted()[-1]), run.off_equivariance[-1], departed(run)
        until = f"within a tenth for {int(wrong[0]) - 1} steps" if len(wrong) else "within a tenth all the way"
        texts.append(
            f"τ = {number(step)} multiplies the deviation by {factor:.2f} a step, {until}; after {count} it is "
            f"{number(measured)}, predicted {number(predicted)}"
        )
    return (
        "The distance from E along exact augmented descent, pushed along the top mode off E, with steps below and "
        f"above 2/λ_max = {number(found[0][2])}: {'; '.join(texts)}. Above the critical step descent "
        "leaves E even where every eigenvalue is positive: that is an instability of the step, not of the point. The "
        "prediction is of first order along one mode. The start need not be that mode alone, to more digits than its "
        "residual tells, and what lies in slower modes shrinks less: below the critical step the measured distance may "
        "level off. Above it terms of higher order set in."
    )


def rows(_: Analysis, found: Runs) -> Rows:
    """One line a step."""
    table = []
    for run, step, critical in found:
        columns = (map(int, run.times), run.off_equivariance, run.predicted().tolist(), run.moved_on_E, run.risk)
        table += [(step, critical, *row) for row in zip(*columns, strict=True)]
    return ("step_size", "critical_step", "step", "off_E", "off_E_predicted", "moved_on_E", "R_aug"), table


def tell(_: Analysis, found: Runs) -> str:
    """Both ends of each run."""
    ends = []
    for run, step, _limit in found:
        first, last = (number(x) for x in (run.off_equivariance[0], run.off_equivariance[-1]))
        ends.append(f"from {first} to {last} in {int(run.times[-1])} steps of {number(step)}")
    return f"The distance from E goes {' and '.join(ends)}; the critical step is {number(found[0][2])}."


FIGURE = Figure("steps", "Steps below and above the critical one", look, paint, say, rows, tell)
