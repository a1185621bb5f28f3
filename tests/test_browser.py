"""The page in a browser without a network: sort, filter, hover, zoom, switch; on paper, narrow, and without scripts."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace

import pytest

from stability.eigen.spectrum import Eigenvalue
from stability.report import explore, render
from stability.spectra.sectors import Sector
from tests.chromium import Chromium, executable
from tests.test_report import ANALYSIS, POINT

pytestmark = [
    pytest.mark.skipif(executable() is None, reason="no chromium on the path: apt install chromium"),
    pytest.mark.skipif(
        importlib.util.find_spec("websocket") is None, reason="no websocket-client: pip install -e '.[browser]'"
    ),
]


def sector(irrep: str, values: list[float], dim: int) -> Sector:
    ends = tuple(Eigenvalue(v, 1e-9 * (i + 1), dim * (i + 1), irrep) for i, v in enumerate(values))
    negative = sum(e.multiplicity for e in ends if e.value < 0)
    return Sector(irrep, dim, "real", 4, 4, ends, ends[::-1], negative, "dense", 4, 0.1, True, 1e-12)


SECTORS = (
    sector("trivial", [1.6e-4, 3e-3, 86.0], 1),
    sector("q=(0,1)", [-7.58e-3, 3e-3, 264.0], 2),
    sector("q=(1,1)", [-1e-4, 2e-3, 40.0], 2),
)
OTHER = replace(POINT, start=1, lowest=(Eigenvalue(2e-4, 1e-12, 1, "trivial"), Eigenvalue(-0.5, 1e-9, 2, "q=(0,1)")))
SEVERAL = replace(ANALYSIS, sectors=SECTORS, points=(replace(POINT, lowest=OTHER.lowest), OTHER))
VISIBLE = "[...document.querySelectorAll('#eigenvalues tbody tr')].filter(r => !r.hidden)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = Chromium(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    render(SEVERAL, folder)
    return folder / "report.html"


def place(browser: Chromium, expression: str) -> tuple[float, float]:
    """The middle of an element, in the window."""
    x, y, w, h = browser.js(
        f"(() => {{ const e = {expression}; e.scrollIntoView({{ block: 'center' }});"
        "const r = e.getBoundingClientRect();"
        "return [r.x, r.y, r.width, r.height]; })()"
    )
    return x + w / 2, y + h / 2


def test_the_page_asks_for_nothing_but_itself_and_complains_of_nothing(browser, page):
    browser.open(page)
    assert [u for u in browser.requested() if not u.startswith("data:")] == [page.as_uri()]
    assert browser.complaints() == []
    assert browser.js("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert browser.js("fetch('https://example.org/').then(() => 'reached', () => 'cut')") == "cut"


def test_a_click_on_a_head_sorts_by_number_and_another_one_turns_the_order(browser, page):
    browser.open(page)
    browser.choose("#point", "")
    browser.choose("#space", "")
    values = f"{VISIBLE}.map(r => +r.dataset.value)"
    browser.click("#eigenvalues th:nth-child(4) button")
    assert browser.js(values) == sorted(r.value for r in explore.rows(SEVERAL))
    assert browser.js("document.querySelector('#eigenvalues th:nth-child(4)').getAttribute('aria-sort')") == "ascending"
    browser.click("#eigenvalues th:nth-child(4) button")
    assert browser.js(values) == sorted((r.value for r in explore.rows(SEVERAL)), reverse=True)
    browser.click("#eigenvalues th:nth-child(3) button")
    names = browser.js(f"{VISIBLE}.map(r => r.dataset.irrep)")
    assert names == sorted(names)
    assert browser.complaints() == []


def test_filters_and_search_leave_the_rows_they_name_in_table_and_plot(browser, page):
    browser.open(page)
    browser.choose("#space", "")
    browser.choose("#irrep", "q=(1,1)")
    rows = [r for r in explore.rows(SEVERAL) if r.irrep == "q=(1,1)"]
    assert sorted(browser.js(f"{VISIBLE}.map(r => +r.dataset.value)")) == sorted(r.value for r in rows)
    assert browser.js("document.querySelectorAll('#plot svg path').length") == len(rows)
    browser.choose("#sign", "negative")
    assert browser.js(f"{VISIBLE}.map(r => +r.dataset.value)") == [-1e-4]
    browser.choose("#irrep", "")
    browser.choose("#sign", "")
    browser.choose("#search", "q=(0,1)")
    assert set(browser.js(f"{VISIBLE}.map(r => r.dataset.irrep)")) == {"q=(0,1)"}
    browser.choose("#search", "no such thing")
    assert browser.js(f"{VISIBLE}.length") == 0
    assert "nothing fits" in browser.js("document.querySelector('#plot svg').textContent")


def test_switching_the_point_shows_the_eigenvalues_of_that_point(browser, page):
    browser.open(page)
    points = browser.js("[...document.querySelectorAll('#point option')].map(o => o.value)")
    assert points == ["", "1: minimum, judged", "2: minimum"]
    browser.choose("#space", "")
    browser.choose("#point", "2: minimum")
    assert sorted(browser.js(f"{VISIBLE}.map(r => +r.dataset.value)")) == [-0.5, 2e-4]


def test_pointing_at_an_eigenvalue_tells_value_residual_and_irrep(browser, page):
    browser.open(page)
    browser.choose("#irrep", "q=(0,1)")
    x, y = place(browser, "document.querySelector('#plot svg path.negative')")
    browser.mouse("mouseMoved", x, y)
    told = browser.js("document.getElementById('told').textContent")
    for piece in ("−7.580e−3", "± 1.000e−9", "multiplicity 2", "irrep q=(0,1)", "on E⊥", "negative"):
        assert piece in told
    assert browser.js("document.querySelector('tr.chosen').dataset.value") == "-0.00758"
    assert browser.js("document.querySelectorAll('#plot .ring').length") == 1


def test_arrow_keys_walk_through_the_eigenvalues_without_a_mouse(browser, page):
    browser.open(page)
    browser.choose("#irrep", "q=(0,1)")
    browser.js("document.querySelector('#plot svg').focus()")
    seen = []
    for _ in range(3):
        browser.key("ArrowRight")
        seen.append(browser.js("document.querySelector('tr.chosen').dataset.value"))
    assert list(map(float, seen)) == [-7.58e-3, 3e-3, 264.0]
    browser.key("ArrowLeft")
    assert float(browser.js("document.querySelector('tr.chosen').dataset.value")) == 3e-3


def test_dragging_zooms_into_a_rectangle_and_the_whole_spectrum_comes_back(browser, page):
    browser.open(page)
    everything = browser.js("document.querySelectorAll('#plot svg path').length")
    assert everything >= 6
    x, y = place(browser, "document.querySelector('#plot svg path.negative')")
    browser.mouse("mousePressed", x - 30, y - 30, pressed=True)
    browser.mouse("mouseMoved", x + 15, y + 30, pressed=True)
    assert browser.js("document.querySelectorAll('#plot .box').length") == 1
    browser.mouse("mouseReleased", x + 15, y + 30)
    assert 1 <= browser.js("document.querySelectorAll('#plot svg path').length") < everything
    browser.click("#reset")
    assert browser.js("document.querySelectorAll('#plot svg path').length") == everything
    browser.click("#closer")
    assert browser.js("document.querySelectorAll('#plot svg path').length") < everything
    assert browser.complaints() == []


def test_zero_is_drawn_and_named_and_what_descends_is_shaded(browser, page):
    browser.open(page)
    line = browser.js("+document.querySelector('#plot svg line.zero').getAttribute('y1')")
    shade = browser.js("+document.querySelector('#plot svg rect.below').getAttribute('y')")
    assert line == pytest.approx(shade)
    shapes = "[...document.querySelectorAll('#plot svg path')]"
    names = browser.js(f"{shapes}.map(p => p.className.baseVal)")
    heights = [float(re.match(r"M\S+ ([\d.]+)", d)[1]) for d in browser.js(f"{shapes}.map(p => p.getAttribute('d'))")]
    assert all((y > line) == name.startswith("negative") for name, y in zip(names, heights, strict=True))


def test_without_scripts_everything_that_matters_is_there_and_no_control_is_dead(browser, page):
    browser.open(page, scripts=False)
    shot = browser.send("Page.captureScreenshot")["data"]
    text = browser.send("DOM.getDocument", depth=-1)
    browser.send("Emulation.setScriptExecutionDisabled", value=False)
    assert len(shot) > 10_000 and text
    for hidden in ("controls", "plot"):
        assert browser.js(f"getComputedStyle(document.getElementById('{hidden}')).display") == "none"
    assert browser.js(f"{VISIBLE}.length") == len(explore.rows(SEVERAL))
    assert browser.js("document.querySelectorAll('th button').length") == 0
    assert "unstable for augmented training" in browser.js("document.body.innerText")


WIDTHS = (340, 768, 1280)
# Leaves of text that reach beyond the window although no box of their own scrolls them.
OVERFLOWING = """[...document.querySelectorAll('body *')].filter(e => {
  if (!e.getClientRects().length || e.closest('.scroll, picture, pre, svg')) return false;
  const r = e.getBoundingClientRect();
  return r.width > 1 && (r.right > innerWidth + 1 || r.left < -1);
}).map(e => e.tagName + ' ' + e.className)"""
# Blocks that follow each other on the page and share some of it.
OVERLAPPING = """(() => {
  const found = [], kinds = 'h1, h2, .headline, .alert, .card, .todo li, figure, .scroll, dl, .remark';
  const named = (e) => e.className + '/' + e.tagName;
  const boxes = [...document.querySelectorAll(kinds)].filter(e => e.getClientRects().length);
  const rects = boxes.map(e => e.getBoundingClientRect());
  for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
    if (boxes[i].contains(boxes[j]) || boxes[j].contains(boxes[i])) continue;
    const w = Math.min(rects[i].right, rects[j].right) - Math.max(rects[i].left, rects[j].left);
    const h = Math.min(rects[i].bottom, rects[j].bottom) - Math.max(rects[i].top, rects[j].top);
    if (w > 1 && h > 1) found.push(named(boxes[i]) + ' ' + named(boxes[j]));
  }
  return found;
})()"""
# Ratio of luminances of every piece of text and what lies beneath it (WCAG 2.1, 1.4.3), where it is too small.
PALE = """(() => {
  const numbers = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => { const f = (v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
    return .2126 * f(r) + .7152 * f(g) + .0722 * f(b); };
  const beneath = (e) => { for (; e; e = e.parentElement) { const c = numbers(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  return [...document.querySelectorAll('body *')].filter(e => e.getClientRects().length && !e.closest('svg, script')
      && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())).map(e => {
    const [a, b] = [light(numbers(getComputedStyle(e).color)), light(beneath(e))].sort((x, y) => y - x);
    return [(a + .05) / (b + .05), e.tagName + '.' + e.className];
  }).filter(x => x[0] < 4.5).map(x => x[1] + ' ' + x[0].toFixed(2));
})()"""


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_or_overlaps_and_all_text_stands_out_at_every_width_in_both_colour_schemes(
    browser, page, width, scheme
):
    browser.open(page, width=width, height=700, scheme=scheme)
    assert browser.js("document.documentElement.scrollWidth") <= width
    assert browser.js(OVERFLOWING) == []
    assert browser.js(OVERLAPPING) == []
    assert browser.js(PALE) == []
    background = browser.js("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")


def test_an_orange_of_too_little_contrast_and_a_box_that_overflows_are_noticed(browser, page):
    browser.open(page)
    browser.js("document.querySelector('.status.unstable').style.background = '#d55e00'")
    browser.js("document.querySelector('.card').style.marginRight = '-30rem'")
    browser.js("document.querySelector('.card').style.width = '120rem'")
    assert [x for x in browser.js(PALE) if x.startswith("SPAN.status unstable")]
    assert browser.js(OVERFLOWING) and browser.js(OVERLAPPING)


def test_a_phone_sees_what_breaks_the_symmetry_first_and_reads_the_plot(browser, page):
    browser.open(page, width=390, height=844)
    shown = browser.js("document.querySelector('#spectrum img').currentSrc.length")
    browser.open(page, width=1280)
    assert shown != browser.js("document.querySelector('#spectrum img').currentSrc.length")
    browser.open(page, width=390, height=844)
    assert browser.js("document.querySelector('#spectrum img').getBoundingClientRect().width") <= 390
    size = browser.js("document.querySelector('#plot text').getBoundingClientRect().height")
    assert size >= 10


def test_on_paper_there_are_no_controls_and_no_pages_of_raw_rows_and_nothing_is_cut(browser, page):
    browser.open(page, width=720, media="print")
    assert browser.js("getComputedStyle(document.getElementById('controls')).display") == "none"
    assert browser.js("getComputedStyle(document.querySelector('.tall')).maxHeight") == "none"
    visible = "[...document.querySelectorAll('#eigenvalues tbody tr')].filter(r => r.getClientRects().length).length"
    assert browser.js(visible) == min(30, len(explore.rows(SEVERAL)))
    assert browser.js("document.documentElement.scrollWidth") <= 720
    cut = "[...document.querySelectorAll('pre, .scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    assert browser.js(cut) == 0
    assert browser.js(PALE) == []
    assert len(browser.send("Page.printToPDF")["data"]) > 10_000


def test_the_answer_and_what_to_do_fit_the_first_screen_beside_the_picture(browser, page):
    browser.open(page, width=1280, height=800)
    bottom = browser.js("document.querySelector('.cards').getBoundingClientRect().bottom")
    todo = browser.js("document.querySelector('.todo').getBoundingClientRect().bottom")
    picture = browser.js("document.querySelector('#spectrum img').getBoundingClientRect().top")
    assert bottom < 560 and todo < 800 and picture < 560
