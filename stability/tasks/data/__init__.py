"""The data of the three tasks, in plain numpy: real digits, random graphs, polygons, seeded; or as published.

Inputs are raw (digits and coverages in [0, 1], adjacency 0/1); centring or standardising belongs to the task.
Source of the tasks: arXiv 2303.13458, experiments PERM (graphs), TRANS (digits) and ROT (shapes).
"""

from stability.tasks.data.dataset import Dataset
from stability.tasks.data.digits import digits
from stability.tasks.data.graphs import graphs
from stability.tasks.data.published import published_graphs, published_shapes
from stability.tasks.data.shapes import shapes

__all__ = ["Dataset", "digits", "graphs", "published_graphs", "published_shapes", "shapes"]
