r"""Three networks of one shape under C_4: free kernels, kernels of a group convolution, and relaxed ones.

    plain    K free, (4c, 1, 3, 3) and (4c, 4c, 3, 3): c copies of the regular representation in every hidden layer
    group    K in E: K[g, h](x) = ψ[h − g](r⁻ᵍx)
    relaxed  K[g, h](x) = Σ_l w_l(h) ψ_l[h − g](r⁻ᵍx),  w free, and w_l(g) in the first layer

ψ are the filter banks and w the mixing weights (relaxed group convolution, arXiv 2201.11969). C_4 moves w by its
regular representation and leaves ψ alone, so that constant w is E of the relaxed network, a group convolution again.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from stability import from_module
from stability.groups import Cyclic, regular, rotations, trivial
from stability.problem.problem import Problem
from stability.problem.space import Samples
from stability.tasks.data import digits

SIDE, BANKS, CLASSES, TURNS = 8, 2, 10, 4
NETWORKS = ("plain", "group", "relaxed")
# As in the replayed experiment.
WEIGHT_DECAY = 4e-4


def logits(
    x: Tensor, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], head: tuple[Tensor, Tensor]
) -> Tensor:
    """Two convolutions with tanh, the first pooled, then the mean over the grid: images (n, 1, 8, 8) to (n, 10)."""
    x = nn.functional.avg_pool2d(torch.tanh(convolved(x, *first)), 2)
    x = torch.tanh(convolved(x, *second)).mean((2, 3))
    return nn.functional.linear(x, *head)


def convolved(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """A convolution with padding 1 as one matrix product, whose Hessian takes a third of the time."""
    columns = nn.functional.unfold(x, 3, padding=1)
    found = (kernel.flatten(1) @ columns) + bias[:, None]
    return found.reshape(len(x), len(kernel), *x.shape[2:])


class Plain(nn.Module):
    """Free kernels."""

    def __init__(self, copies: int) -> None:
        super().__init__()
        width = copies * TURNS
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = nn.functional.avg_pool2d(torch.tanh(self.first(x)), 2)
        return self.head(torch.tanh(self.second(x)).mean((2, 3)))


class Relaxed(nn.Module):
    """Banks of filters ψ and mixing weights w, which start at 1/√BANKS: equivariant."""

    def __init__(self, copies: int) -> None:
        super().__init__()
        self.first_bank = nn.Parameter(torch.randn(BANKS, copies, 1, 3, 3) / 3)
        self.second_bank = nn.Parameter(torch.randn(BANKS, copies, copies, TURNS, 3, 3) / (9 * copies * TURNS) ** 0.5)
        self.first_mix = nn.Parameter(torch.full((BANKS, TURNS), BANKS**-0.5))
        self.second_mix = nn.Parameter(torch.full((BANKS, TURNS), BANKS**-0.5))
        self.first_bias = nn.Parameter(torch.zeros(copies))
        self.second_bias = nn.Parameter(torch.zeros(copies))
        self.head = nn.Parameter(torch.randn(CLASSES, copies) / (copies * TURNS) ** 0.5)
        self.head_bias = nn.Parameter(torch.zeros(CLASSES))

    def kernels(self) -> tuple[Tensor, Tensor]:
        """Those of the two convolutions, (4c, 1, 3, 3) and (4c, 4c, 3, 3); channel (o, g) is number 4·o + g."""
        turns = range(TURNS)
        first = torch.stack([torch.rot90(self.first_bank, g, (-2, -1)) for g in turns], 2)
        first = torch.einsum("lg,logixy->ogixy", self.first_mix, first)
        rows = [torch.rot90(self.second_bank.roll(g, 3), g, (-2, -1)) for g in turns]
        second = torch.einsum("lh,logihxy->ogihxy", self.second_mix, torch.stack(rows, 2))
        width = self.head.shape[1] * TURNS
        return first.reshape(width, 1, 3, 3), second.reshape(width, width, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        first, second = self.kernels()
        b, c = (bias.repeat_interleave(TURNS) for bias in (self.first_bias, self.second_bias))
        return logits(x, (first, b), (second, c), (self.head.repeat_interleave(TURNS, 1), self.head_bias))


@lru_cache(maxsize=8)
def build(network: str, samples: int, seed: int, copies: int = 2) -> Problem:
    """The problem on digits in all four orientations, so that R is R^aug at every A; its start 0 is the module's."""
    data = digits(SIDE, samples, seed)
    x, y = torch.as_tensor(data.inputs).reshape(-1, 1, SIDE, SIDE), torch.as_tensor(data.targets)
    x = torch.cat([torch.rot90(x, k, (-2, -1)) for k in range(TURNS)])
    group = Cyclic(TURNS)
    one, hidden = trivial(group), copies * regular(group)
    torch.manual_seed(seed)
    if network == "relaxed":
        module: nn.Module = Relaxed(copies).double()
        reps = {key: p.numel() * one for key, p in module.named_parameters()}
        reps |= dict.fromkeys(("first_mix", "second_mix"), BANKS * regular(group))
    else:
        module = Plain(copies).double()
        reps = {"first": (one, hidden), "second": (hidden, hidden), "head": (hidden, CLASSES * one)}
    problem = from_module(
        module,
        nn.CrossEntropyLoss(),
        (x, y.repeat(TURNS)),
        reps,
        input=rotations(group, SIDE),
        output=CLASSES * one,
        weight_decay=WEIGHT_DECAY,
        name=network,
    )
    if network == "relaxed":
        return problem

    def loss(at: Tensor, samples: Samples) -> Tensor:
        shaped = [w.reshape(layer.tensor_shape) for w, layer in zip(at.split(sizes), layers, strict=True)]
        scores = logits(samples.x.reshape(-1, 1, SIDE, SIDE), *zip(shaped[::2], shaped[1::2], strict=True))
        return samples.weight @ nn.functional.cross_entropy(scores, samples.y, reduction="none")

    layers = problem.space.layers
    sizes = [layer.dim for layer in layers]
    return replace(problem, loss=loss)
