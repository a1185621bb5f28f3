"""Multipliers in closed form are the eigenvalues of the Jacobian of torch's own step, optimiser state included."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from brute import GROUPS, augmented_risk, bad, closure, gradient, irreps, lifted, problem
from torch import Tensor

import stability
from stability.optimisers import updates
from stability.optimisers.blocks import component, resolve
from stability.optimisers.multipliers import (
    companion,
    growth,
    of_block,
    of_sector,
    of_values,
    stable_range,
    turning_step,
)
from stability.optimisers.steps import denominator, rest
from stability.points.stationary import gradient_scale, minimise
from stability.problem.problem import Problem
from stability.spectra import sectors
from stability.tasks import TaskOptions, load

STEP = 1e-5
RULES: dict[str, Callable[[list], torch.optim.Optimizer]] = {
    "descent": lambda p: torch.optim.SGD(p, lr=0.3),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.3, momentum=0.9),
    "dampening and decay": lambda p: torch.optim.SGD(p, lr=0.3, momentum=0.8, dampening=0.4, weight_decay=0.05),
    "Nesterov": lambda p: torch.optim.SGD(p, lr=0.3, momentum=0.7, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=1e-2, betas=(0.9, 0.99), weight_decay=0.02),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=1e-2, betas=(0.6, 0.9), weight_decay=0.5),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=1e-2, alpha=0.9, momentum=0.5),
}
# Abelian and not; irreps of real, complex and quaternionic type.
CASES = ("Z_3² classes", "D_4 masks", "A_4 points", "Q_8 quaternions")
# Elementwise rules commute with permutations only.
PERMUTED = CASES[:3]
KEYS = {
    torch.optim.SGD: ("momentum_buffer", None),
    torch.optim.Adam: ("exp_avg", "exp_avg_sq"),
    torch.optim.AdamW: ("exp_avg", "exp_avg_sq"),
    torch.optim.RMSprop: ("momentum_buffer", "square_avg"),
}


@cache
def ground(name: str) -> tuple[Problem, Tensor]:
    """A problem and a stationary point of R^aug on E."""
    case = problem(name)
    return case, minimise(case, case.initial(0), 1e-12 * gradient_scale(case, 0))


@cache
def slope(name: str, at: bytes) -> Tensor:
    """∇R^aug from the definition, once for all rules: they ask for it at the same points."""
    case = ground(name)[0]
    return gradient(lambda a: augmented_risk(case, a), torch.frombuffer(bytearray(at), dtype=torch.float64))


@cache
def isotypic(case: Problem, name: str) -> dict[str, np.ndarray]:
    """Orthonormal columns of every isotypic part of L, from characters summed over the enumerated group."""
    members = closure(case.group)
    found = {}
    for irrep in irreps(name.split(" classes")[0].split(" masks")[0].split(" points")[0].split(" quat")[0]):
        chi = [float(np.trace(irrep.representation.matrix(g))) for g in members]
        total = sum(c * lifted(case.space.layers, g) for c, g in zip(chi, members, strict=True))
        projection = irrep.dim / irrep.commutant_dim / len(members) * total
        values, vectors = np.linalg.eigh((projection + projection.T) / 2)
        if (values > 0.5).any():
            found[irrep.name] = vectors[:, values > 0.5]
    return found


def torch_step(name: str, make: Callable, second: Tensor) -> Callable[[Tensor], Tensor]:
    """(A, b) ↦ (A', b') by torch.optim itself, late in training, v given."""

    def step(pair: Tensor) -> Tensor:
        at, buffer = pair.chunk(2)
        weight = torch.nn.Parameter(at.clone())
        optimiser = make([weight])
        first, squares = KEYS[type(optimiser)]
        state = optimiser.state[weight]
        state[first] = buffer.clone()
        if squares:
            state[squares], state["step"] = second.clone(), torch.tensor(1e6)
        weight.grad = slope(name, at.contiguous().numpy().tobytes()).clone()
        optimiser.step()
        return torch.cat([weight.detach(), state[first] if state[first] is not None else buffer])

    return step


def jacobian(function: Callable[[Tensor], Tensor], at: Tensor) -> np.ndarray:
    """Columns by central differences."""
    columns = [
        (function(at + STEP * e) - function(at - STEP * e)) / (2 * STEP) for e in torch.eye(len(at)).to(at.dtype)
    ]
    return torch.stack(columns, dim=1).numpy()


def radius(matrix: np.ndarray) -> float:
    return float(np.abs(np.linalg.eigvals(matrix)).max())


def invariant_moment(case: Problem) -> Tensor:
    """A positive v that is the same along orbits."""
    v = case.space.equivariant_part(torch.linspace(0.5, 1.5, case.space.dim, dtype=torch.float64))
    assert float(v.min()) > 0
    return v**2 * 1e-2


@pytest.mark.parametrize(
    ("name", "rule"),
    [(n, r) for n in CASES for r in RULES if n in PERMUTED[1:] or r in ("momentum", "Nesterov")],
)
def test_the_growth_of_a_sector_is_the_spectral_radius_of_torchs_own_step_on_it(name, rule):
    case, theta = ground(name)
    at = case.space.embed(theta)
    update = updates.read(RULES[rule]([torch.nn.Parameter(at.clone())]))
    moment, preconditioner = torch.zeros_like(at), None
    if update.adaptive:
        moment = invariant_moment(case)
        # Where the gradient is zero the step leaves β₂v; what is late has no bias left.
        held = rest(at)._replace(count=10**6, second=update.second * moment)
        preconditioner = 1 / denominator(update, held)
    whole = jacobian(torch_step(name, RULES[rule], moment), torch.cat([at, torch.zeros_like(at)]))
    seen = {
        label: radius(np.kron(np.eye(2), u).T @ whole @ np.kron(np.eye(2), u))
        for label, u in isotypic(case, name).items()
    }
    blocks = list(resolve(case, theta, decay=update.coupled, preconditioner=preconditioner))
    predicted = sorted(of_block(b, update).growth for b in blocks)
    assert len(blocks) == len(seen) - 1
    # Without momentum torch keeps no buffer, and the identity that the differences find there is no multiplier.
    if rule == "descent":
        seen = {k: radius(u.T @ whole[: len(at), : len(at)] @ u) for k, u in isotypic(case, name).items()}
    measured = sorted(v for k, v in seen.items() if k != "trivial")
    assert predicted == pytest.approx(measured, abs=2e-7)


def test_without_the_momentums_square_root_the_radius_would_be_noticed():
    """The comparison can fail: another momentum changes the radius by far more than the tolerance."""
    h = torch.tensor([-0.2, 0.7], dtype=torch.float64)
    a, b = (growth(updates.sgd(0.3, beta), h) for beta in (0.9, 0.91))
    assert float((a - b).abs().min()) > 1e-3


@pytest.mark.parametrize(
    "update",
    [
        updates.sgd(0.3),
        updates.sgd(0.3, decay=0.2),
        updates.sgd(0.3, 0.9),
        updates.sgd(0.3, 0.9, dampening=0.5),
        updates.sgd(0.3, 0.9, nesterov=True),
        updates.Update("sgd", 0.3, 0.9, decay=0.4, decoupled=True),
        updates.Update("sgd", 0.3, 0.6, nesterov=True, decay=0.4, decoupled=True),
        updates.adam(0.1),
        updates.adamw(0.1, decay=0.7),
        updates.rmsprop(0.1, momentum=0.3),
    ],
    ids=str,
)
def test_growth_is_the_largest_root_and_passes_one_at_the_ends_of_the_stable_range(update):
    low, high = stable_range(update)
    h = torch.linspace(low - 5, high + 5, 1001, dtype=torch.float64)
    roots = torch.linalg.eigvals(companion(update, h)).abs().amax(-1)
    assert torch.allclose(growth(update, h), roots, atol=1e-7)
    inside = (h > low + 1e-6) & (h < high - 1e-6)
    outside = (h < low - 1e-6) | (h > high + 1e-6)
    assert bool((roots[inside] < 1).all()) and bool((roots[outside] > 1).all())
    # No eigenvalue between two ends grows faster than the faster of them.
    for a, b in ((low - 1, high / 2), (low / 2, high + 1), (low - 1, high + 1)):
        between = growth(update, torch.linspace(a, b, 301, dtype=torch.float64))
        assert float(between.max()) <= float(torch.maximum(between[0], between[-1])) + 1e-12
    turn = turning_step(update, 2.0)
    scaled = updates.Update(**{**vars(update), "step": turn})
    assert stable_range(scaled)[1] == pytest.approx(2.0, rel=1e-12)


def test_where_one_is_within_the_error_nothing_is_decided():
    update = updates.sgd(0.1)
    cases = {(-1e-3, 1e-6): "grows", (-1e-6, 1e-3): "undecided", (1e-6, 1e-3): "undecided", (1e-2, 1e-3): "shrinks"}
    for (value, error), state in cases.items():
        assert of_values("λ", update, (value, 5.0), (error, 0.0), True).state == state
    assert of_values("λ", update, (1e-2, 5.0), (1e-3, 0.0), False).state == "undecided"
    assert of_values("λ", update, (1e-2, 25.0), (1e-3, 1.0), False).state == "grows"
    slow = of_values("λ", update, (-1.0, 5.0), (0.1, 0.0), True)
    assert slow.least <= slow.growth <= slow.most
    assert (slow.least, slow.most) == pytest.approx((1.09, 1.11))
    assert slow.doubling == pytest.approx(math.log(2) / math.log(1.1))
    assert slow.turns is None  # no step is short enough


def test_a_decay_in_the_optimiser_is_added_to_that_of_the_problem():
    case, theta = ground("D_4 masks")
    found = [[of_block(b, u).value for b in resolve(case, theta, decay=u.coupled)] for u in
             (updates.sgd(1e-3), updates.sgd(1e-3, decay=0.25))]  # fmt: skip
    assert np.array(found[1]) - np.array(found[0]) == pytest.approx(0.25, abs=1e-12)


def test_the_sectors_of_a_spectrum_give_the_same_multipliers_as_the_whole_block():
    case, theta = ground("A_4 points")
    update = updates.sgd(0.2, 0.5, decay=0.01)
    blocks = {b.irrep.name: of_block(b, update) for b in resolve(case, theta, decay=update.coupled)}
    for sector in stability.sectors(case, theta):
        if sector.irrep != "trivial":
            other = of_sector(sector, update)
            assert other.growth == pytest.approx(blocks[sector.irrep].growth, abs=1e-12)
            assert other.state == blocks[sector.irrep].state
    with bad("its multipliers are those of"):
        of_sector(sector, updates.adam())


def test_the_counterexample_doubles_at_the_rate_computed_by_hand():
    case = load("counterexample", TaskOptions())
    theta = case.space.project(torch.tensor([0.5, 0.5], dtype=torch.float64))
    (block,) = resolve(case, theta)
    found = of_block(block, updates.sgd(0.1))
    assert found.state == "grows"
    assert found.growth == pytest.approx(1.1, abs=1e-12)  # λ = −1
    assert of_block(block, updates.sgd(0.1, 0.9)).growth == pytest.approx((2.0 + 0.4**0.5) / 2, abs=1e-12)


def test_a_second_moment_that_differs_along_an_orbit_is_refused():
    case, theta = ground("D_4 masks")
    uneven = torch.linspace(1, 2, case.space.dim, dtype=torch.float64)
    with bad("does not commute with G"):
        list(resolve(case, theta, preconditioner=uneven))
    with bad("no multiplier belongs to it"):
        growth(updates.muon(), torch.zeros(1))


@pytest.mark.parametrize("name", CASES)
def test_the_components_of_a_vector_add_up_to_it_and_are_those_of_the_characters(name):
    case = problem(name)
    v = torch.linspace(-1, 1, case.space.dim, dtype=torch.float64)
    pieces = [component(case.space, irrep, v) for irrep, _ in sectors.occurring(case.space)]
    assert torch.allclose(sum(pieces), v, atol=1e-12)
    norms = sorted(float(p.norm()) for p in pieces)
    projected = sorted(float(np.linalg.norm(u.T @ v.numpy())) for u in isotypic(case, name).values())
    assert norms == pytest.approx(projected, abs=1e-12)


def test_every_group_of_the_cases_is_one_that_brute_force_knows():
    assert all(any(name.startswith(group) for group in GROUPS) for name in CASES)
