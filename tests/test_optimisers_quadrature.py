"""Traces by quadrature against diagonalised sectors."""

from __future__ import annotations

import pytest
import torch
from brute import problem

from stability.optimisers.blocks import parts
from stability.optimisers.draws import Draws
from stability.optimisers.noise import covariance_of, gains, sample_gradients
from stability.optimisers.quadrature import drawn_noise, kept, krylov, quadrature, stirred
from stability.optimisers.updates import sgd
from stability.points.stationary import gradient_scale, minimise
from stability.spectra import sectors


def test_a_full_run_from_one_start_is_exact():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(12, 12, generator=generator, dtype=torch.float64)
    matrix = matrix @ matrix.mT / 12
    start = torch.randn(12, generator=generator, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(matrix)
    along = (vectors.mT @ start).square()
    update = sgd(0.05, 0.9)
    found = quadrature(lambda v: v @ matrix, start[None], 12)
    left = torch.linalg.matrix_power(
        torch.stack([torch.stack([1 - 0.05 * values, -0.05 * 0.9 * torch.ones_like(values)], -1),
                     torch.stack([values, 0.9 * torch.ones_like(values)], -1)], -2), 30,
    )[:, 0, 0]  # fmt: skip
    assert found.of(lambda h: kept(update, 30)(h) ** 2) == pytest.approx(float(along @ left.square()))
    gained = gains(update, values, 50).diagonal()
    assert found.of(lambda h: stirred(update, 50)(h) ** 2) == pytest.approx(float(along @ gained))
    run = krylov(lambda v: v @ matrix, start, 12)
    assert run.square(stirred(update, 50)) == pytest.approx(float(along @ gained))
    expected = vectors @ (left * (vectors.mT @ start))
    assert float((run.applied(kept(update, 30)) - expected).norm()) < 1e-9 * float(expected.norm())
    assert found.shifted(0.5).of(lambda h: h) == pytest.approx(float(along @ (values + 0.5)))


@pytest.mark.parametrize("draws", [Draws(4, 2, "sample"), Draws(4, 1, "batch"), Draws(None, 3, "batch")])
def test_drawn_vectors_have_the_covariance_of_the_noise(draws):
    case = problem("D_4 masks")
    theta = minimise(case, case.initial(0), 1e-6 * gradient_scale(case, 0))
    gradients = sample_gradients(case, case.space.embed(theta))
    for irrep, _ in sectors.occurring(case.space):
        if irrep.is_trivial:
            continue
        seen = parts(case.space, irrep, gradients)
        exact = covariance_of(case, seen, draws)
        drawn = drawn_noise(case, seen, draws, 20_000, torch.Generator().manual_seed(0))
        assert float((drawn.mT @ drawn / len(drawn) - exact).norm()) < 0.05 * float(exact.norm()) + 1e-12
