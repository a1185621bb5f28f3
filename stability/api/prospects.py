r"""Before training: will it leave E as it is run, how fast, and what is the least that prevents it?

    forecast     ‖A_{E⊥}‖ over the steps, sector by sector, for a user's own optimiser and way of drawing
    prescribe    the least of each remedy that keeps ‖A_{E⊥}‖/‖A‖ below a bound, with its cost

>>> import torch
>>> from stability.tasks import TaskOptions, load
>>> problem = load("counterexample", TaskOptions())
>>> at = torch.tensor([0.5, 0.5], dtype=torch.float64)
>>> weight = torch.nn.Parameter(at.clone())
>>> found = forecast(problem, at, torch.optim.SGD([weight], lr=0.1), steps=50, start=1e-6)
>>> found.state, round(found.sectors[0].multiplier.growth, 12)
('grows', 1.1)
"""

from __future__ import annotations

import torch
from torch import Tensor

from stability.api.stages import Point, fitted, locate
from stability.base import doors
from stability.base.errors import BadInput
from stability.optimisers.draws import Draws, fitting
from stability.optimisers.outlook import Forecast, outlook
from stability.optimisers.prescribe import Prescription, prescription
from stability.optimisers.scene import Scene, scene
from stability.optimisers.updates import Update, read
from stability.problem.assumptions import check_assumptions
from stability.problem.problem import Problem


def _opened(problem: Problem, point: Point, draws: Draws) -> tuple[Scene, Tensor]:
    """The scene at the projection of a point, and what the point has on E⊥.

    Raises:
        BadInput: an assumption that fails, or weights that do not fit.
    """
    problem, point = fitted(problem, point)
    check_assumptions(problem, 0)
    fitting(problem, draws)
    theta, at, _ = locate(problem, point)
    if not float(theta.norm()) > 0:
        raise BadInput(f"{problem.name}: A = 0 at this point, so no distance is a share of ‖A‖; give another point")
    return scene(problem, theta), problem.space.transverse_part(at)


def _moment(given: Tensor | None, like: Tensor) -> Tensor | None:
    """A second moment as numbers of L."""
    if given is None:
        return None
    found = doors.finite("second_moment", doors.dense("second_moment", given), "repair it")
    if found.shape != like.shape or float(found.min()) < 0:
        raise BadInput(
            f"second_moment: shape {tuple(found.shape)}, least {float(found.min()):.2g}; give {len(like):,} numbers ≥ "
            "0, one a weight"
        )
    return found.to(like)


def forecast(
    problem: Problem,
    point: Point,
    optimiser: torch.optim.Optimizer | Update,
    *,
    steps: int = 1000,
    batch: int | None = None,
    elements: int | None = None,
    per: str = "batch",
    start: float | None = None,
    second_moment: Tensor | None = None,
    hessians: bool = False,
    seed: int = 0,
) -> Forecast:
    """How far from E training will be, step by step and sector by sector, before it is run.

    Args:
        problem: the risk; its ``weight_decay`` is part of it, and the optimiser's is added to that.
        point: where training stands; multipliers are those of its projection onto E.
        optimiser: a ``torch.optim`` object, or a rule of :mod:`stability.optimisers.updates`.
        steps: how many.
        batch: samples a step; None for all of them.
        elements: drawn elements of G; None for the exact average over G.
        per: what has elements of its own, a "batch" or each "sample".
        start: ‖A_{E⊥}‖/‖A‖ at the start, in a random direction; by default the deviation that the point has.
        second_moment: v of Adam or RMSprop, (dim L), averaged over orbits; by default that of the drawn gradients.
        hessians: whether the scatter of drawn Hessians is worked out too (``feedback``): minutes from 100 weights on.
        seed: of the gradients and elements that commutation is measured with.

    Raises:
        BadInput: an optimiser that is not known, an assumption that fails, or what the closed forms do not reach.
    """
    draws = Draws(batch, elements, per)
    update, steps = read(optimiser), doors.whole("steps", steps, 1)
    start = None if start is None else doors.number("start", start)
    place, deviation = _opened(problem, point, draws)
    second_moment = _moment(second_moment, place.at)
    first = deviation if start is None else (start * place.norm) ** 2
    return outlook(
        place, update, draws, steps=steps, start=first, moment=second_moment, hessians=hessians, seed=doors.seed(seed)
    )


def prescribe(
    problem: Problem,
    point: Point,
    optimiser: torch.optim.Optimizer | Update,
    *,
    keep: float = 1e-3,
    steps: int = 1000,
    batch: int | None = None,
    elements: int | None = None,
    per: str = "batch",
    start: float | None = None,
    second_moment: Tensor | None = None,
) -> Prescription:
    """The least of each remedy that keeps ‖A_{E⊥}‖/‖A‖ below ``keep``: penalty, decay, elements, batch, step, …

    Args:
        problem: the risk.
        point: where training stands.
        optimiser: a ``torch.optim`` object, or a rule of :mod:`stability.optimisers.updates`; not Muon.
        keep: the bound.
        steps: for how long.
        batch: samples a step; None for all of them.
        elements: drawn elements of G; None for the exact average over G.
        per: what has elements of its own, a "batch" or each "sample".
        start: ‖A_{E⊥}‖/‖A‖ at the start; by default that of the point.
        second_moment: v of Adam or RMSprop, as of :func:`forecast`; by default that of the draws, which follows them.

    Raises:
        BadInput: Muon, a start beyond the bound, or what :func:`forecast` refuses.
    """
    draws = Draws(batch, elements, per)
    update, steps = read(optimiser), doors.whole("steps", steps, 1)
    keep = doors.number("keep", keep, above=True)
    place, deviation = _opened(problem, point, draws)
    share = float(deviation.norm()) / place.norm if start is None else doors.number("start", start)
    moment = _moment(second_moment, place.at)
    return prescription(place, update, draws, start=(share * place.norm) ** 2, steps=steps, keep=keep, moment=moment)
