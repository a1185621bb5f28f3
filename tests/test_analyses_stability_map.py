"""analyses.stability_map: signs that two computations agree on, quotients that add up, maps that resume."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.func import hessian

from analyses.lab import ground as lab_ground
from analyses.studies.stability_map import __main__ as command
from analyses.studies.stability_map import cells as stability_map_cells
from analyses.studies.stability_map import measure, picture, reading, words
from analyses.studies.stability_map.cells import Cell
from stability.points.stationary import gradient_scale
from stability.spectra import sectors

TINY = {
    "digits": Cell("digits", width=1, samples=20),
    "graphs": Cell("graphs", width=1, samples=20),
    "shapes": Cell("shapes", width=1, samples=10),
}


@pytest.mark.parametrize("name", sorted(TINY))
def test_the_spectrum_is_that_of_the_dense_augmented_hessian_and_the_parts_add_up(name):
    problem = stability_map_cells.problem_of(TINY[name])
    theta = problem.initial(0)
    ground = lab_ground.resolve(problem, theta, 1e-9, 0)
    block = min(ground.blocks, key=lambda b: b.values[0])
    partners = sectors.lift(problem.space, block.irrep, block.vectors[:, 0].contiguous())
    parts = measure.parts_along(problem, theta, partners)
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
    problem = stability_map_cells.problem_of(TINY["graphs"])
    theta = problem.initial(1)
    at, v = problem.space.embed(theta), torch.randn(1, problem.space.dim, dtype=torch.float64)
    parts = measure.parts_along(problem, theta, v)
    jacobian = torch.func.jacrev(lambda a: problem.model.predict(a, problem.samples.x))(at).squeeze(1)
    z = problem.model.predict(at, problem.samples.x).squeeze(1)
    curvature = torch.sigmoid(z) * (1 - torch.sigmoid(z)) * problem.samples.weight
    expected = float((curvature * (jacobian @ v[0]).square()).sum() / v.square().sum())
    assert parts.gauss_newton == pytest.approx(expected, rel=1e-10)


def test_misfit_is_the_length_of_the_loss_slope():
    problem = stability_map_cells.problem_of(TINY["graphs"])
    theta = problem.initial(1)
    z = problem.model.predict_equivariant(theta, problem.samples.x).squeeze(1)
    slopes = torch.sigmoid(z) - problem.samples.y
    assert measure.misfit(problem, theta) == pytest.approx(float(slopes.square().mean().sqrt()), rel=1e-10)


def test_a_found_point_is_a_strict_minimum_of_e_and_its_sign_rests_on_two_computations():
    row = measure.measure(replace(TINY["graphs"], samples=60, width=2), 0)
    assert row["converged"]
    assert row["gradient_norm"] <= lab_ground.TOLERANCE * gradient_scale(
        stability_map_cells.problem_of(replace(TINY["graphs"], samples=60, width=2)), 0
    )
    assert row["lambda_min_E"] > 0
    assert row["check"] < 1e-10
    assert reading.minima([row]) == [row]
    assert reading.unstable(row) == (row["lambda_min_E_perp"] < 0)


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
    assert reading.unstable(point(-1e-3))
    assert not reading.unstable(point(1e-3))
    assert not reading.unstable(point(-1e-12))
    assert not reading.unstable(point(-1e-3, 1e-3))
    assert not reading.unstable(point(-1e-3, -2e-3))


def test_searches_that_fell_short_and_saddles_of_e_are_no_minima():
    good = point(-1.0)
    others = [{**good, "converged": False}, {**good, "lambda_min_E": -1.0}, {**good, "kind": "training"}]
    assert reading.minima([good, *others]) == [good]


def test_the_ratio_of_residual_part_to_what_holds_passes_one_where_the_sign_turns():
    for residual, sign in ((-0.2, 1), (-0.4, -1)):
        parts = {"decay": 0.1, "gauss_newton": 0.2, "residual": residual}
        assert np.sign(sum(parts.values())) == sign
        assert (reading.leverage({"parts": parts}) > 1) == (sign < 0)


def test_a_share_has_wilsons_interval():
    assert reading.interval(0, 10)[0] == 0.0
    low, high = reading.interval(5, 10)
    assert (round(low, 3), round(high, 3)) == (0.237, 0.763)


def test_the_command_maps_resumes_and_says_what_decides(tmp_path, monkeypatch):
    cells = tuple(replace(TINY["graphs"], width=w, decay=d) for w in (1, 2) for d in (1e-3, 1e-1))
    smaller = {
        "MAPS": {**stability_map_cells.MAPS, "graphs": stability_map_cells.Map(cells, ("width", "decay"))},
        "BASE": {"graphs": TINY["graphs"]},
        "EPOCHS": (0, 5),
    }
    for module in (command, measure, picture, words):
        for name in smaller.keys() & vars(module).keys():
            monkeypatch.setattr(module, name, smaller[name])
    arguments = ["--maps", "graphs", "training", "--starts", "2", "--out", str(tmp_path)]
    command.main(arguments)
    first = json.loads((tmp_path / "stability_map.json").read_text())
    assert len([r for r in first["rows"] if r["kind"] == "minimum"]) == 8
    assert [r["epoch"] for r in first["rows"] if r["kind"] == "training"] == [0, 5, 0, 5]
    assert (tmp_path / "stability_map.png").stat().st_size > 20_000
    assert "graphs" in first["section"]["measured"]
    dropped = first["rows"].pop(3)
    first["rows"][0]["cpu_seconds"] = -17.0
    (tmp_path / "stability_map.json").write_text(json.dumps(first))
    command.main(arguments)
    again = json.loads((tmp_path / "stability_map.json").read_text())["rows"]
    assert again[0]["cpu_seconds"] == -17.0
    (found,) = [
        r for r in again if r["cell"] == dropped["cell"] and r["start"] == dropped["start"] and r["kind"] == "minimum"
    ]
    np.testing.assert_allclose(found["lambda_min_E_perp"], dropped["lambda_min_E_perp"], rtol=1e-6, atol=1e-12)
