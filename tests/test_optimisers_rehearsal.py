"""A rehearsal finds the closed form's growth where there is one; rules that mix nothing with rotations leave E."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from brute import bad, problem
from torch import Tensor

from stability import Identity, from_network, mlp, squared
from stability.groups import Cyclic, MatrixRepresentation, PermutationRepresentation, trivial
from stability.optimisers import updates
from stability.optimisers.blocks import resolve
from stability.optimisers.commutes import commutation, exact_gradient
from stability.optimisers.draws import Draws
from stability.optimisers.multipliers import of_block
from stability.optimisers.rehearsal import exponent_of, rehearse
from stability.optimisers.steps import advance, denominator, rest
from stability.points.stationary import gradient_scale, minimise
from stability.problem.problem import Problem
from stability.tasks import TaskOptions, load


@cache
def ground(name: str) -> tuple[Problem, Tensor]:
    case = problem(name)
    return case, minimise(case, case.initial(0), 1e-11 * gradient_scale(case, 0))


def unstable() -> tuple[Problem, Tensor]:
    """λ = −1 on E⊥, known by hand."""
    case = load("counterexample", TaskOptions())
    return case, case.space.project(torch.tensor([0.5, 0.5], dtype=torch.float64))


@pytest.mark.parametrize(
    "update", [updates.sgd(0.1), updates.sgd(0.1, 0.9), updates.sgd(0.1, 0.5, nesterov=True)], ids=str
)
@pytest.mark.parametrize("way", ["jvp", "difference"])
def test_the_exponent_under_exact_augmentation_is_the_logarithm_of_the_growth(update, way):
    case, theta = unstable()
    (block,) = resolve(case, theta)
    found = rehearse(case, theta, update, way=way, steps=40, settle=60)
    assert found.state == "grows"
    assert found.exponent == pytest.approx(math.log(of_block(block, update).growth), abs=1e-7)


@pytest.mark.parametrize("name", ["A_4 points", "Q_8 quaternions"])
def test_every_sector_has_its_own_exponent(name):
    """Real, complex and quaternionic sectors, at a step so long that the top eigenvalue leads and is found at once."""
    case, theta = ground(name)
    blocks = list(resolve(case, theta))
    update = updates.sgd(2.5 / max(float(b.values[-1]) for b in blocks), decay=0.01)
    for block in resolve(case, theta, decay=update.coupled):
        found = rehearse(case, theta, update, irrep=block.irrep, steps=40, settle=300)
        assert found.irrep == block.irrep.name
        assert found.exponent == pytest.approx(math.log(of_block(block, update).growth), abs=2e-3)


def whole_adam(case: Problem, triple: Tensor) -> Tensor:
    """(A, m, v) ↦ the same after a step of torch's own Adam, late in training."""
    at, first, second = triple.chunk(3)
    weight = torch.nn.Parameter(at.clone())
    optimiser = torch.optim.Adam([weight], lr=1e-2, betas=(0.5, 0.9))
    held = {"step": torch.tensor(1e6), "exp_avg": first.clone(), "exp_avg_sq": second.clone()}
    optimiser.state[weight] = held
    weight.grad = exact_gradient(case, at)
    optimiser.step()
    return torch.cat([weight.detach(), held["exp_avg"], held["exp_avg_sq"]])


def test_adam_is_rehearsed_with_its_second_moment():
    """Off rest the denominator moves to first order: the exponent is that of the whole Jacobian, no frozen P's."""
    case = load("counterexample", TaskOptions())
    theta = case.space.project(torch.tensor([0.9, 0.9], dtype=torch.float64))
    at, update = case.space.embed(theta), updates.adam(1e-2, (0.5, 0.9))
    gradient = exact_gradient(case, at)
    triple = torch.cat([at, gradient, gradient**2])  # the state that a gradient which stays leads to
    columns = [
        (whole_adam(case, triple + 1e-6 * e) - whole_adam(case, triple - 1e-6 * e)) / 2e-6
        for e in torch.eye(6, dtype=torch.float64)
    ]
    across = torch.kron(torch.eye(3, dtype=torch.float64), torch.tensor([[1.0], [-1.0]], dtype=torch.float64) / 2**0.5)
    radius = float(torch.linalg.eigvals(across.mT @ torch.stack(columns, 1) @ across).abs().max())
    held = rest(at)._replace(count=10**6, first=gradient, second=gradient**2)
    moved = rehearse(case, theta, update, state=held, steps=40, settle=400)
    assert moved.growth == pytest.approx(radius, abs=1e-6)
    (block,) = resolve(case, theta, preconditioner=1 / denominator(update, held))
    assert abs(of_block(block, update).growth - radius) > 1e-4  # the frozen one would be wrong here


@pytest.mark.parametrize(("tau", "above"), [(0.5, False), (2.1, True)])
def test_under_noise_the_exponent_is_the_mean_logarithm_known_by_hand(tau, above):
    """Curvatures 1.8 and 0.2 with equal odds: (log|1 − 1.8τ| + log|1 − 0.2τ|)/2, on either side of log|1 − τ|."""
    swap = PermutationRepresentation(Cyclic(2), 2, lambda g: [g, 1 - g], "swap")
    network = mlp([1 * trivial(swap.group), 1 * swap], [Identity()])
    data = torch.tensor([[1.8**0.5], [0.2**0.5]], dtype=torch.float64), torch.ones(2, 2, dtype=torch.float64)
    case = from_network(network, squared, data, target=1 * swap, decides=False)
    found = [
        rehearse(case, case.initial(0), updates.sgd(tau), draws=Draws(1, 1, "batch"), steps=600, settle=0)
        for _ in range(2)
    ]
    assert found[0] == found[1]  # the same seed, the same run
    by_hand = (math.log(abs(1 - 1.8 * tau)) + math.log(abs(1 - 0.2 * tau))) / 2
    assert abs(found[0].exponent - by_hand) < 4 * found[0].error < 0.4
    assert (by_hand > math.log(abs(1 - tau))) == above


def test_a_point_that_is_led_moves_along_e_and_one_that_is_held_does_not():
    case = load("counterexample", TaskOptions())
    theta = case.space.project(torch.tensor([0.7, 0.7], dtype=torch.float64))
    held, led = (rehearse(case, theta, updates.sgd(0.1), lead=lead, steps=20, settle=80) for lead in (False, True))
    (there,) = resolve(case, theta)
    (end,) = resolve(*unstable())
    assert held.exponent == pytest.approx(math.log(of_block(there, updates.sgd(0.1)).growth), abs=1e-9)
    assert led.exponent == pytest.approx(math.log(of_block(end, updates.sgd(0.1)).growth), abs=1e-4)
    assert abs(held.exponent - led.exponent) > 1e-2


def test_within_three_errors_of_zero_an_exponent_decides_nothing():
    noise = np.random.default_rng(0).standard_normal(400)
    assert exponent_of("λ", noise - noise.mean() + 0.01).state == "undecided"
    assert exponent_of("λ", noise - noise.mean() + 1.0).state == "grows"
    assert exponent_of("λ", noise - noise.mean() - 1.0).state == "shrinks"


def turned(n: int) -> Problem:
    """C_n turns planes; for n = 4 by a signed permutation, (x, y) ↦ (−y, x), for n = 5 weights are mixed."""
    angle = 2 * math.pi / n
    m = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    plane = MatrixRepresentation(Cyclic(n), 2, lambda g: np.linalg.matrix_power(m, g), f"turn by {n}")
    network = mlp([2 * plane, 2 * plane + 1 * trivial(plane.group), 1 * plane], [Identity(), Identity()])
    x, y = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return from_network(network, squared, (x, y[:, :2]), target=1 * plane, decides=False)


@pytest.mark.parametrize(
    ("update", "permuted", "rotated"),
    [
        (updates.sgd(0.1), True, True),
        (updates.sgd(0.1, 0.9, nesterov=True, decay=0.1), True, True),
        (updates.adam(), True, False),
        (updates.adamw(), True, False),
        (updates.rmsprop(momentum=0.9), True, False),
        (updates.muon(), True, True),
    ],
    ids=str,
)
def test_elementwise_rules_commute_with_permutations_and_not_with_rotations_that_mix_weights(update, permuted, rotated):
    cases = problem("D_4 masks"), turned(5)
    found = [commutation(case, update, case.initial(0)) for case in cases]
    assert [f.commutes for f in found] == [permuted, rotated]
    for one in found:
        assert (one.violation < 1e-9) if one.commutes else (one.violation > 1e-2)


def test_the_speed_at_which_adam_leaves_e_is_that_of_its_own_steps():
    """One step of fresh Adam is τ sign(g): what of it lies across E needs no program to be known."""
    case = turned(5)
    theta, update = case.initial(0), updates.adam(1e-3)
    found = commutation(case, update, theta)
    at = case.space.embed(theta)
    path, state = at, rest(at)
    gradient = exact_gradient(case, at)
    assert float(case.space.transverse_part(gradient).norm()) < 1e-12 * float(gradient.norm())
    path, state = advance(update, path, gradient, state)
    first = float(case.space.transverse_part(-1e-3 * gradient.sign()).norm())
    assert float(case.space.transverse_part(path - at).norm()) == pytest.approx(first, rel=1e-4)
    assert found.speed == pytest.approx(first, rel=0.05)  # the mean of three steps
    even = problem("D_4 masks")
    assert commutation(even, update, even.initial(0)).speed < 1e-12


def test_a_signed_permutation_is_as_good_as_a_permutation_for_adam():
    for n, commutes in ((4, True), (5, False)):
        case = turned(n)
        assert commutation(case, updates.adam(), case.initial(0)).commutes == commutes


def test_what_cannot_be_rehearsed_is_refused():
    case, theta = unstable()
    with bad("rehearse: way"):
        rehearse(case, theta, updates.sgd(0.1), way="guess")
    with bad("rehearse: steps"):
        rehearse(case, theta, updates.sgd(0.1), steps=3)
