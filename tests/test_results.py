"""What a run leaves: read back as written, held to its checksum, refused by schema, told in a line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from brute import bad

from stability.results import SCHEMA, Analysis, Escape
from stability.run.given import Outcome
from tests.test_report import ANALYSIS as UNSTABLE
from tests.test_report import UNFINISHED

STORED = sorted((Path(__file__).parents[1] / "reports").glob("*/spectrum.json"))
ANALYSIS = Analysis.read(STORED[0].read_text())
TEXT = ANALYSIS.to_json()


@pytest.mark.parametrize("file", STORED, ids=lambda file: file.parent.name)
def test_a_committed_result_comes_back_with_every_number(file):
    found = Analysis.read(file.read_text())
    again = Analysis.from_json(found.to_json())
    assert again == found and again.to_json() == found.to_json()
    assert found.summary() == "verdict: " + " ".join(f"{k}={v.status}" for k, v in found.verdict.named().items())


def test_an_edited_number_is_refused_by_its_checksum_and_read_without_it():
    data = json.loads(TEXT)
    data["weight_decay"] = data["weight_decay"] + 1e-3
    with bad("its content does not match its checksum"):
        Analysis.read(json.dumps(data))
    del data["sha256"]
    assert Analysis.read(json.dumps(data)).weight_decay == data["weight_decay"]


def test_what_a_run_cost_may_differ_without_another_checksum():
    slower = replace(ANALYSIS, cost={"seconds": 1e9})
    assert json.loads(slower.to_json())["sha256"] == json.loads(ANALYSIS.to_json())["sha256"]


def test_other_schemas_and_other_files_are_refused_by_name():
    data = json.loads(TEXT)
    with bad(f"of schema {SCHEMA + 1}, written by stability .*; this version reads {SCHEMA}"):
        Analysis.read(json.dumps(data | {"schema": SCHEMA + 1}))
    for text in ("[]", "{}", '"text"'):
        with bad("no spectrum.json: it names no schema"):
            Analysis.read(text)
    with bad(f"does not keep to schema {SCHEMA}: .*samples"):
        Analysis.read(json.dumps(data | {"samples": -1}))


def test_a_line_an_eigenvalue_with_its_place():
    rows = ANALYSIS.rows()
    places = {(risk, where) for risk, row in ANALYSIS.spectra.items() for where in row}
    assert {(row["risk"], row["space"]) for row in rows} == places
    across = ANALYSIS.spectra["aug"]["E_perp"]
    values = [row["value"] for row in rows if (row["risk"], row["space"]) == ("aug", "E_perp")]
    assert set(values) == {e.value for e in (*across.lowest, *across.highest)}
    assert replace(ANALYSIS, verdict=None, spectra=None).summary() == "verdict: none"


def test_an_escape_of_before_says_nothing_of_what_it_did_not_measure():
    old = Escape(1.0, 0.5, {}, {}, 0.01, 0.3, 2.0, 10)
    assert (old.share, old.equivariant) == (None, None) and not old.back
    assert replace(old, norm_end=3.0).share == pytest.approx(0.1)
    assert replace(old, norm_end=3.0, off_equivariance=0.0, equivariance_error=1e-15).equivariant


def test_an_analysis_is_one_line_in_a_shell_and_the_first_screen_of_its_report_in_a_notebook():
    assert repr(UNSTABLE) == f"<Analysis of trans under Z_5²: L 41 = E 4 + E⊥ 37; {UNSTABLE.summary()}>"
    outcome = Outcome(UNSTABLE)
    assert repr(outcome) == f"<Outcome: {UNSTABLE!r}>"
    shown = outcome._repr_html_()
    assert "6 directions out of E descend" in shown and "γ above γ*" in shown and "data:image/png" in shown
    assert "<script" not in shown and len(shown) < 200_000
    assert "Partial result" in UNFINISHED._repr_html_()
