"""Weights in forms that can be lost on the way in: tied, complex, half precision, beside running statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

import stability
from analyses.signs.case import TINY, Case, answers, lowest
from stability.groups import Cyclic, MatrixRepresentation, regular, trivial
from stability.problem.problem import Problem


def _judged(problem: Problem, blocks: tuple[np.ndarray, np.ndarray], theta: Tensor | None = None) -> Case:
    on_e, across = (b.tolist() for b in blocks)
    theta = problem.initial(0) if theta is None else theta

    def elsewhere(seed: int) -> Tensor:
        """A start that is not the point itself: what a gradient is small against."""
        return torch.randn(len(theta), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    return Case(answers(on_e, across), replace(problem, initial=elsewhere), theta, lowest(on_e, across))


def _value(rng: np.random.Generator) -> float:
    return float(rng.choice([-1, 1]) * 10 ** rng.uniform(-7, 0))


def complex_weights(rng: np.random.Generator) -> Case:
    """Z_2 conjugates z in C^k; R = ½Σ(a_i(Re z_i)² + b_i(Im z_i)²) + |z|⁴: a on E, b on E⊥ at zero, both free."""
    k = int(rng.integers(1, 5))
    real, imaginary = (np.array([_value(rng) for _ in range(k)]) for _ in range(2))
    group = Cyclic(2)
    conjugate = MatrixRepresentation(group, 2, lambda g: np.diag([1.0, -1.0 if g else 1.0]), "conjugation")
    a, b = torch.as_tensor(real), torch.as_tensor(imaginary)

    def risk(t: dict[str, Tensor]) -> Tensor:
        z = t["z"]
        quadratic = (a * z.real.square() + b * z.imag.square()).sum() / 2
        return quadratic + (z.real.square() + z.imag.square()).square().sum()

    start = torch.zeros(k, dtype=torch.complex128)
    return _judged(stability.from_risk(risk, {"z": start}, {"z": k * conjugate}), (real, imaginary))


def half_precision(rng: np.random.Generator) -> Case:
    """R = Σy⁴ + e(Σy)²/2n + v|y − ȳ|²/2 with y = x − c, a start x = c in half precision: e on E, v on E⊥, at y = 0.

    Were c rounded on its way in, the gradient would not vanish there.
    """
    n, dtype = int(rng.integers(2, 6)), [torch.float16, torch.bfloat16][int(rng.integers(2))]
    c = torch.tensor(rng.uniform(0.3, 2.0), dtype=torch.float64).to(dtype)
    exact = c.double()
    on_e, across = abs(_value(rng)), _value(rng)

    def risk(t: dict[str, Tensor]) -> Tensor:
        y = t["x"] - exact
        return (y**4).sum() + on_e / (2 * n) * y.sum().square() + across / 2 * (y - y.mean()).square().sum()

    problem = stability.from_risk(risk, {"x": c.repeat(n)}, {"x": regular(Cyclic(n))})
    return _judged(problem, (np.array([on_e]), np.full(n - 1, across)))


class _Tied(nn.Module):
    """x ↦ WWx with one W under two names."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(n, n, bias=False), nn.Linear(n, n, bias=False)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.one(x))


def tied(rng: np.random.Generator) -> Case:
    """One 2 × 2 weight used twice, ℓ = ½|WWx − y|², at W = 0 with decay: ∇²R = −(y xᵀ on W²) + μ, by hand.

    To second order R = −⟨WW, M⟩ + μ/2|W|² with M = mean y xᵀ. Under swaps M = (m₀, m₁; m₁, m₀) after averaging, and on
    W = (p, q; q, p): ⟨WW, M⟩ = 2m₀(p² + q²) + 4m₁pq; on E⊥, W = (p, q; −q, −p): 2m₀(p² − q²).
    """
    m0, m1 = _value(rng), _value(rng)
    inside = 2 * np.array([m0 + m1, m0 - m1])
    outside = 2 * np.array([m0, -m0])
    block = (inside, outside)[int(rng.random() < 0.6)]
    decay = max(float(block.max()) + rng.choice([-1, 1]) * TINY, 0.0)
    x = torch.eye(2, dtype=torch.float64)
    y = 2 * torch.tensor([[m0, m1], [m1, m0]], dtype=torch.float64)
    module = _Tied(2)
    with torch.no_grad():
        module.one.weight.zero_()
    group = Cyclic(2)
    rho = regular(group)
    problem = stability.from_module(
        module.double(), lambda p, t: 0.5 * (p - t).square().sum(1), (x, y), {"one": (rho, rho), "two": (rho, rho)},
        target=rho, weight_decay=decay, decides=False,
    )  # fmt: skip
    return _judged(problem, (decay - inside, decay - outside))


def statistics(rng: np.random.Generator) -> Case:
    """z = (A − m)/√v in R² with m, v from a checkpoint, p = z + z², ℓ = ½(Σp)² + ½c|p|², at A = m: (2 + c)/v and c/v.

    The module's own statistics have another v, and another m, where the point is not stationary.
    """
    s2 = 10 ** rng.uniform(-2, 2)
    mean = float(rng.uniform(-2, 2))
    slope = _value(rng)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(1, 2, bias=False)
            self.norm = nn.BatchNorm1d(2, eps=0.0, affine=False)

        def forward(self, x: Tensor) -> Tensor:
            z = self.norm(self.map(x))
            return z + z * z

    module = Net().double().eval()
    group = Cyclic(2)
    pair, one = regular(group), trivial(group)
    x = torch.ones(2, 1, dtype=torch.float64)
    x[1] = -1.0
    # Two samples, at z = 0 for x = 1 and z = −2ms for x = −1, which a weight of zero leaves out.
    weights = torch.tensor([1.0, 0.0], dtype=torch.float64)
    y = torch.zeros(2, dtype=torch.float64)

    def loss(p: Tensor, t: Tensor) -> Tensor:
        return 0.5 * p.sum(1).square() + 0.5 * slope * p.square().sum(1) - t

    problem = stability.from_module(
        module, loss, (x, y, weights), {"map": (one, pair), "norm": pair}, output=pair, decides=False
    )
    state = {
        "map.weight": torch.full((2, 1), mean, dtype=torch.float64),
        "norm.running_mean": torch.full((2,), mean, dtype=torch.float64),
        "norm.running_var": torch.full((2,), 1 / s2, dtype=torch.float64),
    }
    here, given = stability.api.fitted(problem, state)
    theta = stability.api.locate(here, given)[0]
    scale = float(1 / torch.full((), 1 / s2, dtype=torch.float64))
    return _judged(here, (np.array([scale * (2 + slope)]), np.array([scale * slope])), theta)


FAMILIES: dict[str, Callable[[np.random.Generator], Case]] = {
    "complex weights": complex_weights,
    "half precision": half_precision,
    "tied weights": tied,
    "running statistics": statistics,
}
