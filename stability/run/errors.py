"""What an eigenvalue may be off by beside its residual: products, rounding in the risk, symmetry that is not exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stability.base.progress import stage
from stability.curvature.at import Dense
from stability.curvature.automatic import nominal_hessian
from stability.curvature.products import size
from stability.eigen.operator import Operator
from stability.eigen.spectrum import Solution, rounding
from stability.problem.problem import Problem
from stability.problem.space import Samples
from stability.verdicts import certificates

# Displacements over which ∇²R is seen to be smooth: the shortest relative to the point, the longest to the larger of
# the point and one, each so many times as long as the one before, as long as ∇²R changes by less than this share.
ROUGH, LONGEST, LONGER, NEARBY = 1e-6, 1e-3, 100.0, 1e-3
# What a relative violation of the assumptions does to eigenvalues, relative to the largest: ρ̄ enters ∇²R^aug twice on
# either side, and so does σ.
SYMMETRY = 4.0


@dataclass(frozen=True)
class Errors:
    """What every spectrum at one point is widened by.

    Attributes:
        dtype: of the products.
        violated: the largest measured violation of an assumption.
        size: ‖∇²R‖, which rounding of products is relative to.
        roughness: what rounding inside a sample makes of ∇²R.
    """

    dtype: torch.dtype
    violated: float
    size: float = 0.0
    roughness: float = 0.0

    def widened(self, solution: Solution, products: float) -> tuple[Solution, certificates.Budget]:
        """A solution with its whole error, and what that is made of; ``products`` is what these were seen to miss."""
        spectrum = solution.spectrum
        products += rounding(self.size, spectrum.dim, self.dtype) + self.roughness
        symmetry = SYMMETRY * self.violated * max(self.size, certificates.norm(spectrum))
        wider = certificates.widen(spectrum, products + symmetry)
        budget = certificates.Budget(spectrum.error, products, symmetry, spectrum.error + products + symmetry)
        return replace(solution, spectrum=wider), budget


def measured(dense: Dense, violated: float, seed: int) -> Errors:
    """The errors at a point whose ∇²R is known on L."""
    weights = dense.weights
    return Errors(weights.dtype, violated, certificates.size(dense.nominal, weights, seed), rough_hessian(dense, seed))


def rough_hessian(dense: Dense, seed: int) -> float:
    """A bound on what rounding inside a sample makes of ∇²R(A): ‖Δ(δ) − Δ(2δ)/4‖, Δ(δ) = ½(H(A+δ) + H(A−δ)) − H(A).

    Of a smooth risk fourth differences are left, some 10⁻²⁴; of one that computes (s + B) − B the steps in which s
    is seen, which no repetition at A itself shows. Where B is large beside A, the steps are longer than the first δ:
    δ grows while H hardly changes and what is left of it does not grow as δ⁴.
    """
    here, generator = dense.weights, torch.Generator().manual_seed(seed)
    unit = torch.randn(len(here), generator=generator, dtype=torch.float64).to(here)
    unit = unit / float(unit.norm().clamp_min(1e-300))
    probe = torch.randn(len(here), generator=generator, dtype=torch.float64).to(here)
    shortest, longest = ROUGH * size(here), LONGEST * max(size(here), 1.0)
    with stage("rounding inside the risk"):
        bound = certificates.norm_bound(_fourth(dense, shortest * unit), here, seed)
        length = LONGER * shortest
        while length <= longest and _smooth_so_far(dense, length * unit, probe):
            bound = max(bound, certificates.norm_bound(_fourth(dense, length * unit), here, seed))
            length *= LONGER
    return bound


def _fourth(dense: Dense, step: Tensor) -> Operator:
    """Δ(δ) − Δ(2δ)/4 for a displacement δ."""
    nominal = dense.nominal
    a, b, c, d = (nominal_hessian(dense.problem, dense.weights + k * step) for k in (1, -1, 2, -2))

    def apply(v: Tensor) -> Tensor:
        return 0.5 * (a(v) + b(v)) - 0.125 * (c(v) + d(v)) - 0.75 * nominal(v)

    return Operator(nominal.dim, apply, "what is rough of ∇²R", batch=nominal.batch)


def _smooth_so_far(dense: Dense, step: Tensor, probe: Tensor) -> bool:
    """Whether A ± 4δ is near by A: Hv changes little there, and its fourth difference is none of a smooth function."""
    here = dense.nominal(probe)
    far = [nominal_hessian(dense.problem, dense.weights + k * step)(probe) for k in (4, -4)]
    if not max(float((f - here).norm()) for f in far) <= NEARBY * float(here.norm()):
        return False
    return not float(_fourth(dense, 2 * step)(probe).norm()) > 4 * float(_fourth(dense, step)(probe).norm())


def product_error(
    problem: Problem, operator: Operator, loss: Callable[[Tensor, Samples], Tensor], at: Tensor, seed: int
) -> float:
    """What the products of an operator may be off by."""
    return certificates.product_error(operator, loss, at, problem.samples, problem.weight_decay, seed + 2)
