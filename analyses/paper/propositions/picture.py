"""One line of errors for each statement."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from analyses.lab.publish import MARKERS, STYLES
from analyses.paper.propositions.statements import KINDS, ROUNDING, STATEMENTS, gathered


def draw(rows: Sequence[dict]) -> Figure:
    """One line for each statement: errors where it holds, and errors of the control off E."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots()
    floor = 1e-18
    for line, s in enumerate(STATEMENTS):
        for i, kind in enumerate(KINDS):
            control = kind in s.fails + s.open
            errors = [max(e, floor) for e in gathered(rows, s, kind)]
            style = {"color": STYLES[i]["color"], "markerfacecolor": STYLES[i]["color"] if control else "none"}
            axes.plot(errors, [line + 0.22 * (i - 1)] * len(errors), MARKERS[i], **style, markersize=5)
    for i, kind in enumerate(KINDS):
        axes.plot([], [], MARKERS[i], color=STYLES[i]["color"], markerfacecolor="none", label=f"{kind}, where it holds")
    axes.plot([], [], MARKERS[2], color=STYLES[2]["color"], label="off E, where it fails, or may (Remark 2)")
    axes.axvline(ROUNDING, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(STATEMENTS)), [f"{s.name}: {s.text}" for s in STATEMENTS], fontsize="small")
    axes.invert_yaxis()
    axes.set_xlabel("relative error (exact zeros drawn at 1e-18; the line parts rounding from failure)")
    axes.grid(axis="y", color="0.9")
    axes.legend(fontsize="small", loc="lower right")
    return figure


CAPTION = (
    "Each statement's relative errors over all tasks, groups and seeds. Hollow: where the statement holds; filled: "
    "off E, where its premise fails and the error has to be visible, or the measurement could not have failed."
)
