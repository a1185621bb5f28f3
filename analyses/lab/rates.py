"""Rates from curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """The least-squares slope of log values over times: a measured rate.

    >>> import math
    >>> round(slope([0, 1, 2, 3], [math.exp(-0.5 * t) for t in range(4)]), 12)
    -0.5
    """
    return float(np.polyfit(np.asarray(times), np.log(np.asarray(values)), 1)[0])
