"""Killed, out of disk, out of memory, NaN, two writers, other versions: nothing is corrupt, nothing is lost."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from undrawn import no_pictures, undraw

from stability.base import storage
from stability.base.errors import BadInput, CannotWrite
from stability.base.storage import Checkpoint, lock, read_tensors, write, write_tensors
from stability.curvature.automatic import nominal_hessian
from stability.results import Analysis
from stability.spectrum import command as spectrum

pytestmark = pytest.mark.usefixtures("undrawn")
QUICK = ["--task", "counterexample"]
# What a run asks of the file system, in the order of the calls.
CALLS = ("fsync", "replace", "unlink", "rmdir")
SPAWN = multiprocessing.get_context("forkserver")
SPAWN.set_forkserver_preload(["stability.spectrum", "stability.report.figures"])


def run(*arguments: object) -> int:
    return spectrum.main([str(a) for a in arguments])


def at_call(moment: int, act) -> None:
    """Make the file-system call number ``moment`` do ``act(name, arguments)`` first."""
    seen = 0

    def wrapped(name, real):
        def call(*arguments, **options):
            nonlocal seen
            seen += 1
            if seen == moment:
                act(name, arguments)
            return real(*arguments, **options)

        return call

    for name in CALLS:
        setattr(os, name, wrapped(name, getattr(os, name)))


def die(name: str, arguments: tuple) -> None:
    """Lose power: what is being written ends in the middle."""
    if name == "fsync":
        with contextlib.suppress(OSError):
            os.ftruncate(arguments[0], os.fstat(arguments[0]).st_size // 2)
    os.kill(os.getpid(), signal.SIGKILL)


def killed_run(moment: int, arguments: list[str]) -> None:
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    undraw(setattr)
    at_call(moment, die)
    sys.exit(run(*arguments))


def kill_at(moment: int, folder: Path) -> int | None:
    process = SPAWN.Process(target=killed_run, args=(moment, [*QUICK, "--out", str(folder)]))
    process.start()
    process.join(120)
    return process.exitcode


def numbers(folder: Path) -> dict:
    """What a run found, without what it cost."""
    data = json.loads((folder / "spectrum.json").read_text())

    def plain(value):
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items() if k not in ("seconds", "cost", "options", "command")}
        return [plain(v) for v in value] if isinstance(value, list) else value

    return plain(data)


def whole(folder: Path) -> None:
    """Every file that a reader would open opens."""
    for file in folder.rglob("*"):
        if file.is_dir() or file.name.startswith("."):
            continue
        if file.suffix == ".json":
            Analysis.from_json(file.read_text())
        elif file.suffix == ".safetensors":
            read_tensors(file)
        elif file.suffix == ".png":
            assert file.read_bytes()[-8:-4] == b"IEND"
        else:
            assert file.suffix == ".html" and file.read_text().rstrip().endswith("</html>")


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("reference")
    with no_pictures():
        assert run(*QUICK, "--out", folder) == 0
    return numbers(folder)


def survives(moment: int, folder: Path, reference: dict, capsys) -> bool:
    """Kill a run at a moment and go on; False where it ended before."""
    code = kill_at(moment, folder)
    if code == 0:
        return False
    assert code == -signal.SIGKILL
    whole(folder)
    status = run(*QUICK, "--out", folder, "--resume")
    if status == 2:  # killed before there was a state, or after it had been cleared
        assert "nothing to resume" in capsys.readouterr().err
        assert not (folder / "spectrum.json").exists() or numbers(folder) == reference
        status = run(*QUICK, "--out", folder)
    assert status == 0 and numbers(folder) == reference
    assert not list(folder.glob(".*")) and not (folder / "state").exists()
    return True


@pytest.mark.parametrize("moment", [1, 9, 25, 38])
def test_a_run_killed_at_any_moment_leaves_whole_files_and_resumes_to_the_same_numbers(
    moment, tmp_path, reference, capsys
):
    assert survives(moment, tmp_path, reference, capsys)


@pytest.mark.slow
def test_a_run_killed_at_every_single_moment_resumes_to_the_same_numbers(tmp_path, reference, capsys):
    moment = 1
    while survives(moment, tmp_path / str(moment), reference, capsys):
        moment += 1
    assert moment > 30


@pytest.mark.parametrize("moment", [1, 3, 7])
def test_a_full_disk_ends_in_one_line_loses_nothing_and_the_run_resumes(
    moment, tmp_path, reference, capsys, monkeypatch
):
    def full(name: str, arguments: tuple) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in CALLS:
        monkeypatch.setattr(os, name, getattr(os, name))  # restored afterwards
    at_call(2 * moment - 1, full)
    assert run(*QUICK, "--out", tmp_path) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "No space left on device" in error and "--resume" in error
    monkeypatch.undo()
    whole(tmp_path)
    assert run(*QUICK, "--out", tmp_path, *(["--resume"] if (tmp_path / "state").is_dir() else [])) == 0
    assert numbers(tmp_path) == reference


def test_a_small_tmpfs_that_fills_up_ends_in_one_line_and_whole_files(tmp_path):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a tmpfs")
    try:
        process = SPAWN.Process(target=quiet_run, args=([*QUICK, "--out", str(tmp_path)], str(tmp_path) + ".log"))
        process.start()
        process.join(120)
        assert process.exitcode == 2
        said = Path(str(tmp_path) + ".log").read_text()
        assert "No space left on device" in said and "Traceback" not in said
        whole(tmp_path)
        assert (tmp_path / "spectrum.json").is_file()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def quiet_run(arguments: list[str], log: str, bytes_more: int | None = None) -> None:
    """A run in a process of its own; with so many more bytes of address space than it has now."""
    sys.stdout = sys.stderr = open(log, "w")  # noqa: SIM115
    undraw(setattr)
    if bytes_more is not None:
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + bytes_more, now + bytes_more))
    status = run(*arguments)
    sys.stdout.close()
    os._exit(status)


def test_a_process_out_of_memory_ends_in_one_line(tmp_path):
    arguments = [
        "--task",
        "rot",
        "--size",
        "medium",
        "--at",
        "init",
        "--out",
        str(tmp_path / "out"),
        "--memory-gb",
        "4",
    ]
    process = SPAWN.Process(target=quiet_run, args=(arguments, str(tmp_path / "log"), 100_000_000))
    process.start()
    process.join(120)
    said = (tmp_path / "log").read_text()
    assert process.exitcode == 2 and "out of memory" in said and "Traceback" not in said
    if (tmp_path / "out").exists():
        whole(tmp_path / "out")


def test_nan_in_the_middle_of_a_run_is_named_and_the_run_resumes_once_it_is_mended(
    tmp_path, reference, capsys, monkeypatch
):
    from stability.curvature import at

    def broken(*arguments, **options):
        operator = nominal_hessian(*arguments, **options)
        healthy = operator.apply
        operator.apply = lambda v: healthy(v) * (float("nan") if operator.products > 1 else 1.0)
        return operator

    monkeypatch.setattr(at, "nominal_hessian", broken)
    assert run(*QUICK, "--out", tmp_path) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "not finite" in error and "∇²R" in error
    whole(tmp_path)
    monkeypatch.undo()
    assert run(*QUICK, "--out", tmp_path, "--resume") == 0
    assert numbers(tmp_path) == reference


def test_a_second_run_in_the_same_folder_is_refused_while_the_first_one_lives(tmp_path, capsys):
    with lock(tmp_path):
        assert run(*QUICK, "--out", tmp_path) == 2
        error = capsys.readouterr().err
        assert f"another run (process {os.getpid()}) is writing there" in error and error.count("\n") == 1
        assert not (tmp_path / "spectrum.json").exists()
    assert run(*QUICK, "--out", tmp_path) == 0


def hold(folder: str, ready) -> None:
    with lock(Path(folder)):
        ready.set()
        signal.pause()


def test_the_lock_of_a_killed_run_is_no_obstacle_and_its_half_written_files_are_swept_up(tmp_path):
    ready = SPAWN.Event()
    process = SPAWN.Process(target=hold, args=(str(tmp_path), ready))
    process.start()
    assert ready.wait(60)
    with pytest.raises(BadInput, match="another run"), lock(tmp_path):
        pass
    process.kill()
    process.join()
    half = tmp_path / f"{storage._temporary('spectrum.json')}x1"
    half.write_bytes(b"{")
    with lock(tmp_path):
        assert not half.exists()
    assert not list(tmp_path.iterdir())


def test_a_run_that_starts_over_forgets_the_state_of_the_one_before(tmp_path):
    Checkpoint(tmp_path / "state", {"task": "a"}, False).save("points", {"0": torch.zeros(1)})
    Checkpoint(tmp_path / "state", {"task": "b"}, False)
    assert not list((tmp_path / "state").iterdir())


def test_state_of_another_version_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "__version__", "0.0.7")
    Checkpoint(tmp_path / "state", {"task": "a"}, False).save("points", {"0": torch.zeros(1)})
    monkeypatch.undo()
    with pytest.raises(BadInput, match="written by version 0.0.7"):
        Checkpoint(tmp_path / "state", {"task": "a"}, True).load("points")


def test_tensor_files_without_a_format_open_and_those_of_a_later_one_are_refused_by_name(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, tmp_path / "old.safetensors")
    assert torch.equal(read_tensors(tmp_path / "old.safetensors")[0]["a"], torch.ones(2))
    save_file({"a": torch.ones(2)}, tmp_path / "new.safetensors", {"format_version": "2"})
    with pytest.raises(BadInput, match="new.safetensors.* is of format 2"):
        read_tensors(tmp_path / "new.safetensors")


def test_results_of_another_schema_are_refused_by_name():
    with pytest.raises(ValueError, match="schema 7, written by stability 3.1"):
        Analysis.from_json('{"schema": 7, "versions": {"stability": "3.1"}}')
    with pytest.raises(ValueError, match="names no schema"):
        Analysis.from_json("[]")


def test_committed_results_of_earlier_versions_still_open():
    files = sorted(Path("reports").glob("*/spectrum.json"))
    assert files
    for file in files:
        assert Analysis.from_json(file.read_text()).verdict is not None


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_says_why(tmp_path, monkeypatch):
    path = write(tmp_path / "a.json", "old")

    def refuse(*_):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(CannotWrite, match="quota exceeded.*--resume"):
        write(path, "new")
    with pytest.raises(CannotWrite):
        write_tensors(tmp_path / "t.safetensors", {"a": torch.ones(1)}, {})
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
