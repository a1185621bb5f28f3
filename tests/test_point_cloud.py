"""The worked example over rotations: sectors, averages and what a low rule misses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from brute import bad

from analyses.examples import point_cloud
from stability.curvature.automatic import group_average, nominal_hessian
from stability.eigen.operator import assemble
from stability.spectra import sectors


@pytest.mark.parametrize("name", point_cloud.GROUPS)
def test_sectors_hold_where_the_first_layer_of_a_network_has_no_part(name):
    problem = point_cloud.point_cloud(name, count=3)
    theta = problem.initial(1)
    first = problem.space.layers[0]
    unreached = [v.name for v, _ in sectors.occurring(problem.space) if not first.size(v)]
    assert unreached  # weights that the vectors of the input do not reach
    at = problem.space.embed(theta)
    averaged = group_average(assemble(nominal_hessian(problem, at), at), problem.space, problem.group)
    dense = np.linalg.eigvalsh(averaged.numpy())
    np.testing.assert_allclose(point_cloud.by_sectors(problem, theta), dense, atol=1e-11 * np.ptp(dense))


def test_no_rotation_takes_one_shape_to_another():
    for dimension in (2, 3):
        found = point_cloud.shapes(dimension)
        spectra = torch.linalg.eigvalsh(found.mT @ found)
        distances = torch.stack([torch.cdist(s, s).flatten().sort().values for s in found])
        for a, b in ((0, 1), (0, 2), (1, 2)):
            assert (spectra[a] - spectra[b]).abs().max() + (distances[a] - distances[b]).abs().max() > 0.1
        torch.testing.assert_close(found.mean(1), torch.zeros(3, dimension, dtype=torch.float64))


def test_a_rule_of_twice_the_largest_weight_is_exact_and_the_lowest_one_is_not():
    rows = point_cloud.by_degree("SO(2)")
    problem = point_cloud.point_cloud("SO(2)")
    assert rows[0]["error"] > 1e-2
    assert all(r["error"] < 1e-12 for r in rows if r["degree"] >= problem.degree)
    assert all(r["haar"] > 1e-3 for r in rows)


def test_an_unknown_group_is_refused():
    with bad("is no group here; choose from"):
        point_cloud.point_cloud("SU(7)")
