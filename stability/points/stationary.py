r"""Equivariant stationary points: ∇(R∘embed)(θ) = 0 on E, to rounding.

L-BFGS gets near, trust-region Newton on E gets there, plain Newton steps (kept while the gradient shrinks) end
at rounding level. Saddles are zeros of the gradient found by least squares on ∇R, kept only if the gradient
vanishes: a minimum of ‖∇R‖² where it does not is a gradient-flat point and is thrown away.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.optimize import OptimizeResult, least_squares, minimize
from scipy.sparse.linalg import LinearOperator, minres
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.func import grad
from tqdm import tqdm

from stability.base.errors import BadInput, StaleLinearisation
from stability.base.limits import Limits
from stability.base.record import Record
from stability.curvature.pooled import hessian_on_e
from stability.eigen.operator import Operator, assemble
from stability.problem.held import held_tensors
from stability.problem.problem import Problem, single

# As they are by default.
USUAL = Limits()
# Longest search from one start where E is too large for dense Newton steps; its last step may end later.
SEARCH_SECONDS = 3600.0
# Samples whose activations are held at once.
CHUNK = 2048
# Norm of weights, beside that of a random start, from which a search counts as running to infinity.
RUNAWAY = 10.0
# A start whose weights are no larger counts as zero, one whose gradient is so many times smaller as stationary.
VANISHING, ABNORMAL = 1e-8, 1e3
# Of ‖∇R‖, what ∇R^eqv is measured against at least; dim L up to which ∇R is taken for it.
CANCELLED, WHOLE = 1e-6, 1_000_000
Keep = Callable[[Tensor], None]


@dataclass(frozen=True)
class StationaryPoint(Record):
    """A point of E and how stationary it is.

    Attributes:
        kind: "minimum", "saddle", "origin", or how the point was given.
        theta: coordinates on E.
        risk: R at the point.
        gradient_norm: ‖∇R^eqv‖.
        tolerance: what the gradient norm had to reach.
        newton_decrement: √(gᵀ|H|⁺g) on E; None when E is too large for a dense Hessian.
        index: negative eigenvalues of the Hessian on E; None likewise.
        eigenvalues: of the Hessian on E, ascending; None likewise.
        start: which seed led here.
        held: what the risk depends on there beside the weights: running statistics, parameters held fixed.
    """

    kind: str
    theta: Tensor
    risk: float
    gradient_norm: float
    tolerance: float
    newton_decrement: float | None = None
    index: int | None = None
    eigenvalues: tuple[float, ...] | None = None
    start: int | None = None
    held: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @property
    def converged(self) -> bool:
        """Whether ‖∇R^eqv‖ reached the tolerance."""
        return self.gradient_norm <= self.tolerance


def runaway(problem: Problem, theta: Tensor) -> BadInput | None:
    """What to say where products are nothing but rounding because nothing kept a search from running to infinity."""
    if problem.initial is None or problem.weight_decay > 0:
        return None
    usual, norm = float(problem.initial(0).norm()), float(theta.norm())
    if not norm > RUNAWAY * usual:
        return None
    times = f"{norm / usual:.0f} times that of a random start"
    return BadInput(
        f"the search on E has run to weights of norm {norm:.3g}, {times}, where curvature is no larger than rounding: "
        "without decay the risk falls towards a bound that it does not reach, as on data that can be separated; give "
        "weight_decay, such as 1e-3"
    )


class _OnE:
    """R∘embed with gradients and Hessians as numpy sees them."""

    def __init__(self, problem: Problem, like: Tensor, limits: Limits = USUAL) -> None:
        self.problem, self.like, self.limits = problem, like, limits
        self._linearised: tuple[np.ndarray, Operator] | None = None

    def tensor(self, theta: np.ndarray) -> Tensor:
        return torch.as_tensor(np.array(theta, dtype=float)).to(self.like)

    def value_and_gradient(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        problem, at = self.problem, self.tensor(theta).requires_grad_()
        value = float(problem.penalty(at.detach()))
        gradient = problem.weight_decay * at.detach()
        for part in problem.samples.chunks(CHUNK):
            loss = problem.equivariant_loss(at, part)
            gradient = gradient + torch.autograd.grad(loss, at)[0]
            value += float(loss.detach())
        return value, gradient.cpu().double().numpy()

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        return self.value_and_gradient(theta)[1]

    def hessian(self, theta: np.ndarray) -> np.ndarray:
        at = self.tensor(theta)
        try:
            return assemble(hessian_on_e(self.problem, at, searching=True), at).cpu().double().numpy()
        except StaleLinearisation as error:
            raise runaway(self.problem, at) or error from error

    def product(self, theta: np.ndarray, v: np.ndarray) -> np.ndarray:
        """∇²R^eqv(θ)v, linearised once for all products at a point; in float32 where they steer a long search."""
        large = len(theta) > self.limits.search_single
        if self._linearised is None or not np.array_equal(self._linearised[0], theta):
            problem = single(self.problem) if large else self.problem
            at = self.tensor(theta)
            self._linearised = (theta.copy(), hessian_on_e(problem, at.float() if large else at, searching=True))
        direction = self.tensor(v)
        moved = self._linearised[1](direction.float() if large else direction)
        return moved.cpu().double().numpy()


def gradient_scale(problem: Problem, seed: int) -> float:
    """What "small" is measured against: ‖∇R^eqv‖ at the seeded random start, where that is no stationary point itself.

    Who brings trained weights starts at a stationary point, or next to one. The median of ‖∇R^eqv‖ at three Gaussian
    points of the start's size (of size one where that vanishes) takes its place if it is a thousand times as large.
    It is never less than a millionth of ‖∇R‖ at such a point: ∇R^eqv is a sum of its entries, and where they cancel
    rounding is left. Gradients that are not finite do not count; where none is, it is one.
    """
    theta = _start(problem, seed)
    on_e, x = _OnE(problem, theta), theta.detach().cpu().double().numpy()
    size = float(theta.norm()) / math.sqrt(max(len(theta), 1))
    gradients = [on_e.gradient(x)]
    for number in range(3):
        generator = torch.Generator().manual_seed(seed + number)
        draw = torch.randn(len(theta), generator=generator, dtype=torch.float64).numpy()
        gradients.append(on_e.gradient(draw * (size if size > VANISHING else 1.0)))
    _within(problem, gradients[0], gradients[1:])
    own, *elsewhere = (float(np.linalg.norm(g)) for g in gradients)
    finite = sorted(g for g in elsewhere if math.isfinite(g))
    usual = finite[len(finite) // 2] if finite else 0.0
    found = own if math.isfinite(own) and usual <= ABNORMAL * own else usual
    return max(found, CANCELLED * _on_l(problem, torch.as_tensor(draw * (size if size > VANISHING else 1.0)))) or 1.0


def _on_l(problem: Problem, theta: Tensor) -> float:
    """‖∇R‖ at a point of E; zero where it is not finite, or has too many entries to be wanted."""
    if problem.space.dim > WHOLE:
        return 0.0
    at = problem.space.embed(theta.to(problem.samples.x))
    slope = problem.weight_decay * at
    for part in problem.samples.chunks(CHUNK):
        slope = slope + grad(problem.loss)(at, part)
    found = float(slope.norm())
    return found if math.isfinite(found) else 0.0


def _within(problem: Problem, own: np.ndarray, elsewhere: Sequence[np.ndarray]) -> None:
    """Raises BadInput where squares of gradients leave the precision: norms and products would be zero or infinite."""
    sizes = sorted(float(np.abs(g).max(initial=0.0)) for g in elsewhere)
    largest = max(float(np.abs(own).max(initial=0.0)), sizes[len(sizes) // 2])
    dtype = problem.samples.x.dtype
    least = 1e3 * float(torch.finfo(dtype).tiny) ** 0.5
    if 0 < largest < least or 1 / least < largest < math.inf:
        raise BadInput(
            f"{problem.name}: gradients on E are of size {largest:.1e}, whose squares leave "
            f"{str(dtype).removeprefix('torch.')}; multiply the risk by a constant that brings them near one"
        )


def _start(problem: Problem, seed: int) -> Tensor:
    if problem.initial is None:
        raise BadInput(f"{problem.name}: no starting point; give Problem(initial=…) or a point to analyse")
    return problem.initial(seed)


def describe_point(
    problem: Problem, theta: Tensor, kind: str, tolerance: float, start: int | None = None, limits: Limits = USUAL
) -> StationaryPoint:
    """Risk, gradient, Newton decrement and index on E of any point of E."""
    on_e = _OnE(problem, theta, limits)
    x = theta.detach().cpu().double().numpy()
    risk, gradient = on_e.value_and_gradient(x)
    decrement = index = eigenvalues = None
    if len(theta) <= limits.search_dense:
        values, vectors = np.linalg.eigh(on_e.hessian(x))
        noise = 1e-12 * np.abs(values).max(initial=0.0)
        weights = vectors.T @ gradient
        sure = np.abs(values) > noise
        decrement = math.sqrt(float(np.sum(weights[sure] ** 2 / np.abs(values[sure]))))
        index, eigenvalues = int((values < -noise).sum()), tuple(values.tolist())
        if kind in ("minimum", "saddle"):
            kind = "saddle" if index else "minimum"
    norm = float(np.linalg.norm(gradient))
    held = held_tensors(problem)
    return StationaryPoint(kind, theta.detach(), risk, norm, tolerance, decrement, index, eigenvalues, start, held)


def polish(
    problem: Problem,
    theta: Tensor,
    steps: int = 12,
    tolerance: float = 0.0,
    deadline: float = math.inf,
    limits: Limits = USUAL,
) -> Tensor:
    """Plain Newton steps on E, each kept only if it shrinks the gradient: any index is preserved nearby.

    Where E is too large for a dense Hessian, MINRES solves for a step (as well as float32 products allow, where E is
    very large), and the steps end once the gradient norm is below ``tolerance``, or at ``deadline`` on
    ``time.perf_counter``.
    """
    on_e = _OnE(problem, theta, limits)
    x = theta.detach().cpu().double().numpy()
    gradient = on_e.gradient(x)
    for _ in range(steps):
        if len(x) <= limits.search_dense:
            values, vectors = np.linalg.eigh(on_e.hessian(x))
            sure = np.abs(values) > 1e-11 * np.abs(values).max(initial=1e-300)
            step = -vectors[:, sure] @ ((vectors[:, sure].T @ gradient) / values[sure])
        else:
            product = LinearOperator((len(x), len(x)), matvec=partial(on_e.product, x), dtype=float)
            if np.linalg.norm(gradient) <= tolerance or time.perf_counter() > deadline:
                break
            # MINRES measures its residual against ‖H‖‖step‖, of which float32 knows no more than 1e-7.
            rtol = 1e-7 if len(x) > limits.search_single else 1e-10
            step = -minres(product, gradient, rtol=rtol, maxiter=2000)[0]
        trial = on_e.gradient(x + step)
        if not np.linalg.norm(trial) < 0.9 * np.linalg.norm(gradient):
            # At rounding level progress is noise; a last small gain is still taken.
            if np.linalg.norm(trial) < np.linalg.norm(gradient):
                x = x + step
            break
        x, gradient = x + step, trial
    return on_e.tensor(x)


def minimise(
    problem: Problem,
    theta: Tensor,
    tolerance: float,
    iterations: int = 2000,
    keep: Keep = lambda theta: None,
    seconds: float = SEARCH_SECONDS,
    limits: Limits = USUAL,
) -> Tensor:
    """A minimum of R on E: L-BFGS, then trust-region Newton, then Newton steps to rounding level.

    ``keep`` is called with iterates, a minute apart or more: a run that starts from the last one goes on from there.
    Where E is too large for a dense Hessian, the search ends after ``seconds``.
    """
    on_e = _OnE(problem, theta, limits)
    x = theta.detach().cpu().double().numpy()
    kept = time.perf_counter()

    def on_iterate(intermediate_result: OptimizeResult) -> None:
        nonlocal kept
        bar.update(1)
        now = time.perf_counter()
        if len(x) > limits.search_dense and now > deadline:
            raise StopIteration
        if now - kept > 60:
            keep(on_e.tensor(intermediate_result.x))
            kept = now
            bar.set_postfix_str(f"risk {float(intermediate_result.fun):.6g}")

    bar = tqdm(desc="minimising on E", unit=" iterations", disable=None, leave=False)
    deadline, risk = time.perf_counter() + seconds, math.inf
    while True:
        x = _round(on_e, x, tolerance, iterations, on_iterate, keep, deadline)
        before, (risk, gradient) = risk, on_e.value_and_gradient(x)
        # Dense Newton steps have the last word; a long search goes on while it gains and has time.
        if len(x) <= limits.search_dense or np.linalg.norm(gradient) <= tolerance:
            break
        if time.perf_counter() > deadline or not risk < before - 1e-9 * abs(risk):
            break
    bar.close()
    return on_e.tensor(x)


def _round(
    on_e: _OnE,
    x: np.ndarray,
    tolerance: float,
    iterations: int,
    on_iterate: Callable[[OptimizeResult], None],
    keep: Keep,
    deadline: float,
) -> np.ndarray:
    """L-BFGS, then trust-region Newton, then Newton steps; the last two while there is time."""
    dense = len(x) <= on_e.limits.search_dense

    def late() -> bool:
        return not dense and time.perf_counter() > deadline

    x = _first_order(on_e, x, tolerance, iterations, on_iterate)
    keep(on_e.tensor(x))
    if not late() and np.linalg.norm(on_e.gradient(x)) > tolerance:
        x = _second_order(on_e, x, tolerance, on_iterate)
        keep(on_e.tensor(x))
    if (
        not late()
        and on_e.limits.search_dense < len(x) <= on_e.limits.search_finish
        and np.linalg.norm(on_e.gradient(x)) > 1e3 * tolerance
    ):
        # In a flat valley the Krylov model stalls where the whole Hessian does not.
        whole = {"method": "trust-exact", "hess": on_e.hessian}
        x = _descended(on_e, x, on_iterate, {"gtol": 1e3 * tolerance, "maxiter": 30}, whole)
        keep(on_e.tensor(x))
    goal = tolerance if len(x) > on_e.limits.search_single else 0.0
    end = polish(on_e.problem, on_e.tensor(x), 12, goal, math.inf if dense else deadline, on_e.limits)
    keep(end)
    return end.cpu().double().numpy()


def _descended(
    on_e: _OnE,
    x: np.ndarray,
    on_iterate: Callable[[OptimizeResult], None],
    options: dict[str, float],
    method: dict[str, Any],
) -> np.ndarray:
    """Where scipy's minimiser ends."""
    return minimize(on_e.value_and_gradient, x, jac=True, callback=on_iterate, options=options, **method).x


def _first_order(
    on_e: _OnE, x: np.ndarray, tolerance: float, iterations: int, on_iterate: Callable[[OptimizeResult], None]
) -> np.ndarray:
    """L-BFGS."""
    # Trust-region steps by Krylov spaces are cheap, and where E is large they descend far faster than L-BFGS.
    iterations = iterations if len(x) <= on_e.limits.search_dense else min(iterations, 500)
    options = {
        "maxiter": iterations,
        "maxfun": 2 * iterations,
        "maxcor": max(5, min(30, int(on_e.limits.pair_bytes // (16 * len(x))))),
        "ftol": 0.0,
        "gtol": 0.01 * tolerance,
    }
    # OpenBLAS threads spinning between scipy's tiny products starve torch's: five times slower on two cores.
    with threadpool_limits(1, user_api="blas"):
        return _descended(on_e, x, on_iterate, options, {"method": "L-BFGS-B"})


def _second_order(
    on_e: _OnE, x: np.ndarray, tolerance: float, on_iterate: Callable[[OptimizeResult], None]
) -> np.ndarray:
    """Trust-region Newton, with the whole Hessian or by Krylov spaces."""
    dense = len(x) <= on_e.limits.search_dense
    exact, krylov = {"method": "trust-exact", "hess": on_e.hessian}, {"method": "trust-krylov", "hessp": on_e.product}
    # Risks cannot tell the last steps apart; Newton's are judged by the gradient instead.
    goal = tolerance if dense else 1e3 * tolerance
    most = 200 if len(x) <= 500 else 50 if dense else 1000
    return _descended(on_e, x, on_iterate, {"gtol": goal, "maxiter": most}, exact if dense else krylov)


def find_saddle(problem: Problem, theta: Tensor, evaluations: int = 60, limits: Limits = USUAL) -> Tensor:
    """A zero of the gradient, of any index, by least squares on ∇R with the exact Hessian as Jacobian."""
    on_e = _OnE(problem, theta, limits)
    x = theta.detach().cpu().double().numpy()
    found = least_squares(
        on_e.gradient, x, jac=on_e.hessian, method="trf", max_nfev=evaluations, gtol=1e-15, ftol=1e-15, xtol=1e-15
    )
    return polish(problem, on_e.tensor(found.x), limits=limits)


def search(
    problem: Problem,
    kind: str,
    theta: Tensor,
    tolerance: float,
    iterations: int = 2000,
    keep: Keep = lambda theta: None,
    seconds: float = SEARCH_SECONDS,
    limits: Limits = USUAL,
) -> Tensor:
    """Where the search for a "minimum" or a "saddle" from θ ends."""
    if kind == "minimum":
        return minimise(problem, theta, tolerance, iterations, keep, seconds, limits)
    return find_saddle(problem, theta, limits=limits)


@dataclass(frozen=True)
class Job:
    """A search to be done: for a "minimum" or a "saddle", from the seeded start θ.

    Attributes:
        kind: "minimum" or "saddle".
        start: the seed.
        theta: where it begins, coordinates on E.
    """

    kind: str
    start: int
    theta: Tensor


# (jobs, tolerance, seconds for each) ↦ (number of a job, where it ended), in any order.
Searches = Callable[[list[Job], float, float], Iterable[tuple[int, Tensor]]]


def find_points(
    problem: Problem,
    starts: int,
    seed: int,
    tolerance: float | None = None,
    saddles: int = 0,
    iterations: int = 2000,
    seconds: float = SEARCH_SECONDS,
    searches: Searches | None = None,
    limits: Limits = USUAL,
) -> list[StationaryPoint]:
    """Distinct equivariant stationary points, lowest risk first; then points that missed the tolerance, and the origin.

    Args:
        problem: the risk.
        starts: how many seeded random starts are minimised.
        seed: the first of them.
        tolerance: bound on ‖∇R^eqv‖; by default 1e-9 of the gradient at the first start.
        saddles: how many starts are also searched for saddles (E of at most 400 dimensions).
        iterations: L-BFGS iterations for each start.
        seconds: longest search from one start where E is too large for a dense Hessian.
        searches: who does them; one after another here, by default.
        limits: dimensions of E up to which it is dense, searched for saddles, and in double precision throughout.
    """
    tolerance = tolerance if tolerance is not None else 1e-9 * gradient_scale(problem, seed)
    found: list[StationaryPoint] = []
    small = problem.space.dim_equivariant <= limits.saddles
    wanted = [("minimum", seed + i) for i in range(starts)]
    wanted += [("saddle", seed + i) for i in range(saddles if small else 0)]
    jobs = [Job(kind, s, _start(problem, s)) for kind, s in wanted]
    ends = dict(
        searches(jobs, tolerance, seconds)
        if searches
        else _in_turn(problem, jobs, tolerance, iterations, seconds, limits)
    )
    for number, job in enumerate(jobs):
        point = describe_point(problem, ends[number], job.kind, tolerance, job.start, limits)
        # A minimum that fell short is still worth reporting; a failed saddle search is a gradient-flat point.
        if point.converged or job.kind == "minimum":
            found.append(point)
    origin = torch.zeros_like(_start(problem, seed))
    if float(np.linalg.norm(_OnE(problem, origin).gradient(origin.cpu().double().numpy()))) <= tolerance:
        found.append(describe_point(problem, origin, "origin", tolerance, limits=limits))
    # The origin, where every weight vanishes, is of no interest while there is anything else.
    return distinct(sorted(found, key=lambda p: (p.kind == "origin", not p.converged, p.risk)))


def _in_turn(
    problem: Problem, jobs: list[Job], tolerance: float, iterations: int, seconds: float, limits: Limits
) -> Iterator[tuple[int, Tensor]]:
    for number, job in enumerate(tqdm(jobs, desc="stationary points on E", disable=None, leave=False)):
        yield number, search(problem, job.kind, job.theta, tolerance, iterations, seconds=seconds, limits=limits)


def distinct(points: Sequence[StationaryPoint]) -> list[StationaryPoint]:
    """Drop points with the risk and the spectrum on E of an earlier one (the same up to symmetries of the network)."""
    kept: list[StationaryPoint] = []
    for p in points:
        if not any(_same(p, q) for q in kept):
            kept.append(p)
    return kept


def _same(p: StationaryPoint, q: StationaryPoint) -> bool:
    if abs(p.risk - q.risk) > 1e-9 * max(abs(p.risk), abs(q.risk), 1e-300):
        return False
    if p.eigenvalues is None or q.eigenvalues is None:
        return float((p.theta - q.theta).norm()) <= 1e-6 * float(q.theta.norm())
    a, b = np.array(p.eigenvalues), np.array(q.eigenvalues)
    return bool(np.abs(a - b).max() <= 1e-6 * max(np.abs(b).max(), 1e-300))
