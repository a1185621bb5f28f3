"""``python -m analyses.optimisers`` runs :mod:`analyses.studies.optimisers`."""

from analyses.lab.command import command
from analyses.studies.optimisers import main

if __name__ == "__main__":
    raise SystemExit(command(main))
