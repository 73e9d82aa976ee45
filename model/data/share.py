"""A rank's contiguous share of a store, read in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from model.data.block import Block
from model.data.shard import Names, read_blocks, read_extent, read_names
from model.data.store import Store

BLOCK = 2048
"""Structures read at once: contiguous reads of a thousand and more are 80 times faster than single ones."""

_NAMES = 1 << 16
"""Structures whose numbers and identities are read at once: a few MB."""


@dataclass(frozen=True)
class Share:
    """Structures `start` to `stop` of a store."""

    store: Store
    start: int
    stop: int

    @classmethod
    def of(cls, store: Store, rank: int, size: int, unit: int = 1) -> Share:
        """Return one of `size` shares; they follow each other, and have about as many atoms each.

        The manifest tells the atoms of each shard; within a shard, structures count as equally large. Shares are whole units of
        so many structures, counted from the beginning of each shard: what is made of units does not depend on their number.
        """
        shards = store.manifest["shards"]
        structures, atoms = (np.cumsum([0, *(shard[n] for shard in shards)]) for n in ("structures", "atoms"))
        cuts = np.interp([atoms[-1] * k / size for k in (rank, rank + 1)], atoms, structures).round().astype(int)
        shard = np.searchsorted(structures, cuts, "right") - 1
        cuts -= (cuts - structures[shard]) % unit
        return cls(store, int(cuts[0]), int(cuts[1]))

    def __len__(self) -> int:
        return self.stop - self.start

    def extent(self) -> tuple[int, int]:
        """Return the atoms of the share, and the bytes of its longest id."""
        found = [read_extent(self.store.folder / folder, begin, end) for folder, begin, end in self._pieces()]
        return sum(atoms for atoms, _ in found), max((width for _, width in found), default=0)

    def names(self) -> Iterator[Names]:
        """Yield numbers and identities of the share in order, some ten thousand structures at a time.

        Raises:
            CampaignError: A shard cannot be read.
        """
        for folder, begin, end in self._pieces():
            for first in range(begin, end, _NAMES):
                yield read_names(self.store.folder / folder, first, min(first + _NAMES, end))

    def blocks(self) -> Iterator[tuple[int, Block]]:
        """Yield the share in order, each block with the number of its first structure in the store.

        Raises:
            CampaignError: A shard cannot be read.
        """
        place = self.start
        for folder, begin, end in self._pieces():
            for block in read_blocks(self.store.folder / folder, begin, end, BLOCK):
                yield place, block
                place += len(block)

    def _pieces(self) -> Iterator[tuple[str, int, int]]:
        """Yield each shard with a part of the share: folder, first and last structure in it."""
        first = 0
        for shard in self.store.manifest["shards"]:
            begin, end = max(self.start - first, 0), min(self.stop - first, shard["structures"])
            if begin < end:
                yield shard["folder"], begin, end
            first += shard["structures"]
