r"""Gradient flow Ȧ = −∇R(A) of stiff risks, by explicit Runge–Kutta–Chebyshev steps of second order.

Near a minimum λ_max/|λ_min| is 10⁵ and more: plain descent, which is Euler's method with a step below 2/λ_max, takes as
many gradients to show a slow mode. A step of s stages is stable up to h ≈ 0.65 s²/λ_max, so the same stretch of flow
costs the square root.

Source: Sommeijer, Shampine, Verwer, RKC: an explicit solver for parabolic PDEs (1998), with its error estimate.

>>> import torch
>>> H = torch.tensor([-1.0, 1000.0], dtype=torch.float64)
>>> path = flow(lambda a: H * a, torch.tensor([1.0, 1.0], dtype=torch.float64), 1.0, 1000.0, tolerance=1e-6)
>>> abs(float(path.final[0]) - 2.718281828) < 1e-4, abs(float(path.final[1])) < 1e-3, path.gradients < 2000
(True, True, True)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

DAMPING = 2 / 13
SAFETY = 1.25
POWER_STEPS = 2
MOST_STAGES = 400


@dataclass(frozen=True)
class Path:
    """How far a flow came: the time reached, the point there, and what it took.

    Attributes:
        time: reached.
        final: the point there, (dim L).
        steps: of the integrator, those that were rejected left out.
        gradients: evaluated.
    """

    time: float
    final: Tensor
    steps: int
    gradients: int


def _coefficients(s: int) -> tuple[float, list[tuple[float, float, float, float]]]:
    """μ̃_1 and (μ, ν, μ̃, γ̃) of the stages 2 … s."""
    w0 = 1 + DAMPING / s**2
    t, d, dd = [1.0, w0], [0.0, 1.0], [0.0, 0.0]
    for _ in range(2, s + 1):  # Chebyshev polynomials with two derivatives, by their recursion
        t.append(2 * w0 * t[-1] - t[-2])
        d.append(2 * t[-2] + 2 * w0 * d[-1] - d[-2])
        dd.append(4 * d[-2] + 2 * w0 * dd[-1] - dd[-2])
    w1 = d[s] / dd[s]
    b = [0.0, 0.0] + [dd[j] / d[j] ** 2 for j in range(2, s + 1)]
    b[0] = b[1] = b[2]
    a = [1 - b[j] * t[j] for j in range(s + 1)]
    stages = []
    for j in range(2, s + 1):
        mu, nu, fresh = 2 * b[j] * w0 / b[j - 1], -b[j] / b[j - 2], 2 * b[j] * w1 / b[j - 1]
        stages.append((mu, nu, fresh, -a[j - 1] * fresh))
    return b[1] * w1, stages


def _step(gradient: Callable[[Tensor], Tensor], y: Tensor, f: Tensor, h: float, s: int) -> Tensor:
    """One step of length h with s stages from y, where f = −gradient(y)."""
    first, stages = _coefficients(s)
    before, current = y, y + first * h * f
    for mu, nu, fresh, old in stages:
        following = (1 - mu - nu) * y + mu * current + nu * before - fresh * h * gradient(current) + old * h * f
        before, current = current, following
    return current


def flow(
    gradient: Callable[[Tensor], Tensor],
    start: Tensor,
    until: float,
    radius: float,
    tolerance: float = 1e-3,
    origin: Tensor | None = None,
    budget: int = 100_000,
    on_step: Callable[[float, Tensor], bool] | None = None,
) -> Path:
    """The flow from ``start`` to time ``until``, or until ``budget`` gradients are spent or ``on_step`` says True.

    Args:
        gradient: A ↦ ∇R(A).
        start: where it begins.
        until: flow time to cover.
        radius: spectral radius of ∇²R at the start; it is followed along the way.
        tolerance: error granted per step, relative to the distance from ``origin`` (zero by default).
        budget: most gradients.
        on_step: called with (time, A) after every step, the start included.
    """
    y, f, time, steps, spent = start, -gradient(start), 0.0, 0, 1
    generator = torch.Generator().manual_seed(len(start))
    probe = torch.randn(len(start), generator=generator, dtype=torch.float64).to(start)
    base = torch.zeros_like(start) if origin is None else origin
    h = min(until, 10.0 / radius)
    if on_step:
        on_step(time, y)
    with tqdm(total=1.0, desc="flow", disable=None, leave=False, bar_format="{desc} {percentage:3.0f} %") as bar:
        while time < until * (1 - 1e-12) and spent < budget:
            h = min(h, until - time)
            s = max(2, math.ceil(math.sqrt(1 + 1.54 * h * SAFETY * radius)))
            if s > MOST_STAGES:
                h, s = (MOST_STAGES**2 - 1) / (1.54 * SAFETY * radius), MOST_STAGES
            tried = _step(gradient, y, f, h, s)
            slope = -gradient(tried)
            spent += s
            size = max(float((tried - base).norm()), float((y - base).norm())) or 1.0
            error = float((0.8 * (y - tried) + 0.4 * h * (f + slope)).norm()) / (tolerance * size)
            if not math.isfinite(error) or error > 1:
                factor = 0.8 / error ** (1 / 3) if math.isfinite(error) and error > 0 else 0.1
                h *= max(0.1, factor)
                if not math.isfinite(error):
                    radius *= 2
                if h * radius < 1e-10:
                    break
                continue
            time, y, f, steps = time + h, tried, slope, steps + 1
            bar.update(h / until)
            if on_step and on_step(time, y):
                break
            h *= min(5.0, 0.8 / max(error, 1e-10) ** (1 / 3))
            for _ in range(POWER_STEPS):  # the radius moves with the point
                scale = 1e-6 * max(1.0, float(y.norm())) / float(probe.norm())
                probe = (gradient(y + scale * probe) + f) / scale / float(probe.norm())
                spent += 1
            radius = max(float(probe.norm()), 0.5 * radius)
    return Path(time, y, steps, spent)
