"""Fused operations written out have torch's values and derivatives of any order."""

from __future__ import annotations

import pytest
import torch
from brute import gaussian
from torch.autograd.functional import hessian
from torch.func import grad, jvp
from torch.nn import functional

from stability.curvature.written import INSTEAD, written_out

X, W, B = gaussian(3, 4, 2, seed=1), gaussian(4, seed=2), gaussian(4, seed=3)
P, Q, G = gaussian(3, 5, seed=4), gaussian(2, 5, seed=5), gaussian(3, 1, seed=6).abs() + 0.5

CASES = {
    "group_norm": lambda x: functional.group_norm(x.reshape(3, 4, 2), 2, W, B, 1e-3),
    "group_norm by name": lambda x: functional.group_norm(input=x.reshape(3, 4, 2), num_groups=4, eps=1e-3),
    "layer_norm": lambda x: functional.layer_norm(x.reshape(6, 4), (4,), W, B),
    "layer_norm by name": lambda x: functional.layer_norm(input=x.reshape(3, 4, 2), normalized_shape=(4, 2)),
    "torch.layer_norm": lambda x: torch.layer_norm(x.reshape(6, 4), (4,), W, B, 1e-5, False),
    "weight_norm": lambda x: torch._weight_norm(x.reshape(3, 8), G, 0),
    "weight_norm, last axis": lambda x: torch._weight_norm(x.reshape(8, 3), G.mT, 1),
    "cdist": lambda x: torch.cdist(x[:15].reshape(3, 5), Q),
    "cdist, p = 3": lambda x: torch.cdist(x1=x[:15].reshape(3, 5), x2=Q, p=3.0),
    "attention": lambda x: functional.scaled_dot_product_attention(*x.reshape(3, 1, 4, 2)),
}
WEIGHTS = gaussian(64, seed=7)


def loss(name: str):
    def value(x):
        y = CASES[name](x).reshape(-1)
        return (y.sin() * WEIGHTS[: len(y)]).sum()

    return value


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_torchs(name):
    x = X.reshape(-1)
    torch.testing.assert_close(written_out(loss(name))(x), loss(name)(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grad(written_out(loss(name)))(x), grad(loss(name))(x), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
def test_second_derivatives_are_differences_of_gradients_forwards_and_backwards(name):
    x, v, h = X.reshape(-1), gaussian(24, seed=8), 1e-5
    first = grad(loss(name))  # torch's own first derivatives are right; its second ones are in doubt
    expected = (first(x + h * v) - first(x - h * v)) / (2 * h)
    forward = jvp(grad(written_out(loss(name))), (x,), (v,))[1]
    backward = hessian(written_out(loss(name)), x) @ v
    scale = float(expected.abs().max())
    assert float((forward - expected).abs().max()) < 1e-6 * scale
    assert float((backward - expected).abs().max()) < 1e-6 * scale


def test_outside_the_loss_torch_is_as_it_was():
    written_out(loss("cdist"))(X.reshape(-1))
    assert torch.cdist(P, Q).grad_fn is None and functional.layer_norm not in INSTEAD.values()
    y = torch.cdist(P.clone().requires_grad_(), Q)
    assert "Cdist" in type(y.grad_fn).__name__
