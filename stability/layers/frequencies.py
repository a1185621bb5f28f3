"""Frequencies of permutation representations of abelian groups; transforms between them and positions."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from stability.base.errors import BadInput
from stability.groups import Representation, cyclic_moduli
from stability.layers.layer import Scratch


@dataclass(frozen=True, eq=False)
class FrequencyGroup:
    """Frequencies {ν, −ν} of one kind: real (ν = −ν) or not, with ``count`` modes each; rows of Q from ``start``.

    Rows run over (frequency, part, mode), part being one cosine, or a cosine and a sine.

    Attributes:
        real: whether ν = −ν.
        count: modes of each of them.
        frequencies: their numbers, one of every pair.
        start: the first of their rows of Q.
    """

    real: bool
    count: int
    frequencies: np.ndarray
    start: int

    @property
    def parts(self) -> int:
        """1 for a cosine alone, 2 for a cosine and a sine."""
        return 1 if self.real else 2

    @property
    def rows(self) -> int:
        """Rows for one frequency."""
        return self.parts * self.count

    @property
    def stop(self) -> int:
        """The row of Q after the last one of this group."""
        return self.start + len(self.frequencies) * self.rows


@dataclass(frozen=True, eq=False)
class FourierBasis:
    """The frequencies of a permutation representation and the orthogonal matrix Q (dim, dim) that sorts by them.

    Attributes:
        moduli: n_i, orders of the cyclic factors.
        groups: frequencies of a kind together.
        place: for every frequency (group, position in it, whether it is −ν of the one listed); None if it has no modes.
        modes: number of modes of every frequency.
        matrix: Q, orthogonal, (dim, dim).
    """

    moduli: tuple[int, ...]
    groups: tuple[FrequencyGroup, ...]
    place: tuple[tuple[int, int, bool] | None, ...]
    modes: np.ndarray
    matrix: Tensor


@lru_cache(maxsize=8)
def all_frequencies(moduli: tuple[int, ...]) -> np.ndarray:
    """Every frequency of Z_{n_1} × …, one a row, the last number running fastest."""
    return np.array(list(itertools.product(*map(range, moduli))))


def frequency_number(k: np.ndarray, moduli: tuple[int, ...]) -> np.ndarray:
    """Position of frequencies (…, factors) in the list of all."""
    return np.ravel_multi_index(tuple(np.moveaxis(np.mod(k, moduli), -1, 0)), moduli)


def moduli_of(space: Representation) -> tuple[int, ...]:
    """(n_1 … n_k) of the product of cyclic groups that acts on a space.

    Raises:
        BadInput: another group acts.
    """
    moduli = cyclic_moduli(space.group)
    if moduli is None:
        raise BadInput(f"{space.group.name} has no frequencies; use a product of cyclic groups")
    return moduli


@lru_cache(maxsize=32)
def fourier_basis(base: Representation) -> FourierBasis:
    """Characters of the orbits: u_χ[g·o] = χ(g)/√|O| wherever χ is trivial on the stabiliser of o."""
    group = base.group
    moduli = moduli_of(base)
    frequencies = all_frequencies(moduli)
    elements = list(group.elements())
    shifts = np.array([g if isinstance(g, tuple) else (g,) for g in elements])
    images = np.array([base.index(g) for g in elements])  # (|G|, dim)
    characters = np.exp(2j * np.pi * (frequencies / np.array(moduli)) @ shifts.T)  # (F, |G|)
    seen = np.zeros(base.dim, dtype=bool)
    vectors: list[list[np.ndarray]] = [[] for _ in frequencies]
    for point in range(base.dim):
        if seen[point]:
            continue
        orbit = images[:, point]
        seen[orbit] = True
        stabiliser = np.flatnonzero(orbit == point)
        length = len(elements) // len(stabiliser)
        for chi in np.flatnonzero(np.abs(characters[:, stabiliser].sum(1)) > 0.5):
            u = np.zeros(base.dim, dtype=complex)
            u[orbit] = characters[chi] / math.sqrt(length)
            vectors[chi].append(u)
    modes = np.array([len(v) for v in vectors])
    opposite = frequency_number(-frequencies, moduli)
    kinds = sorted({(bool(opposite[f] == f), int(modes[f])) for f in range(len(modes)) if modes[f]})
    groups: list[FrequencyGroup] = []
    rows: list[np.ndarray] = []
    place: list[tuple[int, int, bool] | None] = [None] * len(modes)
    for real, count in kinds:
        listed = [f for f in range(len(modes)) if modes[f] == count and (opposite[f] == f) == real and f <= opposite[f]]
        for position, f in enumerate(listed):
            u = np.array(vectors[f])
            rows.append(u.real if real else np.concatenate([u.real, -u.imag]) * math.sqrt(2))
            place[opposite[f]] = (len(groups), position, True)
            place[f] = (len(groups), position, False)
        groups.append(FrequencyGroup(real, count, np.array(listed), sum(g.stop - g.start for g in groups)))
    return FourierBasis(moduli, tuple(groups), tuple(place), modes, torch.as_tensor(np.concatenate(rows)))


def to_positions(space: Representation, x: Tensor) -> Tensor:
    """(n, rows) → (rows, n), the rows running (block, position, copy)."""
    parts = x.split([copies * base.dim for copies, base in space.blocks], dim=-1)
    moved = [
        part.reshape(-1, copies, base.dim).permute(2, 1, 0).reshape(copies * base.dim, -1)
        for part, (copies, base) in zip(parts, space.blocks, strict=True)
    ]
    return moved[0] if len(moved) == 1 else torch.cat(moved)


def from_positions(space: Representation, y: Tensor) -> Tensor:
    """The inverse of :func:`to_positions`."""
    parts = y.split([copies * base.dim for copies, base in space.blocks])
    moved = [
        part.reshape(base.dim, copies, -1).permute(2, 1, 0).reshape(-1, copies * base.dim)
        for part, (copies, base) in zip(parts, space.blocks, strict=True)
    ]
    return moved[0] if len(moved) == 1 else torch.cat(moved, dim=-1)


def matrix_product(a: Tensor, b: Tensor, scratch: Scratch | None) -> Tensor:
    """ab, in reused memory where there is some."""
    return a @ b if scratch is None else torch.mm(a, b, out=scratch.take((len(a), b.shape[1]), b))


def analyse(space: Representation, x: Tensor, scratch: Scratch | None = None) -> list[list[Tensor]]:
    """(rows, T), position-major → for every block and group of frequencies (g, part·mode·copy, T)."""
    scratch = scratch if len(space.blocks) == 1 else None
    found, start = [], 0
    for copies, base in space.blocks:
        basis = fourier_basis(base)
        part = x[start : start + copies * base.dim]
        start += copies * base.dim
        flat = part.reshape(base.dim, -1)
        turned = matrix_product(basis.matrix.to(x), flat, scratch) if base.dim > 1 else flat
        turned = turned.reshape(base.dim, copies * x.shape[1])
        found.append([turned[g.start : g.stop].reshape(-1, g.rows * copies, x.shape[1]) for g in basis.groups])
    return found


def synthesise(
    space: Representation, spectra: list[list[Tensor | None]], like: Tensor, width: int, scratch: Scratch | None = None
) -> Tensor:
    """The inverse of :func:`analyse`; groups that nothing reached are zero."""
    scratch = scratch if len(space.blocks) == 1 else None
    parts = []
    for (copies, base), groups in zip(space.blocks, spectra, strict=True):
        basis = fourier_basis(base)
        matrix = basis.matrix.to(like)
        # One product for all frequencies; a copy is cheaper than a thin product and a sum.
        present = [(g, v) for g, v in zip(basis.groups, groups, strict=True) if v is not None]
        if not present:
            parts.append(like.new_zeros(copies * base.dim, width))
            continue
        spectrum = [v.reshape(g.stop - g.start, copies * width) for g, v in present]
        rows = [matrix[g.start : g.stop] for g, _ in present]
        turned = matrix_product(torch.cat(rows).mT, torch.cat(spectrum) if len(present) > 1 else spectrum[0], scratch)
        parts.append(turned.reshape(copies * base.dim, width))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def select(values: Tensor, index: np.ndarray) -> Tensor:
    """values[index], without a copy where that is everything."""
    if len(index) == len(values) and (index == np.arange(len(index))).all():
        return values
    return values.index_select(0, torch.as_tensor(index, device=values.device))


def add_at(groups: list[Tensor | None], which: int, index: np.ndarray, count: int, values: Tensor) -> None:
    """groups[which][index] += values."""
    held = groups[which]
    if len(index) == count and (index == np.arange(count)).all():
        groups[which] = values if held is None else held + values
        return
    if held is None:
        held = values.new_zeros(count, *values.shape[1:])
    groups[which] = held.index_add(0, torch.as_tensor(index, device=values.device), values)


def empty_spectra(space: Representation) -> list[list[Tensor | None]]:
    """A place for every group of frequencies of every block, nothing in it yet."""
    return [[None] * len(fourier_basis(base).groups) for _, base in space.blocks]
