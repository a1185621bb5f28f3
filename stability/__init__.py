"""Hessian and stability analysis of equivariant and augmented neural networks.

A *problem* is a risk with a group action on its parameters:

=====================  ==========================================================================================
``from_module``        any torch.nn.Module, with representations for its layers, or with a group alone: then
                       ``infer`` finds them
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

*Before training*: ``forecast(problem, point, optimiser)`` says how far from E the optimiser's steps will lead, and
``prescribe(problem, point, optimiser, keep=…)`` what keeps it near.

*Trained networks*: ``load_weights(path)``, ``diagnose(problem, weights)``, and a training trajectory recorded by
``Recorder`` and judged by ``follow(problem, recorder)``, or watched while it goes on by a ``Monitor``, alone or as a
callback (``stability.api.callbacks``). Results are frozen dataclasses: ``print`` them;
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

import os

# Read when torch is first loaded. Threads that wait by spinning cost little on an idle machine but slow small
# products five to ten times down as soon as anything else runs beside them (measured on two cores).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from stability import api, groups, moved  # noqa: F401 - old paths, and packages that share a stage's name
from stability.api.diagnosis import Diagnosis, diagnose
from stability.api.monitor import Monitor
from stability.api.prospects import forecast, prescribe
from stability.api.stages import (
    analyse,
    check,
    find_points,
    from_network,
    hessian,
    project,
    report,
    sectors,
    spectrum,
    verdict,
    weights,
)
from stability.api.trajectory import Recorder, Trajectory, follow
from stability.base.checkpoints import load_weights
from stability.base.errors import BadInput
from stability.base.limits import Limits
from stability.base.memory import keep_freed_memory
from stability.base.record import frame
from stability.eigen.operator import Operator
from stability.eigen.spectrum import Eigenvalue, Spectrum
from stability.inference.audit import Audit, audit
from stability.inference.door import from_module
from stability.inference.infer import Inference, infer
from stability.networks.bare import from_risk
from stability.networks.classifier import Classifier
from stability.networks.losses import cross_entropy, logistic, squared
from stability.networks.network import mlp
from stability.networks.nonlinearities import Chain, Gated, Identity, LayerNorm, Norm, Pointwise
from stability.networks.supervised import supervised
from stability.optimisers.outlook import Forecast
from stability.optimisers.prescribe import Prescription
from stability.points.stationary import StationaryPoint
from stability.problem.problem import Problem
from stability.problem.space import Samples
from stability.results import Analysis, Verdicts
from stability.run.given import Outcome
from stability.run.settings import Settings
from stability.spectra.sectors import Sector
from stability.verdicts.verdict import Verdict
from stability.version import __version__

keep_freed_memory()

__all__ = [
    "Analysis",
    "Audit",
    "BadInput",
    "Chain",
    "Classifier",
    "Diagnosis",
    "Eigenvalue",
    "Forecast",
    "Gated",
    "Identity",
    "Inference",
    "LayerNorm",
    "Limits",
    "Monitor",
    "Norm",
    "Operator",
    "Outcome",
    "Pointwise",
    "Prescription",
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
    "audit",
    "check",
    "cross_entropy",
    "diagnose",
    "find_points",
    "follow",
    "forecast",
    "frame",
    "from_module",
    "from_network",
    "from_risk",
    "groups",
    "hessian",
    "infer",
    "load_weights",
    "logistic",
    "mlp",
    "prescribe",
    "project",
    "report",
    "sectors",
    "spectrum",
    "squared",
    "supervised",
    "verdict",
    "weights",
]
