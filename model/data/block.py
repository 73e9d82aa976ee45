"""Many structures as concatenated arrays: the form in which they are stored, sampled and collated."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data.structure import Structure


@dataclass(frozen=True)
class Edges:
    """Neighbour lists of the structures of one block, ready to be gathered.

    Attributes:
        cutoff: Å, the cutoff the lists were built for.
        max_neighbors: The cap they were built for, or None.
        offsets: First edge of each structure, (n + 1,) int64.
        sender: Sender within its structure, (num_edges,) uint16 or int32.
        receiver: Receiver within its structure, ascending, same type.
        shift: Integer cell shifts of the sender, (num_edges, 3) int8 or int32.
    """

    cutoff: float
    max_neighbors: int | None
    offsets: NDArray[np.int64]
    sender: NDArray[np.integer]
    receiver: NDArray[np.integer]
    shift: NDArray[np.integer]

    def take(self, indices: NDArray[np.integer]) -> Edges:
        """Return the lists of some structures, in the order of `indices`."""
        rows, offsets = gather_ranges(self.offsets, indices)
        return replace(self, offsets=offsets, sender=self.sender[rows], receiver=self.receiver[rows], shift=self.shift[rows])

    def span(self, start: int, stop: int) -> Edges:
        """Return the lists of some structures in a row, without a copy."""
        first, last = int(self.offsets[start]), int(self.offsets[stop])
        parts = {name: getattr(self, name)[first:last] for name in ("sender", "receiver", "shift")}
        return replace(self, offsets=self.offsets[start : stop + 1] - first, **parts)


@dataclass(frozen=True)
class Block:
    """Structures as concatenated arrays.

    Attributes:
        offsets: First atom of each structure, (n + 1,) int64, starting at 0.
        numbers: Atomic numbers, (num_atoms,) uint8.
        positions: Å, (num_atoms, 3) float64.
        cell: Lattice vectors as rows, Å, (n, 3, 3); zeros where there is none.
        pbc: Periodicity, (n, 3) bool.
        energy: eV, (n,); NaN where missing.
        forces: eV/Å, (num_atoms, 3); NaN where missing.
        stress: eV/Å³, tension positive, (n, 3, 3); NaN where missing.
        charge: e, (n,) int16, `UNLABELLED` where not stated.
        spin: Multiplicity, (n,) int16, `UNLABELLED` where not stated.
        identity: 64-bit hash of the canonical identity, (n,) uint64.
        target: What a task predicts that is no energy with forces, (n,), in the unit that the manifest names; NaN where missing.
        raw_ids: Ids in UTF-8, (n,) bytes; `ids` decodes them.
        edges: Prebuilt neighbour lists, or None; `model.data.loader.with_edges` adds them.
    """

    offsets: NDArray[np.int64]
    numbers: NDArray[np.uint8]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    energy: NDArray[np.float64]
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]
    charge: NDArray[np.int16]
    spin: NDArray[np.int16]
    identity: NDArray[np.uint64]
    target: NDArray[np.float64]
    raw_ids: NDArray[np.bytes_]
    edges: Edges | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def num_atoms(self) -> NDArray[np.int64]:
        """Return the atoms of each structure, (n,) int64."""
        return np.diff(self.offsets)

    @property
    def ids(self) -> NDArray[np.str_]:
        """Return the ids as text, (n,)."""
        return np.char.decode(self.raw_ids, "utf-8")

    def take(self, indices: Sequence[int] | NDArray[np.integer] | NDArray[np.bool_]) -> Block:
        """Return some structures, in the order of `indices` (or where a mask is true): one gather for each field."""
        rows = np.asarray(indices)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        atoms, offsets = gather_ranges(self.offsets, rows)
        picked = {name: getattr(self, name)[atoms] for name in ATOM_FIELDS}
        picked |= {name: getattr(self, name)[rows] for name in STRUCTURE_FIELDS}
        edges = None if self.edges is None else self.edges.take(rows)
        return Block(offsets=offsets, edges=edges, **picked)

    def span(self, start: int, stop: int) -> Block:
        """Return some structures in a row, without a copy."""
        first, last = int(self.offsets[start]), int(self.offsets[stop])
        parts = {name: getattr(self, name)[first:last] for name in ATOM_FIELDS}
        parts |= {name: getattr(self, name)[start:stop] for name in STRUCTURE_FIELDS}
        edges = None if self.edges is None else self.edges.span(start, stop)
        return Block(offsets=self.offsets[start : stop + 1] - first, edges=edges, **parts)


ATOM_FIELDS = ("numbers", "positions", "forces")
STRUCTURE_FIELDS = ("cell", "pbc", "energy", "stress", "charge", "spin", "identity", "target", "raw_ids")


def gather_ranges(offsets: NDArray[np.int64], indices: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of ragged entries and their new offsets.

    Args:
        offsets: First row of each entry, (n + 1,).
        indices: Entries to take, (m,).

    Returns:
        Rows in the order of `indices`, and offsets (m + 1,) into them.
    """
    first = offsets[indices]
    return expand(first, offsets[indices + 1] - first)


def expand(first: NDArray[np.int64], counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of ragged entries, given each one's first row and count, and their new offsets."""
    new = np.zeros(len(first) + 1, np.int64)
    np.cumsum(counts, out=new[1:])
    rows = np.arange(new[-1])
    rows += np.repeat(first - new[:-1], counts)
    return rows, new


def pack(structures: Sequence[Structure]) -> Block:
    """Concatenate structures into a block; missing labels become NaN."""
    sizes = np.array([len(s.numbers) for s in structures], np.int64)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])
    nothing = np.full((3, 3), np.nan)
    return Block(
        offsets=offsets,
        numbers=_rows([s.numbers for s in structures], (), np.uint8),
        positions=_rows([s.positions for s in structures], (3,), np.float64),
        cell=np.array([s.cell for s in structures], np.float64).reshape(-1, 3, 3),
        pbc=np.array([s.pbc for s in structures], bool).reshape(-1, 3),
        energy=np.array([s.energy for s in structures], np.float64),
        forces=_rows([_forces(s) for s in structures], (3,), np.float64),
        stress=np.array([nothing if s.stress is None else s.stress for s in structures], np.float64).reshape(-1, 3, 3),
        charge=np.array([s.charge for s in structures], np.int16),
        spin=np.array([s.spin for s in structures], np.int16),
        identity=np.array([hash_identity(s.identity) for s in structures], np.uint64),
        target=np.array([s.target for s in structures], np.float64),
        raw_ids=np.array([s.id.encode() for s in structures], np.bytes_) if structures else np.zeros(0, "S1"),
    )


def concatenate(blocks: Sequence[Block]) -> Block:
    """Join blocks; prebuilt edges are dropped."""
    sizes = np.concatenate([np.zeros(1, np.int64), *(b.num_atoms for b in blocks)])
    names = [f.name for f in fields(Block) if f.name not in ("offsets", "edges")]
    joined: dict[str, Any] = {name: np.concatenate([getattr(b, name) for b in blocks]) for name in names}
    return Block(offsets=np.cumsum(sizes), **joined)


def hash_identity(identity: str) -> int:
    """Return the 64-bit hash by which structures are compared and split, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=8).digest(), "little")


def _forces(structure: Structure) -> NDArray[np.float64]:
    return np.full((len(structure.numbers), 3), np.nan) if structure.forces is None else structure.forces


def _rows(parts: list[NDArray], shape: tuple[int, ...], dtype: type) -> NDArray:
    return np.concatenate([np.zeros((0, *shape), dtype), *parts]).astype(dtype, copy=False)
