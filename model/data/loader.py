"""Collate structures of several branches into one graph, by one gather for each field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.block import Block, Edges
from model.data.references import References
from model.data.targets import Target
from model.graph import AtomGraph
from model.neighbors import neighbor_list

_STRUCTURES_AT_ONCE = 4096


def with_edges(block: Block, cutoff: float, max_neighbors: int | None) -> Block:
    """Return the block with neighbour lists built once, so that every later batch only gathers them.

    Costs 7 bytes for an edge (structures under 65,536 atoms); worth it where structures are drawn again.
    """
    spans = [np.arange(s, min(s + _STRUCTURES_AT_ONCE, len(block))) for s in range(0, len(block), _STRUCTURES_AT_ONCE)]
    plain = replace(block, edges=None)
    parts = [build_edges(plain.take(span), cutoff, max_neighbors) for span in spans]
    return replace(block, edges=_join_edges(parts, cutoff, max_neighbors))


def build_edges(block: Block, cutoff: float, max_neighbors: int | None) -> Edges:
    """Return the neighbour lists of a block, with atoms counted within each structure."""
    pairs, shifts = neighbor_list(block.positions, block.offsets, block.cell, block.pbc, cutoff, max_neighbors)
    structure = np.searchsorted(block.offsets, pairs[1], side="right") - 1
    sender, receiver = pairs - block.offsets[structure]
    index = np.uint16 if len(block) == 0 or block.num_atoms.max() < 2**16 else np.int32
    small = np.int8 if np.abs(shifts).max(initial=0) < 128 else np.int32
    offsets = np.searchsorted(structure, np.arange(len(block) + 1)).astype(np.int64)
    return Edges(cutoff, max_neighbors, offsets, sender.astype(index), receiver.astype(index), shifts.astype(small))


def collate(
    blocks: Sequence[tuple[int, Block]],
    cutoff: float,
    max_neighbors: int | None,
    references: Sequence[References | Target | None],
    dtype: torch.dtype,
) -> AtomGraph:
    """Return one graph of all structures, in the order given; energies become residuals.

    Args:
        blocks: Branch index and its structures; neighbour lists that `with_edges` built for the same cutoff
            and cap are used, otherwise they are made here.
        cutoff: Å.
        max_neighbors: Cap on neighbours, or None.
        references: Reference energies of each branch, by branch index; without, energies stay as they are. A branch with a
            target instead has that label alone.
        dtype: Floating type of the graph. Residuals and targets are formed in float64 before they are cast.
    """
    parts = [block for _, block in blocks]
    sizes = _join([b.num_atoms for b in parts], np.int64, ())
    edge_index, shifts = _edges(parts, cutoff, max_neighbors)
    has_target = any(isinstance(references[k], Target) for k, _ in blocks)
    labels = [_labels(references[k], b) for k, b in blocks]
    return AtomGraph(
        numbers=_tensor(_join([b.numbers for b in parts], np.int64, ())),
        positions=_tensor(_join([b.positions for b in parts], np.float64, (3,)), dtype),
        cell=_tensor(_join([b.cell for b in parts], np.float64, (3, 3)), dtype),
        edge_index=_tensor(edge_index),
        edge_shift=_tensor(shifts, dtype),
        graph=_tensor(np.repeat(np.arange(len(sizes)), sizes)),
        num_atoms=_tensor(sizes),
        branch=_tensor(np.repeat(np.array([k for k, _ in blocks], np.int64), [len(b) for b in parts])),
        charge=_tensor(_join([b.charge for b in parts], np.int64, ())),
        spin=_tensor(_join([b.spin for b in parts], np.int64, ())),
        energy=_tensor(_join([energy for energy, _, _ in labels], np.float64, ()), dtype),
        forces=_tensor(_join([forces for _, forces, _ in labels], np.float64, (3,)), dtype),
        target=_tensor(_join([target for _, _, target in labels], np.float64, ()), dtype) if has_target else None,
    )


def _edges(parts: Sequence[Block], cutoff: float, cap: int | None) -> tuple[NDArray[np.int64], NDArray]:
    """Return edges counted over the batch and their shifts, from prebuilt lists where they fit."""
    lists = [_edges_of(b, cutoff, cap) for b in parts]
    pairs = np.empty((2, sum(len(e.sender) for e in lists)), np.int64)
    atom = edge = 0
    for block, edges in zip(parts, lists, strict=True):
        places = slice(edge, edge + len(edges.sender))
        start = np.repeat(block.offsets[:-1] + atom, np.diff(edges.offsets))
        np.add(edges.sender, start, out=pairs[0, places])
        np.add(edges.receiver, start, out=pairs[1, places])
        atom, edge = atom + len(block.numbers), places.stop
    return pairs, _join([e.shift for e in lists], np.int32, (3,))


def _edges_of(block: Block, cutoff: float, cap: int | None) -> Edges:
    edges = block.edges
    if edges is not None and (edges.cutoff, edges.max_neighbors) == (cutoff, cap):
        return edges
    return build_edges(block, cutoff, cap)


def _labels(known: References | Target | None, block: Block) -> tuple[NDArray, NDArray, NDArray]:
    """Return residual energies, forces and targets of one branch's structures; NaN for those that it does not predict."""
    if isinstance(known, Target):
        nothing = np.full(len(block), np.nan)
        return nothing, np.full_like(block.forces, np.nan), known.normalize(block.target)
    energy = block.energy if known is None else block.energy - known.of(block.numbers, block.offsets)
    return energy, block.forces, np.full(len(block), np.nan)


def _join(arrays: Sequence[NDArray], dtype: type, shape: tuple[int, ...]) -> NDArray:
    if len(arrays) == 1:
        return arrays[0].astype(dtype, copy=False)
    return np.concatenate([np.zeros((0, *shape), dtype), *arrays]).astype(dtype, copy=False)


def _join_edges(parts: Sequence[Edges], cutoff: float, cap: int | None) -> Edges:
    counts = _join([np.diff(p.offsets) for p in parts], np.int64, ())
    offsets = np.concatenate([np.zeros(1, np.int64), counts.cumsum()])
    index = max((p.sender.dtype for p in parts), key=lambda t: t.itemsize, default=np.dtype(np.uint16))
    small = max((p.shift.dtype for p in parts), key=lambda t: t.itemsize, default=np.dtype(np.int8))
    sender, receiver = (_join([getattr(p, n) for p in parts], index.type, ()) for n in ("sender", "receiver"))
    return Edges(cutoff, cap, offsets, sender, receiver, _join([p.shift for p in parts], small.type, (3,)))


def _tensor(array: NDArray, dtype: torch.dtype | None = None) -> torch.Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor if dtype is None else tensor.to(dtype)
