"""What every stage of a run is given, and the record to which it adds what it found."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from stability.base.cluster import Pool
from stability.base.limits import Limits
from stability.base.storage import Checkpoint
from stability.curvature.at import At
from stability.problem.problem import Problem
from stability.results import Analysis
from stability.run.settings import Settings
from stability.tasks.recipe import Source

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Outcome:
    """An analysis with the tensors that JSON does not hold.

    Attributes:
        analysis: the numbers.
        theta: coordinates of the point on E.
        directions: leading modes, and where an escape ended.
        held: what the risk depends on beside the weights (running statistics), as it was at this point.
    """

    analysis: Analysis
    theta: Tensor | None = field(default=None, repr=False)
    directions: dict[str, Tensor] = field(default_factory=dict, repr=False)
    held: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return str(self.analysis)

    def __repr__(self) -> str:
        return f"<Outcome: {self.analysis!r}>"

    def _repr_html_(self) -> str:
        return self.analysis._repr_html_()

    def to_frame(self) -> pd.DataFrame:
        """The eigenvalues of :meth:`Analysis.to_frame`."""
        return self.analysis.to_frame()

    def to_json(self) -> str:
        """The analysis, as in spectrum.json."""
        return self.analysis.to_json()


class Interrupted(KeyboardInterrupt):
    """Ctrl-C: the partial outcome is kept."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


class Ledger:
    """The outcome so far, handed on after every stage: the one thing that changes during a run.

    Attributes:
        outcome: what is known; always a valid partial result.
        hvps: nominal Hessian-vector products taken.
    """

    def __init__(self, outcome: Outcome, on_stage: Callable[[Outcome], None] = lambda outcome: None) -> None:
        self.outcome, self.on_stage = outcome, on_stage
        self.started, self.hvps = time.perf_counter(), 0

    @property
    def analysis(self) -> Analysis:
        """The numbers so far."""
        return self.outcome.analysis

    def keep(self, **changes: Any) -> None:
        """Enter fields of the analysis, with what it has cost."""
        usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        cost: dict[str, float | None] = {
            "hvps": self.hvps,
            "seconds": time.perf_counter() - self.started,
            "peak_memory_mb": usage,
        }
        self.outcome.analysis = replace(self.outcome.analysis, cost=cost, **changes)
        self.on_stage(self.outcome)

    def fact(self, name: str, words: str) -> None:
        """Enter a fact of the first screen."""
        self.keep(facts={**self.analysis.facts, name: words})


@dataclass(frozen=True)
class Workers:
    """Other processes that search points and solve sectors.

    Attributes:
        pool: of them.
        source: how they get the problem: a recipe, or the problem itself.
        handle: the source as the pool holds it.
    """

    pool: Pool
    source: Source
    handle: object


@dataclass(frozen=True)
class Given:
    """What every stage is given; nothing of it changes but what the ledger holds.

    Attributes:
        problem: the risk.
        settings: how to run.
        ledger: where findings go.
        checkpoint: where tensors go.
        workers: other processes; None where all is done here.
    """

    problem: Problem
    settings: Settings
    ledger: Ledger
    checkpoint: Checkpoint
    workers: Workers | None = None

    @property
    def limits(self) -> Limits:
        """Those of the settings."""
        return self.settings.limits

    @property
    def like(self) -> Tensor:
        """The inputs, whose dtype and device all tensors share."""
        return self.problem.samples.x

    def at(self, theta: Tensor) -> At:
        """The problem at a point of E."""
        return At(self.problem, theta, self.limits, self.settings.memory_gb)
