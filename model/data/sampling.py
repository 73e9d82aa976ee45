"""The order of samples: a pure function of seed, epoch and step, in constant memory."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from model.data.splits import mix

_ROUNDS = 6
DRAWS_AT_ONCE = 8192
"""Draws that are worked out together."""
Batch = dict[int, NDArray[np.int64]]
_TOGETHER = 64
"""Samples that it takes for giving them away together to cost less than one by one."""
_ONE_BY_ONE = 1024
"""Samples that are given away one by one where they all go to few ranks, until the others are tried again."""


class Permutation:
    """A keyed bijection of range(size): a Feistel network on the smallest power-of-two domain, with cycle walking.

    The halves differ by at most a bit. Values that leave the range are sent through the network again until they are inside
    (Black and Rogaway, CT-RSA 2002); the domain is less than twice the size, so that takes under two rounds on average.
    Whole arrays are worked on at once: 30 µs of a call are the call's own, a value costs some 0.1 µs.

    Args:
        size: Number of values.
        key: Whatever names this permutation: seed, epoch, branch.
    """

    def __init__(self, size: int, *key: int | str) -> None:
        self.size = size
        low = max(2, (size - 1).bit_length()) // 2
        high = max(2, (size - 1).bit_length()) - low
        self._low, self._masks = np.uint64(low), (np.uint64(2**high - 1), np.uint64(2**low - 1))
        digest = hashlib.blake2b(repr(key).encode(), digest_size=8 * _ROUNDS).digest()
        self._keys = np.frombuffer(digest, np.uint64)

    def __call__(self, values: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the images of values in range(size), same shape."""
        out = self._network(np.asarray(values).astype(np.uint64))
        outside = np.flatnonzero(out >= self.size)
        while len(outside):
            again = self._network(out[outside])
            out[outside] = again
            outside = outside[again >= self.size]
        return out.astype(np.int64)

    def _network(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        high, low = values >> self._low, values & self._masks[1]
        for first, second in zip(self._keys[::2], self._keys[1::2], strict=True):
            high = high ^ (mix(low ^ first) & self._masks[0])
            low = low ^ (mix(high ^ second) & self._masks[1])
        return (high << self._low) | low


class Order:
    """The order in which an epoch draws, over all branches.

    The draws of a branch are one window of a fixed permutation of it, each epoch's window beginning where the last one
    ended, in an order that is new in each epoch: so no sample comes twice in an epoch unless its branch is
    oversampled, and every sample comes before one comes again: of N draws from n samples each is drawn ⌊N/n⌋ or ⌈N/n⌉ times.
    Branches are interleaved evenly (Webster's method): any run of draws holds each branch's part up to rounding.

    Args:
        sizes: Training structures of each branch, by branch index.
        seed: Seed of the order.
        quotas: Draws of each branch in an epoch; None: each structure once.
    """

    def __init__(self, sizes: Mapping[int, int], seed: int, quotas: Mapping[int, int] | None = None) -> None:
        self.sizes = {b: n for b, n in sorted(sizes.items()) if n > 0}
        self.seed = seed
        self.quotas = self.sizes if quotas is None else {b: quotas[b] for b in self.sizes if quotas.get(b)}
        self._all = {b: Permutation(n, seed, "branch", b) for b, n in self.sizes.items()}

    @property
    def draws_per_epoch(self) -> int:
        """Return the samples an epoch draws, over all branches."""
        return sum(self.quotas.values())

    def samples(self, branch: int, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """Return what some of a branch's draws are: indices into its training structures."""
        quota = self.quotas[branch]
        order = Permutation(quota, self.seed, "epoch", branch, epoch)
        position = epoch * quota + order(np.arange(start, stop))
        return self._all[branch](position % self.sizes[branch])

    def drawn(self, count: int) -> dict[int, int]:
        """Return how many of the first `count` draws of an epoch go to each branch.

        The k-th draw of branch b falls due at (k + ½)/quota_b; draws are taken in that order, ties by branch.
        """
        total = self.draws_per_epoch
        if len(self.quotas) == 1:
            return dict.fromkeys(self.quotas, count)
        drawn = {b: (2 * count * q + total) // (2 * total) for b, q in self.quotas.items()}
        while sum(drawn.values()) > count:
            drawn[max((Fraction(2 * drawn[b] - 1, q), b) for b, q in self.quotas.items() if drawn[b])[1]] -= 1
        while sum(drawn.values()) < count:
            drawn[min((Fraction(2 * drawn[b] + 1, q), b) for b, q in self.quotas.items() if drawn[b] < q)[1]] += 1
        return drawn


class Sampler(Order):
    """Global batches of equally many structures; the last one of an epoch may have fewer.

    Args:
        sizes: Training structures of each branch, by branch index.
        batch: Structures in a batch.
        seed: Seed of the order.
        quotas: Draws of each branch in an epoch; None: each structure once.
    """

    def __init__(self, sizes: Mapping[int, int], batch: int, seed: int, quotas: Mapping[int, int] | None = None) -> None:
        super().__init__(sizes, seed, quotas)
        self.batch_size = batch
        self._ahead: tuple[int, int, list[Batch]] = (0, 0, [])

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of global batches in an epoch."""
        return -(-self.draws_per_epoch // self.batch_size)

    def has(self, epoch: int, step: int) -> bool:  # noqa: ARG002 every epoch has as many
        """Say whether an epoch has that step."""
        return step < self.steps_per_epoch

    def start(self, epoch: int, step: int) -> int:  # noqa: ARG002
        """Return the draws of an epoch before a step."""
        return min(step * self.batch_size, self.draws_per_epoch)

    def go_on(self, epoch: int, step: int, start: int) -> None:
        """Take up an epoch at a step that begins with draw `start`."""
        assert self.start(epoch, step) == start, (epoch, step, start)

    def clock(self, epochs: int, epoch: int, step: int) -> tuple[int, int]:
        """Return what the decay of the learning rate goes by, and what that is in the end: steps, and the last one's number."""
        return epoch * self.steps_per_epoch + step, epochs * self.steps_per_epoch - 1

    def total_steps(self, epochs: int, epoch: int, step: int) -> int:  # noqa: ARG002 known from the beginning
        """Return the steps of so many epochs."""
        return epochs * self.steps_per_epoch

    def batch(self, epoch: int, step: int) -> Batch:
        """Return the samples of one step, by branch: indices into the branch's training structures.

        Some thousand draws are worked out at once and kept, since a call for few costs as much as one for many.
        """
        at_once = max(1, DRAWS_AT_ONCE // self.batch_size)
        first = step - step % at_once
        ahead = self._ahead
        if ahead[:2] != (epoch, first) or not ahead[2]:
            self._ahead = ahead = (epoch, first, self._batches(epoch, first, at_once))
        return ahead[2][step - first]

    def _batches(self, epoch: int, step: int, count: int) -> list[Batch]:
        cuts = [self.drawn(self.start(epoch, k)) for k in range(step, step + count + 1)]
        first, last = cuts[0], cuts[-1]
        drawn = {b: self.samples(b, epoch, first[b], last[b]) for b in self.quotas if last[b] > first[b]}
        pairs = list(zip(cuts, cuts[1:], strict=False))
        return [{b: x[i[b] - first[b] : j[b] - first[b]] for b, x in drawn.items() if j[b] > i[b]} for i, j in pairs]


def divide(batch: Batch, costs: Mapping[int, NDArray], parts: int) -> list[Batch]:
    """Divide a batch over ranks by cost: the dearest sample first, each to the rank with least so far.

    The answer depends on the arguments alone. Every sample is in exactly one part; within a part, samples are
    in the batch's order.

    Args:
        batch: Indices by branch.
        costs: Cost of each sample of the batch (atoms or edges), by branch, aligned with `batch`.
        parts: Number of ranks.
    """
    owner = _owners(batch, costs, parts)
    return [_owned(batch, owner, part) for part in range(parts)]


def divided(batch: Batch, costs: Mapping[int, NDArray], parts: int, part: int) -> Batch:
    """Return one rank's part of what `divide` returns, without making the others'."""
    return _owned(batch, _owners(batch, costs, parts), part)


def dealt(sizes: Mapping[int, int], parts: int, part: int) -> Batch:
    """Return what one rank gets where all samples are dealt out in turn: costs are not looked at, nor is what others get.

    Args:
        sizes: Samples of each branch, of which all are dealt out, branch after branch.
        parts: Number of ranks.
        part: The rank.
    """
    found: Batch = {}
    before = 0
    for branch, size in sorted(sizes.items()):
        mine = np.arange((part - before) % parts, size, parts)
        found |= {branch: mine} if len(mine) else {}
        before += size
    return found


def _owned(batch: Batch, owner: NDArray[np.int64], part: int) -> Batch:
    branches = sorted(batch)
    pieces = np.split(owner, np.cumsum([len(batch[b]) for b in branches])[:-1]) if branches else []
    found = {b: batch[b][piece == part] for b, piece in zip(branches, pieces, strict=True)}
    return {b: samples for b, samples in found.items() if len(samples)}


def _owners(batch: Batch, costs: Mapping[int, NDArray], parts: int) -> NDArray[np.int64]:
    """Return whose each sample of a batch is, branch after branch, (samples,)."""
    flat = np.concatenate([np.zeros(0), *(np.asarray(costs[b], np.float64) for b in sorted(batch))])
    if parts == 1:
        return np.zeros(len(flat), np.int64)
    order = np.argsort(-flat, kind="stable")
    ranks = _Ranks(parts)
    owner = np.zeros(len(flat), np.int64)
    done = 0
    while done < len(order):
        left = flat[order[done:]]
        taken = ranks.take_together(left) if parts >= _TOGETHER else np.zeros(0, np.int64)
        if len(taken) < _TOGETHER:
            at_once = _ONE_BY_ONE if parts >= _TOGETHER else len(left)
            taken = np.concatenate([taken, ranks.take_in_turn(left[len(taken) :][:at_once])])
        owner[order[done : done + len(taken)]] = taken
        done += len(taken)
    return owner


class _Ranks:
    """Ranks as they are filled, each sample going to the one with least so far: of least load, of fewest samples, the first.

    Attributes:
        loads: Cost of each rank, (ranks,).
        counts: Samples of each rank, (ranks,).
    """

    def __init__(self, parts: int) -> None:
        self.loads, self.counts = np.zeros(parts), np.zeros(parts, np.int64)

    def take_together(self, costs: NDArray[np.float64]) -> NDArray[np.int64]:
        """Give away the first of some samples, as many as go to different ranks one after the other; return whose they are.

        So it goes on as long as no rank that has just been given one has less than the next of the ranks in order.
        """
        least = np.lexsort((self.counts, self.loads))[: len(costs)]
        after = self.loads[least] + costs[: len(least)]
        is_next = self.loads[least[1:]] < np.minimum.accumulate(after)[:-1]
        taken = least[: len(least) if is_next.all() else int(np.argmin(is_next)) + 1]
        self.loads[taken], self.counts[taken] = after[: len(taken)], self.counts[taken] + 1
        return taken

    def take_in_turn(self, costs: NDArray[np.float64]) -> NDArray[np.int64]:
        """Give samples away one by one; return whose they are."""
        heap = list(zip(self.loads.tolist(), self.counts.tolist(), range(len(self.loads)), strict=True))
        heapq.heapify(heap)
        taken = []
        for cost in costs.tolist():
            load, count, part = heap[0]
            taken.append(part)
            heapq.heapreplace(heap, (load + cost, count + 1, part))
        for load, count, part in heap:
            self.loads[part], self.counts[part] = load, count
        return np.array(taken, np.int64)
