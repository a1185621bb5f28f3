"""What is known of a network in advance: flat directions, exchanges, and its assumptions measured."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stability.groups import Representation
from stability.networks.classifier import Classifier
from stability.networks.losses import cross_entropy
from stability.networks.network import MLP
from stability.networks.nonlinearities import KINKED, Gated, Identity, LayerNorm, Norm, parts_of
from stability.problem.problem import FlatFamily
from stability.problem.space import Samples


def _channel_mean(space: Representation, like: Tensor) -> Tensor | None:
    """The projection (1/c)11ᵀ ⊗ I onto what is constant over the channels of c·ρ."""
    if len(space.blocks) != 1:
        return None
    ((channels, base),) = space.blocks
    return torch.kron(torch.full((channels, channels), 1 / channels), torch.eye(base.dim)).to(like)


def _beside_bias(projection: Tensor) -> Tensor:
    """P on X ⊕ R, zero on the R that carries the bias."""
    return functional.pad(projection, (0, 1, 0, 1))


def unseen_inputs(x: Tensor, rho: Representation | None = None) -> Tensor | None:
    """Projection onto the orthogonal complement of span{x} or, with ρ, of the G-span of the data; None if zero."""
    gram = x.mT @ x / len(x)
    if rho is not None:
        # The G-span is the smallest subspace that holds the data and is fixed by the generators.
        basis, rank = _range(gram), -1
        while basis.shape[1] > rank and rank < gram.shape[0]:
            rank = basis.shape[1]
            moved = [basis] + [rho.act(g, basis, 0) for g in rho.group.generators]
            stacked = torch.cat(moved, dim=1)
            basis = _range(stacked @ stacked.mT)
    else:
        basis = _range(gram)
    if basis.shape[1] == gram.shape[0]:
        return None
    return torch.eye(gram.shape[0], dtype=x.dtype, device=x.device) - basis @ basis.mT


def _range(gram: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(gram)
    return vectors[:, values > 1e-12 * values[-1]]


def known_flat_families(model: Classifier, x: Tensor) -> tuple[FlatFamily, ...]:
    """The additive flat directions (docs/mathematics.md) that the architecture and the inputs tell in advance."""
    layers, sigmas = model.network.space.layers, model.network.nonlinearities
    families = []
    if model.loss is cross_entropy and all(part.name == "identity" for part in parts_of(sigmas[-1])):
        shift = torch.full((layers[-1].shape[0],) * 2, 1 / layers[-1].shape[0]).to(x)
        families.append(FlatFamily("softmax shift 1⊗v", len(layers) - 1, shift, None))
    for i, (layer, sigma) in enumerate(zip(layers, sigmas, strict=True)):
        first, last = parts_of(sigma)[0], parts_of(sigma)[-1]
        if isinstance(first, LayerNorm):
            families.append(FlatFamily("1⊗v before LayerNorm", i, _channel_mean(layer.target, x), None))
        if isinstance(last, LayerNorm) and i + 1 < len(layers):
            mean = _channel_mean(layer.target, x)
            mean = _beside_bias(mean) if mean is not None and model.network.affine[i + 1] else mean
            families.append(FlatFamily("w⊗1 after LayerNorm", i + 1, None, mean))
    unseen = unseen_inputs(model.network.entering(0, x), layers[0].source)
    if unseen is not None:
        families.append(FlatFamily("inputs unseen on the whole orbit of the data", 0, None, unseen))
    return tuple(families)


def exchange_directions(network: MLP, parameters: Tensor, weight_decay: float) -> Tensor:
    """Directions (M A_i, −A_{i+1} M) that trade between two layers without changing Φ, as rows (k, dim L).

    M runs over gl(h) where no σ lies between the layers, over the diagonal (one trade of scale for each unit) where σ
    is (leaky) ReLU, over the rotations of every copy by itself where σ knows it by its length only (norm, gated). Where
    no σ lies between two affine layers, b_i trades with b_{i+1} too. Φ is constant along all of these, so the Hessian
    of a risk maps them to zero where its gradient vanishes. With weight decay only the antisymmetric M, which leave
    the norms alone, remain.
    """
    space, rows = network.space, []
    for i, sigma in enumerate(network.nonlinearities[:-1]):
        names = {part.name for part in parts_of(sigma)}
        h = space.layers[i].shape[0]
        turns = weight_decay > 0  # antisymmetric M only
        if names <= {"identity"}:
            pairs = [(a, b) for a in range(h) for b in range(h) if a < b or not turns]
        elif names <= {"identity", *KINKED} and not turns:
            pairs = [(a, a) for a in range(h)]
        elif all(isinstance(part, (Norm, Gated, Identity)) for part in parts_of(sigma)):
            pairs, turns = _within_copies(space.layers[i].target), True
        else:
            continue
        weights = space.split(parameters)
        for a, b in pairs:
            moved = [torch.zeros_like(w) for w in weights]
            moved[i][a], moved[i + 1][:, b] = weights[i][b], -weights[i + 1][:, a]
            if turns:
                moved[i][b], moved[i + 1][:, a] = -weights[i][a], weights[i + 1][:, b]
            rows.append(space.join(moved))
        if names <= {"identity"} and network.affine[i] and network.affine[i + 1] and weight_decay == 0:
            for a in range(h):  # b_i + u e_a, b_{i+1} − A_{i+1} u e_a
                moved = [torch.zeros_like(w) for w in weights]
                moved[i][a, -1], moved[i + 1][:, -1] = 1.0, -weights[i + 1][:, a]
                rows.append(space.join(moved))
    return torch.stack(rows) if rows else parameters.new_zeros(0, space.dim)


def _within_copies(space: Representation) -> list[tuple[int, int]]:
    """Pairs a < b of coordinates of the same copy of a summand."""
    pairs: list[tuple[int, int]] = []
    start = 0
    for copies, base in space.blocks:
        for _ in range(copies):
            pairs += itertools.combinations(range(start, start + base.dim), 2)
            start += base.dim
    return pairs


def check_assumptions(model: Classifier, data: Samples, seed: int) -> dict[str, tuple[float, str]]:
    """Measured violations of Assumptions 1–3 and of ρ(gh) = ρ(g)ρ(h), each with where it is largest.

    Returns:
        name → (max absolute violation, where); matrices and samples are random, group elements the
        generators and two Haar samples.
    """
    network = model.network
    group = network.space.group
    rng = np.random.default_rng(seed)
    torch_rng = torch.Generator().manual_seed(seed)
    probes = [*group.generators, group.sample(rng), group.sample(rng)]
    spaces = [network.input] + [layer.target for layer in network.space.layers]
    worst = dict.fromkeys(("orthogonal", "homomorphism", "equivariant_nonlinearities", "invariant_loss"), (0.0, ""))

    def record(key: str, difference: Tensor, where: str) -> None:
        error = float(difference.abs().max())
        if not error <= worst[key][0]:  # a NaN is a violation
            worst[key] = (error, where)

    def gaussian(space: Representation, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(4, space.dim, generator=torch_rng, dtype=torch.float64)

    for i, space in enumerate(spaces):
        x, y = gaussian(space), gaussian(space)
        for g in probes:
            moved = space.act(g, x)
            where = f"X_{i} = {space.name}, g = {g}"
            record("orthogonal", moved @ space.act(g, y).mT - x @ y.mT, where)
            for h in probes:
                record(
                    "homomorphism",
                    space.act(group.multiply(g, h), x) - space.act(g, space.act(h, x)),
                    f"{where}, h = {h}",
                )
            if i > 0:
                sigma = network.nonlinearities[i - 1]
                record(
                    "equivariant_nonlinearities",
                    sigma(moved, space) - space.act(g, sigma(x, space)),
                    f"σ_{i - 1} = {sigma.name}, g = {g}",
                )
    y = data.y[: min(8, len(data.y))]
    prediction = torch.randn(len(y), model.output.dim, generator=torch_rng, dtype=torch.float64).to(data.x)
    for g in probes:
        moved_loss = model.losses(model.output.act(g, prediction), model.move_target(g, y))
        record("invariant_loss", moved_loss - model.losses(prediction, y), f"loss, g = {g}")
    return worst
