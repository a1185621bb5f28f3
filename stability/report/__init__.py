"""What a reader gets of an analysis: ``table`` for the terminal, ``render`` for figures and the HTML page."""

from stability.report.render import render
from stability.report.tables import table

__all__ = ["render", "table"]
