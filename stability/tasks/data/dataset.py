"""A data set with its digest, and the check of whole numbers that generators share."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from stability.base.errors import BadInput


# Arrays have no truth value, so two data sets are compared by what identifies them: source and digest.
@dataclass(frozen=True)
class Dataset:
    """N samples with their targets; N is `len(inputs)`.

    Attributes:
        inputs: (N, side·side) float64, raw in [0, 1]; for graphs 0/1 adjacency matrices, flattened row by row.
        targets: (N,) int64 classes (digits 0..9, graphs 0/1), or (N, 2·side·side) float64 0/1 masks for shapes,
            channel-major: the mask of the triangle first, then that of the pentagon.
        source: one sentence saying where the data comes from.
        digest: first 16 hex digits of sha256(bytes of inputs, then bytes of targets).
    """

    inputs: np.ndarray = field(repr=False, compare=False)
    targets: np.ndarray = field(repr=False, compare=False)
    source: str
    digest: str

    @classmethod
    def of(cls, inputs: np.ndarray, targets: np.ndarray, source: str) -> Dataset:
        """The data set with its digest filled in.

        >>> Dataset.of(np.zeros((1, 4)), np.array([7]), "a black image")
        Dataset(source='a black image', digest='4d5d92033f19e360')
        """
        digest = hashlib.sha256(inputs.tobytes() + targets.tobytes()).hexdigest()[:16]
        return cls(inputs, targets, source, digest)


def require_whole(name: str, value: int, low: int, high: int | None = None) -> None:
    """low ≤ value ≤ high and value is an integer; otherwise BadInput.

    >>> require_whole("side", 30, 2, 28)
    Traceback (most recent call last):
    stability.base.errors.BadInput: side is 30; give a whole number from 2 to 28
    """
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        wanted = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise BadInput(f"{name} is {value!r}; give a whole number {wanted}")
