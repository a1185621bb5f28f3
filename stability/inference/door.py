"""The problem of a module of which nothing is declared but the group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from stability.base.errors import BadInput
from stability.groups import Group, Representation
from stability.inference.infer import Inference, infer
from stability.networks import modules
from stability.networks.gathering import Data
from stability.problem.problem import Problem


def from_module(
    module: nn.Module,
    loss: Callable,
    data: Data,
    representations: Mapping[str, Any] | Group | Representation | Inference,
    **options: Any,
) -> Problem:
    """The problem of training a torch module, as it is, under a group that acts on its channels and grids.

    Args:
        module, loss, data: as people have them, see :func:`stability.networks.modules.from_module`.
        representations: by layers and parameters; or a group alone, or its representation on a flattened input: then
            the rest is searched by :func:`stability.infer`, whose result may be given too.
        options: those of that function, which override what is found; ``layers``, of a group alone, representations
            of layers that are known.

    Returns:
        the problem; its facts say what was found and how far the weights are from it.

    Raises:
        BadInput: what does not fit; an action that cannot be carried through the network.

    >>> import torch
    >>> from stability.groups import Dihedral
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> problem = from_module(net, nn.CrossEntropyLoss(), (torch.randn(6, 1, 6, 6), torch.arange(6) % 2), Dihedral(4))
    >>> problem.space.dim_equivariant, problem.space.dim
    (26, 50)
    """
    layers = options.pop("layers", None)
    if not isinstance(representations, Group | Representation | Inference):
        if layers is not None:
            raise BadInput("layers: for a group alone; give them among the representations")
        return modules.from_module(module, loss, data, representations, **options)
    found = representations
    if not isinstance(found, Inference):
        found = infer(module, data, found, layers=layers, output=options.get("output"))
    told = [("inferred", f"{one.name}: {one.source} → {one.guess}") for one in found.layers]
    options["facts"] = [*told, *options.get("facts", ())]
    return modules.from_module(module, loss, data, **{**found.arguments(), **options})
