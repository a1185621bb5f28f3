"""What the command line may ask of a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from stability.base.errors import BadInput
from stability.groups import Group
from stability.networks.nonlinearities import KINKED, SMOOTH
from stability.problem.space import Samples
from stability.tasks.data import Dataset

G = TypeVar("G", bound=Group)
SIZES = ("small", "medium", "paper")
VARIANTS = ("smooth", "published")
TEST_SAMPLES = 1000


@dataclass(frozen=True)
class TaskOptions:
    """Options shared by the tasks; None means the task's own default.

    Attributes:
        size: one of ``SIZES``.
        variant: "smooth", whose spectra exist, or "published", as the paper trained.
        group: name of another group that the task knows.
        activation: σ.
        weight_decay: μ.
        samples: training samples.
        seed: of data that are drawn and of the choice among those that are not.
        data_dir: folder of the data sets' files.
        dtype: of the computation; signs want float64.
        device: where it runs, as torch names it.

    Raises:
        BadInput: a value that no task knows.
    """

    size: str = "small"
    variant: str = "smooth"
    group: str | None = None
    activation: str | None = None
    weight_decay: float | None = None
    samples: int | None = None
    seed: int = 0
    data_dir: Path | None = None
    dtype: torch.dtype = torch.float64
    device: str = "cpu"

    def __post_init__(self) -> None:
        _one_of("--size", self.size, SIZES)
        _one_of("--variant", self.variant, VARIANTS)
        if self.activation is not None:
            _one_of("--activation", self.activation, (*SMOOTH, *KINKED))
        if self.weight_decay is not None and not (0 <= self.weight_decay < float("inf")):
            raise BadInput(f"--weight-decay {self.weight_decay}: give a number ≥ 0")
        if self.samples is not None and self.samples < 1:
            raise BadInput(f"--samples {self.samples}: give a positive number")

    @property
    def sigma(self) -> str:
        """The activation: LeakyReLU as published, tanh where spectra are wanted."""
        return self.activation or ("leaky_relu" if self.variant == "published" else "tanh")

    @property
    def epsilon(self) -> float:
        """LayerNorm's ε."""
        return 1e-5 if self.variant == "published" else 0.1

    def decay(self, default: float) -> float:
        """μ: as asked for, none as published, else the task's default."""
        if self.weight_decay is not None:
            return self.weight_decay
        return 0.0 if self.variant == "published" else default


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise BadInput(f"{option} {value!r} is unknown; choose from {', '.join(allowed)}")


def choose_group(name: str | None, known: Mapping[str, Callable[[], G]], task: str) -> tuple[str, G]:
    """The group asked for; the first one known when none is.

    Raises:
        BadInput: a name that the task has no action for.
    """
    chosen = name or next(iter(known))
    if chosen not in known:
        raise BadInput(f"--group {chosen!r} is unknown for {task}; choose from {', '.join(known)}")
    return chosen, known[chosen]()


def train_size(options: TaskOptions, default: int, available: int) -> int:
    """Samples to train on, of so many published ones: as asked for, else the size's own number or all there are.

    Raises:
        BadInput: more are asked for than there are.
    """
    if options.samples is not None and options.samples > available:
        raise BadInput(f"--samples {options.samples:,}: --data-dir holds {available:,}; ask for at most {available:,}")
    return options.samples or min(default, available)


def prepare(data: Dataset, train: int, options: TaskOptions) -> tuple[Samples, Samples | None]:
    """Training and test samples with equal weights; inputs minus ½ as published, standardised otherwise.

    Standardising uses one mean and one deviation for all coordinates, so it commutes with permutations.
    """
    inputs = torch.as_tensor(data.inputs)
    if options.variant == "published":
        inputs = inputs - 0.5
    else:
        inputs = (inputs - inputs[:train].mean()) / inputs[:train].std().clamp_min(1e-12)
    targets = torch.as_tensor(data.targets)

    def placed(values: Tensor) -> Tensor:
        return values.to(dtype=options.dtype, device=options.device)

    def pack(start: int, stop: int) -> Samples:
        y = targets[start:stop]
        y = y.to(options.device) if y.dtype == torch.int64 else placed(y)
        x = placed(inputs[start:stop])
        return Samples(x, y, x.new_full((len(x),), 1 / len(x)))

    return pack(0, train), pack(train, len(inputs)) if len(inputs) > train else None
