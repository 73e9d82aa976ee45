"""OMol25: LMDB of zlib-compressed JSON, written by ase-db-backends, the library that its origin writes it with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase_db_backends.aselmdb import LMDBDatabase

FILE = "data0000.aselmdb"
OPTIONS: dict[str, object] = {}
FORCES = [[0, 0.5, 0], [0.25, 0, 0], [-0.25, -0.5, 0]]
PLACES = [[0, 0, 0], [0.75, 0.5, 0], [-0.75, 0.5, 0]]


def write(path: Path, energy_scale: float = 1.0) -> None:
    rows = [(-2081.5, 0, 1), (-2075.25, 1, 2), (-2070.0, -1, 2)] * 4
    with LMDBDatabase(str(path), create_indices=False, use_lock_file=False, serial=True) as database:
        for k, (energy, charge, spin) in enumerate(rows):
            atoms = Atoms("OH2", PLACES)
            atoms.calc = SinglePointCalculator(atoms, energy=energy * energy_scale, forces=np.array(FORCES) * energy_scale)
            database.write(atoms, data={"source": f"water/{k}", "data_id": "reactivity", "charge": charge, "spin": spin})


# Published in eV and eV/Å: nothing to convert. Twelve rows, so that the order of ids is not that of their text.
EXPECTED = [
    {
        "id": f"water/{k}#{k + 1}",
        "numbers": [8, 1, 1],
        "positions": PLACES,
        "energy": [-2081.5, -2075.25, -2070.0][k % 3],
        "forces": FORCES,
        "charge": [0, 1, -1][k % 3],
        "spin": [1, 2, 2][k % 3],
        "identity": "molecule:H2O1:",
    }
    for k in range(12)
]
