"""Kinks by differences of the gradient: seen where they are, nowhere else, by every stage alike."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import stability
from analyses.signs import kinks as families
from stability.curvature.products import Terms, fresh
from stability.groups import Cyclic, Symmetric, permutation, regular, trivial
from stability.networks.kinks import bend, bends, kink

ZERO = torch.zeros((), dtype=torch.float64)
KINKED = {
    "squared hinge": lambda t: torch.relu(t) ** 2,
    "squared hinge, downwards": lambda t: -(torch.relu(t) ** 2),
    "t|t|": lambda t: t * t.abs(),
    "|t|": lambda t: t.abs(),
    "a millionth of |t|": lambda t: 1e-6 * t.abs(),
    "corner of Huber's loss": lambda t: F.huber_loss(t + 1, ZERO),
    "corner of the smooth L1 loss": lambda t: F.smooth_l1_loss(t - 1, ZERO),
    "t^1.5": lambda t: (t.square() + 1e-40) ** 0.75,
    "where": lambda t: torch.where(t > 0, 2 * t**2, t**2),
    "hardtanh": lambda t: F.hardtanh(t + 1),
    "elu": F.elu,
    "a hinge under a cubic term": lambda t: 1e-6 * torch.relu(t) ** 2 + 50 * t**3,
    "a hinge 1e-12 away": lambda t: torch.relu(t + 1e-12) ** 2,
    "a hinge, huge": lambda t: 1e10 * torch.relu(t) ** 2,
    "a hinge, tiny": lambda t: 1e-7 * torch.relu(t) ** 2,
}
SMOOTH = {
    "square": lambda t: t**2,
    "cubic": lambda t: 1e3 * t**3,
    "tanh": lambda t: torch.tanh(t + 0.3),
    "softplus a thousand times as sharp": lambda t: F.softplus(t, beta=1e3),
    "logistic loss of a million": lambda t: F.softplus(1e5 * t),
    "|t|³": lambda t: t.abs() ** 3,
    "exponential": lambda t: torch.exp(5 * t),
    "logarithm": lambda t: torch.log1p(1e8 * t**2),
    "a large quartic": lambda t: 1e12 * t**4,
    "a tiny tanh": lambda t: 1e-12 * torch.tanh(t + 1),
    "a hinge a thousandth away": lambda t: torch.relu(t + 1e-3) ** 2,
    "terms that cancel": lambda t: 1e6 * (t + 1) ** 4 - 1e6 * (t + 1) ** 4 + t**2,
}


def seen(function, n, seed, size=1.0):
    """Whether differences see a kink of |A|² + φ(⟨x, A − A₀⟩) at A₀, along two random directions."""
    generator = torch.Generator().manual_seed(seed)
    at, x, *rows = torch.randn(4, n, generator=generator, dtype=torch.float64)
    at = at * size
    rows = torch.stack(rows) / torch.stack(rows).norm(dim=1, keepdim=True)

    def loss(a, _):
        return a @ a + function((a - at) @ x)

    gradient = Terms(loss, at, lambda: (None,)).gradient
    products = fresh(loss, at, None, rows)
    return bends(gradient, at, rows, products, [1e-14 * float(p.norm()) for p in products])


@pytest.mark.parametrize("n", [2, 12])
@pytest.mark.parametrize("name", KINKED)
def test_a_kink_is_seen(name, n):
    assert all(seen(KINKED[name], n, seed) for seed in range(4))


@pytest.mark.parametrize("n", [2, 12])
@pytest.mark.parametrize("name", SMOOTH)
def test_a_smooth_risk_is_not_accused(name, n):
    assert not any(seen(SMOOTH[name], n, seed) for seed in range(6))


def test_a_jump_of_the_second_derivative_is_measured():
    at, v = torch.ones(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)

    def gradient(a):
        return 2 * a + 3 * torch.relu(a - 1)

    found = bend(gradient, at, v, torch.full((1,), 2.0, dtype=torch.float64), 1e-16, 0.0)
    assert found.size == pytest.approx(1.5, rel=1e-4) and not found.grows
    jump = bend(lambda a: torch.sign(a - 1), at, v, torch.zeros(1, dtype=torch.float64), 1e-16, 0.0)
    assert jump.grows and jump.size > 1e6


@pytest.mark.parametrize("family", families.FAMILIES)
def test_no_sign_is_read_off_at_the_families_of_kinks_and_smooth_ones_keep_theirs(family):
    from analyses.signs.judged import row

    for number in range(2):
        found = row(family, number)
        assert [found[name][2] for name in ("eqv", "aug", "transverse")] == ["right"] * 3, found


def bare(function):
    """A risk on three numbers that S_3 permutes, which bends along the first less their mean."""
    rho = permutation(Symmetric(3))

    def risk(t):
        a = t["a"]
        return (a - 1).square().sum() + sum(function(x) for x in a - a.mean()) - 0.7 * (a - a.mean()).square().sum()

    return stability.from_risk(risk, {"a": torch.ones(3, dtype=torch.float64)}, {"a": rho})


@pytest.mark.parametrize("name", ["squared hinge", "t|t|", "where", "hardtanh"])
def test_every_stage_withholds_its_sign_at_a_kink_of_a_bare_risk(name):
    problem, point = bare(KINKED[name]), {"a": torch.ones(3, dtype=torch.float64)}
    found = stability.verdict(problem, point)
    assert {found.eqv.status, found.aug.status, found.transverse.status} <= {"undecided", "not_stationary"}
    assert found.transverse.status == "undecided" and "kink" in found.transverse.evidence
    diagnosis = stability.diagnose(problem, point)
    assert diagnosis.sign == "undecided" and "kink" in diagnosis.doubt and "kink" in str(diagnosis)
    assert {s.sign for s in stability.sectors(problem, point)} == {"undecided"}


def test_the_same_risk_without_a_bend_keeps_its_sign():
    problem, point = bare(lambda t: t.square()), {"a": torch.ones(3, dtype=torch.float64)}
    assert stability.verdict(problem, point).transverse.status == "stable"
    diagnosis = stability.diagnose(problem, point)
    assert diagnosis.sign == "positive" and diagnosis.doubt == ""


def test_diagnose_and_follow_withhold_what_analyse_does_at_a_pre_activation_on_its_kink():
    """ReLU behind batch norm, whose bias puts a unit on the kink for the mean sample."""
    rho, hidden, one = regular(Cyclic(3)), 2 * regular(Cyclic(3)), trivial(Cyclic(3))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 1)).double().eval()
    x = torch.randn(5, 3, dtype=torch.float64)
    x[0] = 0.0
    with torch.no_grad():
        net[0].bias.zero_()
    y = torch.randn(5, 1, dtype=torch.float64)
    spec = {"0": (rho, hidden), "1": hidden, "3": (hidden, one)}
    problem = stability.from_module(net, nn.MSELoss(), (x, y), spec, weight_decay=0.1)
    weights = stability.project(problem, net)
    found = stability.verdict(problem, weights)
    assert found.transverse.status == "undecided" and "kink" in found.transverse.evidence
    assert stability.diagnose(problem, weights).sign == "undecided"
    recorder = stability.Recorder()
    net.load_state_dict(weights | {k: v for k, v in net.state_dict().items() if k not in weights})
    recorder(net, 0)
    (moment,) = stability.follow(problem, recorder).moments
    assert moment.sign == "undecided"


def test_a_kink_in_one_sector_alone_is_looked_for_there():
    """Of 60 dimensions one bends: random directions see a tenth of it, the sector's lowest all."""
    case = families.hinge(np.random.default_rng(5))
    at = case.problem.space.embed(case.theta)
    assert kink(case.problem, at, at.new_ones(1, len(at))) is not None
