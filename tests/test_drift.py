"""Training near E without dense weights: the same steps, the same statistics, the same curves as plainly."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from brute import bad
from torch import Tensor
from torch.func import grad, hessian

from analyses.lab.drift import walks
from analyses.lab.drift.signals import gradient_statistics
from analyses.lab.drift.walks import Coordinates, Displaced, NearE, Walk, feedback, follow
from stability.base.storage import Checkpoint
from stability.points import training
from stability.points.training import descend, draws, equivariant, nominal, sampled_augmentation
from stability.problem.problem import Problem, single
from stability.problem.space import Samples
from stability.tasks import TaskOptions, load
from tests import problems

every_group = pytest.mark.parametrize("name", sorted(problems.REPRESENTATIONS))
NOTHING = Checkpoint(None, {}, resume=False)


def case_of(name: str, decay: float = 0.3) -> Problem:
    return problems.classification(name, weight_decay=decay)


def transverse_gradients(case: Problem, at: Tensor, batch: int) -> list[Tensor]:
    """Π_{E⊥}∇R_b of every mini-batch, dense."""
    return [case.space.transverse_part(grad(case.loss)(at, part)) for part in case.samples.chunks(batch)]


@every_group
@pytest.mark.parametrize("batch", [3, 5, 12])
def test_the_first_step_near_e_is_the_plain_step_with_the_same_draws(name, batch):
    case = case_of(name)
    theta, step, passes = case.initial(1), 0.1, 3
    at = case.space.embed(theta)
    walk = NearE(case, theta, step, passes, batch)
    walk.advance(4, 0)
    plain = at - step * sampled_augmentation(case, passes, batch)(at, draws(4, 0))
    np.testing.assert_allclose(walk.theta, case.space.project(plain), atol=1e-13)
    np.testing.assert_allclose(walk.off.dense(), case.space.transverse_part(plain), atol=1e-13)
    travelled, off = walk.measure()
    assert off == pytest.approx(float(case.space.transverse_part(plain).norm()), rel=1e-10)
    assert travelled == pytest.approx(float((plain - at).norm()), rel=1e-10)
    assert off > 1e-4


@pytest.mark.parametrize("name", ["C_5", "Z_3²"])
def test_spaces_of_several_summands_go_through_fourier_space_too(name):
    case = problems.regression(name)
    theta, at = case.initial(1), case.space.embed(case.initial(1))
    walk = NearE(case, theta, 0.1, 3, 5)
    walk.advance(4, 0)
    plain = -0.1 * case.space.transverse_part(sampled_augmentation(case, 3, 5)(at, draws(4, 0)))
    np.testing.assert_allclose(walk.off.dense(), plain, atol=1e-13)


def test_a_space_that_cannot_be_gathered_is_refused():
    with bad("a space is no multiple of one permutation representation"):
        NearE(problems.regression("S_4"), problems.regression("S_4").initial(0), 0.1, 3, 5)


@pytest.mark.parametrize("name", ["Z_3²", "S_4", "C_4 ⋉ Z_2²", "Q_8"])
def test_what_is_left_out_is_of_second_order_in_the_step_and_within_the_stated_bound(name):
    case = case_of(name)
    theta, passes, epochs = case.initial(1), 2, 6
    errors = []
    for step in (1e-2, 1e-3):
        walk = NearE(case, theta, step, passes, 3)
        _, off = follow(walk, epochs, 2, "near", NOTHING)
        plain = descend(case, case.space.embed(theta), sampled_augmentation(case, passes, 3), step, epochs, "AUG", 2)
        errors.append(abs(off[-1] / plain.off_equivariance[-1] - 1))
        bound = epochs * step * feedback(case, walk.theta, walk.off.dense())
        assert errors[-1] < 2 * bound
    assert errors[1] < 0.2 * errors[0]
    assert errors[0] < 0.1


@every_group
@pytest.mark.parametrize("batch", [5, 12])
def test_the_statistics_are_those_of_the_dense_gradients(name, batch):
    case = case_of(name)
    at, found = case.space.embed(case.initial(1)), gradient_statistics(case, case.initial(1), batch)
    whole = grad(case.risk)(at)
    parts = transverse_gradients(case, at, batch)
    assert found.equivariant == pytest.approx(float(case.space.project(whole).norm()), rel=1e-10)
    assert found.transverse == pytest.approx(float(case.space.transverse_part(whole).norm()), rel=1e-8)
    assert found.batches == pytest.approx(math.sqrt(sum(float(p.square().sum()) for p in parts)), rel=1e-8)


@pytest.mark.parametrize("name", ["Z_3²", "S_4"])
def test_a_sampled_run_drifts_off_e_as_a_random_walk_of_the_predicted_length(name):
    case, step, passes, epochs = case_of(name, decay=0.0), 1e-5, 3, 4
    statistics = gradient_statistics(case, case.initial(1), 3)
    squares = []
    for seed in range(60):
        _, off = follow(NearE(case, case.initial(1), step, passes, 3), epochs, seed, "near", NOTHING)
        squares.append(np.square(off))
    mean, deviation = np.mean(squares, 0), np.std(squares, 0) / math.sqrt(len(squares))
    expected = statistics.sampled_drift(step, epochs, passes) ** 2
    assert (np.abs(mean - expected) <= 4 * deviation).all()
    assert deviation[-1] < 0.15 * mean[-1]


def test_nominal_training_drifts_off_e_along_the_transverse_gradient():
    case, step, epochs = case_of("S_4"), 1e-6, 5
    statistics = gradient_statistics(case, case.initial(1), 12)
    run = descend(case, case.space.embed(case.initial(1)), nominal(case), step, epochs, "NOM")
    np.testing.assert_allclose(run.off_equivariance[1:], statistics.nominal_drift(step, epochs)[1:], rtol=1e-3)
    np.testing.assert_allclose(
        run.travelled[1:], np.hypot(statistics.nominal_drift(step, 5), statistics.distance(step, 5))[1:], rtol=1e-3
    )


@every_group
def test_equi_in_coordinates_travels_as_far_as_equi_on_dense_weights(name):
    case = case_of(name)
    dense = descend(case, case.space.embed(case.initial(1)), equivariant(case), 0.05, 5, "EQUI")
    travelled, off = follow(Coordinates(case, case.initial(1), 0.05, batch=5), 5, 0, "EQUI", NOTHING)
    np.testing.assert_allclose(travelled, dense.travelled, atol=1e-12)
    assert off == [0.0] * 6


@pytest.mark.parametrize("name", ["Z_3²", "S_4"])
def test_a_run_kept_as_a_displacement_records_what_a_run_of_weights_does(name):
    case = case_of(name)
    strategy = sampled_augmentation(case, 2, 5)
    plain = descend(case, case.space.embed(case.initial(1)), strategy, 0.05, 5, "AUG", seed=3)
    travelled, off = follow(Displaced(case, case.initial(1), strategy, 0.05), 5, 3, "AUG", NOTHING)
    np.testing.assert_allclose(travelled, plain.travelled, atol=1e-12)
    np.testing.assert_allclose(off, plain.off_equivariance, rtol=1e-6, atol=1e-12)


def test_single_precision_does_not_round_small_steps_away():
    case = single(case_of("Z_3²"))
    double = case_of("Z_3²")
    for make in (
        lambda p: NearE(p, double.initial(1), 1e-9, 2, 5),
        lambda p: Displaced(p, double.initial(1), sampled_augmentation(p, 2, 5), 1e-9),
    ):
        found, expected = (follow(make(p), 3, 1, "AUG", NOTHING) for p in (case, double))
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-4)
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-3)


@pytest.mark.parametrize("kind", ["near, phases", "near, gathered", "displaced", "coordinates"])
def test_a_run_that_was_stopped_goes_on_to_the_same_curve_bit_for_bit(kind, tmp_path, monkeypatch):
    case = case_of("S_4" if kind == "near, gathered" else "Z_3²")

    def make() -> Walk:
        theta = case.initial(1)
        if kind.startswith("near"):
            return NearE(case, theta, 0.05, 2, 5)
        if kind == "displaced":
            return Displaced(case, theta, sampled_augmentation(case, 2, 5), 0.05)
        return Coordinates(case, theta, 0.05)

    whole = follow(make(), 6, 1, "run", NOTHING)
    (tmp_path / "state").mkdir()
    keep = Checkpoint(tmp_path / "state", {"a": 1}, resume=True)
    monkeypatch.setattr(walks, "SAVE_EVERY", 0.0)
    stopped, advance = make(), type(make()).advance

    def fail(self, seed, epoch):
        if epoch == 4 and self is stopped:
            raise KeyboardInterrupt
        advance(self, seed, epoch)

    monkeypatch.setattr(type(stopped), "advance", fail)
    with pytest.raises(KeyboardInterrupt):
        follow(stopped, 6, 1, "run", keep)
    assert list((tmp_path / "state").iterdir())
    again = make()
    started = []
    monkeypatch.setattr(type(again), "advance", lambda s, seed, epoch: (started.append(epoch), advance(s, seed, epoch)))
    assert follow(again, 6, 1, "run", keep) == whole
    assert started == [4, 5]
    assert not list((tmp_path / "state").iterdir())


def test_a_run_near_e_that_diverges_says_when():
    case = case_of("Z_3²")
    with bad(r"near: weights stopped being finite at epoch \d+"):
        follow(NearE(case, case.initial(1), 1e200, 2, 5), 9, 0, "near", NOTHING)


def test_the_feedback_is_the_curvature_along_what_is_off_e():
    case = case_of("Z_3²")
    theta = case.initial(1)
    off = case.space.transverse_part(torch.randn(case.space.dim, dtype=torch.float64))
    dense = hessian(case.risk)(case.space.embed(theta)) @ (off / off.norm())
    assert feedback(case, theta, off, batch=5) == pytest.approx(float(dense.norm()), rel=1e-10)


def test_the_inputs_of_perm_fall_into_46_classes_and_multiplying_each_once_changes_no_gradient():
    case = load("perm", TaskOptions(size="paper", variant="published", samples=30))
    classes = training.equal_inputs(case)
    assert int(classes.max()) == 45
    moved = torch.cat([case.transform(case.group.sample(np.random.default_rng(i)), case.samples).x for i in range(3)])
    for number in range(46):
        members = moved[:, classes == number]
        assert (members == members[:, :1]).all()
    case = load("perm", TaskOptions(samples=20))
    at = case.space.embed(case.initial(0)) + 0.1 * torch.randn(case.space.dim, dtype=torch.float64)
    plain, shared = (nominal(p)(at, draws(0, 0)) for p in (case, training.pooled(case)))
    np.testing.assert_allclose(shared, plain, atol=1e-14)


def test_inputs_that_the_group_tells_apart_are_not_pooled():
    # Equal pixels on the data as they are, but not on the moved data.
    case = case_of("Z_3²")
    x = case.samples.x.clone()
    x[:, 1] = x[:, 0]
    case = dataclasses.replace(case, samples=Samples(x, *case.samples[1:]))
    assert training.equal_inputs(case) is None
    assert training.pooled(case) is case
    x[:] = x[:, :1]
    flat = dataclasses.replace(case, samples=Samples(x, *case.samples[1:]))
    assert training.equal_inputs(flat).tolist() == [0] * 9


def test_gradients_in_single_precision_are_those_in_double_to_single_precision():
    case = case_of("S_4")
    at = case.space.embed(case.initial(1))
    found = training.in_single(case, lambda p: sampled_augmentation(p, 2, 5))(at, draws(1, 0))
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, sampled_augmentation(case, 2, 5)(at, draws(1, 0)), atol=1e-6)
