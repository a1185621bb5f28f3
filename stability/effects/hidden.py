r"""How hidden units move when the input does: whether weights off E still make an equivariant function, and why.

On E a hidden layer moves as declared, h(ρ_X(g)x) = ρ(g)h(x). Off E a function stays equivariant where its hidden layers
move by *another* representation. With pointwise σ that is one of permutations, and of signs where σ is odd:

    channels   h(ρ_X(g)x) = (τ(g) ⊗ 1) ρ(g)h(x)     the copies of a representation are exchanged besides
    units      h(ρ_X(g)x) = P(g)h(x)                any permutation

τ(g) and P(g) are the assignments that fit best, so what is named was measured and not guessed.

>>> still_equivariant(1e-9, 0.1), still_equivariant(0.05, 0.1)
(True, False)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from stability.base.record import Record
from stability.groups import Element, Representation
from stability.networks.modulemodel import ModuleModel
from stability.problem.problem import Problem

PROBES = 64
# Units of a layer beyond which none are assigned to each other.
LARGEST = 1500
# Of the share of the weights that is off E: a smaller equivariance error is none.
SAME = 1e-3
# A smaller share is none.
ON_E = 1e-6


@dataclass(frozen=True)
class HiddenLayer(Record):
    """How one hidden layer moves under the generators of G; errors are relative to max |h|, the worst of all samples.

    Attributes:
        layer: its name.
        units: numbers of an activation.
        declared: |h(ρ_X(g)x) − ρ(g)h(x)|; None where the action on its positions is not known.
        channels: copies of one representation that it consists of; None where it is no such sum.
        channelwise: the same after the exchange of channels, with signs, that fits best; None likewise.
        exchanged, turned: channels that some generator takes to another one, and whose sign one changes.
        unitwise: the error of the permutation of units, with signs, that fits best; None where there are too many.
        elsewhere: units that do not move as declared.
    """

    layer: str
    units: int
    declared: float | None = None
    channels: int | None = None
    channelwise: float | None = None
    exchanged: int = 0
    turned: int = 0
    unitwise: float | None = None
    elsewhere: int = 0

    def kept(self, share: float) -> str:
        """What it does beside what was declared, as a clause; "" for nothing, "?" for what was not found."""
        if self.declared is not None and still_equivariant(self.declared, share):
            return ""
        if self.channelwise is not None and still_equivariant(self.channelwise, share):
            parts = [f"exchanges {self.exchanged:,}"] if self.exchanged else []
            parts += [f"changes the sign of {self.turned:,}"] if self.turned else []
            return f"in {self.layer} the group also {' and '.join(parts)} of {self.channels:,} channels"
        if self.unitwise is not None and still_equivariant(self.unitwise, share):
            return f"in {self.layer} the group permutes {self.elsewhere:,} of {self.units:,} units otherwise"
        return "?"


def still_equivariant(error: float, share: float) -> bool:
    """Whether an equivariance error is none beside the ``share`` of the weights that is off E."""
    return error <= SAME * share


def reason(layers: Sequence[HiddenLayer], share: float) -> str:
    """Why an equivariant function may have this share of its weights off E, as a clause; "" where none was found."""
    found = [x.kept(share) for x in layers]
    if not found or "?" in found:
        return ""
    told = [text for text in found if text]
    if not told:
        return "hidden units still move as declared, so what left E acts on nothing that these data reach"
    return f"hidden units move by another representation than declared: {', '.join(told)}"


def hidden_layers(problem: Problem, at: Tensor, share: float) -> tuple[HiddenLayer, ...]:
    """How every hidden layer of Φ_A moves; () where its activations are not known.

    Args:
        problem: whose samples are looked at.
        at: the weights A, (dim L).
        share: ‖A_E⊥‖/‖A‖, which says what counts as an error; see :func:`still_equivariant`.
    """
    if problem.model is None:
        return ()
    x, generators = problem.samples.x[:PROBES], problem.group.generators
    plain = _states(problem, at, x)
    moved = [_states(problem, at, problem.model.input.act(g, x)) for g in generators]
    return tuple(
        _layer(state, [state.act(g) for g in generators], [there[i].value for there in moved], SAME * share)
        for i, state in enumerate(plain)
    )


@dataclass(frozen=True)
class _State:
    """Activations of one hidden layer before σ.

    Attributes:
        layer: its name.
        value: h(x), a batch.
        act: g ↦ ρ(g)h(x) as declared; None where that is not known.
        channels: copies of one representation, the first axis of an activation or its last; None for another sum.
        last: whether it is the last.
    """

    layer: str
    value: Tensor
    act: Callable[[Element], Tensor | None]
    channels: int | None
    last: bool = False

    def by_channel(self, value: Tensor) -> Tensor:
        """(samples, channels, the rest) of an activation like this one."""
        first = value.movedim(-1, 1) if self.last else value
        return first.reshape(len(value), self.channels or 1, -1)


def _states(problem: Problem, at: Tensor, x: Tensor) -> list[_State]:
    """Of every layer but the last; none where the model does not show them."""
    found = []
    if isinstance(model := problem.model, ModuleModel):
        for event in model.watch(at, x)[0]:
            if event.side == "out" and event.layer is not None:
                target, act = event.layer.target, partial(model.act, event=event)
                found.append(_State(event.layer.name, event.value, act, _copies(target.channels), target.channels_last))
    elif problem.layered is not None:
        network = problem.layered.network
        for i, (layer, weight) in enumerate(zip(network.space.layers, network.space.split(at), strict=True)):
            before = network.entering(i, x) @ weight.mT
            found.append(_State(layer.name, before, partial(layer.target.act, x=before), _copies(layer.target)))
            x = network.nonlinearities[i](before, layer.target)
    return found[:-1]


def _copies(space: Representation) -> int | None:
    return space.blocks[0][0] if len(space.blocks) == 1 else None


def _layer(state: _State, declared: Sequence[Tensor | None], moved: Sequence[Tensor], least: float) -> HiddenLayer:
    """The layer under all generators: h(x), and ρ(g)h(x) and h(ρ_X(g)x) for each of them."""
    scale, units = float(state.value.abs().max()) or 1.0, state.value[0].numel()
    found = HiddenLayer(state.layer, units)
    known = [(d, m) for d, m in zip(declared, moved, strict=True) if d is not None]
    if len(known) == len(moved):
        missed = torch.stack([(d - m).abs().flatten(1).amax(0) for d, m in known]).amax(0) / scale
        found = replace(found, declared=float(missed.max()), elsewhere=int((missed > least).sum()))
        if state.channels is not None:
            fits = [_assigned(state.by_channel(d), state.by_channel(m)) for d, m in known]
            found = replace(
                found,
                channels=state.channels,
                channelwise=max((fit.error for fit in fits), default=0.0) / scale,
                exchanged=int(np.any([fit.source != np.arange(state.channels) for fit in fits], axis=0).sum()),
                turned=int(np.any([fit.signs < 0 for fit in fits], axis=0).sum()),
            )
    if units <= LARGEST:
        flat = state.value.flatten(1).unsqueeze(-1)
        errors = [_assigned(flat, m.flatten(1).unsqueeze(-1)).error for m in moved]
        found = replace(found, unitwise=max(errors, default=0.0) / scale)
    return found


@dataclass(frozen=True)
class _Fit:
    """The signed permutation that fits best.

    Attributes:
        source: which one every column comes from.
        signs: of each, ±1.
        error: the largest entry of what is left.
    """

    source: np.ndarray
    signs: np.ndarray
    error: float


def _assigned(before: Tensor, after: Tensor) -> _Fit:
    """P with signs for which ‖after − P before‖ is least, both (samples, columns, entries of a column)."""
    overlap = torch.einsum("nie,nje->ij", after, before).cpu().double().numpy()
    sizes = [x.square().sum((0, 2)).cpu().double().numpy() for x in (after, before)]
    _, source = linear_sum_assignment(sizes[0][:, None] + sizes[1] - 2 * np.abs(overlap))
    signs = np.where(overlap[np.arange(len(source)), source] < 0, -1.0, 1.0)
    left = after - before[:, torch.as_tensor(source)] * torch.as_tensor(signs).to(before)[:, None]
    return _Fit(source, signs, float(left.abs().max()))
