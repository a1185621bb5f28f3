"""The problems that are measured."""

from __future__ import annotations

from dataclasses import dataclass, replace

from analyses.lab.cases import Case
from analyses.lab.ground import Ground, resolve
from stability.problem.problem import Problem


@dataclass(frozen=True)
class Spot:
    """A problem that is measured, whether its stationary point is searched, and how its data are changed.

    Attributes:
        case: task, group, data and start.
        stationary: whether the search from the start is made.
        symmetric: take the data moved by every g as the data, so that R = R^aug.
    """

    case: Case
    stationary: bool = False
    symmetric: bool = False

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.case.label + (", data made symmetric" if self.symmetric else "")

    def problem(self) -> Problem:
        """The risk."""
        problem = self.case.problem()
        return replace(problem, samples=problem.augmented()) if self.symmetric else problem

    def ground(self) -> Ground:
        """The stationary point with all modes."""
        ground = self.case.ground()
        return resolve(self.problem(), ground.point.theta, ground.point.tolerance, 0) if self.symmetric else ground


SPOTS = (
    Spot(Case("trans", 0, 100), stationary=True),
    Spot(Case("perm", 1, 40, 1e-2), stationary=True),
    Spot(Case("perm", 0, 40, 2e-2), stationary=True),
    Spot(Case("perm", 0, 40, 2e-2), stationary=True, symmetric=True),
    Spot(Case("rot", 0, 40), stationary=True),
    Spot(Case("counterexample"), stationary=True),
    Spot(Case("counterexample-twin"), stationary=True),
    Spot(Case("counterexample-nominal"), stationary=True),
    Spot(Case("trans", 0, 40, group="rotations")),
    Spot(Case("trans", 0, 40, group="rows")),
    Spot(Case("trans", 0, 40, group="roto-translations")),
    Spot(Case("perm", 0, 40, group="alternating")),
    Spot(Case("perm", 0, 40, group="cyclic")),
    Spot(Case("rot", 0, 40, group="dihedral")),
)
