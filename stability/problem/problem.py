"""A risk on a parameter space with an orthogonal group action: all that the spectral engine sees.

    R(A) = Σ_s w_s ℓ_s(A) + μ/2 ‖A‖²,   R^eqv(A) = R(Π_E A),   R^aug(A) = ∫ R(ρ̄(g)A) dμ(g)

A parameter is a flat vector A of length dim L; it is the concatenation of the layers' weights, row by row. A
point of E is a vector θ of length dim E: coordinates in an orthonormal basis, so gradients and eigenvalues on
E are those of L restricted. Both come with any number of leading batch axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from stability.base import doors
from stability.base.errors import BadInput
from stability.groups import Element, Group, Representation
from stability.problem.space import ParameterSpace, Samples


@runtime_checkable
class Model(Protocol):
    """What a supervised problem knows beyond its risk: predictions and the group's action on data."""

    @property
    def input(self) -> Representation:
        """X."""

    @property
    def output(self) -> Representation:
        """Y."""

    @property
    def loss(self) -> Callable[..., Tensor] | None:
        """ℓ as it was given, by which some are known."""

    def predict(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Φ_A(x), (n, dim Y)."""

    def predict_equivariant(self, theta: Tensor, x: Tensor) -> Tensor:
        """Φ_A(x) at the point of E with coordinates θ."""

    def losses(self, prediction: Tensor, y: Tensor) -> Tensor:
        """ℓ(prediction, y) sample by sample, (n)."""

    def move_target(self, g: Element, y: Tensor) -> Tensor:
        """ρ_Y(g)y for targets."""


MODEL = ("input", "output", "loss", "predict", "predict_equivariant", "losses", "move_target")


class Nonlinearity(Protocol):
    """σ between two layers, as the Hessian needs it."""

    @property
    def pointwise(self) -> bool:
        """Whether σ acts on every coordinate by itself."""

    def __call__(self, x: Tensor, space: Representation) -> Tensor:
        """σ(x) for x of shape (…, dim space)."""


class Perceptron(Protocol):
    """x_{i+1} = σ_i(A_i x_i): what a Hessian that is written out needs of a network."""

    @property
    def space(self) -> ParameterSpace:
        """The layers A_i."""

    @property
    def nonlinearities(self) -> Sequence[Nonlinearity]:
        """σ_i."""

    @property
    def affine(self) -> tuple[bool, ...]:
        """Whether layer i multiplies (x, 1)."""

    def entering(self, i: int, x: Tensor) -> Tensor:
        """What layer i multiplies: x, or (x, 1)."""


@runtime_checkable
class Layered(Model, Protocol):
    """A model whose predictions are those of a perceptron over the layers of the space."""

    @property
    def network(self) -> Perceptron:
        """The perceptron."""


@dataclass(frozen=True)
class FlatFamily:
    """Directions W ↦ P_left W P_right in one layer that leave the data term unchanged at every A.

    Args:
        name: what reports call it.
        layer: which layer it lives in.
        left: orthogonal projection (rows, rows), or None for the identity.
        right: orthogonal projection (columns, columns), or None for the identity.
        reach: the risks it is flat for: "all", or "nominal" where the projection is not G-invariant.
    """

    name: str
    layer: int
    left: Tensor | None
    right: Tensor | None
    reach: str = "all"


@dataclass(frozen=True, eq=False)
class Within:
    """Weights A_0 + Bc of another problem, BᵀB = 1, B an intertwiner: this problem's Hessians are compressions of its.

    Args:
        whole: the other problem.
        embed: c ↦ A_0 + Bc, (…, dim T) → (…, dim L).
        linear: c ↦ Bc.
        project: A ↦ BᵀA.
    """

    whole: Problem
    embed: Callable[[Tensor], Tensor]
    linear: Callable[[Tensor], Tensor]
    project: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Held:
    """What a risk depends on beside its weights, by the names of its owner's ``state_dict``.

    Args:
        tensors: buffers, and parameters held at their values; never changed in place.
        ties: further names of a tensor ↦ the one it is known by, here or as a layer.
        needed: those without which a ``state_dict`` leaves open which function is meant.
        rebuilt: such tensors ↦ the problem with these in place of its own.
    """

    tensors: Mapping[str, Tensor]
    ties: Mapping[str, str]
    needed: frozenset[str]
    rebuilt: Callable[[Mapping[str, Tensor]], Problem]


@dataclass(frozen=True)
class Problem:
    """A risk R on L with everything needed to judge the points of E.

    Args:
        name: what reports print.
        space: L, its group action and E.
        samples: the data, weights summing to one.
        loss: (A, samples) ↦ Σ_s w_s ℓ_s(A), twice differentiable with torch.func.
        weight_decay: μ in μ/2‖A‖².
        transform: (g, samples) ↦ samples moved by (ρ_X(g), ρ_Y(g)); None when only ρ̄ is known.
        model: predictions, where there are any.
        flat: directions known to be flat, checked before they are used.
        exchanges: A ↦ rows (k, dim L) that a Hessian maps to zero wherever the gradient of its risk vanishes.
        initial: seeded start in E, as coordinates θ.
        metric: (predictions of x, "train" | "test" | "constant") ↦ scores by name, the first being the one that
            counts; "constant" is the best predictor that ignores its input, on the training data; empty when there
            is no such data.
        assumptions: seed ↦ measured violations by name, with where the worst one is; None where nothing can be
            measured.
        kink_margin: A ↦ smallest |pre-activation| at a kink relative to its scale; None for smooth σ.
        facts: what a report's first screen says about network and data.
        activations: numbers of the widest activation of one sample, where the layers do not tell.
        held: what the risk depends on beside A; None where there is nothing.
        within: the problem whose weights these are some of; None where they are its own.
    """

    name: str
    space: ParameterSpace
    samples: Samples
    loss: Callable[[Tensor, Samples], Tensor]
    weight_decay: float = 0.0
    transform: Callable[[Element, Samples], Samples] | None = None
    model: Model | None = None
    flat: tuple[FlatFamily, ...] = ()
    exchanges: Callable[[Tensor], Tensor] | None = None
    initial: Callable[[int], Tensor] | None = None
    metric: Callable[[Callable[[Tensor], Tensor], str], dict[str, float]] | None = None
    assumptions: Callable[[int], dict[str, tuple[float, str]]] | None = None
    kink_margin: Callable[[Tensor], float | None] | None = None
    facts: tuple[tuple[str, str], ...] = ()
    activations: int = 0
    held: Held | None = None
    within: Within | None = None

    def __post_init__(self) -> None:
        """Raise BadInput for arguments of another kind; what they hold is looked at where they are made."""
        doors.text("name", self.name)
        doors.kind(f"{self.name}: space", self.space, ParameterSpace, "give stability.problem.ParameterSpace(layers)")
        doors.kind(f"{self.name}: samples", self.samples, Samples, "give stability.Samples(x, y, weight)")
        if not len(self.samples.x) == len(self.samples.y) == len(self.samples.weight):
            shapes = ", ".join(str(tuple(part.shape)) for part in self.samples)
            raise BadInput(f"{self.name}: samples have shapes {shapes}; give one input, target and weight each")
        if self.samples.x.dtype not in doors.WIDE:
            raise BadInput(f"{self.name}: inputs are {self.samples.x.dtype}; give them in float64 or float32")
        if self.model is not None:
            doors.kind(f"{self.name}: model", self.model, Model, f"give an object with {', '.join(MODEL)}")
        doors.call(f"{self.name}: loss", self.loss, "give a function of (A, samples)")
        doors.number(f"{self.name}: weight_decay", self.weight_decay)

    @property
    def group(self) -> Group:
        """G, which acts on L."""
        return self.space.group

    @property
    def layered(self) -> Layered | None:
        """The model where it is a perceptron, whose Hessian is known in closed form; else None."""
        return self.model if isinstance(self.model, Layered) else None

    @property
    def written(self) -> bool:
        """Whether ∇²R on E and in sectors is written out, without automatic second derivatives on L."""
        return self.layered is not None or (self.within is not None and self.within.whole.written)

    @property
    def degree(self) -> int:
        """What averages over a Lie group are exact for: matrix coefficients of ρ̄ ⊗ ρ̄.

        At a point of E the risk, gradient and Hessian of R^aug are then exact; off E they are those of the rule.
        """
        return 2 * self.space.degree

    @property
    def moves(self) -> float:
        """How many elements stand for G in averages: |G|, the nodes of a quadrature, or ∞ where there is none."""
        nodes = self.group.nodes(self.degree)
        return math.inf if nodes is None else nodes

    def elements(self) -> Iterator[tuple[Element, float]]:
        """Elements of G with weights that add up to one: all of a finite group, a quadrature of a Lie group."""
        return self.group.quadrature(self.degree)

    def penalty(self, v: Tensor) -> Tensor:
        """μ/2 ‖v‖²."""
        return 0.5 * self.weight_decay * (v * v).sum()

    def risk(self, parameters: Tensor) -> Tensor:
        """R(A), the nominal risk (eq. 2 plus the regulariser)."""
        return self.loss(parameters, self.samples) + self.penalty(parameters)

    def equivariant_loss(self, theta: Tensor, samples: Samples) -> Tensor:
        """Σ_s w_s ℓ_s at the point of E with coordinates θ, through the equivariant layers."""
        if self.model is None:
            return self.loss(self.space.embed(theta), samples)
        return samples.weight @ self.model.losses(self.model.predict_equivariant(theta, samples.x), samples.y)

    def equivariant_risk(self, theta: Tensor) -> Tensor:
        """R restricted to E, which is R^eqv (eq. 4) in coordinates."""
        return self.equivariant_loss(theta, self.samples) + self.penalty(theta)

    def moved(self, elements: Sequence[Element] | None = None) -> Iterator[Samples]:
        """The data moved by one element of G after the other, weights divided by |G| (a Lie group: by quadrature).

        Of ``elements``, where they are given, each has the same share.

        Raises:
            BadInput: a problem without an action on its data.
        """
        if self.transform is None:
            raise BadInput(f"{self.name}: no action on the data is known; give Problem(transform=…)")
        shares = self.elements() if elements is None else ((g, 1 / len(elements)) for g in elements)
        for g, share in shares:
            x, y, weight = self.transform(g, self.samples)
            yield Samples(x, y, weight * share)

    def augmented(self, elements: Sequence[Element] | None = None) -> Samples:
        """The data moved by every element of G (or of ``elements``), equal samples merged: R on it is R^aug (eq. 5).

        Merging changes no risk and pays where orbits meet: 300 graphs of 5 nodes under S_5 make at most 1,024.
        """
        x, y, weight = (torch.cat(parts) for parts in zip(*self.moved(elements), strict=True))
        rows = torch.cat([x.double(), y.reshape(len(x), -1).double()], dim=1)
        _, inverse = torch.unique(rows, dim=0, return_inverse=True)
        merged = weight.new_zeros(int(inverse.max()) + 1).index_add(0, inverse, weight)
        first = torch.full_like(merged, len(x), dtype=torch.int64)
        first = first.scatter_reduce(0, inverse, torch.arange(len(x), device=x.device), "amin")
        return Samples(x[first], y[first], merged)

    def augmented_risk(self, parameters: Tensor) -> Tensor:
        """R^aug(A) from moved data (eq. 5), one group element at a time."""
        return sum(self.loss(parameters, samples) for samples in self.moved()) + self.penalty(parameters)


def model_of(problem: Problem) -> Model:
    """What predicts.

    Raises:
        BadInput: a problem without predictions.
    """
    if problem.model is None:
        raise BadInput(f"{problem.name}: a bare risk makes no predictions; give Problem(model=…)")
    return problem.model


def perceptron_of(problem: Problem) -> Layered:
    """The model as a perceptron.

    Raises:
        BadInput: it is another kind of model, or there is none.
    """
    if problem.layered is None:
        raise BadInput(f"{problem.name}: the model is no perceptron; take the automatic derivative")
    return problem.layered


def some_equivariant(problem: Problem) -> None:
    """Raise BadInput where E = {0}: then no network but zero is equivariant, and there is no E to be left."""
    if not problem.space.dim_equivariant:
        layers = ", ".join(f"{one.name}: {one.source.name} → {one.target.name}" for one in problem.space.layers)
        raise BadInput(
            f"{problem.name}: E = {{0}}, no weights but zero are equivariant ({layers}); give the two ends of some "
            "layer an irrep in common, such as a trivial channel at both"
        )


def single(problem: Problem) -> Problem:
    """The same problem in float32, for searches whose findings are measured in float64."""
    x, y, weight = problem.samples
    y = y.float() if y.is_floating_point() else y
    return replace(problem, samples=Samples(x.float(), y, weight.float()))
