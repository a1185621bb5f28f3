"""‖A_{E⊥}‖ along the runs, and the ends of the spectra."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from analyses.lab.publish import STYLES
from analyses.studies.restricted.networks import COORDINATES, SUPPORTS


def runs(rows: Sequence[dict]) -> list[dict]:
    """Rows of descent."""
    return [r for r in rows if r["kind"] == "run"]


def spectra(rows: Sequence[dict]) -> list[dict]:
    """Rows of spectra."""
    return [r for r in rows if r["kind"] == "spectrum"]


def draw(rows: Sequence[dict]) -> Figure:
    """‖A_{E⊥}‖ along the runs, one line a start; both supports drawn; the ends of the spectra with zero marked."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    for i, (which, kind) in enumerate((w, k) for w in SUPPORTS for k in COORDINATES):
        chosen = [r for r in runs(rows) if r["support"] == which and r["coordinates"] == kind]
        for number, run in enumerate(chosen):
            off = np.maximum(np.array(run["off_equivariance"]) / run["norm"], 1e-18)
            label = f"{which}, {kind}" if number == 0 else None
            left.semilogy(range(len(off)), off, **STYLES[i], linewidth=1.6, alpha=0.9, label=label)
    left.axhspan(1e-18, 1e-14, facecolor="none", edgecolor="0.85", hatch="///", linewidth=0)
    left.text(0.99, 3e-15, "rounding", transform=left.get_yaxis_transform(), ha="right", fontsize="small", color="0.4")
    left.set_ylim(1e-18, 10)
    left.set_xlabel("steps of exact augmented descent")
    left.set_ylabel(r"$\|A_{E^\perp}\|\,/\,\|A^0\|$")
    left.legend(fontsize="small", loc="upper right", bbox_to_anchor=(1, 0.78))
    for i, which in enumerate(SUPPORTS):
        inset = left.inset_axes([0.12 + 0.2 * i, 0.40, 0.11, 0.16])
        inset.imshow(1 - np.array(SUPPORTS[which]), cmap="gray", vmin=-0.6, vmax=1)
        inset.set_xticks(np.arange(-0.5, 3), labels=[])
        inset.set_yticks(np.arange(-0.5, 3), labels=[])
        inset.grid(color="0.6", linewidth=0.6)
        inset.tick_params(length=0)
        defect = next((r["defect"] for r in runs(rows) if r["support"] == which), float("nan"))
        inset.set_title(f"{which}\ndefect {defect:.2g}", fontsize="x-small")
    labels, place = [], 0
    for which in SUPPORTS:
        for where in dict.fromkeys(r["where"] for r in spectra(rows)):
            for block in ("E", "E_perp"):
                chosen = [r for r in spectra(rows) if (r["support"], r["where"], r["block"]) == (which, where, block)]
                if not chosen:
                    continue
                low, high = min(r["lowest"] for r in chosen), max(r["highest"] for r in chosen)
                style = STYLES[0] if block == "E" else STYLES[1]
                right.plot([low, high], [place, place], color=style["color"], linestyle=style["linestyle"], linewidth=2)
                right.plot([low], [place], "o", color="black", markersize=5)
                right.plot([high], [place], "s", color="black", markersize=4, markerfacecolor="none")
                right.annotate(f"{low:.2g}", (low, place), (4, 5), textcoords="offset points", fontsize=8)
                labels.append(f"{which}, {where}, {'E' if block == 'E' else 'E⊥'}")
                place += 1
    right.axvline(0, color="black", linewidth=1.2)
    right.set_xscale("symlog", linthresh=1e-2)
    right.set_yticks(range(place), labels=labels, fontsize="small")
    right.set_ylim(place - 0.4, -0.7)
    right.set_xlabel(r"$\lambda_{\min}$ (dot) to $\lambda_{\max}$ (square) of $\nabla^2 R^{\mathrm{aug}}$")
    return figure
