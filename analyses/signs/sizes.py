"""The smallest problems, scales of the risk and of the weights, and networks over complex and quaternionic irreps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from analyses.signs.case import TINY, Case, answers, lowest, status
from analyses.signs.drafts import averaged, draft
from stability.groups import (
    Cyclic,
    Dihedral,
    Group,
    Representation,
    Symmetric,
    defining,
    irreps,
    quaternion_group,
    regular,
    trivial,
)
from stability.networks.bare import from_risk
from stability.networks.classifier import Classifier
from stability.networks.losses import cross_entropy, squared
from stability.networks.network import mlp
from stability.networks.nonlinearities import Identity, Norm, Pointwise
from stability.problem.problem import Problem
from stability.problem.space import Samples

GROUPS: tuple[Callable[[], Group], ...] = (
    lambda: Cyclic(1),
    lambda: Cyclic(2),
    lambda: Cyclic(3),
    lambda: Symmetric(3),
    lambda: Dihedral(4),
    quaternion_group,
)
QUATERNIONS = quaternion_group()


def smallest(rng: np.random.Generator) -> Case:
    """At most two irreps, one copy each, a number λ on each: R = Σ λ_i |A_i − A*_i|²/2 and quartics along E alone.

    E⊥ = {0} now and then, which is stable for want of directions; quartic terms of strength 0.1 leave the curvature at
    A* alone.
    """
    group = GROUPS[rng.integers(len(GROUPS))]()
    others = [v.representation for v in irreps(group) if not v.is_trivial]
    one = trivial(group)
    spaces = {"on_e": int(rng.integers(1, 3)) * one}
    if others and rng.random() < 0.75:
        spaces["across"] = others[rng.integers(len(others))]
    values = {k: rng.choice([1.0, -1.0]) * 10 ** rng.uniform(-8, 1) for k in spaces}
    centre = {k: torch.zeros(rep.dim, dtype=torch.float64) for k, rep in spaces.items()}
    centre["on_e"] = torch.as_tensor(rng.standard_normal(spaces["on_e"].dim))

    def risk(tensors: dict[str, Tensor]) -> Tensor:
        moved = {k: tensors[k] - centre[k] for k in spaces}
        quadratic = sum(values[k] / 2 * moved[k].square().sum() for k in spaces)
        return quadratic + 0.1 * sum(v.pow(4).sum() for v in moved.values())

    problem = from_risk(risk, centre, spaces, name=f"smallest, {group.name}")
    across = [values["across"]] if "across" in spaces else []
    truth = {
        "eqv": status([values["on_e"]]),
        "aug": status([values["on_e"], *across]),
        "transverse": status(across) if across else "stable",
    }
    known = {"E": values["on_e"]} | ({"E_perp": across[0]} if across else {})
    return Case(truth, problem, problem.initial(0), known)


def scaled(rng: np.random.Generator) -> Case:
    """A risk between 1e-12 and 1e12 times the usual: signs are those of the eigenvalues relative to the largest."""
    size = 10 ** rng.uniform(-12, 12)
    d = draft(rng, scale=size)
    for block in (d.on_e, d.across):
        if rng.random() < 0.7:
            block[rng.integers(len(block))] = size * rng.choice([TINY, -TINY])
    d = type(d)(d.name, d.rng, d.on_e, d.across, d.dtype)
    return Case(answers(d.on_e, d.across), d.problem(), d.point(), lowest(d.on_e, d.across))


# Groups with irreps of complex and quaternionic type; hidden spaces that hold them.
def _typed() -> list[tuple[Representation, ...]]:
    c5 = next(v.representation for v in irreps(Cyclic(5)) if not v.is_trivial)
    c4 = next(v.representation for v in irreps(Cyclic(4)) if v.kind == "complex")
    return [(c5, regular(Cyclic(5))), (c4, regular(Cyclic(4))), (defining(QUATERNIONS), 1 * defining(QUATERNIONS))]


def typed(rng: np.random.Generator) -> Case:
    """A norm network between irreps of complex or quaternionic type, tilted so that λ_min = ±1e-8 on E or on E⊥."""
    pairs = _typed()
    v, other = pairs[rng.integers(len(pairs))]
    one = trivial(v.group)
    net = mlp([1 * v, 1 * other, 1 * v], [Norm("tanh", 0.5), Identity()])
    loss, target = squared, 1 * v
    if other.is_permutation and rng.random() < 0.5:
        net = mlp([1 * other, 1 * other, 2 * one], [Pointwise("tanh"), Identity()])
        loss, target = cross_entropy, None
    n = int(rng.integers(1, 9))
    x = torch.as_tensor(rng.standard_normal((n, net.input.dim)))
    y = torch.as_tensor(rng.integers(0, 2, n) if target is None else rng.standard_normal((n, target.dim)))
    samples = Samples(x, y, torch.full((n,), 1 / n, dtype=torch.float64))
    return tilted(rng, Classifier(net, loss, target, decides=False), samples)


def tilted(rng: np.random.Generator, model: Classifier, samples: Samples) -> Case:
    """The risk of a network at a random point of E, tilted to be stationary and shifted so that one λ_min is ±1e-8.

    The Hessian is that of torch.func.hessian, averaged over the enumerated group; the products of tanh networks are
    those of finite differences (tests/test_fuzz.py).
    """
    space = model.network.space
    theta = torch.as_tensor(rng.standard_normal(space.dim_equivariant))
    at = space.embed(theta)

    def plain(a: Tensor, part: Samples) -> Tensor:
        return part.weight @ model.losses(model.predict(a, part.x), part.y)

    slope = space.equivariant_part(torch.func.grad(lambda a: plain(a, samples))(at))
    hessian = torch.func.hessian(lambda a: plain(a, samples))(at)
    eye = torch.eye(space.dim, dtype=torch.float64)
    moves = torch.stack([space.act(g, eye).mT for g in space.group.elements()])
    matrix = averaged(hessian, moves)
    values, vectors = torch.linalg.eigh(moves.mean(0))
    inside, outside = vectors[:, values > 0.5], vectors[:, values < 0.5]
    on_e, across = (torch.linalg.eigvalsh(w.mT @ matrix @ w) for w in (inside, outside))
    pivot = on_e if rng.random() < 0.3 else across
    shift = float(rng.choice([TINY, -TINY])) - float(pivot[0])

    def loss(a: Tensor, part: Samples) -> Tensor:
        tilt = shift / 2 * (a - at).square().sum() - slope @ (a - at)
        return plain(a, part) + part.weight.sum() * tilt

    def initial(seed: int) -> Tensor:
        return torch.randn(len(theta), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    problem = Problem(f"typed, {space.group.name}", space, samples, loss, initial=initial)
    on_e, across = (on_e + shift).tolist(), (across + shift).tolist()
    return Case(answers(on_e, across), problem, theta, lowest(on_e, across))


FAMILIES: dict[str, Callable[[np.random.Generator], Case]] = {"smallest": smallest, "scaled": scaled, "typed": typed}
