"""Figure 1: how far each strategy leaves E, against how far it travels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from analyses.lab.drift.signals import GradientStatistics
from analyses.paper.figure1.curves import Curves, prediction
from analyses.paper.figure1.runs import TASKS

STYLES = {
    "NOM": {"color": "black", "linestyle": "-"},
    "AUG": {"color": "#d55e00", "linestyle": "--"},
    "NEAR": {"color": "#56b4e9", "linestyle": (0, (3, 2))},
    "EXACT": {"color": "0.55", "linestyle": "-."},
    "EQUI": {"color": "#0072b2", "linestyle": ":"},
}


def draw(found: Sequence[Curves], starts: Sequence[dict], options: dict) -> Figure:
    """A row for each task: the scale of NOM, the scale of AUG, and both in logarithms."""
    shown = [task for task in TASKS if any(c.task == task for c in found)]
    figure = Figure(figsize=(11.5, 3.1 * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), 3, squeeze=False)
    for line, task in zip(panels, shown, strict=True):
        mine = [c for c in found if c.task == task]
        statistics = [GradientStatistics(**r["statistics"]) for r in starts if r["task"] == task]
        for axes, scale in zip(line, ("", ", the scale of AUG", ", logarithmic"), strict=True):
            for c in mine:
                logarithmic = scale.endswith("logarithmic")
                if logarithmic and not c.off[:, 1:].all():
                    continue
                first = 1 if logarithmic else 0
                for x, y in zip(c.travelled, c.off, strict=True):
                    axes.plot(x[first:], y[first:], **STYLES[c.strategy], alpha=0.25, linewidth=0.7)
                label = f"{c.strategy}, {len(c.off)} run{'s' * (len(c.off) > 1)}"
                x, y = c.travelled.mean(0)[first:], c.off.mean(0)[first:]
                axes.plot(x, y, **STYLES[c.strategy], linewidth=2, label=label)
            for name in ("NOM", "AUG"):
                chosen = [c for c in mine if c.strategy == name or (name == "AUG" and c.strategy == "NEAR")]
                if statistics and chosen:
                    y = np.mean([prediction(s, name, options) for s in statistics], axis=0)
                    x = chosen[0].travelled.mean(0)
                    every = slice(max(1, len(x) // 10), None, max(1, len(x) // 10))
                    label = "predicted from the start" if name == "NOM" else None
                    axes.plot(x[every], y[every], "x", color="0.3", markersize=5, label=label)
            if "AUG" in scale:
                top = max((c.off.max() for c in mine if c.strategy != "NOM"), default=0.0)
                axes.set_ylim(-0.05 * top, 1.15 * top or 1.0)
            axes.set_xlabel(r"$\|A - A^0\|$")
            axes.set_ylabel(r"$\|A_{E^\perp}\|$")
            if scale.endswith("logarithmic"):
                axes.set_xscale("log")
                axes.set_yscale("log")
            else:
                axes.ticklabel_format(style="sci", scilimits=(-2, 2))
                axes.axhline(0, color="black", linewidth=0.6, zorder=0)
            axes.set_title(f"{task.upper()}{scale}", fontsize="medium")
        line[0].legend(fontsize="x-small")
    return figure
