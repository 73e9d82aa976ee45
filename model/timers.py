"""Where the time of a task goes: seconds by phase."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Timers:
    """Add up wall time by name; phases do not nest."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._calls: dict[str, int] = {}
        self._longest: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Count the time of a block to a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[phase] = self.seconds.get(phase, 0.0) + spent
            self._calls[phase] = self._calls.get(phase, 0) + 1
            self._longest[phase] = max(self._longest.get(phase, 0.0), spent)

    def rounded(self) -> dict[str, float]:
        """Return the seconds by phase, to the millisecond."""
        return {phase: round(seconds, 3) for phase, seconds in self.seconds.items()}

    def facts(self, phase: str) -> dict[str, float]:
        """Return how often a phase was entered, its seconds and its longest time."""
        found = {"count": self._calls.get(phase, 0), "seconds": self.seconds.get(phase, 0.0)}
        return {name: round(value, 3) for name, value in {**found, "longest_s": self._longest.get(phase, 0.0)}.items()}
