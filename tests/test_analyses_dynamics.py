"""analyses.dynamics: deviations from E follow the spectrum, and what is said of an end is measured there."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from brute import augmented_risk, gradient
from problems import classification

from analyses.lab import cases
from analyses.lab import command as lab_command
from analyses.lab import ground as lab_ground
from analyses.studies.dynamics import __main__ as command
from analyses.studies.dynamics import ends, flow, steps
from stability.base.errors import BadInput
from stability.curvature.automatic import augmented_hessian_from_data
from stability.eigen.operator import assemble


@pytest.fixture(scope="module")
def unstable() -> lab_ground.Ground:
    return cases.Case("counterexample").ground()


@pytest.fixture(scope="module")
def small() -> lab_ground.Ground:
    """A random point of E of a small network: the sectors are right at any point."""
    problem = classification("D_4")
    return lab_ground.resolve(problem, problem.initial(3), 1e-9)


def test_the_modes_of_a_point_are_eigenvectors_of_the_dense_augmented_hessian(small):
    hessian = assemble(augmented_hessian_from_data(small.problem, small.at), small.at)
    space = small.problem.space
    basis = space.embed(torch.eye(space.dim_equivariant, dtype=torch.float64))
    values = torch.linalg.eigvalsh(hessian + 1e3 * basis.mT @ basis)[: space.dim - space.dim_equivariant]
    for mode, expected in ((small.lowest, values[0]), (small.highest, values[-1])):
        assert mode.value == pytest.approx(float(expected), abs=1e-10)
        assert float((hessian @ mode.direction - mode.value * mode.direction).norm()) < 1e-9
        assert float(space.equivariant_part(mode.direction).norm()) < 1e-12
    assert small.negative == int((values < -1e-9).sum())


@pytest.mark.parametrize(("task", "eigenvalue"), [("counterexample", -1.0), ("counterexample-twin", 1.0)])
def test_growth_and_decay_known_by_hand_are_measured_within_one_per_cent(task, eigenvalue):
    ground = cases.Case(task).ground()
    found = flow.flow(ground, ground.lowest, 1e-5, 3.5)
    assert found["eigenvalue"] == pytest.approx(eigenvalue, abs=1e-12)
    assert found["folds_fitted"] >= 3
    assert found["relative_error"] < 0.01
    assert np.sign(found["rate_measured"]) == -np.sign(eigenvalue)
    assert found["stops_at"] is None


def test_a_large_push_shows_where_the_prediction_stops(unstable):
    found = flow.flow(unstable, unstable.lowest, 1e-2, 6.0)
    off, predicted = np.array(found["off_equivariance"]), np.array(found["predicted"])
    wrong = np.flatnonzero(abs(off / predicted - 1) > 0.1)
    assert found["stops_at_time"] == found["times"][wrong[0]]
    assert found["stops_at"] == pytest.approx(off[wrong[0]] / found["norm"])


def test_the_counterexample_ends_at_zero_risk_with_its_symmetry_broken(unstable):
    found = ends.end(unstable, "one partner", iterations=100)
    assert found["risk_start"] == pytest.approx(0.25)
    assert found["risk_end"] < 1e-20
    assert found["symmetry_of_end"]["fixes_A"] == 1
    assert found["symmetry_of_end"]["order_of_group"] == 2
    assert found["negative"] == 0


def test_the_spectrum_off_e_is_that_of_the_dense_hessian_of_moved_data(small):
    problem = small.problem
    at = small.at + 0.1 * torch.randn(
        problem.space.dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    found, method, negative = ends.curvature_at(problem, at)
    values = torch.linalg.eigvalsh(
        torch.func.jacrev(lambda a: torch.func.grad(lambda b: augmented_risk(problem, b))(a))(at)
    )
    assert method == "dense"
    assert found[0]["value"] == pytest.approx(float(values[0]), abs=1e-10)
    assert negative == int((values < -1e-9).sum())


def test_a_subgroup_that_fixes_the_weights_is_found():
    problem = classification("S_4")
    space, group = problem.space, problem.group
    v = torch.randn(space.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    subgroup = [g for g in group.elements() if g[3] == 3]
    at = torch.stack([space.act(g, v) for g in subgroup]).mean(0)
    found = ends.symmetry(problem, at)
    assert (found["fixes_A"], found["fixes_function"]) == (6, 6)
    assert found["orbits_A"] == [[0, 1, 2], [3]]
    assert found["next_move_of_A"] > 0.1


def test_the_first_order_change_of_a_mode_is_a_difference_quotient(small):
    found = flow.mode_facts(small)
    data, t = small.problem.augmented(), 1e-6
    predict = small.problem.model.predict
    moved = predict(small.at + t * small.lowest.direction, data.x) - predict(
        small.at - t * small.lowest.direction, data.x
    )
    expected = float((data.weight @ (moved / (2 * t)).square().sum(-1)).sqrt())
    assert found["first_order"] == pytest.approx(expected, rel=1e-5, abs=1e-8)
    assert sum(found["mass_by_layer"]) == pytest.approx(1)
    assert small.lowest.irrep in found["shared_by"]


def test_units_that_compute_the_same_are_counted_once(small):
    problem = small.problem
    weights = [w.clone() for w in problem.space.split(small.at)]
    weights[0][4] = weights[0][2]
    weights[0][7] = weights[0][2]
    copied = dataclasses.replace(small, at=problem.space.join(weights))
    (before, units), (after, _) = (flow.distinct_units(g, problem.augmented(), 0)[0] for g in (small, copied))
    assert units == weights[0].shape[0]
    assert after == before - 2


def test_a_step_above_a_critical_step_multiplies_the_deviation_by_one_minus_tau_lambda():
    ground = cases.Case("counterexample-twin").ground()  # λ = 5 on E, 1 on E⊥
    rows = {(r["where"], r["space"]): r for r in steps.discrete(ground)}
    assert rows["between", "E"]["critical_step"] == pytest.approx({"E": 0.4, "E_perp": 2.0})
    for row in rows.values():
        assert row["factor_measured"] == pytest.approx(row["factor_predicted"], abs=1e-4)
    assert abs(rows["between", "E"]["factor_measured"]) > 1 > abs(rows["between", "E_perp"]["factor_measured"])
    assert all(abs(rows["below both", s]["factor_measured"]) < 1 for s in ("E", "E_perp"))


def test_the_command_keeps_every_part_and_its_words_name_the_numbers(tmp_path):
    arguments = ["--tasks", "counterexample", "counterexample-twin", "--iterations", "50", "--out", str(tmp_path)]
    command.main(arguments)
    found = json.loads((tmp_path / "dynamics.json").read_text())
    assert {r["part"] for r in found["rows"]} == {"flow", "mode", "end"}
    for row in found["rows"]:
        if row["part"] == "flow":
            assert f"rate {row['rate_measured']:.4g}" in found["section"]["measured"]
    assert "minima" in found["section"]["means"]
    before = (tmp_path / "dynamics.json").read_bytes()
    command.main(arguments)
    assert (tmp_path / "dynamics.json").read_bytes() == before


def test_bad_options_end_with_one_line_and_status_2(tmp_path, capsys):
    assert lab_command.command(command.main, ["--iterations", "0", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(BadInput, match="smaller bound"):
        cases.Case("counterexample").ground().lowest_above(10.0)


def test_the_gradient_vanishes_at_a_point_that_was_found():
    ground = cases.Case("perm", 0, 20, 2e-2).ground()
    assert float(gradient(lambda a: augmented_risk(ground.problem, a), ground.at).norm()) < 1e-8


def test_a_descent_that_keeps_a_subgroup_ends_where_the_subgroup_fixes_the_weights():
    problem = classification("S_4")
    ground = lab_ground.resolve(problem, problem.initial(3), 1e-9)
    group = [g for g in problem.group.elements() if g[3] == 3]
    v = torch.randn(problem.space.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    v = torch.stack([problem.space.act(g, v) for g in group]).mean(0)
    assert lab_ground.stabiliser(problem, v) == group
    start = ground.at + 0.1 * v
    found, risk, _ = ends.minimise_within(problem, start, group, 30)
    assert risk < float(augmented_risk(problem, start))
    assert risk == pytest.approx(float(augmented_risk(problem, found)))
    assert max(float((problem.space.act(g, found) - found).norm()) for g in group) < 1e-12
    slope = gradient(lambda a: augmented_risk(problem, a), found)
    fixed = torch.stack([problem.space.act(g, slope) for g in group]).mean(0)
    assert float((slope - fixed).norm()) < 1e-12  # nothing in the gradient pulls the weights out of what is kept


def test_rounding_takes_augmented_descent_off_e_at_the_rate_of_the_top_mode_and_equivariant_descent_stays(monkeypatch):
    ground = cases.Case("perm", 0, 20, 2e-2).ground()
    assert ground.highest.value < ground.top_on_e  # here E itself is the first to overshoot
    monkeypatch.setattr(steps, "DESCENT_STEPS", 40)
    monkeypatch.setattr(steps, "DESCENT_START", 1e-14)
    aug, equi = steps.descent(ground)
    assert aug["step"] == equi["step"]
    assert max(equi["off_equivariance"]) < 1e-14
    assert aug["factor_predicted"] < 1
    assert max(aug["off_equivariance"]) < 1e-12
    top = ground.highest.value / 1.69  # so that the step is 1.3 times 2/λ_max(E⊥)
    moved = dataclasses.replace(ground, point=dataclasses.replace(ground.point, eigenvalues=(0.0, top)))
    aug, equi = steps.descent(moved)
    assert aug["factor_predicted"] == pytest.approx(1.6)
    assert aug["factor_measured"] == pytest.approx(1.6, rel=0.05)
    assert max(equi["off_equivariance"]) < 1e-14
