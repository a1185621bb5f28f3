"""Analysis → its figures as PNG and report.html, one file that needs nothing else; DIR/paper for papers."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from stability.base.errors import BadInput
from stability.base.storage import write
from stability.report import advice, explore, screen, words
from stability.report.rows import as_csv
from stability.report.tables import tables  # which sets what print shows, before what notebooks do
from stability.results import Analysis, notebooks_show

# Of one figure's numbers that a page carries; larger ones are in paper/ alone.
CSV_BYTES = 150_000
# Drawn for phones too: what decides must not lie off their screen.
NARROW = ("spectrum", "lowest")
MARKS = (
    (re.compile(r"\^(aug|eqv)\b|\^\{([^{}<>&]+)\}"), r"<sup>\1\2</sup>"),
    (re.compile(r"(?<=[λΠA])_(?:(min|max|E)\b|\{([^{}<>&]+)\})|(?<=\b[A-Z])_(\d+)(?![A-Za-z_])"), r"<sub>\1\2\3</sub>"),
    (re.compile(r"(?<![\w.&#;-])(-?)(\d[\d,.]*\d(?:e-?\d+)?|\d(?:e-?\d+)?)(?![\w#])"), r'<span class="n">\1\2</span>'),
)


def pretty(text: object) -> Markup:
    """Escaped text with R^aug raised, λ_min lowered and numbers kept on one line with a true minus."""
    safe = str(escape(str(text)))
    for pattern, replacement in MARKS:
        safe = pattern.sub(replacement, safe)
    return Markup(safe.replace('<span class="n">-', '<span class="n">−'))


def render(analysis: Analysis, folder: Path) -> None:
    """Write the figures, the page and ``paper/`` into ``folder``, each file whole or not at all.

    Raises:
        BadInput: the analysis keeps to the schema, but its parts do not fit each other.
        OSError: a file cannot be written.
    """
    try:
        _render(analysis, folder)
    except (BadInput, OSError, MemoryError):
        raise
    except Exception as error:  # whatever drawing a stranger's numbers may end in
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise BadInput(
            f"{str(folder)!r}: its spectrum.json lacks or distorts what a report draws ({reason}); run "
            "stability.spectrum again"
        ) from error


def _render(analysis: Analysis, folder: Path) -> None:
    # matplotlib and seaborn load for seconds, which a table need not pay; so below.
    from stability.report import figures, paper

    pictures, narrow = {}, {}
    for name, figure in figures.FIGURES.items():
        if not figure.applies(analysis):
            (folder / f"{name}.png").unlink(missing_ok=True)  # of an earlier run in the same folder
            continue
        image = figures.png(figure.draw(analysis))
        write(folder / f"{name}.png", image)
        pictures[name] = base64.b64encode(image).decode()
        if name in NARROW:
            with figures.for_phone():
                narrow[name] = base64.b64encode(figures.png(figure.draw(analysis), dpi=160)).decode()
    write(folder / "report.html", page(analysis, pictures, narrow))
    paper.write_paper(analysis, folder)


def environment() -> Environment:
    """The templates beside this file, escaping everything."""
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["pretty"] = pretty
    return found


@notebooks_show
def first_screen(analysis: Analysis) -> str:
    """What a notebook shows: headline, cards, what to do, and the spectrum where one was found; no script, no page."""
    from stability.report import figures

    spectrum = figures.FIGURES["spectrum"]
    image = (
        base64.b64encode(figures.png(spectrum.draw(analysis), dpi=80)).decode() if spectrum.applies(analysis) else ""
    )
    found = environment().get_template("screen.html.j2")
    return found.render(a=analysis, words=words, screen=screen, advice=advice, image=image)


def page(analysis: Analysis, pictures: Mapping[str, str], narrow: Mapping[str, str] | None = None) -> str:
    """The HTML of an analysis with its pictures, PNGs in base64 by name; some also as phones show them."""
    from stability.report import figures, paper

    shown = [figures.FIGURES[name] for name in pictures]
    texts = {figure.name: as_csv(figure.rows(analysis)).encode() for figure in shown}
    return (
        environment()
        .get_template("template.html.j2")
        .render(
            a=analysis,
            words=words,
            screen=screen,
            advice=advice,
            figures=shown,
            pictures=pictures,
            narrow=narrow or {},
            omitted=figures.omitted(analysis),
            tables=tables(analysis),
            rows=explore.rows(analysis),
            rest=explore.rest(analysis),
            numbers={k: base64.b64encode(v).decode() for k, v in texts.items() if len(v) <= CSV_BYTES},
            bibtex=paper.bibtex(),
        )
    )
