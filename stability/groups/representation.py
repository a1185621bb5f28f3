"""Orthogonal representations as values that compose.

A representation ρ of G on Rⁿ is asked two things: the matrix ρ(g), and the product ρ(g)x along an axis of a
tensor. Permutation representations answer the second by an index gather. They compose as in emlp:
``a + b`` direct sum, ``3 * a`` three copies, ``a * b`` tensor product, ``a.dual``, ``hom(a, b)``.

Layout: in ``3 * a + 2 * b`` the three copies of a come first, copy by copy, so a flat vector of ``c * a``
reshapes to (c, a.dim).

>>> from stability.groups import Symmetric, hom, permutation, trivial
>>> nodes = permutation(Symmetric(3))
>>> graphs = nodes * nodes
>>> graphs.dim, (4 * graphs + trivial(Symmetric(3))).dim, hom(graphs, nodes).dim
(9, 37, 27)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.linalg import logm
from torch import Tensor

from stability.base.errors import BadInput
from stability.groups.group import Element, Group, Label
from stability.groups.lie import CompactGroup
from stability.groups.products import DirectProduct


class Representation(ABC):
    """An orthogonal representation of ``group`` on R^dim."""

    if TYPE_CHECKING:  # read only, see Group

        @property
        def group(self) -> Group: ...
        @property
        def dim(self) -> int: ...
        @property
        def name(self) -> str: ...
        @property
        def is_permutation(self) -> bool: ...

    @property
    def blocks(self) -> tuple[tuple[int, Representation], ...]:
        """Pairs (number of copies, representation) whose direct sum this is, in the order of the layout."""
        return ((1, self),)

    @abstractmethod
    def matrix(self, g: Element) -> np.ndarray:
        """ρ(g), shape (dim, dim), float64."""

    def index(self, g: Element) -> np.ndarray:
        """p with ρ(g)e_i = e_p[i]; only for permutation representations."""
        raise TypeError(f"{self.name} is no permutation representation")

    def derivative(self, label: Label) -> np.ndarray:
        """dρ(X) = d/dt ρ(exp tX) at t = 0 for a basis element X of the Lie algebra, (dim, dim), skew."""
        # A Lie group moves a finite set of points by its components only.
        return np.zeros((self.dim, self.dim))

    def along(self, letter: Sequence[tuple[Label, float]]) -> np.ndarray:
        """dρ(Σ c X) for pairs (X, c), (dim, dim), skew."""
        return sum((c * self.derivative(x) for x, c in letter), np.zeros((self.dim, self.dim)))

    @property
    def degree(self) -> int:
        """The largest weight, rounded up: an eigenvalue iw of some dρ(X) with |w| = degree; zero for finite groups.

        The matrix coefficients of ρ are integrated exactly by ``group.quadrature(degree)``.
        """
        return _degree(self) if self.group.algebra else 0

    def act(self, g: Element, x: Tensor, axis: int = -1) -> Tensor:
        """ρ(g)x along ``axis``, which has length dim."""
        if self.is_permutation:
            source = np.argsort(self.index(g))
            return x.index_select(axis, torch.as_tensor(source, device=x.device))
        matrix = torch.as_tensor(self.matrix(g), dtype=x.dtype, device=x.device)
        return (x.movedim(axis, -1) @ matrix.mT).movedim(-1, axis)

    @property
    def dual(self) -> Representation:
        """ρ*(g) = ρ(g⁻¹)ᵀ, which for an orthogonal real representation is ρ(g) itself."""
        return self

    def __add__(self, other: Representation) -> Representation:
        _same_group(self, other)
        return DirectSum(_merge(self.blocks + other.blocks))

    def __mul__(self, other: Representation) -> Representation:
        if not isinstance(other, Representation):
            return NotImplemented
        _same_group(self, other)
        return TensorProduct(self, other)

    def __rmul__(self, copies: int) -> Representation:
        if not isinstance(copies, int) or copies < 1:
            raise BadInput(f"{copies!r} copies of {self.name}: give a positive integer")
        if len(self.blocks) == 1:
            ((multiple, base),) = self.blocks
            return DirectSum(((copies * multiple, base),))
        return DirectSum(_merge(self.blocks * copies))

    def __str__(self) -> str:
        return self.name


def _same_group(a: Representation, b: Representation) -> None:
    if a.group != b.group:
        raise BadInput(f"{a.name} represents {a.group.name} but {b.name} represents {b.group.name}; use one group")


def _merge(blocks: tuple[tuple[int, Representation], ...]) -> tuple[tuple[int, Representation], ...]:
    merged: list[tuple[int, Representation]] = []
    for copies, base in blocks:
        if merged and merged[-1][1] == base:
            merged[-1] = (merged[-1][0] + copies, base)
        else:
            merged.append((copies, base))
    return tuple(merged)


@dataclass(frozen=True)
class PermutationRepresentation(Representation):
    """ρ(g)e_i = e_{p_g[i]}.

    Args:
        group: the group.
        dim: number of points permuted.
        image: g ↦ p_g, an integer array of length dim.
        name: what reports print.
    """

    group: Group
    dim: int
    image: Callable[[Element], np.ndarray]
    name: str
    is_permutation = True

    def index(self, g: Element) -> np.ndarray:
        """p_g, (dim): ρ(g)e_i = e_{p_g[i]}."""
        return np.asarray(self.image(g))

    def matrix(self, g: Element) -> np.ndarray:
        """The permutation matrix with a one at (p_g[i], i)."""
        matrix = np.zeros((self.dim, self.dim))
        matrix[self.index(g), np.arange(self.dim)] = 1.0
        return matrix


@dataclass(frozen=True)
class MatrixRepresentation(Representation):
    """ρ(g) given as an orthogonal matrix for every g.

    Where ``image`` has a method ``derivative`` it gives dρ; else dρ is found from ρ near the identity.

    Attributes:
        group: the group.
        dim: side of the matrices.
        image: g ↦ ρ(g), orthogonal, (dim, dim).
        name: what reports print.
    """

    group: Group
    dim: int
    image: Callable[[Element], np.ndarray]
    name: str
    is_permutation = False

    def matrix(self, g: Element) -> np.ndarray:
        """``image(g)``, (dim, dim)."""
        return np.asarray(self.image(g), dtype=float)

    def derivative(self, label: Label) -> np.ndarray:
        """dρ(X), (dim, dim): the image's own, else log ρ(exp tX)/t."""
        known = getattr(self.image, "derivative", None)
        return np.asarray(known(label), dtype=float) if known else _logarithm(self, label)


@lru_cache(maxsize=1024)
def _logarithm(rho: Representation, label: Label) -> np.ndarray:
    """dρ(X) = log ρ(exp tX)/t, t halved until all angles are far from the cut of the logarithm."""
    if not isinstance(rho.group, CompactGroup):
        raise BadInput(f"representation {rho.name}: its derivatives are unknown; build it by from_generators")
    t = 0.5 / rho.group.unit(label)
    while np.abs(rho.matrix(rho.group.exp(label, t)) - np.eye(rho.dim)).max() > 0.5:
        t /= 2
    found = np.real(logm(rho.matrix(rho.group.exp(label, t)))) / t
    return (found - found.T) / 2


@lru_cache(maxsize=1024)
def _degree(rho: Representation) -> int:
    weights = [np.abs(np.linalg.eigvals(rho.along(y))).max(initial=0.0) for y in rho.group.frame]
    return int(np.ceil(max(weights) * (1 - 1e-9) - 1e-9))


@dataclass(frozen=True)
class _Constant:
    """The identity permutation of one point, whatever the element; equal wherever it is made."""

    def __call__(self, g: Element) -> np.ndarray:
        return np.zeros(1, dtype=np.int64)


def trivial(group: Group) -> PermutationRepresentation:
    """The trivial representation on R."""
    return PermutationRepresentation(group, 1, _Constant(), "1")


@dataclass(frozen=True)
class DirectSum(Representation):
    """⊕ copies · base, one block after the other.

    Attributes:
        summands: (copies, base) in the order of the layout.
    """

    summands: tuple[tuple[int, Representation], ...]

    @property
    def blocks(self) -> tuple[tuple[int, Representation], ...]:
        """The summands."""
        return self.summands

    @property
    def group(self) -> Group:
        """The one group that all summands represent."""
        return self.blocks[0][1].group

    @property
    def dim(self) -> int:
        """Σ copies · dim."""
        return sum(copies * base.dim for copies, base in self.blocks)

    @property
    def name(self) -> str:
        """The summands' names joined by +, with their numbers of copies."""
        return " + ".join(base.name if copies == 1 else f"{copies}·{base.name}" for copies, base in self.blocks)

    @property
    def is_permutation(self) -> bool:
        """Whether every summand permutes."""
        return all(base.is_permutation for _, base in self.blocks)

    def index(self, g: Element) -> np.ndarray:
        """The summands' permutations, each copy shifted to its place."""
        offset, parts = 0, []
        for copies, base in self.blocks:
            one = base.index(g)
            parts.append((offset + base.dim * np.arange(copies)[:, None] + one[None, :]).ravel())
            offset += copies * base.dim
        return np.concatenate(parts)

    def matrix(self, g: Element) -> np.ndarray:
        """Block diagonal, one block a copy."""
        return self._block_diagonal(lambda base: base.matrix(g))

    def derivative(self, label: Label) -> np.ndarray:
        """Block diagonal, dρ of one summand a copy."""
        return self._block_diagonal(lambda base: base.derivative(label))

    def _block_diagonal(self, of: Callable[[Representation], np.ndarray]) -> np.ndarray:
        matrix, offset = np.zeros((self.dim, self.dim)), 0
        for copies, base in self.blocks:
            one = of(base)
            for _ in range(copies):
                matrix[offset : offset + base.dim, offset : offset + base.dim] = one
                offset += base.dim
        return matrix

    @property
    def degree(self) -> int:
        """The largest of the summands' degrees."""
        return max(base.degree for _, base in self.blocks)

    def act(self, g: Element, x: Tensor, axis: int = -1) -> Tensor:
        """Summand by summand, so that no matrix of the whole is made."""
        axis = axis % x.ndim
        parts = x.split([copies * base.dim for copies, base in self.blocks], dim=axis)
        moved = [
            base.act(g, part.unflatten(axis, (copies, base.dim)), axis + 1).flatten(axis, axis + 1)
            for part, (copies, base) in zip(parts, self.blocks, strict=True)
        ]
        return moved[0] if len(moved) == 1 else torch.cat(moved, dim=axis)


@dataclass(frozen=True)
class TensorProduct(Representation):
    """ρ_a ⊗ ρ_b on R^{a.dim · b.dim}, the index of a running slowest.

    Attributes:
        a: ρ_a, whose index runs slowest.
        b: ρ_b, of the same group.
    """

    a: Representation
    b: Representation

    @property
    def group(self) -> Group:
        """The group that both factors represent."""
        return self.a.group

    @property
    def dim(self) -> int:
        """a.dim · b.dim."""
        return self.a.dim * self.b.dim

    @property
    def name(self) -> str:
        """The factors' names joined by ⊗."""
        return "⊗".join(f"({r.name})" if isinstance(r, DirectSum) else r.name for r in (self.a, self.b))

    @property
    def is_permutation(self) -> bool:
        """Whether both factors permute."""
        return self.a.is_permutation and self.b.is_permutation

    def index(self, g: Element) -> np.ndarray:
        """(i, j) ↦ (p_a[i], p_b[j]), the index of a running slowest."""
        return (self.a.index(g)[:, None] * self.b.dim + self.b.index(g)[None, :]).ravel()

    def matrix(self, g: Element) -> np.ndarray:
        """ρ_a(g) ⊗ ρ_b(g), the Kronecker product."""
        return np.kron(self.a.matrix(g), self.b.matrix(g))

    def derivative(self, label: Label) -> np.ndarray:
        """dρ_a(X) ⊗ 1 + 1 ⊗ dρ_b(X)."""
        return np.kron(self.a.derivative(label), np.eye(self.b.dim)) + np.kron(
            np.eye(self.a.dim), self.b.derivative(label)
        )

    @property
    def degree(self) -> int:
        """Weights add: the sum of the degrees."""
        return self.a.degree + self.b.degree

    def act(self, g: Element, x: Tensor, axis: int = -1) -> Tensor:
        """One factor after the other, each along its own axis."""
        axis = axis % x.ndim
        y = x.unflatten(axis, (self.a.dim, self.b.dim))
        return self.b.act(g, self.a.act(g, y, axis), axis + 1).flatten(axis, axis + 1)


def hom(source: Representation, target: Representation) -> Representation:
    """Hom(X, Y) for X = source, Y = target: matrices W, row by row, with W ↦ ρ_Y(g) W ρ_X(g)⁻¹ (eq. 8)."""
    return target * source.dual


@dataclass(frozen=True)
class ThroughFactor(Representation):
    """ρ(g) = base(g_i): a representation of a product that only its i-th factor moves.

    Args:
        product: the group.
        factor: i.
        base: a representation of that factor.
    """

    product: DirectProduct
    factor: int
    base: Representation

    @property
    def group(self) -> Group:
        """The product."""
        return self.product

    @property
    def dim(self) -> int:
        """That of the factor's representation."""
        return self.base.dim

    @property
    def name(self) -> str:
        """That of the factor's representation."""
        return self.base.name

    @property
    def is_permutation(self) -> bool:
        """Whether the factor's representation permutes."""
        return self.base.is_permutation

    def index(self, g: Element) -> np.ndarray:
        """That of g_i."""
        return self.base.index(g[self.factor])

    def matrix(self, g: Element) -> np.ndarray:
        """The matrix of g_i."""
        return self.base.matrix(g[self.factor])

    def derivative(self, label: Label) -> np.ndarray:
        """dρ(X) for X of this factor, zero for X of another."""
        factor, x = label
        return self.base.derivative(x) if factor == self.factor else np.zeros((self.dim, self.dim))


def through(product: DirectProduct, factor: int, base: Representation) -> Representation:
    """A factor's representation as one of the product; ``through(G, 0, a) * through(G, 1, b)`` is a ⊗ b.

    Raises:
        BadInput: a representation of another group than that factor.

    >>> from stability.groups import SO3, DirectProduct, Symmetric, harmonics, permutation, through
    >>> G = DirectProduct((SO3(), Symmetric(4)))
    >>> points = through(G, 1, permutation(Symmetric(4))) * through(G, 0, harmonics(SO3(), 1))
    >>> points.dim, points.degree
    (12, 1)
    """
    if not isinstance(product, DirectProduct) or not 0 <= factor < len(product.factors):
        raise BadInput(f"{product.name} has no factor {factor}; give a direct product and the number of a factor")
    if base.group != product.factors[factor]:
        raise BadInput(
            f"{base.name} represents {base.group.name}, but factor {factor} of {product.name} is "
            f"{product.factors[factor].name}; represent that group"
        )
    if base == trivial(base.group):
        return trivial(product)
    if base.blocks == ((1, base),):
        return ThroughFactor(product, factor, base)
    return DirectSum(tuple((copies, through(product, factor, b)) for copies, b in base.blocks))
