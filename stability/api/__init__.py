"""How do I ask? The stages from Python, trained networks and trajectories."""

from stability.api.stages import (
    Point,
    analyse,
    check,
    find_points,
    fitted,
    from_network,
    hessian,
    judged_sectors,
    locate,
    project,
    report,
    sectors,
    spectrum,
    state_of,
    verdict,
    weights,
)

__all__ = [
    "Point",
    "analyse",
    "check",
    "find_points",
    "fitted",
    "from_network",
    "hessian",
    "judged_sectors",
    "locate",
    "project",
    "report",
    "sectors",
    "spectrum",
    "state_of",
    "verdict",
    "weights",
]
