"""The least eigenvalue of ∇²R^aug on E and in every sector, at any point of E: a few products each, one number each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from stability.base.storage import Checkpoint
from stability.curvature.at import At
from stability.eigen import krylov
from stability.eigen.dense import dense_spectrum
from stability.eigen.operator import assemble
from stability.eigen.spectrum import Eigenvalue
from stability.groups import Irrep
from stability.problem.problem import Problem
from stability.spectra import sectors

DENSE = 400
STEPS = 120


@dataclass(frozen=True)
class History:
    """λ_min along EQUI training: on E and in every sector of E⊥, epoch by epoch.

    Attributes:
        step: of the training.
        epochs: those that were looked at.
        risk: R at them.
        lowest: at each epoch one eigenvalue an irrep, the trivial one being E.
    """

    step: float
    epochs: tuple[int, ...]
    risk: tuple[float, ...]
    lowest: tuple[tuple[Eigenvalue, ...], ...]

    def on_e(self) -> list[Eigenvalue]:
        """λ_min on E at each epoch, that of the trivial irrep."""
        return [next(e for e in row if e.irrep == "trivial") for row in self.lowest]

    def across(self) -> list[Eigenvalue]:
        """The least of all sectors of E⊥; none where E⊥ = {0} or no sector of it was asked for."""
        outside = [[e for e in row if e.irrep != "trivial"] for row in self.lowest]
        return [min(row, key=lambda e: e.value) for row in outside if row]


def lowest(
    problem: Problem, theta: Tensor, irreps: Sequence[tuple[Irrep, int]], seed: int = 0, memory_gb: float = 4.0
) -> tuple[Eigenvalue, ...]:
    """λ_min of B_λ for every irrep, with its residual; dense up to 400 dimensions, Lanczos beyond."""
    at = At(problem, theta, memory_gb=memory_gb)
    found, nothing = [], Checkpoint(None, {}, False)
    for irrep, size in irreps:
        operator = at.on_e if irrep.is_trivial else at.block(irrep)
        if size <= DENSE:
            spectrum = dense_spectrum(assemble(operator, theta), operator, 1).spectrum
        else:
            plan = krylov.Plan(STEPS, 1, 1, True, seed, memory_gb)
            spectrum = krylov.run(operator, operator, size, irrep.name, plan, theta, nothing).spectrum
        whole = sectors.in_whole_space(spectrum, irrep)
        found.append(replace(whole.lowest[0], irrep=irrep.name))
    return tuple(found)


def products(irreps: Sequence[tuple[Irrep, int]]) -> int:
    """Nominal Hessian products that :func:`lowest` takes at most."""
    return sum(irrep.dim * (size if size <= DENSE else STEPS) for irrep, size in irreps)
