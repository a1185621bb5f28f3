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
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from stability.base.errors import BadInput, Unproved
from stability.groups.representation import Representation

DENSE_LIMIT = 4096
# Candidates turn by less than some 2 degrees; of these what moves by less than FIXED is fixed, by MOVED is not.
SLOW, FIXED, MOVED = 1e-3, 1e-8, 1e-5
# How often a radian along each direction is repeated to see whether what is called fixed stays.
TURNS = 101


class IntertwinerBasis(ABC):
    """An orthonormal (Frobenius) basis of Hom_G(source, target) with ``size`` elements.

    ``embed`` is an isometry and ``project`` its adjoint, so ``project(embed(θ)) = θ`` and
    ``embed(project(W))`` is the orthogonal projection of W (Lemma 2). Both take leading batch axes.
    """

    if TYPE_CHECKING:  # read only, see Group

        @property
        def size(self) -> int: ...
        @property
        def shape(self) -> tuple[int, int]: ...

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
        """dim Hom_G, the number of orbits."""
        return len(self.counts)

    def _scale(self, like: Tensor) -> Tensor:
        return self.counts.to(dtype=like.dtype, device=like.device).rsqrt()

    def embed(self, coordinates: Tensor) -> Tensor:
        """(…, size) → (…, rows, columns): θ_o/√|o| at every index pair of orbit o."""
        scaled = coordinates * self._scale(coordinates)
        return scaled.index_select(-1, self.labels.to(coordinates.device)).unflatten(-1, self.shape)

    def project(self, weight: Tensor) -> Tensor:
        """(…, rows, columns) → (…, size): sums over the orbits, divided by √|o|."""
        sums = weight.new_zeros((*weight.shape[:-2], self.size))
        sums = sums.index_add(-1, self.labels.to(weight.device), weight.flatten(-2))
        return sums * self._scale(weight)


@dataclass(frozen=True, eq=False)
class DenseBasis(IntertwinerBasis):
    """Columns of ``vectors`` (rows · columns, size), orthonormal, are the flattened B_k.

    Attributes:
        vectors: orthonormal columns, (rows · columns, size).
        shape: (rows, columns).
    """

    vectors: Tensor
    shape: tuple[int, int]

    @property
    def size(self) -> int:
        """dim Hom_G, the number of columns."""
        return self.vectors.shape[1]

    def embed(self, coordinates: Tensor) -> Tensor:
        """(…, size) → (…, rows, columns): ``vectors`` θ."""
        return (coordinates @ self.vectors.to(coordinates).mT).unflatten(-1, self.shape)

    def project(self, weight: Tensor) -> Tensor:
        """(…, rows, columns) → (…, size): ``vectors``ᵀ W."""
        return weight.flatten(-2) @ self.vectors.to(weight)


@lru_cache(maxsize=256)
def intertwiners(source: Representation, target: Representation) -> IntertwinerBasis:
    """An orthonormal basis of Hom_G(source, target).

    Raises:
        BadInput: matrix representations whose Hom has more than 4096 dimensions.
    """
    if source.is_permutation and target.is_permutation:
        return orbit_basis(source, target)
    return _null_space_basis(source, target)


@lru_cache(maxsize=256)
def orbit_basis(source: Representation, target: Representation) -> OrbitBasis:
    """The basis of Hom_G(source, target) for permutation representations, one element an orbit of index pairs."""
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
    fixed = _fixed(source, target, vectors[:, values > 1 - SLOW])
    _check_on_elements(source, target, fixed)
    return DenseBasis(torch.as_tensor(fixed.copy()), (rows, columns))


def _algebra_defect(source: Representation, target: Representation) -> np.ndarray:
    """Σ_Y K_YᵀK_Y over the frame, of norm at most one, K_Y W = dρ_Y(Y)W − W dρ_X(Y), rows of W one after the other."""
    total = np.zeros((target.dim * source.dim,) * 2)
    for y in source.group.frame:
        k = np.kron(target.along(y), np.eye(source.dim)) + np.kron(np.eye(target.dim), source.along(y))
        total += k.T @ k
    # Weights are of order one or zero up to rounding, which must not be blown up.
    return total / max(float(np.linalg.norm(total, 2)), 1.0)


def _fixed(source: Representation, target: Representation, candidates: np.ndarray) -> np.ndarray:
    """Those of the candidates (rows · columns, m) that solve the equations themselves, not their squares.

    A turn by 1e-5 has an eigenvalue of the mean within 1e-10 of one, but a residual of 1e-5.

    Raises:
        BadInput: a vector that is neither fixed (to 1e-8) nor moved (by 1e-5).
    """
    if not candidates.shape[1]:
        return candidates
    w = candidates.T.reshape(-1, target.dim, source.dim)
    parts = [target.matrix(g) @ w @ source.matrix(g).T - w for g in source.group.discrete]
    parts += [target.along(y) @ w - w @ source.along(y) for y in source.group.frame]
    if not parts:
        return candidates
    residual = np.concatenate([p.reshape(len(w), -1) for p in parts], axis=1).T
    if np.linalg.norm(residual) <= FIXED:
        return candidates
    _, values, right = np.linalg.svd(residual, full_matrices=False)
    unclear = values[(values > FIXED) & (values < MOVED)]
    if len(unclear):
        raise BadInput(
            f"Hom({source.name}, {target.name}) under {source.group.name}: a vector is moved by {unclear[-1]:.1e}, "
            "which is neither rounding nor a turn; give the matrices in full precision, or weights closer together"
        )
    return candidates @ right[values <= FIXED].T


def _check_on_elements(source: Representation, target: Representation, fixed: np.ndarray) -> None:
    """Raises Unproved unless ρ_Y(g)Wρ_X(g)⁻¹ = W for long turns along a Lie group's generators, and for samples."""
    group = source.group
    if not group.algebra or not fixed.shape[1]:
        return
    rng = np.random.default_rng(0)
    w = fixed.T.reshape(-1, target.dim, source.dim)
    for g, turns in [*((g, TURNS) for g in group.generators), *((group.sample(rng), 1) for _ in range(4))]:
        left, right = (np.linalg.matrix_power(rho.matrix(g), turns) for rho in (target, source))
        off = float(np.abs(left @ w @ right.T - w).max())
        if not off < MOVED:
            raise Unproved(
                f"Hom({source.name}, {target.name}): what the Lie algebra of {group.name} leaves alone is moved by "
                f"{off:.1e} by an element of the group; its matrices do not belong to its derivatives"
            )
