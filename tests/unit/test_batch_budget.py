"""Batches filled to a budget: complete, as full as they can be, the same on any ranks and from any step on."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data import budget as module
from model.data.budget import Budget, BudgetSampler
from model.data.sampling import Batch, divide
from model.specs import BatchBudget

sizes = st.dictionaries(st.integers(0, 5), st.integers(1, 70), min_size=1, max_size=4)
budgets = st.integers(1, 600)
quick = settings(max_examples=30, deadline=None)


def costs_of(sizes: dict[int, int], seed: int = 0, most: int = 200) -> dict[int, np.ndarray]:
    random = np.random.default_rng(seed)
    return {b: random.integers(0, most, n) for b, n in sizes.items()}


def sampler_of(costs: dict[int, np.ndarray], most: int, seed: int = 0, quotas: dict[int, int] | None = None) -> BudgetSampler:
    budget = Budget(most, {b: each.__getitem__ for b, each in costs.items()})
    return BudgetSampler({b: len(each) for b, each in costs.items()}, budget, seed, quotas)


def batches_of(sampler: BudgetSampler, epoch: int, first: int = 0) -> list[Batch]:
    found: list[Batch] = []
    while sampler.has(epoch, first + len(found)):
        found.append(sampler.batch(epoch, first + len(found)))
    return found


def in_order(sampler: BudgetSampler, epoch: int) -> list[tuple[int, int]]:
    """Return the draws of an epoch one by one, as `Order` has them."""
    found, before = list[tuple[int, int]](), sampler.drawn(0)
    for count in range(1, sampler.draws_per_epoch + 1):
        after = sampler.drawn(count)
        (branch,) = [b for b in after if after[b] > before[b]]
        found.append((branch, int(sampler.samples(branch, epoch, before[branch], after[branch])[0])))
        before = after
    return found


def counted(batches: list[Batch]) -> Counter[tuple[int, int]]:
    return Counter((b, int(k)) for batch in batches for b, x in batch.items() for k in x)


def lists(batches: list[Batch]) -> list[dict[int, list[int]]]:
    return [{b: x.tolist() for b, x in sorted(batch.items())} for batch in batches]


@given(sizes=sizes, most=budgets, seed=st.integers(0, 5), epoch=st.integers(0, 3))
@quick
def test_an_epoch_draws_each_sample_once(sizes: dict[int, int], most: int, seed: int, epoch: int) -> None:
    found = counted(batches_of(sampler_of(costs_of(sizes, seed), most, seed), epoch))
    assert found == Counter((b, k) for b, n in sizes.items() for k in range(n))


@given(sizes=sizes, most=budgets, seed=st.integers(0, 5), at_once=st.integers(1, 90), drawn=st.integers(1, 150))
@quick
def test_batches_are_filled_in_order_until_the_next_would_exceed(
    sizes: dict[int, int], most: int, seed: int, at_once: int, drawn: int
) -> None:
    """Whatever is worked out at once, they are what the plain rule gives, oversampled branches included."""
    costs = costs_of(sizes, seed)
    quotas = dict(sizes) | {min(sizes): drawn}
    expected: list[list[tuple[int, int]]] = []
    filled = most + 1
    sampler = sampler_of(costs, most, seed, quotas)
    for branch, sample in in_order(sampler, 1):
        cost = max(int(costs[branch][sample]), 1)
        if filled + cost > most:
            expected.append([])
            filled = 0
        expected[-1].append((branch, sample))
        filled += cost
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "DRAWS_AT_ONCE", at_once)
        found = batches_of(sampler, 1)
    assert [sorted(counted([batch]).elements()) for batch in found] == [sorted(batch) for batch in expected]
    assert [sampler.start(1, step) for step in range(len(found) + 1)] == np.cumsum([0, *map(len, expected)]).tolist()


@given(sizes=sizes, most=budgets, before=st.integers(1, 5), after=st.integers(1, 5), stop=st.integers(0, 30))
@quick
def test_a_resumed_run_on_other_ranks_draws_exactly_what_was_left(
    sizes: dict[int, int], most: int, before: int, after: int, stop: int
) -> None:
    costs = costs_of(sizes)
    whole = batches_of(sampler_of(costs, most), 2)
    step = min(stop, len(whole))
    position = sum(len(x) for batch in whole[:step] for x in batch.values())
    again = sampler_of(costs, most)
    again.go_on(2, step, position)
    rest = batches_of(again, 2, step)
    assert lists(rest) == lists(whole[step:])
    drawn = [
        piece
        for ranks, batches in ((before, whole[:step]), (after, rest))
        for batch in batches
        for piece in divide(batch, {b: costs[b][x] for b, x in batch.items()}, ranks)
    ]
    assert counted(drawn) == Counter((b, k) for b, n in sizes.items() for k in range(n))
    assert lists(batches_of(again, 3)) == lists(batches_of(sampler_of(costs, most), 3)), "the next epoch begins at its beginning"


@given(sizes=sizes, most=st.integers(400, 5000), ranks=st.integers(1, 7))
@quick
def test_ranks_carry_equal_cost(sizes: dict[int, int], most: int, ranks: int) -> None:
    """Greedy by the dearest first: no rank has more than the mean and one structure."""
    costs = costs_of(sizes)
    for batch in batches_of(sampler_of(costs, most), 0):
        dear = {b: costs[b][x] for b, x in batch.items()}
        loads = [sum(int(costs[b][x].sum()) for b, x in piece.items()) for piece in divide(batch, dear, ranks)]
        largest = max(int(each.max()) for each in dear.values())
        assert max(loads) <= sum(loads) / ranks + largest


def test_a_structure_over_the_budget_is_a_batch_of_its_own() -> None:
    sampler = sampler_of({0: np.array([5, 100, 5, 101, 5])}, 100)
    alone = [batch for batch in lists(batches_of(sampler, 0)) if 3 in batch[0]]
    assert alone == [{0: [3]}]
    assert sampler.budget.num_above(0, 5) == 1


def test_structures_without_edges_cost_one_each() -> None:
    """Otherwise all lone atoms of a data set would make one batch."""
    found = batches_of(sampler_of({0: np.zeros(10, np.int64)}, 3), 0)
    assert [len(batch[0]) for batch in found] == [3, 3, 3, 1]


def test_the_order_of_due_times_is_exact() -> None:
    """Branches of sizes with nothing in common, far into an epoch: places and `drawn` agree to the draw."""
    sizes = {0: 100_003, 1: 99_991, 2: 50_021, 3: 7}
    sampler = sampler_of({b: np.ones(n, np.int64) for b, n in sizes.items()}, 977)
    for step in range(0, 250, 7):
        first, last = (sampler.drawn(sampler.start(0, k)) for k in (step, step + 1))
        assert {b: len(x) for b, x in sampler.batch(0, step).items()} == {
            b: last[b] - first[b] for b in sizes if last[b] > first[b]
        }


def test_a_clock_of_draws_ends_where_all_are_drawn() -> None:
    sampler = sampler_of(costs_of({0: 50, 1: 20}), 700)
    steps = len(batches_of(sampler, 1))
    assert sampler.clock(2, 0, 0) == (0, 140)
    assert sampler.clock(2, 1, steps) == (140, 140)
    assert sampler.total_steps(2, 1, steps) == 2 * steps


@pytest.mark.parametrize("fields", [{}, {"edges": 5, "atoms": 5}])
def test_a_budget_is_of_edges_or_of_atoms(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="give one of them"):
        BatchBudget.model_validate(fields)
