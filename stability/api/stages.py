"""The stages of an analysis, each usable alone: what ``import stability`` offers.

A point may be given as it is at hand: coordinates θ on E (dim E), weights A (dim L), a ``state_dict`` or dict of
tensors, a module, the path of a checkpoint, a :class:`StationaryPoint`, or the outcome of an earlier analysis. Weights
off E are judged at their projection wherever E or E⊥ is asked for, and as they are where all of L is.

>>> import stability
>>> from stability.tasks import TaskOptions, load
>>> problem = load("counterexample", TaskOptions())
>>> point = stability.find_points(problem, starts=1)[0]
>>> print(stability.spectrum(problem, point))
1 dimensions, from -1 (± 0.0e+00) to -1 (± 0.0e+00), 1 below zero; 1 sectors, dense
>>> stability.hessian(problem, point, "nominal", "L").matrix().tolist()
[[1.0, 2.0], [2.0, 1.0]]
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stability import report as reports
from stability.base import doors
from stability.base.checkpoints import selected
from stability.base.errors import BadInput
from stability.base.states import Inert, matching, module_state
from stability.base.storage import prepare_folder
from stability.curvature.at import At
from stability.curvature.automatic import (
    augmented_hessian_from_data,
    augmented_hessian_from_group,
    compress,
    nominal_hessian,
    transverse,
)
from stability.curvature.pooled import checked_on_e
from stability.eigen.operator import Operator
from stability.eigen.spectrum import Solution, Spectrum
from stability.groups import Representation
from stability.networks import kinks
from stability.networks.classifier import Classifier
from stability.networks.gathering import Data, gather
from stability.networks.network import MLP
from stability.networks.supervised import supervised
from stability.points.describe import ON_E, as_given
from stability.points.stationary import StationaryPoint, describe_point
from stability.points.stationary import find_points as search
from stability.problem.assumptions import check_assumptions
from stability.problem.held import all_names, held_tensors, holding, untied
from stability.problem.problem import Problem, some_equivariant
from stability.problem.space import Samples
from stability.problem.tensors import Tensors, pack, shape_of, unpack
from stability.results import Analysis, Verdicts
from stability.run import checks, resolve, solve
from stability.run.analysis import analyse as run
from stability.run.analysis import prepared
from stability.run.errors import Errors
from stability.run.given import Given, Outcome
from stability.run.resolve import Resolved
from stability.run.settings import Settings
from stability.run.spectra import curved, kink_at
from stability.spectra import sectors as blocks
from stability.spectra.sectors import Sector
from stability.verdicts.verdict import on_kink

RISKS, SPACES = ("nominal", "eqv", "aug"), ("L", "E", "E_perp")
Point = Tensor | Mapping[str, Tensor] | nn.Module | str | Path | StationaryPoint | Outcome | None


def from_network(
    network: MLP,
    loss: Callable[[Tensor, Tensor], Tensor],
    data: Data,
    *,
    target: Representation | None = None,
    test: Data | None = None,
    weight_decay: float = 0.0,
    decides: bool = True,
    dtype: torch.dtype = torch.float64,
    name: str = "network",
    facts: Sequence[tuple[str, str]] = (),
) -> Problem:
    """The problem of training a network made by :func:`stability.mlp`.

    Args:
        network: Φ.
        loss: (predictions (n, dim Y), targets) ↦ (n): cross_entropy, logistic, squared, or your own.
        data: a pair (x, y), a data loader, a dataset or :class:`Samples`; inputs are flattened.
        target: how targets move; None for labels that do not.
        test: data to score on.
        weight_decay: μ in μ/2‖A‖².
        decides: whether predictions are logits of decisions, whose accuracy is the score.
        dtype: of the computation.
        name: what reports print.
        facts: lines of a report's first screen.

    Raises:
        BadInput: data that do not fit the network or the loss.
    """

    doors.kind("network", network, MLP, "give one made by stability.mlp")
    doors.call("loss", loss, "give stability.cross_entropy, logistic, squared or a function of (predictions, targets)")
    doors.number("weight_decay", weight_decay)
    doors.computing(dtype)
    facts = doors.facts(facts)

    def flat(part: Data) -> Samples:
        x, y, weight = gather(part, dtype)
        return Samples(x.reshape(len(x), -1), y, weight)

    held_out = None if test is None else flat(test)
    model = Classifier(network, loss, target, doors.flag("decides", decides))
    return supervised(doors.text("name", name), model, flat(data), held_out, float(weight_decay), facts)


def state_of(module: nn.Module) -> Tensors:
    """Parameters and buffers, tied ones under all their names."""
    return module_state(module)


def fitted(problem: Problem, point: Point) -> tuple[Problem, Point]:
    """The problem with the buffers that a point brings along, and its weights.

    Raises:
        BadInput: weights without the buffers that the network depends on, or of a tied tensor two that differ.
    """
    _problem(problem)
    if isinstance(point, str | os.PathLike):
        point = selected(point)
    if isinstance(point, nn.Module):
        point = state_of(point)
    if isinstance(point, Outcome | StationaryPoint):
        return holding(problem, point.held), point
    if not isinstance(point, Mapping | Inert):
        return problem, point
    layers = {layer.name: shape_of(layer) for layer in problem.space.layers}
    held = {name: tuple(value.shape) for name, value in held_tensors(problem).items()}
    state = untied(problem, matching(point, held | layers))
    here = holding(problem, state, complete=True)
    if "theta" in state and "theta" not in layers:  # coordinates, as large points are stored
        return here, doors.dense(f"{problem.name}: theta", state["theta"])
    return here, state


def locate(problem: Problem, point: Point) -> tuple[Tensor, Tensor, float]:
    """θ of a point's projection onto E, its weights A as given (dim L), and ‖A − Π_E A‖.

    What the point holds beside its weights is :func:`fitted`'s business.

    Raises:
        BadInput: weights that do not fit the problem; the message names the tensor.
    """
    some_equivariant(problem)
    space, like = problem.space, problem.samples.x
    if point is None:
        point = find_points(problem)[0]
    if isinstance(point, Outcome | StationaryPoint):
        if point.theta is None:
            raise BadInput(f"{problem.name}: the outcome holds no point; was it interrupted?")
        point = point.theta
    if isinstance(point, str | os.PathLike | nn.Module | Mapping):
        point = fitted(problem, point)[1]
    if isinstance(point, Mapping):
        point = pack(space, point, problem.name)
    if not isinstance(point, Tensor | np.ndarray) or tuple(point.shape) not in (
        (space.dim_equivariant,),
        (space.dim,),
    ):
        what = tuple(point.shape) if isinstance(point, Tensor | np.ndarray) else type(point).__name__
        raise BadInput(
            f"{problem.name}: a point of {what}; give coordinates on E ({space.dim_equivariant},), weights "
            f"({space.dim},), a state_dict, a module or the path of a checkpoint"
        )
    label = f"{problem.name}: the point"
    point = doors.finite(label, doors.exact(label, doors.dense(label, point), like.dtype), "repair it").to(like)
    if point.shape == (space.dim_equivariant,):
        return point, space.embed(point), 0.0
    theta = space.project(point)
    return theta, point, float((point - space.embed(theta)).norm())


def weights(problem: Problem, point: Point) -> Tensors:
    """A point as tensors by name, with all that the network depends on: what ``load_state_dict`` takes.

    In the shapes of the module, dict or network they belong to; beside the weights come buffers and parameters held
    fixed, and tied tensors under all their names.
    """
    problem, point = fitted(problem, point)
    return _named(problem, locate(problem, point)[1])


def project(problem: Problem, point: Point) -> Tensors:
    """The nearest point of E as tensors by name: load it into a module to make that module equivariant.

    With :func:`weights`' buffers, running statistics projected onto their invariant part.
    """
    problem, point = fitted(problem, point)
    return _named(problem, problem.space.embed(locate(problem, point)[0]))


def _named(problem: Problem, at: Tensor) -> Tensors:
    every = all_names(problem, unpack(problem.space, at) | held_tensors(problem))
    return {k: v.detach().clone() for k, v in every.items()}


def check(problem: Problem, seed: int = 0) -> dict[str, float]:
    """The measured violation of every assumption.

    Raises:
        BadInput: one that fails; the message names the layer or space, the generator and the violation.
    """
    return check_assumptions(_problem(problem), doors.seed(seed))


def find_points(
    problem: Problem, starts: int = 2, seed: int = 0, *, tolerance: float | None = None, saddles: int = 0
) -> list[StationaryPoint]:
    """Distinct equivariant stationary points, ∇R^eqv = 0, lowest risk first.

    Args:
        problem: the risk.
        starts: seeded starts to minimise from; of a module or a dict of tensors, seed 0 is its own weights.
        seed: the first of them.
        tolerance: bound on ‖∇R^eqv‖; by default 1e-9 of that at the first start.
        saddles: starts searched for saddles too, for dim E ≤ 400.

    Raises:
        BadInput: an assumption fails.
    """
    starts, saddles = doors.whole("starts", starts, 1), doors.whole("saddles", saddles, 0)
    tolerance = None if tolerance is None else doors.number("tolerance", tolerance, above=True)
    check(problem, seed)
    return search(problem, starts, int(seed), tolerance, saddles)


def _problem(value: object) -> Problem:
    return doors.kind("problem", value, Problem, "give one made by from_module, from_risk or from_network")


def _choice(what: str, value: object, known: Sequence[str]) -> None:
    doors.choice(what, value, known)


def hessian(problem: Problem, point: Point = None, risk: str = "aug", space: str = "E_perp") -> Operator:
    """The Hessian of a risk on a space, as an operator: call it, take its ``matrix()`` or ``linear_operator()``.

    ==========  =========================================================================================
    ``risk``    "nominal" ∇²R, "eqv" ∇²R^eqv, "aug" ∇²R^aug
    ``space``   "L" (dim L), at the weights given; "E" in coordinates (dim E), at their projection;
                "E_perp" as (I − Π_E)H(I − Π_E) on L, at their projection; or the name of an irrep: the block
                B_λ of R^aug in coordinates of the sector
    ==========  =========================================================================================

    Raises:
        BadInput: an unknown risk or space; R^aug at a point off E without an action on the data; an assumption that
            fails, except for ∇²R, which rests on none.
    """
    _choice("risk", risk, RISKS)
    problem, point = fitted(problem, point)
    if risk != "nominal":
        check_assumptions(problem, 0)
    theta, at, distance = locate(problem, point)
    on_e = problem.space.embed(theta)
    if space not in SPACES:
        known = {irrep.name: irrep for irrep, _ in blocks.occurring(problem.space)}
        _choice("space", space, (*SPACES, *known))
        if risk != "aug":
            raise BadInput(f"space {space!r} is a sector of R^aug; give risk='aug'")
        block = At(problem, theta).block(known[space])
        if problem.written:  # an automatic one checks itself
            blocks.compare(problem, theta, known[space], block, 0)
        return block
    if risk == "eqv" and space != "E":
        raise BadInput(f"R^eqv is a risk on E; give space='E', not {space!r}")
    if space == "E":
        if risk == "nominal":
            return compress(nominal_hessian(problem, on_e), problem.space)
        return checked_on_e(problem, theta)
    if space == "E_perp":
        nominal = nominal_hessian(problem, on_e)
        whole = nominal if risk == "nominal" else augmented_hessian_from_group(problem, nominal)
        return transverse(whole, problem.space)
    if risk == "nominal":
        return nominal_hessian(problem, at)
    if distance > ON_E * float(at.norm()):
        if problem.transform is None:
            raise BadInput(f"{problem.name}: ∇²R^aug off E needs an action on the data; give Problem(transform=…)")
        return augmented_hessian_from_data(problem, at)
    return augmented_hessian_from_group(problem, nominal_hessian(problem, on_e))


def _prepared(problem: Problem, theta: Tensor, settings: Settings) -> tuple[Given, At]:
    """A run at a point, ready for single stages, and the problem there."""
    given = prepared(problem, replace(settings, at=theta))
    checks.enough_memory(problem, settings.memory_gb)
    checks.assumptions(given)
    return given, given.at(theta)


def sectors(
    problem: Problem, point: Point = None, names: str = "all", *, eigenvalues: int = 10, memory_gb: float = 16.0
) -> tuple[Sector, ...]:
    """The blocks B_λ of ∇²R^aug at a point of E, one for every irreducible representation of G that occurs in L.

    Args:
        problem: the risk.
        point: where; projected onto E.
        names: "all", or names of irreps separated by commas.
        eigenvalues: distinct eigenvalues at each end.
        memory_gb: what the computation may use.

    Raises:
        BadInput: an unknown irrep, a group whose irreps are out of reach, or an assumption that fails.
    """
    problem, point = fitted(problem, point)
    settings = Settings(sectors=names, eigenvalues=eigenvalues, memory_gb=memory_gb)
    return judged_sectors(problem, locate(problem, point)[0], settings)[0]


def judged_sectors(problem: Problem, theta: Tensor, settings: Settings) -> tuple[tuple[Sector, ...], str]:
    """The blocks at a point of E, and why their signs are withheld where it lies on a kink, as verdicts are."""
    given, at = _prepared(problem, theta, settings)
    eqv, resolved = _resolved(given, at)
    found = given.ledger.analysis.sectors
    if at.dense is None:
        return found, ""
    kink = kink_at(at, at.dense, eqv, resolved, given.limits.probed, settings.seed)
    margin = problem.kink_margin(at.dense.weights) if problem.kink_margin else None
    doubt = on_kink(margin) or (kinks.said(kink) if kink else "")
    return (tuple(replace(sector, sign="undecided") for sector in found) if doubt else found), doubt


def _resolved(given: Given, at: At) -> tuple[Solution, Resolved]:
    """The spectrum of R^eqv on E, and R^aug sector by sector.

    Raises:
        BadInput: a group whose irreps are out of reach.
    """
    irreps = resolve.irreps_of(given, large=at.dense is None)
    if irreps is None:
        raise BadInput(f"{at.problem.name}: {given.ledger.analysis.facts['sectors']}")
    eqv = solve.solved(given, checked_on_e(at.problem, at.theta), "eqv-E")
    return eqv, resolve.resolved(given, at, irreps, eqv, 0.0, Errors(given.like.dtype, _violated(given)))


def _violated(given: Given) -> float:
    return max((given.ledger.analysis.assumptions or {}).values(), default=0.0)


def spectrum(
    problem: Problem,
    point: Point = None,
    risk: str = "aug",
    space: str = "E_perp",
    *,
    eigenvalues: int = 10,
    memory_gb: float = 16.0,
) -> Spectrum:
    """The spectrum of a Hessian: dense where it fits, Lanczos beyond, R^aug on E⊥ and L sector by sector.

    Args:
        problem: the risk.
        point: where; on L at the weights given, else at their projection onto E.
        risk: "aug", "eqv" or "nominal".
        space: "E_perp", "E", "L", or the name of an irrep.
        eigenvalues: distinct eigenvalues at each end.
        memory_gb: what the computation may use.

    Raises:
        BadInput: an unknown risk or space, or an assumption that fails.
    """
    _choice("risk", risk, RISKS)
    problem, point = fitted(problem, point)
    theta, at, distance = locate(problem, point)
    settings = Settings(eigenvalues=eigenvalues, memory_gb=memory_gb)
    given, here = _prepared(problem, theta, settings)
    total = problem.space.dim
    off = distance > ON_E * float(at.norm())
    if risk == "aug" and (space == "E_perp" or (space == "L" and not off)):
        parts = _augmented_parts(given, here)
        chosen = parts if space == "L" else parts[1:]
        return blocks.union(chosen, total if space == "L" else total - problem.space.dim_equivariant, eigenvalues)
    operator = hessian(problem, theta if space != "L" else at, risk, space)
    if space == "E_perp":  # of R: Π_E adds zeros on E, which are no eigenvalues of the block
        keep = problem.space.transverse_part
        count = total - problem.space.dim_equivariant
        return solve.ends(given, operator, operator, count, "nominal-E_perp", keep).spectrum
    return solve.solved(given, operator, f"{risk}-{space}").spectrum


def _augmented_parts(given: Given, at: At) -> list[Spectrum]:
    """Spectra of R^aug, the first on E, that together are that on L: sector by sector, or by averaging over G."""
    try:
        return _resolved(given, at)[1].wholes
    except BadInput:
        if at.dense is None or at.problem.space.dim > given.limits.dense:
            raise
    given, at = _prepared(at.problem, at.theta, replace(given.settings, sectors="none"))
    found = curved(given, at, describe_point(at.problem, at.theta, "file", 0.0)).spectra
    return [found.aug_e.spectrum, found.across.spectrum]


def analyse(
    problem: Problem, point: Point | Settings = None, settings: Settings | None = None, **options: Any
) -> Outcome:
    """The whole chain: points, spectra, sectors, identities, verdicts.

    Args:
        problem: the risk.
        point: judged as it is, projected onto E, its distance to E reported; None searches stationary points.
        settings: how to run; see :class:`Settings`.
        **options: single settings by name, as in ``analyse(problem, points=5, seed=1)``.

    Returns:
        the analysis with the tensors that JSON does not hold; print it, or hand it to :func:`stability.report`.

    Raises:
        BadInput: an assumption fails, or the problem does not fit the memory.
    """
    if isinstance(point, Settings):
        point, settings = None, point
    if settings is not None and not isinstance(settings, Settings):
        raise BadInput(f"settings: {doors.shown(settings)}; give stability.Settings(…)")
    _problem(problem)
    passed = {k: options.pop(k) for k in ("header", "checkpoint", "on_stage", "pool", "recipe") if k in options}
    unknown = [k for k in options if k not in Settings.__dataclass_fields__]
    if unknown:
        raise BadInput(
            f"analyse: there is no setting {unknown[0]!r}; choose from {', '.join(Settings.__dataclass_fields__)}"
        )
    settings = replace(settings or Settings(), **options)
    if point is not None:
        problem, point = fitted(problem, point)
        theta, at, distance = locate(problem, point)
        settings = replace(
            settings, at=theta, distance_to_e=distance, given=as_given(problem, at, settings.seed) if distance else None
        )
    return run(problem, settings, **passed)


def _analysis(of: object) -> Analysis:
    found = of.analysis if isinstance(of, Outcome) else of
    return doors.kind("what is judged", found, Analysis, "give a problem, or what analyse returned")


def verdict(of: Problem | Outcome | Analysis, point: Point = None, **options: Any) -> Verdicts:
    """The four verdicts at a point, with margins and evidence; of an analysis made before, those it holds.

    Raises:
        BadInput: as :func:`analyse`; an analysis that was interrupted before its verdict.
    """
    if isinstance(of, Problem):
        of = analyse(of, point, **({"escape_iterations": 0} | options))
    found = _analysis(of).verdict
    if found is None:
        raise BadInput("the analysis holds no verdict: it was interrupted before; run it to the end")
    return found


def report(
    of: Problem | Outcome | Analysis, folder: str | Path = "report", point: Point = None, **options: Any
) -> Path:
    """Write report.html and its figures into a folder and return the page's path.

    Raises:
        BadInput: a folder that cannot be written; as :func:`analyse`.
    """
    doors.kind("folder", folder, str | os.PathLike, "give the path of a folder")
    if not isinstance(of, Problem):
        _analysis(of)
    target = prepare_folder(Path(folder))
    if isinstance(of, Problem):
        of = analyse(of, point, **{"pictures": True, **options})
    found = _analysis(of)
    reports.render(found, target)
    return target / "report.html"
