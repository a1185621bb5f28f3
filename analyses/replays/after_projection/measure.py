"""One problem in three orthonormal bases of its inputs, training up to the projection and on from there."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.func import grad

from analyses.lab.rows import short
from stability import forecast, mlp
from stability.groups import Cyclic, from_generators, regular, rotations, trivial
from stability.networks.classifier import Classifier
from stability.networks.losses import cross_entropy
from stability.networks.nonlinearities import Identity, Pointwise
from stability.networks.supervised import supervised
from stability.optimisers.draws import Draws, draw
from stability.optimisers.outlook import times_until
from stability.problem.problem import Problem
from stability.problem.space import Samples
from stability.tasks.data import digits

SIDE, SAMPLES, COPIES, CLASSES, BATCH, DECAY = 6, 60, 2, 10, 16, 1e-3
# What C_4 does to the coordinates of an input, and so to the weights that multiply them.
ACTIONS = ("permutes", "permutes with signs", "mixes")
Make = Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]
OPTIMISERS: dict[str, Make] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "SGD, Nesterov": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=3e-3, weight_decay=1e-4),
}
DRAWS = {"all four turns": Draws(BATCH), "one turn each": Draws(BATCH, 1, "sample")}
STATES = ("cleared", "kept")


def basis(action: str, x: Tensor) -> Tensor:
    """An orthonormal basis of R^36 as rows: pixels, Fourier modes along the orbits of C_4, or principal components."""
    if action == "permutes":
        return torch.eye(SIDE**2, dtype=torch.float64)
    if action == "mixes":
        return torch.linalg.eigh((x - x.mean(0)).mT @ (x - x.mean(0))).eigenvectors.mT
    turn, rows, seen = rotations(Cyclic(4), SIDE), [], set()
    r = 0.5**0.5
    for pixel in range(SIDE**2):
        if pixel in seen:
            continue
        unit = torch.zeros(SIDE**2, dtype=torch.float64)
        unit[pixel] = 1.0
        orbit = [turn.act(k, unit) for k in range(4)]
        seen |= {int(o.argmax()) for o in orbit}
        modes = ((0.5, 0.5, 0.5, 0.5), (0.5, -0.5, 0.5, -0.5), (r, 0, -r, 0), (0, r, 0, -r))
        rows += [sum(c * o for c, o in zip(mode, orbit, strict=True)) for mode in modes]
    return torch.stack(rows)


@lru_cache(maxsize=3)
def build(action: str) -> tuple[Problem, Tensor]:
    """Digits in a basis, R^36 → 2 regular → 10 classes with tanh; and the basis."""
    group, data = Cyclic(4), digits(SIDE, SAMPLES, 0)
    x, y = torch.as_tensor(data.inputs, dtype=torch.float64), torch.as_tensor(data.targets)
    x = (x - x.mean()) / x.std()
    rows, pixels = basis(action, x), rotations(group, SIDE)
    turned = rows.numpy() @ pixels.matrix(1) @ rows.mT.numpy()
    rho = pixels if action == "permutes" else from_generators(group, [turned], action)
    network = mlp([1 * rho, COPIES * regular(group), CLASSES * trivial(group)], [Pointwise("tanh"), Identity()])
    weight = torch.full((SAMPLES,), 1 / SAMPLES, dtype=torch.float64)
    return supervised(
        action, Classifier(network, cross_entropy), Samples(x @ rows.mT, y, weight), weight_decay=DECAY
    ), rows


def start(problem: Problem, rows: Tensor, seed: int) -> Tensor:
    """The same Gaussian network in every basis; it is off E."""
    generator = torch.Generator().manual_seed(seed)
    first, second = (layer.shape for layer in problem.space.layers)
    a = torch.randn(first, generator=generator, dtype=torch.float64) / SIDE
    b = torch.randn(second, generator=generator, dtype=torch.float64) / second[1] ** 0.5
    return problem.space.join([a @ rows.mT, b])


def one_run(
    action: str, optimiser: str, draws: str, state: str, seed: int, before: int, after: int
) -> dict[str, object]:
    """Steps from a random start, projection onto E, steps on; for a cleared state with the forecast made at E."""
    problem, rows = build(action)
    space, slope, rng = problem.space, grad(problem.loss), np.random.default_rng(seed)
    weight = torch.nn.Parameter(start(problem, rows, seed))
    descent = OPTIMISERS[optimiser]([weight])

    def step() -> None:
        at = weight.detach()
        weight.grad = slope(at, draw(problem, DRAWS[draws], rng)) + problem.weight_decay * at
        descent.step()

    for _ in range(before):
        step()
    at = weight.detach().clone()
    row: dict[str, object] = {"kind": "run", "action": action, "optimiser": optimiser, "draws": draws, "state": state}
    row |= {"seed": seed, "off_before": float(space.transverse_part(at).norm() / at.norm())}
    at = space.equivariant_part(at)
    weight.data.copy_(at)
    if state == "cleared":
        descent.state.clear()
        row |= foretold(problem, at, descent, draws, after)
    times, distance = times_until(after), [0.0]
    for k in range(1, after + 1):
        step()
        if k in times:
            here = weight.detach()
            distance.append(float(space.transverse_part(here).norm() / here.norm()))
    return row | {"times": times, "distance": short(distance), "risk": float(problem.augmented_risk(weight.detach()))}


def foretold(problem: Problem, at: Tensor, descent: torch.optim.Optimizer, draws: str, steps: int) -> dict[str, object]:
    """What is said before the first step after the projection."""
    way = DRAWS[draws]
    said = forecast(problem, at, descent, steps=steps, batch=way.batch, elements=way.elements, per=way.per, start=0.0)
    lowest = min((s.multiplier.value for s in said.sectors), default=None)
    return {
        "said": said.state,
        "commutes": said.commutation.commutes,
        "violation": said.commutation.violation,
        "speed": said.commutation.speed / said.norm,
        "foretold": short(said.distance),
        "low": short(said.low),
        "high": short(said.high),
        "lowest": lowest,
    }
