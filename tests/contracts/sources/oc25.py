"""OC25: an `.aselmdb` by ase-db-backends; labels by the calculator, in the keys and the data of a row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase_db_backends.aselmdb import LMDBDatabase

FILE = "data0000.aselmdb"
OPTIONS: dict[str, object] = {}
CELL = [[5, 0, 0], [0, 5, 0], [0, 0, 20]]
PLACES = [[0, 0, 5], [2.5, 2.5, 7], [2.5, 3.25, 7.5], [2.5, 1.75, 7.5]]
FORCES = [[0.75, 0, 0], [0, 0, -0.25], [0.5, 0, 0], [-0.5, 0, 0.125]]
ENERGIES = (-20.5, -20.25, -20.0)


def write(path: Path, energy_scale: float = 1.0) -> None:
    first, second, third = (energy * energy_scale for energy in ENERGIES)
    forces = np.array(FORCES) * energy_scale
    atoms = Atoms("PtOHH", PLACES, cell=CELL, pbc=True, tags=[0, 1, 1, 1], constraint=FixAtoms([0]))
    with LMDBDatabase(str(path), create_indices=False, use_lock_file=False, serial=True) as database:
        atoms.calc = SinglePointCalculator(atoms, energy=first, forces=forces)
        database.write(atoms, data={"charge": 0, "spin": 0})
        atoms.calc = None
        database.write(atoms, energy_label="none", data={"energy": second, "forces": forces})
        database.write(atoms, data={"energy": [third], "forces": forces.tolist()})


# eV and eV/Å, as published. Charge 0 and spin 0 of a row are a convention: 0 is no multiplicity.
EXPECTED = [
    {
        "id": f"data0000/{key}",
        "identity": "crystal:H2O1Pt1",
        "numbers": [78, 8, 1, 1],
        "positions": PLACES,
        "cell": CELL,
        "pbc": [True] * 3,
        "energy": energy,
        "forces": FORCES,
    }
    for key, energy in enumerate(ENERGIES, 1)
]
