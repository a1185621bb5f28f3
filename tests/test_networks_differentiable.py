"""A risk that has not the derivatives that everything rests on is refused, with what is wrong with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from brute import bad, gaussian

from stability.networks.differentiable import twice_differentiable

A = gaussian(5)


class Hidden(torch.autograd.Function):
    """x³ whose backward is no operation of torch."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * torch.as_tensor(3 * x.detach().numpy() ** 2)


SMOOTH = {
    "a polynomial": lambda a: (a**4).sum() + a[0] * a[1],
    "a norm": lambda a: (a.square().sum() + 1).sqrt(),
    "linear": lambda a: a.sum(),
    "with a kink elsewhere": lambda a: a.abs().sum() + a.square().sum(),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_a_risk_that_is_smooth_at_the_point_passes(name):
    twice_differentiable("mine", SMOOTH[name], A)


def test_a_kink_at_the_point_is_not_said_to_be_detached():
    twice_differentiable("mine", lambda a: (a - A).abs().sum() + torch.relu(a - A).sum() + a.square().sum(), A)


REFUSED = {
    "constant": (lambda a: torch.tensor(1.0, dtype=torch.float64), "does not depend on its tensors"),
    "all detached": (lambda a: a.detach().square().sum(), "does not depend on its tensors"),
    "half detached": (lambda a: (a.detach() * a).sum(), "part of it is detached"),
    "a weight detached": (lambda a: a[0] ** 2 + a[1:].detach().square().sum(), "part of it is detached"),
    "through numpy": (lambda a: a.sum() * float(np.square(a.detach().numpy()).sum()), "part of it is detached|twice"),
    "a vector": (lambda a: a.square(), "has shape \\(5,\\)"),
    "a number of Python": (lambda a: float(a.detach().sum()), "must give a tensor with one real number"),
    "complex": (lambda a: (a * 1j).sum(), "must give a tensor with one real number"),
    "infinite": (lambda a: (a * 0).sum() / 0 + a.sum(), "its value at the given tensors is not finite"),
    "a hidden backward": (lambda a: Hidden.apply(a).sum(), "cannot be differentiated twice"),
    "no curvature at zero": (lambda a: (a - A).norm() ** 1.5, "is not finite|cannot be differentiated"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_risk_without_them_is_refused_by_what_is_wrong(name):
    risk, said = REFUSED[name]
    with bad(f"mine: .*({said})"):
        twice_differentiable("mine", risk, A)
