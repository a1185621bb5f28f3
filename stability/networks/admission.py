"""What a module must be before it is made a problem: copied without loss, called once, and seen to be what R needs."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from stability.base import doors
from stability.base.errors import BadInput
from stability.groups import Group, Lattice, Representation
from stability.networks.differentiable import INSIDE
from stability.networks.modulemodel import TOLERANCE, Event, ModuleModel, in_precision
from stability.networks.structures import Layout, of_output
from stability.networks.weightnorm import write_out
from stability.problem.space import Samples
from stability.problem.tensors import element


def arguments(
    module: object,
    decides: object,
    name: object,
    spaces: Mapping[str, object],
    lattice: object,
) -> None:
    """Raise BadInput for arguments of another kind."""
    doors.kind("module", module, nn.Module, "give a torch.nn.Module")
    if type(module).__module__.startswith("torch.jit"):
        raise BadInput("module: a TorchScript module cannot be called with other weights; give the module it came from")
    if decides is not None:
        doors.flag("decides", decides)
    if name is not None:
        doors.text("name", name)
    for what, rho in spaces.items():
        for part in rho.values() if isinstance(rho, Mapping) else rho if isinstance(rho, tuple | list) else (rho,):
            if part is not None:
                doors.kind(what, part, Representation, "give a representation, or leave it out")
    if lattice is not None:
        doors.kind("lattice", lattice, Lattice, "give a stability.groups.Lattice, or leave it out")


def private(name: str, module: nn.Module, dtype: torch.dtype) -> tuple[nn.Module, list[tuple[str, str]]]:
    """A copy of the module in evaluation mode and in the precision asked for, and a word on what was converted.

    Raises:
        BadInput: weights that are not there, sparse or quantised; a module that cannot be copied.
    """
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for key, value in own.items():
        if nn.parameter.is_lazy(value):
            raise BadInput(f"{name}: {key} has no shape yet; run the module on one batch first")
        doors.dense(f"{name}: {key}", value)
    # Weights that a hook computes before every pass (weight_norm) are no leaves, which copying refuses: copy the value.
    memo = {
        id(v): v.detach().clone()
        for part in module.modules()
        for v in vars(part).values()
        if isinstance(v, Tensor) and not v.is_leaf
    }
    try:
        private = copy.deepcopy(module, memo).eval()
        private = private.double() if dtype == torch.float64 else private.float()
    except Exception as error:
        raise BadInput(
            f"{name}: the module cannot be copied ({doors.reason(error)}); rebuild it without that"
        ) from error
    write_out(private)
    for value in [*private.parameters(), *private.buffers()]:
        value.data = in_precision(value.data, dtype)  # Module.to would drop the imaginary part of complex weights
    for value in private.parameters():
        value.requires_grad_(False)
    kinds = {v.dtype for v in module.parameters() if v.is_floating_point() or v.is_complex()}
    changed = sorted(str(kind).removeprefix("torch.") for kind in kinds - {dtype, doors.WIDE[dtype]})
    way = "exactly" if dtype == torch.float64 else "rounded where it is narrower"
    text = f"{', '.join(changed)} weights converted to {str(dtype).removeprefix('torch.')}, {way}"
    return private, [("precision", text)] if changed and changed != ["float32"] else []


def no_spectral_norm(name: str, module: nn.Module, representations: Mapping[str, object]) -> None:
    """Raise BadInput for spectral norms of layers that are studied: their vectors u, v stay where they are.

    W/(uᵀWv) with u and v held fixed, as torch computes it, is the moved weight for no moved W.
    """
    for key, part in module.named_modules():
        held = [type(one).__name__ for chain in getattr(part, "parametrizations", {}).values() for one in chain]
        hooks = [type(hook).__name__ for hook in part._forward_pre_hooks.values()]
        studied = [k for k, rho in representations.items() if rho is not None and f"{k}.".startswith(f"{key}.")]
        if studied and ("_SpectralNorm" in held or "SpectralNorm" in hooks):
            take = (
                "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')"
                if "_SpectralNorm" in held
                else "torch.nn.utils.remove_spectral_norm(layer)"
            )
            raise BadInput(
                f"{name}: spectral_norm of {key} divides by uᵀWv with vectors u, v of its own that do not move with W, "
                f"so no representation fits; take it off by {take}, which keeps the weight that it computes"
            )


def _ways(draft: ModuleModel, kind: torch.dtype) -> list[ModuleModel]:
    """How a module may want its inputs: integers as integers or as floats, several as arguments or as one."""
    if draft.inputs is None:
        return [draft] if kind.is_floating_point else [replace(draft, integers=kind), draft]
    types = dict.fromkeys([draft.inputs, draft.inputs.as_floats()])
    spreads = ("names", "positions", "one") if len(draft.inputs.parts) == 1 else ("names", "one")
    return [replace(draft, spread=spread, inputs=inputs) for spread in spreads for inputs in types]


def first_pass(name: str, draft: ModuleModel, x: Tensor, kind: torch.dtype) -> tuple[ModuleModel, list[Event], Tensor]:
    """The activations and predictions of a few samples; integers stay integers where the module takes them.

    Raises:
        BadInput: a module that fails, gives no tensor of real numbers, is random, casts, or mixes samples.
    """
    failed: list[Exception] = []
    for way in _ways(draft, kind):
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message="Casting complex values to real")
                _, plain = way.watch(way.given, x, raw=True)
        except Exception as error:
            failed.append(error)
            continue
        if not isinstance(plain, Tensor) and (layout := of_output(plain, len(x))) is not None:
            way = replace(way, outputs=layout)
            plain = layout.pack(plain, x)
        is_prediction(name, plain, x)
        again = way._call(way.given, x)
        if not torch.equal(again, plain):
            gap = float((again - plain).abs().max() / plain.abs().max().clamp_min(1e-300))
            raise BadInput(
                f"{name}: two passes over the same inputs differ by {gap:.1e} (relative); give a module without random "
                "numbers (dropout called with training=True) and without memory of earlier calls"
            )
        alone = _alone(name, way, x)
        mixing = float((alone - plain).abs().max() / plain.abs().max().clamp_min(1e-300))
        if not mixing <= TOLERANCE[x.dtype]:
            raise BadInput(
                f"{name}: predictions change by {mixing:.1e} (relative) with the other samples of the batch, so the "
                "risk is no mean over samples; use layers that treat each sample by itself"
            )
        events, plain = way.watch(way.given, x)
        return way, events, plain
    told = next((e for e in failed if "argument" not in str(e)), failed[0])
    raise BadInput(f"{name}: {_why(told, draft, x, kind)}") from told


def _alone(name: str, way: ModuleModel, x: Tensor) -> Tensor:
    """Predictions of each sample by itself."""
    try:
        return torch.cat([way._call(way.given, x[i : i + 1]) for i in range(len(x))])
    except Exception as error:
        raise BadInput(
            f"{name}: the module cannot take one sample alone ({doors.reason(error, 120)}), so the risk is no mean "
            "over samples; use running statistics (track_running_stats=True), or layers that take each sample by itself"
        ) from error


def _why(error: Exception, draft: ModuleModel, x: Tensor, kind: torch.dtype) -> str:
    """Why a module did not take its inputs, and what to do about it."""
    reason, narrow = doors.reason(error), x.dtype == torch.float64
    if "requires_grad" in reason or "does not require grad" in reason:
        return f"the module takes gradients inside itself by torch.autograd ({doors.reason(error, 90)}); {INSIDE}"
    if narrow and any(word in reason for word in ("same dtype", "same dtypes", "expected scalar type")):
        return (
            f"the module casts to float32 inside while it is computed in float64 ({doors.reason(error, 120)}); write "
            "x.to(self.weight.dtype) instead of x.float(), or give dtype=torch.float32"
        )
    if draft.inputs is not None:
        parts = ", ".join(f"{p.name} {p.shape}" for p in draft.inputs.parts)
        return (
            f"the module cannot take inputs {parts} ({reason}), neither as arguments of their own nor as one; give "
            "them by the names of its arguments"
        )
    return (
        f"the module cannot take inputs of shape {tuple(x.shape)}, {str(kind).removeprefix('torch.')} ({reason}); give "
        "data as the module takes them"
    )


def is_prediction(name: str, found: object, x: Tensor) -> None:
    """Raise BadInput unless this is one row of real numbers for each input, in the precision of the inputs."""
    if not isinstance(found, Tensor):
        what = (
            f"{type(found).__name__} of {len(found)}"
            if isinstance(found, tuple | list | Mapping)
            else doors.shown(found)
        )
        raise BadInput(f"{name}: the module must return one tensor, not {what}; wrap it so that it does")
    if found.ndim < 1:
        raise BadInput(
            f"{name}: the module must return one tensor with a row for each sample, but it adds its {len(x)} samples "
            "up to one number; leave the sum or mean over samples to the loss"
        )
    if len(found) != len(x):
        raise BadInput(
            f"{name}: the module must return one tensor with a row for each sample, not shape {tuple(found.shape)} for "
            f"{len(x)} samples"
        )
    if found.is_complex():
        raise BadInput(f"{name}: the module returns complex numbers; return torch.view_as_real of them")
    if found.dtype != x.dtype:
        raise BadInput(
            f"{name}: the module returns {found.dtype} from inputs and weights in {x.dtype}, so it casts inside, and "
            "derivatives are those of what is left; take the cast out"
        )
    doors.finite(f"{name}: the prediction", found, "look at the weights")


def fits(
    name: str,
    group: Group,
    rho_in: Representation,
    rho_out: Representation,
    target: Representation | None,
    shape: tuple[int, ...],
    prediction: Tensor,
    train: Samples,
) -> None:
    """Raise BadInput where a representation has another group or dimension than what it acts on."""
    for what, rho, count in (("input", rho_in, math.prod(shape)), ("output", rho_out, math.prod(prediction.shape[1:]))):
        if rho.group != group:
            raise BadInput(f"{name}: {what} has a representation of {rho.group.name}, the layers of {group.name}")
        if rho.dim != count:
            raise BadInput(f"{name}: {what} has {count} numbers, but {rho.name} has dimension {rho.dim}")
    if target is None:
        return
    if target.group != group:
        raise BadInput(f"{name}: target has a representation of {target.group.name}, the layers of {group.name}")
    if target.dim != math.prod(train.y.shape[1:]):
        raise BadInput(f"{name}: targets have {math.prod(train.y.shape[1:])} numbers, but {target.name} {target.dim}")


def keeps_integers(name: str, rho: Representation, x: Tensor, layout: Layout | None = None) -> None:
    """Raise BadInput where G moves integers to what are none: the module would be given rounded numbers."""
    flat = x.flatten(1)
    whole = torch.ones(flat.shape[1], dtype=torch.bool)
    if layout is not None:
        whole = torch.cat([torch.full((part.size,), part.dtype is not None) for part in layout.parts])
    for g in rho.group.generators:
        moved = rho.act(g, flat)[:, whole]
        if not torch.equal(moved, moved.round()) or float(moved.min()) < min(float(flat[:, whole].min()), 0):
            raise BadInput(
                f"{name}: inputs are integers to the module, and {rho.name} moves them to other numbers "
                f"({element(rho.group, g)}); give input= a representation by permutations, or inputs that are floats"
            )


def decides(name: str, decides: bool | None, y: Tensor, prediction: Tensor) -> bool:
    """Whether targets are classes, of which there is one logit each."""
    classes = y.ndim == 1 and not y.is_floating_point() and prediction.ndim == 2
    classes = classes and int(y.min()) >= 0 and int(y.max()) < prediction.shape[1]
    if decides and y.ndim == 1 and not classes:
        raise BadInput(f"{name}: decides=True needs labels from 0 to the number of predictions − 1; leave it out")
    return classes if decides is None else bool(decides)


def same_shapes(name: str, train: Samples, part: Samples) -> None:
    """Raise BadInput where inputs or targets have another shape than those of the training set."""
    for what, a, b in (("inputs", train.x, part.x), ("targets", train.y, part.y)):
        if a.shape[1:] != b.shape[1:]:
            raise BadInput(f"{name}: {what} have shape {tuple(b.shape[1:])}, in training {tuple(a.shape[1:])}")
