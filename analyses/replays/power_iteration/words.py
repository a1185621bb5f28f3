"""What the replay says, in words and in a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analyses.lab.publish import Section, table
from analyses.replays.power_iteration.measure import BATCH, TOP, WHEN
from analyses.replays.power_iteration.networks import NETWORKS

CAPTION = (
    "Left, for every network and time: what the replayed method shows (grey, the five eigenvalues of largest modulus "
    "of each mini-batch), the lowest eigenvalue of the network's own weights on all data, and the lowest on E⊥. Right: "
    "how many eigenvalues by modulus have to be computed until the first negative one, in the own weights and on E⊥."
)


def section(rows: list[dict]) -> Section:
    """The claim, what was measured, what follows."""
    verdict, finding = judged(rows)
    return Section(
        title="Can the five largest eigenvalues show that a loss is convex?",
        expected="Claimed: the Hessian spectra of an equivariant and of a relaxed equivariant network show no negative "
        "eigenvalue, early or late, so the loss is convex where training goes. Shown were the five eigenvalues of "
        f"largest modulus of mini-batches of {BATCH}. Once the largest eigenvalues are positive and large, a negative "
        "one that is smaller in modulus is not among them, however many there are.",
        measured="\n\n".join(t for t in (_shown(rows), *(_network(rows, n) for n in NETWORKS), _minimum(rows)) if t),
        means=verdict,
        finding=finding,
    )


def _shown(rows: Sequence[dict]) -> str:
    parts = []
    for when in WHEN:
        mine = [r for r in rows if r["when"] == when]
        batches = [(batch, low) for r in mine for batch, low in zip(r["shown"], r["lowest_of_batches"], strict=True)]
        if batches:
            seen, there = sum(min(batch) < 0 for batch, _ in batches), sum(low < 0 for _, low in batches)
            parts.append(f"{when}: {there} of {len(batches)} mini-batches have a negative one, {seen} show it")
    return f"What {TOP} eigenvalues of largest modulus show. {_sentences(parts)}"


def _network(rows: Sequence[dict], network: str) -> str:
    parts = []
    for when in WHEN:
        mine = [r for r in rows if (r["network"], r["when"]) == (network, when)]
        if mine:
            low, top = ([r["own"][k] for r in mine] for k in ("lowest", "highest"))
            count = [r["own"]["negative"] for r in mine]
            first = [r["own"]["first_negative"] for r in mine if r["own"]["first_negative"]]
            text = f"{when}: λ_min {_span(low)}, λ_max {_span(top)}, {_whole(count)} negative"
            text += f", the first at place {_whole(first)}" if first else ""
            text += f"; on E⊥ {_span([r['E_perp']['lowest'] for r in mine])}"
            parts.append(
                f"{text} (accuracy {_span([r['accuracy'] for r in mine])}, off E {_span([r['off'] for r in mine])})"
            )
    if not parts:
        return ""
    dim = next(r["own"]["dim"] for r in rows if r["network"] == network)
    return f"{network.capitalize()} network, {dim} weights of its own, all data. {_sentences(parts)}"


def _minimum(rows: Sequence[dict]) -> str:
    mine = [r for r in rows if r["when"] == WHEN[2]]
    if not mine:
        return ""
    unstable = sum(r["E_perp"]["lowest"] < -r["E_perp"]["residual"] for r in mine)
    worst = max(max(r[k]["residual"] for k in ("own", "E_perp")) for r in rows)
    return (
        f"Where the group network leads to on E ({len(mine)} found), ∇²R^aug on E is positive, from "
        f"{_span([r['E']['lowest'] for r in mine])}; on E⊥ it is negative at {unstable} of them, down to "
        f"{min(r['E_perp']['lowest'] for r in mine):.2g}. The largest residual of all these eigenvalues is {worst:.1e}."
    )


def judged(rows: Sequence[dict]) -> tuple[str, str]:
    """From how many spectra have a negative eigenvalue, and in how many of these the method shows none."""
    walked = [r for r in rows if r["when"] in WHEN[:2]]
    if not walked:
        return "Not decidable: no point has been looked at.", ""
    negative = [r for r in walked if r["own"]["lowest"] < -r["own"]["residual"] and r["own"]["negative"]]
    blind = [r for r in negative if min(min(batch) for batch in r["shown"]) >= 0]
    late = [r for r in walked if r["when"] == WHEN[1] and r["own"]["first_negative"]]
    if not negative:
        return f"Reproduced: none of {len(walked)} spectra has a negative eigenvalue.", ""
    numbers = f"{len(negative)} of {len(walked)} spectra on the way have negative eigenvalues"
    if late:
        places = [r["own"]["first_negative"] for r in late]
        deep = [-r["own"]["lowest"] / r["own"]["highest"] for r in late]
        numbers += (
            f"; after training the first stands at place {_whole(places)} by modulus, its size {_span(deep)} of λ_max"
        )
    deeper = sum(low < r["own"]["lowest"] for r in walked for low in r["lowest_of_batches"])
    batches = [batch for r in walked for batch in r["shown"]]
    quiet = sum(min(batch) >= 0 for batch in batches)
    return (
        f"Overturned as an inference: {numbers}. {quiet} of {len(batches)} mini-batches show no negative value among "
        f"{TOP}, and at {len(blind)} of {len(negative)} points with negative eigenvalues none of the mini-batches "
        "does. Seeing none of five is what a saddle looks like to this method. Seeing one on a mini-batch does not "
        f"make the risk non-convex either: {deeper} of {len(batches)} mini-batches have a deeper one than all the "
        "data. What the loss of the replayed networks is like where they went is not decidable from what was "
        "published; one Lanczos run for λ_min with its residual would decide it. Nor does the sign in the own weights "
        "of a group network speak for free weights, which see E⊥ as well.",
        f"{numbers[0].upper()}{numbers[1:]}; {quiet} of {len(batches)} looks of the replayed method show none.",
    )


def tables(rows: Sequence[dict]) -> list[dict]:
    """One line a point."""
    header = ["network", "when", "seed", "R", "‖∇R^aug‖", "accuracy", "lowest shown", "λ_min", "λ_max", "negative"]
    header += ["first at", "λ_min on E", "λ_min on E⊥", "residual"]
    lines = [
        [r["network"], r["when"], r["seed"], r["risk"], r["gradient_norm"], r["accuracy"]]
        + [min(min(batch) for batch in r["shown"]), r["own"]["lowest"], r["own"]["highest"], r["own"]["negative"]]
        + [r["own"]["first_negative"], r["E"]["lowest"], r["E_perp"]["lowest"], r["E_perp"]["residual"]]
        for r in rows
    ]
    return [table("Signed ends where five largest moduli were looked at", header, lines)]


def _span(values: Sequence[float]) -> str:
    """Smallest to largest."""
    low, high = f"{min(values):.2g}", f"{max(values):.2g}"
    return low if low == high else f"{low} to {high}"


def _whole(values: Sequence[int]) -> str:
    low, high = int(np.min(values)), int(np.max(values))
    return str(low) if low == high else f"{low} to {high}"


def _sentences(parts: Sequence[str]) -> str:
    return " ".join(f"{p[0].upper()}{p[1:]}." for p in parts)
