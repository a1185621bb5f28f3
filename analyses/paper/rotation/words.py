"""What the combinations say, in words and in a table."""

from __future__ import annotations

from collections.abc import Sequence

from analyses.lab.publish import Section, table
from analyses.paper.rotation.settings import Setting


def section(found: Sequence[Setting], size: str) -> Section:
    """The words, from the numbers."""
    by = {(s.task, s.head, s.sampler): s for s in found}
    texts = []
    for s in found:
        nom, aug = s.norm["NOM"].mean(), s.norm["AUG"].mean()
        text = f"{s.label}{' sampler' if s.task == 'rot' else ''}: AUG/NOM = {s.ratio:.3f}"
        text += f" (predicted {s.predicted:.3f})" if s.predicted else ""
        text += (
            f", ‖A_{{E⊥}}‖ {aug:.1e} and {nom:.1e} after ‖A − A⁰‖ = {s.travelled.mean():.1e}; in the published norm "
        )
        text += f"{s.squared['AUG'].mean():.1e} and {s.squared['NOM'].mean():.1e}"
        texts.append(text)
    means = []
    haar, faulty = by.get(("rot", "published", "haar")), by.get(("rot", "published", "published"))
    if haar and faulty:
        means.append(
            f"The sampler makes AUG resemble NOM: AUG/NOM goes from {haar.ratio:.3f} under Haar's measure to "
            f"{faulty.ratio:.2f} under the published one, {faulty.predicted:.2f} of it expected, for what half turns "
            "leave alone is never averaged away."
        )
        means.append(
            "The norm makes both shifts tiny: the published norm turns "
            f"{faulty.norm['AUG'].mean():.1e} into {faulty.squared['AUG'].mean():.1e}."
        )
    bare = by.get(("rot", "none", "haar"))
    if haar and bare:
        means.append(
            f"The head does not do it: without it AUG/NOM under Haar's measure is {bare.ratio:.3f} "
            f"(with it {haar.ratio:.3f}). Nor does it stop the gradient at a random start: ‖Π_E ∇R‖ is {haar.on_e:.2g} "
            f"with it and {bare.on_e:.2g} without."
        )
    digits = by.get(("trans", "published", "haar"))
    if digits:
        means.append(
            f"Nor does dim E/dim L: TRANS under the same C_4, with the same share of about 1/4, has AUG/NOM = "
            f"{digits.ratio:.3f}."
        )
    if faulty:
        means.append(
            "The published picture, AUG close to NOM and both far below ‖A − A⁰‖, comes out of the published sampler "
            "and the published norm together. The data are ours here; what the published ones, which have faults of "
            "their own, change is measured in the section on the paper's own data."
        )
    return Section(
        f"Why rotations looked different, {size} size",
        "Under Haar's measure AUG should drift off E as slowly in ROT as elsewhere. Under a sampler m the mean step is "
        "M∇R, M = Σ_g m(g)ρ̄(g), which for 0° at .4 and 180° at .6 leaves the q = 2 part of Π_{E⊥}∇R whole and −.2 of "
        "the q = 1 part, so that AUG leaves E at a fixed fraction of NOM's rate.",
        ";\n".join(texts) + ".",
        " ".join(means),
    )


def table_of(found: Sequence[Setting]) -> dict:
    """Every combination, at the end."""
    header = [
        "setting",
        "AUG/NOM",
        "predicted",
        "AUG ‖A_{E⊥}‖",
        "NOM ‖A_{E⊥}‖",
        "AUG, published norm",
        "NOM, published norm",
    ]
    header.append("‖A − A⁰‖ of AUG")
    lines = [
        [
            s.label,
            s.ratio,
            s.predicted,
            *(float(s.norm[k].mean()) for k in ("AUG", "NOM")),
            *(float(s.squared[k].mean()) for k in ("AUG", "NOM")),
            float(s.travelled.mean()),
        ]
        for s in found
    ]
    return table("Suspects separated, after the last epoch", header, lines)
