"""The `progress.json` of a task: whole or not at all, every few seconds, by rank 0."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from model.outcome import write_json
from model.owner import may_commit
from model.specs import Owner

PROGRESS_FILE = "progress.json"


class Progress:
    """Publish how far a task has come; a count that grows shows that it moves.

    Args:
        folder: Task folder.
        writes: Whether this rank writes (rank 0 does).
        every_s: Least time between two writes.
        owner: Who may end this task.
    """

    def __init__(self, folder: Path, *, writes: bool, every_s: float, owner: Owner | None = None) -> None:
        self._path = folder / PROGRESS_FILE
        self._writes = writes
        self._every_s = every_s
        self._owner = owner
        self._next = 0.0
        self._count = 0

    def update(self, phase: str, done: float, total: float, unit: str, **facts: Any) -> None:
        """Publish the position; does nothing when the last write is younger than `every_s`."""
        now = time.monotonic()
        if not self._writes or now < self._next or not may_commit(self._owner):
            return
        self._next = now + self._every_s
        self._count += 1
        write_json(self._path, {"count": self._count, "phase": phase, "done": done, "total": total, "unit": unit, **facts})

    def at_once(self) -> None:
        """Let the next update through, however young the last write is: a phase begins."""
        self._next = 0.0

    def begin(self, phase: str, total: float, unit: str, **facts: Any) -> None:
        """Publish the start of a phase at once."""
        self.at_once()
        self.update(phase, 0, total, unit, **facts)
