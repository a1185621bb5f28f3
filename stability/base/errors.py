"""The one exception a user should ever see, and the one way to say something beside the results."""

from __future__ import annotations

import sys

from tqdm import tqdm


def say(line: str) -> None:
    """One line on stderr that a user should see, above any progress bar."""
    tqdm.write(f"stability: {' '.join(line.split())}", file=sys.stderr)


class BadInput(ValueError):
    """What is wrong, the measured value and how to mend it, in one line.

    The command line prints the message on one line of stderr and exits with 2.
    """


class CannotWrite(BadInput, OSError):
    """A file could not be written: the disk is full, or access was lost. What was written before is whole."""


class NotFinite(BadInput, ArithmeticError):
    """Infinity or NaN came out of a product or a risk that had been finite."""


class Unproved(BadInput, ArithmeticError):
    """A list of irreps or of sectors that could not be proved complete: nothing is said rather than half of it."""


class StaleLinearisation(BadInput, ArithmeticError):
    """A product disagrees with one computed otherwise, or is not symmetric."""
