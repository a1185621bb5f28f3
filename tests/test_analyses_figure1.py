"""analyses.figure1: curves that repeat, that a stopped run continues, and that the gradient at the start predicts."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from problems import classification

from analyses.lab import command as lab_command
from analyses.lab.drift.walks import follow
from analyses.paper.figure1 import __main__ as command
from analyses.paper.figure1 import curves, runs, words
from stability.base.storage import Checkpoint
from stability.curvature.automatic import augmented_hessian_from_data, transverse
from stability.eigen.operator import assemble
from stability.points.training import descend, exact_augmentation
from stability.tasks.data import graphs, published_graphs

ARGUMENTS = ["--task", "perm", "--runs", "2", "--epochs", "4", "--samples", "60"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("figure1")
    command.main([*ARGUMENTS, "--out", str(out)])
    return out


def stored(folder):
    return json.loads((folder / "figure1.json").read_text())


def by_key(found):
    return {(r["task"], r["strategy"], r["run"]): r for r in found["rows"]}


def test_the_command_tells_first_how_long_it_takes(tmp_path, capsys):
    command.main([*ARGUMENTS, "--runs", "1", "--strategy", "NOM", "--out", str(tmp_path)])
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("2 runs to do, about ")
    assert first.endswith(" minutes")


def test_every_strategy_leaves_its_curve_and_the_picture_its_words(folder):
    found = stored(folder)
    names = {("perm", s, run) for s in ("START", "CURVATURE", *runs.STRATEGIES) for run in range(2)}
    assert set(by_key(found)) == names
    for r in found["rows"]:
        if r["strategy"] not in ("START", "CURVATURE"):
            assert len(r["travelled"]) == len(r["off_equivariance"]) == 5
            assert r["travelled"][0] == 0
    assert (folder / "figure1.png").stat().st_size > 10_000
    assert set(found["section"]) >= {"title", "expected", "measured", "means"}
    assert not (folder / "state").exists()


def test_nominal_training_leaves_e_and_exact_and_equivariant_training_do_not(folder):
    ends = {k[1:]: r["off_equivariance"][-1] for k, r in by_key(stored(folder)).items() if "off_equivariance" in r}
    for run in range(2):
        assert ends["EXACT", run] < 1e-12
        assert ends["EQUI", run] < 1e-12
        assert 1e-8 < ends["AUG", run] < ends["NOM", run]


def test_exact_descent_that_overshoots_leaves_e_as_fast_as_the_spectrum_lets_rounding_grow_and_no_faster():
    problem = classification("D_4")
    at = problem.space.embed(problem.initial(3))
    row = runs.curvature(problem, at)
    hessian = transverse(augmented_hessian_from_data(problem, at), problem.space)
    values, vectors = torch.linalg.eigh(assemble(hessian, at))
    assert row["lowest"] == pytest.approx(float(values[0]), abs=1e-6)
    assert row["highest"] == pytest.approx(float(values[-1]), abs=1e-6)
    step, epochs = 2.5 / row["highest"], 6
    assert curves.amplification(row, step) == pytest.approx(max(1.5, abs(1 - step * row["lowest"])), rel=1e-6)
    # From a point that stays where it is: the gradient at A is taken off.
    exact = exact_augmentation(problem)
    still = exact(at, None)

    def off_and_bound(start):
        run = descend(problem, start, lambda a, rng: exact(a, rng) - still, step, epochs, "EXACT")
        return run.off_equivariance, curves.rounding_bound(row, run.off_equivariance[0], step, epochs)

    off, bound = off_and_bound(at)
    assert (np.array(off) <= bound).all()
    fastest = int((1 - step * values).abs().argmax())
    off, bound = off_and_bound(at + 1e-6 * vectors[:, fastest])
    assert off[-1] == pytest.approx(bound[-1], rel=1e-2)


def test_words_say_when_exact_descent_is_further_off_e_than_amplified_rounding():
    row = {"task": "perm", "run": 0, "strategy": "CURVATURE", "lowest": -1.0, "highest": 3.0, "norm": 1.0}
    exact = {"task": "perm", "run": 0, "strategy": "EXACT", "off_equivariance": [1e-16, 1e-16]}
    options = {"step": 0.1, "epochs": 1}
    assert "1 of 1 runs stay" in words.said_of_rounding([row, exact], "perm", options)
    assert "0 of 1 runs stay" in words.said_of_rounding(
        [row, {**exact, "off_equivariance": [1e-16, 1e-12]}], "perm", options
    )
    assert words.said_of_rounding([exact], "perm", options) == ""


def test_near_e_and_plain_passes_agree_and_both_are_as_far_as_predicted(folder):
    found = stored(folder)
    both, error = curves.agreement(found["rows"], "perm")
    assert both == 2
    assert error < 1e-2
    rows = by_key(found)
    for run in range(2):
        left_out = rows["perm", "NEAR", run]["left_out"]
        aug, near = (np.array(rows["perm", s, run]["off_equivariance"]) for s in ("AUG", "NEAR"))
        assert np.abs(near[1:] / aug[1:] - 1).max() < 2 * left_out
    for c in curves.curves(found["rows"], found["options"]):
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
    command.main([*ARGUMENTS, "--workers", "2", "--out", str(tmp_path)])
    again = by_key(stored(tmp_path))
    for key, row in by_key(whole).items():
        assert again[key].get("travelled") == row.get("travelled")
        assert again[key].get("off_equivariance") == row.get("off_equivariance")
    assert again[kept["task"], kept["strategy"], kept["run"]]["cpu_seconds"] == -17.0


@pytest.mark.parametrize("strategy", ["NOM", "AUG", "NEAR", "EQUI"])
def test_the_large_path_gives_the_curves_of_the_small_one(strategy, folder):
    options = command.parse([*ARGUMENTS, "--out", "unused"])
    for run in range(2):
        walk = runs.walk_of("perm", strategy, run, options.passes, options)
        keep = Checkpoint(None, {}, resume=False)
        travelled, off = follow(walk, 4, run, strategy, keep)
        row = by_key(stored(folder))["perm", strategy, run]
        np.testing.assert_allclose(travelled, row["travelled"], rtol=1e-5)
        np.testing.assert_allclose(off, row["off_equivariance"], rtol=1e-3, atol=1e-12)


def test_other_options_are_refused_in_the_same_folder(folder, capsys):
    assert lab_command.command(command.main, [*ARGUMENTS, "--epochs", "5", "--out", str(folder)]) == 2
    assert "other options" in capsys.readouterr().err


def test_at_the_papers_size_words_tell_what_runs_cost_plain_and_fast_and_show_runs_nothing(tmp_path):
    arguments = ["--size", "paper", "--task", "perm", "--epochs", "2", "--samples", "60", "--out", str(tmp_path)]
    command.main([*arguments, "--runs", "1"])
    first = stored(tmp_path)
    rows = by_key(first)
    assert rows["perm", "COST", 0]["plain_seconds"] > 0
    hours = 30 * sum(rows["perm", s, 0]["cpu_seconds"] for s in ("NOM", "NEAR", "EQUI")) / 3600
    assert f"take {hours:.1f} hours of one core with NEAR" in first["section"]["measured"]
    command.main([*arguments, "--runs", "5", "--show"])
    assert stored(tmp_path)["section"] == first["section"] and len(stored(tmp_path)["rows"]) == len(rows)


def test_other_data_are_refused_in_the_same_folder(tmp_path, capsys):
    for seed in (0, 1):
        data = graphs(5, 12, seed, 0.7, 0.2)
        arrays = {"adjacency": data.inputs.reshape(12, 5, 5), "label": data.targets}
        np.savez(tmp_path / f"{seed}.npz", **arrays)
    arguments = ["--task", "perm", "--strategy", "EQUI", "--runs", "1", "--epochs", "2", "--out", str(tmp_path / "out")]
    command.main([*arguments, "--data-dir", str(tmp_path / "0.npz")])
    assert stored(tmp_path / "out")["options"]["data"] == [f"perm {published_graphs(tmp_path / '0.npz').digest}"]
    for other in (["--data-dir", str(tmp_path / "1.npz")], []):
        assert lab_command.command(command.main, [*arguments, *other]) == 2
        assert "other options" in capsys.readouterr().err
