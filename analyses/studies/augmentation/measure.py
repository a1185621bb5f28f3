"""What each part measures at a point, by K."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from tqdm import tqdm

from analyses.lab.cases import Case
from analyses.lab.ground import Ground, find
from analyses.lab.rows import Rows
from analyses.studies.augmentation.laws import _hessian, batches, drift_law, gradient_law, hessian_law
from analyses.studies.augmentation.sampling import (
    controlled,
    drifts,
    expanded_drifts,
    gradient_distances,
    gram,
    lowest,
    moved,
    squared_distances,
)
from stability.eigen.operator import assemble
from stability.groups import images, torus, trivial
from stability.networks.classifier import Classifier
from stability.networks.losses import cross_entropy
from stability.networks.network import mlp
from stability.networks.nonlinearities import Identity, Pointwise
from stability.networks.supervised import supervised
from stability.problem.problem import Problem
from stability.tasks.data import digits
from stability.tasks.options import TaskOptions, prepare

TINY = "digits of 3×3 pixels"
PARTS = ("gradient", "hessian", "drift", "feedback", "lowest")
MODES = ("pass", "mini-batch")
CASES = (Case("perm", 1, 40, 1e-2), Case("trans", 0, 100), Case("rot", 0, 40))
BATCHES = 4
COUNTS = tuple(4**i for i in range(7))
DRIFT_COUNTS = tuple(4**i for i in range(5))
# Inner products of more Hessians than this would take too long.
MOST_HESSIANS = 500
LOWEST_COUNTS = tuple(2**i for i in range(13))
# Draws of K elements: gradients of the training core, distances from inner products, runs of descent, dense spectra.
DRAWS = {"gradient": 40, "hessian": 400, "drift": 24, "lowest": 60}
EPOCHS, STEP_SHARE = 40, 0.1
# Steps by which the feedback is told from chance, in shares of the critical one, and runs of each.
FEEDBACK_SHARES, FEEDBACK_RUNS = (0.1, 0.05, 0.025), 400
# Standard errors within which a mean of draws agrees with a law.
AGREES = 3.5


def averaged(sample: np.ndarray) -> dict[str, float]:
    """Mean and standard error."""
    return {"measured": float(sample.mean()), "standard_error": float(sample.std(ddof=1) / np.sqrt(len(sample)))}


def batch_of(problem: Problem) -> int:
    """Samples a mini-batch, so that there are ``BATCHES``."""
    return -(-len(problem.samples) // BATCHES)


def gradient_row(ground: Ground, mode: str) -> Callable[[int], dict]:
    """Distances of the training core's gradients, by K."""
    problem, batch = ground.problem, batch_of(ground.problem)
    law = gradient_law(problem, ground.at, mode, batch)

    def row(elements: int) -> dict:
        found, inside = gradient_distances(problem, ground.at, elements, mode, batch, DRAWS["gradient"], elements)
        return {**averaged(found), "law": law / elements, "share_in_E": inside}

    return row


def hessian_row(ground: Ground, mode: str) -> Callable[[int], dict]:
    """Distances of Hessians of moved data, by K."""
    problem, batch = ground.problem, batch_of(ground.problem)
    law, products = hessian_law(problem, ground.at, mode, batch), gram(problem, ground.at, mode, batch)

    def row(elements: int) -> dict:
        found = squared_distances(products, elements, DRAWS["hessian"], np.random.default_rng(elements))
        return {**averaged(found), "law": law / elements}

    return row


def drift_row(ground: Ground, mode: str) -> Callable[[int], dict]:
    """‖A_{E⊥}‖² after ``EPOCHS`` steps of sampled descent, by K."""
    problem, batch, step = ground.problem, batch_of(ground.problem), STEP_SHARE * critical_step(ground)
    law = drift_law(problem, ground.at, step, EPOCHS, mode, batch)

    def row(elements: int) -> dict:
        runs = drifts(problem, ground.at, step, EPOCHS, elements, mode, batch, DRAWS["drift"])
        return {
            **averaged(runs[:, -1]),
            "law": float(law[-1] / elements),
            "step": step,
            "norm": float(ground.at.norm()),
            "mean_by_epoch": runs.mean(0).tolist(),
            "law_by_epoch": (law / elements).tolist(),
        }

    return row


def critical_step(ground: Ground) -> float:
    """2/λ_max of ∇²R^aug."""
    return 2 / max(ground.top_on_e, ground.highest.value)


def feedback_row(ground: Ground, mode: str) -> Callable[[int], dict]:
    """``drift_row`` for K = 1 at ever smaller steps, beside expansions of every draw's gradient on the same draws."""
    problem, batch = ground.problem, batch_of(ground.problem)

    def at_step(share: float) -> dict:
        step = share * critical_step(ground)
        law = float(drift_law(problem, ground.at, step, EPOCHS, mode, batch)[-1])
        sampled = drifts(problem, ground.at, step, EPOCHS, 1, mode, batch, FEEDBACK_RUNS)[:, -1]
        walk, linear, quadratic = (
            expanded_drifts(problem, ground.at, step, EPOCHS, mode, batch, FEEDBACK_RUNS, order) for order in range(3)
        )
        shrinks = (1 - step * problem.weight_decay) ** (2 * np.arange(EPOCHS))
        mean = step**2 * float(shrinks.sum()) * gradient_law(problem, ground.at, mode, batch)
        by_order = {"linear": linear, "quadratic": quadratic}
        return {
            "share": share,
            "step": step,
            "law": law,
            **averaged(controlled(sampled, walk, mean)),
            **{k: averaged(controlled(v, walk, mean)) for k, v in by_order.items()},
            "left": {k: averaged(controlled(sampled - v, walk, mean)) for k, v in by_order.items()},
            "uncontrolled": averaged(sampled),
        }

    def row(elements: int) -> dict:
        return {"runs": FEEDBACK_RUNS, "steps": [at_step(share) for share in FEEDBACK_SHARES]}

    return row


def tiny() -> Ground:
    """Digits of 3×3 pixels, 1 → 2 channels → 6 invariant features → 10, under all shifts: a stationary point."""
    group, train = torus(3), 100
    pixels, one = images(group, 3), trivial(group)
    network = mlp([1 * pixels, 2 * pixels, 6 * one, 10 * one], [Pointwise("tanh"), Pointwise("tanh"), Identity()])
    samples, test = prepare(digits(3, train + 1000, 0), train, TaskOptions())
    model = Classifier(network, cross_entropy)
    return find(supervised(TINY, model, samples, test, 3e-3), 0)


def lowest_row(ground: Ground, mode: str) -> Callable[[int], dict]:
    """λ_min on E⊥ of ∇²R_K by K, its limit, and the bound from the limit's eigenspace."""
    problem, space, at = ground.problem, ground.problem.space, ground.at
    on_e = space.embed(torch.eye(space.dim_equivariant, dtype=torch.float64))
    perp = torch.linalg.qr(torch.cat([on_e.mT, torch.eye(space.dim, dtype=torch.float64)], 1))[0][:, len(on_e) :]
    parts = batches(problem, mode, batch_of(problem))
    hessians = torch.stack(
        [
            torch.stack([perp.mT @ assemble(_hessian(problem, at, one), at) @ perp for one in moved(problem, part)])
            for part in parts
        ]
    )
    hessians += problem.weight_decay / len(parts) * torch.eye(perp.shape[1], dtype=torch.float64)
    values, vectors = torch.linalg.eigh(hessians.mean(1).sum(0))
    within = vectors[:, values <= values[0] + 1e-8 * float(values.abs().max())]

    def row(elements: int) -> dict:
        found, bounds = lowest(hessians, elements, DRAWS["lowest"], np.random.default_rng(elements), within)
        return {
            **averaged(found),
            "law": float(values[0]),
            "least": float(found.min()),
            "most": float(found.max()),
            "bound": float(bounds.mean()),
            "multiplicity": within.shape[1],
        }

    return row


# What one part measures: (point, mode) ↦ (K ↦ row), and for which K.
ROWS: dict[str, tuple[Callable[[Ground, str], Callable[[int], dict]], tuple[int, ...]]] = {
    "gradient": (gradient_row, COUNTS),
    "hessian": (hessian_row, COUNTS),
    "drift": (drift_row, DRIFT_COUNTS),
    "feedback": (feedback_row, (1,)),
    "lowest": (lowest_row, LOWEST_COUNTS),
}


def compute(rows: Rows, parts: Sequence[str], tasks: Sequence[str]) -> None:
    """Whatever is missing, one point, part, mode and K after the other."""
    jobs: list[tuple[str, Callable[[], Ground], str]] = [
        (c.label, c.ground, part)
        for c in CASES
        if c.task in tasks
        for part in parts
        if part != "lowest" and (part != "feedback" or c.task == "perm")
    ]
    jobs += [(TINY, tiny, part) for part in parts if "tiny" in tasks]
    grounds: dict[str, Ground] = {}
    for label, make, part in tqdm(jobs, desc="augmentation", disable=None):
        prepare_row, counts = ROWS[part]
        for mode in MODES:
            key = {"part": part, "label": label, "mode": mode}
            missing = [k for k in counts if not rows.has(**key, elements=k)]
            if not missing:
                continue
            if label not in grounds:
                grounds = {label: make()}
            if part == "hessian" and pieces(grounds[label].problem, mode) > MOST_HESSIANS:
                continue
            row = prepare_row(grounds[label], mode)
            for elements in missing:
                rows.add({**key, "elements": elements, **row(elements)})
    order = [c.label for c in CASES] + [TINY]
    rows.rows.sort(key=lambda r: (PARTS.index(r["part"]), order.index(r["label"]), r["mode"], r["elements"]))


def pieces(problem: Problem, mode: str) -> int:
    """Different Hessians of moved data."""
    return problem.group.order * (BATCHES if mode == "mini-batch" else 1)


def errors_off(row: dict) -> float:
    """(measured − law) in standard errors, where draws differ by more than rounding (one g a pass, K = 1: never)."""
    return (row["measured"] - row["law"]) / max(row["standard_error"], 1e-10 * row["law"])
