r"""A deep linear network: every critical point with its index, known in closed form, and what symmetry adds.

    python -m analyses.examples.deep_linear

R(W) = E ½|W_H ⋯ W_1 x − y|², with M = E[yxᵀ] E[xxᵀ]^{−1/2} = UΣVᵀ square, invertible, its singular values distinct.

**Critical points** (Baldi & Hornik 1989 for H = 2; Achour, Malgouyres & Gerchinovitz, JMLR 2024, for every depth). The
product is U_S U_Sᵀ E[yxᵀ] E[xxᵀ]⁻¹ for a set S of singular directions. Up to a change of basis in the hidden spaces

    W_H = [U_S, U_Q Z_H],   W_h = diag(1, Z_h),   W_1 = [Σ_S V_Sᵀ; Z_1 V_Qᵀ] E[xxᵀ]^{−1/2},

Q being the rest of the directions. The blocks Z_h act on what the network leaves unused, f_h = p_h − |S| dimensions
of hidden layer h and q = d − |S| of the data, and Z_{j−1} ⋯ Z_1 Σ_Q Z_H ⋯ Z_{j+1} = 0 for every j. For H = 2 all Z_h
vanish.

**Index** (the negative eigenvalues of ∇²R, with z_h = rank Z_h; derived in docs/examples/deep-linear.md)

    H = 2:   #{(i, k): i ∈ S, k ∉ S, σ_k > σ_i} + q f_1
    H = 3:   #{(i, k): …} + z_1 f_2 + z_2 q + z_3 f_1 − (z_1 z_2 + z_2 z_3 + z_3 z_1)

The first term counts better directions that a used one could turn to, the second unused ones that nothing stops. So for
H = 3, S leading and Z = 0 the index is 0 although R is not minimal: a saddle that no Hessian can tell.

**Symmetry.** Under a group R^aug of a linear network is the risk of another one, whose second moments are averaged
over the group. Where it acts on x and y by d copies of the permutation representation of S_n, M becomes a d × d block
for the trivial and one for the standard irrep, and the index splits over the sectors: a pair (i of type λ, k of type μ)
counts in sector ν as often as V_ν occurs in V_λ ⊗ V_μ. Whether an equivariant point is stable on E⊥ is then arithmetic.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from analyses.examples.deep_linear.critical import landscape
from analyses.examples.deep_linear.measure import hidden_space, landscape_rows, symmetric_rows
from analyses.examples.deep_linear.picture import draw
from analyses.examples.deep_linear.symmetry import HIDDEN, symmetrised
from analyses.examples.deep_linear.words import section
from analyses.lab.command import command
from analyses.lab.publish import finish, table
from analyses.lab.rows import Rows
from stability.base.storage import prepare_folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Resolve every class of critical points, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", help="d p d or d p p' d; by default 4 2 4 and 3 3 2 3")
    parser.add_argument("--seed", type=int, default=0, help="of data and representatives")
    parser.add_argument("--out", type=Path, default=Path("reports/deep-linear"))
    options = parser.parse_args(arguments)
    every = [options.widths] if options.widths else [[4, 2, 4], [3, 3, 2, 3]]
    lands = [landscape(widths, options.seed) for widths in every]
    folder = prepare_folder(options.out)
    rows = Rows(folder / "deep-linear.json", {"widths": every, "seed": options.seed})
    if not rows.rows:
        for land in lands:
            rows.rows += landscape_rows(land, options.seed + 1)
        for ones, copies in HIDDEN:
            rows.rows += symmetric_rows(symmetrised(ones=ones, copies=copies, seed=options.seed))
    listed = [
        table(
            "Critical points without symmetry",
            ["widths", "S", "ranks of Z", "R", "index, theory", "index, measured"],
            [
                [
                    "–".join(map(str, r["widths"])),
                    str(r["used"]),
                    str(r["ranks"]),
                    r["risk"],
                    r["index_theory"],
                    r["index_measured"],
                ]
                for r in rows.rows
                if r["part"] == "landscape"
            ],
        ),
        table(
            "Equivariant critical points under S_4, by sector",
            ["hidden space", "S trivial", "S standard", "index by sector, theory", "measured"],
            [
                [
                    hidden_space(r),
                    str(r["used"]["trivial"]),
                    str(r["used"]["standard"]),
                    str(r["index_theory"]),
                    str(r["index_measured"]),
                ]
                for r in rows.rows
                if r["part"] == "symmetry"
            ],
        ),
    ]
    said = section(rows.rows)
    finish(folder, "deep-linear", rows, draw(rows.rows, every[-1]), said, listed)
    print(said.measured)


if __name__ == "__main__":
    raise SystemExit(command(main))
