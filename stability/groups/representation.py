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

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.linalg import logm
from torch import Tensor

from stability.errors import BadInput
from stability.groups.algebra import combined, coordinates
from stability.groups.group import (
    Cyclic,
    Dihedral,
    DirectProduct,
    Element,
    Group,
    Label,
    MatrixGroup,
    PermutationGroup,
    Symmetric,
    roto_translations,
)
from stability.groups.lie import (
    O2,
    SO2,
    SO3,
    CompactGroup,
    Determinant,
    Exponential,
    Harmonic,
    LieGroup,
    check_orthogonal,
    check_skew,
)
from stability.groups.orthogonal import polished


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
        return np.asarray(self.image(g))

    def matrix(self, g: Element) -> np.ndarray:
        matrix = np.zeros((self.dim, self.dim))
        matrix[self.index(g), np.arange(self.dim)] = 1.0
        return matrix


@dataclass(frozen=True)
class MatrixRepresentation(Representation):
    """ρ(g) given as an orthogonal matrix for every g.

    Where ``image`` has a method ``derivative`` it gives dρ; else dρ is found from ρ near the identity.
    """

    group: Group
    dim: int
    image: Callable[[Element], np.ndarray]
    name: str
    is_permutation = False

    def matrix(self, g: Element) -> np.ndarray:
        return np.asarray(self.image(g), dtype=float)

    def derivative(self, label: Label) -> np.ndarray:
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
        return self._block_diagonal(lambda base: base.matrix(g))

    def derivative(self, label: Label) -> np.ndarray:
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
        return max(base.degree for _, base in self.blocks)

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

    def derivative(self, label: Label) -> np.ndarray:
        return np.kron(self.a.derivative(label), np.eye(self.b.dim)) + np.kron(
            np.eye(self.a.dim), self.b.derivative(label)
        )

    @property
    def degree(self) -> int:
        return self.a.degree + self.b.degree

    def act(self, g: Element, x: Tensor, axis: int = -1) -> Tensor:
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
        return self.product

    @property
    def dim(self) -> int:
        return self.base.dim

    @property
    def name(self) -> str:
        return self.base.name

    @property
    def is_permutation(self) -> bool:
        return self.base.is_permutation

    def index(self, g: Element) -> np.ndarray:
        return self.base.index(g[self.factor])

    def matrix(self, g: Element) -> np.ndarray:
        return self.base.matrix(g[self.factor])

    def derivative(self, label: Label) -> np.ndarray:
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


def harmonics(group: SO2 | O2 | SO3, degree: int) -> Representation:
    """The irrep V_k of SO(2) and O(2) (the plane turned k times as fast), V_l of SO(3) (spherical harmonics).

    V_1 is the plane or space itself in coordinates (x, y) or (x, y, z); degree 0 is the trivial representation.

    >>> from stability.groups import SO3
    >>> [harmonics(SO3(), l).dim for l in range(4)]
    [1, 3, 5, 7]
    """
    if not isinstance(group, (SO2, O2, SO3)) or degree < 0 or int(degree) != degree:
        raise BadInput(f"harmonics of degree {degree} of {group.name}: give SO2(), O2() or SO3() and an integer ≥ 0")
    if degree == 0:
        return trivial(group)
    form = Harmonic(group, int(degree))
    return MatrixRepresentation(group, form.dim, form, ("l=" if isinstance(group, SO3) else "k=") + str(degree))


def determinant(group: O2) -> MatrixRepresentation:
    """g ↦ det g, the pseudoscalars of O(2)."""
    return MatrixRepresentation(group, 1, Determinant(), "det")


def permutation(group: Symmetric | PermutationGroup, name: str = "perm") -> PermutationRepresentation:
    """The defining representation of a group whose elements are permutations."""
    degree = group.n if isinstance(group, Symmetric) else group.degree
    return PermutationRepresentation(group, degree, np.asarray, name)


def defining(group: MatrixGroup | LieGroup, name: str = "def") -> MatrixRepresentation:
    """The representation of a matrix group by its own matrices."""
    if isinstance(group, LieGroup):
        return from_generators(group, group.orthogonal, name, group.skew)
    return MatrixRepresentation(group, group.degree, group.matrix_of, name)


def from_generators(group: Group, matrices: Sequence, name: str, algebra: Sequence = ()) -> MatrixRepresentation:
    """The representation whose generators are the given orthogonal matrices, one for each of ``group.generators``.

    ρ(g) is the product of the matrices along a shortest word for g. For a Lie group give one orthogonal matrix for each
    of ``group.discrete`` and one skew matrix dρ(X) for each of ``group.algebra``.

    Raises:
        BadInput: a wrong number or shape of matrices, or matrices that are no homomorphism (an element
            reached by two words gets two matrices; the largest difference is reported).

    >>> from stability.groups import SO2
    >>> from_generators(SO2(), [], "twice", [[[0, -2], [2, 0]]]).matrix(0.5).round(3).tolist()
    [[0.54, -0.841], [0.841, 0.54]]

    >>> from stability.groups import Cyclic
    >>> turn = from_generators(Cyclic(3), [[[-0.5, -(3**0.5) / 2], [3**0.5 / 2, -0.5]]], "plane")
    >>> turn.matrix(2).round(3).tolist()
    [[-0.5, 0.866], [-0.866, -0.5]]
    """
    images = [np.asarray(m, dtype=float) for m in matrices]
    if group.algebra:
        return _from_algebra(group, images, [np.asarray(x, dtype=float) for x in algebra], name)
    if len(images) != len(group.generators):
        raise BadInput(
            f"representation {name}: {len(images)} matrices for the {len(group.generators)} generators of {group.name}"
        )
    dim = len(images[0]) if images else 1
    if any(m.shape != (dim, dim) for m in images):
        raise BadInput(f"representation {name}: shapes {[m.shape for m in images]}; all must be square and equal")
    check_orthogonal(f"representation {name}", images)
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


def _from_algebra(group: Group, images: list[np.ndarray], algebra: list[np.ndarray], name: str) -> MatrixRepresentation:
    """The representation with dρ(X) and ρ(h) given, checked to multiply as the group does."""
    if len(images) != len(group.discrete) or len(algebra) != len(group.algebra):
        raise BadInput(
            f"representation {name}: {len(algebra)} skew and {len(images)} orthogonal matrices; {group.name} has "
            f"{len(group.algebra)} generators of its Lie algebra and {len(group.discrete)} discrete ones"
        )
    dim = len(algebra[0])
    if any(m.shape != (dim, dim) for m in [*algebra, *images]):
        shapes = [m.shape for m in [*algebra, *images]]
        raise BadInput(f"representation {name}: shapes {shapes}; all must be square and equal")
    check_skew(f"representation {name}", algebra)
    check_orthogonal(f"representation {name}", images)
    algebra = [(x - x.T) / 2 for x in algebra]
    images = [polished(m) for m in images]
    form = Exponential(group, dict(zip(group.algebra, algebra, strict=True)), tuple(images))
    rho = MatrixRepresentation(group, dim, form, name)
    if isinstance(group, LieGroup):
        defect, where = _broken_relation(group, rho)
    else:  # elements have a normal form, so products of generic ones try every relation
        rng = np.random.default_rng(0)
        some = [*group.generators, *(group.sample(rng) for _ in range(6))]
        defect, where = max(
            (float(np.abs(rho.matrix(group.multiply(a, b)) - rho.matrix(a) @ rho.matrix(b)).max()), "ρ(gh) = ρ(g)ρ(h)")
            for a, b in itertools.product(some, some)
        )
    if not defect < 1e-8:
        raise BadInput(
            f"representation {name}: the matrices break a relation of {group.name} ({where} by {defect:.2e}); "
            "give matrices that multiply like the generators"
        )
    return rho


def _broken_relation(group: LieGroup, rho: MatrixRepresentation) -> tuple[float, str]:
    """The largest violation among brackets of the Lie algebra and its conjugates by discrete generators.

    Along the frame, relative to the largest weights where they exceed one: in a badly conditioned basis the violation
    of a difference of two matrices would pass as rounding.
    """
    framed = combined(group.coefficients, group.skew)
    derived = [rho.along(y) for y in group.frame]
    size = max(1.0, *(float(np.linalg.norm(u, 2)) for u in derived))

    def image(x: np.ndarray) -> np.ndarray:
        return sum(c * u for c, u in zip(coordinates(framed, x), derived, strict=True))

    found = [(0.0, "")]
    for (a, b), (u, v) in zip(itertools.combinations(framed, 2), itertools.combinations(derived, 2), strict=True):
        off = float(np.abs(image(a @ b - b @ a) - (u @ v - v @ u)).max())
        found.append((off / size**2, "a bracket"))
    for h, m in zip(group.orthogonal, rho.image.discrete, strict=True):
        for y, u in zip(framed, derived, strict=True):
            off = float(np.abs(image(h @ y @ h.T) - m @ u @ m.T).max())
            found.append((off / size, "conjugation by a discrete generator"))
    return max(found)


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
