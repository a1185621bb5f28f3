"""analyses.penalty: γ* from the spectrum is where the penalised flow turns round."""

from __future__ import annotations

import json

import pytest

from analyses.lab import cases, command
from analyses.lab import ground as lab_ground
from analyses.lab import rows as lab_rows
from analyses.studies import penalty
from stability.base.errors import BadInput


@pytest.fixture(scope="module")
def unstable() -> lab_ground.Ground:
    return cases.Case("counterexample").ground()


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1, 2.0])
def test_the_counterexample_follows_its_rate_known_by_hand(unstable, factor):
    found = penalty.measure(unstable, factor, duration=1.0)
    assert found["gamma_critical"] == pytest.approx(1, abs=1e-12)
    assert found["rate_predicted"] == pytest.approx(1 - factor, abs=1e-12)
    assert abs(found["rate_measured"] - (1 - factor)) < 0.01
    assert found["step"] <= 0.2 * found["step_critical"] * (1 + 1e-12)


def test_an_unstable_point_of_graphs_is_lost_below_and_held_above():
    ground = cases.Case("perm", 1, 40, 1e-2).ground()
    slow, fast = (penalty.measure(ground, f, duration=0.05) for f in (0.9, 1.1))
    assert slow["rate_measured"] > 0 > fast["rate_measured"]
    assert max(map(penalty.relative_error, (slow, fast))) < 1e-2


def test_a_stable_point_has_no_critical_penalty():
    with pytest.raises(BadInput, match="needs an unstable point"):
        penalty.measure(cases.Case("counterexample-twin").ground(), 1.1, 1.0)


def test_the_command_writes_every_number_of_its_picture_and_takes_up_where_it_stopped(tmp_path):
    arguments = ["--tasks", "counterexample", "--factors", "0.5", "2", "--out", str(tmp_path)]
    penalty.main(arguments)
    first = json.loads((tmp_path / "penalty.json").read_text())
    assert [r["factor"] for r in first["rows"]] == [0.5, 2.0]
    assert (tmp_path / "penalty.png").stat().st_size > 5000
    assert "grew in 1 of 1" in first["section"]["measured"]
    assert "shrank in 1 of 1" in first["section"]["measured"]
    del first["rows"][0]
    first["rows"][0]["rate_measured"] = -17.0
    (tmp_path / "penalty.json").write_text(json.dumps(first))
    penalty.main(arguments)
    second = {r["factor"]: r for r in json.loads((tmp_path / "penalty.json").read_text())["rows"]}
    assert second[2.0]["rate_measured"] == -17.0  # kept
    assert second[0.5]["rate_measured"] > 0  # computed anew


def test_words_say_so_when_the_sign_does_not_turn():
    row = {"label": "x", "gamma_critical": 1.0, "rate_predicted": 0.5, "times": [0.0, 1.0]}
    rows = [{**row, "factor": 0.5, "rate_measured": -0.1}, {**row, "factor": 2.0, "rate_measured": -1.0}]
    said = penalty.section(rows)
    assert "grew in 0 of 1" in said.measured
    assert "does not change where it should" in said.measured


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--tasks", "digits"], "--tasks digits"), (["--factors", "-1"], "--factors")],
)
def test_bad_options_end_with_one_line_and_status_2(tmp_path, capsys, arguments, message):
    assert command.command(penalty.main, [*arguments, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_results_of_other_options_are_refused(tmp_path):
    lab_rows.Rows(tmp_path / "a.json", {"factors": [1.0]}).add({"x": 1})
    with pytest.raises(BadInput, match="other options"):
        lab_rows.Rows(tmp_path / "a.json", {"factors": [2.0]})
    (tmp_path / "b.json").write_text("[]")
    with pytest.raises(BadInput, match="no result"):
        lab_rows.Rows(tmp_path / "b.json", {})
