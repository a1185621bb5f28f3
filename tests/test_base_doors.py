"""Doors: a value of no use is refused in one line by every public name; an odd one of use counts as it should."""

from __future__ import annotations

import copy
import math
import warnings
from pathlib import Path

import brute
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import stability
from stability.base.errors import BadInput
from stability.groups import Cyclic, PermutationRepresentation, regular, trivial
from stability.points.weights import save_point
from stability.tasks import TaskOptions, load

C = Cyclic(3)
ONE, REG = trivial(C), regular(C)
SPEC = {"0": (REG, 2 * REG), "2": (2 * REG, 2 * ONE)}
NUMBERS = [None, "1", True, math.nan, math.inf, -1, -1e300, [0.1], {"a": 0.1}, 1j, torch.tensor([1.0, 2.0])]
COUNTS = [None, "3", True, math.nan, math.inf, -1, 2.5, [1], 10**30]


def data(n: int = 12) -> tuple[Tensor, Tensor]:
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x, (x.sum(1) > 0).long()


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2))


def module_problem(module=None, loss=None, samples=None, spec=None, **options) -> stability.Problem:
    options = {"weight_decay": 0.1} | options
    return stability.from_module(
        network() if module is None else module,
        nn.CrossEntropyLoss() if loss is None else loss,
        data() if samples is None else samples,
        SPEC if spec is None else spec,
        **options,
    )


def risk(t):
    return (t["a"] ** 4).sum() - t["a"][0] * t["a"][1] * t["a"][2] + t["a"].square().sum()


A = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)
PROBLEM = module_problem()
COUNTER = load("counterexample", TaskOptions())
THETA = PROBLEM.initial(0)
PERCEPTRON = stability.mlp([REG, 2 * REG, 2 * ONE], [stability.Pointwise("tanh"), stability.Identity()])


def refused(call, *words: str) -> None:
    """One line of BadInput, and nothing else, not a warning."""
    with warnings.catch_warnings(), pytest.raises(BadInput) as told:
        warnings.simplefilter("error")
        call()
    text = str(told.value)
    assert "\n" not in text and 10 < len(text) < 900, text
    assert all(word in text for word in words), text


def from_network(**options):
    arguments = {"network": PERCEPTRON, "loss": stability.cross_entropy, "data": data()} | options
    return stability.from_network(**arguments)


def from_risk(**options):
    arguments = {"risk": risk, "tensors": {"a": A}, "representations": {"a": REG}} | options
    return stability.from_risk(**arguments)


def with_(function, *arguments, **fixed):
    """Argument and value ↦ the call with this value."""
    return lambda name, value: lambda: function(*arguments, **{**fixed, name: value})


# Argument by argument: what takes it, and values that no such argument can have.
BAD: list[tuple[str, object, object]] = [
    *(("from_module weight_decay", with_(module_problem), v) for v in NUMBERS),
    *(("from_module samples", with_(module_problem), v) for v in COUNTS[1:] + [0]),
    *(("from_module dtype", with_(module_problem), v) for v in (torch.float16, torch.complex64, "float64", None, 64)),
    *(("from_module name", with_(module_problem), v) for v in (3, "two\nlines", [])),
    *(("from_module decides", with_(module_problem), v) for v in ("yes", 1, 0.5)),
    *(("from_module input", with_(module_problem), v) for v in (3, "x", 4 * REG, regular(Cyclic(4)))),
    *(("from_module output", with_(module_problem), v) for v in (3, "x", 4 * ONE, 2 * trivial(Cyclic(4)))),
    *(("from_module target", with_(module_problem), v) for v in (3, 4 * ONE, REG)),
    *(("from_module lattice", with_(module_problem), v) for v in (3, "square")),
    *(("from_module facts", with_(module_problem), v) for v in ("text", [("a",)], [(1, 2)], 3)),
    *(("from_module test", with_(module_problem), v) for v in (3, [], (torch.zeros(2, 4), torch.zeros(2).long()))),
    *(("from_module module", with_(module_problem), v) for v in (3, "model.pt", nn.Linear, lambda x: x)),
    *(("from_module loss", with_(module_problem), v) for v in (3, "mse", nn.MSELoss, lambda p: p, lambda p, y: None)),
    *(("from_module spec", with_(module_problem), v) for v in ({}, [], "0", {0: REG}, {"0": 3}, {"0": (REG,)})),
    *(("from_network weight_decay", with_(from_network), v) for v in NUMBERS),
    *(("from_network network", with_(from_network), v) for v in (None, nn.Linear(3, 2))),
    *(("from_network loss", with_(from_network), v) for v in (None, "mse", nn.MSELoss(), stability.logistic)),
    *(("from_network decides", with_(from_network), v) for v in ("no", 1, None)),
    *(("from_network dtype", with_(from_network), v) for v in (torch.int64, "double")),
    *(("from_risk weight_decay", with_(from_risk), v) for v in NUMBERS),
    *(("from_risk risk", with_(from_risk), v)
      for v in (None, 3, "R", lambda t: 3.0, lambda t: t["b"], lambda t: t["a"].detach().square().sum(),
                lambda t: t["a"].square().sum() + 0j, lambda t: float(t["a"].sum()))),
    *(("from_risk tensors", with_(from_risk), v)
      for v in ([], {}, None, {"a": [1, 2, 3]}, {1: A}, {"a": A * math.nan})),
    *(("from_risk representations", with_(from_risk), v) for v in ([], {}, {"a": 3}, {"a": None}, {1: REG}, REG)),
    *(("from_risk samples", with_(from_risk), v) for v in (3, data(), stability.Samples(*data(), torch.ones(12)))),
    *(("from_risk moved", with_(from_risk), v) for v in (3, "g")),
    *(("from_risk transform", with_(from_risk), v) for v in (3, lambda g, s: s)),
    *(("from_risk name", with_(from_risk), v) for v in (None, "", 3)),
    *(("find_points starts", with_(stability.find_points, COUNTER), v) for v in [*COUNTS, 0]),
    *(("find_points saddles", with_(stability.find_points, COUNTER), v) for v in COUNTS),
    *(("find_points seed", with_(stability.find_points, COUNTER), v) for v in COUNTS),
    *(("find_points tolerance", with_(stability.find_points, COUNTER), v) for v in [*NUMBERS[1:], 0]),
    *(("check seed", with_(stability.check, COUNTER), v) for v in COUNTS),
    *(("check problem", with_(stability.check), v) for v in (None, 3, network())),
    *(("hessian risk", with_(stability.hessian, PROBLEM, THETA), v) for v in (None, 3, "loss", ["aug"])),
    *(("hessian space", with_(stability.hessian, PROBLEM, THETA), v) for v in (None, 3, "M", ["L"])),
    *(("spectrum risk", with_(stability.spectrum, PROBLEM, THETA), v) for v in (None, 3, "loss")),
    *(("spectrum space", with_(stability.spectrum, PROBLEM, THETA), v) for v in (None, 3, "M", "")),
    *(("spectrum eigenvalues", with_(stability.spectrum, PROBLEM, THETA), v) for v in [*COUNTS, 0]),
    *(("spectrum memory_gb", with_(stability.spectrum, PROBLEM, THETA), v) for v in [*NUMBERS, 0, 1e-9]),
    *(("sectors names", with_(stability.sectors, PROBLEM, THETA), v) for v in (None, 3, "", "q=99", ["all"], ",")),
    *(("sectors eigenvalues", with_(stability.sectors, PROBLEM, THETA), v) for v in [*COUNTS, 0]),
    *((f"analyse {k}", with_(stability.analyse, PROBLEM, THETA), v)
      for k in ("points", "seed", "saddles", "eigenvalues", "escape_iterations", "shards", "epochs") for v in COUNTS),
    *((f"analyse {k}", with_(stability.analyse, PROBLEM, THETA), v)
      for k in ("memory_gb", "search_minutes", "distance_to_e") for v in NUMBERS),
    *(("analyse settings", with_(stability.analyse, PROBLEM, THETA), v) for v in (3, {"points": 3}, "fast")),
    *(("analyse pictures", with_(stability.analyse, PROBLEM, THETA), v) for v in (1, "yes", None)),
    *(("verdict of", with_(stability.verdict), v) for v in (None, 3, "spectrum.json")),
    *(("report of", with_(stability.report), v) for v in (None, 3, "spectrum.json")),
    *(("report folder", with_(stability.report, PROBLEM), v) for v in (None, 3, "/proc/none/here")),
    *(("diagnose names", with_(stability.diagnose, PROBLEM, THETA), v) for v in (None, 3, "", "q=99")),
    *(("diagnose seed", with_(stability.diagnose, PROBLEM, THETA), v) for v in COUNTS),
    *(("diagnose eigenvalues", with_(stability.diagnose, PROBLEM, THETA), v) for v in [*COUNTS, 0]),
    *(("follow snapshots", with_(stability.follow, PROBLEM), v) for v in (None, 3, [], [3], "/no/folder", [network()])),
    *(("Recorder every", with_(stability.Recorder), v) for v in [*COUNTS, 0]),
    *(("Recorder limit", with_(stability.Recorder), v) for v in [*COUNTS, 0]),
    *(("Recorder folder", with_(stability.Recorder), v) for v in (3, "/proc/none/here")),
    *(("load_weights path", with_(stability.load_weights), v) for v in (None, 3, "", "/no/file.pt", "/")),
    *(("mlp spaces", with_(stability.mlp, nonlinearities=[stability.Identity()]), v)
      for v in (None, [], [REG], [3, 3], REG)),
    *(("mlp nonlinearities", with_(stability.mlp, spaces=[REG, REG]), v) for v in (None, [], ["tanh"], [torch.tanh])),
    *(("mlp bias", with_(stability.mlp, [REG, REG], [stability.Identity()]), v) for v in (None, 1, "yes", [1], [])),
    *(("Pointwise name", with_(stability.Pointwise), v) for v in (None, 3, "swish", ["tanh"])),
    *(("LayerNorm epsilon", with_(stability.LayerNorm), v) for v in NUMBERS),
    *(("Norm epsilon", with_(stability.Norm), v) for v in [*NUMBERS, 0]),
]  # fmt: skip


# An address in a name would differ from process to process.
NAMES = [f"{i} {what} {value!r:.30}".split(" at 0x")[0] for i, (what, _, value) in enumerate(BAD)]


@pytest.mark.parametrize(("what", "function", "value"), BAD, ids=NAMES)
def test_an_argument_of_no_use_is_refused_in_one_line(what, function, value):
    refused(function(what.split()[1], value))


POINTS = [
    3, math.nan, [], [1.0], {}, {"0.weight": 3}, torch.zeros(0), torch.zeros(5), THETA * math.nan, THETA + 0j,
    THETA.to_sparse(), THETA.to("meta"), torch.zeros(3, 3), "/no/such.pt", nn.Linear(2, 2),
    {"0.weight": torch.zeros(6, 3)}, np.zeros(4), np.array(["a"] * len(THETA)), object(), float,
]  # fmt: skip


@pytest.mark.parametrize("point", POINTS, ids=range(len(POINTS)))
@pytest.mark.parametrize("stage", ["hessian", "spectrum", "sectors", "analyse", "project", "weights", "diagnose"])
def test_what_is_no_point_is_refused_by_every_stage(stage, point):
    refused(lambda: getattr(stability, stage)(PROBLEM, point))


X, Y = data()
SPARSE, META = torch.eye(12)[:, :3].to_sparse(), torch.zeros(12, 3, device="meta")
BAD_DATA = [
    ((X,), "pair"), ((X, Y, Y, Y), "pair"), ({"x": X, "z": Y}, "0 are targets"), (X, "pair"),
    ("data.csv", "pair"),
    (3, "pair"), ((X, Y[:5]), "12 inputs and 5 targets"), ((X[:0], Y[:0]), "0 inputs"), ((X * math.nan, Y), "36 input"),
    ((X, Y.double() * math.inf), "target values are not finite"), ((X + 1j, Y), "complex"), ((X, Y + 1j), "complex"),
    ((SPARSE, Y), "sparse"), ((META, Y), "meta"), ((X, Y, -torch.ones(12)), "weights"),
    ((X, Y, torch.zeros(12)), "weights"),
    ((X, Y, torch.ones(3)), "weights"), ((X, Y, torch.full((12,), math.nan)), "not finite"),
    ((torch.quantize_per_tensor(X.float(), 0.1, 0, torch.qint8), Y), "quantised"),
    ((torch.full((12, 3), 2**53 + 1), Y), "exactly"), ((np.array([["a"] * 3] * 12), Y), "give numbers"),
    ([((X, X), Y)], "cannot take inputs"), ([{"z": X, "y": Y, "x": X}], "cannot take inputs"),
    ([(X, Y, Y)], "cannot take inputs"), ([{"y": Y}], "give inputs beside it"), ([(X, {"a": Y, "b": Y})], "targets"),
    ([(X[0], Y[0]), (X[0, :2], Y[1])], "shapes"),
    ((X, Y.double()), "y.long()"), ((X, Y + 1), "out of bounds"),
    ((X, -Y - 1), "out of bounds"),
    ((X, torch.cat([Y[:-1], torch.tensor([7])])), "out of bounds"),
    ((X, torch.full_like(Y, -100)), "ignore_index"),
    (DataLoader(TensorDataset(X, Y), batch_size=5, drop_last=True), "drops 2 of 12"),
    (DataLoader(TensorDataset(X), batch_size=5), "pair"),
    ((X[:, :2], Y), "cannot take inputs"), ((X.int(), Y, "w"), "pair"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "word"), BAD_DATA, ids=range(len(BAD_DATA)))
def test_data_of_no_use_are_refused_for_their_true_reason(given, word):
    refused(lambda: module_problem(samples=given), word)


class Pairs(torch.utils.data.Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, i):
        if i >= 12:
            raise IndexError(i)
        return X[i], int(Y[i])


GOOD_DATA = {
    "numpy": lambda: (X.numpy(), Y.numpy()),
    "negative strides": lambda: (X.numpy()[::-1], Y.numpy()[::-1]),
    "big endian": lambda: (X.numpy().astype(">f8"), Y.numpy().astype(">i4")),
    "fortran order": lambda: (np.asfortranarray(X.numpy()), Y.numpy().astype(np.uint16)),
    "not contiguous": lambda: (X.t().contiguous().t(), Y.repeat_interleave(2)[::2]),
    "leaves of a graph": lambda: (X.clone().requires_grad_(), Y),
    "labels in few bits": lambda: (X, Y.to(torch.uint8)),
    "list of samples": lambda: [(X[i], Y[i]) for i in range(12)],
    "list of Python numbers": lambda: [(X[i].tolist(), int(Y[i])) for i in range(12)],
    "generator of batches": lambda: ((X[i : i + 5], Y[i : i + 5]) for i in range(0, 12, 5)),
    "dataset of pairs": Pairs,
    "loader of single samples": lambda: DataLoader(Pairs(), batch_size=None),
    "weights": lambda: (X, Y, torch.full((12,), 3)),
    "Samples": lambda: stability.Samples(X, Y, torch.ones(12)),
}


@pytest.mark.parametrize("form", GOOD_DATA)
def test_data_in_every_usual_form_are_the_same_risk(form):
    problem = module_problem(samples=GOOD_DATA[form]())
    at = PROBLEM.model.given
    with torch.no_grad():
        plain = nn.functional.cross_entropy(network().double()(X), Y) + 0.05 * at.square().sum()
    assert float(problem.risk(at)) == pytest.approx(float(plain), rel=1e-13)
    assert problem.samples.x.dtype == torch.float64 and not problem.samples.x.requires_grad


# -- losses -----------------------------------------------------------------------------------------------------------


def regression(loss, y, outputs: int = 1, x: Tensor = X, **options):
    torch.manual_seed(2)
    module = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, outputs))
    spec = {"0": (REG, 2 * REG), "2": (2 * REG, outputs * ONE)}
    return stability.from_module(module, loss, (x, y), spec, **options), module.double()


FLAT = X.sum(1)
# The first targets are all alike: broadcasting (n, 1) against (n) gives the right number on them.
LATE = torch.cat([torch.zeros(10), torch.ones(2)]).double()


@pytest.mark.parametrize(
    "loss",
    [nn.MSELoss(), nn.L1Loss(), nn.HuberLoss(), nn.SmoothL1Loss(), nn.functional.mse_loss,
     lambda p, y: ((p - y) ** 2).mean(), lambda p, y: ((p - y) ** 2).mean(1), nn.PoissonNLLLoss()],
)  # fmt: skip
@pytest.mark.parametrize("y", [FLAT, LATE], ids=["all differ", "first alike"])
def test_targets_that_torch_would_broadcast_are_refused(loss, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refused_late(lambda: regression(loss, y))


def refused_late(call) -> None:
    with pytest.raises(BadInput) as told:
        call()
    assert "loss" in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(
    "loss",
    [nn.MSELoss(), nn.SmoothL1Loss(), nn.functional.mse_loss, lambda p, y: (p - y).square().mean(),
     lambda p, y: (p - y).square().mean(1), nn.BCEWithLogitsLoss(pos_weight=torch.tensor([3.0]))],
)  # fmt: skip
def test_losses_of_torch_have_the_value_that_torch_gives(loss):
    y = (X[:, :1] > 0).double()
    problem, module = regression(loss, y, decides=False)
    with torch.no_grad():
        prediction = module(X)
        loss = loss.double() if isinstance(loss, nn.Module) else loss
        expected = loss(prediction, y).mean()
    assert float(problem.risk(problem.model.given)) == pytest.approx(float(expected), rel=1e-12)


def gaussian(p: Tensor, y: Tensor) -> Tensor:
    return nn.functional.gaussian_nll_loss(p[:, :1], y, p[:, 1:].exp(), reduction="none").sum(1)


def test_a_gaussian_likelihood_is_refused_as_a_module_and_taken_as_a_function():
    y = FLAT.unsqueeze(1)
    refused_late(lambda: regression(nn.GaussianNLLLoss(), y, 2))
    refused_late(lambda: regression(nn.CosineEmbeddingLoss(), y))
    refused_late(lambda: regression(nn.MSELoss(reduction="none"), torch.cat([y, y], 1), 2))

    def likelihood(p: Tensor, t: Tensor) -> Tensor:
        return (0.5 * (p[:, 1:] + (p[:, :1] - t).square() * (-p[:, 1:]).exp())).sum(1)

    problem, module = regression(likelihood, y, 2)
    with torch.no_grad():
        expected = gaussian(module(X), y).mean()
    assert float(problem.risk(problem.model.given)) == pytest.approx(float(expected), rel=1e-12)


def test_class_weights_are_weights_of_samples():
    classes = torch.tensor([1.0, 3.0])
    weighing = nn.CrossEntropyLoss(weight=classes)
    with torch.no_grad():
        expected = nn.functional.cross_entropy(network().double()(X), Y, weight=classes.double())
    for problem in (module_problem(samples=(X, Y, classes[Y]), weight_decay=0.0), module_problem(loss=weighing)):
        risk = float(problem.risk(problem.model.given)) - float(problem.penalty(problem.model.given))
        assert risk == pytest.approx(float(expected), rel=1e-12)


# -- weights ----------------------------------------------------------------------------------------------------------


def dense_hessian(f, at: Tensor, step: float = 1e-4) -> np.ndarray:
    """∇²f by central differences of values, fourth order: nothing of autograd."""
    n = len(at)

    def g(i: int, j: int, a: float, b: float) -> float:
        v = at.clone()
        v[i] += a * step
        v[j] += b * step
        with torch.no_grad():
            return float(f(v))

    pairs = {(1, 1): 1.0, (1, -1): -1.0, (-1, 1): -1.0, (-1, -1): 1.0}
    coarse = {(2 * a, 2 * b): s for (a, b), s in pairs.items()}
    out = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            fine = sum(s * g(i, j, *ab) for ab, s in pairs.items()) / (4 * step**2)
            wide = sum(s * g(i, j, *ab) for ab, s in coarse.items()) / (16 * step**2)
            out[i, j] = out[j, i] = (4 * fine - wide) / 3
    return out


class Waves(nn.Module):
    """Complex weights between a transform and its inverse; a flip of the line conjugates the spectrum."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(3, dtype=torch.cfloat))
        self.gain = nn.Parameter(torch.tensor([0.7]))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.gain * torch.fft.irfft(torch.fft.rfft(x) * self.w, n=4))


FLIP = PermutationRepresentation(Cyclic(2), 4, lambda g: [0, 1, 2, 3] if g == 0 else [0, 3, 2, 1], "flip")
CONJUGATE = stability.groups.MatrixRepresentation(
    Cyclic(2), 6, lambda g: np.diag([1.0, -1.0] * 3) if g else np.eye(6), "conjugation"
)


def waves(spec=CONJUGATE):
    torch.manual_seed(0)
    x = torch.randn(9, 4, dtype=torch.float64)
    module = Waves()
    problem = stability.from_module(
        module, nn.MSELoss(), (x, x.roll(1, 1).tanh()), {"w": spec, "gain": trivial(Cyclic(2))}, input=FLIP,
        output=FLIP, target=FLIP, weight_decay=0.05,
    )  # fmt: skip
    return module, problem, x


def test_complex_weights_are_pairs_of_real_numbers():
    module, problem, x = waves()
    assert max(stability.check(problem).values()) < 1e-12
    assert problem.space.dim == 7 and stability.weights(problem, module)["w"].dtype == torch.complex128
    exact = copy.deepcopy(module).double()
    exact.w.data = exact.w.data.to(torch.complex128)
    with torch.no_grad():
        risk = nn.functional.mse_loss(exact(x), x.roll(1, 1).tanh())
        risk = risk + 0.025 * (exact.w.abs().square().sum() + exact.gain.square().sum())
    assert float(problem.risk(problem.model.given)) == pytest.approx(float(risk), rel=1e-6)
    theta = problem.initial(0)
    at = problem.space.embed(theta)

    def averaged(a: Tensor) -> Tensor:
        return sum(problem.risk(problem.space.act(g, a)) for g in problem.group.elements()) / 2

    dense = dense_hessian(averaged, at)
    found = stability.hessian(problem, theta, "aug", "L").matrix().numpy()
    np.testing.assert_allclose(found, dense, atol=2e-6)
    module.load_state_dict(
        {k: v.to(module.state_dict()[k].dtype) for k, v in stability.project(problem, module).items()}
    )
    assert stability.diagnose(problem, module, names="none").distance < 1e-6
    assert float(module.w.imag.detach().abs().max()) < 1e-12  # what a flip conjugates is real on E


def test_complex_weights_of_another_kind_are_refused():
    refused(lambda: waves(3 * trivial(Cyclic(2))), "complex: 3 entries are 6 real numbers")
    module, problem, _ = waves()
    refused(lambda: stability.check(waves(3 * trivial(Cyclic(2)) * (2 * trivial(Cyclic(2))))[1]), "fails by")
    state = module.state_dict()
    refused(lambda: stability.weights(problem, state | {"gain": state["gain"] + 1j}), "complex")
    real, spec = PROBLEM.model.module, {"a": REG}
    refused(lambda: stability.weights(PROBLEM, {k: v + 0j for k, v in real.state_dict().items()}), "complex")
    refused(lambda: stability.from_risk(risk, {"a": A + 1j}, spec), "complex: 3 entries are 6")


def test_a_risk_of_complex_tensors_is_one_of_pairs():
    pairs = REG * (2 * ONE)
    z = torch.tensor([0.3 + 0.1j, -0.2j, 0.5], dtype=torch.complex128)
    problem = stability.from_risk(
        lambda t: (t["z"].abs() ** 4).sum() + (t["z"] ** 3).sum().real, {"z": z}, {"z": pairs}
    )
    a = torch.view_as_real(z).flatten()
    expected = float((z.abs() ** 4).sum() + (z**3).sum().real)
    assert float(problem.risk(a)) == pytest.approx(expected, rel=1e-6)
    theta = problem.initial(0)
    dense = dense_hessian(problem.risk, problem.space.embed(theta))
    found = stability.hessian(problem, theta, "nominal", "L").matrix().numpy()
    np.testing.assert_allclose(found, dense, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_narrow_weights_are_converted_exactly_and_said_to_be(dtype):
    module = network().to(dtype)
    problem = module_problem(module)
    exact = torch.cat([p.detach().double().flatten() for p in module.parameters()])
    assert torch.equal(problem.model.given, exact)
    assert ("precision" in dict(problem.facts)) == (dtype != torch.float32)
    narrow = stability.from_risk(risk, {"a": A.to(dtype)}, {"a": REG})
    assert narrow.samples.x.dtype == (torch.float32 if dtype == torch.float32 else torch.float64)
    assert torch.equal(
        narrow.space.embed(narrow.initial(0)), narrow.space.equivariant_part(A.to(dtype).to(narrow.samples.x))
    )


def test_integers_that_start_a_search_are_exact_or_refused():
    problem = stability.from_risk(risk, {"a": torch.tensor([1, 2, 3])}, {"a": REG})
    assert problem.initial(0).dtype == torch.float64 and "int64" in dict(problem.facts)["precision"]
    refused(lambda: stability.from_risk(risk, {"a": torch.tensor([1, 2, 2**53 + 1])}, {"a": REG}), "exactly")
    for bad, word in (
        (A.to_sparse(), "sparse"),
        (A.to("meta"), "meta"),
        (torch.quantize_per_tensor(A.float(), 0.1, 0, torch.qint8), "quantised"),
    ):
        refused(lambda bad=bad: stability.from_risk(risk, {"a": bad}, {"a": REG}), word)
    spread = torch.tensor([0.4], dtype=torch.float64).expand(3)
    same = stability.from_risk(risk, {"a": spread}, {"a": REG})
    assert torch.equal(same.space.embed(same.initial(0)), same.space.equivariant_part(spread.clone()))
    leaf = A.clone().requires_grad_()
    leaf.register_hook(lambda g: g * 0)
    hooked = stability.from_risk(risk, {"a": leaf}, {"a": REG})
    assert stability.spectrum(hooked).lowest[0].value == stability.spectrum(from_risk()).lowest[0].value


class Words(nn.Module):
    """Token ids in, the sum over the words out."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(5, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.table(x)).sum(1))


def test_token_ids_stay_integers():
    torch.manual_seed(0)
    x, module = torch.randint(0, 5, (12, 3)), Words()
    spec = {"table": 20 * ONE, "head": (4 * ONE, 2 * ONE)}
    for dtype in (torch.int64, torch.int32):
        problem = stability.from_module(
            module, nn.CrossEntropyLoss(), (x.to(dtype), Y), spec, input=REG, output=2 * ONE
        )
        assert "kept" in dict(problem.facts)["inputs"] and max(stability.check(problem).values()) < 1e-12
        with torch.no_grad():
            expected = nn.functional.cross_entropy(copy.deepcopy(module).double()(x), Y)
        assert float(problem.risk(problem.model.given)) == pytest.approx(float(expected), rel=1e-12)
    turned = stability.groups.MatrixRepresentation(
        Cyclic(2), 3, lambda g: np.diag([1.0, 1.0, -1.0 if g else 1.0]), "sign"
    )
    two = trivial(Cyclic(2))
    refused(
        lambda: stability.from_module(
            module, nn.CrossEntropyLoss(), (x, Y), {"table": 20 * two, "head": (4 * two, 2 * two)}, input=turned,
            output=2 * two,
        ),
        "integers",
    )  # fmt: skip
    pixels = torch.randint(0, 256, (12, 3), dtype=torch.uint8)
    cast = module_problem(samples=(pixels, Y))
    assert "converted" in dict(cast.facts)["inputs"]
    with torch.no_grad():
        logits = network().double()(pixels.double())
    assert torch.allclose(cast.model.predict(cast.model.given, cast.samples.x), logits, atol=1e-12)


def test_tied_weights_go_by_all_their_names_and_must_agree():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)
            self.two.weight = self.one.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.tanh(self.two(torch.tanh(self.one(x)))))

    torch.manual_seed(0)
    module = Tied()
    spec = {"one": (REG, REG), "two": (REG, REG), "head": (REG, 2 * ONE)}
    problem = stability.from_module(module, nn.CrossEntropyLoss(), data(), spec)
    state = module.state_dict()
    assert set(stability.project(problem, state)) == set(state)
    module.load_state_dict(stability.project(problem, state))
    at = stability.weights(problem, state)
    for name in ("one.weight", "two.weight"):
        fewer = {k: v for k, v in state.items() if k != name}
        assert all(torch.equal(v, at[k]) for k, v in stability.weights(problem, fewer).items())
    refused(lambda: stability.weights(problem, state | {"two.weight": state["two.weight"] + 0.1}), "tied to one.weight")


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("norm", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm], ids=["new", "old"])
def test_weight_norm_has_the_hessian_of_its_sizes_and_directions(norm):
    torch.manual_seed(0)
    module = nn.Sequential(norm(nn.Linear(3, 3, bias=False)), nn.Tanh(), nn.Linear(3, 2))
    spec = {"0": (REG, REG), "2": (REG, 2 * ONE)}
    problem = stability.from_module(module, nn.CrossEntropyLoss(), data(), spec, weight_decay=0.1)
    assert max(stability.check(problem).values()) < 1e-12
    theta = problem.initial(0)
    at = problem.space.embed(theta)
    parts = problem.space.split(at)

    def by_hand(a: Tensor) -> Tensor:
        named = dict(zip([layer.name for layer in problem.space.layers], problem.space.split(a), strict=True))
        size = next(v for k, v in named.items() if k.endswith(("original0", "weight_g"))).reshape(3, 1)
        v = next(v for k, v in named.items() if k.endswith(("original1", "weight_v")))
        hidden = torch.tanh(X @ (size * v / v.norm(dim=1, keepdim=True)).mT)
        logits = hidden @ named["2.weight"].mT + named["2.bias"].flatten()
        return nn.functional.cross_entropy(logits, Y) + 0.05 * a.square().sum()

    assert len(parts) == 4
    found = stability.hessian(problem, theta, "nominal", "L").matrix().numpy()
    np.testing.assert_allclose(found, dense_hessian(by_hand, at), atol=2e-6)


# -- modules that are no function of one sample ----------------------------------------------------------------------


class Odd(nn.Module):
    def __init__(self, way) -> None:
        super().__init__()
        self.inner, self.way, self.calls = network(), way, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.way(self.inner(x), x, self)


@pytest.mark.parametrize(
    ("way", "word"),
    [
        (lambda p, x, m: nn.functional.dropout(p, 0.5), "two passes"),
        (lambda p, x, m: p + 1e-3 * torch.rand_like(p), "two passes"),
        (lambda p, x, m: p * m.calls, "two passes"),
        (lambda p, x, m: p - p.mean(0), "other samples"),
        (lambda p, x, m: p[torch.argsort(p[:, 0])], "other samples"),
        (lambda p, x, m: p.float(), "casts inside"),
        (lambda p, x, m: p + 1j, "complex"),
        (lambda p, x, m: (p, p), "output has 4 numbers"),
        (lambda p, x, m: {}, "dict of 0"),
        (lambda p, x, m: p.sum(), "a row for each sample"),
        (lambda p, x, m: p.long(), "casts inside"),
        (lambda p, x, m: p / 0, "not finite"),
        (lambda p, x, m: None, "one tensor"),
    ],
)  # fmt: skip
def test_a_module_that_is_no_function_of_one_sample_is_told_why(way, word):
    spec = {f"inner.{k}": v for k, v in SPEC.items()}
    refused(lambda: module_problem(Odd(way), spec=spec, output=2 * ONE, input=REG), word)


def test_weights_that_are_not_there_are_named():
    refused(lambda: module_problem(nn.Sequential(nn.LazyLinear(6), nn.Tanh(), nn.Linear(6, 2))), "has no shape yet")
    refused(lambda: module_problem(network().to("meta")), "0.weight is on the meta device")
    broken = network()
    with torch.no_grad():
        broken[0].weight[1, 1] = math.nan
    refused(lambda: module_problem(broken), "0.weight holds 1 values that are not finite")
    whole_numbers = network()
    whole_numbers[0].bias = nn.Parameter(torch.ones(6, dtype=torch.int64), requires_grad=False)
    refused(lambda: module_problem(whole_numbers, spec=SPEC | {"0.bias": 2 * REG}), "integers")


def test_dropout_of_a_module_in_training_is_off_and_said_to_be():
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(3, 6), nn.Dropout(0.5), nn.Linear(6, 2)).train()
    problem = module_problem(module)
    assert "evaluation" in dict(problem.facts)["mode"] and module.training
    with torch.no_grad():
        expected = copy.deepcopy(module).double().eval()(X)
    assert torch.allclose(problem.model.predict(problem.model.given, problem.samples.x), expected, atol=1e-12)


# -- buffers travel ----------------------------------------------------------------------------------------------------


def normed(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2))
    for _ in range(20):
        module(seed + (1 + seed) * torch.randn(30, 3))
    return module.eval()


NORMED = {"0": (REG, 2 * REG), "1": 2 * REG, "3": (2 * REG, 2 * ONE)}


def by_hand(module: nn.Module) -> float:
    """λ_min of ∇²R^aug on E⊥ at the projection onto E, weights and statistics averaged over C_3 by hand."""
    whole = copy.deepcopy(module).double()
    turn = [torch.roll(torch.eye(3, dtype=torch.float64), k, 0) for k in range(3)]
    wide = [torch.block_diag(t, t) for t in turn]
    moves = {
        "0.weight": lambda k, w: wide[k] @ w @ turn[k].mT,
        "0.bias": lambda k, w: wide[k] @ w,
        "1.weight": lambda k, w: wide[k] @ w,
        "1.bias": lambda k, w: wide[k] @ w,
        "3.weight": lambda k, w: w @ wide[k].mT,
        "3.bias": lambda k, w: w,
        "1.running_mean": lambda k, w: wide[k] @ w,
        "1.running_var": lambda k, w: wide[k] @ w,
    }
    state = whole.state_dict()
    fixed = {k: sum(move(i, state[k]) for i in range(3)) / 3 for k, move in moves.items()}
    names = [k for k, _ in whole.named_parameters()]
    sizes = [fixed[k].numel() for k in names]
    buffers = {k: v for k, v in fixed.items() if k not in names}
    at = torch.cat([fixed[k].flatten() for k in names])

    def risk(a: Tensor) -> Tensor:
        parts = {k: v.reshape(fixed[k].shape) for k, v in zip(names, a.split(sizes), strict=True)}
        total = 0.0
        for k in range(3):
            moved = {key: moves[key](k, v) for key, v in parts.items()}
            logits = torch.func.functional_call(whole, moved | buffers, (X,))
            total = total + nn.functional.cross_entropy(logits, Y) / 3
        return total + 0.05 * a.square().sum()

    dense = torch.autograd.functional.hessian(risk, at)

    def averaged(unit: Tensor) -> Tensor:
        parts = [(k, v.reshape(fixed[k].shape)) for k, v in zip(names, unit.split(sizes), strict=True)]
        return sum(torch.cat([moves[k](i, v).flatten() for k, v in parts]) for i in range(3)) / 3

    on_e = torch.stack([averaged(unit) for unit in torch.eye(len(at), dtype=torch.float64)])
    values, vectors = torch.linalg.eigh(on_e)
    outside = vectors[:, values < 0.5]
    return float(torch.linalg.eigvalsh(outside.mT @ dense @ outside)[0])


def test_a_point_carries_the_statistics_it_was_found_with(tmp_path):
    first, second = normed(0), normed(3)
    problem = stability.from_module(first, nn.CrossEntropyLoss(), data(), NORMED, weight_decay=0.1)
    torch.save(second.state_dict(), tmp_path / "second.pt")
    truth = {1: by_hand(first), 2: by_hand(second)}
    assert abs(truth[1] - truth[2]) > 1e-3

    def lowest(point) -> float:
        return stability.spectrum(problem, point).lowest[0].value

    projected = stability.project(problem, tmp_path / "second.pt")
    loaded = copy.deepcopy(second).double()
    loaded.load_state_dict(projected)
    outcome = stability.analyse(problem, second, escape_iterations=0)
    snapshots = stability.Recorder(tmp_path / "run")
    snapshots(first, 0)
    snapshots(second, 1)
    moments = stability.follow(problem, snapshots).moments
    for form in (
        second,
        second.state_dict(),
        tmp_path / "second.pt",
        projected,
        loaded,
        outcome,
        nn.DataParallel(second),
    ):
        assert lowest(form) == pytest.approx(truth[2], abs=1e-9)
        assert lowest(first) == pytest.approx(truth[1], abs=1e-9)  # nothing of the other one is left behind
    assert stability.diagnose(problem, outcome).lowest == pytest.approx(truth[2], abs=1e-9)
    assert stability.diagnose(problem, projected).lowest == pytest.approx(truth[2], abs=1e-9)
    assert [m.lowest_perp for m in moments] == pytest.approx([truth[1], truth[2]], abs=1e-9)
    point = stability.StationaryPoint("file", outcome.theta, 0.0, 0.0, 0.0, held=outcome.held)
    assert lowest(point) == pytest.approx(truth[2], abs=1e-9)
    assert lowest(stability.StationaryPoint.from_json(point.to_json())) == pytest.approx(truth[2], abs=1e-9)
    save_point(tmp_path / "point.safetensors", problem, outcome.theta, {})
    assert lowest(tmp_path / "point.safetensors") == pytest.approx(
        stability.spectrum(problem, problem.space.embed(outcome.theta)).lowest[0].value, abs=1e-12
    )


def test_weights_without_the_statistics_they_go_with_are_refused():
    module = normed(1)
    problem = stability.from_module(module, nn.CrossEntropyLoss(), data(), NORMED)
    refused(lambda: stability.spectrum(problem, dict(module.named_parameters())), "1.running_mean", "state_dict()")
    mended = dict(module.named_parameters()) | dict(module.named_buffers())
    assert stability.spectrum(problem, mended).lowest[0].value == stability.spectrum(problem, module).lowest[0].value
    state = module.state_dict()
    refused(lambda: stability.spectrum(problem, state | {"1.running_var": torch.full((6,), math.nan)}), "not numbers")
    refused(lambda: stability.spectrum(problem, state | {"1.running_var": torch.ones(5)}), "shape")


def test_what_a_forward_pass_writes_into_a_buffer_is_gone_after_it():
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.seen += 1
            return self.inner(x) * self.seen

    problem = module_problem(Counting(), spec={f"inner.{k}": v for k, v in SPEC.items()}, output=2 * ONE)
    at = problem.model.given
    assert float(problem.risk(at)) == float(problem.risk(at)) == pytest.approx(float(PROBLEM.risk(at)), rel=1e-12)


# -- what R^aug is ----------------------------------------------------------------------------------------------------


def gated(scale: float, twist: Tensor):
    """A layer whose outputs are weighed one by one by ``twist``: equivariant where that is constant."""
    x, y = brute.gaussian(20, 3, seed=1), brute.gaussian(20, 3, seed=2)

    def on(t, k: int) -> Tensor:
        out = torch.tanh(x.roll(k, 1) @ t["w"].mT) * twist
        return scale * (out - y.roll(k, 1)).square().mean()

    return lambda t: on(t, 0), lambda g, t: on(t, g)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_whether_the_average_over_weights_is_the_one_over_data_is_measured_where_it_can_be(scale):
    tensors, spec = {"w": brute.gaussian(3, 3, seed=3)}, {"w": (REG, REG)}
    plain, moved = gated(scale, torch.ones(3, dtype=torch.float64))
    good = stability.from_risk(plain, tensors, spec, moved=moved)
    assert stability.check(good)["invariant_loss"] < 1e-10
    plain, moved = gated(scale, torch.linspace(0.5, 1.5, 3, dtype=torch.float64))
    bad = stability.from_risk(plain, tensors, spec, moved=moved)
    refused(lambda: stability.check(bad), "invariant_loss fails")
    silent = stability.from_risk(plain, tensors, spec)
    assert "not measured" in dict(silent.facts)["R^aug"] and "over moved weights" in dict(silent.facts)["R^aug"]
    assert "R is invariant" in dict(from_risk().facts)["R^aug"]


def test_no_refusal_rests_on_an_assert():
    for path in sorted(Path(stability.__file__).parent.rglob("*.py")):
        lines = path.read_text().splitlines()
        assert not [line for line in lines if line.lstrip().startswith("assert ")], path.name
