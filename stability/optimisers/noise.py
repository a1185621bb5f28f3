r"""What drawn batches and group elements do to the distance from E: a second moment that follows a linear law.

A step sees the gradient ∇R^aug + n. At A in E the noise on E⊥ has mean zero; with G_s = P_{E⊥}∇ℓ_s(A), G their mean,

    per sample    E[n nᵀ] = ∫ρ̄(g) Σ_s a_s G_s G_sᵀ ρ̄(g)ᵀ / K,      a_s = w_s/B, or w_s² where all samples are seen
    per batch     E[n nᵀ] = ∫ρ̄(g) (GGᵀ + f(Σ_s w_s G_s G_sᵀ − GGᵀ)) ρ̄(g)ᵀ / K,   f from :func:`draws.scatter`

which has a block C on every sector. In the eigenbasis of P^{1/2}(B_λ + μ)P^{1/2}, with M_i the map (y, b) ↦ (y', b') of
eigenvalue i and k what a unit of gradient does to it,

    X_ij ← M_i X_ij M_jᵀ + C_ij k kᵀ,       E‖A_λ‖² = (d/c) tr P^{1/2} Y P^{1/2},   Y = the y-part of X

All of it to first order in the deviation; that the Hessian is drawn too is :mod:`stability.optimisers.feedback`'s part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad

from stability.groups import Irrep
from stability.optimisers.blocks import Block, parts
from stability.optimisers.draws import Draws, scatter
from stability.optimisers.multipliers import companion, kick
from stability.optimisers.updates import Update
from stability.problem.problem import Problem
from stability.problem.space import Samples

# Pairs of eigenvalues whose 4 × 4 maps are held at once.
PAIRS = 1 << 17


def sample_gradients(problem: Problem, at: Tensor) -> Tensor:
    """P_{E⊥}∇ℓ_s(A), one row a sample, of the losses by themselves: weight one each."""
    slope, rows = grad(problem.loss), []
    for one in problem.samples.chunks(1):
        rows.append(slope(at, Samples(one.x, one.y, torch.ones_like(one.weight))))
    return problem.space.transverse_part(torch.stack(rows))


def covariance(problem: Problem, irrep: Irrep, gradients: Tensor, draws: Draws) -> Tensor:
    """C, the block of E[n nᵀ] in coordinates of a sector, (size, size)."""
    seen = parts(problem.space, irrep, gradients)  # (n, d, size)
    if draws.elements is None:
        return seen.new_zeros(seen.shape[-1], seen.shape[-1])
    weight = problem.samples.weight

    def gram(u: Tensor, w: Tensor) -> Tensor:
        rows = u.flatten(0, 1)
        return (rows.mT * w.repeat_interleave(irrep.dim)) @ rows / irrep.dim

    if draws.per == "sample":
        share = weight * weight if draws.batch is None else weight / draws.batch
        return gram(seen, share) / draws.elements
    mean = torch.tensordot(weight, seen, 1)[None]
    alone, f = gram(mean, weight.new_ones(1)), scatter(problem, draws)
    return (alone + f * (gram(seen, weight) - alone)) / draws.elements


@dataclass(frozen=True, eq=False)
class Sums:
    """Σ_{t<k} (M_i ⊗ M_j)^t vec(k kᵀ) and (M_i ⊗ M_j)^k for all pairs of some eigenvalues.

    Attributes:
        total: the sum.
        power: the power.
    """

    total: Tensor
    power: Tensor

    def then(self, other: Sums) -> Sums:
        """The steps of both, one after the other."""
        moved = (self.power @ other.total[..., None])[..., 0]
        return Sums(self.total + moved, self.power @ other.power)


def sums(update: Update, h: Tensor, w: Tensor, steps: int) -> Sums:
    """For pairs (h, w), broadcast against each other, after a number of steps, by doubling."""
    a, b = torch.broadcast_tensors(companion(update, h), companion(update, w))
    pair = torch.einsum("...ab,...cd->...acbd", a, b).flatten(-4, -3).flatten(-2)
    k = kick(update).to(h)
    once = Sums(torch.outer(k, k).flatten().expand(*pair.shape[:-1]), pair)
    found: Sums | None = None
    while steps:
        if steps & 1:
            found = once if found is None else found.then(once)
        steps >>= 1
        once = once.then(once) if steps else once
    if found is None:
        return Sums(torch.zeros_like(once.total), torch.eye(4, dtype=h.dtype, device=h.device).expand_as(pair))
    return found


def gains(update: Update, h: Tensor, steps: int | None) -> Tensor:
    """s_ij with Y_ij = s_ij C_ij after a number of steps from rest, or for ever (None), (size, size).

    For ever it is infinite where a pair of multipliers does not shrink.
    """
    rows, chunk = [], max(1, PAIRS // max(len(h), 1))
    for start in range(0, len(h), chunk):
        part = h[start : start + chunk]
        if steps is None:
            one = sums(update, part[:, None], h[None], 1)
            eye = torch.eye(4, dtype=h.dtype, device=h.device)
            radius = _radii(update, part)[:, None] * _radii(update, h)[None]
            safe = torch.where((radius < 1)[..., None, None], one.power, torch.zeros_like(one.power))
            found = torch.linalg.solve(eye - safe, one.total[..., None])[..., 0]
            rows.append(torch.where(radius < 1, found[..., 0], math.inf))
        else:
            rows.append(sums(update, part[:, None], h[None], steps).total[..., 0])
    return torch.cat(rows)


def _radii(update: Update, h: Tensor) -> Tensor:
    return torch.linalg.eigvals(companion(update, h)).abs().amax(-1)


def carried(update: Update, h: Tensor, steps: int) -> Tensor:
    """(M_i^k)_yy: what is left of a deviation that started without momentum, (size)."""
    return torch.linalg.matrix_power(companion(update, h), steps)[..., 0, 0]


@dataclass(frozen=True, eq=False)
class Spread:
    """Second moment of the deviation in one sector, in its coordinates.

    Attributes:
        matrix: (size, size), its trace times d/c being E‖A_λ‖².
        copies: d/c.
    """

    matrix: Tensor
    copies: float

    @property
    def squared(self) -> float:
        """E‖A_λ‖²."""
        return self.copies * float(self.matrix.trace())

    @property
    def scatter(self) -> float:
        """The variance of ‖A_λ‖² if the deviation is Gaussian, 2 tr Σ²."""
        return 2 * self.copies * float((self.matrix * self.matrix.mT).sum())


def _inward(block: Block, matrix: Tensor) -> Tensor:
    """A matrix on the sector, in the eigenbasis."""
    return block.vectors.mT @ matrix @ block.vectors


def _outward(block: Block, matrix: Tensor) -> Tensor:
    whole = block.vectors @ matrix @ block.vectors.mT
    return whole if block.root is None else block.root @ whole @ block.root


def stirred(block: Block, update: Update, noise: Tensor, steps: int | None) -> Spread:
    """What noise of covariance C makes of rest in a number of steps; None: in the long run."""
    if not noise.any():
        return Spread(torch.zeros_like(noise), block.copies)
    scaled = noise if block.root is None else block.root @ noise @ block.root
    inward = _inward(block, scaled)
    gain = gains(update, block.values, steps)
    if not torch.isfinite(gain).all():
        silent = inward.abs() <= 1e-14 * inward.abs().max()
        gain = torch.where(silent, 0.0, gain)
        if not torch.isfinite(gain).all():
            return Spread(torch.full_like(noise, math.inf), block.copies)
    return Spread(_outward(block, gain * inward), block.copies)


def kept(block: Block, update: Update, energy: Tensor, steps: int) -> Spread:
    """What is left after a number of steps of a deviation with second moment ``energy`` at the start."""
    if block.root is not None:
        energy = torch.linalg.solve(block.root, torch.linalg.solve(block.root, energy).mT)
    left = carried(update, block.values, steps)
    inward = left[:, None] * left[None] * _inward(block, energy)
    return Spread(_outward(block, inward), block.copies)


def largest_squared(block: Block, update: Update, first: Tensor, noise: Tensor, steps: int) -> list[float]:
    """E‖A_λ‖² after 1, 2, 4 … steps and after ``steps``, without preconditioner: only the eigenbasis' diagonal counts.

    Args:
        block: the sector.
        update: the rule.
        first: second moment of the deviation at the start.
        noise: C.
        steps: the last time.
    """
    inward = [torch.einsum("ki,kl,li->i", block.vectors, m, block.vectors) for m in (first, noise)]
    marks = sorted({*(2**i for i in range(steps.bit_length())), steps})
    found, done = [], Sums(*(torch.zeros(0), torch.zeros(0)))
    for before, mark in zip([0, *marks], marks, strict=False):
        ahead = sums(update, block.values, block.values, mark - before)
        done = ahead if not before else done.then(ahead)
        found.append(block.copies * float(done.power[..., 0, 0] @ inward[0] + done.total[..., 0] @ inward[1]))
    return found


def energy(problem: Problem, block: Block, deviation: Tensor) -> Tensor:
    """The second moment of one given deviation in the sector's coordinates, averaged over its partners."""
    seen = parts(problem.space, block.irrep, deviation)
    return seen.mT @ seen / block.irrep.dim


def isotropic(block: Block, squared: float, dimensions: int) -> Tensor:
    """The second moment of a deviation of E‖y‖² = ``squared`` in a random direction among ``dimensions``."""
    return squared / dimensions * torch.eye(len(block.values), dtype=block.values.dtype)
