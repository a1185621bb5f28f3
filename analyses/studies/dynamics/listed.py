"""Rates, ends and factors as tables."""

from __future__ import annotations

from collections.abc import Sequence

from analyses.lab.publish import table
from analyses.studies.dynamics.picture import picked


def tables(rows: Sequence[dict]) -> list[dict]:
    """Rates, ends and factors."""
    flows, ends, jumps = (picked(rows, part) for part in ("flow", "end", "discrete"))
    return [
        table(
            "Flow",
            ["point", "irrep", "push / ‖A‖", "−λ", "measured rate", "relative error", "stops at ‖A_{E⊥}‖/‖A‖"],
            [
                [r["label"], r["irrep"], r["push"], r["rate_predicted"], r["rate_measured"]]
                + [r["relative_error"], r["stops_at"] if r["stops_at"] is not None else "never"]
                for r in flows
            ],
        ),
        table(
            "Ends",
            [
                "point",
                "way",
                "R^aug before",
                "after",
                "‖∇R^aug‖",
                "lowest eigenvalues",
                "negative",
                "|G|",
                "fix push",
                "fix A",
            ]
            + ["fix Φ", "orbits under what fixes A"],
            [
                [r["label"], r["way"], r["risk_start"], r["risk_end"], r["gradient_norm"]]
                + [", ".join(f"{e['value']:.2e}" for e in r["lowest"][:3])]
                + ["not counted" if r["negative"] is None else r["negative"]]
                + [r["symmetry_of_end"]["order_of_group"], r["symmetry_of_push"]["fixes_A"]]
                + [r["symmetry_of_end"]["fixes_A"], r["symmetry_of_end"]["fixes_function"]]
                + [str(r["symmetry_of_end"]["orbits_A"] or "")]
                for r in ends
            ],
        ),
        table(
            "Long steps",
            ["point", "step", "is", "space", "λ_max", "1 − τλ", "measured"],
            [
                [r["label"], r["step"], r["where"], "E" if r["space"] == "E" else "E⊥", r["eigenvalue"]]
                + [r["factor_predicted"], r["factor_measured"]]
                for r in jumps
            ],
        ),
    ]
