"""``python -m analyses.rotation`` runs :mod:`analyses.paper.rotation`."""

from analyses.lab.command import command
from analyses.paper.rotation.__main__ import main

if __name__ == "__main__":
    raise SystemExit(command(main))
