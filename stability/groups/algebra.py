r"""Lie algebras of skew matrices: a frame to compute with, whatever the basis, and whether their group is closed.

A basis is a choice of units and angles that no answer may depend on. The *frame* Y_a = Σ_i C_ai X_i is orthogonal for
⟨X, Y⟩ = tr XᵀY, each Y_a of norm one (largest weight), so that "dρ(Y_a)v = 0" has one meaning. exp of the algebra is a
closed group when its centre is a torus: all weights are rational combinations of as many as the centre has dimensions.

>>> x = np.array([[0.0, -1.0], [1.0, 0.0]])
>>> frame("tiny", [1e-12 * x]).round(3).tolist()
[[1000000000000.0]]
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from scipy.linalg import null_space

from stability.base.errors import BadInput
from stability.groups.orthogonal import convergents, endless

# Below this share of a basis' length its last direction is a difference of rounded numbers.
DEPENDENT = 1e-6
ORTHOGONAL, CLOSED, RATIONAL, DENOMINATOR = 1e-12, 1e-8, 1e-9, 1000


def frame(name: str, skew: Sequence[np.ndarray]) -> np.ndarray:
    """C (k, k) with Y_a = Σ_i C_ai X_i; diagonal where the X_i are orthogonal already.

    Raises:
        BadInput: matrices that are linearly dependent, or so nearly that their differences are rounding.
    """
    sizes = np.array([np.linalg.norm(x, 2) for x in skew])
    if not (sizes > 0).all():
        raise BadInput(f"{name}: skew matrix {int(sizes.argmin())} is zero: linearly dependent; leave it out")
    span = np.stack([(x / s).ravel() for x, s in zip(skew, sizes, strict=True)], axis=1)
    lengths = np.linalg.norm(span, axis=0)
    span = span / lengths
    if np.abs(span.T @ span - np.eye(len(skew))).max() < ORTHOGONAL:
        return np.diag(1 / sizes)
    left, values, right = np.linalg.svd(span, full_matrices=False)
    if len(values) < len(skew) or not values[-1] > DEPENDENT * values[0]:
        ratio = values[-1] / values[0] if len(values) == len(skew) else 0.0
        raise BadInput(
            f"{name}: the skew matrices, scaled to length one, are linearly dependent up to {ratio:.1e} (1e-6 is the "
            "least that is taken); give a basis of the Lie algebra whose matrices differ, an orthogonal one at best"
        )
    units = np.array([np.linalg.norm(y.reshape(skew[0].shape), 2) for y in left.T])
    return right / (values * units)[:, None] / (sizes * lengths)


def combined(coefficients: np.ndarray, matrices: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Σ_i C_ai X_i for every a."""
    return [sum(c * x for c, x in zip(row, matrices, strict=True)) for row in coefficients]


def coordinates(frame: Sequence[np.ndarray], matrix: np.ndarray) -> np.ndarray:
    """c with Σ c_a Y_a nearest to a matrix."""
    span = np.stack([y.ravel() for y in frame], axis=1)
    return np.linalg.lstsq(span, matrix.ravel(), rcond=None)[0]


def check_closed(name: str, frame: Sequence[np.ndarray], discrete: Sequence[np.ndarray]) -> None:
    """Raises BadInput unless brackets and conjugates by the discrete generators stay in the span."""
    moved = [a @ b - b @ a for a, b in itertools.combinations(frame, 2)]
    moved += [h @ y @ h.T for h in discrete for y in frame]
    for m in moved:
        rest = float(np.abs(sum(c * y for c, y in zip(coordinates(frame, m), frame, strict=True)) - m).max())
        if not rest < CLOSED:
            raise BadInput(
                f"{name}: commutators, or conjugates by discrete generators, leave the span of the skew "
                f"matrices by {rest:.2e}; add the missing ones, so that they close a Lie algebra"
            )


def centre(frame: Sequence[np.ndarray]) -> list[np.ndarray]:
    """A basis of the elements that commute with all."""
    brackets = np.stack([np.concatenate([(y @ z - z @ y).ravel() for z in frame]) for y in frame], axis=1)
    return combined(
        null_space(brackets, rcond=CLOSED).T if np.abs(brackets).max() > CLOSED else np.eye(len(frame)), frame
    )


def weights(commuting: Sequence[np.ndarray]) -> np.ndarray:
    """(d, r): commuting skew Z_j are diagonal together, with i·w_j on the diagonal."""
    mixed = sum(c * z for c, z in zip(np.random.default_rng(0).uniform(1, 2, len(commuting)), commuting, strict=True))
    _, vectors = np.linalg.eigh(-1j * mixed)
    return np.stack([np.einsum("ij,ij->j", vectors.conj(), z @ vectors).imag for z in commuting], axis=1)


def check_compact(name: str, frame: Sequence[np.ndarray], discrete: Sequence[np.ndarray]) -> None:
    """Raises BadInput where exp of the centre winds densely round a torus of more dimensions.

    Where it is closed, weights w are w = Σ c_k w_k with rational c over as many w_k as the centre has dimensions.
    Discrete generators must have finite order where the algebra does not act.
    """
    middle = centre(frame)
    found = weights(middle) if middle else np.zeros((0, 0))
    found = found[np.argsort(np.linalg.norm(found, axis=1), kind="stable")]
    basis: list[np.ndarray] = []
    for w in found:
        if len(basis) < len(middle) and np.linalg.svd(np.array([*basis, w]), compute_uv=False)[-1] > 1e-9:
            basis.append(w)
    for c in np.linalg.lstsq(np.array(basis).T, found.T, rcond=None)[0].ravel() if basis else ():
        if not any(abs(c - f) < RATIONAL * max(1.0, abs(c)) for f in convergents(c) if f.denominator <= DENOMINATOR):
            raise BadInput(
                f"{name}: turns in the ratio {c:.12g}, no fraction with a denominator up to {DENOMINATOR}, wind "
                "densely round a larger torus: the group is not closed; give one skew matrix for each plane that turns"
            )
    still = null_space(np.concatenate(frame), rcond=CLOSED)
    for k, h in enumerate(discrete):
        shown = endless(still.T @ h @ still) if still.shape[1] else None
        if shown:
            raise BadInput(f"{name}: discrete generator {k} {shown}; add that plane's skew matrix to the Lie algebra")
