"""Whether two descriptions say the same problem: values count, how a sum was rounded does not."""

from __future__ import annotations

import copy

import pytest
import torch

from stability.base.identity import described, differences, raw

X = torch.linspace(-1, 1, 50, dtype=torch.float64)
ONE = {
    "code": {"net.py": "aa"},
    "data": [described(X)],
    "network": {"dtype": "torch.float64", "layers": "1 → 2"},
    "versions": {"stability": "0"},
    "settings": {"seed": 0},
    "risk": {"start": [1.0, 2.0], "there": [1.0, 2.0], "beside": [1.0, 2.0]},
}


def changed(*path, to) -> list[str]:
    other = copy.deepcopy(ONE)
    held = other
    for key in path[:-1]:
        held = held[key]
    held[path[-1]] = to
    return differences(ONE, other)


def test_a_problem_is_the_same_as_itself():
    assert differences(ONE, copy.deepcopy(ONE)) == []


@pytest.mark.parametrize(
    ("path", "to", "said"),
    [
        (("code", "net.py"), "bb", "net.py has changed"),
        (("code",), {}, "net.py is gone"),
        (("code", "more.py"), "cc", "more.py is new"),
        (("settings", "seed"), 1, "seed was 0, is 1"),
        (("network", "layers"), "1 → 3", "layers was 1 → 2, is 1 → 3"),
        (("risk", "there"), [1.0, 2.1], "the risk there had the numbers 1, 2, now 1, 2.1"),
        (("data",), [described(X + 1e-6)], "the data have changed"),
        (("data",), [described(X.flip(0))], "the data have changed"),
    ],
)
def test_what_changed_is_named_and_nothing_else(path, to, said):
    assert changed(*path, to=to) == [said]


def test_rounding_is_no_change_beyond_it_is():
    rounded = described(X * (1 + torch.finfo(torch.float64).eps))
    assert rounded["digest"] != ONE["data"][0]["digest"] and changed("data", to=[rounded]) == []
    assert changed("risk", "there", to=[1.0 + 1e-12, 2.0]) == []
    assert changed("risk", "there", to=[1.0 + 1e-8, 2.0])


def test_labels_are_compared_exactly():
    y = torch.arange(5)
    assert "numbers" not in described(y)
    other = described(y.roll(1))
    assert differences({**ONE, "data": [described(y)]}, {**ONE, "data": [other]}) == ["the data have changed"]


def test_bytes_are_those_of_the_values_however_they_lie_in_memory():
    x = torch.arange(6, dtype=torch.float64).reshape(2, 3)
    assert bytes(raw(x.mT)) == bytes(raw(x.mT.contiguous())) != bytes(raw(x))
    assert bytes(raw(torch.ones(1).expand(1))) == bytes(raw(torch.ones(1)))
