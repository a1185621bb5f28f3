"""Networks whose answer is known by hand or by brute force, and a matrix that Lanczos alone sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from analyses.signs.case import NO_SIGN, TINY, VERDICTS, Case, answers, lowest, status
from analyses.signs.drafts import averaged
from stability.base.storage import Checkpoint
from stability.eigen import krylov
from stability.eigen.operator import Operator
from stability.groups import Cyclic, PermutationRepresentation, Symmetric, images, permutation, regular, torus, trivial
from stability.networks.classifier import Classifier
from stability.networks.losses import cross_entropy
from stability.networks.network import mlp
from stability.networks.nonlinearities import Identity, Pointwise
from stability.networks.supervised import supervised
from stability.problem.problem import Problem
from stability.problem.space import Samples
from stability.tasks.counterexample import squared_sum
from stability.verdicts.verdict import Block, judge


def _shuffled(k: int, g: object) -> Sequence[int]:
    return g


def hand(rng: np.random.Generator) -> Case:
    """R^k with S_k permuting, σ(t) = t + t², ℓ = ½(Σy − Σy')², x = ±1: 2·11ᵀ + r₂I at A* = (½, …, ½), r₂ free."""
    k = int(rng.integers(2, 6))
    group = Symmetric(k)
    space = PermutationRepresentation(group, k, partial(_shuffled, k), f"R^{k}")
    value = rng.choice([-1, 1]) * 10 ** rng.uniform(-10, 0)
    targets = torch.tensor([[0.75] * k, [-0.25 - value / k] * k], dtype=torch.float64)
    samples = Samples(
        torch.tensor([[1.0], [-1.0]], dtype=torch.float64), targets, torch.full((2,), 0.5, dtype=torch.float64)
    )
    network = mlp([1 * trivial(group), 1 * space], [Pointwise("quadratic")])
    model = Classifier(network, squared_sum, target=1 * space, decides=False)
    problem = supervised("hand", model, samples)
    start = torch.full((k,), 0.5, dtype=torch.float64)
    start = start + 10 ** rng.uniform(-16, -11)
    # The residual that rounding of the targets makes is the true eigenvalue.
    true = float(-0.25 * k - targets[1].sum())
    return Case(answers([2 * k + true], [true]), problem, problem.space.project(start), lowest([2 * k + true], [true]))


def network(rng: np.random.Generator) -> Case:
    """A tanh network whose risk is tilted and shifted so that a random point is stationary and λ_min = ±1e-8 on E⊥."""
    name = str(rng.choice(["C_5", "S_3", "Z_2²"]))
    rho = {
        "C_5": lambda: regular(Cyclic(5)),
        "S_3": lambda: permutation(Symmetric(3)),
        "Z_2²": lambda: images(torus(2), 2),
    }[name]()
    one = trivial(rho.group)
    net = mlp([1 * rho, 2 * rho, 2 * one], [Pointwise("tanh"), Identity()])
    n = 10
    x = torch.as_tensor(rng.standard_normal((n, rho.dim)))
    y = torch.as_tensor(rng.integers(0, 2, n))
    samples = Samples(x, y, torch.full((n,), 1 / n, dtype=torch.float64))
    model = Classifier(net, cross_entropy)
    space = net.space
    theta = torch.as_tensor(rng.standard_normal(space.dim_equivariant))
    at = space.embed(theta)

    def plain(a: Tensor, part: Samples) -> Tensor:
        return part.weight @ model.losses(model.predict(a, part.x), part.y)

    slope = space.equivariant_part(torch.func.grad(lambda a: plain(a, samples))(at))
    hessian = torch.func.hessian(lambda a: plain(a, samples))(at)
    eye = torch.eye(space.dim, dtype=torch.float64)
    moves = torch.stack([space.act(g, eye).mT for g in space.group.elements()])
    matrix = averaged(hessian, moves)
    fixed = moves.mean(0)
    values, vectors = torch.linalg.eigh(fixed)
    inside, outside = vectors[:, values > 0.5], vectors[:, values < 0.5]
    on_e = torch.linalg.eigvalsh(inside.mT @ matrix @ inside)
    across = torch.linalg.eigvalsh(outside.mT @ matrix @ outside)
    pivot = on_e if rng.random() < 0.3 else across
    shift = float(rng.choice([TINY, -TINY])) - float(pivot[0])

    def loss(a: Tensor, part: Samples) -> Tensor:
        tilt = shift / 2 * (a - at).square().sum() - slope @ (a - at)
        return plain(a, part) + part.weight.sum() * tilt

    def initial(seed: int) -> Tensor:
        return torch.randn(len(theta), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    problem = Problem(name, space, samples, loss, initial=initial)
    on_e, across = (on_e + shift).tolist(), (across + shift).tolist()
    return Case(answers(on_e, across), problem, theta, lowest(on_e, across))


def leaky(rng: np.random.Generator) -> Case:
    rho = permutation(Symmetric(3))
    one = trivial(rho.group)
    net = mlp([1 * rho, 2 * rho, 2 * one], [Pointwise(str(rng.choice(["relu", "leaky_relu"]))), Identity()])
    x = torch.as_tensor(rng.standard_normal((6, 3)))
    x[rng.integers(6)] = 0.0
    y = torch.as_tensor(rng.integers(0, 2, 6))
    samples = Samples(x, y, torch.full((6,), 1 / 6, dtype=torch.float64))
    problem = supervised("leaky", Classifier(net, cross_entropy), samples, weight_decay=0.1)
    return Case(dict.fromkeys(VERDICTS, NO_SIGN), problem, problem.initial(int(rng.integers(1000))))


def krylov_only(rng: np.random.Generator) -> Case:
    """A diagonal matrix that Lanczos alone sees; its last eigenvalues are a cluster, some of them on the other side."""
    n = int(rng.integers(200, 400))
    values = rng.uniform(0.1, 1.0, n) * 10 ** rng.uniform(-1, 2)
    many = int(rng.integers(1, 20))
    kind = rng.choice(["tiny", "small", "spread"])
    size = {"tiny": TINY, "small": 1e-3, "spread": 0.05}[kind] * (1.0 if kind != "spread" else values.max())
    values[:many] = size * rng.choice([-1.0, 1.0, 1.0]) * (1 + 1e-3 * rng.uniform(-1, 1, many))
    diagonal = torch.as_tensor(values)
    operator = Operator(n, lambda v: v * diagonal, "diagonal")
    plan = krylov.Plan(int(rng.integers(60, n + 1)), 3, 3, bool(rng.random() < 0.5), int(rng.integers(1000)), 1.0)
    solution = krylov.run(operator, operator, n, "diagonal", plan, diagonal, Checkpoint(None, {}, False))
    verdict = judge([Block("E⊥", solution.spectrum)])
    return Case(
        {"transverse": status(values)},
        lowest={"E_perp": float(values.min())},
        verdicts={"transverse": (verdict.status, verdict.evidence)},
    )


FAMILIES: dict[str, Callable[[np.random.Generator], Case]] = {
    "hand": hand,
    "network": network,
    "leaky": leaky,
    "krylov": krylov_only,
}
