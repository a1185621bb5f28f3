r"""All real irreps of an enumerated finite group, from its regular representation, with a proof that none is missing.

The left regular representation commutes with C_ab = c(b⁻¹a) for every function c on G. Generically an eigenspace of
C + Cᵀ is one copy of one irrep; for an unlucky c, or two eigenvalues that nearly meet, it is more. A sum of irreps has
the norm and the Frobenius–Schur indicator

    ⟨χ, χ⟩ = (1/|G|) Σ χ(g)²,   ν = (1/|G|) Σ χ(g²):   (1, 1) real,  (2, 0) complex,  (4, −2) quaternionic

and no reducible one has such a pair (two real ones: (2, 2)), so what is reducible is split again. The list is then
proved: matrices that multiply as the group does, the pairs above, ⟨χ_i, χ_j⟩ = 0, Σ d²/c = |G|, as many irreps as
there are classes of G under conjugation and inversion, and the trivial one once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from stability.base.errors import BadInput, Unproved
from stability.groups.group import Element, Group

KINDS = {(1, 1): "real", (2, 0): "complex", (4, -2): "quaternionic"}
COMMUTANT = {"real": 1, "complex": 2, "quaternionic": 4}
# Eigenspaces are cut apart at gaps of this share of the spread, which leaves them right to 1e-12.
GAP = 1e-4
# Random elements of the commutant, one after the other, that what is reducible is split by.
DEPTH = 12


@dataclass(frozen=True, eq=False)
class Table:
    """The multiplication table of a finite group.

    Attributes:
        members: its elements, n in number.
        moves: (generators, n), the number of g_k h.
        product: (n, n), the number of ab.
        steps: (generator, elements, parents) with element = generator · parent, the parents first.
        identity: the number of 1.
    """

    members: tuple[Element, ...]
    moves: np.ndarray
    product: np.ndarray
    steps: tuple[tuple[int, np.ndarray, np.ndarray], ...]
    identity: int

    @cached_property
    def place(self) -> dict[Element, int]:
        """The number of every element."""
        return {g: i for i, g in enumerate(self.members)}

    @cached_property
    def inverse(self) -> np.ndarray:
        """(n), the number of a⁻¹."""
        return np.nonzero(self.product == self.identity)[1]

    @cached_property
    def square(self) -> np.ndarray:
        """(n), the number of a²."""
        return np.diagonal(self.product)

    @cached_property
    def classes(self) -> np.ndarray:
        """The conjugacy class of every element, numbered from 0."""
        n = len(self.members)
        moved = [self.product[move, self.inverse[move[self.identity]]] for move in self.moves]
        return _components(n, moved)

    @cached_property
    def merged_classes(self) -> int:
        """Classes under conjugation and inversion: as many as there are real irreps."""
        number = self.classes
        return int(_components(int(number.max()) + 1, [number[self.inverse]], number).max()) + 1

    def class_mean(self, values: np.ndarray) -> np.ndarray:
        """A function on G averaged over each conjugacy class, (n)."""
        return (np.bincount(self.classes, values) / np.bincount(self.classes))[self.classes]


def _components(n: int, targets: list[np.ndarray], source: np.ndarray | None = None) -> np.ndarray:
    source = np.arange(n) if source is None else source
    if not targets:
        return np.arange(n)
    rows, columns = np.tile(source, len(targets)), np.concatenate(targets)
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(n, n))
    return connected_components(graph, directed=False)[1]


def table(group: Group) -> Table:
    """The multiplication table, from |G| products with each generator.

    Raises:
        BadInput: elements that repeat, generators that reach a part of them only, or products that are no group's.
    """
    members = tuple(group.elements())
    place = {g: i for i, g in enumerate(members)}
    n = len(members)
    if len(place) != n or n != group.order or group.identity not in place:
        raise BadInput(f"{group.name}: {n} elements are listed, {len(place)} of them distinct, of {group.order}")
    try:
        moves = np.array([[place[group.multiply(g, h)] for h in members] for g in group.generators], dtype=int)
    except KeyError as error:
        raise BadInput(f"{group.name}: the product {error} is not among its {n} elements") from None
    moves = moves.reshape(len(group.generators), n)
    identity = place[group.identity]
    product = np.full((n, n), -1)
    product[identity] = np.arange(n)
    seen, steps, frontier = np.arange(n) == identity, [], np.array([identity])
    while len(frontier):
        fresh = []
        for k, move in enumerate(moves):
            parents = frontier[~seen[move[frontier]]]
            if len(parents):
                reached = move[parents]
                seen[reached] = True
                product[reached] = move[product[parents]]
                steps.append((k, reached, parents))
                fresh.append(reached)
        frontier = np.concatenate(fresh) if fresh else np.array([], dtype=int)
    if not seen.all():
        raise BadInput(f"{group.name}: the generators reach {seen.sum()} of {n} elements; give generators of all of G")
    wrong = any((product[move] != move[product]).any() for move in moves) or (np.sort(product, 1) != np.arange(n)).any()
    if wrong or (product[:, identity] != np.arange(n)).any():
        raise BadInput(f"{group.name}: its products are no group's: (ab)c = a(bc) or division fails for some elements")
    return Table(members, moves, product, tuple(steps), identity)


@dataclass(frozen=True, eq=False)
class Tabulated:
    """g ↦ ρ(g) by look-up in ``matrices`` (n, d, d).

    Attributes:
        place: the number of every element.
        matrices: ρ of the elements in that order, (n, d, d).
    """

    place: dict[Element, int]
    matrices: np.ndarray

    def __call__(self, g: Element) -> np.ndarray:
        return self.matrices[self.place[g]]


@dataclass(frozen=True, eq=False)
class Found:
    """One irrep: its character (n), its type and its matrices.

    Attributes:
        character: χ on the elements, (n).
        kind: "real", "complex" or "quaternionic".
        form: g ↦ ρ(g).
    """

    character: np.ndarray
    kind: str
    form: Tabulated

    @property
    def dim(self) -> int:
        """d, the dimension of the irrep."""
        return self.form.matrices.shape[-1]


def _kind(known: Table, character: np.ndarray) -> str | None:
    """The type of an irrep; None of what is reducible."""
    norm, indicator = float(np.mean(character**2)), float(np.mean(character[known.square]))
    whole = (round(norm), round(indicator))
    if max(abs(norm - whole[0]), abs(indicator - whole[1])) > 1e-6:
        return None
    return KINDS.get(whole)


class _Splitter:
    """Irreducible subspaces of the regular representation, with orthonormal bases (n, d)."""

    def __init__(self, known: Table, seed: int) -> None:
        self.known, self.rng = known, np.random.default_rng(seed)
        self.elements: list[np.ndarray] = []

    def element(self, depth: int) -> np.ndarray:
        """The random symmetric element C + Cᵀ of the commutant used at a depth: every c(g) Gaussian."""
        while len(self.elements) <= depth:
            n = len(self.known.members)
            c = np.empty(n)
            # Coefficients for *all* of G: a few elements may lie in a subgroup, and merge what it does not tell apart.
            c[self.rng.choice(n, size=n, replace=False)] = self.rng.standard_normal(n)
            matrix = c[self.known.product[self.known.inverse]].T
            self.elements.append(matrix + matrix.T)
        return self.elements[depth]

    def character(self, space: np.ndarray) -> np.ndarray:
        """χ of an invariant subspace: with p = XXᵀe_1, tr(L_g XXᵀ) = |G| times the mean of p over the class of g."""
        return len(space) * self.known.class_mean(space @ space[self.known.identity])

    def pieces(self, space: np.ndarray | None = None, depth: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray, str]]:
        """(basis, character, type) of irreducible subspaces.

        Raises:
            Unproved: twelve elements of the commutant leave a reducible one whole.
        """
        element = self.element(depth)
        values, vectors = np.linalg.eigh(element if space is None else space.T @ element @ space)
        cuts = np.flatnonzero(np.diff(values) > GAP * (values[-1] - values[0])) + 1
        for part in np.split(vectors, cuts, axis=1):
            basis = part if space is None else np.linalg.qr(space @ part)[0]
            chi = self.character(basis)
            kind = _kind(self.known, chi)
            if kind:
                yield basis, chi, kind
            elif depth + 1 < DEPTH:
                yield from self.pieces(basis, depth + 1)
            else:
                raise Unproved(f"a subspace of {basis.shape[1]} dimensions stays reducible")


def _matrices(known: Table, basis: np.ndarray, chi: np.ndarray) -> np.ndarray:
    """ρ(g) = XᵀL_gX for all g, (n, d, d), through products of the generators.

    Raises:
        Unproved: they do not multiply as the group does, or have another character.
    """
    images = []
    for move in known.moves:  # the generator g sends e_h to e_gh
        moved = np.empty_like(basis)
        moved[move] = basis
        u, _, vt = np.linalg.svd(basis.T @ moved)
        images.append(u @ vt)
    n, d = basis.shape
    found = np.empty((n, d, d))
    found[known.identity] = np.eye(d)
    for k, reached, parents in known.steps:
        found[reached] = images[k] @ found[parents]
    broken = max(
        (float(np.abs(m @ found - found[s]).max()) for m, s in zip(images, known.moves, strict=True)), default=0.0
    )
    off = float(np.abs(np.trace(found, axis1=1, axis2=2) - chi).max())
    if not (broken < 1e-9 and off < 1e-7):
        raise Unproved(f"matrices of dimension {d} break a relation by {broken:.1e}, miss their character by {off:.1e}")
    return found


def real_irreps(group: Group, seed: int = 0) -> list[Found]:
    """Every real irrep once, by dimension, type and character; the trivial one is among them.

    Raises:
        BadInput: what is given is no group.
        Unproved: the proof fails for every seed tried.
    """
    known, why = table(group), ""
    for attempt in range(5):
        try:
            found = _collected(known, seed + attempt)
            prove(known, found)
        except Unproved as error:
            why = str(error)
            continue
        return sorted(found, key=lambda one: (one.dim, one.kind, tuple(-np.round(one.character, 6))))
    raise Unproved(f"irreps of {group.name}: no complete list could be proved for five seeds ({why})")


def _collected(known: Table, seed: int) -> list[Found]:
    n, filled = len(known.members), 0
    found: list[Found] = []
    characters = np.empty((known.merged_classes, n))
    for basis, chi, kind in _Splitter(known, seed).pieces():
        if (characters[: len(found)] @ chi / n > 0.5).any():
            continue
        if len(found) == known.merged_classes:
            raise Unproved("more irreps than classes")
        characters[len(found)] = chi
        found.append(Found(chi, kind, Tabulated(known.place, _matrices(known, basis, chi))))
        filled += basis.shape[1] ** 2 // COMMUTANT[kind]
        if filled >= n:
            break
    return found


def prove(known: Table, found: list[Found]) -> None:
    """Raises Unproved unless these are all real irreps of the group, each once (see the module)."""
    n = len(known.members)
    characters = np.array([one.character for one in found])
    norms = np.array([COMMUTANT[one.kind] for one in found], dtype=float)
    indicators = {"real": 1.0, "complex": 0.0, "quaternionic": -2.0}
    off = float(np.abs(characters @ characters.T / n - np.diag(norms)).max())
    signs = characters[:, known.square].mean(1)
    turned = float(np.abs(signs - np.array([indicators[one.kind] for one in found])).max())
    if max(off, turned) > 1e-8:
        raise Unproved(f"characters are orthogonal up to {off:.1e}, Frobenius–Schur indicators right to {turned:.1e}")
    filled = sum(one.dim**2 // COMMUTANT[one.kind] for one in found)
    if filled != n or len(found) != known.merged_classes:
        raise Unproved(
            f"{len(found)} irreps with Σ d²/c = {filled}, where {known.merged_classes} with {n} are all there are"
        )
    ones = sum(float(np.abs(chi - 1).max()) < 1e-8 for chi in characters)
    if ones != 1:
        raise Unproved(f"the trivial irrep was found {ones} times")
