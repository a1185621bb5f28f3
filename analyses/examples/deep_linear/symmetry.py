"""What a symmetry adds: the index sector by sector."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from analyses.examples.deep_linear.critical import GRADIENT, linear_problem, root
from stability.eigen.dense import dense_spectrum
from stability.eigen.operator import assemble
from stability.eigen.spectrum import Spectrum
from stability.groups import Group, Symmetric, character, irreps, permutation, trivial
from stability.problem.problem import Problem
from stability.spectra import sectors

# Hidden spaces of the symmetric networks: so many invariants, so many copies of R⁴.
HIDDEN = ((1, 0), (2, 0), (3, 0), (1, 1), (0, 2))


def balanced_spectrum(widths: Sequence[int], values: Sequence[float], used: Sequence[int]) -> np.ndarray:
    """Every eigenvalue of ∇²R at the balanced point with Z = 0 on white inputs, ascending; s_i = σ_i^{1/H}.

    S × S: Σ_h s_i^{2(H−h)} s_k^{2(h−1)} and H − 1 zeros for each (i, k); S × Q: σ_i^{(H−2)/H}(σ_i ± σ_k); what is
    unused: ±σ_k, f_1 times, for H = 2; zeros otherwise.
    """
    depth, values = len(widths) - 1, np.asarray(values)
    rest = [k for k in range(len(values)) if k not in used]
    s = values ** (1 / depth)
    found = [
        sum(s[i] ** (2 * (depth - h)) * s[k] ** (2 * (h - 1)) for h in range(1, depth + 1)) for i in used for k in used
    ]
    for i, k in itertools.product(used, rest):
        found += [s[i] ** (depth - 2) * (values[i] + sign * values[k]) for sign in (1, -1)]
    if depth == 2:
        found += [sign * values[k] for k in rest for sign in (1, -1)] * (widths[1] - len(used))
    dim = sum(a * b for a, b in itertools.pairwise(widths))
    return np.sort(np.concatenate([found, np.zeros(dim - len(found))]))


# -- symmetry: S_n on d copies of R^n ---------------------------------------------------------------------------------
@dataclass(frozen=True)
class Symmetrised:
    """d copies of R^n in and out, a hidden space of ``ones`` invariants and ``copies`` of R^n, one hidden layer.

    Attributes:
        x, y: data without symmetry, (samples, d n).
    """

    n: int
    d: int
    ones: int
    copies: int
    x: np.ndarray
    y: np.ndarray

    @property
    def group(self) -> Group:
        """S_n."""
        return Symmetric(self.n)

    @cached_property
    def problem(self) -> Problem:
        """The risk with its symmetry."""
        nodes, one = permutation(self.group), trivial(self.group)
        ends = self.d * nodes
        parts = [c * r for c, r in ((self.ones, one), (self.copies, nodes)) if c]
        hidden = parts[0] if len(parts) == 1 else parts[0] + parts[1]
        return linear_problem([ends, hidden, ends], torch.as_tensor(self.x), torch.as_tensor(self.y))

    @cached_property
    def moments(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """For the trivial and the standard irrep: the d × d blocks of E[yxᵀ] and E[xxᵀ] averaged over the group."""
        x, y = (a.reshape(len(a), self.d, self.n) for a in (self.x, self.y))
        mean_x, mean_y = x.mean(2, keepdims=True), y.mean(2, keepdims=True)
        found = {}
        for name, a, b, size in (
            ("trivial", mean_x + 0 * x, mean_y + 0 * y, 1),
            ("standard", x - mean_x, y - mean_y, self.n - 1),
        ):
            found[name] = tuple(np.einsum("sik,sjk->ij", left, a) / (len(a) * size) for left in (b, a))
        return found

    @cached_property
    def directions(self) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """U, σ, V and E[xxᵀ]^{−1/2} of each block."""
        found = {}
        for name, (cross, inputs) in self.moments.items():
            whitener = root(inputs)[1]
            u, values, vt = np.linalg.svd(cross @ whitener)
            found[name] = (u, values, vt.T, whitener)
        return found

    @property
    def width(self) -> dict[str, int]:
        """Copies of each irrep in the hidden space."""
        return {"trivial": self.ones + self.copies, "standard": self.copies}

    def classes(self) -> Iterator[dict[str, tuple[int, ...]]]:
        """Every class of critical points in E: a set S for each irrep."""
        sets = [
            [s for size in range(min(self.d, w) + 1) for s in itertools.combinations(range(self.d), size)]
            for w in self.width.values()
        ]
        for chosen in itertools.product(*sets):
            yield dict(zip(self.width, chosen, strict=True))

    def representative(self, used: dict[str, tuple[int, ...]]) -> Tensor:
        """A critical point of the class, as a flat vector of E."""
        n, d = self.n, self.d
        flat, rest = np.full((n, n), 1 / n), np.eye(n) - np.full((n, n), 1 / n)
        first, second = {}, {}
        for name, (u, values, v, whitener) in self.directions.items():
            s = list(used[name])
            blank = np.zeros((self.width[name] - len(s), d))
            first[name] = np.concatenate([values[s, None] * v[:, s].T @ whitener, blank])
            second[name] = np.concatenate([u[:, s], blank.T], axis=1)
        # Copies of R^n carry the standard irrep and the last of the trivial ones; invariants carry the others.
        o, line = self.ones, np.full((1, n), n**-0.5)
        w1 = [
            np.kron(first["trivial"][:o], line),
            np.kron(first["trivial"][o:], flat) + np.kron(first["standard"], rest),
        ]
        w2 = [
            np.kron(second["trivial"][:, :o], line.T),
            np.kron(second["trivial"][:, o:], flat) + np.kron(second["standard"], rest),
        ]
        return torch.cat(
            [torch.as_tensor(np.concatenate(w1)).flatten(), torch.as_tensor(np.concatenate(w2, axis=1)).flatten()]
        )

    def index(self, used: dict[str, tuple[int, ...]]) -> dict[str, int]:
        """Negative eigenvalues of B_ν for every sector ν, by the irrep's name: the closed form."""
        found = {}
        for nu in irreps(self.group):
            total = 0
            for a, b in itertools.product(self.width, repeat=2):
                ends = [k for k in range(self.d) if k not in used[b]]
                better = sum(bool(self.directions[b][1][k] > self.directions[a][1][i]) for i in used[a] for k in ends)
                loose = (self.width[a] - len(used[a])) * len(ends)
                if better + loose:
                    total += self.occurs(a, b, nu.name) * (better + loose)
            found[nu.name] = total
        return found

    def occurs(self, a: str, b: str, nu: str) -> int:
        """How often V_ν occurs in V_a ⊗ V_b, by characters."""
        return self._products[a, b, nu]

    @cached_property
    def _products(self) -> dict[tuple[str, str, str], int]:
        every, found = list(irreps(self.group)), {}
        named = {"trivial": "trivial", "standard": f"({self.n - 1},1)"}
        characters = {v.name: np.array([character(v, g) for g in self.group.elements()]) for v in every}
        for a, b, nu in itertools.product(named, named, characters):
            found[a, b, nu] = round(float((characters[named[a]] * characters[named[b]] * characters[nu]).mean()))
        return found

    def is_equivariant_minimum(self, used: dict[str, tuple[int, ...]]) -> bool:
        """S leading and of full size for each irrep."""
        return all(used[name] == tuple(range(min(self.d, w))) for name, w in self.width.items())


def symmetrised(n: int = 4, d: int = 2, ones: int = 1, copies: int = 1, seed: int = 0) -> Symmetrised:
    """Random data without symmetry, y = Tx + noise with T a random matrix."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((60, d * n)) @ np.diag(np.linspace(0.6, 1.4, d * n))
    y = x @ (np.kron(rng.standard_normal((d, d)), np.eye(n)) + 0.5 * rng.standard_normal((d * n, d * n)))
    return Symmetrised(n, d, ones, copies, x, y + 0.3 * rng.standard_normal((60, d * n)))


def sector_spectra(problem: Problem, at: Tensor) -> dict[str, Spectrum]:
    """Every eigenvalue of ∇²R^aug at a point of E, sector by sector, in the coordinates of each."""
    theta = problem.space.project(at)
    found = {}
    for irrep, _ in sectors.occurring(problem.space):
        operator = sectors.sector_hessian(problem, theta, irrep)
        matrix = assemble(operator, theta)
        found[irrep.name] = dense_spectrum(matrix, operator, k=len(matrix), floor=GRADIENT).spectrum
    return found
