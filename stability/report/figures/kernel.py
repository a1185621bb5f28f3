"""One kernel of the layer that changed most: before, the same from everywhere; after, seen from several places."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from stability.effects.breaking import Kernel
from stability.report.figures.figure import Figure, Omitted
from stability.report.rows import Rows, grid
from stability.report.style import SIGNED, panels
from stability.report.words import number
from stability.results import Analysis

# Of the kernel's own scale: a deviation below is shown on a scale of its own.
SMALL = 0.3
# Of it too: a dependence on the place below is called slight. And of the typical weight: one below is rounding.
SLIGHT, ROUNDING = 1e-3, 1e-9


def look(analysis: Analysis) -> Kernel | Omitted | None:
    """The kernel before and after, where it depends on the place by more than rounding: the layer as a whole may have
    left E and this kernel not."""
    kernel = analysis.pictures.kernel if analysis.pictures else None
    if kernel is None:
        return None
    differs = spread(kernel)
    if differs > ROUNDING * _scale(analysis, kernel):
        return kernel
    seen = f"differs by {number(differs, 2)} between places, which is rounding" if differs else "is the same everywhere"
    return Omitted(f"the {_which(kernel)}, {seen}")


def _which(kernel: Kernel) -> str:
    return (
        f"kernel of {kernel.layer} from channel {kernel.source_channel} to {kernel.target_channel}, of those at the "
        "layer's middle output the one that changed most"
    )


def spread(kernel: Kernel) -> float:
    """By how much an entry differs between the places it is seen from."""
    after = np.array(kernel.after)
    return float(np.ptp(after, axis=0).max())


def _scale(analysis: Analysis, kernel: Kernel) -> float:
    """The size of a weight: of this kernel, or a typical one of the network or of what left E, where this is empty."""
    run, left = analysis.pictures.flow if analysis.pictures else None, analysis.escape
    whole = max(run.norm if run else 0.0, left.off_equivariance if left else 0.0) / math.sqrt(analysis.dims["L"])
    return max(float(np.abs(kernel.before).max()), float(np.abs(kernel.after).max()), whole)


def _views(analysis: Analysis, kernel: Kernel) -> tuple[list[np.ndarray], bool]:
    """What is drawn beside the kernel before; whether it is the deviation alone."""
    before, after = np.array(kernel.before), [np.array(view) for view in kernel.after]
    shared = before if kernel.shared is None else np.array(kernel.shared)
    if kernel.shared is None and len(after) == analysis.group["order"]:
        shared = np.mean(after, axis=0)
    small = bool(max(np.abs(x - shared).max() for x in after) < SMALL * np.abs(before).max())
    return [x - shared for x in after] if small else after, small


def paint(analysis: Analysis, kernel: Kernel) -> Canvas:
    """Images on scales even about zero."""
    before = np.array(kernel.before)
    views, small = _views(analysis, kernel)
    reach, scale = np.abs(before).max(), max(np.abs(x).max() for x in views)
    with panels(1 + len(views), 3.3, images=True) as (canvas, shown_in):
        titles = [
            "before,\nfrom everywhere",
            *(f"{'deviation' if small else 'after'},\nfrom g = {g}" for g in kernel.elements),
        ]
        limits = [reach if small else max(reach, scale)] + [scale if small else max(reach, scale)] * len(views)
        for axes, values, title, limit in zip(shown_in, (before, *views), titles, limits, strict=True):
            axes.grid(False)
            image = axes.imshow(values, cmap=SIGNED, vmin=-limit, vmax=limit)
            image.set_gid("kernel")
            axes.set(xticks=[], yticks=[])
            if len(values) == 1:  # no grid: the entries in their order
                axes.set_aspect("auto")
                axes.set(xticks=range(values.shape[1]), xlabel="entry")
            axes.set_title(title, fontsize=9)
        first = canvas.colorbar(shown_in[0].images[0], ax=shown_in[0], location="bottom", label="weight")
        label = "after, minus its mean over the group" if small else "weight"
        rest = canvas.colorbar(image, ax=shown_in[1:], location="bottom", label=label)
        for bar in (first, rest):
            bar.ax.tick_params(labelsize=7)
            bar.ax.xaxis.set_major_locator(MaxNLocator(3 if bar is first else 5))
        canvas.suptitle(
            f"kernel of {kernel.layer}, channel {kernel.source_channel} → {kernel.target_channel}\n", fontsize=11
        )
    return canvas


def say(_: Analysis, kernel: Kernel) -> str:
    """How far the kernel came to depend on the place."""
    reach, differs = float(np.abs(np.array(kernel.before)).max()), spread(kernel)
    seen = (
        "After augmented training along the instability it depends on the place, that is on the group element g it is "
        "seen from (right)"
        if differs > SLIGHT * reach
        else "After augmented training along the instability it hardly depends on the place (right: what it does, "
        "magnified)"
    )
    return (
        f"The {_which(kernel)}. On E it is the same from every place (left). {seen}: entries differ by up to "
        f"{number(differs)} between places, where the kernel on E reaches {number(reach)}."
    )


def rows(_: Analysis, kernel: Kernel) -> Rows:
    """Every entry."""
    table = grid("before", kernel.before)
    for g, view in zip(kernel.elements, kernel.after, strict=True):
        table += grid(f"after, g = {g}", view)
    return ("kernel", "row", "column", "weight"), table


def tell(_: Analysis, kernel: Kernel) -> str:
    """How far the images differ."""
    return (
        f"Images of one kernel of {kernel.layer} before, and after from {len(kernel.after)} places, between which its "
        f"entries differ by up to {number(spread(kernel))}."
    )


FIGURE = Figure("kernel", "What happens to a kernel", look, paint, say, rows, tell)
