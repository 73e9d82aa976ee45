"""How long a count has stood still, by looks of one observer on its own clock; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

_LATE = 1.5  # of the period of the looks
_SHARE = 0.25  # of the time to live


@dataclass(frozen=True)
class Silence:
    """What an observer knows of the silence of another process.

    A file system or a machine that hangs holds up the observer as well as the observed, and the observer may be the
    first to go on. So the time between two looks is no silence where nobody looked: the first look that comes late
    adds nothing. An observer that is late at each look is slow by nature; what a look adds is bounded.

    Attributes:
        count: What was last seen.
        looked_at: When, on the observer's monotonic clock (s); None before the first look.
        stood_s: For how long the count was watched standing still.
        looks: Looks that showed it, those that add nothing left out.
        was_late: The last look came late.
        has_moved: The count was seen to change since the first look.
    """

    count: object = None
    looked_at: float | None = None
    stood_s: float = 0.0
    looks: int = 0
    was_late: bool = False
    has_moved: bool = False

    def look(self, count: object, now: float, period_s: float, ttl_s: float) -> Silence:
        """Return what is known after a look.

        Args:
            count: What stands there now.
            now: The observer's monotonic clock, read after the count.
            period_s: Time from one look to the next, as planned.
            ttl_s: Silence after which the other is taken for dead.
        """
        if self.looked_at is None:
            return Silence(count, now)
        on_time_s, gap_s = max(_LATE * period_s, _SHARE * ttl_s), now - self.looked_at
        is_late = gap_s > on_time_s
        if count != self.count:
            return Silence(count, now, was_late=is_late, has_moved=True)
        if is_late and not self.was_late:
            return replace(self, looked_at=now, was_late=True)
        stood_s = self.stood_s + min(gap_s, on_time_s)
        return replace(self, looked_at=now, stood_s=stood_s, looks=self.looks + 1, was_late=is_late)
