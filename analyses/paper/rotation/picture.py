"""ROT under every combination, in both norms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from analyses.paper.rotation.settings import Setting


def draw(rows: Sequence[dict], found: Sequence[Setting]) -> Figure:
    """ROT under every combination, in both norms; AUG/NOM beside what the gradient predicts."""
    shown = [s for s in found if s.task == "rot"]
    figure = Figure(figsize=(3.2 * len(shown) + 3.6, 6.2), layout="constrained")
    panels = figure.subplots(2, len(shown) + 1, squeeze=False)
    for column, s in enumerate(shown):
        for line, (key, name) in enumerate(
            (("norm", r"$\|A_{E^\perp}\|$"), ("squared_norm", r"$\sqrt{\Sigma_k\|A_{k,\perp}\|^4}$, as published"))
        ):
            axes = panels[line, column]
            for strategy, style in (("NOM", {"color": "black"}), ("AUG", {"color": "#d55e00", "linestyle": "--"})):
                mine = [
                    r
                    for r in rows
                    if (r["task"], r["head"], r["strategy"]) == ("rot", s.head, strategy)
                    and (strategy == "NOM" or r["sampler"] == s.sampler)
                ]
                x, y = (np.array([r[k] for r in mine]) for k in ("travelled", key))
                for one, other in zip(x, y, strict=True):
                    axes.plot(one, other, **style, alpha=0.25, linewidth=0.8)
                axes.plot(x.mean(0), y.mean(0), **style, linewidth=2, label=strategy)
            axes.axhline(0, color="0.5", linewidth=0.6, zorder=0)
            axes.ticklabel_format(style="sci", scilimits=(-2, 2))
            axes.set_xlabel(r"$\|A - A^0\|$")
            axes.set_ylabel(name)
            axes.set_title(f"ROT: {s.label} sampler", fontsize="medium")
            axes.legend(fontsize="small")
    gate = panels[0, -1]
    where = np.arange(len(found))
    gate.bar(where, [s.ratio for s in found], 0.6, color="0.75", edgecolor="black", label="measured")
    gate.plot(where, [max(s.predicted, 1e-12) for s in found], "kx", label="predicted, infinitely many passes")
    gate.set_yscale("log")
    gate.set_ylim(5e-3, 2)
    gate.axhline(1, color="black", linewidth=1)
    gate.set_xticks(where, [s.label for s in found], rotation=25, ha="right", fontsize="small")
    gate.set_ylabel(r"$\|A_{E^\perp}\|$ of AUG over that of NOM")
    gate.legend(fontsize="x-small")
    panels[1, -1].axis("off")
    return figure
