"""Eigenvalues against numpy's, residuals against their definition, bounds against theirs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from stability.base.errors import StaleLinearisation
from stability.eigen.dense import dense_spectrum
from stability.eigen.lanczos import lanczos, lanczos_spectrum
from stability.eigen.operator import Operator, assemble
from stability.eigen.spectrum import bound_epsilon, clusters


def symmetric(n: int, seed: int) -> torch.Tensor:
    m = torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return m + m.mT


def with_spectrum(values: list[float], seed: int) -> torch.Tensor:
    n = len(values)
    q, _ = torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    return q @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ q.mT


@given(st.integers(1, 40), st.integers(0, 1000))
def test_a_dense_spectrum_is_numpys_and_its_residuals_are_rounding(n, seed):
    h = symmetric(n, seed)
    solution = dense_spectrum(h, lambda v: v @ h, k=5)
    s = solution.spectrum
    expected = np.linalg.eigvalsh(h.numpy())
    found = np.repeat(s.density.values, [round(w * s.dim) for w in s.density.weights])
    scale = np.abs(expected).max()
    assert np.abs(found - expected).max() <= 1e-10 * scale
    assert s.negative_count == (expected < 0).sum()
    assert all(e.residual <= 1e-11 * scale for e in (*s.lowest, *s.highest))
    assert s.lower_bound <= expected[0]
    misses = solution.vectors @ h - solution.values[:, None] * solution.vectors
    assert misses.norm(dim=1).max() <= 1e-11 * scale


@given(st.integers(1, 6), st.integers(0, 100))
def test_multiplicities_are_counted(m, seed):
    h = with_spectrum([-2.0] * m + [0.5] * 3 + [4.0] * (m + 1), seed)
    s = dense_spectrum(h, lambda v: v @ h, k=10).spectrum
    assert [(round(e.value, 9), e.multiplicity) for e in s.lowest] == [(-2.0, m), (0.5, 3), (4.0, m + 1)]
    assert s.negative_count == m and s.zero_count == 0


def test_a_thousandfold_eigenvalue_is_no_obstacle():
    values = torch.cat(
        [torch.full((1000,), 1e-3, dtype=torch.float64), torch.linspace(-1e-4, 3, 200, dtype=torch.float64)]
    )
    q, _ = torch.linalg.qr(symmetric(len(values), 1))
    h = q @ torch.diag(values) @ q.mT
    s = dense_spectrum((h + h.mT) / 2, lambda v: v @ h, k=4).spectrum
    assert s.lowest[0].value == pytest.approx(-1e-4, abs=1e-12)
    assert [e.multiplicity for e in s.lowest[:2]] == [1, 1000]
    assert s.negative_count == 1 and max(e.residual for e in s.lowest) < 1e-12


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 200))
def test_the_rounding_of_exact_zeros_is_never_taken_for_a_negative_eigenvalue(zeros, others, seed):
    generator = torch.Generator().manual_seed(seed)
    n = zeros + others
    factor = torch.randn(others, n, generator=generator, dtype=torch.float64)
    h = factor.mT @ factor  # positive semidefinite of rank ``others``
    for excluded in (None, torch.linalg.eigh(h).eigenvectors[:, -1:].mT.contiguous()):
        s = dense_spectrum(h, lambda v: v @ h, 3, excluded).spectrum
        assert s.negative_count == 0 and s.zero_count >= zeros


def test_zero_modes_are_counted_apart_from_small_eigenvalues_of_either_sign():
    h = with_spectrum([-1e-8, 0.0, 0.0, 1e-8, 1.0, 3.0], 3)
    s = dense_spectrum(h, lambda v: v @ h, k=6).spectrum
    assert (s.negative_count, s.zero_count) == (1, 2)
    assert s.lowest[0].value == pytest.approx(-1e-8, rel=1e-6)


@given(st.integers(2, 30), st.integers(0, 100))
def test_an_excluded_invariant_space_leaves_the_rest_of_the_spectrum(n, seed):
    m = max(1, n // 3)
    values = torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    q, _ = torch.linalg.qr(symmetric(n, seed))
    h = q @ torch.diag(values) @ q.mT
    s = dense_spectrum(h, lambda v: v @ h, 3, q[:, :m].mT.contiguous()).spectrum
    rest = np.sort(values[m:].numpy())
    assert s.dim == n - m
    assert s.lowest[0].value == pytest.approx(rest[0], abs=1e-12)
    assert s.highest[0].value == pytest.approx(rest[-1], abs=1e-12)
    assert s.negative_count == (rest < 0).sum()


def test_the_residual_comes_from_the_operator_and_not_from_the_matrix():
    h = symmetric(12, 0)
    s = dense_spectrum(h, lambda v: v @ h + 1e-3 * v, k=2).spectrum
    assert all(e.residual == pytest.approx(1e-3, rel=1e-6) for e in s.lowest)


@pytest.mark.parametrize("n", [5, 60, 300])
def test_lanczos_finds_both_ends_with_residuals_that_hold(n):
    h = symmetric(n, n)
    start = torch.randn(n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    state = lanczos(lambda v: v @ h, start, min(n, 150))
    s = lanczos_spectrum(lambda v: v @ h, n, state, 4, 0.0).spectrum
    expected = np.linalg.eigvalsh(h.numpy())
    spread = expected[-1] - expected[0]
    assert s.lowest[0].value == pytest.approx(expected[0], abs=1e-8 * spread)
    assert s.highest[0].value == pytest.approx(expected[-1], abs=1e-8 * spread)
    for e in (*s.lowest, *s.highest):
        assert np.abs(expected - e.value).min() <= e.residual + 1e-12 * spread
    assert s.negative_count is None and s.lowest[0].multiplicity is None


def test_a_lanczos_run_continued_from_its_state_ends_with_the_same_numbers():
    h = symmetric(80, 5)
    start = torch.randn(80, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    whole = lanczos(lambda v: v @ h, start, 40)
    first = lanczos(lambda v: v @ h, start, 25)
    second = lanczos(lambda v: v @ h, start, 40, state=first)
    assert second.alphas == whole.alphas and second.betas == whole.betas


def test_lanczos_stays_in_the_space_searched():
    h = with_spectrum([-5.0, 1.0, 2.0, 3.0, 4.0], 2)
    lowest = torch.linalg.eigh(h).eigenvectors[:, 0]

    def project(v):
        return v - (v @ lowest) * lowest

    start = torch.randn(5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    state = lanczos(lambda v: h @ v, start, 5, project)
    s = lanczos_spectrum(lambda v: v @ h, 4, state, 2, 0.0).spectrum
    assert s.lowest[0].value == pytest.approx(1.0, abs=1e-10)


def test_the_probabilistic_lower_bound_holds_over_many_starts():
    n, steps, epsilon_fails = 200, 12, 0
    values = torch.linspace(0, 1, n, dtype=torch.float64)
    for seed in range(200):
        start = torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        state = lanczos(lambda v: values * v, start, steps)
        epsilon = bound_epsilon(n, steps, 0.1)
        t = np.linalg.eigvalsh(
            np.diag(state.alphas) + np.diag(state.betas[: steps - 1], 1) + np.diag(state.betas[: steps - 1], -1)
        )
        epsilon_fails += t[0] - epsilon > 0.0
    assert epsilon_fails <= 0.1 * 200 + 3 * math.sqrt(200 * 0.1)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30))
@example([0.0, 0.06, 0.12])  # a chain of close neighbours is cut
@example([4.706920435167572e-99, -0.1])  # 0.1 apart, but beyond −0.1 + 0.1
def test_clusters_partition_ascending_values_and_are_cut_only_where_they_would_become_too_wide(values):
    ordered = np.sort(np.array(values))
    spans = clusters(ordered, 0.1)
    assert [i for a, b in spans for i in range(a, b)] == list(range(len(ordered)))
    assert all(ordered[b - 1] <= ordered[a] + 0.1 for a, b in spans)
    assert all(ordered[b] > ordered[a] + 0.1 for a, b in spans[:-1])


def test_rounding_of_a_product_is_told_from_a_map_that_is_not_symmetric():
    generator = torch.Generator().manual_seed(0)
    size = 1e7 * torch.randn(6, 6, generator=generator, dtype=torch.float64)
    plain = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    plain = plain + plain.mT

    def cancelling(v):
        return v @ (plain + size) - v @ size

    matrix = assemble(Operator(6, cancelling, "H"), plain)
    assert (matrix - plain).abs().max() < 1e-7
    assert (cancelling(plain) - plain @ plain).abs().max() > 1e-9  # far more than a tolerance of 1e-9 of it allows
    tilted = plain.clone()
    tilted[0, 1] += 1e-7
    with pytest.raises(StaleLinearisation, match="not symmetric"):
        assemble(Operator(6, lambda v: v @ tilted, "H"), plain)
