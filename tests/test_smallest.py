"""The smallest problems: one weight, one sample, E = L, E = {0}, no data, no curvature: right, or one true line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import stability
from stability.api.trajectory import Snapshot
from stability.base.errors import BadInput
from stability.groups import (
    Cyclic,
    PermutationRepresentation,
    Representation,
    Trivial,
    defining,
    from_generators,
    quaternion_group,
    regular,
    trivial,
)
from stability.layers import Layer
from stability.networks.classifier import Classifier
from stability.networks.losses import cross_entropy, squared
from stability.networks.network import mlp
from stability.networks.nonlinearities import Identity, Pointwise
from stability.networks.supervised import supervised
from stability.problem.problem import Problem
from stability.problem.space import ParameterSpace, Samples
from stability.report import screen, words
from stability.report.__main__ import main as render_again
from stability.report.many.compare import write_comparison
from stability.report.tables import table
from stability.run.given import Outcome
from stability.spectrum import command
from stability.verdicts import identities
from stability.verdicts.verdict import STATUSES
from tests.brute import bad, gaussian

C2, Q8 = Cyclic(2), quaternion_group()
SWAP, ONE, NOTHING = regular(C2), trivial(C2), trivial(Trivial())
SIGN = from_generators(C2, [np.array([[-1.0]])], "sign")


def numbers(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def network(spaces: list[Representation], y: torch.Tensor, x: torch.Tensor, decay: float = 0.1, hidden: str = "tanh"):
    sigmas = [Pointwise(hidden)] * (len(spaces) - 2) + [Identity()]
    return stability.from_network(mlp(spaces, sigmas), squared, (x, y), target=spaces[-1], weight_decay=decay)


def on_one(risk: Callable, *start: float, rep: Representation | None = None, **options: object) -> Problem:
    given = torch.tensor(start, dtype=torch.float64)
    return stability.from_risk(lambda t: risk(t["a"]), {"a": given}, {"a": rep or len(start) * NOTHING}, **options)


def well(a: torch.Tensor) -> torch.Tensor:
    return (a * a - 1).square().sum() + a.sum()


def linear(module_spaces: tuple, decay: float = 0.1) -> Problem:
    torch.manual_seed(0)
    net = nn.Linear(module_spaces[0].dim, module_spaces[1].dim, bias=False).double()
    net = nn.Sequential(net)
    x, y = gaussian(3, module_spaces[0].dim, seed=1), gaussian(3, module_spaces[1].dim, seed=2)
    return stability.from_module(
        net, lambda p, t: ((p - t) ** 2).mean(-1), (x, y), {"0": module_spaces}, target=module_spaces[1],
        weight_decay=decay,
    )  # fmt: skip


# E = L: nothing moves.
STILL: dict[str, Callable[[], Problem]] = {
    "one weight": lambda: on_one(lambda a: (a - 1).square().sum() + 0.1 * a.sum(), 0.9),
    "a scalar": lambda: stability.from_risk(
        lambda t: t["a"] ** 2 + t["a"], {"a": torch.tensor(0.9, dtype=torch.float64)}, {"a": NOTHING}
    ),
    "two wells under the group of one element": lambda: on_one(well, 0.9, 1.1),
    "two weights that Z_2 leaves alone": lambda: on_one(well, 0.9, 1.1, rep=2 * ONE),
    "a network under C_1": lambda: network(
        [2 * trivial(Cyclic(1)), 2 * trivial(Cyclic(1)), trivial(Cyclic(1))],
        numbers([1.0], [0.3]), numbers([1, 0.5], [-1, 2]),
    ),
    "a module under Z_2 that moves nothing": lambda: linear((2 * ONE, 1 * ONE)),
    "signs at both ends": lambda: network([SIGN, SIGN], numbers([1.0], [0.3]), numbers([1.0], [2.0])),
}  # fmt: skip

# E ≠ L, as small as can be.
SMALL: dict[str, Callable[[], Problem]] = {
    "one sample": lambda: network([SWAP, SWAP], numbers([1.0, 0.0]), numbers([1.0, 2.0])),
    "one sample, interpolated": lambda: network([SWAP, SWAP], numbers([1.0, 0.0]), numbers([1.0, 2.0]), 0.0),
    "a sample without weight": lambda: supervised(
        "zero weight", Classifier(mlp([SWAP, SWAP], [Identity()]), squared, SWAP, False),
        Samples(numbers([1, 2], [3, 4]), numbers([1, 0], [1, 1]), torch.tensor([0.0, 1.0], dtype=torch.float64)),
        weight_decay=0.1,
    ),
    "an input that is zero": lambda: network([SWAP, SWAP], numbers([1.0, 0.0]), numbers([0.0, 0.0]), 0.0),
    "a linear risk with decay": lambda: on_one(lambda a: a.sum(), 0.9, 0.8, rep=SWAP, weight_decay=0.5),
    "a linear risk across E": lambda: on_one(lambda a: a[0] - a[1], 0.9, 0.8, rep=SWAP),
    "a linear risk": lambda: on_one(lambda a: a.sum(), 0.9, 0.8, rep=SWAP),
    "a risk that is zero": lambda: on_one(lambda a: 0.0 * a.sum(), 0.9, 0.8, rep=SWAP),
    "a concave risk": lambda: on_one(lambda a: -a.square().sum(), 0.9, 0.8, rep=SWAP),
    "quaternions alone off E": lambda: stability.from_risk(
        lambda t: t["v"].sum() ** 2 + (t["w"] - 1).square().sum(),
        {"v": torch.zeros(4, dtype=torch.float64), "w": torch.tensor([0.3], dtype=torch.float64)},
        {"v": defining(Q8), "w": trivial(Q8)},
    ),
    "two irreps, one weight each": lambda: stability.from_risk(
        lambda t: (t["a"] - 1).square().sum() + t["b"].square().sum(),
        {"a": torch.tensor([0.5], dtype=torch.float64), "b": torch.tensor([0.1], dtype=torch.float64)},
        {"a": ONE, "b": SIGN},
    ),
}  # fmt: skip
ALL = STILL | SMALL
# By hand: λ on E and on E⊥ where the Hessian is constant.
KNOWN = {
    "one weight": ([2.0], []),
    "one sample": ([0.6, 4.6], [0.6, 4.6]),
    "one sample, interpolated": ([0.5, 4.5], [0.5, 4.5]),
    "a sample without weight": ([0.6, 24.6], [0.6, 24.6]),
    "an input that is zero": ([0.0, 0.0], [0.0, 0.0]),
    "a linear risk with decay": ([0.5], [0.5]),
    "a linear risk across E": ([0.0], [0.0]),
    "a linear risk": ([0.0], [0.0]),
    "a risk that is zero": ([0.0], [0.0]),
    "a concave risk": ([-2.0], [-2.0]),
    "quaternions alone off E": ([2.0], [2.0] * 4),
    "two irreps, one weight each": ([2.0], [2.0]),
}


def start(problem: Problem) -> torch.Tensor:
    return problem.initial(0)


@cache
def outcome_of(name: str) -> Outcome:
    return stability.analyse(ALL[name](), pictures=name in DRAWN)


# Of those that are drawn, which takes seconds each.
DRAWN = ("one weight", "a network under C_1", "one sample", "an input that is zero", "quaternions alone off E")
# Without a minimum to search.
ENDLESS = ("a linear risk", "a concave risk")


@pytest.mark.parametrize("name", KNOWN)
def test_the_spectra_of_the_smallest_problems_are_those_found_by_hand(name):
    problem = ALL[name]()
    for space, expected in zip(("E", "E_perp"), KNOWN[name], strict=True):
        found = stability.spectrum(problem, start(problem), "aug", space)
        values = [e.value for e in found.lowest for _ in range(e.multiplicity)]
        assert values == pytest.approx(expected, abs=1e-12)
        assert found.dim == len(expected)
        assert found.negative_count == sum(v < 0 for v in expected)


@pytest.mark.parametrize("name", STILL)
def test_where_nothing_moves_E_is_vacuously_stable_and_the_report_says_so_first(name, tmp_path):
    outcome = outcome_of(name)
    found = outcome.analysis
    assert found.dims["E_perp"] == 0
    assert found.verdict.transverse.status == "stable"
    assert "E⊥ = {0}" in found.verdict.transverse.evidence
    assert found.verdict.aug.status == found.verdict.eqv.status
    assert screen.alerts(found)[0].startswith("E⊥ = {0}") and "Representations that move" in screen.alerts(found)[0]
    assert str(outcome).startswith("E⊥ = {0}")
    if name in DRAWN:
        page = stability.report(outcome, tmp_path).read_text()
        assert page.index("leaves every weight unchanged") < page.index("<h1>")


@pytest.mark.parametrize("name", [n for n in ALL if n not in ENDLESS])
def test_every_result_prints_and_round_trips(name):
    outcome = outcome_of(name)
    again = stability.Analysis.from_json(outcome.to_json())
    assert again.to_json() == outcome.to_json() and str(again) == str(outcome.analysis)
    assert all(v.status in STATUSES and v.evidence for v in outcome.analysis.verdict.named().values())
    assert not any(v.evidence.startswith((",", ";")) for v in outcome.analysis.verdict.named().values())
    assert not outcome.to_frame().empty


@pytest.mark.parametrize("name", DRAWN)
def test_the_smallest_results_are_drawn(name, tmp_path):
    outcome = outcome_of(name)
    page = stability.report(outcome, tmp_path).read_text()
    assert words.headline(outcome.analysis).split(",")[0] in page


@pytest.mark.parametrize("at", ["init", "trained"])
@pytest.mark.parametrize("name", ALL)
def test_a_start_and_a_training_are_judged(name, at, tmp_path):
    drawn = at == "trained" and name in ("a network under C_1", "a risk that is zero")
    found = stability.analyse(ALL[name](), at=at, pictures=at == "trained", epochs=5)
    assert found.analysis.verdict.transverse.status in STATUSES
    if at == "trained":
        risks = found.analysis.training.risk
        assert risks[-1] <= risks[0]
    if drawn:
        assert stability.report(found, tmp_path).is_file()


@pytest.mark.parametrize("name", ["one weight", "one sample"])
def test_looking_at_E_alone_is_drawn_too(name, tmp_path):
    found = stability.analyse(ALL[name](), at="trained", sectors="trivial", pictures=True, epochs=5, points=2)
    assert stability.report(found, tmp_path).is_file()
    wanted = "stable" if name in STILL else "undecided"
    assert found.analysis.verdict.transverse.status == wanted, found.analysis.verdict.transverse


@pytest.mark.parametrize("name", ALL)
def test_every_stage_of_the_smallest_problems_agrees_with_the_others(name):
    problem = ALL[name]()
    theta, dim = start(problem), problem.space.dim
    off = torch.full((dim,), 0.5, dtype=torch.float64)
    on_e, across = problem.space.dim_equivariant, dim - problem.space.dim_equivariant
    sectors = stability.sectors(problem, theta)
    assert sum(s.dim * s.multiplicity for s in sectors) == dim
    for risk, space, size in (
        ("aug", "E", on_e), ("aug", "E_perp", across), ("aug", "L", dim), ("eqv", "E", on_e), ("nominal", "L", dim),
        ("nominal", "E", on_e), ("nominal", "E_perp", across), ("aug", "trivial", on_e),
    ):  # fmt: skip
        if space == "trivial" and not any(s.irrep == "trivial" for s in sectors):
            continue
        found = stability.spectrum(problem, theta, risk, space)
        operator = stability.hessian(problem, theta, risk, space)
        matrix = operator.matrix()
        assert found.dim == size and str(found)
        values = np.linalg.eigvalsh(matrix.numpy())
        if found.lowest:
            assert min(abs(values - found.lowest[0].value)) < 1e-12
            assert min(abs(values - found.highest[0].value)) < 1e-12
        v = np.ones(operator.dim)
        assert np.allclose(operator.linear_operator() @ v, matrix.numpy() @ v)
    weights = stability.weights(problem, off)
    assert set(stability.project(problem, off)) == set(weights)
    diagnosis = stability.diagnose(problem, off)
    assert str(diagnosis) and (diagnosis.lowest is None) == (across == 0)
    assert ("none: E⊥ = {0}" in str(diagnosis)) == (across == 0)
    run = stability.follow(problem, [Snapshot(0, 0.0, weights), Snapshot(1, 1.0, weights)])
    assert str(run) and run.figure() and len(run.to_frame()) == 2
    assert ("E⊥ = {0}" in run.summary()) == (across == 0)


def test_a_linear_risk_has_no_point_and_a_concave_one_none_either():
    for name in ENDLESS:
        points = stability.find_points(ALL[name](), starts=1)
        assert not points[0].converged or points[0].kind != "minimum"


def fixed_only_by_zero() -> dict[str, Problem]:
    space = ParameterSpace((Layer("a", ONE, SIGN),))
    samples = Samples(numbers([0.0]), numbers([0.0]), torch.ones(1, dtype=torch.float64))
    return {
        "network": network([SIGN, 1 * ONE], numbers([0.0], [0.0]), numbers([1.0], [2.0])),
        "by hand": Problem("by hand", space, samples, lambda a, s: a @ a, initial=lambda seed: torch.zeros(0)),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["network", "by hand"])
def test_where_E_is_zero_every_stage_says_so_in_one_line_that_tells_how_to_mend_it(name):
    problem = fixed_only_by_zero()[name]
    nothing = torch.zeros(0, dtype=torch.float64)
    for stage in (
        lambda: stability.check(problem),
        lambda: stability.find_points(problem),
        lambda: stability.analyse(problem),
        lambda: stability.analyse(problem, nothing),
        lambda: stability.verdict(problem, nothing),
        lambda: stability.spectrum(problem, nothing),
        lambda: stability.sectors(problem, nothing),
        lambda: stability.hessian(problem, nothing),
        lambda: stability.project(problem, torch.ones(1, dtype=torch.float64)),
        lambda: stability.weights(problem, nothing),
        lambda: stability.diagnose(problem, nothing),
        lambda: stability.report(problem, "unused"),
    ):
        with bad(r"E = \{0\}, no weights but zero are equivariant .*trivial channel at both"):
            stage()


def test_a_trivial_channel_at_both_ends_is_the_mend_that_the_line_promises():
    mended = network([SIGN + ONE, 1 * ONE], numbers([0.0], [0.0]), numbers([1.0, 1.0], [2.0, 1.0]))
    assert stability.analyse(mended).analysis.dims == {"L": 2, "E": 1, "E_perp": 1}


def test_a_risk_without_equivariant_tensors_is_refused_when_it_is_made():
    with bad("no weights but zero are equivariant"):
        on_one(lambda a: a.square().sum(), 0.9, rep=SIGN)


@pytest.mark.parametrize(
    "risk",
    [
        lambda a: torch.tensor(3.0, dtype=torch.float64),
        lambda a: torch.zeros_like(a).sum(),
    ],
    ids=["a number", "zeros"],
)
def test_a_risk_that_loses_its_tensors_is_refused(risk):
    with bad("the risk does not depend on its tensors"):
        on_one(risk, 0.9, 0.8, rep=SWAP)


@pytest.mark.parametrize("make", [
    lambda: stability.from_risk(lambda t: 0.0, {}, {}),
    lambda: 0 * SWAP,
    lambda: network([SWAP, SWAP], torch.zeros(0, 2).double(), torch.zeros(0, 2).double()),
    lambda: mlp([SWAP, PermutationRepresentation(C2, 0, lambda g: [], "none")], [Identity()]),
    lambda: stability.from_network(mlp([SWAP, ONE], [Identity()]), cross_entropy, (numbers([1, 2]), torch.tensor([0]))),
], ids=["no tensors", "no copies", "no samples", "a space of dimension zero", "one class"])  # fmt: skip
def test_what_is_too_small_to_be_a_problem_is_refused_in_one_line(make):
    with pytest.raises(BadInput, match=r"\A[^\n]+\Z"):
        make()


FILE = """
import torch, stability
from stability.groups import Trivial, trivial

def still():
    return stability.from_risk(
        lambda t: (t["a"] * t["a"] - 1).square().sum() + t["a"].sum(),
        {"a": torch.tensor([0.9, 1.1], dtype=torch.float64)}, {"a": 2 * trivial(Trivial())}, name="still")

def empty():
    from stability.layers import Layer
    from stability.groups import Cyclic, from_generators
    from stability.problem import ParameterSpace, Problem, Samples
    one = torch.ones(1, dtype=torch.float64)
    space = ParameterSpace((Layer("a", trivial(Cyclic(2)), from_generators(Cyclic(2), [[[-1.0]]], "sign")),))
    return Problem("empty", space, Samples(one[:, None], one, one), lambda a, s: a.square().sum(),
                   initial=lambda seed: torch.zeros(0, dtype=torch.float64))
"""


def stop(*arguments: object) -> None:
    raise KeyboardInterrupt


def command_line(folder: Path, factory: str, *more: str) -> int:
    file = folder / "tiny.py"
    file.write_text(FILE)
    return command.main(["--task", f"{file}:{factory}", "--out", str(folder / factory), *more])


def test_the_command_a_resumed_run_its_report_again_and_a_gallery_take_E_perp_of_dimension_zero(
    tmp_path, capsys, monkeypatch
):
    with monkeypatch.context() as interrupted:
        interrupted.setattr(identities, "measure", stop)
        assert command_line(tmp_path, "still") == 130
    before = json.loads((tmp_path / "still" / "spectrum.json").read_text())
    assert command_line(tmp_path, "still", "--resume") == 0
    again = json.loads((tmp_path / "still" / "spectrum.json").read_text())
    assert again["spectra"]["aug"]["E"]["lowest"] == before["spectra"]["aug"]["E"]["lowest"]
    assert render_again([str(tmp_path / "still"), "--gallery", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "E⊥ = {0}" in shown and "transverse=stable" in shown
    assert (tmp_path / "still" / "report.html").is_file() and (tmp_path / "index.html").is_file()


@pytest.mark.parametrize("names", [("one weight", "a scalar"), ("one weight", "one sample")])
def test_results_without_E_perp_are_compared_with_each_other_and_with_others(names, tmp_path):
    analyses = [outcome_of(name).analysis for name in names]
    page = write_comparison([tmp_path / "a", tmp_path / "b"], analyses, tmp_path / "both.html")
    assert page.read_text().count("stable") >= 2


def test_the_command_refuses_E_of_dimension_zero_with_one_line_and_leaves_no_folder(tmp_path, capsys):
    assert command_line(tmp_path, "empty") == 2
    said = capsys.readouterr().err.strip()
    assert "E = {0}" in said and "\n" not in said
    assert not os.path.exists(tmp_path / "empty")


def test_reports_name_what_they_show_and_print_no_stored_key(tmp_path):
    """equivariant_layers, leaves and the like are keys of spectrum.json, not words."""
    found = stability.analyse(linear((SWAP, SWAP)), pictures=True)
    stability.report(found, tmp_path)
    page = (tmp_path / "report.html").read_text()
    shown = page.split("<main>")[1].split('id="paper"')[0]
    for key in (
        "equivariant_layers",
        "equivariant_nonlinearities",
        "invariant_loss",
        "E_perp<",
        "density E",
        ">leaves<",
    ):
        assert key not in shown, key
    assert table(found.analysis)
