"""Networks, risks and what is known about them in advance: Lemmas 3 and 4, Proposition 1, dimensions, flat families."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from brute import (
    GROUPS,
    LOSS,
    PROBLEMS,
    SIGMA,
    augmented_risk,
    bad,
    closure,
    dim_hom,
    equivariant_projection,
    gaussian,
    gradient,
    irreps,
    lifted,
    normalised,
    points,
    predict,
    problem,
    risk,
    rotation,
)
from torch import Tensor
from torch.func import grad
from torch.nn import functional

from stability.groups import (
    Cyclic,
    MatrixRepresentation,
    Representation,
    Symmetric,
    images,
    permutation,
    rotations,
    roto_translations,
    torus,
    trivial,
)
from stability.layers import Layer
from stability.networks.classifier import Classifier
from stability.networks.losses import cross_entropy, logistic, squared, two_masks
from stability.networks.network import mlp, random_start
from stability.networks.nonlinearities import KINKED, SMOOTH, Chain, Identity, LayerNorm, Pointwise
from stability.networks.supervised import supervised
from stability.networks.symmetries import check_assumptions, known_flat_families, unseen_inputs
from stability.problem.problem import FlatFamily, Problem
from stability.problem.space import Samples
from stability.tasks.data import graphs

every_problem = pytest.mark.parametrize("name", PROBLEMS)


def anywhere(case: Problem, seed: int = 0) -> Tensor:
    """A point of L, off E."""
    at = 0.5 * gaussian(case.space.dim, seed=seed)
    assert case.space.transverse_part(at).norm() > 0.1 * at.norm()
    return at


def somewhere_on_e(case: Problem, seed: int = 0) -> Tensor:
    return 0.7 * gaussian(case.space.dim_equivariant, seed=seed)


def dense(rep: Representation, g: object) -> Tensor:
    return torch.as_tensor(rep.matrix(g))


# -------------------------------------------------------------------------------------- predictions and risks


@every_problem
def test_predictions_are_matrix_products_with_sigmas_between(name):
    case = problem(name)
    at = anywhere(case)
    expected = predict(case, at, case.samples.x)
    np.testing.assert_allclose(case.model.predict(at, case.samples.x), expected, atol=1e-13)


@every_problem
def test_the_equivariant_layers_predict_what_their_dense_weights_predict(name):
    case = problem(name)
    theta = somewhere_on_e(case)
    expected = predict(case, case.space.embed(theta), case.samples.x)
    np.testing.assert_allclose(case.model.predict_equivariant(theta, case.samples.x), expected, atol=1e-12)


@every_problem
def test_predictions_are_equivariant_on_e_and_not_off_it(name):
    case = problem(name)
    x = case.samples.x

    def violation(at: Tensor) -> float:
        return max(
            float((predict(case, at, x @ dense(case.model.input, g).T) - still @ dense(case.model.output, g).T).norm())
            for still in [predict(case, at, x)]
            for g in closure(case.group)
        )

    assert violation(case.space.embed(somewhere_on_e(case))) < 1e-12
    assert violation(anywhere(case)) > 1e-3


@every_problem
def test_the_risks_are_the_weighted_sums_of_their_definitions(name):
    case = problem(name)
    at, theta = anywhere(case), somewhere_on_e(case)
    np.testing.assert_allclose(case.risk(at), risk(case, at), rtol=1e-13)
    np.testing.assert_allclose(case.augmented_risk(at), augmented_risk(case, at), rtol=1e-13)
    np.testing.assert_allclose(case.equivariant_risk(theta), risk(case, case.space.embed(theta)), rtol=1e-13)


@every_problem
def test_the_augmented_data_make_the_nominal_risk_the_augmented_one(name):
    case = problem(name)
    at, data = anywhere(case), case.augmented()
    np.testing.assert_allclose(data.weight.sum(), 1)
    np.testing.assert_allclose(case.loss(at, data) + case.penalty(at), augmented_risk(case, at), rtol=1e-13)


def moved_samples(case: Problem) -> dict[tuple[float, ...], float]:
    """Every moved pair (x, y) with the weights of all that are equal to it."""
    found: dict[tuple[float, ...], float] = {}
    for g in closure(case.group):
        x, y = case.samples.x @ dense(case.model.input, g).T, case.samples.y.reshape(len(case.samples), -1)
        if case.model.target is not None:
            y = y @ dense(case.model.target, g).T
        for row, weight in zip(torch.cat([x, y], dim=1).tolist(), case.samples.weight, strict=True):
            found[tuple(row)] = found.get(tuple(row), 0.0) + float(weight) / case.group.order
    return found


def symmetric_data() -> Problem:
    """Images that some shifts fix, two of them equal up to a shift and one of these with another label."""
    rho = points("Z_3²")
    images = [[1.0] * 9, [1.0, 1, 1, 0, 0, 0, 0, 0, 0], [0.0, 0, 0, 0, 0, 0, 1, 1, 1], [1.0, 0, 0, 0, 0, 0, 0, 0, 0]]
    images.append(images[1])
    weight = torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25], dtype=torch.float64)
    samples = Samples(torch.tensor(images, dtype=torch.float64), torch.tensor([0, 1, 1, 1, 0]), weight)
    network = mlp([rho, 2 * trivial(rho.group)], [Identity()])
    return supervised("symmetric images", Classifier(network, cross_entropy), samples)


@pytest.mark.parametrize("name", [*PROBLEMS, "symmetric images"])
def test_the_augmented_data_hold_every_moved_sample_once_with_the_weight_of_all_that_equal_it(name):
    case = symmetric_data() if name == "symmetric images" else problem(name)
    data, expected = case.augmented(), moved_samples(case)
    assert data.y.dtype == case.samples.y.dtype
    assert data.y.shape[1:] == case.samples.y.shape[1:]
    rows = torch.cat([data.x, data.y.reshape(len(data), -1)], dim=1).tolist()
    assert len(rows) == len(expected)
    found = {tuple(row): float(weight) for row, weight in zip(rows, data.weight, strict=True)}
    assert found == pytest.approx(expected)
    if name == "symmetric images":
        assert len(rows) == 1 + 3 + 3 + 9


def test_targets_that_differ_below_the_precision_of_the_inputs_are_kept_apart():
    one = trivial(Cyclic(2))
    model = Classifier(mlp([one, one], [Identity()]), squared, decides=False)
    y = torch.tensor([[1.0], [1.0 + 1e-9]], dtype=torch.float64)
    data = supervised("x", model, Samples(torch.ones(2, 1), y, torch.tensor([0.5, 0.5]))).augmented()
    assert sorted(data.y.flatten().tolist()) == y.flatten().tolist()


@every_problem
def test_chunks_of_samples_add_up_to_the_whole(name):
    case = problem(name)
    at = anywhere(case)
    pieces = list(case.samples.chunks(3))
    assert [len(piece) for piece in pieces] == [3, 3, 1]
    np.testing.assert_allclose(sum(case.loss(at, piece) for piece in pieces), case.loss(at, case.samples), rtol=1e-14)


def test_a_problem_without_an_action_on_its_data_cannot_be_augmented():
    case = problem("D_4 masks")
    case = Problem("mute", case.space, case.samples, case.loss)
    for ask in (case.augmented, lambda: case.augmented_risk(anywhere(case))):
        with bad("mute: no action on the data is known"):
            ask()


def test_inputs_that_are_no_numbers_are_refused_with_their_count():
    case = problem("D_4 masks")
    x = case.samples.x.clone()
    x[1, 2], x[3, 0] = math.nan, math.inf
    with bad("x: 2 input values are not finite"):
        supervised("x", case.model, Samples(x, case.samples.y, case.samples.weight))


def test_a_problem_without_a_model_reaches_e_through_its_loss():
    full = problem("D_4 masks")
    bare = Problem("bare", full.space, full.samples, full.loss, full.weight_decay)
    theta = somewhere_on_e(full)
    np.testing.assert_allclose(bare.equivariant_risk(theta), full.equivariant_risk(theta), rtol=1e-13)


# ------------------------------------------------------------------------------------ lemmas and proposition


@every_problem
def test_lemma_3_moving_the_input_is_moving_the_weights_back_and_then_the_output(name):
    case = problem(name)
    at, x = anywhere(case), case.samples.x
    for g in closure(case.group):
        left = case.model.predict(at, x @ dense(case.model.input, g).T)
        moved = torch.as_tensor(lifted(case.space.layers, case.group.inverse(g))) @ at
        right = case.model.predict(moved, x) @ dense(case.model.output, g).T
        np.testing.assert_allclose(left, right, atol=1e-12)


@every_problem
def test_lemma_4_the_augmented_risk_is_the_mean_risk_over_the_orbit_of_the_weights(name):
    case = problem(name)
    at = anywhere(case)
    over_data = case.augmented_risk(at)
    over_weights = np.mean([float(case.risk(case.space.act(g, at))) for g in case.group.elements()])
    np.testing.assert_allclose(over_data, over_weights, rtol=1e-12)
    assert abs(over_data - case.risk(at)) > 1e-6  # off E the two risks differ


@every_problem
def test_on_e_the_three_risks_agree(name):
    case = problem(name)
    theta = somewhere_on_e(case)
    at = case.space.embed(theta)
    np.testing.assert_allclose(case.augmented_risk(at), case.risk(at), rtol=1e-12)
    np.testing.assert_allclose(case.equivariant_risk(theta), case.risk(at), rtol=1e-12)


@every_problem
def test_proposition_1_on_e_the_augmented_gradient_is_the_projected_nominal_one(name):
    case = problem(name)
    theta = somewhere_on_e(case)
    at = case.space.embed(theta)
    nominal = gradient(lambda a: risk(case, a), at)
    projected = torch.as_tensor(equivariant_projection(case.space.layers)) @ nominal
    assert (nominal - projected).norm() > 1e-3 * nominal.norm()  # the projection takes something away
    np.testing.assert_allclose(gradient(lambda a: augmented_risk(case, a), at), projected, atol=1e-12)
    np.testing.assert_allclose(grad(case.augmented_risk)(at), projected, atol=1e-12)
    np.testing.assert_allclose(case.space.embed(grad(case.equivariant_risk)(theta)), projected, atol=1e-12)
    np.testing.assert_allclose(case.space.equivariant_part(grad(case.risk)(at)), projected, atol=1e-12)


@every_problem
def test_the_gradient_of_r_eqv_on_l_is_the_projected_gradient_at_the_projected_point(name):
    case = problem(name)
    at = anywhere(case)
    theta = case.space.project(at)
    found = grad(lambda a: case.risk(case.space.equivariant_part(a)))(at)
    np.testing.assert_allclose(found, case.space.embed(grad(case.equivariant_risk)(theta)), atol=1e-12)


# ------------------------------------------------------------------------------------------ nonlinearities


def test_every_activation_is_the_function_of_its_name():
    assert {*SMOOTH, *KINKED} == {*SIGMA}
    x = gaussian(50, 4)
    for name, expected in SIGMA.items():
        np.testing.assert_allclose(Pointwise(name)(x, 4 * trivial(Cyclic(2))), expected(x), atol=1e-14)
        assert Pointwise(name).kinked == (name in ("relu", "leaky_relu"))


@pytest.mark.parametrize("epsilon", [1e-5, 0.1])
def test_layer_norm_over_trivial_channels_is_torchs(epsilon):
    x = gaussian(5, 8)
    found = LayerNorm(epsilon)(x, 8 * trivial(Cyclic(2)))
    np.testing.assert_allclose(found, functional.layer_norm(x, (8,), eps=epsilon), atol=1e-14)


def test_layer_norm_over_copies_of_images_normalises_the_channels_of_every_pixel():
    rho = images(torus(3), 3)
    x = gaussian(5, 4 * 9)
    found = LayerNorm(0.1)(x, 4 * rho).reshape(5, 4, 9)
    for s, pixel in np.ndindex(5, 9):
        channels = x.reshape(5, 4, 9)[s, :, pixel].numpy()
        expected = (channels - channels.mean()) / math.sqrt(channels.var() + 0.1)
        np.testing.assert_allclose(found[s, :, pixel], expected, atol=1e-14)
    np.testing.assert_allclose(found.flatten(1), normalised(x, 4, 0.1), atol=1e-14)


def test_a_chain_applies_its_parts_in_order():
    x, space = gaussian(5, 4), 4 * trivial(Cyclic(2))
    chain = Chain((Pointwise("quadratic"), LayerNorm(0.1)))
    np.testing.assert_array_equal(chain(x, space), LayerNorm(0.1)(x + x * x, space))
    assert chain.name == "quadratic, LayerNorm(ε=0.1)"


# --------------------------------------------------------------------------------------- sizes of the paper


def perm_network(n: int, channels: int, features: int, head: int):
    node, one = permutation(Symmetric(n)), trivial(Symmetric(n))
    sigma = Pointwise("leaky_relu")
    return mlp(
        [1 * (node * node), channels * (node * node), features * one, head * one, 1 * one],
        [sigma, Chain((sigma, LayerNorm(1e-5))), sigma, Identity()],
    )


def trans_network(rho: Representation):
    one, sigma = trivial(rho.group), Pointwise("leaky_relu")
    head = Chain((Pointwise("tanh"), LayerNorm(1e-5)))
    return mlp([1 * rho, 32 * rho, 32 * rho, 32 * one, 10 * one], [sigma, sigma, head, Identity()])


def rot_network(rho: Representation):
    sigma = Pointwise("leaky_relu")
    return mlp([1 * rho, 32 * rho, 32 * rho, 16 * rho, 2 * rho], [sigma, sigma, sigma, LayerNorm(1e-5)])


@pytest.mark.parametrize(
    ("make", "dim", "dim_equivariant"),
    [
        (lambda: perm_network(10, 32, 64, 32), 526_880, 6_656),
        (lambda: trans_network(images(torus(14), 14)), 40_768_320, 208_320),
        (lambda: rot_network(rotations(Cyclic(4), 14)), 61_465_600, 15_366_400),
    ],
    ids=["PERM", "TRANS", "ROT"],
)
def test_the_networks_of_the_paper_have_the_stated_dimensions(make, dim, dim_equivariant):
    space = make().space
    assert (space.dim, space.dim_equivariant) == (dim, dim_equivariant)
    assert sum(space.sizes) == dim_equivariant


def test_dim_e_of_perm_does_not_depend_on_the_number_of_nodes():
    assert perm_network(8, 32, 64, 32).space.dim_equivariant == 6_656


@every_problem
def test_a_network_has_as_many_equivariant_weights_as_the_characters_say(name):
    layers = problem(name).space.layers
    assert problem(name).space.sizes == tuple(dim_hom(layer.source, layer.target) for layer in layers)


def test_perm_has_2080_trivial_weights():
    assert sum(layer.dim for layer in perm_network(10, 32, 64, 32).space.layers[2:]) == 2_080


@pytest.mark.parametrize(
    "rho",
    [
        rotations(Cyclic(4), 14),
        images(Cyclic(14), 14),
        images(torus(14), 14),
        images(roto_translations(14), 14),
    ],
    ids=lambda rho: rho.group.name,
)
def test_the_four_groups_of_appendix_e_2_have_as_many_equivariant_weights_as_orbits(rho):
    # Burnside: orbits on pixels and on pairs of pixels are mean numbers of fixed ones.
    fixed = np.array([(rho.index(g) == np.arange(rho.dim)).sum() for g in closure(rho.group)])
    orbits, pairs = fixed.mean(), (fixed**2).mean()
    assert trans_network(rho).space.dim_equivariant == 32 * pairs + 32 * 32 * pairs + 32 * 32 * orbits + 320


def test_a_network_that_does_not_fit_together_is_refused():
    three, four = permutation(Symmetric(3)), permutation(Symmetric(4))
    with bad("3 spaces need 2 nonlinearities, not 1"):
        mlp([three, three, three], [Identity()])
    with bad("the layers represent different groups; all must be of S_3"):
        mlp([three, four], [Identity()])
    with bad("activation 'swish' is unknown; choose from tanh, gelu"):
        Pointwise("swish")


def test_a_network_describes_its_spaces_and_nonlinearities():
    node = permutation(Symmetric(3))
    net = mlp([1 * node, 2 * node, node + node], [Pointwise("tanh"), Identity()])
    assert net.describe() == "perm → 2·perm [tanh] → 2·perm"


# ------------------------------------------------------------------------------------------- flat directions


def graph_problem() -> Problem:
    """Forty graphs of five nodes, inputs shifted by ½: they span symmetric matrices with a constant diagonal."""
    data = graphs(5, 40, 0)
    x, y = torch.as_tensor(data.inputs) - 0.5, torch.as_tensor(data.targets)
    node, one = permutation(Symmetric(5)), trivial(Symmetric(5))
    network = mlp(
        [1 * (node * node), 2 * (node * node), 4 * one, 3 * one, 1 * one],
        [Pointwise("tanh"), Chain((Pointwise("tanh"), LayerNorm(0.1))), Pointwise("tanh"), Identity()],
    )
    samples = Samples(x, y, torch.full((40,), 1 / 40, dtype=torch.float64))
    return supervised("graphs", Classifier(network, logistic), samples)


def normalised_masks() -> Problem:
    """The published head of ROT, and a hidden layer norm directly behind a linear layer."""
    rho = points("D_4")
    network = mlp([1 * rho, 3 * rho, 2 * rho], [LayerNorm(0.1), LayerNorm(0.2)])
    y = (gaussian(6, 8, seed=1) > 0).double()
    samples = Samples(gaussian(6, 4), y, torch.full((6,), 1 / 6, dtype=torch.float64))
    return supervised("masks", Classifier(network, two_masks, 2 * rho), samples)


UNSEEN = "inputs unseen on the whole orbit of the data"
FLAT = {
    # name: (problem, families as (name, layer, dimension in L))
    "classes": (
        lambda: problem("Z_3² classes"),
        [("softmax shift 1⊗v", 2, 4), ("w⊗1 after LayerNorm", 2, 3)],
    ),
    "graphs": (graph_problem, [("w⊗1 after LayerNorm", 2, 3), (UNSEEN, 0, 50 * 14)]),
    "masks": (
        normalised_masks,
        [
            ("1⊗v before LayerNorm", 0, 4 * 4),
            ("w⊗1 after LayerNorm", 1, 8 * 4),
            ("1⊗v before LayerNorm", 1, 4 * 12),
        ],
    ),
    "points": (lambda: problem("A_4 points"), []),
}


def within(family: FlatFamily, weight: Tensor) -> Tensor:
    weight = weight if family.left is None else family.left @ weight
    return weight if family.right is None else weight @ family.right


@pytest.mark.parametrize("name", FLAT)
def test_the_flat_families_of_a_network_are_those_design_lists(name):
    make, expected = FLAT[name]
    case = make()
    assert [(f.name, f.layer) for f in case.flat] == [(label, layer) for label, layer, _ in expected]
    for family, (_, _, dim) in zip(case.flat, expected, strict=True):
        rows, columns = case.space.layers[family.layer].shape
        sides = [(family.left, rows), (family.right, columns)]
        for side, size in sides:
            if side is not None:
                assert side.shape == (size, size)
                np.testing.assert_allclose(side @ side, side, atol=1e-12)
                np.testing.assert_allclose(side, side.T, atol=1e-12)
        assert math.prod(size if side is None else round(float(side.trace())) for side, size in sides) == dim


@pytest.mark.parametrize("name", [name for name, (_, families) in FLAT.items() if families])
def test_a_long_step_along_a_flat_family_leaves_every_loss_as_it_was_at_any_point(name):
    case = FLAT[name][0]()
    at = anywhere(case)
    data = [case.samples] + [case.transform(g, case.samples) for g in list(closure(case.group))[:8]]
    for family in case.flat:
        assert family.reach == "all"
        weights = list(torch.zeros_like(part) for part in case.space.split(at))
        free = 3 * gaussian(*weights[family.layer].shape, seed=1)
        weights[family.layer] = inside = within(family, free)
        assert inside.norm() > 1
        step = case.space.join(weights)
        for samples in data:
            before = case.model.losses(case.model.predict(at, samples.x), samples.y)
            after = case.model.losses(case.model.predict(at + step, samples.x), samples.y)
            np.testing.assert_allclose(after, before, atol=1e-11)
        # A step of that length across the families of this layer does change the loss.
        for other in case.flat:
            if other.layer == family.layer:
                free = free - within(other, free)
        weights[family.layer] = free * inside.norm() / free.norm()
        changed = case.loss(at + case.space.join(weights), case.samples) - case.loss(at, case.samples)
        assert changed.abs() > 1e-3


def test_the_softmax_shift_is_not_flat_where_a_sigma_stands_between():
    one = trivial(Cyclic(2))
    network = mlp([3 * one, 4 * one], [Pointwise("tanh")])
    assert known_flat_families(Classifier(network, cross_entropy), gaussian(5, 3)) == ()


def test_inputs_never_seen_are_the_complement_of_the_span_and_of_its_orbit():
    rho = points("Z_3²")
    # One image constant along rows: its shifts span the three-dimensional space of such images.
    x = torch.tensor([[1.0, 1, 1, 0, 0, 0, 0, 0, 0]], dtype=torch.float64)
    moved = torch.cat([x @ dense(rho, g).T for g in closure(rho.group)])
    for found, seen, rank in ((unseen_inputs(x), x, 8), (unseen_inputs(x, rho), moved, 6)):
        expected = torch.eye(9, dtype=torch.float64) - torch.linalg.pinv(seen) @ seen
        np.testing.assert_allclose(found, expected, atol=1e-12)
        assert round(float(found.trace())) == rank


@every_problem
def test_the_orbits_of_random_inputs_leave_nothing_unseen(name):
    case = problem(name)
    moved = torch.cat([case.samples.x @ dense(case.model.input, g).T for g in closure(case.group)])
    assert torch.linalg.matrix_rank(moved) == case.model.input.dim
    assert unseen_inputs(case.samples.x, case.model.input) is None


def test_graphs_of_five_nodes_leave_14_of_25_input_dimensions_unseen():
    node = permutation(Symmetric(5))
    x = torch.as_tensor(graphs(5, 300, 0).inputs)
    assert round(float(unseen_inputs(x, node * node).trace())) == 25 - 10
    assert round(float(unseen_inputs(x - 0.5, node * node).trace())) == 25 - 11


def test_the_graphs_of_perm_leave_172800_weights_of_l_and_224_of_e_without_effect():
    group = Symmetric(10)
    rho = permutation(group) * permutation(group)
    unseen = unseen_inputs(torch.as_tensor(graphs(10, 300, 0).inputs) - 0.5, rho)
    rank = round(float(unseen.trace()))
    assert 100 - rank == 46
    layer = Layer("A_0", 1 * rho, 32 * rho)
    assert rank * layer.shape[0] == 172_800
    # W ↦ WP maps E to itself, so its trace there is the dimension of what it keeps.
    one = Layer("one channel", rho, rho)
    basis = one.embed(torch.eye(15, dtype=torch.float64))
    assert round(float((basis @ unseen * basis).sum()) * 32) == 224


# ---------------------------------------------------------------------------------------------------- starts


@pytest.mark.parametrize("name", ["Z_3² classes", "S_4 graphs", "A_4 points", "Q_8 quaternions"])
def test_a_random_start_is_a_projected_gaussian_scaled_back_to_the_norm_it_had(name):
    network = problem(name).model.network
    count = 600
    starts = torch.stack([random_start(network, seed) for seed in range(count)])
    for layer, theta in zip(network.space.layers, network.space.split_coordinates(starts), strict=True):
        # Entries of variance 1/columns have E‖A_i‖² = dim L_i/columns; θ is isotropic on E.
        expected, size = layer.dim / layer.source.dim, layer.size()
        deviation = expected * math.sqrt(2 / size / count)
        assert abs(theta.square().sum(-1).mean() - expected) < 5 * deviation
        dense_norm = layer.embed(theta).square().sum((-3, -2, -1)).mean()
        assert abs(dense_norm - expected) < 5 * deviation
        spread = theta.square().mean(0) * size / expected
        assert (spread - 1).abs().max() < 5.5 * math.sqrt(2 / count)
        assert theta.mean(0).abs().max() < 5.5 * math.sqrt(expected / size / count)


@every_problem
def test_a_random_start_is_seeded_and_lies_on_e(name):
    case = problem(name)
    start = case.initial(3)
    assert start.shape == (case.space.dim_equivariant,)
    assert torch.equal(start, case.initial(3))
    assert torch.equal(start, random_start(case.model.network, 3))
    assert not torch.equal(start, case.initial(4))


# ----------------------------------------------------------------------------------------------- assumptions

ASSUMPTIONS = {"orthogonal", "homomorphism", "equivariant_nonlinearities", "invariant_loss"}


@every_problem
def test_the_assumptions_hold_to_rounding_for_networks_that_meet_them(name):
    measured = problem(name).assumptions(0)
    assert measured.keys() == ASSUMPTIONS
    assert max(violation for violation, _ in measured.values()) < 1e-12


def _skew(k: int) -> np.ndarray:
    return np.array([[1.0, 1.0], [0.0, -1.0]]) if k else np.eye(2)


def _fifth_turns(k: int) -> np.ndarray:
    return rotation(2 * math.pi * k / 5)


def _violations():
    v, rho = irreps("S_3")[-1].representation, points("D_4")
    skew, fifth = (MatrixRepresentation(Cyclic(n), 2, f, "faulty") for n, f in ((2, _skew), (3, _fifth_turns)))
    masks, weight = (gaussian(6, 8) > 0).double(), torch.full((6,), 1 / 6, dtype=torch.float64)
    numbers = gaussian(6, 1)
    return {
        "orthogonal": (mlp([skew, 1 * trivial(skew.group)], [Identity()]), squared, None, numbers, "faulty, g = 1"),
        "homomorphism": (mlp([fifth, 1 * trivial(fifth.group)], [Identity()]), squared, None, numbers, "faulty"),
        "equivariant_nonlinearities": (mlp([v, v], [Pointwise("tanh")]), squared, v, gaussian(6, 2), "σ_0 = tanh"),
        "invariant_loss": (mlp([rho, 2 * rho], [Identity()]), two_masks, None, masks, "loss, g ="),
    }, weight


@pytest.mark.parametrize("broken", sorted(ASSUMPTIONS))
def test_a_broken_assumption_is_measured_and_located_and_the_others_are_not_blamed(broken):
    cases, weight = _violations()
    network, loss, target, y, where = cases[broken]
    samples = Samples(gaussian(6, network.input.dim), y, weight)
    measured = check_assumptions(Classifier(network, loss, target), samples, 0)
    assert measured[broken][0] > 1e-2
    assert where in measured[broken][1]
    assert max(violation for key, (violation, _) in measured.items() if key != broken) < 1e-12


def test_a_nonlinearity_that_yields_no_number_violates_its_assumption():
    rho = points("D_4")

    class Root:
        name = "root"

        def __call__(self, x: Tensor, space: Representation) -> Tensor:
            return x.sqrt()

    samples = Samples(gaussian(6, 4), gaussian(6, 4), torch.full((6,), 1 / 6, dtype=torch.float64))
    measured = check_assumptions(Classifier(mlp([rho, rho], [Root()]), squared, rho), samples, 0)
    assert math.isnan(measured["equivariant_nonlinearities"][0])


# -------------------------------------------------------------------------------------- losses and metrics


def test_the_logistic_loss_is_binary_cross_entropy_of_logits_even_for_large_ones():
    prediction = torch.cat([gaussian(20, 3), torch.tensor([[-800.0, 800.0, 0.0]], dtype=torch.float64)])
    y = (gaussian(21, 3, seed=1) > 0).double()
    expected = functional.binary_cross_entropy_with_logits(prediction, y, reduction="none").mean(-1)
    np.testing.assert_allclose(logistic(prediction, y), expected, atol=1e-14)
    flat = functional.binary_cross_entropy_with_logits(prediction[:, 0], y[:, 0], reduction="none")
    np.testing.assert_allclose(logistic(prediction[:, :1], y[:, 0].long()), flat, atol=1e-14)


def test_two_masks_is_the_sum_of_the_mean_cross_entropies_of_both():
    prediction, y = gaussian(5, 2 * 9), (gaussian(5, 2 * 9, seed=1) > 0).double()
    expected = sum(
        functional.binary_cross_entropy_with_logits(prediction[:, part], y[:, part], reduction="none").mean(-1)
        for part in (slice(0, 9), slice(9, 18))
    )
    np.testing.assert_allclose(two_masks(prediction, y), expected, atol=1e-14)


def test_the_other_losses_are_half_the_squared_distance_and_minus_the_log_probability():
    prediction, y, classes = gaussian(5, 4), gaussian(5, 4, seed=1), torch.tensor([0, 3, 1, 1, 2])
    for s in range(5):
        half = sum((prediction[s, j] - y[s, j]) ** 2 for j in range(4)) / 2
        np.testing.assert_allclose(squared(prediction, y)[s], half, rtol=1e-14)
        probability = prediction[s].exp() / prediction[s].exp().sum()
        np.testing.assert_allclose(cross_entropy(prediction, classes)[s], -probability[classes[s]].log(), rtol=1e-13)
    assert {squared, cross_entropy, logistic, two_masks} == {*LOSS}


def test_hits_count_classes_by_arg_max_and_bits_by_sign():
    one, rho = trivial(GROUPS["D_4"]), points("D_4")
    classes = Classifier(mlp([rho, 3 * one], [Identity()]), cross_entropy)
    logits = torch.tensor([[0.1, 2.0, 1.0], [3.0, 0.0, 0.0]], dtype=torch.float64)
    assert classes.hits(logits, torch.tensor([1, 2])).tolist() == [1, 0]
    yes = Classifier(mlp([rho, 1 * one], [Identity()]), logistic)
    assert yes.hits(torch.tensor([[0.5], [-0.5], [-2.0]]), torch.tensor([1, 1, 0])).tolist() == [1, 0, 1]
    masks = Classifier(mlp([rho, 2 * one], [Identity()]), two_masks)
    assert masks.hits(torch.tensor([[0.5, -1.0]]), torch.tensor([[1.0, 1.0]])).tolist() == [0.5]


def _constant_cases():
    rng = np.random.default_rng(0)
    group = GROUPS["D_4"]
    rho, one = points("D_4"), trivial(group)
    classes = torch.as_tensor(rng.choice(3, 40, p=[0.6, 0.3, 0.1]))
    bits = torch.as_tensor(rng.choice(2, 40, p=[0.8, 0.2]))
    pixels = torch.as_tensor((rng.random((40, 8)) < [[0.7] * 4 + [0.1] * 4]).astype(float))
    return {
        "classes": (mlp([rho, 3 * one], [Identity()]), cross_entropy, None, classes),
        "bits": (mlp([rho, 1 * one], [Identity()]), logistic, None, bits),
        "masks": (mlp([rho, 2 * rho], [Identity()]), two_masks, 2 * rho, pixels),
    }


@pytest.mark.parametrize("name", ["classes", "bits", "masks"])
def test_the_constant_predictor_is_invariant_and_no_invariant_constant_beats_it(name):
    network, loss, target, y = _constant_cases()[name]
    model = Classifier(network, loss, target)
    best = model.constant(y)
    for g in closure(network.space.group):
        np.testing.assert_array_equal(network.output.act(g, best), best)
    # The mean loss is convex in the logits: a vanishing gradient along invariant directions settles it.
    slope = gradient(lambda c: model.losses(c.expand(40, -1), y).mean(), best)
    invariant = Layer("constants", trivial(network.space.group), network.output)
    np.testing.assert_allclose(invariant.adjoint_embed(slope[None, :, None]), np.zeros(invariant.size()), atol=1e-12)


def test_metrics_are_weighted_means_over_the_data_asked_for():
    case = problem("Z_3² classes")
    train, weight = case.samples, torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    test = Samples(gaussian(3, 9, seed=9), torch.tensor([2, 0, 1]), weight)
    with_test = supervised("x", case.model, train, test)
    at = anywhere(case)
    for which, data in (("train", train), ("test", test)):
        prediction = predict(case, at, data.x)
        found = with_test.metric(partial(with_test.model.predict, at), which)
        np.testing.assert_allclose(found["loss"], data.weight @ LOSS[cross_entropy](prediction, data.y), rtol=1e-12)
        right = [float(w) for p, y, w in zip(prediction, data.y, data.weight, strict=True) if p.argmax() == y]
        np.testing.assert_allclose(found["accuracy"], sum(right))
    constant = with_test.metric(partial(with_test.model.predict, at), "constant")
    np.testing.assert_allclose(constant["accuracy"], train.weight[train.y == 0].sum())  # class 0 leads 3 : 2 : 2
    assert list(found) == ["accuracy", "loss"]  # the first is the score
    assert case.metric(partial(case.model.predict, at), "test") == {}  # there are none


def test_a_regression_is_scored_by_its_loss_alone_and_its_best_constant_is_the_mean_target():
    case = problem("A_4 points")
    at = anywhere(case)
    assert (
        list(case.metric(partial(case.model.predict, at), "train"))
        == list(case.metric(partial(case.model.predict, at), "constant"))
        == ["loss"]
    )
    expected = risk(case, at) - case.penalty(at)
    np.testing.assert_allclose(case.metric(partial(case.model.predict, at), "train")["loss"], expected, rtol=1e-12)
    np.testing.assert_allclose(case.model.constant(case.samples.y), np.mean(case.samples.y.numpy(), axis=0), rtol=1e-13)


# ----------------------------------------------------------------------------------------------------- kinks


def test_the_kink_margin_is_the_smallest_preactivation_relative_to_its_root_mean_square():
    one = trivial(Cyclic(2))
    network = mlp([2 * one, 2 * one, 1 * one], [Pointwise("relu"), Identity()])
    x = torch.tensor([[1.0, 2.0], [3.0, -1.0]], dtype=torch.float64)
    at = torch.tensor([1.0, 0, 0, 0.5, 7, -7], dtype=torch.float64)
    # A_0 x = (1, 1) and (3, −½); the last layer has no kink.
    assert network.kink_margin(at, x) == pytest.approx(0.5 / math.sqrt((1 + 1 + 9 + 0.25) / 4))
    smooth = mlp([2 * one, 2 * one, 1 * one], [Pointwise("gelu"), Identity()])
    assert smooth.kink_margin(at, x) is None
    samples = Samples(x, torch.tensor([0, 1]), torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert supervised("smooth", Classifier(smooth, logistic), samples).kink_margin is None
    kinked = supervised("kinked", Classifier(network, logistic), samples)
    assert kinked.kink_margin(at) == network.kink_margin(at, x)


def test_the_kink_margin_behind_a_layer_norm_is_measured_behind_it():
    one = trivial(Cyclic(2))
    network = mlp([2 * one, 2 * one], [Chain((LayerNorm(1.0), Pointwise("relu")))])
    # Pre-activations 5 and 5 + 10⁻⁹ sit at the kink once their mean is taken off, and nowhere near before.
    x = torch.tensor([[1.0, 1.0 + 2e-10], [3.0, -3.0]], dtype=torch.float64)
    assert network.kink_margin(5 * torch.eye(2, dtype=torch.float64).flatten(), x) < 1e-6
