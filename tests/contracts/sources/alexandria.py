"""Alexandria: bz2-compressed JSON of entries with forces as properties of the sites, written by pymatgen."""

from __future__ import annotations

import bz2
import json
from pathlib import Path

from pymatgen.core import Lattice, Structure
from pymatgen.core.entries import ComputedStructureEntry

FILE = "alexandria_000.json.bz2"
OPTIONS: dict[str, object] = {"target": "e_form"}
FORCES = [[0.001, 0, 0], [-0.001, 0, 0.002], [0, 0, -0.002]]


def write(path: Path, energy_scale: float = 1.0) -> None:
    entries = [entry("agm000000001", -16.5, -1.25, energy_scale), entry("agm000000002", -15.0, 0.5, energy_scale)]
    path.write_bytes(bz2.compress(json.dumps({"entries": [each.as_dict() for each in entries]}).encode()))


def entry(name: str, energy: float, formation: float, scale: float) -> ComputedStructureEntry:
    forces = [[scale * f for f in row] for row in FORCES]
    sites = {"forces": forces, "magmom": [0.0, 0.1, 0.1], "charge": [2.1, 6.5, 6.5]}
    structure = Structure(
        Lattice.orthorhombic(4, 5, 20), ["Ti", "O", "O"], [[0, 0, 0], [0, 0.5, 0.1], [0.5, 0, 0.1]], site_properties=sites
    )
    data = {
        "mat_id": name,
        "energy_total": energy * scale,
        "energy_corrected": energy * scale - 1.0,
        "e_form": formation * scale,
        "e_above_hull": 0.125,
        "total_mag": 0.0,
        "band_gap_ind": 1.5,
        "dos_ef": 0.0,
        "spg": 12,
        "nsites": 3,
    }
    return ComputedStructureEntry(structure, energy * scale, data=data)


# `energy_total` belongs to the forces; `e_form` is eV per atom and stays so.
EXPECTED = [
    {
        "id": name,
        "identity": "crystal:O2Ti1",
        "numbers": [22, 8, 8],
        "positions": [[0, 0, 0], [0, 2.5, 2], [2, 0, 2]],
        "cell": [[4, 0, 0], [0, 5, 0], [0, 0, 20]],
        "pbc": [True] * 3,
        "energy": energy,
        "forces": FORCES,
        "target": formation,
    }
    for name, energy, formation in (("agm000000001", -16.5, -1.25), ("agm000000002", -15.0, 0.5))
]
