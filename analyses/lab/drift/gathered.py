"""A vector of E⊥ over permutation representations of any group, moved by indices."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import torch
from torch import Tensor

from analyses.lab.drift.signals import Signals
from stability.base.errors import BadInput
from stability.layers import Layer
from stability.problem.problem import Problem


class Gathered:
    """A vector of E⊥ over permutation representations of any group: weights as (i, j, channels), moved by indices.

    Args:
        problem: every space a multiple of one permutation representation.
        dtype: float32 or float64.
    """

    def __init__(self, problem: Problem, dtype: torch.dtype) -> None:
        self.space, spaces = problem.space, [problem.space.layers[0].source, *(x.target for x in problem.space.layers)]
        if not all(space.is_permutation and len(space.blocks) == 1 for space in spaces):
            raise BadInput(f"{problem.name}: a space is no multiple of one permutation representation; train plainly")
        self.values = []
        for layer in self.space.layers:
            (m, a), (k, b) = layer.target.blocks[0], layer.source.blocks[0]
            self.values.append(torch.zeros(a.dim * b.dim, m * k, dtype=dtype))

    @property
    def norm(self) -> float:
        """The norm of the vector in L."""
        return math.sqrt(sum(float(v.square().sum(dtype=torch.float64)) for v in self.values))

    def scale_(self, factor: float) -> None:
        """Multiplies the vector, in place."""
        for v in self.values:
            v.mul_(factor)

    def add_(self, found: Signals, drawn: np.ndarray, owner: Tensor, factor: float) -> None:
        """As :meth:`Transverse.add_`, but the part on E is added too."""
        for number in owner.unique().tolist():
            mine = owner == number
            for layer, p, x, v in zip(self.space.layers, found.derivatives, found.inputs, self.values, strict=True):
                ((_, a),), ((_, b),) = layer.target.blocks, layer.source.blocks
                gradient = self._sorted(layer, p[mine].mT @ x[mine])
                for g, count in Counter(drawn[:, number]).items():
                    # (ρ̄(g)W)[g i, g j] = W[i, j], so W[i, j] is fetched from where g⁻¹ leads.
                    rows, columns = np.argsort(a.index(g)), np.argsort(b.index(g))
                    where = torch.as_tensor((rows[:, None] * b.dim + columns).ravel())
                    v.add_(gradient.index_select(0, where), alpha=factor * count / len(drawn))

    def settle_(self, gradient: Tensor, factor: float) -> None:
        """Takes out the part on E, factor · Π_E ∇R."""
        parts = self.space.split_coordinates(gradient)
        for layer, t, v in zip(self.space.layers, parts, self.values, strict=True):
            v.sub_(self._sorted(layer, layer.embed(t).squeeze(-3)), alpha=factor)

    @staticmethod
    def _sorted(layer: Layer, weight: Tensor) -> Tensor:
        """(channel, i), (channel, j) → (i, j), (channels)."""
        (m, a), (k, b) = layer.target.blocks[0], layer.source.blocks[0]
        return weight.reshape(m, a.dim, k, b.dim).permute(1, 3, 0, 2).reshape(a.dim * b.dim, m * k)

    def dense(self) -> Tensor:
        """The vector in L, (dim L)."""
        weights = []
        for layer, v in zip(self.space.layers, self.values, strict=True):
            (m, a), (k, b) = layer.target.blocks[0], layer.source.blocks[0]
            weights.append(v.reshape(a.dim, b.dim, m, k).permute(2, 0, 3, 1).reshape(layer.shape))
        return self.space.join(weights)
