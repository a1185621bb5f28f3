"""Whoever reads a public name is told what it is: a measure of the docstrings, and every field of every record."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1] / "stability"
LEAST = 0.98
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
# An entry of Attributes: or Args:, "name:" or "one, two:", indented by four.
ENTRY = re.compile(r"^    ([A-Za-z_]\w*(?:, [A-Za-z_]\w*)*):", re.MULTILINE)


def public(tree: ast.Module) -> Iterator[tuple[str, Documented]]:
    """(qualified name, node) of a module and of the classes, functions, methods and properties it offers."""
    yield "", tree
    waiting: list[tuple[str, Documented]] = [("", tree)]
    for prefix, owner in waiting:
        for node in owner.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith(
                "_"
            ):
                yield f"{prefix}.{node.name}", node
                if isinstance(node, ast.ClassDef):
                    waiting.append((f"{prefix}.{node.name}", node))


def is_record(node: ast.ClassDef) -> bool:
    """Whether a class is a dataclass or a named tuple: its annotated names are its fields."""
    decorators = {ast.unparse(d).split("(")[0].split(".")[-1] for d in node.decorator_list}
    return "dataclass" in decorators or any(ast.unparse(base) == "NamedTuple" for base in node.bases)


def fields(node: ast.ClassDef) -> list[str]:
    """Public names annotated in the body of a record, class variables apart."""
    return [
        one.target.id
        for one in node.body
        if isinstance(one, ast.AnnAssign)
        and isinstance(one.target, ast.Name)
        and not one.target.id.startswith("_")
        and "ClassVar" not in ast.unparse(one.annotation)
    ]


def documented(text: str) -> set[str]:
    """Names that the sections Attributes: and Args: of a docstring explain.

    >>> sorted(documented("A.\\n\\nArgs:\\n    one, two: of it.\\n    three: another\\n        line: here.\\n"))
    ['one', 'three', 'two']
    """
    sections = re.split(r"^(\w+):$", text, flags=re.MULTILINE)
    bodies = [body for head, body in zip(sections[1::2], sections[2::2], strict=True) if head in ("Attributes", "Args")]
    return {name for body in bodies for names in ENTRY.findall(body) for name in names.split(", ")}


FILES = {f"stability/{f.relative_to(ROOT).as_posix()}": ast.parse(f.read_text()) for f in sorted(ROOT.rglob("*.py"))}


def test_public_names_say_what_they_are():
    names = [(f"{file}{name and ':'}{name[1:]}", node) for file, tree in FILES.items() for name, node in public(tree)]
    silent = [f"{name}, line {getattr(node, 'lineno', 1)}" for name, node in names if not ast.get_docstring(node)]
    share = 1 - len(silent) / len(names)
    assert share >= LEAST, "\n".join(
        [f"{share:.1%} of {len(names)} public names have a docstring; say something true and useful of:", *silent]
    )


def test_every_field_of_every_record_is_explained():
    missing = []
    for file, tree in FILES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and is_record(node):
                explained = documented(ast.get_docstring(node) or "")
                for name in fields(node):
                    if name not in explained:
                        missing.append(f"{file}:{node.name}.{name}, line {node.lineno}")
    assert not missing, "\n".join(["write a line under Attributes: or Args: of the class for:", *missing])


def test_the_measure_sees_a_name_that_says_nothing_and_a_field_that_is_not_explained():
    tree = ast.parse(
        '"""M."""\n@dataclass(frozen=True)\nclass A:\n    """A.\n\n    Attributes:\n        x: one.\n    """\n'
        "    x: int\n    y: int\n    def f(self): ...\n    def _g(self): ...\n"
    )
    assert [name for name, node in public(tree) if not ast.get_docstring(node)] == [".A.f"]
    record = tree.body[1]
    assert is_record(record) and set(fields(record)) - documented(ast.get_docstring(record)) == {"y"}
