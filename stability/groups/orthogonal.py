r"""Orthogonal matrices: turns as fractions of a full one, and one matrix found again among many.

A matrix has finite order when every eigenvalue exp(2πi x) has x = p/q. Convergents of the continued fraction of x are
its best approximations, and for nearly every irrational x they miss by about 1/q², hardly ever below 1e-11 for q up to
10⁵, where the turn of a finite order misses by rounding only.

>>> fraction(0.4), fraction(1 / (2 * math.pi)) is None
(Fraction(2, 5), True)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from scipy.linalg import schur

# Elements of a group that can be enumerated have no larger order; products of many are off by ``ROUNDING`` of a turn.
LARGEST_ORDER, ROUNDING = 200_000, 1e-12
# Entries given to nine decimals turn by p/q up to this over q, for orders up to ``COMMON``.
GIVEN, COMMON = 1e-8, 1000
SAME = 1e-6


def convergents(x: float) -> Iterator[Fraction]:
    """Of the continued fraction of x, with denominators up to ``LARGEST_ORDER``."""
    (p, q), (r, s), rest = (1, 0), (math.floor(x), 1), x - math.floor(x)
    while True:
        yield Fraction(r, s)
        if rest < 1e-15:
            return
        digit = math.floor(1 / rest)
        rest = 1 / rest - digit
        p, q, r, s = r, s, digit * r + p, digit * s + q
        if s > LARGEST_ORDER:
            return


def fraction(x: float) -> Fraction | None:
    """p/q = x up to rounding; None when there is none with q ≤ 200,000."""
    for f in convergents(x):
        if abs(x - f) <= max(ROUNDING, GIVEN / f.denominator if f.denominator <= COMMON else 0.0):
            return f
    return None


def shares(matrices: np.ndarray) -> np.ndarray:
    """x in [0, 1) for the eigenvalues exp(2πi x) of orthogonal matrices (…, d, d), shape (…, d)."""
    return np.angle(np.linalg.eigvals(matrices)) / (2 * math.pi) % 1.0


def endless(matrix: np.ndarray) -> str | None:
    """What shows that an orthogonal matrix has no finite order, in words; None when it has one."""
    for x in sorted(shares(matrix)):
        if x <= 0.5 and fraction(x) is None:
            near = min(
                (f for f in convergents(x) if f.denominator <= COMMON), key=lambda f: abs(x - f) * f.denominator**3
            )
            words = f"turns a plane by {x:.12g} of a full turn, no fraction with a denominator up to {LARGEST_ORDER:,}"
            off = abs(x - near)
            # A turn given to few digits, not any number: these come no nearer than 1/q².
            if off * near.denominator**2 < 1e-2:
                words += f"; {near} is missed by {off:.2e}, so give cosines and sines of it to 12 digits if it is meant"
            return words
    return None


def polished(matrices: np.ndarray) -> np.ndarray:
    """One step of Newton's polar iteration (…, d, d): what is orthogonal to eight digits becomes so to rounding."""
    return 1.5 * matrices - 0.5 * matrices @ matrices.swapaxes(-1, -2) @ matrices


def mended(matrix: np.ndarray) -> np.ndarray:
    """The nearest orthogonal matrix whose turns are the fractions that they are near; itself where that is rounding."""
    matrix = polished(matrix)
    found = [fraction(x) for x in shares(matrix)]
    if any(f is None for f in found):
        return matrix
    if max((abs(x - f) for x, f in zip(shares(matrix), found, strict=True)), default=0.0) < 1e-14:
        return matrix
    upper, vectors = schur(matrix, output="complex")
    turns = [fraction(x) for x in np.angle(np.diag(upper)) / (2 * math.pi) % 1.0]
    exact = np.array([np.exp(2j * math.pi * float(f)) for f in turns if f is not None])
    if len(exact) < len(turns):
        return matrix
    return ((vectors * exact) @ vectors.conj().T).real


class Register:
    """Matrices (d, d), and the number of the one within 1e-6 of a given matrix.

    Looked up by one generic coordinate ⟨R, M⟩, cut into steps twice as wide as 1e-6 can move it: a look-up sees two
    steps, whatever the number of matrices.
    """

    def __init__(self, d: int) -> None:
        self.probe = np.random.default_rng(0).standard_normal(d * d)
        self.step = 2 * SAME * float(np.abs(self.probe).sum())
        self.places: dict[int, list[int]] = {}
        self.stack = np.empty((16, d, d))
        self.count = 0

    def _steps(self, matrix: np.ndarray) -> tuple[int, int]:
        where = float(self.probe @ matrix.ravel()) / self.step
        whole = math.floor(where)
        return whole, whole + (1 if where - whole > 0.5 else -1)

    def find_all(self, matrices: np.ndarray) -> np.ndarray:
        """The numbers of matrices (n, d, d), −1 for those that are not met at the first look."""
        flat = matrices.reshape(len(matrices), -1) @ self.probe / self.step
        whole = np.floor(flat).astype(int)
        near = whole + np.where(flat - whole > 0.5, 1, -1)
        nothing = (-1,)
        found = np.array(
            [
                self.places.get(a, self.places.get(b, nothing))[0]
                for a, b in zip(whole.tolist(), near.tolist(), strict=True)
            ]
        )
        off = np.abs(matrices - self.stack[found]).max((1, 2), initial=0.0)
        return np.where((found >= 0) & (off < SAME), found, -1)

    def find(self, matrix: np.ndarray) -> int | None:
        """Its number, None when there is none yet."""
        for i in itertools.chain.from_iterable(self.places.get(s, ()) for s in self._steps(matrix)):
            if np.abs(self.stack[i] - matrix).max() < SAME:
                return i
        return None

    def add(self, matrix: np.ndarray) -> int:
        """The number of a new matrix."""
        if self.count == len(self.stack):
            self.stack = np.concatenate([self.stack, np.empty_like(self.stack)])
        self.stack[self.count] = matrix
        self.places.setdefault(self._steps(matrix)[0], []).append(self.count)
        self.count += 1
        return self.count - 1
