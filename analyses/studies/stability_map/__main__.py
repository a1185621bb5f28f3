r"""Where equivariant minima are unstable: over width, weight decay, depth, samples and group, on three kinds of data.

    python -m analyses.stability_map [--maps digits graphs shapes group depth samples training] [--starts 6] [--out DIR]

Small networks, X_0 = ρ → c·ρ → … → outputs with tanh: 4 × 4 digits (classes, invariant), graphs of five nodes
(connected or not, invariant), 4 × 4 shapes (masks, equivariant). Every start is minimised on E to rounding and
resolved: all eigenvalues of ∇²R on E and, sector by sector, of ∇²R^aug on E⊥. Along the lowest direction v of E⊥ the
quotient is taken apart,

    q = μ + ⟨Jv, ℓ''Jv⟩ + Σ ℓ'·∂²Φ[v, v],        decay, Gauss-Newton part ≥ 0, residual part

from products of its own, which check the eigenvalue too. ``training`` follows λ_min on E⊥ from random starts along
equivariant training. Rows are kept as they come; a second call computes what is missing.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from analyses.lab.command import command, pool_arguments
from analyses.lab.publish import finish
from analyses.lab.rows import Rows
from analyses.studies.stability_map.cells import BASE, EPOCHS, MAPS, NODES, SIDE, STEP, TRAINING
from analyses.studies.stability_map.measure import follow_training, measure
from analyses.studies.stability_map.picture import draw
from analyses.studies.stability_map.reading import minima, unstable
from analyses.studies.stability_map.words import section, tables_of
from stability.base.cluster import pool
from stability.base.storage import prepare_folder


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [*MAPS, TRAINING]
    parser.add_argument("--maps", nargs="+", default=names, choices=names)
    parser.add_argument("--starts", type=int, default=6, help="random starts for every cell")
    pool_arguments(parser)
    parser.add_argument("--out", type=Path, default=Path("reports/stability_map"))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Search what is missing, start by start over all cells, draw, write."""
    options = parse(arguments)
    rows = Rows(prepare_folder(options.out) / "stability_map.json", {"side": SIDE, "nodes": NODES, "step": STEP})
    cells = list(dict.fromkeys(cell for name in options.maps if name != TRAINING for cell in MAPS[name].cells))
    jobs = [(cell, start) for start in range(options.starts) for cell in cells]
    jobs = [(c, s) for c, s in jobs if not rows.has(cell=asdict(c), start=s, kind="minimum")]
    print(f"{len(jobs)} minima to find", flush=True)
    runs = [(c, s) for s in range(options.starts) for c in BASE.values()] if TRAINING in options.maps else []
    runs = [(c, s) for c, s in runs if not rows.has(cell=asdict(c), start=s, kind=TRAINING, epoch=EPOCHS[-1])]
    with pool(options.scheduler, options.workers) as spread:
        for _, row in spread.run(measure, jobs, "minima"):
            rows.add(row)
        for _, found in spread.run(follow_training, runs, "training"):
            for row in found:
                if not rows.has(cell=row["cell"], start=row["start"], kind=TRAINING, epoch=row["epoch"]):
                    rows.add(row)
    show(options.out, rows)


def show(folder: Path, rows: Rows) -> None:
    """Picture, words and table of what is there."""
    finish(folder, "stability_map", rows, draw(rows.rows), section(rows.rows), tables_of(rows.rows))
    points = minima(rows.rows)
    print(f"{len(points)} strict minima on E, {sum(map(unstable, points))} of them unstable on E⊥")


if __name__ == "__main__":
    raise SystemExit(command(main))
