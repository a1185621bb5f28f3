"""``python -m analyses.starts`` runs :mod:`analyses.studies.starts`."""

from analyses.lab.command import command
from analyses.studies.starts import main

if __name__ == "__main__":
    raise SystemExit(command(main))
