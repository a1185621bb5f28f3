r"""Remark 1: what changes when R^aug is sampled with K Haar elements instead of averaged over all of G?

    python -m analyses.augmentation [--parts gradient hessian drift feedback lowest] [--tasks perm trans rot tiny]

The data is cut into mini-batches, R = Σ_b R_b (+ decay), and K passes move mini-batch b of pass k by its own Haar
element, drawn with replacement: R_K = (1/K) Σ_k Σ_b R_b(ρ̄(g_{kb})^{-1}·). At A in E, with u_b = Π_{E⊥}∇R_b(A) and
H_b = ∇²R_b(A),

    E‖∇R_K − ∇R^aug‖²     = Σ_b ‖u_b‖² / K                             all of it in E⊥
    E‖∇²R_K − ∇²R^aug‖_F² = Σ_b (‖H_b‖_F² − ‖∫ρ̄(g)H_bρ̄(g)ᵀdμ‖_F²) / K
    E‖A_{E⊥}(n)‖²         = τ²/K Σ_{j<n} Σ_b ‖M_{n−1}⋯M_{j+1} u_b(A_j)‖²     to first order in 1/K

along sampled descent A_0, A_1, … from E with step τ, where M_j = 1 − τ∇²R^aug(A_j). One g a pass is the case of a
single mini-batch. λ_min is concave, so λ_min of ∇²R_K on E⊥ is in the mean too low, and less so the larger K.
docs/mathematics.md derives all of it.

* gradient: gradients of the training core against ∇R^aug.
* hessian: ∇²R_b of data moved by every g, all pairs of inner products, and from them the distance of any draw.
* drift: sampled descent against the law above.
* feedback: what the law leaves out at K = 1, as the step shrinks: beside it, sampled descent with every draw's gradient
  expanded around A, ∇R_b + ∇²R_b y + ½∇³R_b[y, y], of which the law holds ∇R_b and the mean of ∇²R_b.
* lowest: λ_min on E⊥ of ∇²R_K, for digits of 3×3 pixels ("tiny"), where a draw takes milliseconds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
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
    find,
    finish,
    prepare_folder,
    table,
)
from stability.curvature import Operator, assemble, augmented_hessian_from_group, linearise
from stability.data import digits
from stability.errors import BadInput
from stability.groups import images, torus, trivial
from stability.networks import Classifier, Identity, Pointwise, cross_entropy, mlp, supervised
from stability.problem import Problem, Samples
from stability.tasks.options import TaskOptions, prepare
from stability.training import (
    descend,
    draw_elements,
    draws,
    equivariant,
    exact_augmentation,
    sampled_augmentation,
)

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
COLUMNS = 64
# Standard errors within which a mean of draws agrees with a law.
AGREES = 3.5


# ------------------------------------------------------------------ the laws: K times a mean squared distance


def batches(problem: Problem, mode: str, batch: int) -> list[Samples]:
    """The pieces of the data that are moved together."""
    return list(problem.samples.chunks(len(problem.samples) if mode == "pass" else batch))


def spread(problem: Problem, at: Tensor, mode: str, batch: int) -> Tensor:
    """Rows u_b = Π_{E⊥}∇R_b(A), (B, dim L)."""
    return problem.space.transverse_part(
        torch.stack([grad(problem.loss)(at, p) for p in batches(problem, mode, batch)])
    )


def gradient_law(problem: Problem, at: Tensor, mode: str, batch: int) -> float:
    """Σ_b ‖u_b‖² at A in E: |G| gradients are not needed."""
    return float(spread(problem, at, mode, batch).square().sum())


def hessian_law(problem: Problem, at: Tensor, mode: str, batch: int) -> float:
    """Σ_b (‖H_b‖_F² − ‖∫ρ̄H_bρ̄ᵀ‖_F²) at A in E, from nominal Hessians and ρ̄, column by column."""
    total = 0.0
    for part in batches(problem, mode, batch):
        nominal = _hessian(problem, at, part)
        averaged = augmented_hessian_from_group(problem, nominal)
        for unit in unit_vectors(at):
            total += float(nominal(unit).square().sum() - averaged(unit).square().sum())
    return total


def unit_vectors(like: Tensor) -> Iterator[Tensor]:
    """The unit vectors of L as rows, ``COLUMNS`` at a time."""
    for start in range(0, len(like), COLUMNS):
        unit = torch.zeros(min(COLUMNS, len(like) - start), len(like), dtype=like.dtype)
        unit[torch.arange(len(unit)), torch.arange(start, start + len(unit))] = 1.0
        yield unit


def _hessian(problem: Problem, at: Tensor, part: Samples) -> Operator:
    width = max(max(layer.shape) for layer in problem.space.layers)
    return linearise(problem.loss, at, part, 0.0, "∇²R of a mini-batch", 4096, width)


def drift_law(problem: Problem, start: Tensor, step: float, epochs: int, mode: str, batch: int) -> np.ndarray:
    """K·E‖A_{E⊥}‖² after 0 … ``epochs`` steps of sampled descent from A_0 in E, to first order in 1/K."""
    data, width = problem.augmented(), max(max(layer.shape) for layer in problem.space.layers)
    along = equivariant(problem)
    at, rows, values = start.clone(), start.new_zeros(0, len(start)), [0.0]
    for _ in tqdm(range(epochs), desc="law of the drift", disable=None, leave=False):
        if len(rows):
            hessian = linearise(problem.loss, at, data, problem.weight_decay, "∇²R^aug", 512, width)
            rows = rows - step * problem.space.transverse_part(hessian(rows))
        rows = torch.cat([rows, spread(problem, at, mode, batch)])
        at = at - step * along(at, np.random.default_rng(0))
        values.append(step**2 * float(rows.square().sum()))
    return np.array(values)


# ------------------------------------------------------------------------------------------------ measurements


def moved(problem: Problem, part: Samples) -> Iterator[Samples]:
    """A mini-batch moved by one element of G after the other, weights as they were."""
    return (problem.transform(g, part) for g in problem.group.elements())


def gram(problem: Problem, at: Tensor, mode: str, batch: int) -> np.ndarray:
    """⟨D_{bg}, D_{ch}⟩_F, (B, |G|, B, |G|), where D_{bg} is ∇²R_b of data moved by g minus its mean over g.

    From moved data alone, at any A: no ρ̄ enters. Columns are made and multiplied piece by piece.
    """
    parts = batches(problem, mode, batch)
    operators = [[_hessian(problem, at, one) for one in moved(problem, part)] for part in parts]
    count, order = len(parts), problem.group.order
    total = torch.zeros(count * order, count * order, dtype=at.dtype)
    for unit in tqdm(list(unit_vectors(at)), desc="Hessians of moved data", disable=None, leave=False):
        columns = torch.stack([torch.stack([h(unit) for h in row]) for row in operators])
        columns -= columns.mean(1, keepdim=True)
        flat = columns.reshape(count * order, -1)
        total += flat @ flat.mT
    return total.reshape(count, order, count, order).numpy()


def draw_shares(order: int, pieces: int, elements: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """The share of each element among the K that each piece of the data drew, (draws, pieces, |G|)."""
    return rng.multinomial(elements, np.full(order, 1 / order), size=(draws, pieces)) / elements


def squared_distances(products: np.ndarray, elements: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """‖X_K − E X_K‖² of so many draws of K elements, from the inner products of :func:`gram`."""
    pieces, order = products.shape[:2]
    share = draw_shares(order, pieces, elements, draws, rng).reshape(draws, -1)
    return ((share @ products.reshape(pieces * order, -1)) * share).sum(1)


def gradient_distances(
    problem: Problem, at: Tensor, elements: int, mode: str, batch: int, draws: int, seed: int
) -> tuple[np.ndarray, float]:
    """‖∇R_K − ∇R^aug‖² of so many gradients of the training core, and the largest share of it in E."""
    strategy = sampled_augmentation(problem, elements, len(problem.samples) if mode == "pass" else batch)
    limit, rng = exact_augmentation(problem)(at, np.random.default_rng(0)), np.random.default_rng(seed)
    away = torch.stack([strategy(at, rng) - limit for _ in range(draws)])
    inside = problem.space.project(away).norm(dim=1) / limit.norm().clamp_min(float(away.norm(dim=1).max()))
    return away.square().sum(1).numpy(), float(inside.max())


def drifts(
    problem: Problem, start: Tensor, step: float, epochs: int, elements: int, mode: str, batch: int, runs: int
) -> np.ndarray:
    """‖A_{E⊥}‖² along so many runs of sampled descent, (runs, epochs + 1)."""
    strategy = sampled_augmentation(problem, elements, len(problem.samples) if mode == "pass" else batch)
    found = [
        descend(problem, start, strategy, step, epochs, f"K = {elements}", seed=run).off_equivariance
        for run in range(runs)
    ]
    return np.square(found)


def taylor(problem: Problem, at: Tensor, part: Samples, order: int) -> Callable[[Tensor], Tensor]:
    """∇R_b(A) + ∇²R_b(A)y + ½∇³R_b(A)[y, y] for rows y, up to ``order`` in y, without decay."""
    gradient = grad(lambda a: problem.loss(a, part))

    def along(f: Callable[[Tensor], Tensor], a: Tensor, v: Tensor) -> Tensor:
        return jvp(f, (a,), (v,))[1]

    def one(v: Tensor) -> Tensor:
        total = gradient(at)
        if order > 0:
            total = total + along(gradient, at, v)
        if order > 1:
            total = total + along(lambda a: along(gradient, a, v), at, v) / 2
        return total

    return vmap(one, chunk_size=COLUMNS)


def expanded_drifts(
    problem: Problem, at: Tensor, step: float, epochs: int, mode: str, batch: int, runs: int, order: int
) -> np.ndarray:
    """‖A_{E⊥}‖² after ``drifts`` with K = 1 and the same draws, every draw's gradient expanded around A in E, (runs).

    y ← y − τ(Σ_b ρ̄(g_b) (∇R_b + ∇²R_b ρ̄(g_b)^{-1}y + …) + μ(A + y)), all runs at once. Order 0 is a random walk.
    """
    space, group = problem.space, problem.group
    terms = [taylor(problem, at, part, order) for part in batches(problem, mode, batch)]
    away = at.new_zeros(runs, len(at))
    for epoch in tqdm(range(epochs), desc=f"draws to order {order}", disable=None, leave=False):
        drawn = [draw_elements(group.sample, draws(run, epoch), 1, len(terms))[0] for run in range(runs)]
        total = problem.weight_decay * (at + away)
        for i, term in enumerate(terms):
            chosen = [row[i] for row in drawn]
            moved = torch.stack([space.act(group.inverse(g), y) for g, y in zip(chosen, away, strict=True)])
            total += torch.stack([space.act(g, v) for g, v in zip(chosen, term(moved), strict=True)])
        away = away - step * total
    return space.transverse_part(away).square().sum(1).numpy()


def controlled(sample: np.ndarray, control: np.ndarray, mean: float) -> np.ndarray:
    """The sample with the same mean and less noise, from a control of known mean on the same draws."""
    covariance = np.cov(sample, control)
    return sample - covariance[0, 1] / covariance[1, 1] * (control - mean)


def lowest(
    hessians: Tensor, elements: int, draws: int, rng: np.random.Generator, within: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """λ_min of so many ∇²R_K on E⊥, and on a subspace of E⊥, which bounds it from above.

    Args:
        hessians: ∇²R_b of data moved by every g, compressed to E⊥, (B, |G|, n, n).
        elements: K.
        draws: how many.
        rng: of the draws.
        within: orthonormal columns (n, p), the eigenspace of λ_min of ∇²R^aug.
    """
    pieces, order = hessians.shape[:2]
    values, bounds = [], []
    for share in torch.as_tensor(draw_shares(order, pieces, elements, draws, rng)).to(hessians):
        matrix = torch.einsum("bg,bgij->ij", share, hessians)
        values.append(float(torch.linalg.eigvalsh(matrix)[0]))
        bounds.append(float(torch.linalg.eigvalsh(within.mT @ matrix @ within)[0]))
    return np.array(values), np.array(bounds)


# --------------------------------------------------------------------------------------------------------- rows


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


# ------------------------------------------------------------------------------------------------------- output


def errors_off(row: dict) -> float:
    """(measured − law) in standard errors, where draws differ by more than rounding (one g a pass, K = 1: never)."""
    return (row["measured"] - row["law"]) / max(row["standard_error"], 1e-10 * row["law"])


def draw(rows: Sequence[dict]) -> Figure:
    """Squared distances and drift over K with their laws; below, measured over law, drift over steps, λ_min."""
    figure = Figure(figsize=(13, 8), layout="constrained")
    (gradients, hessians, drift), (ratios, epochs, least) = figure.subplots(2, 3)
    labels = list(dict.fromkeys(r["label"] for r in rows if r["part"] != "lowest"))
    panels = {
        "gradient": (gradients, r"$\|\nabla R_K - \nabla R^{\mathrm{aug}}\|^2$", lambda r, v: v),
        "hessian": (hessians, r"$\|\nabla^2 R_K - \nabla^2 R^{\mathrm{aug}}\|_F^2$", lambda r, v: v),
        "drift": (drift, r"rms $\|A_{E^\perp}\|/\|A\|$" + f" after {EPOCHS} steps", lambda r, v: v**0.5 / r["norm"]),
    }
    for part, (axes, text, scale) in panels.items():
        for i, label in enumerate(labels):
            for mode, face in zip(MODES, ("none", "0.6"), strict=True):
                chosen = [r for r in rows if (r["part"], r["label"], r["mode"]) == (part, label, mode)]
                if not chosen:
                    continue
                counts = [r["elements"] for r in chosen]
                axes.loglog(counts, [scale(r, r["law"]) for r in chosen], **STYLES[i], linewidth=1)
                axes.loglog(
                    counts,
                    [scale(r, r["measured"]) for r in chosen],
                    MARKERS[i],
                    color=STYLES[i]["color"],
                    markerfacecolor=face,
                    label=f"{label}, one g a {mode}" if part == "gradient" else None,
                )
        axes.set_xlabel("K, Haar elements")
        axes.set_ylabel(text)
        axes.set_visible(bool(axes.lines))
    if labels:
        gradients.plot([], [], color="0.3", linewidth=1, label="lines: exact law (drift: first order)")
        gradients.set_ylim(bottom=gradients.get_ylim()[0] * 1e-5)
        gradients.legend(fontsize="x-small", loc="lower left")
    for i, part in enumerate(panels):
        chosen = [r for r in rows if r["part"] == part]
        ratios.errorbar(
            [r["elements"] * 1.12 ** (i - 1 + 0.2 * labels.index(r["label"])) for r in chosen],
            [r["measured"] / r["law"] for r in chosen],
            [2 * r["standard_error"] / r["law"] for r in chosen],
            fmt=MARKERS[i],
            color=STYLES[i]["color"],
            markerfacecolor="none",
            markersize=4,
            linewidth=0.8,
            label=part,
        )
    ratios.set_visible(bool(labels))
    ratios.axhline(1, color="black", linewidth=1)
    ratios.set_xscale("log")
    ratios.set_xlabel("K, Haar elements")
    ratios.set_ylabel("measured / law, with two standard errors")
    ratios.legend(fontsize="x-small")
    _over_epochs(epochs, [r for r in rows if r["part"] == "drift"], labels)
    _lowest(least, [r for r in rows if r["part"] == "lowest"])
    return figure


def _over_epochs(axes, rows: Sequence[dict], labels: Sequence[str]) -> None:
    for i, label in enumerate(labels):
        chosen = [r for r in rows if r["label"] == label and r["mode"] == "mini-batch"]
        if not chosen:
            continue
        row = min(chosen, key=lambda r: abs(r["elements"] - 16))
        measured, law = (np.sqrt(row[k]) / row["norm"] for k in ("mean_by_epoch", "law_by_epoch"))
        axes.plot(law, **STYLES[i], label=f"{label}, K = {row['elements']}")
        shown = np.arange(0, len(measured), 4)
        axes.plot(shown, measured[shown], MARKERS[i], color=STYLES[i]["color"], markerfacecolor="none")
    axes.set_xlabel("steps of sampled descent")
    axes.set_ylabel(r"rms $\|A_{E^\perp}\|/\|A\|$, one g a mini-batch")
    axes.set_visible(bool(rows))
    if rows:
        axes.legend(fontsize="x-small")


def _lowest(axes, rows: Sequence[dict]) -> None:
    axes.set_visible(bool(rows))
    for i, mode in enumerate(MODES):
        chosen = [r for r in rows if r["mode"] == mode]
        if not chosen:
            continue
        counts = [r["elements"] for r in chosen]
        style = STYLES[i]
        axes.fill_between(
            counts, *([r[k] for r in chosen] for k in ("least", "most")), color=style["color"], alpha=0.15
        )
        axes.plot(counts, [r["measured"] for r in chosen], **style, marker=MARKERS[i], label=f"one g a {mode}")
        axes.plot(counts, [r["bound"] for r in chosen], color=style["color"], linestyle=":", linewidth=1)
    if rows:
        axes.axhline(rows[0]["law"], color="0.4", linewidth=1, label="limit, exact Haar average")
        axes.plot([], [], color="0.4", linestyle=":", label="upper bound from the limit's eigenspace")
        axes.axhline(0, color="black", linewidth=1.5)
        axes.set_xscale("log")
        axes.legend(fontsize="x-small")
        axes.set_title(rows[0]["label"], fontsize="medium")
    axes.set_xlabel("K, Haar elements")
    axes.set_ylabel(r"$\lambda_{\min}$ of $\nabla^2 R_K$ on $E^\perp$ (mean, range)")


CAPTION = (
    "Upper row: squared distance of the gradient and of the Hessian to the Haar limit, and how far sampled descent "
    "has drifted off E, over the number K of elements drawn; hollow: one g moves the whole pass, filled: every "
    "mini-batch has its own. Lines are the laws, markers are means of draws. Lower row: all means over their laws; "
    "the drift along descent; λ_min on E⊥ of the sampled Hessian, mean and range of the draws, against the Haar "
    "limit."
)


def section(rows: Sequence[dict]) -> Section:
    """Words from the rows."""
    said, finding = [], ""
    exact = [r for r in rows if r["part"] in ("gradient", "hessian")]
    if exact:
        off = [r for r in exact if abs(errors_off(r)) > AGREES]
        worst = max(exact, key=lambda r: abs(errors_off(r)))
        inside = max((r["share_in_E"] for r in exact if "share_in_E" in r), default=0.0)
        counts = sorted({r["elements"] for r in exact})
        said.append(
            f"Squared distances at {len({r['label'] for r in exact})} points, K from {counts[0]} to {counts[-1]:,}, "
            f"one g a pass and one g a mini-batch ({BATCHES} of them): {len(exact) - len(off)} of {len(exact)} means "
            f"agree with the exact law within {AGREES} standard errors; the one furthest off is "
            f"{errors_off(worst):+.1f} errors away ({worst['part']}, {worst['label']}, one g a {worst['mode']}, K = "
            f"{worst['elements']:,}: {worst['measured']:.4g} against {worst['law']:.4g}). The part of the gradient's "
            f"noise in E is {inside:.0e} of it, rounding."
        )
        finding = (
            f"{len(exact) - len(off)} of {len(exact)} squared distances to the Haar limit lie within {AGREES} "
            "standard errors of the exact 1/K laws."
        )
        gains = []
        for part in ("gradient", "hessian"):
            for label in dict.fromkeys(r["label"] for r in exact):
                law = {r["mode"]: r["law"] * r["elements"] for r in exact if r["part"] == part and r["label"] == label}
                if len(law) == 2 and law["mini-batch"] > 0:
                    gains.append(f"{part}, {label}: {law['pass'] / law['mini-batch']:.3g}")
        said.append(
            f"Moving each of {BATCHES} mini-batches by its own g instead of the whole pass by one divides the "
            f"squared distance by {'; '.join(gains)}."
        )
    drift = [r for r in rows if r["part"] == "drift"]
    if drift:
        ratios = {k: [(r["measured"] / r["law"]) for r in drift if r["elements"] == k] for k in DRIFT_COUNTS}
        listed = ", ".join(f"{min(v):.2f} to {max(v):.2f} at K = {k}" for k, v in ratios.items() if v)
        off = [r for r in drift if abs(errors_off(r)) > AGREES]
        said.append(
            f"Drift off E after {EPOCHS} steps of {STEP_SHARE} of the critical step, mean ‖A_{{E⊥}}‖² of "
            f"{DRAWS['drift']} runs over its law: {listed}; {len(drift) - len(off)} of {len(drift)} within {AGREES} "
            "standard errors."
            + "".join(
                f" Off: {r['label']}, one g a {r['mode']}, K = {r['elements']}, {errors_off(r):+.1f}." for r in off
            )
        )
    if feedback := [r for r in rows if r["part"] == "feedback"]:
        said.append(_said_of_feedback(feedback))
    least = [r for r in rows if r["part"] == "lowest"]
    if least:
        said.append(_said_of_lowest(least))
    return Section(
        title="How many group elements stand for the whole group",
        expected="At A in E a pass with g has gradient ρ̄(g)∇R and Hessian ρ̄(g)∇²Rρ̄(g)ᵀ, so their means over K "
        "draws are at squared distance ‖Π_{E⊥}∇R‖²/K and (‖∇²R‖² − ‖∇²R^aug‖²)/K from the Haar limit, and the "
        "gradient's noise lies in E⊥ alone. With one g a mini-batch the mini-batches' noises add up as squares: Σ_b "
        "‖Π_{E⊥}∇R_b‖²/K. That is up to B times less than with one g a pass where B mini-batches pull the same "
        "way, and more where they cancel, as at a minimum of R itself.\n\n"
        "Sampled descent from E gathers this noise, shaped by 1 − τ∇²R^aug. To first order in 1/K, that is: a draw's "
        "own ∇²R acts on what earlier draws have moved, and higher derivatives on its square. λ_min is a concave "
        "function of the matrix, so sampling makes λ_min on E⊥ too low in the mean, by less with every element more; "
        "where its eigenspace has several dimensions the first correction is of order 1/√K.",
        measured="\n\n".join(said),
        means="Finite augmentation does not move E's stationary points: the gradient's component in E is exact for "
        "every draw. It pushes the weights off E, at a rate known beforehand from one gradient a mini-batch, and it "
        "makes the landscape around E look less stable than it is: a spectrum of a sampled R^aug overstates "
        "instability, never in the mean understates it. Giving every mini-batch an element of its own costs nothing "
        "and helps as far as mini-batches agree.",
        finding=finding,
    )


def _said_of_feedback(rows: Sequence[dict]) -> str:
    def ratio(step: dict, key: str | None = None) -> str:
        of = step[key] if key else step
        return f"{of['measured'] / step['law']:.3f} ± {of['standard_error'] / step['law']:.3f}"

    parts = []
    for r in rows:
        ratios = "; ".join(
            f"{s['share']:g}: {ratio(s)} (to first order {ratio(s, 'linear')}, to second {ratio(s, 'quadratic')})"
            for s in r["steps"]
        )
        parts.append(f"{r['label']}, one g a {r['mode']}, at shares of the critical step of {ratios}.")
    return (
        f"What the law leaves out at K = 1: mean ‖A_{{E⊥}}‖² of {rows[0]['runs']} runs after {EPOCHS} steps over the "
        "law, a random walk on the same draws as control; in brackets the same for gradients expanded around A. "
        + " ".join(parts)
        + " "
        + _why(rows)
    )


def _why(rows: Sequence[dict]) -> str:
    """What becomes of the excess over the law as the step shrinks, and how much of it an expansion explains."""
    said = []
    for r in rows:
        shares = np.array([s["share"] for s in r["steps"]])
        excess = np.array([s["measured"] / s["law"] - 1 for s in r["steps"]])
        errors = np.array([s["standard_error"] / s["law"] for s in r["steps"]])
        if excess[0] <= AGREES * errors[0]:
            continue
        named = f"the excess of {excess[0]:.0%} (one g a {r['mode']})"
        if excess[-1] > excess[0] * shares[-1] / shares[0] + AGREES * errors[-1]:
            said.append(f"{named} does not vanish with the step")
            continue
        clear = excess > 2 * errors
        order = np.polyfit(np.log(shares[clear]), np.log(excess[clear]), 1)[0] if clear.sum() > 1 else float("nan")
        first, last = r["steps"][0], r["steps"][-1]
        left = {k: [s["left"][k]["measured"] / s["law"] for s in (first, last)] for k in first["left"]}
        said.append(
            f"{named} falls like τ^{order:.1f}, to {excess[-1]:.1%}. Of the drift, gradients of every draw expanded "
            + " and ".join(
                f"to {name} order leave {left[k][0]:+.1%} at the longest step, {left[k][1]:+.1%} at the shortest"
                for k, name in (("linear", "first"), ("quadratic", "second"))
            )
        )
    return f"So {'; '.join(said)}." if said else "No excess is seen."


def _said_of_lowest(rows: Sequence[dict]) -> str:
    parts = []
    for mode in MODES:
        chosen = sorted((r for r in rows if r["mode"] == mode), key=lambda r: r["elements"])
        limit = chosen[0]["law"]
        below = sum(r["measured"] <= limit + 3 * r["standard_error"] for r in chosen)
        gaps = {r["elements"]: limit - r["measured"] for r in chosen}
        tail = [r for r in chosen if r["elements"] >= 64]
        rate = float(
            np.polyfit(np.log([r["elements"] for r in tail]), np.log([gaps[r["elements"]] for r in tail]), 1)[0]
        )
        rises = sum(b["measured"] >= a["measured"] for a, b in zip(chosen[:-1], chosen[1:], strict=True))
        parts.append(
            f"one g a {mode}: {chosen[0]['measured']:.4g} at K = {chosen[0]['elements']}, "
            f"{chosen[-1]['measured']:.4g} at K = {chosen[-1]['elements']:,}, below the limit at {below} of "
            f"{len(chosen)} K, rising in {rises} of {len(chosen) - 1} steps; the gap falls like K^{rate:.2f} from K "
            f"= {tail[0]['elements']}"
        )
    return (
        f"λ_min on E⊥ for {rows[0]['label']}, limit {rows[0]['law']:.4g} with an eigenspace of "
        f"{rows[0]['multiplicity']} dimensions: " + "; ".join(parts) + "."
    )


def tables(rows: Sequence[dict]) -> list[dict]:
    """Distances, drift, λ_min."""
    header = ["point", "one g a", "K", "measured", "standard error", "law", "off by, in standard errors"]
    titles = {
        "gradient": f"‖∇R_K − ∇R^aug‖², means of {DRAWS['gradient']} gradients of the training core",
        "hessian": f"‖∇²R_K − ∇²R^aug‖_F², means of {DRAWS['hessian']} draws",
        "drift": f"‖A_{{E⊥}}‖² after {EPOCHS} steps, means of {DRAWS['drift']} runs",
    }
    found = []
    for part, title in titles.items():
        listed = [
            [r["label"], r["mode"], r["elements"], r["measured"], r["standard_error"], r["law"], errors_off(r)]
            for r in rows
            if r["part"] == part
        ]
        found.append(table(title, header, listed))
    least = [
        [
            r["label"],
            r["mode"],
            r["elements"],
            r["measured"],
            r["standard_error"],
            r["least"],
            r["most"],
            r["bound"],
            r["law"],
        ]
        for r in rows
        if r["part"] == "lowest"
    ]
    header = ["point", "one g a", "share of the critical step", "measured / law", "standard error", "to first order"]
    header += ["standard error", "to second order", "standard error"]
    feedback = [
        [r["label"], r["mode"], s["share"]]
        + [of[k] / s["law"] for of in (s, s["linear"], s["quadratic"]) for k in ("measured", "standard_error")]
        for r in rows
        if r["part"] == "feedback"
        for s in r["steps"]
    ]
    found.append(table(f"Drift over its law at K = 1, means of {FEEDBACK_RUNS} runs", header, feedback))
    header = ["point", "one g a", "K", "mean", "standard error", "least", "most", "upper bound", "limit"]
    return [*found, table(f"λ_min of ∇²R_K on E⊥, {DRAWS['lowest']} draws", header, least)]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tasks = [*(c.task for c in CASES), "tiny"]
    parser.add_argument(
        "--parts", nargs="*", default=list(PARTS), help=f"of {', '.join(PARTS)}; none: only words and picture"
    )
    parser.add_argument("--tasks", nargs="+", default=tasks, choices=tasks)
    parser.add_argument("--out", type=Path, default=Path("reports/augmentation"))
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        raise BadInput(f"--parts {' '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    folder = prepare_folder(options.out)
    rows = Rows(folder / "augmentation.json", {"batches": BATCHES, "draws": DRAWS, "epochs": EPOCHS})
    compute(rows, options.parts, options.tasks)
    said = section(rows.rows)
    finish(folder, "augmentation", rows, draw(rows.rows), said, tables(rows.rows), CAPTION)
    print(said.measured)


if __name__ == "__main__":
    sys.exit(command(main))
