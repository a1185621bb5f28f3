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

import torch
from torch import Tensor
from torch.func import grad, jvp, vmap
from tqdm import tqdm

from stability.groups import Irrep, sector_basis, trivial_irrep
from stability.layers import Layer
from stability.problem.problem import Problem, perceptron_of
from stability.problem.space import Samples

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


def sector_matrix(problem: Problem, theta: Tensor, irrep: Irrep, memory_gb: float = 16.0) -> Tensor:
    """B_λ, (size, size), for a problem to which it applies."""
    model = perceptron_of(problem)
    layers, sigmas = model.network.space.layers, model.network.nonlinearities
    coordinates = problem.space.split_coordinates(theta)
    ((c0, a),), ((channels, b),) = layers[0].source.blocks, layers[0].target.blocks
    features, d = layers[1].target.dim, irrep.dim
    first = sector_basis(irrep, a, b).table(theta)  # (β₀, d, k, columns)
    second = sector_basis(irrep, b, layers[1].target.blocks[0][1]).table(theta).squeeze(-2)  # (β₁, d, k)
    invariant = sector_basis(trivial_irrep(problem.group), b, layers[1].target.blocks[0][1]).table(theta)
    invariant = invariant.flatten(1)  # (τ, k)
    n0, n1 = c0 * len(first), len(second)
    pooled = coordinates[1].reshape(features, channels, len(invariant))  # V = Σ_t pooled_t · invariant_t
    v = layers[1].embed(coordinates[1]).squeeze(-3)
    w = layers[0].embed(coordinates[0]).squeeze(-3)
    flat_first = first.reshape(-1, a.dim).mT.contiguous()

    def sigma(z: Tensor) -> Tensor:
        return sigmas[0](z, layers[0].target)

    def head(u: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        x = sigmas[1](u, layers[1].target)
        for layer, t, following in zip(layers[2:], coordinates[2:], sigmas[2:], strict=True):
            x = following(layer.apply(t, x).squeeze(0), layer.target)
        return weight @ model.losses(x, y)

    size0, size1 = channels * n0, features * channels * n1
    pools = len(invariant)
    corner = theta.new_zeros(channels, n0, channels, n0)
    cross = theta.new_zeros(channels, features, n0 * channels * n1)
    within = theta.new_zeros(channels, n0 * n0)
    gram = theta.new_zeros(features * features, (channels * n1) ** 2)
    bilinear = theta.new_zeros(channels, n0, n1, features)
    unit = torch.eye(features, dtype=theta.dtype, device=theta.device)
    product = theta.new_empty(size0, size0)
    numbers = d * n0 * max(3 * b.dim, 3 * channels * pools) + 3 * pools * size0 * channels * n1
    chunk = max(1, int(memory_gb * CHUNK_BYTES / (8 * numbers)))
    bar = tqdm(total=len(problem.samples.x), desc=f"assembling {irrep.name}", disable=None, leave=False)
    for part in problem.samples.chunks(chunk):
        n = len(part.x)
        z = part.x @ w.mT
        h = sigma(z)
        slope = jvp(sigma, (z,), (torch.ones_like(z),))[1]
        u = h @ v.mT

        def gradient(u: Tensor, part: Samples = part) -> Tensor:
            return grad(lambda f: head(f, part.y, part.weight))(u)

        p = gradient(u)
        psi = vmap(lambda e: jvp(gradient, (u,), (e.expand_as(u),))[1])(unit).transpose(0, 1)  # noqa: B023
        bend = jvp(lambda q: jvp(sigma, (q,), (torch.ones_like(q),))[1], (z,), (p @ v,))[1]
        slope, bend, h = (array.unflatten(1, (channels, b.dim)) for array in (slope, bend, h))
        # y: what (W e_j)x is for every basis element, (n, d, n0, k).
        y = (part.x.reshape(n * c0, a.dim) @ flat_first).reshape(n, c0, len(first), d, b.dim)
        y = y.permute(0, 3, 1, 2, 4).reshape(n, d, n0, b.dim)
        # Block diagonal over channels, σ'': one Gram matrix over the partners for each sample and position.
        yk = y.permute(0, 3, 2, 1).reshape(n * b.dim, n0, d)
        within += bend.permute(1, 0, 2).reshape(channels, -1) @ torch.bmm(yk, yk.mT).flatten(1)
        # m = Σ_k invariant_t[k] σ'[c,k] y[u,k], so that u̇_o = Σ_{c,t} pooled[o,c,t] m: (n, t, c·u, d)
        masked = slope[:, :, None, :] * invariant  # (n, c, t, k)
        m = torch.matmul(y.reshape(n, d * n0, b.dim), masked.reshape(n, -1, b.dim).mT)
        m = m.reshape(n, d, n0, channels, pools).permute(0, 4, 3, 2, 1).reshape(n, pools, size0, d)
        bent = torch.matmul(psi, pooled.flatten(1)).reshape(n, features, channels, pools)  # ∇²ψ·pooled
        inner = torch.matmul(pooled.flatten(1).mT, bent.flatten(2)).reshape(n, channels, pools, channels, pools)
        for s in range(n):
            for t in range(pools):
                for r in range(t + 1):
                    torch.mm(m[s, t], m[s, r].mT, out=product)
                    factor = inner[s, :, t, :, r] * (1.0 if t == r else 2.0)  # symmetrised at the end
                    corner.addcmul_(product.view_as(corner), factor[:, None, :, None])
        if n1:
            g = torch.einsum("nck,bdk->ndcb", h, second).reshape(n, d, channels * n1)
            gram += psi.reshape(n, -1).mT @ torch.bmm(g.mT, g).reshape(n, -1)
            # p_sᵀ (V e_j)(σ' ∘ (W e_j)x), summed over partners and positions
            joint = torch.einsum("nduk,bdk->nubk", y, second)
            z1 = torch.einsum("nck,nubk->ncub", slope, joint)
            bilinear += torch.einsum("ncub,no->cubo", z1, p)
            met = torch.matmul(m, g.unsqueeze(1)).reshape(n, pools, channels, n0 * channels * n1)
            cross += torch.bmm(
                bent.permute(2, 1, 0, 3).reshape(channels, features, n * pools),
                met.permute(2, 0, 1, 3).reshape(channels, n * pools, -1),
            )
        bar.update(n)
    bar.close()
    corner = corner.reshape(size0, size0)
    corner = (corner + corner.mT) / 2
    within = within.reshape(channels, n0, n0)
    cross = cross.reshape(channels, features, n0, channels * n1).permute(1, 0, 2, 3).reshape(features, size0, -1)
    for c in range(channels):
        corner[c * n0 : (c + 1) * n0, c * n0 : (c + 1) * n0] += within[c]
        if n1:
            cross[:, c * n0 : (c + 1) * n0, c * n1 : (c + 1) * n1] += bilinear[c].permute(2, 0, 1)
    matrix = theta.new_empty(size0 + size1, size0 + size1)
    matrix[:size0, :size0] = corner
    if n1:
        side = cross.permute(1, 0, 2).reshape(size0, size1)
        matrix[:size0, size0:], matrix[size0:, :size0] = side, side.mT
        gram = gram.reshape(features, features, channels * n1, channels * n1)
        matrix[size0:, size0:] = gram.permute(0, 2, 1, 3).reshape(size1, size1)
    matrix = (matrix + matrix.mT) / (2 * d)
    matrix.diagonal().add_(problem.weight_decay)
    return matrix
