r"""One product as the work of many processes: ∇²R, or a block B_λ, summed over shards of the samples.

R = Σ_s w_s ℓ_s + μ/2‖·‖² is a sum over samples, so with shards S_1 … S_n of them

    B_λ v = Σ_i B_λ^{S_i} v + μ v

and every term is linearised once, in the process that holds its shard. For problems of few sectors and many samples;
where sectors outnumber processes, whole sectors spread better (:mod:`stability.base.cluster`).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from safetensors.torch import load, save
from torch import Tensor

from stability.base.cluster import Pool, digest, remember
from stability.base.errors import BadInput
from stability.curvature.at import At
from stability.curvature.automatic import equivariant_hessian, nominal_hessian
from stability.eigen.operator import Operator
from stability.groups import Irrep
from stability.problem.problem import Problem, single
from stability.problem.space import Samples
from stability.spectra.sectors import by_name
from stability.tasks.recipe import Recipe, Source, problem_of

# Bytes of vectors that travel at once.
MESSAGE = 1e8


def shard(samples: Samples, index: int, count: int) -> Samples:
    """Consecutive samples, one share of ``count``; the losses of all shares add up.

    Raises:
        BadInput: more shares than samples.
    """
    if not 1 <= count <= len(samples):
        raise BadInput(f"{count} shards of {len(samples)} samples; give a number from 1 to {len(samples)}")
    edges = [len(samples) * i // count for i in range(count + 1)]
    return Samples(*(part[edges[index] : edges[index + 1]] for part in samples))


def _operator(problem: Problem, at: Tensor, irrep: str | None, index: int, count: int) -> Operator:
    """The term of one shard, without the decay."""
    part = replace(problem, samples=shard(problem.samples, index, count), weight_decay=0.0)
    if at.dtype == torch.float32 and problem.samples.x.dtype == torch.float64:
        part = single(part)
    if irrep is None:
        return nominal_hessian(part, at)
    found = by_name(problem.group, irrep)
    if found.is_trivial and not problem.written:
        return equivariant_hessian(part, at)
    return At(part, at).block(found)


def shard_product(source: Source, at: bytes, irrep: str | None, index: int, count: int, v: bytes | None) -> bytes:
    """Inside a worker: the products of one shard, linearised once a process and point; its gradient without ``v``."""
    point = load(at)["at"]
    named = source if isinstance(source, Recipe) else id(source)
    key = ("shard", named, digest(point), irrep, index, count)
    operator = remember(key, lambda: _operator(problem_of(source), point, irrep, index, count))
    return save({"product": operator.gradient if v is None else operator(load(v)["v"])})


def sharded_hessian(pool: Pool, source: Source, at: Tensor, shards: int, irrep: Irrep | None = None) -> Operator:
    """∇²R on L, or B_λ on a sector: every product is a sum over shards of the samples, each the work of one process.

    Sums are taken in the order of the shards, so a product does not depend on who was first.

    Args:
        pool: whose processes they are.
        source: the problem.
        at: A ∈ L, or with an irrep the coordinates θ of a point of E; in float32 the products are, too.
        shards: how many.
        irrep: λ, the trivial one for E; None for L.

    Raises:
        BadInput: more shards than samples.
    """
    problem, handle = problem_of(source), pool.share(source)
    shard(problem.samples, 0, shards)
    name = None if irrep is None else irrep.name
    point = pool.share(save({"at": at.detach().cpu().contiguous()}))

    def gather(v: bytes | None) -> Tensor:
        jobs = [(handle, point, name, index, shards, v) for index in range(shards)]
        found = dict(pool.run(shard_product, jobs, "shards", quiet=True, settled=True))
        return sum((load(found[index])["product"] for index in range(shards)), torch.zeros((), dtype=at.dtype)).to(at)

    def apply(v: Tensor) -> Tensor:
        return problem.weight_decay * v + gather(save({"v": v.detach().cpu().contiguous()}))

    if irrep is None:
        gradient = gather(None) + problem.weight_decay * at
        return Operator(len(at), apply, f"∇²R in {shards} shards", batch=64, gradient=gradient)
    dim = sum(layer.size(irrep) for layer in problem.space.layers)
    batch = max(1, min(64, int(MESSAGE // (8 * max(dim, 1)))))
    return Operator(dim, apply, f"B_{irrep.name} in {shards} shards", cost=irrep.dim, batch=batch)
