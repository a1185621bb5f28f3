"""An alarm has a reason, and a number that says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stability.api.alarms import Alarm, Curvature, Event, alarms
from stability.optimisers.commutes import Commutation

CALM = Curvature(
    step=10, lowest=0.1, residual=1e-9, irrep="V2", highest=3.0, above=1e-9, irrep_highest="V3", bears=0.0,
    threshold=20.0, growth=-0.01, doubling=None, reached=1e-3, sign="positive",
)  # fmt: skip
EVENT = Event(
    step=10, time=1.0, distance=1e-6, share=1e-6, layers=(), sectors=(), equivariance_error=1e-6, forcing=0.1,
    felt=0.01, felt_error=0.02, noise=0.01, growth=-0.01, curvature=CALM,
)  # fmt: skip


def found(event: Event, horizon: int = 1000, commutation: Commutation | None = None) -> list[Alarm]:
    return list(alarms(event, norm=1.0, scale=0.1, keep=0.1, horizon=horizon, commutation=commutation))


def curved(**fields: object) -> Event:
    return replace(EVENT, curvature=replace(CALM, **fields))


def test_a_calm_run_raises_none():
    assert found(EVENT) == []


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (curved(lowest=-0.1, doubling=70.0, growth=0.01), "instability"),
        (curved(highest=21.0, doubling=7.0, growth=0.1), "step too long"),
        (replace(EVENT, felt=1.02), "forcing"),
        (curved(reached=0.2), "noise"),
    ],
)
def test_each_number_beyond_its_bound_is_one_reason(event, reason):
    assert [alarm.reason for alarm in found(event)] == [reason]


def test_what_takes_longer_than_the_horizon_is_no_alarm():
    slow = curved(lowest=-0.1, doubling=700.0, growth=0.001)
    assert [a.reason for a in found(slow, 1000)] == ["instability"] and found(slow, 500) == []
    felt = replace(EVENT, felt=1.0, forcing=1e-3)
    assert [a.reason for a in found(felt, 10_000)] == ["forcing"] and found(felt, 100) == []


def test_an_eigenvalue_within_its_error_of_the_bound_is_no_alarm():
    assert found(curved(lowest=-0.1, residual=0.2, doubling=70.0, growth=0.01)) == []


def test_on_a_kink_no_sign_is_read_off():
    assert found(curved(lowest=-0.1, doubling=70.0, growth=0.01, doubt="a kink")) == []


def test_a_rule_without_multipliers_is_judged_by_the_sign_of_the_hessian():
    muon = curved(lowest=-0.1, bears=None, threshold=None, growth=None, sign="negative")
    assert [(a.reason, a.doubling) for a in found(muon)] == [("instability", None)]


def test_an_update_that_does_not_commute_is_announced_by_the_speed_at_which_it_leaves():
    off = Commutation(False, 0.3, "1", 1e-3, 0.2, 3)
    assert [a.reason for a in found(EVENT, 1000, off)] == ["does not commute"]
    assert found(EVENT, 50, off) == []


def test_metrics_are_numbers_and_hold_the_spectrum():
    told = EVENT.metrics()
    assert told["lowest"] == 0.1 and told["alarms"] == 0 and "doubling" not in told
    assert all(isinstance(v, float) for v in told.values())
