r"""A deep linear network: every critical point with its index, known in closed form, and what symmetry adds.

    python -m analyses.examples.deep_linear

R(W) = E ½|W_H ⋯ W_1 x − y|², with M = E[yxᵀ] E[xxᵀ]^{−1/2} = UΣVᵀ square, invertible, its singular values distinct.

**Critical points** (Baldi & Hornik 1989 for H = 2; Achour, Malgouyres & Gerchinovitz, JMLR 2024, for every depth). The
product is U_S U_Sᵀ E[yxᵀ] E[xxᵀ]⁻¹ for a set S of singular directions. Up to a change of basis in the hidden spaces

    W_H = [U_S, U_Q Z_H],   W_h = diag(1, Z_h),   W_1 = [Σ_S V_Sᵀ; Z_1 V_Qᵀ] E[xxᵀ]^{−1/2},

Q being the rest of the directions. The blocks Z_h act on what the network leaves unused, f_h = p_h − |S| dimensions
of hidden layer h and q = d − |S| of the data, and Z_{j−1} ⋯ Z_1 Σ_Q Z_H ⋯ Z_{j+1} = 0 for every j. For H = 2 all Z_h
vanish.

**Index** (the negative eigenvalues of ∇²R, with z_h = rank Z_h; derived in docs/examples/deep-linear.md)

    H = 2:   #{(i, k): i ∈ S, k ∉ S, σ_k > σ_i} + q f_1
    H = 3:   #{(i, k): …} + z_1 f_2 + z_2 q + z_3 f_1 − (z_1 z_2 + z_2 z_3 + z_3 z_1)

The first term counts better directions that a used one could turn to, the second unused ones that nothing stops. So for
H = 3, S leading and Z = 0 the index is 0 although R is not minimal: a saddle that no Hessian can tell.

**Symmetry.** Under a group R^aug of a linear network is the risk of another one, whose second moments are averaged
over the group. Where it acts on x and y by d copies of the permutation representation of S_n, M becomes a d × d block
for the trivial and one for the standard irrep, and the index splits over the sectors: a pair (i of type λ, k of type μ)
counts in sector ν as often as V_ν occurs in V_λ ⊗ V_μ. Whether an equivariant point is stable on E⊥ is then arithmetic.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from analyses.shared import Rows, Section, command, finish, prepare_folder, table
from stability import sectors
from stability.curvature import assemble, nominal_hessian
from stability.eigen import Spectrum, dense_spectrum
from stability.errors import BadInput
from stability.groups import Group, Representation, Symmetric, Trivial, character, irreps, permutation, trivial
from stability.networks import Classifier, Identity, mlp, squared, supervised
from stability.problem import Problem, Samples

# A critical point is built to rounding; what the rest of its gradient may move an eigenvalue by.
GRADIENT = 1e-10
# Hidden spaces of the symmetric networks: so many invariants, so many copies of R⁴.
HIDDEN = ((1, 0), (2, 0), (3, 0), (1, 1), (0, 2))


def linear_problem(spaces: Sequence[Representation], x: Tensor, y: Tensor) -> Problem:
    """The deep linear network with X_h = spaces[h], fitted to (x, y) by ½|·|², every sample of equal weight."""
    network = mlp(spaces, [Identity()] * (len(spaces) - 1))
    weight = torch.full((len(x),), 1 / len(x), dtype=torch.float64)
    model = Classifier(network, squared, target=spaces[-1], decides=False)
    return supervised("deep-linear", model, Samples(x, y, weight))


def root(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """M^{1/2} and M^{−1/2} of a positive definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values)) @ vectors.T, (vectors / np.sqrt(values)) @ vectors.T


# -- every critical point without symmetry ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Landscape:
    """Second moments of the data and their singular directions.

    Attributes:
        widths: d, p_1 … p_{H−1}, d.
        x, y: the data, (n, d).
    """

    widths: tuple[int, ...]
    x: np.ndarray
    y: np.ndarray

    @property
    def d(self) -> int:
        return self.widths[0]

    @property
    def depth(self) -> int:
        return len(self.widths) - 1

    @cached_property
    def whitener(self) -> np.ndarray:
        """E[xxᵀ]^{−1/2}."""
        return root(self.x.T @ self.x / len(self.x))[1]

    @cached_property
    def directions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """U, σ, V of E[yxᵀ] E[xxᵀ]^{−1/2}."""
        u, values, vt = np.linalg.svd(self.y.T @ self.x / len(self.x) @ self.whitener)
        return u, values, vt.T

    @cached_property
    def problem(self) -> Problem:
        one = trivial(Trivial())
        x, y = torch.as_tensor(self.x), torch.as_tensor(self.y)
        return linear_problem([w * one for w in self.widths], x, y)

    def risk(self, used: Sequence[int]) -> float:
        """R at any critical point with S = used: ½(E|y|² − Σ_S σ²)."""
        values = self.directions[1]
        return 0.5 * float((self.y**2).sum(1).mean() - (values[list(used)] ** 2).sum())


def landscape(widths: Sequence[int], seed: int, samples: int = 40, white: bool = False) -> Landscape:
    """Random inputs and outputs; with ``white`` their covariance is the identity to rounding.

    Raises:
        BadInput: depths and widths for which the index is not known here.
    """
    widths = tuple(widths)
    if len(widths) not in (3, 4) or widths[0] != widths[-1] or min(widths) < 1:
        raise BadInput(f"widths {widths}: give d p d or d p p' d, so that M is square and the depth 2 or 3")
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((samples, widths[0])) @ np.diag(np.linspace(0.5, 1.5, widths[0]))
    if white:
        x = x @ root(x.T @ x / samples)[1]
    y = x @ rng.standard_normal((widths[0], widths[0])) + 0.3 * rng.standard_normal((samples, widths[0]))
    return Landscape(widths, x, y)


@dataclass(frozen=True)
class Critical:
    """A class of critical points: the directions used and the ranks of the blocks Z_1 … Z_H."""

    used: tuple[int, ...]
    ranks: tuple[int, ...]


def free(widths: Sequence[int], used: Sequence[int]) -> list[int]:
    """q, f_1 … f_{H−1}, q: unused dimensions of every space."""
    return [w - len(used) for w in widths]


def classes(widths: Sequence[int]) -> Iterator[Critical]:
    """Every class once: S of at most min p_h directions, ranks with Z_{h+1} Z_h = 0 around the circle X_0 = X_H."""
    d, depth = widths[0], len(widths) - 1
    for size in range(min(widths) + 1):
        f = free(widths, range(size))
        if depth == 2:
            options = [(0, 0)]
        else:
            ranges = [range(min(f[h], f[h + 1]) + 1) for h in range(depth)]
            options = [
                z for z in itertools.product(*ranges) if all(z[h] + z[(h + 1) % 3] <= f[(h + 1) % 3] for h in range(3))
            ]
        for used in itertools.combinations(range(d), size):
            for ranks in options:
                yield Critical(used, ranks)


def pairs(values: Sequence[float], used: Sequence[int]) -> int:
    """#{(i, k): i ∈ S, k ∉ S, σ_k > σ_i}."""
    rest = [k for k in range(len(values)) if k not in used]
    return sum(bool(values[k] > values[i]) for i in used for k in rest)


def index(widths: Sequence[int], values: Sequence[float], point: Critical) -> int:
    """The closed form in the module's docstring."""
    f = free(widths, point.used)
    if len(widths) == 3:
        return pairs(values, point.used) + f[0] * f[1]
    z1, z2, z3 = point.ranks
    loose = z1 * f[2] + z2 * f[0] + z3 * f[1] - (z1 * z2 + z2 * z3 + z3 * z1)
    return pairs(values, point.used) + loose


def is_minimum(widths: Sequence[int], point: Critical) -> bool:
    """A linear network has no other minima than the global ones: S leading, of full size."""
    return point.used == tuple(range(min(widths)))


def representative(land: Landscape, point: Critical, seed: int | None) -> Tensor:
    """A critical point of the class, as a flat vector; a random basis of every hidden space unless seed is None.

    Without a seed the point is balanced: every layer has Σ_S^{1/H} in place of 1 and Σ_S.
    """
    u, values, v = land.directions
    used = list(point.used)
    rest = [k for k in range(land.d) if k not in used]
    f, depth, r = free(land.widths, used), land.depth, len(used)
    rng = np.random.default_rng(0 if seed is None else seed)
    turn = np.linalg.qr(rng.standard_normal((f[0], f[0])))[0]
    z = []
    for h in range(depth):
        block, rank = np.zeros((f[h + 1], f[h])), point.ranks[h]
        # Z_h maps the last rank coordinates of its source onto the first of its target, so that Z_{h+1} Z_h = 0.
        block[:rank, f[h] - rank :] = np.diag(rng.uniform(0.5, 1.5, rank))
        z.append(block)
    z[0] = z[0] @ turn.T @ np.diag(1 / values[rest])  # Z_1 Σ_Q Z_H = 0 closes the circle
    z[-1] = turn @ z[-1]
    share = np.ones((depth, r)) if seed is not None else np.tile(values[used] ** (1 / depth), (depth, 1))
    if seed is not None:
        share[0] = values[used]
    layers = []
    for h in range(depth):
        across, down = np.zeros((r, f[h])), np.zeros((f[h + 1], r))
        layers.append(np.block([[np.diag(share[h]), across], [down, z[h]]]))
    layers[0] = layers[0] @ np.concatenate([v[:, used], v[:, rest]], axis=1).T @ land.whitener
    layers[-1] = np.concatenate([u[:, used], u[:, rest]], axis=1) @ layers[-1]
    if seed is not None:
        for h in range(depth - 1):
            p = land.widths[h + 1]
            # Well conditioned: rotations times moderate scales, so that rounding stays rounding.
            basis = np.linalg.qr(rng.standard_normal((p, p)))[0] @ np.diag(rng.uniform(0.7, 1.4, p))
            layers[h], layers[h + 1] = basis @ layers[h], layers[h + 1] @ np.linalg.inv(basis)
    return torch.cat([torch.as_tensor(layer).flatten() for layer in layers])


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


def spectrum_at(problem: Problem, at: Tensor) -> tuple[Spectrum, float]:
    """Every eigenvalue of ∇²R, each residual measured, and the gradient's norm."""
    hessian = nominal_hessian(problem, at)
    spectrum = dense_spectrum(assemble(hessian, at), hessian, k=len(at), floor=GRADIENT).spectrum
    return spectrum, float(hessian.gradient.norm())


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
        return Symmetric(self.n)

    @cached_property
    def problem(self) -> Problem:
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


# -- the command ------------------------------------------------------------------------------------------------------


def landscape_rows(land: Landscape, seed: int) -> list[dict]:
    """Theory and measurement at a random representative of every class."""
    rows = []
    values = land.directions[1]
    for point in classes(land.widths):
        spectrum, gradient = spectrum_at(land.problem, representative(land, point, seed))
        rows.append(
            {
                "part": "landscape",
                "widths": list(land.widths),
                "used": list(point.used),
                "ranks": list(point.ranks),
                "risk": land.risk(point.used),
                "minimum": is_minimum(land.widths, point),
                "index_theory": index(land.widths, values, point),
                "index_measured": spectrum.negative_count,
                "lowest": spectrum.lowest[0].value,
                "error": spectrum.error,
                "gradient": gradient,
            }
        )
    return rows


def symmetric_rows(example: Symmetrised) -> list[dict]:
    """Theory and measurement at every class of equivariant critical points, sector by sector."""
    rows = []
    for used in example.classes():
        at = example.representative(used)
        found, theory = sector_spectra(example.problem, at), example.index(used)
        rows.append(
            {
                "part": "symmetry",
                "hidden": [example.ones, example.copies],
                "used": {name: list(s) for name, s in used.items()},
                "equivariant_minimum": example.is_equivariant_minimum(used),
                "index_theory": {name: theory[name] for name in found},
                "index_measured": {name: s.negative_count for name, s in found.items()},
                "lowest": {name: s.lowest[0].value for name, s in found.items()},
            }
        )
    return rows


def hidden_space(row: dict) -> str:
    """m·1 + k·R⁴, zeros left out."""
    ones, copies = row["hidden"]
    return " + ".join([f"{ones}·1"] * bool(ones) + [f"{copies}·R⁴"] * bool(copies))


def draw(rows: Sequence[dict], widths: Sequence[int]) -> Figure:
    """Risk against index of every critical point; λ_min on E and E⊥ at the global minimum on E of each architecture."""
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1))
    chosen = [r for r in rows if r["part"] == "landscape" and r["widths"] == list(widths)]
    kinds = (
        ("minimum", "*", 15, lambda r: r["minimum"]),
        ("strict saddle", "o", 6, lambda r: r["index_theory"] > 0),
        ("index 0, yet no minimum", "X", 9, lambda r: r["index_theory"] == 0 and not r["minimum"]),
    )
    for label, marker, size, belongs in kinds:
        points = [r for r in chosen if belongs(r)]
        left.plot(
            [r["risk"] for r in points],
            [r["index_measured"] for r in points],
            marker,
            markersize=size,
            markerfacecolor="none" if marker == "o" else "black",
            color="black",
            label=f"{label} ({len(points)})",
        )
    left.set_xlabel("R at the critical point")
    left.set_ylabel("negative eigenvalues of ∇²R, measured")
    left.set_title(f"Linear network {'–'.join(map(str, widths))}: all {len(chosen)} classes", fontsize="medium")
    left.legend(fontsize="small")
    minima = [r for r in rows if r["part"] == "symmetry" and r["equivariant_minimum"]]
    for marker, fill, name, pick in (
        ("s", "black", "E", lambda low: low["trivial"]),
        ("o", "white", "E⊥", lambda low: min(v for k, v in low.items() if k != "trivial")),
    ):
        right.plot(
            range(len(minima)),
            [pick(r["lowest"]) for r in minima],
            marker,
            color="black",
            markerfacecolor=fill,
            markersize=8,
            label=f"on {name}",
        )
    right.axhline(0, color="black", linewidth=1.5, zorder=0)
    right.margins(x=0.15, y=0.15)
    right.set_xticks(range(len(minima)), [hidden_space(r) for r in minima])
    right.set_xlabel("hidden space")
    right.set_ylabel(r"$\lambda_{\min}$ of $\nabla^2 R^{\mathrm{aug}}$")
    right.set_title("Global minima on E, S_4 on 2·R⁴ → 2·R⁴", fontsize="medium")
    right.legend(fontsize="small")
    return figure


def section(rows: Sequence[dict]) -> Section:
    """Words from the rows."""
    wrong = [r for r in rows if r["index_theory"] != r["index_measured"]]
    plain = [r for r in rows if r["part"] == "landscape"]
    hidden = [r for r in plain if r["index_theory"] == 0 and not r["minimum"]]
    symmetric = [r for r in rows if r["part"] == "symmetry"]
    lost = [
        r
        for r in symmetric
        if r["equivariant_minimum"] and any(v for name, v in r["index_measured"].items() if name != "trivial")
    ]
    minima = [r for r in symmetric if r["equivariant_minimum"]]
    agree = (
        "The measured index equals the closed form at every one of them"
        if not wrong
        else f"The index differs at {len(wrong)} of them"
    )
    return Section(
        title="A deep linear network, critical point by critical point",
        expected="The index of every critical point is a count of singular values and of unused dimensions.",
        measured=f"{len(plain)} classes of critical points without symmetry and {len(symmetric)} equivariant ones, "
        f"each resolved by sectors. {agree}; the largest gradient norm is {max(r['gradient'] for r in plain):.1e}. "
        f"{len(hidden)} classes have index 0 and are no minima. Of {len(minima)} global minima on E, {len(lost)} "
        "are unstable on E⊥.",
        means="Signs and counts that the tool reports can be checked here against a theorem, at saddles of many an "
        "index. And the question of the paper has an answer by arithmetic: a global minimum on E is unstable on E⊥ "
        "where the architecture gives an irrep fewer hidden copies than its singular values deserve.",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", help="d p d or d p p' d; by default 4 2 4 and 3 3 2 3")
    parser.add_argument("--seed", type=int, default=0, help="of data and representatives")
    parser.add_argument("--out", type=Path, default=Path("reports/deep-linear"))
    options = parser.parse_args(arguments)
    every = [options.widths] if options.widths else [[4, 2, 4], [3, 3, 2, 3]]
    lands = [landscape(widths, options.seed) for widths in every]
    folder = prepare_folder(options.out)
    rows = Rows(folder / "deep-linear.json", {"widths": every, "seed": options.seed})
    if not rows.rows:
        for land in lands:
            rows.rows += landscape_rows(land, options.seed + 1)
        for ones, copies in HIDDEN:
            rows.rows += symmetric_rows(symmetrised(ones=ones, copies=copies, seed=options.seed))
    listed = [
        table(
            "Critical points without symmetry",
            ["widths", "S", "ranks of Z", "R", "index, theory", "index, measured"],
            [
                [
                    "–".join(map(str, r["widths"])),
                    str(r["used"]),
                    str(r["ranks"]),
                    r["risk"],
                    r["index_theory"],
                    r["index_measured"],
                ]
                for r in rows.rows
                if r["part"] == "landscape"
            ],
        ),
        table(
            "Equivariant critical points under S_4, by sector",
            ["hidden space", "S trivial", "S standard", "index by sector, theory", "measured"],
            [
                [
                    hidden_space(r),
                    str(r["used"]["trivial"]),
                    str(r["used"]["standard"]),
                    str(r["index_theory"]),
                    str(r["index_measured"]),
                ]
                for r in rows.rows
                if r["part"] == "symmetry"
            ],
        ),
    ]
    said = section(rows.rows)
    finish(folder, "deep-linear", rows, draw(rows.rows, every[-1]), said, listed)
    print(said.measured)


if __name__ == "__main__":
    sys.exit(command(main))
