"""The points, pushes and ways that are followed."""

from __future__ import annotations

from dataclasses import dataclass

from analyses.lab.cases import Case
from analyses.studies.dynamics.flow import LINEAR_FOLDS

PARTS = ("flow", "mode", "end", "discrete", "descent")


@dataclass(frozen=True)
class Flow:
    """A point, the least eigenvalue of the mode (None: the lowest mode), the push and the factors e followed."""

    case: Case
    least: float | None
    push: float
    folds: float


FLOWS = (
    Flow(Case("counterexample"), None, 1e-4, 10.0),
    Flow(Case("counterexample-twin"), None, 1e-4, 5.0),
    Flow(Case("perm", 1, 40, 1e-2), None, 1e-4, 10.0),
    Flow(Case("perm", 1, 40, 1e-2), None, 1e-3, 8.0),
    Flow(Case("perm", 0, 40, 2e-2), 1e-2, 1e-4, 4.0),
    # A mode that decays at a point that is unstable along others.
    Flow(Case("trans", 0, 100), 1.0, 1e-4, 4.0),
    # Small pushes: E is nearly flat along some directions here, and the square of the deviation moves A along them.
    Flow(Case("trans", 0, 100), None, 1e-5, LINEAR_FOLDS),
    Flow(Case("rot", 0, 40), 1e-2, 1e-4, 4.0),
    Flow(Case("rot", 1, 40), None, 1e-6, LINEAR_FOLDS),
)
MODES = (Case("counterexample"), Case("perm", 1, 40, 1e-2), Case("trans", 0, 100))
# Digits at a larger decay too: on digits L-BFGS does not arrive in the iterations it is given, only comes near.
ENDS = (Case("counterexample"), Case("perm", 1, 40, 1e-2), Case("trans", 0, 100, 1e-2))
# How an end is looked for: along one partner, along a random mixture, along one partner and keeping its stabiliser.
WAYS = ("one partner", "mixture", "keeping the symmetry")
DISCRETE = (Case("trans", 0, 100), Case("perm", 0, 40, 2e-2))
