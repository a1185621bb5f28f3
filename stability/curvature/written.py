r"""Fused operations of torch whose second derivatives are wrong, missing or cannot be vectorised, in elementary ones.

    group_norm, layer_norm   y = (x − mean)/√(var + ε)·w + b
    weight_norm              w = g v/‖v‖
    cdist                    ‖x_i − y_j‖_p
    attention                softmax(QKᵀ/√d + mask)V, by torch's own kernel of elementary operations

Values differ by rounding; what is gained is a derivative that is composed of right ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode


def _normalised(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True) + eps).sqrt()


def group_norm(
    x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, *_: Any
) -> Tensor:
    """(y − mean)/√(var + ε) over each group of channels of each sample, times weight, plus bias by channel."""
    y = _normalised(x.reshape(x.shape[0], groups, -1), (-1,), eps).reshape(x.shape)
    shape = (1, -1) + (1,) * (x.ndim - 2)
    y = y if weight is None else y * weight.reshape(shape)
    return y if bias is None else y + bias.reshape(shape)


def layer_norm(
    x: Tensor,
    shape: tuple[int, ...],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: Any,
) -> Tensor:
    """(x − mean)/√(var + ε) over the last ``len(shape)`` axes, times weight, plus bias."""
    y = _normalised(x, tuple(range(-len(shape), 0)), eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """g v/‖v‖, the norm over all axes but ``dim``; over all of them for dim = −1."""
    axes = [axis for axis in range(v.ndim) if axis != dim % v.ndim] if dim != -1 else list(range(v.ndim))
    return v * (g / v.square().sum(axes, keepdim=True).sqrt())


def cdist(x: Tensor, y: Tensor, p: float = 2.0, *_: Any, **__: Any) -> Tensor:
    """‖x_i − y_j‖_p for all pairs of rows, (…, n, m)."""
    return torch.linalg.vector_norm(x.unsqueeze(-2) - y.unsqueeze(-3), p, dim=-1)


INSTEAD: dict[Any, Callable[..., Tensor]] = {
    functional.group_norm: group_norm,
    torch.group_norm: group_norm,
    functional.layer_norm: layer_norm,
    torch.layer_norm: layer_norm,
    torch._weight_norm: weight_norm,
    torch.cdist: cdist,
}


class _WrittenOut(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        instead = INSTEAD.get(function)
        return function(*args, **kwargs) if instead is None else instead(*args, **_renamed(function, kwargs))


def _renamed(function: Any, kwargs: dict) -> dict:
    """Keyword arguments under the names used here."""
    names = {
        "input": "x", "num_groups": "groups", "normalized_shape": "shape", "x1": "x", "x2": "y",
    }  # fmt: skip
    return {names.get(key, key): value for key, value in kwargs.items() if key not in ("cudnn_enabled", "cudnn_enable")}


def written_out(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The loss with fused operations written out."""

    def evaluated(*arguments: Any) -> Tensor:
        with _WrittenOut(), sdpa_kernel(SDPBackend.MATH):
            return loss(*arguments)

    return evaluated
