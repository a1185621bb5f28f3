"""A problem at a point gives each Hessian once, by a way that agrees with differences of gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from brute import PROBLEMS, directional, equivariant_projection, gaussian, gradient, problem, risk

from stability.base.limits import Limits
from stability.curvature.at import At
from stability.eigen.operator import assemble
from stability.spectra import sectors


def point(name: str, **options) -> At:
    one = problem(name)
    return At(one, one.initial(1), **options)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_hessian_on_e_is_that_of_differences_of_gradients(name):
    at = point(name)
    one, v = at.problem, gaussian(len(at.theta), seed=2)
    moved = directional(lambda a: gradient(lambda b: risk(one, b), a), at.dense.weights, one.space.embed(v))
    expected = one.space.project(torch.as_tensor(moved))
    np.testing.assert_allclose(at.on_e(v), expected, atol=1e-7 * float(expected.abs().max()))


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_matrix_of_a_sector_is_what_its_products_are(name):
    at = point(name)
    irrep, size = max(sectors.occurring(at.problem.space), key=lambda found: found[0].dim)
    whole, products = at.matrix(irrep), assemble(at.block(irrep), at.theta)
    assert whole.shape == (size, size)
    np.testing.assert_allclose(whole, products, atol=1e-11 * float(products.abs().max()))


def test_beyond_the_limit_no_vector_of_l_is_made_and_the_sectors_are_the_same():
    small, large = point("S_4 graphs"), point("S_4 graphs", limits=Limits(vectors=1))
    assert small.dense is not None and large.dense is None
    for irrep, _ in sectors.occurring(small.problem.space):
        np.testing.assert_allclose(small.matrix(irrep), large.matrix(irrep), atol=1e-13)


def test_what_was_made_is_kept_and_another_point_makes_its_own():
    at = point("A_4 points")
    assert at.dense is at.dense and at.on_e is at.on_e and at.dense.nominal is at.dense.nominal
    there = at.moved(at.theta + 1)
    assert there.dense is not at.dense and there.limits is at.limits
    projection = equivariant_projection(at.problem.space.layers)
    for one in (at, there):
        np.testing.assert_allclose(projection @ one.dense.weights.numpy(), one.dense.weights, atol=1e-12)
