"""Every code block of README.md and docs/ runs, prints what stands below it, and names options that exist."""

from __future__ import annotations

import argparse
import contextlib
import doctest
import importlib
import io
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from stability.run.analysis import output_folder
from stability.spectrum import command as spectrum
from stability.tasks import TaskOptions, load

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(?P<fence>`{3,})(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=fence)$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\s*(?:\.venv/bin/)?python -m ((?:stability|analyses)\S*)([^\n]*)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
IDENTIFIER = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


@dataclass(frozen=True)
class CodeBlock:
    """A fenced block: its language, text, first line's number, and the output promised below it."""

    language: str
    body: str
    line: int
    output: str | None = None


def blocks(text: str) -> list[CodeBlock]:
    """The fenced blocks of a page; a ``text`` block directly below a ``python`` block is its output."""
    found: list[CodeBlock] = []
    end = -1
    for match in FENCE.finditer(text):
        language, body = match["info"].strip(), match["body"]
        line = text[: match.start()].count("\n") + 2
        follows = found and not text[end : match.start()].strip()
        if language == "text" and follows and found[-1].language == "python":
            last = found.pop()
            found.append(CodeBlock(last.language, last.body, last.line, body))
        else:
            found.append(CodeBlock(language, body, line))
        end = match.end()
    return found


class Parsed(Exception):
    """The options of a command were accepted."""


def accepts(module: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command up to the point where its options are parsed.

    Raises:
        AssertionError: options that the command does not know.
    """
    original = argparse.ArgumentParser.parse_args

    def parse(self, args=None, namespace=None):
        original(self, arguments, namespace)
        raise Parsed

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse)
        loaded = importlib.import_module(module)
        main = (loaded if hasattr(loaded, "main") else importlib.import_module(f"{module}.__main__")).main
        try:
            with contextlib.redirect_stderr(io.StringIO()) as said:
                main()
        except Parsed:
            return
        except SystemExit:
            pass
    raise AssertionError(f"python -m {module} {shlex.join(arguments)}: {said.getvalue().strip().splitlines()[-1:]}")


@IDENTIFIER
def test_every_python_block_runs_and_prints_what_the_page_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    checker = doctest.OutputChecker()
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page.read_text()):
        if block.language != "python":
            continue
        if name := re.match(r"# (\w+\.py)\n", block.body):
            Path(name[1]).write_text(block.body)
        where = f"{page.relative_to(ROOT)}:{block.line}"
        code = compile("\n" * (block.line - 1) + block.body, str(page), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, namespace)
        if block.output is not None:
            assert checker.check_output(block.output, printed.getvalue(), flags), (
                f"{where} prints\n{printed.getvalue()}\nand not\n{block.output}"
            )


@IDENTIFIER
def test_every_command_on_a_page_takes_its_options(page, monkeypatch):
    for match in COMMAND.finditer(page.read_text()):
        module, rest = match[1], match[2].split(" #")[0]
        if "[" in rest:  # a synopsis
            continue
        accepts(module, shlex.split(rest), monkeypatch)


@IDENTIFIER
def test_every_make_target_on_a_page_exists(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text()
    code = "".join(b.body for b in blocks(text) if b.language == "bash") + "\n".join(re.findall(r"^ {4}.*", text, re.M))
    shown = re.findall(r"^\s*make ([a-z]+)", code, re.MULTILINE)
    assert set(shown) <= targets


@IDENTIFIER
def test_every_link_inside_the_project_leads_somewhere(page):
    for target in LINK.findall(page.read_text()):
        if re.match(r"[a-z]+:|#", target):
            continue
        path = (page.parent / target.split("#")[0]).resolve()
        assert path.exists(), f"{page.relative_to(ROOT)} links to {target}"


def test_every_page_is_in_a_table_of_contents():
    listed = set()
    for page in PAGES[1:]:
        for block in blocks(page.read_text()):
            if block.language == "{toctree}":
                for entry in block.body.split():
                    listed.add((page.parent / f"{entry}.md").resolve())
    assert set(PAGES[1:]) - listed - {ROOT / "docs/index.md"} == set()


def test_the_page_on_the_command_line_lists_every_option_and_no_other():
    shown = set(re.findall(r"^\| `(--[a-z-]+)", (ROOT / "docs/reference/command-line.md").read_text(), re.MULTILINE))
    known = {o for action in spectrum.parser()._actions for o in action.option_strings if o.startswith("--")}
    assert shown == known - {"--help"}


def test_the_page_on_spectrum_json_names_every_key():
    analysis = load_analysis()
    text = (ROOT / "docs/reference/spectrum-json.md").read_text()
    missing = [key for key in analysis if f"`{key}`" not in text]
    assert not missing


def load_analysis() -> dict:
    import json

    import stability

    outcome = stability.analyse(load("counterexample", TaskOptions()))
    return json.loads(outcome.analysis.to_json())


def test_the_first_example_is_the_same_in_the_readme_and_on_the_first_page():
    first = next(b for b in blocks(PAGES[0].read_text()) if b.language == "python")
    again = next(b for b in blocks((ROOT / "docs/index.md").read_text()) if b.language == "python")
    assert first.body == again.body
    assert first.output is not None
    assert "λ_min on E⊥" in first.output


def test_the_readme_is_short_and_the_package_goes_by_its_own_name():
    assert len((ROOT / "README.md").read_text().split()) <= 900
    # Another project's name on PyPI, wherever someone is told to install something.
    files = [*PAGES, ROOT / "CONTRIBUTING.md", *(ROOT / "stability").rglob("*.py")]
    assert not [f for f in files if re.search(r"pip install ['\"]?stability\b", f.read_text())]


def test_the_main_job_leaves_what_is_under_version_control_alone():
    folder = output_folder("trans", "small", 0)
    files = [str(folder / name) for name in ("report.html", ".lock", "paper/flow.pdf")]
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    ignored = subprocess.run(["git", "check-ignore", *files], cwd=ROOT, capture_output=True, text=True).stdout
    assert ignored.split() == files
    assert not subprocess.run(["git", "ls-files", folder], cwd=ROOT, capture_output=True).stdout


def test_a_block_that_fails_or_prints_something_else_is_noticed(tmp_path, monkeypatch):
    page = ROOT / "README.md"
    for text in ("```python\nprint(1)\n```\n\n```text\n2\n```\n", "```python\nnot_defined\n```\n"):
        monkeypatch.setattr(Path, "read_text", lambda self, text=text: text)
        with pytest.raises((AssertionError, NameError)):
            test_every_python_block_runs_and_prints_what_the_page_says(page, tmp_path, monkeypatch)


def test_an_option_that_does_not_exist_is_noticed(monkeypatch):
    with pytest.raises(AssertionError, match="--nonsense"):
        accepts("stability.spectrum", ["--nonsense", "3"], monkeypatch)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    application = pytest.importorskip("sphinx.application", reason="pip install -e '.[docs]'")
    app = application.Sphinx(
        ROOT / "docs", ROOT / "docs", tmp_path, tmp_path / ".doctrees", "html", warningiserror=True, status=None
    )
    app.build()
    assert app.statuscode == 0
    html = [p.read_text() for p in tmp_path.rglob("*.html")]
    # Readable offline: no script, style, font or image from elsewhere.
    outside = [m for text in html for m in re.findall(r'(?:src|link[^>]*href)="(https?:[^"]+)"', text)]
    assert not outside
