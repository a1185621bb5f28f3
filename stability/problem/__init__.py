"""Which risk? A parameter space with a group action, the samples, and the risk on them."""

from stability.problem.problem import FlatFamily, Held, Model, Problem, single, some_equivariant
from stability.problem.space import ParameterSpace, Samples

__all__ = ["FlatFamily", "Held", "Model", "ParameterSpace", "Problem", "Samples", "single", "some_equivariant"]
