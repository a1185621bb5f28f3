"""Which network? Nonlinearities, losses, perceptrons over representations, and users' modules."""

from stability.networks.classifier import Classifier
from stability.networks.losses import cross_entropy, logistic, squared, two_masks
from stability.networks.network import MLP, mlp, random_start, with_one
from stability.networks.nonlinearities import Chain, Gated, Identity, LayerNorm, Nonlinearity, Norm, Pointwise
from stability.networks.persample import per_sample, probing, takes_all
from stability.networks.supervised import checked, supervised
from stability.networks.symmetries import check_assumptions, exchange_directions, known_flat_families, unseen_inputs

__all__ = [
    "MLP",
    "Chain",
    "Classifier",
    "Gated",
    "Identity",
    "LayerNorm",
    "Nonlinearity",
    "Norm",
    "Pointwise",
    "check_assumptions",
    "checked",
    "cross_entropy",
    "exchange_directions",
    "known_flat_families",
    "logistic",
    "mlp",
    "per_sample",
    "probing",
    "random_start",
    "squared",
    "supervised",
    "takes_all",
    "two_masks",
    "unseen_inputs",
    "with_one",
]
