"""The paper's tasks and the counterexamples: data + network + group, each one page."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from stability.base.errors import BadInput
from stability.problem.problem import Problem
from stability.tasks.counterexample import TARGETS, counterexample
from stability.tasks.options import TaskOptions
from stability.tasks.perm import perm
from stability.tasks.rot import rot
from stability.tasks.trans import trans

TASKS: dict[str, Callable[[TaskOptions], Problem]] = {
    "trans": trans,
    "perm": perm,
    "rot": rot,
    **{name: partial(counterexample, name) for name in TARGETS},
}


def load(task: str, options: TaskOptions) -> Problem:
    """The problem a name stands for, or that FILE.py:FACTORY returns.

    Raises:
        BadInput: an unknown name, a missing file or factory, or a factory that returns no Problem.
    """
    if task in TASKS:
        return TASKS[task](options)
    path, colon, factory = task.rpartition(":")
    if not task.endswith(".py") and not (colon and path.endswith(".py")):
        raise BadInput(f"--task {task!r} is unknown; choose from {', '.join(TASKS)}, or give FILE.py:FACTORY")
    problem = made(task, "--task", "a stability.Problem")
    if not isinstance(problem, Problem):
        raise BadInput(f"--task: {factory}() returned {type(problem).__name__}, not a stability.Problem")
    return problem


def made(place: str, what: str, returns: str) -> object:
    """What the FACTORY of FILE.py:FACTORY returns.

    Args:
        place: FILE.py:FACTORY.
        what: the argument, for messages.
        returns: what FACTORY should return, for messages.

    Raises:
        BadInput: no such file or factory, or one that fails.
    """
    path, colon, factory = place.rpartition(":")
    if not colon or not path.endswith(".py"):
        file = place if place.endswith(".py") else "FILE.py"
        raise BadInput(f"{what} {place!r} names no factory; give {file}:FACTORY, FACTORY returning {returns}")
    if not Path(path).is_file():
        raise BadInput(f"{what}: there is no file {path!r}; check the path before the colon")
    spec = importlib.util.spec_from_file_location("stability_user_task", path)
    if spec is None or spec.loader is None:
        raise BadInput(f"{what}: {path!r} cannot be loaded as a module; give a file of Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(f"{what}: {path} fails on import with {type(error).__name__}: {error}; mend the file") from error
    make = getattr(module, factory, None)
    if not callable(make):
        raise BadInput(f"{what}: {path} defines no function {factory!r}; it must return {returns}")
    try:
        return make()
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(f"{what}: {factory}() fails with {type(error).__name__}: {error}; mend the factory") from error


__all__ = ["TASKS", "TaskOptions", "load", "made"]
