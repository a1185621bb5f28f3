"""The second moment of the distance from E under drawn batches and elements, against runs that draw them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from brute import bad, problem
from torch import Tensor
from torch.func import grad, vmap

from stability import Identity, from_network, mlp, squared
from stability.groups import Cyclic, PermutationRepresentation, trivial
from stability.optimisers import updates
from stability.optimisers.blocks import component, resolve
from stability.optimisers.draws import Draws, draw, scatter
from stability.optimisers.feedback import feedback
from stability.optimisers.multipliers import companion, kick
from stability.optimisers.noise import covariance, energy, gains, isotropic, kept, sample_gradients, stirred
from stability.optimisers.steps import advance, rest
from stability.points.stationary import gradient_scale, minimise
from stability.problem.problem import Problem
from stability.spectra import sectors

RUNS, STEPS = 250, 20


@cache
def ground(name: str) -> tuple[Problem, Tensor]:
    case = problem(name)
    return case, minimise(case, case.initial(0), 1e-11 * gradient_scale(case, 0))


def simulated(case: Problem, start: Tensor, update: updates.Update, draws: Draws, steps: int) -> Tensor:
    """Where ``RUNS`` runs of the real risk stand after a number of steps, (RUNS, dim L)."""
    rng = np.random.default_rng(1)
    at, state = start.expand(RUNS, -1).clone(), rest(start.expand(RUNS, -1).clone())
    slope = vmap(grad(lambda a, *parts: case.loss(a, type(case.samples)(*parts))))
    for _ in range(steps):
        drawn = [draw(case, draws, rng) for _ in range(RUNS)]
        parts = [torch.stack(column) for column in zip(*drawn, strict=True)]
        at, state = advance(update, at, slope(at, *parts) + case.weight_decay * at, state)
    return at


@pytest.mark.parametrize(
    ("name", "update", "draws"),
    [
        ("A_4 points", updates.sgd(0.04, 0.5), Draws(None, 1, "batch")),
        ("A_4 points", updates.sgd(0.04, 0.5), Draws(3, 2, "sample")),
        ("Q_8 quaternions", updates.sgd(0.05), Draws(4, 1, "batch")),
        ("D_4 masks", updates.sgd(0.01, 0.8, nesterov=True, decay=0.05), Draws(None, 1, "sample")),
    ],
    ids=str,
)
def test_runs_that_draw_are_as_far_from_e_as_the_law_says(name, update, draws):
    case, theta = ground(name)
    at = case.space.embed(theta)
    gradients = sample_gradients(case, at)
    away = simulated(case, at, update, draws, STEPS) - at
    law = feedback(case, theta, update, draws)
    whole = law.by_sector(law.after(STEPS))
    assert float(away.square().sum(1).mean()) < 0.1 * float(at.square().sum())  # it stays linear
    compared = 0
    for block in resolve(case, theta, decay=update.coupled):
        additive = stirred(block, update, covariance(case, block.irrep, gradients, draws), STEPS)
        found = torch.stack([component(case.space, block.irrep, a).square().sum() for a in away])
        mean, error = float(found.mean()), float(found.std() / RUNS**0.5)
        if mean > 1e-12:
            compared += 1
            assert whole[block.irrep.name] == pytest.approx(mean, rel=0.1, abs=3 * error)
            assert additive.squared <= whole[block.irrep.name] * (1 + 1e-9)  # drawn Hessians add, they never take
            assert additive.squared == pytest.approx(mean, rel=0.2, abs=3 * error)
    assert compared


def test_a_batch_law_is_not_the_sample_law():
    """The comparison above can fail: the two ways of drawing differ by more than its tolerance."""
    case, theta = ground("A_4 points")
    gradients = sample_gradients(case, case.space.embed(theta))
    (first, *_) = resolve(case, theta)
    traces = [float(covariance(case, first.irrep, gradients, Draws(None, 1, w)).trace()) for w in ("batch", "sample")]
    assert max(traces) > 1.14 * min(traces)


@pytest.mark.parametrize("name", ["A_4 points", "Q_8 quaternions"])
def test_the_blocks_of_the_covariance_are_those_of_the_dense_average(name):
    """Real, complex and quaternionic sectors: traces of all blocks against the noise of every element, one by one."""
    case, theta = ground(name)
    at = case.space.embed(theta)
    gradients = sample_gradients(case, at)
    mean = case.samples.weight @ gradients
    for irrep, _ in sectors.occurring(case.space):
        block = covariance(case, irrep, gradients, Draws(None, 1, "batch"))
        moved = [component(case.space, irrep, case.space.act(g, mean)) for g in case.group.elements()]
        dense = float(torch.stack(moved).square().sum(1).mean())
        assert irrep.dim / irrep.commutant_dim * float(block.trace()) == pytest.approx(dense, abs=1e-12)


@pytest.mark.parametrize("update", [updates.sgd(0.4), updates.sgd(0.2, 0.7), updates.adamw(0.3, decay=0.1)], ids=str)
def test_gains_are_sums_of_powers_and_have_their_limit(update):
    h = torch.tensor([0.3, 0.9, 1.4], dtype=torch.float64)
    m, k = companion(update, h), kick(update)
    total, way = torch.zeros(3, 3, dtype=torch.float64), k.expand(3, 2)
    for _ in range(11):
        total += torch.outer(way[:, 0], way[:, 0])
        way = (m @ way[..., None])[..., 0]
    assert torch.allclose(gains(update, h, 11), total, atol=1e-12)
    assert torch.allclose(gains(update, h, 4000), gains(update, h, None), rtol=1e-9)
    assert torch.isinf(gains(update, -h, None)).all()
    if update == updates.sgd(0.4):  # the textbook's τ²/(1 − (1 − τh)²)
        assert torch.allclose(gains(update, h, None).diagonal(), 0.16 / (1 - (1 - 0.4 * h) ** 2))


def test_a_deviation_moves_as_exact_steps_move_it():
    case, theta = ground("D_4 masks")
    at, update, steps = case.space.embed(theta), updates.sgd(0.3, 0.8), 25
    y = 1e-5 * case.space.transverse_part(torch.linspace(-1, 1, case.space.dim, dtype=torch.float64) ** 3)
    path, state, data = at + y, rest(at), draw(case, Draws(), np.random.default_rng(0))
    for _ in range(steps):
        path, state = advance(update, path, grad(case.loss)(path, data) + case.weight_decay * path, state)
    for block in resolve(case, theta):
        start = component(case.space, block.irrep, y)
        end = component(case.space, block.irrep, path - at)
        assert kept(block, update, energy(case, block, y), 0).squared == pytest.approx(float(start.square().sum()))
        predicted = kept(block, update, energy(case, block, y), steps).squared
        assert predicted == pytest.approx(float(end.square().sum()), rel=1e-3)
        dims = case.space.dim - case.space.dim_equivariant
        share = block.copies * len(block.values) / dims
        assert kept(block, update, isotropic(block, 1.0, dims), 0).squared == pytest.approx(share)


def line(offset: float) -> Problem:
    """C_2 swaps two weights; a sample pulls on a_1 − a_2 with a curvature of its own, (1 ± offset)."""
    swap = PermutationRepresentation(Cyclic(2), 2, lambda g: [g, 1 - g], "swap")
    one = trivial(swap.group)
    network = mlp([1 * one, 1 * swap], [Identity()])
    x = torch.tensor([[(1 + offset) ** 0.5], [(1 - offset) ** 0.5]], dtype=torch.float64)
    return from_network(network, squared, (x, torch.ones(2, 2, dtype=torch.float64)), target=1 * swap, decides=False)


def test_drawn_hessians_alone_can_drive_a_network_off_e():
    """By hand: h = 1 ± o with equal odds, E(1 − τh)² = (1 − τ)² + τ²o² passes one below τ = 2, at 2/(1 + o²)."""
    case, draws = line(0.8), Draws(1, 1, "batch")
    theta = minimise(case, case.initial(0), 1e-12)
    edge = 2 / (1 + 0.8**2)
    radii = [feedback(case, theta, updates.sgd(share * edge), draws).radius() for share in (0.5, 0.99, 1.01)]
    assert radii[0] < radii[1] < 1 < radii[2]
    for share, radius in zip((0.5, 0.99), radii, strict=False):
        tau = share * edge
        assert radius == pytest.approx(tau**2 * 0.64 / (1 - (1 - tau) ** 2), rel=1e-6)
    assert feedback(case, theta, updates.sgd(1.01 * edge), draws).stationary() is None


def test_the_long_run_is_where_many_steps_lead():
    case, theta = ground("A_4 points")
    draws = Draws(2, 1, "sample")
    lift = 0.3 - min(float(b.values[0]) for b in resolve(case, theta))
    calm = feedback(case, theta, updates.sgd(0.1, decay=lift), draws)
    y = calm.stationary()
    assert torch.allclose(calm.after(200), y, rtol=1e-3, atol=1e-5 * float(y.trace()))
    assert float(y.trace()) > 1.01 * float((gains(calm.update, calm.values, None) * calm.additive).trace())


def test_what_no_loader_draws_is_refused():
    case, _ = ground("A_4 points")
    with bad("batches of 99 from 7 samples"):
        feedback(case, case.initial(0), updates.sgd(0.1), Draws(99, 1))
    with bad("draws: per"):
        Draws(per="epoch")
    with bad("whole number ≥ 1"):
        Draws(elements=0)
    assert scatter(case, Draws()) == 0
