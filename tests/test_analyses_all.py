"""analyses.all: whatever the analyses left is on the page, and what is missing is named."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from matplotlib.figure import Figure

from analyses import all as gathered
from analyses import shared

WORDS = shared.Section("Leaving E", "‖A_{E⊥}‖ < 1.", "First 0.25.\n\nThen R^aug.", "It holds. And more.")


@pytest.fixture
def reports(tmp_path):
    folder = tmp_path / "reports" / "penalty"
    folder.mkdir(parents=True)
    figure = Figure()
    figure.subplots().plot([0, 1], [0, 1])
    listed = [shared.table("Rates", ["a", "b"], [[0.123456789, None], [3, "x < y"]])]
    shared.publish(folder, "penalty", {"rates": [1.0]}, {"penalty.png": (figure, "Two rates.")}, WORDS, listed)
    return tmp_path / "reports"


def result(reports, name):
    (one,) = [r for r in gathered.gather(reports) if r.name == name]
    return one


def test_what_a_module_publishes_is_on_the_page(reports):
    found = result(reports, "penalty")
    assert asdict(found.section) == asdict(WORDS)
    assert not found.problem
    html = gathered.page(gathered.gather(reports))
    assert "<p>First" in html and "<p>Then R<sup>aug</sup>." in html
    assert "x &lt; y" in html and ">0.1235<" in html
    assert "Figure 1. Two rates." in html.replace('<span class="n">', "").replace("</span>", "")
    assert html.count("data:image/png;base64,") == 1
    assert "http" not in html


def test_the_finding_is_the_first_sentence_of_the_meaning_unless_one_is_given(reports):
    assert result(reports, "penalty").finding == "It holds."
    file = reports / "penalty" / "penalty.json"
    stored = json.loads(file.read_text())
    stored["section"]["finding"] = "γ* is sharp."
    file.write_text(json.dumps(stored))
    assert result(reports, "penalty").finding == "γ* is sharp."


def test_every_chapter_without_results_names_the_command_that_makes_them(reports):
    missing = [r for r in gathered.gather(reports) if r.section is None]
    assert len(missing) == len(gathered.CHAPTERS) - 1
    html = gathered.page(gathered.gather(reports))
    assert all(f"python -m analyses.{r.name}" in html for r in missing)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"section": {"title": "x"}}', '{"section": 3}'])
def test_results_without_words_are_reported_and_their_picture_is_shown(reports, content):
    (reports / "penalty" / "penalty.json").write_text(content)
    found = result(reports, "penalty")
    assert found.section is None
    assert "no section that can be read" in found.problem
    assert len(found.pictures) == 1


def test_a_run_that_was_interrupted_is_said_to_be_unfinished(reports):
    shared.Rows(reports / "penalty" / "fresh.json", {}).add({"x": 1})
    (reports / "penalty" / "fresh.json").rename(reports / "penalty" / "penalty.json")
    assert "1 rows are there, but no words yet" in result(reports, "penalty").problem


def test_a_picture_that_is_gone_is_named(reports):
    (reports / "penalty" / "penalty.png").unlink()
    assert "penalty.png is missing" in result(reports, "penalty").problem


def test_folders_of_several_sizes_follow_each_other(reports):
    words = json.dumps({"section": asdict(WORDS)})
    for size in ("paper", "small"):
        folder = reports / f"figure1-{size}"
        folder.mkdir()
        (folder / "figure1.json").write_text(words)
    assert [r.folder for r in gathered.gather(reports) if r.name == "figure1"] == ["figure1-small", "figure1-paper"]


def test_the_command_writes_one_file(reports, capsys):
    out = reports / "all"
    assert shared.command(gathered.main, ["--reports", str(reports), "--out", str(out)]) == 0
    assert [p.name for p in out.iterdir()] == ["report.html"]
    assert "There are no results yet" in capsys.readouterr().out
    assert shared.command(gathered.main, ["--reports", str(reports / "nowhere"), "--out", str(out)]) == 2
