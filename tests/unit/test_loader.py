"""Blocks are gathered and collated without changing a number."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from model.data.block import Block, concatenate, hash_identity, pack
from model.data.loader import build_edges, collate, with_edges
from model.data.references import References
from model.data.splits import counts, split
from model.data.structure import UNLABELLED
from model.specs import Splits
from tests.structures import random_block, random_structure

CUTOFF = 3.5


def test_packing_keeps_every_field() -> None:
    random = np.random.default_rng(0)
    structures = [random_structure(random, f"é{k}") for k in range(7)]
    block = pack(structures)
    for k, s in enumerate(structures):
        a, b = block.offsets[k : k + 2]
        assert np.array_equal(block.numbers[a:b], s.numbers)
        assert np.array_equal(block.positions[a:b], s.positions)
        assert np.array_equal(block.forces[a:b], s.forces)
        assert np.array_equal(block.cell[k], s.cell)
        assert np.array_equal(block.pbc[k], s.pbc)
        assert (block.energy[k], block.charge[k], block.spin[k], block.ids[k]) == (s.energy, s.charge, s.spin, s.id)
        assert np.isnan(block.stress[k]).all() if s.stress is None else np.array_equal(block.stress[k], s.stress)
    assert len(set(block.identity.tolist())) == 7


def test_missing_labels_are_nan_and_unlabelled() -> None:
    bare = replace(random_structure(np.random.default_rng(0)), forces=None, energy=np.nan, charge=UNLABELLED)
    block = pack([bare])
    assert np.isnan(block.forces).all() and np.isnan(block.energy).all()
    assert block.charge[0] == UNLABELLED


def test_take_is_packing_the_chosen_ones() -> None:
    random = np.random.default_rng(1)
    structures = [random_structure(random, str(k)) for k in range(9)]
    chosen = [7, 0, 0, 3]
    same(pack(structures).take(chosen), pack([structures[k] for k in chosen]))
    same(pack(structures).take(np.arange(9) % 2 == 0), pack(structures[::2]))
    same(pack(structures).take([]), pack([]))
    same(concatenate([pack(structures[:4]), pack(structures[4:])]), pack(structures))


def test_prebuilt_edges_are_those_made_in_place() -> None:
    block = random_block(40)
    ready = with_edges(block, CUTOFF, None)
    chosen = np.array([31, 2, 2, 17])
    taken, fresh = ready.take(chosen).edges, build_edges(block.take(chosen), CUTOFF, None)
    assert taken is not None
    for field in ("offsets", "sender", "receiver", "shift"):
        assert np.array_equal(getattr(taken, field), getattr(fresh, field)), field
    assert taken.sender.dtype == np.uint16 and taken.shift.dtype == np.int8
    graphs = [collate([(0, b.take(chosen))], CUTOFF, None, [None], torch.float64) for b in (block, ready)]
    first, second = ({f.name: getattr(g, f.name) for f in fields(g) if f.name != "target"} for g in graphs)
    assert all(torch.equal(first[name].nan_to_num(7), second[name].nan_to_num(7)) for name in first)
    assert graphs[0].target is graphs[1].target is None


def test_edges_for_another_cutoff_are_not_used() -> None:
    block = random_block(5, periodic=True)
    ready = with_edges(block, 2.0, None)
    fresh, used = (collate([(0, b)], CUTOFF, 6, [None], torch.float64) for b in (block, ready))
    assert torch.equal(fresh.edge_index, used.edge_index)
    assert fresh.edge_index.shape[1] > ready.edges.offsets[-1]


def test_a_batch_of_branches_is_one_graph() -> None:
    blocks = [(1, random_block(3, 1)), (0, random_block(4, 2)), (2, random_block(0))]
    graph = collate(blocks, CUTOFF, None, [None] * 3, torch.float64)
    parts = [collate([(b, x)], CUTOFF, None, [None] * 3, torch.float64) for b, x in blocks[:2]]
    first = len(blocks[0][1].numbers)
    assert torch.equal(graph.edge_index, torch.cat([parts[0].edge_index, parts[1].edge_index + first], dim=1))
    assert torch.equal(graph.edge_shift, torch.cat([p.edge_shift for p in parts]))
    assert graph.branch.tolist() == [1] * 3 + [0] * 4
    assert torch.equal(graph.positions, torch.cat([p.positions for p in parts]))
    assert torch.equal(graph.graph, torch.repeat_interleave(torch.arange(7), graph.num_atoms))
    assert graph.edge_vectors().norm(dim=1).max() < CUTOFF
    assert torch.all(graph.edge_index[1].diff() >= 0)


def test_residuals_are_formed_before_rounding() -> None:
    """At 1.5e5 eV float32 knows 0.016 eV; the residual must keep its millielectronvolts."""
    block = random_block(6, periodic=False)
    references = References(dict.fromkeys((1, 6, 7, 8, 29), -50000.0), 1.0, 1.0, 6, 1, Splits())
    residual = np.array([0.001, -0.002, 0.003, np.nan, 0.0, 0.25])
    labelled = replace(block, energy=references.of(block.numbers, block.offsets) + residual)
    graph = collate([(0, labelled)], CUTOFF, None, [references], torch.float32)
    assert graph.energy.numpy() == pytest.approx(residual, abs=1e-7, nan_ok=True)
    assert graph.energy.dtype == graph.positions.dtype == graph.edge_shift.dtype == torch.float32


def test_the_dearest_index_types_serve_large_structures() -> None:
    numbers = np.ones(70_000, np.uint8)
    line = np.zeros((70_000, 3))
    line[:, 0] = np.arange(70_000) * 3.0
    template = random_structure(np.random.default_rng(0), periodic=False)
    block = pack([replace(template, numbers=numbers, positions=line, forces=None)])
    edges = build_edges(block, CUTOFF, None)
    assert edges.sender.dtype == np.int32
    assert edges.offsets[-1] == 2 * 69_999
    assert int(edges.sender.max()) == 69_999


def test_splits_are_shares_by_identity() -> None:
    random = np.random.default_rng(0)
    identity = random.integers(0, 2**63, 20_000).astype(np.uint64)
    splits = Splits(validation=0.1, test=0.2)
    found = split(identity, splits)
    assert np.bincount(found) / 20_000 == pytest.approx([0.7, 0.1, 0.2], abs=0.01)
    assert np.array_equal(split(identity[::-1], splits), found[::-1])
    assert not np.array_equal(split(identity, Splits(seed=1, validation=0.1, test=0.2)), found)
    assert sum(counts(identity, splits).values()) == 20_000
    # Frozen: the split of an identity must never change between versions.
    assert split(np.arange(12, dtype=np.uint64), splits).tolist() == [0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2, 0]
    assert hash_identity("molecule:H2O1") == 13929016823529108098


def same(a: Block, b: Block) -> None:
    for field in fields(Block):
        x, y = getattr(a, field.name), getattr(b, field.name)
        assert (x is None and y is None) or np.array_equal(x, y, equal_nan=x.dtype.kind == "f"), field.name
