"""Equivariant nonlinearities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from stability.base import doors
from stability.base.errors import BadInput
from stability.groups import Representation, trivial

# From here on eˣ overflows soon; torch's own 20 drops e⁻²⁰ of the slope, more than a saturated risk has left of it.
LINEAR = {torch.float64: 700.0, torch.float32: 80.0}


def softplus(x: Tensor) -> Tensor:
    """log(1 + eˣ), smooth to rounding: torch's default becomes x itself at 20, with a jump of 2·10⁻⁹.

    >>> z = torch.tensor(22.0, dtype=torch.float64)
    >>> float(softplus(z) - z) > 0, float(functional.softplus(z) - z)
    (True, 0.0)
    """
    return functional.softplus(x, threshold=LINEAR.get(x.dtype, 20.0))


SMOOTH: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "softplus": softplus,
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

    Attributes:
        name: of σ, one of ``SMOOTH`` or ``KINKED``.

    Raises:
        BadInput: an unknown σ.
    """

    name: str
    pointwise = True

    def __post_init__(self) -> None:
        doors.choice("activation", self.name, list(SMOOTH | KINKED))

    @property
    def kinked(self) -> bool:
        """Whether σ has a kink, where no Hessian exists."""
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
        """With its ε, which is part of the problem."""
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
        """With σ and ε, which are part of the problem."""
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
        """With σ, which is part of the problem."""
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
    """One nonlinearity after the other.

    Attributes:
        parts: in the order in which they are applied.
    """

    parts: tuple[Pointwise | LayerNorm | Norm | Gated | Identity, ...]

    @property
    def pointwise(self) -> bool:
        """Whether all parts are."""
        return all(part.pointwise for part in self.parts)

    @property
    def name(self) -> str:
        """The names of the parts in their order."""
        return ", ".join(part.name for part in self.parts)

    def __call__(self, x: Tensor, space: Representation) -> Tensor:
        for part in self.parts:
            x = part(x, space)
        return x


Nonlinearity = Identity | Pointwise | LayerNorm | Norm | Gated | Chain


def parts_of(sigma: Nonlinearity) -> tuple[Pointwise | LayerNorm | Norm | Gated | Identity, ...]:
    """The parts of a chain; anything else is its own only part."""
    return sigma.parts if isinstance(sigma, Chain) else (sigma,)
