"""Several analyses side by side: the same network under several groups, several seeds, several widths."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stability.base.errors import BadInput
from stability.base.storage import write
from stability.report import explore, words
from stability.report.figures import png
from stability.report.render import environment
from stability.report.rows import Rows, as_csv
from stability.report.style import BLUE, ORANGE, PANELS, panels, signs, symlog
from stability.report.words import eigenvalue, number, part, plain
from stability.results import Analysis

Run = tuple[str, Analysis]
LADDER = 20


def facts(a: Analysis) -> dict[str, str]:
    """What two runs may differ in, in words."""
    o = a.options
    return {
        "task": a.task,
        "size": a.size,
        "group": a.group["name"],
        "seed": str(a.seed),
        "network": a.facts.get("network", ""),
        "variant": str(o.get("variant") or ""),
        "activation": a.activation,
        "weight decay": number(a.weight_decay),
        "samples": f"{a.samples:,}",
        "point": words.kind(a.point) if a.point else "none",
        "dtype": a.dtype,
    }


def named(analyses: Sequence[Analysis], fallback: Sequence[str]) -> tuple[list[Run], dict[str, str], list[str]]:
    """Runs named by what differs between them, what all share, and the names of what differs.

    Where that does not tell two of them apart, all are named by ``fallback``.
    """
    every = [facts(a) for a in analyses]
    differing = [k for k in every[0] if len({f[k] for f in every}) > 1]
    shared = {k: v for k, v in every[0].items() if k not in differing and v}
    short = [k for k in differing if k != "network" or differing == ["network"]]
    names = [", ".join(f"{k} {f[k]}" if k not in ("task", "network") else f[k] for k in short) for f in every]
    if len(set(names)) < len(names):
        names = list(fallback)
    return list(zip(names, analyses, strict=True)), shared, differing


def numbers(runs: Sequence[Run]) -> Rows:
    """One row a run, every digit as stored."""
    head = (
        *("run", "dim_L", "dim_E", "eqv", "aug", "transverse", "lambda_min_E", "residual_E", "lambda_min_E_perp"),
        *("residual_E_perp", "negative_E_perp", "irrep", "lambda_max_E_perp", "R_aug", "score", "train", "test"),
    )
    rows = []
    for name, a in runs:
        e, perp = part(a, "aug", "E"), part(a, "aug", "E_perp")
        v, m = a.verdict, a.point.metrics if a.point else {}
        rows.append(
            (
                *(name, a.dims["L"], a.dims["E"]),
                *((v.eqv.status, v.aug.status, v.transverse.status) if v else (None,) * 3),
                *((e.lowest[0].value, e.lowest[0].residual) if e else (None, None)),
                *((perp.lowest[0].value, perp.lowest[0].residual) if perp else (None, None)),
                *((perp.negative_count, perp.lowest[0].irrep, perp.highest[0].value) if perp else (None,) * 3),
                a.point.risk.get("aug") if a.point else None,
                *(m.get("name"), m.get("train"), m.get("test")),
            )
        )
    return head, rows


def lowest(runs: Sequence[Run]) -> Figure | None:
    """λ_min on E and on E⊥ of every run, residuals as bars, on one symmetric logarithmic axis."""
    found = [(name, {where: part(a, "aug", where) for where, _ in PANELS}) for name, a in runs]
    values = np.array([s.lowest[0].value for _, pair in found for s in pair.values() if s])
    if not len(values):
        return None
    with panels(1, 1.6 + 0.5 * len(runs)) as (figure, (axes,)):
        for (which, space), colour, marker in zip(PANELS, (BLUE, ORANGE), "oD", strict=True):
            known = [(k, s.lowest[0]) for k, (_, pair) in enumerate(found) if (s := pair[which])]
            if not known:
                continue
            rank, ends = [k for k, _ in known], [e for _, e in known]
            style: dict[str, Any] = {"fmt": marker, "color": colour, "markersize": 9, "label": f"on {space}"}
            axes.errorbar([e.value for e in ends], rank, xerr=[e.residual for e in ends], **style)
            axes.lines[-1].set_gid(which)
            for k, e in zip(rank, ends, strict=True):
                if which == "E_perp" and e.irrep:
                    axes.annotate(e.irrep, (e.value, k), (0, -14), textcoords="offset points", ha="center", fontsize=8)
        _zero(axes, values)
        axes.set_yticks(range(len(found)), [fill(name, 30) for name, *_ in found], fontsize=10)
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.set_xlabel(r"$\lambda_{\min}$ of $\nabla^2R^{\mathrm{aug}}$ (per unit of squared weight)")
        axes.legend(loc="best", framealpha=1, fontsize=10)
    return figure


def ladders(runs: Sequence[Run]) -> Figure | None:
    """The lowest and highest eigenvalues on E⊥ of every run, by sign."""
    found = [(name, s) for name, a in runs if (s := part(a, "aug", "E_perp"))]
    if not found:
        return None
    with panels(1, 1.6 + 0.5 * len(found)) as (figure, (axes,)):
        every = []
        for k, (_, s) in enumerate(found):
            values = np.array([e.value for e in (*s.lowest[:LADDER], *s.highest[:LADDER])])
            every.append(values)
            axes.hlines(k, values.min(), values.max(), color="0.75", linewidth=1.5, zorder=1)
            for mask, _, marker, colour in signs(values, s.error):
                at = np.full(mask.sum(), k)
                axes.scatter(values[mask], at, s=26, marker=marker, color=colour, zorder=3).set_gid(f"run {k}")
        _zero(axes, np.concatenate(every))
        axes.set_yticks(range(len(found)), [fill(name, 30) for name, _ in found], fontsize=10)
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.set_xlabel(r"lowest and highest eigenvalues of $\nabla^2R^{\mathrm{aug}}$ on $E^\perp$")
    return figure


def _zero(axes: Axes, values: np.ndarray) -> None:
    threshold = symlog(axes, "x", values)
    low, high = min(3 * values.min(), -threshold), max(3 * values.max(), threshold)
    axes.set_xlim(low, high)
    axes.axvline(0.0, color="black", linewidth=2.0, gid="zero", zorder=2)
    axes.axvspan(low, 0.0, facecolor="none", edgecolor="0.8", hatch="///", linewidth=0, zorder=0)


def summary(runs: Sequence[Run]) -> str:
    """What the comparison says, in one sentence."""
    across = [a.verdict.transverse.status for _, a in runs if a.verdict]
    unstable, stable = across.count("unstable"), across.count("stable")
    rest = len(runs) - unstable - stable
    ends = [(s.lowest[0].value, name) for name, a in runs if (s := part(a, "aug", "E_perp"))]
    text = f"E is unstable for augmented training in {unstable} of {len(runs)} runs, stable in {stable}"
    text += f", undecided or degenerate in {rest}" if rest else ""
    if ends:
        (low, where), (high, other) = min(ends), max(ends)
        text += (
            f"; λ_min on E⊥ goes from {eigenvalue(low)} ({where}) to {eigenvalue(high)} ({other})"
            if low != high
            else ""
        )
    return text + "."


def rows(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """The table of the page."""
    found: list[tuple[str, ...]] = []
    for name, a in runs:
        e, perp, v = part(a, "aug", "E"), part(a, "aug", "E_perp"), a.verdict
        m, name_of = a.point.metrics if a.point else {}, (a.point.metrics.get("name") if a.point else None)
        count = None if perp is None else perp.negative_count
        found.append(
            (
                name,
                f"{a.dims['L']:,} / {a.dims['E']:,}",
                *((plain(v.eqv.status), plain(v.aug.status), plain(v.transverse.status)) if v else ("–",) * 3),
                eigenvalue(e.lowest[0]) if e else "–",
                eigenvalue(perp.lowest[0]) if perp else "–",
                "–" if count is None else f"{count:,}",
                (perp.lowest[0].irrep or "–") if perp else "–",
                number(v.critical_step.get("E_perp")) if v else "–",
                f"{name_of} {number(m.get('train'))} / {number(m.get('test'))}" if name_of else "–",
            )
        )
    return found


HEAD = (
    *("run", "dim L / E", "eqv", "aug", "transverse", "λ_min on E", "λ_min on E⊥", "negative on E⊥", "lowest in"),
    *("critical step on E⊥", "train / test"),
)


def write_comparison(folders: Sequence[Path], analyses: Sequence[Analysis], page: Path, title: str = "") -> Path:
    """One page, two PNGs and a CSV beside it, for runs in ``folders``.

    Raises:
        BadInput: fewer than two runs.
    """
    if len(analyses) < 2:
        raise BadInput("a comparison needs at least two runs; give more folders")
    page.parent.mkdir(parents=True, exist_ok=True)
    runs, shared, differing = named(analyses, [f.name for f in folders])
    pictures = {}
    for name, draw in (("lowest", lowest), ("ladders", ladders)):
        figure = draw(runs)
        if figure is not None:
            image = png(figure)
            write(page.with_name(f"{page.stem}-{name}.png"), image)
            pictures[name] = base64.b64encode(image).decode()
    table = as_csv(numbers(runs))
    write(page.with_name(f"{page.stem}.csv"), table)
    eigenvalues = [replace(r, point=name) for name, a in runs for r in explore.rows(a) if r.point.startswith("1:")]
    html = (
        environment()
        .get_template("compare.html.j2")
        .render(
            title=title or "Several runs side by side",
            runs=list(zip(runs, folders, strict=True)),
            shared=shared,
            differing=differing,
            summary=summary(runs),
            words=words,
            head=HEAD,
            table=rows(runs),
            pictures=pictures,
            csv=base64.b64encode(table.encode()).decode(),
            rows=eigenvalues,
            rest=[],
        )
    )
    return write(page, html)
