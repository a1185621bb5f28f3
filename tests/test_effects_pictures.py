"""What the figures draw is measured right: risks on fixed points, flows, slices, densities, kernels, predictions."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import nn

import stability
from stability import analyse
from stability.curvature.automatic import nominal_hessian
from stability.effects import breaking, deviation, slices
from stability.effects.fixed import fixed_risk, stabiliser
from stability.effects.flow import flow
from stability.eigen.operator import assemble
from stability.groups import Dihedral, Symmetric, irreps, permutation, trivial
from stability.results import Analysis
from stability.run.settings import Settings
from stability.spectra import density, least, sectors
from stability.tasks import TaskOptions, load
from tests import brute
from tests.problems import REPRESENTATIONS, classification, point_of_e, regression

GROUPS = ("C_5", "Z_3²", "D_4", "S_4", "A_4 from generators", "C_4 ⋉ Z_2²", "Q_8")


def fixed_direction(problem, seed: int = 3) -> torch.Tensor:
    """A random direction fixed by the powers of one generator."""
    g, space = problem.group.generators[0], problem.space
    v = brute.gaussian(space.dim, seed=seed)
    total, power = v.clone(), g
    while power != problem.group.identity:
        total, power = total + space.act(power, v), problem.group.multiply(g, power)
    return total / total.norm()


def augmented_matrix(problem, at: torch.Tensor) -> torch.Tensor:
    """∇²R^aug at A in E by brute force: the mean of ρ̄ᵀ∇²Rρ̄ over every element."""
    matrix = assemble(nominal_hessian(problem, at), at)
    eye = torch.eye(len(at), dtype=at.dtype)
    moved = [problem.space.act(g, eye) for g in problem.group.elements()]
    return sum(m @ matrix @ m.mT for m in moved) / len(moved)


@pytest.mark.parametrize("name", GROUPS)
def test_the_augmented_risk_and_its_gradient_on_fixed_points_are_those_of_the_whole_group(name):
    problem = classification(name, samples=5)
    v = fixed_direction(problem)
    risk, at = fixed_risk(problem, v), point_of_e(problem) + 0.7 * v
    assert problem.group.generators[0] in risk.elements
    assert len(risk.data) < len(problem.augmented())
    assert risk.value(at) == pytest.approx(float(brute.augmented_risk(problem, at)), rel=1e-12)
    expected = brute.gradient(lambda a: brute.augmented_risk(problem, a), at)
    torch.testing.assert_close(risk.gradient(at), expected, rtol=1e-9, atol=1e-11)


def test_a_direction_that_only_the_identity_fixes_gets_the_whole_average():
    problem = classification("D_4", samples=4)
    v = brute.gaussian(problem.space.dim)
    assert stabiliser(problem.space, v) == (problem.group.identity,)
    at = point_of_e(problem) + v
    assert fixed_risk(problem, v).value(at) == pytest.approx(float(problem.augmented_risk(at)), rel=1e-12)


def test_the_flow_is_that_of_an_established_integrator():
    problem = classification("C_5", samples=6)
    v = problem.space.transverse_part(brute.gaussian(problem.space.dim))
    risk, start = fixed_risk(problem, v), point_of_e(problem) + 0.3 * v / v.norm()
    reference = solve_ivp(
        lambda t, a: -risk.gradient(torch.as_tensor(a)).numpy(), (0, 20), start.numpy(), "LSODA", rtol=1e-9, atol=1e-11
    ).y[:, -1]
    errors = []
    for tolerance in (1e-3, 1e-5):
        run = flow(risk.gradient, start, 20.0, 1.0, tolerance)
        assert run.time == pytest.approx(20.0)
        errors.append(float((run.final - torch.as_tensor(reference)).norm()))
    assert errors[0] < 1e-2 * float(start.norm()) and errors[1] < errors[0] / 5


def test_a_stiff_flow_takes_the_square_root_of_the_gradients_that_descent_needs():
    h = torch.tensor([-1.0, 1e4], dtype=torch.float64)
    run = flow(lambda a: h * a, torch.tensor([1.0, 0.0], dtype=torch.float64), 3.0, 1e4, 1e-3)
    assert float(run.final[0]) == pytest.approx(math.exp(3), rel=2e-2)
    assert run.gradients < 3.0 * 1e4 / 2 / 5


def test_a_flow_whose_radius_was_underestimated_still_arrives():
    h = torch.tensor([1.0, 1e3], dtype=torch.float64)
    run = flow(lambda a: h * a, torch.ones(2, dtype=torch.float64), 1.0, 10.0, 1e-3)
    assert float(run.final[0]) == pytest.approx(math.exp(-1), rel=1e-2) and abs(float(run.final[1])) < 1e-3


@pytest.mark.parametrize("name", ["C_5", "Z_3²", "D_4", "S_4", "Q_8"])
def test_slices_have_the_curvature_they_name_and_equivariant_risk_does_not_see_what_leaves_e(name):
    problem = classification(name, samples=6)
    at = point_of_e(problem)
    matrix = augmented_matrix(problem, at)
    v = problem.space.transverse_part(brute.gaussian(problem.space.dim))
    v = v / v.norm()
    value = float(v @ matrix @ v)
    found = slices.line(problem, fixed_risk(problem, v), at, v, value, "E_perp", None, 11)
    for t, aug, nominal in zip(found.at, found.aug, found.nominal, strict=True):
        assert aug == pytest.approx(float(brute.augmented_risk(problem, at + t * v)), rel=1e-11)
        assert nominal == pytest.approx(float(brute.risk(problem, at + t * v)), rel=1e-11)
    np.testing.assert_allclose(found.eqv, found.eqv[0], rtol=1e-12)
    assert found.eqv[0] == pytest.approx(float(brute.risk(problem, at)), rel=1e-12)
    near = slices.Slice(**{**vars(found), "at": (-1e-3, 0.0, 1e-3)})
    small = [fixed_risk(problem, v).value(at + t * v) for t in near.at]
    assert (small[0] - 2 * small[1] + small[2]) / 1e-6 == pytest.approx(value, rel=1e-3, abs=1e-6)
    assert found.predicted()[0] == pytest.approx(found.aug[5] + 0.5 * found.at[0] ** 2 * value)
    assert found.nominal_value == pytest.approx(float(v @ assemble(nominal_hessian(problem, at), at) @ v), abs=1e-9)


def test_the_plane_holds_both_slices():
    problem = classification("Z_3²", samples=6)
    at, space = point_of_e(problem), problem.space
    u = space.equivariant_part(brute.gaussian(space.dim))
    v = space.transverse_part(brute.gaussian(space.dim, seed=1))
    u, v = u / u.norm(), v / v.norm()
    risk = fixed_risk(problem, v)
    on_e = slices.line(problem, risk, at, u, 0.1, "E", "trivial", 5)
    across = slices.line(problem, risk, at, v, 0.1, "E_perp", None, 5)
    plane = slices.plane(risk, at, on_e, across, u, v, 5)
    np.testing.assert_allclose(plane.aug[2], on_e.aug, rtol=1e-12)
    np.testing.assert_allclose([row[2] for row in plane.aug], across.aug, rtol=1e-12)
    np.testing.assert_allclose(on_e.aug, on_e.eqv, rtol=1e-11)
    np.testing.assert_allclose(on_e.aug, on_e.nominal, rtol=1e-11)


@pytest.mark.parametrize("name", ["C_5", "S_4", "Q_8"])
def test_quadrature_agrees_with_the_whole_spectrum_within_its_errors(name):
    problem = classification(name, samples=8)
    at = point_of_e(problem)
    theta = problem.space.project(at)
    values = torch.linalg.eigvalsh(augmented_matrix(problem, at))
    basis = problem.space.embed(torch.eye(problem.space.dim_equivariant, dtype=at.dtype))
    on_e = torch.linalg.eigvalsh(basis @ augmented_matrix(problem, at) @ basis.mT)
    edges = density.bins(float(values[0]), float(values[-1]), 1e-2, 1e-9, 6)
    everything, inside = (density.counted(v.numpy(), np.ones(len(v)), edges) for v in (values, on_e))
    exact = (everything - inside) / (everything - inside).sum()
    parts = [
        density.Part(sectors.sector_hessian(problem, theta, v), size, size * v.dim // v.commutant_dim)
        for v, size in sectors.occurring(problem.space)
        if not v.is_trivial
    ]
    found = density.estimate(parts, edges, 12, 30, at)
    assert sum(found.share) == pytest.approx(1.0)
    misses = np.abs(np.array(found.share) - exact)
    assert (misses <= 4 * np.array(found.error) + np.array(found.resolution) + 1e-9).all()
    assert max(found.error) < 0.2


def test_bins_never_mix_signs_and_hold_every_eigenvalue():
    for low, high, error in ((-2.0, 300.0, 1e-10), (1e-4, 5.0, 1e-12), (-3.0, -1e-3, 1e-12), (0.0, 0.0, 1e-12)):
        edges = density.bins(low, high, 1e-3, error)
        assert (np.diff(edges) > 0).all()
        assert edges[0] <= low and (high <= edges[-1] or high <= error)
        assert -error in edges and error in edges


@pytest.mark.parametrize("name", ["C_5", "D_4", "S_4", "Q_8"])
@pytest.mark.parametrize("build", [classification, regression])
def test_the_least_eigenvalue_of_every_sector_is_that_of_its_dense_block(build, name):
    problem = build(name, samples=6)
    at = point_of_e(problem)
    theta = problem.space.project(at)
    found = least.lowest(problem, theta, list(sectors.occurring(problem.space)))
    dense = torch.linalg.eigvalsh(augmented_matrix(problem, at))
    assert min(e.value for e in found) == pytest.approx(float(dense[0]), abs=1e-10)
    assert {e.irrep for e in found} == {v.name for v, _ in sectors.occurring(problem.space)}
    assert all(e.residual < 1e-9 for e in found)


def test_a_push_along_a_mode_grows_as_the_eigenvalue_says():
    problem = load("counterexample", TaskOptions())
    at = torch.tensor([0.5, 0.5], dtype=torch.float64)
    v = torch.tensor([1.0, -1.0], dtype=torch.float64) / 2**0.5
    run, path = deviation.follow(problem, fixed_risk(problem, v), at, v, -1.0, "q=1", (3.0, -1.0))
    assert run.times[-1] == pytest.approx(5.0) and len(path) == len(run.times)
    ratio = np.array(run.off_equivariance) / run.predicted()
    linear = np.array(run.times) < 3
    np.testing.assert_allclose(ratio[linear], 1, rtol=0.05)
    assert (np.diff(run.risk) <= 0).all()


@pytest.mark.parametrize("share", [0.9, 1.1])
def test_steps_on_both_sides_of_the_critical_one_change_a_deviation_by_one_minus_step_times_eigenvalue(share):
    problem = load("counterexample-nominal", TaskOptions())  # ∇²R^aug = I at a stationary point
    at = torch.tensor([0.5, 0.5], dtype=torch.float64)
    w = torch.tensor([1.0, -1.0], dtype=torch.float64) / 2**0.5
    run = deviation.descend(problem, fixed_risk(problem, w), at, w, 1.0, "q=1", share)
    assert run.step == pytest.approx(share * 2) and len(run.times) == deviation.STEPS + 1
    np.testing.assert_allclose(run.off_equivariance, run.predicted(), rtol=0.02)
    assert (run.off_equivariance[-1] > run.off_equivariance[0]) == (share > 1)


def test_an_equivariant_network_has_one_loss_on_all_transforms_and_a_moved_one_has_several():
    problem = regression("Z_3²", samples=6)
    at = point_of_e(problem)
    moved = at + problem.space.transverse_part(brute.gaussian(problem.space.dim))
    same = breaking.breaking(problem, [(0.0, at), (1.0, moved)], None, False)
    assert len(same.elements) == 9
    assert np.ptp(same.losses[0]) < 1e-12 < 1e-3 < np.ptp(same.losses[1])
    x, y = problem.samples.x[same.sample], problem.samples.y[same.sample]
    for column, g in enumerate(problem.group.elements()):
        prediction = brute.predict(problem, moved, problem.model.input.act(g, x[None]))
        expected = 0.5 * float((prediction - problem.model.target.act(g, y[None])).square().sum())
        assert same.losses[1][column] == pytest.approx(expected, rel=1e-10)


def test_an_equivariant_kernel_is_the_same_from_everywhere_and_a_moved_one_is_not():
    problem = classification("Z_3²", samples=6)
    at = point_of_e(problem)
    moved = at + problem.space.transverse_part(brute.gaussian(problem.space.dim))
    kernel = breaking.kernel(problem, at, moved)
    weights = dict(zip([layer.name for layer in problem.space.layers], problem.space.split(moved), strict=True))
    channels = {layer.name: layer.target.blocks[0][0] for layer in problem.space.layers}[kernel.layer]
    rows = weights[kernel.layer].reshape(channels, -1, weights[kernel.layer].shape[1] // 9, 9)
    place = rows.shape[1] // 2
    first = rows[kernel.target_channel, place, kernel.source_channel].reshape(3, 3)
    np.testing.assert_array_equal(kernel.after[0], first)
    assert len({json.dumps(view) for view in kernel.after}) == len(kernel.after) > 1
    shared = problem.space.equivariant_part(moved)
    np.testing.assert_allclose(kernel.shared, breaking.kernel(problem, shared, moved).before, atol=1e-12)
    assert breaking.kernel(problem, at, at) is None


def test_pictures_survive_the_round_trip_through_json_and_say_what_is_missing():
    problem = load("counterexample", TaskOptions())
    outcome = analyse(problem, Settings(pictures=True))
    found = outcome.analysis.pictures
    assert found.flow is not None and found.slices["E_perp"].value == pytest.approx(-1.0)
    assert "steps" in found.omitted and not found.steps
    assert Analysis.from_json(outcome.analysis.to_json()).pictures == found
    assert analyse(problem, Settings()).analysis.pictures is None


def test_training_records_how_stable_e_is_after_its_epochs_and_trains_no_differently():
    problem = classification("C_5", samples=8)
    watched = analyse(problem, Settings(at="trained", epochs=6, pictures=True))
    plain = analyse(problem, Settings(at="trained", epochs=6))
    torch.testing.assert_close(watched.theta, plain.theta)
    history = watched.analysis.training
    assert history.epochs == (0, 1, 2, 5, 6)
    assert (np.diff(history.risk) < 0).all()
    ends = {e.irrep: e.value for e in history.lowest[-1]}
    for sector in watched.analysis.sectors:
        assert ends[sector.irrep] == pytest.approx(sector.lowest[0].value, abs=1e-9)
    assert history.across()[-1].value == pytest.approx(watched.analysis.spectra["aug"]["E_perp"].lowest[0].value)
    pictures = watched.analysis.pictures
    assert pictures.flow is None and "not stationary" in pictures.omitted["flow"]  # E moves on
    lowest = watched.analysis.spectra["aug"]["E_perp"].lowest[0].value
    assert ("nothing is unstable" in pictures.omitted["kernel"]) == (lowest >= 0)
    assert Analysis.from_json(watched.analysis.to_json()).training == history


def test_every_point_found_says_how_stable_e_is_there():
    problem = classification("C_5", samples=4)
    analysis = analyse(problem, Settings(points=2, pictures=True)).analysis
    if len(analysis.points) < 2:
        pytest.skip("one point only")
    for point in analysis.points:
        assert {e.irrep for e in point.lowest} == {v.name for v in irreps(problem.group)}
    ends = {e.irrep: e.value for e in analysis.points[0].lowest}
    assert ends["trivial"] == pytest.approx(analysis.spectra["aug"]["E"].lowest[0].value, abs=1e-10)


def test_every_representation_of_the_small_problems_is_known():
    assert set(GROUPS) <= set(REPRESENTATIONS)


@pytest.mark.parametrize(("name", "grid"), [("trans", True), ("rot", True), ("perm", True)])
def test_images_and_matrices_are_grids(name, grid):
    problem = load(name, TaskOptions(samples=6))
    base = problem.space.layers[0].source.blocks[0][1]
    assert breaking.is_grid(base, problem.group) == grid


def test_points_that_a_group_shuffles_are_no_grid_even_where_their_number_is_a_square():
    group = Symmetric(4)
    base = permutation(group)
    assert base.dim == 4 and not breaking.is_grid(base, group)
    assert breaking.laid_out(torch.arange(4.0), base, group) == ((0.0, 1.0, 2.0, 3.0),)


def test_a_sample_of_a_module_is_kept_as_the_group_moves_it():
    group = Dihedral(4)
    one = trivial(group)
    net = nn.Sequential(
        nn.Conv2d(2, 2, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)
    )
    x = torch.randn(6, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    channels = {"0": (2 * one, 2 * one), "4": (2 * one, 2 * one)}
    problem = stability.from_module(net, nn.CrossEntropyLoss(), (x, torch.tensor([0, 1] * 3)), channels)
    given = problem.model.given
    at = problem.space.embed(problem.space.project(given))
    found = breaking.breaking(problem, [(0.0, at)], given, True, at)
    assert len(found.images) == 4 and len(found.elements) == 8 and len(set(found.shown)) == 4
    ends = [found.end[i] for i in found.shown]
    assert ends == sorted(ends) and (ends[0], ends[-1]) == (min(found.end), max(found.end))
    image, turned = x[found.sample, 0], [torch.tensor(rows) for rows in found.images]
    moved = [m for k in range(4) for m in (image.rot90(k), image.rot90(k).flip(1))]
    assert all(any(torch.allclose(t.double(), m) for m in moved) for t in turned)
    assert max(found.start) - min(found.start) < 1e-12
