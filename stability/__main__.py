"""``python -m stability``: the command ``stability``."""

from stability.cli.command import main
from stability.spectrum.command import leave

if __name__ == "__main__":
    leave(main())
