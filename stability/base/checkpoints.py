"""A user's checkpoint, whatever lies beside its weights: safetensors, shards and folders, torch.save, numpy's npz.

Nothing is unpickled. torch's own weights-only reader opens what ``torch.save`` wrote, and every class that it does not
know (a Namespace, a configuration, a whole pickled module) is replaced by an inert one that takes its content and does
nothing: no module of the file's is imported, and no line of its code runs.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from stability.base.doors import kind
from stability.base.errors import BadInput
from stability.base.states import Inert, one_state, select
from stability.base.storage import read_tensors

STORE = "store model.state_dict() by torch.save or safetensors"
# What a folder of transformers, diffusers or a training script is looked through for, the first that is there.
INDICES = ("*.safetensors.index.json", "*.bin.index.json")
FILES = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.npz")
# Beside the weights in such folders.
OTHERS = re.compile(r"optim|sched|rng_state|training_args|scaler|random_states", re.IGNORECASE)
# Classes of checkpoints that fill themselves like a dict, which an inert object must then be.
DICTS = re.compile(
    r"(\.|^)(defaultdict|AttributeDict|EasyDict|Munch|ConfigDict|DictConfig|addict\.Dict|AttrDict|Config)$"
)
# numpy's scalars and arrays are numbers, and their classes do nothing but hold them.
SCALAR, ARRAY = np.float64(0).__reduce__()[0], np.zeros(0).__reduce__()[0]
NUMPY: dict[str, Any] = {
    **{f"numpy.{core}.multiarray.scalar": SCALAR for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": ARRAY for core in ("core", "_core")},
    "numpy.dtype": np.dtype,
    "numpy.ndarray": np.ndarray,
    **{f"numpy.dtypes.{one}": getattr(np.dtypes, one) for one in dir(np.dtypes) if one.endswith("DType")},
}


def load_weights(path: str | os.PathLike, state: str | None = None) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name.

    Args:
        path: a file of safetensors, torch.save or npz, an index of shards, or a folder that holds one of them;
            "FILE:ema" is the state called ema of that file.
        state: which of several states of a file: "ema", or further down "trainer.ema". A ``state_dict`` may lie
            anywhere; where there is but one, it is found. Prefixes that data-parallel, sharded or compiled wrappers put
            before every name are taken off.

    Raises:
        BadInput: a missing or corrupt file, one without tensors, one with several states of which none is named, or a
            form that only running its code would open; the message says how to convert it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"model": {"a": torch.zeros(1)}, "ema": {"a": torch.ones(1)}}, f"{folder}/run.pt")
    ...     load_weights(f"{folder}/run.pt", "ema"), load_weights(f"{folder}/run.pt:model")
    ({'a': tensor([1.])}, {'a': tensor([0.])})
    """
    held, named = read_checkpoint(path)
    try:
        return one_state(held, state if state is not None else named)
    except BadInput as error:
        file = whole_path(path)[0]
        beside = sorted(unknown_classes(file)) if file.is_file() else []
        if not beside or "no tensors" not in str(error):
            raise
        raise BadInput(
            f"checkpoint: {file.name} holds no tensors outside of {', '.join(beside[:3])}, and opening these would "
            f"run code; {STORE}"
        ) from error


def read_checkpoint(path: str | os.PathLike) -> tuple[Any, str | None]:
    """What a checkpoint holds, as it is nested, and which state of it the path names.

    Raises:
        BadInput: as :func:`load_weights`.
    """
    path, named = whole_path(kind("checkpoint", path, str | os.PathLike, "give the path of a file"))
    return (_folder(path) if path.is_dir() else _file(path)), named


def whole_path(path: str | os.PathLike) -> tuple[Path, str | None]:
    """A path, and the state named behind its last colon where the whole is no file and what stands before is one."""
    before, colon, after = str(path).rpartition(":")
    if colon and after and not Path(path).exists() and Path(before).exists():
        return Path(before), after
    return Path(path), None


def selected(path: str | os.PathLike) -> Any:
    """What a path means: all that the checkpoint holds, or the state that the path names.

    Raises:
        BadInput: as :func:`load_weights`.
    """
    held, named = read_checkpoint(path)
    return held if named is None else select(held, named)


# -- files and folders -------------------------------------------------------------------------------------------------


def _file(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return read_tensors(path, "checkpoint")[0]
    if not path.is_file():
        raise BadInput(f"checkpoint: there is no file {str(path)!r}; check the path")
    if path.suffix == ".json":
        return _sharded(path)
    if path.suffix == ".npz":
        return _arrays(path)
    return _saved(path)


def _folder(path: Path) -> Any:
    """The weights in a folder, as transformers, diffusers and trainers write them."""
    if (path / ".metadata").is_file():
        raise BadInput(
            f"checkpoint: {path.name} is a folder of torch.distributed.checkpoint, whose index is a pickle; convert it "
            "by torch.distributed.checkpoint.format_utils.dcp_to_torch_save(folder, 'whole.pt')"
        )
    if (path / "zero_to_fp32.py").is_file():
        raise BadInput(
            f"checkpoint: {path.name} is a folder of DeepSpeed, its weights cut into optimiser states; convert it by "
            "the script zero_to_fp32.py in it"
        )
    for pattern in (*INDICES, *FILES):
        found = sorted(p for p in path.glob(pattern) if not OTHERS.search(p.name))
        if len(found) > 1:
            raise BadInput(
                f"checkpoint: {path.name} has {', '.join(p.name for p in found[:4])}{' …' if len(found) > 4 else ''}; "
                "give the path of the one that is meant"
            )
        if found:
            return _file(found[0])
    raise BadInput(f"checkpoint: the folder {str(path)!r} has no file of weights ({', '.join(FILES)}); check the path")


def _sharded(path: Path) -> dict[str, Tensor]:
    """The shards that an index of transformers names, together."""
    try:
        names = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        shards = sorted(set(names.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"checkpoint: {path.name} is no index of shards (it has no weight_map); give the file of the weights"
        ) from error
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        if not (path.parent / str(shard)).is_file():
            raise BadInput(f"checkpoint: {path.name} names {shard}, which is not beside it; fetch every shard")
        tensors |= one_state(_file(path.parent / str(shard)), None)
    missing = [name for name in names if name not in tensors]
    if missing:
        raise BadInput(f"checkpoint: the shards of {path.name} lack {', '.join(missing[:4])}; fetch them anew")
    return tensors


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        reason = " ".join(str(error).split())[:120]
        raise BadInput(f"checkpoint: {path.name} is no npz of numbers ({reason}); write it anew") from error


# -- torch.save --------------------------------------------------------------------------------------------------------


def unknown_classes(path: Path) -> list[str]:
    """Names of the classes in a file of torch.save that torch does not load by itself; none of another file."""
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (ValueError, RuntimeError, OSError, EOFError, AssertionError, pickle.UnpicklingError, KeyError):
        return []


def _saved(path: Path) -> Any:
    """What torch.save wrote, with inert objects for what is no tensor, number or text."""
    _looks_saved(path)
    names, like_dicts = set(unknown_classes(path)), False
    while True:
        try:
            with torch.serialization.safe_globals(_known(names, like_dicts)):
                return torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, TypeError, ValueError) as error:
            # The older format cannot be searched: its classes are told one by one.
            if (told := _unsupported(error)) and told not in names:
                names.add(told)
            elif names and not like_dicts:
                like_dicts = True
            elif isinstance(error, pickle.UnpicklingError) and _begins(path, b"PK", b"\x80\x02"):
                raise BadInput(
                    f"checkpoint: {path.name} holds more than tensors, and opening it would run code; {STORE}"
                ) from error
            else:
                _unreadable(path, error)
        except (RuntimeError, EOFError, OSError, KeyError, AssertionError) as error:
            _unreadable(path, error)


def _unsupported(error: Exception) -> str | None:
    """The class that torch's reader refuses because it does not know it."""
    found = re.search(r"GLOBAL (\S+) was not an allowed global", str(error))
    return None if found is None else found.group(1) if "." in found.group(1) else f"builtins.{found.group(1)}"


def _unreadable(path: Path, error: Exception | None) -> NoReturn:
    if not _begins(path, b"PK", b"\x80\x02"):
        raise BadInput(f"checkpoint: {path.name} is no file of torch.save or safetensors; check the path") from error
    reason = " ".join(str(error).split())[:120]
    raise BadInput(f"checkpoint: {path.name} cannot be read ({reason}); write it anew") from error


def _known(names: set[str], like_dicts: bool) -> list[Callable | tuple[Callable, str]]:
    """What torch's reader may make beside tensors: numpy's numbers, and inert objects of all other names."""
    dicts = {name for name in names if like_dicts or DICTS.search(name)}
    inert = [(_DictLike if name in dicts else Inert, name) for name in sorted(names - NUMPY.keys())]
    return [*((value, name) for name, value in NUMPY.items()), *inert]


class _DictLike(OrderedDict):
    """Makes an OrderedDict, the only kind of filled object that torch's reader builds, whatever it is called with."""

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        return OrderedDict()


def _begins(path: Path, *starts: bytes) -> bool:
    """Whether a file begins so: torch.save writes a zip archive, or a pickle in its older format."""
    with path.open("rb") as stream:
        head = stream.read(max(map(len, starts)))
    return any(head.startswith(start) for start in starts)


# Other programs' files by how they begin, and what to do about them.
FOREIGN: Sequence[tuple[bytes, str, str]] = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "fetch it by git lfs pull"),
    (b"\x89HDF", "an HDF5 file (Keras, h5py)", "read it by h5py and store a dict of tensors by torch.save"),
    (b"GGUF", "a GGUF file, whose weights are quantised", "give the checkpoint that it was made from"),
    (b"\x1f\x8b", "compressed by gzip", "unpack it by gunzip or tar -xzf"),
)


def _looks_saved(path: Path) -> None:
    """Raise BadInput for files that are known to be something else."""
    if not path.stat().st_size:
        raise BadInput(f"checkpoint: {path.name} is empty; write it anew")
    for start, what, mend in FOREIGN:
        if _begins(path, start):
            raise BadInput(f"checkpoint: {path.name} is {what}; {mend}")
    if not _begins(path, b"PK") or not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        names = [name.partition("/")[2] for name in archive.namelist()]
    if "constants.pkl" in names:
        raise BadInput(
            f"checkpoint: {path.name} is a TorchScript program, not weights; store "
            "torch.jit.load(path).state_dict() by torch.save"
        )
    if "data.pkl" not in names:
        raise BadInput(
            f"checkpoint: {path.name} is an archive of another kind (torch.export, a zip of files), not of torch.save; "
            f"{STORE}"
        )


def unwrapped(held: object) -> dict[str, Tensor]:
    """The tensors by name inside what a checkpoint holds, see :func:`stability.base.states.one_state`."""
    return one_state(held if isinstance(held, Mapping) else {}, None)
