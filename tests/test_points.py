"""What is said of a point is what brute force says; a stored point comes back, one that does not fit is told."""

from __future__ import annotations

import pytest
import torch
from brute import PROBLEMS, augmented_risk, bad, closure, gaussian, gradient, predict, problem, risk

from stability.base.limits import Limits
from stability.base.storage import write_tensors
from stability.curvature.at import At
from stability.points.describe import describe, equivariance_error, scores
from stability.points.stationary import describe_point
from stability.points.weights import data_digest, load_point, save_point
from stability.problem.tensors import unpack

every_problem = pytest.mark.parametrize("name", PROBLEMS)


@every_problem
def test_risks_and_gradients_of_a_point_are_those_by_hand(name):
    one = problem(name)
    theta = one.initial(3)
    at = one.space.embed(theta)
    report = describe(At(one, theta), describe_point(one, theta, "init", 1e-9, 3), 0)
    value, slope = float(risk(one, at)), gradient(lambda a: risk(one, a), at)
    across = gradient(lambda a: augmented_risk(one, a), at)
    assert report.risk["nominal"] == pytest.approx(value, rel=1e-11)
    assert report.risk["aug"] == pytest.approx(value, rel=1e-11)  # Lemma 4 at a point of E
    assert report.grad_norm["nominal"] == pytest.approx(float(slope.norm()), rel=1e-9)
    assert report.grad_norm["eqv"] == pytest.approx(float(one.space.project(slope).norm()), rel=1e-9)
    assert report.grad_norm["aug"] == pytest.approx(float(across.norm()), rel=1e-9)
    assert (report.kind, report.start, report.distance_to_E) == ("init", 3, 0.0)


def test_without_vectors_of_l_the_same_is_said_of_a_point_as_far_as_it_is_known():
    one = problem("S_4 graphs")
    theta = one.initial(3)
    point = describe_point(one, theta, "init", 1e-9)
    dense, layered = (describe(At(one, theta, limits), point, 0) for limits in (Limits(), Limits(vectors=1)))
    assert layered.grad_norm["nominal"] == pytest.approx(dense.grad_norm["nominal"], rel=1e-9)
    assert layered.risk["nominal"] == dense.risk["nominal"] and layered.risk["aug"] is None
    assert layered.metrics == dense.metrics


@every_problem
def test_the_equivariance_error_is_rounding_on_e_and_what_brute_force_says_off_it(name):
    one = problem(name)
    theta = one.initial(0)
    assert equivariance_error(one, theta, None, 0) < 1e-12
    at = one.space.embed(theta) + gaussian(one.space.dim)
    x = one.samples.x
    plain = predict(one, at, x)
    worst = 0.0
    for g in closure(one.group):
        moved = predict(one, at, x @ torch.as_tensor(one.model.input.matrix(g)).T)
        expected = plain @ torch.as_tensor(one.model.output.matrix(g)).T
        worst = max(worst, float((moved - expected).abs().max()))
    found = equivariance_error(one, theta, at, 0)
    assert 1e-3 < found <= worst / float(plain.abs().max()) * (1 + 1e-12)


def test_scores_count_right_answers():
    one = problem("Z_3² classes")
    theta = one.initial(0)
    found = scores(one, theta, None)
    right = (predict(one, one.space.embed(theta), one.samples.x).argmax(-1) == one.samples.y).double()
    assert found["name"] == "accuracy" and found["train"] == pytest.approx(float(one.samples.weight @ right))


@every_problem
def test_a_point_comes_back_from_its_file_and_one_off_e_with_its_weights(name, tmp_path):
    one = problem(name)
    theta = one.initial(0)
    save_point(tmp_path / "point", one, theta, {"kind": "init"})
    (file,) = tmp_path.iterdir()
    back, weights = load_point(file, one.space, theta)
    torch.testing.assert_close(back, theta, rtol=0, atol=1e-13)
    assert float(one.space.transverse_part(weights).norm()) < 1e-13
    off = one.space.transverse_part(gaussian(one.space.dim))
    write_tensors(tmp_path / "off.safetensors", unpack(one.space, one.space.embed(theta) + off), {})
    back, weights = load_point(tmp_path / "off.safetensors", one.space, theta)
    torch.testing.assert_close(back, theta, rtol=0, atol=1e-12)
    torch.testing.assert_close(one.space.transverse_part(weights), off, rtol=0, atol=1e-12)


def test_a_file_that_does_not_fit_is_told_by_tensor_and_shape(tmp_path):
    one = problem("A_4 points")
    theta, file = one.initial(0), tmp_path / "point.safetensors"
    first = one.space.layers[0].name
    for tensors, said in (
        ({"theta": theta[:-1]}, f"theta of point.safetensors has shape \\({len(theta) - 1},\\)"),
        ({"other": theta}, f"has no tensor '{first}'; it has other"),
        ({first: torch.ones(2, 2)}, f"{first} of point.safetensors has shape \\(2, 2\\)"),
        ({first: torch.full(one.space.layers[0].shape, torch.nan)}, "values that are not finite; repair the file"),
    ):
        write_tensors(file, tensors, {})
        with bad(said):
            load_point(file, one.space, theta)
    write_tensors(file, {"theta": theta}, {})
    coordinates, weights = load_point(file, one.space, theta)
    assert torch.equal(coordinates, theta) and weights is None


def test_points_of_other_data_have_another_digest():
    assert data_digest(problem("A_4 points")) == data_digest(problem("A_4 points")) != data_digest(problem("D_4 masks"))
