"""``python -m analyses.groups`` runs :mod:`analyses.paper.groups`."""

from analyses.lab.command import command
from analyses.paper.groups import main

if __name__ == "__main__":
    raise SystemExit(command(main))
