"""A problem whose answer is known, and what a true spectrum makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from stability.problem.problem import Problem

VERDICTS = ("eqv", "aug", "transverse")
TINY = 1e-8
# No stationary point, or no Hessian: then no sign is right.
NO_SIGN = "no sign"


@dataclass(frozen=True)
class Case:
    """A problem with its answer.

    Attributes:
        problem: the risk; None where ``verdicts`` are made otherwise.
        theta: the point judged.
        truth: verdict → status, or ``NO_SIGN``.
        lowest: the true λ_min on E and on E⊥, where there is one.
        verdicts: verdict → (status, evidence), for cases that are no whole analysis.
    """

    truth: dict[str, str]
    problem: Problem | None = None
    theta: Tensor | None = None
    lowest: dict[str, float] = field(default_factory=dict)
    verdicts: dict[str, tuple[str, str]] | None = None


def status(values: Sequence[float]) -> str:
    """What the smallest of true eigenvalues makes of a block."""
    least = min(values)
    return "unstable" if least < 0 else "degenerate" if least == 0 else "stable"


def answers(on_e: Sequence[float], across: Sequence[float]) -> dict[str, str]:
    """The truth on E, on L and on E⊥."""
    return {"eqv": status(on_e), "aug": status([*on_e, *across]), "transverse": status(across)}


def lowest(on_e: Sequence[float], across: Sequence[float]) -> dict[str, float]:
    return {"E": float(min(on_e)), "E_perp": float(min(across))}
