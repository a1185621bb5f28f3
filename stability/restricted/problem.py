"""The risk on admissible layers: as a problem with sectors, or as dense blocks where G does not map T to itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stability.base.errors import BadInput
from stability.curvature.automatic import augmented_hessian_from_data
from stability.eigen.dense import dense_spectrum
from stability.eigen.operator import Operator, assemble
from stability.eigen.spectrum import Solution
from stability.groups import Element, Representation, trivial
from stability.layers import Layer
from stability.problem.problem import FlatFamily, Model, Problem, Within
from stability.problem.space import ParameterSpace, Samples
from stability.restricted.admissible import Admissible, compatibility
from stability.restricted.parts import DENSE_LIMIT


@dataclass(frozen=True, eq=False)
class RestrictedModel:
    """The model of a problem with weights A_0 + Bc.

    Attributes:
        whole: the model of all weights.
        admissible: A_0 + T.
        space: T with its action, in orthonormal coordinates.
    """

    whole: Model
    admissible: Admissible
    space: ParameterSpace

    @property
    def loss(self) -> Callable[..., Tensor] | None:
        """ℓ of the whole problem."""
        return self.whole.loss

    @property
    def input(self) -> Representation:
        """That of the whole model."""
        return self.whole.input

    @property
    def output(self) -> Representation:
        """That of the whole model."""
        return self.whole.output

    def predict(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Φ_{A_0 + Bc}(x) for coordinates c of T."""
        return self.whole.predict(self.admissible.embed(parameters), x)

    def predict_equivariant(self, theta: Tensor, x: Tensor) -> Tensor:
        """The same at the point of E with coordinates θ."""
        return self.predict(self.space.embed(theta), x)

    def losses(self, prediction: Tensor, y: Tensor) -> Tensor:
        """Those of the whole model, (n)."""
        return self.whole.losses(prediction, y)

    def move_target(self, g: Element, y: Tensor) -> Tensor:
        """ρ_Y(g)y, as the whole model has it."""
        return self.whole.move_target(g, y)


def restrict(problem: Problem, admissible: Admissible, seed: int = 0) -> Problem:
    """The same risk on the admissible space, in orthonormal coordinates of T; E is (A_0 + T) ∩ H_G.

    Weight decay is μ/2‖c‖², from the origin of the coordinates.

    Raises:
        BadInput: an admissible space that is not compatible with the equivariant layers, with the measured defect, the
            layer and how to mend it; or one that G does not map to itself, which has no sectors (see :func:`blocks`).
    """
    if admissible.space is not problem.space and admissible.space != problem.space:
        raise BadInput(f"{problem.name}: the admissible layers are of another space; build them on problem.space")
    found = compatibility(admissible, seed)
    if not found.compatible:
        raise BadInput(
            f"{problem.name}: admissible and equivariant layers are not compatible (‖[Π_T, Π_G]‖ = {found.defect:.2e}, "
            f"offset {found.offset:.2e}, worst in {found.worst}), so augmented training leaves E from its first step, "
            f"whatever the spectrum; {found.advice}"
        )
    if not found.invariant:
        raise BadInput(
            f"{problem.name}: compatible, but G moves the admissible layers by {found.invariance:.2e}, so they have no "
            "sectors; restricted.blocks gives the Hessian on E and on E⊥"
        )
    layers = []
    for piece in admissible.pieces:
        if piece.whole:
            layers.append(piece.layers[0])
        else:
            rho = piece.part.restricted(piece.representation)
            layers.append(Layer(piece.name, trivial(admissible.group), rho))
    space = ParameterSpace(tuple(layers))
    model = None if problem.model is None else RestrictedModel(problem.model, admissible, space)
    dims = found.dims
    words = (
        f"{dims['L']:,} of {dims['H']:,} weights, E {dims['E']:,} of {dims['H_G']:,}; ‖[Π_T, Π_G]‖ = {found.defect:.1e}"
    )
    initial, margin, held = problem.initial, problem.kink_margin, problem.held

    def inside(theta: Tensor) -> Tensor:
        return space.project(admissible.project(problem.space.embed(theta)))

    return replace(
        problem,
        held=held and replace(held, rebuilt=lambda tensors: restrict(held.rebuilt(tensors), admissible, seed)),
        name=f"{problem.name}, restricted",
        space=space,
        loss=lambda c, samples: problem.loss(admissible.embed(c), samples),
        model=model,
        flat=tuple(_families(problem, admissible)),
        exchanges=None,
        initial=None if initial is None else (lambda seed: inside(initial(seed))),
        kink_margin=None if margin is None else (lambda c: margin(admissible.embed(c))),
        facts=(*problem.facts, ("admissible layers", words)),
        activations=max(problem.activations, _activations(problem)),
        within=Within(problem, admissible.embed, admissible.linear, admissible.project),
    )


def _families(problem: Problem, admissible: Admissible) -> Iterator[FlatFamily]:
    """Flat families of layers that stay free."""
    for family in problem.flat:
        layer = problem.space.layers[family.layer]
        for number, piece in enumerate(admissible.pieces):
            if piece.whole and piece.layers[0] is layer:
                yield replace(family, layer=number)


def _activations(problem: Problem) -> int:
    return max(max(layer.shape) for layer in problem.space.layers)


@dataclass(frozen=True)
class Blocks:
    """∇²R^aug on the admissible space at a point of E.

    Attributes:
        E, E_perp: spectra of its diagonal blocks.
        coupling: ‖block between E and E⊥‖/‖whole‖, zero for compatible spaces.
        leak: ‖component of Π_{T}∇R^aug on E⊥‖/‖Π_{T}∇R^aug‖: what drives descent off E, zero likewise.
    """

    E: Solution
    E_perp: Solution
    coupling: float
    leak: float


def restricted_augmented(problem: Problem, admissible: Admissible, c: Tensor) -> Operator:
    """Bᵀ∇²R^aug(A_0 + Bc)B from moved data, and the gradient Bᵀ∇R^aug, whether the spaces are compatible or not."""
    whole = augmented_hessian_from_data(problem, admissible.embed(c))

    def apply(v: Tensor) -> Tensor:
        return admissible.project(whole(admissible.linear(v)))

    return Operator(admissible.dim, apply, "∇²R^aug on L", cost=whole.cost, batch=whole.batch)


def blocks(problem: Problem, admissible: Admissible, c: Tensor, eigenvalues: int = 10) -> Blocks:
    """The dense Hessian of R^aug on T at A_0 + Bc, cut into E and E⊥; no symmetry of T is asked for.

    Raises:
        BadInput: more than 4,096 coordinates.
    """
    if admissible.dim > DENSE_LIMIT:
        raise BadInput(
            f"blocks: {admissible.dim:,} coordinates, more than {DENSE_LIMIT:,}; use restrict and its sectors"
        )
    operator = restricted_augmented(problem, admissible, c)
    matrix = assemble(operator, c)
    projection = admissible.equivariant_part(torch.eye(admissible.dim, dtype=c.dtype, device=c.device))
    values, vectors = torch.linalg.eigh(projection)
    inside, outside = vectors[:, values > 0.5], vectors[:, values <= 0.5]
    slope = moved_gradient(problem, admissible, problem.augmented(), c)
    off = slope - slope @ projection
    cross = inside.mT @ matrix @ outside
    size = float(torch.linalg.matrix_norm(matrix, 2))
    coupling = float(torch.linalg.matrix_norm(cross, 2)) if cross.numel() else 0.0

    def block(basis: Tensor) -> Solution:
        def product(v: Tensor) -> Tensor:
            return operator(v @ basis.mT) @ basis

        return dense_spectrum(basis.mT @ matrix @ basis, product, eigenvalues)

    return Blocks(
        block(inside),
        block(outside),
        coupling / size if coupling else 0.0,  # of a linear risk both are zero
        float(off.norm() / slope.norm().clamp_min(1e-300)),
    )


def moved_gradient(problem: Problem, admissible: Admissible, data: Samples, c: Tensor) -> Tensor:
    """The gradient of Σ_s w_s ℓ_s(A_0 + Bc) + μ/2‖c‖² in c, on given data."""
    at = admissible.embed(c)
    total = torch.zeros_like(at)
    for part in data.chunks(256):
        total = total + torch.func.grad(problem.loss)(at, part)
    return admissible.project(total) + problem.weight_decay * c
