"""The way to the stationary point next to a given one: chord steps, what is left open, what is noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from brute import gaussian

from stability.verdicts.nearby import MARGIN, SHARE, Inverse, approach, lengthened, noise, rounded


def matrix(values: list[float], seed: int = 0) -> torch.Tensor:
    q = torch.linalg.qr(gaussian(len(values), len(values), seed=seed))[0]
    return q @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ q.mT


VALUES = [-2.0, 1e-14, 0.5, 3.0]
H = matrix(VALUES)
INVERSE = Inverse.of(H, 1e-9)


def test_a_step_solves_where_the_curvature_is_known_and_leaves_the_rest_alone():
    g = gaussian(4, seed=1)
    step = INVERSE.step(g)
    flat = INVERSE.vectors[:, ~INVERSE.sure]
    assert INVERSE.sure.sum() == 3 and float((flat.mT @ step).norm()) < 1e-14
    left = H @ step + g
    torch.testing.assert_close(left, flat @ (flat.mT @ g), rtol=0, atol=1e-12)
    assert INVERSE.unresolved(g) == pytest.approx(float(left.norm()))
    torch.testing.assert_close(INVERSE.product(g), H @ g, rtol=0, atol=1e-12)


def test_no_step_is_taken_along_an_eigenvalue_that_another_estimate_may_call_zero():
    for factor, sure in ((0.9, 3), (1.5, 3), (2.5, 4)):
        assert Inverse.of(matrix([-2.0, factor * 1e-9, 0.5, 3.0]), 1e-9).sure.sum() == sure


def test_displacements_are_what_a_gradient_of_that_norm_would_make():
    found = INVERSE.displacements(1e-3, 0)
    assert found.shape == (3, 4)
    assert [float(row.norm()) for row in found[:2]] == pytest.approx([1e-3 / 0.5] * 2)
    assert [float((H @ row).norm()) for row in found] == pytest.approx([1e-3] * 3, rel=1e-9)
    assert len(INVERSE.displacements(0.0, 0)) == 0 and len(Inverse.of(H, 10.0).displacements(1.0, 0)) == 0


def quartic(x: torch.Tensor) -> torch.Tensor:
    """∇ of ½xᵀHx + ¼Σx⁴ without its flat direction, stationary at zero."""
    return CURVED @ x + x**3


CURVED = matrix([-2.0, 0.7, 0.5, 3.0])


def test_chord_steps_end_at_the_stationary_point_and_are_measured():
    start = 0.02 * gaussian(4, seed=2)
    inverse = Inverse.of(CURVED + torch.diag(3 * start**2), 1e-9)
    way = approach(quartic, start, inverse.step, 1e-15)
    assert way.left <= 1e-12 < way.after < way.before == pytest.approx(float(quartic(start).norm()))
    assert float(way.end.norm()) < 1e-11 and way.step == pytest.approx(float(inverse.step(quartic(start)).norm()))


def test_steps_that_gain_nothing_are_not_taken():
    start = 0.02 * gaussian(4, seed=2)
    for invert in (lambda g: g, torch.zeros_like, lambda g: g / 0):
        way = approach(quartic, start, invert, 1e-15)
        assert torch.equal(way.end, start) and way.left == way.before


def test_noise_is_ten_times_what_is_seen_and_none_where_evaluations_agree():
    at = gaussian(4, seed=3)

    def linear(x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    assert noise(linear, linear, lambda v: v, at, 0) == 0.0
    backwards = noise(linear, lambda x: x + 1e-9, lambda v: v, at, 0)
    assert backwards == pytest.approx(MARGIN * 2e-9, rel=1e-6)

    def rough(x: torch.Tensor) -> torch.Tensor:
        return x + 1e-9 * torch.sin(1e18 * x)  # another value at every neighbour

    assert MARGIN * 1e-9 < noise(rough, rough, lambda v: v, at, 0) < MARGIN * 5e-9


def test_rounding_moves_every_coordinate_by_half_a_unit_and_a_short_way_is_lengthened_in_proportion():
    at = gaussian(4, seed=3)
    (row,) = rounded(at, 0)
    np.testing.assert_allclose(row.abs(), at.abs() * torch.finfo(torch.float64).eps / 2, rtol=1e-12)
    longer, times = lengthened(row, at)
    assert float(longer.norm()) == pytest.approx(SHARE * float(at.norm())) and times > 1
    torch.testing.assert_close(longer, times * row)
    far = gaussian(4, seed=4)
    assert lengthened(far, at)[1] == 1.0 and lengthened(torch.zeros(4).double(), at)[1] == 1.0
