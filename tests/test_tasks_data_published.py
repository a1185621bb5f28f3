"""The published data: read as they are, their faults told, and everything else refused in one line."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from stability.base.errors import BadInput
from stability.tasks import load
from stability.tasks.data import published_graphs, published_shapes
from stability.tasks.data.published import GRAPHS, SHAPES, average
from stability.tasks.options import TaskOptions


def graphs_of(count: int = 12, nodes: int = 5, seed: int = 0) -> dict[str, np.ndarray]:
    """Random graphs with their true labels, by reachability."""
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((count, nodes, nodes)) < 0.4, 1)
    adjacency = (upper | upper.swapaxes(1, 2)).astype(np.uint8)
    reached = adjacency | np.eye(nodes, dtype=np.uint8)
    for _ in range(nodes):
        reached = np.minimum(reached.astype(int) @ reached, 1).astype(np.uint8)
    return {"adjacency": adjacency, "label": reached.all((1, 2)).astype(np.uint8)}


def shapes_of(count: int = 10, side: int = 8, seed: int = 0) -> dict[str, np.ndarray]:
    """Dark squares on white in place of polygons; the mask of the absent shape is one everywhere."""
    rng = np.random.default_rng(seed)
    image, masks = np.ones((count, side, side)), np.ones((2, count, side, side), dtype=np.uint8)
    for i in range(count):
        a, b = rng.integers(0, side // 2, 2)
        inside = np.zeros((side, side), dtype=bool)
        inside[a : a + side // 2, b : b + side // 2] = True
        image[i][inside] = 0.43
        masks[i % 2, i] = inside
    return {"image": image, "triangle": masks[0], "pentagon": masks[1]}


def stored(folder: Path, arrays: dict[str, np.ndarray], kind: str, way: str) -> Path:
    """The arrays as an .npz, in a folder with it, or as the .npy files beside the published code."""
    names = GRAPHS if kind == "graphs" else SHAPES
    if way == "npy":
        for key, array in arrays.items():
            np.save(folder / names[key], array)
        return folder
    np.savez_compressed(folder / f"published_{kind}.npz", **arrays)
    return folder if way == "folder" else folder / f"published_{kind}.npz"


every_way = pytest.mark.parametrize("way", ["file", "folder", "npy"])


@every_way
def test_graphs_are_read_as_they_are_from_either_kind_of_file(tmp_path, way):
    arrays = graphs_of()
    data = published_graphs(stored(tmp_path, arrays, "graphs", way))
    np.testing.assert_array_equal(data.inputs, arrays["adjacency"].reshape(12, 25))
    np.testing.assert_array_equal(data.targets, arrays["label"])
    assert data.inputs.dtype == np.float64 and data.targets.dtype == np.int64
    assert "12 published graphs of 5 nodes" in data.source and "contradict" not in data.source


def test_wrong_labels_are_kept_and_counted(tmp_path):
    arrays = graphs_of()
    wrong = np.flatnonzero(arrays["label"] == 0)[:2]
    arrays["label"][wrong] = 1
    data = published_graphs(stored(tmp_path, arrays, "graphs", "file"))
    assert (data.targets[wrong] == 1).all()
    assert "2 of the labels contradict the graph" in data.source


@every_way
@pytest.mark.parametrize("side", [8, 4, 3])
def test_shapes_are_averaged_over_the_area_of_each_pixel(tmp_path, way, side):
    arrays = shapes_of()
    data = published_shapes(side, stored(tmp_path, arrays, "shapes", way))
    # The mean over a fine grid that both divide is the integral, and shares no code with it.
    fine = np.kron(arrays["image"], np.ones((1, side, side)))
    step = fine.shape[1] // side
    expected = fine.reshape(10, side, step, side, step).mean((2, 4))
    np.testing.assert_allclose(data.inputs.reshape(10, side, side), expected, atol=1e-12)
    assert data.targets.shape == (10, 2 * side * side) and set(np.unique(data.targets)) <= {0.0, 1.0}
    assert "10 have one mask that is one everywhere" in data.source


def test_averaging_keeps_the_mean():
    x = np.random.default_rng(0).random((3, 2, 14, 14))
    for side in range(2, 15):
        np.testing.assert_allclose(average(x, side).mean((2, 3)), x.mean((2, 3)), rtol=1e-12)


@pytest.mark.parametrize("shape", [(12, 1, 5, 5), (12, 25)])
def test_other_shapes_that_mean_the_same_are_the_same(tmp_path, shape):
    arrays = graphs_of()
    plain = published_graphs(stored(tmp_path, arrays, "graphs", "file"))
    other = {"adjacency": arrays["adjacency"].reshape(shape).astype(float), "label": arrays["label"][:, None]}
    assert published_graphs(stored(tmp_path, other, "graphs", "file")).digest == plain.digest


def test_the_tasks_take_them_at_every_size_and_keep_the_rest_to_test_on(tmp_path):
    folder = stored(stored(tmp_path, graphs_of(), "graphs", "npy"), shapes_of(), "shapes", "folder")
    for variant, size in itertools.product(("smooth", "published"), ("small", "medium")):
        options = TaskOptions(size=size, variant=variant, samples=8, data_dir=folder)
        perm, rot = load("perm", options), load("rot", options)
        assert (len(perm.samples), len(rot.samples)) == (8, 8)
        assert perm.group.name == "S_5" and perm.model.input.dim == 25
        assert rot.model.input.dim == {"small": 16, "medium": 64}[size]
        assert perm.metric(lambda x: torch.ones(len(x), 1, dtype=x.dtype), "test")["accuracy"] >= 0
    rest = load("perm", TaskOptions(data_dir=folder))
    assert len(rest.samples) == 12  # fewer than the size's own number


def _with(arrays: dict, **changed: np.ndarray) -> dict:
    return arrays | changed


G, S = graphs_of(), shapes_of()
DIRECTED = G["adjacency"].copy()
DIRECTED[3, 0, 1] = 1 - DIRECTED[3, 1, 0]
BAD = {
    "directed": ("graphs", _with(G, adjacency=DIRECTED), "graph 3 is not symmetric"),
    "weighted": ("graphs", _with(G, adjacency=2 * G["adjacency"]), "adjacency holds 2"),
    "labels": ("graphs", _with(G, label=G["label"][:-1]), "12 graphs but 11 labels"),
    "label 7": ("graphs", _with(G, label=G["label"] + 7), "label holds"),
    "not square": ("graphs", _with(G, adjacency=np.zeros((12, 24))), r"shape \(12, 24\)"),
    "text": ("graphs", _with(G, adjacency=np.full((12, 5, 5), "a")), "dtype <U1"),
    "lacking": ("graphs", {"adjacency": G["adjacency"]}, "has no label"),
    "bright": ("shapes", _with(S, image=255 * S["image"]), "image goes from 109.65 to 255"),
    "nan": ("shapes", _with(S, image=np.where(S["image"] < 1, np.nan, 1)), "image goes from nan"),
    "mask": ("shapes", _with(S, triangle=S["triangle"] * 3), "triangle holds 3"),
    "fewer masks": ("shapes", _with(S, pentagon=S["pentagon"][:4]), r"pentagon has shape \(4, 8, 8\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arrays_are_refused_in_one_line(tmp_path, name):
    kind, arrays, message = BAD[name]
    path = stored(tmp_path, arrays, kind, "file")
    with pytest.raises(BadInput, match=message) as caught:
        published_graphs(path) if kind == "graphs" else published_shapes(4, path)
    assert "\n" not in str(caught.value) and ";" in str(caught.value)


def test_bad_places_are_refused_in_one_line(tmp_path):
    with pytest.raises(BadInput, match=r"has neither published_graphs.npz nor graphmat0.npy, graphlabel0.npy"):
        published_graphs(tmp_path)
    with pytest.raises(BadInput, match="cannot be read"):
        published_graphs(tmp_path / "nowhere.npz")
    (tmp_path / "published_graphs.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(BadInput, match="cannot be read"):
        published_graphs(tmp_path)
    np.save(tmp_path / "one.npy", G["adjacency"])
    with pytest.raises(BadInput, match="holds one array"):
        published_graphs(tmp_path / "one.npy")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(BadInput, match="cannot be read"):
        published_graphs(tmp_path / "objects.npy")
    shapes = stored(tmp_path, S, "shapes", "file")
    with pytest.raises(BadInput, match="has no adjacency, label"):
        published_graphs(shapes)
    with pytest.raises(BadInput, match="fewer than 14×14"):
        load("rot", TaskOptions(size="paper", data_dir=shapes))
    with pytest.raises(BadInput, match="holds 10; ask for at most 10"):
        load("rot", TaskOptions(samples=11, data_dir=shapes))
