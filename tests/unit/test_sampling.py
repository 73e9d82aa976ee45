"""The order of samples: pure, complete, without repeats, the same on any number of ranks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data import sampling
from model.data.sampling import Permutation, Sampler, divide
from model.draws import Portion, quotas

sizes = st.dictionaries(st.integers(0, 5), st.integers(1, 70), min_size=1, max_size=4)
quick = settings(max_examples=25, deadline=None)


def epoch_of(sampler: Sampler, epoch: int) -> dict[int, np.ndarray]:
    batches = [sampler.batch(epoch, step) for step in range(sampler.steps_per_epoch)]
    return {b: np.concatenate([x[b] for x in batches if b in x]) for b in sampler.quotas}


def drawn_of(sizes: dict[int, int], shares: list[float] | None, fraction: float = 1.0) -> dict[int, int]:
    """Return the draws of an epoch by shares of any scale, or by size."""
    whole = sum(shares[b] for b in sizes) if shares else 1.0
    return quotas({b: Portion(n, shares[b] / whole if shares else None) for b, n in sorted(sizes.items())}, fraction)


@given(size=st.integers(1, 3000), seed=st.integers(0, 9))
@quick
def test_a_permutation_is_one(size: int, seed: int) -> None:
    images = Permutation(size, seed)(np.arange(size))
    assert np.array_equal(np.sort(images), np.arange(size))


@pytest.mark.parametrize("size", [1, 4, 5, 16, 17, 64, 65, 256, 257, 1024, 4096, 4097])
def test_a_permutation_on_the_edge_of_its_domain(size: int) -> None:
    assert len(np.unique(Permutation(size, "edge")(np.arange(size)))) == size


def test_a_permutation_needs_no_memory_of_its_size() -> None:
    """134 million samples: any position is found without the others."""
    images = Permutation(134_000_000, 3)(np.array([0, 1, 133_999_999]))
    assert len(set(images.tolist())) == 3
    assert (images < 134_000_000).all()


def test_a_permutation_mixes() -> None:
    images = Permutation(1000, 1)(np.arange(1000))
    assert abs(np.corrcoef(images, np.arange(1000))[0, 1]) < 0.1
    assert abs(np.corrcoef(images[1:], images[:-1])[0, 1]) < 0.1
    assert not np.array_equal(images, Permutation(1000, 2)(np.arange(1000)))


@given(sizes=sizes, batch=st.integers(1, 40), seed=st.integers(0, 5), epoch=st.integers(0, 7))
@quick
def test_an_epoch_draws_each_sample_once(sizes: dict[int, int], batch: int, seed: int, epoch: int) -> None:
    drawn = epoch_of(Sampler(sizes, batch, seed), epoch)
    assert {b: sorted(x.tolist()) for b, x in drawn.items()} == {b: list(range(n)) for b, n in sizes.items()}


@given(sizes=sizes, batch=st.integers(1, 40), fraction=st.floats(0.05, 1), epoch=st.integers(0, 5))
@quick
def test_no_sample_twice_in_an_epoch_without_oversampling(sizes: dict[int, int], batch: int, fraction: float, epoch: int) -> None:
    sampler = Sampler(sizes, batch, 0, drawn_of(sizes, None, fraction))
    for branch, drawn in epoch_of(sampler, epoch).items():
        assert len(np.unique(drawn)) == len(drawn) == sampler.quotas[branch] <= sizes[branch]


@given(sizes=sizes, fraction=st.floats(0.05, 1), shares=st.lists(st.floats(0.1, 9), min_size=6, max_size=6))
@quick
def test_consecutive_epochs_go_on_through_the_permutation(sizes: dict[int, int], fraction: float, shares: list[float]) -> None:
    """After any number of epochs, no sample was drawn more than once oftener than another."""
    sampler = Sampler(sizes, 8, 1, drawn_of(sizes, shares, fraction))
    counts: dict[int, Counter[int]] = {b: Counter() for b in sampler.quotas}
    for epoch in range(4):
        for branch, drawn in epoch_of(sampler, epoch).items():
            counts[branch].update(drawn.tolist())
            times = [counts[branch][k] for k in range(sizes[branch])]
            assert max(times) - min(times) <= 1


@given(sizes=sizes, batch=st.integers(1, 40), shares=st.lists(st.floats(0.05, 9), min_size=6, max_size=6))
@quick
def test_every_batch_holds_each_branchs_share(sizes: dict[int, int], batch: int, shares: list[float]) -> None:
    sampler = Sampler(sizes, batch, 0, drawn_of(sizes, shares))
    total = sum(sizes.values())
    weight = sum(shares[b] for b in sizes)
    drawn: Counter[int] = Counter()
    for step in range(sampler.steps_per_epoch):
        parts = {b: len(x) for b, x in sampler.batch(0, step).items()}
        full = step < sampler.steps_per_epoch - 1
        assert sum(parts.values()) == (batch if full else total - batch * (sampler.steps_per_epoch - 1))
        drawn.update(parts)
        for b in sizes:
            assert abs(drawn[b] - sum(drawn.values()) * shares[b] / weight) <= len(sizes)


def test_epochs_differ_and_the_order_is_pure() -> None:
    first, again = Sampler({0: 50}, 10, 7), Sampler({0: 50}, 10, 7)
    assert np.array_equal(first.batch(3, 2)[0], again.batch(3, 2)[0])
    assert not np.array_equal(epoch_of(first, 0)[0], epoch_of(first, 1)[0])
    assert not np.array_equal(epoch_of(first, 0)[0], epoch_of(Sampler({0: 50}, 10, 8), 0)[0])


def test_oversampling_repeats_a_small_branch() -> None:
    sampler = Sampler({0: 100, 1: 4}, 10, 0, {0: 52, 1: 52})
    assert Counter(epoch_of(sampler, 0)[1].tolist()) == dict.fromkeys(range(4), 13)
    assert all(len(x) == 5 for x in sampler.batch(0, 0).values())


@given(sizes=sizes, batch=st.integers(1, 40), parts=st.integers(1, 7), seed=st.integers(0, 3))
@quick
def test_ranks_divide_a_batch_without_loss(sizes: dict[int, int], batch: int, parts: int, seed: int) -> None:
    sampler = Sampler(sizes, batch, seed)
    random = np.random.default_rng(seed)
    for step in range(sampler.steps_per_epoch):
        whole = sampler.batch(0, step)
        costs = {b: random.integers(1, 100, len(x)) for b, x in whole.items()}
        pieces = divide(whole, costs, parts)
        assert len(pieces) == parts
        joined = Counter((b, int(k)) for piece in pieces for b, x in piece.items() for k in x)
        assert joined == Counter((b, int(k)) for b, x in whole.items() for k in x)
        again = divide(whole, costs, parts)
        assert all(
            p.keys() == q.keys() and all(np.array_equal(p[b], q[b]) for b in p) for p, q in zip(pieces, again, strict=True)
        )


@given(before=st.integers(1, 5), after=st.integers(1, 5), stop=st.integers(0, 12))
@quick
def test_a_resumed_run_on_other_ranks_draws_exactly_what_was_left(before: int, after: int, stop: int) -> None:
    sampler = Sampler({0: 40, 1: 21}, 5, 0)

    def drawn(ranks: int, steps: range) -> Counter[tuple[int, int]]:
        found: Counter[tuple[int, int]] = Counter()
        for step in steps:
            batch = sampler.batch(2, step)
            for piece in divide(batch, {b: x + 1 for b, x in batch.items()}, ranks):
                found.update((b, int(k)) for b, x in piece.items() for k in x)
        return found

    whole = drawn(before, range(stop)) + drawn(after, range(stop, sampler.steps_per_epoch))
    assert whole == Counter([(0, k) for k in range(40)] + [(1, k) for k in range(21)])


@given(sizes=sizes, batch=st.integers(1, 40), at_once=st.integers(1, 60), epoch=st.integers(0, 3))
@quick
def test_batches_do_not_depend_on_how_many_are_worked_out_at_once(
    sizes: dict[int, int], batch: int, at_once: int, epoch: int
) -> None:
    whole, pieces = Sampler(sizes, batch, 0), Sampler(sizes, batch, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "DRAWS_AT_ONCE", at_once)
        found = [pieces.batch(epoch, step) for step in reversed(range(whole.steps_per_epoch))][::-1]
    expected = [whole.batch(epoch, step) for step in range(whole.steps_per_epoch)]
    assert [{b: x.tolist() for b, x in each.items()} for each in found] == [
        {b: x.tolist() for b, x in each.items()} for each in expected
    ]


def test_costs_are_balanced() -> None:
    random = np.random.default_rng(0)
    costs = {0: random.integers(2, 500, 64), 1: random.integers(2, 500, 64)}
    whole = {0: np.arange(64), 1: np.arange(64)}
    loads = [sum(costs[b][x].sum() for b, x in piece.items()) for piece in divide(whole, costs, 8)]
    assert max(loads) / (sum(loads) / 8) < 1.02


def test_an_empty_branch_draws_nothing() -> None:
    sampler = Sampler({0: 3, 1: 0}, 2, 0, {0: 3})
    assert sampler.quotas == {0: 3}
    assert Sampler({}, 2, 0).steps_per_epoch == 0
