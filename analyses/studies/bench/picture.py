"""The results as bars and curves."""

from __future__ import annotations

from matplotlib.figure import Figure


def draw(found: dict) -> Figure:
    """Bars of seconds, shortest first, and curves of the scaling; logarithmic."""
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    ((a, b), (c, d)) = figure.subplots(2, 2)

    def bars(axes, values: dict[str, float], unit: str, title: str) -> None:
        names = sorted(values, key=lambda k: -values[k])
        axes.barh(
            names,
            [values[k] for k in names],
            color=["0.35" if "stability" in k or "sectors" in k else "0.75" for k in names],
        )
        for i, k in enumerate(names):
            axes.text(values[k], i, f" {values[k]:.3g}", va="center", fontsize="small")
        axes.set_xscale("log")
        axes.margins(x=0.2)
        axes.set_xlabel(unit)
        axes.set_title(title, fontsize="medium")

    if part := found.get("nominal"):
        bars(a, {k: 1e3 * v for k, v in part["seconds"].items()}, "ms a vector", "one product with ∇²R, PERM, paper")
    if part := found.get("extremes"):
        bars(b, {k: r["seconds"] for k, r in part["rows"].items()}, "s", "both ends of ∇²R, PERM, paper")
    if part := found.get("augmented"):
        bars(c, {k: r["seconds"] for k, r in part["rows"].items()}, "s", "λ_min of ∇²R^aug on E⊥, TRANS, medium")
    if part := found.get("scaling"):
        for key, style in (("sector", "o-"), ("nominal", "s--"), ("group sum", "^:")):
            rows = part["samples"]
            d.loglog(
                [r["samples"] for r in rows], [r["milliseconds"][key] for r in rows], style, color="0.2", label=key
            )
        d.set_xlabel("samples")
        d.set_ylabel("ms a product")
        d.legend(fontsize="small")
        d.set_title("one product with ∇²R^aug, TRANS, medium", fontsize="medium")
    return figure
