"""Users' modules whose second derivatives torch gets wrong, or cannot vectorise; the answer is that of differences.

grouped     GroupNorm behind a convolution, as many samples as vectors are taken at once
normed      BatchNorm in evaluation mode, with statistics of its own
attending   scaled dot product attention, which has no second derivative as it stands
layered     LayerNorm on three-dimensional activations
tied        one weight used in two layers, and read as complex numbers between them
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import stability
from analyses.signs.case import Case, answers, lowest
from analyses.signs.drafts import averaged
from stability.groups import Cyclic, Lattice, regular, trivial
from stability.problem.problem import Problem

C2, C3 = Cyclic(2), Cyclic(3)
# Beyond this an eigenvalue by differences has a sign.
SURE = 1e-6


def gradient(problem: Problem, at: Tensor) -> Tensor:
    """∇R by one reverse pass."""
    point = at.clone().requires_grad_()
    return torch.autograd.grad(problem.risk(point), point)[0]


def hessian(problem: Problem, at: Tensor) -> Tensor:
    """∇²R by differences of fourth order of the gradient: no second derivative of torch's enters."""
    step = 3e-4
    rows = []
    for e in torch.eye(len(at), dtype=at.dtype):

        def moved(k: int, e: Tensor = e) -> Tensor:
            return gradient(problem, at + k * step * e)

        rows.append((8 * (moved(1) - moved(-1)) - moved(2) + moved(-2)) / (12 * step))
    matrix = torch.stack(rows)
    return (matrix + matrix.mT) / 2


def judged(problem: Problem, theta: Tensor) -> Case:
    """The transverse verdict at a point of E, where its answer is sure."""
    space = problem.space
    at = space.embed(theta)
    eye = torch.eye(space.dim, dtype=torch.float64)
    moves = torch.stack([space.act(g, eye).mT for g in space.group.elements()])
    matrix, fixed = averaged(hessian(problem, at), moves), moves.mean(0)
    values, vectors = torch.linalg.eigh((fixed + fixed.mT) / 2)
    inside, outside = vectors[:, values > 0.5], vectors[:, values < 0.5]
    on_e, across = (torch.linalg.eigvalsh(w.mT @ matrix @ w).tolist() for w in (inside, outside))
    truth = answers(on_e, across)
    # Elsewhere than at a stationary point nothing is said of the others.
    truth = {"transverse": truth["transverse"]} if abs(min(across)) > SURE else {}
    return Case(truth, problem, theta, lowest(on_e, across))


def built(
    rng: np.random.Generator, net: nn.Module, shape: tuple[int, ...], spec: Mapping[str, Any], **options: Any
) -> Case:
    """The network on a few random samples, at a random point of E."""
    n = options.pop("samples", int(rng.integers(2, 9)))
    torch.manual_seed(int(rng.integers(2**31)))
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.7)
    x = torch.as_tensor(rng.standard_normal((n, *shape)))
    y = torch.as_tensor(rng.standard_normal((n, 1)))
    decay = float(rng.choice([0.0, 0.01, 0.3]))
    problem = stability.from_module(net.double(), nn.MSELoss(), (x, y), spec, weight_decay=decay, **options)
    return judged(problem, problem.initial(int(rng.integers(1, 1000))))


def grouped(rng: np.random.Generator) -> Case:
    channels = int(rng.choice([2, 4, 8]))
    one, reg = trivial(C2), (channels // 2) * regular(C2)
    net = nn.Sequential(
        nn.Conv1d(1, channels, 3, padding=1),
        nn.GroupNorm(1, channels, affine=False),
        nn.Tanh(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(channels, 1),
    )
    line = Lattice(C2, [[[-1]]], "line")
    return built(rng, net, (1, 4), {"0": (one, reg), "5": (reg, one)}, lattice=line, samples=channels)


def normed(rng: np.random.Generator) -> Case:
    rho = 2 * regular(C3)
    net = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 1)).eval()
    net[1].running_var.fill_(float(10 ** rng.uniform(-1, 1)))
    return built(rng, net, (3,), {"0": (regular(C3), rho), "1": rho, "3": (rho, trivial(C3))})


class Attention(nn.Module):
    """Tokens attend to each other; G permutes them, and acts on no weight but those of the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(3, 6), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).unflatten(-1, (2, 3)).mT
        return self.head(F.scaled_dot_product_attention(tokens, tokens, tokens).mT.flatten(-2))


def attending(rng: np.random.Generator) -> Case:
    rho = 2 * regular(C3)
    return built(rng, Attention(), (3,), {"embed": (regular(C3), rho), "head": (rho, trivial(C3))})


class Layered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 6), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(F.layer_norm(self.first(x).unflatten(-1, (2, 3)), (3,))).flatten(-2))


def layered(rng: np.random.Generator) -> Case:
    rho = 2 * regular(C3)
    return built(rng, Layered(), (3,), {"first": (regular(C3), rho), "last": (rho, trivial(C3))})


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 6), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.view_as_complex(self.first(x).unflatten(-1, (2, 3)).mT.contiguous())
        again = torch.view_as_real(z * z.conj() * z).mT.flatten(-2)
        return self.last(torch.tanh(self.first(again[..., :3]) + again))


def tied(rng: np.random.Generator) -> Case:
    rho = 2 * regular(C3)
    return built(rng, Tied(), (3,), {"first": (regular(C3), rho), "last": (rho, trivial(C3))})


FAMILIES: dict[str, Callable[[np.random.Generator], Case]] = {
    "grouped": grouped,
    "normed": normed,
    "attending": attending,
    "layered": layered,
    "tied": tied,
}
