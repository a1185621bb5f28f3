"""The error of each lemma, proposition, corollary and remark at one place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.func import grad

from analyses.paper.propositions.place import Place
from stability.curvature.automatic import equivariant_hessian
from stability.eigen.lanczos import lanczos, ritz
from stability.points.training import descend, equivariant, exact_augmentation

STEPS, STEP_SHARE = 30, 0.5
GAP_STEPS = 15
PROBES = 2


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
