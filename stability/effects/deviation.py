r"""Exact augmented training from a point A of E plus a small push εv, v an eigenvector of ∇²R^aug on E⊥.

To first order the deviation y ∈ E⊥ moves on its own, ẏ = −∇²R^aug(A) y (27):

    flow               ‖A_{E⊥}(t)‖ = ε e^{−λt}
    steps of size τ    ‖A_{E⊥}(k)‖ = ε |1 − τλ|^k, which grows above τ = 2/λ even where λ > 0
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stability.effects.fixed import FixedRisk
from stability.effects.flow import flow
from stability.groups.group import order_of
from stability.problem.problem import Problem

PUSH, STEP_PUSH = 3e-3, 1e-4
FOLDS, LEAST_FOLDS = 5.0, 1.0
TOLERANCE = 1e-2
# Numbers (samples × weights) that the gradients of one run may take in all; one core does about 2·10⁹ a second.
WORK = 4e10
STEPS = 30
# Gradients of one factor e of flow, in units of √(λ_max/|λ|): steps of |λ|h ≈ 0.25, stages √(1.54·1.25·h·λ_max).
PER_FOLD = 2.8


@dataclass(frozen=True)
class Deviation:
    """One run, the start included.

    Attributes:
        irrep: the sector of v.
        value: λ.
        push: ε.
        norm: ‖A‖.
        step: τ; None for the flow, which is integrated with a relative error of 1e-2 a step at most.
        critical_step: 2/λ_max on E⊥.
        times: flow time, or the number of steps.
        off_equivariance: ‖A_{E⊥}‖.
        moved_on_E: how far the part on E moved.
        risk: R^aug.
        gradients: of R^aug that the run took.
        cosets: moved copies of the data that R^aug is a mean of; the |G|/|K| cosets of v's stabiliser.
    """

    irrep: str | None
    value: float
    push: float
    norm: float
    step: float | None
    critical_step: float | None
    times: tuple[float, ...]
    off_equivariance: tuple[float, ...]
    moved_on_E: tuple[float, ...]
    risk: tuple[float, ...]
    gradients: int
    cosets: int

    def predicted(self, times: np.ndarray | None = None) -> np.ndarray:
        """ε e^{−λt} or ε |1 − τλ|^k."""
        t = np.array(self.times) if times is None else times
        return self.push * (np.exp(-self.value * t) if self.step is None else np.abs(1 - self.step * self.value) ** t)


class _Record:
    def __init__(self, problem: Problem, risk: FixedRisk, at: Tensor) -> None:
        self.problem, self.risk, self.at = problem, risk, at
        self.path: list[tuple[float, Tensor]] = []
        self.off: list[float] = []
        self.on: list[float] = []
        self.values: list[float] = []

    def __call__(self, time: float, point: Tensor) -> bool:
        moved = point - self.at
        across = self.problem.space.transverse_part(moved)
        self.path.append((time, point))
        self.off.append(float(across.norm()))
        self.on.append(float((moved - across).norm()))
        self.values.append(self.risk.value(point))
        return False

    def deviation(
        self, irrep: str | None, value: float, push: float, step: float | None, top: float, gradients: int
    ) -> Deviation:
        return Deviation(
            irrep=irrep,
            value=value,
            push=push,
            norm=float(self.at.norm()),
            step=step,
            critical_step=2 / top if top > 0 else None,
            times=tuple(t for t, _ in self.path),
            off_equivariance=tuple(self.off),
            moved_on_E=tuple(self.on),
            risk=tuple(self.values),
            gradients=gradients,
            cosets=order_of(self.problem.group) // len(self.risk.elements),
        )


def folds(risk: FixedRisk, value: float, top: float, work: float = WORK) -> float:
    """Factors e that the work allowed can follow, five at most."""
    gradients = work / (len(risk.data) * risk.problem.space.dim)
    return min(FOLDS, gradients / (PER_FOLD * math.sqrt(max(top / abs(value), 1.0))))


def follow(
    problem: Problem, risk: FixedRisk, at: Tensor, v: Tensor, value: float, irrep: str | None, tops: tuple[float, float]
) -> tuple[Deviation, list[tuple[float, Tensor]]]:
    """The flow from A + εv with its points, ε = 3e-3 ‖A‖, over five factors e or as many as the work allowed.

    Args:
        problem: the risk.
        risk: R^aug where v's stabiliser fixes.
        at: A.
        v: unit eigenvector.
        value: its eigenvalue, not zero.
        irrep: its sector.
        tops: λ_max on E and on E⊥.
    """
    push, record = PUSH * max(float(at.norm()), 1.0), _Record(problem, risk, at)
    until = folds(risk, value, max(tops)) / abs(value)
    budget = int(2 * WORK / (len(risk.data) * problem.space.dim)) + 100
    start = risk.project(at + push * v)
    run = flow(risk.gradient, start, until, max(*tops, abs(value)), TOLERANCE, at, budget, record)
    return record.deviation(irrep, value, push, None, tops[1], run.gradients), record.path


def descend(
    problem: Problem, risk: FixedRisk, at: Tensor, w: Tensor, top: float, irrep: str | None, share: float
) -> Deviation:
    """Thirty steps of τ = share · 2/λ from A + εw, w the top mode with eigenvalue λ on E⊥, ε = 1e-4 ‖A‖.

    A run stops early once it has left the point by a tenth of its norm: the prediction is about what is near.
    """
    step, norm = share * 2 / top, max(float(at.norm()), 1.0)
    push, record = STEP_PUSH * norm, _Record(problem, risk, at)
    point = risk.project(at + push * w)
    record(0.0, point)
    for k in range(1, STEPS + 1):
        moved = point - step * risk.gradient(point)
        if not torch.isfinite(moved).all() or float((moved - at).norm()) > 0.1 * norm:
            break
        point = moved
        record(float(k), point)
    return record.deviation(irrep, top, push, step, top, len(record.path) - 1)
