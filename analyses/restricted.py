r"""Which kernels keep E? Supports that G maps to itself, supports it moves, and coordinates that are not orthonormal.

    python -m analyses.restricted [--size small|paper] [--out reports/restricted]

A convolutional network for digits, 1 → c₁ → c₂ → c₃ channels with 3 × 3 kernels of five taps, average pooling, tanh and
a linear head, under quarter turns of the image (arXiv 2303.13458, version 3 and later). Admissible layers are A_0 + T
with T given by the support; E = T ∩ H_G.

    cross      centre and four sides     Π_TΠ_G = Π_GΠ_T: exact augmented descent stays on E
    skewed     four sides and a corner   not: Π_T∇R^aug leaves E from the first step on

and either support in coordinates c ↦ Pc with P not orthonormal, where descent follows PPᵀ∇R^aug. Measured: ‖A_{E⊥}‖
along exact augmented descent (all four turns in every step) from points of E; the defects; and, at the start and after
descent on E, how much of the gradient of R^aug leaves E, the coupling of E to the rest, and the spectrum of ∇²R^aug on
E and E⊥.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import grad_and_value
from tqdm import tqdm

from analyses.shared import STYLES, Rows, Section, command, finish, prepare_folder, table
from stability import from_module, sectors
from stability.curvature import Operator, nominal_hessian
from stability.data import digits
from stability.eigen import lanczos, lanczos_spectrum
from stability.groups import Cyclic, rotations, trivial
from stability.problem import Problem, Samples
from stability.restricted import (
    Admissible,
    Parametrisation,
    compatibility,
    kernels,
    parametrised,
    restrict,
    restricted_augmented,
    support,
)

SUPPORTS = {
    "cross": ((0, 1, 0), (1, 1, 1), (0, 1, 0)),
    "skewed": ((1, 1, 0), (1, 0, 1), (0, 1, 0)),
}
COORDINATES = ("orthonormal", "not orthonormal")
WEIGHT_DECAY = 1e-3
# Of the step at which descent along the sharpest direction at the start turns unstable.
STEP_SHARE = 0.5
CHUNK = 100
COUPLING_STEPS = 12
# Below this A_{E⊥} is rounding.
KEPT = 1e-10


@dataclass(frozen=True)
class Size:
    """side × side digits (pooled twice), channels, samples, steps of descent, Krylov steps."""

    side: int
    channels: tuple[int, int, int]
    samples: int
    steps: int
    krylov: int
    seeds: int


SIZES = {
    "small": Size(12, (4, 8, 8), 60, 60, 60, 3),
    "paper": Size(28, (32, 64, 64), 60, 25, 30, 2),
}


class Network(nn.Module):
    """Convolutions with 3 × 3 kernels; the first two are followed by average pooling, all three by tanh."""

    def __init__(self, size: Size, classes: int = 10) -> None:
        super().__init__()
        widths = (1, *size.channels)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.head = nn.Linear(size.channels[-1] * (size.side // 4) ** 2, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        for i, convolution in enumerate(self.convolutions):
            x = convolution(x)
            x = torch.tanh(nn.functional.avg_pool2d(x, 2) if i < 2 else x)
        return self.head(x.flatten(1))


def build(size: Size, seed: int = 0) -> Problem:
    """The problem on all of H: every tap of every kernel."""
    data = digits(size.side, size.samples, seed)
    x = torch.as_tensor(data.inputs)
    x = (x - x.mean()) / x.std()
    group = Cyclic(4)
    one, widths = trivial(group), (1, *size.channels)
    representations = {
        f"convolutions.{i}": (a * one, b * one) for i, (a, b) in enumerate(zip(widths, widths[1:], strict=False))
    }
    representations["head"] = (widths[-1] * rotations(group, size.side // 4), 10 * one)
    inputs = x.reshape(-1, 1, size.side, size.side)
    torch.manual_seed(seed)
    return from_module(
        Network(size).double(),
        nn.CrossEntropyLoss(),
        (inputs, torch.as_tensor(data.targets)),
        representations,
        weight_decay=WEIGHT_DECAY,
        name="digits, restricted kernels",
        facts=(("data", data.source),),
    )


def admit(problem: Problem, which: str) -> Admissible:
    """The kernels of a support; the head is free."""
    mask = support(torch.tensor(SUPPORTS[which]))
    conv = [layer for layer in problem.space.layers if not layer.name.startswith("head")]
    return Admissible(problem.space, {layer.name: kernels(layer, mask) for layer in conv})


def coordinates(problem: Problem, which: str, kind: str, seed: int) -> Parametrisation:
    """Orthonormal coordinates of a support, or columns of unit norm at random angles, the same for every kernel."""
    if kind == "orthonormal":
        return Parametrisation(admit(problem, which), {})
    place = torch.tensor(SUPPORTS[which]).flatten().nonzero().squeeze(1)
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(len(place), len(place), generator=generator, dtype=torch.float64)
    columns = torch.zeros(9, len(place), dtype=torch.float64)
    columns[place] = mixed / mixed.norm(dim=0)
    conv = [layer.name for layer in problem.space.layers if not layer.name.startswith("head")]
    return parametrised(problem.space, dict.fromkeys(conv, columns))


def start(problem: Problem, admissible: Admissible, seed: int) -> Tensor:
    """Gaussian layers projected onto E, then scaled so that every row has norm one: coordinates of T."""
    generator = torch.Generator().manual_seed(seed)
    whole = torch.randn(problem.space.dim, generator=generator, dtype=torch.float64)
    c = admissible.equivariant_part(admissible.project(whole))
    parts = []
    for piece, part in zip(admissible.pieces, admissible.split_coordinates(c), strict=True):
        rows = piece.layers[0].shape[0]
        parts.append(part * (math.sqrt(rows) / part.norm()))
    return torch.cat(parts)


def slope(problem: Problem, admissible: Admissible, data: Samples, c: Tensor) -> tuple[float, Tensor]:
    """R and Bᵀ∇R at A_0 + Bc on the given data."""
    at = admissible.embed(c)
    total, value = torch.zeros_like(at), float(problem.penalty(c))
    for part in data.chunks(CHUNK):
        gradient, loss = grad_and_value(problem.loss)(at, part)
        total += gradient
        value += float(loss)
    return value, admissible.project(total) + problem.weight_decay * c


def sharpest(problem: Problem, admissible: Admissible, data: Samples, c: Tensor, steps: int = 8) -> float:
    """‖∇²R‖ on T by power iteration with differences of gradients."""
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(len(c), generator=generator, dtype=torch.float64)
    base, norm = slope(problem, admissible, data, c)[1], 0.0
    for _ in range(steps):
        v = v / v.norm()
        v = (slope(problem, admissible, data, c + 1e-5 * v)[1] - base) / 1e-5
        norm = float(v.norm())
    return norm


def follow(
    problem: Problem, way: Parametrisation, data: Samples, c: Tensor, step: float, steps: int, name: str
) -> dict:
    """Descent c ← c − τTTᵀ∇ from a point of E; after every step ‖A_{E⊥}‖, ‖A − A⁰‖ and the risk."""
    admissible, first = way.admissible, c
    off, travelled, risks, leak = [], [], [], None
    for _ in tqdm(range(steps + 1), desc=name, disable=None, leave=False):
        risk, gradient = slope(problem, admissible, data, c)
        move = way.metric(gradient)
        if leak is None:
            leak = float((move - admissible.equivariant_part(move)).norm() / move.norm())
        off.append(float((c - admissible.equivariant_part(c)).norm()))
        travelled.append(float((c - first).norm()))
        risks.append(risk)
        c = c - step * move
    return {"off_equivariance": off, "travelled": travelled, "risk": risks, "leak": leak, "norm": float(first.norm())}


def on_e(problem: Problem, admissible: Admissible, c: Tensor, step: float, steps: int) -> Tensor:
    """Equivariant descent: the same steps with the gradient projected onto E."""
    for _ in tqdm(range(steps), desc="on E", disable=None, leave=False):
        c = c - step * admissible.equivariant_part(slope(problem, admissible, problem.samples, c)[1])
    return c


def ends(operator: Operator, dim: int, steps: int, project: Callable[[Tensor], Tensor] | None = None) -> dict:
    """λ_min and λ_max of an operator on a space of dimension ``dim``, with residuals."""
    began, generator = time.perf_counter(), torch.Generator().manual_seed(0)
    first = torch.randn(operator.dim, generator=generator, dtype=torch.float64)
    state = lanczos(operator, first, min(steps, dim), project)

    def product(v: Tensor) -> Tensor:
        return operator(v) if project is None else project(operator(v))

    spectrum = lanczos_spectrum(product, dim, state, 1, time.perf_counter() - began, 1).spectrum
    low, high = spectrum.lowest[0], spectrum.highest[0]
    return {
        "dim": dim,
        "lowest": low.value,
        "lowest_residual": low.residual,
        "highest": high.value,
        "highest_residual": high.residual,
        "products": operator.products,
    }


def spectra_by_sector(problem: Problem, admissible: Admissible, c: Tensor, steps: int) -> list[dict]:
    """A compatible support: ∇²R^aug irrep by irrep, by nominal products."""
    small = restrict(problem, admissible)
    theta = small.space.project(c)
    nominal = nominal_hessian(small, c, CHUNK)
    found = []
    for irrep, size in sectors.occurring(small.space):
        operator = sectors.sector_hessian(small, theta, irrep, nominal)
        one = ends(operator, size, steps)
        one["dim"] = size * irrep.dim // irrep.commutant_dim
        found.append({"block": "E" if irrep.is_trivial else "E_perp", "irrep": irrep.name, **one})
    return found


def spectra_by_projection(problem: Problem, admissible: Admissible, c: Tensor, steps: int) -> list[dict]:
    """Any support: ∇²R^aug on T from moved data, cut by Π_E; without a symmetry of T there are no sectors."""
    operator, n_e = restricted_augmented(problem, admissible, c), admissible.dim_equivariant

    def across(v: Tensor) -> Tensor:
        return v - admissible.equivariant_part(v)

    found = [
        {"block": "E", "irrep": None, **ends(operator, n_e, steps, admissible.equivariant_part)},
        {"block": "E_perp", "irrep": None, **ends(operator, admissible.dim - n_e, steps, across)},
    ]
    generator, coupling = torch.Generator().manual_seed(1), 0.0
    v = admissible.equivariant_part(torch.randn(admissible.dim, generator=generator, dtype=torch.float64))
    for _ in range(COUPLING_STEPS):
        w = across(operator(v / v.norm()))
        coupling = float(w.norm())
        if coupling < 1e-13:
            break
        v = admissible.equivariant_part(operator(w / coupling))
    for one in found:
        one["coupling"] = coupling
    return found


def compute(rows: Rows, size: Size) -> None:
    """Everything that is missing."""
    problem = build(size)
    data = problem.augmented()
    step = rows.pick(kind="step")
    if not step:
        admissible = admit(problem, "cross")
        top = max(sharpest(problem, admissible, data, start(problem, admissible, s)) for s in range(size.seeds))
        rows.add({"kind": "step", "sharpest": top, "step": STEP_SHARE * 2 / top})
        step = rows.pick(kind="step")
    tau = step[0]["step"]
    jobs = [(w, k, s) for s in range(size.seeds) for w in SUPPORTS for k in COORDINATES]
    for which, kind, seed in tqdm(jobs, desc="descent", disable=None):
        if rows.has(kind="run", support=which, coordinates=kind, seed=seed):
            continue
        way = coordinates(problem, which, kind, seed)
        found = compatibility(way.admissible)
        # The same first step length in A for both kinds of coordinates.
        c = start(problem, way.admissible, seed)
        gradient = slope(problem, way.admissible, data, c)[1]
        scale = float(gradient.norm() / way.metric(gradient).norm())
        run = follow(problem, way, data, c, tau * scale, size.steps, f"{which}, {kind}, start {seed}")
        rows.add(
            {
                "kind": "run",
                "support": which,
                "coordinates": kind,
                "seed": seed,
                "defect": found.defect,
                "coordinate_defect": way.defect(),
                "dims": found.dims,
                **run,
            }
        )
    for which in SUPPORTS:
        admissible = admit(problem, which)
        for where in ("start", "after descent on E"):
            if rows.has(kind="spectrum", support=which, where=where):
                continue
            c = start(problem, admissible, 0)
            if where != "start":
                c = on_e(problem, admissible, c, tau, size.steps)
            compatible = compatibility(admissible).compatible
            measure = spectra_by_sector if compatible else spectra_by_projection
            gradient = slope(problem, admissible, data, c)[1]
            leak = float((gradient - admissible.equivariant_part(gradient)).norm() / gradient.norm())
            with torch.no_grad():
                prediction = problem.model.predict(admissible.embed(c), problem.samples.x)
            accuracy = float((prediction.argmax(1) == problem.samples.y).double().mean())
            blocks = measure(problem, admissible, c, size.krylov)
            for block in blocks:
                rows.add(
                    {"kind": "spectrum", "support": which, "where": where, "leak": leak, "accuracy": accuracy, **block}
                )


def runs(rows: Sequence[dict]) -> list[dict]:
    return [r for r in rows if r["kind"] == "run"]


def spectra(rows: Sequence[dict]) -> list[dict]:
    return [r for r in rows if r["kind"] == "spectrum"]


def draw(rows: Sequence[dict]) -> Figure:
    """‖A_{E⊥}‖ along the runs, one line a start; both supports drawn; the ends of the spectra with zero marked."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    for i, (which, kind) in enumerate((w, k) for w in SUPPORTS for k in COORDINATES):
        chosen = [r for r in runs(rows) if r["support"] == which and r["coordinates"] == kind]
        for number, run in enumerate(chosen):
            off = np.maximum(np.array(run["off_equivariance"]) / run["norm"], 1e-18)
            label = f"{which}, {kind}" if number == 0 else None
            left.semilogy(range(len(off)), off, **STYLES[i], linewidth=1.6, alpha=0.9, label=label)
    left.axhspan(1e-18, 1e-14, facecolor="none", edgecolor="0.85", hatch="///", linewidth=0)
    left.text(0.99, 3e-15, "rounding", transform=left.get_yaxis_transform(), ha="right", fontsize="small", color="0.4")
    left.set_ylim(1e-18, 10)
    left.set_xlabel("steps of exact augmented descent")
    left.set_ylabel(r"$\|A_{E^\perp}\|\,/\,\|A^0\|$")
    left.legend(fontsize="small", loc="upper right", bbox_to_anchor=(1, 0.78))
    for i, which in enumerate(SUPPORTS):
        inset = left.inset_axes([0.12 + 0.2 * i, 0.40, 0.11, 0.16])
        inset.imshow(1 - np.array(SUPPORTS[which]), cmap="gray", vmin=-0.6, vmax=1)
        inset.set_xticks(np.arange(-0.5, 3), labels=[])
        inset.set_yticks(np.arange(-0.5, 3), labels=[])
        inset.grid(color="0.6", linewidth=0.6)
        inset.tick_params(length=0)
        defect = next((r["defect"] for r in runs(rows) if r["support"] == which), float("nan"))
        inset.set_title(f"{which}\ndefect {defect:.2g}", fontsize="x-small")
    labels, place = [], 0
    for which in SUPPORTS:
        for where in dict.fromkeys(r["where"] for r in spectra(rows)):
            for block in ("E", "E_perp"):
                chosen = [r for r in spectra(rows) if (r["support"], r["where"], r["block"]) == (which, where, block)]
                if not chosen:
                    continue
                low, high = min(r["lowest"] for r in chosen), max(r["highest"] for r in chosen)
                style = STYLES[0] if block == "E" else STYLES[1]
                right.plot([low, high], [place, place], color=style["color"], linestyle=style["linestyle"], linewidth=2)
                right.plot([low], [place], "o", color="black", markersize=5)
                right.plot([high], [place], "s", color="black", markersize=4, markerfacecolor="none")
                right.annotate(f"{low:.2g}", (low, place), (4, 5), textcoords="offset points", fontsize=8)
                labels.append(f"{which}, {where}, {'E' if block == 'E' else 'E⊥'}")
                place += 1
    right.axvline(0, color="black", linewidth=1.2)
    right.set_xscale("symlog", linthresh=1e-2)
    right.set_yticks(range(place), labels=labels, fontsize="small")
    right.set_ylim(place - 0.4, -0.7)
    right.set_xlabel(r"$\lambda_{\min}$ (dot) to $\lambda_{\max}$ (square) of $\nabla^2 R^{\mathrm{aug}}$")
    return figure


def section(rows: Sequence[dict]) -> Section:
    """Words from the rows."""

    def off(which: str, kind: str) -> list[float]:
        chosen = [r for r in runs(rows) if r["support"] == which and r["coordinates"] == kind]
        return [r["off_equivariance"][-1] / r["norm"] for r in chosen]

    def span(values: Sequence[float]) -> str:
        return f"{min(values):.1e} to {max(values):.1e}"

    defects = {w: next(r["defect"] for r in runs(rows) if r["support"] == w) for w in SUPPORTS}
    mixed = [
        r["coordinate_defect"] for r in runs(rows) if r["coordinates"] == COORDINATES[1] and r["support"] == "cross"
    ]
    kept = max(off("cross", COORDINATES[0])) < KEPT
    left = min(off("skewed", COORDINATES[0]) + off("cross", COORDINATES[1]) + off("skewed", COORDINATES[1])) > KEPT
    steps = len(runs(rows)[0]["off_equivariance"]) - 1
    dims = {w: next(r["dims"] for r in runs(rows) if r["support"] == w) for w in SUPPORTS}
    texts = []
    for which in SUPPORTS:
        for where in dict.fromkeys(r["where"] for r in spectra(rows)):
            chosen = [r for r in spectra(rows) if r["support"] == which and r["where"] == where]
            lowest = {b: min(r["lowest"] for r in chosen if r["block"] == b) for b in ("E", "E_perp")}
            coupling = chosen[0].get("coupling")
            texts.append(
                f"{which}, {where}: λ_min {lowest['E']:.2e} on E and {lowest['E_perp']:.2e} on E⊥, "
                f"share of the gradient off E {chosen[0]['leak']:.1e}"
                + (f", coupling {coupling:.1e}" if coupling is not None else "")
            )
    finding = (
        "The support that G maps to itself keeps E to rounding, in orthonormal coordinates only; the skewed one loses "
        "it in the first step."
        if kept and left
        else "The runs do not separate as the theory says."
    )
    whole, own, other = dims["cross"]["H"], dims["cross"], dims["skewed"]
    return Section(
        title="Kernels that keep E and kernels that do not",
        expected="If the projections onto admissible and equivariant layers commute, exact augmented descent in "
        "orthonormal coordinates never leaves E; a skewed support or coordinates that are not orthonormal carry it "
        "off, whatever the spectrum.",
        measured=f"‖[Π_T, Π_G]‖ is {defects['cross']:.1e} for the cross and {defects['skewed']:.3f} for the skewed "
        f"support; T has {own['L']:,} of {whole:,} dimensions, E {own['E']:,} and {other['E']:,}. After {steps} steps "
        f"‖A_{{E⊥}}‖/‖A⁰‖ is {span(off('cross', COORDINATES[0]))} for the cross, {span(off('cross', COORDINATES[1]))} "
        f"for the cross in other coordinates (defect {span(mixed)}), {span(off('skewed', COORDINATES[0]))} for the "
        f"skewed support and {span(off('skewed', COORDINATES[1]))} for it in other coordinates.\n\n"
        + "; ".join(texts)
        + ".",
        means="Whether augmentation can find the equivariant network is decided by the architecture first: only where "
        "the defect vanishes do spectra on E and E⊥ say which points hold.",
        finding=finding,
    )


def tables(rows: Sequence[dict]) -> list[dict]:
    """Every block of the spectra."""
    header = ("support", "point", "block", "irrep", "dim", "λ_min", "residual", "λ_max", "coupling", "gradient off E")
    body = [
        (
            r["support"], r["where"], r["block"].replace("_perp", "⊥"), r["irrep"], r["dim"], r["lowest"],
            r["lowest_residual"], r["highest"], r.get("coupling"), r["leak"],
        )
        for r in spectra(rows)
    ]  # fmt: skip
    return [table("∇²R^aug on the admissible layers", header, body)]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=tuple(SIZES), default="small")
    parser.add_argument("--out", type=Path, default=Path("reports/restricted"))
    options = parser.parse_args(arguments)
    size = SIZES[options.size]
    folder = prepare_folder(options.out)
    rows = Rows(folder / "restricted.json", {"size": options.size, **vars(size)})
    compute(rows, size)
    caption = (
        "Left: distance from E along exact augmented descent, one line for each start. Right: ends of the spectra."
    )
    finish(folder, "restricted", rows, draw(rows.rows), section(rows.rows), tables(rows.rows), caption)
    print(section(rows.rows).finding)


if __name__ == "__main__":
    sys.exit(command(main))
