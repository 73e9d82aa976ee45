"""Time that stands still until somebody lets it pass, in the modules that would look at a clock."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from unittest import mock

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


@contextlib.contextmanager
def in_place(clock: Clock) -> Iterator[None]:
    """Let the modules look at this clock, and the disk be: its power does not fail here."""
    with contextlib.ExitStack() as stack:
        for module in _PATIENT:
            stack.enter_context(mock.patch.object(module, "time", clock))
        stack.enter_context(mock.patch.object(os, "fsync", lambda _: None))
        yield
