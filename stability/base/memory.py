"""Memory that a process keeps for itself, instead of giving it back to the system after every product."""

from __future__ import annotations

import ctypes
import os

# <malloc.h> of glibc.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
# The largest threshold that every glibc takes. Activations of a batch of tangents are made to stay below it.
KEPT_ARRAY = 32 << 20
KEPT = 512 << 20


def keep_freed_memory() -> bool:
    """Let the C library keep up to half a gigabyte that was freed, in arrays of up to 32 MiB.

    By default it takes every array of more than 128 KiB from the system anew and gives it back when freed, and the
    system clears each page again. Products allocate all the time: on TRANS small that was a quarter of all processor
    time, and much of what two processes lose beside each other.

    Returns:
        whether something was set: not where the library is another one, nor where the environment has MALLOC_… already.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    settings = ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, KEPT_ARRAY), (_TRIM_THRESHOLD, KEPT))
    return all([mallopt(name, value) == 1 for name, value in settings])
