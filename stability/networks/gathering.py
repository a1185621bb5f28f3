"""Data in the forms that people have it in, as one tensor of inputs, one of targets and weights of sum one.

A pair (inputs, targets) or triple (inputs, targets, weights) of tensors or arrays, a data loader, a dataset, a list of
samples or of batches, or :class:`Samples`; inputs and targets may be dicts or tuples of tensors, and a batch may be one
dict that holds both. Floating-point data are converted to the precision of the computation, integers stay what they
are as far as the module takes them; what cannot be converted exactly is refused.

>>> import torch
>>> gather([([1.0, 2.0], 0), ([3.0, 4.0], 1)], torch.float64).x.tolist()
[[1.0, 2.0], [3.0, 4.0]]
>>> found = collect([{"ids": torch.tensor([[1, 2]]), "labels": torch.tensor([0])}])
>>> found.x.tolist(), found.y.tolist(), found.inputs.parts[0].name
([[1.0, 2.0]], [0], 'ids')
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from stability.base import doors
from stability.base.errors import BadInput
from stability.networks.structures import TARGETS, Layout, children, laid_out
from stability.problem.space import Samples

Data = Iterable | Samples | tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]
BATCH = 256
FORMS = "give a pair (inputs, targets) of tensors, a data loader, a dataset or stability.Samples"


class Collected(NamedTuple):
    """Data as they are given.

    Attributes:
        x: inputs, (n, …).
        y: targets, (n, …).
        weight: (n), if there are any.
        inputs: which columns of x are which tensor, where inputs are several.
        targets: the same of y.
    """

    x: Tensor
    y: Tensor
    weight: Tensor | None
    inputs: Layout | None = None
    targets: Layout | None = None


def collect(data: Data, limit: int | None = None, whole: bool = False) -> Collected:
    """Inputs (n, …), targets (n, …) and weights (n) if there are any, as they are given.

    Args:
        data: in any form.
        limit: how many samples to take at most.
        whole: of batches that are dicts, whether the targets are the whole batch, not its labels alone.

    Raises:
        BadInput: no samples, or something that does not come in pairs.
    """
    limit = None if limit is None else doors.whole("samples", limit, 1)
    weight = None
    if isinstance(data, Samples) or _are_arrays(data):
        parts = tuple(data)  # the length of Samples is their number
        x, y, weight = parts if len(parts) == 3 else (*parts, None)
        weight = None if weight is None else doors.dense("data: weights", weight)
    elif _is_pair(data):
        x, y = _halves(data, whole)
    else:
        x, y = _batches(data, limit, whole)
    x, inputs = _packed("data: inputs", x)
    y, targets = _packed("data: targets", y)
    for what, values in (("inputs", x), ("targets", y)):
        if values.ndim == 0:
            raise BadInput(f"data: {what} are one number; give one for each sample, along the first axis")
    if not len(x) or len(x) != len(y):
        raise BadInput(f"data: {len(x)} inputs and {len(y)} targets; give one target for each of at least one input")
    if weight is not None and weight.shape != (len(x),):
        raise BadInput(f"data: weights have shape {tuple(weight.shape)}; give one for each of {len(x)} samples")
    return Collected(x[:limit], y[:limit], None if weight is None else weight[:limit], inputs, targets)


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
    """All samples, in the precision of the computation; see :func:`collect` and :func:`precise`.

    Raises:
        BadInput: also for inputs or targets that are several tensors.
    """
    found = collect(data, limit)
    for what, layout in (("inputs", found.inputs), ("targets", found.targets)):
        if layout is not None:
            raise BadInput(f"data: {what} are {_listed(layout)}; give one tensor, joined by torch.cat")
    return precise(found.x, found.y, found.weight, dtype)


def _listed(layout: Layout) -> str:
    return f"a {layout.kind} of {', '.join(part.name for part in layout.parts[:6])}"


def _are_arrays(data: object) -> bool:
    """Whether this is a pair or triple of whole arrays."""
    if not isinstance(data, tuple | list) or len(data) not in (2, 3):
        return False
    return all(isinstance(part, Tensor | np.ndarray) for part in data)


def _is_pair(data: object) -> bool:
    """Whether this is a pair of which a side is several whole arrays, or one dict of whole arrays."""
    if isinstance(data, Mapping):
        return _is_batch(data)
    if not isinstance(data, tuple) or len(data) != 2 or not any(_is_batch(part) for part in data):
        return False
    return all(isinstance(part, Tensor | np.ndarray) or _is_batch(part) for part in data)


def _is_batch(value: object) -> bool:
    """Whether this is a dict or tuple of arrays, nested or not."""
    inside = children(value)
    if not inside or isinstance(value, list | Tensor | np.ndarray):
        return False
    return all(isinstance(v, Tensor | np.ndarray) or _is_batch(v) for _, v in inside)


def _packed(what: str, value: Any) -> tuple[Tensor, Layout | None]:
    """One tensor as it is; several as one of columns, with their layout."""
    if _is_batch(value):
        layout, packed = laid_out(what, value)
        return packed, layout
    return _tensor(what, value), None


def _tensor(what: str, value: Any) -> Tensor:
    if isinstance(value, Mapping) or (isinstance(value, tuple | list) and any(isinstance(v, Tensor) for v in value)):
        raise BadInput(f"{what} are {_several(value)}; give tensors with one row a sample")
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


def _halves(batch: Any, whole: bool) -> tuple[Any, Any]:
    """Inputs and targets of a batch: a pair, a longer tuple whose last part is the target, or a dict with labels.

    Raises:
        BadInput: a batch without targets.
    """
    if isinstance(batch, Mapping):
        known = [key for key in batch if str(key) in TARGETS]
        if len(known) != 1:
            raise BadInput(
                f"data: a batch has {', '.join(map(str, list(batch)[:6]))}, of which {len(known)} are targets (by the "
                f"names {', '.join(TARGETS)}); name one so, or give pairs (inputs, targets)"
            )
        inputs = {k: v for k, v in batch.items() if k != known[0]}
        if not inputs:
            raise BadInput(f"data: a batch holds {known[0]} alone; give inputs beside it")
        return inputs, dict(batch) if whole else batch[known[0]]
    if isinstance(batch, tuple | list) and len(batch) > 2:
        return tuple(batch[:-1]), batch[-1]
    if isinstance(batch, tuple | list) and len(batch) == 1:
        raise BadInput("data: each batch holds inputs alone; give pairs (inputs, targets), of an autoencoder (x, x)")
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise BadInput(
            f"data: each batch must be a pair (inputs, targets), not {_kind(batch)}; wrap the loader so that it is"
        )
    return batch[0], batch[1]


def _batches(data: Any, limit: int | None, whole: bool) -> tuple[Any, Any]:
    """Inputs and targets of a loader, a dataset or a list, one below the other."""
    single = False
    if isinstance(data, str | bytes | Mapping | Tensor | np.ndarray) or not _iterates(data):
        alone = ", of an autoencoder (x, x)" if isinstance(data, Tensor | np.ndarray) else ""
        raise BadInput(f"data: {doors.shown(data)}; {FORMS}{alone}")
    if isinstance(data, DataLoader):
        _keeps_all(data)
        single = data.batch_sampler is None
    elif hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, list | tuple):
        data = DataLoader(data, batch_size=BATCH)
    chosen = None if isinstance(data, DataLoader) else "list"
    xs, ys, count = [], [], 0
    for batch in _told(data):
        x, y = (_leaf(w, v) for w, v in zip(("inputs", "targets"), _halves(batch, whole), strict=True))
        if chosen == "list":  # the first item tells whether these are samples or batches
            single, chosen = _first(x).ndim < 2 or _first(y).ndim == 0, None
        xs.append(_mapped(lambda t: t.unsqueeze(0), x) if single else x)
        ys.append(_mapped(lambda t: t.unsqueeze(0), y) if single else y)
        rows = [_first(xs[-1]), _first(ys[-1])]
        if not single and (rows[0].ndim == 0 or rows[1].ndim == 0 or len(rows[0]) != len(rows[1])):
            raise BadInput(
                f"data: a batch has inputs of shape {tuple(rows[0].shape)} and targets of shape "
                f"{tuple(rows[1].shape)}; give one target for each input"
            )
        count += len(rows[0])
        if limit is not None and count >= limit:
            break
    if not xs:
        raise BadInput("data: the loader gives no batch; give at least one sample")
    return _joined("inputs", xs), _joined("targets", ys)


def _leaf(what: str, value: Any) -> Any:
    """A side of a batch with every array as a tensor."""
    if isinstance(value, list) and value and all(isinstance(v, Tensor) for v in value):
        value = tuple(value)  # collation makes lists of tuples
    if _is_batch(value):
        return _mapped(lambda v: doors.dense(f"data: {what}", v), value)
    return _tensor(f"data: {what}", value)


def _mapped(change: Any, tree: Any) -> Any:
    """The same tree of dicts and tuples with every leaf changed."""
    inside = children(tree)
    if inside is None:
        return change(tree)
    made = {key: _mapped(change, value) for key, value in inside}
    return made if isinstance(tree, Mapping) or not isinstance(tree, tuple | list) else tuple(made.values())


def _first(tree: Any) -> Tensor:
    inside = children(tree)
    return tree if inside is None else _first(inside[0][1])


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


def _joined(what: str, parts: Sequence[Any]) -> Any:
    """Batches one below the other, part by part."""
    inside = [children(part) for part in parts]
    if inside[0] is not None:
        if any(one is None or [k for k, _ in one] != [k for k, _ in inside[0]] for one in inside):
            raise BadInput(f"data: {what} of batches have different parts; give all the same")
        columns = {key: _joined(f"{what}.{key}", [dict(one or ())[key] for one in inside]) for key, _ in inside[0]}
        return columns if isinstance(parts[0], Mapping) else tuple(columns.values())
    if len({part.shape[1:] for part in parts}) > 1:
        shapes = sorted({tuple(part.shape[1:]) for part in parts})
        raise BadInput(
            f"data: {what} of samples have shapes {', '.join(map(str, shapes[:4]))}; give all the same, padded"
        )
    if len({part.dtype for part in parts}) > 1:  # cat would promote int64 beside float32 to float32
        parts = [doors.exact(f"data: {what}", part, torch.float64) for part in parts]
    return torch.cat(list(parts))
