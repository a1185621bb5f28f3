"""How a command of an analysis reads its options and ends."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from stability.base.errors import BadInput


def pool_arguments(parser: argparse.ArgumentParser) -> None:
    """``--workers`` and ``--scheduler``, for :func:`stability.base.cluster.pool`."""
    parser.add_argument("--workers", type=int, help="processes of this machine, of one thread each")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of Dask, for the processes of others")


def command(main: Callable[[Sequence[str] | None], None], arguments: Sequence[str] | None = None) -> int:
    """Run ``main``; bad input ends with one line on stderr and status 2."""
    try:
        main(arguments)
    except BadInput as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0
