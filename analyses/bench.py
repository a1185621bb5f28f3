"""What a product and an eigenvalue cost, next to other tools and to the floor, in one run.

    python -m analyses.bench [--parts nominal extremes augmented scaling] [--out reports/bench]

* nominal: ∇²R(A)v on PERM at the paper's size, per vector, against PyHessian, hessian-eigenthings and curvlinops;
  the floor is the time of the matrix products that cannot be avoided, measured in the same run.
* extremes: the lowest and the highest eigenvalue of ∇²R there, same tolerance, same threads.
* augmented: the exact lowest eigenvalue of ∇²R^aug on E⊥, TRANS medium: by sectors, by the group sum, and by sampled
  augmentation, whose eigenvalues are not the exact ones.
* scaling: how products grow with |G|, with samples, with width.

Candidates take turns within a round, and medians over rounds are compared, so a machine that slows down slows all of
them. Every part is written as soon as it is done; a peer that is not installed is left out and named.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector
from tqdm import tqdm

from stability import sectors
from stability.curvature import Operator, augmented_hessian_from_group, nominal_hessian, transverse
from stability.eigen import lanczos, ritz
from stability.linearised import network_hessian
from stability.problem import Problem
from stability.storage import prepare_folder, write
from stability.tasks import TaskOptions, load

matplotlib.use("Agg")
from matplotlib.figure import Figure

ROUNDS = 7
TOLERANCE = 1e-4
# Of λ_min of the augmented Hessian: its group sum takes half a second a product, and a percent decides the sign.
AUGMENTED_TOLERANCE = 1e-2
# After this long a run stops where it is; what it reports then is a lower bound of its cost.
AUGMENTED_SECONDS = 150.0
PARTS = ("nominal", "extremes", "augmented", "scaling")


def take_turns(candidates: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median seconds of every candidate, one warm-up each, then ``rounds`` rounds in turn."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for run in candidates.values():
        run()
    for _ in tqdm(range(rounds), desc="rounds", disable=None, leave=False):
        for name, run in candidates.items():
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def timed(run: Callable[[], object]) -> tuple[float, object]:
    began = time.perf_counter()
    found = run()
    return time.perf_counter() - began, found


def shares(run: Callable[[], object], count: int = 6) -> dict[str, float]:
    """What share of the processor's time the costliest kernels take; the rest summed."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for _ in range(5):
            run()
    times = {e.key.removeprefix("aten::"): e.self_cpu_time_total for e in profile.key_averages()}
    total, first = sum(times.values()), sorted(times, key=lambda k: -times[k])[:count]
    return {k: times[k] / total for k in first} | {"rest": 1 - sum(times[k] for k in first) / total}


class Dense(nn.Module):
    """The network of a problem at dense weights A, as other tools want it: an ``nn.Module``."""

    def __init__(self, problem: Problem, at: Tensor) -> None:
        super().__init__()
        self.network = problem.model.network
        self.weights = nn.ParameterList([w.clone() for w in problem.space.split(at)])

    def forward(self, x: Tensor) -> Tensor:
        for layer, weight, sigma in zip(
            self.network.space.layers, self.weights, self.network.nonlinearities, strict=True
        ):
            x = sigma(x @ weight.mT, layer.target)
        return x


class MeanLoss(nn.Module):
    """The problem's loss, averaged over samples."""

    reduction = "mean"

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.losses = problem.model.losses

    def forward(self, prediction: Tensor, y: Tensor) -> Tensor:
        return self.losses(prediction, y).mean()


def peers(problem: Problem, at: Tensor) -> tuple[dict[str, Callable[[Tensor], Tensor]], dict[str, object], list[str]]:
    """v ↦ ∇²(mean loss)v of every peer that is installed, the peers' own objects, and the names of the missing."""
    x, y, _ = problem.samples
    products: dict[str, Callable[[Tensor], Tensor]] = {}
    objects: dict[str, object] = {}
    missing = []

    def load_peer(name: str, module: str, make: Callable) -> None:
        try:
            found = importlib.import_module(module)
        except ImportError as error:
            missing.append(f"{name} ({error})")
            return
        products[name], objects[name] = make(found, Dense(problem, at))

    def of_pyhessian(module, model: Dense):
        one = module.hessian(model, MeanLoss(problem), data=(x, y), cuda=False)
        weights = list(model.parameters())

        def product(v: Tensor) -> Tensor:
            parts = [p.reshape(w.shape) for p, w in zip(v.split([w.numel() for w in weights]), weights, strict=True)]
            return parameters_to_vector(module.hessian_vector_product(one.gradsH, one.params, parts))

        return product, one

    def of_eigenthings(module, model: Dense):
        criterion = module.supervised_loss(MeanLoss(problem))
        operator = module.HessianOperator(model, [(x, y)], criterion)
        return operator.matvec, operator

    def of_curvlinops(module, model: Dense):
        operator = module.HessianLinearOperator(
            model, MeanLoss(problem), list(model.parameters()), [(x, y)], check_deterministic=False
        )
        return lambda v: operator @ v, operator

    load_peer("PyHessian", "pyhessian", of_pyhessian)
    load_peer("hessian-eigenthings", "hessian_eigenthings", of_eigenthings)
    load_peer("curvlinops", "curvlinops", of_curvlinops)
    return products, objects, missing


def floor(problem: Problem, vectors: int) -> Callable[[], object]:
    """The matrix products of ``vectors`` nominal products: two for the first layer, six for each of the others."""
    n = len(problem.samples.x)
    jobs = []
    for i, layer in enumerate(problem.space.layers):
        rows, columns = layer.shape
        a = torch.randn(rows * vectors, columns, dtype=torch.float64)
        b = torch.randn(columns, n, dtype=torch.float64)
        jobs.append((2 if i == 0 else 6, a, b, torch.empty(rows * vectors, n, dtype=torch.float64)))

    def run() -> None:
        for times, a, b, out in jobs:
            for _ in range(times):
                torch.mm(a, b, out=out)

    return run


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
        module, operator = importlib.import_module("hessian_eigenthings"), objects["hessian-eigenthings"]

        # Its default number of steps stops far from the ends; only the last, sufficient one of a doubling counts.
        seconds, found, steps = 0.0, [], 0
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
        rows["hessian-eigenthings, Lanczos twice"] = {"seconds": seconds, "lowest": found[0], "highest": found[1]}
    if "curvlinops" in objects:
        count = 0

        def product(v: np.ndarray) -> np.ndarray:
            nonlocal count
            count += 1
            return products["curvlinops"](torch.as_tensor(v.ravel())).detach().numpy()

        operator = LinearOperator((n, n), matvec=product, dtype=float)

        def both() -> tuple[float, float]:
            values = eigsh(operator, k=2, which="BE", tol=TOLERANCE, v0=start.numpy(), return_eigenvectors=False)
            return float(min(values)), float(max(values))

        seconds, found = timed(both)
        rows["curvlinops + scipy eigsh"] = {
            "seconds": seconds, "lowest": found[0], "highest": found[1], "products": count
        }  # fmt: skip
    if "PyHessian" in objects:
        torch.manual_seed(0)
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        seconds, found = timed(lambda: objects["PyHessian"].eigenvalues(maxIter=1000, tol=TOLERANCE, top_n=1)[0][0])
        torch.set_default_dtype(default)
        rows["PyHessian, power iteration (one end)"] = {"seconds": seconds, "lowest": None, "highest": float(found)}
    ours = rows["stability, Lanczos"]["seconds"]
    others = [r["seconds"] for name, r in rows.items() if name != "stability, Lanczos" and r["lowest"] is not None]
    return {
        "problem": f"PERM, {size}, {len(problem.samples.x):,} graphs, {n:,} weights; tolerance {TOLERANCE:g}",
        "rows": rows,
        "missing": missing,
        "fastest_peer_over_ours": min(others) / ours if others else None,
    }


def bench_augmented(
    size: str = "medium", passes: tuple[int, ...] = (1, 4, 16), tolerance: float = AUGMENTED_TOLERANCE
) -> dict:
    """The lowest eigenvalue of ∇²R^aug on E⊥: sectors, group sum, sampled augmentation."""
    problem = load("trans", TaskOptions(size=size))
    theta = problem.initial(0)
    space = problem.space
    at = space.embed(theta)
    start = torch.randn(space.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = space.transverse_part(start)
    rows = {}

    def in_sectors(some: list) -> tuple[float, int, float]:
        lowest, count, residual = np.inf, 0, 0.0
        for irrep in tqdm(some, desc="sectors", disable=None, leave=False):
            operator = sectors.sector_hessian(problem, theta, irrep)
            generator = torch.Generator().manual_seed(0)
            first = torch.randn(operator.dim, generator=generator, dtype=torch.float64)
            scale = 0.0 if lowest == np.inf else abs(lowest)
            value, _, estimate = by_lowest(operator, first, tolerance, scale=scale)
            lowest, count = min(lowest, value), count + operator.products * operator.cost
            residual = max(residual, estimate)
        return lowest, count, residual / abs(lowest)

    def by_group() -> tuple[float, int, float]:
        average = augmented_hessian_from_group(problem, nominal_hessian(problem, at))
        value, steps, estimate = by_lowest(transverse(average, space), start, tolerance)
        return value, steps * problem.group.order, estimate / abs(value)

    nontrivial = [v for v, _ in sectors.occurring(space) if not v.is_trivial]
    for name, run in (
        ("one sector, its lowest eigenvalue", lambda: in_sectors(nontrivial[:1])),
        ("sectors, Lanczos in each", lambda: in_sectors(nontrivial)),
        ("group sum, Lanczos", by_group),
    ):
        seconds, (value, count, residual) = timed(run)
        rows[name] = {"seconds": seconds, "lowest": value, "nominal_products": count, "relative_residual": residual}
    exact = rows["sectors, Lanczos in each"]["lowest"]
    for count in passes:
        nominal = nominal_hessian(problem, at)
        rng = np.random.default_rng(0)
        some = [problem.group.sample(rng) for _ in range(count)]
        inverses = [problem.group.inverse(g) for g in some]

        def apply(v: Tensor, nominal=nominal, some=some, inverses=inverses) -> Tensor:
            total = torch.zeros_like(v)
            for g, inverse in zip(some, inverses, strict=True):
                total += space.act(inverse, nominal(space.act(g, v)))
            return total / len(some)

        operator = transverse(Operator(space.dim, apply, "sampled"), space)
        seconds, (value, steps, residual) = timed(lambda operator=operator: by_lowest(operator, start, tolerance))
        rows[f"{count} sampled element{'s' * (count > 1)}, Lanczos"] = {
            "seconds": seconds, "lowest": value, "nominal_products": steps * count, "error": value - exact,
            "relative_residual": residual / abs(value),
        }  # fmt: skip
    return {
        "problem": f"TRANS, {size}, {len(problem.samples.x):,} digits, {space.dim:,} weights, "
        f"|G| = {problem.group.order}",
        "tolerance": tolerance,
        "rows": rows,
        "group_sum_over_sectors": rows["group sum, Lanczos"]["seconds"] / rows["sectors, Lanczos in each"]["seconds"],
        "group_sum_over_one_sector": rows["group sum, Lanczos"]["seconds"]
        / rows["one sector, its lowest eigenvalue"]["seconds"],
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


def tables(found: dict) -> str:
    """The results as Markdown, ratios first."""
    lines = [f"# Benchmark\n\n{found['machine']}; medians of {ROUNDS} rounds in turn unless said otherwise.\n"]
    if part := found.get("nominal"):
        floor_time = part["seconds"]["floor (matrix products only)"]
        lines += [
            f"## One product with ∇²R\n\n{part['problem']}.\n",
            "| | ratio to the floor | ms a vector |",
            "|---|---:|---:|",
        ]
        lines += [
            f"| {k} | {v / floor_time:.2f} | {1e3 * v:.1f} |"
            for k, v in sorted(part["seconds"].items(), key=lambda i: i[1])
        ]
        worst = max(part["relative_difference"].values(), default=0.0)
        lines += [f"\nAll agree to {worst:.1e} (relative)."]
        if part["fastest_peer_over_ours"]:
            lines += [f"The fastest peer takes {part['fastest_peer_over_ours']:.2f} times as long as ours in batches."]
        if part.get("shares"):
            kernels = ", ".join(f"{k} {v:.0%}" for k, v in part["shares"].items())
            lines += [f"Where our time goes (profiler, by kernel): {kernels}."]
    if part := found.get("extremes"):
        ours = part["rows"]["stability, Lanczos"]["seconds"]
        lines += [f"\n## The two ends of ∇²R\n\n{part['problem']}.\n"]
        lines += ["| | times ours | s | λ_min | λ_max |", "|---|---:|---:|---:|---:|"]
        for k, r in part["rows"].items():
            low = "–" if r["lowest"] is None else f"{r['lowest']:.6g}"
            lines.append(f"| {k} | {r['seconds'] / ours:.2f} | {r['seconds']:.1f} | {low} | {r['highest']:.6g} |")
    if part := found.get("augmented"):
        ours = part["rows"]["sectors, Lanczos in each"]["seconds"]
        lines += [
            f"\n## λ_min of ∇²R^aug on E⊥\n\n{part['problem']}; stops when the residual is below {part['tolerance']:g} "
            f"of the value, or after {AUGMENTED_SECONDS:g} s a run: a larger residual bounds the cost from "
            "below.\n"
        ]
        lines += [
            "| | times ours | s | nominal products | λ_min | residual | error |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        for k, r in part["rows"].items():
            error = f"{r['error']:.1e}" if "error" in r else "–"
            lines.append(
                f"| {k} | {r['seconds'] / ours:.2f} | {r['seconds']:.1f} | {r['nominal_products']:,} "
                f"| {r['lowest']:.6e} | {r['relative_residual']:.1e} | {error} |"
            )
        one, every = part["group_sum_over_one_sector"], part["group_sum_over_sectors"]
        lines += [
            f"\nAn exact eigenvalue with its irrep costs {one:.0f} times less in its sector than by the group sum, "
            "which finds one and no irrep. One eigenvalue in every sector, so that none is overlooked, costs "
            f"{1 / every:.2f} times the group sum's one."
        ]
    if part := found.get("scaling"):
        lines += ["\n## One product with ∇²R^aug, TRANS\n"]
        lines += [
            "| grows | group | samples | dim L | sector, ms | nominal, ms | group sum, ms |",
            "|---|---|---:|---:|---:|---:|---:|",
        ]
        for what, rows in part.items():
            for r in rows:
                t = r["milliseconds"]
                lines.append(
                    f"| {what} | {r['group']} | {r['samples']:,} | {r['dim']:,} | {t['sector']:.2f} "
                    f"| {t['nominal']:.2f} | {t['group sum']:.1f} |"
                )
    missing = sorted({m for part in found.values() if isinstance(part, dict) for m in part.get("missing", [])})
    if missing:
        lines += [f"\nNot installed: {'; '.join(missing)}."]
    return "\n".join(lines) + "\n"


def draw(found: dict) -> Figure:
    """Bars of seconds, shortest first, and curves of the scaling; logarithmic."""
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    ((a, b), (c, d)) = figure.subplots(2, 2)

    def bars(axes, values: dict[str, float], unit: str, title: str) -> None:
        names = sorted(values, key=lambda k: -values[k])
        axes.barh(
            names,
            [values[k] for k in names],
            color=["0.35" if "stability" in k or "sectors" in k else "0.75" for k in names],
        )
        for i, k in enumerate(names):
            axes.text(values[k], i, f" {values[k]:.3g}", va="center", fontsize="small")
        axes.set_xscale("log")
        axes.margins(x=0.2)
        axes.set_xlabel(unit)
        axes.set_title(title, fontsize="medium")

    if part := found.get("nominal"):
        bars(a, {k: 1e3 * v for k, v in part["seconds"].items()}, "ms a vector", "one product with ∇²R, PERM, paper")
    if part := found.get("extremes"):
        bars(b, {k: r["seconds"] for k, r in part["rows"].items()}, "s", "both ends of ∇²R, PERM, paper")
    if part := found.get("augmented"):
        bars(c, {k: r["seconds"] for k, r in part["rows"].items()}, "s", "λ_min of ∇²R^aug on E⊥, TRANS, medium")
    if part := found.get("scaling"):
        for key, style in (("sector", "o-"), ("nominal", "s--"), ("group sum", "^:")):
            rows = part["samples"]
            d.loglog(
                [r["samples"] for r in rows], [r["milliseconds"][key] for r in rows], style, color="0.2", label=key
            )
        d.set_xlabel("samples")
        d.set_ylabel("ms a product")
        d.legend(fontsize="small")
        d.set_title("one product with ∇²R^aug, TRANS, medium", fontsize="medium")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--out", type=Path, default=Path("reports/bench"))
    options = parser.parse_args()
    folder = prepare_folder(options.out)
    path = folder / "bench.json"
    found = json.loads(path.read_text()) if path.is_file() else {}
    found["machine"] = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"
    runs = {
        "nominal": bench_nominal,
        "extremes": bench_extremes,
        "augmented": bench_augmented,
        "scaling": bench_scaling,
    }
    for part in tqdm(options.parts, desc="bench", disable=None):
        found[part] = runs[part]()
        write(path, json.dumps(found, indent=1, ensure_ascii=False))
        text = tables(found)
        write(folder / "README.md", text)
        draw(found).savefig(folder / "bench.png", dpi=110)
    print(tables(found))


if __name__ == "__main__":
    main()
