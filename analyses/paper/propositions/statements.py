"""What is claimed, where it holds, and where its measurement must fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analyses.paper.propositions.measures import (
    corollary1,
    corollary2,
    lemma1,
    lemma1_dimension,
    lemma2,
    lemma3,
    lemma4,
    lemma5,
    lemma6,
    proposition1,
    proposition2,
    remark2,
    remark2_convexity,
    remark2_hessian,
    stationary,
)
from analyses.paper.propositions.place import Place
from stability.problem.problem import Problem

KINDS = ("random in E", "stationary in E", "off E")
ON_E = KINDS[:2]
# An error above this is no rounding; a control below this could not have failed.
ROUNDING, VISIBLE = 1e-8, 1e-4


@dataclass(frozen=True)
class Statement:
    """What is claimed, where it holds, and where it must fail.

    Attributes:
        key: in result files.
        name: in the paper.
        text: the claim.
        measure: the error at a place.
        holds: kinds of points where the error is rounding.
        fails: kinds where it must be of order one, as a control.
        open: kinds where it may be of any size, which is of interest by itself.
    """

    key: str
    name: str
    text: str
    measure: Callable[[Place], float]
    holds: tuple[str, ...] = KINDS
    fails: tuple[str, ...] = ()
    open: tuple[str, ...] = ()


OFF_E = KINDS[2:]
STATEMENTS = (
    Statement("lemma1", "Lemma 1", "A in E ⇔ ρ̄(g)A = A for all g", lemma1, ON_E, OFF_E),
    Statement("lemma1_dimension", "Lemma 1", "what all g fix has dimension dim E", lemma1_dimension, KINDS[:1]),
    Statement("lemma2", "Lemma 2", "Π_E = ∫ρ̄(g)dμ", lemma2),
    Statement("lemma3", "Lemma 3", "Φ_A(ρ(g)x) = ρ(g)Φ_{ρ̄(g)⁻¹A}(x)", lemma3),
    Statement("lemma4", "Lemma 4", "R^aug(A) = ∫R(ρ̄(g)A)dμ", lemma4),
    Statement("lemma5", "Lemma 5", "∫ρ̄⊗ρ̄ is the orthogonal projection", lemma5),
    Statement("lemma6", "Lemma 6", "(ΠM)[u,u] = M[u,u], (ΠM)[u,w] = 0", lemma6),
    Statement("prop1", "Proposition 1", "∇R^aug = Π_E∇R = ∇R^eqv", proposition1, ON_E, OFF_E),
    Statement("cor1", "Corollary 1", "exact AUG stays in E and follows EQUI", corollary1, ON_E),
    Statement("cor2", "Corollary 2", "‖∇R^aug‖ = ‖∇R^eqv‖", corollary2, ON_E, OFF_E),
    Statement("cor2_zero", "Corollary 2", "both vanish at what the search on E found", stationary, KINDS[1:2]),
    Statement("prop2", "Proposition 2", "∇²R^aug = ∫ρ̄ᵀ∇²Rρ̄dμ, ∇²R^eqv = Π_E∇²RΠ_E", proposition2, ON_E, OFF_E),
    Statement("remark2", "Remark 2", "R^aug = E ℓ(Φ^FA, y), with gradients", remark2, ON_E, open=OFF_E),
    Statement("remark2_hessian", "Remark 2", "∇²R^aug − ∇²R^FA ⪰ 0, zero on E", remark2_hessian, ON_E),
    Statement("remark2_convexity", "Remark 2", "R^aug ≥ E ℓ(Φ^FA, y), ℓ convex", remark2_convexity),
)


def measure(place: Place, kind: str) -> dict[str, float]:
    """The errors of all statements that hold, or must fail, at this kind of point."""
    return {s.key: s.measure(place) for s in STATEMENTS if kind in s.holds + s.fails + s.open}


def points(problem: Problem, seed: int) -> Iterator[tuple[str, Tensor]]:
    """A random point of E, and one off E."""
    at = problem.space.embed(problem.initial(seed))
    yield KINDS[0], at
    noise = torch.randn(len(at), generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(at)
    yield KINDS[2], at + 0.3 * float(at.norm()) * noise / noise.norm()


def gathered(rows: Sequence[dict], statement: Statement, kind: str) -> list[float]:
    """The errors of a statement at one kind of point, over all problems and seeds."""
    return [r["errors"][statement.key] for r in rows if r["kind"] == kind and statement.key in r["errors"]]


def failures(rows: Sequence[dict]) -> list[str]:
    """Statements whose error is no rounding where they hold, and controls that came out too small to prove anything."""
    found = []
    for row in rows:
        for s in STATEMENTS:
            error = row["errors"].get(s.key)
            if error is None:
                continue
            where = f"{s.name} ({s.text}), {row['spot']}, {row['group']}, {row['kind']}: {error:.1e}"
            if row["kind"] in s.holds and not error <= ROUNDING:
                found.append(where)
            if row["kind"] in s.fails and not error >= VISIBLE:
                found.append(f"control: {where}")
    for row in judged_points(rows):
        p = row["proposition3"]
        if "fails" in (p["i"], p["ii"]) or p["chain"] > ROUNDING:
            found.append(f"Proposition 3, {row['spot']}: {p}")
    return found


def judged_points(rows: Sequence[dict]) -> list[dict]:
    """Rows that speak of Proposition 3."""
    return [r for r in rows if "proposition3" in r]
