"""OQMD ABX3's csv file, and the pages of OQMD's REST service beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ase import Atoms

from model.data.miniature.base import energy, table
from model.data.readers.oqmd_abx3 import Config

FAMILY = "crystals"


def write(folder: Path, structures: list[Atoms], config: Config) -> list[Path]:
    """Write both files; alloys stand for perovskites."""
    paths = [folder / "oqmd_data.csv", folder / config.structures]
    table(paths[0], ("entry_id", "Ef"), [(number, target(atoms)) for number, atoms in enumerate(structures, 1)])
    pages = [{"data": [_entry(number, atoms)], "links": {"next": None}} for number, atoms in enumerate(structures, 1)]
    paths[1].write_text(json.dumps(pages))
    return paths


def target(atoms: Atoms) -> float:
    """Return the energy per atom, eV/atom, which effective medium theory counts from the elements."""
    return energy(atoms) / len(atoms)


def _entry(number: int, atoms: Atoms) -> dict[str, Any]:
    sites = zip(atoms.get_chemical_symbols(), atoms.get_scaled_positions(wrap=False).tolist(), strict=True)
    texts = [f"{symbol} @ {x!r} {y!r} {z!r}" for symbol, (x, y, z) in sites]
    return {"entry_id": number, "sites": texts, "unit_cell": atoms.cell.array.tolist()}
