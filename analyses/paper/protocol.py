"""How the paper trains: batch, passes and step."""

from __future__ import annotations

BATCH = {"perm": 200, "trans": 25, "rot": 25}
PASSES, STEP = 25, 5e-5
# Weights that may be held in float64 beside their gradients.
LARGE = 5_000_000
