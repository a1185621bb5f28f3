r"""Flips and turns of grids: images, feature maps and kernels of any odd or even side, about their centre.

    (g·x)(p) = x(M(g)⁻¹ p),   p measured from the centre,  M(g) a signed permutation matrix

The same action moves the pixels of an image and the taps of a kernel, so that a convolution with ρ̄(g)K of g·x is g
applied to the convolution with K of x.

>>> from stability.groups import Cyclic, Dihedral
>>> flips = Lattice(Cyclic(2), [[[-1]]], "left-right")  # signals on a line, read backwards
>>> flips((4,)).index(1).tolist()
[3, 2, 1, 0]
>>> plane = square_lattice(Dihedral(4))
>>> plane((3, 3)).dim, plane((3, 3)).index((1, 0)).tolist()  # a quarter turn
(9, [6, 3, 0, 7, 4, 1, 8, 5, 2])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from stability.base.errors import BadInput
from stability.groups.group import Cyclic, Dihedral, Element, Group
from stability.groups.products import DirectProduct
from stability.groups.representation import MatrixRepresentation, PermutationRepresentation
from stability.groups.standard import from_generators

QUARTER_TURN = ((0, -1), (1, 0))
FLIP = ((1, 0), (0, -1))


class Lattice:
    """The action of a point group on the positions of grids of one dimension, two or three.

    Args:
        group: the group.
        matrices: a signed permutation matrix for each of ``group.generators``; axes in the order of the tensor.
        name: what reports print before the size.

    Raises:
        BadInput: matrices that are no signed permutations, or that break a relation of the group.
    """

    def __init__(self, group: Group, matrices: Sequence, name: str = "R") -> None:
        images = [np.asarray(m, dtype=float) for m in matrices]
        for k, m in enumerate(images):
            if not np.array_equal(np.abs(m).sum(0), np.ones(len(m))) or not np.isin(m, (-1.0, 0.0, 1.0)).all():
                raise BadInput(f"lattice: matrix {k} is no signed permutation, so it maps no grid onto itself")
        self.group, self.name = group, name
        self.points: MatrixRepresentation = from_generators(group, images, f"points of {name}")
        self.key = (group, tuple(tuple(m.ravel().tolist()) for m in images), name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lattice) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def axes(self) -> int:
        """Dimension of the grids."""
        return self.points.dim

    def __call__(self, shape: Sequence[int] | int) -> PermutationRepresentation:
        """The representation on functions on a grid of this shape, in row-major order.

        Raises:
            BadInput: a grid of another dimension, or one that the group turns into another shape.
        """
        shape = (shape,) * self.axes if isinstance(shape, int) else tuple(shape)
        if len(shape) != self.axes:
            raise BadInput(f"lattice {self.name}: a grid of shape {shape} where the group acts on {self.axes} axes")
        for g in self.group.generators:
            turned = np.abs(self.points.matrix(g)) @ np.array(shape)
            if not np.array_equal(turned, shape):
                raise BadInput(
                    f"lattice {self.name}: generator {g} turns a grid of shape {shape} into one of shape "
                    f"{tuple(int(n) for n in turned)}; crop or pad it, or use a group that keeps its sides"
                )
        size = "×".join(map(str, shape))
        dim = int(np.prod(shape))
        return PermutationRepresentation(self.group, dim, _Grid(self, shape), f"{self.name}{{{size}}}")


@dataclass(frozen=True)
class _Grid:
    """g ↦ where each position of the grid goes; equal for equal lattices and shapes.

    Attributes:
        lattice: how G acts on the positions.
        shape: sides of the grid.
    """

    lattice: Lattice
    shape: tuple[int, ...]

    @cached_property
    def positions(self) -> np.ndarray:
        """Twice the positions from the centre, (positions, axes): whole numbers for odd and even sides."""
        grid = np.stack(np.meshgrid(*(np.arange(n) for n in self.shape), indexing="ij"), axis=-1)
        return 2 * grid.reshape(-1, len(self.shape)) - (np.array(self.shape) - 1)

    def __call__(self, g: Element) -> np.ndarray:
        moved = self.positions @ np.rint(self.lattice.points.matrix(g)).astype(int).T
        return np.ravel_multi_index(tuple(((moved + np.array(self.shape) - 1) // 2).T), self.shape)


class _Shifts(Lattice):
    """Cyclic shifts: they move the pixels of an image of the group's own sides, and no tap of a kernel."""

    def __init__(self, group: DirectProduct) -> None:
        self.sides = tuple(factor.n for factor in group.factors if isinstance(factor, Cyclic))
        super().__init__(group, [np.eye(len(self.sides))] * len(group.generators))

    def __call__(self, shape: Sequence[int] | int) -> PermutationRepresentation:
        found = super().__call__(shape)
        sizes = (shape,) * self.axes if isinstance(shape, int) else tuple(shape)
        return replace(found, image=_Rolled(self.sides)) if sizes == self.sides else found


@dataclass(frozen=True)
class _Rolled:
    """g ↦ where each pixel goes when an image is rolled by g.

    Attributes:
        sides: of the image.
    """

    sides: tuple[int, ...]

    def __call__(self, g: Element) -> np.ndarray:
        at = np.indices(self.sides).reshape(len(self.sides), -1).T
        return np.ravel_multi_index(tuple(((at + np.array(g)) % self.sides).T), self.sides)


def shift_lattice(group: Group) -> Lattice:
    """Cyclic shifts of images whose sides are those of the group: ``torus(n)``, n × n; Z_m × Z_n, m × n.

    A convolution with circular padding commutes with them whatever its kernel, so kernels lie in E; what they ask is
    asked of layers that know positions, as a ``Linear`` behind a ``Flatten`` does. Feature maps keep the image's
    sides, and kernels are smaller.

    >>> from stability.groups import torus
    >>> shifts = shift_lattice(torus(3))
    >>> shifts((3, 3)).index((0, 1)).tolist(), shifts((2, 2)).index((0, 1)).tolist()
    ([1, 2, 0, 4, 5, 3, 7, 8, 6], [0, 1, 2, 3])

    Raises:
        BadInput: a group that is no product of cyclic ones.
    """
    if isinstance(group, DirectProduct) and all(isinstance(factor, Cyclic) for factor in group.factors):
        return _Shifts(group)
    raise BadInput(f"{group.name} shifts no image here; give torus(n), or a DirectProduct of as many Cyclic as axes")


def square_lattice(group: Group) -> Lattice:
    """Quarter turns (C_4) or quarter turns and flips (D_4) of square grids, as ``images`` and ``rotations`` do it.

    Raises:
        BadInput: another group, whose action on the grid must be given as matrices.
    """
    if isinstance(group, Dihedral) and group.n == 4:
        return Lattice(group, [QUARTER_TURN, FLIP])
    if isinstance(group, Cyclic) and group.n == 4:
        return Lattice(group, [QUARTER_TURN])
    raise BadInput(
        f"{group.name} has no known action on grids; give lattice=Lattice(group, matrices) with a signed permutation "
        f"matrix for each generator {group.generators}"
    )
