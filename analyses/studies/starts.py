"""How often is an equivariant minimum unstable for augmented training?

    python -m analyses.starts --task trans --starts 10 --weight-decay 3e-3 1e-2

For every start and decay: the stationary point that L-BFGS and Newton reach from it, λ_min on E and E⊥, the number
of negative directions, accuracy, and where exact augmented descent along the most negative direction ends.
Rows are kept in DIR/starts.json as they come; a second call computes only what is missing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from analyses.lab.command import command, pool_arguments
from stability.base.cluster import pool
from stability.base.storage import prepare_folder, write
from stability.results import Analysis
from stability.run.analysis import analyse
from stability.run.settings import Settings
from stability.tasks import TaskOptions, load


def row(analysis: Analysis, start: int) -> dict:
    """What one analysis says about its best point, in one flat record."""
    e, perp = analysis.spectra["aug"]["E"], analysis.spectra["aug"]["E_perp"]
    escape = analysis.escape
    return {
        "task": analysis.task,
        "size": analysis.size,
        "weight_decay": analysis.weight_decay,
        "start": start,
        "kind": analysis.point.kind,
        "risk": analysis.point.risk["nominal"],
        "grad_norm": analysis.point.grad_norm["eqv"],
        "tolerance": analysis.point.tolerance,
        "metrics": analysis.point.metrics,
        "lambda_min_E": e.lowest[0].value,
        "lambda_min_E_perp": perp.lowest[0].value,
        "residual_E_perp": perp.lowest[0].residual,
        "lambda_max_E_perp": perp.highest[0].value,
        "negative": perp.negative_count,
        "multiplicity": perp.lowest[0].multiplicity,
        "eqv": analysis.verdict.eqv.status,
        "aug": analysis.verdict.aug.status,
        "escape": None
        if escape is None
        else {"risk_start": escape.risk_start, "risk_end": escape.risk_end, "metrics_end": escape.metrics_end},
    }


def one(task: str, size: str, decay: float, start: int) -> dict:
    """The row of one start."""
    problem = load(task, TaskOptions(size=size, weight_decay=decay))
    return row(analyse(problem, Settings(seed=start, points=1), {"size": size}).analysis, start)


def draw(rows: list[dict]) -> Figure:
    """λ_min on E⊥ against the risk of the point, one marker for each decay; zero marked."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    decays = sorted({r["weight_decay"] for r in rows})
    for decay, marker in zip(decays, "os^DvPX*<>", strict=False):
        chosen = [r for r in rows if r["weight_decay"] == decay]
        unstable = sum(r["aug"] == "unstable" for r in chosen)
        axes.plot(
            [r["risk"] for r in chosen],
            [r["lambda_min_E_perp"] for r in chosen],
            marker,
            label=f"μ = {decay:g}: {unstable} of {len(chosen)} unstable",
            alpha=0.8,
        )
    scale = min((abs(r["lambda_min_E_perp"]) for r in rows), default=1e-6)
    axes.set_yscale("symlog", linthresh=max(scale, 1e-8))
    axes.axhline(0, color="black", linewidth=1.5)
    axes.set_xlabel("R at the point (mean loss + decay)")
    axes.set_ylabel(r"$\lambda_{\min}$ of $\nabla^2 R^{\mathrm{aug}}$ on $E^\perp$")
    axes.set_title(f"{rows[0]['task']}, {rows[0]['size']}: equivariant minima, by start", fontsize="medium")
    if unstable_end := [r for r in rows if r["escape"]]:
        ends = [r["escape"]["risk_end"] for r in unstable_end]
        axes.plot(ends, [0] * len(ends), "|", color="black", markersize=14, label="where augmented descent ends")
    axes.legend(fontsize="small")
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, write JSON and PNG, print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="trans", choices=["trans", "perm", "rot"])
    parser.add_argument("--size", default="small")
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--weight-decay", type=float, nargs="+", default=[3e-3])
    pool_arguments(parser)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    folder = prepare_folder(options.out or Path("reports") / f"starts-{options.task}-{options.size}")
    file = folder / "starts.json"
    rows = json.loads(file.read_text()) if file.is_file() else []
    done = {(r["weight_decay"], r["start"]) for r in rows}
    jobs = [(w, s) for w in options.weight_decay for s in range(options.starts) if (w, s) not in done]
    with pool(options.scheduler, options.workers) as spread:
        for _, found in spread.run(one, [(options.task, options.size, w, s) for w, s in jobs], "starts"):
            rows.append(found)
            write(file, json.dumps(rows, indent=1, ensure_ascii=False))
    rows.sort(key=lambda r: (r["weight_decay"], r["start"]))
    write(file, json.dumps(rows, indent=1, ensure_ascii=False))
    draw(rows).savefig(folder / "starts.png", dpi=150)
    for decay in sorted({r["weight_decay"] for r in rows}):
        chosen = [r for r in rows if r["weight_decay"] == decay]
        unstable = [r for r in chosen if r["eqv"] == "stable" and r["aug"] == "unstable"]
        print(f"μ = {decay:g}: {len(unstable)} of {len(chosen)} strict minima on E are unstable on E⊥")


if __name__ == "__main__":
    raise SystemExit(command(main))
