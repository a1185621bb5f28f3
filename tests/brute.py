r"""Slow dense references written from the definitions, and the small cases they are compared on.

Nothing here uses how the package computes: groups are enumerated from their generators, averages are sums of
dense matrices over all of G, ρ̄(g) is ρ_Y(g) ⊗ ρ_X(g) on weights read row by row, dimensions are inner products
of characters, networks are matrix products with σ and ℓ written out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache

import numpy as np
import pytest
import torch
from scipy.linalg import block_diag
from torch import Tensor

from stability.base.errors import BadInput
from stability.groups import (
    Cyclic,
    Dihedral,
    Element,
    Group,
    Irrep,
    MatrixGroup,
    MatrixRepresentation,
    PermutationGroup,
    PermutationRepresentation,
    Representation,
    Symmetric,
    defining,
    from_generators,
    images,
    permutation,
    quaternion_group,
    regular,
    roto_translations,
    torus,
    trivial,
    trivial_irrep,
)
from stability.layers import Layer
from stability.networks.classifier import Classifier
from stability.networks.losses import cross_entropy, logistic, squared, two_masks
from stability.networks.network import mlp
from stability.networks.nonlinearities import Chain, Identity, LayerNorm, Pointwise
from stability.networks.supervised import supervised
from stability.problem.problem import Problem
from stability.problem.space import Samples


def bad(message: str):
    """A BadInput of one line that contains `message`, a regular expression."""
    return pytest.raises(BadInput, match=rf"\A[^\n]*{message}[^\n]*\Z")


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.as_tensor(np.random.default_rng(seed).standard_normal(shape))


# ----------------------------------------------------------------------------------------- groups and matrices


@cache
def closure(group: Group) -> tuple[Element, ...]:
    """What the generators reach by multiplication from the right, without asking ``elements``."""
    assert group.order is not None, f"{group.name} is infinite"
    found, frontier = {group.identity}, [group.identity]
    while frontier:
        frontier = [b for b in {group.multiply(a, s) for a in frontier for s in group.generators} if b not in found]
        found.update(frontier)
    return tuple(found)


def permutation_matrix(p: Sequence[int]) -> np.ndarray:
    """The matrix with M e_i = e_p[i]."""
    matrix = np.zeros((len(p), len(p)))
    for i, target in enumerate(p):
        matrix[target, i] = 1
    return matrix


def image_matrix(n: int, move: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The matrix of a linear map of n × n images, one basis image after the other."""
    return np.stack([move(e.reshape(n, n)).ravel() for e in np.eye(n * n)], axis=1)


def rotation(angle: float) -> np.ndarray:
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def mean_free(n: int) -> np.ndarray:
    """An orthonormal basis (n, n − 1) of the vectors that sum to zero."""
    return np.linalg.qr(np.column_stack([np.ones(n), np.eye(n)[:, 1:]]))[0][:, 1:]


def restricted(p: Sequence[int]) -> np.ndarray:
    """A permutation on the vectors that sum to zero."""
    basis = mean_free(len(p))
    return basis.T @ permutation_matrix(p) @ basis


def average(matrices: Iterable[np.ndarray]) -> np.ndarray:
    return np.mean(list(matrices), axis=0)


def character(rep: Representation) -> np.ndarray:
    """Traces of ρ(g), in the order of ``closure``."""
    return np.array([np.trace(rep.matrix(g)) for g in closure(rep.group)])


def dim_hom(*reps: Representation) -> int:
    """The number of invariants in ρ_1 ⊗ … ⊗ ρ_k, from characters; for two, dim Hom_G(ρ_1, ρ_2)."""
    value = np.mean(np.prod([character(r) for r in reps], axis=0))
    assert abs(value - round(value)) < 1e-9
    return round(value)


def lifted(layers: Sequence[Layer], g: Element) -> np.ndarray:
    """ρ̄(g) on L = ⊕ Hom(X_i, X_{i+1}), dense."""
    return block_diag(*(np.kron(layer.target.matrix(g), layer.source.matrix(g)) for layer in layers))


def equivariant_projection(layers: Sequence[Layer]) -> np.ndarray:
    """Π_E, the average of ρ̄(g) over the enumerated group."""
    return average(lifted(layers, g) for g in closure(layers[0].source.group))


def sector_projection(layer: Layer, irrep: Irrep) -> np.ndarray:
    """The projection of all maps V_λ → L, read as (d, rows, columns), onto the G-maps."""
    rep = irrep.representation
    return average(np.kron(rep.matrix(g), lifted([layer], g)) for g in closure(rep.group))


# --------------------------------------------------------------------------------------------------- networks

SIGMA: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "tanh": lambda x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()),
    "gelu": lambda x: x / 2 * (1 + torch.erf(x / math.sqrt(2))),
    "silu": lambda x: x / (1 + (-x).exp()),
    "softplus": lambda x: torch.log(1 + x.exp()),
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "quadratic": lambda x: x + x**2,
    "relu": lambda x: torch.where(x > 0, x, 0 * x),
    "leaky_relu": lambda x: torch.where(x > 0, x, 0.01 * x),
}


def normalised(x: Tensor, channels: int, epsilon: float) -> Tensor:
    """Layer normalisation of (n, channels · points) over the channels, point by point."""
    z = x.reshape(len(x), channels, -1).transpose(1, 2)
    return torch.nn.functional.layer_norm(z, (channels,), eps=epsilon).transpose(1, 2).reshape(x.shape)


def sigma(which: object, x: Tensor, space: Representation) -> Tensor:
    """σ as torch defines it."""
    if isinstance(which, Chain):
        for part in which.parts:
            x = sigma(part, x, space)
        return x
    if isinstance(which, LayerNorm):
        return normalised(x, space.blocks[0][0], which.epsilon)
    return SIGMA[which.name](x)


def predict(problem: Problem, at: Tensor, x: Tensor) -> Tensor:
    """Φ_A(x) from the dense matrices in the flat vector A."""
    start = 0
    for layer, which in zip(problem.space.layers, problem.model.network.nonlinearities, strict=True):
        rows, columns = layer.target.dim, layer.source.dim
        weight = at[start : start + rows * columns].reshape(rows, columns)
        start += rows * columns
        x = sigma(which, torch.einsum("rc,nc->nr", weight, x), layer.target)
    assert start == len(at)
    return x


def _cross_entropy(p: Tensor, y: Tensor) -> Tensor:
    return -(p.exp() / p.exp().sum(-1, keepdim=True)).log()[torch.arange(len(y)), y]


def _logistic(p: Tensor, y: Tensor) -> Tensor:
    probability, y = 1 / (1 + (-p).exp()), y.reshape(p.shape).to(p)
    return -(y * probability.log() + (1 - y) * (1 - probability).log()).mean(-1)


LOSS = {
    squared: lambda p, y: ((p - y) ** 2).sum(-1) / 2,
    cross_entropy: _cross_entropy,
    logistic: _logistic,
    two_masks: lambda p, y: sum(_logistic(a, b) for a, b in zip(p.chunk(2, -1), y.chunk(2, -1), strict=True)),
}


def risk(problem: Problem, at: Tensor, g: Element | None = None) -> Tensor:
    """Σ_s w_s ℓ(Φ_A(ρ_X(g)x_s), ρ_Y(g)y_s) + μ/2‖A‖²."""
    x, y, weight = problem.samples
    if g is not None:
        x = x @ torch.as_tensor(problem.model.input.matrix(g)).T
        if problem.model.target is not None:
            y = y @ torch.as_tensor(problem.model.target.matrix(g)).T
    losses = LOSS[problem.model.loss](predict(problem, at, x), y)
    return (weight * losses).sum() + problem.weight_decay / 2 * (at**2).sum()


def augmented_risk(problem: Problem, at: Tensor) -> Tensor:
    """R^aug(A), the data moved by every element."""
    members = closure(problem.group)
    return sum(risk(problem, at, g) for g in members) / len(members)


def gradient(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    point = at.detach().clone().requires_grad_()
    return torch.autograd.grad(function(point), point)[0]


# ------------------------------------------------------------------------------------------------ small cases

GROUPS: dict[str, Group] = {
    "C_5": Cyclic(5),
    "C_6": Cyclic(6),
    "Z_3²": torus(3),
    "D_4": Dihedral(4),
    "S_3": Symmetric(3),
    "S_4": Symmetric(4),
    "C_4 ⋉ Z_2²": roto_translations(2),
    "A_4": PermutationGroup([(1, 2, 0, 3), (1, 0, 3, 2)], name="A_4"),
    "Q_8": quaternion_group(),
}
NAMES = tuple(GROUPS)
ORDERS = dict(zip(NAMES, (5, 6, 9, 8, 6, 24, 16, 12, 8), strict=True))

# Generators of the rotations of the icosahedron: entries in Q(√5), so products are exact only to rounding.
_PHI = (1 + math.sqrt(5)) / 2
ICOSAHEDRON = MatrixGroup(
    [
        [[-1, 0, 0], [0, -1, 0], [0, 0, 1]],
        [[0, 0, 1], [1, 0, 0], [0, 1, 0]],
        np.array([[1, -_PHI, 1 / _PHI], [_PHI, 1 / _PHI, -1], [1 / _PHI, 1, _PHI]]) / 2,
    ],
    name="icosahedron",
)


def _from(name: str, label: str, kind: str, *matrices: object) -> Irrep:
    square = [np.atleast_2d(np.asarray(m, dtype=float)) for m in matrices]
    return Irrep(label, from_generators(GROUPS[name], square, f"{name}: {label}"), kind)


@cache
def irreps(name: str) -> tuple[Irrep, ...]:
    """Every real irreducible representation of a group above, found by hand, the trivial one first."""
    turn, flip, swap = rotation(math.pi / 2), np.diag([1.0, -1.0]), np.array([[0.0, 1.0], [1.0, 0.0]])
    third, one = rotation(2 * math.pi / 3), np.eye(2)
    match name:
        case "C_5":
            found = [_from(name, f"plane {k}", "complex", rotation(2 * math.pi * k / 5)) for k in (1, 2)]
        case "C_6":
            found = [_from(name, "sign", "real", -1)]
            found += [_from(name, f"plane {k}", "complex", rotation(math.pi * k / 3)) for k in (1, 2)]
        case "Z_3²":
            found = [
                _from(name, f"wave {a}{b}", "complex", *(rotation(2 * math.pi * k / 3) for k in (a, b)))
                for a, b in ((1, 0), (0, 1), (1, 1), (1, 2))
            ]
        case "D_4":
            found = [_from(name, f"{r:+}{f:+}", "real", r, f) for r, f in ((1, -1), (-1, 1), (-1, -1))]
            found += [_from(name, "plane", "real", turn, flip)]
        case "S_3":
            found = [
                _from(name, "sign", "real", -1, 1),
                _from(name, "standard", "real", restricted((1, 0, 2)), restricted((1, 2, 0))),
            ]
        case "S_4":
            standard = restricted((1, 0, 2, 3)), restricted((1, 2, 3, 0))
            found = [
                _from(name, "(1,1,1,1)", "real", -1, -1),
                # S_4 permutes the three ways to pair four points.
                _from(name, "(2,2)", "real", restricted((0, 2, 1)), restricted((2, 1, 0))),
                _from(name, "(2,1,1)", "real", -standard[0], -standard[1]),
                _from(name, "(3,1)", "real", *standard),
            ]
        case "C_4 ⋉ Z_2²":
            shifts = np.diag([-1.0, 1.0]), np.diag([1.0, -1.0])
            found = [_from(name, f"{s:+}{t:+}", "real", s, s, t) for s, t in ((1, -1), (-1, 1), (-1, -1))]
            found += [_from(name, f"turn {s:+}", "complex", s * one, s * one, turn) for s in (1, -1)]
            found += [_from(name, "swap", "real", *shifts, swap), _from(name, "quarter", "real", *shifts, turn)]
        case "A_4":
            standard = restricted((1, 2, 0, 3)), restricted((1, 0, 3, 2))
            found = [_from(name, "plane", "complex", third, one), _from(name, "standard", "real", *standard)]
        case "Q_8":
            found = [_from(name, f"{i:+}{j:+}", "real", i, j) for i, j in ((1, -1), (-1, 1), (-1, -1))]
            found += [Irrep("quaternions", defining(GROUPS[name]), "quaternionic")]
    return (trivial_irrep(GROUPS[name]), *found)


COPIES = {"real": 1, "complex": 2, "quaternionic": 4}


def irrep_cases() -> list:
    """(group's name, irrep) for every irrep of every group."""
    return [pytest.param(name, v, id=f"{name} {v.name}") for name in NAMES for v in irreps(name)]


@cache
def points(name: str) -> Representation:
    """A permutation representation of a group above."""
    group = GROUPS[name]
    match name:
        case "C_5" | "Q_8":
            return regular(group)
        case "C_6":
            return PermutationRepresentation(group, 3, lambda g: (np.arange(3) + g) % 3, "triangle")
        case "Z_3²":
            return images(group, 3)
        case "D_4" | "C_4 ⋉ Z_2²":
            return images(group, 2)
    return permutation(group)


@cache
def spaces(name: str) -> tuple[Representation, Representation]:
    """Two spaces that mix permutations with an irrep that permutes nothing."""
    p, v = points(name), irreps(name)[-1].representation
    return 2 * p + v, v + trivial(p.group) + p


def standard(n: int) -> Irrep:
    """λ = (n − 1, 1) of S_n without enumerating it."""
    rep = MatrixRepresentation(Symmetric(n), n - 1, restricted, f"({n - 1},1)")
    return Irrep(f"({n - 1},1)", rep, "real")


def _samples(count: int, x: Representation, y: Tensor, seed: int) -> Samples:
    rng = np.random.default_rng(seed)
    weight = torch.as_tensor(rng.uniform(0.5, 1.5, count))
    return Samples(torch.as_tensor(rng.standard_normal((count, x.dim))), y, weight / weight.sum())


def _labels(count: int, classes: int) -> Tensor:
    return torch.arange(count) % classes


@cache
def problem(name: str) -> Problem:
    """A small network with a decay and unequal sample weights."""
    n = 7
    if name.startswith("Z_3²"):  # invariant: a digit's class
        rho, one = points("Z_3²"), trivial(GROUPS["Z_3²"])
        steps = [Pointwise("tanh"), Chain((Pointwise("tanh"), LayerNorm(0.1))), Identity()]
        model = Classifier(mlp([1 * rho, 2 * rho, 4 * one, 3 * one], steps), cross_entropy)
        y = _labels(n, 3)
    elif name.startswith("D_4"):  # equivariant: two masks
        rho = points("D_4")
        model = Classifier(mlp([1 * rho, 3 * rho, 2 * rho], [Pointwise("softplus"), Identity()]), two_masks, 2 * rho)
        y = (gaussian(n, 8, seed=1) > 0).double()
    elif name.startswith("S_4"):  # invariant: a property of a graph
        node, one = permutation(GROUPS["S_4"]), trivial(GROUPS["S_4"])
        model = Classifier(mlp([node * node, 2 * node, 1 * one], [Pointwise("gelu"), Identity()]), logistic)
        y = _labels(n, 2)
    elif name.startswith("C_4 ⋉ Z_2²"):
        rho = points("C_4 ⋉ Z_2²")
        model = Classifier(
            mlp([2 * rho, 3 * rho, 1 * rho], [Pointwise("tanh"), Pointwise("quadratic")]), squared, 1 * rho, False
        )
        y = gaussian(n, 4, seed=2)
    elif name.startswith("A_4"):
        rho, one = points("A_4"), trivial(GROUPS["A_4"])
        model = Classifier(
            mlp([2 * rho, rho + 2 * one, one + rho], [Pointwise("sigmoid"), Identity()]), squared, one + rho, False
        )
        y = gaussian(n, 5, seed=3)
    else:  # Q_8: neither input nor output is a permutation representation
        v, hidden = defining(GROUPS["Q_8"]), points("Q_8")
        model = Classifier(mlp([1 * v, 1 * hidden, 1 * v], [Pointwise("tanh"), Identity()]), squared, 1 * v, False)
        y = gaussian(n, 4, seed=4)
    return supervised(name, model, _samples(n, model.input, y, seed=5), weight_decay=0.05)


PROBLEMS = ("Z_3² classes", "D_4 masks", "S_4 graphs", "C_4 ⋉ Z_2² images", "A_4 points", "Q_8 quaternions")


# ------------------------------------------------------------------------------------------ finite differences

STEP = 2e-3


def differences(gradient: Callable[[Tensor], Tensor], at: Tensor) -> np.ndarray:
    """The Jacobian of a gradient, symmetrised: columns by central differences at two steps, extrapolated."""
    columns = [directional(gradient, at, e) for e in torch.eye(len(at), dtype=torch.float64)]
    matrix = np.stack(columns, axis=1)
    return (matrix + matrix.T) / 2


def directional(gradient: Callable[[Tensor], Tensor], at: Tensor, v: Tensor) -> np.ndarray:
    """(4 D(h/2) − D(h))/3 with D(h) = (∇R(A + hv) − ∇R(A − hv))/2h, whose error is of order h⁴."""
    step = STEP / max(1.0, float(at.abs().max()))  # large weights bend a risk faster
    found = [(gradient(at + h * v) - gradient(at - h * v)) / (2 * h) for h in (step, step / 2)]
    return ((4 * found[1] - found[0]) / 3).numpy()


def fixed_projection(moves: Sequence[np.ndarray]) -> np.ndarray:
    """The orthogonal projection onto what all of some orthogonal matrices leave alone."""
    total = sum((m - np.eye(len(m))).T @ (m - np.eye(len(m))) for m in moves)
    values, vectors = np.linalg.eigh(total)
    kept = vectors[:, values < 1e-9]
    return kept @ kept.T
