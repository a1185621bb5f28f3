"""Records go to JSON and back, whatever they hold; what is no record is refused in one line."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import pytest
import torch
from brute import bad
from torch import Tensor

from stability.base.record import Record, build, frame, known, plain


@dataclass(frozen=True)
class Inner:
    name: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Outer(Record):
    count: int
    inner: Inner
    by_name: dict[str, Inner]
    direction: Tensor
    bound: float | None = None


DIRECTION = torch.tensor([[0.1, -2.0]], dtype=torch.float64)
OUTER = Outer(3, Inner("a", (1.0, 0.1)), {"b": Inner("b", ())}, DIRECTION)


def test_nested_records_dicts_tuples_and_tensors_come_back_bit_for_bit():
    found = Outer.from_json(OUTER.to_json())
    assert (found.count, found.inner, found.by_name, found.bound) == (3, OUTER.inner, OUTER.by_name, None)
    assert torch.equal(found.direction, DIRECTION) and found.direction.dtype == torch.float64


def test_json_is_strict_and_what_is_not_finite_is_null():
    text = Outer(1, Inner("a", (math.nan, math.inf, 1.0)), {}, DIRECTION).to_json()
    assert json.loads(text)["inner"]["values"] == [None, None, 1.0] and "NaN" not in text


def test_keys_of_a_later_version_are_passed_over_and_other_types_refused():
    later = json.loads(OUTER.to_json()) | {"later": 1}
    assert Outer.from_json(json.dumps(later)).inner == OUTER.inner
    with bad("count"):
        Outer.from_json(json.dumps(later | {"count": "three"}))


def test_a_frame_has_a_line_a_result_with_the_fields_that_fit_a_cell():
    table = frame([OUTER, OUTER])
    assert table["index"].tolist() == [0, 1] and table["count"].tolist() == [3, 3]
    assert "inner" not in table and str(OUTER) == "Outer: count 3"


def test_what_may_be_missing_is_named_where_it_is():
    assert known("λ", 0.0) == 0.0 and build(float | None, None) is None and plain((1, None)) == [1, None]
    with pytest.raises(ValueError, match="λ is not known here"):
        known("λ", None)


def test_a_record_is_shown_short_in_a_shell_and_by_its_text_in_a_notebook():
    @dataclass(frozen=True)
    class Long(Record):
        name: str
        values: tuple[float, ...]

    found = Long("<x>", tuple(map(float, range(1000))))
    assert repr(found).endswith("Long(name='<x>', values=(0.0, 1.0, 2.0, ...))")
    assert found._repr_html_() == "<pre>Long: name &lt;x&gt;</pre>"
