"""What must hold before anything is computed, and what the analysis says of the problem itself."""

from __future__ import annotations

import json
import math
import platform
from dataclasses import replace

import numpy as np
import scipy
import torch

from stability.base.cluster import Pool, Serial
from stability.base.errors import BadInput
from stability.base.progress import stage
from stability.groups import cyclic_moduli
from stability.problem.assumptions import check_assumptions
from stability.problem.identity import identity
from stability.problem.problem import Problem
from stability.results import Analysis
from stability.run.given import Given, Workers
from stability.run.settings import Settings
from stability.tasks.recipe import Recipe
from stability.version import __version__


def header(problem: Problem, settings: Settings, known: dict) -> Analysis:
    """An analysis that holds what is known of the problem before it is looked at.

    Args:
        problem: the risk.
        settings: of the run.
        known: keys that only the caller knows (task, size, options, …); they come before what is said here.
    """
    space = problem.space
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "scipy": scipy.__version__,
        "numpy": np.__version__,
        "stability": __version__,
    }
    layers = tuple(
        {"name": layer.name, "source": layer.source.name, "target": layer.target.name, "dim": layer.dim, "dim_E": size}
        for layer, size in zip(space.layers, space.sizes, strict=True)
    )
    plain = {
        "task": problem.name,
        "size": "custom",
        "seed": settings.seed,
        "dtype": str(problem.samples.x.dtype).removeprefix("torch."),
        "activation": "custom",
        "weight_decay": problem.weight_decay,
        "samples": len(problem.samples.x),
        "versions": versions,
        "group": {"name": problem.group.name, "order": problem.group.order, "moduli": cyclic_moduli(problem.group)},
        "dims": {"L": space.dim, "E": space.dim_equivariant, "E_perp": space.dim - space.dim_equivariant},
        "facts": dict(problem.facts) | _average(problem),
        "layers": layers,
    }
    return Analysis(**(plain | known))


def _average(problem: Problem) -> dict[str, str]:
    """How averages over a Lie group are taken."""
    if problem.group.order is not None:
        return {}
    if math.isinf(problem.moves):
        return {"average": f"no quadrature of {problem.group.name} is known; sectors need none"}
    return {"average": f"{problem.moves:,} nodes, exact at points of E: degree {problem.degree}"}


def enough_memory(problem: Problem, memory_gb: float) -> None:
    """Refuse what cannot fit: weights, gradients and the graph of one linearised gradient.

    Raises:
        BadInput: it does not.
    """
    space, like = problem.space, problem.samples.x
    widths = space.layers[0].shape[1] + sum(layer.shape[0] for layer in space.layers)
    widths = max(widths, problem.activations * len(space.layers))
    need = like.element_size() * (12 * space.dim + 10 * widths * min(len(like), 4096)) / 1e9 + 0.5
    if need > memory_gb:
        raise BadInput(
            f"{problem.name} with {space.dim:,} weights and {len(like):,} samples needs about {need:.1f} GB, more than "
            f"--memory-gb {memory_gb:g}; use a smaller --size, fewer --samples or more memory"
        )


def assumptions(given: Given) -> None:
    """Measure every assumption and keep its violation.

    Raises:
        BadInput: one that fails.
    """
    with stage("assumptions"):
        measured = check_assumptions(given.problem, given.settings.seed)
    if measured:
        given.ledger.keep(assumptions=measured)


def identified(given: Given, pool: Pool | None, recipe: Recipe | None) -> Given:
    """The same run with its workers; what is kept, and what they build, tied to what the problem is, not to its name.

    Raises:
        BadInput: tensors to be resumed that belong to another problem.
    """
    # Handed over only where there is someone to hand it to: the work is done here otherwise.
    pool = None if isinstance(pool, Serial) else pool
    if given.checkpoint.folder is None and pool is None:
        return given
    with stage("what the problem is"):
        known = identity(given.problem, recipe.task if recipe else "")
    given.checkpoint.belongs_to({**known, "settings": given.settings.identity()})
    if pool is None:
        return given
    source = replace(recipe, known=json.dumps(known, sort_keys=True)) if recipe else given.problem
    return replace(given, workers=Workers(pool, source, pool.share(source)))
