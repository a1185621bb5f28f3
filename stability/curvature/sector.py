r"""B_λ: the Hessian of R^aug on one sector of L, in coordinates of Hom_G(V_λ, L).

B_λ s = (1/d) Σ_j S^* ∇²R(A) S s e_j   at a point A of E, S the basis of M_λ and e_j that of V_λ
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from stability.base.errors import BadInput
from stability.curvature.linearised import network_hessian
from stability.eigen.operator import Operator
from stability.groups import Irrep
from stability.problem.problem import Problem, Within
from stability.problem.space import ParameterSpace


def sizes(space: ParameterSpace, irrep: Irrep) -> list[int]:
    """dim_R Hom_G(V_λ, Hom(X_i, X_{i+1})) layer by layer."""
    return [layer.size(irrep) for layer in space.layers]


def lift(space: ParameterSpace, irrep: Irrep, s: Tensor) -> Tensor:
    """All partners of sector coordinates: (…, size) → (…, d, dim L), rows of norm ‖s‖ each."""
    weights = []
    for layer, part in zip(space.layers, s.split(sizes(space, irrep), dim=-1), strict=True):
        if part.shape[-1]:
            weights.append(layer.embed(part, irrep))
        else:
            weights.append(s.new_zeros((*s.shape[:-1], irrep.dim, *layer.shape)))
    return space.join(weights)


def lower(space: ParameterSpace, irrep: Irrep, v: Tensor) -> Tensor:
    """Coordinates (1/d) Σ_j ⟨S_b e_j, v_j⟩: (…, d, dim L) → (…, size)."""
    parts = []
    for layer, w in zip(space.layers, space.split(v), strict=True):
        if layer.size(irrep):
            parts.append(layer.adjoint_embed(w, irrep) / irrep.dim)
    return torch.cat(parts, dim=-1)


def sector_hessian(
    problem: Problem, theta: Tensor, irrep: Irrep, nominal: Operator | None = None, memory_gb: float = 16.0
) -> Operator:
    """B_λ at the point of E with coordinates θ, by d_λ nominal products each.

    A network's own hand-written Hessian where there is one, compressed where some weights only are free; else
    ``nominal``, ∇²R on L, between lift and lower.
    """
    if problem.layered is not None:
        return network_hessian(problem, theta, irrep, memory_gb=memory_gb)
    if problem.within is not None and problem.written:
        return _compressed(problem, problem.within, theta, irrep, memory_gb)
    if nominal is None:
        raise BadInput(f"{problem.name}: sectors of a bare risk need its nominal Hessian")
    space = problem.space

    def apply(v: Tensor) -> Tensor:
        partners = lift(space, irrep, v)
        moved = nominal(partners.flatten(0, 1))
        operator.scale = max(operator.scale, float(moved.norm() / partners.norm().clamp_min(1e-300)))
        return lower(space, irrep, moved.unflatten(0, partners.shape[:2]))

    batch = max(1, nominal.batch // irrep.dim)
    operator = Operator(sum(sizes(space, irrep)), apply, f"B_{irrep.name}", irrep.dim, batch, notes=nominal.notes)
    return operator


def _compressed(problem: Problem, within: Within, theta: Tensor, irrep: Irrep, memory_gb: float) -> Operator:
    """JᵀB_λJ, with B_λ of the whole problem and J: M_λ(T) → M_λ(L) what B makes of coordinates in the sector."""
    whole, at = enclosing(problem, within, theta)
    block = sector_hessian(whole, at, irrep, None, memory_gb)

    def apply(v: Tensor) -> Tensor:
        up = lower(whole.space, irrep, within.linear(lift(problem.space, irrep, v)))
        return lower(problem.space, irrep, within.project(lift(whole.space, irrep, block(up))))

    return Operator(sum(sizes(problem.space, irrep)), apply, block.name, block.cost, block.batch, notes=block.notes)


def enclosing(problem: Problem, within: Within, theta: Tensor) -> tuple[Problem, Tensor]:
    """The whole problem on the same data, and the same point in coordinates of its E."""
    whole = replace(within.whole, samples=problem.samples, weight_decay=problem.weight_decay)
    return whole, whole.space.project(within.embed(problem.space.embed(theta)))
