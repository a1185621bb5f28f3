"""Compact Lie groups: representations, averages and irreps from generators; sectors against a dense Hessian."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from brute import bad, gaussian
from scipy.linalg import expm
from torch.func import grad, hessian

from stability import Settings, analyse
from stability.curvature.automatic import (
    augmented_hessian_from_data,
    augmented_hessian_from_group,
    group_average,
    nominal_hessian,
)
from stability.curvature.linearised import network_hessian
from stability.eigen.operator import assemble
from stability.groups import intertwiners, irreps
from stability.groups.closures import PermutationGroup, quaternion_group
from stability.groups.group import Cyclic, Dihedral, Symmetric
from stability.groups.irreps import constituents, residual_symmetry, split
from stability.groups.lie import O2, SO2, SO3, LieGroup, rotation_generators
from stability.groups.products import DirectProduct, SemidirectProduct
from stability.groups.representation import MatrixRepresentation, through, trivial
from stability.groups.sectors import sector_basis
from stability.groups.standard import defining, determinant, from_generators, harmonics, permutation
from stability.networks.classifier import Classifier
from stability.networks.losses import cross_entropy, squared
from stability.networks.network import mlp
from stability.networks.nonlinearities import Gated, Identity, Norm, Pointwise
from stability.networks.supervised import supervised
from stability.points.training import sampled_augmentation
from stability.problem.space import Samples
from stability.spectra import sectors

NAMED = [SO2(), O2(), SO3()]


def su2() -> LieGroup:
    i, j, k = np.zeros((3, 4, 4))
    i[1, 0] = i[3, 2] = j[2, 0] = j[1, 3] = k[3, 0] = k[2, 1] = 0.5
    return LieGroup([x - x.T for x in (i, j, k)], name="SU(2)")


def torus_and_turn() -> SemidirectProduct:
    """C_2 ⋉ SO(2), which is O(2) as a semidirect product."""
    return SemidirectProduct(SO2(), Cyclic(2), lambda h, a: -a % (2 * math.pi) if h else a, "C_2 ⋉ SO(2)")


GROUPS = {
    "SO(2)": SO2,
    "O(2)": O2,
    "SO(3)": SO3,
    "SU(2)": su2,
    "SO(3) × S_3": lambda: DirectProduct((SO3(), Symmetric(3))),
    "SO(2) × SO(2)": lambda: DirectProduct((SO2(), SO2())),
    "C_2 ⋉ SO(2)": torus_and_turn,
}


def vectors(group):
    """A representation in which every group above acts by more than a sign."""
    if isinstance(group, LieGroup):
        return defining(group)
    if isinstance(group, SemidirectProduct):
        return from_generators(group, [np.diag([1.0, -1.0])], "plane", [[[0, -1], [1, 0]]])
    if isinstance(group, DirectProduct) and group.factors == (SO2(), SO2()):
        return through(group, 0, harmonics(SO2(), 1)) * through(group, 1, harmonics(SO2(), 2))
    if isinstance(group, DirectProduct):
        return through(group, 1, permutation(Symmetric(3))) * through(group, 0, harmonics(SO3(), 1))
    return harmonics(group, 1)


@pytest.mark.parametrize("name", GROUPS)
def test_elements_multiply_as_their_matrices_do(name):
    group, rng = GROUPS[name](), np.random.default_rng(0)
    rho = vectors(group)
    some = [group.identity, *group.generators, *(group.sample(rng) for _ in range(3))]
    for a, b in itertools.product(some, some):
        product = rho.matrix(group.multiply(a, b))
        np.testing.assert_allclose(product, rho.matrix(a) @ rho.matrix(b), atol=1e-12)
    for a in some:
        np.testing.assert_allclose(rho.matrix(group.inverse(a)), rho.matrix(a).T, atol=1e-12)
    np.testing.assert_array_equal(rho.matrix(group.identity), np.eye(rho.dim))


@pytest.mark.parametrize("name", GROUPS)
def test_derivatives_are_those_of_the_matrices(name):
    group = GROUPS[name]()
    rho = vectors(group)
    big = 2 * rho + rho * rho
    for label in group.algebra:
        found = big.derivative(label)
        np.testing.assert_allclose(found, -found.T, atol=1e-12)
        if hasattr(group, "exp"):
            np.testing.assert_allclose(expm(0.7 * found), big.matrix(group.exp(label, 0.7)), atol=1e-12)


@pytest.mark.parametrize("degree", range(6))
def test_harmonics_of_SO3_are_an_irrep_with_the_right_character(degree):
    group, rho = SO3(), harmonics(SO3(), degree)
    assert rho.dim == 2 * degree + 1 and rho.degree == degree
    assert intertwiners(rho, rho).size == 1
    for angle in (0.3, 2.0, 3.1):
        character = sum(math.cos(m * angle) for m in range(-degree, degree + 1))
        assert np.trace(rho.matrix(group.exp(1, angle))) == pytest.approx(character, abs=1e-12)
    x, y, z = rotation_generators(degree)
    np.testing.assert_allclose(x @ y - y @ x, z, atol=1e-12)
    np.testing.assert_allclose(y @ z - z @ y, x, atol=1e-12)


def test_the_first_harmonics_turn_space_by_the_quaternion():
    w, x, y, z = SO3().sample(np.random.default_rng(3))
    expected = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    np.testing.assert_allclose(harmonics(SO3(), 1).matrix((w, x, y, z)), expected, atol=1e-13)


@pytest.mark.parametrize("group", NAMED, ids=str)
@pytest.mark.parametrize("degree", range(6))
def test_a_quadrature_integrates_every_matrix_coefficient_up_to_its_degree_and_no_further(group, degree):
    rule = list(group.quadrature(degree))
    assert len(rule) == group.nodes(degree)
    assert all(w > 0 for _, w in rule) and sum(w for _, w in rule) == pytest.approx(1, abs=1e-13)
    for k in range(1, degree + 1):
        rho = harmonics(group, k)
        assert np.abs(sum(w * rho.matrix(g) for g, w in rule)).max() < 1e-12
    beyond = [harmonics(group, k) for k in range(degree + 1, degree + 4)]
    assert max(np.abs(sum(w * rho.matrix(g) for g, w in rule)).max() for rho in beyond) > 1e-3


@pytest.mark.parametrize("group", NAMED, ids=str)
def test_a_quadrature_contains_the_inverse_of_each_of_its_elements(group):
    rho = harmonics(group, 1)
    rule = [(rho.matrix(g), w) for g, w in group.quadrature(3)]
    for m, w in rule:
        assert any(np.abs(n - m.T).max() < 1e-9 and abs(v - w) < 1e-12 for n, v in rule)


@pytest.mark.parametrize("name", GROUPS)
def test_haar_samples_average_to_the_projection_onto_invariants(name):
    group, rng = GROUPS[name](), np.random.default_rng(0)
    rho = vectors(group) * vectors(group)
    basis = intertwiners(trivial(group), rho)
    invariant = basis.embed(torch.eye(basis.size, dtype=torch.float64)).squeeze(-1).numpy()
    draws = 400
    mean = sum(rho.matrix(group.sample(rng)) for _ in range(draws)) / draws
    assert np.abs(mean - invariant.T @ invariant).max() < 5 / math.sqrt(draws)


@pytest.mark.parametrize("name", [n for n in GROUPS if n != "SU(2)"])
def test_intertwiners_from_the_generators_are_the_range_of_the_group_average(name):
    group = GROUPS[name]()
    rho = vectors(group)
    pair = rho * (rho + trivial(group))
    average = sum(w * pair.matrix(g) for g, w in group.quadrature(pair.degree))
    basis = intertwiners(rho + trivial(group), rho)
    vectors_ = basis.embed(torch.eye(basis.size, dtype=torch.float64)).flatten(1).numpy()
    np.testing.assert_allclose(vectors_.T @ vectors_, average, atol=1e-10)


@pytest.mark.parametrize(
    ("group", "counts"),
    [
        (SO2(), {"trivial": 2, "k=2": 2}),
        (O2(), {"trivial": 1, "det": 1, "k=2": 1}),
        (SO3(), {"trivial": 1, "l=1": 1, "l=2": 1}),
    ],
    ids=str,
)
def test_the_irreps_in_a_square_are_those_of_clebsch_and_gordan(group, counts):
    rho = harmonics(group, 1)
    first = list(itertools.islice(irreps(group), 6))
    assert {v.name: n for v in first if (n := sector_basis(v, rho, rho).size)} == counts
    found = split(rho * rho)
    assert sum(v.dim * count for v, count in found) == rho.dim**2
    for v, count in found:
        (name,) = (w.name for w in first if intertwiners(v.representation, w.representation).size)
        assert count * v.commutant_dim == counts[name]


def test_types_of_irreps_from_generators_are_told_apart():
    group = su2()
    half = defining(group)
    assert [(v.kind, v.dim, n) for v, n in split(half)] == [("quaternionic", 4, 1)]
    # 1/2 ⊗ 1/2 = 0 + 1, four times over the quaternions
    assert [(v.kind, v.dim, n) for v, n in split(half * half)] == [("real", 1, 4), ("real", 3, 4)]
    assert [v.name for v in constituents([half * half, half])] == ["trivial", "V1", "V2"]


def test_the_irreps_of_a_product_are_told_apart_by_both_factors():
    group = DirectProduct((SO2(), SO2()))
    some = list(itertools.islice(irreps(group), 30))
    assert some[0].is_trivial and len({v.name for v in some}) == 30
    for v, w in itertools.combinations(some[:12], 2):
        assert intertwiners(v.representation, w.representation).size == 0
    assert all(intertwiners(v.representation, v.representation).size == v.commutant_dim for v in some[:12])


def test_the_irreps_of_a_large_product_fill_its_order():
    """A_4 has complex irreps, Q_8 a quaternionic one: their products split, Σ d²/c = |G| says that none is missing."""
    a4 = PermutationGroup([(1, 2, 0, 3), (0, 2, 3, 1)], name="A_4")
    group = DirectProduct((a4, a4, quaternion_group(), Cyclic(2)))
    found = list(irreps(group))
    assert group.order == 2304
    assert sum(v.dim**2 // v.commutant_dim for v in found) == group.order
    assert len({v.name for v in found}) == len(found)
    assert {v.kind for v in found} == {"real", "complex", "quaternionic"}


def test_the_remaining_symmetry_is_named():
    assert [residual_symmetry(v) for v in itertools.islice(irreps(SO3()), 1, 3)] == ["SO(2)", "O(2)"]
    assert [residual_symmetry(v) for v in itertools.islice(irreps(O2()), 1, 4)] == ["SO(2)", "D_1", "D_2"]


# --------------------------------------------------------------------------------- networks over Lie groups


def problem(name: str, weight_decay: float = 1e-2):
    """A small network with a vector target and σ that couples scalars and vectors."""
    generator = torch.Generator().manual_seed(0)

    def data(x_dim, y_dim, n=7):
        x, y = torch.randn(n, x_dim + y_dim, generator=generator, dtype=torch.float64).split([x_dim, y_dim], 1)
        return Samples(x, y, torch.full((n,), 1 / n, dtype=torch.float64))

    group = GROUPS[name]()
    rho, one = vectors(group), trivial(group)
    if name in ("SO(2)", "O(2)", "SO(3)"):
        hidden = 4 * one + 2 * rho + 1 * harmonics(group, 2)
        network = mlp([2 * rho, hidden, 3 * one + 2 * rho, 1 * rho + 1 * one], [Gated(), Norm(), Identity()], bias=True)
    else:
        network = mlp([1 * rho, 2 * one + 1 * rho, 1 * rho], [Norm("softplus"), Identity()])
    model = Classifier(network, squared, target=network.output, decides=False)
    return supervised(name, model, data(network.input.dim, network.output.dim), weight_decay=weight_decay)


def union(case, theta):
    values = []
    for irrep, size in sectors.occurring(case.space):
        operator = network_hessian(case, theta, irrep)
        assert operator.dim == size
        block = np.linalg.eigvalsh(assemble(operator, theta).numpy()).reshape(-1, irrep.commutant_dim)
        assert np.ptp(block, axis=1).max() < 1e-10
        values.append(np.repeat(block.mean(1), irrep.dim))
    return np.sort(np.concatenate(values))


@pytest.mark.parametrize("name", [n for n in GROUPS if n != "SU(2)"])
def test_the_union_of_sectors_is_the_dense_spectrum_of_the_quadrature_augmented_risk(name):
    case = problem(name)
    theta = case.initial(1)
    at = case.space.embed(theta)
    moved = case.augmented()
    assert len(moved) == len(case.samples) * case.moves
    dense = np.linalg.eigvalsh(hessian(lambda a: case.loss(a, moved) + case.penalty(a))(at).numpy())
    found = union(case, theta)
    assert len(found) == case.space.dim
    np.testing.assert_allclose(found, dense, atol=1e-10 * np.ptp(dense))


def test_the_union_of_sectors_of_a_group_without_quadrature_is_the_average_over_haar_samples():
    case = problem("SU(2)")
    theta = case.initial(1)
    at, rng = case.space.embed(theta), np.random.default_rng(0)
    matrix = assemble(nominal_hessian(case, at), at)
    draws = 400
    total = torch.zeros_like(matrix)
    for _ in range(draws):
        g = case.group.sample(rng)
        total += case.space.act(g, case.space.act(g, matrix).mT).mT / draws
    dense, found = np.linalg.eigvalsh(total.numpy()), union(case, theta)
    assert len(found) == case.space.dim
    error = float(matrix.norm()) / math.sqrt(draws)  # E‖mean − average‖_F ≤ ‖∇²R‖_F/√K (Remark 1), and Weyl
    assert np.abs(found - dense).max() < 3 * error


@pytest.mark.parametrize("name", ["SO(2)", "O(2)", "SO(3)", "SO(3) × S_3"])
def test_data_side_group_side_and_chained_averages_are_one_hessian_on_E(name):
    case = problem(name)
    at = case.space.embed(case.initial(2))
    nominal = nominal_hessian(case, at)
    v = gaussian(3, case.space.dim)
    from_group = augmented_hessian_from_group(case, nominal)(v)
    torch.testing.assert_close(augmented_hessian_from_data(case, at)(v), from_group, atol=1e-11, rtol=1e-9)
    averaged = group_average(assemble(nominal, at), case.space, case.group)
    torch.testing.assert_close(v @ averaged, from_group, atol=1e-11, rtol=1e-9)


def test_sampled_augmentation_of_a_group_without_quadrature_is_right_on_average():
    case = problem("SU(2)")
    at, rng = case.space.embed(case.initial(0)), np.random.default_rng(0)
    passes = 300
    found = sampled_augmentation(case, passes)(at, rng)
    full = grad(case.risk)(at)
    # Remark 1: E‖error‖² = ‖Π_{E⊥}∇R‖²/K, and Prop. 1: the mean is Π_E∇R.
    law = float(case.space.transverse_part(full).norm()) / math.sqrt(passes)
    error = found - case.space.equivariant_part(full)
    assert float(case.space.equivariant_part(error).norm()) < 1e-12
    assert 0.1 * law < float(error.norm()) < 3 * law


def test_a_finite_group_too_large_to_decompose_is_split_from_its_generators():
    group = PermutationGroup([(1, 2, 0, 3, 4, 5, 6), (0, 1, 3, 4, 5, 6, 2)], name="A_7")
    assert group.order == 2520
    rho, one = permutation(group), trivial(group)
    network = mlp([rho, 2 * rho, one], [Pointwise("tanh"), Identity()], bias=True)
    data = Samples(gaussian(5, 7), gaussian(5, 1, seed=1), torch.full((5,), 0.2, dtype=torch.float64))
    case = supervised("A_7", Classifier(network, squared, target=one, decides=False), data, weight_decay=0.01)
    theta = case.initial(0)
    at = case.space.embed(theta)
    averaged = group_average(assemble(nominal_hessian(case, at), at), case.space, group)
    np.testing.assert_allclose(union(case, theta), np.linalg.eigvalsh(averaged.numpy()), atol=1e-11)


def test_a_finer_quadrature_gives_the_same_hessian_on_E_and_another_one_off_E():
    case = problem("SO(2)")
    v, group = gaussian(1, case.space.dim)[0], case.group

    def product(at, degree):
        total = case.weight_decay * v
        for g, w in group.quadrature(degree):
            x, y, weight = case.transform(g, case.samples)
            moved = Samples(x, y, weight * w)
            total = total + torch.autograd.functional.hvp(lambda a, m=moved: case.loss(a, m), at, v)[1]
        return total

    on = case.space.embed(case.initial(2))
    off = on + gaussian(case.space.dim, seed=5)
    torch.testing.assert_close(product(on, case.degree), product(on, 3 * case.degree), atol=1e-12, rtol=1e-10)
    assert (product(off, case.degree) - product(off, 3 * case.degree)).norm() > 1e-8


@pytest.mark.parametrize("name", ["SO(2)", "O(2)", "SO(3)"])
def test_the_whole_analysis_runs_and_its_identities_hold(name):
    outcome = analyse(problem(name), Settings(points=1, escape_iterations=5))
    found = outcome.analysis
    assert found.group["order"] is None
    measured = {k: v for k, v in found.identities.items() if k not in ("reasons", "feature_average_gap")}
    assert max(measured.values()) < 1e-8
    assert found.identities["feature_average_gap"] >= 0
    assert max(found.assumptions.values()) < 1e-10
    assert sum(s.dim * s.multiplicity for s in found.sectors) == found.dims["L"]
    # Rotations of single copies, which no norm can see: without them these points would look degenerate. They commute
    # with SO(2), but a reflection or another axis turns them round.
    turned = {d.space for d in found.flat_directions if d.name.startswith("exchange")}
    assert turned == ({"E"} if name == "SO(2)" else {"E_perp"})
    assert found.verdict.eqv.status == "stable"
    assert found.verdict.transverse.status in ("stable", "unstable")
    assert '"order": null' in found.to_json()


def test_a_group_without_quadrature_is_judged_by_sectors_and_says_what_is_missing():
    case = problem("SU(2)")
    found = analyse(case, Settings(points=1)).analysis
    assert found.verdict.transverse.status != "undecided"
    assert found.point.risk["aug"] is None
    assert "no quadrature" in found.identities["reasons"]["lemma4"]


@pytest.mark.parametrize("group", NAMED, ids=str)
@pytest.mark.parametrize("sigma", [Norm("tanh"), Norm("softplus"), Norm("gelu", 0.3), Gated("tanh"), Gated("gelu")])
def test_norm_and_gated_nonlinearities_commute_with_the_group_and_are_smooth_at_zero(group, sigma):
    space = 4 * trivial(group) + 2 * harmonics(group, 1) + 1 * harmonics(group, 2)
    rng, x = np.random.default_rng(0), gaussian(5, space.dim)
    for g in (*group.generators, group.sample(rng)):
        torch.testing.assert_close(sigma(space.act(g, x), space), space.act(g, sigma(x, space)), atol=1e-13, rtol=0)
    zero = torch.zeros(1, space.dim, dtype=torch.float64)
    second = hessian(lambda z: sigma(z, space).sum())(zero)
    assert torch.isfinite(second).all()


def test_an_elementwise_sigma_on_vectors_is_refused_and_a_norm_named_instead():
    case = problem("SO(2)")
    rho = harmonics(SO2(), 1)
    network = mlp([2 * rho, 2 * rho, rho + trivial(SO2())], [Pointwise("tanh"), Identity()])
    model = Classifier(network, squared, target=network.output, decides=False)
    wrong = supervised("wrong", model, case.samples)
    with bad("equivariant_nonlinearities fails.*norm nonlinearity"):
        analyse(wrong)


# ------------------------------------------------------------------------------------------------ bad input


def test_matrices_that_are_no_representation_are_refused_with_the_measured_violation():
    with bad("not skew .*2.00e"):
        from_generators(SO2(), [], "shear", [[[0, 1], [1, 0]]])
    with bad("break a relation of SO"):
        from_generators(SO2(), [], "half", [[[0, -0.5], [0.5, 0]]])
    i, j, k = np.zeros((3, 4, 4))
    i[1, 0] = i[3, 2] = j[2, 0] = j[1, 3] = k[3, 0] = k[2, 1] = 0.5
    with bad("break a relation of SO"):
        from_generators(SO3(), [], "spinor", [x - x.T for x in (i, j, k)])
    with bad("1 skew and 0 orthogonal matrices; O"):
        from_generators(O2(), [], "plane", [[[0, -1], [1, 0]]])
    with bad("a bracket by"):
        from_generators(su2(), [], "scaled", [2 * x for x in su2().skew])


def test_a_lie_algebra_that_is_none_is_refused():
    x, y, _ = rotation_generators(1)
    with bad("leave the span of the skew matrices"):
        LieGroup([x, y])
    with bad("linearly dependent"):
        LieGroup([x, 2 * x])
    with bad("not skew"):
        LieGroup([np.eye(2)])
    with bad("not orthogonal"):
        LieGroup([[[0, -1], [1, 0]]], [2 * np.eye(2)])
    with bad("infinitely many elements"):
        list(SO3().elements())
    with bad("no quadrature is known"):
        su2().averaging(2)


def test_a_plain_function_of_elements_finds_its_own_derivative():
    rho = MatrixRepresentation(SO3(), 5, harmonics(SO3(), 2).matrix, "five")
    for label in SO3().algebra:
        np.testing.assert_allclose(rho.derivative(label), harmonics(SO3(), 2).derivative(label), atol=1e-10)
    assert rho.degree == 2


def test_a_finite_group_inside_gives_more_equivariant_maps():
    """D_4 in O(2): V_1 ⊗ V_3 holds no invariant of O(2), but one of D_4."""
    group = O2()
    assert intertwiners(harmonics(group, 1), harmonics(group, 3)).size == 0
    turn, flip = harmonics(group, 3).matrix((math.pi / 2, 0)), harmonics(group, 3).matrix((0.0, 1))
    third = from_generators(Dihedral(4), [turn, flip], "third")
    first = from_generators(Dihedral(4), [harmonics(group, 1).matrix((math.pi / 2, 0)), flip], "first")
    assert intertwiners(first, third).size == 1
    assert intertwiners(determinant(group), trivial(group)).size == 0


def test_cross_entropy_under_rotations_is_an_invariant_task():
    group = SO3()
    rho, one = harmonics(group, 1), trivial(group)
    network = mlp([2 * rho, 3 * one + 3 * rho, 2 * one], [Gated(), Identity()], bias=True)
    x = gaussian(20, 6)
    y = (x.square().sum(1) > 6).long()
    case = supervised("shells", Classifier(network, cross_entropy), Samples(x, y, torch.full((20,), 0.05).double()))
    found = analyse(case, Settings(at="init")).analysis
    assert "softmax shift 1⊗v" in {d.name for d in found.flat_directions}
