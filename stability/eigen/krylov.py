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
    basis = only(tensors["basis"][:rows], (rows, len(start)), start, "the basis")
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
    fits = room(plan.memory_gb, operator.dim, precision, plan.low + plan.high)
    steps = min(plan.limit, n, fits)
    if steps < min(n, 3 * max(plan.low, plan.high), SETTLE_NEGATIVE):
        raise BadInput(
            f"{name}: --memory-gb {plan.memory_gb:g} holds only {max(fits, 0)} vectors of "
            f"{operator.dim:,} numbers, too few for a spectrum; allow more memory or use a smaller --size"
        )
    generator = torch.Generator().manual_seed(plan.seed)
    start = torch.randn(operator.dim, generator=generator, dtype=torch.float64).to(like.device, precision)
    state, spent = checkpoint.load(f"lanczos-{name}", partial(_restored, start, steps)) or (None, 0.0)
    # They were taken for this spectrum, whichever process took them.
    operator.products += state.steps if state else 0
    saved, pause = time.perf_counter(), SAVE_SECONDS
    bar = tqdm(total=steps, initial=state.steps if state else 0, desc=f"Lanczos {name}", disable=None, leave=False)

    def seconds() -> float:
        return spent + time.perf_counter() - began

    def keep(current: LanczosState) -> None:
        checkpoint.save(
            f"lanczos-{name}",
            {
                "basis": current.basis[: current.steps + 1],
                "alphas": torch.tensor(current.alphas, dtype=torch.float64),
                "betas": torch.tensor(current.betas, dtype=torch.float64),
            },
            seconds=str(seconds()),
        )

    def settled(current: LanczosState) -> bool:
        """Whether the run has what it is for; it looks at itself every tenth step."""
        if current.steps % 10 or current.steps < min(4 * max(plan.low, plan.high), SETTLE_NEGATIVE):
            return False
        values, _, estimates = ritz(current)
        if plan.settle:
            enough = SETTLE_NEGATIVE if values[0] < 0 else SETTLE_POSITIVE
            if current.steps >= enough and abs(values[0]) > 10 * estimates[0]:
                return True
        ends = np.r_[estimates[: plan.low], estimates[len(estimates) - plan.high :]]
        return bool(ends.max() <= 1e-9 * (values[-1] - values[0]))

    def on_step(current: LanczosState) -> bool:
        nonlocal saved, pause
        bar.update(1)
        if time.perf_counter() - saved > pause:
            before = time.perf_counter()
            keep(current)
            saved = time.perf_counter()
            pause = max(SAVE_SECONDS, 20 * (saved - before))  # a large basis is not written all the time
        return settled(current)

    # A run that was kept at its end takes not one step more: its numbers would be others in their last digits.
    if state is None or not (state.betas[-1] == 0.0 or settled(state)):
        state = lanczos(operator, start, steps, project, state, on_step)
    bar.close()
    keep(state)

    def product(v: Tensor) -> Tensor:
        return fresh(v) if project is None else project(fresh(v))

    # The run looks at itself every tenth step and may stop there.
    return lanczos_spectrum(product, n, state, plan.low, seconds(), plan.high, like, stops=steps // 10 + 1)
