"""The published data, the same with one fault mended after the other, and ours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from stability.base.errors import BadInput
from stability.tasks.data import Dataset, graphs, published_graphs, published_shapes, shapes
from stability.tasks.data.graphs import connected

# Grey value of a shape in the published images, 109 of 255; their background is 1.
SHAPE = 109 / 255
NODES, SIDE = 10, 14
# From the published data to ours, one change at a time.
VARIANTS = {
    "perm": ("published", "labels mended", "ours"),
    "rot": ("published", "absent mask zero", "and contrast turned", "ours"),
}


@dataclass(frozen=True)
class Setting:
    """What all variants have in common.

    Attributes:
        data_dir: where the published data lie.
        samples: to train on, the first of them.
        side: of the images.
    """

    data_dir: Path
    samples: int
    side: int


@lru_cache(maxsize=8)
def dataset(task: str, variant: str, setting: Setting) -> Dataset:
    """The data of a variant; those not trained on follow the others.

    Raises:
        BadInput: the published data cannot be read, or are fewer than asked for.
    """
    if variant == "ours":
        count = 2 * setting.samples
        return graphs(NODES, count, 0) if task == "perm" else shapes(setting.side, count, 0)
    data = published_graphs(setting.data_dir) if task == "perm" else published_shapes(setting.side, setting.data_dir)
    if setting.samples > len(data.inputs):
        raise BadInput(f"--samples {setting.samples:,}: only {len(data.inputs):,} were published for {task}")
    if variant == "published":
        return data
    if task == "perm":
        adjacency = data.inputs.reshape(len(data.inputs), NODES, NODES)
        return Dataset.of(data.inputs, connected(adjacency).astype(np.int64), f"{data.source}; labels mended")
    masks = data.targets.reshape(len(data.inputs), 2, -1)
    masks = masks * ~masks.all(2, keepdims=True)
    inputs = data.inputs if variant == VARIANTS["rot"][1] else (1 - data.inputs) / (1 - SHAPE)
    return Dataset.of(inputs, masks.reshape(len(masks), -1), f"{data.source}; {variant}")


def facts(task: str, setting: Setting) -> dict[str, object]:
    """What is wrong with the published data of a task, counted, beside ours."""
    setting = replace(setting, side=SIDE)
    data, own = dataset(task, "published", setting), dataset(task, "ours", replace(setting, samples=1000))
    row: dict[str, object] = {"kind": "facts", "task": task, "count": len(data.inputs), "digest": data.digest}
    if task == "perm":
        truth = dataset(task, "labels mended", setting).targets
        return row | {
            "labelled_connected": float(data.targets.mean()),
            "connected": float(truth.mean()),
            "wrong": int((truth != data.targets).sum()),
            "called_connected": int(((data.targets == 1) & (truth == 0)).sum()),
            "ours_connected": [float(graphs(NODES, 1000, seed).targets.mean()) for seed in range(10)],
        }
    masks = data.targets.reshape(len(data.inputs), 2, SIDE, SIDE)
    absent = masks.all((2, 3))
    here = np.where(absent[:, 1, None, None], masks[:, 0], masks[:, 1])
    images = data.inputs.reshape(-1, SIDE, SIDE)
    return row | {
        "one_mask_all_one": int((absent.sum(1) == 1).sum()),
        "triangles": int(absent[:, 1].sum()),
        "background": float(np.median(images)),
        "shape": float(images.min()),
        "mask_is_half_coverage": float((((1 - images) / (1 - SHAPE) >= 0.5) == here).mean()),
        "points_right": points_right(here[absent[:, 1]]),
        "ours_points_right": points_right(own.targets.reshape(-1, 2, SIDE, SIDE)[:, 0]),
    }


def points_right(masks: np.ndarray) -> float:
    """The share of non-empty triangles whose last column is shorter than their first, so that a corner points right."""
    ends = []
    for mask in masks:
        columns = mask.sum(0)
        used = np.flatnonzero(columns)
        if len(used) > 1 and used[0] > 0 and used[-1] < len(columns) - 1:  # not cut off by the border
            ends.append(columns[used[-1]] < columns[used[0]])
    return float(np.mean(ends)) if ends else float("nan")
