"""A layer holds every G-map V_λ → Hom(X, Y), isometrically; E is the trivial one; spaces of layers act blockwise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from brute import (
    COPIES,
    GROUPS,
    NAMES,
    PROBLEMS,
    bad,
    closure,
    dim_hom,
    equivariant_projection,
    gaussian,
    irrep_cases,
    irreps,
    lifted,
    points,
    problem,
    sector_projection,
    spaces,
    standard,
)

from stability.groups import Irrep, Symmetric, permutation, trivial, trivial_irrep
from stability.layers.layer import Layer
from stability.problem.space import ParameterSpace


def layer_of(name: str) -> Layer:
    return Layer(name, *spaces(name))


every_irrep = pytest.mark.parametrize(("name", "irrep"), irrep_cases())
every_group = pytest.mark.parametrize("name", NAMES)
every_problem = pytest.mark.parametrize("name", PROBLEMS)


# ----------------------------------------------------------------------------------------------- one layer


@every_group
def test_a_layer_acts_on_weights_by_conjugation(name):
    layer = layer_of(name)
    weight = gaussian(2, *layer.shape)
    for g in closure(GROUPS[name]):
        x, y = (torch.as_tensor(rep.matrix(g)) for rep in (layer.source, layer.target))
        np.testing.assert_allclose(layer.act(g, weight), y @ weight @ torch.linalg.inv(x), atol=1e-12)


@every_irrep
def test_every_coordinate_vector_embeds_as_a_g_map(name, irrep):
    layer = layer_of(name)
    partners = layer.embed(torch.eye(layer.size(irrep), dtype=torch.float64), irrep)
    assert partners.shape == (layer.size(irrep), irrep.dim, *layer.shape)
    for g in closure(GROUPS[name]):
        # S(ρ_V(g)e_j) = Σ_i ρ_V(g)_ij S e_i = ρ̄(g) S e_j
        moved = torch.einsum("ij,kirc->kjrc", torch.as_tensor(irrep.representation.matrix(g)), partners)
        expected = (partners.flatten(-2).numpy() @ lifted([layer], g).T).reshape(moved.shape)
        np.testing.assert_allclose(moved, expected, atol=1e-12)


@every_irrep
def test_coordinates_are_orthonormal_for_the_mean_over_the_partners(name, irrep):
    layer = layer_of(name)
    partners = layer.embed(torch.eye(layer.size(irrep), dtype=torch.float64), irrep).flatten(1)
    np.testing.assert_allclose(partners @ partners.T / irrep.dim, np.eye(len(partners)), atol=1e-12)


@every_irrep
def test_the_size_is_the_dimension_of_all_g_maps(name, irrep):
    layer = layer_of(name)
    projection = sector_projection(layer, irrep)
    assert layer.size(irrep) == round(np.trace(projection))
    assert layer.size(irrep) == dim_hom(irrep.representation, layer.source, layer.target)
    assert layer.size(irrep) % COPIES[irrep.kind] == 0


@every_irrep
def test_embedding_the_adjoint_is_d_times_the_projection_onto_the_g_maps(name, irrep):
    layer = layer_of(name)
    weight = gaussian(2, irrep.dim, *layer.shape)
    found = layer.embed(layer.adjoint_embed(weight, irrep), irrep).flatten(1)
    expected = irrep.dim * weight.flatten(1).numpy() @ sector_projection(layer, irrep)
    np.testing.assert_allclose(found, expected, atol=1e-11)


@every_irrep
def test_apply_is_a_product_with_each_partners_dense_weights(name, irrep):
    layer = layer_of(name)
    coordinates, x = gaussian(layer.size(irrep)), gaussian(irrep.dim, 5, layer.source.dim, seed=1)
    weights = layer.embed(coordinates, irrep)
    found, shared = layer.apply(coordinates, x, irrep), layer.apply(coordinates, x[0], irrep)
    for j in range(irrep.dim):
        for s in range(5):
            np.testing.assert_allclose(found[j, s], weights[j] @ x[j, s], atol=1e-12)
            np.testing.assert_allclose(shared[j, s], weights[j] @ x[0, s], atol=1e-12)


@every_irrep
def test_adjoint_is_the_adjoint_of_apply(name, irrep):
    layer = layer_of(name)
    s, x = gaussian(layer.size(irrep)), gaussian(irrep.dim, 5, layer.source.dim, seed=1)
    y = gaussian(irrep.dim, 5, layer.target.dim, seed=2)
    left, right = (layer.apply(s, x, irrep) * y).sum(), (layer.adjoint(x, y, irrep) * s).sum()
    np.testing.assert_allclose(left, right, rtol=1e-11)
    # The same inputs for every partner may leave out the partner axis.
    repeated = layer.adjoint(x[:1].expand_as(x), y, irrep)
    np.testing.assert_allclose(layer.adjoint(x[0], y, irrep), repeated, atol=1e-12)


@every_irrep
def test_embed_and_its_adjoint_take_leading_batch_axes(name, irrep):
    layer = layer_of(name)
    coordinates = gaussian(2, 3, layer.size(irrep))
    partners = layer.embed(coordinates, irrep)
    back = layer.adjoint_embed(partners, irrep)
    for i, j in np.ndindex(2, 3):
        np.testing.assert_allclose(partners[i, j], layer.embed(coordinates[i, j], irrep), atol=1e-13)
        np.testing.assert_allclose(back[i, j], irrep.dim * coordinates[i, j], atol=1e-12)


@every_group
def test_the_trivial_irrep_is_the_equivariant_layer_and_an_isometry(name):
    layer, irrep = layer_of(name), trivial_irrep(GROUPS[name])
    # The same V under another name goes through the extra input instead of around it.
    other = Irrep("one, by the long way", trivial(GROUPS[name]), "real")
    assert layer.size() == layer.size(irrep) == layer.size(other)
    dense = layer.embed(torch.eye(layer.size(), dtype=torch.float64))
    np.testing.assert_array_equal(dense, layer.embed(torch.eye(layer.size(), dtype=torch.float64), irrep))
    assert dense.shape == (layer.size(), 1, *layer.shape)
    flat = dense.flatten(1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(layer.size()), atol=1e-13)
    np.testing.assert_allclose(flat.T @ flat, equivariant_projection([layer]), atol=1e-12)
    long_way = layer.embed(torch.eye(layer.size(), dtype=torch.float64), other).flatten(1)
    np.testing.assert_allclose(long_way.T @ long_way, flat.T @ flat, atol=1e-12)


@every_group
def test_the_sectors_of_a_layer_add_up_to_all_of_l(name):
    layer = layer_of(name)
    assert sum(v.dim * layer.size(v) // COPIES[v.kind] for v in irreps(name)) == layer.dim
    total = 0
    for v in irreps(name):
        # The partners S e_j span the isotypic component; summed over a basis, Σ_kj (S_k e_j)(S_k e_j)ᵀ = c·Π_λ.
        partners = layer.embed(torch.eye(layer.size(v), dtype=torch.float64), v).flatten(-2).flatten(0, 1)
        projection = (partners.T @ partners / COPIES[v.kind]).numpy()
        np.testing.assert_allclose(projection @ projection, projection, atol=1e-11)
        total = total + projection
    np.testing.assert_allclose(total, np.eye(layer.dim), atol=1e-11)


@pytest.mark.parametrize("n", [4, 6, 8])
def test_maps_between_nodes_hold_two_trivial_copies_and_three_of_the_standard_one(n):
    node = permutation(Symmetric(n))
    layer = Layer("nodes", node, node)
    assert layer.size() == 2
    assert layer.size(standard(n)) == 3


def test_maps_between_nodes_of_s_4_hold_each_irrep_as_often_as_the_stirling_numbers_say():
    node = permutation(GROUPS["S_4"])
    copies = {"trivial": 2, "(3,1)": 3, "(2,2)": 1, "(2,1,1)": 1, "(1,1,1,1)": 0}
    assert {v.name: Layer("nodes", node, node).size(v) for v in irreps("S_4")} == copies


def test_an_irrep_that_does_not_occur_has_no_coordinates_and_embeds_as_zero():
    one = trivial(GROUPS["C_5"])
    layer, plane = Layer("invariant", 2 * one, 3 * one), irreps("C_5")[1]
    assert layer.size(plane) == 0
    partners = layer.embed(torch.zeros(0, dtype=torch.float64), plane)
    np.testing.assert_array_equal(partners, np.zeros((2, 3, 2)))
    assert layer.adjoint_embed(gaussian(2, 3, 2), plane).shape == (0,)


def test_gradients_flow_through_embed_and_apply():
    layer, irrep = layer_of("S_3"), irreps("S_3")[-1]
    s = gaussian(layer.size(irrep)).requires_grad_()
    x, y = gaussian(irrep.dim, 5, layer.source.dim, seed=1), gaussian(irrep.dim, 5, layer.target.dim, seed=2)
    (found,) = torch.autograd.grad((layer.apply(s, x, irrep) * y).sum(), s)
    np.testing.assert_allclose(found, layer.adjoint(x, y, irrep), atol=1e-12)


# ----------------------------------------------------------------------------------------- parameter spaces


def space_of(name: str) -> ParameterSpace:
    """Three layers; the second is irreps throughout, the third invariant."""
    a, b = spaces(name)
    one = trivial(GROUPS[name])
    return ParameterSpace((Layer("A_0", a, b), Layer("A_1", b, b), Layer("A_2", b, 2 * one)))


@every_group
def test_a_parameter_space_acts_as_the_dense_lifted_representation(name):
    space = space_of(name)
    v = gaussian(2, space.dim)
    for g in closure(GROUPS[name])[:6]:
        np.testing.assert_allclose(space.act(g, v), v.numpy() @ lifted(space.layers, g).T, atol=1e-12)


@every_group
def test_the_equivariant_part_is_the_average_over_the_group(name):
    space = space_of(name)
    v = gaussian(3, space.dim)
    projection = equivariant_projection(space.layers)
    np.testing.assert_allclose(space.equivariant_part(v), v.numpy() @ projection, atol=1e-12)
    np.testing.assert_allclose(space.transverse_part(v), v.numpy() @ (np.eye(space.dim) - projection), atol=1e-12)
    assert space.dim_equivariant == round(np.trace(projection)) == sum(space.sizes)


@every_group
def test_the_equivariant_part_is_fixed_and_the_projection_idempotent_and_self_adjoint(name):
    space = space_of(name)
    u, v = gaussian(space.dim), gaussian(space.dim, seed=1)
    part = space.equivariant_part(v)
    assert part.norm() > 0.1
    for g in closure(GROUPS[name]):
        np.testing.assert_allclose(space.act(g, part), part, atol=1e-12)
    np.testing.assert_allclose(space.equivariant_part(part), part, atol=1e-12)
    np.testing.assert_allclose(u @ part, space.equivariant_part(u) @ v, atol=1e-11)


@every_group
def test_embedding_e_is_an_isometry_with_project_its_adjoint(name):
    space = space_of(name)
    every = space.embed(torch.eye(space.dim_equivariant, dtype=torch.float64))
    np.testing.assert_allclose(every @ every.T, np.eye(space.dim_equivariant), atol=1e-12)
    v = gaussian(2, 3, space.dim)
    np.testing.assert_allclose(space.project(v), v @ every.T, atol=1e-11)


@every_problem
def test_splitting_reads_the_layers_row_by_row_and_joining_undoes_it(name):
    space = problem(name).space
    v = gaussian(2, space.dim)
    parts, start = space.split(v), 0
    for layer, part in zip(space.layers, parts, strict=True):
        assert part.shape == (2, *layer.shape)
        stop = start + math.prod(layer.shape)
        for row in range(layer.shape[0]):
            begin = start + row * layer.shape[1]
            np.testing.assert_array_equal(part[:, row], v[:, begin : begin + layer.shape[1]])
        start = stop
    assert start == space.dim
    np.testing.assert_array_equal(space.join(parts), v)
    theta = gaussian(2, space.dim_equivariant)
    coordinates = space.split_coordinates(theta)
    assert tuple(part.shape[-1] for part in coordinates) == space.sizes
    np.testing.assert_array_equal(torch.cat(coordinates, -1), theta)


def test_a_parameter_space_without_layers_or_with_two_groups_is_refused():
    three, four = permutation(Symmetric(3)), permutation(Symmetric(4))
    with bad("no layers"):
        ParameterSpace(())
    with bad("different groups; all must be of S_3"):
        ParameterSpace((Layer("A_0", three, three), Layer("A_1", four, four)))
    with bad("different groups; all must be of S_3"):
        ParameterSpace((Layer("A_0", three, four),))


def test_a_layers_dimensions_are_rows_times_columns():
    p = points("S_3")
    layer = Layer("A_0", 2 * p, p + trivial(p.group))
    assert (layer.shape, layer.dim) == ((4, 6), 24)


def test_equal_inputs_and_pooled_weights_are_multiplied_once_with_the_same_result():
    # Both ends of an edge are equal inputs; invariant outputs make a layer's columns equal along orbits.
    group = Symmetric(4)
    nodes = permutation(group)
    layer = Layer("pool", 3 * (nodes * nodes), 5 * trivial(group))
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weight = layer.at(normal(layer.size()), None)
    assert weight.pool is not None
    x = normal(7, 3, 4, 4)
    x, p = (x + x.mT).flatten(1), normal(7, 5)
    bound = weight.bind(x, p)
    assert bound.copies is not None and len(bound.x) == 30
    for k in (1, 2):
        s, tangent, cotangent = normal(k, layer.dim), normal(48, k, 7), normal(5, k, 7)
        dense = s.unflatten(1, layer.shape)
        pushed = torch.einsum("krc,nc->rkn", dense, x)
        through = torch.einsum("rc,ckn->rkn", weight.weight, tangent)
        pulled = torch.einsum("krc,nr->ckn", dense, p)
        back = torch.einsum("rc,rkn->ckn", weight.weight, cotangent)
        direction = weight.push(s)
        assert torch.allclose(weight.forward(direction, bound, None), pushed, atol=1e-12)
        assert torch.allclose(weight.forward(direction, bound, tangent), pushed + through, atol=1e-12)
        assert torch.allclose(weight.forward(None, bound, tangent), through, atol=1e-12)
        gathered = weight.zeros(k, s)
        found = weight.backward(direction, bound, tangent, cotangent, gathered, need=True)
        assert torch.allclose(found, pulled + back, atol=1e-12)
        assert torch.allclose(weight.backward(None, bound, tangent, cotangent, None, need=True), back, atol=1e-12)
        expected = torch.einsum("rkn,nc->krc", cotangent, x) + torch.einsum("nr,ckn->krc", p, tangent)
        collected = torch.empty_like(s)
        weight.collect(k, gathered, collected)
        assert torch.allclose(collected, expected.flatten(1), atol=1e-12)
