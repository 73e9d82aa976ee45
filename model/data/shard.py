"""One shard of a store: an ADIOS2 BP5 folder of concatenated arrays, written and read in blocks."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data import codec
from model.data.block import ATOM_FIELDS, Block
from model.data.bp5 import reading, writing
from model.lean import without_torch
from model.outcome import CampaignError, sync
from model.specs import Storage

with without_torch():
    import adios2

_WRITTEN = ("numbers", "positions", "forces", "cell", "pbc", "energy", "stress", "charge", "spin", "identity", "target")
_AS_UINT8 = ("pbc",)
"""ADIOS2 has no boolean: stored as 0 and 1."""
_TYPES: dict[str, tuple[np.dtype, tuple[int, ...]]] = {
    "numbers": (np.dtype("u1"), ()),
    "forces": (np.dtype("f8"), (3,)),
    "cell": (np.dtype("f8"), (3, 3)),
    "pbc": (np.dtype("u1"), (3,)),
    "energy": (np.dtype("f8"), ()),
    "stress": (np.dtype("f8"), (3, 3)),
    "charge": (np.dtype("i2"), ()),
    "spin": (np.dtype("i2"), ()),
    "identity": (np.dtype("u8"), ()),
    "target": (np.dtype("f8"), ()),
    "ids": (np.dtype("u1"), ()),
}
"""What decompressed rows are, by variable; the type of positions is an attribute."""
_STORAGE = Storage()

Attributes = Mapping[str, str | int | float | list[int]]
_PLAIN = ("offsets", "id_offsets")
"""Never compressed: any structure is found by them."""
_CHUNKS = "{name}_chunks"


def stored(block: Block, storage: Storage) -> Block:
    """Return a block as it will be read back: positions rounded, where they are to be stored in single precision."""
    if storage.positions == "float64":
        return block
    return replace(block, positions=block.positions.astype(np.float32).astype(np.float64))


def write_shard(folder: Path, block: Block, attributes: Attributes, storage: Storage = _STORAGE) -> None:
    """Write a block into a new BP5 folder and fsync it; the bytes depend on the arguments alone.

    Raises:
        OSError: The file system refused (full, read-only).
    """
    shutil.rmtree(folder, ignore_errors=True)
    with writing(folder) as stream:
        for name, value in sorted({**attributes, **_how(storage)}.items()):
            stream.write_attribute(name, np.array(value, np.int64) if isinstance(value, list) else value)
        for name, array in _stored_variables(block, storage).items():
            stream.write(name, array, list(array.shape), [0] * array.ndim, list(array.shape))
    for path in folder.iterdir():
        sync(path)
    sync(folder)


def read_shard(folder: Path, start: int, stop: int) -> Block:
    """Read structures `start` to `stop` of a shard as one contiguous block.

    Raises:
        CampaignError: The folder is no readable shard.
    """
    with _readable(folder) as reader:
        return _read(reader, start, stop)


def read_blocks(folder: Path, start: int, stop: int, size: int) -> Iterator[Block]:
    """Yield structures `start` to `stop` of a shard in contiguous blocks of `size`, opened once.

    Raises:
        CampaignError: The folder is no readable shard.
    """
    with _readable(folder) as reader:
        for first in range(start, stop, size):
            yield _read(reader, first, min(first + size, stop))


def read_extent(folder: Path, start: int, stop: int) -> tuple[int, int]:
    """Return the atoms of structures `start` to `stop` of a shard, and the bytes of their longest id.

    Raises:
        CampaignError: The folder is no readable shard.
    """
    with _readable(folder) as reader:
        first, last = (int(reader.read("offsets", [place], [1])[0]) for place in (start, stop))
        lengths = np.diff(reader.read("id_offsets", [start], [stop - start + 1]))
        return last - first, int(lengths.max(initial=0))


@contextmanager
def _readable(folder: Path) -> Iterator[adios2.Stream]:
    try:
        with reading(folder) as reader:
            yield reader
    except (RuntimeError, ValueError, KeyError) as error:
        raise CampaignError(f"not a readable shard ({error})", str(folder), "Convert the source again.") from error


@dataclass(frozen=True)
class Names:
    """What structures are, without where their atoms are.

    Attributes:
        offsets: First atom of each, (n + 1,), from 0.
        numbers: Atomic numbers, (num_atoms,).
        identity: Hashes of identities, (n,).
    """

    offsets: NDArray[np.int64]
    numbers: NDArray[np.uint8]
    identity: NDArray[np.uint64]


def read_names(folder: Path, start: int, stop: int) -> Names:
    """Read numbers and identities of structures `start` to `stop` of a shard, a fiftieth of its bytes.

    Raises:
        CampaignError: The folder is no readable shard.
    """
    with _readable(folder) as reader:
        if reader.read_attribute("compression") != "none":
            block = _read_chunks(reader, start, stop)
            return Names(block.offsets, block.numbers, block.identity)
        offsets = reader.read("offsets", [start], [stop - start + 1])
        numbers = reader.read("numbers", [int(offsets[0])], [int(offsets[-1] - offsets[0])])
        return Names(offsets - offsets[0], numbers, reader.read("identity", [start], [stop - start]))


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


def _how(storage: Storage) -> dict[str, str | int]:
    how: dict[str, str | int] = {"compression": storage.compression, "positions_type": storage.positions}
    return how | ({"chunk": codec.CHUNK} if storage.compression != "none" else {})


def _stored_variables(block: Block, storage: Storage) -> dict[str, NDArray]:
    arrays = _variables(block)
    arrays["positions"] = arrays["positions"].astype(storage.positions)
    if storage.compression == "none":
        return arrays
    plain = {name: arrays.pop(name) for name in _PLAIN}
    packed: dict[str, NDArray] = {}
    for name, array in arrays.items():
        # A copy, since ADIOS2 refuses arrays that are not writable.
        data, packed[_CHUNKS.format(name=name)] = codec.encode(array, _rows(plain, name)[codec.bounds(len(block))])
        packed[name] = data.copy()
    return plain | packed


def _rows(plain: Mapping[str, NDArray[np.int64]], name: str) -> NDArray[np.int64]:
    """Return the first row of each structure in a variable, and the number of rows, (n + 1,)."""
    if name == "ids":
        return plain["id_offsets"]
    return plain["offsets"] if name in ATOM_FIELDS else np.arange(len(plain["offsets"]))


def _read_chunks(reader: adios2.Stream, start: int, stop: int) -> Block:
    """Read the chunks that hold structures `start` to `stop`, and return these."""
    size, total = int(reader.read_attribute("chunk")), int(reader.inquire_variable("offsets").shape()[0]) - 1
    first, last = start // size, -(-stop // size)
    begin, end = first * size, min(last * size, total)
    plain = {name: reader.read(name, [begin], [end - begin + 1]) for name in _PLAIN}
    types = {**_TYPES, "positions": (np.dtype(reader.read_attribute("positions_type")), (3,))}
    fields = {name: _decoded(reader, name, range(first, last), kind) for name, kind in types.items()}
    fields |= {name: fields[name].astype(bool) for name in _AS_UINT8}
    ids = _as_ids(plain["id_offsets"], fields.pop("ids"))
    fields["positions"] = fields["positions"].astype(np.float64)
    block = Block(plain["offsets"] - plain["offsets"][0], raw_ids=ids, edges=None, **fields)
    return block if (begin, end) == (start, stop) else block.take(np.arange(start - begin, stop - begin))


def _decoded(reader: adios2.Stream, name: str, chunks: range, kind: tuple[np.dtype, tuple[int, ...]]) -> NDArray:
    starts = reader.read(_CHUNKS.format(name=name), [chunks.start], [len(chunks) + 1])
    data = reader.read(name, [int(starts[0])], [int(starts[-1] - starts[0])])
    return codec.decode(data, starts - starts[0], *kind)


def _read(reader: adios2.Stream, start: int, stop: int) -> Block:
    plain = reader.read_attribute("compression") == "none"
    return _read_plain(reader, start, stop) if plain else _read_chunks(reader, start, stop)


def _read_plain(reader: adios2.Stream, start: int, stop: int) -> Block:
    count = stop - start
    offsets = reader.read("offsets", [start], [count + 1])
    first, atoms = int(offsets[0]), int(offsets[-1] - offsets[0])
    fields = {}
    for name in _WRITTEN:
        tail = reader.inquire_variable(name).shape()[1:]
        begin, length = (first, atoms) if name in ATOM_FIELDS else (start, count)
        fields[name] = reader.read(name, [begin, *(0 for _ in tail)], [length, *tail])
    fields |= {name: fields[name].astype(bool) for name in _AS_UINT8}
    fields["positions"] = fields["positions"].astype(np.float64, copy=False)
    places = reader.read("id_offsets", [start], [count + 1])
    total = int(places[-1] - places[0])
    text = reader.read("ids", [int(places[0])], [total]) if total else np.zeros(0, np.uint8)
    return Block(offsets=offsets - first, raw_ids=_as_ids(places, text), **fields)


def _as_ids(offsets: NDArray[np.int64], text: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """Return ids as fixed-width bytes, filled by one scatter.

    Args:
        offsets: First byte of each id, and behind the last one; the first need not be 0.
        text: Bytes of all of them.
    """
    lengths = np.diff(offsets)
    width = max(1, int(lengths.max(initial=0)))
    table = np.zeros((len(lengths), width), np.uint8)
    column = np.arange(len(text)) - np.repeat(offsets[:-1] - offsets[0], lengths)
    table[np.repeat(np.arange(len(lengths)), lengths), column] = text
    return table.reshape(-1).view(f"S{width}")
