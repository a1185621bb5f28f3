r"""Stuck on E by the hidden representation: is there a way down across E, and where does it lead?

    python -m analyses.replays.fixed_hidden [--starts 3] [--teachers 2] [--out reports/replays/fixed_hidden]

The claim, in our words ("A tale of two symmetries", arXiv 2506.02269): equivariant networks with a fixed permutation
representation in the hidden layer have minima above the teacher's; training the same perceptron without the constraint
can leave them, and the weights it finds are equivariant again, with another hidden representation.

What is run: teachers R³ → Γ → R³ under S_3 with six hidden units, two R³ or one regular representation, and students of
five Γ, four of them six units wide and so subspaces of one perceptron; squared error, tanh, decay 1e-6. From every
start the minimum on E_Γ to rounding, every eigenvalue of ∇²R^aug there on E and on E⊥; where the misfit is above 1e-4
of that of the zero function, R^aug is descended over all weights from 1e-3 ‖A‖ beside it along the lowest mode, and the
orbits of the hidden units at the end are read off. A second of one core a search.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from analyses.lab.command import command
from analyses.lab.publish import finish
from analyses.lab.rows import Rows
from analyses.replays.fixed_hidden.measure import STUDENTS, TEACHERS, one_search
from analyses.replays.fixed_hidden.words import CAPTION, draw, section, tables
from stability.base.storage import prepare_folder


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--teachers", type=int, default=2, help="of each hidden representation")
    parser.add_argument("--out", type=Path, default=Path("reports/replays/fixed_hidden"))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Search what is missing; draw, write."""
    options = parse(arguments)
    rows = Rows(prepare_folder(options.out) / "fixed_hidden.json", {})
    names = ("start", "seed", "teacher", "student")
    every = itertools.product(range(options.starts), range(options.teachers), TEACHERS, STUDENTS)
    jobs = [dict(zip(names, job, strict=True)) for job in every]
    for job in tqdm([job for job in jobs if not rows.has(**job)], desc="searches", disable=None):
        rows.add(one_search(**job))
    said = section(rows.rows)
    finish(options.out, "fixed_hidden", rows, draw(rows.rows), said, tables(rows.rows), CAPTION)
    print(said.measured)
    print(said.means)


if __name__ == "__main__":
    raise SystemExit(command(main))
