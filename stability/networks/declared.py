r"""Which representation each tensor of a module has: declarations by layer or parameter, made into a parameter space.

Linear       W ↦ ρ_out(g) W ρ_in(g)⁻¹                        on (out, in)
Conv         K ↦ (ρ_out ⊗ ρ_in ⊗ π)(g) K                     on (out, in, kernel grid), π the lattice's action
bias         b ↦ ρ_out(g) b
weight_norm  W = diag(s) V / |V|, V as W, s ↦ ρ_out(g) s     exact where ρ_out permutes, which is measured
other        its own representation; complex entries as pairs (real part, imaginary part)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from stability.base.doors import shown
from stability.base.errors import BadInput
from stability.groups import Element, Group, Lattice, Representation, TensorProduct, trivial
from stability.networks.weightnorm import is_normed
from stability.problem.space import ParameterSpace
from stability.problem.tensors import Parameter, parameter, spread

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
TRANSPOSED = CONVOLUTIONS[3:]
Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


@dataclass(frozen=True)
class Activation:
    """How G moves the channels of an activation, and the positions they sit at.

    Attributes:
        channels: the representation on them.
        positions: the representation on positions; None where a lattice moves them, or there are none.
        channels_last: whether channels are the last axis, as for Linear layers, not the first after the batch.
    """

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
    """A linear or convolutional layer whose two sides have representations.

    Attributes:
        name: of the module.
        source: what goes in.
        target: what comes out.
    """

    name: str
    source: Activation
    target: Activation


def _sides(name: str, spec: object) -> tuple[Representation, Representation, Representation | None]:
    if isinstance(spec, tuple) and len(spec) in (2, 3) and all(isinstance(part, Representation) for part in spec):
        return (*spec, None) if len(spec) == 2 else spec
    raise BadInput(
        f"{name}: give (representation of its input channels, of its output channels), and for activations with "
        f"positions their representation as a third, not {spec!r}"
    )


def declared(
    module: nn.Module, representations: Mapping[str, Any], lattice: Lattice | None
) -> tuple[dict[str, Parameter | None], list[Mapped]]:
    """Layers of the parameter space by parameter name, tied ones by their first, and the layers with two sides.

    Raises:
        BadInput: names the module does not have, representations that do not fit, integers to differentiate by.
    """
    parameters = dict(module.named_parameters(remove_duplicate=False))
    first = {id(p): name for name, p in module.named_parameters()}
    modules = dict(module.named_modules())
    specs: dict[str, Parameter | None] = {}
    mapped: list[Mapped] = []
    for name, spec in representations.items():
        if name in parameters:  # a later entry for a single parameter overrides that of its layer
            specs[name] = None if spec is None else of_tensor(name, parameters[name], spec)
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
        elif isinstance(layer, nn.Linear | Convolution):
            found, side = _layer(name, layer, spec, lattice, parameters)
            specs |= found
            mapped.append(side)
        elif isinstance(spec, Representation) and (own or list(layer.buffers(recurse=False))):
            specs |= {k: of_tensor(k, p, spec) for k, p in own.items()}
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


def of_tensor(name: str, tensor: Tensor, spec: Any) -> Parameter:
    """The layer of one parameter of a module; see :func:`stability.problem.tensors.parameter`."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        raise BadInput(f"{name} has integers ({tensor.dtype}), which have no derivative; hold it by None")
    return parameter(name, tensor.shape, spec, tensor.is_complex())


def _layer(
    name: str, layer: nn.Linear | Convolution, spec: Any, lattice: Lattice | None, parameters: Mapping[str, Tensor]
) -> tuple[dict[str, Parameter], Mapped]:
    """The parameters of a linear or convolutional layer, and its two sides."""
    source, target, positions = _sides(name, spec)
    if layer.weight.is_complex():
        raise BadInput(
            f"{name} has complex weights: give the representation of {name}.weight on pairs (real, imaginary part) "
            "under its full name instead"
        )
    if isinstance(layer, nn.Linear):
        weight = parameter(f"{name}.weight", layer.weight.shape, (source, target))
        mapped = Mapped(name, Activation(source, positions, True), Activation(target, positions, True))
    else:
        weight = _kernel(name, layer, source, target, on_grid(name, lattice, layer.kernel_size))
        mapped = Mapped(name, Activation(source, positions, False), Activation(target, None, False))
    bias = {} if layer.bias is None else {f"{name}.bias": parameter(f"{name}.bias", layer.bias.shape, target)}
    if f"{name}.weight" in parameters:
        return {f"{name}.weight": weight} | bias, mapped
    size, direction = _normed(name, layer, parameters)
    if parameters[size].numel() != target.dim or isinstance(layer, TRANSPOSED):
        raise BadInput(
            f"{name}: weight_norm with one size for {layer.weight.numel() // max(parameters[size].numel(), 1)} weights "
            f"is no size for each of {target.dim} outputs; give the representations of {size} and {direction} instead"
        )
    own = {size: parameter(size, parameters[size].shape, target), direction: replace(weight, name=direction)}
    return own | bias, mapped


def _normed(name: str, layer: nn.Module, parameters: Mapping[str, Tensor]) -> tuple[str, str]:
    """The names of s and V where a layer's weight is computed by weight_norm.

    Raises:
        BadInput: it is computed otherwise, or no parameter at all.
    """
    old = f"{name}.weight_g", f"{name}.weight_v"
    if all(key in parameters for key in old):
        return old
    held = f"{name}.parametrizations.weight"
    new = f"{held}.original0", f"{held}.original1"
    if parametrize.is_parametrized(layer, "weight") and all(key in parameters for key in new) and is_normed(layer):
        return new
    computed = [key for key in parameters if key.startswith(f"{name}.") and not key.endswith(".bias")]
    raise BadInput(
        f"{name}: its weight is computed from {', '.join(computed) or 'something else'}; give the representation of "
        "each of these under its full name instead of the layer's"
    )


def on_grid(name: str, lattice: Lattice | None, shape: tuple[int, ...]) -> Representation:
    """How G moves the points of a grid.

    Raises:
        BadInput: no action on grids is known.
    """
    if lattice is None:
        raise BadInput(f"{name}: how the group moves a grid of {shape} points is not known; give lattice=")
    return lattice(shape)


def _kernel(
    name: str, layer: Convolution, source: Representation, target: Representation, kernel: Representation
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


def invariant(value: Tensor, rho: Representation) -> Tensor:
    """The projection of a vector onto what G fixes."""
    space = ParameterSpace((Parameter("buffer", trivial(rho.group), spread(rho), tuple(value.shape)),))
    return space.equivariant_part(value.reshape(-1)).reshape(value.shape)


def group_of(name: str, representations: Mapping[str, Any]) -> Group:
    """The group that all representations are of.

    Raises:
        BadInput: none, or several.
    """
    if not isinstance(representations, Mapping):
        raise BadInput(f"representations: {shown(representations)}; give a dict, names of layers ↦ representations")
    if strange := [key for key in representations if not isinstance(key, str)]:
        raise BadInput(f"representations: {shown(strange[0])} is no name; give names of layers or parameters")
    parts = [p for spec in representations.values() for p in (spec if isinstance(spec, tuple) else (spec,))]
    groups = [p.group for p in parts if isinstance(p, Representation)]
    if not groups:
        raise BadInput(f"{name}: no representation is given; give one for each layer")
    for other in groups[1:]:
        if other != groups[0]:
            raise BadInput(f"{name}: representations of {groups[0].name} and of {other.name}; use one group")
    return groups[0]


def invariant_buffers(buffers: Mapping[str, Tensor], representations: Mapping[str, Any]) -> dict[str, Representation]:
    """Buffers of layers with one representation (batch norm's statistics), which G must fix."""
    found = {}
    for key, value in buffers.items():
        spec = representations.get(key.rpartition(".")[0])
        if isinstance(spec, Representation) and value.is_floating_point() and value.numel() == spec.dim:
            found[key] = spec
    return found
