"""A split of a branch, held by a group of ranks together: each holds its share, and any of them gets any structure.

The ranks of a node read each other's shares as plain memory, which they all map: a batch is one gather for each field, with no
call of MPI, whoever wrote the rows. Only what lies on another node is fetched through MPI windows, one-sided, a few contiguous
ranges for each structure. So one copy of the data is spread over the group's nodes, and a rank alone serves itself the same way.

The index, one on each node, is 16 bytes for a structure: where its atoms and edges begin with its owner (one number of 8), how
many atoms it has (4), how many edges (4). Its owner is found by bisection of the ranks' first structures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data.block import ATOM_FIELDS, STRUCTURE_FIELDS, Block, Edges, expand
from model.data.groups import Group
from model.data.remote import Exposed
from model.outcome import CampaignError

_ATOM_BITS = 30
MOST_ATOMS, MOST_EDGES = 1 << _ATOM_BITS, 1 << (64 - _ATOM_BITS)
"""Rows that the index can tell apart on a node: 1.07·10⁹ atoms and 1.7·10¹⁰ edges, 170 GB of one branch."""
_ATOM_TYPES: tuple[tuple[Any, tuple[int, ...]], ...] = ((np.uint8, ()), (np.float64, (3,)), (np.float64, (3,)))

_KINDS = ("structures", "atoms", "atoms", "atoms", "edges")
"""What the rows of each array are."""


@dataclass(frozen=True)
class Form:
    """How rows are held; the same on all ranks of a group.

    Attributes:
        id_width: Bytes of the longest id.
        cutoff: Å, of the neighbour lists; None holds none.
        max_neighbors: Their cap.
        wide: Hold cell shifts as int32 instead of int8, and atoms within a structure as int32 instead of uint16.
    """

    id_width: int
    cutoff: float | None = None
    max_neighbors: int | None = None
    wide: bool = False

    @property
    def structure(self) -> np.dtype[Any]:
        """Return the type of a structure's row."""
        matrix = (np.float64, (3, 3))
        types = (matrix, (np.bool_, (3,)), np.float64, matrix, np.int16, np.int16, np.uint64, np.float64, f"S{self.id_width}")
        return np.dtype(list(zip(STRUCTURE_FIELDS, types, strict=True)), align=True)

    @property
    def edge(self) -> np.dtype[Any]:
        """Return the type of an edge's row: 7 bytes, or 20."""
        index, shift = (np.int32, np.int32) if self.wide else (np.uint16, np.int8)
        return np.dtype([("sender", index), ("receiver", index), ("shift", shift, (3,))])

    def holds(self, edges: Edges | None) -> bool:
        """Say whether the rows are wide enough for these lists."""
        if edges is None or self.wide:
            return True
        return edges.sender.dtype.itemsize <= 2 and edges.shift.dtype.itemsize == 1


@dataclass(frozen=True)
class Rows:
    """How many rows of each kind a rank may write; what it does not write takes no memory."""

    structures: int
    atoms: int
    edges: int


class Window:
    """Structures of a group of ranks. First every rank appends its own, then all of them seal it, then any takes any.

    Args:
        group: The ranks; all of them make it.
        form: How rows are held.
        room: How many this rank may write.

    Raises:
        CampaignError: More rows on this node than the index can tell apart, or than there is memory for.
    """

    def __init__(self, group: Group, form: Form, room: Rows) -> None:
        self._group, self.form = group, form
        rooms = group.allgather(room)
        near = group.neighbors
        totals = Rows(*(sum(getattr(rooms[r], each) for r in near) for each in ("structures", "atoms", "edges")))
        if totals.atoms > MOST_ATOMS or totals.edges > MOST_EDGES:
            raise CampaignError(f"{totals.atoms:,} atoms of one branch on a node", "branches", "Use more nodes.")
        before = [r for r in near if r < group.rank]
        self._base = Rows(*(sum(getattr(rooms[r], each) for r in before) for each in ("structures", "atoms", "edges")))
        self._room, self._used = room, Rows(0, 0, 0)
        atoms = [group.shared(np.dtype(kind), (totals.atoms, *tail)) for kind, tail in _ATOM_TYPES]
        self._written = [group.shared(form.structure, (totals.structures,)), *atoms, group.shared(form.edge, (totals.edges,))]
        self._counts: list[tuple[NDArray[np.uint32], NDArray[np.uint32]]] = []
        self._exposed: Exposed | None = None

    def append(self, block: Block) -> None:
        """Write this rank's next structures.

        Raises:
            CampaignError: There is no room left.
        """
        edges = None if self.form.cutoff is None else block.edges
        num_edges = np.zeros(len(block), np.int64) if edges is None else np.diff(edges.offsets)
        used, room = self._used, self._room
        after = Rows(used.structures + len(block), used.atoms + len(block.numbers), used.edges + int(num_edges.sum()))
        if after.structures > room.structures or after.atoms > room.atoms or after.edges > room.edges:
            what = f"{after} of room for {room}: closer neighbours than matter has"
            raise CampaignError(what, "branches", "Verify the store, or set `model.max_neighbors`.")
        structures = _packed(self.form.structure, {name: getattr(block, name) for name in STRUCTURE_FIELDS}, len(block))
        arrays = [structures, *(getattr(block, name) for name in ATOM_FIELDS)]
        if edges is not None:
            names = self.form.edge.names or ()
            arrays.append(_packed(self.form.edge, {name: getattr(edges, name) for name in names}, len(edges.sender)))
        for shared, array, kind in zip(self._written, arrays, _KINDS, strict=False):
            shared.write(self._at(used, kind), array)
        self._counts.append((block.num_atoms.astype(np.uint32), num_edges.astype(np.uint32)))
        self._used = after

    def seal(self) -> None:
        """Exchange the index and open the shares to the others; all ranks of the group call."""
        group = self._group
        self._rows, *self._atoms, self._edges = [each.sealed() for each in self._written]
        atoms, edges = (np.concatenate([np.zeros(0, np.uint32), *parts]) for parts in self._unzipped())
        self.bounds = np.cumsum([0, *group.allgather(len(atoms))])
        first, last = self.bounds[group.rank : group.rank + 2].tolist()
        total = int(self.bounds[-1])
        index = [group.shared(np.dtype(kind), (total,)).sealed() for kind in ("u8", "u4", "u4")]
        self._first, self._num_atoms, self._num_edges = index
        starts = [np.cumsum(each, dtype=np.uint64) - each for each in (atoms, edges)]
        self._first[first:last] = starts[0] + (starts[1] << np.uint64(_ATOM_BITS))
        self._num_atoms[first:last], self._num_edges[first:last] = atoms, edges
        for array in (self._first, self._num_atoms, self._num_edges):
            group.exchange(array, self.bounds)
        self._first[first:last] += np.uint64(self._base.atoms + (self._base.edges << _ATOM_BITS))
        bases = np.array(group.allgather(self._base.structures))
        self._near = self.bounds[[group.neighbors[0], group.neighbors[-1] + 1]]
        self._shift = bases - self.bounds[:-1]
        self._counts = []
        if len(group.nodes) > 1:
            self._exposed = Exposed(group.communicator, self._own())
        group.meet()

    def __len__(self) -> int:
        return int(self.bounds[-1])

    def num_atoms(self, indices: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the atoms of some structures."""
        return self._num_atoms[indices].astype(np.int64)

    def num_edges(self, indices: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the edges of some structures; zeros without neighbour lists."""
        return self._num_edges[indices].astype(np.int64)

    def total_atoms(self) -> int:
        """Return the atoms of all structures."""
        return int(self._num_atoms.sum(dtype=np.int64))

    def total_edges(self) -> int:
        """Return the edges of all structures."""
        return int(self._num_edges.sum(dtype=np.int64))

    def take(self, indices: NDArray[np.integer]) -> Block:
        """Return any structures of the group, in the order of `indices`; no other rank takes part.

        Raises:
            PeerLost: Another node's rank is gone.
        """
        rows = np.asarray(indices, np.int64)
        near = (rows >= self._near[0]) & (rows < self._near[1])
        return self._gather(rows) if near.all() else self._fetch(rows, near)

    def close(self) -> None:
        """Close the shares to the others; all ranks of the group call. The memory goes with the last array that uses it."""
        if self._exposed is not None:
            self._exposed.close()
            self._exposed = None

    def _gather(self, rows: NDArray[np.int64]) -> Block:
        """Return structures of this node."""
        first = self._first[rows]
        atoms, offsets = expand((first & np.uint64(MOST_ATOMS - 1)).astype(np.int64), self.num_atoms(rows))
        structures = self._rows.take(rows + self._shift[self._owners(rows)])
        edges = None
        if self.form.cutoff is not None:
            links, edge_offsets = expand((first >> np.uint64(_ATOM_BITS)).astype(np.int64), self.num_edges(rows))
            edges = self._as_edges(edge_offsets, self._edges.take(links))
        return _block(offsets, structures, [array.take(atoms, axis=0) for array in self._atoms], edges)

    def _fetch(self, rows: NDArray[np.int64], near: NDArray[np.bool_]) -> Block:
        """Return structures of any node: others' by one-sided reads straight into place, meanwhile this node's by gathers."""
        offsets, edge_offsets = (np.cumsum([0, *counts]) for counts in (self.num_atoms(rows), self.num_edges(rows)))
        structures = np.empty(len(rows), self.form.structure)
        atoms = [np.empty((int(offsets[-1]), *array.shape[1:]), array.dtype) for array in self._atoms]
        links = np.empty(int(edge_offsets[-1]), self.form.edge)
        self._request(rows, near, (offsets, edge_offsets), [structures, *atoms, links])
        here = np.flatnonzero(near)
        part = self._gather(rows[here])
        for name in STRUCTURE_FIELDS:
            structures[name][here] = getattr(part, name)
        places, _ = expand(offsets[here], part.num_atoms)
        for array, name in zip(atoms, ATOM_FIELDS, strict=True):
            array[places] = getattr(part, name)
        if part.edges is not None:
            places, _ = expand(edge_offsets[here], np.diff(part.edges.offsets))
            for name in self.form.edge.names or ():
                links[name][places] = getattr(part.edges, name)
        if self._exposed is not None:
            self._exposed.finish()
        edges = None if self.form.cutoff is None else self._as_edges(edge_offsets, links)
        return _block(offsets, structures, atoms, edges)

    def _request(
        self, rows: NDArray[np.int64], near: NDArray[np.bool_], offsets: tuple[NDArray[np.int64], ...], into: list[NDArray[Any]]
    ) -> None:
        far = np.flatnonzero(~near)
        owners = self._owners(rows[far])
        places = (rows[far] - self.bounds[owners]).tolist()
        firsts = self._first[rows[far]].tolist()
        assert self._exposed is not None  # sealed, and with another node, otherwise nothing is far
        for k, owner, place, first in zip(far.tolist(), owners.tolist(), places, firsts, strict=True):
            atoms, edges = slice(*offsets[0][k : k + 2].tolist()), slice(*offsets[1][k : k + 2].tolist())
            self._exposed.read(0, owner, place, into[0][k : k + 1])
            for each in (1, 2, 3):
                self._exposed.read(each, owner, first & (MOST_ATOMS - 1), into[each][atoms])
            self._exposed.read(4, owner, first >> _ATOM_BITS, into[4][edges])

    def _owners(self, rows: NDArray[np.int64]) -> NDArray[np.intp]:
        return np.searchsorted(self.bounds, rows, side="right") - 1

    def _own(self) -> list[NDArray[Any]]:
        """Return what this rank has written."""
        arrays, nothing = (self._rows, *self._atoms, self._edges), Rows(0, 0, 0)
        return [a[self._at(nothing, kind) : self._at(self._used, kind)] for a, kind in zip(arrays, _KINDS, strict=True)]

    def _at(self, used: Rows, kind: str) -> int:
        return int(getattr(self._base, kind) + getattr(used, kind))

    def _unzipped(self) -> tuple[list[NDArray[np.uint32]], list[NDArray[np.uint32]]]:
        return [atoms for atoms, _ in self._counts], [edges for _, edges in self._counts]

    def _as_edges(self, offsets: NDArray[np.int64], rows: NDArray[Any]) -> Edges:
        assert self.form.cutoff is not None
        fields = {name: rows[name] for name in self.form.edge.names or ()}
        return Edges(self.form.cutoff, self.form.max_neighbors, offsets, **fields)


def _block(offsets: NDArray[np.int64], rows: NDArray[Any], atoms: list[NDArray[Any]], edges: Edges | None) -> Block:
    fields: dict[str, Any] = {name: rows[name] for name in STRUCTURE_FIELDS} | dict(zip(ATOM_FIELDS, atoms, strict=True))
    return Block(offsets=offsets, edges=edges, **fields)


def _packed(dtype: np.dtype[Any], fields: dict[str, NDArray[Any]], count: int) -> NDArray[Any]:
    rows = np.zeros(count, dtype)
    for name, array in fields.items():
        rows[name] = array
    return rows
