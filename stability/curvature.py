r"""Hessian-vector products of R, R^eqv and R^aug, linearised once and checked at run time.

    R      on L:  ∇²R(A)v                                         :func:`nominal_hessian`
    R^eqv  on E:  ∇²(R∘embed)(θ)t                                 :func:`equivariant_hessian`
    R^aug  on L:  ∇²R on the data moved by every g                :func:`augmented_hessian_from_data`, any A
                  ∫ ρ̄(g)ᵀ ∇²R(A) ρ̄(g)v dμ                         :func:`augmented_hessian_from_group`, A in E (Prop. 2)

The two routes to R^aug share nothing but the loss; tests and reports compare them. At a fixed point the gradient is
differentiated through one retained reverse graph, applied to as many vectors as asked for, wherever that is right: see
:mod:`stability.products`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from stability.errors import NotFinite, StaleLinearisation
from stability.groups import Group
from stability.once import remembered
from stability.problem import ParameterSpace, Problem, Samples
from stability.products import RECOMPUTED, RETAINED, Loss, Products, Terms, fresh

# Bytes of one activation of a batch of vectors: beyond the caches a product is memory-bound.
WORKING_SET = 2**22
# Numbers of moved input data that are kept rather than made anew.
MOVED_NUMBERS = 50_000_000


@dataclass
class Operator:
    """A symmetric linear map on R^dim, given by its products.

    Attributes:
        dim: the dimension it acts on.
        apply: (k, dim) → (k, dim), row by row.
        name: what messages call it.
        cost: nominal Hessian-vector products that one product takes.
        batch: rows that go through ``apply`` at once.
        gradient: the gradient at the point, where known, (dim).
        products: how many were taken so far.
        scale: size, per unit vector, of what was added up to products, where it cancels to something smaller.
        notes: which slower route its products take, and why; shared with what is made of it.
    """

    dim: int
    apply: Callable[[Tensor], Tensor]
    name: str
    cost: int = 1
    batch: int = 64
    gradient: Tensor | None = None
    notes: list[str] = field(default_factory=list)
    products: int = field(default=0, init=False)
    scale: float = field(default=0.0, init=False)

    def __call__(self, v: Tensor) -> Tensor:
        """Hv for v of shape (dim) or (k, dim)."""
        rows = v.reshape(-1, self.dim)
        self.products += len(rows)
        if len(rows) <= self.batch:
            product = self.apply(rows)
        else:
            product = torch.empty_like(rows)
            for start in range(0, len(rows), self.batch):
                product[start : start + self.batch] = self.apply(rows[start : start + self.batch])
        # One sum sees every NaN and infinity, and costs next to nothing beside a product.
        if not torch.isfinite(product.sum()) and not torch.isfinite(product).all():
            bad = int((~torch.isfinite(product)).sum())
            raise NotFinite(
                f"{self.name}: product {self.products:,} has {bad:,} values that are not finite; the risk overflows at "
                "this point: look for a logarithm, a root or a division there, use float64 or scale the data"
            )
        return product.reshape(v.shape)

    def matrix(self, like: Tensor | None = None) -> Tensor:
        """The matrix, (dim, dim); dtype and device of ``like``, by default those of the gradient or float64."""
        like = like if like is not None else self.gradient
        return assemble(self, torch.zeros((), dtype=torch.float64) if like is None else like)

    def linear_operator(self, like: Tensor | None = None) -> LinearOperator:
        """The same map for scipy: eigsh, svds, minres and the rest take it."""
        like = like if like is not None else self.gradient
        like = torch.zeros((), dtype=torch.float64) if like is None else like

        def product(columns: np.ndarray) -> np.ndarray:
            rows = torch.as_tensor(np.ascontiguousarray(columns.reshape(self.dim, -1).T)).to(like)
            return self(rows).cpu().numpy().T.reshape(columns.shape)

        dtype = torch.empty(0, dtype=like.dtype).numpy().dtype
        return LinearOperator(
            (self.dim, self.dim), matvec=product, matmat=product, rmatvec=product, rmatmat=product, dtype=dtype
        )


def linearise(
    loss: Loss,
    at: Tensor,
    samples: Samples,
    weight_decay: float,
    name: str,
    chunk: int,
    width: int,
    memory: dict | None = None,
) -> Operator:
    """The Hessian of Σ_s w_s ℓ_s + μ/2‖·‖² at a point, as an operator whose products are checked before they are used.

    Args:
        loss: (parameters, samples) ↦ the weighted sum of losses.
        at: the point, (dim).
        samples: the data, cut into pieces of ``chunk`` samples, whose graphs are all kept.
        weight_decay: μ.
        name: for messages.
        chunk: samples per graph.
        width: coordinates of the widest activation, from which the batch follows.
        memory: of a search, see :class:`stability.products.Products`.

    Raises:
        StaleLinearisation: no route to a product is right.
    """
    notes: list[str] = []
    terms = Terms(loss, at.detach(), lambda: samples.chunks(chunk))
    products = Products(terms, name, RETAINED, memory, notes)

    def apply(v: Tensor) -> Tensor:
        return weight_decay * v + products(v)

    batch = max(1, min(256, WORKING_SET // (8 * width * min(chunk, len(samples.x)))))
    gradient = terms.gradient(at.detach()) + weight_decay * at.detach()
    return Operator(len(at), apply, name, batch=batch, gradient=gradient, notes=notes)


def _width(problem: Problem) -> int:
    return max(problem.activations, *(max(layer.shape) for layer in problem.space.layers))


def nominal_hessian(problem: Problem, at: Tensor, chunk: int = 4096) -> Operator:
    """∇²R(A) on L."""
    return linearise(problem.loss, at, problem.samples, problem.weight_decay, "∇²R", chunk, _width(problem))


def equivariant_hessian(problem: Problem, theta: Tensor, chunk: int = 4096, searching: bool = False) -> Operator:
    """∇²R^eqv in coordinates of E, through the equivariant layers; a search believes what was checked at its start."""
    loss, width = problem.equivariant_loss, _width(problem)
    memory = remembered(problem).setdefault(("∇²R^eqv", theta.dtype, len(problem.samples)), {}) if searching else None
    return linearise(loss, theta, problem.samples, problem.weight_decay, "∇²R^eqv", chunk, width, memory)


def augmented_hessian_from_data(problem: Problem, at: Tensor, chunk: int = 512) -> Operator:
    """∇²R^aug(A) on L at any A, from the data moved by every element of G (eq. 5).

    Forward over reverse and recomputed every time, so it shares no derivative with the linearised route. Moved
    data that fits is made once, equal samples merged; else it is made anew for every product, element by element.
    """
    numbers = problem.moves * problem.samples.x.numel()
    merged = [problem.augmented()] if numbers <= MOVED_NUMBERS else None
    notes: list[str] = []

    def parts() -> Iterator[Samples]:
        return (part for data in merged or problem.moved() for part in data.chunks(chunk))

    products = Products(Terms(problem.loss, at.detach(), parts), "∇²R^aug", RECOMPUTED, None, notes)

    def apply(v: Tensor) -> Tensor:
        return problem.weight_decay * v + products(v)

    batch = max(1, min(256, WORKING_SET // (8 * _width(problem) * chunk)))
    return Operator(len(at), apply, "∇²R^aug from moved data", problem.moves, batch, notes=notes)


def augmented_hessian_from_group(problem: Problem, nominal: Operator) -> Operator:
    """∇²R^aug(A) = ∫ ρ̄(g)ᵀ ∇²R(A) ρ̄(g) dμ(g) for A in E (Prop. 2), by |G| nominal products."""
    space, elements = problem.space, list(problem.elements())
    inverses = [problem.group.inverse(g) for g, _ in elements]

    def apply(v: Tensor) -> Tensor:
        total = torch.zeros_like(v)
        for (g, weight), inverse in zip(elements, inverses, strict=True):
            total += weight * space.act(inverse, nominal(space.act(g, v)))
        return total

    name = "∇²R^aug from the group average"
    return Operator(nominal.dim, apply, name, cost=len(elements), batch=nominal.batch, notes=nominal.notes)


def transverse(operator: Operator, space: ParameterSpace) -> Operator:
    """(I − Π_E) H (I − Π_E) on L."""

    def apply(v: Tensor) -> Tensor:
        return space.transverse_part(operator(space.transverse_part(v)))

    return Operator(operator.dim, apply, f"{operator.name} on E⊥", operator.cost, operator.batch, notes=operator.notes)


def compress(operator: Operator, space: ParameterSpace) -> Operator:
    """embedᵀ H embed on coordinates of E."""

    def apply(t: Tensor) -> Tensor:
        return space.project(operator(space.embed(t)))

    name = f"{operator.name} on E"
    return Operator(space.dim_equivariant, apply, name, operator.cost, operator.batch, notes=operator.notes)


def assemble(operator: Operator, like: Tensor, progress: Callable[[int], None] | None = None) -> Tensor:
    """The matrix of an operator, (dim, dim), symmetrised.

    Raises:
        StaleLinearisation: rows and columns differ by more than rounding.
    """
    matrix = torch.empty(operator.dim, operator.dim, dtype=like.dtype, device=like.device)
    for start in range(0, operator.dim, operator.batch):
        stop = min(start + operator.batch, operator.dim)
        unit = torch.zeros(stop - start, operator.dim, dtype=like.dtype, device=like.device)
        unit[torch.arange(stop - start), torch.arange(start, stop)] = 1.0
        matrix[start:stop] = operator(unit)
        if progress:
            progress(stop - start)
    defect = float((matrix - matrix.mT).abs().max())
    scale = max(float(matrix.abs().max()), operator.scale)
    if not defect <= _tolerance(like) * max(scale, torch.finfo(like.dtype).tiny):
        raise StaleLinearisation(
            f"{operator.name}: the assembled matrix is not symmetric, off by {defect:.2e} of {scale:.2e}"
        )
    return (matrix + matrix.mT) / 2


def group_average(matrix: Tensor, space: ParameterSpace, group: Group) -> Tensor:
    """∫ ρ̄(g)ᵀ M ρ̄(g) dμ(g) for a dense M (dim L, dim L), the projection Π_{E⊗2} of Lemma 5.

    The average over G is taken along a chain of transversals: Σ|T_i| conjugations instead of |G|; of a Lie group along
    the factors of a quadrature that is exact for ρ̄ ⊗ ρ̄.
    """
    permuted = all(layer.source.is_permutation and layer.target.is_permutation for layer in space.layers)
    for part in reversed(group.averaging(2 * space.degree)):
        total = torch.zeros_like(matrix)
        for g, weight in part:
            if permuted:
                place = space.act(g, torch.arange(space.dim, device=matrix.device))
                total += weight * matrix.index_select(0, place).index_select(1, place)
            else:
                total += weight * space.act(g, space.act(g, matrix).mT).mT
        matrix = total
    return matrix


def check_product(
    operator: Operator, loss: Loss, at: Tensor, samples: Samples, weight_decay: float, seed: int
) -> float:
    """Compare a linearised product with one computed from scratch, and ⟨u, Hv⟩ with ⟨v, Hu⟩.

    The fresh product is forward over reverse where finite differences confirm that, the linearised one reverse over
    reverse.

    Returns:
        the relative mismatch ‖Hv − scratch‖/‖scratch‖.

    Raises:
        StaleLinearisation: mismatch or asymmetry beyond rounding: an error, never a warning.
    """
    generator = torch.Generator().manual_seed(seed)
    u, v = torch.randn(2, operator.dim, generator=generator, dtype=torch.float64).to(at)
    scratch = fresh(loss, at, samples, v, operator.name) + weight_decay * v
    hu, hv = operator(torch.stack([u, v]))
    scale = float(scratch.norm()) or 1.0
    mismatch = float((hv - scratch).norm()) / scale
    asymmetry = abs(float(u @ hv - v @ hu)) / (scale * float(u.norm()))
    if not max(mismatch, asymmetry) <= _tolerance(at):
        raise StaleLinearisation(
            f"{operator.name}: a product from scratch differs by {mismatch:.2e}, symmetry fails by {asymmetry:.2e} "
            "(relative); the automatic derivative of this loss cannot be trusted, rewrite it without in-place steps"
        )
    return mismatch


def _tolerance(like: Tensor) -> float:
    return 1e-9 if like.dtype == torch.float64 else 1e-3
