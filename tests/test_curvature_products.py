"""Products of Hessians against differences of gradients: no second derivative of torch's enters the reference."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from problems import classification, point_of_e
from scipy.sparse.linalg import eigsh, lobpcg
from torch import nn
from torch.func import functional_call

import stability
from analyses.signs import modules as families
from stability.base.errors import BadInput, StaleLinearisation
from stability.curvature import products
from stability.curvature.automatic import linearise
from stability.curvature.products import differences, fresh
from stability.groups import Cyclic, Lattice, images, regular, torus, trivial


class Of(nn.Module):
    """A function of the outputs of a linear map."""

    def __init__(self, function, width=6):
        super().__init__()
        self.linear, self.function = nn.Linear(6, width), function

    def forward(self, x):
        return self.function(self.linear(x))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.cell = kind(2, 3, batch_first=True)

    def forward(self, x):
        return self.cell(x)[0]


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class Lookup(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.linear = nn.Embedding(5, 3), nn.Linear(3, 3)

    def forward(self, x):
        return torch.tanh(self.linear(self.table((2 * x.abs()).long().clamp(0, 4)).tanh()))


def conv(rank, *rest, channels=4):
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    return nn.Sequential(kind(1, channels, 3, padding=1), *rest, nn.Tanh())


def image(z):
    return z.unflatten(-1, (1, 2, 3))


NETWORKS = {
    "group norm": (lambda: conv(1, nn.GroupNorm(2, 4)), (1, 6)),
    "group norm of images, no affine part": (lambda: conv(2, nn.GroupNorm(1, 4, affine=False)), (1, 4, 4)),
    "batch norm": (lambda: conv(1, nn.BatchNorm1d(4)), (1, 6)),
    "layer norm": (lambda: nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Tanh()), (6,)),
    "layer norm, three dimensions": (lambda: nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Tanh()), (3, 6)),
    "layer norm, four dimensions": (lambda: nn.Sequential(nn.Linear(6, 4), nn.LayerNorm((3, 4)), nn.Tanh()), (2, 3, 6)),
    "instance norm": (lambda: conv(1, nn.InstanceNorm1d(4, affine=True)), (1, 6)),
    "instance norm of images": (lambda: conv(2, nn.InstanceNorm2d(4)), (1, 4, 4)),
    "local response norm": (lambda: conv(1, nn.LocalResponseNorm(2)), (1, 6)),
    "weight norm": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 4)), nn.Tanh()),
        (6,),
    ),
    "attention": (lambda: Of(lambda z: F.scaled_dot_product_attention(z, z, z), 4), (3, 6)),
    "softmax attention": (lambda: Of(lambda z: torch.softmax(z @ z.mT, -1) @ z, 4), (3, 6)),
    "multihead attention": (SelfAttention, (3, 4)),
    "complex views": (
        lambda: Of(lambda z: torch.view_as_real(torch.view_as_complex(z.unflatten(-1, (-1, 2))) ** 2)),
        (6,),
    ),
    "fft": (lambda: Of(lambda z: torch.fft.irfft(torch.fft.rfft(z) ** 2, n=6)), (6,)),
    "einsum": (lambda: Of(lambda z: torch.einsum("bi,bj->bij", z, z.tanh())), (6,)),
    "cumsum": (lambda: Of(lambda z: torch.cumsum(z, -1).tanh()), (6,)),
    "sort": (lambda: Of(lambda z: torch.sort(z, -1)[0].tanh()), (6,)),
    "max pooling": (lambda: Of(lambda z: F.max_pool1d(z.unsqueeze(1), 2).tanh()), (6,)),
    "three dimensions": (lambda: conv(3, channels=2), (1, 3, 3, 3)),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(1, 2, 3, padding=1), nn.Tanh()), (1, 3, 3)),
    "transposed, strides and groups": (
        lambda: nn.Sequential(nn.ConvTranspose1d(2, 2, 3, stride=2, groups=2), nn.Tanh()),
        (2, 3),
    ),
    "embedding": (Lookup, (4,)),
    "padding": (lambda: Of(lambda z: F.pad(image(z), (1, 1, 1, 1), mode="circular").tanh()), (6,)),
    "interpolation": (lambda: Of(lambda z: F.interpolate(image(z), scale_factor=2, mode="bicubic").tanh()), (6,)),
    "sampling of a grid": (
        lambda: Of(lambda z: F.grid_sample(image(z), z.tanh().unflatten(-1, (1, 3, 2)), align_corners=False).tanh()),
        (6,),
    ),
    "distances": (lambda: Of(lambda z: torch.cdist(z, 2 * z + 1)), (3, 6)),
    "lstm": (lambda: Recurrent(nn.LSTM), (3, 2)),
}


def risk_of(make, shape, n, seed=0):
    """(loss, A, samples) of a network on n random samples, all its parameters in one vector."""
    torch.manual_seed(seed)
    net = make().double().eval()
    x = torch.randn(n, *shape, dtype=torch.float64)
    named = dict(net.named_parameters())
    sizes = [p.numel() for p in named.values()]
    at = torch.cat([p.detach().flatten() for p in named.values()])
    at = at + 0.1 * torch.randn(len(at), dtype=torch.float64)

    def loss(a, samples):
        pieces = {k: t.reshape(p.shape) for (k, p), t in zip(named.items(), a.split(sizes), strict=True)}
        out = functional_call(net, pieces, (samples.x,))
        weights = torch.linspace(0.5, 1.5, out.numel(), dtype=out.dtype).reshape(out.shape)
        return (weights * (out - 0.3) ** 2).mean() + (out**3).mean()

    weight = torch.full((n,), 1 / n, dtype=torch.float64)
    return loss, at, stability.problem.Samples(x, torch.zeros(n, dtype=torch.float64), weight)


def by_differences(loss, at, samples, v, step=1e-4):
    """Hv row by row, from four gradients each."""

    def gradient(a):
        a = a.clone().requires_grad_()
        return torch.autograd.grad(loss(a, samples), a)[0]

    def row(u):
        near, far = (gradient(at + t * u) - gradient(at - t * u) for t in (step, 2 * step))
        return (8 * near - far) / (12 * step)

    return torch.stack([row(u) for u in v])


@pytest.mark.parametrize("name", NETWORKS)
def test_products_are_those_of_differences_for_every_number_of_vectors_at_once(name):
    for n in (1, 3, 4):
        loss, at, samples = risk_of(*NETWORKS[name], n)
        operator = linearise(loss, at, samples, 0.1, "∇²R", 4096, 8)
        rows = torch.randn(2 * n + 1, len(at), generator=torch.Generator().manual_seed(n), dtype=torch.float64)
        truth = by_differences(loss, at, samples, rows) + 0.1 * rows
        size = truth.abs().max()
        for width in sorted({1, 2, n, 2 * n, 2 * n + 1}):
            assert (operator(rows[:width]) - truth[:width]).abs().max() <= 1e-7 * size, (n, width)
        assert (fresh(loss, at, samples, rows[:2]) + 0.1 * rows[:2] - truth[:2]).abs().max() <= 1e-7 * size


def grouped(channels, samples, groups=1, affine=False):
    """GroupNorm on a line that C_2 reflects, channels swapped in pairs."""
    one, line = trivial(Cyclic(2)), Lattice(Cyclic(2), [[[-1]]], "line")
    torch.manual_seed(0)
    x = torch.randn(samples, 1, 4, dtype=torch.float64)
    y = torch.randn(samples, 1, dtype=torch.float64)
    norm = nn.GroupNorm(groups, channels, affine=affine)
    net = nn.Sequential(
        nn.Conv1d(1, channels, 3, padding=1),
        norm,
        nn.Tanh(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(channels, 1),
    ).double()
    inner = (channels // 2) * regular(Cyclic(2))
    spec = {"0": (one, inner), "5": (inner, one)} | ({"1": inner} if affine else {})
    return stability.from_module(net, nn.MSELoss(), (x, y), spec, lattice=line, weight_decay=1e-2), net


@pytest.mark.parametrize(("channels", "samples"), list(itertools.product((2, 4, 8), (2, 4, 8))))
def test_every_public_path_is_right_behind_group_norm(channels, samples):
    problem, net = grouped(channels, samples)
    weights = stability.project(problem, net)
    theta = problem.space.project(stability.problem.tensors.pack(problem.space, weights, "x"))
    at = problem.space.embed(theta)
    truth = families.hessian(problem, at)
    nominal = stability.hessian(problem, weights, "nominal", "L")
    assert (nominal.matrix() - truth).abs().max() < 1e-7
    assert nominal.notes or channels * samples < 8
    values = torch.linalg.eigvalsh(truth).numpy()
    operator = nominal.linear_operator()
    np.testing.assert_allclose(eigsh(operator, k=2, which="SA")[0], values[:2], atol=1e-7)
    start = np.random.default_rng(0).standard_normal((len(at), 3))
    if len(at) > 15:
        np.testing.assert_allclose(
            np.sort(lobpcg(operator, start, largest=False, tol=1e-9, maxiter=300)[0]), values[:3], atol=1e-4
        )
    case = families.judged(problem, theta)
    for found in (
        stability.spectrum(problem, weights).smallest.value,
        stability.diagnose(problem, weights).lowest,
        min(s.lowest[0].value for s in stability.sectors(problem, weights) if s.irrep != "trivial"),
    ):
        assert found == pytest.approx(case.lowest["E_perp"], abs=1e-7)
    on_e = stability.spectrum(problem, weights, "eqv", "E").smallest.value
    assert on_e == pytest.approx(case.lowest["E"], abs=1e-7)


def test_the_slower_route_and_its_reason_stand_among_the_facts():
    problem, net = grouped(4, 4)
    found = stability.analyse(problem, net, escape_iterations=0).analysis
    assert "written out" in found.facts["products"] and "∇²R" in found.facts["products"]
    assert found.verdict.transverse.status in ("stable", "unstable")


def test_no_note_is_made_where_the_fast_route_is_right():
    problem = classification("Z_3²")
    operator = stability.curvature.nominal_hessian(problem, point_of_e(problem))
    operator(torch.ones(5, operator.dim, dtype=torch.float64))
    assert operator.notes == []


def quartic(a, samples):
    return (a**4).sum() * samples.weight.sum()


def samples_of(n=3):
    return stability.problem.Samples(*(torch.ones(n, 1), torch.zeros(n), torch.full((n,), 1 / n)))


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_products_do_not_depend_on_whether_the_caller_wants_derivatives(off):
    at = torch.linspace(-1, 1, 5, dtype=torch.float64)
    with off():
        operator = linearise(quartic, at, samples_of(), 0.0, "x", 10, 1)
        v = torch.eye(5, dtype=torch.float64)
        assert torch.allclose(operator(v), torch.diag(12 * at**2), atol=1e-12)
        assert torch.allclose(operator.gradient, 4 * at**3, atol=1e-12)


class Wrong(torch.autograd.Function):
    """The square, whose second derivative is said to be 3."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x**2

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g):
        return WrongSlope.apply(ctx.saved_tensors[0]) * g

    @staticmethod
    def jvp(ctx, t):
        return WrongSlope.apply(ctx.saved_tensors[0]) * t


class WrongSlope(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return 2 * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, g):
        return 3 * g

    @staticmethod
    def jvp(ctx, t):
        return 3 * t


def test_a_second_derivative_that_is_wrong_by_every_route_is_refused_in_one_line():
    at = torch.linspace(0.5, 1, 4, dtype=torch.float64)
    operator = linearise(lambda a, s: Wrong.apply(a).sum(), at, samples_of(), 0.0, "∇²R", 10, 1)
    with pytest.raises(StaleLinearisation, match="central differences .*off by 5") as refused:
        operator(torch.ones(4, dtype=torch.float64))
    assert isinstance(refused.value, BadInput) and "\n" not in str(refused.value)


def test_a_route_that_goes_stale_with_use_is_refused(monkeypatch):
    def spoilt(terms):
        right, calls = products.forward(terms), []

        def apply(v):
            calls.append(1)
            return right(v) * (1.001 if len(calls) > 3 else 1)

        return apply

    monkeypatch.setitem(products.RETAINED, "", spoilt)
    operator = linearise(quartic, torch.ones(4, dtype=torch.float64), samples_of(), 0.0, "∇²R", 10, 1)
    with pytest.raises(StaleLinearisation, match="changes with use"):
        for _ in range(8):
            operator(torch.ones(4, dtype=torch.float64))


def test_a_route_that_is_wrong_for_one_row_of_many_is_not_taken(monkeypatch):
    def wrong(terms):
        right = products.forward(terms)

        def apply(v):
            product = right(v)
            if len(v) == 7:
                product[4] *= 1 + 1e-6
            return product

        return apply

    monkeypatch.setitem(products.RETAINED, "", wrong)
    at = torch.ones(4, dtype=torch.float64)
    operator = linearise(quartic, at, samples_of(), 0.0, "∇²R", 10, 1)
    v = torch.randn(7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(operator(v), 12 * v, atol=1e-12) and operator.notes
    assert torch.allclose(operator(v[:6]), 12 * v[:6], atol=1e-12)


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1.0, 1e6, 1e12])
def test_differences_measure_their_own_error(scale):
    at = scale * torch.linspace(0.5, 1.0, 6, dtype=torch.float64)
    u = torch.randn(6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = differences(lambda a: torch.tanh(a / scale) + (a / scale) ** 3, at, u)
    truth = (1 / torch.cosh(at / scale) ** 2 + 3 * (at / scale) ** 2) / scale * u
    assert found.settled and float((found.value - truth).norm()) <= found.error


def test_differences_settle_nothing_at_a_kink():
    at = torch.zeros(3, dtype=torch.float64)
    assert not differences(lambda a: a.abs() + a, at, torch.ones(3, dtype=torch.float64)).settled


# -- assumptions -------------------------------------------------------------------------------------------------


def rolled():
    """Zero padding under rolls: not equivariant."""
    group = torus(4)
    one, pixels = trivial(group), images(group, 4)
    torch.manual_seed(0)
    x = torch.randn(12, 1, 4, 4, dtype=torch.float64)
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(32, 2)).double()
    spec = {"0.weight": 18 * one, "0.bias": 2 * one, "3": (2 * pixels, 2 * one)}
    y = (x.flatten(1).max(1).values > 1.8).long()
    return stability.from_module(net, nn.CrossEntropyLoss(), (x, y), spec, input=pixels, weight_decay=1e-2), net


@pytest.mark.parametrize(
    "stage",
    [
        lambda p, w: stability.hessian(p, w, "aug", "L"),
        lambda p, w: stability.hessian(p, w, "aug", "E_perp"),
        lambda p, w: stability.hessian(p, w, "aug", "E"),
        lambda p, w: stability.hessian(p, w, "eqv", "E"),
        stability.spectrum,
        stability.sectors,
        stability.verdict,
        stability.diagnose,
        stability.analyse,
        lambda p, w: stability.find_points(p, starts=1),
    ],
)
def test_every_stage_refuses_a_network_that_is_not_equivariant(stage):
    problem, net = rolled()
    with pytest.raises(BadInput, match="assumption equivariant_nonlinearities fails by 1"):
        stage(problem, stability.project(problem, net))


def test_the_nominal_hessian_needs_no_assumption():
    problem, net = rolled()
    operator = stability.hessian(problem, net, "nominal", "L")
    v = torch.randn(operator.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    at = stability.problem.tensors.pack(problem.space, stability.weights(problem, net), "x")
    loss = lambda a, s: problem.loss(a, s)  # noqa: E731
    truth = by_differences(loss, at, problem.samples, v[None])[0] + problem.weight_decay * v
    assert torch.allclose(operator(v), truth, atol=1e-8)


def test_assumptions_are_measured_once_for_a_problem():
    problem, net = grouped(2, 2)
    measured = []
    counting = replace(problem, assumptions=lambda seed: measured.append(seed) or problem.assumptions(seed))
    weights = stability.project(problem, net)
    for stage in (stability.sectors, stability.spectrum, stability.diagnose, stability.hessian):
        stage(counting, weights)
    assert measured == [0]
