"""Networks too large for dense vectors of L: the same answers through the equivariant layers alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.func import grad

from stability.base.errors import BadInput, StaleLinearisation
from stability.base.limits import Limits
from stability.curvature.linearised import nominal_gradient_norm
from stability.eigen import krylov
from stability.points.training import descend, descend_on_e, equivariant
from stability.run.analysis import analyse
from stability.run.settings import Settings
from stability.spectra import sectors
from stability.tasks import TaskOptions, load
from tests import problems

NAMES = ("trans", "perm", "rot")


@pytest.mark.parametrize("name", sorted(problems.REPRESENTATIONS))
def test_the_gradient_norm_without_dense_weights_is_that_of_the_dense_gradient(name):
    problem = problems.classification(name, weight_decay=0.3)
    theta = problem.initial(1)
    dense = float(grad(problem.risk)(problem.space.embed(theta)).norm())
    assert nominal_gradient_norm(problem, theta) == pytest.approx(dense, rel=1e-10)


@pytest.mark.parametrize("name", sorted(problems.REPRESENTATIONS))
def test_equi_in_coordinates_of_e_is_equi_on_dense_weights(name):
    problem = problems.classification(name, weight_decay=0.3)
    theta = problem.initial(1)
    dense = descend(problem, problem.space.embed(theta), equivariant(problem), 0.05, 5, "EQUI").final
    assert torch.allclose(problem.space.embed(descend_on_e(problem, theta, 0.05, 5, batch=5)), dense, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_large_network_gets_the_signs_and_values_of_the_dense_path(name):
    problem = load(name, TaskOptions(samples=40))
    settings = Settings(at="trained", epochs=5, escape_iterations=0)
    dense = analyse(problem, settings).analysis
    large = analyse(problem, replace(settings, limits=Limits(vectors=0, dense=30, single=30))).analysis
    assert large.point.risk["nominal"] == pytest.approx(dense.point.risk["nominal"], rel=1e-10)
    for key in ("nominal", "eqv", "aug"):
        assert large.point.grad_norm[key] == pytest.approx(dense.point.grad_norm[key], rel=1e-8)
    assert large.point.metrics == pytest.approx(dense.point.metrics)
    assert [s.irrep for s in large.sectors] == [s.irrep for s in dense.sectors]
    by_lanczos = 0
    for one, other in zip(large.sectors, dense.sectors, strict=True):
        spread = other.highest[0].value - other.lowest[0].value
        assert one.lowest[0].value >= other.lowest[0].value - 1e-12 * spread  # a quotient is never below λ_min
        error = max(10 * one.lowest[0].residual, 1e-9 * spread)
        assert one.lowest[0].value == pytest.approx(other.lowest[0].value, abs=error)
        if abs(other.lowest[0].value) > error:
            assert (one.lowest[0].value < 0) == (other.lowest[0].value < 0)
        by_lanczos += "float32" in one.method
    assert by_lanczos > 0
    assert large.verdict.transverse.status in (dense.verdict.transverse.status, "undecided")


def test_a_large_network_is_not_averaged_over_the_group():
    problem = load("perm", TaskOptions(samples=20))
    with pytest.raises(BadInput, match="use all"):
        analyse(problem, Settings(at="init", sectors="none", limits=Limits(vectors=0)))


def test_memory_that_holds_too_few_krylov_vectors_is_refused_in_one_line(monkeypatch):
    problem = load("trans", TaskOptions(samples=20))
    monkeypatch.setattr(krylov, "room", lambda *_: 7)
    with pytest.raises(BadInput, match="holds only 7 vectors"):
        analyse(problem, Settings(at="init", sectors="q=(0,1)", limits=Limits(dense=30)))


@pytest.mark.parametrize("broken", [False, True])
def test_the_quadratic_check_of_a_large_sector_accepts_the_right_product_and_no_other(broken, monkeypatch):
    problem = load("trans", TaskOptions(samples=20))
    theta = problem.initial(0)
    irrep, _ = next((v, n) for v, n in sectors.occurring(problem.space) if not v.is_trivial)
    monkeypatch.setattr(sectors, "QUADRATIC_FROM", 0)
    operator = sectors.sector_hessian(problem, theta, irrep)
    if broken:
        apply = operator.apply
        operator.apply = lambda v: apply(v) + 1e-6 * apply(v).norm() * v / v.norm()
        with pytest.raises(StaleLinearisation):
            sectors.check_sector(problem, theta, irrep, operator, 0)
    else:
        assert sectors.check_sector(problem, theta, irrep, operator, 0) <= 1e-12
