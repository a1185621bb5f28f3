"""What is resumed belongs to the same problem, is sound, and gives the same numbers to the last bit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from problems import regression
from safetensors.torch import safe_open, save_file

from stability.base.errors import BadInput
from stability.base.identity import differences
from stability.base.limits import Limits
from stability.base.storage import Checkpoint, read_tensors, write_tensors
from stability.networks.bare import from_risk
from stability.problem.identity import identity, sources
from stability.problem.problem import Problem
from stability.problem.space import Samples
from stability.run.analysis import analyse
from stability.run.given import Interrupted
from stability.run.sector import sector_file
from stability.run.settings import Settings
from stability.spectrum import command as spectrum
from stability.tasks import TaskOptions, load

TASK = """
import os
import torch, stability
from pathlib import Path
from stability.groups import Symmetric, permutation
from helper import curvature

def make():
    words = (Path(__file__).parent / "weights.txt").read_text().split()
    x0 = torch.tensor([float(w) for w in words], dtype=torch.float64)

    def risk(t):
        x = t["x"]
        pull = float(os.environ.get("PULL", "0"))
        return 1 + 2 * x.mean() ** 2 + curvature() * ((x - x.mean()) ** 2).sum() + pull * x.mean() ** 4

    return stability.from_risk(risk, {"x": x0}, {"x": permutation(Symmetric(3))}, name="edited")
"""
QUICK = ["--points", "1"]
pytestmark = pytest.mark.usefixtures("undrawn")


def run(*arguments: object) -> int:
    return spectrum.main([str(a) for a in arguments])


class Stop(Checkpoint):
    """A state whose run is interrupted once it has been written to so many times."""

    writes = 0

    def save(self, *arguments, **options):
        super().save(*arguments, **options)
        Stop.writes -= 1
        if Stop.writes == 0:
            raise KeyboardInterrupt


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder with a task, a module it imports, one that imports, and weights it reads."""
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "helper.py").write_text("from constants import K\n\ndef curvature():\n    return K\n")
    (tmp_path / "constants.py").write_text("K = 0.5\n")
    (tmp_path / "unrelated.py").write_text("K = 1\n")
    (tmp_path / "weights.txt").write_text("1.0 1.0 1.0")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("PULL", raising=False)
    yield tmp_path
    forget()


def forget() -> None:
    """As in a new process: modules of the project are imported anew."""
    import sys

    for name in ("helper", "constants"):
        sys.modules.pop(name, None)


def interrupted(project: Path, monkeypatch, writes: int = 3) -> list[str]:
    """The arguments of a run that was interrupted; its state stays."""
    arguments = ["--task", f"{project / 'task.py'}:make", *QUICK, "--out", str(project / "out")]
    forget()
    Stop.writes = writes
    with monkeypatch.context() as patched:
        patched.setattr(spectrum, "Checkpoint", Stop)
        assert run(*arguments) == 130
    assert list((project / "out" / "state").iterdir())
    forget()
    return arguments


def replaced(file: str, old: str, new: str):
    def change(project: Path, monkeypatch) -> None:
        text = (project / file).read_text()
        assert old in text
        (project / file).write_text(text.replace(old, new))

    return change


CHANGES = {
    "the file": (replaced("task.py", "2 * x.mean()", "3 * x.mean()"), "task.py has changed"),
    "what it imports": (replaced("helper.py", "return K", "return -K"), "helper.py has changed"),
    "what that imports": (replaced("constants.py", "0.5", "-0.5"), "constants.py has changed"),
    "weights read at run time": (replaced("weights.txt", "1.0 1.0 1.0", "2.0 2.0 2.0"), "the initial weights"),
    "the environment": (lambda project, monkeypatch: monkeypatch.setenv("PULL", "0.1"), "the risk"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_run_whose_problem_was_changed_is_not_resumed_and_the_line_says_what_changed(
    what, project, monkeypatch, capsys
):
    change, said = CHANGES[what]
    arguments = interrupted(project, monkeypatch)
    before = {f.name: f.read_bytes() for f in (project / "out" / "state").iterdir()}
    change(project, monkeypatch)
    capsys.readouterr()
    assert run(*arguments, "--resume") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "belongs to another problem" in error and said in error and "start over" in error
    # Nothing is lost: as it was computed, it can still be resumed.
    assert before == {f.name: f.read_bytes() for f in (project / "out" / "state").iterdir()}
    forget()
    assert run(*arguments) == 0  # the mend that the line names
    assert not (project / "out" / "state").exists()


def test_a_run_whose_problem_is_the_same_is_resumed_whatever_else_lies_in_the_folder(project, monkeypatch, capsys):
    arguments = interrupted(project, monkeypatch)
    (project / "unrelated.py").write_text("K = 2\n")
    (project / "notes.txt").write_text("nothing")
    assert run(*arguments, "--resume") == 0
    assert not (project / "out" / "state").exists()


def test_the_point_given_by_a_file_is_part_of_what_is_resumed(project, monkeypatch, capsys):
    weights = project / "at.safetensors"
    save_file({"x": torch.zeros(3, dtype=torch.float64)}, weights)
    forget()
    arguments = ["--task", f"{project / 'task.py'}:make", "--at", weights, "--out", project / "out"]
    Stop.writes = 2
    with monkeypatch.context() as patched:
        patched.setattr(spectrum, "Checkpoint", Stop)
        assert run(*arguments) == 130
    save_file({"x": torch.ones(3, dtype=torch.float64)}, weights)
    assert run(*arguments, "--resume") == 2
    assert "at was a point of digest" in capsys.readouterr().err


def bare(k: float, start: float = 1.0) -> Problem:
    """A risk declared in Python: its curvature lives in a closure, its text is the same for every k."""
    from stability.groups import Symmetric, permutation

    def risk(t):
        x = t["x"]
        return 2 * x.mean() ** 2 + k * ((x - x.mean()) ** 2).sum()

    return from_risk(
        risk, {"x": torch.full((3,), start, dtype=torch.float64)}, {"x": permutation(Symmetric(3))}, name="bare"
    )


@pytest.mark.parametrize(
    ("other", "settings", "said"),
    [
        (bare(-1.0), {}, "the risk at a random point"),
        (bare(1.0, 2.0), {}, "the initial weights"),
        (bare(1.0), {"seed": 1}, "seed was 0, is 1"),
        (bare(1.0), {"eigenvalues": 3}, "eigenvalues was 10, is 3"),
    ],
)
def test_a_problem_declared_in_python_is_told_by_its_numbers_and_settings(other, settings, said, tmp_path):
    Stop.writes = 2
    with pytest.raises(Interrupted):
        analyse(bare(1.0), Settings(points=1), checkpoint=Stop(tmp_path / "state", {}, False))
    with pytest.raises(BadInput, match=said):
        analyse(other, Settings(points=1, **settings), checkpoint=Checkpoint(tmp_path / "state", {}, True))
    found = analyse(bare(1.0), Settings(points=1), checkpoint=Checkpoint(tmp_path / "state", {}, True))
    assert found.analysis.complete


def test_data_are_told_apart_by_their_values_and_not_by_how_a_mean_was_rounded():
    problem = regression("C_5")
    known = identity(problem)
    assert not differences(json.loads(json.dumps(known)), identity(problem))
    for scale, same in ((1 + 1e-15, True), (1 + 1e-9, False)):
        moved = Samples(problem.samples.x * scale, problem.samples.y, problem.samples.weight)
        assert (not differences(known, identity(replace(problem, samples=moved)))) == same


def test_files_are_followed_through_imports_of_every_form(tmp_path):
    (tmp_path / "pack" / "inner").mkdir(parents=True)
    texts = {
        "a.py": "import b\nfrom pack import c\nimport os, torch\n",
        "b.py": "import a\n",
        "pack/__init__.py": "",
        "pack/c.py": "from . import d\nfrom .inner.e import f\n",
        "pack/d.py": "",
        "pack/inner/__init__.py": "from ..g import x\n",
        "pack/inner/e.py": "def f(): import h\n",
        "pack/g.py": "x = 1\n",
        "alone.py": "",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    assert set(sources({tmp_path / "a.py"})) == set(texts) - {"alone.py"}
    (tmp_path / "b.py").write_text("this is no Python")
    assert set(sources({tmp_path / "b.py"})) == {"b.py"}


def test_this_packages_own_text_is_no_part_of_what_a_problem_is():
    """Its version is; reading a hundred files of a checkout took a second of every analysis."""
    assert identity(load("counterexample", TaskOptions()))["code"] == {}
    assert sources({Path(spectrum.__file__)}) == {}


# ---------------------------------------------------------------------------------------------------- damage


def rewritten(path: Path, change) -> None:
    """The same file with other tensors, its metadata untouched."""
    tensors, metadata = read_tensors(path)
    change(tensors)
    save_file(tensors, path, metadata)


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


def first(change):
    def apply(tensors: dict) -> None:
        name = sorted(tensors)[0]
        tensors[name] = change(tensors[name]).contiguous()

    return lambda path: rewritten(path, apply)


def sealed(change):
    """As :func:`first`, with a checksum that holds: what is wrong is the content."""

    def damage(path: Path) -> None:
        tensors, metadata = read_tensors(path)
        tensors = change(dict(tensors))
        write_tensors(path, tensors, {k: v for k, v in metadata.items() if k not in ("sha256", "format_version")})

    return damage


def without_first(tensors: dict) -> dict:
    tensors.pop(sorted(tensors)[0])
    return tensors


def mistold(path: Path) -> None:
    tensors, metadata = read_tensors(path)
    save_file(tensors, path, {k: "[" if k not in ("key", "format_version") else v for k, v in metadata.items()})


DAMAGE = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "empty": lambda path: path.write_bytes(b""),
    "a flipped bit": flipped,
    "not a number": first(lambda t: t * float("nan")),
    "another shape": first(lambda t: torch.cat([t, t])),
    "another dtype": first(lambda t: t.float()),
    "a missing tensor": lambda path: rewritten(path, lambda t: t.pop(sorted(t)[0])),
    "broken metadata": mistold,
    "not a number, sealed": sealed(lambda t: {k: v * float("nan") for k, v in t.items()}),
    "another shape, sealed": sealed(lambda t: {k: torch.cat([v, v]) for k, v in t.items()}),
    "another dtype, sealed": sealed(lambda t: {k: v.float() for k, v in t.items()}),
    "a missing tensor, sealed": sealed(without_first),
}
STATE = ("points", "start-0", f"{sector_file('(2,1)')}")


def plain(value: object) -> object:
    """What a run found, without what it cost."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k not in ("seconds", "cost", "options", "command")}
    return [plain(v) for v in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> tuple[Path, object]:
    """A state with points, a start and a sector, and what the undisturbed run finds."""
    folder = tmp_path_factory.mktemp("kept") / "state"
    Stop.writes = 3
    with pytest.raises(Interrupted):
        analyse(bare(1.0), Settings(points=1), checkpoint=Stop(folder, {}, False))
    assert {f.stem for f in folder.iterdir()} == set(STATE)
    return folder, plain(json.loads(analyse(bare(1.0), Settings(points=1)).to_json()))


@pytest.mark.parametrize("name", STATE)
@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_is_named_and_computed_again_to_the_same_numbers(how, name, kept, tmp_path, capsys):
    folder, reference = kept
    shutil.copytree(folder, tmp_path / "state")
    DAMAGE[how](tmp_path / "state" / f"{name}.safetensors")
    if name == "start-0":  # points stand for it as long as they are there
        (tmp_path / "state" / "points.safetensors").unlink()
    found = analyse(bare(1.0), Settings(points=1), checkpoint=Checkpoint(tmp_path / "state", {}, True))
    error = capsys.readouterr().err
    assert f"{name}.safetensors" in error and "computed again" in error and error.count("\n") == 1, error
    assert plain(json.loads(found.to_json())) == reference


def test_a_sector_of_another_point_is_not_mixed_in(kept, tmp_path, capsys):
    folder, reference = kept
    shutil.copytree(folder, tmp_path / "state")
    path = tmp_path / "state" / f"{STATE[2]}.safetensors"
    tensors, metadata = read_tensors(path)
    write_tensors(path, tensors, {**{k: v for k, v in metadata.items() if k != "sha256"}, "point": "0" * 16})
    found = analyse(bare(1.0), Settings(points=1), checkpoint=Checkpoint(tmp_path / "state", {}, True))
    assert "belongs to another point" in capsys.readouterr().err
    assert plain(json.loads(found.to_json())) == reference


def test_irreps_whose_names_share_their_letters_have_files_of_their_own():
    names = ["q=(1,1)", "q=(1,-1)", "q=(1;1)", "q=(11)", "../../etc/passwd", "λ" * 500, "λ" * 501]
    files = {sector_file(name) for name in names}
    assert len(files) == len(names) and all(len(f) < 80 and f.isascii() and "/" not in f for f in files)


@pytest.mark.parametrize("damage", ["a flipped bit", "not a number", "another shape", "another dtype"])
def test_a_damaged_point_is_refused_by_name(damage, tmp_path, capsys):
    assert run("--task", "counterexample", "--out", tmp_path / "a") == 0
    path = tmp_path / "a" / "point.safetensors"
    with safe_open(path, framework="pt") as stream:
        assert len(stream.metadata()["sha256"]) == 64
    read_tensors(tmp_path / "a" / "directions.safetensors")
    DAMAGE[damage](path)
    capsys.readouterr()
    assert run("--task", "counterexample", "--at", path, "--out", tmp_path / "b") == 2
    error = capsys.readouterr().err
    assert "point.safetensors" in error and "checksum" in error and error.count("\n") == 1


# ------------------------------------------------------------------------------------------------ bit for bit


# Lanczos runs write all that dense ones do, and their bases; of the dense ones every third write does for `make test`.
@pytest.mark.parametrize(
    ("path", "every"), [("dense", 3), ("lanczos", 1), pytest.param("dense", 1, marks=pytest.mark.slow)]
)
def test_a_run_interrupted_after_any_write_gives_the_same_numbers_to_the_last_bit(path, every, tmp_path):
    limits = Limits(dense=5, dense_e=5, inverse_e=5) if path == "lanczos" else Limits()
    problem, settings = (
        regression("C_5", weight_decay=0.1),
        Settings(points=1, saddles=1, eigenvalues=2, escape_iterations=0, limits=limits),
    )
    reference = plain(json.loads(analyse(problem, settings).to_json()))
    assert plain(json.loads(analyse(problem, settings).to_json())) == reference
    seen: set[str] = set()
    for writes in range(1, 100, every):
        Stop.writes, folder = writes, tmp_path / str(writes)
        try:
            analyse(problem, settings, checkpoint=Stop(folder, {}, False))
            break
        except Interrupted:
            seen |= {f.stem.split("-")[0] for f in folder.iterdir()}
        resumed = analyse(problem, settings, checkpoint=Checkpoint(folder, {}, True))
        assert plain(json.loads(resumed.to_json())) == reference, writes
    assert seen == {"start", "points", "sector"} | ({"lanczos"} if path == "lanczos" else set()) and writes > 5
