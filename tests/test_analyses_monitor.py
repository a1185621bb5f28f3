"""The study of alarms counts what came in time and what was false; the second paper's network is what its code says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from brute import bad

from analyses.replays import regularisation
from analyses.studies.monitor import ahead, draw, kinds, section, tables
from analyses.studies.monitor import main as study
from stability.optimisers.updates import sgd


def row(outcome: str, alarm: int | None, doubled: int | None) -> dict:
    return {"label": "maps, D_4, seed 0", "outcome": outcome, "alarm": alarm, "doubled": doubled, "lowest": -0.1}


ROWS = [
    row("unstable", 1, 900),
    row("unstable", 500, 900),
    row("unstable", None, 900),
    row("stable", None, None),
    row("stable", 250, None),
    row("neither", 1, None),
]


def test_an_alarm_counts_only_so_many_steps_ahead_and_a_false_one_is_counted():
    unstable, stable = kinds(ROWS)
    assert [ahead(r) for r in unstable] == [899, 400, None] and len(stable) == 2
    said = section(ROWS)
    assert said.finding.startswith("1 of 3 unstable runs") and "1 false alarms in 2" in said.finding
    lines = {line[0]: line[1:] for line in tables(ROWS)[0]["rows"]}
    assert lines["D_4"] == [3, 1, 2, 1]
    assert len(draw(ROWS).axes) == 2


def test_a_number_of_runs_that_is_none_is_refused():
    with bad("--of 0"):
        study(["--of", "0"])


def test_the_second_papers_network_starts_on_e_and_is_disturbed_across_it_only():
    module = regularisation.network(0)
    assert regularisation.distance(module) < 1e-6
    before = [p.detach().clone() for p in module.parameters()]
    regularisation.disturb(module, 0)
    dims = 3 / 4 * (9 - 1) / 8 * 8 / 9  # of nine taps two times four fall apart into one and three
    expected = regularisation.SIGMA * ((144 + 2304) * dims + 7840 * 36 / 49) ** 0.5
    assert regularisation.distance(module) == pytest.approx(expected, rel=0.03)
    for old, new in zip(before, module.parameters(), strict=True):
        assert torch.allclose(old - regularisation.across(old), new - regularisation.across(new), atol=1e-6)


def test_a_penalty_damps_what_was_there_and_what_comes_as_steps_of_it_do():
    left = (1 - regularisation.STEP * 10.0 ** np.array(regularisation.POWERS)) ** 2
    old = regularisation.Deviation(torch.ones(1), 0, 0)
    assert old.damped(7) == pytest.approx(left**7)
    fresh = regularisation.Deviation(torch.ones(1), 10, 20)
    mean = sum(left**k for k in range(10)) / 10
    assert fresh.damped(20) == pytest.approx(mean)
    assert fresh.damped(25) == pytest.approx(mean * left**5)
    assert float(fresh.within(sgd(0.1), 10, 14)(torch.zeros(1, dtype=torch.float64))) == pytest.approx(0.1 * 4**0.5)
    assert float(fresh.within(sgd(0.1), 20, 22)(torch.ones(1, dtype=torch.float64))) == pytest.approx(0.81)


def test_the_end_of_training_is_compared_with_what_was_foretold():
    told = {"kind": "forecast", "power": 0, "distance": [1.0, 0.05], "steps": [0, 10], "lowest": -1.0}
    runs = [{"kind": "run", "power": 0, "distance": [1.0, v]} for v in (0.03, 0.04)]
    (found,) = regularisation.compared([told, *runs])
    assert found.seen == pytest.approx(((0.03**2 + 0.04**2) / 2) ** 0.5)
    assert (found.holds, found.runs, found.least, found.most) == ("both", 2, 0.03, 0.04)
    assert regularisation.least([found], "forecast") == "10^0"
