"""One version: of the package, of what is installed, of what the changelog describes."""

from __future__ import annotations

import re
from pathlib import Path

import stability
from stability.version import __version__

ROOT = Path(__file__).parents[1]


def test_the_version_is_three_numbers_and_stands_in_one_place():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", __version__) and stability.__version__ == __version__
    metadata = (ROOT / "pyproject.toml").read_text()
    assert 'dynamic = ["version"]' in metadata and "stability.version.__version__" in metadata


def test_whoever_cites_the_package_cites_this_version():
    (cited,) = re.findall(r"(?m)^version: *[\"']?([^\"'\s]+)", (ROOT / "CITATION.cff").read_text())
    assert cited == __version__
