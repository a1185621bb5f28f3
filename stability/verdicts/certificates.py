r"""How far a sign can be trusted: the terms of the error budget (docs/certificates.md), each measured or bounded.

products        ‖(H̃ − H)s‖ for a Gaussian s, H̃ by another route, in another order of summation and in float64
symmetry        what the measured violation of the assumptions may do to the Hessian
stationarity    one more Newton step on E: does the gradient vanish with it, how far is it, what does it change
Kantorovich     h = βKη ≤ ½ proves a stationary point within a radius, K from bounds on the network's derivatives
smoothness      differences of the gradient on both sides of the point, see :mod:`stability.networks.kinks`
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from stability.base.errors import BadInput
from stability.curvature import products
from stability.eigen.lanczos import lanczos, ritz
from stability.eigen.operator import Operator
from stability.eigen.spectrum import Spectrum, bound_epsilon
from stability.groups import Representation
from stability.networks.losses import cross_entropy, logistic, squared, two_masks
from stability.networks.network import MLP
from stability.networks.nonlinearities import LayerNorm, Nonlinearity, Pointwise
from stability.networks.nonlinearities import parts_of as parts
from stability.problem.problem import Problem, model_of
from stability.problem.space import Samples

# ‖Δ‖ ≤ 10 √(2/π) ‖Δs‖ with probability 0.9 for one Gaussian s (Halko, Martinsson and Tropp, 2011, section 4.3).
PROBE = 10 * math.sqrt(2 / math.pi)
# A Newton step towards a stationary point leaves far less of the gradient; where there is none, on a slope that
# flattens out like 1/x or exp(−x), it leaves 0.3 and more, and above the minimum of x² + c at least a quarter.
CONTRACTION = 0.2
CHUNK = 2048
NORM_STEPS, NORM_FAILURE = 12, 1e-2


@dataclass(frozen=True)
class Kantorovich:
    """A proof that a stationary point is near.

    Attributes:
        beta: bound on ‖H_E⁻¹‖ modulo the flat directions.
        eta: bound on the Newton step, β(‖g‖ + noise).
        lipschitz: K, a bound on the third derivative of R within ``trusted``.
        h: βKη; at most ½ for a proof.
        radius: within which the stationary point lies, (1 − √(1 − 2h))/(βK).
        shift: Kr, what an eigenvalue of ∇²R^aug can differ by between the point given and that one.
    """

    beta: float
    eta: float
    lipschitz: float
    h: float
    radius: float | None
    shift: float | None


@dataclass(frozen=True)
class Stationarity:
    """What is known of the stationary point next to the one given.

    Attributes:
        gradient: ‖∇R^eqv‖.
        noise: what rounding makes of a gradient that vanishes.
        step: length of one more Newton step on E; None where none was taken.
        after: ‖∇R^eqv‖ behind that step.
        supported: whether steps remove the gradient, to noise; of a single one, to a fifth.
        shift_E, shift_E_perp: how far the lowest quotients move, what the noise allows included.
        shift_all: how far any eigenvalue moves, by the norm of the change of ∇²R; None where it was not measured.
        shift_all_E: the same for those on E, by the change of ∇²R^eqv.
        kantorovich: the proof, where one can be had.
        travelled: how far the stationary point is, by steps until noise was left; None where one step was taken.
        left: ‖∇R^eqv‖ at its end.
        unresolved: the part of that along directions whose curvature is not told from zero.
        rounding: what evaluating the gradient anew gives, part of ``noise``; what is left of it may hide a slope.
        doubt: how far any eigenvalue moves within what the noise leaves open, part of the shifts.
    """

    gradient: float
    noise: float
    step: float | None
    after: float | None
    supported: bool
    shift_E: float = 0.0
    shift_E_perp: float = 0.0
    shift_all: float | None = None
    kantorovich: Kantorovich | None = None
    travelled: float | None = None
    left: float | None = None
    unresolved: float | None = None
    rounding: float | None = None
    doubt: float = 0.0
    shift_all_E: float | None = None


@dataclass(frozen=True)
class Budget:
    """Errors of the eigenvalues of one block, in the unit of the eigenvalues.

    Attributes:
        solver: rounding of the eigenvalue solver and the largest residual reported.
        products: of the Hessian's products: rounding at the size of ∇²R, of which blocks are projections and may be far
            smaller, and the error measured.
        symmetry: what the violation of the assumptions may do.
        total: their sum, the ``error`` of the spectrum.
    """

    solver: float
    products: float
    symmetry: float
    total: float


@dataclass(frozen=True)
class Certificate:
    """The whole budget of an analysis.

    Attributes:
        spaces: ``E``, ``E_perp``, ``L``: the budgets of the spectra.
        stationarity: of the point.
        kink: what differences of the gradient leave of a jump (:class:`stability.networks.kinks.Bend`), or None.
    """

    spaces: dict[str, Budget]
    stationarity: Stationarity | None = None
    kink: float | None = None


def flipped(samples: Samples) -> Samples:
    """The same samples in the opposite order: sums over them round differently."""
    return Samples(*(part.flip(0) for part in samples))


def double(samples: Samples) -> Samples:
    """The same samples in float64; integer targets stay integers."""
    return Samples(*(part.double() if part.is_floating_point() else part for part in samples))


def product_error(
    operator: Operator, loss: Callable[[Tensor, Samples], Tensor], at: Tensor, samples: Samples, decay: float, seed: int
) -> float:
    """A bound on ‖H̃ − H‖ that fails with probability 0.1, from one product by forward over reverse.

    The second route takes the samples backwards, in two halves and in float64, so that what differs is the rounding of
    the first: of its order of summation, of cancellation inside the loss, of single precision.
    """
    generator = torch.Generator().manual_seed(seed)
    s = torch.randn(operator.dim, generator=generator, dtype=torch.float64).to(at)
    found = operator(s)
    try:
        fresh = _fresh(loss, at.double(), s.double(), double(samples))
    except (RuntimeError, TypeError, BadInput):  # a user's loss that holds tensors of single precision
        fresh = _fresh(loss, at, s, samples)
    return PROBE * float((found.double() - fresh.double() - decay * s.double()).norm())


def _fresh(loss: Callable[[Tensor, Samples], Tensor], at: Tensor, s: Tensor, samples: Samples) -> Tensor:
    back = flipped(samples)
    total = torch.zeros_like(at)
    for part in back.chunks(max(1, min(CHUNK, (len(back) + 1) // 2))):
        total = total + products.fresh(loss, at, part, s)
    return total


def frobenius(spectrum: Spectrum) -> float:
    """‖B‖_F: exact where every eigenvalue is known, else √n times the largest that is."""
    if spectrum.complete and spectrum.density is not None:
        values, weights = np.array(spectrum.density.values), np.array(spectrum.density.weights)
        return math.sqrt(float(spectrum.dim * (weights * values**2).sum()))
    return norm(spectrum) * math.sqrt(spectrum.dim)


def norm(spectrum: Spectrum) -> float:
    """The largest |eigenvalue| known."""
    return max((abs(e.value) for e in (*spectrum.lowest[:1], *spectrum.highest[:1])), default=0.0)


def widen(spectrum: Spectrum, extra: float) -> Spectrum:
    """The same spectrum with a larger error: counts and bounds follow.

    >>> from stability.eigen import dense_spectrum
    >>> import torch
    >>> H = torch.diag(torch.tensor([-1e-8, 1.0], dtype=torch.float64))
    >>> S = dense_spectrum(H, lambda v: v @ H, k=2).spectrum
    >>> S.negative_count, widen(S, 1e-7).negative_count, widen(S, 1e-7).zero_count
    (1, 0, 1)
    """
    if not spectrum.lowest or not extra > 0:
        return spectrum
    error = spectrum.error + extra
    bound = None if spectrum.lower_bound is None else spectrum.lower_bound - extra
    wider = replace(spectrum, error=error, lower_bound=bound)
    if not spectrum.complete or spectrum.density is None or spectrum.negative_count is None:
        return wider
    values = np.array(spectrum.density.values)
    counts = np.rint(np.array(spectrum.density.weights) * spectrum.dim).astype(int)
    # What stands for several eigenvalues may differ from each of them by the width of its cluster.
    sure = error + spectrum.width
    return replace(
        wider,
        negative_count=int(counts[values < -sure].sum()),
        zero_count=int(counts[np.abs(values) <= sure].sum()),
        least_positive=min((float(v) - spectrum.width for v in values if v > sure), default=None),
    )


def size(operator: Operator, like: Tensor, seed: int, steps: int = 4) -> float:
    """‖H‖ within a factor of two or so, by a few steps of the power method: what rounding is measured against."""
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(operator.dim, generator=generator, dtype=torch.float64).to(like)
    found = 0.0
    for _ in range(steps):
        v = operator(v / v.norm())
        found = max(found, float(v.norm()))
        if not float(v.norm()) > 0:
            break
    return found


def norm_bound(operator: Operator, like: Tensor, seed: int) -> float:
    """A bound on ‖D‖ of a symmetric D that fails with probability 0.01, by twelve Lanczos steps.

    From λ_max ≤ θ_max + ε(λ_max − λ_min) at both ends (Kuczyński and Woźniakowski).
    """
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(operator.dim, generator=generator, dtype=torch.float64).to(like)
    if not float(operator(start).norm()) > 0:
        return 0.0
    steps = min(NORM_STEPS, operator.dim)
    values = ritz(lanczos(operator, start, steps))[0]
    largest = float(np.abs(values).max())
    if steps == operator.dim:
        return largest
    epsilon = bound_epsilon(operator.dim, steps, NORM_FAILURE)
    return largest / (1 - 2 * epsilon) if epsilon < 0.25 else 2 * largest * math.sqrt(operator.dim)


def gradient_on_e(problem: Problem, theta: Tensor, samples: Samples | None = None) -> Tensor:
    """∇R^eqv in coordinates of E, sample chunk by sample chunk."""
    at = theta.detach().clone().requires_grad_()
    total = problem.weight_decay * at.detach()
    for part in (problem.samples if samples is None else samples).chunks(CHUNK):
        loss = problem.equivariant_loss(at, part)
        if loss.requires_grad:
            total = total + torch.autograd.grad(loss, at)[0]
    return total


def stationarity(problem: Problem, theta: Tensor, step: Tensor | None, top: float) -> Stationarity:
    """Whether one more Newton step removes the gradient.

    Args:
        problem: the risk.
        theta: the point of E.
        step: −H_E⁺g; None where none could be taken.
        top: ‖H_E‖, for the gradient that the rounding of θ itself makes.
    """
    gradient = gradient_on_e(problem, theta)
    reverse = gradient_on_e(problem, theta, flipped(problem.samples))
    eps = torch.finfo(theta.dtype).eps
    noise = 10 * float((gradient - reverse).norm()) + 4 * eps * (top + problem.weight_decay) * float(theta.norm())
    before = float(gradient.norm())
    if step is None:
        return Stationarity(before, noise, None, None, before <= noise)
    after = float(gradient_on_e(problem, theta + step).norm())
    return Stationarity(before, noise, float(step.norm()), after, after <= max(CONTRACTION * before, noise))


def steps_to_come(found: Stationarity) -> float:
    """What a change over one Newton step is multiplied by: the later steps, and a gradient lost in noise."""
    return 2.0 * max(1.0, min(found.noise / max(found.gradient, 1e-300), 1e3))


def kantorovich(
    problem: Problem, theta: Tensor, on_e: Spectrum, known_zeros: int, found: Stationarity
) -> Kantorovich | None:
    """The Newton-Kantorovich theorem at θ; None where H_E or the third derivative cannot be bounded.

    Flat directions null at every A are left out: R is a function of the rest alone. Source: Kantorovich (1948);
    Ortega and Rheinboldt, Iterative Solution of Nonlinear Equations in Several Variables, 12.6.2.
    """
    if not on_e.complete or on_e.density is None or on_e.zero_count != known_zeros:
        return None
    least = min((abs(v) for v in on_e.density.values if abs(v) > on_e.error), default=0.0) - on_e.error
    if not least > 0:
        return None
    beta = 1 / least
    eta = beta * (found.gradient + found.noise)
    trusted = max(4 * eta, 1e-12)
    constant = lipschitz(problem, theta, trusted)
    if constant is None or not math.isfinite(constant):
        return None
    h = beta * constant * eta
    if h > 0.5:
        return Kantorovich(beta, eta, constant, h, None, None)
    # (1 − √(1 − 2h))/(βK), written so that nothing cancels; at most 2η, within the ball that K was bounded on.
    radius = 2 * eta / (1 + math.sqrt(1 - 2 * h))
    return Kantorovich(beta, eta, constant, h, radius, constant * radius)


# sup|σ'|, sup|σ''|, sup|σ'''|, rounded up.
SLOPES = {
    "identity": (1.0, 0.0, 0.0),
    "tanh": (1.0, 0.7699, 2.0),
    "sigmoid": (0.25, 0.09623, 0.125),
    "softplus": (1.0, 0.25, 0.09623),
    "gelu": (1.129, 0.7979, 0.7788),
    "silu": (1.1, 0.5, 0.3082),
}
# The same for u ↦ u/√(1 + |u|²), as norms of symmetric multilinear maps.
NORMALISED = (1.0, 0.8587, 3.0)

Bounds = tuple[Tensor, float, float]


def _squared(p: Tensor, y: Tensor) -> Bounds:
    return (p - y).norm(dim=-1), 1.0, 0.0


def _cross_entropy(p: Tensor, y: Tensor) -> Bounds:
    miss = torch.softmax(p, -1) - torch.nn.functional.one_hot(y, p.shape[-1])
    return miss.norm(dim=-1), 0.5, 0.2722


def _logistic(p: Tensor, y: Tensor) -> Bounds:
    width = p.shape[-1]
    return (torch.sigmoid(p) - y.to(p).reshape(p.shape)).norm(dim=-1) / width, 0.25 / width, 0.09623 / width


def _two_masks(p: Tensor, y: Tensor) -> Bounds:
    first, second, third = _logistic(p, y)
    return 2 * first, 2 * second, 2 * third


# Loss → |∇ℓ| sample by sample at a prediction, sup‖∇²ℓ‖, sup‖∇³ℓ‖. A loss of a user's may carry its own as ``bounds``.
LOSSES: dict[Callable, Callable[[Tensor, Tensor], Bounds]] = {
    squared: _squared,
    cross_entropy: _cross_entropy,
    logistic: _logistic,
    two_masks: _two_masks,
}


def lipschitz(problem: Problem, theta: Tensor, radius: float) -> float | None:
    """K with ‖∇²R(A) − ∇²R(B)‖ ≤ K‖A − B‖ for A, B in the ball in L around the point; None where none is known.

    The first three derivatives of every layer's output along a line of unit speed are bounded layer by layer, sample
    by sample (for z = Ax: |z'| ≤ |x| + ‖A‖|x'|, |z''| ≤ 2|x'| + ‖A‖|x''|, …; then Faà di Bruno for σ and for ℓ). For
    a symmetric trilinear form the diagonal gives the norm (Banach). ∇²R^aug, an average of conjugates, inherits K.
    """
    model, space = problem.model, problem.space
    network, loss = problem.layered.network if problem.layered else None, model.loss if model else None
    rule = getattr(loss, "bounds", None) or (LOSSES.get(loss) if loss else None)
    if type(network) is not MLP or rule is None or sum(layer.dim for layer in space.layers) != space.dim:
        return None
    at, x = space.embed(theta).double(), problem.samples.x.double()
    b = c = d = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    prediction = x
    for i, (layer, weight, sigma) in enumerate(
        zip(network.space.layers, space.split(at), network.nonlinearities, strict=True)
    ):
        entering = network.entering(i, prediction)  # (x, 1) where there is a bias
        size = entering.norm(dim=1) + radius * b
        strength = float(torch.linalg.matrix_norm(weight, 2)) + radius
        b, c, d = size + strength * b, 2 * b + strength * c, 3 * c + strength * d
        prediction = entering @ weight.mT
        for part in parts(sigma):
            slopes = _slopes(part, prediction, radius * b, layer.target)
            if slopes is None:
                return None
            first, second, third = slopes
            b, c, d = (
                first * b,
                first * c + second * b * b,
                first * d + 3 * second * b * c + third * b * b * b,
            )
            prediction = part(prediction, layer.target)
    if not torch.allclose(prediction, model_of(problem).predict(at.to(theta), problem.samples.x).double(), rtol=1e-3):
        return None  # a network that computes something else
    l1, l2, l3 = rule(prediction, problem.samples.y)
    l1 = l1 + radius * l2 * b
    return float(problem.samples.weight.double() @ (l1 * d + 3 * l2 * b * c + l3 * b * b * b))


def _slopes(part: Nonlinearity, z: Tensor, drift: Tensor, space: Representation) -> tuple | None:
    """Bounds on three derivatives of one nonlinearity near the pre-activations z."""
    if isinstance(part, LayerNorm):
        ((channels, _),) = space.blocks
        scale, width = math.sqrt(part.epsilon), math.sqrt(channels)
        if scale == 0:
            return None
        return tuple(bound * scale**-k * width ** (1 - k) for k, bound in enumerate(NORMALISED, 1))
    if isinstance(part, Pointwise) and part.name == "quadratic":
        return 1 + 2 * (z.abs().amax(1) + drift), 2.0, 0.0
    return SLOPES.get(part.name)
