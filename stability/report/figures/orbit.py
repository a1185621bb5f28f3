"""One sample of the user's data under the group, with what is predicted of it before and after the symmetry broke."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure as Canvas

from stability.effects.breaking import Breaking
from stability.report.figures import breaking
from stability.report.figures.figure import Figure
from stability.report.rows import Rows, grid
from stability.report.style import SIGNED, panels
from stability.report.words import number
from stability.results import Analysis


def look(analysis: Analysis) -> Breaking | None:
    """The sample with its images, where predictions of its transforms differ by more than rounding."""
    found = breaking.look(analysis)
    return found if isinstance(found, Breaking) and found.images else None


def values(found: Breaking) -> list[tuple[str, float, float]]:
    """(g, before, after) of every image: probabilities of the right answer where losses stand for them."""
    before = found.losses[0] if found.start is None else found.start
    after = found.losses[-1] if found.end is None else found.end
    ends = [breaking.shown(found, line) for line in (before, after)]
    return [(found.elements[i], float(ends[0][i]), float(ends[1][i])) for i in found.shown]


def paint(_: Analysis, found: Breaking) -> Canvas:
    """The images side by side on one scale."""
    images = [np.array(image) for image in found.images]
    low, high = min(x.min() for x in images), max(x.max() for x in images)
    reach = max(abs(low), abs(high))
    scale = {"cmap": SIGNED, "vmin": -reach, "vmax": reach} if low < 0 else {"cmap": "gray", "vmin": low, "vmax": high}
    with panels(len(images), 3.2, images=True) as (canvas, shown_in):
        for axes, image, (g, before, after) in zip(shown_in, images, values(found), strict=True):
            axes.grid(False)
            axes.imshow(image, **scale).set_gid("sample")
            axes.set(xticks=[], yticks=[])
            if len(image) == 1:  # no grid: the entries in their order
                axes.set_aspect("auto")
            axes.set_title(f"g = {g}\n{number(before)} → {number(after)}", fontsize=10)
        canvas.suptitle(f"training sample {found.sample}: {breaking.what(found)}, before → after", fontsize=11)
    return canvas


def say(_: Analysis, found: Breaking) -> str:
    """What an equivariant network says of the images, and what this one comes to say."""
    after = [there for _g, _before, there in values(found)]
    return (
        f"Training sample {found.sample} as the group moves it (the first channel, where there are several). An "
        f"equivariant network says the same of all of them; after the instability has been followed the "
        f"{breaking.what(found)} goes from {number(min(after))} to {number(max(after))}, from one image to another."
    )


def rows(_: Analysis, found: Breaking) -> Rows:
    """Every pixel."""
    table = [row for i, image in zip(found.shown, found.images, strict=True) for row in grid(found.elements[i], image)]
    return ("transform", "row", "column", "value"), table


def tell(_: Analysis, found: Breaking) -> str:
    """The numbers above the images."""
    told = "; ".join(f"g = {g}: {number(before)} before, {number(after)} after" for g, before, after in values(found))
    return f"Images of a training sample under the group, with the {breaking.what(found)}. {told}."


FIGURE = Figure("orbit", "What it does to your data", look, paint, say, rows, tell)
