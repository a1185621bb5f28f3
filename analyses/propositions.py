"""``python -m analyses.propositions`` runs :mod:`analyses.paper.propositions`."""

from analyses.lab.command import command
from analyses.paper.propositions.__main__ import main

if __name__ == "__main__":
    raise SystemExit(command(main))
