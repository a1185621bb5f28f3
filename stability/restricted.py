r"""Layers that are not free: fixed supports, shared weights, fixed parts, as an affine space of admissible layers.

    A ∈ A_0 + T inside H = ⊕ Hom(X_i, X_{i+1}),   H_G the equivariant maps,   E = (A_0 + T) ∩ H_G

(arXiv 2303.13458, version 3 and later). What is said of R^aug on all of H holds on the admissible layers if the
orthogonal projections commute,

    Π_T Π_G = Π_G Π_T,

and G fixes the part of A_0 across T: then Π_T∇R^aug(A) = Π_E∇R(A) on E, so exact augmented descent stays on E and the
stationary points are those of R^eqv. Otherwise Π_T carries an equivariant gradient out of E. :func:`compatibility`
measures the defects; :func:`restrict` gives the problem on T, whose orthonormal coordinates G permutes or turns, so
that spectra, sectors and verdicts are those of any other problem.

A parametrisation c ↦ A_0 + Pc that is not orthonormal descends along PPᵀ∇R. Stationary points and the signs of the
Hessian stay (Sylvester), but E is left unless PPᵀ keeps it as well: :class:`Parametrisation`.

>>> from stability.groups import Cyclic, rotations, trivial
>>> from stability.layers import Layer
>>> from stability.problem import ParameterSpace
>>> taps = rotations(Cyclic(4), 3)  # a 3 × 3 kernel under quarter turns
>>> space = ParameterSpace((Layer("conv", 2 * taps, 5 * trivial(Cyclic(4))),))
>>> cross = torch.tensor([[0, 1, 0], [1, 1, 1], [0, 1, 0]])
>>> skewed = torch.tensor([[1, 1, 0], [1, 0, 1], [0, 1, 0]])
>>> for mask in (cross, skewed):
...     found = compatibility(Admissible(space, {"conv": kernels(space.layers[0], support(mask))}))
...     print(found.compatible, round(found.defect, 3), found.dims)
True 0.0 {'H': 90, 'L': 50, 'H_G': 30, 'E': 20, 'E_perp': 30}
False 0.433 {'H': 90, 'L': 50, 'H_G': 30, 'E': 10, 'E_perp': 40}
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from stability.curvature import Operator, assemble, augmented_hessian_from_data
from stability.eigen import Solution, dense_spectrum
from stability.errors import BadInput
from stability.groups import (
    DirectSum,
    Element,
    Group,
    MatrixRepresentation,
    PermutationRepresentation,
    Representation,
    hom,
    trivial,
)
from stability.layers import Layer
from stability.problem import FlatFamily, Model, ParameterSpace, Problem, Samples
from stability.record import Record

TOLERANCE = 1e-9
# Matrices on a part that is neither a support nor repeated have as many rows.
DENSE_LIMIT = 4096
POWER_STEPS = 40


class Part(ABC):
    """A subspace T of R^size with an orthonormal basis: coordinates c ↦ ``embed(c)``, its adjoint ``project``."""

    size: int
    dim: int

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

    def fixed(self, rho: Representation) -> Tensor:
        """Orthonormal columns (dim, k): a basis of T ∩ (R^size)^G."""
        if self.dim > DENSE_LIMIT:
            raise BadInput(f"{self.describe()}: {self.dim:,} coordinates are too many for a dense basis of E")
        unit = torch.eye(self.dim, dtype=torch.float64)
        matrix = self.project(_invariant_part(rho, self.embed(unit)))
        values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
        return vectors[:, values > 1 - 1e-9]

    def onto_fixed(self, rho: Representation, c: Tensor) -> Tensor:
        """Orthogonal projection of coordinates (…, dim) onto T ∩ (R^size)^G."""
        basis = self.fixed(rho).to(c)
        return (c @ basis) @ basis.mT

    def count_fixed(self, rho: Representation) -> int:
        """Its dimension."""
        return self.fixed(rho).shape[1]


def _invariant_part(rho: Representation, w: Tensor) -> Tensor:
    layer = Layer("", trivial(rho.group), rho)
    return layer.embed(layer.adjoint_embed(w.unflatten(-1, (1, -1, 1)))).flatten(-3)


@dataclass(frozen=True, eq=False)
class _Compressed:
    """g ↦ Bᵀρ(g)B."""

    part: Part
    rho: Representation

    def __call__(self, g: Element) -> np.ndarray:
        unit = torch.eye(self.part.dim, dtype=torch.float64)
        return self.part.project(self.rho.act(g, self.part.embed(unit))).mT.numpy()

    def derivative(self, label: object) -> np.ndarray:
        unit = torch.eye(self.part.dim, dtype=torch.float64)
        matrix = torch.as_tensor(self.rho.derivative(label))
        return self.part.project(self.part.embed(unit) @ matrix.mT).mT.numpy()


@dataclass(frozen=True, eq=False)
class _Moves:
    """g ↦ where a permutation sends the coordinates of a support or a sharing, which it maps to itself."""

    part: Support | Sharing
    rho: Representation

    def __call__(self, g: Element) -> np.ndarray:
        return self.part.moved(self.rho.index(g))


@dataclass(frozen=True, eq=False)
class Free(Part):
    """All of R^size."""

    size: int
    permutes = True

    @property
    def dim(self) -> int:
        return self.size

    def embed(self, c: Tensor) -> Tensor:
        return c

    def project(self, w: Tensor) -> Tensor:
        return w

    def moved(self, index: np.ndarray) -> np.ndarray:
        return index

    def describe(self) -> str:
        return "all weights"

    def onto_fixed(self, rho: Representation, c: Tensor) -> Tensor:
        return _invariant_part(rho, c)

    def count_fixed(self, rho: Representation) -> int:
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
        return len(self.mask)

    @cached_property
    def place(self) -> Tensor:
        return torch.nonzero(self.mask).squeeze(1)

    @property
    def dim(self) -> int:
        return len(self.place)

    def embed(self, c: Tensor) -> Tensor:
        return c.new_zeros(*c.shape[:-1], self.size).index_copy(-1, self.place.to(c.device), c)

    def project(self, w: Tensor) -> Tensor:
        return w.index_select(-1, self.place.to(w.device))

    def moved(self, index: np.ndarray) -> np.ndarray:
        number = np.full(self.size, -1)
        number[self.place.numpy()] = np.arange(self.dim)
        return number[index[self.place.numpy()]]

    def describe(self) -> str:
        return f"a support of {self.dim} in {self.size}"

    def onto_fixed(self, rho: Representation, c: Tensor) -> Tensor:
        if not rho.is_permutation:
            return super().onto_fixed(rho, c)
        return self.project(_invariant_part(rho, self.embed(c * self.complete(rho).to(c))))

    def count_fixed(self, rho: Representation) -> int:
        if not rho.is_permutation:
            return super().count_fixed(rho)
        # The trace of a projection onto orbits: each entry of a complete orbit counts 1/length.
        indicator = self.embed(self.complete(rho).double())
        labels = _orbits(rho)
        return len(torch.unique(labels[indicator > 0]))

    def complete(self, rho: Representation) -> Tensor:
        """(dim) booleans: which weights have their whole orbit inside the support."""
        outside = _invariant_part(rho, (~self.mask).double())
        return (self.project(outside) < 1e-12).clone()


def _orbits(rho: Representation) -> Tensor:
    from stability.groups import intertwiners

    return intertwiners(trivial(rho.group), rho).labels


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
        return len(self._classes[1])

    def embed(self, c: Tensor) -> Tensor:
        number, counts = (part.to(c.device) for part in self._classes)
        values = (c / counts.to(c).sqrt()).index_select(-1, number.clamp_min(0))
        return values * (number >= 0).to(c)

    def project(self, w: Tensor) -> Tensor:
        number, counts = (part.to(w.device) for part in self._classes)
        sums = w.new_zeros(*w.shape[:-1], self.dim)
        sums = sums.index_add(-1, number.clamp_min(0), w * (number >= 0).to(w))
        return sums / counts.to(w).sqrt()

    def describe(self) -> str:
        return f"{self.dim} shared values for {self.size} weights"

    def restricted(self, rho: Representation) -> Representation:
        if not rho.is_permutation:
            return super().restricted(rho)
        return PermutationRepresentation(rho.group, self.dim, _Moves(self, rho), f"{self.describe()} of {rho.name}")

    def moved(self, index: np.ndarray) -> np.ndarray:
        number = self._classes[0].numpy()
        kept = number >= 0
        found = np.empty(self.dim, dtype=np.int64)
        found[number[kept]] = number[index[kept]]
        return found


@dataclass(frozen=True, eq=False)
class Spanned(Part):
    """The span of orthonormal columns (size, dim)."""

    basis: Tensor

    @property
    def size(self) -> int:
        return self.basis.shape[0]

    @property
    def dim(self) -> int:
        return self.basis.shape[1]

    def embed(self, c: Tensor) -> Tensor:
        return c @ self.basis.to(c).mT

    def project(self, w: Tensor) -> Tensor:
        return w @ self.basis.to(w)

    def describe(self) -> str:
        return f"a span of {self.dim} in {self.size}"


@dataclass(frozen=True, eq=False)
class Repeated(Part):
    """The same part for each of ``copies`` consecutive pieces: one kernel's taps for every pair of channels."""

    copies: int
    part: Part

    @property
    def size(self) -> int:
        return self.copies * self.part.size

    @property
    def dim(self) -> int:
        return self.copies * self.part.dim

    def embed(self, c: Tensor) -> Tensor:
        return self.part.embed(c.unflatten(-1, (self.copies, self.part.dim))).flatten(-2)

    def project(self, w: Tensor) -> Tensor:
        return self.part.project(w.unflatten(-1, (self.copies, self.part.size))).flatten(-2)

    def describe(self) -> str:
        return f"{self.copies} × ({self.part.describe()})"

    def one(self, rho: Representation) -> Representation:
        ((copies, base),) = rho.blocks
        if copies != self.copies or base.dim != self.part.size:
            raise BadInput(
                f"{self.describe()}: the layer is {copies} × {base.name} of dimension {base.dim}; repeat a part of "
                "that size so often"
            )
        return base

    def restricted(self, rho: Representation) -> Representation:
        return DirectSum(((self.copies, self.part.restricted(self.one(rho))),))

    def onto_fixed(self, rho: Representation, c: Tensor) -> Tensor:
        one = c.unflatten(-1, (self.copies, self.part.dim))
        return self.part.onto_fixed(self.one(rho), one).flatten(-2)

    def count_fixed(self, rho: Representation) -> int:
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
    return Spanned(_orthonormal(columns)[0])


def _orthonormal(columns: Tensor) -> tuple[Tensor, Tensor]:
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
    rho = _representation(layer)
    if len(rho.blocks) != 1 or rho.blocks[0][1].dim != part.size:
        raise BadInput(
            f"{layer.name}: its weights are {rho.name}, not copies of one kernel of {part.size} taps; give a part of "
            "the whole layer"
        )
    return Repeated(rho.blocks[0][0], part)


def _representation(layer: Layer) -> Representation:
    """ρ̄ on a layer's weights read row by row; a kernel's base repeated where the outputs do not move."""
    one = trivial(layer.source.group)
    if len(layer.target.blocks) == 1 and layer.target.blocks[0][1] == one and len(layer.source.blocks) == 1:
        ((m, _),), ((k, base),) = layer.target.blocks, layer.source.blocks
        return DirectSum(((m * k, base),))
    if layer.source == one or layer.source.blocks == ((1, one),):
        return layer.target
    return hom(layer.source, layer.target)


@dataclass(frozen=True, eq=False)
class Piece:
    """A layer, or several read one after the other, with the subspace that their weights may use."""

    layers: tuple[Layer, ...]
    part: Part

    @property
    def name(self) -> str:
        return " and ".join(layer.name for layer in self.layers)

    @property
    def whole(self) -> bool:
        """Whether it is one free layer."""
        return isinstance(self.part, Free) and len(self.layers) == 1

    @cached_property
    def representation(self) -> Representation:
        """ρ̄ on the weights read row by row, layer after layer."""
        parts = [_representation(layer) for layer in self.layers]
        whole = parts[0]
        for other in parts[1:]:
            whole = whole + other
        return whole

    def invariant_part(self, w: Tensor) -> Tensor:
        """Π_G for the weights (…, size), through the layers' own bases."""
        parts = []
        for layer, x in zip(self.layers, w.split([layer.dim for layer in self.layers], dim=-1), strict=True):
            x = x.unflatten(-1, (1, *layer.shape))
            parts.append(layer.embed(layer.adjoint_embed(x)).flatten(-3))
        return torch.cat(parts, dim=-1)

    def onto_fixed(self, c: Tensor) -> Tensor:
        """Orthogonal projection of coordinates onto the directions of E."""
        return self.invariant_part(c) if self.whole else self.part.onto_fixed(self.representation, c)

    def count_fixed(self) -> int:
        """Their dimension."""
        return self.layers[0].size() if self.whole else self.part.count_fixed(self.representation)

    def single(self) -> Kernel:
        """One kernel of it where all are alike; all of it otherwise."""
        if isinstance(self.part, Repeated):
            rho = self.part.one(self.representation)
            return Kernel(self.part.part, rho, lambda w: _invariant_part(rho, w))
        return Kernel(self.part, self.representation, self.invariant_part)


@dataclass(frozen=True, eq=False)
class Kernel:
    """A part of R^size with the action on it and the projection onto what G fixes."""

    part: Part
    representation: Representation
    invariant_part: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Admissible:
    """The affine space A_0 + T of layers that a network may have.

    Args:
        space: H, all layers.
        parts: for a layer's name its part; for a tuple of names one part of their weights read one after the other
            (weights shared between layers). Layers without a part are free.
        offset: A_0, (dim H); zero by default. Where A_0 is equivariant it is the origin of the coordinates, which
            weight decay pulls to (a residual connection decays to the identity); else only its part across T counts.

    Raises:
        BadInput: unknown or repeated names, parts or an offset of another size.
    """

    space: ParameterSpace
    parts: Mapping[str | tuple[str, ...], Part]
    offset: Tensor | None = None
    pieces: tuple[Piece, ...] = field(init=False)

    def __post_init__(self) -> None:
        names = [layer.name for layer in self.space.layers]
        keys = [(key, (key,) if isinstance(key, str) else tuple(key)) for key in self.parts]
        used = [name for _, key in keys for name in key]
        for name in used:
            if name not in names or used.count(name) > 1:
                what = "is in two parts" if name in names else f"is no layer; there are {', '.join(names)}"
                raise BadInput(f"admissible layers: {name!r} {what}; give each layer at most one part")
        pieces = []
        for layer in self.space.layers:
            owner = next(((key, group) for key, group in keys if layer.name in group), None)
            if owner is None:
                pieces.append(Piece((layer,), Free(layer.dim)))
                continue
            key, group = owner
            if group[0] != layer.name:
                continue
            members = tuple(self.space.layers[names.index(name)] for name in group)
            total = sum(member.dim for member in members)
            if self.parts[key].size != total:
                size = self.parts[key].size
                raise BadInput(f"admissible layers: {' and '.join(group)} have {total} weights, the part has {size}")
            pieces.append(Piece(members, self.parts[key]))
        object.__setattr__(self, "pieces", tuple(pieces))
        if self.offset is not None and self.offset.shape != (self.space.dim,):
            raise BadInput(
                f"admissible layers: the offset has shape {tuple(self.offset.shape)}; give ({self.space.dim},)"
            )

    @property
    def group(self) -> Group:
        return self.space.group

    @property
    def dim(self) -> int:
        """dim T."""
        return sum(piece.part.dim for piece in self.pieces)

    @cached_property
    def across(self) -> Tensor:
        """The part of A_0 orthogonal to T, (dim H)."""
        offset = torch.zeros(self.space.dim, dtype=torch.float64) if self.offset is None else self.offset.double()
        return offset - self._linear(self.project(offset))

    @cached_property
    def origin(self) -> Tensor:
        """Where c = 0 is: A_0 if it is equivariant, else the point of A_0 + T nearest to zero."""
        if self.offset is None:
            return self.across
        offset = self.offset.double()
        moved = float((offset - self.invariant_part(offset)).norm())
        return offset if moved <= TOLERANCE * float(offset.norm()) else self.across

    def split(self, v: Tensor) -> list[Tensor]:
        """(…, dim H) → the weights of every piece, flat."""
        layers = self.space.layers
        weights = v.split([layer.dim for layer in layers], dim=-1)
        flat = {layer.name: w for layer, w in zip(layers, weights, strict=True)}
        return [torch.cat([flat[layer.name] for layer in piece.layers], dim=-1) for piece in self.pieces]

    def join(self, parts: list[Tensor]) -> Tensor:
        """The inverse of ``split``."""
        flat = {}
        for piece, part in zip(self.pieces, parts, strict=True):
            pairs = zip(piece.layers, part.split([layer.dim for layer in piece.layers], dim=-1), strict=True)
            flat |= {layer.name: w for layer, w in pairs}
        return torch.cat([flat[layer.name] for layer in self.space.layers], dim=-1)

    def split_coordinates(self, c: Tensor) -> tuple[Tensor, ...]:
        return c.split([piece.part.dim for piece in self.pieces], dim=-1)

    def _linear(self, c: Tensor) -> Tensor:
        parts = zip(self.pieces, self.split_coordinates(c), strict=True)
        return self.join([piece.part.embed(x) for piece, x in parts])

    def embed(self, c: Tensor) -> Tensor:
        """A = A_0 + Bc from orthonormal coordinates, (…, dim T) → (…, dim H)."""
        return self.origin.to(c) + self._linear(c)

    def project(self, v: Tensor) -> Tensor:
        """Bᵀv, (…, dim H) → (…, dim T)."""
        return torch.cat([p.part.project(w) for p, w in zip(self.pieces, self.split(v), strict=True)], dim=-1)

    def tangent_part(self, v: Tensor) -> Tensor:
        """Π_{T} v."""
        return self._linear(self.project(v))

    def invariant_part(self, v: Tensor) -> Tensor:
        """Π_G v, the equivariant layers nearest to v."""
        return self.join([p.invariant_part(w) for p, w in zip(self.pieces, self.split(v), strict=True)])

    def equivariant_part(self, c: Tensor) -> Tensor:
        """Π_E in coordinates: orthogonal projection onto the direction space T ∩ H_G of E."""
        parts = zip(self.pieces, self.split_coordinates(c), strict=True)
        return torch.cat([p.onto_fixed(x) for p, x in parts], dim=-1)

    @property
    def dim_equivariant(self) -> int:
        """dim E."""
        return sum(piece.count_fixed() for piece in self.pieces)


@dataclass(frozen=True)
class Compatibility(Record):
    """How far admissible and equivariant layers are from being compatible.

    Attributes:
        defect: ‖Π_{T}Π_G − Π_GΠ_{T}‖, at most ½, by power iteration; zero when E is kept by exact augmented descent.
        invariance: max ‖(1 − Π_{T})ρ̄(g)Π_{T}‖ over the generators; zero when G maps T to itself.
        offset: ‖(1 − Π_G)A_0‖/‖A_0‖ for the part of A_0 across T; zero when E is not empty.
        by_piece: the defect of every layer.
        worst: the layer with the largest defect.
        advice: what would mend it.
        dims: of H, A_0 + T, H_G, E and of E⊥ in A_0 + T.
    """

    defect: float
    invariance: float
    offset: float
    by_piece: dict[str, float]
    worst: str
    advice: str
    dims: dict[str, int]
    tolerance: float = TOLERANCE

    @property
    def compatible(self) -> bool:
        return max(self.defect, self.offset) <= self.tolerance

    @property
    def invariant(self) -> bool:
        """Whether G acts on the admissible layers, so that sectors exist."""
        return self.compatible and self.invariance <= self.tolerance

    def __str__(self) -> str:
        words = "compatible" if self.compatible else f"not compatible: {self.advice}"
        return (
            f"‖[Π_T, Π_G]‖ = {self.defect:.2e}, G moves T by {self.invariance:.2e}, offset {self.offset:.2e}; "
            f"dim L {self.dims['L']:,}, E {self.dims['E']:,}: {words}"
        )


def compatibility(admissible: Admissible, seed: int = 0) -> Compatibility:
    """The defects of an admissible space, piece by piece; nothing of dim H² is made."""
    generator = torch.Generator().manual_seed(seed)
    by_piece, invariance = {}, 0.0
    for piece in admissible.pieces:
        by_piece[piece.name] = _commutator_norm(piece, generator)
        invariance = max(invariance, _motion(piece, admissible.group, generator))
    across = admissible.across
    size = float(across.norm())
    offset = float((across - admissible.invariant_part(across)).norm()) / size if size > 0 else 0.0
    worst = max(by_piece, key=by_piece.__getitem__)
    dims = {"H": admissible.space.dim, "L": admissible.dim, "H_G": admissible.space.dim_equivariant}
    dims["E"] = admissible.dim_equivariant
    dims["E_perp"] = dims["L"] - dims["E"]
    defect = by_piece[worst]
    advice = ""
    if defect > TOLERANCE:
        advice = _advice(next(piece for piece in admissible.pieces if piece.name == worst))
    elif offset > TOLERANCE:
        advice = "the fixed weights are not equivariant, so E is empty; fix them at values that G leaves alone"
    return Compatibility(defect, invariance, offset, by_piece, worst, advice, dims)


def _commutator_norm(piece: Piece, generator: torch.Generator) -> float:
    """‖PQ − QP‖ by power iteration; the commutator of two projections is antisymmetric."""
    if isinstance(piece.part, Free):
        return 0.0
    one = piece.single()

    def commutator(w: Tensor) -> Tensor:
        return _onto(one.part, one.invariant_part(w)) - one.invariant_part(_onto(one.part, w))

    v = torch.randn(min(4, one.part.size), one.part.size, generator=generator, dtype=torch.float64)
    return _norm(commutator, lambda w: -commutator(w), v)


def _motion(piece: Piece, group: Group, generator: torch.Generator) -> float:
    """max ‖(1 − P)ρ̄(g)P‖ over the generators."""
    if isinstance(piece.part, Free):
        return 0.0
    one = piece.single()
    part, rho, worst = one.part, one.representation, 0.0
    for g in group.generators:

        def left(c: Tensor, g: Element = g) -> Tensor:
            moved = rho.act(g, part.embed(c))
            return moved - _onto(part, moved)

        def back(w: Tensor, g: Element = g) -> Tensor:
            return part.project(rho.act(group.inverse(g), w - _onto(part, w)))

        c = torch.randn(min(4, part.dim), part.dim, generator=generator, dtype=torch.float64)
        worst = max(worst, _norm(left, back, c))
    return worst


def _onto(part: Part, w: Tensor) -> Tensor:
    return part.embed(part.project(w))


def _norm(apply: Callable[[Tensor], Tensor], adjoint: Callable[[Tensor], Tensor], v: Tensor) -> float:
    """The spectral norm by block power iteration from rows v: a lower bound that random rows make sharp."""
    norm = 0.0
    for _ in range(POWER_STEPS):
        v = torch.linalg.qr(v.mT).Q.mT
        moved = apply(v)
        before, norm = norm, float(torch.linalg.matrix_norm(moved, 2))
        if norm < 1e-13 or abs(norm - before) < 1e-12 * norm:
            break
        v = adjoint(moved)
    return norm


def _advice(piece: Piece) -> str:
    """What is wrong with a piece, and how to mend it."""
    one = piece.single()
    if isinstance(one.part, Support) and one.representation.is_permutation:
        labels = _orbits(one.representation)
        reached = int(torch.isin(labels, labels[one.part.mask]).sum())
        whole = int(one.part.complete(one.representation).sum())
        return (
            f"G moves weights of {piece.name} out of its support of {one.part.dim} in {one.part.size}; take the {whole}"
            f" whose whole orbit lies inside, or all {reached} that G reaches from it"
        )
    return (
        f"Π_G carries weights of {piece.name} ({piece.part.describe()}) out of the admissible space; choose one that G "
        "maps to itself"
    )


@dataclass(frozen=True, eq=False)
class RestrictedModel:
    """The model of a problem with weights A_0 + Bc."""

    whole: Model
    admissible: Admissible
    space: ParameterSpace

    @property
    def input(self) -> Representation:
        return self.whole.input

    @property
    def output(self) -> Representation:
        return self.whole.output

    def predict(self, parameters: Tensor, x: Tensor) -> Tensor:
        return self.whole.predict(self.admissible.embed(parameters), x)

    def predict_equivariant(self, theta: Tensor, x: Tensor) -> Tensor:
        return self.predict(self.space.embed(theta), x)

    def losses(self, prediction: Tensor, y: Tensor) -> Tensor:
        return self.whole.losses(prediction, y)

    def move_target(self, g: Element, y: Tensor) -> Tensor:
        return self.whole.move_target(g, y)


def restrict(problem: Problem, admissible: Admissible, seed: int = 0) -> Problem:
    """The same risk on the admissible space, in orthonormal coordinates of T; E is (A_0 + T) ∩ H_G.

    Weight decay is μ/2‖c‖², from the origin of the coordinates.

    Raises:
        BadInput: an admissible space that is not compatible with the equivariant layers, with the measured defect, the
            layer and how to mend it; or one that G does not map to itself, which has no sectors (see :func:`blocks`).
    """
    if admissible.space is not problem.space and admissible.space != problem.space:
        raise BadInput(f"{problem.name}: the admissible layers are of another space; build them on problem.space")
    found = compatibility(admissible, seed)
    if not found.compatible:
        raise BadInput(
            f"{problem.name}: admissible and equivariant layers are not compatible (‖[Π_T, Π_G]‖ = {found.defect:.2e}, "
            f"offset {found.offset:.2e}, worst in {found.worst}), so augmented training leaves E from its first step, "
            f"whatever the spectrum; {found.advice}"
        )
    if not found.invariant:
        raise BadInput(
            f"{problem.name}: compatible, but G moves the admissible layers by {found.invariance:.2e}, so they have no "
            "sectors; restricted.blocks gives the Hessian on E and on E⊥"
        )
    layers = []
    for piece in admissible.pieces:
        if piece.whole:
            layers.append(piece.layers[0])
        else:
            rho = piece.part.restricted(piece.representation)
            layers.append(Layer(piece.name, trivial(admissible.group), rho))
    space = ParameterSpace(tuple(layers))
    model = None if problem.model is None else RestrictedModel(problem.model, admissible, space)
    dims = found.dims
    words = (
        f"{dims['L']:,} of {dims['H']:,} weights, E {dims['E']:,} of {dims['H_G']:,}; ‖[Π_T, Π_G]‖ = {found.defect:.1e}"
    )
    initial = problem.initial

    def start(seed: int) -> Tensor:
        return space.project(admissible.project(problem.space.embed(initial(seed))))

    held = problem.held
    return replace(
        problem,
        held=held and replace(held, rebuilt=lambda tensors: restrict(held.rebuilt(tensors), admissible, seed)),
        name=f"{problem.name}, restricted",
        space=space,
        loss=lambda c, samples: problem.loss(admissible.embed(c), samples),
        model=model,
        flat=tuple(_families(problem, admissible)),
        exchanges=None,
        initial=None if initial is None else start,
        kink_margin=None if problem.kink_margin is None else (lambda c: problem.kink_margin(admissible.embed(c))),
        facts=(*problem.facts, ("admissible layers", f"{words}; ‖[Π_T, Π_G]‖ = {found.defect:.1e}")),
        activations=max(problem.activations, _activations(problem)),
    )


def _families(problem: Problem, admissible: Admissible) -> Iterator[FlatFamily]:
    """Flat families of layers that stay free."""
    for family in problem.flat:
        layer = problem.space.layers[family.layer]
        for number, piece in enumerate(admissible.pieces):
            if piece.whole and piece.layers[0] is layer:
                yield replace(family, layer=number)


def _activations(problem: Problem) -> int:
    return max(max(layer.shape) for layer in problem.space.layers)


@dataclass(frozen=True)
class Blocks:
    """∇²R^aug on the admissible space at a point of E.

    Attributes:
        E, E_perp: spectra of its diagonal blocks.
        coupling: ‖block between E and E⊥‖/‖whole‖, zero for compatible spaces.
        leak: ‖component of Π_{T}∇R^aug on E⊥‖/‖Π_{T}∇R^aug‖: what drives descent off E, zero likewise.
    """

    E: Solution
    E_perp: Solution
    coupling: float
    leak: float


def restricted_augmented(problem: Problem, admissible: Admissible, c: Tensor) -> Operator:
    """Bᵀ∇²R^aug(A_0 + Bc)B from moved data, and the gradient Bᵀ∇R^aug, whether the spaces are compatible or not."""
    whole = augmented_hessian_from_data(problem, admissible.embed(c))

    def apply(v: Tensor) -> Tensor:
        return admissible.project(whole(admissible._linear(v)))

    return Operator(admissible.dim, apply, "∇²R^aug on L", cost=whole.cost, batch=whole.batch)


def blocks(problem: Problem, admissible: Admissible, c: Tensor, eigenvalues: int = 10) -> Blocks:
    """The dense Hessian of R^aug on T at A_0 + Bc, cut into E and E⊥; no symmetry of T is asked for.

    Raises:
        BadInput: more than 4,096 coordinates.
    """
    if admissible.dim > DENSE_LIMIT:
        raise BadInput(
            f"blocks: {admissible.dim:,} coordinates, more than {DENSE_LIMIT:,}; use restrict and its sectors"
        )
    operator = restricted_augmented(problem, admissible, c)
    matrix = assemble(operator, c)
    projection = admissible.equivariant_part(torch.eye(admissible.dim, dtype=c.dtype, device=c.device))
    values, vectors = torch.linalg.eigh(projection)
    inside, outside = vectors[:, values > 0.5], vectors[:, values <= 0.5]
    slope = moved_gradient(problem, admissible, problem.augmented(), c)
    off = slope - slope @ projection
    cross = inside.mT @ matrix @ outside
    coupling = float(torch.linalg.matrix_norm(cross, 2)) if cross.numel() else 0.0

    def block(basis: Tensor) -> Solution:
        def product(v: Tensor) -> Tensor:
            return operator(v @ basis.mT) @ basis

        return dense_spectrum(basis.mT @ matrix @ basis, product, eigenvalues)

    return Blocks(
        block(inside),
        block(outside),
        coupling / float(torch.linalg.matrix_norm(matrix, 2)),
        float(off.norm() / slope.norm().clamp_min(1e-300)),
    )


@dataclass(frozen=True, eq=False)
class Parametrisation:
    """Coordinates c of an admissible space that need not be orthonormal: A = A_0 + BTc.

    Args:
        admissible: the space with its orthonormal basis B.
        factors: T for pieces by name, (dim, dim), or (dim of one kernel)² for repeated parts; the identity elsewhere.
    """

    admissible: Admissible
    factors: Mapping[str, Tensor]

    def _apply(self, v: Tensor, transposed: bool) -> Tensor:
        parts = []
        for piece, x in zip(self.admissible.pieces, self.admissible.split_coordinates(v), strict=True):
            factor = self.factors.get(piece.name)
            if factor is not None:
                factor = factor.to(x) if transposed else factor.to(x).mT
                x = (x.unflatten(-1, (-1, len(factor))) @ factor).flatten(-2)
            parts.append(x)
        return torch.cat(parts, dim=-1)

    def metric(self, u: Tensor) -> Tensor:
        """TTᵀu: gradient descent in c moves orthonormal coordinates along −TTᵀ∇."""
        return self._apply(self._apply(u, True), False)

    def defect(self, seed: int = 0) -> float:
        """‖(1 − Π_E)TTᵀΠ_E‖/‖TTᵀ‖: zero when descent in these coordinates stays on E."""
        space = self.admissible
        v = torch.randn(4, space.dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        off = top = 0.0
        w = v
        for _ in range(POWER_STEPS):
            v, w = torch.linalg.qr(v.mT).Q.mT, torch.linalg.qr(w.mT).Q.mT
            left = self.metric(space.equivariant_part(v))
            left = left - space.equivariant_part(left)
            off, top = float(torch.linalg.matrix_norm(left, 2)), float(torch.linalg.matrix_norm(self.metric(w), 2))
            if off < 1e-13 * top:
                break
            v, w = space.equivariant_part(self.metric(left)), self.metric(w)
        return off / top


def parametrised(space: ParameterSpace, columns: Mapping[str, Tensor], offset: Tensor | None = None) -> Parametrisation:
    """From P for layers by name, (weights, coordinates), or (taps, coordinates) for all kernels of a convolution.

    Raises:
        BadInput: columns that are linearly dependent or of another length.
    """
    parts, factors = {}, {}
    for layer in space.layers:
        if layer.name in columns:
            basis, factor = _orthonormal(columns[layer.name])
            one = Spanned(basis)
            parts[layer.name] = one if one.size == layer.dim else kernels(layer, one)
            factors[layer.name] = factor
    unknown = set(columns) - {layer.name for layer in space.layers}
    if unknown:
        raise BadInput(f"parametrisation: no layer is called {', '.join(sorted(unknown))}")
    return Parametrisation(Admissible(space, parts, offset), factors)


def identity_offset(space: ParameterSpace, names: Sequence[str]) -> Tensor:
    """A_0 with the identity in the named layers: x ↦ σ(Wx + x), a residual connection.

    Raises:
        BadInput: a layer between different spaces.
    """
    weights = []
    for layer in space.layers:
        weight = torch.zeros(layer.shape, dtype=torch.float64)
        if layer.name in names:
            if layer.source != layer.target:
                raise BadInput(
                    f"{layer.name}: a residual connection needs equal spaces, not {layer.source.name} and "
                    f"{layer.target.name}"
                )
            weight = torch.eye(layer.shape[0], dtype=torch.float64)
        weights.append(weight)
    return space.join(weights)


def moved_gradient(problem: Problem, admissible: Admissible, data: Samples, c: Tensor) -> Tensor:
    """The gradient of Σ_s w_s ℓ_s(A_0 + Bc) + μ/2‖c‖² in c, on given data."""
    at = admissible.embed(c)
    total = torch.zeros_like(at)
    for part in data.chunks(256):
        total = total + torch.func.grad(problem.loss)(at, part)
    return admissible.project(total) + problem.weight_decay * c
