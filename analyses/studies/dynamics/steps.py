"""Descent with steps on both sides of the critical ones."""

from __future__ import annotations

import math

import numpy as np
import torch

from analyses.lab.ground import Ground, Mode
from analyses.lab.rates import slope
from stability.curvature.pooled import hessian_on_e
from stability.eigen.operator import assemble
from stability.points.training import descend, equivariant, exact_augmentation

# Steps of AUG and EQUI side by side, from a point of E this far from the stationary one, relative to ‖A‖.
DESCENT_STEPS, DESCENT_START = 120, 1e-3


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
