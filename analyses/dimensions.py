"""``python -m analyses.dimensions`` runs :mod:`analyses.paper.dimensions`."""

from analyses.lab.command import command
from analyses.paper.dimensions import main

if __name__ == "__main__":
    raise SystemExit(command(main))
