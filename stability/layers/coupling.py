"""Blocks between frequencies: what one pair of base representations has in a sector."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from stability.groups import Representation
from stability.layers.frequencies import FourierBasis, all_frequencies, fourier_basis, frequency_number


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
        moduli, frequencies = source.moduli, all_frequencies(source.moduli)
        self.plus = frequency_number(frequencies + frequencies[eta], moduli)
        self.minus = frequency_number(frequencies - frequencies[eta], moduli)
        self.opposite = frequency_number(-frequencies, moduli)
        self.real = self.opposite[eta] == eta
        present = [f for f in range(len(frequencies)) if source.modes[f] and target.modes[self.plus[f]]]
        kinds = sorted({(int(target.modes[self.plus[f]]), int(source.modes[f])) for f in present})
        self.shapes: list[tuple[tuple[int, int], np.ndarray]] = []
        self.where: dict[int, tuple[int, int]] = {}
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
        slots: list[tuple[bool, tuple[complex, ...]]]
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
                    to, there, which_entries, signs = map(np.array, zip(*rows, strict=True))
                    pieces.append(_Piece(t, s, to, there, which_entries, shape, conjugate, signs, phases))
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
            real: Tensor | float = 0.0
            imaginary: Tensor | float = 0.0
            for j, phase in enumerate(piece.phases):
                phase = complex(phase)
                one = whole[:, :, :, :, :, j]  # (g, part_t, a, m, v, part_s, b, k)
                re: Tensor = one[:, 0, :, :, :, 0]
                im: Tensor | float = 0.0
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
