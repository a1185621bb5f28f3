"""analyses.stability_map: signs that two computations agree on, quotients that add up, maps that resume."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.func import hessian

from analyses import shared, stability_map
from analyses.stability_map import Cell
from stability import sectors
from stability.stationary import gradient_scale

TINY = {
    "digits": Cell("digits", width=1, samples=20),
    "graphs": Cell("graphs", width=1, samples=20),
    "shapes": Cell("shapes", width=1, samples=10),
}


@pytest.mark.parametrize("name", sorted(TINY))
def test_the_spectrum_is_that_of_the_dense_augmented_hessian_and_the_parts_add_up(name):
    problem = stability_map.problem_of(TINY[name])
    theta = problem.initial(0)
    ground = shared.resolve(problem, theta, 1e-9, 0)
    block = min(ground.blocks, key=lambda b: b.values[0])
    partners = sectors.lift(problem.space, block.irrep, block.vectors[:, 0].contiguous())
    parts = stability_map.parts_along(problem, theta, partners)
    assert parts.quotient == pytest.approx(ground.lowest.value, abs=1e-12)
    assert parts.quotient == pytest.approx(parts.decay + parts.gauss_newton + parts.residual, abs=1e-12)
    assert parts.gauss_newton >= -1e-15
    if name == "digits":  # all of R^aug at once, by enumeration
        data = problem.augmented()
        dense = hessian(lambda a: problem.loss(a, data) + problem.penalty(a))(problem.space.embed(theta))
        values, vectors = torch.linalg.eigh(dense)
        off = torch.stack([problem.space.transverse_part(v).norm() for v in vectors.mT])
        lowest = values[off > 0.99][0]
        assert ground.lowest.value == pytest.approx(float(lowest), abs=1e-10)


def test_the_gauss_newton_part_is_that_of_the_dense_jacobian():
    problem = stability_map.problem_of(TINY["graphs"])
    theta = problem.initial(1)
    at, v = problem.space.embed(theta), torch.randn(1, problem.space.dim, dtype=torch.float64)
    parts = stability_map.parts_along(problem, theta, v)
    jacobian = torch.func.jacrev(lambda a: problem.model.predict(a, problem.samples.x))(at).squeeze(1)
    z = problem.model.predict(at, problem.samples.x).squeeze(1)
    curvature = torch.sigmoid(z) * (1 - torch.sigmoid(z)) * problem.samples.weight
    expected = float((curvature * (jacobian @ v[0]).square()).sum() / v.square().sum())
    assert parts.gauss_newton == pytest.approx(expected, rel=1e-10)


def test_misfit_is_the_length_of_the_loss_slope():
    problem = stability_map.problem_of(TINY["graphs"])
    theta = problem.initial(1)
    z = problem.model.predict_equivariant(theta, problem.samples.x).squeeze(1)
    slopes = torch.sigmoid(z) - problem.samples.y
    assert stability_map.misfit(problem, theta) == pytest.approx(float(slopes.square().mean().sqrt()), rel=1e-10)


def test_a_found_point_is_a_strict_minimum_of_e_and_its_sign_rests_on_two_computations():
    row = stability_map.measure(replace(TINY["graphs"], samples=60, width=2), 0)
    assert row["converged"]
    assert row["gradient_norm"] <= shared.TOLERANCE * gradient_scale(
        stability_map.problem_of(replace(TINY["graphs"], samples=60, width=2)), 0
    )
    assert row["lambda_min_E"] > 0
    assert row["check"] < 1e-10
    assert stability_map.minima([row]) == [row]
    assert stability_map.unstable(row) == (row["lambda_min_E_perp"] < 0)


def point(value: float, quotient: float | None = None, **more) -> dict:
    quotient = value if quotient is None else quotient
    return {
        "kind": "minimum",
        "converged": True,
        "lambda_min_E": 1.0,
        "lambda_min_E_perp": value,
        "lambda_max_E_perp": 1.0,
        "check": abs(value - quotient),
        "parts": {"quotient": quotient},
        **more,
    }


def test_a_sign_within_rounding_or_that_two_computations_disagree_on_is_not_called_unstable():
    assert stability_map.unstable(point(-1e-3))
    assert not stability_map.unstable(point(1e-3))
    assert not stability_map.unstable(point(-1e-12))
    assert not stability_map.unstable(point(-1e-3, 1e-3))
    assert not stability_map.unstable(point(-1e-3, -2e-3))


def test_searches_that_fell_short_and_saddles_of_e_are_no_minima():
    good = point(-1.0)
    others = [{**good, "converged": False}, {**good, "lambda_min_E": -1.0}, {**good, "kind": "training"}]
    assert stability_map.minima([good, *others]) == [good]


def test_the_ratio_of_residual_part_to_what_holds_passes_one_where_the_sign_turns():
    for residual, sign in ((-0.2, 1), (-0.4, -1)):
        parts = {"decay": 0.1, "gauss_newton": 0.2, "residual": residual}
        assert np.sign(sum(parts.values())) == sign
        assert (stability_map.leverage({"parts": parts}) > 1) == (sign < 0)


def test_a_share_has_wilsons_interval():
    assert stability_map.interval(0, 10)[0] == 0.0
    low, high = stability_map.interval(5, 10)
    assert (round(low, 3), round(high, 3)) == (0.237, 0.763)


def test_the_command_maps_resumes_and_says_what_decides(tmp_path, monkeypatch):
    cells = tuple(replace(TINY["graphs"], width=w, decay=d) for w in (1, 2) for d in (1e-3, 1e-1))
    monkeypatch.setattr(
        stability_map, "MAPS", {**stability_map.MAPS, "graphs": stability_map.Map(cells, ("width", "decay"))}
    )
    monkeypatch.setattr(stability_map, "BASE", {"graphs": TINY["graphs"]})
    monkeypatch.setattr(stability_map, "EPOCHS", (0, 5))
    arguments = ["--maps", "graphs", "training", "--starts", "2", "--out", str(tmp_path)]
    stability_map.main(arguments)
    first = json.loads((tmp_path / "stability_map.json").read_text())
    assert len([r for r in first["rows"] if r["kind"] == "minimum"]) == 8
    assert [r["epoch"] for r in first["rows"] if r["kind"] == "training"] == [0, 5, 0, 5]
    assert (tmp_path / "stability_map.png").stat().st_size > 20_000
    assert "graphs" in first["section"]["measured"]
    dropped = first["rows"].pop(3)
    first["rows"][0]["cpu_seconds"] = -17.0
    (tmp_path / "stability_map.json").write_text(json.dumps(first))
    stability_map.main(arguments)
    again = json.loads((tmp_path / "stability_map.json").read_text())["rows"]
    assert again[0]["cpu_seconds"] == -17.0
    (found,) = [
        r for r in again if r["cell"] == dropped["cell"] and r["start"] == dropped["start"] and r["kind"] == "minimum"
    ]
    np.testing.assert_allclose(found["lambda_min_E_perp"], dropped["lambda_min_E_perp"], rtol=1e-6, atol=1e-12)
