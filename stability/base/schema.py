"""Results as JSON, read with care: strict text, a schema made of the records' own types, a checksum of the numbers.

>>> parse('{"a": 1, "a": 2}')
Traceback (most recent call last):
    ...
stability.base.errors.BadInput: not strict JSON: the key 'a' occurs twice
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Iterator
from typing import Any, NoReturn, Protocol

import jsonschema_rs
from torch import Tensor

from stability.base.errors import BadInput

# Of a file that is read, in characters: five hundred times the largest result so far.
LONGEST = 500_000_000
# Beyond it a float64 does not hold every integer, and no count here comes near.
LARGEST = 2**53
# What differs between two runs of the same command, and so is left out of the checksum.
VOLATILE = ("seconds", "cost", "options", "command")
DIALECT = "https://json-schema.org/draft/2020-12/schema"
NUMBER = {"type": ["number", "null"]}  # null: a number that was not finite
PLAIN: dict[Any, dict] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer", "minimum": -LARGEST, "maximum": LARGEST},
    float: NUMBER,
    Tensor: {"type": ["array", "number"]},
    Any: {},
}


def parse(text: str) -> Any:
    """Strict JSON: no key twice, no NaN, no number that float64 does not hold, no half of a surrogate pair.

    Raises:
        BadInput: anything else.
    """
    if len(text) > LONGEST:
        raise BadInput(f"{len(text):,} characters are more than any result has ({LONGEST:,} at most)")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [k for k, _ in pairs]
            raise BadInput(f"not strict JSON: the key {next(k for k in names if names.count(k) > 1)!r} occurs twice")
        return found

    def constant(name: str) -> NoReturn:
        raise BadInput(f"not strict JSON: {name} is no number")

    def real(digits: str) -> float:
        if not math.isfinite(value := float(digits)):
            raise BadInput(f"not strict JSON: {digits[:40]} is too large for a number")
        return value

    def whole(digits: str) -> int:
        return int(digits) if len(digits) <= 20 else constant(f"an integer of {len(digits)} digits")

    try:
        data = json.loads(text, object_pairs_hook=unique, parse_constant=constant, parse_float=real, parse_int=whole)
        canonical(data).encode()
    except UnicodeEncodeError as error:
        raise BadInput(
            f"not strict JSON: a text holds half of a surrogate pair ({error.object[error.start]!r})"
        ) from error
    except RecursionError as error:
        raise BadInput("not strict JSON: it is nested too deeply") from error
    except BadInput:
        raise
    except ValueError as error:
        raise BadInput(f"no JSON ({error})") from error
    return data


def canonical(data: Any) -> str:
    """The one text of a value that a checksum is taken of."""
    return json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def checksum(data: dict[str, Any]) -> str:
    """sha256 of what two runs of one command have in common: everything but what it cost and how it was asked for."""

    def lasting(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: lasting(v) for k, v in value.items() if k not in VOLATILE}
        return [lasting(v) for v in value] if isinstance(value, list) else value

    return hashlib.sha256(canonical(lasting({k: v for k, v in data.items() if k != "sha256"})).encode()).hexdigest()


def schema(kind: type, refined: dict[tuple[str, str], dict] | None = None) -> dict[str, Any]:
    """The JSON schema of a record: its fields by type, those without a default required, unknown keys allowed.

    Args:
        kind: a dataclass.
        refined: (class, field) ↦ schema, where types say less than is known.
    """
    found: dict[str, Any] = {}
    top = _of(kind, found, refined or {})
    return {"$schema": DIALECT, "title": f"stability {kind.__name__}", **top, "$defs": dict(sorted(found.items()))}


def optional(inner: dict[str, Any]) -> dict[str, Any]:
    """null, or what ``inner`` allows; said so that an error names its place inside."""
    return {"if": {"not": {"type": "null"}}, "then": inner}


def _of(kind: Any, found: dict[str, Any], refined: dict[tuple[str, str], dict]) -> dict[str, Any]:
    """The schema of an annotated type; those of dataclasses are collected in ``found``."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        inner = [_of(a, found, refined) for a in arguments if a is not type(None)]
        return optional(inner[0]) if len(inner) == 1 and type(None) in arguments else {}
    if origin is tuple:
        return {"type": "array", "items": _of(arguments[0], found, refined)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(arguments[1], found, refined)}
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        return PLAIN.get(kind, {})
    name = kind.__name__
    if name not in found:
        found[name] = {}  # a record that holds its like refers to itself
        hints, fields = typing.get_type_hints(kind), dataclasses.fields(kind)
        nothing = dataclasses.MISSING
        found[name] = {
            "type": "object",
            "required": [f.name for f in fields if f.default is nothing and f.default_factory is nothing],
            "properties": {f.name: refined.get((name, f.name)) or _of(hints[f.name], found, refined) for f in fields},
        }
    return {"$ref": f"#/$defs/{name}"}


class Validator(Protocol):
    """What holds JSON to a schema."""

    def iter_errors(self, instance: Any) -> Iterator[Any]:
        """What is wrong with a document, one error after the other; nothing where it is sound."""
        ...


def validator(kind: type, refined: dict[tuple[str, str], dict] | None = None) -> Validator:
    """Of a record's schema, see :func:`schema`."""
    return jsonschema_rs.validator_for(schema(kind, refined))


def check(held_to: Validator, data: Any) -> None:
    """Hold plain JSON to a schema.

    Raises:
        BadInput: where it does not keep to it, and how.
    """
    for error in held_to.iter_errors(data):
        where = "/".join(map(str, error.instance_path)) or "the whole"
        raise BadInput(f"at {where[:80]}: {' '.join(error.message.split())[:160]}")
