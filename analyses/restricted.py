"""``python -m analyses.restricted`` runs :mod:`analyses.studies.restricted`."""

from analyses.lab.command import command
from analyses.studies.restricted.__main__ import main

if __name__ == "__main__":
    raise SystemExit(command(main))
