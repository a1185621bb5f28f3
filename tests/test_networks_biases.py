"""Affine layers: x ↦ Wx + b is the linear map (W, b) on X ⊕ R, and every path knows it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from brute import bad, gaussian
from problems import REPRESENTATIONS
from torch.func import grad, hessian

from stability import Settings, analyse
from stability.curvature.automatic import nominal_hessian
from stability.curvature.linearised import network_hessian, nominal_gradient_norm
from stability.curvature.pooled import hessian_on_e
from stability.eigen.operator import assemble
from stability.groups import Cyclic, intertwiners, regular, torus, trivial
from stability.groups import images as pixels
from stability.layers import FourierLayer
from stability.networks.classifier import Classifier
from stability.networks.losses import cross_entropy, squared
from stability.networks.network import mlp
from stability.networks.nonlinearities import Chain, Identity, LayerNorm, Pointwise
from stability.networks.supervised import supervised
from stability.networks.symmetries import exchange_directions
from stability.problem.space import Samples
from stability.spectra import sectors
from stability.verdicts import certificates, flat


def classification(name: str, bias=True, weight_decay: float = 1e-2, samples: int = 12):
    """1·ρ → 2·ρ + 1·1 [tanh] → 3·1 [tanh, LayerNorm] → 3·1, affine."""
    rho = REPRESENTATIONS[name]()
    one = trivial(rho.group)
    network = mlp(
        [1 * rho, 2 * rho + 1 * one, 3 * one, 3 * one],
        [Pointwise("tanh"), Chain((Pointwise("tanh"), LayerNorm(0.1))), Identity()],
        bias=bias,
    )
    x = gaussian(samples, rho.dim)
    y = torch.arange(samples) % 3
    data = Samples(x, y, torch.full((samples,), 1 / samples, dtype=torch.float64))
    return supervised(name, Classifier(network, cross_entropy), data, weight_decay=weight_decay)


def test_an_affine_network_is_the_one_that_torch_builds():
    case = classification("C_5")
    at = gaussian(case.space.dim)
    dense = torch.nn.Sequential(
        torch.nn.Linear(5, 11), torch.nn.Tanh(), torch.nn.Linear(11, 3), torch.nn.Tanh(),
        torch.nn.LayerNorm(3, eps=0.1, elementwise_affine=False), torch.nn.Linear(3, 3),
    ).double()  # fmt: skip
    with torch.no_grad():
        for module, weight in zip((dense[0], dense[2], dense[5]), case.space.split(at), strict=True):
            module.weight.copy_(weight[:, :-1])
            module.bias.copy_(weight[:, -1])
    x = case.samples.x
    torch.testing.assert_close(case.model.predict(at, x), dense(x), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_on_E_biases_are_invariant_vectors_and_both_routes_predict_the_same(name):
    case = classification(name)
    theta = case.initial(0)
    at, rho = case.space.embed(theta), REPRESENTATIONS[name]()
    first = case.space.split(at)[0][:, -1]
    for g in case.group.generators:
        moved = case.space.layers[0].target.act(g, first)
        torch.testing.assert_close(moved, first, atol=1e-12, rtol=0)
    without = mlp([1 * rho, 2 * rho + 1 * trivial(rho.group)], [Identity()]).space.dim_equivariant
    invariant = intertwiners(trivial(rho.group), 2 * rho + 1 * trivial(rho.group)).size
    assert case.space.layers[0].size() == without + invariant
    x = case.samples.x
    torch.testing.assert_close(case.model.predict_equivariant(theta, x), case.model.predict(at, x), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_the_union_of_sectors_of_an_affine_network_is_the_spectrum_on_augmented_data(name):
    case = classification(name)
    theta = case.initial(1)
    at, values = case.space.embed(theta), []
    for irrep, _ in sectors.occurring(case.space):
        block = np.linalg.eigvalsh(assemble(network_hessian(case, theta, irrep), theta).numpy())
        values.append(np.repeat(block.reshape(-1, irrep.commutant_dim).mean(1), irrep.dim))
    moved = case.augmented()
    dense = np.linalg.eigvalsh(hessian(lambda a: case.loss(a, moved) + case.penalty(a))(at).numpy())
    np.testing.assert_allclose(np.sort(np.concatenate(values)), dense, atol=1e-10 * np.ptp(dense))


@pytest.mark.parametrize("bias", [True, (True, False, True), (False, True, False), (False, False, True)])
@pytest.mark.parametrize("name", ["Z_3²", "S_4", "Q_8"])
def test_the_handwritten_products_are_the_automatic_ones_whichever_layers_are_affine(name, bias):
    case = classification(name, bias, samples=40)
    theta = case.initial(1)
    at = case.space.embed(theta)
    expected = nominal_hessian(case, at)(v := gaussian(2, case.space.dim))
    for chunk in (16, 1000):
        torch.testing.assert_close(network_hessian(case, theta, None, chunk)(v), expected, atol=1e-12, rtol=1e-11)
    on_e = hessian(case.equivariant_risk)(theta)
    torch.testing.assert_close(assemble(hessian_on_e(case, theta), theta), on_e, atol=1e-12, rtol=1e-11)
    assert nominal_gradient_norm(case, theta) == pytest.approx(float(grad(case.risk)(at).norm()), rel=1e-10)


def test_a_bias_behind_the_pooling_only_leaves_the_pooled_and_assembled_routes_alone():
    group = torus(3)
    network = mlp(
        [1 * pixels(group, 3), 2 * pixels(group, 3), 4 * trivial(group)],
        [Pointwise("tanh"), Identity()],
        bias=(False, True),
    )
    assert type(network.space.layers[0]) is FourierLayer
    x, y = gaussian(10, 9), torch.arange(10) % 4
    data = Samples(x, y, torch.full((10,), 0.1, dtype=torch.float64))
    case = supervised("half affine", Classifier(network, cross_entropy), data)
    theta = case.initial(0)
    on_e = hessian(case.equivariant_risk)(theta)
    torch.testing.assert_close(assemble(hessian_on_e(case, theta), theta), on_e, atol=1e-12, rtol=1e-11)


@pytest.mark.parametrize("name", ["Z_3²", "S_3 on pairs"])
def test_flat_families_of_an_affine_network_have_eigenvalue_mu(name):
    case = classification(name)
    at = case.space.embed(case.initial(0))
    kept, listed = flat.verify(case.flat, nominal_hessian(case, at), case.space, case.weight_decay, 1.0, 0)
    assert len(kept) == len(case.flat) == 2
    assert all(d.residual < 1e-12 for d in listed)


def test_an_input_that_never_varies_is_seen_by_the_bias_and_flat_only_beside_it():
    case = classification("C_5")
    x = case.samples.x.clone()
    x[:] = x.mean(1, keepdim=True)  # constant images span one dimension, the bias another
    problem = supervised("constant", case.model, Samples(x, *case.samples[1:]))
    (family,) = (f for f in problem.flat if f.name.startswith("inputs unseen"))
    assert round(float(family.right.trace())) == 6 - 2
    assert float(family.right[-1].abs().max()) < 1e-10


@pytest.mark.parametrize("weight_decay", [0.0, 1e-2])
def test_the_exchanges_of_an_affine_linear_network_are_all_of_its_zero_modes(weight_decay):
    rho = regular(Cyclic(3))
    network = mlp([1 * rho, 2 * rho, 1 * rho], [Identity(), Identity()], bias=True)
    x = gaussian(40, 3)
    y = x @ torch.tensor([[2.0, 0.5, 0.1], [0.1, 2.0, 0.5], [0.5, 0.1, 2.0]], dtype=torch.float64) + 0.7
    data = Samples(x, y, torch.full((40,), 1 / 40, dtype=torch.float64))
    problem = supervised(
        "affine", Classifier(network, squared, target=1 * rho, decides=False), data, weight_decay=weight_decay
    )
    analysis = analyse(problem, Settings(points=1)).analysis
    listed = {d.space: d.count for d in analysis.flat_directions}
    spectra = analysis.spectra["aug"]
    assert {"E": spectra["E"].zero_count, "E_perp": spectra["E_perp"].zero_count} == listed
    assert listed["E"] > 0
    assert analysis.verdict.aug.status == "stable"


def test_biases_shift_against_each_other_without_changing_the_function():
    rho = regular(Cyclic(3))
    network = mlp([rho, 2 * rho, rho], [Identity(), Identity()], bias=True)
    at, x = gaussian(network.space.dim), gaussian(5, 3)
    rows = exchange_directions(network, at, 0.0)
    assert len(rows) == 36 + 6  # gl(6) and one shift for each hidden unit
    slopes = torch.autograd.functional.jacobian(lambda a: network.predict(a, x), at)
    assert (slopes @ rows.mT).abs().max() < 1e-12


def test_the_whole_analysis_of_an_affine_network_agrees_with_itself():
    found = analyse(classification("Z_3²", samples=30), Settings(points=1, escape_iterations=5)).analysis
    measured = {k: v for k, v in found.identities.items() if k not in ("reasons", "feature_average_gap")}
    assert max(measured.values()) < 1e-9
    assert "bias" in found.facts["network"]
    assert found.point.converged


def test_a_wrong_number_of_biases_is_refused():
    rho = regular(Cyclic(3))
    with bad("2 values of bias for 1 layers"):
        mlp([rho, rho], [Identity()], bias=(True, False))


def test_the_lipschitz_bound_of_an_affine_network_holds():
    case = classification("C_5", samples=6)
    theta = case.initial(0)
    at = case.space.embed(theta)
    bound = certificates.lipschitz(case, theta, 0.5)
    whole = hessian(case.risk)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        step = torch.randn(len(at), generator=generator, dtype=torch.float64)
        step *= 0.4 / step.norm()
        change = torch.linalg.matrix_norm(whole(at + step) - whole(at), 2)
        assert 0 < float(change) <= bound * 0.4
