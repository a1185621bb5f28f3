"""R^aug over the lowest mode on E (across) and on E⊥ (up)."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure as Canvas

from stability.effects.slices import Plane
from stability.report import words
from stability.report.figures.figure import Figure, Omitted, varies
from stability.report.rows import Rows
from stability.report.style import panels
from stability.report.words import number
from stability.results import Analysis


def look(analysis: Analysis) -> Plane | Omitted | None:
    """The plane, where R^aug changes on it by more than its rounding."""
    found = analysis.pictures.plane if analysis.pictures else None
    if found is None or varies(analysis, found.aug):
        return found
    return Omitted("over the lowest modes on E and off it R^aug changes by no more than its rounding")


def _change(found: Plane) -> np.ndarray:
    """Of R^aug since the point, in the middle; NaN where it is not finite."""
    values = np.asarray(found.aug, dtype=float)
    change = values - values[len(found.across) // 2, len(found.along) // 2]
    return np.where(np.isfinite(change), change, np.nan)


def paint(_: Analysis, found: Plane) -> Canvas:
    """Colours even about the value at the point."""
    s, t, change = np.array(found.along), np.array(found.across), _change(found)
    sizes = np.abs(change[np.abs(change) > 0])
    linear = float(np.quantile(sizes, 0.1)) if len(sizes) else 1.0
    top = float(sizes.max()) if len(sizes) else 1.0
    with panels(1, 5.4) as (canvas, (axes,)):
        axes.grid(False)
        norm = SymLogNorm(linthresh=linear, vmin=-top, vmax=top, base=10)
        image = axes.pcolormesh(s, t, change, cmap="PuOr_r", norm=norm, shading="nearest")
        image.set_gid("plane")
        image.set_rasterized(True)
        if np.nanmin(change) < 0 < np.nanmax(change):
            axes.contour(s, t, change, levels=[0.0], colors="black", linewidths=1.8)
        axes.axhline(0.0, color="black", linewidth=1.2, linestyle="--", gid="E")
        axes.plot(0, 0, marker="x", color="black", markersize=11, markeredgewidth=2.5)
        axes.annotate("E", (s[-1], 0), (-4, 4), textcoords="offset points", ha="right", fontsize=11)
        bar = canvas.colorbar(image, ax=axes, label=r"$R^{\mathrm{aug}}$ minus its value at the point")
        bar.ax.axhline(0.0, color="black", linewidth=1.5, gid="zero")
        axes.set_xlabel(rf"along the lowest mode on $E$, $\lambda$ = {words.eigenvalue(found.value_E)}")
        axes.set_ylabel(rf"along the lowest mode on $E^\perp$, $\lambda$ = {words.eigenvalue(found.value_E_perp)}")
        axes.set_title("×: the point; dashed: E; black line: where the risk is that of the point")
    return canvas


KINDS = {
    ("positive", "negative"): "a saddle whose descent leaves E",
    ("positive", "positive"): "a valley along E as well as across it",
    ("negative", "negative"): "descending both on E and off it",
    ("negative", "positive"): "a saddle inside E",
}


def _kind(analysis: Analysis, found: Plane) -> str:
    """What kind of point it is in these two directions; which of them is flat within the error."""
    values = (("E", found.value_E), ("E_perp", found.value_E_perp))
    sides = [words.sign(v, s.error if (s := words.part(analysis, "aug", where)) else 0.0) for where, v in values]
    flat = [name for side, name in zip(sides, ("on E", "off E"), strict=True) if side == "zero"]
    return f"flat within the error {' and '.join(flat)}" if flat else KINDS[sides[0], sides[1]]


def say(analysis: Analysis, found: Plane) -> str:
    """What is seen, and what kind of point it is."""
    return (
        "R^aug minus its value at the point (cross) over the plane of the least stable direction on E (horizontal, "
        "the dashed line is E) and the least stable one off E (vertical). Orange is above, violet below, and the "
        "black line where the risk is that of the point. Here the point is "
        f"{_kind(analysis, found)}. Beyond the curvature, where colours change faster, terms of higher order rule."
    )


def rows(_: Analysis, found: Plane) -> Rows:
    """Every point of the plane."""
    table = [
        (s, t, value)
        for t, line in zip(found.across, found.aug, strict=True)
        for s, value in zip(found.along, line, strict=True)
    ]
    return ("along_E", "along_E_perp", "R_aug"), table


def tell(analysis: Analysis, found: Plane) -> str:
    """The values at the ends of the scale."""
    change = _change(found)
    low, high = number(float(np.nanmin(change))), number(float(np.nanmax(change)))
    return f"A map of R^aug minus its value at the point, from {low} to {high}; it is {_kind(analysis, found)}."


FIGURE = Figure("plane", "The augmented risk around the point", look, paint, say, rows, tell)
