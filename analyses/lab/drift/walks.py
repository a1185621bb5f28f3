"""Training near E, one step at a time, and how far it has gone."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, jvp
from tqdm import tqdm

from analyses.lab.drift.fourier import Transverse
from analyses.lab.drift.gathered import Gathered
from analyses.lab.drift.signals import Prepared
from stability.base.errors import BadInput
from stability.base.storage import Checkpoint
from stability.groups import cyclic_moduli
from stability.points.training import Strategy, draw_elements, draws
from stability.problem.problem import Problem

# Samples whose spectra are held at once, in whole mini-batches.
CHUNK = 500
# Seconds between two checkpoints.
SAVE_EVERY = 120.0


class Coordinates:
    """EQUI in coordinates of E: θ ← θ − τ∇(R∘embed)(θ). No weights of L are made, so none can leave E."""

    method = "in coordinates of E"

    def __init__(self, problem: Problem, theta: Tensor, step: float, batch: int = 1000) -> None:
        self.problem, self.start, self.theta = problem, theta, theta.clone()
        self.step, self.batch = step, batch

    def advance(self, seed: int, epoch: int) -> None:
        """One step, with the draws of this seed and epoch."""
        network = Prepared(self.problem, self.theta.to(self.problem.samples.x))
        for part in self.problem.samples.chunks(self.batch):
            network.signals(part)
        self.theta = self.theta - self.step * (network.gradient() + self.problem.weight_decay * self.theta)

    def measure(self) -> tuple[float, float]:
        """‖A − A⁰‖, ‖A_{E⊥}‖."""
        return float((self.theta - self.start).norm()), 0.0

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {"theta": self.theta}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Goes on from a checkpoint."""
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
        """One step, with the draws of this seed and epoch."""
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
        """What a checkpoint keeps."""
        values = [torch.view_as_real(v) if v.is_complex() else v for v in self.off.values]
        return {"theta": self.theta} | {f"off{i}": v for i, v in enumerate(values)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Goes on from a checkpoint."""
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
        """One step, with the draws of this seed and epoch."""
        self.moved.sub_(self.strategy(self.start + self.moved, draws(seed, epoch)), alpha=self.step)

    def measure(self) -> tuple[float, float]:
        """‖A − A⁰‖, ‖A_{E⊥}‖."""
        whole, on_e = float(self.moved.norm()), float(self.problem.space.project(self.moved).norm())
        return whole, math.sqrt(max(whole**2 - on_e**2, 0.0))

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {"moved": self.moved}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Goes on from a checkpoint."""
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
