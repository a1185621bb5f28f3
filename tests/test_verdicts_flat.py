"""Flat directions known in advance: eigenvalue exactly μ, counted by brute force."""

from __future__ import annotations

import pytest
import torch

from stability.curvature.automatic import group_average, nominal_hessian
from stability.eigen.operator import assemble
from stability.tasks import TaskOptions, load
from stability.verdicts import flat


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
    from stability.problem.problem import FlatFamily

    wrong = FlatFamily("wrong", 0, None, torch.eye(25, dtype=torch.float64) / 1.0)
    operator = nominal_hessian(trans, trans.space.embed(trans.initial(0)))
    kept, listed = flat.verify((wrong,), operator, trans.space, trans.weight_decay, 1.0, 0)
    assert kept == () and listed == ()


@pytest.mark.parametrize("weight_decay", [0.0, 1e-2])
def test_the_exchanges_of_a_linear_network_are_all_of_its_zero_modes(weight_decay):
    from stability.groups import Cyclic, regular
    from stability.networks.classifier import Classifier
    from stability.networks.losses import squared
    from stability.networks.network import mlp
    from stability.networks.nonlinearities import Identity
    from stability.networks.supervised import supervised
    from stability.problem.space import Samples
    from stability.run.analysis import analyse
    from stability.run.settings import Settings

    rho = regular(Cyclic(3))
    network = mlp([1 * rho, 2 * rho, 1 * rho], [Identity(), Identity()])
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    y = x @ torch.tensor([[2.0, 0.5, 0.1], [0.1, 2.0, 0.5], [0.5, 0.1, 2.0]], dtype=torch.float64)
    data = Samples(x, y, torch.full((40,), 1 / 40, dtype=torch.float64))
    model = Classifier(network, squared, target=1 * rho, decides=False)
    problem = supervised("linear", model, data, weight_decay=weight_decay)
    analysis = analyse(problem, Settings(points=2)).analysis
    listed = {d.space: d.count for d in analysis.flat_directions}
    spectra = analysis.spectra["aug"]
    assert listed["E"] + listed["E_perp"] > 0
    assert {"E": spectra["E"].zero_count, "E_perp": spectra["E_perp"].zero_count} == listed
    # Modulo these the fitted point is a strict minimum, of the equivariant and of the augmented risk.
    assert analysis.verdict.eqv.status == analysis.verdict.aug.status == "stable"
    assert "modulo" in analysis.verdict.aug.evidence


def test_the_units_of_a_leaky_relu_network_trade_scale():
    from problems import classification
    from torch.func import grad

    from stability.networks.classifier import Classifier
    from stability.networks.losses import cross_entropy
    from stability.networks.network import mlp
    from stability.networks.nonlinearities import Identity, Pointwise
    from stability.networks.supervised import supervised
    from stability.networks.symmetries import exchange_directions

    tanh = classification("C_5", weight_decay=0.0)
    rho = tanh.space.layers[0].source
    one = tanh.space.layers[-1].target
    network = mlp([rho, 2 * rho, one], [Pointwise("leaky_relu"), Identity()])
    problem = supervised("leaky", Classifier(network, cross_entropy), tanh.samples)
    at = torch.randn(problem.space.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = exchange_directions(network, at, 0.0)
    assert rows.shape == (10, problem.space.dim)
    assert (rows @ grad(problem.risk)(at)).abs().max() < 1e-14  # Φ is constant along them
    assert len(exchange_directions(tanh.model.network, torch.zeros(tanh.space.dim), 0.0)) == 0
