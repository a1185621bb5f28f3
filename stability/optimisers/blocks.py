r"""∇²R^aug sector by sector, all of it, as an optimiser with a preconditioner sees it.

    P^{1/2} (B_λ + μ) P^{1/2},      P = diag(1/(√v̂ + ε)) of Adam and RMSprop, 1 of gradient descent

with μ the decay that the optimiser adds to the gradient. P has a block on the sector where it commutes with G, which
is measured: v is then the same at every weight of an orbit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.base.errors import BadInput
from stability.curvature import assembly
from stability.curvature.automatic import nominal_hessian
from stability.eigen.operator import Operator, assemble
from stability.eigen.spectrum import rounding
from stability.groups import Irrep
from stability.problem.problem import Problem
from stability.problem.space import ParameterSpace
from stability.spectra import sectors

# A sector beyond is not diagonalised whole.
SIZE_LIMIT = 4000
# Relative violation up to which a preconditioner counts as commuting with G.
COMMUTES = 1e-8
MEMORY_GB = 4.0


@dataclass(frozen=True, eq=False)
class Block:
    """One sector, diagonalised.

    Attributes:
        irrep: V_λ.
        values: ascending eigenvalues h of P^{1/2}(B_λ + μ)P^{1/2}, (size).
        vectors: as columns, in coordinates of the sector, (size, size).
        error: what rounding and residuals may move an eigenvalue by.
        root: P^{1/2} in coordinates of the sector, (size, size); None for P = 1.
    """

    irrep: Irrep
    values: Tensor
    vectors: Tensor
    error: float
    root: Tensor | None = None

    @property
    def copies(self) -> float:
        """How often an eigenvalue of the block occurs in L, d/c; also E‖A_λ‖² over the trace in coordinates."""
        return self.irrep.dim / self.irrep.commutant_dim


def parts(space: ParameterSpace, irrep: Irrep, v: Tensor) -> Tensor:
    """u_j with ⟨u_j, s⟩ = ⟨v, S e_j⟩: what a vector of L has in the sector, (…, dim L) → (…, d, size)."""
    eye = torch.eye(irrep.dim, dtype=v.dtype, device=v.device)
    spread = eye[:, :, None] * v[..., None, None, :]  # for each j the partners that are zero but for the j-th
    return irrep.dim * sectors.lower(space, irrep, spread)


def component(space: ParameterSpace, irrep: Irrep, v: Tensor) -> Tensor:
    """The orthogonal projection of v onto all copies of V_λ in L, (dim L)."""
    lifted = sectors.lift(space, irrep, parts(space, irrep, v))  # (d, d, dim L)
    return lifted.diagonal(dim1=0, dim2=1).sum(-1) / irrep.commutant_dim


def sector_root(space: ParameterSpace, irrep: Irrep, size: int, weights: Tensor) -> Tensor:
    """diag(weights) in coordinates of the sector.

    Raises:
        BadInput: it does not commute with G.
    """
    eye = torch.eye(size, dtype=weights.dtype, device=weights.device)
    rows = [sectors.lower(space, irrep, weights * sectors.lift(space, irrep, e[None])) for e in eye]
    matrix = torch.cat(rows).mT
    generator = torch.Generator().manual_seed(0)
    s = torch.randn(size, generator=generator, dtype=torch.float64).to(weights)
    moved = weights * sectors.lift(space, irrep, s[None])[0]
    off = float((moved - sectors.lift(space, irrep, (matrix @ s)[None])[0]).norm() / moved.norm())
    if not off <= COMMUTES:
        raise BadInput(
            f"optimiser: its second moment does not commute with G (off by {off:.1e} on sector {irrep.name}), so no "
            "sector has a multiplier of its own; average v over the orbits of G, or rehearse the update"
        )
    return (matrix + matrix.mT) / 2


def operator(problem: Problem, theta: Tensor, irrep: Irrep, nominal: Operator | None) -> Operator:
    """B_λ as products."""
    return sectors.sector_hessian(problem, theta, irrep, nominal, MEMORY_GB)


def resolve(
    problem: Problem, theta: Tensor, *, decay: float = 0.0, preconditioner: Tensor | None = None
) -> Iterator[Block]:
    """Every sector of E⊥ that occurs in L, one after the other.

    Args:
        problem: the risk.
        theta: a point of E, in coordinates.
        decay: μ that the optimiser adds to the gradient.
        preconditioner: the diagonal of P, (dim L).

    Raises:
        BadInput: a sector of more than 4,000 dimensions, or a P that does not commute with G.
    """
    space = problem.space
    nominal = None if problem.written else nominal_hessian(problem, space.embed(theta))
    for irrep, size in sectors.occurring(space):
        if irrep.is_trivial:
            continue
        if size > SIZE_LIMIT:
            raise BadInput(
                f"{problem.name}: sector {irrep.name} has {size:,} dimensions, more than the {SIZE_LIMIT:,} that are "
                "diagonalised; take multipliers from stability.sectors by of_sector"
            )
        product = operator(problem, theta, irrep, nominal)
        if assembly.applies(problem, irrep):
            matrix = assembly.sector_matrix(problem, theta, irrep, MEMORY_GB)
        else:
            matrix = assemble(product, theta)
        root = None if preconditioner is None else sector_root(space, irrep, size, preconditioner.sqrt())
        matrix = matrix + decay * torch.eye(size, dtype=matrix.dtype, device=matrix.device)
        if root is not None:
            matrix = root @ matrix @ root
            matrix = (matrix + matrix.mT) / 2
        values, vectors = torch.linalg.eigh(matrix)
        ends = vectors[:, [0, -1]].mT
        inner = ends if root is None else ends @ root
        moved = product(inner.contiguous()) + decay * inner
        moved = moved if root is None else moved @ root
        missed = float((moved - values[[0, -1], None] * ends).norm(dim=1).max())
        norm = float(values.abs().max())
        yield Block(irrep, values, vectors, max(missed, rounding(norm, size, matrix.dtype)), root)
