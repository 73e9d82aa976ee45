"""Balance for `make bench-data`: edges of the ranks in each step, by equal counts and by a budget."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bench import timing
from model.data.budget import Budget, BudgetSampler
from model.data.sampling import Batch, Sampler, divide
from model.training.branches import cost_of

RANKS, PER_RANK = 8, 32
"""Ranks, and structures of each in a global batch by count, or on average by budget."""
Loads = list[NDArray[np.int64]]


def figures(num_atoms: NDArray[np.int64], num_edges: NDArray[np.int64]) -> timing.Figures:
    """Return how unequal ranks' edges are in one epoch, and print a table.

    Args:
        num_atoms: Atoms of each structure, (n,).
        num_edges: Edges of each structure, (n,).
    """
    size = {0: len(num_edges)}
    by_count = list(_batches(Sampler(size, RANKS * PER_RANK, seed=0)))
    most = round(RANKS * PER_RANK * float(num_edges.mean()))
    by_budget = list(_batches(BudgetSampler(size, Budget(most, {0: num_edges.__getitem__}), seed=0)))
    costs = cost_of(num_atoms, num_edges)
    arms = {
        "dealt": ("equal counts, dealt out in turn", [[batch[0][rank::RANKS] for rank in range(RANKS)] for batch in by_count]),
        "count": ("equal counts, divided by cost", [_divided(batch, costs) for batch in by_count]),
        "budget": ("filled to a budget, divided by cost", [_divided(batch, costs) for batch in by_budget]),
    }
    rows = [["", "within a step, dearest rank over mean", "dearest rank of all steps over mean of all"]]
    found: timing.Figures = {}
    for name, (words, parts) in arms.items():
        loads = [np.array([num_edges[part].sum() for part in ranks]) for ranks in parts[:-1]]  # the last one has what is left
        within, dearest = _within(loads), float(np.max(loads) / np.mean(loads))
        found |= {f"imbalance_{name}": within, f"dearest_{name}": dearest}
        rows.append([words, f"{within:.3f}", f"{dearest:.3f}"])
    about = f"{len(num_edges)} structures, {RANKS} ranks, {PER_RANK} structures a rank on average"
    timing.say_table(f"edges of ranks, {about}", rows)
    return found


def _batches(sampler: Sampler | BudgetSampler) -> Iterator[Batch]:
    step = 0
    while sampler.has(0, step):
        yield sampler.batch(0, step)
        step += 1


def _divided(batch: Batch, costs: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    parts = divide(batch, {0: costs[batch[0]]}, RANKS)
    return [part.get(0, np.zeros(0, np.int64)) for part in parts]


def _within(loads: Loads) -> float:
    return float(np.mean([each.max() / each.mean() for each in loads]))
