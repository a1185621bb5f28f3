r"""Kinks: how near a network's pre-activations come to those of its nonlinearities, and what differences see of others.

    margin = min |distance to the kink| / root mean square of the activation

A dispatch mode sees every operation of a forward pass, whether it is a module or a function. It does not see a kink
that is made of smooth operations (max(0, x)², x|x|, ``where``), nor whether one is squared away: :func:`bend` does.

>>> import torch
>>> kink_margin(lambda: torch.relu(torch.tensor([0.5, -2.0])))
0.34299716353416443
>>> kink_margin(lambda: torch.tanh(torch.ones(2))) is None
True
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from stability.curvature.products import Terms, fresh, size
from stability.problem.problem import Problem
from stability.problem.space import Samples

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
    rows, columns = _pair(padding)
    padded = functional.pad(x, (columns, columns, rows, rows), value=-1e300)
    images = padded.flatten(0, -3).unsqueeze(1)
    windows = functional.unfold(images, _pair(size), _pair(dilation), 0, _pair(stride or size))
    return _gap(windows.transpose(1, 2))


def _pair(value: list[int] | int) -> tuple[int, ...]:
    """One number for each of two axes."""
    return (value, value) if isinstance(value, int) else (*value,) * (2 // len(value))


def kink_margin(run: Callable[[], object]) -> float | None:
    """The smallest relative distance to a kink in all that ``run`` computes; None when nothing bends."""
    seen = _Kinks()
    with torch.no_grad(), seen:
        run()
    return min(seen.margins) if seen.margins else None


# -- kinks that only differences of the gradient see -------------------------------------------------------------

# Steps relative to the point, each an eighth of the one before.
FIRST, RATIO, STEPS = {torch.float64: 1e-2, torch.float32: 1e-1}, 8.0, {torch.float64: 10, torch.float32: 5}
# Steps at which four neighbouring gradients tell rounding from curvature: the first two at which they move alike, for
# at shorter ones a gradient lost in sums a billion times as large does not move at all.
NEIGHBOURS = {torch.float64: (1e-10, 3e-9, 1e-6), torch.float32: (1e-4, 1e-3, 1e-2)}
# Differences count as seen above so many times what rounding makes of them.
VISIBLE = 30.0
# Of a smooth risk what is left falls to 1/512 from step to step, of |t|^2.5 to 0.35, of a jump of ∇² not at all.
FALLS = 0.5
# Relative to the point: a kink nearer than this counts as a kink at it, and what turns within SHARP as a kink.
NEAR, SHARP = 1e-6, 1e-8

# Gaussian directions, and samples whose graph is held at once.
RANDOM, CHUNK = 2, 4096

Gradient = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Bend:
    """A kink that differences see along a direction.

    Attributes:
        size: by how much the second derivative differs from the product there, or from one side to the other.
        step: the shortest step at which it was seen, relative to the point.
        grows: whether it grows as the step shrinks: the gradient itself jumps.
    """

    size: float
    step: float
    grows: bool


def rounding(gradient: Gradient, at: Tensor, v: Tensor, scale: float) -> float:
    """What rounding makes of ∇R near A: third differences of four neighbouring gradients, on either side.

    All four lie on the same side of A, so a kink through it is not mistaken for rounding.
    """
    worst, eps = 0.0, torch.finfo(at.dtype).eps
    for side in (1, -1):
        found: list[float] = []
        slope: Tensor | None = None
        for step in NEIGHBOURS[at.dtype]:
            t = side * step * scale
            a, b, c, d = (gradient(at + k * t * v) for k in (1, 2, 3, 4))
            found.append(max(float((d - 3 * c + 3 * b - a).norm()) / 2, 4 * eps * float(b.norm())))
            before, slope = slope, (d - a) / (3 * t)
            if before is not None and float((slope - before).norm()) <= 0.1 * float(slope.norm()):
                break
        worst = max([worst, *found])
    return worst


def bend(gradient: Gradient, at: Tensor, v: Tensor, product: Tensor, noise: float, error: float) -> Bend | None:
    r"""The kink of R at A along v, if there is one.

    With g_± = ∇R(A ± tv), two quantities of a smooth risk vanish with t, and without their leading term faster still:

        centre   (g₊ − g₋)/2t − Hv           = c₂t² + O(t⁴)      a jump of ∇² leaves half of it where Hv is one side's
        sides    (g₊ + g₋)/t, less its limit  = c₁t + O(t³)       and all of it here; a jump of ∇ grows like 1/t

    Args:
        gradient: A ↦ ∇R(A).
        at: A, (dim).
        v: of norm one.
        product: Hv, as a verdict would use it.
        noise: of a gradient, see :func:`rounding`.
        error: of the product.
    """
    scale, count = size(at), STEPS[at.dtype]
    steps = [FIRST[at.dtype] * scale / RATIO**k for k in range(count)]
    ends = [(gradient(at + t * v), gradient(at - t * v)) for t in steps]
    centre = [(a - b) / (2 * t) - product for (a, b), t in zip(ends, steps, strict=True)]
    both = [a + b for a, b in ends]
    sides = [(a - b) / t for a, b, t in zip(both, both[1:], steps, strict=False)]
    # Without the leading term of a smooth risk: Richardson.
    left = [(RATIO**2 * b - a) / (RATIO**2 - 1) for a, b in zip(centre, centre[1:], strict=False)]
    tilted = [(RATIO * b - a) / (RATIO - 1) for a, b in zip(sides, sides[1:], strict=False)]
    # Rounding where the gradient has grown: its own, and that of the point it is taken at.
    eps = torch.finfo(at.dtype).eps
    local = [
        noise + 4 * eps * float(a.norm() + b.norm()) + eps * scale * float((a - b).norm()) / t
        for (a, b), t in zip(ends, steps, strict=True)
    ]
    # A product is rounded as the gradient is.
    floors = [
        VISIBLE * (far / t + near * RATIO / t + 4 * noise / scale + error)
        for far, near, t in zip(local, local[1:], steps, strict=False)
    ]
    for values, first in ((left, 0), (tilted, 1)):
        found = _lasting([float(x.norm()) for x in values], steps[first:], floors[first:], scale)
        if found is not None:
            return found
    return None


def _lasting(sizes: list[float], steps: list[float], floors: list[float], scale: float) -> Bend | None:
    """A difference that stays, or grows, down to the shortest step at which it can be seen."""
    seen = [k for k, (size, floor) in enumerate(zip(sizes, floors, strict=False)) if size > floor]
    stays = [k for k in seen if k - 1 in seen and sizes[k] > FALLS * sizes[k - 1]]
    if not stays:
        return None
    last, end = stays[-1], seen[-1]
    shortest = steps[last] / scale
    if end > last:
        # Something smooth as sharp as that falls to 1/512 from step to step, a kink beside the point to nothing.
        smooth = end > last + 1 or end + 1 == len(sizes) or floors[end + 1] > sizes[end] / RATIO**4
        if shortest > SHARP and (smooth or steps[end + 1] > NEAR * scale):
            return None
    # Gone at a step at which it would still be seen: a kink beside the point, not at it.
    elif last + 1 < len(sizes) and sizes[last] > floors[last + 1] and steps[last + 1] > NEAR * scale:
        return None
    return Bend(sizes[last], shortest, sizes[last] > 2 * sizes[last - 1])


def bends(gradient: Gradient, at: Tensor, directions: Tensor, products: Tensor, errors: Sequence[float]) -> Bend | None:
    """The largest kink of R at A along any of the directions, rows of norm one; None where none is seen."""
    scale = size(at)
    eps = torch.finfo(at.dtype).eps
    noise = max((rounding(gradient, at, v, scale) for v in directions[:2]), default=0.0)
    # The point itself is rounded.
    noise = max([noise, *(4 * eps * scale * float(p.norm()) / len(at) ** 0.5 for p in products)])
    found = [bend(gradient, at, v, p, noise, e) for v, p, e in zip(directions, products, errors, strict=True)]
    return max((b for b in found if b is not None), key=lambda b: (b.grows, b.size), default=None)


def kink(problem: Problem, at: Tensor, directions: Tensor | None = None, seed: int = 0) -> Bend | None:
    """The kink of R at A along two Gaussian directions, and along those where a sign is decided.

    Args:
        problem: the risk.
        at: A, (dim L).
        directions: rows (k, dim L), of any length but zero.
        seed: of the Gaussian ones.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(RANDOM, len(at), generator=generator, dtype=torch.float64).to(at)
    rows = rows if directions is None else torch.cat([rows, directions.to(at)])
    rows = rows / rows.norm(dim=1, keepdim=True)
    terms = Terms(problem.loss, at, lambda: problem.samples.chunks(CHUNK))
    backwards = Samples(*(part.flip(0) for part in problem.samples))
    products = fresh(problem.loss, at, problem.samples, rows)
    again = fresh(problem.loss, at, backwards, rows)
    # The decay is smooth, and what it adds to both sides only rounds.
    eps = torch.finfo(at.dtype).eps
    errors = [10 * float((p - q).norm()) + 10 * eps * float(p.norm()) for p, q in zip(products, again, strict=True)]
    return bends(terms.gradient, at, rows, products, errors)


def said(found: Bend) -> str:
    """Why no sign is read off."""
    what = (
        f"∇R jumps there: its quotients reach {found.size:.1e} and grow as their step shrinks"
        if found.grows
        else f"∇²R jumps there by about {found.size:.1e}, of which the product is one side's"
    )
    return (
        f"differences of the gradient see a kink at this point, down to a distance of {found.step:.0e} of its norm "
        f"({what}), so no Hessian exists; use a smooth risk"
    )
