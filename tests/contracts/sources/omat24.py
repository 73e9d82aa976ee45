"""OMat24: an `.aselmdb` by ase-db-backends with energy, forces and stress by the calculator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase_db_backends.aselmdb import LMDBDatabase

FILE = "data0003.aselmdb"
OPTIONS: dict[str, object] = {}
CELL = [[4, 0, 0], [0, 4, 0], [0, 1, 5]]
PLACES = [[0, 0, 0], [2, 2.25, 1.25]]
FORCES = [[0.5, 0, 0], [-0.5, 0, 0.125]]
VOIGT = [0.001, 0.002, 0.003, 0.004, 0.005, 0.006]  # xx yy zz yz xz xy


def write(path: Path, energy_scale: float = 1.0) -> None:
    with LMDBDatabase(str(path), create_indices=False, use_lock_file=False, serial=True) as database:
        for symbols, energy in (("NaCl", -6.5), ("FeO", -12.25)):
            atoms = Atoms(symbols, PLACES, cell=CELL, pbc=True)
            labels = {"energy": energy, "forces": np.array(FORCES), "stress": np.array(VOIGT)}
            atoms.calc = SinglePointCalculator(atoms, **{name: value * energy_scale for name, value in labels.items()})
            database.write(atoms, data={"sid": "agm000000001"})


# eV, eV/Å and eV/Å³, tension positive, as published.
EXPECTED = [
    {
        "id": f"data0003/{key}",
        "identity": identity,
        "numbers": numbers,
        "positions": PLACES,
        "cell": CELL,
        "pbc": [True] * 3,
        "energy": energy,
        "forces": FORCES,
        "stress": [[0.001, 0.006, 0.005], [0.006, 0.002, 0.004], [0.005, 0.004, 0.003]],
    }
    for key, (identity, numbers, energy) in enumerate((("crystal:Cl1Na1", [11, 17], -6.5), ("crystal:Fe1O1", [26, 8], -12.25)), 1)
]
