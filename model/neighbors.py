"""Neighbour lists of many structures at once, by vesin (github.com/Luthaf/vesin), in one canonical order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase.geometry import complete_cell
from numpy.typing import NDArray

from model.lean import without_torch

with without_torch():
    import vesin

TIE = 1e-6
"""Å; sorted distances less apart than this are a tie for the cap on neighbours, so that rounding decides nothing."""
_MARGIN = 1e-6
_SHORTEST_SEARCH = 2.0
"""Å; a cell list of much smaller bins than that costs more than the pairs it spares."""
_ATOMS_AT_ONCE = 4096


def neighbor_list(
    positions: NDArray[np.float64],
    offsets: NDArray[np.int64],
    cell: NDArray[np.float64],
    pbc: NDArray[np.bool_],
    cutoff: float,
    max_neighbors: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return all pairs with |x_j + S·cell − x_i| < cutoff within each structure, self-images included.

    Which pairs are within the cutoff is decided in float64 from the positions as they stand, whatever else
    is in the batch.

    Args:
        positions: Å, (num_atoms, 3).
        offsets: First atom of each structure, (n + 1,).
        cell: Lattice vectors as rows, Å, (n, 3, 3).
        pbc: Periodicity, (n, 3) bool.
        cutoff: Å.
        max_neighbors: Keep the nearest so many for each receiver; ties go to the lower sender, then shift.
            The graph is no longer symmetric then, and energies jump as neighbours change places.

    Returns:
        Edges (2, num_edges) int64, row 0 sender j, row 1 receiver i, counted over the batch, sorted by receiver,
        then sender, then shift; and the integer shifts S of the senders, (num_edges, 3) int32.
    """
    cell, pbc = np.asarray(cell, np.float64), np.asarray(pbc, bool)
    positions = np.asarray(positions, np.float64)
    periodic = pbc.any(axis=1)
    parts = [_open(positions, offsets, group, cutoff) for group in _groups(offsets, np.flatnonzero(~periodic))]
    parts += [_periodic(positions, offsets, k, (cell[k], pbc[k]), cutoff) for k in np.flatnonzero(periodic).tolist()]
    receiver, sender = (np.concatenate([np.zeros(0, np.int64), *(p[k] for p in parts)]) for k in (0, 1))
    shifts = np.concatenate([np.zeros((0, 3), np.int32), *(p[2] for p in parts)])
    distance = _distances(positions, (receiver, sender, shifts), cell, offsets)
    near = np.flatnonzero(distance < cutoff)
    order = near[_canonical_order(receiver[near], sender[near], shifts[near])]
    if max_neighbors is not None:
        order = order[_nearest(receiver[order], distance[order], max_neighbors)]
    return np.stack([sender[order], receiver[order]]), shifts[order]


def _groups(offsets: NDArray[np.int64], structures: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield structures in groups of a few thousand atoms: enough to hide the cost of a call."""
    sizes = (offsets[structures + 1] - offsets[structures]).cumsum()
    cuts = np.flatnonzero(np.diff(sizes // _ATOMS_AT_ONCE)) + 1
    yield from (group for group in np.split(structures, cuts) if len(group))


def _open(
    positions: NDArray[np.float64], offsets: NDArray[np.int64], group: NDArray[np.int64], cutoff: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """Find pairs of many isolated structures in one call: they are laid out in a row, further apart than the cutoff."""
    sizes = offsets[group + 1] - offsets[group]
    atoms = np.concatenate([np.arange(offsets[k], offsets[k + 1]) for k in group])
    start = np.concatenate([np.zeros(1, np.int64), sizes.cumsum()[:-1]])
    owner = np.repeat(np.arange(len(group)), sizes)
    points = positions[atoms]
    filled = sizes > 0
    low, high = (np.zeros((len(group), 3)) for _ in range(2))
    low[filled] = np.minimum.reduceat(points, start[filled])
    high[filled] = np.maximum.reduceat(points, start[filled])
    points = points - low[owner]
    widths = high[:, 0] - low[:, 0] + 1.01 * max(cutoff, _SHORTEST_SEARCH)
    points[:, 0] += (widths.cumsum() - widths)[owner]
    pairs, _ = _pairs(points, np.zeros((3, 3)), np.zeros(3, bool), cutoff)
    return atoms[pairs[:, 0]], atoms[pairs[:, 1]], np.zeros((len(pairs), 3), np.int32)


def _periodic(
    positions: NDArray[np.float64],
    offsets: NDArray[np.int64],
    k: int,
    box: tuple[NDArray[np.float64], NDArray[np.bool_]],
    cutoff: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    points = positions[offsets[k] : offsets[k + 1]]
    # A direction without periodicity may come without a lattice vector; vesin needs an invertible cell.
    cell = box[0] if box[1].all() else complete_cell(box[0])
    pairs, shifts = _pairs(points, cell, box[1], cutoff)
    pairs = pairs + offsets[k]
    return pairs[:, 0], pairs[:, 1], shifts


def _pairs(
    points: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_], cutoff: float
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return (receiver, sender) pairs a hair beyond the cutoff; the caller decides the edge cases."""
    if len(points) == 0:
        return np.zeros((0, 2), np.int64), np.zeros((0, 3), np.int32)
    search = vesin.NeighborList(cutoff=max(cutoff, _SHORTEST_SEARCH) + _MARGIN, full_list=True, n_threads=1)
    pairs, shifts = search.compute(points, cell, pbc, "PS")
    return pairs.astype(np.int64), shifts


def _distances(
    positions: NDArray[np.float64],
    edges: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]],
    cell: NDArray[np.float64],
    offsets: NDArray[np.int64],
) -> NDArray[np.float64]:
    receiver, sender, shifts = edges
    vectors = positions[sender] - positions[receiver]
    moved = np.flatnonzero(shifts.any(axis=1))
    structure = np.searchsorted(offsets, receiver[moved], side="right") - 1
    vectors[moved] += np.einsum("ei,eij->ej", shifts[moved].astype(np.float64), cell[structure])
    return np.sqrt(np.einsum("ej,ej->e", vectors, vectors))


def _canonical_order(receiver: NDArray[np.int64], sender: NDArray[np.int64], shifts: NDArray[np.int32]) -> NDArray[np.int64]:
    """Order by receiver, sender, shift, through one 64-bit key where it fits."""
    if len(receiver) == 0:
        return np.zeros(0, np.int64)
    atoms = int(max(receiver.max(), sender.max())) + 1
    reach = int(np.abs(shifts).max())
    width = 2 * reach + 1
    if atoms**2 * width**3 >= 2**63:
        return np.lexsort((shifts[:, 2], shifts[:, 1], shifts[:, 0], sender, receiver))
    key = receiver * atoms + sender
    if reach:
        for axis in range(3):
            key = key * width + (shifts[:, axis] + reach)
    return np.argsort(key, kind="stable")


def _nearest(receiver: NDArray[np.int64], distance: NDArray[np.float64], cap: int) -> NDArray[np.int64]:
    """Return which of the canonically ordered edges are among the `cap` nearest of their receiver, in order.

    A tie goes by gaps between sorted distances, not by bins: equal distances would fall to either side of a bin's edge.
    """
    rank = np.lexsort((distance, receiver))
    is_farther = np.ones(len(rank), bool)
    is_farther[1:] = (np.diff(distance[rank]) >= TIE) | (np.diff(receiver[rank]) > 0)
    tie = np.empty(len(rank), np.int64)
    tie[rank] = is_farther.cumsum()
    rank = np.argsort(tie, kind="stable")
    first = np.searchsorted(receiver[rank], receiver[rank], side="left")
    return np.sort(rank[np.arange(len(rank)) - first < cap])
