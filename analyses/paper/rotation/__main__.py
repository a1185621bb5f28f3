r"""Why augmented and nominal training are alike in the paper's ROT: four suspects, one at a time.

    python -m analyses.rotation [--size small] [--runs 5] [--sampler haar published] [--head published none] [--out DIR]

In the paper AUG stays close to NOM in ROT alone, with ‖A_{E⊥}‖ of 1e-7 next to ‖A − A⁰‖ of 1e-3. The suspects:

share    dim E/dim L = 1/4 is large: TRANS under the same C_4 has the same share, and is trained beside it
head     LayerNorm over two channels, nearly a sign, stops the gradient: with it, and with logits instead
sampler  as executed, the published rotation drew 0° with probability .4 and 180° with .6, never a quarter turn: such
         an average keeps all that 180° fixes, and E is not invariant under it
norm     as executed, the published norm was √Σ_k‖A_{k,⊥}‖⁴, the layers' norms squared once too often

The data are a fifth: as published they differ from what is described, and analyses.replays.published_data goes from
them to ours one change at a time. Here they are ours.

Under a sampler m the mean step is M∇R with M = Σ_g m(g)ρ̄(g). On E⊥ of C_4 that is the factor 1 where 180° acts
as +1 (q = 2) and m(0°) − m(180°) = −.2 where it acts as −1 (q = 1), so the gradient's split over both predicts AUG/NOM.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from analyses.lab.command import command
from analyses.lab.publish import finish
from analyses.lab.rows import Rows
from analyses.paper.protocol import PASSES, STEP
from analyses.paper.rotation.picture import draw
from analyses.paper.rotation.settings import settings
from analyses.paper.rotation.suspects import HEADS, SAMPLERS, measure
from analyses.paper.rotation.words import section, table_of
from stability.base.storage import prepare_folder


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command."""
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
