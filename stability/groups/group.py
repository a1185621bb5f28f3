r"""Groups: elements, products, generators, enumeration, averages and exact Haar sampling.

An element is any hashable value; what it means is known to its group alone. The Haar measure
of a finite group is the uniform distribution on its elements. Lie groups are in ``lie``.

>>> C6 = Cyclic(6)
>>> C6.multiply(4, 5), C6.inverse(2), C6.order
(3, 4, 6)
>>> S3 = Symmetric(3)
>>> sorted(S3.elements())[:2], S3.order
([(0, 1, 2), (0, 2, 1)], 6)
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from stability.errors import BadInput
from stability.groups.orthogonal import Register, endless, mended, polished

Element = Hashable
# A basis element of a Lie algebra, by whatever name its group knows it.
Label = Hashable
# exp(Σ c X) as pairs (X, c), or a discrete generator by its number (−1 − j: the inverse of j).
Letter = tuple[tuple[Label, float], ...] | int
CLOSURE_LIMIT, BATCH = 200_000, 1024


class Group(ABC):
    """A finite group, or a compact Lie group.

    Attributes:
        name: what reports print.
        order: the number of elements |G|; None when there are infinitely many.
        identity: the neutral element.
        generators: elements whose products reach all of G, or come arbitrarily near every element of a Lie group;
            fixing them means fixing under G.
        algebra: names of a basis of the Lie algebra; none for a finite group.
        discrete: elements that generate G together with the Lie algebra; all generators of a finite group.
    """

    name: str
    order: int | None
    identity: Element
    generators: tuple[Element, ...]
    algebra: tuple[Label, ...] = ()

    @property
    def discrete(self) -> tuple[Element, ...]:
        return self.generators

    @abstractmethod
    def multiply(self, a: Element, b: Element) -> Element:
        """The product ab; in a representation ρ(ab) = ρ(a)ρ(b)."""

    @abstractmethod
    def inverse(self, a: Element) -> Element:
        """The element a⁻¹."""

    @abstractmethod
    def elements(self) -> Iterator[Element]:
        """Every element once, the identity first."""

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> Element:
        """One element from the Haar measure: each of the |G| elements equally likely."""

    def transversals(self) -> list[list[Element]]:
        """Lists T_1 … T_k such that every g is t_1 t_2 … t_k for exactly one choice of t_i ∈ T_i.

        Averages of a *linear* action over G are then averages over T_k, …, T_1 in turn: Σ|T_i| terms, not Π|T_i|.
        """
        return [list(self.elements())]

    def averaging(self, degree: int) -> list[list[tuple[Element, float]]]:
        """Lists of (element, weight) such that ∫f dμ = Σ w_1 … w_k f(t_1 … t_k) for matrix coefficients f of degree ≤
        ``degree`` (see :meth:`Representation.degree`); any f for a finite group.

        Raises:
            BadInput: a Lie group for which no such rule is known.
        """
        return [[(t, 1 / len(part)) for t in part] for part in self.transversals()]

    def quadrature(self, degree: int) -> Iterator[tuple[Element, float]]:
        """The same average as one sum: elements with positive weights, the identity first for a finite group."""
        if self.order is not None:
            yield from ((g, 1 / self.order) for g in self.elements())
            return
        for chain in itertools.product(*self.averaging(degree)):
            g, weight = self.identity, 1.0
            for t, w in chain:
                g, weight = self.multiply(g, t), weight * w
            yield g, weight

    def nodes(self, degree: int) -> int | None:
        """How many elements ``quadrature`` gives; None when no rule is known."""
        return self.order if self.order is not None else math.prod(len(part) for part in self.averaging(degree))

    def unit(self, label: Label) -> float:
        """The size of a basis element X of the Lie algebra: the largest weight where G acts by its own matrices."""
        return 1.0

    @property
    def frame(self) -> tuple[tuple[tuple[Label, float], ...], ...]:
        """A well-conditioned basis of the Lie algebra, Y_a = Σ c X as pairs (X, c), each of size one."""
        return tuple(((x, 1 / self.unit(x)),) for x in self.algebra)

    def word(self, g: Element) -> tuple[Letter, ...]:
        """Letters whose product is g: exponentials from the Lie algebra and discrete generators."""
        raise BadInput(f"{self.name}: elements are not known as words; represent each factor of a product by itself")

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Trivial(Group):
    """The group with one element."""

    name = "trivial"
    order = 1
    identity = 0
    generators = ()

    def multiply(self, a: int, b: int) -> int:
        return 0

    def inverse(self, a: int) -> int:
        return 0

    def elements(self) -> Iterator[int]:
        yield 0

    def sample(self, rng: np.random.Generator) -> int:
        return 0


@dataclass(frozen=True)
class Cyclic(Group):
    """C_n, the integers modulo n under addition."""

    n: int
    identity = 0

    def __post_init__(self) -> None:
        if self.n < 1:
            raise BadInput(f"cyclic group: order {self.n} is not positive; give n ≥ 1")

    @property
    def name(self) -> str:
        return f"C_{self.n}"

    @property
    def order(self) -> int:
        return self.n

    @property
    def generators(self) -> tuple[int, ...]:
        return (1,) if self.n > 1 else ()

    def multiply(self, a: int, b: int) -> int:
        return (a + b) % self.n

    def inverse(self, a: int) -> int:
        return -a % self.n

    def elements(self) -> Iterator[int]:
        yield from range(self.n)

    def sample(self, rng: np.random.Generator) -> int:
        return int(rng.integers(self.n))

    def word(self, g: int) -> tuple[Letter, ...]:
        return (0,) * g


@dataclass(frozen=True)
class Dihedral(Group):
    """D_n of order 2n: pairs (k, s) stand for r^k f^s with f r f = r⁻¹.

    >>> D4 = Dihedral(4)
    >>> D4.multiply((1, 1), (1, 0))  # r f r = f
    (0, 1)
    """

    n: int
    identity = (0, 0)

    @property
    def name(self) -> str:
        return f"D_{self.n}"

    @property
    def order(self) -> int:
        return 2 * self.n

    @property
    def generators(self) -> tuple[tuple[int, int], ...]:
        return ((1 % self.n, 0), (0, 1))

    def multiply(self, a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
        sign = -1 if a[1] else 1
        return ((a[0] + sign * b[0]) % self.n, (a[1] + b[1]) % 2)

    def inverse(self, a: tuple[int, int]) -> tuple[int, int]:
        return a if a[1] else (-a[0] % self.n, 0)

    def elements(self) -> Iterator[tuple[int, int]]:
        for s, k in itertools.product(range(2), range(self.n)):
            yield (k, s)

    def sample(self, rng: np.random.Generator) -> tuple[int, int]:
        return (int(rng.integers(self.n)), int(rng.integers(2)))


@dataclass(frozen=True)
class Symmetric(Group):
    """S_n: a tuple g with g[i] the image of i; (ab)[i] = a[b[i]]."""

    n: int

    @property
    def name(self) -> str:
        return f"S_{self.n}"

    @property
    def order(self) -> int:
        return math.factorial(self.n)

    @property
    def identity(self) -> tuple[int, ...]:
        return tuple(range(self.n))

    @property
    def generators(self) -> tuple[tuple[int, ...], ...]:
        if self.n < 2:
            return ()
        swap = (1, 0, *range(2, self.n))
        cycle = (*range(1, self.n), 0)
        return (swap,) if self.n == 2 else (swap, cycle)

    def multiply(self, a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(a[i] for i in b)

    def inverse(self, a: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(int(i) for i in np.argsort(a))

    def elements(self) -> Iterator[tuple[int, ...]]:
        yield from itertools.permutations(range(self.n))

    def transversals(self) -> list[list[tuple[int, ...]]]:
        # S_k = {1, (i k) for i < k} S_{k−1}: where k − 1 goes, then the rest.
        chain = []
        for k in range(self.n - 1, 0, -1):
            swaps = [self.identity]
            for i in range(k):
                swap = list(self.identity)
                swap[i], swap[k] = k, i
                swaps.append(tuple(swap))
            chain.append(swaps)
        return chain or [[self.identity]]

    def sample(self, rng: np.random.Generator) -> tuple[int, ...]:
        return tuple(int(i) for i in rng.permutation(self.n))


@dataclass(frozen=True)
class DirectProduct(Group):
    """G_1 × … × G_k: tuples, multiplied factor by factor."""

    factors: tuple[Group, ...]

    @property
    def name(self) -> str:
        first = self.factors[0]
        if self.factors == (first, first) and isinstance(first, Cyclic):
            return f"Z_{first.n}²"
        return " × ".join(f.name for f in self.factors)

    @property
    def order(self) -> int | None:
        return None if any(f.order is None for f in self.factors) else math.prod(f.order for f in self.factors)

    @property
    def algebra(self) -> tuple[Label, ...]:
        return tuple((i, x) for i, f in enumerate(self.factors) for x in f.algebra)

    @property
    def frame(self) -> tuple[tuple[tuple[Label, float], ...], ...]:
        return tuple(_tagged(letter, i) for i, f in enumerate(self.factors) for letter in f.frame)

    @property
    def discrete(self) -> tuple[tuple[Element, ...], ...]:
        return tuple(self.inject(i, g) for i, f in enumerate(self.factors) for g in f.discrete)

    def inject(self, i: int, g: Element) -> tuple[Element, ...]:
        """The element whose i-th entry is g, the others neutral."""
        return (*self.identity[:i], g, *self.identity[i + 1 :])

    @property
    def identity(self) -> tuple[Element, ...]:
        return tuple(f.identity for f in self.factors)

    @property
    def generators(self) -> tuple[tuple[Element, ...], ...]:
        return tuple(self.inject(i, g) for i, f in enumerate(self.factors) for g in f.generators)

    def multiply(self, a: tuple[Element, ...], b: tuple[Element, ...]) -> tuple[Element, ...]:
        return tuple(f.multiply(x, y) for f, x, y in zip(self.factors, a, b, strict=True))

    def inverse(self, a: tuple[Element, ...]) -> tuple[Element, ...]:
        return tuple(f.inverse(x) for f, x in zip(self.factors, a, strict=True))

    def elements(self) -> Iterator[tuple[Element, ...]]:
        yield from itertools.product(*(f.elements() for f in self.factors))

    def transversals(self) -> list[list[tuple[Element, ...]]]:
        return [[self.inject(i, t) for t in part] for i, f in enumerate(self.factors) for part in f.transversals()]

    def averaging(self, degree: int) -> list[list[tuple[tuple[Element, ...], float]]]:
        return [
            [(self.inject(i, t), w) for t, w in part]
            for i, f in enumerate(self.factors)
            for part in f.averaging(degree)
        ]

    def nodes(self, degree: int) -> int | None:
        counts = [f.nodes(degree) for f in self.factors]
        return None if None in counts else math.prod(counts)

    def unit(self, label: Label) -> float:
        return self.factors[label[0]].unit(label[1])

    def word(self, g: tuple[Element, ...]) -> tuple[Letter, ...]:
        found, passed = [], 0
        for i, (f, x) in enumerate(zip(self.factors, g, strict=True)):
            found += _shifted(f.word(x), i, passed)
            passed += len(f.discrete)
        return tuple(found)

    def sample(self, rng: np.random.Generator) -> tuple[Element, ...]:
        return tuple(f.sample(rng) for f in self.factors)


def _shifted(word: tuple[Letter, ...], factor: int, passed: int) -> list[Letter]:
    """A factor's word in a product: its labels tagged, its discrete generators numbered after ``passed`` others."""
    return [
        (letter + passed if letter >= 0 else letter - passed) if isinstance(letter, int) else _tagged(letter, factor)
        for letter in word
    ]


def _tagged(letter: tuple[tuple[Label, float], ...], factor: int) -> tuple[tuple[Label, float], ...]:
    """A combination of a factor's basis in the product's."""
    return tuple(((factor, x), c) for x, c in letter)


def torus(n: int) -> DirectProduct:
    """Z_n × Z_n, the cyclic shifts of an n × n image."""
    return DirectProduct((Cyclic(n), Cyclic(n)))


@dataclass(frozen=True)
class SemidirectProduct(Group):
    """N ⋊ H: pairs (a, h) with (a, h)(b, k) = (a · φ_h(b), hk).

    Args:
        normal: the normal subgroup N.
        acting: the group H.
        action: φ(h, b), the automorphism of N that h stands for; φ_hk = φ_h φ_k.
        name: what reports print.
    """

    normal: Group
    acting: Group
    action: Callable[[Element, Element], Element]
    name: str

    @property
    def order(self) -> int | None:
        infinite = self.normal.order is None or self.acting.order is None
        return None if infinite else self.normal.order * self.acting.order

    @property
    def algebra(self) -> tuple[Label, ...]:
        return tuple((0, x) for x in self.normal.algebra) + tuple((1, x) for x in self.acting.algebra)

    @property
    def frame(self) -> tuple[tuple[tuple[Label, float], ...], ...]:
        return tuple(_tagged(y, i) for i, f in enumerate((self.normal, self.acting)) for y in f.frame)

    @property
    def discrete(self) -> tuple[tuple[Element, Element], ...]:
        return tuple((a, self.acting.identity) for a in self.normal.discrete) + tuple(
            (self.normal.identity, h) for h in self.acting.discrete
        )

    @property
    def identity(self) -> tuple[Element, Element]:
        return (self.normal.identity, self.acting.identity)

    @property
    def generators(self) -> tuple[tuple[Element, Element], ...]:
        return tuple((a, self.acting.identity) for a in self.normal.generators) + tuple(
            (self.normal.identity, h) for h in self.acting.generators
        )

    def multiply(self, a: tuple[Element, Element], b: tuple[Element, Element]) -> tuple[Element, Element]:
        return (self.normal.multiply(a[0], self.action(a[1], b[0])), self.acting.multiply(a[1], b[1]))

    def inverse(self, a: tuple[Element, Element]) -> tuple[Element, Element]:
        h = self.acting.inverse(a[1])
        return (self.action(h, self.normal.inverse(a[0])), h)

    def elements(self) -> Iterator[tuple[Element, Element]]:
        for h, a in itertools.product(self.acting.elements(), self.normal.elements()):
            yield (a, h)

    def transversals(self) -> list[list[tuple[Element, Element]]]:
        # (a, 1)(1, h) = (a, h)
        return [[(a, self.acting.identity) for a in part] for part in self.normal.transversals()] + [
            [(self.normal.identity, h) for h in part] for part in self.acting.transversals()
        ]

    def averaging(self, degree: int) -> list[list[tuple[tuple[Element, Element], float]]]:
        return [[((a, self.acting.identity), w) for a, w in part] for part in self.normal.averaging(degree)] + [
            [((self.normal.identity, h), w) for h, w in part] for part in self.acting.averaging(degree)
        ]

    def nodes(self, degree: int) -> int | None:
        counts = (self.normal.nodes(degree), self.acting.nodes(degree))
        return None if None in counts else math.prod(counts)

    def unit(self, label: Label) -> float:
        return (self.normal, self.acting)[label[0]].unit(label[1])

    def word(self, g: tuple[Element, Element]) -> tuple[Letter, ...]:
        first = _shifted(self.normal.word(g[0]), 0, 0)
        return (*first, *_shifted(self.acting.word(g[1]), 1, len(self.normal.discrete)))

    def sample(self, rng: np.random.Generator) -> tuple[Element, Element]:
        return (self.normal.sample(rng), self.acting.sample(rng))


@dataclass(frozen=True)
class QuarterTurnOfTorus:
    """φ_k(a, b): k quarter turns of a shift vector on Z_n², (a, b) ↦ (−b, a) once."""

    n: int

    def __call__(self, k: int, shift: tuple[int, int]) -> tuple[int, int]:
        a, b = shift
        for _ in range(k % 4):
            a, b = -b % self.n, a
        return (a, b)


def roto_translations(n: int) -> SemidirectProduct:
    """C_4 ⋉ Z_n²: elements ((a, b), k), first k quarter turns, then the shift by (a, b)."""
    return SemidirectProduct(torus(n), Cyclic(4), QuarterTurnOfTorus(n), f"C_4 ⋉ Z_{n}²")


class _Closure(Group):
    """A group enumerated once from generators; elements are kept in the order found."""

    generators: tuple[Element, ...]

    @cached_property
    def _members(self) -> tuple[Element, ...]:
        found: dict[Element, None] = {self.identity: None}
        frontier = [self.identity]
        while frontier:
            fresh = []
            for b in self._next(frontier):
                if b not in found:
                    found[b] = None
                    fresh.append(b)
                    if len(found) > CLOSURE_LIMIT:
                        break
            self._grown(found, fresh)
            if len(found) > CLOSURE_LIMIT:
                raise BadInput(
                    f"{self.name}: the generators reach more than {CLOSURE_LIMIT} elements; "
                    "use a named group, or check that the generators have finite order"
                )
            frontier = fresh
        return tuple(found)

    def _next(self, frontier: Sequence[Element]) -> Iterator[Element]:
        """The products ga, a in the frontier, g a generator."""
        yield from (self.multiply(g, a) for a in frontier for g in self.generators)

    def _grown(self, found: dict[Element, None], fresh: Sequence[Element]) -> None:
        """Called after each step of the enumeration.

        Raises:
            BadInput: what was found shows that the steps never end.
        """

    def elements(self) -> Iterator[Element]:
        yield from self._members

    def sample(self, rng: np.random.Generator) -> Element:
        return self._members[int(rng.integers(len(self._members)))]


class PermutationGroup(_Closure):
    """The group generated by permutations; elements are tuples as in :class:`Symmetric`.

    Raises:
        BadInput: a generator that is no permutation, or more than 200,000 elements on enumeration.

    >>> PermutationGroup([(1, 2, 3, 0), (3, 2, 1, 0)], name="square").order
    8
    """

    def __init__(self, generators: Sequence[Sequence[int]], name: str | None = None) -> None:
        if not generators:
            raise BadInput("permutation group: no generators; give at least one")
        degree = len(generators[0])
        for k, g in enumerate(generators):
            if sorted(g) != list(range(degree)):
                raise BadInput(f"permutation group: generator {k} = {list(g)} is no permutation of 0…{degree - 1}")
        self.degree = degree
        self.generators = tuple(tuple(int(i) for i in g) for g in generators)
        self.identity = tuple(range(degree))
        self.name = name or f"⟨{len(generators)} permutations of {degree}⟩"

    @cached_property
    def _schreier_sims(self):
        from sympy.combinatorics import Permutation
        from sympy.combinatorics import PermutationGroup as SympyGroup

        return SympyGroup([Permutation(list(g)) for g in self.generators])

    @cached_property
    def order(self) -> int:
        return int(self._schreier_sims.order())

    @cached_property
    def _transversals(self) -> list[list[tuple[int, ...]]]:
        # sympy multiplies left to right, so its g = u_k … u_1 reads u_1 … u_k here.
        chains = self._schreier_sims.basic_transversals
        return [[tuple(u.array_form) for u in part.values()] for part in chains] or [[self.identity]]

    def transversals(self) -> list[list[tuple[int, ...]]]:
        return [list(part) for part in self._transversals]

    def sample(self, rng: np.random.Generator) -> tuple[int, ...]:
        # One factor from every transversal: uniform, and no element but this one is made.
        g = self.identity
        for part in self._transversals:
            g = self.multiply(g, part[int(rng.integers(len(part)))])
        return g

    def multiply(self, a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(a[i] for i in b)

    def inverse(self, a: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(int(i) for i in np.argsort(a))


class MatrixGroup(_Closure):
    """The finite group generated by orthogonal matrices (d × d).

    An element is the matrix itself, rounded to nine decimals, as nested tuples; the exact matrix is
    kept in ``matrix_of``. Matrices within 1e-6 of each other are the same element.

    Raises:
        BadInput: a generator that is not square or not orthogonal, or more than 200,000 elements.

    >>> Q8 = MatrixGroup([[[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, -1], [0, 0, 1, 0]],
    ...                   [[0, 0, -1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, -1, 0, 0]]], name="Q_8")
    >>> Q8.order
    8
    """

    def __init__(self, generators: Sequence, name: str | None = None) -> None:
        matrices = [np.asarray(g, dtype=float) for g in generators]
        if not matrices:
            raise BadInput("matrix group: no generators; give at least one")
        d = len(matrices[0]) if matrices[0].ndim else 0
        for k, g in enumerate(matrices):
            if g.shape != (d, d) or not d:
                raise BadInput(f"matrix group: generator {k} has shape {g.shape}; all must be {d or 1} × {d or 1}")
            error = float(np.abs(g @ g.T - np.eye(d)).max())
            if not error < 1e-8:
                raise BadInput(
                    f"matrix group: generator {k} is not orthogonal (max |ggᵀ − 1| = {error:.2e}); "
                    "change the inner product so that it is, and give its entries to at least nine digits"
                )
        self.degree = d
        self.name = name or f"⟨{len(matrices)} matrices of size {d}⟩"
        self._register = Register(d)
        self._keys: list[Element] = []
        self._numbers: dict[Element, int] = {}
        self.identity = self._intern(np.eye(d))
        cleaned = [mended(g) for g in matrices]
        self.generators = tuple(self._intern(g) for g in cleaned)
        if max(float(np.abs(a - b).max()) for a, b in zip(matrices, cleaned, strict=True)) > 1e-12:
            self._multiply_exactly()

    def _intern(self, matrix: np.ndarray) -> Element:
        """The element within 1e-6 of a matrix, made anew if there is none: generators may carry rounding."""
        known = self._register.find(matrix)
        return self._keys[self._named(polished(matrix), np.round(matrix, 9).tolist()) if known is None else known]

    def _named(self, matrix: np.ndarray, rounded: list[list[float]]) -> int:
        """The number of a new element."""
        # −0 and 0 are one number with two spellings.
        key = tuple(tuple(x + 0.0 for x in row) for row in rounded)
        self._keys.append(key)
        self._numbers[key] = self._register.add(matrix)
        return self._numbers[key]

    def _next(self, frontier: Sequence[Element]) -> Iterator[Element]:
        if len(frontier) < 8:  # a cyclic group grows by one
            yield from super()._next(frontier)
            return
        generators = np.array([self._matrix(g) for g in self.generators])
        for start in range(0, len(frontier), BATCH):
            old = np.array([self._matrix(a) for a in frontier[start : start + BATCH]])
            moved = (generators @ old[:, None]).reshape(-1, self.degree, self.degree)
            known = self._register.find_all(moved)
            unknown = np.flatnonzero(known < 0)
            if len(unknown):
                names = np.round(moved[unknown], 9).tolist()
                for i, matrix, rounded in zip(unknown, polished(moved[unknown]), names, strict=True):
                    twin = self._register.find(matrix)
                    known[i] = self._named(matrix, rounded) if twin is None else twin
            yield from (self._keys[i] for i in known)

    def _grown(self, found: dict[Element, None], fresh: Sequence[Element]) -> None:
        # An infinite group of matrices has elements of infinite order (Schur), and nearly all of those met late are.
        if len(found) < self._suspect:
            return
        self._suspect = 4 * len(found)
        for number, g in enumerate([*self.generators, *fresh[-32:]]):
            shown = endless(self._matrix(g))
            if shown:
                which = f"generator {number}" if number < len(self.generators) else "a product of the generators"
                raise BadInput(
                    f"{self.name}: the generators reach more than {CLOSURE_LIMIT} elements: {which} {shown}; for all "
                    "turns of that plane give LieGroup([X], [other generators]), X the skew matrix with exp(tX) = turn"
                )

    _suspect = 32

    def _multiply_exactly(self) -> None:
        """Turns the matrices into a homomorphism to rounding, where generators of few digits leave it at 1e-9.

        ρ'(g) = polar of the mean over h of ρ(gh)ρ(h)ᵀ: what was off by δ is off by δ² then.
        """
        found = self._members
        stack = self._register.stack
        moves, exact = [], []
        for s in self.generators:
            moves.append(self._register.find_all(self._matrix(s) @ stack[: len(found)]))
        for place in moves:
            u, _, vt = np.linalg.svd(np.einsum("hij,hkj->ik", stack[place], stack[: len(found)]))
            exact.append(u @ vt)
        levels, seen = [0], {0}
        stack[0] = np.eye(self.degree)
        for a in levels:
            for s, place in zip(exact, moves, strict=True):
                if (b := int(place[a])) not in seen:
                    seen.add(b)
                    levels.append(b)
                    stack[b] = s @ stack[a]

    def _matrix(self, a: Element) -> np.ndarray:
        return self._register.stack[self._numbers[a]]

    def matrix_of(self, a: Element) -> np.ndarray:
        """The orthogonal matrix (d × d) of an element."""
        return self._matrix(a)

    @cached_property
    def order(self) -> int:
        return len(self._members)

    def multiply(self, a: Element, b: Element) -> Element:
        return self._intern(self._matrix(a) @ self._matrix(b))

    def inverse(self, a: Element) -> Element:
        return self._intern(self._matrix(a).T)


def quaternion_group() -> MatrixGroup:
    """Q_8 = {±1, ±i, ±j, ±k}, acting on R⁴ by left multiplication (quaternionic type)."""
    i = [[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, -1], [0, 0, 1, 0]]
    j = [[0, 0, -1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, -1, 0, 0]]
    return MatrixGroup([i, j], name="Q_8")
