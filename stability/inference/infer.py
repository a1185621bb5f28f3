"""Representations of every layer from a module, its data and a group: nothing declared.

The module runs once on a few samples. The action on its input is known from the group and the shape (images turned,
flipped or shifted; tokens permuted; vectors), and is carried from layer to layer: activations keep it, pooling and
flattening change what it acts on, and what a Linear or Conv layer puts out is searched in its weights (:mod:`search`).
Whether the whole is right is measured by ``stability.check`` (Lemma 3 at random weights), not believed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from stability.base import doors
from stability.base.errors import BadInput
from stability.base.states import peeled
from stability.groups import (
    Group,
    Lattice,
    Representation,
    Symmetric,
    TensorProduct,
    permutation,
    trivial,
)
from stability.inference.entry import Entry, Flow, entry
from stability.inference.search import Guess, fit, ranked
from stability.networks.declared import CONVOLUTIONS, Convolution
from stability.networks.gathering import Data, collect
from stability.problem.tensors import spread

SAMPLES = 4
# Activations that an odd number of signs passes through.
ODD = (nn.Tanh, nn.Softsign, nn.Hardtanh, nn.Identity, nn.Dropout, nn.Tanhshrink, nn.Softshrink)
# Below this share of what random weights have, weights are said to know their representation.
KNOWN = 0.3


@dataclass(frozen=True)
class Found:
    """What was found for one layer.

    Attributes:
        name: of the layer.
        source: text of the representation of its inputs.
        guess: of its outputs.
        others: alternatives, the best first.
    """

    name: str
    source: str
    guess: Guess
    others: tuple[Guess, ...]

    def __str__(self) -> str:
        known = "in the weights" if self.guess.how == "matched" or self.guess.score < KNOWN else "by its kind"
        if self.guess.how == "given":
            known = "as given"
        rest = "; else " + ", ".join(map(str, self.others[:2])) if self.others else ""
        return f"{self.name}: {self.source} → {self.guess}, {known}{rest}"


@dataclass(frozen=True, eq=False)
class Inference:
    """The declaration that :func:`infer` finds.

    Attributes:
        group: G.
        representations: for :func:`stability.from_module`.
        input: on a flattened input.
        output: on a flattened prediction.
        lattice: the action on grids; None where there are none.
        layers: what was found for each Linear and Conv layer.
        setup: lines of code that the expressions in :meth:`code` rest on.
        texts: the same declaration as expressions, by layer, and of input, output and lattice.
    """

    group: Group
    representations: dict[str, Any]
    input: Representation
    output: Representation
    lattice: Lattice | None
    layers: tuple[Found, ...]
    setup: tuple[str, ...]
    texts: dict[str, str]

    @property
    def distance(self) -> float:
        """The largest ‖W − ΠW‖/‖W‖ of a layer."""
        return max((found.guess.distance for found in self.layers), default=0.0)

    def arguments(self) -> dict[str, Any]:
        """What :func:`stability.from_module` takes beside the module, the loss and the data."""
        more = {"lattice": self.lattice} if self.lattice is not None else {}
        return {"representations": self.representations, "input": self.input, "output": self.output, **more}

    def code(self) -> str:
        """The declaration as code to paste."""
        sides = {"input", "output", "lattice"}
        lines = [*self.setup, "representations = {"]
        lines += [f"    {name!r}: {text}," for name, text in self.texts.items() if name not in sides]
        named = ", ".join(f"{k}={self.texts[k]}" for k in ("input", "output", "lattice") if k in self.texts)
        return "\n".join([*lines, "}", f"sides = dict({named})"])

    def __str__(self) -> str:
        return "\n".join([f"{self.group.name} on {self.texts['input']}", *map(str, self.layers)])


class _Tracer:
    """Carries the action through one pass of a module.

    Args:
        module: in evaluation mode.
        given: representations that the user has, by layer.
        start: how G moves the input.
    """

    def __init__(self, module: nn.Module, given: Mapping[str, Any], start: Entry) -> None:
        self.module, self.given, self.start = module, given, start
        self.group = start.whole.group
        self.flows: list[tuple[Tensor, Flow]] = []  # tensors are kept, so that their memory is not used again
        self.representations: dict[str, Any] = {}
        self.texts: dict[str, str] = {}
        self.layers: list[Found] = []
        self.odd = _odd_behind(module)
        self.stuck: str | None = None

    def flow_of(self, x: Tensor) -> Flow | None:
        """The action on a tensor: of the very tensor if it was seen, else of the last that it can have come from."""
        for tensor, flow in reversed(self.flows):
            if tensor.data_ptr() == x.data_ptr() and tensor.shape == x.shape:
                return flow
        for _, flow in reversed(self.flows):
            if (found := self.adapted(flow, tuple(x.shape[1:]))) is not None:
                return found
        return None

    def adapted(self, flow: Flow, shape: tuple[int, ...]) -> Flow | None:
        """The action after what keeps it: elementwise functions, pooling, flattening."""
        channels = flow.channels.dim
        if flow.grid and len(shape) == 1 + len(flow.grid) and shape[0] == channels:
            return replace(flow, grid=shape[1:])
        if flow.grid and shape == (channels,):
            return Flow(flow.channels)
        if flow.grid and self.start.lattice and shape == (channels * math.prod(flow.grid),):
            return Flow(spread(TensorProduct(flow.channels, self.start.lattice(flow.grid))))
        if flow.positions is not None and shape == (flow.positions.dim, channels):
            return flow
        if flow.positions is not None and shape == (channels,):
            return Flow(flow.channels)
        if flow.positions is not None and shape == (flow.positions.dim * channels,):
            return Flow(flow.positions * flow.channels)
        if not flow.grid and flow.positions is None and math.prod(shape) == channels:
            return flow
        return None

    def traced(self, x: Tensor) -> Tensor:
        """One pass.

        Raises:
            BadInput: the module does not take the data, or a layer that is not searched.
        """
        try:
            return self.run(x)
        except BadInput:
            raise
        except Exception as error:
            raise BadInput(f"infer: the module cannot take the data ({doors.reason(error)}); give others") from error

    def run(self, x: Tensor) -> Tensor:
        """One pass, every leaf module asked what it does to the action."""
        self.flows.append((x, self.start.flow))
        handles = [
            part.register_forward_hook(self._hook(name))
            for name, part in self.module.named_modules()
            if not list(part.children()) or _is_whole(part)
        ]
        try:
            with torch.no_grad():
                return self.module(x)
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, name: str) -> Any:
        def hook(part: nn.Module, arguments: tuple, result: Any) -> None:
            if self.stuck is None and arguments and isinstance(arguments[0], Tensor):
                self.passed(name, part, arguments[0], result[0] if isinstance(result, tuple) else result)

        return hook

    def passed(self, name: str, part: nn.Module, x: Tensor, y: Tensor) -> None:
        """What a leaf module makes of the action on its input."""
        flow = self.flow_of(x)
        own = [key for key, _ in part.named_parameters(recurse=False)]
        if flow is None:
            self.stuck = f"{name}, a {type(part).__name__} on inputs of shape {tuple(x.shape[1:])}"
            return
        if name in self.representations and isinstance(part, nn.Linear | Convolution):
            found = self.representations[name][1]
        elif isinstance(part, nn.Linear | Convolution):
            found = self.layer(name, part, flow)
        elif own or _is_whole(part) or isinstance(part, nn.modules.batchnorm._BatchNorm):
            self.parameters(name, part, flow)
            found = flow.channels
        else:
            kept = self.adapted(flow, tuple(y.shape[1:]))
            self.flows.extend([] if kept is None else [(y, kept)])
            return
        grid = tuple(y.shape[2:]) if isinstance(part, Convolution) else flow.grid
        self.flows.append((y, Flow(found, flow.positions, grid)))

    def parameters(self, name: str, part: nn.Module, flow: Flow) -> None:
        """Norms act on channels as these do; whatever takes tokens one by one, or together, knows no positions."""
        if isinstance(part, nn.modules.batchnorm._NormBase) and part.num_features == flow.channels.dim:
            self.representations[name], self.texts[name] = flow.channels, self.text_of(flow.channels)
            return
        for key, p in part.named_parameters():
            full = f"{name}.{key}" if name else key
            on_channels = p.ndim == 1 and len(p) == flow.channels.dim and not _is_whole(part)
            rho = flow.channels if on_channels else p.numel() * trivial(self.group)
            self.representations[full] = rho
            self.texts[full] = self.text_of(rho)

    def layer(self, name: str, part: nn.Linear | Convolution, flow: Flow) -> Representation:
        """The representation of a layer's outputs, given or searched in its weights."""
        weight, source, bias = part.weight.detach().double(), flow.channels, part.bias
        if isinstance(part, CONVOLUTIONS):
            if self.start.lattice is None or isinstance(part, CONVOLUTIONS[3:]) or part.groups != 1:
                raise BadInput(
                    f"infer: {name}, {part}, is not one that representations are searched in; give layers="
                    f"{{{name!r}: (representation in, representation out)}}"
                )
            source = TensorProduct(source, self.start.lattice(tuple(part.weight.shape[2:])))
        matrix = weight.reshape(len(weight), -1)
        signed = self.odd.get(name, False)
        others: list[Guess] = []
        if bias is not None:
            matrix, source = torch.cat([matrix, bias.detach().double()[:, None]], 1), source + trivial(self.group)
        if name in self.given:
            best, others = fit(matrix, source, self.given[name][1], self.text_of(self.given[name][1]), "given"), others
        elif flow.positions is not None or (self.group.order or 10**9) > 200:
            rho = len(matrix) * trivial(self.group)
            best, others = fit(matrix, source, rho, f"{len(matrix)} * trivial(G)", "kind"), others
        else:
            best, *others = self.chosen(ranked(matrix, source, signed), self.moves_inside(name, part, flow))
        self.layers.append(Found(name, self.text_of(flow.channels), best, tuple(others)))
        sides = (flow.channels, best.rho) if flow.positions is None else (flow.channels, best.rho, flow.positions)
        self.representations[name] = sides
        self.known_texts()[best.rho] = best.text
        self.texts[name] = f"({', '.join(self.text_of(rho) for rho in sides)})"
        return best.rho

    def moves_inside(self, name: str, part: nn.Module, flow: Flow) -> bool:
        """Whether a layer is hidden and on vectors: channels that stay would make all behind it invariant."""
        last = [n for n, m in self.module.named_modules() if isinstance(m, nn.Linear | Convolution)][-1]
        on_vectors = isinstance(part, nn.Linear) and flow.positions is None and not flow.grid
        still = flow.channels.dim * trivial(self.group)
        return on_vectors and name != last and flow.channels != still and self.start.lattice is None

    def chosen(self, guesses: list[Guess], moving: bool) -> list[Guess]:
        """The guess that the weights know, else channels left alone, of hidden vectors copies of the regular one."""
        if guesses[0].score < KNOWN:
            return guesses
        kinds = [guess for guess in guesses if guess.how == "kind"]
        wanted = [guess for guess in kinds if ("regular" in guess.text) == moving] or kinds
        return [wanted[0], *(guess for guess in guesses if guess is not wanted[0])]

    def known_texts(self) -> dict[Representation, str]:
        """Expressions of representations met so far."""
        if not hasattr(self, "_texts"):
            self._texts: dict[Representation, str] = {self.start.whole: self.start.texts["input"]}
        return self._texts

    def text_of(self, rho: Representation) -> str:
        """An expression for a representation."""
        known = self.known_texts()
        if rho in known:
            return known[rho]
        if rho == rho.dim * trivial(self.group) or rho == trivial(self.group):
            return f"{rho.dim} * trivial(G)"
        if rho == permutation(self.group) if isinstance(self.group, Symmetric) else False:
            return "permutation(G)"
        for other, text in list(known.items()):
            for tensor, flow in self.flows:
                grids = self.start.lattice is not None and flow.grid
                if grids and self.start.lattice and rho == spread(TensorProduct(other, self.start.lattice(flow.grid))):
                    return f"spread(TensorProduct({text}, lattice({tuple(flow.grid)})))"
                del tensor
        return f"<{rho.name}>"


def _is_whole(part: nn.Module) -> bool:
    """Modules whose parts are looked at together: attention, recurrent layers."""
    return isinstance(part, nn.MultiheadAttention | nn.RNNBase | nn.TransformerEncoderLayer | nn.TransformerEncoder)


def _odd_behind(module: nn.Module) -> dict[str, bool]:
    """Whether every activation module up to the next layer is odd; unknown for functions, of which matching tells."""
    leaves = [(n, m) for n, m in module.named_modules() if not list(m.children())]
    found, last, odd = {}, None, True
    for name, part in leaves:
        if isinstance(part, nn.Linear | Convolution):
            if last is not None:
                found[last] = odd
            last, odd = name, True
        elif not isinstance(part, ODD):
            odd = False
    return found


def infer(
    module: nn.Module,
    data: Data,
    group: Group | Representation,
    *,
    layers: Mapping[str, Any] | None = None,
    output: Representation | None = None,
) -> Inference:
    """The representation of every layer of a module, of its input and of its output.

    Args:
        module: any network; it is only read.
        data: as :func:`stability.from_module` takes it; a few inputs are run.
        group: G, where its action on such inputs is known (images under C_4, D_4, flips and shifts, tokens and graphs
            under S_n); else its representation on a flattened input.
        layers: representations that are known, by layer, as pairs; the others follow.
        output: of a flattened prediction; by default what the last layer puts out.

    Returns:
        a declaration with the distance of the weights to it, alternatives, and itself as code.

    Raises:
        BadInput: an action that is not known, or one that is lost on the way; the message names the layer.

    >>> from stability.groups import Dihedral
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> found = infer(net, (torch.randn(3, 1, 6, 6), torch.tensor([0, 1, 0])), Dihedral(4))
    >>> found.texts["0"], found.texts["4"]
    ('(1 * trivial(G), 4 * trivial(G))', '(4 * trivial(G), 2 * trivial(G))')
    """
    doors.kind("module", module, nn.Module, "give a torch.nn.Module")
    doors.kind("group", group, Group | Representation, "give a group, or its representation on a flattened input")
    module = peeled(module)
    x = collect(data, SAMPLES).x
    like = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(1))
    x = x.to(like.dtype) if x.is_floating_point() else x
    start = entry(group, tuple(x.shape[1:]))
    training = [part for part in module.modules() if part.training]
    tracer = _Tracer(module.eval(), layers or {}, start)
    try:
        y = tracer.traced(x)
    finally:
        for part in training:
            part.training = True
    if tracer.stuck is not None:
        raise BadInput(
            f"infer: the action of {start.whole.group.name} is lost before {tracer.stuck}; give layers={{name: "
            "(representation in, representation out)} for what lies before it"
        )
    _rest(module, tracer, start)
    flow = tracer.flow_of(y) if isinstance(y, Tensor) else None
    rho = output if output is not None else None if flow is None else _whole(flow, start)
    if rho is None:
        raise BadInput("infer: the action on the output is not known; give output=, its representation")
    texts = {**tracer.texts, **start.texts, "output": "output" if output is not None else tracer.text_of(rho)}
    return Inference(
        start.whole.group, tracer.representations, start.whole, rho, start.lattice, tuple(tracer.layers),
        (*_imports(texts), *start.setup), texts)  # fmt: skip


def _imports(texts: Mapping[str, str]) -> tuple[str, ...]:
    return (
        "import numpy as np",
        "from stability.groups import *",
        "from stability.inference.search import permuting",
        "from stability.problem.tensors import spread",
    )


def _whole(flow: Flow, start: Entry) -> Representation:
    """On a flattened prediction."""
    if flow.grid and start.lattice is not None:
        return spread(TensorProduct(flow.channels, start.lattice(flow.grid)))
    return flow.channels if flow.positions is None else flow.positions * flow.channels


def _rest(module: nn.Module, tracer: _Tracer, start: Entry) -> None:
    """Parameters of no leaf module: position tables move with tokens, everything else is left alone."""
    group = tracer.group
    covered = set(tracer.representations)
    for key, p in module.named_parameters():
        if key in covered or key.rpartition(".")[0] in covered or not p.requires_grad:
            continue
        positions = start.flow.positions
        if positions is not None and positions.dim in p.shape:
            before = math.prod(p.shape[: list(p.shape).index(positions.dim)])
            behind = p.numel() // before // positions.dim
            rho = spread(TensorProduct(before * trivial(group), positions * (behind * trivial(group))))
            text = f"spread(TensorProduct({before} * trivial(G), permutation(G) * ({behind} * trivial(G))))"
        else:
            rho, text = p.numel() * trivial(group), f"{p.numel()} * trivial(G)"
        tracer.representations[key], tracer.texts[key] = rho, text
