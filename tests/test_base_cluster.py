"""Many processes, the same numbers."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from problems import classification, regression

from stability.base import cluster
from stability.base.cluster import Cluster, Serial, pack, pool, unpack
from stability.base.errors import BadInput
from stability.base.limits import Limits
from stability.curvature.automatic import nominal_hessian
from stability.curvature.pooled import hessian_on_e
from stability.groups import trivial_irrep
from stability.problem.identity import identity
from stability.results import Analysis
from stability.run.analysis import analyse
from stability.run.find import search_job
from stability.run.settings import Settings
from stability.spectra.sectors import by_name, occurring, sector_hessian, sizes
from stability.spectra.shards import shard, sharded_hessian
from stability.spectrum import command as spectrum
from stability.tasks import TaskOptions, load
from stability.tasks.recipe import Recipe

pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def two():
    with Cluster(workers=2) as found:
        yield found


OWN = """
import torch, stability
from stability.groups import Symmetric, permutation

def make():
    def risk(t):
        return {k} * (t["x"] ** 2).sum() + t["x"].mean() ** 4
    return stability.from_risk(
        risk, {{"x": torch.ones(4, dtype=torch.float64)}}, {{"x": permutation(Symmetric(4))}}, name="own"
    )
"""


def square(x: int) -> int:
    return x * x


def refuse(x: int) -> int:
    raise BadInput(f"{x} is refused")


def die_once(flag: str, x: int) -> int:
    """Takes its worker with it the first time."""
    if not Path(flag).exists():
        Path(flag).touch()
        os._exit(1)
    return x * x


def threads(_: int) -> tuple[int, str | None]:
    time.sleep(0.2)
    return torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")


def numbers(analysis: Analysis) -> dict:
    return {
        x.irrep: ([e.value for e in x.lowest], [e.value for e in x.highest], x.negative_count) for x in analysis.sectors
    }


def test_jobs_come_back_with_their_numbers_from_one_process_and_from_two(two):
    for where in (Serial(), two):
        assert sorted(where.run(square, [(i,) for i in range(7)], "squares")) == [(i, i * i) for i in range(7)]


def tunables(_: int) -> str:
    return os.environ["GLIBC_TUNABLES"]


def test_each_worker_takes_memory_in_large_pages_and_keeps_what_the_user_has_set(two, monkeypatch):
    assert {found for _, found in two.run(tunables, [(0,)], "tunables")} == {"glibc.malloc.hugetlb=1"}
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=0")
    assert cluster._tunables() == "glibc.malloc.check=0:glibc.malloc.hugetlb=1"


def test_each_worker_keeps_to_one_thread(two):
    assert {found for _, found in two.run(threads, [(i,) for i in range(4)], "threads")} == {(1, "1")}


def test_bad_input_inside_a_worker_is_the_same_line_outside(two):
    with pytest.raises(BadInput, match="3 is refused"):
        list(two.run(refuse, [(3,)], "refusing"))


def test_a_job_whose_worker_is_lost_is_done_by_another(two, tmp_path):
    jobs = [(str(tmp_path / "flag"), i) for i in range(5)]
    assert sorted(two.run(die_once, jobs, "dying")) == [(i, i * i) for i in range(5)]


def on_one_thread(work):
    """What a worker's arithmetic gives: sums are taken in another order on more threads."""
    return cluster._job(1, work, ())


@pytest.fixture(autouse=True)
def threads_stay():
    """``on_one_thread`` leaves no other test with one."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def assert_same(one: Analysis, both: Analysis) -> None:
    assert one.summary() == both.summary() and numbers(one).keys() == numbers(both).keys()
    for p, q in zip(one.points, both.points, strict=True):
        assert p.risk["nominal"] == pytest.approx(q.risk["nominal"], rel=1e-12)
    for irrep, (low, high, negative) in numbers(one).items():
        other = numbers(both)[irrep]
        assert other[2] == negative
        assert low == pytest.approx(other[0], abs=1e-11) and high == pytest.approx(other[1], rel=1e-11)


def test_sectors_of_two_processes_are_those_of_one(two):
    options = TaskOptions(samples=12)
    settings = Settings(at="init", escape_iterations=0, memory_gb=2.0, sectors="(4,1);(3,2)", eigenvalues=3)
    problem = load("perm", options)
    both = analyse(problem, settings, pool=two, recipe=Recipe.of("perm", options)).analysis
    assert_same(analyse(problem, settings).analysis, both)


def test_a_problem_that_is_no_recipe_is_sent_and_its_points_are_searched_by_the_workers(two):
    problem = classification("C_5")
    settings = Settings(points=2, escape_iterations=0, memory_gb=2.0)
    plain = replace(problem, exchanges=None)
    assert_same(analyse(plain, settings).analysis, analyse(plain, settings, pool=two).analysis)


def test_starts_are_searched_by_the_workers_and_end_where_they_do_here_to_the_last_bit(two, monkeypatch):
    problem = regression("C_5", weight_decay=0.1)
    settings = Settings(points=3, saddles=1, escape_iterations=0, memory_gb=2.0)
    here = on_one_thread(lambda: analyse(problem, settings))
    sent = []
    run = type(two).run
    monkeypatch.setattr(
        type(two), "run", lambda self, f, jobs, *a, **k: sent.append((f, len(jobs))) or run(self, f, jobs, *a, **k)
    )
    there = on_one_thread(lambda: analyse(problem, settings, pool=two))
    assert (search_job, 4) in sent
    assert torch.equal(here.theta, there.theta) and len(here.analysis.points) == len(there.analysis.points) > 0
    for p, q in zip(here.analysis.points, there.analysis.points, strict=True):
        assert (p.start, p.kind, p.risk, p.grad_norm) == (q.start, q.kind, q.risk, q.grad_norm)
    assert numbers(here.analysis) == numbers(there.analysis)


def test_another_client_is_refused_without_the_certificate_of_these_workers(two):
    from distributed import Client
    from distributed.security import Security

    address = two.local.scheduler_address
    assert address.startswith("tls://127.0.0.1:")
    everyone = [address, *(w["nanny"] for w in two._workers().values()), *two._workers()]
    assert len(everyone) == 5 and all(one.startswith("tls://") for one in everyone)
    # Without a certificate, in plain text, and with a certificate that someone else made.
    for where, security in ((address, None), (address.replace("tls", "tcp"), None), (address, Security.temporary())):
        with pytest.raises((OSError, TypeError, TimeoutError)):
            Client(where, security=security, timeout=5)
    assert list(two.run(square, [(3,)], "squares")) == [(0, 9)]


@pytest.mark.parametrize("path", ["/info/main/workers.html", "/json/counts.json", "/metrics", "/sysinfo"])
def test_nothing_about_the_workers_is_told_over_http(two, path):
    sockets = two.local.scheduler.http_server._sockets.values()
    for port in {s.getsockname()[1] for s in sockets}:
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10)


def test_a_plain_scheduler_is_used_with_a_warning_and_one_behind_tls_without(tmp_path, capsys):
    import dask
    from distributed import LocalCluster
    from distributed.security import Security

    mine = Security.temporary()
    for protocol, security in (("tcp://", None), ("tls://", mine)):
        known = {}
        if security is not None:  # the user's certificates, as files named in Dask's configuration
            for name, text in (("key", mine.tls_client_key), ("cert", mine.tls_client_cert), ("ca", mine.tls_ca_file)):
                (tmp_path / f"{name}.pem").write_text(text)
            pair = {"key": str(tmp_path / "key.pem"), "cert": str(tmp_path / "cert.pem")}
            known = {f"distributed.comm.tls.client.{k}": v for k, v in pair.items()}
            known["distributed.comm.tls.ca-file"] = str(tmp_path / "ca.pem")
        local = LocalCluster(
            n_workers=1, processes=False, protocol=protocol, security=security, host="127.0.0.1", dashboard_address=None
        )
        with local, dask.config.set(known), Cluster(local.scheduler_address) as found:
            assert list(found.run(square, [(4,)], "squares")) == [(0, 16)]
        error = capsys.readouterr().err
        assert ("neither encrypted nor authenticated" in error) == (protocol == "tcp://"), error
        if protocol == "tcp://":
            assert error.count("\n") == 1 and "tls://" in error


def test_a_worker_that_builds_another_problem_than_was_sent_is_refused(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(OWN.format(k="1.0"))
    task = f"{file}:make"
    recipe = replace(Recipe.of(task, TaskOptions()), known=json.dumps(identity(load(task, TaskOptions()), task)))
    assert recipe.problem().name == "own"
    cluster._kept.clear()
    file.write_text(OWN.format(k="-1.0"))
    with pytest.raises(BadInput, match="another problem.*own.py has changed"):
        recipe.problem()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_product_in_sample_shards_is_the_whole_product(two, count):
    options = TaskOptions(samples=20)
    problem, recipe = load("perm", options), Recipe.of("perm", options)
    theta = problem.initial(0)
    at = problem.space.embed(theta)
    v = torch.randn(3, len(at), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = nominal_hessian(problem, at)
    split = sharded_hessian(two, recipe, at, count)
    assert torch.allclose(split(v), whole(v), rtol=0, atol=1e-13)
    assert torch.allclose(split.gradient, whole.gradient, rtol=0, atol=1e-14)
    on_e = sharded_hessian(two, recipe, theta, count, trivial_irrep(problem.group))
    t = v[:, : len(theta)].contiguous()
    assert torch.allclose(on_e(t), hessian_on_e(problem, theta)(t), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["(4,1)", "(3,1,1)"])
def test_a_product_on_a_sector_in_sample_shards_is_the_whole_product(two, name):
    options = TaskOptions(samples=20)
    problem, recipe = load("perm", options), Recipe.of("perm", options)
    theta, irrep = problem.initial(0), by_name(problem.group, name)
    whole, split = sector_hessian(problem, theta, irrep), sharded_hessian(two, recipe, theta, 3, irrep)
    v = torch.randn(2, whole.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert split.dim == whole.dim and split.cost == irrep.dim
    assert torch.allclose(split(v), whole(v), rtol=0, atol=1e-13)
    rough = sharded_hessian(two, recipe, theta.float(), 3, irrep)(v.float())
    assert rough.dtype == torch.float32 and torch.allclose(rough.double(), whole(v), rtol=0, atol=1e-4)


def test_a_sector_of_a_bare_risk_is_summed_over_shards_too(two):
    problem = replace(classification("C_5"), exchanges=None)
    bare = replace(problem, model=None)
    theta = problem.initial(0)
    for irrep, _ in occurring(problem.space):
        v = torch.randn(2, sum(sizes(problem.space, irrep)), dtype=torch.float64)
        expected = sector_hessian(problem, theta, irrep)(v)
        assert torch.allclose(sharded_hessian(two, bare, theta, 2, irrep)(v), expected, rtol=0, atol=1e-12)


def test_sectors_in_sample_shards_have_the_spectra_of_whole_ones(two):
    options, limits = TaskOptions(samples=30), Limits(dense=100)  # of the two sectors one is large, one small
    settings = Settings(
        at="init", escape_iterations=0, memory_gb=2.0, sectors="(4,1);(2,2,1)", eigenvalues=2, limits=limits
    )
    problem = load("perm", options)
    split = analyse(problem, replace(settings, shards=3), pool=two, recipe=Recipe.of("perm", options)).analysis
    assert_same(analyse(problem, settings).analysis, split)


def test_shards_are_all_samples_once_and_more_than_there_are_is_refused():
    samples = load("perm", TaskOptions(samples=7)).samples
    parts = [shard(samples, i, 3) for i in range(3)]
    assert torch.equal(torch.cat([p.x for p in parts]), samples.x)
    with pytest.raises(BadInput, match="8 shards of 7 samples"):
        shard(samples, 0, 8)


@pytest.mark.usefixtures("undrawn")
def test_the_command_spreads_over_workers_and_ends_with_the_same_verdict(tmp_path, capsys):
    arguments = ["--task", "counterexample-twin"]
    assert spectrum.main([*arguments, "--out", str(tmp_path / "one")]) == 0
    assert spectrum.main([*arguments, "--workers", "2", "--out", str(tmp_path / "two")]) == 0
    one, two = (Analysis.from_json((tmp_path / d / "spectrum.json").read_text()) for d in ("one", "two"))
    assert one.summary() == two.summary()
    assert [x.irrep for x in one.sectors] == [x.irrep for x in two.sectors]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scheduler", "tcp://127.0.0.1:9", "--workers", "2"], "exclude each other"),
        (["--workers", "0"], "give a number ≥ 1"),
        (["--scheduler", "nonsense://"], "nothing answers there"),
    ],
)
def test_a_cluster_that_cannot_be_had_is_refused_in_one_line(options, message, tmp_path, capsys):
    assert spectrum.main(["--task", "counterexample", "--out", str(tmp_path), *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_workers_of_another_version_are_refused(two, monkeypatch):
    from stability.base import cluster

    monkeypatch.setattr(cluster, "__version__", "9.9")
    with pytest.raises(BadInput, match="install the same everywhere"):
        two._check_versions()


def test_a_message_holds_tensors_and_texts_and_nothing_else():
    tensors = {"a": torch.randn(2, 3), "b": torch.arange(4)}
    back, texts = unpack(pack(tensors, name="λ", more="(3,1)"))
    assert texts == {"name": "λ", "more": "(3,1)"} and all(torch.equal(back[k], tensors[k]) for k in tensors)


def test_without_options_everything_happens_here():
    assert isinstance(pool(), Serial)
