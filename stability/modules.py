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

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from stability.errors import BadInput
from stability.groups import Element, Group, Lattice, Representation, TensorProduct, square_lattice, trivial
from stability.kinks import kink_margin
from stability.networks import cross_entropy, unseen_inputs
from stability.problem import FlatFamily, ParameterSpace, Problem, Samples
from stability.trees import (
    Parameter,
    element,
    layer_spaces,
    measured_representations,
    pack,
    parameter,
    some_equivariant,
    spread,
    starts,
    twice_differentiable,
    unpack,
)

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
TRANSPOSED = CONVOLUTIONS[3:]
# Samples that checks of the network are made with.
PROBES = 6
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
Losses = Callable[[Tensor, Tensor], Tensor]
Data = Iterable | Samples | tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Activation:
    """How G moves the channels of an activation, and the positions they sit at."""

    channels: Representation
    positions: Representation | None
    channels_last: bool

    def act(self, g: Element, x: Tensor, lattice: Lattice | None) -> Tensor | None:
        """g·x for x with a batch axis; None where the action on its positions is not known."""
        if self.channels_last:
            x = x if self.positions is None else self.positions.act(g, x, 1)
            # Between the batch and the channels there may be one axis of positions, whose action must be known.
            return None if x.ndim > 2 and self.positions is None else self.channels.act(g, x, -1)
        positions = self.positions
        if positions is None:
            if lattice is None or lattice.axes != x.ndim - 2:
                return None
            positions = lattice(tuple(x.shape[2:]))
        moved = self.channels.act(g, x, 1).flatten(2)
        return positions.act(g, moved, 2).reshape(x.shape)


@dataclass(frozen=True)
class Mapped:
    """A linear or convolutional layer whose two sides have representations."""

    name: str
    source: Activation
    target: Activation


@dataclass(frozen=True)
class Event:
    """An activation seen during a forward pass, on its way into or out of a declared layer.

    Attributes:
        layer: the layer's name; None for the network's output.
        side: "in" or "out".
        value: the activation.
        between: modules that ran since the last declared layer.
    """

    layer: Mapped | None
    side: str
    value: Tensor
    between: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ModuleModel:
    """A module as the model of a supervised problem: flat weights and flat inputs in, flat predictions out.

    Args:
        module: a private copy in evaluation mode.
        space: its parameters that are studied, as layers.
        fixed: parameters held at their values, and buffers.
        input, output: representations on flattened inputs and predictions.
        input_shape, output_shape: of one sample.
        loss: (predictions, targets) ↦ one number a sample.
        target: representation on targets; None when G does not move them.
        decides: whether the score is an accuracy.
        mapped: its layers with representations.
        lattice: the action on grids; None without convolutions.
        invariant: representations of the buffers that are projected onto what G fixes.
        given: the module's own weights, (dim L).
        test: data to score on.
    """

    module: nn.Module
    space: ParameterSpace
    fixed: dict[str, Tensor]
    input: Representation
    output: Representation
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    loss: Losses
    target: Representation | None
    decides: bool
    mapped: tuple[Mapped, ...]
    lattice: Lattice | None
    invariant: dict[str, Representation]
    given: Tensor
    test: Samples | None = None

    def _call(self, parameters: Tensor, x: Tensor) -> Tensor:
        fixed = {k: v.to(parameters.dtype) if v.is_floating_point() else v for k, v in self.fixed.items()}
        fixed = {k: v.clone() for k, v in fixed.items()}
        # The fused kernels of attention have no second derivative.
        with sdpa_kernel(SDPBackend.MATH):
            inputs = x.reshape(len(x), *self.input_shape)
            return functional_call(self.module, {**unpack(self.space, parameters), **fixed}, (inputs,))

    def predict(self, parameters: Tensor, x: Tensor) -> Tensor:
        return self._call(parameters, x).flatten(1)

    def predict_equivariant(self, theta: Tensor, x: Tensor) -> Tensor:
        return self.predict(self.space.embed(theta), x)

    def losses(self, prediction: Tensor, y: Tensor) -> Tensor:
        return self.loss(prediction.reshape(len(prediction), *self.output_shape), y)

    def move_target(self, g: Element, y: Tensor) -> Tensor:
        return y if self.target is None else self.target.act(g, y.flatten(1)).reshape(y.shape)

    def watch(self, parameters: Tensor, x: Tensor) -> tuple[list[Event], Tensor]:
        """What goes into and comes out of the declared layers in the order of execution, and the network's output."""
        events: list[Event] = []
        passed: list[str] = []
        declared = {layer.name: layer for layer in self.mapped}
        handles = []

        def entering(layer: Mapped) -> Callable:
            def hook(module: nn.Module, arguments: tuple) -> None:
                events.append(Event(layer, "in", arguments[0].detach().clone(), tuple(passed)))
                passed.clear()

            return hook

        def leaving(layer: Mapped) -> Callable:
            def hook(module: nn.Module, arguments: tuple, result: Tensor) -> None:
                events.append(Event(layer, "out", result.detach().clone(), ()))

            return hook

        def passing(name: str) -> Callable:
            def hook(module: nn.Module, arguments: tuple, result: object) -> None:
                passed.append(f"{name} {type(module).__name__}")

            return hook

        for name, module in self.module.named_modules():
            if name in declared:
                handles.append(module.register_forward_pre_hook(entering(declared[name])))
                handles.append(module.register_forward_hook(leaving(declared[name])))
            elif not list(module.children()):
                handles.append(module.register_forward_hook(passing(name)))
        try:
            with torch.no_grad():
                output = self._call(parameters, x)
        finally:
            for handle in handles:
                handle.remove()
        events.append(Event(None, "in", output.flatten(1), tuple(passed)))
        return events, output

    def act(self, g: Element, event: Event) -> Tensor | None:
        """g applied to an activation; None where its representation is not known."""
        if event.layer is None:
            return self.output.act(g, event.value)
        side = event.layer.source if event.side == "in" else event.layer.target
        return side.act(g, event.value, self.lattice)


def check_assumptions(model: ModuleModel, given: Tensor, data: Samples, seed: int) -> dict[str, tuple[float, str]]:
    """Measured violations of orthogonality, ρ(gh) = ρ(g)ρ(h), Lemma 3 layer by layer, and the loss's invariance.

    Lemma 3, Φ_{ρ̄(g)A}(ρ_X(g)x) = ρ_Y(g)Φ_A(x) at *any* A, is what a network must satisfy. Every activation of a
    declared layer is compared with the moved one, relative to its size, and the first one that differs is named: a
    layer, or what lies before it.
    """
    group = model.space.group
    spaces = [("input", model.input), *layer_spaces(model.space), ("output", model.output)]
    worst = measured_representations(spaces, group, seed)
    limit = TOLERANCE[data.x.dtype]
    torch_rng, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    noise = torch.randn(len(given), generator=torch_rng, dtype=torch.float64).to(given)
    at = given + noise * (given.norm().clamp_min(1.0) / noise.norm())
    x, y = data.x[:PROBES], data.y[:PROBES]
    plain, output = model.watch(at, x)
    worst |= {"equivariant_layers": (0.0, ""), "equivariant_nonlinearities": (0.0, ""), "invariant_loss": (0.0, "")}
    prediction = torch.randn(len(x), model.output.dim, generator=torch_rng, dtype=torch.float64).to(x)
    for g in [*group.generators, group.sample(rng), group.sample(rng)]:
        if g not in group.generators and max(error for error, _ in worst.values()) > limit:
            break  # a generator tells it already
        moved, _ = model.watch(model.space.act(g, at), model.input.act(g, x))
        last = "the input"
        for before, after in zip(plain, moved, strict=True):
            expected = model.act(g, before)
            here = _place(model, before, last)
            last = before.layer.name if before.layer else "the output"
            if expected is None:
                continue
            error = float((after.value - expected).abs().max() / before.value.abs().max().clamp_min(1e-300))
            key = "equivariant_layers" if before.side == "out" else "equivariant_nonlinearities"
            if not error <= worst[key][0]:
                worst[key] = (error, f"{here}, {element(group, g)}")
            if not error <= limit:
                break  # what follows is broken by this
        moved_loss = model.losses(model.output.act(g, prediction), model.move_target(g, y))
        error = float((moved_loss - model.losses(prediction, y)).abs().max())
        if not error <= worst["invariant_loss"][0]:
            worst["invariant_loss"] = (error, f"the loss, {element(group, g)}")
    return worst


def _place(model: ModuleModel, event: Event, last: str) -> str:
    if event.side == "out":
        return f"layer {event.layer.name}, {model.module.get_submodule(event.layer.name)}"
    name = event.layer.name if event.layer else "the output"
    inside = f" ({', '.join(event.between)})" if event.between else ""
    return f"what lies between {last} and {name}{inside}"


# -- building ----------------------------------------------------------------------------------------------------


def gather(data: Data, dtype: torch.dtype, limit: int | None = None) -> Samples:
    """All samples of a data loader, a dataset of (x, y), a pair of tensors or Samples, inputs as they are.

    Raises:
        BadInput: no samples, or something that does not come in pairs.
    """
    if isinstance(data, Samples):
        x, y, weight = data
    elif isinstance(data, tuple | list) and len(data) == 2 and all(isinstance(part, Tensor) for part in data):
        (x, y), weight = data, None
    else:
        if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, list | tuple):
            data = torch.utils.data.DataLoader(data, batch_size=256)
        xs, ys, count = [], [], 0
        for batch in data:
            if not isinstance(batch, tuple | list) or len(batch) != 2:
                raise BadInput("data: each batch must be a pair (inputs, targets); wrap the loader so that it is")
            xs.append(torch.as_tensor(batch[0]))
            ys.append(torch.as_tensor(batch[1]))
            count += len(xs[-1])
            if limit is not None and count >= limit:
                break
        if not xs:
            raise BadInput("data: the loader gives no batch; give at least one sample")
        x, y, weight = torch.cat(xs), torch.cat(ys), None
    x, y = x[:limit].detach(), y[:limit].detach()
    weight = x.new_full((len(x),), 1.0, dtype=dtype) if weight is None else weight[:limit].to(dtype)
    y = y.to(dtype) if y.is_floating_point() else y
    if not len(x) or len(x) != len(y):
        raise BadInput(f"data: {len(x)} inputs and {len(y)} targets; give one target for each of at least one input")
    for what, values in (("input", x), ("target", y)):
        bad = int((~torch.isfinite(values)).sum())
        if bad:
            raise BadInput(f"data: {bad} {what} values are not finite; clean the data")
    return Samples(x.to(dtype), y, weight / weight.sum())


def per_sample(loss: Callable, prediction: Tensor, y: Tensor) -> Losses:
    """A loss that gives one number a sample, from one that may average over the batch.

    Modules with a ``reduction`` are asked for "none"; a function that returns one number for a batch is called sample
    by sample, once it is seen that its value is the mean of those.

    Raises:
        BadInput: a loss that is no mean over samples, or that cannot take these predictions and targets.
    """
    if isinstance(loss, nn.Module) and hasattr(loss, "reduction"):
        if loss.reduction == "sum":
            raise BadInput(
                "loss: reduction='sum' adds the samples up, while R is their mean with weight decay beside; use "
                "reduction='mean' (and divide the decay by the number of samples)"
            )
        if loss.reduction == "mean" and getattr(loss, "weight", None) is not None:
            raise BadInput(
                "loss: class weights with reduction='mean' divide by the weights in the batch, so the risk is no mean "
                "over samples; leave them out, and weight the samples by data=(x, y, weights)"
            )
        if hasattr(loss, "ignore_index") and bool((y == loss.ignore_index).any()):
            raise BadInput(
                f"loss: {int((y == loss.ignore_index).sum())} targets are ignore_index={loss.ignore_index}, and the "
                "risk divides by the number of the others; leave those samples out of the data"
            )
        mean = loss.reduction == "mean"
        loss = copy.deepcopy(loss)
        loss.reduction = "none"
        inner = loss

        def reduced(p: Tensor, t: Tensor) -> Tensor:
            value = inner(p, t)
            if value.ndim < 2:
                return value
            return value.flatten(1).mean(1) if mean else value.flatten(1).sum(1)

        loss = reduced
    try:
        value = loss(prediction, y)
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise BadInput(
            f"loss: it cannot take predictions of shape {tuple(prediction.shape)} and targets of shape "
            f"{tuple(y.shape)} ({reason}); reshape the targets"
        ) from error
    if value.shape == (len(prediction),):
        alone = torch.cat([loss(prediction[i : i + 1], y[i : i + 1]) for i in range(len(value))])
        gap = float((alone - value).abs().max())
        if not gap <= 1e-6 * max(1.0, float(value.abs().max())):
            raise BadInput(
                f"loss: a sample's value changes by {gap:.2e} with the rest of the batch, perhaps because targets of "
                f"shape {tuple(y.shape)} are broadcast against predictions of shape {tuple(prediction.shape)}; reshape "
                "the targets"
            )
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

    gap = float((sample_by_sample(prediction, y).mean() - value).abs())
    if not gap <= 1e-6 * max(1.0, float(value.abs())):
        raise BadInput(
            f"loss: its value for a batch differs from the mean over samples by {gap:.2e}; give a loss with one number "
            "a sample"
        )
    return sample_by_sample


def _sides(name: str, spec: object) -> tuple[Representation, Representation, Representation | None]:
    if isinstance(spec, tuple) and len(spec) in (2, 3) and all(isinstance(part, Representation) for part in spec):
        return (*spec, None) if len(spec) == 2 else spec
    raise BadInput(
        f"{name}: give (representation of its input channels, of its output channels), and for activations with "
        f"positions their representation as a third, not {spec!r}"
    )


def _declared(module: nn.Module, representations: Mapping[str, Any], lattice: Lattice | None) -> tuple[dict, list]:
    """Layers of the parameter space by parameter name, tied ones by their first, and the layers with two sides."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    first = {id(p): name for name, p in module.named_parameters()}
    modules = dict(module.named_modules())
    specs: dict[str, Parameter | None] = {}
    mapped: list[Mapped] = []
    for name, spec in representations.items():
        if name in parameters:  # a later entry for a single parameter overrides that of its layer
            specs[name] = None if spec is None else parameter(name, parameters[name].shape, spec)
            continue
        if not name:
            raise BadInput("representations: a layer that is the module itself has no name; wrap it in nn.Sequential")
        if name not in modules:
            some = [n for n, m in modules.items() if isinstance(m, (nn.Linear, *CONVOLUTIONS))]
            raise BadInput(f"representations: the module has no layer {name!r}; it has {', '.join(some) or 'none'}")
        layer = modules[name]
        own = {f"{name}.{k}": p for k, p in layer.named_parameters(recurse=False)}
        if spec is None:
            specs |= dict.fromkeys([f"{name}.{k}" for k, _ in layer.named_parameters()])
        elif isinstance(layer, nn.Linear):
            source, target, positions = _sides(name, spec)
            specs[f"{name}.weight"] = parameter(f"{name}.weight", layer.weight.shape, (source, target))
            if layer.bias is not None:
                specs[f"{name}.bias"] = parameter(f"{name}.bias", layer.bias.shape, target)
            mapped.append(Mapped(name, Activation(source, positions, True), Activation(target, positions, True)))
        elif isinstance(layer, CONVOLUTIONS):
            source, target, positions = _sides(name, spec)
            kernel = lattice(layer.kernel_size)
            specs[f"{name}.weight"] = _kernel(name, layer, source, target, kernel)
            if layer.bias is not None:
                specs[f"{name}.bias"] = parameter(f"{name}.bias", layer.bias.shape, target)
            mapped.append(Mapped(name, Activation(source, positions, False), Activation(target, None, False)))
        elif isinstance(spec, Representation) and own:
            specs |= {k: parameter(k, p.shape, spec) for k, p in own.items()}
        else:
            raise BadInput(
                f"{name} is a {type(layer).__name__}: give the representation of its parameters "
                f"({', '.join(own) or 'it has none of its own'}), or of each under its full name"
            )
    tied: dict[str, Parameter | None] = {}
    for name, spec in specs.items():
        owner = first[id(parameters[name])]
        spec = None if spec is None else replace(spec, name=owner)
        if tied.setdefault(owner, spec) != spec:
            raise BadInput(f"{name} is tied to {owner}, but their representations differ; give both the same")
    return tied, mapped


def _kernel(
    name: str, layer: nn.Module, source: Representation, target: Representation, kernel: Representation
) -> Parameter:
    if (layer.in_channels, layer.out_channels) != (source.dim, target.dim):
        raise BadInput(
            f"{name} has {layer.in_channels} input and {layer.out_channels} output channels, but {source.name} has "
            f"dimension {source.dim} and {target.name} {target.dim}; give representations that fit"
        )
    label, shape = f"{name}.weight", layer.weight.shape
    if layer.groups == 1 and isinstance(layer, TRANSPOSED):
        return parameter(label, shape, (TensorProduct(target, kernel), source))
    if layer.groups == 1:
        return parameter(label, shape, (TensorProduct(source, kernel), target))
    if layer.groups == layer.in_channels == layer.out_channels and source == target and source.is_permutation:
        return parameter(label, shape, (kernel, target))
    raise BadInput(
        f"{name} has {layer.groups} groups of channels; only depthwise layers with one permutation representation on "
        f"both sides are known, else give the representation of {label!r} itself"
    )


def _invariant(value: Tensor, rho: Representation) -> Tensor:
    """The projection of a vector onto what G fixes."""
    space = ParameterSpace((Parameter("buffer", trivial(rho.group), spread(rho), tuple(value.shape)),))
    return space.equivariant_part(value.reshape(-1)).reshape(value.shape)


def from_module(
    module: nn.Module,
    loss: Callable,
    data: Data,
    representations: Mapping[str, Any],
    *,
    input: Representation | None = None,
    output: Representation | None = None,
    target: Representation | None = None,
    lattice: Lattice | None = None,
    test: Data | None = None,
    weight_decay: float = 0.0,
    decides: bool | None = None,
    samples: int | None = None,
    dtype: torch.dtype = torch.float64,
    name: str | None = None,
    facts: Sequence[tuple[str, str]] = (),
) -> Problem:
    """The problem of training a torch module, as it is, under a group that acts on its channels and grids.

    Args:
        module: any network Φ that maps a batch of inputs to a batch of predictions. It is copied and left alone; the
            copy evaluates (dropout off, batch norm by its running statistics).
        loss: (predictions, targets) ↦ one number a sample, or their mean; ``nn.CrossEntropyLoss()`` and the like do.
        data: a data loader, a dataset, a pair of tensors or :class:`Samples`; all of it is the training set.
        representations: by the names of ``module.named_modules()`` or ``named_parameters()``:
            Linear and Conv layers a pair (ρ of the input channels, ρ of the output channels), for Linear layers applied
            at many positions a third, the representation of the positions; other layers and single parameters the
            representation of their entries; None holds parameters at their values.
        input: of a flattened input; by default that of the first declared layer, if it is the first thing applied.
        output: of a flattened prediction; by default that of the last declared layer, likewise.
        target: of a flattened target; None when G does not move targets (classes).
        lattice: how G acts on grids of kernels and images; by default quarter turns and flips for C_4 and D_4.
        test: data to score on.
        weight_decay: μ in μ/2‖A‖² over the parameters studied.
        decides: whether the score is an accuracy; by default when the targets are classes.
        samples: how many to take at most.
        dtype: of the computation; signs want float64.
        name: what reports print.
        facts: lines of a report's first screen.

    Returns:
        a problem whose start with seed 0 is the module's own weights, projected onto E. Its layers carry the names of
        the parameters, so a ``state_dict`` is a point.

    Raises:
        BadInput: a parameter without representation, dimensions that do not fit, a loss that is no mean over samples, a
            network that mixes samples, or one that cannot be differentiated twice.
    """
    name = name or type(module).__name__
    try:
        private = copy.deepcopy(module).to(dtype).eval()
    except (RuntimeError, TypeError) as error:
        raise BadInput(f"{name}: the module cannot be copied ({' '.join(str(error).split())[:160]})") from error
    for value in private.parameters():
        value.requires_grad_(False)
    group = _group(name, representations)
    convolutions = [n for n, m in module.named_modules() if isinstance(m, CONVOLUTIONS)]
    if lattice is None and any(representations.get(n) is not None for n in convolutions):
        lattice = square_lattice(group)
    specs, mapped = _declared(private, representations, lattice)
    tensors = dict(private.named_parameters())
    missing = [key for key in tensors if key not in specs]
    if missing:
        raise BadInput(
            f"{name}: no representation for {', '.join(missing)}; give one for each layer or parameter, or None to "
            "hold it at its value"
        )
    studied = tuple(specs[key] for key in tensors if specs[key] is not None)
    if not studied:
        raise BadInput(f"{name}: every parameter is held at its value; give at least one representation")
    space = ParameterSpace(studied)
    some_equivariant(name, space)
    fixed = {key: tensors[key].detach() for key in tensors if specs[key] is None}
    buffers = {k: v.detach().clone() for k, v in private.named_buffers()}
    invariant = _invariant_buffers(buffers, representations)
    moved = sum(float((_invariant(buffers[k], rho) - buffers[k]).square().sum()) for k, rho in invariant.items())
    size = sum(float(buffers[k].square().sum()) for k in invariant)
    fixed |= buffers | {k: _invariant(buffers[k], rho) for k, rho in invariant.items()}

    train = gather(data, dtype, samples)
    held_out = None if test is None else gather(test, dtype)
    shape = tuple(train.x.shape[1:])
    given = pack(space, {k: v for k, v in tensors.items() if specs[k] is not None}, name)
    one = trivial(group)
    layers = tuple(mapped)
    draft = ModuleModel(
        private, space, fixed, one, one, shape, (), lambda p, y: p, target, False, layers, lattice, invariant, given
    )
    try:
        events, prediction = draft.watch(given, train.x[:PROBES])
    except Exception as error:
        raise BadInput(
            f"{name}: the module cannot take inputs of shape {tuple(train.x[:PROBES].shape)} "
            f"({' '.join(str(error).split())[:160]}); give data in the module's own shape"
        ) from error
    if not isinstance(prediction, Tensor) or prediction.ndim < 1 or len(prediction) != len(train.x[:PROBES]):
        raise BadInput(f"{name}: the module must return one tensor with a row for each sample")
    alone = torch.cat([draft._call(given, train.x[i : i + 1]) for i in range(len(prediction))])
    mixing = float((alone - prediction).abs().max() / prediction.abs().max().clamp_min(1e-300))
    if not mixing <= TOLERANCE[dtype]:
        raise BadInput(
            f"{name}: predictions change by {mixing:.1e} (relative) with the other samples of the batch, so the risk "
            "is no mean over samples; use layers that treat each sample by itself"
        )
    rho_in = input or _edge(name, "input", events[0], train.x[:PROBES], lattice)
    rho_out = output or _edge(name, "output", events[-2] if len(events) > 1 else None, prediction, lattice)
    for what, rho, count in (("input", rho_in, math.prod(shape)), ("output", rho_out, math.prod(prediction.shape[1:]))):
        if rho.dim != count:
            raise BadInput(f"{name}: {what} has {count} numbers, but {rho.name} has dimension {rho.dim}")
    if target is not None and target.dim != math.prod(train.y.shape[1:]):
        raise BadInput(f"{name}: targets have {math.prod(train.y.shape[1:])} numbers, but {target.name} {target.dim}")
    losses = per_sample(loss, prediction, train.y[:PROBES])
    classes = train.y.ndim == 1 and not train.y.is_floating_point() and prediction.ndim == 2
    train = _flat(train)
    model = replace(
        draft,
        input=rho_in,
        output=rho_out,
        output_shape=tuple(prediction.shape[1:]),
        loss=losses,
        decides=classes if decides is None else decides,
        test=None if held_out is None else _flat(held_out),
    )
    functions = _functions(model, train)
    risk = functions["loss"]
    twice_differentiable(name, lambda a: risk(a, Samples(*(t[:PROBES] for t in train))), given)
    description = [("network", f"{name}: " + ", ".join(f"{m.name} {_sides_text(m)}" for m in mapped))]
    if size > 0:
        share = math.sqrt(moved / size)
        description.append(("buffers", f"projected onto their invariant part, moved by {share:.2g} of their norm"))
    if module.training:
        description.append(("mode", "evaluation, while the module given is in training mode"))
    return Problem(
        name=name,
        space=space,
        samples=train,
        weight_decay=weight_decay,
        flat=_flat_families(model, space, events, prediction, train, loss),
        initial=starts(space, given),
        facts=(*description, *facts),
        activations=max([math.prod(e.value.shape[1:]) for e in events]),
        **functions,
    )


def _functions(model: ModuleModel, train: Samples) -> dict[str, Any]:
    """The parts of a problem that depend on what the module holds fixed."""

    def risk(parameters: Tensor, part: Samples) -> Tensor:
        return part.weight @ model.losses(model.predict(parameters, part.x), part.y)

    def transform(g: Element, part: Samples) -> Samples:
        return Samples(model.input.act(g, part.x), model.move_target(g, part.y), part.weight)

    def margin(parameters: Tensor) -> float:
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


def holding(problem: Problem, state: Mapping[str, Tensor]) -> Problem:
    """The same problem with the buffers and the parameters held fixed that a state_dict has (running statistics, …).

    Raises:
        BadInput: one of another shape.
    """
    model = problem.model
    if not isinstance(model, ModuleModel):
        return problem
    fresh = {}
    for key, value in model.fixed.items():
        if key not in state:
            continue
        if state[key].shape != value.shape:
            raise BadInput(f"{problem.name}: {key} has shape {tuple(state[key].shape)}, not {tuple(value.shape)}")
        found = state[key].detach().to(value)
        found = _invariant(found, model.invariant[key]) if key in model.invariant else found
        if not torch.equal(found, value):
            fresh[key] = found
    if not fresh:
        return problem
    return replace(problem, **_functions(replace(model, fixed=model.fixed | fresh), problem.samples))


def _flat(data: Samples) -> Samples:
    return Samples(data.x.flatten(1), data.y, data.weight)


def _sides_text(layer: Mapped) -> str:
    return f"{layer.source.channels.name} → {layer.target.channels.name}"


def _group(name: str, representations: Mapping[str, Any]) -> Group:
    parts = [p for spec in representations.values() for p in (spec if isinstance(spec, tuple) else (spec,))]
    groups = [p.group for p in parts if isinstance(p, Representation)]
    if not groups:
        raise BadInput(f"{name}: no representation is given; give one for each layer")
    for other in groups[1:]:
        if other != groups[0]:
            raise BadInput(f"{name}: representations of {groups[0].name} and of {other.name}; use one group")
    return groups[0]


def _invariant_buffers(buffers: Mapping[str, Tensor], representations: Mapping[str, Any]) -> dict[str, Representation]:
    """Buffers of layers with one representation (batch norm's statistics), which G must fix."""
    found = {}
    for key, value in buffers.items():
        spec = representations.get(key.rpartition(".")[0])
        if isinstance(spec, Representation) and value.is_floating_point() and value.numel() == spec.dim:
            found[key] = spec
    return found


def _edge(name: str, which: str, event: Event | None, value: Tensor, lattice: Lattice | None) -> Representation:
    """The representation of the network's input or output, if a declared layer touches it directly."""
    same = event is not None and event.layer is not None and event.value.shape == value.shape
    if not same or not torch.equal(event.value, value):
        raise BadInput(f"{name}: the network's {which} passes no declared layer directly; give {which}=representation")
    side = event.layer.source if which == "input" else event.layer.target
    if side.channels_last:
        return spread(side.channels) if side.positions is None else TensorProduct(side.positions, side.channels)
    positions = side.positions or lattice(tuple(value.shape[2:]))
    return spread(TensorProduct(side.channels, positions))


def _flat_families(
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
    model: ModuleModel, layer: Parameter, first: Event, train: Samples
) -> tuple[Tensor | None, Representation]:
    """All vectors that the first layer's weights meet: inputs, or patches of inputs."""
    x = train.x.reshape(len(train.x), *model.input_shape)
    if first.value.shape[1:] != x.shape[1:] or not torch.equal(first.value, x[: len(first.value)]):
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


def _metric(
    model: ModuleModel, train: Samples, test: Samples | None
) -> Callable[[Callable[[Tensor], Tensor], str], dict[str, float]]:
    def constant() -> Tensor | None:
        """The best prediction that ignores its input, where the kind of target says what it is."""
        if model.decides and train.y.ndim == 1:
            counts = torch.bincount(train.y, train.weight, minlength=model.output.dim).to(train.x)
            return torch.log(counts.clamp_min(1e-12))
        if train.y.is_floating_point() and math.prod(train.y.shape[1:]) == model.output.dim:
            return _invariant(train.weight @ train.y.reshape(len(train.y), -1), model.output)
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
