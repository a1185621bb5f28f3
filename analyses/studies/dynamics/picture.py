"""Flows against e^{−λt}, factors against |1 − τλ|, AUG and EQUI side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from analyses.lab.publish import MARKERS, STYLES


def draw(rows: Sequence[dict]) -> Figure:
    """Flows against e^{−λt}; factors a step against |1 − τλ|, one marked; AUG and EQUI side by side."""
    flows, jumps, races = (picked(rows, part) for part in ("flow", "discrete", "descent"))
    figure = Figure(figsize=(14, 4.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(4, 3, 3))
    _draw_flows(left, flows)
    _draw_factors(middle, jumps)
    _draw_descents(right, races)
    return figure


def _draw_flows(axes, flows: Sequence[dict]) -> None:
    for i, row in enumerate(flows):
        t, norm = np.array(row["times"]) * abs(row["eigenvalue"]), row["norm"]
        text = f"{row['label']}: λ = {row['eigenvalue']:.3g}"
        width = 1.5 if i < len(STYLES) else 3.0  # styles come round again
        off = np.array(row["off_equivariance"]) / norm
        axes.semilogy(t, off, **STYLES[i % len(STYLES)], linewidth=width, label=text)
        predicted, marker = np.array(row["predicted"])[::15] / norm, MARKERS[i % len(MARKERS)]
        axes.semilogy(t[::15], predicted, marker, color="black", markerfacecolor="none", markersize=5)
        if row["stops_at"] is not None:
            axes.plot(row["stops_at_time"] * abs(row["eigenvalue"]), row["stops_at"], "x", color="black", markersize=11)
    axes.plot(
        [], [], "o", color="black", markerfacecolor="none", label=r"markers: predicted, $\epsilon\,e^{-\lambda t}$"
    )
    axes.plot([], [], "x", color="black", markersize=9, label="prediction off by a tenth")
    axes.set_xlabel(r"flow time, in units of $1/|\lambda|$")
    axes.set_ylabel(r"$\|A_{E^\perp}\| / \|A\|$")
    axes.set_ylim(top=1e7)
    axes.legend(fontsize="x-small", loc="upper left")
    axes.set_visible(bool(flows))


def _draw_factors(axes, jumps: Sequence[dict]) -> None:
    axes.set_visible(bool(jumps))
    for marker, one in zip(MARKERS, dict.fromkeys(r["label"] for r in jumps), strict=False):
        for space, face in (("E", "none"), ("E_perp", "0.5")):
            chosen = [r for r in jumps if r["label"] == one and r["space"] == space]
            axes.loglog(
                [abs(r["factor_predicted"]) for r in chosen],
                [abs(r["factor_measured"]) for r in chosen],
                marker,
                color="black",
                markerfacecolor=face,
                markersize=7,
                label=f"{one}, top mode of {'E' if space == 'E' else 'E⊥'}",
            )
    if jumps:
        ends = [abs(r["factor_predicted"]) for r in jumps]
        axes.plot([min(ends) / 2, max(ends) * 2], [min(ends) / 2, max(ends) * 2], color="0.6", linewidth=1)
        axes.axhline(1, color="black", linewidth=1)
        axes.axvline(1, color="black", linewidth=1)
        axes.legend(fontsize="x-small", loc="upper left")
        axes.set_ylim(top=20 * max(ends))
    axes.set_xlabel(r"predicted factor a step, $|1 - \tau\lambda|$ (above 1: leaves)")
    axes.set_ylabel("measured factor a step")


def _draw_descents(axes, races: Sequence[dict]) -> None:
    axes.set_visible(bool(races))
    for i, row in enumerate(races):
        off = np.maximum(row["off_equivariance"], 1e-18)
        axes.semilogy(off, **STYLES[i % len(STYLES)], label=f"{row['strategy']}: {row['label']}")
    for row in races:
        if row["factor_measured"] is not None:
            off = np.array(row["off_equivariance"])
            first = int(np.flatnonzero(off > 1e-13)[0])
            steps = np.arange(first, int(np.flatnonzero(off > 1e-4)[0]) + 1)
            predicted = off[first] * row["factor_predicted"] ** (steps - first)
            axes.plot(steps[::5], predicted[::5], "o", color="black", markerfacecolor="none", markersize=5)
    axes.plot([], [], "o", color="black", markerfacecolor="none", label=r"predicted, $|1 - \tau\lambda_{\max}|^n$")
    axes.set_xlabel("steps of descent, step between the critical two")
    axes.set_ylabel(r"$\|A_{E^\perp}\| / \|A\|$")
    axes.set_ylim(1e-18, 1e6)
    axes.legend(fontsize="x-small", loc="upper left")


CAPTION = (
    "Left: distance from E along the exact augmented flow from a push along one mode; lines are measured, markers "
    "predicted from the eigenvalue, a cross marks where the prediction is off by a tenth. Middle: factor by which "
    "one step of descent changes a deviation along the top mode of E or E⊥, on both sides of the critical steps. "
    "Right: AUG and EQUI descent from the same point of E with a step between the two critical steps; what carries "
    "AUG off E is rounding."
)


def picked(rows: Sequence[dict], part: str) -> list[dict]:
    """Rows of one part."""
    return [r for r in rows if r["part"] == part]
