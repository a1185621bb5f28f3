"""What committed results say does not change unnoticed: every word and number of their reports, kept as text.

A change that is meant is written by ``python -m tests.test_report_golden`` and read in the diff before it is committed.
"""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from matplotlib.text import Text

from stability.report import advice, figures, screen, words
from stability.report.figures import FIGURES
from stability.report.rows import Rows, as_csv
from stability.report.tables import tables
from stability.results import Analysis
from tests.test_report_figures import FULL

REPORTS = Path(__file__).parents[1] / "reports"
GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(f.parent.name for f in REPORTS.glob("*/spectrum.json"))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def counted(rows: Rows) -> str:
    """Columns, number of lines and a digest; floats to ten digits, for exponentials differ in the last from one
    processor to the next."""
    head, table = rows
    rounded = [tuple(float(f"{x:.9e}") if isinstance(x, float) else x for x in row) for row in table]
    return f"{','.join(head)}: {len(table)} lines, {digest(as_csv((head, rounded)))}"


def said(analysis: Analysis) -> str:
    """A report as text: the first screen, every caption with its alternative text, digests of numbers and tables."""
    lines = [*screen.alerts(analysis), words.headline(analysis), words.subtitle(analysis)]
    lines += [f"{c.label}: {c.value} [{c.tone}] {c.note}" for c in screen.cards(analysis)]
    lines += [" | ".join(row) for row in (*advice.what_to_do(analysis), *words.setting(analysis), *words.why(analysis))]
    for figure in figures.applying(analysis):
        caption, alt = figure.caption(analysis), figure.alt(analysis)
        lines += ["", f"== {figure.name}: {figure.title}", caption]
        lines += ["-- " + (alt if alt != caption else "as the caption"), "-- " + counted(figure.rows(analysis))]
    lines += ["", *(f"not drawn: {title}: {why}" for title, why in figures.omitted(analysis)), ""]
    lines += [
        f"table {t.title}: {len(t.rows)} lines, {digest(repr((t.head, t.rows, t.remark)))}" for t in tables(analysis)
    ]
    return "\n".join(w for line in lines for w in (textwrap.wrap(line, 120, break_long_words=False) or [""])) + "\n"


def drawn(analysis: Analysis) -> str:
    """Every word in the pictures."""
    lines = []
    for figure in figures.applying(analysis):
        found = (t.get_text().replace("\n", "⏎") for t in figure.draw(analysis).findobj(Text))
        lines.append(f"{figure.name}: {' ¦ '.join(t for t in found if t.strip())}")
    return "\n".join(lines) + "\n"


def everything() -> Iterator[tuple[str, str]]:
    """(name, text) of every file in tests/golden."""
    for name in NAMES:
        yield name, said(Analysis.from_json((REPORTS / name / "spectrum.json").read_text()))
    yield "drawn", drawn(FULL)


def stored(name: str) -> str:
    return (GOLDEN / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_result_is_reported_in_the_words_and_numbers_that_were_agreed(name):
    analysis = Analysis.from_json((REPORTS / name / "spectrum.json").read_text())
    assert said(analysis) == stored(name)


def test_the_words_in_the_pictures_are_those_that_were_agreed():
    assert drawn(FULL) == stored("drawn")


def test_every_golden_text_belongs_to_a_result_and_every_figure_is_in_one():
    assert {f.stem for f in GOLDEN.glob("*.txt")} == {*NAMES, "drawn"}
    assert all(f"{figure}: " in stored("drawn") for figure in FIGURES)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for file, text in everything():
        (GOLDEN / f"{file}.txt").write_text(text)
