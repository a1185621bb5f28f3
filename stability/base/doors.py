"""What a public function takes, looked at once at its door: a value is used as it is, converted exactly, or refused.

Every refusal is one line: what is wrong, what was given, what would do. Nothing is cast, truncated, wrapped or filled
in without being said.

>>> whole("points", 3, 1)
3
>>> number("weight_decay", True)
Traceback (most recent call last):
stability.base.errors.BadInput: weight_decay: a bool, True; give a number ≥ 0
"""

from __future__ import annotations

import math
import numbers
import types
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stability.base.errors import BadInput

# Larger counts are a slip, not a wish: none of the loops they bound would end.
MOST = 10**9
WIDE = {torch.float32: torch.complex64, torch.float64: torch.complex128}
# Integers beyond are no longer exact in float64.
EXACT = 2**53


def shown(value: Any) -> str:
    """A value on one line, cut where it is long."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}, {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}, {value.dtype}"
    if value is None:
        return "None"
    text = " ".join(repr(value).split())
    kind = type(value).__name__
    return f"{'an' if kind[:1] in 'aeiou' else 'a'} {kind}, {text if len(text) <= 60 else text[:57] + '…'}"


def reason(error: BaseException, most: int = 240) -> str:
    """What torch or a user's code says, on one line; of a long message its end, where the useful part is, is kept."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= most else f"{text[: most // 2 - 2]} … {text[-most // 2 + 1 :]}"


def whole(what: str, value: Any, least: int, most: int = MOST) -> int:
    """An integer between bounds; numpy's are integers too, a bool or 3.0 is none.

    Raises:
        BadInput: anything else.
    """
    bound = f"give a whole number ≥ {least}" if most >= MOST else f"give a whole number from {least} to {most}"
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise BadInput(f"{what}: {shown(value)}; {bound}")
    if not least <= (n := int(value)) <= most:
        raise BadInput(f"{what}: {shown(n)}; {bound if n < least or most < MOST else f'at most {most:,}'}")
    return n


def number(what: str, value: Any, least: float = 0.0, above: bool = False) -> float:
    """A finite real number ≥ ``least`` (or > it).

    Raises:
        BadInput: anything else, a bool, a tensor or NaN among them.
    """
    bound = f"give a number {'>' if above else '≥'} {least:g}" if math.isfinite(least) else "give a finite number"
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise BadInput(f"{what}: {shown(value)}; {bound}")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found) or found < least or (above and found == least):
        raise BadInput(f"{what}: {shown(value)}; {bound}{'' if math.isfinite(found) else ' that is finite'}")
    return found


def seed(value: Any) -> int:
    """A seed that torch and numpy both take."""
    return whole("seed", value, 0, 2**63 - 1)


def flag(what: str, value: Any) -> bool:
    """True or False.

    Raises:
        BadInput: anything else, 0 and "no" among them.
    """
    if not isinstance(value, bool | np.bool_):
        raise BadInput(f"{what}: {shown(value)}; give True or False")
    return bool(value)


def text(what: str, value: Any, mend: str = "give a text") -> str:
    """A text on one line that has something in it.

    Raises:
        BadInput: anything else.
    """
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise BadInput(f"{what}: {shown(value)}; {mend}")
    return value


def irreps(what: str, value: Any) -> str:
    """ "all", "none", or names of irreps separated by commas; which of them there are is looked up later.

    Raises:
        BadInput: no text, or no name in it.
    """
    mend = "give all, none or names of irreps"
    if not text(what, value, mend).strip(" ,;"):
        raise BadInput(f"{what}: {shown(value)}; {mend}")
    return value


def choice(what: str, value: Any, known: Sequence[str]) -> str:
    """One of the names that are known.

    Raises:
        BadInput: any other value.
    """
    if not isinstance(value, str) or value not in known:
        said = repr(value) if isinstance(value, str) else shown(value)
        raise BadInput(f"{what} {said} is unknown; choose from {', '.join(known)}")
    return value


def kind(what: str, value: Any, wanted: type | types.UnionType | tuple[type, ...], mend: str) -> Any:
    """A value of the type asked for.

    Raises:
        BadInput: of another; ``mend`` says what to give.
    """
    if not isinstance(value, wanted):
        raise BadInput(f"{what}: {shown(value)}; {mend}")
    return value


def call(what: str, value: Any, mend: str) -> Any:
    """Something that can be called, and no class.

    Raises:
        BadInput: anything else.
    """
    if not callable(value) or isinstance(value, type):
        hint = f"the class {value.__name__}, not one made from it" if isinstance(value, type) else shown(value)
        raise BadInput(f"{what}: {hint}; {mend}")
    return value


def facts(value: Any) -> tuple[tuple[str, str], ...]:
    """Lines of a report's first screen.

    Raises:
        BadInput: no pairs of texts.
    """
    if not isinstance(value, list | tuple) or not all(map(_is_pair_of_texts, value)):
        raise BadInput(f"facts: {shown(value)}; give pairs of texts, as in [('data', 'digits')]")
    return tuple((a, b) for a, b in value)


def _is_pair_of_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(t, str) for t in value)


def computing(dtype: Any) -> torch.dtype:
    """The precision of a computation.

    Raises:
        BadInput: neither float64 nor float32.
    """
    if dtype not in WIDE:
        raise BadInput(f"dtype: {dtype}; give torch.float64, which decides signs, or torch.float32")
    return dtype


def floating(dtype: torch.dtype) -> torch.dtype:
    """The precision that values of a type are computed in: their own, float64 for what is narrower or no float."""
    return dtype if dtype in WIDE else torch.float64


# -- tensors -----------------------------------------------------------------------------------------------------------


def dense(what: str, value: Any) -> Tensor:
    """A tensor of numbers that are there: strided, on the CPU or a GPU, detached; numpy arrays are copied into one.

    Raises:
        BadInput: sparse, quantised, nested and meta tensors, arrays of objects or texts, anything else.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = _from_numpy(what, np.asarray(value))
    if not isinstance(value, Tensor):
        raise BadInput(f"{what}: {shown(value)}; give a tensor")
    if value.is_meta:
        raise BadInput(f"{what} is on the meta device and has no values; load the weights first")
    if value.is_quantized:
        raise BadInput(f"{what} is quantised ({value.dtype}), so it has no derivative; give it by .dequantize()")
    if value.layout != torch.strided or value.is_nested:
        name = "nested" if value.is_nested else str(value.layout).removeprefix("torch.")
        raise BadInput(f"{what} is {name}, not a dense tensor; give it by .to_dense() or padded")
    return value.detach().resolve_conj().resolve_neg()


def _from_numpy(what: str, value: np.ndarray) -> Tensor:
    if value.dtype.kind not in "biufc":
        raise BadInput(f"{what}: {shown(value)}; give numbers")
    if value.dtype.kind == "u" and value.dtype.itemsize > 1:
        if value.size and int(value.max()) >= 2**63:
            raise BadInput(f"{what}: {shown(value)}, up to {int(value.max())}; give integers below 2^63")
        value = value.astype(np.int64)
    if value.dtype.kind == "f" and value.dtype.itemsize > 8 or value.dtype.kind == "c" and value.dtype.itemsize > 16:
        raise BadInput(f"{what}: {shown(value)}, wider than float64; give it by .astype(float)")
    # A copy: torch takes neither negative strides nor another byte order, and must not share memory with the caller.
    return torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="), order="C", copy=True))


def exact(what: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    """Real numbers or integers in another precision, integers only where nothing is lost.

    Raises:
        BadInput: complex numbers, or integers too large.
    """
    if value.is_complex() and not dtype.is_complex:
        raise BadInput(f"{what} is complex ({value.dtype}); give real and imaginary parts by torch.view_as_real")
    found = value.to(dtype)
    if not value.is_floating_point() and not value.is_complex() and not torch.equal(found.to(value.dtype), value):
        raise BadInput(
            f"{what} has integers up to {int(value.abs().max())}, which {dtype} does not hold exactly; give numbers "
            "below 2^53 in float64"
        )
    return found


def finite(what: str, value: Tensor, mend: str) -> Tensor:
    """The same tensor.

    Raises:
        BadInput: NaN or infinity in it.
    """
    bad = int((~torch.isfinite(value)).sum())
    if bad:
        raise BadInput(f"{what} holds {bad} values that are not finite; {mend}")
    return value
