r"""The forecast: how far from E training is after k steps, sector by sector, before a step is run.

    E‖A_λ(k)‖² = what is left of the deviation at the start + what the draws have stirred up since

both in closed form, to first order in the deviation and at a point that stands still; see
:mod:`stability.optimisers.noise`. The band holds the middle 80 % of the stirred part, whose square is taken to be a
Gamma variable of the right mean and variance, and the error of every growth, which steps multiply.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import gamma as gamma_law
from torch import Tensor
from torch.func import grad

from stability.base.record import Record
from stability.optimisers.blocks import Block
from stability.optimisers.commutes import Commutation, commutation
from stability.optimisers.draws import Draws
from stability.optimisers.feedback import feedback
from stability.optimisers.multipliers import Multiplier, of_block, strongest
from stability.optimisers.noise import Spread, energy, isotropic, kept, largest_squared, stirred
from stability.optimisers.scene import Scene, divided, dressed, noise_of, orbit_mean, second_moment
from stability.optimisers.updates import Update

# Times of a forecast, the share of ‖A‖ at which linear laws end, and the two ends of a band.
TIMES, LINEAR, BAND = 13, 0.1, (0.1, 0.9)


@dataclass(frozen=True)
class SectorForecast(Record):
    """One sector.

    Attributes:
        irrep: its label.
        multiplier: of a step.
        noise: E‖P_λ n‖² under the root, the noise of one step's gradient.
        distance: √E‖A_λ‖² relative to ‖A‖, at the times of the forecast.
    """

    irrep: str
    multiplier: Multiplier
    noise: float
    distance: tuple[float, ...]


@dataclass(frozen=True)
class Forecast(Record):
    """What training will do to the distance from E. Distances are shares of ‖A‖.

    Attributes:
        task: the problem.
        optimiser: its rule, in words.
        draws: what a step sees, in words.
        state: "keeps" or "leaves" E within the steps asked for (beyond 0.1 ‖A‖, where linear laws end, or by an update
            that does not commute with G), "grows" or "shrinks" within that, or "undecided".
        reason: in words.
        times: steps.
        distance: √E‖A_{E⊥}‖²/‖A‖ at these times; empty where the update does not commute with G.
        low, high: the band.
        sectors: irrep by irrep.
        commutation: of the update with G.
        stationary: the distance in the long run; None where there is none.
        feedback: spectral radius of the drawn Hessians' part, below one where the mean square stays finite; None
            where it was not asked for, nothing is drawn or a multiplier grows.
        moving: how far the point itself would move along E in these steps, were its gradient to stay; None of an
            adaptive rule, whose steps do not tell.
        norm: ‖A‖.
        leaves_after: steps until 0.1 ‖A‖; None where it stays below.
    """

    task: str
    optimiser: str
    draws: str
    state: str
    reason: str
    times: tuple[int, ...]
    distance: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    sectors: tuple[SectorForecast, ...]
    commutation: Commutation
    stationary: float | None
    feedback: float | None
    moving: float | None
    norm: float
    leaves_after: int | None

    def rows(self) -> list[dict[str, Any]]:
        """One line a time."""
        columns = zip(self.times, self.distance, self.low, self.high, strict=True)
        return [{"step": t, "distance": d, "low": a, "high": b} for t, d, a, b in columns]

    def __str__(self) -> str:
        lines = [f"{self.task}, {self.optimiser}, {self.draws}: {self.reason}"]
        if self.times:
            last = f"after {self.times[-1]:,} steps ‖A_E⊥‖ is {self.distance[-1]:.2g} of ‖A‖"
            lines.append(
                f"{last} (from {self.low[-1]:.2g} to {self.high[-1]:.2g}), at the start {self.distance[0]:.2g}"
            )
        lines += [f"  {s.multiplier}" for s in self.sectors]
        if self.moving is not None and self.moving > LINEAR:
            lines.append(
                f"the point itself moves by {self.moving:.2g} of ‖A‖ in these steps, and its multipliers with it: ask "
                "again as training goes on"
            )
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class Setting:
    """A rule, its draws and a penalty at a point, with the spectra that they make.

    Attributes:
        update: the rule of a step.
        draws: of batches and group elements.
        blocks: spectra of what a step multiplies, sector by sector.
        noise: covariance of a step in each block.
        weights: the preconditioner of an adaptive rule; None for the others.
    """

    update: Update
    draws: Draws
    blocks: tuple[Block, ...]
    noise: tuple[Tensor, ...]
    weights: Tensor | None = None


def setting(place: Scene, update: Update, draws: Draws, *, gamma: float = 0.0, moment: Tensor | None = None) -> Setting:
    """Spectra and noise; ``moment`` is the second moment that an adaptive rule holds, by default that of its draws."""
    weights = None
    if update.adaptive:
        held = second_moment(place, update, draws) if moment is None else orbit_mean(place.problem, moment)
        weights = divided(update, held)
    blocks = tuple(dressed(place, update, gamma, weights))
    return Setting(update, draws, blocks, tuple(noise_of(place, draws)), weights)


def times_until(steps: int) -> list[int]:
    """Zero, and steps spread evenly on a logarithmic scale."""
    return sorted({0, *np.geomspace(1, steps, TIMES).round().astype(int).tolist()})


def spreads(place: Scene, made: Setting, start: Tensor | float, steps: int) -> list[tuple[Spread, Spread]]:
    """(what is left of the start, what was stirred up) in every sector; ``start`` a deviation, or its squared norm."""
    found = []
    for block, noise in zip(made.blocks, made.noise, strict=True):
        if isinstance(start, Tensor):
            first = energy(place.problem, block, start)
        else:
            first = isotropic(block, start, place.across)
        found.append((kept(block, made.update, first, steps), stirred(block, made.update, noise, steps)))
    return found


def distance(place: Scene, made: Setting, start: Tensor | float, steps: int) -> float:
    """√E‖A_{E⊥}‖²/‖A‖ after a number of steps."""
    return math.sqrt(sum(a.squared + b.squared for a, b in spreads(place, made, start, steps))) / place.norm


def settled(place: Scene, made: Setting) -> float | None:
    """The same in the long run; None where it grows for ever."""
    total = 0.0
    for block, noise in zip(made.blocks, made.noise, strict=True):
        if not of_block(block, made.update).most < 1:
            return None
        total += stirred(block, made.update, noise, None).squared
    return math.sqrt(total) / place.norm


def band(parts: Sequence[tuple[Spread, Spread]], multipliers: Sequence[Multiplier], steps: int) -> tuple[float, float]:
    """The two ends of √‖A_{E⊥}‖²."""
    mean = sum(b.squared for _, b in parts)
    variance = sum(b.scatter for _, b in parts)
    ends = []
    for share, end in zip(BAND, ("least", "most"), strict=True):
        noise = mean
        if mean > 0 and variance > 0 and math.isfinite(mean):
            noise = float(gamma_law.ppf(share, mean * mean / variance, scale=variance / mean))
        left = 0.0
        for (a, _), one in zip(parts, multipliers, strict=True):
            power = 2 * steps * math.log(getattr(one, end) / one.growth) if getattr(one, end) > 0 < one.growth else 0.0
            left += a.squared * math.exp(min(power, 600.0))
        ends.append(math.sqrt(noise + left))
    return ends[0], ends[1]


def outlook(
    place: Scene,
    update: Update,
    draws: Draws,
    *,
    steps: int,
    start: Tensor | float,
    moment: Tensor | None = None,
    hessians: bool = False,
    seed: int = 0,
) -> Forecast:
    """The forecast at a point.

    Args:
        place: the point of E.
        update: the rule.
        draws: what a step sees.
        steps: how many.
        start: the deviation at the start, or its squared norm in a random direction.
        moment: second moment of an adaptive rule, (dim L).
        hessians: whether the drawn Hessians' part is worked out, which takes those of every sample.
        seed: of what commutation is measured with.
    """
    problem = place.problem
    measured = commutation(problem, update, problem.space.project(place.at), seed=seed)
    slope = grad(problem.risk)(place.at) + update.decay * place.at
    along = float(problem.space.equivariant_part(slope).norm())
    reach = None if update.adaptive else steps * update.step * update.taken / (1 - update.momentum)
    common: dict[str, Any] = dict(
        task=problem.name,
        optimiser=str(update),
        draws=str(draws),
        commutation=measured,
        moving=None if reach is None else reach * along / place.norm,
        norm=place.norm,
    )
    if not measured.commutes:
        after = math.ceil(LINEAR * place.norm / measured.speed) if measured.speed else None
        none: dict[str, Any] = dict(times=(), distance=(), low=(), high=(), sectors=(), stationary=None, feedback=None)
        return Forecast(state="leaves", reason=str(measured), leaves_after=after, **none, **common)
    return _linear(place, update, draws, steps, start, moment, hessians, common)


def _linear(
    place: Scene,
    update: Update,
    draws: Draws,
    steps: int,
    start: Tensor | float,
    moment: Tensor | None,
    hessians: bool,
    common: dict[str, Any],
) -> Forecast:
    """The forecast of an update that commutes with G, sector by sector."""
    made = setting(place, update, draws, moment=moment)
    multipliers = [of_block(b, update) for b in made.blocks]
    times = times_until(steps)
    by_time = [spreads(place, made, start, t) for t in times]
    bands = [band(p, multipliers, t) for p, t in zip(by_time, times, strict=True)]
    far = [math.sqrt(sum(a.squared + b.squared for a, b in p)) / place.norm for p in by_time]
    listed = tuple(
        SectorForecast(
            one.irrep,
            one,
            math.sqrt(b.copies * float(n.trace().clamp_min(0))),
            tuple(math.sqrt(p[i][0].squared + p[i][1].squared) / place.norm for p in by_time),
        )
        for i, (one, b, n) in enumerate(zip(multipliers, made.blocks, made.noise, strict=True))
    )
    radius = None
    if hessians and not draws.exact and settled(place, made) is not None:
        radius = feedback(
            place.problem, place.problem.space.project(place.at), update, draws, preconditioner=made.weights
        ).radius()
    state, reason = judged(multipliers, far, radius)
    beyond = next((t for t, d in zip(times, far, strict=True) if d > LINEAR), None)
    return Forecast(
        state=state,
        reason=reason,
        times=tuple(times),
        distance=tuple(far),
        low=tuple(a / place.norm for a, _ in bands),
        high=tuple(b / place.norm for _, b in bands),
        sectors=listed,
        stationary=settled(place, made),
        feedback=radius,
        leaves_after=beyond,
        **common,
    )


def judged(multipliers: Sequence[Multiplier], far: Sequence[float], radius: float | None) -> tuple[str, str]:
    """The state and why, in words."""
    worst = strongest(multipliers)
    if worst is None:
        return "keeps", "E⊥ = {0}: there is nothing to leave"
    growing = [m for m in multipliers if m.state == "grows"]
    if radius is not None and radius >= 1:
        return "leaves", f"every multiplier shrinks, and drawn Hessians drive it off E (radius {radius:.3g} ≥ 1)"
    if growing:
        one = max(growing, key=lambda m: m.growth)
        why = "the step is too long there" if one.value > 0 else "∇²R^aug is negative there"
        doubled = f"doubling in {one.doubling:,.0f} steps" if one.doubling else "growing"
        state = "leaves" if far[-1] > LINEAR else "grows"
        return state, f"{one.irrep} leads off E, {doubled}: {why} (h = {one.value:.3g})"
    if far[-1] > LINEAR:
        return "leaves", "the draws alone drive it beyond a tenth of ‖A‖, where linear laws end"
    if any(m.state == "undecided" for m in multipliers):
        return "undecided", f"whether {worst.irrep} grows is within the error of its eigenvalue"
    return "keeps", "every multiplier shrinks"


def largest(place: Scene, made: Setting, start: float, steps: int) -> float:
    """The largest √E‖A_{E⊥}‖²/‖A‖ on the way, at powers of two and at the end."""
    if made.weights is not None:  # P mixes the eigenbasis
        marks = sorted({*(2**i for i in range(steps.bit_length())), steps})
        return max(distance(place, made, start, mark) for mark in marks)
    total: list[float] = []
    for block, noise in zip(made.blocks, made.noise, strict=True):
        first = isotropic(block, start, place.across)
        found = largest_squared(block, made.update, first, noise, steps)
        total = found if not total else [a + b for a, b in zip(total, found, strict=True)]
    return math.sqrt(max(total, default=0.0)) / place.norm
