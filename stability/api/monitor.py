r"""A training run watched while it goes on: is E being left, how fast, and which of five reasons does it have?

    monitor = stability.Monitor(problem, optimiser)      # before the loop
    monitor(model)                                       # in it, after optimiser.step()
    print(monitor)                                       # after it

A look costs gradients and products with ∇²R^aug. By default they are spread over the steps such that the monitor takes
no more than 5 % of the run's time: every call does as many pieces of the look under way as its share has paid for, at
the weights that the look began with. With ``every=n`` a whole look is taken every n steps instead, whatever it costs.

What training follows is read off the optimiser: rates, momentum and second moment as they stand at that step.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stability.api.alarms import Alarm, Curvature, Event, SectorDistance, alarms
from stability.api.diagnosis import layer_distances
from stability.api.seen import Gradients, curvature
from stability.api.sinks import Sink, sink
from stability.api.stages import fitted, locate, state_of
from stability.base import doors
from stability.base.errors import BadInput
from stability.curvature.at import At
from stability.groups import Irrep
from stability.optimisers.blocks import component
from stability.optimisers.commutes import Commutation, commutation
from stability.optimisers.live import Ends, Seen, ends
from stability.optimisers.scene import orbit_mean
from stability.optimisers.steps import denominator
from stability.optimisers.steps import state_of as memory_of
from stability.optimisers.updates import Update, read, sgd
from stability.points.describe import equivariance_error
from stability.points.training import nominal
from stability.problem.assumptions import check_assumptions
from stability.problem.problem import Problem
from stability.problem.tensors import pack
from stability.spectra import sectors
from stability.verdicts.verdict import on_kink

SHARE, PRODUCTS, HORIZON, KEEP = 0.05, 16, 1_000_000, 0.1
# Gradients looked at between two looks, and steps between them where looks are spread.
SAMPLED, APART = 20, 5
# What spectra are those of where the optimiser is not known: the flow.
FLOW = sgd(1.0)


def announce(alarm: Alarm) -> None:
    """A warning of Python."""
    warnings.warn(str(alarm), stacklevel=2)


@dataclass(frozen=True, eq=False)
class Place:
    """What a look is about: copies of the weights at its beginning.

    Attributes:
        step: of the run.
        time: flow time.
        problem: with the buffers of that step.
        theta: of the projection onto E.
        at: A.
        rule: of the optimiser as it stood.
        divided: the diagonal of P; None for P = 1.
    """

    step: int
    time: float
    problem: Problem
    theta: Tensor
    at: Tensor
    rule: Update | None
    divided: Tensor | None


class Monitor:
    """Looks at a module while it is trained.

    Args:
        problem: the risk that is trained, by :func:`stability.from_module` or another; its weights carry the names of
            the module's parameters.
        optimiser: a ``torch.optim`` object or a rule; a callback hands it over later.
        every: steps between whole looks; None spreads them over the steps as ``share`` allows.
        share: of the run's time that the monitor may take.
        names: sectors: "all", or names of irreps separated by commas.
        products: with ∇²R^aug in a sector a look, at most.
        horizon: steps that count: what would take longer to double, or to reach ``keep``, is no alarm.
        keep: share of ‖A‖ that the distance is to stay below.
        network: the part of the trained module that the problem is about; the module itself by default.
        log: where numbers go, see :mod:`stability.api.sinks`: one or several.
        on_alarm: called with every reason when it appears; by default a Python warning.
        seed: of group elements and starts.

    Attributes:
        events: looks so far.
        raised: alarms so far, each reason once until it has gone.
        notes: what the numbers do not hold, in words: kinks, batch norm, dropout, an optimiser without multipliers.
    """

    def __init__(
        self,
        problem: Problem,
        optimiser: torch.optim.Optimizer | Update | None = None,
        *,
        every: int | None = None,
        share: float = SHARE,
        names: str = "all",
        products: int = PRODUCTS,
        horizon: int = HORIZON,
        keep: float = KEEP,
        network: Callable[[nn.Module], nn.Module] | None = None,
        log: Any = (),
        on_alarm: Callable[[Alarm], None] | None = announce,
        seed: int = 0,
    ) -> None:
        doors.kind("problem", problem, Problem, "give one made by from_module, from_risk or from_network")
        doors.irreps("names", names)
        self.every = None if every is None else doors.whole("every", every, 1)
        self.share = doors.number("share", share, above=True)
        self.products, self.horizon = doors.whole("products", products, 2), doors.whole("horizon", horizon, 1)
        self.keep, self.seed = doors.number("keep", keep, above=True), doors.seed(seed)
        check_assumptions(problem, self.seed)
        self.problem, self.optimiser = problem, optimiser
        self.network = network or (lambda module: module)
        self.sinks: list[Sink] = []
        for one in log if isinstance(log, list | tuple) else [log]:
            self.add_log(one)
        self.on_alarm = on_alarm
        self.irreps = _chosen(problem, names)
        self.events: list[Event] = []
        self.raised: list[Alarm] = []
        self.notes: list[str] = []
        self.training = self.own = self.time = 0.0
        self._step, self._left = 0, math.nan
        self._rates: list[Any] | None = None
        self._rule: Update | None = None
        self._costs: dict[str, float] = {}
        self._look: Generator[str, None, None] | None = None
        self._next = "start"
        self._warm: dict[str, Tensor] = {}
        self._curvature: Curvature | None = None
        self._commutation: tuple[Update, Commutation] | None = None
        self._gradients = Gradients()
        self._standing: set[str] = set()

    # -- what a training loop calls ----------------------------------------------------------------------------------

    def __call__(self, module: nn.Module, step: int | None = None) -> None:
        """After a step: count it, and look as far as is due; the module is only read.

        Args:
            module: what is trained, its gradients still in place where noise and forcing are to be told.
            step: its number; counted by itself where it is not given.

        Raises:
            BadInput: a module whose tensors are not those of the problem.
        """
        now = time.perf_counter()
        if not math.isnan(self._left):
            self.training += now - self._left
        try:
            before = self._step
            self._step = before + 1 if step is None else doors.whole("Monitor: step", step, 0)
            network = self.network(doors.kind("Monitor", module, nn.Module, "give the module that is trained"))
            self.time += self.scale() * max(0, self._step - before)
            if self.every is None:
                self._spread(network, now)
                return
            if self._step % max(1, self.every // SAMPLED) == 0:
                self._sample(network)
            if not self.events or self._step % self.every == 0:
                self.look(module)
        finally:
            self._left = time.perf_counter()
            self.own += self._left - now

    def look(self, module: nn.Module) -> Event:
        """A whole look now."""
        for _ in self._looking(self.network(module)):
            pass
        return self.events[-1]

    def add_log(self, target: Any) -> None:
        """One more place that numbers go to, see :func:`stability.api.sinks.sink`."""
        self.sinks.append(sink(target))

    @property
    def step(self) -> int:
        """The last that was counted."""
        return self._step

    def scale(self) -> float:
        """Flow time of one step as the optimiser stands, τ(1 − d)/(1 − β); zero where it has none."""
        rule = self.rule()
        return 0.0 if rule is None else rule.step * rule.taken / (1 - rule.momentum)

    def rule(self) -> Update | None:
        """The optimiser's rule as it stands; None, and a note, where it is not known."""
        if self.optimiser is None or isinstance(self.optimiser, Update):
            return self.optimiser
        rates = [group.get("lr") for group in self.optimiser.param_groups]
        if rates != self._rates:  # a schedule changes nothing else
            self._rates, self._rule = rates, None
            if not any(rates):  # where a schedule begins or ends
                return None
            try:
                self._rule = read(self.optimiser)
            except BadInput as error:
                self._note(str(error))
        return self._rule

    @property
    def used(self) -> float:
        """The share of the run's time that the monitor has taken so far."""
        whole = self.training + self.own
        return self.own / whole if whole else 0.0

    # -- how a look goes ---------------------------------------------------------------------------------------------

    def _spread(self, network: nn.Module, began: float) -> None:
        """Pieces of the look under way, as many as are paid for; of a kind not met yet the dearest is expected."""
        while self.training > 0:
            # A few gradients before every look, of steps that are paid for one by one.
            sampling = bool(self.events) and self._look is None and len(self._gradients) < SAMPLED
            kind = "gradient" if sampling else self._next
            spent = self.own + time.perf_counter() - began
            expected = self._costs.get(kind, max(self._costs.values(), default=0.0))
            if spent + expected > self.share * (self.training + spent):
                return
            start = time.perf_counter()
            if sampling:
                self._sample(network)
            else:
                self._look = self._look or self._looking(network)
                self._next = next(self._look, "start")
                self._look = None if self._next == "start" else self._look
            taken = time.perf_counter() - start
            self._costs[kind] = max(taken, (taken + self._costs.get(kind, 0.0)) / 2)
            if sampling:  # one a step
                return

    def _looking(self, network: nn.Module) -> Generator[str, None, None]:
        """One look: distances, errors and gradients first, then the spectrum, at the weights of its beginning.

        Yields the kind of the piece that comes next.
        """
        place = self._place(network)
        yield "distances"
        event = self._distances(place)
        yield "error"
        event = replace(event, equivariance_error=equivariance_error(place.problem, place.theta, place.at, self.seed))
        yield "forcing"
        on_e = place.problem.space.embed(place.theta)
        push = place.problem.space.transverse_part(nominal(place.problem)(on_e, np.random.default_rng(self.seed)))
        told = self._gradients.told()
        event = replace(event, forcing=float(push.norm()), noise=told.noise, felt=told.felt, felt_error=told.felt_error)
        noise, self._gradients = self._gradients.sample(), Gradients(push)
        if self.every is None:  # what is known by now: the spectrum may take many steps
            self._publish(event, place)
        if place.rule is not None and (self._commutation is None or self._commutation[0].rule != place.rule.rule):
            yield "commutation"
            self._commutation = place.rule, commutation(place.problem, place.rule, place.theta, seed=self.seed)
        if self.irreps:
            yield from self._spectrum(place, noise)
            event = replace(event, curvature=self._curvature)
        if self.every is None:
            self.events[-1] = replace(event, alarms=self._alarms(event, place))
            self._raise(self.events[-1].alarms)
        else:
            self._publish(event, place)

    def _place(self, network: nn.Module) -> Place:
        """Copies of what the look is about."""
        state = {k: v.detach().clone() for k, v in state_of(network).items()}
        problem, point = fitted(self.problem, state)
        theta, at, _ = locate(problem, point)
        rule = self.rule()
        self._remark(network, rule)
        if rule is not None and 0 < rule.coupled == problem.weight_decay:
            self._note("the optimiser's weight decay is taken to be that of the problem, and counted once")
            rule = replace(rule, decay=0.0)
        divided = None
        if rule is not None and rule.adaptive and isinstance(self.optimiser, torch.optim.Optimizer):
            names = [layer.name for layer in problem.space.layers]
            try:
                memory = memory_of(self.optimiser, dict(network.named_parameters()), names, at)
                root = denominator(rule, memory) - rule.epsilon
                divided = 1 / (orbit_mean(problem, root.square()).sqrt() + rule.epsilon)
            except BadInput:  # before its first step
                divided = None
        return Place(self._step, self.time, problem, theta, at, rule, divided)

    def _distances(self, place: Place) -> Event:
        space, on_e = place.problem.space, place.problem.space.embed(place.theta)
        away, norm = place.at - on_e, float(place.at.norm())
        distance, before = float(away.norm()), self.events[-1] if self.events else None
        gained = None
        if before is not None and place.step > before.step and before.distance > 0 and distance > 0:
            gained = math.log(distance / before.distance) / (place.step - before.step)
        return Event(
            step=place.step,
            time=place.time,
            distance=distance,
            share=distance / norm if norm else 0.0,
            layers=layer_distances(place.problem, place.at, on_e),
            sectors=tuple(SectorDistance(i.name, float(component(space, i, away).norm())) for i, _ in self.irreps),
            equivariance_error=None,
            forcing=0.0,
            growth=gained,
            curvature=self._curvature,
        )

    def _spectrum(self, place: Place, noise: Tensor | None) -> Generator[str, None, None]:
        """Both ends of ∇²R^aug in every sector, as the optimiser sees them."""
        rule, here, found = place.rule, At(place.problem, place.theta), list[Ends]()
        commutes = self._commutation is not None and self._commutation[1].commutes
        root = place.divided.sqrt() if place.divided is not None and commutes else None
        linear = rule if rule is not None and rule.rule != "muon" and (root is not None or not rule.adaptive) else None
        if linear is None:
            noise = None
        seen = Seen(linear or FLOW, root, noise, self.horizon, self.products, self.seed + place.step)
        for irrep, size in self.irreps:
            pieces = ends(here, irrep, size, seen, self._warm.get(irrep.name))
            yield "block"
            while True:
                try:
                    next(pieces)
                except StopIteration as done:
                    found.append(done.value)
                    break
                yield "product"
            self._warm[irrep.name] = found[-1].warm
        yield "kink"
        margin = None
        if place.problem.kink_margin is not None:
            margin = place.problem.kink_margin(place.problem.space.embed(place.theta))
        if margin is not None:
            self._note("the network has kinks: λ_min is that of the smooth piece which the weights are on")
        self._curvature = curvature(place.step, found, linear, on_kink(margin))

    def _sample(self, network: nn.Module) -> None:
        """The gradient that the last step followed; nothing where it is gone."""
        named = {k: p.grad for k, p in network.named_parameters() if p.grad is not None}
        flat = None
        if all(layer.name in named for layer in self.problem.space.layers):
            flat = pack(self.problem.space, named, self.problem.name).to(self.problem.samples.x)
        self._gradients.add(None if flat is None else self.problem.space.transverse_part(flat))

    def _remark(self, network: nn.Module, rule: Update | None) -> None:
        """What the numbers do not hold."""
        kinds = {type(m).__name__ for m in network.modules() if m.training}
        if any("BatchNorm" in kind for kind in kinds):
            self._note("batch norm trains on batches; errors and spectra here are those with its running statistics")
        if any("Dropout" in kind for kind in kinds):
            self._note("dropout is off in errors and spectra here; what it adds shows as noise")
        if rule is not None and rule.rule == "muon":
            self._note("Muon's step is no linear map of the gradient, so no multiplier is told: rehearse it")

    def _note(self, words: str) -> None:
        if words not in self.notes:
            self.notes.append(words)

    # -- what comes of it --------------------------------------------------------------------------------------------

    def _alarms(self, event: Event, place: Place) -> tuple[Alarm, ...]:
        measured = self._commutation[1] if self._commutation else None
        return alarms(
            event,
            norm=float(place.at.norm()),
            scale=self.scale(),
            keep=self.keep,
            horizon=self.horizon,
            commutation=measured,
        )

    def _publish(self, event: Event, place: Place) -> None:
        event = replace(event, alarms=self._alarms(event, place))
        self.events.append(event)
        self._raise(event.alarms)
        for send in self.sinks:
            send(event.metrics(), event.step)

    def _raise(self, found: Iterable[Alarm]) -> None:
        """Tell every reason that was not there before."""
        for alarm in found:
            if alarm.reason not in self._standing:
                self.raised.append(alarm)
                if self.on_alarm is not None:
                    self.on_alarm(alarm)
        self._standing = {alarm.reason for alarm in found}

    def __str__(self) -> str:
        lines = [*table(self.events), *(f"note: {note}" for note in self.notes), *map(str, self.raised)]
        return "\n".join(lines)


HEADS = ("step", "‖A_E⊥‖", "equiv. error", "forcing", "felt", "noise", "λ_min(E⊥)", "irrep", "λ_max", "bears", "alarm")


def table(events: Sequence[Event]) -> list[str]:
    """One line a look, the names of its columns first."""
    rows: list[tuple[str, ...]] = [HEADS]
    for e in events:
        c = e.curvature
        ends_of = (None,) * 4 if c is None else (c.lowest, c.irrep, c.highest, c.threshold)
        why = ", ".join(alarm.reason for alarm in e.alarms) or None
        cells = (e.step, e.distance, e.equivariance_error, e.forcing, e.felt, e.noise, *ends_of, why)
        rows.append(tuple("–" if v is None else f"{v:.4g}" if isinstance(v, float) else str(v) for v in cells))
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADS))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _chosen(problem: Problem, names: str) -> list[tuple[Irrep, int]]:
    """The sectors of E⊥ that are looked at."""
    found = [(irrep, size) for irrep, size in sectors.occurring(problem.space) if not irrep.is_trivial]
    if names == "all":
        return found
    wanted = [] if names == "none" else [name.strip() for name in names.split(",")]
    known = {irrep.name for irrep, _ in found}
    for name in wanted:
        doors.choice("names", name, ("all", "none", *sorted(known)))
    return [pair for pair in found if pair[0].name in wanted]


__all__ = ["Alarm", "Curvature", "Event", "Monitor"]
