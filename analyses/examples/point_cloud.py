r"""Point clouds under rotations: a network over SO(3), SO(2) or O(2), judged without an integral over the group.

    python -m analyses.examples.point_cloud [--groups SO(3) SO(2) O(2)] [--starts 2] [--out reports/point-cloud]

Four labelled points, centred, are four copies of the vectors V_1. The network is affine, its σ gates every vector by a
scalar and tells the scalars how long the vectors are; layers between irreps could not see lengths by themselves:

    4·V_1 → 4·1 + 4·V_1 [gated] → 6·1 + 2·V_1 + 1·V_2 [gated] → 3·1,      cross-entropy, three shapes

E are the layers that commute with all rotations, found from dρ_Y(X)W = W dρ_X(X) for the generators X alone. ∇²R^aug
splits over the irreps of the group: a sector λ takes dim V_λ nominal products, never an integral. The integral itself
is a quadrature: at a point of E ∇²R(ρ̄(g)A) is a polynomial in g of degree 2B, B the largest weight in L, so a rule of
that degree is exact. Measured:

* all eigenvalues, sector by sector, against the dense Hessian of R on data moved by the quadrature;
* the error of rules of lower degree, beside what as many Haar samples leave on average (Remark 1 of the paper);
* stationary points on E with the verdict of every irrep: which rotations an instability breaks, and what is left.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.func import hessian
from tqdm import tqdm

from analyses.lab.command import command
from analyses.lab.publish import MARKERS, Section, finish, table
from analyses.lab.rows import Rows
from stability import Settings, analyse
from stability.base.errors import BadInput
from stability.base.storage import prepare_folder
from stability.curvature.automatic import nominal_hessian
from stability.curvature.linearised import network_hessian
from stability.eigen.operator import assemble
from stability.groups import O2, SO2, SO3, Group, harmonics, residual_symmetry, trivial
from stability.networks.classifier import Classifier
from stability.networks.losses import cross_entropy
from stability.networks.network import mlp
from stability.networks.nonlinearities import Gated, Identity
from stability.networks.supervised import supervised
from stability.problem.problem import Problem
from stability.problem.space import Samples
from stability.spectra import sectors

GROUPS: dict[str, Group] = {"SO(3)": SO3(), "SO(2)": SO2(), "O(2)": O2()}
POINTS = 4
SAMPLES = 45
# Clouds of the dense comparison, which the quadrature multiplies.
FEW = 9
NOISE = 0.35
WEIGHT_DECAY = 1e-3


def shapes(dimension: int) -> Tensor:
    """Three arrangements of four points of the same size, (3, 4, dimension): no rotation takes one to another."""
    if dimension == 3:
        tetrahedron = [[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]
        square = [[1, 1, 0], [1, -1, 0], [-1, -1, 0], [-1, 1, 0]]
        rod = [[-3, 0, 0], [-1, 0, 0], [1, 0, 0], [3, 0, 0]]
        found = torch.tensor([tetrahedron, square, rod], dtype=torch.float64)
    else:
        square = [[1, 1], [1, -1], [-1, -1], [-1, 1]]
        kite = [[0, 2], [0, -2], [1, 0], [-1, 0]]
        rod = [[-3, 0], [-1, 0], [1, 0], [3, 0]]
        found = torch.tensor([square, kite, rod], dtype=torch.float64)
    return found / found.flatten(1).norm(dim=1)[:, None, None] * math.sqrt(POINTS)


def clouds(dimension: int, count: int, seed: int) -> Samples:
    """Shapes in one pose each, with noise on every point, centred, (count, 4·dimension); the class is the shape."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 3
    noise = torch.randn(count, POINTS, dimension, generator=generator, dtype=torch.float64)
    x = shapes(dimension)[y] + NOISE * noise
    x = x - x.mean(1, keepdim=True)
    return Samples(x.flatten(1), y, torch.full((count,), 1 / count, dtype=torch.float64))


def point_cloud(name: str = "SO(3)", seed: int = 0, count: int = SAMPLES) -> Problem:
    """The problem over a group; ``python -m stability.spectrum --task analyses/examples/point_cloud.py:point_cloud``.

    Raises:
        BadInput: another group.
    """
    if name not in GROUPS:
        raise BadInput(f"point clouds: {name!r} is no group here; choose from {', '.join(GROUPS)}")
    group = GROUPS[name]
    one, vector, second = trivial(group), harmonics(group, 1), harmonics(group, 2)
    network = mlp(
        [POINTS * vector, 4 * one + 4 * vector, 6 * one + 2 * vector + 1 * second, 3 * one],
        [Gated("tanh"), Gated("tanh"), Identity()],
        bias=True,
    )
    train, test = clouds(vector.dim, count, seed), clouds(vector.dim, 600, seed + 1)
    facts = [("data", f"{count} clouds of {POINTS} points, three shapes in one pose each, noise {NOISE}")]
    return supervised("point clouds", Classifier(network, cross_entropy), train, test, WEIGHT_DECAY, facts)


def by_sectors(problem: Problem, theta: Tensor) -> np.ndarray:
    """All eigenvalues of ∇²R^aug at θ, from the irreps, ascending."""
    values = []
    for irrep, _ in sectors.occurring(problem.space):
        block = np.linalg.eigvalsh(assemble(network_hessian(problem, theta, irrep), theta).numpy())
        values.append(np.repeat(block.reshape(-1, irrep.commutant_dim).mean(1), irrep.dim))
    return np.sort(np.concatenate(values))


def against_dense(name: str) -> dict:
    """Sectors against the dense Hessian of the quadrature-augmented risk at a random point of E."""
    problem = point_cloud(name, count=FEW)
    theta = problem.initial(1)
    moved = problem.augmented()
    at = problem.space.embed(theta)

    def risk(a: Tensor) -> Tensor:
        return sum(problem.loss(a, part) for part in moved.chunks(512)) + problem.penalty(a)

    dense = np.linalg.eigvalsh(hessian(risk)(at).numpy())
    found = by_sectors(problem, theta)
    return {
        "kind": "dense",
        "group": name,
        "dim_L": problem.space.dim,
        "dim_E": problem.space.dim_equivariant,
        "degree": problem.degree,
        "nodes": int(problem.moves),
        "difference": float(np.abs(found - dense).max()),
        "scale": float(np.abs(dense).max()),
        "irreps": [v.name for v, _ in sectors.occurring(problem.space)],
    }


def by_degree(name: str) -> list[dict]:
    """Relative error of ∇²R^aug averaged over rules of every degree up to 2B + 2.

    K Haar samples in the place of a rule with K nodes leave E‖error‖² = (‖∇²R‖² − ‖∇²R^aug‖²)/K.
    """
    problem = point_cloud(name, count=FEW)
    space, group = problem.space, problem.group
    at = space.embed(problem.initial(1))
    matrix = assemble(nominal_hessian(problem, at), at)

    def average(degree: int) -> Tensor:
        found = matrix
        for part in reversed(group.averaging(degree)):
            found = sum(w * space.act(g, space.act(g, found).mT).mT for g, w in part)
        return found

    exact, rows = average(problem.degree + 6), []
    spread = float(matrix.square().sum() - exact.square().sum())
    for degree in range(0, problem.degree + 3):
        nodes = group.nodes(degree)
        error = float((average(degree) - exact).norm() / exact.norm())
        haar = math.sqrt(spread / nodes) / float(exact.norm())
        rows.append({"kind": "degree", "group": name, "degree": degree, "nodes": nodes, "error": error, "haar": haar})
    return rows


def at_point(name: str, seed: int) -> dict:
    """The stationary point of one start with what every irrep says of it."""
    problem = point_cloud(name)
    found = analyse(problem, settings=Settings(seed=seed, points=1, escape_iterations=0)).analysis
    left = {v.name: residual_symmetry(v) for v, _ in sectors.occurring(problem.space) if not v.is_trivial}
    return {
        "kind": "point",
        "group": name,
        "start": seed,
        "risk": found.point.risk["nominal"],
        "grad_norm": found.point.grad_norm["eqv"],
        "converged": found.point.converged,
        "metrics": found.point.metrics,
        "identities": {k: v for k, v in found.identities.items() if k != "reasons"},
        "sectors": [
            {
                "irrep": s.irrep,
                "dim": s.dim,
                "size": s.size,
                "lowest": s.lowest[0].value,
                "residual": s.lowest[0].residual,
                "highest": s.highest[0].value,
                "negative": s.negative_count,
                "left": left.get(s.irrep),
            }
            for s in found.sectors
        ],
        "flat": [{"name": d.name, "space": d.space, "count": d.count} for d in found.flat_directions],
        "eqv": found.verdict.eqv.status,
        "aug": found.verdict.aug.status,
        "transverse": found.verdict.transverse.status,
    }


def pick(rows: Sequence[dict], kind: str, **key: object) -> list[dict]:
    """Rows of one part."""
    return [r for r in rows if r["kind"] == kind and all(r[k] == v for k, v in key.items())]


def draw(rows: Sequence[dict]) -> Figure:
    """Left: λ_min by irrep at every point found, zero marked; right: errors of averages over degree."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    place, ticks = 0, []
    colours = {"SO(3)": "black", "SO(2)": "#d55e00", "O(2)": "#0072b2"}
    for i, name in enumerate(dict.fromkeys(r["group"] for r in pick(rows, "point"))):
        found = pick(rows, "point", group=name)
        for number, irrep in enumerate(s["irrep"] for s in found[0]["sectors"]):
            values = [s["lowest"] for r in found for s in r["sectors"] if s["irrep"] == irrep]
            left.plot(
                [place] * len(values),
                values,
                MARKERS[i],
                color=colours[name],
                markerfacecolor="none",
                label=f"{name}: {sum(r['aug'] == 'unstable' for r in found)} of {len(found)} unstable"
                if number == 0
                else None,
            )
            ticks.append((place, "E" if irrep == "trivial" else irrep))
            place += 1
        place += 0.6
    left.axhline(0, color="black", linewidth=1.2)
    sizes = [abs(s["lowest"]) for r in pick(rows, "point") for s in r["sectors"] if s["lowest"]]
    left.set_yscale("symlog", linthresh=max(min(sizes, default=1e-4), 1e-4))
    left.set_xticks([t for t, _ in ticks], [label for _, label in ticks], fontsize="small")
    left.set_xlabel("irrep; E is the trivial one")
    left.set_ylabel(r"$\lambda_{\min}$ of $\nabla^2 R^{\mathrm{aug}}$ in the sector")
    left.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.4, 1))
    for i, name in enumerate(dict.fromkeys(r["group"] for r in pick(rows, "degree"))):
        found = pick(rows, "degree", group=name)
        degrees = [r["degree"] for r in found]
        errors = np.maximum([r["error"] for r in found], 1e-17)
        right.semilogy(degrees, errors, MARKERS[i] + "-", color=colours[name], markerfacecolor="none", label=name)
        right.semilogy(degrees, [r["haar"] for r in found], MARKERS[i] + ":", color=colours[name], markersize=3)
        (dense,) = pick(rows, "dense", group=name)
        right.axvline(dense["degree"], color=colours[name], linewidth=0.8, linestyle="--", ymax=0.5)
    right.plot([], [], ":", color="0.4", label="as many Haar samples, on average")
    right.plot([], [], "--", color="0.4", linewidth=0.8, label="degree 2B of the representations")
    right.set_xlabel("degree of the quadrature")
    right.set_ylabel(r"$\|\langle\nabla^2 R\rangle - \nabla^2 R^{\mathrm{aug}}\| / \|\nabla^2 R^{\mathrm{aug}}\|$")
    right.legend(fontsize="small", loc="center right", bbox_to_anchor=(1, 0.6))
    return figure


def section(rows: Sequence[dict]) -> Section:
    """Words from the rows."""
    dense, points = pick(rows, "dense"), pick(rows, "point")
    worst = max(r["difference"] / r["scale"] for r in dense)
    sizes = "; ".join(
        f"{r['group']}: L {r['dim_L']:,}, E {r['dim_E']:,}, {len(r['irreps'])} irreps, {r['nodes']:,} nodes of degree "
        f"{r['degree']}"
        for r in dense
    )
    verdicts, lowest = [], []
    for name in dict.fromkeys(r["group"] for r in points):
        found = pick(rows, "point", group=name)
        strict = [r for r in found if r["eqv"] == "stable"]
        loose = [r for r in strict if r["aug"] == "unstable"]
        verdicts.append(f"{name} {len(loose)} of {len(strict)} strict minima on E are unstable for augmented training")
        if loose:
            low = min((s for r in loose for s in r["sectors"] if s["left"]), key=lambda s: s["lowest"])
            lowest.append(f"{name}: {low['lowest']:.2e} in {low['irrep']}, which can leave {low['left']}")
    accuracy = [r["metrics"]["test"] for r in points]
    below = [r for r in pick(rows, "degree") if r["error"] > 1e-12]
    last = {name: max(r["degree"] for r in below if r["group"] == name) for name in {r["group"] for r in below}}
    sharp = ", ".join(f"{name} up to degree {degree}" for name, degree in sorted(last.items()))
    return Section(
        title="Point clouds under rotations",
        expected="Sectors need no integral over the group, and a quadrature of degree 2B, B the largest weight in L, "
        "gives the same Hessian at points of E.",
        measured=f"{sizes}. All eigenvalues by sectors differ from those of the dense Hessian of the "
        f"quadrature-augmented risk by at most {worst:.1e} of the largest. Rules that still err: {sharp}.\n\n"
        f"{'; '.join(verdicts)}; accuracy on new clouds {min(accuracy):.3f} to {max(accuracy):.3f}, "
        f"{points[0]['metrics']['constant']:.3f} for the constant. "
        + (f"Lowest eigenvalues: {'; '.join(lowest)}." if lowest else ""),
        means="The tool judges networks over compact Lie groups as it does those over finite ones; what an instability "
        "breaks is read off the irrep.",
        finding=f"Sectors and quadrature agree to {worst:.0e}; {verdicts[0]}.",
    )


def tables(rows: Sequence[dict]) -> list[dict]:
    """Every point with its sectors."""
    header = (
        "group",
        "start",
        "risk",
        "accuracy, new",
        "eqv",
        "aug",
        "transverse",
        "lowest by irrep",
        "negative off E",
    )
    body = [
        (
            r["group"], r["start"], r["risk"], r["metrics"]["test"], r["eqv"], r["aug"], r["transverse"],
            ", ".join(f"{s['irrep']} {s['lowest']:.2e}" for s in r["sectors"]),
            sum(s["negative"] for s in r["sectors"] if s["left"]),
        )
        for r in pick(rows, "point")
    ]  # fmt: skip
    return [table("Stationary points on E", header, body)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", nargs="+", default=list(GROUPS), choices=list(GROUPS))
    parser.add_argument("--starts", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("reports/point-cloud"))
    options = parser.parse_args(arguments)
    folder = prepare_folder(options.out)
    rows = Rows(folder / "point_cloud.json", {"groups": options.groups, "starts": options.starts})
    for name in tqdm(options.groups, desc="groups", disable=None):
        if not rows.has(kind="dense", group=name):
            rows.add(against_dense(name))
        if not rows.has(kind="degree", group=name):
            for row in by_degree(name):
                rows.add(row)
        for start in range(options.starts):
            if not rows.has(kind="point", group=name, start=start):
                rows.add(at_point(name, start))
    caption = "Left: lowest eigenvalue of every sector at the points found. Right: error of averages over the group."
    finish(folder, "point_cloud", rows, draw(rows.rows), section(rows.rows), tables(rows.rows), caption)
    print(section(rows.rows).finding)


if __name__ == "__main__":
    sys.exit(command(main))
