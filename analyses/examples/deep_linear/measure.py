"""Theory beside measurement."""

from __future__ import annotations

from analyses.examples.deep_linear.critical import Landscape, classes, index, is_minimum, representative, spectrum_at
from analyses.examples.deep_linear.symmetry import Symmetrised, sector_spectra


# -- the command ------------------------------------------------------------------------------------------------------
def landscape_rows(land: Landscape, seed: int) -> list[dict]:
    """Theory and measurement at a random representative of every class."""
    rows = []
    values = land.directions[1]
    for point in classes(land.widths):
        spectrum, gradient = spectrum_at(land.problem, representative(land, point, seed))
        rows.append(
            {
                "part": "landscape",
                "widths": list(land.widths),
                "used": list(point.used),
                "ranks": list(point.ranks),
                "risk": land.risk(point.used),
                "minimum": is_minimum(land.widths, point),
                "index_theory": index(land.widths, values, point),
                "index_measured": spectrum.negative_count,
                "lowest": spectrum.lowest[0].value,
                "error": spectrum.error,
                "gradient": gradient,
            }
        )
    return rows


def symmetric_rows(example: Symmetrised) -> list[dict]:
    """Theory and measurement at every class of equivariant critical points, sector by sector."""
    rows = []
    for used in example.classes():
        at = example.representative(used)
        found, theory = sector_spectra(example.problem, at), example.index(used)
        rows.append(
            {
                "part": "symmetry",
                "hidden": [example.ones, example.copies],
                "used": {name: list(s) for name, s in used.items()},
                "equivariant_minimum": example.is_equivariant_minimum(used),
                "index_theory": {name: theory[name] for name in found},
                "index_measured": {name: s.negative_count for name, s in found.items()},
                "lowest": {name: s.lowest[0].value for name, s in found.items()},
            }
        )
    return rows


def hidden_space(row: dict) -> str:
    """m·1 + k·R⁴, zeros left out."""
    ones, copies = row["hidden"]
    return " + ".join([f"{ones}·1"] * bool(ones) + [f"{copies}·R⁴"] * bool(copies))
