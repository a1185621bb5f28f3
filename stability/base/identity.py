"""Whether two descriptions of a problem say the same, and what differs."""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

# Relative: what summing in another order may do to R and ∇R.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-3}


def text_digest(text: bytes | memoryview) -> str:
    """sha256, its first 16 digits."""
    return hashlib.sha256(text).hexdigest()[:16]


def raw(tensor: Tensor) -> memoryview:
    """The bytes of a tensor's values, row by row, in any dtype."""
    # One number that was expanded counts as contiguous with a stride of zero, which cannot be seen as bytes.
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    flat = flat if flat.stride() == (1,) else flat.clone(memory_format=torch.contiguous_format)
    return flat.view(torch.uint8).numpy().data


def described(tensor: Tensor) -> dict[str, object]:
    """dtype, shape and digest; of floats also norm and a random projection, for means rounded elsewhere otherwise."""
    found: dict[str, object] = {
        "of": f"{tensor.dtype} {tuple(tensor.shape)}",
        "digest": text_digest(raw(tensor)),
    }
    if tensor.is_floating_point():
        flat = tensor.detach().cpu().reshape(-1).double()
        r = torch.randn(len(flat), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        found["numbers"] = [float(flat.norm()), float(flat @ r) / max(len(flat), 1) ** 0.5]
    return found


def _same_data(was: dict, now: dict) -> bool:
    if was.get("of") != now["of"] or was.get("digest") == now["digest"]:
        return was.get("of") == now["of"]
    tolerance = 1e-12 if "float64" in now["of"] else 1e-5
    return "numbers" in now and _close(was.get("numbers", []), now["numbers"], tolerance)


def differences(before: dict, now: dict) -> list[str]:
    """What changed between two identities, each in a few words; none where they are the same problem."""
    found = []
    for name in sorted({*before.get("code", {}), *now["code"]}):
        was, is_now = before.get("code", {}).get(name), now["code"].get(name)
        if was != is_now:
            found.append(f"{name} {'is new' if was is None else 'is gone' if is_now is None else 'has changed'}")
    parts = before.get("data", [])
    if len(parts) != len(now["data"]) or not all(map(_same_data, parts, now["data"])):
        found.append("the data have changed")
    for part in ("network", "versions", "settings"):
        was, is_now = before.get(part, {}), now.get(part, {})
        keys = [k for k in sorted({*was, *is_now}) if was.get(k) != is_now.get(k)]
        found += [f"{k} was {was.get(k)}, is {is_now.get(k)}" for k in keys]
    tolerance = TOLERANCE.get(getattr(torch, now["network"]["dtype"].removeprefix("torch."), torch.float32), 1e-3)
    where = {"start": "the initial weights", "there": "the risk there", "beside": "the risk at a random point"}
    for key, what in where.items():
        was, is_now = before.get("risk", {}).get(key, []), now["risk"][key]
        if not _close(was, is_now, tolerance):
            shown = (", ".join(f"{x:.6g}" for x in numbers) or "none" for numbers in (was, is_now))
            found.append("{} had the numbers {}, now {}".format(what, *shown))
    return found


def _close(a: list[float], b: list[float], tolerance: float) -> bool:
    """Whether two probes agree: values relative to themselves, the others relative to the norm before them."""
    if len(a) != len(b):
        return False
    scale = max(map(abs, (*a[-2:], *b[-2:])), default=0.0)
    return all(
        x == y or (math.isnan(x) and math.isnan(y)) or abs(x - y) <= tolerance * max(abs(x), abs(y), scale * (i > 0))
        for i, (x, y) in enumerate(zip(a, b, strict=True))
    )
