"""Any differentiable risk on named tensors, each with a representation of its own.

    R: (A_1, …, A_k) ↦ R(A),   ρ̄(g)A = (ρ_1(g)A_1, …, ρ_k(g)A_k),   R^aug(A) = ∫ R(ρ̄(g)A) dμ(g)

A tensor of n numbers with a representation ρ on Rⁿ is an element of Hom(R, ρ); with a pair (ρ_in, ρ_out) it is a
linear map, an element of Hom(ρ_in, ρ_out), whose rows run over the first axis. Either way it is a layer of the
parameter space, and nothing else in the package can tell it from a layer of a network.

>>> import torch
>>> from stability.groups import Cyclic, PermutationRepresentation
>>> from stability.networks.bare import from_risk
>>> swap = PermutationRepresentation(Cyclic(2), 2, lambda g: [g, 1 - g], "swap")
>>> def well(tensors):  # a double well for every coordinate, and a bowl in the sum
...     a = tensors["a"]
...     return (a * a - 1).square().sum() + a.sum().square()
>>> problem = from_risk(well, {"a": torch.tensor([0.3, -0.2], dtype=torch.float64)}, {"a": swap})
>>> problem.space.dim, problem.space.dim_equivariant
(2, 1)
>>> a = unpack(problem.space, torch.ones(2, dtype=torch.float64))["a"]
>>> float(well({"a": a})), float(problem.risk(a))
(4.0, 4.0)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stability.base.doors import dense, exact, finite
from stability.base.errors import BadInput
from stability.groups import DirectSum, Element, Group, Representation, TensorProduct, trivial
from stability.layers import Layer
from stability.problem.space import ParameterSpace

# Beyond this a representation is not what it is said to be.
TOLERANCE = 1e-8
Tensors = dict[str, Tensor]
Spec = Representation | tuple[Representation, Representation]


@dataclass(frozen=True)
class Parameter(Layer):
    """A tensor of a module or of a dict: Hom(source, target) with the shape that its owner gives it.

    Args:
        tensor_shape: the owner's shape; flattened row by row it is that of the matrix. Complex tensors have a last
            axis of two, real and imaginary part.
        complex: whether the owner's tensor is complex.
    """

    tensor_shape: tuple[int, ...] = ()
    complex: bool = False


def spread(representation: Representation) -> Representation:
    """The same representation with tensor products (c·a) ⊗ b multiplied out to c·(a ⊗ b), which keeps the layout.

    >>> from stability.groups import Symmetric, permutation, trivial
    >>> nodes = permutation(Symmetric(3))
    >>> spread((2 * trivial(Symmetric(3))) * nodes).blocks[0][0]
    2
    """
    if not isinstance(representation, TensorProduct):
        return representation
    left = spread(representation.a)
    if not isinstance(left, DirectSum):
        return representation
    blocks = [
        (copies, representation.b if _is_one(base) else TensorProduct(base, representation.b))
        for copies, base in left.blocks
    ]
    return DirectSum(tuple(blocks))


def _is_one(base: Representation) -> bool:
    return base == trivial(base.group)


def parameter(name: str, shape: Sequence[int], spec: Spec, complex: bool = False) -> Parameter:
    """The layer of one tensor; of a complex one, of the pairs (real part, imaginary part) of its entries.

    Raises:
        BadInput: representations whose dimensions do not multiply to the number of entries, or do not fit the rows.
    """
    shape = (*shape, 2) if complex else tuple(shape)
    count = math.prod(shape)
    if not count:
        raise BadInput(f"{name} has shape {shape} and no entries; leave it out")
    source: Representation
    target: Representation
    if isinstance(spec, Representation):
        source, target = trivial(spec.group), spec
    elif isinstance(spec, tuple) and len(spec) == 2 and all(isinstance(part, Representation) for part in spec):
        source, target = spec
    else:
        raise BadInput(
            f"{name}: give a representation on its {count} entries or a pair (representation in, representation out), "
            f"not {spec!r}"
        )
    if source.dim * target.dim != count or (not isinstance(spec, Representation) and shape[:1] != (target.dim,)):
        have = f"{target.name} has dimension {target.dim}"
        if not isinstance(spec, Representation):
            have += f" for its rows, {source.name} has {source.dim} for its columns"
        if complex:
            raise BadInput(
                f"{name} is complex: {count // 2} entries are {count} real numbers, each real part followed by its "
                f"imaginary part, but {have}; give a representation on these, such as ρ * (2 * trivial(G)), which "
                "treats both alike"
            )
        raise BadInput(f"{name} has shape {shape}, {count} entries, but {have}; give representations that fit")
    return Parameter(name, spread(source), spread(target), shape, complex)


def shape_of(layer: Layer) -> tuple[int, ...]:
    """The shape that the owner of a layer's weights gives them."""
    return layer.tensor_shape if isinstance(layer, Parameter) else layer.shape


def unpack(space: ParameterSpace, v: Tensor) -> Tensors:
    """(…, dim L) → tensors by name, in their owner's shapes, complex ones from pairs of real numbers."""
    parts = v.split([layer.dim for layer in space.layers], dim=-1)
    return {
        layer.name: _owned(layer, part.reshape((*part.shape[:-1], *shape_of(layer))))
        for layer, part in zip(space.layers, parts, strict=True)
    }


def _owned(layer: Layer, part: Tensor) -> Tensor:
    return torch.complex(part[..., 0], part[..., 1]) if _is_complex(layer) else part


def _is_complex(layer: Layer) -> bool:
    return isinstance(layer, Parameter) and layer.complex


def pack(space: ParameterSpace, tensors: Mapping[str, Tensor], where: str = "weights") -> Tensor:
    """The inverse of :func:`unpack` for unbatched tensors; names that the space does not have are ignored.

    float32 alone stays float32; anything else that is exact in float64, half precision and integers among it, is
    converted to that.

    Raises:
        BadInput: a tensor that is missing, of another shape, complex where weights are real, or not finite; the
            message names it.
    """
    parts = []
    for layer in space.layers:
        if layer.name not in tensors:
            raise BadInput(
                f"{where}: no tensor {layer.name!r}; there are {', '.join(map(str, tensors)) or 'none'}, this problem "
                f"needs {', '.join(one.name for one in space.layers)}"
            )
        label = f"{where}: {layer.name}"
        tensor = dense(label, tensors[layer.name])
        if tensor.is_complex() and _is_complex(layer):
            tensor = torch.view_as_real(tensor)
        if tuple(tensor.shape) != shape_of(layer):
            raise BadInput(
                f"{where}: {layer.name} has shape {tuple(tensor.shape)}, this problem needs {shape_of(layer)}"
            )
        narrow = tensor.dtype == torch.float32
        tensor = finite(label, tensor if narrow else exact(label, tensor, torch.float64), "repair it")
        parts.append(tensor.reshape(-1))
    dtype = torch.float32 if all(part.dtype == torch.float32 for part in parts) else torch.float64
    return torch.cat([part.to(dtype) for part in parts])


def some_equivariant(name: str, space: ParameterSpace) -> None:
    """Raise BadInput where E = {0}, unless a representation is none: the assumptions tell that better."""
    if not space.dim_equivariant:
        measured = measured_representations(layer_spaces(space), space.group, 0)
        if max(error for error, _ in measured.values()) > TOLERANCE:
            return
        spaces = ", ".join(f"{one.name}: {one.source.name} → {one.target.name}" for one in space.layers)
        raise BadInput(f"{name}: no weights but zero are equivariant ({spaces}); check the representations")


def starts(space: ParameterSpace, given: Tensor) -> Callable[[int], Tensor]:
    """Seed ↦ a start on E: 0 is the given weights, projected; others Gaussian, each tensor as large as the given."""

    def initial(seed: int) -> Tensor:
        if seed == 0:
            return space.project(given)
        generator = torch.Generator().manual_seed(seed)
        parts = []
        for layer, w in zip(space.layers, space.split(given), strict=True):
            size = layer.size()
            parts.append(
                float(w.norm())
                / math.sqrt(max(size, 1))
                * torch.randn(size, generator=generator, dtype=torch.float64).to(given)
            )
        return torch.cat(parts)

    return initial


def measured_representations(
    spaces: Sequence[tuple[str, Representation]], group: Group, seed: int
) -> dict[str, tuple[float, str]]:
    """Largest |⟨ρ(g)x, ρ(g)y⟩ − ⟨x, y⟩| and |ρ(gh)x − ρ(g)ρ(h)x| over named spaces and probes of the group."""
    rng, torch_rng = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    worst = {"orthogonal": (0.0, ""), "homomorphism": (0.0, "")}

    def record(key: str, difference: Tensor, where: str) -> None:
        error = float(difference.abs().max())
        if not error <= worst[key][0]:
            worst[key] = (error, where)

    homes: dict[Representation, list[str]] = {}
    for label, rho in spaces:
        homes.setdefault(rho, []).append(label)
    for rho, labels in homes.items():
        label = ", ".join(labels)
        x, y = torch.randn(2, 4, rho.dim, generator=torch_rng, dtype=torch.float64)
        probes = [*group.generators, group.sample(rng), group.sample(rng)]
        for g in probes:
            if g not in group.generators and max(error for error, _ in worst.values()) > TOLERANCE:
                break  # a generator tells it already
            moved, where = rho.act(g, x), f"{label}: {rho.name}, {element(group, g)}"
            record("orthogonal", moved @ rho.act(g, y).mT - x @ y.mT, where)
            for h in probes:
                difference = rho.act(group.multiply(g, h), x) - rho.act(g, rho.act(h, x))
                record("homomorphism", difference, f"{where}, h = {h}")
    return worst


def element(group: Group, g: Element) -> str:
    """``generator (1, 0)`` or ``element (3, 1)``."""
    return f"{'generator' if g in group.generators else 'element'} {g}"


def layer_spaces(space: ParameterSpace) -> list[tuple[str, Representation]]:
    """The representations of a parameter space with the layers they belong to."""
    pairs = []
    for layer in space.layers:
        pairs.append((f"{layer.name} (in)", layer.source))
        pairs.append((f"{layer.name} (out)", layer.target))
    return [(label, rho) for label, rho in pairs if not _is_one(rho)]
