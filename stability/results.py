"""What an analysis returns: frozen dataclasses that round-trip through JSON (schema 1)."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass, field
from typing import Any

from stability.certificates import Certificate
from stability.eigen import Spectrum
from stability.flat import FlatDirections
from stability.modes import Mode
from stability.sectors import Sector
from stability.verdict import Verdict

SCHEMA = 1


@dataclass(frozen=True)
class PointReport:
    """A point of E and what is known of it; the keys of spectrum.json."""

    kind: str
    risk: dict[str, float | None]
    grad_norm: dict[str, float | None]
    tolerance: float
    newton_decrement: float | None
    index_E: int | None
    kink_margin: float | None
    distance_to_E: float
    metrics: dict[str, Any]
    equivariance_error: float | None
    start: int | None = None
    converged: bool = True


@dataclass(frozen=True)
class Verdicts:
    """The four verdicts and the numbers that follow from them."""

    eqv: Verdict
    aug: Verdict
    nominal: Verdict
    transverse: Verdict
    proposition_3: dict[str, str]
    critical_penalty: float | None
    growth_rate: float | None
    critical_step: dict[str, float | None]


@dataclass(frozen=True)
class Escape:
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
class Analysis:
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
    cost: dict[str, float | None] | None = None
    complete: bool = False
    schema: int = SCHEMA

    def to_json(self) -> str:
        """Strict JSON; a number that is not finite becomes null."""
        return json.dumps(_plain(self), indent=1, ensure_ascii=False, allow_nan=False)

    @staticmethod
    def from_json(text: str) -> Analysis:
        """The inverse of :meth:`to_json`; keys that this version does not know are ignored.

        Raises:
            ValueError: text that is no analysis of schema 1.
        """
        data = json.loads(text)
        if not isinstance(data, dict) or "schema" not in data:
            raise ValueError("no spectrum.json: it names no schema")
        if data["schema"] != SCHEMA:
            wrote = (data.get("versions") or {}).get("stability", "unknown")
            raise ValueError(
                f"a spectrum.json of schema {data['schema']}, written by stability {wrote}; this version reads {SCHEMA}"
            )
        try:
            return _build(Analysis, data)
        except (TypeError, AttributeError, KeyError, RecursionError) as error:
            raise ValueError(f"a spectrum.json that does not keep to schema {SCHEMA}: {error}") from error

    def summary(self) -> str:
        """``verdict: eqv=… aug=… nominal=… transverse=…``."""
        if self.verdict is None:
            return "verdict: none"
        v = self.verdict
        named = {"eqv": v.eqv, "aug": v.aug, "nominal": v.nominal, "transverse": v.transverse}
        return "verdict: " + " ".join(f"{name}={one.status}" for name, one in named.items())


def to_json(value: Any) -> str:
    """Any of the frozen dataclasses as one line of strict JSON."""
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)


def spectrum_from_json(text: str) -> Spectrum:
    """The inverse of :func:`to_json` for a spectrum."""
    return _build(Spectrum, json.loads(text))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _build(kind: Any, data: Any) -> Any:
    """Rebuild a value of an annotated type from plain JSON."""
    if data is None:
        return None
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        (inner,) = [a for a in arguments if a is not type(None)] or [Any]
        return _build(inner, data)
    if origin is tuple:
        return tuple(_build(arguments[0], item) for item in data)
    if origin is dict:
        return {k: _build(arguments[1], v) for k, v in data.items()}
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        known = {f.name for f in dataclasses.fields(kind)}
        return kind(**{k: _build(hints[k], v) for k, v in data.items() if k in known})
    return data
