"""Random groups, representations, networks and points; random results and files: laws that hold for all of them."""

from __future__ import annotations

import gzip
import json
import math
import re
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from undrawn import no_pictures

from stability.base.errors import BadInput
from stability.base.storage import Checkpoint, read_tensors, write_tensors
from stability.curvature.automatic import group_average, nominal_hessian
from stability.eigen.operator import assemble
from stability.eigen.spectrum import Density, Eigenvalue, Spectrum
from stability.groups import (
    Cyclic,
    Dihedral,
    DirectProduct,
    Group,
    PermutationGroup,
    Representation,
    Symmetric,
    from_generators,
    images,
    permutation,
    quaternion_group,
    regular,
    trivial,
)
from stability.networks.classifier import Classifier
from stability.networks.losses import cross_entropy, squared
from stability.networks.network import mlp
from stability.networks.nonlinearities import Chain, Identity, LayerNorm, Pointwise
from stability.networks.supervised import supervised
from stability.points.weights import load_point
from stability.problem.problem import Problem
from stability.problem.space import Samples
from stability.report.render import page, pretty
from stability.results import Analysis
from stability.spectra import sectors
from stability.spectrum import command as spectrum
from stability.tasks import TaskOptions, load
from stability.tasks.data.digits import read_folder
from stability.verdicts import identities
from stability.verdicts.certificates import Budget, Certificate, Kantorovich, Stationarity
from stability.verdicts.verdict import STATUSES, Block, Verdict, judge

FEW = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
SOME = settings(max_examples=40, deadline=None)


# ------------------------------------------------------------------------------------------------- what is random


@st.composite
def permutation_groups(draw) -> PermutationGroup:
    n = draw(st.integers(2, 4))
    generators = draw(st.lists(st.permutations(range(n)), min_size=1, max_size=2))
    return PermutationGroup([tuple(g) for g in generators], name="P")


@st.composite
def representations(draw) -> tuple[Group, list[Representation]]:
    """A group and permutation representations of it, small ones."""
    kind = draw(st.sampled_from(["permutations", "cyclic", "dihedral", "product", "symmetric", "quaternions"]))
    if kind == "permutations":
        group = draw(permutation_groups())
        found = [permutation(group)]
    elif kind == "cyclic":
        group = Cyclic(draw(st.integers(1, 6)))
        found = [regular(group)]
    elif kind == "dihedral":
        group = Dihedral(4)
        found = [images(group, 2)]
    elif kind == "product":
        group = DirectProduct((Cyclic(2), Cyclic(draw(st.integers(2, 3)))))
        found = [regular(group)]
    elif kind == "symmetric":
        group = Symmetric(draw(st.integers(2, 4)))
        found = [permutation(group)]
    else:
        group = quaternion_group()
        found = [regular(group)]
    return group, [*found, trivial(group)]


@st.composite
def problems(draw) -> Problem:
    """A network over such representations, on random data."""
    group, (rho, one) = draw(representations())
    channels = draw(st.integers(1, 2)) if rho.dim <= 4 else 1
    hidden = channels * rho + 1 * one if draw(st.booleans()) else channels * rho
    sigma = draw(st.sampled_from(["tanh", "gelu", "softplus", "sigmoid"]))
    equivariant = draw(st.booleans())
    seed = draw(st.integers(0, 1000))
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(6, rho.dim, generator=generator, dtype=torch.float64)
    weight = torch.full((6,), 1 / 6, dtype=torch.float64)
    if equivariant:
        network = mlp([1 * rho, hidden, 1 * rho], [Pointwise(sigma), Identity()])
        y = torch.randn(6, rho.dim, generator=generator, dtype=torch.float64)
        model = Classifier(network, squared, target=1 * rho, decides=False)
    else:
        last = Chain((Pointwise(sigma), LayerNorm(0.1))) if draw(st.booleans()) else Pointwise(sigma)
        network = mlp([1 * rho, hidden, 2 * one, 2 * one], [Pointwise(sigma), last, Identity()])
        y = torch.randint(0, 2, (6,), generator=generator)
        model = Classifier(network, cross_entropy)
    assume(network.space.dim <= 150)
    decay = draw(st.sampled_from([0.0, 1e-2]))
    return supervised("random", model, Samples(x, y, weight), weight_decay=decay)


finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(max_size=12)


# -------------------------------------------------------------------------------------------------- the mathematics


@FEW
@given(problems(), st.integers(0, 1000))
def test_every_identity_of_the_theory_holds_on_random_networks(problem, seed):
    found = identities.measure(problem, problem.initial(seed), seed, 5040, 1.0)
    for name, error in found.errors.items():
        if error is not None and not name.endswith("gap"):
            assert error <= 1e-9, name


@FEW
@given(problems(), st.integers(0, 1000))
def test_assumptions_hold_for_whatever_is_built_from_permutations(problem, seed):
    assert max(v for v, _ in problem.assumptions(seed).values()) <= 1e-12


@FEW
@given(problems(), st.integers(0, 1000))
def test_the_union_of_random_sectors_is_the_dense_spectrum_of_the_group_average(problem, seed):
    theta, space = problem.initial(seed), problem.space
    nominal = nominal_hessian(problem, space.embed(theta))
    dense = torch.linalg.eigvalsh(group_average(assemble(nominal, theta), space, space.group))
    found = []
    for irrep, size in sectors.occurring(space):
        operator = sectors.sector_hessian(problem, theta, irrep, nominal)
        assert operator.dim == size and size % irrep.commutant_dim == 0
        values = torch.linalg.eigvalsh(assemble(operator, theta))
        # Every eigenvalue occurs d/c times in L, and c divides how often it occurs here.
        found.append(values.reshape(-1, irrep.commutant_dim).mean(1).repeat_interleave(irrep.dim))
        spread = values.reshape(-1, irrep.commutant_dim)
        assert float((spread[:, -1] - spread[:, 0]).abs().max()) <= 1e-9 * max(1.0, float(dense.abs().max()))
    together = torch.cat(found).sort().values
    assert len(together) == space.dim
    assert torch.allclose(together, dense, rtol=0, atol=1e-10 * max(1.0, float(dense[-1] - dense[0])))


@SOME
@given(representations(), st.integers(0, 1000))
def test_projections_onto_what_a_random_group_fixes_are_projections(found, seed):
    group, (rho, one) = found
    network = mlp([1 * rho, 1 * rho + 1 * one], [Identity()])
    space = network.space
    v = torch.randn(2, space.dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    fixed = space.equivariant_part(v)
    assert torch.allclose(space.equivariant_part(fixed), fixed, atol=1e-13)
    assert float(fixed[0] @ v[1]) == pytest.approx(float(v[0] @ fixed[1]), abs=1e-12)
    mean = sum(space.act(g, v) for g in group.elements()) / group.order
    assert torch.allclose(mean, fixed, atol=1e-12)


@SOME
@given(st.integers(3, 9), st.integers(0, 8), st.booleans())
def test_a_representation_from_generators_is_the_one_they_came_from(n, turns, flip):
    angle = 2 * math.pi * turns / n
    matrix = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    rho = from_generators(Cyclic(n), [np.array(matrix)], "turn")
    elements = list(Cyclic(n).elements())
    a, b = elements[turns % n], elements[-1]
    product = rho.matrix(a) @ rho.matrix(b)
    assert np.allclose(product, rho.matrix(rho.group.multiply(a, b)), atol=1e-12)


# --------------------------------------------------------------------------------------------------------- verdicts


@st.composite
def spectra(draw) -> Spectrum:
    """What a solver might report: anything, the impossible included."""
    value = st.one_of(finite, st.sampled_from([0.0, 1e-8, -1e-8]))
    lows = sorted(draw(st.lists(value, min_size=0, max_size=3)))
    ends = tuple(Eigenvalue(v, abs(draw(finite)), draw(st.one_of(st.none(), st.integers(1, 9)))) for v in lows)
    optional = st.one_of(st.none(), value)
    counts = st.one_of(st.none(), st.integers(0, 9))
    density = draw(st.one_of(st.none(), st.just(Density("exact", tuple(lows), tuple(1.0 for _ in lows)))))
    return Spectrum(
        dim=draw(st.integers(0, 20)),
        lowest=ends,
        highest=ends[::-1],
        negative_count=draw(counts),
        density=density,
        method=draw(texts),
        matvecs=draw(st.integers(0, 99)),
        seconds=abs(draw(finite)),
        zero_count=draw(counts),
        error=abs(draw(value)),
        complete=draw(st.booleans()),
        lower_bound=draw(optional),
        failure_probability=draw(st.one_of(st.none(), st.floats(0, 1))),
        least_positive=draw(optional),
        confirmed=draw(st.one_of(st.none(), st.booleans())),
    )


@SOME
@given(st.lists(spectra(), min_size=1, max_size=3), st.floats(0, 1), st.one_of(st.none(), st.floats(0, 1)))
def test_a_verdict_is_never_beyond_what_its_spectra_say(found, shift, proven):
    blocks = [Block(f"B{i}", s, newton_shift=shift, proven_shift=proven) for i, s in enumerate(found)]
    verdict = judge(blocks)
    assert verdict.status in STATUSES and isinstance(verdict.evidence, str)
    if verdict.status == "unstable":
        assert any(s.lowest and s.lowest[0].value + s.error + shift < 0 for s in found) and verdict.margin > 0
    if verdict.status in ("stable", "degenerate"):
        assert all(s.lower_bound is not None and s.confirmed is not False for s in found if s.lowest)
        assert all(s.lowest[0].value + s.error + shift >= 0 for s in found if s.lowest)
        assert verdict.margin is None or verdict.margin > 0


# ------------------------------------------------------------------------------------------------------ round trips


@SOME
@given(spectra(), texts, texts, st.dictionaries(texts, st.one_of(st.none(), finite, texts), max_size=3))
def test_results_round_trip_through_json(found, name, evidence, options):
    stationarity = Stationarity(1.0, 0.5, None, 2.0, True, kantorovich=Kantorovich(1.0, 2.0, 3.0, 4.0, None, None))
    analysis = Analysis(
        task=name, size="small", seed=0, dtype="float64", activation="tanh", weight_decay=0.0, samples=3,
        versions={"stability": "x"}, group={"name": name, "order": None}, dims={"L": 2, "E": 1, "E_perp": 1},
        options=options, spectra={"aug": {"E": found}},
        certificate=Certificate({"E": Budget(1.0, 2.0, 3.0, 6.0)}, stationarity),
    )  # fmt: skip
    text = analysis.to_json()
    json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    assert Analysis.from_json(text) == analysis
    assert Verdict("stable", None, evidence) == replace(Verdict("stable", None, ""), evidence=evidence)


@SOME
@given(
    st.dictionaries(st.text("abλ_0.", min_size=1, max_size=5), st.lists(finite, max_size=5), max_size=4),
    st.dictionaries(st.text("ab", min_size=1, max_size=5), texts, max_size=3),
    st.sampled_from([torch.float64, torch.float32, torch.int64]),
)
def test_tensors_round_trip_through_safetensors(tmp_path_factory, tensors, metadata, dtype):
    kept = {k: torch.tensor(v, dtype=torch.float64).clamp(-1e9, 1e9).to(dtype) for k, v in tensors.items()}
    path = write_tensors(tmp_path_factory.mktemp("t") / "a.safetensors", kept, metadata)
    back, texts_back = read_tensors(path)
    assert back.keys() == kept.keys() and all(torch.equal(back[k], kept[k]) for k in kept)
    assert {k: texts_back[k] for k in metadata} == metadata


# ------------------------------------------------------------------------------------------------------ broken files


def mutated(draw, content: bytes) -> bytes:
    """Cut short, with bytes changed, or something else altogether."""
    kind = draw(st.sampled_from(["cut", "flip", "noise"]))
    if kind == "noise":
        return draw(st.binary(max_size=200))
    data = bytearray(content)
    if kind == "cut":
        return bytes(data[: draw(st.integers(0, len(data)))])
    for _ in range(draw(st.integers(1, 5))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@pytest.fixture(scope="module")
def quick() -> Problem:
    return load("counterexample", TaskOptions())


@SOME
@given(st.data())
def test_a_broken_checkpoint_is_refused_in_one_line_or_holds_finite_weights(quick, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("c")
    path = write_tensors(folder / "p.safetensors", {"A_0": torch.ones(2, 1, dtype=torch.float64)}, {"task": "x"})
    path.write_bytes(mutated(data.draw, path.read_bytes()))
    try:
        theta, weights = load_point(path, quick.space, quick.samples.x)
    except BadInput as error:
        assert str(error)
    else:
        assert torch.isfinite(theta).all() and (weights is None or torch.isfinite(weights).all())


@SOME
@given(st.data())
def test_a_broken_state_is_refused_or_holds_what_was_kept(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("s") / "state"
    Checkpoint(folder, {"task": "a"}, False).save("points", {"0": torch.ones(3)}, kinds="minimum", starts="0")
    path = folder / "points.safetensors"
    path.write_bytes(mutated(data.draw, path.read_bytes()))
    try:
        found = Checkpoint(folder, {"task": "a"}, True).load("points")
    except BadInput as error:
        assert str(error)
    else:
        # None: named on stderr, and what it held is computed again; else, by its checksum, exactly what was kept.
        assert found is None or (set(found[0]) == {"0"} and torch.equal(found[0]["0"], torch.ones(3)))


@SOME
@given(st.data())
def test_broken_digits_are_refused_or_are_digits(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("d")
    images = struct.pack(">IIII", 0x803, 2, 28, 28) + bytes(2 * 784)
    labels = struct.pack(">II", 0x801, 2) + bytes([3, 7])
    broken = data.draw(st.sampled_from(["images", "labels"]))
    zipped = data.draw(st.booleans())
    for kind, content in (("images", images), ("labels", labels)):
        content = gzip.compress(content, mtime=0) if zipped else content
        content = mutated(data.draw, content) if kind == broken else content
        name = f"train-{kind}-idx{3 if kind == 'images' else 1}-ubyte" + ".gz" * zipped
        (folder / name).write_bytes(content)
    try:
        x, y = read_folder(folder)
    except BadInput as error:
        assert "\n" not in str(error)
    else:
        assert x.shape == (2, 28, 28) and y.max() <= 9


@SOME
@given(st.data())
def test_a_broken_result_is_a_value_error_and_no_other(data):
    text = Path("reports/trans-small-unstable/spectrum.json").read_bytes()[:4000]
    plain = json.dumps({"schema": 1, "task": "x", "versions": {}, "spectra": {"aug": {"E": {"dim": 3}}}}).encode()
    content = mutated(data.draw, data.draw(st.sampled_from([text, plain])))
    try:
        Analysis.from_json(content.decode(errors="replace"))
    except ValueError as error:
        assert str(error)


OPTIONS = (
    *("--group", "--activation", "--weight-decay", "--samples", "--points", "--seed", "--eigenvalues", "--sectors"),
    *("--memory-gb", "--dtype", "--device", "--at", "--size", "--variant", "--data-dir", "--task", "--workers"),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(OPTIONS),
            st.one_of(
                st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=8),
                st.sampled_from(["-1", "0", "nan", "inf", "1e400", "x.py:make", "q=(0,1)", "None", "½", "../..", "-"]),
            ),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_whatever_the_options_the_command_ends_with_a_status_and_one_line(tmp_path_factory, capsys, options):
    assume(not any(name == "--workers" and value.strip().isdigit() for name, value in options))
    words = [word for option in options for word in option]
    with no_pictures():
        folder = str(tmp_path_factory.mktemp("o"))
        code = spectrum.main(["--task", "rot", "--memory-gb", "0.1", *words, "--out", folder])
    error = capsys.readouterr().err
    assert code in (0, 2, 3)
    if code == 2:
        assert error.count("\n") == 1 and error.startswith("stability.spectrum: ")


# ---------------------------------------------------------------------------------------------------------- reports


@SOME
@given(st.text(st.sampled_from("<>&\"'/=ascriptx ^_{}[]0123"), max_size=30))
def test_no_name_becomes_a_tag(name):
    shown = str(pretty(name))
    for tag in ("<sup>", "</sup>", "<sub>", "</sub>", '<span class="n">', "</span>"):
        shown = shown.replace(tag, "")
    assert "<" not in shown and ">" not in shown


def test_names_of_groups_and_layers_are_escaped_and_the_page_loads_nothing(tmp_path):
    evil = "<script src='https://x.test/a.js'></script><img src=x onerror=alert(1)>"
    analysis = Analysis.from_json(Path("reports/trans-small-unstable/spectrum.json").read_text())
    layers = tuple({**layer, "name": evil, "source": evil} for layer in analysis.layers)
    changed = replace(
        analysis, task=evil, group={**analysis.group, "name": evil}, layers=layers, facts={"network": evil, evil: evil}
    )
    text = page(changed, {})
    assert "<script src" not in text and "<img src=x" not in text and "onerror=alert(1)&gt;" in text


def test_nothing_is_unpickled_and_nothing_read_is_run():
    banned = ("pickle.load", "pickle.dump", "Unpickler(", "yaml.load", "marshal", "shelve", "joblib.load")
    for file in sorted(Path("stability").rglob("*.py")):
        code = "\n".join(line.split("#")[0] for line in file.read_text().splitlines())
        code = "".join(code.split('"""')[::2])  # without docstrings
        assert not any(word in code for word in banned), file
        # torch reads state_dicts with an unpickler of its own that knows tensors and nothing else.
        assert all("weights_only=True" in call.split(")")[0] for call in code.split("torch.load(")[1:]), file
        assert all("allow_pickle=False" in call.split(")")[0] for call in code.split("np.load(")[1:]), file
        assert not re.search(r"(?<![\w.])(eval|exec)\(", code), file


def test_dependencies_are_locked_by_hash():
    import importlib.util

    spec = importlib.util.spec_from_file_location("dependencies", ".ci/dependencies.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.unlocked() == [], "run make lock"
    entries = module.entries(module.LOCK.read_text())
    assert all("--hash=sha256:" in block for block in entries.values())
    import tomllib

    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    names = {re.split(r"[=<>!~]", name)[0].lower() for name in wanted}
    assert names <= set(entries), "run make lock"
