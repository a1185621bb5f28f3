"""``python -m analyses.bench`` runs :mod:`analyses.studies.bench`."""

from analyses.lab.command import command
from analyses.studies.bench.__main__ import main

if __name__ == "__main__":
    raise SystemExit(command(main))
