"""Irreps and sectors are proved complete; Lie algebras by any basis; closures that never end are refused."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from brute import bad

import stability
from analyses.signs.symmetries import FINITE
from stability.base.errors import Unproved
from stability.groups import intertwiners, irreps
from stability.groups.closures import MatrixGroup, PermutationGroup, quaternion_group
from stability.groups.counting import haar, trace
from stability.groups.finite import prove, real_irreps, table
from stability.groups.group import Cyclic, Dihedral, Group, Symmetric
from stability.groups.irreps import Irrep, split
from stability.groups.lie import LieGroup
from stability.groups.orthogonal import fraction
from stability.groups.products import DirectProduct, SemidirectProduct
from stability.groups.representation import Representation, trivial
from stability.groups.sectors import sector_basis
from stability.groups.standard import defining, from_generators, permutation, regular
from stability.layers import make_layer
from stability.problem.space import ParameterSpace
from stability.spectra import sectors

EIGHT_FLIPS = [4, 8, 40, 29, 10, 55, 5, 14]


def flips(bits: list[int], n: int) -> MatrixGroup:
    return MatrixGroup([np.diag([-1.0 if b >> i & 1 else 1.0 for i in range(n)]) for b in bits], name=f"flips of R^{n}")


def space(source: Representation, target: Representation) -> ParameterSpace:
    return ParameterSpace((make_layer("A", source, target, False),))


def turn(angle: float, n: int = 2, i: int = 0, j: int = 1) -> np.ndarray:
    found = np.eye(n)
    found[i, i] = found[j, j] = math.cos(angle)
    found[j, i], found[i, j] = math.sin(angle), -math.sin(angle)
    return found


def infinitesimal(i: int, j: int, n: int = 4) -> np.ndarray:
    x = np.zeros((n, n))
    x[j, i], x[i, j] = 1.0, -1.0
    return x


# --------------------------------------------------------------------------------------- irreps of finite groups

COUNTS = {
    # dimension and type ↦ how many, from the character tables in the literature
    "2T": {(1, "real"): 1, (2, "complex"): 1, (3, "real"): 1, (4, "complex"): 1, (4, "quaternionic"): 1},
    "2O": {(1, "real"): 2, (2, "real"): 1, (3, "real"): 2, (4, "quaternionic"): 2, (8, "quaternionic"): 1},
    "2I": {
        (1, "real"): 1,
        (3, "real"): 2,
        (4, "real"): 1,
        (5, "real"): 1,
        (4, "quaternionic"): 2,
        (8, "quaternionic"): 1,
        (12, "quaternionic"): 1,
    },
    "Dic_5": {(1, "real"): 2, (2, "complex"): 1, (2, "real"): 2, (4, "quaternionic"): 2},
    "H_3": {(1, "real"): 2, (3, "real"): 4, (4, "real"): 2, (5, "real"): 2},
    "B_3": {(1, "real"): 4, (2, "real"): 2, (3, "real"): 4},
}


@pytest.mark.parametrize("name", COUNTS)
def test_irreps_of_polyhedral_groups_are_those_of_their_character_tables(name):
    found: dict[tuple[int, str], int] = {}
    for v in irreps(MatrixGroup(FINITE[name], name=name)):
        found[v.dim, v.kind] = found.get((v.dim, v.kind), 0) + 1
    assert found == COUNTS[name]


def test_a_group_of_64_flips_by_eight_generators_has_64_characters():
    found = list(irreps(flips(EIGHT_FLIPS, 6)))
    assert [(v.dim, v.kind) for v in found] == [(1, "real")] * 64


# Every kind of group once: irreps that are not listed in closed form are proved complete on all of its elements.
PROVED: dict[str, Group] = {
    "Z_2^7": flips([1, 2, 4, 8, 16, 32, 64, 127, 3], 7),
    "Q_8 × D_4": DirectProduct((quaternion_group(), Dihedral(4))),
    "D_3 × D_4": DirectProduct((Dihedral(3), Dihedral(4))),
    "C_3 × C_4": PermutationGroup(
        [(1, 2, 0, 3, 4, 5, 6), (0, 1, 2, 4, 5, 6, 3), (0, 1, 2, 3, 4, 5, 6), (2, 0, 1, 4, 5, 6, 3)]
    ),
    "F_21": SemidirectProduct(Cyclic(7), Cyclic(3), lambda h, a: a * pow(2, h, 7) % 7, "F_21"),
}


@pytest.mark.parametrize("name", PROVED)
def test_whatever_the_group_its_irreps_multiply_and_are_orthogonal_on_every_pair_of_elements(name):
    """By brute force: complete means that matrix coefficients span all functions on G."""
    group = PROVED[name]
    members = list(group.elements())
    found = list(irreps(group))
    some = np.random.default_rng(0).choice(len(members), (20, 2))
    columns = []
    for v in found:
        rho = v.representation
        for a, b in some:
            product = rho.matrix(group.multiply(members[a], members[b]))
            np.testing.assert_allclose(product, rho.matrix(members[a]) @ rho.matrix(members[b]), atol=1e-10)
        columns.append(np.array([rho.matrix(g).ravel() for g in members]))
    spanned = np.linalg.svd(np.concatenate(columns, axis=1), compute_uv=False)
    assert (spanned > 1e-6).sum() == len(members)
    assert sum(v.dim**2 // v.commutant_dim for v in found) == len(members)


def test_two_real_characters_do_not_pass_for_one_complex_irrep():
    group = flips([1, 2], 2)
    known = table(group)
    found = real_irreps(group)
    first, second = found[:2]
    merged = np.zeros((4, 2, 2))
    merged[:, 0, 0], merged[:, 1, 1] = first.character, second.character
    fake = replace(
        first,
        character=first.character + second.character,
        kind="complex",
        form=replace(first.form, matrices=merged),
    )
    with pytest.raises(Unproved, match="Frobenius–Schur"):
        prove(known, [fake, *found[2:]])
    with pytest.raises(Unproved, match="3 irreps with Σ d²/c = 3"):
        prove(known, found[1:])
    with pytest.raises(Unproved):
        prove(known, [*found[1:], found[1]])


def test_what_is_no_group_is_refused_before_anything_is_split():
    with bad("its products are no group's"):  # doubling twice is no identity modulo five
        table(SemidirectProduct(Cyclic(5), Cyclic(2), lambda h, a: 2 * a % 5 if h else a, "C_5 ⋊ C_2"))

    class Half(Cyclic):
        @property
        def generators(self) -> tuple[int, ...]:
            return (2,)

    with bad("the generators reach 3 of 6 elements"):
        table(Half(6))


# ------------------------------------------------------------------------------------------------- sectors of L


def test_no_entry_off_the_diagonal_is_missed_under_eight_flips():
    group = flips(EIGHT_FLIPS, 6)
    rho = defining(group)
    found = list(sectors.occurring(space(rho, rho)))
    assert sum(v.dim * size // v.commutant_dim for v, size in found) == 36
    for i, j in itertools.permutations(range(6), 2):
        w = torch.zeros(1, 36, dtype=torch.float64)
        w[0, 6 * i + j] = 1
        held = [float(sectors.lower(space(rho, rho), v, w).norm()) for v, _ in found if v.dim == 1 and not v.is_trivial]
        assert sum(h > 1e-6 for h in held) == 1


def test_one_curvature_of_minus_one_is_found_wherever_it_is():
    group = flips(EIGHT_FLIPS, 6)
    rho = defining(group)
    for i, j in [(0, 1), (3, 5), (5, 2)]:

        def risk(p, i=i, j=j):
            return 1 + 0.5 * ((p["W"] - torch.eye(6).double()) ** 2).sum() - p["W"][i, j] ** 2

        problem = stability.from_risk(risk, {"W": torch.eye(6, dtype=torch.float64)}, {"W": (rho, rho)}, name="flips")
        found = stability.analyse(problem, points=1, escape_iterations=0).analysis
        assert found.verdict.transverse.status == "unstable"
        assert sum(s.negative_count for s in found.sectors) == 1


def test_a_list_with_a_merged_irrep_is_an_error_that_names_the_group(monkeypatch):
    """The old fault, put back by hand: trivial ⊕ sign as one irrep "of complex type"."""
    group = flips([1, 2], 2)
    true = list(irreps(group))
    images = [np.diag([1.0, true[1].representation.matrix(g)[0, 0]]) for g in group.generators]
    merged = Irrep("V1", from_generators(group, images, "V1"), "complex")
    monkeypatch.setattr(sectors, "irreps", lambda g: iter([true[0], merged, *true[2:]]))
    rho = regular(group)
    with pytest.raises(Unproved, match="flips of R\\^2"):
        list(sectors.occurring(space(rho, rho)))
    # Characters that count the same wrong irrep agree with its basis; the random vector does not.
    monkeypatch.setattr(sectors, "haar", lambda g, d: None)
    with pytest.raises(Unproved, match="of a random vector|in all, L has"):
        list(sectors.occurring(space(rho, rho)))


def test_a_stabiliser_that_a_dozen_draws_do_not_generate_is_drawn_again():
    """Z_2^5 on the swaps of five pairs: on quadruples some of its stabilisers were missed, and the run ended there."""
    group = PermutationGroup([tuple(i ^ 1 if i // 2 == k else i for i in range(10)) for k in range(5)], name="Z_2^5")
    nodes = permutation(group)
    pairs = nodes * nodes
    members = list(group.elements())
    for v in list(irreps(group))[:6]:
        chi = sum(trace(v.representation, g) * trace(pairs, g) * trace(nodes, g) for g in members) / len(members)
        assert sector_basis(v, pairs, nodes).size == round(chi)


@pytest.mark.parametrize("n", [3, 4, 5])
def test_class_weights_of_the_symmetric_group_average_as_all_its_elements_do(n):
    group = Symmetric(n)
    rho = permutation(group) * permutation(group)
    everyone = np.mean([trace(rho, g) ** 2 for g in group.elements()])
    assert sum(w * trace(rho, g) ** 2 for g, w in haar(group, 0)) == pytest.approx(everyone)


# --------------------------------------------------------------------------------------------------- Lie groups

SO4 = [infinitesimal(i, j) for i in range(4) for j in range(i)]
LEFT = [
    (infinitesimal(0, 1) + infinitesimal(2, 3)) / 2,
    (infinitesimal(0, 2) + infinitesimal(3, 1)) / 2,
    (infinitesimal(0, 3) + infinitesimal(1, 2)) / 2,
]
CENTRE = infinitesimal(0, 1) - infinitesimal(2, 3)
# Hom(R⁴, R⁴): dim E and (dim, type, size) of the other sectors, by hand from 4 ⊗ 4.
ALGEBRAS = {
    "SO(4)": (SO4, 1, [(3, "real", 1), (3, "real", 1), (9, "real", 1)]),
    "SU(2)": (LEFT, 4, [(3, "real", 4)]),
    "U(2)": ([*LEFT, CENTRE], 2, [(2, "complex", 2), (3, "real", 2), (6, "complex", 2)]),
    "T²": ([infinitesimal(0, 1), infinitesimal(2, 3)], 4, [(2, "complex", n) for n in (2, 2, 4, 4)]),
}


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("condition", [1.0, 1e5])
@pytest.mark.parametrize("name", ALGEBRAS)
def test_sectors_do_not_depend_on_the_basis_of_the_lie_algebra(name, condition, scale):
    basis, fixed, others = ALGEBRAS[name]
    rng, k = np.random.default_rng(3), len(basis)
    left, right = (np.linalg.qr(rng.standard_normal((k, k)))[0] for _ in range(2))
    mixed = scale * left @ np.diag(np.geomspace(1, 1 / condition, k)) @ right
    rho = defining(LieGroup([sum(c * x for c, x in zip(row, basis, strict=True)) for row in mixed], name=name))
    found = list(sectors.occurring(space(rho, rho)))
    assert space(rho, rho).dim_equivariant == fixed
    assert sorted((v.dim, v.kind, n) for v, n in found if not v.is_trivial) == sorted(others)


@pytest.mark.parametrize("eps", [1.0, 1e-3, 3e-5, 1e-5])
def test_a_plane_that_moves_is_moved_however_the_torus_is_given(eps):
    one, two = infinitesimal(0, 1), infinitesimal(2, 3)
    group = LieGroup([one, one + eps * two], name="torus")
    plane = from_generators(group, [], "plane 34", [np.zeros((2, 2)), eps * infinitesimal(0, 1, 2)])
    assert intertwiners(trivial(group), plane).size == 0
    assert intertwiners(plane, plane).size == 2
    samples = [plane.matrix(group.sample(np.random.default_rng(s))) for s in range(300)]
    assert np.abs(np.mean(samples, axis=0)).max() < 0.2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LieGroup([SO4[0], SO4[0] + 1e-9 * SO4[5]]), "linearly dependent up to"),
        (lambda: LieGroup([SO4[0], 0 * SO4[0]]), "skew matrix 1 is zero"),
        (lambda: LieGroup([1e-12 * SO4[0], 1e12 * SO4[1]]), "leave the span"),
        (lambda: LieGroup([1e-12 * np.eye(4)]), "not skew"),
        (
            lambda: LieGroup([infinitesimal(0, 1) + math.sqrt(2) * infinitesimal(2, 3)]),
            "ratio 1.41421356237.*not closed",
        ),
        (lambda: LieGroup([infinitesimal(0, 1)], [turn(1.0, 4, 2, 3)]), "discrete generator 0 turns a plane by 0.159"),
    ],
    ids=["near-duplicates", "zero", "not closed", "tiny and not skew", "winding", "infinite components"],
)
def test_an_algebra_that_says_nothing_sure_is_refused(make, message):
    with bad(message):
        make()


def test_the_mends_that_refusals_name_work():
    group = LieGroup([infinitesimal(0, 1), infinitesimal(2, 3)])
    assert intertwiners(defining(group), defining(group)).size == 4
    assert LieGroup([infinitesimal(0, 1) + 1.5 * infinitesimal(2, 3)]).order is None
    assert LieGroup([infinitesimal(0, 1, 2)]).order is None


def test_a_sum_of_two_irreps_is_not_split_as_one_of_complex_type():
    group = quaternion_group()
    signs = [v.representation for v in irreps(group) if v.dim == 1]
    assert [(v.dim, v.kind, n) for v, n in split(signs[1] + signs[2])] == [(1, "real", 1), (1, "real", 1)]


# ------------------------------------------------------------------------------------------------ matrix groups


def mirror(angle: float) -> np.ndarray:
    c, s = math.cos(2 * angle), math.sin(2 * angle)
    return np.array([[c, s], [s, -c]])


@pytest.mark.parametrize(
    ("generators", "message"),
    [
        ([turn(1.0)], "generator 0 turns a plane by 0.159154943092 of a full turn.*LieGroup"),
        ([turn(2 * math.pi * math.sqrt(2))], "generator 0 turns a plane by 0.414213562373"),
        ([mirror(0.0), mirror(0.3)], "a product of the generators turns"),
        ([turn(math.pi / 2, 3), turn(0.7, 3, 1, 2) @ turn(math.pi / 2, 3) @ turn(-0.7, 3, 1, 2)], "a product"),
        ([turn(2 * math.pi / 5 + 3e-5)], "1/5 is missed by 4.77e-06.*12 digits"),
    ],
    ids=["one radian", "√2 turns", "two mirrors", "two quarter turns", "nearly a fifth"],
)
def test_a_closure_that_never_ends_is_refused_within_seconds(generators, message):
    start = time.perf_counter()
    with bad(message):
        _ = MatrixGroup(generators).order
    assert time.perf_counter() - start < 5


def signed(n: int) -> list[np.ndarray]:
    return [np.roll(np.eye(n), 1, 0), np.eye(n)[[1, 0, *range(2, n)]], np.diag([-1.0] + [1.0] * (n - 1))]


@pytest.mark.parametrize(
    ("generators", "order"),
    [(signed(4), 384), (signed(5), 3840), ([turn(2 * math.pi / 4001)], 4001), (FINITE["2I"], 120)],
    ids=["B_4", "B_5", "C_4001", "2I"],
)
def test_groups_of_thousands_of_elements_are_closed(generators, order):
    assert MatrixGroup(generators).order == order


def test_generators_of_nine_digits_are_made_to_multiply_exactly():
    group: Group = MatrixGroup([m.round(9) for m in FINITE["H_3"]], name="H_3")
    assert group.order == 120
    rng = np.random.default_rng(0)
    for _ in range(200):
        a, b = group.sample(rng), group.sample(rng)
        product = group.matrix_of(a) @ group.matrix_of(b)
        np.testing.assert_allclose(group.matrix_of(group.multiply(a, b)), product, atol=1e-13)


@pytest.mark.parametrize("x", [1 / 3, 2 / 5, 7 / 99_991, 0.0, 1 / 2])
def test_fractions_are_told_from_irrational_shares(x):
    assert fraction(x) is not None
    assert float(fraction(x)) == pytest.approx(x, abs=1e-15)
    assert fraction(x + math.pi / 1000) is None
