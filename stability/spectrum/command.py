"""The command: ``python -m stability.spectrum [--task …] [--size …] …`` (see docs/reference/command-line.md).

Exit status: 0 when the analysis completed, whatever the verdict; 2 for bad input, with one line on stderr;
3 when no point reached the tolerance (the report is still written); 130 after Ctrl-C (a partial result stays).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from stability import api, report
from stability.base.cluster import pool
from stability.base.errors import BadInput
from stability.base.storage import Checkpoint, lock, prepare_folder, write, write_tensors
from stability.points.describe import AsGiven, as_given
from stability.points.weights import load_point, save_point
from stability.problem.problem import Problem
from stability.results import Analysis
from stability.run.analysis import analyse
from stability.run.given import Interrupted, Outcome
from stability.run.settings import Settings, output_folder
from stability.spectra.sectors import chosen
from stability.tasks import TASKS, TaskOptions, load
from stability.tasks.recipe import Recipe

DTYPES = {"float64": torch.float64, "float32": torch.float32}
# Where a run is computed and kept does not change what is computed.
ELSEWHERE = ("resume", "out", "workers", "scheduler", "shards")
DIRECTIONS_LIMIT_BYTES = 64e6


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message}; see python -m stability.spectrum --help")


# What the options are, in the order of --help; those of PROBLEM say which problem, and other commands take them too.
OPTIONS: dict[str, dict[str, Any]] = {
    "--task": dict(default="trans", help=f"{', '.join(TASKS)}, or FILE.py:FACTORY"),
    "--size": dict(default="small", help="small (a minute), medium (ten minutes), paper"),
    "--variant": dict(default="smooth", help="smooth (for spectra) or published (the paper's network)"),
    "--group": dict(help="the symmetry group, by the task's names; an unknown name lists them"),
    "--at": dict(
        default="point",
        help="point (search stationary points), init, trained, or FILE, a stored point or state_dict",
    ),
    "--seed": dict(type=int, default=0, help="of data, starts and probes"),
    "--activation": dict(help="tanh, gelu, silu, softplus, sigmoid, leaky_relu, relu, …"),
    "--weight-decay": dict(type=float, help="μ in μ/2‖A‖²"),
    "--points": dict(type=int, default=2, help="random starts of the search"),
    "--saddles": dict(type=int, default=0, help="starts searched for saddles of R on E too"),
    "--search-minutes": dict(type=float, default=60.0, help="longest search from a start, where dim E > 2,500"),
    "--eigenvalues": dict(type=int, default=10, help="distinct eigenvalues reported at each end"),
    "--sectors": dict(default="all", help="all, none, or names of irreps such as '(4,1),(3,2)' or 'q=(0,1)'"),
    "--samples": dict(type=int, help="training samples"),
    "--data-dir": dict(type=Path, help="trans: the MNIST IDX files; perm, rot: the published data"),
    "--memory-gb": dict(type=float, help="memory the run may use; by default 80 %% of what is free"),
    "--workers": dict(type=int, help="spread points and sectors over so many processes of this machine"),
    "--scheduler": dict(metavar="ADDRESS", help="spread them over the workers of a Dask scheduler"),
    "--shards": dict(type=int, default=1, help="spread products of large sectors over so many shards of the samples"),
    "--resume": dict(action="store_true", help="continue an interrupted run in the same folder"),
    "--device": dict(default="cpu", help="cpu or cuda"),
    "--dtype": dict(default="float64", help="float64 or float32 (never decides a lower bound)"),
    "--out": dict(type=Path, help="output folder; default reports/<task>-<size>-seed<N>/"),
}
PROBLEM = (
    *("--task", "--size", "--variant", "--group", "--seed", "--activation", "--weight-decay", "--samples"),
    *("--data-dir", "--device", "--dtype"),
)


def parser() -> argparse.ArgumentParser:
    """The options, as docs/reference/command-line.md lists them."""
    p = _Parser(
        prog="python -m stability.spectrum",
        description="Eigen-spectra that decide whether equivariant networks are stable under augmented training.",
    )
    for name, what in OPTIONS.items():
        p.add_argument(name, **what)
    return p


def free_memory_gb() -> float:
    """80 % of the memory that the machine has free now."""
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:  # caches count as free
        lines = Path("/proc/meminfo").read_text().splitlines()
        pages = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        pass
    return 0.8 * pages / 1e9


def named_size(task: str) -> bool:
    """Whether a task comes in sizes, groups and variants."""
    return task in TASKS and not task.startswith("counterexample")


def check_options(options: argparse.Namespace) -> None:
    """Raise BadInput for values that no run could use."""
    for name, least in (("points", 1), ("eigenvalues", 1), ("shards", 1), ("saddles", 0)):
        value = getattr(options, name)
        if value < least:
            raise BadInput(f"--{name} {value}: give a number ≥ {least}")
    if not options.search_minutes > 0:
        raise BadInput(f"--search-minutes {options.search_minutes:g}: give a positive number")
    if options.workers is not None and options.workers < 1:
        raise BadInput(f"--workers {options.workers}: give a number ≥ 1")
    if options.shards > 1 and options.scheduler is None and (options.workers or 1) == 1:
        raise BadInput(f"--shards {options.shards}: there is one process to give them to; use --workers or --scheduler")
    if options.memory_gb is not None and not options.memory_gb > 0:
        raise BadInput(f"--memory-gb {options.memory_gb:g}: give a positive number")
    check_problem(options)


def check_problem(options: argparse.Namespace) -> None:
    """Raise BadInput for values of PROBLEM that pose none."""
    if options.seed < 0:
        raise BadInput(f"--seed {options.seed}: give a number ≥ 0")
    if options.dtype not in DTYPES:
        raise BadInput(f"--dtype {options.dtype!r} is unknown; choose from {', '.join(DTYPES)}")
    if options.device not in ("cpu", "cuda"):
        raise BadInput(f"--device {options.device!r} is unknown; choose from cpu, cuda")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise BadInput("--device cuda: this machine shows torch no GPU; use --device cpu")
    if not named_size(options.task):
        ignored = {"group", "samples", "size", "variant", "data_dir"}
        if options.task not in TASKS:
            ignored |= {"activation", "weight_decay"}
        for name in sorted(ignored):
            flag = f"--{name.replace('_', '-')}"
            if getattr(options, name) != OPTIONS[flag].get("default"):
                raise BadInput(f"{flag} has no effect on --task {options.task}; leave it out")


def asked(options: argparse.Namespace) -> TaskOptions:
    """What the options of PROBLEM ask of a task."""
    return TaskOptions(
        size=options.size,
        variant=options.variant,
        group=options.group,
        activation=options.activation,
        weight_decay=options.weight_decay,
        samples=options.samples,
        seed=options.seed,
        data_dir=options.data_dir,
        dtype=DTYPES[options.dtype],
        device=options.device,
    )


def posed(options: argparse.Namespace) -> Problem:
    """The problem that the options of PROBLEM name."""
    check_problem(options)
    return load(options.task, asked(options))


def run(options: argparse.Namespace, command: str) -> int:
    """Load, analyse, write; the exit status."""
    check_options(options)
    task_options = asked(options)
    problem = load(options.task, task_options)
    if options.sectors not in ("all", "none"):
        chosen(problem.group, options.sectors)  # refused before anything is written
    named = options.task in TASKS
    at, weights = options.at, None
    recipe: Recipe | None = Recipe.of(options.task, task_options)
    if at not in ("point", "init", "trained"):
        if Path(at).suffix == ".safetensors":
            fitted = api.fitted(problem, at)[0]
            problem, recipe = fitted, recipe if fitted is problem else None
            at, weights = load_point(Path(at), problem.space, problem.samples.x)
        else:  # a checkpoint of a module, with its buffers
            fitted, found = api.fitted(problem, at)
            # A recipe knows nothing of the buffers that a checkpoint brings along: then the problem itself is sent.
            problem, recipe = fitted, recipe if fitted is problem else None
            at, weights, _ = api.locate(problem, found)
    given = None if weights is None else as_given(problem, weights, options.seed)
    folder = options.out or output_folder(options.task, options.size if named else "custom", options.seed)
    is_new = not folder.exists()
    prepare_folder(folder)
    try:
        with lock(folder):
            return run_in(folder, problem, options, task_options, at, given, command, recipe)
    except BadInput:
        if is_new:
            with contextlib.suppress(OSError):  # with something in it, it stays
                folder.rmdir()
        raise


def run_in(
    folder: Path,
    problem: Problem,
    options: argparse.Namespace,
    task_options: TaskOptions,
    at: str | Tensor,
    given: AsGiven | None,
    command: str,
    recipe: Recipe | None,
) -> int:
    """Analyse and write to a folder that is ours alone; the exit status."""
    named = options.task in TASKS
    shown = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items() if k not in ELSEWHERE}
    checkpoint = Checkpoint(folder / "state", shown, options.resume)
    settings = Settings(
        seed=options.seed,
        at=at,
        points=options.points,
        saddles=options.saddles,
        search_minutes=options.search_minutes,
        eigenvalues=options.eigenvalues,
        memory_gb=options.memory_gb or free_memory_gb(),
        distance_to_e=given.distance if given else 0.0,
        given=given,
        trained_step=5e-5 if options.variant == "published" else None,
        shards=options.shards,
        sectors=options.sectors,
        pictures=True,
    )
    header = {
        "task": problem.name,
        "size": options.size if named else "custom",
        "activation": task_options.sigma if named else "custom",
        "options": {**shown, "command": command},
    }
    if options.task.startswith("counterexample"):
        header |= {"activation": options.activation or "quadratic"}

    def publish(outcome: Outcome) -> None:
        write(folder / "spectrum.json", outcome.analysis.to_json())

    try:
        with pool(options.scheduler, options.workers if options.workers != 1 else None) as spread:
            outcome = analyse(problem, settings, header, checkpoint, publish, spread, recipe)
    except Interrupted as stop:
        save(problem, stop.outcome, folder)
        print(f"interrupted; what was computed is in {folder}, continue with --resume", file=sys.stderr)
        return 130
    except BadInput:
        checkpoint.leave_no_trace()
        raise
    save(problem, outcome, folder)
    checkpoint.clear()
    print(report.table(outcome.analysis))
    print(f"report: {folder / 'report.html'}")
    print(outcome.analysis.summary())
    point = outcome.analysis.point
    reached = options.at != "point" or (point is not None and point.converged)
    return 0 if reached else 3


def save(problem: Problem, outcome: Outcome, folder: Path) -> None:
    """JSON, tensors, figures and report of an outcome, complete or not."""
    analysis: Analysis = outcome.analysis
    write(folder / "spectrum.json", analysis.to_json())
    if outcome.theta is not None:
        save_point(
            folder / "point.safetensors", problem, outcome.theta, {"size": analysis.size, "seed": str(analysis.seed)}
        )
    if outcome.directions:
        tensors = outcome.directions
        if sum(t.numel() * t.element_size() for t in tensors.values()) > DIRECTIONS_LIMIT_BYTES:
            keep = max(1, int(DIRECTIONS_LIMIT_BYTES / (8 * problem.space.dim)))
            tensors = {k: v[:keep] if v.ndim == 2 else v for k, v in tensors.items()}
        write_tensors(
            folder / "directions.safetensors", tensors, {"task": analysis.task, "order": "rows are unit vectors in L"}
        )
    if analysis.complete:
        report.render(analysis, folder)


def out_of_memory(error: BaseException) -> bool:
    """Whether this is how Python, numpy, torch or the operating system say that memory is exhausted."""
    said = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError | OSError) and ("allocate memory" in said or "not enough memory" in said)
    )


def guarded(name: str, work: Callable[[], int]) -> int:
    """The exit status of ``work``; what a user can mend is one line on stderr, ``name: …``, and status 2."""
    try:
        return work()
    except BadInput as error:
        said = str(error)
    except (ArithmeticError, np.linalg.LinAlgError) as error:
        said = f"{error}; what was computed before stays"
    except (MemoryError, RuntimeError, OSError) as error:
        if not out_of_memory(error):
            raise
        said = (
            f"out of memory ({(str(error) or type(error).__name__).splitlines()[0]}); what was computed before stays: "
            "use a smaller --size, fewer --samples or a smaller --memory-gb, or --resume with less beside"
        )
    print(f"{name}: {' '.join(said.split())}", file=sys.stderr)
    return 2


def recorded(arguments: Sequence[str]) -> str:
    """The command that reproduces a run, as its results name it."""
    return shlex.join(["python", "-m", "stability.spectrum", *arguments])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command's entry; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    return guarded("stability.spectrum", lambda: run(parser().parse_args(arguments), recorded(arguments)))


def leave(status: int) -> NoReturn:
    """End the process."""
    sys.stdout.flush()
    sys.stderr.flush()
    if status == 130:
        # A Ctrl-C that passed through an exec() makes CPython die of SIGINT at exit, handled or not.
        os._exit(status)
    sys.exit(status)
