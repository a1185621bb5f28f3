"""How a process builds a problem for itself, in plain text."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import torch

from stability.base.cluster import Portable, remember
from stability.base.errors import BadInput
from stability.base.identity import differences
from stability.problem.identity import identity
from stability.problem.problem import Problem
from stability.tasks import TaskOptions
from stability.tasks import load as load_task


@dataclass(frozen=True)
class Recipe(Portable):
    """How a process builds a problem for itself: a task and its options, in plain text.

    ``known`` is what the sender found the problem to be (:func:`stability.problem.identity.identity`), as JSON: what
    another process builds from the same words, of another FILE.py or other data, is refused there.

    Attributes:
        task: name of a task, or FILE.py:FACTORY.
        options: :class:`TaskOptions` as JSON.
        known: the sender's problem as JSON; empty where nothing is compared.

    >>> recipe = Recipe.of("counterexample", TaskOptions())
    >>> recipe.problem().name, recipe == Recipe.of("counterexample", TaskOptions())
    ('counterexample', True)
    """

    task: str
    options: str
    known: str = ""

    @staticmethod
    def of(task: str, options: TaskOptions) -> Recipe:
        """The recipe of a named task, or of FILE.py:FACTORY, a path that every worker must see."""
        plain = dataclasses.asdict(options) | {"dtype": str(options.dtype).removeprefix("torch.")}
        name, colon, factory = task.rpartition(":")
        if colon and name.endswith(".py"):
            task = f"{Path(name).resolve()}:{factory}"
        if options.data_dir is not None:
            plain["data_dir"] = str(Path(options.data_dir).resolve())
        return Recipe(task, json.dumps(plain, sort_keys=True))

    def problem(self) -> Problem:
        """The problem, built once a process."""
        plain = json.loads(self.options)
        plain["dtype"] = getattr(torch, plain["dtype"])
        plain["data_dir"] = Path(plain["data_dir"]) if plain["data_dir"] else None
        return remember(("problem", self), lambda: self._same(load_task(self.task, TaskOptions(**plain))))

    def _same(self, built: Problem) -> Problem:
        """The problem built, once it is known to be the sender's."""
        if self.known and (changed := differences(json.loads(self.known), identity(built, self.task))):
            raise BadInput(
                f"{self.task}: a worker built another problem than this process has ({changed[0]}); put the same files "
                "at the same path everywhere and start the workers anew"
            )
        return built


Source = Recipe | Problem


def problem_of(source: Source) -> Problem:
    """The problem that a job is about."""
    return source.problem() if isinstance(source, Recipe) else source
