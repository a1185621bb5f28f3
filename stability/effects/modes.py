"""A picture of the lowest mode: what it adds to one channel's response to one sample."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.effects.breaking import laid_out
from stability.groups import Irrep
from stability.problem.problem import Problem
from stability.spectra.sectors import sizes

PROBES = 64
PARTNERS = 2


@dataclass(frozen=True)
class Mode:
    """The lowest mode S of a sector, seen in the layer that holds most of it.

    Attributes:
        irrep: its sector.
        value: its Rayleigh quotient.
        shares: ‖S_i‖²/‖S‖² by layer.
        layer: where it is shown: the largest share among layers whose outputs are square images or matrices.
        channel: the output channel that moves most there.
        sample: the training sample (of the first 64) that moves it most.
        input: that sample, row by row; None where it is no square.
        response: the channel's output A x before σ, row by row.
        change: (S e_j)x for the first partners of the irrep, the mode having norm one.
        moved: rms of Sx over samples and channels, relative to that of a random mode of the sector; of the size of
            rounding where the mode moves no response to first order. None in runs that did not measure it.
    """

    irrep: str
    value: float
    shares: dict[str, float]
    layer: str
    channel: int
    sample: int
    input: tuple[tuple[float, ...], ...] | None
    response: tuple[tuple[float, ...], ...]
    change: tuple[tuple[tuple[float, ...], ...], ...]
    moved: float | None = None


def _square(n: int) -> int | None:
    side = math.isqrt(n)
    return side if side > 1 and side * side == n else None


def _rows(values: Tensor, side: int) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in values.reshape(side, side).tolist())


def picture(problem: Problem, theta: Tensor, irrep: Irrep, mode: Tensor, value: float) -> Mode | None:
    """The mode with sector coordinates ``mode`` at the point θ; None without a network or a square space to show."""
    if problem.layered is None:
        return None
    network = problem.layered.network
    layers, coordinates = network.space.layers, problem.space.split_coordinates(theta)
    parts = mode.split(sizes(problem.space, irrep))
    shares = {layer.name: float(part @ part / (mode @ mode)) for layer, part in zip(layers, parts, strict=True)}
    shown = [
        i for i, layer in enumerate(layers) if len(layer.target.blocks) == 1 and _square(layer.target.blocks[0][1].dim)
    ]
    shown = [i for i in shown if shares[layers[i].name] > 0]
    if not shown:
        return None
    chosen = max(shown, key=lambda i: shares[layers[i].name])
    layer = layers[chosen]
    ((channels, base),) = layer.target.blocks
    x = problem.samples.x[:PROBES]
    with torch.no_grad():
        inner = x
        for i, (one, t) in enumerate(zip(layers[:chosen], coordinates, strict=False)):
            inner = network.nonlinearities[i](one.apply(t, network.entering(i, inner)).squeeze(0), one.target)
        inner = network.entering(chosen, inner)
        at = layer.at(coordinates[chosen], irrep)
        response = at.plain(inner)
        bound = at.bind(inner, torch.zeros_like(response))
        change = at.sample_layout(at.forward(at.push(parts[chosen].unsqueeze(0)), bound, None))
        random = torch.randn(len(mode), generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(mode)
        part = (random * (mode.norm() / random.norm())).split(sizes(problem.space, irrep))[chosen]
        usual = float(at.sample_layout(at.forward(at.push(part.unsqueeze(0)), bound, None)).norm())
        moved = float(change.norm()) / usual if usual else 0.0
    response = response.unflatten(1, (channels, base.dim))
    change = change.unflatten(2, (channels, base.dim))  # (d, n, channels, positions)
    strongest = int(change.square().sum((0, 3)).argmax())
    sample, channel = divmod(strongest, channels)
    width = _square(x.shape[1])
    return Mode(
        irrep=irrep.name,
        value=value,
        shares=shares,
        layer=layer.name,
        channel=channel,
        sample=sample,
        input=_rows(x[sample], width) if width else None,
        response=laid_out(response[sample, channel], base, problem.group),
        change=tuple(laid_out(c[sample, channel], base, problem.group) for c in change[:PARTNERS]),
        moved=moved,
    )
