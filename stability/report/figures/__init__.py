"""The figures of a report, one file each, in the order in which a page shows them.

A new one is a file here that ends with ``FIGURE = Figure(…)``, and a name in the tuple below; ``kernel.py`` is a short
example. Everything else (page, paper/, CSV, alternative text, the list of what is not drawn) follows.
"""

from __future__ import annotations

from typing import Any

from stability.report import words
from stability.report.figures import (
    breaking,
    choices,
    density,
    escape,
    flow,
    frequencies,
    kernel,
    lowest,
    mode,
    orbit,
    plane,
    points,
    sectors,
    slices,
    spectrum,
    steps,
    training,
)
from stability.report.figures.figure import Figure, Omitted, pdf, png
from stability.report.style import for_phone
from stability.results import Analysis

__all__ = ["FIGURES", "Figure", "Omitted", "applying", "for_phone", "omitted", "pdf", "png"]

_MODULES = (
    *(spectrum, lowest, sectors, frequencies, mode, points, choices, density),
    *(slices, plane, flow, steps, kernel, orbit, breaking, training, escape),
)
FIGURES: dict[str, Figure[Any]] = {module.FIGURE.name: module.FIGURE for module in _MODULES}


def applying(analysis: Analysis) -> list[Figure[Any]]:
    """Those that have something to draw."""
    return [figure for figure in FIGURES.values() if figure.applies(analysis)]


def omitted(analysis: Analysis) -> list[tuple[str, str]]:
    """(title, why) of those not drawn: the run did not compute them, or they would show nothing."""
    why = dict(analysis.pictures.omitted) if analysis.pictures else {}
    why |= {figure.name: text for figure in FIGURES.values() if (text := figure.omitted(analysis))}
    return [(FIGURES[name].title if name in FIGURES else words.named(name), text) for name, text in why.items()]
