r"""A small convolutional network on digits under turns and flips: its own torch module, judged as it is.

    python -m analyses.examples.digits_cnn

conv 3×3 → conv 3×3 → conv 3×3 → linear, tanh between, on 7×7 digits; 8 channels carry the regular representation of
D_4.

**Admissible space.** The weights of a convolution are its kernel, out × in × taps, on which g acts by turning the grid
of taps and permuting the channels of both sides. That the network with moved kernels is the moved network, for *any*
kernel, is measured before anything else; then the kernels are an admissible space that G maps onto itself. A kernel
may be restricted further, to a support T of its taps. The theory holds on T if its projection commutes with that onto
the equivariant kernels,

    defect = ‖Π_T Π_G − Π_G Π_T‖,

which is zero for a cross and √3/4 for four sides and one corner: the program refuses to go on with the latter.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import stability
from analyses.lab.command import command
from analyses.lab.publish import Section, publish, table
from stability import restricted
from stability.api.diagnosis import Diagnosis
from stability.base.errors import BadInput
from stability.base.storage import prepare_folder, write
from stability.groups import Dihedral, regular, trivial
from stability.problem.problem import Problem
from stability.problem.tensors import shape_of
from stability.restricted import Admissible, Compatibility, compatibility, restrict
from stability.results import Analysis
from stability.tasks.data import digits

SIDE, TEST, CLASSES = 7, 500, 10
SQUARE = ((1, 1, 1), (1, 1, 1), (1, 1, 1))
CROSS = ((0, 1, 0), (1, 1, 1), (0, 1, 0))
SKEWED = ((0, 1, 0), (1, 0, 1), (0, 1, 1))
SUPPORTS = {"square": SQUARE, "cross": CROSS, "skewed": SKEWED}


class Network(nn.Module):
    """Three convolutions that shrink 7×7 to one position, and a linear head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, channels, 3)
        self.second = nn.Conv2d(channels, channels, 3)
        self.third = nn.Conv2d(channels, channels, 3)
        self.head = nn.Linear(channels, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images (n, 1, 7, 7)."""
        for layer in (self.first, self.second, self.third):
            x = torch.tanh(layer(x))
        return self.head(x.flatten(1))


def problem_of(module: nn.Module, samples: int, weight_decay: float, seed: int) -> Problem:
    """The digits, standardised, and the module with the representations of its layers."""
    data = digits(SIDE, samples + TEST, seed)
    x = torch.as_tensor(data.inputs).reshape(-1, 1, SIDE, SIDE)
    x = (x - x[:samples].mean()) / x[:samples].std()
    y = torch.as_tensor(data.targets)
    group = Dihedral(4)
    one, field = trivial(group), regular(group)
    return stability.from_module(
        module,
        nn.CrossEntropyLoss(),
        (x[:samples], y[:samples]),
        {
            "first": (one, field),
            "second": (field, field),
            "third": (field, field),
            "head": (field, CLASSES * one),
        },
        test=(x[samples:], y[samples:]),
        weight_decay=weight_decay,
        name="digits-cnn",
        facts=[("data", data.source), ("digest", data.digest)],
    )


def admissible(problem: Problem, support: Sequence[Sequence[int]]) -> Admissible:
    """The second and third kernels with these taps only, the other layers free.

    >>> problem = problem_of(Network(8), 10, 0.0, 0)
    >>> [round(compatibility(admissible(problem, s)).defect, 4) for s in (SQUARE, CROSS, SKEWED)]
    [0.0, 0.0, 0.433]
    """
    taps = torch.tensor(support).flatten()
    kept = ("second.weight", "third.weight")
    parts = {layer.name: taps.repeat(layer.dim // len(taps)) for layer in problem.space.layers if layer.name in kept}
    return Admissible(problem.space, {name: restricted.support(mask) for name, mask in parts.items()})


def train(module: nn.Module, problem: Problem, steps: int, rate: float, seed: int) -> None:
    """Ordinary training: Adam on mini-batches, each moved by an element drawn at random."""
    rng = np.random.default_rng(seed)
    loss, optimiser = nn.CrossEntropyLoss(), torch.optim.Adam(module.parameters(), rate)
    for _ in range(steps):
        chosen = torch.as_tensor(rng.integers(0, len(problem.samples.x), 64))
        g = problem.group.sample(rng)
        x = problem.model.input.act(g, problem.samples.x[chosen]).reshape(-1, 1, SIDE, SIDE)
        optimiser.zero_grad()
        loss(module(x), problem.samples.y[chosen]).backward()
        optimiser.step()


def draw(analysis: Analysis) -> Figure:
    """Both ends of the spectrum of ∇²R^aug, sector by sector."""
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axes = figure.subplots()
    names = []
    for i, sector in enumerate(analysis.sectors):
        values = np.array([e.value for e in (*sector.lowest, *sector.highest)])
        below = values < 0
        axes.plot(values[~below], np.full((~below).sum(), i), "|", color="0.45", markersize=14)
        axes.plot(values[below], np.full(below.sum(), i), "x", color="#d55e00", markersize=7)
        where = "E" if sector.irrep == "trivial" else sector.irrep
        names.append(f"{where}: {sector.multiplicity} × {sector.dim}, {sector.negative_count} below 0")
    axes.axvline(0, color="black", linewidth=1)
    axes.set_xscale("symlog", linthresh=1e-3)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("eigenvalues of ∇²R^aug, both ends (×: negative)")
    axes.set_title("CNN on digits under D_4, equivariant stationary point", fontsize="medium")
    return figure


def section(analysis: Analysis, trained: Diagnosis, seconds: float, processor: float) -> Section:
    """The words that go with the numbers."""
    point, across = analysis.point, analysis.spectra["aug"]["E_perp"]
    status = analysis.verdict.transverse.status
    metrics, lowest = point.metrics, across.smallest
    return Section(
        title="A convolutional network on digits under D_4",
        expected=(
            "D_4 maps kernels of 3×3 taps, and those of a cross, onto themselves: their defect is zero up to rounding, "
            "and the spectrum on E⊥ decides whether augmented training leaves E. A skewed support has defect √3/4."
        ),
        measured=(
            f"{analysis.dims['L']:,} weights, dim E = {analysis.dims['E']}. At a stationary point of R on E (gradient "
            f"{point.grad_norm['eqv']:.1e}, accuracy {metrics['train']:.3f}, on new digits {metrics['test']:.3f}, "
            f"constant {metrics['constant']:.3f}) E is {status} for R^aug: {across.negative_count} eigenvalues outside "
            f"E are negative, the lowest {lowest.value:.3e} ± {lowest.residual:.0e} in sector {lowest.irrep}. The same "
            f"network, trained by Adam with random augmentation and no constraint, ends {trained.share:.0%} of its "
            f"norm from E, with an equivariance error of {trained.equivariance_error:.2f} and an accuracy of "
            f"{trained.metrics['test']:.3f} on new digits. {seconds:.0f} s in all, "
            f"{processor:.0f} s of processor time."
        ),
        means=(
            f"Inside E the point is {analysis.verdict.eqv.status}; outside it is {status}. "
            "Nothing in the module was rewritten: the weights are the kernels it was trained with."
        ),
    )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--support", choices=SUPPORTS, default="square", help="taps of the second and third kernel")
    parser.add_argument("--samples", type=int, default=600, help="digits to train on")
    parser.add_argument("--weight-decay", type=float, default=1e-3, help="μ in μ/2‖A‖²")
    parser.add_argument("--starts", type=int, default=1, help="random starts on E")
    parser.add_argument("--steps", type=int, default=600, help="steps of ordinary training")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("reports/digits-cnn"))
    return parser.parse_args(arguments)


def refusal(free: Problem, skewed: Admissible) -> str:
    """What is said of a support that the group moves."""
    try:
        return f"not refused: {restrict(free, skewed).name}"
    except BadInput as error:
        return str(error)


def tables(problem: Problem, found: dict[str, Compatibility], measured: dict[str, float], refused: str) -> list[dict]:
    """The layers, the admissible spaces, the assumptions."""
    return [
        table(
            "The layers",
            ["weights", "shape", "dim", "dim E"],
            [[one.name, "×".join(map(str, shape_of(one))), one.dim, one.size()] for one in problem.space.layers],
        ),
        table(
            "Admissible spaces",
            ["taps", "defect", "dim L", "dim E", "E⊥"],
            [[name, f"{c.defect:.1e}", c.dims["L"], c.dims["E"], c.dims["E_perp"]] for name, c in found.items()],
        ),
        table(
            "Assumptions and refusal",
            ["what", "measured"],
            [*([k, f"{v:.1e}"] for k, v in measured.items()), ["skewed taps", refused]],
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Check, restrict, analyse, train, judge what was trained, write."""
    options = parse(arguments)
    folder = prepare_folder(options.out)
    began = time.perf_counter(), time.process_time()
    torch.manual_seed(options.seed)
    module = Network(8).double()
    problem = problem_of(module, options.samples, options.weight_decay, options.seed)
    measured, free = stability.check(problem), problem
    supports = {name: admissible(free, s) for name, s in SUPPORTS.items()}
    found = {name: compatibility(space) for name, space in supports.items()}
    refused = refusal(free, supports["skewed"])
    if options.support != "square":
        problem = restrict(free, supports[options.support])
    outcome = stability.analyse(problem, points=options.starts, seed=options.seed, escape_iterations=30)
    train(module, free, options.steps, 3e-3, options.seed)
    trained = stability.diagnose(free, module, names="none")
    stability.report(outcome, folder)
    write(folder / "spectrum.json", outcome.to_json())
    seconds, processor = time.perf_counter() - began[0], time.process_time() - began[1]
    said = section(outcome.analysis, trained, seconds, processor)
    data = {
        "options": {k: v for k, v in vars(options).items() if k != "out"},
        "seconds": seconds,
        "processor_seconds": processor,
        "verdict": outcome.analysis.summary(),
        "dims": outcome.analysis.dims,
        "assumptions": measured,
        "defects": {name: c.defect for name, c in found.items()},
        "refused": refused,
        "trained": {
            "share": trained.share,
            "equivariance_error": trained.equivariance_error,
            "metrics": trained.metrics,
            "layers": {layer.name: layer.share for layer in trained.layers},
        },
    }
    caption = "Each row is an irreducible representation of D_4; E is the trivial one."
    figures = {"digits-cnn.png": (draw(outcome.analysis), caption)}
    publish(folder, "digits-cnn", data, figures, said, tables(problem, found, measured, refused))
    print(outcome)
    print(trained)
    print(said.measured)


if __name__ == "__main__":
    sys.exit(command(main))
