"""The results as Markdown."""

from __future__ import annotations

from analyses.studies.bench.augmented import AUGMENTED_SECONDS
from analyses.studies.bench.timing import ROUNDS


def tables(found: dict) -> str:
    """The results as Markdown, ratios first."""
    lines = [f"# Benchmark\n\n{found['machine']}; medians of {ROUNDS} rounds in turn unless said otherwise.\n"]
    for name, listed in (
        ("nominal", _nominal),
        ("extremes", _extremes),
        ("augmented", _augmented),
        ("scaling", _scaling),
    ):
        if part := found.get(name):
            lines += listed(part)
    missing = sorted({m for part in found.values() if isinstance(part, dict) for m in part.get("missing", [])})
    if missing:
        lines += [f"\nNot installed: {'; '.join(missing)}."]
    return "\n".join(lines) + "\n"


def _nominal(part: dict) -> list[str]:
    """One product with ∇²R, ratios to the floor first."""
    lines: list[str] = []
    floor_time = part["seconds"]["floor (matrix products only)"]
    lines += [
        f"## One product with ∇²R\n\n{part['problem']}.\n",
        "| | ratio to the floor | ms a vector |",
        "|---|---:|---:|",
    ]
    lines += [
        f"| {k} | {v / floor_time:.2f} | {1e3 * v:.1f} |"
        for k, v in sorted(part["seconds"].items(), key=lambda i: i[1])
    ]
    worst = max(part["relative_difference"].values(), default=0.0)
    lines += [f"\nAll agree to {worst:.1e} (relative)."]
    if part["fastest_peer_over_ours"]:
        lines += [f"The fastest peer takes {part['fastest_peer_over_ours']:.2f} times as long as ours in batches."]
    if part.get("shares"):
        kernels = ", ".join(f"{k} {v:.0%}" for k, v in part["shares"].items())
        lines += [f"Where our time goes (profiler, by kernel): {kernels}."]
    return lines


def _extremes(part: dict) -> list[str]:
    """The two ends of ∇²R."""
    lines: list[str] = []
    ours = part["rows"]["stability, Lanczos"]["seconds"]
    lines += [f"\n## The two ends of ∇²R\n\n{part['problem']}.\n"]
    lines += ["| | times ours | s | λ_min | λ_max |", "|---|---:|---:|---:|---:|"]
    for k, r in part["rows"].items():
        low = "–" if r["lowest"] is None else f"{r['lowest']:.6g}"
        lines.append(f"| {k} | {r['seconds'] / ours:.2f} | {r['seconds']:.1f} | {low} | {r['highest']:.6g} |")
    return lines


def _augmented(part: dict) -> list[str]:
    """λ_min of ∇²R^aug on E⊥."""
    lines: list[str] = []
    ours = part["rows"]["sectors, Lanczos in each"]["seconds"]
    lines += [
        f"\n## λ_min of ∇²R^aug on E⊥\n\n{part['problem']}; stops when the residual is below {part['tolerance']:g} "
        f"of the value, or after {AUGMENTED_SECONDS:g} s a run: a larger residual bounds the cost from "
        "below.\n"
    ]
    lines += [
        "| | times ours | s | nominal products | λ_min | residual | error |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for k, r in part["rows"].items():
        error = f"{r['error']:.1e}" if "error" in r else "–"
        lines.append(
            f"| {k} | {r['seconds'] / ours:.2f} | {r['seconds']:.1f} | {r['nominal_products']:,} "
            f"| {r['lowest']:.6e} | {r['relative_residual']:.1e} | {error} |"
        )
    one, every = part["group_sum_over_one_sector"], part["group_sum_over_sectors"]
    lines += [
        f"\nAn exact eigenvalue with its irrep costs {one:.0f} times less in its sector than by the group sum, "
        "which finds one and no irrep. One eigenvalue in every sector, so that none is overlooked, costs "
        f"{1 / every:.2f} times the group sum's one."
    ]
    return lines


def _scaling(part: dict) -> list[str]:
    """Products with ∇²R^aug as one number grows."""
    lines: list[str] = []
    lines += ["\n## One product with ∇²R^aug, TRANS\n"]
    lines += [
        "| grows | group | samples | dim L | sector, ms | nominal, ms | group sum, ms |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for what, rows in part.items():
        for r in rows:
            t = r["milliseconds"]
            lines.append(
                f"| {what} | {r['group']} | {r['samples']:,} | {r['dim']:,} | {t['sector']:.2f} "
                f"| {t['nominal']:.2f} | {t['group sum']:.1f} |"
            )
    return lines
