r"""Eigenvalues in, decision with evidence out. Pure: no tensors, no products.

unstable        a Rayleigh quotient below zero by more than rounding (and, for a stationary point, by more than
                one further Newton step moves it);
stable          a lower bound of λ_min above zero: every eigenvalue known, or a probabilistic bound;
degenerate      no negative eigenvalue, but zero modes beyond the flat directions known in advance, zero to a few
                times 10√n ulps of the largest curvature, which float64 cannot tell from a sign;
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

import torch

from stability.base.record import Record, known
from stability.eigen.spectrum import Spectrum, rounding

# Relative to scale: nearer than this a pre-activation counts as sitting on its kink.
KINK = 1e-6
# Zero modes are called so only where the whole error is below this part of the largest curvature.
DEGENERATE = 1e-11
# What is said of the space {0}; on E⊥ = {0} every weight is equivariant.
EMPTY = "there is no direction to judge, so nothing could fall"
STATUSES = ("stable", "degenerate", "unstable", "undecided", "not_stationary")


@dataclass(frozen=True)
class Verdict(Record):
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

    def __str__(self) -> str:
        return f"{self.status}: {self.evidence}"


@dataclass(frozen=True)
class Block:
    """A space on which a Hessian was analysed.

    Attributes:
        name: what the evidence calls it.
        spectrum: its ends; None when it was not computed.
        known_zeros: flat directions of eigenvalue zero known in advance in this space.
        newton_shift: how much one more Newton step moves the lowest quotient.
        missing: why there is no spectrum, and what would give one.
        shift_all: how much it moves any eigenvalue; None where that is not known better than by ``newton_shift``.
        proven_shift: the same, proved by the Newton-Kantorovich theorem; None without it.
    """

    name: str
    spectrum: Spectrum | None
    known_zeros: int = 0
    newton_shift: float = 0.0
    missing: str = ""
    shift_all: float | None = None
    proven_shift: float | None = None

    @property
    def found(self) -> Spectrum:
        """Its spectrum, where there is one.

        Raises:
            ValueError: none was computed.
        """
        return known(f"the spectrum on {self.name}", self.spectrum)

    @property
    def error(self) -> float:
        """What the lowest quotient may be off by."""
        return self.found.error + self.newton_shift

    @property
    def error_all(self) -> float:
        """What any eigenvalue may be off by."""
        return self.found.error + max(self.newton_shift, self.shift_all or 0.0)


def on_kink(margin: float | None) -> str:
    """Why no sign is read off where a pre-activation sits on its kink; empty where none does.

    >>> on_kink(0.5), on_kink(None)
    ('', '')
    """
    if margin is None or margin >= KINK:
        return ""
    return (
        f"a pre-activation sits on a kink (smallest {margin:.1e} of its scale), where no Hessian exists; use a smooth "
        "activation"
    )


def judge(
    blocks: Sequence[Block],
    gradient_norm: float | None = None,
    tolerance: float = 0.0,
    kink_margin: float | None = None,
    doubt: str = "",
) -> Verdict:
    """The verdict over one or more blocks of a Hessian.

    Args:
        blocks: orthogonal spaces that the Hessian leaves fixed and that together make up the space judged.
        gradient_norm: of that risk; None to judge the blocks alone (the transverse verdict).
        tolerance: what the gradient norm must not exceed.
        kink_margin: smallest |pre-activation| at a kink relative to scale; the Hessian is meaningless near zero.
        doubt: why, in spite of a small gradient or of a Hessian, no sign may be read off; empty for no reason.
    """
    if gradient_norm is not None and not gradient_norm <= tolerance:
        return Verdict(
            "not_stationary",
            gradient_norm,
            f"the gradient norm is {gradient_norm:.2e}, above the tolerance {tolerance:.2e}",
        )
    if all(b.spectrum is not None and b.spectrum.dim == 0 and not b.spectrum.lowest for b in blocks):
        # Before kinks: where there is no direction, none of them can be wrong.
        return Verdict("stable", None, f"{' and '.join(b.name for b in blocks)} = {{0}}: {EMPTY}")
    doubt = on_kink(kink_margin) or doubt
    if doubt:
        return Verdict("undecided", None, doubt)
    present = [b for b in blocks if b.spectrum is not None and b.spectrum.lowest]
    return _falls(present) or _unknown(blocks) or _rises(blocks, present)


def _falls(present: Sequence[Block]) -> Verdict | None:
    """Unstable: the lowest quotient that is below zero by more than its error, whatever the other blocks hold."""
    for block in sorted(present, key=lambda b: b.found.lowest[0].value):
        lowest, error = block.found.lowest[0], block.error
        if block.found.confirmed is not False and lowest.value + error < 0:
            count = block.found.negative_count
            many = "a negative quotient" if count is None else f"{count} negative eigenvalue{'s' * (count != 1)}"
            return Verdict(
                "unstable",
                -lowest.value - error,
                f"{many} on {block.name}; the lowest quotient is {lowest.value:.6e}, errors at most {error:.1e}, "
                f"residual {lowest.residual:.1e} ({block.found.method}){_standing([block], -lowest.value)}",
            )
    return None


def _unknown(blocks: Sequence[Block]) -> Verdict | None:
    """Undecided where a block that has directions has no spectrum."""
    missing = [b for b in blocks if b.spectrum is None or not b.spectrum.lowest]
    missing = [b for b in missing if b.spectrum is None or b.spectrum.dim > 0]
    if missing:
        return Verdict("undecided", None, f"no spectrum on {missing[0].name}: {missing[0].missing or 'not computed'}")
    return None


@dataclass(frozen=True)
class _Above:
    """What a block without a negative eigenvalue adds to a verdict.

    Attributes:
        zeros: its zero modes beyond the known ones, in words; empty where there are none.
        margin: how far above zero the rest of it is known to be; None where nothing is left.
        bound: the same in words.
    """

    zeros: str = ""
    margin: float | None = None
    bound: str = ""


def _rises(blocks: Sequence[Block], present: Sequence[Block]) -> Verdict:
    """Stable or degenerate where every block is known to lie above zero or at it, else what is in the way."""
    parts = []
    for block in present:
        part = _above(block)
        if isinstance(part, Verdict):
            return part
        parts.append(part)
    if zeros := [part.zeros for part in parts if part.zeros]:
        return Verdict("degenerate", None, f"zero modes beyond the known flat directions: {'; '.join(zeros)}")
    known = sum(b.known_zeros for b in blocks)
    margin = min((part.margin for part in parts if part.margin is not None), default=None)
    if margin is None:
        names = " and ".join(b.name for b in present)
        return Verdict("stable", None, f"every direction of {names} is one of the {known} known flat ones: none falls")
    bounds = "; ".join(part.bound for part in parts if part.bound)
    modulo = f", modulo {known} known flat directions" if known else ""
    return Verdict("stable", margin, bounds + modulo + _standing(present, margin))


def _above(block: Block) -> _Above | Verdict:
    """How far a block without a negative quotient is known to lie above zero, or why that is not known."""
    if block.found.confirmed is False:
        return Verdict(
            "undecided",
            None,
            f"on {block.name} the inertia of a factorisation contradicts the eigenvalues; rescale the risk",
        )
    if block.found.lower_bound is None:
        return _needs_bound(block)
    return _all_known(block) if block.found.complete else _bounded(block, block.found.lower_bound)


def _bounded(block: Block, least: float) -> _Above | Verdict:
    """The probabilistic bound of a Krylov run, less what a Newton step moves."""
    spectrum = block.found
    bound = least - max(block.newton_shift, block.shift_all or 0.0)
    if bound <= 0:
        return _needs_bound(block)
    sure = f"λ_min ≥ {bound:.3e} on {block.name} with probability {1 - (spectrum.failure_probability or 0):.6f}"
    return _Above(margin=bound, bound=sure)


def _all_known(block: Block) -> _Above | Verdict:
    """Every eigenvalue is known: zero modes are counted against those known in advance, the rest is above its error."""
    spectrum, error = block.found, block.error_all
    if spectrum.negative_count:
        return _within_error(block, spectrum.negative_count, "below zero by less than")
    extra = (spectrum.zero_count or 0) - block.known_zeros
    if extra < 0:
        return Verdict(
            "undecided",
            None,
            f"on {block.name} only {spectrum.zero_count} of {block.known_zeros} known flat directions are seen "
            f"within {spectrum.error:.1e} of zero; float64 or a smaller gradient would show them",
        )
    least = _least_positive(spectrum)
    if least is not None and least - error <= 0:
        return _within_error(block, None, f"the smallest, {least:.3e}, above zero by less than")
    zeros = f"{extra} on {block.name}, zero to within {error:.1e}" if extra > 0 else ""
    if zeros:
        # A zero mode is one of working precision, here and at the stationary point; under a coarser error a small
        # eigenvalue would pass for one.
        coarse = error > DEGENERATE * _norm(spectrum) or error - spectrum.error > 4 * _working(spectrum)
        if coarse or _largest_zero(spectrum) > 4 * _working(spectrum):
            return _within_error(block, extra, "beyond the known flat directions within")
    if least is None:
        return _Above(zeros)
    return _Above(zeros, least - error, f"λ_min = {least:.6e} on {block.name}, errors at most {error:.1e}")


def _norm(spectrum: Spectrum) -> float:
    return max(abs(spectrum.lowest[0].value), abs(spectrum.highest[0].value if spectrum.highest else 0.0))


def _working(spectrum: Spectrum) -> float:
    """What rounding in float64 makes of a zero eigenvalue."""
    return rounding(_norm(spectrum), spectrum.dim, torch.float64)


def _largest_zero(spectrum: Spectrum) -> float:
    """The largest |eigenvalue| among those within the error."""
    if spectrum.density is None:
        return 0.0
    return max((abs(v) for v in spectrum.density.values if abs(v) <= spectrum.error), default=0.0) + spectrum.width


def _least_positive(spectrum: Spectrum) -> float | None:
    """The smallest eigenvalue above the error, of spectra stored before it was recorded from their density."""
    if spectrum.least_positive is not None or spectrum.density is None:
        return spectrum.least_positive
    return min((v - spectrum.width for v in spectrum.density.values if v > spectrum.error), default=None)


def _standing(blocks: Sequence[Block], margin: float | None) -> str:
    """Whether the sign is proved for the stationary point itself, where a Newton step enters at all."""
    if margin is None or not any(b.newton_shift or b.proven_shift is not None for b in blocks):
        return ""
    proven = [(b.proven_shift, b.found.error) for b in blocks if b.proven_shift is not None]
    if len(proven) == len(blocks) and all(shift + error < margin for shift, error in proven):
        return (
            f"; by Newton-Kantorovich the stationary point nearby exists and no eigenvalue differs there by more than "
            f"{max(shift for shift, _ in proven):.1e}"
        )
    return "; numerical evidence for the stationary point nearby (no Newton-Kantorovich bound)"


def _within_error(block: Block, count: int | None, where: str) -> Verdict:
    many = "" if count is None else f"{count} eigenvalue{'s' * (count != 1)} "
    return Verdict(
        "undecided",
        None,
        f"on {block.name}: {many}{where} the errors, {block.error_all:.1e} (of which {block.found.error:.1e} from "
        "the computation and the rest from the gradient that is left); float64, a smaller gradient or a larger "
        "--weight-decay would decide it",
    )


def _needs_bound(block: Block) -> Verdict:
    spectrum = block.found
    what = "a dense spectrum (a smaller size or a larger --memory-gb) or more products would decide it"
    if spectrum.complete:
        what = "float64 would decide it"
    return Verdict(
        "undecided",
        None,
        f"on {block.name} the lowest Ritz value is {spectrum.lowest[0].value:.3e} (residual "
        f"{spectrum.lowest[0].residual:.1e}), which bounds λ_min from above only; {what}",
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
