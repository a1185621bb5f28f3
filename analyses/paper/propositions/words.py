"""What the errors say, in words and in tables."""

from __future__ import annotations

from collections.abc import Sequence

from analyses.lab.publish import Section, table
from analyses.paper.propositions.statements import KINDS, STATEMENTS, Statement, failures, gathered, judged_points


def section(rows: Sequence[dict]) -> Section:
    """Words from the rows."""
    held = [e for s in STATEMENTS for kind in s.holds for e in gathered(rows, s, kind)]
    controls = [e for s in STATEMENTS for kind in s.fails for e in gathered(rows, s, kind)]
    failed, judged_rows = failures(rows), judged_points(rows)
    problems = {(r["spot"], r["group"]) for r in rows}
    groups = sorted({r["group"] for r in rows})
    worst = max(
        ((e, s, kind) for s in STATEMENTS for kind in s.holds for e in gathered(rows, s, kind)), key=lambda t: t[0]
    )
    measured = (
        f"{len(held)} errors of {len(STATEMENTS)} statements on {len(problems)} problems under {len(groups)} groups "
        f"({', '.join(groups)}); the largest is {worst[0]:.1e} ({worst[1].name}, {worst[2]}). {len(controls)} "
        f"controls off E came out between {min(controls, default=0):.1e} and {max(controls, default=0):.1e}. "
        + (f"Not as expected: {'; '.join(failed)}." if failed else "Nothing came out other than expected.")
    )
    if judged_rows:
        measured += "\n\n" + _said_of_strict_minima(judged_rows)
    gaps = gathered(rows, next(s for s in STATEMENTS if s.key == "remark2"), KINDS[2])
    short = gathered(rows, next(s for s in STATEMENTS if s.key == "remark2_convexity"), KINDS[2])
    if gaps:
        measured += (
            f"\n\nOff E the risk of the averaged network and R^aug, or their gradients, differ by {min(gaps):.1e} to "
            f"{max(gaps):.1e} (zero where the loss sees a group-invariant sum of the predictions alone), and R^aug is "
            f"smaller nowhere by more than {max(short, default=0):.0e}."
        )
    return Section(
        title="The statements of the paper, measured",
        expected="Lemmas 3 to 5, and Lemma 6 for any bilinear form, hold at every A; Propositions 1 and 2 and both "
        "corollaries at every A in E, stationary or not; all up to rounding, 1e-12 or so in float64. Off E "
        "Propositions 1 and 2 and Corollary 2 fail by an amount of order one, which shows that the measurement can "
        "fail. Corollary 1 speaks of the flow: along descent the error is divided by the growth of a push, which "
        "rounding shares. Remark 2 equates R^aug with the risk of the feature-averaged network; for a loss that is "
        "convex in the prediction Jensen's inequality allows no more than R^aug ≥ E ℓ(Φ^FA, y), with equality, and "
        "equal gradients, on E.\n\n"
        "Proposition 3 follows from λ_min(∇²R) ≤ λ_min(∇²R^aug) ≤ λ_min(∇²R^eqv on E), which holds at every A in E: an "
        "average of conjugates has a smallest eigenvalue no smaller, and so has a restriction.",
        measured=measured,
        means=(
            "The theory holds on these problems to rounding, so what follows can be read as statements about "
            "training and not about this program. "
            if not failed
            else "Some statement came out other than expected; what follows rests on it. "
        )
        + "Remark 2 holds on E and is an inequality elsewhere: averaging the network and augmenting the data are "
        "different objectives as soon as the weights leave E. The converses of Proposition 3 fail at points known "
        "by hand and at trained networks alike.",
        finding=f"{len(STATEMENTS)} statements on {len(problems)} problems: {len(failed)} came out other than "
        f"expected; the largest "
        f"error where a statement holds is {worst[0]:.1e}.",
    )


def _said_of_strict_minima(rows: Sequence[dict]) -> str:
    counts = {
        key: {state: sum(r["proposition3"][key] == state for r in rows) for state in ("holds", "vacuous", "fails")}
        for key in ("i", "ii", "converse_i", "converse_ii")
    }
    broken = {
        key: ", ".join(r["spot"] for r in rows if r["proposition3"][key] == "fails")
        for key in ("converse_i", "converse_ii")
    }
    chain = max(r["proposition3"]["chain"] for r in rows)
    return (
        f"Proposition 3 at {len(rows)} stationary points: (i) holds at {counts['i']['holds']}, has no premise at "
        f"{counts['i']['vacuous']} (∇R has a part outside E, or R no strict minimum) and fails at "
        f"{counts['i']['fails']}; (ii) holds at {counts['ii']['holds']}, has no premise at {counts['ii']['vacuous']} "
        f"and fails at {counts['ii']['fails']}. The chain of smallest eigenvalues is violated by {chain:.0e} at "
        f"most. The converse of (i) fails at {broken['converse_i'] or 'none'}, that of (ii) at "
        f"{broken['converse_ii'] or 'none'}."
    )


def tables(rows: Sequence[dict]) -> list[dict]:
    """Largest errors by statement and kind of point; by problem; Proposition 3."""

    def most(s: Statement, kind: str) -> object:
        errors = gathered(rows, s, kind)
        if not errors:
            return None
        spread = f"{min(errors):.1e} to {max(errors):.1e}"
        if kind in s.fails:
            return f"control: {spread}"
        return spread if kind in s.open else float(f"{max(errors):.1e}")

    listed = [[s.name, s.text, *(most(s, kind) for kind in KINDS)] for s in STATEMENTS]
    keys = [
        s for s in STATEMENTS if s.key not in ("lemma1_dimension", "cor2_zero", "remark2_hessian", "remark2_convexity")
    ]
    by_problem = []
    for label, group in dict.fromkeys((r["spot"], r["group"]) for r in rows):
        mine = [r for r in rows if (r["spot"], r["group"]) == (label, group)]
        cells = [max((e for kind in s.holds for e in gathered(mine, s, kind)), default=None) for s in keys]
        by_problem.append([label, group, *(None if e is None else float(f"{e:.1e}") for e in cells)])
    points_ = [
        [r["spot"], r["group"], p["nominal_gradient"], p["lambda_min"]["nominal"], p["method"]]
        + [p["lambda_min"]["aug"], p["lambda_min"]["eqv"], p["i"], p["ii"], p["converse_i"], p["converse_ii"]]
        for r in judged_points(rows)
        for p in [r["proposition3"]]
    ]
    return [
        table("Largest relative error of each statement", ["", "statement", *KINDS], listed),
        table(
            "Largest error where the statement holds, by problem",
            ["problem", "group", *(s.name for s in keys)],
            by_problem,
        ),
        table(
            "Proposition 3 at stationary points in E",
            [
                "problem",
                "group",
                "‖∇R‖ / scale",
                "λ_min(∇²R)",
                "which is",
                "λ_min(∇²R^aug)",
                "λ_min(∇²R^eqv)",
                "(i)",
                "(ii)",
            ]
            + ["converse of (i)", "converse of (ii)"],
            points_,
        ),
    ]
