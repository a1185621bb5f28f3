"""``python -m analyses.penalty`` runs :mod:`analyses.studies.penalty`."""

from analyses.lab.command import command
from analyses.studies.penalty import main

if __name__ == "__main__":
    raise SystemExit(command(main))
