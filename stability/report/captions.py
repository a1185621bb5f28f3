"""Analysis → a title and a caption for every figure: what is seen, and what follows from it."""

from __future__ import annotations

import math

import numpy as np

from stability.report import words
from stability.report.words import number, part
from stability.results import Analysis

TITLES = {
    "spectrum": "The whole spectrum on E and on E⊥",
    "lowest": "The eigenvalues that decide",
    "sectors": "Which symmetry breaks",
    "frequencies": "Which pattern grows",
    "mode": "The lowest mode off E",
    "points": "The points found",
    "choices": "Which of them augmented training leaves",
    "density": "Spectral density",
    "slices": "The risks along the lowest modes",
    "plane": "The augmented risk around the point",
    "flow": "Augmented training after a small push",
    "steps": "Steps below and above the critical one",
    "kernel": "What happens to a kernel",
    "breaking": "What happens to predictions",
    "training": "Stability of E along equivariant training",
    "escape": "Where the instability leads",
}


def caption(analysis: Analysis, name: str) -> str:
    """What the figure shows and what follows, with the numbers of this run."""
    return {
        "spectrum": _spectrum,
        "lowest": _lowest,
        "sectors": _sectors,
        "frequencies": _frequencies,
        "mode": _mode,
        "points": _points,
        "choices": _choices,
        "density": _density,
        "slices": _slices,
        "plane": _plane,
        "flow": _flow,
        "steps": _steps,
        "kernel": _kernel,
        "breaking": _breaking,
        "training": _training,
        "escape": _escape,
    }[name](analysis)


def _sign(value: float, error: float = 0.0) -> str:
    return "negative" if value < -error else "positive" if value > error else "zero within its error"


def _spectrum(a: Analysis) -> str:
    e, perp = part(a, "aug", "E"), part(a, "aug", "E_perp")
    methods = [s for s in (e, perp) if s]
    seen = (
        "Every eigenvalue of ∇²R^aug in ascending order, drawn over as many ranks as it has multiplicity"
        if methods and all(s.complete for s in methods)
        else "Eigenvalues of ∇²R^aug in ascending order (where the method is Lanczos: Ritz values, whose "
        "multiplicity is not known)"
    )
    follows = (
        "What lies in the hatched region descends: on E that is a saddle of equivariant training, on E⊥ a way out "
    )
    follows += "of E that only augmented training can take."
    if a.weight_decay > 0:
        follows += " Directions in which the data term is flat have the weight decay as eigenvalue."
    return f"{seen}. {follows}"


def _lowest(a: Analysis) -> str:
    found = []
    for where in ("E", "E_perp"):
        s = part(a, "aug", where)
        if s:
            low = s.lowest[0]
            also = f" ({words.shared(s)})" if words.shared(s) else ""
            found.append(f"{number(low.value)} on {words.SPACES[where]}, {_sign(low.value, s.error)}{also}")
    return (
        "The lowest distinct eigenvalues of ∇²R^aug irrep by irrep, multiplicity within the irrep (×) above each; a "
        "true eigenvalue lies within each error bar, which is the residual. Each panel has a scale of "
        "its own. The sign of the first "
        f"decides: {' and '.join(found) or 'none is known'}."
    )


def _sectors(a: Analysis) -> str:
    return (
        "The lowest and highest eigenvalues of ∇²R^aug in every irreducible representation of the group, most "
        "negative first. An irrep below zero names a way to break the symmetry, irreps above zero are ways that "
        f"heal. {words.by_irrep(a)}"
    )


def _frequencies(a: Analysis) -> str:
    return (
        "The lowest eigenvalue for every frequency, that is for perturbations that change by this wave from one "
        f"position to the next; – marks a frequency whose pattern grows under augmented training. {words.by_irrep(a)}"
    )


def _mode(a: Analysis) -> str:
    return (
        "What the lowest mode on E⊥ adds to one channel's response before σ, for the channel and the training sample "
        "that it moves most: moving the weights by ε along the mode adds ε times these images (zero is the middle of "
        f"the scale of what is added). Partners have the same eigenvalue; the group turns them into each other. Here "
        f"{words.mode(a)}"
    )


def _points(a: Analysis) -> str:
    below = sum(p.converged for p in a.points)
    return (
        "Distinct points found on E, best first; the first, filled, is the one judged. Below the dashed line the "
        f"gradient is small enough to count as stationary: {below} of {len(a.points)}. Index: descending directions "
        "inside E."
    )


def _choices(a: Analysis) -> str:
    found = [p for p in a.points if p.lowest]
    left = [
        i for i, p in enumerate(found, 1) if min(e.value + e.residual for e in p.lowest if e.irrep != "trivial") < 0
    ]
    named = f"augmented training leaves E at {len(left)} of {len(found)}" if left else "E attracts at all of them"
    return (
        "The least eigenvalue of ∇²R^aug on E (circles) and on E⊥ (diamonds, with its irrep) at every point found, "
        "error bars the residuals. A diamond in the hatched region is a point that augmented training leaves: "
        f"{named}."
    )


def _density(a: Analysis) -> str:
    from stability.report.landscape import shares_of

    found = [s for where in ("E", "E_perp") if (s := shares_of(a, where))]
    estimated = [s for s in found if s.probes]
    method = "counted from the whole spectrum, so without error"
    if estimated:
        doubt = max(max(s.resolution) for s in estimated)
        method = (
            f"estimated ({'; '.join(dict.fromkeys(s.method for s in estimated))}), bars being standard errors; the "
            f"Krylov runs may put up to {number(doubt, 2)} on the wrong side of a bin's edge"
        )
    below = []
    for where, name in (("E", "E"), ("E_perp", "E⊥")):
        s = shares_of(a, where)
        if s:
            share = sum(x for x, right in zip(s.share, s.edges[1:], strict=True) if right <= 0)
            below.append(f"{number(100 * share)} % of the dimensions of {name}" if share else f"nothing on {name}")
    return (
        f"The share of the dimensions whose eigenvalue of ∇²R^aug lies in a bin, {method}. Below zero lies "
        f"{' and '.join(below)}. A peak at the weight decay holds the directions that the data do not see."
        if a.weight_decay
        else f"The share of the dimensions whose eigenvalue of ∇²R^aug lies in a bin, {method}. Below zero lies "
        f"{' and '.join(below)}."
    )


def _slices(a: Analysis) -> str:
    across = a.pictures.slices.get("E_perp")
    change = np.array(across.aug) - across.aug[len(across.aug) // 2]
    best = int(change.argmin())
    follows = (
        f"R^aug falls on the way out, by {number(-float(change[best]))} at t = {number(abs(across.at[best]))}"
        if change[best] < 0
        else "R^aug rises on both sides"
    )
    return (
        "R^aug, R and R^eqv minus their common value at the point, along the unit vector of the lowest mode off E "
        "and on E, with the quadratic prediction of R^aug from the eigenvalue. Off E, R^eqv is constant, for it sees "
        f"the projection onto E only: equivariant training cannot tell. {follows}. R need not be even: its slope "
        f"there is {number(across.nominal_slope)}, which augmentation averages away. On E all three agree."
    )


def _plane(a: Analysis) -> str:
    found = a.pictures.plane
    kind = {
        (True, True): "a saddle whose descent leaves E",
        (True, False): "a valley along E as well as across it",
        (False, True): "descending both on E and off it",
        (False, False): "a saddle inside E",
    }[found.value_E > 0, found.value_E_perp < 0]
    return (
        "R^aug minus its value at the point (cross) over the plane of the least stable direction on E (horizontal, "
        "the dashed line is E) and the least stable one off E (vertical). Orange is above, violet below, and the "
        f"black line where the risk is that of the point. Here the point is {kind}. Beyond the curvature, where "
        "colours change faster, terms of higher order rule."
    )


def _flow(a: Analysis) -> str:
    run = a.pictures.flow
    ratio = np.array(run.off_equivariance) / run.predicted()
    wrong = np.flatnonzero(np.abs(ratio - 1) > 0.1)
    until = (
        f"within a tenth until t = {number(run.times[wrong[0]])}, where the distance is "
        f"{number(run.off_equivariance[wrong[0]])} or {number(100 * run.off_equivariance[wrong[0]] / run.norm, 2)} % "
        "of ‖A‖"
        if len(wrong)
        else "within a tenth all the way"
    )
    moved = "grows" if run.value < 0 else "shrinks"
    return (
        f"The distance from E along exact augmented flow from the point plus a push of {number(run.push)} along the "
        f"lowest mode off E, against the linear prediction (27), ‖A_{{E⊥}}‖ = ε e^(−λt) with λ = "
        f"{number(run.value)}. It {moved}, and the prediction holds {until}. The risk beside it falls throughout. "
        f"Gradient descent with small steps follows this curve ({run.gradients:,} gradients of R^aug here; descent "
        f"at the critical step would take {_descent_steps(run)})."
    )


def _descent_steps(run) -> str:
    if not run.critical_step:
        return "any number"
    return f"{math.ceil(run.times[-1] / run.critical_step):,}"


def _steps(a: Analysis) -> str:
    runs = a.pictures.steps
    parts = []
    for run in runs:
        count, factor = int(run.times[-1]), abs(1 - run.step * run.value)
        predicted, measured = float(run.predicted()[-1]), run.off_equivariance[-1]
        held = np.flatnonzero(np.abs(np.array(run.off_equivariance) / run.predicted() - 1) > 0.1)
        until = f"within a tenth for {int(held[0]) - 1} steps" if len(held) else "within a tenth all the way"
        parts.append(
            f"τ = {number(run.step)} multiplies the deviation by {factor:.2f} a step, {until}; after {count} it is "
            f"{number(measured)}, predicted {number(predicted)}"
        )
    return (
        "The distance from E along exact augmented descent, pushed along the top mode off E, with steps below and "
        f"above 2/λ_max = {number(runs[0].critical_step)}: {'; '.join(parts)}. Above the critical step descent "
        "leaves E even where every eigenvalue is positive: that is an instability of the step, not of the point. The "
        "prediction is of first order along one mode. The start need not be that mode alone, to more digits than its "
        "residual tells, and what lies in slower modes shrinks less: below the critical step the measured distance may "
        "level off. Above it terms of higher order set in."
    )


def _kernel(a: Analysis) -> str:
    k = a.pictures.kernel
    reach, after = float(np.abs(np.array(k.before)).max()), [np.array(x) for x in k.after]
    spread = max(float(np.abs(x - after[0]).max()) for x in after)
    seen = (
        "After augmented training along the instability it depends on the place, that is on the group element g it is "
        "seen from (right)"
        if spread > 1e-3 * reach
        else "Augmented training along the instability came back to E, and there it is nearly the same again (right: "
        "what is left, magnified)"
    )
    return (
        f"The kernel of {k.layer} from channel {k.source_channel} to {k.target_channel} that changed most. On E it "
        f"is the same from every place (left). {seen}: entries differ by up to {number(spread)} between places, where "
        f"the kernel on E reaches {number(reach)}."
    )


def _breaking(a: Analysis) -> str:
    b = a.pictures.breaking
    last = np.array(b.losses[-1] if b.end is None else b.end)
    first = np.array(b.losses[0] if b.start is None else b.start)
    on_e = b.start is not None or a.pictures.flow is None
    if b.probability:
        first, last = np.exp(-first), np.exp(-last)
    start = _start(first, on_e, a.pictures.flow is not None)
    end = "" if b.end is None else " where L-BFGS on R^aug ends"
    what = "probability of the right answer" if b.probability else "loss"
    return (
        f"The {what} for training sample {b.sample} and its transforms, {len(b.elements)} in all, while augmented "
        f"training leaves E. {start}; they end {_between(last)}{end}. Of the first 64 "
        "samples it is the one whose transforms end furthest apart."
    )


def _between(values: np.ndarray) -> str:
    """``between 0.11 and 0.98``, with the digits that tell the two apart."""
    low, high = float(values.min()), float(values.max())
    digits = next((d for d in range(3, 9) if number(low, d) != number(high, d)), None)
    return f"at {number(low)}" if digits is None else f"between {number(low, digits)} and {number(high, digits)}"


def _start(first: np.ndarray, on_e: bool, pushed: bool) -> str:
    if not on_e:
        return f"The lines start after the push off E, {_between(first)}"
    text = f"An equivariant network cannot tell them apart: at the point on E all are at {number(float(first[0]))}"
    return text + ("; the lines start after the push" if pushed else "")


def _training(a: Analysis) -> str:
    h = a.training
    across = h.across()
    if not across:
        return (
            "The least eigenvalue of ∇²R^aug on E along equivariant training, error bars the residuals. No sector of "
            f"E⊥ was looked at; λ_min on E goes from {number(h.on_e()[0].value)} to {number(h.on_e()[-1].value)}."
        )
    negative = [epoch for epoch, e in zip(h.epochs, across, strict=True) if e.value + e.residual < 0]
    if len(negative) == len(across):
        follows = "E is unstable for augmented training at every epoch looked at"
    elif not negative:
        follows = "at no epoch looked at is E proved unstable"
    else:
        follows = f"E is unstable for augmented training at the epochs {', '.join(map(str, negative))}"
    return (
        "The least eigenvalue of ∇²R^aug on E and on E⊥ along equivariant training (grey: every sector of E⊥), error "
        "bars the residuals. Where the triangles lie in the hatched region augmented training would leave E: "
        f"{follows}. λ_min on E⊥ goes from {number(across[0].value)} to {number(across[-1].value)} "
        f"({across[-1].irrep})."
    )


def _escape(a: Analysis) -> str:
    e = a.escape
    lower = e.risk_end < e.risk_start
    text = "Before and after following the instability to its end. "
    change = number(abs(e.risk_end - e.risk_start))
    text += f"The risk falls by {change} off E" if lower else "The risk did not fall, so nothing was gained"
    test = words.judged_test(a)
    text += f"; {test}" if test else ""
    return text + "."
