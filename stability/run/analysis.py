"""The whole chain: problem → points → curvature → verdict → what follows, stage by stage.

Every stage hands the analysis so far to ``on_stage``, so an interrupted run has a valid partial result.
"""

from __future__ import annotations

from collections.abc import Callable

from stability.base.cluster import Pool, digest
from stability.base.errors import StaleLinearisation
from stability.base.storage import Checkpoint
from stability.points.stationary import runaway
from stability.problem.held import held_tensors
from stability.problem.problem import Problem
from stability.run import checks, consequences, find, judge, spectra
from stability.run.given import Given, Interrupted, Ledger, Outcome
from stability.run.settings import Settings
from stability.tasks.recipe import Recipe


def analyse(
    problem: Problem,
    settings: Settings | None = None,
    header: dict | None = None,
    checkpoint: Checkpoint | None = None,
    on_stage: Callable[[Outcome], None] = lambda outcome: None,
    pool: Pool | None = None,
    recipe: Recipe | None = None,
) -> Outcome:
    """Points, spectra, identities and verdicts of a problem.

    Args:
        problem: the risk with its group action.
        settings: how to run; see :class:`Settings`.
        header: keys of the analysis that only the caller knows (task, size, options, …).
        checkpoint: where intermediate tensors go.
        on_stage: called with the outcome so far after every stage.
        pool: whose processes search points and solve sectors; this one by default.
        recipe: how they build the problem; without one it is sent to them.

    Raises:
        BadInput: an assumption fails, or the problem does not fit the memory.
        Interrupted: on Ctrl-C, with the outcome so far.
    """
    given = prepared(problem, settings or Settings(), header, checkpoint, on_stage)
    try:
        return _run(given, pool, recipe)
    except KeyboardInterrupt:
        raise Interrupted(given.ledger.outcome) from None


def prepared(
    problem: Problem,
    settings: Settings,
    header: dict | None = None,
    checkpoint: Checkpoint | None = None,
    on_stage: Callable[[Outcome], None] = lambda outcome: None,
) -> Given:
    """A run of which nothing is known yet but its problem; single stages take it as well."""
    outcome = Outcome(checks.header(problem, settings, header or {}), held=held_tensors(problem))
    return Given(problem, settings, Ledger(outcome, on_stage), checkpoint or Checkpoint(None, {}, False))


def _run(given: Given, pool: Pool | None, recipe: Recipe | None) -> Outcome:
    """From the problem to what follows from its verdict."""
    ledger = given.ledger
    checks.enough_memory(given.problem, given.settings.memory_gb)
    checks.assumptions(given)
    given = checks.identified(given, pool, recipe)
    found = find.found(given)
    point, at = found.points[0], given.at(found.points[0].theta)
    given.checkpoint.at(digest(at.theta))
    ledger.outcome.theta = at.theta
    report = find.described(given, found.points)
    try:
        curvature = spectra.curved(given, at, point)
    except StaleLinearisation as error:
        raise runaway(given.problem, at.theta) or error from error
    judge.identities_hold(given, at, found.scale)
    verdict = judge.judged(given, at, point, report, curvature)
    end = consequences.escaped(given, at, report, verdict, curvature)
    consequences.pictured(given, at, found.points, curvature, end)
    ledger.keep(complete=True)
    return ledger.outcome
