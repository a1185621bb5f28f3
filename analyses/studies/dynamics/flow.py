"""Growth and decay off E along the exact augmented flow, and what the leading mode does."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.func import jvp

from analyses.lab.ground import Ground, Mode, stabiliser
from analyses.lab.rates import slope
from stability.base.errors import BadInput
from stability.points.training import descend, exact_augmentation_within
from stability.problem.space import Samples

STEP_SHARE, FLOW_SHARE = 0.2, 0.005
POINTS = 150
# The prediction has stopped where it is off by more.
STOPPED = 0.1
LINEAR_FOLDS = 3.1


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
