r"""R^aug on the points that a subgroup K fixes, by |G|/|K| moved copies of the data instead of |G|.

For A with ρ̄(k)A = A, k ∈ K, the risk R(ρ̄(g)A) depends on the coset gK alone, so

    R^aug(A) = mean over cosets of R(ρ̄(g)A),    ∇R^aug(A) = Π_K ∇(the same mean),    Π_K = mean over K of ρ̄(k)

Gradient descent and flow never leave these points: a push along a direction that K fixes is followed exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad

from stability.groups import Element
from stability.problem.problem import Problem
from stability.problem.space import ParameterSpace, Samples

CHUNK = 4096
FIXED = 1e-9


@dataclass(frozen=True)
class FixedRisk:
    """R^aug and its gradient at points that ``elements`` fix.

    Attributes:
        problem: whose R^aug it is.
        elements: K.
        data: the data moved by one element of every coset, equal samples merged.
        places: which weight each k moves to every place, (|K|, dim L); None for K = {1}.
    """

    problem: Problem
    elements: tuple[Element, ...]
    data: Samples
    places: Tensor | None

    def project(self, v: Tensor) -> Tensor:
        """Π_K v, (…, dim L)."""
        return v if self.places is None else v[..., self.places].mean(-2)

    def value(self, at: Tensor) -> float:
        """R^aug(A)."""
        with torch.no_grad():
            parts = sum(self.problem.loss(at, part) for part in self.data.chunks(CHUNK))
            return float(parts + self.problem.penalty(at))

    def gradient(self, at: Tensor) -> Tensor:
        """∇R^aug(A)."""
        total = torch.zeros_like(at)
        for part in self.data.chunks(CHUNK):
            total += grad(self.problem.loss)(at, part)
        return self.project(total) + self.problem.weight_decay * at


def stabiliser(space: ParameterSpace, v: Tensor) -> tuple[Element, ...]:
    """The elements with ρ̄(g)v = v."""
    limit = FIXED * float(v.norm())
    return tuple(g for g in space.group.elements() if float((space.act(g, v) - v).norm()) <= limit)


def fixed_risk(problem: Problem, v: Tensor) -> FixedRisk:
    """R^aug at the points A + tv and wherever its flow leads from there, A in E.

    Only permutation representations gain: elsewhere Π_K would cost more than it saves, and K is taken as trivial.
    """
    space, group = problem.space, problem.group
    permuted = all(layer.source.is_permutation and layer.target.is_permutation for layer in space.layers)
    elements = stabiliser(space, v) if permuted and group.order is not None else (group.identity,)
    seen: set[Element] = set()
    chosen: list[Element] = []
    for h in group.elements() if len(elements) > 1 else ():
        if h not in seen:
            chosen.append(h)
            seen.update(group.multiply(k, h) for k in elements)
    # What moves v by a little less than the limit need not be a subgroup; then its cosets overlap.
    if len(elements) == 1 or len(chosen) * len(elements) != group.order:
        return FixedRisk(problem, (group.identity,), problem.augmented(), None)
    numbers = torch.arange(space.dim, device=v.device)
    places = torch.stack([space.act(k, numbers) for k in elements])
    return FixedRisk(problem, elements, problem.augmented(chosen), places)
