"""What the two ends of ∇²R cost, here and in other tools."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from analyses.studies.bench.peers import peers
from analyses.studies.bench.timing import timed
from stability.curvature.linearised import network_hessian
from stability.eigen.lanczos import lanczos, ritz
from stability.eigen.operator import Operator
from stability.tasks import TaskOptions, load

TOLERANCE = 1e-4


def by_lanczos(operator: Operator, start: Tensor, tolerance: float, limit: int = 1500) -> tuple[float, float, int]:
    """Lowest and highest Ritz value once both residual estimates are below tolerance·|value|; products taken."""

    def on_step(state) -> bool:
        if state.steps % 5:
            return False
        values, _, estimates = ritz(state)
        return bool(estimates[0] <= tolerance * abs(values[0]) and estimates[-1] <= tolerance * abs(values[-1]))

    state = lanczos(operator, start, min(limit, operator.dim), None, None, on_step)
    values = ritz(state)[0]
    return float(values[0]), float(values[-1]), state.steps


def bench_extremes(size: str = "paper") -> dict:
    """λ_min and λ_max of ∇²R to one relative tolerance."""
    problem = replace(load("perm", TaskOptions(size=size)), weight_decay=0.0)
    theta = problem.initial(0)
    at = problem.space.embed(theta)
    n = problem.space.dim
    products, objects, missing = peers(problem, at)
    start = torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = {}
    seconds, found = timed(lambda: by_lanczos(network_hessian(problem, theta, None), start, TOLERANCE))
    rows["stability, Lanczos"] = {"seconds": seconds, "lowest": found[0], "highest": found[1], "products": found[2]}
    if "hessian-eigenthings" in objects:
        rows["hessian-eigenthings, Lanczos twice"] = by_eigenthings(objects["hessian-eigenthings"])
    if "curvlinops" in objects:
        rows["curvlinops + scipy eigsh"] = by_eigsh(products["curvlinops"], start)
    if "PyHessian" in objects:
        rows["PyHessian, power iteration (one end)"] = by_power_iteration(objects["PyHessian"])
    ours = rows["stability, Lanczos"]["seconds"]
    others = [r["seconds"] for name, r in rows.items() if name != "stability, Lanczos" and r["lowest"] is not None]
    return {
        "problem": f"PERM, {size}, {len(problem.samples.x):,} graphs, {n:,} weights; tolerance {TOLERANCE:g}",
        "rows": rows,
        "missing": missing,
        "fastest_peer_over_ours": min(others) / ours if others else None,
    }


def by_eigenthings(operator: object) -> dict:
    """Both ends by hessian-eigenthings.

    Its default number of steps stops far from the ends; only the last, sufficient one of a doubling counts.
    """
    module, seconds, found = importlib.import_module("hessian_eigenthings"), 0.0, []
    for which in ("SA", "LA"):
        steps = 20
        while True:
            spent, one = timed(
                lambda which=which, steps=steps: module.lanczos(
                    operator, k=1, max_iter=steps, tol=TOLERANCE, which=which, seed=0
                )
            )
            value = float(one.eigenvalues[0])
            if float(one.residuals[0]) <= TOLERANCE * abs(value) or steps >= 640:
                break
            steps *= 2
        seconds += spent
        found.append(value)
    return {"seconds": seconds, "lowest": found[0], "highest": found[1]}


def by_eigsh(product: Callable[[Tensor], Tensor], start: Tensor) -> dict:
    """Both ends by scipy, from the products of curvlinops."""
    count = 0

    def counted(v: np.ndarray) -> np.ndarray:
        nonlocal count
        count += 1
        return product(torch.as_tensor(v.ravel())).detach().numpy()

    operator = LinearOperator((len(start), len(start)), matvec=counted, dtype=float)

    def both() -> tuple[float, float]:
        values = eigsh(operator, k=2, which="BE", tol=TOLERANCE, v0=start.numpy(), return_eigenvectors=False)
        return float(min(values)), float(max(values))

    seconds, found = timed(both)
    return {"seconds": seconds, "lowest": found[0], "highest": found[1], "products": count}


def by_power_iteration(peer: object) -> dict:
    """The end of largest |λ| by PyHessian."""
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    seconds, found = timed(lambda: peer.eigenvalues(maxIter=1000, tol=TOLERANCE, top_n=1)[0][0])
    torch.set_default_dtype(default)
    return {"seconds": seconds, "lowest": None, "highest": float(found)}
