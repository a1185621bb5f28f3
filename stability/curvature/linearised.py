r"""The Hessian of a multilayer perceptron at a point of E, on L or on one sector, written out by hand.

A tangent carries S_i e_j through the network next to the fixed primal pass. With x_i the inputs, y_i = A_i x_i, p_i
the derivative of Σ_s w_s ℓ_s in y_i and b_i that in x_i,

    ẏ_i = A_i ẋ_i + (S_i e_j) x_i                      ẋ_{i+1} = σ_i'(y_i) ẏ_i
    ḃ_i = A_iᵀ ṗ_i + (S_i e_j)ᵀ p_i                     ṗ_i = σ_i'(y_i)ᵀ ḃ_{i+1} + (σ_i''(y_i) ẏ_i)ᵀ b_{i+1}
    ⟨T, B_λ S⟩ = (1/d) Σ_j Σ_i (⟨ṗ_i, (T_i e_j) x_i⟩ + ⟨p_i, (T_i e_j) ẋ_i⟩) + μ⟨T, S⟩

Only the layers know how S_i, A_i are applied. All arrays are (rows, tangents, samples): a layer is one matrix
product. Layers behind the last one that a sector reaches are one function of few features; its Hessian is taken once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, jvp, vmap
from torch.nn import functional

from stability.eigen.operator import Operator
from stability.groups import Irrep, Representation
from stability.layers import LayerAt, Scratch
from stability.problem.problem import Nonlinearity, Problem, perceptron_of
from stability.problem.space import Samples

FEATURE_LIMIT = 128
# Bytes of one activation of all partners of one vector, out of a gigabyte allowed in all.
PARTNER_BYTES = 2.5e7
# Up to here one activation of all partners stays near the processor.
CACHE_BYTES = 4e6
# Bytes of one activation of a batch of tangents. On L, products of large batches are faster; on a sector the arrays are
# many and small, and those that stay near the processor are, by a quarter on TRANS small.
LARGE_BATCH, CACHED_BATCH = 3e7, 3e6
Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Stage:
    """A layer of the body with the σ that follows it.

    Attributes:
        at: the layer at the point, on the sector.
        sigma: (samples, rows) ↦ (samples, rows).
        pointwise: whether σ acts on every coordinate by itself.
        bias: whether the layer multiplies (x, 1), x being what the σ before it gives.
    """

    at: LayerAt
    sigma: Function
    pointwise: bool
    bias: bool = False

    def entering(self, x: Tensor) -> Tensor:
        """What the layer multiplies, for samples (n, rows)."""
        return functional.pad(x, (0, 1), value=1.0) if self.bias else x

    def entering_tangent(self, t: Tensor) -> Tensor:
        """Its derivative, for tangents (rows, t, n)."""
        return torch.cat([t, t.new_zeros(1, *t.shape[1:])]) if self.bias else t

    def leaving(self, b: Tensor, axis: int) -> Tensor:
        """The adjoint: the derivative in x, without that in 1."""
        return b.narrow(axis, 0, b.shape[axis] - 1) if self.bias else b


@dataclass
class _Pass:
    """The fixed primal pass of one chunk of samples: what every product needs of it.

    Attributes:
        bound: of each stage, what :meth:`LayerAt.bind` made of inputs and derivatives.
        forward: of each stage, the derivative of σ.
        backward: of each stage, (tangent, cotangent) ↦ the derivative of σ's adjoint.
        head: the Hessian of everything behind the stages, on features.
    """

    bound: list[Any]
    forward: list[Function]
    backward: list[Callable[[Tensor, Tensor], Tensor]]
    head: Function


class NetworkHessian:
    """∇²R(A) restricted to a sector (or to E, or to all of L) at A in E.

    Args:
        stages: layers up to the last one that the sector reaches.
        head: (features (n, rows), samples) ↦ Σ_s w_s ℓ_s, everything behind it; σ of the last stage included.
        samples: the data.
        weight_decay: μ.
        dim: d, partners of the sector.
        chunk: samples that are kept together.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        head: Callable[[Tensor, Samples], Tensor],
        samples: Samples,
        weight_decay: float,
        dim: int,
        chunk: int,
    ) -> None:
        self.stages, self.weight_decay, self.dim = list(stages), weight_decay, dim
        self.passes = [self._primal(part, head) for part in samples.chunks(chunk)]
        self.sizes = [stage.at.size for stage in stages]
        # Tangents begin at the first layer that the sector reaches, between irreps of a Lie group maybe a later one.
        self.first = next((i for i, size in enumerate(self.sizes) if size), 0)

    def _primal(self, part: Samples, head: Callable[[Tensor, Samples], Tensor]) -> _Pass:
        inputs, outputs, x = [], [], part.x
        for i, stage in enumerate(self.stages):
            inputs.append(stage.entering(x))
            outputs.append(stage.at.plain(inputs[-1]))
            x = stage.sigma(outputs[-1]) if i < len(self.stages) - 1 else x
        last = outputs[-1]
        p = grad(lambda y: head(y, part))(last)
        bound: list[Any] = [None] * len(self.stages)
        forward: list[Function] = [lambda t: t] * (len(self.stages) - 1)
        backward: list[Callable[[Tensor, Tensor], Tensor]] = [lambda t, b: b] * (len(self.stages) - 1)
        for i in reversed(range(len(self.stages))):
            stage = self.stages[i]
            bound[i] = stage.at.bind(inputs[i], p)
            if i > 0:
                before = self.stages[i - 1]
                b = stage.leaving(stage.at.plain_transpose(p), 1)
                forward[i - 1], backward[i - 1] = _derivatives(
                    before.sigma, before.pointwise, outputs[i - 1], b, before.at
                )
                y = outputs[i - 1]
                (p,) = torch.func.vjp(before.sigma, y)[1](b)
        return _Pass(bound, forward, backward, _head_hessian(head, last, part, self.stages[-1].at))

    def __call__(self, v: Tensor) -> Tensor:
        """B v for rows v (k, size)."""
        k = len(v)
        pieces = v.split(self.sizes, dim=1)
        directions = [stage.at.push(s) for stage, s in zip(self.stages, pieces, strict=True)]
        gathered = [stage.at.zeros(k, v) for stage in self.stages]
        last = len(self.stages) - 1
        for one in self.passes:
            x: Tensor | None = None
            xs: dict[int, Tensor | None] = {}
            ys: dict[int, Tensor] = {}
            for i in range(self.first, last + 1):
                xs[i] = x
                y = ys[i] = self.stages[i].at.forward(directions[i], one.bound[i], x)
                if i < last:
                    x = self.stages[i + 1].entering_tangent(one.forward[i](y))
            p = one.head(ys[last])
            for i in reversed(range(self.first, last + 1)):
                need = i > self.first
                b = self.stages[i].at.backward(directions[i], one.bound[i], xs[i], p, gathered[i], need=need)
                if b is not None:
                    p = one.backward[i - 1](ys[i - 1], self.stages[i].leaving(b, 0))
        found = torch.empty_like(v)
        for stage, sums, out in zip(self.stages, gathered, found.split(self.sizes, dim=1), strict=True):
            stage.at.collect(k, sums, out)
        if self.dim > 1:
            found /= self.dim
        return found.add_(v, alpha=self.weight_decay) if self.weight_decay else found


def _derivatives(
    sigma: Function, pointwise: bool, y: Tensor, b: Tensor, at: LayerAt
) -> tuple[Function, Callable[[Tensor, Tensor], Tensor]]:
    """ẏ ↦ σ'ẏ and (ẏ, ḃ) ↦ σ'ᵀḃ + (σ''ẏ)ᵀb at fixed y (n, rows), b, for tangents (rows, t, n)."""
    if pointwise:

        def slope_of(z: Tensor) -> Tensor:
            return jvp(sigma, (z,), (torch.ones_like(z),))[1]

        slope, bend, *_ = jvp(slope_of, (y,), (b,))
        first, second = at.tangent_layout(slope), at.tangent_layout(bend)
        moved = Scratch()
        # ḃ is not needed again, wherever it comes from, so it may be overwritten.
        return (lambda t: torch.mul(t, first, out=moved.take(t.shape, t))), (
            lambda t, c: c.mul_(first).addcmul_(t, second)
        )

    def tangent(t: Tensor) -> Tensor:
        pushed = vmap(lambda u: jvp(sigma, (y,), (u,))[1])(at.sample_layout(t))
        return at.tangent_layout(pushed)

    def cotangent(t: Tensor, c: Tensor) -> Tensor:
        def pulled(z: Tensor, w: Tensor) -> Tensor:
            return torch.func.vjp(sigma, z)[1](w)[0]

        moved = vmap(lambda u, w: jvp(pulled, (y, b), (u, w))[1])(at.sample_layout(t), at.sample_layout(c))
        return at.tangent_layout(moved)

    return tangent, cotangent


def _head_hessian(head: Callable[[Tensor, Samples], Tensor], y: Tensor, part: Samples, at: LayerAt) -> Function:
    """ẏ ↦ ∇²head ẏ; a matrix for each sample where the features are few."""
    gradient = grad(lambda z: head(z, part))
    if y.shape[1] <= FEATURE_LIMIT:
        unit = torch.eye(y.shape[1], dtype=y.dtype, device=y.device)
        # Samples do not mix in the head, so one tangent serves them all.
        columns = vmap(lambda e: jvp(gradient, (y,), (e.expand_as(y),))[1])(unit)  # (f, n, f)
        hessian = columns.permute(1, 0, 2).contiguous()

        def apply(t: Tensor) -> Tensor:
            # A strided left factor would be copied sample by sample.
            moved = torch.bmm(at.sample_layout(t).permute(1, 0, 2).contiguous(), hessian)  # (n, t, f)
            return at.tangent_layout(moved.permute(1, 0, 2))

        return apply

    def apply_fresh(t: Tensor) -> Tensor:
        return at.tangent_layout(vmap(lambda u: jvp(gradient, (y,), (u,))[1])(at.sample_layout(t)))

    return apply_fresh


def network_hessian(
    problem: Problem,
    theta: Tensor,
    irrep: Irrep | None,
    chunk: int | None = None,
    budget: float | None = None,
    memory_gb: float = 16.0,
) -> Operator:
    """∇²R(A) on the sector of an irrep (the trivial one is E), or on all of L for None, A ∈ E given by θ.

    Args:
        problem: whose model is a :class:`stability.networks.Classifier`.
        theta: coordinates of A.
        irrep: λ, or None.
        chunk: samples kept together; by default 1,024 on L, where a chunk adds to arrays of dim L, else 256 to 1,024.
        budget: bytes of one activation of a batch of tangents; by default 3e7 on L, else 3e6.
        memory_gb: what all may use; the samples kept together follow from it where partners are many.
    """
    model = perceptron_of(problem)
    network = model.network
    layers, sigmas = network.space.layers, network.nonlinearities
    coordinates = problem.space.split_coordinates(theta)
    reached = [i for i, layer in enumerate(layers) if irrep is None or layer.size(irrep)]
    sizes = [layer.dim if irrep is None else layer.size(irrep) for layer in layers]
    d = 1 if irrep is None else irrep.dim
    if not reached:
        return Operator(0, lambda v: v, "empty sector", cost=d)
    depth = reached[-1] + 1
    stages = [
        Stage(layer.at(t, irrep), bound_sigma(sigma, layer.target), sigma.pointwise, bias)
        for layer, t, sigma, bias in zip(
            layers[:depth], coordinates[:depth], sigmas[:depth], network.affine[:depth], strict=True
        )
    ]

    def head(y: Tensor, samples: Samples) -> Tensor:
        x = sigmas[depth - 1](y, layers[depth - 1].target)
        for i in range(depth, len(layers)):
            x = sigmas[i](layers[i].apply(coordinates[i], network.entering(i, x)).squeeze(0), layers[i].target)
        return samples.weight @ model.losses(x, samples.y)

    width = max(max(layer.shape) for layer in layers[:depth])
    # Small networks: calls cost more than caches save. Measured on TRANS medium, 16.5 ms at 256, 12.7 at 1,024.
    chunk = chunk or (1024 if irrep is None else min(1024, max(256, int(CACHE_BYTES // (8 * width * d)))))
    # One vector has d tangents: irreps of large dimension take fewer samples at a time.
    chunk = max(16, min(chunk, int(memory_gb * PARTNER_BYTES // (8 * width * d))))
    hessian = NetworkHessian(stages, head, problem.samples, problem.weight_decay, d, chunk)
    budget = budget or (LARGE_BATCH if irrep is None else CACHED_BATCH)
    batch = max(1, min(256, int(budget // (8 * width * d * min(chunk, len(problem.samples.x))))))
    name = "∇²R" if irrep is None else f"B_{irrep.name}"
    return Operator(sum(sizes), hessian, name, cost=d, batch=batch)


def nominal_gradient_norm(problem: Problem, theta: Tensor) -> float:
    """‖∇R(A)‖ at the point of E given by θ, through the equivariant layers: no array of dim L numbers is made.

    With x_s the inputs of a layer, p_s the derivatives of the risk in its outputs and A the layer,
    ‖Σ_s p_s ⊗ x_s + μA‖² = Σ_{s,t} ⟨p_s, p_t⟩⟨x_s, x_t⟩ + 2μ Σ_s ⟨p_s, A x_s⟩ + μ²‖A‖².
    """
    model, samples, mu = perceptron_of(problem), problem.samples, problem.weight_decay
    network, coordinates = model.network, problem.space.split_coordinates(theta)
    inputs, outputs, x = [], [], samples.x
    for i, (layer, t, sigma) in enumerate(zip(network.space.layers, coordinates, network.nonlinearities, strict=True)):
        inputs.append(network.entering(i, x).detach())
        outputs.append(layer.apply(t, network.entering(i, x)).squeeze(0).requires_grad_())
        x = sigma(outputs[-1], layer.target)
    derivatives = torch.autograd.grad(samples.weight @ model.losses(x, samples.y), outputs)
    total = 0.0
    for x, y, p, t in zip(inputs, outputs, derivatives, coordinates, strict=True):
        gram = float(((p @ p.mT) * (x @ x.mT)).sum())
        total += gram + 2 * mu * float((p * y.detach()).sum()) + mu * mu * float(t @ t)
    return max(total, 0.0) ** 0.5


def bound_sigma(sigma: Nonlinearity, space: Representation) -> Function:
    """σ on one space, as a function of its argument alone."""
    return lambda y: sigma(y, space)
