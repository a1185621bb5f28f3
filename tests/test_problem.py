"""A risk on a space with a group action: averages by hand, coordinates, tensors by name, what is held, who it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from brute import (
    PROBLEMS,
    augmented_risk,
    bad,
    closure,
    equivariant_projection,
    gaussian,
    gradient,
    lifted,
    problem,
    risk,
)
from torch import nn

from stability import from_module
from stability.base.identity import differences
from stability.groups import Cyclic, MatrixRepresentation, Symmetric, permutation, regular, trivial
from stability.problem.assumptions import check_assumptions
from stability.problem.held import all_names, held_tensors, holding, untied
from stability.problem.identity import functions_behind, identity, probe
from stability.problem.problem import model_of, perceptron_of, single, some_equivariant
from stability.problem.space import ParameterSpace, Samples
from stability.problem.tensors import measured_representations, pack, parameter, shape_of, spread, unpack

every_problem = pytest.mark.parametrize("name", PROBLEMS)

# ----------------------------------------------------------------------------------------------- risks and spaces


@every_problem
def test_the_three_risks_are_those_by_hand(name):
    one = problem(name)
    a = gaussian(one.space.dim) / 3
    assert float(one.risk(a)) == pytest.approx(float(risk(one, a)), rel=1e-11)
    assert float(one.augmented_risk(a)) == pytest.approx(float(augmented_risk(one, a)), rel=1e-11)
    theta = one.space.project(a)
    on_e = torch.as_tensor(equivariant_projection(one.space.layers)) @ a
    assert float(one.equivariant_risk(theta)) == pytest.approx(float(risk(one, on_e)), rel=1e-11)


@every_problem
def test_merged_samples_give_the_same_risk_and_no_two_are_equal(name):
    one = problem(name)
    merged, a = one.augmented(), gaussian(one.space.dim) / 3
    assert len(merged) <= len(closure(one.group)) * len(one.samples)
    assert float(merged.weight.sum()) == pytest.approx(1)
    rows = torch.cat([merged.x, merged.y.reshape(len(merged), -1).double()], dim=1)
    assert len(torch.unique(rows, dim=0)) == len(merged)
    found = one.loss(a, merged) + one.penalty(a)
    assert float(found) == pytest.approx(float(augmented_risk(one, a)), rel=1e-11)


@every_problem
def test_the_space_acts_and_projects_as_the_dense_matrices_do(name):
    space = problem(name).space
    v = gaussian(2, space.dim)
    for g in space.group.generators:
        np.testing.assert_allclose(space.act(g, v), v.numpy() @ lifted(space.layers, g).T, atol=1e-12)
    projection = equivariant_projection(space.layers)
    np.testing.assert_allclose(space.equivariant_part(v), v.numpy() @ projection, atol=1e-12)
    np.testing.assert_allclose(space.equivariant_part(v) + space.transverse_part(v), v, atol=1e-13)
    assert space.dim_equivariant == round(np.trace(projection)) == sum(space.sizes)
    assert torch.equal(space.join(list(space.split(v))), v)


def test_chunks_hold_every_sample_once_in_order():
    one = problem("A_4 points").samples
    parts = list(one.chunks(3))
    assert [len(part) for part in parts] == [3, 3, 1] and torch.equal(torch.cat([p.x for p in parts]), one.x)


def test_what_a_problem_lacks_is_named():
    one = problem("A_4 points")
    bare = replace(one, model=None, transform=None)
    for ask, said in (
        (lambda: model_of(bare), "a bare risk makes no predictions"),
        (lambda: perceptron_of(bare), "the model is no perceptron"),
        (lambda: bare.augmented_risk(gaussian(one.space.dim)), "no action on the data is known"),
    ):
        with bad(said):
            ask()
    assert single(one).samples.x.dtype == torch.float32 and one.layered is one.model and not bare.written


def test_a_space_in_which_nothing_but_zero_is_equivariant_is_refused():
    sign = MatrixRepresentation(Cyclic(2), 1, lambda g: np.array([[(-1.0) ** g]]), "sign")
    space = ParameterSpace((parameter("a", (1,), sign),))
    with bad("E = \\{0\\}, no weights but zero are equivariant"):
        some_equivariant(replace(problem("A_4 points"), space=space))


# ------------------------------------------------------------------------------------------------ tensors by name


def test_tensors_are_packed_row_by_row_and_come_back_in_their_owners_shapes():
    rho, one = regular(Cyclic(3)), trivial(Cyclic(3))
    space = ParameterSpace(
        (parameter("w", (3, 2, 3), ((2 * one) * rho, rho)), parameter("z", (3,), rho * (2 * one), complex=True))
    )
    tensors = {"w": gaussian(3, 2, 3), "z": torch.complex(gaussian(3), gaussian(3, seed=1)), "other": torch.ones(1)}
    v = pack(space, tensors)
    assert torch.equal(v[:18], tensors["w"].reshape(-1)) and torch.equal(v[18::2], tensors["z"].real)
    back = unpack(space, v)
    assert set(back) == {"w", "z"} and all(torch.equal(back[k], tensors[k]) for k in back)
    assert [shape_of(layer) for layer in space.layers] == [(3, 2, 3), (3, 2)]
    with bad("weights: no tensor 'z'; there are w"):
        pack(space, {"w": tensors["w"]})
    with bad("w has shape \\(2, 3\\), this problem needs \\(3, 2, 3\\)"):
        pack(space, {**tensors, "w": torch.ones(2, 3)})
    with bad("w has shape \\(4,\\), 4 entries, but"):
        parameter("w", (4,), rho)


def test_spreading_a_tensor_product_keeps_the_layout():
    nodes, one = permutation(Symmetric(3)), trivial(Symmetric(3))
    for rho in ((2 * one + nodes) * nodes, (3 * nodes) * one):
        wide = spread(rho)
        for g in closure(Symmetric(3)):
            np.testing.assert_allclose(wide.matrix(g), rho.matrix(g), atol=1e-14)


def test_a_representation_that_is_none_is_measured_where_it_fails():
    group = Cyclic(3)
    good = regular(group)
    stretched = MatrixRepresentation(group, 2, lambda g: np.diag([1.0, 2.0**g]), "stretched")
    shifted = MatrixRepresentation(group, 1, lambda g: np.array([[1.0 if g == 0 else -1.0]]), "shifted")
    assert max(error for error, _ in measured_representations([("a", good)], group, 0).values()) < 1e-12
    found = measured_representations([("a", good), ("b", stretched)], group, 0)
    assert found["orthogonal"][0] > 0.1 and found["orthogonal"][1].startswith("b: stretched, generator 1")
    found = measured_representations([("c", shifted)], group, 0)
    assert found["orthogonal"][0] < 1e-12 and found["homomorphism"][0] > 0.1


# ---------------------------------------------------------------------------------------- assumptions, held, identity


def test_assumptions_are_measured_once_a_problem_and_one_that_fails_is_named_with_its_mend():
    one, calls = problem("A_4 points"), []

    def measured(seed: int) -> dict:
        calls.append(seed)
        return {"orthogonal": (1e-12, "X")}

    held = replace(one, assumptions=measured)
    assert check_assumptions(held, 0) == check_assumptions(held, 0) == {"orthogonal": 1e-12} and calls == [0]
    check_assumptions(held, 1)
    assert calls == [0, 1]
    for value in (1e-6, float("nan")):
        with bad("assumption orthogonal fails by .* at X; change the inner product"):
            check_assumptions(replace(one, assumptions=lambda seed, v=value: {"orthogonal": (v, "X")}), 0)
    assert max(check_assumptions(one, 0).values()) < 1e-10


def normed():
    """A module with running statistics and two tied layers."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 3, bias=False), nn.BatchNorm1d(3), nn.Linear(3, 3, bias=False)).double()
    module[2].weight = module[0].weight
    with torch.no_grad():
        module[1].running_mean.fill_(0.2)
    rho = regular(Cyclic(3))
    data = (gaussian(5, 3), gaussian(5, 3, seed=1))
    spec = {"0": (rho, rho), "1": rho}
    return module, from_module(module, nn.MSELoss(), data, spec, output=rho, target=rho)


def test_what_is_held_can_be_replaced_and_changes_the_risk_but_not_the_problem_it_came_from():
    module, one = normed()
    assert "1.running_mean" in held_tensors(one)
    a = one.initial(0)
    before = float(one.equivariant_risk(a))
    other = holding(one, {"1.running_mean": torch.full((3,), 0.7).double(), "unknown": torch.ones(1)})
    assert float(other.equivariant_risk(a)) != before == float(one.equivariant_risk(a))
    assert holding(one, {"1.running_mean": held_tensors(one)["1.running_mean"].clone()}) is one
    with bad("1.running_mean has shape \\(2,\\), not \\(3,\\)"):
        holding(one, {"1.running_mean": torch.ones(2)})
    with bad("the weights come without .*running_mean"):
        holding(one, {}, complete=True)


def test_tied_tensors_have_all_their_names_and_one_value():
    module, one = normed()
    whole = all_names(one, unpack(one.space, one.space.embed(one.initial(0))))
    assert torch.equal(whole["2.weight"], whole["0.weight"])
    assert "2.weight" not in untied(one, whole)
    with bad("2.weight is tied to 0.weight in the module, but in what is given they differ by 1.00"):
        untied(one, {**whole, "2.weight": whole["0.weight"] + 1})


def test_a_problem_is_known_by_its_numbers():
    one = problem("A_4 points")
    known = identity(one)
    assert differences(known, identity(problem("A_4 points"))) == []
    heavier = identity(replace(one, weight_decay=0.06))
    assert any("weight decay was 0.05, is 0.06" in text for text in differences(known, heavier))
    x, y, weight = one.samples
    moved = identity(replace(one, samples=Samples(x + 1e-6, y, weight)))
    assert "the data have changed" in differences(known, moved)
    start = one.space.embed(one.initial(0))
    value, norm, _ = probe(one)["there"]
    assert value == pytest.approx(float(risk(one, start)), rel=1e-12)
    assert norm == pytest.approx(float(gradient(lambda a: risk(one, a), start).norm()), rel=1e-9)


def test_functions_of_the_users_own_are_found_wherever_they_hide():
    scale = 2.0

    def inner(x):
        return x * scale

    class Holder:
        def __init__(self) -> None:
            self.parts = {"a": [inner]}

    files, loose = functions_behind(Holder())
    assert any(file.name == "test_problem.py" for file in files) and not loose
    typed = eval("lambda x: x + 1", {})
    other = eval("lambda x: x + 2", {})
    assert functions_behind(typed)[1] != functions_behind(other)[1] == functions_behind([other])[1]
