"""MPtrj: one JSON object of materials, frames and pymatgen structures, written by pymatgen and json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pymatgen.core import Lattice, Structure

FILE = "MPtrj_2022.9_full.json"
OPTIONS: dict[str, object] = {}
CELL = [[4, 0, 0], [0, 4, 0], [0, 1, 5]]
FORCES = [[0.5, 0, 0], [-0.5, 0, 0.125]]


def write(path: Path, energy_scale: float = 1.0) -> None:
    salt = frame(["Na", "Cl"], -6.5 * energy_scale, energy_scale)
    moved = frame(["Na", "Cl"], -6.75 * energy_scale, energy_scale)
    moved["magmom"] = None
    iron = frame(["Fe3+", "O2-"], -12.5 * energy_scale, energy_scale) | {"mp_id": "mp-7", "stress": None}
    tree = {"mp-1": {"mp-1-0-0": salt, "mp-1-0-3": moved}, "mp-7": {"mp-1440-1-0": iron}}
    path.write_text(json.dumps(tree))


def frame(species: list[str], energy: float, scale: float) -> dict[str, Any]:
    """Every key of the release; energies per atom are those with the correction."""
    structure = Structure(Lattice(CELL), species, [[0, 0, 0], [0.5, 0.5, 0.25]])
    return {
        "structure": structure.as_dict(),
        "uncorrected_total_energy": energy,
        "corrected_total_energy": energy - 1.25,
        "energy_per_atom": (energy - 1.25) / 2,
        "ef_per_atom": -2.0,
        "e_per_atom_relaxed": -3.9,
        "ef_per_atom_relaxed": -2.1,
        "force": [[scale * f for f in row] for row in FORCES],
        "stress": [[16.021766208 * scale, 0, 3.2043532416], [0, -32.043532416, 0], [3.2043532416, 0, 0]],
        "magmom": [0.0, 0.1],
        "bandgap": 5.0,
        "mp_id": "mp-1",
    }


# Energies and forces stay what they are. 1 eV/Å³ = 1602.1766208 kbar, and VASP's stress is positive under compression:
# 16.021766208 kbar = -0.01 eV/Å³, -32.04 kbar = 0.02 eV/Å³, 3.204 kbar = -0.002 eV/Å³.
# The second atom: 0.5 · (4,0,0) + 0.5 · (0,4,0) + 0.25 · (0,1,5) = (2, 2.25, 1.25).
PLACES = [[0, 0, 0], [2, 2.25, 1.25]]
STRESS = [[-0.01, 0, -0.002], [0, 0.02, 0], [-0.002, 0, 0]]
EXPECTED = [
    {
        "id": name,
        "identity": identity,
        "numbers": numbers,
        "positions": PLACES,
        "cell": CELL,
        "pbc": [True] * 3,
        "energy": energy,
        "forces": FORCES,
        "stress": stress,
    }
    for name, identity, numbers, energy, stress in (
        ("mp-1-0-0", "crystal:Cl1Na1", [11, 17], -6.5, STRESS),
        ("mp-1-0-3", "crystal:Cl1Na1", [11, 17], -6.75, STRESS),
        ("mp-1440-1-0", "crystal:Fe1O1", [26, 8], -12.5, None),
    )
]
