"""analyses.propositions: errors are rounding where a statement holds, and a false one is caught."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from brute import augmented_risk, gradient
from problems import classification, point_of_e, regression

from analyses.lab import cases
from analyses.lab import command as lab_command
from analyses.lab import ground as lab_ground
from analyses.paper.propositions import __main__ as command
from analyses.paper.propositions import measures, statements, strict
from analyses.paper.propositions import place as propositions_place
from stability.problem.space import ParameterSpace

BY_KEY = {s.key: s for s in statements.STATEMENTS}


@pytest.mark.parametrize(
    ("make", "name"),
    [(classification, "D_4"), (classification, "Q_8"), (regression, "C_5"), (regression, "S_3 on pairs")],
)
def test_every_statement_holds_where_it_should_and_every_control_fails(make, name):
    problem = make(name)
    for kind, at in statements.points(problem, 1):
        errors = statements.measure(propositions_place.Place(problem, at, 1), kind)
        for key, error in errors.items():
            if kind in BY_KEY[key].holds:
                assert error < 1e-10, (key, kind)
            elif kind in BY_KEY[key].fails:
                assert error > 1e-3, (key, kind)


def test_gradients_at_a_place_are_those_of_the_definitions():
    problem = classification("D_4", weight_decay=1e-2)
    at = point_of_e(problem) + 0.1
    place = propositions_place.Place(problem, at, 0)
    assert torch.allclose(place.augmented, gradient(lambda a: augmented_risk(problem, a), at), atol=1e-12)
    pushed = place.space.equivariant_part(at)
    expected = place.space.equivariant_part(gradient(problem.risk, pushed))
    assert torch.allclose(place.equivariant, expected, atol=1e-12)


def test_an_augmentation_that_misses_elements_breaks_lemma_4_and_propositions_1_and_2():
    problem = classification("D_4")
    element = list(problem.group.elements())[1]
    biased = dataclasses.replace(problem, transform=lambda g, s: problem.transform(element, s))
    at = point_of_e(problem)
    for key in ("prop1", "prop2"):
        assert BY_KEY[key].measure(propositions_place.Place(biased, at, 0)) > 1e-3
    off = at + 0.1 * torch.randn(len(at), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert BY_KEY["lemma4"].measure(propositions_place.Place(biased, off, 0)) > 1e-4


def test_a_space_with_too_small_an_e_is_caught_by_counting_characters():
    problem = classification("C_5")
    zero = torch.zeros(problem.space.dim, dtype=torch.float64)
    assert measures.lemma1_dimension(propositions_place.Place(problem, zero, 0)) < 1e-9

    class Blind(ParameterSpace):
        dim_equivariant = property(lambda self: sum(self.sizes) - 1)

    blind = dataclasses.replace(problem, space=Blind(problem.space.layers))
    assert measures.lemma1_dimension(propositions_place.Place(blind, zero, 0)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("task", "i", "ii", "converse_i", "converse_ii"),
    [
        ("counterexample", "vacuous", "vacuous", "vacuous", "fails"),
        ("counterexample-twin", "holds", "holds", "holds", "holds"),
        ("counterexample-nominal", "vacuous", "holds", "fails", "holds"),
    ],
)
def test_proposition_3_is_judged_as_known_by_hand(task, i, ii, converse_i, converse_ii):
    found = strict.proposition3(cases.Case(task).ground())
    assert (found["i"], found["ii"], found["converse_i"], found["converse_ii"]) == (i, ii, converse_i, converse_ii)
    assert found["method"] == "dense"
    assert found["chain"] < 1e-12


def test_where_the_nominal_gradient_does_not_vanish_proposition_3_i_has_no_premise_and_the_chain_holds():
    problem = classification("D_4")
    ground = lab_ground.resolve(problem, problem.initial(3), 1e-9)
    found = strict.proposition3(ground)
    assert found["i"] == "vacuous"
    assert found["nominal_gradient"] > 1e-3
    hessian = torch.func.hessian(problem.risk)(ground.at)
    least = float(torch.linalg.eigvalsh(hessian)[0])
    assert least - 1e-9 <= found["lambda_min"]["nominal"] <= found["lambda_min"]["aug"]


def test_the_command_reports_what_is_not_as_expected(tmp_path):
    arguments = ["--tasks", "counterexample", "counterexample-twin", "--seeds", "1", "--out", str(tmp_path)]
    command.main(arguments)
    stored = json.loads((tmp_path / "propositions.json").read_text())
    assert "Nothing came out other than expected" in stored["section"]["measured"]
    assert {r["kind"] for r in stored["rows"]} == set(statements.KINDS)
    stored["rows"][0]["errors"]["prop1"] = 0.3
    (tmp_path / "propositions.json").write_text(json.dumps(stored))
    command.main(arguments)
    said = json.loads((tmp_path / "propositions.json").read_text())["section"]
    assert "Proposition 1" in said["measured"].split("Not as expected")[1]
    assert lab_command.command(command.main, [*arguments[:-3], "0", "--out", str(tmp_path)]) == 2
