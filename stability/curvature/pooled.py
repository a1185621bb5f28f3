r"""The Hessian on E of a network with one hidden equivariant layer, through its pooled features.

On E, V is a matrix behind a pooling: u = V f, f[c,t] = Σ_k i_t[k] σ(Wx)[c,k] with i_t the invariant unit vectors. So
everything behind the hidden layer sees the few features f, and a direction W' of W moves them by

    ḟ[c,t] = Σ_u m[c,t,u] W'[c,u],      m[c,t,u] = Σ_k i_t[k] σ'[c,k] (B_u x)[k]

with B_u the basis of Hom_G. The second derivative of f is block diagonal over channels and does not depend on the
direction: Σ_{k} (Σ_t q[c,t] i_t[k]) σ''[c,k] (B_u x)[k] (B_v x)[k] with q the derivative of the risk in f. A product
then never touches the hidden layer again.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.func import jvp

from stability.base.errors import StaleLinearisation
from stability.curvature.assembly import one_hidden_layer
from stability.curvature.automatic import check_product, equivariant_hessian
from stability.curvature.linearised import Function, NetworkHessian, Stage, bound_sigma, network_hessian
from stability.curvature.products import Terms, grain
from stability.curvature.sector import enclosing
from stability.eigen.operator import Operator
from stability.groups import Representation, sector_basis, trivial_irrep
from stability.layers import DenseAt, Layer, LayerAt
from stability.problem.problem import Problem, Within, perceptron_of
from stability.problem.space import Samples


class PooledAt(LayerAt[Tensor, tuple[Tensor, Tensor], Tensor]):
    """W ↦ f at a point of E, as the first stage of a network on features.

    Args:
        layer: the hidden equivariant layer.
        coordinates: of W on E.
        sigma: (samples, rows) ↦ (samples, rows), pointwise.
        invariant: (τ, k) the vectors i_t.
    """

    def __init__(self, layer: Layer, coordinates: Tensor, sigma: Function, invariant: Tensor) -> None:
        irrep = trivial_irrep(layer.source.group)
        super().__init__(layer, coordinates, irrep)
        ((self.sources, a),), ((self.channels, b),) = layer.source.blocks, layer.target.blocks
        self.sigma, self.invariant, self.points = sigma, invariant, b.dim
        basis = sector_basis(irrep, a, b).table(coordinates).squeeze(1)  # (β, k, columns)
        self.table = basis.reshape(-1, a.dim).mT.contiguous()
        self.basis = len(basis)

    def _slopes(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z, σ'(z) and σ''(z), (n, channels, k)."""
        z = x @ self.weight.mT

        def slope(q: Tensor) -> Tensor:
            return jvp(self.sigma, (q,), (torch.ones_like(q),))[1]

        first, second, *_ = jvp(slope, (z,), (torch.ones_like(z),))
        z, first, second = (array.unflatten(1, (self.channels, self.points)) for array in (z, first, second))
        return z, first, second

    def plain(self, x: Tensor) -> Tensor:
        """f, (n, channels·τ)."""
        h = self.sigma(x @ self.weight.mT).unflatten(1, (self.channels, self.points))
        return (h @ self.invariant.mT).flatten(1)

    def zeros(self, k: int, like: Tensor) -> Tensor:
        """Where gradients of k vectors are added up: (k, channels, u)."""
        return like.new_zeros(k, self.channels, self.sources * self.basis)

    def bind(self, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """m as (channels, n·τ, u), and the second derivative (channels, u, v); p is q, (n, channels·τ)."""
        n = len(x)
        y = (x.reshape(n * self.sources, -1) @ self.table).reshape(n, self.sources * self.basis, self.points)
        _, first, second = self._slopes(x)
        weighted = first.unsqueeze(2) * self.invariant  # (n, c, τ, k)
        m = torch.matmul(weighted.flatten(1, 2), y.mT).unflatten(1, (self.channels, -1))  # (n, c, τ, u)
        bend = second * (p.unflatten(1, (self.channels, -1)) @ self.invariant)  # (n, c, k)
        gram = y.permute(0, 2, 1).reshape(n * self.points, -1)
        outer = (gram.unsqueeze(2) * gram.unsqueeze(1)).flatten(1)
        curved = bend.permute(1, 0, 2).reshape(self.channels, -1) @ outer
        curved = curved.unflatten(1, (y.shape[1], y.shape[1]))
        return m.permute(1, 0, 2, 3).reshape(self.channels, -1, y.shape[1]), curved

    def push(self, s: Tensor) -> Tensor:
        """(k, size) → (channels, u, k)."""
        return s.unflatten(1, (self.channels, -1)).permute(1, 2, 0)

    def forward(self, direction: Tensor | None, bound: tuple[Tensor, Tensor], tangent: Tensor | None) -> Tensor:
        """ḟ as (channels·τ, k, n)."""
        if direction is None:
            raise ValueError(f"{self.layer.name}: no direction, so nothing moves")
        moved = torch.bmm(bound[0], direction)  # (c, n·τ, k)
        pools = len(self.invariant)
        return (
            moved.unflatten(1, (-1, pools)).permute(0, 2, 3, 1).reshape(self.channels * pools, direction.shape[2], -1)
        )

    def backward(
        self,
        direction: Tensor | None,
        bound: tuple[Tensor, Tensor],
        tangent: Tensor | None,
        cotangent: Tensor,
        gathered: Tensor | None,
        need: bool,
    ) -> None:
        """Adds mᵀċ and the second derivative's part to ``gathered``; nothing is below this stage."""
        if direction is None or gathered is None:
            return
        pools = len(self.invariant)
        c = cotangent.unflatten(0, (self.channels, pools)).permute(0, 2, 3, 1).flatten(2)  # (c, k, n·τ)
        gathered += (torch.bmm(c, bound[0]) + torch.bmm(direction.mT, bound[1])).transpose(0, 1)

    def collect(self, k: int, gathered: Tensor | None, out: Tensor) -> None:
        """Writes the coordinates (k, size) of what was gathered to ``out``."""
        if gathered is not None:
            out.copy_(gathered.flatten(1))


def pooled_hessian(problem: Problem, theta: Tensor, chunk: int = 256) -> Operator | None:
    """∇²R^eqv in coordinates of E; None for a network of another shape."""
    if not one_hidden_layer(problem):
        return None
    model = perceptron_of(problem)
    layers, sigmas = model.network.space.layers, model.network.nonlinearities
    first, second = layers[:2]
    coordinates = problem.space.split_coordinates(theta)
    one: Representation = second.target.blocks[0][1]
    ((channels, b),) = first.target.blocks
    irrep = trivial_irrep(problem.group)
    invariant = sector_basis(irrep, b, one).table(theta).flatten(1)

    dense = [Layer(second.name, channels * len(invariant) * one, second.target), *layers[2:]]
    pooled = PooledAt(first, coordinates[0], bound_sigma(sigmas[0], first.target), invariant)
    stages = [Stage(pooled, lambda f: f, True)]
    for layer, t, sigma in zip(dense, coordinates[1:], sigmas[1:], strict=True):
        stages.append(Stage(DenseAt(layer, t, irrep), bound_sigma(sigma, layer.target), sigma.pointwise))

    def head(y: Tensor, samples: Samples) -> Tensor:
        return samples.weight @ model.losses(stages[-1].sigma(y), samples.y)

    hessian = NetworkHessian(stages, head, problem.samples, problem.weight_decay, 1, chunk)
    return Operator(len(theta), hessian, "∇²R^eqv", batch=64)


def hessian_on_e(problem: Problem, theta: Tensor, searching: bool = False) -> Operator:
    """∇²R^eqv in coordinates of E: hand-written for a network, else through the automatic derivative."""
    if problem.within is not None and problem.written:
        return _compressed_on_e(problem, problem.within, theta, searching)
    if problem.layered is None:
        return equivariant_hessian(problem, theta, searching=searching)
    terms = Terms(problem.equivariant_loss, theta, lambda: problem.samples.chunks(256))
    operator = pooled_hessian(problem, theta) or network_hessian(problem, theta, trivial_irrep(problem.group))
    return replace(operator, name="∇²R^eqv", grain=lambda: grain(terms))


def _compressed_on_e(problem: Problem, within: Within, theta: Tensor, searching: bool) -> Operator:
    """JᵀHJ, with H on E of the whole problem and J the embedding of this E in coordinates."""
    whole, at = enclosing(problem, within, theta)
    operator = hessian_on_e(whole, at, searching)

    def apply(v: Tensor) -> Tensor:
        up = whole.space.project(within.linear(problem.space.embed(v)))
        return problem.space.project(within.project(whole.space.embed(operator(up))))

    return Operator(len(theta), apply, operator.name, batch=operator.batch, grain=operator.grain, notes=operator.notes)


def checked_on_e(problem: Problem, theta: Tensor, seed: int = 0) -> Operator:
    """The same, compared with a product from scratch; the automatic derivative where a network's arithmetic fails."""
    operator = hessian_on_e(problem, theta)
    if not problem.written:
        return operator  # checked by its own products
    try:
        check_product(operator, problem.equivariant_loss, theta, problem.samples, problem.weight_decay, seed)
    except StaleLinearisation as error:
        operator = equivariant_hessian(problem, theta)
        operator.notes.append(f"∇²R^eqv: by the automatic derivative, for the network's own is off ({error})")
    return operator
