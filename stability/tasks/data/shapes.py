"""Images of one triangle or one regular pentagon, with a mask for each."""

from __future__ import annotations

import numpy as np

from stability.tasks.data.dataset import Dataset, require_whole

CORNERS = (3, 5)  # by class: the triangle's mask is channel 0, the pentagon's channel 1
SUBSAMPLES = 8  # points a pixel, along each axis
POINTS_AT_ONCE = 1 << 20  # 8 MB for each temporary array of float64


def shapes(side: int, count: int, seed: int) -> Dataset:
    """Coverage of each pixel by one regular polygon, triangle or pentagon at equal odds, and the masks coverage ≥ ½.

    Circumradius U(.7, .8), centre U(−.5, .5)² on the square [−1, 1]², cut off at its border; row 0 is the top. Every
    polygon is upright (one corner straight up): this fixed orientation is what leaves the data unsymmetric under
    quarter turns. inputs (count, side·side) float64 in [0, 1]; targets (count, 2·side·side) float64 0/1,
    channel-major: the mask of the triangle, then of the pentagon; that of the shape which is not there is zero.

    Raises BadInput if side < 4 (below, a shape may cover no pixel by half), count < 1 or seed < 0.
    Source: arXiv 2303.13458, experiment ROT.

    >>> shapes(side=4, count=3, seed=0).targets.shape
    (3, 32)
    """
    require_whole("side", side, 4)
    require_whole("count", count, 1)
    require_whole("seed", seed, 0)
    kinds, centres, radii = draw(count, np.random.default_rng(seed))
    inputs = np.empty((count, side * side))
    for kind, corners in enumerate(CORNERS):
        chosen = kinds == kind
        inputs[chosen] = coverage(corners, centres[chosen], radii[chosen], side).reshape(-1, side * side)
    masks = np.zeros((count, len(CORNERS), side * side))
    masks[np.arange(count), kinds] = inputs >= 0.5
    source = (
        f"{count:,} images of one upright triangle or regular pentagon, antialiased to {side}×{side} by "
        f"{SUBSAMPLES}×{SUBSAMPLES} points a pixel, seed {seed}"
    )
    return Dataset.of(inputs, masks.reshape(count, -1), source)


def draw(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kinds (count,) in {0, 1}, centres (count, 2) as (x, y) in U(−.5, .5)², circumradii (count,) in U(.7, .8)."""
    return rng.integers(len(CORNERS), size=count), rng.uniform(-0.5, 0.5, (count, 2)), rng.uniform(0.7, 0.8, count)


def coverage(corners: int, centres: np.ndarray, radii: np.ndarray, side: int) -> np.ndarray:
    """Share of each pixel's 8×8 subsample points inside the upright regular polygon, (N, side, side) in [0, 1].

    The polygon with n corners is {p : ⟨p − c, u_k⟩ ≤ r cos(π/n), k = 0 … n−1}, u_k = (sin θ_k, cos θ_k) the normals
    of its edges, θ_k = (2k+1)π/n clockwise from straight up. centres (N, 2) as (x, y), y pointing up; radii (N,).
    """
    fine = side * SUBSAMPLES
    grid = (2 * np.arange(fine) + 1) / fine - 1
    angles = (2 * np.arange(corners) + 1) * np.pi / corners
    result = np.empty((len(radii), side, side))
    step = max(1, POINTS_AT_ONCE // fine**2)
    for start in range(0, len(radii), step):
        part = slice(start, start + step)
        x, y = grid - centres[part, :1], -grid - centres[part, 1:]
        inside = np.ones((len(x), fine, fine), dtype=bool)
        for angle in angles:
            limit = (radii[part] * np.cos(np.pi / corners))[:, None] - x * np.sin(angle)
            inside &= (y * np.cos(angle))[:, :, None] <= limit[:, None, :]
        result[part] = inside.reshape(-1, side, SUBSAMPLES, side, SUBSAMPLES).mean((2, 4))
    return result
