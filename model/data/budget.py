"""Global batches that are filled to a budget of edges or atoms, so that every step costs about the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.data.sampling import DRAWS_AT_ONCE, Batch, Order

Indices = NDArray[np.int64]
_KEPT = 8
"""Batches before the last one asked for that are kept: naming the structures of a step that diverged asks for it again."""


@dataclass(frozen=True)
class Budget:
    """What a batch may cost.

    Attributes:
        most: Edges or atoms.
        costs: For each branch, edges or atoms of its training structures by their indices; a structure counts as one at least.
    """

    most: int
    costs: Mapping[int, Callable[[Indices], Indices]]

    def of(self, branch: int, indices: Indices) -> Indices:
        """Return what structures of a branch cost."""
        return np.maximum(self.costs[branch](indices), 1)

    def num_above(self, branch: int, size: int) -> int:
        """Count the structures of a branch that alone cost more than a batch may."""
        starts = range(0, size, DRAWS_AT_ONCE)
        parts = (self.of(branch, np.arange(start, min(start + DRAWS_AT_ONCE, size))) for start in starts)
        return sum(int((part > self.most).sum()) for part in parts)


class BudgetSampler(Order):
    """Global batches of consecutive draws, each filled until the next draw would exceed the budget.

    A structure that costs more than the budget is a batch of its own. Where a batch ends depends on where it begins and on the
    order alone, so any number of ranks makes the same ones, and the position in draws is all that a checkpoint needs. Batches
    are worked out some thousand draws at a time: an epoch's number of steps is not known before its end, and no list of all of
    its draws is ever made. The methods may be called by several threads.

    Args:
        sizes: Training structures of each branch, by branch index.
        budget: What a batch may cost.
        seed: Seed of the order.
        quotas: Draws of each branch in an epoch; None: each structure once.
    """

    def __init__(self, sizes: Mapping[int, int], budget: Budget, seed: int, quotas: Mapping[int, int] | None = None) -> None:
        super().__init__(sizes, seed, quotas)
        self.budget = budget
        self._lock = threading.Lock()
        self._take_up(0, 0, 0)

    def has(self, epoch: int, step: int) -> bool:
        """Say whether an epoch has that step."""
        return self.start(epoch, step) < self.draws_per_epoch

    def start(self, epoch: int, step: int) -> int:
        """Return the draws of an epoch before a step; all of them behind its last one."""
        with self._lock:
            self._reach(epoch, step)
            return self._starts[min(step - self._base, len(self._starts) - 1)]

    def go_on(self, epoch: int, step: int, start: int) -> None:
        """Take up an epoch at a step that begins with draw `start`; what was before it is not worked out."""
        with self._lock:
            self._take_up(epoch, step, start)

    def clock(self, epochs: int, epoch: int, step: int) -> tuple[int, int]:
        """Return what the decay of the learning rate goes by, and what that is in the end: draws.

        Steps would not do: how many there will be is known only when all epochs have been cut, and an epoch more or less over a
        slightly different order would shift the curve. Draws are known beforehand.
        """
        return epoch * self.draws_per_epoch + self.start(epoch, step), epochs * self.draws_per_epoch

    def total_steps(self, epochs: int, epoch: int, step: int) -> int:
        """Estimate the steps of so many epochs by those of one so far; for who watches, not for what is computed."""
        made = max(step, 1)
        return round(epochs * self.draws_per_epoch * made / max(self.start(epoch, made), 1))

    def batch(self, epoch: int, step: int) -> Batch:
        """Return the samples of one step, by branch: indices into the branch's training structures."""
        with self._lock:
            self._reach(epoch, step + 1)
            if step not in self._ready:
                first, last = (self.drawn(start) for start in self._starts[step - self._base :][:2])
                self._ready[step] = {b: self.samples(b, epoch, first[b], last[b]) for b in self.quotas if last[b] > first[b]}
            for passed in [k for k in self._ready if k < step - _KEPT]:
                del self._ready[passed]
            return self._ready[step]

    def _take_up(self, epoch: int, step: int, start: int) -> None:
        self._epoch, self._base = epoch, step
        self._starts, self._ready = [start], dict[int, Batch]()

    def _reach(self, epoch: int, step: int) -> None:
        """Work out the starts up to that of a step, or to the epoch's end."""
        if epoch != self._epoch or step < self._base:
            self._take_up(epoch, 0, 0)
        while len(self._starts) <= step - self._base and self._starts[-1] < self.draws_per_epoch:
            self._cut(epoch)

    def _cut(self, epoch: int) -> None:
        """Append the starts of some more batches, and keep the batches."""
        begin, length, cuts = self._starts[-1], DRAWS_AT_ONCE, [0]
        while len(cuts) == 1:  # more draws in a batch than were looked at
            end = min(begin + length, self.draws_per_epoch)
            first, last = self.drawn(begin), self.drawn(end)
            drawn = {b: self.samples(b, epoch, first[b], last[b]) for b in self.quotas if last[b] > first[b]}
            places = self._places({b: (first[b], last[b]) for b in drawn})
            costs = np.empty(end - begin, np.int64)
            for b, samples in drawn.items():
                costs[places[b]] = self.budget.of(b, samples)
            cuts = _fill(costs, self.budget.most, is_end=end == self.draws_per_epoch)
            length *= 2
        step = self._base + len(self._starts) - 1
        for number, (i, j) in enumerate(zip(cuts, cuts[1:], strict=False)):
            bounds = {b: np.searchsorted(places[b], (i, j)) for b in drawn}
            self._ready[step + number] = {b: drawn[b][k:m] for b, (k, m) in bounds.items() if m > k}
        self._starts.extend(begin + cut for cut in cuts[1:])

    def _places(self, spans: Mapping[int, tuple[int, int]]) -> dict[int, Indices]:
        """Return where the draws of each branch, from its k-th to its m-th, stand among those of all: `drawn`'s order.

        The times at which they fall due, (2k + 1)/quota, are compared exactly, whole and broken part of their 2³²-fold: two that
        differ do so by 2⁻⁶⁰ at least, since no branch has 2³⁰ draws.
        """
        due = {b: np.arange(*span, dtype=np.uint64) * np.uint64(2) + np.uint64(1) for b, span in spans.items()}
        scaled = {b: np.divmod(k << np.uint64(32), np.uint64(self.quotas[b])) for b, k in due.items()}
        whole = np.concatenate([each for each, _ in scaled.values()])
        broken = np.concatenate([rest / self.quotas[b] for b, (_, rest) in scaled.items()])
        branch = np.repeat(list(spans), [len(each) for each in due.values()])
        order = np.lexsort((branch, broken, whole))
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        return dict(zip(spans, np.split(rank, np.cumsum([len(each) for each in due.values()])[:-1]), strict=True))


def _fill(costs: Indices, most: int, *, is_end: bool) -> list[int]:
    """Return where to cut draws so that none of the pieces costs more than `most`, unless it is of one; the first cut is 0.

    What comes behind the last cut is not known to be a whole batch, and so is left for the next time, unless nothing follows.
    """
    filled, cuts = np.concatenate([[0], costs.cumsum()]), [0]
    while cuts[-1] < len(costs):
        stop = int(np.searchsorted(filled, filled[cuts[-1]] + most, "right")) - 1
        stop = max(stop, cuts[-1] + 1)
        if stop >= len(costs) and not is_end:
            break
        cuts.append(min(stop, len(costs)))
    return cuts
