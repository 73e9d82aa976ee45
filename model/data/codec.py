"""Lossless compression of a shard's arrays: chunks of structures, bytes of equal weight side by side, deflate (RFC 1950).

ADIOS2's wheels come without compressing operators, so that a store compressed by one could not be read everywhere;
deflate is in the standard library of nearly every language.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

CHUNK = 1024
"""Structures in a chunk."""
_LEVEL = 1  # higher ones cost three times as much and save one part in a hundred of random mantissas


def bounds(count: int) -> NDArray[np.int64]:
    """Return the first structure of each chunk, and `count` behind the last one."""
    return np.append(np.arange(0, count, CHUNK, dtype=np.int64), count)


def encode(array: NDArray, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the compressed bytes of all chunks and the first byte of each, (chunks + 1,).

    Args:
        array: At least one dimension, little-endian.
        rows: First row of each chunk, and the number of rows, (chunks + 1,).
    """
    parts = [_pack(array[a:b]) for a, b in zip(rows[:-1].tolist(), rows[1:].tolist(), strict=True)]
    starts = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    return np.frombuffer(b"".join(parts), np.uint8), starts


def decode(data: NDArray[np.uint8], starts: NDArray[np.int64], dtype: np.dtype, tail: tuple[int, ...]) -> NDArray:
    """Return the rows of consecutive chunks.

    Args:
        data: Their compressed bytes.
        starts: First byte of each chunk in `data`, and behind the last one.
        dtype: Of the array.
        tail: Its shape without the rows.

    Raises:
        ValueError: The bytes are no such chunks.
    """
    raw = data.tobytes()
    spans = zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
    try:
        parts = [_unpack(raw[a:b], dtype) for a, b in spans]
    except zlib.error as error:
        raise ValueError(f"a damaged chunk ({error})") from error
    return np.concatenate(parts).reshape(-1, *tail)


def _pack(rows: NDArray) -> bytes:
    planes = np.ascontiguousarray(rows).reshape(-1).view(np.uint8).reshape(-1, rows.dtype.itemsize).T
    return zlib.compress(planes.tobytes(), _LEVEL)


def _unpack(data: bytes, dtype: np.dtype) -> NDArray:
    planes = np.frombuffer(zlib.decompress(data), np.uint8).reshape(dtype.itemsize, -1)
    return np.ascontiguousarray(planes.T).reshape(-1).view(dtype)
