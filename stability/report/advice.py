"""Analysis → what to do, in a user's units: what leaving E is worth, what holds it, how fast and how far it goes."""

from __future__ import annotations

import math

from stability.eigen.spectrum import Spectrum
from stability.report.words import GIVEN, flat, function_after, number, part, stationary
from stability.results import Analysis, Escape, Verdicts

# Of the weights: what float32 rounds, and a deviation that is seen.
FLOAT32, VISIBLE = 2.0**-24, 1e-2
# Of R^aug: a fall by less is no gain where no test score is known.
NIL = 1e-3
# How an item begins that says that there is no gain: reports show it loudly.
NOTHING = "nothing measurable"


def what_to_do(analysis: Analysis) -> list[tuple[str, str]]:
    """(what, sentence): what holds the point, how fast it falls, how large a step may be, where it leads."""
    v = analysis.verdict
    if v is None:
        return []
    items: list[tuple[str, str]] = []
    at_rest, across, perp = stationary(analysis), v.transverse.status, part(analysis, "aug", "E_perp")
    if {across} | ({v.eqv.status, v.aug.status} if at_rest else set()) == {"stable"}:
        modulo = ", modulo the flat directions listed" if flat(analysis, ("E", "E_perp")) else ""
        kept = "the point" if at_rest else "E"
        items.append(("Nothing is needed", f"augmented training keeps {kept}{modulo}; no penalty has to hold it."))
    if analysis.escape:
        items.append(("What is gained by leaving E", f"{gain(analysis.escape)}."))
    if across == "unstable":
        items.append(("What holds it", _penalty(analysis, v)))
        items += [("How fast it falls", _growth(v, v.growth_rate))] if v.growth_rate else []
    elif across == "degenerate":
        text = "any γ > 0 in γ/2 ‖A_{E⊥}‖² makes E strictly attracting; without it terms of higher order decide."
        items.append(("What holds it", text))
    elif across == "undecided" and perp and perp.lower_bound is not None:
        items.append(("What holds it", f"γ/2 ‖A_{{E⊥}}‖² with {_enough(perp, perp.lower_bound)}."))
    if at_rest and v.aug.status == "unstable" and across != "unstable":
        text = "the descent lies inside E: equivariant training follows it too, and no penalty on E⊥ prevents it."
        items.append(("Leave the point", text))
    if at_rest and "degenerate" in (v.eqv.status, v.aug.status):
        text = "terms of higher order decide along the zero modes; --weight-decay lifts them but moves the point."
        items.append(("What would decide it", text))
    undecided = {w.evidence for w in (v.eqv, v.aug, v.transverse) if w.status == "undecided"}
    items += [("What would decide it", f"{evidence}.") for evidence in sorted(undecided)]
    if analysis.point and analysis.point.given:
        items.append(
            (
                "To judge the weights given",
                "load stability.project(problem, weights), the network that is judged here, and train on from it; "
                "stability.diagnose(problem, weights) shows both, and how fast training moves yours.",
            )
        )
    if not at_rest and analysis.point and analysis.point.kind in GIVEN:
        items.append(("To judge a point", "--at point searches a stationary one, where every verdict has a meaning."))
    steps = {"E": v.critical_step.get("E"), "E⊥": v.critical_step.get("E_perp")}
    known = {name: step for name, step in steps.items() if step}
    if known:
        limits = " and ".join(f"{number(step)} on {name}" for name, step in known.items())
        first = f"; {min(known, key=lambda name: known[name])} gives way first" if len(known) == 2 else ""
        text = f"gradient descent with a fixed step overshoots above 2/λ_max, which is {limits}{first}."
        items.append(("How large a step may be", text))
    if analysis.escape:
        items.append(("Where the instability leads", escape(analysis.escape)))
    return items


def _tested(e: Escape) -> tuple[float, float, float | None] | None:
    """Test accuracy before and after, and the standard error of their difference; None where none is known."""
    test = next(((a, b) for which, a, b in scored(e) if which == "test"), None)
    if test is None or e.metrics_start.get("name") != "accuracy":
        return None
    before, after = test
    n = e.metrics_start.get("test_samples")
    # As if the two were independent; they see the same samples, so the error of their difference is less.
    return before, after, math.sqrt((before * (1 - before) + after * (1 - after)) / n) if n else None


def compared(e: Escape) -> str:
    """Whether leaving E changed the test accuracy by more than its standard error; empty where none is known."""
    tested = _tested(e)
    if tested is None:
        return ""
    before, after, error = tested
    change = f"test accuracy went from {number(before)} to {number(after)}"
    if error is None:
        return f"{change}; its standard error is not known, so that is not judged"
    n = e.metrics_start["test_samples"]
    change += f", by {number(after - before)} with a standard error of {number(error, 2)} on {n:,} samples"
    if abs(after - before) <= 2 * error:
        return f"{change}: no difference beyond two standard errors"
    return f"{change}: there leaving E {'helped' if after > before else 'hurt'}"


def worthless(e: Escape) -> bool:
    """Whether following the instability gains nothing that can be told: of test accuracy, or else of R^aug."""
    tested = _tested(e)
    if tested is not None and tested[2] is not None:
        return tested[1] - tested[0] <= 2 * tested[2]
    return e.risk_start - e.risk_end <= NIL * abs(e.risk_start)


def gain(e: Escape) -> str:
    """What following the instability to its end is worth."""
    fall = e.risk_start - e.risk_end
    share = f"R^aug falls by {number(fall)}, {number(100 * fall / abs(e.risk_start), 2)} %" if e.risk_start else ""
    told = "; ".join(text for text in (compared(e), share if fall > 0 else "R^aug does not fall") if text)
    return f"{NOTHING}: {told}" if worthless(e) else told


def scored(e: Escape) -> list[tuple[str, float, float]]:
    """(data, before, after) of the score, on the data where both are known."""
    name = e.metrics_start.get("name")
    pairs = [(w, e.metrics_start.get(w), e.metrics_end.get(w)) for w in ("train", "test")]
    return [(w, a, b) for w, a, b in pairs if name and a is not None and b is not None]


def _enough(perp: Spectrum, bound: float) -> str:
    odds = f" with probability {1 - perp.failure_probability:.6f}" if perp.failure_probability else ""
    return f"γ above {number(max(0.0, -bound))} is enough{odds}"


def _penalty(analysis: Analysis, v: Verdicts) -> str:
    perp = part(analysis, "aug", "E_perp")
    text = f"add γ/2 ‖A_{{E⊥}}‖² to the risk with γ above γ* = {number(v.critical_penalty)}"
    if perp and not perp.complete:
        text += ", or more: γ* is known from below only"
        text += f"; {_enough(perp, perp.lower_bound)}" if perp.lower_bound is not None else ""
    if stationary(analysis) and v.eqv.status != "stable":
        text += ". That holds E, inside which the point is not known to be a minimum"
    return text + "."


def _growth(v: Verdicts, rate: float) -> str:
    text = f"a deviation from E grows e-fold within 1/{number(rate)} = {number(1 / rate)} of learning rate × steps"
    known = [step for step in v.critical_step.values() if step]
    if known:
        step, folds = min(known), math.log(VISIBLE / FLOAT32)
        text += f". With plain SGD at a learning rate of {number(step)}, the largest that does not overshoot, that is "
        text += f"{math.ceil(1 / (rate * step)):,} steps, and rounding in float32 reaches "
        text += f"{100 * VISIBLE:g} % of the weights after {math.ceil(folds / math.log1p(rate * step)):,}"
    return (
        f"{text}. Drawn elements begin further out: stability.prescribe(problem, point, optimiser) says how many a "
        "step, which penalty, batch or step keeps the weights within a bound, for your optimiser."
    )


def escape(e: Escape) -> str:
    """Risk and scores before and after the instability was followed."""
    moved = number(e.risk_end - e.risk_start)
    changes = [f"R^aug {number(e.risk_start)} → {number(e.risk_end)} (changed by {moved})"]
    for which in ("train", "test"):
        before, after = e.metrics_start.get(which), e.metrics_end.get(which)
        if None not in (before, after, name := e.metrics_start.get("name")):
            changes.append(f"{which} {name} {number(before)} → {number(after)}")
    return (
        f"after a push of {number(e.push)} along the steepest direction and {e.iterations} L-BFGS iterations on "
        f"R^aug: {', '.join(changes)}. {_ending(e)}"
    )


def _ending(e: Escape) -> str:
    text = f"The end lies {number(e.off_equivariance)} away from E"
    return f"{text}; {function_after(e)}." if e.equivariant is not None else f"{text}."
