"""Hessian-vector products of R, R^eqv and R^aug, linearised once and checked at run time.

    R      on L:  ∇²R(A)v                                         :func:`nominal_hessian`
    R^eqv  on E:  ∇²(R∘embed)(θ)t                                 :func:`equivariant_hessian`
    R^aug  on L:  ∇²R on the data moved by every g                :func:`augmented_hessian_from_data`, any A
                  ∫ ρ̄(g)ᵀ ∇²R(A) ρ̄(g)v dμ                         :func:`augmented_hessian_from_group`, A in E (Prop. 2)

The two routes to R^aug share nothing but the loss; tests and reports compare them. At a fixed point the gradient is
differentiated through one retained reverse graph, applied to as many vectors as asked for, wherever that is right: see
:mod:`stability.curvature.products`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from stability.base.errors import StaleLinearisation
from stability.base.once import remembered
from stability.curvature.products import RECOMPUTED, RETAINED, Loss, Products, Terms, fresh, grain
from stability.eigen.operator import Operator, is_rounding, tolerance_of
from stability.groups import Group
from stability.problem.problem import Problem
from stability.problem.space import ParameterSpace, Samples

# Bytes of one activation of a batch of vectors: beyond the caches a product is memory-bound.
WORKING_SET = 2**22
# Numbers of moved input data that are kept rather than made anew.
MOVED_NUMBERS = 50_000_000


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
        memory: of a search, see :class:`stability.curvature.products.Products`.

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
    return Operator(len(at), apply, name, batch=batch, gradient=gradient, notes=notes, grain=lambda: grain(terms))


def _width(problem: Problem) -> int:
    return max(problem.activations, *(max(layer.shape) for layer in problem.space.layers))


def nominal_hessian(problem: Problem, at: Tensor, chunk: int = 4096, searching: bool = False) -> Operator:
    """∇²R(A) on L; a search believes what was checked at its start."""
    memory, width = _memory(problem, "∇²R", at) if searching else None, _width(problem)
    return linearise(problem.loss, at, problem.samples, problem.weight_decay, "∇²R", chunk, width, memory)


def equivariant_hessian(problem: Problem, theta: Tensor, chunk: int = 4096, searching: bool = False) -> Operator:
    """∇²R^eqv in coordinates of E, through the equivariant layers; a search believes what was checked at its start."""
    loss, width = problem.equivariant_loss, _width(problem)
    memory = _memory(problem, "∇²R^eqv", theta) if searching else None
    return linearise(loss, theta, problem.samples, problem.weight_decay, "∇²R^eqv", chunk, width, memory)


def _memory(problem: Problem, name: str, at: Tensor) -> dict:
    """What was found of the products of a Hessian anywhere, in one precision and on so many samples."""
    return remembered(problem).setdefault((name, at.dtype, len(problem.samples)), {})


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
    name = "∇²R^aug from moved data"
    return Operator(len(at), apply, name, problem.moves, batch, notes=notes, grain=lambda: grain(products.terms))


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
    cost = len(elements)
    return Operator(nominal.dim, apply, name, cost, nominal.batch, notes=nominal.notes, grain=nominal.grain)


def transverse(operator: Operator, space: ParameterSpace) -> Operator:
    """(I − Π_E) H (I − Π_E) on L."""

    def apply(v: Tensor) -> Tensor:
        return space.transverse_part(operator(space.transverse_part(v)))

    return Operator(
        operator.dim,
        apply,
        f"{operator.name} on E⊥",
        operator.cost,
        operator.batch,
        notes=operator.notes,
        grain=operator.grain,
    )


def compress(operator: Operator, space: ParameterSpace) -> Operator:
    """embedᵀ H embed on coordinates of E."""

    def apply(t: Tensor) -> Tensor:
        return space.project(operator(space.embed(t)))

    name = f"{operator.name} on E"
    return Operator(
        space.dim_equivariant, apply, name, operator.cost, operator.batch, notes=operator.notes, grain=operator.grain
    )


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
    right = max(mismatch, asymmetry) <= tolerance_of(at)
    if not right:

        def scratched(w: Tensor) -> Tensor:
            return fresh(loss, at, samples, w) + weight_decay * w

        right = is_rounding(max(mismatch, asymmetry) * scale, v[None], [operator, scratched], operator.grain)
    if not right:
        raise StaleLinearisation(
            f"{operator.name}: a product from scratch differs by {mismatch:.2e}, symmetry fails by {asymmetry:.2e} "
            "(relative); the automatic derivative of this loss cannot be trusted, rewrite it without in-place steps"
        )
    return mismatch
