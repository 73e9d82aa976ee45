"""What a training draws: each branch's draws in an epoch, in batches of equal count or of equal cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from model.config import TrainConfig
from model.data.budget import Budget, BudgetSampler
from model.data.groups import SharedRows, join
from model.data.sampling import Sampler
from model.data.window import Window
from model.draws import Portion, quotas
from model.parallel import Ranks
from model.specs import BatchBudget, BranchSpec
from model.training.branches import Data

AnySampler = Sampler | BudgetSampler
Counts = Callable[[NDArray[np.int64]], NDArray[np.int64]]
_AT_ONCE = 1 << 20
"""Counts that are handed round at once: 4 MB."""


def sampler_of(config: TrainConfig, data: Data, ranks: Ranks) -> AnySampler:
    """Return the order of samples; all ranks call, and get the same one.

    Raises:
        CampaignError: The shares of draws leave nothing for a branch without one.
    """
    sizes = {b: summary.num_train for b, summary in enumerate(data.summaries)}
    specs = [config.branches[name] for name in data.names]
    drawn = quotas(portions(specs, list(sizes.values())), config.fraction, config.temperature)
    if not isinstance(config.batch, BatchBudget):
        return Sampler(sizes, config.batch, config.seed, drawn)
    return BudgetSampler(sizes, Budget(config.batch.most, _costs(config.batch, data, ranks)), config.seed, drawn)


def portions(specs: Sequence[BranchSpec], sizes: Sequence[int]) -> dict[int, Portion]:
    """Return what each branch's keys ask for, with its number of structures."""
    return {b: Portion(size, spec.share, spec.draws) for b, (spec, size) in enumerate(zip(specs, sizes, strict=True))}


def shortcomings(sampler: AnySampler, names: Sequence[str]) -> list[str]:
    """Say which branches are never drawn, and which structures no budget holds."""
    undrawn = [name for b, name in enumerate(names) if b not in sampler.quotas]
    notes = [f"no structure of {', '.join(undrawn)} is ever drawn: raise its share, or `fraction`"] if undrawn else []
    if isinstance(sampler, BudgetSampler):
        for b in sampler.quotas:
            if count := sampler.budget.num_above(b, sampler.sizes[b]):
                what = f"{count} of {sampler.sizes[b]} structures of {names[b]}"
                notes.append(f"{what} alone exceed a batch's budget of {sampler.budget.most}: each is a batch of its own")
    return notes


def _costs(budget: BatchBudget, data: Data, ranks: Ranks) -> dict[int, Counts]:
    """Return the counts of each branch's training structures: of windows, or for branches that others hold of a copy a node."""
    own: dict[int, Counts] = {b: _counted(budget, branch.train) for b, branch in data.own.items()}
    others = [b for b, holders in enumerate(data.layout.holders) if len(holders) < ranks.size]
    if not others:
        return own
    here = [rank for rank, host in enumerate(ranks.hosts) if host == ranks.hosts[ranks.rank]]
    node = join(ranks, here)
    received: dict[int, Counts] = {}
    for b in others:
        copy = node.shared(np.dtype(np.uint32), (data.summaries[b].num_train,))
        _hand_round(copy, own.get(b), data.layout.holders[b][0], ranks, writes=ranks.rank == here[0])
        node.meet()
        received[b] = copy.sealed().__getitem__
    node.close()
    return received | own


def _counted(budget: BatchBudget, window: Window) -> Counts:
    return window.num_edges if budget.edges is not None else window.num_atoms


def _hand_round(copy: SharedRows, own: Counts | None, root: int, ranks: Ranks, *, writes: bool) -> None:
    """Let one rank tell all others its counts, of which one on each node writes them down."""
    size = len(copy.rows)
    for first in range(0, size, _AT_ONCE):
        stop = min(first + _AT_ONCE, size)
        part = np.empty(stop - first, np.uint32)
        if ranks.rank == root:
            assert own is not None  # it holds the branch
            part[:] = own(np.arange(first, stop))
        ranks.communicator.Bcast(part, root=root)
        if writes:
            copy.write(first, part)
