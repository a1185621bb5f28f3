"""The parameter space L with its group action, and the samples of a risk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from stability.base.errors import BadInput
from stability.groups import Element, Group
from stability.layers import Layer


class Samples(NamedTuple):
    """Inputs (n, dim X), targets (n, …) and weights (n), which sum to one over the whole data set.

    Attributes:
        x: inputs, (n, dim X).
        y: targets, (n, …).
        weight: (n).
    """

    x: Tensor
    y: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return self.x.shape[0]

    def chunks(self, size: int) -> Iterator[Samples]:
        """Consecutive pieces of at most ``size`` samples; their losses add up."""
        for start in range(0, self.x.shape[0], size):
            yield Samples(*(part[start : start + size] for part in self))


@dataclass(frozen=True)
class ParameterSpace:
    """L = ⊕ Hom(X_i, X_{i+1}) with its group action and the equivariant subspace E.

    Args:
        layers: in the order of the flat vector.
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not self.layers:
            raise BadInput("parameter space: no layers; give at least one")
        for layer in self.layers:
            if not layer.dim:
                rows, columns = layer.shape
                raise BadInput(f"{layer.name} has no weights ({rows} × {columns}); leave out a space of dimension zero")
        if any(layer.source.group != self.group or layer.target.group != self.group for layer in self.layers):
            raise BadInput(f"parameter space: the layers represent different groups; all must be of {self.group.name}")

    @property
    def group(self) -> Group:
        """G, which all layers represent."""
        return self.layers[0].source.group

    @property
    def dim(self) -> int:
        """dim L."""
        return sum(layer.dim for layer in self.layers)

    @property
    def sizes(self) -> tuple[int, ...]:
        """dim Hom_G(X_i, X_{i+1}) layer by layer."""
        return tuple(layer.size() for layer in self.layers)

    @property
    def dim_equivariant(self) -> int:
        """dim E."""
        return sum(self.sizes)

    @property
    def degree(self) -> int:
        """The largest weight of ρ̄ (see :meth:`Representation.degree`); zero for finite groups."""
        return max(layer.source.degree + layer.target.degree for layer in self.layers)

    def split(self, v: Tensor) -> tuple[Tensor, ...]:
        """(…, dim L) → one (…, rows, columns) for each layer."""
        parts = v.split([layer.dim for layer in self.layers], dim=-1)
        return tuple(part.unflatten(-1, layer.shape) for part, layer in zip(parts, self.layers, strict=True))

    def join(self, weights: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
        """The inverse of ``split``."""
        return torch.cat([w.flatten(-2) for w in weights], dim=-1)

    def split_coordinates(self, theta: Tensor) -> tuple[Tensor, ...]:
        """(…, dim E) → one (…, size) for each layer."""
        return theta.split(list(self.sizes), dim=-1)

    def act(self, g: Element, v: Tensor) -> Tensor:
        """ρ̄(g)v, (…, dim L)."""
        return self.join([layer.act(g, w) for layer, w in zip(self.layers, self.split(v), strict=True)])

    def embed(self, theta: Tensor) -> Tensor:
        """The isometry (…, dim E) → (…, dim L) onto E."""
        parts = zip(self.layers, self.split_coordinates(theta), strict=True)
        return self.join([layer.embed(t).squeeze(-3) for layer, t in parts])

    def project(self, v: Tensor) -> Tensor:
        """Its adjoint, (…, dim L) → (…, dim E): coordinates of the orthogonal projection."""
        parts = zip(self.layers, self.split(v), strict=True)
        return torch.cat([layer.adjoint_embed(w.unsqueeze(-3)) for layer, w in parts], dim=-1)

    def equivariant_part(self, v: Tensor) -> Tensor:
        """Π_E v = ∫ ρ̄(g)v dμ(g) (Lemma 2), without the integral."""
        return self.embed(self.project(v))

    def transverse_part(self, v: Tensor) -> Tensor:
        """v − Π_E v, the component on E⊥."""
        return v - self.equivariant_part(v)
