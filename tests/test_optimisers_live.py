"""Warm Krylov runs against the whole matrix of a sector."""

from __future__ import annotations

import pytest
import torch
from brute import problem

from stability.curvature.at import At
from stability.optimisers.blocks import parts, resolve
from stability.optimisers.live import Seen, ends
from stability.optimisers.noise import gains
from stability.optimisers.updates import sgd
from stability.points.stationary import gradient_scale, minimise
from stability.spectra import sectors


def finished(pieces):
    """What a generator returns, and how often it handed back."""
    count = 0
    while True:
        try:
            next(pieces)
            count += 1
        except StopIteration as done:
            return done.value, count


@pytest.fixture(scope="module")
def ground():
    case = problem("D_4 masks")
    return case, minimise(case, case.initial(0), 1e-9 * gradient_scale(case, 0))


def test_both_ends_and_the_noise_are_those_of_the_matrix(ground):
    case, theta = ground
    generator = torch.Generator().manual_seed(0)
    noise = case.space.transverse_part(torch.randn(case.space.dim, generator=generator, dtype=torch.float64))
    update = sgd(0.05, 0.9, decay=0.3)
    top = max(float(b.values[-1]) for b in resolve(case, theta, decay=0.3))
    assert top < 1.9 * 1.9 / 0.05
    for block in resolve(case, theta, decay=0.3):
        size = len(block.values)
        found, count = finished(
            ends(At(case, theta), block.irrep, size, Seen(update, None, noise, 10**6, size, 0), None)
        )
        assert count >= 4, "a product a piece"
        assert found.lowest == pytest.approx(float(block.values[0]), abs=1e-8)
        assert found.highest == pytest.approx(float(block.values[-1]), abs=1e-8)
        seen = parts(case.space, block.irrep, noise)
        signs = 2.0 * torch.randint(0, 2, (len(seen),), generator=torch.Generator().manual_seed(1)).to(seen) - 1
        along = block.vectors.mT @ (signs @ seen) / len(seen) ** 0.5
        exact = block.copies * float(along.square() @ gains(update, block.values, 10**6).diagonal())
        assert found.stirred == pytest.approx(exact, rel=0.2), "four products of a quadrature"


def test_a_warm_start_is_nearer_after_as_many_products(ground):
    case, theta = ground
    irrep, size = max((p for p in sectors.occurring(case.space) if not p[0].is_trivial), key=lambda p: p[1])
    exact = float(next(b.values[0] for b in resolve(case, theta) if b.irrep.name == irrep.name))
    seen = Seen(sgd(0.1), None, None, 10, 4, 0)
    cold, _ = finished(ends(At(case, theta), irrep, size, seen, None))
    warm, _ = finished(ends(At(case, theta), irrep, size, seen, cold.warm))
    assert exact - 1e-9 <= warm.lowest < cold.lowest
