"""Who holds a copy of a branch together, and which part of a store each rank reads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stores import emt_store

from model.data.block import concatenate
from model.data.groups import Group, by_node, replicas
from model.data.share import Share
from model.data.store import Store
from model.data.window import Form, Rows, Window
from model.outcome import CampaignError
from tests.structures import random_block


@given(size=st.integers(1, 40), per_node=st.integers(1, 9), width=st.none() | st.integers(1, 50))
def test_every_rank_is_in_one_group_of_at_least_the_width(size: int, per_node: int, width: int | None) -> None:
    hosts = [f"n{rank // per_node}" for rank in range(size)]
    groups = replicas(range(size), hosts, width)
    assert sorted(sum(groups, ())) == list(range(size))
    lengths = {len(group) for group in groups}
    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) >= min(width or size, size)
    if width is not None and width <= size:
        assert len(groups) == size // width


def test_groups_lie_along_nodes_though_ranks_do_not() -> None:
    """Ranks dealt out in turn: a group of two is still the two of one node."""
    hosts = ["a", "b", "c", "a", "b", "c"]
    assert replicas(range(6), hosts, 2) == [(0, 3), (1, 4), (2, 5)]
    assert replicas([1, 2, 4, 5], hosts, None) == [(1, 4, 2, 5)]
    assert by_node([hosts[rank] for rank in (1, 4, 2, 5)]) == ((0, 1), (2, 3))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(emt_store(tmp_path_factory.mktemp("store"), "copper", ("Cu", "Ni"), 23))


@pytest.mark.parametrize("size", [1, 2, 5, 40])
def test_shares_follow_each_other_and_are_the_store(store: Store, size: int) -> None:
    shares = [Share.of(store, rank, size) for rank in range(size)]
    assert [s.start for s in shares] == [0, *(s.stop for s in shares[:-1])] and shares[-1].stop == 23
    parts = [(first, block) for share in shares for first, block in share.blocks()]
    assert [first for first, _ in parts] == np.cumsum([0, *(len(b) for _, b in parts[:-1])]).tolist()
    whole, found = store.load(), concatenate([block for _, block in parts])
    assert np.array_equal(found.positions, whole.positions) and np.array_equal(found.raw_ids, whole.raw_ids)
    assert sum(share.extent()[0] for share in shares) == len(whole.numbers)
    assert max(share.extent()[1] for share in shares) == whole.raw_ids.dtype.itemsize


def test_what_is_more_than_was_reserved_is_refused() -> None:
    window = Window(Group(), Form(8), Rows(4, 400, 0))
    window.append(random_block(4))
    with pytest.raises(CampaignError, match="closer neighbours than matter has"):
        window.append(random_block(1))


def test_more_atoms_than_the_index_tells_apart_are_refused() -> None:
    with pytest.raises(CampaignError, match="2,000,000,000 atoms of one branch on a node"):
        Window(Group(), Form(8), Rows(10, 2 * 10**9, 0))


def test_memory_that_the_node_refuses_is_named() -> None:
    with pytest.raises(CampaignError, match="cannot be had"):
        Group().shared(np.uint8, (1 << 60,))
