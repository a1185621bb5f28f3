"""Many processes, the same numbers."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from problems import classification

from stability import cluster, spectrum
from stability.analysis import Settings, analyse
from stability.cluster import Cluster, Recipe, Serial, pack, pool, unpack
from stability.curvature import nominal_hessian
from stability.errors import BadInput
from stability.groups import trivial_irrep
from stability.pooled import hessian_on_e
from stability.results import Analysis
from stability.sectors import by_name, occurring, sector_hessian, sizes
from stability.shards import shard, sharded_hessian
from stability.tasks import TaskOptions, load

pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def two():
    with Cluster(workers=2) as found:
        yield found


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


def test_sectors_in_sample_shards_have_the_spectra_of_whole_ones(two, monkeypatch):
    monkeypatch.setattr("stability.analysis.DENSE_LIMIT", 100)  # of the two sectors one is large, one small
    options = TaskOptions(samples=30)
    settings = Settings(at="init", escape_iterations=0, memory_gb=2.0, sectors="(4,1);(2,2,1)", eigenvalues=2)
    problem = load("perm", options)
    split = analyse(problem, replace(settings, shards=3), pool=two, recipe=Recipe.of("perm", options)).analysis
    assert_same(analyse(problem, settings).analysis, split)


def test_shards_are_all_samples_once_and_more_than_there_are_is_refused():
    samples = load("perm", TaskOptions(samples=7)).samples
    parts = [shard(samples, i, 3) for i in range(3)]
    assert torch.equal(torch.cat([p.x for p in parts]), samples.x)
    with pytest.raises(BadInput, match="8 shards of 7 samples"):
        shard(samples, 0, 8)


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
    from stability import cluster

    monkeypatch.setattr(cluster, "__version__", "9.9")
    with pytest.raises(BadInput, match="install the same everywhere"):
        two._check_versions()


def test_a_message_holds_tensors_and_texts_and_nothing_else():
    tensors = {"a": torch.randn(2, 3), "b": torch.arange(4)}
    back, texts = unpack(pack(tensors, name="λ", more="(3,1)"))
    assert texts == {"name": "λ", "more": "(3,1)"} and all(torch.equal(back[k], tensors[k]) for k in tensors)


def test_without_options_everything_happens_here():
    assert isinstance(pool(), Serial)
