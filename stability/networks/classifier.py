"""Multilayer perceptrons over representations: x_{i+1} = σ_i(A_i x_i) (eq. 1).

>>> import torch
>>> from stability.groups import images, torus, trivial
>>> from stability.networks import Identity, Pointwise, mlp
>>> G = torus(3)
>>> net = mlp([1 * images(G, 3), 2 * images(G, 3), 4 * trivial(G)], [Pointwise("tanh"), Identity()])
>>> net.space.dim, net.space.dim_equivariant
(234, 26)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.groups import Element, Representation
from stability.networks.network import MLP


@dataclass(frozen=True)
class Classifier:
    """An MLP with a loss: the model of a supervised problem.

    Args:
        network: Φ.
        loss: ℓ, one of the functions above or a user's own.
        target: the representation on targets; None when they are labels that G does not move.
        decides: True when predictions are logits of decisions, whose accuracy is the score; else the loss is.
    """

    network: MLP
    loss: Callable[[Tensor, Tensor], Tensor]
    target: Representation | None = None
    decides: bool = True

    @property
    def input(self) -> Representation:
        """The representation on inputs, X_0."""
        return self.network.input

    @property
    def output(self) -> Representation:
        """The representation on predictions, X_L."""
        return self.network.output

    def predict(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Φ_A(x) for A in L, (n, dim X_L)."""
        return self.network.predict(parameters, x)

    def predict_equivariant(self, theta: Tensor, x: Tensor) -> Tensor:
        """Φ_{embed(θ)}(x) for coordinates θ of E, through the equivariant layers."""
        return self.network.predict_equivariant(theta, x)

    def losses(self, prediction: Tensor, y: Tensor) -> Tensor:
        """ℓ sample by sample, (n)."""
        return self.loss(prediction, y)

    def move_target(self, g: Element, y: Tensor) -> Tensor:
        """ρ_Y(g)y; y itself where targets are labels."""
        return y if self.target is None else self.target.act(g, y)

    def hits(self, prediction: Tensor, y: Tensor) -> Tensor:
        """Share of right decisions, sample by sample: classes by arg max, masks and yes/no by the logit's sign."""
        if y.ndim == 1 and prediction.shape[-1] > 1:
            return (prediction.argmax(-1) == y).to(prediction.dtype)
        return ((prediction > 0) == (y.reshape(prediction.shape) > 0.5)).to(prediction.dtype).mean(-1)

    def constant(self, y: Tensor) -> Tensor:
        """The best predictor that ignores its input (logits, for decisions), estimated from targets y."""
        if not self.decides:
            return y.mean(0)
        if y.ndim == 1 and self.output.dim > 1:
            counts = torch.bincount(y, minlength=self.output.dim).to(torch.float64)
            return torch.log((counts / counts.sum()).clamp_min(1e-12))
        # One logit for each channel: an equivariant constant cannot tell the points of an orbit apart.
        share = y.to(torch.float64).reshape(len(y), -1)
        ((channels, base),) = self.output.blocks
        share = share.unflatten(-1, (channels, base.dim)).mean((0, -1)).clamp(1e-12, 1 - 1e-12)
        return torch.logit(share).repeat_interleave(base.dim)
