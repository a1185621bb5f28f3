"""analyses.replays: claims of others on their data, and what is said of them follows from the numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from analyses.lab.command import command
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
