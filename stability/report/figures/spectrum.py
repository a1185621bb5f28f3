"""Every eigenvalue of ∇²R^aug against its rank."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, NullFormatter, SymmetricalLogLocator

from stability.eigen.spectrum import Spectrum
from stability.report import words
from stability.report.figures.figure import Figure
from stability.report.rows import Rows
from stability.report.style import (
    BLUE,
    EIGENVALUE,
    GREY,
    PANELS,
    RED,
    absent,
    below_zero,
    decay,
    linear_threshold,
    panels,
    signs,
)
from stability.report.words import part
from stability.results import Analysis

# Spaces with what is known of them, E first: a spectrum with an eigenvalue, or None.
Halves = dict[str, Spectrum | None]


def halves(analysis: Analysis) -> Halves | None:
    """∇²R^aug on E and on E⊥; None where no spectrum was computed."""
    if analysis.spectra is None:
        return None
    return {where: part(analysis, "aug", where) for where, _ in PANELS}


def measure(spectrum: Spectrum | None) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values and multiplicities (all one for Ritz values, of which none is known), ascending."""
    if spectrum is None:
        return np.empty(0), np.empty(0, dtype=int)
    if spectrum.density is None:  # only the ends of a part were looked at
        ends = np.unique([e.value for e in (*spectrum.lowest, *spectrum.highest)])
        return ends, np.ones(len(ends), dtype=int)
    values = np.array(spectrum.density.values)
    if spectrum.density.method != "exact":
        return values, np.ones(len(values), dtype=int)
    return values, np.rint(np.array(spectrum.density.weights) * spectrum.dim).astype(int)


def missing(analysis: Analysis, where: str) -> str:
    """Why a space has no spectrum."""
    spectrum = (analysis.spectra or {}).get("aug", {}).get(where)
    return "not computed" if spectrum is None else spectrum.method if spectrum.dim else "this space is {0}"


def paint(analysis: Analysis, found: Halves) -> Canvas:
    """Both on one symmetric logarithmic scale; a bar is as long as its multiplicity."""
    error = max((s.error for s in found.values() if s), default=0.0)
    values = [measure(s)[0] for s in found.values()]
    threshold = linear_threshold(values, error)
    low = min([-threshold, *(3 * v.min() for v in values if len(v))])
    high = max([threshold, *(3 * v.max() for v in values if len(v))])
    with panels(2, 4.8, sharey=True) as (canvas, shown_in):
        for axes, (where, name) in zip(shown_in, PANELS, strict=True):
            spectrum = found[where]
            if spectrum is None:
                absent(axes, name, missing(analysis, where))
            else:
                _ladder(axes, where, spectrum)
                wide = "\n" if spectrum.negative_count is None else " "  # the longer sentence takes its own line
                axes.set_title(f"on {name}, dim {spectrum.dim:,}:{wide}{words.below_zero(spectrum)}")
                decay(axes, analysis.weight_decay)
                axes.legend(loc="upper left", framealpha=1, fontsize=10)
            below_zero(axes, low)
        shown_in[0].set_yscale("symlog", linthresh=threshold)
        locator = SymmetricalLogLocator(base=10, linthresh=threshold)
        locator.set_params(numticks=12)
        shown_in[0].yaxis.set_major_locator(locator)
        shown_in[0].set_ylim(low, high)
        shown_in[0].set_ylabel(EIGENVALUE)
    return canvas


def _ladder(axes: Axes, where: str, spectrum: Spectrum) -> None:
    values, counts = measure(spectrum)
    first = np.cumsum(counts) - counts + 1
    colours = np.select([values < -spectrum.error, values > spectrum.error], [RED, BLUE], GREY)
    axes.hlines(values, first, first + counts - 1, colors=colours, linewidth=2.5, gid=f"ticks {where}")
    for mask, label, marker, colour in signs(values, spectrum.error):
        shown = axes.scatter(first[mask], values[mask], s=22, marker=marker, color=colour, label=label)
        shown.set(gid=f"values {where}", linewidth=0)
    axes.set_xscale("log")
    axes.set_xlim(0.7, max(1.5 * first[-1], 3))
    axes.xaxis.set_major_locator(LogLocator(numticks=5))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("rank, counted with multiplicity" if spectrum.complete else "rank among the Ritz values")


def say(analysis: Analysis, found: Halves) -> str:
    """What the marks are, and what lies below zero."""
    known = [s for s in found.values() if s]
    seen = (
        "Every eigenvalue of ∇²R^aug in ascending order, drawn over as many ranks as it has multiplicity"
        if known and all(s.complete for s in known)
        else "Eigenvalues of ∇²R^aug in ascending order (where the method is Lanczos: Ritz values, whose "
        "multiplicity is not known)"
    )
    follows = (
        "What lies in the hatched region descends: on E that is a saddle of equivariant training, on E⊥ a way out "
        "of E that only augmented training can take."
    )
    if analysis.weight_decay > 0:
        follows += " Directions in which the data term is flat have the weight decay as eigenvalue."
    return f"{seen}. {follows}"


def rows(_: Analysis, found: Halves) -> Rows:
    """Every value drawn."""
    table = [(where, float(v), int(m)) for where, s in found.items() for v, m in zip(*measure(s), strict=True)]
    return ("space", "eigenvalue", "multiplicity"), table


def tell(_: Analysis, found: Halves, which: str = "Eigenvalues") -> str:
    """The ends of both spectra and what lies below zero."""
    ends = []
    for where, s in found.items():
        if s is None:
            ends.append(f"on {words.SPACES[where]} there is none")
            continue
        reach = f"from {words.eigenvalue(s.lowest[0])} to {words.eigenvalue(s.highest[0])}"
        ends.append(f"on {words.SPACES[where]} {reach}, {words.below_zero(s)}")
    return f"{which} of the augmented Hessian. Spectrum: {'; '.join(ends)}."


FIGURE = Figure("spectrum", "The whole spectrum on E and on E⊥", halves, paint, say, rows, tell)
