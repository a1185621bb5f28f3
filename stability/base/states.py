"""Weights by name, wherever they lie: nested dicts, wrappers' prefixes, averages beside the weights.

>>> import torch
>>> held = {"epoch": 3, "state_dict": {"module.conv.weight": torch.zeros(1)}}
>>> list(one_state(held))
['conv.weight']
>>> list(flattened(held))
['state_dict.module.conv.weight']
>>> matching(held, {"conv.weight": (1,)})["conv.weight"]
tensor([0.])
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stability.base.errors import BadInput

# Where training scripts put the state_dict.
HOLDERS = ("state_dict", "model_state_dict", "model", "module", "net", "weights", "params")
# What wrappers put into names: data parallel, compiled, sharded and recomputing modules.
PREFIXES = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_forward_module.")
INSIDE = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\.")
# Holders of tensors that are no weights.
BESIDE = re.compile(r"^(optim|lr_|sched|scaler|amp|callbacks|loops|rng|random)", re.IGNORECASE)
# Where a module keeps what it wraps.
WRAPPED = {
    "OptimizedModule": "_orig_mod",
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "FullyShardedDataParallel": "_fsdp_wrapped_module",
    "CheckpointWrapper": "_checkpoint_wrapped_module",
    "AveragedModel": "module",
}


class Inert:
    """What stands for an object of a class that a file names: it takes what was stored, and does nothing."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Keeps nothing of what it is called with."""

    def __setstate__(self, state: Any) -> None:
        """The attributes that were stored; a state of another kind is dropped."""
        if isinstance(state, Mapping):
            self.__dict__.update(state)


def peeled(module: nn.Module) -> nn.Module:
    """The module inside wrappers that compute what it computes: compiled, data parallel, sharded, averaged.

    >>> peeled(torch.optim.swa_utils.AveragedModel(nn.Linear(1, 1)))
    Linear(in_features=1, out_features=1, bias=True)
    """
    while (inside := WRAPPED.get(type(module).__name__)) and isinstance(getattr(module, inside, None), nn.Module):
        module = getattr(module, inside)
    return module


def module_state(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, tied ones under all their names."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def _children(held: Any) -> Iterator[tuple[str, Any]]:
    """Named parts of a dict, list, module, or object that stands for a pickled module."""
    if isinstance(held, nn.Module):
        yield from module_state(held).items()
    elif isinstance(held, Mapping):
        yield from ((str(key), value) for key, value in held.items())
    elif isinstance(held, list | tuple):
        yield from ((str(i), value) for i, value in enumerate(held))
    # A dict may be an object too: torch's reader builds pickled ones of unknown class so.
    own = getattr(held, "__dict__", {}) if not isinstance(held, nn.Module | Tensor) else {}
    if isinstance(own.get("_parameters"), Mapping) and isinstance(own.get("_modules"), Mapping):
        for part in ("_parameters", "_buffers", "_modules"):
            inner = own.get(part)
            yield from ((str(k), v) for k, v in inner.items()) if isinstance(inner, Mapping) else ()


def _tensor(value: Any) -> Tensor | None:
    """A leaf as a tensor: numpy's arrays of numbers are tensors too, sharded tensors are gathered."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc" and value.dtype.itemsize <= 16:
        native = np.array(value, dtype=value.dtype.newbyteorder("="), order="C", copy=True)
        try:
            return torch.from_numpy(native)
        except TypeError:
            return None
    if isinstance(value, Tensor):
        return value.full_tensor() if hasattr(value, "full_tensor") else value
    return None


def flattened(held: Any, before: str = "", above: tuple[int, ...] = ()) -> dict[str, Tensor]:
    """Every tensor that is held, by the way to it: "state_dict.conv.weight"; wrappers' names inside are left out."""
    found: dict[str, Tensor] = {}
    above = (*above, id(held))
    for name, value in _children(held):
        tensor = _tensor(value)
        if tensor is not None:
            found[INSIDE.sub("", before + name)] = tensor
        elif id(value) not in above:
            found |= flattened(value, f"{before}{name}.", above)
    return found


def _states(held: Any, before: str = "", above: tuple[int, ...] = ()) -> dict[str, dict[str, Tensor]]:
    """Holders of tensors by name, by the way to them, "" at the top; optimisers and the like are left out."""
    if isinstance(held, nn.Module) or (not isinstance(held, Mapping) and not isinstance(held, list | tuple)):
        return {before: state} if (state := flattened(held)) else {}
    own = getattr(held, "__dict__", {}).get("_modules")
    if isinstance(own, Mapping):
        return {before: flattened(held)}
    found, above = {}, (*above, id(held))
    leaves = {name: tensor for name, value in _children(held) if (tensor := _tensor(value)) is not None}
    if leaves and isinstance(held, Mapping):
        found[before] = {INSIDE.sub("", name): tensor for name, tensor in leaves.items()}
    for name, value in _children(held):
        if name not in leaves and not BESIDE.match(name) and id(value) not in above:
            found |= _states(value, f"{before}.{name}" if before else name, above)
    return found


def select(held: Any, name: str) -> Any:
    """The part of a checkpoint called so: by its whole way ("trainer.ema"), or by its own name where that is one's.

    Raises:
        BadInput: no state of that name, or several.
    """
    states = _states(held)
    if name == ".":
        return states.get("", {})
    names = [way for way in states if way == name or way.endswith(f".{name}")]
    if name in names:
        names = [name]
    if len(names) == 1:
        return states[names[0]]
    inner = {key.removeprefix(f"{name}."): v for key, v in flattened(held).items() if key.startswith(f"{name}.")}
    if inner and not names:
        return inner
    known = ", ".join(way or "." for way in states) or "none"
    raise BadInput(f"checkpoint: {len(names) or 'no'} states are called {name!r}; give one of {known}")


def one_state(held: Any, name: str | None = None) -> dict[str, Tensor]:
    """The tensors by name that a checkpoint is about, without the prefixes of wrappers.

    Raises:
        BadInput: none, several states of which none is named, or no state of that name.
    """
    if name is not None:
        return _stripped(select(held, name))
    states = _states(held)
    if not states:
        raise BadInput("checkpoint: it holds no tensors by name; store model.state_dict()")
    known = [way for way in states if way.rpartition(".")[2] in HOLDERS]
    chosen = known if known else [""] if "" in states else list(states)
    first = _stripped(states[chosen[0]])
    alike = [way for way in states if way in chosen or _stripped(states[way]).keys() == first.keys()]
    if any(not _same(first, _stripped(states[way])) for way in alike):
        names = [way or "." for way in alike]
        raise BadInput(
            f"checkpoint: it holds {len(names)} states, {', '.join(names)}; name the one that is meant, as in "
            f"load_weights(path, {names[-1]!r}) or the path 'FILE:{names[-1]}'"
        )
    return first


def _same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    if a.keys() != b.keys() or any((a[k].shape, a[k].dtype) != (b[k].shape, b[k].dtype) for k in a):
        return False
    return all(torch.equal(a[k], b[k]) for k in a)


def _stripped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without a wrapper's prefix, where all but an average's counter have it."""
    found = dict(tensors)
    stripped = True
    while stripped:
        stripped = False
        for prefix in PREFIXES:
            rest = [name for name in found if not name.startswith(prefix)]
            if len(rest) < len(found) and set(rest) <= {"n_averaged"}:
                found = {name.removeprefix(prefix): v for name, v in found.items() if name not in rest}
                stripped = True
    return found


def matching(held: Any, wanted: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """A state by the names that a problem wants, wherever it lies and whatever stands before its names.

    Data parallel, compiled and averaged modules, whole training modules and nested checkpoints name what they hold
    "module.", "state_dict.model.", …: the prefix is taken under which most of the wanted names are found, and among
    several such the one whose shapes fit.

    Args:
        held: a state, a checkpoint, or a module.
        wanted: names ↦ shapes.

    Raises:
        BadInput: states that differ under several prefixes that fit equally well.

    >>> matching({"model.net.a": torch.ones(1), "n_averaged": torch.ones(())}, {"a": (1,), "b": (2,)})["a"]
    tensor([1.])
    """
    state = flattened(held)
    kept = {str(k): v for k, v in held.items()} if isinstance(held, Mapping) else {}
    found: dict[str, set[str]] = {}
    for key in state:
        for start in [0, *(i + 1 for i, letter in enumerate(key) if letter == ".")]:
            if key[start:] in wanted:
                found.setdefault(key[:start], set()).add(key[start:])
    if not found:
        return {**kept, **state}
    most = [p for p, names in found.items() if len(names) == max(map(len, found.values()))]
    fitting = [p for p in most if all(_fits(state[p + name], wanted[name]) for name in found[p])]
    most = fitting or most
    rivals = [p for p in most[1:] if not _same(*({n: state[q + n] for n in found[q]} for q in (most[0], p)))]
    if rivals:
        names = [p.rstrip(".") or "." for p in (most[0], *rivals)]
        raise BadInput(
            f"weights: the names wanted occur {len(found[most[0]])} times each under {', '.join(sorted(names)[:4])}; "
            f"give the one that is meant alone, of a file as 'FILE:{names[-1]}'"
        )
    rest = {k: v for k, v in kept.items() if not isinstance(v, Mapping | list | tuple)}
    chosen = {key.removeprefix(most[0]): value for key, value in state.items() if key.startswith(most[0])}
    return rest | state | chosen


def _fits(found: Tensor, shape: tuple[int, ...]) -> bool:
    """Complex weights are pairs of real numbers to a problem."""
    return tuple(found.shape) == shape or (found.is_complex() and (*found.shape, 2) == shape)
