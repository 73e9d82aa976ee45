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
_DRAWS_AT_ONCE = 8192
Batch = dict[int, NDArray[np.int64]]


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


class Sampler:
    """Global batches over all branches.

    An epoch draws `round(fraction · structures)` samples, divided over the branches by their shares. The draws
    of a branch are one window of a fixed permutation of it, each epoch's window beginning where the last one
    ended, in an order that is new in each epoch: so no sample comes twice in an epoch unless its branch is
    oversampled, and every sample comes before one comes again. Branches are interleaved evenly (Webster's
    method): a batch holds each branch's share up to rounding.

    Args:
        sizes: Training structures of each branch, by branch index.
        shares: Share of draws of each branch, any scale; None stands for proportional to size.
        batch: Structures in a global batch; the last one of an epoch may be smaller.
        seed: Seed of the order.
        fraction: Share of all structures that an epoch draws.
    """

    def __init__(
        self,
        sizes: Mapping[int, int],
        shares: Mapping[int, float | None] | None,
        batch: int,
        seed: int,
        fraction: float = 1.0,
    ) -> None:
        self.sizes = {b: n for b, n in sorted(sizes.items()) if n > 0}
        self.batch_size, self.seed = batch, seed
        total = max(1, round(fraction * sum(self.sizes.values()))) if self.sizes else 0
        self.quotas = _quotas(total, self.sizes, shares or {})
        self._all = {b: Permutation(n, seed, "branch", b) for b, n in self.sizes.items()}
        self._ahead: tuple[int, int, list[Batch]] = (0, 0, [])

    @property
    def draws_per_epoch(self) -> int:
        """Return the samples an epoch draws, over all branches."""
        return sum(self.quotas.values())

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of global batches in an epoch."""
        return -(-self.draws_per_epoch // self.batch_size)

    def batch(self, epoch: int, step: int) -> Batch:
        """Return the samples of one step, by branch: indices into the branch's training structures.

        Some thousand draws are worked out at once and kept, since a call for few costs as much as one for many.
        """
        at_once = max(1, _DRAWS_AT_ONCE // self.batch_size)
        first = step - step % at_once
        ahead = self._ahead
        if ahead[:2] != (epoch, first) or not ahead[2]:
            self._ahead = ahead = (epoch, first, self._batches(epoch, first, at_once))
        return ahead[2][step - first]

    def _batches(self, epoch: int, step: int, count: int) -> list[Batch]:
        cuts = [self._drawn(min(k * self.batch_size, self.draws_per_epoch)) for k in range(step, step + count + 1)]
        first, last = cuts[0], cuts[-1]
        drawn = {b: self._samples(b, epoch, first[b], last[b]) for b in self.quotas if last[b] > first[b]}
        pairs = list(zip(cuts, cuts[1:], strict=False))
        return [{b: x[i[b] - first[b] : j[b] - first[b]] for b, x in drawn.items() if j[b] > i[b]} for i, j in pairs]

    def _samples(self, branch: int, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        quota = self.quotas[branch]
        order = Permutation(quota, self.seed, "epoch", branch, epoch)
        position = epoch * quota + order(np.arange(start, stop))
        return self._all[branch](position % self.sizes[branch])

    def _drawn(self, count: int) -> dict[int, int]:
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


def tempered(shares: Mapping[int, float | None], sizes: Mapping[int, int], temperature: float) -> dict[int, float | None]:
    """Return the shares of draws, those that are not given by size ** (1 / temperature), on the scale of parts of the whole.

    Temperature 1 is proportional and stays None, which the sampler works out exactly; the higher, the more even.
    """
    if temperature == 1:
        return dict(shares)
    powers = {b: n ** (1 / temperature) for b, n in sizes.items()}
    return {b: powers[b] / sum(powers.values()) if share is None else share for b, share in shares.items()}


def divide(batch: Batch, costs: Mapping[int, NDArray], parts: int) -> list[Batch]:
    """Divide a batch over ranks by cost: the dearest sample first, each to the rank with least so far.

    The answer depends on the arguments alone. Every sample is in exactly one part; within a part, samples are
    in the batch's order.

    Args:
        batch: Indices by branch.
        costs: Cost of each sample of the batch (atoms or edges), by branch, aligned with `batch`.
        parts: Number of ranks.
    """
    if parts == 1:
        return [{b: batch[b] for b in sorted(batch) if len(batch[b])}]
    branches = sorted(batch)
    sizes = [len(batch[b]) for b in branches]
    flat = np.concatenate([np.zeros(0), *(np.asarray(costs[b], np.float64) for b in branches)])
    owner = np.zeros(len(flat), np.int64)
    loads = [(0.0, 0, part) for part in range(parts)]
    for sample in np.argsort(-flat, kind="stable").tolist():
        load, count, part = loads[0]
        owner[sample] = part
        heapq.heapreplace(loads, (load + flat[sample], count + 1, part))
    pieces = dict(zip(branches, np.split(owner, np.cumsum(sizes)[:-1]), strict=True)) if branches else {}
    return [{b: batch[b][pieces[b] == part] for b in branches if (pieces[b] == part).any()} for part in range(parts)]


def _quotas(total: int, sizes: Mapping[int, int], shares: Mapping[int, float | None]) -> dict[int, int]:
    """Apportion the draws of an epoch by largest remainder; exact where the quotas are whole."""
    whole = sum(sizes.values())
    weights = {b: Fraction(n, whole) if shares.get(b) is None else Fraction(shares[b] or 0.0) for b, n in sizes.items()}
    scale = sum(weights.values(), Fraction(0))
    exact = {b: total * w / scale for b, w in weights.items()}
    quotas = {b: int(e) for b, e in exact.items()}
    by_remainder = sorted(exact, key=lambda b: (quotas[b] - exact[b], b))
    for b in by_remainder[: total - sum(quotas.values())]:
        quotas[b] += 1
    return {b: q for b, q in quotas.items() if q}
