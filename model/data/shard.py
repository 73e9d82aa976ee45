"""One shard of a store: an ADIOS2 BP5 folder of concatenated arrays, written and read in blocks."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.block import ATOM_FIELDS, Block
from model.data.bp5 import reading, writing
from model.lean import without_torch
from model.outcome import CampaignError, sync

with without_torch():
    import adios2

_WRITTEN = ("numbers", "positions", "forces", "cell", "pbc", "energy", "stress", "charge", "spin", "identity", "target")
_AS_UINT8 = ("pbc",)
"""ADIOS2 has no boolean: stored as 0 and 1."""

Attributes = Mapping[str, str | int | float]


def write_shard(folder: Path, block: Block, attributes: Attributes) -> None:
    """Write a block into a new BP5 folder and fsync it; the bytes depend on the block and attributes alone.

    Raises:
        OSError: The file system refused (full, read-only).
    """
    shutil.rmtree(folder, ignore_errors=True)
    with writing(folder) as stream:
        for name, value in sorted(attributes.items()):
            stream.write_attribute(name, value)
        for name, array in _variables(block).items():
            stream.write(name, array, list(array.shape), [0] * array.ndim, list(array.shape))
    for path in folder.iterdir():
        sync(path)
    sync(folder)


def read_shard(folder: Path, start: int, stop: int) -> Block:
    """Read structures `start` to `stop` of a shard as one contiguous block.

    Raises:
        CampaignError: The folder is no readable shard.
    """
    try:
        with reading(folder) as reader:
            return _read(reader, start, stop)
    except (RuntimeError, ValueError, KeyError) as error:
        raise CampaignError(f"not a readable shard ({error})", str(folder), "Convert the source again.") from error


def file_sizes(folder: Path) -> dict[str, int]:
    """Return the size of each file of a shard, by name."""
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


def file_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a shard, by name."""
    return {path.name: file_hash(path) for path in sorted(folder.iterdir())}


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_hash(block: Block) -> str:
    """Return a SHA-256 over the arrays of a block, in a fixed order and byte order."""
    digest = hashlib.sha256()
    for name, array in _variables(block).items():
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        digest.update(f"{name} {little.dtype.str} {little.shape}".encode())
        digest.update(little.tobytes())
    return digest.hexdigest()


def _variables(block: Block) -> dict[str, NDArray]:
    lengths = np.char.str_len(block.raw_ids).astype(np.int64)
    arrays = {"offsets": block.offsets, "id_offsets": np.concatenate([np.zeros(1, np.int64), lengths.cumsum()])}
    arrays |= {name: getattr(block, name) for name in _WRITTEN}
    arrays |= {name: arrays[name].astype(np.uint8) for name in _AS_UINT8}
    # A copy, since ADIOS2 refuses arrays that are not writable.
    arrays["ids"] = np.frombuffer(b"".join(block.raw_ids.tolist()), np.uint8).copy()
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _read(reader: adios2.Stream, start: int, stop: int) -> Block:
    count = stop - start
    offsets = reader.read("offsets", [start], [count + 1])
    first, atoms = int(offsets[0]), int(offsets[-1] - offsets[0])
    fields = {}
    for name in _WRITTEN:
        tail = reader.inquire_variable(name).shape()[1:]
        begin, length = (first, atoms) if name in ATOM_FIELDS else (start, count)
        fields[name] = reader.read(name, [begin, *(0 for _ in tail)], [length, *tail])
    fields |= {name: fields[name].astype(bool) for name in _AS_UINT8}
    return Block(offsets=offsets - first, raw_ids=_read_ids(reader, start, count), **fields)


def _read_ids(reader: adios2.Stream, start: int, count: int) -> NDArray[np.bytes_]:
    """Return ids as fixed-width bytes, filled by one scatter."""
    offsets = reader.read("id_offsets", [start], [count + 1])
    total = int(offsets[-1] - offsets[0])
    lengths = np.diff(offsets)
    width = max(1, int(lengths.max(initial=0)))
    table = np.zeros((count, width), np.uint8)
    if total:
        column = np.arange(total) - np.repeat(offsets[:-1] - offsets[0], lengths)
        table[np.repeat(np.arange(count), lengths), column] = reader.read("ids", [int(offsets[0])], [total])
    return table.reshape(-1).view(f"S{width}")
