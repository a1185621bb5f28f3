"""What the curves say, in words and in a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analyses.lab.publish import Section, table
from analyses.paper.figure1.curves import Curves, agreement, amplification, rounding_bound
from analyses.paper.figure1.runs import PAPER, TASKS


def runs(count: int) -> str:
    """
    >>> runs(1), runs(30)
    ('1 run', '30 runs')
    """
    return f"{count} run" + "s" * (count != 1)


def said_of_rounding(rows: Sequence[dict], task: str, options: dict) -> str:
    """EXACT against what amplified rounding allows, over the runs that have both.

    Most of what is measured is the rounding of measuring it, which EQUI, unable to leave E, shows as well.
    """
    step, epochs = options["step"], options["epochs"]
    mine = {(r["strategy"], r["run"]): r for r in rows if r["task"] == task}
    both = [run for name, run in mine if name == "EXACT" and ("CURVATURE", run) in mine]
    if not both:
        return ""
    spectra, bounds, kept = [mine["CURVATURE", run] for run in both], [], 0
    for run, spectrum in zip(both, spectra, strict=True):
        off = mine["EXACT", run]["off_equivariance"]
        first = max(mine["EQUI", run]["off_equivariance"]) if ("EQUI", run) in mine else off[0]
        bounds.append(rounding_bound(spectrum, first, step, epochs))
        kept += bool((np.array(off) <= bounds[-1]).all())
    factor, high = max(amplification(s, step) for s in spectra), max(s["highest"] for s in spectra)
    return (
        f". Rounding of ε‖A‖ a step, multiplied by max|1 − τλ| on E⊥ at the start, at most {factor:.6f} a step and "
        f"{factor**epochs:.3g} over all (τλ_max = {step * high:.2g} against 2), allows "
        f"{min(b[-1] for b in bounds):.1e} at the end, and {kept} of {len(both)} runs stay within their bound at "
        "every epoch"
    )


def said_of_cost(by: dict[tuple[str, str], Curves], rows: Sequence[dict], task: str) -> str:
    """What a run costs and all of the paper's, where the plain way was timed."""
    plain = [r["plain_seconds"] for r in rows if r["task"] == task and r["strategy"] == "COST"]
    timed = {s: by[task, s].cpu_seconds for s in PAPER if (task, s) in by and by[task, s].cpu_seconds}
    if not plain or len(timed) < len(PAPER):
        return ""
    every, rest = 30, timed["NOM"] + timed["EQUI"]
    each = ", ".join(f"{name} {seconds / 60:.2g}" for name, seconds in timed.items())
    return (
        f" Processor minutes of a run: {each}; AUG with every pass computed {plain[0] / 60:.3g}, from two of its "
        f"passes. All {every} runs of the three strategies take {every * (rest + timed['NEAR']) / 3600:.1f} hours of "
        f"one core with NEAR and {every * (rest + plain[0]) / 3600:.1f} with AUG, half of it on two."
    )


def section(found: Sequence[Curves], rows: Sequence[dict], options: dict) -> Section:
    """The words, from the numbers."""
    by = {(c.task, c.strategy): c for c in found}
    tasks = [t for t in TASKS if any(c.task == t for c in found)]
    measured, ratios, apart = [], [], []
    for task in tasks:
        nom, exact, equi = (by.get((task, s)) for s in ("NOM", "EXACT", "EQUI"))
        aug = by.get((task, "AUG"), by.get((task, "NEAR")))
        aug = by[task, "NEAR"] if (task, "NEAR") in by and len(by[task, "NEAR"].off) > len(aug.off) else aug
        text = f"{task.upper()}: "
        if nom:
            text += (
                f"NOM ends at ‖A_{{E⊥}}‖ = {nom.end[1]:.2e} after ‖A − A⁰‖ = {nom.end[0]:.2e} ({runs(len(nom.off))})"
            )
            text += f", {nom.ratio:.3f} times what the gradient at the start predicts" if np.isfinite(nom.ratio) else ""
        if aug:
            text += f"; sampled AUG at {aug.end[1]:.2e} after {aug.end[0]:.2e} ({runs(len(aug.off))})"
            if np.isfinite(aug.ratio):
                ratios.append(aug.ratio)
                text += f", {aug.ratio:.3f} times the noise's prediction"
        if nom and aug:
            apart.append((task.upper(), nom.end[1] / aug.end[1]))
            text += f". NOM leaves E {apart[-1][1]:.0f} times as far"
        if exact:
            text += f". AUG with the exact average stays within {exact.off.max():.1e} of E"
            text += said_of_rounding(rows, task, options)
        if equi and equi.off.max() > 0:
            text += f". EQUI stays within {equi.off.max():.1e} of E"
        elif equi:
            text += ". EQUI runs in coordinates of E and has no weights that could leave it"
        if both := agreement(rows, task):
            text += f". NEAR and AUG with the same draws ({runs(both[0])}) differ by at most {both[1]:.1e}, relatively"
        near = by.get((task, "NEAR"))
        if near and near.left_out is not None:
            text += f"; what NEAR leaves out is bounded by {near.left_out:.1e}, to first order"
        measured.append(text + "." + said_of_cost(by, rows, task))
    spread = "not compared with it"
    if ratios:
        ends = sorted({f"{ratio:.2f}" for ratio in (min(ratios), max(ratios))})
        spread = f"between {ends[0]} and {ends[1]}" if len(ends) > 1 else ends[0]
    far = ", ".join(f"{ratio:.0f} in {task}" for task, ratio in apart)
    return Section(
        f"How far training leaves E, {options['size']} size",
        "Augmented gradient flow never leaves E (Corollary 1), so what AUG shows is the noise of its samples: K "
        "passes, each mini-batch b of each pass with a Haar element of its own, are a random walk of expected square "
        "τ²(t/K) Σ_b‖Π_{E⊥}∇R_b‖² after t epochs. NOM follows Π_{E⊥}∇R, tτ‖Π_{E⊥}∇R‖ to first order. EQUI, and AUG "
        "with the exact Haar average, stay in E up to rounding, which EQUI projects out and EXACT multiplies by "
        "max|1 − τλ| a step at most, λ in the spectrum of ∇²R^aug on E⊥.",
        "\n\n".join(measured),
        f"The drift of sampled augmentation off E is sampling noise, measured over predicted {spread}, from one "
        f"gradient at the start. NOM leaves E further by a factor of {far}. What separates AUG from E over these "
        "epochs is not an unstable spectrum, which would need times of order 1/|λ| against the "
        f"{options['epochs'] * options['step']:g} units of flow time covered here."
        + (
            " Nor does rounding grow with so short a step: where it does is shown in Leaving E, by a step above "
            "2/λ_max on E⊥."
            if any(c.strategy == "EXACT" for c in found)
            else ""
        ),
    )


def table_of(found: Sequence[Curves]) -> dict:
    """Every strategy on every task, after the last epoch."""
    header = [
        "task",
        "strategy",
        "runs",
        "‖A − A⁰‖",
        "‖A_{E⊥}‖",
        "predicted",
        "measured / predicted",
        "CPU seconds a run",
    ]

    def or_none(value: float | None) -> float | None:
        return value if value is not None and np.isfinite(value) else None

    lines = [
        [c.task, c.strategy, len(c.off), *c.end, or_none(float(c.predicted.mean())), or_none(c.ratio), c.cpu_seconds]
        for c in found
    ]
    return table("Where each strategy ends", header, lines)
