"""The lowest mode in one channel: the input, the channel's response, and what the mode adds to it."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure as Canvas

from stability.effects.modes import Mode
from stability.report import words
from stability.report.figures.figure import Figure, Omitted, varies
from stability.report.rows import Rows, grid
from stability.report.style import SIGNED, panels
from stability.results import Analysis

# Relative to what a random direction does: a change by less is rounding.
ROUNDING = 1e-9
# Half the width of the scale of an image of zeros.
FAINT = 1e-3


def moves(mode: Mode) -> bool:
    """Whether the mode changes a response by more than rounding, to first order."""
    if mode.moved is not None:
        return mode.moved > ROUNDING
    reach, scale = (max(abs(v) for row in rows for v in row) for rows in (sum(mode.change, ()), mode.response))
    return reach > ROUNDING * scale


def where(mode: Mode) -> str:
    """In which layers it lives."""
    shares = ", ".join(f"{100 * share:.0f} % in {name}" for name, share in mode.shares.items() if share >= 0.005)
    which = "the most negative" if mode.value < 0 else "the lowest"
    return f"{which} mode, of {mode.irrep}, eigenvalue {words.eigenvalue(mode.value)}: {shares} of its squared norm."


def look(analysis: Analysis) -> Mode | Omitted | None:
    """The mode, where it moves a response."""
    mode = analysis.mode
    if mode is None or moves(mode):
        return mode
    return Omitted(
        f"{where(mode).rstrip('.')}; to first order it moves no response of {mode.layer}, so there would be rounding "
        "alone to see"
    )


def paint(analysis: Analysis, mode: Mode) -> Canvas:
    """Images, what is added on a scale that is even about zero."""
    shown = [] if mode.input is None else [("input", mode.input, "gray")]
    shown.append((f"channel {mode.channel} of {mode.layer}", mode.response, SIGNED))
    names = ["added"] if len(mode.change) == 1 else [f"added, partner {j + 1}" for j in range(len(mode.change))]
    shown += [(name, change, SIGNED) for name, change in zip(names, mode.change, strict=True)]
    reach = max(abs(v) for change in mode.change for row in change for v in row)
    with panels(len(shown), 3.2, images=True) as (canvas, shown_in):
        for axes, (title, values, colours) in zip(shown_in, shown, strict=True):
            axes.grid(False)
            image = axes.imshow(np.array(values), cmap=colours)
            if title.startswith("added"):
                image.set_clim(-reach, reach)
            elif colours == SIGNED and varies(analysis, values):
                edge = max(abs(v) for row in values for v in row)
                image.set_clim(-edge, edge)
            elif not varies(analysis, values):  # one colour: its rounding is no pattern
                level = float(np.mean(values))
                image.set_clim(level - 0.1 * abs(level) - FAINT, level + 0.1 * abs(level) + FAINT)
            image.set_gid(f"mode {title}")
            axes.set_xticks([])
            axes.set_yticks([])
            if len(values) == 1:  # no grid: the entries in their order
                axes.set_aspect("auto")
                axes.set_xlabel("entry", fontsize=8)
            axes.set_title(title, fontsize=11)
            canvas.colorbar(image, ax=axes, location="bottom", shrink=0.9).ax.tick_params(labelsize=8)
        which = "most negative" if mode.value < 0 else "lowest"
        value = words.eigenvalue(mode.value)
        canvas.suptitle(f"the {which} mode, {mode.irrep}, eigenvalue {value}, per unit of weight", fontsize=12)
    return canvas


def say(_: Analysis, mode: Mode) -> str:
    """What the images are, and where the mode lives."""
    return (
        "What the lowest mode on E⊥ adds to one channel's response before σ, for the channel and the training sample "
        "that it moves most: moving the weights by ε along the mode adds ε times these images (zero is the middle of "
        f"the scale of what is added). Partners have the same eigenvalue; the group turns them into each other. Here "
        f"{where(mode)}"
    )


def rows(_: Analysis, mode: Mode) -> Rows:
    """Every pixel."""
    table = [] if mode.input is None else grid("input", mode.input)
    table += grid("response", mode.response)
    for k, change in enumerate(mode.change, 1):
        table += grid(f"added, partner {k}", change)
    return ("image", "row", "column", "value"), table


def tell(_: Analysis, mode: Mode) -> str:
    """Where the mode lives."""
    return f"Images, {where(mode)}"


FIGURE = Figure("mode", "The lowest mode off E", look, paint, say, rows, tell)
