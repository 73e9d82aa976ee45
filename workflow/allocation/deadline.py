"""When an allocation must stop, from the end its scheduler states: our own timer, which a signal only advances."""

from __future__ import annotations

import time
from collections.abc import Callable

_KILL_SHARE = 0.6
"""Share of the stop margin after which a task that has not stopped is ended: the rest is for KILL and the receipt."""


class Deadline:
    """The times at which tasks are asked to checkpoint, and at which those that do not are ended.

    The scheduler's end is a wall-clock time; it is turned into monotonic seconds once, so that a clock that is set
    later moves nothing.

    Args:
        end_time: Unix time at which the scheduler ends the allocation.
        margin_s: Seconds before that at which tasks are asked to checkpoint.
        kill_after_s: Seconds from the asking to the killing, shortened where the margin is shorter.
        clock: Monotonic seconds.
        wall: Unix time.
    """

    def __init__(
        self,
        end_time: float,
        margin_s: float,
        kill_after_s: float,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._margin_s = margin_s
        self._patience_s = min(kill_after_s, _KILL_SHARE * margin_s)
        self._stop_at = clock() + (end_time - wall()) - margin_s
        self._reason = "the end of the walltime is near"
        self._advanced = False
        self._taken_s = 0.0
        self._warned = False

    @property
    def is_due(self) -> bool:
        """Whether tasks must checkpoint and nothing more may start."""
        return self._clock() >= self._stop_at

    @property
    def is_warned(self) -> bool:
        """Whether the scheduler has said that the end is near."""
        return self._warned

    @property
    def is_cancelled(self) -> bool:
        """Whether a person or a signal, not the clock, asked to stop."""
        return self._advanced

    @property
    def is_preempted(self) -> bool:
        """Whether the site or somebody there stopped it, long before its own time: its walltime had not come.

        A request within one stop margin of that time counts as the walltime, which a scheduler may reckon otherwise.
        """
        return self._taken_s > self._margin_s

    @property
    def taken_s(self) -> float:
        """Seconds of work that a request from outside has taken from it."""
        return self._taken_s

    @property
    def reason(self) -> str:
        """Why the allocation stops, for messages."""
        return self._reason

    @property
    def must_kill(self) -> bool:
        """Whether tasks that still run have used up their time to stop."""
        return self._clock() >= self._stop_at + self._patience_s

    @property
    def grace_s(self) -> float:
        """Seconds between TERM and KILL for a task that did not stop."""
        return min(self._patience_s, (1 - _KILL_SHARE) * self._margin_s / 2)

    def time_left(self) -> float:
        """Return the seconds until tasks are asked to checkpoint."""
        return max(0.0, self._stop_at - self._clock())

    def refusal(self, estimate_s: float) -> str:
        """Return why a task of this length is not to be started, or nothing when it fits."""
        if self.is_due:
            return self._reason
        left = self.time_left()
        return f"it needs about {estimate_s:.0f} s and {left:.0f} s are left" if estimate_s > left else ""

    def warn(self, reason: str) -> None:
        """Take the scheduler's own word that the end is near; as `advance`."""
        self._warned = True
        self.advance(reason)

    def advance(self, reason: str, *, from_outside: bool = False) -> None:
        """Stop now instead of later; a time that has come stays. Takes no lock: signal handlers call it.

        Args:
            reason: Why, for messages.
            from_outside: Neither the campaign nor the walltime asks for it.
        """
        if not self.is_due:
            self._taken_s = self.time_left() if from_outside else 0.0
            self._reason, self._advanced, self._stop_at = reason, True, self._clock()
