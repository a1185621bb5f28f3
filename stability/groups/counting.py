r"""How often an irrep occurs, counted by characters: a count that knows nothing of the bases that sectors are made of.

    dim_R Hom_G(V_λ, W) = ∫ χ_λ(g) χ_W(g) dμ(g) = tr ∫ χ_λ(g) ρ_W(g) dμ(g)

The second form is c/d times the trace of the projection onto the isotypic component of W.

>>> from stability.groups import Symmetric, permutation
>>> nodes, rho = haar(Symmetric(10), 0), permutation(Symmetric(10))
>>> len(nodes), round(sum(w * trace(rho * rho, g) ** 2 for g, w in nodes))  # 42 classes; B(4) = 15 orbits on quadruples
(42, 15)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np

from stability.base.errors import BadInput
from stability.groups.group import Element, Group, Symmetric
from stability.groups.representation import DirectSum, Representation, TensorProduct

NODES = 2000


def haar(group: Group, degree: int) -> list[tuple[Element, float]] | None:
    """Elements with weights that integrate class functions of matrix coefficients up to a degree; None beyond 2000."""
    if isinstance(group, Symmetric):
        found = [_cycles(shape) for shape in _partitions(group.n)]
        return found if len(found) <= NODES else None
    try:
        count = group.nodes(degree)
    except BadInput:
        return None
    return list(group.quadrature(degree)) if count is not None and count <= NODES else None


def _partitions(n: int, largest: int | None = None) -> Iterator[tuple[int, ...]]:
    if n == 0:
        yield ()
    for first in range(min(n, largest or n), 0, -1):
        for rest in _partitions(n - first, first):
            yield (first, *rest)


def _cycles(shape: tuple[int, ...]) -> tuple[tuple[int, ...], float]:
    """A permutation with cycles of these lengths, and the share 1/Π k^{m_k} m_k! of its class."""
    image: list[int] = []
    for length in shape:
        start = len(image)
        image += [start + (i + 1) % length for i in range(length)]
    centraliser = math.prod(k**m * math.factorial(m) for k, m in Counter(shape).items())
    return tuple(image), 1 / centraliser


def trace(rho: Representation, g: Element) -> float:
    """tr ρ(g): fixed points of a permutation, sums and products of traces."""
    if isinstance(rho, DirectSum):
        return sum(copies * trace(base, g) for copies, base in rho.blocks)
    if isinstance(rho, TensorProduct):
        return trace(rho.a, g) * trace(rho.b, g)
    if rho.is_permutation:
        return float((rho.index(g) == np.arange(rho.dim)).sum())
    return float(np.trace(rho.matrix(g)))
