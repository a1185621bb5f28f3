r"""How augmented training leaves E, how fast, where it ends, and what a long step changes.

    python -m analyses.dynamics [--parts flow mode end discrete descent] [--out reports/dynamics]

* flow: from an equivariant stationary point A plus a small push ε v along a mode v ∈ E⊥ of ∇²R^aug(A), exact augmented
  descent with a step well below 2/λ_max on E and on E⊥. To first order ẏ = −∇²R^aug(A) y on E⊥, so
  ‖A_{E⊥}(t)‖ = ε e^{−λt}: growth where λ < 0, decay where λ > 0. The rate is fitted where the prediction is at least
  three factors e long; the prediction has stopped where it is off by a tenth. The flow keeps the stabiliser of v, so
  the gradient is taken from one element of every coset.
* mode: how many sectors share the leading eigenvalue, and what its mode does to predictions.
* end: the instability followed to its end by L-BFGS on R^aug: risk, accuracy, the elements that still fix A and Φ,
  and the spectrum of ∇²R^aug there, off E. Once freely, and once among the weights that the push's stabiliser fixes,
  which exact arithmetic would never leave.
* discrete: steps on both sides of 2/λ_max(E) and 2/λ_max(E⊥); a deviation along the top mode changes by 1 − τλ a
  step.
* descent: AUG and EQUI training side by side with a step between the two critical steps, started in E near the point:
  rounding alone takes AUG out of E where 2/λ_max(E⊥) is the smaller one.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.func import jvp
from tqdm import tqdm

from analyses.shared import (
    MARKERS,
    STYLES,
    Case,
    Figure,
    Ground,
    Mode,
    Rows,
    Section,
    accuracies,
    command,
    finish,
    prepare_folder,
    slope,
    stabiliser,
    table,
)
from stability import sectors
from stability.curvature import assemble, linearise
from stability.eigen import dense_spectrum, lanczos, lanczos_spectrum
from stability.errors import BadInput
from stability.groups import PermutationGroup, Symmetric
from stability.pooled import hessian_on_e
from stability.problem import Problem, Samples
from stability.training import (
    descend,
    equivariant,
    exact_augmentation,
    exact_augmentation_within,
    minimise_augmented,
)

PARTS = ("flow", "mode", "end", "discrete", "descent")
STEP_SHARE, FLOW_SHARE = 0.2, 0.005
POINTS = 150
# The prediction has stopped where it is off by more.
STOPPED = 0.1
LINEAR_FOLDS = 3.1
DENSE_END = 4500
LANCZOS_STEPS = 300
# Relative to ‖A_{E⊥}‖ and to max |Φ|: an element that moves A or Φ by less keeps it.
KEEPS = 1e-3
# ‖∇R^aug‖ of an end that has arrived.
SETTLED = 1e-6


@dataclass(frozen=True)
class Flow:
    """A point, the least eigenvalue of the mode (None: the lowest mode), the push and the factors e followed."""

    case: Case
    least: float | None
    push: float
    folds: float


FLOWS = (
    Flow(Case("counterexample"), None, 1e-4, 10.0),
    Flow(Case("counterexample-twin"), None, 1e-4, 5.0),
    Flow(Case("perm", 1, 40, 1e-2), None, 1e-4, 10.0),
    Flow(Case("perm", 1, 40, 1e-2), None, 1e-3, 8.0),
    Flow(Case("perm", 0, 40, 2e-2), 1e-2, 1e-4, 4.0),
    # A mode that decays at a point that is unstable along others.
    Flow(Case("trans", 0, 100), 1.0, 1e-4, 4.0),
    # Small pushes: E is nearly flat along some directions here, and the square of the deviation moves A along them.
    Flow(Case("trans", 0, 100), None, 1e-5, LINEAR_FOLDS),
    Flow(Case("rot", 0, 40), 1e-2, 1e-4, 4.0),
    Flow(Case("rot", 1, 40), None, 1e-6, LINEAR_FOLDS),
)
MODES = (Case("counterexample"), Case("perm", 1, 40, 1e-2), Case("trans", 0, 100))
# Digits at a larger decay too: on digits L-BFGS does not arrive in the iterations it is given, only comes near.
ENDS = (Case("counterexample"), Case("perm", 1, 40, 1e-2), Case("trans", 0, 100, 1e-2))
# How an end is looked for: along one partner, along a random mixture, along one partner and keeping its stabiliser.
WAYS = ("one partner", "mixture", "keeping the symmetry")
# Steps of AUG and EQUI side by side, from a point of E this far from the stationary one, relative to ‖A‖.
DESCENT_STEPS, DESCENT_START = 120, 1e-3
DISCRETE = (Case("trans", 0, 100), Case("perm", 0, 40, 2e-2))


# -------------------------------------------------------------------------------------------------------- flow


def flow(ground: Ground, mode: Mode, push: float, folds: float) -> dict:
    """‖A_{E⊥}‖ along exact augmented flow from A + push·‖A‖·v, against e^{−λt}.

    Raises:
        BadInput: a mode that neither grows nor decays.
    """
    problem = ground.problem
    if mode.value == 0:
        raise BadInput(f"{problem.name}: the mode has eigenvalue zero; give one that grows or decays")
    top = max(ground.top_on_e, ground.highest.value, abs(mode.value))
    step = min(STEP_SHARE * 2 / top, FLOW_SHARE / abs(mode.value))
    epochs = math.ceil(folds / abs(mode.value) / step)
    start = push * float(ground.at.norm())
    fixing = stabiliser(problem, mode.direction)
    strategy = exact_augmentation_within(problem, fixing)
    kept = np.unique(np.linspace(0, epochs, POINTS + 1).round().astype(int))
    pushed, name = ground.at + start * mode.direction, f"λ = {mode.value:.3g}"
    run = descend(problem, pushed, strategy, step, epochs, name, record=set(kept.tolist()))
    times, off = kept * step, np.array(run.off_equivariance)
    predicted = start * np.exp(-mode.value * times)
    return {
        "push": push,
        "norm": float(ground.at.norm()),
        "irrep": mode.irrep,
        "fixed_by": len(fixing),
        "eigenvalue": mode.value,
        "step": step,
        "critical_step": {"E": 2 / ground.top_on_e, "E_perp": 2 / ground.highest.value}
        if ground.highest.value > 0
        else {"E": 2 / ground.top_on_e, "E_perp": None},
        "epochs": epochs,
        "times": times.tolist(),
        "off_equivariance": off.tolist(),
        "predicted": predicted.tolist(),
        **rates(times, off, mode.value),
        **stops(times, off, predicted, float(ground.at.norm())),
    }


def rates(times: np.ndarray, off: np.ndarray, eigenvalue: float) -> dict:
    """The slope of log‖A_{E⊥}‖ over the first three factors e and a little more, against −λ."""
    linear = times <= LINEAR_FOLDS / abs(eigenvalue) * (1 + 1e-9)
    measured = slope(times[linear], off[linear])
    return {
        "folds_fitted": float(times[linear][-1] * abs(eigenvalue)),
        "rate_predicted": -eigenvalue,
        "rate_measured": measured,
        "relative_error": abs(measured + eigenvalue) / abs(eigenvalue),
    }


def stops(times: np.ndarray, off: np.ndarray, predicted: np.ndarray, norm: float) -> dict:
    """When, and at which ‖A_{E⊥}‖/‖A‖, the prediction is first off by a tenth; None if it never is."""
    wrong = np.flatnonzero(np.abs(off / predicted - 1) > STOPPED)
    if not len(wrong):
        return {"stops_at_time": None, "stops_at": None}
    return {"stops_at_time": float(times[wrong[0]]), "stops_at": float(off[wrong[0]] / norm)}


# -------------------------------------------------------------------------------------------------------- mode


def mode_facts(ground: Ground, seed: int = 0) -> dict:
    """Which sectors share λ_min on E⊥, and how much its mode v changes predictions to first order.

    rms |dΦ_A(x)[v]| over the augmented data, beside that of a random direction of E⊥: where it is zero the curvature
    comes from second derivatives of σ and of products of layers alone, which no loss that is convex in Φ can prevent.
    """
    problem, mode = ground.problem, ground.lowest
    data = problem.augmented()
    noise = torch.randn(len(ground.at), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    noise = problem.space.transverse_part(noise.to(ground.at))

    def change(v: Tensor) -> float:
        moved = jvp(lambda a: problem.model.predict(a, data.x), (ground.at,), (v,))[1]
        return float((data.weight @ moved.square().sum(-1)).sqrt())

    return {
        "eigenvalue": mode.value,
        "shared_by": ground.sharing(mode.value),
        "sectors": len(ground.blocks),
        "first_order": change(mode.direction),
        "first_order_random": change(noise / noise.norm()),
        "distinct_units": distinct_units(ground, data, seed),
        "mass_by_layer": [float(w.square().sum()) for w in problem.space.split(mode.direction)],
    }


def distinct_units(ground: Ground, data: Samples, seed: int) -> list[list[int]]:
    """(different pre-activations, units) of every hidden layer: units with equal inputs on all data count once.

    Two units are told apart by their inner products with one random vector over the data.
    """
    network, counts = ground.problem.model.network, []
    probe = torch.randn(len(data), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    with torch.no_grad():
        for z in network.preactivations(ground.at, data.x)[:-1]:
            marks, _ = (probe.to(z) @ z).sort()
            same = 1e-9 * float(z.norm(dim=0).max() * probe.norm())
            counts.append([1 + int((marks.diff() > same).sum()), z.shape[1]])
    return counts


# --------------------------------------------------------------------------------------------------------- end


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


# ---------------------------------------------------------------------------------------------------- discrete


def discrete(ground: Ground, steps: int = 6, push: float = 1e-8) -> list[dict]:
    """Exact augmented descent from the top modes of E and E⊥ at steps below, between and above the critical steps.

    The factor is the median over steps of |change of the deviation along the mode|, against |1 − τλ|.
    """
    problem = ground.problem
    values, vectors = torch.linalg.eigh(assemble(hessian_on_e(problem, ground.point.theta), ground.point.theta))
    tops = {
        "E": Mode("trivial", float(values[-1]), problem.space.embed(vectors[:, -1].contiguous())),
        "E_perp": ground.highest,
    }
    critical = {name: 2 / mode.value for name, mode in tops.items()}
    low, high = sorted(critical.values())
    rows = []
    for where, tau in (("below both", 0.9 * low), ("between", math.sqrt(low * high)), ("above both", 1.1 * high)):
        for name, mode in tops.items():
            start = push * float(ground.at.norm())
            track = [start]
            descend(
                problem,
                ground.at + start * mode.direction,
                exact_augmentation(problem),
                tau,
                steps,
                f"τ {where}",
                on_epoch=lambda _, a, v=mode.direction, t=track: t.append(float((a - ground.at) @ v)),
            )
            ratios = np.array(track[1:]) / np.array(track[:-1])
            rows.append(
                {
                    "where": where,
                    "step": tau,
                    "critical_step": critical,
                    "space": name,
                    "eigenvalue": mode.value,
                    "factor_predicted": 1 - tau * mode.value,
                    "factor_measured": float(np.median(ratios)),
                    "deviation": track,
                }
            )
    return rows


# ----------------------------------------------------------------------------------------------------- descent


def descent(ground: Ground, seed: int = 0) -> list[dict]:
    """AUG and EQUI from the same point of E near the stationary one, with a step between the two critical steps.

    The factor a step is fitted to ‖A_{E⊥}‖ from well above rounding to well below the weights, where AUG grows.
    """
    problem, space = ground.problem, ground.problem.space
    step = 2 / math.sqrt(ground.top_on_e * ground.highest.value)
    noise = torch.randn(space.dim_equivariant, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    norm = float(ground.at.norm())
    start = ground.at + DESCENT_START * norm * space.embed((noise / noise.norm()).to(ground.at))
    rows = []
    for name, strategy in (("AUG", exact_augmentation), ("EQUI", equivariant)):
        away = [float((start - ground.at).norm()) / norm]
        run = descend(
            problem,
            start,
            strategy(problem),
            step,
            DESCENT_STEPS,
            name,
            on_epoch=lambda _, a, t=away: t.append(float((a - ground.at).norm()) / norm),
        )
        off = np.array(run.off_equivariance) / norm
        grows = (off > 1e-13) & (off < 1e-4)
        with torch.no_grad():
            risk = float(problem.augmented_risk(run.final))
        rows.append(
            {
                "strategy": name,
                "step": step,
                "critical_step": {"E": 2 / ground.top_on_e, "E_perp": 2 / ground.highest.value},
                "off_equivariance": off.tolist(),
                "from_point": away,
                "factor_predicted": abs(1 - step * ground.highest.value),
                "factor_measured": math.exp(slope(np.flatnonzero(grows), off[grows])) if grows.sum() > 3 else None,
                "risk_start": ground.point.risk,
                "risk_end": risk,
            }
        )
    return rows


# ------------------------------------------------------------------------------------------------------ output


def draw(rows: Sequence[dict]) -> Figure:
    """Flows against e^{−λt}; factors a step against |1 − τλ|, one marked; AUG and EQUI side by side."""
    flows, jumps, races = (picked(rows, part) for part in ("flow", "discrete", "descent"))
    figure = Figure(figsize=(14, 4.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(4, 3, 3))
    _draw_flows(left, flows)
    _draw_factors(middle, jumps)
    _draw_descents(right, races)
    return figure


def _draw_flows(axes, flows: Sequence[dict]) -> None:
    for i, row in enumerate(flows):
        t, norm = np.array(row["times"]) * abs(row["eigenvalue"]), row["norm"]
        text = f"{row['label']}: λ = {row['eigenvalue']:.3g}"
        width = 1.5 if i < len(STYLES) else 3.0  # styles come round again
        off = np.array(row["off_equivariance"]) / norm
        axes.semilogy(t, off, **STYLES[i % len(STYLES)], linewidth=width, label=text)
        predicted, marker = np.array(row["predicted"])[::15] / norm, MARKERS[i % len(MARKERS)]
        axes.semilogy(t[::15], predicted, marker, color="black", markerfacecolor="none", markersize=5)
        if row["stops_at"] is not None:
            axes.plot(row["stops_at_time"] * abs(row["eigenvalue"]), row["stops_at"], "x", color="black", markersize=11)
    axes.plot(
        [], [], "o", color="black", markerfacecolor="none", label=r"markers: predicted, $\epsilon\,e^{-\lambda t}$"
    )
    axes.plot([], [], "x", color="black", markersize=9, label="prediction off by a tenth")
    axes.set_xlabel(r"flow time, in units of $1/|\lambda|$")
    axes.set_ylabel(r"$\|A_{E^\perp}\| / \|A\|$")
    axes.set_ylim(top=1e7)
    axes.legend(fontsize="x-small", loc="upper left")
    axes.set_visible(bool(flows))


def _draw_factors(axes, jumps: Sequence[dict]) -> None:
    axes.set_visible(bool(jumps))
    for marker, one in zip(MARKERS, dict.fromkeys(r["label"] for r in jumps), strict=False):
        for space, face in (("E", "none"), ("E_perp", "0.5")):
            chosen = [r for r in jumps if r["label"] == one and r["space"] == space]
            axes.loglog(
                [abs(r["factor_predicted"]) for r in chosen],
                [abs(r["factor_measured"]) for r in chosen],
                marker,
                color="black",
                markerfacecolor=face,
                markersize=7,
                label=f"{one}, top mode of {'E' if space == 'E' else 'E⊥'}",
            )
    if jumps:
        ends = [abs(r["factor_predicted"]) for r in jumps]
        axes.plot([min(ends) / 2, max(ends) * 2], [min(ends) / 2, max(ends) * 2], color="0.6", linewidth=1)
        axes.axhline(1, color="black", linewidth=1)
        axes.axvline(1, color="black", linewidth=1)
        axes.legend(fontsize="x-small", loc="upper left")
        axes.set_ylim(top=20 * max(ends))
    axes.set_xlabel(r"predicted factor a step, $|1 - \tau\lambda|$ (above 1: leaves)")
    axes.set_ylabel("measured factor a step")


def _draw_descents(axes, races: Sequence[dict]) -> None:
    axes.set_visible(bool(races))
    for i, row in enumerate(races):
        off = np.maximum(row["off_equivariance"], 1e-18)
        axes.semilogy(off, **STYLES[i % len(STYLES)], label=f"{row['strategy']}: {row['label']}")
    for row in races:
        if row["factor_measured"] is not None:
            off = np.array(row["off_equivariance"])
            first = int(np.flatnonzero(off > 1e-13)[0])
            steps = np.arange(first, int(np.flatnonzero(off > 1e-4)[0]) + 1)
            predicted = off[first] * row["factor_predicted"] ** (steps - first)
            axes.plot(steps[::5], predicted[::5], "o", color="black", markerfacecolor="none", markersize=5)
    axes.plot([], [], "o", color="black", markerfacecolor="none", label=r"predicted, $|1 - \tau\lambda_{\max}|^n$")
    axes.set_xlabel("steps of descent, step between the critical two")
    axes.set_ylabel(r"$\|A_{E^\perp}\| / \|A\|$")
    axes.set_ylim(1e-18, 1e6)
    axes.legend(fontsize="x-small", loc="upper left")


CAPTION = (
    "Left: distance from E along the exact augmented flow from a push along one mode; lines are measured, markers "
    "predicted from the eigenvalue, a cross marks where the prediction is off by a tenth. Middle: factor by which "
    "one step of descent changes a deviation along the top mode of E or E⊥, on both sides of the critical steps. "
    "Right: AUG and EQUI descent from the same point of E with a step between the two critical steps; what carries "
    "AUG off E is rounding."
)


def picked(rows: Sequence[dict], part: str) -> list[dict]:
    """Rows of one part."""
    return [r for r in rows if r["part"] == part]


def section(rows: Sequence[dict]) -> Section:
    """Words from the rows, one paragraph for each part."""
    said, means = [], []
    for part, speak in (
        ("flow", _said_of_flows),
        ("mode", _said_of_modes),
        ("end", _said_of_ends),
        ("discrete", _said_of_steps),
        ("descent", _said_of_descents),
    ):
        if chosen := picked(rows, part):
            words, meaning = speak(chosen)
            said.append(words)
            means.append(meaning)
    flows = picked(rows, "flow")
    finding = ""
    if flows:
        worst = max(r["relative_error"] for r in flows)
        finding = (
            f"Measured rates of leaving E and of returning to it differ from the eigenvalue on E⊥ by {worst:.1%} at "
            f"most, for {sum(r['eigenvalue'] < 0 for r in flows)} growing and "
            f"{sum(r['eigenvalue'] > 0 for r in flows)} decaying modes."
        )
    return Section(
        title="Leaving E",
        expected="Near a stationary point of E a deviation y in E⊥ obeys ẏ = −∇²R^aug y: a mode grows or decays like "
        "e^{−λt}, whatever happens inside E. Descent with step τ multiplies it by 1 − τλ, so it also leaves E for "
        "τ > 2/λ_max(E⊥). In exact arithmetic the flow keeps the symmetry of the push; rounding breaks what is "
        "unstable within it.",
        measured="\n\n".join(said),
        means="\n\n".join(m for m in means if m),
        finding=finding,
    )


def _said_of_flows(flows: Sequence[dict]) -> tuple[str, str]:
    worst = max(flows, key=lambda r: r["relative_error"])
    listed = "; ".join(
        f"{r['label']} ({r['irrep']}), push {r['push']:g}: −λ = {-r['eigenvalue']:.4g}, rate {r['rate_measured']:.4g}"
        for r in flows
    )
    said = (
        f"Flow. Rates of log ‖A_{{E⊥}}‖ over {min(r['folds_fitted'] for r in flows):.2g} factors e: {listed}. The "
        f"largest relative error is {worst['relative_error']:.1e}."
    )
    if stopped := [r for r in flows if r["stops_at"] is not None]:
        where = ", ".join(f"{r['stops_at']:.2g} ({r['label']}, push {r['push']:g})" for r in stopped)
        said += f" The prediction is off by a tenth where ‖A_{{E⊥}}‖/‖A‖ is {where}."
    if all(r["relative_error"] <= 0.05 for r in flows):
        return said, (
            "The eigenvalue on E⊥ is the rate at which augmented training leaves E or returns to it, until the "
            "deviation is a visible share of the weights."
        )
    return said, "Some rates are more than 5 % off the eigenvalue: the linear prediction does not hold there."


def _said_of_modes(modes: Sequence[dict]) -> tuple[str, str]:
    said = []
    for r in modes:
        units = ", ".join(f"{a} of {b}" for a, b in r["distinct_units"]) or "none"
        named = ", ".join(r["shared_by"]) if len(r["shared_by"]) <= 4 else f"{', '.join(r['shared_by'][:3])}, …"
        said.append(
            f"{r['label']}: λ_min = {r['eigenvalue']:.4g} occurs in {len(r['shared_by'])} of {r['sectors']} sectors "
            f"({named}); its mode changes predictions to first order by {r['first_order']:.1e}, a "
            f"random direction of E⊥ by {r['first_order_random']:.1e}; different hidden units by layer: {units}."
        )
    silent = [r for r in modes if r["first_order"] <= 1e-6 * r["first_order_random"]]
    if not silent:
        return "Leading mode. " + " ".join(said), ""
    alike = [r for r in silent if any(a < b for a, b in r["distinct_units"])]
    return "Leading mode. " + " ".join(said), (
        f"At {len(silent)} of {len(modes)} points the leading mode changes no prediction to first order, and "
        f"{len(alike)} of these points have hidden units that compute the same number on all data: E keeps them "
        "alike, augmented training may move them apart with a sum of zero, and only curvature of σ and products of "
        "layers decides whether that lowers the risk. Where several sectors share the eigenvalue, no single irrep "
        "leads, and rounding picks the one that is named."
    )


def _said_of_ends(ends: Sequence[dict]) -> tuple[str, str]:
    said = []
    for r in ends:
        kept, accuracy, low = r["symmetry_of_end"], r["accuracy_end"], r["lowest"][0]
        scores = ", ".join(
            f"{k} {r['accuracy_start'][k]:.3g} → {accuracy[k]:.3g}" for k in ("train", "test") if k in accuracy
        )
        said.append(
            f"{r['label']}, {r['way']} of {r['irrep']}: R^aug {r['risk_start']:.5g} → {r['risk_end']:.5g}"
            + (f", accuracy {scores}" if scores else "")
            + f"; ‖∇R^aug‖ = {r['gradient_norm']:.1e} after {r['iterations']} iterations, lowest eigenvalue "
            f"{low['value']:.2e} (residual {low['residual']:.0e}, {r['method']}"
            + (f", {r['negative']} negative" if r["negative"] is not None else "")
            + f"); {kept['fixes_A']} of {kept['order_of_group']} elements fix A and {kept['fixes_function']} fix Φ, "
            f"{r['symmetry_of_push']['fixes_A']} fixed the push."
        )
    fell = sum(r["risk_end"] < r["risk_start"] for r in ends)
    broken = sum(r["symmetry_of_end"]["fixes_function"] < r["symmetry_of_end"]["order_of_group"] for r in ends)
    arrived = [r for r in ends if r["gradient_norm"] <= SETTLED]
    minima = sum(r["negative"] == 0 for r in arrived)
    saddles = sum(bool(r["negative"]) for r in arrived)
    means = (
        f"Of {len(ends)} ends {fell} have a lower R^aug than the equivariant point and {broken} are no longer "
        f"equivariant as functions. {len(arrived)} have arrived (‖∇R^aug‖ ≤ {SETTLED:g}): {minima} are minima, with no "
        f"negative eigenvalue in the whole spectrum, {saddles} are saddles; {len(ends) - len(arrived)} had not arrived "
        "when L-BFGS stopped."
    )
    within = [r for r in arrived if r["way"] == WAYS[2] and r["symmetry_of_end"]["fixes_A"] > 1]
    if within:
        means += " Among the weights that the push's stabiliser fixes, " + "; ".join(
            f"{r['label']} ends at {r['risk_end']:.5g} with {r['symmetry_of_end']['fixes_A']} elements left and "
            + ("no negative eigenvalue" if r["negative"] == 0 else f"{r['negative']} negative eigenvalues")
            for r in within
        )
        means += (
            ": a partly symmetric point that is stable."
            if all(r["negative"] == 0 for r in within)
            else ": symmetry breaks in stages, and rounding takes the later ones."
        )
    return "Ends. " + " ".join(said), means


def _said_of_steps(jumps: Sequence[dict]) -> tuple[str, str]:
    worst = max(jumps, key=lambda r: abs(r["factor_measured"] - r["factor_predicted"]))
    between = [r for r in jumps if r["where"] == "between"]
    listed = "; ".join(
        f"{r['label']}, {'E' if r['space'] == 'E' else 'E⊥'} at step {r['step']:.3g}: {r['factor_measured']:.3g} "
        f"(predicted {r['factor_predicted']:.3g})"
        for r in between
    )
    said = (
        f"Long steps. Factor a step between the two critical steps: {listed}. Over all steps the largest difference "
        f"between factors is {abs(worst['factor_measured'] - worst['factor_predicted']):.1e}."
    )
    first = sorted({r["label"] for r in between if r["space"] == "E_perp" and abs(r["factor_measured"]) > 1})
    if not first:
        return said, ""
    return said, (
        f"For {' and '.join(first)} a step that is safe inside E throws augmented descent out of E "
        "along the top mode, which the flow damps: λ_max on E⊥ is the larger one."
    )


def _said_of_descents(races: Sequence[dict]) -> tuple[str, str]:
    parts, thrown = [], []
    for r in races:
        off = r["off_equivariance"]
        text = (
            f"{r['label']}, {r['strategy']} with step {r['step']:.3g}: ‖A_{{E⊥}}‖/‖A‖ from {off[0]:.0e} to "
            f"{off[-1]:.1e} in {len(off) - 1} steps, distance to the stationary point from {r['from_point'][0]:.0e} "
            f"to {r['from_point'][-1]:.1e} of ‖A‖, R^aug {r['risk_start']:.4g} at the point and {r['risk_end']:.4g} "
            "at the end"
        )
        if r["factor_measured"] is not None:
            text += f"; factor a step {r['factor_measured']:.4g}, predicted {r['factor_predicted']:.4g}"
            thrown.append(r)
        parts.append(text)
    means = ""
    if thrown:
        means = (
            f"For {' and '.join(r['label'] for r in thrown)} EQUI and exact AUG follow the same gradient from the "
            "same point of E, and only AUG is thrown out, by rounding alone: Corollary 1 speaks of the flow, and "
            "discretisation breaks it where τ > 2/λ_max(E⊥)."
        )
    return "Descent between the critical steps. " + "; ".join(parts) + ".", means


def tables(rows: Sequence[dict]) -> list[dict]:
    """Rates, ends and factors."""
    flows, ends, jumps = (picked(rows, part) for part in ("flow", "end", "discrete"))
    return [
        table(
            "Flow",
            ["point", "irrep", "push / ‖A‖", "−λ", "measured rate", "relative error", "stops at ‖A_{E⊥}‖/‖A‖"],
            [
                [r["label"], r["irrep"], r["push"], r["rate_predicted"], r["rate_measured"]]
                + [r["relative_error"], r["stops_at"] if r["stops_at"] is not None else "never"]
                for r in flows
            ],
        ),
        table(
            "Ends",
            [
                "point",
                "way",
                "R^aug before",
                "after",
                "‖∇R^aug‖",
                "lowest eigenvalues",
                "negative",
                "|G|",
                "fix push",
                "fix A",
            ]
            + ["fix Φ", "orbits under what fixes A"],
            [
                [r["label"], r["way"], r["risk_start"], r["risk_end"], r["gradient_norm"]]
                + [", ".join(f"{e['value']:.2e}" for e in r["lowest"][:3])]
                + ["not counted" if r["negative"] is None else r["negative"]]
                + [r["symmetry_of_end"]["order_of_group"], r["symmetry_of_push"]["fixes_A"]]
                + [r["symmetry_of_end"]["fixes_A"], r["symmetry_of_end"]["fixes_function"]]
                + [str(r["symmetry_of_end"]["orbits_A"] or "")]
                for r in ends
            ],
        ),
        table(
            "Long steps",
            ["point", "step", "is", "space", "λ_max", "1 − τλ", "measured"],
            [
                [r["label"], r["step"], r["where"], "E" if r["space"] == "E" else "E⊥", r["eigenvalue"]]
                + [r["factor_predicted"], r["factor_measured"]]
                for r in jumps
            ],
        ),
    ]


def compute(rows: Rows, parts: Sequence[str], tasks: Sequence[str], iterations: int) -> None:
    """Whatever is missing, one row after the other."""
    known: dict[str, Ground] = {}

    def ground(case: Case) -> Ground:
        if case.label not in known:
            known[case.label] = case.ground()
        return known[case.label]

    jobs: list[tuple[str, object]] = []
    if "flow" in parts:
        jobs += [("flow", f) for f in FLOWS if f.case.task in tasks]
    if "mode" in parts:
        jobs += [("mode", c) for c in MODES if c.task in tasks]
    if "end" in parts:
        # Known by hand: one partner, which nothing but the identity fixes.
        jobs += [("end", (c, way)) for c in ENDS if c.task in tasks for way in (WAYS[:1] if c.by_hand else WAYS)]
    jobs += [(part, c) for part in ("discrete", "descent") if part in parts for c in DISCRETE if c.task in tasks]
    for part, job in tqdm(jobs, desc="dynamics", disable=None):
        if isinstance(job, Flow):
            label = job.case.label
            if rows.has(part=part, label=label, push=job.push, least=job.least):
                continue
            at = ground(job.case)
            mode = at.lowest if job.least is None else at.lowest_above(job.least, at.problem.weight_decay)
            found = flow(at, mode, job.push, job.folds)
            rows.add({"part": part, "label": label, "least": job.least, "point": at.summary(), **found})
        elif isinstance(job, tuple):
            case, way = job
            if not rows.has(part=part, label=case.label, way=way):
                rows.add({"part": part, "label": case.label, **end(ground(case), way, iterations)})
        elif rows.has(part=part, label=job.label):
            continue
        elif part == "mode":
            rows.add({"part": part, "label": job.label, **mode_facts(ground(job))})
        else:
            for row in (discrete if part == "discrete" else descent)(ground(job)):
                rows.add({"part": part, "label": job.label, **row})
    rows.rows.sort(key=lambda r: PARTS.index(r["part"]))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--parts", nargs="*", default=list(PARTS), help=f"of {', '.join(PARTS)}; none: only words and picture"
    )
    tasks = list(dict.fromkeys([f.case.task for f in FLOWS] + [c.task for c in (*MODES, *ENDS, *DISCRETE)]))
    parser.add_argument("--tasks", nargs="+", default=tasks, choices=tasks)
    parser.add_argument("--iterations", type=int, default=12000, help="most L-BFGS iterations to an end")
    parser.add_argument("--out", type=Path, default=Path("reports/dynamics"))
    options = parser.parse_args(arguments)
    if options.iterations < 1:
        raise BadInput(f"--iterations {options.iterations}: give a positive number")
    if unknown := set(options.parts) - set(PARTS):
        raise BadInput(f"--parts {' '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    folder = prepare_folder(options.out)
    rows = Rows(folder / "dynamics.json", {"iterations": options.iterations})
    compute(rows, options.parts, options.tasks, options.iterations)
    said = section(rows.rows)
    finish(folder, "dynamics", rows, draw(rows.rows), said, tables(rows.rows), CAPTION)
    print(said.measured)


if __name__ == "__main__":
    sys.exit(command(main))
