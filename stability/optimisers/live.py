r"""Both ends of ∇²R^aug on a sector, a product at a time, each run warm from the one before.

    P^{1/2}(B_λ + μ)P^{1/2},      P = diag(1/(√v̂ + ε)) of an adaptive rule, averaged over orbits; 1 of the others

Training moves the weights little between two looks, so a Krylov run that starts from the Ritz vectors found last needs
a dozen products where a random start needs a hundred. A quotient is an upper bound of λ_min whatever the start: what it
says of instability holds, and its residual says how near an eigenvalue is.

Every function here is a generator that hands control back after each piece of work, so that training goes on between
them; what it found is what it returns.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from stability.base.record import known
from stability.curvature.at import At
from stability.eigen.lanczos import LanczosState, Product, lanczos, lanczos_spectrum, ritz
from stability.groups import Irrep
from stability.optimisers.blocks import parts
from stability.optimisers.multipliers import stable_range
from stability.optimisers.noise import sums
from stability.optimisers.updates import Update
from stability.spectra import sectors

T = TypeVar("T")
Pieces = Generator[None, None, T]
# Of a random vector in a warm start: what the last run has missed can still be found.
FRESH = 0.1
# Products of the noise's quadrature, and its size relative to ‖A‖ below which it is rounding.
QUADRATURE, TINY = 4, 1e-14


@dataclass(frozen=True, eq=False)
class Ends:
    """Lowest and highest Ritz value of one sector.

    Attributes:
        irrep: its label.
        lowest, highest: quotients of P^{1/2}(B_λ + μ)P^{1/2}.
        below, above: their errors, residuals and rounding.
        complete: whether the whole sector was searched, so that nothing lies beyond.
        stirred: E‖A_λ‖² that the noise handed in leads to; None where there was none.
        warm: where the next run starts, (size).
    """

    irrep: str
    lowest: float
    highest: float
    below: float
    above: float
    complete: bool
    stirred: float | None
    warm: Tensor


@dataclass(frozen=True, eq=False)
class Seen:
    """What the optimiser does at a point, for both ends of a sector and for the noise in it.

    Attributes:
        update: the rule, whose coupled decay is μ.
        root: √P on L, commuting with G; None for P = 1.
        noise: a sample of the gradient's scatter on E⊥, as long as its root mean square, (dim L); None without one.
        steps: for how long the noise is added up.
        products: most steps of a Krylov run.
        seed: of the random part of its start.
    """

    update: Update
    root: Tensor | None
    noise: Tensor | None
    steps: int
    products: int
    seed: int


def ends(at: At, irrep: Irrep, size: int, seen: Seen, warm: Tensor | None) -> Pieces[Ends]:
    """Of one sector, by so many products and one more for each end, and four for the noise.

    Args:
        at: the point of E.
        irrep: of the sector.
        size: its dimension.
        seen: what the optimiser does there.
        warm: where the last run ended.
    """
    block, space, update, root = at.block(irrep), at.problem.space, seen.update, seen.root
    yield

    def through(s: Tensor) -> Tensor:
        return s if root is None else sectors.lower(space, irrep, root * sectors.lift(space, irrep, s))

    def product(s: Tensor) -> Tensor:
        inner = through(s)
        return through(block(inner) + update.coupled * inner)

    generator = torch.Generator().manual_seed(seen.seed)
    start = torch.randn(size, generator=generator, dtype=torch.float64).to(at.theta)
    start = start / start.norm()
    if warm is not None:
        start = warm / warm.norm() + FRESH * start
    steps, state = min(seen.products, size), None
    while state is None or (state.steps < steps and state.betas[-1] > 0):
        state = _further(product, start, steps, state)
        yield
    found = lanczos_spectrum(product, size, state, 1, 0.0, 1)
    low, high = found.spectrum.lowest[0], found.spectrum.highest[0]
    rounding = found.spectrum.error
    whole = state.steps == size
    stirred = None
    if seen.noise is not None and update.rule != "muon":
        stirred = yield from _stirred(at, irrep, product, through, seen)
    after = found.vectors[0] + found.vectors[-1] if len(found.vectors) > 1 else found.vectors[0]
    return Ends(
        irrep=irrep.name,
        lowest=low.value,
        highest=high.value,
        below=max(low.residual, rounding),
        above=max(high.residual, rounding),
        complete=whole,
        stirred=stirred,
        warm=after,
    )


def _stirred(at: At, irrep: Irrep, product: Product, through: Product, seen: Seen) -> Pieces[float]:
    """E‖A_λ‖² that the noise leads to, by Gauss quadrature from its sample; P is taken at its mean over the noise.

    What grows by itself is left out: it is the spectrum that says so.
    """
    inward = parts(at.problem.space, irrep, known("noise", seen.noise))
    generator = torch.Generator().manual_seed(seen.seed + 1)
    signs = 2.0 * torch.randint(0, 2, (len(inward),), generator=generator).to(inward) - 1
    sample = signs @ inward / len(inward) ** 0.5
    start = through(sample)
    if not float(start.norm()) > TINY * float(at.theta.norm()):
        return 0.0
    state = None
    while state is None or (state.steps < min(QUADRATURE, len(start)) and state.betas[-1] > 0):
        state = _further(product, start, min(QUADRATURE, len(start)), state)
        yield
    values, vectors, _ = ritz(state)
    low, high = stable_range(seen.update)
    nodes = torch.as_tensor(values.copy()).clamp(low, high)
    gained = sums(seen.update, nodes, nodes, seen.steps).total[..., 0]
    outward = float((through(start).norm() / start.norm()) ** 2)
    total = float(torch.as_tensor(vectors[0] ** 2) @ gained) * float(start @ start) * outward
    return irrep.dim / irrep.commutant_dim * total


def _further(product: Product, start: Tensor, steps: int, state: LanczosState | None) -> LanczosState:
    """One more product of a run that will have so many."""
    done = 0 if state is None else state.steps
    return lanczos(product, start, steps, state=state, on_step=lambda s: s.steps > done)
