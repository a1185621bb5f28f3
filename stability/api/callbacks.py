r"""A monitor as a callback: of Lightning's Trainer and of Hugging Face's.

    Trainer(callbacks=[stability.api.callbacks.lightning(monitor)])
    Trainer(…, callbacks=[stability.api.callbacks.transformers(monitor)])

Either reads the optimiser off the trainer, so the monitor is made without one. A trained module that wraps the network
of the problem is unwrapped by ``Monitor(problem, network=lambda module: module.network)``.

The libraries are imported when a callback is asked for: they load for seconds, and neither is needed otherwise.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from torch import nn

from stability.api.monitor import Monitor
from stability.base import doors
from stability.base.errors import BadInput


def lightning(monitor: Monitor) -> Any:
    """A ``lightning.pytorch.Callback`` that looks after every batch; numbers go to the trainer's loggers too.

    Raises:
        BadInput: Lightning is not installed, or several optimisers take turns.
    """
    doors.kind("monitor", monitor, Monitor, "give stability.Monitor(problem)")
    library = _library("lightning.pytorch")

    class Watch(library.Callback):  # type: ignore[name-defined]
        """Looks after every batch."""

        def on_train_start(self, trainer: Any, pl_module: nn.Module) -> None:
            """Read the optimiser and the loggers off the trainer."""
            if len(trainer.optimizers) != 1:
                raise BadInput(f"monitor: {len(trainer.optimizers)} optimisers; give a module with one")
            monitor.optimiser = trainer.optimizers[0]
            for logger in trainer.loggers:
                monitor.add_log(logger)

        def on_train_batch_end(self, trainer: Any, pl_module: nn.Module, *_: Any) -> None:
            """After the optimiser's step, its gradient still there; batches of one accumulated step count once."""
            if trainer.global_step > monitor.step:
                monitor(pl_module, trainer.global_step)

    return Watch()


def transformers(monitor: Monitor) -> Any:
    """A ``transformers.TrainerCallback`` that looks after every step of the optimiser.

    Raises:
        BadInput: transformers is not installed.
    """
    doors.kind("monitor", monitor, Monitor, "give stability.Monitor(problem)")
    library = _library("transformers")

    class Watch(library.TrainerCallback):  # type: ignore[name-defined]
        """Looks after every step."""

        def on_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            """Before the gradient is cleared; ``global_step`` is raised after it."""
            optimiser = given["optimizer"]
            monitor.optimiser = getattr(optimiser, "optimizer", optimiser)  # accelerate wraps it
            monitor(given["model"], state.global_step + 1)

    return Watch()


def _library(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise BadInput(
            f"callback: {package} is not installed; pip install 'equivariant-stability[{package}]'"
        ) from error
