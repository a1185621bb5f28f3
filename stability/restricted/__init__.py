r"""Layers that are not free: fixed supports, shared weights, fixed parts, as an affine space of admissible layers.

    A ∈ A_0 + T inside H = ⊕ Hom(X_i, X_{i+1}),   H_G the equivariant maps,   E = (A_0 + T) ∩ H_G

(arXiv 2303.13458, version 3 and later). What is said of R^aug on all of H holds on the admissible layers if the
orthogonal projections commute,

    Π_T Π_G = Π_G Π_T,

and G fixes the part of A_0 across T: then Π_T∇R^aug(A) = Π_E∇R(A) on E, so exact augmented descent stays on E and the
stationary points are those of R^eqv. Otherwise Π_T carries an equivariant gradient out of E. :func:`compatibility`
measures the defects; :func:`restrict` gives the problem on T, whose orthonormal coordinates G permutes or turns, so
that spectra, sectors and verdicts are those of any other problem.

A parametrisation c ↦ A_0 + Pc that is not orthonormal descends along PPᵀ∇R. Stationary points and the signs of the
Hessian stay (Sylvester), but E is left unless PPᵀ keeps it as well: :class:`Parametrisation`.

>>> import torch
>>> from stability.groups import Cyclic, rotations, trivial
>>> from stability.layers import Layer
>>> from stability.problem import ParameterSpace
>>> taps = rotations(Cyclic(4), 3)  # a 3 × 3 kernel under quarter turns
>>> space = ParameterSpace((Layer("conv", 2 * taps, 5 * trivial(Cyclic(4))),))
>>> cross = torch.tensor([[0, 1, 0], [1, 1, 1], [0, 1, 0]])
>>> skewed = torch.tensor([[1, 1, 0], [1, 0, 1], [0, 1, 0]])
>>> for mask in (cross, skewed):
...     found = compatibility(Admissible(space, {"conv": kernels(space.layers[0], support(mask))}))
...     print(found.compatible, round(found.defect, 3), found.dims)
True 0.0 {'H': 90, 'L': 50, 'H_G': 30, 'E': 20, 'E_perp': 30}
False 0.433 {'H': 90, 'L': 50, 'H_G': 30, 'E': 10, 'E_perp': 40}
"""

from __future__ import annotations

from stability.restricted.admissible import (
    Admissible,
    Compatibility,
    Parametrisation,
    Piece,
    compatibility,
    identity_offset,
    parametrised,
)
from stability.restricted.parts import (
    Free,
    Part,
    Repeated,
    Sharing,
    Spanned,
    Support,
    kernels,
    sharing,
    spanned,
    support,
)
from stability.restricted.problem import (
    Blocks,
    RestrictedModel,
    blocks,
    moved_gradient,
    restrict,
    restricted_augmented,
)

__all__ = [
    "Admissible",
    "Blocks",
    "Compatibility",
    "Free",
    "Parametrisation",
    "Part",
    "Piece",
    "Repeated",
    "RestrictedModel",
    "Sharing",
    "Spanned",
    "Support",
    "blocks",
    "compatibility",
    "identity_offset",
    "kernels",
    "moved_gradient",
    "parametrised",
    "restrict",
    "restricted_augmented",
    "sharing",
    "spanned",
    "support",
]
