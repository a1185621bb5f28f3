r"""Flat directions known in advance: verified, counted on E and E⊥, taken out of a search.

A family W ↦ P_left W P_right in one layer leaves the data term unchanged at every A, so its members are
eigenvectors of ∇²R, ∇²R^eqv and ∇²R^aug with eigenvalue exactly μ (the weight decay). The families of one layer
commute with each other and, being G-invariant, with Π_E; the union of left families P and right families Q
leaves (I − P) W (I − Q).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stability.base.record import Record
from stability.eigen.operator import Operator
from stability.layers import Layer
from stability.problem.problem import FlatFamily
from stability.problem.space import ParameterSpace


@dataclass(frozen=True)
class FlatDirections(Record):
    """A verified family, or the union of several.

    Attributes:
        name: what reports call it.
        space: "E" or "E_perp".
        count: its dimension there.
        residual: ‖Hn − μn‖/‖n‖ for a random member n of it; None for a union.
    """

    name: str
    space: str
    count: int
    residual: float | None


def member(family: FlatFamily, space: ParameterSpace, v: Tensor) -> Tensor:
    """Orthogonal projection of v (…, dim L) onto the family."""
    weights = [torch.zeros_like(w) for w in space.split(v)]
    weights[family.layer] = _between(family.left, space.split(v)[family.layer], family.right)
    return space.join(weights)


def _between(left: Tensor | None, weight: Tensor, right: Tensor | None) -> Tensor:
    weight = weight if left is None else left @ weight
    return weight if right is None else weight @ right


def complement(families: tuple[FlatFamily, ...], space: ParameterSpace, v: Tensor) -> Tensor:
    """Orthogonal projection of v onto what no family contains."""
    weights = list(space.split(v))
    for family in families:
        weight = weights[family.layer]
        weights[family.layer] = weight - _between(family.left, weight, family.right)
    return space.join(weights)


def count(families: tuple[FlatFamily, ...], space: ParameterSpace) -> tuple[int, int]:
    """Dimensions of the union of the families in E and in E⊥."""
    on_e = total = 0
    for i, layer in enumerate(space.layers):
        here = tuple(f for f in families if f.layer == i)
        if not here:
            continue
        left = _kept([f.left for f in here if f.left is not None], layer.shape[0])
        right = _kept([f.right for f in here if f.right is not None], layer.shape[1])
        total += layer.dim - round(float(_trace(left, layer.shape[0]) * _trace(right, layer.shape[1])))
        on_e += layer.size() - round(_trace_on_equivariant(layer, left, right))
    return on_e, total - on_e


def _kept(projections: list[Tensor], size: int) -> Tensor | None:
    """Π(I − P), or None for the identity."""
    if not projections:
        return None
    kept = torch.eye(size, dtype=projections[0].dtype, device=projections[0].device)
    for p in projections:
        kept = kept - p @ kept
    return kept


def _trace(kept: Tensor | None, size: int) -> float:
    return float(size) if kept is None else float(kept.trace())


def _trace_on_equivariant(layer: Layer, left: Tensor | None, right: Tensor | None, batch: int = 64) -> float:
    """Trace of W ↦ left W right on Hom_G(source, target): Σ_k ⟨E_k, left E_k right⟩."""
    like = left if left is not None else right
    size, total = layer.size(), 0.0
    if like is None:
        return float(size)
    for start in range(0, size, batch):
        unit = torch.zeros(min(batch, size - start), size, dtype=like.dtype, device=like.device)
        unit[torch.arange(len(unit)), torch.arange(start, start + len(unit))] = 1.0
        basis = layer.embed(unit).squeeze(-3)
        total += float((basis * _between(left, basis, right)).sum())
    return total


def verify(
    families: tuple[FlatFamily, ...],
    operator: Operator,
    space: ParameterSpace,
    weight_decay: float,
    scale: float,
    seed: int,
) -> tuple[tuple[FlatFamily, ...], tuple[FlatDirections, ...]]:
    """Keep the families that measure as flat for an operator on L and list them by space.

    Args:
        families: the candidates.
        operator: a Hessian on L at a point of E.
        space: L with its action.
        weight_decay: μ, the eigenvalue expected.
        scale: ‖H‖; a residual below 1e-10 of it counts as flat.
        seed: of the random members tried.
    """
    generator = torch.Generator().manual_seed(seed)
    kept, listed = [], []
    for family in families:
        projection = family.left if family.left is not None else family.right
        v = torch.randn(space.dim, generator=generator, dtype=torch.float64).to(projection)
        n = member(family, space, v)
        residual = float((operator(n) - weight_decay * n).norm() / n.norm())
        if residual <= 1e-10 * scale:
            kept.append(family)
            on_e, on_perp = count((family,), space)
            listed += [
                FlatDirections(family.name, name, number, residual)
                for name, number in (("E", on_e), ("E_perp", on_perp))
                if number
            ]
    return tuple(kept), tuple(listed)


def verify_exchanges(
    rows: Tensor,
    families: tuple[FlatFamily, ...],
    operator: Operator,
    space: ParameterSpace,
    weight_decay: float,
    scale: float,
) -> tuple[Tensor, tuple[FlatDirections, ...]]:
    """An orthonormal basis of the exchanges that measure as null, less what the families hold, and its listing.

    Args:
        rows: candidates (k, dim L), G-invariant as a set.
        families: verified families; without weight decay they are null too and must not be counted twice.
        operator: the Hessian whose gradient vanishes at the point, on L.
        scale: ‖H‖; a residual below 1e-9 of it counts as null.
    """
    rows = rows[rows.norm(dim=1) > 0]
    if weight_decay == 0 and len(rows):
        rows = complement(families, space, rows)
        rows = rows[rows.norm(dim=1) > 1e-8]
    if len(rows):
        rows = rows / rows.norm(dim=1, keepdim=True)
        residuals = operator(rows).norm(dim=1)
        rows, residuals = rows[residuals <= 1e-9 * scale], residuals[residuals <= 1e-9 * scale]
    if not len(rows):
        return rows, ()
    values, vectors = torch.linalg.eigh(rows @ rows.mT)
    keep = values > 1e-10 * values[-1]
    basis = (vectors[:, keep] / values[keep].sqrt()).mT @ rows
    on_e = round(float(space.project(basis).square().sum()))
    residual = float(residuals.max())
    counts = (("E", on_e), ("E_perp", len(basis) - on_e))
    return basis, tuple(FlatDirections("exchange between layers", name, n, residual) for name, n in counts if n)
