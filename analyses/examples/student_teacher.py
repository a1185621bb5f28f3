r"""A two-layer ReLU student of a two-layer ReLU teacher, on Gaussian inputs: an exact risk without a single sample.

    python -m analyses.examples.student_teacher

R(W) = ½ E_x (Σ_i φ(w_i·x) − Σ_j φ(e_j·x))², x ~ N(0, 1) in R^d, φ = ReLU, d neurons on either side. The expectation is
the arc-cosine kernel of order one (Cho & Saul 2009), with θ the angle between w and v:

    E φ(w·x) φ(v·x) = |w||v| (sin θ + (π − θ) cos θ) / 2π = w·v/2 + |w||v| (sin θ − θ cos θ) / 2π

**Symmetry.** R does not change when neurons and inputs are permuted together, W ↦ PWPᵀ: the group S_d of the teacher
acts on the weights, and R is its own average, R = R^aug. E are the W = a 1 + b (J − 1) that look the same from every
neuron. The subgroup S_{d−1} leaves one neuron alone and has an E of five dimensions.

**Known points.**

* W = 1, the teacher: ∇²R in closed form, :func:`teacher_spectrum`; 1/4 ± 1/2π among its eigenvalues, at any d.
* W = cJ, all neurons equal, for one c > 0 and one c < 0: :func:`collapsed`, saddles of known risk.
* Spurious minima. Safran & Shamir (2018) found by search and interval arithmetic that R has minima of positive risk for
  6 ≤ d ≤ 20; Arjevani & Field ordered them by their symmetry. On E such points are strict minima for fewer neurons too:
  whether it is one at all is decided on E⊥, and it is the sectors that turn positive between d = 5 and d = 6.

φ has a kink, R has none: averaged over inputs it is twice differentiable wherever no w_i vanishes.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from analyses.lab.command import command
from analyses.lab.publish import MARKERS, Section, finish, table
from analyses.lab.rows import Rows
from stability.base.errors import BadInput
from stability.base.storage import prepare_folder
from stability.curvature.automatic import nominal_hessian
from stability.eigen.dense import dense_spectrum
from stability.eigen.operator import assemble
from stability.groups import Symmetric, permutation, trivial
from stability.layers import Layer
from stability.points.stationary import StationaryPoint, find_points
from stability.problem.problem import Problem
from stability.problem.space import ParameterSpace, Samples
from stability.spectra import sectors

# Below this angle sin θ − θ cos θ is a series: the difference would lose the digits that a second derivative needs.
SMALL_ANGLE = 0.03
TOLERANCE = 1e-10


def kernel(w: Tensor, v: Tensor) -> Tensor:
    """E φ(w_i·x) φ(v_j·x) for rows w (k, d) and v (m, d): (k, m), twice differentiable at parallel rows too.

    >>> e = torch.eye(2, dtype=torch.float64)
    >>> kernel(e, e)  # 1/2 for a neuron with itself, 1/2π for orthogonal ones
    tensor([[0.5000, 0.1592],
            [0.1592, 0.5000]], dtype=torch.float64)
    """
    size_w, size_v = w.norm(dim=-1)[:, None], v.norm(dim=-1)[None, :]
    left, right = w[:, None, :] * size_v[..., None], v[None, :, :] * size_w[..., None]
    apart, along = (left - right).square().sum(-1), (left + right).square().sum(-1)
    # Kahan's angle, exact to rounding near 0 and π where arc cosine is not.
    same, opposite = apart <= 1e-28 * along, along <= 1e-28 * apart
    plain, one = ~(same | opposite), torch.ones_like(apart)
    theta = 2 * torch.atan2(torch.where(plain, apart, one).sqrt(), torch.where(plain, along, one).sqrt())
    t = theta * theta
    series = theta**3 * (1 / 3 + t * (-1 / 30 + t * (1 / 840 - t / 45360)))
    bend = torch.where(theta < SMALL_ANGLE, series, torch.sin(theta) - theta * torch.cos(theta))
    half = w @ v.mT / 2
    # The rest is of third order in θ: it has no value and no two derivatives where rows are parallel.
    flat = torch.where(same, half, torch.zeros_like(half))
    return torch.where(plain, half + size_w * size_v * bend / (2 * math.pi), flat)


def population_risk(weights: Tensor, teacher: Tensor) -> Tensor:
    """½ E (Σ_i φ(w_i·x) − Σ_j φ(v_j·x))² for weights (k, d), teacher (m, d)."""
    own, mixed, fixed = kernel(weights, weights), kernel(weights, teacher), kernel(teacher, teacher)
    return 0.5 * (own.sum() - 2 * mixed.sum() + fixed.sum())


def student_teacher(d: int, free: int = 0) -> Problem:
    """The problem in d dimensions under S_{d − free}, which leaves the last ``free`` neurons alone.

    Raises:
        BadInput: fewer than two neurons to permute.
    """
    if d - free < 2:
        raise BadInput(f"student and teacher: d = {d} with {free} neurons left alone permutes fewer than two")
    group = Symmetric(d - free)
    neurons = 1 * permutation(group) + free * trivial(group) if free else 1 * permutation(group)
    space = ParameterSpace((Layer("W", neurons, neurons),))
    teacher = torch.eye(d, dtype=torch.float64)
    # There are no data: one sample of weight one stands for the expectation.
    nothing = Samples(*(torch.ones(shape, dtype=torch.float64) for shape in ((1, 1), (1,), (1,))))

    def loss(weights: Tensor, samples: Samples) -> Tensor:
        return samples.weight.sum() * population_risk(weights.reshape(d, d), teacher)

    def initial(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(space.dim_equivariant, generator=generator, dtype=torch.float64)

    def assumptions(seed: int) -> dict[str, tuple[float, str]]:
        """R is its own average over the group: R(ρ̄(g)W) − R(W) at a random W, generator by generator."""
        generator = torch.Generator().manual_seed(seed)
        at = torch.randn(space.dim, generator=generator, dtype=torch.float64)
        moved = [(float(loss(space.act(g, at), nothing)), f"R, g = {g}") for g in group.generators]
        return {"invariant_loss": max((abs(value - float(loss(at, nothing))), where) for value, where in moved)}

    return Problem(
        f"student-teacher, d = {d}",
        space,
        nothing,
        loss,
        transform=lambda g, samples: samples,  # Gaussian inputs moved by an orthogonal g are Gaussian inputs
        initial=initial,
        assumptions=assumptions,
        facts=(("network", f"{d} ReLU neurons on R^{d}, summed; the teacher's are the unit vectors"),),
    )


def teacher_spectrum(d: int) -> dict[str, list[float]]:
    """The eigenvalues of every B_λ of ∇²R at W = 1, ascending, in closed form for d ≥ 4.

    There the residual vanishes and ⟨D, ∇²R D⟩ = |D|²/4 + |Dᵀ1|²/4 + ((tr D)² − 2 Σ D_ii² + tr D²)/2π, a quadratic form
    that Schur's lemma cuts into blocks of two, three, one and one.
    """
    c = 1 / (2 * math.pi)

    def block(columns: list[float], trace: list[float], twice: list[float], square: list[float]) -> list[float]:
        u, t = torch.tensor([columns, trace], dtype=torch.float64)
        parts = [0.25 + c * (s - 2 * w) for w, s in zip(twice, square, strict=True)]
        diagonal = torch.tensor(parts, dtype=torch.float64)
        return torch.linalg.eigvalsh(torch.diag(diagonal) + torch.outer(u, u) / 4 + c * torch.outer(t, t)).tolist()

    # Orthonormal copies of each irrep in Hom(R^d, R^d): diagonal, symmetric and antisymmetric parts.
    return {
        "trivial": block([1, (d - 1) ** 0.5], [d**0.5, 0], [1, 0], [1, 1]),
        f"({d - 1},1)": block([1, ((d - 2) / 2) ** 0.5, -((d / 2) ** 0.5)], [0] * 3, [1, 0, 0], [1, 1, -1]),
        f"({d - 2},2)": [0.25 + c],
        f"({d - 2},1,1)": [0.25 - c],
    }


def collapsed(d: int, sign: int) -> tuple[float, float]:
    """(c, R) of the critical point W = cJ with all neurons equal, for c > 0 or c < 0.

    On that line R = ½(d³c²/2 − 2 d² |c| f + T) with f = E φ(±1·x) φ(e_j·x) and T the teacher's own share.
    """
    theta = math.acos(sign / d**0.5)
    f = (math.sqrt(d - 1) + sign * (math.pi - theta)) / (2 * math.pi)
    own = d / 2 + d * (d - 1) / (2 * math.pi)
    return sign * 2 * f / d, 0.5 * (own - 2 * d * f * f)


def spurious(problem: Problem, starts: int = 10, seed: int = 0) -> list[StationaryPoint]:
    """Distinct minima of positive risk on E, lowest first."""
    found: list[StationaryPoint] = []
    for point in find_points(problem, starts, seed, TOLERANCE):
        if point.converged and point.index == 0 and point.risk > 1e-9 and point.kind != "origin":
            found.append(point)
    return found


@dataclass(frozen=True)
class Judged:
    """λ_min of every sector at a point of E, with what it may be off by."""

    point: StationaryPoint
    lowest: dict[str, float]
    error: dict[str, float]
    negative: int

    @property
    def transverse(self) -> float:
        """λ_min on E⊥."""
        return min(value for name, value in self.lowest.items() if name != "trivial")


def judged(problem: Problem, point: StationaryPoint) -> Judged:
    """The whole spectrum at a point, sector by sector; ``negative`` counts in L."""
    at = problem.space.embed(point.theta)
    nominal = nominal_hessian(problem, at)
    lowest, error, negative = {}, {}, 0
    for irrep, _ in sectors.occurring(problem.space):
        operator = sectors.sector_hessian(problem, point.theta, irrep, nominal)
        spectrum = sectors.in_whole_space(dense_spectrum(assemble(operator, at), operator, k=1).spectrum, irrep)
        lowest[irrep.name], error[irrep.name] = spectrum.lowest[0].value, spectrum.error
        negative += spectrum.negative_count
    return Judged(point, lowest, error, negative)


def measure(d: int, free: int, starts: int) -> dict:
    """The spurious minimum on E of lowest risk."""
    problem = student_teacher(d, free)
    points = spurious(problem, starts)
    if not points:
        raise BadInput(f"d = {d}, {free} left alone: no spurious minimum on E from {starts} starts; use more --starts")
    found = judged(problem, points[0])
    return {
        "d": d,
        "free": free,
        "risk": found.point.risk,
        "gradient": found.point.gradient_norm,
        "lowest": found.lowest,
        "error": max(found.error.values()),
        "transverse": found.transverse,
        "negative": found.negative,
    }


def subgroup(free: int) -> str:
    """Its name for any d."""
    return f"S_{{d−{free}}}" if free else "S_d"


def draw(rows: Sequence[dict]) -> Figure:
    """λ_min on E and on E⊥ against d for both families of spurious points."""
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for marker, free in zip(MARKERS, sorted({r["free"] for r in rows}), strict=False):
        chosen = sorted((r for r in rows if r["free"] == free), key=lambda r: r["d"])
        ds = [r["d"] for r in chosen]
        name = f"E of {subgroup(free)}"
        left.plot(
            ds,
            [r["transverse"] for r in chosen],
            marker + "-",
            color="black",
            label=f"on E⊥, {name}",
            markerfacecolor="white" if free else "black",
        )
        right.plot(
            ds,
            [r["risk"] for r in chosen],
            marker + "-",
            color="black",
            label=name,
            markerfacecolor="white" if free else "black",
        )
    left.axhline(0, color="black", linewidth=1.5)
    left.axvline(5.5, color="0.5", linestyle=":", linewidth=1)
    left.set_xlabel("d, neurons of student and teacher")
    left.set_ylabel(r"$\lambda_{\min}$ of $\nabla^2 R$ on $E^\perp$")
    left.set_title("Strict minima on E: minima at all from d = 6 on", fontsize="medium")
    left.legend(fontsize="small")
    right.set_xlabel("d, neurons of student and teacher")
    right.set_ylabel("R at the point (the teacher has 0)")
    right.set_ylim(bottom=0)
    right.legend(fontsize="small")
    return figure


def section(rows: Sequence[dict]) -> Section:
    """Words from the rows."""
    said = []
    for free in sorted({r["free"] for r in rows}):
        chosen = sorted((r for r in rows if r["free"] == free), key=lambda r: r["d"])
        lost = [r["d"] for r in chosen if r["transverse"] < -r["error"]]
        kept = [r["d"] for r in chosen if r["transverse"] > r["error"]]
        said.append(
            f"Under {subgroup(free)}"
            f" the lowest spurious minimum on E is unstable on E⊥ for d in {lost} and stable for d in {kept}."
        )
    return Section(
        title="Student and teacher",
        expected="Points of positive risk that are strict minima on E exist for every d in the table; minima of R only "
        "from d = 6 on.",
        measured=" ".join(said) + f" Gradient norms are at most {max(r['gradient'] for r in rows):.1e}.",
        means="A restriction to symmetric weights makes a minimum of what is a saddle for few neurons. Which one it is "
        "can be read from sectors of few dimensions, whatever the number of neurons.",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--d", type=int, nargs="+", default=[4, 5, 6, 7, 8, 10, 13, 16, 20], help="neurons")
    parser.add_argument("--starts", type=int, default=10, help="random starts on E for each d")
    parser.add_argument("--out", type=Path, default=Path("reports/student-teacher"))
    options = parser.parse_args(arguments)
    if min(options.d) < 4:
        raise BadInput(f"--d {min(options.d)}: give numbers ≥ 4")
    folder = prepare_folder(options.out)
    rows = Rows(folder / "student-teacher.json", {"starts": options.starts})
    jobs = [(d, free) for d in options.d for free in (0, 1) if not rows.has(d=d, free=free)]
    for d, free in tqdm(jobs, desc="student and teacher", disable=None):
        rows.add(measure(d, free, options.starts))
    rows.rows.sort(key=lambda r: (r["free"], r["d"]))
    listed = table(
        "Spurious minima on E",
        ["d", "group", "R", "λ_min on E", "λ_min on E⊥", "negative eigenvalues"],
        [
            [r["d"], f"S_{r['d'] - r['free']}", r["risk"], r["lowest"]["trivial"], r["transverse"], r["negative"]]
            for r in rows.rows
        ],
    )
    said = section(rows.rows)
    finish(folder, "student-teacher", rows, draw(rows.rows), said, [listed])
    print(said.measured)


if __name__ == "__main__":
    sys.exit(command(main))
