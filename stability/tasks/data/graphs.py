"""Random graphs of two blocks, labelled by whether they are connected."""

from __future__ import annotations

import numpy as np

from stability.base.errors import BadInput
from stability.tasks.data.dataset import Dataset, require_whole

# A connected graph has λ₂ ≥ 4/(n·diameter) ≥ 4/n² (Mohar 1991); a zero comes out as some n·1e-16. This lies between
# the two, and far from both, for any n whose matrices fit.
CONNECTED_ABOVE = 1e-9


def graphs(nodes: int, count: int, seed: int, p_inside: float = 0.5, p_across: float = 0.05) -> Dataset:
    """Stochastic block model: edge {i, j} with probability p_inside if i, j share a block, else p_across; no loops.

    The blocks have nodes//2 and nodes − nodes//2 members, and every graph's nodes are relabelled by a uniform random
    permutation. inputs (count, nodes·nodes) float64: symmetric 0/1 adjacency matrices, row by row; targets (count,)
    int64: 1 iff the second smallest Laplacian eigenvalue exceeds 1e-9, that is, the graph is connected.

    Raises BadInput if nodes < 2, count < 1, seed < 0 or a probability is outside [0, 1].
    Source: arXiv 2303.13458, experiment PERM.

    >>> graphs(nodes=2, count=1, seed=0, p_across=1).inputs
    array([[0., 1., 1., 0.]])
    """
    require_whole("nodes", nodes, 2)
    require_whole("count", count, 1)
    require_whole("seed", seed, 0)
    for name, p in (("p_inside", p_inside), ("p_across", p_across)):
        if not 0 <= p <= 1:
            raise BadInput(f"{name} is {p}; give a probability from 0 to 1")
    rng = np.random.default_rng(seed)
    adjacency = relabelled(block_adjacency(nodes, count, p_inside, p_across, rng), rng)
    source = (
        f"{count:,} random graphs of {nodes} nodes in two blocks ({nodes // 2} + {nodes - nodes // 2}), "
        f"edge probability {p_inside:g} inside and {p_across:g} across, nodes shuffled, seed {seed}"
    )
    return Dataset.of(adjacency.reshape(count, nodes * nodes), connected(adjacency).astype(np.int64), source)


def block_adjacency(nodes: int, count: int, p_inside: float, p_across: float, rng: np.random.Generator) -> np.ndarray:
    """(count, nodes, nodes) adjacency matrices, the first nodes//2 nodes forming the first block."""
    block = np.arange(nodes) >= nodes // 2
    rows, columns = np.triu_indices(nodes, 1)
    p = np.where(block[rows] == block[columns], p_inside, p_across)
    adjacency = np.zeros((count, nodes, nodes))
    adjacency[:, rows, columns] = adjacency[:, columns, rows] = rng.random((count, len(p))) < p
    return adjacency


def relabelled(adjacency: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A[π(i), π(j)] with an independent uniform permutation π for each (nodes, nodes) matrix A of the batch."""
    count, nodes, _ = adjacency.shape
    order = rng.permuted(np.tile(np.arange(nodes), (count, 1)), axis=1)
    return adjacency[np.arange(count)[:, None, None], order[:, :, None], order[:, None, :]]


def connected(adjacency: np.ndarray) -> np.ndarray:
    """λ₂(D − A) > 1e-9, D the diagonal of degrees, for a batch (count, nodes, nodes); booleans (count,)."""
    laplacian = np.eye(adjacency.shape[-1]) * adjacency.sum(-1, keepdims=True) - adjacency
    return np.linalg.eigvalsh(laplacian)[:, 1] > CONNECTED_ABOVE
