"""Every critical point of a deep linear network, with its index in closed form."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from stability.base.errors import BadInput
from stability.curvature.automatic import nominal_hessian
from stability.eigen.dense import dense_spectrum
from stability.eigen.operator import assemble
from stability.eigen.spectrum import Spectrum
from stability.groups import Representation, Trivial, trivial
from stability.networks.classifier import Classifier
from stability.networks.losses import squared
from stability.networks.network import mlp
from stability.networks.nonlinearities import Identity
from stability.networks.supervised import supervised
from stability.problem.problem import Problem
from stability.problem.space import Samples

# A critical point is built to rounding; what the rest of its gradient may move an eigenvalue by.
GRADIENT = 1e-10


def linear_problem(spaces: Sequence[Representation], x: Tensor, y: Tensor) -> Problem:
    """The deep linear network with X_h = spaces[h], fitted to (x, y) by ½|·|², every sample of equal weight."""
    network = mlp(spaces, [Identity()] * (len(spaces) - 1))
    weight = torch.full((len(x),), 1 / len(x), dtype=torch.float64)
    model = Classifier(network, squared, target=spaces[-1], decides=False)
    return supervised("deep-linear", model, Samples(x, y, weight))


def root(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """M^{1/2} and M^{−1/2} of a positive definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values)) @ vectors.T, (vectors / np.sqrt(values)) @ vectors.T


# -- every critical point without symmetry ---------------------------------------------------------------------------
@dataclass(frozen=True)
class Landscape:
    """Second moments of the data and their singular directions.

    Attributes:
        widths: d, p_1 … p_{H−1}, d.
        x, y: the data, (n, d).
    """

    widths: tuple[int, ...]
    x: np.ndarray
    y: np.ndarray

    @property
    def d(self) -> int:
        """Dimension of x and y."""
        return self.widths[0]

    @property
    def depth(self) -> int:
        """H, the number of layers."""
        return len(self.widths) - 1

    @cached_property
    def whitener(self) -> np.ndarray:
        """E[xxᵀ]^{−1/2}."""
        return root(self.x.T @ self.x / len(self.x))[1]

    @cached_property
    def directions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """U, σ, V of E[yxᵀ] E[xxᵀ]^{−1/2}."""
        u, values, vt = np.linalg.svd(self.y.T @ self.x / len(self.x) @ self.whitener)
        return u, values, vt.T

    @cached_property
    def problem(self) -> Problem:
        """The risk as a problem without symmetry."""
        one = trivial(Trivial())
        x, y = torch.as_tensor(self.x), torch.as_tensor(self.y)
        return linear_problem([w * one for w in self.widths], x, y)

    def risk(self, used: Sequence[int]) -> float:
        """R at any critical point with S = used: ½(E|y|² − Σ_S σ²)."""
        values = self.directions[1]
        return 0.5 * float((self.y**2).sum(1).mean() - (values[list(used)] ** 2).sum())


def landscape(widths: Sequence[int], seed: int, samples: int = 40, white: bool = False) -> Landscape:
    """Random inputs and outputs; with ``white`` their covariance is the identity to rounding.

    Raises:
        BadInput: depths and widths for which the index is not known here.
    """
    widths = tuple(widths)
    if len(widths) not in (3, 4) or widths[0] != widths[-1] or min(widths) < 1:
        raise BadInput(f"widths {widths}: give d p d or d p p' d, so that M is square and the depth 2 or 3")
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((samples, widths[0])) @ np.diag(np.linspace(0.5, 1.5, widths[0]))
    if white:
        x = x @ root(x.T @ x / samples)[1]
    y = x @ rng.standard_normal((widths[0], widths[0])) + 0.3 * rng.standard_normal((samples, widths[0]))
    return Landscape(widths, x, y)


@dataclass(frozen=True)
class Critical:
    """A class of critical points: the directions used and the ranks of the blocks Z_1 … Z_H."""

    used: tuple[int, ...]
    ranks: tuple[int, ...]


def free(widths: Sequence[int], used: Sequence[int]) -> list[int]:
    """q, f_1 … f_{H−1}, q: unused dimensions of every space."""
    return [w - len(used) for w in widths]


def classes(widths: Sequence[int]) -> Iterator[Critical]:
    """Every class once: S of at most min p_h directions, ranks with Z_{h+1} Z_h = 0 around the circle X_0 = X_H."""
    d, depth = widths[0], len(widths) - 1
    for size in range(min(widths) + 1):
        f = free(widths, range(size))
        if depth == 2:
            options = [(0, 0)]
        else:
            ranges = [range(min(f[h], f[h + 1]) + 1) for h in range(depth)]
            options = [
                z for z in itertools.product(*ranges) if all(z[h] + z[(h + 1) % 3] <= f[(h + 1) % 3] for h in range(3))
            ]
        for used in itertools.combinations(range(d), size):
            for ranks in options:
                yield Critical(used, ranks)


def pairs(values: Sequence[float], used: Sequence[int]) -> int:
    """#{(i, k): i ∈ S, k ∉ S, σ_k > σ_i}."""
    rest = [k for k in range(len(values)) if k not in used]
    return sum(bool(values[k] > values[i]) for i in used for k in rest)


def index(widths: Sequence[int], values: Sequence[float], point: Critical) -> int:
    """The closed form in the module's docstring."""
    f = free(widths, point.used)
    if len(widths) == 3:
        return pairs(values, point.used) + f[0] * f[1]
    z1, z2, z3 = point.ranks
    loose = z1 * f[2] + z2 * f[0] + z3 * f[1] - (z1 * z2 + z2 * z3 + z3 * z1)
    return pairs(values, point.used) + loose


def is_minimum(widths: Sequence[int], point: Critical) -> bool:
    """A linear network has no other minima than the global ones: S leading, of full size."""
    return point.used == tuple(range(min(widths)))


def representative(land: Landscape, point: Critical, seed: int | None) -> Tensor:
    """A critical point of the class, as a flat vector; a random basis of every hidden space unless seed is None.

    Without a seed the point is balanced: every layer has Σ_S^{1/H} in place of 1 and Σ_S.
    """
    u, values, v = land.directions
    used = list(point.used)
    rest = [k for k in range(land.d) if k not in used]
    f, depth, r = free(land.widths, used), land.depth, len(used)
    rng = np.random.default_rng(0 if seed is None else seed)
    turn = np.linalg.qr(rng.standard_normal((f[0], f[0])))[0]
    z = []
    for h in range(depth):
        block, rank = np.zeros((f[h + 1], f[h])), point.ranks[h]
        # Z_h maps the last rank coordinates of its source onto the first of its target, so that Z_{h+1} Z_h = 0.
        block[:rank, f[h] - rank :] = np.diag(rng.uniform(0.5, 1.5, rank))
        z.append(block)
    z[0] = z[0] @ turn.T @ np.diag(1 / values[rest])  # Z_1 Σ_Q Z_H = 0 closes the circle
    z[-1] = turn @ z[-1]
    share = np.ones((depth, r)) if seed is not None else np.tile(values[used] ** (1 / depth), (depth, 1))
    if seed is not None:
        share[0] = values[used]
    layers = []
    for h in range(depth):
        across, down = np.zeros((r, f[h])), np.zeros((f[h + 1], r))
        layers.append(np.block([[np.diag(share[h]), across], [down, z[h]]]))
    layers[0] = layers[0] @ np.concatenate([v[:, used], v[:, rest]], axis=1).T @ land.whitener
    layers[-1] = np.concatenate([u[:, used], u[:, rest]], axis=1) @ layers[-1]
    if seed is not None:
        for h in range(depth - 1):
            p = land.widths[h + 1]
            # Well conditioned: rotations times moderate scales, so that rounding stays rounding.
            basis = np.linalg.qr(rng.standard_normal((p, p)))[0] @ np.diag(rng.uniform(0.7, 1.4, p))
            layers[h], layers[h + 1] = basis @ layers[h], layers[h + 1] @ np.linalg.inv(basis)
    return torch.cat([torch.as_tensor(layer).flatten() for layer in layers])


def spectrum_at(problem: Problem, at: Tensor) -> tuple[Spectrum, float]:
    """Every eigenvalue of ∇²R, each residual measured, and the gradient's norm."""
    hessian = nominal_hessian(problem, at)
    spectrum = dense_spectrum(assemble(hessian, at), hessian, k=len(at), floor=GRADIENT).spectrum
    return spectrum, float(hessian.gradient.norm())
