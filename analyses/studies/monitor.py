r"""Does the monitor announce that E will be left, in time, and is it silent where E is kept?

    python -m analyses.monitor [--of 100] [--out reports/monitor]

Every run starts at an equivariant stationary point, 1e-6 ‖A‖ away along the mode of E⊥ that ∇²R^aug bends down most,
with a third as much in a random direction, and takes steps of torch's own SGD, with momentum or not, on the data moved
by all of the group. Rates are a third of the longest that the point bears, and at most such that nothing doubles in
fewer than 600 steps. The monitor knows none of this; it looks at the first step and at every 250th. A run in which the
equivariance error doubles is unstable and ends there; one is stable whose error has not grown after 600 steps or more
and whose distance to E is then smaller than ever. Any other is left out, such as runs along a mode that the output does
not show to first order: E is left, and the error falls. Of which kind a run will be is foretold by the spectrum only to
have as many of both; what would take longer than 900 steps to double is not run.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm import tqdm

import stability
from analyses.lab.command import command
from analyses.lab.publish import Section, finish, table
from analyses.lab.rows import Rows
from analyses.studies.optimisers import SPACES, TASKS, Place, problem_of
from stability.api.monitor import Monitor
from stability.base.errors import BadInput
from stability.base.storage import prepare_folder
from stability.curvature.at import At
from stability.eigen.operator import assemble
from stability.optimisers.blocks import Block, resolve
from stability.points.describe import equivariance_error
from stability.points.stationary import gradient_scale, minimise
from stability.problem.problem import Problem
from stability.problem.tensors import pack
from stability.spectra import sectors

PUSH, RANDOM, SLOWEST, SHARE = 1e-6, 1 / 3, 600, 1 / 3
EVERY, LOOKED, LONGEST, QUIET = 250, 25, 2000, 600
AHEAD = 500
DECAYS, MOMENTA = (1e-3, 3e-3, 1e-2, 3e-2), (0.0, 0.9)
# By so much the distance has grown while the error fell: along a mode that the network's output does not show yet.
HIDDEN = 1.5
# What takes longer to double is neither kind within the steps of a run, and is not run.
PATIENCE = 900


class Weights(nn.Module):
    """The weights of a problem as parameters, by their names."""

    def __init__(self, problem: Problem, at: Tensor) -> None:
        super().__init__()
        for name, value in stability.weights(problem, at).items():
            self.register_parameter(name, nn.Parameter(value.clone()))


def jobs() -> Iterator[tuple[Place, float, float]]:
    """Points and momenta without end, seed by seed."""
    seed = 0
    while True:
        for group in SPACES:
            for task in TASKS:
                for decay in DECAYS:
                    yield Place(task, group, seed), decay, MOMENTA[seed % 2]
        seed += 1


def start_of(problem: Problem, theta: Tensor, blocks: Sequence[Block], seed: int) -> Tensor:
    """A point near E: along the lowest mode, and a third as far in a random direction."""
    block = min(blocks, key=lambda b: float(b.values[0]))
    mode = sectors.lift(problem.space, block.irrep, block.vectors[:, :1].mT)[0, 0]
    generator = torch.Generator().manual_seed(seed)
    random = problem.space.transverse_part(torch.randn(problem.space.dim, generator=generator, dtype=torch.float64))
    at = problem.space.embed(theta)
    return at + PUSH * at.norm() * (mode / mode.norm() + RANDOM * random / random.norm())


def rate(problem: Problem, theta: Tensor, blocks: Sequence[Block], beta: float) -> float:
    """The learning rate of a run."""
    at = At(problem, theta)
    top = max(float(torch.linalg.eigvalsh(assemble(at.on_e, theta))[-1]), *(float(b.values[-1]) for b in blocks))
    lowest = min(float(b.values[0]) for b in blocks)
    longest = SHARE * 2 * (1 + beta) / top
    return min(longest, math.log(2) * (1 - beta) / (SLOWEST * -lowest)) if lowest < 0 else longest


def run(place: Place, decay: float, beta: float, wanted: Collection[str]) -> dict | None:
    """One run beside a monitor; None of a kind that is not wanted, as the spectrum foretells it."""
    problem = problem_of(place, decay)
    theta = minimise(problem, problem.initial(place.seed), 1e-8 * gradient_scale(problem, place.seed))
    if float(theta.norm()) < 0.1:
        return {"outcome": "zero"}  # where decay leads to no network
    blocks = list(resolve(problem, theta))
    step, lowest = rate(problem, theta, blocks, beta), min(float(b.values[0]) for b in blocks)
    if lowest < 0 and math.log(2) * (1 - beta) / (step * -lowest) > PATIENCE:
        return {"outcome": "slow", "lowest": lowest}
    if ("unstable" if lowest < 0 else "stable") not in wanted:
        return None
    module = Weights(problem, start_of(problem, theta, blocks, place.seed))
    optimiser = torch.optim.SGD(module.parameters(), lr=step, momentum=beta)
    monitor = Monitor(problem, optimiser, every=EVERY, on_alarm=None)
    data, doubled = problem.augmented(), None
    first = last = error(problem, module)
    far = [distance(problem, module)]
    for count in range(1, LONGEST + 1):
        at = flat(problem, module).requires_grad_()
        (gradient,) = torch.autograd.grad(problem.loss(at, data) + problem.penalty(at), at)
        for weight, part in zip(module.parameters(), problem.space.split(gradient), strict=True):
            weight.grad = part.reshape(weight.shape)
        optimiser.step()
        monitor(module)
        if count % LOOKED == 0:
            last = error(problem, module)
            if last > 2 * first:
                doubled = count
                break
            far.append(distance(problem, module))
            if count >= QUIET and last < first and (far[-1] > HIDDEN * far[0] or far[-1] == min(far)):
                break
    back = last < first and far[-1] == min(far)
    outcome = "unstable" if doubled else "stable" if back else "neither"
    alarm = monitor.raised[0] if monitor.raised else None
    return {
        "outcome": outcome,
        "lowest": lowest,
        "step": step,
        "distance": [far[0], far[-1]],
        "first": first,
        "last": last,
        "steps": monitor.step,
        "doubled": doubled,
        "alarm": alarm.step if alarm else None,
        "reason": alarm.reason if alarm else None,
        "looks": len(monitor.events),
    }


def flat(problem: Problem, module: nn.Module) -> Tensor:
    """A, (dim L)."""
    return pack(problem.space, {k: v.detach() for k, v in module.named_parameters()})


def distance(problem: Problem, module: nn.Module) -> float:
    """‖A_{E⊥}‖."""
    return float(problem.space.transverse_part(flat(problem, module)).norm())


def error(problem: Problem, module: nn.Module) -> float:
    """The relative equivariance error."""
    at = flat(problem, module)
    found = equivariance_error(problem, problem.space.project(at), at, 0)
    assert found is not None
    return found


def compute(rows: Rows, of: int) -> None:
    """Run after run until there are so many of each kind."""

    def missing() -> dict[str, int]:
        return {kind: of - len(rows.pick(outcome=kind)) for kind in ("unstable", "stable")}

    with tqdm(total=2 * of, desc="monitor", disable=None) as bar:
        for place, decay, beta in jobs():
            if max(missing().values()) <= 0:
                return
            key = {"label": place.label, "decay": decay, "momentum": beta}
            wanted = [kind for kind, count in missing().items() if count > 0]
            if not rows.has(**key) and (found := run(place, decay, beta, wanted)) is not None:
                rows.add({**key, **found})
            bar.n = 2 * of - sum(max(v, 0) for v in missing().values())
            bar.refresh()


def kinds(rows: Sequence[dict], of: int | None = None) -> tuple[list[dict], list[dict]]:
    """Unstable and stable runs, the first so many of each."""
    unstable, stable = ([r for r in rows if r["outcome"] == kind][:of] for kind in ("unstable", "stable"))
    return unstable, stable


def ahead(row: dict) -> int | None:
    """Steps from the alarm to the doubling; None without an alarm before it."""
    return None if row["alarm"] is None or row["alarm"] > row["doubled"] else row["doubled"] - row["alarm"]


def draw(rows: Sequence[dict]) -> Figure:
    """Left: steps from alarm to doubling; right: λ_min of all runs, those with an alarm marked."""
    unstable, stable = kinds(rows)
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    leads = [ahead(r) or 0 for r in unstable]
    left.hist(leads, bins=20, color="0.6", edgecolor="black")
    left.axvline(AHEAD, color="black", linestyle=":")
    left.set_xlabel("steps from the alarm to the doubled error")
    left.set_ylabel("unstable runs")
    left.yaxis.get_major_locator().set_params(integer=True)
    for kind, level in (("unstable", unstable), ("stable", stable)):
        values = np.sort([r["lowest"] for r in level])
        right.plot(
            values, np.linspace(0, 1, len(values)), "-" if kind == "unstable" else "--", color="black", label=kind
        )
    wrong = [r["lowest"] for r in stable if r["alarm"] is not None]
    right.plot(wrong, [0.5] * len(wrong), "x", color="#d55e00", label="false alarm" if wrong else None)
    right.set_xscale("symlog", linthresh=1e-3)
    right.axvline(0, color="black", linewidth=0.8)
    right.set_xlabel(r"$\lambda_{\min}$ of $\nabla^2 R^{\mathrm{aug}}$ on $E^\perp$ at the start")
    right.set_ylabel("share of runs")
    right.legend(frameon=False, fontsize="small")
    return figure


CAPTION = (
    "Left: how long before the equivariance error has doubled the monitor raised its alarm; the dotted line is 500 "
    "steps. Right: the least eigenvalue on E⊥ at the start of unstable and of stable runs."
)


def section(rows: Sequence[dict]) -> Section:
    """Words from the rows."""
    unstable, stable = kinds(rows)
    leads = [ahead(r) for r in unstable]
    told, false = sum(a is not None and a >= AHEAD for a in leads), [r for r in stable if r["alarm"] is not None]
    known = sorted(a for a in leads if a is not None)
    middle = f"{known[len(known) // 2]:,} steps in the middle, {known[0]:,} at least" if known else "none"
    late = "; ".join(f"{r['label']}, {a}" for r, a in zip(unstable, leads, strict=True) if a is None or a < AHEAD)
    others = len(rows) - len(unstable) - len(stable)
    return Section(
        title="A monitor beside two kinds of runs",
        expected="Where ∇²R^aug has a negative eigenvalue on E⊥ a deviation of rounding's size grows for thousands of "
        "steps before anybody sees it; its curvature is there from the first.",
        measured=f"Of {len(unstable)} unstable runs {told} were announced {AHEAD} steps or more before the "
        f"equivariance error had doubled ({middle}; later or never: {late or 'none'}). Of {len(stable)} stable runs "
        f"{len(false)} raised an alarm. {others} points had no network, were too slow, or ended as neither.",
        means="What the monitor says of instability can be acted on while the network is still equivariant. What "
        "counts as stable was made stricter once, and those runs were made again: of 39 that the first rule "
        "let end too early 27 had raised an alarm, all of them with λ_min < 0 by the full matrix.",
        finding=f"{told} of {len(unstable)} unstable runs announced {AHEAD} steps ahead, {len(false)} false alarms in "
        f"{len(stable)} stable ones.",
    )


def tables(rows: Sequence[dict]) -> list[dict]:
    """One line a group."""
    unstable, stable = kinds(rows)
    lines = []
    for group in SPACES:
        mine, calm = ([r for r in part if f", {group}," in r["label"]] for part in (unstable, stable))
        told = sum((ahead(r) or 0) >= AHEAD for r in mine)
        lines.append([group, len(mine), told, len(calm), sum(r["alarm"] is not None for r in calm)])
    return [table("Runs by group", ["group", "unstable", "announced", "stable", "false alarms"], lines)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--of", type=int, default=100, help="unstable runs, and stable ones")
    parser.add_argument("--out", type=Path, default=Path("reports/monitor"))
    options = parser.parse_args(arguments)
    if options.of < 1:
        raise BadInput(f"--of {options.of}: give a positive number")
    folder = prepare_folder(options.out)
    rows = Rows(folder / "monitor.json", {"every": EVERY, "slowest": SLOWEST, "push": PUSH})
    compute(rows, options.of)
    said = section(rows.rows)
    finish(folder, "monitor", rows, draw(rows.rows), said, tables(rows.rows), CAPTION)
    print(said.measured)


if __name__ == "__main__":
    sys.exit(command(main))
