"""Groups that are hard to see through: redundant generators, quaternionic irreps, skew bases, high weights.

Risks are quadratic, ½ Σ h_i ‖P_i(A − T)‖² over parts that the group carries into themselves; T is in E. The parts are
known by hand, or from brute force over all elements, and with them the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

import stability
from analyses.signs.case import TINY, Case, answers, lowest
from stability.groups import (
    O2,
    SO2,
    SO3,
    LieGroup,
    MatrixGroup,
    Representation,
    defining,
    from_generators,
    harmonics,
    trivial,
)

Matrices = list[np.ndarray]


def curvatures(rng: np.random.Generator, count: int) -> np.ndarray:
    """Of order one, in half of the cases with one that is not: ±1e-8, or −1."""
    found = rng.uniform(0.5, 2.0, count)
    if rng.random() < 0.5:
        found[rng.integers(count)] = rng.choice([TINY, -TINY, -1.0])
    return found


def _case(
    name: str,
    spaces: dict[str, object],
    centre: dict[str, Tensor],
    start: dict[str, Tensor],
    forms: dict[str, Tensor],
    on_e: list,
    across: list,
) -> Case:
    """R(A) = 1 + ½ Σ ⟨A − T, F (A − T)⟩ at T, one symmetric F for each tensor; runs would start elsewhere in E."""

    def risk(a: dict[str, Tensor]) -> Tensor:
        away = {k: (a[k] - centre[k]).flatten() for k in forms}
        return 1 + sum(0.5 * away[k] @ (f @ away[k]) for k, f in forms.items())

    problem = stability.from_risk(risk, start, spaces, name=name)
    flat = torch.cat([centre[layer.name].flatten() for layer in problem.space.layers])
    return Case(answers(on_e, across), problem, problem.space.project(flat), lowest(on_e, across))


def flips(rng: np.random.Generator) -> Case:
    """Z_2^k by more sign flips than it needs, on matrices: W_ij changes sign with i and j, so E is the diagonal."""
    n = int(rng.integers(3, 6))
    count = n + int(rng.integers(0, 4))
    while True:
        bits = rng.integers(0, 2, (count, n))
        if len({tuple(column) for column in bits.T}) == n:
            break
    group = MatrixGroup([np.diag(1.0 - 2 * row) for row in bits], name=f"⟨{count} flips of {n}⟩")
    h = np.empty((n, n))
    diagonal = np.eye(n, dtype=bool)
    h[diagonal], h[~diagonal] = curvatures(rng, n), curvatures(rng, n * n - n)
    centre, start = ({"W": torch.diag(torch.as_tensor(rng.standard_normal(n)))} for _ in range(2))
    rho = defining(group)
    form = {"W": torch.diag(torch.as_tensor(h.flatten()))}
    return _case(group.name, {"W": (rho, rho)}, centre, start, form, h[diagonal].tolist(), h[~diagonal].tolist())


def _left(q: Sequence[float]) -> np.ndarray:
    """x ↦ qx on the quaternions."""
    w, x, y, z = q
    return np.array([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]])


def _reflection(v: Sequence[float]) -> np.ndarray:
    u = np.array(v) / np.linalg.norm(v)
    return np.eye(len(u)) - 2 * np.outer(u, u)


PHI = (1 + math.sqrt(5)) / 2
FINITE: dict[str, Matrices] = {
    "2T": [_left((0, 1, 0, 0)), _left((0.5, 0.5, 0.5, 0.5))],
    "2O": [_left((0.5, 0.5, 0.5, 0.5)), _left((math.sqrt(0.5), math.sqrt(0.5), 0, 0))],
    "2I": [_left((0.5, 0.5, 0.5, 0.5)), _left((PHI / 2, 1 / PHI / 2, 0.5, 0))],
    "Dic_5": [_left((math.cos(math.pi / 5), math.sin(math.pi / 5), 0, 0)), _left((0, 0, 1, 0))],
    "Q_8 both sides": [_left((0, 1, 0, 0)), _left((0, 0, 1, 0)), _left((0, 1, 0, 0)).T[::-1, ::-1]],
    "H_3": [_reflection(v) for v in ((1, 0, 0), (PHI, 1, 1 / PHI), (0, 1, 0))],
    "B_3": [np.roll(np.eye(3), 1, 0), np.eye(3)[[1, 0, 2]], np.diag([-1.0, 1, 1])],
}


@cache
def _parts(name: str) -> tuple[Matrices, Matrices]:
    """Projections onto the irreducible parts of matrices under conjugation, in E and in E⊥: by averaging over all g."""
    group = MatrixGroup(FINITE[name])
    moves = [np.kron(group.matrix_of(g), group.matrix_of(g)) for g in group.elements()]
    mean = sum(moves) / len(moves)
    random = np.random.default_rng(5).standard_normal(mean.shape)
    values, vectors = np.linalg.eigh(sum(m.T @ (random + random.T) @ m for m in moves) / len(moves))
    spaces = np.split(vectors, np.flatnonzero(np.diff(values) > 1e-7) + 1, axis=1)
    inside = [v @ v.T for v in spaces if np.linalg.norm(mean @ v) > 0.5]
    return inside, [v @ v.T for v in spaces if np.linalg.norm(mean @ v) < 0.5]


def finite(rng: np.random.Generator) -> Case:
    """Binary polyhedral, dicyclic and reflection groups in a turned basis, on matrices."""
    name = str(rng.choice(list(FINITE)))
    inside, outside = _parts(name)
    n = len(FINITE[name][0])
    turn = np.linalg.qr(rng.standard_normal((n, n)))[0]
    group = MatrixGroup([turn @ m @ turn.T for m in FINITE[name]], name=name)
    both = np.kron(turn, turn)
    on_e, across = curvatures(rng, len(inside)), curvatures(rng, len(outside))
    form = sum(h * both @ p @ both.T for h, p in zip([*on_e, *across], [*inside, *outside], strict=True))
    centre, start = (
        {"W": torch.as_tensor((both @ sum(inside) @ rng.standard_normal(n * n)).reshape(n, n))} for _ in range(2)
    )
    rho = defining(group)
    return _case(
        name,
        {"W": (rho, rho)},
        centre,
        start,
        {"W": torch.as_tensor((form + form.T) / 2)},
        on_e.tolist(),
        across.tolist(),
    )


def _plane(n: int, k: int) -> np.ndarray:
    """The turn of plane k of n, (2n, 2n)."""
    turn = np.zeros((2 * n, 2 * n))
    turn[2 * k + 1, 2 * k], turn[2 * k, 2 * k + 1] = 1.0, -1.0
    return turn


def skewed(rng: np.random.Generator) -> Case:
    """A torus by a basis with a condition up to 1e5 and matrices of size 1e-12 to 1e12; planes of given weights."""
    rank, planes = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    left, right = (np.linalg.qr(rng.standard_normal((rank, rank)))[0] for _ in range(2))
    mixed = left @ np.diag(np.geomspace(1, 10 ** -rng.uniform(0, 5), rank)) @ right
    mixed *= 10.0 ** rng.integers(-12, 13, (rank, 1))
    weights = rng.integers(-3, 4, (planes, rank))
    weights[0] = weights[0] + (not weights[0].any())
    group = LieGroup([sum(c * _plane(rank, k) for k, c in enumerate(row)) for row in mixed], name=f"T^{rank}")
    turned = mixed @ weights.T
    rho = from_generators(
        group, [], "planes", [sum(c * _plane(planes, k) for k, c in enumerate(row)) for row in turned]
    )
    return _blocks(rng, group.name, trivial(group), rho, [2] * planes, weights.any(1).tolist())


def _blocks(
    rng: np.random.Generator, name: str, one: Representation, rho: Representation, sizes: list[int], moved: list[bool]
) -> Case:
    """A fixed number t and a vector of blocks, each moved (in E⊥) or not (in E), with a curvature each."""
    of_t, h = curvatures(rng, 1), curvatures(rng, len(sizes))
    none = torch.zeros(sum(sizes), dtype=torch.float64)
    form = {"t": torch.diag(torch.as_tensor(of_t)), "y": torch.diag(torch.as_tensor(np.repeat(h, sizes)))}
    on_e = [*of_t.tolist(), *(float(v) for v, m in zip(h, moved, strict=True) if not m)]
    across = [float(v) for v, m in zip(h, moved, strict=True) if m]
    centre, start = ({"t": torch.tensor([t], dtype=torch.float64), "y": none} for t in (1.0, 2.0))
    return _case(name, {"t": one, "y": rho}, centre, start, form, on_e, across)


def high(rng: np.random.Generator) -> Case:
    """SO(2), O(2) and SO(3) on harmonics of degree up to 150, 150 and 9."""
    group = [SO2(), O2(), SO3()][rng.integers(3)]
    most = 9 if isinstance(group, SO3) else 150
    degrees = rng.choice(np.arange(1, most + 1), int(rng.integers(1, 4)), replace=False).tolist()
    parts = [harmonics(group, int(k)) for k in degrees]
    rho = parts[0]
    for part in parts[1:]:
        rho = rho + part
    return _blocks(rng, group.name, trivial(group), rho, [p.dim for p in parts], [True] * len(parts))


FAMILIES: dict[str, Callable[[np.random.Generator], Case]] = {
    "flips": flips,
    "finite": finite,
    "skewed": skewed,
    "high": high,
}
