"""What a risk depends on beside its weights, and how it travels with them: running statistics, frozen parameters.

A point in a ``state_dict``, a module, a checkpoint, an outcome or a stationary point brings its own; coordinates and
flat weights stand for those of the problem. Nothing is kept in a module between two points.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from stability.base.doors import dense, exact
from stability.base.errors import BadInput
from stability.problem.problem import Problem


def held_tensors(problem: Problem) -> dict[str, Tensor]:
    """Buffers and parameters held fixed, by their names in a ``state_dict``."""
    return {} if problem.held is None else dict(problem.held.tensors)


def all_names(problem: Problem, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under all their names, tied ones too: what ``load_state_dict`` asks for."""
    if problem.held is None:
        return dict(tensors)
    return {**tensors, **{k: tensors[first] for k, first in problem.held.ties.items() if first in tensors}}


def untied(problem: Problem, state: Mapping[str, Any]) -> dict[str, Any]:
    """A state with every tied tensor under the name that the problem knows it by.

    Raises:
        BadInput: one tensor with two values under two names.
    """
    state = dict(state)
    for other, first in problem.held.ties.items() if problem.held else ():
        if other not in state:
            continue
        value = dense(f"{problem.name}: {other}", state.pop(other))
        if first not in state:
            state[first] = value
            continue
        known = dense(f"{problem.name}: {first}", state[first])
        if known.shape != value.shape or not torch.equal(known, value):
            gap = f"by {float((known - value).abs().max()):.2e}" if known.shape == value.shape else "in shape"
            raise BadInput(
                f"{problem.name}: {other} is tied to {first} in the module, but in what is given they differ {gap}; "
                "give the weights of a module that ties them"
            )
    return state


def holding(problem: Problem, state: Mapping[str, Any], complete: bool = False) -> Problem:
    """The same problem with the buffers and the parameters held fixed that a state has (running statistics, …).

    Args:
        problem: what is held is replaced, never changed in place.
        state: tensors by name; names that the problem does not hold are left alone.
        complete: whether it must have all that the risk depends on.

    Raises:
        BadInput: one of another shape or kind, or one that is missing.
    """
    held = problem.held
    if held is None:
        return problem
    missing = [key for key in held.tensors if key in held.needed and key not in state]
    if complete and missing:
        raise BadInput(
            f"{problem.name}: the weights come without {', '.join(missing[:4])}{' …' if len(missing) > 4 else ''}, on "
            "which the network depends too; give the whole state_dict(), or add dict(module.named_buffers())"
        )
    fresh = {}
    for key, value in held.tensors.items():
        if key in state:
            found = _as(f"{problem.name}: {key}", dense(f"{problem.name}: {key}", state[key]), value)
            if not _same(found, value):
                fresh[key] = found.clone()
    return held.rebuilt({**held.tensors, **fresh}) if fresh else problem


def _as(what: str, found: Tensor, like: Tensor) -> Tensor:
    if found.shape != like.shape:
        raise BadInput(f"{what} has shape {tuple(found.shape)}, not {tuple(like.shape)}")
    if (
        found.is_complex() == like.is_complex()
        and not like.is_floating_point()
        and not torch.equal(found.to(like.dtype).to(found.dtype), found)
    ):
        raise BadInput(f"{what} has values that {like.dtype} does not hold; give them in that type")
    found = exact(what, found, like.dtype).to(like.device)
    lost = int((torch.isnan(found) & ~torch.isnan(like)).sum()) if like.is_floating_point() else 0
    if lost:
        raise BadInput(f"{what} holds {lost} values that are not numbers; repair it")
    return found


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a, b) or bool(((a == b) | (torch.isnan(a) & torch.isnan(b))).all())
