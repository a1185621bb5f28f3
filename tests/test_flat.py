"""Flat directions known in advance: eigenvalue exactly μ, counted by brute force."""

from __future__ import annotations

import pytest
import torch

from stability import flat
from stability.curvature import assemble, group_average, nominal_hessian
from stability.tasks import TaskOptions, load


@pytest.fixture(scope="module")
def perm():
    return load("perm", TaskOptions(samples=60))


@pytest.fixture(scope="module")
def trans():
    return load("trans", TaskOptions(samples=40))


@pytest.mark.parametrize("task", ["trans", "perm"])
def test_every_family_has_eigenvalue_mu_at_any_point_of_E(task, request):
    problem = request.getfixturevalue(task)
    at = problem.space.embed(problem.initial(0))
    operator = nominal_hessian(problem, at)
    kept, listed = flat.verify(problem.flat, operator, problem.space, problem.weight_decay, 1.0, 0)
    assert len(kept) == len(problem.flat) > 0
    assert all(entry.residual < 1e-12 for entry in listed)


def test_families_are_counted_in_E_and_outside_as_brute_force_counts_them(perm):
    space = perm.space
    like = perm.samples.x
    unit = torch.eye(space.dim_equivariant, dtype=like.dtype)
    on_e = space.project(flat.complement(perm.flat, space, space.embed(unit)))
    expected_e = space.dim_equivariant - int(torch.linalg.matrix_rank(on_e))
    whole = flat.complement(perm.flat, space, torch.eye(space.dim, dtype=like.dtype))
    expected = space.dim - round(float(whole.trace()))
    assert flat.count(perm.flat, space) == (expected_e, expected - expected_e)


def test_complement_is_an_orthogonal_projection_that_commutes_with_the_one_onto_E(perm):
    space = perm.space
    v = torch.randn(3, space.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = flat.complement(perm.flat, space, v)
    assert torch.allclose(flat.complement(perm.flat, space, p), p, atol=1e-12)
    assert float((p * (v - p)).sum()) == pytest.approx(0, abs=1e-9)
    one = space.equivariant_part(flat.complement(perm.flat, space, v))
    other = flat.complement(perm.flat, space, space.equivariant_part(v))
    assert torch.allclose(one, other, atol=1e-12)


def test_unseen_inputs_leave_at_least_their_number_of_eigenvalues_at_mu(perm):
    at = perm.space.embed(perm.initial(0))
    averaged = group_average(assemble(nominal_hessian(perm, at), at), perm.space, perm.group)
    values = torch.linalg.eigvalsh(averaged)
    at_mu = int(((values - perm.weight_decay).abs() < 1e-12).sum())
    assert at_mu >= sum(flat.count(perm.flat, perm.space)) >= 100 * 14


def test_a_family_that_is_not_flat_is_not_taken_out(trans):
    from stability.problem import FlatFamily

    wrong = FlatFamily("wrong", 0, None, torch.eye(25, dtype=torch.float64) / 1.0)
    operator = nominal_hessian(trans, trans.space.embed(trans.initial(0)))
    kept, listed = flat.verify((wrong,), operator, trans.space, trans.weight_decay, 1.0, 0)
    assert kept == () and listed == ()
