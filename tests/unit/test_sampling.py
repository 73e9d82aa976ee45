"""The order of samples: pure, complete, without repeats, the same on any number of ranks."""

from __future__ import annotations

import time
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data import sampling
from model.data.budget import Budget, BudgetSampler
from model.data.sampling import Permutation, Sampler, dealt, divide, divided
from model.draws import Portion, quotas
from model.layout import Layout
from model.training import batches
from model.training.batches import Batches

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


def one_by_one(costs: list[float], parts: int) -> list[int]:
    """Return whose each sample is, by the rule as it is told: the dearest first, to the rank with least load, fewest samples."""
    loads, counts, owner = [0.0] * parts, [0] * parts, [0] * len(costs)
    for sample in sorted(range(len(costs)), key=lambda k: -costs[k]):
        part = min(range(parts), key=lambda r: (loads[r], counts[r], r))
        owner[sample] = part
        loads[part] += costs[sample]
        counts[part] += 1
    return owner


@given(
    kind=st.sampled_from(["mixed", "equal", "few values", "heavy", "one light rank", "free"]),
    count=st.integers(0, 500),
    parts=st.integers(1, 200),
    seed=st.integers(0, 9),
)
@quick
def test_each_sample_goes_to_the_rank_with_least_so_far(kind: str, count: int, parts: int, seed: int) -> None:
    """However many are given away together."""
    random = np.random.default_rng(seed)
    costs = {
        "mixed": random.integers(1, 100, count),
        "equal": np.full(count, 7),
        "few values": random.integers(0, 3, count),
        "heavy": random.lognormal(0, 2, count),
        "one light rank": np.where(np.arange(count) < parts - 1, 1000, 1),
        "free": np.zeros(count, int),
    }[kind]
    cut = count // 3
    batch, by_branch = {1: np.arange(cut), 4: np.arange(cut, count)}, {1: costs[:cut], 4: costs[cut:]}
    pieces = divide(batch, by_branch, parts)
    owner = np.full(count, -1)
    for part, piece in enumerate(pieces):
        for samples in piece.values():
            owner[samples] = part
    assert owner.tolist() == one_by_one(costs.tolist(), parts)
    part = int(random.integers(parts))
    assert {b: x.tolist() for b, x in divided(batch, by_branch, parts, part).items()} == {
        b: x.tolist() for b, x in pieces[part].items()
    }


@pytest.mark.parametrize("parts", [2048, 16384])
def test_a_rank_finds_its_part_of_a_large_batch_at_once(parts: int) -> None:
    """In 15 ms of a core as measured; 0.25 and 1.1 s where each sample was looked at in turn, and each rank's part made."""
    costs = np.rint(np.random.default_rng(0).lognormal(5, 1, 65_536))
    begin = time.process_time()
    divided({0: np.arange(len(costs))}, {0: costs}, parts, 1)
    assert time.process_time() - begin < 0.15


@given(sizes=sizes, parts=st.integers(1, 9))
@quick
def test_dealing_out_gives_each_rank_as_many(sizes: dict[int, int], parts: int) -> None:
    pieces = [dealt(sizes, parts, part) for part in range(parts)]
    joined = Counter((b, int(k)) for piece in pieces for b, x in piece.items() for k in x)
    assert joined == Counter((b, k) for b, n in sizes.items() for k in range(n))
    counts = [sum(map(len, piece.values())) for piece in pieces]
    assert max(counts) - min(counts) <= 1 and all(len(x) for piece in pieces for x in piece.values())


def test_a_large_validation_split_is_not_looked_at_by_every_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Branch 2 is this rank's alone, and small: it is divided by cost; the others are shared and dealt out."""

    class Costs:
        def __init__(self, size: int, looked_at: list[int]) -> None:
            self._size, self._looked_at = size, looked_at

        def __len__(self) -> int:
            return self._size

        def num_atoms(self, indices: np.ndarray) -> np.ndarray:
            self._looked_at.append(self._size)
            return np.ones(len(indices), int)

        num_edges = num_atoms

    monkeypatch.setattr(batches, "_BY_COST", 30)
    sizes, looked_at = {0: 20, 1: 25, 2: 7}, []
    own: dict[int, Any] = {b: SimpleNamespace(validation=Costs(n, looked_at)) for b, n in sizes.items()}
    found = {}
    for rank in (0, 1):
        this = Batches.__new__(Batches)
        holds = own if rank == 0 else {b: own[b] for b in (0, 1)}
        this._rank, this._data = rank, SimpleNamespace(own=holds, layout=Layout(((0, 1), (0, 1), (0,)), 2))
        found[rank] = this._validation_parts(8)
    assert set(looked_at) == {7}
    joined = Counter((b, int(k)) for parts in found.values() for part in parts for b, x in part.items() for k in x)
    assert joined == Counter((b, k) for b, n in sizes.items() for k in range(n))
    assert all(len(x) <= 8 for parts in found.values() for part in parts for x in part.values())


def sampler_of(by_edges: bool) -> Sampler | BudgetSampler:
    sizes, costs = {0: 40, 1: 21}, {0: np.arange(40) % 7 + 1, 1: np.arange(21) % 5 + 3}
    return BudgetSampler(sizes, Budget(17, {b: x.__getitem__ for b, x in costs.items()}), 0) if by_edges else Sampler(sizes, 5, 0)


@given(by_edges=st.booleans(), before=st.integers(1, 5), after=st.integers(1, 5), stop=st.integers(0, 12))
@quick
def test_a_resumed_run_on_other_ranks_draws_exactly_what_was_left(by_edges: bool, before: int, after: int, stop: int) -> None:
    """By a sampler of its own, which knows no more than a checkpoint says: epoch, step, and draws before it."""

    def drawn(sampler: Sampler | BudgetSampler, ranks: int, first: int, last: int | None = None) -> Counter[tuple[int, int]]:
        found: Counter[tuple[int, int]] = Counter()
        step = first
        while sampler.has(2, step) and step != last:
            batch = sampler.batch(2, step)
            for piece in divide(batch, {b: x + 1 for b, x in batch.items()}, ranks):
                found.update((b, int(k)) for b, x in piece.items() for k in x)
            step += 1
        return found

    first, second = sampler_of(by_edges), sampler_of(by_edges)
    seen = drawn(first, before, 0, stop)
    assert stop == 0 or sum(seen.values()) == first.start(2, stop)
    second.go_on(2, stop, first.start(2, stop))
    whole = seen + drawn(second, after, stop)
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
