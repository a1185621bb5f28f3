"""``python -m analyses.augmentation`` runs :mod:`analyses.studies.augmentation`."""

from analyses.lab.command import command
from analyses.studies.augmentation.__main__ import main

if __name__ == "__main__":
    raise SystemExit(command(main))
