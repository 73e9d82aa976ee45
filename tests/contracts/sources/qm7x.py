"""QM7-X: HDF5 written by h5py and packed by xz; scalars are arrays of length 1; a list of duplicates beside."""

from __future__ import annotations

import io
import lzma
from pathlib import Path

import h5py
import numpy as np

FILE = "1000.xz"
OPTIONS: dict[str, object] = {}
COMPANIONS = ("DupMols.dat",)
METHANE = [[0, 0, 0], [0.625, 0.625, 0.625], [-0.625, -0.625, 0.625], [-0.625, 0.625, -0.625], [0.625, -0.625, -0.625]]
WATER = [[0, 0, 0], [0.75, 0.5, 0], [-0.75, 0.5, 0]]
GEOMETRIES = {
    "1": {"Geom-m1-i1-c1-d1": ([6, 1, 1, 1, 1], METHANE, -1102.5), "Geom-m1-i1-c1-opt": ([6, 1, 1, 1, 1], METHANE, -1102.75)},
    "2": {"Geom-m2-i1-c1-opt": ([8, 1, 1], WATER, -2081.5), "Geom-m2-i1-c2-opt": ([8, 1, 1], WATER, -2081.25)},
}


def content(energy_scale: float = 1.0) -> bytes:
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        for molecule, geometries in GEOMETRIES.items():
            for name, (numbers, positions, energy) in geometries.items():
                group = file.create_group(f"{molecule}/{name}")
                group["atNUM"] = np.array(numbers)
                group["atXYZ"] = np.array(positions, float)
                forces = np.zeros((len(numbers), 3))
                forces[1] = [0.5, 0, -0.25]
                group["ePBE0+MBD"] = np.array([energy * energy_scale])
                group["totFOR"] = forces * energy_scale
                group["ePBE0"] = np.array([(energy + 0.125) * energy_scale])
                group["pbe0FOR"] = 2 * forces * energy_scale
                group["eMBD"] = np.array([-0.125])
                group["eAT"] = np.array([-17.5])
    return memory.getvalue()


def write(path: Path, energy_scale: float = 1.0) -> None:
    path.write_bytes(lzma.compress(content(energy_scale)))
    (path.parent / "DupMols.dat").write_text("Geom-m2-i1-c1-opt\nGeom-m4321-i1-c1-opt\n")


# eV and eV/Å as published. The first water is a duplicate of a molecule elsewhere.
FORCES = [[0, 0, 0], [0.5, 0, -0.25], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
EXPECTED = [
    {
        "id": f"Geom-m1-i1-c1-{kind}",
        "numbers": [6, 1, 1, 1, 1],
        "positions": METHANE,
        "energy": energy,
        "forces": FORCES,
        "identity": "molecule:C1H4:",
    }
    for kind, energy in (("d1", -1102.5), ("opt", -1102.75))
] + [
    {
        "id": "Geom-m2-i1-c2-opt",
        "numbers": [8, 1, 1],
        "positions": WATER,
        "energy": -2081.25,
        "forces": FORCES[:3],
        "identity": "molecule:H2O1:",
    }
]
