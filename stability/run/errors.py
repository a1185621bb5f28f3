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
SHORTEST, LONGEST, LONGER, NEARBY = 1e-8, 1e-3, 100.0, 1e-3
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
    """A bound on what rounding inside a sample makes of ∇²R(A): ‖H(A+δ) − ⅜H(A+2δ) + ⅛H(A−2δ) − ¾H(A)‖.

    Of a smooth risk third differences are left, some 10⁻²⁴; of one that computes (s + B) − B the steps in which s is
    seen, which no repetition at A itself shows. Where B is large beside A they are longer than the first δ, so that δ
    grows as long as H hardly changes; what grows with it as δ³ is a smooth risk's.
    """
    here, generator = dense.weights, torch.Generator().manual_seed(seed)
    unit = torch.randn(len(here), generator=generator, dtype=torch.float64).to(here)
    unit = unit / float(unit.norm().clamp_min(1e-300))
    probe = torch.randn(len(here), generator=generator, dtype=torch.float64).to(here)
    length, longest = SHORTEST * size(here), LONGEST * max(size(here), 1.0)
    with stage("rounding inside the risk"):
        # Products are held against differences at A; where steps make the two contradict each other, they are measured.
        nominal_hessian(dense.problem, here, searching=True)(probe)
        product = dense.nominal(probe)
        roughest, most = unit * length, float(_rough(dense, unit * length)(probe).norm())
        while (length := LONGER * length) <= longest:
            seen = {k: _displaced(dense, k * length * unit)(probe) for k in (4, -4)}
            if not max(float((far - product).norm()) for far in seen.values()) <= NEARBY * float(product.norm()):
                break
            seen |= {k: _displaced(dense, k * length * unit)(probe) for k in (1, 2, -2)}
            left, further = (float(_third(seen[k], seen[2 * k], seen[-2 * k], product).norm()) for k in (1, 2))
            if most < left and further <= 4 * left:
                roughest, most = unit * length, left
        return certificates.norm_bound(_rough(dense, roughest), here, seed)


def _displaced(dense: Dense, step: Tensor) -> Operator:
    """∇²R(A + δ)."""
    return nominal_hessian(dense.problem, dense.weights + step, searching=True)


def _third(one: Tensor, two: Tensor, back: Tensor, here: Tensor) -> Tensor:
    """Over A + δ, A + 2δ, A − 2δ and A; it is odd and even, for steps on both sides of A may be alike."""
    return one - 0.375 * two + 0.125 * back - 0.75 * here


def _rough(dense: Dense, step: Tensor) -> Operator:
    """The third difference of ∇²R for a displacement δ."""
    nominal = dense.nominal
    one, two, back = (_displaced(dense, k * step) for k in (1, 2, -2))

    def apply(v: Tensor) -> Tensor:
        return _third(one(v), two(v), back(v), nominal(v))

    return Operator(nominal.dim, apply, "what is rough of ∇²R", batch=nominal.batch)


def product_error(
    problem: Problem, operator: Operator, loss: Callable[[Tensor, Samples], Tensor], at: Tensor, seed: int
) -> float:
    """What the products of an operator may be off by."""
    return certificates.product_error(operator, loss, at, problem.samples, problem.weight_decay, seed + 2)
