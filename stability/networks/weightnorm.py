"""weight_norm written out, W = s V/|V| row by row: torch's fused form has no forward derivative of its gradient."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.weight_norm import WeightNorm

FUSED = "_WeightNorm"


def normed(size: Tensor, direction: Tensor, dim: int) -> Tensor:
    """s V/|V|, norms over all axes but ``dim``, over all for dim = −1.

    >>> import torch
    >>> normed(torch.tensor([[2.0]]), torch.tensor([[3.0, 4.0]]), 0).tolist()
    [[1.2000000476837158, 1.600000023841858]]
    """
    if dim == -1:
        return size * direction / direction.square().sum().sqrt()
    axes = [axis for axis in range(direction.ndim) if axis != dim % direction.ndim]
    return size * direction / direction.square().sum(axes, keepdim=True).sqrt()


class Normed(nn.Module):
    """The parametrisation of ``torch.nn.utils.parametrizations.weight_norm``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, size: Tensor, direction: Tensor) -> Tensor:
        """The weight g v/‖v‖, of ``size`` g and ``direction`` v."""
        return normed(size, direction, self.dim)


class NormedHook(WeightNorm):
    """The hook of ``torch.nn.utils.weight_norm``."""

    def compute_weight(self, module: nn.Module) -> Tensor:
        """The weight g v/‖v‖ of the module's own two parameters."""
        return normed(getattr(module, f"{self.name}_g"), getattr(module, f"{self.name}_v"), self.dim)


def chains(module: nn.Module) -> dict[str, parametrize.ParametrizationList]:
    """How the tensors of a module are computed, by their names."""
    held = module.parametrizations
    kinds = held.items() if isinstance(held, nn.ModuleDict) else ()
    return {name: chain for name, chain in kinds if isinstance(chain, parametrize.ParametrizationList)}


def is_normed(module: nn.Module) -> bool:
    """Whether a module's weight is computed by this parametrisation alone."""
    kinds = [type(part) for part in chains(module)["weight"]]
    return len(kinds) == 1 and (kinds[0] is Normed or kinds[0].__name__ == FUSED)


def write_out(module: nn.Module) -> None:
    """Replace torch's form by this one, in a copy that is ours."""
    one: Any  # torch's class is private
    for part in module.modules():
        if parametrize.is_parametrized(part):
            for chain in chains(part).values():
                for number, one in enumerate(chain):
                    if type(one).__name__ == FUSED:
                        chain[number] = Normed(one.dim)
        for hook in part._forward_pre_hooks.values():
            if type(hook) is WeightNorm:
                hook.__class__ = NormedHook
