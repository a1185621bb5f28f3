"""What a product costs, and how that grows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from analyses.studies.bench.peers import floor, peers
from analyses.studies.bench.timing import ROUNDS, shares, take_turns
from stability.curvature.automatic import augmented_hessian_from_group, nominal_hessian
from stability.curvature.linearised import network_hessian
from stability.spectra import sectors
from stability.tasks import TaskOptions, load


def bench_nominal(size: str = "paper", rounds: int = ROUNDS) -> dict:
    """One nominal product per vector."""
    problem = replace(load("perm", TaskOptions(size=size)), weight_decay=0.0)
    theta = problem.initial(0)
    at = problem.space.embed(theta)
    batch = 16
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(batch, problem.space.dim, generator=generator, dtype=torch.float64)
    ours, graph = network_hessian(problem, theta, None), nominal_hessian(problem, at)
    products, _, missing = peers(problem, at)
    reference = ours(v[0])
    agreement = {
        name: float((product(v[0]) - reference).norm() / reference.norm()) for name, product in products.items()
    }
    agreement["retained graph"] = float((graph(v[0]) - reference).norm() / reference.norm())
    candidates: dict[str, Callable[[], object]] = {
        "floor (matrix products only)": floor(problem, batch),
        "stability, batch of 16": lambda: ours(v),
        "stability, one vector": lambda: ours(v[0]),
        "stability, retained graph, one vector": lambda: graph(v[0]),
    }
    candidates |= {name: lambda product=product: product(v[0]) for name, product in products.items()}
    seconds = take_turns(candidates, rounds)
    for name in ("floor (matrix products only)", "stability, batch of 16"):
        seconds[name] /= batch
    best = min((seconds[name] for name in products), default=None)
    mine = seconds["stability, batch of 16"]
    return {
        "problem": f"PERM, {size}, {len(problem.samples.x):,} graphs, {problem.space.dim:,} weights, float64",
        "seconds": seconds,
        "shares": shares(lambda: ours(v)),
        "relative_difference": agreement,
        "missing": missing,
        "ratio_to_floor": mine / seconds["floor (matrix products only)"],
        "fastest_peer_over_ours": None if best is None else best / mine,
    }


def bench_scaling() -> dict:
    """Milliseconds of one product with ∇²R^aug: in one sector, and by the group sum, as one number grows."""

    def pair(options: TaskOptions) -> dict:
        problem = load("trans", options)
        theta = problem.initial(0)
        irrep = next(v for v, _ in sectors.occurring(problem.space) if not v.is_trivial)
        sector = sectors.sector_hessian(problem, theta, irrep)
        nominal = nominal_hessian(problem, problem.space.embed(theta))
        average = augmented_hessian_from_group(problem, nominal)
        generator = torch.Generator().manual_seed(0)
        s = torch.randn(sector.dim, generator=generator, dtype=torch.float64)
        v = torch.randn(problem.space.dim, generator=generator, dtype=torch.float64)
        found = take_turns(
            {"sector": lambda: sector(s), "nominal": lambda: nominal(v), "group sum": lambda: average(v)}, rounds=3
        )
        return {
            "group": problem.group.name, "order": problem.group.order, "samples": len(problem.samples.x),
            "dim": problem.space.dim, "milliseconds": {k: 1e3 * t for k, t in found.items()},
        }  # fmt: skip

    medium = TaskOptions(size="medium")
    return {
        "group": [pair(replace(medium, group=g)) for g in ("rotations", "rows", "torus")],
        "samples": [pair(replace(medium, samples=n)) for n in (125, 250, 500, 1000, 2000, 4000)],
        "width": [pair(TaskOptions(size=s, samples=1000)) for s in ("small", "medium")],
    }
