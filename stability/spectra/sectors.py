r"""Sectors: the Hessian of R^aug irrep by irrep, and their union as one spectrum of L.

An eigenvalue that occurs p times in the real matrix B_λ occurs p·d_λ/c_λ times in L (c = 1, 2, 4 for real, complex,
quaternionic type), and c_λ divides p. The trivial sector is E; the others together are E⊥.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import jvp

from stability.base.errors import BadInput, StaleLinearisation, Unproved
from stability.base.record import Record
from stability.curvature.products import Terms, fresh, grain
from stability.curvature.sector import lift, lower, sector_hessian, sizes
from stability.eigen.operator import Operator, is_rounding, tolerance_of
from stability.eigen.spectrum import Density, Eigenvalue, Spectrum
from stability.groups import Group, Irrep, Representation, constituents, irreps, listed
from stability.groups.counting import haar, trace
from stability.problem.problem import Problem
from stability.problem.space import ParameterSpace, Samples

CHECK_NUMBERS = 200_000_000
CHUNK = 256
SUBSET_FROM, SUBSET = 20_000_000, 64
QUADRATIC_FROM = 5_000_000
# Numbers that a proof of completeness may cost: partners of a random vector, entries of characters' matrices.
PROBE_NUMBERS, COUNT_NUMBERS = 20_000_000, 20_000_000
# Irreps in a row of larger weights than L has, after which no other kind is expected.
BEYOND = 1000


@dataclass(frozen=True)
class Sector(Record):
    """One irrep's block B_λ of the Hessian of R^aug.

    Attributes:
        irrep: its label.
        dim: d = dim V_λ.
        type: "real", "complex" or "quaternionic".
        multiplicity: copies of V_λ in L.
        size: real dimension of B_λ.
        lowest, highest: distinct eigenvalues, their multiplicity being that in L.
        negative_count: negative eigenvalues in L, with multiplicity; None when not established.
        method: what found the ends.
        hvps: nominal Hessian-vector products that it took.
        seconds: it took.
        complete: whether every eigenvalue of the block is known.
        error: what rounding and residuals may move an eigenvalue by.
        frequency: of a product of cyclic groups.
        mismatch: relative difference of one product from one of another route; None when it was not taken.
        sign: of the lowest eigenvalue, see :func:`sign`.
    """

    irrep: str
    dim: int
    type: str
    multiplicity: int
    size: int
    lowest: tuple[Eigenvalue, ...]
    highest: tuple[Eigenvalue, ...]
    negative_count: int | None
    method: str
    hvps: int
    seconds: float
    complete: bool = False
    error: float = 0.0
    frequency: tuple[int, ...] | None = None
    mismatch: float | None = None
    sign: str = "undecided"

    def __str__(self) -> str:
        ends = f"λ from {self.lowest[0].value:.6g} to {self.highest[0].value:.6g}" if self.lowest else "not searched"
        count = "" if self.negative_count is None else f", {self.negative_count:,} of them negative in L"
        copies = f"{self.multiplicity} cop{'y' if self.multiplicity == 1 else 'ies'}"
        return f"sector {self.irrep} (dim {self.dim}, {self.type}, {copies}): {ends}{count}"

    def rows(self) -> list[dict[str, Any]]:
        """One line: the label, the counts and both ends of the spectrum."""
        ends = {
            "lowest": self.lowest[0].value if self.lowest else None,
            "residual": self.lowest[0].residual if self.lowest else None,
            "highest": self.highest[0].value if self.highest else None,
        }
        return [super().rows()[0] | ends]


def sign(spectrum: Spectrum) -> str:
    """What is known of the sign of λ_min: "negative", "zero", "positive" or "undecided".

    A quotient below zero by more than its error proves "negative". Of a whole spectrum, zero and positive are read off.
    A Krylov run never proves a minimum positive; "positive" then means a residual below a tenth of its lowest value.

    >>> from stability.eigen import Eigenvalue
    >>> run = Spectrum(9, (Eigenvalue(0.5, 0.2),), (), None, None, "Lanczos", 5, 0.0)
    >>> sign(run)
    'undecided'
    """
    if not spectrum.lowest:
        return "undecided"
    lowest = spectrum.lowest[0]
    if lowest.value < -spectrum.error:
        return "negative"
    if spectrum.complete:
        return "positive" if lowest.value > spectrum.error else "zero"
    return "positive" if lowest.residual <= abs(lowest.value) / 10 and lowest.value > 0 else "undecided"


def occurring(space: ParameterSpace) -> Iterator[tuple[Irrep, int]]:
    """Every irrep of the group that occurs in L, with dim_R M_λ; stops when their dimensions add up to dim L.

    That they add up proves nothing by itself: where one sector is counted too high, another is never reached. So every
    size is held against the characters, and together the sectors must hold all of a random vector; see :class:`_Proof`.
    Irreps of a group without a list of them are split off from the spaces Hom(X, Y) of the summands.

    Raises:
        BadInput: no list of irreps, and summands that are too large to be split.
        Unproved: they do not add up, or what adds up is not L.
    """
    total, most, passed, proof = 0, space.degree, 0, _Proof(space)
    known = listed(space.group)
    for irrep in irreps(space.group) if known else constituents(_summands(space)):
        if known and irrep.representation.degree > most:
            passed += 1
            if passed > BEYOND:  # an endless list has left the weights of L behind
                break
            continue
        passed = 0
        count = proof.count(irrep)
        # A basis of none is not made: were the count too low, the dimensions would not add up.
        size = 0 if count is not None and abs(count) < 1e-6 else sum(sizes(space, irrep))
        if size % irrep.commutant_dim:
            raise Unproved(
                f"{space.group.name}, sector {irrep.name}: size {size} is no multiple of {irrep.commutant_dim}"
            )
        proof.add(irrep, size, count)
        total += irrep.dim * size // irrep.commutant_dim
        if size:
            yield irrep, size
        if total == space.dim:
            proof.close()
            return
    raise Unproved(f"the sectors of {space.group.name} have {total:,} dimensions in all, L has {space.dim:,}")


class _Proof:
    """That the sectors listed are all of L, by two counts that do not know how the bases were made.

    * dim_R M_λ = ∫ χ_λ χ_L dμ over elements, classes or a quadrature where there are at most 2000 of them;
    * Σ_λ ‖P_λ v‖² = ‖v‖² for one Gaussian v, ‖P_λ v‖² = (1/c) Σ_b Σ_j ⟨S_b e_j, v⟩²: Σ P_λ ≠ 1 shows with probability
      one. It is left out where d² dim L exceeds 2·10⁷ for some sector.
    """

    def __init__(self, space: ParameterSpace) -> None:
        self.space, self.counted = space, 0
        self.nodes = haar(space.group, 2 * space.degree)
        if self.nodes is not None:
            pairs = [(layer.source, layer.target) for layer in space.layers]
            self.whole = np.array([sum(trace(a, g) * trace(b, g) for a, b in pairs) for g, _ in self.nodes])
        generator = torch.Generator().manual_seed(0)
        self.held: float | None = 0.0 if space.dim <= PROBE_NUMBERS else None
        self.v = torch.randn(space.dim if self.held is not None else 0, generator=generator, dtype=torch.float64)

    def count(self, irrep: Irrep) -> float | None:
        """dim_R M_λ from characters; None where they cost too much."""
        if self.nodes is None:
            return None
        numbers = len(self.nodes) * irrep.dim**2
        if self.counted + numbers > COUNT_NUMBERS:
            return None
        self.counted += numbers
        return float(np.array([w * trace(irrep.representation, g) for g, w in self.nodes]) @ self.whole)

    def add(self, irrep: Irrep, size: int, count: float | None) -> None:
        """Raises Unproved where the characters give another size."""
        if count is not None and abs(count - size) > 1e-6 * max(1, size):
            raise Unproved(
                f"{self.space.group.name}, sector {irrep.name}: a basis of {size:,} maps was found, the characters "
                f"count {count:.6g}"
            )
        if not size or self.held is None:
            return
        if irrep.dim**2 * self.space.dim > PROBE_NUMBERS:
            self.held = None
            return
        for layer, v in zip(self.space.layers, self.space.split(self.v), strict=True):
            for j in range(irrep.dim if layer.size(irrep) else 0):
                partner = v.new_zeros(irrep.dim, *layer.shape)
                partner[j] = v
                self.held += float(layer.adjoint_embed(partner, irrep).square().sum()) / irrep.commutant_dim

    def close(self) -> None:
        """Raises Unproved where the sectors hold more or less than the random vector."""
        if self.held is None:
            return
        missed = self.held / float(self.v @ self.v) - 1
        if not abs(missed) < 1e-9:
            raise Unproved(
                f"the sectors of {self.space.group.name} add up to the {self.space.dim:,} dimensions of L, but hold "
                f"{1 + missed:.9f} of a random vector: some overlap, and some of L is in none of them"
            )


def _summands(space: ParameterSpace) -> list[Representation]:
    """Hom(X, Y) of every pair of summands, once."""
    pairs = [(b, a) for layer in space.layers for _, b in layer.source.blocks for _, a in layer.target.blocks]
    return [a * b for b, a in dict.fromkeys(pairs)]


def chosen(group: Group, names: str) -> set[str] | None:
    """The irreps asked for by "all" (None) or by names, separated by commas outside parentheses or by semicolons.

    Raises:
        BadInput: a name that the group's irreps do not have.

    >>> from stability.groups import Symmetric
    >>> sorted(chosen(Symmetric(4), "(3,1),(2,2)"))
    ['(2,2)', '(3,1)']
    """
    if names == "all":
        return None
    wanted, depth, word = set(), 0, ""
    for letter in names + ";":
        depth += (letter == "(") - (letter == ")")
        if letter == ";" or (letter == "," and depth == 0):
            wanted.add(word.strip())
            word = ""
        else:
            word += letter
    wanted.discard("")
    known = [irrep.name for irrep in itertools.islice(irreps(group), 1000 if group.order is not None else 100)]
    for name in sorted(wanted):
        if name not in known:
            some = ", ".join(known[:12]) + (" …" if len(known) > 12 else "")
            raise BadInput(f"--sectors {name!r} is no irrep of {group.name}; choose all, none or among {some}")
    return wanted


def by_name(group: Group, name: str) -> Irrep:
    """The irrep with this label.

    Raises:
        BadInput: there is none.
    """
    for irrep in irreps(group):
        if irrep.name == name:
            return irrep
    raise BadInput(f"{name!r} is no irrep of {group.name}")


def curvature_scale(problem: Problem, theta: Tensor, seed: int) -> float:
    """‖∇²R v‖/‖v‖ for a random v in L: what the rounding of a block that is nearly zero is measured against."""
    at = problem.space.embed(theta)
    v = torch.randn(len(at), generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(at)
    moved = fresh(problem.loss, at, problem.samples, v)
    return float(moved.norm() / v.norm())


def check_sector(problem: Problem, theta: Tensor, irrep: Irrep, operator: Operator, seed: int) -> float | None:
    """The relative mismatch of :func:`compare`, None where none is taken."""
    found = compare(problem, theta, irrep, operator, seed)
    return None if found is None else found[0]


def compare(problem: Problem, theta: Tensor, irrep: Irrep, operator: Operator, seed: int) -> tuple[float, float] | None:
    """One product with a Gaussian s against products of R on the dense partners, from scratch.

    Returns:
        the mismatch relative to ‖H S e_j‖, or to the operator's ``scale``, of which B_λ s may be a far smaller
        remainder; and ‖Δs‖ itself.

    Partners of more than 2·10⁷ numbers are tried on the first 64 samples only, weights of more than 5·10⁶ by the
    quadratic form (1/d) Σ_j ∂²R[S e_j, S e_j] alone, which needs no dense gradient; None beyond 2·10⁸ numbers.

    Raises:
        StaleLinearisation: mismatch beyond rounding.
    """
    space = problem.space
    if irrep.dim * space.dim > CHECK_NUMBERS:
        return None
    if irrep.dim * space.dim > SUBSET_FROM and problem.layered is not None:
        problem = replace(problem, samples=next(problem.samples.chunks(SUBSET)))
        operator = sector_hessian(problem, theta, irrep)
    generator = torch.Generator().manual_seed(seed)
    s = torch.randn(operator.dim, generator=generator, dtype=torch.float64).to(theta)
    at, partners = space.embed(theta), lift(space, irrep, s)
    if space.dim > QUADRATIC_FROM:
        form = sum(float(_second_derivative(problem, at, v)) for v in partners) / irrep.dim
        form += problem.weight_decay * float(s @ s)
        product = operator(s)
        off = abs(float(s @ product) - form)
        # Relative to ‖s‖‖Bs‖: the form itself may happen to be near zero.
        return _refused_if(off / float(s.norm() * product.norm()), operator.name, s), off / 2**0.5
    # Backwards through the samples, so that sums round differently.
    samples = Samples(*(part.flip(0) for part in problem.samples))
    moved = fresh(problem.loss, at, samples, partners)
    lowered = lower(space, irrep, moved) + problem.weight_decay * s
    off = float((operator(s) - lowered).norm())
    scale = max(float(moved.norm()) / irrep.dim**0.5, operator.scale * float(s.norm()))
    mismatch = off / max(float(lowered.norm()), scale, 1e-300)
    # Of a saturated risk a product is what cancels between slopes that are one but for rounding.
    terms = Terms(problem.loss, at, lambda: problem.samples.chunks(CHUNK))
    if mismatch > tolerance_of(s) and is_rounding(off, s[None], [operator], lambda: grain(terms)):
        return mismatch, off
    return _refused_if(mismatch, operator.name, s), off


def _second_derivative(problem: Problem, at: Tensor, v: Tensor) -> Tensor:
    """∂²/∂t² of the loss at A + tv, t = 0."""

    def slope(a: Tensor) -> Tensor:
        return jvp(lambda b: problem.loss(b, problem.samples), (a,), (v,))[1]

    return jvp(slope, (at,), (v,))[1]


def _refused_if(mismatch: float, name: str, s: Tensor) -> float:
    if not mismatch <= tolerance_of(s):
        raise StaleLinearisation(
            f"{name}: products on the dense partners differ by {mismatch:.2e} (relative); "
            "the automatic derivative of this loss cannot be trusted, rewrite it without in-place steps"
        )
    return mismatch


def in_whole_space(spectrum: Spectrum, irrep: Irrep) -> Spectrum:
    """The same spectrum counted in L: labelled, multiplicities p ↦ p·d/c."""
    c = irrep.commutant_dim

    def scaled(count: int | None) -> int | None:
        return None if count is None else count * irrep.dim // c

    def entry(e: Eigenvalue) -> Eigenvalue:
        return replace(e, multiplicity=scaled(e.multiplicity), irrep=irrep.name)

    return replace(
        spectrum,
        dim=spectrum.dim * irrep.dim // c,
        lowest=tuple(map(entry, spectrum.lowest)),
        highest=tuple(map(entry, spectrum.highest)),
        negative_count=scaled(spectrum.negative_count),
        zero_count=scaled(spectrum.zero_count),
    )


def describe(irrep: Irrep, size: int, whole: Spectrum, hvps: int, mismatch: float | None) -> Sector:
    """What reports say of a sector whose spectrum, counted in L, is ``whole``."""
    return Sector(
        irrep=irrep.name,
        dim=irrep.dim,
        type=irrep.kind,
        multiplicity=size // irrep.commutant_dim,
        size=size,
        lowest=whole.lowest,
        highest=whole.highest,
        negative_count=whole.negative_count,
        method=whole.method,
        hvps=hvps,
        seconds=whole.seconds,
        complete=whole.complete,
        error=whole.error,
        frequency=irrep.frequency,
        mismatch=mismatch,
        sign=sign(whole),
    )


def _merged(ends: list[tuple[Eigenvalue, ...]], dims: list[int], k: int, sign: float) -> tuple[Eigenvalue, ...]:
    """The first k of several lists of ends, as far as they are known to be the first.

    A list that stops before its sector does says nothing beyond its last entry, so nothing beyond it is merged.
    """
    known = [e for e, dim in zip(ends, dims, strict=True) if e and sum(x.multiplicity or 0 for x in e) < dim]
    horizon = min((sign * e[-1].value for e in known), default=float("inf"))
    found = sorted((e for part in ends for e in part), key=lambda e: sign * e.value)
    return tuple(e for i, e in enumerate(found[:k]) if i == 0 or sign * e.value <= horizon)


def _sum(counts: Iterable[int | None]) -> int | None:
    """What the sectors have together, None where one does not know."""
    every = list(counts)
    known = [n for n in every if n is not None]
    return sum(known) if len(known) == len(every) else None


def union(parts: Sequence[Spectrum], dim: int, k: int) -> Spectrum:
    """The spectrum of an orthogonal sum of sectors, each counted in L.

    Args:
        parts: spectra of the sectors resolved.
        dim: of the whole space; where the parts do not fill it, nothing is claimed of the rest.
        k: entries at each end.
    """
    filled = sum(p.dim for p in parts) == dim
    complete = filled and all(p.complete for p in parts)
    negative = _sum(p.negative_count for p in parts) if filled else None
    bounds = [p.lower_bound for p in parts if p.lower_bound is not None]
    bounded = filled and 0 < len(bounds) == len(parts)
    density, densities = None, [(p.dim, p.density) for p in parts if p.density is not None]
    if filled and 0 < len(densities) == len(parts):
        pairs = sorted((v, w * n / dim) for n, d in densities for v, w in zip(d.values, d.weights, strict=True))
        methods = {d.method for _, d in densities}
        measured = methods.pop() if len(methods) == 1 else "exact and Lanczos quadrature"
        density = Density(measured, tuple(v for v, _ in pairs), tuple(w for _, w in pairs))
    kinds = sorted({p.method for p in parts})
    nothing = "no sector of it was asked for" if dim else "zero space"
    method = f"{len(parts)} sectors, {' and '.join(kinds)}" if parts else nothing
    rest = "" if filled else f"; {dim - sum(p.dim for p in parts):,} dimensions not searched"
    return Spectrum(
        dim=dim,
        lowest=_merged([p.lowest for p in parts], [p.dim for p in parts], k, 1.0),
        highest=_merged([p.highest for p in parts], [p.dim for p in parts], k, -1.0),
        negative_count=negative,
        zero_count=None if negative is None else _sum(p.zero_count for p in parts),
        density=density,
        method=f"{method}{rest}",
        matvecs=sum(p.matvecs for p in parts),
        seconds=sum(p.seconds for p in parts),
        error=max((p.error for p in parts), default=0.0),
        complete=complete,
        lower_bound=min(bounds) if bounded else None,
        failure_probability=sum(p.failure_probability or 0.0 for p in parts) if bounded else None,
        least_positive=min((p.least_positive for p in parts if p.least_positive is not None), default=None)
        if complete
        else None,
        confirmed=None if any(p.confirmed is None for p in parts) else all(p.confirmed for p in parts),
        width=max((p.width for p in parts), default=0.0),
    )
