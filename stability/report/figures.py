"""Analysis → matplotlib figures of spectra and points, drawn from the JSON alone; deterministic, no pyplot state."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Callable
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, SymmetricalLogLocator

from stability.eigen import Spectrum
from stability.report import landscape, words
from stability.report.style import BLUE, GREEN, GREY, ORANGE, RED, below_zero, linear_threshold, on_paper, panels, signs
from stability.report.words import number, part
from stability.results import Analysis

KINDS = {"minimum": ("o", BLUE), "saddle": ("D", RED), "origin": ("s", GREY)}
PANELS = (("E", "$E$"), ("E_perp", r"$E^\perp$"))
LADDERS = 24
ASIDE = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
EIGENVALUE = r"eigenvalue of $\nabla^2R^{\mathrm{aug}}$ (per unit of squared weight)"


def literal(value: Any) -> Any:
    """A record whose texts are drawn as they are: a dollar begins no formula, a control character is a space."""
    if isinstance(value, str):
        return "".join(c if c.isprintable() else " " for c in value).replace("$", r"\$")
    if dataclasses.is_dataclass(value):
        return dataclasses.replace(
            value, **{f.name: literal(getattr(value, f.name)) for f in dataclasses.fields(value)}
        )
    if isinstance(value, dict):
        return {k: literal(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return value if value and isinstance(value[0], float) else type(value)(literal(v) for v in value)
    return value


def png(figure: Figure, dpi: int = 130) -> bytes:
    """The figure as a PNG file."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi)
    return stream.getvalue()


def pdf(figure: Figure) -> bytes:
    """The figure as a PDF file without a date, so that the same figure gives the same bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="pdf", dpi=300, metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return stream.getvalue()


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


def _decay(axes: Axes, analysis: Analysis) -> None:
    """The weight decay: the eigenvalue of every direction in which the data term is flat."""
    if analysis.weight_decay > 0:
        label = f"weight decay {number(analysis.weight_decay)}"
        axes.axhline(analysis.weight_decay, color="0.3", linestyle="--", linewidth=1.2, label=label, zorder=1)


def _absent(axes: Axes, analysis: Analysis, where: str, name: str) -> None:
    """Say in the panel why it is empty."""
    axes.set_title(f"on {name}")
    spectrum = (analysis.spectra or {}).get("aug", {}).get(where)
    text = "not computed" if spectrum is None else spectrum.method if spectrum.dim else "this space is {0}"
    axes.text(0.5, 0.5, fill(text, 36), ha="center", va="center", transform=axes.transAxes, fontsize=10)
    axes.set_xticks([])


def spectrum(analysis: Analysis) -> Figure | None:
    """Every eigenvalue of ∇²R^aug against its rank, on E and on E⊥; symlog, one scale for both."""
    if analysis.spectra is None:
        return None
    spectra = [part(analysis, "aug", where) for where, _ in PANELS]
    error = max((s.error for s in spectra if s), default=0.0)
    values = [measure(s)[0] for s in spectra]
    threshold = linear_threshold(values, error)
    low = min([-threshold, *(3 * v.min() for v in values if len(v))])
    high = max([threshold, *(3 * v.max() for v in values if len(v))])
    with panels(2, 4.8, sharey=True) as (figure, shown_in):
        for axes, (where, name), found in zip(shown_in, PANELS, spectra, strict=True):
            if found is None:
                _absent(axes, analysis, where, name)
            else:
                values, counts = measure(found)
                first = np.cumsum(counts) - counts + 1
                colours = np.select([values < -found.error, values > found.error], [RED, BLUE], GREY)
                axes.hlines(values, first, first + counts - 1, colors=colours, linewidth=2.5, gid=f"ticks {where}")
                for mask, label, marker, colour in signs(values, found.error):
                    shown = axes.scatter(first[mask], values[mask], s=22, marker=marker, color=colour, label=label)
                    shown.set(gid=f"values {where}", linewidth=0)
                axes.set_xscale("log")
                axes.set_xlim(0.7, max(1.5 * first[-1], 3))
                axes.xaxis.set_major_locator(LogLocator(numticks=5))
                axes.xaxis.set_major_formatter("{x:,.0f}")
                axes.xaxis.set_minor_formatter(NullFormatter())
                wide = "\n" if found.negative_count is None else " "  # the longer sentence takes a line of its own
                axes.set_title(f"on {name}, dim {found.dim:,}:{wide}{words.below_zero(found)}")
                _decay(axes, analysis)
                axes.set_xlabel("rank, counted with multiplicity" if found.complete else "rank among the Ritz values")
                axes.legend(loc="upper left", framealpha=1, fontsize=10)
            below_zero(axes, low)
        shown_in[0].set_yscale("symlog", linthresh=threshold)
        locator = SymmetricalLogLocator(base=10, linthresh=threshold)
        locator.set_params(numticks=12)
        shown_in[0].yaxis.set_major_locator(locator)
        shown_in[0].set_ylim(low, high)
        shown_in[0].set_ylabel(EIGENVALUE)
    return figure


def lowest(analysis: Analysis) -> Figure | None:
    """The lowest distinct eigenvalues of ∇²R^aug on E and on E⊥ with residuals and multiplicities."""
    if analysis.spectra is None:
        return None
    with panels(2) as (figure, shown_in):
        for axes, (where, name) in zip(shown_in, PANELS, strict=True):
            found = part(analysis, "aug", where)
            if found is None:
                _absent(axes, analysis, where, name)
                axes.set_yticks([])
                continue
            ends = found.lowest[:10]
            values, residuals = np.array([e.value for e in ends]), np.array([e.residual for e in ends])
            rank = np.arange(1, len(ends) + 1)
            axes.errorbar(rank, values, yerr=residuals, fmt="none", ecolor="black", linewidth=2, zorder=3)
            for mask, label, marker, colour in signs(values, found.error):
                shown = axes.scatter(rank[mask], values[mask], s=60, marker=marker, color=colour, label=label, zorder=4)
                shown.set_gid(f"values {where}")
            for x, e in zip(rank, ends, strict=True):
                note = " ".join(filter(None, [f"×{e.multiplicity}" if e.multiplicity else "", e.irrep]))
                slanted = {"rotation": 90, "ha": "center", "va": "bottom"} if e.irrep else {"ha": "center"}
                axes.annotate(note, (x, e.value), (0, 8), textcoords="offset points", fontsize=8, zorder=5, **slanted)
            _decay(axes, analysis)
            reach = max(np.abs(values).max(), analysis.weight_decay, found.error) or 1.0
            low, high = min(values.min(), 0.0), max(values.max(), analysis.weight_decay, 0.0)
            low, high = low - 0.12 * reach, high + 0.4 * reach
            below_zero(axes, low)
            axes.set(ylim=(low, high), xlim=(0.4, max(len(ends), 2) + 0.6))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.ticklabel_format(axis="y", scilimits=(-2, 4))
            axes.set_title(f"on {name}: lowest {number(values[0])}, residuals ≤ {number(residuals.max(), 2)}")
            axes.set_xlabel("rank (one mark a value and irrep)")
            axes.legend(loc="best", framealpha=1, fontsize=10)
        shown_in[0].set_ylabel(r"eigenvalue of $\nabla^2R^{\mathrm{aug}}$")
    return figure


def points(analysis: Analysis) -> Figure | None:
    """Gradient norm on E against risk for every point found, with the tolerance; None without points."""
    found = [p for p in analysis.points if p.grad_norm.get("eqv") is not None]
    if not found:
        return None
    norms = [p.grad_norm["eqv"] for p in found]
    tolerance = found[0].tolerance
    positive = [x for x in [*norms, tolerance] if x > 0]
    floor = 10.0 ** (math.floor(math.log10(min(positive, default=1e-16))) - 1)
    with panels(1, 5.6 if on_paper() else 4.0) as (figure, (axes,)):
        for i, (p, norm) in enumerate(zip(found, norms, strict=True), 1):
            marker, colour = KINDS.get(p.kind, ("^", GREEN))
            risk = p.risk["aug"] if p.risk.get("aug") is not None else p.risk["nominal"]
            name, score = p.metrics.get("name"), p.metrics.get("train")
            label = f"{i}  {p.kind}" + ("" if p.index_E is None else f", index {p.index_E}")
            label += "" if None in (name, score) else f", {name} {number(score)}"
            face = colour if i == 1 else "white"
            drawn = axes.scatter([risk], [max(norm, floor)], s=90, marker=marker, facecolor=face, label=label, zorder=3)
            drawn.set(edgecolor=colour, linewidth=2, gid="point", clip_on=False)  # a zero sits on the lower edge
            place = {"xytext": (0, 10 if i % 2 else -18), "textcoords": "offset points", "ha": "center"}
            axes.annotate(f"{i}" if norm else f"{i} (zero)", (risk, max(norm, floor)), **place)
        axes.axhline(tolerance, color="0.3", linestyle="--", linewidth=1.5, label=f"tolerance {number(tolerance)}")
        axes.set_yscale("log")
        axes.set_ylim(floor, max(positive, default=1.0) * 10)
        axes.margins(x=0.15)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set(xlabel=r"risk $R^{\mathrm{aug}}$", ylabel=r"gradient norm $\|\nabla R^{\mathrm{eqv}}\|$")
        aside = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.22)} if on_paper() else ASIDE
        axes.legend(**aside, fontsize=10, title="filled: the point judged")
    return figure


def escape(analysis: Analysis) -> Figure | None:
    """R^aug and the score before and after following the instability; None where nothing was followed."""
    e = analysis.escape
    if e is None:
        return None
    name = e.metrics_start.get("name")
    known = [w for w in ("train", "test") if name and None not in (e.metrics_start.get(w), e.metrics_end.get(w))]
    groups = [(r"risk $R^{\mathrm{aug}}$", [""], [e.risk_start], [e.risk_end])]
    if known:
        groups.append((name, known, [e.metrics_start[w] for w in known], [e.metrics_end[w] for w in known]))
    with panels(len(groups), 3.2) as (figure, shown_in):
        for axes, (title, labels, before, after) in zip(shown_in, groups, strict=True):
            at = np.arange(len(labels))
            for shift, heights, colour, hatch, label in (
                (-0.2, before, BLUE, None, "before, on E"),
                (0.2, after, ORANGE, "//", "after"),
            ):
                bars = axes.bar(at + shift, heights, 0.38, color=colour, hatch=hatch, edgecolor="white", label=label)
                axes.bar_label(bars, [number(h) for h in heights], padding=2, fontsize=11)
            axes.set_xticks(at, labels)
            axes.set_title(title)
            axes.grid(axis="x", visible=False)
            axes.margins(y=0.2)
        figure.legend(*shown_in[0].get_legend_handles_labels(), loc="outside right center", fontsize=10)
    return figure


def sectors(analysis: Analysis) -> Figure | None:
    """The ends of the spectrum of ∇²R^aug irrep by irrep: a ladder for each, most negative first."""
    found = [x for x in analysis.sectors if x.lowest]
    if len(found) < 2:
        return None
    found = sorted(found, key=lambda x: x.lowest[0].value)
    shown = found[:LADDERS]
    values = np.array([e.value for x in shown for e in (*x.lowest, *x.highest)])
    error = max(x.error for x in shown)
    threshold = linear_threshold([values], error)
    with panels(1, 4.8) as (figure, (axes,)):
        for column, x in enumerate(shown):
            ends = np.array([e.value for e in (*x.lowest, *x.highest)])
            axes.vlines(column, ends.min(), ends.max(), color="0.75", linewidth=1.5, zorder=1)
            for mask, _, marker, colour in signs(ends, x.error):
                drawn = axes.scatter(
                    np.full(mask.sum(), column), ends[mask], s=30, marker=marker, color=colour, zorder=3
                )
                drawn.set_gid(f"sector {x.irrep}")
        axes.set_yscale("symlog", linthresh=threshold)
        low = min(-threshold, 3 * values.min())
        axes.set_ylim(low, max(threshold, 4 * values.max()))
        below_zero(axes, low)
        _decay(axes, analysis)
        names = ["E (trivial)" if x.irrep == "trivial" else x.irrep for x in shown]
        axes.set_xticks(range(len(shown)), names, rotation=60 if len(shown) > 6 else 0, fontsize=9)
        rest = f", the {len(shown)} lowest of {len(found)}" if len(found) > len(shown) else ""
        axes.set_xlabel(f"irreducible representation{rest} (lowest and highest eigenvalues of each)")
        axes.set_ylabel(EIGENVALUE)
        if analysis.weight_decay > 0:
            axes.legend(loc="lower right", framealpha=1, fontsize=10)
        axes.set_title("which symmetry breaks: the sectors, most negative first")
    return figure


def frequencies(analysis: Analysis) -> Figure | None:
    """For translations: the lowest eigenvalue of every frequency's sector, on the grid of frequencies."""
    moduli = analysis.group.get("moduli")
    found = [x for x in analysis.sectors if x.frequency is not None and x.lowest]
    if moduli is None or len(moduli) != 2 or len(found) < 3:
        return None
    rows, columns = moduli
    grid = np.full((rows, columns), np.nan)
    for x in found:
        for k in (x.frequency, tuple(-q for q in x.frequency)):
            # zero frequency in the middle
            grid[(k[0] + rows // 2) % rows, (k[1] + columns // 2) % columns] = x.lowest[0].value
    with panels(1, 5.6) as (figure, (axes,)):
        axes.grid(False)
        extent = (-(columns // 2) - 0.5, columns - columns // 2 - 0.5, rows - rows // 2 - 0.5, -(rows // 2) - 0.5)
        image = axes.imshow(grid, cmap="cividis", extent=extent)
        image.set_gid("frequencies")
        for i, j in zip(*np.nonzero(grid < -max(x.error for x in found)), strict=True):
            bright = image.norm(grid[i, j]) > 0.5
            style = {"ha": "center", "va": "center", "fontsize": 13, "fontweight": "bold"}
            style["color"] = "black" if bright else "white"
            axes.text(j - columns // 2, i - rows // 2, "–", **style)
        figure.colorbar(image, ax=axes, label="lowest eigenvalue of the sector (per unit of squared weight)")
        axes.set_xlabel("horizontal frequency (periods per image width)")
        axes.set_ylabel("vertical frequency (periods per image height)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title("which pattern wants to grow: – marks the unstable frequencies, E is the middle")
    return figure


def mode(analysis: Analysis) -> Figure | None:
    """The lowest mode in one channel: the input, the channel's response, and what the mode adds to it."""
    m = analysis.mode
    if m is None or not words.moves(analysis):
        return None
    panels_shown = [] if m.input is None else [("input", m.input, "gray")]
    panels_shown.append((f"channel {m.channel} of {m.layer}", m.response, "cividis"))
    names = ["added"] if len(m.change) == 1 else [f"added, partner {j + 1}" for j in range(len(m.change))]
    panels_shown += [(name, change, "cividis") for name, change in zip(names, m.change, strict=True)]
    reach = max(abs(v) for change in m.change for row in change for v in row)
    with panels(len(panels_shown), 3.2, images=True) as (figure, shown_in):
        for axes, (title, values, colours) in zip(shown_in, panels_shown, strict=True):
            axes.grid(False)
            grid = np.array(values)
            limits = {"vmin": -reach, "vmax": reach} if title.startswith("added") else {}
            image = axes.imshow(grid, cmap=colours, **limits)
            image.set_gid(f"mode {title}")
            axes.set_xticks([])
            axes.set_yticks([])
            if len(grid) == 1:  # no grid: the entries in their order
                axes.set_aspect("auto")
                axes.set_xlabel("entry", fontsize=8)
            axes.set_title(title, fontsize=11)
            figure.colorbar(image, ax=axes, location="bottom", shrink=0.9).ax.tick_params(labelsize=8)
        which = "most negative" if m.value < 0 else "lowest"
        figure.suptitle(f"the {which} mode, {m.irrep}, eigenvalue {number(m.value)}, per unit of weight", fontsize=12)
    return figure


FIGURES: dict[str, Callable[[Analysis], Figure | None]] = {
    "spectrum": spectrum,
    "lowest": lowest,
    "sectors": sectors,
    "frequencies": frequencies,
    "mode": mode,
    "points": points,
    "choices": landscape.choices,
    "density": landscape.density,
    "slices": landscape.slices,
    "plane": landscape.plane,
    "flow": landscape.flow,
    "steps": landscape.steps,
    "kernel": landscape.kernel,
    "breaking": landscape.breaking,
    "training": landscape.training,
    "escape": escape,
}
