"""The measures of the house, as docs/architecture.md has them: ``python -m tests.measures``."""

from __future__ import annotations

import ast
import subprocess
import sys

from tests import test_architecture as house
from tests import test_docstrings as words


def functions(file: object) -> list[int]:
    """Lines of every function of a file."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    found = (n for n in ast.walk(house.TREES[file]) if isinstance(n, kinds))
    return [(n.end_lineno or 0) - n.lineno + 1 for n in found]


def measured() -> dict[str, str]:
    """Number by measure."""
    pairs = [(house.here(f), house.room(m)) for f in house.FILES for _, m, _ in house.imports(house.TREES[f])]
    arrows = {(a, b) for a, b in pairs if a != b and a not in house.SURFACE}
    upward = [p for p in arrows if house.LEVEL[p[1]] >= house.LEVEL[p[0]]]
    lines = [len(f.read_text().splitlines()) for f in house.FILES]
    names = [node for tree in words.FILES.values() for _, node in words.public(tree)]
    told = sum(ast.get_docstring(node) is not None for node in names)
    modules = [f for f in house.FILES if not f.name.startswith("__")]
    types = subprocess.run([sys.executable, "-m", "mypy"], capture_output=True, text=True)
    return {
        "files at the top": str(len([f for f in house.FILES if f.parent == house.ROOT])),
        "rooms": str(len({house.here(f) for f in house.FILES if f.parent != house.ROOT})),
        "arrows between them": str(len(arrows)),
        "of them upwards": str(len(upward)),
        f"files over {house.FILE_LINES} lines": str(sum(n > house.FILE_LINES for n in lines)),
        f"functions over {house.FUNCTION_LINES} lines": str(
            sum(n > house.FUNCTION_LINES for f in house.FILES for n in functions(f))
        ),
        "imports inside functions, each with its reason": str(len(house.LAZY)),
        "type errors": (types.stdout.strip().splitlines() or ["mypy did not run"])[-1],
        "public names with a docstring": f"{told} of {len(names)}",
        "modules with tests in a file of their name or room": f"{sum(map(house.is_tested, modules))} of {len(modules)}",
    }


if __name__ == "__main__":
    for what, number in measured().items():
        print(f"{what:<52}{number}")
