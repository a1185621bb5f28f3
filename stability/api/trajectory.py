r"""A training run, recorded by three lines and judged afterwards: why does the network stop being equivariant?

    record = stability.Recorder("run", every=100)        # before the loop
    record(model, step, time=step * learning_rate)       # in it
    print(stability.follow(problem, record))             # after it

Near E augmented training obeys ẏ = −∇²R^aug y on E⊥ (eqs. 26-27): the distance grows like exp(−λ_min t) where λ_min
of ∇²R^aug on E⊥ is negative, and shrinks where it is positive. Training without augmentation is pushed off E besides,
at the speed ‖(I − Π_E)∇R‖, however stable E is.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn
from tqdm import tqdm

from stability.api.diagnosis import diagnose
from stability.api.stages import state_of
from stability.base import doors
from stability.base.errors import BadInput
from stability.base.record import Record, known, shown
from stability.base.storage import prepare_folder, read_tensors, write_tensors
from stability.problem.problem import Problem

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Snapshot:
    """Weights and buffers at one step, with the flow time Σ learning rates where it was told.

    Attributes:
        step: of the run.
        step: of the run.
        time: Σ learning rates up to it; None where it was not told.
        time: Σ learning rates up to it; None where it was not told.
        state: tensors by name, as a ``state_dict`` has them.
        state: tensors by name, as a ``state_dict`` has them.
    """

    step: int
    time: float | None
    state: Mapping[str, Tensor]


class Recorder:
    """Keeps a copy of a module's weights every so many steps.

    Args:
        folder: where snapshots go, as safetensors, each whole or not at all; None keeps them in memory. Snapshots that
            an earlier run left there are read too.
        every: steps between snapshots.
        limit: how many to keep at most, so that a forgotten recorder fills no disk.
    """

    def __init__(self, folder: str | os.PathLike | None = None, every: int = 1, limit: int = 10_000) -> None:
        if folder is not None:
            doors.kind("Recorder: folder", folder, str | os.PathLike, "give the path of a folder, or None")
        self.every = doors.whole("Recorder: every", every, 1)
        self.limit = doors.whole("Recorder: limit", limit, 1)
        self.folder = None if folder is None else prepare_folder(Path(folder))
        self.kept: dict[int, Snapshot] = {}

    def __call__(self, module: nn.Module, step: int, time: float | None = None) -> None:
        """Record the module if the step is due; the module is only read.

        Raises:
            BadInput: no module, a step that is no whole number ≥ 0, a time that is no number.
        """
        doors.kind("Recorder", module, nn.Module, "give the module that is trained")
        step = doors.whole("Recorder: step", step, 0)
        time = None if time is None else doors.number("Recorder: time", time, -math.inf)
        if step % self.every or len(self) >= self.limit:
            return
        state = {k: v.detach().cpu().clone() for k, v in state_of(module).items()}
        if self.folder is None:
            self.kept[step] = Snapshot(step, time, state)
            return
        told = {"step": str(step)} | ({} if time is None else {"time": repr(float(time))})
        write_tensors(self.folder / f"step-{step:010d}.safetensors", state, told)

    def _files(self) -> list[Path]:
        return [] if self.folder is None else sorted(self.folder.glob("step-*.safetensors"))

    def __len__(self) -> int:
        return len(self.kept) or len(self._files())

    def __iter__(self) -> Iterator[Snapshot]:
        """Snapshots in the order of their steps."""
        for step in sorted(self.kept):
            yield self.kept[step]
        for file in self._files():
            tensors, told = read_tensors(file, "Recorder")
            yield Snapshot(int(told["step"]), float(told["time"]) if "time" in told else None, tensors)


@dataclass(frozen=True)
class Moment(Record):
    """One snapshot, judged.

    Attributes:
        step: of the training run.
        time: flow time; None where it was not recorded.
        risk: R at the weights.
        distance: ‖A − Π_E A‖.
        share: distance/‖A‖.
        equivariance_error: of the network, relative.
        gradient_E, gradient_perp: norms of the parts of ∇R on E and on E⊥ at the weights.
        forcing: ‖(I − Π_E)∇R(Π_E A)‖.
        lowest_E: least eigenvalue of ∇²R^aug on E at the projection; None where not computed.
        lowest_perp: the same on E⊥.
        residual: of ``lowest_perp``.
        irrep: its sector.
        sign: "negative", "positive" or "undecided", of the spectrum on E⊥; see :class:`Diagnosis`.
        growth: d log distance / dt since the snapshot before; None without times or without distance.
        predicted: −λ_min on E⊥ at the snapshot before, the most that growth can be by instability alone.
    """

    step: int
    time: float | None
    risk: float
    distance: float
    share: float
    equivariance_error: float | None
    gradient_E: float
    gradient_perp: float
    forcing: float
    lowest_E: float | None
    lowest_perp: float | None
    residual: float | None
    irrep: str | None
    sign: str | None
    growth: float | None
    predicted: float | None


@dataclass(frozen=True)
class Trajectory(Record):
    """The snapshots of a run, judged one after the other.

    Attributes:
        problem: name of the problem they were judged by.
        problem: name of the problem they were judged by.
        moments: in the order of the steps.
        moments: in the order of the steps.
    """

    problem: str
    moments: tuple[Moment, ...]

    def rows(self) -> list[dict]:
        """One line a snapshot."""
        return [vars(moment).copy() for moment in self.moments]

    def __str__(self) -> str:
        columns = {
            "step": "step",
            "risk": "R",
            "distance": "‖A_E⊥‖",
            "equivariance_error": "equiv. error",
            "forcing": "forcing",
            "lowest_perp": "λ_min(E⊥)",
            "irrep": "irrep",
            "growth": "growth",
            "predicted": "−λ_min",
        }
        heads = tuple(columns.values())
        table = [heads]
        for moment in self.moments:
            cells = [getattr(moment, name) for name in columns]
            table.append(tuple("–" if c is None else f"{c:.4g}" if isinstance(c, float) else shown(c) for c in cells))
        widths = [max(len(row[i]) for row in table) for i in range(len(heads))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
        return "\n".join([*lines, self.summary()])

    def figure(self) -> Figure:
        """Distance to E, equivariance error, forcing and the least eigenvalues of ∇²R^aug, one axis each."""
        from matplotlib.figure import Figure  # loads for seconds

        steps = [m.step for m in self.moments]
        figure = Figure(figsize=(7.2, 8.4), layout="constrained")
        panels = figure.subplots(4, sharex=True)
        for axes, name, label in zip(
            panels[:3],
            ("distance", "equivariance_error", "forcing"),
            (
                "distance to $E$\n" + r"$\|A-\Pi_E A\|$ (weights)",
                "equivariance error\nof Φ, relative",
                "forcing\n" + r"$\|(I-\Pi_E)\nabla R(\Pi_E A)\|$",
            ),
            strict=True,
        ):
            known = [(m.step, getattr(m, name)) for m in self.moments if getattr(m, name) is not None]
            if known:
                axes.plot(*zip(*known, strict=True), "o-", color="black")
            if known and all(value > 0 for _, value in known):
                axes.set_yscale("log")
            axes.set_ylabel(label)
        below = panels[3]
        for name, style, where in (("lowest_perp", "o-", "E⊥"), ("lowest_E", "s--", "E")):
            known = [(m.step, getattr(m, name)) for m in self.moments if getattr(m, name) is not None]
            if known:
                colour = "black" if where == "E⊥" else "0.45"
                below.plot(*zip(*known, strict=True), style, color=colour, label=f"on {where}")
        below.axhline(0, color="black", linewidth=1.5)
        below.set_ylabel(r"$\lambda_{\min}$ of $\nabla^2R^{\mathrm{aug}}$")
        below.set_xlabel("step of training")
        if below.get_legend_handles_labels()[0]:
            below.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1))
        if len(set(steps)) == 1:
            below.set_xlim(steps[0] - 1, steps[0] + 1)
        return figure

    def summary(self) -> str:
        """One sentence: when E was left, and by which of the two mechanisms."""
        if not self.moments:
            return "no snapshots"
        first, last = self.moments[0], self.moments[-1]
        grown = f"the distance to E went from {first.distance:.3g} to {last.distance:.3g}"
        unstable = [m for m in self.moments if m.sign == "negative"]
        judged = [m for m in self.moments if m.lowest_perp is not None]
        forced = max(self.moments, key=lambda m: m.forcing)
        if not judged:
            empty = any(m.lowest_E is not None for m in self.moments)
            why = "no sector outside E: E⊥ = {0}, or none was asked for" if empty else "spectra were not computed"
            return f"{grown}; {why}"
        push = f"without augmentation the push off E was ≤ {forced.forcing:.2g}"
        if not unstable:
            stable = sum(m.sign == "positive" for m in judged)
            return f"{grown}; E was stable at {stable} of {len(judged)} snapshots, undecided at the others; {push}"
        strongest = min(unstable, key=lambda m: known("λ_min", m.lowest_perp))
        return (
            f"{grown}; E was unstable at {len(unstable)} of {len(judged)} snapshots, most at step {strongest.step} "
            f"(λ_min {strongest.lowest_perp:.3g} in sector {strongest.irrep}); {push}"
        )


def follow(
    problem: Problem,
    snapshots: Recorder | str | os.PathLike | Iterable[Snapshot],
    *,
    names: str = "all",
    every: int = 1,
    seed: int = 0,
) -> Trajectory:
    """Distance, equivariance error, gradients and spectra at every snapshot of a training run.

    Args:
        problem: the risk that was trained, with augmentation or without.
        snapshots: a recorder, its folder, or snapshots.
        names: sectors: "all", "none" (no spectra), or names of irreps.
        every: judge one snapshot in so many, and the last.
        seed: of the group elements that equivariance is tried with.

    Raises:
        BadInput: no snapshots, or weights that do not fit.
    """
    doors.kind("problem", problem, Problem, "give one made by from_module, from_risk or from_network")
    doors.irreps("names", names)
    every, seed = doors.whole("every", every, 1), doors.seed(seed)
    mend = "give a Recorder, its folder or a list of snapshots"
    if isinstance(snapshots, str | os.PathLike):
        if not Path(snapshots).is_dir():
            raise BadInput(f"follow: there is no folder {str(snapshots)!r}; {mend}")
        snapshots = Recorder(snapshots)
    found = list(doors.kind("snapshots", snapshots, Iterable, mend))
    if strange := [s for s in found if not isinstance(s, Snapshot)]:
        raise BadInput(f"snapshots: {doors.shown(strange[0])}; {mend}")
    if not found:
        raise BadInput("follow: no snapshots; call the recorder in the training loop")
    chosen = [s for i, s in enumerate(found) if i % every == 0 or i == len(found) - 1]
    moments: list[Moment] = []
    for snapshot in tqdm(chosen, desc="trajectory", disable=None, leave=False):
        d = diagnose(problem, dict(snapshot.state), names=names, seed=seed, eigenvalues=1)
        on_e = [s.lowest[0].value for s in d.sectors if s.irrep == "trivial" and s.lowest]
        before = moments[-1] if moments else None
        moments.append(
            Moment(
                step=snapshot.step,
                time=snapshot.time,
                risk=known("R", d.risk["nominal"]),
                distance=d.distance,
                share=d.share,
                equivariance_error=d.equivariance_error,
                gradient_E=known("∇R on E", d.gradient["nominal_E"]),
                gradient_perp=known("∇R on E⊥", d.gradient["nominal_perp"]),
                forcing=d.forcing,
                lowest_E=on_e[0] if on_e else None,
                lowest_perp=d.lowest,
                residual=d.residual,
                irrep=d.irrep,
                sign=d.sign,
                growth=None if before is None else _growth(before, snapshot.time, d.distance),
                predicted=None if before is None or before.lowest_perp is None else -before.lowest_perp,
            )
        )
    return Trajectory(problem.name, tuple(moments))


def _growth(before: Moment, time: float | None, distance: float) -> float | None:
    if time is None or before.time is None or not time > before.time or before.distance <= 0 or distance <= 0:
        return None
    return math.log(distance / before.distance) / (time - before.time)


__all__ = ["Moment", "Recorder", "Snapshot", "Trajectory", "follow"]
