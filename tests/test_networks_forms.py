# ruff: noqa: E501 - tables: a form a line
"""Every usual form of data, loss and module is the risk that its owner means, or is refused with a mend that works."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import brute
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import stability
from stability.groups import Cyclic, PermutationRepresentation, Symmetric, permutation, trivial
from stability.networks.decay import decay_of
from stability.networks.gathering import collect
from stability.networks.moduleflat import flat_families
from stability.networks.structures import Bundle, laid_out

GROUP = Cyclic(2)
ONE = trivial(GROUP)
SWAP = PermutationRepresentation(GROUP, 4, lambda g: [0, 1, 2, 3] if g == 0 else [1, 0, 3, 2], "swap")
PAIR = PermutationRepresentation(GROUP, 2, lambda g: [g, 1 - g] if g == 0 else [1, 0], "pair")
X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(12) % 3
REAL = torch.randn(12, 3, generator=torch.Generator().manual_seed(1))
SHARE = torch.softmax(REAL, 1)
YES = (REAL > 0).float()
SIGN = REAL.sign()


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return build()


def line(out: int = 3) -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, out)))


def spec(out: int = 3, before: str = "") -> dict:
    return {f"{before}0": (SWAP, SWAP), f"{before}2": (SWAP, out * ONE)}


@dataclass(frozen=True)
class Form:
    """A problem as its owner has it, and what the owner's code computes from the same module in double precision."""

    module: nn.Module
    loss: Any
    data: Any
    spec: dict
    own: Callable[[nn.Module], Tensor]
    options: dict

    def problem(self) -> stability.Problem:
        return stability.from_module(self.module, self.loss, self.data, self.spec, **self.options)


def form(module, loss, data, spec, own, **options) -> Callable[[], Form]:
    return lambda: Form(module() if not isinstance(module, nn.Module) else module, loss, data, spec, own, options)


def doubled(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def of_loss(loss: Any, y: Tensor, out: int = 3, exact: Any = None) -> Callable[[], Form]:
    """A form that differs from the simplest by its loss: its owner has that of one batch with all samples."""

    def own(module: nn.Module) -> Tensor:
        used = copy.deepcopy(loss).double() if isinstance(loss, nn.Module) else loss
        return (exact or used)(module(X.double()), doubled(y))

    return form(lambda: line(out), loss, (X, y), spec(out), own)


def agrees(made: Form) -> None:
    """Risk and a Hessian product, against the owner's code and central differences of its gradient."""
    problem = made.problem()
    module = copy.deepcopy(made.module).double().eval()
    names = [layer.name for layer in problem.space.layers]
    parameters = dict(module.named_parameters())
    with torch.enable_grad():
        value = made.own(module)
    at = problem.model.given
    assert float(problem.risk(at)) == pytest.approx(float(value.detach()), rel=1e-10, abs=1e-12)

    def gradient(shift: Tensor) -> Tensor:
        moved = copy.deepcopy(module)
        inside = dict(moved.named_parameters())
        start = 0
        for name in names:
            size = parameters[name].numel()
            inside[name].data += shift[start : start + size].reshape(parameters[name].shape)
            start += size
        parts = torch.autograd.grad(made.own(moved), [inside[n] for n in names], allow_unused=True)
        return torch.cat(
            [
                torch.zeros_like(inside[n]).flatten() if p is None else p.flatten()
                for n, p in zip(names, parts, strict=True)
            ]
        )

    v = brute.gaussian(len(at), seed=3)
    v = v / v.norm()
    differences = (gradient(1e-5 * v) - gradient(-1e-5 * v)) / 2e-5
    product = stability.hessian(problem, None if made.module is None else at, "nominal", "L")(v)
    assert torch.allclose(product, differences, atol=1e-7 * max(1.0, float(differences.norm())))


# -- losses -------------------------------------------------------------------------------------------------------

WEIGHTS = torch.tensor([1.0, 2.0, 3.0])
MARGIN = torch.tensor([[0.5, 1.5, -0.5]]).expand(12, 3).contiguous()
LOSSES: dict[str, Callable[[], Form]] = {
    "cross-entropy": of_loss(nn.CrossEntropyLoss(), Y),
    "of probabilities": of_loss(nn.CrossEntropyLoss(), SHARE),
    "smoothed labels": of_loss(nn.CrossEntropyLoss(label_smoothing=0.1), Y),
    "class weights": of_loss(nn.CrossEntropyLoss(weight=WEIGHTS), Y),
    "class weights, smoothed": of_loss(nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.1), Y),
    "class weights of probabilities": of_loss(nn.CrossEntropyLoss(weight=WEIGHTS), SHARE),
    "a label to ignore": of_loss(nn.CrossEntropyLoss(ignore_index=1), Y),
    "a label to ignore and weights": of_loss(nn.CrossEntropyLoss(weight=WEIGHTS, ignore_index=0), Y),
    "a sum": of_loss(nn.CrossEntropyLoss(reduction="sum"), Y),
    "none": of_loss(nn.CrossEntropyLoss(reduction="none"), Y, exact=nn.CrossEntropyLoss()),
    "NLL": of_loss(nn.NLLLoss(), Y),
    "NLL with weights": of_loss(nn.NLLLoss(weight=WEIGHTS), Y),
    "squares": of_loss(nn.MSELoss(), REAL),
    "sum of squares": of_loss(nn.MSELoss(reduction="sum"), REAL),
    "squares of integers": of_loss(nn.MSELoss(), torch.randint(0, 5, (12, 3)), exact=lambda p, y: (p - y).square().mean()),
    "absolute": of_loss(nn.L1Loss(), REAL),
    "smooth absolute": of_loss(nn.SmoothL1Loss(), REAL),
    "Huber": of_loss(nn.HuberLoss(delta=0.7), REAL),
    "binary": of_loss(nn.BCEWithLogitsLoss(), YES),
    "binary, weighted": of_loss(nn.BCEWithLogitsLoss(pos_weight=WEIGHTS), YES),
    "soft margin": of_loss(nn.SoftMarginLoss(), SIGN),
    "soft margin of many labels": of_loss(nn.MultiLabelSoftMarginLoss(), YES),
    "hinge": of_loss(nn.HingeEmbeddingLoss(), SIGN),
    "divergence": of_loss(nn.KLDivLoss(reduction="batchmean"), SHARE),
    "divergence, mean": of_loss(nn.KLDivLoss(), SHARE),
    "Poisson": of_loss(nn.PoissonNLLLoss(), torch.randint(0, 5, (12, 3)).float()),
    "a function, mean": of_loss(lambda p, y: functional.mse_loss(p, y), REAL),
    "a function, sum": of_loss(lambda p, y: functional.mse_loss(p, y, reduction="sum"), REAL),
    "a function a sample": of_loss(lambda p, y: (p - y).square().mean(1), REAL, exact=lambda p, y: (p - y).square().mean()),
    "variances predicted": of_loss(lambda p, y: nn.GaussianNLLLoss()(p[:, :1], y[:, :1], p[:, 1:2].exp()), REAL),
    "margin, written out": of_loss(lambda p, y: functional.softplus(1 - p * y).mean(), MARGIN.sign()),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:reduction")
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_its_value_for_all_samples_at_once(name):
    agrees(LOSSES[name]())


def test_what_a_risk_is_that_is_no_plain_mean_is_told():
    facts = {
        name: dict(LOSSES[name]().problem().facts) for name in ("a sum", "a function, sum", "class weights", "squares")
    }
    assert facts["a sum"]["loss"] == facts["a function, sum"]["loss"] == "it adds samples up: R is the sum over all 12"
    assert "divided by the weights of all samples, 24" in facts["class weights"]["loss"]
    assert "loss" not in facts["squares"]


# -- data -----------------------------------------------------------------------------------------------------------


class Masked(nn.Module):
    """Takes a mask beside its input."""

    def __init__(self) -> None:
        super().__init__()
        self.net = line()

    def forward(self, x, mask=None):
        found = self.net(x)
        return found if mask is None else found * mask


class OneArgument(nn.Module):
    """Takes one object that holds everything, as graph networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.net = line()

    def forward(self, batch):
        return self.net(batch.x) * batch.mask


class Tokens(nn.Module):
    """Token ids with a mask over positions, and an output object, as transformers have it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(5, 4), nn.Linear(4, 3)

    def forward(self, input_ids, attention_mask=None):
        h = torch.tanh(self.embed(input_ids))
        kept = torch.ones_like(h[..., 0]) if attention_mask is None else attention_mask.to(h.dtype)
        h = (h * kept.unsqueeze(-1)).sum(1) / kept.sum(1, keepdim=True)
        return Bundle(logits=self.head(h), hidden_states=None)


class Several(nn.Module):
    """Returns a prediction and something beside it."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.net, self.kind = line(), kind

    def forward(self, x):
        p = self.net(x)
        return {"tuple": (p, p.square()), "dict": {"logits": p, "extra": p.square()}, "list": [p], "none": (p, None)}[
            self.kind
        ]


class Squeezed(nn.Module):
    """One number a sample, without an axis."""

    def __init__(self) -> None:
        super().__init__()
        self.net = line(1)

    def forward(self, x):
        return self.net(x).squeeze(-1)


class Pixels(nn.Module):
    """Images to classes of pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 1)

    def forward(self, x):
        return torch.tanh(self.conv(x)) * 2


class Cast(nn.Module):
    """Bytes in, cast inside."""

    def __init__(self, right: bool) -> None:
        super().__init__()
        self.net, self.right = line(), right

    def forward(self, x):
        return self.net((x.to(self.net[0].weight.dtype) if self.right else x.float()) / 255)


MASK = (torch.rand(12, 1, generator=torch.Generator().manual_seed(2)) > 0.3).float()
IDS = torch.randint(0, 5, (12, 4), generator=torch.Generator().manual_seed(3))
KEPT = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]]).repeat(4, 1)
BYTES = (torch.rand(12, 4, generator=torch.Generator().manual_seed(4)) * 255).byte()
IMAGES = torch.randn(12, 1, 2, 2, generator=torch.Generator().manual_seed(5))
CLASSES_OF_PIXELS = torch.randint(0, 3, (12, 2, 2), generator=torch.Generator().manual_seed(6))
FOUR = Symmetric(4)
TRIVIAL, TOKENS = trivial(FOUR), permutation(FOUR)
EDGES: dict = {"input": SWAP, "output": 3 * ONE}
IN_NET = spec(before="net.")
LOADED = TensorDataset(X, Y)
CE = nn.CrossEntropyLoss()


def ce(module: nn.Module) -> Tensor:
    return functional.cross_entropy(module(X.double()), Y)


def masked(module: nn.Module) -> Tensor:
    return functional.cross_entropy(module(X.double(), MASK.double()), Y)


class Pairs(torch.utils.data.Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, i):
        return {"x": X[i], "mask": MASK[i], "labels": Y[i]}


BOTH = {"input": {"x": SWAP}, "output": 3 * ONE}
TOKEN_SPEC = {"embed.weight": 20 * TRIVIAL, "head": (4 * TRIVIAL, 3 * TRIVIAL)}
TOKEN_EDGES: dict = {"input": {"input_ids": TOKENS, "attention_mask": TOKENS}, "output": 3 * TRIVIAL}
BATCH = {"input_ids": IDS, "attention_mask": KEPT, "labels": Y}


def with_mask(module: nn.Module) -> Tensor:
    return functional.cross_entropy(module(IDS, KEPT).logits, Y)


def two_terms(outputs: Any, y: Tensor) -> Tensor:
    return functional.cross_entropy(outputs[0], y) + outputs[1].mean()


def whole_batch(outputs: Any, batch: Any) -> Tensor:
    return (
        functional.cross_entropy(outputs.logits, batch.labels, reduction="none") * batch.attention_mask.sum(1)
    ).mean()


DATA: dict[str, Callable[[], Form]] = {
    "tensors": form(line, CE, (X, Y), spec(), ce),
    "arrays": form(line, CE, (X.numpy(), Y.numpy()), spec(), ce),
    "weights beside": form(line, CE, (X, Y, torch.ones(12)), spec(), ce),
    "a dataset": form(line, CE, LOADED, spec(), ce),
    "a loader": form(line, CE, DataLoader(LOADED, batch_size=5), spec(), ce),
    "a loader without batches": form(line, CE, DataLoader(LOADED, batch_size=None), spec(), ce),
    "a list of pairs": form(line, CE, list(LOADED), spec(), ce),
    "a list of batches": form(line, CE, [(X[:7], Y[:7]), (X[7:], Y[7:])], spec(), ce),
    "a list of Python's numbers": form(line, CE, [(row.double().tolist(), int(y)) for row, y in LOADED], spec(), ce),
    "a pair of one tuple and labels": form(Masked, CE, ((X, MASK), Y), IN_NET, masked, input=[SWAP], output=3 * ONE),
    "a pair of a dict and labels": form(Masked, CE, ({"x": X, "mask": MASK}, Y), IN_NET, masked, **BOTH),
    "a dict with labels": form(Masked, CE, {"x": X, "mask": MASK, "labels": Y}, IN_NET, masked, **BOTH),
    "batches that are dicts": form(Masked, CE, [{"x": X, "mask": MASK, "y": Y}], IN_NET, masked, **BOTH),
    "a loader of dicts": form(Masked, CE, DataLoader(Pairs(), batch_size=5), IN_NET, masked, **BOTH),
    "a dataset of dicts": form(Masked, CE, Pairs(), IN_NET, masked, **BOTH),
    "a loader of triples": form(Masked, CE, DataLoader(TensorDataset(X, MASK, Y)), IN_NET, masked, input=[SWAP], output=3 * ONE),
    "one object of everything": form(OneArgument, CE, {"x": X, "mask": MASK, "y": Y}, IN_NET,
                                     lambda m: functional.cross_entropy(m.net(X.double()) * MASK.double(), Y), **BOTH),
    "token ids": form(lambda: seeded(Tokens), CE, (IDS, Y), TOKEN_SPEC,
                      lambda m: functional.cross_entropy(m(IDS).logits, Y), input=TOKENS, output=3 * TRIVIAL),
    "token ids and a mask": form(lambda: seeded(Tokens), CE, BATCH, TOKEN_SPEC, with_mask, **TOKEN_EDGES),
    "a loss of outputs and batch": form(lambda: seeded(Tokens), whole_batch, BATCH, TOKEN_SPEC,
                                        lambda m: whole_batch(m(IDS, KEPT), Bundle(BATCH)), **TOKEN_EDGES),
    "a tuple out": form(lambda: Several("tuple"), two_terms, (X, Y), IN_NET, lambda m: two_terms(m(X.double()), Y), output=6 * ONE),
    "a dict out, its logits": form(lambda: Several("dict"), CE, (X, Y), IN_NET,
                                   lambda m: functional.cross_entropy(m(X.double())["logits"], Y), output={"logits": 3 * ONE}),
    "a list of one out": form(lambda: Several("list"), CE, (X, Y), IN_NET,
                              lambda m: functional.cross_entropy(m(X.double())[0], Y), output=3 * ONE),
    "None beside": form(lambda: Several("none"), CE, (X, Y), IN_NET,
                        lambda m: functional.cross_entropy(m(X.double())[0], Y), output=3 * ONE),
    "targets that are several": form(line, lambda p, t: (p - t["a"]).square().mean() + (p.sum(1) - t["b"]).square().mean(),
                                     (X, {"a": REAL, "b": REAL[:, 0]}), spec(),
                                     lambda m: (m(X.double()) - REAL.double()).square().mean()
                                     + (m(X.double()).sum(1) - REAL[:, 0].double()).square().mean()),
    "one number a sample": form(Squeezed, nn.MSELoss(), (X, REAL[:, 0]), spec(1, "net."),
                                lambda m: (m(X.double()) - REAL[:, 0].double()).square().mean(), output=ONE),
    "one column": of_loss(nn.MSELoss(), REAL[:, :1], 1),
    "bytes as floats": form(line, CE, (BYTES, Y), spec(), lambda m: functional.cross_entropy(m(BYTES.double()), Y)),
    "bytes cast inside": form(lambda: Cast(True), CE, (BYTES, Y), IN_NET, lambda m: functional.cross_entropy(m(BYTES), Y), **EDGES),
    "classes of pixels": form(lambda: seeded(Pixels), CE, (IMAGES, CLASSES_OF_PIXELS), {"conv": (ONE, 3 * ONE)},
                              lambda m: functional.cross_entropy(m(IMAGES.double()), CLASSES_OF_PIXELS),
                              input=4 * ONE, output=12 * ONE, lattice=stability.groups.Lattice(GROUP, [[[1, 0], [0, -1]]])),
    "classes of pixels, weighted": form(lambda: seeded(Pixels), nn.CrossEntropyLoss(weight=WEIGHTS, ignore_index=2),
                              (IMAGES, CLASSES_OF_PIXELS), {"conv": (ONE, 3 * ONE)},
                              lambda m: functional.cross_entropy(m(IMAGES.double()), CLASSES_OF_PIXELS, WEIGHTS.double(), ignore_index=2),
                              input=4 * ONE, output=12 * ONE, lattice=stability.groups.Lattice(GROUP, [[[1, 0], [0, -1]]])),
    "boolean targets": form(line, lambda p, y: functional.binary_cross_entropy_with_logits(p, y.to(p.dtype)), (X, YES.bool()), spec(),
                            lambda m: functional.binary_cross_entropy_with_logits(m(X.double()), YES.double())),
}  # fmt: skip


@pytest.mark.parametrize("name", DATA)
def test_data_in_every_form_are_the_risk_that_their_owner_computes(name):
    agrees(DATA[name]())


def test_a_mask_moves_with_its_tokens_and_integers_stay_integers():
    problem = DATA["token ids and a mask"]().problem()
    assert max(stability.check(problem).values()) < 1e-12
    assert problem.model.inputs is not None and problem.model.inputs.integers
    wrong = DATA["token ids and a mask"]()
    still = Form(
        wrong.module, wrong.loss, wrong.data, wrong.spec, wrong.own, TOKEN_EDGES | {"input": {"input_ids": TOKENS}}
    )
    with brute.bad("fails by"):  # the mask stays where it was
        stability.check(still.problem())


def test_representations_of_parts_must_be_of_parts_that_are_there():
    made = DATA["a dict with labels"]()
    for given, message in (
        ({"z": SWAP}, "there is no 'z'; give representations of x, mask"),
        ({"mask": SWAP}, "mask has 1 numbers, but swap has dimension 4"),
    ):
        with brute.bad(message):
            Form(made.module, made.loss, made.data, made.spec, made.own, made.options | {"input": given}).problem()
    with brute.bad("input is one tensor; give one representation"):
        stability.from_module(line(), CE, (X, Y), spec(), input={"x": SWAP})


# -- modules --------------------------------------------------------------------------------------------------------

SETS = torch.randn(12, 4, 2, generator=torch.Generator().manual_seed(7))


class Attending(nn.Module):
    """Tokens in attention, as torch writes it."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.embed, self.head = nn.Linear(2, 4), nn.Linear(4, 3)
        if kind == "MultiheadAttention":
            self.mix = nn.MultiheadAttention(4, 2, batch_first=True)
        elif kind == "TransformerEncoderLayer":
            self.mix = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.1, activation="gelu", batch_first=True)
        elif kind == "TransformerEncoder":
            layer = nn.TransformerEncoderLayer(4, 2, 6, activation="gelu", batch_first=True, norm_first=True)
            self.mix = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, x):
        h = self.embed(x)
        if self.kind == "MultiheadAttention":
            h = h + self.mix(h, h, h)[0]
        elif self.kind == "scaled_dot_product_attention":
            h = h + functional.scaled_dot_product_attention(h, h, h)
        else:
            h = self.mix(h)
        return self.head(h.mean(1))


def attending(kind: str) -> Callable[[], Form]:
    def make() -> Form:
        module = seeded(lambda: Attending(kind)).eval()
        every = {n: p.numel() * TRIVIAL for n, p in module.named_parameters()}
        return Form(module, CE, (SETS, Y), every, lambda m: functional.cross_entropy(m(SETS.double()), Y),
                    {"input": TOKENS * (2 * TRIVIAL), "output": 3 * TRIVIAL})  # fmt: skip

    return make


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.cell, self.head = kind(2, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.cell(x)[0][:, -1])


def recurrent(kind: type[nn.Module], gates: int) -> Callable[[], Form]:
    def make() -> Form:
        module = seeded(lambda: Recurrent(kind))
        every: dict = {n: p.numel() * ONE for n, p in module.named_parameters()}
        every["cell.weight_ih_l0"] = (PAIR, 3 * gates * ONE)
        return Form(module, CE, (SETS, Y), every, lambda m: functional.cross_entropy(m(SETS.double()), Y),
                    {"input": 4 * PAIR, "output": 3 * ONE})  # fmt: skip

    return make


class Between(nn.Module):
    """A norm between two layers."""

    def __init__(self, norm: nn.Module, wrap: Callable[[nn.Module], nn.Module] = lambda m: m) -> None:
        super().__init__()
        self.a, self.norm, self.b = wrap(nn.Linear(4, 4)), norm, nn.Linear(4, 3)

    def forward(self, x):
        return self.b(torch.tanh(self.norm(self.a(x))))


class Tied(nn.Module):
    """The same weights twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.again, self.b = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.again.weight = self.a.weight

    def forward(self, x):
        return self.b(torch.tanh(self.again(torch.tanh(self.a(x)))))


class Instances(nn.Module):
    """Channels normalised over positions."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv1d(1, 2, 1), norm, nn.Linear(2, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.norm(self.conv(x))).square().mean(2))


class Hamiltonian(nn.Module):
    """The field of an energy, by a gradient inside forward."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.net, self.how = line(1), how

    def energy(self, x):
        return self.net(x)

    def forward(self, x):
        if self.how == "torch.func":
            return torch.func.grad(lambda x: self.energy(x).sum())(x)
        if self.how == "jacrev":
            return torch.func.vmap(torch.func.jacrev(lambda z: self.energy(z).squeeze(-1)))(x)
        x = x.detach().requires_grad_(True) if self.how == "detached" else x.requires_grad_(True)
        with torch.enable_grad():
            return torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)[0]


FIELD = torch.randn(12, 4, generator=torch.Generator().manual_seed(8))
NORMED: dict = {"a": (SWAP, SWAP), "norm": SWAP, "b": (SWAP, 3 * ONE)}
BARE = {k: v for k, v in NORMED.items() if k != "norm"}
MOVED: dict = {"input": SWAP, "output": SWAP, "target": SWAP}
HALVES = {"conv": (ONE, 2 * ONE), "head": (2 * ONE, 3 * ONE), "norm": 2 * ONE}
READ = stability.groups.Lattice(GROUP, [[[-1]]])


def field(how: str) -> Callable[[], Form]:
    return form(lambda: Hamiltonian(how), nn.MSELoss(), (X, FIELD), spec(1, "net."),
                lambda m: (m(X.double()) - FIELD.double()).square().mean(), **MOVED)  # fmt: skip


def instances(norm: nn.Module) -> Callable[[], Form]:
    line = SETS[..., :1].mT.contiguous()
    return form(lambda: seeded(lambda: Instances(norm)), CE, (line, Y), HALVES if list(norm.parameters()) else {k: HALVES[k] for k in ("conv", "head")},
                lambda m: functional.cross_entropy(m(line.double()), Y), lattice=READ)  # fmt: skip


MODULES: dict[str, Callable[[], Form]] = {
    **{kind: attending(kind) for kind in ("MultiheadAttention", "TransformerEncoderLayer", "TransformerEncoder", "scaled_dot_product_attention")},
    "RNN": recurrent(nn.RNN, 1),
    "GRU": recurrent(nn.GRU, 3),
    "LSTM": recurrent(nn.LSTM, 4),
    "weight_norm": form(lambda: seeded(lambda: Between(nn.Identity(), nn.utils.parametrizations.weight_norm)), CE, (X, Y), BARE, ce),
    "LayerNorm": form(lambda: seeded(lambda: Between(nn.LayerNorm(4))), CE, (X, Y), NORMED, ce),
    "GroupNorm": form(lambda: seeded(lambda: Between(nn.GroupNorm(1, 4))), CE, (X, Y), NORMED, ce),
    "RMSNorm": form(lambda: seeded(lambda: Between(nn.RMSNorm(4))), CE, (X, Y), NORMED, ce),
    "BatchNorm": form(lambda: seeded(lambda: Between(nn.BatchNorm1d(4))), CE, (X, Y), NORMED, ce),
    "InstanceNorm": instances(nn.InstanceNorm1d(2)),
    "InstanceNorm, affine": instances(nn.InstanceNorm1d(2, affine=True)),
    "tied weights": form(lambda: seeded(Tied), CE, (X, Y), {"a": (SWAP, SWAP), "again": (SWAP, SWAP), "b": (SWAP, 3 * ONE)}, ce),
    "a gradient inside": field("torch.func"),
    "a Jacobian inside": field("jacrev"),
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_modules_as_torch_writes_them_are_what_they_are(name):
    made = MODULES[name]()
    agrees(made)
    assert max(stability.check(made.problem()).values()) < 1e-10


# -- frozen parts and decay ---------------------------------------------------------------------------------------------


def test_what_the_module_does_not_train_is_held():
    module = line()
    module[0].weight.requires_grad_(False)
    problem = stability.from_module(module, CE, (X, Y), {"0.bias": SWAP, "2": (SWAP, 3 * ONE)}, input=SWAP)
    assert [layer.name for layer in problem.space.layers] == ["0.bias", "2.weight", "2.bias"]
    assert "0.weight, which the module does not train" in dict(problem.facts)["held"]
    module[0].weight.requires_grad_(True)
    with brute.bad("no representation for 0.weight; give one for each layer or parameter"):
        stability.from_module(module, CE, (X, Y), {"0.bias": SWAP, "2": (SWAP, 3 * ONE)}, input=SWAP)


def test_decay_is_taken_from_the_groups_of_the_optimiser():
    module = line()
    biases = [p for n, p in module.named_parameters() if n.endswith("bias")]
    weights = [p for n, p in module.named_parameters() if n.endswith("weight")]
    groups = [{"params": weights, "weight_decay": 0.1}, {"params": biases, "weight_decay": 0.0}]
    rates = {"0.weight": 0.1, "2.weight": 0.1}
    for given in (torch.optim.SGD(groups, lr=0.1), rates):
        made = Form(
            module,
            CE,
            (X, Y),
            spec(),
            lambda m: ce(m) + 0.05 * sum(p.square().sum() for n, p in m.named_parameters() if n.endswith("weight")),
            {"weight_decay": given},
        )
        agrees(made)
        assert "0.1 on 0.weight, 0 on 0.bias" in dict(made.problem().facts)["decay by parameter"]
    problem = stability.from_module(
        module, CE, (X, Y), spec(), weight_decay=torch.optim.SGD(module.parameters(), lr=0.1, weight_decay=0.2)
    )
    assert problem.weight_decay == 0.2
    told = decay_of("net", torch.optim.AdamW(module.parameters(), weight_decay=0.1), module, problem.space)[2]
    assert "decoupled" in told[0][1]


def test_where_parameters_decay_differently_no_direction_is_said_to_be_flat():
    plain, apart = (
        stability.from_module(line(), CE, (X, Y), spec(), weight_decay=given) for given in (0.1, {"2.weight": 0.1})
    )
    events, prediction = plain.model.watch(plain.model.given, X.double())
    found = flat_families(plain.model, plain.space, events, prediction, plain.samples, CE)
    assert (
        [f.name for f in found]
        == [f.name for f in plain.flat]
        == [
            "softmax shift in 2.weight",
            "softmax shift in 2.bias",
        ]
    )
    assert apart.flat == ()


def test_the_sectors_of_a_risk_with_several_decays_are_its_averaged_hessian():
    problem = stability.from_module(line(), CE, (X, Y), spec(), weight_decay={"0": 0.3, "2.weight": 0.1})
    theta = problem.initial(1)
    at = problem.space.embed(theta)
    dense = stability.hessian(problem, at, "aug", "L").matrix()
    from_data = stability.curvature.augmented_hessian_from_data(problem, at).matrix(at)
    assert torch.allclose(torch.as_tensor(dense), torch.as_tensor(from_data), atol=1e-10)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (-1.0, "give a number ≥ 0"),
        ({"0": -1.0}, "weight_decay: 0"),
        ({"5": 0.1}, "there is no '5'; it has 0.weight"),
        (torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1), "holds none of the module's parameters"),
    ],
)
def test_decay_that_is_none_is_refused(given, message):
    with brute.bad(message):
        stability.from_module(line(), CE, (X, Y), spec(), weight_decay=given)


# -- refused for a reason, with a mend that is followed -------------------------------------------------------------------


class Summed(Squeezed):
    """One number for a batch."""

    def forward(self, x):
        return super().forward(x).sum()


def spectral(take_off: bool) -> nn.Module:
    made = seeded(lambda: Between(nn.Identity(), nn.utils.parametrizations.spectral_norm)).eval()
    if take_off:
        nn.utils.parametrize.remove_parametrizations(made.a, "weight")
    return made


def batch(tracks: bool) -> nn.Module:
    return seeded(lambda: Between(nn.BatchNorm1d(4, track_running_stats=tracks)))


def mse(module: nn.Module) -> Tensor:
    return (module(X.double()) - REAL.double()).square().mean()


def multi(p: Tensor, y: Tensor) -> Tensor:
    """Multi-class hinge, written out."""
    right = p.gather(1, y.unsqueeze(1))
    return ((1 - right + p).clamp_min(0).sum(1) - 1).mean() / 3


ELEMENTS = lambda p, y: (p - y).square()  # noqa: E731
REFUSED: dict[str, tuple[Callable[[], Form], str, Callable[[], Form]]] = {
    "numbers of every entry": (
        of_loss(ELEMENTS, REAL),
        r"as lambda p, y: loss\(p, y\).flatten\(1\).mean\(1\) does",
        of_loss(lambda p, y: ELEMENTS(p, y).flatten(1).mean(1), REAL, exact=lambda p, y: (p - y).square().mean()),
    ),
    "targets that broadcast": (
        of_loss(nn.MSELoss(), REAL[:, 0], 1), "reshape the targets", of_loss(nn.MSELoss(), REAL[:, :1], 1)),
    "boolean targets of torch's loss": (
        of_loss(nn.BCEWithLogitsLoss(), YES.bool()), r"y.double\(\)", of_loss(nn.BCEWithLogitsLoss(), YES.bool().double())),
    "labels that are floats": (
        of_loss(nn.CrossEntropyLoss(), Y.float()), r"y.long\(\)", of_loss(nn.CrossEntropyLoss(), Y.float().long())),
    "a loss that has no second derivative": (
        of_loss(nn.MultiMarginLoss(), Y), "cannot be differentiated twice.*write it with differentiable", of_loss(multi, Y)),
    "a loss of three arguments": (
        of_loss(nn.GaussianNLLLoss(), REAL), "missing 1 required positional argument: 'var'.*or a function of",
        of_loss(lambda p, y: nn.GaussianNLLLoss()(p, y, torch.ones_like(p)), REAL)),
    "a mean of a mean": (
        of_loss(lambda p, y: (p - y).square().mean().sqrt(), REAL), "differs from the mean over samples.*one number a sample",
        of_loss(lambda p, y: (p - y).square().mean(1).sqrt(), REAL, exact=lambda p, y: (p - y).square().mean(1).sqrt().mean())),
    "a sum of samples": (
        form(Summed, nn.MSELoss(), (X, REAL[:, 0]), spec(1, "net."), mse, output=ONE), "leave the sum or mean over samples to the loss",
        DATA["one number a sample"]),
    "several predictions for one loss": (
        form(lambda: Several("tuple"), CE, (X, Y), IN_NET, ce, output=6 * ONE), r"tuple of 0, 1.*give a function of \(outputs, targets\)",
        form(lambda: Several("tuple"), lambda o, y: functional.cross_entropy(o[0], y), (X, Y), IN_NET,
             lambda m: functional.cross_entropy(m(X.double())[0], Y), output=6 * ONE)),
    "inputs alone": (
        form(lambda: line(4), nn.MSELoss(), X, {"0": (SWAP, SWAP), "2": (SWAP, SWAP)}, mse), r"of an autoencoder \(x, x\)",
        form(lambda: line(4), nn.MSELoss(), (X, X), {"0": (SWAP, SWAP), "2": (SWAP, SWAP)},
             lambda m: (m(X.double()) - X.double()).square().mean(), target=SWAP)),
    "a dataset of inputs alone": (
        form(lambda: line(4), nn.MSELoss(), TensorDataset(X), {"0": (SWAP, SWAP), "2": (SWAP, SWAP)}, mse), r"of an autoencoder \(x, x\)",
        form(lambda: line(4), nn.MSELoss(), TensorDataset(X, X), {"0": (SWAP, SWAP), "2": (SWAP, SWAP)},
             lambda m: (m(X.double()) - X.double()).square().mean(), target=SWAP)),
    "a batch without labels": (
        form(Masked, CE, {"x": X, "mask": MASK, "answer": Y}, IN_NET, masked, **BOTH), "0 are targets .*name one so",
        DATA["a dict with labels"]),
    "names that are no arguments": (
        form(Masked, CE, ({"image": X, "mask": MASK}, Y), IN_NET, masked, output=3 * ONE), "give them by the names of its arguments",
        DATA["a pair of a dict and labels"]),
    "a cast to float32": (
        form(lambda: Cast(False), CE, (BYTES, Y), IN_NET, ce, **EDGES), r"casts to float32 inside.*x.to\(self.weight.dtype\)",
        DATA["bytes cast inside"]),
    "a gradient by the tape": (field("tape"), r"take them by torch.func.grad", field("torch.func")),
    "a gradient by a tape of its own": (field("detached"), r"take them by torch.func.grad", field("torch.func")),
    "spectral_norm": (
        form(lambda: spectral(False), CE, (X, Y), BARE, ce), "u, v of its own that do not move.*remove_parametrizations",
        form(lambda: spectral(True), CE, (X, Y), BARE, ce)),
    "batch norm of the batch": (
        form(lambda: batch(False), CE, (X, Y), NORMED, ce), "one sample alone.*track_running_stats=True",
        form(lambda: batch(True), CE, (X, Y), NORMED, ce)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_for_its_reason_and_the_mend_works(name):
    given, message, mended = REFUSED[name]
    with brute.bad(message):
        given().problem()
    agrees(mended())


def test_a_cast_to_float32_is_right_in_float32():
    made = REFUSED["a cast to float32"][0]()
    problem = stability.from_module(made.module, CE, made.data, made.spec, **EDGES, dtype=torch.float32)
    expected = functional.cross_entropy(made.module(BYTES), Y)
    assert float(problem.risk(problem.model.given)) == pytest.approx(float(expected), rel=1e-6)


def test_packed_batches_come_back_as_they_were():
    batch = {"a": torch.arange(6).reshape(3, 2), "b": (X[:3], torch.tensor([True, False, True])), "c": {"d": Y[:3]}}
    layout, packed = laid_out("batch", batch)
    found = layout.unpack(packed)
    assert packed.shape == (3, layout.dim) == (3, 8)
    assert (
        torch.equal(found.a, batch["a"]) and torch.equal(found.b[0], X[:3].double()) and torch.equal(found.c.d, Y[:3])
    )
    assert found.b[1].dtype == torch.bool and torch.equal(found.b[1], batch["b"][1])
    assert torch.equal(layout.pack(found, packed), packed)
    again = collect([(batch, Y[:3])])
    assert again.inputs == layout and torch.equal(again.x, packed)
