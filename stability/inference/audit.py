r"""Whose fault is it that a network is not equivariant? Before any spectrum, in seconds.

The action on inputs, targets and loss; each layer at *random* weights (Lemma 3: what the architecture cannot do
whatever it is trained to); then the weights that are given: distance to E layer by layer, running statistics, frozen
parts, what unsymmetric data push off E, ‖(I − Π)∇R(ΠA)‖; and what is left for float32. The first that fails is the
cause.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from stability.base.errors import BadInput
from stability.base.record import Record
from stability.base.states import peeled
from stability.groups import Group, Representation
from stability.inference.infer import Inference, infer
from stability.networks import modules
from stability.networks.declared import CONVOLUTIONS, invariant
from stability.networks.gathering import Data, collect
from stability.networks.modulemodel import PROBES, ModuleModel
from stability.problem.problem import Problem

ROUNDING, NARROW, OFF = 1e-8, 1e-4, 1e-5
ADVICE = {
    "wrong action": "give the representation by which the data really move; check ρ(gh) = ρ(g)ρ(h)",
    "wrong target action": "give target=, the representation by which targets move: that of the output",
    "loss": "use a loss with ℓ(ρ(g)y, ρ(g)y') = ℓ(y, y'): no weights by position or coordinate that G moves",
    "padding": "use padding_mode='circular', or crop; zeros at the border are seen from inside",
    "stride": "for turns and flips make (side + 2·padding − kernel) divisible by the stride; for shifts use stride 1",
    "interpolation": "resize by whole factors or by mode='bilinear', and sample on grids that G keeps",
    "nonlinearity": "use one that commutes with ρ: pointwise for permutations, of norms for others",
    "tied weights": "give the tied layers the same representations, or untie them",
    "batch norm": "average running statistics over channels that G exchanges, or train on augmented batches",
    "frozen part": "project the frozen weights onto E by stability.project, or train them",
    "unsymmetric data": "augment, or project the weights onto E; training on such data pushes off E at every step",
    "weights": "project by stability.project; what leads off E is instability or noise: stability.diagnose tells",
    "float32": "test in float64 or with a tolerance above this; standardise inputs, whose size makes rounding large",
    "none": "nothing: the network is equivariant to rounding",
}


@dataclass(frozen=True)
class Finding(Record):
    """One thing that breaks the symmetry.

    Attributes:
        cause: one of ADVICE.
        size: how much, relative.
        where: a layer, or what was measured.
    """

    cause: str
    size: float
    where: str


@dataclass(frozen=True)
class LayerError(Record):
    """One layer at the weights given.

    Attributes:
        name: of the layer.
        error: max |z(g·x) − g·z(x)| / max |z| of what it puts out, with what comes from before it.
        distance: ‖W − ΠW‖/‖W‖; None where none of its parameters is studied.
    """

    name: str
    error: float
    distance: float | None


@dataclass(frozen=True)
class Audit(Record):
    """What breaks equivariance, the cause first.

    Attributes:
        cause: the first finding's; "none".
        advice: what to change.
        findings: all that were made, in the order in which they must be mended.
        layers: in the order of execution.
        error: of the outputs in float64, relative; None where it could not be measured.
        error32: in float32.
        distance: ‖A − ΠA‖/‖A‖.
        forcing: ‖(I − Π)∇R(ΠA)‖/‖∇R(ΠA)‖.
    """

    cause: str
    advice: str
    findings: tuple[Finding, ...]
    layers: tuple[LayerError, ...] = ()
    error: float | None = None
    error32: float | None = None
    distance: float | None = None
    forcing: float | None = None

    def __str__(self) -> str:
        lines = [f"cause      {self.cause}: {self.advice}"]
        lines += [f"  {one.cause:<19} {one.size:.1e}  {one.where}" for one in self.findings]
        if self.error is not None:
            lines.append(f"error      {self.error:.1e} of the outputs in float64, {self.error32 or 0:.1e} in float32")
        for one in self.layers:
            off = "" if one.distance is None else f", weights {one.distance:.1e} off E"
            lines.append(f"  {one.name:<19} {one.error:.1e}{off}")
        return "\n".join(lines)


def audit(
    module: nn.Module,
    data: Data,
    group: Group | Representation | Inference,
    loss: Callable | None = None,
    *,
    layers: Mapping[str, Any] | None = None,
    output: Representation | None = None,
    target: Representation | None = None,
    seed: int = 0,
) -> Audit:
    """Which of action, architecture, loss, data, weights and precision breaks the symmetry of a network.

    Args:
        module: as trained; it is only read.
        data: that it was trained on.
        group: as :func:`stability.infer` takes it, or its result.
        loss: that it was trained by; by default cross-entropy for labels, squares for other targets.
        layers, output: as :func:`stability.infer` takes them.
        target: of flattened targets; None when G does not move them.
        seed: of the random weights that the architecture is tried at.

    Raises:
        BadInput: data or a module that cannot be taken.
    """
    module = peeled(module)
    if loss is None:
        loss = nn.MSELoss() if collect(data, 1).y.is_floating_point() else nn.CrossEntropyLoss()
    found = group if isinstance(group, Inference) else infer(module, data, group, layers=layers, output=output)
    try:
        problem = modules.from_module(module, loss, data, **found.arguments(), target=target)
    except BadInput as refused:
        if " is tied to " not in str(refused):
            raise
        return _told([Finding("tied weights", 1.0, str(refused))])
    model = problem.model
    if not isinstance(model, ModuleModel):
        raise BadInput("audit: it is for modules; give a torch.nn.Module")
    findings = _of_architecture(module, problem, model, loss, data, found, seed)
    errors, error, error32 = _at_weights(problem, model)
    distances = _distances(problem, model.given)
    forcing = _forcing(problem, model.given)
    rows = tuple(LayerError(name, size, distances.get(f"{name}.weight")) for name, size in errors.items())
    if not findings:
        findings += _of_weights(module, found, distances, forcing)
    if not findings and error32 > NARROW:
        findings.append(Finding("float32", error32, f"{error:.1e} in float64"))
    norm = float(model.given.norm()) or 1.0
    distance = float(problem.space.transverse_part(model.given).norm()) / norm
    return _told(findings, rows, error, error32, distance, forcing)


def _told(findings: list[Finding], *measured: Any) -> Audit:
    cause = findings[0].cause if findings else "none"
    return Audit(cause, ADVICE[cause], tuple(findings), *measured)


# -- what holds at any weights -----------------------------------------------------------------------------------------


def _of_architecture(
    module: nn.Module, problem: Problem, model: ModuleModel, loss: Callable, data: Data, found: Inference, seed: int
) -> list[Finding]:
    if problem.assumptions is None:
        raise BadInput("audit: the problem measures no assumptions")
    measured = problem.assumptions(seed)
    findings = [
        Finding("wrong action", *measured[key]) for key in ("orthogonal", "homomorphism") if measured[key][0] > ROUNDING
    ]
    if findings:
        return findings
    for key in ("equivariant_layers", "equivariant_nonlinearities"):
        if measured[key][0] > ROUNDING:
            findings.append(Finding(_reason(module, model, measured[key][1]), *measured[key]))
    if measured["invariant_loss"][0] > ROUNDING:
        moved = model.target is None or model.target != model.output
        fits = math.prod(model.output_shape) == problem.samples.y[0].numel() and moved
        helped = fits and _invariant_with(module, loss, data, found, seed)
        findings.append(Finding("wrong target action" if helped else "loss", *measured["invariant_loss"]))
    return findings


def _invariant_with(module: nn.Module, loss: Callable, data: Data, found: Inference, seed: int) -> bool:
    """Whether the loss is invariant once targets move as outputs do."""
    other = modules.from_module(module, loss, data, **found.arguments(), target=found.output)
    return other.assumptions is not None and other.assumptions(seed)["invariant_loss"][0] <= ROUNDING


class _Called(TorchFunctionMode):
    """The names of torch's functions that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(getattr(function, "__name__", ""))
        return function(*args, **(kwargs or {}))


def _reason(module: nn.Module, model: ModuleModel, where: str) -> str:
    """Which property of a layer, or of what lies between two, is at fault."""
    layer = re.match(r"layer ([^,]+),", where)
    if layer:
        part: Any = module.get_submodule(layer.group(1))
        if isinstance(part, CONVOLUTIONS):
            padded = part.padding not in (0, "valid") and any(part.padding)
            shifts = model.lattice is not None and type(model.lattice).__name__ == "_Shifts"
            if shifts and padded and part.padding_mode != "circular":
                return "padding"
            if any(s > 1 for s in part.stride):
                return "stride"
            return "padding" if padded else "wrong action"
        return "wrong action"
    called = _Called()
    with torch.no_grad(), called:
        copy.deepcopy(module).eval()(collect_like(module, model))
    inside = re.search(r"\(([^()]*)\), (generator|element)", where)
    words = inside.group(1) if inside else ""
    if re.search("Upsample|Fold", words) or {"interpolate", "grid_sample", "affine_grid"} & set(called.names):
        return "interpolation"
    if "Pool" in words or any("pool" in name and "adaptive" not in name for name in called.names):
        return "stride"
    if "pad" in called.names or "Pad" in words:
        return "padding"
    at_the_end = not words and "and the output" in where
    return "nonlinearity" if not at_the_end and (words or set(called.names) & POINTWISE) else "wrong action"


# Functions that commute with permutations only.
POINTWISE = {"tanh", "relu", "gelu", "softplus", "sigmoid", "mul", "add", "silu", "elu"}


def collect_like(module: nn.Module, model: ModuleModel) -> Tensor:
    """An input of the module's own kind."""
    like = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(1))
    x = torch.zeros(2, *model.input_shape, dtype=like.dtype)
    return x if model.integers is None else x.to(model.integers)


# -- what holds at the weights given ------------------------------------------------------------------------------


def _at_weights(problem: Problem, model: ModuleModel) -> tuple[dict[str, float], float, float]:
    """max |z(g·x) − g·z(x)|/max |z| layer by layer and of the outputs, and that of float32."""
    x = problem.samples.x[:PROBES]
    plain, _ = model.watch(model.given, x)
    errors: dict[str, float] = {}
    narrow = 0.0
    for g in problem.group.generators:
        moved, _ = model.watch(model.given, model.input.act(g, x))
        for before, after in zip(plain, moved, strict=True):
            expected = model.act(g, before)
            if expected is None or (before.side == "in" and before.layer is not None):
                continue
            name = before.layer.name if before.layer else "output"
            size = float((after.value - expected).abs().max() / before.value.abs().max().clamp_min(1e-300))
            errors[name] = max(errors.get(name, 0.0), size)
        low, a = x.float(), model.given.float()
        there = model.predict(a, model.input.act(g, low)).double()
        here = model.output.act(g, model.predict(a, low).double())
        narrow = max(narrow, float((there - here).abs().max() / here.abs().max().clamp_min(1e-300)))
    return errors, errors.get("output", 0.0), narrow


def _distances(problem: Problem, at: Tensor) -> dict[str, float]:
    """‖W − ΠW‖/‖W‖ of every tensor."""
    space = problem.space
    pairs = zip(space.layers, space.split(at), space.split(space.transverse_part(at)), strict=True)
    return {layer.name: float(rest.norm()) / (float(w.norm()) or 1.0) for layer, w, rest in pairs}


def _forcing(problem: Problem, at: Tensor) -> float:
    """‖(I − Π)∇R(ΠA)‖/‖∇R(ΠA)‖: zero for data that G maps onto themselves."""
    on_e = problem.space.equivariant_part(at)
    gradient = torch.func.grad(lambda a: problem.loss(a, problem.samples))(on_e)
    return float(problem.space.transverse_part(gradient).norm()) / (float(gradient.norm()) or 1.0)


def _of_weights(module: nn.Module, found: Inference, distances: Mapping[str, float], forcing: float) -> list[Finding]:
    findings = []
    for key, value in module.named_buffers():
        rho = found.representations.get(key.rpartition(".")[0])
        if isinstance(rho, Representation) and value.is_floating_point() and value.numel() == rho.dim:
            off = float((value - invariant(value, rho)).norm()) / (float(value.norm()) or 1.0)
            if off > OFF:
                findings.append(Finding("batch norm", off, f"{key}: statistics that G does not leave as they are"))
    frozen = {key for key, p in module.named_parameters() if not p.requires_grad}
    worst = max(distances, key=lambda key: distances[key], default="")
    held = [key for key in distances if key in frozen and distances[key] > OFF]
    if held:
        findings.append(Finding("frozen part", max(distances[key] for key in held), f"{', '.join(held)} off E"))
    if worst and distances[worst] > OFF and worst not in frozen:
        pushed = forcing > OFF
        where = f"{worst} off E" + (f", ∇R points off E by {forcing:.1e} of its size" if pushed else "")
        findings.append(Finding("unsymmetric data" if pushed else "weights", distances[worst], where))
    return findings
