r"""Any differentiable risk on named tensors, each with a representation of its own.

    R: (A_1, …, A_k) ↦ R(A),   ρ̄(g)A = (ρ_1(g)A_1, …, ρ_k(g)A_k),   R^aug(A) = ∫ R(ρ̄(g)A) dμ(g)

A tensor of n numbers with a representation ρ on Rⁿ is an element of Hom(R, ρ); with a pair (ρ_in, ρ_out) it is a
linear map, an element of Hom(ρ_in, ρ_out), whose rows run over the first axis. Either way it is a layer of the
parameter space, and nothing else in the package can tell it from a layer of a network.

>>> import torch
>>> from stability.groups import Cyclic, PermutationRepresentation
>>> swap = PermutationRepresentation(Cyclic(2), 2, lambda g: [g, 1 - g], "swap")
>>> def well(tensors):  # a double well for every coordinate, and a bowl in the sum
...     a = tensors["a"]
...     return (a * a - 1).square().sum() + a.sum().square()
>>> problem = from_risk(well, {"a": torch.tensor([0.3, -0.2], dtype=torch.float64)}, {"a": swap})
>>> problem.space.dim, problem.space.dim_equivariant
(2, 1)
>>> a = unpack(problem.space, torch.ones(2, dtype=torch.float64))["a"]
>>> float(well({"a": a})), float(problem.risk(a))
(4.0, 4.0)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, jvp

from stability import doors
from stability.doors import dense, exact, finite
from stability.errors import BadInput
from stability.groups import DirectSum, Element, Group, Representation, TensorProduct, trivial
from stability.layers import Layer
from stability.problem import ParameterSpace, Problem, Samples
from stability.products import fresh

# Beyond so many elements a bare risk is not averaged over moved weights: each costs a whole evaluation.
BARE_ORDER = 200
# Beyond this a representation is not what it is said to be.
TOLERANCE = 1e-8
Tensors = dict[str, Tensor]
Spec = Representation | tuple[Representation, Representation]


@dataclass(frozen=True)
class Parameter(Layer):
    """A tensor of a module or of a dict: Hom(source, target) with the shape that its owner gives it.

    Args:
        tensor_shape: the owner's shape; flattened row by row it is that of the matrix. Complex tensors have a last
            axis of two, real and imaginary part.
        complex: whether the owner's tensor is complex.
    """

    tensor_shape: tuple[int, ...] = ()
    complex: bool = False


def spread(representation: Representation) -> Representation:
    """The same representation with tensor products (c·a) ⊗ b multiplied out to c·(a ⊗ b), which keeps the layout.

    >>> from stability.groups import Symmetric, permutation, trivial
    >>> nodes = permutation(Symmetric(3))
    >>> spread((2 * trivial(Symmetric(3))) * nodes).blocks[0][0]
    2
    """
    if not isinstance(representation, TensorProduct):
        return representation
    left = spread(representation.a)
    if not isinstance(left, DirectSum):
        return representation
    blocks = [
        (copies, representation.b if _is_one(base) else TensorProduct(base, representation.b))
        for copies, base in left.blocks
    ]
    return DirectSum(tuple(blocks))


def _is_one(base: Representation) -> bool:
    return base == trivial(base.group)


def parameter(name: str, shape: Sequence[int], spec: Spec, complex: bool = False) -> Parameter:
    """The layer of one tensor; of a complex one, of the pairs (real part, imaginary part) of its entries.

    Raises:
        BadInput: representations whose dimensions do not multiply to the number of entries, or do not fit the rows.
    """
    shape = (*shape, 2) if complex else tuple(shape)
    count = math.prod(shape)
    if not count:
        raise BadInput(f"{name} has shape {shape} and no entries; leave it out")
    if isinstance(spec, Representation):
        source, target = trivial(spec.group), spec
    elif isinstance(spec, tuple) and len(spec) == 2 and all(isinstance(part, Representation) for part in spec):
        source, target = spec
    else:
        raise BadInput(
            f"{name}: give a representation on its {count} entries or a pair (representation in, representation out), "
            f"not {spec!r}"
        )
    if source.dim * target.dim != count or (not isinstance(spec, Representation) and shape[:1] != (target.dim,)):
        have = f"{target.name} has dimension {target.dim}"
        if not isinstance(spec, Representation):
            have += f" for its rows, {source.name} has {source.dim} for its columns"
        if complex:
            raise BadInput(
                f"{name} is complex: {count // 2} entries are {count} real numbers, each real part followed by its "
                f"imaginary part, but {have}; give a representation on these, such as ρ * (2 * trivial(G)), which "
                "treats both alike"
            )
        raise BadInput(f"{name} has shape {shape}, {count} entries, but {have}; give representations that fit")
    return Parameter(name, spread(source), spread(target), shape, complex)


def shape_of(layer: Layer) -> tuple[int, ...]:
    """The shape that the owner of a layer's weights gives them."""
    return layer.tensor_shape if isinstance(layer, Parameter) else layer.shape


def unpack(space: ParameterSpace, v: Tensor) -> Tensors:
    """(…, dim L) → tensors by name, in their owner's shapes, complex ones from pairs of real numbers."""
    parts = v.split([layer.dim for layer in space.layers], dim=-1)
    return {
        layer.name: _owned(layer, part.reshape((*part.shape[:-1], *shape_of(layer))))
        for layer, part in zip(space.layers, parts, strict=True)
    }


def _owned(layer: Layer, part: Tensor) -> Tensor:
    return torch.complex(part[..., 0], part[..., 1]) if _is_complex(layer) else part


def _is_complex(layer: Layer) -> bool:
    return isinstance(layer, Parameter) and layer.complex


def pack(space: ParameterSpace, tensors: Mapping[str, Tensor], where: str = "weights") -> Tensor:
    """The inverse of :func:`unpack` for unbatched tensors; names that the space does not have are ignored.

    float32 alone stays float32; anything else that is exact in float64, half precision and integers among it, is
    converted to that.

    Raises:
        BadInput: a tensor that is missing, of another shape, complex where weights are real, or not finite; the
            message names it.
    """
    parts = []
    for layer in space.layers:
        if layer.name not in tensors:
            raise BadInput(
                f"{where}: no tensor {layer.name!r}; there are {', '.join(map(str, tensors)) or 'none'}, this problem "
                f"needs {', '.join(one.name for one in space.layers)}"
            )
        label = f"{where}: {layer.name}"
        tensor = dense(label, tensors[layer.name])
        if tensor.is_complex() and _is_complex(layer):
            tensor = torch.view_as_real(tensor)
        if tuple(tensor.shape) != shape_of(layer):
            raise BadInput(
                f"{where}: {layer.name} has shape {tuple(tensor.shape)}, this problem needs {shape_of(layer)}"
            )
        narrow = tensor.dtype == torch.float32
        tensor = finite(label, tensor if narrow else exact(label, tensor, torch.float64), "repair it")
        parts.append(tensor.reshape(-1))
    dtype = torch.float32 if all(part.dtype == torch.float32 for part in parts) else torch.float64
    return torch.cat([part.to(dtype) for part in parts])


def some_equivariant(name: str, space: ParameterSpace) -> None:
    """Raise BadInput where E = {0}, unless a representation is none: the assumptions tell that better."""
    if not space.dim_equivariant:
        measured = measured_representations(layer_spaces(space), space.group, 0)
        if max(error for error, _ in measured.values()) > TOLERANCE:
            return
        spaces = ", ".join(f"{one.name}: {one.source.name} → {one.target.name}" for one in space.layers)
        raise BadInput(f"{name}: no weights but zero are equivariant ({spaces}); check the representations")


def starts(space: ParameterSpace, given: Tensor) -> Callable[[int], Tensor]:
    """Seed ↦ a start on E: 0 is the given weights, projected; others Gaussian, each tensor as large as the given."""

    def initial(seed: int) -> Tensor:
        if seed == 0:
            return space.project(given)
        generator = torch.Generator().manual_seed(seed)
        parts = []
        for layer, w in zip(space.layers, space.split(given), strict=True):
            size = layer.size()
            parts.append(
                float(w.norm())
                / math.sqrt(max(size, 1))
                * torch.randn(size, generator=generator, dtype=torch.float64).to(given)
            )
        return torch.cat(parts)

    return initial


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
        raise BadInput(f"{name}: the risk cannot be differentiated twice ({doors.reason(error)}); {mend}") from error
    for what, found in (("value", value), ("Hessian", product)):
        if not torch.isfinite(found).all():
            raise BadInput(f"{name}: its {what} at the given tensors is not finite; start where the risk is smooth")
    if at.dtype == torch.float64:
        _attached(name, loss, at)


def _attached(name: str, loss: Callable[[Tensor], Tensor], at: Tensor) -> None:
    """Raise BadInput where values change along a direction and the gradient does not say so: something is detached.

    Differences of values at two steps that agree with each other are believed; where they do not, a kink or rounding
    has its part in them, and nothing is said.
    """
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(len(at), generator=generator, dtype=torch.float64).to(at)
    v = v * (float(at.norm()) or 1.0) / v.norm()
    with torch.no_grad():
        wide, fine = (float(loss(at + h * v) - loss(at - h * v)) / (2 * h) for h in (1e-4, 1e-5))
        noise = 1e-11 * abs(float(loss(at)))
    told = float(grad(loss)(at) @ v)
    if abs(wide - fine) <= 1e-3 * abs(fine) and abs(fine - told) > 0.05 * abs(fine) + 1e5 * noise:
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
        return fresh(lambda a, _: loss(a), at, None, ones, name)


def from_risk(
    risk: Callable[..., Tensor],
    tensors: Mapping[str, Tensor],
    representations: Mapping[str, Spec],
    *,
    name: str = "risk",
    samples: Samples | None = None,
    transform: Callable[[Element, Samples], Samples] | None = None,
    moved: Callable[[Element, Tensors], Tensor] | None = None,
    weight_decay: float = 0.0,
    facts: Sequence[tuple[str, str]] = (),
) -> Problem:
    """The problem of a differentiable risk on named tensors.

    R^aug(A) = ∫R(ρ̄(g)A)dμ, the average over moved *weights*. It is the risk on moved *data* where R(ρ̄(g)A; g·data) =
    R(A; data) for every A (Lemma 4), which holds for equivariant architectures under their own ρ and can be measured
    only where it is said how the data move: by ``samples`` and ``transform``, or, for a risk that closes over its data,
    by ``moved``. Without either the problem's facts say that it was not measured.

    Args:
        risk: tensors by name ↦ R, a single number; with ``samples``, (tensors, samples) ↦ Σ_s w_s ℓ_s.
        tensors: where the first start is; their shapes count. float32 alone is computed in float32, all else in
            float64; a complex tensor is pairs of real numbers, real and imaginary part of every entry.
        representations: for each tensor a representation on its flattened entries, or a pair (ρ_in, ρ_out) for a
            linear map with ρ̄(g)W = ρ_out(g) W ρ_in(g)⁻¹, whose first axis has dim ρ_out.
        name: what reports print.
        samples: data, if the risk is a sum over samples.
        transform: (g, samples) ↦ samples moved by g, asked for with samples.
        moved: (g, tensors) ↦ R on data moved by g, for a risk without samples.
        weight_decay: μ in μ/2‖A‖², added to the risk.
        facts: lines of a report's first screen.

    Returns:
        a problem whose start with seed 0 is the given tensors, projected onto E.

    Raises:
        BadInput: a tensor without representation, shapes that do not fit, a risk that is no number, is not finite, or
            cannot be differentiated twice.
    """
    _known(risk, tensors, representations, name, samples, transform, moved)
    weight_decay, facts = doors.number("weight_decay", weight_decay), doors.facts(facts)
    values = {key: doors.dense(f"{name}: {key}", value) for key, value in tensors.items()}
    space = ParameterSpace(
        tuple(parameter(key, t.shape, representations[key], t.is_complex()) for key, t in values.items())
    )
    some_equivariant(name, space)
    given = pack(space, values, name)
    if samples is None:
        whole, action, samples, assumptions = _bare(risk, space, given, moved)
    else:
        whole, action = (lambda a, data: risk(unpack(space, a), data)), transform
        samples = _samples(name, samples, given.dtype)
        assumptions = _assumptions(space, whole, action, samples, given)
    twice_differentiable(name, lambda a: whole(a, samples), given)
    description = "a risk on " + ", ".join(f"{k} {tuple(t.shape)}" for k, t in values.items())
    if any(t.dtype not in (torch.float32, torch.float64) for t in values.values()):
        kinds = ", ".join(f"{k} {str(t.dtype).removeprefix('torch.')}" for k, t in values.items())
        facts = (("precision", f"computed in {str(given.dtype).removeprefix('torch.')}; given as {kinds}"), *facts)
    if transform is None and moved is None:
        facts = (("R^aug", _meaning(space, whole, samples, given)), *facts)
    return Problem(
        name=name,
        space=space,
        samples=samples,
        loss=whole,
        weight_decay=weight_decay,
        transform=action,
        initial=starts(space, given),
        assumptions=assumptions,
        facts=(("network", description), *facts),
    )


def _known(
    risk: object,
    tensors: object,
    representations: object,
    name: object,
    samples: object,
    transform: object,
    moved: object,
) -> None:
    """Raise BadInput for arguments of another kind, and for tensors and representations that do not go together."""
    doors.text("name", name)
    doors.call("risk", risk, "give a function of tensors by name")
    for what, found in (("tensors", tensors), ("representations", representations)):
        doors.kind(f"{name}: {what}", found, Mapping, "give a dict by names")
        if strange := [key for key in found if not isinstance(key, str)]:
            raise BadInput(f"{name}: {what}: {doors.shown(strange[0])} is no name; give texts")
    unknown = [key for key in representations if key not in tensors]
    missing = [key for key in tensors if key not in representations]
    if unknown or missing or not tensors:
        raise BadInput(
            f"{name}: no representation for {', '.join(missing) or 'nothing'}, no tensor for "
            f"{', '.join(unknown) or 'nothing'}; give each tensor its representation"
        )
    if (samples is None) != (transform is None):
        there, mend = ("transform", "samples=") if samples is None else ("samples", "transform=(g, samples) ↦ samples")
        raise BadInput(
            f"{name}: {there} without the other leaves open what R^aug is on moved data; give {mend} too, or let the "
            "risk close over its data, and R^aug is the average over moved weights"
        )
    if transform is not None:
        doors.call("transform", transform, "give a function of (g, samples)")
    if moved is not None:
        doors.call("moved", moved, "give a function of (g, tensors), the risk on data moved by g")
        if samples is not None:
            raise BadInput(f"{name}: moved= is for a risk without samples; leave it out, transform= says the same")


def _samples(name: str, samples: object, dtype: torch.dtype) -> Samples:
    """Samples of a user's risk, checked and detached; weights are left as they are, for the risk is their sum."""
    # The length of Samples is their number, not that of the tuple.
    if not isinstance(samples, tuple | list) or len(tuple(samples)) != 3:
        raise BadInput(f"{name}: samples: {doors.shown(samples)}; give stability.Samples(x, y, weight)")
    x, y, weight = (doors.dense(f"{name}: samples.{k}", v) for k, v in zip(Samples._fields, samples, strict=True))
    if not x.ndim or not y.ndim or not len(x) or not len(x) == len(y) == weight.numel() or weight.ndim != 1:
        shapes = ", ".join(str(tuple(t.shape)) for t in (x, y, weight))
        raise BadInput(f"{name}: samples have shapes {shapes}; give inputs (n, …), targets (n, …) and weights (n)")
    for what, value in (("inputs", x), ("targets", y), ("weights", weight)):
        doors.finite(f"{name}: samples: {what}", value, "clean the data")
    if weight.is_complex() or float(weight.min()) < 0:
        raise BadInput(f"{name}: samples: weights are {doors.shown(weight)}; give real numbers ≥ 0")
    x, weight = (doors.exact(f"{name}: samples", value, dtype) for value in (x, weight))
    return Samples(x, y.to(dtype) if y.is_floating_point() else y, weight)


def _bare(
    risk: Callable[[Tensors], Tensor],
    space: ParameterSpace,
    given: Tensor,
    elsewhere: Callable[[Element, Tensors], Tensor] | None = None,
) -> tuple[Callable, Callable | None, Samples, Callable]:
    """A risk without data. Its one datum is the identity of G: ℓ(A, h) = R(ρ̄(h)A), and g moves h to hg⁻¹."""
    group, numbers = space.group, {space.group.identity: 0}
    known = [group.identity]

    def loss(parameters: Tensor, samples: Samples) -> Tensor:
        total = torch.zeros((), dtype=parameters.dtype, device=parameters.device)
        for number, weight in zip(samples.x[:, 0].tolist(), samples.weight.tolist(), strict=True):
            h = known[int(number)]
            moved = parameters if h == group.identity else space.act(h, parameters)
            value = risk(unpack(space, moved))
            if not isinstance(value, Tensor):
                raise BadInput(f"the risk gives {doors.shown(value)}; it must give a tensor with one number")
            total = total + weight * value
        return total

    def transform(g: Element, samples: Samples) -> Samples:
        moved = []
        for number in samples.x[:, 0].tolist():
            h = group.multiply(known[int(number)], group.inverse(g))
            if h not in numbers:
                numbers[h] = len(known)
                known.append(h)
            moved.append(float(numbers[h]))
        return Samples(samples.x.new_tensor(moved).unsqueeze(1), samples.y, samples.weight)

    one = given.new_ones(1)
    samples = Samples(given.new_zeros(1, 1), given.new_zeros(1), one)
    nodes = group.nodes(2 * space.degree)
    summable = nodes is not None and nodes <= BARE_ORDER
    on_data = None if elsewhere is None else (lambda a, g: elsewhere(g, unpack(space, a)))
    measure = _assumptions(space, loss, None, samples, given, on_data)
    return loss, transform if summable else None, samples, measure


def measured_representations(
    spaces: Sequence[tuple[str, Representation]], group: Group, seed: int
) -> dict[str, tuple[float, str]]:
    """Largest |⟨ρ(g)x, ρ(g)y⟩ − ⟨x, y⟩| and |ρ(gh)x − ρ(g)ρ(h)x| over named spaces and probes of the group."""
    rng, torch_rng = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    worst = {"orthogonal": (0.0, ""), "homomorphism": (0.0, "")}

    def record(key: str, difference: Tensor, where: str) -> None:
        error = float(difference.abs().max())
        if not error <= worst[key][0]:
            worst[key] = (error, where)

    homes: dict[Representation, list[str]] = {}
    for label, rho in spaces:
        homes.setdefault(rho, []).append(label)
    for rho, labels in homes.items():
        label = ", ".join(labels)
        x, y = torch.randn(2, 4, rho.dim, generator=torch_rng, dtype=torch.float64)
        probes = [*group.generators, group.sample(rng), group.sample(rng)]
        for g in probes:
            if g not in group.generators and max(error for error, _ in worst.values()) > TOLERANCE:
                break  # a generator tells it already
            moved, where = rho.act(g, x), f"{label}: {rho.name}, {element(group, g)}"
            record("orthogonal", moved @ rho.act(g, y).mT - x @ y.mT, where)
            for h in probes:
                difference = rho.act(group.multiply(g, h), x) - rho.act(g, rho.act(h, x))
                record("homomorphism", difference, f"{where}, h = {h}")
    return worst


def element(group: Group, g: Element) -> str:
    """``generator (1, 0)`` or ``element (3, 1)``."""
    return f"{'generator' if g in group.generators else 'element'} {g}"


def layer_spaces(space: ParameterSpace) -> list[tuple[str, Representation]]:
    """The representations of a parameter space with the layers they belong to."""
    pairs = []
    for layer in space.layers:
        pairs.append((f"{layer.name} (in)", layer.source))
        pairs.append((f"{layer.name} (out)", layer.target))
    return [(label, rho) for label, rho in pairs if not _is_one(rho)]


def _nearby(given: Tensor, seed: int, number: int = 0) -> Tensor:
    """A random point as far from the given one as that is from zero."""
    generator = torch.Generator().manual_seed(seed + 1_000_003 * number)
    noise = torch.randn(len(given), generator=generator, dtype=torch.float64).to(given)
    return given + noise * (float(given.norm()) or 1.0) / noise.norm()


def _probes(group: Group, seed: int) -> list[Element]:
    rng = np.random.default_rng(seed)
    return [*group.generators, *(group.sample(rng) for _ in range(3))]


def _departure(found: Tensor, plain: Tensor, spread: float) -> float:
    """How far a risk is from another beyond rounding, relative to what it varies by between two points.

    The risk itself is no scale: a constant can be added to it, and it may be 1e-9 or 1e9 large.
    """
    eps = torch.finfo(plain.dtype).eps
    beyond = max(float((found - plain).abs()) - 64 * eps * float(plain.abs()), 0.0)
    return beyond / spread if spread > 0 else beyond


def _meaning(space: ParameterSpace, loss: Callable, samples: Samples, given: Tensor) -> str:
    """What R^aug is for a risk of which only ρ̄ is known, with how far R is from being invariant."""
    with torch.no_grad():
        at = _nearby(given, 0)
        plain, spread = loss(at, samples), float((loss(_nearby(given, 0, 1), samples) - loss(at, samples)).abs())
        moved = [_departure(loss(space.act(g, at), samples), plain, spread) for g in _probes(space.group, 0)]
    worst = max(moved)
    if worst <= TOLERANCE:
        return f"R(ρ̄(g)A) = R(A) to {worst:.1e} of its variation: R is invariant, and R^aug is R"
    return (
        f"the average of R over moved weights, R(ρ̄(g)A), which differs from R(A) by {worst:.2g} of its variation; that "
        "the risk on moved data is the same (Lemma 4) was not measured: give samples= and transform=, or moved="
    )


def _assumptions(
    space: ParameterSpace,
    loss: Callable,
    transform: Callable | None,
    samples: Samples,
    given: Tensor,
    on_data: Callable[[Tensor, Element], Tensor] | None = None,
) -> Callable[[int], dict[str, tuple[float, str]]]:
    def measure(seed: int) -> dict[str, tuple[float, str]]:
        worst = measured_representations(layer_spaces(space), space.group, seed)
        if transform is None and on_data is None:
            return worst
        worst["invariant_loss"] = (0.0, "")
        with torch.no_grad():
            at = _nearby(given, seed)
            plain = loss(at, samples)
            spread = float((loss(_nearby(given, seed, 1), samples) - plain).abs())
            for g in _probes(space.group, seed):
                there = space.act(g, at)
                moved = on_data(there, g) if on_data else loss(there, transform(g, samples))
                error = _departure(moved, plain, spread)
                if not error <= worst["invariant_loss"][0]:
                    where = f"the risk, R(ρ̄(g)A; g·data) − R(A; data), {element(space.group, g)}"
                    worst["invariant_loss"] = (error, where)
        return worst

    return measure
