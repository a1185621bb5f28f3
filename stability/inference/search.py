r"""Which representation do given weights have on their outputs? Exact permutations of channels by matching.

    W = ρ_out(g) W ρ_in(g)⁻¹        row p_g(i) of W is row i of W ρ_in(g)⁻¹

For each generator the rows of W are matched to those of W ρ_in(g)⁻¹ at the least cost (Kuhn–Munkres, scipy), with
signs where the nonlinearity behind is odd. A matching is believed where the permutations multiply as the group does;
‖W − ΠW‖/‖W‖ says how far the weights are from it, and 1 − dim E/dim L how far random ones would be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from stability.base.errors import BadInput
from stability.groups import (
    Element,
    Group,
    PermutationRepresentation,
    Representation,
    from_generators,
    regular,
    trivial,
)

# Elements that an average over the group is taken over in full; of larger groups the generators are looked at.
ENUMERATED = 200


@dataclass(frozen=True, eq=False)
class Permuting:
    """g ↦ p_g from the images of the generators, by words in them.

    Attributes:
        group: finite.
        generators: an image for each of its generators.
    """

    group: Group
    generators: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        table = {self.group.identity: np.arange(len(self.generators[0]) if self.generators else 1)}
        frontier = [self.group.identity]
        while frontier:
            fresh = []
            for h in frontier:
                for g, image in zip(self.group.generators, self.generators, strict=True):
                    product = self.group.multiply(g, h)
                    found = np.asarray(image)[table[h]]
                    if product not in table:
                        table[product] = found
                        fresh.append(product)
                    elif not np.array_equal(table[product], found):
                        raise BadInput(
                            f"{self.group.name}: the permutations do not multiply as its elements do, first at "
                            f"{product}; give images of its generators"
                        )
            frontier = fresh
        object.__setattr__(self, "table", table)

    def __call__(self, g: Element) -> np.ndarray:
        return self.table[g]  # type: ignore[attr-defined]  # set once, above

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Permuting) and (self.group, self.generators) == (other.group, other.generators)

    def __hash__(self) -> int:
        return hash((self.group, self.generators))


def permuting(group: Group, images: Sequence[Sequence[int]]) -> PermutationRepresentation:
    """The representation by permutations with ρ(g_k)e_i = e_{images[k][i]} for the generators g_k.

    Raises:
        BadInput: permutations that do not multiply as the group does.

    >>> from stability.groups import Cyclic
    >>> permuting(Cyclic(4), [[1, 2, 3, 0, 4]]).index(2).tolist()
    [2, 3, 0, 1, 4]
    """
    made = Permuting(group, tuple(tuple(int(i) for i in image) for image in images))
    dim = len(made.generators[0]) if made.generators else 1
    return PermutationRepresentation(group, dim, made, f"permutations of {dim}")


@dataclass(frozen=True)
class Guess:
    """A representation of a layer's outputs, and how well given weights fit it.

    Attributes:
        rho: the representation.
        text: an expression in Python that gives it.
        distance: ‖W − ΠW‖/‖W‖ with Π the projection onto E.
        expected: what that is for random weights, √(1 − dim E/dim L).
        how: "matched" from the weights, "kind" by its kind, or "given".
    """

    rho: Representation
    text: str
    distance: float
    expected: float
    how: str

    @property
    def score(self) -> float:
        """distance/expected: about one where the weights know nothing of it; zero where they are equivariant."""
        return self.distance / self.expected if self.expected > 1e-9 else 0.0

    def __str__(self) -> str:
        return f"{self.text} (distance {self.distance:.2g}, {self.score:.2g} of what random weights have)"


def projected(weight: Tensor, source: Representation, target: Representation) -> Tensor:
    """ΠW = ∫ρ_out(g) W ρ_in(g)⁻¹ dμ, (out, in)."""
    group, total = source.group, torch.zeros_like(weight)
    if group.order is None or group.order > ENUMERATED:
        for _ in range(60):  # alternating projections onto what the generators fix
            for g in group.generators:
                weight = 0.5 * (weight + target.act(g, source.act(g, weight, 1), 0))
        return weight
    for g in group.elements():
        total = total + target.act(g, source.act(g, weight, 1), 0)
    return total / group.order


def fit(weight: Tensor, source: Representation, target: Representation, text: str, how: str) -> Guess:
    """How well weights (out, in) fit a pair of representations."""
    size = float(weight.norm()) or 1.0
    distance = float((weight - projected(weight, source, target)).norm()) / size
    probe = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0), dtype=weight.dtype)
    expected = float((probe - projected(probe, source, target)).norm() / probe.norm())
    return Guess(target, text, distance, expected if expected > 1e-12 else 0.0, how)


def matched(weight: Tensor, source: Representation, signed: bool = False) -> Guess | None:
    """The permutation of outputs under which weights (out, in) are closest to equivariant; None where none is one.

    Args:
        weight: with the bias as columns of its own, if there is one, on which ``source`` is trivial.
        source: on the columns.
        signed: whether outputs may change their signs too.
    """
    group, rows = source.group, weight.numpy()
    if group.order is None or group.order > ENUMERATED or not group.generators:
        return None
    images, matrices = [], []
    for g in group.generators:
        moved = source.act(g, weight, 1).numpy()  # W ρ(g)ᵀ = W ρ(g)⁻¹
        apart, flipped = _apart(rows, moved), _apart(rows, -moved)
        cost = np.minimum(apart, flipped) if signed else apart
        # Ties go to channels that stay where they are.
        to, origin = linear_sum_assignment(cost + 1e-12 * (1 - np.eye(len(rows))) * float(cost.max() + 1e-300))
        image = np.empty(len(rows), dtype=int)
        image[origin] = to
        sign = np.where(flipped[to, origin] < apart[to, origin], -1.0, 1.0) if signed else np.ones(len(rows))
        matrix = np.zeros((len(rows), len(rows)))
        matrix[to, origin] = sign
        images.append(image)
        matrices.append(matrix)
    try:
        if any((m < 0).any() for m in matrices):
            texts = ", ".join(_signed_text(m) for m in matrices)
            rho: Representation = from_generators(group, matrices, f"signed permutations of {len(rows)}")
            return fit(weight, source, rho, f"from_generators(G, [{texts}])", "matched")
        rho = permuting(group, [image.tolist() for image in images])
    except BadInput:
        return None
    return fit(weight, source, *named(rho), "matched")


def _apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T, 0)


def _signed_text(matrix: np.ndarray) -> str:
    to = np.abs(matrix).argmax(0)
    signs = [int(matrix[t, i]) for i, t in enumerate(to)]
    order = np.argsort(to)
    return f"np.eye({len(to)})[{order.tolist()}] * {[signs[i] for i in order]}[:, None]".replace("[:, None]", "")


def named(rho: PermutationRepresentation) -> tuple[Representation, str]:
    """The same by a name, where it is copies of the trivial or the regular representation in their usual order."""
    for candidate, text in kinds(rho.group, rho.dim):
        if all(np.array_equal(candidate.matrix(g), rho.matrix(g)) for g in rho.group.generators):
            return candidate, text
    image = rho.image
    lists = [list(p) for p in image.generators] if isinstance(image, Permuting) else []
    return rho, f"permuting(G, {lists})"


def kinds(group: Group, dim: int) -> list[tuple[Representation, str]]:
    """Representations of a dimension by kind: channels left alone, and copies of the regular representation."""
    found: list[tuple[Representation, str]] = [(dim * trivial(group), f"{dim} * trivial(G)")]
    if group.order is not None and 1 < group.order <= ENUMERATED and dim % group.order == 0:
        found.append((dim // group.order * regular(group), f"{dim // group.order} * regular(G)"))
    return found


def ranked(weight: Tensor, source: Representation, signed: bool = False) -> list[Guess]:
    """Representations of a layer's outputs, the one that its weights fit best first.

    What is fitted exactly by fewer motions comes before what is fitted exactly too: channels that stay before others.
    """
    found = [fit(weight, source, rho, text, "kind") for rho, text in kinds(source.group, len(weight))]
    for odd in (False, True) if signed else (False,):
        one = matched(weight, source, odd)
        if one is not None and all(one.text != other.text for other in found):
            found.append(one)
    return sorted(found, key=lambda guess: (math.floor(20 * guess.score + 1e-6), guess.how == "matched"))
