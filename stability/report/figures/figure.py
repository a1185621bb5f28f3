"""What a figure of a report is: one object that finds what it draws, draws it, says it and lists its numbers."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from matplotlib.figure import Figure as Canvas
from numpy.typing import ArrayLike

from stability.report.rows import Rows
from stability.results import Analysis

Seen = TypeVar("Seen")
# Units in the last place that a mean over samples and transforms may be off by.
ULPS = 100


@dataclass(frozen=True)
class Omitted:
    """Why a figure is not drawn although the run holds what it would draw; a clause without a full stop.

    Attributes:
        why: the reason.
    """

    why: str


@dataclass(frozen=True)
class Figure(Generic[Seen]):
    """One figure, made of functions of the analysis and of what :attr:`look` found in it.

    Attributes:
        name: of its files, of its place on the page and of its label in a paper.
        title: above it on the page.
        look: what it draws; None where the run holds no such thing, :class:`Omitted` where that is not worth a picture.
        paint: the picture.
        say: the caption, what is seen and what follows from it, with the numbers of this run.
        list: column names and rows of what is drawn, as stored.
        tell: the picture for those who do not see it; None for the caption.
    """

    name: str
    title: str
    look: Callable[[Analysis], Seen | Omitted | None]
    paint: Callable[[Analysis, Seen], Canvas]
    say: Callable[[Analysis, Seen], str]
    list: Callable[[Analysis, Seen], Rows]
    tell: Callable[[Analysis, Seen], str] | None = None

    def applies(self, analysis: Analysis) -> bool:
        """Whether the run holds what the figure draws, and that exceeds its error."""
        found = self.look(analysis)
        return found is not None and not isinstance(found, Omitted)

    def omitted(self, analysis: Analysis) -> str | None:
        """Why it is not drawn; None where it is, or where the run holds nothing that it could draw."""
        found = self.look(analysis)
        return found.why if isinstance(found, Omitted) else None

    def _seen(self, analysis: Analysis) -> Seen:
        found = self.look(analysis)
        if found is None or isinstance(found, Omitted):
            raise ValueError(f"the figure {self.name!r} does not apply: {getattr(found, 'why', 'nothing was stored')}")
        return found

    def draw(self, analysis: Analysis) -> Canvas:
        """The picture, deterministic, for the screen or, within ``style.for_paper``, for a column.

        Raises:
            ValueError: the figure does not apply; so do the three below.
        """
        drawn = literal(analysis)
        return self.paint(drawn, self._seen(drawn))

    def caption(self, analysis: Analysis) -> str:
        """What is seen and what follows from it."""
        return self.say(analysis, self._seen(analysis))

    def rows(self, analysis: Analysis) -> Rows:
        """The numbers drawn."""
        return self.list(analysis, self._seen(analysis))

    def alt(self, analysis: Analysis) -> str:
        """The alternative text of the picture."""
        return (self.tell or self.say)(analysis, self._seen(analysis))


def literal(value: Any) -> Any:
    """A record whose texts are drawn as they are: a dollar begins no formula, a control character is a space."""
    if isinstance(value, str):
        return "".join(c if c.isprintable() else " " for c in value).replace("$", r"\$")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(
            value, **{f.name: literal(getattr(value, f.name)) for f in dataclasses.fields(value)}
        )
    if isinstance(value, dict):
        return {k: literal(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return value if value and isinstance(value[0], float) else type(value)(literal(v) for v in value)
    return value


def rounding(analysis: Analysis) -> float:
    """What a risk or a loss may be off by, relative to its size, in the precision of the run."""
    single = analysis.dtype == "float32"
    return ULPS * float(np.finfo(np.float32 if single else np.float64).eps)


def varies(analysis: Analysis, values: ArrayLike) -> bool:
    """Whether risks or losses differ by more than their rounding; what is not finite does."""
    x = np.asarray(values, dtype=float)
    return not np.isfinite(x).all() or float(np.ptp(x)) > 2 * rounding(analysis) * float(np.abs(x).max())


def png(canvas: Canvas, dpi: int = 130) -> bytes:
    """The picture as a PNG file."""
    stream = io.BytesIO()
    canvas.savefig(stream, format="png", dpi=dpi)
    return stream.getvalue()


def pdf(canvas: Canvas) -> bytes:
    """The picture as a PDF file without a date, so that the same one gives the same bytes."""
    stream = io.BytesIO()
    canvas.savefig(stream, format="pdf", dpi=300, metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return stream.getvalue()
