"""What the runs say, in words and in a table."""

from __future__ import annotations

from collections.abc import Sequence

from analyses.lab.publish import Section, table
from analyses.studies.restricted.networks import COORDINATES, SUPPORTS
from analyses.studies.restricted.picture import runs, spectra

# Below this A_{E⊥} is rounding.
KEPT = 1e-10


def section(rows: Sequence[dict]) -> Section:
    """Words from the rows."""

    def off(which: str, kind: str) -> list[float]:
        chosen = [r for r in runs(rows) if r["support"] == which and r["coordinates"] == kind]
        return [r["off_equivariance"][-1] / r["norm"] for r in chosen]

    def span(values: Sequence[float]) -> str:
        return f"{min(values):.1e} to {max(values):.1e}"

    defects = {w: next(r["defect"] for r in runs(rows) if r["support"] == w) for w in SUPPORTS}
    mixed = [
        r["coordinate_defect"] for r in runs(rows) if r["coordinates"] == COORDINATES[1] and r["support"] == "cross"
    ]
    kept = max(off("cross", COORDINATES[0])) < KEPT
    left = min(off("skewed", COORDINATES[0]) + off("cross", COORDINATES[1]) + off("skewed", COORDINATES[1])) > KEPT
    steps = len(runs(rows)[0]["off_equivariance"]) - 1
    dims = {w: next(r["dims"] for r in runs(rows) if r["support"] == w) for w in SUPPORTS}
    texts = []
    for which in SUPPORTS:
        for where in dict.fromkeys(r["where"] for r in spectra(rows)):
            chosen = [r for r in spectra(rows) if r["support"] == which and r["where"] == where]
            lowest = {b: min(r["lowest"] for r in chosen if r["block"] == b) for b in ("E", "E_perp")}
            coupling = chosen[0].get("coupling")
            texts.append(
                f"{which}, {where}: λ_min {lowest['E']:.2e} on E and {lowest['E_perp']:.2e} on E⊥, "
                f"share of the gradient off E {chosen[0]['leak']:.1e}"
                + (f", coupling {coupling:.1e}" if coupling is not None else "")
            )
    finding = (
        "The support that G maps to itself keeps E to rounding, in orthonormal coordinates only; the skewed one loses "
        "it in the first step."
        if kept and left
        else "The runs do not separate as the theory says."
    )
    whole, own, other = dims["cross"]["H"], dims["cross"], dims["skewed"]
    return Section(
        title="Kernels that keep E and kernels that do not",
        expected="If the projections onto admissible and equivariant layers commute, exact augmented descent in "
        "orthonormal coordinates never leaves E; a skewed support or coordinates that are not orthonormal carry it "
        "off, whatever the spectrum.",
        measured=f"‖[Π_T, Π_G]‖ is {defects['cross']:.1e} for the cross and {defects['skewed']:.3f} for the skewed "
        f"support; T has {own['L']:,} of {whole:,} dimensions, E {own['E']:,} and {other['E']:,}. After {steps} steps "
        f"‖A_{{E⊥}}‖/‖A⁰‖ is {span(off('cross', COORDINATES[0]))} for the cross, {span(off('cross', COORDINATES[1]))} "
        f"for the cross in other coordinates (defect {span(mixed)}), {span(off('skewed', COORDINATES[0]))} for the "
        f"skewed support and {span(off('skewed', COORDINATES[1]))} for it in other coordinates.\n\n"
        + "; ".join(texts)
        + ".",
        means="Whether augmentation can find the equivariant network is decided by the architecture first: only where "
        "the defect vanishes do spectra on E and E⊥ say which points hold.",
        finding=finding,
    )


def tables(rows: Sequence[dict]) -> list[dict]:
    """Every block of the spectra."""
    header = ("support", "point", "block", "irrep", "dim", "λ_min", "residual", "λ_max", "coupling", "gradient off E")
    body = [
        (
            r["support"], r["where"], r["block"].replace("_perp", "⊥"), r["irrep"], r["dim"], r["lowest"],
            r["lowest_residual"], r["highest"], r.get("coupling"), r["leak"],
        )
        for r in spectra(rows)
    ]  # fmt: skip
    return [table("∇²R^aug on the admissible layers", header, body)]
