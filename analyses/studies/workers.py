r"""How much faster is a sector sweep on two workers than on one, and does it survive the loss of one?

    python -m analyses.workers --rounds 5

Every round sweeps the sectors of one point twice, on one and on two single-threaded workers of this machine, in turn,
so that what else the machine does falls on both. A last sweep loses a worker on the way: the first job that is begun
ends its worker. What is compared: seconds on the clock, processor seconds, and every eigenvalue.

The clock tells the speed-up only where two cores are free. Processor seconds tell it on a machine that is shared: those
of one worker over those of the busier of two, which is what the clock would show if each had a core of its own.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from matplotlib.figure import Figure

from analyses.lab.command import command
from analyses.lab.publish import Section, finish, table
from analyses.lab.rows import Rows
from stability.base.cluster import Cluster, pack, unpack
from stability.base.storage import prepare_folder
from stability.run.sector import SolvedSector, sector_job
from stability.run.settings import Settings
from stability.spectra import sectors
from stability.tasks import TaskOptions
from stability.tasks.recipe import Recipe


def timed(*arguments: object) -> tuple[int, float, bytes]:
    """A sector, with the process that solved it and the processor seconds it took."""
    began = time.process_time()
    message = sector_job(*arguments)
    return os.getpid(), time.process_time() - began, message


def fatal(flag: str, *arguments: object) -> tuple[int, float, bytes]:
    """The same, but the first worker that comes here is lost."""
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return timed(*arguments)
    os._exit(1)


def warm(recipe: Recipe, seconds: float) -> int:
    """Build the problem; long enough for every worker to get one."""
    time.sleep(seconds)
    return recipe.problem().space.dim


def numbers(message: bytes) -> np.ndarray:
    """Lowest and highest eigenvalues and the count of negative ones."""
    spectrum = SolvedSector.unpacked(*unpack(message)).solution.spectrum
    ends = [e.value for e in (*spectrum.lowest, *spectrum.highest)]
    return np.array([*ends, float(spectrum.negative_count or 0)])


def sweep(cluster: Cluster, jobs: list[tuple], weights: list[float], function=timed) -> tuple[float, list[float], dict]:
    """(seconds, processor seconds worker by worker, number of the job → its eigenvalues)."""
    began = time.perf_counter()
    found = dict(cluster.run(function, jobs, "sectors", weights))
    seconds = time.perf_counter() - began
    busy: dict[int, float] = {}
    for worker, cpu, _ in found.values():
        busy[worker] = busy.get(worker, 0.0) + cpu
    return seconds, list(busy.values()), {k: numbers(message) for k, (_, _, message) in found.items()}


def difference(a: dict, b: dict) -> float:
    """The largest difference of eigenvalues, relative to the largest of its sector."""
    return max(float(np.abs(a[k] - b[k]).max() / max(np.abs(a[k][:-1]).max(), 1e-300)) for k in a)


def by_processor(row: dict) -> float:
    """The speed-up if each worker had a core of its own."""
    return sum(row["one"]["processor_seconds"]) / max(row["two"]["processor_seconds"])


def draw(rows: Sequence[dict]) -> Figure:
    """The speed-up of every round."""
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axes = figure.subplots()
    clock = [r["one"]["seconds"] / r["two"]["seconds"] for r in rows]
    ratios = [by_processor(r) for r in rows]
    axes.plot(range(1, len(rows) + 1), ratios, "o", color="black", label="processor seconds")
    axes.plot(range(1, len(rows) + 1), clock, "x", color="0.4", label="clock, other work beside")
    for value, style, label in ((2.0, "-", "twice"), (1.7, "--", "1.7"), (median(ratios), ":", "median, processor")):
        axes.axhline(value, linestyle=style, color="0.4", label=f"{label}: {value:.2f}")
    axes.set_ylim(0, 3.2)
    axes.set_xticks(range(1, len(rows) + 1))
    axes.set_xlabel("round")
    axes.set_ylabel("one worker / the busier of two")
    axes.set_title("A sector sweep on two single-threaded workers", fontsize="medium")
    axes.legend(fontsize="small", loc="upper center", ncols=2)
    return figure


def measure(rows: Rows, options: argparse.Namespace, flag: Path) -> dict:
    """Sweep the rounds that are missing, and once more while a worker is lost; what the loss cost."""
    recipe = Recipe.of(options.task, TaskOptions(size=options.size, samples=options.samples))
    problem = recipe.problem()
    theta = pack({"theta": problem.initial(0)})
    settings = replace(Settings(), memory_gb=2.0)
    found = [(v, size) for v, size in sectors.occurring(problem.space) if not v.is_trivial][: options.sectors]
    jobs = [(recipe, theta, v.name, size, 0.0, settings, i) for i, (v, size) in enumerate(found)]
    weights = [float(size**2 * v.dim) for v, size in found]
    with Cluster(workers=1) as one, Cluster(workers=2) as two:
        for cluster in (one, two):
            list(cluster.run(warm, [(recipe, 1.0)] * cluster.workers, "warming up"))
        reference = sweep(one, jobs, weights)[2]
        sweep(two, jobs, weights)  # what a worker does for the first time only is not what is measured
        for number in range(len(rows.rows), options.rounds):
            row = {"round": number}
            # Who goes first changes from round to round.
            for name, cluster in (("one", one), ("two", two))[:: 1 if number % 2 else -1]:
                before = os.getloadavg()[0]
                seconds, cpu, values = sweep(cluster, jobs, weights)
                off = difference(reference, values)
                row[name] = {"seconds": seconds, "processor_seconds": cpu, "load": before, "difference": off}
            rows.add(row)
        flag.unlink(missing_ok=True)
        seconds, _, values = sweep(two, [(str(flag.resolve()), *job) for job in jobs], weights, fatal)
        lost = {"seconds": seconds, "difference": difference(reference, values), "worker_lost": flag.exists()}
        flag.unlink(missing_ok=True)
    return {"sectors": len(jobs), **lost}


def section(rows: Sequence[dict], lost: dict, what: str) -> Section:
    """The words, from the numbers."""
    clock = [r["one"]["seconds"] / r["two"]["seconds"] for r in rows]
    ratios = [by_processor(r) for r in rows]
    load = median(r["one"]["load"] for r in rows)
    worst = max(r[k]["difference"] for r in rows for k in ("one", "two"))
    return Section(
        "Sectors on two workers",
        "Twice as fast as on one, less what handing out costs, and the same eigenvalues.",
        f"{what}, {lost['sectors']} sectors: {len(ratios)} rounds on {os.cpu_count()} cores (load "
        f"before a sweep {load:.1f}): speed-up by processor seconds median {median(ratios):.2f}, from "
        f"{min(ratios):.2f} to {max(ratios):.2f}, by the clock median {median(clock):.2f}; eigenvalues differ by "
        f"{worst:.1e} at most. With a worker lost on the way {lost['seconds']:.1f} s, eigenvalues differ by "
        f"{lost['difference']:.1e}.",
        "Sectors do not wait for each other: a sweep shortens with workers as long as sectors outnumber them.",
    )


def table_of(rows: Sequence[dict]) -> dict:
    """Every round."""
    cells = [
        (
            r["round"] + 1,
            *(x for k in ("one", "two") for x in (round(r[k]["seconds"], 2), round(max(r[k]["processor_seconds"]), 2))),
        )
        for r in rows
    ]
    header = ("round", "one worker, s", "processor s", "two workers, s", "processor s of the busier")
    return table("Rounds", header, cells)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, write JSON and PNG, print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="trans", choices=["trans", "perm", "rot"])
    parser.add_argument("--size", default="small")
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sectors", type=int, help="the first few only; by default all")
    parser.add_argument("--out", type=Path, default=Path("reports/workers"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    folder = prepare_folder(options.out)
    keys = {"task": options.task, "size": options.size, "samples": options.samples, "sectors": options.sectors}
    rows = Rows(folder / "workers.json", keys)
    lost = measure(rows, options, folder / ".lost")
    said = section(rows.rows, lost, f"{options.task}, {options.size}")
    rows.save(lost=lost)
    finish(folder, "workers", rows, draw(rows.rows), said, [table_of(rows.rows)])
    print(said.measured)


if __name__ == "__main__":
    raise SystemExit(command(main))
