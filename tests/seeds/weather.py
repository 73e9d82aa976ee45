"""What goes wrong in one history: drawn from its seed, counted when it happens."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

WINDOW_S = 120.0
"""How long the site lets an absence, or an unknown submission, stand before it counts; what hides less long must fool nobody."""

SUBMIT = (
    *("accepted after time-out", "lost on the way", "refused for now", "refused for good"),
    *("vanishes", "id reused", "appears later", "appears very late"),
)
QUERY = ("no answer", "accounting silent", "empty with exit 0", "stale", "stale for long", "row missing", "reordered")
RUN = (
    "held",
    "held after failed starts",
    "requeued",
    "preempted",
    "node failure",
    "node failure, agent lives on",
    "never leaves ending",
    "agent killed",
    "agent silent",
    "slow start",
    "late receipt",
    "hangs at its end",
    "ignores the wish to stop",
    "own fault",
    "out of memory",
    "storage fault",
    "clock skew of a node",
)
CANCEL = ("cancel ignored", "cancel unanswered")
DRIVER = (
    *("driver killed", "driver killed in a commit", "disk full in a commit", "fsync fails"),
    *("frozen and thawed", "two drivers", "clock skew", "long absence"),
)
WORLD = ("outage of a day", "everything hangs", "folder purged", "person cancels", "budget too small")
FAULTS = (*SUBMIT, *QUERY, *RUN, *CANCEL, *DRIVER, *WORLD)
FINAL = ("refused for good", "own fault", "out of memory", "person cancels", "budget too small")
"""Those that a campaign may rightly end by, without being done."""
_OFTEN = (
    *("vanishes", "id reused", "appears very late", "never leaves ending", "hangs at its end", "agent silent", "person cancels"),
    *("ignores the wish to stop", "ignores the wish to stop", "outage of a day", *CANCEL),
)
"""Faults that need others, or much luck, to come to something."""
STORMS = (
    ("person cancels", "ignores the wish to stop", "agent silent", "cancel ignored"),
    ("never leaves ending", "hangs at its end"),
    ("agent silent", "agent killed", "empty with exit 0", "row missing"),
    ("driver killed", "vanishes", "id reused", "person cancels"),
    ("driver killed", "budget too small"),
)
"""Faults that seldom meet by chance; some further histories have all of one kind."""


class Weather:
    """The faults of one history.

    Some histories are calm, most have a few kinds of fault, each at a rate of its own.

    Args:
        rng: The history's own.
        storm: Faults that it has in any case.

    Attributes:
        hits: How often each fault came to pass.
        horizon_s: After this time nothing goes wrong any more, so that everything must come to its end.
    """

    def __init__(self, rng: random.Random, storm: Sequence[str] = ()) -> None:
        self._rng = rng
        self.hits: Counter[str] = Counter()
        self.horizon_s = rng.uniform(1800.0, 14400.0)
        count = rng.choice((0, 1, 2, 3, 4, 6, 9))
        self._rates = {name: rng.choice((0.05, 0.2, 0.5)) for name in rng.sample((*FAULTS, *_OFTEN, *_OFTEN), count)}
        if rng.random() < 0.05:
            self._rates = {"long absence": 1.0}
        self._rates |= dict.fromkeys(storm, 0.5)
        if "id reused" in self._rates:
            self._rates.setdefault("vanishes", 0.5)
        if not self._rates.keys().isdisjoint((*CANCEL, "ignores the wish to stop")):
            self._rates["person cancels"] = 1.0

    @property
    def is_calm(self) -> bool:
        """Whether nothing at all goes wrong."""
        return not self._rates

    def has(self, name: str) -> bool:
        """Say whether this fault is among those of the history."""
        return name in self._rates

    def strikes(self, name: str, now: float, share: float = 1.0) -> bool:
        """Say whether this fault comes to pass now; `share` is for occasions that come often."""
        assert name in FAULTS
        if name not in self._rates or now > self.horizon_s or self._rng.random() >= share * self._rates[name]:
            return False
        self.hits[name] += 1
        return True

    def one_of(self, names: tuple[str, ...], now: float) -> str:
        """Return one of these faults that comes to pass now, or nothing."""
        return next((name for name in names if self.strikes(name, now)), "")
