r"""The multiplicative part of the noise: a drawn batch has a Hessian of its own, H_k = ∇²R^aug + N_k.

    X ← M X Mᵀ + (C + E[N Y N]) ⊗ k kᵀ,       Y the part of X on the weights,
    E[N Y N] = (Q₁ − q₁)/BK + f(q₁ − q₀)                                   each sample with K elements of its own
             = (Q₀ + f(Q₁ − Q₀) − q₀ − f(q₁ − q₀))/K + f(q₁ − q₀)          K elements a batch
    Q₁ = Σ_s w_s ∫ρ̄ H_s Y H_s ρ̄ᵀ,  Q₀ = ∫ρ̄ H Y H ρ̄ᵀ,  q₁ = Σ_s w_s H̄_s Y H̄_s,  q₀ = H̄ Y H̄,     all on E⊥

with H_s the nominal Hessian of one sample, H their mean, bars for the average over G, f of :func:`draws.scatter` (where
all samples are seen, 1/B becomes the w_s of their squares). The long run is Y = s ∘ (C + E[N Y N]), s the gains of
:mod:`stability.optimisers.noise`; Y ↦ s ∘ E[N Y N] keeps positive matrices positive, so the mean square stays finite
exactly when its spectral radius is below one: at one or above, noise drives the network off E although every
multiplier shrinks. Matrices of E⊥ are dense here, so this is for small problems.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stability.base.errors import BadInput
from stability.curvature.automatic import group_average, linearise
from stability.eigen.operator import assemble
from stability.optimisers.draws import Draws, fitting, scatter
from stability.optimisers.multipliers import companion, kick
from stability.optimisers.noise import gains, sample_gradients
from stability.optimisers.updates import Update
from stability.problem.problem import Problem
from stability.problem.space import Samples
from stability.spectra import sectors

# Weights, and numbers of all samples' Hessians, up to which they are held.
DIM_LIMIT, NUMBERS = 400, 3e7
ROUNDS, SETTLED, ENOUGH = 200, 1e-6, 1e-10


@dataclass(frozen=True, eq=False)
class Feedback:
    """The second moment on E⊥ with drawn Hessians, as two linear maps.

    Attributes:
        problem: the risk.
        update: the rule of a step.
        draws: of batches and group elements.
        values: h on E⊥, (D).
        basis: orthonormal columns, their eigenvectors, (dim L, D).
        root: √P on L, (dim L); ones without preconditioner.
        additive: C in the eigenbasis, (D, D).
        nominal: H_s in the eigenbasis, (n, D, D).
        averaged: H̄_s, (n, D, D).
        weights: w_s.
    """

    problem: Problem
    update: Update
    draws: Draws
    values: Tensor
    basis: Tensor
    root: Tensor
    additive: Tensor
    nominal: Tensor
    averaged: Tensor
    weights: Tensor

    def drawn(self, y: Tensor) -> Tensor:
        """E[N Y N], (D, D)."""
        w, f = self.weights, scatter(self.problem, self.draws)
        y = self._average(y)  # what rounding leaves that does not commute with G may grow faster than all that does
        mean = torch.tensordot(w, self.averaged, 1)
        each = mixed(self.averaged, y, w) - mean @ y @ mean
        if self.draws.elements is None:
            return f * each
        if self.draws.per == "sample":
            share = w * w if self.draws.batch is None else w / self.draws.batch
            moved = self._average(mixed(self.nominal, y, share)) - mixed(self.averaged, y, share)
            return moved / self.draws.elements + f * each
        whole = torch.tensordot(w, self.nominal, 1)
        alone = whole @ y @ whole
        spread = self._average(alone + f * (mixed(self.nominal, y, w) - alone)) - mean @ y @ mean - f * each
        return spread / self.draws.elements + f * each

    def _average(self, matrix: Tensor) -> Tensor:
        inner = self.basis @ matrix @ self.basis.mT
        return self.basis.mT @ group_average(inner, self.problem.space, self.problem.group) @ self.basis

    def radius(self) -> float:
        """The spectral radius of Y ↦ s ∘ E[N Y N]; infinite where a multiplier does not shrink."""
        gain = gains(self.update, self.values, None)
        if not torch.isfinite(gain).all():
            return float("inf")
        y, ratio = torch.eye(len(gain), dtype=gain.dtype), 0.0
        for _ in range(ROUNDS):
            moved = gain * self.drawn(y)
            before, ratio = ratio, float(moved.trace() / y.trace())
            if not ratio > 0 or abs(ratio - before) <= SETTLED * ratio:
                break
            y = moved / moved.trace()
        return ratio

    def stationary(self) -> Tensor | None:
        """Y in the long run; None where the mean square has no end."""
        if not self.radius() < 1:
            return None
        gain = gains(self.update, self.values, None)
        y = gain * self.additive
        for _ in range(ROUNDS):
            after = gain * (self.additive + self.drawn(y))
            near = float((after - y).norm()) <= ENOUGH * float(after.norm())
            y = after
            if near:
                break
        return y

    def after(self, steps: int) -> Tensor:
        """Y after a number of steps from rest on E."""
        m, k = companion(self.update, self.values), kick(self.update).to(self.values)
        size = len(self.values)
        x = self.values.new_zeros(size, size, 2, 2)
        pushed = torch.outer(k, k)
        for _ in range(steps):
            fresh = self.additive + self.drawn(x[..., 0, 0])
            x = torch.einsum("iab,ijbd,jcd->ijac", m, x, m) + fresh[..., None, None] * pushed
        return x[..., 0, 0]

    def by_sector(self, y: Tensor) -> dict[str, float]:
        """E‖A_λ‖² of every sector on E⊥."""
        outward = self.basis * self.root[:, None]
        found = {}
        for irrep, size in sectors.occurring(self.problem.space):
            if not irrep.is_trivial:
                eye = torch.eye(size, dtype=y.dtype)
                seen = sectors.lift(self.problem.space, irrep, eye).flatten(0, 1) @ outward
                found[irrep.name] = float(((seen @ y) * seen).sum()) / irrep.commutant_dim
        return found


def mixed(matrices: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """Σ_s w_s H_s Y H_s."""
    return torch.tensordot(weights, matrices @ y @ matrices, 1)


def affordable(problem: Problem) -> bool:
    """Whether the Hessians of all samples fit."""
    dim = problem.space.dim
    return dim <= DIM_LIMIT and len(problem.samples) * dim**2 <= NUMBERS


def feedback(
    problem: Problem, theta: Tensor, update: Update, draws: Draws, *, preconditioner: Tensor | None = None
) -> Feedback:
    """The maps at a point of E.

    Raises:
        BadInput: more than 400 weights, or too many samples for their Hessians.
    """
    fitting(problem, draws)
    if not affordable(problem):
        raise BadInput(
            f"{problem.name}: {problem.space.dim:,} weights and {len(problem.samples):,} samples are too many for the "
            f"Hessians of all samples; give at most {DIM_LIMIT} weights"
        )
    space, at = problem.space, problem.space.embed(theta)
    nominal = torch.stack([sample_hessian(problem, at, one) for one in problem.samples.chunks(1)])
    averaged = torch.stack([group_average(h, space, problem.group) for h in nominal])
    root = torch.ones_like(at) if preconditioner is None else preconditioner.sqrt()
    nominal, averaged = (root[:, None] * h * root for h in (nominal, averaged))
    whole = torch.tensordot(problem.samples.weight, averaged, 1)
    whole = whole + torch.diag((problem.weight_decay + update.coupled) * root * root)
    across = torch.linalg.qr(_complement(problem), mode="reduced").Q
    values, vectors = torch.linalg.eigh(across.mT @ whole @ across)
    basis = across @ vectors
    gradients = sample_gradients(problem, at) * root
    weight, f = problem.samples.weight, scatter(problem, draws)
    if draws.elements is None:
        outer = torch.zeros_like(whole)
    elif draws.per == "sample":
        share = weight * weight if draws.batch is None else weight / draws.batch
        outer = (gradients.mT * share) @ gradients / draws.elements
    else:
        mean = weight @ gradients
        alone = torch.outer(mean, mean)
        outer = (alone + f * ((gradients.mT * weight) @ gradients - alone)) / draws.elements
    additive = basis.mT @ group_average(outer, space, problem.group) @ basis
    inward = [basis.mT @ h @ basis for h in (nominal, averaged)]
    return Feedback(problem, update, draws, values, basis, root, additive, *inward, weight)


def sample_hessian(problem: Problem, at: Tensor, one: Samples) -> Tensor:
    """∇²ℓ_s(A), (dim L, dim L), of one sample with weight one."""
    width = max(max(layer.shape) for layer in problem.space.layers)
    alone = Samples(one.x, one.y, torch.ones_like(one.weight))
    return assemble(linearise(problem.loss, at, alone, 0.0, "∇²ℓ", 1, width), at)


def _complement(problem: Problem) -> Tensor:
    """Columns that span E⊥, (dim L, dim L − dim E)."""
    space = problem.space
    on_e = space.embed(torch.eye(space.dim_equivariant, dtype=torch.float64)).mT
    whole = torch.linalg.qr(on_e, mode="complete").Q
    return whole[:, space.dim_equivariant :]
