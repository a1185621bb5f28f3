"""The graphs and shapes that were published with the paper's code, read as they are, with their faults told."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from stability.base.errors import BadInput
from stability.tasks.data.dataset import Dataset, require_whole
from stability.tasks.data.graphs import connected

# Array by array: the name in an .npz, and the file beside the published code.
GRAPHS = {"adjacency": "graphmat0.npy", "label": "graphlabel0.npy"}
SHAPES = {"image": "shpsimg0.npy", "triangle": "shpstrig0.npy", "pentagon": "shpspent0.npy"}


def published_graphs(data_dir: str | Path) -> Dataset:
    """The published graphs: inputs (N, n·n) of zeros and ones, targets (N,) int64, in the order of the file.

    Labels are taken as they are. How many contradict λ₂(D − A) > 1e-9 is said in ``source``: 42 of the published
    1,000 do, all disconnected graphs called connected, since an eigenvalue was compared with 1e-15.

    Raises BadInput if an array is missing, of another shape, or holds anything but zeros and ones, or if a matrix is
    not symmetric.
    Source: the data beside the code of arXiv 2303.13458, experiment PERM.
    """
    found, origin = _arrays(Path(data_dir), "published_graphs.npz", GRAPHS)
    adjacency = _square(found["adjacency"], "adjacency", origin)
    labels = found["label"]
    if labels.size != len(adjacency):
        raise BadInput(f"{origin}: {len(adjacency):,} graphs but {labels.size:,} labels; give one label a graph")
    labels = labels.reshape(-1)
    _zeros_and_ones(adjacency, "adjacency", origin)
    _zeros_and_ones(labels, "label", origin)
    if (directed := np.flatnonzero((adjacency != adjacency.swapaxes(1, 2)).any((1, 2)))).size:
        raise BadInput(f"{origin}: graph {directed[0]} is not symmetric; give undirected graphs")
    wrong = int((connected(adjacency) != labels).sum())
    told = f"; {wrong:,} of the labels contradict the graph" if wrong else ""
    nodes = adjacency.shape[1]
    source = f"{len(labels):,} published graphs of {nodes} nodes, {origin}{told}"
    return Dataset.of(adjacency.reshape(len(labels), -1), labels.astype(np.int64), source)


def published_shapes(side: int, data_dir: str | Path) -> Dataset:
    """The published images with their masks, area-averaged to side × side; masks where the mean is ≥ ½.

    inputs (N, side·side) in [0, 1], targets (N, 2·side·side) 0/1, the triangle's mask first, in the order of the file.
    As published the background is 1 and the shape .43, one corner points right, and the mask of the shape that is not
    there is one everywhere. All of it is kept; the last is said in ``source``.

    Raises BadInput if an array is missing or of another shape, an image leaves [0, 1], a mask holds anything but zeros
    and ones, or side is larger than the published one.
    Source: the data beside the code of arXiv 2303.13458, experiment ROT.
    """
    require_whole("side", side, 2)
    found, origin = _arrays(Path(data_dir), "published_shapes.npz", SHAPES)
    images = _square(found["image"], "image", origin)
    masks = [_square(found[name], name, origin) for name in ("triangle", "pentagon")]
    for name, mask in zip(("triangle", "pentagon"), masks, strict=True):
        if mask.shape != images.shape:
            raise BadInput(f"{origin}: {name} has shape {mask.shape}, image {images.shape}; give one mask an image")
        _zeros_and_ones(mask, name, origin)
    if not (np.isfinite(images).all() and images.min() >= 0 and images.max() <= 1):
        raise BadInput(f"{origin}: image goes from {images.min():g} to {images.max():g}; give grey values from 0 to 1")
    if side > (full := images.shape[1]):
        raise BadInput(f"{origin} holds images of {full}×{full} pixels, fewer than {side}×{side}; use a smaller --size")
    kept = np.stack(masks, 1)
    whole = int(np.all(kept, axis=(2, 3)).any(axis=1).sum())
    told = f"; {whole:,} have one mask that is one everywhere" if whole else ""
    scaled = "" if side == full else f", area-averaged from {full}×{full} to {side}×{side}"
    source = f"{len(images):,} published images of a triangle or a pentagon, {origin}{scaled}{told}"
    inputs = average(images, side).reshape(len(images), -1)
    targets = (average(kept, side) >= 0.5).astype(np.float64).reshape(len(images), -1)
    return Dataset.of(inputs, targets, source)


def average(images: np.ndarray, side: int) -> np.ndarray:
    """W X Wᵀ, W[i, j] the share of coarse pixel i that fine pixel j covers: (…, n, n) to (…, side, side).

    >>> average(np.arange(16.0).reshape(4, 4), 2)
    array([[ 2.5,  4.5],
           [10.5, 12.5]])
    """
    full = images.shape[-1]
    coarse, fine = np.arange(side)[:, None], np.arange(full)
    shared = np.minimum(full * (coarse + 1), side * (fine + 1)) - np.maximum(full * coarse, side * fine)
    weights = np.maximum(shared, 0)
    return weights @ images.astype(np.float64) @ weights.T / full**2


def _arrays(path: Path, name: str, wanted: dict[str, str]) -> tuple[dict[str, np.ndarray], str]:
    """The arrays by name, from an .npz, a folder with it, or a folder with the .npy files; and what to call it."""
    whole = path / name if path.is_dir() else path
    if path.is_dir() and not whole.is_file():
        missing = [file for file in wanted.values() if not (path / file).is_file()]
        if missing:
            raise BadInput(
                f"--data-dir: {path} has neither {name} nor {', '.join(missing)}; put the one or the others there"
            )
        return {key: _loaded(path / file) for key, file in wanted.items()}, ", ".join(wanted.values())
    stored = _loaded(whole)
    if not isinstance(stored, dict):
        raise BadInput(f"--data-dir: {whole} holds one array; give the .npz with {', '.join(wanted)}, or a folder")
    if lacking := [key for key in wanted if key not in stored]:
        raise BadInput(f"--data-dir: {whole} has no {', '.join(lacking)}; give the .npz with {', '.join(wanted)}")
    return stored, whole.name


def _loaded(path: Path) -> Any:
    """The array of an .npy, the arrays by name of an .npz."""
    try:
        found = np.load(path, allow_pickle=False)
        return found if isinstance(found, np.ndarray) else {key: found[key] for key in found.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BadInput(f"--data-dir: {path} cannot be read: {error}; give the published .npz or .npy files") from error


def _square(array: np.ndarray, name: str, origin: str) -> np.ndarray:
    """(N, n, n) float64 from (N, n, n), (N, 1, n, n) or (N, n²)."""
    count, rest = (array.shape[0], int(np.prod(array.shape[1:]))) if array.ndim > 1 else (0, 0)
    n = round(rest**0.5)
    if not count or n < 2 or n * n != rest or not np.issubdtype(array.dtype, np.number):
        raise BadInput(f"{origin}: {name} has shape {array.shape} and dtype {array.dtype}; give numbers (N, n, n)")
    return array.reshape(count, n, n).astype(np.float64)


def _zeros_and_ones(array: np.ndarray, name: str, origin: str) -> None:
    other = np.unique(array[(array != 0) & (array != 1)])
    if len(other):
        raise BadInput(f"{origin}: {name} holds {other[0]:g}; give zeros and ones only")
