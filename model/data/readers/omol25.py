"""OMol25 `.aselmdb` shards: LMDB files whose values are zlib-compressed JSON, with charge and spin in `data`."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from model.config import Strict
from model.data.readers.base import SourceInfo, find, reading, structure
from model.data.structure import Structure

INFO = SourceInfo(
    title="OMol25",
    count=101_666_280,
    level_of_theory="wB97M-V/def2-TZVPD",
    licence="CC BY 4.0",
    citation="Levine et al., arXiv:2505.08762 (2025)",
    units={"energy": "eV", "forces": "eV/Å", "length": "Å"},
    energy_kind="total",
    role="pretraining",
    mean_atoms=50.0,
    url="https://huggingface.co/facebook/OMol25",
    pitfalls=(
        "Totals reach -1.5e5 eV, where float32 resolves 0.016 eV: keep float64 or train residuals.",
        "`data.spin` is the multiplicity 2S+1. Charge and spin stand in the row's data, which ASE's `row.toatoms()` drops.",
        "A branch of all rows beside one of the neutral rows counts the neutral ones twice.",
    ),
)
_RESERVED = ("nextid", "deleted_ids", "metadata")


class Config(Strict):
    """Options of the reader."""

    identity: Literal["connectivity", "source"] = Field(
        "connectivity", description="What splits go by: the bond graph, or the row's `data.source`."
    )


def files(paths: Sequence[Path], config: Config) -> list[Path]:  # noqa: ARG001 every reader's interface
    """Return the shards."""
    return find(paths, (".aselmdb",))


def count(path: Path, config: Config) -> int:  # noqa: ARG001
    """Return the number of rows."""
    with reading(path):
        return len(_keys(path))


def read(path: Path, config: Config, span: range | None = None) -> Iterator[Structure]:
    """Yield the rows of a span, in the order of their ids.

    The cell is zero and nothing is periodic, as published. Constraints, where a row has them, do not zero forces.
    """
    with reading(path):
        keys = _keys(path)
        with _open(path) as environment, environment.begin() as transaction:
            for key in keys if span is None else keys[span.start : span.stop]:
                yield _structure(path, key, json.loads(zlib.decompress(transaction.get(b"%d" % key))), config)


def _open(path: Path) -> Any:
    """Open a shard for reading; no lock file is written beside it.

    Raises:
        ValueError: The file is shorter than its own page count says: to touch a missing page kills the process.
    """
    import lmdb

    environment = lmdb.open(str(path), subdir=False, readonly=True, lock=False)
    expected, size = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"], path.stat().st_size
    if size < expected:
        environment.close()
        raise ValueError(f"{size} of {expected} bytes")
    return environment


def _keys(path: Path) -> list[int]:
    """Return the ids in numeric order; the file keeps them in the order of their text."""
    with _open(path) as environment, environment.begin() as transaction, transaction.cursor() as cursor:
        names = [key.decode() for key in cursor.iternext(values=False)]
        raw = transaction.get(b"deleted_ids")
    deleted = set(json.loads(zlib.decompress(raw))) if raw else set()
    return sorted({int(name) for name in names if name not in _RESERVED} - deleted)


def _structure(path: Path, key: int, row: dict[str, Any], config: Config) -> Structure:
    data = row.get("data", {})
    labels = {
        "energy": row.get("energy"),
        "forces": None if "forces" not in row else _array(row["forces"]),
        "charge": data.get("charge"),
        "spin": data.get("spin"),
    }
    identity = data["source"] if config.identity == "source" else None
    name = data.get("source") or f"{path.stem}/{key}"
    return structure(_array(row["numbers"]), _array(row["positions"]), labels, names=(f"{name}#{key}", identity))


def _array(value: Any) -> NDArray:
    """Decode ASE's JSON arrays, {"__ndarray__": [shape, dtype, flat values]}, and plain lists."""
    if isinstance(value, dict):
        shape, dtype, flat = value["__ndarray__"]
        return np.array(flat, dtype).reshape(shape)
    return np.asarray(value)
