"""Forecasts and prescriptions against runs of torch's own optimisers."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from brute import bad, problem
from torch import Tensor
from torch.func import grad, vmap

import stability
from stability.optimisers import updates
from stability.optimisers.blocks import component
from stability.optimisers.draws import Draws, draw
from stability.optimisers.noise import covariance, sample_gradients
from stability.optimisers.outlook import Forecast
from stability.optimisers.prescribe import Prescription
from stability.optimisers.scene import noise_of, scene, second_moment
from stability.optimisers.steps import advance, rest
from stability.points.stationary import gradient_scale, minimise
from stability.problem.problem import Problem
from stability.tasks import TaskOptions, load

RUNS = 200
A_4, D_4 = "A_4 points", "D_4 masks"


@cache
def ground(name: str) -> tuple[Problem, Tensor]:
    case = problem(name)
    return case, minimise(case, case.initial(0), 1e-11 * gradient_scale(case, 0))


def hand() -> tuple[Problem, Tensor]:
    """λ = −1 on E⊥, known by hand."""
    return load("counterexample", TaskOptions()), torch.tensor([0.5, 0.5], dtype=torch.float64)


def distances(
    case: Problem,
    at: Tensor,
    update: updates.Update,
    draws: Draws,
    steps: int,
    gamma: float = 0.0,
    moment: Tensor | None = None,
) -> Tensor:
    """‖A_{E⊥}‖² of many runs after a number of steps; ``moment`` is v late in training, when it moves little."""
    rng, runs = np.random.default_rng(3), at.expand(RUNS, -1).clone()
    state = rest(runs)
    if moment is not None:
        state = state._replace(done=10**6, second=moment.expand(RUNS, -1).clone())
    slope = vmap(grad(lambda a, *parts: case.loss(a, type(case.samples)(*parts))))
    for _ in range(steps):
        parts = [torch.stack(c) for c in zip(*(draw(case, draws, rng) for _ in range(RUNS)), strict=True)]
        pulled = case.weight_decay * runs + gamma * case.space.transverse_part(runs)
        runs, state = advance(update, runs, slope(runs, *parts) + pulled, state)
    return case.space.transverse_part(runs).square().sum(1)


def test_a_forecast_of_the_counterexample_is_the_one_by_hand():
    case, at = hand()
    found = stability.forecast(case, at, torch.optim.SGD([torch.nn.Parameter(at)], lr=0.1), steps=60, start=1e-6)
    assert found.state == "grows"
    assert found.distance[-1] == pytest.approx(1e-6 * 1.1**60, rel=1e-9)
    assert found.low[-1] == pytest.approx(found.high[-1], rel=1e-6)
    later = stability.forecast(case, at, updates.sgd(0.1), steps=200, start=1e-6)
    assert later.state == "leaves"
    assert 1e-6 * 1.1**later.leaves_after > 0.1
    assert Forecast.from_json(later.to_json()) == later
    assert len(later.to_frame()) == len(later.times)
    assert "doubles in 7.27 steps" in str(later)


def test_the_deviation_of_the_point_itself_is_where_a_forecast_starts():
    case, theta = ground(D_4)
    at = case.space.embed(theta) + 1e-4 * case.space.transverse_part(
        torch.ones(case.space.dim).double().cumsum(0).sin()
    )
    found = stability.forecast(case, at, updates.sgd(0.5, 0.9), steps=40)
    weight = torch.nn.Parameter(at.clone())
    optimiser = torch.optim.SGD([weight], lr=0.5, momentum=0.9)
    for _ in range(40):
        weight.grad = grad(case.augmented_risk)(weight.detach())
        optimiser.step()
    ended = float(case.space.transverse_part(weight.detach()).norm()) / found.norm
    assert found.distance[0] == pytest.approx(float(case.space.transverse_part(at).norm()) / found.norm)
    assert found.distance[-1] == pytest.approx(ended, rel=1e-2)
    assert found.distance[-1] != pytest.approx(found.distance[0], rel=0.1)


@pytest.mark.parametrize(
    ("update", "draws"),
    [(updates.sgd(0.02, 0.5), Draws(3, 1, "batch")), (updates.sgd(0.02, 0.5), Draws(None, 1, "sample"))],
    ids=str,
)
def test_the_band_of_a_forecast_holds_the_runs(update, draws):
    case, theta = ground(A_4)
    kind = dict(batch=draws.batch, elements=draws.elements, per=draws.per)
    found = stability.forecast(case, theta, update, steps=30, **kind)
    far = distances(case, case.space.embed(theta), update, draws, 30).sqrt() / found.norm
    assert math.sqrt(float((far**2).mean())) == pytest.approx(found.distance[-1], rel=0.1)
    inside = float(((far > found.low[-1]) & (far < found.high[-1])).double().mean())
    assert 0.65 < inside < 0.95  # the band is made for 0.8


def test_the_second_moment_of_a_step_is_that_of_drawn_steps():
    case, theta = ground(D_4)
    place, update, rng = scene(case, theta), updates.adam(decay=0.1), np.random.default_rng(0)
    for draws in (Draws(None, 1, "batch"), Draws(3, 2, "sample"), Draws(3, 1, "batch"), Draws(2)):
        drawn = torch.stack(
            [
                grad(case.loss)(place.at, draw(case, draws, rng)) + (case.weight_decay + 0.1) * place.at
                for _ in range(800)
            ]
        )
        squares = case.space.equivariant_part(drawn.square().mean(0))  # permutations: the mean over orbits
        found = second_moment(place, update, draws)
        assert float((found - squares).norm() / squares.norm()) < 0.1


def test_the_noise_of_a_scene_is_that_of_the_law():
    case, theta = ground(A_4)
    place, gradients = scene(case, theta), sample_gradients(case, case.space.embed(theta))
    for draws in (Draws(), Draws(None, 2), Draws(3, 1, "batch"), Draws(3, 2, "sample"), Draws(None, 1, "sample")):
        for block, noise in zip(place.blocks, noise_of(place, draws), strict=True):
            assert torch.allclose(noise, covariance(case, block.irrep, gradients, draws), atol=1e-14)


def test_adam_grows_a_step_as_forecast_late_in_training():
    """At the step that is 1.2 times too long, torch's own Adam with the v of its draws, against the forecast."""
    case, theta = ground(D_4)
    place = scene(case, theta)
    moment = second_moment(place, updates.adam(), Draws(None, 1))
    slow = stability.forecast(case, theta, updates.adam(1e-6), steps=1, start=1e-6, second_moment=moment)
    step = 1.2 * min(s.multiplier.turns for s in slow.sectors)
    found = stability.forecast(case, theta, updates.adam(step), steps=1, start=1e-6, second_moment=moment)
    assert found.state in ("grows", "leaves")
    growth = max(s.multiplier.growth for s in found.sectors)
    push = 1e-7 * case.space.transverse_part(torch.linspace(-1, 1, case.space.dim, dtype=torch.float64) ** 3)
    weight = torch.nn.Parameter(place.at + push)
    optimiser = torch.optim.Adam([weight], lr=step)
    held = {"step": torch.tensor(1e6), "exp_avg": 0 * push, "exp_avg_sq": moment.clone()}
    optimiser.state[weight].update(held)
    far = []
    for _ in range(12):
        weight.grad = grad(case.augmented_risk)(weight.detach())
        optimiser.step()
        far.append(float(case.space.transverse_part(weight.detach()).norm()))
    assert far[-1] / far[-2] == pytest.approx(growth, rel=0.05)


def test_a_prescribed_penalty_holds_and_half_of_it_does_not():
    case, theta = ground(A_4)
    update, draws = updates.sgd(0.02, 0.5), Draws(3, 1, "batch")
    found = stability.prescribe(case, theta, update, keep=3e-2, steps=32, batch=3, elements=1)
    assert found.as_is > 3e-2
    (penalty,) = (r for r in found.remedies if r.name == "penalty")
    norm, reached = float(theta.norm()), {}
    for share in (0.5, 1.0):
        far = distances(case, case.space.embed(theta), update, draws, 32, share * penalty.value)
        reached[share] = math.sqrt(float(far.mean())) / norm
    assert reached[1.0] < 1.1 * 3e-2 < reached[0.5]
    assert penalty.distance <= 3e-2
    assert Prescription.from_json(found.to_json()) == found
    assert found.cheapest in {r.name for r in found.remedies}


def test_a_penalty_prescribed_for_adamw_holds_in_runs_of_it_and_half_of_it_does_not():
    case, theta = ground(A_4)
    update, draws = updates.adamw(2e-3, (0.5, 0.9999), decay=1e-3), Draws(3, 1, "batch")
    moment = second_moment(scene(case, theta), update, draws)
    found = stability.prescribe(case, theta, update, keep=1e-2, steps=64, batch=3, elements=1, start=0.0)
    assert found.as_is > 1e-2
    (penalty,) = (r for r in found.remedies if r.name == "penalty")
    reached = {}
    for share in (0.5, 1.0):
        far = distances(case, case.space.embed(theta), update, draws, 64, share * penalty.value, moment)
        reached[share] = math.sqrt(float(far.mean())) / float(theta.norm())
    assert reached[1.0] < 1.15 * 1e-2 < reached[0.5]
    names = {r.name: r for r in found.remedies}
    assert names["momentum"].cost in (1.0, None), "Adam's momentum is a mean: less of it slows nothing down"
    k = int(names["elements"].value)
    kind = dict(steps=64, batch=3, start=0.0)
    assert max(stability.forecast(case, theta, update, elements=k, **kind).distance) <= 1e-2
    assert max(stability.forecast(case, theta, update, elements=k - 1, **kind).distance) > 1e-2


def test_every_prescribed_setting_holds_the_bound_in_a_forecast_of_its_own():
    case, theta = ground(A_4)
    found = stability.prescribe(case, theta, updates.sgd(0.02, 0.5), keep=4e-2, steps=64, batch=3, elements=1)
    by_name = {r.name: r for r in found.remedies}

    def reached(step: float = 0.02, momentum: float = 0.5, decay: float = 0.0, steps: int = 64, **kind) -> float:
        kind = dict(batch=3, elements=1) | kind
        made = stability.forecast(case, theta, updates.sgd(step, momentum, decay=decay), steps=steps, **kind)
        return max(made.distance)

    assert reached() > 4e-2
    assert (
        reached(elements=int(by_name["elements"].value)) <= 4e-2 < reached(elements=int(by_name["elements"].value) - 1)
    )
    assert reached(decay=by_name["decay"].value) <= 4e-2 * (1 + 1e-9)
    slower = by_name["step"]
    assert reached(step=slower.value, steps=round(64 * slower.cost)) <= 4e-2 * (1 + 1e-9)
    assert slower.cost == pytest.approx(0.02 / slower.value)
    assert reached(steps=int(by_name["projection"].value)) <= 4e-2


def test_where_nothing_is_needed_nothing_is_prescribed():
    case, theta = ground(D_4)
    found = stability.prescribe(case, theta, updates.sgd(0.05), start=1e-5, steps=100)
    assert (found.cheapest, found.remedies) == ("nothing", ())


def test_an_update_that_does_not_commute_leaves_at_a_speed_and_not_by_a_multiplier():
    from test_optimisers_rehearsal import turned

    case = turned(5)
    found = stability.forecast(case, case.initial(0), updates.adam(1e-3), steps=10, elements=1)
    assert found.state == "leaves"
    assert found.sectors == () == found.times
    assert found.leaves_after == math.ceil(0.1 * found.norm / found.commutation.speed)
    assert "does not commute" in str(found)


def test_a_negative_eigenvalue_need_not_be_seen():
    """λ_min < 0, and yet within the steps of a short run nothing shows: the number that says so beforehand."""
    case, at = hand()
    found = stability.forecast(case, at, updates.sgd(1e-4, 0.9), steps=500, start=1e-6)
    assert found.sectors[0].multiplier.state == "grows"
    assert found.state == "grows" and found.leaves_after is None
    assert found.distance[-1] < 2e-6


def test_what_closed_forms_do_not_reach_is_refused():
    case, theta = ground(D_4)
    with bad("second moment vanishes"):
        stability.forecast(case, theta, updates.adam(), start=1e-4)
    with bad("second moment vanishes"):
        stability.prescribe(case, theta, updates.adam(), start=1e-4)
    with bad("no linear map of the gradient"):
        stability.prescribe(case, theta, updates.muon(), start=1e-4)
    with bad("beyond keep"):
        stability.prescribe(case, theta, updates.sgd(0.1), start=0.1)
    with bad("second_moment: shape"):
        stability.forecast(case, theta, updates.adam(), second_moment=torch.ones(3))
    with bad("it is no linear map|no linear map of the gradient"):
        stability.forecast(case, theta, updates.muon(), start=1e-4)


def test_components_of_the_noise_are_counted_once():
    case, theta = ground(A_4)
    found = stability.forecast(case, theta, updates.sgd(0.01), steps=1, elements=1)
    at = case.space.embed(theta)
    mean = case.samples.weight @ sample_gradients(case, at)
    for block, sector in zip(scene(case, theta).blocks, found.sectors, strict=True):
        assert sector.noise == pytest.approx(float(component(case.space, block.irrep, mean).norm()), rel=1e-9)
