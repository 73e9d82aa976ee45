"""A rank's part of a split: together the split, in order, and never more than a block of the store in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from stores import SPLITS, emt_store

from model.data import share
from model.data.block import Block, concatenate, pack
from model.data.division import divide
from model.data.part import Part, outlines
from model.data.splits import NAMES
from model.data.store import Store
from model.parallel import Ranks
from model.specs import Division


@dataclass(frozen=True)
class OneOf(Ranks):
    """One of several ranks; it hears what `others` say, and is heard there where they still say nothing."""

    others: list[Any] = field(default_factory=list)

    def allgather(self, value: Any) -> list[Any]:
        self.others[self.rank] = value
        return self.others


def parts_of(store: Store, name: str, size: int, division: Division | None) -> list[Part]:
    heard: list[Any] = [0] * size
    for _ in range(2):  # the second time all have spoken
        parts = [Part.of(store, SPLITS, name, OneOf(rank, size, others=heard), division) for rank in range(size)]
    return parts


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(emt_store(tmp_path_factory.mktemp("store"), "copper", ("Cu", "Ni"), 41))


@pytest.mark.parametrize("division", [None, Division(by="row", folds=3, fold=1)])
@pytest.mark.parametrize("size", [1, 3, 50])
def test_parts_are_the_split_in_order(
    store: Store, size: int, division: Division | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(share, "BLOCK", 7)
    monkeypatch.setattr(share, "_NAMES", 5)
    whole = store.load()
    for which, name in enumerate(NAMES):
        expected = whole.take(divide(whole, SPLITS, division) == which)
        parts = parts_of(store, name, size, division)
        assert {part.total for part in parts} == {len(expected)}
        blocks = [each for part in parts for each in part.blocks()]
        assert all(0 < len(block) <= 7 for _, block in blocks)
        assert np.concatenate([places for places, _ in blocks]).tolist() == list(range(len(expected)))
        found = concatenate([pack([]), *(block for _, block in blocks)])
        assert np.array_equal(found.raw_ids, expected.raw_ids) and np.array_equal(found.positions, expected.positions)


@pytest.mark.parametrize("size", [2, 3, 7])
def test_units_do_not_depend_on_the_number_of_ranks(store: Store, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "BLOCK", 12)
    whole, several = [Ranks()], [OneOf(rank, size, others=[0] * size) for rank in range(size)]
    blocks = [
        [block.raw_ids.tolist() for ranks in each for _, block in Part.of(store, SPLITS, "train", ranks, unit=4).blocks()]
        for each in (whole, several)
    ]
    assert blocks[0] == blocks[1]


def test_outlines_have_all_but_atoms(store: Store) -> None:
    whole, found = store.load(), outlines(store)
    assert len(found) == len(whole) and len(found.numbers) == len(found.positions) == len(found.forces) == 0
    assert np.array_equal(found.raw_ids, whole.raw_ids) and np.array_equal(found.identity, whole.identity)
    assert np.array_equal(divide(found, SPLITS, Division(by="row")), divide(whole, SPLITS, Division(by="row")))
    assert isinstance(found, Block)


def test_no_store_is_read_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Block:
        raise AssertionError("the whole store")

    monkeypatch.setattr(Store, "load", refuse)
    assert Part.of(store, SPLITS, "test", Ranks(), Division(by="row")).total > 0
