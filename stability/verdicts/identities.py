r"""The identities of the paper, measured on random probes at the problem at hand (docs/mathematics.md).

Each entry is a relative error unless its name says otherwise; ``feature_average_gap`` is no error but the
non-negative gap R^aug − E ℓ(Φ^FA) at a random A off E (Remark 2, logits averaged). What cannot be measured is
None with a reason.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.func import grad

from stability.curvature.automatic import (
    augmented_hessian_from_data,
    augmented_hessian_from_group,
    equivariant_hessian,
    nominal_hessian,
)
from stability.eigen.operator import Operator
from stability.points import training
from stability.problem.problem import Problem, model_of

NAMES = (
    "lemma1", "lemma2", "lemma3", "lemma4", "lemma5", "lemma6", "prop1", "prop2", "cor1", "cor2", "feature_average_gap",
)  # fmt: skip
COR1_STEPS = 10


@dataclass(frozen=True)
class Identities:
    """Measured errors by name, and why the missing ones are missing.

    Attributes:
        errors: by the names in ``NAMES``; None where nothing was measured.
        reasons: why not, by name.
    """

    errors: dict[str, float | None]
    reasons: dict[str, str]


class _Probes:
    """Seeded Gaussian vectors of unit norm in L, E and E⊥."""

    def __init__(self, problem: Problem, like: Tensor, seed: int) -> None:
        self.space, self.like = problem.space, like
        self.generator = torch.Generator().manual_seed(seed)

    def on_l(self) -> Tensor:
        v = torch.randn(self.space.dim, generator=self.generator, dtype=torch.float64).to(self.like)
        return v / v.norm()

    def on_e(self) -> Tensor:
        v = self.space.equivariant_part(self.on_l())
        return v / v.norm()

    def on_perp(self) -> Tensor | None:
        v = self.space.transverse_part(self.on_l())
        return v / v.norm() if self.space.dim > self.space.dim_equivariant else None


def measure(problem: Problem, theta: Tensor, seed: int, group_limit: int, scale: float) -> Identities:
    """All identities at the point of E with coordinates θ and at random points.

    Args:
        problem: the risk.
        theta: the point judged.
        seed: of the probes.
        group_limit: largest |G| that is summed over.
        scale: of gradients, for the corollaries.
    """
    space, group = problem.space, problem.group
    at = space.embed(theta)
    probes, rng = _Probes(problem, at, seed), np.random.default_rng(seed)
    some = [*group.generators, group.sample(rng), group.sample(rng)]
    a, b, e = probes.on_l(), probes.on_l(), probes.on_e()
    off = at + 0.3 * float(at.norm().clamp_min(1.0)) * a  # a point of L away from E
    on = space.embed(theta + 0.3 * float(theta.norm().clamp_min(1.0)) * space.project(e))  # a random point of E
    unsummed = _unsummed(problem, group_limit)

    errors: dict[str, float | None] = dict.fromkeys(NAMES)
    errors["lemma1"] = max(float((space.act(g, e) - e).norm()) for g in some)
    if unsummed:
        errors["lemma2"] = _projection(problem, some, a, b)
    else:
        elements = list(problem.elements())
        moved = sum(w * space.act(g, a) for g, w in elements)
        errors["lemma2"] = float((moved - space.equivariant_part(a)).norm())
        errors["lemma5"] = _lemma5(problem, elements, probes)
    if problem.model is not None and problem.transform is not None:
        errors["lemma3"] = _lemma3(problem, some, off)
        if not unsummed:
            errors["lemma4"], errors["feature_average_gap"] = _lemma4_and_gap(problem, elements, off)
    if problem.transform is not None and not unsummed:
        exact = training.exact_augmentation(problem)
        augmented = exact(on, rng)
        errors["prop1"] = _prop1(problem, on, augmented)
        errors |= _second_order(problem, on, probes, exact, augmented)
        at_point = float(exact(at, rng).norm())
        errors["cor2"] = abs(at_point - float(grad(problem.equivariant_risk)(theta).norm())) / scale
    return Identities(errors, _reasons(problem, unsummed))


def _unsummed(problem: Problem, group_limit: int) -> str:
    """Why averages over G are not formed; empty where they are."""
    if problem.moves <= group_limit:
        return ""
    if math.isinf(problem.moves):
        return f"no quadrature of {problem.group.name} is known"
    return f"an average takes {problem.moves:,} elements of G, more than the {group_limit:,} summed over"


def _reasons(problem: Problem, unsummed: str) -> dict[str, str]:
    """Why what is not measured is not, by name: too many elements of G, no predictions, no action on data."""
    reasons = dict.fromkeys(("lemma4", "lemma5", "prop2", "lemma6", "cor1"), unsummed) if unsummed else {}
    if problem.model is None or problem.transform is None:
        missing = "the problem states no predictions or no action on its data"
        reasons |= dict.fromkeys(("lemma3", "lemma4", "feature_average_gap"), missing)
    if problem.transform is None or unsummed:
        for name in ("prop1", "prop2", "lemma6", "cor1", "cor2"):
            reasons.setdefault(name, reasons.get("lemma3") or reasons["lemma4"])
    return reasons


def _projection(problem: Problem, some: list, a: Tensor, b: Tensor) -> float:
    """Lemma 2 without the sum over G: Π is idempotent, self-adjoint, onto the vectors fixed by the generators."""
    space = problem.space
    pa, pb = space.equivariant_part(a), space.equivariant_part(b)
    defects = [(space.equivariant_part(pa) - pa).norm(), (pa @ b - a @ pb).abs()]
    return float(max(defects + [(space.act(g, pa) - pa).norm() for g in some]))


def _lemma3(problem: Problem, some: list, off: Tensor) -> float:
    """max |Φ_A(ρ_X(g)x) − ρ_Y(g)Φ_{ρ̄(g⁻¹)A}(x)| at a point A off E, on the first samples."""
    model, group = model_of(problem), problem.group
    x, worst = problem.samples.x[:16], 0.0
    for g in some:
        left = model.predict(off, model.input.act(g, x))
        right = model.output.act(g, model.predict(problem.space.act(group.inverse(g), off), x))
        worst = max(worst, float((left - right).abs().max()))
    return worst


def _prop1(problem: Problem, on: Tensor, augmented: Tensor) -> float:
    """∇R^aug = Π∇R and ∇R^eqv = Π∇R at a point of E, relative to ‖∇R‖."""
    space, full = problem.space, grad(problem.risk)(on)
    equivariant = grad(problem.equivariant_risk)(space.project(on))
    return max(
        _share((augmented - space.equivariant_part(full)).norm(), full.norm()),
        _share((equivariant - space.project(full)).norm(), full.norm()),
    )


def _second_order(
    problem: Problem, on: Tensor, probes: _Probes, exact: training.Strategy, augmented: Tensor
) -> dict[str, float]:
    """Proposition 2 and Lemma 6 by products of Hessians at a point of E, Corollary 1 by a short descent from it."""
    space, nominal = problem.space, nominal_hessian(problem, on)
    from_data, from_group = augmented_hessian_from_data(problem, on), augmented_hessian_from_group(problem, nominal)
    v = torch.stack([probes.on_l(), probes.on_l()])
    hv, rv = from_data(v), from_group(v)
    t = space.project(v)
    on_e = equivariant_hessian(problem, space.project(on))(t)
    prop2 = max(
        _share((hv - rv).norm(), hv.norm()),
        _share((on_e - space.project(nominal(space.embed(t)))).norm(), on_e.norm()),
    )
    u, w = probes.on_e(), probes.on_perp()
    hu = from_data(u)
    lemma6 = _share((hu @ u - nominal(u) @ u).abs(), hu.norm())
    if w is not None:
        lemma6 = max(lemma6, _share((hu @ w).abs(), hu.norm()))
    # Well below the critical step, and short enough to stay near where the curvature was measured.
    step = min(_safe_step(nominal, hv[0]), 0.1 * float(on.norm() / augmented.norm().clamp_min(1e-300)))
    run = training.descend(problem, on, exact, step, COR1_STEPS, "Corollary 1")
    return {"prop2": prop2, "lemma6": lemma6, "cor1": _share(run.off_equivariance[-1], float(run.final.norm()))}


def _safe_step(nominal: Operator, probe: Tensor) -> float:
    """1/(2‖∇²R‖) by the power method: about a quarter of the critical step, for ‖∇²R^aug‖ ≤ ‖∇²R‖."""
    for _ in range(8):
        if float(probe.norm()) > 0:  # of a linear risk nothing is left
            probe = nominal(probe / probe.norm())
    return 0.5 / float(probe.norm()) if float(probe.norm()) > 0 else 1.0


def _share(part: Tensor | float, whole: Tensor | float) -> float:
    """part/whole; an exact zero is no error, whatever it is measured against."""
    part, whole = float(part), float(whole)
    return 0.0 if part == 0 else part / whole if whole > 0 else math.inf


def _lemma5(problem: Problem, elements: list, probes: _Probes) -> float:
    """∫ρ̄⊗ρ̄ is idempotent, self-adjoint and invariant, on rank-one probes a⊗b read against c⊗d."""
    space, group = problem.space, problem.group
    a, b, c, d = (probes.on_l() for _ in range(4))

    def average(p: Tensor, q: Tensor, r: Tensor, s: Tensor) -> float:
        """(∫ρ̄⊗ρ̄ (p⊗q))[r, s]"""
        return sum(w * float(space.act(g, p) @ r) * float(space.act(g, q) @ s) for g, w in elements)

    value = average(a, b, c, d)
    defects = [abs(value - average(c, d, a, b))]
    defects += [abs(value - average(a, b, space.act(h, c), space.act(h, d))) for h in group.generators]
    return max(defects)


def _lemma4_and_gap(problem: Problem, elements: list, off: Tensor) -> tuple[float, float]:
    """|data-side − layer-side|/R^aug at a point off E, and the feature-average gap there."""
    model, samples, space, group = model_of(problem), problem.samples, problem.space, problem.group
    data_side = float(problem.augmented_risk(off))
    # By Lemma 3 the data moved by g is the layers moved by g⁻¹: of a quadrature the sums are then equal term by term.
    layer_side = float(sum(w * problem.risk(space.act(group.inverse(g), off)) for g, w in elements))
    averaged = sum(
        w * model.output.act(group.inverse(g), model.predict(off, model.input.act(g, samples.x))) for g, w in elements
    )
    feature = float(samples.weight @ model.losses(averaged, samples.y) + problem.penalty(off))
    return abs(data_side - layer_side) / abs(data_side), data_side - feature
