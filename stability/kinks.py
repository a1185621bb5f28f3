r"""How near a network's pre-activations come to kinks of its nonlinearities, read off its tensor operations.

    margin = min |distance to the kink| / root mean square of the activation

A dispatch mode sees every operation of a forward pass, whether it is a module or a function.

>>> import torch
>>> kink_margin(lambda: torch.relu(torch.tensor([0.5, -2.0])))
0.34299716353416443
>>> kink_margin(lambda: torch.tanh(torch.ones(2))) is None
True
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
AT_ZERO = {
    aten.relu.default, aten.relu_.default, aten.leaky_relu.default, aten.leaky_relu_.default, aten.abs.default,
    aten.prelu.default, aten._prelu_kernel.default, aten.elu.default, aten.elu_.default, aten.celu.default,
}  # fmt: skip
# (operation, points where it bends, of its arguments)
AT_POINTS: dict[Any, Callable[[tuple, dict], list[float]]] = {
    aten.hardtanh.default: lambda a, k: [a[1] if len(a) > 1 else -1.0, a[2] if len(a) > 2 else 1.0],
    aten.hardtanh_.default: lambda a, k: [a[1] if len(a) > 1 else -1.0, a[2] if len(a) > 2 else 1.0],
    aten.hardswish.default: lambda a, k: [-3.0, 3.0],
    aten.hardsigmoid.default: lambda a, k: [-3.0, 3.0],
    aten.threshold.default: lambda a, k: [a[1]],
    aten.clamp.default: lambda a, k: [v for v in (*a[1:3], *k.values()) if v is not None],
    aten.clamp_min.default: lambda a, k: [a[1]],
    aten.clamp_max.default: lambda a, k: [a[1]],
}
LARGEST = {aten.max.dim, aten.amax.default, aten.min.dim, aten.amin.default}


class _Kinks(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.margins: list[float] = []

    def __torch_dispatch__(self, op: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        distance = _distance(op, args, kwargs)
        if distance is not None and distance.numel():
            scale = args[0].square().mean().sqrt().clamp_min(1e-300)
            self.margins.append(float(distance.min() / scale))
        return op(*args, **kwargs)


def _distance(op: Any, args: tuple, kwargs: dict) -> Tensor | None:
    """Distances of an operation's inputs to where it bends; None for a smooth one."""
    if op in AT_ZERO:
        return args[0].abs()
    if op in AT_POINTS:
        bends = AT_POINTS[op](args, kwargs)
        return torch.stack([(args[0] - b).abs() for b in bends]) if bends else None
    if op in LARGEST and len(args) > 1:
        axes = [args[1]] if isinstance(args[1], int) else list(args[1])
        x = args[0] if op in (aten.max.dim, aten.amax.default) else -args[0]
        kept = [i for i in range(x.ndim) if i not in [a % x.ndim for a in axes]]
        rows = x.permute(*kept, *[a % x.ndim for a in axes]).flatten(len(kept)) if axes else x.flatten()
        return _gap(rows)
    if op is aten.max_pool2d_with_indices.default:
        return _pool_gap(*args)
    return None


def _gap(rows: Tensor) -> Tensor | None:
    """Largest less second largest entry along the last axis."""
    if rows.shape[-1] < 2:
        return None
    best = rows.topk(2, dim=-1).values
    return best[..., 0] - best[..., 1]


def _pool_gap(
    x: Tensor,
    size: list[int],
    stride: list[int] | None = None,
    padding: list[int] | int = 0,
    dilation: list[int] | int = 1,
    *_: Any,
) -> Tensor | None:
    padding = [padding] * 2 if isinstance(padding, int) else list(padding) * (2 // len(padding))
    padded = functional.pad(x, (padding[1], padding[1], padding[0], padding[0]), value=-1e300)
    windows = functional.unfold(padded.flatten(0, -3).unsqueeze(1), size, dilation, 0, stride or size)
    return _gap(windows.transpose(1, 2))


def kink_margin(run: Callable[[], object]) -> float | None:
    """The smallest relative distance to a kink in all that ``run`` computes; None when nothing bends."""
    seen = _Kinks()
    with torch.no_grad(), seen:
        run()
    return min(seen.margins) if seen.margins else None
