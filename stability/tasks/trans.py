"""TRANS: the class of a digit, which cyclic shifts of the image do not change (paper, section 5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stability.base.errors import BadInput
from stability.groups import (
    Cyclic,
    Group,
    PermutationRepresentation,
    images,
    rotations,
    roto_translations,
    torus,
    trivial,
)
from stability.networks.classifier import Classifier
from stability.networks.losses import cross_entropy
from stability.networks.network import mlp
from stability.networks.nonlinearities import Chain, Identity, LayerNorm, Pointwise
from stability.networks.supervised import supervised
from stability.problem.problem import Problem
from stability.tasks.data import digits
from stability.tasks.options import TEST_SAMPLES, TaskOptions, choose_group, prepare


@dataclass(frozen=True)
class Size:
    """Images of side × side pixels, channels on ρ, features behind the invariant layer, training samples.

    Attributes:
        side: of the images, in pixels.
        channels: of the hidden layers, on ρ.
        features: behind the invariant layer.
        samples: of the training set.
    """

    side: int
    channels: tuple[int, int]
    features: int
    samples: int


SIZES = {
    "small": Size(5, (2, 2), 8, 400),
    "medium": Size(7, (4, 4), 16, 1000),
    "paper": Size(14, (32, 32), 32, 4000),
}
WEIGHT_DECAY = 3e-3


def trans(options: TaskOptions) -> Problem:
    """1 → c → c channels on ρ, then c → f trivial with tanh and LayerNorm(f), then f → 10, cross-entropy."""
    size = SIZES[options.size]
    n = size.side
    known: dict[str, Callable[[], Group]] = {
        "torus": lambda: torus(n),
        "rotations": lambda: Cyclic(4),
        "rows": lambda: Cyclic(n),
        "roto-translations": lambda: roto_translations(n),
    }
    group_name, group = choose_group(options.group, known, "trans")
    train = options.samples or size.samples
    try:
        data = digits(n, train + TEST_SAMPLES, options.seed, options.data_dir, TEST_SAMPLES)
    except BadInput as error:
        if options.samples is None:
            raise
        raise BadInput(f"--samples: {error}") from error
    rho, one = pixels(group_name, group, n), trivial(group)
    c1, c2 = size.channels
    sigma = Pointwise(options.sigma)
    network = mlp(
        [1 * rho, c1 * rho, c2 * rho, size.features * one, 10 * one],
        [sigma, sigma, Chain((Pointwise("tanh"), LayerNorm(options.epsilon))), Identity()],
    )
    samples, test = prepare(data, train, options)
    return supervised(
        "trans",
        Classifier(network, cross_entropy),
        samples,
        test,
        options.decay(WEIGHT_DECAY),
        [("data", data.source), ("digest", data.digest)],
    )


def pixels(name: str, group: Group, n: int) -> PermutationRepresentation:
    """The action of the named group on n × n images."""
    return rotations(group, n) if name == "rotations" else images(group, n)
