"""The study of optimisers reads growth off a series, keeps what it has, and notices a wrong prediction."""

from __future__ import annotations

from pathlib import Path

import pytest
from brute import bad

from analyses.lab.rows import Rows
from analyses.studies.optimisers import (
    OPTIMISERS,
    PUSH,
    SAMPLES,
    SHARES,
    STEPS,
    Place,
    compute,
    fitted,
    found_scene,
    measure,
    off,
    places,
    right,
)
from analyses.studies.optimisers import main as study


def test_the_largest_root_of_a_series_is_found_real_or_complex():
    assert fitted([1.0, 1.5, 2.25], two=False) == pytest.approx(1.5)
    for t, d, growth in ((1.7, 0.9, 0.9**0.5), (2.5, 0.9, (2.5 + 2.65**0.5) / 2)):
        y = [1.0, 0.8]
        for _ in range(8):
            y.append(t * y[-1] - d * y[-2])
        assert fitted(y, two=True) == pytest.approx(growth, rel=1e-9)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_run_grows_as_predicted_and_another_rules_prediction_would_be_noticed(name):
    place = found_scene(Place("maps", "A_4", 0))
    row = measure(place, OPTIMISERS[name], 1.2)
    assert right(row)
    assert off(row) < 0.02
    other = measure(place, OPTIMISERS["SGD" if name != "SGD" else "SGD, momentum"], 1.2)
    if abs(other["predicted"] / row["predicted"] - 1) > 0.1:
        assert off({**row, "predicted": other["predicted"]}) > 0.05


def test_the_committed_rows_are_those_of_every_place_and_are_all_right():
    options = {"steps": STEPS, "push": PUSH, "samples": SAMPLES}
    rows = Rows(Path(__file__).parents[1] / "reports/optimisers/optimisers.json", options)
    assert {r["label"] for r in rows.rows} == {p.label for p in places(3)}
    count = 36 * len(OPTIMISERS) * len(SHARES) + 2 * 3 * len(SHARES)
    assert len(rows.rows) == count
    assert all(map(right, rows.rows))
    assert max(map(off, rows.rows)) < 0.01
    compute(rows, 3)  # nothing is missing, so nothing is computed or written
    assert len(rows.rows) == count


def test_bad_options_are_refused(tmp_path):
    with bad("--seeds 0"):
        study(["--seeds", "0", "--out", str(tmp_path)])
