"""Hessian and stability analysis of equivariant and augmented neural networks."""

import os

# Read when torch is first loaded. Threads that wait by spinning cost little on an idle machine but slow small
# products five to ten times down as soon as anything else runs beside them (measured on two cores).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
