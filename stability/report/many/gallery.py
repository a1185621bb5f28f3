"""An index over a folder of results: one picture and one sentence each, as index.html and, for GitHub, README.md."""

from __future__ import annotations

import ast
import html
import re
from dataclasses import dataclass
from pathlib import Path

from stability.base.errors import BadInput
from stability.base.schema import LONGEST
from stability.base.storage import write
from stability.report import words
from stability.report.render import environment
from stability.results import Analysis

PICTURES = ("spectrum", "sectors", "frequencies", "lowest")
PAGES = ("report.html", "README.md", "comparison.html", "index.html")


@dataclass(frozen=True)
class Entry:
    """One result: where it is, what it shows, what it says.

    Attributes:
        folder: where it lies, relative to the gallery.
        title: above it.
        sentence: what it says.
        picture: file of the picture shown; None where there is none.
        link: page that opens.
        tone: colour of the verdict, the name of a class of the style sheet.
    """

    folder: str
    title: str
    sentence: str
    picture: str | None
    link: str
    tone: str = ""


def read(file: Path) -> Analysis:
    """The analysis in a spectrum.json, whoever wrote it.

    Raises:
        BadInput: it is no sound one.
    """
    try:
        if (size := file.stat().st_size) > LONGEST:
            raise BadInput(f"{size:,} bytes are more than any result has ({LONGEST:,} at most)")
        return Analysis.read(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BadInput(f"{str(file)!r} cannot be read ({reason}); run stability.spectrum again") from error


def entry(folder: Path, sources: Path) -> Entry | None:
    """What a folder shows: an analysis by its headline, any other by the first line of the module that made it.

    Args:
        folder: with spectrum.json, or with PNGs of an analysis called like a module.
        sources: where such modules are.
    """
    link = next((name for name in PAGES if (folder / name).is_file()), None)
    if (folder / "spectrum.json").is_file():
        a = read(folder / "spectrum.json")
        kind = words.kind(a.point) if a.point else "no point"
        picture = next((f"{p}.png" for p in PICTURES if (folder / f"{p}.png").is_file()), None)
        verdict = f": {words.plain(words.tone(a))}" if a.verdict else ""
        title = f"{a.task}, {a.size}, {words.group(a)}, {kind}{verdict}"
        return Entry(folder.name, title, words.headline(a), picture, link or "spectrum.json", words.tone(a))
    images = sorted(folder.glob("*.png"))
    if not images and link is None:
        return None
    name = folder.name.split("-")[0]
    sentence = _described(name, sources)
    if not sentence and link and link.endswith(".html"):
        found = re.search(r'class="headline">(.*?)</p>', (folder / link).read_text(), re.DOTALL)
        sentence = html.unescape(re.sub(r"<[^>]+>", "", found[1])).strip() if found else ""
    image = next((p.name for p in images if p.stem == name), images[0].name if images else None)
    data = next((p.name for p in sorted(folder.glob("*.json"))), "")
    return Entry(folder.name, folder.name, sentence, image, link or data or image or "")


def _described(name: str, sources: Path) -> str:
    """The first sentence of the docstring of a module or package below ``sources``, the deepest of its name."""
    found = [f for pattern in (f"{name}.py", f"{name}/__init__.py") for f in sources.rglob(pattern)]
    if not found:
        return ""
    deepest = max(found, key=lambda f: (len(f.parts), f.name))
    text = ast.get_docstring(ast.parse(deepest.read_text())) or ""
    return " ".join(text.split("\n\n")[0].split())


def entries(root: Path, sources: Path | None = None) -> list[Entry]:
    """Every result below ``root``, analyses first.

    Raises:
        BadInput: none is there.
    """
    where = sources if sources is not None else root.resolve().parent / "analyses"
    found = [e for f in sorted(root.iterdir()) if f.is_dir() and (e := entry(f, where))]
    if not found:
        raise BadInput(f"--gallery: {str(root)!r} holds no results; give the folder above them")
    return sorted(found, key=lambda e: (not (root / e.folder / "spectrum.json").is_file(), e.folder))


def write_gallery(root: Path, sources: Path | None = None) -> Path:
    """index.html and README.md in ``root``; the first one's path."""
    found = entries(root, sources)
    write(root / "README.md", markdown(found))
    page = environment().get_template("gallery.html.j2").render(entries=found)
    return write(root / "index.html", page)


def _inline(text: str) -> str:
    """Text on one line in which Markdown finds no markup, link or tag."""
    return re.sub(r"[\\`*<>\[\]]", r"\\\g<0>", " ".join(text.split()))


def markdown(found: list[Entry]) -> str:
    """The gallery as a page that GitHub shows."""
    lines = [
        "# Results",
        "",
        "Built by `python -m stability.report --gallery reports`; `index.html` is the same page.",
        "",
    ]
    for e in found:
        title = _inline(e.title)
        lines += [f"## [{title}]({e.folder}/{e.link})", ""]
        lines += [_inline(e.sentence), ""] if e.sentence else []
        if e.picture:
            lines += [f"[![{title}]({e.folder}/{e.picture})]({e.folder}/{e.link})", ""]
    return "\n".join(lines)
