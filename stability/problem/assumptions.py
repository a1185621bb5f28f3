"""What every statement rests on, measured once for a problem: orthogonality, ρ(gh) = ρ(g)ρ(h), Lemma 3, the loss."""

from __future__ import annotations

import torch

from stability.base.errors import BadInput
from stability.base.once import remembered
from stability.problem.problem import Problem, some_equivariant

ASSUMPTION_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
MEND = {
    "orthogonal": "change the inner product so that ρ is orthogonal",
    "homomorphism": "give matrices or permutations with ρ(gh) = ρ(g)ρ(h)",
    "equivariant_layers": "declare the representations the layer has, or give it strides and padding that map the grid "
    "onto itself",
    "equivariant_nonlinearities": "use a σ that commutes with ρ, such as a norm nonlinearity",
    "invariant_loss": "use a loss with ℓ(ρ(g)y, ρ(g)y') = ℓ(y, y')",
}


def check_assumptions(problem: Problem, seed: int) -> dict[str, float]:
    """The measured violation of every assumption; {} where the problem does not say how to measure them.

    What was measured is kept with the problem: every stage asks, one measures.

    Raises:
        BadInput: one that fails; the message names where, the group element and the violation.
    """
    if not torch.isfinite(problem.samples.x).all():
        bad = int((~torch.isfinite(problem.samples.x)).sum())
        raise BadInput(f"{problem.name}: {bad} input values are not finite; clean the data")
    if problem.assumptions is None:
        some_equivariant(problem)
        return {}
    kept, key = remembered(problem), ("assumptions", seed)
    if key not in kept:
        kept[key] = problem.assumptions(seed)
    limit = ASSUMPTION_TOLERANCE[problem.samples.x.dtype]
    for name, (violation, where) in kept[key].items():
        if not violation <= limit:
            raise BadInput(f"assumption {name} fails by {violation:.2e} at {where}; {MEND.get(name, 'mend it')}")
    some_equivariant(problem)  # of representations that are none, the violation says more
    return {name: violation for name, (violation, _) in kept[key].items()}
