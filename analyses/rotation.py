r"""Why augmented and nominal training are alike in the paper's ROT: four suspects, one at a time.

    python -m analyses.rotation [--size small] [--runs 5] [--sampler haar published] [--head published none] [--out DIR]

In the paper AUG stays close to NOM in ROT alone, with ‖A_{E⊥}‖ of 1e-7 next to ‖A − A⁰‖ of 1e-3. The suspects:

share    dim E/dim L = 1/4 is large: TRANS under the same C_4 has the same share, and is trained beside it
head     LayerNorm over two channels, nearly a sign, stops the gradient: with it, and with logits instead
sampler  as executed, the published rotation drew 0° with probability .4 and 180° with .6, never a quarter turn: such
         an average keeps all that 180° fixes, and E is not invariant under it
norm     as executed, the published norm was √Σ_k‖A_{k,⊥}‖⁴, the layers' norms squared once too often

Under a sampler m the mean step is M∇R with M = Σ_g m(g)ρ̄(g). On E⊥ of C_4 that is the factor 1 where 180° acts
as +1 (q = 2) and m(0°) − m(180°) = −.2 where it acts as −1 (q = 1), so the gradient's split over both predicts AUG/NOM.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.func import grad
from tqdm import tqdm

from analyses.figure1 import PASSES, STEP, short
from analyses.shared import Rows, Section, command, finish, prepare_folder, table
from stability.networks import Classifier, Identity, mlp, supervised
from stability.problem import Problem
from stability.tasks import TaskOptions, load
from stability.training import Sampler, Strategy, descend, nominal, sampled_augmentation

BATCH = 25
SAMPLERS = ("haar", "published")
HEADS = ("published", "none")
HALF_TURN = 2
PUBLISHED = {0: 0.4, HALF_TURN: 0.6}


def published_sampler(rng: np.random.Generator) -> int:
    """0° with probability .4, 180° with .6: the pixels in reverse order."""
    return HALF_TURN if rng.random() < PUBLISHED[HALF_TURN] else 0


def problem_of(task: str, head: str, size: str) -> Problem:
    """ROT as published, with its head or with plain logits; or TRANS with the same group."""
    problem = load(task, TaskOptions(size=size, variant="published", group="rotations"))
    if head == "published":
        return problem
    model, network = problem.model, problem.model.network
    spaces = [network.input, *(layer.target for layer in network.space.layers)]
    plain = mlp(spaces, [*network.nonlinearities[:-1], Identity()])
    return supervised(problem.name, Classifier(plain, model.loss, model.target), problem.samples)


def strategy_of(name: str, sampler: str, problem: Problem, passes: int) -> Strategy:
    """NOM, or AUG with one of the samplers."""
    if name == "NOM":
        return nominal(problem)
    draw: Sampler | None = published_sampler if sampler == "published" else None
    return sampled_augmentation(problem, passes, BATCH, draw)


def squared_norm(layers: Sequence[float]) -> float:
    """√Σ_k‖A_{k,⊥}‖⁴, which was plotted for ‖A_{E⊥}‖ = √Σ_k‖A_{k,⊥}‖².

    >>> squared_norm([0.1, 0.1]), float(np.hypot(0.1, 0.1))
    (0.014142135623730954, 0.14142135623730953)
    """
    return float(np.sqrt(np.sum(np.asarray(layers) ** 4)))


def split(problem: Problem, gradient: Tensor) -> dict[str, float]:
    """Norms of the parts of a gradient where 180° acts as +1 (q = 2) and as −1 (q = 1), both in E⊥, and on E."""
    space = problem.space
    even = 0.5 * (gradient + space.act(HALF_TURN, gradient))
    on_e = space.equivariant_part(gradient)
    return {"E": float(on_e.norm()), "q2": float((even - on_e).norm()), "q1": float((gradient - even).norm())}


def predicted_ratio(parts: dict[str, float], sampler: str) -> float:
    """‖Π_{E⊥}M∇R‖/‖Π_{E⊥}∇R‖, what infinitely many passes leave of the nominal drift; 0 for Haar's measure."""
    if sampler == "haar":
        return 0.0
    odd = (PUBLISHED[0] - PUBLISHED[HALF_TURN]) * parts["q1"]
    return float(np.hypot(parts["q2"], odd) / np.hypot(parts["q2"], parts["q1"]))


def measure(task: str, head: str, sampler: str, name: str, run: int, options: argparse.Namespace) -> dict:
    """One trajectory with both norms."""
    problem = problem_of(task, head, options.size)
    space, squared = problem.space, [0.0]

    def record(epoch: int, at: Tensor) -> None:
        squared.append(squared_norm([float(w.norm()) for w in space.split(space.transverse_part(at))]))

    start = space.embed(problem.initial(run))
    strategy = strategy_of(name, sampler, problem, options.passes)
    found = descend(problem, start, strategy, options.step, options.epochs, name, seed=run, on_epoch=record)
    row = {"task": task, "head": head, "sampler": sampler, "strategy": name, "run": run}
    row |= {"dim_E": space.dim_equivariant, "dim_L": space.dim, "travelled": short(found.travelled)}
    row |= {"norm": short(found.off_equivariance), "squared_norm": short(squared)}
    if name == "NOM":
        gradient = sum(
            (grad(problem.loss)(start, part) for part in problem.samples.chunks(1000)), torch.zeros_like(start)
        )
        row["gradient"] = split(problem, gradient)
    return row


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


def draw(rows: Sequence[dict], found: Sequence[Setting]) -> Figure:
    """ROT under every combination, in both norms; AUG/NOM beside what the gradient predicts."""
    shown = [s for s in found if s.task == "rot"]
    figure = Figure(figsize=(3.2 * len(shown) + 3.6, 6.2), layout="constrained")
    panels = figure.subplots(2, len(shown) + 1, squeeze=False)
    for column, s in enumerate(shown):
        for line, (key, name) in enumerate(
            (("norm", r"$\|A_{E^\perp}\|$"), ("squared_norm", r"$\sqrt{\Sigma_k\|A_{k,\perp}\|^4}$, as published"))
        ):
            axes = panels[line, column]
            for strategy, style in (("NOM", {"color": "black"}), ("AUG", {"color": "#d55e00", "linestyle": "--"})):
                mine = [
                    r
                    for r in rows
                    if (r["task"], r["head"], r["strategy"]) == ("rot", s.head, strategy)
                    and (strategy == "NOM" or r["sampler"] == s.sampler)
                ]
                x, y = (np.array([r[k] for r in mine]) for k in ("travelled", key))
                for one, other in zip(x, y, strict=True):
                    axes.plot(one, other, **style, alpha=0.25, linewidth=0.8)
                axes.plot(x.mean(0), y.mean(0), **style, linewidth=2, label=strategy)
            axes.axhline(0, color="0.5", linewidth=0.6, zorder=0)
            axes.ticklabel_format(style="sci", scilimits=(-2, 2))
            axes.set_xlabel(r"$\|A - A^0\|$")
            axes.set_ylabel(name)
            axes.set_title(f"ROT: {s.label} sampler", fontsize="medium")
            axes.legend(fontsize="small")
    gate = panels[0, -1]
    where = np.arange(len(found))
    gate.bar(where, [s.ratio for s in found], 0.6, color="0.75", edgecolor="black", label="measured")
    gate.plot(where, [max(s.predicted, 1e-12) for s in found], "kx", label="predicted, infinitely many passes")
    gate.set_yscale("log")
    gate.set_ylim(5e-3, 2)
    gate.axhline(1, color="black", linewidth=1)
    gate.set_xticks(where, [s.label for s in found], rotation=25, ha="right", fontsize="small")
    gate.set_ylabel(r"$\|A_{E^\perp}\|$ of AUG over that of NOM")
    gate.legend(fontsize="x-small")
    panels[1, -1].axis("off")
    return figure


def section(found: Sequence[Setting], size: str) -> Section:
    """The words, from the numbers."""
    by = {(s.task, s.head, s.sampler): s for s in found}
    texts = []
    for s in found:
        nom, aug = s.norm["NOM"].mean(), s.norm["AUG"].mean()
        text = f"{s.label}{' sampler' if s.task == 'rot' else ''}: AUG/NOM = {s.ratio:.3f}"
        text += f" (predicted {s.predicted:.3f})" if s.predicted else ""
        text += (
            f", ‖A_{{E⊥}}‖ {aug:.1e} and {nom:.1e} after ‖A − A⁰‖ = {s.travelled.mean():.1e}; in the published norm "
        )
        text += f"{s.squared['AUG'].mean():.1e} and {s.squared['NOM'].mean():.1e}"
        texts.append(text)
    means = []
    haar, faulty = by.get(("rot", "published", "haar")), by.get(("rot", "published", "published"))
    if haar and faulty:
        means.append(
            f"The sampler makes AUG resemble NOM: AUG/NOM goes from {haar.ratio:.3f} under Haar's measure to "
            f"{faulty.ratio:.2f} under the published one, {faulty.predicted:.2f} of it expected, for what half turns "
            "leave alone is never averaged away."
        )
        means.append(
            "The norm makes both shifts tiny: the published norm turns "
            f"{faulty.norm['AUG'].mean():.1e} into {faulty.squared['AUG'].mean():.1e}."
        )
    bare = by.get(("rot", "none", "haar"))
    if haar and bare:
        means.append(
            f"The head does not do it: without it AUG/NOM under Haar's measure is {bare.ratio:.3f} "
            f"(with it {haar.ratio:.3f}). Nor does it stop the gradient at a random start: ‖Π_E ∇R‖ is {haar.on_e:.2g} "
            f"with it and {bare.on_e:.2g} without."
        )
    digits = by.get(("trans", "published", "haar"))
    if digits:
        means.append(
            f"Nor does dim E/dim L: TRANS under the same C_4, with the same share of about 1/4, has AUG/NOM = "
            f"{digits.ratio:.3f}."
        )
    if faulty:
        means.append(
            "The published picture, AUG close to NOM and both far below ‖A − A⁰‖, comes out of the published sampler "
            "and the published norm together."
        )
    return Section(
        f"Why rotations looked different, {size} size",
        "Under Haar's measure AUG should drift off E as slowly in ROT as elsewhere. Under a sampler m the mean step is "
        "M∇R, M = Σ_g m(g)ρ̄(g), which for 0° at .4 and 180° at .6 leaves the q = 2 part of Π_{E⊥}∇R whole and −.2 of "
        "the q = 1 part, so that AUG leaves E at a fixed fraction of NOM's rate.",
        ";\n".join(texts) + ".",
        " ".join(means),
    )


def table_of(found: Sequence[Setting]) -> dict:
    """Every combination, at the end."""
    header = [
        "setting",
        "AUG/NOM",
        "predicted",
        "AUG ‖A_{E⊥}‖",
        "NOM ‖A_{E⊥}‖",
        "AUG, published norm",
        "NOM, published norm",
    ]
    header.append("‖A − A⁰‖ of AUG")
    lines = [
        [
            s.label,
            s.ratio,
            s.predicted,
            *(float(s.norm[k].mean()) for k in ("AUG", "NOM")),
            *(float(s.squared[k].mean()) for k in ("AUG", "NOM")),
            float(s.travelled.mean()),
        ]
        for s in found
    ]
    return table("Suspects separated, after the last epoch", header, lines)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="small", choices=("small", "medium"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--passes", type=int, default=PASSES)
    parser.add_argument("--step", type=float, default=STEP)
    parser.add_argument("--sampler", nargs="+", default=list(SAMPLERS), choices=SAMPLERS)
    parser.add_argument("--head", nargs="+", default=list(HEADS), choices=HEADS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    options.out = options.out or Path("reports") / f"rotation-{options.size}"
    return options


def jobs_of(options: argparse.Namespace) -> list[tuple[str, str, str, str, int]]:
    """(task, head, sampler, strategy, run); NOM once for each head."""
    combinations = [("rot", head, "none", "NOM") for head in options.head]
    combinations += [("rot", head, sampler, "AUG") for head in options.head for sampler in options.sampler]
    combinations += [("trans", "published", "none", "NOM"), ("trans", "published", "haar", "AUG")]
    return [(*c, run) for run in range(options.runs) for c in combinations]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, draw, write."""
    options = parse(arguments)
    folder = prepare_folder(options.out)
    rows = Rows(folder / "rotation.json", {k: getattr(options, k) for k in ("size", "epochs", "passes", "step")})
    names = ("task", "head", "sampler", "strategy", "run")
    jobs = [job for job in jobs_of(options) if not rows.has(**dict(zip(names, job, strict=True)))]
    for job in tqdm(jobs, desc="rotation", disable=None):
        rows.add(measure(*job, options))
    wanted = set(jobs_of(options))
    shown = [r for r in rows.rows if tuple(r[n] for n in names) in wanted]
    found = settings(shown)
    finish(folder, "rotation", rows, draw(shown, found), section(found, options.size), [table_of(found)])
    for s in found:
        print(f"{s.label:24} AUG/NOM {s.ratio:.3f}  predicted {s.predicted:.3f}")


if __name__ == "__main__":
    raise SystemExit(command(main))
