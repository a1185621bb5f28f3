"""A symmetric map given by its products, and its matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from stability.base.errors import NotFinite, StaleLinearisation

# A linear map, right or wrong, commutes with these; rounding does not, for none is a power of two.
SCALES = (1.1, 1.3, 1.7)
# Ulps of what was added up that a sum may be off by.
ROUNDING = 64


@dataclass
class Operator:
    """A symmetric linear map on R^dim, given by its products.

    Attributes:
        dim: the dimension it acts on.
        apply: (k, dim) → (k, dim), row by row.
        name: what messages call it.
        cost: nominal Hessian-vector products that one product takes.
        batch: rows that go through ``apply`` at once.
        gradient: the gradient at the point, where known, (dim).
        products: how many were taken so far.
        scale: size, per unit vector, of what was added up to products, where it cancels to something smaller.
        grain: () ↦ size, per unit vector, of what may have cancelled in a product that is rounding alone; asked only
            where one seems wrong.
        notes: which slower route its products take, and why; shared with what is made of it.
    """

    dim: int
    apply: Callable[[Tensor], Tensor]
    name: str
    cost: float = 1
    batch: int = 64
    gradient: Tensor | None = None
    notes: list[str] = field(default_factory=list)
    grain: Callable[[], float] | None = None
    products: int = field(default=0, init=False)
    scale: float = field(default=0.0, init=False)

    def __call__(self, v: Tensor) -> Tensor:
        """Hv for v of shape (dim) or (k, dim)."""
        rows = v.reshape(-1, self.dim)
        self.products += len(rows)
        if len(rows) <= self.batch:
            product = self.apply(rows)
        else:
            product = torch.empty_like(rows)
            for start in range(0, len(rows), self.batch):
                product[start : start + self.batch] = self.apply(rows[start : start + self.batch])
        # One sum sees every NaN and infinity, and costs next to nothing beside a product.
        if not torch.isfinite(product.sum()) and not torch.isfinite(product).all():
            bad = int((~torch.isfinite(product)).sum())
            raise NotFinite(
                f"{self.name}: product {self.products:,} has {bad:,} values that are not finite; the risk overflows at "
                "this point: look for a logarithm, a root or a division there, use float64 or scale the data"
            )
        return product.reshape(v.shape)

    def matrix(self, like: Tensor | None = None) -> Tensor:
        """The matrix, (dim, dim); dtype and device of ``like``, by default those of the gradient or float64."""
        like = like if like is not None else self.gradient
        return assemble(self, torch.zeros((), dtype=torch.float64) if like is None else like)

    def linear_operator(self, like: Tensor | None = None) -> LinearOperator:
        """The same map for scipy: eigsh, svds, minres and the rest take it."""
        like = like if like is not None else self.gradient
        like = torch.zeros((), dtype=torch.float64) if like is None else like

        def product(columns: np.ndarray) -> np.ndarray:
            rows = torch.as_tensor(np.ascontiguousarray(columns.reshape(self.dim, -1).T)).to(like)
            return self(rows).cpu().numpy().T.reshape(columns.shape)

        dtype = torch.empty(0, dtype=like.dtype).numpy().dtype
        return LinearOperator(
            (self.dim, self.dim), matvec=product, matmat=product, rmatvec=product, rmatmat=product, dtype=dtype
        )


def assemble(operator: Operator, like: Tensor, progress: Callable[[int], None] | None = None) -> Tensor:
    """The matrix of an operator, (dim, dim), symmetrised.

    Raises:
        StaleLinearisation: rows and columns differ by more than rounding.
    """
    matrix = torch.empty(operator.dim, operator.dim, dtype=like.dtype, device=like.device)
    for start in range(0, operator.dim, operator.batch):
        stop = min(start + operator.batch, operator.dim)
        unit = torch.zeros(stop - start, operator.dim, dtype=like.dtype, device=like.device)
        unit[torch.arange(stop - start), torch.arange(start, stop)] = 1.0
        matrix[start:stop] = operator(unit)
        if progress:
            progress(stop - start)
    off = (matrix - matrix.mT).abs()
    defect, scale = float(off.max()), max(float(matrix.abs().max()), operator.scale)
    right = defect <= tolerance_of(like) * max(scale, torch.finfo(like.dtype).tiny)
    if not right:
        worst = torch.zeros(2, operator.dim, dtype=like.dtype, device=like.device)
        worst[[0, 1], [int(i) for i in divmod(int(off.argmax()), operator.dim)]] = 1.0
        right = is_rounding(defect, worst, [operator], operator.grain)
    if not right:
        raise StaleLinearisation(
            f"{operator.name}: the assembled matrix is not symmetric, off by {defect:.2e} of {scale:.2e}"
        )
    return (matrix + matrix.mT) / 2


def rounding_of(operator: Callable[[Tensor], Tensor], v: Tensor) -> float:
    """What rounding makes of a product: max_s ‖H(sv)/s − Hv‖ for a vector v, (dim), and s that are no powers of two.

    >>> H = torch.diag(torch.tensor([1.0, 3.0], dtype=torch.float64))
    >>> rounding_of(lambda v: v @ H, torch.ones(2, dtype=torch.float64)) < 1e-15
    True
    """
    here = operator(v)
    return max(float((operator(s * v) / s - here).norm()) for s in SCALES)


def is_rounding(
    off: float,
    rows: Tensor,
    routes: Sequence[Callable[[Tensor], Tensor]],
    grain: Callable[[], float] | None = None,
) -> bool:
    """Whether a difference between products with vectors of one length is rounding.

    It is, up to 64 ulps of what may have cancelled (``grain``, per unit vector; asked first, where it is known), or up
    to ten times what :func:`rounding_of` sees of any route to the products.

    Args:
        off: the difference.
        rows: the vectors, (k, dim).
        routes: ways to the product with one of them.
        grain: as :attr:`Operator.grain`.
    """
    if grain and off <= ROUNDING * torch.finfo(rows.dtype).eps * grain() * float(rows[0].norm()):
        return True
    return off <= 10 * max(rounding_of(route, v) for route in routes for v in rows)


def tolerance_of(like: Tensor) -> float:
    """Relative difference of two routes to a product that rounding explains anywhere."""
    """Relative error up to which two products of the precision of ``like`` are the same."""
    return 1e-9 if like.dtype == torch.float64 else 1e-3
