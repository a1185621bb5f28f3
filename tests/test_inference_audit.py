# ruff: noqa: E501 - a table: a fault a line
"""Faults planted in equivariant networks, each named by the audit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import stability
from stability.groups import (
    Cyclic,
    Dihedral,
    Group,
    MatrixRepresentation,
    PermutationRepresentation,
    Representation,
    Symmetric,
    images,
    regular,
    rotations,
    torus,
    trivial,
)
from stability.inference.audit import ADVICE, Audit, audit
from stability.inference.door import from_module
from stability.inference.entry import entry

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(6, 1, 6, 6, generator=GENERATOR, dtype=torch.float64)
ODD = torch.randn(6, 1, 5, 5, generator=GENERATOR, dtype=torch.float64)
VECTORS = torch.randn(6, 4, generator=GENERATOR, dtype=torch.float64)
SETS = torch.randn(6, 4, 2, generator=GENERATOR, dtype=torch.float64)
Y = torch.arange(6) % 2
D4, C4, FLIP, SHIFTS = Dihedral(4), Cyclic(4), Cyclic(2), torus(6)
SWAP = PermutationRepresentation(FLIP, 4, lambda g: [0, 1, 2, 3] if g == 0 else [1, 0, 3, 2], "swap")
MOVING = PermutationRepresentation(C4, 4, lambda g: [(i + g) % 4 for i in range(4)], "turn")
CE, MSE = nn.CrossEntropyLoss(), nn.MSELoss()


def cnn(channels: int = 8, **second: Any) -> nn.Sequential:
    options = {"padding": 1} | second
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1, padding_mode=options.pop("first", "zeros")), nn.Tanh(),
        nn.Conv2d(channels, channels, 3, **options), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2),
    )  # fmt: skip


def with_norm() -> nn.Sequential:
    made = cnn()
    return nn.Sequential(made[0], nn.BatchNorm2d(8), *made[1:])


def between(part: nn.Module) -> nn.Sequential:
    made = cnn()
    return nn.Sequential(*made[:2], part, *made[2:])


def dense() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 1, 3, padding=1))


def mlp(width: int = 8, out: int = 2) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, width), nn.GELU(), nn.Linear(width, out))


class Resized(nn.Module):
    """Resizes by a function, on its way."""

    def __init__(self, how: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.head, self.how = (
            nn.Conv2d(1, 4, 3, padding=1),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.Linear(4, 2),
            how,
        )

    def forward(self, x):
        return self.head(torch.tanh(self.b(self.how(torch.tanh(self.a(x))))).mean((2, 3)))


def sampled(shift: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def sample(x: torch.Tensor) -> torch.Tensor:
        theta = torch.tensor([[1.0, 0.0, shift], [0.0, 1.0, 0.0]], dtype=x.dtype).expand(len(x), 2, 3)
        return functional.grid_sample(
            x, functional.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False
        )

    return sample


def on_e(module: nn.Module, data: tuple, group: Group | Representation, loss: Any = CE, **options: Any) -> nn.Module:
    """The same module with weights and statistics projected onto E."""
    module = module.double()
    problem = from_module(module, loss, data, group, **options)
    module.load_state_dict(stability.project(problem, module))
    return module


def pushed(module: nn.Module, name: str, size: float = 0.1) -> nn.Module:
    """One parameter moved off E."""
    with torch.no_grad():
        p = dict(module.named_parameters())[name]
        p.add_(size * p.norm() / p.numel() ** 0.5 * torch.randn(p.shape, dtype=p.dtype))
    return module


def frozen(module: nn.Module, name: str) -> nn.Module:
    dict(module.named_parameters())[name].requires_grad_(False)
    return module


def statistics(module: nn.Module, key: str, size: float) -> nn.Module:
    buffer = dict(module.named_buffers())[key]
    buffer.add_(size * torch.rand(buffer.shape, dtype=buffer.dtype))
    return module


def orbit(x: torch.Tensor, rho: Representation) -> tuple[torch.Tensor, torch.Tensor]:
    """Data that G maps onto themselves."""
    moved = [rho.act(g, x.flatten(1)).reshape(x.shape) for g in rho.group.elements()]
    return torch.cat(moved), torch.cat([Y] * len(moved))


def bent(g: int) -> np.ndarray:
    return np.eye(4) if g == 0 else np.diag([1.0, -1.0, 1.0, 1.0]) @ np.eye(4)[[1, 0, 3, 2]]


def stretched(g: int) -> np.ndarray:
    found = np.eye(4)
    if g:
        found[:2, :2] = [[1.0, 1.0], [0.0, -1.0]]
    return found


def turned(g: int) -> np.ndarray:
    c, s = np.cos(g * 1.0), np.sin(g * 1.0)
    return np.block([[np.array([[c, -s], [s, c]]), np.zeros((2, 2))], [np.zeros((2, 2)), np.eye(2)]])


def weighted(p: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    scale = torch.linspace(1, 2, p[0].numel(), dtype=p.dtype).reshape(p.shape[1:])
    return ((p - y).square() * scale).flatten(1).mean(1)


def first_pixel(p: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (p.flatten(1)[:, 0] - y.flatten(1)[:, 0]).square()


REGULAR: dict = {"layers": {"0": (trivial(D4), 1 * regular(D4))}}
LINES: dict = {"layers": {"0": (SWAP, 4 * regular(FLIP))}}
PIXELS4 = rotations(C4, 6)
Fault = tuple[str, Callable[[], Audit]]


def at(cause: str, build: Callable[[], nn.Module], data: tuple, group: Any, loss: Any = None, **options: Any) -> Fault:
    def run() -> Audit:
        torch.manual_seed(0)
        return audit(build().double(), data, group, loss, **options)

    return cause, run


def clean(
    build: Callable[[], nn.Module], data: tuple, group: Any, loss: Any = CE, **options: Any
) -> Callable[[], nn.Module]:
    return lambda: on_e(build(), data, group, loss, **options)


CLOSED, CLOSED4 = orbit(VECTORS, SWAP), orbit(X, PIXELS4)
IMAGES6 = images(D4, 6)
FAULTS: dict[str, Fault] = {
    "nothing, images": at("none", clean(cnn, (X, Y), D4), (X, Y), D4),
    "nothing, channels that move": at("none", clean(cnn, (X, Y), D4, **REGULAR), (X, Y), D4, **REGULAR),
    "nothing, sets": at("none", lambda: nn.Sequential(nn.Linear(2, 5), nn.Tanh(), Mean(), nn.Linear(5, 2)), (SETS, Y), Symmetric(4)),
    "nothing, shifts": at("none", lambda: cnn(first="circular", padding_mode="circular"), (X, Y), SHIFTS),
    # the action
    "signs that do not close": at("wrong action", mlp, (VECTORS, Y), MatrixRepresentation(FLIP, 4, lambda g: bent(g) if g == 0 else bent(1), "bent")),
    "not orthogonal": at("wrong action", mlp, (VECTORS, Y), MatrixRepresentation(FLIP, 4, stretched, "stretched")),
    "a turn by one radian": at("wrong action", mlp, (VECTORS, Y), MatrixRepresentation(C4, 4, turned, "turned")),
    "an output that is said to stay": at("wrong action", clean(dense, (X, X), D4, MSE), (X, X), D4, output=36 * trivial(D4)),
    "an output that turns the other way": at("wrong action", clean(dense, (X, X), C4, MSE), (X, X), C4,
        output=PermutationRepresentation(C4, 36, lambda g: PIXELS4.index(-g % 4), "back")),
    # architecture
    "an even stride, turns": at("stride", lambda: cnn(stride=2), (X, Y), D4),
    "an even stride, C_4": at("stride", lambda: cnn(stride=2), (X, Y), C4),
    "an even stride, flips": at("stride", lambda: cnn(stride=2), (X, Y), FLIP),
    "an even stride, shifts": at("stride", lambda: cnn(first="circular", padding_mode="circular", stride=2), (X, Y), SHIFTS),
    "max pooling of odd sides": at("stride", lambda: between(nn.MaxPool2d(2)), (ODD, Y), D4),
    "mean pooling of odd sides": at("stride", lambda: between(nn.AvgPool2d(2)), (ODD, Y), C4),
    "pooling by a function": at("stride", lambda: Resized(lambda x: functional.max_pool2d(x, 2)), (ODD, Y), FLIP),
    "zeros around the first layer": at("padding", lambda: cnn(padding_mode="circular"), (X, Y), SHIFTS),
    "zeros around the second": at("padding", lambda: cnn(first="circular"), (X, Y), SHIFTS),
    "reflections at the border": at("padding", lambda: cnn(first="circular", padding_mode="reflect"), (X, Y), SHIFTS),
    "one row more on one side": at("padding", lambda: between(nn.ZeroPad2d((1, 0, 1, 0))), (X, Y), D4),
    "padding by a function": at("padding", lambda: Resized(lambda x: functional.pad(x, (0, 1, 0, 1))), (X, Y), C4),
    "nearest neighbours": at("interpolation", lambda: between(nn.Upsample(size=(7, 7), mode="nearest")), (ODD, Y), D4),
    "nearest by a function": at("interpolation", lambda: Resized(lambda x: functional.interpolate(x, size=(8, 8))), (ODD, Y), C4),
    "a shift by part of a pixel": at("interpolation", lambda: Resized(sampled(0.13)), (X, Y), D4),
    "a function of position": at("nonlinearity", lambda: between(Ramp()), (X, Y), D4),
    # loss and targets
    "pixels weighted": at("loss", clean(dense, (X, X), D4, MSE), (X, X), D4, weighted, target=IMAGES6),
    "the first pixel": at("loss", clean(dense, (X, X), C4, MSE), (X, X), C4, first_pixel, target=PIXELS4),
    "coordinates weighted": at("loss", clean(lambda: mlp(8, 4), (VECTORS, VECTORS), SWAP, MSE, output=SWAP, layers={"2": (4 * regular(FLIP), SWAP)}),
        (VECTORS, VECTORS), SWAP, weighted, layers={"2": (4 * regular(FLIP), SWAP)}, target=SWAP),
    "targets that are said to stay": at("wrong target action", clean(dense, (X, X), D4, MSE), (X, X), D4, MSE),
    "targets that turn back": at("wrong target action", clean(dense, (X, X), C4, MSE), (X, X), C4, MSE,
        target=PermutationRepresentation(C4, 36, lambda g: PIXELS4.index(-g % 4), "back")),
    # weights
    "tied layers that differ": at("tied weights", lambda: tied(), (VECTORS, Y), MOVING,
        layers={"0": (MOVING, MOVING), "2": (MOVING, 4 * trivial(C4))}),
    "statistics of one channel": at("batch norm", lambda: statistics(on_e(with_norm(), (X, Y), D4, **REGULAR).eval(), "1.running_mean", 0.3), (X, Y), D4, **REGULAR),
    "variances of one channel": at("batch norm", lambda: statistics(on_e(with_norm(), (X, Y), D4, **REGULAR).eval(), "1.running_var", 0.3), (X, Y), D4, **REGULAR),
    "a frozen kernel": at("frozen part", lambda: frozen(pushed(on_e(cnn(), (X, Y), D4), "0.weight"), "0.weight"), (X, Y), D4),
    "a frozen head": at("frozen part", lambda: frozen(pushed(on_e(mlp(), (VECTORS, Y), SWAP, **LINES), "2.weight"), "2.weight"), (VECTORS, Y), SWAP, **LINES),
    "images that are not turned": at("unsymmetric data", lambda: pushed(on_e(cnn(), (X, Y), D4), "2.weight"), (X, Y), D4),
    "vectors that are not swapped": at("unsymmetric data", lambda: pushed(on_e(mlp(), (VECTORS, Y), SWAP, **LINES), "0.weight"), (VECTORS, Y), SWAP, **LINES),
    "augmented, off E nevertheless": at("weights", lambda: pushed(on_e(mlp(), CLOSED, SWAP, **LINES), "0.weight"), CLOSED, SWAP, **LINES),
    "turned, off E nevertheless": at("weights", lambda: pushed(on_e(cnn(), CLOSED4, C4), "2.weight"), CLOSED4, C4),
    "a table of positions": at("unsymmetric data", lambda: Table(), (SETS, Y), Symmetric(4)),
    # precision
    "large inputs": at("float32", clean(lambda: Centred(), (X + 3e4, Y), D4), (X + 3e4, Y), D4),
    "large vectors": at("float32", clean(lambda: Centred(mlp()), (VECTORS + 3e4, Y), SWAP), (VECTORS + 3e4, Y), SWAP),
}  # fmt: skip


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(1)


class Ramp(nn.Module):
    """Brighter to the right."""

    def forward(self, x):
        return x * torch.linspace(0.5, 1.5, x.shape[-1], dtype=x.dtype)


class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.table = nn.Linear(2, 5), nn.Linear(5, 2), nn.Parameter(torch.randn(1, 4, 5))

    def forward(self, x):
        return self.b(torch.tanh(self.a(x) + self.table).mean(1))


class Centred(nn.Module):
    """Takes the mean of each sample off, which leaves little of large inputs."""

    def __init__(self, inner: nn.Module | None = None) -> None:
        super().__init__()
        self.inner = cnn() if inner is None else inner

    def forward(self, x):
        mean = x.flatten(1).mean(1)
        return self.inner(x - mean.reshape(-1, *[1] * (x.ndim - 1)))


def tied() -> nn.Sequential:
    made = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 2))
    made[2].weight = made[0].weight
    return made


@pytest.mark.parametrize("name", FAULTS)
def test_the_planted_fault_is_named(name):
    cause, run = FAULTS[name]
    found = run()
    assert found.cause == cause, str(found)
    assert found.advice == ADVICE[cause] and Audit.from_json(found.to_json()) == found


def test_the_table_has_forty_faults_of_every_kind():
    assert len(FAULTS) >= 40 and {cause for cause, _ in FAULTS.values()} == set(ADVICE)


MENDED: dict[str, tuple[str, Callable[[], nn.Module], tuple, Any, dict]] = {
    "a stride that fits": ("stride", lambda: nn.Sequential(nn.Conv2d(1, 4, 4, padding=1, stride=2), *cnn(4)[1:]), (X, Y), D4, {}),
    "pooling that fits": ("stride", lambda: between(nn.MaxPool2d(2)), (X, Y), D4, {}),
    "stride 1": ("stride", lambda: cnn(first="circular", padding_mode="circular"), (X, Y), SHIFTS, {}),
    "circular": ("padding", lambda: cnn(first="circular", padding_mode="circular"), (X, Y), SHIFTS, {}),
    "a whole factor": ("interpolation", lambda: between(nn.Upsample(scale_factor=2, mode="nearest")), (ODD, Y), D4, {}),
    "bilinear": ("interpolation", lambda: between(nn.Upsample(size=(7, 7), mode="bilinear")), (ODD, Y), D4, {}),
    "targets that move": ("wrong target action", dense, (X, X), D4, {"target": IMAGES6, "loss": MSE}),
}  # fmt: skip


@pytest.mark.parametrize("name", MENDED)
def test_what_is_advised_works(name):
    cause, build, data, group, options = MENDED[name]
    module = on_e(build(), data, group, options.get("loss", CE), **{k: v for k, v in options.items() if k == "target"})
    assert cause in ADVICE and audit(module, data, group, **options).cause == "none"


def test_how_inputs_are_moved_is_known_by_their_shape():
    assert entry(D4, (2, 6, 6)).whole.dim == 72 and entry(Symmetric(4), (4, 2)).flow.positions is not None
    assert entry(SHIFTS, (1, 6, 6)).lattice is not None and entry(SWAP, (4,)).whole == SWAP


def test_errors_are_told_layer_by_layer():
    torch.manual_seed(0)
    module = pushed(on_e(cnn(), (X, Y), D4), "2.weight")
    found = audit(module, (X, Y), D4)
    sizes = {one.name: one for one in found.layers}
    assert sizes["0"].error < 1e-12 < 1e-3 < sizes["2"].error and sizes["2"].distance == pytest.approx(0.1, rel=0.2)
    assert "cause      unsymmetric data" in str(found)
