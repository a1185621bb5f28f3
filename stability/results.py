"""What an analysis returns: frozen dataclasses that round-trip through JSON (schema 1, docs/spectrum.schema.json)."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stability.base.errors import BadInput
from stability.base.record import Record, build, plain, to_json
from stability.base.schema import NUMBER, PLAIN, Validator, check, checksum, optional, parse, schema, validator
from stability.effects.modes import Mode
from stability.effects.pictures import Pictures
from stability.eigen.spectrum import Spectrum
from stability.points.describe import PointReport
from stability.spectra.least import History
from stability.spectra.sectors import Sector
from stability.verdicts.certificates import Certificate
from stability.verdicts.flat import FlatDirections
from stability.verdicts.verdict import STATUSES, Verdict

SCHEMA = 1
_TEXT, _COUNT = PLAIN[str], {**PLAIN[int], "minimum": 0}
_TEXTS, _NUMBERS = ({"type": "object", "additionalProperties": one} for one in (_TEXT, NUMBER))
# What the types of the records leave open.
REFINED: dict[tuple[str, str], dict[str, Any]] = {
    ("Analysis", "schema"): {"const": SCHEMA},
    ("Analysis", "samples"): _COUNT,
    ("Analysis", "weight_decay"): {"type": "number", "minimum": 0},
    ("Analysis", "group"): {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": _TEXT,
            "order": optional({**_COUNT, "minimum": 1}),
            "moduli": optional({"type": "array", "items": {**_COUNT, "minimum": 1}}),
        },
    },
    ("Analysis", "dims"): {
        "type": "object",
        "required": ["L", "E", "E_perp"],
        "additionalProperties": _COUNT,
    },
    ("Analysis", "layers"): {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["name", "source", "target", "dim", "dim_E"],
            "properties": {**dict.fromkeys(("name", "source", "target"), _TEXT), "dim": _COUNT, "dim_E": _COUNT},
        },
    },
    ("Analysis", "identities"): optional({**_NUMBERS, "properties": {"reasons": _TEXTS}}),
    ("Eigenvalue", "value"): {"type": "number"},
    ("Eigenvalue", "residual"): {"type": "number", "minimum": 0},
    ("Spectrum", "dim"): _COUNT,
    ("Spectrum", "error"): {"type": "number", "minimum": 0},
    ("Verdict", "status"): {"enum": list(STATUSES)},
}
_SCORES = {**_NUMBERS, "properties": {"name": {"type": ["string", "null"]}}}
REFINED |= dict.fromkeys((("PointReport", "metrics"), ("Escape", "metrics_start"), ("Escape", "metrics_end")), _SCORES)
__all__ = ["SCHEMA", "Analysis", "Escape", "PointReport", "Verdicts", "spectrum_from_json", "to_json"]


@dataclass(frozen=True)
class Verdicts(Record):
    """The four verdicts and the numbers that follow from them."""

    eqv: Verdict
    aug: Verdict
    nominal: Verdict
    transverse: Verdict
    proposition_3: dict[str, str]
    critical_penalty: float | None
    growth_rate: float | None
    critical_step: dict[str, float | None]

    def named(self) -> dict[str, Verdict]:
        """The four by name."""
        return {"eqv": self.eqv, "aug": self.aug, "nominal": self.nominal, "transverse": self.transverse}

    def rows(self) -> list[dict[str, Any]]:
        """One line a risk: status, margin, evidence."""
        return [{"risk": name, **row} for name, one in self.named().items() for row in one.rows()]

    def __str__(self) -> str:
        return "\n".join(f"{name:<11} {one}" for name, one in self.named().items())


@dataclass(frozen=True)
class Escape(Record):
    """Exact augmented descent along ± the most negative direction, to its end."""

    risk_start: float
    risk_end: float
    metrics_start: dict[str, Any]
    metrics_end: dict[str, Any]
    push: float
    off_equivariance: float
    travelled: float
    iterations: int


@dataclass(frozen=True)
class Analysis(Record):
    """One run. ``complete`` is False for a partial result, which names the stages it has."""

    task: str
    size: str
    seed: int
    dtype: str
    activation: str
    weight_decay: float
    samples: int
    versions: dict[str, str]
    group: dict[str, Any]
    dims: dict[str, int]
    facts: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    layers: tuple[dict[str, Any], ...] = ()
    assumptions: dict[str, float] | None = None
    identities: dict[str, Any] | None = None
    point: PointReport | None = None
    points: tuple[PointReport, ...] = ()
    spectra: dict[str, dict[str, Spectrum]] | None = None
    sectors: tuple[Sector, ...] = ()
    mode: Mode | None = None
    flat_directions: tuple[FlatDirections, ...] = ()
    verdict: Verdicts | None = None
    certificate: Certificate | None = None
    escape: Escape | None = None
    training: History | None = None
    pictures: Pictures | None = None
    cost: dict[str, float | None] | None = None
    complete: bool = False
    schema: int = SCHEMA

    def to_json(self) -> str:
        """Strict JSON; a number that is not finite becomes null. ``sha256`` is of all but cost, seconds and options."""
        data = plain(self)
        return json.dumps({**data, "sha256": checksum(data)}, indent=1, ensure_ascii=False, allow_nan=False)

    @staticmethod
    def from_json(text: str) -> Analysis:
        """The inverse of :meth:`to_json`; unknown keys are ignored, and so is the checksum (see :meth:`read`).

        Raises:
            BadInput: text that is no analysis of schema 1.
        """
        return Analysis._of(parse(text))

    @staticmethod
    def read(text: str) -> Analysis:
        """:meth:`from_json` for a file: its numbers are held to its checksum, where it has one.

        Raises:
            BadInput: text that is no analysis of schema 1, or whose numbers are not those that were written.
        """
        data = parse(text)
        found = Analysis._of(data)
        if "sha256" in data and data["sha256"] != checksum(data):
            raise BadInput(
                "it is damaged or was edited: its content does not match its checksum; take a sound copy (or, if the "
                "edit was meant, delete the key sha256)"
            )
        return found

    @staticmethod
    def _of(data: Any) -> Analysis:
        """The analysis that plain JSON holds."""
        if not isinstance(data, dict) or "schema" not in data:
            raise BadInput("no spectrum.json: it names no schema")
        if data["schema"] != SCHEMA:
            versions = data.get("versions")
            wrote = versions.get("stability", "unknown") if isinstance(versions, dict) else "unknown"
            raise BadInput(
                f"a spectrum.json of schema {str(data['schema'])[:20]}, written by stability {str(wrote)[:20]}; this "
                f"version reads {SCHEMA}"
            )
        try:
            check(_validator(), data)
        except BadInput as error:
            raise BadInput(f"a spectrum.json that does not keep to schema {SCHEMA}: {error}") from error
        return build(Analysis, data)

    def summary(self) -> str:
        """``verdict: eqv=… aug=… nominal=… transverse=…``."""
        if self.verdict is None:
            return "verdict: none"
        return "verdict: " + " ".join(f"{name}={one.status}" for name, one in self.verdict.named().items())

    def rows(self) -> list[dict[str, Any]]:
        """One line an eigenvalue, every spectrum of the run: risk, space, end, value, residual, multiplicity, irrep."""
        return [
            {"risk": risk, "space": where, **row}
            for risk, spectra in (self.spectra or {}).items()
            for where, spectrum in spectra.items()
            for row in spectrum.rows()
        ]

    def __str__(self) -> str:
        return "\n".join([*(show(self) for show in _SHOWN), self.summary()])


# How an analysis is printed is the business of reports, which read it and are not known here.
_SHOWN: list[Callable[[Analysis], str]] = []


def shown_by(show: Callable[[Analysis], str]) -> Callable[[Analysis], str]:
    """A decorator: what ``print(analysis)`` shows above its verdicts."""
    _SHOWN[:] = [show]
    return show


@functools.cache
def _validator() -> Validator:
    return validator(Analysis, REFINED)


def published_schema() -> str:
    """docs/spectrum.schema.json."""
    return json.dumps(schema(Analysis, REFINED), indent=1, ensure_ascii=False) + "\n"


def spectrum_from_json(text: str) -> Spectrum:
    """The inverse of :func:`to_json` for a spectrum."""
    return Spectrum.from_json(text)
