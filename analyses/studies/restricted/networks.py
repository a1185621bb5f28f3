"""The network, its supports and coordinates, and a point of E to start from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stability import from_module
from stability.groups import Cyclic, rotations, trivial
from stability.problem.problem import Problem
from stability.restricted import (
    Admissible,
    Parametrisation,
    kernels,
    parametrised,
    support,
)
from stability.tasks.data import digits

SUPPORTS = {
    "cross": ((0, 1, 0), (1, 1, 1), (0, 1, 0)),
    "skewed": ((1, 1, 0), (1, 0, 1), (0, 1, 0)),
}
COORDINATES = ("orthonormal", "not orthonormal")
WEIGHT_DECAY = 1e-3


@dataclass(frozen=True)
class Size:
    """side × side digits (pooled twice), channels, samples, steps of descent, Krylov steps."""

    side: int
    channels: tuple[int, int, int]
    samples: int
    steps: int
    krylov: int
    seeds: int


SIZES = {
    "small": Size(12, (4, 8, 8), 60, 60, 60, 3),
    "paper": Size(28, (32, 64, 64), 60, 25, 30, 2),
}


class Network(nn.Module):
    """Convolutions with 3 × 3 kernels; the first two are followed by average pooling, all three by tanh."""

    def __init__(self, size: Size, classes: int = 10) -> None:
        super().__init__()
        widths = (1, *size.channels)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.head = nn.Linear(size.channels[-1] * (size.side // 4) ** 2, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images (n, 1, side, side)."""
        for i, convolution in enumerate(self.convolutions):
            x = convolution(x)
            x = torch.tanh(nn.functional.avg_pool2d(x, 2) if i < 2 else x)
        return self.head(x.flatten(1))


def build(size: Size, seed: int = 0) -> Problem:
    """The problem on all of H: every tap of every kernel."""
    data = digits(size.side, size.samples, seed)
    x = torch.as_tensor(data.inputs)
    x = (x - x.mean()) / x.std()
    group = Cyclic(4)
    one, widths = trivial(group), (1, *size.channels)
    representations = {
        f"convolutions.{i}": (a * one, b * one) for i, (a, b) in enumerate(zip(widths, widths[1:], strict=False))
    }
    representations["head"] = (widths[-1] * rotations(group, size.side // 4), 10 * one)
    inputs = x.reshape(-1, 1, size.side, size.side)
    torch.manual_seed(seed)
    return from_module(
        Network(size).double(),
        nn.CrossEntropyLoss(),
        (inputs, torch.as_tensor(data.targets)),
        representations,
        weight_decay=WEIGHT_DECAY,
        name="digits, restricted kernels",
        facts=(("data", data.source),),
    )


def admit(problem: Problem, which: str) -> Admissible:
    """The kernels of a support; the head is free."""
    mask = support(torch.tensor(SUPPORTS[which]))
    conv = [layer for layer in problem.space.layers if not layer.name.startswith("head")]
    return Admissible(problem.space, {layer.name: kernels(layer, mask) for layer in conv})


def coordinates(problem: Problem, which: str, kind: str, seed: int) -> Parametrisation:
    """Orthonormal coordinates of a support, or columns of unit norm at random angles, the same for every kernel."""
    if kind == "orthonormal":
        return Parametrisation(admit(problem, which), {})
    place = torch.tensor(SUPPORTS[which]).flatten().nonzero().squeeze(1)
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(len(place), len(place), generator=generator, dtype=torch.float64)
    columns = torch.zeros(9, len(place), dtype=torch.float64)
    columns[place] = mixed / mixed.norm(dim=0)
    conv = [layer.name for layer in problem.space.layers if not layer.name.startswith("head")]
    return parametrised(problem.space, dict.fromkeys(conv, columns))


def start(problem: Problem, admissible: Admissible, seed: int) -> Tensor:
    """Gaussian layers projected onto E, then scaled so that every row has norm one: coordinates of T."""
    generator = torch.Generator().manual_seed(seed)
    whole = torch.randn(problem.space.dim, generator=generator, dtype=torch.float64)
    c = admissible.equivariant_part(admissible.project(whole))
    parts = []
    for piece, part in zip(admissible.pieces, admissible.split_coordinates(c), strict=True):
        rows = piece.layers[0].shape[0]
        parts.append(part * (math.sqrt(rows) / part.norm()))
    return torch.cat(parts)
