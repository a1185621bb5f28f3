"""Weights off E may make an equivariant function: by which other representation hidden units move is measured."""

from __future__ import annotations

import torch
from torch import nn

import stability
from stability.effects.hidden import hidden_layers, reason, still_equivariant
from stability.groups import Cyclic, Dihedral, images, regular, trivial
from stability.points.describe import equivariance_error
from tests.problems import classification, point_of_e


def sign_problem() -> stability.Problem:
    """C_2 exchanging two inputs; two hidden channels, declared invariant; an invariant output."""
    swap, one = regular(Cyclic(2)), trivial(Cyclic(2))
    network = stability.mlp([swap, 2 * one, one], [stability.Pointwise("tanh"), stability.Identity()])
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return stability.from_network(network, stability.squared, (x, x.sum(1, keepdim=True)), target=one, decides=False)


def measured(problem: stability.Problem, at: torch.Tensor) -> tuple[float, float, str]:
    """The share of the weights off E, the equivariance error, and the reason."""
    share = float(problem.space.transverse_part(at).norm() / at.norm())
    error = equivariance_error(problem, None, at, 0)
    return share, error, reason(hidden_layers(problem, at, share), share)


def test_channels_that_the_group_exchanges_are_found_and_counted():
    problem = sign_problem()
    at = torch.tensor([1.0, 0.3, 0.3, 1.0, 0.7, 0.7], dtype=torch.float64)  # units (x, y) and (y, x), added
    share, error, why = measured(problem, at)
    assert share > 0.1 and error < 1e-12
    assert why == (
        "hidden units move by another representation than declared: in A_0 the group also exchanges 2 of 2 channels"
    )


def test_a_channel_whose_sign_changes_is_found_and_one_that_stays_is_not_counted():
    problem = sign_problem()
    at = torch.tensor([1.0, -1.0, 0.5, 0.5, 0.0, 0.7], dtype=torch.float64)  # unit 0 is odd, and not read
    share, error, why = measured(problem, at)
    assert share > 0.1 and error < 1e-12
    assert why.endswith("in A_0 the group also changes the sign of 1 of 2 channels")


def test_units_that_move_by_another_action_of_the_same_group_are_counted():
    group = Dihedral(4)
    pixels, one = images(group, 4), trivial(group)
    network = stability.mlp([pixels, pixels, one], [stability.Pointwise("tanh"), stability.Identity()])
    x = torch.randn(30, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = x.sum(1, keepdim=True)
    problem = stability.from_network(network, stability.squared, (x, y), target=one, decides=False)
    # Unit at a corner reads the middle of an edge: four units again, but others fix them than fix a corner.
    read = torch.zeros(16, 16, dtype=torch.float64)
    for corner, edge in ((0, (1, 2)), (3, (7, 11)), (15, (13, 14)), (12, (4, 8))):
        read[corner, list(edge)] = 1.0
    at = problem.space.join([read, torch.full((1, 16), 0.25, dtype=torch.float64)])
    share, error, why = measured(problem, at)
    assert share > 0.1 and error < 1e-12
    assert why.endswith("in A_0 the group permutes 4 of 16 units otherwise")


def test_weights_that_no_data_reach_leave_the_hidden_units_as_declared():
    problem = sign_problem()
    flat = torch.ones(20, 2, dtype=torch.float64) * torch.linspace(-1, 1, 20, dtype=torch.float64)[:, None]
    network = problem.model.network
    problem = stability.from_network(network, stability.squared, (flat, flat[:, :1]), target=None, decides=False)
    at = torch.tensor([1.0, 0.2, 0.4, 0.9, 0.7, 0.1], dtype=torch.float64)  # inputs are equal: only sums are read
    share, error, why = measured(problem, at)
    assert share > 0.1 and error < 1e-12
    assert why == "hidden units still move as declared, so what left E acts on nothing that these data reach"


def test_no_reason_is_named_for_a_function_that_is_not_equivariant_and_none_is_needed_on_e():
    problem = classification("D_4")
    on_e = point_of_e(problem)
    off = torch.randn(len(on_e), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    at = on_e + 0.3 * problem.space.transverse_part(off)
    share, error, why = measured(problem, at)
    assert not still_equivariant(error, share) and why == ""
    assert all(x.declared < 1e-12 for x in hidden_layers(problem, on_e, 1.0))


def test_the_channels_of_a_module_are_looked_at_on_their_grid():
    group = Dihedral(4)
    one = trivial(group)
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1, bias=False), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(2, 1, bias=False),
    ).double()  # fmt: skip
    kernel = torch.arange(9.0, dtype=torch.float64).reshape(3, 3)
    turns = [torch.rot90(kernel, k) for k in range(4)]
    whole = sum(turns) + sum(k.flip(1) for k in turns)
    odd = torch.tensor([[0.0, 1, 0], [-1, 0, -1], [0, 1, 0]], dtype=torch.float64)  # a turn changes its sign
    net[0].weight.data = torch.stack([whole / 50, odd])[:, None]
    net[4].weight.data = torch.tensor([[0.5, 0.0]], dtype=torch.float64)
    x = torch.randn(12, 1, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    channels = {"0": (one, 2 * one), "4": (2 * one, one)}
    problem = stability.from_module(net, nn.MSELoss(), (x, x.mean((1, 2, 3), keepdim=True)[:, :, 0, 0]), channels)
    share, error, why = measured(problem, problem.model.given)
    assert share > 0.1 and error < 1e-12
    assert why.endswith("in 0 the group also changes the sign of 1 of 2 channels")


def test_an_escape_keeps_why_its_end_is_equivariant():
    group = Dihedral(4)
    pixels, one = images(group, 4), trivial(group)
    network = stability.mlp([1 * pixels, 2 * pixels, 3 * one], [stability.Pointwise("tanh"), stability.Identity()])
    x = torch.randn(120, 16, generator=torch.Generator().manual_seed(0))
    y = (x > 1.5).sum(1).clamp(max=2)
    outcome = stability.analyse(stability.from_network(network, stability.cross_entropy, (x, y), weight_decay=1e-2))
    found = outcome.analysis.escape
    assert found.equivariant and not found.back and found.share > 0.05 and found.equivariance_error < 1e-6
    assert "4 of 32 units otherwise" in reason(found.hidden, found.share)
    assert outcome.analysis.from_json(outcome.to_json()).escape == found
