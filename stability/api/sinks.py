r"""Where a monitor's numbers go: TensorBoard, Weights & Biases, MLflow, Lightning's loggers, or a function.

A sink is the object that a user has already, called through its own interface; none of the libraries is imported.

    torch.utils.tensorboard.SummaryWriter    add_scalar(name, value, step)
    wandb.Run                                log({name: value}, step=step)
    mlflow, or a Lightning logger            log_metrics({name: value}, step=step)
    a function                               f({name: value}, step)

>>> seen = []
>>> sink(lambda metrics, step: seen.append((step, metrics)))({"share": 0.5}, 3)
>>> seen
[(3, {'stability/share': 0.5})]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from stability.base import doors
from stability.base.errors import BadInput

Sink = Callable[[Mapping[str, float], int], None]
# Names that every one of these libraries takes.
STRANGE = re.compile(r"[^\w./ -]", re.ASCII)


def sink(target: Any) -> Sink:
    """The way that numbers get into ``target``.

    Raises:
        BadInput: an object that takes no numbers.
    """
    if callable(getattr(target, "log_metrics", None)):
        return lambda metrics, step: target.log_metrics(named(metrics), step=step)
    if callable(getattr(target, "add_scalar", None)):
        return lambda metrics, step: _each(target.add_scalar, named(metrics), step)
    if callable(getattr(target, "log", None)):
        return lambda metrics, step: target.log(named(metrics), step=step)
    if callable(target):
        return lambda metrics, step: target(named(metrics), step)
    raise BadInput(
        f"log: {doors.shown(target)}; give a SummaryWriter, a wandb run, the module mlflow, a Lightning logger or a "
        "function of (metrics, step)"
    )


def named(metrics: Mapping[str, float]) -> dict[str, float]:
    """The same below "stability/", characters that a library may refuse replaced.

    >>> named({"sector/q=1": 2.0})
    {'stability/sector/q_1': 2.0}
    """
    return {f"stability/{STRANGE.sub('_', name)}": value for name, value in metrics.items()}


def _each(add: Callable[[str, float, int], None], metrics: Mapping[str, float], step: int) -> None:
    for name, value in metrics.items():
        add(name, value, step)
