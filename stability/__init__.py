"""Hessian and stability analysis of equivariant and augmented neural networks.

A *problem* is a risk with a group action on its parameters:

=====================  ==========================================================================================
``from_module``        any torch.nn.Module, with representations for its linear and convolutional layers
``from_risk``          any differentiable risk on a dict of tensors, with a representation for each
``from_network``       a multilayer perceptron over representations, made by ``mlp``
=====================  ==========================================================================================

Its *stages*, each usable alone; ``point`` may be θ, weights, a state_dict, a module or the path of a checkpoint:

===========================  ====================================================================================
``check(problem)``           the assumptions, measured
``find_points(problem)``     equivariant stationary points
``hessian(problem, point)``  ∇²R, ∇²R^eqv or ∇²R^aug on L, E, E⊥ or a sector: products, matrix, scipy LinearOperator
``spectrum(problem, …)``     its spectrum, with residuals
``sectors(problem, …)``      ∇²R^aug irrep by irrep
``verdict(problem, …)``      stable, unstable, degenerate, undecided, with evidence
``report(problem, folder)``  the HTML page
``analyse(problem, point)``  all of it
===========================  ====================================================================================

*Trained networks*: ``load_weights(path)``, ``diagnose(problem, weights)``, and a training trajectory recorded by
``Recorder`` and judged by ``follow(problem, recorder)``. Results are frozen dataclasses: ``print`` them;
``.to_frame()`` gives pandas (``frame`` takes several), ``.to_json()`` and ``.from_json()`` round-trip. Groups and
representations live in ``stability.groups``.

>>> import stability
>>> from stability.tasks import TaskOptions, load
>>> outcome = stability.analyse(load("counterexample", TaskOptions()))
>>> outcome.analysis.summary()
'verdict: eqv=stable aug=unstable nominal=unstable transverse=unstable'
>>> round(outcome.analysis.verdict.critical_penalty, 12)
1.0
"""

import importlib
import os

# Read when torch is first loaded. Threads that wait by spinning cost little on an idle machine but slow small
# products five to ten times down as soon as anything else runs beside them (measured on two cores).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from stability import api, groups
from stability.analysis import Outcome, Settings
from stability.api import analyse, check, find_points, from_network, hessian, project, weights
from stability.checkpoints import load_weights
from stability.curvature import Operator
from stability.diagnosis import Diagnosis, diagnose
from stability.eigen import Eigenvalue, Spectrum
from stability.errors import BadInput
from stability.memory import keep_freed_memory
from stability.modules import from_module
from stability.networks import (
    Chain,
    Classifier,
    Gated,
    Identity,
    LayerNorm,
    Norm,
    Pointwise,
    cross_entropy,
    logistic,
    mlp,
    squared,
    supervised,
)
from stability.problem import Problem, Samples
from stability.record import frame
from stability.results import Analysis, Verdicts
from stability.sectors import Sector
from stability.stationary import StationaryPoint
from stability.trajectory import Recorder, Trajectory, follow
from stability.trees import from_risk
from stability.verdict import Verdict
from stability.version import __version__

keep_freed_memory()

# These stages share their names with the modules that implement them; calling the module calls the stage.
for _name in ("sectors", "verdict", "report"):
    api.callable_module(f"stability.{_name}", getattr(api, _name))
del _name


def __getattr__(name: str) -> object:
    # Loaded when asked for: ``python -m stability.spectrum`` must not find itself imported already.
    if name == "spectrum":
        return importlib.import_module("stability.spectrum")
    raise AttributeError(f"module 'stability' has no attribute {name!r}")


__all__ = [
    "Analysis",
    "BadInput",
    "Chain",
    "Classifier",
    "Diagnosis",
    "Eigenvalue",
    "Gated",
    "Identity",
    "LayerNorm",
    "Norm",
    "Operator",
    "Outcome",
    "Pointwise",
    "Problem",
    "Recorder",
    "Samples",
    "Sector",
    "Settings",
    "Spectrum",
    "StationaryPoint",
    "Trajectory",
    "Verdict",
    "Verdicts",
    "__version__",
    "analyse",
    "check",
    "cross_entropy",
    "diagnose",
    "find_points",
    "follow",
    "frame",
    "from_module",
    "from_network",
    "from_risk",
    "groups",
    "hessian",
    "load_weights",
    "logistic",
    "mlp",
    "project",
    "squared",
    "supervised",
    "weights",
]
