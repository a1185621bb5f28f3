"""What a terminal shows while something runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tqdm import tqdm


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """A line on stderr while a stage runs, where stderr is a terminal."""
    with tqdm(total=1, desc=name, disable=None, leave=False, bar_format="{desc} … {elapsed}") as bar:
        yield
        bar.update(1)
