"""Representations by name: images, rotations, permutations, regular, defining, harmonics, on generators."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stability.base.errors import BadInput
from stability.groups.algebra import combined, coordinates
from stability.groups.closures import MatrixGroup, PermutationGroup
from stability.groups.group import Cyclic, Dihedral, Element, Group, Symmetric
from stability.groups.lie import (
    O2,
    SO2,
    SO3,
    Determinant,
    Exponential,
    Harmonic,
    LieGroup,
    check_orthogonal,
    check_skew,
)
from stability.groups.orthogonal import polished
from stability.groups.products import DirectProduct, roto_translations
from stability.groups.representation import MatrixRepresentation, PermutationRepresentation, Representation, trivial


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
        defect, where = _broken_relation(group, rho, form)
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


def _broken_relation(group: LieGroup, rho: MatrixRepresentation, form: Exponential) -> tuple[float, str]:
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
    for h, m in zip(group.orthogonal, form.discrete, strict=True):
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
    """Elements (a, b) of Z_n × Z_m move pixel (i, j) to (i + a, j + b), cyclically.

    Attributes:
        rows, columns: sides of the image.
    """

    rows: int
    columns: int

    def __call__(self, g: tuple[int, int]) -> np.ndarray:
        i = (np.arange(self.rows) + g[0]) % self.rows
        j = (np.arange(self.columns) + g[1]) % self.columns
        return (i[:, None] * self.columns + j[None, :]).ravel()


@dataclass(frozen=True)
class _RowShift:
    """Elements a of Z_n move pixel (i, j) to (i, j + a), cyclically.

    Attributes:
        n: the side of the image.
    """

    n: int

    def __call__(self, a: int) -> np.ndarray:
        return _ImageShift(self.n, self.n)((0, a))


def _quarter_turns(n: int, k: int) -> np.ndarray:
    """Where k counter-clockwise quarter turns about the image's centre send each pixel."""
    # np.rot90 of the index image tells which pixel arrives where; its inverse is where pixels go.
    return np.argsort(np.rot90(np.arange(n * n).reshape(n, n), k).ravel())


@dataclass(frozen=True)
class _ImageRotation:
    """k of C_4: k counter-clockwise quarter turns about the centre of the image.

    Attributes:
        n: the side of the image.
    """

    n: int

    def __call__(self, k: int) -> np.ndarray:
        return _quarter_turns(self.n, k)


@dataclass(frozen=True)
class _TorusRotation:
    """((a, b), k): k quarter turns of Z_n² about the origin, pixel (i, j) ↦ (−j, i), then the shift.

    Attributes:
        n: the side of the torus.
    """

    n: int

    def __call__(self, g: tuple[tuple[int, int], int]) -> np.ndarray:
        (a, b), k = g
        i, j = np.divmod(np.arange(self.n**2), self.n)
        for _ in range(k % 4):
            i, j = -j % self.n, i
        return (i + a) % self.n * self.n + (j + b) % self.n


@dataclass(frozen=True)
class _DihedralImage:
    """(k, s) of D_4: a left–right flip when s = 1, then k quarter turns.

    Attributes:
        n: the side of the image.
    """

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

    >>> import torch
    >>> from stability.groups import Cyclic
    >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0])
    >>> rotations(Cyclic(4), 2).act(1, x).reshape(2, 2).tolist()  # np.rot90
    [[2.0, 4.0], [1.0, 3.0]]
    """
    if not isinstance(group, Cyclic) or group.n % 4:
        raise BadInput(f"{group.name} does not act by quarter turns; use Cyclic(4)")
    return PermutationRepresentation(group, n * n, _ImageRotation(n), f"R^{{{n}×{n}}}")
