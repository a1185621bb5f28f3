"""Grids are moved as arrays are by numpy: turned, flipped, rolled; grids that a group does not keep are refused."""

from __future__ import annotations

import numpy as np
import pytest
from brute import bad, permutation_matrix

from stability.groups import Cyclic, Dihedral, DirectProduct, Symmetric, torus
from stability.groups.lattice import Lattice, shift_lattice, square_lattice

SIDES = [1, 2, 3, 4]


def moved(rho, g, x: np.ndarray) -> np.ndarray:
    return (permutation_matrix(rho.index(g)) @ x.ravel()).reshape(x.shape)


@pytest.mark.parametrize("side", SIDES)
def test_the_square_is_turned_and_flipped_as_numpy_does_it(side):
    lattice, x = square_lattice(Dihedral(4)), np.arange(side * side, dtype=float).reshape(side, side)
    turn, flip = lattice.group.generators
    turned, flipped = (moved(lattice((side, side)), g, x) for g in (turn, flip))
    assert any(np.array_equal(turned, np.rot90(x, k)) for k in (1, -1))
    assert any(np.array_equal(flipped, np.flip(x, axis)) for axis in (0, 1))
    np.testing.assert_array_equal(moved(square_lattice(Cyclic(4))(side), 1, x), turned)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("group", [Cyclic(4), Dihedral(4)], ids=lambda group: group.name)
def test_a_grid_is_a_representation_of_the_whole_group(group, side):
    rho = square_lattice(group)((side, side))
    for g in group.elements():
        for h in group.elements():
            np.testing.assert_array_equal(rho.index(group.multiply(g, h)), rho.index(g)[rho.index(h)])


def test_a_convolution_of_moved_images_by_moved_kernels_is_the_moved_convolution():
    lattice, rng = square_lattice(Dihedral(4)), np.random.default_rng(0)
    x, kernel = rng.standard_normal((5, 5)), rng.standard_normal((3, 3))

    def convolved(image: np.ndarray, taps: np.ndarray) -> np.ndarray:
        return np.array([[(image[i : i + 3, j : j + 3] * taps).sum() for j in range(3)] for i in range(3)])

    for g in lattice.group.elements():
        together = convolved(moved(lattice(5), g, x), moved(lattice(3), g, kernel))
        np.testing.assert_allclose(together, moved(lattice(3), g, convolved(x, kernel)), atol=1e-12)


@pytest.mark.parametrize(("group", "sides"), [(torus(3), (3, 3)), (DirectProduct((Cyclic(2), Cyclic(5))), (2, 5))])
def test_shifts_roll_images_of_their_own_sides_and_leave_kernels_alone(group, sides):
    shifts, x = shift_lattice(group), np.arange(float(np.prod(sides))).reshape(sides)
    for g in group.elements():
        np.testing.assert_array_equal(moved(shifts(sides), g, x), np.roll(x, g, (0, 1)))
    kernel = np.arange(1.0, 5.0).reshape(2, 2)
    np.testing.assert_array_equal(moved(shifts((2, 2)), group.generators[0], kernel), kernel)


def test_grids_and_groups_that_do_not_fit_are_refused_with_a_mend():
    plane = square_lattice(Cyclic(4))
    with bad("turns a grid of shape \\(2, 3\\) into one of shape \\(3, 2\\); crop or pad it"):
        plane((2, 3))
    with bad("a grid of shape \\(3,\\) where the group acts on 2 axes"):
        plane((3,))
    with bad("C_3 has no known action on grids; give lattice=Lattice"):
        square_lattice(Cyclic(3))
    with bad("S_3 shifts no image here"):
        shift_lattice(Symmetric(3))
    with bad("matrix 0 is no signed permutation"):
        Lattice(Cyclic(2), [[[1, 1], [0, -1]]])


def test_lattices_are_equal_by_what_they_do():
    mirror = Lattice(Cyclic(2), [[[-1]]], "line")
    assert mirror == Lattice(Cyclic(2), [[[-1]]], "line") != Lattice(Cyclic(2), [[[1]]], "line")
    assert mirror((4,)) == Lattice(Cyclic(2), [[[-1]]], "line")((4,)) and mirror((4,)) != mirror((5,))
