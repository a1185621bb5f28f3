"""Problems from any differentiable risk on named tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stability.base import doors
from stability.base.errors import BadInput
from stability.groups import Element, Group
from stability.networks.differentiable import twice_differentiable
from stability.problem.problem import Problem
from stability.problem.space import ParameterSpace, Samples
from stability.problem.tensors import (
    TOLERANCE,
    Spec,
    Tensors,
    element,
    layer_spaces,
    measured_representations,
    pack,
    parameter,
    some_equivariant,
    starts,
    unpack,
)

# Beyond so many elements a bare risk is not averaged over moved weights: each costs a whole evaluation.
BARE_ORDER = 200


def from_risk(
    risk: Callable[..., Tensor],
    tensors: Mapping[str, Tensor],
    representations: Mapping[str, Spec],
    *,
    name: str = "risk",
    samples: Samples | None = None,
    transform: Callable[[Element, Samples], Samples] | None = None,
    moved: Callable[[Element, Tensors], Tensor] | None = None,
    weight_decay: float = 0.0,
    facts: Sequence[tuple[str, str]] = (),
) -> Problem:
    """The problem of a differentiable risk on named tensors.

    R^aug(A) = ∫R(ρ̄(g)A)dμ, the average over moved *weights*. It is the risk on moved *data* where R(ρ̄(g)A; g·data) =
    R(A; data) for every A (Lemma 4), which holds for equivariant architectures under their own ρ and can be measured
    only where it is said how the data move: by ``samples`` and ``transform``, or, for a risk that closes over its data,
    by ``moved``. Without either the problem's facts say that it was not measured.

    Args:
        risk: tensors by name ↦ R, a single number; with ``samples``, (tensors, samples) ↦ Σ_s w_s ℓ_s.
        tensors: where the first start is; their shapes count. float32 alone is computed in float32, all else in
            float64; a complex tensor is pairs of real numbers, real and imaginary part of every entry.
        representations: for each tensor a representation on its flattened entries, or a pair (ρ_in, ρ_out) for a
            linear map with ρ̄(g)W = ρ_out(g) W ρ_in(g)⁻¹, whose first axis has dim ρ_out.
        name: what reports print.
        samples: data, if the risk is a sum over samples.
        transform: (g, samples) ↦ samples moved by g, asked for with samples.
        moved: (g, tensors) ↦ R on data moved by g, for a risk without samples.
        weight_decay: μ in μ/2‖A‖², added to the risk.
        facts: lines of a report's first screen.

    Returns:
        a problem whose start with seed 0 is the given tensors, projected onto E.

    Raises:
        BadInput: a tensor without representation, shapes that do not fit, a risk that is no number, is not finite, or
            cannot be differentiated twice.
    """
    _known(risk, tensors, representations, name, samples, transform, moved)
    weight_decay, facts = doors.number("weight_decay", weight_decay), doors.facts(facts)
    values = {key: doors.dense(f"{name}: {key}", value) for key, value in tensors.items()}
    space, given = _packed(name, values, representations)
    if samples is None:
        whole, action, samples, assumptions = _bare(risk, space, given, moved)
    else:
        whole, action, samples, assumptions = _summed(name, risk, space, given, samples, transform)
    twice_differentiable(name, lambda a: whole(a, samples), given)
    meaning = _meaning(space, whole, samples, given) if transform is None and moved is None else ""
    return Problem(
        name=name,
        space=space,
        samples=samples,
        loss=whole,
        weight_decay=weight_decay,
        transform=action,
        initial=starts(space, given),
        assumptions=assumptions,
        facts=(*_told(values, given.dtype, meaning), *facts),
    )


def _packed(
    name: str, values: Mapping[str, Tensor], representations: Mapping[str, Spec]
) -> tuple[ParameterSpace, Tensor]:
    """L with its action, and the tensors as a vector in it.

    Raises:
        BadInput: a representation of another dimension, E = {0}.
    """
    space = ParameterSpace(
        tuple(parameter(key, t.shape, representations[key], t.is_complex()) for key, t in values.items())
    )
    some_equivariant(name, space)
    return space, pack(space, values, name)


def _told(values: Mapping[str, Tensor], dtype: torch.dtype, meaning: str) -> list[tuple[str, str]]:
    """The tensors and their shapes; what R^aug means, if that was not measured; types that are computed in another."""
    told = [("network", "a risk on " + ", ".join(f"{k} {tuple(t.shape)}" for k, t in values.items()))]
    if meaning:
        told.append(("R^aug", meaning))
    if any(t.dtype not in (torch.float32, torch.float64) for t in values.values()):
        kinds = ", ".join(f"{k} {str(t.dtype).removeprefix('torch.')}" for k, t in values.items())
        told.append(("precision", f"computed in {str(dtype).removeprefix('torch.')}; given as {kinds}"))
    return told


def _known(
    risk: object,
    tensors: Any,
    representations: Any,
    name: object,
    samples: object,
    transform: object,
    moved: object,
) -> None:
    """Raise BadInput for arguments of another kind, and for tensors and representations that do not go together."""
    doors.text("name", name)
    doors.call("risk", risk, "give a function of tensors by name")
    for what, found in (("tensors", tensors), ("representations", representations)):
        doors.kind(f"{name}: {what}", found, Mapping, "give a dict by names")
        if strange := [key for key in found if not isinstance(key, str)]:
            raise BadInput(f"{name}: {what}: {doors.shown(strange[0])} is no name; give texts")
    unknown = [key for key in representations if key not in tensors]
    missing = [key for key in tensors if key not in representations]
    if unknown or missing or not tensors:
        raise BadInput(
            f"{name}: no representation for {', '.join(missing) or 'nothing'}, no tensor for "
            f"{', '.join(unknown) or 'nothing'}; give each tensor its representation"
        )
    if (samples is None) != (transform is None):
        there, mend = ("transform", "samples=") if samples is None else ("samples", "transform=(g, samples) ↦ samples")
        raise BadInput(
            f"{name}: {there} without the other leaves open what R^aug is on moved data; give {mend} too, or let the "
            "risk close over its data, and R^aug is the average over moved weights"
        )
    if transform is not None:
        doors.call("transform", transform, "give a function of (g, samples)")
    if moved is not None:
        doors.call("moved", moved, "give a function of (g, tensors), the risk on data moved by g")
        if samples is not None:
            raise BadInput(f"{name}: moved= is for a risk without samples; leave it out, transform= says the same")


def _samples(name: str, samples: object, dtype: torch.dtype) -> Samples:
    """Samples of a user's risk, checked and detached; weights are left as they are, for the risk is their sum."""
    # The length of Samples is their number, not that of the tuple.
    if not isinstance(samples, tuple | list) or len(tuple(samples)) != 3:
        raise BadInput(f"{name}: samples: {doors.shown(samples)}; give stability.Samples(x, y, weight)")
    x, y, weight = (doors.dense(f"{name}: samples.{k}", v) for k, v in zip(Samples._fields, samples, strict=True))
    if not x.ndim or not y.ndim or not len(x) or not len(x) == len(y) == weight.numel() or weight.ndim != 1:
        shapes = ", ".join(str(tuple(t.shape)) for t in (x, y, weight))
        raise BadInput(f"{name}: samples have shapes {shapes}; give inputs (n, …), targets (n, …) and weights (n)")
    for what, value in (("inputs", x), ("targets", y), ("weights", weight)):
        doors.finite(f"{name}: samples: {what}", value, "clean the data")
    if weight.is_complex() or float(weight.min()) < 0:
        raise BadInput(f"{name}: samples: weights are {doors.shown(weight)}; give real numbers ≥ 0")
    x, weight = (doors.exact(f"{name}: samples", value, dtype) for value in (x, weight))
    return Samples(x, y.to(dtype) if y.is_floating_point() else y, weight)


def _summed(
    name: str,
    risk: Callable[[Tensors, Samples], Tensor],
    space: ParameterSpace,
    given: Tensor,
    samples: object,
    transform: Callable[[Element, Samples], Samples] | None,
) -> tuple[Callable, Callable, Samples, Callable]:
    """A risk that is a sum over samples: loss, action on data, samples checked, how its assumptions are measured."""
    if transform is None:
        raise ValueError(f"{name}: the door asks for transform= with samples")

    def whole(parameters: Tensor, data: Samples) -> Tensor:
        return risk(unpack(space, parameters), data)

    checked = _samples(name, samples, given.dtype)
    return whole, transform, checked, _assumptions(space, whole, transform, checked, given)


def _bare(
    risk: Callable[[Tensors], Tensor],
    space: ParameterSpace,
    given: Tensor,
    elsewhere: Callable[[Element, Tensors], Tensor] | None = None,
) -> tuple[Callable, Callable | None, Samples, Callable]:
    """A risk without data. Its one datum is the identity of G: ℓ(A, h) = R(ρ̄(h)A), and g moves h to hg⁻¹."""
    group, numbers = space.group, {space.group.identity: 0}
    known = [group.identity]

    def loss(parameters: Tensor, samples: Samples) -> Tensor:
        total = torch.zeros((), dtype=parameters.dtype, device=parameters.device)
        for number, weight in zip(samples.x[:, 0].tolist(), samples.weight.tolist(), strict=True):
            h = known[int(number)]
            moved = parameters if h == group.identity else space.act(h, parameters)
            value = risk(unpack(space, moved))
            if not isinstance(value, Tensor):
                raise BadInput(f"the risk gives {doors.shown(value)}; it must give a tensor with one number")
            total = total + weight * value
        return total

    def transform(g: Element, samples: Samples) -> Samples:
        moved = []
        for number in samples.x[:, 0].tolist():
            h = group.multiply(known[int(number)], group.inverse(g))
            if h not in numbers:
                numbers[h] = len(known)
                known.append(h)
            moved.append(float(numbers[h]))
        return Samples(samples.x.new_tensor(moved).unsqueeze(1), samples.y, samples.weight)

    one = given.new_ones(1)
    samples = Samples(given.new_zeros(1, 1), given.new_zeros(1), one)
    nodes = group.nodes(2 * space.degree)
    summable = nodes is not None and nodes <= BARE_ORDER
    on_data = None if elsewhere is None else (lambda a, g: elsewhere(g, unpack(space, a)))
    measure = _assumptions(space, loss, None, samples, given, on_data)
    return loss, transform if summable else None, samples, measure


def _nearby(given: Tensor, seed: int, number: int = 0) -> Tensor:
    """A random point as far from the given one as that is from zero."""
    generator = torch.Generator().manual_seed(seed + 1_000_003 * number)
    noise = torch.randn(len(given), generator=generator, dtype=torch.float64).to(given)
    return given + noise * (float(given.norm()) or 1.0) / noise.norm()


def _probes(group: Group, seed: int) -> list[Element]:
    rng = np.random.default_rng(seed)
    return [*group.generators, *(group.sample(rng) for _ in range(3))]


def _departure(found: Tensor, plain: Tensor, spread: float) -> float:
    """How far a risk is from another beyond rounding, relative to what it varies by between two points.

    The risk itself is no scale: a constant can be added to it, and it may be 1e-9 or 1e9 large.
    """
    eps = torch.finfo(plain.dtype).eps
    beyond = max(float((found - plain).abs()) - 64 * eps * float(plain.abs()), 0.0)
    return beyond / spread if spread > 0 else beyond


def _meaning(space: ParameterSpace, loss: Callable, samples: Samples, given: Tensor) -> str:
    """What R^aug is for a risk of which only ρ̄ is known, with how far R is from being invariant."""
    with torch.no_grad():
        at = _nearby(given, 0)
        plain, spread = loss(at, samples), float((loss(_nearby(given, 0, 1), samples) - loss(at, samples)).abs())
        moved = [_departure(loss(space.act(g, at), samples), plain, spread) for g in _probes(space.group, 0)]
    worst = max(moved)
    if worst <= TOLERANCE:
        return f"R(ρ̄(g)A) = R(A) to {worst:.1e} of its variation: R is invariant, and R^aug is R"
    return (
        f"the average of R over moved weights, R(ρ̄(g)A), which differs from R(A) by {worst:.2g} of its variation; that "
        "the risk on moved data is the same (Lemma 4) was not measured: give samples= and transform=, or moved="
    )


def _assumptions(
    space: ParameterSpace,
    loss: Callable,
    transform: Callable | None,
    samples: Samples,
    given: Tensor,
    on_data: Callable[[Tensor, Element], Tensor] | None = None,
) -> Callable[[int], dict[str, tuple[float, str]]]:
    def measure(seed: int) -> dict[str, tuple[float, str]]:
        worst = measured_representations(layer_spaces(space), space.group, seed)
        if transform is None and on_data is None:
            return worst
        worst["invariant_loss"] = (0.0, "")
        with torch.no_grad():
            at = _nearby(given, seed)
            plain = loss(at, samples)
            spread = float((loss(_nearby(given, seed, 1), samples) - plain).abs())
            for g in _probes(space.group, seed):
                there = space.act(g, at)
                part = samples if transform is None else transform(g, samples)
                moved = loss(there, part) if on_data is None else on_data(there, g)
                error = _departure(moved, plain, spread)
                if not error <= worst["invariant_loss"][0]:
                    where = f"the risk, R(ρ̄(g)A; g·data) − R(A; data), {element(space.group, g)}"
                    worst["invariant_loss"] = (error, where)
        return worst

    return measure
