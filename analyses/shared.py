r"""What the analyses share: a point of E with every mode of ∇²R^aug, result files, and the way a command ends.

Ground      a stationary point with the spectra of ∇²R^aug on E and, sector by sector, on E⊥
Rows        results kept in one JSON as they come, so that a second call computes what is missing
Section     what was expected, what was measured, what it means: the words that ``analyses.all`` gathers
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from torch import Tensor

from stability import assembly, sectors
from stability.curvature import assemble, nominal_hessian
from stability.errors import BadInput
from stability.groups import Irrep
from stability.pooled import hessian_on_e
from stability.problem import Problem
from stability.stationary import StationaryPoint, describe_point, gradient_scale, minimise
from stability.storage import prepare_folder, write
from stability.tasks import TaskOptions, load

matplotlib.use("Agg")
from matplotlib.figure import Figure

SECTOR_LIMIT = 4000
TOLERANCE = 1e-9
# Told apart without colour: shade and dash together.
STYLES = (
    {"color": "black", "linestyle": "-"},
    {"color": "#d55e00", "linestyle": "--"},
    {"color": "#0072b2", "linestyle": "-."},
    {"color": "#56b4e9", "linestyle": ":"},
    {"color": "0.55", "linestyle": (0, (5, 1, 1, 1, 1, 1))},
    {"color": "#009e73", "linestyle": (0, (8, 2))},
    {"color": "#cc79a7", "linestyle": (0, (1, 1))},
)
MARKERS = "os^DvPX*"


@dataclass(frozen=True)
class Section:
    """What a report says of one analysis: texts that were made from the numbers beside them.

    Attributes:
        title: of the section.
        expected: what theory says before anything is measured; a blank line starts a paragraph, here and below.
        measured: the numbers.
        means: what follows from them.
        finding: one sentence with the number that decides; where empty, the first sentence of ``means`` serves.
    """

    title: str
    expected: str
    measured: str
    means: str
    finding: str = ""


@dataclass(frozen=True)
class Mode:
    """An eigenvector of ∇²R^aug on E⊥.

    Attributes:
        irrep: the sector's label.
        value: the eigenvalue.
        direction: a unit vector of L, one of the partners.
    """

    irrep: str
    value: float
    direction: Tensor


@dataclass(frozen=True)
class SectorModes:
    """B_λ diagonalised: eigenvalues, ascending, and eigenvectors as columns, in coordinates of M_λ."""

    irrep: Irrep
    values: np.ndarray
    vectors: Tensor

    @property
    def multiplicity(self) -> float:
        """How often one eigenvalue of B_λ occurs in L, d/c."""
        return self.irrep.dim / self.irrep.commutant_dim


@dataclass(frozen=True)
class Ground:
    """A point of E with the whole spectrum of ∇²R^aug there.

    Attributes:
        problem: the risk.
        point: coordinates on E, risk, gradient norm, eigenvalues on E.
        at: the same point in L.
        blocks: E⊥, sector by sector.
    """

    problem: Problem
    point: StationaryPoint
    at: Tensor
    blocks: tuple[SectorModes, ...]

    def mode(self, block: SectorModes, number: int) -> Mode:
        """Eigenvector ``number`` of a sector, as a unit vector of L."""
        rows = sectors.lift(self.problem.space, block.irrep, block.vectors[:, number].contiguous())
        return Mode(block.irrep.name, float(block.values[number]), rows[0] / rows[0].norm())

    @property
    def lowest(self) -> Mode:
        """λ_min on E⊥."""
        return self.mode(min(self.blocks, key=lambda b: b.values[0]), 0)

    @property
    def highest(self) -> Mode:
        """λ_max on E⊥."""
        return self.mode(max(self.blocks, key=lambda b: b.values[-1]), -1)

    def lowest_above(self, bound: float, apart_from: float = float("nan")) -> Mode:
        """The lowest mode on E⊥ with λ ≥ bound, passing over those of one known eigenvalue.

        Raises:
            BadInput: there is none.
        """
        found = [
            (float(v), i, b)
            for b in self.blocks
            for i, v in enumerate(b.values)
            if v >= bound and not abs(v - apart_from) <= 1e-6 * abs(apart_from)
        ]
        if not found:
            raise BadInput(f"{self.problem.name}: no eigenvalue on E⊥ is {bound:g} or more; use a smaller bound")
        _, number, block = min(found, key=lambda f: f[0])
        return self.mode(block, number)

    def sharing(self, value: float) -> list[str]:
        """The irreps whose sectors have this eigenvalue, to 1e-8 relative to it."""
        near = 1e-8 * max(abs(value), 1e-3 * self.highest.value)
        return [b.irrep.name for b in self.blocks if np.abs(b.values - value).min() <= near]

    @property
    def negative(self) -> int:
        """Negative eigenvalues on E⊥, with their multiplicity in L."""
        noise = 1e-10 * max(1.0, self.highest.value)
        return round(sum(int((b.values < -noise).sum()) * b.multiplicity for b in self.blocks))

    @property
    def top_on_e(self) -> float:
        """λ_max on E."""
        return self.point.eigenvalues[-1]

    def summary(self) -> dict[str, object]:
        """What result files say of it."""
        low, high = self.lowest, self.highest
        return {
            "task": self.problem.name,
            "group": self.problem.group.name,
            "samples": len(self.problem.samples),
            "weight_decay": self.problem.weight_decay,
            "dim_L": self.problem.space.dim,
            "dim_E": self.problem.space.dim_equivariant,
            "start": self.point.start,
            "risk": self.point.risk,
            "gradient_norm": self.point.gradient_norm,
            "tolerance": self.point.tolerance,
            "norm": float(self.at.norm()),
            "lambda_min_E": self.point.eigenvalues[0],
            "lambda_max_E": self.top_on_e,
            "lambda_min_E_perp": low.value,
            "irreps": self.sharing(low.value),
            "lambda_max_E_perp": high.value,
            "negative_E_perp": self.negative,
            "accuracy": accuracies(self.problem, self.at),
        }


def accuracies(problem: Problem, at: Tensor) -> dict[str, float]:
    """On training and test data and of the best constant predictor, where predictions are decisions."""
    found = {}
    if problem.metric is not None:
        with torch.no_grad():
            for which in ("train", "test", "constant"):
                scores = problem.metric(lambda x: problem.model.predict(at, x), which)
                if "accuracy" in scores:
                    found[which] = scores["accuracy"]
    return found


def resolve(problem: Problem, theta: Tensor, tolerance: float, start: int | None = None) -> Ground:
    """The point of E with coordinates θ and all modes there.

    Raises:
        BadInput: a sector too large for a dense block.
    """
    space, blocks = problem.space, []
    nominal = None if hasattr(problem.model, "network") else nominal_hessian(problem, space.embed(theta))
    for irrep, size in sectors.occurring(space):
        if size > SECTOR_LIMIT:
            raise BadInput(f"{problem.name}: sector {irrep.name} has {size:,} dimensions; use a smaller size")
        if irrep.is_trivial:
            continue
        if assembly.applies(problem, irrep):
            matrix = assembly.sector_matrix(problem, theta, irrep, 4.0)
        else:
            matrix = assemble(sectors.sector_hessian(problem, theta, irrep, nominal), theta)
        values, vectors = torch.linalg.eigh(matrix)
        blocks.append(SectorModes(irrep, values.numpy(), vectors))
    point = describe_point(problem, theta, "minimum", tolerance, start)
    if point.eigenvalues is None:
        values = torch.linalg.eigvalsh(assemble(hessian_on_e(problem, theta), theta))
        point = StationaryPoint(**{**vars(point), "eigenvalues": tuple(values.tolist())})
    return Ground(problem, point, space.embed(theta), tuple(blocks))


def find(problem: Problem, start: int) -> Ground:
    """The stationary point on E that a seeded start leads to.

    Raises:
        BadInput: the search fell short.
    """
    tolerance = TOLERANCE * gradient_scale(problem, start)
    theta = minimise(problem, problem.initial(start), tolerance)
    ground = resolve(problem, theta, tolerance, start)
    if not ground.point.converged:
        norm = ground.point.gradient_norm
        raise BadInput(f"{problem.name}, start {start}: ‖∇‖ stays at {norm:.1e}, above {tolerance:.1e}; try another")
    return ground


@dataclass(frozen=True)
class Case:
    """A point that an analysis starts from: a task, its data and decay, and the start of the search."""

    task: str
    start: int = 0
    samples: int | None = None
    weight_decay: float | None = None
    group: str | None = None

    @property
    def label(self) -> str:
        """Short and unique."""
        parts = [self.task, self.group, self.samples and f"{self.samples} samples"]
        parts += [self.weight_decay is not None and f"μ = {self.weight_decay:g}"]
        parts += [not self.by_hand and f"start {self.start}"]
        return ", ".join(str(p) for p in parts if p)

    @property
    def by_hand(self) -> bool:
        """Whether A* = (½, ½) is known without a search."""
        return self.task.startswith("counterexample")

    def problem(self) -> Problem:
        """The problem at its small size."""
        options = TaskOptions(samples=self.samples, weight_decay=self.weight_decay, group=self.group)
        return load(self.task, options)

    def ground(self) -> Ground:
        """Its stationary point; A* = (½, ½) for the problems known by hand."""
        problem = self.problem()
        if self.by_hand:
            theta = problem.space.project(problem.samples.x.new_tensor([0.5, 0.5]))
            return resolve(problem, theta, 1e-12)
        return find(problem, self.start)


def stabiliser(problem: Problem, v: Tensor) -> list:
    """The elements with ρ̄(g)v = v, to 1e-8 of ‖v‖: a subgroup."""
    return [g for g in problem.group.elements() if (problem.space.act(g, v) - v).norm() <= 1e-8 * v.norm()]


def faster_transverse_part(problem: Problem) -> Callable[[Tensor], Tensor]:
    """v ↦ v_{E⊥} with an orthonormal basis of E held in memory: for many steps of a small problem."""
    basis = problem.space.embed(torch.eye(problem.space.dim_equivariant, dtype=torch.float64))
    return lambda v: v - (v @ basis.mT) @ basis


class Rows:
    """Results in one JSON file, kept as they come.

    Args:
        file: where they are kept.
        options: what they depend on; a file of other options is refused.

    Raises:
        BadInput: the file belongs to other options, or is no such file.
    """

    def __init__(self, file: Path, options: dict[str, object]) -> None:
        self.file, self.options = file, json.loads(json.dumps(options))
        self.rows: list[dict] = []
        self.extra: dict[str, object] = {}
        if file.is_file():
            try:
                stored = json.loads(file.read_text())
                kept, rows = stored["options"], list(stored["rows"])
            except (ValueError, KeyError, TypeError) as error:
                raise BadInput(f"--out: {str(file)!r} is no result of this analysis; use another folder") from error
            if kept != self.options:
                raise BadInput(f"--out: {str(file)!r} belongs to other options; use another folder, or remove it")
            self.rows = rows

    def has(self, **key: object) -> bool:
        """Whether a row with these entries is there."""
        return any(all(r.get(k) == v for k, v in key.items()) for r in self.rows)

    def pick(self, **key: object) -> list[dict]:
        """Rows with these entries."""
        return [r for r in self.rows if all(r.get(k) == v for k, v in key.items())]

    def add(self, row: dict) -> None:
        """Keep one more row, on disk at once."""
        self.rows.append(json.loads(json.dumps(row)))
        self.save()

    def save(self, **extra: object) -> None:
        """Write everything, ``extra`` beside the rows."""
        self.extra |= extra
        write(self.file, dumps({"options": self.options, **self.extra, "rows": self.rows}))


def dumps(data: object) -> str:
    """Strict JSON, one entry a line; short lists of numbers stay on one line."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def finish(
    folder: Path,
    name: str,
    rows: Rows,
    figure: Figure,
    section: Section,
    tables: Iterable[dict] = (),
    caption: str = "",
) -> None:
    """The picture, the words and the tables of an analysis beside its rows, as ``analyses.all`` reads them."""
    save_figure(folder / f"{name}.png", figure)
    rows.save(**_words(section, tables, [{"file": f"{name}.png", "caption": caption}]))


def publish(
    folder: Path,
    name: str,
    data: dict,
    figures: Mapping[str, tuple[Figure, str]],
    section: Section,
    tables: Iterable[dict] = (),
) -> None:
    """The same for an analysis without ``Rows``.

    Args:
        folder: where it writes.
        name: of the module; the result is NAME.json.
        data: every number in the pictures.
        figures: (picture, caption) by file name.
        section: the words.
        tables: see :func:`table`.
    """
    for file, (figure, _) in figures.items():
        save_figure(folder / file, figure)
    listed = [{"file": file, "caption": caption} for file, (_, caption) in figures.items()]
    write(folder / f"{name}.json", dumps({**_words(section, tables, listed), **data}))


def _words(section: Section, tables: Iterable[dict], figures: list[dict]) -> dict[str, object]:
    return {"section": asdict(section), "figures": figures, "tables": list(tables)}


def save_figure(path: Path, figure: Figure) -> None:
    """PNG, whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    write(path, buffer.getvalue())


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> dict:
    """A table for the gathered report; cells are texts or numbers."""
    return {"title": title, "header": list(header), "rows": [list(r) for r in rows]}


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """The least-squares slope of log values over times: a measured rate.

    >>> import math
    >>> round(slope([0, 1, 2, 3], [math.exp(-0.5 * t) for t in range(4)]), 12)
    -0.5
    """
    return float(np.polyfit(np.asarray(times), np.log(np.asarray(values)), 1)[0])


def pool_arguments(parser: argparse.ArgumentParser) -> None:
    """``--workers`` and ``--scheduler``, for :func:`stability.cluster.pool`."""
    parser.add_argument("--workers", type=int, help="processes of this machine, of one thread each")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of Dask, for the processes of others")


def command(main: Callable[[Sequence[str] | None], None], arguments: Sequence[str] | None = None) -> int:
    """Run ``main``; bad input ends with one line on stderr and status 2."""
    try:
        main(arguments)
    except BadInput as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


__all__ = [
    "Case",
    "Ground",
    "Mode",
    "Rows",
    "Section",
    "command",
    "dumps",
    "faster_transverse_part",
    "find",
    "finish",
    "pool_arguments",
    "prepare_folder",
    "publish",
    "resolve",
    "save_figure",
    "slope",
    "stabiliser",
    "table",
]
