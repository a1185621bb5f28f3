r"""Orthogonal representations as values that compose.

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

import numpy as np
import torch
from torch import Tensor

from stability.errors import BadInput
from stability.groups.group import (
    Cyclic,
    Dihedral,
    DirectProduct,
    Element,
    Group,
    MatrixGroup,
    PermutationGroup,
    Symmetric,
    roto_translations,
)


class Representation(ABC):
    """An orthogonal representation of ``group`` on R^dim."""

    group: Group
    dim: int
    name: str
    is_permutation: bool

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
        return np.asarray(self.image(g))

    def matrix(self, g: Element) -> np.ndarray:
        matrix = np.zeros((self.dim, self.dim))
        matrix[self.index(g), np.arange(self.dim)] = 1.0
        return matrix


@dataclass(frozen=True)
class MatrixRepresentation(Representation):
    """ρ(g) given as an orthogonal matrix for every g."""

    group: Group
    dim: int
    image: Callable[[Element], np.ndarray]
    name: str
    is_permutation = False

    def matrix(self, g: Element) -> np.ndarray:
        return np.asarray(self.image(g), dtype=float)


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
    """⊕ copies · base, one block after the other."""

    summands: tuple[tuple[int, Representation], ...]

    @property
    def blocks(self) -> tuple[tuple[int, Representation], ...]:
        return self.summands

    @property
    def group(self) -> Group:
        return self.blocks[0][1].group

    @property
    def dim(self) -> int:
        return sum(copies * base.dim for copies, base in self.blocks)

    @property
    def name(self) -> str:
        return " + ".join(base.name if copies == 1 else f"{copies}·{base.name}" for copies, base in self.blocks)

    @property
    def is_permutation(self) -> bool:
        return all(base.is_permutation for _, base in self.blocks)

    def index(self, g: Element) -> np.ndarray:
        offset, parts = 0, []
        for copies, base in self.blocks:
            one = base.index(g)
            parts.append((offset + base.dim * np.arange(copies)[:, None] + one[None, :]).ravel())
            offset += copies * base.dim
        return np.concatenate(parts)

    def matrix(self, g: Element) -> np.ndarray:
        matrix, offset = np.zeros((self.dim, self.dim)), 0
        for copies, base in self.blocks:
            one = base.matrix(g)
            for _ in range(copies):
                matrix[offset : offset + base.dim, offset : offset + base.dim] = one
                offset += base.dim
        return matrix

    def act(self, g: Element, x: Tensor, axis: int = -1) -> Tensor:
        axis = axis % x.ndim
        parts = x.split([copies * base.dim for copies, base in self.blocks], dim=axis)
        moved = [
            base.act(g, part.unflatten(axis, (copies, base.dim)), axis + 1).flatten(axis, axis + 1)
            for part, (copies, base) in zip(parts, self.blocks, strict=True)
        ]
        return moved[0] if len(moved) == 1 else torch.cat(moved, dim=axis)


@dataclass(frozen=True)
class TensorProduct(Representation):
    """ρ_a ⊗ ρ_b on R^{a.dim · b.dim}, the index of a running slowest."""

    a: Representation
    b: Representation

    @property
    def group(self) -> Group:
        return self.a.group

    @property
    def dim(self) -> int:
        return self.a.dim * self.b.dim

    @property
    def name(self) -> str:
        return "⊗".join(f"({r.name})" if isinstance(r, DirectSum) else r.name for r in (self.a, self.b))

    @property
    def is_permutation(self) -> bool:
        return self.a.is_permutation and self.b.is_permutation

    def index(self, g: Element) -> np.ndarray:
        return (self.a.index(g)[:, None] * self.b.dim + self.b.index(g)[None, :]).ravel()

    def matrix(self, g: Element) -> np.ndarray:
        return np.kron(self.a.matrix(g), self.b.matrix(g))

    def act(self, g: Element, x: Tensor, axis: int = -1) -> Tensor:
        axis = axis % x.ndim
        y = x.unflatten(axis, (self.a.dim, self.b.dim))
        return self.b.act(g, self.a.act(g, y, axis), axis + 1).flatten(axis, axis + 1)


def hom(source: Representation, target: Representation) -> Representation:
    """Hom(X, Y) for X = source, Y = target: matrices W, row by row, with W ↦ ρ_Y(g) W ρ_X(g)⁻¹ (eq. 8)."""
    return target * source.dual


def permutation(group: Symmetric | PermutationGroup, name: str = "perm") -> PermutationRepresentation:
    """The defining representation of a group whose elements are permutations."""
    degree = group.n if isinstance(group, Symmetric) else group.degree
    return PermutationRepresentation(group, degree, np.asarray, name)


def defining(group: MatrixGroup, name: str = "def") -> MatrixRepresentation:
    """The representation of a matrix group by its own matrices."""
    return MatrixRepresentation(group, group.degree, group.matrix_of, name)


def from_generators(group: Group, matrices: Sequence, name: str) -> MatrixRepresentation:
    """The representation whose generators are the given orthogonal matrices, one for each of ``group.generators``.

    ρ(g) is the product of the matrices along a shortest word for g.

    Raises:
        BadInput: a wrong number or shape of matrices, or matrices that are no homomorphism (an element
            reached by two words gets two matrices; the largest difference is reported).

    >>> from stability.groups import Cyclic
    >>> turn = from_generators(Cyclic(3), [[[-0.5, -(3**0.5) / 2], [3**0.5 / 2, -0.5]]], "plane")
    >>> turn.matrix(2).round(3).tolist()
    [[-0.5, 0.866], [-0.866, -0.5]]
    """
    images = [np.asarray(m, dtype=float) for m in matrices]
    if len(images) != len(group.generators):
        raise BadInput(
            f"representation {name}: {len(images)} matrices for the {len(group.generators)} generators of {group.name}"
        )
    dim = len(images[0]) if images else 1
    if any(m.shape != (dim, dim) for m in images):
        raise BadInput(f"representation {name}: shapes {[m.shape for m in images]}; all must be square and equal")
    for k, m in enumerate(images):
        error = float(np.abs(m @ m.T - np.eye(dim)).max())
        if not error < 1e-8:
            raise BadInput(
                f"representation {name}: matrix {k} is not orthogonal (max |mmᵀ − 1| = {error:.2e}); "
                "change the inner product so that it is"
            )
    table: dict[Element, np.ndarray] = {group.identity: np.eye(dim)}
    frontier, defect = [group.identity], 0.0
    while frontier:
        fresh = []
        for a in frontier:
            for s, image in zip(group.generators, images, strict=True):
                b, moved = group.multiply(s, a), image @ table[a]
                if b in table:
                    defect = max(defect, float(np.abs(moved - table[b]).max()))
                else:
                    table[b] = moved
                    fresh.append(b)
        frontier = fresh
    if not defect < 1e-8:
        raise BadInput(
            f"representation {name}: the matrices break a relation of {group.name} (ρ(gh) − ρ(g)ρ(h) up to "
            f"{defect:.2e}); give matrices that multiply like the generators {group.generators}"
        )
    return MatrixRepresentation(group, dim, table.__getitem__, name)


def regular(group: Group) -> PermutationRepresentation:
    """The regular representation on R^|G|: ρ(g)e_h = e_gh."""
    members = list(group.elements())
    place = {h: i for i, h in enumerate(members)}

    def image(g: Element) -> np.ndarray:
        return np.array([place[group.multiply(g, h)] for h in members])

    return PermutationRepresentation(group, len(members), image, "regular")


@dataclass(frozen=True)
class _ImageShift:
    """Elements (a, b) of Z_n × Z_m move pixel (i, j) to (i + a, j + b), cyclically."""

    rows: int
    columns: int

    def __call__(self, g: tuple[int, int]) -> np.ndarray:
        i = (np.arange(self.rows) + g[0]) % self.rows
        j = (np.arange(self.columns) + g[1]) % self.columns
        return (i[:, None] * self.columns + j[None, :]).ravel()


@dataclass(frozen=True)
class _RowShift:
    """Elements a of Z_n move pixel (i, j) to (i, j + a), cyclically."""

    n: int

    def __call__(self, a: int) -> np.ndarray:
        return _ImageShift(self.n, self.n)((0, a))


def _quarter_turns(n: int, k: int) -> np.ndarray:
    """Where k counter-clockwise quarter turns about the image's centre send each pixel."""
    # np.rot90 of the index image tells which pixel arrives where; its inverse is where pixels go.
    return np.argsort(np.rot90(np.arange(n * n).reshape(n, n), k).ravel())


@dataclass(frozen=True)
class _ImageRotation:
    n: int

    def __call__(self, k: int) -> np.ndarray:
        return _quarter_turns(self.n, k)


@dataclass(frozen=True)
class _TorusRotation:
    """((a, b), k): k quarter turns of Z_n² about the origin, pixel (i, j) ↦ (−j, i), then the shift."""

    n: int

    def __call__(self, g: tuple[tuple[int, int], int]) -> np.ndarray:
        (a, b), k = g
        i, j = np.divmod(np.arange(self.n**2), self.n)
        for _ in range(k % 4):
            i, j = -j % self.n, i
        return (i + a) % self.n * self.n + (j + b) % self.n


@dataclass(frozen=True)
class _DihedralImage:
    """(k, s) of D_4: a left–right flip when s = 1, then k quarter turns."""

    n: int

    def __call__(self, g: tuple[int, int]) -> np.ndarray:
        k, s = g
        flip = np.arange(self.n**2).reshape(self.n, self.n)[:, :: -1 if s else 1].ravel()
        return _quarter_turns(self.n, k)[flip]


def images(group: Group, n: int) -> PermutationRepresentation:
    """Pixels of n × n images under shifts, quarter turns, flips, or turns and shifts together.

    Args:
        group: ``torus(n)``, ``Cyclic(n)`` (shifts along rows; for n = 4 use ``rotations``), ``Dihedral(4)``
            or ``roto_translations(n)``.
        n: the side of the image.

    Raises:
        BadInput: a group that has no such action here.
    """
    image: Callable[[Element], np.ndarray]
    if isinstance(group, DirectProduct) and group.factors == (Cyclic(n), Cyclic(n)):
        image = _ImageShift(n, n)
    elif group == roto_translations(n):
        image = _TorusRotation(n)
    elif isinstance(group, Dihedral) and group.n == 4:
        image = _DihedralImage(n)
    elif isinstance(group, Cyclic) and group.n == n:
        image = _RowShift(n)
    else:
        raise BadInput(f"{group.name} has no known action on {n} × {n} images; build a PermutationRepresentation")
    return PermutationRepresentation(group, n * n, image, f"R^{{{n}×{n}}}")


def rotations(group: Group, n: int) -> PermutationRepresentation:
    """Pixels of n × n images under the quarter turns of C_4.

    Raises:
        BadInput: a group that is not cyclic of an order divisible by four.

    >>> from stability.groups import Cyclic
    >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0])
    >>> rotations(Cyclic(4), 2).act(1, x).reshape(2, 2).tolist()  # np.rot90
    [[2.0, 4.0], [1.0, 3.0]]
    """
    if not isinstance(group, Cyclic) or group.n % 4:
        raise BadInput(f"{group.name} does not act by quarter turns; use Cyclic(4)")
    return PermutationRepresentation(group, n * n, _ImageRotation(n), f"R^{{{n}×{n}}}")
