"""One kernel of the layer that changed most: before, the same from everywhere; after, seen from several places."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from stability.breaking import Kernel
from stability.report.figures.figure import Figure
from stability.report.rows import Rows, grid
from stability.report.style import panels
from stability.report.words import number
from stability.results import Analysis

# Of the kernel's own scale: a deviation below is shown on a scale of its own.
SMALL = 0.3


def look(analysis: Analysis) -> Kernel | None:
    """The kernel before and after."""
    return analysis.pictures.kernel if analysis.pictures else None


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
            image = axes.imshow(values, cmap="PuOr_r", vmin=-limit, vmax=limit)
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
    reach, after = float(np.abs(np.array(kernel.before)).max()), [np.array(x) for x in kernel.after]
    spread = max(float(np.abs(x - after[0]).max()) for x in after)
    seen = (
        "After augmented training along the instability it depends on the place, that is on the group element g it is "
        "seen from (right)"
        if spread > 1e-3 * reach
        else "Augmented training along the instability came back to E, and there it is nearly the same again (right: "
        "what is left, magnified)"
    )
    return (
        f"The kernel of {kernel.layer} from channel {kernel.source_channel} to {kernel.target_channel} that changed "
        f"most. On E it is the same from every place (left). {seen}: entries differ by up to {number(spread)} between "
        f"places, where the kernel on E reaches {number(reach)}."
    )


def rows(_: Analysis, kernel: Kernel) -> Rows:
    """Every entry."""
    table = grid("before", kernel.before)
    for g, view in zip(kernel.elements, kernel.after, strict=True):
        table += grid(f"after, g = {g}", view)
    return ("kernel", "row", "column", "weight"), table


FIGURE = Figure("kernel", "What happens to a kernel", look, paint, say, rows)
