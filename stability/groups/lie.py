r"""Compact Lie groups: SO(2), O(2), SO(3), or any given by a Lie algebra and discrete generators.

Infinitely many elements, so nothing is enumerated. What is G-invariant is what the generators leave alone,

    dρ(X)v = 0 for a basis X of the Lie algebra,   ρ(h)v = v for the discrete generators h,

which needs no integral. An average over G is a quadrature where one is known: exact for matrix coefficients of
representations up to a stated degree, the largest weight of a rotation by 2π.

>>> SO3().order is None, len(list(SO3().quadrature(2))), SO3().nodes(4)
(True, 32, 108)
>>> round(sum(w for _, w in SO2().quadrature(5)), 12)
1.0
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from stability.base.errors import BadInput
from stability.groups.algebra import check_closed, check_compact, combined, frame
from stability.groups.group import E, Element, Group, Label, Letter
from stability.groups.orthogonal import polished

# An element of a group that is known by its generators.
Word = tuple[Letter, ...]
# Steps of the random walk that stands for a Haar sample of a group known by its generators only.
WALK = 16


class CompactGroup(Group[E]):
    """A compact Lie group, of which ``algebra`` names a basis of the Lie algebra."""

    order = None

    @abstractmethod
    def exp(self, label: Label, t: float) -> E:
        """The element exp(tX) for a basis element X of the Lie algebra."""

    @property
    def generators(self) -> tuple[E, ...]:
        """exp(X) of every basis element, by one radian, and the discrete ones: their words are dense in G."""
        # Turns by one radian are no rational part of a full one: their powers are dense in a circle.
        return (*(self.exp(x, 1.0) for x in self.algebra), *self.discrete)

    def elements(self) -> Iterator[E]:
        """Raises BadInput: there are infinitely many."""
        raise BadInput(f"{self.name} has infinitely many elements; use quadrature(degree) or sample(rng)")

    def transversals(self) -> list[list[E]]:
        """Raises BadInput: averages are quadratures, see :meth:`averaging`."""
        raise BadInput(f"{self.name} has infinitely many elements; use averaging(degree)")


@dataclass(frozen=True)
class SO2(CompactGroup[float]):
    """Rotations of the plane: an element is its angle in [0, 2π)."""

    name = "SO(2)"
    identity = 0.0
    algebra = (0,)
    discrete = ()

    def exp(self, label: Label, t: float) -> float:
        """The angle t, modulo 2π."""
        return t % (2 * math.pi)

    def multiply(self, a: float, b: float) -> float:
        """The sum of the angles, modulo 2π."""
        return (a + b) % (2 * math.pi)

    def inverse(self, a: float) -> float:
        """The angle −a, modulo 2π."""
        return -a % (2 * math.pi)

    def sample(self, rng: np.random.Generator) -> float:
        """An angle uniform in [0, 2π)."""
        return float(rng.uniform(0, 2 * math.pi))

    def word(self, g: float) -> tuple[Letter, ...]:
        """exp(gX), one letter."""
        return (((0, g),),)

    def averaging(self, degree: int) -> list[list[tuple[float, float]]]:
        """degree + 1 equal steps: exact up to that frequency."""
        return [_turns(degree + 1)]


def _turns(count: int) -> list[tuple[float, float]]:
    """Angles k·2π/count: the mean over them kills every frequency below ``count`` but zero."""
    return [(2 * math.pi * k / count, 1 / count) for k in range(count)]


@dataclass(frozen=True)
class O2(CompactGroup[tuple[float, int]]):
    """Rotations and reflections of the plane: (angle, s), first (x, y) ↦ (x, −y) when s = 1, then the rotation."""

    name = "O(2)"
    identity = (0.0, 0)
    algebra = (0,)
    discrete = ((0.0, 1),)

    def exp(self, label: Label, t: float) -> tuple[float, int]:
        """The rotation by the angle t."""
        return (t % (2 * math.pi), 0)

    def multiply(self, a: tuple[float, int], b: tuple[float, int]) -> tuple[float, int]:
        """(α, s)(β, t) = (α ± β, s + t), minus where s = 1."""
        sign = -1 if a[1] else 1
        return ((a[0] + sign * b[0]) % (2 * math.pi), (a[1] + b[1]) % 2)

    def inverse(self, a: tuple[float, int]) -> tuple[float, int]:
        """A reflection is its own inverse; that of a rotation turns back."""
        return a if a[1] else (-a[0] % (2 * math.pi), 0)

    def sample(self, rng: np.random.Generator) -> tuple[float, int]:
        """An angle uniform in [0, 2π), reflected or not with probability ½."""
        return (float(rng.uniform(0, 2 * math.pi)), int(rng.integers(2)))

    def word(self, g: tuple[float, int]) -> tuple[Letter, ...]:
        """exp(αX), followed by the reflection where s = 1."""
        turn = ((0, g[0]),)
        return (turn, 0) if g[1] else (turn,)

    def averaging(self, degree: int) -> list[list[tuple[tuple[float, int], float]]]:
        """degree + 1 equal turns, then both of {1, reflection} with weight ½."""
        return [[((a, 0), w) for a, w in _turns(degree + 1)], [((0.0, 0), 0.5), ((0.0, 1), 0.5)]]


@dataclass(frozen=True)
class SO3(CompactGroup[tuple[float, ...]]):
    """Rotations of space: an element is a unit quaternion (w, x, y, z) whose first entry other than zero is positive.

    The Lie algebra has the rotations about the three axes, X_0, X_1, X_2, with exp(2πX) = 1.
    """

    name = "SO(3)"
    identity = (1.0, 0.0, 0.0, 0.0)
    algebra = (0, 1, 2)
    discrete = ()

    def exp(self, label: Label, t: float) -> tuple[float, ...]:
        """The turn by the angle t about one of the three axes."""
        q = [math.cos(t / 2), 0.0, 0.0, 0.0]
        q[1 + label] = math.sin(t / 2)
        return _unit(q)

    def multiply(self, a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, ...]:
        """The product of the quaternions, its sign chosen so that equal rotations are equal."""
        (w, x, y, z), (p, q, r, s) = a, b
        return _unit(
            (
                w * p - x * q - y * r - z * s,
                w * q + x * p + y * s - z * r,
                w * r - x * s + y * p + z * q,
                w * s + x * r - y * q + z * p,
            )
        )

    def inverse(self, a: tuple[float, ...]) -> tuple[float, ...]:
        """The conjugate quaternion."""
        return _unit((a[0], -a[1], -a[2], -a[3]))

    def sample(self, rng: np.random.Generator) -> tuple[float, ...]:
        """A normalised Gaussian quaternion, which is Haar distributed."""
        return _unit(rng.standard_normal(4))

    def word(self, g: tuple[float, ...]) -> tuple[Letter, ...]:
        """One letter, exp(Σ c_i X_i) with c the axis times the angle; none for the identity."""
        turn = _turn(g)
        return () if turn is None else (tuple(zip(self.algebra, turn, strict=True)),)

    def averaging(self, degree: int) -> list[list[tuple[tuple[float, ...], float]]]:
        """Euler angles R_z(α) R_y(β) R_z(γ): even steps in α, γ, Gauss–Legendre in cos β.

        The number of steps is even, so that the rule contains the inverse of each of its rotations.
        """
        steps = degree + 1 + (degree + 1) % 2
        z = [(self.exp(2, a), w) for a, w in _turns(steps)]
        nodes, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
        y = [(self.exp(1, math.acos(c)), float(w) / 2) for c, w in zip(nodes, weights, strict=True)]
        return [z, y, z]


def _turn(g: tuple[float, ...]) -> list[float] | None:
    """The axis of a rotation, as long as its angle; None of the identity, which has none."""
    axis = np.array(g[1:])
    sine = float(np.linalg.norm(axis))
    return (2 * math.atan2(sine, g[0]) * axis / sine).tolist() if sine else None


def _unit(q: Sequence[float] | np.ndarray) -> tuple[float, ...]:
    length = math.sqrt(sum(x * x for x in q))
    q = [float(x) / length for x in q]
    sign = next((math.copysign(1.0, x) for x in q if abs(x) > 1e-15), 1.0)
    return tuple(sign * x + 0.0 for x in q)


class LieGroup(CompactGroup[Word]):
    """The compact group that skew matrices (a Lie algebra) and orthogonal matrices generate.

    An element is a word: letters are exp(Σ c_i X_i), given as pairs (i, c_i), and numbers of discrete generators
    (−1 − j for the inverse of generator j). No quadrature is known for it; ``sample`` is a random walk of 16 steps,
    close to the Haar measure. Units and angles of the basis do not matter: equations are solved along ``frame``.

    Args:
        algebra: a basis X_i of the Lie algebra, skew matrices (d × d).
        discrete: orthogonal matrices (d × d) that normalise it.
        name: what reports print.

    Raises:
        BadInput: matrices that are not skew or not orthogonal, that are dependent or nearly so, whose commutators leave
            their span, or that wind densely round a larger torus.

    >>> i, j, k = np.zeros((3, 4, 4))
    >>> i[0, 1], i[2, 3], j[0, 2], j[3, 1], k[0, 3], k[1, 2] = (-0.5,) * 6
    >>> SU2 = LieGroup([x - x.T for x in (i, j, k)], name="SU(2)")
    >>> SU2.algebra
    (0, 1, 2)
    """

    name: str
    identity = ()
    algebra: tuple[int, ...]
    discrete: tuple[Word, ...] = ()

    def __init__(self, algebra: Sequence, discrete: Sequence = (), name: str | None = None) -> None:
        self.skew = [np.array(x, dtype=float) for x in algebra]
        self.orthogonal = [np.array(h, dtype=float) for h in discrete]
        if not self.skew:
            raise BadInput("Lie group: no Lie algebra; give at least one skew matrix, or use MatrixGroup")
        self.degree = d = len(self.skew[0]) if self.skew[0].ndim else 0
        self.name = name or f"⟨{len(self.skew)} skew and {len(self.orthogonal)} orthogonal matrices of size {d}⟩"
        for k, m in enumerate([*self.skew, *self.orthogonal]):
            if m.shape != (d, d):
                raise BadInput(f"{self.name}: matrix {k} has shape {m.shape}; all must be {d} × {d}")
        check_skew(self.name, self.skew)
        check_orthogonal(self.name, self.orthogonal)
        self.skew = [(x - x.T) / 2 for x in self.skew]
        self.orthogonal = [polished(h) for h in self.orthogonal]
        self.algebra = tuple(range(len(self.skew)))
        self.discrete = tuple((j,) for j in range(len(self.orthogonal)))
        self.coefficients = frame(self.name, self.skew)
        framed = combined(self.coefficients, self.skew)
        check_closed(self.name, framed, self.orthogonal)
        check_compact(self.name, framed, self.orthogonal)
        found = np.abs(np.linalg.eigvals(np.array(framed)))
        self._slowest = float(found[found > 1e-6].min())

    @cached_property
    def frame(self) -> tuple[tuple[tuple[Label, float], ...], ...]:
        """Combinations of the basis that are well conditioned, whatever its units and angles."""
        return tuple(tuple((i, float(c)) for i, c in enumerate(row) if c) for row in self.coefficients)

    @property
    def generators(self) -> tuple[Word, ...]:
        """The exponential of every element of the frame, and the discrete matrices."""
        # Along the frame: exp X of a tiny X moves nothing, and proves nothing.
        return (*((letter,) for letter in self.frame), *self.discrete)

    def exp(self, label: Label, t: float) -> Word:
        """The word of one letter exp(tX_i)."""
        return (((label, float(t)),),)

    def multiply(self, a: Word, b: Word) -> Word:
        """One word after the other, letters that cancel left out."""
        first, then = list(a), list(b)
        while first and then and self._cancel(first[-1], then[0]):
            first.pop(), then.pop(0)
        return (*first, *then)

    @staticmethod
    def _cancel(x: Letter, y: Letter) -> bool:
        return _inverse(x) == y

    def inverse(self, a: Word) -> Word:
        """The inverse letters in reverse order."""
        return tuple(_inverse(x) for x in reversed(a))

    def sample(self, rng: np.random.Generator) -> Word:
        """A random walk of 16 steps, each about a whole turn of the slowest plane."""
        # Steps of a whole turn of the slowest plane, so that each plane forgets where it was.
        scale = 2 * math.pi / self._slowest
        letters: list[Letter] = []
        for _ in range(WALK):
            step = scale * rng.standard_normal(len(self.skew)) @ self.coefficients
            letters.append(tuple((i, float(c)) for i, c in enumerate(step)))
            letters += [j for j in range(len(self.orthogonal)) if rng.integers(2)]
        return tuple(letters)

    def unit(self, label: Label) -> float:
        """‖X‖, the largest weight of a basis element."""
        return float(np.linalg.norm(self.skew[label], 2)) or 1.0

    def word(self, g: Word) -> Word:
        """The element itself, which is a word."""
        return g

    def averaging(self, degree: int) -> list[list[tuple[Word, float]]]:
        """Raises BadInput: no quadrature is known."""
        raise BadInput(f"{self.name}: no quadrature is known; use SO2, O2, SO3 or products of them, or Haar samples")

    def nodes(self, degree: int) -> None:
        """None: no quadrature is known."""
        return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LieGroup) and _same(self.skew, other.skew) and _same(self.orthogonal, other.orthogonal)

    def __hash__(self) -> int:
        return hash((self.degree, len(self.skew), len(self.orthogonal)))


def _inverse(letter: Letter) -> Letter:
    return -1 - letter if isinstance(letter, int) else tuple((x, -c) for x, c in letter)


def _same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def check_skew(name: str, matrices: Sequence[np.ndarray]) -> None:
    """Raises BadInput unless X = −Xᵀ, so that exp(tX) is orthogonal."""
    for k, x in enumerate(matrices):
        size = float(np.abs(x).max(initial=0.0))
        error = float(np.abs(x + x.T).max(initial=0.0)) if np.isfinite(x).all() else math.nan
        if not error <= 1e-8 * size:
            raise BadInput(
                f"{name}: Lie algebra matrix {k} is not skew (max |X + Xᵀ| = {error:.2e}); "
                "change the inner product so that it is"
            )


def check_orthogonal(name: str, matrices: Sequence[np.ndarray]) -> None:
    """Raises BadInput unless hhᵀ = 1."""
    for k, h in enumerate(matrices):
        error = float(np.abs(h @ h.T - np.eye(len(h))).max())
        if not error < 1e-8:
            raise BadInput(
                f"{name}: matrix {k} is not orthogonal (max |mmᵀ − 1| = {error:.2e}); "
                "change the inner product so that it is"
            )


@lru_cache(maxsize=64)
def rotation_generators(degree: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dρ_l(X_0), dρ_l(X_1), dρ_l(X_2) of SO(3), real and skew, (2l + 1, 2l + 1) each; for l = 1 the vectors (x, y, z).

    From the ladder operators J_± in the basis |m⟩, in the real basis of cosines and sines of mφ.
    """
    if degree == 1:
        x, y, z = np.zeros((3, 3, 3))
        x[2, 1], y[0, 2], z[1, 0] = 1.0, 1.0, 1.0
        return x - x.T, y - y.T, z - z.T
    m = np.arange(-degree, degree + 1)
    raising = np.diag(np.sqrt(degree * (degree + 1) - m[:-1] * (m[:-1] + 1)), -1)
    jx, jy = (raising + raising.T) / 2, (raising - raising.T) / 2j
    real = np.zeros((2 * degree + 1,) * 2, dtype=complex)  # rows: real functions in terms of |m⟩
    real[degree, degree] = 1.0
    for k in range(1, degree + 1):
        sign = (-1) ** k
        real[degree + k, degree + k], real[degree + k, degree - k] = sign / math.sqrt(2), 1 / math.sqrt(2)
        real[degree - k, degree + k], real[degree - k, degree - k] = -1j * sign / math.sqrt(2), 1j / math.sqrt(2)
    change = real.conj()
    found = [change @ (-1j * j) @ change.conj().T for j in (jx, jy, np.diag(m))]
    if max(float(np.abs(f.imag).max()) for f in found) > 1e-12:
        raise ArithmeticError(f"the generators of SO(3) of degree {degree} came out complex")
    x, y, z = ((f.real - f.real.T) / 2 for f in found)
    return x, y, z


@dataclass(frozen=True)
class Harmonic:
    """The matrices of an irrep of SO(2), O(2) or SO(3) by its degree, and their derivatives.

    Args:
        group: which of the three.
        degree: k ≥ 0 or l ≥ 0.
    """

    group: SO2 | O2 | SO3
    degree: int

    @property
    def dim(self) -> int:
        """2l + 1 for SO(3); 2, or 1 for k = 0, in the plane."""
        return 2 * self.degree + 1 if isinstance(self.group, SO3) else 2 if self.degree else 1

    def derivative(self, label: Label) -> np.ndarray:
        """dρ(X)."""
        if isinstance(self.group, SO3):
            return rotation_generators(self.degree)[label]
        return np.array([[0.0, -self.degree], [self.degree, 0.0]]) if self.degree else np.zeros((1, 1))

    def __call__(self, g: Element) -> np.ndarray:
        if isinstance(self.group, SO3):
            return _turned(self.degree, g)
        if not self.degree:
            return np.eye(1)
        angle, flip = (g, 0) if isinstance(self.group, SO2) else g
        c, s = math.cos(self.degree * angle), math.sin(self.degree * angle)
        return np.array([[c, s if flip else -s], [s, -c if flip else c]])


@dataclass(frozen=True)
class Determinant:
    """g ↦ det g for O(2)."""

    dim = 1

    def derivative(self, label: Label) -> np.ndarray:
        """dρ(X) = 0, (1, 1): the determinant is constant on rotations."""
        return np.zeros((1, 1))

    def __call__(self, g: tuple[float, int]) -> np.ndarray:
        return np.array([[-1.0 if g[1] else 1.0]])


def _exponential(skew: np.ndarray) -> np.ndarray:
    """exp X for skew X (…, n, n), whose i-multiple is Hermitian: a tenth of the time that scipy's expm takes."""
    weights, vectors = np.linalg.eigh(-1j * skew)
    return ((vectors * np.exp(1j * weights)[..., None, :]) @ vectors.conj().swapaxes(-1, -2)).real


@lru_cache(maxsize=20_000)
def _turned(degree: int, g: tuple[float, ...]) -> np.ndarray:
    turn, one = _turn(g), np.eye(2 * degree + 1)
    if turn is None:
        return one
    skew = sum((c * x for x, c in zip(rotation_generators(degree), turn, strict=True)), np.zeros_like(one))
    return _exponential(skew)


@dataclass(frozen=True, eq=False)
class Exponential:
    """ρ given by dρ on a basis of the Lie algebra and ρ on the discrete generators, through words.

    Attributes:
        group: whose elements are words.
        algebra: dρ(X) by basis element, skew, (d, d) each.
        discrete: ρ of the discrete generators, orthogonal, (d, d) each.
    """

    group: Group
    algebra: dict[Label, np.ndarray]
    discrete: tuple[np.ndarray, ...]

    @property
    def dim(self) -> int:
        """Side of the matrices."""
        return len(next(iter(self.algebra.values())))

    def derivative(self, label: Label) -> np.ndarray:
        """dρ(X), as given."""
        return self.algebra[label]

    def __call__(self, g: Element) -> np.ndarray:
        return _spelled(self, g)


@lru_cache(maxsize=4096)
def _spelled(form: Exponential, g: Element) -> np.ndarray:
    """The product of the matrices of the letters; all exponentials are taken at once."""
    word = form.group.word(g)
    turns = [sum(c * form.algebra[x] for x, c in letter) for letter in word if not isinstance(letter, int)]
    turned = iter(_exponential(np.array(turns)) if turns else ())
    matrix = np.eye(form.dim)
    for letter in word:
        if isinstance(letter, int):
            matrix = matrix @ (form.discrete[letter] if letter >= 0 else form.discrete[-1 - letter].T)
        else:
            matrix = matrix @ next(turned)
    return matrix
