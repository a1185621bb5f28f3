r"""Equivariant stationary points: ∇(R∘embed)(θ) = 0 on E, to rounding.

L-BFGS gets near, trust-region Newton on E gets there, plain Newton steps (kept while the gradient shrinks) end
at rounding level. Saddles are zeros of the gradient found by least squares on ∇R, kept only if the gradient
vanishes: a minimum of ‖∇R‖² where it does not is a gradient-flat point and is thrown away.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy.optimize import OptimizeResult, least_squares, minimize
from scipy.sparse.linalg import LinearOperator, minres
from threadpoolctl import threadpool_limits
from torch import Tensor
from tqdm import tqdm

from stability.curvature import Operator, StaleLinearisation, assemble
from stability.errors import BadInput
from stability.pooled import hessian_on_e
from stability.problem import Problem, single
from stability.record import Record

DENSE_NEWTON = 2500
DENSE_FINISH = 8000
SADDLE_LIMIT = 400
# Longest search from one start where E is too large for dense Newton steps; its last step may end later.
SEARCH_SECONDS = 3600.0
# Samples whose activations are held at once.
CHUNK = 2048
SINGLE_FROM = 20_000
# Bytes for the pairs of L-BFGS, two vectors each.
PAIR_BYTES = 2e9
# Gradient, beside that of a random start, from which on a start counts as a stationary point.
STATIONARY_START = 1e-4
# Norm of weights, beside that of a random start, from which a search counts as running to infinity.
RUNAWAY = 10.0
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

    @property
    def converged(self) -> bool:
        return self.gradient_norm <= self.tolerance


def runaway(problem: Problem, theta: Tensor) -> BadInput | None:
    """What to say where products are nothing but rounding because nothing kept a search from running to infinity."""
    usual, norm = float(problem.initial(0).norm()), float(theta.norm())
    if problem.weight_decay > 0 or not norm > RUNAWAY * usual:
        return None
    times = f"{norm / usual:.0f} times that of a random start"
    return BadInput(
        f"the search on E has run to weights of norm {norm:.3g}, {times}, where curvature is no larger than rounding: "
        "without decay the risk falls towards a bound that it does not reach, as on data that can be separated; give "
        "weight_decay, such as 1e-3"
    )


class _OnE:
    """R∘embed with gradients and Hessians as numpy sees them."""

    def __init__(self, problem: Problem, like: Tensor) -> None:
        self.problem, self.like = problem, like
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
            return assemble(hessian_on_e(self.problem, at), at).cpu().double().numpy()
        except StaleLinearisation as error:
            raise runaway(self.problem, at) or error from error

    def product(self, theta: np.ndarray, v: np.ndarray) -> np.ndarray:
        """∇²R^eqv(θ)v, linearised once for all products at a point; in float32 where they steer a long search."""
        large = len(theta) > SINGLE_FROM
        if self._linearised is None or not np.array_equal(self._linearised[0], theta):
            problem = single(self.problem) if large else self.problem
            at = self.tensor(theta)
            self._linearised = (theta.copy(), hessian_on_e(problem, at.float() if large else at))
        direction = self.tensor(v)
        moved = self._linearised[1](direction.float() if large else direction)
        return moved.cpu().double().numpy()


def gradient_scale(problem: Problem, seed: int, at: Tensor | None = None) -> float:
    """What "small" is measured against: ‖∇R^eqv‖ at the seeded random start.

    A start that is stationary itself, as a point that someone brings to be judged, has no such gradient. Where it is
    below 10⁻⁴ of ‖Hv‖ max(1, ‖θ‖), v a random unit vector of E, the latter is taken, which is what a random start next
    to it would have had: of the tasks' random starts it is 1.4 to 6 times the gradient.

    Args:
        problem: the risk.
        seed: of the start.
        at: the point that stands in for a start where the problem has none.

    Raises:
        BadInput: numbers whose squares float64 (or the problem's precision) does not hold.
    """
    theta = at if problem.initial is None and at is not None else _start(problem, seed)
    on_e, x = _OnE(problem, theta), theta.detach().cpu().double().numpy()
    gradient = on_e.gradient(x)
    length, eps = max(1.0, float(np.linalg.norm(x))), float(torch.finfo(theta.dtype).eps)
    v = np.random.default_rng(seed).standard_normal(len(x))
    v *= length / max(float(np.linalg.norm(v)), 1e-300)
    change = (on_e.gradient(x + eps**0.5 * v) - gradient) / eps**0.5
    largest = max(np.abs(gradient).max(initial=0.0), np.abs(change).max(initial=0.0))
    least = 1e3 * float(torch.finfo(theta.dtype).tiny) ** 0.5
    if not np.isfinite(largest) or 0 < largest < least or largest > 1 / least:
        raise BadInput(
            f"{problem.name}: gradients and curvatures on E are of size {largest:.1e}, and their squares leave "
            f"{str(theta.dtype).removeprefix('torch.')}; multiply the risk by a constant that brings them near one"
        )
    found, typical = float(np.linalg.norm(gradient)), float(np.linalg.norm(change))
    return (typical if found < STATIONARY_START * typical else found) or 1.0


def gradient_tolerance(problem: Problem, scale: float) -> float:
    """What ‖∇R^eqv‖ must not exceed at a stationary point: 1e-9 of its scale, 1e-4 in single precision."""
    return (1e-9 if problem.samples.x.dtype == torch.float64 else 1e-4) * scale


def _start(problem: Problem, seed: int) -> Tensor:
    if problem.initial is None:
        raise BadInput(f"{problem.name}: no starting point; give Problem(initial=…) or a point to analyse")
    return problem.initial(seed)


def describe_point(
    problem: Problem, theta: Tensor, kind: str, tolerance: float, start: int | None = None
) -> StationaryPoint:
    """Risk, gradient, Newton decrement and index on E of any point of E."""
    on_e = _OnE(problem, theta)
    x = theta.detach().cpu().double().numpy()
    risk, gradient = on_e.value_and_gradient(x)
    decrement = index = eigenvalues = None
    if len(theta) <= DENSE_NEWTON:
        values, vectors = np.linalg.eigh(on_e.hessian(x))
        noise = 1e-12 * np.abs(values).max(initial=0.0)
        weights = vectors.T @ gradient
        sure = np.abs(values) > noise
        decrement = math.sqrt(float(np.sum(weights[sure] ** 2 / np.abs(values[sure]))))
        index, eigenvalues = int((values < -noise).sum()), tuple(values.tolist())
        if kind in ("minimum", "saddle"):
            kind = "saddle" if index else "minimum"
    return StationaryPoint(
        kind, theta.detach(), risk, float(np.linalg.norm(gradient)), tolerance, decrement, index, eigenvalues, start
    )


def polish(
    problem: Problem, theta: Tensor, steps: int = 12, tolerance: float = 0.0, deadline: float = math.inf
) -> Tensor:
    """Plain Newton steps on E, each kept only if it shrinks the gradient: any index is preserved nearby.

    Where E is too large for a dense Hessian, MINRES solves for a step (as well as float32 products allow, where E is
    very large), and the steps end once the gradient norm is below ``tolerance``, or at ``deadline`` on
    ``time.perf_counter``.
    """
    on_e = _OnE(problem, theta)
    x = theta.detach().cpu().double().numpy()
    gradient = on_e.gradient(x)
    for _ in range(steps):
        if len(x) <= DENSE_NEWTON:
            values, vectors = np.linalg.eigh(on_e.hessian(x))
            sure = np.abs(values) > 1e-11 * np.abs(values).max(initial=1e-300)
            step = -vectors[:, sure] @ ((vectors[:, sure].T @ gradient) / values[sure])
        else:
            product = LinearOperator((len(x), len(x)), matvec=partial(on_e.product, x), dtype=float)
            if np.linalg.norm(gradient) <= tolerance or time.perf_counter() > deadline:
                break
            # MINRES measures its residual against ‖H‖‖step‖, of which float32 knows no more than 1e-7.
            rtol = 1e-7 if len(x) > SINGLE_FROM else 1e-10
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
) -> Tensor:
    """A minimum of R on E: L-BFGS, then trust-region Newton, then Newton steps to rounding level.

    ``keep`` is called with iterates, a minute apart or more: a run that starts from the last one goes on from there.
    Where E is too large for a dense Hessian, the search ends after ``seconds``.
    """
    on_e = _OnE(problem, theta)
    x = theta.detach().cpu().double().numpy()
    kept = time.perf_counter()

    def on_iterate(intermediate_result: OptimizeResult) -> None:
        nonlocal kept
        bar.update(1)
        now = time.perf_counter()
        if len(x) > DENSE_NEWTON and now > deadline:
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
        if len(x) <= DENSE_NEWTON or np.linalg.norm(gradient) <= tolerance:
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
    """L-BFGS, then trust-region Newton, then Newton steps."""
    problem, dense = on_e.problem, len(x) <= DENSE_NEWTON
    # Trust-region steps by Krylov spaces are cheap, and where E is large they descend far faster than L-BFGS.
    iterations = iterations if dense else min(iterations, 500)
    # OpenBLAS threads spinning between scipy's tiny products starve torch's: five times slower on two cores.
    with threadpool_limits(1, user_api="blas"):
        x = minimize(
            on_e.value_and_gradient,
            x,
            jac=True,
            method="L-BFGS-B",
            callback=on_iterate,
            options={
                "maxiter": iterations,
                "maxfun": 2 * iterations,
                "maxcor": max(5, min(30, int(PAIR_BYTES // (16 * len(x))))),
                "ftol": 0.0,
                "gtol": 0.01 * tolerance,
            },
        ).x
    keep(on_e.tensor(x))
    late = not dense and time.perf_counter() > deadline
    if not late and np.linalg.norm(on_e.gradient(x)) > tolerance:
        second_order = (
            {"method": "trust-exact", "hess": on_e.hessian}
            if dense
            else {"method": "trust-krylov", "hessp": on_e.product}
        )
        # Risks cannot tell the last steps apart; Newton's are judged by the gradient instead.
        goal = tolerance if dense else 1e3 * tolerance
        most = 200 if len(x) <= 500 else 50 if dense else 1000
        x = minimize(
            on_e.value_and_gradient,
            x,
            jac=True,
            callback=on_iterate,
            options={"gtol": goal, "maxiter": most},
            **second_order,
        ).x
        keep(on_e.tensor(x))
    late = not dense and time.perf_counter() > deadline
    if not late and DENSE_NEWTON < len(x) <= DENSE_FINISH and np.linalg.norm(on_e.gradient(x)) > 1e3 * tolerance:
        # In a flat valley the Krylov model stalls where the whole Hessian does not.
        x = minimize(
            on_e.value_and_gradient,
            x,
            jac=True,
            method="trust-exact",
            hess=on_e.hessian,
            callback=on_iterate,
            options={"gtol": 1e3 * tolerance, "maxiter": 30},
        ).x
        keep(on_e.tensor(x))
    goal = tolerance if len(x) > SINGLE_FROM else 0.0
    end = polish(problem, on_e.tensor(x), tolerance=goal, deadline=math.inf if dense else deadline)
    keep(end)
    return end.cpu().double().numpy()


def find_saddle(problem: Problem, theta: Tensor, evaluations: int = 60) -> Tensor:
    """A zero of the gradient, of any index, by least squares on ∇R with the exact Hessian as Jacobian."""
    on_e = _OnE(problem, theta)
    x = theta.detach().cpu().double().numpy()
    found = least_squares(
        on_e.gradient, x, jac=on_e.hessian, method="trf", max_nfev=evaluations, gtol=1e-15, ftol=1e-15, xtol=1e-15
    )
    return polish(problem, on_e.tensor(found.x))


def search(
    problem: Problem,
    kind: str,
    theta: Tensor,
    tolerance: float,
    iterations: int = 2000,
    keep: Keep = lambda theta: None,
) -> Tensor:
    """Where the search for a "minimum" or a "saddle" from θ ends."""
    if kind == "minimum":
        return minimise(problem, theta, tolerance, iterations, keep)
    return find_saddle(problem, theta)


def find_points(
    problem: Problem,
    starts: int,
    seed: int,
    tolerance: float | None = None,
    saddles: int = 0,
    iterations: int = 2000,
    load: Callable[[int], Tensor | None] = lambda start: None,
    keep: Callable[[int, Tensor], None] = lambda start, theta: None,
    seconds: float = SEARCH_SECONDS,
) -> list[StationaryPoint]:
    """Distinct equivariant stationary points, lowest risk first; then points that missed the tolerance, and the origin.

    Args:
        problem: the risk.
        starts: how many seeded random starts are minimised.
        seed: the first of them.
        tolerance: bound on ‖∇R^eqv‖; by default 1e-9 of :func:`gradient_scale`, 1e-4 in single precision.
        saddles: how many starts are also searched for saddles (E of at most 400 dimensions).
        iterations: L-BFGS iterations for each start.
        load: where an interrupted minimisation of a start had come to, if anywhere.
        keep: called with a start and iterates of its minimisation, now and then.
        seconds: longest search from one start where E is too large for a dense Hessian.
    """
    tolerance = gradient_tolerance(problem, gradient_scale(problem, seed)) if tolerance is None else tolerance
    found: list[StationaryPoint] = []
    small = problem.space.dim_equivariant <= SADDLE_LIMIT
    jobs = [("minimum", seed + i) for i in range(starts)] + [
        ("saddle", seed + i) for i in range(saddles if small else 0)
    ]
    for kind, s in tqdm(jobs, desc="stationary points on E", disable=None, leave=False):
        theta = load(s) if kind == "minimum" else None
        theta = _start(problem, s) if theta is None else theta
        at = (
            minimise(problem, theta, tolerance, iterations, partial(keep, s), seconds)
            if kind == "minimum"
            else find_saddle(problem, theta)
        )
        point = describe_point(problem, at, kind, tolerance, s)
        # A minimum that fell short is still worth reporting; a failed saddle search is a gradient-flat point.
        if point.converged or kind == "minimum":
            found.append(point)
    origin = torch.zeros_like(_start(problem, seed))
    if float(np.linalg.norm(_OnE(problem, origin).gradient(origin.cpu().double().numpy()))) <= tolerance:
        found.append(describe_point(problem, origin, "origin", tolerance))
    # The origin, where every weight vanishes, is of no interest while there is anything else.
    return distinct(sorted(found, key=lambda p: (p.kind == "origin", not p.converged, p.risk)))


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
