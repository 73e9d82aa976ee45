"""ANI-1x: groups of formulas in HDF5, written by h5py; NaN where a level was not computed."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

FILE = "ani1x-release.h5"
OPTIONS: dict[str, object] = {}


def write(path: Path, energy_scale: float = 1.0) -> None:
    nan = float("nan")
    with h5py.File(path, "w") as file:
        water = file.create_group("H2O1")
        water["atomic_numbers"] = np.array([8, 1, 1], np.uint8)
        water["coordinates"] = np.array([WATER, WATER, WATER], np.float32)
        water["wb97x_dz.energy"] = np.array([-76.5, nan, -76.25]) * energy_scale
        forces = np.zeros((3, 3, 3), np.float32)
        forces[0, 1] = [0.5, 0, -0.25]
        forces[1] = nan
        forces[2] = nan
        water["wb97x_dz.forces"] = forces * np.float32(energy_scale)
        water["ccsd(t)_cbs.energy"] = np.array([nan, -76.0, nan])
        hydrogen = file.create_group("H2")
        hydrogen["atomic_numbers"] = np.array([1, 1], np.uint8)
        hydrogen["coordinates"] = np.array([[[0, 0, 0], [0, 0, 0.75]]], np.float32)
        hydrogen["wb97x_dz.energy"] = np.array([-1.0]) * energy_scale
        hydrogen["wb97x_dz.forces"] = np.array([[[0, 0, 0.125], [0, 0, -0.125]]], np.float32) * np.float32(energy_scale)


WATER = [[0, 0, 0], [0.75, 0.5, 0], [-0.75, 0.5, 0]]
# 1 Hartree = 27.211386245988 eV: -76.5 Hartree = -2081.671047818082 eV, 0.5 = 13.605693122994, 0.25 = 6.802846561497,
# 0.125 Hartree/Å = 3.4014232807485 eV/Å. HDF5 lists groups by name: H2 comes first. The second and third water
# lack an energy or forces at this level.
EXPECTED = [
    {
        "id": "H2/0",
        "numbers": [1, 1],
        "positions": [[0, 0, 0], [0, 0, 0.75]],
        "energy": -27.211386245988,
        "forces": [[0, 0, 3.4014232807485], [0, 0, -3.4014232807485]],
        "identity": "molecule:H2:",
    },
    {
        "id": "H2O1/0",
        "numbers": [8, 1, 1],
        "positions": WATER,
        "energy": -2081.671047818082,
        "forces": [[0, 0, 0], [13.605693122994, 0, -6.802846561497], [0, 0, 0]],
        "identity": "molecule:H2O1:",
    },
]
