r"""Every result of the analyses, gathered into one page that reads like the results section of a paper.

    python -m analyses.all [--reports reports] [--out reports/all]

Nothing is computed here. ``python -m analyses.NAME`` leaves its results in reports/NAME/ (or reports/NAME-SUFFIX/, one
folder for each size; dots in NAME are folders too), and this is all that it needs to do to appear:

    NAME.json    {"section": {"title", "expected", "measured", "means", "finding"},
                  "figures": [{"file", "caption"}],                  optional; else NAME.png without a caption
                  "tables":  [{"title", "header", "rows"}],          optional; cells are numbers, texts or null
                  "options": {…},                                    optional; shown as the setting
                  …}                                                 every number in the pictures, however it likes
    *.png        the figures

``section`` is ``asdict(Section(…))``, Section of analyses.lab.publish: plain texts, made by a pure function
section(rows) -> Section from the numbers beside them, so that text and numbers cannot drift apart. A blank line (\n\n)
starts a paragraph. ``finding`` is one sentence with the number that decides, for the list at the top of the page;
without it the first sentence of ``means`` serves. ``finish`` of analyses.lab.publish writes all of it for modules that
keep Rows, else ``publish`` there.
The page puts A_{E⊥}, R^aug and λ_min in order typographically, numbers figures and tables, and says what is missing:
a module without results, and results without words, with the command that makes them.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analyses.lab.command import command
from analyses.lab.publish import Section
from stability.base.errors import BadInput
from stability.base.storage import prepare_folder, write
from stability.report.render import pretty

# In the order of the argument: the theory holds, how large E is, what training does, why, and how far that goes.
CHAPTERS = (
    "propositions",
    "dimensions",
    "figure1",
    "groups",
    "rotation",
    "dynamics",
    "penalty",
    "augmentation",
    "stability_map",
    "restricted",
    "optimisers",
    "monitor",
    "replays.published_data",
    "replays.regularisation",
    "replays.after_projection",
    "replays.fixed_hidden",
    "replays.power_iteration",
)
SIZES = ("small", "medium", "paper")
# Longer tables are folded away.
FOLD = 15


@dataclass(frozen=True)
class Picture:
    """A PNG in base64 with its caption."""

    image: str
    caption: str


@dataclass(frozen=True)
class Result:
    """One folder of one analysis.

    Attributes:
        name: of the module.
        folder: relative to the reports, for the reader to find the numbers.
        section: the words, None where the results have none.
        problem: what is missing, and the command that makes it; empty when nothing is.
    """

    name: str
    folder: str
    section: Section | None
    pictures: tuple[Picture, ...] = ()
    tables: tuple[dict, ...] = ()
    setting: str = ""
    problem: str = ""

    @property
    def file(self) -> str:
        """Its numbers, relative to the reports."""
        return f"{self.folder}/{self.name.rpartition('.')[2]}.json"

    @property
    def title(self) -> str:
        """The section's, with the folder's suffix where one analysis has several folders."""
        return self.section.title if self.section else f"analyses.{self.name}"

    @property
    def finding(self) -> str:
        """One sentence for the top of the page."""
        if not self.section:
            return self.problem
        return self.section.finding or re.split(r"(?<=[.!?])\s", self.section.means, maxsplit=1)[0]


def gather(reports: Path) -> list[Result]:
    """All results found, chapter by chapter; a chapter without results is there too and says so."""
    found: list[Result] = []
    for name in CHAPTERS:
        *rooms, last = name.split(".")
        room = reports.joinpath(*rooms)
        folders = [p for p in room.glob(f"{last}*") if p.name == last or p.name.startswith(f"{last}-")]
        results = [read(name, folder) for folder in sorted(folders, key=_rank) if (folder / f"{last}.json").is_file()]
        missing = f"There are no results yet; `python -m analyses.{name}` makes them."
        found += results or [Result(name, "/".join((*rooms, last)), None, problem=missing)]
    return found


def _rank(folder: Path) -> tuple[int, str]:
    """Small before medium before paper, then by name."""
    suffix = folder.name.rpartition("-")[2]
    return (SIZES.index(suffix) if suffix in SIZES else -1, folder.name)


def read(name: str, folder: Path) -> Result:
    """What one folder holds. Results that cannot be read, or have no words, are reported and not skipped."""
    *rooms, last = name.split(".")
    default, place = {"file": f"{last}.png", "caption": ""}, "/".join((*rooms, folder.name))
    again = f"`python -m analyses.{name} --out {folder.parents[len(rooms)].name}/{place}`"
    try:
        stored = json.loads((folder / f"{last}.json").read_text())
        if "section" not in stored and stored.get("rows"):
            why = f"{len(stored['rows'])} rows are there, but no words yet: {again} finishes the run."
            return Result(name, place, None, _pictures(folder, [default]), problem=why)
        section = Section(**stored["section"])
        figures = stored.get("figures") or [default]
        tables = tuple(stored.get("tables", ()))
        options = stored.get("options", {})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"{last}.json has no section that can be read ({type(error).__name__}: {error}); run {again} once more."
        return Result(name, place, None, _pictures(folder, [default]), problem=why)
    pictures = _pictures(folder, figures)
    gone = [f["file"] for f in figures if not (folder / f["file"]).is_file()]
    problem = f"{', '.join(gone)} is missing; {again} draws it." if gone else ""
    return Result(name, place, section, pictures, tables, setting(options), problem)


def _pictures(folder: Path, figures: Sequence[dict]) -> tuple[Picture, ...]:
    present = [(folder / f["file"], f.get("caption", "")) for f in figures]
    return tuple(Picture(base64.b64encode(p.read_bytes()).decode(), text) for p, text in present if p.is_file())


def setting(options: dict) -> str:
    """The options of a run on one line.

    >>> setting({"tasks": ["perm", "rot"], "step": 0.5, "data": None})
    'tasks perm rot; step 0.5'
    """
    parts = []
    for key, value in options.items():
        if value is None or value == "None":
            continue
        text = " ".join(cell(v) for v in value) if isinstance(value, list) else cell(value)
        parts.append(f"{key} {text}")
    return "; ".join(parts)


def cell(value: object) -> str:
    """A table's cell: numbers to four figures, null as a dash.

    >>> [cell(v) for v in (1234567, 0.1234567, None, True, "E⊥")]
    ['1,234,567', '0.1235', '–', 'yes', 'E⊥']
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def rich(text: str) -> Markup:
    """Text with its `commands` in a fixed font and everything else as reports print it."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else pretty(p) for i, p in enumerate(parts))


def page(results: Sequence[Result]) -> str:
    """The HTML, one file that needs nothing else."""
    environment = Environment(
        loader=FileSystemLoader([Path(__file__).parent, str(files("stability.report"))]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["pretty"] = rich
    environment.filters["cell"] = cell
    environment.filters["paragraphs"] = lambda text: [p for p in text.split("\n\n") if p.strip()]
    return environment.get_template("all.html.j2").render(results=results, fold=FOLD)


def main(arguments: Sequence[str] | None = None) -> None:
    """Gather, write one page, say what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="where the analyses left their results")
    parser.add_argument("--out", type=Path, default=Path("reports/all"))
    options = parser.parse_args(arguments)
    if not options.reports.is_dir():
        raise BadInput(f"--reports {str(options.reports)!r}: there is no such folder; give the one with the results")
    results = gather(options.reports)
    file = prepare_folder(options.out) / "report.html"
    write(file, page(results))
    for result in results:
        print(f"{result.folder:20} {result.problem or 'gathered'}")
    print(file)


if __name__ == "__main__":
    sys.exit(command(main))
