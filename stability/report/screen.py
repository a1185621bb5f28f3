"""The first screen of a report: what must be known first, and the numbers that answer the question, as cards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stability.eigen.spectrum import Spectrum
from stability.points.describe import ON_E, PointReport
from stability.report import symmetry
from stability.report.words import GIVEN, below_zero, eigenvalue, function_after, number, part, plain, shared, sign
from stability.results import Analysis


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
    return found + ([_score(analysis.point)] if analysis.point and _scored(analysis.point.metrics) else [])


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


def _score(p: PointReport) -> Card:
    """The score on test data, or on training data where there are none, beside the constant's and that as given."""
    metrics = p.metrics
    which = "test" if metrics.get("test") is not None else "train"
    rest = [
        f"{number(metrics[k])} {text}"
        for k, text in (("train", "on training data"), ("constant", "for a constant"))
        if k != which and metrics.get(k) is not None
    ]
    label, score = f"{metrics['name'].capitalize()} on {which} data", number(metrics[which])
    if p.given is None or p.given.metrics.get(which) is None:
        return Card(label, score, ", ".join(rest))
    beside = f"{number(p.given.metrics[which])} → {score}"
    return Card(f"{label}: as given → projected onto E", beside, ", ".join(rest))


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
    if p and p.given:
        found.append(
            f"The weights given are {number(p.distance_to_E)} away from E, {number(100 * p.given.share, 2)} % of their "
            f"norm; what is judged is their projection onto E, another network: {_both(p)}."
        )
    elif p and p.distance_to_E > ON_E:
        found.append(f"The weights given were {number(p.distance_to_E)} away from E and were projected onto it.")
    loss, constant = (p.metrics.get(k) if p else None for k in ("loss_train", "loss_constant"))
    if loss is not None and constant is not None and loss >= constant * (1 - 1e-9):
        found.append("On its training data the network is no better than the constant predictor.")
    return found


def sides(p: PointReport) -> list[tuple[str, str, str]]:
    """(what, of the weights given, of their projection onto E) of all that is known of both; [] for weights on E."""
    if p.given is None:
        return []
    rows = [(f"{p.metrics.get('name')} on {data} data", key) for key, data in (("train", "training"), ("test", "test"))]
    found = [(label, p.given.metrics.get(key), p.metrics.get(key)) for label, key in rows if p.metrics.get("name")]
    errors = ("equivariance error", p.given.equivariance_error, p.equivariance_error)
    both = [(label, number(a), number(b)) for label, a, b in found if a is not None and b is not None]
    share = ("share of the weights off E", f"{number(100 * p.given.share, 2)} %", "0 %")
    known = errors[1] is not None and errors[2] is not None
    return [*both, share, *([(errors[0], number(errors[1], 2), number(errors[2], 2))] if known else [])]


def _both(p: PointReport) -> str:
    return "; ".join(f"{label} {given} as given, {projected} projected" for label, given, projected in sides(p))
