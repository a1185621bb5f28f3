"""No figure draws what does not exceed its error, and no caption claims a sign or a fall that rounding could make."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stability.effects.breaking import Kernel
from stability.eigen.spectrum import Eigenvalue
from stability.report import figures
from stability.report.figures import FIGURES
from stability.report.figures.figure import png
from stability.report.render import page
from stability.report.rows import as_csv
from stability.results import Analysis
from tests.test_report import EQV, PERP, Page
from tests.test_report_figures import FULL, GRID, LOWEST, OFF, ON, PICTURES, RUN, T, lines

EPS = np.finfo(float).eps
FLAT = tuple(1 + EPS * k for k in (0, 3, 0, -3, 1))


def having(**pictures) -> Analysis:
    return replace(FULL, pictures=replace(PICTURES, **pictures))


def blurred(error: float) -> Analysis:
    """Every eigenvalue as it is, its error far above."""
    spectra = {"E": replace(EQV, error=error), "E_perp": replace(PERP, error=error)}
    sectors = tuple(replace(x, error=error) for x in FULL.sectors)
    return replace(FULL, spectra={**FULL.spectra, "aug": spectra}, sectors=sectors)


HISTORY = tuple(tuple(replace(e, residual=1.0) for e in row) for row in FULL.training.lowest)
NEAR = Kernel("A_0", 0, 1, ("e", "g"), GRID, (GRID, tuple(tuple(x + 1e-17 for x in row) for row in GRID)), GRID)
EMPTY = Kernel("A_0", 0, 1, ("e", "g"), ((0.0, 0.0),), (((1e-18, 0.0),), ((0.0, -1e-18),)), ((0.0, 0.0),))
SAME = replace(PICTURES.breaking, losses=((0.5, 0.5), (0.7, 0.7 + 4 * EPS)), end=(0.3, 0.3))
NOISE = {
    "sectors": blurred(10.0),
    "frequencies": replace(
        FULL,
        sectors=tuple(replace(x, lowest=(Eigenvalue(3e-3 + k * 1e-17, 1e-17),)) for k, x in enumerate(FULL.sectors)),
    ),
    "mode": replace(FULL, mode=replace(FULL.mode, moved=1e-14)),
    "choices": blurred(10.0),
    "slices": having(slices={"E_perp": replace(OFF, aug=FLAT, nominal=FLAT), "E": ON}),
    "plane": having(plane=replace(PICTURES.plane, aug=tuple(FLAT for _ in PICTURES.plane.aug))),
    "flow": replace(blurred(0.6), pictures=PICTURES),
    "steps": replace(blurred(30.0), pictures=PICTURES),
    "kernel": having(kernel=NEAR),
    "breaking": having(breaking=SAME),
    "training": replace(FULL, training=replace(FULL.training, lowest=HISTORY)),
}


@pytest.mark.parametrize("name", NOISE)
def test_a_figure_whose_content_is_within_its_error_is_not_drawn_and_the_page_says_why(name):
    figure = FIGURES[name]
    assert figure.applies(FULL) and figure.omitted(FULL) is None
    assert not figure.applies(NOISE[name])
    why = figure.omitted(NOISE[name])
    assert why and dict(figures.omitted(NOISE[name]))[figure.title] == why
    with pytest.raises(ValueError, match="does not apply"):
        figure.caption(NOISE[name])
    html = page(NOISE[name], {f.name: "AAAA" for f in figures.applying(NOISE[name])})
    assert f'id="{name}"' not in html
    assert figure.title.lower() in Page(html).words.split("Not drawn:")[1]


def test_a_kernel_of_zeros_is_rounding_beside_the_weights_that_left():
    assert not FIGURES["kernel"].applies(having(kernel=EMPTY))
    assert not FIGURES["kernel"].applies(having(kernel=EMPTY, flow=None))
    real = replace(EMPTY, after=(((1e-3, 0.0),), ((0.0, -1e-3),)))
    assert FIGURES["kernel"].applies(having(kernel=real)) and "depends on the place" in FIGURES["kernel"].caption(
        having(kernel=real)
    )


def test_single_precision_has_a_coarser_rounding():
    apart = having(breaking=replace(SAME, losses=((0.5, 0.5), (0.7, 0.7 + 1e-6))))
    assert FIGURES["breaking"].applies(apart) and not FIGURES["breaking"].applies(replace(apart, dtype="float32"))


def test_only_the_slice_that_changes_is_drawn():
    a = having(slices={"E_perp": OFF, "E": replace(ON, aug=FLAT, nominal=FLAT, eqv=FLAT)})
    assert len(FIGURES["slices"].draw(a).axes) == 1
    assert "On E no risk changes by more than its rounding" in FIGURES["slices"].caption(a)
    assert len(FIGURES["slices"].draw(FULL).axes) == 2 and "On E all three agree" in FIGURES["slices"].caption(FULL)


@pytest.mark.parametrize(
    ("aug", "said"),
    [
        ((0.9, 0.97, 1.0, 0.97, 0.9), "falls on the way out, by 0.100"),
        ((1.1, 1.03, 1.0, 1.03, 1.1), "rises on both sides"),
        (FLAT, "does not change by more than its rounding"),
        ((1 - 4 * EPS, 1.0, 1.0, 1.0, 1 - 4 * EPS), "does not change by more than its rounding"),
    ],
)
def test_a_fall_is_claimed_only_beyond_rounding(aug, said):
    assert said in FIGURES["slices"].caption(having(slices={"E_perp": replace(OFF, aug=aug), "E": ON}))


def test_a_slope_of_rounding_is_not_printed_as_a_number():
    still = replace(OFF, nominal_slope=-2.3e-19, nominal=tuple(1 + t * t for t in T))
    text = FIGURES["slices"].caption(having(slices={"E_perp": still, "E": ON}))
    assert "slope is zero to within rounding" in text and "e-19" not in text
    assert "its slope there is -0.300" in FIGURES["slices"].caption(FULL)


@pytest.mark.parametrize(
    ("error", "values", "said"),
    [
        (0.0, (0.2, -0.5), "a saddle whose descent leaves E"),
        (0.0, (-0.2, 0.5), "a saddle inside E"),
        (0.3, (0.2, -0.5), "flat within the error on E"),
        (0.6, (0.2, -0.5), "flat within the error on E and off E"),
    ],
)
def test_the_point_of_a_plane_is_named_by_signs_beyond_the_error(error, values, said):
    a = replace(blurred(error), pictures=replace(PICTURES, plane=replace(PICTURES.plane, value_E=values[0])))
    a = replace(a, pictures=replace(a.pictures, plane=replace(a.pictures.plane, value_E_perp=values[1])))
    assert f"the point is {said}." in FIGURES["plane"].caption(a)


def test_a_risk_that_only_rounds_is_not_drawn_beside_the_flow_and_one_that_rises_is_not_said_to_fall():
    still = having(flow=replace(RUN, risk=(1.0, 1.0 + EPS, 1.0 - EPS)))
    beside = FIGURES["flow"].draw(still).axes[1]
    assert not lines(beside, "risk") and "rounding" in beside.texts[0].get_text()
    assert "changes by no more than its rounding" in FIGURES["flow"].caption(still)
    rising = having(flow=replace(RUN, risk=(1.0, 0.9, 0.95)))
    assert "rises first after t = 1.00" in FIGURES["flow"].caption(rising)
    assert "falls throughout" in FIGURES["flow"].caption(FULL)


def test_transforms_that_end_together_are_not_told_apart_by_rounding():
    text = FIGURES["breaking"].caption(having(breaking=replace(PICTURES.breaking, end=(0.1, 0.1 + 1e-7))))
    assert "they end at 0.905, within 9e-8 of each other" in text
    assert "between 0.135 and 0.905" in FIGURES["breaking"].caption(FULL)


def test_choices_claim_no_attraction_and_count_what_is_zero_within_the_error_of_the_point_judged():
    above = tuple(replace(e, value=abs(e.value)) for e in LOWEST)
    a = replace(FULL, points=tuple(replace(p, lowest=above) for p in FULL.points))
    assert "none was found below zero." in FIGURES["choices"].caption(a)
    assert "attracts" not in FIGURES["choices"].caption(a)
    assert "leaves E at 2 of 2" in FIGURES["choices"].caption(FULL)
    vague = replace(a, spectra={**a.spectra, "aug": {"E": EQV, "E_perp": replace(PERP, error=0.2)}})
    assert "zero within the error at 2" in FIGURES["choices"].caption(vague)


def test_nothing_off_e_leaves_no_choice_and_no_history():
    only = (LOWEST[0],)
    a = replace(
        FULL,
        points=tuple(replace(p, lowest=only) for p in FULL.points),
        training=replace(FULL.training, lowest=tuple((row[0],) for row in FULL.training.lowest)),
    )
    assert not FIGURES["choices"].applies(a) and not FIGURES["training"].applies(a)
    assert page(a, {f.name: "AAAA" for f in figures.applying(a)})


def test_a_risk_that_fell_by_rounding_did_not_fall():
    e = FULL.escape
    said = FIGURES["escape"].caption(replace(FULL, escape=replace(e, risk_end=e.risk_start - 2 * EPS)))
    assert "did not fall" in said and "falls by 0.0500" in FIGURES["escape"].caption(FULL)


def test_frequencies_are_numbered_as_the_sectors_are_named_and_marked_by_their_own_errors():
    axes = FIGURES["frequencies"].draw(FULL).axes[0]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["2", "0", "1"]
    assert {(t.get_position()[0] % 3, t.get_position()[1] % 3) for t in axes.texts} == {(1, 0), (2, 0)}  # q and −q
    vague = tuple(replace(x, error=1.0) if x.irrep == "trivial" else x for x in FULL.sectors)
    assert len(FIGURES["frequencies"].draw(replace(FULL, sectors=vague)).axes[0].texts) == 2
    assert "was not searched" in FIGURES["frequencies"].caption(FULL)


def test_where_r_aug_only_rounds_along_a_line_the_scale_is_that_of_r():
    a = having(slices={"E_perp": replace(OFF, value=0.0, aug=FLAT), "E": ON})
    low, high = FIGURES["slices"].draw(a).axes[0].get_ylim()
    assert low < -0.4 and high > 0.4  # R goes to ±0.4


def test_a_lowest_eigenvalue_of_rounding_is_said_to_be_zero_within_its_error():
    ends = (Eigenvalue(-1e-18, 1e-19), Eigenvalue(0.5, 1e-12))
    a = replace(FULL, sectors=tuple(replace(x, lowest=ends, highest=ends[1:]) for x in FULL.sectors))
    said = FIGURES["sectors"].caption(a)
    assert "No eigenvalue below zero was found in any sector" in said and "zero within its error, of trivial" in said


def test_no_epoch_is_called_unstable_by_less_than_the_error_of_the_point_judged():
    row = (LOWEST[0], replace(LOWEST[1], value=-1e-13, residual=1e-16))
    a = replace(FULL, training=replace(FULL.training, lowest=(row, row)))
    assert "at no epoch looked at is E proved unstable" in FIGURES["training"].caption(a)
    assert "at every epoch looked at" in FIGURES["training"].caption(FULL)


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_a_risk_that_overflows_is_left_white_and_told_where_it_is_finite(bad, tmp_path):
    over = replace(OFF, aug=(bad, 1.1, 1.0, 1.1, bad), nominal=(bad, 1.1, 1.0, 1.1, 1.2))
    plane = replace(PICTURES.plane, aug=((bad, 1.0, 1.0, 1.0, 1.2), *PICTURES.plane.aug[1:]))
    a = having(slices={"E_perp": over, "E": ON}, plane=plane)
    again = Analysis.from_json(a.to_json())
    for name in ("slices", "plane"):
        figure = FIGURES[name]
        assert png(figure.draw(a)) == png(figure.draw(again))
        assert figure.caption(a) == figure.caption(again) and figure.alt(a) == figure.alt(again)
        assert as_csv(figure.rows(a)) == as_csv(figure.rows(again))
    assert "rises on both sides" in FIGURES["slices"].caption(a)


def test_titles_name_nothing_as_breaking_where_no_eigenvalue_is_below_zero():
    above = tuple(replace(x, lowest=(replace(x.lowest[0], value=abs(x.lowest[0].value)),)) for x in FULL.sectors)
    for name, said in (("sectors", "no eigenvalue found below zero"), ("frequencies", "no frequency found unstable")):
        assert said in FIGURES[name].draw(replace(FULL, sectors=above)).axes[0].get_title()
        assert "which" in FIGURES[name].draw(FULL).axes[0].get_title()


@pytest.mark.parametrize("level", [0.0, -0.3])
def test_a_response_that_is_one_value_but_for_rounding_is_drawn_in_one_colour(level):
    flat = tuple(tuple(level * (1 + k * EPS) for k in row) for row in ((0, 3), (-2, 1)))
    axes = FIGURES["mode"].draw(replace(FULL, mode=replace(FULL.mode, response=flat))).axes
    (image,) = [i for a in axes for i in a.images if i.get_gid() == "mode channel 0 of A_0"]
    low, high = image.get_clim()
    assert high - low > 1e-3 and low < level < high
