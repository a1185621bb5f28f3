"""Densities, least eigenvalues and products in shards against the whole spectrum of a dense matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from brute import bad, gaussian, problem

from stability.base.cluster import Serial
from stability.curvature.at import At
from stability.curvature.automatic import nominal_hessian
from stability.eigen.dense import dense_spectrum
from stability.spectra import least, sectors
from stability.spectra.density import Part, bins, counted, edges_of, estimate, exact
from stability.spectra.record import Spectra, table
from stability.spectra.shards import shard, sharded_hessian

VALUES = torch.cat([torch.linspace(-2, -0.1, 20), torch.zeros(5), torch.linspace(0.01, 50, 75)]).double()


def solution(values: torch.Tensor):
    return dense_spectrum(torch.diag(values), lambda v: v * values, 3)


# -------------------------------------------------------------------------------------------------- densities


@pytest.mark.parametrize("ends", [(-1.0, 100.0), (-5.0, -1.0), (0.5, 2.0), (-1e-12, 1.0)])
def test_bins_ascend_hold_both_ends_and_mix_no_signs(ends):
    edges = bins(*ends, 1e-2, 1e-9)
    assert (np.diff(edges) > 0).all() and edges[0] <= max(ends[0], -1e-9) and edges[-1] >= ends[1]
    assert all(a >= 0 or b <= 0 or (a, b) == (-1e-9, 1e-9) for a, b in zip(edges, edges[1:], strict=False))


def test_a_whole_spectrum_is_counted_exactly():
    spectrum = solution(VALUES).spectrum
    shares = exact(spectrum)
    assert sum(shares.share) == pytest.approx(1) and set(shares.error) == {0.0}
    below = sum(s for s, right in zip(shares.share, shares.edges[1:], strict=True) if right < 0)
    at_zero = shares.share[list(shares.edges).index(-max(spectrum.error, 1e-300))]
    assert below == pytest.approx(0.2) and at_zero == pytest.approx(0.05)


def test_an_estimate_lies_within_its_errors_of_the_count_and_is_exact_after_all_steps():
    spectrum = solution(VALUES).spectrum
    edges = edges_of(spectrum)
    expected = counted(VALUES.numpy(), np.full(100, 0.01), edges)
    cut = 30
    parts = [
        Part(lambda v: v * VALUES[:cut], cut, cut),
        Part(lambda v: v * VALUES[cut:], 100 - cut, 100 - cut),
    ]
    found = estimate(parts, edges, probes=40, steps=25, like=VALUES)
    doubt = 4 * np.array(found.error) + np.array(found.resolution) + 1e-12
    assert (np.abs(np.array(found.share) - expected) <= doubt).all()
    assert sum(found.share) == pytest.approx(1)
    again = estimate(parts, edges, probes=40, steps=25, like=VALUES)
    assert again == found != estimate(parts, edges, probes=40, steps=25, like=VALUES, seed=1)


# ------------------------------------------------------------------------------------------ least, record, shards


@pytest.mark.parametrize("name", ["A_4 points", "Q_8 quaternions"])
@pytest.mark.parametrize("dense", [400, 2])
def test_the_least_eigenvalue_of_every_sector_is_that_of_its_matrix(name, dense, monkeypatch):
    monkeypatch.setattr(least, "DENSE", dense)  # beyond it by Lanczos
    one = problem(name)
    at = At(one, one.initial(0))
    irreps = list(sectors.occurring(one.space))
    for (irrep, _), found in zip(irreps, least.lowest(one, at.theta, irreps), strict=True):
        expected = float(torch.linalg.eigvalsh(at.matrix(irrep))[0])
        assert found.irrep == irrep.name and found.value == pytest.approx(expected, abs=1e-7)
    assert least.products(irreps) == sum(v.dim * (size if size <= dense else 120) for v, size in irreps)


def test_a_history_tells_e_from_the_other_sectors():
    one = problem("A_4 points")
    irreps = list(sectors.occurring(one.space))
    row = least.lowest(one, one.initial(0), irreps)
    history = least.History(0.1, (0,), (1.0,), (row,))
    assert [e.irrep for e in history.on_e()] == ["trivial"]
    assert history.across() == [min((e for e in row if e.irrep != "trivial"), key=lambda e: e.value)]
    assert least.History(0.1, (0,), (1.0,), (tuple(history.on_e()),)).across() == []


def test_spectra_stand_under_their_risk_and_space_as_far_as_they_are_known():
    four = [solution(VALUES + k) for k in range(4)]
    whole = Spectra(*four).table()
    places = [("eqv", "E"), ("aug", "E"), ("aug", "E_perp"), ("nominal", "L")]
    assert [(risk, space) for risk, row in whole.items() for space in row] == places
    assert all(whole[risk][space] is one.spectrum for (risk, space), one in zip(places, four, strict=True))
    assert table(four[0], nominal=four[3]) == {"eqv": {"E": four[0].spectrum}, "nominal": {"L": four[3].spectrum}}


@pytest.mark.parametrize("count", [1, 2, 7])
def test_shards_hold_every_sample_once_and_their_products_add_up(count):
    one = problem("A_4 points")
    parts = [shard(one.samples, k, count) for k in range(count)]
    assert torch.equal(torch.cat([p.x for p in parts]), one.samples.x)
    assert torch.equal(torch.cat([p.weight for p in parts]), one.samples.weight)
    theta = one.initial(0)
    at, pool = one.space.embed(theta), Serial()
    v = gaussian(2, len(at))
    whole, sharded = nominal_hessian(one, at), sharded_hessian(pool, one, at, count)
    torch.testing.assert_close(sharded(v), whole(v), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(sharded.gradient, whole.gradient, rtol=1e-11, atol=1e-12)
    for irrep, size in sectors.occurring(one.space):
        s = gaussian(2, size)
        expected = At(one, theta).block(irrep)(s)
        torch.testing.assert_close(sharded_hessian(pool, one, theta, count, irrep)(s), expected, rtol=1e-10, atol=1e-11)


def test_more_shards_than_samples_are_refused():
    with bad("8 shards of 7 samples; give a number from 1 to 7"):
        shard(problem("A_4 points").samples, 0, 8)
