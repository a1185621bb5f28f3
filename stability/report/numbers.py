"""Analysis → the numbers of every figure as a table with named columns, units in the names: what a CSV file holds."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable

from stability.report import words
from stability.results import Analysis

Rows = tuple[tuple[str, ...], list[tuple]]
SPACES = ("E", "E_perp")
# How a formula begins in a spreadsheet.
FORMULA = tuple("=+-@")


def numbers(analysis: Analysis, name: str) -> Rows:
    """Column names and rows of what the figure draws, as stored."""
    return {
        "spectrum": _spectrum,
        "lowest": _lowest,
        "sectors": _sectors,
        "frequencies": _frequencies,
        "mode": _mode,
        "points": _points,
        "choices": _choices,
        "density": _density,
        "slices": _slices,
        "plane": _plane,
        "flow": _flow,
        "steps": _steps,
        "kernel": _kernel,
        "breaking": _breaking,
        "training": _training,
        "escape": _escape,
    }[name](analysis)


def as_csv(rows: Rows) -> str:
    """The table as comma-separated values, numbers with every digit that is stored."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows([_cell(x) for x in row] for row in rows[1])
    return stream.getvalue()


def _cell(x: object) -> object:
    """A cell; text that a spreadsheet would run as a formula begins with an apostrophe, which keeps it text."""
    if isinstance(x, str):
        printable = "".join(c if c.isprintable() else " " for c in x)
        return f"'{printable}" if printable.lstrip()[:1] in FORMULA else printable
    return "" if x is None else repr(x) if isinstance(x, float) else x


def _spectrum(a: Analysis) -> Rows:
    from stability.report.figures import measure

    rows = []
    for where in SPACES:
        values, counts = measure(words.part(a, "aug", where))
        rows += [(where, float(v), int(m)) for v, m in zip(values, counts, strict=True)]
    return ("space", "eigenvalue", "multiplicity"), rows


def _lowest(a: Analysis) -> Rows:
    rows = [
        (where, k, e.value, e.residual, e.multiplicity, e.irrep)
        for where in SPACES
        if (s := words.part(a, "aug", where))
        for k, e in enumerate(s.lowest[:10], 1)
    ]
    return ("space", "rank", "eigenvalue", "residual", "multiplicity", "irrep"), rows


def _sectors(a: Analysis) -> Rows:
    rows = [
        (x.irrep, x.dim, end, e.value, e.residual, e.multiplicity)
        for x in a.sectors
        for end, ends in (("lowest", x.lowest), ("highest", x.highest))
        for e in ends
    ]
    return ("irrep", "dim", "end", "eigenvalue", "residual", "multiplicity"), rows


def _frequencies(a: Analysis) -> Rows:
    rows = [(*x.frequency, x.lowest[0].value, x.lowest[0].residual) for x in a.sectors if x.frequency and x.lowest]
    axes = tuple(f"frequency_{i}" for i in range(len(rows[0]) - 2)) if rows else ()
    return (*axes, "lowest_eigenvalue", "residual"), rows


def _grid(label: str, values: Iterable[Iterable[float]]) -> list[tuple]:
    return [(label, i, j, v) for i, row in enumerate(values) for j, v in enumerate(row)]


def _mode(a: Analysis) -> Rows:
    m = a.mode
    rows = [] if m.input is None else _grid("input", m.input)
    rows += _grid("response", m.response)
    for k, change in enumerate(m.change, 1):
        rows += _grid(f"added, partner {k}", change)
    return ("image", "row", "column", "value"), rows


def _points(a: Analysis) -> Rows:
    rows = [
        (
            i,
            p.kind,
            p.risk["aug"] if p.risk.get("aug") is not None else p.risk["nominal"],
            p.grad_norm["eqv"],
            p.index_E,
        )
        for i, p in enumerate(a.points, 1)
    ]
    return ("point", "kind", "risk", "gradient_norm_on_E", "index_on_E"), rows


def _choices(a: Analysis) -> Rows:
    rows = [
        (i, p.kind, p.risk["eqv"], e.irrep, e.value, e.residual) for i, p in enumerate(a.points, 1) for e in p.lowest
    ]
    return ("point", "kind", "risk", "irrep", "lowest_eigenvalue", "residual"), rows


def _density(a: Analysis) -> Rows:
    from stability.report.landscape import shares_of

    rows = []
    for where in SPACES:
        s = shares_of(a, where)
        if s:
            columns = zip(s.edges[:-1], s.edges[1:], s.share, s.error, s.resolution, strict=True)
            rows += [(where, *row) for row in columns]
    return ("space", "from_eigenvalue", "to_eigenvalue", "share", "standard_error", "resolution"), rows


def _slices(a: Analysis) -> Rows:
    rows = []
    for where, s in a.pictures.slices.items():
        rows += [(where, *row) for row in zip(s.at, s.aug, s.nominal, s.eqv, s.predicted(), strict=True)]
    return ("direction", "t", "R_aug", "R", "R_eqv", "R_aug_quadratic"), rows


def _plane(a: Analysis) -> Rows:
    p = a.pictures.plane
    rows = [
        (s, t, value) for t, line in zip(p.across, p.aug, strict=True) for s, value in zip(p.along, line, strict=True)
    ]
    return ("along_E", "along_E_perp", "R_aug"), rows


def _flow(a: Analysis) -> Rows:
    run = a.pictures.flow
    columns = (run.times, run.off_equivariance, run.predicted().tolist(), run.moved_on_E, run.risk)
    return ("flow_time", "off_E", "off_E_predicted", "moved_on_E", "R_aug"), list(zip(*columns, strict=True))


def _steps(a: Analysis) -> Rows:
    rows = []
    for run in a.pictures.steps:
        columns = (map(int, run.times), run.off_equivariance, run.predicted().tolist(), run.moved_on_E, run.risk)
        rows += [(run.step, run.critical_step, *row) for row in zip(*columns, strict=True)]
    return ("step_size", "critical_step", "step", "off_E", "off_E_predicted", "moved_on_E", "R_aug"), rows


def _kernel(a: Analysis) -> Rows:
    k = a.pictures.kernel
    rows = _grid("before", k.before)
    for g, view in zip(k.elements, k.after, strict=True):
        rows += _grid(f"after, g = {g}", view)
    return ("kernel", "row", "column", "weight"), rows


def _breaking(a: Analysis) -> Rows:
    b = a.pictures.breaking
    shown = (lambda loss: math.exp(-loss)) if b.probability else float
    rows = [("on E", g, shown(loss)) for g, loss in zip(b.elements, b.start or (), strict=b.start is not None)]
    rows += [
        (t, g, shown(loss))
        for t, line in zip(b.times, b.losses, strict=True)
        for g, loss in zip(b.elements, line, strict=True)
    ]
    if b.end is not None:
        rows += [("end", g, shown(loss)) for g, loss in zip(b.elements, b.end, strict=True)]
    return ("flow_time", "transform", "probability_of_right_answer" if b.probability else "loss"), rows


def _training(a: Analysis) -> Rows:
    h = a.training
    rows = [
        (epoch, risk, e.irrep, e.value, e.residual)
        for epoch, risk, line in zip(h.epochs, h.risk, h.lowest, strict=True)
        for e in line
    ]
    return ("epoch", "R", "irrep", "lowest_eigenvalue", "residual"), rows


def _escape(a: Analysis) -> Rows:
    e = a.escape
    rows = [("R_aug", e.risk_start, e.risk_end)]
    name = e.metrics_start.get("name")
    for which in ("train", "test"):
        pair = (e.metrics_start.get(which), e.metrics_end.get(which))
        rows += [(f"{name}_{which}", *pair)] if name and None not in pair else []
    return ("what", "before", "after"), rows
