"""The command, ``python -m stability.spectrum``; from Python ``stability.spectrum(problem, point)`` is the stage."""

from stability.spectrum.command import main, parser

__all__ = ["main", "parser"]
