"""Silence counts only over time in which the observer itself looked on time."""

from __future__ import annotations

import pytest

from model.silence import Silence

PERIOD_S, TTL_S = 10.0, 80.0


def after(*looks: tuple[float, int]) -> Silence:
    """Return what is known after looks: seconds since the one before, and the count that it showed."""
    silence, now = Silence(), 500.0
    for gap_s, count in looks:
        now += gap_s
        silence = silence.look(count, now, PERIOD_S, TTL_S)
    return silence


def test_a_count_that_stands_still_over_regular_looks_is_silent() -> None:
    silence = after((0, 1), *[(10.0, 1)] * 8)
    assert (silence.stood_s, silence.looks, silence.has_moved) == (80.0, 8, False)
    assert after((0, 1), *[(10.0, 1)] * 8, (10.0, 2)) == Silence(2, 590.0, has_moved=True)


@pytest.mark.parametrize("gap_s", [20.1, 3600.0, 1e6])
def test_the_first_late_look_adds_nothing(gap_s: float) -> None:
    assert after((0, 1), (10.0, 1), (gap_s, 1)).stood_s == 10.0
    assert after((0, 1), (10.0, 1), (gap_s, 1), (10.0, 1), (gap_s, 1)).stood_s == 20.0


def test_a_look_a_little_late_counts_in_full() -> None:
    assert after((0, 1), (20.0, 1), (20.0, 1)).stood_s == 40.0


def test_an_observer_that_is_always_late_sees_silence_in_bounded_steps() -> None:
    assert after((0, 1), *[(3600.0, 1)] * 5).stood_s == 4 * 20.0
