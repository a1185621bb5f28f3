"""Analysis → plain words: the setting, the headline, why it holds, what to do about it."""

from __future__ import annotations

import math
from typing import Any

from stability.effects.hidden import reason
from stability.eigen.spectrum import Eigenvalue, Spectrum
from stability.points.describe import PointReport
from stability.report import symmetry
from stability.results import Analysis, Escape

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
        rows.append((f"How good{', projected' if p.given else ''}", scores(p.metrics) or "no score is defined"))
        rows += [("How good, as given", scores(p.given.metrics))] if p.given and scores(p.given.metrics) else []
    return rows


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
    modulo = " modulo the flat directions listed" if flat(analysis, ("E",)) else ""
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


MEANINGS = (
    "Stable: every eigenvalue lies above zero by more than its error. Unstable: one lies below by more than its error. "
    "Degenerate: zero modes beyond those known in advance. Not stationary: the gradient of that risk does not vanish. "
    "Undecided: anything else. Margin: how far the deciding number is from zero, or the gradient norm."
)


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


def function_after(e: Escape) -> str:
    """Whether the function is equivariant where the instability ends, and why it is although its weights left E."""
    if e.equivariant is None or e.back:
        return "the weights return to E" if e.back else ""
    error = f"equivariance error {number(e.equivariance_error, 2)}"
    if not e.equivariant:
        return f"the function there is not equivariant ({error})"
    text, why = f"the function there is still equivariant ({error})", reason(e.hidden, e.share or 0.0)
    return f"{text}: {why}" if why else text


def flat(analysis: Analysis, spaces: tuple[str, ...]) -> bool:
    """Whether known directions of eigenvalue zero lie there; with decay their eigenvalue is μ, which is strict."""
    return analysis.weight_decay == 0 and any(f.space in spaces for f in analysis.flat_directions)


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
