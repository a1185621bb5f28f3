"""The restricted-layer experiment on a tiny network: it separates what it should, resumes, and its words follow."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from analyses.lab.rows import Rows
from analyses.studies.restricted import measure, networks, picture
from analyses.studies.restricted.measure import compute
from analyses.studies.restricted.networks import Size, admit, build, coordinates, start
from analyses.studies.restricted.picture import draw
from analyses.studies.restricted.words import section
from stability.restricted import compatibility, restricted_augmented

TINY = Size(side=8, channels=(2, 2, 2), samples=6, steps=3, krylov=8, seeds=1)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    found = Rows(tmp_path_factory.mktemp("restricted") / "restricted.json", vars(TINY))
    compute(found, TINY)
    return found


def test_only_the_cross_in_orthonormal_coordinates_keeps_E(rows):
    off = {(r["support"], r["coordinates"]): r["off_equivariance"] for r in picture.runs(rows.rows)}
    assert all(values[0] < 1e-13 for values in off.values())
    kept = {key for key, values in off.items() if values[-1] < 1e-12}
    assert kept == {("cross", "orthonormal")}
    assert "keeps E to rounding" in section(rows.rows).finding


def test_spectra_of_both_supports_are_those_of_dense_blocks(rows):
    problem = build(TINY)
    for which in networks.SUPPORTS:
        admissible = admit(problem, which)
        c = start(problem, admissible, 0)
        operator = restricted_augmented(problem, admissible, c)
        dense = operator(torch.eye(admissible.dim, dtype=torch.float64))
        e = admissible.equivariant_part(torch.eye(admissible.dim, dtype=torch.float64))
        values, vectors = torch.linalg.eigh(e)
        for block, basis in (("E", vectors[:, values > 0.5]), ("E_perp", vectors[:, values < 0.5])):
            exact = torch.linalg.eigvalsh(basis.mT @ dense @ basis)
            found = [r for r in picture.spectra(rows.rows) if (r["support"], r["where"]) == (which, "start")]
            found = [r for r in found if r["block"] == block]
            assert sum(r["dim"] for r in found) == len(exact)
            low = min(found, key=lambda r: r["lowest"])
            assert float((exact - low["lowest"]).abs().min()) <= low["lowest_residual"] + 1e-12
            assert float(exact[0]) <= low["lowest"] + 1e-12


def test_a_second_call_computes_nothing_and_other_options_are_refused(rows, monkeypatch):
    monkeypatch.setattr(measure, "follow", lambda *a, **k: pytest.fail("computed again"))
    monkeypatch.setattr(measure, "ends", lambda *a, **k: pytest.fail("computed again"))
    compute(Rows(rows.file, vars(TINY)), TINY)
    assert json.loads(rows.file.read_text())["rows"] == rows.rows


def test_starts_lie_on_E_and_rows_have_norm_one():
    problem = build(TINY)
    for which in networks.SUPPORTS:
        admissible = admit(problem, which)
        c = start(problem, admissible, 2)
        torch.testing.assert_close(admissible.equivariant_part(c), c, atol=1e-13, rtol=0)
        at = admissible.embed(c)
        for weight in problem.space.split(at):
            assert float(weight.square().sum()) == pytest.approx(weight.shape[0])
        moved = problem.space.act(1, at)
        torch.testing.assert_close(moved, at, atol=1e-13, rtol=0)


def test_both_kinds_of_coordinates_span_the_same_kernels():
    problem = build(TINY)
    for which in networks.SUPPORTS:
        plain = coordinates(problem, which, "orthonormal", 0).admissible
        mixed = coordinates(problem, which, "not orthonormal", 0).admissible
        v = torch.randn(problem.space.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        torch.testing.assert_close(plain.tangent_part(v), mixed.tangent_part(v), atol=1e-12, rtol=0)
        assert compatibility(plain).defect == pytest.approx(compatibility(mixed).defect, abs=1e-9)


def test_the_picture_marks_zero_and_draws_every_run(rows):
    left, right = draw(rows.rows).axes[:2]
    assert len([line for line in left.lines if len(line.get_xdata()) == TINY.steps + 1]) == 4
    assert any(np.allclose(line.get_xdata(), 0) for line in right.lines)
