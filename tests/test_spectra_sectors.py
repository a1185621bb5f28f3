"""The union of all sectors is the dense spectrum of the Hessian on augmented data, eigenvalue by eigenvalue."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from problems import REPRESENTATIONS, classification, point_of_e, regression
from torch.func import grad, hessian

from stability.curvature import assembly
from stability.curvature.automatic import nominal_hessian
from stability.curvature.linearised import network_hessian
from stability.eigen.operator import assemble
from stability.eigen.spectrum import Eigenvalue, Spectrum
from stability.groups import (
    Cyclic,
    Dihedral,
    DirectProduct,
    MatrixRepresentation,
    Symmetric,
    character,
    defining,
    images,
    irreps,
    permutation,
    quaternion_group,
    regular,
    rotations,
    roto_translations,
    sector_basis,
    torus,
    trivial,
    trivial_irrep,
)
from stability.layers import FourierLayer, Layer, fourier
from stability.networks.classifier import Classifier
from stability.networks.losses import logistic, squared
from stability.networks.network import mlp
from stability.networks.nonlinearities import Chain, Identity, LayerNorm, Pointwise
from stability.networks.supervised import supervised
from stability.problem.space import Samples
from stability.spectra import sectors

REPRESENTATIONS |= {
    "C_6": lambda: regular(Cyclic(6)),
    "S_3": lambda: permutation(Symmetric(3)),
    "S_5": lambda: permutation(Symmetric(5)),
}
MAKERS = [classification, regression]


def linear_matrix_problem():
    """Q_8 by its own 4×4 matrices, no permutations anywhere but in the last space, quadratic loss."""
    group = quaternion_group()
    rho, one = defining(group), trivial(group)
    network = mlp([2 * rho, 1 * rho + 2 * one, 1 * rho], [Identity(), Identity()])
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, 8, generator=generator, dtype=torch.float64)
    y = torch.randn(12, 4, generator=generator, dtype=torch.float64)
    weight = torch.full((12,), 1 / 12, dtype=torch.float64)
    model = Classifier(network, squared, target=1 * rho, decides=False)
    return supervised("Q_8 by matrices", model, Samples(x, y, weight), weight_decay=0.1)


def union(problem):
    """All eigenvalues of all sectors with their multiplicities in L."""
    theta, values = problem.initial(1), []
    for irrep in irreps(problem.group):
        operator = network_hessian(problem, theta, irrep)
        assert operator.dim % irrep.commutant_dim == 0
        if operator.dim == 0:
            continue
        block = np.linalg.eigvalsh(assemble(operator, theta).numpy())
        clusters = block.reshape(-1, irrep.commutant_dim)
        assert np.ptp(clusters, axis=1).max() <= 1e-11 * max(np.ptp(block), 1e-300) + 1e-13
        values.append(np.repeat(clusters.mean(1), irrep.dim))
    return np.sort(np.concatenate(values))


def check_union(problem):
    at = point_of_e(problem)
    dense = np.linalg.eigvalsh(hessian(problem.augmented_risk)(at).numpy())
    found = union(problem)
    assert len(found) == len(dense) == problem.space.dim
    np.testing.assert_allclose(found, dense, atol=1e-10 * np.ptp(dense))


@pytest.mark.parametrize("name", REPRESENTATIONS)
@pytest.mark.parametrize("maker", MAKERS)
def test_the_union_of_all_sectors_is_the_spectrum_of_the_hessian_on_augmented_data(maker, name):
    check_union(maker(name))


def test_the_union_holds_for_matrix_representations_of_quaternionic_type():
    check_union(linear_matrix_problem())


@pytest.mark.parametrize("name", REPRESENTATIONS)
@pytest.mark.parametrize("maker", MAKERS)
def test_the_handwritten_nominal_product_is_the_automatic_one(maker, name):
    problem = maker(name, samples=40)
    theta = problem.initial(1)
    v = torch.randn(3, problem.space.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = nominal_hessian(problem, problem.space.embed(theta))(v)
    for chunk in (16, 1000):
        found = network_hessian(problem, theta, None, chunk)(v)
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-11)


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_multiplicities_are_character_inner_products(name):
    rho = REPRESENTATIONS[name]()
    group = rho.group
    elements = list(group.elements())
    lifted = np.array([np.trace(rho.matrix(g)) ** 2 for g in elements])
    total = 0
    for irrep in irreps(group):
        chi = np.array([character(irrep, g) for g in elements])
        size = sector_basis(irrep, rho, rho).size
        assert size == round(float(np.mean(chi * lifted)))
        total += irrep.dim * size // irrep.commutant_dim
    assert total == rho.dim**2


def test_fourth_tensor_power_of_the_nodes_has_the_closed_form_multiplicities():
    nodes = permutation(Symmetric(8))
    rho, total, found = nodes * nodes, 0, {}
    for irrep in irreps(nodes.group):
        found[irrep.name] = sector_basis(irrep, rho, rho).size
        total += irrep.dim * found[irrep.name]
        if total == rho.dim**2:
            break
    tableaux = {"trivial": 1, "(7,1)": 1, "(6,2)": 1, "(6,1,1)": 1, "(5,3)": 1, "(5,2,1)": 2, "(5,1,1,1)": 1}
    tableaux |= {"(4,4)": 1, "(4,3,1)": 3, "(4,2,2)": 2, "(4,2,1,1)": 3, "(4,1,1,1,1)": 1}
    copies = [15, 37, 31, 10, 1]
    for name, f in tableaux.items():
        k = 0 if name == "trivial" else 8 - int(name[1])
        assert found[name] == f * copies[k]
    assert total == rho.dim**2 and {n for n, m in found.items() if m} == set(tableaux)


GROUPS = {
    "C_1": Cyclic(1), "C_2": Cyclic(2), "C_5": Cyclic(5), "C_6": Cyclic(6), "Z_3²": torus(3), "D_3": Dihedral(3),
    "D_4": Dihedral(4), "D_5": Dihedral(5), "S_1": Symmetric(1), "S_2": Symmetric(2), "S_3": Symmetric(3),
    "S_4": Symmetric(4), "S_5": Symmetric(5), "C_4 ⋉ Z_2²": roto_translations(2), "C_4 ⋉ Z_3²": roto_translations(3),
    "Q_8": quaternion_group(),
}  # fmt: skip


@pytest.mark.parametrize("group", GROUPS.values(), ids=GROUPS)
def test_irreps_multiply_like_the_group_and_their_characters_are_orthogonal(group):
    elements, found = list(group.elements()), list(irreps(group))
    rng = np.random.default_rng(0)
    for irrep in found:
        for _ in range(10):
            g, h = (elements[i] for i in rng.integers(len(elements), size=2))
            product = irrep.representation.matrix(g) @ irrep.representation.matrix(h)
            np.testing.assert_allclose(irrep.representation.matrix(group.multiply(g, h)), product, atol=1e-10)
            np.testing.assert_allclose(product @ product.T, np.eye(irrep.dim), atol=1e-10)
    chi = np.array([[character(v, g) for g in elements] for v in found])
    np.testing.assert_allclose(chi @ chi.T / len(elements), np.diag([v.commutant_dim for v in found]), atol=1e-9)
    assert sum(v.dim**2 // v.commutant_dim for v in found) == len(elements)
    # Frobenius and Schur: the mean of χ(g²) is 1, 0, −2.
    squares = np.array([[character(v, group.multiply(g, g)) for g in elements] for v in found]).mean(1)
    np.testing.assert_allclose(squares, [{1: 1, 2: 0, 4: -2}[v.commutant_dim] for v in found], atol=1e-9)
    assert [v.is_trivial for v in found] == [True] + [False] * (len(found) - 1)


def test_a_signed_representation_that_is_no_permutation_has_the_right_sectors():
    group = Symmetric(3)
    sign = next(v for v in irreps(group) if v.name == "(1,1,1)").representation
    rho = MatrixRepresentation(group, 3, lambda g: permutation(group).matrix(g) * sign.matrix(g)[0, 0], "signed")
    for irrep in irreps(group):
        basis = sector_basis(irrep, rho, rho)
        # Signs cancel in Hom(ρ, ρ): the same multiplicities as without them.
        assert basis.size == sector_basis(irrep, permutation(group), permutation(group)).size


def invariant_network(name, samples=9):
    """2·ρ → 3·ρ [softplus] → 4·1 [tanh, LayerNorm] → 2·1 [tanh] → 1: one equivariant hidden layer, then a head."""
    rho = REPRESENTATIONS[name]()
    one = trivial(rho.group)
    network = mlp(
        [2 * rho, 3 * rho, 4 * one, 2 * one, 1 * one],
        [Pointwise("softplus"), Chain((Pointwise("tanh"), LayerNorm(0.1))), Pointwise("tanh"), Identity()],
    )
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(samples, 2 * rho.dim, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 2, (samples,), generator=generator).double()
    weight = torch.full((samples,), 1 / samples, dtype=torch.float64)
    return supervised(name, Classifier(network, logistic), Samples(x, y, weight), weight_decay=1e-2)


@pytest.mark.parametrize("name", ["D_4", "S_4", "S_3 on pairs", "C_4 ⋉ Z_2²", "Q_8"])
def test_a_block_assembled_sample_by_sample_is_the_block_of_products(name, monkeypatch):
    problem = invariant_network(name)
    theta = problem.initial(2)
    for irrep in irreps(problem.group):
        operator = network_hessian(problem, theta, irrep)
        if irrep.is_trivial or not operator.dim:
            assert not assembly.applies(problem, trivial_irrep(problem.group))
            continue
        assert assembly.applies(problem, irrep)
        products = assemble(operator, theta)
        scale = float(products.abs().max())
        for size in (1e9, 1e3):  # one chunk, and many
            monkeypatch.setattr(assembly, "CHUNK_BYTES", size)
            assert float((assembly.sector_matrix(problem, theta, irrep) - products).abs().max()) <= 1e-13 * scale


def test_groups_with_structured_layers_are_not_assembled_sample_by_sample():
    problem = invariant_network("Z_3²")
    assert not any(assembly.applies(problem, irrep) for irrep in irreps(problem.group))


FOURIER = {
    "C_6 regular": lambda: regular(Cyclic(6)),
    "C_4 on 3×3, centre fixed": lambda: rotations(Cyclic(4), 3),
    "C_4 on 4×4": lambda: rotations(Cyclic(4), 4),
    "Z_3²": lambda: images(torus(3), 3),
    "Z_4²": lambda: images(torus(4), 4),
    "rows of 3×3": lambda: images(Cyclic(3), 3),
    "Z_2 × Z_4": lambda: regular(DirectProduct((Cyclic(2), Cyclic(4)))),
}


def fourier_layer(name):
    rho = FOURIER[name]()
    one = trivial(rho.group)
    return FourierLayer("f", 2 * rho + 1 * one, 1 * one + 3 * rho)


@pytest.mark.parametrize("name", FOURIER)
def test_fourier_coordinates_are_an_orthonormal_basis_of_the_g_maps(name):
    layer = fourier_layer(name)
    plain = Layer("plain", layer.source, layer.target)
    for irrep in irreps(layer.source.group):
        size = layer.size(irrep)
        assert size == plain.size(irrep)
        unit = torch.eye(size, dtype=torch.float64)
        partners = layer.embed(unit, irrep)
        flat = partners.flatten(1)
        torch.testing.assert_close(flat @ flat.mT / irrep.dim, unit, atol=1e-12, rtol=0)
        # The same space as the general basis spans: projecting onto that one loses nothing.
        back = plain.embed(plain.adjoint_embed(partners, irrep) / irrep.dim, irrep)
        torch.testing.assert_close(back, partners, atol=1e-11, rtol=0)
        weight = torch.randn(2, *partners.shape[1:], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(layer.adjoint_embed(weight, irrep), weight.flatten(1) @ flat.mT, atol=1e-11, rtol=0)


@pytest.mark.parametrize("name", FOURIER)
def test_frequency_arithmetic_is_a_product_with_the_dense_weights(name):
    layer = fourier_layer(name)
    generator = torch.Generator().manual_seed(0)
    theta, x, y = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((layer.size(),), (5, layer.shape[1]), (5, layer.shape[0]))
    )
    dense = layer.embed(theta).squeeze(0)
    torch.testing.assert_close(layer.apply(theta, x).squeeze(0), x @ dense.mT, atol=1e-12, rtol=0)
    for irrep in irreps(layer.source.group):
        at = layer.at(theta, irrep)
        torch.testing.assert_close(at.plain_transpose(y), y @ dense, atol=1e-12, rtol=0)
        s = torch.randn(2, layer.size(irrep), generator=generator, dtype=torch.float64)
        partners = layer.embed(s, irrep).flatten(0, 1)
        pushed = at.sample_layout(at.forward(at.push(s), at.bind(x, y), None))
        torch.testing.assert_close(pushed, x @ partners.mT, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["Z_3²", "C_4 rotations", "C_6"])
@pytest.mark.parametrize("maker", MAKERS)
def test_a_network_in_fourier_space_has_the_risk_and_gradient_of_its_dense_weights(maker, name):
    problem = maker(name)
    assert all(isinstance(layer, FourierLayer) for layer in problem.space.layers)
    theta = problem.initial(3)
    dense = problem.space.embed(theta)
    torch.testing.assert_close(problem.equivariant_risk(theta), problem.risk(dense), atol=1e-13, rtol=1e-12)
    gradient = problem.space.project(grad(problem.risk)(dense))
    torch.testing.assert_close(grad(problem.equivariant_risk)(theta), gradient, atol=1e-13, rtol=1e-11)


def test_the_union_lists_no_eigenvalue_beyond_what_every_sector_has_reported():
    def part(values: list[float], dim: int) -> Spectrum:
        entries = tuple(Eigenvalue(v, 0.0, 1) for v in values)
        return Spectrum(dim, entries, tuple(reversed(entries)), None, None, "dense", 0, 0.0)

    # The second sector stops at −2 with most of its dimensions unlisted: it may hold more below 0.
    whole = sectors.union([part([-3.0, 0.0], 2), part([-2.5, -2.0], 50)], 52, 10)
    assert [e.value for e in whole.lowest] == [-3.0, -2.5, -2.0]
    assert [e.value for e in whole.highest] == [0.0, -2.0, -2.5]


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("name", ["C_6", "Z_3²", "C_4 rotations"])
def test_products_without_index_tables_are_those_with_them(name, maker, monkeypatch):
    problem = maker(name)
    theta = problem.initial(1)
    for irrep in irreps(problem.group):
        fast = network_hessian(problem, theta, irrep)
        if not fast.dim:
            continue
        v = torch.randn(3, fast.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        expected = fast(v)
        with monkeypatch.context() as patch:
            patch.setattr(fourier, "SCATTER_NUMBERS", 0)
            found = network_hessian(problem, theta, irrep)(v)
        assert torch.allclose(found, expected, rtol=0, atol=1e-13 * float(expected.abs().max()))
