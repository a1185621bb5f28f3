"""The stages alone: risks on named tensors, points in every form, results that print, round-trip and become frames."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import brute
import numpy as np
import pytest
import torch
from problems import REPRESENTATIONS
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import nn

import stability
from stability.api import stages
from stability.api.diagnosis import diagnose
from stability.api.prospects import forecast, prescribe
from stability.api.trajectory import Recorder, follow
from stability.base.checkpoints import load_weights
from stability.base.record import Record
from stability.base.storage import write_tensors
from stability.curvature.automatic import augmented_hessian_from_data, augmented_hessian_from_group, nominal_hessian
from stability.groups import (
    SO2,
    Cyclic,
    Dihedral,
    PermutationGroup,
    PermutationRepresentation,
    Symmetric,
    harmonics,
    images,
    permutation,
    trivial,
)
from stability.problem.space import Samples
from stability.problem.tensors import unpack
from stability.spectrum import main
from stability.tasks import TaskOptions, load

TOLERANCE = 1e-10


def bare(name: str, decay: float = 0.0) -> stability.Problem:
    """A quartic in a matrix, a vector and a scalar, which no symmetry of ρ leaves alone."""
    rho = REPRESENTATIONS[name]()
    n = rho.dim
    target, twist = brute.gaussian(n, seed=1), brute.gaussian(n, n, seed=2)

    def risk(t):
        hidden = torch.tanh(t["matrix"] @ target + t["vector"])
        return (hidden @ twist @ hidden) * t["scale"] + 0.1 * (t["vector"] ** 4).sum() + t["scale"] ** 2

    tensors = {"matrix": brute.gaussian(n, n, seed=3), "vector": brute.gaussian(n, seed=4), "scale": torch.tensor(0.7)}
    spec = {"matrix": (rho, rho), "vector": rho, "scale": trivial(rho.group)}
    return stability.from_risk(risk, tensors, spec, weight_decay=decay)


def swap_problem() -> tuple[nn.Module, stability.Problem]:
    """The counterexample as a module: λ_min on E⊥ is −1 at (½, ½)."""

    class Quadratic(nn.Module):
        def __init__(self):
            super().__init__()
            self.map = nn.Linear(1, 2, bias=False)

        def forward(self, x):
            z = self.map(x)
            return z + z * z

    group = Cyclic(2)
    pair = PermutationRepresentation(group, 2, lambda g: [g, 1 - g], "R²")
    x, y = torch.tensor([[1.0], [-1.0]]), torch.tensor([[0.75, 0.75], [0.25, 0.25]])
    module = Quadratic()
    with torch.no_grad():
        module.map.weight.copy_(torch.tensor([[0.5], [0.5]]))
    problem = stability.from_module(
        module, lambda p, t: 0.5 * (p.sum(-1) - t.sum(-1)).square(), (x, y), {"map": (trivial(group), pair)},
        output=pair, target=pair,
    )  # fmt: skip
    return module, problem


# -- risks on named tensors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["C_5", "D_4", "S_4", "A_4 from generators", "C_4 rotations"])
def test_the_sectors_of_a_risk_are_the_dense_hessian_of_its_average_over_moved_weights(name):
    problem = bare(name, decay=1e-2)
    space, theta = problem.space, problem.initial(1)
    at = space.embed(theta)
    elements = list(problem.group.elements())

    def averaged(a):
        return sum(problem.risk(space.act(g, a)) for g in elements) / len(elements)

    dense = torch.autograd.functional.hessian(averaged, at)
    assert torch.allclose(augmented_hessian_from_data(problem, at).matrix(at), dense, atol=TOLERANCE)
    basis = space.embed(torch.eye(space.dim_equivariant, dtype=torch.float64))
    across = torch.linalg.qr(torch.eye(space.dim, dtype=torch.float64) - basis.mT @ basis)[0]
    values = np.linalg.eigvalsh(dense)
    found = stability.spectrum(problem, theta, "aug", "L")
    listed = np.repeat(found.density.values, np.rint(np.array(found.density.weights) * found.dim).astype(int))
    np.testing.assert_allclose(np.sort(listed), values, atol=TOLERANCE * max(1.0, abs(values).max()))
    assert across.shape[0] == space.dim


def test_the_average_of_a_risk_over_moved_weights_needs_no_data():
    problem = bare("S_4")
    at = problem.space.embed(problem.initial(0)) + 0.1 * brute.gaussian(problem.space.dim, seed=8)
    moved = [problem.risk(problem.space.act(g, at)) for g in problem.group.elements()]
    assert float(problem.augmented_risk(at)) == pytest.approx(float(torch.stack(moved).mean()), rel=1e-12)


def test_a_risk_with_data_is_moved_by_its_data():
    group = Dihedral(4)
    pixels, one = images(group, 3), trivial(group)
    x, y = brute.gaussian(12, 9, seed=1), brute.gaussian(12, seed=2)
    samples = Samples(x, y, torch.full((12,), 1 / 12, dtype=torch.float64))

    def risk(t, s):
        return s.weight @ (torch.tanh(s.x @ t["w"].mT) @ t["v"].mT - s.y.unsqueeze(1)).square().sum(1)

    tensors = {"w": brute.gaussian(9, 9, seed=3), "v": brute.gaussian(1, 9, seed=4)}
    spec = {"w": (pixels, pixels), "v": (pixels, one)}

    def move(g, s):
        return Samples(pixels.act(g, s.x), s.y, s.weight)

    problem = stability.from_risk(risk, tensors, spec, samples=samples, transform=move)
    assert max(stability.check(problem).values()) < 1e-12
    at = problem.space.embed(problem.initial(1))
    dense = augmented_hessian_from_data(problem, at).matrix(at)
    averaged = augmented_hessian_from_group(problem, nominal_hessian(problem, at)).matrix()
    np.testing.assert_allclose(dense, averaged, atol=TOLERANCE)

    def wrong(g, s):
        return Samples(pixels.act(group.inverse(g), s.x), s.y, s.weight)

    broken = stability.from_risk(risk, tensors, spec, samples=samples, transform=wrong)
    with brute.bad(r"invariant_loss fails by \d.*generator \(1, 0\)"):
        stability.check(broken)


@pytest.mark.parametrize(
    ("risk", "tensors", "spec", "message"),
    [
        (lambda t: t["a"].sum(), {"a": torch.ones(3)}, {}, "no representation for a"),
        (lambda t: t["a"].sum(), {"a": torch.ones(3)}, {"a": 2, "b": 2}, "no tensor for b"),
        (lambda t: t["a"].sum(), {"a": torch.ones(3)}, {"a": 2}, r"a has shape \(3,\).*dimension 4"),
        (lambda t: t["a"].sum(), {"a": torch.ones(2, 2)}, {"a": "no"}, "give a representation on its 4 entries"),
        (lambda t: t["a"], {"a": torch.ones(4)}, {"a": 2}, r"the risk has shape \(4,\)"),
        (lambda t: t["a"].sum() * torch.inf, {"a": torch.ones(4)}, {"a": 2}, "its value .* is not finite"),
        (lambda t: t["a"].sum(), {"a": torch.tensor([1.0, torch.nan, 0, 0])}, {"a": 2}, "1 values that are not finite"),
        (lambda t: t["a"].abs().sqrt().sum(), {"a": torch.zeros(4)}, {"a": 2}, "its Hessian .* is not finite"),
        (
            lambda t: torch.tensor(t["a"].detach().numpy().sum()),
            {"a": torch.ones(4)},
            {"a": 2},
            "loses them on the way",
        ),
    ],
)
def test_a_risk_that_does_not_fit_is_told_in_one_line(risk, tensors, spec, message):
    nodes = permutation(Symmetric(4))
    with brute.bad(message):
        stability.from_risk(risk, tensors, {k: nodes if v == 2 else v for k, v in spec.items()})


def test_a_risk_is_analysed_like_a_network():
    swap = PermutationRepresentation(Cyclic(2), 2, lambda g: [g, 1 - g], "swap")

    def well(t):  # minima at (1, −1), (−1, 1); on E a minimum at the origin's place
        a = t["a"]
        return (a * a - 1).square().sum() / 4 + a.sum().square()

    problem = stability.from_risk(well, {"a": torch.tensor([0.3, -0.2], dtype=torch.float64)}, {"a": swap})
    outcome = stability.analyse(problem, points=1)
    # On E: d²/ds² at a = 0 of 2(s²/2 − 1)²/4 + 2s² in s along (1, 1)/√2 is −1 + 4; on E⊥ it is −1.
    assert outcome.analysis.spectra["aug"]["E"].smallest.value == pytest.approx(3.0, abs=1e-12)
    assert outcome.analysis.spectra["aug"]["E_perp"].smallest.value == pytest.approx(-1.0, abs=1e-12)
    assert outcome.analysis.verdict.aug.status == "unstable"
    assert outcome.analysis.escape.risk_end == pytest.approx(0.0, abs=1e-12)
    assert all(v is None or v < 1e-9 for k, v in outcome.analysis.identities.items() if k != "reasons")


def test_a_risk_under_a_lie_group_is_averaged_by_quadrature():
    group = SO2()
    plane, twice = harmonics(group, 1), harmonics(group, 2)
    twist = brute.gaussian(2, 2, seed=1)

    def risk(t):
        hidden = t["map"] @ torch.tanh(t["map"].mT @ t["vector"])
        own = torch.tanh(t["own"] @ hidden) @ twist @ t["own"][0]
        return hidden @ twist @ t["vector"] + own + t["vector"].square().sum().square() + t["map"].square().sum()

    tensors = {"map": brute.gaussian(2, 2, seed=2), "vector": brute.gaussian(2, seed=3)}
    tensors |= {"own": brute.gaussian(2, 2, seed=4)}
    with brute.bad("no weights but zero are equivariant"):
        stability.from_risk(lambda t: t["vector"].square().sum(), {"vector": tensors["vector"]}, {"vector": plane})
    problem = stability.from_risk(risk, tensors, {"map": (twice, plane), "vector": plane, "own": (plane, plane)})
    theta = problem.initial(0)
    at = problem.space.embed(theta)
    turns = [2 * np.pi * k / 64 for k in range(64)]
    dense = sum(
        torch.autograd.functional.hessian(lambda a, g=g: problem.risk(problem.space.act(g, a)), at) for g in turns
    ) / len(turns)
    found = stability.spectrum(problem, theta, "aug", "L")
    listed = np.repeat(found.density.values, np.rint(np.array(found.density.weights) * found.dim).astype(int))
    np.testing.assert_allclose(np.sort(listed), np.linalg.eigvalsh(dense), atol=1e-8)


def test_a_group_whose_irreps_are_out_of_reach_is_averaged_over_instead():
    seven = PermutationGroup([(1, 0, 2, 3, 4, 5, 6), (1, 2, 3, 4, 5, 6, 0)], name="S_7 by generators")
    nodes = permutation(seven)
    twist = brute.gaussian(7, 7, seed=1)
    problem = stability.from_risk(
        lambda t: torch.tanh(t["a"]) @ twist @ t["a"] + t["a"].square().sum().square(),
        {"a": brute.gaussian(7, seed=2)},
        {"a": nodes},
    )
    theta = problem.initial(0)
    dense = torch.autograd.functional.hessian(problem.risk, problem.space.embed(theta))
    # The average of a symmetric matrix over S_n is (a, b) on the diagonal and off it.
    a, b = dense.trace() / 7, (dense.sum() - dense.trace()) / 42
    found = stability.spectrum(problem, theta)
    assert found.lowest[0].value == pytest.approx(float(a - b), abs=1e-9)
    assert found.dim == 6


# -- stages -------------------------------------------------------------------------------------------------------


def test_every_stage_gives_what_the_whole_analysis_gives():
    problem = load("counterexample", TaskOptions())
    (point,) = stages.find_points(problem, starts=1)
    whole = stability.analyse(problem, point).analysis
    assert [s.irrep for s in stability.sectors(problem, point)] == [s.irrep for s in whole.sectors]
    for risk, space in (("aug", "E_perp"), ("aug", "E"), ("eqv", "E"), ("nominal", "L")):
        alone, together = stability.spectrum(problem, point, risk, space), whole.spectra[risk][space]
        assert [e.value for e in alone.lowest] == pytest.approx([e.value for e in together.lowest], abs=1e-14)
        assert (alone.negative_count, alone.dim) == (together.negative_count, together.dim)
    assert stages.verdict(problem, point).aug.status == whole.verdict.aug.status == "unstable"
    assert stability.verdict(whole) is whole.verdict


def test_stages_keep_their_names_when_their_modules_are_imported():
    code = (
        "import stability, stability.spectrum, stability.report, stability.sectors, stability.verdict\n"
        "from stability.spectrum import main\nfrom stability.report import table\nfrom stability.sectors import sign\n"
        "from stability.tasks import TaskOptions, load\n"
        "p = load('counterexample', TaskOptions())\n"
        "print(round(stability.spectrum(p).smallest.value, 9), len(stability.sectors(p)), "
        "stability.verdict(p).aug.status, callable(table), callable(sign))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "-1.0 2 unstable True True"


def test_spectra_off_e_are_those_of_the_projection_on_e_and_of_the_weights_on_all_of_l():
    module, problem = swap_problem()
    weights = {"map.weight": torch.tensor([[0.75], [0.25]])}
    assert stability.spectrum(problem, weights).smallest.value == pytest.approx(-1, abs=1e-12)
    at = stability.api.locate(problem, weights)[1]
    dense = torch.autograd.functional.hessian(problem.augmented_risk, at)
    found = stability.spectrum(problem, weights, "aug", "L")
    assert [e.value for e in found.lowest] == pytest.approx(torch.linalg.eigvalsh(dense).tolist(), abs=1e-12)
    assert stability.spectrum(problem, module, "nominal", "E_perp").smallest.value == pytest.approx(-1, abs=1e-12)


def test_forecasts_and_prescriptions_take_a_point_in_every_form_and_agree():
    module, problem = swap_problem()
    rule = torch.optim.SGD(module.parameters(), lr=0.1)
    forms = [problem.initial(0), module, module.state_dict()]
    ahead = [forecast(problem, form, rule, steps=20, start=1e-6) for form in forms]
    assert ahead[0].distance[-1] == pytest.approx(1e-6 * 1.1**20, rel=1e-6)  # λ = −1 on E⊥
    assert all(found.distance == pytest.approx(ahead[0].distance, rel=1e-6) for found in ahead[1:])
    mends = [prescribe(problem, form, rule, start=1e-5, steps=100) for form in forms]
    assert all(str(found) == str(mends[0]) for found in mends[1:])


def test_a_point_may_come_in_every_form(tmp_path):
    module, problem = swap_problem()
    theta = problem.initial(0)
    file = tmp_path / "weights.pt"
    torch.save(module.state_dict(), file)
    forms = [theta, problem.space.embed(theta), module, module.state_dict(), file, str(file)]
    forms += stability.find_points(problem, starts=1)[:1]
    forms.append(stability.analyse(problem, theta, escape_iterations=0))
    for form in forms:
        found, _, distance = stability.api.locate(problem, form)
        assert torch.allclose(found, theta, atol=1e-9) and distance < 1e-9
    with brute.bad(r"a point of \(5,\)"):
        stability.spectrum(problem, torch.zeros(5))
    with brute.bad("no tensor 'map.weight'"):
        stability.spectrum(problem, {"mop.weight": torch.zeros(2, 1)})
    with brute.bad("risk 'augmented' is unknown; choose from nominal, eqv, aug"):
        stability.spectrum(problem, theta, "augmented")
    with brute.bad("space 'q=7' is unknown; choose from L, E, E_perp"):
        stability.hessian(problem, theta, "aug", "q=7")
    with brute.bad("no setting 'point_count'"):
        stability.analyse(problem, point_count=3)


def test_every_operator_is_a_scipy_linear_operator():
    problem = bare("D_4")
    theta = problem.initial(1)
    irrep = [s.irrep for s in stability.sectors(problem, theta)][1]
    for risk, space in (
        ("nominal", "L"), ("aug", "L"), ("aug", "E"), ("eqv", "E"), ("nominal", "E"), ("aug", "E_perp"),
        ("nominal", "E_perp"), ("aug", irrep),
    ):  # fmt: skip
        operator = stability.hessian(problem, theta, risk, space)
        scipy, dense = operator.linear_operator(), operator.matrix().numpy()
        assert isinstance(scipy, LinearOperator) and scipy.dtype == np.float64
        block = np.random.default_rng(0).standard_normal((operator.dim, 3))
        np.testing.assert_allclose(scipy @ block, dense @ block, atol=1e-9)
        np.testing.assert_allclose(scipy.T @ block[:, 0], dense @ block[:, 0], atol=1e-9)
        if operator.dim > 2:
            low = eigsh(scipy, k=1, which="SA", return_eigenvectors=False)
            np.testing.assert_allclose(low[0], np.linalg.eigvalsh(dense)[0], atol=1e-9)


@pytest.mark.usefixtures("undrawn")
def test_results_print_round_trip_and_become_frames(tmp_path):
    module, problem = swap_problem()
    outcome = stability.analyse(problem, points=1)
    record = Recorder()
    record(module, 0, time=0.0)
    record(module, 1, time=0.1)
    results = [
        outcome.analysis,
        outcome.analysis.verdict,
        outcome.analysis.verdict.aug,
        outcome.analysis.point,
        outcome.analysis.escape,
        outcome.analysis.sectors[1],
        outcome.analysis.spectra["aug"]["E_perp"],
        outcome.analysis.spectra["aug"]["E_perp"].lowest[0],
        stability.find_points(problem, starts=1)[0],
        diagnose(problem, module),
        follow(problem, record),
        follow(problem, record).moments[1],
    ]
    for result in results:
        assert isinstance(result, Record) and is_dataclass(result) and result.__dataclass_params__.frozen
        assert "\n" not in result.to_json() or result is outcome.analysis
        again = type(result).from_json(result.to_json())
        assert again.to_json() == result.to_json()
        assert [type(getattr(again, f.name)) for f in fields(again)] == [
            type(getattr(result, f.name)) for f in fields(again)
        ]
        frame = result.to_frame()
        assert len(frame) >= 1 and len(frame.columns) >= 1
        assert "object at 0x" not in str(result) and len(str(result)) > 10
    frame = stability.frame(outcome.analysis.sectors)
    assert frame["irrep"].tolist() == [s.irrep for s in outcome.analysis.sectors]
    assert set(outcome.to_frame().columns) >= {"risk", "space", "end", "value", "residual", "irrep"}
    assert "verdict: eqv=stable aug=unstable" in str(outcome)
    page = stability.report(outcome, tmp_path / "page")
    assert page.name == "report.html" and "unstable" in page.read_text()


# -- trained weights ----------------------------------------------------------------------------------------------


def test_a_checkpoint_is_read_without_running_its_code(tmp_path):
    module, _ = swap_problem()
    expected = module.map.weight.detach()
    plain, nested, tensors = tmp_path / "a.pt", tmp_path / "b.pt", tmp_path / "c.safetensors"
    torch.save(module.state_dict(), plain)
    torch.save({"epoch": 3, "state_dict": {"module._orig_mod.map.weight": expected}}, nested)
    write_tensors(tensors, {"map.weight": expected}, {})
    for path in (plain, nested, tensors):
        assert torch.equal(load_weights(path)["map.weight"], expected)

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "evil"),))

    torch.save({"weights": Evil()}, tmp_path / "evil.pt")
    with brute.bad("holds more than tensors"):
        load_weights(tmp_path / "evil.pt")
    assert not (tmp_path / "evil").exists()
    (tmp_path / "noise.pt").write_bytes(b"nothing")
    for name, message in (("noise.pt", "noise.pt"), ("none.pt", "there is no file"), ("x.safetensors", "no file")):
        with brute.bad(message):
            load_weights(tmp_path / name)
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    with brute.bad("holds no tensors"):
        load_weights(tmp_path / "empty.pt")


def test_a_diagnosis_measures_what_a_definition_says():
    module, problem = swap_problem()
    with torch.no_grad():
        module.map.weight.copy_(torch.tensor([[0.9], [0.3]]))
    found = diagnose(problem, module)
    a = torch.tensor([0.9, 0.3], dtype=torch.float64)
    gradient = torch.autograd.functional.jacobian(problem.augmented_risk, a)
    split = torch.tensor([[1.0, 1.0], [1.0, -1.0]]).double() / 2**0.5 @ gradient
    assert found.distance == pytest.approx(0.6 / 2**0.5, rel=1e-6)
    assert (found.gradient["aug_E"], found.gradient["aug_perp"]) == pytest.approx(split.abs().tolist(), rel=1e-5)
    assert found.risk["nominal"] == pytest.approx(float(problem.risk(a)), rel=1e-6)
    assert found.projected_risk == pytest.approx(float(problem.risk(a.mean().expand(2))), rel=1e-6)
    x = problem.samples.x
    plain = problem.model.predict(a, x)
    error = (plain - problem.model.output.act(1, plain)).abs().max() / plain.abs().max()
    assert found.equivariance_error == pytest.approx(float(error), rel=1e-5) and found.projected_error < 1e-12
    assert found.lowest < 0 and found.sign == "negative" and found.irrep == "q=1"
    assert found.layers[0].share == pytest.approx(found.share)
    assert "as given    projected onto E" in str(found) and "load stability.project(problem, weights)" in found.next
    assert "γ above" in found.next and not found.equivariant
    on_e = stability.diagnose(problem, stability.project(problem, module), names="none")
    assert "projected onto E" not in str(on_e) and on_e.equivariant and on_e.next == ""


def test_weights_given_off_e_are_kept_beside_their_projection():
    module, problem = swap_problem()
    with torch.no_grad():
        module.map.weight.copy_(torch.tensor([[0.9], [0.3]]))
    found = stability.analyse(problem, module, escape_iterations=0).analysis
    measured = stability.diagnose(problem, module, names="none")
    assert found.point.given.equivariance_error == pytest.approx(measured.equivariance_error)
    assert found.point.given.share == pytest.approx(measured.share)
    assert found.point.given.metrics == measured.metrics and found.point.metrics == measured.projected_metrics
    assert "another network" in str(found)
    assert (
        stability.analyse(problem, stability.project(problem, module), escape_iterations=0).analysis.point.given is None
    )


def test_a_recorded_run_leaves_e_at_the_rate_of_the_spectrum(tmp_path):
    """Gradient descent from beside the unstable point: d log distance / dt = 1 while the distance is small."""
    module, problem = swap_problem()
    module = module.double()
    with torch.no_grad():
        module.map.weight.add_(1e-6 * torch.tensor([[1.0], [-1.0]]))
    x, y = problem.samples.x, problem.samples.y
    record, rate = Recorder(tmp_path / "run", every=100), 1e-3
    optimiser = torch.optim.SGD(module.parameters(), lr=rate)
    for step in range(2001):
        record(module, step, time=step * rate)
        optimiser.zero_grad()
        loss = sum(0.25 * (module(m(x)).sum(-1) - y.sum(-1)).square().sum() for m in (lambda z: z,))
        loss.backward()
        optimiser.step()
    found = follow(problem, tmp_path / "run", every=5)
    assert [m.step for m in found.moments] == [0, 500, 1000, 1500, 2000]
    for moment in found.moments[1:]:
        assert moment.predicted == pytest.approx(1.0, abs=1e-6)
        assert moment.growth == pytest.approx(1.0, rel=2e-3)
    assert "E was unstable at 5 of 5 snapshots" in str(found)
    *above, below = found.figure().axes
    assert "step" in below.get_xlabel() and [len(axes.lines) for axes in above] == [1, 1, 1]
    assert above[0].get_yscale() == "log" and above[0].lines[0].get_ydata()[-1] == found.moments[-1].distance
    assert len(Recorder(tmp_path / "run")) == 21
    with brute.bad("no snapshots"):
        follow(problem, Recorder())


# -- the command --------------------------------------------------------------------------------------------------

FACTORY = """
import torch
import stability
from torch import nn
from stability.groups import Dihedral, images, trivial

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(torch.tanh(self.conv(x)).mean((2, 3)))

def make():
    torch.manual_seed(0)
    group = Dihedral(4)
    one, field = trivial(group), images(group, 2)
    x = torch.randn(12, 1, 3, 3)
    module = Small()
    return stability.from_module(module, nn.CrossEntropyLoss(), (x, (x.abs().mean((1, 2, 3)) > 0.8).long()),
                                 {"conv": (one, field), "head": (field, 2 * one)}, weight_decay=1e-2)
"""


@pytest.mark.usefixtures("undrawn")
def test_the_command_takes_a_factory_of_a_module(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(FACTORY)
    assert main(["--task", "mine.py:make", "--out", "found", "--points", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("verdict: eqv=")
    stored = json.loads(Path("found/spectrum.json").read_text())
    assert stored["dims"] == {"L": 50, "E": stored["dims"]["E"], "E_perp": 50 - stored["dims"]["E"]}
    assert set(load_weights("found/point.safetensors")) == {"conv.weight", "conv.bias", "head.weight", "head.bias"}
    assert load_weights("found/point.safetensors")["conv.weight"].shape == (4, 1, 3, 3)
    torch.save({"state_dict": load_weights("found/point.safetensors")}, "trained.pt")
    again = ["--task", "mine.py:make", "--at", "trained.pt", "--out", "again"]
    assert main(again) == 0
    other = json.loads(Path("again/spectrum.json").read_text())
    for space in ("E", "E_perp"):
        ends = [found["spectra"]["aug"][space]["lowest"][0]["value"] for found in (stored, other)]
        assert ends[0] == pytest.approx(ends[1], abs=1e-9)


def test_unpacked_weights_keep_their_owners_shapes_with_batch_axes():
    problem = bare("D_4")
    v = brute.gaussian(2, 3, problem.space.dim)
    parts = unpack(problem.space, v)
    assert parts["matrix"].shape == (2, 3, 9, 9) and parts["scale"].shape == (2, 3)
