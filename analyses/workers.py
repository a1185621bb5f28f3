"""``python -m analyses.workers`` runs :mod:`analyses.studies.workers`."""

from analyses.lab.command import command
from analyses.studies.workers import main

if __name__ == "__main__":
    raise SystemExit(command(main))
