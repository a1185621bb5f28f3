"""Kinks that no single operation shows, and smooth risks that look like them.

    hinge      κ max(0, t)², κ of either sign: ∇ is continuous, ∇² jumps
    signed     κ t|t|
    corner     Huber's loss where it turns from a square into a line
    power      κ|t|^p, 1 < p < 2: ∇² has no limit
    masked     a hinge under cubic and quartic terms a thousand times as large
    beside     a hinge at a distance of 10⁻¹² to 10⁻⁹
    inside     networks that bend through ``where``, ``maximum``, sort, hardtanh or a squared ReLU, a sample on the bend
    sharp      log cosh βt, √(1 + β²t²), 1 − exp(−β²t²/2), t tanh βt over β², β up to 10⁵: smooth, the sign is known

t = ⟨x, A − A₀⟩ for a random x, so that the kink lies through the point and touches E and E⊥.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from analyses.signs.case import NO_SIGN, TINY, VERDICTS, Case, answers, lowest
from analyses.signs.drafts import Draft, again, averaged, draft
from stability.groups import Cyclic, Symmetric, permutation, regular, trivial
from stability.networks.classifier import Classifier
from stability.networks.losses import cross_entropy
from stability.networks.network import mlp
from stability.networks.nonlinearities import Identity
from stability.networks.supervised import supervised
from stability.problem.problem import Problem
from stability.problem.space import Samples

Function = Callable[[Tensor], Tensor]


def with_term(d: Draft, x: Tensor, term: Function, shift: float = 0.0) -> Problem:
    """The draft's risk plus φ(⟨x, A − A₀⟩ + shift)."""
    problem, centre = d.problem(), d.centre
    plain = problem.loss

    def loss(parameters: Tensor, samples: Samples) -> Tensor:
        t = (parameters - centre.to(parameters)) @ x.to(parameters)
        return plain(parameters, samples) + samples.weight.sum() * term(t + shift)

    return replace(problem, loss=loss)


def drafted(rng: np.random.Generator) -> tuple[Draft, Tensor, float]:
    """A draft with a tiny eigenvalue in half of the cases, a direction, and the size of a kink, of either sign."""
    d = draft(rng)
    if rng.random() < 0.5:
        d.across[rng.integers(len(d.across))] = rng.choice([TINY, -TINY])
        d = again(d)
    x = d.gaussian(d.space.dim)
    size = float(max(*d.on_e, *d.across)) * rng.choice([-1, 1]) * 10 ** rng.uniform(-4, 0.5)
    return d, x / x.norm(), size


def none(problem: Problem, theta: Tensor) -> Case:
    return Case(dict.fromkeys(VERDICTS, NO_SIGN), problem, theta)


def hinge(rng: np.random.Generator) -> Case:
    d, x, size = drafted(rng)
    return none(with_term(d, x, lambda t: size * torch.relu(t) ** 2), d.point())


def signed(rng: np.random.Generator) -> Case:
    d, x, size = drafted(rng)
    return none(with_term(d, x, lambda t: size * t * t.abs()), d.point())


def corner(rng: np.random.Generator) -> Case:
    """Huber's loss of u = t + δ at u = δ, less its slope there."""
    d, x, size = drafted(rng)
    delta = 10 ** rng.uniform(-1, 1)
    zero = torch.zeros((), dtype=torch.float64)

    def term(t: Tensor) -> Tensor:
        return size * (functional.huber_loss(t + delta, zero, delta=delta) - delta * t)

    return none(with_term(d, x, term), d.point())


def power(rng: np.random.Generator) -> Case:
    d, x, size = drafted(rng)
    p = rng.uniform(1.1, 1.7)
    return none(with_term(d, x, lambda t: size * t.abs() ** p), d.point())


def masked(rng: np.random.Generator) -> Case:
    d, x, size = drafted(rng)
    for which in (2, 3):
        for _ in range(rng.integers(1, 4)):
            other = d.gaussian(d.space.dim)
            d.add(other / other.norm(), which, 1e3 * size * rng.uniform(0.1, 1))
    d.add(x, 2, 1e3 * size)
    return none(with_term(d, x, lambda t: size * torch.relu(t) ** 2), d.point())


def beside(rng: np.random.Generator) -> Case:
    d, x, size = drafted(rng)
    shift = rng.choice([-1, 1]) * 10 ** rng.uniform(-12, -9)
    return none(with_term(d, x, lambda t: size * torch.relu(t) ** 2, shift), d.point())


def _sharp(which: int, beta: float) -> Function:
    """φ with φ'(0) = 0 and φ''(0) = 1, as sharp as 1/β."""

    def log_cosh(t: Tensor) -> Tensor:
        s = (beta * t).abs()
        return (s + torch.log1p(torch.exp(-2 * s))) / beta**2

    return (
        lambda t: (functional.softplus(2 * beta * t, threshold=1e9) - beta * t) / beta**2,
        lambda t: torch.sqrt(1 + (beta * t) ** 2) / beta**2,
        lambda t: -torch.exp(-((beta * t) ** 2) / 2) / beta**2,
        lambda t: t * torch.tanh(beta * t) / (2 * beta),
    )[which]


def sharp(rng: np.random.Generator) -> Case:
    d, x, size = drafted(rng)
    beta = 10 ** rng.uniform(0, 5)
    sharpened = _sharp(int(rng.integers(4)), beta)
    problem, theta = with_term(d, x, lambda t: size * sharpened(t)), d.point()
    inside, outside = torch.cat(d.inside), torch.cat(d.outside)
    curvature = problem.samples.weight * problem.samples.y[:, 1]
    matrix = averaged((problem.samples.x.mT * curvature) @ problem.samples.x + size * torch.outer(x, x), d.moves)
    on_e, across = ((torch.linalg.eigvalsh(w @ matrix @ w.mT)).tolist() for w in (inside, outside))
    return Case(answers(on_e, across), problem, theta, lowest(on_e, across))


BENDS: tuple[Function, ...] = (
    lambda z: torch.where(z > 0, z, 0.3 * z),
    lambda z: torch.maximum(z, 0.1 * z),
    lambda z: functional.hardtanh(z, 0.0, 2.0) + 0.1 * z,
    lambda z: torch.relu(z) ** 2,
    lambda z: z * z.abs() + z,
    lambda z: z.clamp(min=0.0) + torch.tanh(z),
    lambda z: functional.elu(z, alpha=0.5),
)


class Bend:
    """A user's pointwise σ, of which nothing is declared."""

    pointwise = True
    name = "mine"

    def __init__(self, function: Function) -> None:
        self.function = function

    def __call__(self, z: Tensor, _: object) -> Tensor:
        return self.function(z)


def inside(rng: np.random.Generator) -> Case:
    """A sample at zero puts every pre-activation of a layer without bias on the bend."""
    rho = permutation(Symmetric(3)) if rng.random() < 0.5 else regular(Cyclic(4))
    one = trivial(rho.group)
    net = mlp([1 * rho, 2 * rho, 2 * one], [Bend(BENDS[rng.integers(len(BENDS))]), Identity()])
    x = torch.as_tensor(rng.standard_normal((6, rho.dim)))
    x[rng.integers(6)] = 0.0
    # Of zeros alone the bend would never be crossed: a constant input, on whose invariant part a weight vanishes.
    x[rng.integers(6)] = 1.0
    y = torch.as_tensor(rng.integers(0, 2, 6))
    samples = Samples(x, y, torch.full((6,), 1 / 6, dtype=torch.float64))
    problem = supervised("inside", Classifier(net, cross_entropy), samples, weight_decay=0.1)
    theta = problem.initial(int(rng.integers(1000)))
    return none(problem, on_the_bend(problem, theta, x, rho.dim))


def on_the_bend(problem: Problem, theta: Tensor, x: Tensor, n: int) -> Tensor:
    """θ with its first layer changed so that the constant input's pre-activation vanishes in the first channel."""
    layer = problem.space.layers[0]
    size = layer.size()
    weight = layer.embed(theta[:size]).squeeze(0)
    weight[:n] -= weight[:n].mean()
    return torch.cat([layer.adjoint_embed(weight.unsqueeze(0)), theta[size:]])


FAMILIES: dict[str, Callable[[np.random.Generator], Case]] = {
    "hinge": hinge,
    "signed": signed,
    "corner": corner,
    "power": power,
    "masked": masked,
    "beside": beside,
    "inside": inside,
    "sharp": sharp,
}
