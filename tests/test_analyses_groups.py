"""analyses.groups: each curve of augmented training is known from one gradient."""

from __future__ import annotations

import json

import pytest

from analyses.paper import groups


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("groups")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "CASES", (("trans", "rows"), ("trans", "roto-translations")))
        groups.main(["--runs", "2", "--epochs", "6", "--out", str(out)])
    return out


def stored(folder):
    return json.loads((folder / "groups.json").read_text())


def test_measured_drift_is_the_predicted_one(folder):
    found = stored(folder)
    for case in groups.cases(found["rows"], found["options"]):
        assert case.ratio == pytest.approx(1, rel=0.5)
        assert (case.off[:, -1] < 0.5 * case.nominal).all()


def test_dimensions_are_those_of_the_group(folder):
    shares = {r["group"]: (r["dim_E"], r["dim_L"], r["name"]) for r in stored(folder)["rows"]}
    assert shares["rows"][1] == shares["roto-translations"][1] == 4230
    assert shares["roto-translations"][0] < shares["rows"][0]
    assert shares["rows"][2] == "C_5"


def test_the_command_writes_what_the_gathered_report_needs_and_resumes(folder, tmp_path, monkeypatch):
    found = stored(folder)
    assert set(found["section"]) >= {"title", "expected", "measured", "means"}
    assert len(found["tables"][0]["rows"]) == 2
    assert (folder / "groups.png").stat().st_size > 10_000
    monkeypatch.setattr(groups, "CASES", (("trans", "rows"), ("trans", "roto-translations")))
    kept = found["rows"].pop()
    found["rows"][0]["cpu_seconds"] = -17.0
    (tmp_path / "groups.json").write_text(json.dumps(found))
    groups.main(["--runs", "2", "--epochs", "6", "--out", str(tmp_path)])
    again = stored(tmp_path)["rows"]
    assert again[0]["cpu_seconds"] == -17.0
    assert again[-1]["AUG"] == kept["AUG"]


def test_without_training_only_predictions_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(groups, "CASES", (("perm", "symmetric"),))
    groups.main(["--runs", "1", "--only-predict", "--out", str(tmp_path)])
    found = stored(tmp_path)
    assert "AUG" not in found["rows"][0]
    assert "nothing was trained" in found["section"]["means"]
