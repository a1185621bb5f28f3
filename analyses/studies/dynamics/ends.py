"""Where training ends that has left E, and what symmetry is left there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from analyses.lab.ground import Ground, accuracies, stabiliser
from stability.curvature.automatic import linearise
from stability.eigen.dense import dense_spectrum
from stability.eigen.lanczos import lanczos, lanczos_spectrum
from stability.eigen.operator import assemble
from stability.groups import PermutationGroup, Symmetric
from stability.points.training import exact_augmentation, minimise_augmented
from stability.problem.problem import Problem
from stability.spectra import sectors

DENSE_END = 4500
LANCZOS_STEPS = 300
# Relative to ‖A_{E⊥}‖ and to max |Φ|: an element that moves A or Φ by less keeps it.
KEEPS = 1e-3
# ‖∇R^aug‖ of an end that has arrived.
SETTLED = 1e-6


def end(ground: Ground, way: str, iterations: int, seed: int = 0) -> dict:
    """Where augmented training ends that leaves A along the lowest mode, in one of ``WAYS``."""
    problem, space = ground.problem, ground.problem.space
    block = min(ground.blocks, key=lambda b: b.values[0])
    partners = sectors.lift(space, block.irrep, block.vectors[:, 0].contiguous())
    direction = partners[0]
    if way == "mixture":
        weights = torch.randn(len(partners), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        direction = weights.to(partners) @ partners
    push = 1e-2 * float(ground.at.norm()) * direction / direction.norm()
    start = ground.at + push
    if way == "keeping the symmetry":
        found, risk, steps = minimise_within(problem, start, stabiliser(problem, push), iterations)
    else:
        found, risk, steps = minimise_augmented(problem, start, iterations)
    strategy, rng = exact_augmentation(problem), np.random.default_rng(0)
    values, method, count = curvature_at(problem, found)
    with torch.no_grad():
        before = float(problem.augmented_risk(ground.at))
    return {
        "way": way,
        "irrep": block.irrep.name,
        "risk_start": before,
        "risk_end": risk,
        "iterations": steps,
        "gradient_norm": float(strategy(found, rng).norm()),
        "gradient_norm_before": float(strategy(start, rng).norm()),
        "accuracy_start": accuracies(problem, ground.at),
        "accuracy_end": accuracies(problem, found),
        "off_equivariance": float(space.transverse_part(found).norm()),
        "norm": float(found.norm()),
        "symmetry_of_push": symmetry(problem, start),  # of Φ only to second order in the push
        "symmetry_of_end": symmetry(problem, found),
        "lowest": values,
        "negative": count,
        "method": method,
    }


def minimise_within(problem: Problem, start: Tensor, subgroup: Sequence, iterations: int) -> tuple[Tensor, float, int]:
    """:func:`minimise_augmented` among the weights that a subgroup fixes.

    ∇R^aug commutes with ρ̄, so the flow keeps the stabiliser of its start; averaging over the subgroup takes out the
    rounding that would break it.
    """

    def averaged(v: Tensor) -> Tensor:
        return torch.stack([problem.space.act(g, v) for g in subgroup]).mean(0)

    kept = replace(problem, loss=lambda a, samples: problem.loss(averaged(a), samples))
    found, risk, steps = minimise_augmented(kept, averaged(start), iterations)
    return averaged(found), risk, steps


def symmetry(problem: Problem, at: Tensor) -> dict:
    """The elements that fix A, and those that Φ_A still commutes with; how near the others come.

    ‖ρ̄(g)A − A‖ = ‖ρ̄(g)A_{E⊥} − A_{E⊥}‖ is measured against ‖A_{E⊥}‖; max |Φ(ρ(g)x) − ρ(g)Φ(x)| against max |Φ|.
    """
    space, model, x = problem.space, problem.model, problem.samples.x[:64]
    off = space.transverse_part(at)
    with torch.no_grad():
        plain = model.predict(at, x)
    fixed, kept, moves, changes = [], [], [], []
    for g in problem.group.elements():
        moved = float((space.act(g, off) - off).norm() / off.norm())
        with torch.no_grad():
            change = float((model.predict(at, model.input.act(g, x)) - model.output.act(g, plain)).abs().max())
        change /= float(plain.abs().max())
        moves.append(moved)
        changes.append(change)
        if moved <= KEEPS:
            fixed.append(g)
        if change <= KEEPS:
            kept.append(g)
    return {
        "order_of_group": problem.group.order,
        "fixes_A": len(fixed),
        "orbits_A": orbits(problem, fixed),
        "fixes_function": len(kept),
        "orbits_function": orbits(problem, kept),
        "next_move_of_A": min((m for m in moves if m > KEEPS), default=None),
        "largest_move_kept": max(m for m in moves if m <= KEEPS),
        "next_change_of_function": min((c for c in changes if c > KEEPS), default=None),
        "elements": [str(g) for g in fixed] if len(fixed) <= 12 else None,
    }


def orbits(problem: Problem, elements: Sequence) -> list[list[int]] | None:
    """Of points under a subgroup of permutations; None for groups of anything else."""
    if not isinstance(problem.group, Symmetric | PermutationGroup):
        return None
    points, found = set(range(len(problem.group.identity))), []
    while points:
        orbit = {g[min(points)] for g in elements}
        found.append(sorted(orbit))
        points -= orbit
    return found


def curvature_at(problem: Problem, at: Tensor) -> tuple[list[dict], str, int | None]:
    """The lowest eigenvalues of ∇²R^aug at any A, with residuals: the whole spectrum where it fits, Lanczos beyond."""
    width = max(max(layer.shape) for layer in problem.space.layers)
    operator = linearise(problem.loss, at, problem.augmented(), problem.weight_decay, "∇²R^aug", 512, width)
    if problem.space.dim <= DENSE_END:
        spectrum = dense_spectrum(assemble(operator, at), operator, 5).spectrum
    else:
        start = torch.randn(len(at), generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(at)
        state = lanczos(operator, start, LANCZOS_STEPS)
        spectrum = lanczos_spectrum(operator, len(at), state, 5, 0.0).spectrum
    entries = [{"value": e.value, "residual": e.residual, "multiplicity": e.multiplicity} for e in spectrum.lowest]
    return entries, spectrum.method, spectrum.negative_count
