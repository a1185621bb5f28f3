"""A point of L with everything that several statements share."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, jvp, vmap

from stability.curvature.automatic import augmented_hessian_from_data, augmented_hessian_from_group, nominal_hessian
from stability.eigen.operator import Operator
from stability.points.training import exact_augmentation
from stability.problem.problem import Problem


class Place:
    """A point A of L with everything that several statements share, computed once."""

    def __init__(self, problem: Problem, at: Tensor, seed: int) -> None:
        self.problem, self.space, self.group, self.at, self.seed = problem, problem.space, problem.group, at, seed
        self.elements = list(problem.group.elements())
        self.generator = torch.Generator().manual_seed(seed)
        rng = np.random.default_rng(seed)
        self.some = [*problem.group.generators, problem.group.sample(rng), problem.group.sample(rng)]

    def probe(self) -> Tensor:
        """A Gaussian unit vector of L."""
        v = torch.randn(self.space.dim, generator=self.generator, dtype=torch.float64).to(self.at)
        return v / v.norm()

    def probe_in(self, part: Callable[[Tensor], Tensor]) -> Tensor:
        """The same in a subspace."""
        v = part(self.probe())
        return v / v.norm()

    def averaged(self, v: Tensor) -> Tensor:
        """∫ρ̄(g)v dμ, by its definition."""
        return torch.stack([self.space.act(g, v) for g in self.elements]).mean(0)

    @cached_property
    def theta(self) -> Tensor:
        """Coordinates of Π_E A."""
        return self.space.project(self.at)

    @cached_property
    def full(self) -> Tensor:
        """∇R(A)."""
        return grad(self.problem.risk)(self.at)

    @cached_property
    def augmented(self) -> Tensor:
        """∇R^aug(A), from data moved by every g."""
        return exact_augmentation(self.problem)(self.at, np.random.default_rng(0))

    @cached_property
    def equivariant(self) -> Tensor:
        """∇R^eqv(A) = Π_E∇R(Π_E A), through the equivariant layers."""
        return self.space.embed(grad(self.problem.equivariant_risk)(self.theta))

    @cached_property
    def scale(self) -> float:
        """Of gradients: ‖∇R(A)‖, or of a point nearby where it vanishes."""
        near = grad(self.problem.risk)(1.1 * self.at + 0.1 * self.probe())
        return max(float(self.full.norm()), float(near.norm()))

    @cached_property
    def nominal(self) -> Operator:
        """∇²R(A)."""
        return nominal_hessian(self.problem, self.at)

    @cached_property
    def from_data(self) -> Operator:
        """∇²R^aug(A), from data moved by every g."""
        return augmented_hessian_from_data(self.problem, self.at)

    @cached_property
    def from_group(self) -> Operator:
        """∇²R^aug(A), from ∇²R and ρ̄."""
        return augmented_hessian_from_group(self.problem, self.nominal)

    @cached_property
    def moved_inputs(self) -> Tensor:
        """ρ_X(g)x for every g and sample, one g after the other."""
        model = self.problem.model
        return torch.cat([model.input.act(g, self.problem.samples.x) for g in self.elements])

    def feature_risk(self, at: Tensor) -> Tensor:
        """E ℓ(Φ^FA(x), y) + decay, the logits averaged over the group."""
        problem, model = self.problem, self.problem.model
        predictions = model.predict(at, self.moved_inputs).split(len(problem.samples))
        back = (model.output.act(self.group.inverse(g), p) for g, p in zip(self.elements, predictions, strict=True))
        averaged = sum(back) / len(self.elements)
        return problem.samples.weight @ model.losses(averaged, problem.samples.y) + problem.penalty(at)

    @cached_property
    def feature_gap(self) -> float:
        """(R^aug − R^FA)/R^aug at A."""
        augmented = float(self.problem.augmented_risk(self.at))
        return (augmented - float(self.feature_risk(self.at))) / abs(augmented)

    @cached_property
    def hessian_gap(self) -> Operator:
        """∇²R^aug(A) − ∇²R^FA(A)."""
        gradient = grad(self.feature_risk)

        def apply(v: Tensor) -> Tensor:
            return self.from_data(v) - vmap(lambda t: jvp(gradient, (self.at,), (t,))[1])(v)

        return Operator(self.space.dim, apply, "∇²R^aug − ∇²R^FA", batch=8)
