"""Where is it stationary? Searches, descents, and what is said of a point."""

from stability.points.describe import PointReport, describe, equivariance_error, scores
from stability.points.stationary import StationaryPoint
from stability.points.training import exact_augmentation

__all__ = [
    "PointReport",
    "StationaryPoint",
    "describe",
    "equivariance_error",
    "exact_augmentation",
    "scores",
]
