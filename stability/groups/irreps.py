r"""Real irreducible representations V_λ with matrices and type; the trivial one labels E.

Closed forms for products of cyclic groups (characters), symmetric groups (Young's orthogonal form), SO(2), O(2) and
SO(3), and from them for direct products; any other group of moderate order is decomposed numerically and verified.
Of a group known by its generators alone, whatever its order, a given representation can be split into irreps.

>>> from stability.groups import Cyclic, Symmetric
>>> [(v.name, v.dim, v.kind) for v in irreps(Cyclic(4))]
[('trivial', 1, 'real'), ('q=1', 2, 'complex'), ('q=2', 1, 'real')]
>>> [(v.name, v.dim) for v in irreps(Symmetric(4))]
[('trivial', 1), ('(3,1)', 3), ('(2,2)', 2), ('(2,1,1)', 3), ('(1,1,1,1)', 1)]
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from stability.base.errors import BadInput, Unproved
from stability.groups.counting import trace
from stability.groups.finite import COMMUTANT, real_irreps
from stability.groups.group import Cyclic, Dihedral, Element, Group, Label, Symmetric
from stability.groups.intertwiners import DENSE_LIMIT, intertwiners
from stability.groups.lie import O2, SO2, SO3
from stability.groups.products import DirectProduct
from stability.groups.representation import MatrixRepresentation, Representation, through, trivial
from stability.groups.standard import determinant, harmonics

SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")

ORDER_LIMIT = 2000


@dataclass(frozen=True)
class Irrep:
    """A real irreducible representation.

    Attributes:
        name: its label in reports.
        representation: the orthogonal representation V_λ itself, of dimension d_λ.
        kind: "real", "complex" or "quaternionic", the type of its commutant.
        frequency: k with χ(a) = exp(2πi Σ k_i a_i / n_i), for products of cyclic groups; stands for −k too.
    """

    name: str
    representation: Representation
    kind: str
    frequency: tuple[int, ...] | None = None

    @property
    def dim(self) -> int:
        """d_λ = dim V_λ."""
        return self.representation.dim

    @property
    def is_trivial(self) -> bool:
        """Whether its sector is E."""
        return self.name == "trivial"

    @property
    def commutant_dim(self) -> int:
        """c = 1, 2, 4 for real, complex, quaternionic type."""
        return COMMUTANT[self.kind]


def trivial_irrep(group: Group) -> Irrep:
    """The trivial representation, whose sector is E."""
    return Irrep("trivial", trivial(group), "real")


def character(irrep: Irrep, g: Element) -> float:
    """χ(g) = tr ρ(g)."""
    return float(np.trace(irrep.representation.matrix(g)))


def residual_symmetry(irrep: Irrep) -> str:
    """The largest symmetry that a vector of V_λ can keep, in words: the stabiliser of a direction that breaks G.

    For characters the kernel; for S_n the Young subgroup S_λ1 × S_λ2 × …, whose fixed vectors make a line in V_λ;
    for a group that is enumerated the largest stabiliser among the partners e_1 … e_d.

    >>> from stability.groups import Cyclic, Symmetric
    >>> residual_symmetry(next(v for v in irreps(Cyclic(6)) if v.name == "q=2"))
    'a subgroup of order 2 of 6'
    >>> residual_symmetry(next(v for v in irreps(Symmetric(5)) if v.name == "(3,2)"))
    'S_3 × S_2'
    >>> from stability.groups import Dihedral
    >>> [residual_symmetry(v) for v in irreps(Dihedral(2))][1:]
    ['turns by 180° (2 of 4)', 'the flip f (2 of 4)', 'the flip rf (2 of 4)']
    """
    rho = irrep.representation
    group = rho.group
    if isinstance(rho, MatrixRepresentation) and isinstance(rho.image, _YoungOrthogonal):
        return " × ".join(f"S_{row}" for row in rho.image.shape if row > 1) or "nothing"
    if isinstance(group, (SO2, O2, SO3)) and not irrep.is_trivial:
        if irrep.name == "det":
            return "SO(2)"
        degree = rho.degree
        if isinstance(group, SO3):
            return "SO(2)" if degree % 2 else "O(2)"
        return f"C_{degree}" if isinstance(group, SO2) else f"D_{degree}"
    if group.order is None or group.order > ORDER_LIMIT:
        return "an unknown subgroup"
    elements = list(group.elements())
    fixed = np.abs(np.array([np.diag(rho.matrix(g)) for g in elements]) - 1) < 1e-9
    kept = [g for g, one in zip(elements, fixed[:, fixed.sum(0).argmax()], strict=True) if one]
    if len(kept) == 1:
        return "nothing"
    if isinstance(group, Dihedral):
        return f"{_turns_and_flips(group, kept)} ({len(kept)} of {group.order})"
    return f"a subgroup of order {len(kept)} of {group.order}"


def _turns_and_flips(group: Dihedral, kept: Sequence[tuple[int, int]]) -> str:
    """A subgroup of D_n: ``turns by 90°``, ``the flip f``, ``turns by 180° and the flips f, r²f``."""
    turns, flips = sum(not s for _, s in kept), [k for k, s in kept if s]
    named = ", ".join("r" * (k > 0) + (str(k).translate(SUPERSCRIPTS) if k > 1 else "") + "f" for k in flips)
    parts = [f"turns by {360 / turns:g}°"] if turns > 1 else []
    parts += [f"the flip{'s' if len(flips) > 1 else ''} {named}"] if flips else []
    return " and ".join(parts)


def irreps(group: Group) -> Iterator[Irrep]:
    """Every real irreducible representation once, the trivial one first; matrices are made when asked for.

    Of SO(2), O(2) and SO(3) there are infinitely many, those of low degree first; so it is for products with them.

    Raises:
        BadInput: a group without a closed form and of more than 2000 elements, or a Lie group known by generators.

    >>> from stability.groups import O2, SO3
    >>> [v.name for v in itertools.islice(irreps(O2()), 4)], [v.dim for v in itertools.islice(irreps(SO3()), 4)]
    (['trivial', 'det', 'k=1', 'k=2'], [1, 3, 5, 7])
    """
    moduli = cyclic_moduli(group)
    if moduli is not None:
        yield from _characters(group, moduli)
    elif isinstance(group, Symmetric):
        yield trivial_irrep(group)
        for shape in itertools.islice(_partitions(group.n), 1, None):
            name = "(" + ",".join(map(str, shape)) + ")"
            form = _YoungOrthogonal(shape)
            yield Irrep(name, MatrixRepresentation(group, form.dim, form, name), "real")
    elif isinstance(group, (SO2, O2, SO3)):
        yield trivial_irrep(group)
        if isinstance(group, O2):
            yield Irrep("det", determinant(group), "real")
        for degree in itertools.count(1):
            harmonic = harmonics(group, degree)
            yield Irrep(harmonic.name, harmonic, "complex" if isinstance(group, SO2) else "real")
    elif isinstance(group, DirectProduct) and (group.order is None or group.order > ORDER_LIMIT):
        yield from _products(group)
    elif group.order is None:
        raise BadInput(f"irreps of {group.name}: infinitely many and no closed form; give a representation to split()")
    else:
        yield from decompose(group)


def listed(group: Group) -> bool:
    """Whether ``irreps`` knows the irreps of the group itself."""
    if cyclic_moduli(group) is not None or isinstance(group, (Symmetric, SO2, O2, SO3)):
        return True
    if isinstance(group, DirectProduct) and (group.order is None or group.order > ORDER_LIMIT):
        return all(listed(f) for f in group.factors)
    return group.order is not None and group.order <= ORDER_LIMIT


def _products(group: DirectProduct) -> Iterator[Irrep]:
    """V_1 ⊗ … ⊗ V_k over irreps of the factors, those with low numbers first; split where it is not irreducible."""
    streams = [irreps(f) for f in group.factors]
    known: list[list[Irrep]] = [[] for _ in streams]
    ended = [False] * len(streams)
    for level in itertools.count():
        for i, stream in enumerate(streams):
            if not ended[i]:
                one = next(stream, None)
                ended[i] = one is None
                known[i] += [] if one is None else [one]
        found = False
        for numbers in itertools.product(*(range(len(k)) for k in known)):
            if sum(numbers) == level:
                found = True
                yield from _outer(group, [k[n] for k, n in zip(known, numbers, strict=True)])
        if not found:
            return


def _outer(group: DirectProduct, parts: list[Irrep]) -> list[Irrep]:
    """The irreps in the tensor product of one irrep of each factor: itself unless several are not of real type."""
    moved = [(i, v) for i, v in enumerate(parts) if not v.is_trivial]
    if not moved:
        return [trivial_irrep(group)]
    name = "⊗".join(v.name if not v.is_trivial else "1" for v in parts)
    rho, *rest = (through(group, i, v.representation) for i, v in moved)
    for one in rest:
        rho = rho * one
    others = [v.kind for v in parts if v.kind != "real"]
    if len(others) <= 1:
        return [Irrep(name, rho, others[0] if others else "real")]
    pieces = [v for v, _ in split(rho)]
    return [
        Irrep(name + (f" #{k + 1}" if len(pieces) > 1 else ""), v.representation, v.kind) for k, v in enumerate(pieces)
    ]


@dataclass(frozen=True, eq=False)
class _Part:
    """ρ restricted to an invariant subspace with orthonormal basis (dim ρ, d).

    Attributes:
        whole: ρ.
        basis: orthonormal columns that span the subspace, (dim ρ, d).
    """

    whole: Representation
    basis: np.ndarray

    def __call__(self, g: Element) -> np.ndarray:
        return self.basis.T @ self.whole.matrix(g) @ self.basis

    def derivative(self, label: Label) -> np.ndarray:
        return self.basis.T @ self.whole.derivative(label) @ self.basis


def split(rho: Representation, seed: int = 0) -> list[tuple[Irrep, int]]:
    """The irreps in ρ with how often they occur, from the generators of the group alone.

    Generically an eigenspace of a symmetric element of the commutant Hom_G(ρ, ρ) is one copy of one irrep. Each is
    proved to be one by its own commutant, whose symmetric elements must be multiples of 1 (that of V ⊕ W has two
    dimensions, as that of one irrep of complex type), the list by Σ c m² = dim Hom_G(ρ, ρ) and tr ρ(g) = Σ m χ(g).

    Raises:
        BadInput: more than 64 dimensions.
        Unproved: the proof fails for five seeds.

    >>> from stability.groups import SO3, harmonics
    >>> [(v.dim, count) for v, count in split(harmonics(SO3(), 1) * harmonics(SO3(), 1))]
    [(1, 1), (3, 1), (5, 1)]
    """
    if rho.dim**2 > DENSE_LIMIT:
        raise BadInput(
            f"irreps in {rho.name}: {rho.dim} dimensions, more than the {math.isqrt(DENSE_LIMIT)} that are split "
            "numerically; build the space from smaller summands"
        )
    group, commutant = rho.group, intertwiners(rho, rho)
    for attempt in range(5):
        rng = np.random.default_rng(seed + attempt)
        element = commutant.embed(torch.as_tensor(rng.standard_normal(commutant.size))).numpy()
        values, vectors = np.linalg.eigh(element + element.T)
        cuts = np.flatnonzero(np.diff(values) > 1e-5 * max(1.0, float(np.abs(values).max()))) + 1
        found: list[tuple[MatrixRepresentation, str, int]] = []
        for space in np.split(vectors, cuts, axis=1):
            part = MatrixRepresentation(group, space.shape[1], _Part(rho, space), f"V of dimension {space.shape[1]}")
            size = _division_algebra(part)
            if not size:
                break
            same = next((i for i, (v, _, _) in enumerate(found) if intertwiners(part, v).size), None)
            if same is None:
                found.append((part, {1: "real", 2: "complex", 4: "quaternionic"}[size], 1))
            else:
                found[same] = (*found[same][:2], found[same][2] + 1)
        else:
            if not _adds_up(rho, commutant.size, found):
                continue
            found.sort(key=lambda one: (one[0].dim, one[1]))
            one = trivial(group)
            return [
                (trivial_irrep(group) if v.dim == 1 and intertwiners(one, v).size else Irrep(v.name, v, kind), count)
                for v, kind, count in found
            ]
    raise Unproved(f"irreps of {group.name} in {rho.name}: no decomposition could be proved for five seeds")


def _division_algebra(part: Representation) -> int | None:
    """c = 1, 2, 4, the dimension of the commutant of an irrep; None of a reducible representation."""
    commutant = intertwiners(part, part)
    if commutant.size not in (1, 2, 4):
        return None
    elements = commutant.embed(torch.eye(commutant.size, dtype=torch.float64))
    symmetric = elements + elements.mT
    scalars = symmetric.diagonal(dim1=-2, dim2=-1).mean(-1)
    off = symmetric - scalars[:, None, None] * torch.eye(part.dim, dtype=torch.float64)
    return commutant.size if float(off.abs().max()) < 1e-7 else None


def _adds_up(rho: Representation, commutant: int, found: list[tuple[MatrixRepresentation, str, int]]) -> bool:
    """Whether Σ c m² is the dimension of the commutant, and tr ρ(g) = Σ m χ(g) on generators and samples."""
    if sum(COMMUTANT[kind] * count**2 for _, kind, count in found) != commutant:
        return False
    rng = np.random.default_rng(0)
    some = [*rho.group.generators, *(rho.group.sample(rng) for _ in range(4))]
    off = [trace(rho, g) - sum(count * trace(v, g) for v, _, count in found) for g in some]
    return max(map(abs, off)) < 1e-6


def constituents(spaces: Sequence[Representation]) -> list[Irrep]:
    """Every irrep that occurs in one of the representations, once, the trivial one first if it does; named V1, V2, …"""
    found: list[Irrep] = []
    for space in spaces:
        for v, _ in split(space):
            if not any(_isomorphic(v, w) for w in found):
                found.append(v)
    found.sort(key=lambda v: (not v.is_trivial, v.dim, v.kind))
    start = 0 if found and found[0].is_trivial else 1
    return [
        # The trivial one permutes a point and keeps its name.
        Irrep(f"V{k}", replace(v.representation, name=f"V{k}"), v.kind)
        if isinstance(v.representation, MatrixRepresentation)
        else v
        for k, v in enumerate(found, start)
    ]


def _isomorphic(v: Irrep, w: Irrep) -> bool:
    return v.dim == w.dim and intertwiners(v.representation, w.representation).size > 0


def cyclic_moduli(group: Group) -> tuple[int, ...] | None:
    """(n_1 … n_k) of a product of cyclic groups; None for any other group."""
    if isinstance(group, Cyclic):
        return (group.n,)
    if not isinstance(group, DirectProduct):
        return None
    moduli = tuple(f.n for f in group.factors if isinstance(f, Cyclic))
    return moduli if len(moduli) == len(group.factors) else None


@dataclass(frozen=True)
class _Character:
    """a ↦ cos φ for a real character, the rotation by φ for a pair of complex ones, φ = 2π Σ k_i a_i / n_i.

    Attributes:
        frequency: k, one number a factor.
        moduli: n, the orders of the cyclic factors.
        real: whether k and −k are the same frequency.
    """

    frequency: tuple[int, ...]
    moduli: tuple[int, ...]
    real: bool

    def __call__(self, a: Element) -> np.ndarray:
        shift = a if isinstance(a, tuple) else (a,)
        period = math.lcm(*self.moduli)
        turns = sum(k * s * (period // n) for k, s, n in zip(self.frequency, shift, self.moduli, strict=True)) % period
        angle = 2 * math.pi * turns / period
        if self.real:
            return np.array([[1.0 if turns == 0 else -1.0]])
        return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def _characters(group: Group, moduli: tuple[int, ...]) -> Iterator[Irrep]:
    for k in itertools.product(*map(range, moduli)):
        opposite = tuple(-a % n for a, n in zip(k, moduli, strict=True))
        if k > opposite:
            continue
        real = k == opposite
        if not any(k):
            yield Irrep("trivial", trivial(group), "real", k)
            continue
        name = f"q={k[0]}" if len(k) == 1 else f"q=({','.join(map(str, k))})"
        form = MatrixRepresentation(group, 1 if real else 2, _Character(k, moduli, real), name)
        yield Irrep(name, form, "real" if real else "complex", k)


def _partitions(n: int, largest: int | None = None) -> Iterator[tuple[int, ...]]:
    """Partitions of n, those with long first rows first."""
    if n == 0:
        yield ()
    for first in range(min(n, largest or n), 0, -1):
        for rest in _partitions(n - first, first):
            yield (first, *rest)


@lru_cache(maxsize=256)
def _young_swaps(shape: tuple[int, ...]) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]:
    """For each adjacent transposition (i, i+1): diagonal, partner index and off-diagonal on standard tableaux.

    Young's orthogonal form: with r the axial distance from i to i + 1, the diagonal is 1/r and the entry to the
    tableau with both exchanged √(1 − 1/r²).
    """
    tableaux = list(_tableaux(shape))
    place = {t: k for k, t in enumerate(tableaux)}
    swaps = []
    for i in range(sum(shape) - 1):
        diagonal, partner, off = np.empty(len(tableaux)), np.arange(len(tableaux)), np.zeros(len(tableaux))
        for k, t in enumerate(tableaux):
            (r1, c1), (r2, c2) = t[i], t[i + 1]
            distance = (c2 - r2) - (c1 - r1)
            diagonal[k] = 1 / distance
            exchanged = (*t[:i], t[i + 1], t[i], *t[i + 2 :])
            if exchanged in place:
                partner[k], off[k] = place[exchanged], math.sqrt(1 - 1 / distance**2)
        swaps.append((diagonal, partner, off))
    return tuple(swaps)


def _tableaux(shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, int], ...]]:
    """Standard tableaux as the cells (row, column) of 1 … n in order."""
    if sum(shape) == 0:
        yield ()
        return
    for row, length in enumerate(shape):
        if row + 1 == len(shape) or shape[row + 1] < length:
            smaller = shape[:row] + ((length - 1,) if length > 1 else ()) + shape[row + 1 :]
            for rest in _tableaux(smaller):
                yield (*rest, (row, length - 1))


@dataclass(frozen=True)
class _YoungOrthogonal:
    """g ↦ ρ_λ(g) for S_n, as a product of adjacent transpositions with two entries a row.

    Attributes:
        shape: the partition λ of n, its rows in descending order.
    """

    shape: tuple[int, ...]

    @property
    def dim(self) -> int:
        """The hook length formula."""
        columns = [sum(row > c for row in self.shape) for c in range(self.shape[0])]
        hooks = [row - c + columns[c] - r - 1 for r, row in enumerate(self.shape) for c in range(row)]
        return math.factorial(sum(self.shape)) // math.prod(hooks)

    def __call__(self, g: tuple[int, ...]) -> np.ndarray:
        swaps = _young_swaps(self.shape)
        order, matrix = list(g), np.eye(self.dim)
        # g·s_i exchanges the entries i, i + 1 of (g[0] …): sorting them writes g as a product of s_i, last one first.
        for end in range(len(order) - 1, 0, -1):
            for i in range(end):
                if order[i] > order[i + 1]:
                    order[i], order[i + 1] = order[i + 1], order[i]
                    diagonal, partner, off = swaps[i]
                    matrix = diagonal[:, None] * matrix + off[:, None] * matrix[partner]
        return matrix


@lru_cache(maxsize=32)
def decompose(group: Group, seed: int = 0) -> tuple[Irrep, ...]:
    """The real irreps from the regular representation, proved to be all of them; see :mod:`stability.groups.finite`.

    Raises:
        BadInput: more than 2000 elements, or products that are no group's.
        Unproved: no complete list could be proved.
    """
    if group.order is None or group.order > ORDER_LIMIT:
        many = "infinitely many" if group.order is None else f"{group.order:,}"
        raise BadInput(
            f"irreps of {group.name}: {many} elements and no closed form, more than the {ORDER_LIMIT:,} "
            "that are decomposed numerically; use a named group, or --sectors none"
        )
    named, count = [trivial_irrep(group)], 0
    for one in real_irreps(group, seed):
        if one.dim == 1 and np.abs(one.character - 1).max() < 1e-8:
            continue
        count += 1
        name = f"V{count}"
        named.append(Irrep(name, MatrixRepresentation(group, one.dim, one.form, name), one.kind))
    return tuple(named)
