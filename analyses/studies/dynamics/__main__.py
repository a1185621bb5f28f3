r"""How augmented training leaves E, how fast, where it ends, and what a long step changes.

    python -m analyses.dynamics [--parts flow mode end discrete descent] [--out reports/dynamics]

* flow: from an equivariant stationary point A plus a small push ε v along a mode v ∈ E⊥ of ∇²R^aug(A), exact augmented
  descent with a step well below 2/λ_max on E and on E⊥. To first order ẏ = −∇²R^aug(A) y on E⊥, so
  ‖A_{E⊥}(t)‖ = ε e^{−λt}: growth where λ < 0, decay where λ > 0. The rate is fitted where the prediction is at least
  three factors e long; the prediction has stopped where it is off by a tenth. The flow keeps the stabiliser of v, so
  the gradient is taken from one element of every coset.
* mode: how many sectors share the leading eigenvalue, and what its mode does to predictions.
* end: the instability followed to its end by L-BFGS on R^aug: risk, accuracy, the elements that still fix A and Φ,
  and the spectrum of ∇²R^aug there, off E. Once freely, and once among the weights that the push's stabiliser fixes,
  which exact arithmetic would never leave.
* discrete: steps on both sides of 2/λ_max(E) and 2/λ_max(E⊥); a deviation along the top mode changes by 1 − τλ a
  step.
* descent: AUG and EQUI training side by side with a step between the two critical steps, started in E near the point:
  rounding alone takes AUG out of E where 2/λ_max(E⊥) is the smaller one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from analyses.lab.cases import Case
from analyses.lab.command import command
from analyses.lab.ground import Ground
from analyses.lab.publish import finish
from analyses.lab.rows import Rows
from analyses.studies.dynamics.ends import end
from analyses.studies.dynamics.flow import flow, mode_facts
from analyses.studies.dynamics.listed import tables
from analyses.studies.dynamics.picture import CAPTION, draw
from analyses.studies.dynamics.places import DISCRETE, ENDS, FLOWS, MODES, PARTS, WAYS, Flow
from analyses.studies.dynamics.steps import descent, discrete
from analyses.studies.dynamics.words import section
from stability.base.errors import BadInput
from stability.base.storage import prepare_folder


def compute(rows: Rows, parts: Sequence[str], tasks: Sequence[str], iterations: int) -> None:
    """Whatever is missing, one row after the other."""
    known: dict[str, Ground] = {}

    def ground(case: Case) -> Ground:
        if case.label not in known:
            known[case.label] = case.ground()
        return known[case.label]

    jobs: list[tuple[str, object]] = []
    if "flow" in parts:
        jobs += [("flow", f) for f in FLOWS if f.case.task in tasks]
    if "mode" in parts:
        jobs += [("mode", c) for c in MODES if c.task in tasks]
    if "end" in parts:
        # Known by hand: one partner, which nothing but the identity fixes.
        jobs += [("end", (c, way)) for c in ENDS if c.task in tasks for way in (WAYS[:1] if c.by_hand else WAYS)]
    jobs += [(part, c) for part in ("discrete", "descent") if part in parts for c in DISCRETE if c.task in tasks]
    for part, job in tqdm(jobs, desc="dynamics", disable=None):
        if isinstance(job, Flow):
            label = job.case.label
            if rows.has(part=part, label=label, push=job.push, least=job.least):
                continue
            at = ground(job.case)
            mode = at.lowest if job.least is None else at.lowest_above(job.least, at.problem.weight_decay)
            found = flow(at, mode, job.push, job.folds)
            rows.add({"part": part, "label": label, "least": job.least, "point": at.summary(), **found})
        elif isinstance(job, tuple):
            case, way = job
            if not rows.has(part=part, label=case.label, way=way):
                rows.add({"part": part, "label": case.label, **end(ground(case), way, iterations)})
        elif rows.has(part=part, label=job.label):
            continue
        elif part == "mode":
            rows.add({"part": part, "label": job.label, **mode_facts(ground(job))})
        else:
            for row in (discrete if part == "discrete" else descent)(ground(job)):
                rows.add({"part": part, "label": job.label, **row})
    rows.rows.sort(key=lambda r: PARTS.index(r["part"]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--parts", nargs="*", default=list(PARTS), help=f"of {', '.join(PARTS)}; none: only words and picture"
    )
    tasks = list(dict.fromkeys([f.case.task for f in FLOWS] + [c.task for c in (*MODES, *ENDS, *DISCRETE)]))
    parser.add_argument("--tasks", nargs="+", default=tasks, choices=tasks)
    parser.add_argument("--iterations", type=int, default=12000, help="most L-BFGS iterations to an end")
    parser.add_argument("--out", type=Path, default=Path("reports/dynamics"))
    options = parser.parse_args(arguments)
    if options.iterations < 1:
        raise BadInput(f"--iterations {options.iterations}: give a positive number")
    if unknown := set(options.parts) - set(PARTS):
        raise BadInput(f"--parts {' '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    folder = prepare_folder(options.out)
    rows = Rows(folder / "dynamics.json", {"iterations": options.iterations})
    compute(rows, options.parts, options.tasks, options.iterations)
    said = section(rows.rows)
    finish(folder, "dynamics", rows, draw(rows.rows), said, tables(rows.rows), CAPTION)
    print(said.measured)


if __name__ == "__main__":
    raise SystemExit(command(main))
