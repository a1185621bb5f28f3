"""``python -m analyses.monitor`` runs :mod:`analyses.studies.monitor`."""

from analyses.lab.command import command
from analyses.studies.monitor import main

if __name__ == "__main__":
    raise SystemExit(command(main))
