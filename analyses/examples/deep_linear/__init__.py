"""A deep linear network: every critical point with its index, known in closed form, and what symmetry adds."""

from analyses.examples.deep_linear.critical import (
    Critical,
    Landscape,
    classes,
    index,
    is_minimum,
    landscape,
    linear_problem,
    pairs,
    representative,
    root,
    spectrum_at,
)
from analyses.examples.deep_linear.measure import landscape_rows, symmetric_rows
from analyses.examples.deep_linear.symmetry import HIDDEN, Symmetrised, balanced_spectrum, sector_spectra, symmetrised

__all__ = [
    "Critical",
    "HIDDEN",
    "Landscape",
    "Symmetrised",
    "balanced_spectrum",
    "classes",
    "index",
    "is_minimum",
    "landscape",
    "landscape_rows",
    "linear_problem",
    "pairs",
    "representative",
    "root",
    "sector_spectra",
    "spectrum_at",
    "symmetric_rows",
    "symmetrised",
]
