"""Subspaces of the weights of a layer with orthonormal bases: supports, shared values, spans, repeated kernels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from stability.base.errors import BadInput
from stability.groups import (
    DirectSum,
    Element,
    MatrixRepresentation,
    PermutationRepresentation,
    Representation,
    hom,
    trivial,
)
from stability.groups.intertwiners import orbit_basis
from stability.layers import Layer

# Matrices on a part that is neither a support nor repeated have as many rows.
DENSE_LIMIT = 4096


class Part(ABC):
    """A subspace T of R^size with an orthonormal basis: coordinates c ↦ ``embed(c)``, its adjoint ``project``."""

    if TYPE_CHECKING:  # read only, see stability.groups.Group

        @property
        def size(self) -> int: ...
        @property
        def dim(self) -> int: ...

    @abstractmethod
    def embed(self, c: Tensor) -> Tensor:
        """The isometry (…, dim) → (…, size)."""

    @abstractmethod
    def project(self, w: Tensor) -> Tensor:
        """Its adjoint, (…, size) → (…, dim)."""

    @abstractmethod
    def describe(self) -> str:
        """What reports print."""

    def restricted(self, rho: Representation) -> Representation:
        """ρ on T, in its coordinates, for a representation on R^size; of use only where ρ(g)T = T."""
        form = _Compressed(self, rho)
        if rho.is_permutation and self.permutes:
            return PermutationRepresentation(rho.group, self.dim, _Moves(self, rho), f"{self.describe()} of {rho.name}")
        if self.dim > DENSE_LIMIT:
            raise BadInput(
                f"{self.describe()}: G turns {self.dim:,} coordinates among each other, more than {DENSE_LIMIT:,}; "
                "restrict the layers one by one, or kernel by kernel"
            )
        return MatrixRepresentation(rho.group, self.dim, form, f"{self.describe()} of {rho.name}")

    permutes = False

    def moved(self, index: np.ndarray) -> np.ndarray:
        """Where a permutation of R^size, e_i ↦ e_index[i], sends the coordinates, if it permutes them."""
        raise TypeError(f"{self.describe()}: permutations do not permute its coordinates")

    def fixed(self, rho: Representation) -> Tensor:
        """Orthonormal columns (dim, k): a basis of T ∩ (R^size)^G."""
        if self.dim > DENSE_LIMIT:
            raise BadInput(f"{self.describe()}: {self.dim:,} coordinates are too many for a dense basis of E")
        unit = torch.eye(self.dim, dtype=torch.float64)
        matrix = self.project(fixed_part(rho, self.embed(unit)))
        values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
        return vectors[:, values > 1 - 1e-9]

    def onto_fixed(self, rho: Representation, c: Tensor) -> Tensor:
        """Orthogonal projection of coordinates (…, dim) onto T ∩ (R^size)^G."""
        basis = self.fixed(rho).to(c)
        return (c @ basis) @ basis.mT

    def count_fixed(self, rho: Representation) -> int:
        """Its dimension."""
        return self.fixed(rho).shape[1]


def fixed_part(rho: Representation, w: Tensor) -> Tensor:
    """Π_G w, the projection of (…, size) onto what G fixes."""
    layer = Layer("", trivial(rho.group), rho)
    return layer.embed(layer.adjoint_embed(w.unflatten(-1, (1, -1, 1)))).flatten(-3)


@dataclass(frozen=True, eq=False)
class _Compressed:
    """g ↦ Bᵀρ(g)B.

    Attributes:
        part: T, with basis B.
        rho: ρ on R^size.
    """

    part: Part
    rho: Representation

    def __call__(self, g: Element) -> np.ndarray:
        unit = torch.eye(self.part.dim, dtype=torch.float64)
        return self.part.project(self.rho.act(g, self.part.embed(unit))).mT.numpy()

    def derivative(self, label: object) -> np.ndarray:
        """Bᵀ dρ(X) B."""
        unit = torch.eye(self.part.dim, dtype=torch.float64)
        matrix = torch.as_tensor(self.rho.derivative(label))
        return self.part.project(self.part.embed(unit) @ matrix.mT).mT.numpy()


@dataclass(frozen=True, eq=False)
class _Moves:
    """g ↦ where a permutation sends the coordinates of a support or a sharing, which it maps to itself.

    Attributes:
        part: T.
        rho: ρ on R^size, by permutations.
    """

    part: Part
    rho: Representation

    def __call__(self, g: Element) -> np.ndarray:
        return self.part.moved(self.rho.index(g))


@dataclass(frozen=True, eq=False)
class Free(Part):
    """All of R^size.

    Attributes:
        size: the number of weights.
    """

    size: int
    permutes = True

    @property
    def dim(self) -> int:
        """All of them, size."""
        return self.size

    def embed(self, c: Tensor) -> Tensor:
        """The identity."""
        return c

    def project(self, w: Tensor) -> Tensor:
        """The identity."""
        return w

    def moved(self, index: np.ndarray) -> np.ndarray:
        """Every weight goes where G sends it."""
        return index

    def describe(self) -> str:
        """ "all weights"."""
        return "all weights"

    def onto_fixed(self, rho: Representation, c: Tensor) -> Tensor:
        """Π_G c."""
        return fixed_part(rho, c)

    def count_fixed(self, rho: Representation) -> int:
        """dim (R^size)^G."""
        return Layer("", trivial(rho.group), rho).size()


@dataclass(frozen=True, eq=False)
class Support(Part):
    """The weights where a mask is true; the others stay as A_0 has them.

    Args:
        mask: (size) booleans.
    """

    mask: Tensor
    permutes = True

    @property
    def size(self) -> int:
        """Weights of the layer, inside the support or not."""
        return len(self.mask)

    @cached_property
    def place(self) -> Tensor:
        """(dim), the weights inside."""
        return torch.nonzero(self.mask).squeeze(1)

    @property
    def dim(self) -> int:
        """How many lie inside."""
        return len(self.place)

    def embed(self, c: Tensor) -> Tensor:
        """Coordinates at their places, zeros elsewhere."""
        return c.new_zeros(*c.shape[:-1], self.size).index_copy(-1, self.place.to(c.device), c)

    def project(self, w: Tensor) -> Tensor:
        """The weights inside."""
        return w.index_select(-1, self.place.to(w.device))

    def moved(self, index: np.ndarray) -> np.ndarray:
        """Where a permutation that maps the support to itself sends its coordinates, (dim)."""
        number = np.full(self.size, -1)
        number[self.place.numpy()] = np.arange(self.dim)
        return number[index[self.place.numpy()]]

    def describe(self) -> str:
        """How many weights of how many."""
        return f"a support of {self.dim} in {self.size}"

    def onto_fixed(self, rho: Representation, c: Tensor) -> Tensor:
        """Orbits that lie inside are averaged, others set to zero, for permutations; else by a dense basis."""
        if not rho.is_permutation:
            return super().onto_fixed(rho, c)
        return self.project(fixed_part(rho, self.embed(c * self.complete(rho).to(c))))

    def count_fixed(self, rho: Representation) -> int:
        """The number of orbits that lie inside, for permutations; else by a dense basis."""
        if not rho.is_permutation:
            return super().count_fixed(rho)
        # The trace of a projection onto orbits: each entry of a complete orbit counts 1/length.
        indicator = self.embed(self.complete(rho).double())
        labels = orbits(rho)
        return len(torch.unique(labels[indicator > 0]))

    def complete(self, rho: Representation) -> Tensor:
        """(dim) booleans: which weights have their whole orbit inside the support."""
        outside = fixed_part(rho, (~self.mask).double())
        return (self.project(outside) < 1e-12).clone()


def orbits(rho: Representation) -> Tensor:
    """The number of the orbit of every coordinate of a permutation representation."""
    return orbit_basis(trivial(rho.group), rho).labels


@dataclass(frozen=True, eq=False)
class Sharing(Part):
    """Weights with equal labels are equal; those with a negative label stay as A_0 has them.

    A coordinate is the common value times √(how many share it), so that the basis is orthonormal.

    Args:
        labels: (size) integers.
    """

    labels: Tensor

    @property
    def size(self) -> int:
        """Weights of the layer, shared or held."""
        return len(self.labels)

    @cached_property
    def _classes(self) -> tuple[Tensor, Tensor]:
        """(size) number of the class, −1 outside; (dim) how many share it."""
        held = self.labels < 0
        _, numbers = torch.unique(self.labels[~held], return_inverse=True)
        number = torch.full((self.size,), -1)
        number[~held] = numbers
        return number, torch.bincount(numbers)

    @property
    def dim(self) -> int:
        """The number of different labels that are not negative."""
        return len(self._classes[1])

    def embed(self, c: Tensor) -> Tensor:
        """Each weight its label's coordinate over √(how many share it); zero where held."""
        number, counts = (part.to(c.device) for part in self._classes)
        values = (c / counts.to(c).sqrt()).index_select(-1, number.clamp_min(0))
        return values * (number >= 0).to(c)

    def project(self, w: Tensor) -> Tensor:
        """Sums over equal labels, over √(how many share it)."""
        number, counts = (part.to(w.device) for part in self._classes)
        sums = w.new_zeros(*w.shape[:-1], self.dim)
        sums = sums.index_add(-1, number.clamp_min(0), w * (number >= 0).to(w))
        return sums / counts.to(w).sqrt()

    def describe(self) -> str:
        """How many values for how many weights."""
        return f"{self.dim} shared values for {self.size} weights"

    def restricted(self, rho: Representation) -> Representation:
        """A permutation of the values, where ρ permutes weights; see :class:`Part`."""
        if not rho.is_permutation:
            return super().restricted(rho)
        return PermutationRepresentation(rho.group, self.dim, _Moves(self, rho), f"{self.describe()} of {rho.name}")

    def moved(self, index: np.ndarray) -> np.ndarray:
        """Where a permutation that maps labels to labels sends the values, (dim)."""
        number = self._classes[0].numpy()
        kept = number >= 0
        found = np.empty(self.dim, dtype=np.int64)
        found[number[kept]] = number[index[kept]]
        return found


@dataclass(frozen=True, eq=False)
class Spanned(Part):
    """The span of orthonormal columns (size, dim).

    Attributes:
        basis: B, orthonormal columns, (size, dim).
    """

    basis: Tensor

    @property
    def size(self) -> int:
        """Weights of the layer, rows of the basis."""
        return self.basis.shape[0]

    @property
    def dim(self) -> int:
        """Columns of the basis."""
        return self.basis.shape[1]

    def embed(self, c: Tensor) -> Tensor:
        """Bc."""
        return c @ self.basis.to(c).mT

    def project(self, w: Tensor) -> Tensor:
        """Bᵀw."""
        return w @ self.basis.to(w)

    def describe(self) -> str:
        """The dimension of the span and of what it lies in."""
        return f"a span of {self.dim} in {self.size}"


@dataclass(frozen=True, eq=False)
class Repeated(Part):
    """The same part for each of ``copies`` consecutive pieces: one kernel's taps for every pair of channels.

    Attributes:
        copies: how many pieces.
        part: of one piece.
    """

    copies: int
    part: Part

    @property
    def size(self) -> int:
        """copies · size of the part."""
        return self.copies * self.part.size

    @property
    def dim(self) -> int:
        """copies · dim of the part."""
        return self.copies * self.part.dim

    def embed(self, c: Tensor) -> Tensor:
        """The part's, copy by copy."""
        return self.part.embed(c.unflatten(-1, (self.copies, self.part.dim))).flatten(-2)

    def project(self, w: Tensor) -> Tensor:
        """The part's, copy by copy."""
        return self.part.project(w.unflatten(-1, (self.copies, self.part.size))).flatten(-2)

    def describe(self) -> str:
        """How many copies of what."""
        return f"{self.copies} × ({self.part.describe()})"

    def one(self, rho: Representation) -> Representation:
        """The representation on one copy; BadInput where the layer is not so many copies of that size."""
        ((copies, base),) = rho.blocks
        if copies != self.copies or base.dim != self.part.size:
            raise BadInput(
                f"{self.describe()}: the layer is {copies} × {base.name} of dimension {base.dim}; repeat a part of "
                "that size so often"
            )
        return base

    def restricted(self, rho: Representation) -> Representation:
        """As many copies of the part's."""
        return DirectSum(((self.copies, self.part.restricted(self.one(rho))),))

    def onto_fixed(self, rho: Representation, c: Tensor) -> Tensor:
        """The part's, copy by copy."""
        one = c.unflatten(-1, (self.copies, self.part.dim))
        return self.part.onto_fixed(self.one(rho), one).flatten(-2)

    def count_fixed(self, rho: Representation) -> int:
        """copies · the part's."""
        return self.copies * self.part.count_fixed(self.one(rho))


def support(mask: Tensor) -> Part:
    """The weights where ``mask`` (any shape, read row by row) is not zero.

    Raises:
        BadInput: nothing left.
    """
    flat = torch.as_tensor(mask).flatten() != 0
    if not flat.any():
        raise BadInput("support: the mask is zero everywhere; leave at least one weight")
    return Support(flat)


def sharing(labels: Tensor) -> Part:
    """Weights with equal labels (integers of any shape, read row by row) share a value; negative labels stay fixed.

    Raises:
        BadInput: labels that are no integers, or all negative.
    """
    flat = torch.as_tensor(labels).flatten()
    if flat.is_floating_point() or flat.dtype == torch.bool or not (flat >= 0).any():
        raise BadInput("sharing: give integer labels, at least one of them not negative")
    return Sharing(flat)


def spanned(columns: Tensor) -> Part:
    """The span of any linearly independent columns (size, dim), made orthonormal.

    Raises:
        BadInput: columns that are not finite or linearly dependent.
    """
    return Spanned(orthonormal(columns)[0])


def orthonormal(columns: Tensor) -> tuple[Tensor, Tensor]:
    """P = BT with orthonormal B, (size, dim) and (dim, dim)."""
    matrix = torch.as_tensor(columns).double()
    if matrix.ndim != 2 or not torch.isfinite(matrix).all():
        raise BadInput(f"basis: give finite columns of shape (weights, coordinates), not {tuple(matrix.shape)}")
    basis, factor = torch.linalg.qr(matrix)
    least = float(factor.diagonal().abs().min()) if matrix.shape[1] else 1.0
    if matrix.shape[1] > matrix.shape[0] or least < 1e-10 * float(matrix.norm()):
        raise BadInput("basis: its columns are linearly dependent; drop those that the others span")
    return basis, factor


def kernels(layer: Layer, part: Part) -> Part:
    """The same part of R^taps for every pair of channels of a convolution whose weights are (channels, taps).

    Raises:
        BadInput: taps that do not divide the layer's weights into whole kernels.
    """
    rho = representation_of(layer)
    if len(rho.blocks) != 1 or rho.blocks[0][1].dim != part.size:
        raise BadInput(
            f"{layer.name}: its weights are {rho.name}, not copies of one kernel of {part.size} taps; give a part of "
            "the whole layer"
        )
    return Repeated(rho.blocks[0][0], part)


def representation_of(layer: Layer) -> Representation:
    """ρ̄ on a layer's weights read row by row; a kernel's base repeated where the outputs do not move."""
    one = trivial(layer.source.group)
    if len(layer.target.blocks) == 1 and layer.target.blocks[0][1] == one and len(layer.source.blocks) == 1:
        ((m, _),), ((k, base),) = layer.target.blocks, layer.source.blocks
        return DirectSum(((m * k, base),))
    if layer.source == one or layer.source.blocks == ((1, one),):
        return layer.target
    return hom(layer.source, layer.target)
