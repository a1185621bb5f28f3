"""What the gradient at a point of E is made of, mini-batch by mini-batch, and its norms on E and off it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stability.curvature.linearised import nominal_gradient_norm
from stability.layers.fourier import FourierArithmetic, FourierLayer
from stability.layers.frequencies import from_positions as from_positions
from stability.layers.frequencies import to_positions as to_positions
from stability.problem.problem import Problem
from stability.problem.space import Samples


@dataclass(frozen=True)
class Signals:
    """What the gradient at a point of E is made of: ∇R in layer i is Σ_s p_s ⊗ x_s.

    Attributes:
        inputs: x of every layer, (n, dim X_i).
        derivatives: p of every layer, (n, dim X_{i+1}): derivatives of the risk in the layer's outputs.
    """

    inputs: tuple[Tensor, ...]
    derivatives: tuple[Tensor, ...]

    @property
    def square(self) -> float:
        """‖Σ_s p_s ⊗ x_s‖² over all layers, from Gram matrices."""
        pairs = zip(self.inputs, self.derivatives, strict=True)
        return sum(float(((p @ p.mT) * (x @ x.mT)).sum()) for x, p in pairs)


class Prepared:
    """A network at a point of E, its layers built once for all mini-batches.

    Args:
        problem: supervised, so that its model is a network.
        theta: coordinates of the point.
    """

    def __init__(self, problem: Problem, theta: Tensor) -> None:
        self.model, self.network = problem.model, problem.model.network
        self.theta = theta.detach().requires_grad_()
        self.roots: list[Tensor] = []
        self.leaves: list[Tensor] = []
        self.arithmetic: list[FourierArithmetic | Tensor] = []
        parts = problem.space.split_coordinates(self.theta)
        for layer, t in zip(problem.space.layers, parts, strict=True):
            if isinstance(layer, FourierLayer):
                made = FourierArithmetic(layer, t)
                made.blocks = [[self._leaf(block) for block in line] for line in made.blocks]
            else:
                made = self._leaf(layer.embed(t).squeeze(-3))
            self.arithmetic.append(made)

    def _leaf(self, root: Tensor) -> Tensor:
        self.roots.append(root)
        self.leaves.append(root.detach().requires_grad_())
        return self.leaves[-1]

    def signals(self, samples: Samples) -> Signals:
        """One pass forward and backward; the gradient in the layers is added to what was gathered before."""
        inputs, outputs, x = [], [], samples.x
        layers = zip(self.network.space.layers, self.arithmetic, self.network.nonlinearities, strict=True)
        for layer, made, sigma in layers:
            inputs.append(x.detach())
            if isinstance(made, FourierArithmetic):
                moved = made.forward(to_positions(layer.source, x))
                outputs.append(from_positions(layer.target, moved))
            else:
                outputs.append(x @ made.mT)
            outputs[-1].retain_grad()
            x = sigma(outputs[-1], layer.target)
        (samples.weight @ self.model.losses(x, samples.y)).backward()
        return Signals(tuple(inputs), tuple(y.grad for y in outputs))

    def gradient(self) -> Tensor:
        """What was gathered since the last call, Π_E ∇R in coordinates of E, without the decay."""
        found = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in self.leaves]
        for leaf in self.leaves:
            leaf.grad = None
        return torch.autograd.grad(self.roots, self.theta, found, retain_graph=True)[0]


@dataclass(frozen=True)
class GradientStatistics:
    """The gradient at a point of E.

    Attributes:
        equivariant: ‖Π_E ∇R‖.
        transverse: ‖Π_{E⊥} ∇R‖.
        batches: √Σ_b ‖Π_{E⊥} ∇R_b‖², the mini-batches b adding up to R.
    """

    equivariant: float
    transverse: float
    batches: float

    def nominal_drift(self, step: float, epochs: int) -> np.ndarray:
        """‖A_{E⊥}‖ after 0 … epochs steps of nominal training, the gradient taken as constant: tτ‖Π_{E⊥}∇R‖."""
        return step * self.transverse * np.arange(epochs + 1)

    def sampled_drift(self, step: float, epochs: int, passes: int) -> np.ndarray:
        """√E‖A_{E⊥}‖² of sampled augmentation, a random walk: τ√(t/K · Σ_b‖Π_{E⊥}∇R_b‖²)."""
        return step * self.batches * np.sqrt(np.arange(epochs + 1) / passes)

    def distance(self, step: float, epochs: int) -> np.ndarray:
        """How far A moves within E, tτ‖Π_E ∇R‖."""
        return step * self.equivariant * np.arange(epochs + 1)


def gradient_statistics(problem: Problem, theta: Tensor, batch: int) -> GradientStatistics:
    """Exact, from the Gram matrices of inputs and derivatives: no array of dim L numbers is made."""
    network, total, squares = Prepared(problem, theta), problem.weight_decay * theta, 0.0
    for part in problem.samples.chunks(batch):
        whole = network.signals(part).square
        gradient = network.gradient()
        squares += max(whole - float(gradient @ gradient), 0.0)
        total = total + gradient
    on_e = float(total.norm())
    off = max(nominal_gradient_norm(problem, theta) ** 2 - on_e**2, 0.0)
    return GradientStatistics(on_e, math.sqrt(off), math.sqrt(squares))
