"""Which rank holds which branches; imports no torch."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

ATOM_COST = 5
"""Cost of an atom over that of an edge in a training step; 3 to 9 by backbone and width, measured on one core."""


@dataclass(frozen=True)
class Layout:
    """The ranks that hold each branch.

    Attributes:
        holders: For each branch, the ranks that hold it, ascending, never none.
        size: Number of ranks.
    """

    holders: tuple[tuple[int, ...], ...]
    size: int

    def branches_of(self, rank: int) -> tuple[int, ...]:
        """Return the branches that a rank holds, ascending."""
        return tuple(branch for branch, ranks in enumerate(self.holders) if rank in ranks)

    def describe(self, names: Sequence[str]) -> dict[str, list[int]]:
        """Return the ranks of each branch by name, for the record."""
        return {name: list(ranks) for name, ranks in zip(names, self.holders, strict=True)}


def data_parallel(num_branches: int, size: int) -> Layout:
    """Let every rank hold every branch."""
    return Layout((tuple(range(size)),) * num_branches, size)


def branch_parallel(loads: Sequence[float], size: int) -> Layout:
    """Give each rank its own branch or branches.

    With as many ranks as branches or more, each branch has ranks of its own, in proportion to its load: the
    next rank always goes to the branch with most load a rank. With fewer ranks, each branch has one rank: the
    heaviest branch first, to the rank with least so far.

    Args:
        loads: p_b × mean cost of a structure, for each branch.
        size: Number of ranks.
    """
    if size >= len(loads):
        return _ranks_to_branches(loads, size)
    return _branches_to_ranks(loads, size)


def _ranks_to_branches(loads: Sequence[float], size: int) -> Layout:
    counts = [1] * len(loads)
    for _ in range(size - len(loads)):
        counts[max(range(len(loads)), key=lambda b: (loads[b] / counts[b], -b))] += 1
    starts = [sum(counts[:branch]) for branch in range(len(loads))]
    return Layout(tuple(tuple(range(s, s + c)) for s, c in zip(starts, counts, strict=True)), size)


def _branches_to_ranks(loads: Sequence[float], size: int) -> Layout:
    holders: list[tuple[int, ...]] = [()] * len(loads)
    filled = [(0.0, 0, rank) for rank in range(size)]
    for branch in sorted(range(len(loads)), key=lambda b: (-loads[b], b)):
        load, count, rank = filled[0]
        holders[branch] = (rank,)
        heapq.heapreplace(filled, (load + loads[branch], count + 1, rank))
    return Layout(tuple(holders), size)
