"""What the lowest eigenvalue of ∇²R^aug on E⊥ costs: by sectors, by the group sum, by sampled elements."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from analyses.studies.bench.timing import timed
from stability.curvature.automatic import augmented_hessian_from_group, nominal_hessian, transverse
from stability.eigen.lanczos import lanczos, ritz
from stability.eigen.operator import Operator
from stability.groups import Irrep
from stability.problem.problem import Problem
from stability.spectra import sectors
from stability.tasks import TaskOptions, load

# Of λ_min of the augmented Hessian: its group sum takes half a second a product, and a percent decides the sign.
AUGMENTED_TOLERANCE = 1e-2
# After this long a run stops where it is; what it reports then is a lower bound of its cost.
AUGMENTED_SECONDS = 150.0


@dataclass(frozen=True)
class Point:
    """A point of E, where the search starts, and when it stops."""

    problem: Problem
    theta: Tensor
    start: Tensor
    tolerance: float


Found = tuple[float, int, float]  # the value, nominal products, the relative residual


def in_sectors(point: Point, some: Sequence[Irrep]) -> Found:
    """The lowest eigenvalue of some sectors."""
    lowest, count, residual = np.inf, 0, 0.0
    for irrep in tqdm(some, desc="sectors", disable=None, leave=False):
        operator = sectors.sector_hessian(point.problem, point.theta, irrep)
        generator = torch.Generator().manual_seed(0)
        first = torch.randn(operator.dim, generator=generator, dtype=torch.float64)
        scale = 0.0 if lowest == np.inf else abs(lowest)
        value, _, estimate = by_lowest(operator, first, point.tolerance, scale=scale)
        lowest, count = min(lowest, value), count + operator.products * operator.cost
        residual = max(residual, estimate)
    return lowest, count, residual / abs(lowest)


def by_group(point: Point) -> Found:
    """The lowest eigenvalue on E⊥ from products summed over the whole group."""
    problem = point.problem
    nominal = nominal_hessian(problem, problem.space.embed(point.theta))
    average = transverse(augmented_hessian_from_group(problem, nominal), problem.space)
    value, steps, estimate = by_lowest(average, point.start, point.tolerance)
    return value, steps * problem.group.order, estimate / abs(value)


def sampled(point: Point, count: int) -> Operator:
    """∇²R averaged over so many Haar elements, on E⊥."""
    problem, space = point.problem, point.problem.space
    nominal, rng = nominal_hessian(problem, space.embed(point.theta)), np.random.default_rng(0)
    some = [problem.group.sample(rng) for _ in range(count)]
    inverses = [problem.group.inverse(g) for g in some]

    def apply(v: Tensor) -> Tensor:
        total = torch.zeros_like(v)
        for g, inverse in zip(some, inverses, strict=True):
            total += space.act(inverse, nominal(space.act(g, v)))
        return total / len(some)

    return transverse(Operator(space.dim, apply, "sampled"), space)


def bench_augmented(
    size: str = "medium", passes: tuple[int, ...] = (1, 4, 16), tolerance: float = AUGMENTED_TOLERANCE
) -> dict:
    """The lowest eigenvalue of ∇²R^aug on E⊥: sectors, group sum, sampled augmentation."""
    problem = load("trans", TaskOptions(size=size))
    space = problem.space
    start = torch.randn(space.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    point = Point(problem, problem.initial(0), space.transverse_part(start), tolerance)
    rows = {}
    nontrivial = [v for v, _ in sectors.occurring(space) if not v.is_trivial]
    ways: dict[str, Callable[[], Found]] = {
        "one sector, its lowest eigenvalue": lambda: in_sectors(point, nontrivial[:1]),
        "sectors, Lanczos in each": lambda: in_sectors(point, nontrivial),
        "group sum, Lanczos": lambda: by_group(point),
    }
    for name, run in ways.items():
        seconds, (value, count, residual) = timed(run)
        rows[name] = {"seconds": seconds, "lowest": value, "nominal_products": count, "relative_residual": residual}
    exact = rows["sectors, Lanczos in each"]["lowest"]
    for count in passes:
        operator = sampled(point, count)
        seconds, (value, steps, residual) = timed(partial(by_lowest, operator, point.start, tolerance))
        rows[f"{count} sampled element{'s' * (count > 1)}, Lanczos"] = {
            "seconds": seconds, "lowest": value, "nominal_products": steps * count, "error": value - exact,
            "relative_residual": residual / abs(value),
        }  # fmt: skip
    whole, each = rows["group sum, Lanczos"]["seconds"], rows["sectors, Lanczos in each"]["seconds"]
    return {
        "problem": f"TRANS, {size}, {len(problem.samples.x):,} digits, {space.dim:,} weights, "
        f"|G| = {problem.group.order}",
        "tolerance": tolerance,
        "rows": rows,
        "group_sum_over_sectors": whole / each,
        "group_sum_over_one_sector": whole / rows["one sector, its lowest eigenvalue"]["seconds"],
    }


def by_lowest(
    operator: Operator, start: Tensor, tolerance: float, seconds: float = AUGMENTED_SECONDS, scale: float = 0.0
) -> tuple[float, int, float]:
    """The lowest Ritz value once its residual estimate is below tolerance·max(|value|, scale), or time is up.

    Returns:
        the value, the steps taken, the estimate.
    """
    began = time.perf_counter()

    def on_step(state) -> bool:
        if time.perf_counter() - began > seconds:
            return True
        if state.steps % 5:
            return False
        values, _, estimates = ritz(state)
        return bool(estimates[0] <= tolerance * max(abs(values[0]), scale))

    state = lanczos(operator, start, min(1000, operator.dim), None, None, on_step)
    values, _, estimates = ritz(state)
    return float(values[0]), state.steps, float(estimates[0])
