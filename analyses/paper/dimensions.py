"""How small is E? dim E against dim L, layer by layer, for the three tasks and for TRANS under four groups.

    python -m analyses.dimensions [--size paper] [--out reports/dimensions]

Exact integers from the group algebra alone: dim Hom_G(X, Y) is the number of orbits of G on index pairs. Writes
dimensions.json, a table (README.md) and dimensions.png.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from analyses.lab.command import command
from analyses.lab.publish import Section, save_figure
from analyses.lab.publish import table as html_table
from analyses.lab.rows import dumps
from stability.base.storage import prepare_folder, write
from stability.problem.space import ParameterSpace
from stability.tasks import TaskOptions, load

matplotlib.use("Agg")

CASES = (
    ("perm", "symmetric"),
    ("trans", "torus"),
    ("rot", "rotations"),
    ("trans", "rotations"),
    ("trans", "rows"),
    ("trans", "roto-translations"),
)


@dataclass(frozen=True)
class Dimensions:
    """dim E and dim L of one network, and of each of its layers (name, dim L, dim E)."""

    task: str
    group: str
    order: int
    dim_l: int
    dim_e: int
    layers: tuple[tuple[str, int, int], ...]

    @property
    def share(self) -> Fraction:
        """dim E / dim L."""
        return Fraction(self.dim_e, self.dim_l)


def dimensions(task: str, space: ParameterSpace) -> Dimensions:
    """Of a parameter space, exact."""
    layers = tuple(
        (f"{layer.source.name} → {layer.target.name}", layer.dim, size)
        for layer, size in zip(space.layers, space.sizes, strict=True)
    )
    return Dimensions(task, space.group.name, space.group.order, space.dim, space.dim_equivariant, layers)


def table(rows: list[Dimensions]) -> str:
    """Markdown: totals, then layers."""
    lines = ["# dim E against dim L", "", "| task | group | order | dim E | dim L | dim E / dim L |"]
    lines += ["| --- | --- | ---: | ---: | ---: | ---: |"]
    for r in rows:
        lines.append(f"| {r.task} | {r.group} | {r.order:,} | {r.dim_e:,} | {r.dim_l:,} | {float(r.share):.3g} |")
    for r in rows:
        lines += [
            "",
            f"## {r.task}, {r.group}",
            "",
            "| layer | dim E | dim L | share |",
            "| --- | ---: | ---: | ---: |",
        ]
        lines += [f"| {name} | {e:,} | {whole:,} | {e / whole:.3g} |" for name, whole, e in r.layers]
    return "\n".join(lines) + "\n"


def draw(rows: list[Dimensions]) -> Figure:
    """dim E / dim L of every case, with the line 1/|G| of a free action beside it; logarithmic."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    ordered = sorted(rows, key=lambda r: r.share)
    names = [f"{r.task}, {r.group}" for r in ordered]
    axes.barh(names, [float(r.share) for r in ordered], color="0.6", label="dim E / dim L")
    axes.plot([1 / r.order for r in ordered], names, "k|", markersize=16, label="1/|G|")
    for i, r in enumerate(ordered):
        axes.text(float(r.share), i, f" {float(r.share):.3g}", va="center", fontsize="small")
    axes.set_xscale("log")
    axes.margins(x=0.2)
    axes.set_xlabel("share of the weights that stay free in E")
    axes.legend(fontsize="small", loc="lower right")
    return figure


def section(rows: Sequence[Dimensions], size: str) -> Section:
    """What was expected, measured, and what it means."""
    by_share = sorted(rows, key=lambda r: r.share)
    free = [r for r in rows if r.dim_e * r.order == r.dim_l]
    listed = "; ".join(f"{r.task} under {r.group}: {r.dim_e:,} of {r.dim_l:,} ({float(r.share):.3g})" for r in by_share)
    least, most = by_share[0], by_share[-1]
    return Section(
        title=f"How small is E? Networks of {size} size",
        expected="dim Hom_G(X, Y) is the number of orbits of G on index pairs. Where every layer acts between copies "
        "of a free action the share dim E / dim L is 1/|G|; invariant layers and fixed points raise it.",
        measured=f"Exact integers, smallest share first. {listed}.",
        means=f"Shares differ by a factor of {float(most.share / least.share):,.0f}, from {least.task} under "
        f"{least.group} to {most.task} under {most.group}; {len(free)} of {len(rows)} reach 1/|G| exactly. If the size "
        f"of E decided how far augmented training strays, {most.task} under {most.group} would stray most: the paper's "
        "heuristic, which these numbers state and do not prove.",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Count, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="paper", choices=("small", "medium", "paper"))
    parser.add_argument("--out", type=Path, default=Path("reports/dimensions"))
    options = parser.parse_args(arguments)
    folder = prepare_folder(options.out)
    rows = [
        dimensions(task, load(task, TaskOptions(size=options.size, group=group, samples=10)).space)
        for task, group in CASES
    ]
    found = [
        {
            "task": r.task,
            "group": r.group,
            "order": r.order,
            "dim_E": r.dim_e,
            "dim_L": r.dim_l,
            "layers": [{"name": n, "dim_E": e, "dim_L": whole} for n, whole, e in r.layers],
        }
        for r in rows
    ]
    totals = html_table(
        "dim E against dim L",
        ["task", "group", "order", "dim E", "dim L", "dim E / dim L"],
        [[r.task, r.group, r.order, r.dim_e, r.dim_l, float(r.share)] for r in rows],
    )
    layers = html_table(
        "Layer by layer",
        ["task", "group", "layer", "dim E", "dim L", "share"],
        [[r.task, r.group, name, e, whole, e / whole] for r in rows for name, whole, e in r.layers],
    )
    result = {
        "size": options.size,
        "section": asdict(section(rows, options.size)),
        "tables": [totals, layers],
        "cases": found,
    }
    write(folder / "dimensions.json", dumps(result))
    text = table(rows)
    write(folder / "README.md", text)
    save_figure(folder / "dimensions.png", draw(rows))
    print(text)


if __name__ == "__main__":
    sys.exit(command(main))
