r"""A point of E as training sees it: sectors diagonalised once, blocks of the noise, what an adaptive rule divides by.

Of it a rule, a way of drawing and a penalty γ/2‖A_{E⊥}‖² make the spectra P^{1/2}(B_λ + μ + γ)P^{1/2} and the noise C,
without another product with a Hessian: that is what lets a forecast be asked again for many settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from stability.base.errors import BadInput
from stability.eigen.spectrum import rounding
from stability.optimisers.blocks import Block, parts, resolve, sector_root
from stability.optimisers.draws import Draws, scatter, shares
from stability.optimisers.noise import covariance_of, loss_gradients
from stability.optimisers.updates import Update
from stability.problem.problem import Problem

# Group elements of which squares are averaged; of more, so many are drawn.
MOST_ELEMENTS = 2000


@dataclass(frozen=True, eq=False)
class Scene:
    """What forecasts are made of.

    Attributes:
        problem: the risk.
        at: the point, in L.
        blocks: ∇²R^aug on every sector of E⊥.
        single: Σ_j over partners of one sample's gradients, (n, d, size) a sector.
        gradients: ∇ℓ_s(A), all of them, (n, dim L).
    """

    problem: Problem
    at: Tensor
    blocks: tuple[Block, ...]
    single: tuple[Tensor, ...]
    gradients: Tensor

    @property
    def norm(self) -> float:
        """‖A‖."""
        return float(self.at.norm())

    @property
    def across(self) -> int:
        """dim E⊥."""
        return self.problem.space.dim - self.problem.space.dim_equivariant


def scene(problem: Problem, theta: Tensor) -> Scene:
    """The point of E with coordinates θ; see :func:`stability.optimisers.blocks.resolve` for what is refused."""
    at = problem.space.embed(theta)
    blocks = tuple(resolve(problem, theta))
    gradients = loss_gradients(problem, at)
    across = problem.space.transverse_part(gradients)
    return Scene(problem, at, blocks, tuple(parts(problem.space, b.irrep, across) for b in blocks), gradients)


def noise_of(place: Scene, draws: Draws) -> Iterator[Tensor]:
    """C of every sector, see :func:`stability.optimisers.noise.covariance`."""
    return (covariance_of(place.problem, seen, draws) for seen in place.single)


def dressed(place: Scene, update: Update, gamma: float = 0.0, weights: Tensor | None = None) -> list[Block]:
    """The blocks as a rule sees them: P^{1/2}(B_λ + μ + γ)P^{1/2}.

    Args:
        place: the point.
        update: the rule, whose coupled decay is μ.
        gamma: of the penalty.
        weights: the diagonal of P; None for P = 1.

    Raises:
        BadInput: a P that does not commute with G.
    """
    shift, found = update.coupled + gamma, []
    for block in place.blocks:
        if weights is None:
            found.append(replace(block, values=block.values + shift))
            continue
        size = len(block.values)
        root = sector_root(place.problem.space, block.irrep, size, weights.sqrt())
        whole = root @ (block.vectors * (block.values + shift)) @ block.vectors.mT @ root
        values, vectors = torch.linalg.eigh((whole + whole.mT) / 2)
        largest = float(weights.max())
        error = block.error * largest + rounding(float(values.abs().max()), size, values.dtype)
        found.append(Block(block.irrep, values, vectors, error, root))
    return found


def orbit_mean(problem: Problem, squares: Tensor) -> Tensor:
    """The mean of v over orbits, for ρ̄ by signed permutations: ∫(ρ̄(g)√v)² dμ, rows of (…, dim L)."""
    space, group = problem.space, problem.group
    if group.order is not None and group.order <= MOST_ELEMENTS:
        elements = list(group.elements())
    else:
        rng = np.random.default_rng(0)
        elements = [group.sample(rng) for _ in range(MOST_ELEMENTS)]
    root, total = squares.sqrt(), torch.zeros_like(squares)
    for g in elements:
        total += space.act(g, root).square()
    return total / len(elements)


def second_moment(place: Scene, update: Update, draws: Draws) -> Tensor:
    r"""E[g²] of what steps at the point see, with the optimiser's coupled decay: what v is in the long run, (dim L).

    Exact in the mean over draws: the square of the mean gradient and the variance, weight by weight, on E and E⊥.

    Raises:
        BadInput: exact averages, under which v vanishes as training comes to rest.
    """
    if draws.exact:
        raise BadInput(
            f"{update}: without noise its second moment vanishes where training comes to rest; give second_moment= of "
            "your optimiser (stability.optimisers.steps.state_of), or batch= and elements="
        )
    problem, weight = place.problem, place.problem.samples.weight
    on_e = problem.space.equivariant_part(place.gradients)
    mean = weight @ on_e
    settled = mean + (problem.weight_decay + update.coupled) * place.at
    spread = scatter(problem, draws) * (weight @ (on_e - mean).square())
    if draws.elements is None:
        return orbit_mean(problem, settled.square() + spread)
    if draws.per == "sample":
        share = shares(problem, draws)
        turned = share @ orbit_mean(problem, place.gradients.square()) - share @ on_e.square()
    else:
        # The mean of a batch, and its scatter: both turned by the elements of the batch, beyond what E keeps of them.
        whole, f = weight @ place.gradients, scatter(problem, draws)
        apart = orbit_mean(problem, (place.gradients - whole).square())
        turned = orbit_mean(problem, whole.square()) - mean.square()
        turned = turned + f * (weight @ (apart - (on_e - mean).square()))
    return settled.square() + spread + turned.clamp_min(0) / draws.elements


def divided(update: Update, moment: Tensor) -> Tensor:
    """The diagonal of P, 1/(√v + ε), (dim L)."""
    return 1 / (moment.sqrt() + update.epsilon)
