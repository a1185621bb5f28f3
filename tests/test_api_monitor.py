"""A monitor beside training runs whose reasons are known."""

from __future__ import annotations

import math
import time

import pytest
import torch
from brute import bad
from torch import Tensor, nn
from watched import data, everything, network, problem, reasons, sgd, trained

import stability
from stability.api.alarms import Event
from stability.api.monitor import Monitor
from stability.groups import Cyclic, Dihedral, MatrixRepresentation, trivial
from stability.tasks import TaskOptions, load


class Pair(nn.Module):
    """The weights of the counterexample."""

    def __init__(self, at: Tensor) -> None:
        super().__init__()
        self.A_0 = nn.Parameter(at.clone())


@pytest.mark.parametrize("beta", [0.0, 0.9])
def test_the_counterexample_is_announced_at_the_first_look_with_the_growth_that_follows(beta):
    case = load("counterexample", TaskOptions())
    module = Pair(torch.tensor([[0.5 + 1e-9], [0.5 - 1e-9]], dtype=torch.float64))
    optimiser = torch.optim.SGD(module.parameters(), lr=0.01, momentum=beta)
    monitor = Monitor(case, optimiser, every=40, on_alarm=None)
    for _ in range(160):
        module.A_0.grad = torch.func.grad(case.augmented_risk)(module.A_0.detach().flatten()).reshape(2, 1)
        optimiser.step()
        monitor(module)
    assert [alarm.reason for alarm in monitor.raised] == ["instability"]
    assert monitor.raised[0].step == 1
    first, last = monitor.events[0].curvature, monitor.events[-1]
    assert first.lowest == pytest.approx(-1.0, abs=1e-6)
    # Momentum makes a step ten times as long in flow time, and the growth a step follows it.
    assert last.time == pytest.approx(160 * 0.01 / (1 - beta))
    assert last.growth == pytest.approx(first.growth, rel=1e-4)
    assert monitor.raised[0].doubling == pytest.approx(math.log(2) / first.growth)


def test_with_momentum_a_network_grows_by_no_more_than_the_multiplier_says_and_by_a_good_part_of_it():
    found = trained(sgd(0.02, momentum=0.9), everything, 400, push=1e-7)
    seen = [(a.curvature.growth, b.growth) for a, b in zip(found.events[4:], found.events[5:], strict=False)]
    for told, grown in seen[-5:]:
        assert 0.4 * told < grown < 1.05 * told


def test_what_is_seen_is_what_diagnose_says():
    found = trained(sgd(), everything, 20)
    model = network()
    model.load_state_dict(stability.project(problem(model), model))
    alone = Monitor(problem(model), every=1, on_alarm=None, products=40)
    event = alone.look(model)
    judged = stability.diagnose(problem(model), model)
    assert event.curvature.lowest == pytest.approx(judged.lowest, rel=1e-9)
    assert (event.curvature.irrep, event.curvature.sign) == (judged.irrep, judged.sign)
    assert event.forcing == pytest.approx(judged.forcing)
    assert sum(one.distance**2 for one in found.events[-1].sectors) == pytest.approx(found.events[-1].distance ** 2)


def test_without_augmentation_the_reason_is_forcing_and_with_all_of_the_group_it_is_not():
    plain, exact = trained(sgd(), lambda step: [0], 60), trained(sgd(), everything, 60)
    assert "forcing" in reasons(plain) and plain.events[-1].felt > 0.5
    assert "forcing" not in reasons(exact) and abs(exact.events[-1].felt) < 1e-3


def test_one_random_element_a_step_is_noise_and_not_forcing():
    drawn = torch.randint(8, (400,), generator=torch.Generator().manual_seed(2)).tolist()
    found = trained(sgd(), lambda step: [drawn[step]], 400, every=100)
    assert "noise" in reasons(found) and "forcing" not in reasons(found)


def test_a_step_beyond_what_the_rule_bears_is_announced_as_such():
    found = trained(sgd(weight_decay=1.0), everything, 40, weight_decay=1.0)
    assert not reasons(found), "decay makes every eigenvalue positive"
    assert any("counted once" in note for note in found.notes)
    assert found.events[-1].curvature.lowest == pytest.approx(1.0, abs=0.2)
    longer = trained(sgd(2.2, weight_decay=1.0), everything, 4, weight_decay=1.0, every=2)
    assert reasons(longer) == {"step too long"}
    assert longer.events[0].curvature.threshold == pytest.approx(2 / 2.2)


def test_adam_under_rotations_that_mix_weights_is_announced_as_not_commuting():
    about = 2 * math.pi / 3 / 14**0.5 * torch.tensor([[0, -3, 2], [3, 0, -1], [-2, 1, 0]], dtype=torch.float64)
    group = Cyclic(3)  # a third of a turn about (1, 2, 3)
    rho = MatrixRepresentation(group, 3, lambda g: torch.linalg.matrix_exp(g * about).numpy(), "turns")
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = (x.norm(dim=1) > 1.5).long()
    torch.manual_seed(0)

    class Norms(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(1, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x).square().sum(1, keepdim=True))

    module, one = Norms().double(), trivial(group)
    case = stability.from_module(module, nn.CrossEntropyLoss(), (x, y), {"first": (rho, rho), "second": (one, 2 * one)})
    for make, expected in ((torch.optim.Adam, True), (torch.optim.SGD, False)):
        monitor = Monitor(case, make(module.parameters(), lr=1e-2), every=1, on_alarm=None)
        nn.functional.cross_entropy(module(x), y).backward()
        monitor(module)
        assert ("does not commute" in reasons(monitor)) is expected


def test_kinks_and_batch_norm_are_said():
    kinked = trained(sgd(), everything, 20, kink=True)
    assert any("kinks" in note for note in kinked.notes)
    model = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Tanh(), *network()[2:]).double()
    one = trivial(Dihedral(4))
    channels = {"0": (one, 3 * one), "1": 3 * one, "5": (3 * one, 2 * one)}
    case = stability.from_module(model.eval(), nn.CrossEntropyLoss(), data(), channels)
    monitor = Monitor(case, every=1, on_alarm=None)
    monitor(model.train())
    assert any("batch norm" in note for note in monitor.notes)


def test_by_default_the_monitor_takes_no_more_than_its_share():
    model = network()
    case, optimiser = problem(model), torch.optim.SGD(model.parameters(), lr=1e-3)
    monitor = Monitor(case, optimiser, on_alarm=None, share=0.2)
    for _ in range(60):
        time.sleep(0.02)
        monitor(model)
    assert monitor.training >= 60 * 0.02 * 0.9
    # One piece may turn out dearer than the dearest before it.
    assert monitor.used < 0.3
    assert monitor.events, "a fifth of a second is enough for a look's first part"


def test_what_a_monitor_is_given_is_refused_in_one_line():
    model = network()
    with bad("names"):
        Monitor(problem(model), names="no such")
    with bad("no tensor"):
        Monitor(problem(model), every=1)(nn.Linear(2, 2))


def test_an_event_becomes_json_and_comes_back():
    event = trained(sgd(), everything, 1).events[0]
    assert Event.from_json(event.to_json()) == event
