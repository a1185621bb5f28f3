"""The share of the dimensions by eigenvalue, on E and on E⊥."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import SymmetricalLogLocator

from stability.eigen.spectrum import Spectrum
from stability.report import words
from stability.report.figures.figure import Figure
from stability.report.rows import Rows
from stability.report.style import CURVATURE, PANELS, absent, legend, panels, signs
from stability.report.words import number, part
from stability.results import Analysis
from stability.spectra import density as measures
from stability.spectra.density import Shares


@dataclass(frozen=True)
class Counted:
    """The shares of a space and its dimension.

    Attributes:
        shares: by bins.
        dim: of the space, by which shares become counts.
    """

    shares: Shares
    dim: int


def shares_of(analysis: Analysis, where: str, spectrum: Spectrum) -> Shares | None:
    """The density stored; of a run without one, a whole spectrum counted or the weights of its Krylov run."""
    stored = (analysis.pictures.shares if analysis.pictures else {}).get(where)
    if stored is not None or spectrum.density is None:
        return stored
    if spectrum.complete:
        return measures.exact(spectrum)
    return measures.from_one_vector(spectrum, analysis.sectors, where)


def look(analysis: Analysis) -> dict[str, Counted] | None:
    """Of the spaces whose density is known."""
    found = {}
    for where, _ in PANELS:
        spectrum = part(analysis, "aug", where)
        shares = None if spectrum is None else shares_of(analysis, where, spectrum)
        if spectrum is not None and shares is not None:
            found[where] = Counted(shares, spectrum.dim)
    return found or None


def paint(_: Analysis, found: dict[str, Counted]) -> Canvas:
    """Bins by sign on a symmetric logarithmic axis, standard errors where they are estimated."""
    with panels(2, 4.2) as (canvas, shown_in):
        for axes, (where, name) in zip(shown_in, PANELS, strict=True):
            counted = found.get(where)
            if counted is None:
                absent(axes, name, "not computed", 12)
                axes.set_yticks([])
            else:
                _bins(axes, where, counted)
                axes.set_title(f"on {name}, dim {counted.dim:,}")
        shown_in[0].set_ylabel("share of the dimensions in a bin")
    return canvas


def _bins(axes: Axes, where: str, counted: Counted) -> None:
    shares = counted.shares
    edges, share, error = map(np.array, (shares.edges, shares.share, shares.error))
    floor = 0.5 * min(share[share > 0].min(), 1 / counted.dim)
    zero = float(edges[edges > 0].min())
    middle = _middles(edges)
    for mask, label, _, colour in signs(middle, zero):
        kept = np.where(mask, share, np.nan)
        kept = np.where(kept > 0, kept, np.nan)
        hatch = "///" if label == "negative" else None
        drawn = axes.stairs(kept, edges, baseline=floor, fill=True, color=colour, alpha=0.75, hatch=hatch)
        drawn.set(gid=f"density {where}", edgecolor="white" if hatch else colour)
        drawn.set_label(label if np.nansum(kept) > 0 else "_none")
        if label.startswith("zero") and np.nansum(kept) > 0:
            axes.vlines(0, floor, np.nansum(kept), color=colour, linewidth=5, gid=f"zeros {where}")
    if error.any():
        seen = share > 0
        style: dict[str, Any] = {"fmt": "none", "ecolor": "black", "linewidth": 1.2, "label": "standard error"}
        axes.errorbar(middle[seen], share[seen], yerr=error[seen], **style)
    inner = edges[np.abs(edges) > zero * 1.5]
    threshold = float(np.abs(inner).min()) if len(inner) else 1.0
    axes.set_xscale("symlog", linthresh=threshold)
    locator = SymmetricalLogLocator(base=10, linthresh=10.0 ** math.floor(math.log10(threshold)))
    locator.set_params(numticks=5)
    axes.xaxis.set_major_locator(locator)
    axes.axvline(0.0, color="black", linewidth=2.0, gid="zero", zorder=3)
    axes.set_yscale("log")
    axes.set_ylim(floor, 2.0)
    axes.set_xlabel(CURVATURE)
    legend(axes, 3)


def _middles(edges: np.ndarray) -> np.ndarray:
    """Geometric where a bin is away from zero, so that it stands in the middle on a logarithmic axis."""
    a, b = edges[:-1], edges[1:]
    same = a * b > 0
    middles: np.ndarray = np.where(same, np.sign(a) * np.sqrt(np.abs(np.where(same, a * b, 1.0))), (a + b) / 2)
    return middles


def say(analysis: Analysis, found: dict[str, Counted]) -> str:
    """How it was found, and what lies below zero."""
    estimated = [c.shares for c in found.values() if c.shares.probes]
    method = "counted from the whole spectrum, so without error"
    if estimated:
        doubt = max(max(s.resolution) for s in estimated)
        method = (
            f"estimated ({'; '.join(dict.fromkeys(s.method for s in estimated))}), bars being standard errors; the "
            f"Krylov runs may put up to {number(doubt, 2)} on the wrong side of a bin's edge"
        )
    peak = " A peak at the weight decay holds the directions that the data do not see." if analysis.weight_decay else ""
    return (
        f"The share of the dimensions whose eigenvalue of ∇²R^aug lies in a bin, {method}. Below zero lies "
        f"{_below(found)}.{peak}"
    )


def _below(found: dict[str, Counted]) -> str:
    texts = []
    for where, counted in found.items():
        name, s = words.SPACES[where], counted.shares
        share = sum(x for x, right in zip(s.share, s.edges[1:], strict=True) if right <= 0)
        texts.append(f"{number(100 * share)} % of the dimensions of {name}" if share else f"nothing on {name}")
    return " and ".join(texts)


def rows(_: Analysis, found: dict[str, Counted]) -> Rows:
    """One line a bin."""
    table = []
    for where, counted in found.items():
        s = counted.shares
        columns = zip(s.edges[:-1], s.edges[1:], s.share, s.error, s.resolution, strict=True)
        table += [(where, *row) for row in columns]
    return ("space", "from_eigenvalue", "to_eigenvalue", "share", "standard_error", "resolution"), table


def tell(_: Analysis, found: dict[str, Counted]) -> str:
    """What lies below zero."""
    return f"Histograms of the eigenvalues of ∇²R^aug; below zero lies {_below(found)}."


FIGURE = Figure("density", "Spectral density", look, paint, say, rows, tell)
