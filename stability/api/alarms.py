r"""What a look at a training run found, and whether it leads off E: which of five reasons, from numbers alone.

instability      the least eigenvalue of P^{1/2}(∇²R^aug + μ)P^{1/2} on E⊥ lies below what any step bears
step too long    the largest lies above the threshold of the rule: 2/τ, 2(1 + β)/τ, 2(1 + β₁)/((1 − β₁)τ), …
forcing          the gradients that were seen follow (I − Π)∇R(ΠA): the data are not averaged over the group
noise            the scatter of the gradients on E⊥ alone leads beyond the bound, in the long run or on the way
does not commute the update itself leaves E
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from stability.api.diagnosis import LayerDistance
from stability.base.record import Record
from stability.optimisers.commutes import Commutation

REASONS = ("instability", "step too long", "forcing", "noise", "does not commute")
# Standard errors beyond which the gradients are said to follow the forcing, and the share of it that they must hold.
DECIDED, FELT = 3.0, 0.3


@dataclass(frozen=True)
class Alarm(Record):
    """One reason to expect that the network leaves E.

    Attributes:
        step: of the training run, at which it was found.
        reason: one of ``REASONS``.
        words: with the numbers that say so.
        doubling: steps in which the distance doubles; None where it does not grow like that.
    """

    step: int
    reason: str
    words: str
    doubling: float | None = None

    def __str__(self) -> str:
        return f"step {self.step:,}: {self.reason}: {self.words}"


@dataclass(frozen=True)
class SectorDistance(Record):
    """‖A_λ‖ of one sector of E⊥.

    Attributes:
        irrep: its label.
        distance: of the weights, in this sector.
    """

    irrep: str
    distance: float


@dataclass(frozen=True)
class Curvature(Record):
    """∇²R^aug on E⊥ as the optimiser sees it, P^{1/2}(∇²R^aug + μ)P^{1/2}, at one step.

    Attributes:
        step: whose weights were judged.
        lowest, residual, irrep: the least quotient on E⊥, its error, its sector.
        highest, above, irrep_highest: the largest one likewise.
        bears: the least eigenvalue that the rule bears, and
        threshold: the largest; None where the rule has no multipliers.
        growth: log of the largest multiplier a step; None likewise.
        doubling: steps in which a deviation doubles; None where it does not grow.
        reached: ‖A_{E⊥}‖ that the noise alone leads to within the horizon; None where no gradients were seen.
        sign: "negative", "positive" (all sectors searched whole), else "undecided"; of ∇²R^aug + μ on E⊥.
        doubt: why no sign is read off, on a kink; else empty.
    """

    step: int
    lowest: float
    residual: float
    irrep: str
    highest: float
    above: float
    irrep_highest: str
    bears: float | None
    threshold: float | None
    growth: float | None
    doubling: float | None
    reached: float | None
    sign: str
    doubt: str = ""


@dataclass(frozen=True)
class Event(Record):
    """One look at a training run.

    Attributes:
        step: of the run.
        time: flow time, Σ of what steps add up to: τ of gradient descent, τ(1 − d)/(1 − β) with momentum, τ of Adam
            in the metric of its P.
        distance: ‖A − ΠA‖.
        share: distance/‖A‖.
        layers: the same tensor by tensor.
        sectors: and irrep by irrep.
        equivariance_error: of Φ_A, relative; None without a model.
        forcing: ‖(I − Π)∇R(ΠA)‖.
        felt: how much of the forcing the gradients seen since the last look hold, 1 without augmentation and 0 with;
            None where none were seen.
        felt_error: its standard error.
        noise: root of the variance of the gradients seen, on E⊥; None likewise.
        growth: log of the distance gained a step since the last look.
        curvature: the last spectrum that was finished; None before the first.
        alarms: reasons to expect that E is left.
    """

    step: int
    time: float
    distance: float
    share: float
    layers: tuple[LayerDistance, ...]
    sectors: tuple[SectorDistance, ...]
    equivariance_error: float | None
    forcing: float
    felt: float | None = None
    felt_error: float | None = None
    noise: float | None = None
    growth: float | None = None
    curvature: Curvature | None = None
    alarms: tuple[Alarm, ...] = ()

    def metrics(self) -> dict[str, float]:
        """What a logger is given: numbers by name, the curvature's among them."""
        cells: dict[str, Any] = {k: v for row in self.rows() for k, v in row.items() if k != "step"}
        if self.curvature is not None:
            seen = self.curvature.rows()[0]
            cells |= {k: seen[k] for k in ("lowest", "residual", "highest", "threshold", "doubling", "reached")}
        cells |= {f"layer/{one.name}": one.distance for one in self.layers}
        cells |= {f"sector/{one.irrep}": one.distance for one in self.sectors}
        cells["alarms"] = len(self.alarms)
        numbers = {k: float(v) for k, v in cells.items() if isinstance(v, int | float)}
        return {k: v for k, v in numbers.items() if math.isfinite(v)}


def alarms(
    event: Event, *, norm: float, scale: float, keep: float, horizon: int, commutation: Commutation | None
) -> tuple[Alarm, ...]:
    """Every reason that holds.

    Args:
        event: what was measured.
        norm: ‖A‖.
        scale: flow time of one step.
        keep: share of ‖A‖ that the distance is to stay below.
        horizon: steps that count; what would take longer is no alarm.
        commutation: of the update with G, where it was measured.
    """
    found = []
    bound, seen = keep * norm, event.curvature
    if commutation is not None and not commutation.commutes and commutation.speed * horizon > bound:
        found.append(Alarm(event.step, "does not commute", str(commutation)))
    if seen is not None and not seen.doubt:
        found += _growing(event.step, seen, horizon)
    if event.felt is not None and event.felt_error is not None:
        sure = event.felt > max(FELT, DECIDED * event.felt_error)
        if sure and scale * event.felt * event.forcing * horizon > bound:
            words = (
                f"the gradients hold {event.felt:.0%} of (I − Π)∇R, {event.forcing:.2g} in norm: the data are not "
                "averaged over the group"
            )
            found.append(Alarm(event.step, "forcing", words))
    if seen is not None and seen.reached is not None and seen.reached > bound:
        words = f"the scatter of the gradients on E⊥ leads to {seen.reached / norm:.2g} of ‖A‖ by itself"
        found.append(Alarm(event.step, "noise", words))
    return tuple(found)


def _growing(step: int, seen: Curvature, horizon: int) -> list[Alarm]:
    """The two ends of the spectrum against those of what the rule bears."""
    if seen.bears is None or seen.threshold is None:
        if seen.sign == "negative":
            words = f"λ_min = {seen.lowest:.3g} ± {seen.residual:.1g} on E⊥, in sector {seen.irrep}"
            return [Alarm(step, "instability", words)]
        return []
    if seen.doubling is None or seen.doubling > horizon:
        return []
    doubles = f"a deviation doubles in {seen.doubling:,.0f} steps"
    found = []
    if seen.lowest + seen.residual < seen.bears:
        words = f"λ_min = {seen.lowest:.3g} ± {seen.residual:.1g} on E⊥, in sector {seen.irrep}: {doubles}"
        found.append(Alarm(step, "instability", words, seen.doubling))
    if seen.highest - seen.above > seen.threshold:
        words = (
            f"λ_max = {seen.highest:.3g} ± {seen.above:.1g} on E⊥, in sector {seen.irrep_highest}, where the rule "
            f"bears {seen.threshold:.3g}: {doubles}"
        )
        found.append(Alarm(step, "step too long", words, seen.doubling))
    return found
