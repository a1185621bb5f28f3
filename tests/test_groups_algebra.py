"""Lie algebras by any basis: the frame spans the same and is orthogonal; what closes no compact group is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from brute import bad
from scipy.linalg import expm

from stability.groups.algebra import centre, check_closed, check_compact, combined, coordinates, frame, weights


def rotation(n: int, i: int, j: int) -> np.ndarray:
    x = np.zeros((n, n))
    x[j, i], x[i, j] = 1, -1
    return x


SO3 = [rotation(3, 1, 2), rotation(3, 2, 0), rotation(3, 0, 1)]
TORUS = [rotation(4, 0, 1), rotation(4, 2, 3)]


@pytest.mark.parametrize("basis", [SO3, TORUS], ids=["so(3)", "torus"])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_a_frame_is_orthogonal_of_length_one_and_spans_what_was_given(basis, scale):
    mixed = np.random.default_rng(0).standard_normal((len(basis),) * 2) + 3 * np.eye(len(basis))
    skew = [scale * x for x in combined(mixed, basis)]
    found = combined(frame("a", skew), skew)
    gram = np.array([[float((a * b).sum()) for b in found] for a in found])
    assert np.abs(gram - np.diag(np.diag(gram))).max() < 1e-12
    np.testing.assert_allclose([np.linalg.norm(y, 2) for y in found], 1)
    for x in basis:
        again = sum(c * y for c, y in zip(coordinates(found, x), found, strict=True))
        np.testing.assert_allclose(again, x, atol=1e-12)


def test_dependent_matrices_are_refused_and_the_zero_one_is_numbered():
    with bad("linearly dependent up to"):
        frame("a", [SO3[0], SO3[1], SO3[0] + SO3[1]])
    with bad("skew matrix 1 is zero"):
        frame("a", [SO3[0], 0 * SO3[0]])


def test_what_brackets_or_discrete_generators_lead_out_of_is_refused():
    check_closed("a", SO3, [np.diag([1.0, -1.0, -1.0])])
    with bad("leave the span of the skew matrices by 1.00e\\+00; add the missing ones"):
        check_closed("a", SO3[:2], [])
    swap = np.eye(4)[[2, 3, 0, 1]]
    check_closed("a", TORUS, [swap])
    with bad("leave the span"):
        check_closed("a", TORUS[:1], [swap])


def test_the_centre_is_what_commutes_with_all():
    assert centre(SO3) == []
    assert len(centre(TORUS)) == 2
    both = [np.kron(np.diag([1.0, 0.0]), x) for x in SO3]
    middle = np.zeros((6, 6))
    middle[4, 3], middle[3, 4] = 1, -1
    (found,) = centre([*both, middle])
    np.testing.assert_allclose(np.abs(found), np.abs(middle) * np.abs(found).max(), atol=1e-9)


@pytest.mark.parametrize("turns", [(1, 2), (3, -5), (0, 1)])
def test_weights_say_by_what_angles_the_planes_turn(turns):
    x = turns[0] * TORUS[0] + turns[1] * TORUS[1]
    found = sorted(weights([x])[:, 0])
    np.testing.assert_allclose(found, sorted([*turns, *(-t for t in turns)]), atol=1e-12)
    phases = np.exp(1j * 0.7 * np.array(found))
    np.testing.assert_allclose(np.sort_complex(np.linalg.eigvals(expm(0.7 * x))), np.sort_complex(phases), atol=1e-9)


@pytest.mark.parametrize("ratio", [2 / 3, 0.0, 5.0, -1 / 7])
def test_planes_that_turn_in_a_rational_ratio_close_a_group(ratio):
    check_compact("a", [TORUS[0] + ratio * TORUS[1]], [])


@pytest.mark.parametrize("ratio", [math.sqrt(2), math.pi, (1 + math.sqrt(5)) / 2])
def test_planes_that_turn_in_an_irrational_ratio_do_not(ratio):
    with bad("wind densely round a larger torus: the group is not closed"):
        check_compact("a", [TORUS[0] + ratio * TORUS[1]], [])


def test_a_discrete_generator_of_infinite_order_beside_the_algebra_is_refused():
    turn = expm(TORUS[1] * 2 * math.pi / 5)
    check_compact("a", TORUS[:1], [turn])
    with bad("discrete generator 0 .*; add that plane's skew matrix"):
        check_compact("a", TORUS[:1], [expm(TORUS[1])])
