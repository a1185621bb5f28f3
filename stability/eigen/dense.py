"""Every eigenvalue of a symmetric matrix, with residuals by products and counts by inertia."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal, ldl
from scipy.linalg.lapack import dormqr, dsytrd
from torch import Tensor

from stability.eigen.lanczos import Product, zero_space
from stability.eigen.spectrum import Density, Eigenvalue, Solution, Spectrum, by_sign, clusters, rounding

VECTORS = 256
# Largest matrix whose counts are confirmed by a factorisation of its own.
INERTIA = 1000
# Diagonal and off-diagonal of QᵀMQ, and z ↦ Qz.
Tridiagonal = tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray]]


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


def tridiagonalise(matrix: np.ndarray) -> Tridiagonal:
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
    if not len(matrix):
        return zero_space(0, like)
    work = matrix.to("cpu", torch.float64)
    norm, n = _norm_estimate(work), len(work)
    m, shift = 0, 3 * norm or 1.0
    if excluded is not None and len(excluded):
        m, work = len(excluded), _lifted(work, excluded, shift)
    kept = n - m
    reduced = tridiagonalise(np.asfortranarray(work.numpy()))
    separate = 1e-9 if matrix.dtype == torch.float64 else 1e-3
    values = _below(_tridiagonal_values(*reduced[:2]), kept, shift, separate)
    spread = float(values[-1] - values[0]) if kept else 0.0
    # Backward error of the reduction: a small multiple of √n ulps of the norm, the shift included.
    noise = rounding(max(norm, spread) * (4 if m else 1), n, matrix.dtype)
    groups = _distinct(values, max(1e-11 * spread, noise), noise)
    low, high = groups[:k], groups[::-1][:k]
    ends = list(dict.fromkeys(low + high))
    spaces = [_eigenspace(reduced, values, span, like) for span in ends]
    residuals = dict(zip(ends, _residuals(product, spaces, n), strict=True)) if ends else {}
    error = max([noise, floor, *residuals.values()]) if kept else 0.0
    confirmed = _inertia_agrees(work, values, error, noise) if 0 < n <= INERTIA else None
    spectrum = Spectrum(
        dim=kept,
        lowest=tuple(_entry(values, span, residuals) for span in low),
        highest=tuple(_entry(values, span, residuals) for span in high),
        density=_density(values, groups) if kept else None,
        method="dense",
        matvecs=n + len(ends),
        seconds=time.perf_counter() - start_time,
        error=error,
        complete=True,
        confirmed=confirmed,
        width=max((float(values[b - 1] - values[a]) for a, b in groups), default=0.0),
        **_read_off(values, error, confirmed, proves=like.dtype == torch.float64 and confirmed is not False),
    )
    none = torch.empty(0, n, dtype=like.dtype, device=like.device)
    found, vectors = map(torch.cat, zip(*spaces, strict=True)) if spaces else (none[:, 0], none)
    return Solution(spectrum, found, vectors)


def _lifted(work: Tensor, excluded: Tensor, shift: float) -> Tensor:
    """The matrix with the excluded space moved above everything else, by a shift of order ‖H‖."""
    q = torch.linalg.qr(excluded.to("cpu", torch.float64).mT).Q.mT  # float32 rows are not orthonormal enough
    qm = q @ work
    return work - q.mT @ qm - qm.mT @ q + q.mT @ (qm @ q.mT + shift * torch.eye(len(q), dtype=work.dtype)) @ q


def _below(values: np.ndarray, kept: int, shift: float, separate: float) -> np.ndarray:
    """The eigenvalues that are kept, once the others are seen at the shift, where the excluded space was moved."""
    if kept < len(values) and not np.abs(values[kept:] - shift).max() <= separate * shift:
        raise np.linalg.LinAlgError("the excluded space could not be separated from the rest of the spectrum")
    return values[:kept]


def _distinct(values: np.ndarray, tolerance: float, noise: float) -> list[tuple[int, int]]:
    """Index ranges of eigenvalues that count as one: nearer than a tolerance, and on one side of zero."""
    return [
        (a + start, a + stop) for a, b in clusters(values, tolerance) for start, stop in by_sign(values[a:b], noise)
    ]


def _eigenspace(reduced: Tridiagonal, values: np.ndarray, span: tuple[int, int], like: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors (rows) of an index range, of its first ``VECTORS`` where it is wider."""
    diagonal, off, back = reduced
    start, stop = span[0], min(span[1], span[0] + VECTORS)
    z = back(_tridiagonal_vectors(diagonal, off, start, stop))
    vectors = torch.as_tensor(z.T.copy(), dtype=like.dtype, device=like.device)
    return torch.as_tensor(values[start:stop].copy(), dtype=like.dtype, device=like.device), vectors


def _residuals(product: Product, spaces: list[tuple[Tensor, Tensor]], seed: int) -> list[float]:
    """‖Hv − θv‖ of each eigenspace, θ the mean of its eigenvalues.

    One random unit vector of each eigenspace meets all of its vectors at the price of one product.
    """
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.stack([torch.randn(len(z), generator=generator, dtype=torch.float64).to(z) @ z for _, z in spaces])
    mixed = mixed / mixed.norm(dim=1, keepdim=True)
    theta = torch.stack([values.mean() for values, _ in spaces])
    return (product(mixed) - theta[:, None] * mixed).norm(dim=1).tolist()


def _entry(values: np.ndarray, span: tuple[int, int], residuals: dict[tuple[int, int], float]) -> Eigenvalue:
    """One distinct eigenvalue: the mean of an index range, with the range's length as its multiplicity."""
    return Eigenvalue(float(values[slice(*span)].mean()), residuals[span], span[1] - span[0])


def _density(values: np.ndarray, groups: list[tuple[int, int]]) -> Density:
    """Every distinct eigenvalue with its share of the dimension."""
    means = tuple(float(values[a:b].mean()) for a, b in groups)
    return Density("exact", means, tuple((b - a) / len(values) for a, b in groups))


def _read_off(values: np.ndarray, error: float, confirmed: bool | None, proves: bool) -> dict[str, Any]:
    """Counts beyond ±error, unless inertia contradicts them; a lower bound, where the precision proves one."""
    return {
        "negative_count": int((values < -error).sum()) if confirmed is not False else None,
        "zero_count": int((np.abs(values) <= error).sum()) if confirmed is not False else None,
        "lower_bound": float(values[0]) - error if len(values) and proves else None,
        "failure_probability": 0.0 if proves else None,
        "least_positive": next((float(v) for v in values if v > error), None),
    }


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
