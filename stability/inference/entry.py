"""How G moves inputs of a shape: images turned, flipped or shifted, tokens permuted, or as a representation says."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stability.base.errors import BadInput
from stability.groups import (
    Cyclic,
    DirectProduct,
    Group,
    Lattice,
    Representation,
    Symmetric,
    TensorProduct,
    permutation,
    shift_lattice,
    square_lattice,
    trivial,
)
from stability.problem.tensors import spread


@dataclass(frozen=True)
class Flow:
    """How G moves an activation.

    Attributes:
        channels: on the channels, or on the whole vector.
        positions: on tokens, which are the axis before the channels; None where there are none.
        grid: sides of an image whose positions the lattice moves; empty for vectors and tokens.
    """

    channels: Representation
    positions: Representation | None = None
    grid: tuple[int, ...] = ()


@dataclass(frozen=True)
class Entry:
    """How G moves the inputs.

    Attributes:
        flow: of the activation that goes in.
        whole: on the flattened input.
        lattice: on grids.
        setup: code.
        texts: of whole and lattice.
    """

    flow: Flow
    whole: Representation
    lattice: Lattice | None
    setup: tuple[str, ...]
    texts: dict[str, str]


def entry(group: Group | Representation, shape: tuple[int, ...]) -> Entry:
    """How G moves inputs of a shape (without the batch): by images, tokens, or as a representation says.

    Raises:
        BadInput: a group that is not known to act on inputs of this shape.
    """
    if isinstance(group, Representation):
        if group.dim != math.prod(shape):
            raise BadInput(f"infer: {group.name} has dimension {group.dim}, an input has {math.prod(shape)} numbers")
        flow = Flow(group) if len(shape) == 1 else Flow(group, None, ())
        return Entry(flow, group, None, ("# rho: the representation that was given; G = rho.group",), {"input": "rho"})
    one = trivial(group)
    head = f"G = {_group_text(group)}"
    if len(shape) == 3 and (made := _lattice(group, shape[1:])) is not None:
        lattice, text = made
        whole = spread(TensorProduct(shape[0] * one, lattice(shape[1:])))
        flow = Flow(shape[0] * one, None, shape[1:])
        setup = (head, f"lattice = {text}")
        return Entry(flow, whole, lattice, setup, {
            "input": f"{shape[0]} * trivial(G) * lattice({tuple(shape[1:])})", "lattice": "lattice"})  # fmt: skip
    if isinstance(group, Symmetric) and shape and shape[0] == group.n:
        tokens = permutation(group)
        if len(shape) == 1:
            return Entry(Flow(tokens), tokens, None, (head,), {"input": "permutation(G)"})
        width = math.prod(shape[1:])
        whole = tokens * (width * one)
        texts = {"input": f"permutation(G) * ({width} * trivial(G))"}
        return Entry(Flow(width * one, tokens), whole, None, (head,), texts)
    if isinstance(group, Symmetric) and shape == (group.n, group.n):
        nodes = permutation(group)
        return Entry(Flow(nodes * nodes), nodes * nodes, None, (head,), {"input": "permutation(G) * permutation(G)"})
    raise BadInput(
        f"infer: how {group.name} moves inputs of shape {shape} is not known; give the representation on the flattened "
        "input in place of the group"
    )


def _group_text(group: Group) -> str:
    if isinstance(group, DirectProduct):
        return f"DirectProduct(({', '.join(map(repr, group.factors))}))"
    return repr(group)


def _lattice(group: Group, sides: tuple[int, ...]) -> tuple[Lattice, str] | None:
    """The action on images of these sides, and its code."""
    if isinstance(group, DirectProduct) and all(isinstance(f, Cyclic) for f in group.factors):
        if tuple(f.n for f in group.factors if isinstance(f, Cyclic)) == tuple(sides):
            return shift_lattice(group), "shift_lattice(G)"
        return None
    if group == Cyclic(2):
        return Lattice(group, [[[1, 0], [0, -1]]], "flips"), "Lattice(G, [[[1, 0], [0, -1]]], 'flips')"
    try:
        return square_lattice(group), "square_lattice(G)"
    except BadInput:
        return None
