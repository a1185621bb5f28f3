"""``python -m analyses.stability_map`` runs :mod:`analyses.studies.stability_map`."""

from analyses.lab.command import command
from analyses.studies.stability_map.__main__ import main

if __name__ == "__main__":
    raise SystemExit(command(main))
