"""Groups: elements, products, generators, enumeration, averages and exact Haar sampling.

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
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from stability.base.errors import BadInput

# The elements of a group whose class is known: Cyclic is a Group[int].
E = TypeVar("E", bound=Hashable)
# An element of a group that may be any: hashable, and read by that group alone.
Element = Any
# A basis element of a Lie algebra, hashable, by whatever name its group knows it.
Label = Any
# exp(Σ c X) as pairs (X, c), or a discrete generator by its number (−1 − j: the inverse of j).
Letter = tuple[tuple[Label, float], ...] | int


class Group(ABC, Generic[E]):
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

    if TYPE_CHECKING:
        # Read only, so that a subclass may compute them. At run time they are no properties, which a dataclass would
        # take for the defaults of its fields.
        @property
        def name(self) -> str: ...
        @property
        def order(self) -> int | None: ...
        @property
        def identity(self) -> E: ...
        @property
        def generators(self) -> tuple[E, ...]: ...
        @property
        def algebra(self) -> tuple[Label, ...]: ...
    else:
        algebra = ()

    @property
    def discrete(self) -> tuple[E, ...]:
        """Elements that generate G together with the Lie algebra; all generators of a finite group."""
        return self.generators

    @abstractmethod
    def multiply(self, a: E, b: E) -> E:
        """The product ab; in a representation ρ(ab) = ρ(a)ρ(b)."""

    @abstractmethod
    def inverse(self, a: E) -> E:
        """The element a⁻¹."""

    @abstractmethod
    def elements(self) -> Iterator[E]:
        """Every element once, the identity first."""

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> E:
        """One element from the Haar measure: each of the |G| elements equally likely."""

    def transversals(self) -> list[list[E]]:
        """Lists T_1 … T_k such that every g is t_1 t_2 … t_k for exactly one choice of t_i ∈ T_i.

        Averages of a *linear* action over G are then averages over T_k, …, T_1 in turn: Σ|T_i| terms, not Π|T_i|.
        """
        return [list(self.elements())]

    def averaging(self, degree: int) -> list[list[tuple[E, float]]]:
        """Lists of (element, weight) such that ∫f dμ = Σ w_1 … w_k f(t_1 … t_k) for matrix coefficients f of degree ≤
        ``degree`` (see :meth:`Representation.degree`); any f for a finite group.

        Raises:
            BadInput: a Lie group for which no such rule is known.
        """
        return [[(t, 1 / len(part)) for t in part] for part in self.transversals()]

    def quadrature(self, degree: int) -> Iterator[tuple[E, float]]:
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

    def word(self, g: E) -> tuple[Letter, ...]:
        """Letters whose product is g: exponentials from the Lie algebra and discrete generators."""
        raise BadInput(f"{self.name}: elements are not known as words; represent each factor of a product by itself")

    def __str__(self) -> str:
        return self.name


def product(counts: Iterable[int | None]) -> int | None:
    """Π n_i, infinite (None) when one of them is."""
    total = 1
    for n in counts:
        if n is None:
            return None
        total *= n
    return total


def order_of(group: Group) -> int:
    """|G|.

    Raises:
        BadInput: infinitely many elements.
    """
    if group.order is None:
        raise BadInput(f"{group.name} has infinitely many elements; use a finite subgroup")
    return group.order


@dataclass(frozen=True)
class Trivial(Group[int]):
    """The group with one element."""

    name = "trivial"
    order = 1
    identity = 0
    generators = ()

    def multiply(self, a: int, b: int) -> int:
        """The neutral element, 0."""
        return 0

    def inverse(self, a: int) -> int:
        """The neutral element, 0."""
        return 0

    def elements(self) -> Iterator[int]:
        """The neutral element alone."""
        yield 0

    def sample(self, rng: np.random.Generator) -> int:
        """The neutral element, whatever the generator draws."""
        return 0


@dataclass(frozen=True)
class Cyclic(Group[int]):
    """C_n, the integers modulo n under addition.

    Attributes:
        n: the order.
    """

    n: int
    identity = 0

    def __post_init__(self) -> None:
        if self.n < 1:
            raise BadInput(f"cyclic group: order {self.n} is not positive; give n ≥ 1")

    @property
    def name(self) -> str:
        """C_n."""
        return f"C_{self.n}"

    @property
    def order(self) -> int:
        """|C_n| = n."""
        return self.n

    @property
    def generators(self) -> tuple[int, ...]:
        """1, which generates all of it; none for n = 1."""
        return (1,) if self.n > 1 else ()

    def multiply(self, a: int, b: int) -> int:
        """(a + b) mod n."""
        return (a + b) % self.n

    def inverse(self, a: int) -> int:
        """−a mod n."""
        return -a % self.n

    def elements(self) -> Iterator[int]:
        """0, 1, …, n − 1."""
        yield from range(self.n)

    def sample(self, rng: np.random.Generator) -> int:
        """Each of 0, …, n − 1 with probability 1/n."""
        return int(rng.integers(self.n))

    def word(self, g: int) -> tuple[Letter, ...]:
        """g times the generator."""
        return (0,) * g


@dataclass(frozen=True)
class Dihedral(Group[tuple[int, int]]):
    """D_n of order 2n: pairs (k, s) stand for r^k f^s with f r f = r⁻¹.

    Attributes:
        n: the number of turns, half the order.

    >>> D4 = Dihedral(4)
    >>> D4.multiply((1, 1), (1, 0))  # r f r = f
    (0, 1)
    """

    n: int
    identity = (0, 0)

    @property
    def name(self) -> str:
        """D_n, named by the number of turns; its order is 2n."""
        return f"D_{self.n}"

    @property
    def order(self) -> int:
        """|D_n| = 2n."""
        return 2 * self.n

    @property
    def generators(self) -> tuple[tuple[int, int], ...]:
        """The turn r = (1, 0) and the flip f = (0, 1)."""
        return ((1 % self.n, 0), (0, 1))

    def multiply(self, a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
        """r^k f^s r^l f^t = r^(k ± l) f^(s + t), minus where s = 1."""
        sign = -1 if a[1] else 1
        return ((a[0] + sign * b[0]) % self.n, (a[1] + b[1]) % 2)

    def inverse(self, a: tuple[int, int]) -> tuple[int, int]:
        """r^k f is its own inverse; that of r^k is r^(−k)."""
        return a if a[1] else (-a[0] % self.n, 0)

    def elements(self) -> Iterator[tuple[int, int]]:
        """The turns, then the flips; the identity first."""
        for s, k in itertools.product(range(2), range(self.n)):
            yield (k, s)

    def sample(self, rng: np.random.Generator) -> tuple[int, int]:
        """Each of the 2n elements with the same probability."""
        return (int(rng.integers(self.n)), int(rng.integers(2)))


@dataclass(frozen=True)
class Symmetric(Group[tuple[int, ...]]):
    """S_n: a tuple g with g[i] the image of i; (ab)[i] = a[b[i]].

    Attributes:
        n: how many points are permuted.
    """

    n: int

    @property
    def name(self) -> str:
        """S_n."""
        return f"S_{self.n}"

    @property
    def order(self) -> int:
        """n!"""
        return math.factorial(self.n)

    @property
    def identity(self) -> tuple[int, ...]:
        """(0, 1, …, n − 1)."""
        return tuple(range(self.n))

    @property
    def generators(self) -> tuple[tuple[int, ...], ...]:
        """The swap of 0 and 1, and the cycle i ↦ i + 1; the swap alone for n = 2."""
        if self.n < 2:
            return ()
        swap = (1, 0, *range(2, self.n))
        cycle = (*range(1, self.n), 0)
        return (swap,) if self.n == 2 else (swap, cycle)

    def multiply(self, a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
        """(ab)[i] = a[b[i]]: first b, then a."""
        return tuple(a[i] for i in b)

    def inverse(self, a: tuple[int, ...]) -> tuple[int, ...]:
        """The tuple b with b[a[i]] = i."""
        return tuple(int(i) for i in np.argsort(a))

    def elements(self) -> Iterator[tuple[int, ...]]:
        """All n! tuples in lexicographic order, which begins with the identity."""
        yield from itertools.permutations(range(self.n))

    def transversals(self) -> list[list[tuple[int, ...]]]:
        """{1, (i k) for i < k} for k = n − 1, …, 1: n(n + 1)/2 − 1 elements instead of n!."""
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
        """Each permutation with probability 1/n!, by one shuffle."""
        return tuple(int(i) for i in rng.permutation(self.n))
