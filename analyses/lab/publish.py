"""The words, tables and pictures of an analysis, written beside its numbers as ``analyses.all`` reads them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from matplotlib.figure import Figure

from analyses.lab.rows import Rows, dumps
from stability.base.storage import write

# Told apart without colour: shade and dash together.
STYLES = (
    {"color": "black", "linestyle": "-"},
    {"color": "#d55e00", "linestyle": "--"},
    {"color": "#0072b2", "linestyle": "-."},
    {"color": "#56b4e9", "linestyle": ":"},
    {"color": "0.55", "linestyle": (0, (5, 1, 1, 1, 1, 1))},
    {"color": "#009e73", "linestyle": (0, (8, 2))},
    {"color": "#cc79a7", "linestyle": (0, (1, 1))},
)
MARKERS = "os^DvPX*"


@dataclass(frozen=True)
class Section:
    """What a report says of one analysis: texts that were made from the numbers beside them.

    Attributes:
        title: of the section.
        expected: what theory says before anything is measured; a blank line starts a paragraph, here and below.
        measured: the numbers.
        means: what follows from them.
        finding: one sentence with the number that decides; where empty, the first sentence of ``means`` serves.
    """

    title: str
    expected: str
    measured: str
    means: str
    finding: str = ""


def finish(
    folder: Path,
    name: str,
    rows: Rows,
    figure: Figure,
    section: Section,
    tables: Iterable[dict] = (),
    caption: str = "",
) -> None:
    """The picture, the words and the tables of an analysis beside its rows, as ``analyses.all`` reads them."""
    save_figure(folder / f"{name}.png", figure)
    rows.save(**_words(section, tables, [{"file": f"{name}.png", "caption": caption}]))


def publish(
    folder: Path,
    name: str,
    data: dict,
    figures: Mapping[str, tuple[Figure, str]],
    section: Section,
    tables: Iterable[dict] = (),
) -> None:
    """The same for an analysis without ``Rows``.

    Args:
        folder: where it writes.
        name: of the module; the result is NAME.json.
        data: every number in the pictures.
        figures: (picture, caption) by file name.
        section: the words.
        tables: see :func:`table`.
    """
    for file, (figure, _) in figures.items():
        save_figure(folder / file, figure)
    listed = [{"file": file, "caption": caption} for file, (_, caption) in figures.items()]
    write(folder / f"{name}.json", dumps({**_words(section, tables, listed), **data}))


def _words(section: Section, tables: Iterable[dict], figures: list[dict]) -> dict[str, object]:
    return {"section": asdict(section), "figures": figures, "tables": list(tables)}


def save_figure(path: Path, figure: Figure) -> None:
    """PNG, whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    write(path, buffer.getvalue())


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> dict:
    """A table for the gathered report; cells are texts or numbers."""
    return {"title": title, "header": list(header), "rows": [list(r) for r in rows]}
