"""The benchmark compares like with like."""

from __future__ import annotations

import pytest
import torch

from analyses.studies.bench import augmented, extremes, listed, peers, picture, products
from stability.eigen.operator import Operator
from stability.tasks import TaskOptions, load


def test_dense_module_and_mean_loss_are_the_risk_of_the_problem():
    problem = load("perm", TaskOptions(samples=20))
    at = problem.space.embed(problem.initial(0))
    loss = peers.MeanLoss(problem)(peers.Dense(problem, at)(problem.samples.x), problem.samples.y)
    assert float(loss) == pytest.approx(float(problem.loss(at, problem.samples)), rel=1e-12)


def test_the_sectors_find_the_eigenvalue_of_the_group_sum_and_sampling_does_not():
    rows = augmented.bench_augmented("small", passes=(1,), tolerance=1e-4)["rows"]
    exact = rows["group sum, Lanczos"]["lowest"]
    assert rows["sectors, Lanczos in each"]["lowest"] == pytest.approx(exact, rel=1e-6)
    assert abs(rows["1 sampled element, Lanczos"]["error"]) > 1e-2 * abs(exact)


def test_lanczos_of_the_benchmark_meets_its_tolerance():
    h = torch.diag(torch.linspace(-1, 3, 200, dtype=torch.float64))
    operator = Operator(200, lambda v: v @ h, "diagonal")
    low, high, _ = extremes.by_lanczos(operator, torch.ones(200, dtype=torch.float64), 1e-6)
    assert low == pytest.approx(-1, abs=1e-6) and high == pytest.approx(3, abs=1e-6)


def test_tables_and_plots_need_only_the_parts_that_were_run():
    found = {"machine": "two cores", "nominal": products.bench_nominal("small", rounds=1)}
    assert "ratio to the floor" in listed.tables(found)
    assert picture.draw(found).axes
