"""`.aselmdb` files: LMDB with zlib-compressed JSON of ASE's rows under their ids; one decoder for all sets published so."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data.readers._archive import TARS
from model.data.readers.ase_db import tensor
from model.data.readers.base import attempt, find, per_file, structure
from model.data.structure import Refused, Structure
from model.outcome import CampaignError

SUFFIX = ".aselmdb"
UNPACK = "Published as compressed tars, which are not read: unpack them and give the folder, which is converted in parallel."
"""The pitfall of sets that are published so."""
_RESERVED = ("nextid", "deleted_ids", "metadata")


def files(paths: Sequence[Path]) -> list[Path]:
    """Return the files.

    Raises:
        CampaignError: Nothing there; or tars of such files, which are published so and cannot be read where they stand.
    """
    given = [Path(path) for path in paths]
    packed = [path for path in given if path.is_file()]
    for folder in (path for path in given if path.is_dir()):
        packed += [] if next(folder.rglob(f"*{SUFFIX}"), None) else sorted(folder.rglob("*.t*"))
    packed = [path for path in packed if path.name.endswith(TARS)]
    if packed:
        remedy = f"Unpack it (tar -xf {packed[0].name}) and give the folder: LMDB files are read at any place, and a tar is not."
        raise CampaignError(f"a tar of {SUFFIX} files, not such a file", str(packed[0]), remedy)
    return find(given, (SUFFIX,))


@per_file()
def keys(path: Path) -> NDArray[np.int64]:
    """Return the ids in numeric order, (num_rows,); the file keeps them in the order of their text."""
    with _open(path) as environment, environment.begin() as transaction, transaction.cursor() as cursor:
        names = [key.decode() for key in cursor.iternext(values=False)]
        raw = transaction.get(b"deleted_ids")
    deleted = set(json.loads(zlib.decompress(raw))) if raw else set()
    return np.array(sorted({int(name) for name in names if name not in _RESERVED} - deleted), np.int64)


def rows(path: Path, span: range | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield id and JSON of the rows of a span, in the order of their ids."""
    wanted = keys(path)
    for key, text in texts(path, (wanted if span is None else wanted[span.start : span.stop]).tolist()):
        yield key, json.loads(text)


def texts(path: Path, wanted: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """Yield id and JSON text of rows, in the order of the ids given."""
    with _open(path) as environment, environment.begin() as transaction:
        for key in wanted:
            yield key, zlib.decompress(transaction.get(b"%d" % key))


def array(value: Any) -> NDArray:
    """Decode ASE's JSON arrays, {"__ndarray__": [shape, dtype, flat values]}, and plain lists."""
    if isinstance(value, dict):
        shape, dtype, flat = value["__ndarray__"]
        return np.array(flat, dtype).reshape(shape)
    return np.asarray(value)


def find_label(row: dict[str, Any], name: str) -> Any:
    """Return a label from where authors put it: the row (which has the calculator's results), its keys, or its data."""
    for place in (row, row.get("key_value_pairs") or {}, row.get("data") or {}):
        if place.get(name) is not None:
            return place[name]
    return None


def labels(row: dict[str, Any]) -> dict[str, Any]:
    """Return energy (eV), forces (eV/Å; fixed atoms keep theirs) and stress (eV/Å³) of a row, None where it has none."""
    energy, forces, stress = (find_label(row, name) for name in ("energy", "forces", "stress"))
    return {
        "energy": None if energy is None else float(np.ravel(array(energy))[0]),
        "forces": None if forces is None else array(forces),
        "stress": None if stress is None else tensor(array(stress)),
    }


def periodic(name: str, row: dict[str, Any], needed: tuple[str, ...]) -> Structure | Refused:
    """Return the structure of a row in its cell; refused without the labels which every row of its source has."""
    return attempt(name, _periodic, row, needed)


def _periodic(name: str, row: dict[str, Any], needed: tuple[str, ...]) -> Structure | Refused:
    found = labels(row)
    missing = [label for label in needed if found[label] is None]
    if missing:
        return Refused(name, f"no {' and no '.join(missing)}")
    box = (array(row["cell"]), array(row["pbc"]))
    return structure(array(row["numbers"]), array(row["positions"]), found, box=box, names=(name, None))


def _open(path: Path) -> Any:
    """Open a file for reading; no lock file is written beside it.

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
