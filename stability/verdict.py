r"""Eigenvalues in, decision with evidence out. Pure: no tensors, no products.

unstable        a Rayleigh quotient below zero by more than rounding (and, for a stationary point, by more than
                one further Newton step moves it);
stable          a lower bound of λ_min above zero: every eigenvalue known, or a probabilistic bound;
degenerate      no negative eigenvalue, but zero modes beyond the flat directions known in advance;
not_stationary  the gradient of that risk does not vanish;
undecided       anything else, with what would decide it.

>>> from stability.eigen import Eigenvalue, Spectrum
>>> S = Spectrum(2, (Eigenvalue(-1.0, 1e-16, 1),), (), 1, None, "dense", 2, 0.0, 0, 1e-15, True, -1.0, 0.0)
>>> judge([Block("E⊥", S)]).status
'unstable'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stability.eigen import Spectrum

STATUSES = ("stable", "degenerate", "unstable", "undecided", "not_stationary")


@dataclass(frozen=True)
class Verdict:
    """A decision.

    Attributes:
        status: one of ``STATUSES``.
        margin: how far the deciding number is on its side of zero, errors taken off; for
            ``not_stationary`` the gradient norm; None where there is no such number.
        evidence: one sentence with the numbers.
    """

    status: str
    margin: float | None
    evidence: str


@dataclass(frozen=True)
class Block:
    """A space on which a Hessian was analysed.

    Attributes:
        name: what the evidence calls it.
        spectrum: its ends; None when it was not computed.
        known_zeros: flat directions of eigenvalue zero known in advance in this space.
        newton_shift: how much one more Newton step moves the lowest quotient.
        missing: why there is no spectrum, and what would give one.
    """

    name: str
    spectrum: Spectrum | None
    known_zeros: int = 0
    newton_shift: float = 0.0
    missing: str = ""


def judge(
    blocks: Sequence[Block],
    gradient_norm: float | None = None,
    tolerance: float = 0.0,
    kink_margin: float | None = None,
) -> Verdict:
    """The verdict over one or more blocks of a Hessian.

    Args:
        blocks: orthogonal spaces that the Hessian leaves fixed and that together make up the space judged.
        gradient_norm: of that risk; None to judge the blocks alone (the transverse verdict).
        tolerance: what the gradient norm must not exceed.
        kink_margin: smallest |pre-activation| at a kink relative to scale; the Hessian is meaningless near zero.
    """
    if gradient_norm is not None and not gradient_norm <= tolerance:
        return Verdict(
            "not_stationary",
            gradient_norm,
            f"the gradient norm is {gradient_norm:.2e}, above the tolerance {tolerance:.2e}",
        )
    if kink_margin is not None and kink_margin < 1e-6:
        return Verdict(
            "undecided",
            None,
            f"a pre-activation sits on a kink (smallest {kink_margin:.1e} of its scale), where no Hessian exists; "
            "use a smooth activation",
        )
    present = [b for b in blocks if b.spectrum is not None and b.spectrum.lowest]
    for block in sorted(present, key=lambda b: b.spectrum.lowest[0].value):
        lowest, rounding = block.spectrum.lowest[0], block.spectrum.error
        error = rounding + block.newton_shift
        if lowest.value + error < 0:
            count = block.spectrum.negative_count
            many = "a negative quotient" if count is None else f"{count} negative eigenvalue{'s' * (count != 1)}"
            return Verdict(
                "unstable",
                -lowest.value - error,
                f"{many} on {block.name}; the lowest quotient is {lowest.value:.6e}, errors at most {error:.1e}, "
                f"residual {lowest.residual:.1e} ({block.spectrum.method})",
            )
    missing = [b for b in blocks if b.spectrum is None or not b.spectrum.lowest]
    missing = [b for b in missing if b.spectrum is None or b.spectrum.dim > 0]
    if missing:
        return Verdict("undecided", None, f"no spectrum on {missing[0].name}: {missing[0].missing or 'not computed'}")
    zeros, margins, bounds = [], [], []
    for block in present:
        spectrum = block.spectrum
        error = spectrum.error + block.newton_shift
        if spectrum.lower_bound is None:
            return _needs_bound(block)
        if spectrum.complete:
            extra = (spectrum.zero_count or 0) - block.known_zeros
            if extra > 0:
                zeros.append(f"{extra} on {block.name}")
            positive = [v for v in spectrum.density.values if abs(v) > spectrum.error]
            if positive:
                if min(positive) - error <= 0:
                    return _needs_bound(block)
                margins.append(min(positive) - error)
                bounds.append(f"λ_min = {min(positive):.6e} on {block.name}, errors at most {error:.1e}")
        else:
            bound = spectrum.lower_bound - block.newton_shift
            if bound <= 0:
                return _needs_bound(block)
            margins.append(bound)
            bounds.append(
                f"λ_min ≥ {bound:.3e} on {block.name} with probability {1 - (spectrum.failure_probability or 0):.6f}"
            )
    if zeros:
        return Verdict("degenerate", None, f"zero modes beyond the known flat directions: {', '.join(zeros)}")
    known = sum(b.known_zeros for b in blocks)
    modulo = f", modulo {known} known flat directions" if known else ""
    return Verdict("stable", min(margins) if margins else None, "; ".join(bounds) + modulo)


def _needs_bound(block: Block) -> Verdict:
    spectrum = block.spectrum
    return Verdict(
        "undecided",
        None,
        f"on {block.name} the lowest Ritz value is {spectrum.lowest[0].value:.3e} (residual "
        f"{spectrum.lowest[0].residual:.1e}), which bounds λ_min from above only; a dense spectrum (a smaller size or "
        "a larger --memory-gb) or more products would decide it",
    )


def proposition_3(nominal: Verdict, aug: Verdict, eqv: Verdict) -> dict[str, str]:
    """Whether R strict ⇒ R^aug strict (i) ⇒ R^eqv strict on E (ii): holds, vacuous, violated or undecided."""
    return {"i": _implication(nominal, aug), "ii": _implication(aug, eqv)}


def _implication(premise: Verdict, conclusion: Verdict) -> str:
    if premise.status == "undecided":
        return "undecided"
    if premise.status != "stable":
        return "vacuous"
    return {"stable": "holds", "undecided": "undecided"}.get(conclusion.status, "violated")
