"""Points that several analyses start from, named by task, data, decay and start."""

from __future__ import annotations

from dataclasses import dataclass

from analyses.lab.ground import Ground, find, resolve
from stability.problem.problem import Problem
from stability.tasks import TaskOptions, load


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
