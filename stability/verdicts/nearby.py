r"""Where the stationary point next to a given one lies, and what the way there changes.

A verdict about *the* stationary point A* is had at a point A with a gradient of 10⁻¹⁵ or so. From a Hessian H at A,

    approach    A ← A − H⁺∇R(A) with the H of the start, until nothing but noise is left of the gradient
    unresolved  the part of ∇R along directions whose curvature is not told from zero: it must be noise, for a step of
                any length may hide behind it (curvature 5·10⁻¹³ and a gradient of 10⁻¹¹ are a way of 20)
    noise       what evaluating ∇R anew gives: samples backwards, and the point moved by single units in its last place,
                its own slope H δ taken off: rounding inside one sample shows only so
    doubt       displacements that the noise allows: ±noise/|λ| along the flattest direction, all directions together,
                the step that is left, and the rounding of A itself
    change      ‖∇²R(A + δ) − ∇²R(A)‖, which bounds what any eigenvalue of ∇²R, and of its average ∇²R^aug, moves (Weyl)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Gradient = Callable[[Tensor], Tensor]

STEPS = 12
PROBES = 3
# Noise is what was seen in a few evaluations, times this.
MARGIN = 10.0
# Displacements shorter than this share of the point are lengthened to it, and the change divided: it is linear there,
# and the rounding of two Hessians would drown it.
SHARE = 1e-6


@dataclass(frozen=True)
class Inverse:
    """H⁺ where the curvature is resolved.

    Attributes:
        values, vectors: eigenvalues and unit vectors (columns) of H.
        sure: which eigenvalues are told from zero.
    """

    values: Tensor
    vectors: Tensor
    sure: Tensor

    @staticmethod
    def of(matrix: Tensor, error: float) -> Inverse:
        """Of a symmetric matrix whose eigenvalues are known to ``error``.

        Told from zero are those beyond twice that: what a verdict takes for a zero mode, whose value it has by another
        way, is none along which a step is taken here.
        """
        values, vectors = torch.linalg.eigh(matrix)
        return Inverse(values, vectors, values.abs() > 2 * error)

    def step(self, gradient: Tensor) -> Tensor:
        """−H⁺g."""
        known = self.vectors[:, self.sure]
        return -(known @ ((known.mT @ gradient) / self.values[self.sure]))

    def unresolved(self, gradient: Tensor) -> float:
        """‖g‖ along the directions left out."""
        return float((self.vectors[:, ~self.sure].mT @ gradient).norm())

    def product(self, v: Tensor) -> Tensor:
        """Hv."""
        return self.vectors @ (self.values * (self.vectors.mT @ v))

    def displacements(self, noise: float, seed: int) -> Tensor:
        """Displacements (k, n) that a gradient of norm ``noise`` makes: the flattest direction, and all together."""
        known, values = self.vectors[:, self.sure], self.values[self.sure].abs()
        if not len(values) or not noise > 0:
            return self.vectors.new_zeros(0, len(self.vectors))
        flattest = int(values.argmin())
        generator = torch.Generator().manual_seed(seed)
        signs = torch.randint(0, 2, (len(values),), generator=generator).to(values) * 2 - 1
        together = known @ (signs * noise / values / len(values) ** 0.5)
        one = known[:, flattest] * (noise / values[flattest])
        return torch.stack([one, -one, together])


@dataclass(frozen=True)
class Approach:
    """Where the chord steps ended.

    Attributes:
        end: the last point.
        gradient: ∇R there.
        before, after: ‖∇R‖ at the start and behind the first step.
        step: length of the first step.
    """

    end: Tensor
    gradient: Tensor
    before: float
    after: float
    step: float

    @property
    def left(self) -> float:
        """‖∇R‖ at the end."""
        return float(self.gradient.norm())


def approach(gradient: Gradient, at: Tensor, invert: Callable[[Tensor], Tensor], enough: float) -> Approach:
    """Steps −H⁺∇R, as ``invert`` gives them, until ‖∇R‖ ≤ ``enough`` or none is gained."""
    x, g = at, gradient(at)
    before = after = float(g.norm())
    size = 0.0
    for number in range(STEPS):
        step = invert(g)
        if not float(step.norm()) > 0 or not torch.isfinite(step).all():
            break
        trial = gradient(x + step)
        if number == 0:
            size, after = float(step.norm()), float(trial.norm())
        if not float(trial.norm()) < float(g.norm()):
            break
        x, g = x + step, trial
        if float(g.norm()) <= enough:
            break
    return Approach(x, g, before, after, size)


def noise(gradient: Gradient, backwards: Gradient, slope: Callable[[Tensor], Tensor], at: Tensor, seed: int) -> float:
    """What rounding makes of ∇R at a point: ten times the largest difference between evaluations that should agree.

    Args:
        gradient, backwards: ∇R, and the same with the samples in the opposite order.
        slope: v ↦ Hv.
        at: the point.
        seed: of the probes.
    """
    g = gradient(at)
    found = float((g - backwards(at)).norm())
    generator = torch.Generator().manual_seed(seed)
    eps = torch.finfo(at.dtype).eps
    for _ in range(PROBES):
        units = torch.randint(-2, 3, at.shape, generator=generator).to(at)
        moved = at + units * eps * at.abs()
        delta = moved - at
        if float(delta.norm()) > 0:
            found = max(found, float((gradient(moved) - g - slope(delta)).norm()))
    return MARGIN * found


def rounded(at: Tensor, seed: int) -> Tensor:
    """A displacement by the rounding of the point itself: half a unit in the last place of every coordinate, (1, n)."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, at.shape, generator=generator).to(at) * 2 - 1
    return (signs * at.abs() * torch.finfo(at.dtype).eps / 2)[None]


def lengthened(delta: Tensor, at: Tensor) -> tuple[Tensor, float]:
    """A displacement of measurable length, and how many times as long as the one asked for it is."""
    length, wanted = float(delta.norm()), SHARE * max(float(at.norm()), 1e-300)
    factor = max(1.0, wanted / length) if np.isfinite(length) and length > 0 else 1.0
    return factor * delta, factor
