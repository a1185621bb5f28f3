"""``python -m stability.spectrum``."""

import os
import sys

from stability.spectrum.command import main

if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    if status == 130:
        # A Ctrl-C that passed through an exec() makes CPython die of SIGINT at exit, handled or not.
        os._exit(status)
    sys.exit(status)
