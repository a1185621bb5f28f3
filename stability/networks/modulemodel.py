"""A torch module as the model of a supervised problem, its activations watched, its assumptions measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from stability.base.doors import WIDE
from stability.groups import Element, Lattice, Representation
from stability.networks.declared import Mapped
from stability.networks.persample import Losses
from stability.networks.structures import Layout
from stability.problem.space import ParameterSpace, Samples
from stability.problem.tensors import element, layer_spaces, measured_representations, unpack

# Samples that checks of the network are made with.
PROBES = 6
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}


def in_precision(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Floats in this precision, complex numbers in the one that goes with it, integers as they are."""
    if value.is_complex():
        return value.to(WIDE[dtype])
    return value.to(dtype) if value.is_floating_point() else value


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
        integers: the type of inputs that are integers to the module (token ids); data hold them as floats, exactly.
        inputs, outputs: which columns are which tensor, where the module takes or returns several.
        spread: how several inputs are given: "names" or "positions", or "one" argument that holds them.
        rates: μ of every weight, (dim L), where parameters decay differently; None where the problem's holds for all.
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
    integers: torch.dtype | None = None
    inputs: Layout | None = None
    outputs: Layout | None = None
    spread: str = "names"
    rates: Tensor | None = None

    def _call(self, parameters: Tensor, x: Tensor) -> Tensor:
        # Clones: what a forward pass writes into a buffer is gone after it.
        fixed = {k: in_precision(v, parameters.dtype).clone() for k, v in self.fixed.items()}
        # The fused kernels of attention have no second derivative.
        with sdpa_kernel(SDPBackend.MATH):
            found = functional_call(self.module, {**unpack(self.space, parameters), **fixed}, *self._arguments(x))
        return found if self.outputs is None else self.outputs.pack(found, x)

    def _arguments(self, x: Tensor) -> tuple[tuple, dict[str, Any]]:
        """What the module is called with, by position and by name."""
        if self.inputs is None:
            one = x.reshape(len(x), *self.input_shape)
            return (one if self.integers is None else one.round().to(self.integers),), {}
        several = self.inputs.unpack(x)
        if self.spread == "one":
            return (several,), {}
        if self.spread == "names" and not isinstance(several, tuple):
            return (), dict(several)
        return tuple(several) if isinstance(several, tuple) else tuple(several.values()), {}

    def penalty(self, parameters: Tensor) -> Tensor | float:
        """Σ μ_i/2 |A_i|² where parameters decay differently; else zero, for the problem adds it."""
        return 0.0 if self.rates is None else 0.5 * (self.rates.to(parameters) * parameters.square()).sum()

    def predict(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Φ_A(x), flat: (n, numbers of a prediction)."""
        found = self._call(parameters, x)
        return found.reshape(len(found), -1)

    def predict_equivariant(self, theta: Tensor, x: Tensor) -> Tensor:
        """The same at the point of E with coordinates θ."""
        return self.predict(self.space.embed(theta), x)

    def losses(self, prediction: Tensor, y: Tensor) -> Tensor:
        """ℓ sample by sample, (n), of predictions in the module's own shape."""
        return self.loss(prediction.reshape(len(prediction), *self.output_shape), y)

    def move_target(self, g: Element, y: Tensor) -> Tensor:
        """ρ_Y(g)y, in the shape of y; y itself where G does not move targets."""
        return y if self.target is None else self.target.act(g, y.reshape(len(y), -1)).reshape(y.shape)

    def watch(self, parameters: Tensor, x: Tensor, raw: bool = False) -> tuple[list[Event], Any]:
        """What goes into and comes out of the declared layers in the order of execution, and the network's output.

        With ``raw`` the output is handed back whatever it is, and is no event.
        """
        events: list[Event] = []
        passed: list[str] = []
        declared = {layer.name: layer for layer in self.mapped}
        handles = []

        def entering(layer: Mapped) -> Callable:
            def hook(module: nn.Module, arguments: tuple, named: dict[str, Any]) -> None:
                first = arguments[0] if arguments else next(iter(named.values()))
                if _is_seen(first):
                    events.append(Event(layer, "in", first.detach().clone(), tuple(passed)))
                passed.clear()

            return hook

        def leaving(layer: Mapped) -> Callable:
            def hook(module: nn.Module, arguments: tuple, result: Tensor) -> None:
                if _is_seen(result):
                    events.append(Event(layer, "out", result.detach().clone(), ()))

            return hook

        def passing(name: str) -> Callable:
            def hook(module: nn.Module, arguments: tuple, result: object) -> None:
                passed.append(f"{name} {type(module).__name__}")

            return hook

        for name, module in self.module.named_modules():
            if name in declared:
                handles.append(module.register_forward_pre_hook(entering(declared[name]), with_kwargs=True))
                handles.append(module.register_forward_hook(leaving(declared[name])))
            elif not list(module.children()):
                handles.append(module.register_forward_hook(passing(name)))
        try:
            with torch.no_grad():
                output = self._call(parameters, x)
        finally:
            for handle in handles:
                handle.remove()
        if not raw:
            events.append(Event(None, "in", output.reshape(len(output), -1), tuple(passed)))
        return events, output

    def act(self, g: Element, event: Event) -> Tensor | None:
        """g applied to an activation; None where its representation is not known."""
        if event.layer is None:
            return self.output.act(g, event.value)
        side = event.layer.source if event.side == "in" else event.layer.target
        return side.act(g, event.value, self.lattice)


def _is_seen(value: Any) -> bool:
    """Whether an activation can be kept: those inside vmap have no values of their own."""
    try:
        return isinstance(value, Tensor) and value.data_ptr() >= 0
    except RuntimeError:
        return False


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
    if event.layer is not None and event.side == "out":
        return f"layer {event.layer.name}, {model.module.get_submodule(event.layer.name)}"
    name = event.layer.name if event.layer else "the output"
    inside = f" ({', '.join(event.between)})" if event.between else ""
    return f"what lies between {last} and {name}{inside}"
