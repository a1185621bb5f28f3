r"""Any torch.nn.Module, with representations for its linear and convolutional layers, as a problem.

    Linear       W ↦ ρ_out(g) W ρ_in(g)⁻¹                        on (out, in)
    Conv         K ↦ (ρ_out ⊗ ρ_in ⊗ π)(g) K                     on (out, in, kernel grid), π the lattice's action
    bias         b ↦ ρ_out(g) b
    other        its own representation

The inner product is that of the module's own tensors, the one its optimiser sees: a tap of a kernel counts once,
however often the kernel is applied. The module is copied, never touched: the copy is in evaluation mode and in the
precision asked for, and every evaluation is given its parameters and fresh copies of its buffers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from stability.base import doors
from stability.base.errors import BadInput
from stability.base.states import peeled
from stability.groups import Element, Group, Lattice, Representation, TensorProduct, square_lattice, trivial
from stability.networks import admission
from stability.networks.decay import Decay, decay_of
from stability.networks.declared import (
    CONVOLUTIONS,
    Mapped,
    declared,
    group_of,
    invariant,
    invariant_buffers,
    on_grid,
)
from stability.networks.differentiable import twice_differentiable
from stability.networks.gathering import Collected, Data, collect, precise
from stability.networks.kinks import kink_margin
from stability.networks.moduleflat import flat_families
from stability.networks.modulemodel import PROBES, Event, ModuleModel, check_assumptions
from stability.networks.persample import Apart, PerSample, per_sample, probing, takes_all
from stability.networks.structures import Layout
from stability.problem.problem import Held, Problem
from stability.problem.space import ParameterSpace, Samples
from stability.problem.tensors import pack, some_equivariant, spread, starts


def from_module(
    module: nn.Module,
    loss: Callable,
    data: Data,
    representations: Mapping[str, Any],
    *,
    input: Side | None = None,
    output: Side | None = None,
    target: Side | None = None,
    lattice: Lattice | None = None,
    test: Data | None = None,
    weight_decay: Decay = 0.0,
    decides: bool | None = None,
    samples: int | None = None,
    dtype: torch.dtype = torch.float64,
    name: str | None = None,
    facts: Sequence[tuple[str, str]] = (),
) -> Problem:
    """The problem of training a torch module, as it is, under a group that acts on its channels and grids.

    Args:
        module: any network Φ that maps a batch of inputs to a batch of predictions. It is copied and left alone; the
            copy evaluates (dropout off, batch norm by its running statistics). Compiled ones are unwrapped.
        loss: (predictions, targets) ↦ one number a sample, their mean or sum; ``nn.CrossEntropyLoss()`` and the like
            do. Of batches that are dicts a function of your own is given the whole batch for targets.
        data: a data loader, a dataset, a pair of tensors, dicts or tuples, or :class:`Samples`; all of it counts.
        representations: by the names of ``module.named_modules()`` or ``named_parameters()``:
            Linear and Conv layers a pair (ρ of the input channels, ρ of the output channels), for Linear layers applied
            at many positions a third, the representation of the positions; other layers and single parameters the
            representation of their entries; None holds parameters at their values.
        input, output: of a flattened input and prediction, of several by name; by default those of the first and last
            declared layer, if they touch them.
        target: of a flattened target; None when G does not move targets (classes).
        lattice: how G acts on grids of kernels and images; by default turns and flips for C_4 and D_4.
        test: data to score on.
        weight_decay: μ in μ/2‖A‖² over the parameters studied; several by name, or the optimiser that has them.
        decides: whether the score is an accuracy; by default when the targets are classes.
        samples, dtype: how many to take at most, and the precision of the computation; signs want float64.
        name, facts: what reports print, and lines of their first screen.

    Returns:
        a problem whose start with seed 0 is the module's own weights, projected onto E. Its layers carry the names of
        the parameters, so a ``state_dict`` is a point.

    Raises:
        BadInput: what does not fit, a network that mixes samples, a risk that cannot be differentiated twice.
    """
    admission.arguments(module, decides, name, dict(input=input, output=output, target=target), lattice)
    module, facts = peeled(module), doors.facts(facts)
    name = name or type(module).__name__
    declaration = _declaration(name, module, representations, lattice, doors.computing(dtype))
    decay, rates, told = decay_of(name, weight_decay, module, declaration.space)
    raw = collect(data, samples, whole=_is_own(loss))
    seen = _seen(declaration, raw, target, rates, dtype)
    edges = _edges(name, seen, input, output)
    seen = replace(seen, train=_flat(seen.train))
    decides = admission.decides(name, decides, seen.train.y, seen.prediction)
    held_out = None if test is None else _flat(precise(*collect(test, whole=_is_own(loss))[:3], dtype))
    model = _model(name, seen, loss, edges, decides, held_out)
    return _problem(declaration, seen, model, loss, decay, (*told, *facts))


def _is_own(loss: object) -> bool:
    """Whether a loss is the user's function, which may ask for the whole batch, not torch's or this package's."""
    return not isinstance(loss, nn.Module) and not str(getattr(loss, "__module__", "")).startswith(KNOWN)


# Whose losses take predictions and targets.
KNOWN = ("torch.", "stability.")
Side = Representation | Mapping[str, Representation] | Sequence[Representation]


@dataclass(frozen=True)
class _Declaration:
    """A private copy of a module, with a representation for every parameter or none where it is held.

    Attributes:
        name: what messages call it.
        module: the copy, in evaluation mode and in the precision asked for.
        specs: the parameters studied, by name; None for those held.
        mapped: layers with representations.
        lattice: the action on grids; None without convolutions.
        space: the parameters studied.
        fixed: what is held: parameters as they are, and buffers projected onto what G fixes.
        invariant: representations of the buffers that are projected.
        facts: what was declared, converted and projected, for a report's first screen.
    """

    name: str
    module: nn.Module
    specs: dict[str, Any]
    mapped: tuple[Mapped, ...]
    lattice: Lattice | None
    space: ParameterSpace
    fixed: dict[str, Tensor]
    invariant: dict[str, Representation]
    facts: tuple[tuple[str, str], ...]


def _declaration(
    name: str, module: nn.Module, representations: Mapping[str, Any], lattice: Lattice | None, dtype: torch.dtype
) -> _Declaration:
    """The module copied, and every parameter of it given its representation.

    Raises:
        BadInput: a parameter without representation, or none that is studied.
    """
    private, told = admission.private(name, module, dtype)
    group = group_of(name, representations)
    admission.no_spectral_norm(name, module, representations)
    convolutions = [n for n, m in module.named_modules() if isinstance(m, CONVOLUTIONS)]
    if lattice is None and any(representations.get(n) is not None for n in convolutions):
        lattice = square_lattice(group)
    specs, mapped = declared(private, representations, lattice)
    tensors = dict(private.named_parameters())
    frozen = [key for key, p in module.named_parameters() if not p.requires_grad and key not in specs]
    specs |= dict.fromkeys(frozen)
    missing = [key for key in tensors if key not in specs]
    if missing:
        raise BadInput(
            f"{name}: no representation for {', '.join(missing)}; give one for each layer or parameter, or None to "
            "hold it at its value"
        )
    studied = tuple(spec for key in tensors if (spec := specs[key]) is not None)
    if not studied:
        raise BadInput(f"{name}: every parameter is held at its value; give at least one representation")
    space = ParameterSpace(studied)
    some_equivariant(name, space)
    held = {key: tensors[key].detach() for key in tensors if specs[key] is None}
    buffers = {k: v.detach().clone() for k, v in private.named_buffers()}
    projected = invariant_buffers(buffers, representations)
    facts = [("network", f"{name}: " + ", ".join(f"{m.name} {_sides_text(m)}" for m in mapped)), *told]
    if frozen:
        facts.append(("held", f"{', '.join(frozen)}, which the module does not train (requires_grad=False)"))
    size, moved = (sum(float(v.square().sum()) for v in vs) for vs in _parts_of(buffers, projected))
    if size > 0:
        share = math.sqrt(moved / size)
        facts.append(("buffers", f"projected onto their invariant part, moved by {share:.2g} of their norm"))
    if module.training:
        facts.append(("mode", "evaluation, while the module given is in training mode"))
    fixed = _projected(held | buffers, projected)
    return _Declaration(name, private, specs, tuple(mapped), lattice, space, fixed, projected, tuple(facts))


@dataclass(frozen=True)
class _Seen:
    """A module that has been run on its data.

    Attributes:
        draft: the model, its loss and its edges still open.
        train: the training set, in the precision asked for.
        kind: dtype of the inputs as they were given.
        events: activations of the first samples, in the order of execution.
        prediction: of the first samples.
        targets: which columns of the targets are which tensor, where they are several.
    """

    draft: ModuleModel
    train: Samples
    kind: torch.dtype
    events: list[Event]
    prediction: Tensor
    targets: Layout | None


def _seen(
    declaration: _Declaration,
    raw: Collected,
    target: Side | None,
    rates: Tensor | None,
    dtype: torch.dtype,
) -> _Seen:
    """The module's first pass over its data."""
    name, space, train = declaration.name, declaration.space, precise(*raw[:3], dtype)
    studied = {k: v for k, v in declaration.module.named_parameters() if declaration.specs[k] is not None}
    one = trivial(space.group)
    draft = ModuleModel(
        module=declaration.module,
        space=space,
        fixed=declaration.fixed,
        input=one,
        output=one,
        input_shape=tuple(train.x.shape[1:]),
        output_shape=(),
        loss=lambda p, y: p,
        target=_side(name, "target", target, raw.targets, space.group),
        decides=False,
        mapped=declaration.mapped,
        lattice=declaration.lattice,
        invariant=declaration.invariant,
        given=pack(space, studied, name).to(dtype),
        inputs=raw.inputs,
        rates=rates,
    )
    draft, events, prediction = admission.first_pass(name, draft, train.x[:PROBES], raw.x.dtype)
    return _Seen(draft, train, raw.x.dtype, events, prediction, raw.targets)


def _side(name: str, which: str, given: Side | None, layout: Layout | None, group: Group) -> Representation | None:
    """A representation that was given for a whole side, or part by part.

    Raises:
        BadInput: parts of what is one tensor.
    """
    if given is None or isinstance(given, Representation):
        return given
    if layout is None:
        raise BadInput(f"{name}: {which} is one tensor; give one representation, not one for each part")
    return layout.whole(f"{name}: {which}", given, group)


def _edges(name: str, seen: _Seen, input: Side | None, output: Side | None) -> tuple[Representation, Representation]:
    """Representations of flattened inputs and predictions, given or those of the layers that touch them directly."""
    draft, events, prediction, x = seen.draft, seen.events, seen.prediction, seen.train.x[:PROBES]
    group, last = draft.space.group, events[-2] if len(events) > 1 else None
    rho_in = _side(name, "input", input, draft.inputs, group) or _edge(name, "input", events[0], x, draft.lattice)
    rho_out = _side(name, "output", output, draft.outputs, group)
    rho_out = rho_out or _edge(name, "output", last, prediction, draft.lattice)
    admission.fits(name, draft.space.group, rho_in, rho_out, draft.target, draft.input_shape, prediction, seen.train)
    if draft.integers is not None or (draft.inputs is not None and draft.inputs.integers):
        admission.keeps_integers(name, rho_in, x, draft.inputs)
    return rho_in, rho_out


def _model(
    name: str,
    seen: _Seen,
    loss: Callable,
    edges: tuple[Representation, Representation],
    decides: bool,
    test: Samples | None,
) -> ModuleModel:
    """The model with its loss and its edges, once it has taken every sample.

    Raises:
        BadInput: samples of another shape, or such as the module or the loss do not take.
    """
    given, train = seen.draft.given, seen.train
    tried = probing(train.y)
    with torch.no_grad():
        predicted = seen.draft._call(given, train.x[tried])
    model = replace(
        seen.draft,
        input=edges[0],
        output=edges[1],
        output_shape=tuple(seen.prediction.shape[1:]),
        loss=per_sample(loss, predicted, train.y[tried], train.y, _apart(name, seen, loss)),
        decides=decides,
        test=test,
    )
    for what, part in ((name, train), (f"{name}, test data", test)):
        if part is not None:
            admission.same_shapes(what, train, part)
            takes_all(what, model.losses, lambda x: model.predict(given, x), part)
    return model


def _apart(name: str, seen: _Seen, loss: Callable) -> Apart | None:
    """What the loss is given where predictions or targets are several tensors.

    Raises:
        BadInput: several predictions for one of torch's losses, none of which is called logits.
    """
    outputs, targets = seen.draft.outputs, seen.targets
    if outputs is None and targets is None:
        return None
    chosen = None
    if outputs is not None and not _is_own(loss):
        named = [p for p in outputs.parts if p.way[-1] == "logits"]
        chosen = named[0] if named else outputs.parts[0] if len(outputs.parts) == 1 else None
        if chosen is None:
            raise BadInput(
                f"{name}: the module returns a {outputs.kind} of {', '.join(p.name for p in outputs.parts)}, of which "
                f"{doors.shown(loss)} takes one; give a function of (outputs, targets) that takes the one that is meant"
            )

    def sides(prediction: Tensor, y: Tensor) -> tuple[Any, Any]:
        found: Any = prediction if outputs is None else outputs.unpack(prediction)
        for key in chosen.way if chosen is not None else ():
            found = found[key]
        wanted: Any = y if targets is None else targets.unpack(y)
        for key in (
            targets.parts[0].way if targets is not None and len(targets.parts) == 1 and not _is_own(loss) else ()
        ):
            wanted = wanted[key]
        return found, wanted

    return sides


def _problem(
    declaration: _Declaration,
    seen: _Seen,
    model: ModuleModel,
    loss: Callable,
    weight_decay: float,
    facts: Sequence[tuple[str, str]],
) -> Problem:
    """The problem of a model that has been admitted.

    Raises:
        BadInput: it cannot be differentiated twice.
    """
    name, space, train, given = declaration.name, declaration.space, seen.train, model.given
    functions = _functions(model, train)
    risk = functions["loss"]
    twice_differentiable(name, lambda a: risk(a, Samples(*(t[:PROBES] for t in train))), given)
    told = list(declaration.facts)
    if not seen.kind.is_floating_point:
        exactly = f"converted to {train.x.dtype}, exactly: the module takes no integers"
        told.append(("inputs", f"{seen.kind}, {exactly if model.integers is None else 'kept'}"))
    if isinstance(model.loss, PerSample) and model.loss.told:
        told.append(("loss", model.loss.told))
    problem = Problem(
        name=name,
        space=space,
        samples=train,
        weight_decay=weight_decay,
        # Where parameters decay differently, a direction that R leaves flat is none of R with decay.
        flat=flat_families(model, space, seen.events, seen.prediction, train, loss) if model.rates is None else (),
        initial=starts(space, given),
        facts=(*told, *facts),
        activations=max([math.prod(e.value.shape[1:]) for e in seen.events]),
        **functions,
    )
    fixed, specs = declaration.fixed, declaration.specs
    ties = {k: v for k, v in _ties(declaration.module).items() if v in fixed or specs.get(v) is not None}
    return _with(problem, model, ties, frozenset(_needed(declaration.module, fixed)))


def _parts_of(buffers: Mapping[str, Tensor], projected: Mapping[str, Representation]) -> tuple[list, list]:
    """The buffers that are projected, and what the projection takes from each."""
    return [buffers[k] for k in projected], [invariant(buffers[k], rho) - buffers[k] for k, rho in projected.items()]


def _projected(fixed: Mapping[str, Tensor], projected: Mapping[str, Representation]) -> dict[str, Tensor]:
    """What is held fixed, with the buffers that have a representation replaced by their invariant parts."""
    return {k: invariant(v, projected[k]) if k in projected else v for k, v in fixed.items()}


def _ties(module: nn.Module) -> dict[str, str]:
    """Further names of parameters and buffers ↦ their first."""
    found: dict[str, str] = {}
    for every, named in (
        (module.named_parameters(remove_duplicate=False), dict(module.named_parameters())),
        (module.named_buffers(remove_duplicate=False), dict(module.named_buffers())),
    ):
        first = {id(v): k for k, v in named.items()}
        found |= {k: first[id(v)] for k, v in every if first[id(v)] != k}
    return found


def _needed(module: nn.Module, fixed: Mapping[str, Tensor]) -> list[str]:
    """Of what is held, what a ``state_dict`` has; counters of batches enter no evaluation."""
    stored = module.state_dict()
    return [k for k in fixed if k in stored and not k.endswith("num_batches_tracked")]


def _with(problem: Problem, model: ModuleModel, ties: Mapping[str, str], needed: frozenset[str]) -> Problem:
    """The problem of the same module with what this model holds fixed."""

    def rebuilt(tensors: Mapping[str, Tensor]) -> Problem:
        return _with(problem, replace(model, fixed=_projected(tensors, model.invariant)), ties, needed)

    held = Held(model.fixed, ties, needed, rebuilt)
    return replace(problem, **_functions(model, problem.samples), held=held)


def _functions(model: ModuleModel, train: Samples) -> dict[str, Any]:
    """The parts of a problem that depend on what the module holds fixed."""

    def risk(parameters: Tensor, part: Samples) -> Tensor:
        loss = part.weight @ model.losses(model.predict(parameters, part.x), part.y)
        return loss if model.rates is None else loss + part.weight.sum() * model.penalty(parameters)

    def transform(g: Element, part: Samples) -> Samples:
        return Samples(model.input.act(g, part.x), model.move_target(g, part.y), part.weight)

    def margin(parameters: Tensor) -> float | None:
        return kink_margin(lambda: model.predict(parameters, train.x))

    bends = kink_margin(lambda: model.predict(model.given, train.x[:PROBES])) is not None
    return {
        "loss": risk,
        "transform": transform,
        "model": model,
        "metric": _metric(model, train, model.test),
        "assumptions": lambda seed: check_assumptions(model, model.given, train, seed),
        "kink_margin": margin if bends else None,
    }


def _flat(data: Samples) -> Samples:
    return Samples(data.x.reshape(len(data.x), -1), data.y, data.weight)


def _sides_text(layer: Mapped) -> str:
    return f"{layer.source.channels.name} → {layer.target.channels.name}"


def _edge(name: str, which: str, event: Event | None, value: Tensor, lattice: Lattice | None) -> Representation:
    """The representation of the network's input or output, if a declared layer touches it directly."""
    touches = event is not None and event.value.shape == value.shape and torch.equal(event.value, value)
    if event is None or event.layer is None or not touches:
        raise BadInput(f"{name}: the network's {which} passes no declared layer directly; give {which}=representation")
    side = event.layer.source if which == "input" else event.layer.target
    if side.channels_last:
        return spread(side.channels) if side.positions is None else TensorProduct(side.positions, side.channels)
    positions = side.positions or on_grid(name, lattice, tuple(value.shape[2:]))
    return spread(TensorProduct(side.channels, positions))


def _metric(
    model: ModuleModel, train: Samples, test: Samples | None
) -> Callable[[Callable[[Tensor], Tensor], str], dict[str, float]]:
    def constant() -> Tensor | None:
        """The best prediction that ignores its input, where the kind of target says what it is."""
        if model.decides and train.y.ndim == 1:
            counts = torch.bincount(train.y, train.weight, minlength=model.output.dim).to(train.x)
            return torch.log(counts.clamp_min(1e-12))
        if train.y.is_floating_point() and math.prod(train.y.shape[1:]) == model.output.dim:
            return invariant(train.weight @ train.y.reshape(len(train.y), -1), model.output)
        return None

    def metric(predict: Callable[[Tensor], Tensor], which: str) -> dict[str, float]:
        data = test if which == "test" else train
        if data is None:
            return {}
        with torch.no_grad():
            if which == "constant":
                best = constant()
                if best is None:
                    return {}
                prediction = best.expand(len(data.x), -1)
            else:
                prediction = torch.cat([predict(part.x) for part in data.chunks(1024)])
            scores = {"loss": float(data.weight @ model.losses(prediction, data.y))}
            if model.decides and data.y.ndim == 1:
                hits = (prediction.argmax(1) == data.y).to(data.weight)
                scores = {"accuracy": float(data.weight @ hits), **scores}
            return scores

    return metric
