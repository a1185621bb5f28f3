r"""∇²R(A)v by the fastest of several routes that is seen to be right at this point, for as many vectors at once.

    batched   one retained reverse graph, differentiated for all vectors at once (torch's vectorised backward)
    forward   the derivative along v of the gradient, recomputed for every call, vectorised
    rows      the retained graph, one vector after the other
    anew      the same with a graph of its own for every call

each as it is, or with fused operations written out in elementary ones. None of them is right for every network: in
torch 2.13 the first crashes or is off by up to 1,200 % behind GroupNorm, the reverse routes are off by a fifth behind
``weight_norm`` (its second derivative is not even symmetric), the second does not exist for ``grid_sample``. So

    reference   the first of rows, forward, written out whose Hu is that of central differences of ∇R, for a Gaussian u
    a route     is taken for k vectors at once when cᵀ(HV) = H(Vᵀc) for Gaussian V (k, dim) and c (k), by the reference:
                an error in any row shows with probability one (Freivalds, 1979)

Differences settle it because they rest on first derivatives alone; their error is measured, from one step to the next.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, jvp, vmap

from stability.base.errors import BadInput, StaleLinearisation
from stability.base.once import remembered
from stability.curvature.written import written_out
from stability.eigen.operator import ROUNDING, rounding_of
from stability.problem.space import Samples

Loss = Callable[[Tensor, Samples], Tensor]
Rows = Callable[[Tensor], Tensor]
# Steps of differences, relative to the point: first those that serve nearly always, then what sharp or flat risks need.
STEPS = {torch.float64: ((1e-4, 1e-5, 1e-6), (1e-2, 1e-3, 1e-7, 1e-8)), torch.float32: ((1e-1, 1e-2, 1e-3), ())}
# Differences that are no better than this share of Hu settle nothing.
SETTLED = 1e-3
# Weights of no larger norm count as zero.
COLLAPSED = 1e-14
# A wrong formula is off by percents; two right ones by rounding.
AGREE = {torch.float64: 1e-9, torch.float32: 1e-3}
DIFFERENCES = {torch.float64: 1e-6, torch.float32: 1e-2}


@dataclass(frozen=True)
class Terms:
    """A sum of losses at a point.

    Attributes:
        loss: (A, samples) ↦ Σ_s w_s ℓ_s.
        at: A, (dim).
        parts: () ↦ the samples, piece by piece.
    """

    loss: Loss
    at: Tensor
    parts: Callable[[], Iterable[Samples]]

    def gradient(self, at: Tensor) -> Tensor:
        """Σ ∇ℓ at another point, by first derivatives alone."""
        with differentiating():
            point = at.detach().clone().requires_grad_()
            total = torch.zeros_like(point)
            for part in self.parts():
                value = self.loss(point, part)
                if value.requires_grad:
                    (found,) = torch.autograd.grad(value, point, allow_unused=True)
                    total = total if found is None else total + found
            return total

    def graphs(self) -> tuple[Tensor, list[Tensor]]:
        """The point as a leaf and the gradients of the pieces with their graphs, those that depend on it."""
        point = self.at.detach().clone().requires_grad_()
        return point, [gradient for part in self.parts() if (gradient := self.graph(point, part)) is not None]

    def graph(self, point: Tensor, part: Samples) -> Tensor | None:
        """∇ of one piece with its graph, (n); None where the piece does not depend on the point."""
        value = self.loss(point, part)
        if not value.requires_grad:
            return None
        (found,) = torch.autograd.grad(value, point, create_graph=True, allow_unused=True)
        return found

    def written(self) -> Terms:
        """The same with fused operations written out."""
        return Terms(written_out(self.loss), self.at, self.parts)


@contextlib.contextmanager
def differentiating() -> Iterator[None]:
    """Derivatives, though the caller has them switched off: without them a product would be zero without a word."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def batched(terms: Terms) -> Rows:
    """One retained graph, all rows at once."""
    point, gradients = terms.graphs()
    return lambda v: _sum(v, (_pulled(g, point, v, True) for g in gradients))


def rows(terms: Terms) -> Rows:
    """One retained graph, row by row."""
    point, gradients = terms.graphs()

    def apply(v: Tensor) -> Tensor:
        return _sum(v, (torch.stack([_pulled(g, point, row, False) for row in v]) for g in gradients))

    return apply


def anew(terms: Terms) -> Rows:
    """A graph of its own for every call and piece, row by row."""

    def apply(v: Tensor) -> Tensor:
        point = terms.at.detach().clone().requires_grad_()
        graphs = (terms.graph(point, part) for part in terms.parts())
        return _sum(v, (torch.stack([_pulled(g, point, row, False) for row in v]) for g in graphs if g is not None))

    return apply


def forward(terms: Terms) -> Rows:
    """Forward over reverse, recomputed for every call."""

    def apply(v: Tensor) -> Tensor:
        gradients = (grad(lambda a, part=part: terms.loss(a, part)) for part in terms.parts())
        return _sum(v, (vmap(lambda t, f=f: jvp(f, (terms.at,), (t,))[1])(v) for f in gradients))

    return apply


def tangents(terms: Terms) -> Rows:
    """The same, row by row and not vectorised."""

    def apply(v: Tensor) -> Tensor:
        gradients = (grad(lambda a, part=part: terms.loss(a, part)) for part in terms.parts())
        return _sum(v, (torch.stack([jvp(f, (terms.at,), (row,))[1] for row in v]) for f in gradients))

    return apply


def _pulled(gradient: Tensor, point: Tensor, v: Tensor, many: bool) -> Tensor:
    """The derivative of ⟨gradient, v⟩; a loss linear in the parameters has none."""
    if not gradient.requires_grad:
        return torch.zeros_like(v)
    (found,) = torch.autograd.grad(
        gradient, point, v, retain_graph=True, is_grads_batched=many, allow_unused=True, materialize_grads=True
    )
    return found


def _sum(v: Tensor, terms: Iterator[Tensor]) -> Tensor:
    total = torch.zeros_like(v)
    for term in terms:
        total = total + term.detach()
    return total


# name → how it is made, in the order of speed. The first is what is used nearly always, and says nothing.
RETAINED: dict[str, Callable[[Terms], Rows]] = {
    "": batched,
    "fused operations written out": lambda terms: batched(terms.written()),
    "forward over reverse": forward,
    "forward over reverse, fused operations written out": lambda terms: forward(terms.written()),
    "one vector at a time": rows,
    "one vector at a time, fused operations written out": lambda terms: rows(terms.written()),
}
RECOMPUTED: dict[str, Callable[[Terms], Rows]] = {
    "": forward,
    "fused operations written out": lambda terms: forward(terms.written()),
    "one vector at a time": anew,
    "one vector at a time, fused operations written out": lambda terms: anew(terms.written()),
}
# What a single product is compared with, each with a graph of its own.
REFERENCES: dict[str, Callable[[Terms], Rows]] = {
    "reverse over reverse": anew,
    "forward over reverse": tangents,
    "reverse over reverse, fused operations written out": lambda terms: anew(terms.written()),
    "forward over reverse, fused operations written out": lambda terms: tangents(terms.written()),
}
# The same for a product that is to share nothing with a retained graph.
SCRATCH = {name: REFERENCES[name] for name in sorted(REFERENCES, key=lambda name: "forward" not in name)}


@dataclass(frozen=True)
class Differences:
    """Hu by central differences of the gradient.

    Attributes:
        value: (∇R(A + tu) − ∇R(A − tu))/2t at the best step.
        error: what it may be off by: ten times its change over the two steps before, and what the two sides differ by,
            for at a kink no second derivative is right or wrong.
    """

    value: Tensor
    error: float

    @property
    def relative(self) -> float:
        """Error relative to ‖Hu‖."""
        return self.error / max(float(self.value.norm()), 1e-300)

    @property
    def settled(self) -> bool:
        """Whether they settle anything."""
        return self.relative <= SETTLED


def size(at: Tensor) -> float:
    """‖A‖, or one where A has collapsed: steps of 1e-23 change no softmax, and agree with each other on nothing."""
    norm = float(at.norm())
    return norm if norm > COLLAPSED else 1.0


def differences(gradient: Callable[[Tensor], Tensor], at: Tensor, u: Tensor) -> Differences:
    """Hu for a u of any length; the step with the least error is chosen among several."""
    scale, length = size(at), float(u.norm()) or 1.0
    usual, more = STEPS[at.dtype]
    # Of a point far smaller than one, whose features may be of order one.
    more = more if scale > 0.1 else (*more, *(step / scale for step in usual))
    middle, eps = gradient(at), torch.finfo(at.dtype).eps
    found: dict[float, tuple[Tensor, float]] = {}
    best = Differences(torch.zeros_like(at), float("inf"))
    for steps in (usual, more):
        for step in steps:
            t = step * scale / length
            above, below = gradient(at + t * u), gradient(at - t * u)
            sides = float((above + below - 2 * middle).norm()) + eps * float(above.norm() + below.norm())
            found[step] = ((above - below) / (2 * t), sides / t)
        ordered = sorted(found, reverse=True)
        # Two changes, not one: in noise two quotients may agree by chance.
        for first, coarse, fine in zip(ordered, ordered[1:], ordered[2:], strict=False):
            (value, sides), before, earlier = found[fine], found[coarse][0], found[first][0]
            error = 10 * max(float((value - before).norm()), float((before - earlier).norm())) + sides
            candidate = Differences(value, error)
            # Relative: where a risk is sharper than the steps, quotients and their errors grow as 1/t.
            best = min(best, candidate, key=lambda d: d.relative)
        if best.relative <= 1e-4:
            break
    return best


def grain(terms: Terms) -> float:
    """‖∇²R v‖/‖v‖ a step of ‖A‖ away, by differences: what cancels where ∇²R(A) v vanishes but for rounding.

    At A = 0 and in directions that no output sees, products are sums whose terms cancel exactly: what is left, 1e-17,
    is no formula's mistake.
    """
    at = terms.at.detach()
    step, v = gaussian(102, at, 2, len(at))
    length = size(at)
    moved = at + step * (length / max(float(step.norm()), 1e-300))
    t = 1e-4 * length
    v = v / v.norm().clamp_min(1e-300)
    found = float((terms.gradient(moved + t * v) - terms.gradient(moved - t * v)).norm()) / (2 * t)
    return found if math.isfinite(found) else 0.0


def gaussian(seed: int, like: Tensor, *shape: int) -> Tensor:
    """Standard normal numbers of a seed, drawn in float64 whatever the dtype of ``like``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(like)


def attempt(make: Callable[[], Tensor]) -> Tensor | str:
    """A product, or in a few words why there is none."""
    try:
        found = make()
    except BadInput:
        raise
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever torch, or a user's function inside of it, makes of a vectorised tensor
        if "can't allocate memory" in str(error):
            raise
        return " ".join(f"{type(error).__name__}: {error}".split())[:160]
    return found if torch.isfinite(found).all() else "values that are not finite"


def reference(
    terms: Terms, name: str, memory: dict, routes: dict[str, Callable[[Terms], Rows]] = REFERENCES
) -> tuple[str, Rows]:
    """The first route of :data:`REFERENCES` that differences of the gradient confirm, with its name.

    Where they settle nothing, at kinks and in single precision, two routes that agree with each other are believed.

    Args:
        terms: the risk at the point.
        name: for messages.
        memory: where the name is kept and found again.
        routes: in the order in which they are tried.

    Raises:
        StaleLinearisation: differences contradict every one of them.
        BadInput: there is none, the loss having no second derivative in torch.
    """
    if "reference" in memory:
        return memory["reference"], routes[memory["reference"]](terms)
    at, u = terms.at.detach(), gaussian(101, terms.at, len(terms.at))
    u = u / u.norm().clamp_min(1e-300)
    measured = differences(terms.gradient, at, u)
    tolerance = DIFFERENCES[at.dtype]
    tried: dict[str, Tensor] = {}
    failures: dict[str, str] = {}
    for which, make in routes.items():
        found = attempt(partial(_one, make, terms, u))
        if isinstance(found, str):
            failures[which] = found
            continue
        off = float((found - measured.value).norm())
        right = off <= measured.error + tolerance * float(measured.value.norm()) or off <= _rounding(terms)
        if measured.settled and not right:
            failures[which] = f"off by {off / max(float(measured.value.norm()), 1e-300):.1e}"
            tried[which] = found
            continue
        agreed = any(_close(found, other) for other in tried.values())
        if measured.settled or agreed or not float(found.norm()) > 0:
            break
        tried[which] = found
    else:
        believed = [w for w in tried if w not in failures]
        if not believed:
            raise _refused(name, failures, bool(tried))
        which = believed[0]
    memory["reference"] = which
    return which, routes[which](terms)


def _one(make: Callable[[Terms], Rows], terms: Terms, v: Tensor) -> Tensor:
    """Hv for one vector by one route."""
    return make(terms)(v[None])[0]


def _rounding(terms: Terms) -> float:
    """What may be left of a product with a unit vector that vanishes."""
    return ROUNDING * torch.finfo(terms.at.dtype).eps * grain(terms)


def _close(a: Tensor, b: Tensor) -> bool:
    return float((a - b).norm()) <= AGREE[a.dtype] * max(float(b.norm()), 1e-300)


def _refused(name: str, failures: dict[str, str], contradicted: bool) -> BadInput:
    why = next((f"{which}: {what}" for which, what in failures.items()), "")
    if contradicted:
        return StaleLinearisation(
            f"{name}: torch's second derivative of this risk is not the derivative of its gradient, by central "
            f"differences ({why}); write the operation that makes it in elementary ones"
        )
    return BadInput(
        f"{name}: the risk cannot be differentiated twice ({why}); write it with differentiable torch operations, out "
        "of place"
    )


class Products:
    """Rows v ↦ Σ ∇²ℓ v, checked before they are believed.

    For every number of rows that occurs, one product of so many Gaussian rows is compared with the reference before the
    first is handed out; the second, fourth, eighth, … call is compared besides, so that a graph spoilt by its use does
    not go unseen.

    Args:
        terms: the risk at the point.
        name: for messages.
        routes: name → how it is made, in the order in which they are tried.
        memory: of an earlier linearisation of the same risk, whose findings are believed where the samples are as many:
            a search linearises at a hundred points, none of which decides a sign.
        notes: where a line goes when another route than the first was taken.
    """

    def __init__(
        self,
        terms: Terms,
        name: str,
        routes: dict[str, Callable[[Terms], Rows]],
        memory: dict | None = None,
        notes: list[str] | None = None,
    ) -> None:
        self.terms, self.name, self.routes = terms, name, routes
        self.memory: dict[Any, Any] = {} if memory is None else memory
        self.searching = memory is not None
        self.notes = [] if notes is None else notes
        self.left = list(routes)
        self.made: dict[str, Rows] = {}
        self.settled: dict[int, str] = {}
        self.calls = 0
        self.trusted: Rows | None = None

    def __call__(self, v: Tensor) -> Tensor:
        """(k, dim) → (k, dim)."""
        if not v.numel():
            return torch.zeros_like(v)
        with differentiating():
            return self._product(v.clone() if v.is_inference() else v.detach())

    def _product(self, v: Tensor) -> Tensor:
        width = len(v)
        if width not in self.settled:
            self._settle(width, v)
        product = self._route(self.settled[width])(v)
        self.calls += 1
        # The first call follows the check of its width.
        if not self.searching and self.calls > 1 and self.calls & (self.calls - 1) == 0:
            self._confirm(v, product)
        return product

    def _by(self, which: str, v: Tensor) -> Tensor:
        return self._route(which)(v)

    def _route(self, which: str) -> Rows:
        if which not in self.made:
            self.made[which] = self.routes[which](self.terms)
        return self.made[which]

    def _reference(self) -> Rows:
        if self.trusted is None:
            self.trusted = reference(self.terms, self.name, self.memory)[1]
        return self.trusted

    def _settle(self, width: int, like: Tensor) -> None:
        known = self.memory.get(width)
        if known in self.routes:
            self.settled[width] = known
            return
        v = gaussian(width, like, width, like.shape[1])
        c = gaussian(width + 1, like, width)
        combined = c @ v
        expected = self._reference()(combined[None])[0]
        why = {}
        for which in self.left:
            found = attempt(partial(self._by, which, v))
            if isinstance(found, str):
                why[which] = found
                continue
            off = float((c @ found - expected).norm())
            if off <= AGREE[like.dtype] * float(expected.norm()) or off <= self._noise(combined, expected):
                self.settled[width] = self.memory[width] = which
                self._say(which, width, why)
                return
            why[which] = f"off by {off / max(float(expected.norm()), 1e-300):.1e} (relative)"
        raise _refused(self.name, {which or "vectorised": what for which, what in why.items()}, True)

    def _say(self, which: str, width: int, why: dict[str, str]) -> None:
        if not which:
            return
        reason = next(iter(why.values()), "it failed for other numbers of vectors")
        if not any(f": {which}, " in note for note in self.notes):
            self.notes.append(
                f"{self.name}: {which}, for the vectorised derivative of {width} vectors fails ({reason})"
            )

    def _noise(self, v: Tensor, expected: Tensor) -> float:
        """What rounding may make of a product: ten times what another order, route or length changes."""
        terms, known = self.terms, self.memory["reference"]
        back = Terms(terms.loss, terms.at, lambda: (Samples(*(t.flip(0) for t in part)) for part in terms.parts()))
        others = [attempt(partial(_one, REFERENCES[known], back, v))]
        others += [attempt(partial(_one, make, terms, v)) for make in REFERENCES.values()]
        changes = [float((one - expected).norm()) for one in others if not isinstance(one, str)]
        # Beyond a millionth it is another formula that differs, not rounding.
        close = [change for change in changes if change <= DIFFERENCES[v.dtype] * float(expected.norm())]
        eps, size = torch.finfo(v.dtype).eps, float(terms.at.norm())
        floor = 64 * eps * float(terms.gradient(terms.at).norm()) * float(v.norm()) / size if size else 0.0
        close.append(rounding_of(partial(_one, REFERENCES[known], terms), v))  # what cancels inside every sample
        return max(10 * max(close), floor, _rounding(terms) * float(v.norm()))

    def _confirm(self, v: Tensor, product: Tensor) -> None:
        c = gaussian(self.calls, v, len(v))
        combined, given = c @ v, c @ product
        if not torch.isfinite(given).all():
            return  # said by whoever asked
        expected = self._reference()(combined[None])[0]
        off = float((given - expected).norm())
        if off <= AGREE[v.dtype] * float(expected.norm()) or off <= self._noise(combined, expected):
            return
        raise StaleLinearisation(
            f"{self.name}: product {self.calls} differs from one computed from scratch by "
            f"{off / max(float(expected.norm()), 1e-300):.1e} (relative), though the first ones did not; the automatic "
            "derivative of this loss changes with use, rewrite it without in-place steps"
        )


def fresh(loss: Loss, at: Tensor, samples: Samples, v: Tensor, name: str = "∇²R") -> Tensor:
    """Hv for v (dim) or (k, dim), from scratch: by forward over reverse where differences confirm it, else otherwise.

    Which route it is, is measured once for a loss, in either precision.
    """
    memory = remembered(loss).setdefault(("fresh", getattr(loss, "__name__", ""), at.dtype, len(samples or ())), {})
    terms = Terms(loss, at.detach(), lambda: (samples,))
    with differentiating():
        apply = reference(terms, name, memory, SCRATCH)[1]
        moved = [apply(row[None])[0] for row in v.detach().reshape(-1, len(at))]
    return torch.stack(moved).reshape(v.shape) if moved else torch.zeros_like(v)
