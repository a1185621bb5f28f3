"""A user's checkpoint: safetensors, or a ``state_dict`` by torch.load with weights only. Nothing is unpickled."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping, Set
from pathlib import Path

import torch
from torch import Tensor

from stability.base.doors import kind
from stability.base.errors import BadInput
from stability.base.storage import read_tensors

# Where training scripts put the state_dict, and what wrappers put before its names.
HOLDERS = ("state_dict", "model_state_dict", "model", "module", "net", "weights", "params")
PREFIXES = ("module.", "_orig_mod.")


def load_weights(path: str | os.PathLike) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name.

    A ``state_dict`` may lie one level down (under "state_dict", "model", …); prefixes that data-parallel or compiled
    wrappers put before every name are taken off.

    Raises:
        BadInput: a missing or corrupt file, one that needs unpickling, or one without tensors.
    """
    path = Path(kind("checkpoint", path, str | os.PathLike, "give the path of a file"))
    if path.suffix == ".safetensors":
        return unwrapped(read_tensors(path, "checkpoint")[0])
    if not path.is_file():
        raise BadInput(f"checkpoint: there is no file {str(path)!r}; check the path")
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not _is_checkpoint(path):
            raise BadInput(
                f"checkpoint: {path.name} is no file of torch.save or safetensors; check the path"
            ) from error
        raise BadInput(
            f"checkpoint: {path.name} holds more than tensors, and opening it would run code; store model.state_dict() "
            "by torch.save or safetensors"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:120]
        raise BadInput(f"checkpoint: {path.name} cannot be read ({reason}); write it anew") from error
    return unwrapped(held)


def _is_checkpoint(path: Path) -> bool:
    """Whether a file begins as torch.save writes it: a zip archive, or a pickle in its older format."""
    with path.open("rb") as stream:
        return stream.read(2) in (b"PK", b"\x80\x02")


def unwrapped(held: object) -> dict[str, Tensor]:
    """The tensors by name inside what a checkpoint holds.

    >>> import torch
    >>> list(unwrapped({"epoch": 3, "state_dict": {"module.conv.weight": torch.zeros(1)}}))
    ['conv.weight']
    """
    if isinstance(held, Mapping):
        for holder in HOLDERS:
            inner = held.get(holder)
            if isinstance(inner, Mapping) and any(isinstance(v, Tensor) for v in inner.values()):
                held = inner
                break
    tensors = {str(k): v for k, v in held.items() if isinstance(v, Tensor)} if isinstance(held, Mapping) else {}
    if not tensors:
        raise BadInput("checkpoint: it holds no tensors by name; store model.state_dict()")
    stripped = True
    while stripped:
        stripped = False
        for prefix in PREFIXES:
            if all(name.startswith(prefix) for name in tensors):
                tensors = {name.removeprefix(prefix): v for name, v in tensors.items()}
                stripped = True
    return tensors


def matching(state: Mapping[str, object], wanted: Set[str]) -> dict[str, object]:
    """A state by the names that a problem wants, where a wrapper put the same prefix before each of them.

    Data parallel, compiled and averaged modules and whole training modules name what they hold "module.", "_orig_mod.",
    "model.", …: any one prefix will do, under which every wanted name that the state has at all is found.

    >>> sorted(matching({"model.net.a": 1, "model.net.b": 2, "n_averaged": 3}, {"a", "b"}))
    ['a', 'b', 'n_averaged']
    """
    if any(name in state for name in wanted):
        return dict(state)
    found: dict[str, int] = {}
    for key in state:
        for start in [i + 1 for i, letter in enumerate(str(key)) if letter == "."]:
            if str(key)[start:] in wanted:
                found[str(key)[:start]] = found.get(str(key)[:start], 0) + 1
    most = [prefix for prefix, count in found.items() if count == max(found.values())]
    if not most:
        return dict(state)
    if len(most) > 1:
        raise BadInput(
            f"weights: the names wanted occur {found[most[0]]} times each under {', '.join(sorted(most)[:4])}; give "
            "the one that is meant"
        )
    return {str(key).removeprefix(most[0]): value for key, value in state.items()}
