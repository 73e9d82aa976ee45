"""ODAC23: a compressed tar of one extended XYZ file for each trajectory, written by ASE and tarfile."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

FILE = "extxyz_val.tar.gz"
OPTIONS: dict[str, object] = {}
CELL = [[8, 0, 0], [0, 9, 0], [1, 0, 10]]
PLACES = [[0, 0, 0], [2, 0, 0], [4, 4, 4], [4, 4, 5.16], [4, 4, 2.84]]
FORCES = [[0.75, 0, 0], [-0.75, 0, 0], [0, 0, 0.125], [0, 0, -0.0625], [0, 0, -0.0625]]
ENERGIES = {"val/ABAYIO_CO2_0.extxyz": (-31.5, -31.75), "val/ABEXEM_CO2_3.extxyz": (-30.25,)}


def write(path: Path, energy_scale: float = 1.0) -> None:
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("val/README"))
        for name, energies in ENERGIES.items():
            text = io.StringIO()
            ase.io.write(text, [framework(energy, energy_scale) for energy in energies], format="extxyz")
            data = text.getvalue().encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def framework(energy: float, scale: float) -> Atoms:
    atoms = Atoms("ZnOCO2", PLACES, cell=CELL, pbc=True, constraint=FixAtoms([0]))
    atoms.calc = SinglePointCalculator(atoms, energy=energy * scale, forces=np.array(FORCES) * scale)
    return atoms


# Totals in eV, as published; the fixed zinc keeps its force.
EXPECTED = [
    {
        "id": f"{name.removesuffix('.extxyz')}/{number}",
        "identity": "crystal:C1O3Zn1",
        "numbers": [30, 8, 6, 8, 8],
        "positions": PLACES,
        "cell": CELL,
        "pbc": [True] * 3,
        "energy": energy,
        "forces": FORCES,
    }
    for name, energies in ENERGIES.items()
    for number, energy in enumerate(energies)
]
