"""A Krylov run stops when it has what it is for, resumes to the last bit, and says what does not fit the memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from brute import bad, gaussian

from stability.base.storage import Checkpoint
from stability.eigen.krylov import Plan, room, run, settled
from stability.eigen.lanczos import lanczos
from stability.eigen.operator import Operator

N = 300
NOWHERE = Checkpoint(None, {}, False)
PLAN = Plan(limit=200, low=3, high=3, settle=False, seed=0, memory_gb=1.0)
LIKE = torch.zeros(1, dtype=torch.float64)


def operator(values: torch.Tensor) -> Operator:
    return Operator(len(values), lambda v: v * values, "diagonal")


SPREAD = torch.cat([torch.tensor([-3.0, -2.5, -2.0]), torch.linspace(-1, 1, N - 6), torch.tensor([2.0, 3.0, 4.0])])


def found(values: torch.Tensor, plan: Plan = PLAN, checkpoint: Checkpoint = NOWHERE, **options):
    one = operator(values.double())
    return run(one, one, len(values), "test", plan, LIKE, checkpoint, **options), one


def test_both_ends_are_those_of_the_matrix_with_residuals_that_bound_the_error():
    solution, _ = found(SPREAD)
    ends = [e.value for e in (*solution.spectrum.lowest, *solution.spectrum.highest)]
    np.testing.assert_allclose(sorted(ends), [-3.0, -2.5, -2.0, 2.0, 3.0, 4.0], atol=1e-8)
    for e in (*solution.spectrum.lowest, *solution.spectrum.highest):
        assert float((SPREAD.double() - e.value).abs().min()) <= e.residual + 1e-14


def test_a_sign_beyond_doubt_ends_a_run_that_asks_for_no_more_and_a_positive_one_later():
    sign, even = replace(PLAN, settle=True, low=1, high=1), torch.linspace(-1, 1, N)
    _, negative = found(even, sign)
    _, positive = found(even + 1.5, sign)
    _, ends = found(even)
    assert 30 <= negative.products < 40 <= 100 <= positive.products < 110 < ends.products


def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path):
    whole, _ = found(SPREAD, checkpoint=Checkpoint(tmp_path / "a", {}, False))
    folder, values = Checkpoint(tmp_path / "b", {}, False), SPREAD.double()
    start = torch.randn(N, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    state = lanczos(operator(values), start, 17)
    folder.save(
        "lanczos-test",
        {
            "basis": state.basis[:18],
            "alphas": torch.tensor(state.alphas, dtype=torch.float64),
            "betas": torch.tensor(state.betas, dtype=torch.float64),
        },
        seconds="1000",
    )
    again, _ = found(SPREAD, checkpoint=Checkpoint(tmp_path / "b", {}, True))
    assert torch.equal(whole.values, again.values) and torch.equal(whole.vectors, again.vectors)
    assert again.spectrum.seconds > 1000 > whole.spectrum.seconds


def test_a_memory_that_holds_too_few_vectors_is_named_before_anything_is_computed():
    one = operator(torch.ones(10**6, dtype=torch.float64))
    with bad("--memory-gb 0.1 holds only .* vectors of 1,000,000 numbers"):
        run(one, one, 10**6, "test", replace(PLAN, memory_gb=0.1), LIKE, NOWHERE)
    assert one.products == 0
    fits = room(0.1, 10**6, torch.float64, 6)
    assert room(0.2, 10**6, torch.float64, 6) > fits and room(0.1, 10**6, torch.float32, 6) > fits


def test_single_precision_searches_and_double_precision_measures():
    solution, one = found(SPREAD, precision=None)
    values = SPREAD.double()
    single = Operator(N, lambda v: v * values.float(), "single")
    rough = run(single, one, N, "test", PLAN, LIKE, NOWHERE, precision=torch.float32)
    assert rough.values.dtype == torch.float64
    assert abs(float(rough.values.min()) - float(solution.values.min())) < 1e-6
    for value, v in zip(rough.values, rough.vectors, strict=True):
        assert abs(float(v @ (values * v) / (v @ v)) - float(value)) < 1e-12  # a quotient of the fresh products


def test_a_space_of_no_dimension_has_no_eigenvalue():
    one = operator(torch.ones(4, dtype=torch.float64))
    assert not len(run(one, one, 0, "test", PLAN, LIKE, NOWHERE).values) and one.products == 0


@pytest.mark.parametrize("steps", [9, 25, 31])
def test_a_run_looks_at_itself_every_tenth_step_only(steps):
    state = lanczos(operator(SPREAD.double()), gaussian(N, seed=1), steps)
    assert not settled(replace(PLAN, settle=True), state)
