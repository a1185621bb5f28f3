r"""Layers over abelian groups in Fourier space: a sector is a set of small blocks between frequencies.

A permutation representation of an abelian group splits into spaces X_χ, one for each frequency χ (a shift moves
only their phase). An equivariant A maps X_χ to Y_χ; a direction S of the sector η maps X_χ to Y_{χ+η}, so

    S e_1 = √2 Re Z,  S e_2 = √2 Im Z,   Z = Σ_χ u'_{χ+η} Ŝ[χ] u_χ*      (η ≠ −η)
    S e_1 = Z with Ŝ[−χ] = conj Ŝ[χ]                                     (η = −η)

Coordinates are the entries of Ŝ, and the dense weights are never made. The transform is a product with a real
orthogonal matrix (cosines and sines): on images of 14 × 14 one real matrix product is faster than an FFT, and
complex arithmetic between the transforms becomes real products of twice the size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from stability.groups import Irrep, Representation, cyclic_moduli
from stability.layers.layer import Layer, LayerAt, Scratch

# Coordinates beyond which the blocks of a sector are built without index tables, which take twenty times their memory.
SCATTER_NUMBERS = 2_000_000


@dataclass(frozen=True, eq=False)
class FrequencyGroup:
    """Frequencies {ν, −ν} of one kind: real (ν = −ν) or not, with ``count`` modes each; rows of Q from ``start``.

    Rows run over (frequency, part, mode), part being one cosine, or a cosine and a sine.
    """

    real: bool
    count: int
    frequencies: np.ndarray
    start: int

    @property
    def parts(self) -> int:
        return 1 if self.real else 2

    @property
    def rows(self) -> int:
        """Rows for one frequency."""
        return self.parts * self.count

    @property
    def stop(self) -> int:
        return self.start + len(self.frequencies) * self.rows


@dataclass(frozen=True, eq=False)
class FourierBasis:
    """The frequencies of a permutation representation and the orthogonal matrix Q (dim, dim) that sorts by them.

    Attributes:
        place: for every frequency (group, position in it, whether it is −ν of the one listed); None if it has no modes.
        modes: number of modes of every frequency.
    """

    moduli: tuple[int, ...]
    groups: tuple[FrequencyGroup, ...]
    place: tuple[tuple[int, int, bool] | None, ...]
    modes: np.ndarray
    matrix: Tensor


@lru_cache(maxsize=8)
def _frequencies(moduli: tuple[int, ...]) -> np.ndarray:
    return np.array(list(itertools.product(*map(range, moduli))))


def _number(k: np.ndarray, moduli: tuple[int, ...]) -> np.ndarray:
    """Position of frequencies (…, factors) in the list of all."""
    return np.ravel_multi_index(tuple(np.moveaxis(np.mod(k, moduli), -1, 0)), moduli)


@lru_cache(maxsize=32)
def fourier_basis(base: Representation) -> FourierBasis:
    """Characters of the orbits: u_χ[g·o] = χ(g)/√|O| wherever χ is trivial on the stabiliser of o."""
    group = base.group
    moduli = cyclic_moduli(group)
    frequencies = _frequencies(moduli)
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
        for f in np.flatnonzero(np.abs(characters[:, stabiliser].sum(1)) > 0.5):
            u = np.zeros(base.dim, dtype=complex)
            u[orbit] = characters[f] / math.sqrt(length)
            vectors[f].append(u)
    modes = np.array([len(v) for v in vectors])
    opposite = _number(-frequencies, moduli)
    kinds = sorted({(bool(opposite[f] == f), int(modes[f])) for f in range(len(modes)) if modes[f]})
    groups, rows, place = [], [], [None] * len(modes)
    for real, count in kinds:
        listed = [f for f in range(len(modes)) if modes[f] == count and (opposite[f] == f) == real and f <= opposite[f]]
        for position, f in enumerate(listed):
            u = np.array(vectors[f])
            rows.append(u.real if real else np.concatenate([u.real, -u.imag]) * math.sqrt(2))
            place[opposite[f]] = (len(groups), position, True)
            place[f] = (len(groups), position, False)
        groups.append(FrequencyGroup(real, count, np.array(listed), sum(g.stop - g.start for g in groups)))
    return FourierBasis(moduli, tuple(groups), tuple(place), modes, torch.as_tensor(np.concatenate(rows)))


@dataclass(frozen=True, eq=False)
class _Piece:
    """Real blocks from one group of source frequencies to one group of target frequencies through one slot.

    Attributes:
        target, source: numbers of the groups.
        to, came: positions in them.
        index: which Ŝ[χ], as positions in its shape class.
        shape: number of that class.
        conjugate: whether conj Ŝ enters (the slot of −ν).
        flipped: (pieces), −1 where the source frequency is listed by its opposite, else 1.
        phases: factor of each partner.
    """

    target: int
    source: int
    to: np.ndarray
    came: np.ndarray
    index: np.ndarray
    shape: int
    conjugate: bool
    flipped: np.ndarray
    phases: tuple[complex, ...]


class Coupling:
    """Ŝ of one pair of base representations in the sector η: its coordinates and its real blocks.

    Args:
        source, target: the bases.
        eta: number of the frequency η.
    """

    def __init__(self, source: FourierBasis, target: FourierBasis, eta: int) -> None:
        self.source, self.target, self.eta = source, target, eta
        moduli, frequencies = source.moduli, _frequencies(source.moduli)
        self.plus = _number(frequencies + frequencies[eta], moduli)
        self.minus = _number(frequencies - frequencies[eta], moduli)
        self.opposite = _number(-frequencies, moduli)
        self.real = self.opposite[eta] == eta
        present = [f for f in range(len(frequencies)) if source.modes[f] and target.modes[self.plus[f]]]
        kinds = sorted({(int(target.modes[self.plus[f]]), int(source.modes[f])) for f in present})
        self.shapes, self.where = [], {}
        for kind in kinds:
            members = [f for f in present if (target.modes[self.plus[f]], source.modes[f]) == kind]
            for position, f in enumerate(members):
                self.where[f] = (len(self.shapes), position)
            self.shapes.append((kind, np.array(members)))
        self.size = sum(self._count(i) for i in range(len(self.shapes)))
        self.pieces = self._pieces(source, target, lambda f: f)
        # Sᵀ lies in the same sector from Y to X: Ŝᵀ[ν] = Ŝ[−ν − η]ᵀ.
        self.transposed = self._pieces(target, source, lambda f: int(self.opposite[self.plus[f]]))

    def _listed(self, shape: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the free complex entries, and of the free real ones, in a shape class."""
        members = self.shapes[shape][1]
        if not self.real:
            return np.arange(len(members)), np.array([], dtype=np.int64)
        opposite = self.opposite[members]
        return np.flatnonzero(members < opposite), np.flatnonzero(members == opposite)

    def _count(self, shape: int) -> int:
        pairs, single = self._listed(shape)
        (a, b), _ = self.shapes[shape]
        return (2 * len(pairs) + len(single)) * a * b

    def entries(self, s: Tensor) -> list[Tensor]:
        """(…, size) → Ŝ for each shape class as (…, 2, frequencies, a, b): real and imaginary parts."""
        found, start = [], 0
        for i, ((a, b), members) in enumerate(self.shapes):
            count = self._count(i)
            part = s[..., start : start + count]
            start += count
            pairs, single = self._listed(i)
            cut = 2 * len(pairs) * a * b
            whole = part[..., :cut].unflatten(-1, (2, len(pairs), a, b))
            if not self.real:
                found.append(whole)
                continue
            alone = part[..., cut:].unflatten(-1, (len(single), a, b))
            half = whole / math.sqrt(2)
            order = np.concatenate([members[pairs], self.opposite[members[pairs]], members[single]])
            sign = half.new_tensor([1.0, -1.0])[:, None, None, None]
            zero = torch.stack([alone, torch.zeros_like(alone)], dim=-4)
            stacked = torch.cat([half, half * sign, zero], dim=-3)
            found.append(stacked.index_select(-3, torch.as_tensor(np.argsort(order), device=s.device)))
        return found

    def _pieces(self, source: FourierBasis, target: FourierBasis, which: Callable[[int], int]) -> list[_Piece]:
        root = 1 / math.sqrt(2)
        slots = [(False, (1.0,))] if self.real else [(False, (root, -1j * root)), (True, (root, 1j * root))]
        pieces = []
        for t, group in enumerate(target.groups):
            for conjugate, phases in slots:
                sorted_by: dict[tuple[int, int], list] = {}
                for position, nu in enumerate(group.frequencies):
                    chi = self.plus[nu] if conjugate else self.minus[nu]  # where x is read
                    entry = self.opposite[chi] if conjugate else chi  # −ν − η, or ν − η
                    found = source.place[chi]
                    if found is None:
                        continue
                    shape, index = self.where[which(int(entry))]
                    s, came, flipped = found
                    sorted_by.setdefault((s, shape), []).append((position, came, index, -1.0 if flipped else 1.0))
                for (s, shape), rows in sorted_by.items():
                    to, came, index, flipped = map(np.array, zip(*rows, strict=True))
                    pieces.append(_Piece(t, s, to, came, index, shape, conjugate, flipped, phases))
        return pieces

    def blocks(self, entries: list[Tensor], transposed: bool) -> list[Tensor]:
        """Real blocks of every piece: Ŝ (v, m, k, 2, f, a, b) → (g, part·mode·m, v·d, part·mode·k)."""
        source, target = (self.target, self.source) if transposed else (self.source, self.target)
        out = []
        for piece in self.transposed if transposed else self.pieces:
            s = entries[piece.shape].index_select(-3, torch.as_tensor(piece.index, device=entries[0].device))
            real, imaginary = s.unbind(-4)
            if piece.conjugate:
                imaginary = -imaginary
            if transposed:
                real, imaginary = (q.transpose(1, 2).transpose(-2, -1) for q in (real, imaginary))
            t, f = target.groups[piece.target], source.groups[piece.source]
            scale = (1.0 if t.real else math.sqrt(2)) * (1.0 if f.real else 1 / math.sqrt(2))
            sign = real.new_tensor(piece.flipped)[:, None, None]
            partners = []
            for phase in piece.phases:
                phase = complex(phase)
                re = scale * (phase.real * real - phase.imag * imaginary)
                im = scale * (phase.real * imaginary + phase.imag * real)
                top = [re] if f.real else [re, -sign * im]
                bottom = [im] if f.real else [im, sign * re]
                lines = [top] if t.real else [top, bottom]
                partners.append(torch.stack([torch.stack(line, 0) for line in lines], 0))
            # (partner, part_t, part_s, v, m, k, g, a, b) → (g, part_t, a, m, v, partner, part_s, b, k)
            whole = torch.stack(partners).permute(6, 1, 7, 4, 3, 0, 2, 8, 5)
            g, pt, a, m, v, d, ps, b, k = whole.shape
            out.append(whole.reshape(g, pt * a * m, v * d, ps * b * k))
        return out

    def collect(self, into: list[Tensor], blocks: list[Tensor], transposed: bool) -> None:
        """The adjoint of :meth:`blocks`, added to gradients ``into`` of the entries; nothing is built to be undone."""
        source, target = (self.target, self.source) if transposed else (self.source, self.target)
        for piece, block in zip(self.transposed if transposed else self.pieces, blocks, strict=True):
            t, f = target.groups[piece.target], source.groups[piece.source]
            v, copies = len(into[0]), into[0].shape[1:3]
            m, k = reversed(copies) if transposed else copies
            whole = block.reshape(len(piece.to), t.parts, t.count, m, v, len(piece.phases), f.parts, f.count, k)
            scale = (1.0 if t.real else math.sqrt(2)) * (1.0 if f.real else 1 / math.sqrt(2))
            sign = block.new_tensor(piece.flipped)[:, None, None, None, None, None]
            real = imaginary = 0.0
            for j, phase in enumerate(piece.phases):
                phase = complex(phase)
                one = whole[:, :, :, :, :, j]  # (g, part_t, a, m, v, part_s, b, k)
                re, im = one[:, 0, :, :, :, 0], 0.0
                if not f.real:
                    im = im - sign * one[:, 0, :, :, :, 1]
                if not t.real:
                    im = im + one[:, 1, :, :, :, 0]
                if not (f.real or t.real):
                    re = re + sign * one[:, 1, :, :, :, 1]
                real = real + scale * (phase.real * re + phase.imag * im)
                imaginary = imaginary + scale * (phase.real * im - phase.imag * re)
            index = torch.as_tensor(piece.index, device=block.device)
            for part, values, factor in ((0, real, 1.0), (1, imaginary, -1.0 if piece.conjugate else 1.0)):
                if isinstance(values, float):
                    continue
                values = values.permute(3, 2, 5, 0, 1, 4)  # (v, m, k, g, a, b)
                if transposed:
                    values = values.transpose(1, 2).transpose(-2, -1)
                into[piece.shape][:, :, :, part].index_add_(3, index, values, alpha=factor)


@lru_cache(maxsize=64)
def coupling(source: Representation, target: Representation, eta: int) -> Coupling:
    """The coupling of two base representations in a sector, made once."""
    return Coupling(fourier_basis(source), fourier_basis(target), eta)


@dataclass(frozen=True)
class FourierLayer(Layer):
    """Hom(source, target) for permutation representations of a product of cyclic groups."""

    convention = (
        "basis elements are Fourier coefficients: frequencies in row-major order; of every pair chi, -chi the one that "
        "comes first, sqrt(2) times its real parts for all of them, then its imaginary parts, then the real "
        "coefficients of the frequencies chi = -chi; each a matrix of modes (target orbit, source orbit), orbits "
        "numbered by their first point, with mode chi(g)/sqrt(length) on the g-th point of an orbit"
    )

    def _eta(self, irrep: Irrep | None) -> int:
        if irrep is None or irrep.frequency is None:
            return 0
        return int(_number(np.array(irrep.frequency), cyclic_moduli(self.source.group)))

    def couplings(self, irrep: Irrep | None) -> list[tuple[int, int, int, int, Coupling]]:
        """(target block, source block, target copies, source copies, coupling) in the order of the coordinates."""
        eta = self._eta(irrep)
        return [
            (i, j, m, k, coupling(b, a, eta))
            for i, (m, a) in enumerate(self.target.blocks)
            for j, (k, b) in enumerate(self.source.blocks)
        ]

    def structured(self, irrep: Irrep | None) -> bool:
        """Whether coordinates of this sector are Fourier coefficients; E is the sector of frequency zero."""
        return irrep is None or irrep.is_trivial or irrep.frequency is not None

    def size(self, irrep: Irrep | None = None) -> int:
        if not self.structured(irrep):
            return super().size(irrep)
        return sum(m * k * c.size for _, _, m, k, c in self.couplings(irrep))

    def entries(self, s: Tensor, irrep: Irrep | None) -> list[list[Tensor]]:
        """Ŝ of every pair of blocks from coordinates (v, size)."""
        found, start = [], 0
        for _, _, m, k, c in self.couplings(irrep):
            count = m * k * c.size
            found.append(c.entries(s[:, start : start + count].unflatten(-1, (m, k, c.size))))
            start += count
        return found

    def embed(self, coordinates: Tensor, irrep: Irrep | None = None) -> Tensor:
        if not self.structured(irrep):
            return super().embed(coordinates, irrep)
        s = coordinates.flatten(0, -2) if coordinates.ndim > 1 else coordinates.unsqueeze(0)
        d = irrep.dim if irrep else 1
        lines: list[list[Tensor]] = [[] for _ in self.target.blocks]
        for (i, j, m, k, c), entries in zip(self.couplings(irrep), self.entries(s, irrep), strict=True):
            a, b = self.target.blocks[i][1], self.source.blocks[j][1]
            qt, qs = c.target.matrix.to(s), c.source.matrix.to(s)
            spectral = s.new_zeros(a.dim, b.dim, len(s) * d, m, k)
            for piece, block in zip(c.pieces, c.blocks(entries, False), strict=True):
                t, f = c.target.groups[piece.target], c.source.groups[piece.source]
                block = block.unflatten(1, (t.rows, m)).unflatten(-1, (f.rows, k))  # (g, rt, m, vd, rs, k)
                rows = torch.as_tensor(t.start + piece.to[:, None] * t.rows + np.arange(t.rows))
                columns = torch.as_tensor(f.start + piece.came[:, None] * f.rows + np.arange(f.rows))
                place = (rows[:, :, None].expand(-1, -1, f.rows), columns[:, None, :].expand(-1, t.rows, -1))
                spectral = spectral.index_put(place, block.permute(0, 1, 4, 3, 2, 5), accumulate=True)
            weights = qt.mT @ spectral.permute(2, 3, 4, 0, 1) @ qs  # (v·d, m, k, rows, columns)
            lines[i].append(weights.permute(0, 1, 3, 2, 4).reshape(len(s), d, m * a.dim, k * b.dim))
        dense = torch.cat([torch.cat(line, dim=-1) for line in lines], dim=-2)
        return dense.reshape(*coordinates.shape[:-1], d, *self.shape)

    def adjoint_embed(self, weight: Tensor, irrep: Irrep | None = None) -> Tensor:
        if not self.structured(irrep):
            return super().adjoint_embed(weight, irrep)
        flat = weight.flatten(0, -4) if weight.ndim > 3 else weight.unsqueeze(0)
        zero = flat.new_zeros(len(flat), self.size(irrep))
        (found,) = torch.func.vjp(lambda s: self.embed(s, irrep), zero)[1](flat)
        return found.reshape(*weight.shape[:-3], found.shape[1])

    def apply(self, coordinates: Tensor, x: Tensor, irrep: Irrep | None = None) -> Tensor:
        """As in :class:`Layer`; on E one set of coordinates goes from frequency to frequency."""
        if coordinates.ndim > 1 or not (irrep is None or irrep.is_trivial):
            return super().apply(coordinates, x, irrep)
        arithmetic = FourierArithmetic(self, coordinates)
        flat = x.reshape(-1, x.shape[-1])
        y = arithmetic.forward(_to_positions(self.source, flat))
        y = _from_positions(self.target, y).reshape(*x.shape[:-1], -1)
        return y if x.ndim > 2 else y.unsqueeze(0)

    def at(self, coordinates: Tensor, irrep: Irrep | None) -> LayerAt:
        if irrep is None or not self.structured(irrep):
            return LayerAt(self, coordinates, irrep)
        return FourierLayerAt(self, coordinates, irrep)


def _to_positions(space: Representation, x: Tensor) -> Tensor:
    """(n, rows) → (rows, n), the rows running (block, position, copy)."""
    parts = x.split([copies * base.dim for copies, base in space.blocks], dim=-1)
    moved = [
        part.reshape(-1, copies, base.dim).permute(2, 1, 0).reshape(copies * base.dim, -1)
        for part, (copies, base) in zip(parts, space.blocks, strict=True)
    ]
    return moved[0] if len(moved) == 1 else torch.cat(moved)


def _from_positions(space: Representation, y: Tensor) -> Tensor:
    """The inverse of :func:`_to_positions`."""
    parts = y.split([copies * base.dim for copies, base in space.blocks])
    moved = [
        part.reshape(base.dim, copies, -1).permute(2, 1, 0).reshape(-1, copies * base.dim)
        for part, (copies, base) in zip(parts, space.blocks, strict=True)
    ]
    return moved[0] if len(moved) == 1 else torch.cat(moved, dim=-1)


def _product(a: Tensor, b: Tensor, scratch: Scratch | None) -> Tensor:
    """ab, in reused memory where there is some."""
    return a @ b if scratch is None else torch.mm(a, b, out=scratch.take((len(a), b.shape[1]), b))


def _analyse(space: Representation, x: Tensor, scratch: Scratch | None = None) -> list[list[Tensor]]:
    """(rows, T), position-major → for every block and group of frequencies (g, part·mode·copy, T)."""
    scratch = scratch if len(space.blocks) == 1 else None
    found, start = [], 0
    for copies, base in space.blocks:
        basis = fourier_basis(base)
        part = x[start : start + copies * base.dim]
        start += copies * base.dim
        flat = part.reshape(base.dim, -1)
        turned = _product(basis.matrix.to(x), flat, scratch) if base.dim > 1 else flat
        turned = turned.reshape(base.dim, copies * x.shape[1])
        found.append([turned[g.start : g.stop].reshape(-1, g.rows * copies, x.shape[1]) for g in basis.groups])
    return found


def _synthesise(
    space: Representation, spectra: list[list[Tensor | None]], like: Tensor, width: int, scratch: Scratch | None = None
) -> Tensor:
    """The inverse of :func:`_analyse`; groups that nothing reached are zero."""
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
        turned = _product(torch.cat(rows).mT, torch.cat(spectrum) if len(present) > 1 else spectrum[0], scratch)
        parts.append(turned.reshape(copies * base.dim, width))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _select(values: Tensor, index: np.ndarray) -> Tensor:
    """values[index], without a copy where that is everything."""
    if len(index) == len(values) and (index == np.arange(len(index))).all():
        return values
    return values.index_select(0, torch.as_tensor(index, device=values.device))


def _add(groups: list[Tensor | None], which: int, index: np.ndarray, count: int, values: Tensor) -> None:
    """groups[which][index] += values."""
    if len(index) == count and (index == np.arange(count)).all():
        groups[which] = values if groups[which] is None else groups[which] + values
        return
    if groups[which] is None:
        groups[which] = values.new_zeros(count, *values.shape[1:])
    groups[which] = groups[which].index_add(0, torch.as_tensor(index, device=values.device), values)


class FourierArithmetic:
    """An equivariant layer as one small block for each frequency: x ↦ Ax and y ↦ Aᵀy, position-major."""

    def __init__(self, layer: FourierLayer, theta: Tensor) -> None:
        self.layer = layer
        self.couplings = layer.couplings(None)
        entries = layer.entries(theta.unsqueeze(0), None)
        self.blocks = [
            [block.squeeze(2) for block in c.blocks(e, False)]
            for (_, _, _, _, c), e in zip(self.couplings, entries, strict=True)
        ]

    def accumulate(self, spectra: list[list[Tensor]], into: list[list[Tensor | None]], transposed: bool) -> None:
        """Â x̂ for every frequency, added to ``into``."""
        for (i, j, _, _, c), blocks in zip(self.couplings, self.blocks, strict=True):
            for piece, block in zip(c.pieces, blocks, strict=True):
                if transposed:
                    moved = torch.bmm(block.mT, _select(spectra[i][piece.target], piece.to))
                    _add(into[j], piece.source, piece.came, len(c.source.groups[piece.source].frequencies), moved)
                else:
                    moved = torch.bmm(block, _select(spectra[j][piece.source], piece.came))
                    _add(into[i], piece.target, piece.to, len(c.target.groups[piece.target].frequencies), moved)

    def forward(self, x: Tensor) -> Tensor:
        """Ax for x (columns, T)."""
        into = _empty(self.layer.target)
        self.accumulate(_analyse(self.layer.source, x), into, False)
        return _synthesise(self.layer.target, into, x, x.shape[1])

    def backward(self, y: Tensor) -> Tensor:
        """Aᵀy for y (rows, T)."""
        into = _empty(self.layer.source)
        self.accumulate(_analyse(self.layer.target, y), into, True)
        return _synthesise(self.layer.source, into, y, y.shape[1])


def _empty(space: Representation) -> list[list[Tensor | None]]:
    return [[None] * len(fourier_basis(base).groups) for _, base in space.blocks]


class FourierLayerAt(LayerAt):
    """A layer of an abelian group at a point of E, perturbed in one sector, all arithmetic between frequencies.

    Rows of tangents run (block, position, copy): position-major, so a transform is one matrix product.
    """

    def __init__(self, layer: FourierLayer, coordinates: Tensor, irrep: Irrep) -> None:
        self.layer, self.irrep, self.dim = layer, irrep, irrep.dim
        self.size = layer.size(irrep)
        self.arithmetic = FourierArithmetic(layer, coordinates)
        self.couplings = layer.couplings(irrep)
        # Spectra and results are overwritten by the next call of the method that made them.
        self.before, self.after, self.pushed, self.pulled = Scratch(), Scratch(), Scratch(), Scratch()
        self.last: tuple[Tensor, list[list[Tensor]]] | None = None
        self.scatter = None
        if 0 < self.size <= SCATTER_NUMBERS:
            self.scatter = _scatter(layer, irrep).to(coordinates)

    def plain(self, x: Tensor) -> Tensor:
        return _from_positions(self.layer.target, self.arithmetic.forward(_to_positions(self.layer.source, x)))

    def plain_transpose(self, y: Tensor) -> Tensor:
        return _from_positions(self.layer.source, self.arithmetic.backward(_to_positions(self.layer.target, y)))

    def tangent_layout(self, t: Tensor) -> Tensor:
        whole = t if t.ndim == 3 else t.unsqueeze(0)
        moved = _to_positions(self.layer.target, whole.reshape(-1, whole.shape[-1]))
        return moved.unflatten(1, whole.shape[:2])

    def sample_layout(self, t: Tensor) -> Tensor:
        return _from_positions(self.layer.target, t.flatten(1)).unflatten(0, t.shape[1:])

    def bind(self, x: Tensor, p: Tensor) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """Spectra of x and p, gathered for every piece."""
        if not self.size:
            return [], []
        sources = _analyse(self.layer.source, _to_positions(self.layer.source, x))
        targets = _analyse(self.layer.target, _to_positions(self.layer.target, p))
        return (
            [[_select(sources[j][q.source], q.came) for q in c.pieces] for _, j, _, _, c in self.couplings],
            [[_select(targets[i][q.source], q.came) for q in c.transposed] for i, _, _, _, c in self.couplings],
        )

    def _blocks(self, s: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Real blocks of S and of Sᵀ, piece after piece."""
        if self.scatter is not None:
            return self.scatter.blocks(s)
        return self._direct_blocks(s)

    def _direct_blocks(self, s: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        entries = self.layer.entries(s, self.irrep)
        pairs = list(zip(self.couplings, entries, strict=True))
        return (
            [b for (_, _, _, _, c), e in pairs for b in c.blocks(e, False)],
            [b for (_, _, _, _, c), e in pairs for b in c.blocks(e, True)],
        )

    def push(self, s: Tensor) -> tuple[list[Tensor], list[Tensor]] | None:
        return self._blocks(s) if self.size else None

    def zeros(self, k: int, like: Tensor) -> list[list[Tensor]] | None:
        if not self.size:
            return None
        shapes = ([], [])
        for _, _, m, n, c in self.couplings:
            for side, pieces, rows, columns in ((0, c.pieces, m, n), (1, c.transposed, n, m)):
                target, source = (c.target, c.source) if side == 0 else (c.source, c.target)
                for q in pieces:
                    r = target.groups[q.target].rows * rows
                    shapes[side].append((len(q.to), r * k * self.dim, source.groups[q.source].rows * columns))
        return [[like.new_zeros(shape) for shape in side] for side in shapes]

    def forward(self, direction: object, bound: tuple, tangent: Tensor | None) -> Tensor:
        into = _empty(self.layer.target)
        t = samples = None
        if tangent is not None:
            t, samples = tangent.shape[1:]
            spectra = _analyse(self.layer.source, tangent.flatten(1), self.before)
            self.last = (tangent, spectra)
            self.arithmetic.accumulate(spectra, into, False)
        if direction is not None:
            blocks = iter(direction[0])
            for (i, _, _, _, c), inputs in zip(self.couplings, bound[0], strict=True):
                for q, x in zip(c.pieces, inputs, strict=True):
                    block = next(blocks)
                    t, samples = block.shape[2], x.shape[2]
                    moved = torch.bmm(block.flatten(1, 2), x).reshape(len(q.to), block.shape[1], -1)
                    _add(into[i], q.target, q.to, len(c.target.groups[q.target].frequencies), moved)
        like = tangent if tangent is not None else bound[0][0][0]
        y = _synthesise(self.layer.target, into, like, t * samples, self.pushed)
        return y.unflatten(1, (t, samples))

    def backward(
        self, direction: object, bound: tuple, tangent: Tensor | None, cotangent: Tensor, gathered: object, need: bool
    ) -> Tensor | None:
        t, samples = cotangent.shape[1:]
        spectra = _analyse(self.layer.target, cotangent.flatten(1), self.after)
        into = _empty(self.layer.source)
        if direction is not None:
            sums = iter(gathered[0])
            for (i, _, _, _, c), inputs in zip(self.couplings, bound[0], strict=True):
                for q, x in zip(c.pieces, inputs, strict=True):
                    values = _select(spectra[i][q.target], q.to)
                    next(sums).baddbmm_(values.reshape(len(q.to), -1, samples), x.mT)
            pulls, sums = iter(direction[1]), iter(gathered[1])
            before = None
            if tangent is not None:
                # ``forward`` has just taken the same spectrum.
                known = self.last is not None and self.last[0] is tangent
                before = self.last[1] if known else _analyse(self.layer.source, tangent.flatten(1), self.before)
            for (_, j, _, _, c), outputs in zip(self.couplings, bound[1], strict=True):
                for q, p in zip(c.transposed, outputs, strict=True):
                    block, total = next(pulls), next(sums)
                    if before is not None:
                        values = _select(before[j][q.target], q.to)
                        total.baddbmm_(values.reshape(len(q.to), -1, samples), p.mT)
                    if need:
                        moved = torch.bmm(block.flatten(1, 2), p).reshape(len(q.to), block.shape[1], -1)
                        _add(into[j], q.target, q.to, len(c.source.groups[q.target].frequencies), moved)
        if not need:
            return None
        self.arithmetic.accumulate(spectra, into, True)
        b = _synthesise(self.layer.source, into, cotangent, t * samples, self.pulled)
        return b.unflatten(1, (t, samples))

    def collect(self, k: int, gathered: object, out: Tensor) -> None:
        if gathered is None:
            return
        if self.scatter is not None:
            out.copy_(self.scatter.collect(k, gathered))
            return
        entries, pull = torch.func.vjp(lambda s: self.layer.entries(s, self.irrep), out.new_zeros(k, self.size))
        gradients = [[torch.zeros_like(e) for e in pair] for pair in entries]
        starts = [0, 0]
        for (_, _, _, _, c), into in zip(self.couplings, gradients, strict=True):
            for side, pieces in enumerate((c.pieces, c.transposed)):
                stop = starts[side] + len(pieces)
                c.collect(into, gathered[side][starts[side] : stop], bool(side))
                starts[side] = stop
        out.copy_(pull(gradients)[0])


@dataclass(frozen=True, eq=False)
class Scatter:
    """s ↦ the real blocks of S and Sᵀ as one gather: every number in a block is one coordinate times a constant.

    Attributes:
        shapes: (g, rows, d, columns) of every block, those of S first.
        sides: how many blocks belong to S.
        index, factor: (numbers in all blocks), which coordinate and its constant.
        place, weight: (size, most appearances), where each coordinate appears; weight zero where it does not.
    """

    shapes: tuple[tuple[int, int, int, int], ...]
    sides: int
    index: Tensor
    factor: Tensor
    place: Tensor
    weight: Tensor

    def to(self, like: Tensor) -> Scatter:
        """Constants in the dtype and on the device of ``like``."""
        return replace(
            self,
            index=self.index.to(like.device),
            factor=self.factor.to(like),
            place=self.place.to(like.device),
            weight=self.weight.to(like),
        )

    def blocks(self, s: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """(k, size) → blocks (g, rows, k·d, columns) of S and of Sᵀ."""
        k, out, start = len(s), [], 0
        flat = s.index_select(1, self.index).mul_(self.factor)
        for g, rows, d, columns in self.shapes:
            count = g * rows * d * columns
            part = flat[:, start : start + count].reshape(k, g, rows, d, columns)
            out.append(part.permute(1, 2, 0, 3, 4).reshape(g, rows, k * d, columns))
            start += count
        return out[: self.sides], out[self.sides :]

    def collect(self, k: int, gathered: list[list[Tensor]]) -> Tensor:
        """The adjoint of ``blocks``: (k, size)."""
        parts = []
        for (g, rows, d, columns), block in zip(self.shapes, [b for side in gathered for b in side], strict=True):
            parts.append(block.reshape(g, rows, k, d, columns).permute(2, 0, 1, 3, 4).reshape(k, -1))
        flat = torch.cat(parts, dim=1)
        found = flat.index_select(1, self.place.flatten()).unflatten(1, self.place.shape)
        return (found * self.weight).sum(-1)


@lru_cache(maxsize=16)
def _scatter(layer: FourierLayer, irrep: Irrep) -> Scatter:
    """Read off from the blocks of two probes and checked on a third."""
    size, at = layer.size(irrep), FourierLayerAt.__new__(FourierLayerAt)
    at.layer, at.irrep, at.couplings = layer, irrep, layer.couplings(irrep)
    generator = torch.Generator().manual_seed(0)
    count = torch.arange(1, size + 1, dtype=torch.float64)
    probes = torch.stack([torch.ones_like(count), count, torch.randn(size, generator=generator, dtype=torch.float64)])
    sides = at._direct_blocks(probes)
    d, blocks = irrep.dim, [block for side in sides for block in side]
    shapes = tuple((b.shape[0], b.shape[1], d, b.shape[3]) for b in blocks)
    flat = torch.cat([b.reshape(*b.shape[:2], 3, d, -1).permute(2, 0, 1, 3, 4).reshape(3, -1) for b in blocks], dim=1)
    factor, numbered, check = flat
    used = factor != 0
    index = torch.where(used, (numbered / torch.where(used, factor, torch.ones_like(factor))).round() - 1, 0.0).long()
    if not torch.allclose(probes[2][index] * factor, check, rtol=1e-12, atol=1e-14):
        raise ArithmeticError(f"{layer.name}: a block of {irrep.name} mixes coordinates")
    position = torch.nonzero(used).squeeze(1)
    order = torch.argsort(index[position], stable=True)
    position = position[order]
    owner = index[position]
    appearances = torch.bincount(owner, minlength=size)
    start = torch.cumsum(appearances, 0) - appearances
    slot = torch.arange(len(owner)) - start[owner]
    place = torch.zeros(size, int(appearances.max()), dtype=torch.long)
    weight = torch.zeros(place.shape, dtype=torch.float64)
    place[owner, slot], weight[owner, slot] = position, factor[position]
    return Scatter(shapes, len(sides[0]), index, factor, place, weight)


def supports(spaces: list[Representation]) -> bool:
    """Whether every layer between these spaces can be a :class:`FourierLayer`."""
    return cyclic_moduli(spaces[0].group) is not None and all(space.is_permutation for space in spaces)
