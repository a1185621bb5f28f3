"""Problems built from their answer: L split into irreducible parts, a curvature each, samples that average to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from stability.groups import (
    Cyclic,
    Dihedral,
    Representation,
    Symmetric,
    images,
    permutation,
    quaternion_group,
    regular,
    rotations,
    torus,
    trivial,
)
from stability.layers import make_layer
from stability.problem.problem import Problem
from stability.problem.space import ParameterSpace, Samples

QUATERNIONS = quaternion_group()
SPACES: dict[str, Callable[[], list[tuple[Representation, Representation]]]] = {
    "C_5": lambda: [(regular(Cyclic(5)), regular(Cyclic(5)))],
    "D_4": lambda: [(images(Dihedral(4), 2), 2 * images(Dihedral(4), 2))],
    "S_4": lambda: [(permutation(Symmetric(4)), permutation(Symmetric(4)))],
    "S_3 on pairs": lambda: [(permutation(Symmetric(3)) * permutation(Symmetric(3)), permutation(Symmetric(3)))],
    "Q_8": lambda: [(regular(QUATERNIONS), trivial(QUATERNIONS) + regular(QUATERNIONS))],
    "C_4": lambda: [(rotations(Cyclic(4), 2), 2 * rotations(Cyclic(4), 2)), (2 * rotations(Cyclic(4), 2),) * 2],
    "Z_2²": lambda: [(images(torus(2), 2), 3 * images(torus(2), 2))],
}


@cache
def parts(name: str) -> tuple[ParameterSpace, tuple[Tensor, ...], tuple[Tensor, ...], Tensor]:
    """L with irreducible subspaces in E and in E⊥ (orthonormal rows), and ρ̄(g) for all g, all by brute force."""
    space = ParameterSpace(tuple(make_layer(f"A_{i}", a, b, False) for i, (a, b) in enumerate(SPACES[name]())))
    eye = torch.eye(space.dim, dtype=torch.float64)
    moves = torch.stack([space.act(g, eye).mT for g in space.group.elements()])
    generator = torch.Generator().manual_seed(7)
    random = torch.randn(space.dim, space.dim, generator=generator, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(averaged(random + random.mT, moves))
    cuts = [0, *(torch.where(values.diff() > 1e-7)[0] + 1).tolist(), space.dim]
    found = [vectors[:, a:b].mT.contiguous() for a, b in zip(cuts, cuts[1:], strict=False)]
    mean = moves.mean(0)
    inside = [float((w @ mean).norm()) > 0.5 for w in found]
    on_e = tuple(w for w, fixed in zip(found, inside, strict=True) if fixed)
    across = tuple(w for w, fixed in zip(found, inside, strict=True) if not fixed)
    return space, on_e, across, moves


def averaged(matrix: Tensor, moves: Tensor) -> Tensor:
    """∫ ρ̄(g)ᵀ M ρ̄(g) dμ."""
    return (moves.mT @ matrix @ moves).mean(0)


TERMS = 5


def polynomial(centre: Tensor, parameters: Tensor, samples: Samples) -> Tensor:
    """Σ_s w_s (y₁t + y₂t²/2 + y₃t³/6 + y₄t⁴/24 + y₅|t|), t = ⟨x_s, A − A₀⟩."""
    t = samples.x @ (parameters - centre.to(parameters))
    y = samples.y
    return samples.weight @ (
        y[:, 0] * t + y[:, 1] * t**2 / 2 + y[:, 2] * t**3 / 6 + y[:, 3] * t**4 / 24 + y[:, 4] * t.abs()
    )


@dataclass
class Draft:
    """A problem in the making: samples are appended, the averaged Hessian at the centre stays what was asked for."""

    name: str
    rng: np.random.Generator
    on_e: np.ndarray
    across: np.ndarray
    dtype: torch.dtype = torch.float64

    def __post_init__(self) -> None:
        self.space, inside, outside, self.moves = parts(self.name)
        self.inside, self.outside = inside, outside
        matrix = sum(v * w.mT @ w for v, w in zip([*self.on_e, *self.across], [*inside, *outside], strict=True))
        size = float(torch.linalg.matrix_norm(matrix, 2))
        # What averaging cancels: R itself has another Hessian, and a gradient across E.
        off = self.gaussian(self.space.dim, self.space.dim)
        off = off + off.mT
        off = off - averaged(off, self.moves)
        matrix = matrix + 0.5 * size * off / torch.linalg.matrix_norm(off, 2)
        values, vectors = torch.linalg.eigh(matrix)
        self.centre = self.space.embed(self.space.project(self.gaussian(self.space.dim)))
        self.x, self.y = [vectors.mT], [self.terms(len(values), 1, values)]
        slope = self.space.transverse_part(self.gaussian(self.space.dim))
        self.add(slope, 0, 0.1 * size)

    def gaussian(self, *shape: int) -> Tensor:
        return torch.as_tensor(self.rng.standard_normal(shape))

    def terms(self, rows: int, which: int, values: Tensor | float) -> Tensor:
        y = torch.zeros(rows, TERMS, dtype=torch.float64)
        y[:, which] = torch.as_tensor(values, dtype=torch.float64)
        return y

    def add(self, direction: Tensor, which: int, value: float) -> None:
        """One more sample."""
        self.x.append(direction[None])
        self.y.append(self.terms(1, which, value))

    def problem(self) -> Problem:
        x, y = torch.cat(self.x), torch.cat(self.y)
        order = torch.as_tensor(self.rng.permutation(len(x)))
        weight = torch.full((len(x),), 1 / len(x), dtype=torch.float64)
        samples = Samples(*(part.to(self.dtype) for part in (x[order], len(x) * y[order], weight)))
        space, dtype = self.space, self.dtype

        def initial(seed: int) -> Tensor:
            start = torch.randn(
                space.dim_equivariant, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
            )
            return (space.project(self.centre) + start).to(dtype)

        return Problem(self.name, space, samples, partial(polynomial, self.centre.to(dtype)), initial=initial)

    def point(self, offset: float = 0.0, along: Tensor | None = None) -> Tensor:
        """Coordinates of the centre, moved by ``offset`` in E."""
        away = self.gaussian(self.space.dim_equivariant) if along is None else self.space.project(along)
        return (self.space.project(self.centre) + offset * away / away.norm()).to(self.dtype)

    def exact(self, problem: Problem, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Eigenvalues of ∇²R^aug on E and on E⊥ at a point, by brute force in float64 from the samples themselves."""
        x, y, weight = (part.double() for part in problem.samples)
        t = x @ (self.space.embed(theta.double()) - self.centre.to(self.dtype).double())
        curvature = weight * (y[:, 1] + y[:, 2] * t + y[:, 3] * t**2 / 2)
        matrix = averaged((x.mT * curvature) @ x, self.moves)
        inside, outside = torch.cat(self.inside), torch.cat(self.outside)
        return tuple(torch.linalg.eigvalsh(w @ matrix @ w.mT) for w in (inside, outside))


def body(rng: np.random.Generator, count: int, scale: float) -> np.ndarray:
    """Curvatures well above zero."""
    return scale * rng.uniform(0.1, 1.0, count)


def draft(rng: np.random.Generator, dtype: torch.dtype = torch.float64, scale: float | None = None) -> Draft:
    """A space with curvatures of order 0.1 to 100, nothing near zero yet."""
    name = str(rng.choice(list(SPACES)))
    _, inside, outside, _ = parts(name)
    scale = 10 ** rng.uniform(-1, 2) if scale is None else scale
    return Draft(name, rng, body(rng, len(inside), scale), body(rng, len(outside), scale), dtype)


def again(d: Draft) -> Draft:
    """The same draft with its eigenvalues, changed meanwhile, built in."""
    return Draft(d.name, d.rng, d.on_e, d.across, d.dtype)
