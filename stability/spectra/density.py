r"""Spectral density: the share of the dimensions whose eigenvalue lies in a bin, with its standard error.

A whole spectrum is counted. Otherwise stochastic Lanczos quadrature: for a Gaussian v the measure Σ_k τ_k δ(θ_k) of a
Krylov run, τ_k the squared first components of its eigenvectors, has the spectral measure as expectation; an
orthogonal sum of sectors takes one v in each, weighted by their dimensions. Probes are independent, so their spread
gives the standard error.

Source: Ubaru, Chen, Saad, Fast estimation of tr(f(A)) via stochastic Lanczos quadrature (2017).

>>> import numpy as np
>>> edges = bins(-1.0, 100.0, 1e-2, 1e-9, 3)
>>> counted(np.array([-0.5, 0.0, 5.0]), np.array([0.25, 0.25, 0.5]), edges)
array([0.25, 0.  , 0.25, 0.  , 0.  , 0.5 ])
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from stability.eigen.lanczos import lanczos, ritz
from stability.eigen.spectrum import Density, Spectrum
from stability.spectra.sectors import Sector

BINS = 24


@dataclass(frozen=True)
class Shares:
    """Shares of the dimensions by bins [edges[i], edges[i+1]), with their standard errors.

    Attributes:
        edges: of the bins, ascending, one more than there are bins.
        share: of the dimensions, one a bin.
        error: standard error over the probes.
        resolution: what a Krylov run of this length may put on the wrong side of a bin's edges (at most the weights of
            the nodes beside them, by the inequalities of Chebyshev, Markov and Stieltjes), mean over the probes.
        probes, steps: of the quadrature; 0 where the spectrum is whole and the error zero.
        method: how it was found.
    """

    edges: tuple[float, ...]
    share: tuple[float, ...]
    error: tuple[float, ...]
    resolution: tuple[float, ...]
    probes: int
    steps: int
    method: str


@dataclass(frozen=True)
class Part:
    """A sector: its block B_λ on R^size and its dimension in L.

    Attributes:
        product: B_λ s for s of shape (size).
        size: real dimension of the block.
        dim: of the sector in L.
    """

    product: Callable[[Tensor], Tensor]
    size: int
    dim: int


def bins(low: float, high: float, linear: float, error: float, count: int = BINS) -> np.ndarray:
    """Edges that grow geometrically away from zero, with the bin [−error, error] around it: none mixes signs.

    Args:
        low, high: the ends of the spectrum.
        linear: size of the innermost edges beside zero.
        error: below which an eigenvalue counts as zero.
        count: bins on the longer side.
    """
    far = max(abs(low), abs(high), linear) * (1 + 1e-9)
    ratio = (far / linear) ** (1 / max(count - 1, 1))

    def side(end: float) -> list[float]:
        edges, edge = [], linear
        while end > error:
            edges.append(max(edge, 2 * error))
            if edge >= end:
                break
            edge = edge * ratio if ratio > 1 else end
        return edges

    error = max(error, 1e-300)
    return np.array([-x for x in side(-low)][::-1] + [-error, error] + side(high))


def counted(values: np.ndarray, weights: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The weight in every bin; what lies beyond the edges counts into the outermost."""
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return np.bincount(place, weights=weights, minlength=len(edges) - 1)


def _beside(values: np.ndarray, weights: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """For every bin the larger weight beside its left edge plus that beside its right one; zero beyond all nodes."""
    after = np.searchsorted(values, edges, side="right")
    padded = np.concatenate([[0.0], weights, [0.0]])
    at_edge = np.where((after == 0) | (after == len(values)), 0.0, np.maximum(padded[after], padded[after + 1]))
    return at_edge[:-1] + at_edge[1:]


def edges_of(spectrum: Spectrum) -> np.ndarray:
    """Bins for a spectrum: the innermost at its 1 % quantile of magnitudes, ends included."""
    values = np.array(
        spectrum.density.values if spectrum.density else [e.value for e in (*spectrum.lowest, *spectrum.highest)]
    )
    sizes = np.abs(values[np.abs(values) > spectrum.error])
    linear = float(np.quantile(sizes, 0.01, method="lower")) if len(sizes) else 1.0
    linear = max(10.0 ** math.floor(math.log10(linear)), 2 * spectrum.error)
    return bins(float(values.min()), float(values.max()), linear, spectrum.error)


def exact(spectrum: Spectrum) -> Shares | None:
    """The shares of a whole spectrum; None where it is not whole."""
    if not spectrum.complete or spectrum.density is None:
        return None
    edges = edges_of(spectrum)
    share = counted(np.array(spectrum.density.values), np.array(spectrum.density.weights), edges)
    return Shares(
        tuple(edges.tolist()), tuple(share.tolist()), (0.0,) * len(share), (0.0,) * len(share), 0, 0, "every eigenvalue"
    )


def density_of(spectrum: Spectrum) -> Density:
    """The density of a spectrum.

    Raises:
        ValueError: none was measured.
    """
    if spectrum.density is None:
        raise ValueError("a spectrum without its density")
    return spectrum.density


def from_one_vector(spectrum: Spectrum, parts: Sequence[Sector], where: str) -> Shares:
    """The weights of Krylov runs with one Gaussian vector in each sector, as a search for extreme eigenvalues leaves.

    A share p of a sector of real dimension n has the variance 2p(1 − p)/(n + 2) of a Beta law; for a sum of sectors
    that fill parts w of the dimensions it is at most max w/(n + 2) · 2p(1 − p), p(1 − p) being concave.
    """
    edges, density = edges_of(spectrum), density_of(spectrum)
    values, weights = np.array(density.values), np.array(density.weights)
    share = counted(values, weights, edges)
    chosen = [x for x in parts if (x.irrep == "trivial") == (where == "E") and x.size]
    worst = max((x.dim * x.multiplicity / spectrum.dim / (x.size + 2) for x in chosen), default=1 / (spectrum.dim + 2))
    error = np.sqrt(2 * share * (1 - share) * worst)
    runs = max(len(chosen), 1)
    doubt = _beside(values, weights, edges)
    return Shares(
        tuple(edges.tolist()),
        tuple(share.tolist()),
        tuple(error.tolist()),
        tuple(doubt.tolist()),
        1,
        spectrum.matvecs // runs,
        f"weights of {runs} Krylov run{'s' if runs > 1 else ''}, one vector each",
    )


def estimate(parts: Sequence[Part], edges: np.ndarray, probes: int, steps: int, like: Tensor, seed: int = 0) -> Shares:
    """Stochastic Lanczos quadrature of an orthogonal sum of sectors.

    Args:
        parts: the sectors.
        edges: of the bins.
        probes: independent runs, at least two.
        steps: of each Krylov run.
        like: dtype and device.
        seed: of the probes.
    """
    total = sum(part.dim for part in parts)
    found, doubt = np.zeros((probes, len(edges) - 1)), np.zeros(len(edges) - 1)
    with tqdm(total=probes * len(parts), desc="density", disable=None, leave=False) as bar:
        for i in range(probes):
            for j, part in enumerate(parts):
                generator = torch.Generator().manual_seed(1_000_003 * seed + 1009 * i + j)
                start = torch.randn(part.size, generator=generator, dtype=torch.float64).to(like)
                state = lanczos(part.product, start, min(steps, part.size))
                values, vectors, _ = ritz(state)
                found[i] += counted(values, vectors[0] ** 2, edges) * part.dim / total
                if state.betas[-1] > 0:  # else the run is exact
                    doubt += _beside(values, vectors[0] ** 2, edges) * part.dim / total / probes
                bar.update(1)
    error = found.std(0, ddof=1) / math.sqrt(probes)
    return Shares(
        tuple(edges.tolist()),
        tuple(found.mean(0).tolist()),
        tuple(error.tolist()),
        tuple(doubt.tolist()),
        probes,
        steps,
        f"stochastic Lanczos quadrature, {probes} probes of {steps} steps",
    )
