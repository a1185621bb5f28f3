"""What do I type? ``stability spectrum|diagnose|check|follow|report|compare|gallery``, and ``python -m stability``."""

from stability.cli.command import main, parser
from stability.spectrum.command import leave

__all__ = ["leave", "main", "parser"]
