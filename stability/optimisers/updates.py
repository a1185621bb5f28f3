r"""Update rules as people train with them: what one step makes of the weights A, the gradient g and its own state.

    rule       h = g + μA where the decay is coupled; else A ← (1 − τμ)A first
    sgd        b ← βb + (1 − d)h,  A ← A − τb;  Nesterov: A ← A − τ(h + βb)         PyTorch's convention
    rmsprop    v ← αv + (1 − α)h²,  b ← βb + h/(√v + ε),  A ← A − τb
    adam       m ← β₁m + (1 − β₁)h,  v ← β₂v + (1 − β₂)h²,  A ← A − τ m̂/(√v̂ + ε)
    muon       b ← μb + (1 − μ)g,  A ← A − τ · (the orthogonal factor of b, by Newton–Schulz)

A problem may hold a weight decay of its own, which is part of R; the optimiser's is added to it. Give the decay in one
of the two places, not in both.

>>> import torch
>>> weight = torch.nn.Parameter(torch.zeros(2))
>>> print(read(torch.optim.SGD([weight], lr=0.1, momentum=0.9)))
SGD, step 0.1, momentum 0.9
>>> print(adamw(1e-3))
AdamW, step 0.001, β = (0.9, 0.999), decay 0.01 decoupled
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from stability.base import doors
from stability.base.errors import BadInput
from stability.base.record import Record

RULES = ("sgd", "rmsprop", "adam", "muon")


@dataclass(frozen=True)
class Update(Record):
    """One rule with its hyperparameters.

    Attributes:
        rule: "sgd", "rmsprop", "adam" or "muon".
        step: τ, the learning rate; a schedule is not part of it.
        momentum: β of sgd, rmsprop and muon, β₁ of adam.
        dampening: d, the share of the new gradient that the buffer does not take; β₁ for adam, whose m is a mean.
        nesterov: whether the step looks ahead.
        decay: μ of the optimiser, added to that of the problem.
        decoupled: whether the decay acts on the weights, (1 − τμ)A, and not through the gradient.
        second: α of rmsprop, β₂ of adam.
        epsilon: ε.
        centred: rmsprop's variance instead of second moment.
        amsgrad: adam's largest second moment so far.
        coefficients: of Newton and Schulz's iteration, for muon.
        sweeps: its iterations.
        scaling: muon's factor for the shape of a matrix, "original" or "match_rms_adamw".
    """

    rule: str
    step: float
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    decay: float = 0.0
    decoupled: bool = False
    second: float = 0.0
    epsilon: float = 0.0
    centred: bool = False
    amsgrad: bool = False
    coefficients: tuple[float, ...] = ()
    sweeps: int = 0
    scaling: str = "original"

    def __post_init__(self) -> None:
        """Raise BadInput for numbers that no optimiser takes."""
        doors.choice("update: rule", self.rule, RULES)
        doors.number("update: step", self.step, above=True)
        doors.number("update: decay", self.decay)
        doors.number("update: epsilon", self.epsilon)
        for what in ("momentum", "second", "dampening"):
            if not doors.number(f"update: {what}", getattr(self, what)) < 1:
                raise BadInput(f"update: {what} {getattr(self, what):g}; give a number from 0 to below 1")
        if self.nesterov and self.rule == "sgd" and (self.momentum == 0 or self.dampening != 0):
            raise BadInput("update: Nesterov needs a momentum and no dampening; give momentum=0.9, dampening=0")

    @property
    def adaptive(self) -> bool:
        """Whether steps are divided by a running second moment, weight by weight."""
        return self.rule in ("rmsprop", "adam")

    @property
    def taken(self) -> float:
        """1 − d, the share of a new gradient that the buffer takes; torch has no dampening without momentum."""
        return 1 - self.dampening if self.momentum else 1.0

    @property
    def shrink(self) -> float:
        """1 − τμ of a decoupled decay, else 1."""
        return 1 - self.step * self.decay if self.decoupled else 1.0

    @property
    def coupled(self) -> float:
        """The part of the decay that comes with the gradient: a summand of the Hessian."""
        return 0.0 if self.decoupled else self.decay

    def __str__(self) -> str:
        name = {"sgd": "SGD", "rmsprop": "RMSprop", "adam": "AdamW" if self.decoupled else "Adam", "muon": "Muon"}
        words = [name[self.rule], f"step {self.step:g}"]
        if self.rule == "adam":
            words.append(f"β = ({self.momentum:g}, {self.second:g})")
        elif self.momentum:
            words.append(f"{'Nesterov ' if self.nesterov else ''}momentum {self.momentum:g}")
        if self.rule == "rmsprop":
            words.append(f"α = {self.second:g}")
        if self.rule == "sgd" and self.dampening:
            words.append(f"dampening {self.dampening:g}")
        words += [word for word, on in (("centred", self.centred), ("AMSGrad", self.amsgrad)) if on]
        if self.decay:
            words.append(f"decay {self.decay:g} {'decoupled' if self.decoupled else 'coupled'}")
        return ", ".join(words)


def sgd(
    step: float, momentum: float = 0.0, *, dampening: float = 0.0, nesterov: bool = False, decay: float = 0.0
) -> Update:
    """Gradient descent, with momentum as ``torch.optim.SGD`` has it."""
    return Update("sgd", step, momentum, dampening, nesterov, decay)


def rmsprop(
    step: float = 1e-2,
    second: float = 0.99,
    *,
    epsilon: float = 1e-8,
    momentum: float = 0.0,
    centred: bool = False,
    decay: float = 0.0,
) -> Update:
    """``torch.optim.RMSprop``."""
    return Update("rmsprop", step, momentum, decay=decay, second=second, epsilon=epsilon, centred=centred)


def adam(
    step: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    *,
    epsilon: float = 1e-8,
    decay: float = 0.0,
    decoupled: bool = False,
    amsgrad: bool = False,
) -> Update:
    """``torch.optim.Adam``; its decay comes with the gradient unless it is decoupled."""
    first, second = betas
    return Update(
        "adam",
        step,
        first,
        dampening=first,
        decay=decay,
        decoupled=decoupled,
        second=second,
        epsilon=epsilon,
        amsgrad=amsgrad,
    )


def adamw(
    step: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    *,
    epsilon: float = 1e-8,
    decay: float = 1e-2,
    amsgrad: bool = False,
) -> Update:
    """``torch.optim.AdamW``."""
    return adam(step, betas, epsilon=epsilon, decay=decay, decoupled=True, amsgrad=amsgrad)


def muon(
    step: float = 1e-3,
    momentum: float = 0.95,
    *,
    nesterov: bool = True,
    decay: float = 0.1,
    epsilon: float = 1e-7,
    coefficients: Sequence[float] = (3.4445, -4.7750, 2.0315),
    sweeps: int = 5,
    scaling: str = "original",
) -> Update:
    """``torch.optim.Muon``, in the precision of the weights where torch computes in bfloat16."""
    doors.choice("muon: scaling", scaling, ("original", "match_rms_adamw"))
    return Update(
        "muon",
        step,
        momentum,
        dampening=momentum,
        nesterov=nesterov,
        decay=decay,
        decoupled=True,
        epsilon=epsilon,
        coefficients=tuple(float(c) for c in coefficients),
        sweeps=doors.whole("muon: sweeps", sweeps, 1, 99),
        scaling=scaling,
    )


def read(optimiser: torch.optim.Optimizer | Update) -> Update:
    """The rule of a ``torch.optim`` object as it stands: SGD, RMSprop, Adam, AdamW or Muon, its present learning rates.

    Raises:
        BadInput: another optimiser, ``maximize``, or groups of parameters with different hyperparameters: no single
            multiplier belongs to a sector then.
    """
    if isinstance(optimiser, Update):
        return optimiser
    mend = "give a torch.optim object, or stability.optimisers.updates.sgd(…), adam(…), adamw(…), rmsprop(…), muon(…)"
    doors.kind("optimiser", optimiser, torch.optim.Optimizer, mend)
    makers: dict[type, Callable[[dict[str, Any]], Update]] = {
        torch.optim.SGD: _sgd,
        torch.optim.RMSprop: _rmsprop,
        torch.optim.Adam: _adam,
        torch.optim.AdamW: _adamw,
    }
    if hasattr(torch.optim, "Muon"):  # since torch 2.9
        makers[torch.optim.Muon] = _muon
    make = makers.get(type(optimiser))
    if make is None:
        known = ", ".join(kind.__name__ for kind in makers)
        raise BadInput(f"optimiser: {type(optimiser).__name__} is not known; use one of {known}, or rehearse it")
    found = []
    for number, group in enumerate(optimiser.param_groups):
        if group.get("maximize"):
            raise BadInput(f"optimiser: group {number} has maximize=True; give a risk to be minimised")
        found.append(make({k: _plain(v) for k, v in group.items() if k != "params"}))
    for number, other in enumerate(found):
        if other != found[0]:
            raise BadInput(
                f"optimiser: groups 0 and {number} differ ({found[0]}; {other}), and a sector then has no multiplier "
                "of its own; give all parameters the same step and decay"
            )
    return found[0]


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, torch.Tensor) else value


def _sgd(group: dict[str, Any]) -> Update:
    return sgd(
        group["lr"],
        group["momentum"],
        dampening=group["dampening"],
        nesterov=group["nesterov"],
        decay=group["weight_decay"],
    )


def _rmsprop(group: dict[str, Any]) -> Update:
    return rmsprop(
        group["lr"],
        group["alpha"],
        epsilon=group["eps"],
        momentum=group["momentum"],
        centred=group["centered"],
        decay=group["weight_decay"],
    )


def _adam(group: dict[str, Any]) -> Update:
    return adam(
        group["lr"],
        tuple(map(_plain, group["betas"])),
        epsilon=group["eps"],
        decay=group["weight_decay"],
        decoupled=group.get("decoupled_weight_decay", False),
        amsgrad=group["amsgrad"],
    )


def _adamw(group: dict[str, Any]) -> Update:
    return _adam({**group, "decoupled_weight_decay": True})


def _muon(group: dict[str, Any]) -> Update:
    return muon(
        group["lr"],
        group["momentum"],
        nesterov=group["nesterov"],
        decay=group["weight_decay"],
        epsilon=group["eps"],
        coefficients=group["ns_coefficients"],
        sweeps=group["ns_steps"],
        scaling=group["adjust_lr_fn"] or "original",
    )
