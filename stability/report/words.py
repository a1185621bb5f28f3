"""Analysis → plain words: the setting, the headline, why it holds, what to do about it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from stability.effects.hidden import reason
from stability.eigen.spectrum import Eigenvalue, Spectrum
from stability.points.describe import PointReport
from stability.report import symmetry
from stability.results import Analysis, Escape, Verdicts

SPACES = {"E": "E", "E_perp": "E⊥", "L": "L"}
GIVEN = ("init", "trained", "file")
NAMES = {"init": "random start", "trained": "after equivariant training", "file": "stored point"}


def number(x: float | None, digits: int = 3) -> str:
    """``digits`` significant digits, written out from 0.01 to 99999 and as 1.23e-4 beyond; a dash for none.

    >>> number(-7.5768e-3), number(0.8275), number(None), number(0.0), number(2e-13, 2)
    ('-7.58e-3', '0.828', '–', '0', '2.0e-13')
    """
    if x is None or not math.isfinite(x):
        return "–"
    if x == 0 or isinstance(x, int):
        return f"{x:,.0f}"
    mantissa, power = f"{x:.{digits - 1}e}".split("e")
    if -2 <= int(power) < 5:
        return f"{x:,.{max(digits - 1 - int(power), 0)}f}"
    return f"{mantissa}e{int(power)}"


# What is stored under a short key, in the words of a report.
KEYS = {
    "leaves": "symmetry kept",
    "average": "group average",
    "density E": "spectral density on E",
    "density E_perp": "spectral density on E⊥",
    "landscape": "risks around the point",
}


def named(key: str) -> str:
    """What a report calls a stored key."""
    return KEYS.get(key, key)


def eigenvalue(of: Eigenvalue | float, digits: int = 3, full: bool = False) -> str:
    """An eigenvalue wherever one is written; in ``full`` with its residual, its multiplicity and its irrep.

    >>> eigenvalue(-7.5768e-3), eigenvalue(Eigenvalue(-7.5768e-3, 1e-13, 2, "q=1"), 4, full=True)
    ('-7.58e-3', '-7.577e-3 ± 1.0e-13 ×2 [q=1]')
    """
    if not isinstance(of, Eigenvalue):
        return number(of, digits)
    text = number(of.value, digits)
    if full:
        text += f" ± {number(of.residual, 2)}"
        text += "" if of.multiplicity is None else f" ×{of.multiplicity:,}"
        text += f" [{of.irrep}]" if of.irrep else ""
    return text


def sign(value: float, error: float = 0.0) -> str:
    """``negative``, ``zero`` or ``positive``: on which side of its error a value lies."""
    return "negative" if value < -error else "positive" if value > error else "zero"


def part(analysis: Analysis, risk: str, where: str) -> Spectrum | None:
    """A spectrum with at least one eigenvalue; None when it was not computed or its space is {0}."""
    spectrum = (analysis.spectra or {}).get(risk, {}).get(where)
    return spectrum if spectrum and spectrum.lowest else None


def error_of(analysis: Analysis, e: Eigenvalue, where: str) -> float:
    """What λ_min at any point may be off by: its residual, or the whole error at the point judged where that is larger.

    At the other points only residuals are kept.
    """
    judged = part(analysis, "aug", where)
    return max(e.residual, judged.error if judged else 0.0)


def below_zero(spectrum: Spectrum) -> str:
    """``30 below zero``."""
    count = spectrum.negative_count
    return "count below zero unknown" if count is None else f"{f'{count:,}' if count else 'none'} below zero"


def plain(status: str) -> str:
    """``not stationary`` for ``not_stationary``."""
    return status.replace("_", " ")


def kind(p: PointReport) -> str:
    """What a point is: by its index where the search arrived, by where it came from where it was given."""
    if p.kind in NAMES or p.converged:
        return NAMES.get(p.kind, p.kind)
    return "where the search stopped"


def stationary(analysis: Analysis) -> bool:
    """Whether the point itself is judged, and not E at that point alone."""
    v = analysis.verdict
    return v is not None and "not_stationary" not in (v.eqv.status, v.aug.status)


def tone(analysis: Analysis) -> str:
    """The status that the headline is about."""
    v = analysis.verdict
    return "" if v is None else v.aug.status if stationary(analysis) else v.transverse.status


def group(analysis: Analysis) -> str:
    """``Z_5² (25 elements)``."""
    order = analysis.group.get("order")
    return f"{analysis.group['name']} ({'infinite' if order is None else f'{order:,} elements'})"


def scores(metrics: dict[str, Any]) -> str:
    """``accuracy 0.828 train, 0.619 test, 0.118 constant predictor; loss 0.590 train, …``, as far as known."""
    texts = []
    for name, prefix in {metrics.get("name"): "", "loss": "loss_"}.items():
        known = {"train": "train", "test": "test", "constant": "constant predictor"}
        cells = [f"{number(x)} {of}" for which, of in known.items() if (x := metrics.get(prefix + which)) is not None]
        texts += [f"{name} {', '.join(cells)}"] if name and cells else []
    return "; ".join(texts)


def subtitle(analysis: Analysis) -> str:
    """Group, size, data and point on one line, for the first screen."""
    a, p = analysis, analysis.point
    texts = [group(a), f"{a.dims['L']:,} weights, {a.dims['E']:,} of them on E", f"{a.samples:,} samples"]
    if p:
        texts.append(f"point: {kind(p)}, gradient on E {number(p.grad_norm.get('eqv'), 2)}")
    return " · ".join(texts)


def setting(analysis: Analysis) -> list[tuple[str, str]]:
    """Which group, which network on which data, at which point, how good."""
    a, p = analysis, analysis.point
    dims = f"{a.dims['L']:,} weights, dim E = {a.dims['E']:,}, dim E⊥ = {a.dims['E_perp']:,}"
    rows = [("Group", f"{group(a)}; {dims}")]
    rows += [("Network", a.facts["network"])] if "network" in a.facts else []
    rows.append(("Data", f"{a.facts.get('data', a.task)}; {a.samples:,} samples to train on"))
    if p:
        found = f" found from start {p.start}" if p.start is not None and p.kind not in GIVEN else ""
        norm = f"gradient norm on E {number(p.grad_norm.get('eqv'), 2)} (tolerance {number(p.tolerance, 2)})"
        what = kind(p) + found if p.converged or not found else f"where the search{found.replace(' found', '')} stopped"
        rows.append(("Point", f"{what}; R^aug = {number(p.risk.get('aug'), 4)}, {norm}"))
        rows.append(("How good", scores(p.metrics) or "no score is defined for this task"))
    return rows


@dataclass(frozen=True)
class Card:
    """One number of the first screen with what it means; ``tone`` colours it by sign.

    Attributes:
        label: what the number is.
        value: the number.
        note: what it means.
        tone: the name of its colour; empty for none.
    """

    label: str
    value: str
    note: str
    tone: str = ""


def cards(analysis: Analysis) -> list[Card]:
    """The numbers that answer the question: λ_min on E and on E⊥, what breaks, how good the network is."""
    v = analysis.verdict
    if v is None:
        return []
    found = []
    for where, label, status, what in (
        ("E", "λ_min on E, the equivariant directions", v.eqv.status, "equivariant training"),
        ("E_perp", "λ_min on E⊥, the directions that break the symmetry", v.transverse.status, "augmented training"),
    ):
        s = part(analysis, "aug", where)
        if s is None:
            continue
        low = s.lowest[0]
        # A Krylov run proves a negative eigenvalue, but never that there is none.
        side = sign(low.value, s.error)
        proved = side if side == "negative" or (side == "positive" and s.complete) else ""
        many = f", {below_zero(s)}" if s.negative_count is not None else ""
        note = f"{what}: {plain(status)}{many}; residual {number(low.residual, 1)}"
        found.append(Card(label, eigenvalue(low), note, proved))
    perp = part(analysis, "aug", "E_perp")
    if perp and perp.lowest[0].irrep:
        found.append(_symmetry(analysis, perp, perp.lowest[0].irrep))
    if (e := analysis.escape) and e.equivariant is not None:
        share = "0 %" if e.back else f"{number(100 * (e.share or 0.0), 2)} %"
        found.append(Card("Weights off E where the instability ends", share, function_after(e)))
    return found + ([_score(analysis.point.metrics)] if analysis.point and _scored(analysis.point.metrics) else [])


def _symmetry(analysis: Analysis, perp: Spectrum, irrep: str) -> Card:
    """The irrep of the lowest eigenvalue on E⊥, and what is kept where it breaks."""
    unstable = perp.lowest[0].value < -perp.error
    text = "breaks first" if unstable else "is the softest"
    left, wave = symmetry.kept(analysis), symmetry.pattern(analysis, irrep)
    note = f"{wave}; it keeps {left}" if unstable and left else f"{wave}; it has the lowest eigenvalue on E⊥"
    also = shared(perp)
    note += f"; {also}" if also else ""
    return Card(f"The symmetry that {text}", irrep, note)


def _scored(metrics: dict[str, Any]) -> bool:
    return bool(metrics.get("name")) and metrics.get("train") is not None


def _score(metrics: dict[str, Any]) -> Card:
    """The score on test data, or on training data where there are none, beside the constant's."""
    which = "test" if metrics.get("test") is not None else "train"
    rest = [
        f"{number(metrics[k])} {text}"
        for k, text in (("train", "on training data"), ("constant", "for a constant"))
        if k != which and metrics.get(k) is not None
    ]
    return Card(f"{metrics['name'].capitalize()} on {which} data", number(metrics[which]), ", ".join(rest))


def alerts(analysis: Analysis) -> list[str]:
    """What must be known before anything else is read."""
    found, p = [], analysis.point
    if analysis.dims["E_perp"] == 0:
        found.append(
            f"E⊥ = {{0}}: the group, {analysis.group['name']}, leaves every weight unchanged, so there is no "
            "symmetry that training could break, and the verdict on E⊥ is stable because there is nothing to judge. "
            "Representations that move the inputs, outputs or hidden units of some layer make a question of it."
        )
    if not analysis.complete:
        found.append("Partial result: the run was interrupted; what it had not reached is missing below.")
    if p and not p.converged and p.kind in GIVEN:
        found.append(f"The point was taken as given ({p.kind}); as it is not stationary, only E is judged at it.")
    elif p and not p.converged:
        found.append(
            f"No point reached the tolerance: the gradient norm on E is {number(p.grad_norm.get('eqv'))}, above "
            f"{number(p.tolerance)}. What follows describes the point where the search stopped; more starts "
            "(--points) or a larger --weight-decay may give a stationary one."
        )
    if p and p.distance_to_E:
        found.append(f"The weights given were {number(p.distance_to_E)} away from E and were projected onto it.")
    loss, constant = (p.metrics.get(k) if p else None for k in ("loss_train", "loss_constant"))
    if loss is not None and constant is not None and loss >= constant * (1 - 1e-9):
        found.append("On its training data the network is no better than the constant predictor.")
    return found


def descent(analysis: Analysis) -> str:
    """How many directions descend and how steeply: out of E, or else inside it."""
    outward = analysis.verdict is not None and analysis.verdict.transverse.status == "unstable"
    spectrum, where = part(analysis, "aug", "E_perp" if outward else "E"), "out of E" if outward else "inside E"
    if spectrum is None:
        return f"at least one direction {where} descends"
    first, count = spectrum.lowest[0], spectrum.negative_count
    curvature = eigenvalue(first) + (f" (sector {first.irrep}{_left_over(analysis)})" if first.irrep else "")
    if count == 1:
        return f"one direction {where} descends, with curvature {curvature}"
    many = f"{count:,} directions {where} descend" if count else f"at least one direction {where} descends"
    return f"{many}, the steepest with curvature {curvature}"


def headline(analysis: Analysis) -> str:
    """The verdict as one sentence."""
    v = analysis.verdict
    if v is None:
        return "No verdict: the run ended before one was reached."
    if not stationary(analysis):
        tail = {
            "stable": "E is stable here: augmented training that strays from E falls back to it",
            "unstable": f"E is unstable here for augmented training: {descent(analysis)}",
            "degenerate": "across E it is degenerate: curvature alone does not say whether augmented training leaves E",
            "undecided": "whether augmented training leaves E here is undecided",
        }[v.transverse.status]
        return f"Not a stationary point, so E itself is judged: {tail}."
    modulo = " modulo the flat directions listed" if _flat(analysis, ("E",)) else ""
    first = {
        "stable": f"A strict minimum{modulo} among equivariant networks",
        "degenerate": "A degenerate point among equivariant networks (flat beyond what is known in advance)",
        "unstable": "An unstable point already among equivariant networks",
        "undecided": "Undecided whether a minimum among equivariant networks",
    }[v.eqv.status]
    second = {
        "stable": "stable for augmented training",
        "degenerate": "degenerate for augmented training: curvature vanishes along directions not known in advance",
        "unstable": f"unstable for augmented training: {descent(analysis)}",
        "undecided": "undecided for augmented training",
    }[v.aug.status]
    end = _followed(analysis.escape) if v.aug.status == "unstable" else ""
    return f"{first}, {'and' if v.eqv.status == v.aug.status else 'but'} {second}.{end}"


def why(analysis: Analysis) -> list[tuple[str, str, str, str]]:
    """(question, status, margin, evidence) of the four verdicts; the deciding one first."""
    v = analysis.verdict
    if v is None:
        return []
    rows = {
        "eqv": ("Equivariant training: R^eqv on E", v.eqv),
        "aug": ("Augmented training: R^aug on L", v.aug),
        "transverse": ("Does augmented training leave E: R^aug on E⊥", v.transverse),
        "nominal": ("No augmentation: R on L", v.nominal),
    }
    chosen = [rows[k] for k in (rows if stationary(analysis) else ("transverse", "eqv", "aug", "nominal"))]
    empty = "nothing to judge: the space is {0}"
    return [(question, plain(w.status), number(w.margin), w.evidence or empty) for question, w in chosen]


def advice(analysis: Analysis) -> list[tuple[str, str]]:
    """(what, sentence): what holds the point, how fast it falls, how large a step may be, where it leads."""
    v = analysis.verdict
    if v is None:
        return []
    items: list[tuple[str, str]] = []
    at_rest, across, perp = stationary(analysis), v.transverse.status, part(analysis, "aug", "E_perp")
    if {across} | ({v.eqv.status, v.aug.status} if at_rest else set()) == {"stable"}:
        modulo = ", modulo the flat directions listed" if _flat(analysis, ("E", "E_perp")) else ""
        kept = "the point" if at_rest else "E"
        items.append(("Nothing is needed", f"augmented training keeps {kept}{modulo}; no penalty has to hold it."))
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


def _flat(analysis: Analysis, spaces: tuple[str, ...]) -> bool:
    """Whether known directions of eigenvalue zero lie there; with decay their eigenvalue is μ, which is strict."""
    return analysis.weight_decay == 0 and any(f.space in spaces for f in analysis.flat_directions)


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
    text = f"a small deviation from E grows e-fold within 1/{number(rate)} = {number(1 / rate)} units of flow time"
    steps = [step for step in v.critical_step.values() if step]
    if steps:
        text += f" (step × steps): {math.ceil(1 / (rate * min(steps))):,} steps of the largest size before overshooting"
    return text + "."


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


def function_after(e: Escape) -> str:
    """Whether the function is equivariant where the instability ends, and why it is although its weights left E."""
    if e.equivariant is None or e.back:
        return "the weights return to E" if e.back else ""
    error = f"equivariance error {number(e.equivariance_error, 2)}"
    if not e.equivariant:
        return f"the function there is not equivariant ({error})"
    text, why = f"the function there is still equivariant ({error})", reason(e.hidden, e.share or 0.0)
    return f"{text}: {why}" if why else text


def _followed(e: Escape | None) -> str:
    """The end of the instability as a sentence of the headline."""
    if e is None or e.equivariant is None:
        return ""
    if e.back:
        return " Followed to its end, the weights return to E."
    function = "stays equivariant" if e.equivariant else "is no longer equivariant"
    return f" Followed to its end, the weights leave E{'; the' if e.equivariant else ' and the'} function {function}."


def _left_over(analysis: Analysis) -> str:
    """The symmetry that the steepest direction keeps."""
    text = symmetry.kept(analysis)
    return f"; it keeps {text}" if text else ""


def by_irrep(analysis: Analysis) -> str:
    """Which irreps are unstable, most negative first."""
    found = sorted((x for x in analysis.sectors if x.lowest), key=lambda x: x.lowest[0].value)
    below = [x for x in found if x.lowest[0].value < -x.error]
    if not below:
        first = found[0]
        zero = ", zero within its error" if sign(first.lowest[0].value, first.error) == "zero" else ""
        value = eigenvalue(first.lowest[0])
        return f"No eigenvalue below zero was found in any sector; the lowest is {value}{zero}, of {first.irrep}."
    named = ", ".join(f"{x.irrep} ({eigenvalue(x.lowest[0])})" for x in below[:6])
    more = f" and {len(below) - 6} more" if len(below) > 6 else ""
    return f"{len(below)} of {len(found)} sectors have negative eigenvalues: {named}{more}."


def tied(spectrum: Spectrum) -> tuple[tuple[str, ...], int | None]:
    """The irreps that share the lowest eigenvalue to within their errors, and the dimension of all of them."""
    low = spectrum.lowest[0]
    found = [e for e in spectrum.lowest if e.value - low.value <= max(e.residual + low.residual, spectrum.error)]
    names = tuple(dict.fromkeys(e.irrep for e in found if e.irrep))
    many = [e.multiplicity for e in found if e.multiplicity is not None]
    return names, sum(many) if len(many) == len(found) else None


def shared(spectrum: Spectrum) -> str:
    """``the lowest of q=1 and q=2 agree to within their errors``; empty where one irrep is lowest."""
    names, dim = tied(spectrum)
    if len(names) < 2:
        return ""
    of = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) <= 6 else f"{len(names)} irreps"
    total = "" if dim is None else f", {dim:,} dimensions in all"
    return f"the lowest of {of} agree to within their errors{total}"
