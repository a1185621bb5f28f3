r"""The statements of the paper, measured: every lemma, proposition and corollary at three kinds of points.

    python -m analyses.propositions [--tasks trans perm rot counterexample …] [--seeds 3] [--out reports/propositions]

For every task and group: random points of E, stationary points in E, and points off E. Each statement is measured
wherever it holds, as a relative error from the definitions: data moved by every g on one side, ρ̄ or Π_E on the other.
Where a statement needs A in E it is measured off E too, as a control: there the error has to be of order one, else the
measurement could not have failed. Proposition 3 speaks of strict minima; it is judged at the stationary points from
spectra, and so is the chain behind it, λ_min(∇²R) ≤ λ_min(∇²R^aug) ≤ λ_min(∇²R^eqv on E).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, jvp, vmap
from tqdm import tqdm

from analyses.shared import (
    MARKERS,
    STYLES,
    Case,
    Figure,
    Ground,
    Rows,
    Section,
    command,
    finish,
    prepare_folder,
    resolve,
    table,
)
from stability.curvature import (
    Operator,
    assemble,
    augmented_hessian_from_data,
    augmented_hessian_from_group,
    equivariant_hessian,
    nominal_hessian,
)
from stability.eigen import lanczos, ritz
from stability.errors import BadInput
from stability.problem import Problem
from stability.stationary import gradient_scale
from stability.training import descend, equivariant, exact_augmentation

KINDS = ("random in E", "stationary in E", "off E")
ON_E = KINDS[:2]
# An error above this is no rounding; a control below this could not have failed.
ROUNDING, VISIBLE = 1e-8, 1e-4
STEPS, STEP_SHARE = 30, 0.5
LANCZOS_STEPS, GAP_STEPS = 60, 15
DENSE = 5000
PROBES = 2


@dataclass(frozen=True)
class Spot:
    """A problem that is measured, whether its stationary point is searched, and how its data are changed.

    Attributes:
        case: task, group, data and start.
        stationary: whether the search from the start is made.
        symmetric: take the data moved by every g as the data, so that R = R^aug.
    """

    case: Case
    stationary: bool = False
    symmetric: bool = False

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.case.label + (", data made symmetric" if self.symmetric else "")

    def problem(self) -> Problem:
        """The risk."""
        problem = self.case.problem()
        return replace(problem, samples=problem.augmented()) if self.symmetric else problem

    def ground(self) -> Ground:
        """The stationary point with all modes."""
        ground = self.case.ground()
        return resolve(self.problem(), ground.point.theta, ground.point.tolerance, 0) if self.symmetric else ground


SPOTS = (
    Spot(Case("trans", 0, 100), stationary=True),
    Spot(Case("perm", 1, 40, 1e-2), stationary=True),
    Spot(Case("perm", 0, 40, 2e-2), stationary=True),
    Spot(Case("perm", 0, 40, 2e-2), stationary=True, symmetric=True),
    Spot(Case("rot", 0, 40), stationary=True),
    Spot(Case("counterexample"), stationary=True),
    Spot(Case("counterexample-twin"), stationary=True),
    Spot(Case("counterexample-nominal"), stationary=True),
    Spot(Case("trans", 0, 40, group="rotations")),
    Spot(Case("trans", 0, 40, group="rows")),
    Spot(Case("trans", 0, 40, group="roto-translations")),
    Spot(Case("perm", 0, 40, group="alternating")),
    Spot(Case("perm", 0, 40, group="cyclic")),
    Spot(Case("rot", 0, 40, group="dihedral")),
)


# --------------------------------------------------------------------------------------------------- one point


class Place:
    """A point A of L with everything that several statements share, computed once."""

    def __init__(self, problem: Problem, at: Tensor, seed: int) -> None:
        self.problem, self.space, self.group, self.at, self.seed = problem, problem.space, problem.group, at, seed
        self.elements = list(problem.group.elements())
        self.generator = torch.Generator().manual_seed(seed)
        rng = np.random.default_rng(seed)
        self.some = [*problem.group.generators, problem.group.sample(rng), problem.group.sample(rng)]

    def probe(self) -> Tensor:
        """A Gaussian unit vector of L."""
        v = torch.randn(self.space.dim, generator=self.generator, dtype=torch.float64).to(self.at)
        return v / v.norm()

    def probe_in(self, part: Callable[[Tensor], Tensor]) -> Tensor:
        """The same in a subspace."""
        v = part(self.probe())
        return v / v.norm()

    def averaged(self, v: Tensor) -> Tensor:
        """∫ρ̄(g)v dμ, by its definition."""
        return torch.stack([self.space.act(g, v) for g in self.elements]).mean(0)

    @cached_property
    def theta(self) -> Tensor:
        return self.space.project(self.at)

    @cached_property
    def full(self) -> Tensor:
        """∇R(A)."""
        return grad(self.problem.risk)(self.at)

    @cached_property
    def augmented(self) -> Tensor:
        """∇R^aug(A), from data moved by every g."""
        return exact_augmentation(self.problem)(self.at, np.random.default_rng(0))

    @cached_property
    def equivariant(self) -> Tensor:
        """∇R^eqv(A) = Π_E∇R(Π_E A), through the equivariant layers."""
        return self.space.embed(grad(self.problem.equivariant_risk)(self.theta))

    @cached_property
    def scale(self) -> float:
        """Of gradients: ‖∇R(A)‖, or of a point nearby where it vanishes."""
        near = grad(self.problem.risk)(1.1 * self.at + 0.1 * self.probe())
        return max(float(self.full.norm()), float(near.norm()))

    @cached_property
    def nominal(self) -> Operator:
        return nominal_hessian(self.problem, self.at)

    @cached_property
    def from_data(self) -> Operator:
        return augmented_hessian_from_data(self.problem, self.at)

    @cached_property
    def from_group(self) -> Operator:
        return augmented_hessian_from_group(self.problem, self.nominal)

    @cached_property
    def moved_inputs(self) -> Tensor:
        """ρ_X(g)x for every g and sample, one g after the other."""
        model = self.problem.model
        return torch.cat([model.input.act(g, self.problem.samples.x) for g in self.elements])

    def feature_risk(self, at: Tensor) -> Tensor:
        """E ℓ(Φ^FA(x), y) + decay, the logits averaged over the group."""
        problem, model = self.problem, self.problem.model
        predictions = model.predict(at, self.moved_inputs).split(len(problem.samples))
        back = (model.output.act(self.group.inverse(g), p) for g, p in zip(self.elements, predictions, strict=True))
        averaged = sum(back) / len(self.elements)
        return problem.samples.weight @ model.losses(averaged, problem.samples.y) + problem.penalty(at)

    @cached_property
    def feature_gap(self) -> float:
        """(R^aug − R^FA)/R^aug at A."""
        augmented = float(self.problem.augmented_risk(self.at))
        return (augmented - float(self.feature_risk(self.at))) / abs(augmented)

    @cached_property
    def hessian_gap(self) -> Operator:
        """∇²R^aug(A) − ∇²R^FA(A)."""
        gradient = grad(self.feature_risk)

        def apply(v: Tensor) -> Tensor:
            return self.from_data(v) - vmap(lambda t: jvp(gradient, (self.at,), (t,))[1])(v)

        return Operator(self.space.dim, apply, "∇²R^aug − ∇²R^FA", batch=8)


# ---------------------------------------------------------------------------------------------------- measures


def relative(error: Tensor, scale: Tensor | float) -> float:
    """‖error‖ over a scale that may vanish with it."""
    size, scale = float(error.norm()), float(scale.norm() if isinstance(scale, Tensor) else scale)
    return size / scale if scale > 0 else size


def lemma1(p: Place) -> float:
    """max_g ‖ρ̄(g)A − A‖/‖A‖."""
    return max(relative(p.space.act(g, p.at) - p.at, p.at) for g in p.elements)


def lemma1_dimension(p: Place) -> float:
    """|dim of what all g fix − dim E|, the first as the mean of the characters tr ρ̄(g)."""
    traces = [
        sum(float(np.trace(layer.target.matrix(g)) * np.trace(layer.source.matrix(g))) for layer in p.space.layers)
        for g in p.elements
    ]
    return abs(float(np.mean(traces)) - p.space.dim_equivariant)


def lemma2(p: Place) -> float:
    """‖∫ρ̄(g)v dμ − Π_E v‖ for random v."""
    v = p.probe()
    return float((p.averaged(v) - p.space.equivariant_part(v)).norm())


def lemma3(p: Place) -> float:
    """max |Φ_A(ρ(g)x) − ρ(g)Φ_{ρ̄(g)⁻¹A}(x)| over max |Φ|."""
    model, x, worst = p.problem.model, p.problem.samples.x[:16], 0.0
    for g in p.some:
        left = model.predict(p.at, model.input.act(g, x))
        right = model.output.act(g, model.predict(p.space.act(p.group.inverse(g), p.at), x))
        worst = max(worst, float((left - right).abs().max() / left.abs().max()))
    return worst


def lemma4(p: Place) -> float:
    """R^aug from moved data against the mean of R(ρ̄(g)A)."""
    data = float(p.problem.augmented_risk(p.at))
    layers = float(torch.stack([p.problem.risk(p.space.act(g, p.at)) for g in p.elements]).mean())
    return abs(data - layers) / abs(data)


def lemma5(p: Place) -> float:
    """∫ρ̄⊗ρ̄ as a projection: self-adjoint, and invariant under ρ̄(h)⊗ρ̄(h), on random a⊗b."""
    a, b, c, d = (p.probe() for _ in range(4))
    pairs = [(p.space.act(g, a), p.space.act(g, b)) for g in p.elements]
    back = [(p.space.act(g, c), p.space.act(g, d)) for g in p.elements]

    def average(left: Sequence, c: Tensor, d: Tensor) -> float:
        return sum(float(x @ c) * float(y @ d) for x, y in left) / len(left)

    value = average(pairs, c, d)
    size = sum(abs(float(x @ c) * float(y @ d)) for x, y in pairs) / len(pairs)
    errors = [abs(value - average(back, a, b))]
    errors += [abs(value - average(pairs, p.space.act(h, c), p.space.act(h, d))) for h in p.group.generators]
    return max(errors) / size if size > 0 else max(errors)


def lemma6(p: Place) -> float:
    """With M = ∇²R(A): (ΠM)[u, u] = M[u, u] for u in E and (ΠM)[u, w] = 0 for w in E⊥."""
    u, w = p.probe_in(p.space.equivariant_part), p.probe_in(p.space.transverse_part)
    hu, mu = p.from_group(u), p.nominal(u)
    return max(abs(float(hu @ u - mu @ u)), abs(float(hu @ w))) / float(mu.norm())


def proposition1(p: Place) -> float:
    """∇R^aug and ∇R^eqv against Π_E∇R."""
    expected = p.space.equivariant_part(p.full)
    return max(relative(p.augmented - expected, p.scale), relative(p.equivariant - expected, p.scale))


def proposition2(p: Place) -> float:
    """∇²R^aug from moved data against ∫ρ̄ᵀ∇²Rρ̄, and ∇²R^eqv against Π_E∇²RΠ_E."""
    v = torch.stack([p.probe() for _ in range(PROBES)])
    found, expected = p.from_data(v), p.from_group(v)
    t = p.space.project(v)
    on_e = equivariant_hessian(p.problem, p.theta)(t)
    projected = p.space.project(p.nominal(p.space.embed(t)))
    return max(relative(found - expected, found), relative(on_e - projected, on_e))


def corollary1(p: Place) -> float:
    """‖A_{E⊥}‖/‖A‖ and ‖A^AUG − A^EQUI‖/‖A‖ after exact augmented descent at half the critical step of the start.

    Curvature may rise along the way until the step is too long off E, and descent then blows rounding up. So the error
    is divided by what the same descent makes of a random push into E⊥, where that grows.
    """
    v = p.probe()
    for _ in range(8):
        v = p.nominal(v / v.norm())  # ‖∇²R^aug‖ ≤ ‖∇²R‖
    step = STEP_SHARE * 2 / float(v.norm())
    step = min(step, 0.1 * float(p.at.norm()) / max(float(p.augmented.norm()), 1e-300))
    size = 1e-7 * float(p.at.norm())
    pushed = p.at + size * p.probe_in(p.space.transverse_part)
    aug, equi, away = (
        descend(p.problem, start, strategy(p.problem), step, STEPS, "Corollary 1")
        for start, strategy in ((p.at, exact_augmentation), (p.at, equivariant), (pushed, exact_augmentation))
    )
    growth = max(1.0, away.off_equivariance[-1] / size)
    error = max(*aug.off_equivariance, float((aug.final - equi.final).norm()))
    return error / growth / float(aug.final.norm())


def corollary2(p: Place) -> float:
    """|‖∇R^aug‖ − ‖∇R^eqv‖|; at a stationary point the larger of the two; over the scale of gradients."""
    norms = float(p.augmented.norm()), float(p.equivariant.norm())
    return abs(norms[0] - norms[1]) / p.scale


def stationary(p: Place) -> float:
    """The larger of ‖∇R^aug‖ and ‖∇R^eqv‖ over the scale of gradients."""
    return max(float(p.augmented.norm()), float(p.equivariant.norm())) / p.scale


def remark2(p: Place) -> float:
    """|R^aug − E ℓ(Φ^FA)|/R^aug and the difference of gradients."""
    return max(abs(p.feature_gap), relative(p.augmented - grad(p.feature_risk)(p.at), p.scale))


def remark2_hessian(p: Place) -> float:
    """How far ∇²R^aug − ∇²R^FA falls below zero on L and differs from zero on E, over its size on L."""
    u = p.probe_in(p.space.equivariant_part)
    values = ritz(lanczos(lambda v: p.hessian_gap(v), p.probe(), GAP_STEPS))[0]
    size = max(abs(values[0]), abs(values[-1]), 1e-3 * float(p.from_data(u).norm()))
    return float(max(-values[0], abs(p.hessian_gap(u) @ u), 0.0) / size)


def remark2_convexity(p: Place) -> float:
    """How far R^aug − R^FA falls below zero, over R^aug; zero where it does not."""
    return max(0.0, -p.feature_gap)


@dataclass(frozen=True)
class Statement:
    """What is claimed, where it holds, and where it must fail.

    Attributes:
        key: in result files.
        name: in the paper.
        text: the claim.
        measure: the error at a place.
        holds: kinds of points where the error is rounding.
        fails: kinds where it must be of order one, as a control.
        open: kinds where it may be of any size, which is of interest by itself.
    """

    key: str
    name: str
    text: str
    measure: Callable[[Place], float]
    holds: tuple[str, ...] = KINDS
    fails: tuple[str, ...] = ()
    open: tuple[str, ...] = ()


OFF_E = KINDS[2:]
STATEMENTS = (
    Statement("lemma1", "Lemma 1", "A in E ⇔ ρ̄(g)A = A for all g", lemma1, ON_E, OFF_E),
    Statement("lemma1_dimension", "Lemma 1", "what all g fix has dimension dim E", lemma1_dimension, KINDS[:1]),
    Statement("lemma2", "Lemma 2", "Π_E = ∫ρ̄(g)dμ", lemma2),
    Statement("lemma3", "Lemma 3", "Φ_A(ρ(g)x) = ρ(g)Φ_{ρ̄(g)⁻¹A}(x)", lemma3),
    Statement("lemma4", "Lemma 4", "R^aug(A) = ∫R(ρ̄(g)A)dμ", lemma4),
    Statement("lemma5", "Lemma 5", "∫ρ̄⊗ρ̄ is the orthogonal projection", lemma5),
    Statement("lemma6", "Lemma 6", "(ΠM)[u,u] = M[u,u], (ΠM)[u,w] = 0", lemma6),
    Statement("prop1", "Proposition 1", "∇R^aug = Π_E∇R = ∇R^eqv", proposition1, ON_E, OFF_E),
    Statement("cor1", "Corollary 1", "exact AUG stays in E and follows EQUI", corollary1, ON_E),
    Statement("cor2", "Corollary 2", "‖∇R^aug‖ = ‖∇R^eqv‖", corollary2, ON_E, OFF_E),
    Statement("cor2_zero", "Corollary 2", "both vanish at what the search on E found", stationary, KINDS[1:2]),
    Statement("prop2", "Proposition 2", "∇²R^aug = ∫ρ̄ᵀ∇²Rρ̄dμ, ∇²R^eqv = Π_E∇²RΠ_E", proposition2, ON_E, OFF_E),
    Statement("remark2", "Remark 2", "R^aug = E ℓ(Φ^FA, y), with gradients", remark2, ON_E, open=OFF_E),
    Statement("remark2_hessian", "Remark 2", "∇²R^aug − ∇²R^FA ⪰ 0, zero on E", remark2_hessian, ON_E),
    Statement("remark2_convexity", "Remark 2", "R^aug ≥ E ℓ(Φ^FA, y), ℓ convex", remark2_convexity),
)


def measure(place: Place, kind: str) -> dict[str, float]:
    """The errors of all statements that hold, or must fail, at this kind of point."""
    return {s.key: s.measure(place) for s in STATEMENTS if kind in s.holds + s.fails + s.open}


def points(problem: Problem, seed: int) -> Iterator[tuple[str, Tensor]]:
    """A random point of E, and one off E."""
    at = problem.space.embed(problem.initial(seed))
    yield KINDS[0], at
    noise = torch.randn(len(at), generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(at)
    yield KINDS[2], at + 0.3 * float(at.norm()) * noise / noise.norm()


# ------------------------------------------------------------------------------------------------ proposition 3


def proposition3(ground: Ground) -> dict:
    """Whether A is a strict minimum of R, R^aug and R^eqv, from gradients and smallest eigenvalues.

    ∇²R is dense up to ``DENSE`` weights where ∇R = 0; elsewhere λ_min(∇²R) is only bounded from above by a Ritz value.
    """
    problem, at = ground.problem, ground.at
    space = problem.space
    gradient = grad(problem.risk)(at)
    scale = gradient_scale(problem, ground.point.start or 0) if problem.initial else 1.0
    vanishes = float(gradient.norm()) <= 1e-8 * scale
    nominal = nominal_hessian(problem, at)
    if space.dim <= DENSE and vanishes:
        lowest, method = float(torch.linalg.eigvalsh(assemble(nominal, at))[0]), "dense"
    else:
        lowest, method = _lowest_ritz(nominal, ground), "Ritz value, an upper bound"
    perp, on_e = ground.lowest.value, ground.point.eigenvalues[0]
    values = {"nominal": lowest, "aug": min(perp, on_e), "eqv": on_e}
    noise = 1e-10 * max(ground.top_on_e, abs(ground.highest.value))
    strict = {name: value > noise for name, value in values.items()}
    strict["nominal"] = strict["nominal"] and vanishes and method == "dense"
    return {
        "nominal_gradient": float(gradient.norm()) / scale,
        "lambda_min": values,
        "method": method,
        "chain": max(values["nominal"] - values["aug"], values["aug"] - values["eqv"], 0.0)
        / max(ground.top_on_e, abs(ground.highest.value)),
        "strict": strict,
        "i": judged(strict["nominal"], strict["aug"]),
        "ii": judged(strict["aug"], strict["eqv"]),
        "converse_i": judged(strict["aug"] and vanishes, strict["nominal"]),
        "converse_ii": judged(strict["eqv"], strict["aug"]),
    }


def _lowest_ritz(nominal: Operator, ground: Ground) -> float:
    """An upper bound of λ_min(∇²R): Lanczos from the partner of ∇²R^aug's lowest mode with the least quotient."""
    space, mode = ground.problem.space, ground.lowest.direction
    if ground.point.eigenvalues[0] < ground.lowest.value:
        on_e = equivariant_hessian(ground.problem, ground.point.theta)
        mode = space.embed(torch.linalg.eigh(assemble(on_e, ground.at))[1][:, 0].contiguous())
    partners = [space.act(g, mode) for g in ground.problem.group.elements()]
    start = min(partners, key=lambda v: float(nominal(v) @ v))
    return float(ritz(lanczos(nominal, start, LANCZOS_STEPS))[0][0])


def judged(premise: bool, conclusion: bool) -> str:
    """Of an implication.

    >>> [judged(a, b) for a, b in ((True, True), (False, True), (False, False), (True, False))]
    ['holds', 'vacuous', 'vacuous', 'fails']
    """
    return ("holds" if conclusion else "fails") if premise else "vacuous"


# ------------------------------------------------------------------------------------------------------- output


def compute(rows: Rows, spots: Sequence[Spot], seeds: int) -> None:
    """Whatever is missing, one task and group after the other."""
    for spot in tqdm(spots, desc="propositions", disable=None):
        problem = spot.problem()
        common = {"spot": spot.label, "group": problem.group.name, "dim_E": problem.space.dim_equivariant}
        for seed in range(0 if spot.symmetric else seeds):
            if rows.has(spot=spot.label, seed=seed):
                continue
            found = [(kind, measure(Place(problem, at, seed), kind)) for kind, at in points(problem, seed)]
            for kind, errors in found:
                rows.add({**common, "kind": kind, "seed": seed, "errors": errors})
        if spot.stationary and not rows.has(spot=spot.label, kind=KINDS[1]):
            ground = spot.ground()
            errors = {} if spot.symmetric else measure(Place(ground.problem, ground.at, 0), KINDS[1])
            row = {**common, "kind": KINDS[1], "seed": None, "errors": errors}
            rows.add({**row, "proposition3": proposition3(ground)})
    order = [s.label for s in SPOTS]
    rows.rows.sort(key=lambda r: (order.index(r["spot"]), KINDS.index(r["kind"]), r["seed"] or 0))


def gathered(rows: Sequence[dict], statement: Statement, kind: str) -> list[float]:
    """The errors of a statement at one kind of point, over all problems and seeds."""
    return [r["errors"][statement.key] for r in rows if r["kind"] == kind and statement.key in r["errors"]]


def failures(rows: Sequence[dict]) -> list[str]:
    """Statements whose error is no rounding where they hold, and controls that came out too small to prove anything."""
    found = []
    for row in rows:
        for s in STATEMENTS:
            error = row["errors"].get(s.key)
            if error is None:
                continue
            where = f"{s.name} ({s.text}), {row['spot']}, {row['group']}, {row['kind']}: {error:.1e}"
            if row["kind"] in s.holds and not error <= ROUNDING:
                found.append(where)
            if row["kind"] in s.fails and not error >= VISIBLE:
                found.append(f"control: {where}")
    for row in judged_points(rows):
        p = row["proposition3"]
        if "fails" in (p["i"], p["ii"]) or p["chain"] > ROUNDING:
            found.append(f"Proposition 3, {row['spot']}: {p}")
    return found


def judged_points(rows: Sequence[dict]) -> list[dict]:
    """Rows that speak of Proposition 3."""
    return [r for r in rows if "proposition3" in r]


def draw(rows: Sequence[dict]) -> Figure:
    """One line for each statement: errors where it holds, and errors of the control off E."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots()
    floor = 1e-18
    for line, s in enumerate(STATEMENTS):
        for i, kind in enumerate(KINDS):
            control = kind in s.fails + s.open
            errors = [max(e, floor) for e in gathered(rows, s, kind)]
            style = {"color": STYLES[i]["color"], "markerfacecolor": STYLES[i]["color"] if control else "none"}
            axes.plot(errors, [line + 0.22 * (i - 1)] * len(errors), MARKERS[i], **style, markersize=5)
    for i, kind in enumerate(KINDS):
        axes.plot([], [], MARKERS[i], color=STYLES[i]["color"], markerfacecolor="none", label=f"{kind}, where it holds")
    axes.plot([], [], MARKERS[2], color=STYLES[2]["color"], label="off E, where it fails, or may (Remark 2)")
    axes.axvline(ROUNDING, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(STATEMENTS)), [f"{s.name}: {s.text}" for s in STATEMENTS], fontsize="small")
    axes.invert_yaxis()
    axes.set_xlabel("relative error (exact zeros drawn at 1e-18; the line parts rounding from failure)")
    axes.grid(axis="y", color="0.9")
    axes.legend(fontsize="small", loc="lower right")
    return figure


CAPTION = (
    "Each statement's relative errors over all tasks, groups and seeds. Hollow: where the statement holds; filled: "
    "off E, where its premise fails and the error has to be visible, or the measurement could not have failed."
)


def section(rows: Sequence[dict]) -> Section:
    """Words from the rows."""
    held = [e for s in STATEMENTS for kind in s.holds for e in gathered(rows, s, kind)]
    controls = [e for s in STATEMENTS for kind in s.fails for e in gathered(rows, s, kind)]
    failed, judged_rows = failures(rows), judged_points(rows)
    problems = {(r["spot"], r["group"]) for r in rows}
    groups = sorted({r["group"] for r in rows})
    worst = max(
        ((e, s, kind) for s in STATEMENTS for kind in s.holds for e in gathered(rows, s, kind)), key=lambda t: t[0]
    )
    measured = (
        f"{len(held)} errors of {len(STATEMENTS)} statements on {len(problems)} problems under {len(groups)} groups "
        f"({', '.join(groups)}); the largest is {worst[0]:.1e} ({worst[1].name}, {worst[2]}). {len(controls)} "
        f"controls off E came out between {min(controls, default=0):.1e} and {max(controls, default=0):.1e}. "
        + (f"Not as expected: {'; '.join(failed)}." if failed else "Nothing came out other than expected.")
    )
    if judged_rows:
        measured += "\n\n" + _said_of_strict_minima(judged_rows)
    gaps = gathered(rows, next(s for s in STATEMENTS if s.key == "remark2"), KINDS[2])
    short = gathered(rows, next(s for s in STATEMENTS if s.key == "remark2_convexity"), KINDS[2])
    if gaps:
        measured += (
            f"\n\nOff E the risk of the averaged network and R^aug, or their gradients, differ by {min(gaps):.1e} to "
            f"{max(gaps):.1e} (zero where the loss sees a group-invariant sum of the predictions alone), and R^aug is "
            f"smaller nowhere by more than {max(short, default=0):.0e}."
        )
    return Section(
        title="The statements of the paper, measured",
        expected="Lemmas 3 to 5, and Lemma 6 for any bilinear form, hold at every A; Propositions 1 and 2 and both "
        "corollaries at every A in E, stationary or not; all up to rounding, 1e-12 or so in float64. Off E "
        "Propositions 1 and 2 and Corollary 2 fail by an amount of order one, which shows that the measurement can "
        "fail. Corollary 1 speaks of the flow: along descent the error is divided by the growth of a push, which "
        "rounding shares. Remark 2 equates R^aug with the risk of the feature-averaged network; for a loss that is "
        "convex in the prediction Jensen's inequality allows no more than R^aug ≥ E ℓ(Φ^FA, y), with equality, and "
        "equal gradients, on E.\n\n"
        "Proposition 3 follows from λ_min(∇²R) ≤ λ_min(∇²R^aug) ≤ λ_min(∇²R^eqv on E), which holds at every A in E: an "
        "average of conjugates has a smallest eigenvalue no smaller, and so has a restriction.",
        measured=measured,
        means=(
            "The theory holds on these problems to rounding, so what follows can be read as statements about "
            "training and not about this program. "
            if not failed
            else "Some statement came out other than expected; what follows rests on it. "
        )
        + "Remark 2 holds on E and is an inequality elsewhere: averaging the network and augmenting the data are "
        "different objectives as soon as the weights leave E. The converses of Proposition 3 fail at points known "
        "by hand and at trained networks alike.",
        finding=f"{len(STATEMENTS)} statements on {len(problems)} problems: {len(failed)} came out other than "
        f"expected; the largest "
        f"error where a statement holds is {worst[0]:.1e}.",
    )


def _said_of_strict_minima(rows: Sequence[dict]) -> str:
    counts = {
        key: {state: sum(r["proposition3"][key] == state for r in rows) for state in ("holds", "vacuous", "fails")}
        for key in ("i", "ii", "converse_i", "converse_ii")
    }
    broken = {
        key: ", ".join(r["spot"] for r in rows if r["proposition3"][key] == "fails")
        for key in ("converse_i", "converse_ii")
    }
    chain = max(r["proposition3"]["chain"] for r in rows)
    return (
        f"Proposition 3 at {len(rows)} stationary points: (i) holds at {counts['i']['holds']}, has no premise at "
        f"{counts['i']['vacuous']} (∇R has a part outside E, or R no strict minimum) and fails at "
        f"{counts['i']['fails']}; (ii) holds at {counts['ii']['holds']}, has no premise at {counts['ii']['vacuous']} "
        f"and fails at {counts['ii']['fails']}. The chain of smallest eigenvalues is violated by {chain:.0e} at "
        f"most. The converse of (i) fails at {broken['converse_i'] or 'none'}, that of (ii) at "
        f"{broken['converse_ii'] or 'none'}."
    )


def tables(rows: Sequence[dict]) -> list[dict]:
    """Largest errors by statement and kind of point; by problem; Proposition 3."""

    def most(s: Statement, kind: str) -> object:
        errors = gathered(rows, s, kind)
        if not errors:
            return None
        spread = f"{min(errors):.1e} to {max(errors):.1e}"
        if kind in s.fails:
            return f"control: {spread}"
        return spread if kind in s.open else float(f"{max(errors):.1e}")

    listed = [[s.name, s.text, *(most(s, kind) for kind in KINDS)] for s in STATEMENTS]
    keys = [
        s for s in STATEMENTS if s.key not in ("lemma1_dimension", "cor2_zero", "remark2_hessian", "remark2_convexity")
    ]
    by_problem = []
    for label, group in dict.fromkeys((r["spot"], r["group"]) for r in rows):
        mine = [r for r in rows if (r["spot"], r["group"]) == (label, group)]
        cells = [max((e for kind in s.holds for e in gathered(mine, s, kind)), default=None) for s in keys]
        by_problem.append([label, group, *(None if e is None else float(f"{e:.1e}") for e in cells)])
    points_ = [
        [r["spot"], r["group"], p["nominal_gradient"], p["lambda_min"]["nominal"], p["method"]]
        + [p["lambda_min"]["aug"], p["lambda_min"]["eqv"], p["i"], p["ii"], p["converse_i"], p["converse_ii"]]
        for r in judged_points(rows)
        for p in [r["proposition3"]]
    ]
    return [
        table("Largest relative error of each statement", ["", "statement", *KINDS], listed),
        table(
            "Largest error where the statement holds, by problem",
            ["problem", "group", *(s.name for s in keys)],
            by_problem,
        ),
        table(
            "Proposition 3 at stationary points in E",
            [
                "problem",
                "group",
                "‖∇R‖ / scale",
                "λ_min(∇²R)",
                "which is",
                "λ_min(∇²R^aug)",
                "λ_min(∇²R^eqv)",
                "(i)",
                "(ii)",
            ]
            + ["converse of (i)", "converse of (ii)"],
            points_,
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tasks = list(dict.fromkeys(s.case.task for s in SPOTS))
    parser.add_argument("--tasks", nargs="+", default=tasks, choices=tasks)
    parser.add_argument("--seeds", type=int, default=3, help="random points of E, and as many off E")
    parser.add_argument("--out", type=Path, default=Path("reports/propositions"))
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        raise BadInput(f"--seeds {options.seeds}: give a positive number")
    folder = prepare_folder(options.out)
    rows = Rows(folder / "propositions.json", {"seeds": options.seeds})
    compute(rows, [s for s in SPOTS if s.case.task in options.tasks], options.seeds)
    said = section(rows.rows)
    finish(folder, "propositions", rows, draw(rows.rows), said, tables(rows.rows), CAPTION)
    print(said.measured)


if __name__ == "__main__":
    sys.exit(command(main))
