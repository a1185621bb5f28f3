"""Runs of NOM and AUG of one combination together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analyses.paper.rotation.suspects import predicted_ratio


@dataclass(frozen=True)
class Setting:
    """NOM and AUG under one combination of head and sampler, at the end of training, one entry a run.

    Attributes:
        travelled: ‖A − A⁰‖ of AUG.
        norm, squared: ‖A_{E⊥}‖ and the published norm, of NOM and of AUG.
        predicted: AUG/NOM from the gradient at the start, for infinitely many passes.
        on_e: ‖Π_E ∇R‖ at the start, the mean.
    """

    task: str
    head: str
    sampler: str
    travelled: np.ndarray
    norm: dict[str, np.ndarray]
    squared: dict[str, np.ndarray]
    predicted: float
    on_e: float

    @property
    def label(self) -> str:
        """What pictures and tables call it."""
        if self.task == "trans":
            return "TRANS, C_4"
        return f"{'its head' if self.head == 'published' else 'logits'}, {self.sampler}"

    @property
    def ratio(self) -> float:
        """AUG/NOM, geometric mean over the runs."""
        return float(np.exp(np.mean(np.log(self.norm["AUG"] / self.norm["NOM"]))))


def settings(rows: Sequence[dict]) -> list[Setting]:
    """Rows of a combination together; NOM knows no sampler and is shared."""
    found = []
    for task, head, sampler in dict.fromkeys(
        (r["task"], r["head"], r["sampler"]) for r in rows if r["strategy"] == "AUG"
    ):
        here = [r for r in rows if (r["task"], r["head"]) == (task, head)]
        aug = {r["run"]: r for r in here if r["strategy"] == "AUG" and r["sampler"] == sampler}
        nom = {r["run"]: r for r in here if r["strategy"] == "NOM"}
        runs = sorted(aug.keys() & nom.keys())
        if not runs:
            continue
        sides = {"NOM": nom, "AUG": aug}
        found.append(
            Setting(
                task,
                head,
                sampler,
                np.array([aug[i]["travelled"][-1] for i in runs]),
                {k: np.array([side[i]["norm"][-1] for i in runs]) for k, side in sides.items()},
                {k: np.array([side[i]["squared_norm"][-1] for i in runs]) for k, side in sides.items()},
                float(np.mean([predicted_ratio(nom[i]["gradient"], sampler) for i in runs])),
                float(np.mean([nom[i]["gradient"]["E"] for i in runs])),
            )
        )
    return found
