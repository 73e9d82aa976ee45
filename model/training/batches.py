"""Global batches, and the part of each that this rank computes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from model.config import TrainConfig
from model.data.budget import BudgetSampler
from model.data.loader import collate
from model.data.sampling import Batch, dealt, divided
from model.data.window import Window
from model.graph import AtomGraph
from model.training.ahead import Ahead
from model.training.branches import Data, cost_of
from model.training.drawing import AnySampler

_GATHERED = 256
"""Structures gathered at once: a call of numpy or torch costs as much as some ten structures."""
_BY_COST = 65_536
"""Structures of a validation split that are divided by cost; of more, each rank gets so many that costs are alike anyway."""


class Batches:
    """This rank's part of every global batch, as a pure function of epoch and step.

    Branches that the same ranks hold are divided together, so that a batch is balanced by cost whatever
    branches its structures belong to.

    Args:
        config: The training.
        sampler: Global batches.
        data: What this rank holds.
        rank: This rank.
        dtype: Floating type of the graphs.
        device: Device of the graphs.
    """

    def __init__(
        self, config: TrainConfig, sampler: AnySampler, data: Data, rank: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._data, self._rank, self.sampler = data, rank, sampler
        self._spec, self._dtype, self._device = config.model, dtype, device
        # Filled batches are made one by one: a training that goes on in an epoch's middle then makes each in the same call.
        self._at_once = 1 if isinstance(sampler, BudgetSampler) else max(1, _GATHERED // sampler.batch_size)
        self._ahead = Ahead(self._graphs, lambda epoch, number: sampler.has(epoch, number * self._at_once))
        self._validation = self._validation_parts(config.evaluated_at_once(data.layout.size))
        self._labelled_by = [data.own[b].summary.labelled_by for b in sorted(data.own)]

    def graph(self, epoch: int, step: int) -> AtomGraph | None:
        """Return this rank's part of a training batch; None where it has none. The next ones are made meanwhile."""
        return self._ahead.get(epoch, step // self._at_once)[step % self._at_once]

    def ids(self, epoch: int, step: int) -> list[str]:
        """Name the structures of this rank's part, in the order of the graph: `branch/id`."""
        part = self._part(self.sampler.batch(epoch, step), "train")
        return [f"{self._data.names[b]}/{i}" for b in sorted(part) for i in self._data.own[b].train.take(part[b]).ids]

    def validation(self) -> Iterator[AtomGraph]:
        """Yield this rank's part of the validation split in batches."""
        for part in self._validation:
            yield from (graph for graph in self._collate([part], "validation") if graph is not None)

    def num_validation_batches(self) -> int:
        """Return how many batches `validation` yields on this rank."""
        return len(self._validation)

    def close(self) -> None:
        """Make nothing more ahead."""
        self._ahead.close()

    def _validation_parts(self, most: int) -> list[Batch]:
        sizes = {b: len(branch.validation) for b, branch in self._data.own.items()}
        part: Batch = {}
        for members, ours in self._together().items():
            if sum(sizes[b] for b in ours) <= _BY_COST:
                part |= self._part_of(members, {b: np.arange(sizes[b]) for b in ours}, "validation")
            else:
                part |= dealt({b: sizes[b] for b in ours}, len(members), members.index(self._rank))
        starts = [(b, start) for b in sorted(part) for start in range(0, len(part[b]), most)]
        return [{b: part[b][start : start + most]} for b, start in starts]

    def _part(self, batch: Batch, split: str) -> Batch:
        part: Batch = {}
        for members, ours in self._together().items():
            part |= self._part_of(members, {b: batch[b] for b in ours if b in batch}, split)
        return part

    def _part_of(self, members: tuple[int, ...], ours: Batch, split: str) -> Batch:
        """Return this rank's part of structures whose branches the same ranks hold."""
        windows = {b: self._window(b, split) for b in ours}
        weights = {b: cost_of(windows[b].num_atoms(ours[b]), windows[b].num_edges(ours[b])) for b in ours}
        return divided(ours, weights, len(members), members.index(self._rank))

    def _together(self) -> dict[tuple[int, ...], list[int]]:
        """Return this rank's branches by the ranks that hold them."""
        holders = {b: self._data.layout.holders[b] for b in self._data.own}
        return {members: [b for b in holders if holders[b] == members] for members in sorted(set(holders.values()))}

    def _graphs(self, epoch: int, number: int) -> list[AtomGraph | None]:
        steps = [step for step in range(number * self._at_once, (number + 1) * self._at_once) if self.sampler.has(epoch, step)]
        return self._collate([self._part(self.sampler.batch(epoch, step), "train") for step in steps], "train")

    def _collate(self, parts: Sequence[Batch], split: str) -> list[AtomGraph | None]:
        """Return a graph of each part: one gather for each field and branch over all of them, collated once and cut."""
        order = [(part, b) for part in parts for b in sorted(part)]
        pieces = {b: [part[b] for part in parts if b in part] for _, b in order}
        whole = {b: self._window(b, split).take(np.concatenate(rows)) for b, rows in pieces.items()}
        if not whole:
            return [None] * len(parts)
        local = {b: k for k, b in enumerate(sorted(self._data.own))}
        blocks = [(local[b], block) for b, block in whole.items()]
        if len(whole) > 1:
            taken = dict.fromkeys(whole, 0)
            blocks.clear()
            for part, b in order:
                blocks.append((local[b], whole[b].span(taken[b], taken[b] + len(part[b]))))
                taken[b] += len(part[b])
        graph = collate(blocks, self._spec.cutoff, self._spec.max_neighbors, self._labelled_by, self._dtype)
        stops = np.cumsum([0, *(sum(map(len, part.values())) for part in parts)]).tolist()
        return [each.to(self._device) if each.num_graphs else None for each in graph.cut(stops)]

    def _window(self, branch: int, split: str) -> Window:
        own = self._data.own[branch]
        return own.train if split == "train" else own.validation
