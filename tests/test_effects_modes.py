"""The picture of the most negative mode shows what dense weights say."""

from __future__ import annotations

import pytest
import torch

from stability.effects import modes
from stability.report.figures import FIGURES
from stability.results import Analysis
from stability.run.analysis import analyse
from stability.run.settings import Settings
from stability.spectra import sectors
from stability.tasks import TaskOptions, load


@pytest.mark.parametrize("task", ["trans", "perm", "rot"])
def test_the_change_in_the_picture_is_the_response_of_the_dense_partners(task):
    problem = load(task, TaskOptions(samples=30))
    theta, space = problem.initial(0), problem.space
    irrep, size = next((v, n) for v, n in sectors.occurring(space) if not v.is_trivial)
    mode = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mode /= mode.norm()
    shown = modes.picture(problem, theta, irrep, mode, -1.0)
    assert sum(shown.shares.values()) == pytest.approx(1)
    place = [layer.name for layer in space.layers].index(shown.layer)
    weights, partners = space.split(space.embed(theta)), space.split(sectors.lift(space, irrep, mode))
    x = problem.samples.x[shown.sample]
    for i in range(place):
        x = problem.model.network.nonlinearities[i](weights[i] @ x, space.layers[i].target)
    base = space.layers[place].target.blocks[0][1].dim
    rows = slice(shown.channel * base, (shown.channel + 1) * base)
    assert torch.allclose(torch.tensor(shown.response).flatten().double(), (weights[place] @ x)[rows], atol=1e-12)
    for j, change in enumerate(shown.change):
        expected = (partners[place][j] @ x)[rows]
        assert torch.allclose(torch.tensor(change, dtype=torch.float64).flatten(), expected, atol=1e-12)


def test_an_analysis_keeps_the_mode_through_json_and_draws_it():
    found = analyse(load("trans", TaskOptions(samples=30)), Settings(at="init", escape_iterations=0)).analysis
    assert found.mode.value == pytest.approx(found.spectra["aug"]["E_perp"].lowest[0].value, rel=1e-9)
    again = Analysis.from_json(found.to_json())
    assert again.mode == found.mode
    assert FIGURES["mode"].applies(again)
    assert not FIGURES["mode"].applies(Analysis.from_json(found.to_json().replace('"mode": {', '"other": {')))
