"""Weight decay as people have it: one number, one for each layer or parameter, or the optimiser that applies it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stability.base import doors
from stability.base.errors import BadInput
from stability.problem.space import ParameterSpace

Decay = float | Mapping[str, float] | torch.optim.Optimizer
DECOUPLED = "AdamW"


def decay_of(
    name: str, given: Any, module: nn.Module, space: ParameterSpace
) -> tuple[float, Tensor | None, list[tuple[str, str]]]:
    """μ where all parameters studied have the same, else μ of every weight (dim L) and zero; and what is to be told.

    Args:
        name: of the network, for messages.
        given: a number; numbers by names of layers or parameters, the others zero; or an optimiser.
        module: the one that the optimiser was given the parameters of.
        space: the parameters studied.

    Raises:
        BadInput: a negative number, a name that the module does not have, an optimiser of other parameters.
    """
    told = []
    if isinstance(given, torch.optim.Optimizer):
        by_name, kind = _of_groups(name, given, module), type(given).__name__
        decoupled = ", decoupled from its preconditioner there, of the risk here" if kind.startswith(DECOUPLED) else ""
        told.append(("decay", f"that of {kind}{decoupled}"))
    elif isinstance(given, Mapping):
        by_name = _of_names(name, given, module)
    else:
        return doors.number("weight_decay", given), None, []
    rates = [by_name.get(layer.name, 0.0) for layer in space.layers]
    if len(set(rates)) == 1:
        return rates[0], None, told
    words = ", ".join(f"{rate:g} on {layer.name}" for rate, layer in zip(rates, space.layers, strict=True))
    every = [
        torch.full((layer.dim,), rate, dtype=torch.float64) for rate, layer in zip(rates, space.layers, strict=True)
    ]
    return 0.0, torch.cat(every), [*told, ("decay by parameter", words)]


def _of_names(name: str, given: Mapping, module: nn.Module) -> dict[str, float]:
    parameters, modules = dict(module.named_parameters()), dict(module.named_modules())
    found: dict[str, float] = {}
    for key, rate in given.items():
        rate = doors.number(f"weight_decay: {key}", rate)
        if key in parameters:
            found[key] = rate
        elif key in modules:
            found |= {f"{key}.{k}" if key else k: rate for k, _ in modules[key].named_parameters()}
        else:
            raise BadInput(f"{name}: weight_decay: there is no {key!r}; it has {', '.join(list(parameters)[:6])}")
    return found


def _of_groups(name: str, optimiser: torch.optim.Optimizer, module: nn.Module) -> dict[str, float]:
    names = {id(p): key for key, p in module.named_parameters()}
    found = {}
    for group in optimiser.param_groups:
        for p in group["params"]:
            if id(p) in names:
                found[names[id(p)]] = doors.number("weight_decay", group.get("weight_decay", 0.0))
    if not found:
        raise BadInput(
            f"{name}: the optimiser holds none of the module's parameters; give one made of module.parameters()"
        )
    return found
