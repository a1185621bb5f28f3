r"""Orthonormal bases of Hom_G(X, Y) without enumerating G.

W is in Hom_G(X, Y) when ρ_Y(g) W ρ_X(g)⁻¹ = W for the *generators* of G. For permutation representations
these W are the matrices constant on the orbits of G on index pairs (row, column), so the indicators of the
orbits, each divided by √|orbit|, are an orthonormal basis; the orbits are the connected components of the
graph that joins every pair to its images under the generators. Otherwise the basis is the eigenspace of
½·mean_g(T_g + T_gᵀ) to the eigenvalue one, T_g = ρ_Y(g) ⊗ ρ_X(g). A Lie group adds the equations of its algebra,
dρ_Y(X)W − W dρ_X(X) = 0.

>>> from stability.groups import Symmetric, permutation
>>> nodes = permutation(Symmetric(8))
>>> intertwiners(nodes, nodes).size, intertwiners(nodes * nodes, nodes * nodes).size
(2, 15)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from stability.errors import BadInput
from stability.groups.representation import Representation

DENSE_LIMIT = 4096


class IntertwinerBasis(ABC):
    """An orthonormal (Frobenius) basis of Hom_G(source, target) with ``size`` elements.

    ``embed`` is an isometry and ``project`` its adjoint, so ``project(embed(θ)) = θ`` and
    ``embed(project(W))`` is the orthogonal projection of W (Lemma 2). Both take leading batch axes.
    """

    size: int
    shape: tuple[int, int]

    @abstractmethod
    def embed(self, coordinates: Tensor) -> Tensor:
        """(…, size) → (…, rows, columns): Σ_k θ_k B_k."""

    @abstractmethod
    def project(self, weight: Tensor) -> Tensor:
        """(…, rows, columns) → (…, size): the coordinates ⟨B_k, W⟩."""


@dataclass(frozen=True, eq=False)
class OrbitBasis(IntertwinerBasis):
    """B_o = 1[(row, column) in orbit o] / √|o|.

    Args:
        labels: (rows · columns), the orbit of each index pair.
        shape: (rows, columns).
        counts: (size), the length |o| of each orbit.
    """

    labels: Tensor
    shape: tuple[int, int]
    counts: Tensor

    @property
    def size(self) -> int:
        return len(self.counts)

    def _scale(self, like: Tensor) -> Tensor:
        return self.counts.to(dtype=like.dtype, device=like.device).rsqrt()

    def embed(self, coordinates: Tensor) -> Tensor:
        scaled = coordinates * self._scale(coordinates)
        return scaled.index_select(-1, self.labels.to(coordinates.device)).unflatten(-1, self.shape)

    def project(self, weight: Tensor) -> Tensor:
        sums = weight.new_zeros((*weight.shape[:-2], self.size))
        sums = sums.index_add(-1, self.labels.to(weight.device), weight.flatten(-2))
        return sums * self._scale(weight)


@dataclass(frozen=True, eq=False)
class DenseBasis(IntertwinerBasis):
    """Columns of ``vectors`` (rows · columns, size), orthonormal, are the flattened B_k."""

    vectors: Tensor
    shape: tuple[int, int]

    @property
    def size(self) -> int:
        return self.vectors.shape[1]

    def embed(self, coordinates: Tensor) -> Tensor:
        return (coordinates @ self.vectors.to(coordinates).mT).unflatten(-1, self.shape)

    def project(self, weight: Tensor) -> Tensor:
        return weight.flatten(-2) @ self.vectors.to(weight)


@lru_cache(maxsize=256)
def intertwiners(source: Representation, target: Representation) -> IntertwinerBasis:
    """An orthonormal basis of Hom_G(source, target).

    Raises:
        BadInput: matrix representations whose Hom has more than 4096 dimensions.
    """
    if source.is_permutation and target.is_permutation:
        return _orbit_basis(source, target)
    return _null_space_basis(source, target)


def _orbit_basis(source: Representation, target: Representation) -> OrbitBasis:
    rows, columns = target.dim, source.dim
    pairs = np.arange(rows * columns)
    edges = [(target.index(g)[:, None] * columns + source.index(g)[None, :]).ravel() for g in source.group.generators]
    if not edges:
        labels = pairs
    else:
        graph = coo_array(
            (np.ones(len(edges) * len(pairs), dtype=np.int8), (np.tile(pairs, len(edges)), np.concatenate(edges))),
            shape=(len(pairs), len(pairs)),
        )
        _, labels = connected_components(graph, directed=False)
    counts = np.bincount(labels)
    return OrbitBasis(torch.as_tensor(labels, dtype=torch.int64), (rows, columns), torch.as_tensor(counts))


def _null_space_basis(source: Representation, target: Representation) -> DenseBasis:
    rows, columns = target.dim, source.dim
    if rows * columns > DENSE_LIMIT:
        raise BadInput(
            f"Hom({source.name}, {target.name}) has {rows * columns} dimensions, more than the {DENSE_LIMIT} that a "
            "dense null space is allowed; split the space into smaller summands, or use permutation representations"
        )
    mean = np.eye(rows * columns)
    for g in source.group.discrete:
        moved = np.kron(target.matrix(g), source.matrix(g))
        mean += (moved + moved.T) / 2
    mean /= 1 + len(source.group.discrete)
    if source.group.algebra:
        mean -= _algebra_defect(source, target)
    # The identity in the mean keeps the eigenvalue −1 of reflections away from +1's complement tests.
    values, vectors = np.linalg.eigh(mean)
    fixed = vectors[:, values > 1 - 1e-9]
    return DenseBasis(torch.as_tensor(fixed.copy()), (rows, columns))


def _algebra_defect(source: Representation, target: Representation) -> np.ndarray:
    """Σ_X K_Xᵀ K_X, of norm at most one, with K_X W = dρ_Y(X)W − W dρ_X(X), rows of W one after the other."""
    total = np.zeros((target.dim * source.dim,) * 2)
    for x in source.group.algebra:
        k = np.kron(target.derivative(x), np.eye(source.dim)) + np.kron(np.eye(target.dim), source.derivative(x))
        total += k.T @ k / source.group.unit(x) ** 2
    # Weights are of order one or zero up to rounding, which must not be blown up.
    return total / max(float(np.linalg.norm(total, 2)), 1.0)
