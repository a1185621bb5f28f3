"""Data in the forms that people have it in, as one tensor of inputs, one of targets and weights of sum one.

A pair (inputs, targets) or triple (inputs, targets, weights) of tensors or arrays, a data loader, a dataset, a list of
samples or of batches, or :class:`Samples`. Floating-point data are converted to the precision of the computation,
integers stay what they are as far as the module takes them; what cannot be converted exactly is refused.

>>> import torch
>>> gather([([1.0, 2.0], 0), ([3.0, 4.0], 1)], torch.float64).x.tolist()
[[1.0, 2.0], [3.0, 4.0]]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from stability.base import doors
from stability.base.errors import BadInput
from stability.problem.space import Samples

Data = Iterable | Samples | tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]
BATCH = 256
FORMS = "give a pair (inputs, targets) of tensors, a data loader, a dataset or stability.Samples"


def collect(data: Data, limit: int | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Inputs (n, …), targets (n, …) and weights (n) if there are any, as they are given.

    Raises:
        BadInput: no samples, or something that does not come in pairs.
    """
    limit = None if limit is None else doors.whole("samples", limit, 1)
    if isinstance(data, Samples) or _are_arrays(data):
        parts = tuple(data)  # the length of Samples is their number
        x, y, weight = parts if len(parts) == 3 else (*parts, None)
        x, y = _tensor("data: inputs", x), _tensor("data: targets", y)
        weight = None if weight is None else _tensor("data: weights", weight)
    else:
        x, y = _batches(data, limit)
        weight = None
    for what, values in (("inputs", x), ("targets", y)):
        if values.ndim == 0:
            raise BadInput(f"data: {what} are one number; give one for each sample, along the first axis")
    if not len(x) or len(x) != len(y):
        raise BadInput(f"data: {len(x)} inputs and {len(y)} targets; give one target for each of at least one input")
    if weight is not None and weight.shape != (len(x),):
        raise BadInput(f"data: weights have shape {tuple(weight.shape)}; give one for each of {len(x)} samples")
    return x[:limit], y[:limit], None if weight is None else weight[:limit]


def precise(x: Tensor, y: Tensor, weight: Tensor | None, dtype: torch.dtype) -> Samples:
    """The same data in the precision of a computation, weights normalised; integer targets as int64.

    Raises:
        BadInput: NaN or infinity, complex numbers, integers that are not exact there, or weights that are no weights.
    """
    for what, values in (("input", x), ("target", y)):
        bad = int((~torch.isfinite(values)).sum())
        if bad:
            raise BadInput(f"data: {bad} {what} values are not finite; clean the data")
    x = doors.exact("data: inputs", x, dtype)
    if y.is_floating_point() or y.is_complex():
        y = doors.exact("data: targets", y, dtype)
    elif y.dtype != torch.bool:
        y = y.long()
    if weight is None:
        return Samples(x, y, x.new_full((len(x),), 1 / len(x)))
    weight = doors.finite("data: the weights", doors.exact("data: weights", weight, dtype), "give weights ≥ 0")
    if float(weight.min()) < 0 or not float(weight.sum()) > 0:
        raise BadInput(
            f"data: weights from {float(weight.min()):.3g}, of sum {float(weight.sum()):.3g}; give weights ≥ 0"
        )
    return Samples(x, y, weight / weight.sum())


def gather(data: Data, dtype: torch.dtype, limit: int | None = None) -> Samples:
    """All samples, in the precision of the computation; see :func:`collect` and :func:`precise`."""
    return precise(*collect(data, limit), dtype)


def _are_arrays(data: object) -> bool:
    """Whether this is a pair or triple of whole arrays."""
    if not isinstance(data, tuple | list) or len(data) not in (2, 3):
        return False
    return all(isinstance(part, Tensor | np.ndarray) for part in data)


def _tensor(what: str, value: Any) -> Tensor:
    if isinstance(value, Mapping) or (isinstance(value, tuple | list) and any(isinstance(v, Tensor) for v in value)):
        raise BadInput(f"{what} are {_several(value)}; give one tensor, and wrap the module so that it takes it apart")
    if not isinstance(value, Tensor):
        try:
            value = np.asarray(value)  # Python's numbers stay float64, which torch.as_tensor would round to float32
        except (ValueError, TypeError) as error:
            raise BadInput(f"{what} cannot be made one array ({doors.reason(error, 120)}); {FORMS}") from error
    return doors.dense(what, value)


def _several(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} of {', '.join(map(str, list(value)[:6]))}"
    return f"a {type(value).__name__} of {len(value)} tensors"


def _batches(data: Any, limit: int | None) -> tuple[Tensor, Tensor]:
    """Inputs and targets of a loader, a dataset or a list, one below the other."""
    single = False
    if isinstance(data, str | bytes | Mapping | Tensor | np.ndarray) or not _iterates(data):
        raise BadInput(f"data: {doors.shown(data)}; {FORMS}")
    if isinstance(data, DataLoader):
        _keeps_all(data)
        single = data.batch_sampler is None
    elif hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, list | tuple):
        data = DataLoader(data, batch_size=BATCH)
    chosen = None if isinstance(data, DataLoader) else "list"
    xs, ys, count = [], [], 0
    for batch in _told(data):
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise BadInput(
                f"data: each batch must be a pair (inputs, targets), not {_kind(batch)}; wrap the loader so that it is"
            )
        x, y = _tensor("data: inputs", batch[0]), _tensor("data: targets", batch[1])
        if chosen == "list":  # the first item tells whether these are samples or batches
            single, chosen = x.ndim < 2 or y.ndim == 0, None
        xs.append(x.unsqueeze(0) if single else x)
        ys.append(y.unsqueeze(0) if single else y)
        if not single and (x.ndim == 0 or y.ndim == 0 or len(x) != len(y)):
            raise BadInput(
                f"data: a batch has inputs of shape {tuple(x.shape)} and targets of shape {tuple(y.shape)}; give one "
                "target for each input"
            )
        count += len(xs[-1])
        if limit is not None and count >= limit:
            break
    if not xs:
        raise BadInput("data: the loader gives no batch; give at least one sample")
    return _joined("inputs", xs), _joined("targets", ys)


def _kind(batch: Any) -> str:
    return _several(batch) if isinstance(batch, Mapping | tuple | list) else doors.shown(batch)


def _iterates(data: Any) -> bool:
    return hasattr(data, "__iter__") or (hasattr(data, "__getitem__") and hasattr(data, "__len__"))


def _told(data: Iterable) -> Iterable:
    """The batches, with what a user's dataset or collation raises told in one line."""
    try:
        yield from data
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(
            f"data: the loader or dataset fails with {type(error).__name__} ({doors.reason(error, 160)}); {FORMS}"
        ) from error


def _keeps_all(loader: DataLoader) -> None:
    """Refuse a loader that leaves samples out: the risk is that of the whole training set."""
    data, size = loader.dataset, loader.batch_size
    try:
        samples = len(data) if isinstance(data, Sized) else 0
    except TypeError:  # a stream
        return
    if loader.drop_last and size and samples % size:
        raise BadInput(
            f"data: the loader drops {samples % size} of {samples} samples (drop_last=True), and the risk is that of "
            "all; give drop_last=False, or the dataset"
        )


def _joined(what: str, parts: Sequence[Tensor]) -> Tensor:
    if len({part.shape[1:] for part in parts}) > 1:
        shapes = sorted({tuple(part.shape[1:]) for part in parts})
        raise BadInput(f"data: {what} of samples have shapes {', '.join(map(str, shapes[:4]))}; give all the same")
    if len({part.dtype for part in parts}) > 1:  # cat would promote int64 beside float32 to float32
        parts = [doors.exact(f"data: {what}", part, torch.float64) for part in parts]
    return torch.cat(list(parts))
