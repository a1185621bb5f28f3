"""Coordinates of a sector and its block of the Hessian, against projections and dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from brute import augmented_risk, bad, directional, gaussian, gradient, problem

from stability import from_risk
from stability.curvature.automatic import nominal_hessian
from stability.curvature.linearised import network_hessian
from stability.curvature.sector import lift, lower, sector_hessian, sizes
from stability.groups import Cyclic, regular
from stability.spectra import sectors

NAMES = ["S_4 graphs", "Q_8 quaternions", "A_4 points"]


@pytest.mark.parametrize("name", NAMES)
def test_lowering_undoes_lifting_and_the_partners_of_a_vector_are_orthogonal(name):
    space = problem(name).space
    for irrep, size in sectors.occurring(space):
        assert sum(sizes(space, irrep)) == size
        s = gaussian(2, size, seed=size)
        rows = lift(space, irrep, s)
        torch.testing.assert_close(lower(space, irrep, rows), s, rtol=0, atol=1e-12)
        gram = rows @ rows.mT
        expected = s.square().sum(-1)[:, None, None] * torch.eye(irrep.dim, dtype=torch.float64)
        torch.testing.assert_close(gram, expected, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_a_block_is_the_hessian_of_augmented_data_between_the_partners(name):
    one = problem(name)
    theta = one.initial(1)
    at = one.space.embed(theta)
    nominal = nominal_hessian(one, at)

    def slope(a: torch.Tensor) -> torch.Tensor:
        return gradient(lambda b: augmented_risk(one, b), a)

    irrep, size = max(sectors.occurring(one.space), key=lambda found: found[0].dim)
    s = gaussian(size, seed=1)
    moved = np.stack([directional(slope, at, row) for row in lift(one.space, irrep, s)])
    expected = lower(one.space, irrep, torch.as_tensor(moved))
    for block in (sector_hessian(one, theta, irrep, nominal), network_hessian(one, theta, irrep)):
        np.testing.assert_allclose(block(s), expected, atol=1e-7 * float(expected.abs().max()))


def test_a_bare_risk_without_its_hessian_on_l_is_refused():
    rho = regular(Cyclic(3))
    one = from_risk(lambda t: t["a"].pow(4).sum(), {"a": torch.ones(3, dtype=torch.float64)}, {"a": rho})
    (irrep, _), *_ = sectors.occurring(one.space)
    with bad("need its nominal Hessian"):
        sector_hessian(one, one.initial(0), irrep)
