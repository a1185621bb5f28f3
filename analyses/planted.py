r"""Are planted representations found again in random networks?

    python -m analyses.planted [--networks 1000] [--out reports/planted]

A network is drawn: a group, a representation on its input, hidden representations that are sums of the trivial, the
natural and the regular one, weights that are Gaussian, projected onto E; then its channels are shuffled, so that
no order tells anything. ``stability.infer`` sees weights, data and the action on inputs. A network counts as found
where the matrices of every generator on every hidden layer are those planted. The same with noise of a share of the
norm on every weight, where the distance that is reported is held against the one that was planted.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from stability.base.storage import prepare_folder, write
from stability.groups import (
    Cyclic,
    Dihedral,
    Group,
    PermutationRepresentation,
    Representation,
    Symmetric,
    TensorProduct,
    permutation,
    regular,
    square_lattice,
    torus,
    trivial,
)
from stability.inference.infer import infer
from stability.inference.search import projected

NOISES = (0.0, 0.01, 0.1)
VECTORS: tuple[Group, ...] = (
    Cyclic(2),
    Cyclic(3),
    Cyclic(4),
    Cyclic(5),
    Dihedral(3),
    Dihedral(4),
    Symmetric(3),
    torus(2),
)
IMAGES: tuple[Group, ...] = (Cyclic(4), Dihedral(4))


@dataclass(frozen=True)
class Row:
    """One network.

    Attributes:
        seed: it was drawn with.
        group: its name.
        network: "vectors" or "images".
        hidden: dimensions of its hidden representations.
        noise: on every weight, as a share of its norm.
        found: whether every hidden representation is the planted one.
        planted: the largest ‖W − ΠW‖/‖W‖ of a layer under the planted representations.
        reported: under those found.
    """

    seed: int
    group: str
    network: str
    hidden: str
    noise: float
    found: bool
    planted: float
    reported: float


@dataclass(frozen=True)
class Planted:
    """A network with known representations.

    Attributes:
        module: the network.
        data: inputs and labels.
        action: what ``infer`` is given: a group, or a representation.
        hidden: the representations of hidden layers.
        distance: the largest ‖W − ΠW‖/‖W‖ of a layer.
    """

    module: nn.Module
    data: tuple[Tensor, Tensor]
    action: Group | Representation
    hidden: tuple[Representation, ...]
    distance: float


def shuffled(rho: Representation, rng: np.random.Generator) -> PermutationRepresentation:
    """The same representation by permutations with its points in another order."""
    order = rng.permutation(rho.dim)
    back = np.argsort(order)
    return PermutationRepresentation(rho.group, rho.dim, lambda g: order[rho.index(g)[back]], f"shuffled {rho.name}")


class Summed(Representation):
    """ρ ⊕ σ of permutations, with its index."""

    def __init__(self, parts: Sequence[Representation]) -> None:
        self.parts = parts
        self.group, self.name = parts[0].group, " + ".join(p.name for p in parts)
        self.dim, self.is_permutation = sum(p.dim for p in parts), True

    def index(self, g: object) -> np.ndarray:
        """p_g of the parts, one behind the other."""
        starts = np.cumsum([0, *(p.dim for p in self.parts)])
        return np.concatenate([start + p.index(g) for start, p in zip(starts, self.parts, strict=False)])

    def matrix(self, g: object) -> np.ndarray:
        """The permutation matrix."""
        found = np.zeros((self.dim, self.dim))
        found[self.index(g), np.arange(self.dim)] = 1.0
        return found


def drawn(group: Group, rng: np.random.Generator) -> Representation:
    """A sum of one to three of the regular, the natural and the trivial representation, one of them faithful."""
    faithful = [regular(group), *([permutation(group)] if isinstance(group, Symmetric) else [])]
    parts = [faithful[rng.integers(len(faithful))]]
    for _ in range(rng.integers(0, 3)):
        parts.append([*faithful, trivial_of(group)][rng.integers(len(faithful) + 1)])
    return shuffled(Summed(parts), rng)


def trivial_of(group: Group) -> PermutationRepresentation:
    """One point that stays, as a representation by permutations."""
    return PermutationRepresentation(group, 1, lambda g: np.array([0]), "stays")


def set_weights(layer: nn.Linear | nn.Conv2d, source: Representation, target: Representation, noise: float) -> float:
    """Gaussian weights projected onto E, with noise; ‖W − ΠW‖/‖W‖."""
    one = trivial(source.group)
    shape = layer.weight.shape
    worst = 0.0
    for tensor, rho in ((layer.weight, source), (layer.bias, one)):
        matrix = torch.randn(shape[0], rho.dim, dtype=torch.float64)
        matrix = projected(matrix, rho, target)
        push = torch.randn(matrix.shape, dtype=torch.float64)
        matrix = matrix + noise * matrix.norm() / push.norm() * push
        tensor.data = matrix.reshape(tensor.shape)
        worst = max(worst, float((matrix - projected(matrix, rho, target)).norm() / matrix.norm()))
    return worst


def planted(seed: int, noise: float = 0.0) -> Planted:
    """The network of a seed."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    images = bool(rng.integers(4) == 0)
    groups = IMAGES if images else VECTORS
    group = groups[rng.integers(len(groups))]
    hidden = tuple(drawn(group, rng) for _ in range(rng.integers(1, 4)))
    labels = torch.arange(6) % 2
    if images:
        lattice = square_lattice(group)
        reps = [trivial(group), *hidden]
        convolutions = [nn.Conv2d(a.dim, b.dim, 3, padding=1).double() for a, b in pairwise(reps)]
        grid = lattice((3, 3))
        distance = max(
            set_weights(conv, TensorProduct(a, grid), b, noise)
            for conv, (a, b) in zip(convolutions, pairwise(reps), strict=True)
        )
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(reps[-1].dim, 2).double()]
        distance = max(distance, set_weights(head[-1], reps[-1], 2 * trivial(group), noise))
        parts = [part for conv in convolutions for part in (conv, nn.GELU())]
        x = torch.randn(6, 1, 5, 5, dtype=torch.float64)
        return Planted(nn.Sequential(*parts, *head), (x, labels), group, hidden, distance)
    reps = [drawn(group, rng), *hidden, 2 * trivial(group)]
    linear = [nn.Linear(a.dim, b.dim).double() for a, b in pairwise(reps)]
    distance = max(set_weights(layer, a, b, noise) for layer, (a, b) in zip(linear, pairwise(reps), strict=True))
    parts = [part for layer in linear for part in (layer, nn.GELU())][:-1]
    x = torch.randn(6, reps[0].dim, dtype=torch.float64)
    return Planted(nn.Sequential(*parts), (x, labels), reps[0], hidden, distance)


def row(seed: int, noise: float) -> Row:
    """One network, drawn and looked at."""
    case = planted(seed, noise)
    result = infer(case.module, case.data, case.action)
    group = result.group
    pairs = zip(case.hidden, result.layers, strict=False)
    same = all(np.array_equal(rho.matrix(g), one.guess.rho.matrix(g)) for rho, one in pairs for g in group.generators)
    kind = "images" if isinstance(case.action, Group) else "vectors"
    sizes = " ".join(str(rho.dim) for rho in case.hidden)
    return Row(seed, group.name, kind, sizes, noise, same, case.distance, result.distance)


def written(rows: Sequence[Row]) -> str:
    """The rows as CSV."""
    stream = io.StringIO()
    table = csv.DictWriter(stream, list(asdict(rows[0])), lineterminator="\n")
    table.writeheader()
    table.writerows({k: f"{v:.3g}" if isinstance(v, float) else v for k, v in asdict(one).items()} for one in rows)
    return stream.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    """Rows of all networks, and what share of them is found."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--networks", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("reports/planted"))
    options = parser.parse_args(arguments)
    prepare_folder(options.out)
    rows: list[Row] = []
    for noise in NOISES:
        some = [row(seed, noise) for seed in tqdm(range(options.networks), disable=None)]
        rows += some
        write(options.out / "planted.csv", written(rows))
        share = 100 * sum(one.found for one in some) / len(some)
        off = max(abs(one.reported - one.planted) for one in some if one.found)
        print(f"noise {noise:g}: {share:.1f} % of {len(some)} found; distance off by at most {off:.1e}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
