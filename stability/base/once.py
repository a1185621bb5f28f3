"""What was measured of an object once and holds as long as the object lives.

>>> class Thing: pass
>>> thing = Thing()
>>> remembered(thing)["answer"] = 42
>>> remembered(thing), remembered(Thing())
({'answer': 42}, {})
"""

from __future__ import annotations

import weakref
from typing import Any

_kept: dict[int, dict[Any, Any]] = {}


def remembered(owner: object) -> dict[Any, Any]:
    """A dict that lives as long as ``owner``, found by identity: problems hold tensors, which have no equality."""
    # A bound method is made anew at every access; what lasts is the object that it is bound to.
    owner = getattr(owner, "__self__", owner)
    key = id(owner)
    if key not in _kept:
        try:
            weakref.finalize(owner, _kept.pop, key, None)
        except TypeError:  # an object that cannot be watched is not remembered, for its number may be given again
            return {}
        _kept[key] = {}
    return _kept[key]
