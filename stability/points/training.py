r"""One loop for four strategies: NOM, AUG, EQUI and AUG with a penalty on A_{E⊥}.

    A ← A − τ·gradient(A)

    NOM   ∇R(A)                                           full batch, gathered over mini-batches
    AUG   mean over N_aug passes, each mini-batch of each pass moved by its own Haar element;
          or the exact Haar average, ∇R^aug(A)
    EQUI  Π_E ∇R(A)
    + γ A_{E⊥}                                            the penalty γ/2‖A_{E⊥}‖²

A strategy is a function (A, rng) ↦ gradient; the loop neither knows nor cares which one it runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.func import grad
from tqdm import tqdm

from stability.base.errors import BadInput
from stability.groups import Element
from stability.problem.problem import Problem, single
from stability.problem.space import Samples

# Moved samples that share one gradient.
TOGETHER = 2048
Strategy = Callable[[Tensor, np.random.Generator], Tensor]
Sampler = Callable[[np.random.Generator], Element]


@dataclass(frozen=True)
class Trajectory:
    """What one run records after every epoch, or those that were asked for, the start included.

    Attributes:
        strategy: its name.
        step: τ of gradient descent.
        travelled: ‖A − A⁰‖.
        off_equivariance: ‖A_{E⊥}‖.
        gradient_norm: ‖gradient of the strategy‖ that led to this epoch (first entry: at the start).
        final: A after the last epoch.
    """

    strategy: str
    step: float
    travelled: tuple[float, ...]
    off_equivariance: tuple[float, ...]
    gradient_norm: tuple[float, ...]
    final: Tensor


def _gathered(
    problem: Problem,
    at: Tensor,
    batch: int,
    move: Callable[[Samples], Samples],
    data: Samples | None = None,
) -> Tensor:
    gradient, data = grad(problem.loss), problem.samples if data is None else data
    return sum((gradient(at, move(part)) for part in data.chunks(batch)), torch.zeros_like(at))


def nominal(problem: Problem, batch: int = 4096) -> Strategy:
    """∇R, gathered over mini-batches."""

    def gradient(at: Tensor, rng: np.random.Generator) -> Tensor:
        return _gathered(problem, at, batch, lambda part: part) + problem.weight_decay * at

    return gradient


def sampled_augmentation(
    problem: Problem, passes: int = 25, batch: int = 4096, sample: Sampler | None = None
) -> Strategy:
    """The mean over passes, every mini-batch of every pass moved by its own element, Haar unless ``sample`` draws it.

    Mini-batches that drew the same element are moved once and weighted, and moved mini-batches share a gradient: the
    same sum, with far fewer and larger matrix products.
    """
    transform = _transform(problem)
    parts = list(problem.samples.chunks(batch))

    def gradient(at: Tensor, rng: np.random.Generator) -> Tensor:
        drawn = draw_elements(sample or problem.group.sample, rng, passes, len(parts))
        total, waiting, size = torch.zeros_like(at), [], 0
        for i, part in enumerate(parts):
            for g, count in Counter(row[i] for row in drawn).items():
                x, y, weight = transform(g, part)
                waiting.append(Samples(x, y, weight * (count / passes)))
                size += len(part)
                if size >= TOGETHER:
                    total += grad(problem.loss)(at, _joined(waiting))
                    waiting, size = [], 0
        if waiting:
            total += grad(problem.loss)(at, _joined(waiting))
        return total + problem.weight_decay * at

    return gradient


def draw_elements(sample: Sampler, rng: np.random.Generator, passes: int, parts: int) -> list[list[Element]]:
    """An element for every mini-batch of every pass: [pass][mini-batch]."""
    return [[sample(rng) for _ in range(parts)] for _ in range(passes)]


def equal_inputs(problem: Problem) -> Tensor | None:
    """For every input coordinate the number of its class: equal on all samples, however the group moves them.

    None where all of them differ. The adjacency matrices of PERM, 10 × 10, have 46 classes.
    """
    rho = problem.model.input if problem.model is not None else None
    if rho is None or not rho.is_permutation:
        return None
    _, classes = torch.unique(problem.samples.x.mT, dim=0, return_inverse=True)
    moves = [torch.as_tensor(rho.index(g), device=classes.device) for g in problem.group.generators]
    count = 0
    while int(classes.max()) + 1 > count:
        count = int(classes.max()) + 1
        _, classes = torch.unique(torch.stack([classes, *(classes[m] for m in moves)]), dim=1, return_inverse=True)
    return None if count == len(classes) else classes


def pooled(problem: Problem) -> Problem:
    """The same risk, with equal inputs multiplied once: A_0 x = (A_0 copies) x', x' the inputs that differ."""
    classes = equal_inputs(problem)
    model = problem.layered
    if classes is None or model is None:
        return problem
    network = model.network
    copies = torch.nn.functional.one_hot(classes).to(problem.samples.x)
    chosen = copies.argmax(0)

    def loss(at: Tensor, samples: Samples) -> Tensor:
        first, *others = network.space.split(at)
        x = samples.x[:, chosen]
        layers = zip(network.space.layers, (first @ copies.to(at), *others), network.nonlinearities, strict=True)
        for layer, weight, sigma in layers:
            x = sigma(x @ weight.mT, layer.target)
        return samples.weight @ model.losses(x, samples.y)

    return replace(problem, loss=loss)


def in_single(problem: Problem, make: Callable[[Problem], Strategy]) -> Strategy:
    """A strategy whose gradient is computed in float32; weights, steps and sums over epochs stay as they are."""
    strategy = make(single(problem))
    return lambda at, rng: strategy(at.float(), rng).to(at)


def _joined(parts: list[Samples]) -> Samples:
    return Samples(*(torch.cat(column) for column in zip(*parts, strict=True)))


def exact_augmentation(problem: Problem, batch: int = 4096) -> Strategy:
    """∇R^aug with the exact Haar average: the data moved by every element, equal samples merged."""
    data = problem.augmented()

    def gradient(at: Tensor, rng: np.random.Generator) -> Tensor:
        return _gathered(problem, at, batch, lambda part: part, data) + problem.weight_decay * at

    return gradient


def exact_augmentation_within(problem: Problem, subgroup: Sequence[Element], batch: int = 4096) -> Strategy:
    """∇R^aug at weights that a subgroup H fixes, from one element of every coset: the same gradient, |H| times cheaper.

    R(ρ̄(t)^{-1}A), the risk on data moved by t, is the same for all of Ht where ρ̄(h)A = A. So R^aug is the mean over
    cosets on these weights, and ∇R^aug, which H fixes as well, is the part of the mean's gradient that it fixes.
    """
    transform, multiply = _transform(problem), problem.group.multiply
    waiting, parts = list(problem.group.elements()), []
    while waiting:
        coset = {multiply(h, waiting[0]) for h in subgroup}
        parts.append(transform(waiting[0], problem.samples))
        waiting = [g for g in waiting if g not in coset]
    x, y, weight = _joined(parts)
    data = Samples(x, y, weight / len(parts))

    def gradient(at: Tensor, rng: np.random.Generator) -> Tensor:
        whole = _gathered(problem, at, batch, lambda part: part, data)
        kept = sum((problem.space.act(h, whole) for h in subgroup), torch.zeros_like(whole)) / len(subgroup)
        return kept + problem.weight_decay * at

    return gradient


def equivariant(problem: Problem, batch: int = 4096) -> Strategy:
    """Π_E ∇R."""
    return projected(problem, nominal(problem, batch))


def projected(problem: Problem, strategy: Strategy) -> Strategy:
    """Π_E of a strategy."""
    return lambda at, rng: problem.space.equivariant_part(strategy(at, rng))


def penalised(
    problem: Problem, strategy: Strategy, gamma: float, transverse: Callable[[Tensor], Tensor] | None = None
) -> Strategy:
    """strategy + γ A_{E⊥}; ``transverse`` is a faster A ↦ A_{E⊥}, where there is one."""
    transverse = transverse or problem.space.transverse_part
    return lambda at, rng: strategy(at, rng) + gamma * transverse(at)


def descend_on_e(problem: Problem, start: Tensor, step: float, epochs: int, batch: int = 1024) -> Tensor:
    """EQUI in coordinates of E: θ ← θ − τ∇(R∘embed)(θ), which is :func:`descend` with :func:`equivariant`.

    No weights of L are made. Returns θ after the last epoch.

    Raises:
        BadInput: the run left the finite numbers; the message says at which epoch.
    """
    theta, gradient = start.clone(), grad(problem.equivariant_loss)
    for epoch in tqdm(range(epochs), desc="EQUI", disable=None, leave=False):
        parts = [gradient(theta, part) for part in problem.samples.chunks(batch)]
        theta = theta - step * (sum(parts) + problem.weight_decay * theta)
        if not torch.isfinite(theta).all():
            raise BadInput(f"EQUI: weights stopped being finite at epoch {epoch + 1}; use a step below {step:g}")
    return theta


def draws(seed: int, epoch: int) -> np.random.Generator:
    """The random numbers of one epoch of a run, so that a run goes on where it stopped as if it had not."""
    return np.random.default_rng((seed, epoch))


def _transform(problem: Problem) -> Callable:
    if problem.transform is None:
        raise BadInput(f"{problem.name}: augmentation needs an action on the data; give Problem(transform=…)")
    return problem.transform


def descend(
    problem: Problem,
    start: Tensor,
    strategy: Strategy,
    step: float,
    epochs: int,
    name: str,
    seed: int = 0,
    on_epoch: Callable[[int, Tensor], None] | None = None,
    record: Collection[int] | None = None,
) -> Trajectory:
    """``epochs`` steps of size ``step`` from ``start`` (dim L); an epoch's draws depend on seed and epoch alone.

    Only epochs in ``record`` are recorded beside the start; all of them without it.

    Raises:
        BadInput: the run left the finite numbers; the message says at which epoch.
    """
    at, space = start.clone(), problem.space
    travelled, off, norms = [0.0], [float(space.transverse_part(at).norm())], [float("nan")]
    for epoch in tqdm(range(epochs), desc=name, disable=None, leave=False):
        gradient = strategy(at, draws(seed, epoch))
        at = at - step * gradient
        if not torch.isfinite(at).all():
            raise BadInput(f"{name}: weights stopped being finite at epoch {epoch + 1}; use a step below {step:g}")
        if record is None or epoch + 1 in record:
            travelled.append(float((at - start).norm()))
            off.append(float(space.transverse_part(at).norm()))
            norms.append(float(gradient.norm()))
        if on_epoch:
            on_epoch(epoch + 1, at)
    norms[0] = norms[1] if len(norms) > 1 else float("nan")
    return Trajectory(name, step, tuple(travelled), tuple(off), tuple(norms), at)


def minimise_augmented(problem: Problem, start: Tensor, iterations: int) -> tuple[Tensor, float, int]:
    """Exact augmented descent by L-BFGS from ``start``: where an instability ends.

    Returns:
        the last point, R^aug there (it never rises along the way) and the iterations taken.
    """
    data = problem.augmented()

    def value_and_gradient(a: np.ndarray) -> tuple[float, np.ndarray]:
        at = torch.as_tensor(a).to(start).requires_grad_()
        value = torch.zeros((), dtype=start.dtype, device=start.device)
        total = torch.zeros_like(at)
        for part in data.chunks(4096):
            piece = problem.loss(at, part)
            total += torch.autograd.grad(piece, at)[0]
            value = value + piece.detach()
        at = at.detach()
        return float(value + problem.penalty(at)), (total + problem.weight_decay * at).cpu().double().numpy()

    with threadpool_limits(1, user_api="blas"):  # see stationary.minimise
        found = minimize(
            value_and_gradient,
            start.cpu().double().numpy(),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": iterations, "maxfun": 2 * iterations, "maxcor": 20, "ftol": 0.0, "gtol": 1e-10},
        )
    return torch.as_tensor(found.x).to(start), float(found.fun), int(found.nit)
