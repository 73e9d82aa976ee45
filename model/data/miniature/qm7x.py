"""QM7-X's container: HDF5 packed by xz, a group for each molecule and in it one for each geometry, eV."""

from __future__ import annotations

import io
import lzma
from pathlib import Path

import numpy as np
from ase import Atoms

from model.data.miniature.base import energy, forces, grouped
from model.data.readers.qm7x import Config

FAMILY = "molecules"


def write(folder: Path, structures: list[Atoms], config: Config) -> list[Path]:  # noqa: ARG001 every miniature's interface
    """Write one of the eight files, and the list of duplicates, which names none of its molecules.

    Energies with and without dispersion are the same here: both pairs of labels are consistent.
    """
    import h5py

    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        for number, group in enumerate(grouped(structures, lambda atoms: str(atoms.info["molecule"])).values(), 1):
            for geometry, atoms in enumerate(group):
                name = f"Geom-m{number}-i1-c1-{'opt' if geometry == 0 else f'd{geometry}'}"
                _fill(file.create_group(f"{number}/{name}"), atoms)
    path, duplicates = folder / "1000.xz", folder / "DupMols.dat"
    path.write_bytes(lzma.compress(memory.getvalue(), preset=0))
    duplicates.write_text("Geom-m6950-i1-c1-opt\n")
    return [path, duplicates]


def _fill(group: object, atoms: Atoms) -> None:
    data = {
        "atNUM": atoms.numbers,
        "atXYZ": atoms.positions,
        "ePBE0+MBD": [energy(atoms)],
        "ePBE0": [energy(atoms)],
        "eMBD": [0.0],
        "totFOR": forces(atoms),
        "pbe0FOR": forces(atoms),
        "vdwFOR": np.zeros((len(atoms), 3)),
    }
    for name, values in data.items():
        group[name] = values  # type: ignore[index]
