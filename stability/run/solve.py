"""Dense, Lanczos or none: the one place that chooses how a spectrum is found."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from stability.base.progress import stage
from stability.base.storage import Checkpoint
from stability.curvature.at import At
from stability.curvature.sector import sector_hessian
from stability.eigen import krylov
from stability.eigen.dense import dense_spectrum
from stability.eigen.operator import Operator, assemble
from stability.eigen.spectrum import Solution, Spectrum
from stability.groups import Irrep
from stability.problem.problem import Problem, single
from stability.run.given import Given
from stability.run.settings import Settings

# θ, in either precision, ↦ B_λ.
Block = Callable[[Tensor], Operator]


def densest(settings: Settings, limit: int) -> int:
    """The largest dimension that is solved as a matrix: up to a limit, and six copies must fit the memory."""
    return int(min(limit, (settings.memory_gb * 1e9 / (6 * 8)) ** 0.5))


def solved(given: Given, operator: Operator, name: str) -> Solution:
    """The spectrum of an operator: whole up to the limit for E, both ends by Lanczos beyond."""
    if operator.dim <= densest(given.settings, given.limits.dense_e):
        with stage(f"spectrum {name}"):
            return dense_spectrum(assemble(operator, given.like), operator, given.settings.eigenvalues)
    return ends(given, operator, operator, operator.dim, name)


def ends(
    given: Given,
    operator: Operator,
    fresh: Operator,
    n: int,
    name: str,
    project: Callable[[Tensor], Tensor] | None = None,
) -> Solution:
    """Both ends by Lanczos, in the range of ``project``, of dimension n; residuals with ``fresh``."""
    settings = given.settings
    k = settings.eigenvalues
    plan = krylov.Plan(given.limits.lanczos_steps, k, k, False, settings.seed, settings.memory_gb)
    return krylov.run(operator, fresh, n, name, plan, given.like, given.checkpoint, project)


def room_for_ends(given: Given, n: int) -> bool:
    """Whether the memory holds a Krylov space from which the ends asked for can be read."""
    k = given.settings.eigenvalues
    return krylov.room(given.settings.memory_gb, n, given.like.dtype, 2 * k) >= 3 * k


def missing(given: Given, n: int, why: str) -> Solution:
    """No spectrum, and why."""
    none = given.like.new_zeros(0)
    return Solution(Spectrum(n, (), (), None, None, f"not computed: {why}", 0, 0.0), none, none)


def sector(
    at: At,
    irrep: Irrep,
    operator: Operator,
    size: int,
    name: str,
    floor: float,
    settings: Settings,
    checkpoint: Checkpoint,
    block: Block | None = None,
) -> Solution:
    """The spectrum of B_λ: whole where it fits, else its ends by Lanczos until the sign is settled.

    Args:
        at: the problem at its point.
        irrep, size: λ and dim_R M_λ.
        operator: B_λ.
        name: of a Krylov run's file.
        floor: least error granted.
        settings: of the run.
        checkpoint: where a long Krylov run is kept.
        block: who makes B_λ in single precision; by default this process.
    """
    if size > densest(settings, settings.limits.dense):
        return sector_ends(at.problem, at.theta, irrep, operator, size, name, settings, checkpoint, block)
    began = time.perf_counter()
    matrix = at.matrix(irrep, operator)
    # A residual costs d nominal products, so irreps of large dimension report fewer.
    count = max(1, min(settings.eigenvalues, settings.limits.residual_products // irrep.dim))
    solution = dense_spectrum(matrix, operator, count, floor=floor)
    return replace(solution, spectrum=replace(solution.spectrum, seconds=time.perf_counter() - began))


def sector_ends(
    problem: Problem,
    theta: Tensor,
    irrep: Irrep,
    operator: Operator,
    size: int,
    name: str,
    settings: Settings,
    checkpoint: Checkpoint,
    block: Block | None = None,
) -> Solution:
    """The ends of B_λ by Lanczos until the sign is settled.

    Of a large sector the Krylov space is built in single precision, quotients and residuals of few pairs in double,
    and only the lowest vector is kept.
    """
    like, memory, limits = problem.samples.x, settings.memory_gb, settings.limits
    rapid = size > limits.single and problem.layered is not None and like.dtype == torch.float64
    wanted = limits.single_ends if rapid else (settings.eigenvalues, settings.eigenvalues)
    plan = krylov.Plan(limits.sector_steps, *wanted, True, settings.seed, memory)
    if not rapid:
        return krylov.run(operator, operator, size, name, plan, like, checkpoint)
    low = theta.float()
    searched = block(low) if block else sector_hessian(single(problem), low, irrep, None, memory)
    solution = krylov.run(searched, operator, size, name, plan, like, checkpoint, precision=torch.float32)
    operator.products += searched.products
    keep = int(solution.values.argmin())
    return replace(solution, values=solution.values[[keep]].clone(), vectors=solution.vectors[[keep]].clone())
