r"""Remark 1: what changes when R^aug is sampled with K Haar elements instead of averaged over all of G?

    python -m analyses.augmentation [--parts gradient hessian drift feedback lowest] [--tasks perm trans rot tiny]

The data is cut into mini-batches, R = Σ_b R_b (+ decay), and K passes move mini-batch b of pass k by its own Haar
element, drawn with replacement: R_K = (1/K) Σ_k Σ_b R_b(ρ̄(g_{kb})^{-1}·). At A in E, with u_b = Π_{E⊥}∇R_b(A) and
H_b = ∇²R_b(A),

    E‖∇R_K − ∇R^aug‖²     = Σ_b ‖u_b‖² / K                             all of it in E⊥
    E‖∇²R_K − ∇²R^aug‖_F² = Σ_b (‖H_b‖_F² − ‖∫ρ̄(g)H_bρ̄(g)ᵀdμ‖_F²) / K
    E‖A_{E⊥}(n)‖²         = τ²/K Σ_{j<n} Σ_b ‖M_{n−1}⋯M_{j+1} u_b(A_j)‖²     to first order in 1/K

along sampled descent A_0, A_1, … from E with step τ, where M_j = 1 − τ∇²R^aug(A_j). One g a pass is the case of a
single mini-batch. λ_min is concave, so λ_min of ∇²R_K on E⊥ is in the mean too low, and less so the larger K.
docs/mathematics.md derives all of it.

* gradient: gradients of the training core against ∇R^aug.
* hessian: ∇²R_b of data moved by every g, all pairs of inner products, and from them the distance of any draw.
* drift: sampled descent against the law above.
* feedback: what the law leaves out at K = 1, as the step shrinks: beside it, sampled descent with every draw's gradient
  expanded around A, ∇R_b + ∇²R_b y + ½∇³R_b[y, y], of which the law holds ∇R_b and the mean of ∇²R_b.
* lowest: λ_min on E⊥ of ∇²R_K, for digits of 3×3 pixels ("tiny"), where a draw takes milliseconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from analyses.lab.command import command
from analyses.lab.publish import finish
from analyses.lab.rows import Rows
from analyses.studies.augmentation.measure import BATCHES, CASES, DRAWS, EPOCHS, PARTS, compute
from analyses.studies.augmentation.picture import CAPTION, draw
from analyses.studies.augmentation.words import section, tables
from stability.base.errors import BadInput
from stability.base.storage import prepare_folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tasks = [*(c.task for c in CASES), "tiny"]
    parser.add_argument(
        "--parts", nargs="*", default=list(PARTS), help=f"of {', '.join(PARTS)}; none: only words and picture"
    )
    parser.add_argument("--tasks", nargs="+", default=tasks, choices=tasks)
    parser.add_argument("--out", type=Path, default=Path("reports/augmentation"))
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        raise BadInput(f"--parts {' '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    folder = prepare_folder(options.out)
    rows = Rows(folder / "augmentation.json", {"batches": BATCHES, "draws": DRAWS, "epochs": EPOCHS})
    compute(rows, options.parts, options.tasks)
    said = section(rows.rows)
    finish(folder, "augmentation", rows, draw(rows.rows), said, tables(rows.rows), CAPTION)
    print(said.measured)


if __name__ == "__main__":
    raise SystemExit(command(main))
