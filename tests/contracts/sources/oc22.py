"""OC22: a shard of extended XYZ, written by ASE as ColabFit's package has it; the other containers are tested beside."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

FILE = "oc22_0.extxyz"
OPTIONS: dict[str, object] = {}
CELL = [[5, 0, 0], [0, 5, 0], [0, 0, 20]]
PLACES = [[0, 0, 5], [2.5, 2.5, 5], [0, 0, 7]]
FORCES = [[0.75, 0, 0], [0, 0, -0.25], [0.5, 0, 0]]
ENERGIES = (-18.5, -18.75, -18.625)


def write(path: Path, energy_scale: float = 1.0) -> None:
    ase.io.write(path, [slab(energy, energy_scale) for energy in ENERGIES], format="extxyz")


def slab(energy: float, scale: float) -> Atoms:
    atoms = Atoms("TiOO", PLACES, cell=CELL, pbc=True, tags=[0, 1, 2], constraint=FixAtoms([0]))
    atoms.calc = SinglePointCalculator(atoms, energy=energy * scale, forces=np.array(FORCES) * scale)
    return atoms


# Totals in eV, as published; the fixed atom keeps its force.
EXPECTED = [
    {
        "id": f"oc22_0/{number}",
        "identity": "crystal:O2Ti1",
        "numbers": [22, 8, 8],
        "positions": PLACES,
        "cell": CELL,
        "pbc": [True] * 3,
        "energy": energy,
        "forces": FORCES,
    }
    for number, energy in enumerate(ENERGIES)
]
