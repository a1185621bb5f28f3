"""Data in any form people have it in are the same samples; what would be lost on the way is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from brute import bad, gaussian
from torch.utils.data import DataLoader, TensorDataset

from stability.networks.gathering import collect, gather
from stability.problem.space import Samples

X, Y = gaussian(7, 3), torch.arange(7) % 2
FORMS = {
    "a pair": (X, Y),
    "a list of two": [X, Y],
    "arrays": (X.numpy(), Y.numpy()),
    "a dataset": TensorDataset(X, Y),
    "a loader": DataLoader(TensorDataset(X, Y), batch_size=3),
    "a loader of samples": DataLoader(TensorDataset(X, Y), batch_size=None),
    "samples": [(x, y) for x, y in zip(X, Y, strict=True)],
    "lists of numbers": [(x, y) for x, y in zip(X.tolist(), Y.tolist(), strict=True)],
    "batches": [(X[:4], Y[:4]), (X[4:], Y[4:])],
    "Samples": Samples(X, Y, torch.full((7,), 1 / 7, dtype=torch.float64)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_samples(form):
    found = gather(FORMS[form], torch.float64)
    assert torch.equal(found.x, X) and torch.equal(found.y, Y) and found.y.dtype == torch.int64
    torch.testing.assert_close(found.weight, torch.full((7,), 1 / 7, dtype=torch.float64), rtol=1e-15, atol=0)


@pytest.mark.parametrize("form", FORMS)
def test_the_first_samples_are_the_first_in_every_form(form):
    x, y, *_ = collect(FORMS[form], 5)
    assert torch.equal(x, X[:5]) and torch.equal(y, Y[:5])


def test_weights_are_kept_in_proportion():
    found = gather((X, Y, torch.arange(7.0)), torch.float64)
    torch.testing.assert_close(found.weight, torch.arange(7.0, dtype=torch.float64) / 21)


def test_narrow_numbers_are_widened_exactly_and_labels_stay_integers():
    found = gather((X.half(), Y.to(torch.uint8)), torch.float64)
    assert torch.equal(found.x, X.half().double()) and found.y.dtype == torch.int64


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ((X, Y[:6]), "7 inputs and 6 targets"),
        ((X[:0], Y[:0]), "0 inputs and 0 targets"),
        ((X, torch.tensor(1)), "targets are one number"),
        ((X, Y, torch.ones(3)), "weights have shape \\(3,\\)"),
        ((X, Y, -torch.ones(7)), "give weights ≥ 0"),
        ((X / 0, Y), "21 input values are not finite"),
        (({"a": X}, Y), "inputs are a dict of a; give one tensor, joined by torch.cat"),
        ([{"x": X, "y": Y}], "inputs are a dict of x; give one tensor"),
        ([(X[0], Y[0]), (X[0, :2], Y[0])], "inputs of samples have shapes \\(2,\\), \\(3,\\)"),
        (DataLoader(TensorDataset(X, Y), batch_size=3, drop_last=True), "drops 1 of 7 samples"),
        (X, "give a pair"),
        ([], "gives no batch"),
        ("mnist", "give a pair"),
    ],
)
def test_what_is_no_data_is_refused_in_one_line(data, said):
    with bad(said):
        gather(data, torch.float64)


def test_a_dataset_that_fails_is_told_in_one_line():
    class Broken:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, i: int):
            raise RuntimeError("no such\nfile")

    with bad("the loader or dataset fails with RuntimeError \\(no such file\\)"):
        gather(Broken(), torch.float64)


def test_integers_that_the_precision_does_not_hold_are_refused():
    with bad("data: inputs"):
        gather((np.array([[2**60 + 1]]), np.array([0])), torch.float64)
