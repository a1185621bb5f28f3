"""A problem at a point of E: each of its Hessians, by the cheapest way known."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from stability.base.limits import Limits
from stability.curvature import assembly
from stability.curvature.automatic import nominal_hessian
from stability.curvature.pooled import hessian_on_e
from stability.curvature.sector import sector_hessian
from stability.eigen.operator import Operator, assemble
from stability.groups import Irrep
from stability.problem.problem import Problem


@dataclass(frozen=True, eq=False)
class Dense:
    """What takes vectors of all of L.

    Args:
        problem: the risk.
        weights: A, (dim L).
    """

    problem: Problem
    weights: Tensor

    @cached_property
    def nominal(self) -> Operator:
        """∇²R(A) on L, linearised when it is first asked for."""
        return nominal_hessian(self.problem, self.weights)


@dataclass(frozen=True, eq=False)
class At:
    """The point A = Σ_b θ_b e_b of E, with its Hessians; each is made when it is first asked for, and once.

    Args:
        problem: the risk.
        theta: coordinates of A, (dim E).
        limits: up to which size vectors of L are made.
        memory_gb: what products of a sector may use.
    """

    problem: Problem
    theta: Tensor
    limits: Limits = field(default_factory=Limits)
    memory_gb: float = 16.0

    @cached_property
    def dense(self) -> Dense | None:
        """A and ∇²R(A) on L; None where L is too large for them, and the layers' own arithmetic can do without."""
        if self.problem.layered is not None and self.problem.space.dim > self.limits.vectors:
            return None
        return Dense(self.problem, self.problem.space.embed(self.theta))

    @cached_property
    def on_e(self) -> Operator:
        """∇²R^eqv on E, in coordinates."""
        return hessian_on_e(self.problem, self.theta)

    def block(self, irrep: Irrep) -> Operator:
        """B_λ: ∇²R^aug on one sector, in its coordinates."""
        nominal = None if self.problem.written or self.dense is None else self.dense.nominal
        return sector_hessian(self.problem, self.theta, irrep, nominal, self.memory_gb)

    def matrix(self, irrep: Irrep, operator: Operator | None = None) -> Tensor:
        """B_λ, (size, size): sample by sample where the network has the shape for it, else column by column.

        Args:
            irrep: λ.
            operator: B_λ as products, where they have been made already.
        """
        if assembly.applies(self.problem, irrep):
            return assembly.sector_matrix(self.problem, self.theta, irrep, self.memory_gb)
        return assemble(operator or self.block(irrep), self.theta)

    def moved(self, theta: Tensor) -> At:
        """The same problem at another point of E."""
        return At(self.problem, theta, self.limits, self.memory_gb)
