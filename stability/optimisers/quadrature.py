r"""Second moments of a sector too large to be diagonalised, by Lanczos quadrature from random starts.

    E sᵀf(B_λ)s = tr(Σ f(B_λ)),   s ~ (0, Σ),   sᵀf(B_λ)s ≈ ‖s‖² Σ_i w_i f(h_i)

with h_i, w_i the Ritz values and squared first entries of a Krylov run from s. Without preconditioner what is left of
a deviation and what the draws stir up are such traces, f = (M^k)_yy² and f = Σ_{t<k}(M^t k)_y² on one eigenvalue:
some dozens of products tell what the whole spectrum would.

Source: Golub and Meurant, Matrices, moments and quadrature (1994); Ubaru, Chen and Saad, Fast estimation of tr f(A) via
stochastic Lanczos quadrature (2017).

>>> import torch
>>> H = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
>>> s = torch.ones(1, 3, dtype=torch.float64)
>>> round(quadrature(lambda v: v @ H, s, 3).of(lambda h: h * h), 9)
14.0
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.eigen.lanczos import Product, lanczos, ritz
from stability.optimisers.draws import Draws, scatter, shares
from stability.optimisers.noise import carried, sums
from stability.optimisers.updates import Update
from stability.problem.problem import Problem


@dataclass(frozen=True, eq=False)
class Quadrature:
    """f ↦ the mean over starts of sᵀf(H)s.

    Attributes:
        nodes: h_i of all starts, one after the other.
        weights: ‖s‖² w_i over the number of starts.
    """

    nodes: Tensor
    weights: Tensor

    def of(self, f: Callable[[Tensor], Tensor]) -> float:
        """Σ_i w_i f(h_i)."""
        return float(self.weights @ f(self.nodes))

    def shifted(self, gamma: float) -> Quadrature:
        """Of H + γ."""
        return Quadrature(self.nodes + gamma, self.weights)


@dataclass(frozen=True, eq=False)
class Krylov:
    """A Krylov run of a symmetric map from one start.

    Attributes:
        nodes: its Ritz values.
        vectors: their vectors in the basis, as columns.
        basis: orthonormal rows.
        length: ‖s‖.
    """

    nodes: Tensor
    vectors: Tensor
    basis: Tensor
    length: float

    def square(self, f: Callable[[Tensor], Tensor]) -> float:
        """‖f(H)s‖²."""
        return self.length**2 * float(self.vectors[0].square() @ f(self.nodes).square())

    def applied(self, f: Callable[[Tensor], Tensor]) -> Tensor:
        """f(H)s."""
        return self.length * (self.vectors @ (f(self.nodes) * self.vectors[0])) @ self.basis


def krylov(product: Product, start: Tensor, steps: int) -> Krylov | None:
    """From a start, by so many products; None from zero."""
    if not float(start.norm()) > 0:
        return None
    state = lanczos(product, start, min(steps, len(start)))
    values, vectors, _ = ritz(state)
    basis = state.basis[: state.steps]
    return Krylov(torch.as_tensor(values.copy()), torch.as_tensor(vectors.copy()), basis, float(start.norm()))


def quadrature(product: Product, starts: Tensor, steps: int) -> Quadrature:
    """Of a symmetric map, from the rows of ``starts``, (m, n), by so many products each."""
    runs = [run for start in starts if (run := krylov(product, start, steps)) is not None]
    if not runs:
        return Quadrature(*torch.zeros(2, 1, dtype=torch.float64))
    weights = [run.length**2 * run.vectors[0].square() / len(starts) for run in runs]
    return Quadrature(torch.cat([run.nodes for run in runs]), torch.cat(weights))


def drawn_noise(problem: Problem, seen: Tensor, draws: Draws, count: int, generator: torch.Generator) -> Tensor:
    """Vectors whose second moment is C of :func:`stability.optimisers.noise.covariance_of`, (count, size).

    Args:
        problem: the risk.
        seen: what the gradients of samples have in the sector, (n, d, size).
        draws: of batches and group elements.
        count: of vectors.
        generator: of their signs.
    """
    if draws.elements is None:
        return seen.new_zeros(count, seen.shape[-1])
    weight, dim = problem.samples.weight, seen.shape[1]

    def signs(rows: int) -> Tensor:
        return torch.randint(0, 2, (count, rows, dim), generator=generator).to(seen) * 2 - 1

    def mixed(u: Tensor, w: Tensor) -> Tensor:
        """Σ_s ±√w_s u_s/√d, of second moment Σ_s w_s u_s u_sᵀ/d."""
        return torch.einsum("crd,rds->cs", signs(len(u)) * (w / dim).sqrt()[:, None], u)

    if draws.per == "sample":
        return mixed(seen, shares(problem, draws)) / draws.elements**0.5
    mean, f = torch.tensordot(weight, seen, 1)[None], scatter(problem, draws)
    alone = mixed(mean, weight.new_ones(1))
    return (alone + f**0.5 * mixed(seen - mean, weight)) / draws.elements**0.5


def kept(update: Update, steps: int) -> Callable[[Tensor], Tensor]:
    """h ↦ (M^k)_yy, what is left of a deviation."""
    return lambda h: carried(update, h, steps)


def stirred(update: Update, steps: int) -> Callable[[Tensor], Tensor]:
    """h ↦ √Σ_{t<k} (M^t k)_y², what a unit of noise a step has stirred up, as one deviation of that second moment."""
    return lambda h: sums(update, h, h, steps).total[..., 0].clamp_min(0).sqrt()
