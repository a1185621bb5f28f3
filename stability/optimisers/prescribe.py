r"""What keeps ‖A_{E⊥}‖/‖A‖ below a bound for the steps asked for: the least of each remedy alone, with its cost.

    penalty       γ/2 ‖A_{E⊥}‖² added to the risk: γ on every eigenvalue of E⊥
    decay         of the optimiser; it acts on E as well, so the point moves: look again there
    elements      K of G a step
    batch         B samples a step
    step          shorter, and as many more of them
    momentum      less, at the same step, and as many more steps as training slows down by: (1 − β')/(1 − β) for SGD,
                  not at all for RMSprop's second moment or Adam, whose momentum is a mean
    projection    A_{E⊥} ← 0 every n steps

The cost counts the gradients of samples that training as far takes, relative to the run as it is. What is found obeys
the linear laws of :mod:`stability.optimisers.outlook`, and is no more than they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from stability.base.errors import BadInput
from stability.base.record import Record
from stability.optimisers.commutes import commutation
from stability.optimisers.draws import Draws
from stability.optimisers.multipliers import linear, stable_range
from stability.optimisers.outlook import Setting, largest, setting
from stability.optimisers.scene import Scene
from stability.optimisers.updates import Update

# Values tried of a remedy that is a real number, and halvings between the last that fails and the first that holds.
TRIED, HALVINGS = 16, 12
MOST_ELEMENTS = 4096
MOMENTA = (0.99, 0.98, 0.95, 0.9, 0.8, 0.5, 0.0)


@dataclass(frozen=True)
class Remedy(Record):
    """One remedy.

    Attributes:
        name: of the lever, two joined by "+" for a combination.
        value: the least (or, of a step, momentum or interval, the most) that holds the bound; None where none does.
        words: the same in the user's units.
        distance: the largest √E‖A_{E⊥}‖²/‖A‖ on the way with it.
        cost: gradients relative to the run as it is; None where none holds.
    """

    name: str
    value: float | None
    words: str
    distance: float | None
    cost: float | None


@dataclass(frozen=True)
class Prescription(Record):
    """What keeps the distance from E below a bound.

    Attributes:
        task: the problem.
        optimiser: its rule, in words.
        draws: what a step sees.
        keep: the bound on ‖A_{E⊥}‖/‖A‖.
        steps: for how long.
        as_is: the largest distance without any remedy.
        remedies: each alone, and penalty with elements together where one of them costs more or does not suffice.
        cheapest: the name of the one that costs least; None where none holds, "nothing" where none is needed.
    """

    task: str
    optimiser: str
    draws: str
    keep: float
    steps: int
    as_is: float
    remedies: tuple[Remedy, ...]
    cheapest: str | None

    def rows(self) -> list[dict[str, Any]]:
        """One line a remedy."""
        return [row for one in self.remedies for row in one.rows()]

    def __str__(self) -> str:
        lines = [
            f"{self.task}, {self.optimiser}, {self.draws}: as it is ‖A_E⊥‖ reaches {self.as_is:.2g} of ‖A‖ within "
            f"{self.steps:,} steps; wanted {self.keep:g}"
        ]
        for one in self.remedies:
            cost = "" if one.cost is None else f", {one.cost:.3g} times the gradients"
            lines.append(f"  {one.name:<20} {one.words}{cost}")
        return "\n".join([*lines, f"cheapest: {self.cheapest or 'none of these'}"])


@dataclass(frozen=True, eq=False)
class Case:
    """What is asked: a place, a run as it is, and the bound.

    Attributes:
        place: the point.
        update: the rule of a step.
        draws: of batches and group elements.
        start: the distance to E before the first step.
        steps: how many are taken.
        keep: the bound on the distance.
        moment: v of an adaptive rule; None for that of its draws.
    """

    place: Scene
    update: Update
    draws: Draws
    start: float
    steps: int
    keep: float
    moment: Tensor | None = None

    def made(self, update: Update | None = None, draws: Draws | None = None, gamma: float = 0.0) -> Setting:
        """Spectra and noise with one thing changed; an adaptive rule's v follows its draws unless it was given."""
        return setting(self.place, update or self.update, draws or self.draws, gamma=gamma, moment=self.moment)

    def reached(self, made: Setting, steps: int | None = None) -> float:
        """The largest distance on the way."""
        return largest(self.place, made, self.start, steps or self.steps)

    def with_penalty(self, gamma: float, draws: Draws | None = None) -> float:
        """The same with a penalty."""
        return self.reached(self.made(draws=draws, gamma=gamma))


def prescription(
    place: Scene,
    update: Update,
    draws: Draws,
    *,
    start: float,
    steps: int,
    keep: float,
    moment: Tensor | None = None,
) -> Prescription:
    """The table at a point.

    Args:
        place: the point of E.
        update: the rule.
        draws: what a step sees.
        start: ‖A_{E⊥}‖² at the start, in a random direction.
        steps: for how long.
        keep: the bound on ‖A_{E⊥}‖/‖A‖.
        moment: v of an adaptive rule; by default that of its draws, which changes with them.

    Raises:
        BadInput: Muon, a rule that does not commute with G, or a start beyond the bound.
    """
    linear(update)
    if start**0.5 > keep * place.norm:
        raise BadInput(
            f"prescribe: the start is {start**0.5 / place.norm:.2g} of ‖A‖ away from E, beyond keep={keep:g}; project "
            "it (stability.project) or ask for more"
        )
    measured = commutation(place.problem, update, place.problem.space.project(place.at))
    if not measured.commutes:
        raise BadInput(f"{place.problem.name}: {measured}; use SGD or a representation by permutations")
    case = Case(place, update, draws, start, steps, keep, moment)
    as_is = case.with_penalty(0.0)
    listed = (_penalty, _decay, _elements, _batch, _step, _momentum, _projection)
    found = [] if as_is <= keep else [one for make in listed if (one := make(case)) is not None]
    holding = [one for one in found if one.cost is not None]
    if found and draws.elements is not None and not any(one.cost == 1.0 for one in holding):
        found.append(_together(case))
        holding = [one for one in found if one.cost is not None]
    cheapest = "nothing" if as_is <= keep else min(holding, key=lambda one: one.cost or 0.0).name if holding else None
    return Prescription(place.problem.name, str(update), str(draws), keep, steps, as_is, tuple(found), cheapest)


def least_real(holds: Callable[[float], float], keep: float, tried: np.ndarray) -> tuple[float, float] | None:
    """The least value with holds(value) ≤ keep and what it reaches: the first that holds, then by halving."""
    before = 0.0
    for value in map(float, tried):
        reached = holds(value)
        if reached <= keep:
            for _ in range(HALVINGS):
                middle = (before + value) / 2
                there = holds(middle)
                before, value, reached = (before, middle, there) if there <= keep else (middle, value, reached)
            return value, reached
        before = value
    return None


def least_whole(holds: Callable[[int], float], keep: float, first: int, last: int) -> tuple[int, float] | None:
    """The least whole number that holds, where more never hurts."""
    if last < first or holds(last) > keep:
        return None
    while first < last:
        middle = (first + last) // 2
        first, last = (first, middle) if holds(middle) <= keep else (middle + 1, last)
    return last, holds(last)


def _shifts(case: Case) -> np.ndarray:
    """Penalties worth trying: from a thousandth of the curvature at hand to where steps become too long."""
    top = stable_range(case.update)[1]
    weights = case.made().weights
    if weights is not None:  # γ is in units of the risk, the threshold in those of P
        top = top / float(weights.max())
    scale = max(float(b.values.abs().max()) for b in case.place.blocks) or 1.0
    return np.geomspace(min(1e-3 * scale, 1e-2 * top), 0.98 * top, TRIED)


def _remedy(name: str, found: tuple[float, float] | None, words: str, none: str, cost: float) -> Remedy:
    if found is None:
        return Remedy(name, None, none, None, None)
    return Remedy(name, found[0], words.format(found[0]), found[1], cost)


def _penalty(case: Case) -> Remedy:
    found = least_real(case.with_penalty, case.keep, _shifts(case))
    return _remedy("penalty", found, "γ = {:.3g}", "no γ that the step bears suffices", 1.0)


def _decay(case: Case) -> Remedy:
    def reached(extra: float) -> float:
        update = replace(case.update, decay=case.update.decay + extra)
        return case.reached(case.made(update))

    tried = _shifts(case)
    if case.update.decoupled:  # 1 − τμ must stay above −1
        tried = tried[tried * case.update.step < 2]
    found = least_real(reached, case.keep, tried)
    if found is not None:
        found = (case.update.decay + found[0], found[1])
    words = "weight_decay = {:.3g} in the optimiser; it acts on E too, so look again at the new point"
    return _remedy("decay", found, words, "no decay that the step bears suffices", 1.0)


def _elements(case: Case) -> Remedy | None:
    if case.draws.elements is None:
        return None
    now = case.draws.elements
    found = least_whole(
        lambda k: case.reached(case.made(draws=replace(case.draws, elements=k))),
        case.keep,
        now,
        MOST_ELEMENTS,
    )
    words = f"{{:.0f}} elements a {case.draws.per}"
    cost = found[0] / now if found else 1.0
    return _remedy("elements", found, words, f"not even {MOST_ELEMENTS:,} elements a {case.draws.per}", cost)


def _batch(case: Case) -> Remedy | None:
    if case.draws.batch is None:
        return None
    now = case.draws.batch
    found = least_whole(
        lambda b: case.reached(case.made(draws=replace(case.draws, batch=b))),
        case.keep,
        now,
        len(case.place.problem.samples),
    )
    return _remedy(
        "batch", found, "batches of {:.0f}", "not even all samples at once", found[0] / now if found else 1.0
    )


def _slower(case: Case, updates: list[tuple[Update, float]]) -> tuple[Update, float, float] | None:
    """The first update that holds over as many more steps as it is slower, with what it reaches and its cost."""
    for update, slower in updates:
        reached = case.reached(case.made(update), max(1, round(case.steps * slower)))
        if reached <= case.keep:
            return update, reached, slower
    return None


def _step(case: Case) -> Remedy:
    shorter = [
        (replace(case.update, step=case.update.step / f), f) for f in np.geomspace(1.1, 1000, 2 * TRIED).tolist()
    ]
    found = _slower(case, shorter)
    pair = None if found is None else (found[0].step, found[1])
    return _remedy("step", pair, "a step of {:.3g}", "not even a thousandth of the step", found[2] if found else 1.0)


def _momentum(case: Case) -> Remedy | None:
    now = case.update.momentum
    if not now:
        return None
    less = [(with_momentum(case.update, m), pace(case.update) / pace(with_momentum(case.update, m))) for m in MOMENTA]
    less = [(update, slower) for update, slower in less if update.momentum < now]
    found = _slower(case, less)
    pair = None if found is None else (found[0].momentum, found[1])
    return _remedy("momentum", pair, "momentum {:g}", "not even none of it", found[2] if found else 1.0)


def with_momentum(update: Update, momentum: float) -> Update:
    """The same rule with another β; Adam's m stays a mean."""
    return replace(
        update,
        momentum=momentum,
        nesterov=update.nesterov and momentum > 0,
        dampening=momentum if update.rule == "adam" else update.dampening,
    )


def pace(update: Update) -> float:
    """Flow time of a step over τ, (1 − d)/(1 − β)."""
    return update.taken / (1 - update.momentum)


def _projection(case: Case) -> Remedy:
    """The longest interval, a power of two, at whose end the distance from rest on E is still within the bound."""
    made, most, reached = case.made(), 0, 0.0
    start = case.start if case.draws.exact else 0.0
    for trial in (2**i for i in range(case.steps.bit_length())):
        there = largest(case.place, made, start, trial)
        if there > case.keep:
            break
        most, reached = trial, there
    found = (float(most), reached) if most else None
    return _remedy("projection", found, "A ← Π_E A every {:.0f} steps", "not even after every step", 1.0)


def _together(case: Case) -> Remedy:
    """The fewest elements with which some penalty holds."""
    now, elements = case.draws.elements or 1, case.draws.elements or 1
    while elements <= MOST_ELEMENTS:
        drawn = partial(case.with_penalty, draws=replace(case.draws, elements=elements))
        found = least_real(drawn, case.keep, _shifts(case))
        if found is not None:
            words = f"γ = {found[0]:.3g} with {elements} elements a {case.draws.per}"
            return Remedy("penalty + elements", found[0], words, found[1], elements / now)
        elements *= 2
    return Remedy("penalty + elements", None, f"not even with {MOST_ELEMENTS:,} elements", None, None)
