"""ROT: segment a triangle or a pentagon; quarter turns of the image turn the masks (paper, section 5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stability.groups import Cyclic, Dihedral, Group, images, rotations
from stability.networks.classifier import Classifier
from stability.networks.losses import two_masks
from stability.networks.network import mlp
from stability.networks.nonlinearities import Identity, LayerNorm, Pointwise
from stability.networks.supervised import supervised
from stability.problem.problem import Problem
from stability.tasks.data import Dataset, published_shapes, shapes
from stability.tasks.options import TEST_SAMPLES, TaskOptions, choose_group, prepare, train_size


@dataclass(frozen=True)
class Size:
    """Images of side × side pixels, hidden channels on ρ, training samples.

    Attributes:
        side: of the images, in pixels.
        channels: of the hidden layers, on ρ.
        samples: of the training set.
    """

    side: int
    channels: tuple[int, ...]
    samples: int


SIZES = {
    "small": Size(4, (4, 4), 300),
    "medium": Size(8, (4, 4), 500),
    "paper": Size(14, (32, 32, 16), 3000),
}
WEIGHT_DECAY = 1e-3


def rot(options: TaskOptions) -> Problem:
    """1 → … → 2 channels on ρ, one logit for each mask and pixel, sum of two binary cross-entropies.

    The published head, LayerNorm over the two channels, is nearly a sign with no gradient; the smooth
    variant leaves it out. With ``data_dir`` the published shapes serve, area-averaged to the size's side.
    """
    size = SIZES[options.size]
    n = size.side
    known: dict[str, Callable[[], Group]] = {"rotations": lambda: Cyclic(4), "dihedral": lambda: Dihedral(4)}
    name, group = choose_group(options.group, known, "rot")
    data, train = read(options, size)
    rho = rotations(group, n) if name == "rotations" else images(group, n)
    head = LayerNorm(options.epsilon) if options.variant == "published" else Identity()
    network = mlp(
        [1 * rho, *(c * rho for c in size.channels), 2 * rho],
        [*(Pointwise(options.sigma) for _ in size.channels), head],
    )
    samples, test = prepare(data, train, options)
    return supervised(
        "rot",
        Classifier(network, two_masks, target=2 * rho),
        samples,
        test,
        options.decay(WEIGHT_DECAY),
        [("data", data.source), ("digest", data.digest)],
    )


def read(options: TaskOptions, size: Size) -> tuple[Dataset, int]:
    """The images, and how many of them are to train on; the others are to test on."""
    if options.data_dir is not None:
        data = published_shapes(size.side, options.data_dir)
        return data, train_size(options, size.samples, len(data.inputs))
    train = options.samples or size.samples
    return shapes(size.side, train + TEST_SAMPLES, options.seed), train
