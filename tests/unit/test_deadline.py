"""The allocation's own timer: from the scheduler's end, only ever earlier."""

from __future__ import annotations

import pytest

from workflow.allocation.deadline import Deadline


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 5000.0 + self.now


def made(margin_s: float = 300.0, kill_after_s: float = 60.0, length_s: float = 3600.0) -> tuple[Deadline, Time]:
    time = Time()
    return Deadline(time.wall() + length_s, margin_s, kill_after_s, time.monotonic, time.wall), time


def test_tasks_are_asked_before_the_end_and_killed_after_their_time() -> None:
    deadline, time = made()
    assert deadline.time_left() == 3300.0 and not deadline.is_due
    time.now += 3300.0
    assert deadline.is_due and not deadline.must_kill and deadline.time_left() == 0.0
    time.now += 60.0
    assert deadline.must_kill


def test_a_short_margin_shortens_the_patience_so_that_a_receipt_can_be_written() -> None:
    deadline, time = made(margin_s=6.0, kill_after_s=10.0, length_s=60.0)
    time.now += 54.0
    assert deadline.is_due and not deadline.must_kill
    time.now += 3.7
    assert deadline.must_kill
    assert 3.7 + deadline.grace_s < 6.0


def test_a_signal_advances_and_never_delays() -> None:
    deadline, time = made()
    deadline.advance("signal 15")
    assert deadline.is_due and deadline.is_cancelled and deadline.reason == "signal 15"
    time.now += 30.0
    deadline.advance("signal 10")
    time.now += 31.0
    assert deadline.must_kill and deadline.reason == "signal 15"


def test_a_request_from_outside_long_before_the_time_is_no_walltime() -> None:
    deadline, time = made(margin_s=300.0, length_s=3600.0)
    time.now += 1000.0
    deadline.advance("signal 15", from_outside=True)
    assert deadline.is_due and deadline.is_preempted and deadline.taken_s == 2300.0
    time.now += 10.0
    deadline.advance("cancelled")
    assert deadline.is_preempted and deadline.reason == "signal 15", "the first request counts"


@pytest.mark.parametrize(("after_s", "from_outside"), [(1000.0, False), (3000.0, True), (3300.0, True), (3500.0, True)])
def test_what_the_campaign_asks_for_or_comes_near_the_walltime_is_no_preemption(after_s: float, from_outside: bool) -> None:
    deadline, time = made(margin_s=300.0, length_s=3600.0)
    time.now += after_s
    deadline.advance("signal", from_outside=from_outside)
    assert deadline.is_due and not deadline.is_preempted


def test_a_stop_that_was_asked_for_is_not_turned_into_a_preemption() -> None:
    deadline, _ = made()
    deadline.advance("cancelled")
    deadline.advance("signal 15", from_outside=True)
    assert not deadline.is_preempted and deadline.reason == "cancelled"


def test_a_clock_that_is_set_moves_nothing() -> None:
    time = Time()
    offset = [0.0]
    deadline = Deadline(time.wall() + 1000.0, 100.0, 10.0, time.monotonic, lambda: time.wall() + offset[0])
    offset[0] = 86400.0
    assert deadline.time_left() == 900.0


def test_only_what_fits_is_admitted() -> None:
    deadline, time = made(length_s=1300.0)
    assert deadline.refusal(0.0) == "" and deadline.refusal(999.0) == ""
    assert "1001 s" in deadline.refusal(1001.0) and "1000 s are left" in deadline.refusal(1001.0)
    time.now += 1000.0
    assert deadline.refusal(0.0) == deadline.reason
