"""Eigenvalues with evidence: whole dense spectra, Lanczos for both ends, residuals, bounds.

A pair (θ, v), ‖v‖ = 1, of a symmetric H has a true eigenvalue within ‖Hv − θv‖ of θ: every eigenvalue here
carries that residual, measured by one more product with the operator and not estimated by the solver.

>>> import torch
>>> from stability.eigen.dense import dense_spectrum
>>> H = torch.diag(torch.tensor([-1.0, 2.0, 2.0, 5.0], dtype=torch.float64))
>>> S = dense_spectrum(H, lambda v: v @ H, k=2).spectrum
>>> [(e.value, e.multiplicity) for e in S.lowest], S.negative_count
([(-1.0, 1), (2.0, 2)], 1)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from stability.eigen.spectrum import FAILURE, Density, Eigenvalue, Solution, Spectrum, bound_epsilon, rounding

Product = Callable[[Tensor], Tensor]


def zero_space(width: int, like: Tensor) -> Solution:
    """The spectrum on {0}: whole and empty, with no vector of ``width`` numbers."""
    spectrum = Spectrum(0, (), (), 0, None, "zero space", 0, 0.0, 0, complete=True, failure_probability=0.0)
    return Solution(spectrum, like.new_empty(0), like.new_empty(0, width))


@dataclass
class LanczosState:
    """A Krylov run that can be stored and continued: H Q = Q T + β q eᵀ.

    Attributes:
        basis: Q, orthonormal rows (steps + 1 or more, n); those after q are memory for further steps.
        alphas: the diagonal of T, ⟨q_j, Hq_j⟩.
        betas: beside it, norms of what was left; the last one zero where the space is invariant.
    """

    basis: Tensor
    alphas: list[float]
    betas: list[float]

    @property
    def steps(self) -> int:
        """k, the products taken."""
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


def _ritz_vectors(state: LanczosState, z: np.ndarray, like: Tensor) -> Tensor:
    """Unit Ritz vectors as rows, from their coordinates in the Krylov basis as columns."""
    weights = torch.as_tensor(z.T.copy()).to(state.basis)
    vectors = (weights @ state.basis[: state.steps]).to(like)
    return vectors / vectors.norm(dim=1, keepdim=True)


def _drift(state: LanczosState) -> float:
    """‖QᵀQ − 1‖: what the Krylov basis has lost of its orthogonality."""
    used = state.basis[: state.steps]
    return float((used @ used.mT - torch.eye(state.steps, dtype=used.dtype, device=used.device)).norm())


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
    vectors = _ritz_vectors(state, z[:, chosen], like)
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
    drift = _drift(state)
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
