"""Groups made of groups: direct and semidirect products."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from stability.groups.group import Cyclic, Element, Group, Label, Letter, product


@dataclass(frozen=True)
class DirectProduct(Group[tuple[Element, ...]]):
    """G_1 × … × G_k: tuples, multiplied factor by factor.

    Attributes:
        factors: G_1, …, G_k.
    """

    factors: tuple[Group, ...]

    @property
    def name(self) -> str:
        """The factors' names joined by ×; Z_n² for the torus."""
        first = self.factors[0]
        if self.factors == (first, first) and isinstance(first, Cyclic):
            return f"Z_{first.n}²"
        return " × ".join(f.name for f in self.factors)

    @property
    def order(self) -> int | None:
        """Π|G_i|; None where a factor is infinite."""
        return product(f.order for f in self.factors)

    @property
    def algebra(self) -> tuple[Label, ...]:
        """Pairs (i, X) with X of the algebra of factor i: the algebras add up."""
        return tuple((i, x) for i, f in enumerate(self.factors) for x in f.algebra)

    @property
    def frame(self) -> tuple[tuple[tuple[Label, float], ...], ...]:
        """The factors' frames one after the other."""
        return tuple(_tagged(letter, i) for i, f in enumerate(self.factors) for letter in f.frame)

    @property
    def discrete(self) -> tuple[tuple[Element, ...], ...]:
        """Those of every factor, the other entries neutral."""
        return tuple(self.inject(i, g) for i, f in enumerate(self.factors) for g in f.discrete)

    def inject(self, i: int, g: Element) -> tuple[Element, ...]:
        """The element whose i-th entry is g, the others neutral."""
        return (*self.identity[:i], g, *self.identity[i + 1 :])

    @property
    def identity(self) -> tuple[Element, ...]:
        """The tuple of neutral elements."""
        return tuple(f.identity for f in self.factors)

    @property
    def generators(self) -> tuple[tuple[Element, ...], ...]:
        """Those of every factor, the other entries neutral."""
        return tuple(self.inject(i, g) for i, f in enumerate(self.factors) for g in f.generators)

    def multiply(self, a: tuple[Element, ...], b: tuple[Element, ...]) -> tuple[Element, ...]:
        """Factor by factor."""
        return tuple(f.multiply(x, y) for f, x, y in zip(self.factors, a, b, strict=True))

    def inverse(self, a: tuple[Element, ...]) -> tuple[Element, ...]:
        """Factor by factor."""
        return tuple(f.inverse(x) for f, x in zip(self.factors, a, strict=True))

    def elements(self) -> Iterator[tuple[Element, ...]]:
        """All tuples, the last entry running fastest."""
        yield from itertools.product(*(f.elements() for f in self.factors))

    def transversals(self) -> list[list[tuple[Element, ...]]]:
        """Those of every factor in turn: Σ|T| terms instead of Π|G_i|."""
        return [[self.inject(i, t) for t in part] for i, f in enumerate(self.factors) for part in f.transversals()]

    def averaging(self, degree: int) -> list[list[tuple[tuple[Element, ...], float]]]:
        """The rules of the factors in turn, each exact to the degree."""
        return [
            [(self.inject(i, t), w) for t, w in part]
            for i, f in enumerate(self.factors)
            for part in f.averaging(degree)
        ]

    def nodes(self, degree: int) -> int | None:
        """Π of the factors' nodes; None where a factor has no rule."""
        return product(f.nodes(degree) for f in self.factors)

    def unit(self, label: Label) -> float:
        """That of X in its own factor."""
        return self.factors[label[0]].unit(label[1])

    def word(self, g: tuple[Element, ...]) -> tuple[Letter, ...]:
        """The factors' words one after the other, their letters renamed."""
        found: list[Letter] = []
        passed = 0
        for i, (f, x) in enumerate(zip(self.factors, g, strict=True)):
            found += _shifted(f.word(x), i, passed)
            passed += len(f.discrete)
        return tuple(found)

    def sample(self, rng: np.random.Generator) -> tuple[Element, ...]:
        """Independent samples of the factors."""
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
class SemidirectProduct(Group[tuple[Element, Element]]):
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
        """|N||H|; None where one of them is infinite."""
        return product((self.normal.order, self.acting.order))

    @property
    def algebra(self) -> tuple[Label, ...]:
        """(0, X) with X of N, (1, X) with X of H."""
        return tuple((0, x) for x in self.normal.algebra) + tuple((1, x) for x in self.acting.algebra)

    @property
    def frame(self) -> tuple[tuple[tuple[Label, float], ...], ...]:
        """The frame of N, then that of H."""
        return tuple(_tagged(y, i) for i, f in enumerate((self.normal, self.acting)) for y in f.frame)

    @property
    def discrete(self) -> tuple[tuple[Element, Element], ...]:
        """(a, 1) for those of N, (1, h) for those of H."""
        return tuple((a, self.acting.identity) for a in self.normal.discrete) + tuple(
            (self.normal.identity, h) for h in self.acting.discrete
        )

    @property
    def identity(self) -> tuple[Element, Element]:
        """(1, 1)."""
        return (self.normal.identity, self.acting.identity)

    @property
    def generators(self) -> tuple[tuple[Element, Element], ...]:
        """(a, 1) for those of N, (1, h) for those of H."""
        return tuple((a, self.acting.identity) for a in self.normal.generators) + tuple(
            (self.normal.identity, h) for h in self.acting.generators
        )

    def multiply(self, a: tuple[Element, Element], b: tuple[Element, Element]) -> tuple[Element, Element]:
        """(a, h)(b, k) = (a · φ_h(b), hk)."""
        return (self.normal.multiply(a[0], self.action(a[1], b[0])), self.acting.multiply(a[1], b[1]))

    def inverse(self, a: tuple[Element, Element]) -> tuple[Element, Element]:
        """(a, h)⁻¹ = (φ_{h⁻¹}(a⁻¹), h⁻¹)."""
        h = self.acting.inverse(a[1])
        return (self.action(h, self.normal.inverse(a[0])), h)

    def elements(self) -> Iterator[tuple[Element, Element]]:
        """All pairs, the element of N running fastest."""
        for h, a in itertools.product(self.acting.elements(), self.normal.elements()):
            yield (a, h)

    def transversals(self) -> list[list[tuple[Element, Element]]]:
        """Those of N, then those of H, for (a, 1)(1, h) = (a, h)."""
        # (a, 1)(1, h) = (a, h)
        return [[(a, self.acting.identity) for a in part] for part in self.normal.transversals()] + [
            [(self.normal.identity, h) for h in part] for part in self.acting.transversals()
        ]

    def averaging(self, degree: int) -> list[list[tuple[tuple[Element, Element], float]]]:
        """The rule of N, then that of H."""
        return [[((a, self.acting.identity), w) for a, w in part] for part in self.normal.averaging(degree)] + [
            [((self.normal.identity, h), w) for h, w in part] for part in self.acting.averaging(degree)
        ]

    def nodes(self, degree: int) -> int | None:
        """The product of the nodes of N and H; None where one has no rule."""
        return product((self.normal.nodes(degree), self.acting.nodes(degree)))

    def unit(self, label: Label) -> float:
        """That of X in N or in H."""
        return (self.normal, self.acting)[label[0]].unit(label[1])

    def word(self, g: tuple[Element, Element]) -> tuple[Letter, ...]:
        """The word of a in N, then that of h in H."""
        first = _shifted(self.normal.word(g[0]), 0, 0)
        return (*first, *_shifted(self.acting.word(g[1]), 1, len(self.normal.discrete)))

    def sample(self, rng: np.random.Generator) -> tuple[Element, Element]:
        """Independent samples of N and of H, which are Haar on the product."""
        return (self.normal.sample(rng), self.acting.sample(rng))


@dataclass(frozen=True)
class QuarterTurnOfTorus:
    """φ_k(a, b): k quarter turns of a shift vector on Z_n², (a, b) ↦ (−b, a) once.

    Attributes:
        n: the side of the torus.
    """

    n: int

    def __call__(self, k: int, shift: tuple[int, int]) -> tuple[int, int]:
        a, b = shift
        for _ in range(k % 4):
            a, b = -b % self.n, a
        return (a, b)


def roto_translations(n: int) -> SemidirectProduct:
    """C_4 ⋉ Z_n²: elements ((a, b), k), first k quarter turns, then the shift by (a, b)."""
    return SemidirectProduct(torus(n), Cyclic(4), QuarterTurnOfTorus(n), f"C_4 ⋉ Z_{n}²")
