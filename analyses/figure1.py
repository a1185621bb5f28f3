"""``python -m analyses.figure1`` runs :mod:`analyses.paper.figure1`."""

from analyses.lab.command import command
from analyses.paper.figure1.__main__ import main

if __name__ == "__main__":
    raise SystemExit(command(main))
