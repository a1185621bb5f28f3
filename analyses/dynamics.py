"""``python -m analyses.dynamics`` runs :mod:`analyses.studies.dynamics`."""

from analyses.lab.command import command
from analyses.studies.dynamics.__main__ import main

if __name__ == "__main__":
    raise SystemExit(command(main))
