r"""Eigenvalues with evidence: whole dense spectra, Lanczos for both ends, residuals, bounds.

A pair (θ, v), ‖v‖ = 1, of a symmetric H has a true eigenvalue within ‖Hv − θv‖ of θ: every eigenvalue here
carries that residual, measured by one more product with the operator and not estimated by the solver.

>>> import torch
>>> H = torch.diag(torch.tensor([-1.0, 2.0, 2.0, 5.0], dtype=torch.float64))
>>> S = dense_spectrum(H, lambda v: v @ H, k=2).spectrum
>>> [(e.value, e.multiplicity) for e in S.lowest], S.negative_count
([(-1.0, 1), (2.0, 2)], 1)
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal, ldl
from scipy.linalg.lapack import dormqr, dsytrd
from torch import Tensor

from stability.record import Record

Product = Callable[[Tensor], Tensor]
VECTORS = 256
# Largest matrix whose counts are confirmed by a factorisation of its own.
INERTIA = 1000
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
    """A discrete spectral measure: weights (summing to one) at values."""

    method: str
    values: tuple[float, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Spectrum(Record):
    """The ends of a spectrum, ``lowest`` ascending and ``highest`` descending.

    Attributes:
        dim: dimension of the space searched.
        negative_count: eigenvalues below −error, None when not established.
        zero_count: eigenvalues within ±error, None when not established.
        error: what rounding and residuals may move an eigenvalue by.
        complete: True when ``density`` holds every eigenvalue.
        lower_bound: a number below λ_min; None when there is no bound.
        failure_probability: of ``lower_bound``, 0 for a dense spectrum.
        least_positive: smallest eigenvalue above ``error`` of a complete spectrum; None when there is none.
        confirmed: whether the inertia of a factorisation agrees with the counts; None when none was made.
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
        return self.lowest[0] if self.lowest else None

    @property
    def largest(self) -> Eigenvalue | None:
        return self.highest[0] if self.highest else None


@dataclass(frozen=True)
class Solution:
    """A spectrum with unit vectors of its ends: rows of ``vectors`` belong to ``values``."""

    spectrum: Spectrum
    values: Tensor = field(repr=False)
    vectors: Tensor = field(repr=False)

    @property
    def lowest_vector(self) -> Tensor:
        """Unit vector of the lowest Ritz value."""
        return self.vectors[int(self.values.argmin())]


def clusters(values: np.ndarray, tolerance: float) -> list[tuple[int, int]]:
    """Index ranges [start, stop) of ascending values whose neighbours differ by at most ``tolerance``."""
    if len(values) == 0:
        return []
    cuts = np.flatnonzero(np.diff(values) > tolerance) + 1
    edges = [0, *cuts.tolist(), len(values)]
    return list(zip(edges[:-1], edges[1:], strict=True))


def _width(values: np.ndarray) -> float:
    return float(values[-1] - values[0])


def _near_zero(values: np.ndarray) -> bool:
    """Whether the width of an ascending cluster is no longer nothing beside its distance to zero."""
    return _width(values) > 1e-3 * float(np.abs(values).min())


def _distinct(values: np.ndarray, tolerance: float, noise: float) -> list[tuple[int, int]]:
    """Clusters of ascending values, as fine as noise allows where a mean would hide on which side of zero they lie."""
    found = []
    for a, b in clusters(values, tolerance):
        finer = _near_zero(values[a:b]) and noise < tolerance
        found += [(a + i, a + j) for i, j in clusters(values[a:b], noise)] if finer else [(a, b)]
    return found


def _by_sign(values: np.ndarray, noise: float) -> list[tuple[int, int]]:
    """Cut one ascending cluster at ±noise: eigenvalues on either side of zero are never averaged."""
    edges = [0, *np.searchsorted(values, [-noise, noise], side="right").tolist(), len(values)]
    return [(a, b) for a, b in itertools.pairwise(edges) if a < b]


def inertia(matrix: np.ndarray, shift: float) -> tuple[int, float]:
    """How many eigenvalues lie below a shift, and by how much that shift may be off.

    M − τI = P L D Lᵀ Pᵀ (Bunch and Kaufman), and by Sylvester's law as many eigenvalues are negative as D has. The
    factors are those of M − τI + Δ; the bound on ‖Δ‖ is measured by multiplying them out, plus n ulps of |L||D||Lᵀ|.

    Returns:
        (m, δ) such that eigenvalue number m is below τ + δ and number m + 1 at least τ − δ, both counted from one.

    >>> inertia(np.diag([-1.0, 2.0, 3.0]), 0.0)[0]
    1
    """
    shifted = matrix - shift * np.eye(len(matrix))
    lower, middle, _ = ldl(shifted)
    product = lower @ middle @ lower.T
    size = np.abs(lower) @ np.abs(middle) @ np.abs(lower).T
    error = np.linalg.norm(product - shifted) + 2 * len(matrix) * np.finfo(float).eps * np.linalg.norm(size)
    below, i, n = 0, 0, len(matrix)
    while i < n:
        if i + 1 < n and middle[i + 1, i] != 0.0:  # a 2 × 2 pivot of Bunch and Kaufman is indefinite
            below, i = below + 1, i + 2
        else:
            below, i = below + int(middle[i, i] < 0), i + 1
    return below, float(error)


def _inertia_agrees(work: Tensor, values: np.ndarray, error: float, noise: float) -> bool:
    """Whether factorisations at ±error count as many eigenvalues as lie there, within their own errors.

    Directions that were left out of ``values`` have been moved far above zero and do not count.
    """
    matrix = work.numpy()
    for shift in (-error, error):
        below, delta = inertia(matrix, shift)
        slack = delta + noise
        if not (values < shift - slack).sum() <= below <= (values <= shift + slack).sum():
            return False
    return True


def tridiagonalise(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Diagonal, off-diagonal of QᵀMQ, and z ↦ Qz; one reduction serves all values and any vectors (LAPACK dsytrd)."""
    n = len(matrix)
    if n < 3:
        values, vectors = np.linalg.eigh(matrix)
        return values, np.zeros(max(n - 1, 0)), lambda z: vectors @ z
    reduced, diagonal, off, tau, info = dsytrd(matrix, lower=1, lwork=64 * n)
    if info != 0:
        raise np.linalg.LinAlgError(f"dsytrd failed with info = {info}")
    reflectors = np.asfortranarray(reduced[1:, : n - 1])

    def back(z: np.ndarray) -> np.ndarray:
        turned, _, status = dormqr("L", "N", reflectors, tau, np.asfortranarray(z[1:]), lwork=64 * z.shape[1])
        if status != 0:
            raise np.linalg.LinAlgError(f"dormqr failed with info = {status}")
        return np.vstack([z[:1], turned])

    return diagonal, off, back


def dense_spectrum(
    matrix: Tensor,
    product: Product,
    k: int,
    excluded: Tensor | None = None,
    like: Tensor | None = None,
    floor: float = 0.0,
) -> Solution:
    """The whole spectrum of a symmetric matrix, with residuals of its ends by products with the true operator.

    Args:
        matrix: (n, n).
        product: the operator that the matrix stands for, (r, n) → (r, n), for the residuals.
        k: distinct eigenvalues wanted at each end.
        excluded: orthonormal rows (m, n) whose span, fixed by the matrix, is left out of the spectrum.
        like: dtype and device of the vectors for ``product``; those of ``matrix`` by default.
        floor: least error granted, when directions known to be null are null only up to it.
    """
    start_time = time.perf_counter()
    like = matrix if like is None else like
    work = matrix.to("cpu", torch.float64)
    n, m = len(work), 0
    norm = _norm_estimate(work)
    if excluded is not None and len(excluded):
        q = torch.linalg.qr(excluded.to("cpu", torch.float64).mT).Q.mT  # float32 rows are not orthonormal enough
        m = len(q)
        # Move the excluded space above everything else (a shift of order ‖H‖), then drop the top m.
        qm = q @ work
        shift = 3 * norm or 1.0
        work = work - q.mT @ qm - qm.mT @ q + q.mT @ (qm @ q.mT + shift * torch.eye(m, dtype=work.dtype)) @ q
    kept = n - m
    diagonal, off, back = tridiagonalise(np.asfortranarray(work.numpy()))
    values = _tridiagonal_values(diagonal, off)
    separate = 1e-9 if matrix.dtype == torch.float64 else 1e-3
    if m and not np.abs(values[kept:] - shift).max() <= separate * shift:
        raise np.linalg.LinAlgError("the excluded space could not be separated from the rest of the spectrum")
    values = values[:kept]
    spread = float(values[-1] - values[0]) if kept else 0.0
    # Backward error of the reduction: a small multiple of √n ulps of the norm, the shift included.
    noise = rounding(max(norm, spread) * (4 if m else 1), n, matrix.dtype)
    groups = [
        (a + start, a + stop)
        for a, b in _distinct(values, max(1e-11 * spread, noise), noise)
        for start, stop in _by_sign(values[a:b], noise)
    ]
    # A mean stands for a cluster: near zero, its width is an error like any other.
    beyond = [values[a:b] for a, b in groups if np.abs(values[a:b]).max() > noise]
    width = max((_width(v) for v in beyond if _near_zero(v)), default=0.0)
    low, high = groups[:k], groups[::-1][:k]
    vectors, vector_values = [], []
    residuals: dict[tuple[int, int], float] = {}
    for a, b in dict.fromkeys(low + high):
        b_capped = min(b, a + VECTORS)
        z = back(_tridiagonal_vectors(diagonal, off, a, b_capped))
        vectors.append(torch.as_tensor(z.T.copy(), dtype=like.dtype, device=like.device))
        vector_values.append(torch.as_tensor(values[a:b_capped].copy(), dtype=like.dtype, device=like.device))
    if vectors:
        # One random unit vector of each eigenspace meets all of its vectors at the price of one product.
        generator = torch.Generator().manual_seed(n)
        mixed = torch.stack([torch.randn(len(v), generator=generator, dtype=torch.float64).to(v) @ v for v in vectors])
        mixed = mixed / mixed.norm(dim=1, keepdim=True)
        theta = torch.stack([t.mean() for t in vector_values])
        misses = (product(mixed) - theta[:, None] * mixed).norm(dim=1)
        residuals = dict(zip(dict.fromkeys(low + high), misses.tolist(), strict=True))

    def entry(span: tuple[int, int]) -> Eigenvalue:
        return Eigenvalue(float(values[span[0] : span[1]].mean()), residuals[span], span[1] - span[0])

    lowest, highest = tuple(map(entry, low)), tuple(map(entry, high))
    error = max([noise, floor, width, *residuals.values()]) if kept else 0.0
    confirmed = _inertia_agrees(work, values, error, noise) if 0 < n <= INERTIA else None
    proves = like.dtype == torch.float64 and confirmed is not False
    measure = Density(
        "exact",
        tuple(float(values[a:b].mean()) for a, b in groups),
        tuple((b - a) / kept for a, b in groups),
    )
    spectrum = Spectrum(
        dim=kept,
        lowest=lowest,
        highest=highest,
        negative_count=int((values < -error).sum()) if confirmed is not False else None,
        zero_count=int((np.abs(values) <= error).sum()) if confirmed is not False else None,
        density=measure if kept else None,
        method="dense",
        matvecs=n + len(vectors),
        seconds=time.perf_counter() - start_time,
        error=error,
        complete=True,
        lower_bound=float(values[0]) - error if kept and proves else None,
        failure_probability=0.0 if proves else None,
        least_positive=next((float(v) for v in values if v > error), None),
        confirmed=confirmed,
    )
    empty = torch.empty(0, n, dtype=like.dtype, device=like.device)
    return Solution(
        spectrum,
        torch.cat(vector_values) if vector_values else empty[:, 0],
        torch.cat(vectors) if vectors else empty,
    )


def _norm_estimate(matrix: Tensor, steps: int = 20) -> float:
    """‖M‖ from below, within a few per cent, by the power method; only scales rest on it."""
    if not len(matrix):
        return 0.0
    v = torch.randn(len(matrix), generator=torch.Generator().manual_seed(0), dtype=matrix.dtype)
    norm = 0.0
    for _ in range(steps):
        v = matrix @ (v / v.norm())
        norm = float(v.norm())
        if norm == 0.0:
            break
    return norm


def _tridiagonal_values(diagonal: np.ndarray, off: np.ndarray) -> np.ndarray:
    """All eigenvalues, ascending, by QR without square roots (LAPACK dsterf)."""
    if len(diagonal) == 1:
        return diagonal.copy()
    return np.sort(eigh_tridiagonal(diagonal, off, eigvals_only=True, lapack_driver="sterf"))


def _tridiagonal_vectors(diagonal: np.ndarray, off: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Eigenvectors number start … stop − 1, as columns, by bisection and inverse iteration (dstebz, dstein).

    MRRR (dstemr) fails on matrices with a thousandfold eigenvalue, which flat directions under decay make.
    """
    if len(diagonal) == 1:
        return np.ones((1, 1))
    try:
        return eigh_tridiagonal(diagonal, off, select="i", select_range=(start, stop - 1), lapack_driver="stebz")[1]
    except np.linalg.LinAlgError:  # slow and sure
        return eigh_tridiagonal(diagonal, off, lapack_driver="stev")[1][:, start:stop]


@dataclass
class LanczosState:
    """A Krylov run that can be stored and continued: H Q = Q T + β q eᵀ."""

    basis: Tensor
    alphas: list[float]
    betas: list[float]

    @property
    def steps(self) -> int:
        return len(self.alphas)


def lanczos(
    product: Product,
    start: Tensor,
    steps: int,
    project: Callable[[Tensor], Tensor] | None = None,
    state: LanczosState | None = None,
    on_step: Callable[[LanczosState], bool] | None = None,
) -> LanczosState:
    """Plain Lanczos with full reorthogonalisation, no restart (so the bounds of :func:`lower_bound` apply).

    Args:
        product: Hv for v (n).
        start: Gaussian start (n) in the space searched.
        steps: most products to take in all.
        project: orthogonal projection onto the space searched, applied to every product.
        state: a run to continue.
        on_step: called after every step; True ends the run.
    """
    if state is None:
        first = project(start) if project else start
        basis = torch.empty(steps + 1, len(start), dtype=start.dtype, device=start.device)
        basis[0] = first / first.norm()
        state = LanczosState(basis, [], [])
    elif len(state.basis) < steps + 1:
        grown = torch.empty(steps + 1, len(start), dtype=start.dtype, device=start.device)
        grown[: len(state.basis)] = state.basis
        state.basis = grown
    scale = max(map(abs, state.alphas + state.betas), default=0.0)
    for j in range(state.steps, steps):
        q = state.basis[: j + 1]
        w = product(q[j])
        if project:
            w = project(w)
        state.alphas.append(float(q[j] @ w))
        # Twice is enough (Kahan, Parlett): classical Gram–Schmidt against the whole basis.
        for _ in range(2):
            w = w - (q @ w) @ q
        if project:
            w = project(w)
        beta = float(w.norm())
        scale = max(scale, abs(state.alphas[-1]), beta)
        if beta <= 1e2 * torch.finfo(w.dtype).eps * scale:
            state.betas.append(0.0)
            break
        state.betas.append(beta)
        state.basis[j + 1] = w / beta
        if on_step and on_step(state):
            break
    return state


def ritz(state: LanczosState) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ritz values (ascending), vectors in the Krylov basis as columns, and Lanczos' own residual estimates."""
    off = np.array(state.betas[: state.steps - 1])
    if state.steps == 1:
        return np.array(state.alphas), np.ones((1, 1)), np.abs(np.array(state.betas[:1]))
    values, vectors = eigh_tridiagonal(np.array(state.alphas), off)
    return values, vectors, abs(state.betas[state.steps - 1]) * np.abs(vectors[-1])


def lanczos_spectrum(
    product: Product,
    dim: int,
    state: LanczosState,
    k: int,
    seconds: float,
    high: int | None = None,
    like: Tensor | None = None,
    stops: int = 1,
) -> Solution:
    """The ends of a Krylov run with residuals by one more product each; one entry per distinct Ritz value.

    A single vector sees no multiplicity, so none is claimed, and counts stay None.

    Args:
        product: Hv for rows v, in the dtype of ``like``.
        dim: of the space searched.
        state: the run, in any precision.
        k: pairs at the low end.
        seconds: that the run took.
        high: pairs at the high end; k by default.
        like: dtype and device of quotients, residuals and vectors; those of the basis by default.
        stops: steps at which the run might have ended, having looked at its own result: the bound holds at each of
            them with its share of the failure probability, hence at the one where it did end.
    """
    start_time = time.perf_counter()
    values, z, _ = ritz(state)
    like = state.basis if like is None else like
    k, high = min(k, len(values)), min(k if high is None else high, len(values))
    chosen = np.unique(np.concatenate([np.arange(k), np.arange(len(values) - high, len(values))]))
    weights = torch.as_tensor(z[:, chosen].T.copy()).to(state.basis)
    vectors = (weights @ state.basis[: state.steps]).to(like)
    vectors = vectors / vectors.norm(dim=1, keepdim=True)
    images = product(vectors)
    quotients = (vectors * images).sum(1)
    residuals = (images - quotients[:, None] * vectors).norm(dim=1)
    found = {int(i): Eigenvalue(float(q), float(r)) for i, q, r in zip(chosen, quotients, residuals, strict=True)}
    spread = float(values[-1] - values[0])
    exhausted = state.betas[-1] == 0.0
    mixed = state.basis.dtype != like.dtype
    epsilon = bound_epsilon(dim, state.steps, FAILURE / stops)
    bounded = epsilon < 0.5 and state.basis.dtype == torch.float64
    # The bound is one of exact arithmetic: what the basis lost of its orthogonality is taken off, and so is rounding.
    used = state.basis[: state.steps]
    drift = float((used @ used.mT - torch.eye(state.steps, dtype=used.dtype, device=used.device)).norm())
    norm = max(abs(values[0]), abs(values[-1]))
    error = rounding(norm, dim, like.dtype)
    spectrum = Spectrum(
        dim=dim,
        lowest=tuple(found[i] for i in range(k)),
        highest=tuple(found[len(values) - 1 - i] for i in range(high)),
        negative_count=None,
        density=Density("Lanczos quadrature, one vector", tuple(map(float, values)), tuple(map(float, z[0] ** 2))),
        method="Lanczos" + ", invariant subspace reached" * exhausted + ", float32 with float64 quotients" * mixed,
        matvecs=state.steps + len(chosen),
        seconds=seconds + time.perf_counter() - start_time,
        error=error,
        lower_bound=float(values[0]) - epsilon / (1 - 2 * epsilon) * spread - error - drift * norm if bounded else None,
        failure_probability=2 * FAILURE if bounded else None,
    )
    return Solution(spectrum, quotients, vectors)


def bound_epsilon(dim: int, steps: int, probability: float) -> float:
    """ε with 1.648 √n exp(−√ε(2k − 1)) = p: P[λ_min < θ_min − ε(λ_max − λ_min)] ≤ p after k products.

    Source: Kuczyński and Woźniakowski, Estimating the largest eigenvalue by the power and Lanczos algorithms
    with a random start (1992). Holds for exact arithmetic, a Gaussian start in the space searched, no restart.

    >>> round(bound_epsilon(6000, 2950, 1e-6), 7)
    1e-05
    """
    return (math.log(1.648 * math.sqrt(dim) / probability) / (2 * steps - 1)) ** 2


def label(spectrum: Spectrum, irrep: str | None) -> Spectrum:
    """The same spectrum with every eigenvalue labelled by an irrep."""
    return replace(
        spectrum,
        lowest=tuple(replace(e, irrep=irrep) for e in spectrum.lowest),
        highest=tuple(replace(e, irrep=irrep) for e in spectrum.highest),
    )
