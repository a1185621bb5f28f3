r"""What one step of training sees: B samples, each moved by drawn elements of G, in place of R^aug itself.

    per batch     (1/K) Σ_k ∇R_batch(A; g_k)          all samples of a batch share K elements
    per sample    (1/BK) Σ_b Σ_k ∇ℓ_b(A; g_bk)        each sample has K of its own

A batch holds different samples where all weigh the same, as a shuffling loader deals them, else samples drawn by
weight. With ``elements=None`` the average over G is exact, with ``batch=None`` every step sees all samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from stability.base import doors
from stability.base.errors import BadInput
from stability.base.record import Record
from stability.problem.problem import Problem
from stability.problem.space import Samples

WAYS = ("batch", "sample")


@dataclass(frozen=True)
class Draws(Record):
    """How a step draws.

    Attributes:
        batch: B, samples a step; None for all.
        elements: K, group elements; None for the exact average.
        per: what has K elements of its own, a "batch" or each "sample".
    """

    batch: int | None = None
    elements: int | None = None
    per: str = "batch"

    def __post_init__(self) -> None:
        """Raise BadInput for what no loader does."""
        for what in ("batch", "elements"):
            if getattr(self, what) is not None:
                doors.whole(f"draws: {what}", getattr(self, what), 1)
        doors.choice("draws: per", self.per, WAYS)

    @property
    def exact(self) -> bool:
        """Whether every step sees R^aug itself."""
        return self.batch is None and self.elements is None

    def __str__(self) -> str:
        batch = "all samples" if self.batch is None else f"batches of {self.batch}"
        if self.elements is None:
            return f"{batch}, averaged over the whole group"
        return f"{batch}, {self.elements} element{'s' if self.elements > 1 else ''} a {self.per}"


def fitting(problem: Problem, draws: Draws) -> Draws:
    """The same draws.

    Raises:
        BadInput: a batch larger than the data, or a problem without an action on them.
    """
    if draws.batch is not None and draws.batch > len(problem.samples):
        raise BadInput(f"draws: batches of {draws.batch} from {len(problem.samples)} samples; give a smaller batch")
    if problem.transform is None:
        raise BadInput(f"{problem.name}: augmentation needs an action on the data; give Problem(transform=…)")
    return draws


def equal_weights(problem: Problem) -> bool:
    """Whether all samples weigh the same, to rounding."""
    weight = problem.samples.weight
    return float((weight - weight.mean()).abs().max()) <= 1e-9 * float(weight.mean())


def scatter(problem: Problem, draws: Draws) -> float:
    """f with E[(x̄_B − x̄)²] = f · Var(x): 1/B by weight, (N − B)/(B(N − 1)) where no sample is met twice, 0 for all."""
    if draws.batch is None:
        return 0.0
    total = len(problem.samples)
    if equal_weights(problem):
        return (total - draws.batch) / (draws.batch * max(total - 1, 1))
    return 1 / draws.batch


def draw(problem: Problem, draws: Draws, rng: np.random.Generator) -> Samples:
    """The moved samples of one step, weights summing to one: R on them is what that step descends."""
    transform, samples = problem.transform, problem.samples
    if draws.batch is not None:
        weight = samples.weight.cpu().numpy()
        even = equal_weights(problem)
        chosen = rng.choice(len(weight), draws.batch, replace=not even, p=None if even else weight / weight.sum())
        x, y = samples.x[chosen], samples.y[chosen]
        samples = Samples(x, y, torch.full_like(samples.weight[chosen], 1 / draws.batch))
    parts: list[Samples] = []
    if draws.elements is None:
        for g, share in problem.elements():
            x, y, weight = transform(g, samples)
            parts.append(Samples(x, y, weight * share))
    elif draws.per == "batch":
        for _ in range(draws.elements):
            x, y, weight = transform(problem.group.sample(rng), samples)
            parts.append(Samples(x, y, weight / draws.elements))
    else:
        for _ in range(draws.elements):
            drawn: dict[object, list[int]] = {}
            for i in range(len(samples)):
                drawn.setdefault(problem.group.sample(rng), []).append(i)
            for g, rows in drawn.items():
                x, y, weight = transform(g, Samples(*(part[rows] for part in samples)))
                parts.append(Samples(x, y, weight / draws.elements))
    return Samples(*(torch.cat(column) for column in zip(*parts, strict=True)))
