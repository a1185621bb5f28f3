"""analyses.augmentation: the laws of Remark 1 against all draws of small groups, one after the other."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch
from brute import augmented_risk, risk
from problems import REPRESENTATIONS, classification, point_of_e, regression
from torch.func import grad, hessian

from analyses.studies.augmentation import __main__ as command
from analyses.studies.augmentation import laws, measure, sampling, words
from stability.problem.problem import Problem
from stability.problem.space import Samples

BATCH = 6  # of 12 samples: two mini-batches


def pieces(problem: Problem, mode: str) -> list[Problem]:
    """The problem on each mini-batch alone, without decay."""
    size = len(problem.samples) if mode == "pass" else BATCH
    cut = range(0, len(problem.samples), size)
    parts = [Samples(*(t[i : i + size] for t in problem.samples)) for i in cut]
    return [dataclasses.replace(problem, samples=p, weight_decay=0.0) for p in parts]


def moved_derivatives(problem: Problem, at: torch.Tensor, mode: str, derivative) -> torch.Tensor:
    """(B, |G|, …): derivatives of R_b on data moved by g, from the definition."""
    return torch.stack(
        [
            torch.stack([derivative(lambda a, p=p, g=g: risk(p, a, g))(at) for g in problem.group.elements()])
            for p in pieces(problem, mode)
        ]
    )


def mean_over_all_draws(derivatives: torch.Tensor, elements: int) -> float:
    """E‖X_K − E X_K‖² by enumeration of every joint draw of every mini-batch in every pass."""
    count, order = derivatives.shape[:2]
    flat = derivatives.reshape(count, order, -1)
    limit = flat.mean(1).sum(0)
    total, number = 0.0, 0
    for draw in itertools.product(range(order), repeat=count * elements):
        chosen = sum(flat[i % count, g] for i, g in enumerate(draw)) / elements
        total += float((chosen - limit).square().sum())
        number += 1
    return total / number


@pytest.mark.parametrize("mode", measure.MODES)
@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_the_law_of_gradients_is_the_mean_over_all_draws(name, mode):
    for make in (classification, regression):
        problem = make(name, weight_decay=1e-2)
        at = point_of_e(problem)
        expected = mean_over_all_draws(moved_derivatives(problem, at, mode, grad), 1)
        assert laws.gradient_law(problem, at, mode, BATCH) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("mode", measure.MODES)
@pytest.mark.parametrize("name", ["C_5", "S_3 on pairs"])
def test_the_laws_fall_like_one_over_k(name, mode):
    problem = classification(name)
    at = point_of_e(problem)
    derivatives = moved_derivatives(problem, at, mode, grad)
    law = laws.gradient_law(problem, at, mode, BATCH)
    assert mean_over_all_draws(derivatives, 2) == pytest.approx(law / 2, rel=1e-10)


@pytest.mark.parametrize("mode", measure.MODES)
@pytest.mark.parametrize("name", ["C_5", "Q_8", "S_3 on pairs", "D_4"])
def test_the_law_of_hessians_is_the_mean_over_all_draws(name, mode):
    problem = regression(name)
    at = point_of_e(problem)
    derivatives = moved_derivatives(problem, at, mode, hessian)
    expected = mean_over_all_draws(derivatives, 1)
    assert laws.hessian_law(problem, at, mode, BATCH) == pytest.approx(expected, rel=1e-10)
    # and distances of given draws follow from inner products of moved data
    products = sampling.gram(problem, at, mode, BATCH)
    away = (derivatives - derivatives.mean(1, keepdim=True)).flatten(2)
    assert np.allclose(products, torch.einsum("bgi,chi->bgch", away, away).numpy(), atol=1e-12 * products.max())


def test_batches_that_cancel_make_one_g_a_mini_batch_the_noisier_one_and_batches_alike_the_quieter():
    problem = classification("D_4")
    at = point_of_e(problem)
    doubled = Samples(*(torch.cat([t[:BATCH], t[:BATCH]]) for t in problem.samples))
    alike, minus = (
        dataclasses.replace(problem, samples=Samples(doubled.x, doubled.y, doubled.weight * torch.tensor(signs)))
        for signs in ([1.0] * 2 * BATCH, [1.0] * BATCH + [-1.0] * BATCH)
    )
    one_pass, mini = (laws.gradient_law(alike, at, mode, BATCH) for mode in measure.MODES)
    assert one_pass == pytest.approx(2 * mini, rel=1e-12)
    one_pass, mini = (laws.gradient_law(minus, at, mode, BATCH) for mode in measure.MODES)
    assert one_pass < 1e-28 < mini


def test_shares_of_draws_sum_to_one_and_have_the_haar_mean():
    share = sampling.draw_shares(5, 3, 8, 4000, np.random.default_rng(0))
    assert np.allclose(share.sum(2), 1)
    assert abs(share.mean(0) - 1 / 5).max() < 0.01


@pytest.mark.parametrize("mode", measure.MODES)
def test_the_training_core_and_sampled_inner_products_agree_with_the_laws_within_sampling_error(mode):
    problem = classification("D_4")
    at = point_of_e(problem)
    found, inside = sampling.gradient_distances(problem, at, 3, mode, BATCH, 200, 0)
    law = laws.gradient_law(problem, at, mode, BATCH) / 3
    assert abs(found.mean() - law) < 4 * found.std() / np.sqrt(200)
    assert inside < 1e-12  # the noise is in E⊥
    found = sampling.squared_distances(sampling.gram(problem, at, mode, BATCH), 3, 2000, np.random.default_rng(0))
    law = laws.hessian_law(problem, at, mode, BATCH) / 3
    assert abs(found.mean() - law) < 4 * found.std() / np.sqrt(2000)


@pytest.mark.parametrize("mode", measure.MODES)
def test_the_law_of_the_drift_is_the_mean_over_all_runs_to_first_order(mode):
    problem, step = classification("C_5", weight_decay=1e-2), 0.005
    at, elements = point_of_e(problem), list(problem.group.elements())
    parts = pieces(problem, mode)
    order, count = len(elements), len(parts)

    def moved_once(a: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.stack([grad(lambda b, p=p, g=g: risk(p, b, g))(a) for g in elements]) for p in parts])

    off, number = 0.0, 0
    first = moved_once(at)
    for draw in itertools.product(range(order), repeat=count):
        one = at - step * (sum(first[b, g] for b, g in enumerate(draw)) + problem.weight_decay * at)
        second = moved_once(one)
        for again in itertools.product(range(order), repeat=count):
            two = one - step * (sum(second[b, g] for b, g in enumerate(again)) + problem.weight_decay * one)
            off += float(problem.space.transverse_part(two).square().sum())
            number += 1
    law = laws.drift_law(problem, at, step, 2, mode, BATCH)
    exact = off / number
    # Without the curvature the second step would add as much as the first.
    u = [laws.spread(problem, a, mode, BATCH) for a in (at, at - step * grad(lambda a: augmented_risk(problem, a))(at))]
    flat = step**2 * float(sum(x.square().sum() for x in u))
    assert law[1] == pytest.approx(step**2 * float(u[0].square().sum()), rel=1e-12)
    assert abs(law[2] / exact - 1) < 0.1 * abs(flat / exact - 1)
    assert abs(law[2] / exact - 1) < 1e-3


@pytest.mark.parametrize("mode", measure.MODES)
def test_expansions_of_every_draw_follow_sampled_descent_to_their_order_in_the_step(mode):
    problem = classification("D_4", weight_decay=1e-2)
    at = point_of_e(problem)
    for order in range(3):
        gaps = [
            sampling.expanded_drifts(problem, at, step, 5, mode, BATCH, 3, order)
            - sampling.drifts(problem, at, step, 5, 1, mode, BATCH, 3)[:, -1]
            for step in (2e-3, 1e-3)
        ]
        assert gaps[0] / gaps[1] == pytest.approx(2.0 ** (3 + order), rel=0.2)


def test_a_control_of_known_mean_takes_out_what_it_shares_and_nothing_else():
    rng = np.random.default_rng(0)
    control, own = rng.standard_normal((2, 4000))
    found = sampling.controlled(3 + 2 * control + 0.1 * own, control, 0.0)
    assert found.mean() == pytest.approx(3, abs=0.01)
    assert found.std() == pytest.approx(0.1, rel=0.05)


def test_words_tell_an_excess_that_vanishes_with_the_step_from_one_that_stays():
    def row(*ratios: float) -> dict:
        steps = [
            {
                "share": 0.1 / 2**i,
                "measured": ratio,
                "standard_error": 0.01,
                "law": 1.0,
                "linear": {"measured": 1 + (ratio - 1) / 4, "standard_error": 0.01},
                "quadratic": {"measured": ratio, "standard_error": 0.01},
                "left": {"linear": {"measured": 0.75 * (ratio - 1)}, "quadratic": {"measured": -0.02}},
            }
            for i, ratio in enumerate(ratios)
        ]
        return {"part": "feedback", "label": "x", "mode": "pass", "elements": 1, "runs": 9, "steps": steps}

    said = words.section([row(1.4, 1.1, 1.025)]).measured
    assert "40% (one g a pass) falls like τ^2.0" in said
    assert (
        "to first order leave +30.0% at the longest step, +1.9% at the shortest and to second order leave -2.0%" in said
    )
    assert "does not vanish" in words.section([row(1.4, 1.4, 1.4)]).measured
    assert "No excess" in words.section([row(1.02, 1.0, 1.0)]).measured
    assert words.tables([row(1.4, 1.1)])[3]["rows"][1][3] == pytest.approx(1.1)


def test_the_mean_of_lambda_min_rises_to_its_limit_and_lies_below_the_bound_of_the_limits_eigenspace():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 3, 6, 6, generator=generator, dtype=torch.float64)
    hessians = noise + noise.mT
    limit, vectors = torch.linalg.eigh(hessians.mean(1).sum(0))
    exact = []
    for elements in (1, 2):  # all draws
        found = [
            float(torch.linalg.eigvalsh(sum(hessians[i % 2, g] for i, g in enumerate(draw)) / elements)[0])
            for draw in itertools.product(range(3), repeat=2 * elements)
        ]
        exact.append(np.mean(found))
    assert exact[0] < exact[1] < float(limit[0])
    rng = np.random.default_rng(0)
    for elements, expected in zip((1, 2), exact, strict=True):
        values, bounds = sampling.lowest(hessians, elements, 400, rng, vectors[:, :1])
        assert abs(values.mean() - expected) < 4 * values.std() / 20
        assert (values <= bounds + 1e-12).all()


def test_the_command_writes_its_laws_and_takes_up_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "LOWEST_COUNTS", (1, 64, 256))
    monkeypatch.setitem(measure.ROWS, "lowest", (measure.lowest_row, (1, 64, 256)))
    monkeypatch.setitem(measure.DRAWS, "lowest", 20)
    arguments = ["--parts", "lowest", "--tasks", "tiny", "--out", str(tmp_path)]
    command.main(arguments)
    stored = json.loads((tmp_path / "augmentation.json").read_text())
    assert [(r["mode"], r["elements"]) for r in stored["rows"]] == [
        (m, k) for m in sorted(measure.MODES) for k in (1, 64, 256)
    ]
    assert "rising in 2 of 2 steps" in stored["section"]["measured"]
    assert all(r["measured"] <= r["bound"] <= r["law"] + 1e-12 for r in stored["rows"])
    one_pass = next(r for r in stored["rows"] if (r["mode"], r["elements"]) == ("pass", 1))
    assert one_pass["most"] - one_pass["least"] < 1e-10  # whatever g is drawn
    before = (tmp_path / "augmentation.json").read_bytes()
    command.main(arguments)
    assert (tmp_path / "augmentation.json").read_bytes() == before
