r"""The statements of the paper, measured: every lemma, proposition and corollary at three kinds of points.

    python -m analyses.propositions [--tasks trans perm rot counterexample …] [--seeds 3] [--out reports/propositions]

For every task and group: random points of E, stationary points in E, and points off E. Each statement is measured
wherever it holds, as a relative error from the definitions: data moved by every g on one side, ρ̄ or Π_E on the other.
Where a statement needs A in E it is measured off E too, as a control: there the error has to be of order one, else the
measurement could not have failed. Proposition 3 speaks of strict minima; it is judged at the stationary points from
spectra, and so is the chain behind it, λ_min(∇²R) ≤ λ_min(∇²R^aug) ≤ λ_min(∇²R^eqv on E).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from analyses.lab.command import command
from analyses.lab.publish import finish
from analyses.lab.rows import Rows
from analyses.paper.propositions.picture import CAPTION, draw
from analyses.paper.propositions.place import Place
from analyses.paper.propositions.spots import SPOTS, Spot
from analyses.paper.propositions.statements import KINDS, measure, points
from analyses.paper.propositions.strict import proposition3
from analyses.paper.propositions.words import section, tables
from stability.base.errors import BadInput
from stability.base.storage import prepare_folder


def compute(rows: Rows, spots: Sequence[Spot], seeds: int) -> None:
    """Whatever is missing, one task and group after the other."""
    for spot in tqdm(spots, desc="propositions", disable=None):
        problem = spot.problem()
        common = {"spot": spot.label, "group": problem.group.name, "dim_E": problem.space.dim_equivariant}
        for seed in range(0 if spot.symmetric else seeds):
            if rows.has(spot=spot.label, seed=seed):
                continue
            found = [(kind, measure(Place(problem, at, seed), kind)) for kind, at in points(problem, seed)]
            for kind, errors in found:
                rows.add({**common, "kind": kind, "seed": seed, "errors": errors})
        if spot.stationary and not rows.has(spot=spot.label, kind=KINDS[1]):
            ground = spot.ground()
            errors = {} if spot.symmetric else measure(Place(ground.problem, ground.at, 0), KINDS[1])
            row = {**common, "kind": KINDS[1], "seed": None, "errors": errors}
            rows.add({**row, "proposition3": proposition3(ground)})
    order = [s.label for s in SPOTS]
    rows.rows.sort(key=lambda r: (order.index(r["spot"]), KINDS.index(r["kind"]), r["seed"] or 0))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tasks = list(dict.fromkeys(s.case.task for s in SPOTS))
    parser.add_argument("--tasks", nargs="+", default=tasks, choices=tasks)
    parser.add_argument("--seeds", type=int, default=3, help="random points of E, and as many off E")
    parser.add_argument("--out", type=Path, default=Path("reports/propositions"))
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        raise BadInput(f"--seeds {options.seeds}: give a positive number")
    folder = prepare_folder(options.out)
    rows = Rows(folder / "propositions.json", {"seeds": options.seeds})
    compute(rows, [s for s in SPOTS if s.case.task in options.tasks], options.seeds)
    said = section(rows.rows)
    finish(folder, "propositions", rows, draw(rows.rows), said, tables(rows.rows), CAPTION)
    print(said.measured)


if __name__ == "__main__":
    raise SystemExit(command(main))
