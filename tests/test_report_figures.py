"""Figures beyond spectra draw what is stored, CSV files hold it, PDFs fit a column; several runs and the gallery."""

from __future__ import annotations

import csv
import io
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import QuadMesh

from stability.effects.breaking import Breaking, Kernel
from stability.effects.deviation import Deviation
from stability.effects.modes import Mode
from stability.effects.pictures import Pictures
from stability.effects.slices import Plane, Slice
from stability.eigen.spectrum import Eigenvalue
from stability.report import explore, figures, paper, words
from stability.report.__main__ import main
from stability.report.figures import (
    FIGURES,
    breaking,
    choices,
    density,
    escape,
    flow,
    frequencies,
    kernel,
    lowest,
    mode,
    orbit,
    plane,
    points,
    sectors,
    slices,
    spectrum,
    steps,
    training,
)
from stability.report.figures.figure import Omitted
from stability.report.many import compare as side
from stability.report.many import gallery
from stability.report.render import render
from stability.report.rows import as_csv
from stability.report.style import COLUMN, for_paper
from stability.results import Analysis
from stability.spectra.density import Shares
from stability.spectra.least import History
from stability.spectra.sectors import Sector
from tests.test_report import ANALYSIS, EVERY, PERP, POINT, STABLE, lanczos

T = (-0.2, -0.1, 0.0, 0.1, 0.2)
AUG, EQV, NOMINAL = (tuple(1 + k * t for t in T) for k in (0.5, 0.0, 2.0))
OFF = Slice("E_perp", "q=(0,1)", -0.5, 0.0, -0.3, 0.7, T, AUG, EQV, NOMINAL)
ON = replace(OFF, space="E", irrep="trivial", value=0.2, aug=(1.2, 1.1, 1.0, 1.15, 1.3))
RUN = Deviation(
    "q=(0,1)", -0.5, 1e-3, 2.0, None, 0.1, (0.0, 1.0, 2.5), (1e-3, 1.6e-3, 3.4e-3), (0.0, 1e-6, 2e-6),
    (1.0, 0.999, 0.99), 40, 5,
)  # fmt: skip
BELOW = replace(RUN, value=20.0, step=0.09, times=(0.0, 1.0, 2.0), off_equivariance=(1e-3, 8e-4, 6.5e-4))
ERROR = (0.01, 0.0, 0.01)
OTHER = {"nominal": 0.5, "eqv": 0.5, "aug": 0.5}
GRID = ((0.1, -0.2), (0.3, 0.4))
LOWEST = (Eigenvalue(2e-4, 1e-12, 1, "trivial"), Eigenvalue(-0.5, 1e-9, 2, "q=(0,1)"), Eigenvalue(0.1, 1e-9, 2, "q=1"))
PICTURES = Pictures(
    shares={
        "E": Shares((-1e-9, 1e-9, 1.0, 90.0), (0.0, 0.75, 0.25), (0.0,) * 3, (0.0,) * 3, 0, 0, "every eigenvalue"),
        "E_perp": Shares(
            (-1.0, -1e-9, 1e-9, 300.0), (0.2, 0.0, 0.8), (0.01, 0.0, 0.01), (0.05, 0.0, 0.05), 6, 60, "SLQ"
        ),
    },
    slices={"E_perp": OFF, "E": ON},
    plane=Plane(T, T[1:4], 0.2, -0.5, tuple(tuple(1 + s * s - t * t for s in T) for t in T[1:4])),
    flow=RUN,
    steps=(BELOW, replace(BELOW, step=0.11, off_equivariance=(1e-3, 1.2e-3, 1.4e-3))),
    kernel=Kernel("A_0", 0, 1, ("e", "g"), GRID, (GRID, ((0.5, 0.6), (0.7, -0.8)))),
    breaking=Breaking(
        3, GRID, ("e", "g"), (0.0, 1.0), ((0.5, 0.5), (0.4, 0.7)), (0.1, 2.0), True, None, (0, 1), (GRID, GRID)
    ),
    omitted={"density E": "<b>why</b>"},
)
FULL = replace(
    ANALYSIS,
    pictures=PICTURES,
    training=History(0.1, (0, 1), (2.0, 1.5), (LOWEST, tuple(replace(e, value=2 * e.value) for e in LOWEST))),
    points=(replace(POINT, lowest=LOWEST), replace(POINT, lowest=LOWEST, risk=OTHER)),
    mode=Mode("q=(0,1)", -0.5, {"A_0": 1.0}, "A_0", 0, 2, GRID, GRID, (GRID, GRID)),
    sectors=tuple(
        Sector(e.irrep, 1 + (e.irrep != "trivial"), "real", 3, 3, (e,), (e,), None, "dense", 3, 0.1, True, 1e-12, q)
        for e, q in zip(LOWEST, ((0, 0), (0, 1), (1, 1)), strict=True)
    ),
    group={"name": "Z_3²", "order": 9, "moduli": [3, 3]},
)  # fmt: skip
NAMES = sorted(FIGURES)
MODULES = (
    *(breaking, choices, density, escape, flow, frequencies, kernel, lowest),
    *(mode, orbit, plane, points, sectors, slices, spectrum, steps, training),
)
# A run that stopped before it found anything.
NOTHING = replace(FULL, **dict.fromkeys(("spectra", "pictures", "training", "point", "mode", "escape", "verdict")),
                  points=(), sectors=())  # fmt: skip


def lines(axes, gid: str) -> list:
    return [line for line in axes.lines if line.get_gid() == gid]


def table(name: str, analysis: Analysis = FULL) -> list[dict]:
    return list(csv.DictReader(io.StringIO(as_csv(FIGURES[name].rows(analysis)))))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.FIGURE.name)
def test_a_figure_is_its_file_finds_what_it_draws_after_a_journey_through_json_and_nothing_in_an_empty_run(module):
    figure = module.FIGURE
    assert FIGURES[figure.name] is figure and module.__name__.endswith(f".{figure.name}")
    found = figure.look(FULL)
    assert found is not None and not isinstance(found, Omitted)
    again = Analysis.from_json(FULL.to_json())
    assert figure.rows(again) == figure.rows(FULL) and figure.caption(again) == figure.caption(FULL)
    assert not figure.applies(NOTHING) and isinstance(figure.look(NOTHING), Omitted | None)


def test_every_file_of_a_figure_is_registered():
    folder = Path(figures.__file__).parent
    assert (
        {f.stem for f in folder.glob("*.py")} - {"__init__", "figure"}
        == set(FIGURES)
        == {module.FIGURE.name for module in MODULES}
    )


def test_a_run_with_everything_has_every_figure_with_title_caption_and_words():
    for name in NAMES:
        figure = FIGURES[name]
        assert figure.applies(FULL) and figure.name == name and figure.title
        assert figure.draw(FULL).axes
        for text in (figure.caption(FULL), figure.alt(FULL)):
            assert len(text) > 40 and text.endswith(".") and not re.search(r"\b(None|nan|inf)\b", text)


@pytest.mark.parametrize("name", sorted(EVERY))
def test_a_run_of_an_earlier_version_has_no_figure_without_numbers(name):
    for figure in ("slices", "plane", "flow", "steps", "kernel", "breaking", "training", "choices"):
        assert not FIGURES[figure].applies(EVERY[name])
        with pytest.raises(ValueError, match=f"'{figure}' does not apply"):
            FIGURES[figure].draw(EVERY[name])


def test_slices_are_drawn_as_stored_less_the_value_at_the_point():
    for axes, line in zip(FIGURES["slices"].draw(FULL).axes, (OFF, ON), strict=True):
        for key, values in (("aug", line.aug), ("nominal", line.nominal), ("eqv", line.eqv)):
            (drawn,) = lines(axes, f"{key} {line.space}")
            np.testing.assert_array_equal(drawn.get_xdata(), line.at)
            np.testing.assert_allclose(drawn.get_ydata(), np.array(values) - values[2], atol=0)
        (drawn,) = lines(axes, f"predicted {line.space}")
        np.testing.assert_allclose(drawn.get_ydata(), 0.5 * line.value * np.array(T) ** 2, rtol=1e-9, atol=1e-15)
        assert lines(axes, "zero")


def test_the_plane_drawn_is_the_plane_stored_and_its_colours_are_even_about_zero():
    axes = FIGURES["plane"].draw(FULL).axes[0]
    (mesh,) = [c for c in axes.collections if isinstance(c, QuadMesh)]
    stored = np.array(PICTURES.plane.aug)
    np.testing.assert_allclose(mesh.get_array().reshape(stored.shape), stored - stored[1, 2])
    assert mesh.norm.vmin == -mesh.norm.vmax


def test_runs_are_drawn_as_stored_beside_their_prediction():
    axes = FIGURES["flow"].draw(FULL).axes
    (measured,) = lines(axes[0], "measured")
    np.testing.assert_array_equal(measured.get_xydata(), np.stack([RUN.times, RUN.off_equivariance], 1))
    (predicted,) = lines(axes[0], "predicted")
    x, y = predicted.get_data()
    np.testing.assert_allclose(y, 1e-3 * np.exp(0.5 * x))
    np.testing.assert_allclose(lines(axes[1], "risk")[0].get_ydata(), np.array(RUN.risk) - 1.0)
    assert lines(axes[1], "zero")
    (axes,) = FIGURES["steps"].draw(FULL).axes
    for run, measured, predicted in zip(PICTURES.steps, lines(axes, "measured"), lines(axes, "predicted"), strict=True):
        np.testing.assert_array_equal(measured.get_ydata(), run.off_equivariance)
        np.testing.assert_allclose(predicted.get_ydata(), 1e-3 * abs(1 - run.step * 20) ** np.array(run.times))


def test_kernels_and_predictions_are_drawn_as_stored():
    kernel = FIGURES["kernel"].draw(FULL)
    drawn = [np.asarray(a.images[0].get_array()) for a in kernel.axes if a.images]
    np.testing.assert_array_equal(drawn[0], GRID)
    near = replace(PICTURES.kernel, after=(GRID, ((0.1, -0.2), (0.3, 0.45))), shared=GRID)
    shown = FIGURES["kernel"].draw(replace(FULL, pictures=replace(PICTURES, kernel=near)))
    changes = [np.asarray(a.images[0].get_array()) for a in shown.axes if a.images]
    np.testing.assert_allclose(changes[2], [[0, 0], [0, 0.05]], atol=1e-15)
    assert "deviation" in shown.axes[2].get_title() and "after" in kernel.axes[2].get_title()
    np.testing.assert_array_equal(drawn[1:], PICTURES.kernel.after)
    first, second = FIGURES["breaking"].draw(FULL).axes
    np.testing.assert_allclose(
        [x.get_ydata() for x in lines(first, "transform")], np.exp(-np.array(PICTURES.breaking.losses)).T
    )
    np.testing.assert_allclose(lines(second, "end")[0].get_ydata(), np.sort(np.exp([-0.1, -2.0])))


def test_one_sample_is_shown_as_the_group_moves_it_with_what_is_said_of_it():
    canvas = FIGURES["orbit"].draw(FULL)
    for axes, image in zip(canvas.axes, PICTURES.breaking.images, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), np.array(image))
    before, after = (words.number(float(np.exp(-x))) for x in (0.5, 2.0))
    assert [axes.get_title().split("\n")[1] for axes in canvas.axes][1] == f"{before} → {after}"
    assert f"goes from {after} to {words.number(float(np.exp(-0.1)))}" in FIGURES["orbit"].caption(FULL)
    assert len(table("orbit")) == 8
    without = replace(FULL, pictures=replace(PICTURES, breaking=replace(PICTURES.breaking, images=(), shown=())))
    assert not FIGURES["orbit"].applies(without)


def test_training_and_choices_are_drawn_as_stored_with_zero_marked():
    axes = FIGURES["training"].draw(FULL).axes[0]
    np.testing.assert_array_equal(lines(axes, "E_perp")[0].get_ydata(), [-0.5, -1.0])
    np.testing.assert_array_equal(lines(axes, "E")[0].get_ydata(), [2e-4, 4e-4])
    np.testing.assert_array_equal(lines(axes, "sector q=1")[0].get_ydata(), [0.1, 0.2])
    assert lines(axes, "zero")
    (axes,) = FIGURES["choices"].draw(FULL).axes
    np.testing.assert_array_equal(lines(axes, "E_perp")[0].get_ydata(), [-0.5, -0.5])
    assert lines(axes, "zero")


def test_densities_are_drawn_as_stored_with_their_errors():
    for axes, where in zip(FIGURES["density"].draw(FULL).axes, ("E", "E_perp"), strict=True):
        stored = PICTURES.shares[where]
        patches = [p for p in axes.patches if p.get_gid() == f"density {where}"]
        drawn = np.nansum([p.get_data().values for p in patches], axis=0)  # a bin has one sign, so one patch
        shown = np.array(stored.share) > 0
        np.testing.assert_array_equal(drawn[shown], np.array(stored.share)[shown])
        np.testing.assert_array_equal(patches[0].get_data().edges, stored.edges)
        assert lines(axes, "zero")
    (bars,) = axes.containers[-1].lines[2]
    lengths = [segment[1, 1] - segment[0, 1] for segment in bars.get_segments()]
    np.testing.assert_allclose(lengths, [0.02, 0.02])


def test_a_run_without_a_stored_density_is_counted_from_its_whole_spectrum():
    for where in ("E", "E_perp"):
        shares = density.shares_of(ANALYSIS, where, ANALYSIS.spectra["aug"][where])
        assert sum(shares.share) == pytest.approx(1) and not shares.probes
    negative = sum(s for s, right in zip(shares.share, shares.edges[1:], strict=True) if right <= 0)
    assert negative == pytest.approx(PERP.negative_count / PERP.dim)
    krylov = replace(ANALYSIS, spectra={"aug": {"E": lanczos([-1.0, 2.0], 40, None)}})
    shares = density.shares_of(krylov, "E", krylov.spectra["aug"]["E"])
    assert shares.probes == 1 and max(shares.error) == pytest.approx((2 * 0.25 / 42) ** 0.5)


@pytest.mark.parametrize("name", NAMES)
def test_every_csv_has_named_columns_and_rows_of_one_length(name):
    head, rows = FIGURES[name].rows(FULL)
    assert rows and all(len(row) == len(head) for row in rows)
    assert len(table(name)) == len(rows)


def test_csv_files_hold_every_digit_that_is_stored():
    assert [float(r["off_E"]) for r in table("flow")] == list(RUN.off_equivariance)
    assert [float(r["R_aug"]) for r in table("slices")] == [*OFF.aug, *ON.aug]
    assert [float(r["share"]) for r in table("density")] == [x for s in PICTURES.shares.values() for x in s.share]
    assert [float(r["eigenvalue"]) for r in table("spectrum", ANALYSIS)][-len(PERP.density.values) :] == list(
        PERP.density.values
    )
    assert [float(r["R_aug"]) for r in table("plane")] == [x for row in PICTURES.plane.aug for x in row]
    shown = [float(r["probability_of_right_answer"]) for r in table("breaking")]
    np.testing.assert_allclose(shown, np.exp([-0.5, -0.5, -0.4, -0.7, -0.1, -2.0]), rtol=1e-12)
    assert {(r["epoch"], r["irrep"]): float(r["lowest_eigenvalue"]) for r in table("training")}["1", "q=1"] == 0.2


@pytest.mark.parametrize("name", ["slices", "spectrum", "kernel", "steps"])
def test_a_figure_for_a_paper_is_one_column_wide_and_set_in_computer_modern(name):
    with for_paper():
        figure = FIGURES[name].draw(FULL)
        content = figures.pdf(figure)
        assert content == figures.pdf(FIGURES[name].draw(FULL))
    width = float(re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)", content)[1])
    assert width == pytest.approx(72 * COLUMN)
    assert re.search(rb"/BaseFont /\S*[Cc][Mm](r10|mi10|sy10|ex10|[Rr])", content)
    assert FIGURES[name].draw(FULL).get_size_inches()[0] > 2 * COLUMN


def test_the_folder_for_papers_holds_captions_as_latex_a_citation_and_the_command(tmp_path):
    paper.write_paper(FULL, tmp_path)
    text = (tmp_path / "paper" / "figures.tex").read_text()
    assert text.count(r"\begin{figure}") == len(NAMES) == text.count(r"\caption{")
    assert ANALYSIS.options["command"] in text
    body = re.sub(r"(?m)^%.*$", "", text)
    assert body.isascii() or not re.findall(r"[^\x00-\x7f]", body), re.findall(r"[^\x00-\x7f]", body)
    assert body.count("{") == body.count("}") and body.count("$") % 2 == 0
    entry = (tmp_path / "paper" / "stability.bib").read_text()
    assert entry.startswith("@software{stability,") and entry.count("{") == entry.count("}")


def test_rendering_again_from_the_json_alone_gives_the_same_files(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    render(FULL, first)
    (second / "spectrum.json").write_text(FULL.to_json())
    assert main([str(second)]) == 0
    names = {f.relative_to(first) for f in first.rglob("*") if f.is_file()}
    assert names | {Path("spectrum.json")} == {f.relative_to(second) for f in second.rglob("*") if f.is_file()}
    assert all((first / n).read_bytes() == (second / n).read_bytes() for n in names)
    html = (first / "report.html").read_text()
    assert "<b>why</b>" not in html and "&lt;b&gt;why" in html
    assert "trans under" in html and paper.bibtex().splitlines()[0] in html


def test_rows_to_explore_are_those_of_the_json_and_nothing_is_listed_twice():
    rows = explore.rows(FULL)
    assert len({(r.point, r.space, r.irrep, r.value) for r in rows}) == len(rows)
    judged = {r.irrep: r for r in rows if "judged" in r.point and r.space != "L, without augmentation"}
    assert {k: (r.value, r.residual) for k, r in judged.items()} == {e.irrep: (e.value, e.residual) for e in LOWEST}
    assert judged["q=(0,1)"].sign == "negative" and judged["trivial"].space == "E"
    values = {r["value"] for r in explore.rest(ANALYSIS)}
    assert values.isdisjoint({r.value for r in explore.rows(ANALYSIS)})


# ----------------------------------------------------------------------------------------------- several runs


def run_folder(root: Path, name: str, analysis: Analysis) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "spectrum.json").write_text(analysis.to_json())
    return folder


def test_runs_are_named_by_what_differs_and_told_apart_by_folder_where_that_does_not():
    runs, shared, differing = side.named([ANALYSIS, replace(STABLE, seed=7)], ["a", "b"])
    assert [name for name, _ in runs] == ["seed 0", "seed 7"] and differing == ["seed"]
    assert shared["group"] == "Z_5²" and "seed" not in shared
    assert [name for name, _ in side.named([ANALYSIS, ANALYSIS], ["a", "b"])[0]] == ["a", "b"]
    wide = replace(ANALYSIS, group={"name": "C_4", "order": 4})
    assert [name for name, _ in side.named([ANALYSIS, wide], ["a", "b"])[0]] == ["group Z_5²", "group C_4"]


def test_a_comparison_draws_and_lists_what_every_run_holds(tmp_path):
    analyses = [ANALYSIS, replace(STABLE, seed=7), replace(ANALYSIS, seed=8, spectra=None, verdict=None)]
    runs, *_ = side.named(analyses, "abc")
    (axes,) = side.lowest(runs).axes
    np.testing.assert_array_equal(lines(axes, "E_perp")[0].get_xdata(), [-7.58e-3, 2e-5])
    assert set(lines(axes, "zero")[0].get_xdata()) == {0.0}
    (axes,) = side.ladders(runs).axes
    drawn = np.concatenate([c.get_offsets()[:, 0] for c in axes.collections if c.get_gid() == "run 0"])
    assert set(drawn) == {e.value for e in PERP.lowest}
    assert "unstable for augmented training in 1 of 3 runs, stable in 1" in side.summary(runs)
    folders = [run_folder(tmp_path, n, a) for n, a in zip("abc", analyses, strict=True)]
    assert main([*map(str, folders), "--title", "Seeds"]) == 0
    html = (tmp_path / "comparison.html").read_text()
    for piece in ("seed 7", "Seeds", "−7.58e-3", ANALYSIS.options["command"]):
        assert piece in html
    rows = list(csv.DictReader((tmp_path / "comparison.csv").open()))
    assert [r["run"] for r in rows] == ["seed 0", "seed 7", "seed 8"]
    assert float(rows[0]["lambda_min_E_perp"]) == -7.58e-3 and rows[2]["aug"] == ""
    assert all((f / "report.html").is_file() for f in folders)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to render"),
        (["{}/absent"], "holds no spectrum.json"),
        (["{}/broken"], "cannot be read"),
        (["{}/old"], "schema 0"),
        (["{}/good", "--compare", "{}/x.html"], "at least two folders"),
        (["--gallery", "{}/absent"], "there is no folder"),
        (["--gallery", "{}/empty"], "holds no results"),
        (["{}/empty", "{}/absent"], "none of the folders"),
        (["--colour"], "unrecognized arguments"),
    ],
)
def test_bad_input_gets_one_line(arguments, message, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    run_folder(tmp_path, "good", ANALYSIS)
    for name, text in (("broken", "{"), ("old", '{"schema": 0}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "spectrum.json").write_text(text)
    assert main([a.format(tmp_path) for a in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_the_gallery_shows_every_result_with_one_picture_and_one_sentence(tmp_path):
    root = tmp_path / "reports"
    folder = run_folder(root, "trans-a", ANALYSIS)
    render(ANALYSIS, folder)
    (root / "figure-small").mkdir()
    shutil.copy(folder / "spectrum.png", root / "figure-small" / "figure.png")
    (root / "nothing").mkdir()
    sources = tmp_path / "analyses"
    sources.mkdir()
    (sources / "figure.py").write_text('"""``python -m analyses.figure`` runs another module."""\n')
    (sources / "paper" / "figure").mkdir(parents=True)
    (sources / "paper" / "figure" / "__init__.py").write_text('"""How far three ways go.\n\nMore."""\n')
    assert main(["--gallery", str(root)]) == 0
    html, markdown = (root / "index.html").read_text(), (root / "README.md").read_text()
    found = gallery.entries(root, sources)
    assert [e.folder for e in found] == ["trans-a", "figure-small"]
    assert found[1].sentence == "How far three ways go."
    for e in found:
        for page in (html, markdown):
            assert f"{e.folder}/{e.link}" in page and f"{e.folder}/{e.picture}" in page
            assert (root / e.folder / e.link).is_file() and (root / e.folder / e.picture).is_file()
    assert "6 directions out of E descend" in markdown


def test_a_mode_that_moves_no_response_is_said_and_not_drawn():
    rounding = tuple(tuple(1e-15 * x for x in row) for row in GRID)
    for still in (replace(FULL.mode, change=(rounding,)), replace(FULL.mode, moved=1e-14)):
        a = replace(FULL, mode=still)
        assert not FIGURES["mode"].applies(a)
        assert "moves no response" in dict(figures.omitted(a))[FIGURES["mode"].title]
    assert FIGURES["mode"].title not in dict(figures.omitted(FULL)) and FIGURES["mode"].applies(FULL)


def test_a_lowest_mode_above_zero_is_not_called_negative():
    a = replace(FULL, mode=replace(FULL.mode, value=3e-5))
    for text in (FIGURES["mode"].alt(a), FIGURES["mode"].caption(a), FIGURES["mode"].draw(a).get_suptitle()):
        assert "negative" not in text and "unstable" not in text


def test_the_lines_of_predictions_start_as_one_only_where_the_point_on_e_is_shown():
    assert "after the push" in FIGURES["breaking"].caption(FULL)
    kept = replace(FULL, pictures=replace(PICTURES, breaking=replace(PICTURES.breaking, start=(0.6, 0.6))))
    assert f"all are at {words.number(float(np.exp(-0.6)))}" in FIGURES["breaking"].caption(kept)
    for a, values in ((FULL, np.exp([-0.5, -0.5])), (kept, np.exp([-0.6, -0.6]))):
        (drawn,) = lines(FIGURES["breaking"].draw(a).axes[1], "start")
        np.testing.assert_allclose(drawn.get_ydata(), values)
        assert ("push" in drawn.get_label()) == (a is FULL)
    assert [r["flow_time"] for r in table("breaking", kept)][:3] == ["on E", "on E", "0.0"]


def test_every_irrep_that_shares_the_lowest_eigenvalue_is_named_and_their_dimensions_are_added():
    ends = (Eigenvalue(1e-4, 1e-12, 4, "q=1"), Eigenvalue(1e-4 + 1e-13, 1e-12, 2, "q=3"), Eigenvalue(1, 0.0, 1, "q=2"))
    low = replace(PERP, lowest=ends, error=1e-12)
    assert words.tied(low) == (("q=1", "q=3"), 6)
    assert words.shared(low) == "the lowest of q=1 and q=3 agree to within their errors, 6 dimensions in all"
    assert words.shared(replace(low, lowest=ends[::2])) == ""


@pytest.mark.parametrize(
    ("after", "n", "said"),
    [(0.63, 1000, "no difference beyond"), (0.7, 1000, "helped"), (0.5, 1000, "hurt"), (0.7, None, "not judged")],
)
def test_leaving_e_is_said_to_help_only_beyond_the_standard_error_of_the_test_accuracy(after, n, said):
    start, end = ({"name": "accuracy", "train": 1.0, "test": x, "test_samples": n} for x in (0.605, after))
    a = replace(FULL, escape=replace(FULL.escape, metrics_start=start, metrics_end=end))
    text = FIGURES["escape"].caption(a)
    assert said in text and ("helped" in text) == (said == "helped")


def test_a_damaged_result_is_refused_in_one_line(tmp_path, capsys):
    text = FULL.to_json().replace('"E_perp"', '"E_prp"')
    (tmp_path / "spectrum.json").write_text(text)
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
