"""What an eigenvalue may be off by: rounding that sits inside the risk."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stability.curvature.at import At
from stability.groups import Cyclic, regular
from stability.networks.bare import from_risk
from stability.run.errors import rough_hessian

REGULAR = regular(Cyclic(3))


def stepped(offset: float):
    """½|w|² + s²Σ(w − s)² with s the mean of w, computed as (s + B) − B."""

    def risk(parameters: dict[str, Tensor]) -> Tensor:
        w = parameters["w"]
        s = (w.mean() + offset) - offset
        return 0.5 * w.square().sum() + s.square() * (w - w.mean()).square().sum() + s * (w - w.mean()).square().sum()

    return risk


@pytest.mark.parametrize("size", [1.0, 1e-12])
def test_steps_inside_a_risk_are_seen_however_small_the_point(size):
    found = {}
    for offset in (0.0, 1e6):
        point = size * torch.full((3,), 1.23456789, dtype=torch.float64)
        problem = from_risk(stepped(offset), {"w": point}, {"w": REGULAR})
        found[offset] = rough_hessian(At(problem, problem.space.project(point)).dense, 0)
    # s comes in steps of 1.2e-10, and a curvature is twice that.
    assert found[0.0] < 1e-13 and 1e-11 < found[1e6] < 1e-8
