"""One loop, four strategies: what each does to A, what the record says, and which law the sampled gradients follow."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from brute import PROBLEMS, augmented_risk, bad, equivariant_projection, gaussian, gradient, problem, risk
from scipy.stats import chisquare
from torch import Tensor

from analyses.shared import faster_transverse_part
from stability.points.training import (
    descend,
    draws,
    equivariant,
    exact_augmentation,
    exact_augmentation_within,
    minimise_augmented,
    nominal,
    penalised,
    sampled_augmentation,
)
from stability.problem.problem import Problem

every_problem = pytest.mark.parametrize("name", PROBLEMS)
STEP, EPOCHS = 0.1, 20


def start_on_e(case: Problem, seed: int = 0) -> Tensor:
    return case.space.embed(case.initial(seed))


def transverse(case: Problem) -> Tensor:
    """The projection onto E⊥, by enumeration."""
    return torch.eye(case.space.dim, dtype=torch.float64) - torch.as_tensor(equivariant_projection(case.space.layers))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# --------------------------------------------------------------------------------------------- the gradients


@every_problem
@pytest.mark.parametrize("batch", [1, 3, 4096])
def test_the_nominal_strategy_is_the_gradient_of_r_however_it_is_gathered(name, batch):
    case = problem(name)
    at = 0.5 * gaussian(case.space.dim)
    expected = gradient(lambda a: risk(case, a), at)
    np.testing.assert_allclose(nominal(case, batch)(at, rng()), expected, atol=1e-13)


@every_problem
@pytest.mark.parametrize("batch", [3, 4096])
def test_the_exact_strategy_is_the_gradient_of_r_aug_at_any_point(name, batch):
    case = problem(name)
    at = 0.5 * gaussian(case.space.dim)
    expected = gradient(lambda a: augmented_risk(case, a), at)
    np.testing.assert_allclose(exact_augmentation(case, batch)(at, rng()), expected, atol=1e-13)


@every_problem
def test_one_element_of_every_coset_gives_the_gradient_of_r_aug_at_weights_that_a_subgroup_fixes(name):
    case = problem(name)
    group, g = case.group, case.group.generators[0]
    subgroup = [group.identity]
    while (power := group.multiply(g, subgroup[-1])) != group.identity:
        subgroup.append(power)
    at = 0.5 * gaussian(case.space.dim)
    for h in (subgroup, [group.identity]):
        fixed = sum(case.space.act(x, at) for x in h) / len(h)
        expected = gradient(lambda a: augmented_risk(case, a), fixed)
        np.testing.assert_allclose(exact_augmentation_within(case, h, 5)(fixed, rng()), expected, atol=1e-13)


@every_problem
def test_the_equivariant_strategy_is_the_projected_nominal_gradient(name):
    case = problem(name)
    at = 0.5 * gaussian(case.space.dim)
    expected = gradient(lambda a: risk(case, a), at)
    expected = expected - transverse(case) @ expected
    np.testing.assert_allclose(equivariant(case, 3)(at, rng()), expected, atol=1e-12)


@every_problem
def test_the_penalty_adds_gamma_times_the_transverse_part(name):
    case = problem(name)
    at, gamma = 0.5 * gaussian(case.space.dim), 1.7
    projection = transverse(case)
    found = penalised(case, exact_augmentation(case), gamma)(at, rng())
    shift = found - exact_augmentation(case)(at, rng())
    np.testing.assert_allclose(shift, gamma * projection @ at, atol=1e-12)
    expected = gradient(lambda a: augmented_risk(case, a) + gamma / 2 * (projection @ a).square().sum(), at)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@every_problem
def test_a_basis_of_e_in_memory_gives_the_transverse_part(name):
    case = problem(name)
    v = gaussian(case.space.dim)
    np.testing.assert_allclose(faster_transverse_part(case)(v), transverse(case) @ v, atol=1e-12)


def test_only_the_epochs_asked_for_are_recorded():
    case = problem("D_4 masks")
    at = start_on_e(case)
    whole, part = (descend(case, at, nominal(case), 1e-2, 4, "NOM", record=r) for r in (None, {1, 4}))
    for name in ("travelled", "off_equivariance"):
        every, kept = getattr(whole, name), getattr(part, name)
        assert kept == (every[0], every[1], every[4])
    assert torch.equal(whole.final, part.final)


@every_problem
def test_on_e_the_penalty_changes_nothing(name):
    case = problem(name)
    at = start_on_e(case)
    found = penalised(case, nominal(case), 100.0)(at, rng())
    np.testing.assert_allclose(found, nominal(case)(at, rng()), atol=1e-11)


def test_augmentation_without_an_action_on_the_data_is_refused():
    case = problem("D_4 masks")
    mute = Problem("mute", case.space, case.samples, case.loss)
    for strategy in (sampled_augmentation, exact_augmentation):
        with bad("mute: .*action on the data"):
            strategy(mute)


# ---------------------------------------------------------------------------------- sampled augmentation


@every_problem
def test_passes_that_share_work_are_the_plain_passes(name, monkeypatch):
    case = problem(name)
    at, passes, batch = 0.5 * gaussian(case.space.dim), 5, 3
    source, plain = rng(4), torch.zeros(case.space.dim, dtype=torch.float64)
    for _ in range(passes):
        for part in case.samples.chunks(batch):
            moved = case.transform(case.group.sample(source), part)
            plain += gradient(lambda a, moved=moved: case.loss(a, moved), at) / passes
    monkeypatch.setattr("stability.points.training.TOGETHER", 7)
    found = sampled_augmentation(case, passes, batch)(at, rng(4))
    np.testing.assert_allclose(found, plain + case.weight_decay * at, atol=1e-12)


@pytest.mark.parametrize("name", ["D_4 masks", "Q_8 quaternions"])
def test_the_elements_of_two_batches_in_two_passes_are_uniform_and_independent(name, monkeypatch):
    case, elements = problem(name), []
    kind, sample = type(case.group), type(case.group).sample
    monkeypatch.setattr(kind, "sample", lambda self, source: elements.append(sample(self, source)) or elements[-1])
    case = dataclasses.replace(case, transform=lambda g, s: s, loss=lambda a, s: 0 * a.sum())
    order, place = case.group.order, {g: i for i, g in enumerate(case.group.elements())}
    strategy, source = sampled_augmentation(case, passes=2, batch=4), rng(1)
    assert len(list(case.samples.chunks(4))) == 2
    for _ in range(8 * order**2):
        strategy(torch.zeros(case.space.dim), source)
    drawn = np.array([place[g] for g in elements]).reshape(-1, 4)
    for i, j in itertools.combinations(range(4), 2):
        counts = np.bincount(drawn[:, i] * order + drawn[:, j], minlength=order**2)
        assert chisquare(counts).pvalue > 1e-4


@every_problem
def test_the_mean_of_many_sampled_gradients_is_the_exact_one(name):
    case = problem(name)
    at, source = 0.5 * gaussian(case.space.dim), rng(2)
    strategy = sampled_augmentation(case, passes=2, batch=4)
    draws = torch.stack([strategy(at, source) for _ in range(150)])
    exact = gradient(lambda a: augmented_risk(case, a), at)
    deviation = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - exact).abs() <= 5 * deviation + 1e-12).all()
    # 150 draws are enough to tell it from the nominal gradient.
    wrong = gradient(lambda a: risk(case, a), at)
    assert ((draws.mean(0) - wrong).abs() > 5 * deviation + 1e-12).any()


def test_more_passes_come_closer_to_the_exact_gradient():
    case = problem("Q_8 quaternions")
    at = 0.5 * gaussian(case.space.dim)
    exact = exact_augmentation(case)(at, rng())

    def error(passes: int, draws: int) -> float:
        strategy, source = sampled_augmentation(case, passes, 4), rng(3)
        return float(np.mean([float((strategy(at, source) - exact).square().sum()) for _ in range(draws)]))

    # The mean square error is variance/passes.
    assert error(1, 200) / error(16, 40) == pytest.approx(16, rel=0.5)


@every_problem
def test_one_pass_with_one_batch_leaves_e_by_exactly_the_nominal_transverse_gradient(name):
    # At A in E a pass yields ρ̄(g)⁻¹∇R(A), whose component on E⊥ has the length of the nominal one.
    case = problem(name)
    at, projection, source = start_on_e(case), transverse(case), rng(4)
    expected = (projection @ gradient(lambda a: risk(case, a), at)).norm()
    assert expected > 1e-3
    for _ in range(5):
        found = projection @ sampled_augmentation(case, 1)(at, source)
        np.testing.assert_allclose(found.norm(), expected, rtol=1e-11)


@pytest.mark.parametrize("name", ["D_4 masks", "S_4 graphs", "A_4 points", "Q_8 quaternions"])
def test_remark_1_the_transverse_gradient_of_k_passes_shrinks_as_one_over_k(name):
    # E‖Π_{E⊥}∇R_K‖² = ‖Π_{E⊥}∇R‖²/K; with one g per mini-batch the batches' squares add up instead.
    case = problem(name)
    at, projection = start_on_e(case), transverse(case)
    plain = dataclasses.replace(case, weight_decay=0.0)  # the decay's gradient lies in E
    parts = [gradient(lambda a, p=p: plain.loss(a, p), at) for p in case.samples.chunks(4)]
    passes, draws = 2, 150
    for batch, expected in (
        (4096, (projection @ sum(parts)).square().sum()),
        (4, sum((projection @ part).square().sum() for part in parts)),
    ):
        strategy, source = sampled_augmentation(case, passes, batch), rng(5)
        found = np.array([float((projection @ strategy(at, source)).square().sum()) for _ in range(draws)])
        assert abs(found.mean() - float(expected) / passes) < 5 * found.std() / math.sqrt(draws)


# ---------------------------------------------------------------------------------------------- trajectories


@every_problem
def test_exact_augmentation_and_the_equivariant_strategy_never_leave_e_and_the_nominal_one_does(name):
    case = problem(name)
    start, projection = start_on_e(case), transverse(case)
    off = {}
    for label, strategy in (("AUG", exact_augmentation), ("EQUI", equivariant), ("NOM", nominal)):
        run = descend(case, start, strategy(case), STEP, EPOCHS, label)
        assert run.travelled[-1] > 0.05
        off[label] = float((projection @ run.final).norm())
    assert off["AUG"] < 1e-12
    assert off["EQUI"] < 1e-12
    assert off["NOM"] > 1e-3


@every_problem
def test_sampled_augmentation_leaves_e(name):
    case = problem(name)
    run = descend(case, start_on_e(case), sampled_augmentation(case, 2), STEP, 5, "AUG")
    assert min(run.off_equivariance[1:]) > 1e-4


@every_problem
def test_from_a_start_on_e_exact_augmentation_and_equivariant_descent_take_the_same_path(name):
    case = problem(name)
    start = start_on_e(case)
    paths = []
    for strategy in (exact_augmentation(case), equivariant(case)):
        path = []
        descend(case, start, strategy, STEP, 8, "run", on_epoch=lambda _, at, path=path: path.append(at))
        paths.append(torch.stack(path))
    np.testing.assert_allclose(paths[0], paths[1], atol=1e-11)


@every_problem
@pytest.mark.parametrize("label", ["NOM", "AUG"])
def test_the_record_is_what_its_definitions_give_on_the_snapshots(name, label):
    case = problem(name)
    strategy = nominal(case) if label == "NOM" else sampled_augmentation(case, 2, 4)
    start = 0.3 * gaussian(case.space.dim)
    untouched, seen, handed = start.clone(), [], []

    def record(epoch: int, at: Tensor) -> None:
        seen.append((epoch, at.clone()))
        handed.append(at)

    run = descend(case, start, strategy, STEP, 8, label, seed=1, on_epoch=record)
    assert torch.equal(start, untouched)
    assert (run.strategy, run.step) == (label, STEP)
    assert [k for k, _ in seen] == list(range(1, 9))
    points = torch.stack([start] + [at for _, at in seen])
    assert torch.equal(run.final, points[-1])
    assert torch.equal(torch.stack(handed), points[1:])  # later epochs leave what was handed out alone
    np.testing.assert_allclose(run.travelled, (points - start).norm(dim=1), atol=1e-13)
    np.testing.assert_allclose(run.off_equivariance, (points @ transverse(case)).norm(dim=1), rtol=1e-12)
    lengths = (points[1:] - points[:-1]).norm(dim=1) / STEP
    np.testing.assert_allclose(run.gradient_norm[1:], lengths, rtol=1e-10)
    assert run.gradient_norm[0] == run.gradient_norm[1]  # the gradient at the start led to the first epoch
    # Every step goes down the gradient at the point it starts from, with the draws of the seed.
    for epoch, (before, after) in enumerate(itertools.pairwise(points)):
        np.testing.assert_allclose(after, before - STEP * strategy(before, draws(1, epoch)), atol=1e-13)


def test_no_epochs_leave_the_start_as_it_is():
    case = problem("D_4 masks")
    start = gaussian(case.space.dim)
    run = descend(case, start, nominal(case), STEP, 0, "NOM")
    assert torch.equal(run.final, start)
    assert run.travelled == (0.0,)
    assert math.isnan(run.gradient_norm[0])


def test_the_same_seed_repeats_a_run_bit_for_bit_and_another_seed_does_not():
    case = problem("S_4 graphs")
    start = start_on_e(case)
    first, again, other = (descend(case, start, sampled_augmentation(case, 2, 4), STEP, 6, "AUG", s) for s in (1, 1, 2))
    assert torch.equal(first.final, again.final)
    assert first.travelled == again.travelled
    assert first.off_equivariance == again.off_equivariance
    assert first.gradient_norm == again.gradient_norm
    assert not torch.equal(first.final, other.final)


@pytest.mark.parametrize("name", ["D_4 masks", "S_4 graphs", "A_4 points", "Q_8 quaternions"])
def test_a_penalty_pulls_a_run_back_to_e(name):
    case = problem(name)
    start = start_on_e(case) + 0.1 * transverse(case) @ gaussian(case.space.dim)
    free = descend(case, start, exact_augmentation(case), STEP, EPOCHS, "AUG")
    held = descend(case, start, penalised(case, exact_augmentation(case), 5.0), STEP, EPOCHS, "AUG + penalty")
    assert held.off_equivariance[-1] < 1e-3 * held.off_equivariance[0]
    assert held.off_equivariance[-1] < 0.1 * free.off_equivariance[-1]


def test_a_run_that_leaves_the_finite_numbers_says_when():
    case = problem("C_4 ⋉ Z_2² images")
    with bad(r"NOM: weights stopped being finite at epoch \d+; use a step below 1e\+06"):
        descend(case, gaussian(case.space.dim), nominal(case), 1e6, 50, "NOM")


@pytest.mark.parametrize("name", ["D_4 masks", "A_4 points", "Q_8 quaternions"])
def test_minimising_the_augmented_risk_never_raises_it_and_reports_its_value_at_the_end(name):
    case = problem(name)
    start = start_on_e(case) + 0.1 * gaussian(case.space.dim)
    values = [float(augmented_risk(case, start))]
    for iterations in (1, 5, 60):
        end, value, taken = minimise_augmented(case, start, iterations)
        np.testing.assert_allclose(value, augmented_risk(case, end), rtol=1e-12)
        assert 0 < taken <= iterations
        assert value < values[-1]
        values.append(value)
    slope = gradient(lambda a: augmented_risk(case, a), start).norm()
    assert gradient(lambda a: augmented_risk(case, a), end).norm() < 0.1 * slope
