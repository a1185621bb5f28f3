r"""Bases of Hom_G(V_λ, Hom(X, Y)): the sectors of a layer, without a matrix on V_λ ⊗ X ⊗ Y.

    ⟨S, T⟩ = (1/d) Σ_j ⟨S e_j, T e_j⟩,  d = dim V_λ

For permutation representations G permutes the index pairs (row, column). An orbit O of a pair o with stabiliser K
contributes V_λ^K (Frobenius reciprocity), isometrically by v ↦ √(d/|O|) · (g·o ↦ ρ_V(g)v). Other representations go
through the group average of Gaussian vectors, taken along transversals, until it finds nothing new.

>>> from stability.groups import Symmetric, irreps, permutation
>>> nodes = permutation(Symmetric(5))
>>> standard = next(v for v in irreps(Symmetric(5)) if v.name == "(4,1)")
>>> sector_basis(standard, nodes, nodes).size  # S_5 on pairs: 2, 3, 1 copies of (5), (4,1), (3,2)
3
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from stability.base.errors import BadInput, Unproved
from stability.groups.group import Element, Group
from stability.groups.intertwiners import DENSE_LIMIT, IntertwinerBasis, intertwiners, orbit_basis
from stability.groups.irreps import Irrep
from stability.groups.representation import Representation

TABLE_LIMIT, DRAWS = 250_000_000, 12


class SectorBasis(ABC):
    """A basis (S_1 … S_size) of Hom_G(V_λ, Hom(source, target)), orthonormal for the mean over the partners.

    Attributes:
        size: real dimension of the space of G-maps.
        dim: d = dim V_λ.
        shape: (rows, columns).
    """

    if TYPE_CHECKING:  # read only, see Group

        @property
        def size(self) -> int: ...
        @property
        def dim(self) -> int: ...
        @property
        def shape(self) -> tuple[int, int]: ...

    @abstractmethod
    def embed(self, coordinates: Tensor) -> Tensor:
        """(…, size) → (…, d, rows, columns): Σ_b c_b S_b e_j for every partner j."""

    @abstractmethod
    def adjoint_embed(self, weight: Tensor) -> Tensor:
        """(…, d, rows, columns) → (…, size): Σ_j ⟨S_b e_j, W_j⟩, so adjoint_embed(embed(c)) = d·c."""

    def table(self, like: Tensor) -> Tensor:
        """All partners of all elements, (size, d, rows, columns).

        Raises:
            BadInput: more numbers than memory is meant for.
        """
        numbers = self.size * self.dim * self.shape[0] * self.shape[1]
        if numbers > TABLE_LIMIT:
            raise BadInput(
                f"a basis of {self.size} maps with {self.dim} partners of shape {self.shape} has {numbers:,} numbers, "
                f"more than {TABLE_LIMIT:,}; use a group whose layers have structured arithmetic"
            )
        return self.embed(torch.eye(self.size, dtype=like.dtype, device=like.device))


@dataclass(frozen=True, eq=False)
class EquivariantBasis(SectorBasis):
    """The trivial sector: d = 1.

    Attributes:
        basis: orthonormal basis of Hom_G(source, target).
    """

    basis: IntertwinerBasis

    dim = 1

    @property
    def size(self) -> int:
        """β_0 = dim Hom_G(source, target)."""
        return self.basis.size

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.basis.shape

    def embed(self, coordinates: Tensor) -> Tensor:
        """(…, β) → (…, 1, rows, columns): the one partner is the equivariant map itself."""
        return self.basis.embed(coordinates).unsqueeze(-3)

    def adjoint_embed(self, weight: Tensor) -> Tensor:
        """(…, 1, rows, columns) → (…, β)."""
        return self.basis.project(weight.squeeze(-3))


@dataclass(frozen=True, eq=False)
class DenseSectorBasis(SectorBasis):
    """``vectors`` (size, d · rows · columns) with rows orthonormal up to √d.

    Attributes:
        vectors: (β, d · rows · columns).
        dim: d.
        shape: (rows, columns).
    """

    vectors: Tensor
    dim: int
    shape: tuple[int, int]

    @property
    def size(self) -> int:
        """β, the number of rows."""
        return len(self.vectors)

    def embed(self, coordinates: Tensor) -> Tensor:
        """(…, β) → (…, d, rows, columns): a product with ``vectors``."""
        return (coordinates @ self.vectors.to(coordinates)).unflatten(-1, (self.dim, *self.shape))

    def adjoint_embed(self, weight: Tensor) -> Tensor:
        """(…, d, rows, columns) → (…, β): a product with its transpose."""
        return weight.flatten(-3) @ self.vectors.to(weight).mT


@dataclass(frozen=True, eq=False)
class _OrbitClass:
    """Orbits of one length with one dim V^K: pairs (orbits, |O|), table (orbits, |O|, d, dim V^K).

    Attributes:
        pairs: flat index pairs of each orbit, (orbits, |O|).
        table: vectors of V^K carried along each orbit, (orbits, |O|, d, dim V^K).
    """

    pairs: Tensor
    table: Tensor


@dataclass(frozen=True, eq=False)
class OrbitSectorBasis(SectorBasis):
    """Orbit by orbit, the vectors of V^K carried around the orbit by ρ_V.

    Args:
        classes: orbits of a kind together; the coordinates run over (class, orbit, vector of V^K).
        dim: d.
        shape: (rows, columns).
    """

    classes: tuple[_OrbitClass, ...]
    dim: int
    shape: tuple[int, int]

    @property
    def size(self) -> int:
        """β = Σ over orbits of dim V^K, K the stabiliser of an index pair."""
        return sum(len(c.pairs) * c.table.shape[-1] for c in self.classes)

    def embed(self, coordinates: Tensor) -> Tensor:
        """(…, β) → (…, d, rows, columns): each orbit's vector of V^K carried to its index pairs."""
        rows, columns = self.shape
        dense = coordinates.new_zeros((*coordinates.shape[:-1], self.dim, rows * columns))
        start = 0
        for c in self.classes:
            orbits, _, _, fixed = c.table.shape
            part = coordinates[..., start : start + orbits * fixed].unflatten(-1, (orbits, fixed))
            carried = torch.einsum("opdf,...of->...dop", c.table.to(coordinates), part)
            dense[..., c.pairs.flatten().to(dense.device)] = carried.flatten(-2)
            start += orbits * fixed
        return dense.unflatten(-1, self.shape)

    def adjoint_embed(self, weight: Tensor) -> Tensor:
        """(…, d, rows, columns) → (…, β): carried back and added up, orbit by orbit."""
        flat = weight.flatten(-2)
        parts = []
        for c in self.classes:
            picked = flat[..., c.pairs.flatten().to(flat.device)].unflatten(-1, c.pairs.shape)
            parts.append(torch.einsum("opdf,...dop->...of", c.table.to(weight), picked).flatten(-2))
        return torch.cat(parts, dim=-1) if parts else weight.new_zeros((*weight.shape[:-3], 0))


@lru_cache(maxsize=256)
def sector_basis(irrep: Irrep, source: Representation, target: Representation) -> SectorBasis:
    """An orthonormal basis of Hom_G(V_λ, Hom(source, target)).

    Raises:
        Unproved: the basis found is not carried into itself by the generators.
    """
    if irrep.is_trivial:
        return EquivariantBasis(intertwiners(source, target))
    if source.is_permutation and target.is_permutation:
        # A dozen random elements of a stabiliser may lie in a subgroup of it (of Z_2⁹ one draw in eight does).
        for draws in (DRAWS, 4 * DRAWS):
            try:
                return _orbit_sector_basis(irrep, source, target, draws)
            except Unproved:
                continue
        return _orbit_sector_basis(irrep, source, target, 16 * DRAWS)
    return _average_sector_basis(irrep, source, target)


@dataclass(frozen=True, eq=False)
class _Orbits:
    """Orbits of G on index pairs as trees: every pair but the first of its orbit is generator · parent.

    Attributes:
        moves: (generators, pairs), where each generator sends each pair.
        orbit: (pairs), number of the orbit.
        first: (orbits), its first pair.
        levels: for each depth the pairs reached there, in order, with their parents and generators.
        parent, step: (pairs), −1 at the first ones.
    """

    moves: np.ndarray
    orbit: np.ndarray
    first: np.ndarray
    levels: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]
    parent: np.ndarray
    step: np.ndarray


@lru_cache(maxsize=8)
def _orbits(source: Representation, target: Representation) -> _Orbits:
    columns, total = source.dim, target.dim * source.dim
    generators = source.group.generators
    moves = np.array(
        [(target.index(g)[:, None] * columns + source.index(g)[None, :]).ravel() for g in generators], dtype=np.int64
    ).reshape(len(generators), total)
    labels = orbit_basis(source, target).labels.numpy()
    _, first = np.unique(labels, return_index=True)
    orbit = labels
    parent, step = np.full(total, -1), np.full(total, -1)
    seen = np.zeros(total, dtype=bool)
    seen[first] = True
    frontier, levels = first, []
    while len(frontier):
        reached, parents, steps = [], [], []
        for k, move in enumerate(moves):
            where, index = np.unique(move[frontier], return_index=True)
            fresh = ~seen[where]
            where, came = where[fresh], frontier[index[fresh]]
            seen[where] = True
            reached.append(where)
            parents.append(came)
            steps.append(np.full(len(where), k))
        frontier = np.concatenate(reached) if reached else np.array([], dtype=np.int64)
        if len(frontier):
            came, by = np.concatenate(parents), np.concatenate(steps)
            parent[frontier], step[frontier] = came, by
            levels.append((frontier, came, by))
    return _Orbits(moves, orbit, first, tuple(levels), parent, step)


def _carrier(group: Group, orbits: _Orbits, pair: int) -> Element:
    """The g of the tree with g·(first pair of the orbit) = pair."""
    g = group.identity
    word = []
    while orbits.parent[pair] >= 0:
        word.append(orbits.step[pair])
        pair = orbits.parent[pair]
    for k in reversed(word):
        g = group.multiply(group.generators[k], g)
    return g


@lru_cache(maxsize=16)
def _stabilisers(source: Representation, target: Representation, draws: int) -> dict[int, list[Element]]:
    """Haar-random elements of the stabiliser K of the first pair of each orbit, where K is neither 1 nor G.

    For g Haar and t the tree's element with t·o = g·o, t⁻¹g is Haar in K.
    """
    group, orbits, columns = source.group, _orbits(source, target), source.dim
    rng = np.random.default_rng(0)
    found: dict[int, list[Element]] = {}
    for number, length in enumerate(np.bincount(orbits.orbit)):
        if length in (1, group.order):
            continue
        first = int(orbits.first[number])
        row, column = divmod(first, columns)
        found[number] = []
        for _ in range(draws):
            g = group.sample(rng)
            where = int(target.index(g)[row] * columns + source.index(g)[column])
            found[number].append(group.multiply(group.inverse(_carrier(group, orbits, where)), g))
    return found


def _fixed_vectors(irrep: Irrep, elements: list[Element]) -> np.ndarray:
    """V^K from random elements of K, (d, dim V^K).

    A dozen of them generate K with large probability, and the caller verifies the outcome on every pair and generator.
    """
    defect = np.zeros((irrep.dim, irrep.dim))
    for k in elements:
        moved = irrep.representation.matrix(k)
        defect += 2 * np.eye(irrep.dim) - moved - moved.T
    values, vectors = np.linalg.eigh(defect)
    return vectors[:, values < 1e-8]


def _orbit_sector_basis(irrep: Irrep, source: Representation, target: Representation, draws: int) -> OrbitSectorBasis:
    group, d = source.group, irrep.dim
    orbits = _orbits(source, target)
    lengths = np.bincount(orbits.orbit)
    images = [irrep.representation.matrix(g) for g in group.generators]
    stabilisers = _stabilisers(source, target, draws)
    fixed = [
        np.eye(d)
        if lengths[number] == group.order
        else np.zeros((d, 0))
        if lengths[number] == 1
        else _fixed_vectors(irrep, stabilisers[number])
        for number in range(len(lengths))
    ]
    kinds = sorted({(int(n), f.shape[1]) for n, f in zip(lengths, fixed, strict=True) if f.shape[1]})
    kind_of = np.array(
        [kinds.index((int(n), f.shape[1])) if f.shape[1] else -1 for n, f in zip(lengths, fixed, strict=True)]
    )
    classes = []
    for which, (length, count) in enumerate(kinds):
        members = np.flatnonzero(kind_of == which)
        inside = np.flatnonzero(kind_of[orbits.orbit] == which)
        inside = inside[np.argsort(orbits.orbit[inside], kind="stable")]
        place = np.full(len(orbits.orbit), -1)
        place[inside] = np.arange(len(inside))
        table = np.zeros((len(inside), d, count))
        table[place[orbits.first[members]]] = np.sqrt(d / length) * np.stack([fixed[o] for o in members])
        for reached, came, by in orbits.levels:
            here = place[reached] >= 0
            for k, image in enumerate(images):
                chosen = here & (by == k)
                if chosen.any():
                    table[place[reached[chosen]]] = image @ table[place[came[chosen]]]
        for k, image in enumerate(images):
            error = float(np.abs(table[place[orbits.moves[k][inside]]] - image @ table).max())
            if not error <= 1e-9:
                raise Unproved(
                    f"{group.name}, sector {irrep.name} of Hom({source.name}, {target.name}): a generator breaks "
                    f"the basis by {error:.1e}"
                )
        classes.append(
            _OrbitClass(
                torch.as_tensor(inside.reshape(len(members), length)),
                torch.as_tensor(table.reshape(len(members), length, d, count)),
            )
        )
    return OrbitSectorBasis(tuple(classes), d, (target.dim, source.dim))


def _average_sector_basis(irrep: Irrep, source: Representation, target: Representation) -> DenseSectorBasis:
    """The range of the group average on V* ⊗ target ⊗ source: dense when small, else from averaged Gaussian blocks."""
    d, shape = irrep.dim, (target.dim, source.dim)
    total = d * shape[0] * shape[1]
    if total <= DENSE_LIMIT // 4:
        vectors = intertwiners(irrep.representation * source, target).embed
        count = intertwiners(irrep.representation * source, target).size
        found = vectors(torch.eye(count, dtype=torch.float64)).unflatten(-1, (d, source.dim)).transpose(-3, -2)
        return DenseSectorBasis(math.sqrt(d) * found.reshape(count, total), d, shape)
    if total > TABLE_LIMIT // 100:
        raise BadInput(
            f"sector {irrep.name} of Hom({source.name}, {target.name}) has {total:,} dimensions before the group "
            f"equations, more than {TABLE_LIMIT // 100:,}; split the spaces, or use permutation representations"
        )
    group, rho = source.group, irrep.representation
    degree = rho.degree + source.degree + target.degree

    def act(g: Element, v: Tensor) -> Tensor:
        return source.act(g, target.act(g, rho.act(g, v, -3), -2), -1)

    generator = torch.Generator().manual_seed(0)
    basis = torch.empty(0, total, dtype=torch.float64)
    block = 8
    while True:
        v = torch.randn(block, total, generator=generator, dtype=torch.float64).unflatten(-1, (d, *shape))
        for part in reversed(group.averaging(degree)):
            v = sum((w * act(g, v) for g, w in part), torch.zeros_like(v))
        v = v.flatten(1)
        for _ in range(2):
            v = v - (v @ basis.mT) @ basis
        _, values, right = torch.linalg.svd(v, full_matrices=False)
        fresh = right[values > 1e-8 * math.sqrt(total)]
        basis = torch.cat([basis, fresh])
        if len(fresh) < block:
            break
        block = min(2 * block, 512)
    for g in group.generators:
        error = float((act(g, basis.unflatten(-1, (d, *shape))).flatten(1) - basis).abs().max()) if len(basis) else 0.0
        if not error <= 1e-9:
            raise Unproved(f"{group.name}, sector {irrep.name}: a generator breaks the averaged basis by {error:.1e}")
    return DenseSectorBasis(math.sqrt(d) * basis, d, shape)
