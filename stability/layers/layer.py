r"""Linear layers W ∈ Hom(X, Y) and, for every irrep λ, the G-maps S: V_λ → Hom(X, Y).

The seam of the package. For an irrep λ with partners e_1 … e_d a layer offers

* ``embed(S)``: the dense weights (S e_1, …, S e_d), shape (…, d, rows, columns);
* ``apply(S, x)``: (S e_j) x_j for every partner, without saying how it is computed;
* ``adjoint(x, y)``: the coordinates of S ↦ Σ_j ⟨y_j, (S e_j) x_j⟩.

S is given in coordinates of an orthonormal basis for ⟨S, T⟩ = (1/d) Σ_j ⟨S e_j, T e_j⟩. The trivial irrep *is*
the equivariant layer: d = 1 and S ↦ S e_1 is an isometry onto Hom_G(X, Y). This class is the dense fallback,
right for every group; a faster layer overrides ``apply`` and ``adjoint``, and nothing above can tell.

>>> from stability.groups import Cyclic, images, trivial, torus
>>> pixels = images(torus(3), 3)
>>> layer = Layer("conv", 1 * pixels, 2 * pixels)
>>> layer.shape, layer.size()
((18, 9), 18)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from stability.groups import Element, Irrep, Representation, SectorBasis, sector_basis, trivial_irrep

# How a layer at a point holds a direction, the primal pass and the sums over samples: its own business.
Direction = TypeVar("Direction")
Primal = TypeVar("Primal")
Sums = TypeVar("Sums")
# Inputs that are equal on all samples (graphs: both ends of an edge) are multiplied once where they are this share.
DISTINCT_SHARE = 0.75


@dataclass(frozen=True)
class Layer:
    """Hom(source, target), with ρ̄(g)W = ρ_target(g) W ρ_source(g)⁻¹ (eq. 8).

    Args:
        name: what reports and messages call it.
        source: the representation on the inputs.
        target: the representation on the outputs.
    """

    name: str
    source: Representation
    target: Representation

    convention = (
        "basis elements are orbit indicators divided by the square root of the orbit's length, orbits numbered by "
        "their first (row, column) pair in row-major order; for other than permutation representations, averaged "
        "random matrices made orthonormal, which only this program can number"
    )

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of its weights."""
        return (self.target.dim, self.source.dim)

    @property
    def dim(self) -> int:
        """rows · columns, the number of its weights."""
        return self.target.dim * self.source.dim

    def act(self, g: Element, weight: Tensor) -> Tensor:
        """ρ̄(g)W for W of shape (…, rows, columns)."""
        return self.source.act(g, self.target.act(g, weight, -2), -1)

    def _bases(self, irrep: Irrep | None) -> list[list[SectorBasis]]:
        """Base bases, one for every pair of summands: rows are target blocks, columns source blocks."""
        irrep = irrep or trivial_irrep(self.source.group)
        return [[sector_basis(irrep, b, a) for _, b in self.source.blocks] for _, a in self.target.blocks]

    def size(self, irrep: Irrep | None = None) -> int:
        """dim_R of Hom_G(V_λ, Hom(X, Y)); without an irrep, dim Hom_G(X, Y)."""
        return sum(
            m * k * basis.size
            for (m, _), row in zip(self.target.blocks, self._bases(irrep), strict=True)
            for (k, _), basis in zip(self.source.blocks, row, strict=True)
        )

    def embed(self, coordinates: Tensor, irrep: Irrep | None = None) -> Tensor:
        """(…, size) → (…, d, rows, columns): the dense weights S e_j of every partner."""
        rows, start = [], 0
        for (m, a), bases in zip(self.target.blocks, self._bases(irrep), strict=True):
            row = []
            for (k, b), basis in zip(self.source.blocks, bases, strict=True):
                count = m * k * basis.size
                part = basis.embed(coordinates[..., start : start + count].unflatten(-1, (m, k, basis.size)))
                # (…, m, k, d, rows, columns) → (…, d, m·rows, k·columns)
                part = part.movedim(-3, -5).transpose(-3, -2)
                row.append(part.reshape(*part.shape[:-4], m * a.dim, k * b.dim))
                start += count
            rows.append(row[0] if len(row) == 1 else torch.cat(row, dim=-1))
        return rows[0] if len(rows) == 1 else torch.cat(rows, dim=-2)

    def adjoint_embed(self, weight: Tensor, irrep: Irrep | None = None) -> Tensor:
        """(…, d, rows, columns) → (…, size): the adjoint of ``embed`` for the sum of Frobenius products."""
        parts, top = [], 0
        for (m, a), bases in zip(self.target.blocks, self._bases(irrep), strict=True):
            left = 0
            for (k, b), basis in zip(self.source.blocks, bases, strict=True):
                part = weight[..., top : top + m * a.dim, left : left + k * b.dim]
                part = part.unflatten(-2, (m, a.dim)).unflatten(-1, (k, b.dim))
                # (…, d, m, rows, k, columns) → (…, m, k, d, rows, columns)
                part = part.transpose(-3, -2).movedim(-5, -3)
                parts.append(basis.adjoint_embed(part).flatten(-3))
                left += k * b.dim
            top += m * a.dim
        return torch.cat(parts, dim=-1)

    def apply(self, coordinates: Tensor, x: Tensor, irrep: Irrep | None = None) -> Tensor:
        """(S e_j) x_j: (size), (d, samples, columns) → (d, samples, rows); x may leave out the partner axis."""
        return x @ self.embed(coordinates, irrep).mT

    def adjoint(self, x: Tensor, y: Tensor, irrep: Irrep | None = None) -> Tensor:
        """Coordinates of the gradient of Σ_j ⟨y_j, (S e_j)x_j⟩ in S: (d, samples, ·) twice → (size)."""
        return self.adjoint_embed(y.mT @ x, irrep)

    def at(self, coordinates: Tensor, irrep: Irrep | None) -> LayerAt:
        """The equivariant layer of the coordinates, ready to be perturbed in a sector; in all of L for None."""
        return DenseAt(self, coordinates, irrep)


@dataclass(frozen=True)
class Bound:
    """The primal pass as a layer sees it: inputs, derivatives of the loss, samples in columns.

    Attributes:
        x: the inputs that differ, (distinct, n).
        p: derivatives of the loss in the outputs, (rows, n).
        copies: (columns, distinct) zeros and ones with inputs = copies · x; None where all of them differ.
    """

    x: Tensor
    p: Tensor
    copies: Tensor | None


class Scratch:
    """Memory that is written again and again: fresh pages for tens of megabytes cost as much as the product."""

    def __init__(self) -> None:
        self.flat: Tensor | None = None

    def take(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """An array to be overwritten; it shares its memory with the one taken before."""
        count = math.prod(shape)
        if self.flat is None or len(self.flat) < count:
            self.flat = like.new_empty(count)
        return self.flat[:count].view(shape)


def _pool(weight: Tensor, copies: int) -> tuple[Tensor, Tensor] | None:
    """U (rows, m·r), P (r, c) with A[:, k·c + j] = Σ_i U[:, k·r + i] P[i, j]; None where that saves nothing.

    On E, columns of one channel that the group permutes are equal when the outputs are invariant: A sums first.
    """
    rows, columns = weight.shape
    distinct, index = torch.unique(weight.view(rows * copies, columns // copies), dim=1, return_inverse=True)
    if 4 * distinct.shape[1] > columns // copies:
        return None
    return distinct.reshape(rows, -1), torch.nn.functional.one_hot(index).mT.to(weight.dtype)


class LayerAt(ABC, Generic[Direction, Primal, Sums]):
    """A layer A at a point of E with the maps that its perturbations S in one sector need.

    Tangents are arrays (rows, t, samples) with t = vectors · partners, so every step is one matrix product.

    Args:
        layer: the layer.
        coordinates: of A on E.
        irrep: the sector; None perturbs by any matrix of L (then d = 1).
    """

    def __init__(self, layer: Layer, coordinates: Tensor, irrep: Irrep | None) -> None:
        self.layer, self.irrep = layer, irrep
        self.dim = 1 if irrep is None else irrep.dim
        self.size = layer.dim if irrep is None else layer.size(irrep)
        self.weight = layer.embed(coordinates).squeeze(-3)

    def plain(self, x: Tensor) -> Tensor:
        """Ax for samples (n, columns)."""
        return x @ self.weight.mT

    def plain_transpose(self, y: Tensor) -> Tensor:
        """Aᵀy for samples (n, rows)."""
        return y @ self.weight

    def tangent_layout(self, t: Tensor) -> Tensor:
        """(t, n, rows) or (n, rows) → (rows, t, n)."""
        return (t if t.ndim == 3 else t.unsqueeze(0)).permute(2, 0, 1).contiguous()

    def sample_layout(self, t: Tensor) -> Tensor:
        """The inverse of ``tangent_layout``."""
        return t.permute(1, 2, 0)

    @abstractmethod
    def zeros(self, k: int, like: Tensor) -> Sums | None:
        """Where :meth:`backward` gathers its sums over samples for k vectors; None where nothing can be perturbed."""

    @abstractmethod
    def bind(self, x: Tensor, p: Tensor) -> Primal:
        """What the products need of the primal inputs (n, columns) and of the loss's derivatives (n, rows)."""

    @abstractmethod
    def push(self, s: Tensor) -> Direction | None:
        """The partners of coordinates (k, size), ready to be applied; None where there are none."""

    @abstractmethod
    def forward(self, direction: Direction | None, bound: Primal, tangent: Tensor | None) -> Tensor:
        """ẏ = Aẋ + (S e_j)x, in memory that the next call of this method may overwrite."""

    @abstractmethod
    def backward(
        self,
        direction: Direction | None,
        bound: Primal,
        tangent: Tensor | None,
        cotangent: Tensor,
        gathered: Sums | None,
        need: bool,
    ) -> Tensor | None:
        """ḃ = Aᵀṗ + (S e_j)ᵀp where needed; adds ṗ ⊗ x and p ⊗ ẋ to ``gathered``."""

    @abstractmethod
    def collect(self, k: int, gathered: Sums | None, out: Tensor) -> None:
        """Writes the coordinates (k, size) of what was gathered to ``out``."""


class DenseAt(LayerAt[tuple[Tensor, Tensor], Bound, list[Tensor | None]]):
    """The dense fallback, right for every group: arguments as for :class:`LayerAt`."""

    def __init__(self, layer: Layer, coordinates: Tensor, irrep: Irrep | None) -> None:
        super().__init__(layer, coordinates, irrep)
        self.copies = layer.source.blocks[0][0] if len(layer.source.blocks) == 1 else 1
        self.pool = _pool(self.weight, self.copies)
        self.pushed, self.pulled, self.sums = Scratch(), Scratch(), (Scratch(), Scratch())

    def zeros(self, k: int, like: Tensor) -> list[Tensor | None] | None:
        """Where Σ ṗ ⊗ x (rows · k·d, columns) and Σ p ⊗ ẋ (rows, columns · k·d) are gathered; None stands for zeros.

        The sums lie in memory that the next product overwrites; see ``collect``.
        """
        return [None, None] if self.size else None

    def _gather(self, gathered: list[Tensor | None], side: int, left: Tensor, right: Tensor) -> None:
        """Adds left · right to a sum; the first one is written where the last product's sum was."""
        held = gathered[side]
        if held is None:
            out = self.sums[side].take((len(left), right.shape[1]), left)
            gathered[side] = torch.mm(left, right, out=out)
        else:
            held.addmm_(left, right)

    def bind(self, x: Tensor, p: Tensor) -> Bound:
        distinct, index = torch.unique(x.mT, dim=0, return_inverse=True)
        if len(distinct) > DISTINCT_SHARE * x.shape[1]:
            return Bound(x.mT.contiguous(), p.mT.contiguous(), None)
        return Bound(
            distinct.contiguous(), p.mT.contiguous(), torch.nn.functional.one_hot(index, len(distinct)).to(x.dtype)
        )

    def push(self, s: Tensor) -> tuple[Tensor, Tensor] | None:
        """The dense partners of coordinates (k, size), as (rows · k·d, columns) and (columns · k·d, rows)."""
        if not self.size:
            return None
        dense = (
            s.unflatten(-1, self.layer.shape) if self.irrep is None else self.layer.embed(s, self.irrep).flatten(0, 1)
        )
        rows, columns = self.layer.shape
        return dense.transpose(0, 1).reshape(-1, columns), dense.permute(2, 0, 1).reshape(-1, rows)

    def forward(self, direction: tuple[Tensor, Tensor] | None, bound: Bound, tangent: Tensor | None) -> Tensor:
        rows, samples = self.layer.shape[0], bound.x.shape[1]
        if direction is None:
            if tangent is None:
                raise ValueError(f"{self.layer.name}: neither a direction nor a tangent, so nothing moves")
            weight, moved = self._factors(tangent)
            return (weight @ moved).unflatten(1, tangent.shape[1:])
        left = direction[0] if bound.copies is None else direction[0] @ bound.copies
        pushed = torch.mm(left, bound.x, out=self.pushed.take((len(left), samples), left))
        if tangent is not None:
            pushed.view(rows, -1).addmm_(*self._factors(tangent))
        return pushed.view(rows, -1, samples)

    def _factors(self, tangent: Tensor) -> tuple[Tensor, Tensor]:
        """Two matrices whose product is Aẋ."""
        moved = tangent.flatten(1)
        if self.pool is None:
            return self.weight, moved
        weight, sums = self.pool
        return weight, (sums @ moved.unflatten(0, (self.copies, -1))).flatten(0, 1)

    def backward(
        self,
        direction: tuple[Tensor, Tensor] | None,
        bound: Bound,
        tangent: Tensor | None,
        cotangent: Tensor,
        gathered: list[Tensor | None] | None,
        need: bool,
    ) -> Tensor | None:
        if direction is not None and gathered is not None:
            left, right = cotangent.flatten(0, 1), bound.x.mT
            if bound.copies is not None:
                left, right = left @ right, bound.copies.mT
            self._gather(gathered, 0, left, right)
            if tangent is not None:
                self._gather(gathered, 1, bound.p, tangent.flatten(0, 1).mT)
        if not need:
            return None
        columns, samples, onward = self.layer.shape[1], bound.p.shape[1], cotangent.flatten(1)
        pulled = None
        if direction is not None:
            out = self.pulled.take((len(direction[1]), samples), onward)
            pulled = torch.mm(direction[1], bound.p, out=out).view(columns, -1)
        if self.pool is None:
            pulled = self.weight.mT @ onward if pulled is None else pulled.addmm_(self.weight.mT, onward)
        else:
            weight, sums = self.pool
            spread, groups = sums.mT.expand(self.copies, -1, -1), (weight.mT @ onward).unflatten(0, (self.copies, -1))
            if pulled is None:
                pulled = torch.bmm(spread, groups)
            else:
                pulled.unflatten(0, (self.copies, -1)).baddbmm_(spread, groups)
        return pulled.reshape(columns, -1, samples)

    def collect(self, k: int, gathered: list[Tensor | None] | None, out: Tensor) -> None:
        if gathered is None:
            return
        first, second = gathered
        if first is None:  # no samples
            out.zero_()
            return
        rows, columns = self.layer.shape
        total = first.view(rows, -1, columns).transpose(0, 1)
        whole = out.unflatten(1, self.layer.shape) if self.irrep is None else None
        if second is None:
            total = total if whole is None else whole.copy_(total)
        else:
            total = torch.add(total, second.view(rows, columns, -1).permute(2, 0, 1), out=whole)
        if whole is None:
            out.copy_(self.layer.adjoint_embed(total.unflatten(0, (k, self.dim)), self.irrep))
