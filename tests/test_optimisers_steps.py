"""A functional step is torch's own step: the same numbers over fifty steps, and the same rule read off the object."""

from __future__ import annotations

import pytest
import torch
from brute import bad, gaussian, problem
from torch.func import grad

from stability.optimisers import updates
from stability.optimisers.steps import advance, rest, state_of

MAKERS = {
    "descent": lambda p: torch.optim.SGD(p, lr=0.05),
    "decay": lambda p: torch.optim.SGD(p, lr=0.05, weight_decay=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "dampening": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, dampening=0.3, weight_decay=0.02),
    "Nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8, nesterov=True),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, weight_decay=0.01),
    "RMSprop with momentum, centred": lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.7, centered=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=0.03),
    "AMSGrad": lambda p: torch.optim.Adam(p, lr=1e-2, amsgrad=True, betas=(0.8, 0.95)),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.3),
}


@pytest.mark.parametrize("name", MAKERS)
def test_fifty_functional_steps_end_where_those_of_torch_do(name):
    case = problem("D_4 masks")
    start = case.space.embed(case.initial(0)) + 0.1 * gaussian(case.space.dim)
    weight = torch.nn.Parameter(start.clone())
    optimiser = MAKERS[name]([weight])
    update, at, state = updates.read(optimiser), start, rest(start)
    for _ in range(50):
        optimiser.zero_grad()
        case.risk(weight).backward()
        optimiser.step()
        at, state = advance(update, at, grad(case.risk)(at), state)
    assert float((start - at).norm()) > 1e-2  # it went somewhere
    assert torch.allclose(at, weight.detach(), rtol=0, atol=1e-12)
    if optimiser.state:
        held = state_of(optimiser, {"A": weight}, ["A"], start)
        assert torch.allclose(held.first, state.first, rtol=0, atol=1e-12)
        assert torch.allclose(held.second, state.second, rtol=0, atol=1e-12)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has Muon since 2.9")
def test_muon_turns_the_same_way_as_torch_does_to_the_precision_of_bfloat16():
    case = problem("D_4 masks")
    start = case.space.embed(case.initial(0)) + 0.1 * gaussian(case.space.dim)
    weights = [torch.nn.Parameter(w.clone()) for w in case.space.split(start)]
    optimiser = torch.optim.Muon(weights, lr=1e-2)
    update, at, state = updates.read(optimiser), start, rest(start)
    for _ in range(5):
        optimiser.zero_grad()
        case.risk(case.space.join([w.flatten(-2).unflatten(-1, w.shape) for w in weights])).backward()
        optimiser.step()
        at, state = advance(update, at, grad(case.risk)(at), state, case.space)
    there = case.space.join([w.detach() for w in weights])
    assert float((at - there).norm()) < 2e-2 * float((at - start).norm())


def test_groups_with_other_steps_are_refused_and_equal_ones_are_not():
    a, b = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    with bad("groups 0 and 1 differ"):
        updates.read(torch.optim.SGD([{"params": [a]}, {"params": [b], "lr": 0.2}], lr=0.1))
    assert updates.read(torch.optim.SGD([{"params": [a]}, {"params": [b]}], lr=0.1)) == updates.sgd(0.1)


def test_what_is_no_known_optimiser_is_refused():
    weight = torch.nn.Parameter(torch.zeros(2))
    with bad("Adagrad is not known"):
        updates.read(torch.optim.Adagrad([weight]))
    with bad("maximize"):
        updates.read(torch.optim.SGD([weight], lr=0.1, maximize=True))
    with bad("give a torch.optim object"):
        updates.read("adam")
    with bad("momentum 1"):
        updates.sgd(0.1, 1.0)
    with bad("Nesterov needs"):
        updates.sgd(0.1, nesterov=True)


def test_a_state_that_does_not_fit_is_refused():
    weight = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimiser = torch.optim.Adam([weight])
    with bad("no state for 'A'"):
        state_of(optimiser, {"A": weight}, ["A"], weight.detach())
    weight.square().sum().backward()
    optimiser.step()
    with bad("3 numbers, the weights 5"):
        state_of(optimiser, {"A": weight}, ["A"], torch.zeros(5, dtype=torch.float64))


def test_an_update_round_trips_through_json():
    for update in (updates.sgd(0.1, 0.9, nesterov=True), updates.adamw(), updates.rmsprop(), updates.muon()):
        assert updates.Update.from_json(update.to_json()) == update
