"""ABX3's csv file, and the answers of the Materials Project's REST service beside it."""

from __future__ import annotations

import json
from pathlib import Path

from ase import Atoms

from model.data.miniature.base import crystal, energy, table
from model.data.readers.abx3 import Config

FAMILY = "crystals"


def write(folder: Path, structures: list[Atoms], config: Config) -> list[Path]:
    """Write both files; alloys stand for perovskites."""
    names = [f"mp-{number}" for number in range(1, len(structures) + 1)]
    rows = [(name, atoms.get_chemical_formula(), target(atoms)) for name, atoms in zip(names, structures, strict=True)]
    paths = [folder / "abc3_data.csv", folder / config.structures]
    table(paths[0], ("mp_id", "formula", "formation_energy (eV/atom)"), rows)
    documents = [{"material_id": name, "structure": crystal(atoms)} for name, atoms in zip(names, structures, strict=True)]
    paths[1].write_text(json.dumps([{"data": documents, "meta": {"total_doc": len(documents)}}]))
    return paths


def target(atoms: Atoms) -> float:
    """Return the energy per atom, eV/atom, which effective medium theory counts from the elements."""
    return energy(atoms) / len(atoms)
