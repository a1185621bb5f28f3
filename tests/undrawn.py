"""Runs without pixels: of the ten seconds of a small run nine go into laying out and drawing its figures.

Who claims something of numbers, files or exit codes has pictures of one pixel written instead, under the same names.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from stability.report import figures, paper
from stability.report.figures.figure import Figure

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=")
PDF = b"%PDF-1.4\n%%EOF\n"


def undraw(patch: Callable[[object, str, object], None]) -> None:
    """Replace what draws, by ``setattr`` or by a patch that is undone."""
    patch(Figure, "draw", lambda self, analysis: None)
    patch(figures, "png", lambda canvas, dpi=130: PNG)
    patch(paper, "pdf", lambda canvas: PDF)


@contextmanager
def no_pictures() -> Iterator[None]:
    """Nothing is drawn inside."""
    with pytest.MonkeyPatch.context() as patch:
        undraw(patch.setattr)
        yield
