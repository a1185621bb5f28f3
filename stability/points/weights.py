"""A point of E as a file: weights layer by layer, or coordinates where they are too many."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from stability.base.errors import BadInput
from stability.base.storage import read_tensors, write_tensors
from stability.problem.held import held_tensors
from stability.problem.problem import Problem
from stability.problem.space import ParameterSpace
from stability.problem.tensors import shape_of, unpack

DENSE_WEIGHTS = 1_000_000
CONVENTION = (
    "theta: coordinates of a point of E, layer by layer; in a layer block by block (target summand, source summand), "
    "then [target copy, source copy, basis element]; "
)


def data_digest(problem: Problem) -> str:
    """sha256 of the training samples, as stored with every point."""
    digest = hashlib.sha256()
    for part in problem.samples:
        digest.update(part.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def save_point(path: Path, problem: Problem, theta: Tensor, metadata: dict[str, str]) -> Path:
    """Weights layer by layer up to a million of them, E coordinates beyond; what the risk holds fixed beside them."""
    common = {"task": problem.name, "group": problem.group.name, "data": data_digest(problem), **metadata}
    held = held_tensors(problem)
    if problem.space.dim <= DENSE_WEIGHTS:
        tensors = unpack(problem.space, problem.space.embed(theta)) | held
        return write_tensors(path, tensors, {**common, "format": "dense weights, layer by layer (rows, columns)"})
    bases = "; ".join(dict.fromkeys(layer.convention for layer in problem.space.layers))
    return write_tensors(path, {"theta": theta} | held, {**common, "format": CONVENTION + bases})


def load_point(path: Path, space: ParameterSpace, like: Tensor) -> tuple[Tensor, Tensor | None]:
    """θ of a stored point, and its weights A before they were projected; None where coordinates are stored.

    Accepts the dense weights or the coordinates that :func:`save_point` writes.

    Raises:
        BadInput: a file that does not fit the network; the message names the tensor and both shapes.
    """
    tensors, _ = read_tensors(path)
    for name, tensor in tensors.items():
        if name in [layer.name for layer in space.layers] + ["theta"] and not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor)).sum())
            raise BadInput(
                f"--at: tensor {name!r} of {path.name} holds {bad} values that are not finite; repair the file"
            )
    if "theta" in tensors and not any(layer.name == "theta" for layer in space.layers):
        theta = tensors["theta"]
        if theta.shape != (space.dim_equivariant,):
            raise BadInput(
                f"--at: theta of {path.name} has shape {tuple(theta.shape)}, this network needs "
                f"({space.dim_equivariant},); use the size, variant and group it was written with"
            )
        return theta.to(like), None
    weights = []
    for layer in space.layers:
        if layer.name not in tensors:
            raise BadInput(
                f"--at: {path.name} has no tensor {layer.name!r}; it has {', '.join(sorted(tensors)) or 'none'}, this "
                f"network needs {', '.join(one.name for one in space.layers)}"
            )
        if tensors[layer.name].is_complex():
            tensors[layer.name] = torch.view_as_real(tensors[layer.name])
        if tuple(tensors[layer.name].shape) != shape_of(layer):
            raise BadInput(
                f"--at: {layer.name} of {path.name} has shape {tuple(tensors[layer.name].shape)}, this network needs "
                f"{shape_of(layer)}; use the size, variant and group it was written with"
            )
        weights.append(tensors[layer.name].to(like).reshape(layer.shape))
    parameters = space.join(weights)
    return space.project(parameters), parameters
