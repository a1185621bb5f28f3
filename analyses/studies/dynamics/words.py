"""What the rows say, one paragraph for each part."""

from __future__ import annotations

from collections.abc import Sequence

from analyses.lab.publish import Section
from analyses.studies.dynamics.ends import SETTLED
from analyses.studies.dynamics.picture import picked
from analyses.studies.dynamics.places import WAYS


def section(rows: Sequence[dict]) -> Section:
    """Words from the rows, one paragraph for each part."""
    said, means = [], []
    for part, speak in (
        ("flow", _said_of_flows),
        ("mode", _said_of_modes),
        ("end", _said_of_ends),
        ("discrete", _said_of_steps),
        ("descent", _said_of_descents),
    ):
        if chosen := picked(rows, part):
            words, meaning = speak(chosen)
            said.append(words)
            means.append(meaning)
    flows = picked(rows, "flow")
    finding = ""
    if flows:
        worst = max(r["relative_error"] for r in flows)
        finding = (
            f"Measured rates of leaving E and of returning to it differ from the eigenvalue on E⊥ by {worst:.1%} at "
            f"most, for {sum(r['eigenvalue'] < 0 for r in flows)} growing and "
            f"{sum(r['eigenvalue'] > 0 for r in flows)} decaying modes."
        )
    return Section(
        title="Leaving E",
        expected="Near a stationary point of E a deviation y in E⊥ obeys ẏ = −∇²R^aug y: a mode grows or decays like "
        "e^{−λt}, whatever happens inside E. Descent with step τ multiplies it by 1 − τλ, so it also leaves E for "
        "τ > 2/λ_max(E⊥). In exact arithmetic the flow keeps the symmetry of the push; rounding breaks what is "
        "unstable within it.",
        measured="\n\n".join(said),
        means="\n\n".join(m for m in means if m),
        finding=finding,
    )


def _said_of_flows(flows: Sequence[dict]) -> tuple[str, str]:
    worst = max(flows, key=lambda r: r["relative_error"])
    listed = "; ".join(
        f"{r['label']} ({r['irrep']}), push {r['push']:g}: −λ = {-r['eigenvalue']:.4g}, rate {r['rate_measured']:.4g}"
        for r in flows
    )
    said = (
        f"Flow. Rates of log ‖A_{{E⊥}}‖ over {min(r['folds_fitted'] for r in flows):.2g} factors e: {listed}. The "
        f"largest relative error is {worst['relative_error']:.1e}."
    )
    if stopped := [r for r in flows if r["stops_at"] is not None]:
        where = ", ".join(f"{r['stops_at']:.2g} ({r['label']}, push {r['push']:g})" for r in stopped)
        said += f" The prediction is off by a tenth where ‖A_{{E⊥}}‖/‖A‖ is {where}."
    if all(r["relative_error"] <= 0.05 for r in flows):
        return said, (
            "The eigenvalue on E⊥ is the rate at which augmented training leaves E or returns to it, until the "
            "deviation is a visible share of the weights."
        )
    return said, "Some rates are more than 5 % off the eigenvalue: the linear prediction does not hold there."


def _said_of_modes(modes: Sequence[dict]) -> tuple[str, str]:
    said = []
    for r in modes:
        units = ", ".join(f"{a} of {b}" for a, b in r["distinct_units"]) or "none"
        named = ", ".join(r["shared_by"]) if len(r["shared_by"]) <= 4 else f"{', '.join(r['shared_by'][:3])}, …"
        said.append(
            f"{r['label']}: λ_min = {r['eigenvalue']:.4g} occurs in {len(r['shared_by'])} of {r['sectors']} sectors "
            f"({named}); its mode changes predictions to first order by {r['first_order']:.1e}, a "
            f"random direction of E⊥ by {r['first_order_random']:.1e}; different hidden units by layer: {units}."
        )
    silent = [r for r in modes if r["first_order"] <= 1e-6 * r["first_order_random"]]
    if not silent:
        return "Leading mode. " + " ".join(said), ""
    alike = [r for r in silent if any(a < b for a, b in r["distinct_units"])]
    return "Leading mode. " + " ".join(said), (
        f"At {len(silent)} of {len(modes)} points the leading mode changes no prediction to first order, and "
        f"{len(alike)} of these points have hidden units that compute the same number on all data: E keeps them "
        "alike, augmented training may move them apart with a sum of zero, and only curvature of σ and products of "
        "layers decides whether that lowers the risk. Where several sectors share the eigenvalue, no single irrep "
        "leads, and rounding picks the one that is named."
    )


def _said_of_ends(ends: Sequence[dict]) -> tuple[str, str]:
    said = []
    for r in ends:
        kept, accuracy, low = r["symmetry_of_end"], r["accuracy_end"], r["lowest"][0]
        scores = ", ".join(
            f"{k} {r['accuracy_start'][k]:.3g} → {accuracy[k]:.3g}" for k in ("train", "test") if k in accuracy
        )
        said.append(
            f"{r['label']}, {r['way']} of {r['irrep']}: R^aug {r['risk_start']:.5g} → {r['risk_end']:.5g}"
            + (f", accuracy {scores}" if scores else "")
            + f"; ‖∇R^aug‖ = {r['gradient_norm']:.1e} after {r['iterations']} iterations, lowest eigenvalue "
            f"{low['value']:.2e} (residual {low['residual']:.0e}, {r['method']}"
            + (f", {r['negative']} negative" if r["negative"] is not None else "")
            + f"); {kept['fixes_A']} of {kept['order_of_group']} elements fix A and {kept['fixes_function']} fix Φ, "
            f"{r['symmetry_of_push']['fixes_A']} fixed the push."
        )
    fell = sum(r["risk_end"] < r["risk_start"] for r in ends)
    broken = sum(r["symmetry_of_end"]["fixes_function"] < r["symmetry_of_end"]["order_of_group"] for r in ends)
    arrived = [r for r in ends if r["gradient_norm"] <= SETTLED]
    minima = sum(r["negative"] == 0 for r in arrived)
    saddles = sum(bool(r["negative"]) for r in arrived)
    means = (
        f"Of {len(ends)} ends {fell} have a lower R^aug than the equivariant point and {broken} are no longer "
        f"equivariant as functions. {len(arrived)} have arrived (‖∇R^aug‖ ≤ {SETTLED:g}): {minima} are minima, with no "
        f"negative eigenvalue in the whole spectrum, {saddles} are saddles; {len(ends) - len(arrived)} had not arrived "
        "when L-BFGS stopped."
    )
    within = [r for r in arrived if r["way"] == WAYS[2] and r["symmetry_of_end"]["fixes_A"] > 1]
    if within:
        means += " Among the weights that the push's stabiliser fixes, " + "; ".join(
            f"{r['label']} ends at {r['risk_end']:.5g} with {r['symmetry_of_end']['fixes_A']} elements left and "
            + ("no negative eigenvalue" if r["negative"] == 0 else f"{r['negative']} negative eigenvalues")
            for r in within
        )
        means += (
            ": a partly symmetric point that is stable."
            if all(r["negative"] == 0 for r in within)
            else ": symmetry breaks in stages, and rounding takes the later ones."
        )
    return "Ends. " + " ".join(said), means


def _said_of_steps(jumps: Sequence[dict]) -> tuple[str, str]:
    worst = max(jumps, key=lambda r: abs(r["factor_measured"] - r["factor_predicted"]))
    between = [r for r in jumps if r["where"] == "between"]
    listed = "; ".join(
        f"{r['label']}, {'E' if r['space'] == 'E' else 'E⊥'} at step {r['step']:.3g}: {r['factor_measured']:.3g} "
        f"(predicted {r['factor_predicted']:.3g})"
        for r in between
    )
    said = (
        f"Long steps. Factor a step between the two critical steps: {listed}. Over all steps the largest difference "
        f"between factors is {abs(worst['factor_measured'] - worst['factor_predicted']):.1e}."
    )
    first = sorted({r["label"] for r in between if r["space"] == "E_perp" and abs(r["factor_measured"]) > 1})
    if not first:
        return said, ""
    return said, (
        f"For {' and '.join(first)} a step that is safe inside E throws augmented descent out of E "
        "along the top mode, which the flow damps: λ_max on E⊥ is the larger one."
    )


def _said_of_descents(races: Sequence[dict]) -> tuple[str, str]:
    parts, thrown = [], []
    for r in races:
        off = r["off_equivariance"]
        text = (
            f"{r['label']}, {r['strategy']} with step {r['step']:.3g}: ‖A_{{E⊥}}‖/‖A‖ from {off[0]:.0e} to "
            f"{off[-1]:.1e} in {len(off) - 1} steps, distance to the stationary point from {r['from_point'][0]:.0e} "
            f"to {r['from_point'][-1]:.1e} of ‖A‖, R^aug {r['risk_start']:.4g} at the point and {r['risk_end']:.4g} "
            "at the end"
        )
        if r["factor_measured"] is not None:
            text += f"; factor a step {r['factor_measured']:.4g}, predicted {r['factor_predicted']:.4g}"
            thrown.append(r)
        parts.append(text)
    means = ""
    if thrown:
        means = (
            f"For {' and '.join(r['label'] for r in thrown)} EQUI and exact AUG follow the same gradient from the "
            "same point of E, and only AUG is thrown out, by rounding alone: Corollary 1 speaks of the flow, and "
            "discretisation breaks it where τ > 2/λ_max(E⊥)."
        )
    return "Descent between the critical steps. " + "; ".join(parts) + ".", means
