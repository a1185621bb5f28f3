"""The worked examples: indices, spectra and risks known in closed form, reproduced."""

from __future__ import annotations

import doctest
import itertools
import json
import math

import numpy as np
import pytest
import torch

import stability
from analyses.examples import deep_linear, student_teacher
from analyses.examples.deep_linear.__main__ import main
from stability.base.errors import BadInput
from stability.curvature.automatic import nominal_hessian
from stability.eigen.operator import assemble
from stability.points.stationary import describe_point
from stability.spectra import sectors

# -- deep linear networks ---------------------------------------------------------------------------------------------

WIDTHS = [(3, 1, 3), (3, 2, 3), (4, 3, 4), (3, 5, 3), (3, 2, 2, 3), (3, 3, 2, 3), (3, 2, 3, 3), (2, 4, 3, 2)]


@pytest.mark.parametrize("widths", WIDTHS, ids=lambda w: "-".join(map(str, w)))
def test_every_critical_point_of_a_linear_network_has_the_index_of_the_theory(widths):
    land = deep_linear.landscape(widths, seed=3)
    values = land.directions[1]
    seen = set()
    for number, point in enumerate(deep_linear.classes(widths)):
        at = deep_linear.representative(land, point, seed=number)
        spectrum, gradient = deep_linear.spectrum_at(land.problem, at)
        assert gradient < 1e-11
        assert float(land.problem.risk(at)) == pytest.approx(land.risk(point.used), abs=1e-11)
        assert spectrum.negative_count == deep_linear.index(widths, values, point), point
        # What is called negative is far from what is called zero: no count rests on the threshold.
        negative = [e.value for e in spectrum.lowest if e.value < 0]
        assert all(v < -1e-4 or abs(v) < 1e-11 for v in negative), negative
        seen.add(spectrum.negative_count)
    assert len(seen) > 2


def test_the_index_does_not_depend_on_the_representative():
    land = deep_linear.landscape((3, 2, 3, 3), seed=0)
    point = deep_linear.Critical((1,), (1, 0, 1))
    counts = {
        deep_linear.spectrum_at(land.problem, deep_linear.representative(land, point, seed))[0].negative_count
        for seed in range(6)
    }
    assert counts == {deep_linear.index(land.widths, land.directions[1], point)}


@pytest.mark.parametrize("widths", [(4, 3, 4), (3, 3, 2, 3)], ids=lambda w: "-".join(map(str, w)))
def test_balanced_points_on_white_inputs_have_the_spectrum_known_by_hand(widths):
    land = deep_linear.landscape(widths, seed=1, white=True)
    values = land.directions[1]
    for point in deep_linear.classes(widths):
        if any(point.ranks):
            continue
        at = deep_linear.representative(land, point, seed=None)
        found = torch.linalg.eigvalsh(assemble(nominal_hessian(land.problem, at), at)).numpy()
        expected = deep_linear.balanced_spectrum(widths, values, point.used)
        np.testing.assert_allclose(found, expected, atol=1e-10 * max(1.0, expected[-1]))


def test_the_engine_and_a_hessian_written_out_agree_at_a_saddle():
    land = deep_linear.landscape((3, 3, 2, 3), seed=2)
    at = deep_linear.representative(land, deep_linear.Critical((0,), (0, 1, 0)), seed=1)
    shapes = list(itertools.pairwise(land.widths))

    def risk(flat):
        product, start = torch.eye(3, dtype=torch.float64), 0
        for columns, rows in shapes:
            product = flat[start : start + rows * columns].reshape(rows, columns) @ product
            start += rows * columns
        return 0.5 * (torch.as_tensor(land.x) @ product.mT - torch.as_tensor(land.y)).square().sum(1).mean()

    plain = torch.autograd.functional.hessian(risk, at)
    torch.testing.assert_close(assemble(nominal_hessian(land.problem, at), at), plain, atol=1e-12, rtol=1e-12)


def test_a_saddle_of_a_deep_network_may_have_no_negative_eigenvalue_and_still_descend():
    land = deep_linear.landscape((3, 3, 2, 3), seed=3)
    origin = deep_linear.Critical((), (0, 0, 0))
    assert deep_linear.index(land.widths, land.directions[1], origin) == 0
    at = deep_linear.representative(land, origin, seed=0)
    assert not at.any()
    # ∇²R vanishes; R falls in third order along the leading singular direction.
    assert float(assemble(nominal_hessian(land.problem, at), at).abs().max()) < 1e-14
    full = deep_linear.representative(land, deep_linear.Critical((0,), (0, 0, 0)), seed=0)
    assert float(land.problem.risk(0.1 * full)) < float(land.problem.risk(at))


@pytest.mark.parametrize(("ones", "copies"), [*deep_linear.HIDDEN, (1, 2)], ids=str)
def test_indices_of_equivariant_critical_points_split_over_the_sectors_as_in_the_theory(ones, copies):
    example = deep_linear.symmetrised(ones=ones, copies=copies, seed=1)
    for used in example.classes():
        at = example.representative(used)
        space = example.problem.space
        assert float(space.transverse_part(at).norm()) < 1e-12
        point = describe_point(example.problem, space.project(at), "given", 1e-10)
        assert point.gradient_norm < 1e-12
        theory = example.index(used)
        for name, spectrum in deep_linear.sector_spectra(example.problem, at).items():
            assert spectrum.negative_count == theory.pop(name), (used, name)
        assert not any(theory.values()), "an index in a sector that does not occur in L"
        assert (point.index == 0) == example.is_equivariant_minimum(used)


def test_sectors_of_the_linear_network_add_up_to_the_index_of_its_averaged_moments():
    example = deep_linear.symmetrised(ones=1, copies=1, seed=1)
    space = example.problem.space
    # Baldi and Hornik's count in all of L, from the moments of data that were moved by every element.
    moved = example.problem.augmented()
    x, y, w = (part.numpy() for part in moved)
    root = deep_linear.root((x.T * w) @ x)[1]
    u, values, _ = np.linalg.svd((y.T * w) @ x @ root)
    dims = {v.name: v.dim for v, _ in sectors.occurring(space)}
    for used in example.classes():
        at = example.representative(used)
        first, second = space.split(at)
        product = (second @ first).numpy() @ np.linalg.inv(root)
        taken = [i for i in range(len(values)) if np.linalg.norm(u[:, i] @ product) > 1e-8]
        rank = np.linalg.matrix_rank(product, tol=1e-8)
        assert len(taken) == rank
        whole = deep_linear.pairs(values, taken) + (first.shape[0] - rank) * (len(values) - rank)
        assert whole == sum(dims.get(name, 0) * count for name, count in example.index(used).items())


def test_a_global_minimum_on_e_behind_an_invariant_bottleneck_is_unstable_across_e():
    example = deep_linear.symmetrised(ones=3, copies=0)
    (used,) = [c for c in example.classes() if example.is_equivariant_minimum(c)]
    settings = stability.Settings(at=example.problem.space.project(example.representative(used)))
    analysis = stability.analyse(example.problem, settings).analysis
    assert analysis.verdict.aug.status == analysis.verdict.transverse.status == "unstable"
    assert analysis.spectra["aug"]["E"].negative_count == 0
    # Of three dimensions each: the unused hidden unit in two standard directions, and those that beat a trivial one.
    values = {name: directions[1] for name, directions in example.directions.items()}
    better = sum(bool(k > i) for k in values["standard"] for i in values["trivial"])
    assert analysis.spectra["aug"]["E_perp"].negative_count == 3 * (2 + better)
    assert analysis.identities["prop2"] < 1e-12


def test_widths_without_a_theory_are_refused():
    with pytest.raises(BadInput, match="give d p d or d p p' d"):
        deep_linear.landscape((3, 2, 4), seed=0)


def test_the_deep_linear_command_writes_its_table_and_picture(tmp_path):
    main(["--widths", "2", "2", "2", "--out", str(tmp_path)])
    stored = json.loads((tmp_path / "deep-linear.json").read_text())
    assert all(r["index_theory"] == r["index_measured"] for r in stored["rows"])
    assert (tmp_path / "deep-linear.png").stat().st_size > 10_000
    assert "equals the closed form at every one" in stored["section"]["measured"]


# -- student and teacher ----------------------------------------------------------------------------------------------


def test_the_docstrings_of_the_examples_tell_the_truth():
    assert doctest.testmod(student_teacher).attempted
    assert not doctest.testmod(student_teacher).failed


def test_the_arc_cosine_kernel_is_the_gaussian_expectation():
    generator = torch.Generator().manual_seed(0)
    w, v = torch.randn(2, 3, 2, generator=generator, dtype=torch.float64)
    # In the plane: polar coordinates, E r² = 2, and the angle by a trapezoidal rule.
    angle = torch.arange(200_000, dtype=torch.float64) * (2 * math.pi / 200_000)
    circle = torch.stack([angle.cos(), angle.sin()])
    by_quadrature = 2 * torch.einsum("it,jt->ij", (w @ circle).relu(), (v @ circle).relu()) / circle.shape[1]
    torch.testing.assert_close(student_teacher.kernel(w, v), by_quadrature, atol=1e-9, rtol=0)


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-7, 1e-3, 0.0299999, 0.0300001, 1.0, math.pi])
def test_the_kernel_is_twice_differentiable_at_every_angle(angle):
    w = torch.tensor([[1.3 * math.cos(angle), 1.3 * math.sin(angle)]], dtype=torch.float64)
    v = torch.tensor([[0.7, 0.0]], dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(lambda a: student_teacher.kernel(a, v).sum(), w).reshape(2, 2)
    # By hand: |w||v|g(θ) is linear along w and curved by (g + g″)|v|/|w| = |v| sin θ / (π|w|) across it.
    across = torch.tensor([-math.sin(angle), math.cos(angle)], dtype=torch.float64)
    expected = torch.outer(across, across) * 0.7 * math.sin(angle) / (math.pi * 1.3)
    torch.testing.assert_close(hessian, expected, atol=1e-13, rtol=1e-9)


@pytest.mark.parametrize("d", [4, 5, 7])
def test_the_spectrum_at_the_teacher_is_the_closed_form_sector_by_sector(d):
    problem = student_teacher.student_teacher(d)
    at = torch.eye(d, dtype=torch.float64).flatten()
    theta = problem.space.project(at)
    nominal = nominal_hessian(problem, at)
    assert float(nominal.gradient.norm()) < 1e-14
    expected = student_teacher.teacher_spectrum(d)
    for irrep, _ in sectors.occurring(problem.space):
        block = assemble(sectors.sector_hessian(problem, theta, irrep, nominal), at)
        np.testing.assert_allclose(torch.linalg.eigvalsh(block).numpy(), expected.pop(irrep.name), atol=1e-12)
    assert not expected


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("d", [4, 9])
def test_collapsed_students_are_saddles_of_known_risk(d, sign):
    problem = student_teacher.student_teacher(d)
    c, risk = student_teacher.collapsed(d, sign)
    at = torch.full((d * d,), c, dtype=torch.float64)
    assert float(problem.risk(at)) == pytest.approx(risk, rel=1e-13)
    point = describe_point(problem, problem.space.project(at), "given", 1e-10)
    assert point.gradient_norm < 1e-13
    assert point.index == 1
    # Along the line all neurons grow together: d³c²/4 has the curvature d/2 for unit vectors of L.
    assert max(point.eigenvalues) == pytest.approx(d / 2, rel=1e-12)


@pytest.mark.parametrize("free", [0, 1])
def test_spurious_minima_on_e_turn_from_saddles_to_minima_between_five_and_six_neurons(free):
    few, many = (student_teacher.measure(d, free, starts=6) for d in (5, 6))
    for row in (few, many):
        assert row["risk"] > 0.02
        assert row["gradient"] < 1e-10
        assert row["lowest"]["trivial"] > row["error"]
    assert few["transverse"] < -few["error"]
    assert few["negative"] > 0
    assert many["transverse"] > many["error"]
    assert many["negative"] == 0


def test_the_verdicts_on_a_spurious_point_follow_from_its_sectors():
    problem = student_teacher.student_teacher(5)
    (point, *_) = student_teacher.spurious(problem, starts=6)
    settings = stability.Settings(at=point.theta, escape_iterations=0)
    analysis = stability.analyse(problem, settings).analysis
    verdict = analysis.verdict
    assert (verdict.eqv.status, verdict.aug.status, verdict.nominal.status) == ("stable", "unstable", "unstable")
    # R is its own average, so nominal and augmented spectra are the same.
    assert analysis.spectra["nominal"]["L"].lowest[0].value == pytest.approx(
        analysis.spectra["aug"]["E_perp"].lowest[0].value, abs=1e-12
    )
    assert analysis.assumptions["invariant_loss"] < 1e-12
    assert analysis.identities["lemma6"] < 1e-12


def test_the_student_teacher_command_continues_and_refuses_too_few_neurons(tmp_path, capsys):
    student_teacher.main(["--d", "4", "--starts", "6", "--out", str(tmp_path)])
    before = (tmp_path / "student-teacher.json").read_text()
    student_teacher.main(["--d", "4", "--starts", "6", "--out", str(tmp_path)])
    assert (tmp_path / "student-teacher.json").read_text() == before
    assert "unstable on E⊥ for d in [4]" in capsys.readouterr().out
    with pytest.raises(BadInput, match="give numbers ≥ 4"):
        student_teacher.main(["--d", "3", "--out", str(tmp_path)])
