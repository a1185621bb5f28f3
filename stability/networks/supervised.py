"""The problem of training a network on labelled data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from stability.base import doors
from stability.base.errors import BadInput
from stability.groups import Element
from stability.networks.classifier import Classifier
from stability.networks.losses import cross_entropy
from stability.networks.network import random_start
from stability.networks.nonlinearities import Pointwise, parts_of
from stability.networks.persample import per_sample, probing, takes_all
from stability.networks.symmetries import check_assumptions, exchange_directions, known_flat_families
from stability.problem.problem import Problem
from stability.problem.space import Samples


def checked(name: str, model: Classifier, data: Samples) -> Samples:
    """The same samples in one precision, the widest among them.

    Raises:
        BadInput: numbers that are not finite, inputs of another width than X_0, weights that are negative or do not
            sum to one, targets that the loss cannot take.
    """
    parts = tuple(doors.kind(f"{name}: data", data, tuple, "give stability.Samples(x, y, weight)"))
    if len(parts) != 3:
        raise BadInput(f"{name}: data of {len(parts)} parts; give stability.Samples(x, y, weight)")
    x, y, weight = (doors.dense(f"{name}: {k}", v) for k, v in zip(Samples._fields, parts, strict=True))
    if x.ndim != 2 or x.shape[1] != model.input.dim:
        raise BadInput(f"{name}: inputs have shape {tuple(x.shape)}; X_0 needs (samples, {model.input.dim})")
    if not y.ndim or weight.ndim != 1 or not len(x) or not len(x) == len(y) == len(weight):
        shapes = f"{len(x)} inputs, targets of shape {tuple(y.shape)}, weights of shape {tuple(weight.shape)}"
        raise BadInput(f"{name}: {shapes}; give one of each a sample, and at least one")
    for what, values in (("input", x), ("target", y), ("weight", weight)):
        bad = int((~torch.isfinite(values)).sum())
        if bad:
            raise BadInput(f"{name}: {bad} {what} values are not finite; clean the data")
    weight = doors.exact(f"{name}: weights", weight, torch.promote_types(weight.dtype, torch.float32))
    total = float(weight.double().sum())
    if float(weight.min()) < 0 or abs(total - 1) > 1e-6:
        raise BadInput(
            f"{name}: weights sum to {total:.6g}, least {float(weight.min()):.3g}; give weights ≥ 0 of sum one"
        )
    if model.loss is cross_entropy and model.output.dim < 2:
        raise BadInput(f"{name}: cross_entropy on {model.output.dim} logit is constant; use logistic, or more classes")
    dtype = torch.promote_types(doors.floating(x.dtype), weight.dtype)
    if y.is_floating_point():
        dtype = torch.promote_types(dtype, y.dtype)
    x, weight = doors.exact(f"{name}: inputs", x, dtype), weight.to(dtype)
    if y.is_floating_point() or y.is_complex():
        y = doors.exact(f"{name}: targets", y, dtype)
    elif y.dtype != torch.bool:
        y = y.long()
    _suits(name, model, Samples(x, y, weight))
    return Samples(x, y, weight)


def _suits(name: str, model: Classifier, data: Samples) -> None:
    """Raise BadInput unless the loss gives a number for every sample, whatever the others are."""
    x, y = data.x, data.y
    tried = probing(y)
    generator = torch.Generator().manual_seed(0)
    some = torch.randn(len(tried), model.output.dim, generator=generator, dtype=torch.float64).to(x)
    try:
        two = model.losses(some[:2], y[tried][:2])
        if isinstance(two, Tensor) and two.shape != (len(some[:2]),):
            raise BadInput(
                f"loss: for two samples it gives shape {tuple(two.shape)}, with predictions (2, {model.output.dim}) "
                f"and targets of shape {tuple(y.shape)}; it must give one number a sample, so reshape the targets"
            )
        per_sample(model.losses, some, y[tried], y)
    except BadInput as error:
        raise BadInput(f"{name}: the {error}") from error
    except Exception as error:
        raise BadInput(
            f"{name}: the loss cannot take targets of shape {tuple(y.shape)} ({doors.reason(error)}); reshape them"
        ) from error
    takes_all(name, model.losses, lambda part: part.new_zeros(len(part), model.output.dim), data)
    classes = y.ndim == 1 and model.output.dim > 1
    if model.decides and classes and (y.is_floating_point() or int(y.min()) < 0 or int(y.max()) >= model.output.dim):
        raise BadInput(
            f"{name}: decides=True counts right classes, but targets are no labels from 0 to {model.output.dim - 1}; "
            "give decides=False"
        )
    if model.decides and not classes and y[:1].numel() != model.output.dim:
        raise BadInput(
            f"{name}: decides=True compares {model.output.dim} logits with targets of shape {tuple(y.shape[1:])}; give "
            "decides=False"
        )


def supervised(
    name: str,
    model: Classifier,
    train: Samples,
    test: Samples | None = None,
    weight_decay: float = 0.0,
    facts: Sequence[tuple[str, str]] = (),
) -> Problem:
    """The problem of fitting ``model`` to ``train``: risk, action on data, start, metrics, flat directions.

    Raises:
        BadInput: data that do not fit; see :func:`checked`.
    """
    doors.text("name", name)
    doors.kind("model", model, Classifier, "give stability.Classifier(network, loss)")
    weight_decay, facts = doors.number("weight_decay", weight_decay), doors.facts(list(facts))
    network = model.network
    train = checked(name, model, train)
    test = None if test is None else checked(name, model, test)

    def loss(parameters: Tensor, samples: Samples) -> Tensor:
        return samples.weight @ model.losses(model.predict(parameters, samples.x), samples.y)

    def transform(g: Element, samples: Samples) -> Samples:
        return Samples(model.input.act(g, samples.x), model.move_target(g, samples.y), samples.weight)

    def metric(predict: Callable[[Tensor], Tensor], which: str) -> dict[str, float]:
        data = test if which == "test" else train
        if data is None:
            return {}
        with torch.no_grad():
            if which == "constant":
                prediction = model.constant(train.y).to(data.x).expand(len(data.x), -1)
            else:
                prediction = predict(data.x)
            scores = {"loss": float(data.weight @ model.losses(prediction, data.y))}
            if model.decides:
                scores = {"accuracy": float(data.weight @ model.hits(prediction, data.y)), **scores}
            return scores

    has_kink = any(isinstance(p, Pointwise) and p.kinked for s in network.nonlinearities for p in parts_of(s))
    return Problem(
        name=name,
        space=network.space,
        samples=train,
        loss=loss,
        weight_decay=weight_decay,
        transform=transform,
        model=model,
        flat=known_flat_families(model, train.x),
        exchanges=lambda a: exchange_directions(network, a, weight_decay),
        initial=lambda seed: random_start(network, seed).to(train.x),
        metric=metric,
        assumptions=lambda seed: check_assumptions(model, train, seed),
        kink_margin=(lambda a: network.kink_margin(a, train.x)) if has_kink else None,
        facts=(("network", network.describe()), *facts),
    )
