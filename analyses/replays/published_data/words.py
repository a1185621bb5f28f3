"""What the replay says, in words and in tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analyses.lab.publish import Section, table
from analyses.replays.published_data.data import VARIANTS
from analyses.replays.published_data.measure import ratio, strategies

SAMPLER = "AUG, published sampler"
# AUG/NOM from which on the two are called alike, and up to which they are called apart.
ALIKE, APART = 0.3, 0.1
CAPTION = (
    "Top: a triangle and a pentagon with both masks, as published and ours; Figure 1 on both data sets, means over the "
    "runs. Bottom: how far AUG leaves E compared with NOM, from the published data to ours one change at a time, with "
    "the sampler drawn from Haar's measure and as it was executed; the lowest eigenvalue across E at minima on E."
)


def section(rows: list[dict]) -> Section:
    """The claim, what was measured, what follows."""
    texts = [_said_of_graphs(r) if r["task"] == "perm" else _said_of_shapes(r) for r in rows if r["kind"] == "facts"]
    texts += [_said_of_training(rows, task) for task in VARIANTS]
    texts += [_said_of_spectra(rows, task) for task in VARIANTS]
    verdict, finding = judged(rows)
    verdict = " ".join(s for s in (verdict, *(_meaning_of_signs(rows, task) for task in VARIANTS)) if s)
    return Section(
        title="The paper's own data: is ROT special because of them?",
        expected="Claimed: with augmentation by rotations, training leaves E about as fast as nominal training does, "
        "otherwise than with permutations and shifts. If the data did it, AUG would follow NOM on the published images "
        "and part from it on ours, under Haar's measure in both cases. Theory leaves no room for that: at A in E the "
        "mean step of AUG lies in E whatever the data, and what is left is sampling noise.",
        measured="\n\n".join(t for t in texts if t),
        means=verdict,
        finding=finding,
    )


def _said_of_graphs(r: dict) -> str:
    ours = r["ours_connected"]
    return (
        f"PERM, {r['count']:,} published graphs: {r['wrong']} labels are wrong, {r['called_connected']} of them "
        f"disconnected graphs called connected; {r['labelled_connected']:.3f} are connected as labelled, "
        f"{r['connected']:.3f} in truth. Our generator gives {np.mean(ours):.3f} in the mean of {len(ours)} seeds, "
        f"{min(ours):.3f} to {max(ours):.3f}, which the true share does not contradict."
    )


def _said_of_shapes(r: dict) -> str:
    return (
        f"ROT, {r['count']:,} published images ({r['triangles']:,} triangles): in {r['one_mask_all_one']:,} the mask "
        f"of the shape that is not there is one everywhere, not zero; the background is {r['background']:.2f}, the "
        f"shape {r['shape']:.2f}; a corner points right in {r['points_right']:.0%} of the triangles inside the image. "
        f"The mask of the shape that is there is coverage ≥ ½ at {r['mask_is_half_coverage']:.2%} of the pixels. So "
        "the task as described, two masks of which one is empty, is not the task that was trained."
    )


def _said_of_training(rows: list[dict], task: str) -> str:
    """Where each strategy ends on each variant."""
    parts = []
    for variant in VARIANTS[task]:
        ends = []
        for name in strategies(task):
            mine = _runs(rows, task, variant, name)
            if mine:
                text = f"{name} {np.mean([r['norm'][-1] for r in mine]):.1e}"
                value = ratio(rows, task, variant, name)
                ends.append(text + (f" (AUG/NOM {value:.3f})" if name != "NOM" and np.isfinite(value) else ""))
        nom = _runs(rows, task, variant, "NOM")
        if nom:
            expected = [r["predicted"] for r in nom if "predicted" in r]
            more = f"; {np.mean(expected):.2f} expected for that sampler" if expected else ""
            far = np.mean([r["travelled"][-1] for r in nom])
            parts.append(f"{variant}: {', '.join(ends)}{more}, after ‖A − A⁰‖ = {far:.1e} of NOM")
    if not parts:
        return ""
    count = len({r["run"] for r in rows if r["kind"] == "run" and r["task"] == task})
    squared = [r["squared_norm"][-1] for r in _runs(rows, task, "published", SAMPLER)]
    norm = (
        f" In the norm as it was plotted, AUG's end on the published data is {np.mean(squared):.1e}." if squared else ""
    )
    return (
        f"{task.upper()}, ‖A_{{E⊥}}‖ at the end, {count} runs. "
        + ". ".join(p[0].upper() + p[1:] for p in parts)
        + "."
        + norm
    )


def _said_of_spectra(rows: list[dict], task: str) -> str:
    """Signs of λ_min on E⊥ on each variant."""
    parts = []
    for variant in VARIANTS[task]:
        found = [r for r in rows if r["kind"] == "point" and (r["task"], r["variant"]) == (task, variant)]
        mine = [r for r in found if r["converged"]]
        if mine:
            low = [r["lambda_min_E_perp"] for r in mine]
            gain = [r["accuracy"]["train"] - r["accuracy"]["constant"] for r in mine if "constant" in r["accuracy"]]
            short = f" ({len(found) - len(mine)} searches fell short)" if len(found) > len(mine) else ""
            parts.append(
                f"{variant}: {sum(v < 0 for v in low)} of {len(mine)} unstable{short}, λ_min from {min(low):.1e} to "
                f"{max(low):.1e}, misfit {np.median([r['misfit'] for r in mine]):.2g}"
                + (f", accuracy {np.median(gain):+.2f} above the constant" if gain else "")
            )
    return f"{task.upper()}, minima on E. " + ". ".join(p[0].upper() + p[1:] for p in parts) + "." if parts else ""


def _meaning_of_signs(rows: list[dict], task: str) -> str:
    """Whether minima on E keep the sign of λ_min on E⊥ from the published data to ours."""
    shares = []
    for variant in ("published", "ours"):
        found = [r for r in rows if r["kind"] == "point" and (r["task"], r["variant"]) == (task, variant)]
        low = [r["lambda_min_E_perp"] for r in found if r["converged"]]
        if not low:
            return ""
        shares.append((sum(v < 0 for v in low), len(low)))
    (a, n), (b, m) = shares
    told = f"{a} of {n} minima on E are unstable on the published data, {b} of {m} on ours"
    same = "the same answer" if a * m == b * n and a in (0, n) else "no clear difference from so few"
    return f"{task.upper()}: {told}, {same}."


def _runs(rows: Sequence[dict], task: str, variant: str, strategy: str) -> list[dict]:
    return [
        r for r in rows if r["kind"] == "run" and (r["task"], r["variant"], r["strategy"]) == (task, variant, strategy)
    ]


def judged(rows: list[dict]) -> tuple[str, str]:
    """Reproduced, sharpened, overturned or not decidable, from AUG/NOM on the published images and ours."""
    haar = {variant: ratio(rows, "rot", variant, "AUG") for variant in VARIANTS["rot"]}
    faulty = {variant: ratio(rows, "rot", variant, SAMPLER) for variant in VARIANTS["rot"]}
    values = [haar["published"], haar["ours"], faulty["published"], faulty["ours"]]
    if not np.isfinite(values).all():
        return "Not decidable: runs of ROT on the published data or ours are missing.", ""
    numbers = (
        f"under Haar's measure AUG/NOM in ROT is {haar['published']:.3f} on the published data and "
        f"{haar['ours']:.3f} on ours; with the sampler as executed {faulty['published']:.2f} and {faulty['ours']:.2f}"
    )
    if max(haar.values()) < APART and min(faulty.values()) > ALIKE:
        return (
            f"Reproduced with the sampler as it was executed, overturned as a statement about rotations: {numbers}. "
            "The data do not make AUG resemble NOM; the sampler does, on every variant. What the data change is by how "
            "much: the larger the part of the gradient that half turns leave alone, the closer AUG comes to NOM "
            f"({min(faulty.values()):.2f} to {max(faulty.values()):.2f} over the variants).",
            f"The anomaly of ROT does not come from its data: {numbers}.",
        )
    if haar["published"] > ALIKE > APART > haar["ours"]:
        return f"The data do it: {numbers}.", f"The anomaly of ROT comes from its data: {numbers}."
    return f"Not decidable from these runs: {numbers}.", ""


def tables(rows: list[dict]) -> list[dict]:
    """Ends of the runs and minima on E, by variant."""
    ends, minima = [], []
    for task, variants in VARIANTS.items():
        for variant in variants:
            for name in strategies(task):
                if mine := _runs(rows, task, variant, name):
                    value = ratio(rows, task, variant, name)
                    squared = [r["squared_norm"][-1] for r in mine if r["squared_norm"]]
                    ends.append(
                        [task, variant, name, len(mine), *(float(np.mean([r[k][-1] for r in mine])) for k in _ENDS)]
                        + [float(np.mean(squared)) if squared else None]
                        + [value if name != "NOM" and np.isfinite(value) else None]
                    )
            for r in rows:
                if r["kind"] == "point" and (r["task"], r["variant"]) == (task, variant):
                    minima.append(
                        [task, variant, r["start"], r["converged"], r["risk"], r["lambda_min_E"]]
                        + [r["lambda_min_E_perp"], r["irrep"], r["negative"], r["misfit"], r["accuracy"].get("train")]
                        + [r["accuracy"].get("constant")]
                    )
    header = ["task", "data", "strategy", "runs", "‖A − A⁰‖", "‖A_{E⊥}‖", "published norm", "AUG/NOM"]
    points = ["task", "data", "start", "converged", "R", "λ_min on E", "λ_min on E⊥", "irrep", "negative", "misfit"]
    return [
        table("Where training ends, by data", header, ends),
        table("Minima on E, by data", [*points, "train", "constant"], minima),
    ]


_ENDS = ("travelled", "norm")
