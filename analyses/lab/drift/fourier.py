r"""A vector of E⊥ of an abelian group, sector by sector: ρ̄(g) is a phase there, K passes cost one gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from analyses.lab.drift.signals import Signals
from stability.base.errors import BadInput
from stability.groups import Representation, cyclic_moduli
from stability.layers.frequencies import FourierBasis, fourier_basis
from stability.problem.problem import Problem


@dataclass(frozen=True, eq=False)
class Kind:
    """Frequencies χ with equally many modes."""

    modes: int
    frequencies: np.ndarray


@lru_cache(maxsize=16)
def _kinds(base: Representation) -> tuple[Kind, ...]:
    modes = fourier_basis(base).modes
    return tuple(Kind(int(m), np.flatnonzero(modes == m)) for m in np.unique(modes) if m)


@lru_cache(maxsize=8)
def _frequencies(moduli: tuple[int, ...]) -> np.ndarray:
    return np.indices(moduli).reshape(len(moduli), -1).T


def _number(k: np.ndarray, moduli: tuple[int, ...]) -> np.ndarray:
    return np.ravel_multi_index(tuple(np.moveaxis(np.mod(k, moduli), -1, 0)), moduli)


def spectra(base: Representation, copies: int, x: Tensor) -> list[Tensor]:
    """x̂_χ = u_χ* x for x (n, copies · dim): one complex (frequencies, modes · copies, n) for each kind."""
    basis: FourierBasis = fourier_basis(base)
    flat = (x.reshape(-1, base.dim) @ basis.matrix.to(x).mT).reshape(len(x), copies, base.dim).permute(2, 1, 0)
    found = []
    for kind in _kinds(base):
        shape = (len(kind.frequencies), kind.modes, copies, len(x))
        out = torch.empty(shape, dtype=torch.complex64 if x.dtype == torch.float32 else torch.complex128)
        where = {int(f): i for i, f in enumerate(kind.frequencies)}
        for group in basis.groups:
            if group.count != kind.modes:
                continue
            part = flat[group.start : group.stop].unflatten(0, (len(group.frequencies), group.parts, group.count))
            at = [where[int(f)] for f in group.frequencies]
            if group.real:
                out[at] = part[:, 0].to(out.dtype)
                continue
            values = torch.complex(part[:, 0], part[:, 1]) / math.sqrt(2)
            opposite = _number(-_frequencies(basis.moduli)[group.frequencies], basis.moduli)
            out[at] = values
            out[[where[int(f)] for f in opposite]] = values.conj()
        found.append(out.flatten(1, 2))
    return found


@dataclass(frozen=True, eq=False)
class Blocks:
    """Where one pair of kinds meets in the sector η: entries (χ + η, χ).

    Attributes:
        target, source: numbers of the kinds.
        to, came: positions of χ + η and of χ in them.
        weight: how often an entry counts in ‖·‖², for its complex conjugates.
    """

    target: int
    source: int
    to: np.ndarray
    came: np.ndarray
    weight: np.ndarray


@lru_cache(maxsize=2048)
def _blocks(target: Representation, source: Representation, eta: int, by_target: bool) -> tuple[Blocks, ...]:
    """All entries of a sector, listed by χ + η or by χ."""
    moduli = cyclic_moduli(source.group)
    frequencies = _frequencies(moduli)
    opposite = _number(-frequencies, moduli)
    plus = _number(frequencies + frequencies[eta], moduli)
    found = []
    for t, rows in enumerate(_kinds(target)):
        for s, columns in enumerate(_kinds(source)):
            chosen = [f for f in columns.frequencies if plus[f] in rows.frequencies]
            weight = np.full(len(chosen), 2.0)
            if opposite[eta] == eta:  # the entry at −χ is the conjugate of that at χ
                chosen = [f for f in chosen if f <= opposite[f]]
                weight = np.where(np.array(chosen) == opposite[chosen], 1.0, 2.0)
            if chosen:
                to = np.searchsorted(rows.frequencies, plus[chosen])
                came = np.searchsorted(columns.frequencies, chosen)
                order = np.argsort(to) if by_target else np.arange(len(to))
                found.append(Blocks(t, s, to[order], came[order], weight[order]))
    return tuple(found)


class Transverse:
    """A vector of E⊥, layer by layer and sector by sector; η and −η are kept once.

    Args:
        problem: its group must be a product of cyclic groups, its layers Fourier layers.
        dtype: float32 or float64.
    """

    def __init__(self, problem: Problem, dtype: torch.dtype) -> None:
        self.space, self.moduli = problem.space, cyclic_moduli(problem.group)
        if self.moduli is None:
            raise BadInput(f"{problem.name}: {problem.group.name} is no product of cyclic groups; train plainly")
        frequencies = _frequencies(self.moduli)
        self.sectors = [
            e for e, minus in enumerate(_number(-frequencies, self.moduli)) if 0 < e <= minus
        ]  # the trivial one is E
        self.places = list(self._places())
        dtype = torch.complex64 if dtype == torch.float32 else torch.complex128
        self.values = [torch.zeros(block.shape, dtype=dtype) for block in self.places]

    @dataclass(frozen=True, eq=False)
    class Place:
        """One array of the vector: layer, target and source block, sector, and where its entries lie."""

        layer: int
        i: int
        j: int
        eta: int
        where: Blocks
        shape: tuple[int, int, int]

    def _places(self) -> Iterator[Transverse.Place]:
        for number, layer in enumerate(self.space.layers):
            for i, (m, a) in enumerate(layer.target.blocks):
                for j, (k, b) in enumerate(layer.source.blocks):
                    for eta in self.sectors:
                        # The smaller side is the one to be moved about.
                        for w in _blocks(a, b, eta, m * a.dim > k * b.dim):
                            rows, columns = m * _kinds(a)[w.target].modes, k * _kinds(b)[w.source].modes
                            yield self.Place(number, i, j, eta, w, (len(w.to), rows, columns))

    @property
    def norm(self) -> float:
        """The norm of the vector in L."""
        total = 0.0
        for place, v in zip(self.places, self.values, strict=True):
            squares = torch.view_as_real(v).square().sum((1, 2, 3), dtype=torch.float64)
            total += float(squares @ torch.as_tensor(place.where.weight))
        return math.sqrt(total)

    def scale_(self, factor: float) -> None:
        """Multiplies the vector, in place."""
        for v in self.values:
            v.mul_(factor)

    def add_(self, found: Signals, drawn: np.ndarray, owner: Tensor, factor: float) -> None:
        """Adds factor · (1/K) Σ_s Σ_k ρ̄(g_ks) (p_s ⊗ x_s), the part of it on E⊥.

        Args:
            found: of n samples.
            drawn: elements by (pass, mini-batch), an object array.
            owner: the mini-batch of each sample, (n).
        """
        waves = _frequencies(self.moduli)[self.sectors] / np.array(self.moduli)
        shifts = np.array([[g if isinstance(g, tuple) else (g,) for g in row] for row in drawn])  # (K, b, factors)
        phases = torch.as_tensor(np.exp(-2j * np.pi * (shifts @ waves.T)).mean(0).T)[:, owner]  # (sectors, n)
        phases = dict(zip(self.sectors, phases.to(self.values[0].dtype), strict=True))
        cached, left, right = None, [], []
        for place, v in zip(self.places, self.values, strict=True):
            if cached != place.layer:
                cached, layer = place.layer, self.space.layers[place.layer]
                left = _split_spectra(layer.target, found.derivatives[cached])
                right = _split_spectra(layer.source, found.inputs[cached])
                right = [[x.conj().resolve_conj() for x in xs] for xs in right]
            p = _chosen(left[place.i][place.where.target], place.where.to)
            x = _chosen(right[place.j][place.where.source], place.where.came)
            if p.shape[1] > x.shape[1]:
                x = x * phases[place.eta]
            else:
                p = p * phases[place.eta]
            v.baddbmm_(p, x.mT, alpha=factor)

    def settle_(self, gradient: Tensor, factor: float) -> None:
        """Nothing to take out: the trivial sector was never added."""

    def dense(self) -> Tensor:
        """The vector in L, (dim L)."""
        weights = [torch.zeros(layer.shape, dtype=self.values[0].real.dtype) for layer in self.space.layers]
        for place, v in zip(self.places, self.values, strict=True):
            layer = self.space.layers[place.layer]
            (m, a), (k, b) = layer.target.blocks[place.i], layer.source.blocks[place.j]
            left, right = _modes(a)[place.where.target].to(v), _modes(b)[place.where.source].to(v)
            left, right = left[place.where.to], right[place.where.came]  # (entries, modes, dim)
            weighted = v * torch.as_tensor(place.where.weight).to(v)[:, None, None]
            part = weighted.unflatten(1, (left.shape[1], m)).unflatten(3, (right.shape[1], k))
            block = torch.einsum("fap,famcn,fcq->mpnq", left, part, right.conj()).real
            top = sum(c * r.dim for c, r in layer.target.blocks[: place.i])
            start = sum(c * r.dim for c, r in layer.source.blocks[: place.j])
            weights[place.layer][top : top + m * a.dim, start : start + k * b.dim] += block.reshape(m * a.dim, -1)
        return self.space.join(weights)


def _chosen(values: Tensor, index: np.ndarray) -> Tensor:
    """values[index], without a copy where that is everything in order."""
    if len(index) == len(values) and (index == np.arange(len(values))).all():
        return values
    return values.index_select(0, torch.as_tensor(index))


def _split_spectra(space: Representation, x: Tensor) -> list[list[Tensor]]:
    parts = x.split([copies * base.dim for copies, base in space.blocks], dim=-1)
    return [spectra(base, copies, part) for part, (copies, base) in zip(parts, space.blocks, strict=True)]


@lru_cache(maxsize=16)
def _modes(base: Representation) -> list[Tensor]:
    """u_χ for every kind, (frequencies, modes, dim)."""
    identity = torch.eye(base.dim, dtype=torch.float64)
    return [u.conj().resolve_conj() for u in spectra(base, 1, identity)]
