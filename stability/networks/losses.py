"""Losses, sample by sample."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from stability.networks.nonlinearities import softplus


def squared(prediction: Tensor, y: Tensor) -> Tensor:
    """½|prediction − y|²."""
    return 0.5 * (prediction - y).square().sum(-1)


def cross_entropy(prediction: Tensor, y: Tensor) -> Tensor:
    """−log softmax(prediction)_y for classes y (n)."""
    return functional.cross_entropy(prediction, y, reduction="none")


def logistic(prediction: Tensor, y: Tensor) -> Tensor:
    """Binary cross-entropy of logits, in the softplus form, averaged over dim Y.

    softplus(z) − y z; ``binary_cross_entropy_with_logits`` goes wrong under torch.func.linearize.
    """
    target = y.to(prediction.dtype).reshape(prediction.shape)
    return (softplus(prediction) - target * prediction).mean(-1)


def two_masks(prediction: Tensor, y: Tensor) -> Tensor:
    """Sum of two binary cross-entropies, each averaged over the pixels of its mask."""
    return 2 * logistic(prediction, y)
