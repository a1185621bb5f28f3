"""Proposition 3: strict minima of R, R^aug and R^eqv, from gradients and smallest eigenvalues."""

from __future__ import annotations

import torch
from torch.func import grad

from analyses.lab.ground import Ground
from stability.curvature.automatic import equivariant_hessian, nominal_hessian
from stability.eigen.lanczos import lanczos, ritz
from stability.eigen.operator import Operator, assemble
from stability.points.stationary import gradient_scale

DENSE = 5000
LANCZOS_STEPS = 60


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
