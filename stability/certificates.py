r"""How far a sign can be trusted: the terms of the error budget (docs/certificates.md), each measured or bounded.

products        ‖(H̃ − H)s‖ for a Gaussian s, H̃ by another route, in another order of summation and in float64
grain           what ∇²R changes over the ulps of the point, and what rounding inside a sample makes of it
symmetry        what the measured violation of the assumptions may do to the Hessian
stationarity    how far the stationary point is and what moves on the way (:mod:`stability.nearby`)
Kantorovich     h = βKη ≤ ½ proves a stationary point within a radius, K from bounds on the network's derivatives
smoothness      second differences of the risk against the Hessian: a kink makes them grow like 1/t
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, jvp

from stability.curvature import Operator
from stability.eigen import Spectrum, bound_epsilon, lanczos, ritz
from stability.networks import MLP, LayerNorm, Pointwise, cross_entropy, logistic, squared, two_masks
from stability.networks import _parts as parts
from stability.problem import Problem, Samples

# ‖Δ‖ ≤ 10 √(2/π) ‖Δs‖ with probability 0.9 for one Gaussian s (Halko, Martinsson and Tropp, 2011, section 4.3).
PROBE = 10 * math.sqrt(2 / math.pi)
CHUNK = 2048
# Displacements of a point by a few ulps, and by 64 times as much each time: rounding stays as it is or grows like δ,
# what is smooth grows like δ² or δ³.
RUNGS, RUNG = 5, 64.0
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
        supported: whether a stationary point is believed to be near, see :func:`stability.nearby.approach`.
        shift_E, shift_E_perp: how far the lowest quotients move, the steps still to come and rounding included.
        shift_all: how far any eigenvalue moves, by the norm of the change of ∇²R; None where it was not measured.
        shift_all_E: the same on E alone.
        kantorovich: the proof, where one can be had.
        distance: how far the stationary point can be, rounding included; None where it was not measured.
        unresolved: directions whose curvature is within its error, known flat ones included.
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
    shift_all_E: float | None = None
    distance: float | None = None
    unresolved: int = 0


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
        stationarity: of the point, on E.
        kink: relative size of the kink that second differences of the risk see; None for none.
        nominal: stationarity for R on L, where its gradient is small.
    """

    spaces: dict[str, Budget]
    stationarity: Stationarity | None = None
    kink: float | None = None
    nominal: Stationarity | None = None


def flipped(samples: Samples) -> Samples:
    """The same samples in the opposite order: sums over them round differently."""
    return Samples(*(part.flip(0) for part in samples))


def double(samples: Samples) -> Samples:
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
    except (RuntimeError, TypeError):  # a user's loss that holds tensors of single precision
        fresh = _fresh(loss, at, s, samples)
    return PROBE * float((found.double() - fresh.double() - decay * s.double()).norm())


def _fresh(loss: Callable[[Tensor, Samples], Tensor], at: Tensor, s: Tensor, samples: Samples) -> Tensor:
    back = flipped(samples)
    total = torch.zeros_like(at)
    for part in back.chunks(max(1, min(CHUNK, (len(back) + 1) // 2))):
        total = total + jvp(grad(lambda a, part=part: loss(a, part)), (at,), (s,))[1]
    return total


def grain(loss: Callable[[Tensor, Samples], Tensor], at: Tensor, samples: Samples, size: float, seed: int) -> float:
    """A bound on what ‖∇²R‖ may be off by because A and what is made of it are rounded; fails with probability 0.1.

    ‖(H(A + δ) − H(A))s‖ for δ of an ulp; and for larger ones ‖(H(A + δ) + H(A − δ) − 2H(A))s‖/2, free of the third
    derivative, as long as it does not grow like δ²: rounding that neither order nor precision of the samples shows,
    such as that of A + 10⁸.

    Args:
        loss: (A, samples) ↦ Σ_s w_s ℓ_s.
        at: A.
        samples: the data.
        size: of a coordinate, where A itself may vanish.
        seed: of s and δ.
    """
    eps, generator = torch.finfo(at.dtype).eps, torch.Generator().manual_seed(seed)

    def draw() -> Tensor:
        return torch.randn(len(at), generator=generator, dtype=torch.float64).to(at)

    s = draw()
    here = _fresh(loss, at, s, samples)
    found = float((_fresh(loss, at + eps * at.abs() * draw(), s, samples) - here).norm())
    before = 0.0
    for rung in range(RUNGS):
        delta = 4 * eps * RUNG**rung * (at.abs() + size) * draw()
        bend = (
            float((_fresh(loss, at + delta, s, samples) + _fresh(loss, at - delta, s, samples) - 2 * here).norm()) / 2
        )
        if not math.isfinite(bend) or 0 < 8 * RUNG * before < bend:
            break
        before, found = bend, max(found, bend)
    return PROBE * found


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
    return replace(
        wider,
        negative_count=int(counts[values < -error].sum()),
        zero_count=int(counts[np.abs(values) <= error].sum()),
        least_positive=min((float(v) for v in values if v > error), default=None),
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


def gradient_of(loss: Callable[[Tensor, Samples], Tensor], x: Tensor, samples: Samples, decay: float) -> Tensor:
    """∇ of Σ_s w_s ℓ_s + μ/2‖·‖² at x, sample chunk by sample chunk."""
    at = x.detach().clone().requires_grad_()
    total = decay * at.detach()
    for part in samples.chunks(CHUNK):
        value = loss(at, part)
        if value.requires_grad:
            total = total + torch.autograd.grad(value, at)[0]
    return total


def gradient_on_e(problem: Problem, theta: Tensor) -> Tensor:
    """∇R^eqv in coordinates of E."""
    return gradient_of(problem.equivariant_loss, theta, problem.samples, problem.weight_decay)


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
    network = getattr(model, "network", None)
    rule = getattr(getattr(model, "loss", None), "bounds", None) or LOSSES.get(getattr(model, "loss", None))
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
    if not torch.allclose(prediction, problem.model.predict(at.to(theta), problem.samples.x).double(), rtol=1e-3):
        return None  # a network that computes something else
    l1, l2, l3 = rule(prediction, problem.samples.y)
    l1 = l1 + radius * l2 * b
    return float(problem.samples.weight.double() @ (l1 * d + 3 * l2 * b * c + l3 * b * b * b))


def _slopes(part: object, z: Tensor, drift: Tensor, space: object) -> tuple | None:
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


def kink(problem: Problem, at: Tensor, operator: Operator, seed: int) -> float | None:
    """The relative size of a kink at A: how far second differences of R are from the Hessian, growing like 1/t.

    D(t) = (R(A + tv) + R(A − tv) − 2R(A))/t² for two random directions v and three steps t, each an eighth of the one
    before. |D(t) − ⟨v, Hv⟩| falls like t² where R is smooth, and grows eightfold where its slope jumps.
    """
    generator = torch.Generator().manual_seed(seed)
    eps = torch.finfo(at.dtype).eps
    first = (1e-3 if at.dtype == torch.float64 else 0.1) * max(1.0, float(at.norm()))
    with torch.no_grad():
        middle = float(problem.risk(at))
        for _ in range(2):
            v = torch.randn(len(at), generator=generator, dtype=torch.float64).to(at)
            v = v / v.norm()
            curvature = float(v @ operator(v))
            gaps, noises = [], []
            for t in (first, first / 8, first / 64):
                ends = float(problem.risk(at + t * v)), float(problem.risk(at - t * v))
                noises.append(64 * eps * max(map(abs, (*ends, middle))) / t**2)
                gaps.append(abs((ends[0] + ends[1] - 2 * middle) / t**2 - curvature))
            grows = all(b > 4 * a + noise for a, b, noise in zip(gaps, gaps[1:], noises[1:], strict=False))
            if grows:
                return gaps[-1] * first / 64
    return None
