"""Whether a risk has the derivatives that everything rests on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad, jvp

from stability.base import doors
from stability.base.errors import BadInput
from stability.curvature.products import fresh
from stability.problem.space import Samples

# Why derivatives inside a network must be torch.func's: those of the tape cannot be differentiated by others.
INSIDE = "take them by torch.func.grad(lambda x: self.energy(x).sum())(x) instead, which can be differentiated again"


def twice_differentiable(name: str, loss: Callable[[Tensor], Tensor], at: Tensor) -> None:
    """Raise BadInput where a risk has no value, gradient or Hessian-vector product at a point, or another gradient."""
    mend = "write it with differentiable torch operations, out of place"
    try:
        value = loss(at)
        if not isinstance(value, Tensor) or value.is_complex():
            raise BadInput(f"{name}: the risk gives {doors.shown(value)}; it must give a tensor with one real number")
        if not loss(at.detach().clone().requires_grad_()).requires_grad:
            raise BadInput(
                f"{name}: the risk does not depend on its tensors, or loses them on the way (detach, item, numpy), so "
                f"there is no derivative to judge; {mend}"
            )
        if value.ndim != 0:
            raise BadInput(f"{name}: the risk has shape {tuple(value.shape)}; it must be a single number")
        product = _second(name, loss, at)
    except BadInput:
        raise
    except Exception as error:
        inside = "requires_grad" in str(error) or "does not require grad" in str(error)
        mend = INSIDE if inside else mend
        raise BadInput(f"{name}: the risk cannot be differentiated twice ({doors.reason(error)}); {mend}") from error
    for what, found in (("value", value), ("Hessian", product)):
        if not torch.isfinite(found).all():
            raise BadInput(f"{name}: its {what} at the given tensors is not finite; start where the risk is smooth")
    if at.dtype == torch.float64:
        _attached(name, loss, at)


def _attached(name: str, loss: Callable[[Tensor], Tensor], at: Tensor) -> None:
    """Raise BadInput where values change along a direction and the gradient does not say so: something is detached.

    Differences of values at two steps that agree with each other are believed; where they do not, or where both sides
    keep slopes of their own, a kink or rounding has its part in them, and nothing is said.
    """
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(len(at), generator=generator, dtype=torch.float64).to(at)
    v = v * (float(at.norm()) or 1.0) / v.norm()
    with torch.no_grad():
        here = float(loss(at))
        noise = 1e-11 * abs(here)
        sides = [((float(loss(at + h * v)) - here) / h, (here - float(loss(at - h * v))) / h) for h in (1e-4, 1e-5)]
    (wide, wide_bend), (fine, bend) = (((a + b) / 2, abs(a - b)) for a, b in sides)
    told = float(grad(loss)(at) @ v)
    kinked = bend > max(0.5 * wide_bend, 0.01 * abs(fine))
    if not kinked and abs(wide - fine) <= 1e-3 * abs(fine) and abs(fine - told) > 0.05 * abs(fine) + 1e5 * noise:
        raise BadInput(
            f"{name}: along a direction the risk changes by {fine:.3g}, by its gradient {told:.3g}; part of it is "
            "detached (.detach(), .item(), .data, numpy): keep to differentiable torch operations"
        )


def _second(name: str, loss: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """A Hessian-vector product, by forward over reverse or, where torch has none (grid_sample), any other way."""
    ones = torch.ones_like(at)
    try:
        return jvp(grad(loss), (at,), (ones,))[1]
    except (NotImplementedError, RuntimeError):
        grad(loss)(at)  # raises for a value that left torch on its way, and for functions that hide their backward
        nothing = at.new_empty(0)
        return fresh(lambda a, _: loss(a), at, Samples(nothing, nothing, nothing), ones, name)
