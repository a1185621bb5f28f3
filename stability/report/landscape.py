"""Analysis → matplotlib figures beyond spectra: densities, slices, runs from the point, what the instability does."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, SymmetricalLogLocator

from stability import density as measures
from stability.density import Shares
from stability.report.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    below_zero,
    linear_threshold,
    on_paper,
    panels,
    signs,
)
from stability.report.words import NAMES, number, part
from stability.results import Analysis

SPACES = (("E", "$E$"), ("E_perp", r"$E^\perp$"))
CURVATURE = r"eigenvalue of $\nabla^2R^{\mathrm{aug}}$"
OFF = r"$\|A_{E^\perp}\|$"
LINES = ("-", "--", ":", "-.")


def _symlog(axes: Axes, which: str, values: np.ndarray, error: float = 0.0) -> float:
    """A symmetric logarithmic axis that hides nothing that decides; its threshold."""
    threshold = linear_threshold([values], error)
    set_scale, axis = (axes.set_yscale, axes.yaxis) if which == "y" else (axes.set_xscale, axes.xaxis)
    set_scale("symlog", linthresh=threshold)
    locator = SymmetricalLogLocator(base=10, linthresh=threshold)
    locator.set_params(numticks=7 if on_paper() else 9)
    axis.set_major_locator(locator)
    return threshold


# ------------------------------------------------------------------------------------------------- density


def shares_of(analysis: Analysis, where: str) -> Shares | None:
    """The density stored; of a run without one, a whole spectrum counted or the weights of its Krylov run."""
    stored = (analysis.pictures.shares if analysis.pictures else {}).get(where)
    spectrum = part(analysis, "aug", where)
    if stored is not None or spectrum is None or spectrum.density is None:
        return stored
    if spectrum.complete:
        return measures.exact(spectrum)
    return measures.from_one_vector(spectrum, analysis.sectors, where)


def density(analysis: Analysis) -> Figure | None:
    """The share of the dimensions by eigenvalue, on E and on E⊥, with standard errors where it is estimated."""
    found = {where: shares_of(analysis, where) for where, _ in SPACES}
    if not any(found.values()):
        return None
    with panels(2, 4.2) as (figure, shown_in):
        for axes, (where, name) in zip(shown_in, SPACES, strict=True):
            shares = found[where]
            axes.set_title(f"on {name}")
            if shares is None:
                axes.text(0.5, 0.5, "not computed", ha="center", va="center", transform=axes.transAxes)
                axes.set(xticks=[], yticks=[])
                continue
            spectrum = part(analysis, "aug", where)
            edges, share, error = map(np.array, (shares.edges, shares.share, shares.error))
            floor = 0.5 * min(share[share > 0].min(), 1 / spectrum.dim)
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
                style = {"fmt": "none", "ecolor": "black", "linewidth": 1.2, "label": "standard error"}
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
            axes.set_title(f"on {name}, dim {spectrum.dim:,}")
            axes.legend(loc="upper left", framealpha=1, fontsize=9)
        shown_in[0].set_ylabel("share of the dimensions in a bin")
    return figure


def _middles(edges: np.ndarray) -> np.ndarray:
    """Geometric where a bin is away from zero, so that it stands in the middle on a logarithmic axis."""
    a, b = edges[:-1], edges[1:]
    same = a * b > 0
    return np.where(same, np.sign(a) * np.sqrt(np.abs(np.where(same, a * b, 1.0))), (a + b) / 2)


# -------------------------------------------------------------------------------------------------- slices


def slices(analysis: Analysis) -> Figure | None:
    """R^aug, R and R^eqv minus their value at the point along the lowest modes on E⊥ and on E, with predictions."""
    found = analysis.pictures.slices if analysis.pictures else {}
    if not found:
        return None
    with panels(len(found), 4.4) as (figure, shown_in):
        for axes, where in zip(shown_in, found, strict=True):
            line, name = found[where], dict(SPACES)[where]
            t, middle = np.array(line.at), len(line.at) // 2
            curves = (
                ("aug", line.aug, BLUE, "-", "o", r"$R^{\mathrm{aug}}$"),
                ("nominal", line.nominal, ORANGE, "--", None, "$R$"),
                ("eqv", line.eqv, GREEN, ":", None, r"$R^{\mathrm{eqv}}$"),
            )
            predicted = np.array(line.predicted()) - line.aug[middle]
            for key, values, colour, style, marker, label in curves:
                axes.plot(
                    *(t, np.array(values) - values[middle]), style, color=colour, marker=marker, markersize=3.5,
                    linewidth=2.2, label=label, gid=f"{key} {where}", zorder=4 if key == "aug" else 3,
                )  # fmt: skip
            label = rf"$\frac{{1}}{{2}}\lambda t^2$, $\lambda$ = {number(line.value)}"
            axes.plot(t, predicted, "-.", color="black", linewidth=1.4, label=label, gid=f"predicted {where}", zorder=5)
            aug = np.array(line.aug) - line.aug[middle]
            low, high = min(aug.min(), predicted.min(), 0.0), max(aug.max(), predicted.max(), 0.0)
            room = 0.25 * (high - low) or 1.0
            axes.set_ylim(low - room, high + room)
            below_zero(axes, low - room)
            axes.ticklabel_format(axis="y", scilimits=(-2, 3))
            axes.xaxis.set_major_locator(MaxNLocator(5))
            which = "E (trivial)" if where == "E" else f"sector {line.irrep}" if line.irrep else "lowest mode"
            axes.set_title(f"along the lowest mode on {name}: {which}")
            axes.set_xlabel("distance $t$ from the point (unit of the weights)")
            axes.legend(loc="best", framealpha=1, fontsize=10)
        shown_in[0].set_ylabel("risk minus risk at the point (units of the loss)")
    return figure


def plane(analysis: Analysis) -> Figure | None:
    """R^aug minus its value at the point over the lowest mode on E (across) and on E⊥ (up)."""
    found = analysis.pictures.plane if analysis.pictures else None
    if found is None:
        return None
    s, t, values = map(np.array, (found.along, found.across, found.aug))
    change = values - values[len(t) // 2, len(s) // 2]
    sizes = np.abs(change[np.abs(change) > 0])
    linear = float(np.quantile(sizes, 0.1)) if len(sizes) else 1.0
    top = float(sizes.max()) if len(sizes) else 1.0
    with panels(1, 5.4) as (figure, (axes,)):
        axes.grid(False)
        norm = SymLogNorm(linthresh=linear, vmin=-top, vmax=top, base=10)
        image = axes.pcolormesh(s, t, change, cmap="PuOr_r", norm=norm, shading="nearest")
        image.set_gid("plane")
        image.set_rasterized(True)
        if change.min() < 0 < change.max():
            axes.contour(s, t, change, levels=[0.0], colors="black", linewidths=1.8)
        axes.axhline(0.0, color="black", linewidth=1.2, linestyle="--", gid="E")
        axes.plot(0, 0, marker="x", color="black", markersize=11, markeredgewidth=2.5)
        axes.annotate("E", (s[-1], 0), (-4, 4), textcoords="offset points", ha="right", fontsize=11)
        bar = figure.colorbar(image, ax=axes, label=r"$R^{\mathrm{aug}}$ minus its value at the point")
        bar.ax.axhline(0.0, color="black", linewidth=1.5, gid="zero")
        axes.set_xlabel(rf"along the lowest mode on $E$, $\lambda$ = {number(found.value_E)}")
        axes.set_ylabel(rf"along the lowest mode on $E^\perp$, $\lambda$ = {number(found.value_E_perp)}")
        axes.set_title("×: the point; dashed: E; black line: where the risk is that of the point")
    return figure


# ---------------------------------------------------------------------------------------------------- runs


def flow(analysis: Analysis) -> Figure | None:
    """‖A_{E⊥}‖ along exact augmented flow from the point plus a push, with ε e^{−λt}; the risk beside it."""
    run = analysis.pictures.flow if analysis.pictures else None
    if run is None:
        return None
    times = np.array(run.times)
    with panels(2, 4.2) as (figure, (axes, beside)):
        axes.plot(times, run.off_equivariance, "o-", color=BLUE, markersize=4.5, label="measured", gid="measured")
        fine = np.linspace(0, times[-1], 200)
        label = rf"predicted, $\varepsilon\,e^{{-\lambda t}}$, $\lambda$ = {number(run.value)}"
        axes.plot(fine, run.predicted(fine), "--", color="black", linewidth=1.6, label=label, gid="predicted")
        axes.axhline(run.norm, color=GREY, linestyle=":", linewidth=1.5, label=rf"$\|A\|$ = {number(run.norm)}")
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("flow time (step size × steps)")
        axes.set_ylabel(rf"distance from $E$, {OFF}")
        axes.set_title("grows: augmented training leaves E" if run.value < 0 else "decays: it falls back to E")
        axes.legend(loc="best", framealpha=1, fontsize=9)
        change = np.array(run.risk) - run.risk[0]
        beside.plot(times, change, "o-", color=BLUE, markersize=4.5, gid="risk")
        low, high = min(change.min(), 0.0), max(change.max(), 0.0)
        room = 0.1 * (high - low) or 1.0
        below_zero(beside, low - room)
        beside.set_ylim(low - room, high + room)
        beside.ticklabel_format(axis="y", scilimits=(-2, 3))
        beside.xaxis.set_major_locator(MaxNLocator(5))
        beside.set_xlabel("flow time (step size × steps)")
        beside.set_ylabel(r"$R^{\mathrm{aug}}$ minus its start (units of the loss)")
        beside.set_title("the risk on the way")
    return figure


def steps(analysis: Analysis) -> Figure | None:
    """‖A_{E⊥}‖ with steps below and above 2/λ_max on E⊥, pushed along the top mode, with ε|1 − τλ|^k."""
    runs = analysis.pictures.steps if analysis.pictures else ()
    if not runs:
        return None
    with panels(1, 5.6 if on_paper() else 4.2) as (figure, (axes,)):
        for run, colour, marker in zip(runs, (BLUE, RED), "ov", strict=False):
            label = rf"$\tau$ = {number(run.step)}, {run.step / run.critical_step:.1f} of the critical step"
            k = np.array(run.times)
            axes.plot(k, run.off_equivariance, marker, color=colour, markersize=7, label=label, gid="measured")
            factor = abs(1 - run.step * run.value)
            label = rf"predicted, $\varepsilon|1-\tau\lambda|^k$ = {number(run.push)} × {factor:.2f}$^k$"
            axes.plot(k, run.predicted(), "--", color=colour, linewidth=1.8, label=label, gid="predicted")
        axes.axhline(runs[0].push, color=GREY, linestyle=":", linewidth=1.5, label="the push")
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("steps of exact augmented descent")
        axes.set_ylabel(rf"distance from $E$, {OFF}")
        named = f", sector {runs[0].irrep}" if runs[0].irrep else ""
        axes.set_title(
            rf"critical step $2/\lambda_{{\max}}$ = {number(runs[0].critical_step)} on $E^\perp$"
            rf" ($\lambda_{{\max}}$ = {number(runs[0].value)}{named})"
        )
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2)} if on_paper() else {"loc": "best"}
        axes.legend(**below, framealpha=1, fontsize=9)
    return figure


# ---------------------------------------------------------------------------------------------- the network


def kernel(analysis: Analysis) -> Figure | None:
    """One kernel of the layer that changed most: before, the same from everywhere; after, seen from several "
    "places."""
    found = analysis.pictures.kernel if analysis.pictures else None
    if found is None:
        return None
    before, after = np.array(found.before), [np.array(view) for view in found.after]
    reach = np.abs(before).max()
    # A change that the kernel's own scale would hide is shown on one of its own.
    shared = before if found.shared is None else np.array(found.shared)
    if found.shared is None and len(after) == analysis.group["order"]:
        shared = np.mean(after, axis=0)
    small = max(np.abs(x - shared).max() for x in after) < 0.3 * reach
    views = [x - shared for x in after] if small else after
    scale = max(np.abs(x).max() for x in views)
    with panels(1 + len(after), 3.3, images=True) as (figure, shown_in):
        titles = [
            "before,\nfrom everywhere",
            *(f"{'deviation' if small else 'after'},\nfrom g = {g}" for g in found.elements),
        ]
        limits = [reach if small else max(reach, scale)] + [scale if small else max(reach, scale)] * len(after)
        for axes, values, title, limit in zip(shown_in, (before, *views), titles, limits, strict=True):
            axes.grid(False)
            image = axes.imshow(values, cmap="PuOr_r", vmin=-limit, vmax=limit)
            image.set_gid("kernel")
            axes.set(xticks=[], yticks=[])
            if len(values) == 1:  # no grid: the entries in their order
                axes.set_aspect("auto")
                axes.set(xticks=range(values.shape[1]), xlabel="entry")
            axes.set_title(title, fontsize=9)
        first = figure.colorbar(shown_in[0].images[0], ax=shown_in[0], location="bottom", label="weight")
        rest = figure.colorbar(
            image,
            ax=shown_in[1:],
            location="bottom",
            label="after, minus its mean over the group" if small else "weight",
        )
        for bar in (first, rest):
            bar.ax.tick_params(labelsize=7)
            bar.ax.xaxis.set_major_locator(MaxNLocator(3 if bar is first else 5))
        figure.suptitle(
            f"kernel of {found.layer}, channel {found.source_channel} → {found.target_channel}\n", fontsize=11
        )
    return figure


def breaking(analysis: Analysis) -> Figure | None:
    """What the network says of one sample and its transforms, while the symmetry breaks."""
    found = analysis.pictures.breaking if analysis.pictures else None
    if found is None:
        return None
    losses = np.array(found.losses)
    shown = np.exp(-losses) if found.probability else losses
    end = None if found.end is None else (np.exp(-np.array(found.end)) if found.probability else np.array(found.end))
    with panels(2 if end is not None else 1, 4.2, sharey=True) as (figure, shown_in):
        axes, times = shown_in[0], np.array(found.times)
        for i, column in enumerate(shown.T):
            axes.plot(times, column, LINES[i % 4], color=BLUE, alpha=0.7, linewidth=1.3, gid="transform")
        axes.set_xlabel("flow time of augmented training (step size × steps)")
        axes.set_ylabel("probability of the right answer" if found.probability else "loss of the sample")
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        if found.probability:
            axes.set_ylim(-0.03, 1.03)
        axes.set_title(f"training sample {found.sample}, one line for each of {len(found.elements)} transforms")
        if end is not None:
            beside = shown_in[1]
            order = np.arange(1, len(end) + 1)
            beside.plot(order, np.sort(end), "v", color=RED, markersize=6, label="where it ends", gid="end")
            start = np.sort(shown[0])
            label = "after the push off E" if analysis.pictures.flow else "at the point on E"
            if found.start is not None:
                start, label = (
                    np.sort(np.exp(-np.array(found.start)) if found.probability else found.start),
                    "at the point on E",
                )
            beside.plot(order, start, "o", color=BLUE, markersize=5, label=label, gid="start")
            beside.xaxis.set_major_locator(MaxNLocator(integer=True))
            beside.set_xlabel("transforms of the sample, sorted")
            beside.set_title("before and after")
            beside.legend(loc="best", framealpha=1, fontsize=9)
    return figure


def training(analysis: Analysis) -> Figure | None:
    """λ_min on E and in every sector of E⊥ along equivariant training; of E alone where E⊥ was not looked at."""
    found = analysis.training
    if found is None:
        return None
    epochs = np.array(found.epochs)
    names = [e.irrep for e in found.lowest[0]]
    table = np.array([[e.value for e in row] for row in found.lowest])
    with panels(2, 4.4) as (figure, (axes, beside)):
        for i, name in enumerate(names):
            if name != "trivial":
                axes.plot(epochs, table[:, i], color="0.7", linewidth=1.0, gid=f"sector {name}", zorder=2)
        across, on_e = found.across(), found.on_e()
        for ends, colour, marker, label in (
            (on_e, BLUE, "o", "$E$: equivariant training"),
            (across, RED, "v", r"$E^\perp$: whether augmented training leaves $E$"),
        ):
            if not ends:
                continue
            values, residuals = np.array([e.value for e in ends]), np.array([e.residual for e in ends])
            gid = "E" if colour == BLUE else "E_perp"
            axes.errorbar(epochs, values, yerr=residuals, color=colour, marker=marker, label=label, gid=gid, zorder=4)
            axes.lines[-1].set_gid(gid)
        _symlog(axes, "y", table.ravel())
        low, high = min(table.min() * 2, -1e-12), max(table.max() * 2, 1e-12)
        if table.min() > 0:
            low = -0.2 * table.min()
        below_zero(axes, low)
        axes.set_ylim(low, high)
        axes.set_xlabel("epochs of equivariant training")
        axes.set_ylabel(r"$\lambda_{\min}$ of $\nabla^2R^{\mathrm{aug}}$")
        axes.set_title("grey: every sector" if across else "no sector of $E^\\perp$ was looked at")
        axes.legend(loc="best", framealpha=1, fontsize=9)
        beside.plot(epochs, found.risk, "o-", color=BLUE, gid="risk")
        beside.set_xlabel("epochs of equivariant training")
        beside.set_ylabel("risk $R$ (units of the loss)")
        beside.set_title(f"the run, step {number(found.step)}")
    return figure


def choices(analysis: Analysis) -> Figure | None:
    """λ_min on E and on E⊥ at every point found, against its risk."""
    found = [p for p in analysis.points if any(e.irrep != "trivial" for e in p.lowest)]
    if len(found) < 2:
        return None
    risks = np.array([p.risk["eqv"] for p in found])
    on_e = [next(e for e in p.lowest if e.irrep == "trivial") for p in found]
    across = [min((e for e in p.lowest if e.irrep != "trivial"), key=lambda e: e.value) for p in found]
    everything = np.array([e.value for e in (*on_e, *across)])
    with panels(1, 4.2) as (figure, (axes,)):
        rank = np.arange(1, len(found) + 1)
        for ends, colour, marker, shift, label, gid in (
            (on_e, BLUE, "o", -0.1, "on $E$", "E"),
            (across, ORANGE, "D", 0.1, r"on $E^\perp$", "E_perp"),
        ):
            values = [e.value for e in ends]
            style = {"color": colour, "marker": marker, "markersize": 9, "linestyle": "none"}
            axes.errorbar(rank + shift, values, yerr=[e.residual for e in ends], label=label, **style)
            axes.lines[-1].set_gid(gid)
        for x, e in zip(rank, across, strict=True):
            axes.annotate(e.irrep, (x + 0.1, e.value), (8, -3), textcoords="offset points", fontsize=9)
        threshold = _symlog(axes, "y", everything)
        low = min(3 * everything.min(), -threshold)
        below_zero(axes, low)
        axes.set_ylim(low, max(3 * everything.max(), threshold))
        names = [
            f"{i}: {NAMES.get(p.kind, p.kind)}\n$R$ = {number(r, 4)}"
            for i, p, r in zip(rank, found, risks, strict=True)
        ]
        axes.set_xticks(rank, names)
        axes.set_xlim(0.5, len(found) + 0.7)
        axes.set_xlabel("points found, best first")
        axes.set_ylabel(r"$\lambda_{\min}$ of $\nabla^2R^{\mathrm{aug}}$")
        axes.set_title("which of the points found does augmented training leave?")
        axes.legend(loc="best", framealpha=1, fontsize=9)
    return figure
