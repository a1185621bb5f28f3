r"""What an instability does to the network: a layer's kernel, and predictions on the transforms of one sample.

An equivariant layer is the same from every place: (ρ̄(g)A)_o, its row at one output coordinate seen from g, is A_o for
all g. An equivariant network gives ρ_X(g)x the loss of x. Off E both fall apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.groups import Element, Group, Representation
from stability.problem.problem import Problem, model_of

VIEWS, TRANSFORMS, PROBES = 4, 50, 64
# Relative to ‖A‖: a layer that left E by less has not.
MOVED = 1e-9


@dataclass(frozen=True)
class Kernel:
    """One channel's kernel at one output coordinate, row by row.

    Attributes:
        layer: its layer.
        source_channel: of the input.
        target_channel: of the output.
        elements: names of the g shown.
        before: A_o, the same seen from every g.
        after: (ρ̄(g)A')_o for each of ``elements``.
        shared: (Π_E A')_o, what is the same from everywhere after it.
    """

    layer: str
    source_channel: int
    target_channel: int
    elements: tuple[str, ...]
    before: tuple[tuple[float, ...], ...]
    after: tuple[tuple[tuple[float, ...], ...], ...]
    shared: tuple[tuple[float, ...], ...] | None = None


@dataclass(frozen=True)
class Breaking:
    """Losses of the transforms of one training sample while symmetry breaks.

    Attributes:
        sample: which one: of the first 64, the one whose transforms end furthest apart.
        input: the sample, row by row; None where it is no square.
        elements: the transforms g, those that move the sample to different places.
        times: flow times, 0 being after the push where there was one; the last row of ``losses`` may belong to an end
            beyond them.
        losses: ℓ(Φ(ρ_X(g)x), ρ_Y(g)y), one row a time, one column an element.
        end: the same where L-BFGS on R^aug ended; None where it was not run.
        start: the same at the point on E, before any push; None in runs that did not keep it.
        probability: True when exp(−ℓ) is the probability given to the right answer.
        shown: which of ``elements`` have an image: those whose losses end least and most, and some between.
        images: ρ_X(g)x for them, the first channel row by row; () in runs that did not keep them.
    """

    sample: int
    input: tuple[tuple[float, ...], ...] | None
    elements: tuple[str, ...]
    times: tuple[float, ...]
    losses: tuple[tuple[float, ...], ...]
    end: tuple[float, ...] | None
    probability: bool
    start: tuple[float, ...] | None = None
    shown: tuple[int, ...] = ()
    images: tuple[tuple[tuple[float, ...], ...], ...] = ()


def _square(n: int) -> int | None:
    side = math.isqrt(n)
    return side if side > 1 and side * side == n else None


def is_grid(representation: Representation, group: Group) -> bool:
    """Whether the coordinates are the places of a square image or matrix: G maps rows to rows or to columns."""
    side = _square(representation.dim)
    if side is None or not representation.is_permutation:
        return False
    places = torch.arange(representation.dim)
    lines = {frozenset(x.tolist()) for m in (places.reshape(side, side),) for x in (*m, *m.T)}
    moved = [representation.act(g, places.double()).round().long().reshape(side, side) for g in group.generators]
    return any(not torch.equal(m.flatten(), places) for m in moved) and all(
        frozenset(x.tolist()) in lines for m in moved for x in (*m, *m.T)
    )


def laid_out(row: Tensor, representation: Representation, group: Group) -> tuple[tuple[float, ...], ...]:
    """The entries on their grid; in one row where they have none."""
    side = _square(representation.dim)
    if side is None or not is_grid(representation, group):
        return (tuple(row.tolist()),)
    return _grid(row, side)


def _grid(row: Tensor, side: int) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(r) for r in row.reshape(side, side).tolist())


def kernel(problem: Problem, before: Tensor, after: Tensor) -> Kernel | None:
    """The kernel that changed most, of a layer whose inputs are square images or matrices; None without one."""
    space = problem.space
    weights, moved = space.split(before), space.split(after)
    off = space.split(space.transverse_part(after))
    shown = [
        i
        for i, layer in enumerate(space.layers)
        if len(layer.source.blocks) == 1 and len(layer.target.blocks) == 1 and _square(layer.source.blocks[0][1].dim)
    ]
    shown = [i for i in shown if float(off[i].norm()) > MOVED * float(after.norm())]
    if not shown:
        return None
    chosen = max(shown, key=lambda i: float(off[i].square().mean()))
    layer = space.layers[chosen]
    ((inputs, base),), ((outputs, target),) = layer.source.blocks, layer.target.blocks
    place = target.dim // 2

    def row(w: Tensor) -> Tensor:
        """(outputs, inputs, base): rows at one output coordinate."""
        return w.reshape(outputs, target.dim, inputs, base.dim)[:, place]

    change = row(off[chosen]).square().sum(-1)
    out, into = divmod(int(change.argmax()), inputs)
    elements = [problem.group.identity]
    views = [row(moved[chosen])[out, into]]
    for g in problem.group.elements():
        seen = row(layer.act(g, moved[chosen]))[out, into]
        if all(float((seen - v).norm()) > 1e-3 * float(change.sqrt().max()) for v in views):
            elements.append(g)
            views.append(seen)
        if len(views) == VIEWS:
            break
    return Kernel(
        layer.name,
        into,
        out,
        tuple(map(str, elements)),
        laid_out(row(weights[chosen])[out, into], base, problem.group),
        tuple(laid_out(v, base, problem.group) for v in views),
        laid_out(row(moved[chosen] - off[chosen])[out, into], base, problem.group),
    )


def _transforms(problem: Problem, x: Tensor) -> list[Element]:
    """Elements that move x to different places, 50 at most."""
    space = model_of(problem).input
    chosen: list[Element] = []
    seen: list[Tensor] = []
    for g in problem.group.elements():
        moved = space.act(g, x)
        if all(float((moved - other).abs().max()) > 1e-12 for other in seen):
            chosen.append(g)
            seen.append(moved)
        if len(chosen) == TRANSFORMS:
            break
    return chosen


def losses(problem: Problem, at: Tensor, sample: int, elements: Sequence[Element]) -> Tensor:
    """ℓ(Φ_A(ρ_X(g)x), ρ_Y(g)y), one entry an element."""
    model = model_of(problem)
    x, y = problem.samples.x[[sample]], problem.samples.y[[sample]]
    with torch.no_grad():
        moved = torch.cat([model.input.act(g, x) for g in elements])
        targets = torch.cat([model.move_target(g, y) for g in elements])
        return model.losses(model.predict(at, moved), targets)


def breaking(
    problem: Problem,
    path: Sequence[tuple[float, Tensor]],
    end: Tensor | None,
    probability: bool,
    at: Tensor | None = None,
) -> Breaking | None:
    """Losses at the point ``at`` of E and along a path of (time, A).

    None where nothing is predicted or no sample is moved.
    """
    if problem.model is None or not path:
        return None
    last = path[-1][1] if end is None else end
    tried = range(min(PROBES, len(problem.samples.x)))
    elements = {i: _transforms(problem, problem.samples.x[i]) for i in tried}
    spread = {i: losses(problem, last, i, elements[i]) for i in tried}
    sample = max(tried, key=lambda i: float(spread[i].max() - spread[i].min()))
    chosen, side = elements[sample], _square(problem.samples.x.shape[1])
    if len(chosen) < 2:  # G moves no sample
        return None
    order = spread[sample].argsort().tolist()
    shown = tuple(
        order[round(k * (len(order) - 1) / (min(VIEWS, len(order)) - 1))] for k in range(min(VIEWS, len(order)))
    )
    x, act = problem.samples.x[sample], model_of(problem).input.act
    return Breaking(
        sample=sample,
        input=_grid(problem.samples.x[sample], side) if side else None,
        elements=tuple(map(str, chosen)),
        times=tuple(t for t, _ in path),
        losses=tuple(tuple(losses(problem, a, sample, chosen).tolist()) for _, a in path),
        end=None if end is None else tuple(losses(problem, end, sample, chosen).tolist()),
        probability=probability,
        start=None if at is None else tuple(losses(problem, at, sample, chosen).tolist()),
        shown=shown,
        images=tuple(picture(problem, act(chosen[i], x)) for i in shown),
    )


def picture(problem: Problem, x: Tensor) -> tuple[tuple[float, ...], ...]:
    """A flattened input row by row: the first channel of a module's, a square or one row of any other."""
    shape = getattr(problem.model, "input_shape", None)
    if shape is None:
        return laid_out(x, model_of(problem).input, problem.group)
    x = x.reshape(shape)
    while x.ndim > 2:
        x = x[0]
    return tuple(tuple(row) for row in torch.atleast_2d(x).tolist())
