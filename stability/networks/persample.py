"""From a loss as people have it, a mean over a batch or a module of torch.nn, to one number a sample.

The risk is Σ_s w_s ℓ_s, so a loss must be a mean of what its samples give alone: that is measured, on samples whose
targets differ, before it is believed.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from stability.base import doors
from stability.base.errors import BadInput
from stability.problem.space import Samples

Losses = Callable[[Tensor, Tensor], Tensor]
# Samples that a loss is tried on, and distinct targets that must be among them.
SPREAD, DISTINCT = 48, 16
ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4}
CLASSES = (nn.CrossEntropyLoss, nn.NLLLoss)


def probing(y: Tensor) -> Tensor:
    """Numbers of samples to try a loss on: spread over all of them, with distinct targets.

    Where all targets are alike, (n) against (n, 1) broadcast to the right number by chance.
    """
    even = torch.linspace(0, len(y) - 1, min(SPREAD, len(y)), dtype=torch.float64).round().long()
    rows = y.reshape(len(y), -1)[:100_000]
    _, inverse = torch.unique(rows, dim=0, return_inverse=True)
    first = torch.full((int(inverse.max()) + 1,), len(y), dtype=torch.long)
    first = first.scatter_reduce(0, inverse, torch.arange(len(rows)), "amin")[:DISTINCT]
    return torch.unique(torch.cat([even, first]))


def per_sample(loss: Callable, prediction: Tensor, y: Tensor, every: Tensor | None = None) -> Losses:
    """A loss that gives one number a sample, from one that may average over the batch.

    Modules with a ``reduction`` are asked for "none"; a function that returns one number for a batch is called sample
    by sample, once it is seen that its value is the mean of those.

    Args:
        loss: as the user has it.
        prediction, y: of samples to try it on.
        every: all targets.

    Raises:
        BadInput: a loss that is no mean over samples, or that cannot take these predictions and targets.
    """
    doors.call("loss", loss, "give a function of (predictions, targets) or a loss of torch.nn, such as nn.MSELoss()")
    if isinstance(loss, nn.Module):
        loss = copy.deepcopy(loss).to(prediction.dtype)
        if hasattr(loss, "reduction"):
            loss = _unreduced(loss, y if every is None else every)
    value = _tried(loss, prediction, y)
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise BadInput(f"loss: it gives {doors.shown(value)}; it must give real numbers")
    if value.ndim == 1 and len(value) == len(prediction):
        alone = torch.stack([_tried(loss, prediction[i : i + 1], y[i : i + 1]).reshape(-1) for i in range(len(value))])
        if alone.shape != (len(value), 1) or not _agree(alone[:, 0], value):
            raise _mixes(prediction, y)
        return loss
    if value.ndim != 0:
        raise BadInput(
            f"loss: for {len(prediction)} samples it gives shape {tuple(value.shape)}; it must give one number a "
            "sample or their mean"
        )

    def one(p: Tensor, t: Tensor) -> Tensor:
        return loss(p.unsqueeze(0), t.unsqueeze(0))

    def sample_by_sample(p: Tensor, t: Tensor) -> Tensor:
        return vmap(one)(p, t)

    each = _tried(sample_by_sample, prediction, y)
    # A sum over the batch is refused here, and so are targets broadcast against predictions.
    if each.shape != (len(prediction),) or not _agree(each.mean(), value, float(each.abs().max())):
        gap = float((each.mean() - value).abs())
        raise BadInput(
            f"loss: its value for a batch differs from the mean over samples by {gap:.2e}, with predictions of shape "
            f"{tuple(prediction.shape)} and targets of shape {tuple(y.shape)}; give a loss with one number a sample"
        )
    return sample_by_sample


def _agree(found: Tensor, expected: Tensor, scale: float | None = None) -> bool:
    size = float(expected.abs().max()) if scale is None else scale
    return bool(((found - expected).abs() <= ROUNDING.get(found.dtype, 1e-4) * size).all()) or torch.equal(
        found, expected
    )


def _mixes(prediction: Tensor, y: Tensor) -> BadInput:
    return BadInput(
        "loss: a sample's value changes with the rest of the batch, perhaps because targets of shape "
        f"{tuple(y.shape)} are broadcast against predictions of shape {tuple(prediction.shape)}; reshape the targets"
    )


def _tried(loss: Callable, prediction: Tensor, y: Tensor) -> Tensor:
    """A loss's value, with what it raises told in one line, and torch's warning about broadcast targets heeded."""
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            value = loss(prediction, y)
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(
            f"loss: it cannot take predictions of shape {tuple(prediction.shape)} and targets of shape "
            f"{tuple(y.shape)}, {str(y.dtype).removeprefix('torch.')} ({doors.reason(error)}); {_mend(prediction, y)}"
        ) from error
    if any("Using a target size" in str(one.message) for one in said):
        raise _mixes(prediction, y)
    return value


def _mend(prediction: Tensor, y: Tensor) -> str:
    classes = y.ndim == prediction.ndim - 1
    if classes and y.is_floating_point():
        return "labels of classes are integers, as y.long() makes them"
    if not y.is_floating_point() and y.shape == prediction.shape:
        return "targets of a regression are floats, as y.double() makes them"
    return "give targets that the loss takes, or a function of (predictions, targets) with one number a sample"


def _unreduced(loss: Any, every: Tensor) -> Losses:
    """The module's losses sample by sample: means over a sample's own numbers, where the module takes means."""
    mean = loss.reduction == "mean"
    if loss.reduction == "sum":
        raise BadInput(
            "loss: reduction='sum' adds the samples up, while R is their mean with weight decay beside; use "
            "reduction='mean' (and divide the decay by the number of samples)"
        )
    if mean and isinstance(loss, CLASSES) and loss.weight is not None:
        raise BadInput(
            "loss: class weights with reduction='mean' divide by the weights in the batch, so the risk is no mean "
            "over samples; leave them out, and weight the samples by data=(x, y, weights)"
        )
    if isinstance(loss, CLASSES) and (left := int((every == loss.ignore_index).sum())):
        raise BadInput(
            f"loss: {left} targets are ignore_index={loss.ignore_index}, and the "
            "risk divides by the number of the others; leave those samples out of the data"
        )
    kind = loss.reduction
    loss.reduction = "none"

    def reduced(p: Tensor, t: Tensor) -> Tensor:
        value = loss(p, t)
        if value.ndim < 2:
            return value
        if kind == "none":
            raise BadInput(
                f"loss: reduction='none' gives shape {tuple(value.shape)} for {len(value)} samples; give "
                "reduction='mean', or a function with one number a sample"
            )
        return value.flatten(1).mean(1) if mean else value.flatten(1).sum(1)

    return reduced


def takes_all(name: str, losses: Losses, predict: Callable[[Tensor], Tensor], data: Samples, chunk: int = 1024) -> None:
    """Raise BadInput unless every sample has a finite loss: labels out of range lie anywhere in the data."""
    with torch.no_grad():
        for number, part in enumerate(data.chunks(chunk)):
            prediction = predict(part.x)
            value = _tried(losses, prediction, part.y)
            bad = (~torch.isfinite(value)).nonzero().flatten()
            if len(bad):
                raise BadInput(
                    f"{name}: the loss of {len(bad)} samples is not finite, first of sample "
                    f"{number * chunk + int(bad[0])}; look at its input and target"
                )
