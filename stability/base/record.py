"""What every result can do: print well, go to JSON and back, become a pandas frame.

>>> from dataclasses import dataclass
>>> @dataclass(frozen=True)
... class Reading(Record):
...     where: str
...     value: float
>>> reading = Reading("E⊥", -1.5)
>>> Reading.from_json(reading.to_json()) == reading
True
>>> print(reading)
Reading: where E⊥, value -1.5
"""

from __future__ import annotations

import dataclasses
import functools
import html
import json
import math
import reprlib
import types
import typing
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch
from torch import Tensor

from stability.base import schema

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
_SHORT = reprlib.Repr()
_SHORT.maxtuple = _SHORT.maxlist = _SHORT.maxdict = 3
_SHORT.maxstring = _SHORT.maxother = 60


class Record:
    """A mixin for frozen dataclasses of numbers, text, tensors and other such dataclasses.

    Subclasses override :meth:`rows` where one result is a table, and ``__str__`` where a sentence reads better.
    """

    def to_json(self) -> str:
        """Strict JSON on one line; a number that is not finite becomes null, a tensor nested lists."""
        return json.dumps(plain(self), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of :meth:`to_json`; keys that this version does not know are ignored, tensors are float64.

        Raises:
            BadInput: text that is no strict JSON, or does not keep to the schema of the record.
        """
        data = schema.parse(text)
        kind: type = cls
        schema.check(_validator(kind), data)
        return build(cls, data)

    def __init_subclass__(cls, **options: Any) -> None:
        """A dataclass writes a __repr__ of every digit unless the class has one of its own."""
        super().__init_subclass__(**options)
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = Record.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        """The fields as a dataclass writes them, each cut short."""
        cells = (f"{f.name}={_SHORT.repr(getattr(self, f.name))}" for f in dataclasses.fields(self))  # type: ignore[arg-type]
        return f"{type(self).__qualname__}({', '.join(cells)})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the text of ``print``."""
        return f"<pre>{html.escape(str(self))}</pre>"

    def rows(self) -> list[dict[str, Any]]:
        """The lines of :meth:`to_frame`: by default one, of the fields that fit a cell."""
        cells = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        return [{k: v for k, v in cells.items() if v is None or isinstance(v, str | bool | int | float)}]

    def to_frame(self) -> pd.DataFrame:
        """A tidy pandas frame."""
        import pandas as pd  # loads for a third of a second, which a product of a Hessian need not pay

        return pd.DataFrame(self.rows())

    def __str__(self) -> str:
        words = ", ".join(f"{k} {shown(v)}" for k, v in Record.rows(self)[0].items() if v is not None)
        return f"{type(self).__name__}: {words}"


@functools.cache
def _validator(kind: type) -> schema.Validator:
    return schema.validator(kind)


def frame(results: Iterable[Record]) -> pd.DataFrame:
    """The frames of several results, such as points or sectors, one below the other, numbered by ``index``."""
    import pandas as pd

    return pd.DataFrame([{"index": i, **row} for i, result in enumerate(results) for row in result.rows()])


def known(what: str, value: T | None) -> T:
    """A field of a record that may be None, where it is not.

    Raises:
        ValueError: it is.

    >>> known("λ_min", 0.5)
    0.5
    """
    if value is None:
        raise ValueError(f"{what} is not known here")
    return value


def shown(value: Any) -> str:
    """A cell as text, floats to six digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def to_json(value: Any) -> str:
    """Any of the frozen dataclasses as one line of strict JSON."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False)


def plain(value: Any) -> Any:
    """Dataclasses, tuples and tensors as dictionaries and lists."""
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, Tensor):
        return plain(value.detach().cpu().tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def build(kind: Any, data: Any) -> Any:
    """Rebuild a value of an annotated type from plain JSON."""
    if data is None:
        return None
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        (inner,) = [a for a in arguments if a is not type(None)] or [Any]
        return build(inner, data)
    if origin is tuple:
        return tuple(build(arguments[0], item) for item in data)
    if origin is dict:
        return {k: build(arguments[1], v) for k, v in data.items()}
    if kind is Tensor:
        return torch.tensor(data, dtype=torch.float64)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        known = {f.name for f in dataclasses.fields(kind)}
        return kind(**{k: build(hints[k], v) for k, v in data.items() if k in known})
    return data
