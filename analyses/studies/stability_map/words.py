"""What the maps say, in words and in tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analyses.lab.publish import Section, table
from analyses.studies.stability_map.cells import BASE, EPOCHS, MAPS, STEP, TRAINING, problem_name
from analyses.studies.stability_map.reading import (
    CANDIDATES,
    collapsed,
    interval,
    leverage,
    minima,
    of_cell,
    rank_correlations,
    unstable,
)


def section(rows: Sequence[dict]) -> Section:
    """The words, from the numbers."""
    points = minima(rows)
    alive = [r for r in points if not collapsed(r)]
    found = [r for r in rows if r["kind"] == "minimum"]
    texts = [
        f"{len(found)} searches ended in {len(points)} strict minima on E; the other {len(found) - len(points)} fell "
        "short of the tolerance or were no strict minima and are left out, as are "
        f"{len(points) - len(alive)} that collapsed to A = 0"
    ]
    for task in BASE:
        mine = [r for r in alive if r["cell"]["task"] == task]
        if mine:
            count = sum(map(unstable, mine))
            low, high = interval(count, len(mine))
            texts.append(
                f"{task}: {count} of {len(mine)} are unstable (95 %: {low:.2f} to {high:.2f}), with "
                f"{min(r['negative'] for r in mine)} to {max(r['negative'] for r in mine)} negative directions"
            )
            for name, flag in (("unstable", True), ("stable", False)):
                side = [r["accuracy"] for r in mine if unstable(r) == flag]
                if side:
                    train, constant = (np.median([a[k] for a in side]) for k in ("train", "constant"))
                    texts[-1] += f"; the {name} ones have a median training accuracy of {train:.2f}"
                    texts[-1] += f" ({constant:.2f} for the constant)"
    for name in ("digits", "group", "depth", "samples"):
        lines = []
        for cell in MAPS[name].cells:
            mine = minima(of_cell(rows, cell))
            if mine and len(MAPS[name].along) == 1:
                median = np.median([r["lambda_min_E_perp"] for r in mine])
                value = getattr(cell, MAPS[name].along[0])
                lines.append(f"{value} {sum(map(unstable, mine))}/{len(mine)}, median λ_min {median:.1e}")
        if lines:
            texts.append(f"digits by {name}: " + "; ".join(lines))
    shaken = [r for r in alive if unstable(r)]
    if shaken:
        leaders = {}
        for r in shaken:
            key = (r["cell"]["task"], r["irrep"])
            leaders[key] = leaders.get(key, 0) + 1
        top = sorted(leaders.items(), key=lambda item: -item[1])[:6]
        texts.append("leading irreps: " + ", ".join(f"{task} {irrep} {count}×" for (task, irrep), count in top))
    texts += _said_of_training([r for r in rows if r["kind"] == TRAINING])
    worst = max((r["check"] for r in points), default=0.0)
    texts.append(f"quotients computed apart differ from the eigenvalues by at most {worst:.0e}")
    return Section(
        "Where equivariant minima are unstable, and what decides it",
        "The theory allows a strict minimum on E to be a saddle of R^aug and does not say when. Along a direction of "
        "E⊥ the quotient is the decay plus a Gauss-Newton part, never negative, plus a residual part, the loss's slope "
        "against the second derivative of the network. It can only be negative where samples are not fitted.",
        ".\n\n".join(texts) + ".",
        _meaning(alive),
    )


def _said_of_training(train: Sequence[dict]) -> list[str]:
    """Of λ_min on E⊥ at random starts and after training, task by task."""
    texts = []
    for task in BASE:
        first = [r for r in train if r["cell"]["task"] == task and r["epoch"] == EPOCHS[0]]
        last = [r for r in train if r["cell"]["task"] == task and r["epoch"] == EPOCHS[-1]]
        if first and last:
            values = [np.median([r["lambda_min_E_perp"] for r in side]) for side in (first, last)]
            texts.append(
                f"{task}: E is transversally unstable at {sum(r['lambda_min_E_perp'] < 0 for r in first)} of "
                f"{len(first)} random starts (median λ_min {values[0]:.1e}) and after flow time "
                f"{EPOCHS[-1] * STEP:g} of equivariant training at "
                f"{sum(r['lambda_min_E_perp'] < 0 for r in last)} of {len(last)} "
                f"({values[1]:.1e})"
            )
    return texts


def _meaning(alive: Sequence[dict]) -> str:
    if len(alive) < 8:
        return "Too few points to say what decides."
    shaken, held = ([r for r in alive if unstable(r) == flag] for flag in (True, False))
    text = (
        f"{len(shaken)} of {len(alive)} equivariant minima are saddles of R^aug. The sign is that of a balance along "
        "one direction, residual part against Gauss-Newton part and decay: their ratio passes one as λ_min passes zero"
    )
    for name, side in (("unstable", shaken), ("stable", held)):
        if side:
            ratio, fit = (np.median([f(r) for r in side]) for f in (leverage, lambda r: r["misfit"]))
            text += f"; at {name} points its median is {ratio:.2g} and the median misfit {fit:.2g}"
    text += "."
    for scope, rows in [("all points", alive), *((t, [r for r in alive if r["cell"]["task"] == t]) for t in BASE)]:
        ranked = sorted(rank_correlations(rows).items(), key=lambda item: -abs(item[1]))[:3]
        if ranked:
            text += f" Over {scope} the ratio goes by rank with " if scope == "all points" else f" On {scope}, with "
            text += ", ".join(f"{name} ({value:+.2f})" for name, value in ranked) + "."
    zero = [r for r in shaken if r["parts"]["gauss_newton"] < 1e-6 * r["parts"]["decay"]]
    if zero:
        text += (
            f" At {len(zero)} unstable points the Gauss-Newton part of the lowest direction vanishes: the predictions "
            "do not see it to first order, and the decay alone holds it, against a residual part that the same decay "
            "leaves by keeping every sample from being fitted."
        )
    return text


def tables_of(rows: Sequence[dict]) -> list[dict]:
    """Every cell with its error bars."""
    header = ["task", "group", "width", "depth", "samples", "μ", "minima", "unstable", "share, 95 %"]
    header += ["median λ_min on E⊥", "its range", "median λ_min on E", "negative", "irrep", "train", "test", "constant"]
    lines = []
    for cell in dict.fromkeys(c for m in MAPS.values() for c in m.cells):
        mine = minima(of_cell(rows, cell))
        if not mine:
            continue
        count = sum(map(unstable, mine))
        low, high = interval(count, len(mine))
        perp = [r["lambda_min_E_perp"] for r in mine]
        leading = [r["irrep"] for r in mine]
        lines.append(
            [cell.task, problem_name(cell), cell.width, cell.depth, cell.samples, cell.decay, len(mine), count]
            + [f"{low:.2f} to {high:.2f}", float(np.median(perp)), f"{min(perp):.1e} to {max(perp):.1e}"]
            + [float(np.median([r["lambda_min_E"] for r in mine]))]
            + [f"{min(r['negative'] for r in mine)} to {max(r['negative'] for r in mine)}"]
            + [max(dict.fromkeys(leading), key=leading.count)]
            + [float(np.mean([r["accuracy"].get(k, np.nan) for r in mine])) for k in ("train", "test", "constant")]
        )
    alive = [r for r in minima(rows) if not collapsed(r)]
    scopes = {"all": alive, **{t: [r for r in alive if r["cell"]["task"] == t] for t in BASE}}
    ranks = {scope: rank_correlations(mine) for scope, mine in scopes.items()}
    title = "Rank correlation of −residual/(Gauss-Newton + μ) along the lowest direction with what might decide it"
    return [
        table("Every cell of the maps", header, lines),
        table(title, ["", *scopes], [[name, *(ranks[t].get(name) for t in scopes)] for name in CANDIDATES]),
    ]
