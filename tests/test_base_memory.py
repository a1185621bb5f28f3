"""Freed memory stays with the process, unless the environment asks otherwise."""

import os
import platform
import subprocess
import sys

import pytest

# Pages that the system hands out while products of 4 MiB come and go.
PROGRAM = """
import resource, stability, torch
a = torch.zeros(512, 1024, dtype=torch.float64)
b = a + 1
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(200):
    b = a + 1
    del b
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(**environment: str) -> int:
    # Workers begun by an earlier test leave their tunables in the environment: large pages would halve the count.
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    run = [sys.executable, "-c", PROGRAM]
    return int(subprocess.run(run, env=plain | environment, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_products_take_no_new_pages_unless_the_environment_says_how_memory_is_kept():
    pages = 200 * (4 << 20) // os.sysconf("SC_PAGE_SIZE")
    assert faults() < 0.02 * pages
    # The user's own settings are left alone: arrays of more than 128 KiB go back to the system each time.
    assert faults(MALLOC_MMAP_THRESHOLD_="131072") > 0.9 * pages
