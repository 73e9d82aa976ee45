"""Extended XYZ: three frames with cell, labels and constraints, written by ASE."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

FILE = "frames.extxyz"
OPTIONS: dict[str, object] = {"energy_unit": "kcal/mol", "identity": "molecule"}
FORCES = [[0.5, 0, 0], [-0.5, 0, 0]]


def write(path: Path, energy_scale: float = 1.0) -> None:
    slab = Atoms("CuO", [[0, 0, 0], [0, 0, 2]], cell=[2.5, 2.5, 20], pbc=[True, True, False], constraint=FixAtoms([0]))
    slab.info |= {"molecule": "oxide", "tags": 3}
    molecule = Atoms("HF", [[0, 0, 0], [0, 0, 1]], info={"molecule": "HF", "charge": -1, "spin": 2})
    for atoms in (slab, molecule):
        atoms.calc = SinglePointCalculator(atoms, energy=-1000 * energy_scale, forces=np.array(FORCES) * 1000 * energy_scale)
    candidate = Atoms("He", [[1, 2, 3]], info={"molecule": "He"})
    ase.io.write(path, [slab, molecule, candidate], format="extxyz")


# 1 kcal/mol = 4184 J/mol / (6.02214076e23 /mol · 1.602176634e-19 J/eV) = 0.04336410390 eV.
KCAL = 4184 / (6.02214076e23 * 1.602176634e-19)
LABELS = {"energy": -1000 * KCAL, "forces": [[500 * KCAL, 0, 0], [-500 * KCAL, 0, 0]]}
EXPECTED = [
    {
        **LABELS,
        "id": "frames.extxyz/0",
        "identity": "oxide",
        "numbers": [29, 8],
        "positions": [[0, 0, 0], [0, 0, 2]],
        "cell": [[2.5, 0, 0], [0, 2.5, 0], [0, 0, 20]],
        "pbc": [True, True, False],
    },
    {
        **LABELS,
        "id": "frames.extxyz/1",
        "identity": "HF",
        "numbers": [1, 9],
        "positions": [[0, 0, 0], [0, 0, 1]],
        "charge": -1,
        "spin": 2,
    },
    {"id": "frames.extxyz/2", "identity": "He", "numbers": [2], "positions": [[1, 2, 3]], "energy": None, "forces": None},
]
