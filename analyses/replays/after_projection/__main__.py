r"""After projection onto E: does SGD leave it, does AdamW, and was it known beforehand?

    python -m analyses.replays.after_projection [--seeds 1] [--out reports/replays/after_projection]

The claim, in our words ("Equivariance and augmentation for Bayesian neural networks", arXiv 2606.26273, and the notes
with its code): after a network in training is projected onto the equivariant subspace, SGD keeps it there, because its
update commutes with the group, and AdamW does not, because its moments belong to single weights; buffers are cleared.

What is run: digits under C_4 in a network with one hidden layer, the same problem in three orthonormal bases of the
inputs: pixels, which C_4 permutes; Fourier modes along its orbits, permuted with signs; principal components, which it
mixes. SGD, Nesterov and AdamW train from a random start, the weights are projected, the optimiser's state is cleared
or kept, and training goes on, every batch in all four orientations or each image in one that is drawn. Weights are
point estimates, without the variances of a variational posterior. `stability.forecast` speaks before the first step
after the projection. Half a minute of one core a seed.
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
from analyses.replays.after_projection.measure import ACTIONS, DRAWS, OPTIMISERS, STATES, one_run
from analyses.replays.after_projection.words import CAPTION, draw, section, tables
from stability.base.storage import prepare_folder


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--before", type=int, default=100, help="steps until the projection")
    parser.add_argument("--after", type=int, default=300, help="steps from there")
    parser.add_argument("--out", type=Path, default=Path("reports/replays/after_projection"))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing; draw, write."""
    options = parse(arguments)
    steps = {"before": options.before, "after": options.after}
    rows = Rows(prepare_folder(options.out) / "after_projection.json", steps)
    names = ("seed", "action", "optimiser", "draws", "state")
    jobs = [
        dict(zip(names, j, strict=True))
        for j in itertools.product(range(options.seeds), ACTIONS, OPTIMISERS, DRAWS, STATES)
    ]
    for job in tqdm([job for job in jobs if not rows.has(**job)], desc="runs", disable=None):
        rows.add(one_run(**job, **steps))
    said = section(rows.rows)
    finish(options.out, "after_projection", rows, draw(rows.rows), said, tables(rows.rows), CAPTION)
    print(said.measured)
    print(said.means)


if __name__ == "__main__":
    raise SystemExit(command(main))
