"""How an analysis is run; what is analysed is the problem's business."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from stability.base import doors
from stability.base.cluster import digest
from stability.base.limits import Limits
from stability.points.describe import AsGiven

# What does not change what is computed, or is told to the checkpoint otherwise.
ELSEWHERE = ("at", "given", "memory_gb", "shards", "pictures", "limits")


@dataclass(frozen=True)
class Settings:
    """How an analysis is run; what is analysed is the problem's business.

    Attributes:
        seed: of starts and probes.
        at: "point", "init", "trained", or a tensor θ.
        points: starts of the search.
        saddles: starts searched for saddles too.
        search_minutes: longest search from one start where E is too large for a dense Hessian.
        eigenvalues: distinct eigenvalues reported at each end.
        memory_gb: what the run may use.
        escape_iterations: L-BFGS steps of exact augmented descent from an unstable point; 0 leaves it out.
        distance_to_e: of the point before it was projected onto E.
        given: what was measured there; reports show it beside the projection.
        epochs: of EQUI training before the point, for ``at="trained"``.
        trained_step: of that training; by default half the critical step at the start.
        shards: of the samples, over which products of large sectors are spread, one sector after another; 1 spreads
            whole sectors.
        sectors: "all", "none", or names of irreps; see :func:`stability.spectra.sectors.chosen`.
        pictures: also what only a report's figures need, see :mod:`stability.effects.pictures`.
        limits: up to which size a run is dense, and how long it may take.
    """

    seed: int = 0
    at: str | Tensor = "point"
    points: int = 2
    saddles: int = 0
    search_minutes: float = 60.0
    eigenvalues: int = 10
    memory_gb: float = 16.0
    escape_iterations: int = 300
    distance_to_e: float = 0.0
    given: AsGiven | None = None
    epochs: int = 50
    trained_step: float | None = None
    shards: int = 1
    sectors: str = "all"
    pictures: bool = False
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        """Raise BadInput for a value that no run could use."""
        doors.seed(self.seed)
        for name in ("points", "eigenvalues", "shards"):
            doors.whole(name, getattr(self, name), 1)
        for name in ("saddles", "escape_iterations", "epochs"):
            doors.whole(name, getattr(self, name), 0)
        for name in ("search_minutes", "memory_gb"):
            doors.number(name, getattr(self, name), above=True)
        doors.number("distance_to_e", self.distance_to_e)
        if self.given is not None:
            doors.kind("given", self.given, AsGiven, "leave it out; analyse(problem, weights) measures it")
        if self.trained_step is not None:
            doors.number("trained_step", self.trained_step, above=True)
        doors.irreps("sectors", self.sectors)
        doors.flag("pictures", self.pictures)
        doors.kind("limits", self.limits, Limits, "give stability.Limits(…)")
        if not isinstance(self.at, Tensor):
            doors.choice("at", self.at, ("point", "init", "trained"))

    def identity(self) -> dict[str, object]:
        """What tensors that are kept depend on; a point is given by its digest."""
        at = self.at if isinstance(self.at, str) else f"a point of digest {digest(self.at)}"
        return {"at": at, "limits": dataclasses.asdict(self.limits)} | {
            k: v for k, v in vars(self).items() if k not in ELSEWHERE
        }


def output_folder(task: str, size: str, seed: int) -> Path:
    """Where a run writes by default; two factories of one file have folders of their own.

    >>> output_folder("trans", "small", 0).name, output_folder("nets/mine.py:ring", "custom", 3).name
    ('trans-small-seed0', 'mine-ring-custom-seed3')
    """
    file, _, factory = task.partition(":")
    name = "-".join(part for part in (Path(file).stem, factory) if part)
    return Path("reports") / f"{name}-{size}-seed{seed}"
