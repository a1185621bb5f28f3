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
from stability.effects.hidden import ON_E, HiddenLayer, still_equivariant
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
    """The four verdicts and the numbers that follow from them.

    Attributes:
        eqv: on ∇²R^eqv, at a stationary point of R^eqv.
        aug: on ∇²R^aug over all of L.
        nominal: on ∇²R over L, without augmentation.
        transverse: on ∇²R^aug over E⊥ alone, which asks for no stationary point.
        proposition_3: "i" (nominal ⇒ aug) and "ii" (aug ⇒ eqv): "holds", "vacuous", "violated" or "undecided".
        critical_penalty: max(0, −λ_min on E⊥): the weight of a penalty ½‖A_E⊥‖² from which E is stable; None without
            λ_min.
        growth_rate: the same number as a rate, e-folds per flow time with which a push off E grows.
        critical_step: 2/λ_max by space, above which gradient descent is unstable; None where λ_max is not above zero.
    """

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
    """Exact augmented descent along ± the most negative direction, to its end.

    Attributes:
        risk_start, risk_end: R^aug before the push and at the end.
        metrics_start, metrics_end: scores there.
        push: its length.
        off_equivariance: ‖A_E⊥‖ at the end.
        travelled: ‖A − A⁰‖ at the end.
        iterations: of L-BFGS.
        norm_end: ‖A‖ at the end; None in runs that did not keep it.
        equivariance_error: of the function at the end, relative; None without a model and in runs that did not keep it.
        hidden: how hidden layers move where weights have left E and the function has not.
    """

    risk_start: float
    risk_end: float
    metrics_start: dict[str, Any]
    metrics_end: dict[str, Any]
    push: float
    off_equivariance: float
    travelled: float
    iterations: int
    norm_end: float | None = None
    equivariance_error: float | None = None
    hidden: tuple[HiddenLayer, ...] = ()

    @property
    def share(self) -> float | None:
        """‖A_E⊥‖/‖A‖ at the end."""
        return self.off_equivariance / self.norm_end if self.norm_end else None

    @property
    def equivariant(self) -> bool | None:
        """Whether the function at the end is equivariant; None where that was not measured."""
        if self.equivariance_error is None or self.share is None:
            return None
        return self.back or still_equivariant(self.equivariance_error, self.share)

    @property
    def back(self) -> bool:
        """Whether the weights end on E again."""
        return self.share is not None and self.share <= ON_E


@dataclass(frozen=True)
class Analysis(Record):
    """One run. ``complete`` is False for a partial result, which names the stages it has.

    Attributes:
        task: name of the problem.
        size: of a named task.
        seed: of starts, probes and drawn data.
        dtype: of the computation.
        activation: σ, of a named task.
        weight_decay: μ.
        samples: training samples.
        versions: of this program, torch, numpy, scipy and Python.
        group: name, order (None where infinite), moduli of a product of cyclic groups.
        dims: of L, E and E⊥.
        facts: lines of the report's first screen.
        options: of the run, and the command.
        layers: name, source, target, dim and dim_E of each.
        assumptions: measured violations by name.
        identities: measured errors by name, with the reasons for those that are missing.
        point: the point judged.
        points: all that were found, the one judged first.
        spectra: by risk and space.
        sectors: ∇²R^aug irrep by irrep.
        mode: the lowest mode on E⊥ and what it does to the layers.
        flat_directions: known in advance, with how flat they were found.
        verdict: the decisions.
        certificate: what the signs may be off by, and why.
        escape: where the instability leads; None where there is none or it was not followed.
        training: λ_min along the training; None where it was not asked for.
        pictures: what figures draw beyond spectra.
        cost: nominal Hessian-vector products, seconds, the most memory held at once.
        complete: False for a partial result, which names the stages it has.
        schema: number of the format.
    """

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

    def __repr__(self) -> str:
        """One line: which problem, how large, the verdicts."""
        dims = f"L {self.dims['L']:,} = E {self.dims['E']:,} + E⊥ {self.dims['E_perp']:,}"
        return f"<Analysis of {self.task} under {self.group['name']}: {dims}; {self.summary()}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the first screen of the report."""
        return _SHOWN[1](self) if len(_SHOWN) > 1 else super()._repr_html_()

    def rows(self) -> list[dict[str, Any]]:
        """One line an eigenvalue, every spectrum of the run: risk, space, end, value, residual, multiplicity, irrep."""
        return [
            {"risk": risk, "space": where, **row}
            for risk, spectra in (self.spectra or {}).items()
            for where, spectrum in spectra.items()
            for row in spectrum.rows()
        ]

    def __str__(self) -> str:
        return "\n".join([*(show(self) for show in _SHOWN[:1]), self.summary()])


# How an analysis is printed, and then how a notebook shows it, is the business of reports, which are not known here.
_SHOWN: list[Callable[[Analysis], str]] = []


def shown_by(show: Callable[[Analysis], str]) -> Callable[[Analysis], str]:
    """A decorator: what ``print(analysis)`` shows above its verdicts."""
    _SHOWN[:1] = [show]
    return show


def notebooks_show(show: Callable[[Analysis], str]) -> Callable[[Analysis], str]:
    """A decorator: what a notebook shows of an analysis, as HTML; after :func:`shown_by`."""
    _SHOWN[1:] = [show]
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
