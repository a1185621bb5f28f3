"""Krylov runs that survive an interruption and stop as soon as they have what they are for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from stability.base.errors import BadInput
from stability.base.storage import Checkpoint, only
from stability.eigen.lanczos import LanczosState, lanczos, lanczos_spectrum, ritz, zero_space
from stability.eigen.operator import Operator
from stability.eigen.spectrum import Solution

SETTLE_NEGATIVE = 30
SETTLE_POSITIVE = 100
SAVE_SECONDS = 60.0


@dataclass(frozen=True)
class Plan:
    """How a run is done.

    Attributes:
        limit: most steps.
        low, high: Ritz pairs wanted at the two ends, each with a residual by a product of its own.
        settle: stop once the sign of the lowest Ritz value is beyond doubt: |θ| ≥ 10·residual, after 30 steps where
            it is negative (which proves it) and 100 where it is positive.
        seed: of the start.
        memory_gb: what the run may use; half of it for the basis.
    """

    limit: int
    low: int
    high: int
    settle: bool
    seed: int
    memory_gb: float


def room(plan_gb: float, n: int, dtype: torch.dtype, pairs: int) -> int:
    """Krylov vectors of n numbers that fit, besides those at work."""
    return int(0.5 * plan_gb * 1e9 / (dtype.itemsize * n)) - 3 * pairs // 2


def _fitting(plan: Plan, n: int, dim: int, precision: torch.dtype, name: str) -> int:
    """Most steps of a run: as many as planned, as the space has dimensions, as the memory holds vectors.

    Raises:
        BadInput: the memory holds too few vectors.
    """
    fits = room(plan.memory_gb, dim, precision, plan.low + plan.high)
    steps = min(plan.limit, n, fits)
    if steps < min(n, 3 * max(plan.low, plan.high), SETTLE_NEGATIVE):
        raise BadInput(
            f"{name}: --memory-gb {plan.memory_gb:g} holds only {max(fits, 0)} vectors of "
            f"{dim:,} numbers, too few for a spectrum; allow more memory or use a smaller --size"
        )
    return steps


def settled(plan: Plan, state: LanczosState) -> bool:
    """Whether a run has what it is for; it looks at itself every tenth step."""
    if state.steps % 10 or state.steps < min(4 * max(plan.low, plan.high), SETTLE_NEGATIVE):
        return False
    values, _, estimates = ritz(state)
    if plan.settle:
        enough = SETTLE_NEGATIVE if values[0] < 0 else SETTLE_POSITIVE
        if state.steps >= enough and abs(values[0]) > 10 * estimates[0]:
            return True
    ends = np.r_[estimates[: plan.low], estimates[len(estimates) - plan.high :]]
    return bool(ends.max() <= 1e-9 * (values[-1] - values[0]))


def _stored(state: LanczosState) -> dict[str, Tensor]:
    """A run as tensors by name, as :func:`_restored` reads them."""
    return {
        "basis": state.basis[: state.steps + 1],
        "alphas": torch.tensor(state.alphas, dtype=torch.float64),
        "betas": torch.tensor(state.betas, dtype=torch.float64),
    }


class _Keeper:
    """Writes a run as it goes on, a minute apart or more, and knows the seconds it has taken over all processes."""

    def __init__(self, checkpoint: Checkpoint, name: str, spent: float, began: float) -> None:
        self.checkpoint, self.name, self.spent, self.began = checkpoint, name, spent, began
        self.saved, self.pause = time.perf_counter(), SAVE_SECONDS

    def seconds(self) -> float:
        """Taken so far, those of interrupted processes among them."""
        return self.spent + time.perf_counter() - self.began

    def keep(self, state: LanczosState) -> None:
        """Write it now."""
        self.checkpoint.save(f"lanczos-{self.name}", _stored(state), seconds=str(self.seconds()))

    def look(self, state: LanczosState) -> None:
        """Write it if the last time is long ago; a large basis is not written all the time."""
        if time.perf_counter() - self.saved > self.pause:
            before = time.perf_counter()
            self.keep(state)
            self.saved = time.perf_counter()
            self.pause = max(SAVE_SECONDS, 20 * (self.saved - before))


def _restored(
    start: Tensor, steps: int, tensors: dict[str, Tensor], metadata: dict[str, str]
) -> tuple[LanczosState, float]:
    """The run that was kept, and the seconds it had taken.

    Raises:
        BadInput: what is stored is no such run.
    """
    count = len(tensors["alphas"])
    if not 1 <= count <= steps:
        raise BadInput(f"it holds {count} steps of at most {steps}")
    full = torch.zeros((), dtype=torch.float64)
    alphas = only(tensors["alphas"], (count,), full, "alphas")
    betas = only(tensors["betas"], (count,), full, "betas")
    rows = count if float(betas[-1]) == 0.0 else count + 1
    # A copy in torch's own memory: a file's buffer may begin between cache lines, where products round otherwise.
    basis = only(tensors["basis"][:rows], (rows, len(start)), start, "the basis").clone()
    return LanczosState(basis, alphas.tolist(), betas.tolist()), float(metadata["seconds"])


def run(
    operator: Operator,
    fresh: Callable[[Tensor], Tensor],
    n: int,
    name: str,
    plan: Plan,
    like: Tensor,
    checkpoint: Checkpoint,
    project: Callable[[Tensor], Tensor] | None = None,
    precision: torch.dtype | None = None,
) -> Solution:
    """One Lanczos run for both ends, within the memory allowed.

    Args:
        operator: what the Krylov space is built with, in ``precision``.
        fresh: the operator that quotients and residuals are measured with, in the dtype of ``like``.
        n: dimension of the space searched.
        name: of the run, for messages and files.
        plan: see :class:`Plan`.
        like: dtype and device of the result.
        checkpoint: where the run is kept.
        project: onto the space searched.
        precision: of the Krylov run; that of ``like`` by default.

    Raises:
        BadInput: the memory holds too few vectors.
    """
    precision, began = precision or like.dtype, time.perf_counter()
    if n == 0:
        return zero_space(operator.dim, like)
    steps = _fitting(plan, n, operator.dim, precision, name)
    generator = torch.Generator().manual_seed(plan.seed)
    start = torch.randn(operator.dim, generator=generator, dtype=torch.float64).to(like.device, precision)
    state, spent = checkpoint.load(f"lanczos-{name}", partial(_restored, start, steps)) or (None, 0.0)
    # They were taken for this spectrum, whichever process took them.
    operator.products += state.steps if state else 0
    keeper = _Keeper(checkpoint, name, spent, began)
    bar = tqdm(total=steps, initial=state.steps if state else 0, desc=f"Lanczos {name}", disable=None, leave=False)

    def on_step(current: LanczosState) -> bool:
        bar.update(1)
        keeper.look(current)
        return settled(plan, current)

    # A run that was kept at its end takes not one step more: its numbers would be others in their last digits.
    if state is None or not (state.betas[-1] == 0.0 or settled(plan, state)):
        state = lanczos(operator, start, steps, project, state, on_step)
    bar.close()
    keeper.keep(state)

    def product(v: Tensor) -> Tensor:
        return fresh(v) if project is None else project(fresh(v))

    # The run looks at itself every tenth step and may stop there.
    return lanczos_spectrum(product, n, state, plan.low, keeper.seconds(), plan.high, like, stops=steps // 10 + 1)
