"""The paper's identities hold where they should; a group action or a risk that is none is seen by the right one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from brute import PROBLEMS, gaussian, problem

from stability.problem.problem import Problem
from stability.problem.space import Samples
from stability.verdicts.identities import NAMES, measure


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_identity_holds_at_a_point_of_e(name):
    one = problem(name)
    found = measure(one, one.initial(0), 0, 5040, 1.0)
    assert set(found.errors) == set(NAMES) and found.reasons == {}
    gap = found.errors["feature_average_gap"]
    assert gap > -1e-12
    assert max(v for k, v in found.errors.items() if k != "feature_average_gap") < 1e-9, found.errors


SLOPE = gaussian(problem("A_4 points").space.dim, seed=9)


def other_data(one: Problem) -> Problem:
    """The data are not moved by G but stretched."""
    return replace(one, transform=lambda g, s: Samples(s.x * (1 + 0.1 * (g != one.group.identity)), *s[1:]))


def other_risk(power: int) -> Callable[[Problem], Problem]:
    """A term that no symmetry of the network leaves alone: linear, for ∇R^aug = Π_E∇R; square, for the Hessians."""
    return lambda one: replace(
        one, loss=lambda a, s: one.loss(a, s) + 0.1 * (s.x[:, 0] @ s.weight) * (a * SLOPE).sum() ** power
    )


BROKEN = {"lemma4": other_data, "prop1": other_risk(1), "prop2": other_risk(2)}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_seen(name):
    one = BROKEN[name](problem("A_4 points"))
    found = measure(one, one.initial(0), 0, 5040, 1.0)
    assert found.errors[name] > 1e-4


def test_what_is_too_large_to_sum_over_is_told_and_the_rest_is_measured():
    one = problem("A_4 points")
    found = measure(one, one.initial(0), 0, 11, 1.0)
    assert "an average takes 12 elements of G, more than the 11 summed over" in found.reasons["lemma4"]
    assert all(found.errors[name] is None for name in found.reasons)
    assert max(found.errors[name] for name in ("lemma1", "lemma2", "lemma3")) < 1e-10


def test_without_an_action_on_data_only_the_space_is_measured():
    one = replace(problem("A_4 points"), transform=None)
    found = measure(one, one.initial(0), 0, 5040, 1.0)
    assert {k for k, v in found.errors.items() if v is not None} == {"lemma1", "lemma2", "lemma5"}
    assert set(found.reasons) == set(NAMES) - {"lemma1", "lemma2", "lemma5"}
