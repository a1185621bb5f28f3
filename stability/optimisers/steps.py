"""One step of an update rule as a pure function, (A, g, state) ↦ (A', state'), with the arithmetic of ``torch.optim``.

Pure, so that the whole of it, state included, has a derivative: that is what a rehearsal pushes along.

>>> import torch
>>> from stability.optimisers.updates import sgd
>>> at, state = torch.ones(2, dtype=torch.float64), rest(torch.ones(2, dtype=torch.float64))
>>> for _ in range(2):  # the second step goes on with 0.9 of the first
...     at, state = advance(sgd(0.1, 0.9), at, torch.ones(2, dtype=torch.float64), state)
>>> [round(float(a), 12) for a in at]
[0.71, 0.71]
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from stability.base.errors import BadInput
from stability.optimisers.updates import Update
from stability.problem.space import ParameterSpace

# torch.optim's names of what a state holds ↦ ours.
HELD = {
    "momentum_buffer": "first",
    "exp_avg": "first",
    "exp_avg_sq": "second",
    "square_avg": "second",
    "grad_avg": "mean",
    "max_exp_avg_sq": "most",
}


class State(NamedTuple):
    """What an optimiser remembers, each part of the shape of A; zeros where a rule keeps none.

    Attributes:
        count: steps taken.
        first: momentum buffer or first moment.
        second: second moment v.
        mean: running mean of gradients, of a centred rmsprop.
        most: the largest v so far, of amsgrad.
    """

    count: int
    first: Tensor
    second: Tensor
    mean: Tensor
    most: Tensor


def rest(at: Tensor) -> State:
    """The state before the first step."""
    return State(0, *(torch.zeros_like(at) for _ in range(4)))


def root(v: Tensor) -> Tensor:
    """√v, with derivative zero where v = 0: a weight that has never seen a gradient."""
    seen = v > 0
    return torch.where(seen, v, 1.0).sqrt() * seen


def denominator(update: Update, state: State) -> Tensor:
    """√v̂ + ε after the step that led to ``state``: what gradients are divided by, weight by weight."""
    if update.rule == "rmsprop":
        v = state.second - state.mean * state.mean if update.centred else state.second
        return root(v) + update.epsilon
    v = state.most if update.amsgrad else state.second
    return root(v) / (1 - update.second ** max(state.count, 1)) ** 0.5 + update.epsilon


def advance(
    update: Update, at: Tensor, gradient: Tensor, state: State, space: ParameterSpace | None = None
) -> tuple[Tensor, State]:
    """A and the state after one step.

    Args:
        update: the rule.
        at: A, (dim L).
        gradient: of the risk at A.
        state: before the step.
        space: where the matrices lie in A, for muon.
    """
    count = state.count + 1
    if update.decay and update.decoupled:
        at = at * update.shrink
    elif update.decay:
        gradient = gradient.add(at, alpha=update.decay)
    if update.rule == "sgd":
        return _sgd(update, at, gradient, state._replace(count=count))
    if update.rule == "muon":
        return _muon(update, at, gradient, state._replace(count=count), space)
    second = (state.second * update.second).addcmul(gradient, gradient, value=1 - update.second)
    if update.rule == "rmsprop":
        mean = state.mean.lerp(gradient, 1 - update.second) if update.centred else state.mean
        state = State(count, state.first, second, mean, state.most)
        below = denominator(update, state)
        if not update.momentum:
            return at.addcdiv(gradient, below, value=-update.step), state
        first = (state.first * update.momentum).addcdiv(gradient, below)
        return at.add(first, alpha=-update.step), state._replace(first=first)
    first = state.first.lerp(gradient, 1 - update.momentum)
    most = torch.maximum(state.most, second) if update.amsgrad else state.most
    state = State(count, first, second, state.mean, most)
    step = update.step / (1 - update.momentum**count)
    return at.addcdiv(first, denominator(update, state), value=-step), state


def _sgd(update: Update, at: Tensor, gradient: Tensor, state: State) -> tuple[Tensor, State]:
    if not update.momentum:
        return at.add(gradient, alpha=-update.step), state
    if state.count == 1:  # torch starts from the gradient itself, without dampening
        first = gradient + 0.0 * state.first
    else:
        first = (state.first * update.momentum).add(gradient, alpha=1 - update.dampening)
    way = gradient.add(first, alpha=update.momentum) if update.nesterov else first
    return at.add(way, alpha=-update.step), state._replace(first=first)


def _muon(
    update: Update, at: Tensor, gradient: Tensor, state: State, space: ParameterSpace | None
) -> tuple[Tensor, State]:
    if space is None:
        raise BadInput("muon: it turns matrices; give the space that says which weights form one")
    first = state.first.lerp(gradient, 1 - update.momentum)
    way = gradient.lerp(first, update.momentum) if update.nesterov else first
    parts = []
    for weight in space.split(way):
        rows, columns = weight.shape
        wide = 0.2 * math.sqrt(max(rows, columns))
        factor = wide if update.scaling == "match_rms_adamw" else math.sqrt(max(1, rows / columns))
        parts.append(factor * orthogonalised(update, weight))
    return at.add(space.join(parts), alpha=-update.step), state._replace(first=first)


def orthogonalised(update: Update, weight: Tensor) -> Tensor:
    """The orthogonal factor of a matrix, roughly, by Newton and Schulz's quintic iteration."""
    a, b, c = update.coefficients
    tall = weight.shape[0] > weight.shape[1]
    x = weight.mT if tall else weight
    x = x / x.norm().clamp(min=update.epsilon)
    for _ in range(update.sweeps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def state_of(
    optimiser: torch.optim.Optimizer, parameters: Mapping[str, Tensor], names: Sequence[str], like: Tensor
) -> State:
    """What a ``torch.optim`` object remembers, in the order of the flat vector.

    Args:
        optimiser: after at least one step.
        parameters: the module's ``dict(module.named_parameters())``.
        names: of the tensors in the order of the flat vector, ``[layer.name for layer in problem.space.layers]``.
        like: a flat vector of L.

    Raises:
        BadInput: a parameter that the optimiser does not know, or that has no state yet.
    """
    gathered: dict[str, list[Tensor]] = {}
    counts: set[int] = set()
    for name in names:
        held = optimiser.state.get(parameters.get(name)) if name in parameters else None
        if not held:
            raise BadInput(f"optimiser: no state for {name!r}; give the module it trains, after its first step")
        counts.add(int(held.get("step", 1)))
        for key, ours in HELD.items():
            if held.get(key) is not None:
                gathered.setdefault(ours, []).append(held[key].detach().reshape(-1).to(like))
    if len(counts) > 1:
        raise BadInput(f"optimiser: parameters have taken {sorted(counts)} steps; give one that moves all of them")
    found = {ours: _whole(parts, like) for ours, parts in gathered.items()}
    return rest(like)._replace(count=counts.pop(), **found)


def _whole(parts: Iterable[Tensor], like: Tensor) -> Tensor:
    flat = torch.cat(list(parts))
    if flat.shape != like.shape:
        raise BadInput(f"optimiser: its state has {len(flat):,} numbers, the weights {len(like):,}; give all of them")
    return flat
