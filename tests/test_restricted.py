"""Admissible layers: when their projection commutes with the equivariant one, and what happens when it does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from brute import bad, equivariant_projection, gaussian
from torch import nn
from torch.func import grad, hessian

from stability import Settings, analyse, from_module
from stability.curvature.automatic import nominal_hessian
from stability.eigen.operator import assemble
from stability.groups import SO2, Cyclic, Dihedral, defining, harmonics, quaternion_group, regular, rotations, trivial
from stability.groups import images as pixels
from stability.layers import Layer
from stability.networks.classifier import Classifier
from stability.networks.losses import cross_entropy, squared
from stability.networks.network import mlp
from stability.networks.nonlinearities import Identity, Norm, Pointwise
from stability.networks.supervised import supervised
from stability.problem.space import ParameterSpace, Samples
from stability.restricted.admissible import Admissible, Parametrisation, compatibility, identity_offset, parametrised
from stability.restricted.parts import kernels, sharing, spanned, support
from stability.restricted.problem import blocks, moved_gradient, restrict
from stability.spectra import sectors

CROSS = torch.tensor([[0, 1, 0], [1, 1, 1], [0, 1, 0]])
SKEWED = torch.tensor([[1, 1, 0], [1, 0, 1], [0, 1, 0]])


class Small(nn.Module):
    """6 × 6 → 2 → 2 channels with 3 × 3 kernels, average pooling and tanh, then 3 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3, padding=1, bias=False)
        self.second = nn.Conv2d(2, 2, 3, padding=1, bias=False)
        self.head = nn.Linear(18, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(nn.functional.avg_pool2d(self.first(x), 2))
        return self.head(torch.tanh(self.second(x)).flatten(1))


def convolutional(weight_decay: float = 1e-2):
    group = Cyclic(4)
    one = trivial(group)
    torch.manual_seed(0)
    x = gaussian(9, 1, 6, 6)
    return from_module(
        Small().double(),
        nn.CrossEntropyLoss(),
        (x, torch.arange(9) % 3),
        {"first": (one, 2 * one), "second": (2 * one, 2 * one), "head": (2 * rotations(group, 3), 3 * one)},
        weight_decay=weight_decay,
    )


def supported(problem, mask) -> Admissible:
    conv = [layer for layer in problem.space.layers if not layer.name.startswith("head")]
    return Admissible(problem.space, {layer.name: kernels(layer, support(mask)) for layer in conv})


def projections(admissible: Admissible) -> tuple[np.ndarray, np.ndarray]:
    """Π_T and, from the enumerated group, Π_G."""
    basis = admissible.embed(torch.eye(admissible.dim, dtype=torch.float64)) - admissible.embed(
        torch.zeros(admissible.dim, dtype=torch.float64)
    )
    return (basis.mT @ basis).numpy(), equivariant_projection(admissible.space.layers)


def mlp_space(name: str) -> ParameterSpace:
    rho = {
        "C_4": lambda: rotations(Cyclic(4), 3),
        "D_4": lambda: pixels(Dihedral(4), 3),
        "C_6": lambda: regular(Cyclic(6)),
        "Q_8": lambda: defining(quaternion_group()),
    }[name]()
    return ParameterSpace((Layer("A_0", rho, rho), Layer("A_1", rho, 2 * trivial(rho.group))))


def parts_of(layer: Layer) -> dict:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(-1, 5, (layer.dim,), generator=generator)
    labels[0] = 0
    return {
        "support": support(torch.rand(layer.dim, generator=generator) < 0.5),
        "sharing": sharing(labels),
        "span": spanned(torch.randn(layer.dim, 5, generator=generator, dtype=torch.float64)),
    }


@pytest.mark.parametrize("kind", ["support", "sharing", "span"])
@pytest.mark.parametrize("name", ["C_4", "D_4", "C_6", "Q_8"])
def test_the_defect_is_the_norm_of_the_commutator_of_the_dense_projections(name, kind):
    space = mlp_space(name)
    admissible = Admissible(space, {"A_0": parts_of(space.layers[0])[kind]})
    p, q = projections(admissible)
    np.testing.assert_allclose(p @ p, p, atol=1e-12)
    found = compatibility(admissible)
    assert found.defect == pytest.approx(np.linalg.norm(p @ q - q @ p, 2), rel=1e-4)
    assert not found.compatible and found.worst == "A_0"
    # E: the eigenvalue one of Π_TΠ_GΠ_T
    assert found.dims["E"] == int((np.linalg.eigvalsh(p @ q @ p) > 1 - 1e-9).sum())
    c = gaussian(3, admissible.dim)
    onto = admissible.equivariant_part(c)
    torch.testing.assert_close(admissible.equivariant_part(onto), onto, atol=1e-12, rtol=0)
    moved = admissible.embed(onto)
    torch.testing.assert_close(moved, admissible.invariant_part(moved), atol=1e-10, rtol=0)


def test_a_support_is_compatible_exactly_if_it_is_a_union_of_orbits():
    taps = rotations(Cyclic(4), 3)
    space = ParameterSpace((Layer("conv", 2 * taps, 3 * trivial(Cyclic(4))),))
    for number in range(1, 512):
        mask = torch.tensor([number >> k & 1 for k in range(9)]).reshape(3, 3)
        union = torch.equal(mask, torch.rot90(mask))
        found = compatibility(Admissible(space, {"conv": kernels(space.layers[0], support(mask))}))
        assert found.compatible == union == found.invariant
        assert found.dims["E_perp"] + found.dims["E"] == found.dims["L"] == 6 * int(mask.sum())


def test_spectra_on_a_cross_shaped_support_are_those_of_the_dense_augmented_hessian():
    problem = convolutional()
    admissible = supported(problem, CROSS)
    small = restrict(problem, admissible)
    assert small.space.dim == admissible.dim == 5 * 6 + 54
    theta = small.initial(1)
    c, values = small.space.embed(theta), {}
    nominal = nominal_hessian(small, c)
    for irrep, _ in sectors.occurring(small.space):
        block = np.linalg.eigvalsh(assemble(sectors.sector_hessian(small, theta, irrep, nominal), theta).numpy())
        values[irrep.name] = np.repeat(block.reshape(-1, irrep.commutant_dim).mean(1), irrep.dim)
    dense = hessian(lambda u: problem.augmented_risk(admissible.embed(u)))(c)
    expected = np.linalg.eigvalsh(dense.numpy())
    np.testing.assert_allclose(np.sort(np.concatenate(list(values.values()))), expected, atol=1e-11)
    cut = blocks(problem, admissible, c)
    assert cut.coupling < 1e-12 and cut.leak < 1e-12
    assert cut.E.spectrum.lowest[0].value == pytest.approx(values.pop("trivial").min(), abs=1e-11)
    across = min(v.min() for v in values.values())
    assert cut.E_perp.spectrum.lowest[0].value == pytest.approx(across, abs=1e-11)


def test_the_whole_analysis_of_a_restricted_network_agrees_with_itself():
    problem = convolutional()
    found = analyse(
        restrict(problem, supported(problem, CROSS)), settings=Settings(points=1, escape_iterations=5)
    ).analysis
    measured = {k: v for k, v in found.identities.items() if k not in ("reasons", "feature_average_gap")}
    assert max(measured.values()) < 1e-9
    assert found.dims["L"] == 84
    assert {d.name for d in found.flat_directions} == {"softmax shift in head.weight"}


def descent(problem, admissible, metric=lambda u: u, steps=25, step=0.2):
    """‖A_{E⊥}‖ after exact augmented descent from a point of E."""
    data = problem.augmented()
    c = admissible.equivariant_part(admissible.project(problem.space.embed(problem.initial(3))))
    start = float((c - admissible.equivariant_part(c)).norm())
    assert start < 1e-13
    for _ in range(steps):
        c = c - step * metric(moved_gradient(problem, admissible, data, c))
    return float((c - admissible.equivariant_part(c)).norm())


def test_a_compatible_support_keeps_E_under_exact_augmented_descent_and_a_skewed_one_does_not():
    problem = convolutional()
    assert descent(problem, supported(problem, CROSS)) < 1e-13
    assert descent(problem, supported(problem, SKEWED)) > 1e-3


def test_a_parametrisation_that_is_not_orthonormal_leaves_E_though_the_support_is_compatible():
    problem = convolutional()
    columns = torch.zeros(9, 5, dtype=torch.float64)
    columns[CROSS.flatten() == 1] = gaussian(5, 5, seed=2)
    conv = [layer.name for layer in problem.space.layers if not layer.name.startswith("head")]
    skew = parametrised(problem.space, dict.fromkeys(conv, columns))
    assert compatibility(skew.admissible).compatible
    dense_t = skew._apply(torch.eye(skew.admissible.dim, dtype=torch.float64), False)  # rows T e_i
    metric = dense_t.mT @ dense_t
    e = skew.admissible.equivariant_part(torch.eye(skew.admissible.dim, dtype=torch.float64))
    expected = torch.linalg.matrix_norm(metric @ e - e @ metric @ e, 2) / torch.linalg.matrix_norm(metric, 2)
    assert skew.defect() == pytest.approx(float(expected), rel=1e-3)
    assert skew.defect() > 1e-2
    assert descent(problem, skew.admissible, skew.metric) > 1e-4
    plain = Parametrisation(supported(problem, CROSS), {})
    assert plain.defect() < 1e-13
    # Sylvester: the same number of negative eigenvalues in either coordinates.
    c = gaussian(skew.admissible.dim)
    matrix = hessian(lambda u: problem.augmented_risk(skew.admissible.embed(u)))(c)
    moved = dense_t @ matrix @ dense_t.mT
    signs = [int((torch.linalg.eigvalsh(m) < 0).sum()) for m in (matrix, moved)]
    assert signs[0] == signs[1] > 0


def test_a_skewed_support_couples_E_to_the_rest_and_drives_descent_off_it():
    problem = convolutional()
    admissible = supported(problem, SKEWED)
    c = admissible.equivariant_part(admissible.project(problem.space.embed(problem.initial(3))))
    cut = blocks(problem, admissible, c)
    assert cut.coupling > 1e-4 and cut.leak > 1e-3
    assert cut.E.spectrum.dim + cut.E_perp.spectrum.dim == admissible.dim
    dense = hessian(lambda u: problem.augmented_risk(admissible.embed(u)))(c)
    projection = admissible.equivariant_part(torch.eye(admissible.dim, dtype=torch.float64))
    slope = grad(lambda u: problem.augmented_risk(admissible.embed(u)))(c)
    assert cut.leak == pytest.approx(float((slope - slope @ projection).norm() / slope.norm()), rel=1e-9)
    cross = projection @ dense @ (torch.eye(admissible.dim) - projection)
    expected = torch.linalg.matrix_norm(cross, 2) / torch.linalg.matrix_norm(dense, 2)
    assert cut.coupling == pytest.approx(float(expected), rel=1e-9)


def test_an_incompatible_support_is_refused_with_the_defect_the_layer_and_what_would_do():
    problem = convolutional()
    with bad("not compatible .*4.33e-01.*worst in first.weight.*support of 5 in 9; take the 4 .*, or all 8 that"):
        restrict(problem, supported(problem, SKEWED))


def test_compatible_layers_that_the_group_moves_have_blocks_but_no_sectors():
    group = Cyclic(5)
    rho = regular(group)
    network = mlp([rho, rho, 3 * trivial(group)], [Pointwise("tanh"), Identity()])
    x = gaussian(8, 5)
    data = Samples(x, torch.arange(8) % 3, torch.full((8,), 1 / 8, dtype=torch.float64))
    problem = supervised("circulant", Classifier(network, cross_entropy), data, weight_decay=1e-2)
    layer = problem.space.layers[0]
    e = layer.embed(torch.eye(layer.size(), dtype=torch.float64)).flatten(1)
    w = gaussian(layer.dim, 4)
    w = w - e.mT @ (e @ w)  # anything orthogonal to E, which G moves about
    admissible = Admissible(problem.space, {"A_0": spanned(torch.cat([e.mT, w], dim=1))})
    found = compatibility(admissible)
    assert found.compatible and not found.invariant and found.invariance > 0.1
    with bad("compatible, but G moves the admissible layers"):
        restrict(problem, admissible)
    c = admissible.equivariant_part(gaussian(admissible.dim))
    cut = blocks(problem, admissible, c)
    assert cut.coupling < 1e-12 and cut.leak < 1e-12


def test_weights_shared_within_and_between_layers_are_one_coordinate():
    group = Cyclic(4)
    rho = regular(group)
    network = mlp([rho, rho, rho], [Pointwise("tanh"), Identity()])
    x, y = gaussian(2, 10, 4)
    data = Samples(x, y, torch.full((10,), 0.1, dtype=torch.float64))
    problem = supervised("tied", Classifier(network, squared, target=rho, decides=False), data, weight_decay=1e-2)
    i, j = np.divmod(np.arange(16), 4)
    circulant = torch.as_tensor((i - j) % 4)
    both = sharing(torch.cat([circulant, circulant]))
    tied = restrict(problem, Admissible(problem.space, {("A_0", "A_1"): both}))
    assert tied.space.dim == tied.space.dim_equivariant == 4
    values = gaussian(4)
    first, second = problem.space.split(Admissible(problem.space, {("A_0", "A_1"): both}).embed(values))
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(first, torch.roll(torch.roll(first, 1, 0), 1, 1))
    # Sharing along other lines than orbits: G permutes the classes.
    rows = sharing(torch.as_tensor(i))
    found = compatibility(Admissible(problem.space, {"A_0": rows}))
    assert found.invariant and found.dims["E"] - problem.space.layers[1].size() == 1
    small = restrict(problem, Admissible(problem.space, {"A_0": rows}))
    for g in range(4):
        a = gaussian(small.space.dim)
        moved = Admissible(problem.space, {"A_0": rows}).embed(small.space.act(g, a))
        expected = problem.space.act(g, Admissible(problem.space, {"A_0": rows}).embed(a))
        torch.testing.assert_close(moved, expected, atol=1e-14, rtol=0)


def test_a_residual_connection_is_an_affine_offset():
    group = Cyclic(5)
    rho = 2 * regular(group)
    network = mlp([rho, rho, 3 * trivial(group)], [Pointwise("tanh"), Identity()])
    x = gaussian(8, 10)
    data = Samples(x, torch.arange(8) % 3, torch.full((8,), 1 / 8, dtype=torch.float64))
    problem = supervised("residual", Classifier(network, cross_entropy), data, weight_decay=1e-2)
    # The diagonal is fixed at one, so the offset does not lie in T.
    off_diagonal = support(1 - torch.eye(10, dtype=torch.int64))
    offset = identity_offset(problem.space, ("A_0",))
    admissible = Admissible(problem.space, {"A_0": off_diagonal}, offset)
    small = restrict(problem, admissible)
    c = gaussian(small.space.dim)
    w0, w1 = problem.space.split(admissible.embed(c))
    torch.testing.assert_close(w0.diagonal(), torch.ones(10, dtype=torch.float64))
    free = w0 - torch.eye(10)
    expected = torch.tanh(x @ free.mT + x) @ w1.mT
    torch.testing.assert_close(small.model.predict(c, x), expected, atol=1e-13, rtol=0)
    found = analyse(small, settings=Settings(points=1, escape_iterations=0)).analysis
    measured = {k: v for k, v in found.identities.items() if k not in ("reasons", "feature_average_gap")}
    assert max(measured.values()) < 1e-9
    # All of W free: c = 0 is the identity, and decay pulls there.
    whole = restrict(problem, Admissible(problem.space, {}, offset))
    w0, w1 = whole.space.split(c := gaussian(whole.space.dim))
    torch.testing.assert_close(whole.model.predict(c, x), torch.tanh(x @ w0.mT + x) @ w1.mT, atol=1e-13, rtol=0)
    logits = torch.tanh(x @ w0.mT + x) @ w1.mT
    expected = nn.functional.cross_entropy(logits, data.y) + 0.5e-2 * c.square().sum()
    torch.testing.assert_close(whole.risk(c), expected)
    with bad("fixed weights are not equivariant, so E is empty"):
        uneven = problem.space.join([torch.diag(gaussian(10)), torch.zeros(3, 10, dtype=torch.float64)])
        restrict(problem, Admissible(problem.space, {"A_0": off_diagonal}, uneven))


def test_channels_of_a_lie_group_may_be_masked_whole_but_not_in_part():
    group = SO2()
    rho, one = harmonics(group, 1), trivial(group)
    network = mlp([2 * rho, 2 * rho, 2 * rho + one], [Norm(), Identity()])
    x, y = gaussian(2, 6, 5)
    data = Samples(x[:, :4], y, torch.full((6,), 1 / 6, dtype=torch.float64))
    problem = supervised(
        "turns", Classifier(network, squared, target=network.output, decides=False), data, weight_decay=1e-2
    )
    mask = torch.ones(4, 4, dtype=torch.int64)
    mask[:2, 2:] = 0  # the second input does not reach the first output
    small = restrict(problem, Admissible(problem.space, {"A_0": support(mask)}))
    theta = small.initial(0)
    c, values = small.space.embed(theta), []
    nominal = nominal_hessian(small, c)
    for irrep, _ in sectors.occurring(small.space):
        block = np.linalg.eigvalsh(assemble(sectors.sector_hessian(small, theta, irrep, nominal), theta).numpy())
        values.append(np.repeat(block.reshape(-1, irrep.commutant_dim).mean(1), irrep.dim))
    dense = np.linalg.eigvalsh(hessian(small.augmented_risk)(c).numpy())
    np.testing.assert_allclose(np.sort(np.concatenate(values)), dense, atol=1e-10)
    mask[0, 0] = 0
    assert not compatibility(Admissible(problem.space, {"A_0": support(mask)})).compatible


def test_bad_parts_are_refused_in_one_line():
    space = mlp_space("C_4")
    with bad("no layer; there are A_0, A_1"):
        Admissible(space, {"A_7": support(torch.ones(81))})
    with bad("is in two parts"):
        Admissible(space, {"A_0": support(torch.ones(81)), ("A_0", "A_1"): support(torch.ones(99))})
    with bad("A_0 have 81 weights, the part has 9"):
        Admissible(space, {"A_0": support(torch.ones(9))})
    with bad("zero everywhere"):
        support(torch.zeros(9))
    with bad("integer labels"):
        sharing(torch.ones(9))
    with bad("linearly dependent"):
        spanned(torch.ones(4, 2))
    with bad("not copies of one kernel of 4 taps"):
        kernels(space.layers[1], support(torch.ones(4)))
    with bad("the offset has shape"):
        Admissible(space, {}, torch.zeros(3))
    with bad("needs equal spaces"):
        identity_offset(space, ("A_1",))
