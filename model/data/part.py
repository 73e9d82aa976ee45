"""A rank's part of one split of a store, read in blocks: no rank has more than a block of it in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model.data.block import ATOM_FIELDS, Block, concatenate, pack
from model.data.division import divide
from model.data.share import Share
from model.data.splits import NAMES, split
from model.data.store import Store
from model.parallel import Ranks
from model.specs import Division, Splits


@dataclass(frozen=True)
class Part:
    """What this rank has of a split.

    Attributes:
        share: Its share of the store.
        which: 0 train, 1 validation, 2 test.
        splits: What the store is divided by.
        divided: The split of each structure of the share, where a task is divided by rules of its own; None elsewhere.
        first: Place of its first structure in the split.
        total: Structures of the split, of all ranks.
        unit: Structures of the store that a block is made of at most; None: as many as are read at once.
    """

    share: Share
    which: int
    splits: Splits
    divided: NDArray[np.uint8] | None
    first: int
    total: int
    unit: int | None = None

    @classmethod
    def of(
        cls,
        store: Store,
        splits: Splits,
        name: str,
        ranks: Ranks,
        division: Division | None = None,
        unit: int | None = None,
    ) -> Part:
        """Return this rank's part; all ranks call.

        Args:
            store: The store.
            splits: What it is divided by.
            name: `train`, `validation` or `test`.
            ranks: Divide it.
            division: How it is divided where it does not go by `splits`.
            unit: Make each block of so many structures of the store: the same blocks, whatever the number of ranks.

        Raises:
            CampaignError: A shard cannot be read.
        """
        share, which = Share.of(store, ranks.rank, ranks.size, unit or 1), NAMES.index(name)
        divided = None if division is None else divide(outlines(store), splits, division)[share.start : share.stop]
        places = (split(names.identity, splits) for names in share.names()) if divided is None else [divided]
        counts = ranks.allgather(sum(int((part == which).sum()) for part in places))
        return cls(share, which, splits, divided, sum(counts[: ranks.rank]), sum(counts), unit)

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], Block]]:
        """Yield its structures in the order of the store, with their places in the split; no block is empty.

        Raises:
            CampaignError: A shard cannot be read.
        """
        place = self.first
        for number, block in self.share.blocks():
            start = number - self.share.start
            known = split(block.identity, self.splits) if self.divided is None else self.divided[start : start + len(block)]
            wanted, each = np.flatnonzero(known == self.which), self.unit or len(block)
            for rows in np.split(wanted, np.searchsorted(wanted, range(each, len(block), each))):
                if len(rows):
                    yield np.arange(place, place + len(rows)), block.take(rows)
                place += len(rows)


def outlines(store: Store) -> Block:
    """Return all structures of a store without their atoms: what tasks are divided by.

    Raises:
        CampaignError: A shard cannot be read.
    """
    return concatenate([pack([]), *(_outline(block) for _, block in Share.of(store, 0, 1).blocks())])


def _outline(block: Block) -> Block:
    atoms = {name: getattr(block, name)[:0] for name in ATOM_FIELDS}
    return replace(block, offsets=np.zeros_like(block.offsets), **atoms)
