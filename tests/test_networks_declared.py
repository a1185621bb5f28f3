"""What a module is declared to be: actions on activations, parameters under their representations, refusals by name."""

from __future__ import annotations

import copy

import pytest
import torch
from brute import GROUPS, bad, closure, gaussian
from torch import nn

from stability.groups import Cyclic, Dihedral, images, regular, square_lattice, trivial
from stability.networks import admission
from stability.networks.bare import from_risk
from stability.networks.declared import Activation, declared, group_of, invariant, invariant_buffers
from stability.networks.modulemodel import ModuleModel, check_assumptions
from stability.problem.space import ParameterSpace, Samples

D4 = Dihedral(4)
ONE, SQUARE, LATTICE = trivial(D4), images(D4, 2), square_lattice(D4)
C3 = regular(Cyclic(3))


def test_a_feature_map_is_moved_in_its_channels_and_on_its_grid():
    x = gaussian(3, 4, 5, 5)
    map_ = Activation(SQUARE, None, False)
    for g in closure(D4):
        channels, grid = (torch.as_tensor(rho.matrix(g)) for rho in (SQUARE, LATTICE((5, 5))))
        expected = torch.einsum("cd,pq,ndq->ncp", channels, grid, x.flatten(2)).reshape(x.shape)
        torch.testing.assert_close(map_.act(g, x, LATTICE), expected, rtol=0, atol=1e-13)
        last = Activation(SQUARE, images(D4, 5), True).act(g, x.flatten(2).mT.contiguous(), None)
        torch.testing.assert_close(last.mT.reshape(x.shape), expected, rtol=0, atol=1e-13)
    assert map_.act(D4.identity, x, None) is None  # how its positions move is not known
    assert Activation(SQUARE, None, True).act(D4.identity, gaussian(3, 7, 4), None) is None


def test_declarations_become_the_parameters_of_the_layers_tied_ones_once():
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 4, bias=False))
    module[3].weight = module[2].weight
    spec = {"0": (ONE, SQUARE), "2": (SQUARE, SQUARE), "3": (SQUARE, SQUARE)}
    found, mapped = declared(module, spec, LATTICE)
    assert set(found) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert {name: layer.dim for name, layer in found.items()} == {
        name: p.numel() for name, p in module.named_parameters()
    }
    assert [layer.name for layer in mapped] == ["0", "2", "3"]
    # A kernel moves as (out ⊗ in ⊗ grid) does.
    kernel, weight = found["0.weight"], gaussian(4, 9)
    for g in D4.generators:
        out, grid = (torch.as_tensor(rho.matrix(g)) for rho in (SQUARE, LATTICE((3, 3))))
        torch.testing.assert_close(kernel.act(g, weight), out @ weight @ grid.mT, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"9": (ONE, ONE)}, "the module has no layer '9'; it has 0, 2"),
        ({"0": ONE}, "give \\(representation of its input channels"),
        ({"0": (ONE, ONE)}, "0 has 1 input and 4 output channels"),
        ({"1": ONE}, "1 is a Flatten: give the representation of its parameters \\(it has none of its own\\)"),
        ({"2.weight": ONE}, "2.weight has shape"),
    ],
)
def test_declarations_that_do_not_fit_are_refused_by_the_layer(spec, said):
    with bad(said):
        declared(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4, 4)), spec, LATTICE)


def test_all_representations_are_of_one_group():
    assert group_of("net", {"0": (ONE, SQUARE), "1": None}) == D4
    with bad("representations of D_4 and of C_3; use one group"):
        group_of("net", {"0": ONE, "1": C3})
    with bad("no representation is given"):
        group_of("net", {"0": None})


def test_statistics_of_a_layer_with_one_representation_are_projected_onto_what_the_group_fixes():
    buffers = {"1.running_mean": gaussian(3), "1.num_batches_tracked": torch.tensor(3), "4.running_mean": gaussian(3)}
    assert set(invariant_buffers(buffers, {"1": C3, "4": (C3, C3)})) == {"1.running_mean"}
    v = gaussian(4)
    expected = sum(torch.as_tensor(SQUARE.matrix(g)) @ v for g in closure(D4)) / 8
    torch.testing.assert_close(invariant(v, SQUARE), expected, rtol=0, atol=1e-13)


# ------------------------------------------------------------------------------------------------- the model


def model(module: nn.Module, given: dict | None = None) -> ModuleModel:
    layers, mapped = declared(module, given or {"0": (C3, C3), "2": (C3, C3)}, None)
    space = ParameterSpace(tuple(layer for layer in layers.values() if layer is not None))
    weights = torch.cat([p.detach().reshape(-1) for p in module.parameters()])
    return ModuleModel(
        module=module, space=space, fixed={}, input=C3, output=C3, input_shape=(3,), output_shape=(3,),
        loss=lambda p, y: (p - y).square().sum(-1), target=C3, decides=False, mapped=tuple(mapped), lattice=None,
        invariant={}, given=weights,
    )  # fmt: skip


def net(between: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 3), between, nn.Linear(3, 3)).double()


def test_predictions_are_the_modules_own_at_any_weights_and_leave_it_as_it_is():
    module = net(nn.Tanh())
    one, x = model(module), gaussian(5, 3)
    torch.testing.assert_close(one.predict(one.given, x), module(x), rtol=0, atol=0)
    other = net(nn.Tanh())
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(2)
    torch.testing.assert_close(one.predict(2 * one.given, x), other(x), rtol=0, atol=1e-15)
    torch.testing.assert_close(one.predict(one.given, x), module(x), rtol=0, atol=0)
    events, output = one.watch(one.given, x)
    assert [(e.layer and e.layer.name, e.side) for e in events] == [
        ("0", "in"), ("0", "out"), ("2", "in"), ("2", "out"), (None, "in"),
    ]  # fmt: skip
    assert torch.equal(events[1].value, module[0](x)) and events[2].between == ("1 Tanh",)
    assert not module[0]._forward_hooks and torch.equal(output, module(x))


class Position(nn.Module):
    """Adds to every coordinate another number."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.arange(3.0)


def test_what_breaks_the_symmetry_is_named_where_it_stands():
    x, y = gaussian(6, 3), gaussian(6, 3, seed=1)
    data = Samples(x, y, torch.full((6,), 1 / 6).double())
    whole = model(net(nn.Tanh()))
    assert max(error for error, _ in check_assumptions(whole, whole.given, data, 0).values()) < 1e-12
    broken = model(net(Position()))
    error, where = check_assumptions(broken, broken.given, data, 0)["equivariant_nonlinearities"]
    assert error > 1e-2 and "between 0 and 2 (1 Position)" in where


# ------------------------------------------------------------------------------------- what a module must be


def test_a_private_copy_shares_nothing_with_the_module_and_says_what_it_converted():
    module = nn.Sequential(nn.Linear(3, 3), nn.Dropout()).train().half()
    before = copy.deepcopy(module.state_dict())
    own, facts = admission.private("net", module, torch.float64)
    assert not own.training and own[0].weight.dtype == torch.float64 and facts[0][0] == "precision"
    with torch.no_grad():
        own[0].weight.add_(1)
    assert module.training and all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    assert torch.equal(own[0].weight - 1, before["0.weight"].double())


class Noisy(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand_like(x)


class Centred(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(0)


class Casting(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float()


@pytest.mark.parametrize(
    ("between", "said"),
    [
        (Noisy(), "two passes over the same inputs differ"),
        (Centred(), "predictions change by .* with the other samples of the batch"),
        (nn.Unflatten(1, (3, 1)), "the module cannot take inputs of shape"),
    ],
)
def test_a_module_that_is_random_or_mixes_samples_is_refused(between, said):
    with bad(said):
        admission.first_pass("net", model(net(between)), gaussian(6, 3), torch.float64)


def test_predictions_that_are_none_are_refused():
    x = gaussian(6, 3)
    for found, said in (
        ((x, x), "must return one tensor, not tuple of 2"),
        (x[:5], "a row for each sample, not shape \\(5, 3\\)"),
        (torch.complex(x, x), "return torch.view_as_real"),
        (Casting()(x), "so it casts inside"),
        (x / 0, "the prediction"),
    ):
        with bad(said):
            admission.is_prediction("net", found, x)
    admission.is_prediction("net", x, x)
    labels, logits = torch.tensor([0, 2]), torch.ones(2, 3)
    assert admission.decides("net", None, labels, logits) and not admission.decides("net", None, labels + 1, logits)
    with bad("needs labels from 0"):
        admission.decides("net", True, labels + 1, logits)


# ---------------------------------------------------------------------------------------------- any risk


@pytest.mark.parametrize("name", ["C_5", "S_3", "Q_8"])
def test_a_bare_risk_is_averaged_over_moved_weights(name):
    rho = regular(GROUPS[name])
    twist = gaussian(rho.dim, rho.dim, seed=1)

    def risk(t: dict) -> torch.Tensor:
        return (t["a"] @ twist @ torch.tanh(t["a"])) + 0.1 * (t["a"] ** 4).sum()

    one = from_risk(risk, {"a": gaussian(rho.dim)}, {"a": rho}, weight_decay=0.3)
    a = gaussian(rho.dim, seed=2)
    moved = [torch.as_tensor(rho.matrix(g)) @ a for g in closure(rho.group)]
    expected = sum(risk({"a": m}) for m in moved) / len(moved) + 0.15 * a @ a
    averaged = sum(w * one.risk(one.space.act(g, a)) for g, w in one.elements())
    assert float(averaged) == pytest.approx(float(expected), rel=1e-12)
    assert float(one.risk(a)) == pytest.approx(float(risk({"a": a}) + 0.15 * a @ a), rel=1e-12)
    torch.testing.assert_close(one.space.embed(one.initial(0)), one.space.equivariant_part(gaussian(rho.dim)))
