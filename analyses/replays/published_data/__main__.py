r"""The paper's own data: what is wrong with them, and does the anomaly of ROT come from it?

    python -m analyses.replays.published_data --data-dir DIR [--size small] [--runs 5] [--starts 4] [--workers 2]

The claim, in our words: in ROT augmented training stays about as far from E as nominal training, otherwise than in PERM
and TRANS. What is run: the published data are read and their faults counted; then, changing one thing at a time from
the published data to ours,

PERM   as published; with the wrong labels mended; our own graphs
ROT    as published; with the mask of the absent shape zero in place of one; with the contrast turned as well; our own

Figure 1 is trained with the paper's network (NOM and AUG; ROT also with the sampler as it was executed, and both
norms), and the minima on E of a network with one hidden layer of tanh are resolved: all eigenvalues on E⊥.

At the paper's size, `--size paper --samples 1000` costs a minute of one core a run of PERM; of ROT, 61 million weights,
3.5 hours a run of AUG, so `python -m analyses.figure1 --size paper --task perm rot --data-dir DIR --runs 30` is the way
there: 14 hours of one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from analyses.lab.command import command, pool_arguments
from analyses.lab.publish import finish
from analyses.lab.rows import Rows
from analyses.paper.protocol import PASSES, STEP
from analyses.replays.published_data.data import VARIANTS, Setting, facts
from analyses.replays.published_data.measure import Training, one_point, one_run, strategies
from analyses.replays.published_data.picture import draw
from analyses.replays.published_data.words import CAPTION, section, tables
from stability.base.cluster import pool
from stability.base.storage import prepare_folder
from stability.tasks.rot import SIZES


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="the published data")
    parser.add_argument("--size", default="small", choices=tuple(SIZES), help="of the networks that are trained")
    parser.add_argument("--task", nargs="+", default=list(VARIANTS), choices=tuple(VARIANTS))
    parser.add_argument("--samples", type=int, default=500, help="to train on, the first of the published")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--starts", type=int, default=4, help="of the search for minima on E")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--passes", type=int, default=PASSES)
    parser.add_argument("--step", type=float, default=STEP)
    pool_arguments(parser)
    parser.add_argument("--out", type=Path, default=Path("reports/replays/published_data"))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Count, train, search what is missing; draw, write."""
    options = parse(arguments)
    setting = Setting(options.data_dir, options.samples, SIZES[options.size].side)
    training = Training(options.size, options.epochs, options.passes, options.step)
    key = {k: getattr(options, k) for k in ("size", "samples", "epochs", "passes", "step")}
    counted = [facts(task, setting) for task in options.task]  # refuses what cannot be read before anything is made
    rows = Rows(prepare_folder(options.out) / "published_data.json", key)
    for row in counted:
        if not rows.has(kind="facts", task=row["task"]):
            rows.add(row)
    places = [(task, variant) for task in options.task for variant in VARIANTS[task]]
    runs = [(*p, s, run) for run in range(options.runs) for p in places for s in strategies(p[0])]
    names = ("task", "variant", "strategy", "run")
    runs = [job for job in runs if not rows.has(kind="run", **dict(zip(names, job, strict=True)))]
    points = [(*p, start) for start in range(options.starts) for p in places]
    names = ("task", "variant", "start")
    points = [job for job in points if not rows.has(kind="point", **dict(zip(names, job, strict=True)))]
    with pool(options.scheduler, options.workers) as spread:
        for _, row in spread.run(one_run, [(*job, setting, training) for job in runs], "training"):
            rows.add(row)
        for _, row in spread.run(one_point, [(*job, setting) for job in points], "minima"):
            rows.add(row)
    said = section(rows.rows)
    finish(options.out, "published_data", rows, draw(rows.rows, setting), said, tables(rows.rows), CAPTION)
    print(said.measured)
    print(said.means)


if __name__ == "__main__":
    raise SystemExit(command(main))
