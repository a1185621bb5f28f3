"""Risk against index, and λ_min on E and E⊥."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from analyses.examples.deep_linear.measure import hidden_space


def draw(rows: Sequence[dict], widths: Sequence[int]) -> Figure:
    """Risk against index of every critical point; λ_min on E and E⊥ at the global minimum on E of each architecture."""
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1))
    chosen = [r for r in rows if r["part"] == "landscape" and r["widths"] == list(widths)]
    kinds = (
        ("minimum", "*", 15, lambda r: r["minimum"]),
        ("strict saddle", "o", 6, lambda r: r["index_theory"] > 0),
        ("index 0, yet no minimum", "X", 9, lambda r: r["index_theory"] == 0 and not r["minimum"]),
    )
    for label, marker, size, belongs in kinds:
        points = [r for r in chosen if belongs(r)]
        left.plot(
            [r["risk"] for r in points],
            [r["index_measured"] for r in points],
            marker,
            markersize=size,
            markerfacecolor="none" if marker == "o" else "black",
            color="black",
            label=f"{label} ({len(points)})",
        )
    left.set_xlabel("R at the critical point")
    left.set_ylabel("negative eigenvalues of ∇²R, measured")
    left.set_title(f"Linear network {'–'.join(map(str, widths))}: all {len(chosen)} classes", fontsize="medium")
    left.legend(fontsize="small")
    minima = [r for r in rows if r["part"] == "symmetry" and r["equivariant_minimum"]]
    for marker, fill, name, pick in (
        ("s", "black", "E", lambda low: low["trivial"]),
        ("o", "white", "E⊥", lambda low: min(v for k, v in low.items() if k != "trivial")),
    ):
        right.plot(
            range(len(minima)),
            [pick(r["lowest"]) for r in minima],
            marker,
            color="black",
            markerfacecolor=fill,
            markersize=8,
            label=f"on {name}",
        )
    right.axhline(0, color="black", linewidth=1.5, zorder=0)
    right.margins(x=0.15, y=0.15)
    right.set_xticks(range(len(minima)), [hidden_space(r) for r in minima])
    right.set_xlabel("hidden space")
    right.set_ylabel(r"$\lambda_{\min}$ of $\nabla^2 R^{\mathrm{aug}}$")
    right.set_title("Global minima on E, S_4 on 2·R⁴ → 2·R⁴", fontsize="medium")
    right.legend(fontsize="small")
    return figure
