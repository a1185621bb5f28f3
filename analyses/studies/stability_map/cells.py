"""The places of the maps, and the problem at each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from stability.groups import Cyclic, Group, Symmetric, permutation, rotations, roto_translations, torus, trivial
from stability.networks.classifier import Classifier
from stability.networks.losses import cross_entropy, logistic, two_masks
from stability.networks.network import mlp
from stability.networks.nonlinearities import Identity, Pointwise
from stability.networks.supervised import supervised
from stability.problem.problem import Problem
from stability.tasks import TaskOptions
from stability.tasks.data import digits, graphs, shapes
from stability.tasks.options import TEST_SAMPLES, prepare
from stability.tasks.trans import pixels

SIDE, NODES = 4, 5
GROUPS: dict[str, Group] = {
    "rotations": Cyclic(4),
    "rows": Cyclic(SIDE),
    "torus": torus(SIDE),
    "roto-translations": roto_translations(SIDE),
}


@dataclass(frozen=True)
class Cell:
    """One place of a map.

    Attributes:
        task: digits, graphs or shapes.
        width: channels of every hidden layer.
        decay: μ.
        depth: hidden layers.
        samples: to train on.
        group: for digits.
    """

    task: str
    width: int = 2
    decay: float = 1e-3
    depth: int = 1
    samples: int = 200
    group: str = "torus"


@dataclass(frozen=True)
class Map:
    """Cells that are compared, and along what."""

    cells: tuple[Cell, ...]
    along: tuple[str, ...]


WIDTHS, DECAYS = (1, 2, 4, 8), (1e-4, 1e-3, 1e-2, 1e-1)
BASE = {"digits": Cell("digits"), "graphs": Cell("graphs"), "shapes": Cell("shapes")}
MAPS = {
    "digits": Map(tuple(replace(BASE["digits"], width=w, decay=d) for d in DECAYS for w in WIDTHS), ("width", "decay")),
    "graphs": Map(
        tuple(replace(BASE["graphs"], width=w, decay=d) for d in DECAYS[:3] for w in WIDTHS[:3]), ("width", "decay")
    ),
    "shapes": Map(
        tuple(replace(BASE["shapes"], width=w, decay=d) for d in DECAYS[:3] for w in WIDTHS[:2]), ("width", "decay")
    ),
    "group": Map(tuple(replace(BASE["digits"], group=g) for g in GROUPS), ("group",)),
    "depth": Map(tuple(replace(BASE["digits"], depth=d) for d in (1, 2)), ("depth",)),
    "samples": Map(tuple(replace(BASE["digits"], samples=n) for n in (25, 50, 100, 200, 400)), ("samples",)),
}
TRAINING = "training"
EPOCHS, STEP = (0, 3, 10, 30, 100, 300, 1000), 0.1


@lru_cache(maxsize=4)
def problem_of(cell: Cell) -> Problem:
    """The network and its data."""
    options = TaskOptions(samples=cell.samples)
    if cell.task == "graphs":
        group, data = Symmetric(NODES), graphs(NODES, cell.samples + TEST_SAMPLES, 0, 0.7, 0.2)
        node = permutation(group, f"R^{NODES}")
        rho, output, loss, target = node * node, 1 * trivial(group), logistic, None
    elif cell.task == "shapes":
        group, data = Cyclic(4), shapes(SIDE, cell.samples + TEST_SAMPLES, 0)
        rho = rotations(group, SIDE)
        output, loss, target = 2 * rho, two_masks, 2 * rho
    else:
        group, data = GROUPS[cell.group], digits(SIDE, cell.samples + TEST_SAMPLES, 0)
        rho, output, loss, target = pixels(cell.group, group, SIDE), 10 * trivial(group), cross_entropy, None
    hidden = [cell.width * rho] * cell.depth
    network = mlp([1 * rho, *hidden, output], [*[Pointwise("tanh")] * cell.depth, Identity()])
    train, test = prepare(data, cell.samples, options)
    return supervised(cell.task, Classifier(network, loss, target), train, test, cell.decay)


def problem_name(cell: Cell) -> str:
    """The group of a cell."""
    return {"graphs": f"S_{NODES}", "shapes": "C_4"}.get(cell.task) or GROUPS[cell.group].name
