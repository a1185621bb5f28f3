"""The runs of one strategy on one task together, beside what the gradient at their starts predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analyses.lab.drift.signals import GradientStatistics
from analyses.paper.figure1.runs import STRATEGIES, TASKS


def rounding_bound(row: dict, first: float, step: float, epochs: int) -> np.ndarray:
    """‖A_{E⊥}‖ by epoch of exact augmented descent that rounds by ε‖A‖ a step: fᵗ·first + ε‖A‖ Σ_{j<t} fʲ.

    f = max|1 − τλ| on E⊥, from the CURVATURE ``row``; ``first`` is ‖A_{E⊥}‖ of weights in E, as measured.
    """
    powers = amplification(row, step) ** np.arange(epochs + 1)
    rounds = np.finfo(float).eps * row["norm"] * np.concatenate([[0.0], np.cumsum(powers[:-1])])
    return powers * first + rounds


def amplification(row: dict, step: float) -> float:
    """max|1 − τλ| between the ends of a spectrum."""
    return max(abs(1 - step * row["lowest"]), abs(1 - step * row["highest"]))


@dataclass(frozen=True)
class Curves:
    """The runs of one strategy on one task, and what the gradient at their starts predicts for the end.

    Attributes:
        travelled, off: (runs, epochs + 1).
        predicted: ‖A_{E⊥}‖ after the last epoch, run by run; nan where nothing predicts it.
        left_out: the largest bound on what NEAR leaves out, relative.
        cpu_seconds: of one run, the mean.
    """

    task: str
    strategy: str
    travelled: np.ndarray
    off: np.ndarray
    predicted: np.ndarray
    left_out: float | None
    cpu_seconds: float | None

    @property
    def ratio(self) -> float:
        """Measured over predicted ‖A_{E⊥}‖ at the end, root mean squares over the runs."""
        return float(np.sqrt(np.mean(self.off[:, -1] ** 2) / np.mean(self.predicted**2)))

    @property
    def end(self) -> tuple[float, float]:
        """Mean ‖A − A⁰‖ and ‖A_{E⊥}‖ after the last epoch."""
        return float(self.travelled[:, -1].mean()), float(self.off[:, -1].mean())


def prediction(statistics: GradientStatistics, name: str, options: dict) -> np.ndarray:
    """‖A_{E⊥}‖ by epoch, from the gradient at the start alone."""
    step, epochs = options["step"], options["epochs"]
    if name in ("AUG", "NEAR"):
        return statistics.sampled_drift(step, epochs, options["passes"])
    return statistics.nominal_drift(step, epochs) if name == "NOM" else np.full(epochs + 1, np.nan)


def curves(rows: Sequence[dict], options: dict) -> list[Curves]:
    """The rows sorted by task and strategy."""
    starts = {(r["task"], r["run"]): GradientStatistics(**r["statistics"]) for r in rows if r["strategy"] == "START"}
    found = []
    for task in TASKS:
        for name in STRATEGIES:
            mine = [r for r in rows if r["task"] == task and r["strategy"] == name]
            if not mine:
                continue
            at = [starts.get((task, r["run"])) for r in mine]
            predicted = [float("nan") if s is None else prediction(s, name, options)[-1] for s in at]
            seconds = [r["cpu_seconds"] for r in mine if r["cpu_seconds"] is not None]
            found.append(
                Curves(
                    task,
                    name,
                    np.array([r["travelled"] for r in mine]),
                    np.array([r["off_equivariance"] for r in mine]),
                    np.array(predicted),
                    max((r["left_out"] for r in mine if "left_out" in r), default=None),
                    float(np.mean(seconds)) if seconds else None,
                )
            )
    return found


def agreement(rows: Sequence[dict], task: str) -> tuple[int, float] | None:
    """Over runs trained both ways: how many, and the largest |‖A_{E⊥}‖ of NEAR/‖A_{E⊥}‖ of AUG − 1| at any epoch."""
    by_run = {
        (r["strategy"], r["run"]): np.array(r["off_equivariance"])
        for r in rows
        if r["task"] == task and "off_equivariance" in r
    }
    both = [run for name, run in by_run if name == "NEAR" and ("AUG", run) in by_run]
    if not both:
        return None
    errors = [np.abs(by_run["NEAR", run][1:] / by_run["AUG", run][1:] - 1).max() for run in both]
    return len(both), float(max(errors))
