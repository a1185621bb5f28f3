"""Analysis → tables: rows of text for the page, and one plain table for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from stability.eigen.spectrum import Eigenvalue, Spectrum
from stability.points.describe import PointReport
from stability.report.advice import escape
from stability.report.screen import alerts
from stability.report.words import (
    SPACES,
    eigenvalue,
    group,
    headline,
    kind,
    named,
    number,
    plain,
    scores,
)
from stability.results import Analysis, shown_by
from stability.spectra.sectors import Sector

WIDTH, INDENT = 100, 12
VERDICTS = ("eqv", "aug", "transverse", "nominal")
GRADIENTS = {"eqv": "R^eqv", "aug": "R^aug", "nominal": "R"}
SPECTRA = {
    "∇²R^aug on E": ("aug", "E"),
    "∇²R^aug on E⊥": ("aug", "E_perp"),
    "∇²R^eqv on E": ("eqv", "E"),
    "∇²R on L": ("nominal", "L"),
}
ASSUMPTIONS = {
    "orthogonal": "every ρ is orthogonal",
    "homomorphism": "ρ(gh) = ρ(g)ρ(h)",
    "equivariant_layers": "moved weights take a layer's moved inputs to its moved outputs",
    "equivariant_nonlinearities": "every σ commutes with ρ",
    "invariant_loss": "ℓ(ρ(g)y, ρ(g)y') = ℓ(y, y')",
}
IDENTITIES = {
    "lemma1": "Lemma 1: E is the space fixed by G",
    "lemma2": "Lemma 2: ∫ρ̄(g) is the orthogonal projection onto E",
    "lemma3": "Lemma 3: moving the data is moving the weights",
    "lemma4": "Lemma 4: R^aug(A) = ∫R(ρ̄(g)A) at any A",
    "lemma5": "Lemma 5: ∫ρ̄(g)⊗ρ̄(g) is the projection onto invariants",
    "lemma6": "Lemma 6: ∇²R^aug does not couple E with E⊥ and is ∇²R on E",
    "prop1": "Proposition 1, on E: ∇R^aug = Π_E ∇R = ∇R^eqv",
    "prop2": "Proposition 2, on E: ∇²R^aug = ∫ρ̄ᵀ ∇²R ρ̄ and ∇²R^eqv = Π_E ∇²R Π_E",
    "cor1": "Corollary 1: exact augmented descent stays on E",
    "cor2": "Corollary 2: the same points of E are stationary for R^aug and R^eqv",
    "feature_average_gap": "Remark 2: R^aug − E ℓ(feature average) at a random A off E. "
    "A gap and not an error: ≥ 0 where ℓ is convex, zero on E",
}
CLAIMS = {"i": "(i) strict minimum of R ⇒ of R^aug", "ii": "(ii) strict minimum of R^aug ⇒ of R^eqv on E"}
OUTCOMES = {
    "holds": "holds: both are strict minima",
    "vacuous": "vacuous: the premise fails, so nothing is claimed",
    "violated": "violated: this contradicts the theory, so suspect the numerics",
    "undecided": "undecided, as one of the verdicts is",
}


@dataclass(frozen=True)
class Table:
    """A title, a head, rows of text, a remark below; ``verbatim`` text is shown as it is, to be copied.

    Attributes:
        title: above it.
        head: names of the columns.
        rows: text, one entry a column.
        remark: below it; empty for none.
        verbatim: whether text is shown as it is, to be copied.
    """

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    remark: str = ""
    verbatim: bool = False


def tables(a: Analysis) -> list[Table]:
    """Every table of the page that has rows."""
    present = _present(a)
    flat = f"exactly the weight decay μ = {number(a.weight_decay)}" if a.weight_decay else "exactly zero"
    norms = (f"‖∇{name}‖" for name in GRADIENTS.values())
    checks = ("decrement", "equivariance error", "kink margin", "train / test")
    found = [
        Table("Proposition 3", ("claim", "here"), _implications(a)),
        Table(
            "Spectra",
            ("Hessian", "dim", "negative", "zero", "error", "method", "products", "seconds"),
            [_spectrum(name, s) for name, s in present.items()],
            "Negative: below −error; zero: within ±error; a dash: not established.",
        ),
        *(
            Table(
                f"{end.capitalize()} eigenvalues ± residual × multiplicity",
                ("", *present),
                _columns([getattr(s, end) for s in present.values()]),
            )
            for end in ("lowest", "highest")
        ),
        Table(
            "Sectors of ∇²R^aug",
            ("irrep", "dim", "type", "copies", "size", "negative", "lowest", "highest", "method", "products"),
            [_sector(x) for x in sorted(a.sectors, key=lambda x: x.lowest[0].value if x.lowest else 0.0)],
            "One block for each irreducible representation V of the group; the trivial one is E, the rest is E⊥. "
            "Copies: how often V occurs among the weights; an eigenvalue's × is its multiplicity among the weights. "
            "The sector of the most negative eigenvalue says how symmetry breaks.",
        ),
        Table(
            "Points found",
            ("kind", "start", "R^aug", "index on E", *norms, *checks),
            [_point(p) for p in a.points],
            "Best first; the first is the one judged. Decrement: Newton's, √(gᵀ|H|⁺g) on E.",
        ),
        Table("Assumptions", ("assumption", "largest violation"), _measured(a.assumptions, ASSUMPTIONS)),
        Table("Identities", ("identity", "measured error"), _measured(a.identities, IDENTITIES)),
        Table(
            "Flat directions known in advance",
            ("directions", "space", "count", "residual"),
            [(f.name, SPACES.get(f.space, f.space), f"{f.count:,}", number(f.residual, 2)) for f in a.flat_directions],
            f"Their eigenvalue is {flat}; families may overlap.",
        ),
        Table(
            "Dimensions by layer",
            ("layer", "from", "to", "dim", "dim on E"),
            [(x["name"], x["source"], x["target"], f"{x['dim']:,}", f"{x['dim_E']:,}") for x in a.layers],
        ),
        Table("The run", ("what", "value"), _run(a), verbatim=True),
    ]
    return [t for t in found if t.rows]


def _present(a: Analysis) -> dict[str, Spectrum]:
    return {name: s for name, (risk, where) in SPECTRA.items() if (s := (a.spectra or {}).get(risk, {}).get(where))}


def _implications(a: Analysis) -> list[tuple[str, ...]]:
    here = a.verdict.proposition_3 if a.verdict else {}
    return [(CLAIMS.get(k, k), OUTCOMES.get(v, v)) for k, v in here.items()]


def _count(n: float | None) -> str:
    return "–" if n is None else f"{n:,}"


def _spectrum(name: str, s: Spectrum) -> tuple[str, ...]:
    counts = (_count(s.negative_count), _count(s.zero_count), number(s.error if s.lowest else None, 2))
    return (name, f"{s.dim:,}", *counts, s.method, f"{s.matvecs:,}", number(s.seconds, 2))


def _sector(x: Sector) -> tuple[str, ...]:
    ends = (eigenvalue(replace(end[0], irrep=None), 4, full=True) if end else "–" for end in (x.lowest, x.highest))
    return (
        x.irrep,
        f"{x.dim:,}",
        x.type,
        f"{x.multiplicity:,}",
        f"{x.size:,}",
        x.sign if x.negative_count is None else _count(x.negative_count),
        *ends,
        x.method,
        f"{x.hvps:,}",
    )


def _columns(ends: list[tuple[Eigenvalue, ...]]) -> list[tuple[str, ...]]:
    """Row k: the k-th eigenvalue of every spectrum."""
    longest = max(map(len, ends), default=0)
    return [(str(k + 1), *(eigenvalue(e[k], 6, full=True) if k < len(e) else "" for e in ends)) for k in range(longest)]


def _point(p: PointReport) -> tuple[str, ...]:
    what = (
        kind(p) if p.converged else f"{kind(p)}, not stationary",
        _count(p.start),
        number(p.risk.get("aug"), 6),
        _count(p.index_E),
    )
    norms = (number(p.grad_norm.get(k), 2) for k in GRADIENTS)
    kink = "smooth σ" if p.kink_margin is None else number(p.kink_margin, 2)
    errors = (number(p.newton_decrement, 2), number(p.equivariance_error, 2))
    name, both = p.metrics.get("name"), [number(p.metrics.get(k)) for k in ("train", "test")]
    return (*what, *norms, *errors, kink, f"{name} {' / '.join(both)}" if name else "–")


def _measured(values: dict[str, Any] | None, names: dict[str, str]) -> list[tuple[str, str]]:
    rows, reasons = [], (values or {}).get("reasons") or {}
    for key, value in (values or {}).items():
        if key != "reasons":
            why_not = f"not measured: {reasons[key]}" if key in reasons else "not measured"
            measured = ("gap " if key.endswith("gap") else "") + number(value, 2)
            rows.append((names.get(key, key), why_not if value is None else measured))
    return rows


def _run(a: Analysis) -> list[tuple[str, ...]]:
    cost = a.cost or {}
    rows = [
        ("command", a.options.get("command") or "none: called from Python"),
        ("task, size, seed", f"{a.task}, {a.size}, {a.seed}"),
        ("samples", f"{a.samples:,}"),
        ("activation, weight decay, dtype", f"{a.activation}, {number(a.weight_decay)}, {a.dtype}"),
        *((named(k), v) for k, v in a.facts.items() if k not in ("network", "data")),
        ("Hessian-vector products", _count(cost.get("hvps"))),
        ("seconds", number(cost.get("seconds"))),
        ("peak memory", f"{number(cost.get('peak_memory_mb'))} MB"),
        ("versions", ", ".join(f"{k} {v}" for k, v in a.versions.items())),
    ]
    return [(str(k), str(v)) for k, v in rows]


@shown_by
def table(a: Analysis) -> str:
    """The analysis on one terminal page, at most 100 columns."""
    dims = f"L {a.dims['L']:,} = E {a.dims['E']:,} + E⊥ {a.dims['E_perp']:,}; weight decay {number(a.weight_decay)}"
    lines = [*alerts(a), headline(a), ""]
    lines += _entry("group", f"{group(a)}; task {a.task}, {a.samples:,} samples")
    for label, value in a.facts.items():
        lines += _entry(named(label), value) if label != "digest" else []
    lines += _entry("dim", dims)
    if p := a.point:
        state = "stationary" if p.converged else "NOT stationary"
        norms = [f"{name} {number(p.grad_norm.get(k), 2)}" for k, name in GRADIENTS.items()]
        lines += _entry("point", f"{kind(p)}, {state}, R^aug {number(p.risk.get('aug'), 6)}")
        lines += _entry("gradients", f"{', '.join(norms)}; tolerance on E {number(p.tolerance, 2)}")
        lines += _entry("score", scores(p.metrics)) if scores(p.metrics) else []
    present = _present(a)
    ends = {
        k: [eigenvalue(e[0], 4, full=True) if e else "–" for e in (s.lowest, s.highest)] for k, s in present.items()
    }
    wide = max([29, *(len(low) for low, _ in ends.values())]) + 2
    if present:
        lines += ["", _line("spectrum", "dim", "negative", "lowest ± residual", "highest ± residual", wide=wide)]
    for name, s in present.items():
        lines.append(_line(name, f"{s.dim:,}", _count(s.negative_count), *ends[name], wide=wide))
        lines += [] if s.lowest or not s.dim else _entry("", s.method)
    lines.append("")
    for key in VERDICTS if a.verdict else ():
        verdict = getattr(a.verdict, key)
        lines += _entry(key, f"{plain(verdict.status)}: {verdict.evidence or 'nothing to judge'}")
    if a.escape:
        lines += _entry("escape", escape(a.escape))
    return "\n".join(
        w for line in lines for w in (textwrap.wrap(line, WIDTH) if len(line) > WIDTH and line[0] != "∇" else [line])
    )


def _entry(label: str, text: str) -> list[str]:
    """A label and its text, wrapped with a hanging indent."""
    return textwrap.wrap(text, WIDTH, initial_indent=f"{label:<{INDENT - 1}} ", subsequent_indent=" " * INDENT)


def _line(name: str, dim: str, negative: str, lowest: str, highest: str, *, wide: int) -> str:
    return f"{name:<15}{dim:>10}{negative:>10}  {lowest:<{wide}}{highest}".rstrip()
