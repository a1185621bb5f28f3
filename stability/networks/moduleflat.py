"""Directions that a module's architecture and data tell in advance to be flat: the softmax shift, inputs never seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from stability.groups import Representation
from stability.layers import Layer
from stability.networks.losses import cross_entropy
from stability.networks.modulemodel import Event, ModuleModel
from stability.networks.symmetries import unseen_inputs
from stability.problem.problem import FlatFamily
from stability.problem.space import ParameterSpace, Samples


def flat_families(
    model: ModuleModel,
    space: ParameterSpace,
    events: Sequence[Event],
    prediction: Tensor,
    train: Samples,
    loss: Callable,
) -> tuple[FlatFamily, ...]:
    """Directions that architecture and data tell in advance: the softmax shift, and inputs never seen."""
    index = {layer.name: i for i, layer in enumerate(space.layers)}
    families: list[FlatFamily] = []
    last = events[-2] if len(events) > 1 else None
    softmax = isinstance(loss, nn.CrossEntropyLoss) or loss in (cross_entropy, functional.cross_entropy)
    if softmax and last is not None and last.layer is not None and torch.equal(last.value, prediction):
        rows = prediction.shape[1]
        shift = torch.full((rows, rows), 1 / rows).to(train.x)
        for part in ("weight", "bias"):
            if f"{last.layer.name}.{part}" in index and last.layer.target.channels_last:
                place = index[f"{last.layer.name}.{part}"]
                families.append(FlatFamily(f"softmax shift in {last.layer.name}.{part}", place, shift, None))
    first = events[0]
    if first.layer is not None and f"{first.layer.name}.weight" in index:
        inputs, rho = _first_inputs(model, space.layers[index[f"{first.layer.name}.weight"]], first, train)
        unseen = None if inputs is None else unseen_inputs(inputs, rho)
        if unseen is not None:
            place = index[f"{first.layer.name}.weight"]
            families.append(FlatFamily("inputs unseen on the whole orbit of the data", place, None, unseen))
    return tuple(families)


def _first_inputs(
    model: ModuleModel, layer: Layer, first: Event, train: Samples
) -> tuple[Tensor | None, Representation]:
    """All vectors that the first layer's weights meet: inputs, or patches of inputs."""
    x = train.x.reshape(len(train.x), *model.input_shape)
    same = first.value.shape[1:] == x.shape[1:] and torch.equal(first.value, x[: len(first.value)])
    if first.layer is None or not same:
        return None, layer.source
    module = model.module.get_submodule(first.layer.name)
    if isinstance(module, nn.Linear):
        return x.reshape(-1, x.shape[-1]), layer.source
    if isinstance(module, nn.Conv2d) and module.groups == 1 and isinstance(module.padding, tuple):
        if module.padding_mode != "zeros":
            return None, layer.source
        patches = functional.unfold(x, module.kernel_size, module.dilation, module.padding, module.stride)
        return patches.transpose(1, 2).reshape(-1, patches.shape[1]), layer.source
    return None, layer.source
