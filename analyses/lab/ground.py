"""A point of E with every mode of ∇²R^aug there: on E, and sector by sector on E⊥."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stability.base.errors import BadInput
from stability.curvature.at import At
from stability.curvature.pooled import hessian_on_e
from stability.eigen.operator import assemble
from stability.groups import Irrep
from stability.points.stationary import StationaryPoint, describe_point, gradient_scale, minimise
from stability.problem.problem import Problem
from stability.spectra import sectors

SECTOR_LIMIT = 4000
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Mode:
    """An eigenvector of ∇²R^aug on E⊥.

    Attributes:
        irrep: the sector's label.
        value: the eigenvalue.
        direction: a unit vector of L, one of the partners.
    """

    irrep: str
    value: float
    direction: Tensor


@dataclass(frozen=True)
class SectorModes:
    """B_λ diagonalised: eigenvalues, ascending, and eigenvectors as columns, in coordinates of M_λ."""

    irrep: Irrep
    values: np.ndarray
    vectors: Tensor

    @property
    def multiplicity(self) -> float:
        """How often one eigenvalue of B_λ occurs in L, d/c."""
        return self.irrep.dim / self.irrep.commutant_dim


@dataclass(frozen=True)
class Ground:
    """A point of E with the whole spectrum of ∇²R^aug there.

    Attributes:
        problem: the risk.
        point: coordinates on E, risk, gradient norm, eigenvalues on E.
        at: the same point in L.
        blocks: E⊥, sector by sector.
    """

    problem: Problem
    point: StationaryPoint
    at: Tensor
    blocks: tuple[SectorModes, ...]

    def mode(self, block: SectorModes, number: int) -> Mode:
        """Eigenvector ``number`` of a sector, as a unit vector of L."""
        rows = sectors.lift(self.problem.space, block.irrep, block.vectors[:, number].contiguous())
        return Mode(block.irrep.name, float(block.values[number]), rows[0] / rows[0].norm())

    @property
    def lowest(self) -> Mode:
        """λ_min on E⊥."""
        return self.mode(min(self.blocks, key=lambda b: b.values[0]), 0)

    @property
    def highest(self) -> Mode:
        """λ_max on E⊥."""
        return self.mode(max(self.blocks, key=lambda b: b.values[-1]), -1)

    def lowest_above(self, bound: float, apart_from: float = float("nan")) -> Mode:
        """The lowest mode on E⊥ with λ ≥ bound, passing over those of one known eigenvalue.

        Raises:
            BadInput: there is none.
        """
        found = [
            (float(v), i, b)
            for b in self.blocks
            for i, v in enumerate(b.values)
            if v >= bound and not abs(v - apart_from) <= 1e-6 * abs(apart_from)
        ]
        if not found:
            raise BadInput(f"{self.problem.name}: no eigenvalue on E⊥ is {bound:g} or more; use a smaller bound")
        _, number, block = min(found, key=lambda f: f[0])
        return self.mode(block, number)

    def sharing(self, value: float) -> list[str]:
        """The irreps whose sectors have this eigenvalue, to 1e-8 relative to it."""
        near = 1e-8 * max(abs(value), 1e-3 * self.highest.value)
        return [b.irrep.name for b in self.blocks if np.abs(b.values - value).min() <= near]

    @property
    def negative(self) -> int:
        """Negative eigenvalues on E⊥, with their multiplicity in L."""
        noise = 1e-10 * max(1.0, self.highest.value)
        return round(sum(int((b.values < -noise).sum()) * b.multiplicity for b in self.blocks))

    @property
    def top_on_e(self) -> float:
        """λ_max on E."""
        return self.point.eigenvalues[-1]

    def summary(self) -> dict[str, object]:
        """What result files say of it."""
        low, high = self.lowest, self.highest
        return {
            "task": self.problem.name,
            "group": self.problem.group.name,
            "samples": len(self.problem.samples),
            "weight_decay": self.problem.weight_decay,
            "dim_L": self.problem.space.dim,
            "dim_E": self.problem.space.dim_equivariant,
            "start": self.point.start,
            "risk": self.point.risk,
            "gradient_norm": self.point.gradient_norm,
            "tolerance": self.point.tolerance,
            "norm": float(self.at.norm()),
            "lambda_min_E": self.point.eigenvalues[0],
            "lambda_max_E": self.top_on_e,
            "lambda_min_E_perp": low.value,
            "irreps": self.sharing(low.value),
            "lambda_max_E_perp": high.value,
            "negative_E_perp": self.negative,
            "accuracy": accuracies(self.problem, self.at),
        }


def accuracies(problem: Problem, at: Tensor) -> dict[str, float]:
    """On training and test data and of the best constant predictor, where predictions are decisions."""
    found = {}
    if problem.metric is not None:
        with torch.no_grad():
            for which in ("train", "test", "constant"):
                scores = problem.metric(lambda x: problem.model.predict(at, x), which)
                if "accuracy" in scores:
                    found[which] = scores["accuracy"]
    return found


def resolve(problem: Problem, theta: Tensor, tolerance: float, start: int | None = None) -> Ground:
    """The point of E with coordinates θ and all modes there.

    Raises:
        BadInput: a sector too large for a dense block.
    """
    space, blocks, at = problem.space, [], At(problem, theta, memory_gb=4.0)
    for irrep, size in sectors.occurring(space):
        if size > SECTOR_LIMIT:
            raise BadInput(f"{problem.name}: sector {irrep.name} has {size:,} dimensions; use a smaller size")
        if irrep.is_trivial:
            continue
        matrix = at.matrix(irrep)
        values, vectors = torch.linalg.eigh(matrix)
        blocks.append(SectorModes(irrep, values.numpy(), vectors))
    point = describe_point(problem, theta, "minimum", tolerance, start)
    if point.eigenvalues is None:
        values = torch.linalg.eigvalsh(assemble(hessian_on_e(problem, theta), theta))
        point = StationaryPoint(**{**vars(point), "eigenvalues": tuple(values.tolist())})
    return Ground(problem, point, space.embed(theta), tuple(blocks))


def find(problem: Problem, start: int) -> Ground:
    """The stationary point on E that a seeded start leads to.

    Raises:
        BadInput: the search fell short.
    """
    tolerance = TOLERANCE * gradient_scale(problem, start)
    theta = minimise(problem, problem.initial(start), tolerance)
    ground = resolve(problem, theta, tolerance, start)
    if not ground.point.converged:
        norm = ground.point.gradient_norm
        raise BadInput(f"{problem.name}, start {start}: ‖∇‖ stays at {norm:.1e}, above {tolerance:.1e}; try another")
    return ground


def stabiliser(problem: Problem, v: Tensor) -> list:
    """The elements with ρ̄(g)v = v, to 1e-8 of ‖v‖: a subgroup."""
    return [g for g in problem.group.elements() if (problem.space.act(g, v) - v).norm() <= 1e-8 * v.norm()]


def faster_transverse_part(problem: Problem) -> Callable[[Tensor], Tensor]:
    """v ↦ v_{E⊥} with an orthonormal basis of E held in memory: for many steps of a small problem."""
    basis = problem.space.embed(torch.eye(problem.space.dim_equivariant, dtype=torch.float64))
    return lambda v: v - (v @ basis.mT) @ basis
