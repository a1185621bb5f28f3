"""Several tensors as one: batches and outputs that are dicts, tuples or objects, packed into one row a sample.

A problem sees one tensor of inputs (n, dim X), one of targets and one of predictions. What people have may be a dict of
token ids and a mask, a tuple of a mean and a variance, or an output object with attributes: a :class:`Layout` keeps
which columns are which tensor, in which shape and of which type, and gives a network or a loss what it expects.

>>> import torch
>>> batch = {"ids": torch.tensor([[1, 2], [3, 4]]), "mask": torch.tensor([[True], [False]])}
>>> layout, packed = laid_out("batch", batch)
>>> packed.tolist(), layout.unpack(packed)["ids"].dtype
([[1.0, 2.0, 1.0], [3.0, 4.0, 0.0]], torch.int64)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from stability.base import doors
from stability.base.errors import BadInput
from stability.groups import Group, Representation, trivial

Way = tuple[str | int, ...]
# Names under which a batch that is a dict keeps its targets.
TARGETS = ("labels", "label", "targets", "target", "y")


class Bundle(dict):
    """A dict whose entries are attributes too, and have numbers, as the outputs of transformers have."""

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(f"there is no {name!r} among {', '.join(map(str, self))}")

    def __getitem__(self, key: Any) -> Any:
        return (
            list(self.values())[key] if isinstance(key, int | slice) and key not in self else super().__getitem__(key)
        )


@dataclass(frozen=True)
class Part:
    """One tensor of several.

    Attributes:
        way: keys and numbers that lead to it.
        shape: of one sample.
        dtype: None for floats, which are in the precision of the computation; else what it is given out as.
    """

    way: Way
    shape: tuple[int, ...]
    dtype: torch.dtype | None

    @property
    def size(self) -> int:
        """Numbers of one sample."""
        return math.prod(self.shape)

    @property
    def name(self) -> str:
        """The way to it, for messages."""
        return ".".join(map(str, self.way))


@dataclass(frozen=True)
class Layout:
    """Which columns of (n, dim) are which tensor of a nested batch.

    Attributes:
        parts: in the order of the columns.
        kind: "dict" or "tuple", of the outermost level.
    """

    parts: tuple[Part, ...]
    kind: str

    @property
    def dim(self) -> int:
        """Columns."""
        return sum(part.size for part in self.parts)

    @property
    def integers(self) -> bool:
        """Whether some part is given out as integers."""
        return any(part.dtype is not None for part in self.parts)

    def as_floats(self) -> Layout:
        """The same with every part given out as floats."""
        return replace(self, parts=tuple(replace(part, dtype=None) for part in self.parts))

    def unpack(self, packed: Tensor) -> Any:
        """(n, dim) → the nested batch, integers rounded to what they are."""
        root: dict = {}
        columns = packed.reshape(len(packed), -1).split([part.size for part in self.parts], dim=1)
        for part, column in zip(self.parts, columns, strict=True):
            value = column.reshape(len(packed), *part.shape)
            if part.dtype is not None:
                value = value > 0.5 if part.dtype == torch.bool else value.round().to(part.dtype)
            inner = root
            for key in part.way[:-1]:
                inner = inner.setdefault(key, {})
            inner[part.way[-1]] = value
        return _built(root)

    def pack(self, tree: Any, like: Tensor) -> Tensor:
        """The nested batch → (n, dim), in the precision of ``like``."""
        found = dict(leaves(tree))
        return torch.cat([found[part.way].reshape(len(found[part.way]), -1).to(like.dtype) for part in self.parts], 1)

    def whole(self, what: str, given: Any, group: Group) -> Representation:
        """The representation on all columns, from one for each part by name or number; trivial where none is given.

        Raises:
            BadInput: names that no part has, or dimensions that do not fit.
        """
        if isinstance(given, Representation):
            return given
        by_name = dict(given) if isinstance(given, Mapping) else {str(i): rho for i, rho in enumerate(given)}
        by_name = {str(k): v for k, v in by_name.items()}
        names = [part.name for part in self.parts]
        if unknown := [name for name in by_name if name not in names]:
            raise BadInput(f"{what}: there is no {unknown[0]!r}; give representations of {', '.join(names)}")
        total = None
        for part in self.parts:
            rho = by_name.get(part.name) or part.size * trivial(group)
            if rho.dim != part.size:
                raise BadInput(f"{what}: {part.name} has {part.size} numbers, but {rho.name} has dimension {rho.dim}")
            total = rho if total is None else total + rho
        if total is None:
            raise BadInput(f"{what}: there is nothing in it")
        return total


def _built(root: dict) -> Any:
    """Levels whose keys are 0, 1, … as tuples, others as bundles."""
    made = {key: _built(value) if isinstance(value, dict) else value for key, value in root.items()}
    if list(made) and all(isinstance(key, int) for key in made):
        return tuple(made.get(i) for i in range(max(made) + 1))
    return Bundle(made)


def children(tree: Any) -> list[tuple[str | int, Any]] | None:
    """Named or numbered parts of a batch or an output; None for a leaf."""
    if isinstance(tree, Tensor):
        return None
    if isinstance(tree, Mapping):
        return [(str(k), v) for k, v in tree.items()]
    if isinstance(tree, tuple | list):
        return list(enumerate(tree))
    if is_dataclass(tree) and not isinstance(tree, type):
        return [(f.name, getattr(tree, f.name)) for f in fields(tree)]
    return None


def leaves(tree: Any, way: Way = ()) -> list[tuple[Way, Any]]:
    """Everything that has no parts, with the way to it."""
    inside = children(tree)
    if inside is None:
        return [(way, tree)]
    return [leaf for key, value in inside for leaf in leaves(value, (*way, key))]


def laid_out(what: str, tree: Any) -> tuple[Layout, Tensor]:
    """The layout of a nested batch of data, and its numbers as (n, dim) in float64.

    Raises:
        BadInput: something that is no tensor of numbers with a row a sample, or integers that are not exact.
    """
    parts, columns, count = [], [], None
    for way, value in leaves(tree):
        name = f"{what}: {'.'.join(map(str, way))}"
        tensor = doors.dense(name, value)
        if tensor.ndim == 0 or (count is not None and len(tensor) != count):
            raise BadInput(f"{name} has shape {tuple(tensor.shape)}; give a row for each of {count or 'the'} samples")
        count = len(tensor)
        kind = None if tensor.is_floating_point() else tensor.dtype
        parts.append(Part(way, tuple(tensor.shape[1:]), kind))
        columns.append(doors.exact(name, tensor, torch.float64).reshape(count, -1))
    if not parts:
        raise BadInput(f"{what} hold no tensors; give at least one")
    return Layout(tuple(parts), "dict" if isinstance(tree, Mapping) else "tuple"), torch.cat(columns, 1)


def of_output(tree: Any, count: int) -> Layout | None:
    """The layout of what a network returns: its floating-point parts with a row a sample. None where there is none."""
    found = [
        Part(way, tuple(value.shape[1:]), None)
        for way, value in leaves(tree)
        if isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 0 and len(value) == count
    ]
    return Layout(tuple(found), "dict" if isinstance(tree, Mapping) else "tuple") if found and found[0].way else None
