"""What gradients between two looks say of forcing and noise."""

from __future__ import annotations

import math

import pytest
import torch

from stability.api.seen import Gradients, curvature
from stability.optimisers.live import Ends
from stability.optimisers.updates import sgd


def test_forcing_and_noise_are_told_apart():
    generator = torch.Generator().manual_seed(0)
    forcing = torch.zeros(50, dtype=torch.float64)
    forcing[0] = 2.0
    seen = Gradients(forcing)
    for _ in range(400):
        seen.add(0.5 * forcing + 0.1 * torch.randn(50, generator=generator, dtype=torch.float64))
    told = seen.told()
    assert told.felt == pytest.approx(0.5, abs=4 * told.felt_error)
    assert told.felt_error == pytest.approx(0.05 / 400**0.5, rel=0.2)
    assert told.noise == pytest.approx(0.1 * 50**0.5, rel=0.05)
    assert float(seen.sample().norm()) == pytest.approx(told.noise)


def test_two_gradients_say_nothing_and_one_that_is_gone_is_none():
    seen = Gradients(None)
    seen.add(torch.ones(3))
    seen.add(None)
    assert seen.told() == (None, None, None) and seen.sample() is None and len(seen) == 2


def ends(lowest: float, highest: float, complete: bool = True) -> Ends:
    return Ends("V", lowest, highest, 1e-9, 1e-9, complete, 0.01, torch.zeros(1))


def test_the_sign_is_positive_only_where_every_sector_was_searched_whole():
    rule = sgd(0.1)
    assert curvature(1, [ends(0.1, 1.0), ends(0.2, 2.0)], rule, "").sign == "positive"
    assert curvature(1, [ends(0.1, 1.0), ends(0.2, 2.0, complete=False)], rule, "").sign == "undecided"
    assert curvature(1, [ends(0.1, 1.0, complete=False), ends(-0.2, 2.0, complete=False)], rule, "").sign == "negative"
    assert curvature(1, [ends(-0.2, 2.0)], rule, "a kink").sign == "undecided"


def test_growth_is_that_of_the_end_which_grows_most():
    negative, steep = (curvature(1, [ends(*pair)], sgd(0.1), "") for pair in ((-1.0, 1.0), (1.0, 25.0)))
    assert negative.growth == pytest.approx(math.log(1.1)) and steep.growth == pytest.approx(math.log(1.5))
    assert negative.reached == pytest.approx(0.1)
