"""What is unstable, how often, and what goes with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from scipy.stats import spearmanr

from analyses.studies.stability_map.cells import Cell


def minima(rows: Sequence[dict]) -> list[dict]:
    """Points found to the tolerance that are strict minima on E."""
    return [r for r in rows if r["kind"] == "minimum" and r["converged"] and r["lambda_min_E"] > 0]


def unstable(row: dict) -> bool:
    """A negative eigenvalue on E⊥, by more than what two ways of computing it disagree by, and rounding."""
    noise = 10 * row["check"] + 1e-10 * row["lambda_max_E_perp"]
    return row["lambda_min_E_perp"] < -noise and row["parts"]["quotient"] < -noise


def collapsed(row: dict) -> bool:
    """The decay has driven the network to A = 0 or so near it that it decides nothing."""
    return row["norm"] < 1e-3


def of_cell(rows: Sequence[dict], cell: Cell) -> list[dict]:
    """Rows of one cell."""
    return [r for r in rows if r["cell"] == asdict(cell)]


def interval(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share.

    >>> [round(v, 2) for v in interval(5, 5)]
    [0.57, 1.0]
    """
    z, share = 1.96, successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


def leverage(row: dict) -> float:
    """−residual/(Gauss-Newton + μ) along the lowest direction of E⊥: above one exactly where λ_min < 0."""
    parts = row["parts"]
    return -parts["residual"] / (parts["gauss_newton"] + parts["decay"])


CANDIDATES = {
    "misfit √E|ℓ'|²": lambda r: r["misfit"],
    "dim E": lambda r: r["dim_E"],
    "dim E/dim L": lambda r: r["dim_E"] / r["dim_L"],
    "width": lambda r: r["cell"]["width"],
    "μ": lambda r: r["cell"]["decay"],
    "samples": lambda r: r["cell"]["samples"],
    "training accuracy": lambda r: r["accuracy"].get("train", float("nan")),
}


def rank_correlations(rows: Sequence[dict]) -> dict[str, float]:
    """Spearman's rank correlation of :func:`leverage` with what might decide it; without those that do not vary."""
    value = [leverage(r) for r in rows]
    found = {}
    for name, candidate in CANDIDATES.items():
        other = [candidate(r) for r in rows]
        if len(set(other)) > 1 and len(rows) > 5:
            found[name] = float(spearmanr(other, value)[0])
    return found
