r"""Which kernels keep E? Supports that G maps to itself, supports it moves, and coordinates that are not orthonormal.

    python -m analyses.restricted [--size small|paper] [--out reports/restricted]

A convolutional network for digits, 1 → c₁ → c₂ → c₃ channels with 3 × 3 kernels of five taps, average pooling, tanh and
a linear head, under quarter turns of the image (arXiv 2303.13458, version 3 and later). Admissible layers are A_0 + T
with T given by the support; E = T ∩ H_G.

    cross      centre and four sides     Π_TΠ_G = Π_GΠ_T: exact augmented descent stays on E
    skewed     four sides and a corner   not: Π_T∇R^aug leaves E from the first step on

and either support in coordinates c ↦ Pc with P not orthonormal, where descent follows PPᵀ∇R^aug. Measured: ‖A_{E⊥}‖
along exact augmented descent (all four turns in every step) from points of E; the defects; and, at the start and after
descent on E, how much of the gradient of R^aug leaves E, the coupling of E to the rest, and the spectrum of ∇²R^aug on
E and E⊥.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from analyses.lab.command import command
from analyses.lab.publish import finish
from analyses.lab.rows import Rows
from analyses.studies.restricted.measure import compute
from analyses.studies.restricted.networks import SIZES
from analyses.studies.restricted.picture import draw
from analyses.studies.restricted.words import section, tables
from stability.base.storage import prepare_folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=tuple(SIZES), default="small")
    parser.add_argument("--out", type=Path, default=Path("reports/restricted"))
    options = parser.parse_args(arguments)
    size = SIZES[options.size]
    folder = prepare_folder(options.out)
    rows = Rows(folder / "restricted.json", {"size": options.size, **vars(size)})
    compute(rows, size)
    caption = (
        "Left: distance from E along exact augmented descent, one line for each start. Right: ends of the spectra."
    )
    finish(folder, "restricted", rows, draw(rows.rows), section(rows.rows), tables(rows.rows), caption)
    print(section(rows.rows).finding)


if __name__ == "__main__":
    raise SystemExit(command(main))
