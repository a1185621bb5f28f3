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
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.groups import Element, IntertwinerBasis, Irrep, Representation, intertwiners


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

    @property
    def shape(self) -> tuple[int, int]:
        return (self.target.dim, self.source.dim)

    @property
    def dim(self) -> int:
        return self.target.dim * self.source.dim

    def act(self, g: Element, weight: Tensor) -> Tensor:
        """ρ̄(g)W for W of shape (…, rows, columns)."""
        return self.source.act(g, self.target.act(g, weight, -2), -1)

    def _bases(self, irrep: Irrep | None) -> list[list[IntertwinerBasis]]:
        """Base bases, one for every pair of summands: rows are target blocks, columns source blocks."""
        if irrep is None or irrep.is_trivial:
            return [[intertwiners(b, a) for _, b in self.source.blocks] for _, a in self.target.blocks]
        extra = irrep.representation
        return [[intertwiners(extra * b, a) for _, b in self.source.blocks] for _, a in self.target.blocks]

    def size(self, irrep: Irrep | None = None) -> int:
        """dim_R of Hom_G(V_λ, Hom(X, Y)); without an irrep, dim Hom_G(X, Y)."""
        return sum(
            m * k * basis.size
            for (m, _), row in zip(self.target.blocks, self._bases(irrep), strict=True)
            for (k, _), basis in zip(self.source.blocks, row, strict=True)
        )

    def embed(self, coordinates: Tensor, irrep: Irrep | None = None) -> Tensor:
        """(…, size) → (…, d, rows, columns): the dense weights S e_j of every partner."""
        d = irrep.dim if irrep else 1
        rows, start = [], 0
        for (m, a), bases in zip(self.target.blocks, self._bases(irrep), strict=True):
            row = []
            for (k, b), basis in zip(self.source.blocks, bases, strict=True):
                count = m * k * basis.size
                part = basis.embed(coordinates[..., start : start + count].unflatten(-1, (m, k, basis.size)))
                # (…, m, k, rows, d·columns) → (…, d, m·rows, k·columns)
                part = part.unflatten(-1, (d, b.dim)).movedim(-2, -5).transpose(-3, -2)
                row.append(part.reshape(*part.shape[:-4], m * a.dim, k * b.dim))
                start += count
            rows.append(row[0] if len(row) == 1 else torch.cat(row, dim=-1))
        dense = rows[0] if len(rows) == 1 else torch.cat(rows, dim=-2)
        return dense if d == 1 else math.sqrt(d) * dense

    def adjoint_embed(self, weight: Tensor, irrep: Irrep | None = None) -> Tensor:
        """(…, d, rows, columns) → (…, size): the adjoint of ``embed`` for the sum of Frobenius products."""
        d = irrep.dim if irrep else 1
        parts, top = [], 0
        for (m, a), bases in zip(self.target.blocks, self._bases(irrep), strict=True):
            left = 0
            for (k, b), basis in zip(self.source.blocks, bases, strict=True):
                part = weight[..., top : top + m * a.dim, left : left + k * b.dim]
                part = part.unflatten(-2, (m, a.dim)).unflatten(-1, (k, b.dim))
                # (…, d, m, rows, k, columns) → (…, m, k, rows, d·columns)
                part = part.transpose(-3, -2).movedim(-5, -2).flatten(-2)
                parts.append(basis.project(part).flatten(-3))
                left += k * b.dim
            top += m * a.dim
        coordinates = torch.cat(parts, dim=-1)
        return coordinates if d == 1 else math.sqrt(d) * coordinates

    def apply(self, coordinates: Tensor, x: Tensor, irrep: Irrep | None = None) -> Tensor:
        """(S e_j) x_j: (size), (d, samples, columns) → (d, samples, rows); x may leave out the partner axis."""
        return x @ self.embed(coordinates, irrep).mT

    def adjoint(self, x: Tensor, y: Tensor, irrep: Irrep | None = None) -> Tensor:
        """Coordinates of the gradient of Σ_j ⟨y_j, (S e_j)x_j⟩ in S: (d, samples, ·) twice → (size)."""
        return self.adjoint_embed(y.mT @ x, irrep)
