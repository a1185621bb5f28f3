"""analyses.replays: claims of others on their data, and what is said of them follows from the numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from analyses.lab.command import command
from analyses.replays.after_projection.__main__ import main as projection_main
from analyses.replays.after_projection.measure import ACTIONS, OPTIMISERS, one_run, start
from analyses.replays.after_projection.measure import build as build_basis
from analyses.replays.after_projection.words import judged as projection_judged
from analyses.replays.after_projection.words import stays
from analyses.replays.fixed_hidden.__main__ import main as hidden_main
from analyses.replays.fixed_hidden.measure import HIDDEN, SOLVED, one_search, orbits
from analyses.replays.fixed_hidden.measure import build as build_student
from analyses.replays.fixed_hidden.words import judged as hidden_judged
from analyses.replays.power_iteration.__main__ import main as spectrum_main
from analyses.replays.power_iteration.measure import counted, power_iteration
from analyses.replays.power_iteration.networks import Relaxed, build
from analyses.replays.power_iteration.words import judged as spectrum_judged
from analyses.replays.published_data.__main__ import main
from analyses.replays.published_data.data import SHAPE, VARIANTS, Setting, dataset, facts
from analyses.replays.published_data.measure import ratio
from analyses.replays.published_data.words import judged
from stability.tasks.data import graphs, shapes
from stability.tasks.data.graphs import connected

WRONG = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Our data in the dress of the published ones: wrong labels, grey shapes on white, masks of one everywhere."""
    where = tmp_path_factory.mktemp("published")
    data = graphs(10, 30, 5)
    label = data.targets.astype(np.uint8)
    label[np.flatnonzero(label == 0)[:WRONG]] = 1
    np.savez(where / "published_graphs.npz", adjacency=data.inputs.reshape(30, 10, 10).astype(np.uint8), label=label)
    drawn = shapes(14, 30, 5)
    masks = drawn.targets.reshape(30, 2, 14, 14)
    masks = np.where(masks.any((2, 3), keepdims=True), masks, 1).astype(np.uint8)
    image = 1 - (1 - SHAPE) * np.rot90(drawn.inputs.reshape(30, 14, 14), -1, (1, 2))
    masks = np.rot90(masks, -1, (2, 3))
    np.savez(where / "published_shapes.npz", image=image, triangle=masks[:, 0], pentagon=masks[:, 1])
    return where


def test_the_faults_of_the_data_are_counted(folder):
    found = facts("perm", Setting(folder, 20, 4))
    assert (found["wrong"], found["called_connected"]) == (WRONG, WRONG)
    assert found["labelled_connected"] - found["connected"] == pytest.approx(WRONG / 30)
    found = facts("rot", Setting(folder, 20, 4))
    assert found["one_mask_all_one"] == 30
    assert (found["background"], found["shape"]) == (pytest.approx(1), pytest.approx(SHAPE))
    assert found["points_right"] == 1.0 and found["ours_points_right"] < 0.7
    assert found["mask_is_half_coverage"] > 0.999


def test_each_variant_mends_one_thing_and_the_last_is_ours(folder):
    setting = Setting(folder, 20, 14)
    published, mended, own = (dataset("perm", v, setting) for v in VARIANTS["perm"])
    np.testing.assert_array_equal(published.inputs, mended.inputs)
    assert (published.targets != mended.targets).sum() == WRONG
    np.testing.assert_array_equal(mended.targets, connected(published.inputs.reshape(-1, 10, 10)))
    assert own.digest == graphs(10, 40, 0).digest
    published, zero, turned, own = (dataset("rot", v, setting) for v in VARIANTS["rot"])
    np.testing.assert_array_equal(published.inputs, zero.inputs)
    np.testing.assert_array_equal(zero.targets, turned.targets)
    assert own.digest == shapes(14, 40, 0).digest
    # With both faults mended it is the drawing it was made from, turned by a quarter.
    drawn = shapes(14, 30, 5)
    back = np.rot90(turned.inputs.reshape(30, 14, 14), 1, (1, 2))
    np.testing.assert_allclose(back.reshape(30, -1), drawn.inputs, atol=1e-12)
    masks = np.rot90(turned.targets.reshape(30, 2, 14, 14), 1, (2, 3))
    np.testing.assert_array_equal(masks.reshape(30, -1), drawn.targets)


def rows_of(haar: tuple[float, float], faulty: tuple[float, float]) -> list[dict]:
    rows = []
    for variant, a, b in zip(("published", "ours"), haar, faulty, strict=True):
        for name, end in (("NOM", 2.0), ("AUG", 2 * a), ("AUG, published sampler", 2 * b)):
            rows.append(
                {"kind": "run", "task": "rot", "variant": variant, "strategy": name, "run": 0, "norm": [0, end]}
            )
    middle = [r | {"variant": v} for r in rows if r["variant"] == "ours" for v in VARIANTS["rot"][1:3]]
    return rows + middle


def test_what_is_concluded_follows_from_the_ratios():
    rows = rows_of((0.02, 0.03), (0.7, 0.5))
    assert ratio(rows, "rot", "published", "AUG") == pytest.approx(0.02)
    assert "does not come from its data" in judged(rows)[1]
    assert "comes from its data" in judged(rows_of((0.9, 0.03), (0.9, 0.5)))[1]
    assert "Not decidable" in judged(rows_of((0.2, 0.03), (0.9, 0.5)))[0]
    assert "missing" in judged(rows_of((0.2, 0.03), (0.9, 0.5))[:3])[0]


def test_the_command_trains_resolves_and_resumes(folder, tmp_path):
    arguments = ["--data-dir", str(folder), "--task", "rot", "--samples", "20", "--runs", "1", "--starts", "1"]
    arguments += ["--epochs", "3", "--passes", "4", "--out", str(tmp_path / "out")]
    main(arguments)
    file = tmp_path / "out" / "published_data.json"
    stored = json.loads(file.read_text())
    assert len([r for r in stored["rows"] if r["kind"] == "run"]) == 3 * len(VARIANTS["rot"])
    assert len([r for r in stored["rows"] if r["kind"] == "point"]) == len(VARIANTS["rot"])
    assert (tmp_path / "out" / "published_data.png").stat().st_size > 20_000
    for r in stored["rows"]:
        if r["kind"] == "point":
            assert r["parts"]["quotient"] == pytest.approx(r["lambda_min_E_perp"], rel=1e-6, abs=1e-10)
        if r.get("strategy") == "NOM":
            # The first step leaves E by the part of the gradient that lies off it.
            off = np.hypot(r["gradient"]["q1"], r["gradient"]["q2"])
            assert r["norm"][1] == pytest.approx(5e-5 * off, rel=1e-6)
    main(arguments)
    assert json.loads(file.read_text())["rows"] == stored["rows"]
    assert command(main, [*arguments[:-2], "--samples", "31", "--out", str(tmp_path / "more")]) == 2


def test_five_largest_moduli_do_not_show_a_small_negative_eigenvalue():
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(7, 7, generator=generator, dtype=torch.float64)).Q
    saddle, deep = (
        torch.tensor([*low, 20.0, 15.0, 10.0, 6.0, 4.0], dtype=torch.float64) for low in ([-1, 1], [-12, 1])
    )
    shown = power_iteration((turn * saddle) @ turn.mT, generator)
    assert shown == pytest.approx([20, 15, 10, 6, 4], rel=1e-2)
    assert min(power_iteration((turn * deep) @ turn.mT, generator)) == pytest.approx(-12, rel=1e-2)
    assert counted(saddle.numpy()) == {"negative": 1, "first_negative": 6}
    assert counted(deep.numpy()) == {"negative": 1, "first_negative": 3}


def test_equal_mixing_weights_make_a_group_convolution_and_others_do_not():
    torch.manual_seed(0)
    module, space = Relaxed(1).double(), build("plain", 4, 0, 1).space
    for even in (True, False):
        if not even:
            torch.nn.init.normal_(module.second_mix)
        kernels = dict(zip(("first.weight", "second.weight"), module.kernels(), strict=True))
        parts = [
            kernels[layer.name].reshape(w.shape) if layer.name in kernels else w
            for layer, w in zip(space.layers, space.split(torch.zeros(space.dim, dtype=torch.float64)), strict=True)
        ]
        v = space.join(parts).detach()
        off = float(space.transverse_part(v).norm() / v.norm())
        assert off < 1e-14 if even else off > 0.1


def test_a_convolution_as_one_product_is_the_module():
    problem = build("plain", 4, 0, 1)
    at = torch.randn(problem.space.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x, y, weight = problem.samples
    assert float(problem.loss(at, problem.samples)) == pytest.approx(
        float(weight @ problem.model.losses(problem.model.predict(at, x), y)), rel=1e-13
    )


def look(lowest: float, shown: list[list[float]], when: str = "trained") -> dict:
    own = {"lowest": lowest, "residual": 1e-12, "highest": 9.0, "dim": 9}
    own |= {"negative": int(lowest < 0), "first_negative": 7 if lowest < 0 else None}
    return {"when": when, "network": "group", "own": own, "shown": shown, "lowest_of_batches": [-1.0]}


def test_convexity_is_judged_by_the_ends_and_not_by_what_is_shown():
    assert "Overturned" in spectrum_judged([look(-0.1, [[9.0, 3.0]]), look(-0.1, [[9.0, -1.0]])])[0]
    assert "at 1 of 2 points" in spectrum_judged([look(-0.1, [[9.0, 3.0]]), look(-0.1, [[9.0, -1.0]])])[0]
    assert "Reproduced" in spectrum_judged([look(0.1, [[9.0, -3.0]])])[0]
    assert "Not decidable" in spectrum_judged([look(-0.1, [[9.0]], "minimum on E")])[0]


def test_the_spectra_of_three_networks_are_looked_at_once(tmp_path):
    arguments = ["--seeds", "1", "--samples", "5", "--copies", "1", "--early", "1", "--epochs", "2", "--batches", "1"]
    arguments += ["--out", str(tmp_path)]
    spectrum_main(arguments)
    stored = json.loads((tmp_path / "power_iteration.json").read_text())
    rows = {(r["network"], r["when"]): r for r in stored["rows"]}
    assert len(rows) == 7
    for row in rows.values():
        assert row["own"]["residual"] < 1e-10 and row["E_perp"]["residual"] < 1e-10
        # Blocks of a symmetric matrix lie between its ends.
        assert row["own"]["lowest"] <= min(row["E"]["lowest"], row["E_perp"]["lowest"] if row["off"] else np.inf) + 1e-9
    assert rows["group", "trained"]["off"] < 1e-14 < rows["plain", "trained"]["off"]
    low = rows["group", "minimum on E"]
    assert low["gradient_norm"] < 10 * low["tolerance"] and low["E"]["lowest"] > 0
    spectrum_main(arguments)
    assert json.loads((tmp_path / "power_iteration.json").read_text())["rows"] == stored["rows"]


@pytest.mark.parametrize("action", ACTIONS)
def test_the_bases_are_orthonormal_and_the_group_acts_on_them_as_named(action):
    problem, rows = build_basis(action)
    torch.testing.assert_close(rows @ rows.mT, torch.eye(len(rows), dtype=torch.float64))
    turn = np.abs(problem.space.layers[0].source.matrix(1))
    permutes = np.allclose(turn.max(0), 1) and np.allclose(turn.sum(0), 1)
    assert permutes == (action != "mixes")
    # One problem: the same network has the same risk in every basis.
    pixels, eye = build_basis("permutes")
    assert float(problem.augmented_risk(start(problem, rows, 0))) == pytest.approx(
        float(pixels.augmented_risk(start(pixels, eye, 0))), rel=1e-12
    )


@pytest.mark.parametrize(
    ("action", "optimiser", "on_e"),
    [
        ("permutes", "AdamW", True),
        ("permutes with signs", "AdamW", True),
        ("mixes", "AdamW", False),
        ("mixes", "SGD", True),
    ],
)
def test_after_projection_a_rule_stays_on_e_where_it_was_said_to_commute(action, optimiser, on_e):
    row = one_run(action, optimiser, "all four turns", "cleared", seed=0, before=5, after=10)
    assert row["commutes"] is on_e and stays(row) is on_e
    assert row["off_before"] > 0.5
    if not on_e:
        assert row["distance"][1] == pytest.approx(row["speed"], rel=0.3)


def test_a_kept_buffer_leads_off_e_and_sgd_has_none():
    left = {o: one_run("permutes", o, "all four turns", "kept", 0, 5, 10)["distance"][-1] for o in OPTIMISERS}
    assert left["SGD"] < 1e-12 and left["AdamW"] > 1e-3 and left["SGD, Nesterov"] > 1e-3


def run_of(action: str, optimiser: str, end: float, draws: str = "all four turns", state: str = "cleared") -> dict:
    row = {"action": action, "optimiser": optimiser, "draws": draws, "state": state, "distance": [0.0, end]}
    return row | {"commutes": not (optimiser == "AdamW" and action == "mixes"), "times": [0, 1]}


def test_what_is_said_of_optimisers_follows_from_where_they_end():
    every = [run_of(a, o, 1e-15) for a in ACTIONS for o in OPTIMISERS]
    as_theory = [r if r["commutes"] else r | {"distance": [0.0, 0.1]} for r in every]
    as_claimed = [r | {"distance": [0.0, 0.1]} if r["optimiser"] == "AdamW" else r for r in every]
    assert "overturned for AdamW" in projection_judged(as_theory)[0]
    assert projection_judged(as_claimed)[0].startswith("Reproduced:")
    assert projection_judged(every)[0].startswith("Sharpened:")
    assert "9 of 9 runs" in projection_judged(as_theory)[0] and "7 of 9 runs" in projection_judged(as_claimed)[0]


def test_runs_after_projection_are_written_once(tmp_path):
    arguments = ["--seeds", "1", "--before", "2", "--after", "6", "--out", str(tmp_path)]
    projection_main(arguments)
    stored = json.loads((tmp_path / "after_projection.json").read_text())
    assert len(stored["rows"]) == len(ACTIONS) * len(OPTIMISERS) * 4
    assert (tmp_path / "after_projection.png").stat().st_size > 20_000
    projection_main(arguments)
    assert json.loads((tmp_path / "after_projection.json").read_text())["rows"] == stored["rows"]


def test_a_regular_student_is_stuck_and_r_aug_finds_its_teachers_hidden_representation():
    row = one_search("2 R³", "regular", seed=7, start=0)
    assert row["converged"] and row["misfit"] > SOLVED and row["lambda_min_E"] > 0
    assert row["lambda_min_E_perp"] < 0 and row["negative"] > 0
    assert row["end_misfit"] < SOLVED and tuple(row["end_orbits"]) == (3, 3) and row["end_orbit_error"] < 1e-4
    own = one_search("2 R³", "2 R³", seed=7, start=0)
    assert own["misfit"] < SOLVED and "end_misfit" not in own


@pytest.mark.parametrize("hidden", list(HIDDEN))
def test_orbits_of_hidden_units_are_those_of_the_declared_representation(hidden):
    problem = build_student("2 R³", hidden, 0)
    at = problem.space.embed(problem.initial(3))
    sizes, error = orbits(problem, at)
    expected = {"2 R³": (3, 3), "regular": (6,), "R³ + 3 trivial": (3, 1, 1, 1), "3 R³": (3, 3, 3)}
    # An invariant map to signs gives two equal units, which any permutation may take to themselves.
    assert error < 1e-12 and (hidden not in expected or sizes == expected[hidden])
    off = at + 0.3 * torch.randn(len(at), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert orbits(problem, off)[1] > 1e-2


def found(end: float, negative: int, error: float = 1e-9) -> dict:
    row = {"converged": True, "teacher": "2 R³", "student": "regular", "misfit": 1e-2, "negative": negative}
    return row | {"end_misfit": end, "end_orbits": [3, 3], "end_orbit_error": error}


def test_what_is_said_of_hidden_representations_follows_from_signs_and_ends():
    said = hidden_judged([found(1e-9, 2), found(1e-9, 2), found(1e-2, 0)])[0]
    assert "of 3 minima on E above their teacher 2 are unstable across E, and from 2 of" in said
    assert said.startswith("Reproduced") and "At the other 1 " in said
    assert hidden_judged([found(1e-9, 2, error=0.5)])[0].startswith("Sharpened")
    assert "Not decidable" in hidden_judged([found(1e-9, 2) | {"misfit": 0.0}])[0]


def test_searches_are_written_once(tmp_path):
    arguments = ["--starts", "1", "--teachers", "1", "--out", str(tmp_path)]
    hidden_main(arguments)
    stored = json.loads((tmp_path / "fixed_hidden.json").read_text())
    assert len(stored["rows"]) == 2 * len(HIDDEN) and (tmp_path / "fixed_hidden.png").stat().st_size > 20_000
    hidden_main(arguments)
    assert json.loads((tmp_path / "fixed_hidden.json").read_text())["rows"] == stored["rows"]
