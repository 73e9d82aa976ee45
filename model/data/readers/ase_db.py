"""ASE databases (sqlite): energy, forces and stress from the row's calculator, or from keys and data of the row.

Layout: sqlite by `ase.db`: positions (Å), cell, pbc; labels in a row's calculator results, its key_value_pairs or its data,
under the names that the options give.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from model.data.readers.base import ENERGY_UNITS, EnergyUnit, SourceInfo, attempt, find, reading, structure
from model.data.structure import Refused, Structure
from model.specs import Strict

INFO = SourceInfo(
    title="ASE database",
    count=None,
    level_of_theory="",
    licence="that of the file's author",
    citation="Larsen et al., J. Phys.: Condens. Matter 29, 273002 (2017), and the file's author",
    units={"energy": "option energy_unit", "forces": "energy_unit/Å", "length": "Å"},
    energy_kind="as given",
    version=2,
)
_ROWS_AT_ONCE = 64


class Config(Strict):
    """Options of the reader."""

    energy: str = Field("energy", description="Name of the energy among calculator results, then keys, then data.")
    forces: str = Field("forces", description="Name of the forces, looked up in the same places.")
    energy_unit: EnergyUnit = Field("eV", description="Unit of energies; of forces per Å. Stress is eV/Å³ always.")
    charge: str = Field("charge", description="Key of the total charge; unlabelled where a row has none.")
    spin: str = Field("spin", description="Key of the multiplicity 2S+1; unlabelled where a row has none.")
    identity: str | None = Field(None, description="Key that names the molecule or material; none: from its bonds or formula.")
    id: str | None = Field(None, description="Key of a stable id; none: the row's unique_id.")


def info(config: Config) -> SourceInfo:
    """Return the facts with these options: units as they are given."""
    units = {"energy": config.energy_unit, "forces": f"{config.energy_unit}/Å", "length": "Å"}
    return replace(INFO, units=units)


def files(paths: Sequence[Path], config: Config) -> list[Path]:  # noqa: ARG001 every reader's interface
    """Return the databases."""
    return find(paths, (".db",))


def count(path: Path, config: Config) -> int:  # noqa: ARG001
    """Return the number of rows."""
    with reading(path):
        return connect(path).count()


def read(path: Path, config: Config, span: range | None = None) -> Iterator[Structure | Refused]:
    """Yield the rows of a span, in the order of their ids."""
    with reading(path):
        for row in rows(connect(path), span):
            yield attempt(str(row.unique_id), _structure, row, config)


def connect(path: Path) -> Any:
    """Open a database for reading, without a lock file and without ASE's own MPI broadcast."""
    import ase.db

    _check_length(path)
    return ase.db.connect(path, type="db", serial=True, use_lock_file=False)


def rows(database: Any, span: range | None) -> Iterator[Any]:
    """Yield the rows of a span, in the order of their ids; ASE fetches all rows of a query at once, so few are asked for."""
    left = database.count() if span is None else len(span)
    window: dict[str, Any] = {"offset": 0 if span is None else span.start}
    while left > 0:  # to ASE, a limit of 0 is none
        found = list(database.select(**window, limit=min(left, _ROWS_AT_ONCE), sort="id"))
        if not found:
            return
        left -= len(found)
        window = {"selection": f"id>{found[-1].id}"}  # an offset would pass over all rows before it each time
        yield from found
        found.clear()  # before the next ones come


def _check_length(path: Path) -> None:
    """Compare the file's length with its header's (sqlite.org/fileformat2.html, 1.3): SQLite itself may miss a lost end.

    Raises:
        ValueError: No SQLite file (ASE would make an empty one there), or one cut short.
    """
    with path.open("rb") as file:
        header = file.read(100)
    if len(header) < 100 or not header.startswith(b"SQLite format 3"):
        raise ValueError("no SQLite database")
    page = int.from_bytes(header[16:18], "big")
    expected = (65536 if page == 1 else page) * int.from_bytes(header[28:32], "big")
    size = path.stat().st_size
    if size < expected and not path.with_name(f"{path.name}-wal").exists():
        raise ValueError(f"{size} of {expected} bytes")


def _structure(unique_id: str, row: Any, config: Config) -> Structure:
    scale = ENERGY_UNITS[config.energy_unit]
    energy, forces = _lookup(row, config.energy), _lookup(row, config.forces)
    labels = {
        "energy": None if energy is None else float(np.ravel(energy)[0]) * scale,
        "forces": None if forces is None else np.asarray(forces, np.float64) * scale,
        "stress": tensor(row.get("stress")),
        "charge": _own(row, config.charge),
        "spin": _own(row, config.spin),
    }
    name = None if config.identity is None else _required(row, config.identity)
    key = unique_id if config.id is None else _required(row, config.id)
    return structure(row.numbers, row.positions, labels, box=(row.cell, row.pbc), names=(str(key), name))


def tensor(stress: Any) -> NDArray[np.float64] | None:
    """Return stress as a matrix from Voigt order xx yy zz yz xz xy, or as it is."""
    if stress is None or np.size(stress) != 6:
        return None if stress is None else np.asarray(stress, np.float64)
    return np.asarray(stress, np.float64)[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]


def _lookup(row: Any, key: str) -> Any:
    value = row.get(key)
    return _own(row, key) if value is None else value


def _own(row: Any, key: str) -> Any:
    """Look a key up in what the author wrote: ASE's own `row.charge` is a sum of initial charges, zero by default."""
    value = row.key_value_pairs.get(key)
    return row.data.get(key) if value is None else value


def _required(row: Any, key: str) -> str:
    value = _lookup(row, key)
    if value is None:
        raise KeyError(f"row {row.id} has no '{key}'")
    return str(value)
