"""Multilayer perceptrons over representations (eq. 1), and their random starts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stability.base import doors
from stability.base.errors import BadInput
from stability.groups import Representation, trivial
from stability.layers import make_layer, supports
from stability.networks.nonlinearities import Nonlinearity, Pointwise, parts_of
from stability.problem.space import ParameterSpace


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
        """X_L, the target of the last layer."""
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
            for part in parts_of(sigma):
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
    """One of the package's kinds, or a user's own: called with (x, space), and named."""
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
