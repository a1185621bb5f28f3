"""What is known of a spectrum: eigenvalues with residuals, counts, bounds, clusters."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stability.base.record import Record

# Probability granted to each half of a Krylov bound to fail, over all steps at which a run may stop.
FAILURE = 1e-6


def rounding(norm: float, n: int, dtype: torch.dtype) -> float:
    """10 √n ulps of ‖H‖: what rounding in ``dtype`` may move an eigenvalue of an n × n matrix by.

    Ten times what the error of a sum of n terms with random signs amounts to; the worst case, n ulps, is never met.
    """
    return 10 * torch.finfo(dtype).eps * norm * math.sqrt(max(n, 1))


@dataclass(frozen=True)
class Eigenvalue(Record):
    """One distinct eigenvalue.

    Attributes:
        value: θ.
        residual: ‖Hv − θv‖ for a unit vector v of its eigenspace.
        multiplicity: dimension of its eigenspace; None when it is not resolved.
        irrep: label of the sector it belongs to; None when it is not resolved.
    """

    value: float
    residual: float
    multiplicity: int | None = None
    irrep: str | None = None


@dataclass(frozen=True)
class Density:
    """A discrete spectral measure: weights (summing to one) at values.

    Attributes:
        method: how it was found.
        values: where there is mass; eigenvalues, or Ritz values.
        weights: how much, summing to one.
    """

    method: str
    values: tuple[float, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Spectrum(Record):
    """The ends of a spectrum, ``lowest`` ascending and ``highest`` descending.

    Attributes:
        dim: dimension of the space searched.
        lowest, highest: distinct eigenvalues at the ends, outermost first.
        negative_count: eigenvalues below −error, None when not established.
        density: of the whole spectrum; None where nothing is known between the ends.
        method: what found it, in words.
        matvecs: products it took.
        seconds: it took.
        zero_count: eigenvalues within ±error, None when not established.
        error: what rounding and residuals may move an eigenvalue by.
        complete: True when ``density`` holds every eigenvalue.
        lower_bound: a number below λ_min; None when there is no bound.
        failure_probability: of ``lower_bound``, 0 for a dense spectrum.
        least_positive: smallest eigenvalue above ``error`` of a complete spectrum; None when there is none.
        confirmed: whether the inertia of a factorisation agrees with the counts; None when none was made.
        width: largest distance of two eigenvalues that are listed as one.
    """

    dim: int
    lowest: tuple[Eigenvalue, ...]
    highest: tuple[Eigenvalue, ...]
    negative_count: int | None
    density: Density | None
    method: str
    matvecs: int
    seconds: float
    zero_count: int | None = None
    error: float = 0.0
    complete: bool = False
    lower_bound: float | None = None
    failure_probability: float | None = None
    least_positive: float | None = None
    confirmed: bool | None = None
    width: float = 0.0

    def rows(self) -> list[dict[str, Any]]:
        """One line an eigenvalue: end, value, residual, multiplicity, irrep."""
        ends = {"lowest": self.lowest, "highest": self.highest}
        return [{"end": end, **row} for end, values in ends.items() for e in values for row in e.rows()]

    def __str__(self) -> str:
        if not self.lowest:
            return f"no spectrum ({self.method})" if self.dim else "spectrum of the zero space"
        low, high = self.lowest[0], self.highest[0]
        count = "an unknown number" if self.negative_count is None else str(self.negative_count)
        return (
            f"{self.dim:,} dimensions, from {low.value:.6g} (± {low.residual:.1e}) to {high.value:.6g} "
            f"(± {high.residual:.1e}), {count} below zero; {self.method}"
        )

    @property
    def smallest(self) -> Eigenvalue | None:
        """λ_min with its residual; None where nothing was found."""
        return self.lowest[0] if self.lowest else None

    @property
    def largest(self) -> Eigenvalue | None:
        """λ_max with its residual; None where nothing was found."""
        return self.highest[0] if self.highest else None


@dataclass(frozen=True)
class Solution:
    """A spectrum with unit vectors of its ends: rows of ``vectors`` belong to ``values``.

    Attributes:
        spectrum: its ends.
        values: quotients or eigenvalues that ``vectors`` belong to, (k).
        vectors: unit rows, (k, n).
    """

    spectrum: Spectrum
    values: Tensor = field(repr=False)
    vectors: Tensor = field(repr=False)

    @property
    def lowest_vector(self) -> Tensor:
        """Unit vector of the lowest Ritz value."""
        return self.vectors[int(self.values.argmin())]


def clusters(values: np.ndarray, tolerance: float) -> list[tuple[int, int]]:
    """Index ranges [start, stop) of ascending values, none of them wider than ``tolerance``.

    A chain of close neighbours is cut where a range would become wider: its mean would hide the lowest of them.

    >>> clusters(np.array([0.0, 0.0, 0.6, 1.2, 5.0]), 1.0)
    [(0, 3), (3, 4), (4, 5)]
    """
    found: list[tuple[int, int]] = []
    start = 0
    while start < len(values):
        stop = int(np.searchsorted(values, values[start] + tolerance, side="right"))
        found.append((start, max(stop, start + 1)))
        start = found[-1][1]
    return found


def by_sign(values: np.ndarray, noise: float) -> list[tuple[int, int]]:
    """Cut one ascending cluster at ±noise: eigenvalues on either side of zero are never averaged."""
    edges = [0, *np.searchsorted(values, [-noise, noise], side="right").tolist(), len(values)]
    return [(a, b) for a, b in itertools.pairwise(edges) if a < b]


def bound_epsilon(dim: int, steps: int, probability: float) -> float:
    """ε with 1.648 √n exp(−√ε(2k − 1)) = p: P[λ_min < θ_min − ε(λ_max − λ_min)] ≤ p after k products.

    Source: Kuczyński and Woźniakowski, Estimating the largest eigenvalue by the power and Lanczos algorithms
    with a random start (1992). Holds for exact arithmetic, a Gaussian start in the space searched, no restart.

    >>> round(bound_epsilon(6000, 2950, 1e-6), 7)
    1e-05
    """
    return (math.log(1.648 * math.sqrt(dim) / probability) / (2 * steps - 1)) ** 2
