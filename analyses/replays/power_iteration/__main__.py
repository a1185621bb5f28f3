r"""A spectrum that could not have shown it: five largest |λ| on mini-batches, and the signed ends.

    python -m analyses.replays.power_iteration [--seeds 1] [--out reports/replays/power_iteration]

The claim, in our words ("Effect of equivariance on training dynamics", GRaM workshop 2024): the Hessian spectra of an
equivariant and of a relaxed equivariant network, early and late in training, show no negative eigenvalue, so the loss
is convex where they go. The spectra are the five eigenvalues of largest modulus of every mini-batch, by power iteration
with deflation, weight decay included.

What is run: a plain CNN, the group CNN that is its subspace E, and a relaxed group CNN, under C_4, on digits in all
four orientations, trained by Adam on mini-batches of 16; after --early and --epochs epochs the replayed method, and
every eigenvalue on all the data: in the network's own weights, on E, on E⊥; for the group CNN also at the minimum on E
that it leads to. A seed takes about 3 minutes of one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from analyses.lab.command import command
from analyses.lab.publish import finish
from analyses.lab.rows import Rows
from analyses.replays.power_iteration.measure import Training, looks, points
from analyses.replays.power_iteration.networks import NETWORKS
from analyses.replays.power_iteration.picture import draw
from analyses.replays.power_iteration.words import CAPTION, section, tables
from stability.base.storage import prepare_folder


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--samples", type=int, default=48, help="digits, each in four orientations")
    parser.add_argument("--early", type=int, default=3, help="epochs until the first look")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--step", type=float, default=5e-3, help="of Adam")
    parser.add_argument("--batches", type=int, default=4, help="mini-batches that the replayed method is shown")
    parser.add_argument("--copies", type=int, default=2, help="of the regular representation in hidden layers")
    parser.add_argument("--out", type=Path, default=Path("reports/replays/power_iteration"))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and look at what is missing; draw, write."""
    options = parse(arguments)
    names = ("samples", "early", "epochs", "step", "batches", "copies")
    training = Training(**{name: getattr(options, name) for name in names})
    rows = Rows(prepare_folder(options.out) / "power_iteration.json", asdict(training))
    for seed in range(options.seeds):
        for network in NETWORKS:
            if all(rows.has(network=network, seed=seed, when=when) for when in looks(network)):
                continue
            for row in points(network, seed, training):
                if not rows.has(network=network, seed=seed, when=row["when"]):
                    rows.add(row)
    said = section(rows.rows)
    finish(options.out, "power_iteration", rows, draw(rows.rows), said, tables(rows.rows), CAPTION)
    print(said.measured)
    print(said.means)


if __name__ == "__main__":
    raise SystemExit(command(main))
