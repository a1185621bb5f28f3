"""Results of strangers: read strictly, drawn as text, or refused in one line."""

from __future__ import annotations

import copy
import csv
import io
import json
import random
import re
from pathlib import Path

import pytest

from stability.base.errors import BadInput
from stability.base.schema import parse
from stability.eigen.spectrum import Eigenvalue
from stability.report import figures
from stability.report.__main__ import main
from stability.report.many.gallery import markdown
from stability.report.many.gallery import read as read_file
from stability.report.paper import figures_tex, tex
from stability.report.render import render
from stability.report.rows import as_csv
from stability.results import Analysis, published_schema

COMMITTED = Path("reports/trans-small-unstable/spectrum.json")
SMALL = Path("reports/counterexample/spectrum.json")
# What a mutation puts in the place of a value.
ODD = (
    None, True, -1, 0, 7, 2**53 + 1, 10**19, 1e308, -1e308, 5e-324, 0.5, "", "x", "\\input{/etc/passwd}", "$\\frac{$",
    "<script>", "=1+1", "\x00\x1b[2J", "../../etc/passwd", "λ" * 300, [], [[]], {}, {"a": {}}, [1, "a"],
)  # fmt: skip


def places(value: object, path: tuple = ()) -> list[tuple]:
    """Every place in plain JSON, long lists of numbers by their ends."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [path]
    for key, one in inner:
        if not (isinstance(value, list) and len(value) > 12 and 2 < key < len(value) - 2):
            found += places(one, (*path, key))
    return found


def mutated(data: dict, rng: random.Random) -> dict:
    """The same with one to three values replaced, removed, doubled or emptied."""
    data = copy.deepcopy(data)
    for _ in range(rng.randint(1, 3)):
        *way, last = rng.choice(places(data)[1:])
        holder = data
        for key in way:
            holder = holder[key]
        kind = rng.randrange(4)
        if kind == 0:
            del holder[last]
        elif kind == 1 and isinstance(holder, list):
            holder.insert(last, copy.deepcopy(holder[last]))
        elif kind == 2 and isinstance(holder[last], int | float) and not isinstance(holder[last], bool):
            holder[last] = holder[last] * rng.choice([-1, 0, 1e-300, 1e300])
        else:
            holder[last] = copy.deepcopy(rng.choice(ODD))
    return data


def outcome(text: str, folder: Path) -> str:
    """ "rendered" or "refused"; anything else raises."""
    file = folder / "spectrum.json"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        render(read_file(file), folder)
    except BadInput as error:
        assert str(error)
        return "refused"
    return "rendered"


def plain(path: Path) -> dict:
    """A committed result without its checksum, for which a mutation would be refused before it is looked at."""
    data = json.loads(path.read_text())
    data.pop("sha256", None)
    return data


@pytest.mark.parametrize("seed", [1])  # five hundred of each of two results are in `make slow`
def test_a_mutated_result_is_rendered_or_refused_and_nothing_else(seed, tmp_path, monkeypatch):
    # Pixels cost seconds a figure: what is drawn is built, and neither rasterised nor set.
    monkeypatch.setattr(figures, "png", lambda figure, dpi=130: b"")
    monkeypatch.setattr(figures, "pdf", lambda figure: b"")
    rng, data = random.Random(seed), plain(SMALL)
    found = [outcome(json.dumps(mutated(data, rng)), tmp_path) for _ in range(10)]
    assert set(found) == {"rendered", "refused"}


@pytest.mark.slow
@pytest.mark.parametrize("path", [SMALL, COMMITTED])
def test_five_hundred_mutations_are_rendered_or_refused_and_nothing_else(path, tmp_path):
    rng, data = random.Random(17), plain(path)
    found = [outcome(json.dumps(mutated(data, rng)), tmp_path) for _ in range(500)]
    assert set(found) == {"rendered", "refused"}


def test_mutations_of_a_whole_result_are_read_or_refused():
    rng, data, found = random.Random(5), plain(COMMITTED), set()
    for _ in range(150):
        try:
            found.add(type(Analysis.from_json(json.dumps(mutated(data, rng)))))
        except BadInput:
            found.add(BadInput)
    assert found == {Analysis, BadInput}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": -Infinity}', "-Infinity is no number"),
        ('{"a": 1e999}', "too large for a number"),
        ('{"a": ' + "9" * 5000 + "}", "an integer of 5000 digits"),
        ('{"a": 1, "a": 2}', "the key 'a' occurs twice"),
        ('{"a": ["\\ud800"]}', "half of a surrogate pair"),
        ('{"\\udfff": 1}', "half of a surrogate pair"),
    ],
)
def test_what_is_no_strict_json_is_refused_in_one_line(text, said, tmp_path, capsys):
    with pytest.raises(BadInput, match=said):
        parse(text)
    (tmp_path / "spectrum.json").write_text(text)
    assert main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_bytes_that_are_no_text_are_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "spectrum.json").write_bytes(b'{"schema": 1, "task": "\xff\xfe"}')
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["verdict"]["aug"].update(status="splendid"), "verdict/aug/status"),
        (lambda d: d["dims"].pop("E"), "dims"),
        (lambda d: d["group"].update(order="many"), "group/order"),
        (lambda d: d.update(samples=-1), "samples"),
        (lambda d: d["spectra"]["aug"]["E"]["lowest"][0].update(value=None), "spectra/aug/E/lowest/0/value"),
        (lambda d: d.update(sectors={}), "sectors"),
        (lambda d: d.update(versions=[1]), "versions"),
    ],
)
def test_a_result_that_does_not_keep_to_the_schema_is_refused_with_the_place(change, said):
    data = plain(SMALL)
    Analysis.from_json(json.dumps(data))
    change(data)
    with pytest.raises(BadInput, match=f"does not keep to schema 1: at {said}"):
        Analysis.from_json(json.dumps(data))


def test_the_published_schema_is_the_one_that_files_are_held_to_and_committed_results_keep_to_it():
    assert Path("docs/spectrum.schema.json").read_text() == published_schema()
    for file in sorted(Path("reports").glob("*/spectrum.json")):
        assert Analysis.read(file.read_text()).complete


def test_a_digit_changed_after_writing_is_refused_and_what_a_run_costs_is_no_part_of_the_checksum():
    text = Analysis.from_json(SMALL.read_text()).to_json()
    assert Analysis.read(text) == Analysis.from_json(text)
    data = json.loads(text)
    data["cost"]["seconds"], data["options"]["command"] = 1e6, "another"
    assert Analysis.read(json.dumps(data)).cost["seconds"] == 1e6
    data["spectra"]["aug"]["E_perp"]["lowest"][0]["value"] += 1e-12
    with pytest.raises(BadInput, match="does not match its checksum"):
        Analysis.read(json.dumps(data))


HOSTILE = "\\input{/etc/passwd}\n\\immediate\\write18{id}^^5cend #1 $x$ ~&%_ \r\x0b\u2028\\end{figure}"


def hostile() -> Analysis:
    """A result whose every free text is hostile to whatever it is written into."""
    data = plain(COMMITTED)

    def worse(value: object, key: str = "") -> object:
        if isinstance(value, dict):
            return {k: worse(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [worse(v, key) for v in value]
        kept = key in ("status", "sign", "space", "kind") or value == "trivial"
        return value + HOSTILE if isinstance(value, str) and not kept else value

    return Analysis.from_json(json.dumps(worse(data)))


def test_no_text_of_a_file_is_a_command_in_latex():
    text = figures_tex(hostile(), [f for f in figures.FIGURES.values() if f.applies(hostile())][:5])
    commands = set(re.findall(r"\\([A-Za-z]+)", text))
    assert not commands & {"input", "immediate", "write", "openout", "catcode", "def", "csname", "include", "loop"}
    lines = text.split("\n")
    assert all(line.startswith("%") for line in lines[:3]) and text.count(r"\end{figure}") == text.count(
        r"\begin{figure}"
    )
    assert "^^" not in text and not re.search("[\x00-\x09\x0b-\x1f\u2028\x7f]", text)
    escaped = tex(HOSTILE)
    assert not re.search(r"(?<!\\)[#&%_~]", escaped.replace(r"\textasciitilde{}", "")) and escaped.isascii()


def test_every_character_becomes_ascii_that_latex_sets():
    for code in [*range(0x600), *range(0x2000, 0x2300), 0x1F600, 0xD800, 0x10FFFF]:
        assert tex(chr(code)).isascii() and "\n" not in tex(chr(code)), hex(code)


def test_hostile_names_are_drawn_and_their_page_runs_nothing(tmp_path):
    render(hostile(), tmp_path)
    names = {f.name for f in tmp_path.rglob("*")}
    assert names <= {*(f"{n}.{e}" for n in figures.FIGURES for e in ("png", "pdf", "csv")), "report.html", "paper",
                     "figures.tex", "stability.bib"}  # fmt: skip


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1+2", "@SUM(A1)", "\t=1", "\r@x", " =1"])
def test_a_name_that_a_spreadsheet_would_run_is_text_there(name):
    text = as_csv((("irrep", "value"), [(name, -1.5)]))
    (_, (cell, value)) = csv.reader(io.StringIO(text))
    assert cell.startswith("'") and value == "-1.5"


def test_names_hold_no_markup_in_the_gallery():
    from stability.report.many.gallery import Entry

    entry = Entry("run", "a](http://evil) <img src=x>\n# b", "*x* [y](z)", None, "report.html")
    heading = markdown([entry]).splitlines()[4]
    assert heading == r"## [a\](http://evil) \<img src=x\> # b](run/report.html)"
    assert r"\*x\* \[y\](z)" in markdown([entry])


def test_other_records_are_read_as_strictly():
    assert Eigenvalue.from_json(Eigenvalue(1.0, 0.0, 2, "q=1").to_json()) == Eigenvalue(1.0, 0.0, 2, "q=1")
    for text in ("[]", '{"value": "x", "residual": 0}', '{"residual": 0}', '{"value": 1, "residual": NaN}', "nonsense"):
        with pytest.raises(BadInput):
            Eigenvalue.from_json(text)
