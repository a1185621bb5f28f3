"""Old import paths: what was imported before the rooms is found for one release, and is the same object."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from stability import moved

# Module → the public functions and classes that it had before the rooms, read from its source at that time.
OFFERED: dict[str, list[str]] = json.loads((Path(__file__).parent / "golden" / "old_paths.json").read_text())
# What has gone with the switchboard, or was never said to be there: may only shrink.
GONE = {
    "stability.analysis": {"densest", "search_sector"},
    "stability.api": {"callable_module"},
    "stability.groups.group": {"QuarterTurnOfTorus"},
    "stability.identity": {"differences", "raw"},
    "stability.layers.fourier": {"FourierBasis", "FrequencyGroup", "fourier_basis"},
    "stability.points": {"is_large"},
    "stability.report.figures.escape": {"judged"},
    "stability.report.words": {"advice"},
    "stability.spectrum": {"check_options", "free_memory_gb", "named_size", "out_of_memory", "run", "run_in", "save"},
}


@pytest.mark.parametrize("old", sorted(OFFERED))
def test_an_old_path_still_imports_and_finds_its_functions_and_classes(old):
    module = importlib.import_module(old)
    missing = {name for name in OFFERED[old] if not hasattr(module, name)}
    assert missing == GONE.get(old, set()), f"{old}: enter where {missing} went in NAMES of stability/moved.py"


@pytest.mark.parametrize("old", sorted(moved.PATHS))
def test_an_old_path_is_the_module_that_took_its_place(old):
    assert importlib.import_module(f"stability.{old}") is importlib.import_module(f"stability.{moved.PATHS[old]}")


def test_names_that_left_a_module_are_the_same_objects_at_both_places():
    for here, there in moved.NAMES.items():
        for new, names in there.items():
            a, b = (importlib.import_module(f"stability.{path}") for path in (here, new))
            assert all(getattr(a, name) is getattr(b, name) for name in names), (here, new)


def test_an_old_path_is_found_in_a_fresh_process_as_its_first_import():
    code = "from stability.storage import write; from stability.base.storage import write as new; print(write is new)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "True"
