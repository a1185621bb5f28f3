"""Admissible layers A_0 + T, their compatibility with the equivariant ones, coordinates that are not orthonormal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from stability.base.errors import BadInput
from stability.base.record import Record
from stability.groups import Element, Group, Representation
from stability.layers import Layer
from stability.problem.space import ParameterSpace
from stability.restricted.parts import (
    Free,
    Part,
    Repeated,
    Spanned,
    Support,
    fixed_part,
    kernels,
    orbits,
    orthonormal,
    representation_of,
)

TOLERANCE = 1e-9
POWER_STEPS = 40


@dataclass(frozen=True, eq=False)
class Piece:
    """A layer, or several read one after the other, with the subspace that their weights may use.

    Attributes:
        layers: in the order in which their weights are read.
        part: the subspace, of all their weights together.
    """

    layers: tuple[Layer, ...]
    part: Part

    @property
    def name(self) -> str:
        """The names of its layers."""
        return " and ".join(layer.name for layer in self.layers)

    @property
    def whole(self) -> bool:
        """Whether it is one free layer."""
        return isinstance(self.part, Free) and len(self.layers) == 1

    @cached_property
    def representation(self) -> Representation:
        """ρ̄ on the weights read row by row, layer after layer."""
        parts = [representation_of(layer) for layer in self.layers]
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
            return Kernel(self.part.part, rho, lambda w: fixed_part(rho, w))
        return Kernel(self.part, self.representation, self.invariant_part)


@dataclass(frozen=True, eq=False)
class Kernel:
    """A part of R^size with the action on it and the projection onto what G fixes.

    Attributes:
        part: the subspace.
        representation: ρ on R^size.
        invariant_part: Π_G of (…, size).
    """

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
        pieces: the layers with their parts, free ones among them; made from the above.

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
        """G, which acts on H."""
        return self.space.group

    @property
    def dim(self) -> int:
        """dim T."""
        return sum(piece.part.dim for piece in self.pieces)

    @cached_property
    def across(self) -> Tensor:
        """The part of A_0 orthogonal to T, (dim H)."""
        offset = torch.zeros(self.space.dim, dtype=torch.float64) if self.offset is None else self.offset.double()
        return offset - self.linear(self.project(offset))

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
        flat: dict[str, Tensor] = {}
        for piece, part in zip(self.pieces, parts, strict=True):
            pairs = zip(piece.layers, part.split([layer.dim for layer in piece.layers], dim=-1), strict=True)
            flat |= {layer.name: w for layer, w in pairs}
        return torch.cat([flat[layer.name] for layer in self.space.layers], dim=-1)

    def split_coordinates(self, c: Tensor) -> tuple[Tensor, ...]:
        """Coordinates (…, dim) piece by piece."""
        return c.split([piece.part.dim for piece in self.pieces], dim=-1)

    def linear(self, c: Tensor) -> Tensor:
        """Bc, the part of ``embed`` without A_0."""
        parts = zip(self.pieces, self.split_coordinates(c), strict=True)
        return self.join([piece.part.embed(x) for piece, x in parts])

    def embed(self, c: Tensor) -> Tensor:
        """A = A_0 + Bc from orthonormal coordinates, (…, dim T) → (…, dim H)."""
        return self.origin.to(c) + self.linear(c)

    def project(self, v: Tensor) -> Tensor:
        """Bᵀv, (…, dim H) → (…, dim T)."""
        return torch.cat([p.part.project(w) for p, w in zip(self.pieces, self.split(v), strict=True)], dim=-1)

    def tangent_part(self, v: Tensor) -> Tensor:
        """Π_{T} v."""
        return self.linear(self.project(v))

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
        tolerance: up to which defect and invariance count as zero.
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
        """Whether exact augmented descent keeps E, and E is not empty."""
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
        labels = orbits(one.representation)
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
    parts: dict[str | tuple[str, ...], Part] = {}
    factors: dict[str, Tensor] = {}
    for layer in space.layers:
        if layer.name in columns:
            basis, factor = orthonormal(columns[layer.name])
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
