"""Threads, figures and random examples: the same on every machine."""

import os

# Read when numpy and torch are first loaded; commands that tests start inherit them.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "2")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture
def undrawn(request):
    """Runs of this test draw nothing, unless it is marked ``drawn``."""
    if request.node.get_closest_marker("drawn"):
        yield
        return
    from undrawn import no_pictures  # matplotlib, which most files do without

    with no_pictures():
        yield
