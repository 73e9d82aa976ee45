"""Time that stands still until somebody lets it pass, in the modules that would look at a clock."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import model.outcome
import workflow.batch.executor
import workflow.chained
import workflow.journal

_PATIENT = (workflow.batch.executor, workflow.chained, workflow.journal)


class Clock:
    """Stands in for the module `time`.

    Attributes:
        now: Seconds since the beginning of the history.
        skew: How wrong the wall clock of the host is that is at work.
    """

    def __init__(self, passing: Callable[[float], None]) -> None:
        self.now, self.skew, self._passing = 0.0, 0.0, passing

    def time(self) -> float:
        return 1.8e9 + self.now + self.skew

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self._passing(seconds)


class _Unindented:
    """Stands in for the module `json` where files are written: nobody reads these, and indenting is slow."""

    loads = staticmethod(json.loads)

    @staticmethod
    def dumps(value: Any, *, indent: int, **options: Any) -> str:
        return json.dumps(value, **options)


def _read_bytes(path: Path) -> bytes:
    """Read a file of some kilobytes without the layers that a large one is worth."""
    handle = os.open(path, os.O_RDONLY)
    try:
        return os.read(handle, os.fstat(handle).st_size)
    finally:
        os.close(handle)


@contextlib.contextmanager
def in_place(clock: Clock) -> Iterator[None]:
    """Let the modules look at this clock, and the disk be: its power does not fail here."""
    with contextlib.ExitStack() as stack:
        for module in _PATIENT:
            stack.enter_context(mock.patch.object(module, "time", clock))
        stack.enter_context(mock.patch.object(os, "fsync", lambda _: None))
        stack.enter_context(mock.patch.object(model.outcome, "sync", lambda _: None))
        stack.enter_context(mock.patch.object(model.outcome, "json", _Unindented))
        stack.enter_context(mock.patch.object(Path, "read_bytes", _read_bytes))
        yield
