"""ASE databases: labels by a calculator and in `data`, written by ASE."""

from __future__ import annotations

from pathlib import Path

import ase.db
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

FILE = "rows.db"
OPTIONS: dict[str, object] = {"id": "name", "identity": "material"}
CELL = [[4, 0, 0], [0, 4, 0], [0, 1, 5]]
PLACES = [[0, 0, 0], [2, 2, 2.5]]
FORCES = [[0.5, 0, 0], [-0.5, 0, 0]]


def write(path: Path, energy_scale: float = 1.0) -> None:
    salt = Atoms("NaCl", PLACES, cell=CELL, pbc=[True, True, False], constraint=FixAtoms([0]))
    stress = [0.001, 0.002, 0.003, 0.004, 0.005, 0.006]  # Voigt: xx yy zz yz xz xy
    salt.calc = SinglePointCalculator(salt, energy=-6.5 * energy_scale, forces=np.array(FORCES) * energy_scale, stress=stress)
    with ase.db.connect(path) as database:
        database.write(salt, name="a", material="salt")
        bare = Atoms("HCl", [[0, 0, 0], [0, 0, 1.25]])
        data = {"energy": -3.5 * energy_scale, "forces": np.zeros((2, 3)), "charge": 1, "spin": 2}
        database.write(bare, name="b", material="acid", data=data)


# eV throughout; forces of the fixed atom are kept.
EXPECTED = [
    {
        "id": "a",
        "identity": "salt",
        "numbers": [11, 17],
        "positions": PLACES,
        "cell": CELL,
        "pbc": [True, True, False],
        "energy": -6.5,
        "forces": FORCES,
        "stress": [[0.001, 0.006, 0.005], [0.006, 0.002, 0.004], [0.005, 0.004, 0.003]],
    },
    {
        "id": "b",
        "identity": "acid",
        "numbers": [1, 17],
        "positions": [[0, 0, 0], [0, 0, 1.25]],
        "energy": -3.5,
        "forces": [[0, 0, 0], [0, 0, 0]],
        "charge": 1,
        "spin": 2,
    },
]
