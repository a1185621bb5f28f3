"""The ends of the spectrum of ∇²R^aug irrep by irrep."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure as Canvas

from stability.report import words
from stability.report.figures.figure import Figure, Omitted
from stability.report.rows import Rows
from stability.report.style import EIGENVALUE, below_zero, decay, linear_threshold, panels, signs
from stability.results import Analysis
from stability.spectra.sectors import Sector

LADDERS = 24


def look(analysis: Analysis) -> list[Sector] | Omitted | None:
    """Sectors of which an eigenvalue is known, most negative first; None where fewer than two are."""
    found = sorted((x for x in analysis.sectors if x.lowest), key=lambda x: x.lowest[0].value)
    if all(words.sign(e.value, x.error) == "zero" for x in found for e in (*x.lowest, *x.highest)):
        return Omitted("every eigenvalue found is zero within its error") if len(found) > 1 else None
    return found if len(found) > 1 else None


def paint(analysis: Analysis, found: list[Sector]) -> Canvas:
    """A ladder for each, by sign."""
    shown = found[:LADDERS]
    values = np.array([e.value for x in shown for e in (*x.lowest, *x.highest)])
    threshold = linear_threshold([values], max(x.error for x in shown))
    with panels(1, 4.8) as (canvas, (axes,)):
        for column, x in enumerate(shown):
            ends = np.array([e.value for e in (*x.lowest, *x.highest)])
            axes.vlines(column, ends.min(), ends.max(), color="0.75", linewidth=1.5, zorder=1)
            for mask, _, marker, colour in signs(ends, x.error):
                at = np.full(mask.sum(), column)
                drawn = axes.scatter(at, ends[mask], s=30, marker=marker, color=colour, zorder=3)
                drawn.set_gid(f"sector {x.irrep}")
        axes.set_yscale("symlog", linthresh=threshold)
        low = min(-threshold, 3 * values.min())
        axes.set_ylim(low, max(threshold, 4 * values.max()))
        below_zero(axes, low)
        decay(axes, analysis.weight_decay)
        names = ["E (trivial)" if x.irrep == "trivial" else x.irrep for x in shown]
        axes.set_xticks(range(len(shown)), names, rotation=60 if len(shown) > 6 else 0, fontsize=9)
        rest = f", the {len(shown)} lowest of {len(found)}" if len(found) > len(shown) else ""
        axes.set_xlabel(f"irreducible representation{rest} (lowest and highest eigenvalues of each)")
        axes.set_ylabel(EIGENVALUE)
        if analysis.weight_decay > 0:
            axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=9)
        breaks = any(words.sign(x.lowest[0].value, x.error) == "negative" for x in found)
        said = "which symmetry breaks: the sectors, most negative first"
        axes.set_title(said if breaks else "no eigenvalue found below zero: the sectors, lowest first")
    return canvas


def say(analysis: Analysis, _: list[Sector]) -> str:
    """Which are below zero."""
    return (
        "The lowest and highest eigenvalues of ∇²R^aug in every irreducible representation of the group, the "
        "lowest first. An irrep below zero names a way to break the symmetry, irreps above zero are ways that "
        f"heal. {words.by_irrep(analysis)}"
    )


def rows(analysis: Analysis, _: list[Sector]) -> Rows:
    """Every eigenvalue of every sector, in the order of the irreps."""
    table = [
        (x.irrep, x.dim, end, e.value, e.residual, e.multiplicity)
        for x in analysis.sectors
        for end, ends in (("lowest", x.lowest), ("highest", x.highest))
        for e in ends
    ]
    return ("irrep", "dim", "end", "eigenvalue", "residual", "multiplicity"), table


def tell(analysis: Analysis, _: list[Sector]) -> str:
    """Which are below zero."""
    return words.by_irrep(analysis)


FIGURE = Figure("sectors", "Which symmetry breaks", look, paint, say, rows, tell)
