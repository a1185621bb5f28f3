"""The same network and the same product in other tools, and the floor that none can go below."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from stability.problem.problem import Problem


class Dense(nn.Module):
    """The network of a problem at dense weights A, as other tools want it: an ``nn.Module``."""

    def __init__(self, problem: Problem, at: Tensor) -> None:
        super().__init__()
        self.network = problem.model.network
        self.weights = nn.ParameterList([w.clone() for w in problem.space.split(at)])

    def forward(self, x: Tensor) -> Tensor:
        """Evaluates it."""
        for layer, weight, sigma in zip(
            self.network.space.layers, self.weights, self.network.nonlinearities, strict=True
        ):
            x = sigma(x @ weight.mT, layer.target)
        return x


class MeanLoss(nn.Module):
    """The problem's loss, averaged over samples."""

    reduction = "mean"

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.losses = problem.model.losses

    def forward(self, prediction: Tensor, y: Tensor) -> Tensor:
        """Evaluates it."""
        return self.losses(prediction, y).mean()


def peers(problem: Problem, at: Tensor) -> tuple[dict[str, Callable[[Tensor], Tensor]], dict[str, object], list[str]]:
    """v ↦ ∇²(mean loss)v of every peer that is installed, the peers' own objects, and the names of the missing."""
    x, y, _ = problem.samples
    products: dict[str, Callable[[Tensor], Tensor]] = {}
    objects: dict[str, object] = {}
    missing = []

    def load_peer(name: str, module: str, make: Callable) -> None:
        try:
            found = importlib.import_module(module)
        except ImportError as error:
            missing.append(f"{name} ({error})")
            return
        products[name], objects[name] = make(found, Dense(problem, at))

    def of_pyhessian(module, model: Dense):
        one = module.hessian(model, MeanLoss(problem), data=(x, y), cuda=False)
        weights = list(model.parameters())

        def product(v: Tensor) -> Tensor:
            parts = [p.reshape(w.shape) for p, w in zip(v.split([w.numel() for w in weights]), weights, strict=True)]
            return parameters_to_vector(module.hessian_vector_product(one.gradsH, one.params, parts))

        return product, one

    def of_eigenthings(module, model: Dense):
        criterion = module.supervised_loss(MeanLoss(problem))
        operator = module.HessianOperator(model, [(x, y)], criterion)
        return operator.matvec, operator

    def of_curvlinops(module, model: Dense):
        operator = module.HessianLinearOperator(
            model, MeanLoss(problem), list(model.parameters()), [(x, y)], check_deterministic=False
        )
        return lambda v: operator @ v, operator

    load_peer("PyHessian", "pyhessian", of_pyhessian)
    load_peer("hessian-eigenthings", "hessian_eigenthings", of_eigenthings)
    load_peer("curvlinops", "curvlinops", of_curvlinops)
    return products, objects, missing


def floor(problem: Problem, vectors: int) -> Callable[[], object]:
    """The matrix products of ``vectors`` nominal products: two for the first layer, six for each of the others."""
    n = len(problem.samples.x)
    jobs = []
    for i, layer in enumerate(problem.space.layers):
        rows, columns = layer.shape
        a = torch.randn(rows * vectors, columns, dtype=torch.float64)
        b = torch.randn(columns, n, dtype=torch.float64)
        jobs.append((2 if i == 0 else 6, a, b, torch.empty(rows * vectors, n, dtype=torch.float64)))

    def run() -> None:
        for times, a, b, out in jobs:
            for _ in range(times):
                torch.mm(a, b, out=out)

    return run
