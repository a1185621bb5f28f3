"""The command, end to end: files, exit status, bad input in one line, resuming, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from stability.base.limits import Limits
from stability.base.storage import read_tensors, write
from stability.results import Analysis
from stability.run.settings import Settings
from stability.spectrum import command as spectrum
from stability.tasks import TaskOptions, load

pytestmark = pytest.mark.usefixtures("undrawn")
QUICK = ["--task", "counterexample"]
KEYS = [
    "schema",
    "task",
    "size",
    "seed",
    "dtype",
    "activation",
    "weight_decay",
    "samples",
    "versions",
    "group",
    "dims",
    "assumptions",
    "identities",
    "point",
    "points",
    "spectra",
    "sectors",
    "flat_directions",
    "verdict",
    "cost",
]
POINT_KEYS = [
    "kind",
    "risk",
    "grad_norm",
    "tolerance",
    "newton_decrement",
    "index_E",
    "kink_margin",
    "distance_to_E",
    "metrics",
    "equivariance_error",
]
SPECTRUM_KEYS = ["dim", "lowest", "highest", "negative_count", "density", "method", "matvecs", "seconds"]
USER_TASK = """
import torch
from stability.groups import {imports}
from stability.networks import Classifier, Identity, Pointwise, mlp, squared, supervised
from stability.problem import Samples

def make():
{body}
    n = network.space.layers[0].source.dim
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 6, n, generator=generator, dtype=torch.float64)
    weight = torch.full((6,), 1 / 6, dtype=torch.float64)
    model = Classifier(network, {loss}, target=network.output, decides=False)
    return supervised("mine", model, Samples(x, y, weight), weight_decay=0.1)
"""
SWAPS = """    rho = 1 * permutation(Symmetric(3))
    network = mlp([rho, 2 * rho, rho], [Pointwise("tanh"), Identity()])
"""


def user_task(folder: Path, body: str = SWAPS, imports: str = "Symmetric, permutation", loss: str = "squared") -> str:
    """FILE.py:FACTORY of a small problem of a user's own."""
    file = folder / "mine.py"
    file.write_text(USER_TASK.format(body=body, imports=imports, loss=loss))
    return f"{file}:make"


def run(*arguments: object) -> int:
    return spectrum.main([str(a) for a in arguments])


@pytest.mark.drawn
def test_a_run_writes_every_file_with_the_keys_others_rely_on_and_ends_with_the_verdict(tmp_path, capsys):
    assert run(*QUICK, "--out", tmp_path) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "verdict: eqv=stable aug=unstable nominal=unstable transverse=unstable"
    for name in ("report.html", "spectrum.json", "point.safetensors", "directions.safetensors"):
        assert (tmp_path / name).stat().st_size > 0
    assert (tmp_path / "spectrum.png").stat().st_size > 10_000 and (tmp_path / "paper" / "spectrum.pdf").is_file()
    assert not list(tmp_path.glob(".*")) and not (tmp_path / "state").exists()
    data = json.loads((tmp_path / "spectrum.json").read_text())
    assert set(KEYS) <= set(data)
    assert set(POINT_KEYS) <= set(data["point"]) and set(POINT_KEYS) <= set(data["points"][0])
    for risk, space in (("aug", "E"), ("aug", "E_perp"), ("eqv", "E"), ("nominal", "L")):
        assert set(SPECTRUM_KEYS) <= set(data["spectra"][risk][space])
    assert {"value", "residual", "multiplicity", "irrep"} <= set(data["spectra"]["aug"]["E_perp"]["lowest"][0])
    assert set(data["verdict"]["aug"]) == {"status", "margin", "evidence"}
    assert {"critical_penalty", "growth_rate", "critical_step", "proposition_3"} <= set(data["verdict"])
    assert data["verdict"]["critical_penalty"] == pytest.approx(1.0, abs=1e-12)
    assert data["dims"] == {"L": 2, "E": 1, "E_perp": 1} and data["group"] == {"name": "C_2", "order": 2, "moduli": [2]}


def test_the_json_round_trips(tmp_path):
    run(*QUICK, "--out", tmp_path)
    text = (tmp_path / "spectrum.json").read_text()
    analysis = Analysis.from_json(text)
    assert analysis.to_json() == text
    assert Analysis.from_json(analysis.to_json()) == analysis


def test_a_stored_point_is_analysed_again_with_the_same_eigenvalues(tmp_path):
    run(*QUICK, "--out", tmp_path / "a")
    assert run(*QUICK, "--at", tmp_path / "a" / "point.safetensors", "--out", tmp_path / "b") == 0
    first, second = (json.loads((tmp_path / d / "spectrum.json").read_text()) for d in "ab")
    assert second["point"]["kind"] == "file" and second["point"]["distance_to_E"] < 1e-15
    lowest = [d["spectra"]["aug"]["E_perp"]["lowest"][0]["value"] for d in (first, second)]
    assert lowest[0] == pytest.approx(lowest[1], abs=1e-14)


def test_a_point_off_E_is_projected_and_its_distance_reported(tmp_path):
    save_file({"A_0": torch.tensor([[0.9], [0.1]], dtype=torch.float64)}, tmp_path / "off.safetensors")
    run(*QUICK, "--at", tmp_path / "off.safetensors", "--out", tmp_path)
    point = json.loads((tmp_path / "spectrum.json").read_text())["point"]
    assert point["distance_to_E"] == pytest.approx(0.4 * 2**0.5)


def test_points_and_directions_are_what_they_say(tmp_path):
    run(*QUICK, "--out", tmp_path)
    assert torch.allclose(
        load_file(tmp_path / "point.safetensors")["A_0"], torch.full((2, 1), 0.5, dtype=torch.float64)
    )
    tensors, _ = read_tensors(tmp_path / "directions.safetensors")
    v = tensors["E_perp.vectors"][0]
    assert abs(float(v.sum())) < 1e-12 and float(v.norm()) == pytest.approx(1.0)


@pytest.mark.parametrize("at", ["init", "trained"])
def test_off_stationarity_the_transverse_verdict_is_given_and_the_others_say_not_stationary(at, tmp_path, capsys):
    assert run(*QUICK, "--at", at, "--out", tmp_path) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "eqv=not_stationary" in last and "transverse=undecided" not in last


def test_training_lowers_the_risk_of_the_random_start(tmp_path):
    risks = []
    for at in ("init", "trained"):
        run(*QUICK, "--at", at, "--out", tmp_path / at)
        risks.append(json.loads((tmp_path / at / "spectrum.json").read_text())["point"]["risk"]["nominal"])
    assert risks[1] < risks[0]


def test_a_users_own_task_runs(tmp_path, capsys):
    assert run("--task", user_task(tmp_path), "--out", tmp_path / "out") == 0
    assert "verdict: eqv=" in capsys.readouterr().out


def test_the_same_command_gives_the_same_numbers_bit_for_bit(tmp_path):
    texts = []
    for name in "ab":
        run("--task", user_task(tmp_path), "--out", tmp_path / name)
        data = json.loads((tmp_path / name / "spectrum.json").read_text())
        texts.append(json.dumps([data["point"], data["spectra"]["aug"]["E_perp"]["lowest"]]))
    assert texts[0] == texts[1]


def test_without_dense_room_lanczos_finds_the_same_ends(tmp_path, monkeypatch):
    task = user_task(tmp_path)
    run("--task", task, "--out", tmp_path / "dense")
    monkeypatch.setattr(spectrum, "Settings", partial(Settings, limits=Limits(dense=10, inverse_e=4, dense_e=4)))
    run("--task", task, "--out", tmp_path / "lanczos")
    dense, krylov = (json.loads((tmp_path / d / "spectrum.json").read_text()) for d in ("dense", "lanczos"))
    for risk, space in (("aug", "E"), ("aug", "E_perp"), ("nominal", "L")):
        a, b = dense["spectra"][risk][space], krylov["spectra"][risk][space]
        assert "Lanczos" in b["method"] and b["negative_count"] is None
        assert a["lowest"][0]["value"] == pytest.approx(b["lowest"][0]["value"], abs=1e-9)
        assert a["highest"][0]["value"] == pytest.approx(b["highest"][0]["value"], abs=1e-9)
    same = {dense["verdict"]["aug"]["status"], krylov["verdict"]["aug"]["status"]}
    assert same <= {dense["verdict"]["aug"]["status"], "undecided"}


def test_sectors_and_the_sum_over_the_group_give_the_same_spectrum(tmp_path):
    task = user_task(tmp_path)
    found = []
    for sectors in ("all", "none"):
        run("--task", task, "--sectors", sectors, "--eigenvalues", "6", "--out", tmp_path / sectors)
        found.append(json.loads((tmp_path / sectors / "spectrum.json").read_text()))
    resolved, summed = found
    a, b = (one["spectra"]["aug"]["E_perp"] for one in found)
    assert a["negative_count"] == b["negative_count"] and a["dim"] == b["dim"] and summed["sectors"] == []
    for end in ("lowest", "highest"):
        # An eigenvalue that two irreps share is one entry for each of them, and one of the sum.
        one, other = ([e["value"] for e in x[end] for _ in range(e["multiplicity"])] for x in (a, b))
        common = min(len(one), len(other))
        assert common >= 6 and one[:common] == pytest.approx(other[:common], abs=1e-10)
    assert sum(x["dim"] * x["multiplicity"] for x in resolved["sectors"]) == resolved["dims"]["L"]
    assert all(e["irrep"] == x["irrep"] for x in resolved["sectors"] for e in x["lowest"])
    assert (tmp_path / "all" / "sectors.png").is_file() and not (tmp_path / "none" / "sectors.png").exists()


def test_some_sectors_alone_claim_nothing_of_the_rest(tmp_path):
    task = user_task(tmp_path)
    assert run("--task", task, "--out", tmp_path / "whole") == 0
    whole = json.loads((tmp_path / "whole" / "spectrum.json").read_text())
    name = next(x["irrep"] for x in whole["sectors"] if x["irrep"] != "trivial")
    run("--task", task, "--sectors", name, "--out", tmp_path / "one")
    one = json.loads((tmp_path / "one" / "spectrum.json").read_text())
    assert {x["irrep"] for x in one["sectors"]} == {"trivial", name}
    perp = one["spectra"]["aug"]["E_perp"]
    assert perp["negative_count"] is None and perp["lower_bound"] is None and not perp["complete"]
    assert one["verdict"]["transverse"]["status"] in ("undecided", "unstable")


BAD = [
    (["--task", "nothing"], "--task 'nothing' is unknown; choose from trans, perm"),
    (["--task", "missing.py:make"], "there is no file 'missing.py'"),
    ([*QUICK, "--activation", "swoosh"], "--activation 'swoosh' is unknown"),
    (["--task", "perm", "--group", "monster"], "--group 'monster' is unknown for perm; choose from symmetric"),
    ([*QUICK, "--frobnicate"], "unrecognized arguments: --frobnicate"),
    ([*QUICK, "--seed", "x"], "argument --seed: invalid int value: 'x'"),
    ([*QUICK, "--seed", "-1"], "--seed -1: give a number ≥ 0"),
    ([*QUICK, "--points", "0"], "--points 0"),
    ([*QUICK, "--search-minutes", "0"], "--search-minutes 0"),
    ([*QUICK, "--eigenvalues", "0"], "--eigenvalues 0"),
    (["--size", "huge"], "--size 'huge' is unknown; choose from small, medium, paper"),
    ([*QUICK, "--group", "dihedral"], "--group has no effect on --task counterexample"),
    ([*QUICK, "--dtype", "float16"], "--dtype 'float16' is unknown"),
    ([*QUICK, "--device", "abacus"], "--device 'abacus' is unknown"),
    ([*QUICK, "--weight-decay", "nan"], "--weight-decay nan"),
    ([*QUICK, "--memory-gb", "0"], "--memory-gb 0"),
    (["--task", "perm", "--samples", "20", "--memory-gb", "0.1"], "more than --memory-gb 0.1"),
    ([*QUICK, "--sectors", "(9,1)"], "--sectors '(9,1)' is no irrep of C_2; choose all, none or among trivial, q=1"),
    ([*QUICK, "--at", "nowhere.safetensors"], "there is no file 'nowhere.safetensors'"),
    (["--samples", "9000"], "--samples"),
    (["--data-dir", "/nonexistent"], "/nonexistent"),
    ([*QUICK, "--resume"], "--resume: nothing to resume"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_bad_input_is_one_line_on_stderr_status_2_and_no_file(arguments, message, tmp_path, capsys):
    assert run(*arguments, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "Traceback" not in error
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_an_output_folder_that_cannot_be_written_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(*QUICK, "--out", tmp_path / "file") == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"A_0": torch.zeros(3, 1)}, "A_0 of bad.safetensors has shape (3, 1), this network needs (2, 1)"),
        ({"B": torch.zeros(2, 1)}, "has no tensor 'A_0'; it has B"),
        ({"A_0": torch.tensor([[float("nan")], [0.0]])}, "holds 1 values that are not finite"),
        ({"theta": torch.zeros(5)}, "theta of bad.safetensors has shape (5,)"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(tensors, message, tmp_path, capsys):
    save_file(tensors, tmp_path / "bad.safetensors")
    assert run(*QUICK, "--at", tmp_path / "bad.safetensors", "--out", tmp_path / "out") == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\x08\x00\x00\x00\x00\x00\x00\x00{}"])
def test_a_corrupt_checkpoint_is_refused(content, tmp_path, capsys):
    (tmp_path / "bad.safetensors").write_bytes(content)
    assert run(*QUICK, "--at", tmp_path / "bad.safetensors", "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err.count("\n") == 1


VIOLATIONS = {
    "orthogonal": (
        """    group = Symmetric(2)
    stretch = np.array([[0.0, 2.0], [0.5, 0.0]])
    rho = 1 * MatrixRepresentation(group, 2, lambda g: np.eye(2) if g == (0, 1) else stretch, "stretch")
    network = mlp([rho, rho], [Identity()])
""",
        "orthogonal fails by",
    ),
    "homomorphism": (
        """    group = Symmetric(2)
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    rho = 1 * MatrixRepresentation(group, 2, lambda g: np.eye(2) if g == (0, 1) else turn, "turn")
    network = mlp([rho, rho], [Identity()])
""",
        "homomorphism fails by",
    ),
    "equivariant_nonlinearities": (
        """    group = Symmetric(2)
    flip = np.array([[1.0, 0.0], [0.0, -1.0]])
    rho = 1 * MatrixRepresentation(group, 2, lambda g: np.eye(2) if g == (0, 1) else flip, "flip")
    network = mlp([rho, rho], [Pointwise("sigmoid")])
""",
        "equivariant_nonlinearities fails by",
    ),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violated_assumption_is_refused_with_place_and_size(name, tmp_path, capsys):
    body, message = VIOLATIONS[name]
    task = user_task(tmp_path, "    import numpy as np\n" + body, "MatrixRepresentation, Symmetric")
    assert run("--task", task, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error and "g = (1, 0)" in error and error.count("\n") == 1


def test_a_loss_that_is_not_invariant_is_refused(tmp_path, capsys):
    task = user_task(tmp_path, loss="lambda p, y: (p[:, 0] - y[:, 0]).square()")
    assert run("--task", task, "--out", tmp_path / "out") == 2
    assert "invariant_loss fails by" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("y[0, 0] = float('nan')", "1 target values are not finite"),
        ("weight = torch.ones(6)", "weights sum to 6"),
        ("weight[0], weight[1] = -1 / 6, 3 / 6", "least -0.167"),
        ("x = x[:, :2]", "X_0 needs (samples, 3)"),
        ("y = y[:, 0]", "reshape"),
        ("y = y[:4]", "6 inputs, targets of shape (4, 3), weights of shape (6,)"),
    ],
)
def test_data_that_do_not_fit_are_refused(line, message, tmp_path, capsys):
    task = user_task(tmp_path)
    file = tmp_path / "mine.py"
    file.write_text(file.read_text().replace("    model =", f"    {line}\n    model ="))
    assert run("--task", task, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("line", ["x = x.float()", "x, y, weight = x.float(), y.float(), weight.float()"])
def test_data_of_mixed_or_single_precision_run(line, tmp_path):
    task = user_task(tmp_path)
    file = tmp_path / "mine.py"
    file.write_text(file.read_text().replace("    model =", f"    {line}\n    model ="))
    assert run("--task", task, "--out", tmp_path / "out") in (0, 3)


@pytest.mark.parametrize(
    "option", [("--group", "dihedral"), ("--samples", "7"), ("--weight-decay", "5"), ("--size", "paper")]
)
def test_an_option_without_effect_on_a_users_task_is_refused(option, tmp_path, capsys):
    assert run("--task", user_task(tmp_path), *option, "--out", tmp_path / "out") == 2
    assert f"{option[0]} has no effect on --task" in capsys.readouterr().err


def test_nan_in_the_data_is_refused(tmp_path, capsys):
    task = user_task(tmp_path)
    file = tmp_path / "mine.py"
    file.write_text(file.read_text().replace("    weight =", "    x[0, 0] = float('nan')\n    weight ="))
    assert run("--task", task, "--out", tmp_path / "out") == 2
    assert "1 input values are not finite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def make():\n    return 3\n", "returned int, not a stability.Problem"),
        ("def other():\n    pass\n", "defines no function 'make'"),
        ("def make(:\n", "fails on import with SyntaxError"),
        ("def make():\n    raise KeyError('x')\n", "make() fails with KeyError"),
    ],
)
def test_a_users_file_that_is_no_task_is_refused(code, message, tmp_path, capsys):
    (tmp_path / "bad.py").write_text(code)
    assert run("--task", f"{tmp_path / 'bad.py'}:make", "--out", tmp_path / "out") == 2
    assert message in capsys.readouterr().err


def test_when_no_point_reaches_the_tolerance_the_report_is_still_written_and_the_status_is_3(tmp_path, monkeypatch):
    from stability.run import find

    real = find.find_points

    def too_strict(problem, starts, seed, tolerance, saddles, **options):
        return [p for p in real(problem, starts, seed, 1e-300, saddles, **options) if p.kind != "origin"]

    monkeypatch.setattr(find, "find_points", too_strict)
    task = user_task(tmp_path)
    assert run("--task", task, "--out", tmp_path / "out") == 3
    data = json.loads((tmp_path / "out" / "spectrum.json").read_text())
    assert data["point"]["converged"] is False and data["verdict"]["eqv"]["status"] == "not_stationary"
    assert (tmp_path / "out" / "report.html").is_file()


def test_ctrl_c_leaves_a_valid_partial_result_and_resume_ends_with_the_same_numbers(tmp_path):
    body = """    node = permutation(Symmetric(4))
    rho = node * node
    network = mlp([1 * rho, 4 * rho, 1 * rho], [Pointwise("tanh"), Identity()])
"""
    task = user_task(tmp_path, body)
    command = [sys.executable, "-m", "stability.spectrum", "--task", task, "--out", str(tmp_path / "run")]
    environment = {**os.environ, "PYTHONPATH": str(Path(spectrum.__file__).parents[1])}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    state = tmp_path / "run" / "state" / "points.safetensors"
    for _ in range(12_000):
        if state.is_file() or process.poll() is not None:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error.decode()
    assert b"--resume" in error and b"Traceback" not in error
    partial = Analysis.from_json((tmp_path / "run" / "spectrum.json").read_text())
    assert not partial.complete
    theta = read_tensors(state)[0]["0"]
    assert run(*command[3:], "--resume") == 0
    resumed = Analysis.from_json((tmp_path / "run" / "spectrum.json").read_text())
    assert resumed.complete and not state.exists()
    problem = load(task, TaskOptions())
    weights = load_file(tmp_path / "run" / "point.safetensors")
    expected = problem.space.split(problem.space.embed(theta))
    assert all(torch.equal(weights[f"A_{i}"], w) for i, w in enumerate(expected))


def test_resuming_with_other_options_is_refused(tmp_path, capsys):
    from stability.base.storage import Checkpoint

    Checkpoint(tmp_path / "state", {"task": "perm"}, False).save("points", {"0": torch.zeros(1)}, kinds="x", starts="-")
    assert run(*QUICK, "--out", tmp_path, "--resume") == 2
    assert "other options" in capsys.readouterr().err


def test_resuming_is_refused_whatever_the_stored_files_of_another_run_are_named(tmp_path, capsys):
    from stability.base.storage import Checkpoint

    Checkpoint(tmp_path / "state", {"task": "perm"}, False).save("sector-q__1_2_", {"0": torch.zeros(1)})
    assert run(*QUICK, "--out", tmp_path, "--resume") == 2
    assert "other options" in capsys.readouterr().err


def test_a_damaged_file_of_the_state_is_named_and_what_it_held_is_computed_again(tmp_path, capsys):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "sector-q__1_2_.safetensors").write_bytes(b"garbage")
    assert run(*QUICK, "--out", tmp_path, "--resume") == 0
    error = capsys.readouterr().err
    assert (
        "sector-q__1_2_.safetensors" in error and "what it held is computed again" in error and error.count("\n") == 1
    )


def test_a_refused_run_leaves_no_folder_behind(tmp_path, capsys):
    (tmp_path / "there").mkdir()
    for name in ("new", "there"):
        assert run(*QUICK, "--out", tmp_path / name, "--memory-gb", "0.000001") == 2
    assert "memory" in capsys.readouterr().err
    assert not (tmp_path / "new").exists() and (tmp_path / "there").is_dir()


def test_a_file_without_a_factory_and_too_many_samples_are_answered_with_what_to_write(tmp_path, capsys):
    assert run("--task", "nets/own.py", "--out", tmp_path) == 2
    assert "give nets/own.py:FACTORY" in capsys.readouterr().err
    assert run("--samples", "100000", "--out", tmp_path) == 2
    assert "ask for at most 4,000" in capsys.readouterr().err


def test_a_write_that_fails_leaves_the_old_file_and_no_temporary_one(tmp_path, monkeypatch):
    target = write(tmp_path / "file.json", "old")

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        write(target, "new")
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_sectors_by_lanczos_agree_with_dense_ones_and_settle_on_a_proven_sign(tmp_path, monkeypatch):
    from stability.eigen import krylov

    task = user_task(tmp_path)
    run("--task", task, "--out", tmp_path / "dense")
    monkeypatch.setattr(spectrum, "Settings", partial(Settings, limits=Limits(dense=4)))
    monkeypatch.setattr(krylov, "SETTLE_NEGATIVE", 12)
    run("--task", task, "--eigenvalues", "3", "--out", tmp_path / "krylov")
    dense, by_lanczos = (json.loads((tmp_path / d / "spectrum.json").read_text()) for d in ("dense", "krylov"))
    exact = {x["irrep"]: x for x in dense["sectors"]}
    for x in by_lanczos["sectors"]:
        low, truth = x["lowest"][0], exact[x["irrep"]]["lowest"][0]
        # A Ritz value bounds from above, and a true eigenvalue lies within the residual.
        assert low["value"] >= truth["value"] - 1e-10
        if "Lanczos" in x["method"]:
            assert x["negative_count"] is None
            assert low["value"] < 0 or abs(low["value"] - truth["value"]) <= 1e-6
