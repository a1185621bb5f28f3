r"""A trained network as it is: how far from E, what moves it there, and what E is like beneath it.

With A the weights and Π = Π_E, on data that may be augmented or not,

    distance            ‖A − ΠA‖, layer by layer
    equivariance error  max |Φ_A(ρ_X(g)x) − ρ_Y(g)Φ_A(x)| / max |Φ_A|
    forcing             ‖(I − Π)∇R(ΠA)‖: training without augmentation leaves E at this speed; for R^aug it is zero
    growth              −λ_min of ∇²R^aug(ΠA) on E⊥: augmented training leaves E at this rate when it is positive

>>> import stability, torch
>>> from stability.tasks import TaskOptions, load
>>> problem = load("counterexample", TaskOptions())
>>> found = diagnose(problem, {"A_0": torch.tensor([[0.75], [0.25]])})
>>> round(found.distance, 6), round(found.lowest, 9), found.irrep
(0.353553, -1.0, 'q=1')
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stability.api.stages import Point, fitted, judged_sectors, locate
from stability.base import doors
from stability.base.errors import BadInput
from stability.base.limits import Limits
from stability.base.progress import stage
from stability.base.record import Record
from stability.effects.hidden import ON_E, HiddenLayer, hidden_layers, reason, still_equivariant
from stability.eigen.spectrum import Eigenvalue
from stability.points import training
from stability.points.describe import equivariance_error, scores
from stability.problem.problem import Problem
from stability.run.settings import Settings
from stability.spectra.sectors import Sector

WIDTH = 116


@dataclass(frozen=True)
class LayerDistance(Record):
    """How far one tensor is from its equivariant part.

    Attributes:
        name: of the layer or parameter.
        norm: ‖A_i‖.
        distance: ‖A_i − Π A_i‖.
        share: distance/norm, 0 for a tensor of zeros.
    """

    name: str
    norm: float
    distance: float
    share: float


@dataclass(frozen=True)
class Diagnosis(Record):
    """What :func:`diagnose` measures at weights A and at their projection ΠA.

    Attributes:
        distance: ‖A − ΠA‖.
        share: distance/‖A‖.
        layers: the same tensor by tensor.
        equivariance_error: of Φ_A, relative; None without a model.
        projected_error: of Φ_{ΠA}: rounding, if the architecture can be equivariant.
        risk: {"nominal", "aug"} at A; "aug" is None where the moved data is too large.
        projected_risk: R at ΠA, where R = R^aug.
        gradient: norms {"nominal_E", "nominal_perp", "aug_E", "aug_perp"} of the parts on E and E⊥ at A.
        forcing: ‖(I − Π)∇R(ΠA)‖.
        metrics: scores of Φ_A.
        projected_metrics: scores of Φ_{ΠA}.
        sectors: ∇²R^aug at ΠA irrep by irrep, E among them.
        lowest: the least eigenvalue on E⊥ found; None where sectors were not asked for.
        residual: of it.
        irrep: its sector.
        sign: "negative" where a sector outside E has a quotient below zero by more than its error, "positive" where all
            of them are known to be positive, else "undecided"; None where sectors were not asked for.
        doubt: why it is undecided where ΠA lies on a kink, by the rule of :func:`stability.analyse`, or why there is
            nothing to decide; else empty.
        hidden: how hidden layers move where A is off E and Φ_A is equivariant all the same.
    """

    distance: float
    share: float
    layers: tuple[LayerDistance, ...]
    equivariance_error: float | None
    projected_error: float | None
    risk: dict[str, float | None]
    projected_risk: float
    gradient: dict[str, float | None]
    forcing: float
    metrics: dict[str, Any]
    projected_metrics: dict[str, Any]
    sectors: tuple[Sector, ...] = ()
    lowest: float | None = None
    residual: float | None = None
    irrep: str | None = None
    sign: str | None = None
    doubt: str = ""
    hidden: tuple[HiddenLayer, ...] = ()

    def __str__(self) -> str:
        worst = sorted(self.layers, key=lambda layer: -layer.distance)[:3]
        lines = [
            f"distance to E   {self.distance:.4g}, {100 * self.share:.2g} % of the weights' norm",
            "  most in       " + ", ".join(f"{one.name} {one.distance:.3g}" for one in worst),
            *_beside(self._sides(), self.share > ON_E),
        ]
        names = {"nominal_E": "∇R on E", "nominal_perp": "on E⊥", "aug_E": "∇R^aug on E", "aug_perp": "on E⊥"}
        norms = [f"{names[k]} {v:.3g}" for k, v in self.gradient.items() if v is not None]
        lines.append("gradients       " + ", ".join(norms))
        lines.append(f"forcing         {self.forcing:.3g}: how fast training without augmentation leaves E there")
        if self.lowest is not None:
            what = {
                "negative": "augmented training leaves E",
                "positive": "augmented training returns to E",
            }.get(self.sign or "", "whether augmented training leaves E is undecided")
            lines.append(f"λ_min on E⊥     {self.lowest:.4g} ± {self.residual:.1e} in sector {self.irrep}: {what}")
            lines += [f"                {self.doubt}"] if self.doubt else []
        elif self.sectors:
            lines.append(f"λ_min on E⊥     none: {self.doubt or 'no sector of it was asked for'}")
        lines += textwrap.wrap(self.next, WIDTH, initial_indent=f"{'next':<16}", subsequent_indent=" " * 16)
        return "\n".join(lines)

    def _sides(self) -> list[tuple[str, str, str]]:
        """(what, as given, projected onto E) of what differs between the two networks."""
        found = []
        if self.equivariance_error is not None and self.projected_error is not None:
            found.append(("equiv. error", f"{self.equivariance_error:.3g}", f"{self.projected_error:.1e}"))
        name = self.metrics.get("name")
        for which in ("train", "test"):
            pair = self.metrics.get(which), self.projected_metrics.get(which)
            if name and name != "loss" and None not in pair:
                found.append((f"{name}, {which}", f"{pair[0]:.3g}", f"{pair[1]:.3g}"))
        for risk, value in (("R", self.risk["nominal"]), ("R^aug", self.risk["aug"])):
            found += [] if value is None else [(risk, f"{value:.6g}", f"{self.projected_risk:.6g}")]
        return found

    @property
    def equivariant(self) -> bool | None:
        """Whether Φ_A is equivariant, on E or off it; None without a model."""
        if self.equivariance_error is None:
            return None
        return self.share <= ON_E or still_equivariant(self.equivariance_error, self.share)

    @property
    def next(self) -> str:
        """What to do, in a sentence."""
        steps = []
        if self.share > ON_E and self.equivariant:
            why = reason(self.hidden, self.share)
            steps.append(f"the function is equivariant although its weights are off E{f' ({why})' if why else ''}")
        elif self.share > ON_E:
            steps.append("E is judged at the projection, another network: load stability.project(problem, weights)")
        if self.sign == "negative" and self.lowest is not None:
            steps.append(
                f"γ/2 ‖A − ΠA‖² with γ above {-self.lowest:.2g} holds E; stability.prescribe says what else would"
            )
        elif self.sign == "positive":
            steps.append("nothing has to hold E; stability.forecast says how far drawn augmentation leads from it")
        elif self.sign == "undecided" and not self.doubt:
            steps.append("stability.analyse(problem) searches a stationary point, of which more is known")
        return "; ".join(steps)


def _beside(rows: Sequence[tuple[str, str, str]], both: bool) -> list[str]:
    """Rows under their heads, the projection left out where the weights lie on E."""
    wide = max([15, *(len(row[0]) for row in rows)]) + 1
    table = [("", "as given", "projected onto E"), *rows] if both else [row[:2] for row in rows]
    return [f"{row[0]:<{wide}}{'  '.join(f'{cell:<10}' for cell in row[1:])}".rstrip() for row in table]


def diagnose(
    problem: Problem, point: Point = None, *, names: str = "all", seed: int = 0, eigenvalues: int = 3
) -> Diagnosis:
    """Equivariance error, distance to E, gradients at given weights; the spectrum of R^aug at their projection.

    Args:
        problem: the risk the network was trained on, or meant for.
        point: the weights; of a module problem None stands for the module's own.
        names: sectors to look at: "all", "none" or names of irreps.
        seed: of the group elements that equivariance is tried with.
        eigenvalues: at each end of a sector.

    Raises:
        BadInput: weights that do not fit, an assumption that fails.
    """
    doors.kind("problem", problem, Problem, "give one made by from_module, from_risk or from_network")
    doors.irreps("names", names)
    seed, eigenvalues = doors.seed(seed), doors.whole("eigenvalues", eigenvalues, 1)
    problem, point = fitted(problem, _given(problem) if point is None else point)
    theta, at, distance = locate(problem, point)
    space = problem.space
    on_e, rng = space.embed(theta), np.random.default_rng(seed)
    moved = problem.transform is not None and problem.moves * len(problem.samples.x) <= Limits().moved_samples
    nominal = training.nominal(problem)
    with stage("risks and gradients of the network as it is"):
        gradient = _parts(problem, "nominal", nominal(at, rng))
        risk: dict[str, float | None] = {"nominal": _risk(problem, at), "aug": None}
        if moved:
            gradient |= _parts(problem, "aug", training.exact_augmentation(problem)(at, rng))
            with torch.no_grad():
                risk["aug"] = float(problem.augmented_risk(at))
        else:
            gradient |= {"aug_E": None, "aug_perp": None}
    with stage("curvature by sectors at its projection"):
        blocks, doubt = _blocks(problem, theta, Settings(sectors=names, eigenvalues=eigenvalues))
    lowest, sign = _off_e(blocks)
    norm = float(at.norm())
    share = distance / norm if norm else 0.0
    error = equivariance_error(problem, theta, at, seed)
    why = share > ON_E and error is not None and still_equivariant(error, share)
    return Diagnosis(
        distance=distance,
        share=share,
        layers=layer_distances(problem, at, on_e),
        equivariance_error=error,
        projected_error=equivariance_error(problem, theta, on_e, seed),
        risk=risk,
        projected_risk=_risk(problem, on_e),
        gradient=gradient,
        forcing=float(space.transverse_part(nominal(on_e, rng)).norm()),
        metrics=scores(problem, theta, at),
        projected_metrics=scores(problem, theta, on_e),
        sectors=blocks,
        lowest=lowest.value if lowest else None,
        residual=lowest.residual if lowest else None,
        irrep=lowest.irrep if lowest else None,
        sign=sign,
        doubt=doubt,
        hidden=hidden_layers(problem, at, share) if why else (),
    )


def _blocks(problem: Problem, theta: Tensor, settings: Settings) -> tuple[tuple[Sector, ...], str]:
    """The sectors asked for, and why their signs are withheld or there are none outside E."""
    blocks, doubt = ((), "") if settings.sectors == "none" else judged_sectors(problem, theta, settings)
    if problem.space.dim == problem.space.dim_equivariant:
        doubt = "E⊥ = {0}, so nothing can break; representations that move inputs or hidden units make a question of it"
    return blocks, doubt


def _given(problem: Problem) -> Tensor:
    """The weights that a module problem was made with."""
    given = getattr(problem.model, "given", None)
    if given is None:
        raise BadInput(f"{problem.name}: give the weights to diagnose")
    return given


def _off_e(blocks: Sequence[Sector]) -> tuple[Eigenvalue | None, str | None]:
    """The least eigenvalue found outside E and the sign of all sectors there; (None, None) where none was found."""
    across = [s for s in blocks if s.irrep != "trivial"]
    lowest = min((s.lowest[0] for s in across if s.lowest), key=lambda e: e.value, default=None)
    if lowest is None:
        return None, None
    signs = {s.sign for s in across}
    return lowest, "negative" if "negative" in signs else "positive" if signs == {"positive"} else "undecided"


def _risk(problem: Problem, at: Tensor) -> float:
    with torch.no_grad():
        loss = sum(float(problem.loss(at, part)) for part in problem.samples.chunks(4096))
        return loss + float(problem.penalty(at))


def _parts(problem: Problem, name: str, gradient: Tensor) -> dict[str, float | None]:
    on_e = float(problem.space.project(gradient).norm())
    return {f"{name}_E": on_e, f"{name}_perp": float(problem.space.transverse_part(gradient).norm())}


def layer_distances(problem: Problem, at: Tensor, on_e: Tensor) -> tuple[LayerDistance, ...]:
    """‖A_i − Π A_i‖ tensor by tensor."""
    found = []
    pairs = zip(problem.space.layers, problem.space.split(at), problem.space.split(at - on_e), strict=True)
    for layer, weight, rest in pairs:
        norm, distance = float(weight.norm()), float(rest.norm())
        found.append(LayerDistance(layer.name, norm, distance, distance / norm if norm else 0.0))
    return tuple(found)
