"""Layers over abelian groups in Fourier space: a sector is a set of small blocks between frequencies.

A permutation representation of an abelian group splits into spaces X_χ, one for each frequency χ (a shift moves
only their phase). An equivariant A maps X_χ to Y_χ; a direction S of the sector η maps X_χ to Y_{χ+η}, so

    S e_1 = √2 Re Z,  S e_2 = √2 Im Z,   Z = Σ_χ u'_{χ+η} Ŝ[χ] u_χ*      (η ≠ −η)
    S e_1 = Z with Ŝ[−χ] = conj Ŝ[χ]                                     (η = −η)

Coordinates are the entries of Ŝ, and the dense weights are never made. The transform is a product with a real
orthogonal matrix (cosines and sines): on images of 14 × 14 one real matrix product is faster than an FFT, and
complex arithmetic between the transforms becomes real products of twice the size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from stability.groups import Irrep, Representation, cyclic_moduli
from stability.layers.coupling import Coupling, coupling
from stability.layers.frequencies import (
    add_at,
    analyse,
    empty_spectra,
    frequency_number,
    from_positions,
    moduli_of,
    select,
    synthesise,
    to_positions,
)
from stability.layers.layer import DenseAt, Layer, LayerAt, Scratch

# Coordinates beyond which the blocks of a sector are built without index tables, which take twenty times their memory.
SCATTER_NUMBERS = 2_000_000


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
        return int(frequency_number(np.array(irrep.frequency), moduli_of(self.source)))

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
        """Σ over couplings of copies · copies · coefficients; as in :class:`Layer` for other sectors."""
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
        """(…, size) → (…, d, rows, columns): coefficients put in their blocks, then turned to positions."""
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
        """(…, d, rows, columns) → (…, size), by the derivative of ``embed``."""
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
        y = arithmetic.forward(to_positions(self.source, flat))
        y = from_positions(self.target, y).reshape(*x.shape[:-1], -1)
        return y if x.ndim > 2 else y.unsqueeze(0)

    def at(self, coordinates: Tensor, irrep: Irrep | None) -> LayerAt:
        """Arithmetic between frequencies where the sector has them, else that of :class:`Layer`."""
        if irrep is None or not self.structured(irrep):
            return DenseAt(self, coordinates, irrep)
        return FourierLayerAt(self, coordinates, irrep)


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
                    moved = torch.bmm(block.mT, select(spectra[i][piece.target], piece.to))
                    add_at(into[j], piece.source, piece.came, len(c.source.groups[piece.source].frequencies), moved)
                else:
                    moved = torch.bmm(block, select(spectra[j][piece.source], piece.came))
                    add_at(into[i], piece.target, piece.to, len(c.target.groups[piece.target].frequencies), moved)

    def forward(self, x: Tensor) -> Tensor:
        """Ax for x (columns, T)."""
        into = empty_spectra(self.layer.target)
        self.accumulate(analyse(self.layer.source, x), into, False)
        return synthesise(self.layer.target, into, x, x.shape[1])

    def backward(self, y: Tensor) -> Tensor:
        """Aᵀy for y (rows, T)."""
        into = empty_spectra(self.layer.source)
        self.accumulate(analyse(self.layer.target, y), into, True)
        return synthesise(self.layer.source, into, y, y.shape[1])


# Spectra of x and of p, gathered for every piece; real blocks of S and of Sᵀ, and sums of their shapes.
Spectra = tuple[list[list[Tensor]], list[list[Tensor]]]
Blocks = tuple[list[Tensor], list[Tensor]]


class FourierLayerAt(LayerAt[Blocks, Spectra, Blocks]):
    """A layer of an abelian group at a point of E, perturbed in one sector, all arithmetic between frequencies.

    Rows of tangents run (block, position, copy): position-major, so a transform is one matrix product.
    """

    layer: FourierLayer
    irrep: Irrep

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
        """Ax for samples (n, columns), from frequency to frequency."""
        return from_positions(self.layer.target, self.arithmetic.forward(to_positions(self.layer.source, x)))

    def plain_transpose(self, y: Tensor) -> Tensor:
        """Aᵀy for samples (n, rows), from frequency to frequency."""
        return from_positions(self.layer.source, self.arithmetic.backward(to_positions(self.layer.target, y)))

    def tangent_layout(self, t: Tensor) -> Tensor:
        """(t, n, rows) or (n, rows) → (positions, t, n), position-major."""
        whole = t if t.ndim == 3 else t.unsqueeze(0)
        moved = to_positions(self.layer.target, whole.reshape(-1, whole.shape[-1]))
        return moved.unflatten(1, whole.shape[:2])

    def sample_layout(self, t: Tensor) -> Tensor:
        """The inverse of ``tangent_layout``."""
        return from_positions(self.layer.target, t.flatten(1)).unflatten(0, t.shape[1:])

    def bind(self, x: Tensor, p: Tensor) -> Spectra:
        """Spectra of x and p, gathered for every piece."""
        if not self.size:
            return [], []
        sources = analyse(self.layer.source, to_positions(self.layer.source, x))
        targets = analyse(self.layer.target, to_positions(self.layer.target, p))
        return (
            [[select(sources[j][q.source], q.came) for q in c.pieces] for _, j, _, _, c in self.couplings],
            [[select(targets[i][q.source], q.came) for q in c.transposed] for i, _, _, _, c in self.couplings],
        )

    def _blocks(self, s: Tensor) -> Blocks:
        """Real blocks of S and of Sᵀ, piece after piece."""
        if self.scatter is not None:
            return self.scatter.blocks(s)
        return self._direct_blocks(s)

    def _direct_blocks(self, s: Tensor) -> Blocks:
        entries = self.layer.entries(s, self.irrep)
        pairs = list(zip(self.couplings, entries, strict=True))
        return (
            [b for (_, _, _, _, c), e in pairs for b in c.blocks(e, False)],
            [b for (_, _, _, _, c), e in pairs for b in c.blocks(e, True)],
        )

    def push(self, s: Tensor) -> Blocks | None:
        """Real blocks of S and of Sᵀ for coordinates (k, size); None for an empty sector."""
        return self._blocks(s) if self.size else None

    def zeros(self, k: int, like: Tensor) -> Blocks | None:
        """Blocks of zeros, in which gradients by S and by Sᵀ are added up; None for an empty sector."""
        if not self.size:
            return None
        sums: Blocks = ([], [])
        for _, _, m, n, c in self.couplings:
            for side, pieces, rows, columns in ((0, c.pieces, m, n), (1, c.transposed, n, m)):
                target, source = (c.target, c.source) if side == 0 else (c.source, c.target)
                for q in pieces:
                    r = target.groups[q.target].rows * rows
                    shape = (len(q.to), r * k * self.dim, source.groups[q.source].rows * columns)
                    sums[side].append(like.new_zeros(shape))
        return sums

    def forward(self, direction: Blocks | None, bound: Spectra, tangent: Tensor | None) -> Tensor:
        """ẏ = Aẋ + (S e_j)x, in memory that the next call of this method overwrites."""
        into = empty_spectra(self.layer.target)
        t = samples = 0
        if tangent is not None:
            t, samples = tangent.shape[1:]
            spectra = analyse(self.layer.source, tangent.flatten(1), self.before)
            self.last = (tangent, spectra)
            self.arithmetic.accumulate(spectra, into, False)
        if direction is not None:
            blocks = iter(direction[0])
            for (i, _, _, _, c), inputs in zip(self.couplings, bound[0], strict=True):
                for q, x in zip(c.pieces, inputs, strict=True):
                    block = next(blocks)
                    t, samples = block.shape[2], x.shape[2]
                    moved = torch.bmm(block.flatten(1, 2), x).reshape(len(q.to), block.shape[1], -1)
                    add_at(into[i], q.target, q.to, len(c.target.groups[q.target].frequencies), moved)
        like = tangent if tangent is not None else bound[0][0][0]
        y = synthesise(self.layer.target, into, like, t * samples, self.pushed)
        return y.unflatten(1, (t, samples))

    def backward(
        self,
        direction: Blocks | None,
        bound: Spectra,
        tangent: Tensor | None,
        cotangent: Tensor,
        gathered: Blocks | None,
        need: bool,
    ) -> Tensor | None:
        """ḃ = Aᵀṗ + (S e_j)ᵀp where needed; adds ṗ ⊗ x and p ⊗ ẋ, block by block, to ``gathered``."""
        t, samples = cotangent.shape[1:]
        spectra = analyse(self.layer.target, cotangent.flatten(1), self.after)
        into = empty_spectra(self.layer.source)
        if direction is not None and gathered is not None:
            sums = iter(gathered[0])
            for (i, _, _, _, c), inputs in zip(self.couplings, bound[0], strict=True):
                for q, x in zip(c.pieces, inputs, strict=True):
                    values = select(spectra[i][q.target], q.to)
                    next(sums).baddbmm_(values.reshape(len(q.to), -1, samples), x.mT)
            pulls, sums = iter(direction[1]), iter(gathered[1])
            before = None
            if tangent is not None:
                # ``forward`` has just taken the same spectrum.
                if self.last is not None and self.last[0] is tangent:
                    before = self.last[1]
                else:
                    before = analyse(self.layer.source, tangent.flatten(1), self.before)
            for (_, j, _, _, c), outputs in zip(self.couplings, bound[1], strict=True):
                for q, p in zip(c.transposed, outputs, strict=True):
                    block, total = next(pulls), next(sums)
                    if before is not None:
                        values = select(before[j][q.target], q.to)
                        total.baddbmm_(values.reshape(len(q.to), -1, samples), p.mT)
                    if need:
                        moved = torch.bmm(block.flatten(1, 2), p).reshape(len(q.to), block.shape[1], -1)
                        add_at(into[j], q.target, q.to, len(c.source.groups[q.target].frequencies), moved)
        if not need:
            return None
        self.arithmetic.accumulate(spectra, into, True)
        b = synthesise(self.layer.source, into, cotangent, t * samples, self.pulled)
        return b.unflatten(1, (t, samples))

    def collect(self, k: int, gathered: Blocks | None, out: Tensor) -> None:
        """Writes the coordinates (k, size) of what was gathered to ``out``."""
        if gathered is None:
            return
        if self.scatter is not None:
            out.copy_(self.scatter.collect(k, gathered))
            return
        entries, pull, *_ = torch.func.vjp(lambda s: self.layer.entries(s, self.irrep), out.new_zeros(k, self.size))
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

    def blocks(self, s: Tensor) -> Blocks:
        """(k, size) → blocks (g, rows, k·d, columns) of S and of Sᵀ."""
        k, out, start = len(s), [], 0
        flat = s.index_select(1, self.index).mul_(self.factor)
        for g, rows, d, columns in self.shapes:
            count = g * rows * d * columns
            part = flat[:, start : start + count].reshape(k, g, rows, d, columns)
            out.append(part.permute(1, 2, 0, 3, 4).reshape(g, rows, k * d, columns))
            start += count
        return out[: self.sides], out[self.sides :]

    def collect(self, k: int, gathered: Blocks) -> Tensor:
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
