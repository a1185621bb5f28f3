"""analyses.rotation: the published sampler keeps a known part of the nominal drift, the published norm squares it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch.func import grad

from analyses.paper.rotation import __main__ as command
from analyses.paper.rotation import settings, suspects
from stability.networks.nonlinearities import Identity, LayerNorm


def test_the_published_sampler_draws_no_quarter_turn_and_the_half_turn_with_probability_three_fifths():
    rng = np.random.default_rng(0)
    drawn = np.array([suspects.published_sampler(rng) for _ in range(4000)])
    assert set(drawn) == {0, 2}
    assert abs((drawn == 2).mean() - 0.6) < 4 * math.sqrt(0.24 / 4000)


def test_the_half_turn_is_the_flat_image_in_reverse():
    problem = suspects.problem_of("rot", "published", "small")
    x = torch.arange(16.0, dtype=torch.float64)
    assert torch.equal(problem.model.input.act(suspects.HALF_TURN, x), x.flip(0))


def test_without_its_head_the_network_ends_in_logits_and_has_the_same_spaces():
    with_head, without = (suspects.problem_of("rot", head, "small") for head in suspects.HEADS)
    assert isinstance(with_head.model.network.nonlinearities[-1], LayerNorm)
    assert isinstance(without.model.network.nonlinearities[-1], Identity)
    assert with_head.space.sizes == without.space.sizes
    assert torch.equal(with_head.initial(3), without.initial(3))


def test_what_the_samplers_leave_of_a_gradient_is_what_the_split_predicts():
    problem = suspects.problem_of("rot", "none", "small")
    at = problem.space.embed(problem.initial(0))
    gradient = grad(problem.loss)(at, problem.samples)
    parts = suspects.split(problem, gradient)
    assert math.hypot(*parts.values()) == pytest.approx(float(gradient.norm()), rel=1e-12)
    # At A in E moved data have a moved gradient; the sampler's mean, summed over its two elements.
    mean = sum(p * problem.space.act(g, gradient) for g, p in suspects.PUBLISHED.items())
    kept = problem.space.transverse_part(mean).norm() / problem.space.transverse_part(gradient).norm()
    assert suspects.predicted_ratio(parts, "published") == pytest.approx(float(kept), rel=1e-12)
    assert suspects.predicted_ratio(parts, "haar") == 0.0


def test_the_published_norm_squares_each_layer():
    assert suspects.squared_norm([0.3, 0.4]) == pytest.approx(math.sqrt(0.3**4 + 0.4**4))


def test_the_published_sampler_makes_aug_resemble_nom_as_predicted(tmp_path):
    command.main(["--runs", "1", "--epochs", "8", "--head", "published", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "rotation.json").read_text())
    by = {(s.task, s.sampler): s for s in settings.settings(found["rows"])}
    faulty, haar, digits = by["rot", "published"], by["rot", "haar"], by["trans", "haar"]
    assert faulty.predicted > 0.3
    assert faulty.ratio == pytest.approx(faulty.predicted, rel=0.1)
    assert haar.ratio < 0.2 * faulty.ratio
    assert digits.ratio < 0.2 * faulty.ratio
    assert faulty.squared["AUG"][0] < 1e-2 * faulty.norm["AUG"][0]
    assert (tmp_path / "rotation.png").stat().st_size > 10_000
    rows = len(found["rows"])
    command.main(["--runs", "1", "--epochs", "8", "--out", str(tmp_path)])  # the other head is added
    again = json.loads((tmp_path / "rotation.json").read_text())["rows"]
    assert again[:rows] == found["rows"]
    assert len(again) == rows + 3
