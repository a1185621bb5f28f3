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
from stability.points import training
from stability.problem.problem import Problem, model_of

NAMES = (
    "lemma1", "lemma2", "lemma3", "lemma4", "lemma5", "lemma6", "prop1", "prop2", "cor1", "cor2", "feature_average_gap",
)  # fmt: skip
COR1_STEPS = 10


@dataclass(frozen=True)
class Identities:
    """Measured errors by name, and why the missing ones are missing."""

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
    probes = _Probes(problem, at, seed)
    rng = np.random.default_rng(seed)
    errors: dict[str, float | None] = dict.fromkeys(NAMES)
    reasons: dict[str, str] = {}
    some = [*group.generators, group.sample(rng), group.sample(rng)]

    a, b = probes.on_l(), probes.on_l()
    e = probes.on_e()
    errors["lemma1"] = max(float((space.act(g, e) - e).norm()) for g in some)

    enumerable = problem.moves <= group_limit
    if not enumerable:
        why = f"an average takes {problem.moves:,} elements of G, more than the {group_limit:,} summed over"
        if math.isinf(problem.moves):
            why = f"no quadrature of {group.name} is known"
        # Without the sum over G: idempotent, self-adjoint, onto the vectors fixed by the generators.
        pa, pb = space.equivariant_part(a), space.equivariant_part(b)
        defects = [(space.equivariant_part(pa) - pa).norm(), (pa @ b - a @ pb).abs()]
        errors["lemma2"] = float(max(defects + [(space.act(g, pa) - pa).norm() for g in some]))
        reasons.update(dict.fromkeys(("lemma4", "lemma5", "prop2", "lemma6", "cor1"), why))
    else:
        elements = list(problem.elements())
        moved = sum(w * space.act(g, a) for g, w in elements)
        errors["lemma2"] = float((moved - space.equivariant_part(a)).norm())
        errors["lemma5"] = _lemma5(problem, elements, probes)

    off = at + 0.3 * float(at.norm().clamp_min(1.0)) * a  # a point of L away from E
    on = space.embed(theta + 0.3 * float(theta.norm().clamp_min(1.0)) * space.project(e))  # a random point of E
    model = problem.model
    if model is None or problem.transform is None:
        missing = "the problem states no predictions or no action on its data"
        for name in ("lemma3", "lemma4", "feature_average_gap"):
            reasons[name] = missing
    else:
        x = problem.samples.x[:16]
        worst = 0.0
        for g in some:
            left = model.predict(off, model.input.act(g, x))
            right = model.output.act(g, model.predict(space.act(group.inverse(g), off), x))
            worst = max(worst, float((left - right).abs().max()))
        errors["lemma3"] = worst
        if enumerable:
            errors["lemma4"], errors["feature_average_gap"] = _lemma4_and_gap(problem, elements, off)

    if problem.transform is None or not enumerable:
        for name in ("prop1", "prop2", "lemma6", "cor1", "cor2"):
            reasons.setdefault(name, reasons.get("lemma3") or reasons["lemma4"])
        return Identities(errors, {k: v for k, v in reasons.items() if errors[k] is None})

    full = grad(problem.risk)(on)
    augmented = training.exact_augmentation(problem)(on, rng)
    equivariant = grad(problem.equivariant_risk)(space.project(on))
    errors["prop1"] = max(
        _share((augmented - space.equivariant_part(full)).norm(), full.norm()),
        _share((equivariant - space.project(full)).norm(), full.norm()),
    )
    nominal = nominal_hessian(problem, on)
    from_data, from_group = augmented_hessian_from_data(problem, on), augmented_hessian_from_group(problem, nominal)
    v = torch.stack([probes.on_l(), probes.on_l()])
    hv, rv = from_data(v), from_group(v)
    t = space.project(v)
    on_e = equivariant_hessian(problem, space.project(on))(t)
    errors["prop2"] = max(
        _share((hv - rv).norm(), hv.norm()),
        _share((on_e - space.project(nominal(space.embed(t)))).norm(), on_e.norm()),
    )
    u, w = probes.on_e(), probes.on_perp()
    hu = from_data(u)
    along = _share((hu @ u - nominal(u) @ u).abs(), hu.norm())
    across = 0.0 if w is None else _share((hu @ w).abs(), hu.norm())
    errors["lemma6"] = max(along, across)

    # Well below the critical step, and short enough to stay near where the curvature was measured.
    probe = hv[0]
    for _ in range(8):
        if float(probe.norm()) > 0:  # of a linear risk nothing is left
            probe = nominal(probe / probe.norm())  # ‖∇²R^aug‖ ≤ ‖∇²R‖
    steepest = 0.5 / float(probe.norm()) if float(probe.norm()) > 0 else 1.0
    step = min(steepest, 0.1 * float(on.norm() / augmented.norm().clamp_min(1e-300)))
    run = training.descend(problem, on, training.exact_augmentation(problem), step, COR1_STEPS, "Corollary 1")
    errors["cor1"] = _share(run.off_equivariance[-1], float(run.final.norm()))
    at_point = float(training.exact_augmentation(problem)(at, rng).norm())
    errors["cor2"] = abs(at_point - float(grad(problem.equivariant_risk)(theta).norm())) / scale
    return Identities(errors, {k: v for k, v in reasons.items() if errors[k] is None})


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
    moved = ((g, w, model.predict(off, model.input.act(g, samples.x))) for g, w in elements)
    averaged = sum((w * model.output.act(group.inverse(g), y) for g, w, y in moved), samples.x.new_zeros(()))
    feature = float(samples.weight @ model.losses(averaged, samples.y) + problem.penalty(off))
    return abs(data_side - layer_side) / abs(data_side), data_side - feature
