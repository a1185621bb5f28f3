"""What the replay says: picture, words, table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyses.lab.publish import MARKERS, STYLES, Section, table
from analyses.replays.fixed_hidden.measure import SOLVED, STUDENTS, TEACHERS

# Hidden units move by a permutation where the fit is off by less.
FITS = 1e-3
CAPTION = (
    "Every minimum on E_Γ above its teacher, by the hidden representation of the student: left the lowest eigenvalue "
    "of ∇²R^aug on E⊥ there, middle the misfit at the minimum (open) and where R^aug leads from beside it (filled), "
    "with the line below which the teacher is found. Right: the orbits of the six hidden units at those ends that find "
    "it. "
)


def stuck(rows: Sequence[dict], **key: object) -> list[dict]:
    """Converged minima on E above the teacher."""
    return [r for r in held(rows, **key) if r["misfit"] > SOLVED]


def held(rows: Sequence[dict], **key: object) -> list[dict]:
    """Searches that converged."""
    return [r for r in rows if r.get("converged") and all(r[k] == v for k, v in key.items())]


def unstable(row: dict) -> bool:
    """Whether R^aug falls across E."""
    return row["negative"] > 0


def freed(row: dict) -> bool:
    """Whether the teacher is found from beside a minimum."""
    return row.get("end_misfit", 1.0) <= SOLVED


def named(row: dict) -> str:
    """The orbits of the hidden units at the end, where they are orbits."""
    return "+".join(map(str, row["end_orbits"])) if row["end_orbit_error"] <= FITS else "no permutation"


def draw(rows: Sequence[dict]) -> Figure:
    """λ_min on E⊥, misfits before and after, orbits at the end."""
    figure = Figure(figsize=(14, 4.8), layout="constrained")
    low, fits, ends = figure.subplots(1, 3, width_ratios=(3, 3, 2))
    for axes in (low, fits):
        axes.set_xticks(range(len(STUDENTS)), [s.replace(" + ", "\n+ ") for s in STUDENTS], fontsize="small")
        axes.set_xlim(-0.5, len(STUDENTS) - 0.5)
        axes.set_xlabel("hidden representation of the student")
    _marks(low, fits, rows)
    low.axhline(0, color="black", linewidth=1)
    low.set_yscale("symlog", linthresh=1e-6)
    if all(r["lambda_min_E_perp"] < 0 for r in stuck(rows)):
        low.set_ylim(2 * min(r["lambda_min_E_perp"] for r in stuck(rows)), 1e-6)
    low.set_ylabel(r"$\lambda_{\min}$ on $E^\perp$")
    low.legend(fontsize="small")
    fits.axhline(SOLVED, color="black", linestyle="--", linewidth=1)
    fits.set_yscale("log")
    fits.set_ylabel("misfit, of that of the zero function")
    _ends(ends, rows)
    return figure


def _marks(low: Axes, fits: Axes, rows: Sequence[dict]) -> None:
    for i, teacher in enumerate(TEACHERS):
        label, style = f"teacher {teacher}", {"color": STYLES[i]["color"], "markersize": 6, "linestyle": ""}
        for x, student in enumerate(STUDENTS):
            mine = stuck(rows, teacher=teacher, student=student)
            place = x + 0.3 * (i - 0.5) + np.linspace(-0.1, 0.1, len(mine)) if len(mine) > 1 else [x + 0.3 * (i - 0.5)]
            for at, r in zip(place, mine, strict=False):
                low.plot(at, r["lambda_min_E_perp"], MARKERS[i], label=label, **style)
                label = None
                fits.plot([at, at], [r["misfit"], max(r["end_misfit"], 1e-10)], color="0.8", linewidth=0.8, zorder=0)
                fits.plot(at, r["misfit"], MARKERS[i], fillstyle="none", **style)
                fits.plot(at, max(r["end_misfit"], 1e-10), MARKERS[i], **style)


def _ends(axes: Axes, rows: Sequence[dict]) -> None:
    names = sorted({named(r) for r in stuck(rows) if freed(r)})
    for i, teacher in enumerate(TEACHERS):
        found = Counter(named(r) for r in stuck(rows, teacher=teacher) if freed(r))
        axes.barh(np.arange(len(names)) + 0.2 * (2 * i - 1), [found[n] for n in names], 0.38, color=STYLES[i]["color"])
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("ends that find the teacher")
    axes.set_ylabel("orbits of the hidden units")


def section(rows: list[dict]) -> Section:
    """The claim, what was measured, what follows."""
    verdict, finding = judged(rows)
    return Section(
        title="Stuck with the wrong hidden representation: does R^aug find another?",
        expected="Claimed: a fixed hidden representation Γ can keep an equivariant network above its teacher; without "
        "the constraint the perceptron can get away, and what it finds is equivariant with another Γ. E_Γ and E_Γ' are "
        "two subspaces of the same L, so the way from one to the other starts on E_Γ⊥: if there is one at a minimum on "
        "E_Γ, ∇²R^aug on E_Γ⊥ says so by its sign.",
        measured="\n\n".join(t for t in (_searches(rows, teacher) for teacher in TEACHERS) if t),
        means=verdict,
        finding=finding,
    )


def _searches(rows: Sequence[dict], teacher: str) -> str:
    parts = []
    for student in STUDENTS:
        every, mine = held(rows, teacher=teacher, student=student), stuck(rows, teacher=teacher, student=student)
        if not every:
            continue
        text = f"{student}: {len(mine)} of {len(every)} minima on E above the teacher"
        if mine:
            free = [r for r in mine if freed(r)]
            low = [r["lambda_min_E_perp"] for r in mine]
            text += (
                f", misfit {min(r['misfit'] for r in mine):.1e} to {max(r['misfit'] for r in mine):.1e}, "
                f"{sum(map(unstable, mine))} unstable (λ_min on E⊥ {min(low):.1e} to {max(low):.1e}), "
                f"{len(free)} lead to the teacher"
            )
            ends = Counter(map(named, free))
            text += f" with orbits {', '.join(f'{k} ({v})' for k, v in ends.most_common())}" if ends else ""
        parts.append(text)
    return f"Teacher {teacher}. " + ". ".join(parts) + "." if parts else ""


def judged(rows: list[dict]) -> tuple[str, str]:
    """From the minima above their teachers: how many are unstable across E, and where these lead."""
    mine = stuck(rows)
    if not mine:
        return "Not decidable: no minimum on E lies above its teacher.", ""
    falling = [r for r in mine if unstable(r)]
    held_back = [r for r in mine if not unstable(r)]
    free = [r for r in falling if freed(r)]
    own = [r for r in free if named(r) != "no permutation"]
    anyway = [r for r in held_back if freed(r)]
    same = [r for r in mine if r["teacher"] == r["student"]]
    wider = held(rows, teacher=TEACHERS[0], student=STUDENTS[-1])
    above = sum(r["misfit"] > SOLVED for r in wider)
    numbers = (
        f"of {len(mine)} minima on E above their teacher {len(falling)} are unstable across E, and from {len(free)} of "
        f"these R^aug leads to the teacher, at {len(own)} of them with hidden units that move by a permutation again"
    )
    said = "Reproduced and sharpened" if free and len(own) > len(free) / 2 else "Sharpened"
    rest = (
        f"At the other {len(held_back)} ∇²R^aug is not negative, and a push of 1e-3 ‖A‖ leads to the teacher from "
        f"{len(anyway)}: where E⊥ has no negative mode another Γ has to be chosen by hand."
        if held_back
        else "None of these minima on E is a minimum of R^aug: what holds the student is the constraint, and the sign "
        "of λ_min on E⊥ says so before anything is relaxed."
    )
    return (
        f"{said}: {numbers}. {rest} {len(falling) - len(free)} of the unstable ones end at another point above the "
        f"teacher, so a way down need not be the way to it. Where the student has its teacher's Γ, {len(same)} minima "
        f"lie above it ({sum(map(freed, same))} lead to it, onto another of the subspaces that belong to the same Γ); "
        f"with one copy of R³ more than the first teacher, {above} of {len(wider)} do.",
        f"{numbers[0].upper()}{numbers[1:]}.",
    )


def tables(rows: Sequence[dict]) -> list[dict]:
    """One line a minimum above its teacher."""
    header = ["teacher", "student", "seed", "start", "misfit", "λ_min on E", "λ_min on E⊥", "irrep", "negative"]
    header += ["misfit at the end", "orbits there", "fit of orbits"]
    lines = [
        [r["teacher"], r["student"], r["seed"], r["start"], r["misfit"], r["lambda_min_E"], r["lambda_min_E_perp"]]
        + [r["irrep"], r["negative"], r["end_misfit"], "+".join(map(str, r["end_orbits"])), r["end_orbit_error"]]
        for r in stuck(rows)
    ]
    return [table("Minima on E above their teacher", header, lines)]
