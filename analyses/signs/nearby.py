r"""Stationary points that are not where the point given is: by how far, and what the sign is there.

With s_i coordinates on E and P_j q the irreducible parts on E⊥ of A − A₀,

    R = ½ Σ_i λ_i (s_i + S_i)² + ½ Σ_j (μ_j + Σ_i C_ij s_i)|P_j q|² + terms that average to zero,

whose only stationary point on E is s = −S, with curvatures λ_i and μ_j − Σ_i C_ij S_i: all by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from analyses.signs.case import Case, answers, lowest, status
from analyses.signs.drafts import SPACES, averaged, parts
from stability.problem.problem import Problem
from stability.problem.space import Samples


@dataclass(frozen=True)
class Valley:
    """The risk above.

    Attributes:
        name: of the space, see :data:`analyses.signs.drafts.SPACES`.
        on_e, across: λ_i and μ_j.
        coupling: C, (i, j).
        shift: S.
        centre: A₀ in coordinates of E.
        scale: the risk is multiplied by it.
        broken: sizes of the terms that only R has: a slope on E⊥, and a part of its Hessian.
        tilt: (y₀, c, a, b): R has ½μ_a(y + y₀)² and c y z²/2 for y, z one coordinate each in parts a and b of E⊥.
        loose: s is computed as (s + B) − B, and M⟨x, A⟩² is added and taken away again.
    """

    name: str
    on_e: np.ndarray
    across: np.ndarray
    coupling: np.ndarray
    shift: np.ndarray
    centre: Tensor
    scale: float = 1.0
    broken: tuple[float, float] = (0.0, 0.0)
    tilt: tuple[float, float, int, int] | None = None
    loose: tuple[float, float] = (0.0, 0.0)
    start: Tensor | None = field(default=None, repr=False)
    length: float = 1.0

    def curvatures(self, s: np.ndarray) -> np.ndarray:
        """Of R^aug on E⊥, part by part."""
        return self.across + s @ self.coupling

    def case(self, s: np.ndarray, **more: str) -> Case:
        """Judged at s: the truth is that at −S, the transverse one that at s."""
        there = self.curvatures(-self.shift)
        truth = answers(self.on_e, there) | {"transverse": status(self.curvatures(s))} | more
        ends = {k: self.scale * v for k, v in lowest(self.on_e, there).items()}
        return Case(truth, self.problem(), self.point(s), ends)

    def axes(self) -> Tensor:
        """Coordinates on E (rows of L) of the parts of E."""
        return torch.cat(parts(self.name)[1])

    def point(self, s: np.ndarray) -> Tensor:
        space = parts(self.name)[0]
        return self.centre + space.project(torch.as_tensor(s) @ self.axes())

    def problem(self) -> Problem:
        space, _, outside, moves = parts(self.name)
        generator = torch.Generator().manual_seed(len(outside))
        n = space.dim
        slope = space.transverse_part(torch.randn(n, generator=generator, dtype=torch.float64))
        off = torch.randn(n, n, generator=generator, dtype=torch.float64)
        off = off + off.mT - averaged(off + off.mT, moves)
        off = off / torch.linalg.matrix_norm(off, 2)
        x = torch.randn(n, generator=generator, dtype=torch.float64)
        of = torch.cat([torch.full((len(w),), j) for j, w in enumerate(outside)])
        rows = (torch.cat(outside), of)
        fixed = (self, slope, off, x / x.norm(), space.embed(self.centre), self.axes(), rows)
        samples = Samples(torch.zeros(2, 1).double(), torch.zeros(2).double(), torch.full((2,), 0.5).double())

        def initial(seed: int) -> Tensor:
            if self.start is not None:
                return self.start
            draw = torch.Generator().manual_seed(seed)
            start = torch.randn(space.dim_equivariant, generator=draw, dtype=torch.float64)
            return self.centre + self.length * start

        return Problem(self.name, space, samples, partial(risk, fixed), initial=initial)


def risk(fixed: tuple, parameters: Tensor, samples: Samples) -> Tensor:
    """Every sample is the whole risk."""
    v, slope, off, x, centre, axes, outside = fixed
    big, twice = v.loose
    q = parameters - centre
    s = axes @ q
    s = (s + big) - big
    on_e, shift, across = (torch.as_tensor(part) for part in (v.on_e, v.shift, v.across))
    # The linear part apart: added to s, a shift below its ulps would be lost before it is felt.
    value = 0.5 * on_e @ s.square() + (on_e * shift) @ s
    rows, of = outside
    value = value + 0.5 * (across + s @ torch.as_tensor(v.coupling))[of] @ (rows @ q).square()
    value = value + v.broken[0] * slope @ q + 0.5 * v.broken[1] * q @ (off @ q)
    if v.tilt is not None:
        y0, c, a, b = v.tilt
        y, z = rows[of == a][0] @ q, rows[of == b][-1] @ q
        value = value + v.across[a] * y0 * y + 0.5 * c * y * z.square()
    if twice:
        value = value + twice * ((x @ parameters).square() - parameters @ (torch.outer(x, x) @ parameters))
    return samples.weight.sum() * v.scale * value


def valley(rng: np.random.Generator) -> Valley:
    """Curvatures of order one, nothing moves yet."""
    name = str(rng.choice(list(SPACES)))
    space, inside, outside, _ = parts(name)
    centre = torch.as_tensor(rng.standard_normal(space.dim_equivariant))
    return Valley(
        name,
        rng.uniform(0.1, 1.0, len(inside)),
        rng.uniform(0.1, 1.0, len(outside)),
        np.zeros((len(inside), len(outside))),
        np.zeros(len(inside)),
        centre,
        broken=(rng.choice([0.0, 0.1]), rng.choice([0.0, 0.3])),
    )


def coupled(rng: np.random.Generator, v: Valley, size: float, step: float) -> tuple[Valley, int]:
    """Parts of E⊥ beside zero that move together by ``size``·s_i: their curvatures in steps about zero."""
    i, many = int(rng.integers(len(v.on_e))), int(rng.integers(1, len(v.across) + 1))
    chosen = rng.choice(len(v.across), many, replace=False)
    across, coupling = v.across.copy(), v.coupling.copy()
    across[chosen] = step * (np.arange(many) + rng.choice([0.3, -0.3, 1.7, -0.5 - many / 2]))
    coupling[i, chosen] = size
    return replace(v, across=across, coupling=coupling), i


def unit(v: Valley, i: int, length: float) -> np.ndarray:
    s = np.zeros(len(v.on_e))
    s[i] = length
    return s


def cluster_moves(rng: np.random.Generator) -> Case:
    """A cluster moves across zero between the point given and the stationary point."""
    away = 10 ** rng.uniform(-12, -9.5)
    v, i = coupled(rng, valley(rng), rng.choice([-1, 1]) * 10 ** rng.uniform(-1, 2), 10 ** rng.uniform(-12, -9))
    return v.case(unit(v, i, rng.choice([-1, 1]) * away))


def flat_component(rng: np.random.Generator) -> Case:
    """A gradient below the tolerance along a nearly flat direction of E: the stationary point is far away."""
    v, i = coupled(rng, valley(rng), rng.choice([-1, 1]) * 10 ** rng.uniform(-3, -1), 10 ** rng.uniform(-3, -1))
    distance = 10 ** rng.uniform(0, 2)
    slight = 10 ** rng.uniform(-13.5, -10.5) / distance
    on_e = v.on_e.copy()
    on_e[i] = slight * rng.choice([1, 1, 1, -1])
    v = replace(v, on_e=on_e, shift=unit(v, i, distance * rng.choice([-1, 1])))
    other = unit(v, int(rng.integers(len(on_e))), rng.choice([0.0, 1e-10, 1e-14]))
    other[i] = 0.0
    return v.case(other)


def nominal_moves(rng: np.random.Generator) -> Case:
    """R's own stationary point lies off E, below the tolerance; the sign of R there is another."""
    v = replace(valley(rng), broken=(0.0, 0.0))
    a, b = rng.choice(len(v.across), 2, replace=False)
    y0, c = 10 ** rng.uniform(-13, -10), rng.choice([-1, 1]) * 10 ** rng.uniform(-1, 2)
    across = v.across.copy()
    across[b] = rng.choice([-1, 1, 1]) * 10 ** rng.uniform(-12, -9)
    v = replace(v, across=across, tilt=(y0, c, int(a), int(b)))
    # z is one coordinate of its part; the others keep their curvature.
    rest = list(across) if len(parts(v.name)[2][b]) > 1 else [x for j, x in enumerate(across) if j != b]
    return v.case(np.zeros(len(v.on_e)), nominal=status([*v.on_e, *rest, across[b] - c * y0]))


def scaled(rng: np.random.Generator) -> Case:
    """Any of these with the risk, or the weights, in another unit: 10⁻¹² to 10¹²."""
    v = valley(rng)
    v, i = coupled(rng, v, rng.choice([-1, 1]) * 10 ** rng.uniform(-1, 1), 10 ** rng.uniform(-10, -4))
    away = rng.choice([0.0, 10 ** rng.uniform(-13, -10)])
    if rng.random() < 0.5:
        return replace(v, scale=10 ** rng.uniform(-12, 12)).case(unit(v, i, away))
    length = 10 ** rng.uniform(-12, 12)  # of the weights: λ → λ/length², C → C/length³
    v = replace(
        v,
        on_e=v.on_e / length**2,
        across=v.across / length**2,
        coupling=v.coupling / length**3,
        centre=v.centre * length,
        broken=(v.broken[0] / length, v.broken[1] / length**2),
        length=length,
    )
    return v.case(unit(v, i, away * length))


def denormal(rng: np.random.Generator) -> Case:
    """A risk whose squares, or whose values, float64 does not hold."""
    v, i = coupled(rng, valley(rng), 0.1, 10 ** rng.uniform(-6, -2))
    v = replace(v, scale=10 ** float(rng.choice([rng.uniform(-307, -160), rng.uniform(160, 300)])))
    return v.case(unit(v, i, rng.choice([0.0, 0.1, 1e-10])))


def offset(rng: np.random.Generator) -> Case:
    """Large weights: the stationary point lies between two numbers that float64 can tell apart."""
    size = 10 ** rng.uniform(2, 10)
    v = replace(valley(rng), broken=(0.0, 0.0))
    v = replace(v, centre=size * v.centre)
    ulp = 2.2e-16 * size
    v, i = coupled(rng, v, rng.choice([-1, 1]) * 10 ** rng.uniform(-1, 1), 10 ** rng.uniform(-1, 4) * ulp)
    v = replace(v, shift=unit(v, i, rng.choice([-1, 1]) * 10 ** rng.uniform(-2, 1) * ulp))
    case = v.case(np.zeros(len(v.on_e)))
    # Where the point given is, to the last digit, decides the transverse sign.
    return replace(case, truth=case.truth | {"transverse": status(v.curvatures(np.zeros(len(v.on_e))))})


def staircase(rng: np.random.Generator) -> Case:
    """s + B − B inside the risk: the gradient is a staircase, and so is what it is coupled to."""
    v, i = coupled(rng, valley(rng), rng.choice([-1, 1]) * 10 ** rng.uniform(-1, 1), 10 ** rng.uniform(-12, -5))
    big = 10 ** rng.uniform(2, 9)
    v = replace(v, loose=(big, 0.0), centre=torch.zeros_like(v.centre) if rng.random() < 0.5 else v.centre)
    return v.case(unit(v, i, rng.choice([-1, 1]) * rng.uniform(0, 0.5) * 2.2e-16 * big))


def inner_sums(rng: np.random.Generator) -> Case:
    """Large terms cancel inside one sample; the order of the samples shows nothing of it."""
    v, i = coupled(rng, valley(rng), rng.choice([-1, 1]) * 10 ** rng.uniform(-1, 1), 10 ** rng.uniform(-11, -5))
    v = replace(v, loose=(0.0, 10 ** rng.uniform(0, 6)))
    return v.case(unit(v, i, rng.choice([0.0, 1e-15, 1e-12])))


def at_rest(rng: np.random.Generator) -> Case:
    """The start is the stationary point, or next to it."""
    v = valley(rng)
    for block in (v.on_e, v.across):
        if rng.random() < 0.5:
            block[rng.integers(len(block))] = rng.choice([-1e-8, 1e-8])
    if rng.random() < 0.5:
        v = replace(v, centre=torch.zeros_like(v.centre))
    near = torch.as_tensor(rng.standard_normal(len(v.centre)))
    v = replace(v, start=v.centre + float(rng.choice([0.0, 1e-16, 1e-13])) * near)
    return replace(v.case(np.zeros(len(v.on_e))), theta=v.start)


FAMILIES: dict[str, Callable[[np.random.Generator], Case]] = {
    "cluster moves": cluster_moves,
    "flat component": flat_component,
    "nominal moves": nominal_moves,
    "rescaled": scaled,
    "denormal": denormal,
    "offset": offset,
    "staircase": staircase,
    "inner sums": inner_sums,
    "at rest": at_rest,
}
