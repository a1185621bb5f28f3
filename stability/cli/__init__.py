"""What do I type? ``stability spectrum|diagnose|check|follow|report|compare|gallery``, and ``python -m stability``."""

from stability.cli.command import main, parser

__all__ = ["main", "parser"]
