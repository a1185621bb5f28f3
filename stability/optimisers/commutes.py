r"""Does an update commute with G? ‖ρ̄(g)U(A; G_1 … G_k) − U(ρ̄(g)A; ρ̄(g)G_1 … ρ̄(g)G_k)‖, measured.

U is where k steps with the gradients G_1 … G_k lead, so the state is moved along with the weights by its own history.
Gradient descent and momentum commute with every orthogonal ρ̄, Muon with all that turn whole matrices, rules that work
weight by weight with (signed) permutations only: where ρ̄ mixes weights they leave E at once, whatever the spectrum
says, by the speed ‖P_{E⊥}(A_k − A)‖/k that is measured along the gradients of R^aug itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.func import grad

from stability.base.record import Record
from stability.optimisers.draws import Draws, draw, fitting
from stability.optimisers.steps import advance, rest
from stability.optimisers.updates import Update
from stability.problem.problem import Problem

STEPS, TRIALS = 3, 4
# Relative to the length of the path: what rounding leaves of an update that commutes.
EXACT = 1e-9


@dataclass(frozen=True)
class Commutation(Record):
    """Whether an update commutes with G.

    Attributes:
        commutes: whether the violation is rounding.
        violation: the largest found, relative to ‖A_k − A‖.
        element: of the group, where it was found.
        speed: ‖P_{E⊥}(A_k − A)‖ a step from a point of E, with exact gradients of R^aug; zero where it commutes.
        share: the same over the length of the step, ‖A_k − A‖/k.
        steps: k.
    """

    commutes: bool
    violation: float
    element: str
    speed: float
    share: float
    steps: int

    def __str__(self) -> str:
        if self.commutes:
            return f"the update commutes with G (violation {self.violation:.1e})"
        return (
            f"the update does not commute with G (violation {self.violation:.2g}, at {self.element}): it leaves E by "
            f"{self.speed:.3g} a step, {self.share:.2g} of the step's length"
        )


def walk(problem: Problem, update: Update, at: Tensor, gradients: Sequence[Tensor]) -> Tensor:
    """Where steps with given gradients lead."""
    state = rest(at)
    for gradient in gradients:
        at, state = advance(update, at, gradient, state, problem.space)
    return at


def commutation(problem: Problem, update: Update, theta: Tensor, *, seed: int = 0) -> Commutation:
    """Measured on Gaussian gradients, generators and drawn elements of G.

    Args:
        problem: the risk.
        update: the rule.
        theta: a point of E, in coordinates, from which the speed is taken.
        seed: of gradients and elements.
    """
    space, generator, rng = problem.space, torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    at = space.embed(theta)
    worst, where = 0.0, "no element"
    for g in [*problem.group.generators, *(problem.group.sample(rng) for _ in range(TRIALS))]:
        noise = torch.randn(STEPS + 1, space.dim, generator=generator, dtype=torch.float64).to(at)
        start, gradients = noise[0], list(noise[1:])
        end = walk(problem, update, start, gradients)
        moved = walk(problem, update, space.act(g, start), [space.act(g, v) for v in gradients])
        off = float((space.act(g, end) - moved).norm() / (end - start).norm())
        if off > worst:
            worst, where = off, str(g)
    commutes = worst <= (EXACT if at.dtype == torch.float64 else 1e-3)
    speed, length = (0.0, 0.0) if commutes else _led_off(problem, update, at)
    return Commutation(commutes, worst, where, speed / STEPS, speed / length if length else 0.0, STEPS)


def _led_off(problem: Problem, update: Update, at: Tensor) -> tuple[float, float]:
    """‖P_{E⊥}(A_k − A)‖ and ‖A_k − A‖ with the gradients of R^aug."""
    path, state = at, rest(at)
    for _ in range(STEPS):
        path, state = advance(update, path, exact_gradient(problem, path), state, problem.space)
    return float(problem.space.transverse_part(path - at).norm()), float((path - at).norm())


def exact_gradient(problem: Problem, at: Tensor) -> Tensor:
    """∇R^aug(A), on data moved by all of G; where none is known to move them, Π_E∇R(A), the same at points of E."""
    if problem.transform is None:
        return problem.space.equivariant_part(grad(problem.risk)(at))
    data = draw(problem, fitting(problem, Draws()), np.random.default_rng(0))
    return grad(problem.loss)(at, data) + problem.weight_decay * at
