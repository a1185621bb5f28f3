"""A torch module as it is: the same spectra as the builder, its own inner product, messages that name the layer."""

from __future__ import annotations

import copy
from itertools import pairwise

import brute
import numpy as np
import pytest
import torch
from problems import REPRESENTATIONS
from torch import nn

import stability
from analyses.examples import digits_cnn
from stability.base.errors import BadInput
from stability.curvature.automatic import augmented_hessian_from_data, augmented_hessian_from_group, nominal_hessian
from stability.groups import (
    SO2,
    Cyclic,
    Dihedral,
    DirectProduct,
    Lattice,
    MatrixRepresentation,
    Representation,
    harmonics,
    images,
    regular,
    rotations,
    shift_lattice,
    square_lattice,
    torus,
    trivial,
)
from stability.problem.tensors import pack, unpack
from stability.restricted import compatibility, restrict

TOLERANCE = 1e-10


class Net(nn.Module):
    """tanh between linear layers."""

    def __init__(self, widths: list[int], bias: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b, bias=bias) for a, b in pairwise(widths))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers[:-1]:
            x = torch.tanh(layer(x))
        return self.layers[-1](x)


class Convolutional(nn.Module):
    """Two convolutions and an invariant head, tanh between."""

    def __init__(self, channels: int, classes: int = 3, **options: object) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, **({"padding": 1} | options))
        self.head = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))).mean((2, 3)))


def data(
    shape: tuple[int, ...], classes: int = 3, samples: int = 10, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, *shape, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, classes, (samples,), generator=generator)


def corners(group) -> Representation:
    """The corners of a square, turned and flipped."""
    return images(group, 2) if isinstance(group, Dihedral) else rotations(group, 2)


def convolutional(group=None, side: int = 4, **options: object):
    group = group or Dihedral(4)
    torch.manual_seed(0)
    module = Convolutional(4)
    one, field = trivial(group), corners(group)
    spec = {"first": (1 * one, 1 * field), "second": (1 * field, 1 * field), "head": (1 * field, 3 * one)}
    options = {"weight_decay": 1e-2} | options
    return module, stability.from_module(module, nn.CrossEntropyLoss(), data((1, side, side)), spec, **options)


def eigenvalues(spectrum) -> np.ndarray:
    """With multiplicity."""
    assert spectrum.complete
    return np.sort(
        np.repeat(spectrum.density.values, np.rint(np.array(spectrum.density.weights) * spectrum.dim).astype(int))
    )


# -- the same network twice -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["C_5", "D_4", "S_4", "Q_8", "C_4 ⋉ Z_2²"])
def test_a_module_and_the_builder_have_the_same_spectra(name):
    rho = REPRESENTATIONS[name]()
    one = trivial(rho.group)
    spaces = [1 * rho, 2 * rho, 3 * one]
    samples = data((rho.dim,))
    network = stability.mlp(spaces, [stability.Pointwise("tanh"), stability.Identity()])
    built = stability.from_network(network, stability.cross_entropy, samples, weight_decay=1e-2)
    torch.manual_seed(1)
    module = Net([s.dim for s in spaces])
    spec = {f"layers.{i}": (spaces[i], spaces[i + 1]) for i in range(2)}
    taken = stability.from_module(module, nn.CrossEntropyLoss(), samples, spec, weight_decay=1e-2)
    weights = [layer.weight.detach().double() for layer in module.layers]
    a, b = built.space.project(built.space.join(weights)), taken.initial(0)
    for risk, space in (("aug", "E_perp"), ("eqv", "E"), ("nominal", "L")):
        one_way, other = (stability.spectrum(p, at, risk, space) for p, at in ((built, a), (taken, b)))
        np.testing.assert_allclose(eigenvalues(one_way), eigenvalues(other), atol=TOLERANCE)


def test_a_bias_is_a_vector_of_the_output_representation():
    rho = REPRESENTATIONS["D_4"]()
    one = trivial(rho.group)
    module = Net([9, 9, 3], bias=True)
    spec = {"layers.0": (rho, rho), "layers.1": (rho, 3 * one)}
    problem = stability.from_module(module, nn.CrossEntropyLoss(), data((9,)), spec)
    sizes = {layer.name: layer.size() for layer in problem.space.layers}
    assert sizes["layers.0.bias"] == 3  # orbits of D_4 on the pixels: corners, sides, centre
    assert sizes["layers.1.bias"] == 3
    assert max(stability.check(problem).values()) < 1e-12


# -- kernels ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", [Dihedral(4), Cyclic(4)], ids=str)
def test_the_sectors_of_a_convolutional_network_are_its_dense_augmented_hessian(group):
    _, problem = convolutional(group)
    theta = problem.initial(3)
    at = problem.space.embed(theta)
    dense = augmented_hessian_from_data(problem, at).matrix(at)
    averaged = augmented_hessian_from_group(problem, nominal_hessian(problem, at)).matrix()
    np.testing.assert_allclose(dense, averaged, atol=TOLERANCE)
    found = stability.spectrum(problem, theta, "aug", "L", memory_gb=4)
    np.testing.assert_allclose(eigenvalues(found), np.linalg.eigvalsh(dense), atol=TOLERANCE)


def test_a_kernel_is_turned_tap_by_tap_and_channel_by_channel():
    module, problem = convolutional()
    group, at = problem.group, problem.model.given
    field, taps = corners(group), images(group, 3)
    kernel = module.second.weight.detach().double()
    for g in group.elements():
        moved = unpack(problem.space, problem.space.act(g, at))["second.weight"]
        by_hand = torch.einsum(
            "ao,bi,qp,oip->abq",
            *(torch.as_tensor(m) for m in (field.matrix(g), field.matrix(g), taps.matrix(g))),
            kernel.flatten(2),
        )
        assert torch.allclose(moved, by_hand.reshape(kernel.shape), atol=1e-14)


def test_the_inner_product_is_that_of_the_modules_own_tensors():
    module, problem = convolutional()
    total = sum(float(p.detach().double().square().sum()) for p in module.parameters())
    assert float(problem.model.given.square().sum()) == pytest.approx(total, rel=1e-14)
    assert problem.space.dim == sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_lattice_moves_pixels_as_images_and_rotations_do(n):
    for group, pixels in ((Dihedral(4), images(Dihedral(4), n)), (Cyclic(4), rotations(Cyclic(4), n))):
        grid = square_lattice(group)((n, n))
        for g in group.elements():
            assert np.array_equal(grid.index(g), pixels.index(g))


@pytest.mark.parametrize("sides", [(3, 3), (2, 5), (4,)])
def test_the_lattice_of_shifts_rolls_images_and_leaves_kernels_alone(sides):
    group = DirectProduct(tuple(Cyclic(n) for n in sides))
    shifts, image = shift_lattice(group), np.arange(np.prod(sides)).reshape(sides)
    for g in group.elements():
        moved = np.empty(image.size, dtype=int)
        moved[shifts(sides).index(g)] = image.ravel()
        assert np.array_equal(moved.reshape(sides), np.roll(image, g, range(len(sides))))
        assert np.array_equal(shifts(tuple(n - 1 for n in sides)).index(g), np.arange(np.prod([n - 1 for n in sides])))
    with pytest.raises(BadInput, match="torus"):
        shift_lattice(Dihedral(4))


def test_circular_convolutions_pass_under_shifts_and_zero_padding_is_named():
    group = torus(4)
    one, pixels = trivial(group), images(group, 4)
    x = torch.randn(12, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    for padding in ("circular", "zeros"):
        torch.manual_seed(0)
        conv = nn.Conv2d(1, 2, 3, padding=1, padding_mode=padding)
        module = nn.Sequential(conv, nn.Tanh(), nn.Flatten(), nn.Linear(32, 2))
        spec = {"0": (one, 2 * one), "3": (2 * pixels, 2 * one)}
        problem = stability.from_module(
            module, nn.CrossEntropyLoss(), (x, torch.arange(12) % 2), spec, lattice=shift_lattice(group)
        )
        assert [layer.size() for layer in problem.space.layers] == [18, 2, 4, 2]
        if padding == "circular":
            assert max(stability.check(problem).values()) < 1e-12
        else:
            with pytest.raises(BadInput, match="layer 0"):
                stability.check(problem)


LINE, SPACE = Lattice(Cyclic(2), [[[-1]]]), Lattice(Cyclic(4), [[[0, -1, 0], [1, 0, 0], [0, 0, 1]]])


class Stack(nn.Module):
    """A chain of modules with the mean over positions at its end."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for part in self.parts:
            x = torch.tanh(part(x))
        return x.flatten(2).mean(2)


@pytest.mark.parametrize(
    ("group", "parts", "shape", "lattice"),
    [
        (Cyclic(2), lambda n: (nn.Conv1d(1, n, 4, padding=1), nn.Conv1d(n, n, 3, stride=2, padding=1)), (1, 8), LINE),
        (Cyclic(4), lambda n: (nn.Conv3d(1, n, (3, 3, 2)), nn.Conv3d(n, n, 3, padding=1)), (1, 4, 4, 3), SPACE),
        (Dihedral(4), lambda n: (nn.Conv2d(1, n, 2), nn.Conv2d(n, n, 3, groups=n)), (1, 5, 5), None),
        (Dihedral(4), lambda n: (nn.Conv2d(1, n, 3), nn.ConvTranspose2d(n, n, 3, stride=2)), (1, 5, 5), None),
        (Dihedral(4), lambda n: (nn.Conv2d(1, n, 3, padding=1, padding_mode="circular"),), (1, 4, 4), None),
        (Dihedral(4), lambda n: (nn.Conv2d(1, n, 3, dilation=2, bias=False), nn.BatchNorm2d(n)), (1, 6, 6), None),
    ],
    ids=["line, stride", "space", "even, depthwise", "transposed", "circular", "dilated, batch norm"],
)  # fmt: skip
def test_every_kind_of_convolution_satisfies_lemma_3(group, parts, shape, lattice):
    one, field = trivial(group), regular(group)
    module = Stack(*parts(group.order))
    if shape == (1, 8) and lattice is LINE:
        shape = (1, 8)  # 8 → 7 → 4: stride 2 meets the mirror image of an odd length
    spec = {
        f"parts.{i}": field if isinstance(part, nn.BatchNorm2d) else (1 * (field if i else one), 1 * field)
        for i, part in enumerate(module.parts)
    }
    x = torch.randn(6, *shape, dtype=torch.float64)
    problem = stability.from_module(
        module, nn.CrossEntropyLoss(), (x, torch.arange(6) % 2), spec, output=1 * field, lattice=lattice,
        target=None, decides=False,
    )  # fmt: skip
    measured = problem.assumptions(0)
    assert max(measured[key][0] for key in ("equivariant_layers", "equivariant_nonlinearities")) < 1e-12
    at = problem.model.given
    for g in group.elements():
        moved = problem.model.predict(problem.space.act(g, at), problem.model.input.act(g, problem.samples.x))
        assert torch.allclose(moved, field.act(g, problem.model.predict(at, problem.samples.x)), atol=1e-12)


def test_a_set_network_shares_its_weights_over_points_that_the_group_permutes():
    group = stability.groups.Symmetric(4)
    points, one = stability.groups.permutation(group), trivial(group)

    class Sets(nn.Module):
        def __init__(self):
            super().__init__()
            self.each, self.head = nn.Linear(2, 5), nn.Linear(5, 3)

        def forward(self, x):
            return self.head(torch.tanh(self.each(x)).sum(1))

    spec = {"each": (2 * one, 5 * one, points), "head": (5 * one, 3 * one)}
    problem = stability.from_module(Sets(), nn.CrossEntropyLoss(), data((4, 2)), spec)
    assert max(stability.check(problem).values()) < 1e-12
    assert problem.space.dim == problem.space.dim_equivariant  # architecture alone makes it invariant
    assert problem.model.input.dim == 8


def test_a_network_of_vectors_under_so2_has_the_dense_spectrum_of_its_quadrature():
    group = SO2()
    one, plane = trivial(group), harmonics(group, 1)

    class Vectors(nn.Module):
        """Two vectors in, three hidden ones whose lengths are gated, their lengths out."""

        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 6, bias=False), nn.Linear(6, 6, bias=False)
            self.head = nn.Linear(3, 2)

        def forward(self, x):
            for layer in (self.first, self.second):
                v = layer(x).unflatten(-1, (3, 2))
                x = (v * torch.sigmoid(v.square().sum(-1, keepdim=True))).flatten(-2)
            return self.head(x.unflatten(-1, (3, 2)).square().sum(-1))

    spec = {"first": (2 * plane, 3 * plane), "second": (3 * plane, 3 * plane), "head": (3 * one, 2 * one)}
    torch.manual_seed(0)
    problem = stability.from_module(Vectors(), nn.CrossEntropyLoss(), data((4,), 2), spec, weight_decay=1e-2)
    assert max(stability.check(problem).values()) < 1e-12
    theta = problem.initial(1)
    at = problem.space.embed(theta)
    dense = augmented_hessian_from_data(problem, at).matrix(at)
    found = stability.spectrum(problem, theta, "aug", "L")
    np.testing.assert_allclose(eigenvalues(found), np.linalg.eigvalsh(dense), atol=1e-8)


def test_tied_parameters_are_one():
    group = Dihedral(4)
    one, pixels = trivial(group), images(group, 3)
    module = Net([9, 9, 9, 3])
    module.layers[1].weight = module.layers[0].weight
    spec = {"layers.0": (pixels, pixels), "layers.1": (pixels, pixels), "layers.2": (pixels, 3 * one)}
    problem = stability.from_module(module, nn.CrossEntropyLoss(), data((9,)), spec)
    assert [layer.name for layer in problem.space.layers] == ["layers.0.weight", "layers.2.weight"]
    assert max(stability.check(problem).values()) < 1e-12
    x = problem.samples.x
    expected = copy.deepcopy(module).double()(x)
    assert torch.allclose(problem.model.predict(problem.model.given, x), expected.detach(), atol=1e-12)
    with brute.bad("layers.1.weight is tied to layers.0.weight"):
        stability.from_module(module, nn.CrossEntropyLoss(), data((9,)), spec | {"layers.1": (pixels, 9 * one)})


def test_the_digits_example_refuses_a_skewed_support_and_measures_its_defect():
    problem = digits_cnn.problem_of(digits_cnn.Network(8), 10, 1e-3, 0)
    supports = {name: digits_cnn.admissible(problem, taps) for name, taps in digits_cnn.SUPPORTS.items()}
    defects = {name: compatibility(space).defect for name, space in supports.items()}
    assert defects["square"] < 1e-12 and defects["cross"] < 1e-12
    assert defects["skewed"] == pytest.approx(3**0.5 / 4, abs=1e-6)  # one of the four corners: ‖[P, Q]‖ = √(¼·¾)
    assert restrict(problem, supports["cross"]).space.dim == problem.space.dim - 2 * 64 * 4
    with brute.bad(r"not compatible .*worst in (second|third).weight"):
        restrict(problem, supports["skewed"])


# -- the module's own state -------------------------------------------------------------------------------------


def test_a_modules_state_is_never_changed():
    torch.manual_seed(0)
    group = Dihedral(4)
    module = Stack(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Dropout(0.5), nn.Conv2d(8, 8, 3))
    module.train()
    module(torch.randn(4, 1, 4, 4)).sum().backward()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    gradients = {k: p.grad.clone() for k, p in module.named_parameters()}
    versions = {k: p._version for k, p in module.named_parameters()}
    field, one = regular(group), trivial(group)
    spec = {"parts.0": (one, field), "parts.1": field, "parts.3": (field, field)}
    x, y = data((1, 4, 4))
    random = torch.get_rng_state()
    problem = stability.from_module(module, nn.CrossEntropyLoss(), (x, y), spec, output=1 * field, weight_decay=0.1)
    stability.diagnose(problem, module, names="none")
    stability.hessian(problem, module, "nominal", "L")(problem.model.given)
    with pytest.raises(BadInput, match="invariant_loss"):  # classes are no field
        stability.check(problem)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) and v.dtype == before[k].dtype for k, v in module.state_dict().items())
    assert all(torch.equal(p.grad, gradients[k]) and p._version == versions[k] for k, p in module.named_parameters())
    assert all(p.requires_grad for p in module.parameters())
    assert all(m.training for m in module.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    predicted = problem.model.predict(problem.model.given, problem.samples.x)
    with torch.no_grad():
        for p in module.parameters():
            p.zero_()
    assert torch.equal(predicted, problem.model.predict(problem.model.given, problem.samples.x))


def test_statistics_of_a_checkpoint_are_its_own():
    torch.manual_seed(0)
    group = Dihedral(4)
    one = trivial(group)
    module = nn.Sequential(nn.Linear(9, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))
    spec = {"0": (images(group, 3), regular(group)), "1": regular(group), "3": (regular(group), 3 * one)}
    problem = stability.from_module(module.eval(), nn.CrossEntropyLoss(), data((9,)), spec)
    later = copy.deepcopy(module)
    later[1].running_mean.copy_(torch.linspace(-1, 1, 8) + 0.5)
    here = stability.diagnose(problem, module, names="none")
    there = stability.diagnose(problem, later, names="none")
    assert there.risk["nominal"] != here.risk["nominal"]
    later[1].running_mean.fill_(0.5)  # its invariant part
    with torch.no_grad():
        logits = later.double()(problem.samples.x)
    expected = float(nn.functional.cross_entropy(logits, problem.samples.y))
    assert there.risk["nominal"] == pytest.approx(expected, rel=1e-6)


def test_parameters_may_be_held_at_their_values():
    module, _ = convolutional()
    group = Dihedral(4)
    one, field = trivial(group), corners(group)
    with torch.no_grad():
        module.first.bias.fill_(0.3)
    spec = {"first": (one, field), "second": (field, field), "head": (field, 3 * one), "first.bias": None}
    problem = stability.from_module(module, nn.CrossEntropyLoss(), data((1, 4, 4)), spec)
    assert "first.bias" not in [layer.name for layer in problem.space.layers]
    x = problem.samples.x[:2]
    with torch.no_grad():
        expected = module.double()(x.reshape(2, 1, 4, 4))
    assert torch.allclose(problem.model.predict(problem.model.given, x), expected, atol=1e-6)


# -- assumptions violated on purpose ----------------------------------------------------------------------------


def test_a_stride_that_leaves_the_centre_is_named_with_its_layer_and_generator():
    group = Dihedral(4)
    one, field = trivial(group), regular(group)
    module = Convolutional(8, stride=2)
    spec = {"first": (one, field), "second": (field, field), "head": (field, 3 * one)}
    problem = stability.from_module(module, nn.CrossEntropyLoss(), data((1, 4, 4)), spec)
    with brute.bad(r"equivariant_layers fails by \d\.\d+e[-+]\d+ at layer second, Conv2d.*generator \(1, 0\)"):
        stability.check(problem)


def test_what_lies_between_two_layers_is_named():
    group = Dihedral(4)
    one, field = trivial(group), regular(group)

    class Broken(Convolutional):
        def __init__(self):
            super().__init__(8)
            self.squash = nn.Softplus()

        def forward(self, x):
            x = self.squash(self.first(x)) * torch.linspace(0.5, 1.5, 8).reshape(8, 1, 1)
            return self.head(torch.tanh(self.second(x)).mean((2, 3)))

    spec = {"first": (one, field), "second": (field, field), "head": (field, 3 * one)}
    problem = stability.from_module(Broken(), nn.CrossEntropyLoss(), data((1, 4, 4)), spec)
    with brute.bad(r"equivariant_nonlinearities fails by .* between first and second \(squash Softplus\), generator"):
        stability.analyse(problem)


def test_a_head_that_singles_out_a_class_makes_the_loss_not_invariant():
    group = Cyclic(3)
    rho = regular(group)
    module = Net([3, 3])
    problem = stability.from_module(module, nn.CrossEntropyLoss(), data((3,)), {"layers.0": (rho, rho)})
    with brute.bad(r"invariant_loss fails by .* the loss, generator 1"):
        stability.check(problem)


def _skew(g: int) -> np.ndarray:
    return np.array([[1.0, 0.0], [0.0, 1.0]]) if g % 2 == 0 else np.array([[1.0, 1.0], [0.0, -1.0]])


def _not_closed(g: int) -> np.ndarray:
    return brute.rotation(1.0 * g)


@pytest.mark.parametrize(("image", "which"), [(_skew, "orthogonal"), (_not_closed, "homomorphism")])
def test_a_representation_that_is_none_is_named_with_its_layer(image, which):
    group = Cyclic(2)
    bad: Representation = MatrixRepresentation(group, 2, image, "bent")
    spec = {"layers.0": (2 * trivial(group), bad), "layers.1": (bad, 3 * trivial(group))}
    with brute.bad(rf"{which} fails by \d.* layers.0.weight .out.*: bent.*generator 1"):
        stability.check(stability.from_module(Net([2, 2, 3]), nn.CrossEntropyLoss(), data((2,)), spec))


NAN = torch.full((3, 1, 4, 4), torch.nan)


def wrong(spec=None, module=None, loss=None, samples=None, **options):
    group = Dihedral(4)
    one, field = trivial(group), regular(group)
    full = {"first": (one, field), "second": (field, field), "head": (field, 3 * one)}
    full = full | (spec(group) if spec else {})
    return stability.from_module(
        module or Convolutional(8),
        nn.CrossEntropyLoss() if loss is None else loss,
        data((1, 4, 4)) if samples is None else samples,
        {k: v for k, v in full.items() if v != "leave out"},
        **options,
    )


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spec": lambda g: {"head": "leave out"}}, "no representation for head.weight, head.bias"),
        ({"spec": lambda g: {"heart": (trivial(g), trivial(g))}}, "no layer 'heart'; it has first, second, head"),
        ({"spec": lambda g: {"head": (regular(g), 2 * trivial(g))}}, r"head.weight has shape \(3, 8\).*dimension 2"),
        ({"spec": lambda g: {"first": (2 * trivial(g), regular(g))}}, "first has 1 input and 8 output channels"),
        ({"spec": lambda g: {"head": regular(g)}}, "head: give .representation of its input channels"),
        ({"spec": lambda g: {"head": (regular(Cyclic(8)), 3 * trivial(Cyclic(8)))}}, "D_4 and of C_8"),
        ({"samples": data((1, 4, 5))}, r"turns a grid of shape \(4, 5\)"),
        ({"samples": data((2, 4, 4))}, "cannot take inputs of shape"),
        ({"samples": (torch.randn(3, 1, 4, 4), torch.tensor([0, 1]))}, "3 inputs and 2 targets"),
        ({"samples": (NAN, torch.tensor([0, 1, 2]))}, "48 input values are not finite"),
        ({"samples": []}, "no batch"),
        ({"loss": nn.MSELoss()}, "loss: it cannot take predictions"),
        ({"loss": nn.MSELoss(), "samples": (torch.randn(3, 1, 4, 4), torch.randn(3))}, "with the rest of the batch"),
        ({"loss": lambda p, y: p.var()}, "differs from the mean over samples"),
        ({"input": regular(Dihedral(4))}, "input has 16 numbers, but regular has dimension 8"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_in_one_line(arguments, message):
    with brute.bad(message):
        wrong(**arguments)


def test_a_network_that_mixes_samples_is_refused():
    class Mixing(Convolutional):
        def forward(self, x):
            y = super().forward(x)
            return y - y.mean(0)

    with brute.bad("predictions change by .* with the other samples"):
        wrong(module=Mixing(8))


def test_a_network_without_second_derivative_is_refused():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.tanh()

        @staticmethod
        def backward(ctx, g):
            return g

    class Opaque(Convolutional):
        def forward(self, x):
            return Once.apply(super().forward(x))

    with brute.bad("cannot be differentiated twice"):
        wrong(module=Opaque(8), output=3 * trivial(Dihedral(4)))


# -- losses, data, kinks, flat directions -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(reduction="none"),
        nn.CrossEntropyLoss(label_smoothing=0.0),
        nn.functional.cross_entropy,
        stability.cross_entropy,
        lambda p, y: nn.functional.cross_entropy(p, y),
    ],
)
def test_losses_that_average_and_losses_that_do_not_give_one_risk(loss):
    module, reference = convolutional(weight_decay=0.0)
    group = Dihedral(4)
    one, field = trivial(group), corners(group)
    spec = {"first": (one, field), "second": (field, field), "head": (field, 3 * one)}
    problem = stability.from_module(module, loss, data((1, 4, 4)), spec)
    x, y = data((1, 4, 4))
    expected = float(nn.functional.cross_entropy(copy.deepcopy(module).double()(x), y).detach())
    assert float(problem.risk(problem.model.given)) == pytest.approx(expected, rel=1e-12)
    at = reference.space.embed(reference.initial(2))
    v = torch.ones_like(at)
    assert torch.allclose(nominal_hessian(problem, at)(v), nominal_hessian(reference, at)(v), atol=1e-12)


def ignoring(label: int) -> nn.Module:
    return nn.CrossEntropyLoss(ignore_index=label)


def test_an_index_to_ignore_that_no_target_has_changes_nothing():
    module, _ = convolutional(weight_decay=0.0)
    group = Dihedral(4)
    one, field = trivial(group), corners(group)
    spec = {"first": (one, field), "second": (field, field), "head": (field, 3 * one)}
    plain = stability.from_module(module, nn.CrossEntropyLoss(), data((1, 4, 4)), spec)
    same = stability.from_module(module, ignoring(17), data((1, 4, 4)), spec)
    assert float(same.risk(same.model.given)) == float(plain.risk(plain.model.given))


def test_a_loader_a_dataset_and_tensors_are_the_same_data():
    module, problem = convolutional()
    x, y = data((1, 4, 4))
    dataset = torch.utils.data.TensorDataset(x, y)
    group = Dihedral(4)
    one, field = trivial(group), corners(group)
    spec = {"first": (one, field), "second": (field, field), "head": (field, 3 * one)}
    for given in (dataset, torch.utils.data.DataLoader(dataset, batch_size=3), [(x[:4], y[:4]), (x[4:], y[4:])]):
        other = stability.from_module(module, nn.CrossEntropyLoss(), given, spec, weight_decay=1e-2)
        assert all(torch.equal(a, b) for a, b in zip(other.samples, problem.samples, strict=True))


def test_a_regression_moves_its_targets():
    group = Dihedral(4)
    one, field = trivial(group), regular(group)
    x = data((1, 4, 4))[0]
    grid = square_lattice(group)((4, 4))
    module = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 1, 3, padding=1))
    spec = {"0": (one, field), "2": (field, one)}
    problem = stability.from_module(module, nn.MSELoss(), (x, x.tanh()), spec, target=grid)
    assert max(stability.check(problem).values()) < 1e-12
    assert problem.metric(lambda z: z, "train").keys() == {"loss"}
    at = problem.space.embed(problem.initial(1))
    dense = augmented_hessian_from_data(problem, at).matrix(at)
    averaged = augmented_hessian_from_group(problem, nominal_hessian(problem, at)).matrix()
    np.testing.assert_allclose(dense, averaged, atol=TOLERANCE)


def test_kinks_of_modules_and_of_functions_are_seen():
    group = Dihedral(4)
    one, field = trivial(group), regular(group)

    class Kinked(Convolutional):
        def forward(self, x):
            x = nn.functional.max_pool2d(self.first(x), 2)
            return self.head(self.second(x.clamp_min(0.1)).amax((2, 3)))

    module = Kinked(8)
    spec = {"first": (one, field), "second": (field, field), "head": (field, 3 * one)}
    problem = stability.from_module(module, nn.CrossEntropyLoss(), data((1, 4, 4)), spec)
    assert 0 < problem.kink_margin(problem.model.given) < 1e-2
    x = torch.tensor([[1.0, 4.0, 2.0, 3.5]]).double()
    size = x.square().mean().sqrt()
    margin = stability.networks.kinks.kink_margin
    assert margin(lambda: nn.functional.relu(x - 3)) == pytest.approx(0.5 / (x - 3).square().mean().sqrt().item())
    assert margin(lambda: x.amax(1)) == pytest.approx(0.5 / size.item())
    assert margin(lambda: nn.functional.max_pool2d(x.reshape(1, 1, 2, 2), 2)) == pytest.approx(0.5 / size.item())
    assert convolutional()[1].kink_margin is None


def test_the_softmax_shift_and_unseen_inputs_are_known_in_advance():
    group = Dihedral(4)
    one = trivial(group)
    pixels = images(group, 3)
    x, y = data((9,))
    x[:, 4] = 0.0  # the centre, which D_4 leaves alone
    module = Net([9, 9, 3], bias=True)
    spec = {"layers.0": (pixels, pixels), "layers.1": (pixels, 3 * one)}
    problem = stability.from_module(module, nn.CrossEntropyLoss(), (x, y), spec)
    outcome = stability.analyse(problem, problem.initial(2), escape_iterations=0)
    listed = {(d.name, d.space): d.count for d in outcome.analysis.flat_directions}
    assert listed[("softmax shift in layers.1.weight", "E")] == 3
    assert listed[("softmax shift in layers.1.bias", "E")] == 1
    assert listed[("inputs unseen on the whole orbit of the data", "E_perp")] == 9 - 3


# -- other tools --------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Using backward")
def test_pyhessian_agrees_with_the_nominal_spectrum():
    peer = pytest.importorskip("pyhessian")
    module, problem = convolutional(weight_decay=0.0)
    own = stability.spectrum(problem, module, "nominal", "L")
    private = copy.deepcopy(module).double()
    other = peer.hessian(private, nn.CrossEntropyLoss(), data=data((1, 4, 4)), cuda=False)
    rows = []
    for unit in torch.eye(problem.space.dim, dtype=torch.float64):
        direction = list(unpack(problem.space, unit).values())
        product = peer.hessian_vector_product(other.gradsH, other.params, direction)
        rows.append(torch.cat([part.flatten() for part in product]))
    np.testing.assert_allclose(eigenvalues(own), np.linalg.eigvalsh(torch.stack(rows)), atol=1e-9)


def test_curvlinops_agrees_with_the_nominal_spectrum():
    peer = pytest.importorskip("curvlinops")
    module, problem = convolutional(weight_decay=0.0)
    private = copy.deepcopy(module).double()
    parameters = list(private.parameters())
    operator = peer.HessianLinearOperator(private, nn.CrossEntropyLoss(), parameters, [data((1, 4, 4))])
    dense = np.asarray(operator @ torch.eye(problem.space.dim, dtype=torch.float64))
    own = stability.hessian(problem, module, "nominal", "L").matrix()
    np.testing.assert_allclose(own, dense, atol=1e-9)
    spectrum = stability.spectrum(problem, module, "nominal", "L")
    np.testing.assert_allclose(eigenvalues(spectrum), np.linalg.eigvalsh(dense), atol=1e-9)


def test_hessian_eigenthings_agrees_with_the_nominal_spectrum():
    peer = pytest.importorskip("hessian_eigenthings")
    module, problem = convolutional(weight_decay=0.0)
    private = copy.deepcopy(module).double()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data((1, 4, 4))), batch_size=10)
    operator = peer.HessianOperator(
        private, loader, lambda m, batch: nn.functional.cross_entropy(m(batch[0]), batch[1])
    )
    own = stability.hessian(problem, module, "nominal", "L")
    v = torch.randn(problem.space.dim, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert torch.allclose(own(v), operator.matvec(v), atol=1e-9)


def test_a_state_dict_is_a_point():
    module, problem = convolutional()
    given = pack(problem.space, module.state_dict())
    assert torch.equal(given.double(), problem.model.given)
    nearest = stability.project(problem, module.state_dict())
    module.load_state_dict(nearest)
    assert stability.diagnose(problem, module, names="none").distance < 1e-6  # float32 weights
