"""Decisions from numbers: right, or undecided; never a wrong sign."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stability.eigen.spectrum import Density, Eigenvalue, Spectrum
from stability.verdicts.verdict import Block, Verdict, judge, proposition_3


def complete(values: list[float], error: float = 1e-12) -> Spectrum:
    """The spectrum of a diagonal matrix, as a dense run reports it."""
    ordered = sorted(values)
    return Spectrum(
        dim=len(values),
        lowest=tuple(Eigenvalue(v, error, 1) for v in ordered),
        highest=tuple(Eigenvalue(v, error, 1) for v in ordered[::-1]),
        negative_count=sum(v < -error for v in values),
        zero_count=sum(abs(v) <= error for v in values),
        density=Density("exact", tuple(ordered), tuple(1 / len(values) for _ in values)),
        method="dense",
        matvecs=len(values),
        seconds=0.0,
        error=error,
        complete=True,
        lower_bound=ordered[0] - error,
        failure_probability=0.0,
    )


def ritz_only(lowest: float, residual: float, bound: float | None = None) -> Spectrum:
    """What Lanczos knows: a quotient, a residual, perhaps a bound."""
    return Spectrum(
        100, (Eigenvalue(lowest, residual),), (Eigenvalue(5.0, residual),), None, None, "Lanczos", 50, 0.0,
        error=1e-12, lower_bound=bound, failure_probability=None if bound is None else 2e-6,
    )  # fmt: skip


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=8), st.lists(st.floats(-1, 1), min_size=1, max_size=8))
def test_a_verdict_on_complete_spectra_never_contradicts_the_signs(e, perp):
    verdict = judge([Block("E", complete(e)), Block("E⊥", complete(perp))], 0.0, 1.0)
    lowest = min(e + perp)
    allowed = (
        {"unstable"} if lowest < -2e-12 else {"stable"} if lowest > 2e-12 else {"degenerate", "undecided", "unstable"}
    )
    assert verdict.status in allowed
    if lowest >= 0:
        assert verdict.status != "unstable"


def test_a_gradient_above_the_tolerance_is_not_stationary_whatever_the_spectrum():
    verdict = judge([Block("E", complete([-1.0]))], 1e-3, 1e-9)
    assert verdict.status == "not_stationary" and verdict.margin == 1e-3 and "1.00e-03" in verdict.evidence


def test_a_nan_gradient_is_not_stationary():
    assert judge([Block("E", complete([1.0]))], float("nan"), 1e-9).status == "not_stationary"


def test_a_negative_quotient_proves_instability_even_with_a_large_residual():
    assert judge([Block("E⊥", ritz_only(-1e-3, 0.5))]).status == "unstable"


def test_a_positive_ritz_value_without_a_bound_is_undecided_and_says_what_would_decide():
    verdict = judge([Block("E⊥", ritz_only(1e-3, 1e-12))])
    assert verdict.status == "undecided" and "dense" in verdict.evidence


def test_a_positive_lower_bound_is_stable_with_its_probability():
    verdict = judge([Block("E⊥", ritz_only(1e-3, 1e-12, 5e-4))])
    assert verdict.status == "stable" and verdict.margin == pytest.approx(5e-4) and "probability" in verdict.evidence


def test_a_lower_bound_below_zero_decides_nothing():
    assert judge([Block("E⊥", ritz_only(1e-3, 1e-12, -1e-4))]).status == "undecided"


def test_zero_modes_beyond_the_known_flat_directions_are_degenerate():
    spectrum = complete([0.0, 0.0, 1.0])
    assert judge([Block("E", spectrum, known_zeros=1)]).status == "degenerate"
    assert judge([Block("E", spectrum, known_zeros=2)]).status == "stable"


def test_one_more_newton_step_that_moves_the_quotient_across_zero_takes_the_sign_away():
    assert judge([Block("E", complete([-1e-6]), newton_shift=1e-5)]).status != "unstable"
    assert judge([Block("E", complete([1e-6]), newton_shift=1e-5)]).status == "undecided"
    assert judge([Block("E", complete([-1e-6]), newton_shift=1e-8)]).status == "unstable"


def test_a_missing_spectrum_is_undecided_unless_another_block_is_negative():
    missing = Block("E⊥", None, missing="too large")
    assert judge([Block("E", complete([1.0])), missing]).status == "undecided"
    assert judge([Block("E", complete([-1.0])), missing]).status == "unstable"


def test_a_pre_activation_on_a_kink_makes_every_verdict_undecided():
    assert judge([Block("E", complete([-1.0]))], kink_margin=1e-9).status == "undecided"
    assert judge([Block("E", complete([-1.0]))], kink_margin=1e-2).status == "unstable"


@pytest.mark.parametrize(
    ("premise", "conclusion", "expected"),
    [
        ("stable", "stable", "holds"),
        ("stable", "unstable", "violated"),
        ("stable", "degenerate", "violated"),
        ("stable", "undecided", "undecided"),
        ("unstable", "stable", "vacuous"),
        ("not_stationary", "unstable", "vacuous"),
        ("undecided", "stable", "undecided"),
    ],
)
def test_proposition_3_reads_as_an_implication(premise, conclusion, expected):
    one, other = Verdict(premise, None, ""), Verdict(conclusion, None, "")
    assert proposition_3(one, other, replace(one))["i"] == expected
