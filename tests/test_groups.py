"""Groups and representations multiply as they should, samplers are uniform, intertwiners are all there are."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from brute import (
    COPIES,
    GROUPS,
    ICOSAHEDRON,
    NAMES,
    ORDERS,
    average,
    bad,
    character,
    closure,
    dim_hom,
    gaussian,
    image_matrix,
    irrep_cases,
    irreps,
    permutation_matrix,
    points,
    restricted,
    rotation,
    spaces,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import block_diag
from scipy.stats import chisquare

from stability.groups import intertwiners
from stability.groups.closures import MatrixGroup, PermutationGroup
from stability.groups.group import Cyclic, Dihedral, Group, Symmetric, Trivial
from stability.groups.intertwiners import OrbitBasis
from stability.groups.products import DirectProduct, SemidirectProduct, roto_translations, torus
from stability.groups.representation import MatrixRepresentation, PermutationRepresentation, hom, trivial
from stability.groups.standard import defining, from_generators, images, permutation, regular, rotations

ALL: dict[str, tuple[Group, int]] = {name: (GROUPS[name], ORDERS[name]) for name in NAMES} | {
    "trivial": (Trivial(), 1),
    "C_1": (Cyclic(1), 1),
    "D_1": (Dihedral(1), 2),
    "D_5": (Dihedral(5), 10),
    "S_1": (Symmetric(1), 1),
    "S_2": (Symmetric(2), 2),
    "S_3 × C_2 × C_3": (DirectProduct((Symmetric(3), Cyclic(2), Cyclic(3))), 36),
    "C_4 ⋉ Z_3²": (roto_translations(3), 36),
    "S_3 twice over": (SemidirectProduct(Cyclic(3), Cyclic(2), lambda h, a: (-a if h else a) % 3, "S_3"), 6),
    "icosahedron": (ICOSAHEDRON, 60),
    "two orbits": (PermutationGroup([(1, 2, 0, 3, 4, 5), (0, 1, 2, 4, 3, 5)]), 6),
    "no movement": (PermutationGroup([(0, 1, 2)]), 1),
    "one point": (PermutationGroup([(0,)]), 1),
    "F_20": (PermutationGroup([(1, 2, 3, 4, 0), (0, 2, 4, 1, 3)]), 20),
    "cube": (PermutationGroup([(1, 2, 3, 0, 5, 6, 7, 4), (0, 4, 5, 1, 3, 7, 6, 2)]), 24),
    "A_5": (PermutationGroup([(1, 2, 0, 3, 4), (1, 0, 3, 2, 4), (0, 1, 3, 4, 2)]), 60),
}
every_group = pytest.mark.parametrize("name", ALL)


def product(group: Group, factors) -> object:
    result = group.identity
    for factor in factors:
        result = group.multiply(result, factor)
    return result


# ---------------------------------------------------------------------------------------------------- groups


@every_group
def test_the_elements_form_a_group(name):
    group, _ = ALL[name]
    members = list(group.elements())
    rng = np.random.default_rng(0)
    assert members[0] == group.identity
    for i, j, k in rng.integers(len(members), size=(60, 3)):
        a, b, c = members[i], members[j], members[k]
        assert group.multiply(group.multiply(a, b), c) == group.multiply(a, group.multiply(b, c))
        assert group.multiply(a, b) in members
        assert group.multiply(a, group.identity) == a == group.multiply(group.identity, a)
        assert group.multiply(a, group.inverse(a)) == group.identity == group.multiply(group.inverse(a), a)


@every_group
def test_elements_lists_as_many_distinct_members_as_the_order_says(name):
    group, order = ALL[name]
    members = list(group.elements())
    assert group.order == order == len(members) == len(set(members))


@every_group
def test_the_generators_reach_the_whole_group(name):
    group, _ = ALL[name]
    assert set(closure(group)) == set(group.elements())


@every_group
def test_products_over_the_transversals_hit_every_element_exactly_once(name):
    group, order = ALL[name]
    products = [product(group, choice) for choice in itertools.product(*group.transversals())]
    assert len(products) == order
    assert set(products) == set(closure(group))


def test_transversals_of_a_mathieu_group_hit_each_of_7920_elements_once():
    m11 = PermutationGroup([(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0), (0, 1, 6, 9, 5, 3, 10, 2, 8, 4, 7)], name="M_11")
    products = {product(m11, choice) for choice in itertools.product(*m11.transversals())}
    assert m11.order == 7920 == math.prod(len(part) for part in m11.transversals())
    assert products == set(m11.elements())


@pytest.mark.parametrize("name", NAMES)
def test_averaging_over_one_transversal_after_the_other_averages_over_the_group(name):
    rep = spaces(name)[0]
    x = np.random.default_rng(0).standard_normal(rep.dim)
    expected = average(rep.matrix(g) for g in closure(rep.group)) @ x
    for part in reversed(rep.group.transversals()):
        x = average(rep.matrix(t) @ x for t in part)
    np.testing.assert_allclose(x, expected, atol=1e-13)


@every_group
def test_the_sampler_draws_every_element_equally_often(name):
    group, order = ALL[name]
    rng = np.random.default_rng(1)
    place = {g: i for i, g in enumerate(group.elements())}
    counts = np.bincount([place[group.sample(rng)] for _ in range(100 * order)], minlength=order)
    assert counts.sum() == 100 * order
    assert order == 1 or chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize(
    "group",
    [Symmetric(10), PermutationGroup([(1, *range(2, 10), 0), (1, 0, *range(2, 10))], name="⟨cycle, swap⟩")],
    ids=str,
)
def test_a_large_group_is_sampled_uniformly_without_being_enumerated(group, monkeypatch):
    monkeypatch.setattr(type(group), "elements", lambda self: pytest.fail("enumerated"))
    rng = np.random.default_rng(2)
    draws = np.array([group.sample(rng) for _ in range(600)])
    assert group.order == math.factorial(10)
    assert (np.sort(draws, axis=1) == np.arange(10)).all()
    for point in range(10):
        assert chisquare(np.bincount(draws[:, point], minlength=10)).pvalue > 1e-4
    # Where 0 and 1 go together: 90 pairs.
    pairs = np.bincount(draws[:, 0] * 10 + draws[:, 1], minlength=100).reshape(10, 10)
    assert chisquare(pairs[~np.eye(10, dtype=bool)]).pvalue > 1e-4


@every_group
def test_the_same_seed_draws_the_same_elements(name):
    group, _ = ALL[name]
    first, again = (np.random.default_rng(7) for _ in range(2))
    assert [group.sample(first) for _ in range(20)] == [group.sample(again) for _ in range(20)]


def test_dihedral_elements_multiply_like_turns_and_flips_of_the_plane():
    group = Dihedral(5)

    def matrix(a):
        return np.linalg.matrix_power(rotation(2 * math.pi / 5), a[0]) @ np.diag([1, (-1) ** a[1]])

    for a, b in itertools.product(group.elements(), repeat=2):
        np.testing.assert_allclose(matrix(group.multiply(a, b)), matrix(a) @ matrix(b), atol=1e-14)


def test_permutations_multiply_like_their_matrices():
    group = Symmetric(4)
    for a, b in itertools.product(group.elements(), repeat=2):
        expected = permutation_matrix(a) @ permutation_matrix(b)
        np.testing.assert_array_equal(permutation_matrix(group.multiply(a, b)), expected)


def test_roto_translations_multiply_like_affine_maps_of_the_torus():
    n = 5
    group = roto_translations(n)
    turn = np.array([[0, -1], [1, 0]])

    def affine(g):
        (a, b), k = g
        matrix = np.eye(3, dtype=int)
        matrix[:2, :2] = np.linalg.matrix_power(turn, k)
        matrix[:2, 2] = a, b
        return matrix

    rng = np.random.default_rng(3)
    for _ in range(200):
        a, b = group.sample(rng), group.sample(rng)
        assert ((affine(group.multiply(a, b)) - affine(a) @ affine(b)) % n == 0).all()


def test_long_products_in_a_matrix_group_stay_orthogonal_and_never_invent_elements():
    rng = np.random.default_rng(4)
    members, word = set(ICOSAHEDRON.elements()), ICOSAHEDRON.identity
    for _ in range(2000):
        word = ICOSAHEDRON.multiply(word, ICOSAHEDRON.sample(rng))
    matrix = ICOSAHEDRON.matrix_of(word)
    assert word in members
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-14)


def _conjugated_pentagon() -> list[np.ndarray]:
    """D_5 with a reflection whose entries lie halfway between two numbers of nine decimals."""
    c = 0.1234567895
    s = math.sqrt(1 - c * c)
    return [np.array([[c, s], [s, -c]]), rotation(2 * math.pi / 5)]


@pytest.mark.parametrize(
    ("generators", "order"),
    [
        ([rotation(2 * math.pi / 6).round(9)], 6),
        ([rotation(2 * math.pi / 11).round(10)], 11),
        (_conjugated_pentagon(), 10),
    ],
    ids=["C_6 to nine decimals", "C_11 to ten decimals", "D_5 on a rounding boundary"],
)
def test_a_matrix_group_has_its_order_whatever_the_rounding_of_its_generators(generators, order):
    assert MatrixGroup(generators).order == order


def test_a_generator_given_to_eleven_decimals_is_made_orthogonal_to_rounding():
    group = MatrixGroup([rotation(2 * math.pi / 11).round(11)])
    assert group.order == 11
    for g in group.elements():
        np.testing.assert_allclose(group.matrix_of(g) @ group.matrix_of(g).T, np.eye(2), atol=1e-15)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cyclic(0), "order 0 is not positive"),
        (lambda: PermutationGroup([]), "no generators"),
        (lambda: PermutationGroup([(1, 0), (0, 0)]), r"generator 1 = \[0, 0\] is no permutation of 0…1"),
        (lambda: PermutationGroup([(1, 0), (0, 1, 2)]), r"generator 1 = \[0, 1, 2\] is no permutation of 0…1"),
        (lambda: MatrixGroup([]), "no generators"),
        (lambda: MatrixGroup([np.ones((2, 3))]), r"generator 0 has shape \(2, 3\)"),
        (lambda: MatrixGroup([np.eye(2), np.eye(3)]), r"generator 1 has shape \(3, 3\)"),
        (lambda: MatrixGroup([[[1, 1e-3], [0, 1]]]), "generator 0 is not orthogonal .* = 1.00e-03"),
        (lambda: MatrixGroup([[[math.nan]]]), "generator 0 is not orthogonal .* = nan"),
    ],
)
def test_a_group_that_is_none_is_refused_with_the_measured_fault(make, message):
    with bad(message):
        make()


@pytest.mark.parametrize(
    "group",
    [
        MatrixGroup([rotation(1.0)], name="a turn by one radian"),
        PermutationGroup([(1, *range(2, 7), 0), (1, 0, *range(2, 7))], name="⟨cycle, swap⟩"),
    ],
    ids=str,
)
def test_a_group_too_large_to_enumerate_says_so(group, monkeypatch):
    monkeypatch.setattr("stability.groups.closures.CLOSURE_LIMIT", 500)
    with bad(f"{group.name}: the generators reach more than 500 elements"):
        list(group.elements())


# ------------------------------------------------------------------------------------------- representations

TURN = Cyclic(4)


def shifted(x: np.ndarray, a: int, b: int) -> np.ndarray:
    return np.roll(x, (a, b), (0, 1))


def turned(x: np.ndarray, k: int) -> np.ndarray:
    """k quarter turns of the torus about pixel (0, 0), which np.rot90 does about the image's centre."""
    for _ in range(k):
        x = np.roll(np.rot90(x), 1, 0)
    return x


IMAGES = {
    "torus": (images(torus(3), 3), 3, lambda x, g: shifted(x, *g)),
    "rows": (images(Cyclic(5), 5), 5, lambda x, a: np.roll(x, a, 1)),
    "rotations": (rotations(TURN, 5), 5, lambda x, k: np.rot90(x, k)),
    "rotations of an even side": (rotations(TURN, 4), 4, lambda x, k: np.rot90(x, k)),
    "dihedral": (images(Dihedral(4), 3), 3, lambda x, g: np.rot90(np.fliplr(x) if g[1] else x, g[0])),
    "roto-translations": (images(roto_translations(3), 3), 3, lambda x, g: shifted(turned(x, g[1]), *g[0])),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images_move_as_numpy_moves_them(name):
    rep, n, move = IMAGES[name]
    x = np.random.default_rng(0).standard_normal((n, n))
    for g in rep.group.elements():
        moved = rep.act(g, torch.as_tensor(x.ravel())).reshape(n, n)
        np.testing.assert_array_equal(moved, move(x, g))
        np.testing.assert_array_equal(rep.matrix(g), image_matrix(n, lambda e, g=g: move(e, g)))


def _representations():
    found = {name: rep for name, (rep, _, _) in IMAGES.items()}
    for name in NAMES:
        a, b = spaces(name)
        found |= {
            f"{name} points": points(name),
            f"{name} regular": regular(GROUPS[name]),
            f"{name} sum": a,
            f"{name} tensor": irreps(name)[-1].representation * b,
            f"{name} multiple": 3 * points(name),
        }
        found |= {f"{name} {v.name}": v.representation for v in irreps(name)}
    found["icosahedron"] = defining(ICOSAHEDRON) + 2 * trivial(ICOSAHEDRON)
    return found


REPRESENTATIONS = _representations()
every_representation = pytest.mark.parametrize("name", REPRESENTATIONS)


@every_representation
def test_a_representation_is_an_orthogonal_homomorphism(name):
    rep = REPRESENTATIONS[name]
    group, rng = rep.group, np.random.default_rng(0)
    np.testing.assert_allclose(rep.matrix(group.identity), np.eye(rep.dim), atol=1e-14)
    for _ in range(20):
        a, b = group.sample(rng), group.sample(rng)
        product = rep.matrix(a) @ rep.matrix(b)
        np.testing.assert_allclose(rep.matrix(group.multiply(a, b)), product, atol=1e-13)
        np.testing.assert_allclose(rep.matrix(a) @ rep.matrix(a).T, np.eye(rep.dim), atol=1e-13)
        np.testing.assert_allclose(rep.dual.matrix(a), rep.matrix(group.inverse(a)).T, atol=1e-13)


@every_representation
def test_acting_along_any_axis_is_a_product_with_the_matrix(name):
    rep = REPRESENTATIONS[name]
    rng = np.random.default_rng(1)
    for axis in (0, 1, 2, -1, -2, -3):
        shape = [2, 3, 4]
        shape[axis] = rep.dim
        x, g = rng.standard_normal(shape), rep.group.sample(rng)
        expected = np.moveaxis(np.tensordot(rep.matrix(g), x, (1, axis)), 0, axis)
        np.testing.assert_allclose(rep.act(g, torch.as_tensor(x), axis), expected, atol=1e-13)


@every_representation
def test_permutations_and_only_they_have_an_index_which_agrees_with_the_matrix(name):
    rep = REPRESENTATIONS[name]
    g = rep.group.sample(np.random.default_rng(2))
    if rep.is_permutation:
        np.testing.assert_array_equal(rep.matrix(g), permutation_matrix(rep.index(g)))
    else:
        with pytest.raises(TypeError, match="no permutation representation"):
            rep.index(g)


@pytest.mark.parametrize(("name", "irrep"), irrep_cases())
def test_the_irreps_used_in_these_tests_are_irreducible_and_of_the_type_they_claim(name, irrep):
    assert dim_hom(irrep.representation, irrep.representation) == COPIES[irrep.kind]


@pytest.mark.parametrize("name", NAMES)
def test_the_irreps_used_in_these_tests_are_all_there_are(name):
    assert sum(v.dim**2 // COPIES[v.kind] for v in irreps(name)) == GROUPS[name].order
    for v, w in itertools.combinations(irreps(name), 2):
        assert dim_hom(v.representation, w.representation) == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_regular_representation_holds_every_irrep_as_often_as_its_dimension_over_its_type(name):
    rep = regular(GROUPS[name])
    assert character(rep).max() == GROUPS[name].order == rep.dim
    for v in irreps(name):
        assert dim_hom(rep, v.representation) == v.dim


_S3 = Symmetric(3)
_BASES = [permutation(_S3), trivial(_S3), *(v.representation for v in irreps("S_3")[1:])]


def _grow(children):
    pair = st.tuples(children, children)
    return st.one_of(
        pair.map(lambda ab: (ab[0][0] + ab[1][0], lambda g: block_diag(ab[0][1](g), ab[1][1](g)))),
        pair.map(lambda ab: (ab[0][0] * ab[1][0], lambda g: np.kron(ab[0][1](g), ab[1][1](g)))),
        st.tuples(st.integers(1, 3), children).map(
            lambda na: (na[0] * na[1][0], lambda g: block_diag(*[na[1][1](g)] * na[0]))
        ),
    )


_EXPRESSIONS = st.recursive(st.sampled_from([(b, b.matrix) for b in _BASES]), _grow, max_leaves=5)


@settings(max_examples=80)
@given(_EXPRESSIONS.filter(lambda pair: pair[0].dim <= 120), st.sampled_from(list(_S3.elements())))
def test_any_expression_in_sums_products_and_copies_has_the_matrix_it_spells(pair, g):
    rep, matrix = pair
    expected = matrix(g)
    assert rep.dim == len(expected)
    assert rep.is_permutation == all(b.is_permutation for b in _leaves(rep))
    np.testing.assert_allclose(rep.matrix(g), expected, atol=1e-13)
    x = gaussian(2, rep.dim, 2)
    np.testing.assert_allclose(rep.act(g, x, 1), expected @ x.numpy(), atol=1e-12)
    if rep.is_permutation:
        np.testing.assert_array_equal(permutation_matrix(rep.index(g)), expected)


def _leaves(rep):
    if hasattr(rep, "a"):
        return _leaves(rep.a) + _leaves(rep.b)
    if hasattr(rep, "summands"):
        return [leaf for _, base in rep.summands for leaf in _leaves(base)]
    return [rep]


@pytest.mark.parametrize("name", NAMES)
def test_hom_moves_matrices_by_conjugation(name):
    x, y = spaces(name)
    w = np.random.default_rng(3).standard_normal((y.dim, x.dim))
    for g in closure(x.group):
        expected = y.matrix(g) @ w @ np.linalg.inv(x.matrix(g))
        np.testing.assert_allclose(hom(x, y).matrix(g) @ w.ravel(), expected.ravel(), atol=1e-12)


def test_copies_of_a_representation_are_laid_out_copy_by_copy():
    node = permutation(_S3)
    g, x = (1, 2, 0), gaussian(4, 3)
    assert (4 * node).blocks == ((4, node),)
    assert (node + 3 * node + trivial(_S3)).blocks == ((4, node), (1, trivial(_S3)))
    np.testing.assert_array_equal((4 * node).act(g, x.ravel()).reshape(4, 3), node.act(g, x))


@pytest.mark.parametrize("matrix", [rotation(2 * math.pi / 5), rotation(0.3)], ids=["a fifth", "0.3 rad"])
def test_generators_that_break_a_relation_are_refused_with_the_measured_violation(matrix):
    violation = np.abs(np.linalg.matrix_power(matrix, 3) - np.eye(2)).max()
    with bad(rf"break a relation of C_3 .* up to {violation:.2e}".replace("+", r"\+")):
        from_generators(Cyclic(3), [matrix], "plane")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: from_generators(Cyclic(3), [], "x"), "0 matrices for the 1 generators of C_3"),
        (lambda: from_generators(Dihedral(4), [np.eye(2), np.eye(3)], "x"), "all must be square and equal"),
        (lambda: from_generators(Cyclic(3), [np.ones((1, 2))], "x"), "all must be square and equal"),
        (lambda: permutation(Symmetric(3)) + permutation(Symmetric(4)), "represents S_3 but perm represents S_4"),
        (lambda: permutation(Symmetric(3)) * trivial(Cyclic(3)), "represents S_3 but 1 represents C_3"),
        (lambda: hom(permutation(Symmetric(3)), trivial(Cyclic(3))), "represents C_3 but perm represents S_3"),
        (lambda: 0 * trivial(TURN), "give a positive integer"),
        (lambda: -2 * (trivial(TURN) + rotations(TURN, 2)), "give a positive integer"),
        (lambda: images(Symmetric(3), 3), "S_3 has no known action on 3 × 3 images"),
        (lambda: images(Dihedral(3), 3), "D_3 has no known action on 3 × 3 images"),
        (lambda: images(torus(4), 3), "Z_4² has no known action on 3 × 3 images"),
        (lambda: images(Cyclic(5), 3), "C_5 has no known action on 3 × 3 images"),
        (lambda: images(roto_translations(4), 3), "no known action on 3 × 3 images"),
    ],
)
def test_a_representation_that_is_none_is_refused(make, message):
    with bad(message):
        make()


@pytest.mark.parametrize("group", [Cyclic(5), Cyclic(2)], ids=str)
def test_quarter_turns_do_not_represent_a_cyclic_group_whose_order_four_does_not_divide(group):
    with bad(group.name):
        rotations(group, 3)


def test_a_semidirect_product_that_is_not_the_roto_translations_has_no_known_action():
    def reflect(h, a):
        return (-a[0] % 3, -a[1] % 3) if h else a

    with bad("no known action"):
        images(SemidirectProduct(torus(3), Cyclic(2), reflect, "C_2 ⋉ Z_3²"), 3)


@pytest.mark.parametrize(
    "matrix", [[[1.0, 1.0], [0.0, -1.0]], [[math.nan, 0.0], [0.0, 1.0]]], ids=["a skew reflection", "not a number"]
)
def test_generators_that_are_not_orthogonal_are_refused(matrix):
    with bad("orthogonal"):
        from_generators(Cyclic(2), [matrix], "skew")


# ---------------------------------------------------------------------------------------------- intertwiners


def _pairs():
    """Pairs of spaces: permutations go the way of orbits, everything else that of the null space."""
    found = {}
    for name in NAMES:
        p, one = points(name), trivial(GROUPS[name])
        found |= {
            f"{name} points": (p, p),
            f"{name} invariant": (p + one, one),
            f"{name} tensor": (p * p if p.dim < 8 else p, p + one),
            f"{name} mixed": spaces(name),
        }
        found |= {f"{name} irrep {v.name}": (p + v.representation, v.representation) for v in irreps(name)[1:]}
    return found


PAIRS = _pairs()
every_pair = pytest.mark.parametrize("name", PAIRS)


@every_pair
def test_projecting_and_embedding_is_the_group_average(name):
    source, target = PAIRS[name]
    basis = intertwiners(source, target)
    projection = average(np.kron(target.matrix(g), source.matrix(g)) for g in closure(source.group))
    every = torch.eye(target.dim * source.dim, dtype=torch.float64).unflatten(-1, (target.dim, source.dim))
    np.testing.assert_allclose(basis.embed(basis.project(every)).flatten(-2), projection, atol=1e-12)
    assert isinstance(basis, OrbitBasis) == (source.is_permutation and target.is_permutation)


@every_pair
def test_embed_is_an_isometry_and_project_its_adjoint(name):
    basis = intertwiners(*PAIRS[name])
    columns = basis.embed(torch.eye(basis.size, dtype=torch.float64)).flatten(-2)
    np.testing.assert_allclose(columns @ columns.T, np.eye(basis.size), atol=1e-13)
    weight, theta = gaussian(2, 3, *basis.shape), gaussian(2, 3, basis.size, seed=1)
    inside, outside = (basis.project(weight) * theta).sum(-1), (weight * basis.embed(theta)).sum((-2, -1))
    np.testing.assert_allclose(inside, outside, atol=1e-12)


@every_pair
def test_there_are_as_many_intertwiners_as_the_characters_say(name):
    source, target = PAIRS[name]
    assert intertwiners(source, target).size == dim_hom(source, target)


def test_four_tensor_powers_of_the_nodes_hold_15_invariants_and_two_hold_2():
    node = permutation(Symmetric(8))
    assert intertwiners(node, node).size == 2
    assert intertwiners(node * node, node * node).size == 15
    assert intertwiners(node * node * node, node).size == 15
    assert intertwiners(node * node * node * node, trivial(Symmetric(8))).size == 15


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_small_symmetric_groups_fix_fewer_vectors_until_four_nodes(n):
    node = permutation(Symmetric(n))
    blocks = dim_hom(node, node, node, node)
    assert intertwiners(node * node, node * node).size == blocks == {1: 1, 2: 8, 3: 14, 4: 15}[n]


def test_ten_nodes_are_handled_without_enumerating_the_group(monkeypatch):
    monkeypatch.setattr(Symmetric, "elements", lambda self: pytest.fail("enumerated"))
    group = Symmetric(10)
    node = permutation(group, "fresh nodes, in no cache")
    sums_to_zero = MatrixRepresentation(group, 9, restricted, "(9,1)")
    basis = intertwiners(node * node, node * node)
    assert basis.size == 15
    assert intertwiners(sums_to_zero, node).size == 1
    weight, g = basis.embed(gaussian(15)), group.sample(np.random.default_rng(0))
    moved = (node * node).act(g, (node * node).act(g, weight, 0), 1)
    np.testing.assert_array_equal(moved, weight)


def test_without_symmetry_every_matrix_is_an_intertwiner():
    group = Trivial()
    plane = MatrixRepresentation(group, 2, lambda g: np.eye(2), "plane")
    row = PermutationRepresentation(group, 3, lambda g: np.arange(3), "row")
    assert intertwiners(row, row).size == 9
    assert intertwiners(row, plane).size == 6


def test_a_null_space_beyond_the_limit_is_refused_with_its_size():
    v = MatrixRepresentation(Cyclic(2), 65, lambda g: np.eye(65) * (-1) ** g, "65 signs")
    with bad(r"has 4225 dimensions, more than the 4096"):
        intertwiners(v, v)


@pytest.mark.parametrize("n", [40, 1000])
def test_a_turn_by_a_small_angle_is_not_taken_for_the_identity(n):
    plane = from_generators(Cyclic(n), [rotation(2 * math.pi / n)], f"plane of C_{n}")
    assert intertwiners(trivial(Cyclic(n)), plane).size == 0
    assert intertwiners(plane, plane).size == 2
