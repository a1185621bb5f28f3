"""Small problems over many groups, for brute force."""

from __future__ import annotations

from collections.abc import Callable

import torch

from stability.groups import (
    Cyclic,
    Dihedral,
    PermutationGroup,
    Representation,
    Symmetric,
    images,
    permutation,
    quaternion_group,
    regular,
    rotations,
    roto_translations,
    torus,
    trivial,
)
from stability.networks.classifier import Classifier
from stability.networks.losses import cross_entropy, squared
from stability.networks.network import mlp
from stability.networks.nonlinearities import Chain, Identity, LayerNorm, Pointwise
from stability.networks.supervised import supervised
from stability.problem.problem import Problem
from stability.problem.space import Samples

REPRESENTATIONS: dict[str, Callable[[], Representation]] = {
    "C_5": lambda: regular(Cyclic(5)),
    "Z_3²": lambda: images(torus(3), 3),
    "D_4": lambda: images(Dihedral(4), 3),
    "S_4": lambda: permutation(Symmetric(4)),
    "S_3 on pairs": lambda: permutation(Symmetric(3)) * permutation(Symmetric(3)),
    "A_4 from generators": lambda: permutation(PermutationGroup([(1, 2, 0, 3), (0, 2, 3, 1)], name="A_4")),
    "C_4 ⋉ Z_2²": lambda: images(roto_translations(2), 2),
    "C_4 rotations": lambda: rotations(Cyclic(4), 3),
    "Q_8": lambda: regular(quaternion_group()),
}


def classification(name: str, seed: int = 0, weight_decay: float = 1e-2, samples: int = 12) -> Problem:
    """1·ρ → 2·ρ [tanh] → 3·1 [tanh, LayerNorm] → 3·1 on random data, invariant classes."""
    rho = REPRESENTATIONS[name]()
    one = trivial(rho.group)
    network = mlp(
        [1 * rho, 2 * rho, 3 * one, 3 * one],
        [Pointwise("tanh"), Chain((Pointwise("tanh"), LayerNorm(0.1))), Identity()],
    )
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, rho.dim, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 3, (samples,), generator=generator)
    weight = torch.full((samples,), 1 / samples, dtype=torch.float64)
    return supervised(name, Classifier(network, cross_entropy), Samples(x, y, weight), weight_decay=weight_decay)


def regression(name: str, seed: int = 0, weight_decay: float = 0.0, samples: int = 12) -> Problem:
    """1·ρ → 2·ρ + 1·1 [tanh] → 1·ρ, equivariant targets, channels mixing representations."""
    rho = REPRESENTATIONS[name]()
    one = trivial(rho.group)
    network = mlp([1 * rho, 2 * rho + 1 * one, 1 * rho], [Pointwise("tanh"), Identity()])
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, samples, rho.dim, generator=generator, dtype=torch.float64)
    weight = torch.full((samples,), 1 / samples, dtype=torch.float64)
    model = Classifier(network, squared, target=1 * rho, decides=False)
    return supervised(name, model, Samples(x, y, weight), weight_decay=weight_decay)


def point_of_e(problem: Problem, seed: int = 1) -> torch.Tensor:
    """A random point of E, as a flat vector in L."""
    return problem.space.embed(problem.initial(seed))
