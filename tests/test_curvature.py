"""Hessian-vector products against dense autograd Hessians, two routes to R^aug against each other."""

from __future__ import annotations

import pytest
import torch
from problems import REPRESENTATIONS, classification, point_of_e, regression
from torch.func import grad, hessian, linearize

from stability.base.errors import NotFinite, StaleLinearisation
from stability.curvature.automatic import (
    augmented_hessian_from_data,
    augmented_hessian_from_group,
    check_product,
    compress,
    equivariant_hessian,
    group_average,
    nominal_hessian,
    transverse,
)
from stability.eigen.operator import Operator, assemble

MAKERS = [classification, regression]


def brute_augmented_hessian(problem, at):
    """∇² of the loss on data moved by every element, by torch.func.hessian."""
    return hessian(problem.augmented_risk)(at)


@pytest.mark.parametrize("name", REPRESENTATIONS)
@pytest.mark.parametrize("maker", MAKERS)
def test_both_routes_to_the_augmented_hessian_equal_the_dense_hessian_of_augmented_data(maker, name):
    problem = maker(name)
    at = point_of_e(problem)
    dense = brute_augmented_hessian(problem, at)
    nominal = nominal_hessian(problem, at)
    scale = dense.abs().max()
    unit = torch.eye(len(at), dtype=at.dtype)
    assert (augmented_hessian_from_data(problem, at)(unit) - dense).abs().max() <= 1e-12 * scale
    assert (augmented_hessian_from_group(problem, nominal)(unit) - dense).abs().max() <= 1e-12 * scale
    averaged = group_average(assemble(nominal, at), problem.space, problem.group)
    assert (averaged - dense).abs().max() <= 1e-12 * scale


@pytest.mark.parametrize("maker", MAKERS)
def test_off_the_equivariant_subspace_only_the_data_route_is_the_augmented_hessian(maker):
    problem = maker("D_4")
    at = point_of_e(problem)
    at = at + 0.5 * torch.randn(len(at), generator=torch.Generator().manual_seed(0), dtype=at.dtype)
    dense = brute_augmented_hessian(problem, at)
    v = torch.randn(3, len(at), generator=torch.Generator().manual_seed(1), dtype=at.dtype)
    assert torch.allclose(augmented_hessian_from_data(problem, at)(v), v @ dense, atol=1e-12)
    wrong = augmented_hessian_from_group(problem, nominal_hessian(problem, at))(v)
    assert (wrong - v @ dense).norm() > 1e-3 * (v @ dense).norm()


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_proposition_2_and_lemma_6_hold_on_E(name):
    problem = classification(name)
    space, at = problem.space, point_of_e(problem)
    dense, nominal = brute_augmented_hessian(problem, at), hessian(problem.risk)(at)
    basis = space.embed(torch.eye(space.dim_equivariant, dtype=at.dtype))
    scale = nominal.abs().max()
    # On E the augmented and the nominal Hessian agree; E and E⊥ do not couple.
    assert (basis @ (dense - nominal) @ basis.mT).abs().max() <= 1e-12 * scale
    off = torch.eye(len(at), dtype=at.dtype) - basis.mT @ basis
    assert (basis @ dense @ off).abs().max() <= 1e-12 * scale
    # ∇²R^eqv = Π_E∇²RΠ_E, through the equivariant layers.
    on_e = assemble(equivariant_hessian(problem, space.project(at)), at)
    assert (on_e - basis @ nominal @ basis.mT).abs().max() <= 1e-12 * scale


def test_restrictions_are_what_their_formulas_say():
    problem = classification("S_4")
    space, at = problem.space, point_of_e(problem)
    nominal = nominal_hessian(problem, at)
    dense = assemble(nominal, at)
    basis = space.embed(torch.eye(space.dim_equivariant, dtype=at.dtype))
    off = torch.eye(len(at), dtype=at.dtype) - basis.mT @ basis
    unit = torch.eye(len(at), dtype=at.dtype)
    assert torch.allclose(compress(nominal, space)(unit[: len(basis), : len(basis)]), basis @ dense @ basis.mT)
    assert torch.allclose(transverse(nominal, space)(unit), off @ dense @ off, atol=1e-13)


def test_gradient_kept_by_the_linearisation_is_the_gradient():
    problem = regression("C_5", weight_decay=0.3)
    at = point_of_e(problem)
    assert torch.allclose(nominal_hessian(problem, at).gradient, grad(problem.risk)(at), atol=1e-14)


@pytest.mark.parametrize("chunk", [1, 5, 12])
def test_chunks_of_samples_do_not_change_a_product(chunk):
    problem = classification("Z_3²")
    at = point_of_e(problem)
    v = torch.randn(4, len(at), generator=torch.Generator().manual_seed(0), dtype=at.dtype)
    assert torch.allclose(nominal_hessian(problem, at, chunk)(v), nominal_hessian(problem, at)(v), atol=1e-14)
    data = augmented_hessian_from_data(problem, at, chunk)(v)
    assert torch.allclose(data, augmented_hessian_from_data(problem, at)(v), atol=1e-14)


def test_a_linearised_product_agrees_with_one_from_scratch():
    problem = classification("Z_3²")
    at = point_of_e(problem)
    operator = nominal_hessian(problem, at)
    operator(torch.eye(len(at), dtype=at.dtype)[:3])
    assert check_product(operator, problem.loss, at, problem.samples, problem.weight_decay, 0) < 1e-12


def test_a_product_that_goes_stale_after_its_first_call_is_an_error():
    problem = classification("Z_3²")
    at = point_of_e(problem)
    right = nominal_hessian(problem, at)
    calls = []

    def stale(v):
        calls.append(len(v))
        return right(v) * (1.0 if len(calls) == 1 else 1.001)

    operator = Operator(len(at), stale, "stale")
    operator(at)
    with pytest.raises(StaleLinearisation, match="from scratch"):
        check_product(operator, problem.loss, at, problem.samples, problem.weight_decay, 0)


def test_an_operator_that_is_not_symmetric_is_an_error():
    skew = torch.tensor([[1.0, 2.0], [0.0, 1.0]], dtype=torch.float64)
    with pytest.raises(StaleLinearisation, match="not symmetric"):
        assemble(Operator(2, lambda v: v @ skew, "skew"), skew)


def test_the_trap_of_linearize_with_an_in_place_loss_is_caught_or_gone():
    """binary_cross_entropy_with_logits under torch.func.linearize: wrong from the second call on (torch 2.13)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    y = (torch.rand(20, generator=generator) > 0.5).double()

    def loss(a, samples=None):
        return torch.nn.functional.binary_cross_entropy_with_logits(torch.tanh(x @ a), y)

    at = torch.randn(3, generator=generator, dtype=torch.float64)
    _, product = linearize(grad(loss), at)
    operator = Operator(3, lambda v: torch.stack([product(row) for row in v]), "linearize")
    operator(torch.eye(3, dtype=torch.float64))
    truth = hessian(loss)(at)
    went_wrong = not (operator.apply(torch.eye(3, dtype=torch.float64)) - truth).abs().max() <= 1e-8  # NaN is wrong too
    if went_wrong:
        with pytest.raises((StaleLinearisation, NotFinite)):
            check_product(operator, loss, at, None, 0.0, 0)
    else:
        assert check_product(operator, loss, at, None, 0.0, 0) < 1e-8
