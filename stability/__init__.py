"""Hessian and stability analysis of equivariant and augmented neural networks.

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

from stability.analysis import Outcome, Settings, analyse
from stability.errors import BadInput
from stability.problem import Problem, Samples
from stability.results import Analysis
from stability.version import __version__

__all__ = ["Analysis", "BadInput", "Outcome", "Problem", "Samples", "Settings", "__version__", "analyse"]
