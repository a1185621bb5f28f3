"""weight_norm written out is torch's, in both of its forms, and has the second derivatives that torch's lacks."""

from __future__ import annotations

import warnings

import pytest
import torch
from brute import gaussian
from torch import nn
from torch.func import functional_call, grad, jvp
from torch.nn.utils import parametrizations, parametrize, weight_norm

from stability.networks.weightnorm import FUSED, chains, is_normed, normed, write_out


def old(layer: nn.Module, dim: int) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return weight_norm(layer, dim=dim)


def new(layer: nn.Module, dim: int) -> nn.Module:
    return parametrizations.weight_norm(layer, dim=dim)


cases = pytest.mark.parametrize("dim", [0, 1, -1])
forms = pytest.mark.parametrize("form", [old, new], ids=["hook", "parametrisation"])


def both(form, dim: int, **options: bool) -> tuple[nn.Module, nn.Module]:
    """The same layer twice, the second written out; one with a hook cannot be copied."""
    layers = []
    for _ in range(2):
        torch.manual_seed(0)
        layers.append(form(nn.Linear(3, 4, **options).double(), dim))
    write_out(layers[1])
    return layers[0], layers[1]


@cases
@forms
def test_values_are_torchs(form, dim):
    (layer, own), x = both(form, dim), gaussian(5, 3)
    torch.testing.assert_close(own(x), layer(x), rtol=0, atol=1e-14)


@cases
@forms
def test_second_derivatives_are_differences_of_torchs_first_ones(form, dim):
    (layer, own), x = both(form, dim, bias=False), gaussian(5, 3)
    names = [name for name, _ in layer.named_parameters()]
    at = {name: p.detach() for name, p in layer.named_parameters()}
    v = {name: gaussian(*p.shape, seed=k) for k, (name, p) in enumerate(at.items())}

    def loss(module: nn.Module):
        return lambda p: functional_call(module, p, (x,)).sin().sum()

    found = jvp(grad(loss(own)), (at,), (v,))[1]
    h = 1e-5
    ends = [grad(loss(layer))({k: at[k] + s * h * v[k] for k in names}) for s in (1, -1)]
    for k in names:
        torch.testing.assert_close(found[k], (ends[0][k] - ends[1][k]) / (2 * h), rtol=1e-6, atol=1e-7)


def test_the_length_of_what_is_normed_is_the_size_whatever_the_direction():
    v, s = gaussian(4, 3), gaussian(4, 1, seed=1).abs()
    torch.testing.assert_close(normed(s, v, 0).norm(dim=1, keepdim=True), s)
    torch.testing.assert_close(normed(s, 7 * v, 0), normed(s, v, 0))
    torch.testing.assert_close(normed(torch.tensor(2.0), v, -1).norm(), torch.tensor(2.0, dtype=torch.float64))


def test_other_parametrisations_are_left_alone_and_told_apart():
    layer = parametrizations.orthogonal(nn.Linear(3, 3).double())
    before = layer.weight.detach().clone()
    write_out(layer)
    assert not is_normed(layer) and torch.equal(layer.weight, before)
    once = new(nn.Linear(3, 3), 0)
    assert is_normed(once) and type(chains(once)["weight"][0]).__name__ == FUSED
    parametrize.register_parametrization(once, "weight", nn.Identity())
    assert not is_normed(once)
