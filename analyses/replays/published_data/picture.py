"""The data, Figure 1 on them, and the signs of their spectra."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyses.lab.publish import MARKERS, STYLES
from analyses.replays.published_data.data import SIDE, VARIANTS, Setting, dataset
from analyses.replays.published_data.measure import ratio, strategies

COLOURS = {"NOM": "black", "AUG": "#d55e00", "AUG, published sampler": "#0072b2"}


def draw(rows: list[dict], setting: Setting) -> Figure:
    """Examples of both data sets of ROT; Figure 1 on published data and ours; AUG over NOM; λ_min on E⊥."""
    figure = Figure(figsize=(14, 8.6), layout="constrained")
    (examples, perm, rot), (bars, low_perm, low_rot) = figure.subplots(2, 3)
    _examples(examples, setting)
    _figure1(perm, rows, "perm")
    _figure1(rot, rows, "rot")
    _ratios(bars, rows)
    _lowest(low_perm, rows, "perm")
    _lowest(low_rot, rows, "rot")
    return figure


def _examples(axes: Axes, setting: Setting) -> None:
    """A triangle and a pentagon with their two masks, as published and ours."""
    axes.axis("off")
    wide = Setting(setting.data_dir, min(setting.samples, 100), SIDE)
    for line, variant in enumerate(("published", "ours")):
        data = dataset("rot", variant, wide)
        masks = data.targets.reshape(len(data.targets), 2, SIDE, SIDE)
        areas = masks.mean((2, 3))
        areas[areas == 1] = 0
        for k in range(2):
            i = int(np.argmax(areas[:, k] > 0))
            for j, image in enumerate((data.inputs[i].reshape(SIDE, SIDE), *masks[i])):
                inset = axes.inset_axes([0.16 * (3 * k + j) + 0.03 * k, 0.52 - 0.5 * line, 0.15, 0.36])
                inset.imshow(image, cmap="gray", vmin=0, vmax=1)
                inset.set_xticks([])
                inset.set_yticks([])
                inset.set_title(("image", "triangle", "pentagon")[j], fontsize=7)
        axes.text(0, 0.95 - 0.5 * line, f"{variant}: image and both masks", fontsize="medium")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)


def _figure1(axes: Axes, rows: Sequence[dict], task: str) -> None:
    """‖A_{E⊥}‖ against ‖A − A⁰‖, means over the runs: published data bold, ours thin."""
    for variant, width in (("published", 2.4), ("ours", 1.0)):
        for i, name in enumerate(strategies(task)):
            mine = [
                r
                for r in rows
                if r["kind"] == "run" and (r["task"], r["variant"], r["strategy"]) == (task, variant, name)
            ]
            if mine:
                x, y = (np.mean([r[k] for r in mine], axis=0)[1:] for k in ("travelled", "norm"))
                line = STYLES[i]["linestyle"]
                axes.loglog(x, y, color=COLOURS[name], linestyle=line, linewidth=width, label=f"{name}, {variant}")
    axes.set_xlabel(r"$\|A - A^0\|$")
    axes.set_ylabel(r"$\|A_{E^\perp}\|$")
    axes.set_title(f"{task.upper()}, mean of the runs", fontsize="medium")
    if axes.lines:
        axes.legend(fontsize="x-small")


def _ratios(axes: Axes, rows: list[dict]) -> None:
    """AUG/NOM at the end, variant by variant; a cross where the gradient at the start predicts it."""
    places = [(task, variant) for task, variants in VARIANTS.items() for variant in variants]
    for i, name in enumerate(strategies("rot")[1:]):
        for k, (task, variant) in enumerate(places):
            value = ratio(rows, task, variant, name)
            if np.isfinite(value):
                label = name if k == (0 if i == 0 else len(VARIANTS["perm"])) else None
                style = {"color": COLOURS[name], "alpha": 0.45, "edgecolor": COLOURS[name], "label": label}
                axes.barh(k + 0.2 * (2 * i - 1) * (task == "rot"), value, 0.36, **style)
    for k, (task, variant) in enumerate(places):
        mine = [
            r["predicted"] for r in rows if (r.get("task"), r.get("variant")) == (task, variant) and "predicted" in r
        ]
        if mine:
            axes.plot(np.mean(mine), k + 0.2, "kx")
    axes.plot([], [], "kx", label="predicted at the start")
    axes.set_yticks(range(len(places)), [f"{task.upper()}: {variant}" for task, variant in places], fontsize="small")
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlabel(r"$\|A_{E^\perp}\|$ of AUG over that of NOM")
    axes.legend(fontsize="x-small", loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=3)


def _lowest(axes: Axes, rows: Sequence[dict], task: str) -> None:
    """λ_min on E⊥ of every minimum on E; filled: unstable."""
    for k, variant in enumerate(VARIANTS[task]):
        mine = [r for r in rows if r["kind"] == "point" and (r["task"], r["variant"]) == (task, variant)]
        mine = [r for r in mine if r["converged"]]
        for i, r in enumerate(mine):
            fill = "full" if r["lambda_min_E_perp"] < 0 else "none"
            x = k + 0.08 * (i - (len(mine) - 1) / 2)
            axes.plot(x, r["lambda_min_E_perp"], MARKERS[0], color="black", fillstyle=fill, markersize=6, clip_on=False)
        if mine:
            text = f"{sum(r['lambda_min_E_perp'] < 0 for r in mine)} of {len(mine)}"
            axes.annotate(text, (k, 1.01), xycoords=("data", "axes fraction"), ha="center", fontsize="small")
    axes.axhline(0, color="black", linewidth=1)
    axes.set_yscale("symlog", linthresh=1e-5)
    axes.set_xlim(-0.5, len(VARIANTS[task]) - 0.5)
    axes.set_xticks(range(len(VARIANTS[task])), [v.replace(" ", "\n", 1) for v in VARIANTS[task]], fontsize="small")
    axes.set_ylabel(r"$\lambda_{\min}$ of $\nabla^2R^{\mathrm{aug}}$ on $E^\perp$")
    axes.set_title(f"{task.upper()}: minima on E; filled and counted: unstable", fontsize="medium", pad=18)
