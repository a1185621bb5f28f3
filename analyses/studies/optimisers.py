r"""Does a deviation from E grow a step as the spectrum says, with the optimisers that people train with?

    python -m analyses.optimisers [--seeds 3] [--out reports/optimisers]

At an equivariant stationary point A a rule has one multiplier for every eigenvalue of P^{1/2}(∇²R^aug + μ)P^{1/2} on
E⊥. A run starts 1e-6 ‖A‖ away along the mode whose multiplier is largest and takes twelve steps of torch's own
optimiser with exact gradients of R^aug, or fewer where it comes to 1e-3 ‖A‖ before, or the point has moved by 1e-2 ‖A‖
along E, as AdamW's decay makes it do (which is 1e-5 here, so that it does so slowly). The deviation y_k along the mode
obeys y_{k+2} = t y_{k+1} − D y_k; t and D are fitted, and the largest root of z² − tz + D is the growth that was seen.
Steps are half and 1.2 times the longest that E⊥ bears. Adam and RMSprop are met late in training: their second moment
is the one that batches of a quarter of the data, turned by one element each, have left behind; where no draw has a
gradient, as on the problems known by hand, there is none, and they are left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator
from torch import Tensor
from torch.func import grad
from tqdm import tqdm

from analyses.lab.command import command
from analyses.lab.publish import MARKERS, Section, finish, table
from analyses.lab.rows import Rows
from stability.base.errors import BadInput
from stability.base.storage import prepare_folder
from stability.groups import (
    Cyclic,
    Dihedral,
    PermutationGroup,
    Representation,
    Symmetric,
    images,
    permutation,
    quaternion_group,
    regular,
    torus,
    trivial,
)
from stability.networks.classifier import Classifier
from stability.networks.losses import cross_entropy, squared
from stability.networks.network import mlp
from stability.networks.nonlinearities import Identity, Pointwise
from stability.networks.supervised import supervised
from stability.optimisers.draws import Draws
from stability.optimisers.multipliers import of_block, strongest, turning_step
from stability.optimisers.outlook import setting
from stability.optimisers.scene import Scene, scene, second_moment
from stability.optimisers.updates import Update, read
from stability.points.stationary import gradient_scale, minimise
from stability.problem.problem import Problem
from stability.problem.space import Samples
from stability.spectra import sectors
from stability.tasks import TaskOptions, load

STEPS, PUSH, LINEAR, MOVED, SAMPLES = 12, 1e-6, 1e-3, 1e-2, 16
SHARES = (0.5, 1.2)
# Told apart in grey by the dashes, and by the width where curves lie on each other.
LINES = [
    {"linestyle": dashes, "color": shade, "linewidth": width}
    for dashes, shade, width in (
        ("-", "0.0", 1.0), ("--", "0.0", 1.4), (":", "0.0", 1.8), ("-", "0.6", 3.0), ("-.", "0.3", 1.4),
        (":", "0.3", 2.6),
    )
]  # fmt: skip
# Agreement asked for of the growth a step.
WITHIN = 0.05
SPACES: dict[str, Callable[[], Representation]] = {
    "C_5": lambda: regular(Cyclic(5)),
    "Z_3²": lambda: images(torus(3), 3),
    "D_4": lambda: images(Dihedral(4), 2),
    "S_4": lambda: permutation(Symmetric(4)),
    "A_4": lambda: permutation(PermutationGroup([(1, 2, 0, 3), (0, 2, 3, 1)], name="A_4")),
    "Q_8": lambda: regular(quaternion_group()),
}
TASKS = ("classes", "maps")
BY_HAND = ("counterexample", "counterexample-twin")
Make = Callable[[list[torch.nn.Parameter], float], torch.optim.Optimizer]
OPTIMISERS: dict[str, Make] = {
    "SGD": lambda p, step: torch.optim.SGD(p, lr=step),
    "SGD, momentum": lambda p, step: torch.optim.SGD(p, lr=step, momentum=0.9),
    "SGD, Nesterov": lambda p, step: torch.optim.SGD(p, lr=step, momentum=0.9, nesterov=True),
    "RMSprop": lambda p, step: torch.optim.RMSprop(p, lr=step, alpha=0.999),
    "Adam": lambda p, step: torch.optim.Adam(p, lr=step),
    "AdamW": lambda p, step: torch.optim.AdamW(p, lr=step, weight_decay=1e-5),
}


@dataclass(frozen=True)
class Place:
    """A problem and its seed."""

    task: str
    group: str
    seed: int

    @property
    def label(self) -> str:
        return f"{self.task}, {self.group}, seed {self.seed}"


def places(seeds: int) -> list[Place]:
    """Every task on every group and seed, and the problems known by hand."""
    found = [Place(task, group, seed) for task in TASKS for group in SPACES for seed in range(seeds)]
    return [*(Place(name, "C_2", 0) for name in BY_HAND), *found]


def problem_of(place: Place, weight_decay: float = 1e-2) -> Problem:
    """Random inputs, classes or equivariant maps, in 1·ρ → 2·ρ → 3·1 or ρ."""
    if place.task in BY_HAND:
        return load(place.task, TaskOptions())
    rho = SPACES[place.group]()
    one = trivial(rho.group)
    generator = torch.Generator().manual_seed(place.seed)
    x, y = torch.randn(2, SAMPLES, rho.dim, generator=generator, dtype=torch.float64)
    weight = torch.full((SAMPLES,), 1 / SAMPLES, dtype=torch.float64)
    if place.task == "classes":
        network = mlp([1 * rho, 2 * rho, 3 * one], [Pointwise("tanh"), Identity()])
        model, target = Classifier(network, cross_entropy), (x.sum(1) + y[:, 0]).sign().long() + 1
    else:
        network = mlp([1 * rho, 2 * rho, 1 * rho], [Pointwise("tanh"), Identity()])
        model, target = Classifier(network, squared, target=1 * rho, decides=False), y
    return supervised(place.label, model, Samples(x, target, weight), weight_decay=weight_decay)


def found_scene(place: Place) -> Scene:
    """The stationary point that a seeded start leads to, with every mode on E⊥."""
    problem = problem_of(place)
    if place.task in BY_HAND:
        theta = problem.space.project(problem.samples.x.new_tensor([0.5, 0.5]))
    else:
        theta = minimise(problem, problem.initial(place.seed), 1e-10 * gradient_scale(problem, place.seed))
    return scene(problem, theta)


def moment_of(place: Scene, update: Update) -> Tensor | None:
    """v of an adaptive rule, from batches of a quarter of the data turned by one element each."""
    batch = max(1, len(place.problem.samples) // 4)
    return second_moment(place, update, Draws(batch, 1)) if update.adaptive else None


def rule(make: Make, step: float) -> Update:
    """What is read off torch's object."""
    return read(make([torch.nn.Parameter(torch.zeros(1))], step))


def measure(place: Scene, make: Make, share: float) -> dict:
    """One run: the growth that the multipliers say, and the one seen."""
    unit = rule(make, 1.0)
    moment = moment_of(place, unit)
    made = setting(place, replace(unit, step=1e-6), Draws(), moment=moment)
    tops = [turning_step(replace(unit, step=1e-6), float(b.values[-1])) for b in made.blocks]
    step = share * min((t for t in tops if t is not None), default=1.0)
    update = rule(make, step)
    listed = [of_block(b, update) for b in made.blocks]
    worst = strongest(listed)
    assert worst is not None
    block = made.blocks[listed.index(worst)]
    mode = block.vectors[:, int((block.values - worst.value).abs().argmin())]
    outward = mode if block.root is None else block.root @ mode
    direction = sectors.lift(place.problem.space, block.irrep, outward[None])[0, 0]
    direction = direction / direction.norm()
    series = run(place, make, step, direction, moment)
    seen = fitted(series, two=update.momentum > 0)
    return {
        "irrep": worst.irrep,
        "eigenvalue": worst.value,
        "step": step,
        "predicted": worst.growth,
        "least": worst.least,
        "most": worst.most,
        "state": worst.state,
        "seen": seen,
        "series": series,
    }


def run(place: Scene, make: Make, step: float, direction: Tensor, moment: Tensor | None) -> list[float]:
    """Deviations along the mode, relative to the push, of torch's own optimiser under exact augmentation."""
    problem = place.problem
    data = problem.augmented()
    slope = grad(problem.loss)
    push = PUSH * place.norm
    weight = torch.nn.Parameter(place.at + push * direction)
    optimiser = make([weight], step)
    if moment is not None:
        # As if a million steps had gone before: no bias left, no momentum under way.
        key = "square_avg" if isinstance(optimiser, torch.optim.RMSprop) else "exp_avg_sq"
        state = {key: moment.clone(), "step": torch.tensor(1e6)}
        if key == "exp_avg_sq":
            state["exp_avg"] = torch.zeros_like(moment)
        optimiser.state[weight].update(state)
    found = [1.0]
    for _ in range(STEPS):
        at = weight.detach()
        weight.grad = slope(at, data) + problem.weight_decay * at
        optimiser.step()
        away = weight.detach() - place.at
        along = float(problem.space.equivariant_part(away).norm()) / place.norm
        if len(found) > 3 and (abs(found[-1]) * PUSH > LINEAR or along > MOVED):
            break
        found.append(float(away @ direction) / push)
    return found


def fitted(series: Sequence[float], two: bool) -> float:
    """The largest root of the recurrence of one or two terms that a series obeys, by least squares."""
    y = np.array(series)
    if not two:
        return abs(float(y[:-1] @ y[1:] / (y[:-1] @ y[:-1])))
    # The first step of torch's buffer is of another kind; the recurrence holds from there on.
    scale = np.maximum(np.abs(y[1:-1]), np.abs(y[:-2]))
    rows = np.stack([y[1:-1], -y[:-2]], axis=1) / scale[:, None]
    t, d = np.linalg.lstsq(rows, y[2:] / scale, rcond=None)[0]
    return float(np.abs(np.roots([1.0, -t, d])).max())


def compute(rows: Rows, seeds: int) -> None:
    """Whatever is missing, one place after the other."""
    for place in tqdm(places(seeds), desc="optimisers", disable=None):
        missing = [
            (name, share)
            for name in OPTIMISERS
            for share in SHARES
            if not (place.task in BY_HAND and rule(OPTIMISERS[name], 1.0).adaptive)
            and not rows.has(label=place.label, optimiser=name, share=share)
        ]
        if not missing:
            continue
        at = found_scene(place)
        for name, share in missing:
            row = {"label": place.label, "task": place.task, "group": place.group, "optimiser": name, "share": share}
            rows.add({**row, **measure(at, OPTIMISERS[name], share)})


def off(row: dict) -> float:
    """|seen − predicted| growth a step, relative; a growth of zero, seen as zero, is right."""
    return abs(row["seen"] - row["predicted"]) / (max(row["seen"], row["predicted"]) or 1.0)


def right(row: dict) -> bool:
    """Whether what was said to grow grew, and what was said to shrink shrank."""
    return row["state"] == ("grows" if row["seen"] > 1 else "shrinks")


def by_optimiser(rows: Sequence[dict]) -> Iterator[tuple[str, list[dict]]]:
    """Rows of each optimiser."""
    for name in OPTIMISERS:
        chosen = [r for r in rows if r["optimiser"] == name]
        if chosen:
            yield name, chosen


def draw(rows: Sequence[dict]) -> Figure:
    """Left: seen against predicted growth, less one, on a symmetric logarithmic scale; right: relative differences."""
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right_axes = figure.subplots(1, 2)
    for marker, line, (name, chosen) in zip(MARKERS, LINES, by_optimiser(rows), strict=False):
        style = {"color": "black", "markerfacecolor": "none", "markersize": 5, "alpha": 0.6}
        left.plot([r["predicted"] - 1 for r in chosen], [r["seen"] - 1 for r in chosen], marker, label=name, **style)
        ordered = sorted(max(off(r), 1e-12) for r in chosen)
        shares = np.arange(1, len(ordered) + 1) / len(ordered)
        right_axes.plot(ordered, shares, drawstyle="steps-post", label=name, **line)
    span = max(abs(r["predicted"] - 1) for r in rows)
    left.plot([-span, span], [-span, span], color="0.6", zorder=0)
    left.set_xscale("symlog", linthresh=1e-3)
    left.set_yscale("symlog", linthresh=1e-3)
    for axis in (left.xaxis, left.yaxis):
        axis.set_major_locator(FixedLocator([-1, -1e-2, 0, 1e-2, 1]))
    left.axhline(0, color="black", linewidth=0.6)
    left.axvline(0, color="black", linewidth=0.6)
    left.set_xlabel("growth a step − 1, predicted")
    left.set_ylabel("seen")
    left.legend(fontsize="small")
    right_axes.set_xscale("log")
    right_axes.axvline(WITHIN, color="black", linewidth=0.8, linestyle=":")
    right_axes.set_xlabel("relative difference of the growth a step")
    right_axes.set_ylabel("share of runs")
    right_axes.legend(fontsize="small")
    return figure


CAPTION = (
    "Left: growth a step of the deviation along the leading mode, seen in steps of torch's optimiser, against the "
    "multiplier; the axes part what comes back from what leaves. Right: distribution of the relative differences; the "
    "dotted line is 5 %."
)


def section(rows: Sequence[dict]) -> Section:
    """Words from the rows."""
    decided = [r for r in rows if r["state"] != "undecided"]
    agree, near = sum(map(right, decided)), sum(off(r) <= WITHIN for r in rows)
    worst = max(rows, key=off)
    grew = sum(r["seen"] > 1 for r in rows)
    misses = [r for r in decided if not right(r)]
    named = "; ".join(f"{r['optimiser']} on {r['label']}" for r in misses[:5]) or "none"
    return Section(
        title="What a step of an optimiser does to E",
        expected="Near E a step of SGD, with momentum or not, or of Adam with its second moment held, multiplies a "
        "deviation along an eigenvector of P^{1/2} ∇²R^aug P^{1/2} by a root of a quadratic; the largest root is its "
        "growth a step.",
        measured=f"{len(rows)} runs of {len({r['optimiser'] for r in rows})} optimisers on "
        f"{len({r['label'] for r in rows})} points, {grew} of which left E. The sign of the growth was decided for "
        f"{len(decided)} and right for {agree} of them (wrong: {named}). The growth a step was within 5 % for {near} "
        f"of {len(rows)}; the largest difference is {off(worst):.1e} ({worst['optimiser']}, {worst['label']}, "
        f"{worst['share']:g} of the longest step).",
        means="Whether training leaves E, and by which factor a step, can be read off the spectrum for the optimiser "
        "that is used, not for gradient flow alone.",
        finding=f"The sign was right in {agree} of {len(decided)} runs, the growth a step within 5 % in {near} of "
        f"{len(rows)}.",
    )


def tables(rows: Sequence[dict]) -> list[dict]:
    """One line an optimiser."""
    lines = [
        [
            name,
            len(chosen),
            sum(r["seen"] > 1 for r in chosen),
            sum(map(right, chosen)),
            sum(off(r) <= WITHIN for r in chosen),
            float(np.median([off(r) for r in chosen])),
            max(map(off, chosen)),
        ]
        for name, chosen in by_optimiser(rows)
    ]
    header = ["optimiser", "runs", "left E", "sign right", "within 5 %", "median difference", "largest"]
    return [table("Growth a step, predicted and seen", header, lines)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="of data and start, on every task and group")
    parser.add_argument("--out", type=Path, default=Path("reports/optimisers"))
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        raise BadInput(f"--seeds {options.seeds}: give a positive number")
    folder = prepare_folder(options.out)
    rows = Rows(folder / "optimisers.json", {"steps": STEPS, "push": PUSH, "samples": SAMPLES})
    compute(rows, options.seeds)
    said = section(rows.rows)
    finish(folder, "optimisers", rows, draw(rows.rows), said, tables(rows.rows), CAPTION)
    print(said.measured)


if __name__ == "__main__":
    sys.exit(command(main))
