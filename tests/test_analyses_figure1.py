"""analyses.figure1: curves that repeat, that a stopped run continues, and that the gradient at the start predicts."""

from __future__ import annotations

import json

import numpy as np
import pytest

from analyses import figure1, shared

ARGUMENTS = ["--task", "perm", "--runs", "2", "--epochs", "4", "--samples", "60"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("figure1")
    figure1.main([*ARGUMENTS, "--out", str(out)])
    return out


def stored(folder):
    return json.loads((folder / "figure1.json").read_text())


def by_key(found):
    return {(r["task"], r["strategy"], r["run"]): r for r in found["rows"]}


def test_the_command_tells_first_how_long_it_takes(tmp_path, capsys):
    figure1.main([*ARGUMENTS, "--runs", "1", "--strategy", "NOM", "--out", str(tmp_path)])
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("2 runs to do, about ")
    assert first.endswith(" minutes")


def test_every_strategy_leaves_its_curve_and_the_picture_its_words(folder):
    found = stored(folder)
    names = {("perm", s, run) for s in ("START", *figure1.STRATEGIES) for run in range(2)}
    assert set(by_key(found)) == names
    for r in found["rows"]:
        if r["strategy"] != "START":
            assert len(r["travelled"]) == len(r["off_equivariance"]) == 5
            assert r["travelled"][0] == 0
    assert (folder / "figure1.png").stat().st_size > 10_000
    assert set(found["section"]) >= {"title", "expected", "measured", "means"}
    assert not (folder / "state").exists()


def test_nominal_training_leaves_e_and_exact_and_equivariant_training_do_not(folder):
    ends = {k[1:]: r["off_equivariance"][-1] for k, r in by_key(stored(folder)).items() if k[1] != "START"}
    for run in range(2):
        assert ends["EXACT", run] < 1e-12
        assert ends["EQUI", run] < 1e-12
        assert 1e-8 < ends["AUG", run] < ends["NOM", run]


def test_near_e_and_plain_passes_agree_and_both_are_as_far_as_predicted(folder):
    found = stored(folder)
    both, error = figure1.agreement(found["rows"], "perm")
    assert both == 2
    assert error < 1e-2
    rows = by_key(found)
    for run in range(2):
        left_out = rows["perm", "NEAR", run]["left_out"]
        aug, near = (np.array(rows["perm", s, run]["off_equivariance"]) for s in ("AUG", "NEAR"))
        assert np.abs(near[1:] / aug[1:] - 1).max() < 2 * left_out
    for c in figure1.curves(found["rows"], found["options"]):
        if c.strategy == "NOM":
            assert c.ratio == pytest.approx(1, rel=0.05)
        elif c.strategy in ("AUG", "NEAR"):
            assert c.ratio == pytest.approx(1, rel=0.6)
        else:
            assert np.isnan(c.ratio)


def test_a_run_that_was_stopped_gives_the_same_curves_and_keeps_what_it_had(folder, tmp_path):
    whole = stored(folder)
    partial = {**whole, "rows": whole["rows"][:5]}
    kept = partial["rows"][1]
    kept["cpu_seconds"] = -17.0
    (tmp_path / "figure1.json").write_text(json.dumps(partial))
    figure1.main([*ARGUMENTS, "--workers", "2", "--out", str(tmp_path)])
    again = by_key(stored(tmp_path))
    for key, row in by_key(whole).items():
        assert again[key].get("travelled") == row.get("travelled")
        assert again[key].get("off_equivariance") == row.get("off_equivariance")
    assert again[kept["task"], kept["strategy"], kept["run"]]["cpu_seconds"] == -17.0


@pytest.mark.parametrize("strategy", ["NOM", "AUG", "NEAR", "EQUI"])
def test_the_large_path_gives_the_curves_of_the_small_one(strategy, folder):
    options = figure1.parse([*ARGUMENTS, "--out", "unused"])
    for run in range(2):
        walk = figure1.walk_of("perm", strategy, run, options.passes, options)
        keep = figure1.Checkpoint(None, {}, resume=False)
        travelled, off = figure1.follow(walk, 4, run, strategy, keep)
        row = by_key(stored(folder))["perm", strategy, run]
        np.testing.assert_allclose(travelled, row["travelled"], rtol=1e-5)
        np.testing.assert_allclose(off, row["off_equivariance"], rtol=1e-3, atol=1e-12)


def test_other_options_are_refused_in_the_same_folder(folder, capsys):
    assert shared.command(figure1.main, [*ARGUMENTS, "--epochs", "5", "--out", str(folder)]) == 2
    assert "other options" in capsys.readouterr().err
