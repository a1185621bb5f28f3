"""Stationary points on E: rounding-level gradients, distinct, judged by their Hessian."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from problems import classification, regression
from torch.func import grad, hessian

from stability.base.limits import Limits
from stability.points import stationary
from stability.points.stationary import describe_point, distinct, find_points, find_saddle, polish, runaway
from stability.tasks import TaskOptions, load


@pytest.mark.parametrize("name", ["Z_3²", "S_4", "Q_8"])
def test_points_are_stationary_to_rounding_for_the_equivariant_and_the_augmented_risk(name):
    problem = classification(name)
    for point in find_points(problem, 2, 0):
        assert point.converged
        at = problem.space.embed(point.theta)
        assert grad(problem.equivariant_risk)(point.theta).norm() <= point.tolerance
        assert grad(problem.augmented_risk)(at).norm() <= 2 * point.tolerance  # Corollary 2


def test_points_come_best_first_and_differ():
    points = find_points(classification("C_5"), 4, 0)
    risks = [p.risk for p in points]
    assert risks == sorted(risks)
    assert len(distinct(points)) == len(points)


def test_index_and_newton_decrement_are_what_they_are_called():
    problem = classification("C_5")
    theta = problem.initial(3)
    point = describe_point(problem, theta, "init", 1.0)
    h, g = hessian(problem.equivariant_risk)(theta), grad(problem.equivariant_risk)(theta)
    values, vectors = torch.linalg.eigh(h)
    assert point.index == int((values < 0).sum())
    assert point.newton_decrement == pytest.approx(float(((vectors.mT @ g) ** 2 / values.abs()).sum().sqrt()), rel=1e-9)
    assert point.risk == pytest.approx(float(problem.risk(problem.space.embed(theta))))
    np.testing.assert_allclose(point.eigenvalues, values.numpy(), atol=1e-12)


def test_the_origin_of_a_bias_free_network_is_reported_when_it_is_stationary():
    kinds = [p.kind for p in find_points(regression("C_5", weight_decay=0.1), 1, 0)]
    assert "origin" in kinds


def test_newton_polishing_keeps_the_index_of_a_saddle():
    problem = load("counterexample-nominal", TaskOptions())
    saddle = polish(problem, torch.tensor([1e-3], dtype=torch.float64))
    assert abs(float(saddle)) < 1e-12  # the origin, a maximum of R on E
    assert describe_point(problem, saddle, "saddle", 1e-9).index == 1


def test_a_saddle_search_ends_at_a_zero_of_the_gradient_or_is_thrown_away():
    problem = load("counterexample-nominal", TaskOptions())
    theta = find_saddle(problem, torch.tensor([0.1], dtype=torch.float64))
    assert grad(problem.equivariant_risk)(theta).norm() < 1e-9
    kinds = {p.kind for p in find_points(problem, 1, 0, saddles=3)}
    assert "minimum" in kinds


def test_the_same_seed_finds_the_same_points_bit_for_bit():
    first, second = (find_points(classification("S_4"), 1, 5) for _ in range(2))
    assert [p.risk for p in first] == [p.risk for p in second]
    assert all(torch.equal(p.theta, q.theta) for p, q in zip(first, second, strict=True))


def test_a_search_steered_by_single_precision_ends_at_a_minimum_to_double_precision():
    problem = classification("S_4")
    tolerance = 1e-9 * stationary.gradient_scale(problem, 0)
    kept = []
    limits = Limits(search_single=10, search_dense=10)
    found = stationary.minimise(problem, problem.initial(0), tolerance, iterations=40, keep=kept.append, limits=limits)
    assert float(grad(problem.equivariant_risk)(found).norm()) <= tolerance
    assert float(torch.linalg.eigvalsh(hessian(problem.equivariant_risk)(found))[0]) > 0
    assert kept and float((kept[-1] - found).norm()) <= 1e-3 * float(found.norm())


def test_a_long_search_ends_when_its_time_is_up_and_keeps_what_it_found():
    problem = load("perm", TaskOptions(size="paper", samples=8))  # E has 6,656 dimensions
    kept = []

    def searches(jobs, tolerance, seconds):
        for number, job in enumerate(jobs):
            yield number, stationary.search(problem, job.kind, job.theta, tolerance, keep=kept.append, seconds=seconds)

    point, _ = find_points(problem, 1, 0, seconds=1e-3, searches=searches)
    assert not point.converged and kept
    assert point.risk < float(problem.equivariant_loss(problem.initial(0), problem.samples)) + float(
        problem.penalty(problem.initial(0))
    )


def test_a_search_that_ran_to_infinity_without_decay_is_told_from_products_that_are_wrong():
    loose, held = (classification("C_5", weight_decay=mu) for mu in (0.0, 1e-3))
    far = 20 * loose.initial(0)
    said = str(runaway(loose, far))
    assert "20 times that of a random start" in said and "give weight_decay" in said
    assert runaway(loose, loose.initial(1)) is None and runaway(held, far) is None
