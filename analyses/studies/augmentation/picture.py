"""Distances, drift and λ_min over the number of elements drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from analyses.lab.publish import MARKERS, STYLES
from analyses.studies.augmentation.measure import EPOCHS, MODES


def draw(rows: Sequence[dict]) -> Figure:
    """Squared distances and drift over K with their laws; below, measured over law, drift over steps, λ_min."""
    figure = Figure(figsize=(13, 8), layout="constrained")
    (gradients, hessians, drift), (ratios, epochs, least) = figure.subplots(2, 3)
    labels = list(dict.fromkeys(r["label"] for r in rows if r["part"] != "lowest"))
    panels = {
        "gradient": (gradients, r"$\|\nabla R_K - \nabla R^{\mathrm{aug}}\|^2$", lambda r, v: v),
        "hessian": (hessians, r"$\|\nabla^2 R_K - \nabla^2 R^{\mathrm{aug}}\|_F^2$", lambda r, v: v),
        "drift": (drift, r"rms $\|A_{E^\perp}\|/\|A\|$" + f" after {EPOCHS} steps", lambda r, v: v**0.5 / r["norm"]),
    }
    for part, (axes, text, scale) in panels.items():
        for i, label in enumerate(labels):
            for mode, face in zip(MODES, ("none", "0.6"), strict=True):
                chosen = [r for r in rows if (r["part"], r["label"], r["mode"]) == (part, label, mode)]
                if not chosen:
                    continue
                counts = [r["elements"] for r in chosen]
                axes.loglog(counts, [scale(r, r["law"]) for r in chosen], **STYLES[i], linewidth=1)
                axes.loglog(
                    counts,
                    [scale(r, r["measured"]) for r in chosen],
                    MARKERS[i],
                    color=STYLES[i]["color"],
                    markerfacecolor=face,
                    label=f"{label}, one g a {mode}" if part == "gradient" else None,
                )
        axes.set_xlabel("K, Haar elements")
        axes.set_ylabel(text)
        axes.set_visible(bool(axes.lines))
    if labels:
        gradients.plot([], [], color="0.3", linewidth=1, label="lines: exact law (drift: first order)")
        gradients.set_ylim(bottom=gradients.get_ylim()[0] * 1e-5)
        gradients.legend(fontsize="x-small", loc="lower left")
    for i, part in enumerate(panels):
        chosen = [r for r in rows if r["part"] == part]
        ratios.errorbar(
            [r["elements"] * 1.12 ** (i - 1 + 0.2 * labels.index(r["label"])) for r in chosen],
            [r["measured"] / r["law"] for r in chosen],
            [2 * r["standard_error"] / r["law"] for r in chosen],
            fmt=MARKERS[i],
            color=STYLES[i]["color"],
            markerfacecolor="none",
            markersize=4,
            linewidth=0.8,
            label=part,
        )
    ratios.set_visible(bool(labels))
    ratios.axhline(1, color="black", linewidth=1)
    ratios.set_xscale("log")
    ratios.set_xlabel("K, Haar elements")
    ratios.set_ylabel("measured / law, with two standard errors")
    ratios.legend(fontsize="x-small")
    _over_epochs(epochs, [r for r in rows if r["part"] == "drift"], labels)
    _lowest(least, [r for r in rows if r["part"] == "lowest"])
    return figure


def _over_epochs(axes, rows: Sequence[dict], labels: Sequence[str]) -> None:
    for i, label in enumerate(labels):
        chosen = [r for r in rows if r["label"] == label and r["mode"] == "mini-batch"]
        if not chosen:
            continue
        row = min(chosen, key=lambda r: abs(r["elements"] - 16))
        measured, law = (np.sqrt(row[k]) / row["norm"] for k in ("mean_by_epoch", "law_by_epoch"))
        axes.plot(law, **STYLES[i], label=f"{label}, K = {row['elements']}")
        shown = np.arange(0, len(measured), 4)
        axes.plot(shown, measured[shown], MARKERS[i], color=STYLES[i]["color"], markerfacecolor="none")
    axes.set_xlabel("steps of sampled descent")
    axes.set_ylabel(r"rms $\|A_{E^\perp}\|/\|A\|$, one g a mini-batch")
    axes.set_visible(bool(rows))
    if rows:
        axes.legend(fontsize="x-small")


def _lowest(axes, rows: Sequence[dict]) -> None:
    axes.set_visible(bool(rows))
    for i, mode in enumerate(MODES):
        chosen = [r for r in rows if r["mode"] == mode]
        if not chosen:
            continue
        counts = [r["elements"] for r in chosen]
        style = STYLES[i]
        axes.fill_between(
            counts, *([r[k] for r in chosen] for k in ("least", "most")), color=style["color"], alpha=0.15
        )
        axes.plot(counts, [r["measured"] for r in chosen], **style, marker=MARKERS[i], label=f"one g a {mode}")
        axes.plot(counts, [r["bound"] for r in chosen], color=style["color"], linestyle=":", linewidth=1)
    if rows:
        axes.axhline(rows[0]["law"], color="0.4", linewidth=1, label="limit, exact Haar average")
        axes.plot([], [], color="0.4", linestyle=":", label="upper bound from the limit's eigenspace")
        axes.axhline(0, color="black", linewidth=1.5)
        axes.set_xscale("log")
        axes.legend(fontsize="x-small")
        axes.set_title(rows[0]["label"], fontsize="medium")
    axes.set_xlabel("K, Haar elements")
    axes.set_ylabel(r"$\lambda_{\min}$ of $\nabla^2 R_K$ on $E^\perp$ (mean, range)")


CAPTION = (
    "Upper row: squared distance of the gradient and of the Hessian to the Haar limit, and how far sampled descent "
    "has drifted off E, over the number K of elements drawn; hollow: one g moves the whole pass, filled: every "
    "mini-batch has its own. Lines are the laws, markers are means of draws. Lower row: all means over their laws; "
    "the drift along descent; λ_min on E⊥ of the sampled Hessian, mean and range of the draws, against the Haar "
    "limit."
)
