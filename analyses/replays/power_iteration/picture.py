"""What the method shows beside what there is, and how far down the list the first negative eigenvalue stands."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyses.replays.power_iteration.measure import TOP, looks
from analyses.replays.power_iteration.networks import NETWORKS

PLACES = [(network, when) for network in NETWORKS for when in looks(network)]
ORANGE, BLUE = "#d55e00", "#0072b2"


def draw(rows: Sequence[dict]) -> Figure:
    """Left: eigenvalues; right: the place of the first negative one by modulus."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _values(left, rows)
    _places(right, rows)
    for axes in (left, right):
        axes.set_xticks(range(len(PLACES)), [f"{n}\n{w.replace(' on', chr(10) + 'on')}" for n, w in PLACES])
        axes.tick_params(axis="x", labelsize="small")
        axes.set_xlim(-0.5, len(PLACES) - 0.5)
    return figure


def _values(axes: Axes, rows: Sequence[dict]) -> None:
    for x, row in _placed(rows):
        values = [v for batch in row["shown"] for v in batch]
        axes.plot([x - 0.22] * len(values), values, "_", color="0.45", markersize=9, label="shown: top five by |λ|")
        axes.plot(x, row["own"]["lowest"], "v", color=ORANGE, label="lowest, own weights, all data")
        axes.plot(x + 0.2, row["E_perp"]["lowest"], "D", color=BLUE, fillstyle="none", label="lowest on $E^\\perp$")
    axes.axhline(0, color="black", linewidth=1)
    axes.set_yscale("symlog", linthresh=1e-3)
    axes.set_ylabel(r"eigenvalue of $\nabla^2R^{\mathrm{aug}}$")
    handles = {label: h for h, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    axes.legend(
        handles.values(), handles.keys(), fontsize="small", loc="upper center", bbox_to_anchor=(0.5, 1.1), ncols=3
    )


def _places(axes: Axes, rows: Sequence[dict]) -> None:
    for x, row in _placed(rows):
        for shift, part, marker, colour, fill in ((0, "own", "v", ORANGE, "full"), (0.2, "E_perp", "D", BLUE, "none")):
            place = row[part]["first_negative"]
            if place is not None:
                axes.plot(x + shift, place, marker, color=colour, fillstyle=fill)
    axes.axhline(TOP + 0.5, color="black", linestyle="--", linewidth=1)
    axes.text(len(PLACES) - 0.55, TOP + 0.3, "five are shown", ha="right", va="top", fontsize="small")
    axes.set_yscale("log")
    axes.set_ylabel("place of the first negative eigenvalue by |λ|")


def _placed(rows: Sequence[dict]) -> list[tuple[float, dict]]:
    """Rows with their place on the axis, seeds side by side."""
    return [(PLACES.index((r["network"], r["when"])) + 0.07 * r["seed"], r) for r in rows]
