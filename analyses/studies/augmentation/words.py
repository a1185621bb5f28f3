"""What the draws say, in words and in tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analyses.lab.publish import Section, table
from analyses.studies.augmentation.measure import (
    AGREES,
    BATCHES,
    DRAWS,
    DRIFT_COUNTS,
    EPOCHS,
    FEEDBACK_RUNS,
    MODES,
    STEP_SHARE,
    errors_off,
)


def section(rows: Sequence[dict]) -> Section:
    """Words from the rows."""
    said, finding = [], ""
    exact = [r for r in rows if r["part"] in ("gradient", "hessian")]
    if exact:
        said, finding = _said_of_distances(exact)
    drift = [r for r in rows if r["part"] == "drift"]
    if drift:
        ratios = {k: [(r["measured"] / r["law"]) for r in drift if r["elements"] == k] for k in DRIFT_COUNTS}
        listed = ", ".join(f"{min(v):.2f} to {max(v):.2f} at K = {k}" for k, v in ratios.items() if v)
        off = [r for r in drift if abs(errors_off(r)) > AGREES]
        said.append(
            f"Drift off E after {EPOCHS} steps of {STEP_SHARE} of the critical step, mean ‖A_{{E⊥}}‖² of "
            f"{DRAWS['drift']} runs over its law: {listed}; {len(drift) - len(off)} of {len(drift)} within {AGREES} "
            "standard errors."
            + "".join(
                f" Off: {r['label']}, one g a {r['mode']}, K = {r['elements']}, {errors_off(r):+.1f}." for r in off
            )
        )
    if feedback := [r for r in rows if r["part"] == "feedback"]:
        said.append(_said_of_feedback(feedback))
    least = [r for r in rows if r["part"] == "lowest"]
    if least:
        said.append(_said_of_lowest(least))
    return Section(
        title="How many group elements stand for the whole group",
        expected="At A in E a pass with g has gradient ρ̄(g)∇R and Hessian ρ̄(g)∇²Rρ̄(g)ᵀ, so their means over K "
        "draws are at squared distance ‖Π_{E⊥}∇R‖²/K and (‖∇²R‖² − ‖∇²R^aug‖²)/K from the Haar limit, and the "
        "gradient's noise lies in E⊥ alone. With one g a mini-batch the mini-batches' noises add up as squares: Σ_b "
        "‖Π_{E⊥}∇R_b‖²/K. That is up to B times less than with one g a pass where B mini-batches pull the same "
        "way, and more where they cancel, as at a minimum of R itself.\n\n"
        "Sampled descent from E gathers this noise, shaped by 1 − τ∇²R^aug. To first order in 1/K, that is: a draw's "
        "own ∇²R acts on what earlier draws have moved, and higher derivatives on its square. λ_min is a concave "
        "function of the matrix, so sampling makes λ_min on E⊥ too low in the mean, by less with every element more; "
        "where its eigenspace has several dimensions the first correction is of order 1/√K.",
        measured="\n\n".join(said),
        means="Finite augmentation does not move E's stationary points: the gradient's component in E is exact for "
        "every draw. It pushes the weights off E, at a rate known beforehand from one gradient a mini-batch, and it "
        "makes the landscape around E look less stable than it is: a spectrum of a sampled R^aug overstates "
        "instability, never in the mean understates it. Giving every mini-batch an element of its own costs nothing "
        "and helps as far as mini-batches agree.",
        finding=finding,
    )


def _said_of_distances(exact: Sequence[dict]) -> tuple[list[str], str]:
    """Of squared distances to the Haar limit against their laws; the finding."""
    said = []
    off = [r for r in exact if abs(errors_off(r)) > AGREES]
    worst = max(exact, key=lambda r: abs(errors_off(r)))
    inside = max((r["share_in_E"] for r in exact if "share_in_E" in r), default=0.0)
    counts = sorted({r["elements"] for r in exact})
    said.append(
        f"Squared distances at {len({r['label'] for r in exact})} points, K from {counts[0]} to {counts[-1]:,}, "
        f"one g a pass and one g a mini-batch ({BATCHES} of them): {len(exact) - len(off)} of {len(exact)} means "
        f"agree with the exact law within {AGREES} standard errors; the one furthest off is "
        f"{errors_off(worst):+.1f} errors away ({worst['part']}, {worst['label']}, one g a {worst['mode']}, K = "
        f"{worst['elements']:,}: {worst['measured']:.4g} against {worst['law']:.4g}). The part of the gradient's "
        f"noise in E is {inside:.0e} of it, rounding."
    )
    finding = (
        f"{len(exact) - len(off)} of {len(exact)} squared distances to the Haar limit lie within {AGREES} "
        "standard errors of the exact 1/K laws."
    )
    gains = []
    for part in ("gradient", "hessian"):
        for label in dict.fromkeys(r["label"] for r in exact):
            law = {r["mode"]: r["law"] * r["elements"] for r in exact if r["part"] == part and r["label"] == label}
            if len(law) == 2 and law["mini-batch"] > 0:
                gains.append(f"{part}, {label}: {law['pass'] / law['mini-batch']:.3g}")
    said.append(
        f"Moving each of {BATCHES} mini-batches by its own g instead of the whole pass by one divides the "
        f"squared distance by {'; '.join(gains)}."
    )
    return said, finding


def _said_of_feedback(rows: Sequence[dict]) -> str:
    def ratio(step: dict, key: str | None = None) -> str:
        of = step[key] if key else step
        return f"{of['measured'] / step['law']:.3f} ± {of['standard_error'] / step['law']:.3f}"

    parts = []
    for r in rows:
        ratios = "; ".join(
            f"{s['share']:g}: {ratio(s)} (to first order {ratio(s, 'linear')}, to second {ratio(s, 'quadratic')})"
            for s in r["steps"]
        )
        parts.append(f"{r['label']}, one g a {r['mode']}, at shares of the critical step of {ratios}.")
    return (
        f"What the law leaves out at K = 1: mean ‖A_{{E⊥}}‖² of {rows[0]['runs']} runs after {EPOCHS} steps over the "
        "law, a random walk on the same draws as control; in brackets the same for gradients expanded around A. "
        + " ".join(parts)
        + " "
        + _why(rows)
    )


def _why(rows: Sequence[dict]) -> str:
    """What becomes of the excess over the law as the step shrinks, and how much of it an expansion explains."""
    said = []
    for r in rows:
        shares = np.array([s["share"] for s in r["steps"]])
        excess = np.array([s["measured"] / s["law"] - 1 for s in r["steps"]])
        errors = np.array([s["standard_error"] / s["law"] for s in r["steps"]])
        if excess[0] <= AGREES * errors[0]:
            continue
        named = f"the excess of {excess[0]:.0%} (one g a {r['mode']})"
        if excess[-1] > excess[0] * shares[-1] / shares[0] + AGREES * errors[-1]:
            said.append(f"{named} does not vanish with the step")
            continue
        clear = excess > 2 * errors
        order = np.polyfit(np.log(shares[clear]), np.log(excess[clear]), 1)[0] if clear.sum() > 1 else float("nan")
        first, last = r["steps"][0], r["steps"][-1]
        left = {k: [s["left"][k]["measured"] / s["law"] for s in (first, last)] for k in first["left"]}
        said.append(
            f"{named} falls like τ^{order:.1f}, to {excess[-1]:.1%}. Of the drift, gradients of every draw expanded "
            + " and ".join(
                f"to {name} order leave {left[k][0]:+.1%} at the longest step, {left[k][1]:+.1%} at the shortest"
                for k, name in (("linear", "first"), ("quadratic", "second"))
            )
        )
    return f"So {'; '.join(said)}." if said else "No excess is seen."


def _said_of_lowest(rows: Sequence[dict]) -> str:
    parts = []
    for mode in MODES:
        chosen = sorted((r for r in rows if r["mode"] == mode), key=lambda r: r["elements"])
        limit = chosen[0]["law"]
        below = sum(r["measured"] <= limit + 3 * r["standard_error"] for r in chosen)
        gaps = {r["elements"]: limit - r["measured"] for r in chosen}
        tail = [r for r in chosen if r["elements"] >= 64]
        rate = float(
            np.polyfit(np.log([r["elements"] for r in tail]), np.log([gaps[r["elements"]] for r in tail]), 1)[0]
        )
        rises = sum(b["measured"] >= a["measured"] for a, b in zip(chosen[:-1], chosen[1:], strict=True))
        parts.append(
            f"one g a {mode}: {chosen[0]['measured']:.4g} at K = {chosen[0]['elements']}, "
            f"{chosen[-1]['measured']:.4g} at K = {chosen[-1]['elements']:,}, below the limit at {below} of "
            f"{len(chosen)} K, rising in {rises} of {len(chosen) - 1} steps; the gap falls like K^{rate:.2f} from K "
            f"= {tail[0]['elements']}"
        )
    return (
        f"λ_min on E⊥ for {rows[0]['label']}, limit {rows[0]['law']:.4g} with an eigenspace of "
        f"{rows[0]['multiplicity']} dimensions: " + "; ".join(parts) + "."
    )


def tables(rows: Sequence[dict]) -> list[dict]:
    """Distances, drift, λ_min."""
    header = ["point", "one g a", "K", "measured", "standard error", "law", "off by, in standard errors"]
    titles = {
        "gradient": f"‖∇R_K − ∇R^aug‖², means of {DRAWS['gradient']} gradients of the training core",
        "hessian": f"‖∇²R_K − ∇²R^aug‖_F², means of {DRAWS['hessian']} draws",
        "drift": f"‖A_{{E⊥}}‖² after {EPOCHS} steps, means of {DRAWS['drift']} runs",
    }
    found = []
    for part, title in titles.items():
        listed = [
            [r["label"], r["mode"], r["elements"], r["measured"], r["standard_error"], r["law"], errors_off(r)]
            for r in rows
            if r["part"] == part
        ]
        found.append(table(title, header, listed))
    least = [
        [
            r["label"],
            r["mode"],
            r["elements"],
            r["measured"],
            r["standard_error"],
            r["least"],
            r["most"],
            r["bound"],
            r["law"],
        ]
        for r in rows
        if r["part"] == "lowest"
    ]
    header = ["point", "one g a", "share of the critical step", "measured / law", "standard error", "to first order"]
    header += ["standard error", "to second order", "standard error"]
    feedback = [
        [r["label"], r["mode"], s["share"]]
        + [of[k] / s["law"] for of in (s, s["linear"], s["quadratic"]) for k in ("measured", "standard_error")]
        for r in rows
        if r["part"] == "feedback"
        for s in r["steps"]
    ]
    found.append(table(f"Drift over its law at K = 1, means of {FEEDBACK_RUNS} runs", header, feedback))
    header = ["point", "one g a", "K", "mean", "standard error", "least", "most", "upper bound", "limit"]
    return [*found, table(f"λ_min of ∇²R_K on E⊥, {DRAWS['lowest']} draws", header, least)]
