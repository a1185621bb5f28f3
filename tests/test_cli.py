"""The one command: its subcommands do what stands behind them, in the same words, with errors of one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import stability
from stability.cli.command import main, parser
from stability.report import __main__ as rendering
from stability.spectrum import command as spectrum
from stability.tasks import TaskOptions, load

REPORTS = Path(__file__).parents[1] / "reports"
MODULE = """
import torch
from torch import nn

import stability
from stability.groups import Dihedral, trivial


def network():
    torch.manual_seed(0)
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Tanh(), *pool, nn.Linear(2, 2))


def make():
    x = torch.randn(20, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    one = trivial(Dihedral(4))
    channels = {"0": (one, 2 * one), "4": (2 * one, 2 * one)}
    return stability.from_module(network(), nn.CrossEntropyLoss(), (x, (x.mean((1, 2, 3)) > 0).long()), channels)
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MODULE)


def network() -> nn.Module:
    namespace: dict = {}
    exec(MODULE, namespace)
    return namespace["network"]()


def written(folder: str) -> tuple[str, dict]:
    """(digest of everything but seconds, options), of a run."""
    data = json.loads(Path(folder, "spectrum.json").read_text())
    return data["sha256"], data["options"]


def test_spectrum_writes_what_the_old_form_writes(capsys, monkeypatch):
    monkeypatch.setattr(spectrum.report, "render", lambda analysis, folder: (folder / "report.html").touch())
    arguments = ["--task", "counterexample", "--seed", "3"]
    assert spectrum.main([*arguments, "--out", "old"]) == 0
    before = capsys.readouterr().out
    assert main(["spectrum", *arguments, "--out", "new"]) == 0
    assert capsys.readouterr().out == before.replace("old/report.html", "new/report.html")
    (old, before), (new, after) = written("old"), written("new")
    assert new == old
    assert after.pop("command") == before.pop("command").replace("--out old", "--out new")
    assert after == before
    assert sorted(f.name for f in Path("old").iterdir()) == sorted(f.name for f in Path("new").iterdir())


def test_report_renders_the_folders_that_the_old_form_renders(capsys, monkeypatch):
    rendered = []
    monkeypatch.setattr(rendering, "render", lambda *given: rendered.append(given))
    folder = str(REPORTS / "counterexample")
    assert main(["report", folder]) == 0
    assert rendering.main([folder]) == 0
    assert rendered[0] == rendered[1]


def test_compare_and_gallery_build_their_pages_and_leave_reports_alone():
    both = [Path("runs", name) for name in ("counterexample", "counterexample-twin")]
    for folder in both:
        folder.mkdir(parents=True)
        shutil.copy(REPORTS / folder.name / "spectrum.json", folder)
    assert main(["compare", *map(str, both), "--title", "Two at a time"]) == 0
    page = Path("runs/comparison.html").read_text()
    assert "Two at a time" in page
    assert all(f.name in page for f in both)
    assert [sorted(f.name for f in folder.iterdir()) for folder in both] == [["spectrum.json"]] * 2
    assert main(["gallery", "runs"]) == 0
    assert "counterexample-twin/spectrum.json" in Path("runs/index.html").read_text()


def test_check_prints_the_violation_of_every_assumption(capsys):
    assert main(["check", "--task", "counterexample"]) == 0
    printed = capsys.readouterr().out
    for name, violation in stability.check(load("counterexample", TaskOptions())).items():
        assert f"{violation:.1e}" in next(line for line in printed.splitlines() if line.startswith(name))


def test_diagnose_says_what_the_function_says(capsys):
    model = network()
    torch.save(model.state_dict(), "weights.pt")
    assert main(["diagnose", "--task", "mine.py:make", "weights.pt", "--eigenvalues", "2"]) == 0
    printed = capsys.readouterr().out
    sys.path.insert(0, ".")
    try:
        import mine
    finally:
        sys.path.remove(".")
    assert printed.strip() == str(stability.diagnose(mine.make(), model, eigenvalues=2))
    assert main(["diagnose", "--task", "mine.py:make", "--json", "--sectors", "none"]) == 0
    found = stability.Diagnosis.from_json(capsys.readouterr().out)
    assert found.sectors == ()
    assert found.distance == pytest.approx(stability.diagnose(mine.make(), names="none").distance)


def test_follow_judges_the_snapshots_of_a_recorder(capsys):
    record, model = stability.Recorder("run"), network()
    for step in range(3):
        record(model, step, time=0.1 * step)
        with torch.no_grad():
            model[0].weight.add_(0.01 * torch.randn(2, 1, 3, 3))
    assert main(["follow", "run", "--task", "mine.py:make", "--every", "2", "--figure", "moments.png"]) == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()[1:-1]] == ["0", "2"]
    assert Path("moments.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["nonsense"], "nonsense"),
        (["spectrum", "--points", "0"], "--points 0: give a number ≥ 1"),
        (["spectrum", "--points", "x"], "see stability spectrum --help"),
        (["check", "--task", "nowhere.py:make"], "there is no file"),
        (["check", "--seed", "-1"], "--seed -1"),
        (["check", "--task", "counterexample", "--size", "paper"], "--size has no effect"),
        (["diagnose", "--task", "counterexample"], "give the weights"),
        (["diagnose", "nowhere.pt", "--task", "mine.py:make"], "nowhere.pt"),
        (["follow", "nowhere", "--task", "mine.py:make"], "there is no folder"),
        (["report"], "nothing to render"),
        (["compare", "one"], "at least two"),
        (["gallery", "nowhere"], "there is no folder"),
        (["--completion", "fish"], "fish"),
    ],
    ids=" ".join,
)
def test_bad_input_gets_one_line_and_status_2(arguments, said, capsys):
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("stability: ")
    assert said in printed.err


def test_a_figure_that_cannot_be_written_gets_one_line(capsys):
    stability.Recorder("run")(network(), 0)
    Path("file").touch()
    arguments = ["follow", "run", "--task", "mine.py:make", "--sectors", "none", "--figure", "file/moments.png"]
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_python_m_and_version():
    command = [sys.executable, "-m", "stability", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert (done.returncode, done.stdout, done.stderr) == (0, f"stability {stability.__version__}\n", "")


def test_completion_knows_every_subcommand(capsys):
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit) as ended:
        main(["--completion", "bash"])
    assert ended.value.code == 0
    script = capsys.readouterr().out
    subcommands = next(a.choices for a in parser()._actions if isinstance(a.choices, dict))
    assert set(subcommands) == {"spectrum", "diagnose", "check", "audit", "follow", "report", "compare", "gallery"}
    for name in subcommands:
        assert f"stability_{name}" in script


def test_without_shtab_completion_says_how_to_get_it(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["--completion", "bash"]) == 2
    assert "pip install shtab" in capsys.readouterr().err


AUDITED = """
import torch
from torch import nn

from stability.groups import Cyclic


def make():
    torch.manual_seed(0)
    x = torch.randn(6, 1, 6, 6)
    x = torch.cat([torch.rot90(x, k, (2, 3)) for k in range(4)])
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), *pool, nn.Linear(4, 2))
    return net, (x, (x.mean((1, 2, 3)) > 0).long()), Cyclic(4)


def fewer():
    return make()[:2]


def odd():
    return dict(zip(("module", "data", "group"), make())) | {"colour": 1}
"""


def test_audit_says_whose_fault_it_is_at_the_weights_given(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(AUDITED)
    assert main(["audit", "mine.py:make", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cause"] == "weights" and found["error"] > 1e-6
    namespace: dict = {}
    exec(AUDITED, namespace)
    module, data, group = namespace["make"]()
    assert stability.audit(module, data, group).cause == found["cause"]
    with torch.no_grad():  # kernels that are alike in every direction
        module[0].weight.copy_(module[0].weight.mean((2, 3), keepdim=True).expand_as(module[0].weight))
    torch.save(module.state_dict(), "even.pt")
    assert main(["audit", "mine.py:make", "--weights", "even.pt"]) == 0
    assert "weights" not in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mine.py"], "give mine.py:FACTORY"),
        (["mine.py:none"], "defines no function 'none'"),
        (["mine.py:fewer"], "returned tuple"),
        (["mine.py:odd"], "returned 'colour'; known are module"),
        (["mine.py:make", "--weights", "no.pt"], "no.pt"),
    ],
)
def test_audit_refuses_what_it_cannot_take_in_one_line(arguments, said, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(AUDITED)
    assert main(["audit", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
