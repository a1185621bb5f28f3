"""From a loss as people have it, a mean over a batch or a module of torch.nn, to one number a sample.

The risk is Σ_s w_s ℓ_s, so a loss must be a mean, or a sum, of what its samples give alone: that is measured, on
samples whose targets differ, before it is believed.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from stability.base import doors
from stability.base.errors import BadInput
from stability.problem.space import Samples

Losses = Callable[[Tensor, Tensor], Tensor]
# Packed predictions and targets ↦ what a loss is given.
Apart = Callable[[Tensor, Tensor], tuple[Any, Any]]
SUMMED = "it adds samples up: R is the sum over all {}"
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


@dataclass(frozen=True)
class PerSample:
    """ℓ sample by sample, (predictions, targets) ↦ (n).

    Attributes:
        losses: the function.
        told: what the risk is where it is no plain mean over samples; empty where it is one.
    """

    losses: Losses
    told: str = ""

    def __call__(self, prediction: Tensor, y: Tensor) -> Tensor:
        """ℓ of each sample."""
        return self.losses(prediction, y)


def per_sample(
    loss: Callable, prediction: Tensor, y: Tensor, every: Tensor | None = None, apart: Apart | None = None
) -> PerSample:
    """A loss that gives one number a sample, from one that may average over the batch or add it up.

    Modules with a ``reduction`` are asked for "none"; a function that returns one number for a batch is called sample
    by sample, once it is seen that its value is the mean, or the sum, of those. Of a sum R is that over all samples; of
    class weights and labels to ignore it is divided by the sum of weights of all samples, as for one batch of them.

    Args:
        loss: as the user has it.
        prediction, y: of samples to try it on.
        every: all targets.
        apart: what the loss is given, from packed predictions and targets; None where that is these themselves.

    Raises:
        BadInput: a loss that is no mean over samples, or that cannot take these predictions and targets.
    """
    doors.call("loss", loss, "give a function of (predictions, targets) or a loss of torch.nn, such as nn.MSELoss()")
    every, told = y if every is None else every, ""
    if isinstance(loss, nn.Module):
        loss = copy.deepcopy(loss).to(prediction.dtype)
        if hasattr(loss, "reduction"):
            loss, told = _unreduced(loss, every)
    if apart is not None:
        loss = _apart(loss, apart)
    value = _tried(loss, prediction, y)
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise BadInput(f"loss: it gives {doors.shown(value)}; it must give real numbers")
    if value.ndim == 1 and len(value) == len(prediction):
        alone = torch.stack([_tried(loss, prediction[i : i + 1], y[i : i + 1]).reshape(-1) for i in range(len(value))])
        if alone.shape != (len(value), 1) or not _agree(alone[:, 0], value):
            raise _mixes(prediction, y)
        return PerSample(loss, told)
    if value.ndim != 0:
        raise BadInput(
            f"loss: for {len(prediction)} samples it gives shape {tuple(value.shape)}; it must give one number a "
            "sample or their mean, as lambda p, y: loss(p, y).flatten(1).mean(1) does"
        )
    single = _one_by_one(loss, prediction, y)
    each = _tried(single, prediction, y)
    # Targets broadcast against predictions are refused here.
    scale = float(each.abs().max())
    if each.shape == (len(prediction),) and _agree(each.mean(), value, scale):
        return PerSample(single, told)
    if each.shape == (len(prediction),) and _agree(each.sum(), value, scale * len(each)):
        return PerSample(_scaled(single, float(len(every))), SUMMED.format(len(every)))
    gap = float((each.mean() - value).abs())
    raise BadInput(
        f"loss: its value for a batch differs from the mean over samples by {gap:.2e}, with predictions of shape "
        f"{tuple(prediction.shape)} and targets of shape {tuple(y.shape)}; give a loss with one number a sample"
    )


def _one_by_one(loss: Callable, prediction: Tensor, y: Tensor) -> Losses:
    """The loss of batches of one sample: all at once, or one after the other where it looks at its values."""

    def one(p: Tensor, t: Tensor) -> Tensor:
        return loss(p.unsqueeze(0), t.unsqueeze(0))

    def sample_by_sample(p: Tensor, t: Tensor) -> Tensor:
        return vmap(one)(p, t)

    def in_turn(p: Tensor, t: Tensor) -> Tensor:
        return torch.stack([loss(p[i : i + 1], t[i : i + 1]) for i in range(len(p))])

    try:
        sample_by_sample(prediction[:2], y[:2])
    except RuntimeError as error:
        return in_turn if "vmap" in str(error) else sample_by_sample
    except Exception:  # what the loss itself raises is told when it is tried
        return sample_by_sample
    return sample_by_sample


def _scaled(losses: Losses, factor: float) -> Losses:
    return lambda p, t: factor * losses(p, t)


def _apart(loss: Callable, apart: Apart) -> Losses:
    return lambda p, t: loss(*apart(p, t))


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


def _unreduced(loss: Any, every: Tensor) -> tuple[Losses, str]:
    """The module's losses sample by sample: means over a sample's own numbers, where the module takes means."""
    kind, count = loss.reduction, len(every)
    weighing, told = _weighing(loss, every) if kind == "mean" else (None, "")
    loss.reduction = "none"

    def reduced(p: Tensor, t: Tensor) -> Tensor:
        value = loss(p, t)
        if value.ndim >= 2 and kind == "none":
            raise BadInput(
                f"loss: reduction='none' gives shape {tuple(value.shape)} for {len(value)} samples; give "
                "reduction='mean', or a function with one number a sample"
            )
        rows = value.flatten(1) if value.ndim >= 2 else value.unsqueeze(1) if value.ndim else value.reshape(1, 1)
        if kind != "mean":
            return rows.sum(1) * (count if kind == "sum" else 1)
        return rows.mean(1) if weighing is None else rows.sum(1) / weighing

    return reduced, SUMMED.format(count) if kind == "sum" else told


def _weighing(loss: Any, every: Tensor) -> tuple[float | None, str]:
    """By what torch divides the sum over all samples, per sample, where that is not their numbers; and in words."""
    if not isinstance(loss, CLASSES) or every.is_floating_point():
        return None, ""
    ignored = every == loss.ignore_index
    if loss.weight is None and not bool(ignored.any()):
        return None, ""
    weights = torch.ones_like(every, dtype=torch.float64)
    if loss.weight is not None:
        labels = every.clamp(0, len(loss.weight) - 1).long()
        weights = loss.weight.detach().double()[labels]
    total = float(weights.masked_fill(ignored, 0.0).sum())
    if not total > 0:
        raise BadInput(f"loss: every target is ignore_index={loss.ignore_index} or of weight zero; give others")
    what = "class weights" if loss.weight is not None else f"{int(ignored.sum())} targets to ignore"
    return total / len(every), f"{what}: R is divided by the weights of all samples, {total:.6g}, as in one batch"


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
