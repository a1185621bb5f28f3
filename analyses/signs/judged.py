"""What the tool says of a family's problems, held against the truth; rows, counts and the picture."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

import numpy as np

from analyses.shared import Figure, Rows, dumps
from analyses.signs import kinks, modules, nearby, networks, polynomials, sizes, symmetries, weights
from analyses.signs.case import NO_SIGN, VERDICTS, Case
from stability.base.errors import BadInput
from stability.base.storage import write
from stability.run.analysis import analyse
from stability.run.settings import Settings

# One module a kind of problem; each has its FAMILIES, a family ↦ (generator ↦ Case).
KINDS = (
    polynomials,
    networks,
    kinks,
    modules,
    sizes,
    symmetries,
    nearby,
    weights,
)
FAMILIES = {name: family for kind in KINDS for name, family in kind.FAMILIES.items()}

REASONS = {
    "curvature changes within the distance": ("of itself",),
    "gradient along flat directions": ("directions whose curvature",),
    "numbers beyond float64": ("squares leave",),
    "refused: products contradict each other": ("refused",),
    "the gradient is flat, not zero": ("Newton step",),
    "no Hessian: a kink": ("kink",),
    "within the errors": ("by less than the errors", "within the errors"),
    "single precision gives no lower bound": ("float64 would decide it",),
    "Lanczos gives no lower bound": ("bounds λ_min from above only",),
    "gradient above the tolerance": ("above the tolerance",),
}

# What no computation in float64 decides: values given in single precision, squares outside of its range.
BEYOND = ("single precision gives no lower bound", "numbers beyond float64")


def reason(evidence: str) -> str:
    """Why nothing was decided, in a few words."""
    return next((name for name, words in REASONS.items() if any(w in evidence for w in words)), evidence)


def outcome(truth: str, said: str) -> str:
    """right, undecided or wrong."""
    if said in ("undecided", "not_stationary"):
        return "right" if truth == NO_SIGN else "undecided"
    return "right" if said == truth else "wrong"


def verdicts(case: Case) -> dict[str, tuple[str, str]]:
    """What the tool says."""
    if case.verdicts is not None:
        return case.verdicts
    settings = Settings(at=case.theta, escape_iterations=0, memory_gb=2.0)
    try:
        found = analyse(case.problem, settings).analysis.verdict
    except BadInput as error:  # the command ends there, with this line
        return dict.fromkeys(case.truth, ("undecided", f"refused: {error}"))
    return {name: (getattr(found, name).status, getattr(found, name).evidence) for name in case.truth}


class Lines(Rows):
    """Rows that are kept one a line."""

    def save(self, **extra: object) -> None:
        self.extra |= extra
        head = dumps({"options": self.options, **self.extra}).rstrip()[:-1].rstrip()
        lines = ",\n  ".join(json.dumps(r, ensure_ascii=False, allow_nan=False) for r in self.rows)
        write(self.file, f'{head},\n "rows": [\n  {lines}\n ]\n}}\n')


def row(family: str, number: int) -> dict:
    """One problem, judged."""
    case = FAMILIES[family](np.random.default_rng([number, *family.encode()]))
    said = verdicts(case)
    results = {name: outcome(case.truth[name], said[name][0]) for name in case.truth}
    why = {name: reason(said[name][1]) for name in case.truth if results[name] != "right"}
    return {
        "family": family,
        "number": number,
        "space": case.problem.name if case.problem else "diagonal",
        "lowest": case.lowest,
        **{name: [case.truth[name], said[name][0], results[name]] for name in case.truth},
        **({"why": why} if why else {}),
    }


def outcomes(r: dict) -> list[str]:
    """right, undecided or wrong, verdict by verdict."""
    return [r[name][2] for name in (*VERDICTS, "nominal") if name in r]


def counts(rows: Sequence[dict]) -> dict[str, Counter]:
    """family → right, undecided, wrong, over all verdicts."""
    found = {family: Counter() for family in FAMILIES}
    for r in rows:
        found[r["family"]].update(outcomes(r))
    return {family: c for family, c in found.items() if c}


def draw(rows: Sequence[dict]) -> Figure:
    """Shares by family as bars, told apart without colour."""
    by_family = counts(rows)
    figure = Figure(figsize=(7.2, 1.6 + 0.19 * len(by_family)), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(by_family))
    styles = {"right": ("0.85", ""), "undecided": ("0.55", "//"), "wrong": ("black", "")}
    for what, (shade, hatch) in styles.items():
        shares = np.array([100 * c[what] / c.total() for c in by_family.values()])
        total = sum(c[what] for c in by_family.values())
        axes.barh(
            list(by_family), shares, left=left, color=shade, hatch=hatch, edgecolor="black", label=f"{what}: {total:,}"
        )
        left += shares
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of the verdicts (%)")
    axes.set_title(
        f"{len(rows):,} problems whose answer is known, {sum(c.total() for c in by_family.values()):,} verdicts"
    )
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure
