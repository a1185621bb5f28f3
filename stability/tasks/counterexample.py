r"""Counterexamples to the converses of Proposition 3, by hand, with their stable twin (docs/mathematics.md).

X = R (trivial), Y = R² (Z_2 swaps), one layer A = (a₁, a₂)ᵀ, σ(t) = t + t², two samples of weight ½, x = ±1.

* ``counterexample``: ℓ = ½(y₁ + y₂ − y'₁ − y'₂)², Σy' = 3/2 and 1/2. A* = (½, ½) is a strict minimum of R^eqv
  (∇² = 3) and a saddle of R^aug (−1 on E⊥).
* ``counterexample-twin``: Σy' = 3/2 and −3/2: 5 and +1, stable for both.
* ``counterexample-nominal``: ℓ = ½|y − y'|², y' = (¾, ¾) and (11/4, −5/4): ∇R = 0 and ∇²R = diag(−1, 3) at A*,
  but ∇²R^aug = I: a saddle of R, a strict minimum of R^aug.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from stability.groups import Cyclic, PermutationRepresentation, trivial
from stability.networks.classifier import Classifier
from stability.networks.losses import squared
from stability.networks.network import mlp
from stability.networks.nonlinearities import Pointwise
from stability.networks.supervised import supervised
from stability.problem.problem import Problem
from stability.problem.space import Samples
from stability.tasks.options import TaskOptions

TARGETS = {
    "counterexample": ((0.75, 0.75), (0.25, 0.25)),
    "counterexample-twin": ((0.75, 0.75), (-0.75, -0.75)),
    "counterexample-nominal": ((0.75, 0.75), (2.75, -1.25)),
}


def squared_sum(prediction: Tensor, y: Tensor) -> Tensor:
    """½(Σ prediction − Σ y)²."""
    return 0.5 * (prediction.sum(-1) - y.sum(-1)).square()


# |∇ℓ|, ‖∇²ℓ‖ and ‖∇³ℓ‖, for stability.certificates.
def _bounds(p: Tensor, y: Tensor) -> tuple[Tensor, float, float]:
    return (p.sum(-1) - y.sum(-1)).abs() * p.shape[-1] ** 0.5, float(p.shape[-1]), 0.0


squared_sum.bounds = _bounds  # type: ignore[attr-defined]  # a loss of one's own carries its bounds so


def _swap(g: int) -> np.ndarray:
    return np.array([0, 1] if g == 0 else [1, 0])


def counterexample(name: str, options: TaskOptions) -> Problem:
    """One of the three problems above; the options' sizes do not apply."""
    group = Cyclic(2)
    pair = PermutationRepresentation(group, 2, _swap, "R²")
    network = mlp([1 * trivial(group), 1 * pair], [Pointwise(options.activation or "quadratic")])

    def tensor(values: Sequence) -> Tensor:
        return torch.tensor(values, dtype=options.dtype, device=options.device)

    samples = Samples(tensor([[1.0], [-1.0]]), tensor(TARGETS[name]), tensor([0.5, 0.5]))
    loss = squared if name == "counterexample-nominal" else squared_sum
    return supervised(
        name,
        Classifier(network, loss, target=1 * pair, decides=False),
        samples,
        weight_decay=options.weight_decay or 0.0,
        facts=[("data", "two samples, stated in full in stability/tasks/counterexample.py")],
    )
