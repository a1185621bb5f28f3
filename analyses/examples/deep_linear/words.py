"""What the critical points say."""

from __future__ import annotations

from collections.abc import Sequence

from analyses.lab.publish import Section


def section(rows: Sequence[dict]) -> Section:
    """Words from the rows."""
    wrong = [r for r in rows if r["index_theory"] != r["index_measured"]]
    plain = [r for r in rows if r["part"] == "landscape"]
    hidden = [r for r in plain if r["index_theory"] == 0 and not r["minimum"]]
    symmetric = [r for r in rows if r["part"] == "symmetry"]
    lost = [
        r
        for r in symmetric
        if r["equivariant_minimum"] and any(v for name, v in r["index_measured"].items() if name != "trivial")
    ]
    minima = [r for r in symmetric if r["equivariant_minimum"]]
    agree = (
        "The measured index equals the closed form at every one of them"
        if not wrong
        else f"The index differs at {len(wrong)} of them"
    )
    return Section(
        title="A deep linear network, critical point by critical point",
        expected="The index of every critical point is a count of singular values and of unused dimensions.",
        measured=f"{len(plain)} classes of critical points without symmetry and {len(symmetric)} equivariant ones, "
        f"each resolved by sectors. {agree}; the largest gradient norm is {max(r['gradient'] for r in plain):.1e}. "
        f"{len(hidden)} classes have index 0 and are no minima. Of {len(minima)} global minima on E, {len(lost)} "
        "are unstable on E⊥.",
        means="Signs and counts that the tool reports can be checked here against a theorem, at saddles of many an "
        "index. And the question of the paper has an answer by arithmetic: a global minimum on E is unstable on E⊥ "
        "where the architecture gives an irrep fewer hidden copies than its singular values deserve.",
    )
