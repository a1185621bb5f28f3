"""The report says what the analysis holds: in words for every verdict, in numbers drawn as stored, in one safe file."""

from __future__ import annotations

import base64
import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PathCollection

from stability.effects.hidden import HiddenLayer
from stability.eigen.spectrum import Density, Eigenvalue, Spectrum
from stability.points.describe import AsGiven
from stability.report import advice, screen, words
from stability.report.figures import FIGURES
from stability.report.figures.figure import png
from stability.report.render import page, render
from stability.report.style import linear_threshold
from stability.report.tables import table, tables
from stability.results import Analysis, Escape, PointReport, Verdicts
from stability.verdicts.flat import FlatDirections
from stability.verdicts.verdict import STATUSES, Verdict

VOID = {"meta", "img", "br", "hr", "link", "input"}
SAYS = {
    "eqv": {
        "stable": "strict minimum among equivariant",
        "degenerate": "degenerate point among equivariant",
        "unstable": "unstable point already among equivariant",
        "undecided": "undecided whether a minimum among equivariant",
    },
    "aug": {
        "stable": " stable for augmented",
        "degenerate": " degenerate for augmented",
        "unstable": " unstable for augmented",
        "undecided": " undecided for augmented",
    },
    "transverse": {
        "stable": "e is stable",
        "degenerate": "is degenerate",
        "unstable": "e is unstable",
        "undecided": "is undecided",
    },
}


def dense(values: list[float], counts: list[int], error: float = 1e-12) -> Spectrum:
    """A whole spectrum as the dense solver returns it."""
    entries = tuple(Eigenvalue(v, 1e-13, m) for v, m in zip(values, counts, strict=True))
    dim = sum(counts)
    return Spectrum(
        dim=dim,
        lowest=entries[:10],
        highest=entries[::-1][:10],
        negative_count=sum(m for v, m in zip(values, counts, strict=True) if v < -error),
        density=Density("exact", tuple(values), tuple(m / dim for m in counts)),
        method="dense",
        matvecs=dim,
        seconds=0.1,
        zero_count=0,
        error=error,
        complete=True,
        lower_bound=values[0] - error if values else None,
        failure_probability=0.0,
    )


def lanczos(values: list[float], dim: int, lower_bound: float | None) -> Spectrum:
    """Ritz values: no counts, no multiplicities."""
    entries = tuple(Eigenvalue(v, 1e-7) for v in values)
    weights = tuple(1 / len(values) for _ in values)
    density = Density("Lanczos quadrature, one vector", tuple(values), weights)
    bound = {} if lower_bound is None else {"lower_bound": lower_bound, "failure_probability": 2e-6}
    return Spectrum(dim, entries, entries[::-1], None, density, "Lanczos", 90, 1.0, **bound)


def absent(dim: int, why: str = "not computed: S_9 has 362,880 elements") -> Spectrum:
    return Spectrum(dim, (), (), None, None, why, 0, 0.0)


POINT = PointReport(
    kind="minimum",
    risk={"nominal": 0.25, "eqv": 0.25, "aug": 0.25},
    grad_norm={"nominal": 1.5, "eqv": 3e-15, "aug": 4e-15},
    tolerance=1e-9,
    newton_decrement=2e-15,
    index_E=0,
    kink_margin=None,
    distance_to_E=0.0,
    metrics={
        **{"name": "accuracy", "train": 0.83, "test": 0.62, "constant": 0.12},
        **{"loss_train": 0.59, "loss_test": 1.46, "loss_constant": 2.3},
    },
    equivariance_error=4e-15,
    start=0,
)
EQV = dense([1.6e-4, 3e-3, 86.0], [1, 2, 1])
PERP = dense([-7.58e-3, -1e-4, 3e-3, 264.0], [2, 4, 30, 1])
VERDICTS = Verdicts(
    eqv=Verdict("stable", 1.6e-4, "λ_min = 1.600000e-04 on E"),
    aug=Verdict("unstable", 7.58e-3, "6 negative eigenvalues on E⊥; the lowest quotient is -7.580000e-03"),
    nominal=Verdict("not_stationary", 1.5, "the gradient norm is 1.50e+00, above the tolerance 1.00e-09"),
    transverse=Verdict("unstable", 7.58e-3, "6 negative eigenvalues on E⊥; the lowest quotient is -7.580000e-03"),
    proposition_3={"i": "vacuous", "ii": "vacuous"},
    critical_penalty=7.58e-3,
    growth_rate=7.58e-3,
    critical_step={"E": 2 / 86, "E_perp": 2 / 264},
)
ANALYSIS = Analysis(
    task="trans",
    size="small",
    seed=0,
    dtype="float64",
    activation="tanh",
    weight_decay=3e-3,
    samples=400,
    versions={"python": "3.11", "torch": "2.13.0"},
    group={"name": "Z_5²", "order": 25},
    dims={"L": 41, "E": 4, "E_perp": 37},
    facts={"network": "R^{5×5} → 10·1", "data": "1,400 digits", "digest": "fe98"},
    options={"command": "python -m stability.spectrum --weight-decay 3e-3"},
    layers=({"name": "A_0", "source": "R^{5×5}", "target": "10·1", "dim": 41, "dim_E": 4},),
    assumptions={"orthogonal": 5e-15, "homomorphism": 0.0, "equivariant_nonlinearities": 0.0, "invariant_loss": 0.0},
    identities={"lemma1": 0.0, "prop1": None, "feature_average_gap": 3.12, "reasons": {"prop1": "|G| is too large"}},
    point=POINT,
    points=(POINT, replace(POINT, kind="origin", start=None, grad_norm={"nominal": 0.0, "eqv": 0.0, "aug": 0.0})),
    spectra={"eqv": {"E": EQV}, "aug": {"E": EQV, "E_perp": PERP}, "nominal": {"L": lanczos([-0.9, 1e3], 41, -4.3)}},
    flat_directions=(FlatDirections("softmax shift 1⊗v", "E", 8, 4e-17),),
    verdict=VERDICTS,
    escape=Escape(0.25, 0.2, POINT.metrics, {**POINT.metrics, "train": 0.9}, 0.19, 5.08, 6.28, 300),
    cost={"hvps": 5548, "seconds": 130.9, "peak_memory_mb": 1280.7},
    complete=True,
)
RITZ = lanczos([2e-5, 1.0], 37, None)
STABLE = replace(
    ANALYSIS,
    spectra={**ANALYSIS.spectra, "aug": {"E": EQV, "E_perp": dense([2e-5, 1.0], [30, 7])}},
    verdict=replace(
        VERDICTS,
        aug=Verdict("stable", 2e-5, "λ_min = 2.0e-05 on E⊥"),
        transverse=Verdict("stable", 2e-5, "λ_min = 2.0e-05 on E⊥"),
        critical_penalty=0.0,
        growth_rate=0.0,
    ),
    escape=None,
)
UNFINISHED = replace(
    ANALYSIS,
    **dict.fromkeys(("assumptions", "identities", "point", "spectra", "verdict", "escape", "cost")),
    points=(),
    flat_directions=(),
    complete=False,
)
NO_SCORE = {"name": None, "train": None, "test": None, "constant": None}
PARTIAL = {
    "no spectrum on E⊥": replace(
        ANALYSIS,
        spectra={**ANALYSIS.spectra, "aug": {"E": EQV, "E_perp": absent(37)}},
        verdict=replace(
            VERDICTS,
            aug=Verdict("undecided", None, "no spectrum on E⊥: not computed: S_9 has 362,880 elements"),
            transverse=Verdict("undecided", None, "no spectrum on E⊥: not computed: S_9 has 362,880 elements"),
            critical_penalty=None,
            growth_rate=None,
            critical_step={"E": 0.02, "E_perp": None},
        ),
        escape=None,
    ),
    "E⊥ is {0}": replace(
        STABLE,
        dims={"L": 4, "E": 4, "E_perp": 0},
        spectra={**ANALYSIS.spectra, "aug": {"E": EQV, "E_perp": absent(0, "dense")}},
        verdict=replace(
            STABLE.verdict, transverse=Verdict("stable", None, ""), critical_step={"E": 0.02, "E_perp": None}
        ),
    ),
    "Ritz values only": replace(
        ANALYSIS,
        spectra={**ANALYSIS.spectra, "aug": {"E": EQV, "E_perp": lanczos([-7.58e-3, 1.0, 9.0], 37, -0.5)}},
    ),
    "no score": replace(
        ANALYSIS,
        point=replace(POINT, metrics=NO_SCORE, newton_decrement=None, index_E=None, equivariance_error=None),
        points=(replace(POINT, metrics=NO_SCORE, risk={"nominal": 0.25, "eqv": 0.25, "aug": None}),),
        escape=replace(ANALYSIS.escape, metrics_start=NO_SCORE, metrics_end=NO_SCORE),
    ),
    "the loss is the score": replace(
        ANALYSIS, point=replace(POINT, metrics={"name": "loss", "train": 0.25, "loss_train": 0.25, "test": None})
    ),
    "an infinite group": replace(ANALYSIS, group={"name": "SO(2)", "order": None}),
    "interrupted": UNFINISHED,
}
EVERY = {"unstable": ANALYSIS, "stable": STABLE, **PARTIAL}
every_analysis = pytest.mark.parametrize("analysis", EVERY.values(), ids=EVERY.keys())


class Page(HTMLParser):
    """Tags with attributes, text outside style, and whether every tag is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text.append(data)

    @property
    def words(self) -> str:
        shown = "".join(self.text) + " ".join(attrs.get("alt", "") for _, attrs in self.tags)
        return " ".join(shown.split())


def html_of(analysis: Analysis) -> str:
    """The page with stand-ins for the pictures that would be drawn."""
    present = ["spectrum", "lowest"] if analysis.spectra else []
    present += ["points"] if len(analysis.points) > 1 else []
    return page(analysis, dict.fromkeys(present + (["escape"] if analysis.escape else []), "AAAA"))


def drawn(axes, gid: str) -> np.ndarray:
    """Sorted heights of the markers that carry a label."""
    found = [c.get_offsets()[:, 1] for c in axes.collections if isinstance(c, PathCollection) and c.get_gid() == gid]
    return np.sort(np.concatenate(found))


# ----------------------------------------------------------------------------------------------- the page


@every_analysis
def test_the_page_is_one_file_that_needs_nothing_from_outside(analysis):
    html = html_of(analysis)
    parsed = Page(html)
    assert html.startswith("<!DOCTYPE html>")
    assert dict(parsed.tags)["html"] == {"lang": "en"}
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in parsed.tags}
    sources = [v for _, attrs in parsed.tags for k, v in attrs.items() if k in ("src", "href", "srcset", "style")]
    assert all(v.startswith(("data:image/png;base64,", "data:text/csv;", "#")) for v in sources)
    anchors = {attrs.get("id") for _, attrs in parsed.tags}
    assert {v[1:] for v in sources if v.startswith("#")} <= anchors
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)|fetch\(|XMLHttp|import\(", html)


@every_analysis
def test_every_tag_is_closed_in_order_and_every_picture_has_words(analysis):
    parsed = Page(html_of(analysis))
    assert parsed.open == []
    assert all(len(attrs["alt"]) > 40 for tag, attrs in parsed.tags if tag == "img")


@every_analysis
def test_nothing_missing_is_printed_as_none_or_nan(analysis):
    for text in (Page(html_of(analysis)).words, table(analysis)):
        assert not re.search(r"\b(None|nan|NaN|inf|True|False)\b", text)


def test_names_given_by_users_are_escaped():
    evil = "<script>alert(1)</script>"
    named = replace(
        ANALYSIS,
        task=evil,
        group={"name": evil, "order": 2},
        facts={"network": evil, evil: evil},
        options={"command": evil},
        layers=({"name": evil, "source": evil, "target": evil, "dim": 1, "dim_E": 1},),
        flat_directions=(FlatDirections(evil, "E", 1, 0.0),),
    )
    html = html_of(named)
    assert evil not in html
    assert html.count("&lt;script&gt;") >= 8
    assert html.count("<script") == len(re.findall(r"<script(?: type=\"application/json\" id=\"rest\")?>", html)) == 2


def test_the_first_screen_answers_what_with_which_numbers_and_then_why_and_what_to_do():
    text = Page(html_of(ANALYSIS)).words
    body = text[text.index("is an equivariant network stable") :]
    order = ["25 elements", "but unstable", "on E, the equivariant directions", "stable, none below zero"]
    order += ["the directions that break the symmetry", "unstable, 6 below zero", "on test data", "0.620"]
    order += ["0.830 on training data, 0.120 for a constant", "What to do", "What holds it", "The setting", "Why"]
    order += ["For papers"]
    places = [body.index(piece) for piece in order]
    assert places == sorted(places)


def test_a_card_claims_no_sign_that_a_krylov_run_cannot_prove():
    (_, off, *_) = screen.cards(replace(STABLE, spectra={**STABLE.spectra, "aug": {"E": EQV, "E_perp": RITZ}}))
    assert off.tone == "" and screen.cards(STABLE)[1].tone == "positive"
    assert screen.cards(ANALYSIS)[1].tone == "negative"


def test_the_page_holds_the_numbers_of_every_table():
    text = Page(html_of(ANALYSIS)).words
    for piece in ("−7.58000e-3", "×2", "softmax shift", "5,548", "gap 3.1", "not measured: |G| is too", "vacuous"):
        assert piece in text
    assert ANALYSIS.options["command"] in text  # as typed, to be copied
    assert [t.title for t in tables(UNFINISHED)] == ["Dimensions by layer", "The run"]


GIVEN = AsGiven(0.5, 0.14, 0.09, {**POINT.metrics, "train": 0.9, "test": 0.63})


def test_weights_off_e_are_shown_beside_their_projection_before_anything_else():
    p = replace(POINT, kind="file", distance_to_E=0.5, given=GIVEN)
    analysis = replace(ANALYSIS, point=p, points=(p,))
    (alert,) = screen.alerts(analysis)
    assert "0.500 away from E, 14 % of their norm" in alert and "another network" in alert
    assert "accuracy on test data 0.630 as given, 0.620 projected" in alert
    assert "equivariance error 0.090 as given, 4.0e-15 projected" in alert
    (card,) = (c for c in screen.cards(analysis) if "projected onto E" in c.label)
    assert card.value == "0.630 → 0.620"
    assert "stability.project(problem, weights)" in dict(advice.what_to_do(analysis))["To judge the weights given"]
    assert screen.sides(POINT) == []


def test_no_gain_is_said_loudly_and_a_gain_is_not():
    scored = {**POINT.metrics, "test_samples": 1000}
    for after, loud in ((0.63, True), (0.9, False), (0.2, True)):
        end = replace(ANALYSIS.escape, metrics_start=scored, metrics_end={**scored, "test": after})
        html = html_of(replace(ANALYSIS, escape=end))
        assert ('class="loud"' in html) == loud
        assert ("nothing measurable" in Page(html).words) == loud
    assert 'class="loud"' not in html_of(STABLE)


def test_a_search_that_failed_is_announced_before_anything_else():
    failed = replace(POINT, converged=False, grad_norm={"nominal": 1.5, "eqv": 0.5, "aug": 0.5})
    html = html_of(replace(ANALYSIS, point=failed, points=(failed,)))
    assert html.index("No point reached the tolerance") < html.index("<h1>")
    assert "NOT stationary" in table(replace(ANALYSIS, point=failed))


@pytest.mark.parametrize("kind", ["init", "trained", "file"])
def test_a_point_that_was_given_is_not_called_a_failed_search(kind):
    given = replace(POINT, kind=kind, converged=False, distance_to_E=0.5)
    alerts = " ".join(screen.alerts(replace(ANALYSIS, point=given)))
    assert f"taken as given ({kind})" in alerts and "No point reached" not in alerts and "0.500 away from E" in alerts


def test_a_network_no_better_than_a_constant_is_announced():
    useless = replace(POINT, metrics={**POINT.metrics, "loss_train": 2.3})
    assert any("constant predictor" in text for text in screen.alerts(replace(ANALYSIS, point=useless)))
    assert screen.alerts(ANALYSIS) == []


# ----------------------------------------------------------------------------------------------- the words


@pytest.mark.parametrize(("eqv", "aug"), list(itertools.product(STATUSES, STATUSES)))
@pytest.mark.parametrize("across", [s for s in STATUSES if s != "not_stationary"])
def test_every_combination_of_verdicts_has_a_headline_that_names_it(eqv, aug, across):
    chosen = {k: Verdict(s, None, f"because of {k}") for k, s in (("eqv", eqv), ("aug", aug), ("transverse", across))}
    analysis = replace(ANALYSIS, verdict=replace(VERDICTS, **chosen))
    sentence = words.headline(analysis).lower()
    if "not_stationary" in (eqv, aug):
        assert sentence.startswith("not a stationary point") and SAYS["transverse"][across] in sentence
    else:
        assert SAYS["eqv"][eqv] in sentence and SAYS["aug"][aug] in sentence
    named = [status for _, status, _, _ in words.why(analysis)]
    assert sorted(named) == sorted(s.replace("_", " ") for s in (eqv, aug, across, "not_stationary"))
    assert advice.what_to_do(analysis)
    assert "None" not in str(advice.what_to_do(analysis))


def test_an_unstable_point_is_told_with_count_curvature_and_what_to_do():
    assert words.headline(ANALYSIS) == (
        "A strict minimum among equivariant networks, but unstable for augmented training: "
        "6 directions out of E descend, the steepest with curvature -7.58e-3."
    )
    todo = dict(advice.what_to_do(ANALYSIS))
    assert "γ above γ* = 7.58e-3" in todo["What holds it"]
    assert "1/7.58e-3 = 132 of learning rate × steps" in todo["How fast it falls"]
    assert "17,415 steps" in todo["How fast it falls"]
    assert "0.0233 on E and 7.58e-3 on E⊥; E⊥ gives way first" in todo["How large a step may be"]
    assert (
        "R^aug 0.250 → 0.200 (changed by -0.0500), train accuracy 0.830 → 0.900" in todo["Where the instability leads"]
    )


TWISTED = HiddenLayer("A_0", 32, 0.5, 2, 1e-9, exchanged=2)
ENDS = {
    "kept": (dict(equivariance_error=3e-8, hidden=(TWISTED,)), "the weights leave E; the function stays equivariant."),
    "lost": (dict(equivariance_error=0.1), "the weights leave E and the function is no longer equivariant."),
    "back": (dict(equivariance_error=1e-9, off_equivariance=1e-9), "the weights return to E."),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_becomes_of_the_function_is_said_in_the_headline_on_a_card_and_where_the_instability_leads(end):
    changes, sentence = ENDS[end]
    analysis = replace(ANALYSIS, escape=replace(ANALYSIS.escape, norm_end=50.8, **changes))
    assert words.headline(analysis).endswith(f"-7.58e-3. Followed to its end, {sentence}")
    (card,) = (c for c in screen.cards(analysis) if c.label == "Weights off E where the instability ends")
    assert card.value == ("0 %" if end == "back" else "10 %")
    assert card.note in dict(advice.what_to_do(analysis))["Where the instability leads"]
    assert ("in A_0 the group also exchanges 2 of 2 channels" in card.note) == (end == "kept")
    assert ("not equivariant (equivariance error 0.10)" in card.note) == (end == "lost")


def test_a_run_that_did_not_keep_the_end_says_nothing_of_the_function_there():
    assert ANALYSIS.escape.equivariant is None
    assert "Followed" not in words.headline(ANALYSIS) and len(screen.cards(ANALYSIS)) == 3


def test_a_stable_point_needs_nothing_modulo_the_flat_directions_that_no_decay_lifts():
    assert "Nothing is needed" in dict(advice.what_to_do(STABLE))
    assert "modulo" not in words.headline(STABLE)
    assert "modulo" in words.headline(replace(STABLE, weight_decay=0.0))
    assert "modulo" in dict(advice.what_to_do(replace(STABLE, weight_decay=0.0)))["Nothing is needed"]


def test_a_descent_inside_e_is_not_blamed_on_augmentation():
    inside = Verdict("unstable", 1.0, "1 negative eigenvalues on E")
    saddle = dense([-1.0, 2.0], [1, 3])
    analysis = replace(
        STABLE,
        spectra={**STABLE.spectra, "aug": {"E": saddle, "E_perp": STABLE.spectra["aug"]["E_perp"]}},
        verdict=replace(STABLE.verdict, eqv=inside, aug=inside),
    )
    assert "one direction inside E descends, with curvature -1.00" in words.headline(analysis)
    assert "no penalty on E⊥" in dict(advice.what_to_do(analysis))["Leave the point"]


def test_a_penalty_from_ritz_values_is_called_a_bound():
    held = dict(advice.what_to_do(PARTIAL["Ritz values only"]))["What holds it"]
    assert "from below only" in held and "γ above 0.500 is enough with probability 0.999998" in held
    assert "at least one direction out of E descends" in words.headline(PARTIAL["Ritz values only"])


@pytest.mark.parametrize(
    ("x", "text"),
    [(0.0, "0"), (None, "–"), (float("nan"), "–"), (-7.5768e-3, "-7.58e-3"), (0.0123456, "0.0123"), (1140.69, "1,141")]
    + [(9.999, "10.0"), (99999.9, "1.00e5"), (0.00999999, "0.0100"), (17442, "17,442"), (2.5e-16, "2.50e-16")],
)
def test_numbers_keep_three_digits(x, text):
    assert words.number(x) == text


# ----------------------------------------------------------------------------------------------- the figures


@pytest.mark.parametrize("analysis", [ANALYSIS, STABLE], ids=["unstable", "stable"])
def test_the_spectrum_drawn_is_the_spectrum_stored(analysis):
    for axes, where in zip(FIGURES["spectrum"].draw(analysis).axes, ("E", "E_perp"), strict=True):
        stored = analysis.spectra["aug"][where]
        np.testing.assert_array_equal(drawn(axes, f"values {where}"), stored.density.values)
        ticks = next(c for c in axes.collections if c.get_gid() == f"ticks {where}").get_segments()
        lengths = [round(1 + end[0] - start[0]) for start, end in ticks]
        assert lengths == [e.multiplicity for e in stored.lowest]
        assert [start[1] for start, _ in ticks] == list(stored.density.values)
        assert f"{stored.dim:,}" in axes.get_title()


@pytest.mark.parametrize("analysis", [ANALYSIS, STABLE], ids=["unstable", "stable"])
def test_the_lowest_eigenvalues_drawn_are_those_stored_with_their_residuals(analysis):
    for axes, where in zip(FIGURES["lowest"].draw(analysis).axes, ("E", "E_perp"), strict=True):
        stored = analysis.spectra["aug"][where].lowest
        np.testing.assert_array_equal(drawn(axes, f"values {where}"), [e.value for e in stored])
        (bars,) = axes.containers[0].lines[2]
        reach = [(segment[:, 1].min(), segment[:, 1].max()) for segment in bars.get_segments()]
        np.testing.assert_array_equal(reach, [(e.value - e.residual, e.value + e.residual) for e in stored])
        assert {f"×{e.multiplicity}" for e in stored} <= {t.get_text() for t in axes.texts}


@pytest.mark.parametrize("name", ["spectrum", "lowest"])
@pytest.mark.parametrize("analysis", [ANALYSIS, STABLE], ids=["unstable", "stable"])
def test_zero_is_a_strong_line_within_every_panel_and_what_lies_below_is_hatched(name, analysis):
    for axes in FIGURES[name].draw(analysis).axes:
        (line,) = [x for x in axes.lines if x.get_gid() == "zero"]
        assert set(line.get_ydata()) == {0.0} and line.get_linewidth() >= 2
        low, high = axes.get_ylim()
        assert low < 0 < high
        assert any(patch.get_hatch() and patch.get_y() + patch.get_height() == 0 for patch in axes.patches)


def test_the_linear_part_of_the_axis_hides_no_eigenvalue_that_decides():
    values = np.array([-1e-8, 1e-3, 1.0, 1e2])
    assert 1e-9 < linear_threshold([values], 1e-12) <= 1e-8
    assert linear_threshold([values], 1e-6) == pytest.approx(1e-3)  # -1e-8 is zero within this error
    assert linear_threshold([np.linspace(1, 2, 999), np.array([3e-5, 7.0])], 1e-12) == pytest.approx(1e-5)
    assert linear_threshold([np.zeros(3), np.array([])], 1e-12) == 1.0


def test_points_are_drawn_with_their_gradients_and_zero_gradients_stay_visible():
    (axes,) = FIGURES["points"].draw(ANALYSIS).axes
    heights = drawn(axes, "point")
    assert heights[1] == POINT.grad_norm["eqv"] and axes.get_ylim()[0] <= heights[0] < heights[1]
    assert "2 (zero)" in {t.get_text() for t in axes.texts}
    assert any("index 0, accuracy 0.830" in label for label in axes.get_legend_handles_labels()[1])


@pytest.mark.parametrize("name", sorted(EVERY.keys() - {"stable", "the loss is the score", "an infinite group"}))
def test_every_analysis_renders_to_files_that_agree(name, tmp_path):
    analysis = EVERY[name]
    (tmp_path / "escape.png").write_bytes(b"of an earlier run")
    render(analysis, tmp_path)
    names = {"report.html"} | ({"spectrum.png", "lowest.png"} if analysis.spectra else set())
    names |= {"escape.png"} if analysis.escape else set()
    names |= {"points.png"} if len(analysis.points) > 1 else set()
    known = [x for x in (analysis.spectra or {}).get("aug", {}).values() if x.density]
    names |= {"density.png"} if known else set()
    assert {f.name for f in tmp_path.iterdir()} == names | {"paper"}
    drawn_too = {Path(n).stem for n in names if n.endswith(".png")}
    expected = {f"{n}.{kind}" for n in drawn_too for kind in ("pdf", "csv")} | {"figures.tex", "stability.bib"}
    assert {f.name for f in (tmp_path / "paper").iterdir()} == expected
    html = (tmp_path / "report.html").read_text()
    for picture in tmp_path.glob("*.png"):
        assert base64.b64encode(picture.read_bytes()).decode() in html


def test_the_same_analysis_gives_the_same_bytes():
    assert png(FIGURES["lowest"].draw(ANALYSIS)) == png(FIGURES["lowest"].draw(ANALYSIS))


# ----------------------------------------------------------------------------------------------- the terminal


@every_analysis
def test_the_table_fits_a_terminal(analysis):
    lines = table(analysis).splitlines()
    assert max(map(len, lines)) <= 100
    assert len(lines) <= 35
    assert not lines[-1].startswith("verdict:")


def test_the_table_holds_spectra_verdicts_and_escape():
    text = table(ANALYSIS)
    for piece in ("Z_5² (25 elements)", "E 4 + E⊥ 37", "-7.580e-3 ± 1.0e-13 ×2", "not stationary:", "0.250 → 0.200"):
        assert piece in text
    long = replace(ANALYSIS, task="t" * 150, facts={"network": "x" * 300, "k" * 120: "v"})
    assert max(map(len, table(long).splitlines())) <= 100
