"""A small network trained on turned images beside a monitor, for whoever tests what watches it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

import stability
from stability.api.monitor import Monitor
from stability.groups import Dihedral, trivial
from stability.problem.problem import Problem

RATE = 0.3


def network(kink: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    bend = nn.ReLU() if kink else nn.Tanh()
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), bend, *pool, nn.Linear(3, 2)).double()


@cache
def data() -> tuple[Tensor, Tensor]:
    x = torch.randn(40, 1, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rough = x.diff(dim=2).square().mean((1, 2, 3)) + x.diff(dim=3).square().mean((1, 2, 3))
    return x, (rough > rough.median()).long()


def problem(module: nn.Module, weight_decay: float = 0.0) -> Problem:
    one = trivial(Dihedral(4))
    channels = {"0": (one, 3 * one), "4": (3 * one, 2 * one)}
    return stability.from_module(module, nn.CrossEntropyLoss(), data(), channels, weight_decay=weight_decay)


def moved(x: Tensor, k: int) -> Tensor:
    x = x.rot90(k % 4, (2, 3))
    return x.flip(3) if k >= 4 else x


def trained(
    make: Callable[[list], torch.optim.Optimizer],
    elements: Callable[[int], range | list[int]],
    steps: int,
    *,
    weight_decay: float = 0.0,
    kink: bool = False,
    push: float = 1e-6,
    **options: object,
) -> Monitor:
    """A network started ``push`` from E and trained on data moved by chosen elements."""
    model = network(kink)
    case = problem(model, weight_decay)
    model.load_state_dict(stability.project(case, model))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p += push * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    optimiser = make(list(model.parameters()))
    monitor = Monitor(case, optimiser, **{"every": 20, "on_alarm": None, **options})
    x, y = data()
    for step in range(steps):
        chosen = elements(step)
        loss = sum(nn.functional.cross_entropy(model(moved(x, k)), y) for k in chosen) / len(chosen)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        monitor(model)
    return monitor


def sgd(rate: float = RATE, **options: float) -> Callable[[list], torch.optim.Optimizer]:
    return lambda parameters: torch.optim.SGD(parameters, lr=rate, **options)


def everything(step: int) -> range:
    return range(8)


def reasons(monitor: Monitor) -> set[str]:
    return {alarm.reason for alarm in monitor.raised}
