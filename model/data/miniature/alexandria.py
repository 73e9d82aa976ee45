"""Alexandria's JSON: ComputedStructureEntry with forces as properties of the sites, compressed by bzip2."""

from __future__ import annotations

import bz2
import json
from pathlib import Path
from typing import Any

from ase import Atoms

from model.data.miniature.base import crystal, energy, forces
from model.data.readers.alexandria import Config

FAMILY = "crystals"
_NAMES = {"pbe": "alexandria_000", "pbesol": "alexandria_ps_000", "scan": "alexandria_scan_000"}


def write(folder: Path, structures: list[Atoms], config: Config) -> list[Path]:
    """Write one file of the functional; energies per atom stand for those of formation."""
    path = folder / f"{_NAMES[config.functional]}.json.bz2"
    entries = [_entry(f"agm{number:09d}", atoms) for number, atoms in enumerate(structures, 1)]
    path.write_bytes(bz2.compress(json.dumps({"entries": entries}).encode()))
    return [path]


def _entry(name: str, atoms: Atoms) -> dict[str, Any]:
    each = energy(atoms) / len(atoms)
    data = {"mat_id": name, "energy_total": energy(atoms), "e_form": each, "e_above_hull": abs(each), "nsites": len(atoms)}
    structure = crystal(atoms, forces=forces(atoms))
    return {"@class": "ComputedStructureEntry", "energy": energy(atoms), "entry_id": name, "data": data, "structure": structure}
