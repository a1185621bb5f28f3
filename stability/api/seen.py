r"""What training was seen to do between two looks: its gradients on E⊥, and the ends of ∇²R^aug that they meet there.

g = c (I − Π)∇R(ΠA) + n:     c, how much of the forcing the steps follow, and E‖n‖², what the draws add
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from stability.api.alarms import Curvature
from stability.optimisers.live import Ends
from stability.optimisers.multipliers import growth, stable_range
from stability.optimisers.updates import Update

FEWEST = 3


class Told(NamedTuple):
    """What gradients say; None of what too few of them were seen for.

    Attributes:
        noise: root of their variance on E⊥.
        felt: the share of the forcing that they hold.
        felt_error: its standard error.
    """

    noise: float | None = None
    felt: float | None = None
    felt_error: float | None = None


class Gradients:
    """The E⊥-parts of gradients; their scatter is that of one to the next, which a slow drift of the mean leaves alone.

    Args:
        forcing: (I − Π)∇R(ΠA) at the last look, (dim L); None before the first.
    """

    def __init__(self, forcing: Tensor | None = None) -> None:
        self.forcing = None if forcing is None or not float(forcing.norm()) > 0 else forcing
        self.last: Tensor | None = None
        self.apart: Tensor | None = None
        self.squares, self.along, self.asked = list[float](), list[float](), 0

    def __len__(self) -> int:
        """How often one was asked for, there or not."""
        return self.asked

    def add(self, gradient: Tensor | None) -> None:
        """One more; None where it was gone."""
        self.asked += 1
        if gradient is None:
            return
        if self.last is not None:
            self.apart = gradient - self.last
            self.squares.append(float(self.apart.square().sum()) / 2)
        self.last = gradient
        self.along.append(0.0 if self.forcing is None else float(gradient @ self.forcing / self.forcing.square().sum()))

    def told(self) -> Told:
        """Of three gradients at least."""
        if len(self.along) < FEWEST:
            return Told()
        noise = math.sqrt(sum(self.squares) / len(self.squares))
        if self.forcing is None:
            return Told(noise)
        along = torch.tensor(self.along, dtype=torch.float64)
        return Told(noise, float(along.mean()), float(along.std()) / math.sqrt(len(along)))

    def sample(self) -> Tensor | None:
        """The last difference, as long as the root mean square of the noise; None of fewer than three gradients."""
        noise = self.told().noise
        if self.apart is None or not noise:
            return None
        length = float(self.apart.norm())
        return self.apart * (noise / length) if length > 0 else None


def curvature(step: int, found: Sequence[Ends], rule: Update | None, doubt: str) -> Curvature:
    """What the ends of all sectors say of E⊥ as a whole.

    Args:
        step: whose weights they belong to.
        found: sector by sector.
        rule: the one that multiplies; None where it has no multipliers.
        doubt: why no sign is read off.
    """
    low, high = min(found, key=lambda e: e.lowest), max(found, key=lambda e: e.highest)
    negative = any(e.lowest + e.below < 0 for e in found)
    positive = all(e.complete and e.lowest - e.below > 0 for e in found)
    bears, threshold, most, doubling = None, None, None, None
    if rule is not None:
        bears, threshold = stable_range(rule)
        both = torch.tensor([low.lowest, high.highest], dtype=torch.float64)
        most = math.log(max(float(growth(rule, both).max()), 1e-300))
        doubling = math.log(2) / most if most > 0 else None
    stirred = [e.stirred for e in found if e.stirred is not None]
    return Curvature(
        step=step,
        lowest=low.lowest,
        residual=low.below,
        irrep=low.irrep,
        highest=high.highest,
        above=high.above,
        irrep_highest=high.irrep,
        bears=bears,
        threshold=threshold,
        growth=most,
        doubling=doubling,
        reached=math.sqrt(sum(stirred)) if stirred else None,
        sign="undecided" if doubt else "negative" if negative else "positive" if positive else "undecided",
        doubt=doubt,
    )
