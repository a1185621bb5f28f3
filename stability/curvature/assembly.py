r"""B_λ of a network with one equivariant hidden layer, as a matrix, sample by sample instead of column by column.

The network is u = V σ(W x) followed by any function ψ_s of the features u, on which G acts trivially. Then for every
nontrivial λ, with (W e_j) and (V e_j) the partners of a direction and everything else fixed at the point,

    u̇ = V(σ' ∘ (W e_j)x) + (V e_j)h,      h = σ(Wx)
    d·⟨S, B_λ S⟩ = Σ_s Σ_j  u̇ᵀ ∇²ψ_s u̇ + Σ_k (Vᵀp_s)_k σ''_k ((W e_j)x)_k² + 2 p_sᵀ (V e_j)(σ' ∘ (W e_j)x),   p_s = ∇ψ_s

A sample sees the directions through the features only, so columns need no products of their own: the block of V is
Σ_s ∇²ψ_s ⊗ (Gram matrix over the partners), the block of W a sum of terms of rank (features), and what is left is
block diagonal over the channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad, jvp, vmap
from tqdm import tqdm

from stability.groups import Irrep, sector_basis, trivial_irrep
from stability.layers import Layer
from stability.problem.problem import Nonlinearity, Problem, perceptron_of
from stability.problem.space import ParameterSpace, Samples

# Bytes of the largest arrays of one chunk of samples, out of a gigabyte allowed in all.
CHUNK_BYTES = 3e7


def applies(problem: Problem, irrep: Irrep) -> bool:
    """Whether B_λ can be assembled so: a nontrivial irrep, and a network of this shape."""
    return not irrep.is_trivial and one_hidden_layer(problem)


def one_hidden_layer(problem: Problem) -> bool:
    """Whether the problem is such a network: X_0 = c₀·a, then c·b with a pointwise σ, then trivial spaces only."""
    network = problem.layered.network if problem.layered else None
    if network is None or len(network.space.layers) < 2 or any(network.affine):
        return False
    first, second = network.space.layers[:2]
    if type(first) is not Layer or type(second) is not Layer:  # its bases are those of the general layer
        return False
    one_block = len(first.source.blocks) == len(first.target.blocks) == len(second.target.blocks) == 1
    rest = [second.target, *(layer.target for layer in network.space.layers[2:])]
    return (
        one_block
        and network.nonlinearities[0].pointwise
        and all(
            len(space.blocks) == 1 and space.blocks[0][1].name == "1" and space.blocks[0][1].dim == 1 for space in rest
        )
    )


@dataclass(frozen=True)
class _Pieces:
    """The network at a point, as the sums over samples read it: a and b are the spaces of X_0 and of a channel.

    Attributes:
        space: its layers.
        sigmas: its nonlinearities.
        losses: (predictions, targets) ↦ (n,).
        rest: coordinates of the layers after V.
        w: W, (channels·dim b, c₀·dim a).
        v: V, (features, channels·dim b).
        pooled: (features, channels, τ) with V = Σ_t pooled_t · invariant_t.
        invariant: basis of Hom_G(b, 1), (τ, dim b).
        first: basis of the sector of W, a column for each element, partner and position of b, (dim a, β₀·d·dim b).
        second: basis of the sector of V, (β₁, d, dim b).
        c0: multiplicity of a.
        channels: multiplicity of b.
        n0: sector coordinates of W for each channel, c₀·β₀.
    """

    space: ParameterSpace
    sigmas: Sequence[Nonlinearity]
    losses: Callable[[Tensor, Tensor], Tensor]
    rest: tuple[Tensor, ...]
    w: Tensor
    v: Tensor
    pooled: Tensor
    invariant: Tensor
    first: Tensor
    second: Tensor
    c0: int
    channels: int
    n0: int

    @property
    def sizes(self) -> tuple[int, int, int, int, int, int]:
        """(d, dim b, τ, features, sector coordinates of W, of V for each feature)."""
        n1, d, dim = self.second.shape
        return d, dim, len(self.invariant), len(self.v), self.channels * self.n0, self.channels * n1

    def sigma(self, z: Tensor) -> Tensor:
        """σ, of pre-activations (n, channels·dim b)."""
        return self.sigmas[0](z, self.space.layers[0].target)

    def head(self, u: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """Σ_s w_s ψ_s(u_s), of features (n, features)."""
        x = self.sigmas[1](u, self.space.layers[1].target)
        for layer, t, following in zip(self.space.layers[2:], self.rest, self.sigmas[2:], strict=True):
            x = following(layer.apply(t, x).squeeze(0), layer.target)
        return weight @ self.losses(x, y)


def _pieces(problem: Problem, theta: Tensor, irrep: Irrep) -> _Pieces:
    """The network at the point with coordinates θ, and bases of the sectors of its first two layers."""
    model = perceptron_of(problem)
    network = model.network
    first_layer, second_layer = network.space.layers[:2]
    coordinates = problem.space.split_coordinates(theta)
    ((c0, a),), ((channels, b),) = first_layer.source.blocks, first_layer.target.blocks
    ((_, one),) = second_layer.target.blocks
    first = sector_basis(irrep, a, b).table(theta)  # (β₀, d, k, columns)
    invariant = sector_basis(trivial_irrep(problem.group), b, one).table(theta).flatten(1)
    return _Pieces(
        space=network.space,
        sigmas=network.nonlinearities,
        losses=model.losses,
        rest=tuple(coordinates[2:]),
        w=first_layer.embed(coordinates[0]).squeeze(-3),
        v=second_layer.embed(coordinates[1]).squeeze(-3),
        pooled=coordinates[1].reshape(second_layer.target.dim, channels, len(invariant)),
        invariant=invariant,
        first=first.reshape(-1, a.dim).mT.contiguous(),
        second=sector_basis(irrep, b, one).table(theta).squeeze(-2),
        c0=c0,
        channels=channels,
        n0=c0 * len(first),
    )


@dataclass(frozen=True)
class _Sums:
    """Sums over samples, added to in place.

    Attributes:
        corner: of W with W, what ∇²ψ makes of it, (channels, n₀, channels, n₀).
        within: of W with W, what σ'' makes of it: block diagonal over the channels, (channels, n₀²).
        cross: of W with V through ∇²ψ, (channels, features, n₀·channels·n₁).
        bilinear: of W with V through p: block diagonal over the channels, (channels, n₀, n₁, features).
        gram: of V with V, (features², (channels·n₁)²).
    """

    corner: Tensor
    within: Tensor
    cross: Tensor
    bilinear: Tensor
    gram: Tensor


def _zeros(net: _Pieces) -> _Sums:
    """No sample yet."""
    *_, features, _, side = net.sizes
    c, n0, n1 = net.channels, net.n0, len(net.second)
    return _Sums(
        corner=net.w.new_zeros(c, n0, c, n0),
        within=net.w.new_zeros(c, n0 * n0),
        cross=net.w.new_zeros(c, features, n0 * side),
        bilinear=net.w.new_zeros(c, n0, n1, features),
        gram=net.w.new_zeros(features * features, side**2),
    )


def _derivatives(net: _Pieces, part: Samples) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """h = σ(Wx), σ', (Vᵀp)σ'', each (n, channels, dim b); p = ∇ψ, (n, features); ∇²ψ, (n, features, features)."""
    z = part.x @ net.w.mT
    h = net.sigma(z)
    slope = jvp(net.sigma, (z,), (torch.ones_like(z),))[1]
    u = h @ net.v.mT

    def gradient(u: Tensor) -> Tensor:
        return grad(lambda f: net.head(f, part.y, part.weight))(u)

    p = gradient(u)
    unit = torch.eye(len(net.v), dtype=u.dtype, device=u.device)
    psi = vmap(lambda e: jvp(gradient, (u,), (e.expand_as(u),))[1])(unit).transpose(0, 1)
    bend = jvp(lambda q: jvp(net.sigma, (q,), (torch.ones_like(q),))[1], (z,), (p @ net.v,))[1]
    dim = net.invariant.shape[1]
    slope, bend, h = (array.unflatten(1, (net.channels, dim)) for array in (slope, bend, h))
    return h, slope, bend, p, psi


def _add(sums: _Sums, net: _Pieces, part: Samples, product: Tensor) -> None:
    """Add what a chunk of samples gives; ``product`` is space to work in, (channels·n₀, channels·n₀)."""
    d, dim, pools, features, size, _ = net.sizes
    n, channels, n0 = len(part.x), net.channels, net.n0
    h, slope, bend, p, psi = _derivatives(net, part)
    # y: what (W e_j)x is for every basis element, (n, d, n0, k).
    y = (part.x.reshape(n * net.c0, -1) @ net.first).reshape(n, net.c0, n0 // net.c0, d, dim)
    y = y.permute(0, 3, 1, 2, 4).reshape(n, d, n0, dim)
    # Block diagonal over channels, σ'': one Gram matrix over the partners for each sample and position.
    yk = y.permute(0, 3, 2, 1).reshape(n * dim, n0, d)
    sums.within.add_(bend.permute(1, 0, 2).reshape(channels, -1) @ torch.bmm(yk, yk.mT).flatten(1))
    # m = Σ_k invariant_t[k] σ'[c,k] y[u,k], so that u̇_o = Σ_{c,t} pooled[o,c,t] m: (n, t, c·u, d)
    masked = slope[:, :, None, :] * net.invariant  # (n, c, t, k)
    m = torch.matmul(y.reshape(n, d * n0, dim), masked.reshape(n, -1, dim).mT)
    m = m.reshape(n, d, n0, channels, pools).permute(0, 4, 3, 2, 1).reshape(n, pools, size, d)
    bent = torch.matmul(psi, net.pooled.flatten(1)).reshape(n, features, channels, pools)  # ∇²ψ·pooled
    inner = torch.matmul(net.pooled.flatten(1).mT, bent.flatten(2)).reshape(n, channels, pools, channels, pools)
    for s in range(n):
        for t in range(pools):
            for r in range(t + 1):
                torch.mm(m[s, t], m[s, r].mT, out=product)
                factor = inner[s, :, t, :, r] * (1.0 if t == r else 2.0)  # symmetrised at the end
                sums.corner.addcmul_(product.view_as(sums.corner), factor[:, None, :, None])
    if len(net.second):
        _add_second(sums, net, (h, slope, p, psi), (y, m, bent))


def _add_second(
    sums: _Sums, net: _Pieces, derivatives: tuple[Tensor, ...], first: tuple[Tensor, Tensor, Tensor]
) -> None:
    """Add what a chunk of samples gives to the blocks of V, from derivatives (h, σ', p, ∇²ψ) and what W moved."""
    (h, slope, p, psi), (y, m, bent) = derivatives, first
    d, _, pools, features, _, side = net.sizes
    n, channels = len(h), net.channels
    g = torch.einsum("nck,bdk->ndcb", h, net.second).reshape(n, d, side)
    sums.gram.add_(psi.reshape(n, -1).mT @ torch.bmm(g.mT, g).reshape(n, -1))
    # p_sᵀ (V e_j)(σ' ∘ (W e_j)x), summed over partners and positions
    joint = torch.einsum("nduk,bdk->nubk", y, net.second)
    z1 = torch.einsum("nck,nubk->ncub", slope, joint)
    sums.bilinear.add_(torch.einsum("ncub,no->cubo", z1, p))
    met = torch.matmul(m, g.unsqueeze(1)).reshape(n, pools, channels, net.n0 * side)
    sums.cross.add_(
        torch.bmm(
            bent.permute(2, 1, 0, 3).reshape(channels, features, n * pools),
            met.permute(2, 0, 1, 3).reshape(channels, n * pools, -1),
        )
    )


def _joined(sums: _Sums, net: _Pieces) -> Tensor:
    """2d·B_λ without decay, from the sums over all samples."""
    *_, features, size0, side = net.sizes
    channels, n0, n1 = net.channels, net.n0, len(net.second)
    size1 = features * side
    corner = sums.corner.reshape(size0, size0)
    corner = (corner + corner.mT) / 2
    within = sums.within.reshape(channels, n0, n0)
    cross = sums.cross.reshape(channels, features, n0, side).permute(1, 0, 2, 3).reshape(features, size0, -1)
    for c in range(channels):
        corner[c * n0 : (c + 1) * n0, c * n0 : (c + 1) * n0] += within[c]
        if n1:
            cross[:, c * n0 : (c + 1) * n0, c * n1 : (c + 1) * n1] += sums.bilinear[c].permute(2, 0, 1)
    matrix = corner.new_empty(size0 + size1, size0 + size1)
    matrix[:size0, :size0] = corner
    if n1:
        border = cross.permute(1, 0, 2).reshape(size0, size1)
        matrix[:size0, size0:], matrix[size0:, :size0] = border, border.mT
        gram = sums.gram.reshape(features, features, side, side)
        matrix[size0:, size0:] = gram.permute(0, 2, 1, 3).reshape(size1, size1)
    return matrix + matrix.mT


def sector_matrix(problem: Problem, theta: Tensor, irrep: Irrep, memory_gb: float = 16.0) -> Tensor:
    """B_λ, (size, size), for a problem to which it applies."""
    net = _pieces(problem, theta, irrep)
    d, dim, pools, _, size, side = net.sizes
    sums, product = _zeros(net), theta.new_empty(size, size)
    numbers = d * net.n0 * max(3 * dim, 3 * net.channels * pools) + 3 * pools * size * side
    chunk = max(1, int(memory_gb * CHUNK_BYTES / (8 * numbers)))
    with tqdm(total=len(problem.samples.x), desc=f"assembling {irrep.name}", disable=None, leave=False) as bar:
        for part in problem.samples.chunks(chunk):
            _add(sums, net, part, product)
            bar.update(len(part.x))
    matrix = _joined(sums, net) / (2 * d)
    matrix.diagonal().add_(problem.weight_decay)
    return matrix
