r"""Teachers and students R³ → Γ → R³ under S_3 with six hidden units, each a subspace E_Γ of one perceptron 3 → 6 → 3.

Γ is a sum of transitive permutation representations: R³ (three units), the regular one (six), signs (two, exchanged by
odd permutations) and trivial ones. A teacher is a random point of its E_Γ; its risk is zero.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment, minimize
from torch import Tensor
from torch.func import grad_and_value

from analyses.lab.ground import TOLERANCE, resolve
from stability import mlp
from stability.base.errors import BadInput
from stability.groups import PermutationRepresentation, Representation, Symmetric, permutation, regular, trivial
from stability.networks.classifier import Classifier
from stability.networks.losses import squared
from stability.networks.nonlinearities import Identity, Pointwise
from stability.networks.supervised import supervised
from stability.points.stationary import gradient_scale, minimise
from stability.problem.problem import Problem
from stability.problem.space import Samples

GROUP = Symmetric(3)
POINTS = permutation(GROUP, "R³")


def _parity(g: tuple[int, ...]) -> np.ndarray:
    odd = sum(g[i] > g[j] for i in range(len(g)) for j in range(i + 1, len(g))) % 2
    return np.array([1, 0]) if odd else np.array([0, 1])


SIGNS = PermutationRepresentation(GROUP, 2, _parity, "signs")
HIDDEN: dict[str, Representation] = {
    "2 R³": 2 * POINTS,
    "regular": 1 * regular(GROUP),
    "R³ + 3 trivial": 1 * POINTS + 3 * trivial(GROUP),
    "R³ + signs + trivial": 1 * POINTS + 1 * SIGNS + 1 * trivial(GROUP),
    "3 R³": 3 * POINTS,
}
TEACHERS = ("2 R³", "regular")
# Students of six units, the same perceptron; and one with a copy more than the first teacher.
STUDENTS = tuple(HIDDEN)
SAMPLES, DECAY = 60, 1e-6
# A misfit below this share of that of the zero function is the teacher's; a push off E, as a share of ‖A‖.
SOLVED, PUSH = 1e-4, 1e-3


def network(hidden: Representation) -> Classifier:
    """R³ → Γ → R³ with tanh."""
    return Classifier(
        mlp([1 * POINTS, hidden, 1 * POINTS], [Pointwise("tanh"), Identity()]), squared, 1 * POINTS, False
    )


@lru_cache(maxsize=16)
def build(teacher: str, student: str, seed: int) -> Problem:
    """A student of a teacher's outputs on Gaussian inputs, scaled so that the zero function has risk one."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(SAMPLES, 3, generator=generator, dtype=torch.float64)
    model = network(HIDDEN[teacher])
    space = model.network.space
    truth = space.embed(1.5 * torch.randn(space.dim_equivariant, generator=generator, dtype=torch.float64))
    y = model.predict(truth, x)
    weight = torch.full((SAMPLES,), 1 / SAMPLES, dtype=torch.float64)
    zero = float(weight @ model.losses(torch.zeros_like(y), y))
    samples = Samples(x, y / zero**0.5, weight)
    return supervised(f"{teacher} taught to {student}", network(HIDDEN[student]), samples, weight_decay=DECAY)


def descended(problem: Problem, at: Tensor) -> Tensor:
    """Where BFGS on R^aug over all of L leads."""
    data = problem.augmented()
    slope = grad_and_value(problem.loss)

    def both(v: np.ndarray) -> tuple[float, np.ndarray]:
        a = torch.as_tensor(v)
        gradient, value = slope(a, data)
        risk = float(value + problem.penalty(a))
        return risk, (gradient + problem.weight_decay * a).numpy()

    return torch.as_tensor(
        minimize(both, at.numpy(), jac=True, method="BFGS", options={"maxiter": 3000, "gtol": 1e-9}).x
    )


def misfit(problem: Problem, at: Tensor) -> float:
    """R^aug without its penalty; one for the zero function."""
    with torch.no_grad():
        return float(problem.loss(at, problem.augmented()))


def orbits(problem: Problem, at: Tensor) -> tuple[tuple[int, ...], float]:
    """Orbits of the hidden units under G, by the permutations (with signs) that fit best, and how badly they fit.

    The error is max |h(gx) − P(g)h(x)| relative to max |h|; orbits mean a representation only where it is small.
    """
    first = problem.space.split(at)[0]
    x = problem.samples.x
    plain, worst, joined = x @ first.mT, 0.0, np.eye(len(first), dtype=bool)
    for g in GROUP.elements():
        moved = POINTS.act(g, x) @ first.mT
        apart = torch.minimum(
            (moved.mT[:, None] - plain.mT[None]).abs().amax(2), (moved.mT[:, None] + plain.mT[None]).abs().amax(2)
        ).numpy()
        here, there = linear_sum_assignment(apart)
        worst = max(worst, float(apart[here, there].max() / plain.abs().max()))
        joined[here, there] = True
    reached = np.linalg.matrix_power(joined.astype(int), len(first)) > 0
    sizes = sorted((int(row.sum()) for row in np.unique(reached | reached.T, axis=0)), reverse=True)
    return tuple(sizes), worst


def one_search(teacher: str, student: str, seed: int, start: int) -> dict[str, object]:
    """The minimum on E_Γ that a start leads to; where it is not the teacher, what R^aug leads to from beside it."""
    problem = build(teacher, student, seed)
    row: dict[str, object] = {"kind": "search", "teacher": teacher, "student": student, "seed": seed}
    row["start"] = start
    tolerance = TOLERANCE * gradient_scale(problem, start)
    try:
        theta = minimise(problem, problem.initial(start), tolerance)
        ground = resolve(problem, theta, tolerance, start)
    except BadInput as error:
        return row | {"failed": str(error)}
    at = ground.at
    row |= {"dim_L": problem.space.dim, "dim_E": problem.space.dim_equivariant, "misfit": misfit(problem, at)}
    row |= {"converged": ground.point.converged, "gradient_norm": ground.point.gradient_norm}
    low = ground.lowest
    row |= {"lambda_min_E": ground.point.eigenvalues[0], "lambda_min_E_perp": low.value, "irrep": low.irrep}
    row |= {"negative": ground.negative, "norm": float(at.norm())}
    if row["misfit"] <= SOLVED:
        return row
    end = descended(problem, at + PUSH * at.norm() * low.direction)
    sizes, error = orbits(problem, end)
    end_row = {"end_misfit": misfit(problem, end), "end_orbits": sizes, "end_orbit_error": error}
    return row | end_row | {"end_off": float(problem.space.transverse_part(end).norm() / end.norm())}
