r"""The paper's Figure 1: how far nominal, augmented and equivariant training leave E.

    python -m analyses.figure1 [--size small] [--task perm trans rot] [--runs 5] [--epochs 50] [--workers 2] [--out DIR]

For every task, strategy and run: ‖A_{E⊥}‖ against ‖A − A⁰‖ over the epochs, from a start in E. One step of the full
gradient an epoch, published networks, Haar sampling.

NOM    ∇R
AUG    the mean of ``--passes`` passes, each mini-batch of each pass moved by a Haar element of its own
NEAR   the same with the same draws, its gradient taken at Π_E A: all passes for the price of one (analyses.lab.drift)
EXACT  ∇R^aug, the exact Haar average; in E up to rounding, which a step multiplies by at most max|1 − τλ| over the
       spectrum of ∇²R^aug on E⊥ (Corollary 1): bounded from the spectrum at the start
EQUI   the projection of ∇R onto E

Without ``--strategy`` the paper's size takes NEAR for AUG, and leaves EXACT out.

Rows are kept in DIR/figure1.json as they come; a second call computes only what is missing, and gives the same curves.

All of the published figure, 30 runs of NOM, AUG and EQUI at its size, on this or on its own data (``--data-dir``):

    python -m analyses.figure1 --size paper --runs 30 --workers 2

PERM takes 0.1 hours of one core, TRANS 11.6 and ROT 14, half of it on two, with AUG as NEAR; with every pass computed
(``--strategy NOM AUG EQUI``) 0.3, 109 and 113. It may be stopped at any time. The sampler of the published code, which
draws no quarter turns, and its squared norm are those of analyses.rotation and analyses.replays.published_data.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from analyses.lab.command import command, pool_arguments
from analyses.lab.publish import finish
from analyses.lab.rows import Rows
from analyses.paper.figure1.curves import curves
from analyses.paper.figure1.picture import draw
from analyses.paper.figure1.runs import PAPER, STRATEGIES, TASKS, data_of, estimate, key, one_run
from analyses.paper.figure1.words import section, table_of
from analyses.paper.protocol import PASSES, STEP
from stability.base.cluster import pool
from stability.base.storage import prepare_folder


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="small", choices=("small", "medium", "paper"))
    parser.add_argument("--task", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--strategy", nargs="+", choices=STRATEGIES)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--passes", type=int, default=PASSES)
    parser.add_argument("--step", type=float, default=STEP)
    parser.add_argument("--samples", type=int)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--show", action="store_true", help="run nothing, draw what is there")
    pool_arguments(parser)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    options.strategy = options.strategy or (PAPER if options.size == "paper" else STRATEGIES)
    options.out = options.out or Path("reports") / f"figure1-{options.size}"
    return options


def beside(options: argparse.Namespace, run: int) -> list[str]:
    """What is measured of a run beside its training."""
    wanted = {"START": True, "CURVATURE": "EXACT" in options.strategy, "COST": options.size == "paper" and run == 0}
    return [name for name, is_wanted in wanted.items() if is_wanted]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, draw, print the means."""
    options = parse(arguments)
    folder = prepare_folder(options.out)
    rows = Rows(folder / "figure1.json", key(options) | data_of(options))
    jobs = [
        (task, name, run)
        for run in range(0 if options.show else options.runs)
        for task in options.task
        for name in (*beside(options, run), *options.strategy)
        if not rows.has(task=task, strategy=name, run=run)
    ]
    if jobs:
        with pool(options.scheduler, options.workers) as spread:
            minutes = estimate(jobs, options) / 60 / min(spread.workers, len(jobs))
            print(f"{len(jobs)} runs to do, about {minutes:.1f} minutes", flush=True)
            for _, row in spread.run(one_run, [(*job, options) for job in jobs], "figure 1"):
                rows.add(row)
    if (options.out / "state").is_dir() and not any((options.out / "state").iterdir()):
        (options.out / "state").rmdir()
    shown = [r for r in rows.rows if r["task"] in options.task and r["run"] < options.runs]
    found, starts = curves(shown, rows.options), [r for r in shown if r["strategy"] == "START"]
    words = section(found, shown, rows.options)
    finish(folder, "figure1", rows, draw(found, starts, rows.options), words, [table_of(found)])
    for c in found:
        print(
            f"{c.task:6}{c.strategy:6}{len(c.off):3} runs  ‖A − A⁰‖ {c.end[0]:.3e}  ‖A_E⊥‖ {c.end[1]:.3e}"
            f"  measured/predicted {c.ratio:.3f}"
        )


if __name__ == "__main__":
    raise SystemExit(command(main))
