"""The lowest distinct eigenvalues of ∇²R^aug on E and on E⊥, which decide."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from stability.eigen.spectrum import Spectrum
from stability.report import words
from stability.report.figures import spectrum
from stability.report.figures.figure import Figure
from stability.report.figures.spectrum import Halves, halves
from stability.report.rows import Rows
from stability.report.style import CURVATURE, PANELS, absent, below_zero, decay, legend, panels, signs
from stability.report.words import number
from stability.results import Analysis

SHOWN = 10


def paint(analysis: Analysis, found: Halves) -> Canvas:
    """Each space on a linear scale of its own, with residuals, multiplicities and irreps."""
    with panels(2) as (canvas, shown_in):
        for axes, (where, name) in zip(shown_in, PANELS, strict=True):
            ends = found[where]
            if ends is None:
                absent(axes, name, spectrum.missing(analysis, where))
                axes.set_yticks([])
            else:
                _ends(axes, where, name, ends, analysis.weight_decay)
        shown_in[0].set_ylabel(CURVATURE)
    return canvas


def _ends(axes: Axes, where: str, name: str, found: Spectrum, mu: float) -> None:
    ends = found.lowest[:SHOWN]
    values, residuals = np.array([e.value for e in ends]), np.array([e.residual for e in ends])
    rank = np.arange(1, len(ends) + 1)
    axes.errorbar(rank, values, yerr=residuals, fmt="none", ecolor="black", linewidth=2, zorder=3)
    for mask, label, marker, colour in signs(values, found.error):
        shown = axes.scatter(rank[mask], values[mask], s=60, marker=marker, color=colour, label=label, zorder=4)
        shown.set_gid(f"values {where}")
    for x, e in zip(rank, ends, strict=True):
        note = " ".join(filter(None, [f"×{e.multiplicity}" if e.multiplicity else "", e.irrep]))
        down = e.value < 0  # away from the zero line
        slanted: dict[str, Any] = {"rotation": 90} if e.irrep else {}
        slanted |= {"va": "top" if down else "bottom", "ha": "center"}
        at = (0, -8 if down else 8)
        axes.annotate(note, (x, e.value), at, textcoords="offset points", fontsize=8, zorder=5, **slanted)
    decay(axes, mu)
    reach = max(np.abs(values).max(), mu, found.error) or 1.0
    low, high = min(values.min(), 0.0), max(values.max(), mu, 0.0)
    span = high - low or reach
    low, high = low - (0.42 if values.min() < 0 else 0.12) * span, high + (0.42 if values.max() >= 0 else 0.12) * span
    below_zero(axes, low)
    axes.set(ylim=(low, high), xlim=(0.4, max(len(ends), 2) + 0.6))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.ticklabel_format(axis="y", scilimits=(-2, 4))
    axes.set_title(f"on {name}: lowest {words.eigenvalue(ends[0])}, residuals ≤ {number(residuals.max(), 2)}")
    axes.set_xlabel("rank (one mark a value and irrep)")
    legend(axes, 3)


def say(_: Analysis, found: Halves) -> str:
    """The sign of the first on either space."""
    texts = []
    for where, s in found.items():
        if s:
            low = s.lowest[0]
            also = f" ({words.shared(s)})" if words.shared(s) else ""
            sign = words.sign(low.value, s.error).replace("zero", "zero within its error")
            texts.append(f"{words.eigenvalue(low)} on {words.SPACES[where]}, {sign}{also}")
    return (
        "The lowest distinct eigenvalues of ∇²R^aug irrep by irrep, multiplicity within the irrep (×) above each; a "
        "true eigenvalue lies within each error bar, which is the residual. Each panel has a scale of "
        "its own. The sign of the first "
        f"decides: {' and '.join(texts) or 'none is known'}."
    )


def rows(_: Analysis, found: Halves) -> Rows:
    """Those drawn, with their residuals."""
    table = [
        (where, k, e.value, e.residual, e.multiplicity, e.irrep)
        for where, s in found.items()
        if s
        for k, e in enumerate(s.lowest[:SHOWN], 1)
    ]
    return ("space", "rank", "eigenvalue", "residual", "multiplicity", "irrep"), table


def tell(analysis: Analysis, found: Halves) -> str:
    """The ends of both spectra."""
    return spectrum.tell(analysis, found, "Lowest eigenvalues")


FIGURE = Figure("lowest", "The eigenvalues that decide", halves, paint, say, rows, tell)
