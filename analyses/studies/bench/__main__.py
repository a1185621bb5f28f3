"""What a product and an eigenvalue cost, next to other tools and to the floor, in one run.

    python -m analyses.bench [--parts nominal extremes augmented scaling] [--out reports/bench]

* nominal: ∇²R(A)v on PERM at the paper's size, per vector, against PyHessian, hessian-eigenthings and curvlinops;
  the floor is the time of the matrix products that cannot be avoided, measured in the same run.
* extremes: the lowest and the highest eigenvalue of ∇²R there, same tolerance, same threads.
* augmented: the exact lowest eigenvalue of ∇²R^aug on E⊥, TRANS medium: by sectors, by the group sum, and by sampled
  augmentation, whose eigenvalues are not the exact ones.
* scaling: how products grow with |G|, with samples, with width.

Candidates take turns within a round, and medians over rounds are compared, so a machine that slows down slows all of
them. Every part is written as soon as it is done; a peer that is not installed is left out and named.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from analyses.lab.command import command
from analyses.studies.bench.augmented import bench_augmented
from analyses.studies.bench.extremes import bench_extremes
from analyses.studies.bench.listed import tables
from analyses.studies.bench.picture import draw
from analyses.studies.bench.products import bench_nominal, bench_scaling
from stability.base.storage import prepare_folder, write

PARTS = ("nominal", "extremes", "augmented", "scaling")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the parts asked for; each is written as soon as it is done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--out", type=Path, default=Path("reports/bench"))
    options = parser.parse_args(arguments)
    folder = prepare_folder(options.out)
    path = folder / "bench.json"
    found = json.loads(path.read_text()) if path.is_file() else {}
    found["machine"] = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"
    runs = {
        "nominal": bench_nominal,
        "extremes": bench_extremes,
        "augmented": bench_augmented,
        "scaling": bench_scaling,
    }
    for part in tqdm(options.parts, desc="bench", disable=None):
        found[part] = runs[part]()
        write(path, json.dumps(found, indent=1, ensure_ascii=False))
        text = tables(found)
        write(folder / "README.md", text)
        draw(found).savefig(folder / "bench.png", dpi=110)
    print(tables(found))


if __name__ == "__main__":
    raise SystemExit(command(main))
