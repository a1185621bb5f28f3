"""The stages of a run one by one: what each is given, what it returns, and that another way gives the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from brute import augmented_risk, bad, differences, equivariant_projection, gradient, problem

from stability import from_risk
from stability.base.limits import Limits
from stability.base.storage import Checkpoint
from stability.curvature.at import At, Dense
from stability.eigen.operator import Operator
from stability.groups import Cyclic, regular
from stability.points.stationary import gradient_scale
from stability.run import checks, consequences, errors, find, judge, near, resolve, solve, spectra
from stability.run.analysis import prepared
from stability.run.given import Given
from stability.run.settings import Settings
from stability.tasks import TaskOptions, load

NAME = "A_4 points"
SETTINGS = Settings(points=1, escape_iterations=30)


def given(settings: Settings = SETTINGS, name: str = NAME, checkpoint: Checkpoint | None = None) -> Given:
    return prepared(problem(name), settings, checkpoint=checkpoint)


@pytest.fixture(scope="module")
def found() -> find.Found:
    return find.found(given())


@pytest.fixture(scope="module")
def dense(found) -> np.ndarray:
    """∇²R^aug on L by differences of gradients of moved data."""
    one = problem(NAME)
    at = one.space.embed(found.points[0].theta)
    return differences(lambda a: gradient(lambda b: augmented_risk(one, b), a), at)


def curved(settings: Settings, found: find.Found) -> tuple[Given, At, spectra.Curved]:
    run = given(settings)
    at = run.at(found.points[0].theta)
    return run, at, spectra.curved(run, at, found.points[0])


# ------------------------------------------------------------------------------------------ before and the point


def test_a_memory_too_small_is_told_with_what_is_needed():
    checks.enough_memory(problem(NAME), 1.0)
    with bad("needs about 0.5 GB, more than --memory-gb 0.1"):
        checks.enough_memory(problem(NAME), 0.1)


def test_assumptions_are_kept_as_measured_and_the_header_says_what_the_problem_is():
    run = given()
    checks.assumptions(run)
    analysis = run.ledger.analysis
    assert analysis.assumptions and max(analysis.assumptions.values()) < 1e-10
    space = run.problem.space
    assert analysis.dims == {"L": space.dim, "E": space.dim_equivariant, "E_perp": space.dim - space.dim_equivariant}
    assert [one["dim"] for one in analysis.layers] == [one.dim for one in space.layers]


def test_a_point_that_is_found_is_stationary_for_moved_data_and_is_not_searched_again(found, tmp_path, monkeypatch):
    one, point = problem(NAME), found.points[0]
    slope = gradient(lambda a: augmented_risk(one, a), one.space.embed(point.theta))
    assert float(slope.norm()) <= point.tolerance == 1e-9 * gradient_scale(one, 0)
    kept = Checkpoint(tmp_path, {}, False)
    first = find.found(given(checkpoint=kept))
    monkeypatch.setattr(find, "find_points", None)
    again = find.found(given(checkpoint=Checkpoint(tmp_path, {}, True)))
    assert torch.equal(again.points[0].theta, first.points[0].theta)


def test_a_problem_without_starts_says_what_it_needs():
    run = replace(given(replace(SETTINGS, at="init")), problem=replace(problem(NAME), initial=None))
    with bad("--at init needs Problem\\(initial=…\\)"):
        find.found(run)


# ------------------------------------------------------------------------------------------------- eigenvalues


def test_a_spectrum_is_whole_up_to_its_limit_and_has_the_same_ends_beyond():
    h = torch.diag(torch.linspace(-2, 3, 60, dtype=torch.float64))
    operator = Operator(60, lambda v: v @ h, "h")
    whole = solve.solved(given(), operator, "h")
    ends = solve.solved(given(replace(SETTINGS, limits=Limits(dense_e=59), eigenvalues=3)), operator, "h")
    assert whole.spectrum.complete and not ends.spectrum.complete
    for a, b in ((whole.spectrum.lowest, ends.spectrum.lowest), (whole.spectrum.highest, ends.spectrum.highest)):
        np.testing.assert_allclose([e.value for e in a[:3]], [e.value for e in b[:3]], atol=1e-8)
    assert solve.densest(SETTINGS, 8000) == 8000 > solve.densest(replace(SETTINGS, memory_gb=0.1), 8000) > 1000
    assert solve.missing(given(), 7, "too large").spectrum.method == "not computed: too large"


WAYS = {
    "by sectors": SETTINGS,
    "by sectors, Lanczos": replace(SETTINGS, limits=Limits(dense=2)),
    "averaged": replace(SETTINGS, sectors="none"),
    "averaged, Lanczos": replace(SETTINGS, sectors="none", limits=Limits(dense=2)),
    "without vectors of L": replace(SETTINGS, limits=Limits(vectors=1)),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_finds_the_ends_of_the_dense_hessian_of_moved_data(way, found, dense):
    _, _, curvature = curved(WAYS[way], found)
    onto = equivariant_projection(problem(NAME).space.layers)
    values, vectors = np.linalg.eigh(onto)
    for solution, basis in (
        (curvature.spectra.aug_e, vectors[:, values > 0.5]),
        (curvature.spectra.across, vectors[:, values < 0.5]),
    ):
        expected = np.linalg.eigvalsh(basis.T @ dense @ basis)
        size = np.abs(expected).max()
        assert solution.spectrum.lowest[0].value == pytest.approx(expected[0], abs=1e-7 * size)
        assert solution.spectrum.highest[0].value == pytest.approx(expected[-1], abs=1e-7 * size)


def test_the_irreps_resolved_fill_l_and_those_not_asked_for_are_left_out():
    run = given()
    irreps = resolve.irreps_of(run, large=False)
    copies = {"real": 1, "complex": 2, "quaternionic": 4}
    assert sum(v.dim * size // copies[v.kind] for v, size in irreps) == run.problem.space.dim
    name = next(v.name for v, _ in irreps if not v.is_trivial)
    some = resolve.irreps_of(given(replace(SETTINGS, sectors=name)), large=False)
    assert {v.name for v, _ in some} == {name, "trivial"}
    none = given(replace(SETTINGS, sectors="none"))
    assert resolve.irreps_of(none, large=False) is None
    with bad("--sectors none: L has .* dimensions, too many to average"):
        resolve.irreps_of(none, large=True)


# ---------------------------------------------------------------------------------------------------- how surely


def test_every_error_is_in_the_sum_and_a_violation_widens_in_proportion(found):
    run, at, curvature = curved(SETTINGS, found)
    solution = curvature.spectra.across
    plain, budget = errors.Errors(torch.float64, 0.0, size=2.0).widened(solution, 1e-9)
    broken, more = errors.Errors(torch.float64, 1e-6, size=2.0).widened(solution, 1e-9)
    for wider, parts in ((plain, budget), (broken, more)):
        assert parts.total == pytest.approx(parts.solver + parts.products + parts.symmetry)
        assert wider.spectrum.error == pytest.approx(parts.total)
    assert budget.symmetry == 0 and more.symmetry == pytest.approx(4e-6 * max(2.0, _norm(solution)))
    assert budget.products > 1e-9


def _norm(solution) -> float:
    return max(abs(e.value) for e in (*solution.spectrum.lowest, *solution.spectrum.highest))


def test_a_risk_that_rounds_inside_a_sample_is_rough_and_a_smooth_one_is_not():
    rho = regular(Cyclic(3))
    start = {"a": torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)}

    def smooth(t: dict) -> torch.Tensor:
        return (t["a"] ** 4).sum()

    def rough(t: dict) -> torch.Tensor:
        return (((t["a"] ** 2 + 1e9) - 1e9) ** 2).sum()  # the same, in steps of 1e-7

    found = []
    for risk in (smooth, rough):
        one = from_risk(risk, start, {"a": rho})
        found.append(errors.rough_hessian(Dense(one, start["a"]), 0))
    assert found[0] < 1e-12 < 1e-8 < found[1]


def test_the_stationary_point_beside_a_displaced_one_is_found_again(found):
    run, at, curvature = curved(SETTINGS, found)
    point = found.points[0]
    here = near.stationarity(run, at, point, curvature, 0)
    assert here.supported and here.travelled < 1e-6 and near.no_point(here) == ""
    step = torch.ones_like(point.theta) * 1e-6
    moved = at.moved(point.theta + step)
    there = near.stationarity(run, moved, point, curvature, 0)
    assert there.travelled == pytest.approx(float(step.norm()), rel=1e-2)
    assert there.shift_E_perp > here.shift_E_perp
    flat = replace(there, supported=False, left=None, unresolved=None)
    assert "one more Newton step leaves" in near.no_point(flat)


HAND = {
    "counterexample": ("stable", "unstable", 1.0),
    "counterexample-twin": ("stable", "stable", 0.0),
}


@pytest.mark.parametrize("name", HAND)
def test_verdicts_of_the_examples_by_hand_and_where_an_instability_leads(name):
    one = load(name, TaskOptions())
    run = prepared(one, SETTINGS)
    points = find.found(run).points
    at, report = run.at(points[0].theta), find.described(run, points)
    curvature = spectra.curved(run, at, points[0])
    judge.identities_hold(run, at, 1.0)
    verdict = judge.judged(run, at, points[0], report, curvature)
    eqv, aug, penalty = HAND[name]
    assert (verdict.eqv.status, verdict.aug.status) == (eqv, aug)
    assert verdict.critical_penalty == verdict.growth_rate == pytest.approx(penalty, abs=1e-9)
    measured = {k: v for k, v in run.ledger.analysis.identities.items() if isinstance(v, float)}
    assert measured and max(measured.values()) < 1e-8
    end = consequences.escaped(run, at, report, verdict, curvature)
    assert (end is None) == (aug == "stable")
    if end is not None:
        escape = run.ledger.analysis.escape
        assert escape.risk_end < escape.risk_start - 1e-3
        assert float(one.augmented_risk(end)) == pytest.approx(escape.risk_end, rel=1e-12)
        assert escape.off_equivariance == pytest.approx(abs(float(end[0] - end[1])) / 2**0.5)


def test_no_step_down_is_taken_where_none_is_allowed(found):
    run = prepared(load("counterexample", TaskOptions()), replace(SETTINGS, escape_iterations=0))
    points = find.found(run).points
    at, report = run.at(points[0].theta), find.described(run, points)
    curvature = spectra.curved(run, at, points[0])
    verdict = judge.judged(run, at, points[0], report, curvature)
    assert verdict.aug.status == "unstable" and consequences.escaped(run, at, report, verdict, curvature) is None
