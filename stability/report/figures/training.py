"""λ_min on E and in every sector of E⊥ along equivariant training."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure as Canvas

from stability.eigen.spectrum import Eigenvalue
from stability.report import words
from stability.report.figures.figure import Figure, Omitted
from stability.report.rows import Rows
from stability.report.style import BLUE, LEAST, RED, below_zero, legend, panels, symlog
from stability.report.words import number
from stability.results import Analysis
from stability.spectra.least import History


def look(analysis: Analysis) -> History | Omitted | None:
    """The epochs looked at; None where E⊥ = {0}, of which nothing can be said."""
    found = analysis.training
    if found is None or not found.lowest:
        return None
    kinds = {e.irrep == "trivial" for e in found.lowest[0]}
    if kinds != {True, False}:
        return None
    if all(_side(analysis, e) == "zero" for row in found.lowest for e in row):
        return Omitted("every least eigenvalue is zero within its error at every epoch looked at")
    return found


def _side(analysis: Analysis, e: Eigenvalue) -> str:
    return words.sign(e.value, words.error_of(analysis, e, "E" if e.irrep == "trivial" else "E_perp"))


def paint(_: Analysis, found: History) -> Canvas:
    """A line a sector, those that decide with their residuals; the risk beside them."""
    epochs = np.array(found.epochs)
    names = [e.irrep for e in found.lowest[0]]
    table = np.array([[e.value for e in row] for row in found.lowest])
    with panels(2, 4.4) as (canvas, (axes, beside)):
        for i, name in enumerate(names):
            if name != "trivial":
                axes.plot(epochs, table[:, i], color="0.7", linewidth=1.0, gid=f"sector {name}", zorder=2)
        for ends, colour, marker, label, gid in (
            (found.on_e(), BLUE, "o", "$E$: equivariant training", "E"),
            (found.across(), RED, "v", r"$E^\perp$: whether augmented training leaves $E$", "E_perp"),
        ):
            values, residuals = np.array([e.value for e in ends]), np.array([e.residual for e in ends])
            axes.errorbar(epochs, values, yerr=residuals, color=colour, marker=marker, label=label, gid=gid, zorder=4)
            axes.lines[-1].set_gid(gid)
        symlog(axes, "y", table.ravel())
        low, high = min(table.min() * 2, -1e-12), max(table.max() * 2, 1e-12)
        if table.min() > 0:
            low = -0.2 * table.min()
        below_zero(axes, low)
        axes.set_ylim(low, high)
        axes.set_xlabel("epochs of equivariant training")
        axes.set_ylabel(LEAST)
        axes.set_title("grey: every sector")
        legend(axes, 1)
        beside.plot(epochs, found.risk, "o-", color=BLUE, gid="risk")
        beside.set_xlabel("epochs of equivariant training")
        beside.set_ylabel("risk $R$ (units of the loss)")
        beside.set_title(f"the run, step {number(found.step)}")
    return canvas


def say(analysis: Analysis, found: History) -> str:
    """At which epochs E is unstable."""
    across = found.across()
    negative = [epoch for epoch, e in zip(found.epochs, across, strict=True) if _side(analysis, e) == "negative"]
    if len(negative) == len(across):
        follows = "E is unstable for augmented training at every epoch looked at"
    elif not negative:
        follows = "at no epoch looked at is E proved unstable"
    else:
        follows = f"E is unstable for augmented training at the epochs {', '.join(map(str, negative))}"
    return (
        "The least eigenvalue of ∇²R^aug on E and on E⊥ along equivariant training (grey: every sector of E⊥), error "
        "bars the residuals. Where the triangles lie in the hatched region augmented training would leave E: "
        f"{follows}. λ_min on E⊥ goes from {words.eigenvalue(across[0])} to {words.eigenvalue(across[-1])} "
        f"({across[-1].irrep})."
    )


def rows(_: Analysis, found: History) -> Rows:
    """One line an epoch and irrep."""
    table = [
        (epoch, risk, e.irrep, e.value, e.residual)
        for epoch, risk, line in zip(found.epochs, found.risk, found.lowest, strict=True)
        for e in line
    ]
    return ("epoch", "R", "irrep", "lowest_eigenvalue", "residual"), table


def tell(_: Analysis, found: History) -> str:
    """Both ends of the curves that decide."""
    ends = [
        f"from {words.eigenvalue(e[0])} to {words.eigenvalue(e[-1])} on {name}"
        for e, name in ((found.on_e(), "E"), (found.across(), "E⊥"))
    ]
    return f"Over {len(found.epochs)} epochs λ_min goes {' and '.join(ends)}."


FIGURE = Figure("training", "Stability of E along equivariant training", look, paint, say, rows, tell)
