"""Where the time of a task goes."""

from __future__ import annotations

from model.timers import Timers


def test_a_phase_tells_its_calls_and_its_longest() -> None:
    timers = Timers()
    for length in (1, 200_000, 1):
        with timers("save"):
            sum(range(length))
    facts = timers.facts("save")
    assert facts["count"] == 3
    assert 0 <= facts["longest_s"] <= facts["seconds"] == timers.rounded()["save"]
    assert timers.facts("never") == {"count": 0, "seconds": 0.0, "longest_s": 0.0}
