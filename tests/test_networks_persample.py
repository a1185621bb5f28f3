"""Losses as people have them become one number a sample, or are refused: what is no mean over samples is seen."""

from __future__ import annotations

import pytest
import torch
from brute import bad, gaussian
from torch import nn
from torch.nn import functional

from stability.networks.persample import per_sample, probing, takes_all
from stability.problem.space import Samples

P, LABELS, TARGETS = gaussian(9, 4), torch.arange(9) % 4, gaussian(9, 4, seed=1)

MEANS = {
    "MSELoss": (nn.MSELoss(), TARGETS),
    "L1Loss": (nn.L1Loss(), TARGETS),
    "CrossEntropyLoss": (nn.CrossEntropyLoss(), LABELS),
    "soft labels": (nn.CrossEntropyLoss(), TARGETS.softmax(-1)),
    "label smoothing": (nn.CrossEntropyLoss(label_smoothing=0.1), LABELS),
    "a mean of a function": (functional.mse_loss, TARGETS),
    "a function of its own": (lambda p, y: (p - y).pow(4).sum(-1).mean(), TARGETS),
    "one number a sample": (lambda p, y: (p - y).pow(4).sum(-1), TARGETS),
    "BCEWithLogitsLoss": (nn.BCEWithLogitsLoss(), TARGETS.sigmoid()),
}


@pytest.mark.parametrize("name", MEANS)
def test_the_mean_of_the_losses_is_the_loss_and_each_depends_on_its_own_sample(name):
    loss, y = MEANS[name]
    found = per_sample(loss, P, y)(P, y)
    assert found.shape == (9,)
    whole = loss(P, y)
    torch.testing.assert_close(found.mean(), whole.mean() if whole.ndim else whole, rtol=1e-12, atol=1e-12)
    alone = torch.stack([per_sample(loss, P, y)(P[i : i + 1], y[i : i + 1])[0] for i in range(9)])
    torch.testing.assert_close(found, alone, rtol=1e-12, atol=1e-12)


# Sums, and means that torch divides by something else than the number of samples: R is the loss of all of them at once.
WHOLE = {
    "a sum over the batch": (lambda p, y: (p - y).square().sum(), TARGETS, "adds samples up"),
    "reduction='sum'": (nn.MSELoss(reduction="sum"), TARGETS, "adds samples up"),
    "class weights": (nn.CrossEntropyLoss(weight=torch.arange(1.0, 5.0).double()), LABELS, "class weights"),
    "ignored labels": (nn.CrossEntropyLoss(ignore_index=2), LABELS, "2 targets to ignore"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_the_mean_of_the_losses_of_all_samples_is_the_loss_of_all_at_once(name):
    loss, y, said = WHOLE[name]
    found = per_sample(loss, P, y)
    assert said in found.told
    torch.testing.assert_close(found(P, y).mean(), loss(P, y), rtol=1e-12, atol=1e-12)


REFUSED = {
    "a maximum": (lambda p, y: (p - y).abs().max(), TARGETS, "differs from the mean over samples"),
    "a root of a mean": (lambda p, y: (p - y).square().mean().sqrt(), TARGETS, "differs from the mean over samples"),
    "centred by the batch": (lambda p, y: (p - p.mean(0) - y).square().sum(-1), TARGETS, "with the rest of the batch"),
    "broadcast targets": (nn.MSELoss(), TARGETS[:, 0], "reshape the targets|of shape"),
    "labels as floats": (nn.CrossEntropyLoss(), LABELS.double(), "as y.long\\(\\) makes them"),
    "a matrix": (lambda p, y: (p - y).square(), TARGETS, "one number a sample or their mean"),
    "integers": (lambda p, y: p.argmax(-1), TARGETS, "must give real numbers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_mean_over_samples_is_refused(name):
    loss, y, said = REFUSED[name]
    with bad(said):
        per_sample(loss, P, y)


def test_the_module_given_is_left_as_it_is():
    loss = nn.MSELoss()
    per_sample(loss, P, TARGETS)
    assert loss.reduction == "mean"


def test_a_loss_is_tried_on_samples_of_every_label():
    y = torch.zeros(10_000, dtype=torch.long)
    y[[17, 9_001]] = torch.tensor([1, 2])
    chosen = probing(y)
    assert set(y[chosen].tolist()) == {0, 1, 2} and len(chosen) < 70 and len(set(chosen.tolist())) == len(chosen)


def test_a_sample_without_a_finite_loss_is_named_wherever_it_lies():
    x = torch.zeros(3000, 1, dtype=torch.float64)
    x[2500] = float("inf")
    data = Samples(x, torch.zeros(3000, 1, dtype=torch.float64), torch.full((3000,), 1 / 3000, dtype=torch.float64))
    with bad("the loss of 1 samples is not finite, first of sample 2500"):
        takes_all("net", lambda p, y: (p - y).square().sum(-1), lambda x: x, data)
