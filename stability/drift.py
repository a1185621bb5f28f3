r"""How far training leaves E, without dense weights: gradient statistics, and sampled augmentation in Fourier space.

At A in E a mini-batch b moved by g has the gradient ρ̄(g)∇R_b(A) (Lemma 3). So a step of sampled augmentation,
K passes with a Haar element g_bk for every mini-batch of every pass, is

    on E:   Π_E ∇R(A), whatever was drawn
    on E⊥:  n = (1/K) Σ_b Σ_k ρ̄(g_bk) Π_{E⊥}∇R_b(A),   E‖n‖² = (1/K) Σ_b ‖Π_{E⊥}∇R_b(A)‖²

(:func:`gradient_statistics`). Where G is abelian ρ̄(g) is a phase in each sector η, so all K passes cost one gradient
whose mini-batches carry the weights c_b(η) = (1/K) Σ_k conj χ_η(g_bk) (:class:`NearE`). What is left out is how the
gradient changes with A_{E⊥} itself, ∇²R A_{E⊥} and beyond; :func:`feedback` measures it.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, jvp
from tqdm import tqdm

from stability.errors import BadInput
from stability.groups import Representation, cyclic_moduli
from stability.layers import Layer
from stability.layers.fourier import FourierArithmetic, FourierBasis, FourierLayer, fourier_basis
from stability.layers.fourier import _from_positions as from_positions
from stability.layers.fourier import _to_positions as to_positions
from stability.linearised import nominal_gradient_norm
from stability.problem import Problem, Samples
from stability.storage import Checkpoint
from stability.training import Strategy, draw_elements, draws

# Samples whose spectra are held at once, in whole mini-batches.
CHUNK = 500
# Seconds between two checkpoints.
SAVE_EVERY = 120.0


@dataclass(frozen=True)
class Signals:
    """What the gradient at a point of E is made of: ∇R in layer i is Σ_s p_s ⊗ x_s.

    Attributes:
        inputs: x of every layer, (n, dim X_i).
        derivatives: p of every layer, (n, dim X_{i+1}): derivatives of the risk in the layer's outputs.
    """

    inputs: tuple[Tensor, ...]
    derivatives: tuple[Tensor, ...]

    @property
    def square(self) -> float:
        """‖Σ_s p_s ⊗ x_s‖² over all layers, from Gram matrices."""
        pairs = zip(self.inputs, self.derivatives, strict=True)
        return sum(float(((p @ p.mT) * (x @ x.mT)).sum()) for x, p in pairs)


class Prepared:
    """A network at a point of E, its layers built once for all mini-batches.

    Args:
        problem: supervised, so that its model is a network.
        theta: coordinates of the point.
    """

    def __init__(self, problem: Problem, theta: Tensor) -> None:
        self.model, self.network = problem.model, problem.model.network
        self.theta = theta.detach().requires_grad_()
        self.roots: list[Tensor] = []
        self.leaves: list[Tensor] = []
        self.arithmetic: list[FourierArithmetic | Tensor] = []
        parts = problem.space.split_coordinates(self.theta)
        for layer, t in zip(problem.space.layers, parts, strict=True):
            if isinstance(layer, FourierLayer):
                made = FourierArithmetic(layer, t)
                made.blocks = [[self._leaf(block) for block in line] for line in made.blocks]
            else:
                made = self._leaf(layer.embed(t).squeeze(-3))
            self.arithmetic.append(made)

    def _leaf(self, root: Tensor) -> Tensor:
        self.roots.append(root)
        self.leaves.append(root.detach().requires_grad_())
        return self.leaves[-1]

    def signals(self, samples: Samples) -> Signals:
        """One pass forward and backward; the gradient in the layers is added to what was gathered before."""
        inputs, outputs, x = [], [], samples.x
        layers = zip(self.network.space.layers, self.arithmetic, self.network.nonlinearities, strict=True)
        for layer, made, sigma in layers:
            inputs.append(x.detach())
            if isinstance(made, FourierArithmetic):
                moved = made.forward(to_positions(layer.source, x))
                outputs.append(from_positions(layer.target, moved))
            else:
                outputs.append(x @ made.mT)
            outputs[-1].retain_grad()
            x = sigma(outputs[-1], layer.target)
        (samples.weight @ self.model.losses(x, samples.y)).backward()
        return Signals(tuple(inputs), tuple(y.grad for y in outputs))

    def gradient(self) -> Tensor:
        """What was gathered since the last call, Π_E ∇R in coordinates of E, without the decay."""
        found = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in self.leaves]
        for leaf in self.leaves:
            leaf.grad = None
        return torch.autograd.grad(self.roots, self.theta, found, retain_graph=True)[0]


@dataclass(frozen=True)
class GradientStatistics:
    """The gradient at a point of E.

    Attributes:
        equivariant: ‖Π_E ∇R‖.
        transverse: ‖Π_{E⊥} ∇R‖.
        batches: √Σ_b ‖Π_{E⊥} ∇R_b‖², the mini-batches b adding up to R.
    """

    equivariant: float
    transverse: float
    batches: float

    def nominal_drift(self, step: float, epochs: int) -> np.ndarray:
        """‖A_{E⊥}‖ after 0 … epochs steps of nominal training, the gradient taken as constant: tτ‖Π_{E⊥}∇R‖."""
        return step * self.transverse * np.arange(epochs + 1)

    def sampled_drift(self, step: float, epochs: int, passes: int) -> np.ndarray:
        """√E‖A_{E⊥}‖² of sampled augmentation, a random walk: τ√(t/K · Σ_b‖Π_{E⊥}∇R_b‖²)."""
        return step * self.batches * np.sqrt(np.arange(epochs + 1) / passes)

    def distance(self, step: float, epochs: int) -> np.ndarray:
        """How far A moves within E, tτ‖Π_E ∇R‖."""
        return step * self.equivariant * np.arange(epochs + 1)


def gradient_statistics(problem: Problem, theta: Tensor, batch: int) -> GradientStatistics:
    """Exact, from the Gram matrices of inputs and derivatives: no array of dim L numbers is made."""
    network, total, squares = Prepared(problem, theta), problem.weight_decay * theta, 0.0
    for part in problem.samples.chunks(batch):
        whole = network.signals(part).square
        gradient = network.gradient()
        squares += max(whole - float(gradient @ gradient), 0.0)
        total = total + gradient
    on_e = float(total.norm())
    off = max(nominal_gradient_norm(problem, theta) ** 2 - on_e**2, 0.0)
    return GradientStatistics(on_e, math.sqrt(off), math.sqrt(squares))


# ------------------------------------------------------------------------------------------------ Fourier space


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


# ----------------------------------------------------------------------------------------------------- training


class Coordinates:
    """EQUI in coordinates of E: θ ← θ − τ∇(R∘embed)(θ). No weights of L are made, so none can leave E."""

    method = "in coordinates of E"

    def __init__(self, problem: Problem, theta: Tensor, step: float, batch: int = 1000) -> None:
        self.problem, self.start, self.theta = problem, theta, theta.clone()
        self.step, self.batch = step, batch

    def advance(self, seed: int, epoch: int) -> None:
        network = Prepared(self.problem, self.theta.to(self.problem.samples.x))
        for part in self.problem.samples.chunks(self.batch):
            network.signals(part)
        self.theta = self.theta - self.step * (network.gradient() + self.problem.weight_decay * self.theta)

    def measure(self) -> tuple[float, float]:
        """‖A − A⁰‖, ‖A_{E⊥}‖."""
        return float((self.theta - self.start).norm()), 0.0

    def state(self) -> dict[str, Tensor]:
        return {"theta": self.theta}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.theta = state["theta"].clone()


class NearE:
    """AUG with sampled elements, its gradient taken at Π_E A: all passes for the price of one gradient.

    Args:
        problem: in the precision that gradients are to have.
        theta: the start, in coordinates of E.
        step: τ.
        passes: K.
        batch: samples that share an element.
    """

    method = "near E, the passes as phases"

    def __init__(self, problem: Problem, theta: Tensor, step: float, passes: int, batch: int) -> None:
        self.problem, self.start, self.theta = problem, theta, theta.clone()
        self.step, self.passes, self.batch = step, passes, batch
        kind = Gathered if cyclic_moduli(problem.group) is None else Transverse
        self.off = kind(problem, problem.samples.x.dtype)

    def advance(self, seed: int, epoch: int) -> None:
        problem, samples = self.problem, self.problem.samples
        parts = -(-len(samples) // self.batch)
        drawn = np.empty((self.passes, parts), dtype=object)
        for row, elements in zip(
            drawn, draw_elements(problem.group.sample, draws(seed, epoch), self.passes, parts), strict=True
        ):
            row[:] = elements
        network = Prepared(problem, self.theta.to(samples.x))
        self.off.scale_(1 - self.step * problem.weight_decay)
        size = max(1, CHUNK // self.batch) * self.batch
        for number, part in enumerate(samples.chunks(size)):
            owner = (number * size + torch.arange(len(part))) // self.batch
            self.off.add_(network.signals(part), drawn, owner, -self.step)
        gradient = network.gradient()
        self.off.settle_(gradient, -self.step)
        self.theta = self.theta - self.step * (gradient + problem.weight_decay * self.theta)

    def measure(self) -> tuple[float, float]:
        """‖A − A⁰‖, ‖A_{E⊥}‖."""
        off = self.off.norm
        return math.hypot(float((self.theta - self.start).norm()), off), off

    def feedback(self) -> float:
        """See :func:`feedback`."""
        return feedback(self.problem, self.theta.to(self.problem.samples.x), self.off.dense())

    def state(self) -> dict[str, Tensor]:
        values = [torch.view_as_real(v) if v.is_complex() else v for v in self.off.values]
        return {"theta": self.theta} | {f"off{i}": v for i, v in enumerate(values)}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.theta = state["theta"].clone()
        kept = [state[f"off{i}"].clone() for i in range(len(self.off.values))]
        is_complex = self.off.values[0].is_complex()
        self.off.values = [torch.view_as_complex(v) if is_complex else v for v in kept]


class Displaced:
    """Any strategy on dense weights A = A⁰ + D: in float32 too, small steps are not rounded away.

    Args:
        problem: in the precision of A⁰ and D.
        theta: the start, in coordinates of E.
        strategy: its gradient.
        step: τ.
    """

    method = "dense weights"

    def __init__(self, problem: Problem, theta: Tensor, strategy: Strategy, step: float) -> None:
        self.problem, self.strategy, self.step = problem, strategy, step
        self.start = problem.space.embed(theta.to(problem.samples.x))
        self.moved = torch.zeros_like(self.start)

    def advance(self, seed: int, epoch: int) -> None:
        self.moved.sub_(self.strategy(self.start + self.moved, draws(seed, epoch)), alpha=self.step)

    def measure(self) -> tuple[float, float]:
        """‖A − A⁰‖, ‖A_{E⊥}‖."""
        whole, on_e = float(self.moved.norm()), float(self.problem.space.project(self.moved).norm())
        return whole, math.sqrt(max(whole**2 - on_e**2, 0.0))

    def state(self) -> dict[str, Tensor]:
        return {"moved": self.moved}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.moved = state["moved"].clone()


Walk = Coordinates | NearE | Displaced


def follow(walk: Walk, epochs: int, seed: int, name: str, keep: Checkpoint) -> tuple[list[float], list[float]]:
    """‖A − A⁰‖ and ‖A_{E⊥}‖ after 0 … ``epochs`` steps; goes on where ``keep`` has something.

    Raises:
        BadInput: the run left the finite numbers; the message says at which epoch.
    """
    travelled, off, saved = [0.0], [0.0], time.monotonic()
    if found := keep.load(name):
        walk.restore(found[0])
        travelled, off = json.loads(found[1]["travelled"]), json.loads(found[1]["off"])
    for epoch in tqdm(range(len(off) - 1, epochs), desc=name, disable=None, leave=False):
        walk.advance(seed, epoch)
        for record, value in zip((travelled, off), walk.measure(), strict=True):
            record.append(value)
        if not math.isfinite(travelled[-1]):
            raise BadInput(f"{name}: weights stopped being finite at epoch {epoch + 1}; use a smaller step")
        if time.monotonic() > saved + SAVE_EVERY and epoch + 1 < epochs:
            keep.save(name, walk.state(), travelled=json.dumps(travelled), off=json.dumps(off))
            saved = time.monotonic()
    keep.forget(name)
    return travelled, off


def feedback(problem: Problem, theta: Tensor, off: Tensor, batch: int = 500) -> float:
    """‖∇²R^aug A_{E⊥}‖/‖A_{E⊥}‖ is at most this, ‖∇²R(Π_E A) A_{E⊥}‖/‖A_{E⊥}‖, for off = A_{E⊥} (dim L).

    What :class:`NearE` leaves out changes ‖A_{E⊥}‖ after T steps by at most Tτ times as much, relatively, to first
    order and as long as the quotient stays what it is.
    """
    at, direction = problem.space.embed(theta), off / off.norm()
    total = torch.zeros_like(direction)
    for part in problem.samples.chunks(batch):
        total += jvp(lambda a, part=part: grad(problem.loss)(a, part), (at,), (direction,))[1]
    return float((total + problem.weight_decay * direction).norm())
