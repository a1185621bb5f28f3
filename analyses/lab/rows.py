"""Results kept in one JSON file as they come, so that a second call computes what is missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from stability.base.errors import BadInput
from stability.base.storage import write


class Rows:
    """Results in one JSON file, kept as they come.

    Args:
        file: where they are kept.
        options: what they depend on; a file of other options is refused.

    Raises:
        BadInput: the file belongs to other options, or is no such file.
    """

    def __init__(self, file: Path, options: dict[str, object]) -> None:
        self.file, self.options = file, json.loads(json.dumps(options))
        self.rows: list[dict] = []
        self.extra: dict[str, object] = {}
        if file.is_file():
            try:
                stored = json.loads(file.read_text())
                kept, rows = stored["options"], list(stored["rows"])
            except (ValueError, KeyError, TypeError) as error:
                raise BadInput(f"--out: {str(file)!r} is no result of this analysis; use another folder") from error
            if kept != self.options:
                raise BadInput(f"--out: {str(file)!r} belongs to other options; use another folder, or remove it")
            self.rows = rows

    def has(self, **key: object) -> bool:
        """Whether a row with these entries is there."""
        return any(all(r.get(k) == v for k, v in key.items()) for r in self.rows)

    def pick(self, **key: object) -> list[dict]:
        """Rows with these entries."""
        return [r for r in self.rows if all(r.get(k) == v for k, v in key.items())]

    def add(self, row: dict) -> None:
        """Keep one more row, on disk at once."""
        self.rows.append(json.loads(json.dumps(row)))
        self.save()

    def save(self, **extra: object) -> None:
        """Write everything, ``extra`` beside the rows."""
        self.extra |= extra
        write(self.file, dumps({"options": self.options, **self.extra, "rows": self.rows}))


def dumps(data: object) -> str:
    """Strict JSON, one entry a line; short lists of numbers stay on one line."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def short(values: Sequence[float]) -> list[float]:
    """Eight digits, which is more than a curve shows."""
    return [float(f"{v:.8g}") for v in values]
