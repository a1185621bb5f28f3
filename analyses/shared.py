"""The names of :mod:`analyses.lab` under their former address, for one release."""

from matplotlib.figure import Figure

from analyses.lab.cases import Case
from analyses.lab.command import command, pool_arguments
from analyses.lab.ground import (
    SECTOR_LIMIT,
    TOLERANCE,
    Ground,
    Mode,
    SectorModes,
    accuracies,
    faster_transverse_part,
    find,
    resolve,
    stabiliser,
)
from analyses.lab.publish import MARKERS, STYLES, Section, finish, publish, save_figure, table
from analyses.lab.rates import slope
from analyses.lab.rows import Rows, dumps
from stability.base.storage import prepare_folder

__all__ = [
    "Case",
    "Figure",
    "Ground",
    "MARKERS",
    "Mode",
    "Rows",
    "SECTOR_LIMIT",
    "STYLES",
    "Section",
    "SectorModes",
    "TOLERANCE",
    "accuracies",
    "command",
    "dumps",
    "faster_transverse_part",
    "find",
    "finish",
    "pool_arguments",
    "prepare_folder",
    "publish",
    "resolve",
    "save_figure",
    "slope",
    "stabiliser",
    "table",
]
