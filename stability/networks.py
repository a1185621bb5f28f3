r"""Multilayer perceptrons over representations: x_{i+1} = σ_i(A_i x_i) (eq. 1).

>>> import torch
>>> from stability.groups import images, torus, trivial
>>> G = torus(3)
>>> net = mlp([1 * images(G, 3), 2 * images(G, 3), 4 * trivial(G)], [Pointwise("tanh"), Identity()])
>>> net.space.dim, net.space.dim_equivariant
(234, 26)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stability import doors
from stability.errors import BadInput
from stability.groups import Element, Representation, trivial
from stability.layers import make_layer, supports
from stability.persample import per_sample, probing, takes_all
from stability.problem import FlatFamily, ParameterSpace, Problem, Samples

SMOOTH: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "gelu": functional.gelu,
    "softplus": functional.softplus,
    "sigmoid": torch.sigmoid,
    "identity": lambda x: x,
    "quadratic": lambda x: x + x * x,
}
KINKED: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "leaky_relu": functional.leaky_relu,
}


@dataclass(frozen=True)
class Identity:
    """σ(x) = x."""

    name = "identity"
    pointwise = True

    def __call__(self, x: Tensor, space: Representation) -> Tensor:
        return x


@dataclass(frozen=True)
class Pointwise:
    """σ applied to every coordinate, which commutes with permutation representations.

    Raises:
        BadInput: an unknown σ.
    """

    name: str
    pointwise = True

    def __post_init__(self) -> None:
        doors.choice("activation", self.name, list(SMOOTH | KINKED))

    @property
    def kinked(self) -> bool:
        return self.name in KINKED

    def __call__(self, x: Tensor, space: Representation) -> Tensor:
        return (SMOOTH | KINKED)[self.name](x)


@dataclass(frozen=True)
class LayerNorm:
    """(x − mean)/√(var + ε) over the channels at every point of a space c·ρ, without affine part.

    Args:
        epsilon: part of the problem's specification; scale invariance is exact only at ε = 0.

    Raises:
        BadInput: ε that is no number ≥ 0.
    """

    epsilon: float
    pointwise = False

    def __post_init__(self) -> None:
        doors.number("LayerNorm: ε", self.epsilon)

    @property
    def name(self) -> str:
        return f"LayerNorm(ε={self.epsilon:g})"

    def __call__(self, x: Tensor, space: Representation) -> Tensor:
        ((channels, base),) = space.blocks
        z = x.unflatten(-1, (channels, base.dim))
        z = z - z.mean(-2, keepdim=True)
        return (z * torch.rsqrt((z * z).mean(-2, keepdim=True) + self.epsilon)).flatten(-2)


def _is_scalar(base: Representation) -> bool:
    """Whether G acts trivially on a summand of dimension one."""
    return base == trivial(base.group)


def _smooth(name: str) -> Callable[[Tensor], Tensor]:
    known = {key: f for key, f in SMOOTH.items() if key != "quadratic"}
    if not isinstance(name, str) or name not in known:
        raise BadInput(f"activation {name!r} is unknown here; choose from {', '.join(known)}, which are smooth")
    return known[name]


@dataclass(frozen=True)
class Norm:
    """v ↦ σ(|v|_ε)/|v|_ε · v for every copy of a summand, |v|_ε = √(|v|² + ε²); σ itself on scalars.

    Commutes with every orthogonal ρ, for |v| is invariant, and is smooth for ε > 0.

    Args:
        sigma: name of σ.
        epsilon: part of the problem's specification.

    Raises:
        BadInput: an unknown σ, or ε that is not positive.

    >>> from stability.groups import SO2, harmonics
    >>> v = torch.tensor([[0.3, 0.4]], dtype=torch.float64)  # tanh 0.5 = 0.4621
    >>> round(Norm("tanh", epsilon=1e-9)(v, harmonics(SO2(), 1)).norm().item(), 4)
    0.4621
    """

    sigma: str = "tanh"
    epsilon: float = 0.1
    pointwise = False

    def __post_init__(self) -> None:
        _smooth(self.sigma)
        doors.number("norm nonlinearity: ε", self.epsilon)
        if not self.epsilon > 0:
            raise BadInput(f"norm nonlinearity: ε = {self.epsilon:g} leaves a kink at zero; give ε > 0")

    @property
    def name(self) -> str:
        return f"norm {self.sigma} (ε={self.epsilon:g})"

    def __call__(self, x: Tensor, space: Representation) -> Tensor:
        sigma, parts = _smooth(self.sigma), []
        for part, (copies, base) in zip(_summands(x, space), space.blocks, strict=True):
            if _is_scalar(base):
                parts.append(sigma(part))
                continue
            v = part.unflatten(-1, (copies, base.dim))
            length = (v.square().sum(-1, keepdim=True) + self.epsilon**2).sqrt()
            parts.append((v * (sigma(length) / length)).flatten(-2))
        return torch.cat(parts, dim=-1)


@dataclass(frozen=True)
class Gated:
    """Scalars s and vectors v, each vector with a scalar of its own: u = s + |v|²/dim v, (s, v) ↦ (σ(u), sigmoid(u)·v).

    The j-th copy among all summands but scalars goes with the j-th scalar; further scalars get σ alone. Lengths enter
    the scalars, so what follows can see them: between irreps of a Lie group no linear equivariant layer could tell.

    Args:
        sigma: name of σ.

    Raises:
        BadInput: an unknown σ; on use, a space that does not begin with a scalar for every vector.

    >>> from stability.groups import SO3, harmonics, trivial
    >>> space = 4 * trivial(SO3()) + 3 * harmonics(SO3(), 1)
    >>> Gated("tanh")(torch.ones(1, 13), space).shape
    torch.Size([1, 13])
    """

    sigma: str = "tanh"
    pointwise = False

    def __post_init__(self) -> None:
        _smooth(self.sigma)

    @property
    def name(self) -> str:
        return f"gated {self.sigma}"

    def __call__(self, x: Tensor, space: Representation) -> Tensor:
        (scalars, first), rest = space.blocks[0], space.blocks[1:]
        vectors = sum(copies for copies, _ in rest)
        if not _is_scalar(first) or any(_is_scalar(base) for _, base in rest) or scalars < vectors:
            raise BadInput(
                f"gated nonlinearity on {space.name}: it needs first a scalar for each of the {vectors} vectors, "
                "then the vectors, as in c·1 + c·V"
            )
        s, *parts = _summands(x, space)
        parts = [part.unflatten(-1, (copies, base.dim)) for part, (copies, base) in zip(parts, rest, strict=True)]
        lengths = [v.square().mean(-1) for v in parts]
        u = s + torch.cat([*lengths, torch.zeros_like(s[..., vectors:])], dim=-1)
        gates = torch.sigmoid(u[..., :vectors]).split([copies for copies, _ in rest], dim=-1)
        moved = [(v * g.unsqueeze(-1)).flatten(-2) for v, g in zip(parts, gates, strict=True)]
        return torch.cat([_smooth(self.sigma)(u), *moved], dim=-1)


def _summands(x: Tensor, space: Representation) -> tuple[Tensor, ...]:
    """x cut into the blocks c·ρ of its space."""
    return x.split([copies * base.dim for copies, base in space.blocks], dim=-1)


@dataclass(frozen=True)
class Chain:
    """One nonlinearity after the other."""

    parts: tuple[Pointwise | LayerNorm | Norm | Gated | Identity, ...]

    @property
    def pointwise(self) -> bool:
        return all(part.pointwise for part in self.parts)

    @property
    def name(self) -> str:
        return ", ".join(part.name for part in self.parts)

    def __call__(self, x: Tensor, space: Representation) -> Tensor:
        for part in self.parts:
            x = part(x, space)
        return x


Nonlinearity = Identity | Pointwise | LayerNorm | Norm | Gated | Chain


def _parts(sigma: Nonlinearity) -> tuple[Pointwise | LayerNorm | Norm | Gated | Identity, ...]:
    return sigma.parts if isinstance(sigma, Chain) else (sigma,)


def with_one(x: Tensor) -> Tensor:
    """(x, 1): what an affine layer is linear on."""
    return torch.cat([x, x.new_ones((*x.shape[:-1], 1))], dim=-1)


@dataclass(frozen=True)
class MLP:
    """Layers A_i: X_i → X_{i+1} and the σ_i that follow them.

    An affine layer x ↦ Wx + b is the linear map (W, b) on X_i ⊕ R, G acting trivially on R: on E, b is invariant.

    Args:
        space: the layers.
        nonlinearities: σ_i.
        input: X_0.
        biases: which layers are affine, their sources being X_i ⊕ R; none by default.
    """

    space: ParameterSpace
    nonlinearities: tuple[Nonlinearity, ...]
    input: Representation
    biases: tuple[bool, ...] = ()

    @property
    def affine(self) -> tuple[bool, ...]:
        """For every layer, whether it has a bias."""
        return self.biases or (False,) * len(self.nonlinearities)

    def entering(self, i: int, x: Tensor) -> Tensor:
        """What layer i multiplies: x, or (x, 1) where it has a bias."""
        return with_one(x) if self.affine[i] else x

    @property
    def output(self) -> Representation:
        return self.space.layers[-1].target

    def preactivations(self, parameters: Tensor, x: Tensor) -> list[Tensor]:
        """A_i x_i for every layer."""
        found = []
        for layer, weight, sigma, bias in zip(
            self.space.layers, self.space.split(parameters), self.nonlinearities, self.affine, strict=True
        ):
            found.append(x @ weight[..., :-1].mT + weight[..., -1] if bias else x @ weight.mT)
            x = sigma(found[-1], layer.target)
        return found

    def predict(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Φ_A(x), shape (n, dim Y)."""
        last = self.preactivations(parameters, x)[-1]
        return self.nonlinearities[-1](last, self.output)

    def predict_equivariant(self, theta: Tensor, x: Tensor) -> Tensor:
        """Φ_A(x) at the point of E with coordinates θ, through the layers' own arithmetic."""
        for i, (layer, t, sigma) in enumerate(
            zip(self.space.layers, self.space.split_coordinates(theta), self.nonlinearities, strict=True)
        ):
            x = sigma(layer.apply(t, self.entering(i, x)).squeeze(0), layer.target)
        return x

    def kink_margin(self, parameters: Tensor, x: Tensor) -> float | None:
        """min |pre-activation| / root mean square, over the kinked σ; None when there is none."""
        margins = []
        layers = zip(self.space.layers, self.preactivations(parameters, x), self.nonlinearities, strict=True)
        for layer, z, sigma in layers:
            for part in _parts(sigma):
                if isinstance(part, Pointwise) and part.kinked:
                    margins.append(float(z.abs().min() / z.square().mean().sqrt().clamp_min(1e-300)))
                z = part(z, layer.target)
        return min(margins) if margins else None

    def describe(self) -> str:
        """Spaces and nonlinearities on one line."""
        steps = [self.input.name]
        for layer, sigma, bias in zip(self.space.layers, self.nonlinearities, self.affine, strict=True):
            notes = ", ".join(["bias"] * bias + [sigma.name] * (sigma.name != "identity"))
            steps.append(f"{layer.target.name} [{notes}]" if notes else layer.target.name)
        return " → ".join(steps)


def _is_nonlinearity(value: object) -> bool:
    """One of the kinds above, or a user's own: called with (x, space), and named."""
    return callable(value) and not isinstance(value, type) and isinstance(getattr(value, "name", None), str)


def mlp(
    spaces: Sequence[Representation], nonlinearities: Sequence[Nonlinearity], bias: bool | Sequence[bool] = False
) -> MLP:
    """The network with X_i = spaces[i] and σ_i = nonlinearities[i].

    Args:
        spaces: X_0 … X_L.
        nonlinearities: σ_0 … σ_{L−1}.
        bias: whether layers are affine, all of them or each by itself; the bias is the last column of its A_i.

    Raises:
        BadInput: numbers that do not fit, or representations of different groups.
    """
    if not isinstance(spaces, Sequence) or not all(isinstance(one, Representation) for one in spaces):
        raise BadInput(f"network: spaces: {doors.shown(spaces)}; give a list of representations")
    if not isinstance(nonlinearities, Sequence) or not all(map(_is_nonlinearity, nonlinearities)):
        raise BadInput(
            f"network: nonlinearities: {doors.shown(nonlinearities)}; give a list of stability.Pointwise('tanh') and "
            "the like, or of functions of (x, space) with a name"
        )
    if not nonlinearities or len(spaces) != len(nonlinearities) + 1:
        raise BadInput(
            f"network: {len(spaces)} spaces need {len(spaces) - 1} nonlinearities, not {len(nonlinearities)}"
        )
    if not isinstance(bias, bool) and not (isinstance(bias, Sequence) and all(isinstance(one, bool) for one in bias)):
        raise BadInput(f"network: bias: {doors.shown(bias)}; give True, False or one of these for each layer")
    biases = (bias,) * len(nonlinearities) if isinstance(bias, bool) else tuple(bias)
    if len(biases) != len(nonlinearities):
        raise BadInput(f"network: {len(biases)} values of bias for {len(nonlinearities)} layers; give one for each")
    fourier = supports(list(spaces))
    layers = tuple(
        make_layer(f"A_{i}", a + trivial(a.group) if affine else a, b, fourier)
        for i, ((a, b), affine) in enumerate(zip(itertools.pairwise(spaces), biases, strict=True))
    )
    return MLP(ParameterSpace(layers), tuple(nonlinearities), spaces[0], biases)


def random_start(network: MLP, seed: int) -> Tensor:
    """Coordinates θ of Gaussian matrices projected onto E, then scaled to keep activations of order one.

    Entries of an unprojected layer would have variance 1/columns. The projection keeps dim E_i of dim L_i
    directions and so shrinks the norm by √(dim E_i/dim L_i); the scale undoes it.
    """
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for layer in network.space.layers:
        size = layer.size()
        # The projection of a standard Gaussian matrix has standard Gaussian coordinates.
        scale = (layer.dim / max(size, 1)) ** 0.5 / layer.shape[1] ** 0.5
        parts.append(scale * torch.randn(size, generator=generator, dtype=torch.float64))
    return torch.cat(parts)


# Losses, sample by sample: (prediction (n, dim Y), target) → (n).


def squared(prediction: Tensor, y: Tensor) -> Tensor:
    """½|prediction − y|²."""
    return 0.5 * (prediction - y).square().sum(-1)


def cross_entropy(prediction: Tensor, y: Tensor) -> Tensor:
    """−log softmax(prediction)_y for classes y (n)."""
    return functional.cross_entropy(prediction, y, reduction="none")


def logistic(prediction: Tensor, y: Tensor) -> Tensor:
    """Binary cross-entropy of logits, in the softplus form, averaged over dim Y.

    softplus(z) − y z; ``binary_cross_entropy_with_logits`` goes wrong under torch.func.linearize.
    """
    target = y.to(prediction.dtype).reshape(prediction.shape)
    return (functional.softplus(prediction) - target * prediction).mean(-1)


def two_masks(prediction: Tensor, y: Tensor) -> Tensor:
    """Sum of two binary cross-entropies, each averaged over the pixels of its mask."""
    return 2 * logistic(prediction, y)


@dataclass(frozen=True)
class Classifier:
    """An MLP with a loss: the model of a supervised problem.

    Args:
        network: Φ.
        loss: ℓ, one of the functions above or a user's own.
        target: the representation on targets; None when they are labels that G does not move.
        decides: True when predictions are logits of decisions, whose accuracy is the score; else the loss is.
    """

    network: MLP
    loss: Callable[[Tensor, Tensor], Tensor]
    target: Representation | None = None
    decides: bool = True

    @property
    def input(self) -> Representation:
        return self.network.input

    @property
    def output(self) -> Representation:
        return self.network.output

    def predict(self, parameters: Tensor, x: Tensor) -> Tensor:
        return self.network.predict(parameters, x)

    def predict_equivariant(self, theta: Tensor, x: Tensor) -> Tensor:
        return self.network.predict_equivariant(theta, x)

    def losses(self, prediction: Tensor, y: Tensor) -> Tensor:
        return self.loss(prediction, y)

    def move_target(self, g: Element, y: Tensor) -> Tensor:
        return y if self.target is None else self.target.act(g, y)

    def hits(self, prediction: Tensor, y: Tensor) -> Tensor:
        """Share of right decisions, sample by sample: classes by arg max, masks and yes/no by the logit's sign."""
        if y.ndim == 1 and prediction.shape[-1] > 1:
            return (prediction.argmax(-1) == y).to(prediction.dtype)
        return ((prediction > 0) == (y.reshape(prediction.shape) > 0.5)).to(prediction.dtype).mean(-1)

    def constant(self, y: Tensor) -> Tensor:
        """The best predictor that ignores its input (logits, for decisions), estimated from targets y."""
        if not self.decides:
            return y.mean(0)
        if y.ndim == 1 and self.output.dim > 1:
            counts = torch.bincount(y, minlength=self.output.dim).to(torch.float64)
            return torch.log((counts / counts.sum()).clamp_min(1e-12))
        # One logit for each channel: an equivariant constant cannot tell the points of an orbit apart.
        share = y.to(torch.float64).reshape(len(y), -1)
        ((channels, base),) = self.output.blocks
        share = share.unflatten(-1, (channels, base.dim)).mean((0, -1)).clamp(1e-12, 1 - 1e-12)
        return torch.logit(share).repeat_interleave(base.dim)


def checked(name: str, model: Classifier, data: Samples) -> Samples:
    """The same samples in one precision, the widest among them.

    Raises:
        BadInput: numbers that are not finite, inputs of another width than X_0, weights that are negative or do not
            sum to one, targets that the loss cannot take.
    """
    parts = tuple(doors.kind(f"{name}: data", data, tuple, "give stability.Samples(x, y, weight)"))
    if len(parts) != 3:
        raise BadInput(f"{name}: data of {len(parts)} parts; give stability.Samples(x, y, weight)")
    x, y, weight = (doors.dense(f"{name}: {k}", v) for k, v in zip(Samples._fields, parts, strict=True))
    if x.ndim != 2 or x.shape[1] != model.input.dim:
        raise BadInput(f"{name}: inputs have shape {tuple(x.shape)}; X_0 needs (samples, {model.input.dim})")
    if not y.ndim or weight.ndim != 1 or not len(x) or not len(x) == len(y) == len(weight):
        shapes = f"{len(x)} inputs, targets of shape {tuple(y.shape)}, weights of shape {tuple(weight.shape)}"
        raise BadInput(f"{name}: {shapes}; give one of each a sample, and at least one")
    for what, values in (("input", x), ("target", y), ("weight", weight)):
        bad = int((~torch.isfinite(values)).sum())
        if bad:
            raise BadInput(f"{name}: {bad} {what} values are not finite; clean the data")
    weight = doors.exact(f"{name}: weights", weight, torch.promote_types(weight.dtype, torch.float32))
    total = float(weight.double().sum())
    if float(weight.min()) < 0 or abs(total - 1) > 1e-6:
        raise BadInput(
            f"{name}: weights sum to {total:.6g}, least {float(weight.min()):.3g}; give weights ≥ 0 of sum one"
        )
    if model.loss is cross_entropy and model.output.dim < 2:
        raise BadInput(f"{name}: cross_entropy on {model.output.dim} logit is constant; use logistic, or more classes")
    dtype = torch.promote_types(doors.floating(x.dtype), weight.dtype)
    if y.is_floating_point():
        dtype = torch.promote_types(dtype, y.dtype)
    x, weight = doors.exact(f"{name}: inputs", x, dtype), weight.to(dtype)
    if y.is_floating_point() or y.is_complex():
        y = doors.exact(f"{name}: targets", y, dtype)
    elif y.dtype != torch.bool:
        y = y.long()
    _suits(name, model, Samples(x, y, weight))
    return Samples(x, y, weight)


def _suits(name: str, model: Classifier, data: Samples) -> None:
    """Raise BadInput unless the loss gives a number for every sample, whatever the others are."""
    x, y = data.x, data.y
    tried = probing(y)
    generator = torch.Generator().manual_seed(0)
    some = torch.randn(len(tried), model.output.dim, generator=generator, dtype=torch.float64).to(x)
    try:
        two = model.losses(some[:2], y[tried][:2])
        if isinstance(two, Tensor) and two.shape != (len(some[:2]),):
            raise BadInput(
                f"loss: for two samples it gives shape {tuple(two.shape)}, with predictions (2, {model.output.dim}) "
                f"and targets of shape {tuple(y.shape)}; it must give one number a sample, so reshape the targets"
            )
        per_sample(model.losses, some, y[tried], y)
    except BadInput as error:
        raise BadInput(f"{name}: the {error}") from error
    except Exception as error:
        raise BadInput(
            f"{name}: the loss cannot take targets of shape {tuple(y.shape)} ({doors.reason(error)}); reshape them"
        ) from error
    takes_all(name, model.losses, lambda part: part.new_zeros(len(part), model.output.dim), data)
    classes = y.ndim == 1 and model.output.dim > 1
    if model.decides and classes and (y.is_floating_point() or int(y.min()) < 0 or int(y.max()) >= model.output.dim):
        raise BadInput(
            f"{name}: decides=True counts right classes, but targets are no labels from 0 to {model.output.dim - 1}; "
            "give decides=False"
        )
    if model.decides and not classes and y[:1].numel() != model.output.dim:
        raise BadInput(
            f"{name}: decides=True compares {model.output.dim} logits with targets of shape {tuple(y.shape[1:])}; give "
            "decides=False"
        )


def supervised(
    name: str,
    model: Classifier,
    train: Samples,
    test: Samples | None = None,
    weight_decay: float = 0.0,
    facts: Sequence[tuple[str, str]] = (),
) -> Problem:
    """The problem of fitting ``model`` to ``train``: risk, action on data, start, metrics, flat directions.

    Raises:
        BadInput: data that do not fit; see :func:`checked`.
    """
    doors.text("name", name)
    doors.kind("model", model, Classifier, "give stability.Classifier(network, loss)")
    weight_decay, facts = doors.number("weight_decay", weight_decay), doors.facts(list(facts))
    network = model.network
    train = checked(name, model, train)
    test = None if test is None else checked(name, model, test)

    def loss(parameters: Tensor, samples: Samples) -> Tensor:
        return samples.weight @ model.losses(model.predict(parameters, samples.x), samples.y)

    def transform(g: Element, samples: Samples) -> Samples:
        return Samples(model.input.act(g, samples.x), model.move_target(g, samples.y), samples.weight)

    def metric(predict: Callable[[Tensor], Tensor], which: str) -> dict[str, float]:
        if which == "test" and test is None:
            return {}
        data = test if which == "test" else train
        with torch.no_grad():
            if which == "constant":
                prediction = model.constant(train.y).to(data.x).expand(len(data.x), -1)
            else:
                prediction = predict(data.x)
            scores = {"loss": float(data.weight @ model.losses(prediction, data.y))}
            if model.decides:
                scores = {"accuracy": float(data.weight @ model.hits(prediction, data.y)), **scores}
            return scores

    has_kink = any(isinstance(p, Pointwise) and p.kinked for s in network.nonlinearities for p in _parts(s))
    return Problem(
        name=name,
        space=network.space,
        samples=train,
        loss=loss,
        weight_decay=weight_decay,
        transform=transform,
        model=model,
        flat=known_flat_families(model, train.x),
        exchanges=lambda a: exchange_directions(network, a, weight_decay),
        initial=lambda seed: random_start(network, seed).to(train.x),
        metric=metric,
        assumptions=lambda seed: check_assumptions(model, train, seed),
        kink_margin=(lambda a: network.kink_margin(a, train.x)) if has_kink else None,
        facts=(("network", network.describe()), *facts),
    )


def _channel_mean(space: Representation, like: Tensor) -> Tensor | None:
    """The projection (1/c)11ᵀ ⊗ I onto what is constant over the channels of c·ρ."""
    if len(space.blocks) != 1:
        return None
    ((channels, base),) = space.blocks
    return torch.kron(torch.full((channels, channels), 1 / channels), torch.eye(base.dim)).to(like)


def _beside_bias(projection: Tensor) -> Tensor:
    """P on X ⊕ R, zero on the R that carries the bias."""
    return functional.pad(projection, (0, 1, 0, 1))


def unseen_inputs(x: Tensor, rho: Representation | None = None) -> Tensor | None:
    """Projection onto the orthogonal complement of span{x} or, with ρ, of the G-span of the data; None if zero."""
    gram = x.mT @ x / len(x)
    if rho is not None:
        # The G-span is the smallest subspace that holds the data and is fixed by the generators.
        basis, rank = _range(gram), -1
        while basis.shape[1] > rank and rank < gram.shape[0]:
            rank = basis.shape[1]
            moved = [basis] + [rho.act(g, basis, 0) for g in rho.group.generators]
            stacked = torch.cat(moved, dim=1)
            basis = _range(stacked @ stacked.mT)
    else:
        basis = _range(gram)
    if basis.shape[1] == gram.shape[0]:
        return None
    return torch.eye(gram.shape[0], dtype=x.dtype, device=x.device) - basis @ basis.mT


def _range(gram: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(gram)
    return vectors[:, values > 1e-12 * values[-1]]


def known_flat_families(model: Classifier, x: Tensor) -> tuple[FlatFamily, ...]:
    """The additive flat directions (docs/mathematics.md) that the architecture and the inputs tell in advance."""
    layers, sigmas = model.network.space.layers, model.network.nonlinearities
    families = []
    if model.loss is cross_entropy and all(part.name == "identity" for part in _parts(sigmas[-1])):
        shift = torch.full((layers[-1].shape[0],) * 2, 1 / layers[-1].shape[0]).to(x)
        families.append(FlatFamily("softmax shift 1⊗v", len(layers) - 1, shift, None))
    for i, (layer, sigma) in enumerate(zip(layers, sigmas, strict=True)):
        first, last = _parts(sigma)[0], _parts(sigma)[-1]
        if isinstance(first, LayerNorm):
            families.append(FlatFamily("1⊗v before LayerNorm", i, _channel_mean(layer.target, x), None))
        if isinstance(last, LayerNorm) and i + 1 < len(layers):
            mean = _channel_mean(layer.target, x)
            mean = _beside_bias(mean) if mean is not None and model.network.affine[i + 1] else mean
            families.append(FlatFamily("w⊗1 after LayerNorm", i + 1, None, mean))
    unseen = unseen_inputs(model.network.entering(0, x), layers[0].source)
    if unseen is not None:
        families.append(FlatFamily("inputs unseen on the whole orbit of the data", 0, None, unseen))
    return tuple(families)


def exchange_directions(network: MLP, parameters: Tensor, weight_decay: float) -> Tensor:
    """Directions (M A_i, −A_{i+1} M) that trade between two layers without changing Φ, as rows (k, dim L).

    M runs over gl(h) where no σ lies between the layers, over the diagonal (one trade of scale for each unit) where σ
    is (leaky) ReLU, over the rotations of every copy by itself where σ knows it by its length only (norm, gated). Where
    no σ lies between two affine layers, b_i trades with b_{i+1} too. Φ is constant along all of these, so the Hessian
    of a risk maps them to zero where its gradient vanishes. With weight decay only the antisymmetric M, which leave
    the norms alone, remain.
    """
    space, rows = network.space, []
    for i, sigma in enumerate(network.nonlinearities[:-1]):
        names = {part.name for part in _parts(sigma)}
        h = space.layers[i].shape[0]
        turns = weight_decay > 0  # antisymmetric M only
        if names <= {"identity"}:
            pairs = [(a, b) for a in range(h) for b in range(h) if a < b or not turns]
        elif names <= {"identity", *KINKED} and not turns:
            pairs = [(a, a) for a in range(h)]
        elif all(isinstance(part, (Norm, Gated, Identity)) for part in _parts(sigma)):
            pairs, turns = _within_copies(space.layers[i].target), True
        else:
            continue
        weights = space.split(parameters)
        for a, b in pairs:
            moved = [torch.zeros_like(w) for w in weights]
            moved[i][a], moved[i + 1][:, b] = weights[i][b], -weights[i + 1][:, a]
            if turns:
                moved[i][b], moved[i + 1][:, a] = -weights[i][a], weights[i + 1][:, b]
            rows.append(space.join(moved))
        if names <= {"identity"} and network.affine[i] and network.affine[i + 1] and weight_decay == 0:
            for a in range(h):  # b_i + u e_a, b_{i+1} − A_{i+1} u e_a
                moved = [torch.zeros_like(w) for w in weights]
                moved[i][a, -1], moved[i + 1][:, -1] = 1.0, -weights[i + 1][:, a]
                rows.append(space.join(moved))
    return torch.stack(rows) if rows else parameters.new_zeros(0, space.dim)


def _within_copies(space: Representation) -> list[tuple[int, int]]:
    """Pairs a < b of coordinates of the same copy of a summand."""
    pairs, start = [], 0
    for copies, base in space.blocks:
        for _ in range(copies):
            pairs += itertools.combinations(range(start, start + base.dim), 2)
            start += base.dim
    return pairs


def check_assumptions(model: Classifier, data: Samples, seed: int) -> dict[str, tuple[float, str]]:
    """Measured violations of Assumptions 1–3 and of ρ(gh) = ρ(g)ρ(h), each with where it is largest.

    Returns:
        name → (max absolute violation, where); matrices and samples are random, group elements the
        generators and two Haar samples.
    """
    network = model.network
    group = network.space.group
    rng = np.random.default_rng(seed)
    torch_rng = torch.Generator().manual_seed(seed)
    probes = [*group.generators, group.sample(rng), group.sample(rng)]
    spaces = [network.input] + [layer.target for layer in network.space.layers]
    worst = dict.fromkeys(("orthogonal", "homomorphism", "equivariant_nonlinearities", "invariant_loss"), (0.0, ""))

    def record(key: str, difference: Tensor, where: str) -> None:
        error = float(difference.abs().max())
        if not error <= worst[key][0]:  # a NaN is a violation
            worst[key] = (error, where)

    def gaussian(space: Representation, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(4, space.dim, generator=torch_rng, dtype=torch.float64)

    for i, space in enumerate(spaces):
        x, y = gaussian(space), gaussian(space)
        for g in probes:
            moved = space.act(g, x)
            where = f"X_{i} = {space.name}, g = {g}"
            record("orthogonal", moved @ space.act(g, y).mT - x @ y.mT, where)
            for h in probes:
                record(
                    "homomorphism",
                    space.act(group.multiply(g, h), x) - space.act(g, space.act(h, x)),
                    f"{where}, h = {h}",
                )
            if i > 0:
                sigma = network.nonlinearities[i - 1]
                record(
                    "equivariant_nonlinearities",
                    sigma(moved, space) - space.act(g, sigma(x, space)),
                    f"σ_{i - 1} = {sigma.name}, g = {g}",
                )
    y = data.y[: min(8, len(data.y))]
    prediction = torch.randn(len(y), model.output.dim, generator=torch_rng, dtype=torch.float64).to(data.x)
    for g in probes:
        moved_loss = model.losses(model.output.act(g, prediction), model.move_target(g, y))
        record("invariant_loss", moved_loss - model.losses(prediction, y), f"loss, g = {g}")
    return worst
