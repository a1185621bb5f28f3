"""How figures look: colours, marks of sign, panels for the screen and for a column of a paper.

Colours are of seaborn's colour-blind palette; sign is also told by marker and hatch, so that grey prints read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import SymmetricalLogLocator

from stability.report.words import number

BLUE, ORANGE, GREEN, RED, GREY = (seaborn.color_palette("colorblind").as_hex()[i] for i in (0, 1, 2, 3, 7))
SIGNS = (("negative", "v", RED), ("zero within the error", "s", GREY), ("positive", "o", BLUE))
# Inches: a column of a two-column page, as LaTeX's article, ICML and IEEE styles have it within a tenth.
COLUMN, SCREEN = 3.35, 9.0
PHONE = 4.4
STYLE = seaborn.axes_style("whitegrid") | {
    "font.size": 12,
    "axes.titlesize": 12,
    "axes.edgecolor": "0.3",
    "grid.color": "0.9",
    "hatch.color": "0.8",
    "hatch.linewidth": 0.6,
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same picture everywhere
}
# Computer Modern, which matplotlib ships too; what it lacks (Unicode in names) falls back glyph by glyph.
PAPER = STYLE | {
    "font.family": ["cmr10", "DejaVu Serif"],
    "mathtext.fontset": "cm",
    "axes.formatter.use_mathtext": True,
    "axes.unicode_minus": False,
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 6.5,
    "axes.linewidth": 0.6,
    "grid.linewidth": 0.4,
    "lines.linewidth": 1.0,
    "lines.markersize": 3,
    "pdf.fonttype": 42,
    "svg.hashsalt": "stability",
}
# Of signed images, white at zero; purple is below.
SIGNED = "PuOr_r"
# What panels and axes are called, as mathematics.
PANELS = (("E", "$E$"), ("E_perp", r"$E^\perp$"))
CURVATURE = r"eigenvalue of $\nabla^2R^{\mathrm{aug}}$"
EIGENVALUE = f"{CURVATURE} (per unit of squared weight)"
LEAST = r"$\lambda_{\min}$ of $\nabla^2R^{\mathrm{aug}}$"
OFF = r"$\|A_{E^\perp}\|$"
LINES = ("-", "--", ":", "-.")
# Marks beyond which a PDF holds a picture of them.
RASTER = 1000
SYMBOLS = {"≤": r"\leq", "×": r"\times", "→": r"\to", "−": "-", "–": "-", "²": "^2", "⊥": r"^\perp", "λ": r"\lambda"}
_paper: ContextVar[bool] = ContextVar("paper", default=False)
_phone: ContextVar[bool] = ContextVar("phone", default=False)


@contextmanager
def for_paper() -> Iterator[None]:
    """Figures drawn inside are one column wide, in Computer Modern, their panels below each other."""
    token = _paper.set(True)
    try:
        yield
    finally:
        _paper.reset(token)


@contextmanager
def for_phone() -> Iterator[None]:
    """Figures drawn inside are as wide as a phone, their panels below each other, the last first: E⊥ decides."""
    token = _phone.set(True)
    try:
        yield
    finally:
        _phone.reset(token)


def on_paper() -> bool:
    """Whether a figure is being drawn for a paper."""
    return _paper.get()


@contextmanager
def panels(
    columns: int, height: float = 4.4, images: bool = False, **options: Any
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with panels side by side, or below each other on paper; ``images`` stay side by side there."""
    if _phone.get():
        with matplotlib.rc_context(STYLE | {"font.size": 10, "axes.titlesize": 10, "legend.fontsize": 8}):
            figure = Figure(figsize=(PHONE, 0.75 * height * columns), layout="constrained")
            yield figure, list(figure.subplots(columns, 1, squeeze=False, **options)[::-1, 0])
        return
    if not _paper.get():
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(SCREEN, height), layout="constrained")
            yield figure, list(figure.subplots(1, columns, squeeze=False, **options)[0])
        return
    with matplotlib.rc_context(PAPER):
        rows = 1 if images else columns
        tall = height / 2.2 if images else (height / 2 if columns > 1 else height * 0.55) * rows
        figure = Figure(figsize=(COLUMN, tall), layout="constrained")
        shape = (1, columns) if images else (columns, 1)
        found = list(figure.subplots(*shape, squeeze=False, **options).ravel())
        yield figure, found
        wide = 18 if images and columns > 1 else 56
        for axes in found:
            axes.set_xlabel(axes.get_xlabel().replace(" (", "\n("))
            axes.set_ylabel(axes.get_ylabel().replace(" (", "\n(").replace(" minus", "\nminus"))
            axes.set_title(fill(axes.get_title(), wide), fontsize=7)
            _shrink(axes)
        for text in figure.findobj(Text):
            text.set_text(_in_math(text.get_text()))
        for legend in figure.legends:
            for text in legend.get_texts():
                text.set_fontsize(6.5)
        if figure.get_suptitle():
            figure.suptitle(fill(figure.get_suptitle(), 56), fontsize=7)


def _in_math(text: str) -> str:
    """Symbols that Computer Modern's text font lacks as mathematics, in a text that holds some already."""
    if "$" not in text:
        return text
    pieces = text.split("$")
    for i in range(0, len(pieces), 2):
        for symbol, command in SYMBOLS.items():
            pieces[i] = pieces[i].replace(symbol, f"\0{command}\0")
    return "$".join(pieces).replace("\0", "$")


def _shrink(axes: Axes) -> None:
    """Marks, lines and words of the screen, for a column."""
    for line in axes.lines:
        line.set_linewidth(0.6 * line.get_linewidth())
        line.set_markersize(0.6 * line.get_markersize())
    for collection in axes.collections:
        if isinstance(collection, PathCollection):
            collection.set_sizes(0.3 * collection.get_sizes())
            collection.set_rasterized(len(np.asarray(collection.get_offsets())) > RASTER)
        elif isinstance(collection, LineCollection):
            collection.set_linewidth([0.5 * w for w in np.atleast_1d(collection.get_linewidth())])
            collection.set_rasterized(len(collection.get_segments()) > RASTER)
    for text in axes.texts:
        text.set_fontsize(min(text.get_fontsize(), 6))
        text.set_fontweight("normal")  # Computer Modern has no other
    legend = axes.get_legend()
    if legend:
        legend.get_title().set_fontsize(6.5)
        for text in legend.get_texts():
            text.set_fontsize(6)


def signs(values: np.ndarray, error: float) -> Iterator[tuple[np.ndarray, str, str, str]]:
    """Masks of negative, zero and positive values with the name, marker and colour of each."""
    masks = (values < -error, np.abs(values) <= error, values > error)
    yield from ((mask, *sign) for mask, sign in zip(masks, SIGNS, strict=True) if mask.any())


def below_zero(axes: Axes, low: float) -> None:
    """The zero line, and hatching where R^aug descends."""
    axes.axhline(0.0, color="black", linewidth=2.0, gid="zero", zorder=2)
    axes.axhspan(low, 0.0, facecolor="none", edgecolor="0.8", hatch="///", linewidth=0, zorder=0)


def linear_threshold(panels: list[np.ndarray], error: float) -> float:
    """A power of ten below 99 % of all magnitudes and below each panel's lowest, the one that decides; ≥ the "
    "error."""
    sizes = np.abs(np.concatenate(panels))
    sizes = sizes[sizes > error]
    if not len(sizes):
        return max(error, 1.0)
    deciding = [abs(values.min()) for values in panels if len(values) and abs(values.min()) > error]
    wanted = min([float(np.quantile(sizes, 0.01, method="lower")), *deciding])
    return max(10.0 ** math.floor(math.log10(wanted)), error)


def symlog(axes: Axes, which: str, values: np.ndarray, error: float = 0.0) -> float:
    """A symmetric logarithmic axis, "x" or "y", that hides nothing that decides; its threshold."""
    threshold = linear_threshold([values], error)
    set_scale, axis = (axes.set_yscale, axes.yaxis) if which == "y" else (axes.set_xscale, axes.xaxis)
    set_scale("symlog", linthresh=threshold)
    locator = SymmetricalLogLocator(base=10, linthresh=threshold)
    locator.set_params(numticks=7 if on_paper() else 9)
    axis.set_major_locator(locator)
    return threshold


def decay(axes: Axes, mu: float) -> None:
    """The weight decay μ: the eigenvalue of every direction in which the data term is flat."""
    if mu > 0:
        label = f"weight decay {number(mu)}"
        axes.axhline(mu, color="0.3", linestyle="--", linewidth=1.2, label=label, zorder=1)


def legend(axes: Axes, columns: int = 2) -> None:
    """The legend below the axes, where it hides no mark."""
    text = axes.get_legend_handles_labels()[1]
    style: dict[str, Any] = {"loc": "upper center", "frameon": False, "fontsize": 10, "columnspacing": 1.2}
    if text:
        axes.legend(**style, bbox_to_anchor=(0.5, -0.16), ncols=min(1 if on_paper() else columns, len(text)))


def absent(axes: Axes, name: str, why: str, size: int = 10) -> None:
    """Say in the panel why it is empty."""
    axes.set_title(f"on {name}")
    axes.text(0.5, 0.5, fill(why, 36), ha="center", va="center", transform=axes.transAxes, fontsize=size)
    axes.set_xticks([])
