"""Analysis → rows of the table of eigenvalues that a reader sorts and filters, and values that are only drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stability.eigen.spectrum import Eigenvalue
from stability.report.words import SPACES, error_of, kind, part, sign
from stability.results import Analysis

# Values without a residual of their own that a page carries, in each space.
REST = 1500
RISKS = {"aug": "R^aug", "eqv": "R^eqv", "nominal": "R"}


@dataclass(frozen=True)
class Row:
    """One eigenvalue: of which point and Hessian, where, with what evidence.

    Attributes:
        point: which point, in words.
        space: which Hessian, and on what.
        irrep: its sector, or "not resolved".
        value: the eigenvalue.
        residual: ‖Hv − θv‖.
        multiplicity: None where it is not resolved.
        sign: "negative", "zero" or "positive", by its error.
    """

    point: str
    space: str
    irrep: str
    value: float
    residual: float
    multiplicity: int | None
    sign: str


def _point(analysis: Analysis, i: int) -> str:
    name = kind(analysis.points[i]) if i < len(analysis.points) else "point"
    return f"{i + 1}: {name}" + (", judged" if i == 0 else "")


def rows(analysis: Analysis) -> list[Row]:
    """Every eigenvalue with a residual, of ∇²R^aug at the point judged, of ∇²R on L, and λ_min at the other points."""
    found: dict[tuple[str, str, str, float], Row] = {}

    def add(point: str, space: str, e: Eigenvalue, error: float, irrep: str = "") -> None:
        """Unless it is there already."""
        name = irrep or e.irrep or "not resolved"
        row = Row(point, space, name, e.value, e.residual, e.multiplicity, sign(e.value, max(error, e.residual)))
        found.setdefault((point, space, name, e.value), row)

    judged = _point(analysis, 0)
    for x in analysis.sectors:
        space = "E" if x.irrep == "trivial" else "E⊥"
        for e in (*x.lowest, *x.highest):
            add(judged, space, e, x.error, x.irrep)
    for where, name in (("E", "E"), ("E_perp", "E⊥")):
        if s := None if analysis.sectors else part(analysis, "aug", where):
            for e in (*s.lowest, *s.highest):
                add(judged, name, e, s.error)
    if whole := part(analysis, "nominal", "L"):
        for e in (*whole.lowest, *whole.highest):
            add(judged, "L, without augmentation", e, whole.error)
    for i, p in enumerate(analysis.points[1:], 1):
        for e in p.lowest:
            where = "E" if e.irrep == "trivial" else "E_perp"
            add(_point(analysis, i), SPACES[where], e, error_of(analysis, e, where))
    return sorted(found.values(), key=lambda r: (r.point, r.value))


def rest(analysis: Analysis) -> list[dict[str, Any]]:
    """Values of whole spectra on E and on E⊥ that have no residual of their own: {space, value, multiplicity}."""
    known = {r.value for r in rows(analysis)}
    found: list[dict[str, Any]] = []
    for where, name in (("E", "E"), ("E_perp", "E⊥")):
        s = part(analysis, "aug", where)
        if s is None or s.density is None or not s.complete:
            continue
        values = np.array(s.density.values)
        counts = np.rint(np.array(s.density.weights) * s.dim).astype(int)
        keep = np.array([v not in known for v in values.tolist()], dtype=bool)
        chosen = np.flatnonzero(keep)
        if len(chosen) > REST:  # evenly by rank, which keeps the shape
            chosen = chosen[np.linspace(0, len(chosen) - 1, REST).round().astype(int)]
        found += [
            {"space": name, "value": float(f"{values[i]:.6g}"), "multiplicity": int(counts[i])} for i in chosen.tolist()
        ]
    return found
