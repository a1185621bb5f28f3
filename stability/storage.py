"""Files: written to a temporary name and renamed, so a reader never sees half of one. No pickles."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from stability.errors import BadInput
from stability.problem import ParameterSpace, Problem

DENSE_WEIGHTS = 1_000_000
CONVENTION = (
    "theta: coordinates of a point of E, layer by layer; in a layer block by block (target summand, source summand), "
    "then [target copy, source copy, basis element]; "
)


def prepare_folder(path: Path) -> Path:
    """Make an output folder and prove that it can be written.

    Raises:
        BadInput: it cannot.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise BadInput(f"--out {str(path)!r} cannot be written ({error.strerror}); choose another folder") from error
    return path


def write(path: Path, content: bytes | str) -> Path:
    """Atomic write: the old file or the new one, never a mixture."""
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> Path:
    """safetensors with string metadata, atomically."""
    return write(path, save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, metadata))


def read_tensors(path: Path, option: str = "--at") -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and metadata of a safetensors file.

    Raises:
        BadInput: a missing, empty or corrupt file.
    """
    if not path.is_file():
        raise BadInput(f"{option}: there is no file {str(path)!r}; check the path")
    try:
        with safe_open(path, framework="pt") as stream:
            return {k: stream.get_tensor(k) for k in stream.keys()}, dict(stream.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise BadInput(f"{option}: {str(path)!r} is no readable safetensors file ({error}); write it anew") from error


def data_digest(problem: Problem) -> str:
    """sha256 of the training samples, as stored with every point."""
    digest = hashlib.sha256()
    for part in problem.samples:
        digest.update(part.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def save_point(path: Path, problem: Problem, theta: Tensor, metadata: dict[str, str]) -> Path:
    """Weights layer by layer up to a million of them, E coordinates beyond."""
    common = {"task": problem.name, "group": problem.group.name, "data": data_digest(problem), **metadata}
    if problem.space.dim <= DENSE_WEIGHTS:
        weights = problem.space.split(problem.space.embed(theta))
        tensors = {layer.name: w for layer, w in zip(problem.space.layers, weights, strict=True)}
        return write_tensors(path, tensors, {**common, "format": "dense weights, layer by layer (rows, columns)"})
    bases = "; ".join(dict.fromkeys(layer.convention for layer in problem.space.layers))
    return write_tensors(path, {"theta": theta}, {**common, "format": CONVENTION + bases})


def load_point(path: Path, space: ParameterSpace, like: Tensor) -> tuple[Tensor, float]:
    """θ of a stored point and its distance to E before it was projected.

    Accepts the dense weights or the coordinates that :func:`save_point` writes.

    Raises:
        BadInput: a file that does not fit the network; the message names the tensor and both shapes.
    """
    tensors, _ = read_tensors(path)
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor)).sum())
            raise BadInput(
                f"--at: tensor {name!r} of {path.name} holds {bad} values that are not finite; repair the file"
            )
    if set(tensors) == {"theta"}:
        theta = tensors["theta"]
        if theta.shape != (space.dim_equivariant,):
            raise BadInput(
                f"--at: theta of {path.name} has shape {tuple(theta.shape)}, this network needs "
                f"({space.dim_equivariant},); use the size, variant and group it was written with"
            )
        return theta.to(like), 0.0
    weights = []
    for layer in space.layers:
        if layer.name not in tensors:
            raise BadInput(
                f"--at: {path.name} has no tensor {layer.name!r}; it has {', '.join(sorted(tensors)) or 'none'}, this "
                f"network needs {', '.join(one.name for one in space.layers)}"
            )
        if tuple(tensors[layer.name].shape) != layer.shape:
            raise BadInput(
                f"--at: {layer.name} of {path.name} has shape {tuple(tensors[layer.name].shape)}, this network needs "
                f"{layer.shape}; use the size, variant and group it was written with"
            )
        weights.append(tensors[layer.name].to(like))
    parameters = space.join(weights)
    return space.project(parameters), float(space.transverse_part(parameters).norm())


class Checkpoint:
    """Intermediate tensors of a run under DIR/state, keyed by the options that they belong to.

    Args:
        folder: DIR/state; None keeps nothing.
        key: options of the run; stored files of other options are refused.
        resume: read what is there, instead of starting over.
    """

    def __init__(self, folder: Path | None, key: dict[str, object], resume: bool) -> None:
        self.folder, self.key, self.resume = folder, json.dumps(key, sort_keys=True, default=str), resume
        if folder is not None and resume and not folder.is_dir():
            raise BadInput(f"--resume: nothing to resume in {str(folder.parent)!r}; leave the option out")

    def load(self, name: str) -> tuple[dict[str, Tensor], dict[str, str]] | None:
        """What was saved under a name; None when nothing was, or this run starts over.

        Raises:
            BadInput: files of a run with other options.
        """
        path = self.folder / f"{name}.safetensors" if self.folder else None
        if path is None or not self.resume or not path.is_file():
            return None
        tensors, metadata = read_tensors(path, "--resume")
        if metadata.get("key") != self.key:
            raise BadInput(
                f"--resume: {str(path)!r} belongs to a run with other options; use the same options, or another --out"
            )
        return tensors, metadata

    def save(self, name: str, tensors: dict[str, Tensor], **metadata: str) -> None:
        """Keep tensors for a later ``load``."""
        if self.folder is not None:
            self.folder.mkdir(exist_ok=True)
            write_tensors(self.folder / f"{name}.safetensors", tensors, {"key": self.key, **metadata})

    def forget(self, name: str) -> None:
        """Remove one file of the state."""
        if self.folder is not None:
            (self.folder / f"{name}.safetensors").unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove the state of a finished run."""
        if self.folder is not None and self.folder.is_dir():
            for file in self.folder.glob("*.safetensors"):
                file.unlink()
            self.folder.rmdir()
