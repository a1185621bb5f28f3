"""What is installed is whole: wheel and sdist hold every file, a bare environment runs the main job from the wheel."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

import stability

ROOT = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "CITATION.cff", "CHANGELOG.md", "constraints.txt")
BUILD = "from setuptools import build_meta as b; b.build_wheel('dist'); b.build_sdist('dist')"
TASK = ["spectrum", "--task", "counterexample", "--out", "run"]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The folder of a wheel and an sdist, built from a copy of what is under version control."""
    copy = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "stability", copy / "stability", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "dist").mkdir()
    subprocess.run([sys.executable, "-c", BUILD], cwd=copy, check=True, capture_output=True)
    return copy / "dist"


def test_wheel_and_sdist_hold_every_file_of_the_package(built):
    wanted = {f.relative_to(ROOT).as_posix() for f in (ROOT / "stability").rglob("*") if f.is_file()}
    wanted = {name for name in wanted if "__pycache__" not in name}
    assert {Path(name).suffix for name in wanted} >= {".py", ".j2", ".css", ".js"}
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    assert {name for name in inside if ".dist-info/" not in name} == wanted
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert wanted | set(SOURCES) <= inside
    assert not any(name.startswith(("tests", "reports", "analyses")) for name in inside)


def test_a_bare_environment_runs_the_main_job_from_the_wheel(built, tmp_path):
    (wheel,) = built.glob("*.whl")
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(bare / "bin/python"), "install"]
    subprocess.run([*pip, "-q", "--no-deps", "--no-index", wheel], check=True)
    (own,) = bare.glob("lib/python*/site-packages")
    beside = {str(Path(module.__file__).parents[1]) for module in (torch, pytest)} | {sysconfig.get_path("purelib")}
    (own / "beside.pth").write_text("".join(f"{path}\n" for path in beside))  # what is installed here, as dependencies

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)

    where = run(str(bare / "bin/python"), "-c", "import stability; print(stability.__file__)").stdout.strip()
    assert Path(where).is_relative_to(own)
    printed = run(str(bare / "bin/stability"), *TASK).stdout
    assert printed.splitlines()[-1] == "verdict: eqv=stable aug=unstable nominal=unstable transverse=unstable"
    assert json.loads((tmp_path / "run/spectrum.json").read_text())["versions"]["stability"] == stability.__version__
    page = (tmp_path / "run/report.html").read_text()
    for name in ("explore.js", "style.css"):
        assert (ROOT / "stability/report" / name).read_text().strip() in page


def test_the_versions_that_are_pinned_lie_in_the_ranges_of_the_metadata():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    pinned = {name.lower().replace("_", "-"): version for name, version in pinned.items()}
    for text in (*project["dependencies"], *project["optional-dependencies"]["test"]):
        asked = Requirement(text)
        assert asked.specifier.contains(pinned[asked.name.lower()]), f"constraints.txt pins {asked.name} outside {text}"


def test_the_citation_names_this_version():
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == stability.__version__
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
