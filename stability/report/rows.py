"""The numbers behind a picture as a table with named columns, units in the names: what a CSV file holds."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from typing import Any

# How a formula begins in a spreadsheet.
FORMULA = tuple("=+-@")
Rows = tuple[tuple[str, ...], list[tuple[Any, ...]]]


def as_csv(rows: Rows) -> str:
    """The table as comma-separated values, numbers with every digit that is stored; empty where one is not finite.

    >>> as_csv((("t", "R"), [(0.5, None), (1.0, 0.1)]))
    't,R\\n0.5,\\n1.0,0.1\\n'
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows([_cell(x) for x in row] for row in rows[1])
    return stream.getvalue()


def _cell(x: object) -> object:
    """A cell; text that a spreadsheet would run as a formula begins with an apostrophe, which keeps it text."""
    if isinstance(x, str):
        printable = "".join(c if c.isprintable() else " " for c in x)
        return f"'{printable}" if printable.lstrip()[:1] in FORMULA else printable
    if isinstance(x, float):
        return repr(x) if math.isfinite(x) else ""  # JSON holds null for it
    return "" if x is None else x


def grid(label: str, values: Iterable[Iterable[float]]) -> list[tuple[Any, ...]]:
    """(label, row, column, value) of every entry of an image."""
    return [(label, i, j, v) for i, row in enumerate(values) for j, v in enumerate(row)]
