"""MS25: an ASE trajectory whose frames have a calculator (eV) or an energy `E` in Hartree, written by ASE."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io.trajectory import Trajectory

FILE = "train.traj"
OPTIONS: dict[str, object] = {}
CELL = [[4.25, 0, 0], [0, 4.25, 0], [0, 0, 15]]
PLACES = [[0, 0, 5], [2.125, 2.125, 5]]
FORCES = [[0.5, 0, 0], [-0.5, 0, 0.125]]


def write(path: Path, energy_scale: float = 1.0) -> None:
    with Trajectory(path, "w") as file:
        file.write(surface(-11.5, energy_scale))
        file.write(Atoms("MgO", PLACES, cell=CELL, pbc=True, info={"E": -90.5 * energy_scale}))
        file.write(surface(-11.25, energy_scale))


def surface(energy: float, scale: float) -> Atoms:
    atoms = Atoms("MgO", PLACES, cell=CELL, pbc=[True, True, False], constraint=FixAtoms([0]))
    atoms.calc = SinglePointCalculator(atoms, energy=energy * scale, forces=np.array(FORCES) * scale)
    return atoms


# 1 Hartree = 27.211386245988 eV: -90.5 Hartree = -2462.630455261914 eV. A frame without forces has none.
COMMON = {"numbers": [12, 8], "positions": PLACES, "cell": CELL}
EXPECTED = [
    {**COMMON, **each, "id": f"train/{number}", "identity": f"frame:train/{number}"}
    for number, each in enumerate(
        (
            {"energy": -11.5, "forces": FORCES, "pbc": [True, True, False]},
            {"energy": -2462.630455261914, "forces": None, "pbc": [True] * 3},
            {"energy": -11.25, "forces": FORCES, "pbc": [True, True, False]},
        )
    )
]
