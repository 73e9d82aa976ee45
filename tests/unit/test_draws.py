"""How an epoch's draws are divided over branches: stated shares and numbers are kept, and what cannot be is said."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import TrainConfig
from model.data.sampling import Order
from model.draws import Portion, fault, parts, quotas
from model.outcome import CampaignError

quick = settings(max_examples=40, deadline=None)


def test_by_size_each_structure_is_drawn_once() -> None:
    assert quotas({"a": Portion(100), "b": Portion(7), "empty": Portion(0)}) == {"a": 100, "b": 7}
    assert parts({"a": Portion(0)}) == {"a": 0.0}


def test_a_stated_share_is_kept_and_the_others_divide_the_rest_by_size() -> None:
    drawn = quotas({"a": Portion(100, 0.5), "b": Portion(300), "c": Portion(100)})
    assert drawn == {"a": 250, "b": 188, "c": 62}  # a half stays a half of 500; 3 : 1 of the other
    assert quotas({"a": Portion(4, 0.5), "b": Portion(100, 0.5)}) == {"a": 52, "b": 52}


def test_a_temperature_lies_between_proportional_and_even() -> None:
    given_sizes = {0: Portion(900), 1: Portion(100), 2: Portion(50)}
    assert quotas(given_sizes) == {0: 900, 1: 100, 2: 50}
    assert quotas(given_sizes, temperature=2.0) == {0: 669, 1: 223, 2: 158}  # 30 : 10 : √50 of 1,050, by largest remainder
    assert set(quotas(given_sizes, temperature=1e9).values()) == {350}
    assert quotas({0: Portion(900, 0.25), 1: Portion(100), 2: Portion(50)}, temperature=2.0)[0] == 263  # a quarter of 1,050


@pytest.mark.parametrize(
    ("portions", "what"),
    [
        ({"a": Portion(5, 0.7), "b": Portion(5, 0.4)}, "shares of draws add up to 1.1, more than all"),
        ({"a": Portion(5, 0.6), "b": Portion(5, 0.4), "c": Portion(5)}, "nothing is left for branches without one"),
        ({"a": Portion(10, 0.9), "b": Portion(2), "c": Portion(3, draws=100)}, "of 112 draws in an epoch 100 are stated"),
    ],
)
def test_shares_that_leave_nothing_are_refused(portions: dict[str, Portion], what: str) -> None:
    with pytest.raises(CampaignError, match=what):
        quotas(portions)


def test_shares_are_added_as_they_are_written() -> None:
    assert fault([0.7, 0.2, 0.1]) == "", "not one in binary"
    assert fault([0.4, 0.35]) == "", "a stage may train on some of a file's branches: proportions count"
    assert quotas({"a": Portion(10, 0.4), "b": Portion(10, 0.1)}) == {"a": 16, "b": 4}


def test_a_training_refuses_them_too() -> None:
    fields = {
        "model": {"backbone": {"name": "egnn"}},
        "branches": {"a": {"store": "a", "share": 0.7}, "b": {"store": "b", "share": 0.4}},
    }
    with pytest.raises(ValueError, match="more than all of them"):
        TrainConfig.model_validate(fields)
    with pytest.raises(ValueError, match="not both"):
        TrainConfig.model_validate(fields | {"branches": {"a": {"store": "a", "share": 0.7, "draws": 3}}})


@given(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4), wanted=st.integers(1, 300), epoch=st.integers(0, 3))
@quick
def test_a_number_of_draws_is_exact_and_evenly_spread(sizes: list[int], wanted: int, epoch: int) -> None:
    """Oversampled to a target, every structure comes ⌊N/n⌋ or ⌈N/n⌉ times in each epoch; the others as without it."""
    portions = {b: Portion(n, draws=wanted if b == 0 else None) for b, n in enumerate(sizes)}
    drawn = quotas(portions)
    assert drawn == {0: wanted} | {b: n for b, n in enumerate(sizes) if b}
    order = Order(dict(enumerate(sizes)), 0, drawn)
    times = Counter(order.samples(0, epoch, 0, wanted).tolist())
    assert sum(times.values()) == wanted
    assert {times[k] for k in range(sizes[0])} <= {wanted // sizes[0], -(-wanted // sizes[0])}


@given(
    sizes=st.lists(st.integers(1, 10**6), min_size=2, max_size=5), shares=st.lists(st.floats(0.01, 0.2), min_size=4, max_size=4)
)
@quick
def test_stated_shares_hold_beside_numbers_of_draws(sizes: list[int], shares: list[float]) -> None:
    portions = {b: Portion(n, shares[b] if b in (1, 2) and b < len(sizes) - 1 else None) for b, n in enumerate(sizes)}
    portions[len(sizes) - 1] = Portion(sizes[-1], draws=1 + min(sizes) // 2)
    drawn = quotas(portions)
    for b, each in portions.items():
        if each.share is not None:
            assert abs(drawn.get(b, 0) - each.share * sum(drawn.values())) <= 1
    assert drawn[len(sizes) - 1] == portions[len(sizes) - 1].draws


def test_parts_add_up_to_one() -> None:
    found = parts({"a": Portion(3, draws=12), "b": Portion(4)})
    assert found == {"a": 0.75, "b": 0.25}
    assert np.isclose(sum(parts({"a": Portion(10, 0.3), "b": Portion(9), "c": Portion(8)}).values()), 1)
